"""Class names: which lists of them are valid, and the nearest one to an unknown name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

from panns_litert.errors import LabelError, PannsLitertError
from panns_litert.strict import shown

# Characters that change the order in which a terminal or a page shows the text around them, and U+FEFF, which is
# invisible. Other format characters are parts of words and emoji.
_HIDDEN = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_REFUSED = ("Cc", "Cs", "Zl", "Zp")  # control characters (tab, line breaks), surrogates, line and paragraph separators

# Lists that were checked before: every recording asks again, and the check of 527 names takes a while.
_valid: set[tuple[str, ...]] = set()
_MOST_VALID = 32


def require_class_names(
    names: Iterable[str], where: str = "class names", *, error: type[PannsLitertError] = LabelError
) -> tuple[str, ...]:
    """Checks a list of class names, which tables, terminals, pages and files of one name a line must be able to hold.

    Args:
        names: the names, in the order of the scores.
        where: what holds the list, for messages, such as the path of a file.
        error: type of the error to raise.

    Returns:
        The names.

    Raises:
        PannsLitertError: of type `error`: there is no name, or one is no text, empty, there twice, or holds a line
            break, a tab, another control character, a surrogate or a character that changes the direction of text. The
            message has the number of the line, counted from 1.

    >>> require_class_names(["Dog", "Cat"])
    ('Dog', 'Cat')
    """
    if isinstance(names, tuple) and all(isinstance(name, str) for name in names) and names in _valid:
        return names
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise error(f"{where}: {shown(names)}; expected a list of names")
    seen: dict[str, int] = {}
    expected = "expected different names, one a line"
    for line, name in enumerate(names, 1):
        if not isinstance(name, str):
            raise error(f"{where}, line {line}: {shown(name)} is no text; {expected}")
        if not name.strip():
            raise error(f"{where}, line {line}: an empty name; {expected}")
        bad = next((c for c in name if c in _HIDDEN or unicodedata.category(c) in _REFUSED), None)
        if bad is not None:
            raise error(f"{where}, line {line}: {shown(name)} holds the character U+{ord(bad):04X}; {expected}")
        if name in seen:
            raise error(f"{where}, line {line}: {shown(name)} is on line {seen[name]}, too; {expected}")
        seen[name] = line
    if not seen:
        raise error(f"{where}: no names; {expected}")
    if len(_valid) == _MOST_VALID:
        _valid.clear()
    _valid.add(valid := tuple(seen))
    return valid


def class_names(text: str, where: str, *, error: type[PannsLitertError] = LabelError) -> tuple[str, ...]:
    """Reads class names from a text, one a line, and checks them as `require_class_names` does.

    Args:
        text: the text. Its lines end with LF or CR LF; a byte order mark at its start is dropped.
        where, error: as for `require_class_names`.
    """
    # Not splitlines, which also splits at characters that no name may hold.
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")
    return require_class_names(lines, where, error=error)


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
    meant = nearest(name, labels) if isinstance(name, str) else None
    return f"no class {shown(name)}; " + (f"did you mean {meant!r}?" if meant else "expected a class name of the model")
