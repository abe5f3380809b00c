"""References for the parity stages: log-mels of independent implementations, and test sounds."""

from __future__ import annotations

import math
import warnings
from typing import Any

import librosa
import numpy as np
import scipy.signal
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from panns_litert.demo import demo_audio
from panns_litert.frontend import FrontEndSpec
from panns_litert_golden.recipe import waveform


def float64_logmel(waveform: NDArray[np.floating], spec: FrontEndSpec) -> NDArray[np.float64]:
    """Returns the log-mel by its definition in float64: (samples,) to (frames, n_mels), in the spec's unit.

    It shares no code with `LogMel`: scipy gives the filter and the window, librosa or interpolation the mel basis. It
    uses no blocks and no float32.
    """
    exact = np.asarray(waveform, np.float64)
    window = scipy.signal.get_window("hann", spec.win_length, fftbins=spec.window == "hann")
    if spec.center:
        if spec.pre_emphasis:
            exact = scipy.signal.lfilter([1.0, -spec.pre_emphasis], [1.0], exact)[1:]
        padded = np.pad(exact, spec.n_fft // 2, mode=spec.pad_mode)  # type: ignore[call-overload]
        frames = sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
        window = librosa.util.pad_center(window, size=spec.n_fft)
    else:
        frames = scipy.signal.detrend(sliding_window_view(exact, spec.win_length)[:: spec.hop_length], type="constant")
        first = spec.pre_emphasis * frames[:, :1]  # the filter's state: the frame's first sample is repeated before it
        frames, _ = scipy.signal.lfilter([1.0, -spec.pre_emphasis], [1.0], frames, zi=-first)
    power = np.abs(np.fft.rfft(frames * window, spec.n_fft)) ** spec.power  # (frames, bins)
    mel = power @ reference_basis(spec).T  # (frames, mels)
    floored = np.maximum(mel, spec.amin) + (spec.log_offset or 0.0)
    logmel = np.log(floored) if spec.log == "ln" else 10.0 * np.log10(floored)
    if spec.padded_frames is not None:
        logmel = np.pad(logmel, ((0, spec.padded_frames), (0, 0)))[: spec.padded_frames]
    offset, scale = spec.affine or (0.0, 1.0)
    return np.asarray((logmel + offset) / scale, np.float64)


def to_decibels(logmel: NDArray[np.floating], spec: FrontEndSpec) -> NDArray[np.float64]:
    """Converts any front end's log-mel to decibels, the unit of the bounds."""
    offset, scale = spec.affine or (0.0, 1.0)
    unit = 10.0 / math.log(10.0) if spec.log == "ln" else 1.0
    return (np.asarray(logmel, np.float64) * scale - offset) * unit


def reference_basis(spec: FrontEndSpec) -> NDArray[np.float64]:
    """Returns the mel basis of an independent implementation, librosa or `kaldi_basis`, in float64, (n_mels, bins)."""
    if spec.mel_scale == "kaldi":
        return kaldi_basis(spec)
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


def kaldi_basis(spec: FrontEndSpec) -> NDArray[np.float64]:
    """Returns Kaldi's mel basis in float64, (n_mels, bins): triangles with a peak of 1 on its mel scale."""

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    bins = [mel(i * spec.sample_rate / spec.n_fft) for i in range(spec.bins)]
    step = (mel(spec.fmax) - mel(spec.fmin)) / (spec.n_mels + 1)
    low = [mel(spec.fmin) + i * step for i in range(spec.n_mels)]
    return np.stack([np.interp(bins, [m, m + step, m + 2 * step], [0.0, 1.0, 0.0]) for m in low])


class TorchlibrosaLogMel:
    """The log-mel that PANNs were trained with: torchlibrosa 0.1.0 in float32."""

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


class EfficientatLogMel:
    """The log-mel that EfficientAT was trained with, computed as in its code: with torch, in float32.

    It reproduces AugmentMelSTFT of models/preprocess.py outside training. The mel basis is bit-identical to that of
    torchaudio's get_mel_banks (torchaudio 2.11.0).
    """

    def __init__(self, spec: FrontEndSpec) -> None:
        self._spec = spec
        self._window = torch.hann_window(spec.win_length, periodic=False)
        bins = spec.sample_rate / spec.n_fft * torch.arange(spec.n_fft // 2)
        mel = 1127.0 * (1.0 + bins / 700.0).log()
        low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (spec.fmin, spec.fmax))
        step = (high - low) / (spec.n_mels + 1)
        filters = torch.arange(spec.n_mels)[:, None]
        left, centre, right = (low + (filters + i) * step for i in (0.0, 1.0, 2.0))
        rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
        triangles = torch.minimum(rising, falling).clamp(min=0.0)
        self.basis = F.pad(triangles, (0, 1))  # (mels, bins); the bin at half the sample rate has no weight

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """(samples,) to (frames, n_mels), in the network's unit."""
        spec = self._spec
        kernel = torch.tensor([[[-spec.pre_emphasis, 1.0]]])
        x = F.conv1d(torch.from_numpy(waveform)[None, None], kernel)[0]  # (1, samples - 1)
        spectrum = torch.stft(
            x, spec.n_fft, spec.hop_length, spec.win_length, self._window, center=True, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(dim=-1)  # (1, bins, frames)
        offset, scale = spec.affine or (0.0, 1.0)
        logmel = ((self.basis @ power + (spec.log_offset or 0.0)).log() + offset) / scale
        return np.asarray(logmel[0].T.numpy())


class AstLogMel:
    """The log-mel that AST was trained with: transformers' ASTFeatureExtractor, in float64."""

    def __init__(self, spec: FrontEndSpec) -> None:
        from transformers import ASTFeatureExtractor  # imported here because it takes 1 s

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the lowest bands, which lie between two bins, as in training
            self._extract: Any = ASTFeatureExtractor(  # type: ignore[no-untyped-call]
                num_mel_bins=spec.n_mels, max_length=spec.padded_frames
            )
        self._sample_rate = spec.sample_rate

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """(samples,) to (frames, n_mels), in the network's unit."""
        found = self._extract(waveform, sampling_rate=self._sample_rate, return_tensors="np")["input_values"]
        return np.asarray(found[0], np.float32)


BEYOND_TORCHLIBROSA = ("full-scale square wave", "offset")
"""Sounds of `front_end_sounds` whose energy below the lowest band masks other bands in torchlibrosa's float32."""

BEYOND_FLOAT32 = ("chirp, tone, clicks, silence", "offset")
"""Sounds with 100 dB or more inside a frame. There a float32 DFT without whitening can be 0.2 dB off."""


def front_end_sounds(sample_rate: int) -> dict[str, NDArray[np.float32]]:
    """Returns sounds that cover the front end's typical and extreme inputs, (samples,) float32 by name."""
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
    """Returns clips (samples,) for the stages that run a network: the golden waveform and the demo recordings."""
    samples = round(seconds * sample_rate)
    return [waveform(sample_rate, seconds, seed=0), *demo_audio(sample_rate, samples)]
