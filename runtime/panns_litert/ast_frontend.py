"""Front end of AST: waveform to the normalised log-mel (fbank) that it was trained on.

The definition is Kaldi's compute-fbank-feats as torchaudio.compliance.kaldi.fbank has it, with the settings of
AST's authors (Gong, Chung, Glass: AST: Audio Spectrogram Transformer, Interspeech 2021, section 2.1; their
dataloader): 16 kHz, frames of 25 ms every 10 ms that lie whole within the waveform, each without its mean and
with pre-emphasis, symmetric Hann window, power spectrum of 512, 128 mel bands, natural logarithm. Unlike Kaldi's,
samples are within [-1, 1]. The mel bands are triangles on the mel scale, with peak 1, from 20 Hz to 8 kHz.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from panns_litert.errors import SpecError
from panns_litert.frontend import hann, kaldi_triangles, require_waveform

SAMPLE_RATE, WIN_LENGTH, HOP_LENGTH, N_FFT = 16000, 400, 160, 512
N_MELS, FMIN, FMAX = 128, 20.0, 8000.0
PRE_EMPHASIS = 0.97
FLOOR = 2.0**-23
"""Smallest mel power that counts: float32's epsilon."""

MEAN, DEVIATION = -4.2677393, 4.5689974
"""Of AudioSet's log-mel, by the authors: log-mel is made (x - MEAN) / (2 · DEVIATION)."""


def fbank_basis() -> NDArray[np.float32]:
    """The mel basis: triangles on the mel scale 1127·ln(1 + Hz / 700), peak 1, shape (128, 257), float32.

    >>> fbank_basis().shape
    (128, 257)
    """
    hz = np.arange(N_FFT // 2 + 1, dtype=np.float64) * (SAMPLE_RATE / N_FFT)  # (bins,)
    return kaldi_triangles(hz, n_mels=N_MELS, fmin=FMIN, fmax=FMAX).astype(np.float32)


class AstFbank:
    """Normalised log-mel of a waveform, numpy only, in float64 within; 10 s take about 10 ms.

    Args:
        frames: of the result, ≥ 1. A longer waveform is cut off; a shorter one's log-mel is filled up with zeros
            before it is normalised, so they become -MEAN / (2 · DEVIATION) = 0.467. Zeros at the end of a waveform
            are something else: silence, -1.28.
        basis: mel basis (128, 257), float32, for example read from mel_basis.bin; `fbank_basis` if not given.

    Raises:
        SpecError: frames < 1, or the basis has another shape or holds NaN.

    >>> AstFbank()(np.zeros(160000, np.float32)).shape
    (1024, 128)
    """

    def __init__(self, *, frames: int = 1024, basis: NDArray[np.float32] | None = None) -> None:
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
            raise SpecError(f"frames = {frames!r}; expected a whole number ≥ 1")
        basis = fbank_basis() if basis is None else np.asarray(basis, np.float32)
        if basis.shape != (N_MELS, N_FFT // 2 + 1) or not np.isfinite(basis).all():
            raise SpecError(f"mel basis of shape {basis.shape}; expected {(N_MELS, N_FFT // 2 + 1)}, finite")
        self.frames = frames
        self._basis = basis.T.astype(np.float64)  # (bins, mels)
        self._window = hann(WIN_LENGTH, WIN_LENGTH, symmetric=True)

    def __call__(self, waveform: NDArray[np.floating]) -> NDArray[np.float32]:
        """The log-mel of one waveform or of a batch.

        Args:
            waveform: shape (samples,) or (batch, samples), 16 kHz, nominally within [-1, 1]; at least 400
                samples, one frame. NaN or Inf gives NaN.

        Returns:
            Shape (frames, 128) or (batch, frames, 128), float32.

        Raises:
            AudioError: wrong rank or dtype, or too short.
        """
        waveform = np.asarray(waveform)
        require_waveform(waveform, least=WIN_LENGTH)
        out = np.zeros((*waveform.shape[:-1], self.frames, N_MELS))
        for signal, logmel in zip(
            waveform.reshape(-1, waveform.shape[-1]), out.reshape(-1, self.frames, N_MELS), strict=True
        ):
            found = self._logmel(signal.astype(np.float64))
            logmel[: len(found)] = found
        return ((out - MEAN) / (2.0 * DEVIATION)).astype(np.float32)

    def _logmel(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        """(samples,) to (frames ≤ self.frames, mels), nepers, not normalised."""
        frames = sliding_window_view(signal, WIN_LENGTH)[::HOP_LENGTH][: self.frames]  # (frames, 400), a view
        centred = frames - frames.mean(axis=1, keepdims=True)
        # Kaldi lets a copy of the first sample stand before it.
        before = np.concatenate((centred[:, :1], centred[:, :-1]), axis=1)
        spectrum = scipy.fft.rfft((centred - PRE_EMPHASIS * before) * self._window, N_FFT)  # (frames, bins)
        power = spectrum.real**2 + spectrum.imag**2
        return np.asarray(np.log(np.maximum(power @ self._basis, FLOOR)))
