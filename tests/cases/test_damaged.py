"""Damaged files of every format, built by hypothesis: what must hold for any bytes."""

from __future__ import annotations

import functools
import importlib.util
import io
import json

import numpy as np
import pytest
import soundfile
from cases.made import RATE, encoded, flac_unknown, media, mp3, pcm, sound, without
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import run_python

from panns_litert.audio import AudioBlocks
from panns_litert.errors import AudioError

FORMATS = {
    **{f"{form}/{subtype}": functools.partial(encoded, form, subtype, "siren") for form, subtype in (
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
        ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("AU", "PCM_16"),
        ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"))},
    "OGG/OPUS": functools.partial(encoded, "OGG", "OPUS", "siren", rate=16000),
    "FLAC/stream": lambda: flac_unknown(encoded("FLAC", "PCM_16", "siren")),
    "MP3": functools.partial(mp3, part="siren"),
    "MP3/variable": functools.partial(mp3, part="siren", variable=True),
    "MP3/16000": functools.partial(mp3, part="siren", rate=16000),
}  # fmt: skip
if importlib.util.find_spec("av") is not None:
    FORMATS |= {"M4A": lambda: media("ipod", "aac"), "WebM": lambda: media("webm", "libopus", rate=16000)}
    FORMATS |= {"AAC": lambda: media("adts", "aac"), "MP2": lambda: media("mp2", "mp2")}
needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs the extra media")
intact = functools.cache(lambda name: FORMATS[name]())

LEAST = {"OGG": 0.05, "MP3": 0.2}
"""Seconds that may be heard less than libsndfile decodes, by the start of the format's name; 0.02 for others.

In Ogg, libsndfile goes on behind a damaged page with a mixture of what was before and behind it; here, decoding begins
anew. In MP3, frames use bits of frames before them; behind a damaged place, libsndfile gives some without these bits.
It also gives the encoder's delay as sound where the information frame is damaged."""


def damaged(data: bytes, how: str, at: float, count: int, seed: int) -> bytes:
    """Returns bytes with one kind of damage.

    Args:
        data: the file.
        how: kind of damage.
        at: place, 0 … 1.
        count: number of bytes that are damaged, removed or appended.
        seed: of the random bytes.
    """
    place = int(at * (len(data) - 1))
    noise = np.random.default_rng(seed).bytes(count)
    match how:
        case "cut":
            return data[:place]
        case "flip":
            return data[:place] + bytes((data[place] ^ 1 << seed % 8,)) + data[place + 1 :]
        case "zeros":
            return data[:place] + bytes(len(data[place : place + count])) + data[place + count :]
        case "noise":
            return data[:place] + noise[: len(data) - place] + data[place + count :]
        case "remove":
            return data[:place] + data[place + count :]
        case "insert":
            return data[:place] + noise + data[place:]
        case "append":
            return data + noise
        case "splice":
            other = int(seed % 1000 / 1000 * len(data))
            return data[:place] + data[other:]
        case "header":
            place = int(at * 63)
            return data[:place] + noise[:1] + data[place + 1 :]
        case "double":
            return data + data
        case _:
            raise ValueError(how)


KINDS = ("cut", "flip", "zeros", "noise", "remove", "insert", "append", "splice", "header", "double")


class Plain(soundfile.SoundFile):  # type: ignore[misc]
    """Reads without seeking, as the decoder does: soundfile's seeks give other results on damaged files."""

    def seekable(self) -> bool:
        return False


def plain(data: bytes) -> float:
    """Returns the seconds that libsndfile decodes by itself; 0 if its header states a rate that is refused."""
    count = 0
    try:
        with Plain(io.BytesIO(data)) as file:
            rate = file.samplerate
            while 1000 <= rate <= 768000 and len(block := file.read(1 << 10)):
                count += len(block)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError):
        pass
    return count / rate if count else 0.0


@settings(max_examples=250, derandomize=True)  # bounds of lossy codecs are of what was tried: more by hand
@given(
    name=st.sampled_from(sorted(FORMATS)),
    how=st.sampled_from(KINDS),
    at=st.floats(0.0, 1.0),
    count=st.integers(1, 4000),
    seed=st.integers(0, 2**16),
)
@example(name="CAF/PCM_16", how="header", at=0.42, count=1, seed=1)
@example(name="WAVEX/PCM_24", how="header", at=0.33, count=1, seed=1)
@example(name="FLAC/PCM_16", how="zeros", at=0.5, count=300, seed=0)
@example(name="OGG/VORBIS", how="flip", at=0.5, count=1, seed=0)
@example(name="OGG/OPUS", how="flip", at=0.5, count=1, seed=0)
@example(name="OGG/VORBIS", how="splice", at=0.8, count=1, seed=400)
@example(name="CAF/ALAC_16", how="header", at=0.6643276190731064, count=167, seed=38879)  # silence of 44 minutes
@example(name="MP3", how="noise", at=0.4, count=300, seed=0)
@example(name="MP3/16000", how="header", at=0.04044524145005135, count=3641, seed=42690)  # the rate of the first frame
@example(name="MP3", how="remove", at=0.0, count=777, seed=0)
def test_what_can_be_decoded_is_heard_and_the_rest_is_said(
    name: str, how: str, at: float, count: int, seed: int
) -> None:
    """Only `AudioError`; as much as libsndfile decodes; a warning for each difference of more than 50 ms; no block is
    larger than the block that was read, so that memory does not depend on the damage."""
    data = damaged(intact(name), how, at, count, seed)
    heard, said, seconds, declared, largest = 0.0, True, 0.0, None, 0
    try:
        with AudioBlocks(data, sample_rate=RATE) as blocks:
            declared = blocks.seconds
            for block in blocks:
                largest = max(largest, len(block))
        heard, seconds, said = blocks.seconds_heard, blocks.seconds or 0.0, bool(blocks.warnings)
    except AudioError as error:
        assert "\n" not in str(error)
        assert "expected" in str(error)
    assert heard >= plain(data) - LEAST.get(name[:3], 0.02)
    assert largest <= (1 << 16) * RATE // 1000 + RATE  # at the lowest rate
    if abs(seconds - heard) > 0.05 or (declared is not None and abs(declared - heard) > 0.05 and heard):
        assert said


def test_memory_is_that_of_the_intact_file() -> None:
    """Peak memory of a process that decodes ten minutes of damaged sound is near that of the intact sound."""
    code = """
import io, json, os
import numpy as np, soundfile
from panns_litert.audio import AudioBlocks
from panns_litert.errors import AudioError
rng = np.random.default_rng(0)
samples = (0.1 * rng.standard_normal(600 * 32000)).astype(np.float32)
peaks = {}
for form in ("WAV", "FLAC", "OGG", "MP3"):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 32000, 1, format=form) as file:
        for second in range(0, len(samples), 32000):
            file.write(samples[second : second + 32000])
    whole = buffer.getvalue()
    middle = len(whole) // 2
    for how, data in {"whole": whole, "hole": whole[:middle] + rng.bytes(9999) + whole[middle + 9999:],
                      "cut": whole[:-9999], "size": whole[:40] + b"\\xff" * 4 + whole[44:]}.items():
        child = os.fork()
        if not child:
            try:
                with AudioBlocks(data, sample_rate=32000) as blocks:
                    for block in blocks:
                        pass
            except AudioError:
                pass
            os._exit(0)
        _, status, usage = os.wait4(child, 0)
        assert status == 0, (form, how)
        peaks[f"{form} {how}"] = usage.ru_maxrss
print(json.dumps(peaks))
"""
    peaks = json.loads(run_python(code).stdout)
    for name, peak in peaks.items():
        assert peak <= peaks[f"{name.split()[0]} whole"] + 24_000, (name, peak, peaks)  # kB; the whole sound has 77,000


@pytest.mark.parametrize("how", KINDS)
def test_damage_is_damage(how: str) -> None:
    """Every kind changes the file."""
    assert damaged(intact("FLAC/PCM_16"), how, 0.5, 100, 3) != intact("FLAC/PCM_16")


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_S8"])
def test_a_damaged_frame_of_flac_is_always_said(subtype: str) -> None:
    """libFLAC decodes a frame with a wrong checksum to zeros, and libsndfile may say so much later or not at all. The
    sound in front of it and behind it is the same as without the damage."""
    data = encoded("FLAC", subtype)
    with AudioBlocks(data, sample_rate=RATE) as blocks:
        whole = np.concatenate(list(blocks))
    for place in range(2000, len(data) - 2000, len(data) // 23):
        spoiled = data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]
        with AudioBlocks(spoiled, sample_rate=RATE) as blocks:
            found = np.concatenate(list(blocks))
        assert blocks.warnings[0].startswith("damaged at"), place
        assert 5.7 < blocks.seconds_heard < 6.0, place
        assert len(found) == len(whole)
        other = np.flatnonzero(found != whole)
        assert other[-1] - other[0] < 2 * 4096, place


def test_flac_whose_header_states_another_rate() -> None:
    data = encoded("FLAC")
    data = data[:18] + bytes((0x0A, 0xC4, 0x42)) + data[21:]  # 44.1 kHz
    with AudioBlocks(data, sample_rate=RATE) as blocks:
        assert sum(map(len, blocks)) == 6 * RATE
    assert "6.00 s were found" in blocks.warnings[0]


def _media_of(samples: list[tuple[int, str, str]], form: str, codec: str, **options: str) -> bytes:
    """Returns streams of a codec, one after another; each of a rate, a layout and a part of the sound."""
    import av

    parts = []
    for rate, layout, part in samples:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=form, options=options) as container:
            stream = container.add_stream(codec, rate=rate)
            stream.layout = layout
            frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm(sound(part)), "<i2")[None], "s16", "mono")
            frame.sample_rate = RATE
            resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
            for each in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(stream.encode(each))
            container.mux(stream.encode(None))
        parts.append(buffer.getvalue())
    return b"".join(parts)


