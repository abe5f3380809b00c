"""Duplicates: the same sound is found again whatever was done to it, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from duplicates import COPIES
from numpy.typing import NDArray
from support import AUDIO, needs_shared

from panns_litert.errors import MatchError
from panns_litert.evaluate import read_dataset
from panns_litert.search import MATCH_SPEC, find_duplicates, match_features

RATE = MATCH_SPEC.sample_rate
Waveform = NDArray[np.float32]


@needs_shared
def test_copies_of_real_clips_are_found_and_no_other_clip_is() -> None:
    """A clip of every class of ESC-10 in every fold, and planted copies of some."""
    clips = read_dataset(AUDIO / "esc10" / "esc10.csv").clips
    chosen = [clip for before, clip in pairwise(clips) if before.labels != clip.labels or before.fold != clip.fold]
    waveforms = [clip.read(sample_rate=RATE).waveform for clip in chosen]
    assert len(waveforms) >= 39
    # Of a clip that ends with digital silence, a cut leaves nothing to find.
    full = [i for i, x in enumerate(waveforms) if np.abs(x[-RATE:]).max() > 1e-3][::4]
    planted = [(i, name) for i in full for name in COPIES]
    made = [COPIES[name](waveforms[i]) for i, name in planted]
    # Copies of one clip are not compared with each other.
    groups = [*range(len(waveforms)), *(f"copy of {i}" for i, _ in planted)]
    found = find_duplicates((match_features(x) for x in (*waveforms, *made)), groups=groups)
    expected = {(i, len(waveforms) + k): name for k, (i, name) in enumerate(planted)}
    assert {(one.first, one.second) for one in found} == set(expected)
    for one in found:
        shift = 1.3137 if "cut" in expected[one.first, one.second] else 0.0
        assert one.offset == pytest.approx(shift, abs=0.06)  # a codec delays by some milliseconds
        assert one.seconds == pytest.approx(5.0 - shift, abs=0.1)


@needs_shared
def test_what_a_codec_leaves_of_silence_is_no_duplicate() -> None:
    """Many clips of ESC-10 end with silence, whose remains behind Ogg Vorbis are much the same in all of them."""
    clips = read_dataset(AUDIO / "esc10" / "esc10.csv").clips
    short = [clip for clip in clips if {"dog_bark", "sneeze", "rooster"} & set(clip.labels)]
    groups = [clip.path for clip in short for _ in range(3)]
    parts = [
        replace(clip, start=start, end=start + 2.0).read(sample_rate=RATE).waveform
        for clip in short
        for start in (0.0, 1.0, 2.5)
    ]
    assert find_duplicates(map(match_features, parts), groups=groups) == ()


def noise(seconds: float, seed: int) -> Waveform:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("sounds", [
    [], [0 * noise(3, 1)] * 3, [np.full(3 * RATE, 0.5, np.float32)] * 2, [noise(0.01, 1)] * 2, [noise(0.5, 1)] * 2,
    [noise(5, 1), noise(5, 2)], [np.sin(np.arange(3 * RATE)).astype(np.float32), noise(5, 1)],
], ids=["none", "silence", "constant", "a moment", "short", "noise", "tone and noise"])  # fmt: skip
def test_nothing_is_a_duplicate_of_these(sounds: list[Waveform]) -> None:
    assert find_duplicates(map(match_features, sounds)) == ()


def test_many_copies_of_one_sound_and_groups() -> None:
    x = noise(3, 1)
    features = [match_features(x * (0.5 + 0.01 * i)) for i in range(70)]
    found = find_duplicates(features)
    assert {one.first for one in found} | {one.second for one in found} == set(range(70))
    assert all(one.score > 0.99 and one.offset == 0 for one in found)
    assert find_duplicates(features, groups=["a"] * 70) == ()
    assert {(one.first, one.second) for one in find_duplicates(features[:4], groups="abab")} == {
        (0, 1), (0, 3), (1, 2), (2, 3),
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"threshold": 0.1}, {"threshold": True}, {"min_seconds": 0}, {"min_seconds": "1"},
                                     {"groups": ["a"]}])  # fmt: skip
def test_wrong_settings(options: dict[str, Any]) -> None:
    with pytest.raises(MatchError, match="expected"):
        find_duplicates([match_features(noise(2, 1))] * 2, **options)


@pytest.mark.parametrize("wrong", [np.ones((50, 3)), np.ones(50), np.full((50, 40), np.nan), np.full((50, 40), 1e30)])
def test_other_features_are_refused(wrong: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(MatchError, match="recording 1: features of shape"):
        find_duplicates([np.zeros((50, 40), np.float32), wrong])
