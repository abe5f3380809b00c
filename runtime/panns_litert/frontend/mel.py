"""Mel scales and mel basis: the triangular filters that turn a power spectrum into mel bands."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from panns_litert.frontend.spec import FrontEndSpec


def _kaldi_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Converts Hz to Kaldi's mel scale (feat/mel-computations.h)."""
    return 1127.0 * np.log1p(hz / 700.0)


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Converts Hz to Slaney's mel scale: linear below 1 kHz (200/3 Hz per mel), then 27 mels per factor 6.4."""
    linear = hz / (200.0 / 3.0)
    log = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / math.log(6.4)
    return np.where(hz < 1000.0, linear, log)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = mel * (200.0 / 3.0)
    log = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * (math.log(6.4) / 27.0))
    return np.where(mel < 15.0, linear, log)


def mel_basis(spec: FrontEndSpec) -> NDArray[np.float32]:
    """Returns the mel basis: triangular filters, shape (n_mels, n_fft / 2 + 1), float32.

    "slaney": filters of equal area, linear in Hz. They equal librosa.filters.mel(sr, n_fft, n_mels, fmin, fmax) to 1e-7
    (tests/frontend/test_frontend.py). "kaldi": filters of height 1, linear in mel. They equal torchaudio's
    get_mel_banks except for the rounding of its float32, up to 2e-5 (tests/convert/test_efficientat.py).

    >>> mel_basis(PANNS_32K).shape
    (64, 513)
    """
    hz = np.arange(spec.bins, dtype=np.float64) * (spec.sample_rate / spec.n_fft)  # (bins,)
    if spec.mel_scale == "kaldi":
        low, high = _kaldi_mel(np.array([spec.fmin, spec.fmax]))
        return _triangles(_kaldi_mel(hz), np.linspace(low, high, spec.n_mels + 2)).astype(np.float32)
    low, high = _hz_to_mel(np.array([spec.fmin, spec.fmax]))
    edges = _mel_to_hz(np.linspace(low, high, spec.n_mels + 2))  # (mels + 2,), Hz
    area = 2.0 / (edges[2:] - edges[:-2])
    return (_triangles(hz, edges) * area[:, None]).astype(np.float32)


def _triangles(at: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns filters of peak 1, (mels, bins), with `edges` (mels + 2,) at the points `at` (bins,), on one scale."""
    rising = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rising, falling))
