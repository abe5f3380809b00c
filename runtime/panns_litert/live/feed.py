"""What browsers are told: a bounded history of windows, events and losses, and the messages of every change."""

from __future__ import annotations

import json
import math
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from panns_litert.escape import escaped
from panns_litert.live.parts import EventNotice, Notice, Sink, notice_row
from panns_litert.windows import Window

SPAN_SECONDS = 180.0
"""How much of the past the timeline shows."""

_MOST_WINDOWS = 1000  # of a source, for short hops
_MOST_SOURCES = 16
_MOST_EVENTS = 200
_MOST_LOSSES = 50
_MOST_SCORES = 12  # of a window: the highest ones
_LEAST_SCORE = 0.02  # the page draws scores in steps of 0.05
_MOST_MESSAGES = 500  # a browser that is further behind gets the whole state again
_CLIP_SECONDS = 120.0  # how long the sound of an event may take to be saved after the event's end
_ID = re.compile("[A-Za-z0-9_-]{1,200}")


class Clips(Protocol):
    """What saves the sound of events, such as the sink of clips."""

    def clip_path(self, id: str) -> Path | None:
        """Returns the file with an event's sound, or None if there is none (yet, or any more)."""


class Message(NamedTuple):
    """A change: its number, 1, 2, …, what it is about, and JSON."""

    number: int
    kind: str
    data: str


class PageSink(Sink):
    """Keeps what the page shows: the windows of the last three minutes, the last 200 events and the last 50 losses.

    Every change is a message with a number. The last 500 are kept, once for all browsers: each asks for those after
    the last one that it got, and gets the whole state if it is too far behind. So a slow browser costs nothing, and the
    listener never waits for one.

    Args:
        labels: the classes, in the order of the scores that `window` gets.
        model: name of the model.
        window, hop: seconds, as `StreamTagger` has them.
        sources: names of the sources that will be heard; others are added when they come.
        clips: what saves the sound of events; None if nothing does.

    Attributes:
        run: a word that tells this history from that of another run of the program.
    """

    name = "page"

    def __init__(
        self,
        labels: Sequence[str],
        *,
        model: str,
        window: float,
        hop: float,
        sources: Sequence[str] = (),
        clips: Clips | None = None,
    ) -> None:
        self.run = secrets.token_hex(4)
        self._about = {"model": escaped(model), "window": window, "hop": hop, "span": SPAN_SECONDS}
        self._labels = [escaped(label) for label in labels]
        self._hop, self._margin, self._clips = hop, (window - hop) / 2, clips
        self._windows: dict[str, deque[dict[str, Any]]] = {escaped(name): _of_source() for name in sources}
        self._first: dict[str, float] = {}  # start of each source's window 0, seconds
        self._events: dict[str, dict[str, Any]] = {}
        self._losses: deque[dict[str, Any]] = deque(maxlen=_MOST_LOSSES)
        self._unsaved: dict[str, float] = {}  # events whose sound is not there yet; until when it may come
        self._messages: deque[Message] = deque(maxlen=_MOST_MESSAGES)
        self._number = 0
        self._ended = False
        self._lock = threading.Lock()

    def window(self, source: str, window: Window, scores: NDArray[np.float64]) -> None:
        """Takes a window and its scores (classes,)."""
        best = np.argsort(scores)[::-1][:_MOST_SCORES]
        name = escaped(source)
        with self._lock:
            if name not in self._windows and len(self._windows) >= _MOST_SOURCES:
                return
            if window.index == 0 or name not in self._first:
                self._first[name] = window.start - window.index * self._hop
            # The part of the timeline that it stands for begins here, as `WindowSteps` has it.
            begin = self._first[name] + (window.index * self._hop + self._margin if window.index else 0.0)
            row = {
                "source": name,
                "begin": round(begin, 3),
                "end": round(window.end, 3),
                "unusable": None if window.unusable is None else escaped(window.unusable),
                "scores": [[int(i), round(float(scores[i]), 3)] for i in best if scores[i] >= _LEAST_SCORE],
            }
            kept = self._windows.setdefault(name, _of_source())
            kept.append(row)
            while kept[0]["end"] < window.end - SPAN_SECONDS:
                kept.popleft()
            self._tell("window", row)

    def notice(self, notice: Notice) -> None:
        """Takes a notice."""
        row = notice_row(notice)
        for name in ("source", "label", "why"):
            if name in row:
                row[name] = escaped(row[name])
        with self._lock:
            if not isinstance(notice, EventNotice):
                self._losses.append(row)
                self._tell("loss", row)
                return
            row["clip"] = self._events.get(notice.id, row).get("clip", False)
            self._events[notice.id] = row
            if len(self._events) > _MOST_EVENTS:
                over = (key for key, event in self._events.items() if event["kind"] == "end")
                gone = next(over, next(iter(self._events)))
                del self._events[gone]
                self._unsaved.pop(gone, None)
            if self._clips is not None and notice.id in self._events and not row["clip"]:
                # The sound of a long event is saved before its end.
                self._unsaved[notice.id] = time.monotonic() + (_CLIP_SECONDS if notice.kind == "end" else math.inf)
            self._tell("event", row)

    def close(self) -> None:
        """Tells the page that listening has ended."""
        with self._lock:
            self._ended = True
            self._tell("ended", {})

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Adds a message of another kind, of which the history knows nothing."""
        with self._lock:
            self._tell(kind, data)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        self._number += 1
        self._messages.append(Message(self._number, kind, _json(data)))

    def since(self, number: int) -> list[Message] | None:
        """Returns the messages after the one with this number, or None if some of them are no longer kept."""
        with self._lock:
            if not 0 <= self._number - number <= len(self._messages):
                return None
            return [message for message in self._messages if message.number > number]

    def state(self, **more: Any) -> Message:
        """Returns everything that the page shows as one message, with the number of the last change.

        Args:
            more: further parts of the state, as JSON types.
        """
        with self._lock:
            data = self._about | {
                "run": self.run,
                "labels": self._labels,
                "windows": {name: list(rows) for name, rows in self._windows.items()},
                "events": list(self._events.values()),
                "losses": list(self._losses),
                "ended": self._ended,
            }
            return Message(self._number, "state", _json(data | more))

    def look_for_clips(self) -> None:
        """Tells of every event whose sound has been saved since the last call. It is called about once a second."""
        with self._lock:
            waiting = list(self._unsaved.items())
        for key, until in waiting:
            found = self.clip_path(key) is not None
            if found or time.monotonic() > until:
                with self._lock:
                    self._unsaved.pop(key, None)
                    if found and key in self._events:
                        self._events[key]["clip"] = True
                        self._tell("clip", {"id": key})

    def clip_path(self, key: str) -> Path | None:
        """Returns the file with the sound of an event that the page shows, by the event's id; else None."""
        if self._clips is None or _ID.fullmatch(key) is None or key not in self._events:
            return None
        path = self._clips.clip_path(key)
        return path if path is not None and path.is_file() else None


def _of_source() -> deque[dict[str, Any]]:
    return deque(maxlen=_MOST_WINDOWS)


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)
