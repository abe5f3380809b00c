"""Events: turns scores over time into sounds with a start and an end.

`EventDetector` takes one step of scores after another. It returns each event as soon as no later step can change it
(`EventDetector.push`), or tells of every event from its start on (`EventDetector.changes`). Frame-wise scores are used
as steps directly; `WindowSteps` turns the scores of overlapping windows into steps.
tests/vectors/events.json and onsets.json define the algorithm by examples, for this and for other implementations.
"""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panns_litert.errors import EventError, LabelError
from panns_litert.escape import csv_cell, escaped
from panns_litert.results import Row
from panns_litert.sense import unknown_label
from panns_litert.strict import MOST_BYTES, parse_json, printable, read_text, shown

_TOLERANCE = 1e-6  # seconds; sums of hops differ by rounding, and no step or gap is that short

TAIL_PERCENT = 5
"""A rest after the last window that is shorter than this share of a window, in percent, is left out. A window that ends
with so short a rest does not find a sound that begins there: tests/bench/last_window.py, docs/tag.md."""

THRESHOLDS = ("on", "off", "min_duration", "max_gap", "cooldown")
"""The thresholds that `EventSettings` has for all classes and for single ones."""

UPDATE_RISE = 0.1
"""An event that was told is told again when its score has risen by this much since."""

UPDATE_SECONDS = 10.0
"""An event that goes on is told again after this time."""

Phase = Literal["start", "update", "end"]


@dataclass(frozen=True, kw_only=True)
class Event(Row):
    """One sound.

    Attributes:
        label: name of the class.
        index: place of the class among the scores.
        start, end: seconds.
        score: the highest score within it, 0 … 1.
    """

    label: str
    index: int
    start: float
    end: float
    score: float


