"""Makes the recordings of the cases: small files of every format, and damage to them. Everything is seeded."""

from __future__ import annotations

import functools
import io
import struct
from fractions import Fraction
from itertools import pairwise

import numpy as np
import soundfile
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips

RATE = 32000
SECONDS = 6.0
"""Length of `sound`."""

MPEG_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG2_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@functools.cache
def clip(name: str) -> NDArray[np.float32]:
    """Returns a demo recording of 3 s at 32 kHz, exact in 16 bits."""
    path = next(path for path in demo_clips() if path.name.startswith(name))
    waveform = load_audio(path, sample_rate=RATE).waveform
    assert len(waveform) == 3 * RATE
    return (np.round(waveform * 32767) / 32768).astype(np.float32)


def sound(part: str = "", *, rate: int = RATE) -> NDArray[np.float32]:
    """Returns 3 s of a siren and 3 s of DTMF tones, or one of them. At a wrong speed, the demo model hears neither."""
    whole = clip(part) if part else np.concatenate((clip("siren"), clip("dtmf")))
    return np.ascontiguousarray(whole[:: RATE // rate])  # the tones are far below half the lowest rate, 8 kHz


@functools.cache
def encoded(form: str, subtype: str | None = None, part: str = "", *, rate: int = RATE, **options: object) -> bytes:
    """Returns a file of `sound` in a format of libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(part, rate=rate), rate, format=form, subtype=subtype, **options)
    return buffer.getvalue()


def floats(samples: NDArray[np.float32]) -> bytes:
    """Returns a WAV file of these samples as they are, float32."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def pcm(samples: NDArray[np.float32] | None = None, form: str = "<i2") -> bytes:
    """Returns samples as integers of 16 bits; `sound` by default."""
    samples = sound() if samples is None else samples
    return np.round(samples * 32768).clip(-32768, 32767).astype(form).tobytes()


def wav(
    data: bytes | None = None,
    *,
    size: int | None = None,
    riff: int | None = None,
    rate: int = RATE,
    channels: int = 1,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Returns a WAV file of 16-bit samples.

    Args:
        data: the samples; those of `sound` by default.
        size, riff: sizes that the header states; the right ones by default.
        rate, channels: what the header states.
        before, after: chunks, or anything else, in front of the samples' chunk and behind it.
    """
    data = pcm() if data is None else data
    block = 2 * max(1, channels)
    head = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * block % 2**32, block % 2**16, 16)
    size = len(data) if size is None else size
    body = b"WAVEfmt " + head + before + b"data" + struct.pack("<I", size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    """Returns bytes with other bytes at some positions."""
    result = bytearray(data)
    for position, replacement in changes:
        result[position : position + len(replacement)] = replacement
    return bytes(result)


def after(data: bytes, name: bytes) -> int:
    """Returns the position behind the first occurrence of a name."""
    return data.index(name) + len(name)


def hole(data: bytes, count: int = 300, *, share: float = 0.4) -> bytes:
    """Returns bytes with `count` random bytes somewhere in the middle."""
    return patched(data, (int(share * len(data)), np.random.default_rng(1).bytes(count)))


def without(data: bytes, count: int, *, share: float = 0.4) -> bytes:
    """Returns bytes without `count` of them, somewhere in the middle."""
    start = int(share * len(data))
    return data[:start] + data[start + count :]


def id3v2(count: int = 3000) -> bytes:
    """Returns an ID3v2 tag of this size."""
    size = count - 10
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + sizes + b"TIT2" + struct.pack(">IH", size - 10, 0) + b"\0".ljust(size - 10, b"t")


ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 7, 1, 0xA0000000) + bytes(8)
APE += struct.pack("<II", 7, 0) + b"Title\0x" + APE[:20] + struct.pack("<I", 0x80000000) + bytes(8)


def flac_unknown(data: bytes) -> bytes:
    """Returns a FLAC file whose header does not state the length."""
    return patched(data, (21, bytes((data[21] & 0xF0,))), (22, bytes(4)))


def mpeg_frames(data: bytes) -> list[bytes]:
    """Returns the frames of MPEG layer III audio that starts with a frame; an information frame comes first."""
    frames, position = [], 0
    while position + 4 <= len(data):
        version = 1 if data[position + 1] & 8 else 2
        kbits = (MPEG_KBITS if version == 1 else MPEG2_KBITS)[data[position + 2] >> 4]
        halves = 1 if version == 1 else 2 if data[position + 1] & 16 else 4  # MPEG 2.5
        hz = (44100, 48000, 32000)[data[position + 2] >> 2 & 3] // halves
        size = (144 if version == 1 else 72) * 1000 * kbits // hz + (data[position + 2] >> 1 & 1)
        frames.append(data[position : position + size])
        position += size
    return frames


def mp3(*, rate: int = RATE, part: str = "", variable: bool = False) -> bytes:
    """Returns MP3 of `sound`, or of one of its clips. The first frame is an information frame."""
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5} if variable else {}
    return encoded("MP3", "MPEG_LAYER_III", part=part, rate=rate, **options)


def mp3_stating(frames: int) -> bytes:
    """Returns MP3 of variable bit rate whose information frame states a wrong number of frames."""
    data = mp3(variable=True)
    at = data.index(b"Xing") if b"Xing" in data[:200] else data.index(b"Info")
    return patched(data, (at + 8, struct.pack(">I", frames)))


def ogg_pages(data: bytes) -> list[bytes]:
    """Returns the pages of an Ogg file."""
    starts = [at for at in range(len(data)) if data.startswith(b"OggS\0", at)]
    return [data[start:stop] for start, stop in pairwise((*starts, len(data)))]


def media(form: str, codec: str, *, rate: int = RATE, pause: float = 0.0) -> bytes:
    """Returns a file of `sound` that PyAV writes.

    Args:
        form, codec, rate: of the file.
        pause: seconds without packets after the siren, as of a recorder that was paused.
    """
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        size = stream.codec_context.frame_size or 1024
        samples = np.frombuffer(pcm(sound(rate=rate)), "<i2")
        for at in range(0, len(samples), size):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + size], "s16", "mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = at + (round(pause * rate) if at >= len(samples) // 2 else 0)
            for each in av.AudioResampler(format=stream.format, layout="mono", rate=rate).resample(frame):
                container.mux(stream.encode(each))
        container.mux(stream.encode(None))
    return buffer.getvalue()
