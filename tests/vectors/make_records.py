"""Writes records.json, examples of device records: `python tests/vectors/make_records.py`.

A reader must accept the good records, and a writer must write them back unchanged. A reader must refuse "both engines"
with any one of the bad changes.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]
VECTORS = Path(__file__).with_name("records.json")

DEVICE: Json = {"name": "Phone 8", "os": "Android 15", "cpu": "SoC 3", "cores": 8, "memory_bytes": 8_000_000_000}
AGREEMENT: Json = {"max_abs_prob": 0.0004, "corr": 0.99999, "tags": 0.975}
CPU: Json = {
    "model": "mn04", "network": "MobileNetV3", "precision": "int8-weights", "graph": "logmel", "clip_seconds": 10.0,
    "model_bytes": 1_250_000, "model_sha256": "0a" * 32, "engine": "cpu", "adapter": None, "driver": None,
    "xnnpack": True, "threads": 4, "versions": {"litert": "2.3.0"}, "warmup": 2, "runs": 20,
    "ms": {"median": 7.25, "p10": 7.0, "p90": 9.5, "min": 6.875}, "first_ms": 31.5, "peak_memory_bytes": 90_000_000,
    "operators": 41, "resident": None, "date": "2026-02-28", "agreement": AGREEMENT,
}  # fmt: skip
GPU: Json = CPU | {
    "engine": "gpu", "adapter": "GPU of the phone", "driver": "driver 1.2 €", "xnnpack": None, "threads": None,
    "ms": {"median": 2, "p10": 2, "p90": 2, "min": 2}, "resident": 41, "agreement": None,
}  # fmt: skip
GOOD: dict[str, Json] = {
    "both engines": {"format_version": 1, "device": DEVICE, "runs": [CPU, GPU]},
    "no runs": {"format_version": 1, "device": DEVICE, "runs": []},
    "no tags, unknown driver": {
        "format_version": 1,
        "device": DEVICE | {"name": "Größe 8", "cores": 1},
        "runs": [
            CPU | {"agreement": AGREEMENT | {"tags": None}, "warmup": 0, "clip_seconds": 1, "xnnpack": False},
            GPU | {"driver": None, "resident": 0, "graph": "waveform"},
        ],
    },
}

OUT_OF_RANGE: dict[str, list[Any]] = {
    "format_version": [0, 2],
    "device.name": ["", "???", " "],
    "device.os": ["", " "],
    "device.cpu": [""],
    "device.cores": [0, -1, 2**31],
    "device.memory_bytes": [0, 10**18],
    "runs.0.model": [""],
    "runs.0.network": [" "],
    "runs.0.precision": [""],
    "runs.0.graph": ["mel", ""],
    "runs.0.clip_seconds": [0, -1],
    "runs.0.model_bytes": [0],
    "runs.0.model_sha256": ["", "0A" * 32, "0a" * 31, "0a" * 33],
    "runs.0.engine": ["npu", "gpu"],
    "runs.0.adapter": ["some"],
    "runs.1.adapter": [None, ""],
    "runs.0.driver": ["some"],
    "runs.1.driver": [""],
    "runs.0.xnnpack": [None],
    "runs.1.xnnpack": [True, False],
    "runs.0.threads": [None, 0],
    "runs.1.threads": [1],
    "runs.0.versions": [{}, {"": "1"}, {"litert": ""}],
    "runs.0.versions.litert": [2, None],
    "runs.0.warmup": [-1],
    "runs.0.runs": [0, 2**31],
    "runs.0.ms.median": [0, -7.25, 6.9, 9.6],
    "runs.0.ms.p10": [6.8, 7.3],
    "runs.0.ms.p90": [7.2],
    "runs.0.ms.min": [0, 7.1],
    "runs.0.first_ms": [0],
    "runs.0.peak_memory_bytes": [0],
    "runs.0.operators": [0],
    "runs.0.resident": [0, 41],
    "runs.1.resident": [None, -1, 42],
    "runs.0.date": ["", "2026-02-29", "2026-2-28", "20260228", "2026-02-28T00:00", "28.2.2026"],
    "runs.0.agreement.max_abs_prob": [-0.1, 1.1],
    "runs.0.agreement.corr": [-1.1, 1.1],
    "runs.0.agreement.tags": [-0.1, 1.1],
}
"""Values that a field of "both engines" must not have, by the path of the field; most have the right type."""

MS = ("median", "p10", "p90", "min")
NULL = ("adapter", "driver", "xnnpack", "threads", "resident", "agreement", "tags")
"""Fields that may be null. For all others, null is another bad value."""


def bad() -> list[Json]:
    """Returns changes of "both engines" that make bad records: "path", and the new "value" or none to remove it."""
    good = GOOD["both engines"]
    found: list[Json] = [
        {"path": "runs", "value": {}},
        {"path": "runs", "value": [CPU, CPU | {"runs": 7}]},  # two runs of the same setting
        {"path": "device", "value": "Phone 8"},
    ]
    for path in paths(good):
        name = path.rsplit(".", 1)[-1]
        if name != "litert":  # `versions` has no fixed names
            found.append({"path": path})
        values: list[Any] = [["text"], *OUT_OF_RANGE.get(path, [])]
        values += [] if name in NULL else [None]
        values += [1.5, "1", True] if type(at(good, path)) is int and name not in MS else []
        found += [{"path": path, "value": value} for value in values]
    parents = ("", "device.", "runs.0.", "runs.0.ms.", "runs.0.agreement.")
    return found + [{"path": f"{parent}surprise", "value": 1} for parent in parents]


def paths(value: Any, path: str = "") -> list[str]:
    """Returns the paths of all named fields, such as "runs.0.ms.median"."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, child in items:
        here = f"{path}.{key}".lstrip(".")
        found += ([here] if isinstance(value, dict) else []) + paths(child, here)
    return found


def at(value: Any, path: str) -> Any:
    """Returns the value at a path."""
    for key in path.split("."):
        value = value[int(key) if isinstance(value, list) else key]
    return value


def changed(record: Json, change: Json) -> Json:
    """Returns a copy of a record with one change."""
    copied = copy.deepcopy(record)
    parent, _, key = change["path"].rpartition(".")
    inner = at(copied, parent) if parent else copied
    if "value" in change:
        inner[key] = change["value"]
    else:
        del inner[key]
    return copied


def text() -> str:
    """Returns the text of records.json."""
    changes = ",\n".join(json.dumps(change) for change in bad())
    return f'{{"good": {json.dumps(GOOD, indent=1, ensure_ascii=False)},\n"bad": [\n{changes}\n]}}\n'


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
