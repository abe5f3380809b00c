"""Interrupt: makes Ctrl-C end work whose libraries lose the exception."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

_AGAIN_SECONDS = 0.2  # from one attempt to the next
_inside = False


@contextlib.contextmanager
def insisting() -> Iterator[None]:
    """Ensures that Ctrl-C (and a SIGTERM with a Python handler) interrupts the block, at the latest at its end.

    Python discards a KeyboardInterrupt that is raised inside a callback of its garbage collector, and some libraries
    catch it when they are imported; torch, jax and litert-torch do both. Therefore it is raised again, by a timer,
    until it leaves the block. While an `except` or `finally` handles it, it is not raised again. Blocks may be nested.
    Outside the main thread, which alone gets signals, this does nothing.
    """
    global _inside
    if _inside or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    interrupted, ended = False, False

    def first(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
        again()

    def again(*_: object) -> None:
        if not ended and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            raise KeyboardInterrupt

    # Only signals with a Python handler are replaced; a default SIGTERM keeps its effect.
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))]
    before = [(number, signal.signal(number, first)) for number in numbers]
    before.append((signal.SIGALRM, signal.signal(signal.SIGALRM, again)))
    _inside = True
    try:
        yield
    finally:
        ended = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        _inside = False
        for number, handler in before:
            signal.signal(number, handler)
        if interrupted:
            raise KeyboardInterrupt
