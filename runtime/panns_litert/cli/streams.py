"""Standard input, output and error of the program: safe to write to, also if one of them is closed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO, cast

from panns_litert.errors import AudioError, PannsLitertError, ResultsError
from panns_litert.escape import escaped_lines


def repair_streams() -> None:
    """Prepares the standard streams of this process, for the rest of its life.

    - A closed descriptor 0, 1 or 2 is opened on the null device. Otherwise the next file that is opened would get its
      number, and what native code prints would be written into that file.
    - Python has None for a closed stream. A closed stdin or stdout now raises an error when it is used, and what is
      written to a closed stderr is lost.
    - libsndfile prints on descriptor 1 (for example when it reads a damaged SDS file), and the C library writes that
      as late as at the end of the process. Therefore `sys.stdout` gets a descriptor of its own, and descriptor 1 is
      stderr's.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # opens the lowest free descriptor, which is this one
    if sys.stdin is None:
        sys.stdin = cast(TextIO, _ClosedInput())
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    if sys.stdout is None:
        sys.stdout = cast(TextIO, _ClosedOutput())
    elif sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        sys.stdout.flush()
        sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, buffering=1 if os.isatty(1) else -1)
        os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):  # some terminals cannot encode all characters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _ClosedInput:
    @property
    def buffer(self) -> io.BufferedIOBase:
        raise AudioError("standard input is closed; expected samples on it")


class _ClosedOutput(io.TextIOBase):
    def write(self, text: str) -> int:
        raise ResultsError("standard output is closed; expected it open, for the results")


class _Escaping(io.TextIOBase):
    """A text stream whose text is escaped. `plain` is the stream behind it, for text with a terminal's own codes."""

    def __init__(self, plain: TextIO, *, required: bool) -> None:
        self.plain, self._required = plain, required

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.plain.encoding

    def fileno(self) -> int:
        return self.plain.fileno()

    def isatty(self) -> bool:
        return self.plain.isatty()

    def write(self, text: str) -> int:
        with self._checked():
            self.plain.write(escaped_lines(text))
        return len(text)

    def flush(self) -> None:
        with self._checked():
            self.plain.flush()

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (BrokenPipeError, PannsLitertError):
            if self._required:
                raise
        except OSError as error:
            if self._required:
                raise ResultsError(f"standard output: {error.strerror}; expected room for the results") from error


@contextlib.contextmanager
def escaping() -> Iterator[None]:
    """Escapes everything that the block prints on stdout and stderr: names of files and classes come from elsewhere.

    Messages on stderr that nobody can read, for example because a pipe was closed, are lost. They do not end the run.
    """
    out, err = _Escaping(sys.stdout, required=True), _Escaping(sys.stderr, required=False)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def plain(stream: TextIO) -> TextIO:
    """Returns the stream to which a terminal's codes, such as colours, can be written. Escape other text before."""
    return stream.plain if isinstance(stream, _Escaping) else stream


def end_stdout_soon(seconds: float = 2.0) -> bool:
    """Does what `end_stdout` does, but waits only so long for a reader that takes nothing, such as a pager. Returns
    whether all was written; if not, the end of Python would wait for it, too."""
    ending = threading.Thread(target=end_stdout, daemon=True)
    ending.start()
    ending.join(seconds)
    return not ending.is_alive()


def end_stdout() -> None:
    """Writes what is left in stdout's buffer. If that cannot be written, Python must not report it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
