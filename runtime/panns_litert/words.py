"""Words in messages: numbers with their nouns, and suggestions for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun. The default plural has an s.

    >>> counted(1, "window"), counted(3, "window"), counted(0, "class", "classes")
    ('1 window', '3 windows', '0 classes')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean …?" with the known names that are most like `name`, or no text if none is like it.

    >>> did_you_mean("nm04", ["mn04", "mn10", "cnn14"])
    '; did you mean mn04?'
    """
    by_key = {text.casefold().lstrip("-"): text for text in known}
    found = difflib.get_close_matches(name.casefold().lstrip("-"), by_key, n=2, cutoff=0.65)
    return f"; did you mean {' or '.join(by_key[key] for key in found)}?" if found else ""
