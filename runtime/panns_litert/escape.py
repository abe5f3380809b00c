"""Escapes text from elsewhere, such as names of files and classes, so that every terminal and file can show it."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

# Characters that change more than their own place in a text: control characters (C0 without tab and line break, DEL,
# C1), separators of lines, and those that change the direction of what follows. And halves of characters (surrogates):
# as U+DC80 … U+DCFF, Python has the bytes of a file's name that are no UTF-8.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SLUG = 48  # characters


def escaped_lines(text: str) -> str:
    r"""Returns a text without what a terminal would obey or UTF-8 cannot hold. Line breaks and tabs stay.

    >>> escaped_lines("caf\udce9 \x1b[31m\n")
    'caf\\xe9 \\x1b[31m\n'
    """
    return _UNSAFE.sub(_escape, text)


def escaped(text: str | os.PathLike[str]) -> str:
    r"""Returns a name on one line: as `escaped_lines`, and a line break becomes `\n`, a tab `\t`.

    Bytes of a file's name that are no UTF-8 become `\xe9` and the like. A backslash stays as it is.

    >>> escaped("caf\udce9\n.wav")
    'caf\\xe9\\n.wav'
    """
    return escaped_lines(os.fspath(text)).replace("\n", "\\n").replace("\t", "\\t")


def utf8(text: str) -> str:
    r"""Returns a text that UTF-8 can hold: bytes of a file's name that are no UTF-8 become `\xe9` and the like.

    >>> utf8("caf\udce9\n.wav")
    'caf\\xe9\n.wav'
    """
    return re.sub("[\ud800-\udfff]", _escape, text)


def csv_cell(text: str) -> str:
    """Returns a text for a cell of a CSV file: escaped, and behind an apostrophe if a spreadsheet would run it.

    A spreadsheet takes a cell as a formula if it begins with =, +, -, @, a tab or a carriage return.

    >>> csv_cell("=1+1"), csv_cell("Dog"), csv_cell("-")
    ("'=1+1", 'Dog', '-')
    """
    return f"'{escaped(text)}" if len(text) > 1 and text.startswith(_FORMULA) else escaped(text)


def slug(text: str) -> str:
    """Returns a name for files and MQTT topics: a … z, 0 … 9 and single hyphens inside, 1 to 48 of them.

    Where letters are lost, or the name is too long, it ends with a part of the text's SHA-256, so that other texts get
    other names. Texts that differ in case, accents or punctuation alone share a name.

    >>> slug("Baby cry, infant cry"), slug("Müller's café"), slug("狗")
    ('baby-cry-infant-cry', 'muller-s-cafe', 'cecd675a')
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    name = re.sub("[^a-z0-9]+", "-", plain.lower()).strip("-")
    if name and len(name) <= _SLUG and not any(c.isalnum() and not c.isascii() for c in plain):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _SLUG - 9].rstrip('-')}-{digest}".lstrip("-")


def escaped_json(text: str) -> str:
    r"""Returns JSON text that is valid UTF-8 and safe to print, with the same content.

    Only bytes of a name that are no UTF-8, which JSON cannot hold, become the text `\xe9` and the like.

    Args:
        text: what `json.dumps(…, ensure_ascii=False)` returns.
    """
    return _UNSAFE.sub(_escape_in_json, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\r":
        return "\\r"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _escape_in_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _escape(match).replace("\\", "\\\\") if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"
