"""Extensions: finds commands and functions of other packages by entry points.

The converter (panns_litert_convert) is such a package. The runtime never imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from panns_litert.cli import commands
from panns_litert.cli.output import AddCommand, note
from panns_litert.errors import MissingDependencyError, importing, install_extra

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

COMMANDS = "panns_litert.commands"
"""Entry-point group of modules with a function `add_commands(command: AddCommand) -> None`."""
CONVERTER = "panns_litert.converter"
"""Entry-point group of the converter's functions: `convert_bundle`, `checkpoint_scores`."""


def add_extension(name: str, command: AddCommand) -> None:
    """Adds the commands of one entry point. If its module fails, they are missing, with a note on stderr."""
    points = entry_points(group=COMMANDS, name=name)
    if not points:  # the metadata of the installed package is older than this file
        note("the converter's commands are not registered; install panns-litert again")
    for point in points:
        _add(point, command)


def add_unlisted_extensions(command: AddCommand) -> None:
    """Adds the commands of packages that `commands.COMMANDS` does not list, ordered by name."""
    listed = {entry.extension for entry in commands.COMMANDS.values()}
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        if point.name not in listed:
            _add(point, command)


def entry_points(*, group: str, name: str | None = None) -> EntryPoints:
    """Returns the entry points of a group, or those of one name."""
    from importlib import metadata  # late: most commands need none

    found = metadata.entry_points(group=group)
    return found if name is None else found.select(name=name)


def _add(point: EntryPoint, command: AddCommand) -> None:
    try:
        point.load().add_commands(command)
    except Exception as error:  # anything: it is another package's code, and must not take the other commands away
        note(f"no commands of {point.value}: {type(error).__name__}: {error}")


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
        f"this needs the converter, which is not registered; {install_extra(extra)}, again if necessary"
    )
