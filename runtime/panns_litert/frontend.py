"""Front end: waveform to log-mel, as the network was trained on it.

`FrontEndSpec` says everything that defines a log-mel; `LogMel` computes it in numpy, in float32.
The definition is the one of torchlibrosa 0.1.0 (Spectrogram, LogmelFilterBank), which PANNs uses:
centred frames of the reflect-padded waveform, periodic Hann window, power spectrum, Slaney mel bands
(M. Slaney, Auditory Toolbox, 1998; area-normalised), 10·log10(max(mel, amin)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from panns_litert.errors import AudioError, SpecError

# Frames per pass: 1024 frames of 1024 samples are 4 MB, which stays in a level-2/3 cache, and memory
# does not grow with the length of the audio.
_BLOCK_FRAMES = 1024
# In float64, with copies: blocks that stay in a level-2 cache, and that malloc keeps from one to the next.
_EXACT_BLOCK_FRAMES = 64
# Filters per matrix product: neighbouring mel filters share a short range of bins, so eight at a time
# skip most of the zeros of the basis and still fill a matrix kernel.
_GROUP_FILTERS = 8
# OpenBLAS does a product of up to 2**18 multiplications on the calling thread. Above that it wakes its
# threads, and while another process keeps a core busy their spinning costs 30 ms for 0.1 ms of work.
_BLAS_ONE_THREAD = 1 << 18
# A float32 FFT leaves rounding noise of about 1e-7 of the frame's amplitude in every bin. A band whose
# power is below this share of what the frame's energy would give it, spread evenly over all bins (that
# is -45 dB), could be wrong by more than 6e-4 dB; its frame is computed in float64 instead. That is no
# frame of white noise, from none to most of a recording's, nearly all of a pure tone's.
_FLOAT32_RANGE = 3e-5

_CHOICES: dict[str, tuple[object, ...]] = {
    "window": ("hann",),
    "center": (True,),
    "pad_mode": ("reflect",),
    "power": (2.0,),
    "mel_scale": ("slaney",),
    "mel_norm": ("slaney",),
    "log": ("10log10",),
    "log_offset": (None,),
    "pre_emphasis": (0.0,),
    "affine": (None,),
}


@dataclass(frozen=True, kw_only=True)
class FrontEndSpec:
    """Everything that defines a log-mel. Checked on construction; round-trips through JSON.

    Args:
        sample_rate: samples per second of the waveform, Hz, > 0.
        n_fft: length of the FFT, samples, even, ≥ 2.
        win_length: length of the window, samples, 1 … n_fft; centred in the FFT frame.
        hop_length: samples from one frame to the next, ≥ 1.
        n_mels: number of mel bands, ≥ 1.
        fmin, fmax: lowest and highest band edge, Hz, 0 ≤ fmin < fmax ≤ sample_rate / 2.
        window: "hann", the periodic Hann window.
        center: True: frame t is centred on sample t · hop_length.
        pad_mode: "reflect", how the ends are padded by n_fft / 2 for that.
        power: 2.0, exponent of the magnitude.
        mel_scale, mel_norm: "slaney", as librosa.filters.mel(htk=False, norm="slaney").
        log: "10log10", decibels.
        amin: smallest mel power that counts, > 0: log-mel ≥ 10·log10(amin).
        log_offset, pre_emphasis, affine: None, 0.0, None: not used by the networks of today;
            part of the format, so that every reader refuses a value that it does not implement.

    Raises:
        SpecError: a value is outside its range.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    fmin: float
    fmax: float
    window: str = "hann"
    center: bool = True
    pad_mode: str = "reflect"
    power: float = 2.0
    mel_scale: str = "slaney"
    mel_norm: str = "slaney"
    log: str = "10log10"
    amin: float = 1e-10
    log_offset: float | None = None
    pre_emphasis: float = 0.0
    affine: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpecError(f"front end: {name} = {value!r}; expected a whole number ≥ 1")
        for name in ("fmin", "fmax", "amin"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
                raise SpecError(f"front end: {name} = {value!r}; expected a finite number")
            object.__setattr__(self, name, float(value))  # so that 50 and 50.0 are the same spec
        if self.n_fft % 2:
            raise SpecError(f"front end: n_fft = {self.n_fft}; expected an even number")
        if self.win_length > self.n_fft:
            raise SpecError(f"front end: win_length = {self.win_length}; expected at most n_fft = {self.n_fft}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise SpecError(
                f"front end: fmin = {self.fmin}, fmax = {self.fmax}; "
                f"expected 0 ≤ fmin < fmax ≤ {self.sample_rate / 2} (half the sample rate)"
            )
        # float32 cannot hold a smaller floor: the log of it would be -inf.
        if not self.amin >= float(np.finfo(np.float32).tiny):
            raise SpecError(f"front end: amin = {self.amin}; expected ≥ {np.finfo(np.float32).tiny:.3g}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                options = ", ".join(repr(c) for c in choices)
                raise SpecError(f"front end: {name} = {getattr(self, name)!r} is not implemented; expected {options}")

    @property
    def bins(self) -> int:
        """Frequency bins of the spectrum, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    def frames(self, samples: int) -> int:
        """Frames of a waveform of that many samples."""
        return samples // self.hop_length + 1

    def samples(self, seconds: float) -> int:
        """Samples in that many seconds."""
        return round(seconds * self.sample_rate)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FrontEndSpec:
        """The spec from JSON types, strictly: every field, and no other.

        Raises:
            SpecError: a field is missing, unknown or out of range.
        """
        if not isinstance(data, Mapping):
            raise SpecError(f"front end: {type(data).__name__}; expected an object with named fields")
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - set(data)):
            raise SpecError(f"front end: missing {', '.join(missing)}")
        if unknown := sorted(map(str, set(data) - names)):
            raise SpecError(f"front end: unknown {', '.join(unknown)}; expected only {', '.join(sorted(names))}")
        return cls(**data)


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale: linear below 1 kHz (200/3 Hz per mel), then 27 mels per factor 6.4."""
    linear = hz / (200.0 / 3.0)
    log = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / math.log(6.4)
    return np.where(hz < 1000.0, linear, log)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = mel * (200.0 / 3.0)
    log = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * (math.log(6.4) / 27.0))
    return np.where(mel < 15.0, linear, log)


def mel_basis(spec: FrontEndSpec) -> NDArray[np.float32]:
    """The mel basis: triangular filters of equal area, shape (n_mels, n_fft / 2 + 1), float32.

    Equal to librosa.filters.mel(sr, n_fft, n_mels, fmin, fmax) to 1e-7 (tests/test_frontend.py).

    >>> mel_basis(PANNS_32K).shape
    (64, 513)
    """
    low, high = _hz_to_mel(np.array([spec.fmin, spec.fmax]))
    edges = _mel_to_hz(np.linspace(low, high, spec.n_mels + 2))  # (mels + 2,), Hz
    hz = np.arange(spec.bins) * (spec.sample_rate / spec.n_fft)  # (bins,)
    rising = (hz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hz) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))  # (mels, bins), peak 1
    area = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * area[:, None]).astype(np.float32)


