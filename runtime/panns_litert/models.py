"""The models that can be converted: their properties and measurements, as tables that ship with the package.

The registry itself is in the converter (`panns_litert_convert.zoo`) and needs torch. `make assets` writes its
properties to models.json, `make zoo` its errors and sizes to zoo.json, `make npu-zoo` what NPUs take of it to npu.json,
and `make figures` its times to times.json.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from typing import Any

from panns_litert.errors import ModelError
from panns_litert.strict import shown
from panns_litert.words import did_you_mean

PROPERTIES = "models.json"
MEASUREMENTS = "zoo.json"
NPU = "npu.json"
TIMES = "times.json"
"""Files of panns_litert_assets."""

NPU_GENERATIONS = ("v68", "v69", "v73", "v75", "v79", "v81")
"""The generations of Qualcomm's NPU that npu.json knows, the oldest first."""


def model_names() -> list[str]:
    """Returns the names of all models, in the registry's order."""
    return [row["name"] for row in _read(PROPERTIES)["rows"]]


def models_table(
    properties: Sequence[Mapping[str, Any]] | None = None,
    measured: Sequence[Mapping[str, Any]] | None = None,
    times: Mapping[str, Any] | None = None,
    npu: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Returns one row per model: properties, and what was measured; None if it was not.

    `measured` has its errors and sizes, `npu` its files with what each NPU takes of them, and `cpu` its times.

    `cpu` has the `device`, its `cores`, the `date`, and the times of the float16 file for a clip of 10 s, with one
    thread and with one for each core: `one_thread_ms` and `all_cores_ms`.

    Args:
        properties: rows of `panns_litert_convert.zoo.properties`; by default those that ship with the package.
        measured: rows of panns_litert_convert.sweep; by default those that ship with the package.
        times: what times.json holds; by default that which ships with the package.
        npu: rows of panns_litert_convert.npu_sweep; by default those that ship with the package.
    """
    known = _read(PROPERTIES)["rows"] if properties is None else properties
    rows = {row["name"]: row for row in (_read(MEASUREMENTS)["rows"] if measured is None else measured)}
    times = _read(TIMES) if times is None else times
    machine = {key: value for key, value in times.items() if key != "rows"}
    cpu = {row["name"]: machine | {key: row[key] for key in row if key != "name"} for row in times["rows"]}
    files = _read(NPU)["rows"] if npu is None else npu
    return [
        {
            **row,
            "measured": rows.get(row["name"]),
            "npu": [file for file in files if file["name"] == row["name"]] or None,
            "cpu": cpu.get(row["name"]),
        }
        for row in known
    ]


def _read(name: str) -> dict[str, Any]:
    path = resources.files("panns_litert_assets") / name
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": []}
    return data


def no_model(name: object) -> ModelError:
    """Returns the error for a name that no model has. Its message suggests the names that are most like it.

    >>> str(no_model("mn4"))
    "no model 'mn4'; did you mean mn40 or mn04? expected one that `panns-litert models` lists"
    """
    hint = did_you_mean(name, model_names()) if isinstance(name, str) else ""
    return ModelError(f"no model {shown(name)}{hint or ';'} expected one that `panns-litert models` lists")


def number(value: float | None, form: str) -> str:
    """Returns a number in the format `form`, or a dash for None."""
    return "–" if value is None else format(value, form)


def is_whole(target: Mapping[str, Any]) -> bool:
    """Whether an NPU of npu.json takes all of a file, and computes it right if its emulator ran it."""
    return bool(target["whole"]) and target["passed"] is not False


def generations(named: Collection[str]) -> str:
    """Returns generations of `NPU_GENERATIONS`, neighbours as one: "v69, v75 – v81". A missing one ends a range."""
    runs: list[list[str]] = [[]]
    for generation in NPU_GENERATIONS:
        if generation in named:
            runs[-1].append(generation)
        elif runs[-1]:
            runs.append([])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} – {run[-1]}" for run in runs if run)


def model_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Formats a row of `models_table` for people."""
    measured, cpu = row["measured"] or {}, row["cpu"] or {}
    checks = measured.get("checks") or {}
    resident = {True: "all", False: "NO", None: "–"}[measured.get("resident")]
    error = measured.get("error")
    npu = next(
        (file for file in row["npu"] or () if (file["precision"], file["graph"]) == ("fp16", row["graphs"][0])), None
    )
    return {
        "name": row["name"],
        "network": row["network"],
        "Hz": str(row["sample_rate"]),
        "M params": f"{row['parameters'] / 1e6:.2f}",
        "GMAC": f"{row['gmac_per_10_s']:.2f}",
        "mAP": number(row["published_map"], ".3f"),
        "fp16 MB": number(measured["fp16_bytes"] / 1e6 if "fp16_bytes" in measured else None, ".1f"),
        "fp32 error": number(checks.get("fp32/probs"), ".0e"),
        "fp16 error": number(checks.get("fp16/probs"), ".0e"),
        "GPU error": number((measured.get("gpu") or {}).get("gpu_fp16/probs"), ".0e"),
        "operators": str(measured.get("operators", "–")),
        "on the GPU": f"failed: {error[:60]}" if error else resident,
        "on the NPU": "–"
        if npu is None
        else generations([target["generation"] for target in npu["targets"] if is_whole(target)]) or "none",
        "CPU ms": number(cpu.get("one_thread_ms"), ".1f"),
        "on all cores": number(cpu.get("all_cores_ms"), ".1f"),
        "licence": row["licence"],
        "checkpoint": row["checkpoint"] or "none published",
        "its MB": number(row["checkpoint_bytes"] and row["checkpoint_bytes"] / 1e6, ".1f"),
        "graphs": ", ".join(row["graphs"]),
        "outputs": ", ".join(row["outputs"]),
        "refused": "; ".join(measured.get("refused") or ()) or "–",
    }
