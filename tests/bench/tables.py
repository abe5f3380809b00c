"""The record of benchmark tables: one JSON file per device, such as records/bench/amd-epyc.json. bench.py writes it.

    {"format_version": 1, "device": {"name": "AMD EPYC", …},
     "tables": [{"name": "body", "about": …, "date": …, "rounds": …, "versions": {…}, "rows": [{"what": …}, …]}]}

Every row is a mapping of column to text, number or None. A column is named `some_words`; its unit is part of the name.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from panns_litert.atomic import replacing
from panns_litert.measure import this_device

FORMAT_VERSION = 1
PACKAGES = ("panns-litert", "ai-edge-litert", "numpy", "scipy", "soxr", "torch", "librosa")


def versions() -> dict[str, str]:
    """Returns the versions of the software that is measured, by name."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def read_tables(path: Path) -> dict[str, Any]:
    """Returns a record.

    Raises:
        SystemExit: the file is of another format.
    """
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record.get("format_version") != FORMAT_VERSION:
        raise SystemExit(f"{path}: format_version {record.get('format_version')}; expected {FORMAT_VERSION}")
    return record


def add_table(path: Path, name: str, about: str, rows: Sequence[Mapping[str, Any]], *, rounds: int) -> None:
    """Adds a table to the record of this device. It replaces an older one of the same name.

    Raises:
        SystemExit: the record is of another device.
    """
    device = asdict(this_device())
    record = {"format_version": FORMAT_VERSION, "device": device, "tables": []}
    if path.exists():
        record = read_tables(path)
        if any(record["device"][key] != device[key] for key in ("name", "cpu", "cores")):
            raise SystemExit(f"{path} is of {record['device']}; this device is {device}; expected another file")
    table = {
        "name": name,
        "about": about,
        "date": date.today().isoformat(),
        "rounds": rounds,
        "versions": versions(),
        "rows": rows,
    }
    by_name = {known["name"]: known for known in record["tables"]} | {name: table}
    path.parent.mkdir(parents=True, exist_ok=True)
    record["tables"] = list(by_name.values())
    # Numbers of numpy are written as Python's.
    text = json.dumps(record, indent=1, ensure_ascii=False, default=lambda value: value.item())
    with replacing(path) as file:
        file.write(f"{text}\n".encode())


def texts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns rows for people. All have the columns of all rows; a value that a row lacks is "–"."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column.replace("_", " "): _text(row.get(column)) for column in columns} for row in rows]


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    return (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.2g}"
    )