@dataclass(frozen=True, kw_only=True)
class EventChange(Row):
    """News of an event: it started, it goes on, or it ended.

    Attributes:
        phase: "start", "update" or "end". An event has one start and one end; start, number and class stay the same.
        number: of the event, 1, 2, … in the order of the starts of one recording or stream.
        label: name of the class.
        index: place of the class among the scores.
        start: seconds.
        end: seconds, of the event so far.
        score: the highest score so far, 0 … 1.
    """

    phase: Phase
    number: int
    label: str
    index: int
    start: float
    end: float
    score: float


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """Thresholds that decide when an event opens, closes, merges with the next one, is dropped, or is told.

    Attributes:
        on: an event opens when the score is ≥ `on`.
        off: an event stays open while the score is ≥ `off`; 0 ≤ off ≤ on ≤ 1. Half of `on` if not given.
        min_duration: shorter events are dropped; seconds, ≥ 0.
        max_gap: two events of a class merge if the gap between them is ≤ `max_gap`; seconds, ≥ 0.
        cooldown: for this long after the end of an event that was told, no other one of its class is told; seconds,
            ≥ 0. Only `EventDetector.changes` and what uses it tell events; the cool-down removes no event elsewhere.
        classes: by class name, any of these five values for that class alone.

    Raises:
        EventError: a value is out of range.

    >>> EventSettings(on=0.5, off=0.3, classes={"Dog": {"on": 0.7}}).of("Dog")
    {'on': 0.7, 'off': 0.3, 'min_duration': 0.0, 'max_gap': 0.0, 'cooldown': 0.0}
    """

    on: float = 0.2  # measured on real recordings: tests/bench/event_defaults.py, docs/events.md
    off: float | None = None
    min_duration: float = 0.0
    max_gap: float = 0.0
    cooldown: float = 0.0
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Mapping) or not all(isinstance(own, Mapping) for own in self.classes.values()):
            raise EventError(f"classes = {self.classes!r}; expected thresholds by class name")
        # Copies, so that the settings cannot change after this check.
        object.__setattr__(self, "classes", {name: dict(own) for name, own in self.classes.items()})
        _require_thresholds(self.of(None), "")
        for name, thresholds in self.classes.items():
            if unknown := [key for key in thresholds if key not in THRESHOLDS]:
                raise EventError(f"{name}: unknown {unknown[0]!r}; expected any of {', '.join(THRESHOLDS)}")
            if none := [key for key, value in thresholds.items() if value is None]:
                raise EventError(f"{name}: {none[0]} = None; expected a number ≥ 0")
            _require_thresholds(self.of(name), f"{name}: ")

    def of(self, label: str | None) -> dict[str, float]:
        """Returns the five values of a class, or the general values for None."""
        own = {} if label is None else self.classes.get(label, {})
        values = {name: own.get(name, getattr(self, name)) for name in THRESHOLDS}
        return values | {"off": _half(values["on"]) if values["off"] is None else values["off"]}

    @classmethod
    def from_json(cls, text: str) -> EventSettings:
        """Reads the settings from a JSON object with the fields of this class, all optional.

        Raises:
            EventError: the text is not JSON, a field is unknown or repeated, or a value is invalid.
        """
        data = parse_json(text, "settings", error=EventError)
        if not isinstance(data, dict):
            raise EventError(f"{shown(data)}; expected a JSON object")
        if unknown := [key for key in data if key not in (*THRESHOLDS, "classes")]:
            raise EventError(
                f"unknown {unknown[0]!r}; expected any of {', '.join(THRESHOLDS)}, classes "
                "(panns_litert.TaggerSettings reads a file with a model, a temperature or groups)"
            )
        if "off" in data and data["off"] is None:
            raise EventError("off = None; expected a number ≥ 0, or no off for half of on")
        return cls(**data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EventSettings:
        """Reads the settings from a JSON file, as `from_json` does.

        Raises:
            EventError: the file cannot be read or is invalid; the message names it.
        """
        text = read_text(path, error=EventError, what="a JSON file of thresholds", most_bytes=MOST_BYTES)
        try:
            return cls.from_json(text)
        except EventError as error:
            raise EventError(f"{printable(path)}: {error}") from error


def _half(on: Any) -> Any:
    return on / 2 if isinstance(on, (int, float)) and 0 <= on <= 1 else on  # refused where it is checked


def _require_thresholds(values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        # The upper bound: JSON allows integers that are too large for a float.
        if type(value) not in (int, float, np.float64) or not 0 <= value <= sys.float_info.max:
            raise EventError(f"{where}{name} = {value!r}; expected a number ≥ 0")
    if not values["off"] <= values["on"] <= 1:
        raise EventError(f"{where}on = {values['on']!r}, off = {values['off']!r}; expected off ≤ on ≤ 1")


class EventDetector:
    """Finds the events of every class in a sequence of steps of scores. It handles one recording or stream at a time.

    An event opens at the first step with a score ≥ `on` and stays open while the score is ≥ `off`. A step below `off`
    or a missing step closes it; it ends at the end of its last step. It merges with the next event of its class if that
    event opens at most `max_gap` seconds later. After merging, events shorter than `min_duration` are dropped. Scores
    are compared as float64, and the float32 nearest to 0.7 is below a threshold of 0.7.

    `push` and `finish` return the events. `changes` and `finish_changes` tell of the same events, from their start on.
    Use one pair for a recording or stream.

    Args:
        labels: class names, in the order of the scores.
        settings: thresholds.

    Raises:
        LabelError: the settings name a class that is not in `labels`, or `labels` is empty or has repeats.

    >>> detector = EventDetector(("Speech", "Dog"), EventSettings(on=0.5, off=0.3))
    >>> detector.push([0.1, 0.9], 0.0, 1.0)
    ()
    >>> detector.push([0.1, 0.1], 1.0, 2.0) + detector.finish()
    (Event(label='Dog', index=1, start=0.0, end=1.0, score=0.9),)
    """

    def __init__(self, labels: Sequence[str], settings: EventSettings | None = None) -> None:
        self.labels = tuple(labels)
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise LabelError(f"{len(self.labels)} labels, {len(set(self.labels))} different; expected different names")
        self.set_settings(EventSettings() if settings is None else settings)
        self._none = np.zeros(len(self.labels), bool)
        self._restart()

    def set_settings(self, settings: EventSettings) -> None:
        """Changes the thresholds from the next step on. An event that is open lasts while its score is at least the new
        `off`. One that was told ends, even if it is now too short.

        Raises:
            LabelError: the settings name a class that is not in `labels`. The former ones stay.
        """
        for name in settings.classes:
            if name not in self.labels:
                raise LabelError(unknown_label(name, self.labels))
        thresholds = np.tile(np.array([*settings.of(None).values()], np.float64), (len(self.labels), 1))
        for name in settings.classes:
            thresholds[self.labels.index(name)] = list(settings.of(name).values())
        self._on, self._off, self._min_duration, self._max_gap, self._cooldown = thresholds.T.copy()
        self.settings = settings

    def _restart(self) -> None:
        classes = len(self.labels)
        self._held = np.zeros(classes, bool)  # the class has an event that is open, or closed and may still merge
        self._open = np.zeros(classes, bool)
        self._start = np.zeros(classes)
        self._end = np.zeros(classes)
        self._score = np.zeros(classes)
        self.previous_end = -math.inf  # of the last step, seconds
        self._number = np.zeros(classes, int)  # of the event that is held; 0 if it has not been told
        self._told_end = np.zeros(classes)  # of that event, when it was told last
        self._told_score = np.zeros(classes)
        self._quiet_until = np.full(classes, -math.inf)  # end of the cool-down
        self._starts = 0  # number of events that were told

    def push(self, scores: ArrayLike | None, start: float, end: float) -> tuple[Event, ...]:
        """Takes the next step and returns the events that are now final, ordered by start, then by index.

        An event is final at the first step that ends more than `max_gap` after it and does not continue it.

        Args:
            scores: (classes,), 0 … 1. None if there are none for this time: the step is missing, and is known to be.
            start, end: times of the step in seconds; start < end, and start is not before the previous step's end.

        Raises:
            EventError: the step is invalid. It is ignored, and further steps may follow.
        """
        return tuple(event for _, event in self._advanced(scores, start, end))

    def finish(self) -> tuple[Event, ...]:
        """Returns the remaining events, ordered by start, then by index, and resets the detector."""
        events = tuple(event for _, event in self._take(self._held))
        self._restart()
        return events

    def changes(self, scores: ArrayLike | None, start: float, end: float) -> tuple[EventChange, ...]:
        """Takes the next step and tells what has changed: the ends, then the starts, then the updates, each ordered by
        start, then by index.

        A start is told at the first step with which the event has lasted for `min_duration`. So what was told is never
        taken back: an end follows every start, and the ends are the events of `push` and `finish`, at the same steps.
        Parts that merge are one event, with one start.

        An update is told at a step of the event if its score is `UPDATE_RISE` higher than when it was told last, or if
        it is `UPDATE_SECONDS` longer. So an event of n seconds has at most 10 + n / 10 updates.

        The cool-down of a class lasts for `cooldown` seconds from the end of an event that was told. An event that ends
        in it is not told at all. An event that is still going on at its end is told then, with the time of its start.

        Args:
            scores, start, end: as for `push`.

        Raises:
            EventError: as for `push`.
        """
        ends = self._ends(self._advanced(scores, start, end))
        if not self._open.any():
            return ends
        telling = self._open & self._long_enough()
        told = self._number > 0
        starts = telling & ~told & (self._end >= self._quiet_until - _TOLERANCE)
        risen = self._score >= self._told_score + UPDATE_RISE - _TOLERANCE
        updates = telling & told & (risen | (self._end >= self._told_end + UPDATE_SECONDS - _TOLERANCE))
        return (*ends, *self._tell("start", starts), *self._tell("update", updates))

    def finish_changes(self) -> tuple[EventChange, ...]:
        """Returns the remaining ends, ordered by start, then by index, and resets the detector."""
        ends = self._ends(self._take(self._held))
        self._restart()
        return ends

    def _advanced(self, scores: ArrayLike | None, start: float, end: float) -> list[tuple[int, Event]]:
        """Takes the next step and returns the events that are now final, each with the number under which it was told,
        or 0."""
        self._require_times(start, end)
        values = None if scores is None else self._checked(scores)
        if values is None or start > self.previous_end + _TOLERANCE:
            self._open[:] = False
        self.previous_end = end
        rising = self._none if values is None else values >= self._on
        if not self._held.any() and not rising.any():  # a shortcut for most steps of most recordings
            return []
        if values is not None:
            self._open &= values >= self._off
        opening = rising & ~self._open
        # A later step may start up to the tolerance before this one ends.
        reached = np.where(opening, start, end - _TOLERANCE)
        final = self._held & ~self._open & (reached > self._end + self._max_gap + _TOLERANCE)
        events = self._take(final) if final.any() else []
        if values is None:
            return events
        new = opening & ~self._held
        self._start[new] = start
        self._score[new] = 0.0
        self._held |= new
        self._open |= opening
        self._end[self._open] = end
        np.maximum(self._score, values, out=self._score, where=self._open)
        return events

    def _take(self, final: NDArray[np.bool_]) -> list[tuple[int, Event]]:
        whole = final & (self._long_enough() | (self._number > 0))  # told, and too short for thresholds that came later
        taken = [(int(self._number[i]), self._event(i)) for i in self._ordered(whole)]
        self._held = self._held & ~final
        told = final & (self._number > 0)
        self._quiet_until[told] = self._end[told] + self._cooldown[told]
        self._number[final] = 0
        return taken

    def _long_enough(self) -> NDArray[np.bool_]:
        long_enough: NDArray[np.bool_] = self._end - self._start >= self._min_duration - _TOLERANCE
        return long_enough

    def _ordered(self, chosen: NDArray[np.bool_]) -> list[int]:
        """Returns the classes by the start of their events, equal starts by index."""
        return sorted(np.flatnonzero(chosen).tolist(), key=lambda i: float(self._start[i]))

    def _event(self, i: int) -> Event:
        start, end, score = float(self._start[i]), float(self._end[i]), float(self._score[i])
        return Event(label=self.labels[i], index=i, start=start, end=end, score=score)

    def _ends(self, taken: list[tuple[int, Event]]) -> tuple[EventChange, ...]:
        return tuple(_change("end", number, event) for number, event in taken if number)

    def _tell(self, phase: Phase, chosen: NDArray[np.bool_]) -> list[EventChange]:
        told = []
        for i in self._ordered(chosen):
            if phase == "start":
                self._starts += 1
                self._number[i] = self._starts
            self._told_end[i], self._told_score[i] = self._end[i], self._score[i]
            told.append(_change(phase, int(self._number[i]), self._event(i)))
        return told

    def _checked(self, scores: ArrayLike) -> NDArray[np.float64]:
        values = _as_scores(scores)
        if values.shape != (len(self.labels),):
            raise EventError(f"scores of shape {values.shape}; expected ({len(self.labels)},), one per class")
        if not (values.min() >= 0.0 and values.max() <= 1.0):  # also false for NaN
            i = int(np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))[0])
            raise EventError(f"score {values[i]} of {self.labels[i]!r}; expected 0 … 1")
        return values

    def _require_times(self, start: float, end: float) -> None:
        if not (math.isfinite(start) and math.isfinite(end) and start < end):
            raise EventError(f"step {start} … {end} s; expected finite times, start < end")
        if start < self.previous_end - _TOLERANCE:
            raise EventError(
                f"step {start} … {end} s, the last one ends at {self.previous_end} s; expected steps in order"
            )


