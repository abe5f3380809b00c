"""Command models: the models that can be converted."""

from __future__ import annotations

import argparse
from typing import Any

from panns_litert.cli.output import AddCommand, print_json, print_table
from panns_litert.models import model_row, models_table, no_model
from panns_litert.words import counted

_COLUMNS = {"name": "name", "Hz": "Hz", "M params": "M params", "mAP": "mAP", "fp16 MB": "fp16 MB",
            "on the GPU": "GPU", "CPU ms": "CPU ms"}  # fmt: skip
"""The columns of the table of all models, by their names in `model_row`."""


def add_commands(command: AddCommand) -> None:
    """Adds models."""
    sub = command("models", run_models)
    sub.add_argument("model", nargs="?", help="show all that is known of this one")


def run_models(args: argparse.Namespace) -> int:
    """Runs `models`: prints the table of all models, which fits 80 columns, or everything about one."""
    rows = models_table()
    if args.model is not None:
        rows = [row for row in rows if row["name"] == args.model.casefold()]
        if not rows:
            raise no_model(args.model)
    if args.json:
        return print_json({"models": rows})
    if args.model is not None:
        _print_one(rows[0])
        return 0
    facts = [model_row(row) for row in rows]
    print_table([{column: row[name] for name, column in _COLUMNS.items()} for row in facts], optional=())
    for cpu in [row["cpu"] for row in rows if row["cpu"]][:1]:
        print(f"CPU ms: 10 s of sound, one thread, {cpu['device']}, {cpu['date']}")
    print(f"{counted(len(rows), 'model')}; `panns-litert models NAME` shows all of one, also its licence")
    return 0


def _print_one(row: dict[str, Any]) -> None:
    print(row["description"])
    facts = model_row(row) | {"classes": str(row["classes"])}
    width = max(map(len, facts)) + 2
    for name, text in facts.items():
        print(f"  {name:{width}}{text}")
