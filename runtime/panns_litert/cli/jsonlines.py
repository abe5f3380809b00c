"""Writes results as JSON lines, each at once, so that an interrupted run can continue."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from panns_litert.atomic import replacing, writing
from panns_litert.cli.options import STDIN
from panns_litert.cli.output import require_writable
from panns_litert.errors import ResultsError
from panns_litert.escape import escaped, escaped_json
from panns_litert.strict import changes, file_stamp, parse_json, read_json

_ELSEWHERE = "give another --out"


class JsonLines:
    """A file of results, one JSON object per recording and line. A context manager, which locks the file.

    The settings of the run are beside it, in NAME.settings.json. A run with the same settings continues the file: a
    recording is done if its last result is no error, and if the size and the modification time of its file are still
    the same. A new result of a recording replaces the one before. Standard input and pipes are never done.

    Args:
        path: the file.
        settings: everything that changes a result, in JSON types.

    Attributes:
        tagged, skipped, failed: number of recordings of this run, so far.

    Raises:
        ResultsError: another process writes the file; it has other settings, or lines that are no results; or it cannot
            be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        require_writable(Path(path))
        self._path = Path(path).resolve()  # behind a link, because the file is replaced
        self.tagged = self.skipped = self.failed = 0
        self._rows: dict[
            str, tuple[int, dict[str, Any] | None]
        ] = {}  # by path: where its line is, and its file's state
        self._replaced: set[int] = set()  # where the lines are that later ones replace
        with contextlib.ExitStack() as stack:
            stack.enter_context(writing(self._path))
            try:
                self._require(settings)
                self._file = stack.enter_context(self._path.open("r+b" if self._path.exists() else "w+b"))
                self._read()
            except OSError as error:
                if isinstance(error, ResultsError):
                    raise
                raise ResultsError(f"{self._path}: {error.strerror}; expected a file that can be written") from error
            self._stack = stack.pop_all()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._file.flush()
            if self._replaced:
                self._drop_replaced()

    def __contains__(self, source: object) -> bool:
        """Returns whether a recording is done, and counts it as skipped if it is."""
        state = file_state(str(source))
        known = self._rows.get(state["path"]) if state else None
        done = known is not None and known[1] is not None and known[1] == state
        self.skipped += done
        return done

    def write(self, result: dict[str, Any]) -> None:
        """Adds a result. It is on disk when this method returns.

        Args:
            result: has "source", and either "error" or, from `file_state` before the recording was read, "file".

        Raises:
            ResultsError: the result cannot be written. The results before it are complete.
        """
        result = {"source": result["source"], "file": file_state(result["source"])} | result
        start = self._file.tell()
        try:
            self._file.write(escaped_json(json.dumps(result, ensure_ascii=False, allow_nan=False)).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.seek(start)
            self._file.truncate()
            raise ResultsError(
                f"{self._path}: {error.strerror}; the results so far are whole; make room and run it again"
            ) from error
        self._note(start, result)
        if "error" in result:
            self.failed += 1
        else:
            self.tagged += 1

    def _note(self, start: int, row: dict[str, Any]) -> None:
        """Takes down that the line at `start` has this result."""
        if row["file"] is None:
            return
        path = row["file"]["path"]
        if path in self._rows:
            self._replaced.add(self._rows[path][0])
        self._rows[path] = start, None if "error" in row else row["file"]

    def _require(self, settings: dict[str, Any]) -> None:
        """Checks that the file's settings are these. Writes them for a new file."""
        beside = self._path.with_name(f"{self._path.name}.settings.json")
        text = escaped_json(json.dumps(settings, indent=1, ensure_ascii=False, allow_nan=False))
        if not self._path.exists() or not self._path.stat().st_size:
            with replacing(beside) as file:
                file.write(text.encode() + b"\n")
            return
        if not beside.exists():
            with self._path.open("rb") as lines:
                old = lines.readline(4096).startswith(b'{"settings"')
            what = "is of an earlier version, with its settings in the first line" if old else f"has no {beside.name}"
            raise ResultsError(f"{self._path} {what}, so that it cannot be continued; {_ELSEWHERE}")
        before = read_json(beside, error=ResultsError, what="the settings of results")
        now = parse_json(text, "settings", error=ResultsError)
        if not isinstance(before, dict):
            raise ResultsError(f"{beside}: expected a JSON object; {_ELSEWHERE}")
        if other := changes(before, now):
            raise ResultsError(
                f"{self._path} is of other settings: {'; '.join(other)}; expected the same, or {_ELSEWHERE}"
            )

    def _read(self) -> None:
        start = 0
        for number, line in enumerate(self._file, 1):
            try:
                row = parse_json(line, f"{self._path}, line {number}", error=ResultsError)
                if not _is_result(row):
                    raise ResultsError(f"{self._path}, line {number}: not a result; expected source and file")
            except ResultsError as error:
                if not line.endswith(b"\n"):  # of a run that was killed
                    break
                raise ResultsError(f"{error}; remove the line, or {_ELSEWHERE}") from error
            self._note(start, row)
            start += len(line)
            if not line.endswith(b"\n"):
                self._file.write(b"\n")
                start += 1
        self._file.seek(start)
        self._file.truncate()

    def _drop_replaced(self) -> None:
        self._file.seek(0)
        start = 0
        with replacing(self._path) as file:
            for line in self._file:
                if start not in self._replaced:
                    file.write(line)
                start += len(line)


def file_state(source: str) -> dict[str, Any] | None:
    """Returns which file a recording is, and its size and modification time. None for standard input and pipes.

    Size and time are None if there is no such file.
    """
    if source == STDIN:
        return None
    size = modified = None
    with contextlib.suppress(OSError, ValueError):  # ValueError: NUL in the name
        stamp = file_stamp(source)
        if stamp is None:
            return None
        size, modified = stamp
    return {"path": escaped(os.path.abspath(source)), "bytes": size, "modified_ns": modified}


def _is_result(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("source"), str) or "file" not in row:
        return False
    return row["file"] is None or (isinstance(row["file"], dict) and isinstance(row["file"].get("path"), str))
