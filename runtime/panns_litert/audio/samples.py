"""Converts an array or a stream of samples to mono float32 at the model's sample rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from panns_litert.errors import AudioError

# The resampler gets this much more than `max_seconds`, because its filter looks ahead: the start of a long recording
# is the same whether or not the rest was read.
MARGIN_SECONDS = 0.1
# The highest rate of libsndfile. At rates far above it the resampler does not return.
_MAX_RATE = 2**31 - 1
# An array with more channels than this, and with more channels than samples, is taken to be transposed.
_PLAUSIBLE_CHANNELS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """A waveform, its sample rate and the length of its recording.

    Attributes:
        waveform: (samples,) float32, mono.
        sample_rate: sample rate of the waveform, Hz.
        seconds: length of the whole recording. It is greater than the waveform's if only a part was read.
    """

    waveform: NDArray[np.float32]
    sample_rate: int
    seconds: float


def from_array(
    samples: NDArray[np.floating], rate: int, *, sample_rate: int, max_seconds: float | None = None
) -> Audio:
    """Converts an array to mono float32 at the wanted rate.

    Args:
        samples: float, (samples,) or (samples, channels), nominally within [-1, 1].
        rate: sample rate of `samples`, Hz, 1 … 2147483647.
        sample_rate: wanted sample rate, Hz, in the same range.
        max_seconds: seconds to keep from the start, at most, > 0; None for all.

    Raises:
        AudioError: wrong dtype, rank, orientation or rate, no samples, or a sample that is NaN or Inf.
    """
    require_wanted(sample_rate, max_seconds)
    try:
        samples = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"samples are not an array ({error}); expected (samples,) or (samples, channels)") from error
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"samples of dtype {samples.dtype}; expected float samples in [-1, 1]; divide 16-bit samples by 32768 first"
        )
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples of shape {samples.shape}; expected (samples,) or (samples, channels)")
    require_rate(rate)
    if samples.size == 0:
        raise AudioError("no samples; expected at least one")
    if samples.ndim == 2 and samples.shape[1] > max(len(samples), _PLAUSIBLE_CHANNELS):
        raise AudioError(f"samples of shape {samples.shape}; expected (samples, channels); transpose them")
    seconds = len(samples) / int(rate)
    if max_seconds is not None:
        samples = samples[: int(np.ceil((max_seconds + MARGIN_SECONDS) * rate))]
    finite = np.isfinite(samples)
    if not finite.all():
        where = int(np.flatnonzero(~finite.reshape(len(samples), -1).all(axis=1))[0])
        raise AudioError(f"sample {where} is NaN or Inf; expected finite samples")
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        wide = np.promote_types(samples.dtype, np.float32)
        mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=wide)
        mono = mono.astype(np.float32, copy=False)
    if rate != sample_rate:
        try:
            mono = soxr.resample(mono, int(rate), int(sample_rate), quality="HQ")
        except (ValueError, RuntimeError) as error:
            raise AudioError(f"cannot resample from {rate} Hz to {sample_rate} Hz: {error}") from error
    if max_seconds is not None:
        mono = mono[: round(max_seconds * sample_rate)]
    if not np.isfinite(mono).all():
        raise AudioError("samples beyond the range of float32; expected samples in [-1, 1]")
    return Audio(waveform=np.ascontiguousarray(mono, np.float32), sample_rate=sample_rate, seconds=seconds)


class MonoResampler:
    """Converts a stream of samples to mono float32 at the wanted rate. The result does not depend on the chunk size.

    Args:
        rate: sample rate of the stream, Hz.
        sample_rate: wanted sample rate, Hz.

    Raises:
        AudioError: a rate is out of range.
    """

    def __init__(self, rate: int, *, sample_rate: int) -> None:
        for value in (rate, sample_rate):
            require_rate(value)
        self.rate, self.sample_rate = int(rate), int(sample_rate)
        self._restart()

    def _restart(self) -> None:
        self._count = 0
        self._soxr = None
        if self.rate != self.sample_rate:
            self._soxr = soxr.ResampleStream(self.rate, self.sample_rate, 1, dtype="float32", quality="HQ")

    def push(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        """Takes the next samples, (n,) or (n, channels), and returns the converted samples (m,) that are ready, m ≥ 0.

        Raises:
            AudioError: wrong dtype or rank, NaN or Inf. The stream stays as it was before the call.
        """
        samples = np.asarray(samples)
        if samples.ndim in (1, 2) and len(samples) == 0:
            return np.empty(0, np.float32)
        try:
            mono = from_array(samples, self.rate, sample_rate=self.rate).waveform
        except AudioError as error:
            raise AudioError(f"after {self._count / self.rate:.3f} s: {error}") from error
        self._count += len(mono)
        return mono if self._soxr is None else self._soxr.resample_chunk(mono)

    def finish(self) -> NDArray[np.float32]:
        """Ends the stream: returns the samples that are left, and resets for a new stream."""
        last = np.empty(0, np.float32)
        if self._soxr is not None and self._count:
            last = self._soxr.resample_chunk(last, last=True)
        self._restart()
        return last


def require_rate(rate: object) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or not 1 <= rate <= _MAX_RATE:
        raise AudioError(f"sample rate {rate!r}; expected a whole number of Hz, 1 … {_MAX_RATE}")


def require_wanted(sample_rate: object, max_seconds: object) -> None:
    require_rate(sample_rate)
    if max_seconds is None:
        return
    if not isinstance(max_seconds, (int, float, np.number)) or not 0 < max_seconds < 1e12:
        raise AudioError(f"max_seconds = {max_seconds!r}; expected a number > 0, or None for all")
