"""Redirects the output of native code to a file."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


class NativeLog:
    """The output that was written while `native_log` was active."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def text(self) -> str:
        """Returns the log so far."""
        return self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""


@contextlib.contextmanager
def native_log(path: Path | None = None) -> Iterator[NativeLog]:
    """Redirects stdout and stderr of native code and of Python to a file for as long as the context lasts.

    LiteRT and the converter write progress notes directly to the process's file descriptors, which logging settings do
    not affect.

    Args:
        path: the file, appended to; a temporary file, removed at the end, if not given.
    """
    with contextlib.ExitStack() as stack:
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "native.log"
        log = stack.enter_context(path.open("ab", buffering=0))
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            if stream is not None:  # None in a windowed or detached process
                stream.flush()
            try:
                saved = os.dup(descriptor)
            except OSError:  # closed by the host program: nothing to redirect
                continue
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
            os.dup2(log.fileno(), descriptor)
        text = stack.enter_context(open(log.fileno(), "w", encoding="utf-8", closefd=False))
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        try:
            yield NativeLog(path)
        finally:
            text.flush()
