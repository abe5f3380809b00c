"""Data sets in tables: this project's CSV, and those of published data sets, recognised by their columns."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from panns_litert.audio import scan_folder
from panns_litert.errors import DatasetError
from panns_litert.escape import utf8
from panns_litert.evaluate.annotations import Annotation, Cutting, annotation, cut_recording
from panns_litert.evaluate.rows import Listing, Row
from panns_litert.sense import audioset_nodes
from panns_litert.strict import shown
from panns_litert.words import counted

COLUMNS = ("file", "labels", "fold", "start", "end", "recording")
"""Columns of this project's CSV. `labels` are separated by semicolons; the columns behind it are optional."""

_DELIMITERS = ",;\t"
_FILES = ("file", "filename", "file_name", "fname", "path", "filepath", "file_path", "audio", "wav")
_LABELS = ("label", "labels", "class", "category", "class_name", "classname", "tags", "event_label")
_FOLDS = ("fold", "split", "subset")
_EVENT_TIMES = {"onset", "offset"}
_TIMES = ("start", "end", "start_time", "end_time", "start_seconds", "end_seconds", "onset", "offset")
_AUDIOSET = ["YTID", "start_seconds", "end_seconds", "positive_labels"]
# A clip of AudioSet: the video's 11 characters, as PANNs' download names it with a Y, with times behind it or without.
_YTID = re.compile(r"Y?([\w-]{11})([_.].*)?", re.ASCII)

_MOST_BYTES = 1 << 29  # AudioSet's unbalanced segments have 100 MB

_Cells = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """A table whose rows are clips.

    Attributes:
        name: what messages call it.
        columns: the columns that it is recognised by, in lower case.
        file: column of the file.
        labels, separator: column of the labels, and what separates them; None for one label.
        fold, recording: columns, where there may be some.
        span: whether the columns start and end are the part of the file.
        folders: folders that the files may be in, relative to the table; a cell's name in braces stands for its value.
    """

    name: str
    columns: frozenset[str]
    file: str
    labels: str
    separator: str | None = None
    fold: str | None = None
    recording: str | None = None
    span: bool = False
    folders: tuple[str, ...] = (".",)


_OWN = _Layout(
    name="a CSV of this project",
    columns=frozenset({"file", "labels"}),
    file="file",
    labels="labels",
    separator=";",
    fold="fold",
    recording="recording",
    span=True,
)
_LAYOUTS = (
    _OWN,
    _Layout(  # https://github.com/karolpiczak/ESC-50: meta/esc50.csv, audio/
        name="ESC-50's CSV",
        columns=frozenset({"filename", "fold", "target", "category"}),
        file="filename",
        labels="category",
        fold="fold",
        recording="src_file",
        folders=("../audio", "audio", "."),
    ),
    _Layout(  # https://urbansounddataset.weebly.com/urbansound8k.html: metadata/UrbanSound8K.csv, audio/fold1/
        name="UrbanSound8K's CSV",  # start and end are times in the recording that the clip was cut from
        columns=frozenset({"slice_file_name", "fsid", "fold", "class"}),
        file="slice_file_name",
        labels="class",
        fold="fold",
        recording="fsid",
        folders=("../audio/fold{fold}", "audio/fold{fold}", "fold{fold}", "."),
    ),
    _Layout(  # https://zenodo.org/records/4060432: FSD50K.ground_truth/dev.csv, FSD50K.dev_audio/
        name="FSD50K's CSV",
        columns=frozenset({"fname", "labels", "mids"}),
        file="fname",
        labels="labels",
        separator=",",
        fold="split",
        folders=("../FSD50K.{table}_audio", "../{table}_audio", "FSD50K.{table}_audio", "."),
    ),
)
_EXPECTED = (
    f"{', '.join(COLUMNS[:3])} (labels separated by ;); or the columns of ESC-50 (filename, fold, target, category), "
    "UrbanSound8K (slice_file_name, fsID, fold, class), FSD50K (fname, labels, mids), AudioSet's segments, events "
    "(filename, onset, offset, event_label), or one column of files (file, filename, fname, path, audio) with one of "
    "labels (label, class, category)"
)


