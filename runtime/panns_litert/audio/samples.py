"""Converts an array or a stream of samples to mono float32 at the model's sample rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from panns_litert.errors import AudioError
from panns_litert.words import counted

Scale = Literal["int16", "int24", "int32"]
SCALES: dict[str, float] = {"int16": 2.0**15, "int24": 2.0**23, "int32": 2.0**31}
"""Scales of samples that are not within [-1, 1]: name to full-scale value."""

LEAST_RATE, MOST_RATE = 1000, 768000
"""Sample rates of recordings, Hz. A header that states another one is taken to be wrong."""

LOUDEST = 2.5
"""Peak of samples that are still taken to be within full scale, 1, and too loud."""

# The resampler gets this much more than `max_seconds`, because its filter looks ahead: the start of a long recording
# is the same whether or not the rest was read.
MARGIN_SECONDS = 0.1
# The highest rate of libsndfile. At rates far above it the resampler does not return.
_MAX_RATE = 2**31 - 1
# An array with more channels than this, and with more channels than samples, is taken to be transposed.
_PLAUSIBLE_CHANNELS = 64
# More samples than this share, and than this number, beyond full scale are a wrong scale; fewer are single faults.
_WRONG_SCALE, _FAULTS = 0.01, 16
# Unusable samples closer than this, in seconds, become one span.
_SPAN_SECONDS = 0.01
# Every so many samples are enough to compare the power of channels.
_SPARSE = 8
# dB below the loudest channel: there, the channels cancel each other.
_CANCELLED_DB = 20.0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Audio:
    """A waveform, its sample rate and the length of its recording.

    Attributes:
        waveform: (samples,) float32, mono.
        sample_rate: sample rate of the waveform, Hz.
        seconds: length of the whole recording. It is greater than the waveform's if only a part was read.
        seconds_heard: length of the sound that could be decoded. It is less than `seconds` if the file is cut or
            damaged; a part that was not asked for counts as heard.
        warnings: what was wrong or is missing, one phrase each.
    """

    waveform: NDArray[np.float32]
    sample_rate: int
    seconds: float
    seconds_heard: float
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        more = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        read = len(self.waveform) / self.sample_rate
        return f"<Audio, {read:.3f} of {self.seconds:.3f} s, {self.sample_rate} Hz{more}>"


def from_array(
    samples: NDArray[np.generic],
    rate: int,
    *,
    sample_rate: int,
    max_seconds: float | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
) -> Audio:
    """Converts an array to mono float32 at the wanted rate.

    Args:
        samples: (samples,) or (samples, channels), float within [-1, 1], or numbers of another `scale`.
        rate: sample rate of `samples`, Hz, 1 … 2147483647.
        sample_rate: wanted sample rate, Hz, in the same range.
        max_seconds: seconds to keep from the start, at most, > 0; None for all.
        channel: number of the channel to take, from 1; the mean of all if not given.
        scale: "int16", "int24" or "int32" if the samples are integers of that size, also as floats.

    Raises:
        AudioError: wrong dtype, rank, orientation, rate, channel or scale, no samples, or a sample that is NaN, Inf or
            far beyond full scale.
    """
    require_wanted(sample_rate, max_seconds)
    require_rate(rate)
    mixer = Mixer(channel=channel, scale=scale)
    samples = as_samples(samples, scale)
    if samples.size == 0:
        raise AudioError("no samples; expected at least one")
    seconds = len(samples) / int(rate)
    if max_seconds is not None:
        samples = samples[: int(np.ceil((max_seconds + MARGIN_SECONDS) * rate))]
    mono = mixer(samples)
    require_usable(mono)
    if rate != sample_rate:
        try:
            mono = soxr.resample(mono, int(rate), int(sample_rate), quality="HQ")
        except (ValueError, RuntimeError) as error:
            raise AudioError(f"cannot resample from {rate} Hz to {sample_rate} Hz: {error}") from error
    if max_seconds is not None:
        mono = mono[: round(max_seconds * sample_rate)]
    return Audio(
        waveform=np.ascontiguousarray(mono, np.float32),
        sample_rate=sample_rate,
        seconds=seconds,
        seconds_heard=seconds,
        warnings=mixer.warnings,
    )


def require_usable(mono: NDArray[np.float32]) -> None:
    """Raises AudioError if a sample is NaN, which stands for one that cannot be used."""
    if not np.isfinite(mono).all():
        where = int(np.flatnonzero(~np.isfinite(mono))[0])
        raise AudioError(f"sample {where} is NaN, Inf or beyond ±{LOUDEST:g}; expected samples in [-1, 1]")


def as_samples(samples: object, scale: str | None = None, *, more: bool = False) -> NDArray[np.generic]:
    """Returns samples as an array (samples,) or (samples, channels), of floats, or of integers if a scale is given.

    Args:
        samples, scale: as for `from_array`.
        more: whether these follow other samples, whose orientation was right.

    Raises:
        AudioError: wrong dtype, rank or orientation.
    """
    try:
        array = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"samples are not an array ({error}); expected (samples,) or (samples, channels)") from error
    if array.dtype.kind != "f" and not (scale is not None and array.dtype.kind == "i"):
        remedy = {"int16": "scale='int16'", "int32": "scale='int32'"}.get(str(array.dtype), "scale=… for int16, int32")
        raise AudioError(
            f"samples of dtype {array.dtype}; expected float samples in [-1, 1], or integers and their scale: {remedy}"
        )
    if array.shape[1:] == (0,):
        raise AudioError(f"no samples in an array of shape {array.shape}; expected at least one channel")
    if array.ndim not in (1, 2):
        raise AudioError(f"samples of shape {array.shape}; expected (samples,) or (samples, channels)")
    if array.ndim == 2 and not more and array.shape[1] > max(len(array), _PLAUSIBLE_CHANNELS):
        raise AudioError(f"samples of shape {array.shape}; expected (samples, channels); transpose them")
    return array


class Mixer:
    """Converts samples to mono float32 of full scale 1. Samples that cannot be used become NaN.

    Those are NaN, Inf, and single samples beyond ±2.5. Many samples beyond it are a wrong scale, which is an error.

    Args:
        channel: number of the channel to take, from 1; the mean of all if not given.
        scale: "int16", "int24" or "int32" if the samples are integers of that size, also as floats.

    Raises:
        AudioError: the channel or the scale is out of range.
    """

    def __init__(self, *, channel: int | None = None, scale: str | None = None) -> None:
        if channel is not None and (not isinstance(channel, (int, np.integer)) or isinstance(channel, bool)):
            raise AudioError(f"channel = {channel!r}; expected a whole number, 1 for the first, or None for the mean")
        if channel is not None and not channel >= 1:
            raise AudioError(f"channel = {channel!r}; expected 1 for the first channel, or None for the mean of all")
        if scale is not None and scale not in SCALES:
            raise AudioError(f"scale = {scale!r}; expected one of {', '.join(SCALES)}, or None for samples in [-1, 1]")
        self._channel, self._scale = channel, scale
        self._peak, self._powers, self._mixed = 0.0, np.zeros(0), 0.0
        self.faulty = False
        """Whether a sample could not be used so far."""

    def __call__(self, samples: NDArray[np.generic], peak: float | None = None) -> NDArray[np.float32]:
        """Takes samples of `as_samples` and returns mono (samples,).

        Args:
            samples: (samples,) or (samples, channels).
            peak: as for `MonoResampler.push`.

        Raises:
            AudioError: there is no such channel, or the samples have a wrong scale. Nothing changes then.
        """
        count = 1 if samples.ndim == 1 else samples.shape[1]
        if self._channel is not None and self._channel > count:
            raise AudioError(f"channel = {self._channel}; expected 1 … {count}, which the sound has")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite becomes NaN below
            if self._channel is not None and samples.ndim == 2:
                samples = samples[:, self._channel - 1]
            if self._scale is not None:
                samples = samples.astype(np.float64) / SCALES[self._scale]
            wide = np.promote_types(samples.dtype, np.float32)
            mono = samples if samples.ndim == 1 else _mean(samples.astype(wide, copy=False))
            if peak is None or self._channel is not None or self._scale is not None:
                peak = peak_of(samples)
            if not peak <= LOUDEST:
                mono = self._faulty(samples, mono)
            elif peak > self._peak:
                self._peak = peak
            mixed: NDArray[np.float32] = np.asarray(mono, np.float32)
            if samples.ndim == 2 and count > 1 and peak <= LOUDEST:
                self._compare(np.asarray(samples, np.float32), mixed)
        return mixed

    def _faulty(self, samples: NDArray[np.generic], mono: NDArray[np.generic]) -> NDArray[np.generic]:
        """Returns the samples with NaN in place of those that cannot be used."""
        finite = np.isfinite(samples)
        loud = finite & (np.abs(samples) > LOUDEST)
        count = np.count_nonzero(loud)
        peak = float(np.abs(samples, where=finite, out=np.zeros_like(samples)).max())
        if count > max(_FAULTS, _WRONG_SCALE * samples.size) and peak <= 2.0 * SCALES["int32"]:
            scale = next((name for name, full in SCALES.items() if peak <= full), "int32")
            raise AudioError(
                f"samples reach {peak:.6g}; expected samples in [-1, 1]; if they are integers of a recording, give "
                f"their scale: scale={scale!r}"
            )
        wrong = ~finite | loud
        self.faulty = self.faulty or bool(wrong.any())
        return np.where(wrong if wrong.ndim == 1 else wrong.any(axis=1), np.nan, mono)

    def _compare(self, samples: NDArray[np.float32], mono: NDArray[np.float32]) -> None:
        """Adds up the power of each channel and of their mean, of a part of the samples."""
        samples, mono = samples[::_SPARSE], mono[::_SPARSE]
        if len(self._powers) != samples.shape[1]:
            self._powers, self._mixed = np.zeros(samples.shape[1]), 0.0
        self._powers += [float(np.dot(channel, channel)) for channel in samples.T]
        self._mixed += float(np.dot(mono, mono))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was noticed in all samples so far: too loud, or channels that cancel each other."""
        found = []
        if self._peak > 1.0 + 1e-3:
            found.append(f"samples reach {self._peak:.2f} of full scale; expected at most 1")
        loudest = self._powers.max(initial=0.0)
        if loudest > 0.0 and self._mixed < loudest * 10 ** (-_CANCELLED_DB / 10):
            below = f"{10 * math.log10(loudest / self._mixed):.0f} dB" if self._mixed > 0.0 else "far"
            best = int(self._powers.argmax()) + 1
            found.append(
                f"channels cancel each other: their mean is {below} below channel {best}; give --channel {best}"
            )
        return tuple(found)


