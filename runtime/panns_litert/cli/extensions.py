"""Extensions: finds commands and functions of other packages by entry points.

The converter (panns_litert_convert) is such a package. The runtime never imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from panns_litert.errors import MissingDependencyError, importing

COMMANDS = "panns_litert.commands"
"""Entry-point group of modules with a function `add_commands(command: AddCommand) -> None`."""
CONVERTER = "panns_litert.converter"
"""Entry-point group of the converter's functions: `convert_bundle`, `checkpoint_scores`."""


def command_groups() -> list[Any]:
    """Returns the modules with commands, ordered by name. If one cannot be imported, it is left out with a note."""
    modules = []
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        try:
            modules.append(point.load())
        except ImportError as error:
            print(f"note: no commands of {point.value}: {error}", file=sys.stderr)
    return modules


def converter(name: str, *, extra: str = "convert") -> Callable[..., Any]:
    """Returns a function of the converter.

    Args:
        name: name of the function, one of those listed at `CONVERTER`.
        extra: the extra that installs the packages that the function imports.

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
