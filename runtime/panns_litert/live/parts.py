"""What passes from sources of live sound to the listener, and from the listener to sinks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from panns_litert.events import Phase as Phase
from panns_litert.results import Row
from panns_litert.windows import Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """Sound of a source.

    Attributes:
        samples: (n,) float32, mono, at the rate that the source was made for; n ≥ 1.
        time: when the first sample was heard: seconds since the epoch, by this computer's clock.
    """

    samples: NDArray[np.float32]
    time: float


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Sound that a source did not hear: an overflow, a microphone that was unplugged, a broken connection.

    Attributes:
        seconds: how much, ≥ 0.
        why: the cause, and what the source did, one phrase.
        time: when the loss began: seconds since the epoch.
        last: whether no sound follows.
    """

    seconds: float
    why: str
    time: float
    last: bool = False


class Source(AbstractContextManager["Source"], Protocol):
    """Where live sound comes from. It is opened as a context and iterated over once.

    A source resamples its sound to one rate and mixes it to mono, or takes one channel. Iteration waits for sound, and
    ends when there will be no more. `close` may be called from another thread; then the iteration ends soon.

    Attributes:
        name: what notices call it, such as "microphone"; different for the sources of one listener.
        live: whether sound goes on if nobody reads it. The listener skips sound of a live source that is faster than
            the model; any other source, such as a file at full speed, waits.
    """

    name: str
    live: bool

    def __iter__(self) -> Iterator[Heard | Lost]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class EventNotice(Row):
    """News of one event: it started, it goes on, or it ended.

    Attributes:
        kind: "start", "update" or "end". An event has one start and one end, in this order.
        id: the same for all notices of an event, different for every event; letters, digits, - and _.
        source: name of the source.
        label, index: the class.
        start: seconds since the source's first sample. A notice of kind "update" may move it to an earlier time.
        end: seconds, of the event so far.
        score: the highest score so far, 0 … 1.
        time: when the event started: ISO 8601 with the zone, milliseconds.
        end_time: the same for `end`.
        told: when this notice was made, the same.
    """

    kind: Phase
    id: str
    source: str
    label: str
    index: int
    start: float
    end: float
    score: float
    time: str
    end_time: str
    told: str


@dataclass(frozen=True, kw_only=True)
class LossNotice(Row):
    """Sound that was not heard or not tagged.

    Attributes:
        kind: "lost".
        source: name of the source.
        start: when the loss began, seconds since the source's first sample.
        seconds: how much was lost.
        why: the cause, one phrase.
        time: when the loss began: ISO 8601 with the zone.
    """

    kind: Literal["lost"]
    source: str
    start: float
    seconds: float
    why: str
    time: str


Notice = EventNotice | LossNotice


class Sink:
    """Where notices go. A sink overrides what it needs; the rest does nothing.

    The listener calls a sink from one thread. A call returns at once and raises nothing: what may wait or fail (a
    network, a disk) runs in a thread of the sink, with a bounded queue, and the sink counts what it could not deliver.

    Attributes:
        name: what messages call it, such as "mqtt".
        ended: True when nobody reads any more, as behind a closed pipe. The listener then ends, too.
    """

    name = "sink"
    ended = False

    def samples(self, source: str, samples: NDArray[np.float32], start: float) -> None:
        """Takes the samples (n,) float32 that a source heard, before they are tagged. They start at `start` seconds."""

    def window(self, source: str, window: Window, scores: NDArray[np.float64]) -> None:
        """Takes a window and its scores (classes,) as the listener's `Sense` leaves them."""

    def notice(self, notice: Notice) -> None:
        """Takes a notice."""

    def close(self) -> None:
        """Delivers what can be delivered within a few seconds, and ends."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be delivered so far, one sentence each: "mqtt: 3 notices dropped, broker down since …"."""
        return ()


def notice_row(notice: Notice) -> dict[str, Any]:
    """Returns a notice as JSON types, times in seconds rounded to microseconds."""
    values = ((name, getattr(notice, name)) for name in notice.__dataclass_fields__)
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values}
