"""Results as JSON lines in a file: each written as it comes, and what is there is not computed again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from panns_litert.errors import ResultsError


class JsonLines:
    """A file of results, one JSON object a line, each with its "source". Use as a context manager.

    A file that exists goes on: a line that a killed run left half written is dropped, and `done` names the sources
    with a result. A source that failed is tried again.

    Args:
        path: the file.
        settings: of this run; kept in the first line, so that results of other settings are not mixed in.

    Attributes:
        done: sources that have a result.

    Raises:
        ResultsError: the file is of other settings or no such file, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self._path = Path(path)
        self.done: set[str] = set()
        head = json.dumps({"settings": settings}, ensure_ascii=False)
        try:
            # Not for appending: what a killed run left half written is cut off.
            self._file = self._path.open("r+b" if self._path.exists() else "w+b")
            self._read(head)
        except ResultsError:
            raise
        except OSError as error:
            raise ResultsError(f"{self._path}: {error.strerror}; expected a file that can be written") from error

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, result: dict[str, Any]) -> None:
        """Adds a result, for good: it is on disk when this returns.

        Raises:
            ResultsError: it cannot be written; the results before it are whole.
        """
        self._line(json.dumps(result, ensure_ascii=False, allow_nan=False))
        if "error" not in result:
            self.done.add(result["source"])

    def _line(self, text: str) -> None:
        end = self._file.tell()
        try:
            self._file.write(text.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.seek(end)
            self._file.truncate()
            raise ResultsError(
                f"{self._path}: {error.strerror}; the results so far are whole; make room and run it again"
            ) from error

    def _read(self, head: str) -> None:
        end = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            try:
                data = json.loads(line)
            except ValueError as error:
                raise ResultsError(
                    f"{self._path}, line {number + 1}: no JSON; expected results of this program"
                ) from error
            if number == 0 and data != json.loads(head):
                raise ResultsError(f"{self._path} is of other settings; expected {head}; give another --out")
            if number and "error" not in data:
                self.done.add(str(data.get("source")))
            end += len(line)
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self._line(head)
