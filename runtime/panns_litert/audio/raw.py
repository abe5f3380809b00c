"""Reads raw samples without a header, for example from a pipe."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from panns_litert.audio.samples import require_plausible
from panns_litert.errors import AudioError

# Samples per read of a stream, all channels together: 256 kB. That is a few seconds, so that results come soon.
STREAMED_SAMPLES = 1 << 16


def _numbers(dtype: str, full_scale: float, offset: float = 0.0) -> Callable[[bytes], NDArray[np.float32]]:
    def decode(data: bytes) -> NDArray[np.float32]:
        return ((np.frombuffer(data, dtype).astype(np.float64) - offset) / full_scale).astype(np.float32)

    return decode


def _s24le(data: bytes) -> NDArray[np.float32]:
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return padded.reshape(-1).view("<i4").astype(np.float32) / np.float32(2.0**31)


@functools.cache
def _law(subtype: str) -> NDArray[np.float32]:
    """Returns the value of each byte of a companded format."""
    table, _ = soundfile.read(
        io.BytesIO(bytes(range(256))), format="RAW", subtype=subtype, samplerate=8000, channels=1, dtype="float32"
    )
    return cast("NDArray[np.float32]", table)


RAW_FORMATS: dict[str, tuple[int, Callable[[bytes], NDArray[np.float32]]]] = {
    "s16le": (2, _numbers("<i2", 2.0**15)),
    "s24le": (3, _s24le),
    "s32le": (4, _numbers("<i4", 2.0**31)),
    "f32le": (4, _numbers("<f4", 1.0)),
    "f64le": (8, _numbers("<f8", 1.0)),
    "u8": (1, _numbers("u1", 128.0, 128.0)),
    "mulaw": (1, lambda data: _law("ULAW")[np.frombuffer(data, np.uint8)]),
    "alaw": (1, lambda data: _law("ALAW")[np.frombuffer(data, np.uint8)]),
}
"""Formats of raw samples: name to bytes per sample, and a function that decodes bytes to float32 of full scale 1."""


def raw_blocks(
    stream: BinaryIO | io.RawIOBase, *, channels: int = 1, form: str = "s16le", most: int = STREAMED_SAMPLES
) -> Iterator[NDArray[np.float32]]:
    """Yields raw interleaved samples as blocks (n, channels) float32, as soon as they arrive.

    Args:
        stream: binary stream, read to its end. An incomplete frame at the end is left out.
        channels: number of channels, 1 … 1024.
        form: one of `RAW_FORMATS`.
        most: largest number of samples in a block, all channels together.

    Raises:
        AudioError: channels or form is out of range.
    """
    if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= 1024:
        raise AudioError(f"raw samples of {channels!r} channels; expected 1 … 1024")
    if form not in RAW_FORMATS:
        raise AudioError(f"raw samples of format {form!r}; expected one of {', '.join(RAW_FORMATS)}")
    size, decode = RAW_FORMATS[form]
    size *= channels
    rest = b""
    read = getattr(stream, "read1", stream.read)  # read1 returns what has arrived; read waits for a full block
    while data := read(max(1, most // channels) * size):
        data = rest + data
        whole = len(data) // size * size
        rest = data[whole:]
        if whole:
            yield decode(data[:whole]).reshape(-1, channels)


class WavHeader(NamedTuple):
    """What the header of a WAV stream states: rate (Hz), number of channels, format of the samples (one of
    `RAW_FORMATS`), and how many bytes of samples follow; None if it does not know."""

    rate: int
    channels: int
    form: str
    size: int | None


def wav_header(stream: BinaryIO | io.RawIOBase) -> WavHeader:
    """Reads the header of a WAV stream up to its samples, which `WavSamples` then reads as they arrive.

    Raises:
        AudioError: the stream is no WAV file, or of samples in another format.
    """
    rate, channels, form = 0, 0, None
    read = functools.partial(_exactly, stream)
    if (riff := read(12))[:4] not in (b"RIFF", b"RF64") or riff[8:] != b"WAVE":
        raise AudioError("a pipe that begins like no WAV file; expected WAV or raw samples")
    while (name := read(4)) != b"data":
        size = int.from_bytes(read(4), "little")
        left = size + (size & 1)
        content = read(min(left, _MOST_OF_CHUNK))
        while left := left - min(left, _MOST_OF_CHUNK):
            read(min(left, _MOST_OF_CHUNK))
        if name == b"fmt " and len(content) >= 16:
            tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
            tag = int.from_bytes(content[24:26], "little") if tag == 0xFFFE else tag
            form = _WAV_FORMATS.get((tag, bits))
    size = int.from_bytes(read(4), "little")
    if form is None or not rate:
        raise AudioError(f"a WAV stream without PCM or float samples; expected one of {', '.join(RAW_FORMATS)}")
    require_plausible(rate)
    # a program that writes into a pipe does not know how much will come, and states nothing or as much as it can
    return WavHeader(rate, channels, form, size if 0 < size < _UNKNOWN_SIZE else None)


class WavSamples(io.RawIOBase):
    """The samples of a WAV stream behind its header, for `raw_blocks`: they end where the header says, and not with
    what a program has written behind them, such as titles. WAV files of the same form that follow are read, too.

    Args:
        stream: the stream, which `wav_header` has read.
        header: what that returned.

    Attributes:
        stated: bytes of samples that were stated so far; None if it is not known.
        taken: bytes of samples so far.
        warnings: what is not heard, one phrase each.
    """

    def __init__(self, stream: BinaryIO | io.RawIOBase, header: WavHeader) -> None:
        self._stream, self._header = stream, header
        self.stated, self.taken = header.size, 0
        self.warnings: tuple[str, ...] = ()
        self._ended = False

    def read1(self, size: int) -> bytes:
        """Returns samples that are there already, at most `size` bytes; none at their end."""
        left = size if self.stated is None else min(size, self.stated - self.taken)
        if not left and not self._ended:
            first = self._behind()
            self.taken += len(first)
            if first or self._ended:
                return first
            return self.read1(size)
        read: Callable[[int], bytes] = getattr(self._stream, "read1", self._stream.read)
        data = b"" if self._ended else read(left)
        self.taken += len(data)
        return data

    def _behind(self) -> bytes:
        """Reads what follows the samples. Returns it if these are more samples, whatever the header says."""
        assert self.stated is not None
        head: bytes | None = _at_most(self._stream, self.stated % 2)
        while True:
            name = _at_most(self._stream, 4)
            if name in (b"RIFF", b"RF64"):
                if self._follows(name):
                    return b""
                break
            if name and not (name.isascii() and name.decode().isprintable()):
                if head is not None:  # no chunk: the size is wrong
                    self.stated = None
                    return head + name
                self.warnings += ("what is behind its samples is no part of a WAV file and is not heard",)
                break
            size = int.from_bytes(_at_most(self._stream, 4), "little")
            left, head = size + size % 2, None
            while left and (data := _at_most(self._stream, min(left, _MOST_OF_CHUNK))):
                left -= len(data)
            if left or not name:
                break
        while _at_most(self._stream, _MOST_OF_CHUNK):  # so that the program that writes it can end
            pass
        self._ended = True
        return b""

    def _follows(self, name: bytes) -> bool:
        """Reads the header of a WAV file that follows. Returns whether its samples are of the same form."""
        try:
            header = wav_header(_Again(name, self._stream))
            if header[:3] == self._header[:3]:
                assert self.stated is not None
                self.stated = None if header.size is None else self.stated + header.size
                return True
            why = "of another form"
        except AudioError:
            why = "not readable"
        self.warnings += (f"another recording follows, which is {why} and is not heard",)
        return False


class _Again(io.RawIOBase):
    """A stream in front of which bytes are put back."""

    def __init__(self, head: bytes, stream: BinaryIO | io.RawIOBase) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes | None:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


_WAV_FORMATS = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
_UNKNOWN_SIZE = 0x7FFF0000  # bytes; from here on it stands for "unknown"
_MOST_OF_CHUNK = 1 << 20  # bytes of a chunk in front of the samples


def _exactly(stream: BinaryIO | io.RawIOBase, count: int) -> bytes:
    data = _at_most(stream, count)
    if len(data) < count:
        raise AudioError("the stream ends in the header of a WAV file; expected samples behind it")
    return data


def _at_most(stream: BinaryIO | io.RawIOBase, count: int) -> bytes:
    """Returns `count` bytes, or those up to the stream's end."""
    data = b""
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    return data
