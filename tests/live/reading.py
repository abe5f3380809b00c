"""Reads a source in a thread, and finds what was heard of a recording in it again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate

from panns_litert.errors import AudioError
from panns_litert.live import Heard, Lost, Source, elapsed_time


def place_in(sound: NDArray[np.float32], part: NDArray[np.float32]) -> tuple[int, float]:
    """Returns where in `sound` a part of it begins, and how well it fits there: the correlation, 1 for the same."""
    dots = correlate(sound, part, mode="valid", method="fft")
    energy = np.convolve(sound.astype(np.float64) ** 2, np.ones(len(part)), mode="valid")
    fits = dots / np.sqrt(np.maximum(energy, 1e-9) * float(np.dot(part, part)) + 1e-12)
    place = int(fits.argmax())
    return place, float(fits[place])


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


class Reading:
    """Reads a source in a thread: a context manager that closes it.

    Attributes:
        parts: what came so far.
        error: what ended the iteration, if anything.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.parts, self.error = source, list[Heard | Lost](), ""
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        try:
            for part in self.source:
                self.parts.append(part)
        except AudioError as error:
            self.error = str(error)

    @property
    def losses(self) -> list[Lost]:
        return [part for part in self.parts if isinstance(part, Lost)]

    def heard(self, begin: int = 0) -> NDArray[np.float32]:
        """Returns all samples from a part on."""
        samples = [part.samples for part in self.parts[begin:] if isinstance(part, Heard)]
        return np.concatenate([np.zeros(0, np.float32), *samples])

    def __enter__(self) -> Reading:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        begin = elapsed_time()
        self._thread.join(30.0)
        assert not self._thread.is_alive()
        assert elapsed_time() - begin < 5.0  # closing waits for no network


def require_true_times(parts: list[Heard | Lost], rate: int, *, within: float, after: float = 0.0) -> None:
    """Requires that times and lengths, of what was heard and what was lost, tell the same story.

    The first seconds, `after`, do not count: all blocks may be late until then, on a busy machine.
    """
    lengths = [part.seconds if isinstance(part, Lost) else len(part.samples) / rate for part in parts]
    starts = np.cumsum([0.0, *lengths[:-1]])
    errors = (np.array([part.time for part in parts]) - starts)[starts >= after]
    assert len(errors)
    assert np.ptp(errors) <= within
