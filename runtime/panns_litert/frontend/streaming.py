"""Streaming log-mel: computes each frame of a stream once, as soon as its samples have arrived."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError
from panns_litert.frontend.logmel import LogMel, as_array, require_waveform
from panns_litert.frontend.spec import FrontEndSpec


class StreamingLogMel:
    """Computes the log-mel of a stream: each frame once, as soon as its samples have arrived.

    Chunks of any size give the same frames as `LogMel` for the whole stream. An instance handles one stream at a time
    and is not safe for use by several threads at once.

    Args:
        spec: the definition of the log-mel. `padded_frames` is ignored, because a stream has no fixed length.
        basis: as for `LogMel`.

    >>> stream = StreamingLogMel(PANNS_32K)
    >>> [len(stream.push(np.zeros(16000, np.float32))), len(stream.push(np.zeros(16000, np.float32)))]
    [49, 50]
    >>> len(stream.finish())
    2
    """

    def __init__(self, spec: FrontEndSpec, *, basis: NDArray[np.float32] | None = None) -> None:
        self._logmel = LogMel(spec, basis=basis)
        self.spec = spec
        self._length = spec.n_fft if spec.center else spec.win_length  # of a frame
        self._restart()

    def _restart(self) -> None:
        self._raw = np.empty(0, np.float32)  # the newest sample, which pre-emphasis needs for the next one
        self._signal = np.empty(0, np.float32)  # samples from the next frame's start on
        self._tail = np.empty(0, np.float32)  # the newest samples, which are reflected at the end
        self._pending = 0  # samples to skip before the next frame starts
        self._begun = False  # whether the start has been reflected

    def push(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        """Takes the next samples (n,) and returns the frames (frames, n_mels), float32, that they complete.

        Raises:
            AudioError: wrong rank or dtype. The stream stays as it was before the call.
        """
        samples = as_array(samples)
        if samples.ndim != 1:
            raise AudioError(f"samples of shape {samples.shape}; expected (samples,)")
        require_waveform(samples, least=0)
        raw = np.concatenate((self._raw, samples.astype(np.float32, copy=False)))
        self._raw = raw[-1:] if self.spec.center and self.spec.pre_emphasis else raw[:0]
        return self._take(self._logmel.emphasised(raw))

    def finish(self) -> NDArray[np.float32]:
        """Ends the stream: returns the frames (frames, n_mels) at its end, and resets for a new stream.

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

    def samples_for(self, frames: int) -> int:
        """Returns the number of samples that complete the first `frames` frames of a stream, frames ≥ 1."""
        spec, before = self.spec, (frames - 1) * self.spec.hop_length
        if not spec.center:
            return before + spec.win_length
        # The start is reflected once there is a sample more than that needs.
        return max(before, 1) + spec.n_fft // 2 + (1 if spec.pre_emphasis else 0)

    def fill(self, out: NDArray[np.float32]) -> None:
        """Writes frames (frames, n_mels) that no samples fill, as `spec.padded_frames` requires."""
        self._logmel.fill(out)

    def _take(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the frames that samples after pre-emphasis complete; reflects the start of the stream if centred."""
        half = self.spec.n_fft // 2
        newest = prepared[-half - 1 :]
        older = max(0, len(self._tail) + len(newest) - half - 1)
        self._tail = np.concatenate((self._tail[older:], newest))
        if self._begun or not self.spec.center:
            return self._frames(prepared)
        self._signal = np.concatenate((self._signal, prepared))
        if len(self._signal) <= half:
            return np.empty((0, self.spec.n_mels), np.float32)
        self._begun = True
        begin, self._signal = self._signal, self._signal[:0]
        return self._frames(np.concatenate((begin[half:0:-1], begin)))

    def _frames(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """Appends samples after pre-emphasis and padding, and returns the frames that they complete."""
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
