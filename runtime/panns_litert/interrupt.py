"""Interrupt: makes Ctrl-C end work whose libraries lose the exception."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

_AGAIN_SECONDS = 0.2  # from one attempt to the next
_inside = False

_WATCH = """
import os, select, signal, sys
parent, seconds = int(sys.argv[1]), float(sys.argv[2])
signal.signal(signal.SIGINT, signal.SIG_IGN)
wait = None
while True:
    if not select.select([0], [], [], wait)[0]:
        os.write(2, b"panns-litert: interrupted in a step that cannot be stopped; the process was ended\\n")
        os.kill(parent, signal.SIGKILL)
        break
    heard = os.read(0, 4096)
    if not heard:
        break
    if b"A" in heard:
        wait = None
    elif bytes([signal.SIGINT]) in heard or bytes([signal.SIGTERM]) in heard:
        wait = seconds
"""
"""Program that watches a process: it ends it if a signal is not followed in time by "A", the handler's answer.

Its input gets the numbers of the process's signals from C, also while native code holds Python's lock.
"""


@contextlib.contextmanager
def insisting(*, kill_after: float | None = None) -> Iterator[None]:
    """Ensures that Ctrl-C (and a SIGTERM with a Python handler) interrupts the block, at the latest at its end.

    Python discards a KeyboardInterrupt that is raised inside a callback of its garbage collector, and some libraries
    catch it when they are imported; torch, jax and litert-torch do both. Therefore it is raised again, by a timer,
    until it leaves the block. While an `except` or `finally` handles it, it is not raised again. Blocks may be nested.
    Outside the main thread, which alone gets signals, this does nothing.

    Args:
        kill_after: seconds after which another process kills this one if Python could not react, because native code
            runs. None, which is right for a library: it is waited for.
    """
    global _inside
    if _inside or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    interrupted, ended = False, False
    watch = contextlib.ExitStack()
    answer = watch.enter_context(_watched(kill_after)) if kill_after is not None else lambda: None

    def first(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        answer()
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
        watch.close()
        for number, handler in before:
            signal.signal(number, handler)
        if interrupted:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _watched(seconds: float) -> Iterator[Callable[[], object]]:
    """Starts the watching process. Yields the function with which a handler of signals answers it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        command = [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid()), str(seconds)]
        child = subprocess.Popen(command, stdin=read, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError:  # no process can be started; then native code is waited for
        os.close(write)
        yield lambda: None
        return
    finally:
        os.close(read)
    os.register_at_fork(after_in_child=_leave)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield lambda: os.write(write, b"A")
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        child.wait()


def _leave() -> None:
    """In a child after a fork: its signals are not those of the process that is watched."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
