"""The cases: a row for each kind of damaged or unusual recording, and what must be heard of it.

`test_cases.py` runs every row, and `page.py` writes docs/damaged.md from them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from cases.made import (
    APE,
    ID3V1,
    RATE,
    SECONDS,
    after,
    encoded,
    flac_unknown,
    floats,
    hole,
    id3v2,
    media,
    mp3,
    mp3_stating,
    mpeg_frames,
    ogg_pages,
    patched,
    pcm,
    sound,
    wav,
    without,
)
from numpy.typing import NDArray

Made = bytes | NDArray[np.generic] | Iterator[NDArray[np.generic]]

SIREN, DTMF = "Siren", "Telephone dialing, DTMF"
BOTH = (SIREN, DTMF)
"""Classes of the two halves of `made.sound`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One kind of recording.

    Attributes:
        name: of the file; unique.
        kind: heading in the document.
        have: what the user has.
        heard: what is heard of it.
        made: makes the content of a file; or samples, one array or chunks.
        seconds: seconds that must be heard, at most `within` more or less; None if it is refused.
        says: part of a warning, or of the error if it is refused; None for no warning.
        labels: classes that must be found; they tell damage, noise and a wrong speed.
        report: the public report of the kind, "owner/repository#number".
        options: arguments of `AudioBlocks`; for a pipe, arguments of the command.
        needs: module without which the row is left out.
        elsewhere: the test that covers the kind, "path::name", if it is not this table's.
    """

    name: str
    kind: str
    have: str
    heard: str = "all of it"
    made: Callable[[], Made] | None = None
    seconds: float | None = SECONDS
    within: float = 0.03
    says: str | None = None
    labels: tuple[str, ...] = BOTH
    report: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    needs: str | None = None
    elsewhere: str | None = None


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _be32(value: int) -> bytes:
    return struct.pack(">I", value)


def _sized(form: str, subtype: str | None, name: bytes, size: bytes, skip: int = 0, **options: object) -> bytes:
    """Returns a file whose samples' chunk states another size."""
    data = encoded(form, subtype, **options)
    return patched(data, (after(data, name) + skip, size))


def _joined(form: str, subtype: str | None = None, *, rates: tuple[int, int] = (RATE, RATE)) -> bytes:
    """Returns two files, one after another."""
    return b"".join(
        encoded(form, subtype, part, rate=rate) for part, rate in zip(("siren", "dtmf"), rates, strict=True)
    )


def _cut(data: bytes, share: float = 0.75) -> bytes:
    return data[: int(share * len(data))]


def _flac(*changes: tuple[int, bytes]) -> bytes:
    return patched(encoded("FLAC"), *changes)


def _junk(count: int = 3000) -> bytes:
    return np.random.default_rng(5).bytes(count)


def _case(**row: Any) -> dict[str, Any]:
    return row


def _refused(**row: Any) -> dict[str, Any]:
    return {"heard": "nothing: one line says what is wrong", "seconds": None, "labels": ()} | row


def _rows(kind: str, *rows: dict[str, Any], **shared: Any) -> tuple[Case, ...]:
    return tuple(Case(**{"kind": kind} | shared | row) for row in rows)


_P = len(pcm())
_TOO_SHORT = "the header states"
_LESS = "could be decoded: the file is cut or damaged"
_LIST = b"LIST" + _u32(26) + b"INFOISFT" + _u32(14) + b"Lavf58.29.100\0"

