"""Reads recordings as mono float32 at the model's sample rate, at once or in blocks."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio.decoder import Decoder
from panns_litert.audio.raw import STREAMED_SAMPLES
from panns_litert.audio.samples import (
    LOUDEST,
    MARGIN_SECONDS,
    Audio,
    MonoResampler,
    Scale,
    as_samples,
    require_usable,
    require_wanted,
)
from panns_litert.audio.sources import FileLike, is_file_like, name_of, opened
from panns_litert.errors import AudioError
from panns_litert.strict import shown

Recording = FileLike | NDArray[np.generic] | Iterator[NDArray[np.generic]]
"""A recording: a path, the content of a file, a binary file object, an array of samples, or an iterator of chunks."""


class AudioWarning(UserWarning):
    """Something was wrong with a recording, or a part of it was not heard."""


_EXPECTED = 1 << 26  # samples that memory is taken for in advance, at most: a header may state any length
_FILTER_SAMPLES = 1024  # before a part, at the lower rate, that the filter of the resampler is given at least
_CHUNK_SAMPLES = 1 << 16  # an array is converted in chunks, so that the first results come early


def load_audio(
    audio: FileLike,
    *,
    sample_rate: int,
    start: float = 0.0,
    max_seconds: float | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
) -> Audio:
    """Reads a file of any format, sample rate, channel count and subtype that can be decoded.

    Channels are averaged. soxr resamples with quality HQ. A part is the same samples as in the whole recording, except
    for the rounding of the resampler. WAV, AIFF, FLAC and the like are read from shortly before `start`; lossy formats
    are decoded from the beginning.

    Args:
        audio: path, content or binary file object.
        sample_rate: wanted sample rate, Hz, 1 … 2147483647.
        start: seconds to leave out at the beginning, ≥ 0.
        max_seconds: seconds to read, at most, > 0; None for all.
        channel: number of the channel to take, from 1; the mean of all if not given.
        scale: "int16", "int24" or "int32" for a file of floats that hold integers of that size.

    Raises:
        AudioError: the file is missing, unreadable or empty, or ends before `start`, or a sample is NaN, Inf or far
            beyond full scale.
    """
    require_wanted(sample_rate, max_seconds)
    if isinstance(start, bool) or not isinstance(start, (int, float, np.number)) or not 0 <= start < math.inf:
        raise AudioError(f"start = {shown(start)}; expected seconds, ≥ 0")
    blocks = AudioBlocks(audio, sample_rate=sample_rate, channel=channel, scale=scale)
    with blocks:
        end = sys.maxsize if max_seconds is None else round(max_seconds * sample_rate)
        expected = math.ceil((blocks.seconds or 0.0) * sample_rate) + 1
        waveform, count = np.empty(min(expected, end, _EXPECTED), np.float32), 0
        ahead = round(start * sample_rate) - (blocks.skip(start) if start else 0)  # samples before the part
        for block in blocks:
            block, ahead = block[ahead : ahead + end - count], max(0, ahead - len(block))
            if count + len(block) > len(waveform):
                waveform.resize(min(count + count // 2 + len(block), end), refcheck=False)  # there is no view of it
            waveform[count : count + len(block)] = block
            count += len(block)
            if count >= end and blocks.seconds is not None:
                break
        waveform.resize(count, refcheck=False)
    if not len(waveform):
        where = f" from {start:g} s on" if start else ""
        raise AudioError(f"{blocks.name}: no samples{where}; expected at least one")
    if blocks.faulty:
        try:
            require_usable(waveform)
        except AudioError as error:
            raise AudioError(f"{blocks.name}: {error}") from error
    assert blocks.seconds is not None
    return Audio(
        waveform=waveform,
        sample_rate=sample_rate,
        seconds=blocks.seconds,
        seconds_heard=min(len(waveform) / sample_rate, blocks.seconds_heard),
        warnings=blocks.warnings,
    )


class AudioBlocks:
    """A recording in blocks, as mono float32 at the wanted rate. Memory does not grow with the length of a file.

    It is a context manager and an iterator of blocks (n,), n ≥ 1. The blocks joined together are the waveform of
    `load_audio`. Samples that cannot be used (NaN, Inf, single ones far beyond full scale) are NaN.

    Args:
        audio: path, content or binary file object; or samples (n,) or (n, channels), in an array or in an iterator of
            chunks.
        sample_rate: wanted sample rate, Hz.
        rate: sample rate of samples, Hz; not for a file, which states its own.
        channel: number of the channel to take, from 1; the mean of all if not given.
        scale: "int16", "int24" or "int32" if the samples are integers of that size, also as floats.
        most: largest number of samples to decode at once, all channels together.
        name: what to call the recording in results and messages; by default the path, the name of the file object,
            "bytes" or "samples".

    Attributes:
        name: what the recording is called.
        seconds: length of the recording according to its header, or None if that gives none; after the last block, the
            real length, or that of the header if it is greater.
        seconds_heard: length of the sound that was decoded so far.
        faulty: whether a sample could not be used so far; if not, no sample is NaN.
        warnings: what was wrong or is missing, one phrase each; complete after the last block.

    Raises:
        AudioError: the recording cannot be used; for samples with a wrong scale, when their block is read.

    >>> from panns_litert import demo_clips
    >>> with AudioBlocks(demo_clips()[0], sample_rate=32000) as blocks:
    ...     sum(map(len, blocks)) == round(32000 * blocks.seconds)
    True
    """

    def __init__(
        self,
        audio: Recording,
        *,
        sample_rate: int,
        rate: int | None = None,
        channel: int | None = None,
        scale: Scale | None = None,
        most: int = STREAMED_SAMPLES,
        name: str | None = None,
    ) -> None:
        require_wanted(sample_rate, None)
        self.name, self._rate = name_of(audio) if name is None else name, sample_rate
        self._channel, self._scale = channel, scale
        self._stack = contextlib.ExitStack()
        self._decoder: Decoder | None = None
        self._noticed: dict[str, None] = {}  # by the mixers of streams that have ended, in order
        self._returned, self._faults, self._first_fault = 0, 0, 0.0
        self.faulty = False
        self.seconds: float | None = None
        self._chunks: Iterator[NDArray[np.generic]]
        if is_file_like(audio):
            with self._named():
                file, path = self._stack.enter_context(opened(audio))  # type: ignore[arg-type]
                self._decoder = Decoder(file, path)
            self._stack.callback(self._decoder.close)
            self.seconds = self._decoder.seconds
            self._mono = self._resampler(self._decoder.rate)
            self._chunks = self._decoder.blocks(most=most)
            return
        if rate is None:
            raise AudioError("samples without a sample rate; expected sample_rate=…")
        self._mono = self._resampler(rate)
        if isinstance(audio, Iterator):
            self._chunks = cast("Iterator[NDArray[np.generic]]", audio)
        else:
            array = as_samples(audio, scale)
            self.seconds = len(array) / rate
            self._chunks = (array[i : i + _CHUNK_SAMPLES] for i in range(0, len(array), _CHUNK_SAMPLES))

    def _resampler(self, rate: int) -> MonoResampler:
        return MonoResampler(rate, sample_rate=self._rate, channel=self._channel, scale=self._scale)

    def skip(self, seconds: float) -> int:
        """Skips most of the samples before a time, before the first block is asked for, if the file can seek exactly.

        The rest are needed by the filter of the resampler.

        Returns:
            The number of samples that were skipped, at the wanted rate; 0 if the file must be decoded.
        """
        if self._decoder is None:
            return 0
        rate = self._decoder.rate
        margin = max(MARGIN_SECONDS, _FILTER_SAMPLES / min(rate, self._rate))
        step = rate // math.gcd(rate, self._rate)  # so many samples of the file are a whole number of samples here
        frames = max(0, math.floor((seconds - margin) * rate / step)) * step
        with self._named():
            if not frames or not self._decoder.skip(frames):
                return 0
        return frames * self._rate // rate

    def __enter__(self) -> AudioBlocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        with self._stack:
            decoder, taken = self._decoder, 0.0
            while True:
                with self._named():
                    chunk = next(self._chunks, None)
                    if chunk is None:
                        break
                    if decoder is not None and decoder.rate != self._mono.rate:  # the next stream of the file
                        yield from self._counted(self._end())
                        self._mono = self._resampler(decoder.rate)
                    samples = self._mono.push(chunk, peak=None if decoder is None else decoder.peak)
                    self.faulty = self.faulty or self._mono.faulty
                    if decoder is not None and np.may_share_memory(samples, chunk):  # the decoder uses the block again
                        samples = samples.copy()
                taken += len(chunk) / self._mono.rate
                yield from self._counted(samples)
            yield from self._counted(self._end())
            self.seconds = taken if decoder is None else decoder.seconds

    def _end(self) -> NDArray[np.float32]:
        """Ends a stream: returns its last samples, and keeps what was noticed in it."""
        self._noticed |= dict.fromkeys(self._mono.warnings)
        return self._mono.finish()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Puts the name of the recording in front of errors."""
        try:
            yield
        except AudioError as error:
            raise AudioError(f"{self.name}: {error}") from error
        except OSError as error:
            raise AudioError(f"{self.name}: {error.strerror or error}; expected a readable file") from error

    def _counted(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        if not len(samples):
            return
        if self.faulty and np.isnan(samples.sum()):
            if not self._faults:
                self._first_fault = (self._returned + int(np.isnan(samples).argmax())) / self._rate
            self._faults += 1
        self._returned += len(samples)
        yield samples

    @property
    def seconds_heard(self) -> float:
        return self._returned / self._rate if self._decoder is None else self._decoder.decoded

    @property
    def warnings(self) -> tuple[str, ...]:
        found = [] if self._decoder is None else list(self._decoder.warnings)
        if self._faults:
            more = f" and in {self._faults - 1} later blocks" if self._faults > 1 else ""
            found.append(f"samples that are NaN, Inf or beyond ±{LOUDEST:g} at {self._first_fault:.3f} s{more}")
        return (*found, *(self._noticed | dict.fromkeys(self._mono.warnings)))
