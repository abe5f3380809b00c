"""Reads JSON strictly as dataclasses: no field is missing or unknown, and each has its annotated type."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from panns_litert.errors import PannsLitertError

# Bounds that the integers of every language can hold: 32 bits, and 64 bits for sizes in bytes.
_BELOW, _BYTES_BELOW = 2**31, 10**18

_EXPECTED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def read(kind: Any, data: Any, where: str, *, error: type[PannsLitertError]) -> Any:
    """Converts a parsed JSON value to an annotated type.

    Args:
        kind: a dataclass, tuple[X, ...], dict[str, X], X | None, or str, int, float, bool.
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
            raise error(f"{where} {data!r}; expected a list")
        item_kind = get_args(kind)[0]
        return tuple(read(item_kind, item, f"{where}[{i}]", error=error) for i, item in enumerate(data))
    if get_origin(kind) is dict:
        if not isinstance(data, dict):
            raise error(f"{where} {data!r}; expected an object with named values")
        _, value_kind = get_args(kind)
        return {name: read(value_kind, value, f"{where}.{name}", error=error) for name, value in data.items()}
    if kind is float and type(data) in (int, float):
        try:
            return float(data)
        except OverflowError as large:
            raise error(f"{where}: a number of {len(str(data))} digits; expected a finite number") from large
    below = _BYTES_BELOW if where.endswith("bytes") else _BELOW
    if type(data) is not kind or (kind is int and not -below < data < below):
        raise error(f"{where} {data!r}; expected {_EXPECTED[kind]}")
    return data


def _read_fields(kind: Any, data: Any, where: str, error: type[PannsLitertError]) -> Any:
    names = {field.name for field in fields(kind)}
    if not isinstance(data, Mapping):
        raise error(f"{where} {data!r}; expected an object with {', '.join(sorted(names))}")
    if missing := sorted(names - set(data)):
        raise error(f"{where}: missing {', '.join(missing)}; expected every field of this format")
    if unknown := sorted(map(str, set(data) - names)):
        raise error(f"{where}: unknown {', '.join(unknown)}; expected only {', '.join(sorted(names))}")
    hints = get_type_hints(kind)
    values = {name: read(hints[name], data[name], f"{where}.{name}", error=error) for name in sorted(names)}
    try:
        return kind(**values)
    except PannsLitertError as refusal:
        raise error(f"{where}: {refusal}") from refusal
