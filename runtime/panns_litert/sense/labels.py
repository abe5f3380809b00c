"""Class names: looking one up, and the nearest one for a name that is none."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, labels: Iterable[str]) -> str | None:
    """The label that somebody who wrote `name` may have meant, or None.

    Case is ignored, and a label may be meant by any of its parts between commas: "car horn" finds
    "Vehicle horn, car horn, honking".
    """
    spellings: dict[str, str] = {}
    for label in labels:
        for spelling in (label, *label.split(",")):
            spellings.setdefault(spelling.strip().casefold(), label)
    found = get_close_matches(name.strip().casefold(), spellings, n=1)
    return spellings[found[0]] if found else None


def unknown_label(name: str, labels: Iterable[str]) -> str:
    """What to tell somebody who gave a name that is none of the labels."""
    meant = nearest(name, labels)
    return f"no class {name!r}; " + (f"did you mean {meant!r}?" if meant else "expected a class name of the model")
