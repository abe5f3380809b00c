"""Extensions: commands and functions that other packages bring, found by their entry points.

The converter (panns_litert_convert) is such a package: the runtime never imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from panns_litert.errors import MissingDependencyError, importing

COMMANDS = "panns_litert.commands"
"""Group of modules with a function `add_commands(command: AddCommand) -> None`."""
CONVERTER = "panns_litert.converter"
"""Group of the converter's functions: `convert_bundle`, `checkpoint_scores`."""


def command_groups() -> list[Any]:
    """The modules with commands, in the order of their names. One that cannot be imported is left out with a note."""
    modules = []
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        try:
            modules.append(point.load())
        except ImportError as error:
            print(f"note: no commands of {point.value}: {error}", file=sys.stderr)
    return modules


def converter(name: str, *, extra: str = "convert") -> Callable[..., Any]:
    """A function of the converter.

    Args:
        name: of the function, one of those listed at `CONVERTER`.
        extra: what installs it and the packages that it imports.

    Raises:
        MissingDependencyError: the converter, or a package that it needs, is not installed.
    """
    for point in entry_points(group=CONVERTER, name=name):
        with importing("the converter", extra=extra, purpose="this needs"):
            function: Callable[..., Any] = point.load()
        return function
    raise MissingDependencyError(
        f"this needs the converter, which is not installed; pip install 'panns-litert[{extra}]'"
    )
