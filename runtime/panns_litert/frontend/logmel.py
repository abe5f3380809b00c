"""Front end: waveform to log-mel, as the network was trained on it.

`FrontEndSpec` says everything that defines a log-mel; `LogMel` computes it in numpy, in float32.
Three definitions are implemented, all of the power spectrum. The first two take centred frames of the
reflect-padded waveform, the third frames that lie whole within it.

- torchlibrosa 0.1.0 (Spectrogram, LogmelFilterBank), which PANNs uses: periodic Hann window, Slaney mel bands
  (M. Slaney, Auditory Toolbox, 1998; area-normalised), 10·log10(max(mel, amin)).
- EfficientAT (models/preprocess.py, AugmentMelSTFT, outside training): pre-emphasis, symmetric Hann window, Kaldi's
  mel bands (torchaudio.compliance.kaldi.get_mel_banks), (ln(mel + log_offset) + offset) / scale.
- AST (the dataloader of Gong, Chung, Glass: AST: Audio Spectrogram Transformer, Interspeech 2021), which is Kaldi's
  compute-fbank-feats as torchaudio.compliance.kaldi.fbank has it, for samples within [-1, 1]: every frame without its
  mean and with a pre-emphasis of its own, symmetric Hann window, Kaldi's mel bands, ln(max(mel, amin)), zeros up to a
  fixed number of frames, (x + offset) / scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from panns_litert.errors import AudioError, SpecError
from panns_litert.strict import read

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

# With an offset under the logarithm, a band below this share of the offset may be as wrong as float32 makes it: beside
# the offset it does not show.
_BELOW_OFFSET = 1e-3

# Of float32's normal numbers: the smallest, below which the logarithm of a floor would be -inf, and the largest.
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

_CHOICES: dict[str, tuple[object, ...]] = {
    "pad_mode": ("reflect",),
    "power": (2.0,),
    "mel_scale": ("slaney", "kaldi"),
}
"""What is implemented in all definitions."""
_SLANEY: dict[str, tuple[object, ...]] = {
    "center": (True,),
    "window": ("hann",),
    "mel_norm": ("slaney",),
    "log": ("10log10",),
    "log_offset": (None,),
    "pre_emphasis": (0.0,),
    "affine": (None,),
    "remove_dc": (False,),
    "padded_frames": (None,),
}
_KALDI: dict[str, tuple[object, ...]] = {
    "center": (True, False),
    "window": ("hann_symmetric",),
    "mel_norm": (None,),
    "log": ("ln",),
}
_KALDI_CENTRED: dict[str, tuple[object, ...]] = {"amin": (0.0,), "remove_dc": (False,), "padded_frames": (None,)}
_KALDI_WHOLE: dict[str, tuple[object, ...]] = {"log_offset": (None,), "remove_dc": (True,)}
"""What is implemented in one of them: a definition is tested as a whole, and a mixture of two by nobody."""


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
        window: "hann", the periodic Hann window; "hann_symmetric", the symmetric one.
        center: True: frame t is centred on sample t · hop_length of the waveform after pre-emphasis. False: it begins
            there, and there is none that the waveform does not fill.
        pad_mode: "reflect", how the ends are padded by n_fft / 2 if centred.
        power: 2.0, exponent of the magnitude.
        mel_scale, mel_norm: "slaney" and "slaney", as librosa.filters.mel(htk=False, norm="slaney"); "kaldi" and
            None, triangles of height 1 on the scale 1127·ln(1 + f / 700).
        log: "10log10", decibels; "ln", nepers.
        amin: smallest mel power that counts, > 0: log-mel ≥ its logarithm. 0.0, no floor, with a log_offset.
        log_offset: added to the mel power under the logarithm, > 0, or None.
        pre_emphasis: a of x[t + 1] - a·x[t], 0 < a < 1, which is one sample shorter than x; 0.0 for none. If not
            centred it is taken inside the frame, before which its first sample is thought once more.
        affine: (offset, scale > 0) of (log-mel + offset) / scale, or None.
        remove_dc: True: each frame without its mean.
        padded_frames: ≥ 1, how many frames there are whatever the waveform's length: more are cut off, and those that
            it does not fill are zeros before the affine step, which is not what silence gives. None: as many as fit.

    `mel_scale` and `center` say which of the definitions above it is; a value from another one is refused.

    Raises:
        SpecError: a value is outside its range, or not implemented with that mel scale.
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
    mel_norm: str | None = "slaney"
    log: str = "10log10"
    amin: float = 1e-10
    log_offset: float | None = None
    pre_emphasis: float = 0.0
    affine: tuple[float, float] | None = None
    remove_dc: bool = False
    padded_frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            if not _is_count(value := getattr(self, name)):
                raise SpecError(f"front end: {name} = {value!r}; expected a whole number ≥ 1")
        for name in ("fmin", "fmax", "amin"):
            value = getattr(self, name)
            if not _is_finite(value):
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
        self._require(_CHOICES)
        self._require(_SLANEY if self.mel_scale == "slaney" else _KALDI, f" with mel_scale = {self.mel_scale!r}")
        if self.mel_scale == "kaldi":
            self._require(_KALDI_CENTRED if self.center else _KALDI_WHOLE, f" with center = {self.center!r}")
            self._require_kaldi_values()
        name, least = ("amin", self.amin) if self.log_offset is None else ("log_offset", self.log_offset)
        if not least >= _SMALLEST:
            raise SpecError(f"front end: {name} = {least}; expected ≥ {_SMALLEST:.3g}")

    def _require(self, allowed: Mapping[str, tuple[object, ...]], where: str = "") -> None:
        for name, choices in allowed.items():
            value = getattr(self, name)
            if value not in choices or (isinstance(value, bool) != isinstance(choices[0], bool)):  # 1 == True
                options = ", ".join(repr(c) for c in choices)
                raise SpecError(f"front end: {name} = {value!r} is not implemented{where}; expected {options}")

    def _require_kaldi_values(self) -> None:
        """The values that only the definitions with Kaldi's mels have: their types and ranges."""
        if self.center:
            if not _is_finite(self.log_offset):
                raise SpecError(f"front end: log_offset = {self.log_offset!r}; expected a number > 0")
            object.__setattr__(self, "log_offset", float(self.log_offset))
        if self.padded_frames is not None and not _is_count(self.padded_frames):
            raise SpecError(f"front end: padded_frames = {self.padded_frames!r}; expected a whole number ≥ 1, or none")
        if not _is_finite(self.pre_emphasis) or not 0 < self.pre_emphasis < 1:
            raise SpecError(f"front end: pre_emphasis = {self.pre_emphasis!r}; expected a number between 0 and 1")
        pair = self.affine
        if (
            not isinstance(pair, (tuple, list))
            or len(pair) != 2
            or not all(map(_is_finite, pair))
            or pair[1] < _SMALLEST
        ):
            raise SpecError(f"front end: affine = {pair!r}; expected (offset, scale), two numbers, scale > 0")
        object.__setattr__(self, "affine", (float(pair[0]), float(pair[1])))  # JSON has no tuples

    @property
    def bins(self) -> int:
        """Frequency bins of the spectrum, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    @property
    def least_samples(self) -> int:
        """Samples of the shortest waveform: reflection by n_fft / 2 needs one more, pre-emphasis yet another."""
        return self.n_fft // 2 + 1 + self._lost_samples if self.center else self.win_length

    @property
    def most_samples(self) -> int | None:
        """Samples of the longest waveform of which nothing is cut off; None if there is no such limit."""
        return None if self.padded_frames is None else self.win_length + self.padded_frames * self.hop_length - 1

    @property
    def _lost_samples(self) -> int:
        return 1 if self.pre_emphasis else 0

    def frames(self, samples: int) -> int:
        """Frames of a waveform of that many samples, ≥ least_samples."""
        return self.filled_frames(samples) if self.padded_frames is None else self.padded_frames

    def filled_frames(self, samples: int) -> int:
        """Frames that the waveform fills, of a waveform of that many samples, ≥ least_samples."""
        if self.center:
            return (samples - self._lost_samples) // self.hop_length + 1
        whole = (samples - self.win_length) // self.hop_length + 1
        return whole if self.padded_frames is None else min(whole, self.padded_frames)

    def samples(self, seconds: float) -> int:
        """Samples in that many seconds."""
        return round(seconds * self.sample_rate)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON types."""
        data = asdict(self)
        return data if self.affine is None else data | {"affine": list(self.affine)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FrontEndSpec:
        """The spec from JSON types, strictly: every field, and no other.

        Raises:
            SpecError: a field is missing, unknown, of another type or out of range.
        """
        spec: FrontEndSpec = read(cls, data, "spec", error=SpecError)
        return spec


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that float32 can hold: not NaN, not Inf, not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _kaldi_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kaldi's mel scale (feat/mel-computations.h)."""
    return 1127.0 * np.log1p(hz / 700.0)


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
    """The mel basis: triangular filters, shape (n_mels, n_fft / 2 + 1), float32.

    "slaney": of equal area, straight in Hz; equal to librosa.filters.mel(sr, n_fft, n_mels, fmin, fmax) to 1e-7
    (tests/test_frontend.py). "kaldi": of height 1, straight in mel; torchaudio's get_mel_banks as it would be
    without the rounding of its float32, which is up to 2e-5 (tests/test_efficientat.py).

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
    """Filters with edges (mels + 2,) at points (bins,) of the same scale: peak 1, (mels, bins)."""
    rising = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def hann(length: int, padded_to: int, *, symmetric: bool = False) -> NDArray[np.float64]:
    """The periodic or the symmetric Hann window of that length, centred in `padded_to` samples."""
    period = max(length - 1, 1) if symmetric else length
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / period)
    left = (padded_to - length) // 2
    return np.pad(window, (left, padded_to - length - left))


class LogMel:
    """Log-mel of a waveform, numpy only; float32, and float64 for frames that float32 cannot resolve.

    One thread: 10 s take about 2 ms, and waking a second core for that gains nothing that can be relied on. Frames
    that are not centred are all computed in float64, which takes about 10 ms.
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
        # In frames that are not centred the window begins where the frame does.
        length = spec.n_fft if spec.center else spec.win_length
        self._window64 = hann(spec.win_length, length, symmetric=spec.window == "hann_symmetric")
        self._window = self._window64.astype(np.float32)
        self._windowed = np.empty((0, spec.n_fft), np.float32)
        self._groups = _filter_groups(basis)
        self._least_share = basis.sum(axis=1) * np.float32(_FLOAT32_RANGE)  # (mels,)
        # Mel power below which nothing of it is left after the logarithm.
        self._least_power = 0.5 * spec.amin if spec.log_offset is None else _BELOW_OFFSET * spec.log_offset

    def __call__(
        self, waveform: NDArray[np.floating], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The log-mel of one waveform or of a batch.

        Args:
            waveform: shape (samples,) or (batch, samples), finite, nominally within [-1, 1]; at least
                `spec.least_samples`, which is what reflection needs. NaN or Inf gives NaN.
            out: where to put the result, C-contiguous float32 of the result's shape.

        Returns:
            Decibels, or what the spec makes of them, shape (frames, n_mels) or (batch, frames, n_mels), float32.

        Raises:
            AudioError: wrong rank or dtype, or too short.
        """
        waveform = np.asarray(waveform)
        require_waveform(waveform, least=self.spec.least_samples)
        samples = waveform.shape[-1]
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
        filled = out[: self.spec.filled_frames(len(signal))]
        prepared = self.emphasised(signal)
        if self.spec.center:
            prepared = np.pad(prepared, self.spec.n_fft // 2, mode="reflect")
        self.frames_of(prepared, filled)
        self.fill(out[len(filled) :])

    def emphasised(self, signal: NDArray[np.float32]) -> NDArray[Any]:
        """The signal as frames are cut from it: after the pre-emphasis of a whole waveform, if there is one."""
        if not self.spec.center or not self.spec.pre_emphasis:
            return signal
        # In float64: the rounding of float32 alone is 2e-3 dB in the quiet bands beside a full-scale tone.
        samples = signal.astype(np.float64)
        return samples[1:] - self.spec.pre_emphasis * samples[:-1]

    def fill(self, out: NDArray[np.float32]) -> None:
        """Writes frames (frames, mels) that no waveform fills: zeros before the affine step."""
        out[...] = 0.0
        self._affine(out)

    def frames_of(self, prepared: NDArray[Any], out: NDArray[np.float32]) -> None:
        """The log-mel of the first frames (frames, mels) of a stretch of samples after `emphasised`, without padding.

        Frame t is cut from sample t · hop_length on, of n_fft samples if centred and of win_length otherwise.
        """
        spec = self.spec
        if spec.center:
            self._centred(prepared, out)
        else:
            self._whole(prepared, out)
        if spec.log_offset is None:
            self._floored_log(out)
        else:
            np.add(out, np.float32(spec.log_offset), out=out)
            np.log(out, out=out)
        self._affine(out)

    def _affine(self, out: NDArray[np.float32]) -> None:
        if self.spec.affine is not None:
            offset, scale = self.spec.affine
            np.add(out, np.float32(offset), out=out)
            np.divide(out, np.float32(scale), out=out)

    def _centred(self, prepared: NDArray[Any], out: NDArray[np.float32]) -> None:
        """The power mel of frames of n_fft samples (frames, mels)."""
        spec = self.spec

        def cut(signal: NDArray[Any]) -> NDArray[Any]:
            return sliding_window_view(signal, spec.n_fft)[:: spec.hop_length][: len(out)]  # a view

        exact, frames = cut(prepared), cut(prepared.astype(np.float32, copy=False))  # (frames, n_fft)
        block = min(_BLOCK_FRAMES, len(frames))
        if len(self._windowed) < block:
            self._windowed = np.empty((block, spec.n_fft), np.float32)
        for start in range(0, len(frames), block or 1):
            stop = start + block
            self._power_mel(frames[start:stop], out[start:stop], exact[start:stop])

    def _whole(self, signal: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """The power mel of frames of win_length samples (frames, mels), each prepared by itself."""
        spec = self.spec
        frames = sliding_window_view(signal, spec.win_length)[:: spec.hop_length]  # a view
        for start in range(0, len(out), _EXACT_BLOCK_FRAMES):
            block = out[start : start + _EXACT_BLOCK_FRAMES]
            part = frames[start : start + len(block)].astype(np.float64)
            part -= part.mean(axis=1, keepdims=True)
            before = np.concatenate((part[:, :1], part[:, :-1]), axis=1)
            self._exact_mel((part - spec.pre_emphasis * before) * self._window64, block)

    def _floored_log(self, out: NDArray[np.float32]) -> None:
        """Power mel to its logarithm, decibels or nepers, in place."""
        spec = self.spec
        at_floor = out <= np.float32(spec.amin)
        np.maximum(out, np.float32(spec.amin), out=out)
        if spec.log == "ln":
            np.log(out, out=out)
            floor = math.log(spec.amin)
        else:
            np.log10(out, out=out)
            np.multiply(out, np.float32(10.0), out=out)
            floor = 10.0 * math.log10(spec.amin)
        # A float32 logarithm may round the floor itself by one unit; silence is exactly the floor.
        np.copyto(out, np.float32(floor), where=at_floor)

    def _power_mel(self, frames: NDArray[np.float32], out: NDArray[np.float32], exact: NDArray[np.floating]) -> None:
        """The power mel of frames (frames, n_fft), which `exact` has in the best precision there is."""
        windowed = np.multiply(frames, self._window, out=self._windowed[: len(frames)])
        energy = np.vecdot(windowed, windowed)  # (frames,)
        # re² and im² side by side, (frames, 2 · bins): the basis has every weight twice, so that the
        # product adds them up.
        squares = scipy.fft.rfft(windowed, overwrite_x=True).view(np.float32)
        np.square(squares, out=squares)
        self._apply_basis(squares, out)
        unresolved = (out < energy[:, None] * self._least_share) & (out > self._least_power)
        if len(rows := np.flatnonzero(unresolved.any(axis=1))):
            out[rows] = self._exact_power_mel(exact, rows)

    def _exact_power_mel(self, frames: NDArray[np.floating], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The power mel of some frames by way of a float64 FFT."""
        mel = np.empty((len(rows), self.spec.n_mels), np.float32)
        for start in range(0, len(rows), _EXACT_BLOCK_FRAMES):
            part = rows[start : start + _EXACT_BLOCK_FRAMES]
            self._exact_mel(frames[part] * self._window64, mel[start : start + _EXACT_BLOCK_FRAMES])
        return mel

    def _exact_mel(self, windowed: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        """The power mel of windowed frames by way of a float64 FFT."""
        squares = scipy.fft.rfft(windowed, self.spec.n_fft).view(np.float64).astype(np.float32)
        np.square(squares, out=squares)
        self._apply_basis(squares, out)

    def _apply_basis(self, squares: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        for filters, columns, weights in self._groups:
            step = max(1, _BLAS_ONE_THREAD // weights.size)
            for start in range(0, len(squares), step):
                rows = slice(start, start + step)
                np.matmul(squares[rows, columns], weights, out=out[rows, filters])


class StreamingLogMel:
    """The log-mel of a stream, every frame computed once, as soon as its samples are there.

    Chunks of any size give the same frames, those of `LogMel` for the whole stream. One stream at a time; not safe
    for use by several threads at once.

    Args:
        spec: what to compute; `padded_frames` does not count here, for a stream has no fixed length.
        basis: as for `LogMel`.

    >>> stream = StreamingLogMel(PANNS_32K)
    >>> [len(stream.push(np.zeros(16000, np.float32))), len(stream.push(np.zeros(16000, np.float32)))]
    [49, 50]
    >>> len(stream.finish())
    2
    """

    def __init__(self, spec: FrontEndSpec, *, basis: NDArray[np.float32] | None = None) -> None:
        self.spec = spec
        self._logmel = LogMel(spec, basis=basis)
        self._length = spec.n_fft if spec.center else spec.win_length  # of a frame
        self._restart()

    def _restart(self) -> None:
        self._raw = np.empty(0, np.float32)  # samples that wait for the next one: pre-emphasis looks one back
        self._signal = np.empty(0, np.float32)  # from the next frame's first sample on
        self._tail = np.empty(0, np.float32)  # the newest samples, which the end reflects
        self._pending = 0  # samples to leave out before the next frame begins
        self._begun = False

    def push(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        """Takes the next samples (n,) and gives the frames (frames, n_mels) that they complete, float32.

        Raises:
            AudioError: wrong rank or dtype; the stream is as it was.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1:
            raise AudioError(f"samples of shape {samples.shape}; expected (samples,)")
        require_waveform(samples, least=0)
        raw = np.concatenate((self._raw, samples.astype(np.float32, copy=False)))
        lost = self.spec.center and self.spec.pre_emphasis
        self._raw = raw[-1:] if lost else raw[:0]
        return self._take(self._logmel.emphasised(raw) if len(raw) > 1 or not lost else raw[:0])

    def finish(self) -> NDArray[np.float32]:
        """Ends the stream: gives the frames (frames, n_mels) at its end and begins anew.

        Raises:
            AudioError: the stream was shorter than `spec.least_samples`.
        """
        half = self.spec.n_fft // 2
        try:
            if not self.spec.center:
                return np.empty((0, self.spec.n_mels), np.float32)
            if not self._begun:
                require_waveform(self._signal, least=half + 1)
            return self._frames(self._tail[-half - 1 : -1][::-1])
        finally:
            self._restart()

    def fill(self, out: NDArray[np.float32]) -> None:
        """Writes frames (frames, n_mels) that no samples fill, as `spec.padded_frames` wants them."""
        self._logmel.fill(out)

    def _take(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        half = self.spec.n_fft // 2
        self._tail = np.concatenate((self._tail, prepared))[-half - 1 :]
        if self._begun or not self.spec.center:
            return self._frames(prepared)
        self._signal = np.concatenate((self._signal, prepared))
        if len(self._signal) <= half:
            return np.empty((0, self.spec.n_mels), np.float32)
        self._begun = True
        begin, self._signal = self._signal, self._signal[:0]
        return self._frames(np.concatenate((begin[half:0:-1], begin)))

    def _frames(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        hop = self.spec.hop_length
        signal = np.concatenate((self._signal, prepared))
        skipped = min(self._pending, len(signal))
        self._pending -= skipped
        signal = signal[skipped:]
        count = max(0, (len(signal) - self._length) // hop + 1)
        out = np.empty((count, self.spec.n_mels), np.float32)
        if count:
            self._logmel.frames_of(signal, out)
        self._pending += max(0, count * hop - len(signal))
        self._signal = signal[count * hop :].copy()
        return out


def require_waveform(waveform: NDArray[Any], *, least: int) -> None:
    """Raises unless it is (samples,) or (batch, samples), floating, of at least that many samples.

    Raises:
        AudioError: saying which.
    """
    if not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(f"waveform of dtype {waveform.dtype}; expected float samples in [-1, 1]")
    if waveform.ndim not in (1, 2):
        raise AudioError(f"waveform of shape {waveform.shape}; expected (samples,) or (batch, samples)")
    if waveform.shape[-1] < least:
        raise AudioError(f"waveform of {waveform.shape[-1]} samples; expected at least {least}; pad it with zeros")


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
EFFICIENTAT_32K = FrontEndSpec(
    sample_rate=32000,
    n_fft=1024,
    win_length=800,
    hop_length=320,
    n_mels=128,
    fmin=0.0,
    fmax=15000.0,
    window="hann_symmetric",
    mel_scale="kaldi",
    mel_norm=None,
    log="ln",
    amin=0.0,
    log_offset=1e-5,
    pre_emphasis=0.97,
    affine=(4.5, 5.0),
)
"""Front end of EfficientAT's mn04_as … mn40_as (Schmid et al. 2023, https://arxiv.org/abs/2211.04772).

Pre-emphasis loses a sample: 10 s are 1000 frames, where PANNs have 1001.
"""
AST_16K = FrontEndSpec(
    sample_rate=16000,
    n_fft=512,
    win_length=400,
    hop_length=160,
    n_mels=128,
    fmin=20.0,
    fmax=8000.0,
    window="hann_symmetric",
    center=False,
    mel_scale="kaldi",
    mel_norm=None,
    log="ln",
    amin=2.0**-23,
    pre_emphasis=0.97,
    affine=(4.2677393, 2 * 4.5689974),
    remove_dc=True,
    padded_frames=1024,
)
"""Front end of AST (Gong, Chung, Glass 2021, https://arxiv.org/abs/2104.01778): mean and deviation are AudioSet's."""
