"""Audio in pieces: a file read in blocks, a stream through the resampler."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import pieces

from panns_litert.audio import AudioBlocks, MonoResampler, load_audio


@settings(max_examples=25)
@given(
    rate=st.sampled_from([8000, 11025, 16000, 32000, 44100, 48000]),
    samples=st.integers(1, 30000),
    cuts=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_resampling_in_chunks_is_that_of_the_whole(rate: int, samples: int, cuts: list[int]) -> None:
    sound = (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    want = sound if rate == 32000 else soxr.resample(sound, rate, 32000, quality="HQ")
    mono = MonoResampler(rate, sample_rate=32000)
    for _ in range(2):
        got = np.concatenate([*map(mono.push, pieces(sound, cuts)), mono.finish()])
        assert abs(len(got) - len(want)) <= 1
        n = min(len(got), len(want))
        assert np.abs(got[:n] - want[:n]).max(initial=0.0) <= 1e-5


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [32000, 44100])
def test_a_file_in_blocks_is_the_file(suffix: str, rate: int, tmp_path: Path) -> None:
    path = tmp_path / f"sound.{suffix}"
    sound = 0.1 * np.random.default_rng(2).standard_normal((3 * rate + 17, 2))
    soundfile.write(path, sound, rate)
    want = load_audio(path, sample_rate=32000)
    with AudioBlocks(path, sample_rate=32000) as blocks:
        got = np.concatenate(list(blocks))
    assert len(got) == pytest.approx(len(want.waveform), abs=1)
    assert np.abs(got[: len(want.waveform)] - want.waveform[: len(got)]).max() <= 1e-5
    assert blocks.seconds == pytest.approx(want.seconds, abs=0.1)


def sound_in(form: str, subtype: str | None = None, rate: int = 32000) -> bytes:
    times = np.arange(2 * rate) / rate
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 440 * times), rate, format=form, subtype=subtype)
    return file.getvalue()


FORMATS = {
    "wav": sound_in("WAV"),
    "aiff": sound_in("AIFF"),
    "flac": sound_in("FLAC"),
    "vorbis": sound_in("OGG"),
    "opus": sound_in("OGG", "OPUS", 48000),
    "mp3": sound_in("MP3"),
    "caf": sound_in("CAF"),
    "w64": sound_in("W64"),
}


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_files_of_two_formats_one_after_another(first: str, second: str) -> None:
    """Both are heard, except MP3 behind samples or FLAC: it has no start that cannot be mistaken for samples."""
    with AudioBlocks(FORMATS[first] + FORMATS[second], sample_rate=32000) as blocks:
        heard = sum(map(len, blocks)) / 32000
    if second == "mp3" and first in ("wav", "aiff", "caf", "w64", "flac"):
        assert heard == pytest.approx(2.0 if first == "flac" else 2.15, abs=0.1)
        assert bool(blocks.warnings) == (first != "flac")
        return
    assert heard == pytest.approx(4.0, abs=0.1)
    assert not blocks.warnings


def test_a_wav_of_two_chunks_of_samples() -> None:
    samples = np.arange(-16000, 16000, dtype="<i2")
    head, data = sound_in("WAV")[:36], samples.tobytes()
    chunk = b"data" + len(data).to_bytes(4, "little") + data
    audio = load_audio(head + chunk + b"LIST\4\0\0\0INFO" + chunk, sample_rate=32000)
    np.testing.assert_allclose(audio.waveform, np.tile(samples, 2) / 32768, atol=1e-7)


def test_what_is_noticed_in_any_of_several_streams_is_said() -> None:
    """Channels that cancel in the first of two recordings of different rates."""
    tone = 0.3 * np.sin(np.arange(32000))
    first, second = io.BytesIO(), io.BytesIO()
    soundfile.write(first, np.stack([tone, -tone], 1), 32000, format="WAV")
    soundfile.write(second, np.stack([tone, tone], 1), 16000, format="WAV")
    with AudioBlocks(first.getvalue() + second.getvalue(), sample_rate=32000) as blocks:
        assert sum(map(len, blocks)) == pytest.approx(3 * 32000, abs=2)
    assert any("cancel" in warning for warning in blocks.warnings)
    assert len(blocks.warnings) == 1