def table_rows(path: Path, cutting: Cutting) -> Listing:
    """Lists the clips of a table.

    Raises:
        DatasetError: the table cannot be read, its columns are not known, or a row lacks something.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DatasetError(f"{path}: {path.stat().st_size} bytes; expected a CSV of at most {_MOST_BYTES}")
        # The names of files are bytes. Those that are no UTF-8 are kept; in a label they are refused.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        if text.startswith("#"):
            return _segments(path, text)
        names, rows = _parsed(path, text)
        found = _events(path, names, rows, cutting) if names >= _EVENT_TIMES else _clips(path, names, rows)
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: {error}; expected a CSV in UTF-8") from error
    if len({row.fold is None for row in found.rows}) > 1:
        raise DatasetError(f"{path}: some rows have a fold and some have none; expected one for every row, or for none")
    return found


def _parsed(path: Path, text: str) -> tuple[set[str], Iterator[tuple[int, _Cells]]]:
    """Returns the names of the columns, in lower case, and the rows with their line numbers."""
    header = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=lambda one: (header.count(one), -_DELIMITERS.index(one)))
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    given = [name.strip() for name in table.fieldnames or ()]
    names = [name.casefold() for name in given if name]  # pandas writes a column without a name
    if len(set(names)) < len(names):
        raise DatasetError(f"{path}: columns {utf8(', '.join(given))}; expected each name once")
    table.fieldnames = [name.casefold() for name in given]

    def rows() -> Iterator[tuple[int, _Cells]]:
        for row in table:
            more = [cell for cell in row.get(None) or () if cell.strip()]
            if more:
                raise DatasetError(
                    f"{path}, line {table.line_num}: {shown(more[0])} has no column; expected a cell for each of "
                    f"{utf8(', '.join(given))}, and one with {shown(delimiter)} in it in quotes"
                )
            yield table.line_num, {name: value for name, value in row.items() if name and value is not None}

    return set(names), rows()


def _layout(path: Path, names: set[str]) -> _Layout:
    """Returns the layout that the columns fit."""
    fitting = [layout for layout in _LAYOUTS if layout.columns <= names]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        both = " and ".join(layout.name for layout in fitting)
        raise DatasetError(f"{path}: columns {utf8(', '.join(sorted(names)))} fit {both}; expected {_EXPECTED}")
    files, labels, folds = ([name for name in known if name in names] for known in (_FILES, _LABELS, _FOLDS))
    if len(files) != 1 or len(labels) != 1 or len(folds) > 1:
        raise DatasetError(
            f"{path}: columns {utf8(', '.join(sorted(names))) or 'none'}; expected {_EXPECTED}, in UTF-8"
        )
    # FSDKaggle2019 has several labels in a cell: fname,labels
    separator = "," if (files[0], labels[0]) == ("fname", "labels") else ";"
    return _Layout(
        name=f"a CSV of {files[0]} and {labels[0]}",
        columns=frozenset({files[0], labels[0]}),
        file=files[0],
        labels=labels[0],
        separator=separator,
        fold=folds[0] if folds else None,
        folders=(".", "audio", "../audio", "{table}", "../{table}", "audio_{table}", "../audio_{table}"),
    )


def _clips(path: Path, names: set[str], rows: Iterator[tuple[int, _Cells]]) -> Listing:
    layout, found = _layout(path, names), Listing(layout="")
    place = _finder(path, layout.folders)
    unread = [] if layout in _LAYOUTS else [name for name in _TIMES if name in names]
    parts: dict[str, list[str]] = {}  # of each file, the cells that are not read
    for line, cells in rows:
        if not cells.get(layout.file) or layout.labels not in cells:
            raise DatasetError(f"{path}, line {line}: no file or no labels; expected both")
        times = [cells.get(name, "") for name in unread]
        if parts.setdefault(cells[layout.file], times) != times:
            raise DatasetError(
                f"{path}, line {line}: another part of {shown(cells[layout.file])}, by columns {', '.join(unread)}; "
                "expected file, labels, start and end for parts of files, or filename, onset, offset and event_label "
                "for events"
            )
        text = cells[layout.labels]
        labels = [label.strip() for label in (text.split(layout.separator) if layout.separator else [text])]
        recording = cells.get(layout.recording or "", "").strip()
        start, end = (
            _time(cells.get(name, ""), f"{path}, line {line}") if layout.span else None for name in ("start", "end")
        )
        if end is not None and end <= (start or 0.0):
            raise DatasetError(
                f"{path}, line {line}: from {start or 0.0:g} to {end:g} s; expected an end behind the start"
            )
        found.rows.append(
            Row(
                path=place(cells[layout.file], cells),
                labels=tuple(dict.fromkeys(label for label in labels if label)),
                fold=cells.get(layout.fold or "", "").strip() or None,
                start=start,
                end=end,
                recording=recording or None,
            )
        )
    if unread:
        found.notes.append(
            f"not read in {path}: {', '.join(unread)}; each row is the whole file. For parts of files, name the "
            "columns file, labels, start and end"
        )
    found.layout = f"{layout.name}, {found.size}"
    return found


def _events(path: Path, names: set[str], rows: Iterator[tuple[int, _Cells]], cutting: Cutting) -> Listing:
    """Cuts the recordings of a table of events, such as DCASE's: filename, onset, offset, event_label."""
    fitting = [layout.name for layout in _LAYOUTS if layout.columns <= names]
    files, labels, folds = ([name for name in known if name in names] for known in (_FILES, _LABELS, _FOLDS))
    if fitting or len(files) != 1 or len(labels) != 1 or len(folds) > 1:
        raise DatasetError(f"{path}: columns {utf8(', '.join(sorted(names)))}; expected {_EXPECTED}")
    place = _finder(path, (".", "audio", "../audio", "{table}", "../{table}", "../audio/{table}"))
    recordings: dict[tuple[Path, str | None], list[Annotation]] = {}
    for line, cells in rows:
        where = f"{path}, line {line}"
        if not cells.get(files[0]):
            raise DatasetError(f"{where}: no file; expected one")
        fold = cells.get(folds[0], "").strip() or None if folds else None
        events = recordings.setdefault((place(cells[files[0]], cells), fold), [])
        label = cells.get(labels[0], "").strip()
        # DCASE lists a recording without events with empty cells.
        if label or cells.get("onset") or cells.get("offset"):
            if not label:
                raise DatasetError(f"{where}: an event without a label; expected one")
            events.append(annotation(cells.get("onset", ""), cells.get("offset", ""), label, where=where))
    found = Listing(layout="")
    for (recording, fold), events in recordings.items():
        cut_recording(recording, events, cutting, found, fold=fold)
    found.layout = (
        f"events in {counted(len(recordings), 'recording')}, cut into clips of {cutting.seconds:g} s: {found.size}"
    )
    return found


