"""Class names: the nearest one to an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, labels: Iterable[str]) -> str | None:
    """Returns the label that is most similar to `name`, or None if none is similar enough.

    Case is ignored. The parts of a label between commas are compared, too: "car horn" finds "Vehicle horn, car horn,
    honking".
    """
    spellings: dict[str, str] = {}
    for label in labels:
        for spelling in (label, *label.split(",")):
            spellings.setdefault(spelling.strip().casefold(), label)
    found = get_close_matches(name.strip().casefold(), spellings, n=1)
    return spellings[found[0]] if found else None


def unknown_label(name: str, labels: Iterable[str]) -> str:
    """Returns the message for a name that is none of the labels. It suggests the nearest label, if there is one."""
    meant = nearest(name, labels)
    return f"no class {name!r}; " + (f"did you mean {meant!r}?" if meant else "expected a class name of the model")
