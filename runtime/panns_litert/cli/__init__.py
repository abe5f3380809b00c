"""Command line: commands that call the public functions of the runtime, and functions that several commands use.

It may import every other package of the runtime, but not the converter: it finds the converter's commands by entry
points.
"""

from panns_litert.cli.options import BUNDLE_HELP, named_bundle
from panns_litert.cli.output import (
    DATA_HELP,
    SHOWN_SKIPPED,
    AddCommand,
    note,
    one_line,
    print_checks,
    print_dataset,
    print_figures,
    print_json,
    print_skipped,
    print_table,
    print_tagging,
    progress_wanted,
    residency,
    steps,
    watching,
)
from panns_litert.cli.program import build_parser, main

__all__ = [
    "BUNDLE_HELP",
    "DATA_HELP",
    "SHOWN_SKIPPED",
    "AddCommand",
    "build_parser",
    "main",
    "named_bundle",
    "note",
    "one_line",
    "print_checks",
    "print_dataset",
    "print_figures",
    "print_json",
    "print_skipped",
    "print_table",
    "print_tagging",
    "progress_wanted",
    "residency",
    "steps",
    "watching",
]
