"""Log-mel of a waveform in numpy, as `FrontEndSpec` defines it, in float32 and, where that is not enough, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError, SpecError
from panns_litert.frontend.fft import rfft
from panns_litert.frontend.mel import mel_basis
from panns_litert.frontend.spec import FrontEndSpec
from panns_litert.strict import shown

# Frames per pass: their samples and their spectrum, 2 MB, fit into a level-2 cache. Memory use does not grow with the
# length of the audio.
_BLOCK_FRAMES = 256
# Samples of a waveform, with its padding, up to which their memory is kept for the next one.
_MOST_KEPT = 1 << 20
# The same in float64, with copies: the block fits into a level-2 cache, and malloc reuses its memory for the next one.
_EXACT_BLOCK_FRAMES = 64
# Filters per matrix product: neighbouring mel filters share a short range of bins. Products of eight filters skip most
# zeros of the basis and are still large enough for a matrix kernel.
_GROUP_FILTERS = 8
# OpenBLAS computes a product of up to 2**18 multiplications on the calling thread. Above that it wakes its threads, and
# while another process keeps a core busy, their spinning costs far more than the product.
_BLAS_ONE_THREAD = 1 << 18

# Which frames float32 resolves. Rounding in a float32 FFT adds noise of about the same power to every bin:
# (_NOISE · eps)² · log2(n_fft) of the frame's energy. It changes the power of a band by up to
# sqrt(2 · noise · power · largest weight) as a standard deviation, whatever the spectrum within the band. A frame is
# computed in float64 if some deviations of that are more than _TOLERANCE of a band's power and the offset under the
# logarithm. The noise of tones is not spread evenly, which matters most in narrow bands: the number of deviations is
# _DEVIATIONS · (1 + _NARROW / bins of the band). With fewer, a search for the worst, as in the tests but longer, found
# errors above the gate.
_NOISE = 0.3
_DEVIATIONS = 10.0
_NARROW = 0.9
_TOLERANCE = 9e-4 * math.log(10.0) / 10.0  # 9e-4 dB


def hann(length: int, padded_to: int, *, symmetric: bool = False) -> NDArray[np.float64]:
    """Returns the periodic or symmetric Hann window of `length` samples, centred in `padded_to` samples."""
    period = max(length - 1, 1) if symmetric else length
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / period)
    left = (padded_to - length) // 2
    return np.pad(window, (left, padded_to - length - left))


class LogMel:
    """Computes the log-mel of waveforms in float32, and in float64 for frames that float32 cannot resolve.

    Frames that are not centred are all computed in float64. It runs on one thread: a second core does not reliably make
    it faster. Build it once per spec and call it per clip. An instance holds scratch memory: use one per thread.

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
        left = (length - spec.win_length) // 2
        self._under_window = slice(left, left + spec.win_length)  # the samples of a frame that the window keeps
        self._window = self._window64[self._under_window].astype(np.float32)
        # Scratch memory: what is allocated anew for every clip costs as much time as it takes to fill it.
        self._samples: NDArray[Any] = np.empty(0)
        self._rounded = np.empty(0, np.float32)
        self._windowed = np.zeros((0, spec.n_fft), np.float32)  # zeros outside of the window
        self._windowed64 = np.zeros((_EXACT_BLOCK_FRAMES, spec.n_fft))
        self._spectrum = np.empty((_EXACT_BLOCK_FRAMES, spec.bins), np.complex64)
        self._spectrum64 = np.empty((_EXACT_BLOCK_FRAMES, spec.bins), np.complex128)
        self._groups = _filter_groups(basis)
        noise = (_NOISE * np.finfo(np.float32).eps) ** 2 * math.log2(spec.n_fft)
        largest = basis.max(axis=1).astype(np.float64)  # weight of each filter
        narrow = np.divide(largest, basis.sum(axis=1), out=np.zeros_like(largest), where=largest > 0)
        deviations = _DEVIATIONS * (1.0 + _NARROW * narrow)
        self._doubt = (2.0 * noise * (deviations / _TOLERANCE) ** 2 * largest).astype(np.float32)  # (mels,)
        self._offset = np.float32(spec.log_offset or 0.0)
        # Mel power at or below this has no effect on the log-mel.
        self._least_power = np.float32(0.5 * spec.amin)

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
            self.frames_of(self._padded(signal), logmel[:filled])
            self.fill(logmel[filled:])
        return out

    def _padded(self, signal: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the waveform (samples,) after pre-emphasis, reflected at both ends if frames are centred."""
        if not self.spec.center:
            return signal
        half, lost = self.spec.n_fft // 2, 1 if self.spec.pre_emphasis else 0
        dtype, length = (np.float64 if lost else np.float32), len(signal) - lost + 2 * half
        samples = self._samples
        if len(samples) != length:
            samples = np.empty(length, dtype)
            if length <= _MOST_KEPT:
                self._samples = samples
        inside = samples[half:-half]
        if lost:
            self.emphasised(signal, out=inside)
        else:
            inside[:] = signal
        samples[:half] = inside[half:0:-1]
        samples[-half:] = inside[-2 : -half - 2 : -1]
        return samples

    def emphasised(self, signal: NDArray[np.float32], *, out: NDArray[np.float64] | None = None) -> NDArray[Any]:
        """Applies the pre-emphasis of the whole waveform, if the spec has one, before frames are cut."""
        if not self.spec.center or not self.spec.pre_emphasis:
            return signal
        # In float64: the rounding of float32 alone is 2e-3 dB in the quiet bands beside a full-scale tone.
        prepared = np.multiply(signal[:-1], -self.spec.pre_emphasis, out=out, dtype=np.float64)
        prepared += signal[1:]
        return prepared

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
            self._centred(np.ascontiguousarray(prepared), out)
        else:  # the mean is removed and the pre-emphasis applied inside each frame, in float64 anyway
            self._exact_mel(_frames_of(prepared, len(out), spec.win_length, spec.hop_length), out)
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

    def _centred(self, prepared: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Writes the mel power of the first frames of `prepared`, n_fft samples each, to `out` (frames, mels)."""
        spec, part = self.spec, self._under_window
        for start in range(0, len(out), _BLOCK_FRAMES):
            power = out[start : start + _BLOCK_FRAMES]
            count, first = len(power), start * spec.hop_length
            exact = prepared[first : first + (count - 1) * spec.hop_length + spec.n_fft]
            if not (exact[0] or exact[-1] or exact.any()):  # padding and silence take no time
                power[...] = 0.0
                continue
            if len(self._windowed) < count:
                self._windowed = np.zeros((count, spec.n_fft), np.float32)
                self._spectrum = np.empty((max(count, _EXACT_BLOCK_FRAMES), spec.bins), np.complex64)
                self._rounded = np.empty(len(exact), np.float32)
            windowed, samples = self._windowed[:count], exact
            if exact.dtype != np.float32:
                samples = self._rounded[: len(exact)]
                samples[:] = exact
            frames = _frames_of(samples, count, spec.n_fft, spec.hop_length)
            np.multiply(frames[:, part], self._window, out=windowed[:, part])
            energy = np.vecdot(windowed, windowed)  # (frames,)
            spectrum = rfft(windowed, out=self._spectrum[:count])
            self._apply_basis(spectrum.view(np.float32), power)
            rows = self._unresolved(power, energy)
            if len(rows):
                mel = np.empty((len(rows), spec.n_mels), np.float32)
                self._exact_mel(_frames_of(exact, count, spec.n_fft, spec.hop_length)[rows], mel)
                power[rows] = mel

    def _exact_mel(self, frames: NDArray[np.floating], out: NDArray[np.float32]) -> None:
        """Writes the mel power of frames (frames, n) to `out` (frames, mels), with a float64 FFT."""
        spec = self.spec
        for start in range(0, len(frames), _EXACT_BLOCK_FRAMES):
            power = out[start : start + _EXACT_BLOCK_FRAMES]
            part, count = frames[start : start + len(power)], len(power)
            windowed = self._windowed64[:count]
            inside = windowed[:, : frames.shape[1]]
            if spec.center:
                np.multiply(part, self._window64, out=inside)
            else:
                inside[...] = part
                inside -= inside.mean(axis=1, keepdims=True)
                inside[:, 1:] -= spec.pre_emphasis * inside[:, :-1]
                inside[:, 0] *= 1.0 - spec.pre_emphasis
                inside *= self._window64
            rounded = self._spectrum[:count]
            rounded[...] = rfft(windowed, out=self._spectrum64[:count])
            self._apply_basis(rounded.view(np.float32), power)

    def _unresolved(self, power: NDArray[np.float32], energy: NDArray[np.float32]) -> NDArray[np.intp]:
        """Returns the numbers of the frames that float32 does not resolve.

        Args:
            power: mel power (frames, mels).
            energy: sum of the squares of each windowed frame, (frames,).
        """
        # Most bands are beyond doubt in every frame: (p + o)² / p is at least p + 2 o, and at least 4 o. fmin and fmax
        # leave out frames of NaN, which must not hide the others.
        offset = self._offset
        least = np.maximum(np.fmin.reduce(power) + 2 * offset, 4 * offset)
        most = np.fmax.reduce(energy) * self._doubt
        bands = np.flatnonzero((least <= most) & (np.fmax.reduce(power) > self._least_power))
        if not len(bands):
            return bands
        power = power[:, bands]
        ratio = power
        if offset:
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                ratio = power + 2 * offset + offset * (offset / power)  # no squares, which could underflow
        unresolved = (ratio < energy[:, None] * self._doubt[bands]) & (power > self._least_power)
        return np.flatnonzero(unresolved.any(axis=1))

    def _apply_basis(self, spectrum: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Writes the mel power of spectra, re and im side by side (frames, 2 · bins), to `out`.

        Overwrites the spectra with their squares. The basis holds every weight twice, so the product adds re² and im².
        """
        squares = np.square(spectrum, out=spectrum)
        for filters, columns, weights in self._groups:
            step = max(1, _BLAS_ONE_THREAD // weights.size)
            for start in range(0, len(squares), step):
                rows = slice(start, start + step)
                np.matmul(squares[rows, columns], weights, out=out[rows, filters])


def _frames_of(signal: NDArray[Any], count: int, length: int, hop: int) -> NDArray[Any]:
    """Returns the first frames of a signal as a view (count, length), which takes less time than numpy's own views."""
    signal = np.ascontiguousarray(signal)
    return np.ndarray((count, length), signal.dtype, signal, strides=(hop * signal.itemsize, signal.itemsize))


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