def _heard_media(data: bytes) -> tuple[float, float, float, tuple[str, ...]]:
    with AudioBlocks(data, sample_rate=RATE) as blocks:
        length = sum(map(len, blocks)) / RATE
    assert blocks.seconds is not None
    return length, blocks.seconds_heard, blocks.seconds, blocks.warnings


@needs_av
@pytest.mark.parametrize("other", [(44100, "mono"), (32000, "stereo")])
def test_aac_whose_rate_or_channels_change_is_heard_to_its_end(other: tuple[int, str]) -> None:
    data = _media_of([(32000, "mono", "siren"), (*other, "dtmf")], "adts", "aac")
    length, heard, _, said = _heard_media(data)
    assert length == pytest.approx(6.08, abs=0.1)
    assert heard == pytest.approx(6.08, abs=0.1)
    assert not said


@needs_av
def test_media_that_do_not_begin_at_0_have_no_silence_in_front() -> None:
    for form, codec, options in (("matroska", "aac", {"output_ts_offset": "100"}), ("mpeg", "mp2", {})):
        length, heard, seconds, said = _heard_media(_media_of([(48000, "mono", "")], form, codec, **options))
        assert length == heard == pytest.approx(6.0, abs=0.06)
        assert seconds == pytest.approx(6.0, abs=0.06)
        assert not said


@needs_av
def test_missing_packets_of_a_file_without_a_length_are_said() -> None:
    data = _media_of([(48000, "mono", "")], "webm", "libopus", live="1")
    length, heard, _, said = _heard_media(without(data, len(data) // 4))
    assert length == pytest.approx(6.0, abs=0.06)
    assert heard < 5.0
    assert "are missing" in said[0]


@needs_av
def test_flash_video_with_bytes_like_a_frame_of_flac() -> None:
    assert _heard_media(_media_of([(44100, "mono", "")], "flv", "libmp3lame"))[1] == pytest.approx(6.03, abs=0.05)