def _segments(path: Path, text: str) -> Listing:
    """Lists AudioSet's segments: rows of YTID, start, end and mids behind lines of comment.

    A file is the clip, not the video that the times are of.
    """
    expected = 'YTID, start_seconds, end_seconds, "mid,mid", as in AudioSet\'s segments'
    comments = [line for line in text.split("\n")[:10] if line.startswith("#")]
    if not any(all(name in line for name in _AUDIOSET) for line in comments):
        raise DatasetError(f"{path}: begins with {shown(comments[0][:60])}; expected the columns of {_EXPECTED}")
    names = {node.id: node.name for node in audioset_nodes()}
    files: dict[str, Path] = {}
    for file in scan_folder(path.parent).audio:
        if found := _YTID.fullmatch(file.stem):
            files.setdefault(found[1], file)
    listing, unknown = Listing(layout=""), 0
    parts: dict[str, list[str]] = {}  # the times of each video
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    for cells in rows:
        if not cells or cells[0].startswith("#"):
            continue
        if len(cells) != 4 or not cells[0]:
            raise DatasetError(f"{path}, line {rows.line_num}: {shown(cells)}; expected {expected}")
        if parts.setdefault(cells[0], cells[1:3]) != cells[1:3]:
            raise DatasetError(
                f"{path}, line {rows.line_num}: another part of the video {shown(cells[0])}; expected one of each, "
                "as in AudioSet's segments: a file does not tell which one it is"
            )
        mids = [mid.strip() for mid in cells[3].split(",") if mid.strip()]
        unknown += sum(mid not in names for mid in mids)
        labels = tuple(dict.fromkeys(names[mid] for mid in mids if mid in names))
        listing.rows.append(Row(path=files.get(cells[0], path.parent / f"{cells[0]}.wav"), labels=labels))
    if unknown:
        listing.notes.append(f"{counted(unknown, 'label')} of {path} are not in AudioSet's ontology, and were left out")
    there = sum(row.path.is_file() for row in listing.rows)
    listing.layout = f"AudioSet's segments, {there} of {counted(len(listing.rows), 'clip')} found"
    return listing


def _finder(table: Path, folders: tuple[str, ...]) -> Callable[[str, _Cells], Path]:
    """Returns a function that finds the file of a cell: in the first of the folders that has it, with .wav added if the
    name has no suffix and no such file exists."""
    known: dict[str, bool] = {}

    def find(name: str, cells: _Cells) -> Path:
        places = [folder.format_map(_Known(cells, table.stem)) for folder in folders]
        tried = [table.parent / place / name for place in places]
        for path in tried:
            for candidate in (path, path.with_name(f"{path.name}.wav")):
                folder = os.path.dirname(candidate)
                if folder not in known:
                    known[folder] = os.path.isdir(folder)
                if known[folder] and os.path.isfile(candidate):
                    return _tidy(candidate)
        return _tidy(tried[0])

    return find


class _Known(dict[str, str]):
    """The cells of a row, and the name of the table without its suffix."""

    def __init__(self, cells: _Cells, table: str) -> None:
        super().__init__(cells | {"table": table})

    def __missing__(self, key: str) -> str:
        return ""


def _tidy(path: Path) -> Path:
    """Returns a path without "." and, where that is the same file, without "..": meta/../audio becomes audio."""
    plain = Path(os.path.normpath(path))
    return plain if ".." in path.parts and os.path.exists(plain) and plain.samefile(path) else path


def _time(text: str, where: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise DatasetError(f"{where}: {shown(text)}; expected a time in seconds, ≥ 0, or nothing")
    return value
