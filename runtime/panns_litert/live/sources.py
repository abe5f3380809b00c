"""Sources that are read from start to end: a pipe, and a file, also as if it sounded now."""

from __future__ import annotations

import io
import math
import select
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import (
    RAW_FORMATS,
    AudioBlocks,
    FileLike,
    MonoResampler,
    Scale,
    WavSamples,
    is_container,
    name_of,
    raw_blocks,
    read_head,
    wav_header,
)
from panns_litert.errors import AudioError
from panns_litert.live.clock import SampleClock, elapsed_time, wall_offset
from panns_litert.live.parts import Heard, Lost
from panns_litert.strict import shown

_REAL_SECONDS = 0.1  # of sound that a file as if live delivers at once
_PIPE_BYTES = 1 << 16  # per read: more than the buffers of Python's files
_POLL_SECONDS = 0.2
_LEAST_LOSS = 0.05  # seconds that may be missing at the end of a file: codecs pad by up to this much


class BaseSource:
    """What sources share: a name, and the context that closes them.

    Attributes:
        name: what notices call the source.
        live: whether sound goes on while nobody reads. What is not read in time is lost then; otherwise it waits.
        warnings: what was wrong with the sound so far, one phrase each.
    """

    live = False
    warnings: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the source, and soon an iteration in another thread."""
        self._closed.set()


class FileSource(BaseSource):
    """A recording as a source, at full speed or as if it sounded now.

    Samples that cannot be used are NaN. Seconds that are missing at the end, or in the middle, where the decoder puts
    silence, are a `Lost`; `warnings` has the rest.

    Args:
        audio: path, content or binary file object.
        rate: wanted sample rate, Hz.
        realtime: whether to deliver each sample no earlier than it would sound. Pauses are measured from the start, so
            that nothing adds up.
        start_time: when the first sample was heard, seconds since the epoch; the time of the first iteration if not
            given.
        channel, scale: as for `AudioBlocks`.
        name: what notices call it; by default the path or the name of the file object.

    Raises:
        AudioError: the recording cannot be used, or `start_time` is no time.
    """

    def __init__(
        self,
        audio: FileLike,
        rate: int,
        *,
        realtime: bool = False,
        start_time: float | None = None,
        channel: int | None = None,
        scale: Scale | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name_of(audio) if name is None else name)
        if start_time is not None and not (isinstance(start_time, (int, float)) and math.isfinite(start_time)):
            raise AudioError(f"start_time = {shown(start_time)}; expected seconds since the epoch")
        self._rate, self._start, self.live = rate, start_time, bool(realtime)
        self._blocks = AudioBlocks(audio, sample_rate=rate, channel=channel, scale=scale, name=name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._blocks.__exit__(kind, error, trace)

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """What was wrong with the recording, one phrase each; complete after the last block."""
        return self._blocks.warnings

    def __iter__(self) -> Iterator[Heard | Lost]:
        start = time.time() if self._start is None else self._start
        began, done = elapsed_time(), 0
        stated = self._blocks.seconds
        most = max(1, round(_REAL_SECONDS * self._rate))
        for block, lost in self._pieces():
            if lost and self._due(began + (done + len(block)) / self._rate):
                yield Lost(
                    seconds=len(block) / self._rate, why="the file is damaged here", time=start + done / self._rate
                )
                done += len(block)
                continue
            for piece in np.split(block, range(most, len(block), most)) if self.live else [block]:
                if not self._due(began + (done + len(piece)) / self._rate):
                    return
                yield Heard(samples=piece, time=start + done / self._rate)
                done += len(piece)
        heard = done / self._rate
        if stated is not None and stated - heard > _LEAST_LOSS:
            why = f"{heard:.2f} s of {stated:.2f} s could be decoded: the file is cut or damaged"
            yield Lost(seconds=stated - heard, why=why, time=start + heard, last=True)

    def _due(self, at: float) -> bool:
        """Waits for an `elapsed_time`, if the file is heard as if live. Returns whether the source is still open."""
        if self.live:
            self._closed.wait(max(0.0, at - elapsed_time()))
        return not self._closed.is_set()

    def _pieces(self) -> Iterator[tuple[NDArray[np.float32], bool]]:
        """Yields the blocks of the file, none empty, and whether one is the silence that stands for missing sound."""
        done, told = 0, 0.0
        for block in self._blocks:
            done += len(block)
            missing = done / self._rate - self._blocks.seconds_heard
            begin, end = 0, 0
            if missing - told > _LEAST_LOSS:
                begin, end = _longest_silence(block)
                if end - begin < (missing - told) * self._rate / 2:
                    begin, end = 0, 0
                told = missing
            for part, lost in ((block[:begin], False), (block[begin:end], True), (block[end:], False)):
                if len(part):
                    yield part, lost


def _longest_silence(block: NDArray[np.float32]) -> tuple[int, int]:
    """Returns where the longest run of zeros begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], block == 0, [False]]).astype(np.int8)))
    if not len(edges):
        return 0, 0
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * longest]), int(edges[2 * longest + 1])


