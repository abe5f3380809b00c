"""Reads raw samples without a header, for example from a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError

# Samples per read of a stream, all channels together: 256 kB. That is a few seconds, so that results come soon.
STREAMED_SAMPLES = 1 << 16

RAW_FORMATS = {"s16le": ("<i2", 32768.0), "s32le": ("<i4", 2147483648.0), "f32le": ("<f4", 1.0)}
"""Formats of raw samples: name to numpy dtype and full-scale value."""


def raw_blocks(
    stream: BinaryIO, *, channels: int = 1, form: str = "s16le", most: int = STREAMED_SAMPLES
) -> Iterator[NDArray[np.float32]]:
    """Yields raw interleaved samples as blocks (n, channels) float32, as soon as they arrive.

    Args:
        stream: binary stream, read to its end. An incomplete frame at the end is left out.
        channels: number of channels, ≥ 1.
        form: one of `RAW_FORMATS`.
        most: largest number of samples in a block, all channels together.

    Raises:
        AudioError: channels or form is out of range.
    """
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1 or form not in RAW_FORMATS:
        raise AudioError(
            f"raw samples: {channels!r} channels, format {form!r}; expected ≥ 1 and one of {', '.join(RAW_FORMATS)}"
        )
    dtype, full_scale = RAW_FORMATS[form]
    size = np.dtype(dtype).itemsize * channels
    rest = b""
    read = getattr(stream, "read1", stream.read)  # read1 returns what has arrived; read waits for a full block
    while data := read(max(1, most // channels) * size):
        data = rest + data
        whole = len(data) // size * size
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], dtype).astype(np.float32) / np.float32(full_scale)
            yield samples.reshape(-1, channels)
