"""A sink that writes ended events to CSV files, one for each day."""

from __future__ import annotations

import csv
import errno
import io
import logging
import os
import re
from datetime import datetime
from pathlib import Path

from panns_litert.atomic import writing
from panns_litert.errors import ResultsError
from panns_litert.escape import csv_cell, escaped
from panns_litert.live.outbox import NotNow, Outbox
from panns_litert.live.parts import EventNotice, Notice, Sink

_LOG = logging.getLogger(__name__)

COLUMNS = ("time", "end_time", "source", "start", "end", "label", "index", "id", "score")
"""`score` is last: its form tells whether a last row without a line break is complete."""

_HEADER = ",".join(COLUMNS).encode() + b"\n"
_SCORE = re.compile(r"[01]\.\d{6}")


class CsvSink(Sink):
    """Writes a row for each event that has ended to the file of the day on which it started: events-2026-11-29.csv.

    Day and times are local. A file is opened for each row, so that it may be moved away at any time, and locked
    meanwhile, so that several listeners may write to one folder. If the last row of a file was torn, by a crash or a
    full disk, it is removed and told in the log. Rows that cannot be written wait and are tried again.

    Args:
        folder: made if it is missing.
        most_waiting: how many rows may wait before the oldest is lost, ≥ 1.

    Raises:
        ResultsError: the folder cannot be made or written.
    """

    name = "csv"

    def __init__(self, folder: str | os.PathLike[str], *, most_waiting: int = 1000) -> None:
        self._folder = Path(folder).absolute()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise ResultsError(
                f"{escaped(self._folder)}: {error.strerror}; expected a folder that can be written"
            ) from error
        self._outbox = Outbox(self.name, self._append, most_waiting=most_waiting, noun="event")

    def notice(self, notice: Notice) -> None:
        """Takes the end of an event; ignores the rest."""
        if isinstance(notice, EventNotice) and notice.kind == "end":
            self._outbox.put(notice)

    def close(self) -> None:
        self._outbox.close()

    @property
    def problems(self) -> tuple[str, ...]:
        return self._outbox.problems

    def _append(self, event: EventNotice) -> None:
        path = self._folder / f"events-{datetime.fromisoformat(event.time).date().isoformat()}.csv"
        try:
            with writing(path, wait=2.0, keep=False), path.open("a+b", buffering=0) as file:
                size = _repaired(file, path)
                row = _row(event) if size else _HEADER + _row(event)
                try:
                    if file.write(row) < len(row):  # what a disk does that becomes full
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(path, size)  # a part may have been written
                    raise
        except ResultsError as error:
            raise NotNow(str(error)) from error
        except OSError as error:
            raise NotNow(f"{escaped(path)}: {error.strerror}") from error


def _row(event: EventNotice) -> bytes:
    text = io.StringIO()
    times = f"{event.start:.6f}", f"{event.end:.6f}"
    label, source = csv_cell(event.label), csv_cell(event.source)
    csv.writer(text, lineterminator="\n").writerow(
        (event.time, event.end_time, source, *times, label, event.index, event.id, f"{event.score:.6f}")
    )
    return text.getvalue().encode()


def _repaired(file: io.FileIO, path: Path) -> int:
    """Checks the columns of a file and its last row, removes a torn row, and returns the file's size in bytes."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return 0
    file.seek(0)
    header = file.read(len(_HEADER))
    if header != _HEADER:
        if size >= len(_HEADER) or not _HEADER.startswith(header):
            raise ResultsError(
                f"{escaped(path)}: other columns; expected {','.join(COLUMNS)}: move the file, and events are written"
            )
        _LOG.warning("csv: %s: removed a torn header", escaped(path))
        os.truncate(path, 0)
        return 0
    start = size
    tail = b""
    while b"\n" not in tail:  # the header has one
        step = min(4096, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    whole, _, last = tail.rpartition(b"\n")
    if not last:
        return size
    if _is_row(last):  # an editor has removed the last line break
        file.write(b"\n")
        return size + 1
    size = start + len(whole) + 1
    os.truncate(path, size)
    _LOG.warning("csv: %s: removed a torn last row: %s", escaped(path), escaped(last.decode(errors="replace"))[:300])
    return size


def _is_row(line: bytes) -> bool:
    try:
        cells = next(csv.reader([line.decode()], strict=True))
    except (UnicodeDecodeError, csv.Error):
        return False
    return len(cells) == len(COLUMNS) and _SCORE.fullmatch(cells[-1]) is not None
