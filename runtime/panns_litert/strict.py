"""Reads files from elsewhere strictly: regular files of bounded size, bounded JSON, JSON as dataclasses."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from panns_litert.errors import PannsLitertError

MOST_BYTES = 4 << 20
"""Size of the largest JSON file that is read unless the caller says otherwise: 4 MiB. A manifest has about 10 kB."""

# Bounds that the integers of every language can hold: 32 bits, and 64 bits for sizes in bytes.
_BELOW, _BYTES_BELOW = 2**31, 10**18

_MOST_DEPTH = 32  # of nested lists and objects; no format of this project has more than eight
_WHOLE_BELOW = 2**63  # for whole numbers of JSON in general: modification times in nanoseconds need 61 bits
_SHOWN = 100  # characters of a value or name in a message

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")

_EXPECTED = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}


def read_bytes(path: str | os.PathLike[str], *, error: type[PannsLitertError], what: str, most_bytes: int) -> bytes:
    """Reads a regular file of bounded size. A FIFO, a device or a folder is refused; none of them can block.

    Args:
        path: the file.
        error: type of the error to raise.
        what: what the file should be, for messages, such as "a bundle's manifest".
        most_bytes: the largest size that is read.

    Raises:
        PannsLitertError: of type `error`: the file is missing, not regular, too large or cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        with open(
            os.fspath(path), "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        ) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise error(f"{printable(path)}: not a regular file; expected {what}")
            data = file.read(most_bytes + 1) if found.st_size <= most_bytes else b""
    except (OSError, ValueError, TypeError) as failure:  # ValueError: NUL in the name; TypeError: no name at all
        if isinstance(failure, PannsLitertError):
            raise
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else failure
        raise error(f"{printable(path)}: {reason}; expected {what}") from failure
    if (size := max(found.st_size, len(data))) > most_bytes:
        raise error(f"{printable(path)} has {size} bytes; expected {what} of at most {most_bytes} bytes")
    return data


def read_text(path: str | os.PathLike[str], *, error: type[PannsLitertError], what: str, most_bytes: int) -> str:
    """Reads a text file as `read_bytes` does. The text is UTF-8; a byte order mark at its start is dropped.

    Raises:
        PannsLitertError: of type `error`, also for bytes that are not UTF-8.
    """
    data = read_bytes(path, error=error, what=what, most_bytes=most_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise error(f"{printable(path)}: not UTF-8 at byte {failure.start}; expected {what}") from failure


def read_json(
    path: str | os.PathLike[str], *, error: type[PannsLitertError], what: str, most_bytes: int = MOST_BYTES
) -> Any:
    """Reads a JSON file as `read_text` and `parse_json` do.

    Args:
        path: the file.
        error: type of the error to raise.
        what: what the file should be, for messages, such as "a JSON file of thresholds".
        most_bytes: the largest size that is read.

    Raises:
        PannsLitertError: of type `error`. The message names the file.

    >>> from panns_litert.errors import LabelError
    >>> read_json("groups.json", error=LabelError, what="a JSON file of groups")
    {'pets': ['Dog/', 'Cat/']}
    """
    return parse_json(read_text(path, error=error, what=what, most_bytes=most_bytes), printable(path), error=error)


def parse_json(data: str | bytes, where: str, *, error: type[PannsLitertError]) -> Any:
    """Parses JSON from elsewhere, more strictly than `json.loads`.

    A byte order mark is accepted. Refused are NaN and Infinity, numbers beyond float64 or 64 bits, a name twice in one
    object, NUL and unpaired surrogates in texts, and lists and objects nested more than 32 deep.

    Args:
        data: the text, or its UTF-8 bytes.
        where: name of the text at the start of messages, such as the path of its file.
        error: type of the error to raise.

    Raises:
        PannsLitertError: of type `error`, in one line.
    """

    def refuse(reason: str) -> NoReturn:
        raise error(f"{where}: {reason}")

    def whole(digits: str) -> int:
        # The length is checked first: Python refuses to convert thousands of digits, and other readers take minutes.
        if len(digits) > 20 or not -_WHOLE_BELOW <= (value := int(digits)) < _WHOLE_BELOW:
            refuse(f"{shown(digits)} has {len(digits)} digits; expected a number of at most 64 bits")
        return value

    def number(digits: str) -> float:
        if not math.isfinite(value := float(digits)):
            refuse(f"{shown(digits)}; expected a finite number")
        return value

    def named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                refuse(f"{shown(name)} twice; expected each name once")
            found[name] = value
        return found

    if isinstance(data, bytes):
        try:
            data = data.decode()
        except UnicodeDecodeError as failure:
            refuse(f"not UTF-8 at byte {failure.start}; expected JSON in UTF-8")
    if not isinstance(data, str):
        refuse(f"{shown(data)}; expected JSON text")
    text = data.removeprefix("\ufeff")
    if _depth(text) > _MOST_DEPTH:  # first, because the parser recurses
        refuse(f"nested more than {_MOST_DEPTH} deep; expected JSON of a few levels")
    try:
        value = json.loads(
            text,
            parse_int=whole,
            parse_float=number,
            parse_constant=lambda name: refuse(f"{name}; expected a finite number"),
            object_pairs_hook=named,
        )
    except json.JSONDecodeError as failure:
        refuse(f"not JSON: {failure}; expected one JSON value and nothing else")
    if ("\\u" in text or _SURROGATE.search(text)) and (bad := _unusable_text(value)) is not None:
        refuse(f"{shown(bad)}; expected text without NUL and unpaired surrogates")
    return value


def _depth(text: str) -> int:
    """Returns how deep lists and objects are nested, or a larger number that is within the limit."""
    if (most := text.count("[") + text.count("{")) <= _MOST_DEPTH:  # saves the exact count for most lines
        return most
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unusable_text(value: Any) -> str | None:
    """Returns a text in `value` that holds NUL or an unpaired surrogate, or None."""
    if isinstance(value, str):
        return value if "\0" in value or _SURROGATE.search(value) else None
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((bad for item in inner if (bad := _unusable_text(item)) is not None), None)


def file_stamp(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Returns size and modification time (ns) of a regular file, which show whether it was changed; None for others.

    Raises:
        OSError, ValueError: there is no such file, or the name is not valid.
    """
    status = os.stat(path)
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns which values differ, for a message: a text of each, such as "hop was 5, now 2"."""
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    return [f"{name} was {shown(before.get(name))}, now {shown(now.get(name))}" for name in names]


def shown(value: object) -> str:
    """Returns the `repr` of a value for a message, without the middle of a long one."""
    try:
        text = " ".join(repr(value).split())  # arrays have several lines
    except ValueError:  # a whole number of thousands of digits
        text = f"a {type(value).__name__} too large to show"
    return printable(text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}")


def printable(name: object) -> str:
    """Returns a path or a name for a message: as it is, or its `repr` if it holds characters that cannot be printed."""
    text = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(text, str):
        return shown(text)
    return text if text.isprintable() else repr(text)


def read(kind: Any, data: Any, where: str, *, error: type[PannsLitertError]) -> Any:
    """Converts a parsed JSON value to an annotated type.

    Args:
        kind: a dataclass, tuple[X, ...], dict[str, X], X | None, a Literal of texts, or str, int, float, bool.
        data: the value that `json` returned.
        where: name of the value in messages. Its parts are named after it, such as `where.field[2]`.
        error: type of the error to raise.

    Raises:
        PannsLitertError: of type `error`, in one line that names the value and what was expected. An error that a
            dataclass raises on construction is converted to `error`, too.
    """
    if isinstance(kind, types.UnionType):
        (inner,) = (part for part in get_args(kind) if part is not type(None))
        return None if data is None else read(inner, data, where, error=error)
    if is_dataclass(kind):
        return _read_fields(kind, data, where, error)
    if get_origin(kind) is tuple:
        if not isinstance(data, list):
            raise error(f"{where} {shown(data)}; expected a list")
        item_kind = get_args(kind)[0]
        return tuple(read(item_kind, item, f"{where}[{i}]", error=error) for i, item in enumerate(data))
    if get_origin(kind) is dict:
        if not isinstance(data, dict):
            raise error(f"{where} {shown(data)}; expected an object with named values")
        _, value_kind = get_args(kind)
        return {name: read(value_kind, value, f"{where}.{_short(name)}", error=error) for name, value in data.items()}
    if get_origin(kind) is Literal:
        kind = str  # the dataclass checks which, and names the choices
    below = _BYTES_BELOW if where.endswith("bytes") else _BELOW
    if kind is float:
        fits = type(data) in (int, float) and abs(data) <= sys.float_info.max  # not NaN, which compares as false
    else:
        fits = type(data) is kind and (kind is not int or -below < data < below)
    if not fits:
        raise error(f"{where} {shown(data)}; expected {_EXPECTED[kind]}")
    return float(data) if kind is float else data


def _read_fields(kind: Any, data: Any, where: str, error: type[PannsLitertError]) -> Any:
    names = {field.name for field in fields(kind)}
    if not isinstance(data, Mapping):
        raise error(f"{where} {shown(data)}; expected an object with {', '.join(sorted(names))}")
    if missing := sorted(names - set(data)):
        raise error(f"{where}: missing {', '.join(missing)}; expected every field of this format")
    if unknown := sorted(map(_short, set(data) - names)):
        raise error(f"{where}: unknown {', '.join(unknown[:5])}; expected only {', '.join(sorted(names))}")
    hints = get_type_hints(kind)
    values = {name: read(hints[name], data[name], f"{where}.{name}", error=error) for name in sorted(names)}
    try:
        return kind(**values)
    except PannsLitertError as refusal:
        raise error(f"{where}: {refusal}") from refusal


def _short(name: object) -> str:
    return name if isinstance(name, str) and name.isprintable() and len(name) <= _SHOWN else shown(name)
