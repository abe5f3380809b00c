"""The microphone as an iterator of chunks (extra `mic`)."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError, importing

MOST_SECONDS = 60.0
"""Seconds of sound that may wait for a slow model. Beyond that, listening ends with an error. Nothing is dropped."""


@contextlib.contextmanager
def microphone(rate: int, *, device: str | int | None = None) -> Iterator[Iterator[NDArray[np.float32]]]:
    """Opens a microphone for as long as the context lasts, and yields an iterator of its chunks (n,) float32.

    Args:
        rate: wanted sample rate, Hz.
        device: number of the device or part of its name; the system's default if not given.

    Raises:
        MissingDependencyError: sounddevice or its library PortAudio is not installed.
        AudioError: there is no such microphone, it is in use, or the reader fell more than a minute behind.
    """
    with importing("sounddevice", extra="mic", purpose="the microphone needs", also="the library PortAudio"):
        import sounddevice
    waiting: queue.Queue[NDArray[np.float32]] = queue.Queue()
    most = MOST_SECONDS * rate

    def heard(data: Any, frames: int, _time: object, status: Any) -> None:
        if status.input_overflow:  # NaN stands for the samples that the sound card lost: their window is not tagged
            waiting.put(np.full(1, np.nan, np.float32))
        waiting.put(np.frombuffer(data, np.float32).copy())

    chosen = int(device) if isinstance(device, str) and device.isdigit() else device
    try:
        with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="float32", device=chosen, callback=heard):
            yield _chunks(waiting, most)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"microphone: {error}; expected one that is connected, allowed and not in use") from error


def _chunks(waiting: queue.Queue[NDArray[np.float32]], most: float) -> Iterator[NDArray[np.float32]]:
    while True:
        taken = [waiting.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                taken.append(waiting.get_nowait())
        samples = np.concatenate(taken)
        if len(samples) > most:
            raise AudioError(
                f"the model is {MOST_SECONDS:g} s behind the microphone; expected a faster model or a longer --hop"
            )
        yield samples