class MonoResampler:
    """Converts a stream of samples to mono float32 at the wanted rate. The result does not depend on the chunk size.

    Samples that cannot be used (NaN, Inf, single ones far beyond full scale) are NaN in the result, and so are the
    resampled samples of that time. The samples around them are as if they were 0.

    Args:
        rate: sample rate of the stream, Hz.
        sample_rate: wanted sample rate, Hz.
        channel, scale: as for `from_array`.

    Raises:
        AudioError: an argument is out of range.
    """

    def __init__(self, rate: int, *, sample_rate: int, channel: int | None = None, scale: str | None = None) -> None:
        for value in (rate, sample_rate):
            require_rate(value)
        self.rate, self.sample_rate = int(rate), int(sample_rate)
        self._channel, self._scale = channel, scale
        self._restart()

    def _restart(self) -> None:
        self._mixer = Mixer(channel=self._channel, scale=self._scale)
        self._count, self._returned = 0, 0  # samples taken, and samples returned
        self._unusable: list[tuple[float, float]] = []  # spans in seconds that were not returned yet
        self._soxr: soxr.ResampleStream | None = None  # made for the first samples: that takes time

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was noticed in the stream so far."""
        return self._mixer.warnings

    @property
    def faulty(self) -> bool:
        """Whether a sample of the stream could not be used so far; if not, no result is NaN."""
        return self._mixer.faulty

    def push(self, samples: NDArray[np.generic], *, peak: float | None = None) -> NDArray[np.float32]:
        """Takes the next samples, (n,) or (n, channels), and returns the converted samples (m,) that are ready, m ≥ 0.

        Args:
            samples: the samples.
            peak: their largest absolute value, NaN if one is NaN; any bound up to 1 will do; computed if not given.

        Raises:
            AudioError: wrong dtype, rank, channel or scale. The stream stays as it was before the call.
        """
        try:
            samples = as_samples(samples, self._scale, more=self._count > 0)
            if not len(samples):
                return np.empty(0, np.float32)
            mono = self._mixer(samples, peak)
        except AudioError as error:
            raise AudioError(f"after {self._count / self.rate:.3f} s: {error}") from error
        begin, self._count = self._count, self._count + len(mono)
        if self.rate == self.sample_rate:
            return mono
        if self._soxr is None:
            self._soxr = soxr.ResampleStream(self.rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        if self.faulty and (wrong := np.isnan(mono)).any():
            self._unusable += [
                ((begin + a) / self.rate, (begin + b) / self.rate) for a, b in spans(wrong, _SPAN_SECONDS * self.rate)
            ]
            mono = np.where(wrong, np.float32(0), mono)
        return self._marked(self._soxr.resample_chunk(mono))

    def finish(self) -> NDArray[np.float32]:
        """Ends the stream: returns the samples that are left, and resets for a new stream."""
        last = np.empty(0, np.float32)
        if self._soxr is not None:
            last = self._marked(self._soxr.resample_chunk(last, last=True))
        self._restart()
        return last

    def _marked(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns resampled samples with NaN where the stream's could not be used."""
        begin, end = self._returned, self._returned + len(samples)
        self._returned = end
        for start, stop in self._unusable:
            first, last = math.floor(start * self.sample_rate), math.ceil(stop * self.sample_rate)
            samples[max(0, first - begin) : max(0, last - begin)] = np.nan
        self._unusable = [span for span in self._unusable if span[1] * self.sample_rate > end]
        return samples


