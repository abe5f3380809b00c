"""The log-mel of real recordings, against the code that others use for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from threadpoolctl import threadpool_limits
from turns import real_recordings, settle_malloc, take_turns

from panns_litert.audio import load_audio
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_32K, FrontEndSpec, LogMel, hann, mel_basis
from panns_litert_convert.references import AstLogMel, EfficientatLogMel, TorchlibrosaLogMel

SECONDS = 10.0
Waveform = NDArray[np.float32]


_SOUNDS = ("metro station", "speech", "baby", "clock_tick", "dog_bark", "rain", "rooster", "sea_waves")


@threadpool_limits.wrap(limits=1)
def front_end(rounds: int) -> list[dict[str, Any]]:
    """CPU ms of 10 s of a recording to its log-mel on one thread, and the times of others as multiples of it."""
    torch.set_num_threads(1)
    settle_malloc()
    loop, torchlibrosa = "published loop, ×", f"torchlibrosa {version('torchlibrosa')}, ×"
    libs, originals = f"librosa {version('librosa')}, ×", f"EfficientAT, transformers {version('transformers')}, ×"
    theirs: dict[str, tuple[FrontEndSpec, dict[str, Callable[[Waveform], object]]]] = {
        "PANNs": (
            PANNS_32K,
            {loop: published_loop, torchlibrosa: TorchlibrosaLogMel(PANNS_32K), libs: librosa_logmel},
        ),
        "EfficientAT": (EFFICIENTAT_32K, {originals: EfficientatLogMel(EFFICIENTAT_32K)}),
        "AST": (AST_16K, {originals: AstLogMel(AST_16K)}),
    }
    rows = []
    for what, (spec, others) in theirs.items():
        logmel, out = _Counting(spec), np.empty((spec.frames(spec.samples(SECONDS)), spec.n_mels), np.float32)
        for sound in _SOUNDS:
            recording = load_audio(real_recordings()[sound], sample_rate=spec.sample_rate).waveform
            samples = np.resize(recording, spec.samples(SECONDS))
            frames = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop_length].copy()
            times = take_turns(
                {"ms": lambda x=samples, f=logmel, o=out: f(x, out=o), "FFT": lambda x=frames: fft.rfft(x)}
                | {name: lambda x=samples, f=other: f(x) for name, other in others.items()},
                max(3, rounds // 2),
                runs=5,
                clock=time.process_time,
            )
            row: dict[str, Any] = {"what": f"{what}: {sound}", "ms": times["ms"], "float32 FFT alone": times["FFT"]}
            row["share in float64"] = logmel.share(samples)
            for name in (loop, torchlibrosa, libs, originals):
                row[name] = times[name] / times["ms"] if name in times else None
            rows.append(row)
    return rows


class _Counting(LogMel):
    """A log-mel that counts the frames that it computes in float64."""

    _frames = 0

    def _exact_mel(self, frames: NDArray[np.floating], out: NDArray[np.float32]) -> None:
        self._frames += len(frames)
        super()._exact_mel(frames, out)

    def share(self, samples: Waveform) -> float:
        """Returns the share of the frames of a waveform that are computed in float64, 0 … 1."""
        self._frames = 0
        self(samples)
        return self._frames / self.spec.filled_frames(len(samples))


def published_loop(samples: Waveform) -> NDArray[np.float64]:
    """The front end of the published Cnn14 LiteRT sample: one float64 FFT per frame, dense mel product."""
    spec = PANNS_32K
    padded = np.pad(samples, spec.n_fft // 2, mode="reflect")
    window = hann(spec.win_length, spec.n_fft)
    spectrum = np.stack(
        [
            np.abs(np.fft.rfft(padded[t * spec.hop_length :][: spec.n_fft].astype(np.float64) * window)) ** 2
            for t in range(spec.frames(len(samples)))
        ]
    )
    return np.asarray(10.0 * np.log10(np.maximum(spectrum @ _BASIS, spec.amin)))


_BASIS = mel_basis(PANNS_32K).T.astype(np.float64)


def librosa_logmel(samples: Waveform) -> NDArray[np.float32]:
    """The log-mel (frames, mels) of librosa."""
    spec = PANNS_32K
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        pad_mode="reflect",
    )
    return np.asarray(librosa.power_to_db(mel, amin=spec.amin, top_db=None))
