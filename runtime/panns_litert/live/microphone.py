"""A microphone as a source: at its own rate, through unplugging, overflow and sleep."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import BLOCK_SECONDS, Microphone, MicrophoneStream, find_microphone, same_microphone
from panns_litert.errors import AudioError
from panns_litert.live.clock import awake_time, elapsed_time, wall_offset
from panns_litert.live.parts import Heard, Lost
from panns_litert.live.sources import BaseSource
from panns_litert.live.timeline import Timeline

MOST_SECONDS = 60.0
"""Seconds of sound that may wait for a slow reader. What comes then is lost."""

_SETTLE_SECONDS = 0.5  # behind a loss, until it is measured
_LATE_SECONDS = 1.0  # by which sound may come late: more than all buffers hold
_PAST_SECONDS = 1.0  # from opening it to its first sound
_STALLED_SECONDS = 5.0  # without sound, until the microphone is opened again
_SLEPT_SECONDS = 0.5  # of sleep that are noticed
_POLL_SECONDS = 0.2
_FIRST_WAIT, _MOST_WAIT = 0.25, 10.0  # between two tries to open it


class _Block(NamedTuple):
    samples: NDArray[np.float32]
    arrival: float  # elapsed_time
    slept: float  # of the computer so far, seconds
    lost: bool  # whether sound was lost before


class MicrophoneSource(BaseSource):
    """A microphone, opened at its own rate and number of channels; resampled, and mixed to mono.

    What is lost is told with its length: an overflow, a microphone that was unplugged or does not deliver, sleep of the
    computer. It is opened again until it is there, the same one by its name, after 0.25 s and then ever longer, up to
    10 s. A loss that goes on is told in parts: first of 1 s, then of lengths that double, up to 1 h.

    Args:
        rate: wanted sample rate, Hz.
        device: number of the device, its name or a part of it; the system's default if not given.
        channel: number of the channel to take, from 1; the mean of all if not given.
        name: what notices call it.

    Attributes:
        microphone: which it is, once it was opened.

    Raises:
        MissingDependencyError: sounddevice or its library PortAudio is not installed.
        AudioError: when it is opened: there is no such microphone, or several, or it is in use or not allowed.
    """

    live = True

    def __init__(
        self, rate: int, *, device: str | int | None = None, channel: int | None = None, name: str = "microphone"
    ) -> None:
        super().__init__(name)
        self._device, self._channel = device, channel
        self._line = Timeline(rate, channel=channel, settle=_SETTLE_SECONDS, late=_LATE_SECONDS, past=_PAST_SECONDS)
        self._blocks: queue.Queue[_Block | None] = queue.Queue()
        self._stream: MicrophoneStream | None = None
        self._overflow = False
        self.microphone: Microphone | None = None

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """What was noticed in the sound so far, one phrase each."""
        return self._line.warnings

    def __enter__(self) -> Self:
        if self._stream is None:
            self.microphone = find_microphone(self._device)
            self._open(self.microphone)
        return self

    def _open(self, microphone: Microphone) -> None:
        blocks: queue.Queue[_Block | None] = queue.Queue()
        self._blocks, self._overflow = blocks, False

        def heard(samples: NDArray[np.float32], overflow: bool) -> None:
            self._overflow = self._overflow or overflow or blocks.qsize() * BLOCK_SECONDS > MOST_SECONDS
            if blocks.qsize() * BLOCK_SECONDS > MOST_SECONDS:
                return
            now = elapsed_time()
            blocks.put(_Block(samples, now, now - awake_time(), self._overflow))
            self._overflow = False

        self._stream = MicrophoneStream(microphone, heard, channel=self._channel)

    def close(self) -> None:
        super().close()
        self._blocks.put(None)
        if self._stream is not None:
            self._stream.close()

    def __iter__(self) -> Iterator[Heard | Lost]:
        self.__enter__()
        line, slept, wait = self._line, elapsed_time() - awake_time(), _FIRST_WAIT
        last, rate = elapsed_time(), None
        line.start(last, wall_offset())
        while not self._closed.is_set():
            if self._stream is None:
                yield from line.waiting(elapsed_time(), wall_offset())
                self._closed.wait(wait)
                wait = min(2 * wait, _MOST_WAIT)
                self._reopen()
                last = elapsed_time()
                continue
            if self._stream.rate != rate:
                rate = self._stream.rate
                yield from line.restart(rate, wall_offset())
            try:
                block = self._blocks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                now = elapsed_time()
                why = None
                if self._stream.interrupted:
                    why = "interrupted to read the list of microphones again"
                elif not self._stream.active:
                    why = f"{self._shown} was unplugged, or taken away by the system"
                elif now - last > _STALLED_SECONDS:
                    why = f"{self._shown} gave no sound for {_STALLED_SECONDS:g} s"
                if why is not None:
                    yield from line.broken(why, wall_offset())
                    self._stream.close()
                    self._stream = None
                yield from line.waiting(now, wall_offset())
                continue
            if block is None:
                break
            offset, last, wait = wall_offset(), block.arrival, _FIRST_WAIT
            if block.slept - slept > _SLEPT_SECONDS:
                yield from line.broken("the computer slept", offset)
            elif block.lost:
                yield from line.broken("overflow: this computer was too busy to take the sound in time", offset)
            slept = block.slept
            yield from line.push(block.samples, block.arrival, offset)

    @property
    def _shown(self) -> str:
        assert self.microphone is not None
        return self.microphone.name

    def _reopen(self) -> None:
        assert self.microphone is not None
        with contextlib.suppress(AudioError):  # it is tried again
            found = same_microphone(self.microphone)
            if found is not None and not self._closed.is_set():
                self._open(found)
                self.microphone = found
                if self._closed.is_set() and self._stream is not None:  # meanwhile
                    self._stream.close()
