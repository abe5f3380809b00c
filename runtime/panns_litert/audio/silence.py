"""The level of a waveform, and the silence gate: in silence there is nothing to tag."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError

# A constant leaves a share of up to 1e-15 of its power, and float32 samples beside it resolve no less than 1e-15.
_ROUNDING = 1e-14
# Memory for all samples in float64 would take longer to get, and OpenBLAS wakes its threads for products of more than
# 10000 values.
_BLOCK_SAMPLES = 1 << 13


def level_dbfs(waveform: NDArray[np.floating]) -> float:
    """Returns the level in dB: 10·log10 of the mean square, without the mean of the samples (DC).

    A sine of amplitude 1 is at −3.01 dB. A constant is silent.

    Args:
        waveform: (samples,), float, full scale is 1.

    Returns:
        The level; −inf for a constant.

    Raises:
        AudioError: no samples, wrong dtype or rank, or a sample that is NaN or Inf.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or waveform.dtype.kind != "f" or not len(waveform):
        raise AudioError(
            f"{waveform.dtype} samples of shape {waveform.shape}; expected floats, (samples,), at least one"
        )
    squares = total = 0.0
    for start in range(0, len(waveform), _BLOCK_SAMPLES):
        block = waveform[start : start + _BLOCK_SAMPLES].astype(np.float64)
        squares += float(np.dot(block, block))
        total += float(block.sum())
    power = squares / len(waveform)
    if not math.isfinite(power):
        raise AudioError("a sample is NaN, Inf or far too large; expected samples in [-1, 1]")
    varying = power - (total / len(waveform)) ** 2
    return 10.0 * math.log10(varying) if varying > _ROUNDING * power else -math.inf


def is_silent(waveform: NDArray[np.floating], *, below_dbfs: float = -60.0) -> bool:
    """Returns whether the level is below a gate, so that there is nothing to tag.

    Args:
        waveform: (samples,), float, full scale is 1.
        below_dbfs: the gate, dB; with −inf nothing is silent.

    Raises:
        AudioError: the waveform is not valid, or the gate is not a number.
    """
    if isinstance(below_dbfs, bool) or not isinstance(below_dbfs, (int, float, np.number)) or math.isnan(below_dbfs):
        raise AudioError(f"below_dbfs = {below_dbfs!r}; expected a number of dB, such as -60")
    return level_dbfs(waveform) < below_dbfs
