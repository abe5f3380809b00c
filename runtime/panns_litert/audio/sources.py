"""Opens a recording: a path, a pipe, a file object or bytes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from panns_litert.audio.containers import HEAD_BYTES, Spliced, is_container, size_of
from panns_litert.errors import AudioError

_IN_MEMORY = 1 << 26  # bytes of a pipe; more are kept in a temporary file

FileLike = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | io.RawIOBase
"""A recording in a file: its path, its content, or a binary file object."""


class Opened(NamedTuple):
    """An open recording: a seekable binary file, and its path if libsndfile can open that by itself."""

    file: BinaryIO
    path: str | os.PathLike[str] | None


def is_file_like(audio: object) -> bool:
    """Returns whether this is a path, bytes or a binary file object, and not samples."""
    return isinstance(audio, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(audio, "read")


def name_of(audio: object) -> str:
    """Returns what a recording is called in results and messages."""
    if isinstance(audio, (str, os.PathLike)):
        return os.fspath(audio)
    name = getattr(audio, "name", None)
    return name if isinstance(name, str) else "bytes" if is_file_like(audio) else "samples"


@contextlib.contextmanager
def opened(audio: FileLike) -> Iterator[Opened]:
    """Opens a recording for reading from start to end.

    A pipe or another file that cannot seek is first read to its end, if it begins like an audio file.

    Raises:
        AudioError: the file is missing, empty, a folder, or not readable.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(audio, (bytes, bytearray, memoryview)):
            strided = isinstance(audio, memoryview) and not audio.c_contiguous
            file: IO[bytes] = io.BytesIO(bytes(audio) if strided else audio)
            path = None
        elif isinstance(audio, (str, os.PathLike)):
            path = Path(audio)
            file = stack.enter_context(_file(path))
        else:
            file, path = cast("IO[bytes]", audio), None
        if not _seekable(file):
            file, path = stack.enter_context(_spooled(file)), None
        elif path is None and (start := file.tell()):
            file = cast(BinaryIO, Spliced(cast(BinaryIO, file), [(start, size_of(cast(BinaryIO, file)))]))
        if size_of(cast(BinaryIO, file)) == 0:
            raise AudioError("the file is empty; expected audio")
        yield Opened(cast(BinaryIO, file), path)


def _file(path: Path) -> IO[bytes]:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise AudioError("a folder; expected an audio file")
        if stat.S_ISBLK(kind):
            raise AudioError("a device; expected an audio file")
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError("no such file; expected an audio file") from error
    except (OSError, ValueError) as error:  # a name too long or with a NUL, a folder that must not be read
        raise AudioError(f"{getattr(error, 'strerror', None) or error}; expected an audio file") from error


def _seekable(file: Any) -> bool:
    try:
        if isinstance(file.read(0), str):
            raise AudioError("a file opened as text; expected one opened in binary mode, 'rb'")
        return bool(file.seekable())
    except (AttributeError, OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"a file object that cannot be read ({error}); expected an open binary file") from error


@contextlib.contextmanager
def _spooled(file: IO[bytes]) -> Iterator[IO[bytes]]:
    try:
        head = read_head(file)
        if head and not is_container(head):
            raise AudioError(
                f"begins with {head[:4]!r}, no known audio file; expected WAV, FLAC, Ogg, MP3, AIFF, CAF, …"
            )
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
            copy.write(head)
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.seek(0)
            yield copy
    except AudioError:
        raise
    except OSError as error:
        raise AudioError(f"{error.strerror or error}; expected a readable stream, and room for a copy of it") from error


class Prefixed(io.RawIOBase):
    """A stream whose first bytes were read before.

    Args:
        head: those bytes.
        stream: the rest.
    """

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head, self._stream = head, stream

    def read1(self, size: int) -> bytes:
        """Returns bytes that are there already, at most `size`; none at the end of the stream."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return cast(bytes, getattr(self._stream, "read1", self._stream.read)(size))

    def readinto(self, buffer: Any) -> int:
        data = self.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True


def read_head(file: IO[bytes]) -> bytes:
    """Reads the first bytes of a stream, as many as `is_container` needs."""
    head = b""
    while len(head) < HEAD_BYTES and (more := file.read(HEAD_BYTES - len(head))):
        head += more
    return head
