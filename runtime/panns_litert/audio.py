"""Audio files and arrays to what a front end takes: mono float32 at the model's sample rate."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from panns_litert.errors import AudioError

# The resampler looks this far beyond the last sample that is kept, so that a long recording's first
# clip is the same whether or not the rest was read.
_MARGIN_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """A waveform and where it came from.

    Attributes:
        waveform: (samples,) float32, mono.
        sample_rate: of the waveform, Hz.
        seconds: length of the whole recording; more than the waveform's if it was read in part.
    """

    waveform: NDArray[np.float32]
    sample_rate: int
    seconds: float


def load_audio(path: str | os.PathLike[str], *, sample_rate: int, max_seconds: float | None = None) -> Audio:
    """Reads a file of any format, rate, channel count and subtype that libsndfile knows.

    Channels are averaged; the rate is changed by soxr in quality HQ.

    Args:
        path: the file.
        sample_rate: wanted rate, Hz.
        max_seconds: read no more than that from the start, or None for all.

    Raises:
        AudioError: missing, unreadable or empty file, or samples that are NaN or Inf.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file; expected an audio file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty; expected audio")
    try:
        with soundfile.SoundFile(path) as file:
            rate, total = file.samplerate, file.frames
            wanted = -1 if max_seconds is None else int(np.ceil((max_seconds + _MARGIN_SECONDS) * rate))
            data = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError) as error:
        formats = ", ".join(sorted(soundfile.available_formats()))
        raise AudioError(f"{path}: not readable as audio ({error}); expected one of {formats}") from error
    try:
        audio = from_array(data, rate, sample_rate=sample_rate, max_seconds=max_seconds)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    # A header may promise more than the file holds; what was read is the truth if it is the whole.
    read_all = wanted < 0 or len(data) < wanted
    return Audio(
        waveform=audio.waveform,
        sample_rate=sample_rate,
        seconds=len(data) / rate if read_all else max(total, len(data)) / rate,
    )


def from_array(
    samples: NDArray[np.floating], rate: int, *, sample_rate: int, max_seconds: float | None = None
) -> Audio:
    """Mono float32 at the wanted rate, from an array.

    Args:
        samples: float, (samples,) or (samples, channels), nominally within [-1, 1].
        rate: rate of `samples`, Hz, ≥ 1.
        sample_rate: wanted rate, Hz.
        max_seconds: keep no more than that from the start, or None for all.

    Raises:
        AudioError: wrong dtype, rank or rate, no samples, or samples that are NaN or Inf.
    """
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"samples of dtype {samples.dtype}; expected float samples in [-1, 1]; divide 16-bit samples by 32768 first"
        )
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples of shape {samples.shape}; expected (samples,) or (samples, channels)")
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate < 1:
        raise AudioError(f"sample rate {rate!r}; expected a whole number of Hz ≥ 1")
    if samples.size == 0:
        raise AudioError("no samples; expected at least one")
    seconds = len(samples) / int(rate)
    if max_seconds is not None:
        samples = samples[: int(np.ceil((max_seconds + _MARGIN_SECONDS) * rate))]
    finite = np.isfinite(samples)
    if not finite.all():
        where = int(np.flatnonzero(~finite.reshape(len(samples), -1).all(axis=1))[0])
        raise AudioError(f"sample {where} is NaN or Inf; expected finite samples")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    with np.errstate(over="ignore"):
        mono = mono.astype(np.float32, copy=False)
    if not np.isfinite(mono).all():
        raise AudioError("samples beyond the range of float32; expected samples in [-1, 1]")
    if rate != sample_rate:
        try:
            mono = soxr.resample(mono, int(rate), sample_rate, quality="HQ")
        except (ValueError, RuntimeError) as error:
            raise AudioError(f"cannot resample from {rate} Hz to {sample_rate} Hz: {error}") from error
    if max_seconds is not None:
        mono = mono[: round(max_seconds * sample_rate)]
    return Audio(waveform=np.ascontiguousarray(mono, np.float32), sample_rate=sample_rate, seconds=seconds)
