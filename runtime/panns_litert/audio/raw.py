"""Reads raw samples without a header, for example from a pipe."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

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
