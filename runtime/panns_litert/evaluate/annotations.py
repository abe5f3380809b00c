"""Long recordings with annotated events: reads Audacity's label files, and cuts the recordings into clips."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panns_litert.audio import AudioBlocks
from panns_litert.errors import AudioError, DatasetError
from panns_litert.evaluate.clips import Skipped
from panns_litert.evaluate.rows import Listing, Row
from panns_litert.strict import shown

CUT_SECONDS = 10.0
"""Length of the clips that long recordings are cut into, if no other one is wanted."""

_MOST_LABELS = 1 << 24  # bytes of a label file
_SUFFIXES = (".txt", ".labels.txt")
_DIGITS = 6  # of a time in seconds: Audacity writes as many


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A sound in a recording.

    Attributes:
        start, end: seconds, 0 ≤ start ≤ end.
        label: its class.
    """

    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How recordings with events are cut into clips.

    Attributes:
        seconds: length of a clip, > 0. A shorter recording is one clip.
        overlap: least share of an event that a clip must hold to have its label, 0 … 1; of an event that is longer
            than a clip, least share of the clip.
        background: label of clips without any event; None for no such clips.

    Raises:
        DatasetError: a value is out of range.
    """

    seconds: float = CUT_SECONDS
    overlap: float = 0.5
    background: str | None = None

    def __post_init__(self) -> None:
        for name, least, most in (("seconds", 0.0, math.inf), ("overlap", 0.0, 1.0)):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if not number or not least < value <= most or not math.isfinite(value):
                limit = "above 0" if most == math.inf else "above 0 and at most 1"
                raise DatasetError(f"{name} = {shown(value)}; expected a number {limit}")
        if self.background is not None and (not isinstance(self.background, str) or not self.background.strip()):
            raise DatasetError(f"background = {shown(self.background)}; expected a class name, or None")


def label_file(recording: Path) -> Path | None:
    """Returns the file with Audacity's labels beside a recording: of the same name, with .txt; None if there is none.

    A text file that begins with something else is none.
    """
    for suffix in _SUFFIXES:
        path = recording.with_suffix(suffix)
        if os.path.isfile(path) and _begins_with_times(path):
            return path
    return None


def _begins_with_times(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline(1 << 12)
    except OSError:
        return False
    parts = first.split("\t")
    return not first.strip() or (len(parts) >= 2 and _seconds(parts[0]) is not None and _seconds(parts[1]) is not None)


def read_labels(path: Path) -> list[Annotation]:
    r"""Reads a label file of Audacity: lines of start, end and label, separated by tabs, in seconds.

    A label without a length, at a point, has the same start and end. Lines that begin with \ are the frequencies of the
    label above.

    Raises:
        DatasetError: the file cannot be read, or a line has another form.
    """
    expected = "start, end and label in each line, separated by tabs, as Audacity's Export Labels writes them"
    try:
        if path.stat().st_size > _MOST_LABELS:
            raise DatasetError(f"{path}: {path.stat().st_size} bytes; {expected}")
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; expected a label file") from error
    events = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("\\"):
            continue
        parts = line.rstrip("\r").split("\t")
        label = parts[2].strip() if len(parts) > 2 else ""
        if not label:
            raise DatasetError(f"{path}, line {number}: {shown(line[:80])} has no label; expected {expected}")
        events.append(annotation(parts[0], parts[1], label, where=f"{path}, line {number}"))
    return events


def annotation(start: str, end: str, label: str, *, where: str) -> Annotation:
    """Returns an event.

    Raises:
        DatasetError: the times are no numbers ≥ 0, or the end is before the start.
    """
    first, last = _seconds(start), _seconds(end)
    if first is None or last is None or not 0 <= first <= last:
        raise DatasetError(
            f"{where}: from {shown(start)} to {shown(end)}; expected two times in seconds, 0 ≤ start ≤ end"
        )
    return Annotation(start=first, end=last, label=label)


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def cut_recording(
    path: Path, events: Sequence[Annotation], cutting: Cutting, found: Listing, *, fold: str | None = None
) -> None:
    """Cuts one recording, and adds its clips to a listing. No file is written."""
    if not path.is_file():
        found.skipped.append(Skipped(path=path, reason="no such file"))
        return
    try:
        length = _length(path)
    except AudioError as error:
        found.skipped.append(Skipped(path=path, reason=str(error)))
        return
    late = [one for one in events if one.start >= length]
    if late:
        found.skipped.append(
            Skipped(
                path=path, reason=f"{late[0].label!r} at {late[0].start:g} s of {length:g} s is not in the recording"
            )
        )
    for start, end, labels in cut([one for one in events if one.start < length], length, cutting):
        whole = start == 0 and end == length
        first, last = (None, None) if whole else (round(start, _DIGITS), round(end, _DIGITS))
        found.rows.append(Row(path=path, labels=labels, fold=fold, start=first, end=last))


def _length(path: Path) -> float:
    """Returns the length of a recording in seconds: as the header states it, or decoded."""
    with AudioBlocks(path, sample_rate=16000) as blocks:
        if blocks.seconds is None:
            for _ in blocks:
                pass
        assert blocks.seconds is not None
        return blocks.seconds


def cut(events: Sequence[Annotation], length: float, cutting: Cutting) -> list[tuple[float, float, tuple[str, ...]]]:
    """Returns the clips of a recording: start, end and labels, in the order of time.

    An event in the middle of a clip, or several clips over an event that is longer than one, evenly spaced and without
    gaps. An event that lies in the clip of another one gets none of its own. A clip has the labels of all events of
    which it holds the share `overlap`. Background clips lie in the gaps between events, side by side; there are at most
    as many as clips with events, or one where there is no event, evenly spread over the recording.

    Args:
        events: the events of the recording, each starting before its end.
        length: of the recording, seconds.
        cutting: length of a clip, share, and label of the background.

    >>> cut([Annotation(start=2.0, end=3.0, label="dog")], 10.0, Cutting(seconds=4.0, background="none"))
    [(0.5, 4.5, ('dog',)), (3.0, 7.0, ('none',))]
    """
    size = min(cutting.seconds, length)
    last = length - size
    starts: list[float] = []
    # Long events first: a short one within them needs no clip of its own.
    for one in sorted(events, key=lambda one: (one.end - one.start <= size, one.start, one.end)):
        end = min(one.end, length)
        if any(start <= one.start and end <= start + size for start in starts):
            continue
        if end - one.start <= size:
            starts.append(min(max(0.0, (one.start + end - size) / 2), last))
        else:
            starts += np.linspace(one.start, end - size, math.ceil((end - one.start) / size)).tolist()
    clips = [(start, start + size, _labels(events, start, start + size, length, cutting)) for start in set(starts)]
    if cutting.background is not None:
        quiet = _gaps(events, length, size)
        wanted = min(len(quiet), max(1, len(clips)))
        for i in np.linspace(0, len(quiet) - 1, wanted).round().astype(int):
            clips.append((quiet[i], quiet[i] + size, (cutting.background,)))
    return sorted(clips)


def _labels(events: Sequence[Annotation], start: float, end: float, length: float, cutting: Cutting) -> tuple[str, ...]:
    labels = []
    for one in events:
        last = min(one.end, length)
        heard = min(last, end) - max(one.start, start)
        least = cutting.overlap * min(last - one.start, end - start)
        if heard >= least - 1e-9 and heard >= 0:
            labels.append(one.label)
    return tuple(dict.fromkeys(labels))


def _gaps(events: Sequence[Annotation], length: float, size: float) -> list[float]:
    """Returns where clips without an event may start, side by side."""
    starts, at = [], 0.0
    for one in [*sorted(events, key=lambda one: one.start), Annotation(start=length, end=length, label="")]:
        count = int((one.start - at) / size + 1e-9)
        starts += [at + i * size for i in range(count)]
        at = max(at, one.end)
    return starts
