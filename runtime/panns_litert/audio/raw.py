"""Raw samples without a header, as from a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError

# The same for a recording that is heard as it is read: 256 kB, some seconds, so that results come soon.
STREAMED_SAMPLES = 1 << 16


RAW_FORMATS = {"s16le": ("<i2", 32768.0), "s32le": ("<i4", 2147483648.0), "f32le": ("<f4", 1.0)}
"""Raw samples by name: how they are stored, and what full scale is."""


def raw_blocks(
    stream: BinaryIO, *, channels: int = 1, form: str = "s16le", most: int = STREAMED_SAMPLES
) -> Iterator[NDArray[np.float32]]:
    """Raw interleaved samples, as from a pipe, in blocks (n, channels) float32 as soon as they are there.

    Args:
        stream: where to read; its end ends the samples, and a sample that is cut off there is left out.
        channels: ≥ 1.
        form: one of `RAW_FORMATS`.
        most: samples of a block at most.

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
    read = getattr(stream, "read1", stream.read)  # what is there, and not only when a block is full
    while data := read(max(1, most // channels) * size):
        data = rest + data
        whole = len(data) // size * size
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], dtype).astype(np.float32) / np.float32(full_scale)
            yield samples.reshape(-1, channels)
