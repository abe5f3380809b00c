"""The FFT of scipy.fft, without the rest of it, whose import takes long."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXTENSION = "scipy.fft._pocketfft.pypocketfft"


def rfft(rows: NDArray[np.floating], *, out: NDArray[np.complexfloating] | None = None) -> NDArray[np.complexfloating]:
    """Returns the FFT of real rows (n, samples), samples even: (n, samples / 2 + 1), in the rows' precision.

    Args:
        rows: float32 or float64.
        out: array for the result, which may be used or not.
    """
    return _transform()(rows, out)


@functools.cache
def _transform() -> Callable[[NDArray[Any], NDArray[Any] | None], NDArray[Any]]:
    """Returns the function behind scipy.fft.rfft, or, in a scipy that has no such function, scipy.fft.rfft."""
    try:
        r2c = _extension().r2c
        if r2c(np.ones((2, 4), np.float32), (1,), True, 0, None, 1).tolist() == [[4, 0, 0]] * 2:
            return lambda rows, out: r2c(rows, (1,), True, 0, out, 1)
    except Exception:  # anything: it is no public part of scipy
        pass
    from scipy import fft

    return lambda rows, _: fft.rfft(rows, axis=1)


def _extension() -> Any:
    scipy = importlib.util.find_spec("scipy")
    places = [] if scipy is None else scipy.submodule_search_locations or []
    spec = PathFinder.find_spec(_EXTENSION, [os.path.join(place, "fft", "_pocketfft") for place in places])
    if spec is None or spec.loader is None:
        raise ImportError(_EXTENSION)
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    return extension
