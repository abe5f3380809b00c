"""Audio in pieces: a file read in blocks, a stream through the resampler."""

from __future__ import annotations

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
