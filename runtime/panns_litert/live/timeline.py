"""Turns blocks of a sound card or a network stream, and when they arrived, into sound with true times and losses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import MonoResampler
from panns_litert.live.clock import SampleClock
from panns_litert.live.parts import Heard, Lost

_LEAST_GAP = 0.05  # seconds behind that are taken for missing sound where nothing else says so
_NOT_BACK, _BACK = "; not back yet", "; back now"
_FIRST_TOLD, _MOST_TOLD = 1.0, 3600.0  # seconds after which a loss that goes on is told first, and at least


class Timeline:
    """The time line of one source: what was heard on it, and what was lost.

    Where the sound breaks off, how much was lost is measured: by so much do the blocks behind the break arrive later
    than they would have without it. Blocks may still be late for other reasons, so the earliest of the first `settle`
    seconds counts, and these blocks are held until then.

    Args:
        sample_rate: rate of the sound that it yields, Hz.
        channel: as for `MonoResampler`.
        settle: seconds behind a break until the loss is measured.
        late: seconds by which blocks may arrive late before sound is taken to be missing.
        past: seconds of the past that the first block behind a break may bring: a loss is not told up to now.

    Raises:
        AudioError: the rate or the channel is out of range.
    """

    def __init__(self, sample_rate: int, *, channel: int | None, settle: float, late: float, past: float) -> None:
        self._sample_rate, self._channel = sample_rate, channel
        self._settle, self._late, self._past = settle, late, past
        MonoResampler(sample_rate, sample_rate=sample_rate, channel=channel)  # raises now if one is out of range
        self._clock = SampleClock(sample_rate)  # over positions: heard and lost samples, at the wanted rate
        self._begin, self._done = 0.0, 0  # position at which the resampler started, and samples that it returned
        self._taken = 0  # samples that it was given
        self._mono: MonoResampler | None = None
        self._held: list[tuple[NDArray[np.generic], float]] | None = []  # None while nothing is held
        self._until = 0.0
        self._why: str | None = None
        self._fresh = True  # nothing was heard or lost so far
        self._told = _FIRST_TOLD
        self._noticed: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was noticed in the samples so far, one phrase each."""
        return tuple(self._noticed | dict.fromkeys(self._mono.warnings if self._mono else ()))

    @property
    def _position(self) -> float:
        return self._begin + (self._taken * self._sample_rate / self._mono.rate if self._mono else 0.0)

    def start(self, now: float, offset: float) -> None:
        """Starts the time line at an `elapsed_time`, with the wall clock's offset: what does not come is lost."""
        self._clock.add(0, now, offset)

    def restart(self, rate: int, offset: float) -> Iterator[Heard | Lost]:
        """Takes samples of this rate from now on. Yields what is left of those before."""
        tail: list[Heard | Lost] = []
        if self._held:  # they are of the rate before
            tail += self._settled(offset)
        tail += self._tail()
        if self._mono is None or self._mono.rate != rate:
            self._mono = MonoResampler(rate, sample_rate=self._sample_rate, channel=self._channel)
        yield from tail

    def push(self, samples: NDArray[np.generic], arrival: float, offset: float) -> Iterator[Heard | Lost]:
        """Takes a block (n, channels) whose last sample has arrived, and yields what is known now.

        Args:
            samples: the block, n ≥ 1; `restart` told its rate.
            arrival: `elapsed_time` then.
            offset: `wall_offset` then.
        """
        assert self._mono is not None
        self._clock.set_offset(offset)
        if self._held is None:
            end = self._position + self._seconds(samples) * self._sample_rate
            if arrival - self._clock.elapsed(end) <= self._late:
                yield from self._heard(samples, arrival, offset)
                return
            self._held = []
        if not self._held:
            self._until = arrival + self._settle
        self._held.append((samples, arrival))
        if arrival >= self._until:
            yield from self._settled(offset)

    def broken(self, why: str, offset: float) -> Iterator[Heard | Lost]:
        """Tells that the sound breaks off here; what comes next follows a loss."""
        if self._held:  # too soon to measure a loss; if there was one, it adds to the one that follows
            yield from self._settled(offset, measured=self._why is not None)
        self._held, self._why, self._told = [], why, _FIRST_TOLD

    def waiting(self, now: float, offset: float) -> Iterator[Heard | Lost]:
        """Tells a loss that goes on, from time to time: first 1 s of it, then in lengths that double up to 1 h."""
        self._clock.set_offset(offset)
        if self._why is None or self._held:
            return
        behind = now - self._past - self._clock.elapsed(self._position)
        if behind >= self._told:
            self._told = min(2 * self._told, _MOST_TOLD)
            self._why = self._why.removesuffix(_NOT_BACK) + _NOT_BACK
            yield from self._lost(behind, self._why)

    def finish(self, offset: float) -> Iterator[Heard | Lost]:
        """Ends the time line: yields what is left."""
        if self._held:
            yield from self._settled(offset)
        yield from self._tail()

    def _seconds(self, samples: NDArray[np.generic]) -> float:
        assert self._mono is not None
        return len(samples) / self._mono.rate

    def _settled(self, offset: float, *, measured: bool = True) -> Iterator[Heard | Lost]:
        assert self._held is not None
        held, why, self._held, self._why = self._held, self._why, None, None
        if self._fresh:
            self._clock = SampleClock(self._sample_rate)
        else:
            position, behind = self._position, np.inf
            for samples, arrival in held:
                position += self._seconds(samples) * self._sample_rate
                behind = min(behind, arrival - self._clock.elapsed(position))
            if measured and (why is not None or behind >= _LEAST_GAP):
                why = why or "sound is missing: it comes later than it should"
                back = why.removesuffix(_NOT_BACK)
                yield from self._lost(max(0.0, behind), why if back == why else back + _BACK)
        position = self._position
        for samples, arrival in held:  # all of them first: the earliest tells the times
            position += self._seconds(samples) * self._sample_rate
            self._clock.add(round(position), arrival, offset)
        for samples, arrival in held:
            yield from self._heard(samples, arrival, offset)

    def _heard(self, samples: NDArray[np.generic], arrival: float, offset: float) -> Iterator[Heard]:
        assert self._mono is not None
        converted = self._mono.push(samples)  # first: it may refuse them
        self._fresh = False
        self._taken += len(samples)
        self._clock.add(round(self._position), arrival, offset)
        yield from self._returned(converted)

    def _returned(self, samples: NDArray[np.float32]) -> Iterator[Heard]:
        if len(samples):
            yield Heard(samples=samples, time=self._clock.time(self._begin + self._done))
            self._done += len(samples)

    def _lost(self, seconds: float, why: str) -> Iterator[Heard | Lost]:
        yield from self._tail()
        self._fresh = False
        time = self._clock.time(self._begin)
        self._begin += seconds * self._sample_rate
        yield Lost(seconds=seconds, why=why, time=time)

    def _tail(self) -> Iterator[Heard]:
        """Ends the resampler: what comes next has nothing to do with what was before."""
        if self._mono is None:
            return
        self._noticed |= dict.fromkeys(self._mono.warnings)
        end = self._position
        tail = list(self._returned(self._mono.finish()))
        self._begin, self._taken, self._done = end, 0, 0
        yield from tail
