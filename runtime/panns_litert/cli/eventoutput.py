"""The events of one or several recordings: as a table, CSV, JSON or Audacity's label tracks, on stdout or in files."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from panns_litert.atomic import replacing
from panns_litert.cli.options import STDIN
from panns_litert.cli.output import json_text, note, print_table, require_writable
from panns_litert.cli.recordings import clock
from panns_litert.errors import EventError, ResultsError
from panns_litert.escape import escaped
from panns_litert.events import Event, audacity_labels, events_csv
from panns_litert.words import counted

EVENT_FORMATS = ("table", "csv", "audacity", "json")

_NONE = "–"


class EventOutput:
    """Writes events in one of the formats of `EVENT_FORMATS`.

    The events of all recordings are in one table or document, with a column or field `source`. Only a table of a single
    recording has no such column. A file is written at the end, in one step. Audacity's label tracks are of one
    recording each: `out` is then a folder, and a track is written as soon as its events are found. Only for a single
    recording may it be a file.

    Args:
        audio: the recordings and folders of the command line.
        form: one of `EVENT_FORMATS`.
        out: the file or folder; stdout if None.
        json: whether stdout gets the JSON document and nothing else.

    Raises:
        EventError: several label tracks on stdout.
        ResultsError: `out` cannot be written.
    """

    def __init__(self, audio: Sequence[str], *, form: str, out: Path | None, json: bool) -> None:
        self._audio, self._form, self._out, self._json = audio, form, out, json
        self._several = len(audio) > 1 or Path(audio[0]).is_dir()
        self._texts: list[str] = []
        self._rows: list[dict[str, str]] = []  # of the table on stdout
        self._tracks: set[str] = set()  # in lower case: some disks take a.txt and A.txt for one file
        if form == "audacity":
            if self._several and out is None and not json:
                raise EventError(
                    "--as audacity of several recordings on standard output, where they would be one track; "
                    "expected --out FOLDER, for a file of each"
                )
            self._folder = out if out is not None and (self._several or out.is_dir()) else None
            if self._folder is not None:
                with _as_results_error(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                require_writable(self._folder / "track.txt")
                return
        if out is not None:
            require_writable(out)

    def add(self, source: str, events: Sequence[Event]) -> None:
        """Takes the events of the next recording."""
        if self._form == "audacity" and self._out is not None:
            target = self._out if self._folder is None else self._track(self._folder, source)
            with _as_results_error(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file:
                file.write(audacity_labels(events).encode())
            self._texts.append("")
            return
        text = self._text(source, events)
        self._texts.append(text)
        if self._out is None and not self._json:
            if self._form == "table":
                self._rows += [{"source": source} | row for row in _table_rows(events)]
            else:
                print(text, end="", flush=True)

    def finish(self, document: dict[str, Any]) -> None:
        """Ends the output.

        Args:
            document: all results for JSON, with "results", of which those that failed have an "error".
        """
        failed = [result["source"] for result in document["results"] if "error" in result]
        if self._json or (self._form == "json" and self._out is None):
            print(json_text(document, indent=2))
        if self._out is None:
            if self._rows:
                self._print_table()
        elif self._texts:
            if self._form != "audacity":
                self._write(f"{json_text(document, indent=2)}\n" if self._form == "json" else "".join(self._texts))
            note(f"{self._out}: events of {counted(len(self._texts), 'recording')}")
        else:
            note(f"{self._out}: not written, since no recording was heard")
        if failed and self._several:
            note(f"{len(failed)} of {counted(len(document['results']), 'recording')} failed: {', '.join(failed)}")

    def _write(self, text: str) -> None:
        assert self._out is not None
        try:
            with replacing(self._out) as file:
                file.write(text.encode())
        except ResultsError:  # for example, the disk is full by now
            if not self._json:
                sys.stdout.write(text)
            raise

    def _print_table(self) -> None:
        if self._several:
            print_table(self._rows, optional=())
            return
        print(escaped(self._rows[0]["source"]))
        if self._rows[0]["start"] == _NONE:
            print("  nothing above the thresholds\n")
        else:
            print_table([{k: text for k, text in row.items() if k != "source"} for row in self._rows], optional=())

    def _text(self, source: str, events: Sequence[Event]) -> str:
        if self._form == "csv":
            return events_csv(events, source=source, header=not self._texts)
        if self._form == "audacity":
            return audacity_labels(events)
        if self._form == "json":
            return ""
        name = f"{escaped(source)}  " if self._several else ""
        lines = [f"{name}{event_line(event)}\n" for event in events]
        return "".join(lines) if lines or not self._several else f"{name}nothing above the thresholds\n"

    def _track(self, folder: Path, source: str) -> Path:
        """Returns the file of a recording's track: its path within the folder that was named, with the suffix .txt."""
        roots = (Path(name) for name in self._audio if Path(name).is_dir())
        root = next((root for root in roots if Path(source).is_relative_to(root)), Path(source).parent)
        name = Path("stdin") if source == STDIN else Path(source).relative_to(root)
        for track in _names(name):
            if str(track).casefold() not in self._tracks and not _of_others(folder / track):
                break
        self._tracks.add(str(track).casefold())
        return folder / track


def _names(name: Path) -> Iterator[Path]:
    """Yields names for a track, from which the first is taken that no other recording has."""
    yield name.with_suffix(".txt")
    yield name.with_name(f"{name.name}.txt")
    number = 2
    while True:
        yield name.with_name(f"{name.name}.{number}.txt")
        number += 1


def _of_others(path: Path) -> bool:
    """Returns whether there is a file that is no label track, such as the user's own notes."""
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_bytes().splitlines()
        return not all(re.match(rb"\d+\.\d+\t\d+\.\d+\t", line) for line in lines)
    return False


@contextlib.contextmanager
def _as_results_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; expected a folder that can be written") from error


def event_row(event: Event) -> dict[str, Any]:
    """Returns an event as JSON types."""
    row = {"start": event.start, "end": event.end, "label": event.label, "index": event.index, "score": event.score}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def event_line(event: Event) -> str:
    """Returns an event as one line of text."""
    return f"{clock(event.start)} – {clock(event.end)}  {event.score:.2f}  {escaped(event.label)}"


def _table_rows(events: Sequence[Event]) -> list[dict[str, str]]:
    if not events:
        return [{"start": _NONE, "end": _NONE, "label": "nothing above the thresholds", "score": _NONE}]
    return [{"start": clock(e.start), "end": clock(e.end), "label": e.label, "score": f"{e.score:.3f}"} for e in events]