def peak_of(samples: NDArray[np.generic]) -> float:
    """Returns the largest absolute value of samples; NaN if one is NaN."""
    return float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))


def _mean(samples: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the mean of the channels, added up one by one: numpy's `mean` over a short axis is slow."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    total = samples[:, 0] + samples[:, 1]
    for channel in range(2, samples.shape[1]):
        total += samples[:, channel]
    total *= samples.dtype.type(1 / samples.shape[1])
    return total


def spans(wrong: NDArray[np.bool_], gap: float) -> Iterator[tuple[int, int]]:
    """Yields start and stop of the runs of true values; runs closer than `gap` become one."""
    edges = np.flatnonzero(np.diff(wrong, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    apart = np.flatnonzero(starts[1:] - stops[:-1] > gap)
    yield from zip(
        starts[np.concatenate(([0], apart + 1))].tolist(), stops[np.concatenate((apart, [-1]))].tolist(), strict=True
    )


def require_rate(rate: object) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or not 1 <= rate <= _MAX_RATE:
        raise AudioError(f"sample rate {rate!r}; expected a whole number of Hz, 1 … {_MAX_RATE}")


def require_plausible(rate: int) -> None:
    """Raises AudioError if the header of a recording states an absurd rate, Hz."""
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise AudioError(f"the header states a rate of {rate} Hz; expected {LEAST_RATE} … {MOST_RATE}")


def require_wanted(sample_rate: object, max_seconds: object) -> None:
    require_rate(sample_rate)
    if max_seconds is None:
        return
    if not isinstance(max_seconds, (int, float, np.number)) or not 0 < max_seconds < 1e12:
        raise AudioError(f"max_seconds = {max_seconds!r}; expected a number > 0, or None for all")
