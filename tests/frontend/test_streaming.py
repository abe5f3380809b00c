"""Streaming log-mel: chunks of any size give the frames of the whole, each with the chunk that completes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import pieces

from panns_litert.errors import AudioError
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_8K, PANNS_32K, LogMel, StreamingLogMel

SPECS = {
    "panns": PANNS_8K,
    "efficientat": EFFICIENTAT_32K,
    "ast": AST_16K,
    "hop over half": replace(PANNS_8K, hop_length=200),
}

DB = {"panns": 1.0, "efficientat": 5.0 * 10 / np.log(10), "ast": 9.1379948 * 10 / np.log(10), "hop over half": 1.0}
"""Decibels per unit of the front end's log-mel."""


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=25)
@given(samples=st.integers(700, 9000), cuts=st.lists(st.integers(0, 10**6), max_size=12), seed=st.integers(0, 99))
def test_frames_are_those_of_the_whole(name: str, samples: int, cuts: list[int], seed: int) -> None:
    spec = SPECS[name]
    sound = (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    want = LogMel(replace(spec, padded_frames=None))(sound) if name == "ast" else LogMel(spec)(sound)
    stream = StreamingLogMel(spec)
    for _ in range(2):  # the second time: finish() has reset the stream
        got = np.concatenate([*map(stream.push, pieces(sound, cuts)), stream.finish()])
        assert got.shape == want.shape
        assert np.abs(got - want).max() * DB[name] <= 1e-5


@pytest.mark.parametrize("name", SPECS)
def test_frames_come_as_early_as_possible(name: str) -> None:
    """`push` returns a frame as soon as its samples are complete, and no frame twice."""
    spec = SPECS[name]
    stream = StreamingLogMel(spec)
    got = pushed = 0
    half, lost = (spec.n_fft // 2, 1 if spec.pre_emphasis else 0) if spec.center else (spec.win_length, 0)
    for _ in range(60):
        got += len(stream.push(np.zeros(100, np.float32)))
        pushed += 100
        begun = pushed - lost >= (half + 1 if spec.center else half)
        assert got == (max(0, (pushed - lost - half) // spec.hop_length + 1) if begun else 0)
        assert not got or stream.samples_for(got) <= pushed
        assert pushed < stream.samples_for(got + 1)


def test_a_refused_chunk_changes_nothing() -> None:
    sound = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    stream = StreamingLogMel(PANNS_8K)
    first = stream.push(sound[:2000])
    for bad in (np.zeros((2, 3), np.float32), np.zeros(5, np.int16)):
        with pytest.raises(AudioError):
            stream.push(bad)
    got = np.concatenate([first, stream.push(sound[2000:]), stream.finish()])
    assert np.abs(got - LogMel(PANNS_8K)(sound)).max() <= 1e-5


def test_a_stream_that_is_too_short() -> None:
    stream = StreamingLogMel(PANNS_32K)
    stream.push(np.zeros(512, np.float32))
    with pytest.raises(AudioError, match="expected at least 513"):
        stream.finish()
    assert len(stream.push(np.zeros(513, np.float32))) == 1  # finish() has reset the stream