class PipeSource(BaseSource):
    """WAV or raw samples on a binary stream, such as standard input.

    Args:
        stream: binary stream. It is read to its end, and not closed.
        rate: wanted sample rate, Hz.
        raw_rate: sample rate of raw samples, Hz; not needed for WAV, whose header states it.
        channels, form: of raw samples, as for `raw_blocks`.
        channel, scale: as for `MonoResampler`.
        live: whether what comes is heard now, as from a recording program. Then times follow its arrival, and a sound
            card whose rate is not exact; otherwise samples are counted from the arrival of the first.
        name: what notices call it.

    Raises:
        AudioError: the stream begins like no WAV file and there is no `raw_rate`, it ends within its header, or an
            argument is out of range; in the iteration, if there is no sample.
    """

    def __init__(
        self,
        stream: BinaryIO,
        rate: int,
        *,
        raw_rate: int | None = None,
        channels: int = 1,
        form: str = "s16le",
        channel: int | None = None,
        scale: Scale | None = None,
        live: bool = False,
        name: str = "standard input",
    ) -> None:
        super().__init__(name)
        pipe = _Pipe(stream, self._closed)
        head = read_head(cast(BinaryIO, pipe))
        pipe.unread(head)
        samples: io.RawIOBase = pipe
        self._wav: WavSamples | None = None
        self._frame = 0  # bytes
        if is_container(head, mpeg=False):
            header = wav_header(pipe)
            raw_rate, channels, form = header.rate, header.channels, header.form
            samples = self._wav = WavSamples(pipe, header)
            self._frame = RAW_FORMATS[form][0] * channels
        elif raw_rate is None:
            raise AudioError(f"{name}: begins like no WAV file; for raw samples, give --rate HZ")
        self._rate, self._raw_rate, self.live = rate, raw_rate, live
        self._mono = MonoResampler(raw_rate, sample_rate=rate, channel=channel, scale=scale)
        # by one tenth of a second, so that a pipe that is heard now is not read in blocks of several seconds
        self._chunks = raw_blocks(samples, channels=channels, form=form, most=max(channels, raw_rate * channels // 10))

    def __iter__(self) -> Iterator[Heard | Lost]:
        clock = SampleClock(self._raw_rate)
        taken = done = 0
        start: float | None = None
        for chunk in self._chunks:
            if self._closed.is_set():
                return
            taken += len(chunk)
            if self.live or start is None:
                clock.add(taken, elapsed_time(), wall_offset())
            start = clock.time(0) if start is None else start
            try:
                samples = self._mono.push(chunk)
            except AudioError as error:
                raise AudioError(f"{self.name}: {error}") from error
            self.warnings = (*self._mono.warnings, *(self._wav.warnings if self._wav else ()))
            yield from self._heard(samples, clock, start, done)
            done += len(samples)
        if start is None and not self._closed.is_set():  # such as behind a recording program that has failed
            raise AudioError(f"{self.name}: ended before its first sample; expected sound")
        if start is not None and not self._closed.is_set():
            tail = self._mono.finish()
            yield from self._heard(tail, clock, start, done)
            yield from self._cut(start + (done + len(tail)) / self._rate)

    def _cut(self, end: float) -> Iterator[Lost]:
        """Tells what did not come although the header of a WAV file had stated it."""
        if self._wav is None:
            return
        self.warnings = (*self._mono.warnings, *self._wav.warnings)
        if self._wav.stated is None or self._wav.stated // self._frame <= self._wav.taken // self._frame:
            return
        stated, came = (size // self._frame / self._mono.rate for size in (self._wav.stated, self._wav.taken))
        why = f"{came:.2f} s of {stated:.2f} s came: the pipe ended early"
        if self.live:  # a recording program that was ended: there was no more sound
            self.warnings += (why,)
        else:
            yield Lost(seconds=stated - came, why=why, time=end, last=True)

    def _heard(self, samples: NDArray[np.float32], clock: SampleClock, start: float, done: int) -> Iterator[Heard]:
        if len(samples):
            at = done / self._rate
            yield Heard(samples=samples, time=clock.time(at * self._raw_rate) if self.live else start + at)


class _Pipe(io.RawIOBase):
    """A binary stream whose waiting for bytes ends when `closed` is set, where the system can poll it."""

    def __init__(self, stream: BinaryIO, closed: threading.Event) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._stream, self._ending, self._rest, self._first = stream, closed, b"", True

    def unread(self, data: bytes) -> None:
        """Puts bytes back."""
        self._rest = data + self._rest

    def read1(self, size: int) -> bytes:
        """Returns bytes that are there already, at most `size`; none at the end of the stream, and when closed."""
        if not self._rest:
            # The stream may hold bytes that a poll does not see: before the first read, and not behind one that asks
            # for more than its buffer.
            if not self._first and not self._wait():
                return b""
            self._first, self._rest = False, self._read(_PIPE_BYTES)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _wait(self) -> bool:
        while not self._ending.is_set():
            try:
                if select.select([self._stream], [], [], _POLL_SECONDS)[0]:
                    return True
            except (OSError, ValueError, TypeError):  # not a file of the system, or one that it cannot poll
                return True
        return False

    def readinto(self, buffer: Any) -> int:
        data = self.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True
