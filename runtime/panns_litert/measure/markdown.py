"""Markdown: writes tables, and inserts them into documents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from panns_litert.atomic import replacing
from panns_litert.errors import ResultsError


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns a Markdown table of rows, at least one. The keys of the first row are the columns."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row[column].replace("|", "\\|") for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def insert(document: str | os.PathLike[str], table: str, *, marker: str) -> None:
    """Replaces the text between the lines `<!-- MARKER -->` and `<!-- /MARKER -->` of a document by a table.

    Raises:
        ResultsError: the document cannot be read or written, or lacks the markers.
    """
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
    try:
        text = Path(document).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ResultsError(f"{os.fspath(document)}: {reason}; expected a Markdown file") from error
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ResultsError(f"{os.fspath(document)}: no {begin.strip()} … {end}; expected these two lines")
    with replacing(document) as file:
        file.write((before + begin + table + end + after).encode())
