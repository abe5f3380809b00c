"""Finds the sound of a file whose header is wrong, that is damaged, or that holds several streams one after another.

libsndfile trusts the sizes in a header, stops at the first damaged spot, and reads the first of several streams. The
functions here look at the structure of the file only, and say which bytes libsndfile should be given instead.
"""

from __future__ import annotations

import functools
import io
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice, pairwise
from typing import BinaryIO, NamedTuple, cast

from panns_litert.audio.media import is_media

_COPY = 1 << 16  # bytes
# A program that cannot seek back writes about 2 GiB (at least this), about 4 GiB, or nearly the most of 64 bits.
_UNKNOWN = 0x7FFF0000


class Spliced(io.RawIOBase):
    """A read-only file made of ranges of another file and of bytes, for soundfile's virtual IO.

    Args:
        file: seekable file.
        pieces: (start, stop) positions in the file, or bytes.
    """

    def __init__(self, file: BinaryIO, pieces: list[tuple[int, int] | bytes]) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if isinstance(piece, bytes) or piece[1] > piece[0]]
        sizes = (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self._pieces)
        self._starts = list(accumulate(sizes, initial=0))
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._at, self._starts[-1])[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills the buffer as far as the file goes: libsndfile takes fewer bytes for the end of the file."""
        filled = 0
        while filled < len(buffer) and self._at < self._starts[-1]:
            index = bisect_right(self._starts, self._at) - 1
            piece, begin = self._pieces[index], self._at - self._starts[index]
            count = min(len(buffer) - filled, self._starts[index + 1] - self._at)
            if isinstance(piece, bytes):
                data = piece[begin : begin + count]
            else:
                self._file.seek(piece[0] + begin)
                data = self._file.read(count)
            if not data:
                break
            buffer[filled : filled + len(data)] = data
            filled += len(data)
            self._at += len(data)
        return filled


@dataclass
class Part:
    """A stream that libsndfile can open.

    Attributes:
        pieces: what to give to libsndfile, as for `Spliced`; None for the file as it is.
        declared: share of the part's decoded length that the header declares; None if it declares none.
        lost: places where sound is missing: seconds from the part's start, and seconds that are missing.
        stated: whether the part states its length, which then includes what is missing.
        file: the file of the pieces, if it is another one.
        span: where the part in front of this one ends, and where this one ends, in seconds of one clock; None if there
            is no such clock.
        note: what is wrong with the part as a whole, if anything is.
    """

    pieces: list[tuple[int, int] | bytes] | None = None
    declared: float | None = 1.0
    stated: bool = False
    lost: list[tuple[float, float]] = field(default_factory=list)
    file: BinaryIO | None = None
    span: tuple[float, float] | None = None
    note: str | None = None


def _declared(stated: int, here: int) -> float | None:
    unknown = _UNKNOWN <= stated < 2**31 or 2**32 - 2**16 <= stated < 2**32 or stated >= 2**62
    return None if unknown and here < stated // 2 else stated / here


HEAD_BYTES = 16
"""Bytes that `is_container` needs."""

_MAGIC = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"riff\x2e\x91", b"ID3"),
    *(b"NIST", b"Creative Voice"),
)


def is_container(head: bytes, *, mpeg: bool = True) -> bool:
    """Returns whether a stream that begins with these bytes is a file of a known format, and not raw samples.

    Args:
        head: the first `HEAD_BYTES` bytes.
        mpeg: whether to recognise MPEG audio, AAC and AC-3, which begin with a frame: two bytes of raw samples look the
            same.
    """
    return head.startswith(_MAGIC) or is_media(head, frames=mpeg) or (mpeg and _mpeg_header(head[:4]) is not None)


def parts_of(file: BinaryIO) -> list[Part]:
    """Returns the streams of a file in their order; one `Part` without pieces if libsndfile can read it as it is."""
    file.seek(0)
    start = _after_id3(file)
    magic = _at(file, start, 12)
    if start and is_container(magic, mpeg=False) and magic[:4] != b"fLaC":  # libsndfile wants no tag in front of these
        return _parts_from(file, start)
    if magic[:4] + magic[8:11] in _CHUNKED:
        return _chunked_parts(file, magic)
    if magic[:4] == b"caff":
        ends = [position + stated for name, position, stated in _chunks(file, 8, ">4sQ") if name not in _OTHERS]
        return _with_others(file, _chunked(file, 8, ">4sQ", b"data"), ends)
    if magic[:4] == b"riff":
        chunks = islice(_w64_chunks(file), _MOST_CHUNKS)  # where the size is wrong, the samples are taken for chunks
        ends = [position + (stated + 7 & ~7) for _, position, stated in chunks]
        return _with_others(file, _w64(file), ends)
    if magic[:4] == b".snd":
        return [_au(file)]
    if magic[:4] == b"NIST":
        return [_nist(file)]
    if magic[:4] == b"fLaC":
        return _flac_streams(file, start)
    if magic[:4] == b"OggS":
        return _ogg_parts(file)
    if _mpeg_header(magic[:4]) is not None or start:
        return mpeg_parts(file, start)
    return [Part()]


def parts_behind(file: BinaryIO) -> list[Part]:
    """Returns the streams of a file that begins with something else; none if there are none."""
    match = _START.search(_at(file, 0, _MOST_IN_FRONT))
    return _parts_from(file, match.start()) if match else []


_START = re.compile(
    rb"OggS\0\x02|RI(?:FF|FX)....WAVE|(?:RF|BW)64....WAVE|FORM....AIF[FC]|caff\0\x01\0\0desc", re.DOTALL
)
_MOST_IN_FRONT = 1 << 20  # bytes


def _parts_from(file: BinaryIO, start: int) -> list[Part]:
    rest = cast(BinaryIO, Spliced(file, [(start, size_of(file))]))
    whole: list[tuple[int, int] | bytes] = [(0, size_of(rest))]
    return [replace(part, file=part.file or rest, pieces=part.pieces or whole) for part in parts_of(rest)]


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def size_of(file: BinaryIO) -> int:
    """Returns the size of a seekable file, in bytes."""
    return file.seek(0, io.SEEK_END)


def _after_id3(file: BinaryIO, position: int = 0) -> int:
    """Returns the position after the ID3v2 tags at a position of a file, which is its start if not given."""
    while (head := _at(file, position, 10))[:3] == b"ID3" and len(head) == 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if head[5] & 0x10 else 0)
    return position


# ---- WAV, RF64, AIFF, CAF, AU: a chunk with the samples, and its size


_MOST_CHUNKS = 1000
_OTHERS = (b"fLaC", b"OggS", b"caff", b"riff")  # names of no chunk: another file begins there
_CHUNKED = (b"RIFFWAV", b"RIFXWAV", b"RF64WAV", b"BW64WAV", b"FORMAIF")


def _chunked_parts(file: BinaryIO, magic: bytes) -> list[Part]:
    """Returns the streams of WAV or AIFF files that follow each other, and of what follows them."""
    form = "<4sI" if magic[:4] in (b"RIFF", b"RF64", b"BW64") else ">4sI"
    parts, begin, size = list[Part](), 0, size_of(file)
    while True:
        end = size
        for name, position, _ in _chunks(file, begin + 12, form):
            if name + _at(file, position, 3) in _CHUNKED or name in _OTHERS:
                end = position - 8
                break
        one = file if (begin, end) == (0, size) else cast(BinaryIO, Spliced(file, [(begin, end)]))
        head = _at(one, 0, 12)
        part = _chunked(one, 12, ">4sI", b"SSND") if head[:4] == b"FORM" else _riff(one, head)
        if isinstance(one, Spliced):
            part.file, part.pieces = one, part.pieces or [(0, size_of(one))]
        parts.append(part)
        if end == size:
            return parts
        head = _at(file, end, 12)
        if head[:4] + head[8:11] not in _CHUNKED:
            return parts + _parts_from(file, end)
        begin = end


def _with_others(file: BinaryIO, part: Part, ends: list[int]) -> list[Part]:
    """Returns a stream that ends with the last of its chunks, and the streams of another file that follows."""
    ends = [end for end in ends if end < size_of(file)]
    end = next((end for end in ends if is_container(_at(file, end, HEAD_BYTES), mpeg=False)), None)
    if end is None:
        return [part]
    return [replace(part, pieces=part.pieces or [(0, end)]), *_parts_from(file, end)]


def _chunks(file: BinaryIO, start: int, form: str) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, position of the content and stated size of each chunk."""
    size, head = size_of(file), struct.calcsize(form)
    position, even = start, form.endswith("I")
    while position + head <= size:
        name, stated = struct.unpack(form, _at(file, position, head))
        if not re.fullmatch(rb"[ -~]{4}", name):
            return
        yield name, position + head, stated
        position += head + stated + (stated & 1 if even else 0)


def _follows(file: BinaryIO, end: int, form: str) -> bool:
    """Returns whether what follows the samples is what may follow them: nothing, padding, a tag, or whole chunks."""
    size = size_of(file)
    rest = _at(file, end, 64)
    if end >= size - 1 or rest[:3] in (b"TAG", b"ID3") or rest[:8] == b"APETAGEX" or is_container(rest, mpeg=False):
        return True
    last = end
    for _, position, stated in _chunks(file, end, form):
        last = position + stated
    return end < last and size - 9 <= last <= size + 1


def _chunked(file: BinaryIO, start: int, form: str, wanted: bytes) -> Part:
    """Returns the stream of a file of chunks, with the size of the chunk `wanted` corrected if it is wrong."""
    size, field_size = size_of(file), struct.calcsize(form) - 4
    for name, position, stated in _chunks(file, start, form):
        if name != wanted:
            continue
        here = size - position
        if here <= 0:
            break
        if stated <= here and _follows(file, position + stated + (stated & 1 if form.endswith("I") else 0), form):
            break
        if form.endswith("I") and here >= 2**32:
            break
        begin = position - field_size
        patch = struct.pack(form, wanted, here)[4:]
        return Part([(0, begin), patch, (position, size)], _declared(stated, here))
    return Part()


def _riff(file: BinaryIO, magic: bytes) -> Part:
    """Returns the stream of a WAV file: with its size corrected, or as RF64 if it has more than 4 GB."""
    form, size, large = ("<4sI", ">4sI")[magic[:4] == b"RIFX"], size_of(file), None
    before: list[tuple[int, int] | bytes] = []
    for name, position, stated in _chunks(file, 12, form):
        if name == b"ds64":
            large = struct.unpack("<Q", _at(file, position + 8, 8).ljust(8, b"\0"))[0]
            continue
        if name != b"data":
            before.append((position - 8, position + stated + (stated & 1)))
            continue
        stated = large if large is not None and stated == 0xFFFFFFFF else stated
        here, end = size - position, position + stated + (stated & 1)
        if here <= 0 or (stated and stated <= here and _follows(file, end, form)):
            more = [(at, at + count) for name, at, count in _chunks(file, end, form) if name == b"data"]
            if more and form[0] == "<" and magic[:4] == b"RIFF":  # libsndfile would take the last one alone
                spans: list[tuple[int, int] | bytes] = [(position, position + stated), *more]
                total = stated + sum(stop - start for start, stop in more)
                head = b"RIFF" + struct.pack("<I", min(size, 2**32 - 1)) + b"WAVE"
                return Part([head, *before, b"data" + struct.pack("<I", min(total, 2**32 - 1)), *spans])
            return Part() if magic[:4] != b"BW64" else Part([b"RF64", (4, size)])  # another name for the same
        declared = _declared(stated, here)
        if size < 2**32 - 8 or magic[:4] == b"RIFX":  # RIFX has no form with larger sizes
            most, name = 2**32 - 1, b"RIFX" if magic[:4] == b"RIFX" else b"RIFF"
            head = struct.pack(form, name, min(size - 8, most)) + b"WAVE"
            data = struct.pack(form, b"data", min(here, most))
            return Part([head, *before, data, (position, size)], declared)
        ds64 = b"ds64" + struct.pack("<IQQQI", 28, size - 8, here, 0, 0)
        data = b"data" + b"\xff" * 4
        return Part([b"RF64" + b"\xff" * 4 + b"WAVE" + ds64, *before, data, (position, size)], declared)
    return Part()


def _au(file: BinaryIO) -> Part:
    offset, stated = struct.unpack(">II", _at(file, 4, 8).ljust(8, b"\0"))
    here = size_of(file) - offset
    if stated == here or here <= 0 or 0 <= here - stated <= 1:
        return Part()
    pieces: list[tuple[int, int] | bytes] = [(0, 8), b"\xff" * 4, (12, offset + here)]
    return Part(pieces, _declared(stated, here))


def _w64_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, position and stated size of each chunk of a Wave64 file; the size counts the head of 24 bytes."""
    size, position = size_of(file), 40
    while position + 24 <= size:
        name, stated = struct.unpack("<16sQ", _at(file, position, 24))
        yield name, position, stated
        position += max(24, stated + 7 & ~7)


def _w64(file: BinaryIO) -> Part:
    """Returns the stream of a Wave64 file."""
    size = size_of(file)
    for name, position, stated in _w64_chunks(file):
        here = size - position - 24
        if name[:4] == b"data" and here > 0:
            stated -= 24
            if not 0 < stated <= here or (here - stated > 8 and not _at(file, position + 24 + stated, 4).isalpha()):
                sizes = struct.pack("<Q", here + 24)
                return Part([(0, position + 16), sizes, (position + 24, size)], _declared(max(0, stated), here))
            break
    return Part()


def _nist(file: BinaryIO) -> Part:
    """Returns the stream of a NIST file (.sph): text in front of the samples states their number."""
    head = _at(file, 0, 1024)
    numbers = dict(re.findall(rb"(?m)^(sample_count|channel_count|sample_n_bytes) -i (\d{1,12})", head))
    stated, here = 1, size_of(file) - 1024
    for name in (b"sample_count", b"channel_count", b"sample_n_bytes"):
        stated *= int(numbers.get(name, 0))
    return Part(declared=_declared(stated, here) if stated and here > 0 else 1.0)


# ---- FLAC: frames that carry their position


# What begins a file behind a FLAC file, and how many bytes of that file stand in front of it.
_STARTS = (
    *((mark, 0) for mark in (b"fLaC\x00\x00\x00\x22", b"OggS\0\x02", b"ID3\x03\0", b"ID3\x04\0")),
    *((mark, 0) for mark in (b"caff\0\x01\0\0desc", b"riff\x2e\x91\xcf\x11")),
    *((mark, 8) for mark in (b"WAVEfmt ", b"AIFFCOMM", b"AIFCFVER")),
)
_FLAC_BLOCKS = {1: 192, **{i: 576 << (i - 2) for i in range(2, 6)}, **{i: 256 << (i - 8) for i in range(8, 16)}}
_FLAC_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 0, 0, 0)
_FLAC_BITS = (0, 8, 12, 0, 16, 20, 24, 32)
_MOST_OF_FRAME = 1 << 18  # bytes
_FAR = 1 << 24  # samples; a frame further away is none


def _flac_streams(file: BinaryIO, start: int) -> list[Part]:
    """Returns the FLAC streams that follow each other, and the streams of another file behind them."""
    found, size, position = [start], size_of(file), _after_flac_head(file, start)
    while position < size:
        data = _at(file, position, 1 << 22)
        starts = [at for mark, before in _STARTS if (at := data.find(mark) - before) >= 0]
        if starts:
            found.append(position + min(starts))
            position += min(starts) + 16
        else:
            position += max(1, len(data) - 15)
    # Five bytes of frames may look like a tag, which is one only in front of MPEG audio.
    found = [p for p in found if _at(file, p, 3) != b"ID3" or _mpeg_header(_at(file, _after_id3(file, p), 4))]
    other = next((p for p in found[1:] if _at(file, p, 4) != b"fLaC"), size)
    found = [position for position in found if position < other]
    if len(found) == 1 and other == size:
        return [Part()]
    parts = [Part([(begin, end)]) for begin, end in zip(found, (*found[1:], other), strict=True)]
    return parts if other == size else parts + _parts_from(file, other)


def _after_flac_head(file: BinaryIO, start: int) -> int:
    """Returns the position of the first frame: metadata, such as pictures, may hold what looks like another file."""
    position, last = start + 4, False
    while not last and position < size_of(file):
        head = _at(file, position, 4).ljust(4, b"\0")
        last, position = bool(head[0] & 0x80), position + 4 + int.from_bytes(head[1:], "big")
    return position if position < size_of(file) else start + 8


def flac_frames(file: BinaryIO, start: int, least: int) -> Iterator[tuple[int, int]]:
    """Yields position and number of the first sample of the frames of a FLAC stream.

    Args:
        file: the stream.
        start: position to search from.
        least: the least number of a frame's first sample.
    """
    header, block = _after_id3(file), flac_block(file)
    most = max(flac_total(file, header), least + _FAR)
    for position, head in _flac_heads(file, max(start, header + 4)):
        number = head.number if head.variable else head.number * block
        if least <= number <= most:
            yield position, number


def flac_whole(file: BinaryIO, position: int) -> bool:
    """Returns whether the frame at a position is undamaged by its checksum. libsndfile does not say so of the first
    frame of a stream."""
    heads = _flac_heads(file, position)
    next(heads)
    data, crc, done = _at(file, position, _MOST_OF_FRAME), 0, 0
    for end, _ in heads:  # one of them is the next frame; the others are like one by chance
        if end - position > len(data):
            return False
        crc, done = _crc16(data[done : end - position], crc), end - position
        if crc == 0:
            return True
    # the last frame may end at any byte, because anything may follow it
    return not done and 0 in islice(accumulate(data, _crc16_step, initial=0), 1, None)


def flac_from(file: BinaryIO, position: int) -> Spliced:
    """Returns a FLAC stream that starts with the frame at a position."""
    _, head = next(_flac_heads(file, position))
    info = _at(file, _after_id3(file) + 8, 34).ljust(34, b"\0")
    packed = int.from_bytes(info[10:14], "big")
    rate, channels, bits = head.rate or packed >> 12, head.channels, head.bits or (packed >> 4 & 31) + 1
    # STREAMINFO as the only block: any size of block, unknown length and checksum.
    numbers = (rate << 44 | channels - 1 << 41 | bits - 1 << 36).to_bytes(8, "big")
    start = b"fLaC\x80\x00\x00\x22" + struct.pack(">HH", 16, 65535) + bytes(6) + numbers + bytes(16)
    return Spliced(file, [start, (position, size_of(file))])


@dataclass(frozen=True)
class _FlacHead:
    """The header of a frame; 0 where it refers to STREAMINFO."""

    variable: bool
    number: int
    block: int
    rate: int
    channels: int
    bits: int


def _flac_heads(file: BinaryIO, position: int) -> Iterator[tuple[int, _FlacHead]]:
    size = size_of(file)
    while position < size:
        data = _at(file, position, 1 << 20)
        for match in re.finditer(rb"\xff[\xf8\xf9]", data):
            if (head := _flac_head(data[match.start() : match.start() + 16])) is not None:
                yield position + match.start(), head
        position += max(1, len(data) - 15)


def flac_block(file: BinaryIO) -> int:
    """Returns the number of samples in the frames of a stream whose frames are all of one size but the last."""
    header = _after_id3(file)
    stated = int.from_bytes(_at(file, header + 8, 2), "big")
    first = next(_flac_heads(file, header + 4), None)
    return first[1].block if first and first[1].number == 0 else stated


def flac_total(file: BinaryIO, start: int = 0) -> int:
    """Returns the number of samples that STREAMINFO states; 0 if it states none."""
    packed = int.from_bytes(_at(file, start + 18, 8), "big")
    return packed & ((1 << 36) - 1)


def _flac_head(head: bytes) -> _FlacHead | None:
    """Returns the header of a frame; None if these bytes are none."""
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10:
        return None
    first, count = head[4], 0
    while first & 0x80 and count < 8:
        first, count = (first << 1) & 0xFF, count + 1
    if count == 1 or count > 7:
        return None
    number, at = head[4] & (0x7F >> count), 4 + max(count, 1)
    for byte in head[5:at]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    block_size, rate_size = {6: 1, 7: 2}.get(head[2] >> 4, 0), {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    end = at + block_size + rate_size
    if len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    block = int.from_bytes(head[at : at + block_size], "big") + 1 if block_size else _FLAC_BLOCKS[head[2] >> 4]
    rate = _FLAC_RATES[head[2] & 15] if not rate_size else int.from_bytes(head[at + block_size : end], "big")
    rate *= {12: 1000, 14: 10}.get(head[2] & 15, 1)
    channels, bits = head[3] >> 4, _FLAC_BITS[head[3] >> 1 & 7]
    return _FlacHead(bool(head[1] & 1), number, block, rate, channels + 1 if channels < 8 else 2, bits)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ 0x07 if crc & 0x80 else crc << 1
        crc &= 0xFF
    return crc


def _crc16_step(crc: int, byte: int) -> int:
    return (crc << 8) & 0xFFFF ^ _CRC16[crc >> 8 ^ byte]


def _crc16(data: bytes, crc: int) -> int:
    return functools.reduce(_crc16_step, data, crc)


def _crc16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


_CRC16 = tuple(map(_crc16_of, range(256)))


# ---- Ogg: pages with a number, a time and a checksum


class _Page(NamedTuple):
    """A whole page of an Ogg stream; `ends` is the time at its end, in samples, -1 if no packet ends there."""

    start: int
    stop: int
    begins: bool
    last: bool
    serial: int
    number: int
    ends: int


_USUAL_PAGE = 1 << 13  # bytes
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_page(file: BinaryIO, position: int) -> _Page | None:
    """Returns the page at a position; None if there is none, or a damaged one."""
    data = _at(file, position, _USUAL_PAGE)
    if len(data) < 27 or data[:5] != b"OggS\0":
        return None
    flags, ends, serial, number, checksum, count = struct.unpack_from("<BqIIIB", data, 5)
    size = 27 + count + sum(data[27 : 27 + count])
    data = data[:size] if size <= _USUAL_PAGE else _at(file, position, size)
    # zlib's checksum has the same polynomial, but takes the lowest bit of a byte first.
    mirrored = (data[:22] + bytes(4) + data[26:]).translate(_REVERSED)
    crc = int(f"{zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF:032b}"[::-1], 2)
    if len(data) < size or crc != checksum:
        return None
    return _Page(position, position + size, bool(flags & 2), bool(flags & 4), serial, number, ends)


def _ogg_parts(file: BinaryIO) -> list[Part]:
    """Returns the links of a chain; a link with damaged pages in several parts, of the pages that follow each other."""
    links: list[list[_Page]] = []
    behind: list[Part] = []
    size, position = size_of(file), 0
    while position < size:
        page = _ogg_page(file, position)
        if page is None and links and is_container(head := _at(file, position, HEAD_BYTES)) and head[:4] != b"OggS":
            behind, size = _parts_from(file, position), position
            break
        if page is None:
            position = _find(file, b"OggS\0", position + 1)
            continue
        if page.begins and not (links and links[-1][-1].begins):  # pages of several streams may begin a link
            links.append([])
        if links:
            links[-1].append(page)
        position = page.stop
    starts = [0, *(link[0].start for link in links[1:])]
    parts = [
        part
        for link, begin, end in zip(links, starts, (*starts[1:], size), strict=False)
        for part in _ogg_link(file, link, (begin, end))
    ]
    if len(parts) == 1 and parts[0].pieces == [(0, size)] and not behind:
        parts[0].pieces = None
    return [*parts, *behind] or [Part()]


def _ogg_link(file: BinaryIO, pages: list[_Page], whole: tuple[int, int]) -> list[Part]:
    note = None if any(page.last for page in pages) else "the stream has no last page: its end may be missing"
    identity = _at(file, pages[0].start + 28, 16)
    vorbis, opus = identity[:7] == b"\x01vorbis", identity[:8] == b"OpusHead"
    rate = int.from_bytes(identity[12:16], "little") if vorbis else 48000 if opus else 0
    runs, last = [[pages[0]]], pages[0].number
    for page in pages[1:]:
        if page.number == last + 1:
            runs[-1].append(page)
        elif page.number > last:  # a page that was there before is left out
            # libsndfile does not open Opus of nothing but the last page
            runs[-1:] = [runs[-1] + [page]] if opus and page.last else [runs[-1], [page]]
        last = max(last, page.number)
    head: list[tuple[int, int] | bytes] = [(page.start, page.stop) for page in runs[0] if page.ends == 0]
    whole_run = len(runs) == 1 and len(runs[0]) == len(pages)
    if whole_run or not rate or len({page.serial for page in pages}) > 1 or len(head) < 2:
        return [Part([whole], note=note)]
    ends = [max(page.ends for page in run) / rate for run in runs]
    parts = [Part([(page.start, page.stop) for page in run]) for run in runs]
    for part, span in zip(parts[1:], pairwise(ends), strict=True):
        part.pieces, part.span = head + (part.pieces or []), span
    parts[-1].note = note
    return parts


def _find(file: BinaryIO, wanted: bytes, position: int) -> int:
    """Returns the next position of some bytes, or the size of the file."""
    size = size_of(file)
    while position < size:
        data = _at(file, position, _COPY)
        if (at := data.find(wanted)) >= 0:
            return position + at
        position += max(1, len(data) - len(wanted) + 1)
    return size


# ---- MPEG audio: frames


_MPEG_KBITS = {
    (1, 1): tuple(range(32, 449, 32)),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


_LONGEST = 1_000_000  # seconds; an information frame that states more is wrong


@dataclass(frozen=True)
class _Mpeg:
    """A frame's header: what must be the same in all frames of a stream, and the frame's length."""

    stream: tuple[int, int, int]  # version, layer, sample rate
    size: int  # bytes
    samples: int
    mono: bool


@functools.lru_cache(1024)  # the frames of a stream have few different headers
def _mpeg_header(head: bytes) -> _Mpeg | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = {0: 3, 2: 2, 3: 1}.get(head[1] >> 3 & 3), {1: 3, 2: 2, 3: 1}.get(head[1] >> 1 & 3)
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version is None or layer is None or kbits in (0, 15) or rate == 3:
        return None
    hz = (44100, 48000, 32000)[rate] >> (version - 1)
    bits = 1000 * _MPEG_KBITS[min(version, 2), layer][kbits - 1]
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    size = (12 * bits // hz + padding) * 4 if layer == 1 else samples // 8 * bits // hz + padding
    return _Mpeg((version, layer, hz), size, samples, head[3] >> 6 == 3)


class _MpegStream:
    """The frames of one stream of MPEG audio.

    Args:
        frame: the header of the first frame.
        head: its first four bytes.
        stated: number of frames that an information frame at the start states; 0 if it states none.
    """

    def __init__(self, frame: _Mpeg, head: bytes, stated: int) -> None:
        self.like, self._first, self._head = frame.stream, frame, head
        self._stated = stated if stated * frame.samples < _LONGEST * frame.stream[2] else 0
        self._pieces: list[tuple[int, int]] = []
        self._frames, self._bytes, self._sizes = 0, 0, set[int]()
        self._lost: list[tuple[float, float]] = []
        self._info: tuple[int, int] | None = None  # the information frame

    def push(self, position: int, frame: _Mpeg, gap: int, info: bool) -> None:
        """Adds a frame, behind `gap` bytes that are none."""
        seconds = self._frames * frame.samples / frame.stream[2]
        if gap and self._frames:
            self._lost.append((seconds, gap * seconds / self._bytes))
        if info:
            self._info = position, position + frame.size
        else:
            self.extend(position, [frame.size])

    def extend(self, position: int, sizes: list[int]) -> None:
        """Adds frames that follow each other, given by their sizes."""
        count = sum(sizes)
        self._frames, self._bytes = self._frames + len(sizes), self._bytes + count
        self._sizes.update(sizes)
        if self._pieces and self._pieces[-1][1] == position:
            self._pieces[-1] = (self._pieces[-1][0], position + count)
        else:
            self._pieces.append((position, position + count))

    @property
    def has_sound(self) -> bool:
        """Whether there is any frame but an information frame, whose header may be damaged."""
        return self._frames > 0

    @property
    def _varies(self) -> bool:
        """Whether the bit rate varies: padding makes frames one slot longer."""
        return max(self._sizes, default=0) - min(self._sizes, default=0) > (4 if self.like[1] == 1 else 1)

    def part(self, file: BinaryIO) -> Part:
        """Returns the stream as a part. If the bit rate varies, or the stated length is too short, libsndfile needs an
        information frame with the right length; it would estimate the length from the first frame."""
        stated, frame = self._stated, self._first
        at = _info_at(frame)
        if stated >= self._frames and self._info:
            return Part([self._info, *self._pieces], stated=True, lost=self._lost)
        declared = stated / self._frames if stated and self._frames else 1.0
        if frame.stream[1] != 3 or not (self._varies or stated) or frame.size < at + 12:
            return Part(list(self._pieces), lost=self._lost)
        info = bytearray(_at(file, self._info[0], frame.size) if self._info else bytes(frame.size))
        info[:4] = bytes((self._head[0], self._head[1] | 1, *self._head[2:]))  # without a checksum
        if bytes(info[at : at + 4]) not in (b"Xing", b"Info"):
            info[4:] = bytes(frame.size - 4)
            info[at : at + 4] = b"Info"
        info[at + 4 : at + 12] = struct.pack(">II", info[at + 7] | 1, self._frames)
        return Part([bytes(info), *self._pieces], declared, lost=self._lost)

    def plain(self, start: int, size: int, file: BinaryIO) -> bool:
        """Returns whether libsndfile reads the stream rightly from a file that it begins at `start`."""
        begin = self._info[0] if self._info else self._pieces[0][0] if self._pieces else -1
        end = self._pieces[-1][1] if self._pieces else -1
        whole = len(self._pieces) == 1 and (not self._info or self._info[1] == self._pieces[0][0])
        trusted = self._stated >= self._frames if self._stated else not self._varies
        return begin == start and whole and trusted and (end >= size - 4 or _at(file, end, 3) in _TAGS)


def _info_at(frame: _Mpeg) -> int:
    """Returns where the name of an information frame stands in it."""
    return 4 + ((17 if frame.mono else 32) if frame.stream[0] == 1 else (9 if frame.mono else 17))


def mpeg_parts(file: BinaryIO, start: int = 0) -> list[Part]:
    """Returns the MPEG audio streams of a file. What lies between frames, such as tags and damage, is left out."""
    size, window, offset = size_of(file), b"", 0

    def bytes_at(position: int, count: int) -> bytes:
        nonlocal window, offset
        if not offset <= position <= position + count <= offset + len(window):
            window, offset = _at(file, position, _COPY), position
        return window[position - offset : position - offset + count]

    def frame_at(position: int, like: tuple[int, int, int] | None) -> _Mpeg | None:
        frame = _mpeg_header(bytes_at(position, 4))
        if frame is None or (like is not None and frame.stream != like) or position + frame.size > size:
            return None
        return frame

    def sizes_from(position: int, like: tuple[int, int, int]) -> list[int]:
        """Returns the sizes of a stream's frames from a position on, up to the next information frame, gap or end of
        the window: of nearly all frames, much faster than one by one."""
        at, end, sizes, nothing = position - offset, len(window), list[int](), bytes(4)
        while (frame := _mpeg_header(window[at : at + 4])) is not None and frame.stream == like:
            after = at + frame.size
            empty = window[at + 6 : at + 10] == nothing  # in an information frame, or in silence
            if after > end or (empty and _xing(window[at : min(after, at + 200)], frame) is not None):
                break
            sizes.append(frame.size)
            at = after
        return sizes

    def synced(position: int) -> int:
        """Returns the next position where two frames of one stream follow each other, or the size of the file."""
        while position < size:
            data = bytes_at(position, 1)
            at = window.find(b"\xff", position - offset)
            if not data or at < 0:
                position = offset + len(window)
                continue
            position = offset + at
            if (frame := frame_at(position, None)) is not None:
                after = position + frame.size
                if after >= size - 4 or frame_at(after, frame.stream) is not None or bytes_at(after, 3) in _TAGS:
                    return position
            position += 1
        return size

    streams: list[_MpegStream] = []
    behind: list[Part] = []
    position, gap = start, 0
    while position < size:
        frame = frame_at(position, streams[-1].like if streams else None)
        if frame is None:
            if streams and is_container(bytes_at(position, HEAD_BYTES), mpeg=False) and bytes_at(position, 3) != b"ID3":
                behind, size = _parts_from(file, position), position
                break
            where = synced(position)
            if where == position:  # the next stream follows at once
                frame = frame_at(position, None)
            elif bytes_at(position, 3) not in _TAGS:
                gap += where - position
            if frame is None:
                position = where
                continue
        stated = _xing(bytes_at(position, min(frame.size, 200)), frame)
        if not streams or streams[-1].like != frame.stream or stated is not None:
            streams.append(_MpegStream(frame, bytes_at(position, 4), stated or 0))
        streams[-1].push(position, frame, gap, stated is not None)
        position, gap = position + frame.size, 0
        if sizes := sizes_from(position, frame.stream):
            streams[-1].extend(position, sizes)
            position += sum(sizes)
    streams = [stream for stream in streams if stream.has_sound]
    if not streams or (len(streams) == 1 and not behind and streams[0].plain(start, size, file)):
        return [Part()]
    return [*(stream.part(file) for stream in streams), *behind]


_TAGS = (b"TAG", b"ID3", b"APE", b"LYR")


def mpeg_after(file: BinaryIO, pieces: list[tuple[int, int] | bytes] | None, samples: int) -> Part | None:
    """Returns the rest of a damaged stream of MPEG audio; None if there is none.

    Args:
        file: the file of the stream.
        pieces: the stream, as in `Part`; None for the whole file.
        samples: number of samples that were decoded before the damaged frame.
    """
    if pieces is None:
        pieces = mpeg_parts(file)[0].pieces or [(_after_id3(file), size_of(file))]
    rest: list[tuple[int, int] | bytes] = []
    count = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            continue
        position, end = piece
        while count <= samples and (frame := _mpeg_header(_at(file, position, 4))) is not None and position < end:
            count += frame.samples if _xing(_at(file, position, min(frame.size, 200)), frame) is None else 0
            position += frame.size
        if position < end:
            rest.append((position, end))
    return Part(rest) if rest and count > samples else None


def _xing(data: bytes, frame: _Mpeg) -> int | None:
    """Returns the number of frames that an information frame states, 0 if it states none; None for other frames."""
    at = _info_at(frame)
    if any(data[6:at]):  # an information frame is empty in front of its name
        return None
    if frame.stream[1] == 3 and data[at : at + 4] in (b"Xing", b"Info"):
        return int.from_bytes(data[at + 8 : at + 12], "big") if data[at + 7 : at + 8] and data[at + 7] & 1 else 0
    if frame.stream[1] == 3 and data[36:40] == b"VBRI":
        return int.from_bytes(data[50:54], "big")
    return None
