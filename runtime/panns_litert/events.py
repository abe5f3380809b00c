"""Events: scores over time in; what was heard, from when to when, out.

`EventDetector` takes one step of scores after another and gives every event as soon as nothing that follows can
change it. Frame-wise scores are steps as they are; `WindowSteps` makes steps of overlapping windows' scores.
tests/vectors/events.json defines the algorithm by examples, for this and any other implementation.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panns_litert.errors import EventError, LabelError
from panns_litert.sense import unknown_label

# Seconds. Sums of hops miss one another by rounding; no step or gap is that short.
_TOLERANCE = 1e-6

_THRESHOLDS = ("on", "off", "min_duration", "max_gap")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One sound, from `start` to `end` in seconds, with the highest score within, 0 … 1."""

    label: str
    index: int
    start: float
    end: float
    score: float


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """When an event opens, closes, merges with the next and counts at all.

    Attributes:
        on: an event opens at a score ≥ that.
        off: it goes on while the score is ≥ that; 0 ≤ off ≤ on ≤ 1. Half of `on` if not given.
        min_duration: a shorter event is dropped; seconds, ≥ 0.
        max_gap: an event merges with the next of its class that opens no later than that after it closed;
            seconds, ≥ 0.
        classes: by class name, any of these four for that class alone.

    Raises:
        EventError: a value is out of range.

    >>> EventSettings(on=0.5, off=0.3, classes={"Dog": {"on": 0.7}}).of("Dog")
    {'on': 0.7, 'off': 0.3, 'min_duration': 0.0, 'max_gap': 0.0}
    """

    on: float = 0.2  # measured on real recordings: tests/bench/event_defaults.py, docs/recordings.md
    off: float | None = None
    min_duration: float = 0.0
    max_gap: float = 0.0
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Mapping) or not all(isinstance(own, Mapping) for own in self.classes.values()):
            raise EventError(f"classes = {self.classes!r}; expected thresholds by class name")
        # Copies: the settings stay what was checked here.
        object.__setattr__(self, "classes", {name: dict(own) for name, own in self.classes.items()})
        _require_thresholds(self.of(None), "")
        for name, thresholds in self.classes.items():
            if unknown := [key for key in thresholds if key not in _THRESHOLDS]:
                raise EventError(f"{name}: unknown {unknown[0]!r}; expected any of {', '.join(_THRESHOLDS)}")
            _require_thresholds(self.of(name), f"{name}: ")

    def of(self, label: str | None) -> dict[str, float]:
        """on, off, min_duration and max_gap of a class; of no class in particular for None."""
        own = {} if label is None else self.classes.get(label, {})
        values = {name: own.get(name, getattr(self, name)) for name in _THRESHOLDS}
        return values | {"off": _half(values["on"]) if values["off"] is None else values["off"]}

    @classmethod
    def from_json(cls, text: str) -> EventSettings:
        """The settings from a JSON object with the fields of this class, each optional, and no other.

        Raises:
            EventError: not JSON, an unknown or repeated field, or a value that is not valid.
        """
        try:
            data = json.loads(text, object_pairs_hook=_without_repetition)
        except EventError:
            raise
        except (ValueError, RecursionError) as error:  # ValueError: JSONDecodeError, or thousands of digits
            raise EventError(f"not JSON: {error}") from error
        if not isinstance(data, dict):
            raise EventError(f"{data!r}; expected a JSON object")
        if unknown := [key for key in data if key not in (*_THRESHOLDS, "classes")]:
            raise EventError(f"unknown {unknown[0]!r}; expected any of {', '.join(_THRESHOLDS)}, classes")
        return cls(**data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EventSettings:
        """The settings from a JSON file, as `from_json` takes it.

        Raises:
            EventError: the file cannot be read or is not valid; the message names it.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise EventError(f"{os.fspath(path)}: {error.strerror}; expected a JSON file of thresholds") from error
        except (UnicodeDecodeError, EventError) as error:
            raise EventError(f"{os.fspath(path)}: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise EventError(f"{next(n for n in names if names.count(n) > 1)!r} twice; expected each name once")
    return data


def _half(on: Any) -> Any:
    return on / 2 if isinstance(on, (int, float)) else on  # anything else is refused with `on`


def _require_thresholds(values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        # The upper end: JSON knows integers that no float holds.
        if type(value) not in (int, float, np.float64) or not 0 <= value <= sys.float_info.max:
            raise EventError(f"{where}{name} = {value!r}; expected a number ≥ 0")
    if not values["off"] <= values["on"] <= 1:
        raise EventError(f"{where}on = {values['on']!r}, off = {values['off']!r}; expected off ≤ on ≤ 1")


class EventDetector:
    """Finds the events of every class in steps of scores that come in order. One recording or stream at a time.

    An event opens at the first step with a score ≥ `on`, goes on while the score is ≥ `off`, and closes at the end
    of its last step: at a step below `off`, or where steps are missing. It merges with the next event of its class
    if that opens at most `max_gap` seconds after it closed; only then are events shorter than `min_duration`
    dropped. Scores are compared as float64: the float32 nearest to 0.7 is below a threshold of 0.7.

    Args:
        labels: class names, in the order of the scores.
        settings: thresholds.

    Raises:
        LabelError: the settings name a class that is not among the labels, or the labels are not all different.

    >>> detector = EventDetector(("Speech", "Dog"), EventSettings(on=0.5, off=0.3))
    >>> detector.push([0.1, 0.9], 0.0, 1.0)
    ()
    >>> detector.push([0.1, 0.1], 1.0, 2.0) + detector.finish()
    (Event(label='Dog', index=1, start=0.0, end=1.0, score=0.9),)
    """

    def __init__(self, labels: Sequence[str], settings: EventSettings | None = None) -> None:
        self.labels = tuple(labels)
        self.settings = settings = EventSettings() if settings is None else settings
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise LabelError(f"{len(self.labels)} labels, {len(set(self.labels))} different; expected different names")
        for name in settings.classes:
            if name not in self.labels:
                raise LabelError(unknown_label(name, self.labels))
        thresholds = np.array([list(settings.of(label).values()) for label in self.labels], np.float64)
        self._on, self._off, self._min_duration, self._max_gap = thresholds.T.copy()
        self._restart()

    def _restart(self) -> None:
        classes = len(self.labels)
        self._held = np.zeros(classes, bool)  # an event that is open, or closed and may still merge
        self._open = np.zeros(classes, bool)
        self._start = np.zeros(classes)
        self._end = np.zeros(classes)
        self._score = np.zeros(classes)
        self._previous_end = -math.inf

    def push(self, scores: ArrayLike, start: float, end: float) -> tuple[Event, ...]:
        """Takes the next step and gives the events that became final, by start, then by index.

        An event is final at the first step that starts more than `max_gap` after its end.

        Args:
            scores: (classes,), 0 … 1.
            start, end: of the step, seconds; start < end, and no earlier than the end of the step before.

        Raises:
            EventError: the step is not valid. It is left out as if it had not come; others may follow.
        """
        values = self._checked(scores, start, end)
        if start > self._previous_end + _TOLERANCE:
            self._open[:] = False
        self._previous_end = end
        rising = values >= self._on
        if not self._held.any() and not rising.any():  # most steps of most recordings
            return ()
        # Of closed events only: an open one ends where this step begins.
        final = self._held & (start > self._end + self._max_gap + _TOLERANCE)
        events = self._take(final) if final.any() else ()
        self._open &= values >= self._off
        opening = rising & ~self._open
        new = opening & ~self._held
        self._start[new] = start
        self._score[new] = 0.0
        self._held |= new
        self._open |= opening
        self._end[self._open] = end
        np.maximum(self._score, values, out=self._score, where=self._open)
        return events

    def finish(self) -> tuple[Event, ...]:
        """Gives the events that are left, by start, then by index. The detector then begins anew."""
        events = self._take(self._held)
        self._restart()
        return events

    def _take(self, final: NDArray[np.bool_]) -> tuple[Event, ...]:
        long_enough = final & (self._end - self._start >= self._min_duration - _TOLERANCE)
        events = (
            Event(
                label=self.labels[i],
                index=int(i),
                start=float(self._start[i]),
                end=float(self._end[i]),
                score=float(self._score[i]),
            )
            for i in np.flatnonzero(long_enough)
        )
        self._held = self._held & ~final
        return tuple(sorted(events, key=lambda event: event.start))  # stable: by index where starts are equal

    def _checked(self, scores: ArrayLike, start: float, end: float) -> NDArray[np.float64]:
        values = _as_scores(scores)
        if values.shape != (len(self.labels),):
            raise EventError(f"scores of shape {values.shape}; expected ({len(self.labels)},), one per class")
        if not (values.min() >= 0.0 and values.max() <= 1.0):  # false for NaN, too
            i = int(np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))[0])
            raise EventError(f"score {values[i]} of {self.labels[i]!r}; expected 0 … 1")
        if not (math.isfinite(start) and math.isfinite(end) and start < end):
            raise EventError(f"step {start} … {end} s; expected finite times, start < end")
        if start < self._previous_end - _TOLERANCE:
            raise EventError(f"step {start} … {end} s after one that ends at {self._previous_end} s; expected order")
        return values


def _as_scores(scores: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise EventError(f"scores are not numbers ({error}); expected one per class") from error


class Step(NamedTuple):
    """Scores (classes,) and the stretch of time that they stand for, seconds: `detector.push(*step)`."""

    scores: NDArray[np.float64]
    start: float
    end: float


class WindowSteps:
    """Turns the scores of overlapping windows into steps that lie side by side, as the windows come.

    Window k is heard from k · hop to k · hop + window; its step is the hop around its centre. The first step begins
    at 0 and the last ends with the recording, so that the steps cover all of it. Which one is last is known only
    at the end: each step is given with the window after it.

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
        """How many windows a recording takes: the first one that reaches its end is the last.

        Args:
            seconds: length of the recording, > 0.

        Raises:
            EventError: no length.
        """
        if not (math.isfinite(seconds) and seconds > 0.0):
            raise EventError(f"a recording of {seconds} s; expected a length > 0")
        return 1 + max(0, math.ceil((seconds - self.window - _TOLERANCE) / self.hop))

    def push(self, scores: ArrayLike) -> tuple[Step, ...]:
        """Takes the next window's scores (classes,) and gives the step of the window before, if there was one."""
        steps = (
            () if self._last is None else (Step(self._last, self._start(self._count - 1), self._start(self._count)),)
        )
        self._last = _as_scores(scores).copy()
        self._count += 1
        return steps

    def finish(self, seconds: float) -> tuple[Step, ...]:
        """Gives the last step, if there was a window, and begins anew.

        Args:
            seconds: length of the recording.

        Raises:
            EventError: the recording ends before the last step begins: there were more windows than `count` says.
        """
        steps: tuple[Step, ...] = ()
        if self._last is not None:
            start = self._start(self._count - 1)
            if not (math.isfinite(seconds) and seconds > start):
                raise EventError(
                    f"a recording of {seconds} s with {self._count} windows; expected more than {start} s, or fewer "
                    "windows: none after the one that reaches the end"
                )
            steps = (Step(self._last, start, seconds),)
        self._restart()
        return steps

    def _start(self, k: int) -> float:
        return k * self.hop + (self.window - self.hop) / 2 if k else 0.0


def events_csv(events: Iterable[Event]) -> str:
    """The events as CSV: start, end, label, index, score; times in seconds to the microsecond."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("start", "end", "label", "index", "score"))
    for event in events:
        writer.writerow((f"{event.start:.6f}", f"{event.end:.6f}", event.label, event.index, f"{event.score:.6f}"))
    return text.getvalue()


def audacity_labels(events: Iterable[Event]) -> str:
    """The events as an Audacity label track: start, end and label a line, tab-separated, times in seconds."""
    # A line break or tab within a label would be read as the next column or row.
    return "".join(f"{event.start:.6f}\t{event.end:.6f}\t{' '.join(event.label.split())}\n" for event in events)
