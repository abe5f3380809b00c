"""What parity is measured against: log-mels of independent implementations, and the sounds for it."""

from __future__ import annotations

import librosa
import numpy as np
import scipy.signal
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from panns_litert.frontend import FrontEndSpec
from panns_litert.tagger import demo_audio
from panns_litert_golden.recipe import waveform


def float64_logmel(waveform: NDArray[np.floating], spec: FrontEndSpec) -> NDArray[np.float64]:
    """The definition, in float64: (samples,) to (frames, n_mels), dB.

    Shares nothing with `LogMel`: window by scipy, mel basis by librosa, no blocks, no float32.
    """
    padded = np.pad(np.asarray(waveform, np.float64), spec.n_fft // 2, mode=spec.pad_mode)  # type: ignore[call-overload]
    frames = sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
    window = librosa.util.pad_center(
        scipy.signal.get_window(spec.window, spec.win_length, fftbins=True), size=spec.n_fft
    )
    power = np.abs(np.fft.rfft(frames * window)) ** spec.power  # (frames, bins)
    logmel = 10.0 * np.log10(np.maximum(power @ librosa_basis(spec).T, spec.amin))
    return np.asarray(logmel, np.float64)


def librosa_basis(spec: FrontEndSpec) -> NDArray[np.float64]:
    """librosa's mel basis in float64, (n_mels, bins)."""
    basis = librosa.filters.mel(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=False,
        norm="slaney",
        dtype=np.float64,
    )
    return np.asarray(basis)


class TorchlibrosaLogMel:
    """The log-mel that PANNs were trained with, torchlibrosa 0.1.0 in float32."""

    def __init__(self, spec: FrontEndSpec) -> None:
        self._spectrogram = Spectrogram(
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            win_length=spec.win_length,
            window=spec.window,
            center=spec.center,
            pad_mode=spec.pad_mode,
            power=spec.power,
            freeze_parameters=True,
        )
        self._logmel = LogmelFilterBank(
            sr=spec.sample_rate,
            n_fft=spec.n_fft,
            n_mels=spec.n_mels,
            fmin=spec.fmin,
            fmax=spec.fmax,
            ref=1.0,
            amin=spec.amin,
            top_db=None,
            freeze_parameters=True,
        )

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """(samples,) to (frames, n_mels), dB."""
        with torch.inference_mode():
            logmel = self._logmel(self._spectrogram(torch.from_numpy(waveform)[None]))
        return np.asarray(logmel[0, 0].numpy())


BEYOND_TORCHLIBROSA = ("full-scale square wave", "offset")
"""Of the front end's sounds those whose energy, below the lowest band, drowns other bands in its float32."""

BEYOND_FLOAT32 = ("chirp, tone, clicks, silence", "offset")
"""Those with 100 dB and more inside a frame, where a float32 DFT without whitening by chance is 0.2 dB off."""


def front_end_sounds(sample_rate: int) -> dict[str, NDArray[np.float32]]:
    """Sounds that cover what a front end meets: name to (samples,) float32."""
    n = 2 * sample_rate
    t = np.arange(n) / sample_rate
    rng = np.random.default_rng(0)
    sounds = {
        "chirp, tone, clicks, silence": waveform(sample_rate),
        "white noise": 0.1 * rng.standard_normal(n),
        "digital silence": np.zeros(n),
        "full-scale square wave": np.where(np.sin(2 * np.pi * 441.0 * t) >= 0, 1.0, -1.0),
        "tone at -90 dBFS": 10 ** (-90 / 20) * np.sin(2 * np.pi * 1000.0 * t),
        "offset": np.full(n, 0.5) + 1e-3 * rng.standard_normal(n),
    }
    return {name: np.asarray(sound, np.float32) for name, sound in sounds.items()}


def parity_clips(sample_rate: int, seconds: float) -> list[NDArray[np.float32]]:
    """Clips (samples,) for the stages that run a network: the golden waveform, and the demo recordings."""
    samples = round(seconds * sample_rate)
    return [waveform(sample_rate, seconds, seed=0), *demo_audio(sample_rate, samples)]