def hann(length: int, padded_to: int) -> NDArray[np.float64]:
    """The periodic Hann window of that length, centred in `padded_to` samples."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    left = (padded_to - length) // 2
    return np.pad(window, (left, padded_to - length - left))


class LogMel:
    """Log-mel of a waveform, numpy only; float32, and float64 for frames that float32 cannot resolve.

    One thread: 10 s take about 2 ms, and waking a second core for that gains nothing that can be relied on.
    Built once per spec, called per clip. One instance holds scratch memory: use one per thread.

    Args:
        spec: what to compute.
        basis: mel basis (n_mels, bins), float32, for example read from mel_basis.bin; made from the
            spec if not given.

    Raises:
        SpecError: the basis has another shape than the spec says, or holds NaN.

    >>> LogMel(PANNS_32K)(np.zeros(320000, np.float32)).shape
    (1001, 64)
    """

    def __init__(
        self,
        spec: FrontEndSpec,
        *,
        basis: NDArray[np.float32] | None = None,
    ) -> None:
        basis = mel_basis(spec) if basis is None else np.asarray(basis, np.float32)
        if basis.shape != (spec.n_mels, spec.bins):
            raise SpecError(f"mel basis of shape {basis.shape}; expected {(spec.n_mels, spec.bins)}")
        if not np.isfinite(basis).all():
            raise SpecError("mel basis holds NaN or Inf; expected finite weights")
        self.spec = spec
        self._window64 = hann(spec.win_length, spec.n_fft)
        self._window = self._window64.astype(np.float32)
        self._windowed = np.empty((0, spec.n_fft), np.float32)
        self._groups = _filter_groups(basis)
        self._least_share = basis.sum(axis=1) * np.float32(_FLOAT32_RANGE)  # (mels,)

    def __call__(
        self, waveform: NDArray[np.floating], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The log-mel of one waveform or of a batch.

        Args:
            waveform: shape (samples,) or (batch, samples), finite, nominally within [-1, 1]; at least
                n_fft / 2 + 1 samples, which is what reflection needs. NaN or Inf gives NaN.
            out: where to put the result, C-contiguous float32 of the result's shape.

        Returns:
            Decibels, shape (frames, n_mels) or (batch, frames, n_mels), float32.

        Raises:
            AudioError: wrong rank or dtype, or too short.
        """
        waveform = np.asarray(waveform)
        if not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(f"waveform of dtype {waveform.dtype}; expected float samples in [-1, 1]")
        if waveform.ndim not in (1, 2):
            raise AudioError(f"waveform of shape {waveform.shape}; expected (samples,) or (batch, samples)")
        samples, least = waveform.shape[-1], self.spec.n_fft // 2 + 1
        if samples < least:
            raise AudioError(f"waveform of {samples} samples; expected at least {least}; pad it with zeros")
        shape = (*waveform.shape[:-1], self.spec.frames(samples), self.spec.n_mels)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise AudioError(f"out of shape {out.shape}, {out.dtype}; expected C-contiguous float32 {shape}")
        batch = waveform.astype(np.float32, copy=False).reshape(-1, samples)
        for signal, logmel in zip(batch, out.reshape(-1, *shape[-2:]), strict=True):
            self._one(signal, logmel)
        return out

    def _one(self, signal: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        spec = self.spec
        padded = np.pad(signal, spec.n_fft // 2, mode="reflect")
        frames = sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]  # (frames, n_fft), a view
        block = min(_BLOCK_FRAMES, len(frames))
        if len(self._windowed) < block:
            self._windowed = np.empty((block, spec.n_fft), np.float32)
        for start in range(0, len(frames), block):
            self._power_mel(frames[start : start + block], out[start : start + block])
        at_floor = out <= np.float32(spec.amin)
        np.maximum(out, np.float32(spec.amin), out=out)
        np.log10(out, out=out)
        np.multiply(out, np.float32(10.0), out=out)
        # A float32 log10 may round the floor itself by one unit; silence is exactly the floor.
        np.copyto(out, np.float32(10.0 * math.log10(spec.amin)), where=at_floor)

    def _power_mel(self, frames: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        windowed = np.multiply(frames, self._window, out=self._windowed[: len(frames)])
        energy = np.vecdot(windowed, windowed)  # (frames,)
        # re² and im² side by side, (frames, 2 · bins): the basis has every weight twice, so that the
        # product adds them up.
        squares = scipy.fft.rfft(windowed, overwrite_x=True).view(np.float32)
        np.square(squares, out=squares)
        self._apply_basis(squares, out)
        unresolved = (out < energy[:, None] * self._least_share) & (out > 0.5 * self.spec.amin)
        if len(rows := np.flatnonzero(unresolved.any(axis=1))):
            out[rows] = self._exact_power_mel(frames, rows)

    def _exact_power_mel(self, frames: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The power mel of some frames by way of a float64 FFT."""
        mel = np.empty((len(rows), self.spec.n_mels), np.float32)
        for start in range(0, len(rows), _EXACT_BLOCK_FRAMES):
            part = rows[start : start + _EXACT_BLOCK_FRAMES]
            spectrum = scipy.fft.rfft(frames[part] * self._window64, overwrite_x=True)
            squares = spectrum.view(np.float64).astype(np.float32)
            np.square(squares, out=squares)
            self._apply_basis(squares, mel[start : start + _EXACT_BLOCK_FRAMES])
        return mel

    def _apply_basis(self, squares: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        for filters, columns, weights in self._groups:
            step = max(1, _BLAS_ONE_THREAD // weights.size)
            for start in range(0, len(squares), step):
                rows = slice(start, start + step)
                np.matmul(squares[rows, columns], weights, out=out[rows, filters])


def _filter_groups(basis: NDArray[np.float32]) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """The basis in groups of neighbouring filters: (filters, columns of re²/im² pairs, weights)."""
    groups = []
    for first in range(0, len(basis), _GROUP_FILTERS):
        filters = basis[first : first + _GROUP_FILTERS]
        used = np.flatnonzero(filters.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        weights = np.repeat(filters[:, low:high], 2, axis=1).T  # (2 · bins, filters)
        groups.append((slice(first, first + len(filters)), slice(2 * low, 2 * high), np.ascontiguousarray(weights)))
    return groups


PANNS_32K = FrontEndSpec(
    sample_rate=32000, n_fft=1024, win_length=1024, hop_length=320, n_mels=64, fmin=50.0, fmax=14000.0
)
"""Front end of Cnn14 and of most PANNs (Kong et al. 2020, https://arxiv.org/abs/1912.10211)."""
PANNS_16K = FrontEndSpec(
    sample_rate=16000, n_fft=512, win_length=512, hop_length=160, n_mels=64, fmin=50.0, fmax=8000.0
)
"""Front end of Cnn14_16k."""
PANNS_8K = FrontEndSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=64, fmin=50.0, fmax=4000.0)
"""Front end of Cnn14_8k."""
