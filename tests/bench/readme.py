"""Writes the figures of README.md, `python tests/bench/readme.py`, from what other commands measured.

Sizes and errors are those of the ladder (`make ladder`), times those of the device records (`panns-litert bench`), and
clips of ESC-10 those of esc10.json (tests/bench/esc10.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panns_litert.measure import DeviceRecord, insert, markdown, read_records
from panns_litert_convert.zoo import find

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "AMD EPYC"
COLUMNS = (("mn04", "fp16"), ("mn04", "int8"), ("cnn14", "fp16"))
MARKER = "figures"


def table() -> str:
    """Returns the table as Markdown."""
    ladder = json.loads((ROOT / "assets" / "ladder.json").read_text(encoding="utf-8"))["rows"]
    clips = json.loads((Path(__file__).parent / "esc10.json").read_text(encoding="utf-8"))
    (record,) = (record for record in read_records(ROOT / "records") if record.device.name == DEVICE)
    rows = [
        {"": "file, MB"},
        {"": "mAP on AudioSet, as published"},
        {"": "largest error of a probability against PyTorch"},
        {"": f"ms for 10 s of sound, one core of an {DEVICE}"},
        {"": "clips of ESC-10 named right, without training"},
    ]
    for name, precision in COLUMNS:
        rung = _only(ladder, name, precision)
        values = (
            f"{rung['bytes'] / 1e6:.1f}",
            f"{find(name).published_map:.3f}" if precision == "fp16" else "–",  # the original's; fp16 agrees with it
            f"{rung['checks'][f'{precision}/probs']:.2g}",
            f"{_milliseconds(record, name, precision):.1f}",
            _share(clips, name, precision),
        )
        for row, value in zip(rows, values, strict=True):
            row[f"{name}, {precision}"] = value
    commands = ("make ladder", "make zoo", "make ladder", "panns-litert bench", "python tests/bench/esc10.py")
    for row, command in zip(rows, commands, strict=True):
        row["command"] = f"`{command}`"
    return markdown(rows)


def _only(ladder: Sequence[dict[str, Any]], name: str, precision: str) -> dict[str, Any]:
    rungs: list[dict[str, Any]] = next(row["rungs"] for row in ladder if row["name"] == name)
    return next(rung for rung in rungs if rung["precision"] == precision)


def _milliseconds(record: DeviceRecord, name: str, precision: str) -> float:
    wanted = (name, precision, "logmel", 10.0, "cpu", True, 1)
    (median,) = (
        run.ms.median
        for run in record.runs
        if (run.model, run.precision, run.graph, run.clip_seconds, run.engine, run.xnnpack, run.threads) == wanted
    )
    return median


def _share(clips: Sequence[dict[str, Any]], name: str, precision: str) -> str:
    found = [row for row in clips if (row["model"], row["precision"]) == (name, precision)]
    return f"{100 * found[0]['right'] / found[0]['clips']:.1f} % of {found[0]['clips']}" if found else "–"


if __name__ == "__main__":
    insert(ROOT / "README.md", table(), marker=MARKER)
