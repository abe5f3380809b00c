"""Writes results as JSON lines, each at once, so that an interrupted run can continue."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from panns_litert.errors import ResultsError


class JsonLines:
    """A file of results, one JSON object per line, each with a "source". A context manager.

    If the file exists, the results are appended. An incomplete last line of a killed run is removed. A source that
    failed is not in `done`, so that it is tried again.

    Args:
        path: the file.
        settings: settings of this run. They are the first line of the file, so that results of different settings are
            not mixed.

    Attributes:
        done: sources that have a result.

    Raises:
        ResultsError: the file has other settings, is not such a file, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self._path = Path(path)
        self.done: set[str] = set()
        head = json.dumps({"settings": settings}, ensure_ascii=False)
        try:
            # Not mode "a", because an incomplete last line must be cut off.
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
        """Adds a result. It is on disk when this method returns.

        Raises:
            ResultsError: the result cannot be written. The results before it are complete.
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