WAV = _rows(
    "WAV, RF64 and their like",
    _case(name="size0.wav", have="A WAV whose header was never completed: the recorder lost power (size 0)",
          heard="all of it, with a warning", made=partial(wav, size=0, riff=36), says=_TOO_SHORT,
          report="filoe/cscore#12"),
    _case(name="size44.wav", have="A WAV that states a few bytes of sound", heard="all of it, with a warning",
          made=partial(wav, size=44, riff=80), says=_TOO_SHORT, report="KejPi/AbracaDABra#140"),
    _case(name="half.wav", have="A WAV that states half of its sound", heard="all of it, with a warning",
          made=partial(wav, size=_P // 2), says="the header states 3.00 s; 6.00 s were found",
          report="remsky/Kokoro-FastAPI#94"),
    _case(name="piped.wav", have="A WAV from a pipe of ffmpeg: sizes of 0xFFFFFFFF",
          made=lambda: wav(size=2**32 - 1, riff=2**32 - 1, before=_LIST), report="kkroening/ffmpeg-python#118"),
    _case(name="sox.wav", have="A WAV from a pipe of SoX: sizes of 0x7FFFFFFF",
          made=lambda: wav(size=2**31 - 1, riff=2**31 + 35), report="google/oboe#2108"),
    _case(name="cut.wav", have="A WAV that was not copied to its end", heard="what is there, with a warning",
          made=lambda: _cut(wav()), seconds=4.5, says="4.50 s of 6.00 s could be decoded",
          report="mono/taglib-sharp#95"),
    _case(name="cut3g.wav", have="A WAV of 3 GB of which 6 s were copied", heard="what is there, with a warning",
          made=partial(wav, size=3_000_000_000), says="of 46875.00 s could be decoded"),
    _case(name="riff.wav", have="A WAV whose outer size is wrong", made=partial(wav, riff=100),
          report="dancasimiro/WAV.jl#109"),
    _case(name="odd.wav", have="A WAV of an odd number of bytes", made=lambda: wav(pcm() + b"x"),
          report="libsndfile/libsndfile#331"),
    _case(name="list.wav", have="A WAV with large chunks in front of the sound",
          made=lambda: wav(before=b"LIST" + _u32(400_000) + bytes(400_000)), report="libsndfile/libsndfile#370"),
    _case(name="extensible.wav", have="WAVE_FORMAT_EXTENSIBLE of 24 bits", made=partial(encoded, "WAVEX", "PCM_24"),
          report="jstrait/wavefile#11"),
    _case(name="extensible0.wav", have="WAVE_FORMAT_EXTENSIBLE, size 0", heard="all of it, with a warning",
          made=lambda: _sized("WAVEX", "PCM_24", b"data", _u32(0)), says=_TOO_SHORT, report="agfline/wavfix#12"),
    _case(name="float44.wav", have="A WAV of floats that states a few bytes", heard="all of it, with a warning",
          made=lambda: _sized("WAV", "FLOAT", b"data", _u32(44)), says=_TOO_SHORT, report="agfline/wavfix#12"),
    _case(name="ima.wav", have="IMA ADPCM", made=partial(encoded, "WAV", "IMA_ADPCM"), within=0.1,
          report="libsndfile/libsndfile#946"),
    _case(name="ima0.wav", have="IMA ADPCM, size 0", heard="all of it, with a warning",
          made=lambda: _sized("WAV", "IMA_ADPCM", b"data", _u32(0)), within=0.1, says=_TOO_SHORT,
          report="agfline/wavfix#12"),
    _case(name="ms.wav", have="Microsoft ADPCM, cut", heard="what is there, with a warning",
          made=lambda: _cut(encoded("WAV", "MS_ADPCM")), seconds=4.5, within=0.1, says=_LESS,
          report="mackron/dr_libs#299"),
    _case(name="gsm.wav", have="GSM 6.10 of a telephone", made=partial(encoded, "WAV", "GSM610"),
          report="libsndfile/libsndfile#482"),
    _case(name="big.wav", have="RIFX: the big-endian WAV", made=lambda: encoded("WAV", "PCM_16", endian="BIG"),
          report="mackron/dr_libs#210"),
    _case(name="big0.wav", have="RIFX, size 0", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: _sized("WAV", "PCM_16", b"data", bytes(4), endian="BIG"), report="mackron/dr_libs#210"),
    _case(name="rf64.wav", have="RF64", made=partial(encoded, "RF64"), report="iluvcapra/wavinfo#3"),
    _case(name="rf64-0.wav", have="RF64 whose 64-bit size is 0", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: _sized("RF64", None, b"ds64", bytes(8), 12), report="naudio/NAudio#820"),
    _case(name="rf64-cut.wav", have="RF64, cut", heard="what is there, with a warning", seconds=4.5, says=_LESS,
          made=lambda: _cut(encoded("RF64")), report="naudio/NAudio#820"),
    _case(name="bw64.wav", have="BW64", made=lambda: patched(encoded("RF64"), (0, b"BW64")),
          report="IMFTool/IMFTool#21"),
    _case(name="bw64-0.wav", have="BW64 whose 64-bit size is 0", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: patched(_sized("RF64", None, b"ds64", bytes(8), 12), (0, b"BW64")),
          report="libsndfile/libsndfile#399"),
    _case(name="wave.w64", have="Wave64 that states no sound", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: _sized("W64", None, b"data", bytes(8), 12), report="libsndfile/libsndfile#508"),
    _case(name="cut.w64", have="Wave64, cut", heard="what is there, with a warning", seconds=4.5, says=_LESS,
          made=lambda: _cut(encoded("W64")), report="libsndfile/libsndfile#508"),
    _case(name="endless.w64", have="Wave64 of unknown length",
          made=lambda: _sized("W64", None, b"data", b"\xff" * 7 + b"\x7f", 12), report="libsndfile/libsndfile#508"),
    _case(name="over4gb.wav", have="A WAV of more than 4 GB, whose size counted from 0 again",
          elsewhere="tests/cases/test_cases.py::test_a_wav_of_more_than_4_gb", report="breakfastquay/rubberband#101"),
)  # fmt: skip

CHUNKS = _rows(
    "AIFF, CAF, AU, NIST",
    _case(name="size0.aiff", have="An AIFF that states no sound", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: _sized("AIFF", None, b"SSND", bytes(4)), report="pdeljanov/Symphonia#523"),
    _case(name="huge.aiff", have="An AIFF that states 4 GB",
          made=lambda: _sized("AIFF", None, b"SSND", b"\xff" * 4), report="pdeljanov/Symphonia#523"),
    _case(name="frames.aiff", have="An AIFF that states a wrong number of samples",
          made=lambda: _sized("AIFF", None, b"COMM", _be32(44), 6), report="libsndfile/libsndfile#123"),
    _case(name="cut.aifc", have="An AIFF-C of floats, cut", heard="what is there, with a warning", seconds=4.5,
          says=_LESS, made=lambda: _cut(encoded("AIFF", "FLOAT")), report="quodlibet/mutagen#517"),
    _case(name="tag.aiff", have="An AIFF with a tag behind the sound", report="audiojs/decode#46",
          made=lambda: encoded("AIFF") + b"ID3 " + _be32(3000) + id3v2()),
    _case(name="stream.caf", have="A CAF of unknown length (size −1)", report="libsndfile/libsndfile#50",
          made=lambda: _sized("CAF", None, b"data", b"\xff" * 8)),
    _case(name="size0.caf", have="A CAF that states no sound", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: _sized("CAF", None, b"data", bytes(8)), report="libsndfile/libsndfile#50"),
    _case(name="behind.caf", have="A CAF with chunks behind the sound", report="libsndfile/libsndfile#50",
          made=lambda: encoded("CAF") + b"info" + struct.pack(">q", 9000) + bytes(9000)),
    _case(name="free.caf", have="A CAF with a large gap in front of the sound", report="libsndfile/libsndfile#191",
          made=lambda: _free(encoded("CAF"))),
    _case(name="cut.caf", have="A CAF, cut", heard="what is there, with a warning", seconds=4.5, says=_LESS,
          made=lambda: _cut(encoded("CAF")), report="libsndfile/libsndfile#50"),
    _case(name="stream.au", have="An AU of unknown length (size 0xFFFFFFFF)",
          made=lambda: patched(encoded("AU"), (8, b"\xff" * 4))),
    _case(name="size0.snd", have="An AU that states no sound", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: patched(encoded("AU"), (8, bytes(4)))),
    _case(name="cut.au", have="An AU, cut", heard="what is there, with a warning", seconds=4.5, says=_LESS,
          made=lambda: _cut(encoded("AU"))),
    _case(name="cut.sph", have="A NIST file, cut", heard="what is there, with a warning", seconds=4.5, says=_LESS,
          made=lambda: _cut(encoded("NIST"))),
)  # fmt: skip


def _free(data: bytes) -> bytes:
    at = data.index(b"data")
    return data[:at] + b"free" + struct.pack(">q", 30_000) + bytes(30_000) + data[at:]


JOINED = _rows(
    "Several recordings in one file",
    _case(name="joined.wav", have="Two WAV files, one behind another (`cat a.wav b.wav`)", made=lambda: _joined("WAV"),
          report="dapphp/PHPWavUtils#1"),
    _case(name="rates.wav", have="The same, of different sample rates", report="dapphp/PHPWavUtils#1",
          made=lambda: _joined("WAV", rates=(RATE, 16000))),
    _case(name="size0x2.wav", have="The same, both without a size", heard="all of it, with a warning", says=_TOO_SHORT,
          made=lambda: wav(pcm(sound("siren")), size=0) + wav(pcm(sound("dtmf")), size=0),
          report="remsky/Kokoro-FastAPI#94"),
    _case(name="joined.wav.flac", have="A WAV file and a FLAC file",
          made=lambda: encoded("WAV", None, "siren") + encoded("FLAC", None, "dtmf")),
    _case(name="joined.mp3.ogg", have="An MP3 file and an Ogg Vorbis file",
          made=lambda: mp3(part="siren") + encoded("OGG", "VORBIS", "dtmf"), within=0.1),
    _case(name="joined.aiff", have="Two AIFF files", made=lambda: _joined("AIFF")),
    _case(name="joined.flac", have="Two FLAC files", made=lambda: _joined("FLAC")),
    _case(name="rates.flac", have="Two FLAC files of different sample rates",
          made=lambda: _joined("FLAC", rates=(RATE, 16000))),
    _case(name="joined.mp3", have="Two MP3 files", made=lambda: _joined("MP3", "MPEG_LAYER_III"),
          report="MusicPlayerDaemon/MPD#1200"),
    _case(name="rates.mp3", have="Two MP3 files of different sample rates", report="MusicPlayerDaemon/MPD#1200",
          made=lambda: _joined("MP3", "MPEG_LAYER_III", rates=(RATE, 16000))),
    _case(name="tagged.mp3", have="Two MP3 files, with tags at both ends of each", report="MusicPlayerDaemon/MPD#1200",
          made=lambda: b"".join(id3v2() + mp3(part=part) + APE + ID3V1 for part in ("siren", "dtmf"))),
    _case(name="joined.ogg", have="Chained Ogg Vorbis, as of an internet radio", made=lambda: _joined("OGG", "VORBIS"),
          report="RustAudio/lewton#18"),
    _case(name="rates.ogg", have="Chained Ogg Vorbis of different sample rates", report="DeaDBeeF-Player/deadbeef#1021",
          made=lambda: _joined("OGG", "VORBIS", rates=(RATE, 16000))),
    _case(name="joined.opus", have="Chained Opus", made=lambda: _joined("OGG", "OPUS", rates=(16000, 16000)),
          report="bvibber/OGVKit#165"),
    _case(name="rates.opus", have="Chained Opus of different sample rates", report="bvibber/OGVKit#165",
          made=lambda: _joined("OGG", "OPUS", rates=(16000, 8000))),
)  # fmt: skip

TAGS = _rows(
    "Tags and other things around the sound",
    _case(name="id3v1.flac", have="FLAC with an ID3v1 tag behind it", made=lambda: encoded("FLAC") + ID3V1,
          report="xiph/flac#523"),
    _case(name="id3v2.flac", have="FLAC with an ID3v2 tag in front of it", made=lambda: id3v2() + encoded("FLAC"),
          report="xiph/flac#859"),
    _case(name="ape.flac", have="FLAC with an APE tag behind it", made=lambda: encoded("FLAC") + APE),
    _case(name="zeros.flac", have="FLAC with zeros behind it", made=lambda: encoded("FLAC") + bytes(5000)),
    _case(name="junk.flac", have="FLAC with other bytes behind it", made=lambda: encoded("FLAC") + _junk(),
          report="QutEcoacoustics/emu#329"),
    _case(name="ape.mp3", have="MP3 with APE and ID3v1 tags behind it", made=lambda: mp3() + APE + ID3V1,
          report="GuillaumeGomez/mp3-metadata#18"),
    _case(name="id3v2x2.mp3", have="MP3 with two ID3v2 tags in front of it", made=lambda: id3v2() + id3v2(500) + mp3(),
          report="tuffy/python-audio-tools#20"),
    _case(name="front.mp3", have="MP3 with other bytes in front of it", made=lambda: _junk() + mp3(),
          report="ralph-irving/squeezelite#105"),
    _case(name="zeros.mp3", have="MP3 with zeros in front of it", made=lambda: bytes(5000) + mp3(),
          report="libsndfile/libsndfile#1039"),
    _case(name="behind.mp3", have="MP3 with other bytes behind it", made=lambda: mp3() + _junk(), within=0.06,
          report="spotify/pedalboard#207"),
    _case(name="id3.wav", have="WAV with a tag behind the sound", made=lambda: wav(after=id3v2()),
          report="dhowden/tag#113"),
    _case(name="id3v1.wav", have="WAV with ID3v1 and APE tags behind it", made=lambda: wav(after=APE + ID3V1)),
    _case(name="id3first.wav", have="WAV with an ID3v2 tag in front of it", made=lambda: id3v2() + wav()),
    _case(name="signed.wav", have="WAV with a program's signature behind the sound",
          heard="all of it, and a click of a few samples",
          made=lambda: wav(after=b"made by a program that signs its recordings"), report="WohlSoft/SDL-Mixer-X#73"),
    _case(name="zeros.wav", have="WAV with zeros behind the sound", heard="all of it and the zeros, with a warning",
          made=lambda: wav(after=bytes(5000)), within=0.1, says=_TOO_SHORT),
    _case(name="http.ogg", have="Ogg Vorbis behind the head of an HTTP answer",
          made=lambda: b"HTTP/1.0 200 OK\r\nContent-Type: audio/ogg\r\n\r\n" + encoded("OGG", "VORBIS")),
    _case(name="id3.ogg", have="Ogg Vorbis with an ID3v2 tag in front of it",
          made=lambda: id3v2() + encoded("OGG", "VORBIS"), report="quodlibet/mutagen#96"),
)  # fmt: skip

FLAC = _rows(
    "FLAC",
    _case(name="cut.flac", have="FLAC, cut", heard="what is there, with a warning", says=_LESS, labels=(SIREN,),
          made=lambda: _cut(encoded("FLAC"), 0.8), seconds=3.5, within=0.7, report="bastibe/python-soundfile#385"),
    _case(name="hole.flac", have="FLAC, damaged in the middle", within=0.01, seconds=5.872,
          heard="everything but the damaged frames; silence stands for them, so that later times are right",
          made=lambda: hole(encoded("FLAC")), says="damaged at 1.66 s: 0.13 s are missing",
          report="cmcginty/flacsync#4"),
    _case(name="bit.flac", have="FLAC with one wrong bit", heard="everything but one frame", seconds=5.872, within=0.01,
          made=lambda: hole(encoded("FLAC"), 1), says="damaged at 1.66 s", report="xiph/flac#790"),
    _case(name="gone.flac", have="FLAC, a part removed", heard="what is there, with a warning", seconds=5.744,
          within=0.01, made=lambda: without(encoded("FLAC"), 3000), says="damaged at 1.66 s", report="xiph/flac#525"),
    _case(name="stream.flac", have="FLAC of unknown length, as from a pipe",
          made=lambda: flac_unknown(encoded("FLAC")), report="sonic-visualiser/sonic-visualiser#125"),
    _case(name="less.flac", have="FLAC that states less than it has", heard="all of it, with a warning",
          made=lambda: _flac((22, _be32(1000))), says="the header states 0.03 s; 6.00 s were found",
          report="ietf-wg-cellar/flac-specification#110"),
    _case(name="more.flac", have="FLAC that states more than it has", heard="all of it, with a warning",
          made=lambda: _flac((22, _be32(10 * RATE))), says="6.00 s of 10.00 s could be decoded",
          report="xiph/flac#257"),
    _case(name="header.flac", have="FLAC with a damaged header", made=lambda: _flac((8, _junk(34))),
          report="xiph/flac#257"),
    _case(name="tags.flac", have="FLAC with damaged tags", made=lambda: _flac((42, b"\x84\xff\xff\xff"))),
    _case(name="name.flac", have="FLAC without its first bytes", made=lambda: encoded("FLAC")[40:]),
)  # fmt: skip

MP3 = _rows(
    "MP3",
    _case(name="hole.mp3", have="MP3, damaged in the middle", heard="everything but the damaged frames, with a warning",
          made=lambda: hole(mp3()), seconds=5.97, within=0.04, says="damaged at 1.76 s: about 0.05 s",
          report="lieff/minimp3#60"),
    _case(name="gone.mp3", have="MP3, a part removed", heard="what is there, with a warning", seconds=5.62, within=0.06,
          made=lambda: without(mp3(), 3000), says=_LESS, report="bastibe/python-soundfile#402"),
    _case(name="cut.mp3", have="MP3, cut", heard="what is there, with a warning", says=_LESS, labels=(SIREN,),
          made=lambda: _cut(mp3()), seconds=3.6, within=0.5, report="JamesHeinrich/getID3#193"),
    _case(name="vbr.mp3", have="MP3 of variable bit rate without an information frame", within=0.05,
          made=lambda: b"".join(mpeg_frames(mp3(variable=True))[1:]), report="Corey-M/NAudio.Lame#24"),
    _case(name="xing0.mp3", have="MP3 whose information frame states no frames", made=lambda: mp3_stating(0),
          report="agersant/mp3-duration#16"),
    _case(name="xing10.mp3", have="MP3 whose information frame states a few frames", heard="all of it, with a warning",
          made=lambda: mp3_stating(10), says=_TOO_SHORT, report="richardr1126/openreader#129"),
    _case(name="xing400.mp3", have="MP3 whose information frame states too many frames",
          heard="all of it, with a warning", made=lambda: mp3_stating(400), says=_LESS),
    _case(name="endless.mp3", have="MP3 whose information frame states five years",
          made=lambda: mp3_stating(2**32 - 1)),
    _case(name="middle.mp3", have="MP3 that begins in the middle of a frame", made=lambda: mp3()[777:], within=0.06),
    _case(name="mpeg2.mp3", have="MPEG-2, damaged", heard="everything but the damaged frames, with a warning",
          made=lambda: hole(mp3(rate=16000)), seconds=5.97, within=0.05, says="damaged at 2.23 s"),
    _case(name="mpeg25.mp3", have="MPEG-2.5, damaged", heard="everything but the damaged frames, with a warning",
          made=lambda: hole(mp3(rate=8000)), seconds=5.97, within=0.06, says="damaged at 3.24 s",
          report="pdeljanov/Symphonia#96"),
    _case(name="layer2.mp2", have="MPEG layer II", made=lambda: media("mp2", "mp2"), needs="av"),
)  # fmt: skip

OGG = _rows(
    "Ogg: Vorbis and Opus",
    _case(name="cut.ogg", have="Ogg Vorbis, cut", heard="what is there, with a warning", labels=(SIREN,), seconds=3.3,
          within=0.6, made=lambda: _cut(encoded("OGG", "VORBIS"), 0.7), says="has no last page",
          report="libsndfile/libsndfile#989"),
    _case(name="hole.ogg", have="Ogg Vorbis, damaged in the middle", seconds=5.33, within=0.01,
          heard="everything but the damaged page; silence stands for it, so that later times are right",
          made=lambda: hole(encoded("OGG", "VORBIS")), says="damaged at 1.53 s: 0.67 s are missing",
          report="eshaz/wasm-audio-decoders#4"),
    _case(name="twice.ogg", have="Ogg Vorbis with a page that comes twice", heard="all of it, once",
          made=lambda: _twice(encoded("OGG", "VORBIS"))),
    _case(name="cut.opus", have="Opus, cut", heard="what is there, with a warning", seconds=3.97, within=0.01,
          made=lambda: _cut(encoded("OGG", "OPUS", rate=16000), 0.7), says="has no last page",
          report="savonet/liquidsoap#4445"),
    _case(name="hole.opus", have="Opus, damaged in the middle", seconds=4.99, within=0.02,
          heard="everything but the damaged page; silence stands for it, so that later times are right",
          made=lambda: hole(encoded("OGG", "OPUS", rate=16000)), says="damaged at 1.97 s: 1.01 s are missing",
          report="Serial-ATA/lofty-rs#130"),
    _case(name="noend.opus", have="Opus whose writer was killed", says="has no last page", seconds=5.0, within=1.0,
          heard="what is there, with a warning",
          made=lambda: b"".join(ogg_pages(encoded("OGG", "OPUS", rate=16000))[:-1]),
          report="Borewit/music-metadata#608"),
)  # fmt: skip


def _twice(data: bytes) -> bytes:
    pages = ogg_pages(data)
    return b"".join([*pages[:5], pages[4], *pages[5:]])


MEDIA = _rows(
    "AAC, M4A, MP4, WebM (extra `media`)",
    _case(name="voice.m4a", have="AAC in M4A, as of a phone", made=lambda: media("ipod", "aac"), within=0.1,
          report="bastibe/python-soundfile#431"),
    _case(name="film.mp4", have="The sound of an MP4", made=lambda: media("mp4", "aac"), within=0.1),
    _case(name="raw.aac", have="AAC without a container", made=lambda: media("adts", "aac"), within=0.1,
          report="librosa/librosa#1817"),
    _case(name="browser.webm", have="WebM of a browser", made=lambda: media("webm", "libopus", rate=16000), within=0.1,
          report="librosa/librosa#1934"),
    _case(name="paused.webm", have="A recorder that was paused",
          heard="all of it; silence stands for the pause, with a warning",
          made=lambda: media("webm", "libopus", rate=16000, pause=2.0), within=0.1,
          says="2.00 s are missing"),
    _case(name="hole.m4a", have="AAC in M4A, damaged", heard="everything but the damaged packets, with a warning",
          made=lambda: hole(media("ipod", "aac")), seconds=5.95, within=0.15, says="damaged",
          report="chenxiaolong/BCR#143"),
    needs="av",
)  # fmt: skip


HEADERS = _rows(
    "Headers that cannot be right",
    _refused(name="rate0.wav", have="A rate of 0 Hz", made=partial(wav, rate=0), says="not readable as audio",
             report="sahaRatul/sela#15"),
    _refused(name="rate1.wav", have="A rate of 1 Hz", made=partial(wav, rate=1), says="states a rate of 1 Hz"),
    _refused(name="rate10m.wav", have="A rate of 10 MHz", made=partial(wav, rate=10_000_000),
             says="states a rate of 10000000 Hz"),
    _refused(name="rate2g.wav", have="A rate of 2 GHz", made=partial(wav, rate=2**31), says="not readable as audio"),
    _refused(name="channels0.wav", have="No channel", made=partial(wav, channels=0), says="Channel count is zero",
             report="mhroth/tinywav#21"),
    _refused(name="channels64k.wav", have="65,535 channels", made=partial(wav, channels=65535),
             says="Too many channels", report="mhroth/tinywav#22"),
    _refused(name="empty.wav", have="An empty file", made=lambda: b"", says="the file is empty",
             report="birdnet-team/BirdNET-Analyzer#387"),
    _refused(name="header.wav", have="A header without sound", made=lambda: wav(b""), says="no samples"),
    _refused(name="text.wav", have="A text that is called .wav", made=lambda: b"Dear recording,\n" * 200,
             says="not readable as audio", report="birdnet-team/BirdNET-Analyzer#339"),
    _case(name="disguise.mp3", have="FLAC that is called .mp3", made=lambda: encoded("FLAC")),
)  # fmt: skip


def _spoiled(value: float, *, count: int = 1) -> NDArray[np.float32]:
    samples = np.tile(sound(), 4)
    samples[12 * RATE : 12 * RATE + count] = value
    return samples


def _chunks(samples: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    return iter(np.array_split(samples, 40))


_BAD = "samples that are NaN, Inf or beyond ±2.5 at 12.000 s"
_WINDOW = "everything but the window with these samples, with a warning"
_ARRAY = {"rate": RATE}

SAMPLES = _rows(
    "Samples: faults, scales and channels",
    _case(name="nan.array", have="One NaN in an array", heard=_WINDOW, made=lambda: _spoiled(np.nan), seconds=24,
          says=_BAD, report="orasanen/ALICE#24"),
    _case(name="inf.array", have="One Inf", heard=_WINDOW, made=lambda: _spoiled(-np.inf), seconds=24, says=_BAD,
          report="openai/openai-agents-python#4410"),
    _case(name="absurd.array", have="One sample of 1e30", heard=_WINDOW, made=lambda: _spoiled(1e30), seconds=24,
          says=_BAD),
    _case(name="dropped.stream", have="A block of NaN in a stream: a driver dropped it", heard=_WINDOW, seconds=24,
          made=lambda: _chunks(_spoiled(np.nan, count=1024)), says=_BAD),
    _case(name="peak15.array", have="A peak of 1.5: too loud", heard="all of it, with a note",
          says="samples reach 1.50", made=lambda: sound() * np.float32(1.5 / np.abs(sound()).max()),
          report="scipy/scipy#16515"),
    _case(name="peak24.array", have="A peak of 2.4", heard="all of it, with a note", says="samples reach 2.40",
          made=lambda: sound() * np.float32(2.4 / np.abs(sound()).max()), report="0x08088405/rmp3#6"),
    _refused(name="peak3.array", have="A peak of 3.0: the scale is wrong", says="expected samples in [-1, 1]",
             heard="nothing: one line names the remedy", made=lambda: sound() * np.float32(30.0)),
    _refused(name="floats16.array", have="Floats that hold integers of 16 bits", says="scale='int16'",
             heard="nothing: one line names the remedy", made=lambda: sound() * np.float32(32768),
             report="gaborvecsei/whisper-live-transcription#4"),
    _refused(name="integers.array", have="Integers without a scale", says="scale='int16'",
             heard="nothing: one line names the remedy", made=lambda: np.frombuffer(pcm(), "<i2"),
             report="timsainb/noisereduce#13"),
    _case(name="scale16.array", have="Integers of 16 bits, with `scale=\"int16\"`", options=_ARRAY | {"scale": "int16"},
          made=lambda: np.frombuffer(pcm(), "<i2"), report="keunwoochoi/kapre#37"),
    _case(name="scale24.array", have="Floats of the 24-bit scale, with `scale=\"int24\"`",
          options=_ARRAY | {"scale": "int24"}, made=lambda: sound() * np.float32(2**23),
          report="WarrenWeckesser/wavio#11"),
    _case(name="scale32.array", have="Integers of 32 bits, with `scale=\"int32\"`",
          options=_ARRAY | {"scale": "int32"}, made=lambda: (sound() * 2.0**31).clip(-(2**31), 2**31 - 1).astype("i4"),
          report="scipy/scipy#6852"),
    _case(name="antiphase.array", have="Channels that cancel each other",
          heard="the little that is left, with a warning",
          made=lambda: np.stack([sound(), -sound()], 1), says="channels cancel each other", labels=(),
          report="m-bain/whisperX#750"),
    _case(name="channel2.array", have="The same, with `channel=2` (`--channel 2`)", heard="that channel",
          made=lambda: np.stack([sound(), -sound()], 1), options=_ARRAY | {"channel": 2},
          report="birdnet-team/BirdNET-Analyzer#144"),
    _refused(name="channel3.array", have="A channel that is not there", says="channel = 3; expected 1 … 2",
             made=lambda: np.stack([sound(), -sound()], 1), options=_ARRAY | {"channel": 3}),
    _case(name="channels128.array", have="128 channels, and fewer samples than that at the end", seconds=4.1,
          made=lambda: np.repeat(sound()[: (1 << 17) + 100, None], 128, 1)),
    _refused(name="transposed.array", have="Channels first", says="transpose", made=lambda: np.stack([sound()] * 2)),
    _case(name="dc.array", have="A constant offset on silence", heard="silence: the gate ignores the offset",
          elsewhere="tests/audio/test_silence.py::test_a_constant_is_silent_and_does_not_change_the_level",
          report="Frieve-A/effetune#34"),
    options=_ARRAY,
)  # fmt: skip

FLOAT_FILES = _rows(
    "Samples: faults, scales and channels",
    _case(name="nan.wav", have="One NaN in a file", heard=_WINDOW, seconds=24, says=_BAD, report="orasanen/ALICE#24",
          made=lambda: floats(_spoiled(np.nan))),
    _refused(name="scaled.wav", have="A file of floats that hold integers of 16 bits", says="scale='int16'",
             made=lambda: floats(sound() * np.float32(32768)), heard="nothing: one line names the remedy",
             report="gaborvecsei/whisper-live-transcription#4"),
    _case(name="antiphase.wav", have="A file whose channels cancel each other", labels=(),
          heard="the little that is left, with a warning", says="channels cancel each other",
          made=lambda: wav(pcm(np.stack([sound(), -sound()], 1)), channels=2), report="m-bain/whisperX#750"),
)  # fmt: skip


PIPES = _rows(
    "Pipes",
    _case(name="wav.pipe", have="`ffmpeg … -f wav - | panns-litert tag -`", report="bastibe/python-soundfile#141",
          made=partial(wav, size=2**32 - 1, riff=2**32 - 1)),
    _case(name="flac.pipe", have="FLAC", made=lambda: flac_unknown(encoded("FLAC")),
          report="libsndfile/libsndfile#280"),
    _case(name="mp3.pipe", have="MP3", made=lambda: id3v2() + mp3(), report="mudler/parakeet.cpp#38"),
    _case(name="ogg.pipe", have="Ogg Vorbis", made=partial(encoded, "OGG", "VORBIS"),
          report="libsndfile/libsndfile#280"),
    _case(name="aiff.pipe", have="AIFF", made=partial(encoded, "AIFF")),
    _case(name="caf.pipe", have="CAF of unknown length", made=lambda: _sized("CAF", None, b"data", b"\xff" * 8)),
    _case(name="s16le.pipe", have="Raw samples, with `--rate`", made=pcm, options={"--rate": RATE},
          report="bbc/audiowaveform#70"),
    _case(name="s24le.pipe", have="Raw samples, `--format s24le`", options={"--rate": RATE, "--format": "s24le"},
          made=lambda: np.frombuffer(pcm(form="<i2"), "u1").reshape(-1, 2)[:, [0, 0, 1]].tobytes()),
    _case(name="s32le.pipe", have="Raw samples, `--format s32le`", options={"--rate": RATE, "--format": "s32le"},
          made=lambda: (sound() * 2.0**31).clip(-(2**31), 2**31 - 1).astype("<i4").tobytes()),
    _case(name="f32le.pipe", have="Raw samples, `--format f32le`", options={"--rate": RATE, "--format": "f32le"},
          made=lambda: sound().astype("<f4").tobytes()),
    _case(name="f64le.pipe", have="Raw samples, `--format f64le`", options={"--rate": RATE, "--format": "f64le"},
          made=lambda: sound().astype("<f8").tobytes()),
    _case(name="u8.pipe", have="Raw samples, `--format u8`", options={"--rate": RATE, "--format": "u8"},
          made=lambda: np.round(sound() * 127 + 128).astype("u1").tobytes()),
    _case(name="mulaw.pipe", have="Raw samples of a telephone, `--format mulaw`",
          options={"--rate": RATE, "--format": "mulaw"}, made=lambda: encoded("RAW", "ULAW"),
          report="swesterfeld/audiowmark#71"),
    _case(name="alaw.pipe", have="Raw samples of a telephone, `--format alaw`",
          options={"--rate": RATE, "--format": "alaw"}, made=lambda: encoded("RAW", "ALAW"),
          report="swesterfeld/audiowmark#71"),
    _refused(name="raw.pipe", have="Raw samples without `--rate`", made=lambda: pcm()[2000:], says="give --rate HZ",
             report="tinyalsa/tinyalsa#209"),
    _case(name="named.pipe", have="A named pipe (FIFO)", report="ribt/dtmf-decoder#7",
          elsewhere="tests/cases/test_ways.py::test_a_named_pipe"),
    _case(name="dev.pipe", have="`/dev/stdin` and process substitution", report="szechyjs/dsd#44",
          elsewhere="tests/cases/test_ways.py::test_dev_stdin"),
)  # fmt: skip

OBJECTS = _rows(
    "In Python",
    _case(name="bytes", have="The content of a file, `bytes`", report="pytorch/audio#800",
          elsewhere="tests/cases/test_ways.py::test_file_objects"),
    _case(name="bytesio", have="`io.BytesIO`, also of MP3", report="librosa/librosa#1267",
          elsewhere="tests/cases/test_ways.py::test_file_objects"),
    _case(name="open", have="An open file, and one that was read in part", heard="what follows the position",
          report="pytorch/audio#754", elsewhere="tests/cases/test_ways.py::test_file_objects"),
    _case(name="member", have="A member of a zip file, or another object that cannot seek",
          report="librosa/librosa#140", elsewhere="tests/cases/test_ways.py::test_file_objects"),
    _case(name="text mode", have="A file opened as text", heard="nothing: one line says what is wrong",
          elsewhere="tests/cases/test_ways.py::test_objects_that_are_refused"),
    _case(name="threads", have="One tagger in several threads", heard="each call its own sound",
          report="tensorflow/tensorflow#26365",
          elsewhere="tests/test_tagger.py::test_threads_get_their_own_sound"),
    _case(name="fork", have="A fork of a process that has used a tagger", heard="the right sound",
          report="tensorflow/tensorflow#8220", elsewhere="tests/cases/test_ways.py::test_a_fork_after_use"),
)  # fmt: skip

FOLDERS = _rows(
    "Folders",
    _case(name="._x.wav", have="macOS's `._` files, hidden files and folders", heard="nothing: they are skipped",
          report="birdnet-team/BirdNET-Analyzer#635",
          elsewhere="tests/cases/test_ways.py::test_a_folder"),
    _case(name="X.WAV", have="Suffixes in capitals, .WAVE, .bwf, .aifc, .mpga, .sph, .snd",
          report="fishaudio/audio-preprocess#39", elsewhere="tests/cases/test_ways.py::test_a_folder"),
    _case(name="x.raw", have="Files that look like audio and cannot be read",
          heard="nothing: they are counted and named",
          report="Sohex/musefs#189", elsewhere="tests/cases/test_ways.py::test_a_folder"),
    _case(name="link", have="Linked folders, also in a circle", heard="each recording once",
          report="navidrome/navidrome#5334", elsewhere="tests/cases/test_ways.py::test_a_folder"),
    _case(name="caf\\xe9.wav", have="Names that are no UTF-8", heard="all of it; the name is shown escaped",
          report="quodlibet/mutagen#648", elsewhere="tests/cases/test_ways.py::test_a_folder"),
    _case(name="bad one", have="One recording that cannot be used, among others",
          heard="the others; it is named, and the exit code is 2",
          report="birdnet-team/BirdNET-Analyzer#339", elsewhere="tests/cases/test_ways.py::test_a_folder"),
)  # fmt: skip

LENGTHS = _rows(
    "Lengths",
    _case(name="tail", have="20 ms behind the last whole window",
          heard="nothing of these 20 ms; a rest of at least 5 % of a window is in a window that is shifted back",
          report="pyannote/pyannote-audio#1260",
          elsewhere="tests/test_windows.py::test_windows_of_recordings_of_many_lengths"),
    _case(name="short", have="A recording shorter than the model's clip",
          heard="all of it; `padding_seconds` says how much of the clip is padding",
          report="qiuqiangkong/panns_inference#13",
          elsewhere="tests/cases/test_ways.py::test_a_short_recording_says_its_padding"),
)  # fmt: skip

RESULTS = _rows(
    "Results",
    _case(name="progress", have="`tag --windows > file` from a terminal", heard="every line is in the file",
          report="Textualize/rich#374",
          elsewhere="tests/cli/test_terminal.py::test_stdout_is_the_same_beside_a_progress_bar"),
    _case(name="resume", have="`tag --out` again, with other settings or another model",
          heard="nothing is mixed: the run is refused, or begins anew",
          report="wavlab-speech/versa#103",
          elsewhere="tests/cli/test_jsonlines.py::test_other_settings_are_refused_by_name"),
    _case(name="events", have="`events FOLDER --out FILE`", heard="one table of all recordings",
          elsewhere="tests/cli/test_event_output.py::test_csv_is_one_table_with_the_source_first"),
    _case(name="batch", have="A damaged recording in a batch",
          heard="as above; `seconds_heard` and `warnings` are in its row",
          elsewhere="tests/test_batch.py::test_recordings_that_are_not_heard_whole_are_counted"),
    _case(name="embed", have="A damaged recording in `embed`, `index`, `events` or `page`",
          heard="as above, with the warning",
          elsewhere="tests/cases/test_ways.py::test_embeddings_and_an_index_tell_of_damage"),
    _case(name="killed", have="A batch that was killed", heard="the rest, when it is started again",
          report="birdnet-team/BirdNET-Analyzer#623",
          elsewhere="tests/test_batch.py::test_a_killed_run_is_resumed"),
)  # fmt: skip

FILES = (*WAV, *CHUNKS, *FLAC, *MP3, *OGG, *JOINED, *TAGS, *MEDIA, *HEADERS, *FLOAT_FILES)
"""Rows that are files."""
CASES = (
    *(*WAV, *CHUNKS, *FLAC, *MP3, *OGG, *JOINED, *TAGS, *MEDIA, *HEADERS, *SAMPLES, *FLOAT_FILES),
    *(*PIPES, *OBJECTS, *FOLDERS, *LENGTHS, *RESULTS),
)
"""All rows, in the order of the document."""
