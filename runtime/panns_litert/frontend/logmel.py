"""Log-mel of a waveform in numpy, as `FrontEndSpec` defines it, in float32 and, where that is not enough, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from panns_litert.errors import AudioError, SpecError
from panns_litert.frontend.fft import rfft
from panns_litert.frontend.mel import mel_basis
from panns_litert.frontend.spec import FrontEndSpec
from panns_litert.strict import shown

# Frames per pass: 1024 frames of 1024 samples are 4 MB, which fit into a level-2 or level-3 cache. Memory use does not
# grow with the length of the audio.
_BLOCK_FRAMES = 1024
# The same in float64, with copies: the block fits into a level-2 cache, and malloc reuses its memory for the next one.
_EXACT_BLOCK_FRAMES = 64
# Filters per matrix product: neighbouring mel filters share a short range of bins. Products of eight filters skip most
# zeros of the basis and are still large enough for a matrix kernel.
_GROUP_FILTERS = 8
# OpenBLAS computes a product of up to 2**18 multiplications on the calling thread. Above that it wakes its threads, and
# while another process keeps a core busy, their spinning costs 30 ms for 0.1 ms of work.
_BLAS_ONE_THREAD = 1 << 18
# A float32 FFT leaves rounding noise of about 1e-7 of the frame's amplitude in every bin. A band's power is compared
# with the power that it would have if the frame's energy were spread evenly over all bins. Below this share of it
# (-45 dB), float32 could be wrong by more than 6e-4 dB, and the frame is computed in float64. This affects no frame of
# white noise, nearly all frames of a pure tone, and between none and most frames of a recording.
_FLOAT32_RANGE = 3e-5
# With an offset under the logarithm, a band below this share of the offset stays float32: the offset hides its error.
_BELOW_OFFSET = 1e-3


def hann(length: int, padded_to: int, *, symmetric: bool = False) -> NDArray[np.float64]:
    """Returns the periodic or symmetric Hann window of `length` samples, centred in `padded_to` samples."""
    period = max(length - 1, 1) if symmetric else length
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / period)
    left = (padded_to - length) // 2
    return np.pad(window, (left, padded_to - length - left))


class LogMel:
    """Computes the log-mel of waveforms in float32, and in float64 for frames that float32 cannot resolve.

    It runs on one thread: 10 s of audio take about 2 ms, and a second core does not reliably make that faster. Frames
    that are not centred are all computed in float64, which takes about 10 ms.
    Build it once per spec and call it per clip. An instance holds scratch memory: use one per thread.

    Args:
        spec: the definition of the log-mel.
        basis: mel basis (n_mels, bins), float32, for example from mel_basis.bin; made from the spec if not given.

    Raises:
        SpecError: the basis does not have the shape of the spec, or holds NaN or Inf.

    >>> LogMel(PANNS_32K)(np.zeros(320000, np.float32)).shape
    (1001, 64)
    """

    def __init__(self, spec: FrontEndSpec, *, basis: NDArray[np.float32] | None = None) -> None:
        if not isinstance(spec, FrontEndSpec):
            raise SpecError(f"spec {shown(spec)}; expected a FrontEndSpec")
        try:
            basis = mel_basis(spec) if basis is None else np.asarray(basis, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise SpecError(f"mel basis {shown(basis)}; expected an array {(spec.n_mels, spec.bins)}") from error
        if basis.shape != (spec.n_mels, spec.bins):
            raise SpecError(f"mel basis of shape {basis.shape}; expected {(spec.n_mels, spec.bins)}")
        if not np.isfinite(basis).all():
            raise SpecError("mel basis holds NaN or Inf; expected finite weights")
        self.spec = spec
        # Without centring, the window starts at the frame's first sample.
        length = spec.n_fft if spec.center else spec.win_length
        self._window64 = hann(spec.win_length, length, symmetric=spec.window == "hann_symmetric")
        self._window = self._window64.astype(np.float32)
        self._windowed = np.empty((0, spec.n_fft), np.float32)
        self._groups = _filter_groups(basis)
        self._least_share = basis.sum(axis=1) * np.float32(_FLOAT32_RANGE)  # (mels,)
        # Mel power at or below this has no effect on the log-mel.
        self._least_power = 0.5 * spec.amin if spec.log_offset is None else _BELOW_OFFSET * spec.log_offset

    def __call__(
        self, waveform: NDArray[np.floating], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Computes the log-mel of one waveform or of a batch.

        Args:
            waveform: shape (samples,) or (batch, samples), at least `spec.least_samples` samples, finite, nominally
                within [-1, 1]. NaN or Inf gives NaN.
            out: array for the result, C-contiguous float32 of the result's shape; a new one if not given.

        Returns:
            The log-mel, shape (frames, n_mels) or (batch, frames, n_mels), float32, in the unit that the spec defines.

        Raises:
            AudioError: wrong rank or dtype, or too short a waveform.
        """
        waveform = as_array(waveform)
        require_waveform(waveform, least=self.spec.least_samples)
        samples = waveform.shape[-1]
        shape = (*waveform.shape[:-1], self.spec.frames(samples), self.spec.n_mels)
        if out is None:
            out = np.empty(shape, np.float32)
        elif not isinstance(out, np.ndarray):
            raise AudioError(f"out {shown(out)}; expected C-contiguous float32 {shape}")
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise AudioError(f"out of shape {out.shape}, {out.dtype}; expected C-contiguous float32 {shape}")
        batch = waveform.astype(np.float32, copy=False).reshape(-1, samples)
        filled = self.spec.filled_frames(samples)
        for signal, logmel in zip(batch, out.reshape(-1, *shape[-2:]), strict=True):
            prepared = self.emphasised(signal)
            if self.spec.center:
                prepared = np.pad(prepared, self.spec.n_fft // 2, mode="reflect")
            self.frames_of(prepared, logmel[:filled])
            self.fill(logmel[filled:])
        return out

    def emphasised(self, signal: NDArray[np.float32]) -> NDArray[Any]:
        """Applies the pre-emphasis of the whole waveform, if the spec has one, before frames are cut."""
        if not self.spec.center or not self.spec.pre_emphasis:
            return signal
        # In float64: the rounding of float32 alone is 2e-3 dB in the quiet bands beside a full-scale tone.
        samples = signal.astype(np.float64)
        return samples[1:] - self.spec.pre_emphasis * samples[:-1]

    def fill(self, out: NDArray[np.float32]) -> None:
        """Writes frames (frames, mels) that the waveform does not fill: zeros before the affine step."""
        out[...] = 0.0
        self._affine(out)

    def frames_of(self, prepared: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Writes the log-mel of the first frames of `prepared`, samples after `emphasised`, to `out` (frames, mels).

        Frame t starts at sample t · hop_length. It has n_fft samples if centred, win_length otherwise. No padding.
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
        """Writes the mel power of centred frames, n_fft samples each, to `out` (frames, mels)."""
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
        """Writes the mel power of frames that are not centred, win_length samples each, to `out` (frames, mels).

        Mean removal and pre-emphasis are applied inside each frame.
        """
        spec = self.spec
        frames = sliding_window_view(signal, spec.win_length)[:: spec.hop_length]  # a view
        for start in range(0, len(out), _EXACT_BLOCK_FRAMES):
            block = out[start : start + _EXACT_BLOCK_FRAMES]
            part = frames[start : start + len(block)].astype(np.float64)
            part -= part.mean(axis=1, keepdims=True)
            before = np.concatenate((part[:, :1], part[:, :-1]), axis=1)
            self._exact_mel((part - spec.pre_emphasis * before) * self._window64, block)

    def _floored_log(self, out: NDArray[np.float32]) -> None:
        """Replaces mel power by its logarithm, in decibels or nepers, in place."""
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
        # A float32 logarithm may round the floor by one unit; silence must be exactly the floor.
        np.copyto(out, np.float32(floor), where=at_floor)

    def _power_mel(self, frames: NDArray[np.float32], out: NDArray[np.float32], exact: NDArray[np.floating]) -> None:
        """Writes the mel power of frames (frames, n_fft) to `out`. `exact` holds the frames in the best precision."""
        windowed = np.multiply(frames, self._window, out=self._windowed[: len(frames)])
        energy = np.vecdot(windowed, windowed)  # (frames,)
        # re² and im² side by side, (frames, 2 · bins). The basis holds every weight twice, so the product adds them.
        squares = rfft(windowed, self.spec.n_fft).view(np.float32)
        np.square(squares, out=squares)
        self._apply_basis(squares, out)
        unresolved = (out < energy[:, None] * self._least_share) & (out > self._least_power)
        rows = np.flatnonzero(unresolved.any(axis=1))
        for start in range(0, len(rows), _EXACT_BLOCK_FRAMES):
            part = rows[start : start + _EXACT_BLOCK_FRAMES]
            mel = np.empty((len(part), self.spec.n_mels), np.float32)
            self._exact_mel(exact[part] * self._window64, mel)
            out[part] = mel

    def _exact_mel(self, windowed: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        """Writes the mel power of windowed frames to `out`, with a float64 FFT."""
        squares = rfft(windowed, self.spec.n_fft).view(np.float64).astype(np.float32)
        np.square(squares, out=squares)
        self._apply_basis(squares, out)

    def _apply_basis(self, squares: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        for filters, columns, weights in self._groups:
            step = max(1, _BLAS_ONE_THREAD // weights.size)
            for start in range(0, len(squares), step):
                rows = slice(start, start + step)
                np.matmul(squares[rows, columns], weights, out=out[rows, filters])


def as_array(samples: Any) -> NDArray[Any]:
    """Converts samples to an array.

    Raises:
        AudioError: numpy cannot, as for lists of different lengths.
    """
    try:
        return np.asarray(samples)
    except (TypeError, ValueError) as error:
        raise AudioError(f"samples {shown(samples)}; expected an array of floats") from error


def require_waveform(waveform: NDArray[Any], *, least: int) -> None:
    """Checks that a waveform is (samples,) or (batch, samples), floating point, of at least `least` samples.

    Raises:
        AudioError: it is not.
    """
    if not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(f"waveform of dtype {waveform.dtype}; expected float samples in [-1, 1]")
    if waveform.ndim not in (1, 2):
        raise AudioError(f"waveform of shape {waveform.shape}; expected (samples,) or (batch, samples)")
    if waveform.shape[-1] < least:
        raise AudioError(f"waveform of {waveform.shape[-1]} samples; expected at least {least}; pad it with zeros")


def _filter_groups(basis: NDArray[np.float32]) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """Splits the basis into groups of neighbouring filters: (filters, columns of re²/im² pairs, weights)."""
    groups = []
    for first in range(0, len(basis), _GROUP_FILTERS):
        filters = basis[first : first + _GROUP_FILTERS]
        used = np.flatnonzero(filters.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        weights = np.repeat(filters[:, low:high], 2, axis=1).T  # (2 · bins, filters)
        groups.append((slice(first, first + len(filters)), slice(2 * low, 2 * high), np.ascontiguousarray(weights)))
    return groups