def _change(phase: Phase, number: int, event: Event) -> EventChange:
    return EventChange(phase=phase, number=number, **vars(event))


def _as_scores(scores: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise EventError(f"scores are not numbers ({error}); expected one per class") from error


class Step(NamedTuple):
    """Scores (classes,) and the time that they stand for, in seconds: `detector.push(*step)`."""

    scores: NDArray[np.float64]
    start: float
    end: float


class WindowSteps:
    """Turns the scores of overlapping windows into steps that do not overlap, one window at a time.

    Window k covers the time from k · hop to k · hop + window. Its step is the hop around its centre. The first step
    begins at 0. The last ends with the recording, also if its window was shifted back to end there. So the steps cover
    all of the recording. Only `finish` knows which step is the last one, so `push` returns the step of the previous
    window.

    Args:
        window: length of a window, seconds.
        hop: seconds from one window to the next, 0 < hop ≤ window.

    Raises:
        EventError: hop or window is out of range.

    >>> steps = WindowSteps(window=10.0, hop=5.0)
    >>> [*steps.push([0.1]), *steps.push([0.9]), *steps.finish(15.0)]
    [Step(scores=array([0.1]), start=0.0, end=7.5), Step(scores=array([0.9]), start=7.5, end=15.0)]
    """

    def __init__(self, *, window: float, hop: float) -> None:
        if not (math.isfinite(window) and 0.0 < hop <= window):
            raise EventError(f"hop {hop} s, window {window} s; expected 0 < hop ≤ window")
        self.window, self.hop = window, hop
        self._restart()

    def _restart(self) -> None:
        self._count = 0
        self._last: NDArray[np.float64] | None = None

    def count(self, seconds: float) -> int:
        """Returns the number of windows of a recording: those that fit into it, and one for the rest if that is at
        least `TAIL_PERCENT` of a window. A recording shorter than a window has one.

        Args:
            seconds: length of the recording, > 0.

        Raises:
            EventError: `seconds` is out of range.
        """
        if not (math.isfinite(seconds) and seconds > 0.0):
            raise EventError(f"a recording of {seconds} s; expected a length > 0")
        after_first = max(0.0, seconds - self.window)
        full = math.floor((after_first + _TOLERANCE) / self.hop)
        return 1 + full + (after_first - full * self.hop >= self.window * TAIL_PERCENT / 100 - _TOLERANCE)

    def push(self, scores: ArrayLike | None) -> tuple[Step, ...]:
        """Takes the next window's scores (classes,) and returns the step of the previous window, if it had scores.

        None stands for a window without scores. It has no step.
        """
        steps: tuple[Step, ...] = ()
        if self._last is not None:
            steps = (Step(self._last, self.begin(self._count - 1), self.begin(self._count)),)
        self._last = None if scores is None else _as_scores(scores).copy()
        self._count += 1
        return steps

    def finish(self, seconds: float) -> tuple[Step, ...]:
        """Returns the last step, if the last window had scores, and resets this instance.

        Args:
            seconds: length of the recording.

        Raises:
            EventError: the recording ends before the last step begins, because there were more windows than `count`.
        """
        steps: tuple[Step, ...] = ()
        if self._last is not None:
            start = self.begin(self._count - 1)
            if not (math.isfinite(seconds) and seconds > start):
                raise EventError(
                    f"a recording of {seconds} s with {self._count} windows; expected more than {start} s, or no "
                    "window after the first one that reaches the end"
                )
            steps = (Step(self._last, start, seconds),)
        self._restart()
        return steps

    def begin(self, k: int) -> float:
        """Returns the time in seconds at which the step of window k = 0, 1, … begins. It ends where the next one
        begins, unless it is the last one."""
        return k * self.hop + (self.window - self.hop) / 2 if k else 0.0


def events_csv(events: Iterable[Event], *, source: str | None = None, header: bool = True) -> str:
    """Returns the events as CSV: start, end, label, index, score. Times are in seconds with six decimals.

    Text that a spreadsheet would run as a formula gets an apostrophe in front (`panns_litert.escape.csv_cell`).

    Args:
        events: the events.
        source: name of their recording, for a first column `source`; without that column if not given.
        header: whether the first row has the names of the columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    first = () if source is None else (csv_cell(source),)
    if header:
        writer.writerow((*(() if source is None else ("source",)), "start", "end", "label", "index", "score"))
    for event in events:
        times, label = (f"{event.start:.6f}", f"{event.end:.6f}"), csv_cell(event.label)
        writer.writerow((*first, *times, label, event.index, f"{event.score:.6f}"))
    return text.getvalue()


def audacity_labels(events: Iterable[Event]) -> str:
    """Returns the events as an Audacity label track: a line of start, end (seconds) and label per event."""
    # A line break or tab in a label would be read as the next column or row.
    return "".join(f"{e.start:.6f}\t{e.end:.6f}\t{escaped(' '.join(e.label.split()))}\n" for e in events)
