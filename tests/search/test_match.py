"""Matching: a changed recording is found at its offset, and is not found in other recordings.

`pytest -s tests/search/test_match.py -k recall` prints recall and false matches: the table of docs/embeddings.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import AUDIO

from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError, MatchError
from panns_litert.search import Match, match

module = importlib.import_module("panns_litert.search.match")  # the package exports a function of this name

RATE = 16000
ACCURACY = 0.1
"""Bound on the error of the offset, seconds."""

Sound = NDArray[np.float32]


def sounds(paths: list[Path]) -> dict[str, Sound]:
    return {path.stem: load_audio(path, sample_rate=RATE).waveform for path in paths}


@pytest.fixture(scope="module")
def clips() -> dict[str, Sound]:
    """The demo clips that change over time: a constant foghorn has no offset."""
    return {name: x for name, x in sounds(demo_clips()).items() if not name.startswith("foghorn")}


@pytest.fixture(scope="module")
def recordings() -> dict[str, Sound]:
    if not AUDIO.is_dir():
        pytest.skip(f"no recordings in {AUDIO}")
    return sounds(sorted([*AUDIO.glob("*.wav"), *AUDIO.glob("baby_cry/*.mp3")]))


def noise(samples: int, seed: int = 0) -> Sound:
    """Returns white noise whose level changes all the time, at most ± 0.3."""
    rng = np.random.default_rng(seed)
    at = np.arange(0, samples + 4000, 4000)
    level = np.interp(np.arange(samples), at, rng.uniform(0, 0.3, len(at)))
    return (level * rng.uniform(-1, 1, samples)).astype(np.float32)


def with_noise(x: Sound, of: Sound, rng: np.random.Generator, *, pink: bool) -> Sound:
    """Adds noise everywhere, 10 dB below the mean power of `of`."""
    white = rng.standard_normal(len(x))
    if pink:
        white = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(len(x) // 2 + 1) + 1), len(x))
    return (x + white * np.sqrt(np.mean(of**2) / 10 / np.mean(white**2))).astype(np.float32)


# ---- recall


@dataclass(frozen=True)
class Change:
    """Changes of the recording that holds the query, in this order: speed, gain, noise over the whole reference."""

    speed: float = 1.0
    same_pitch: bool = False
    gain: float = 1.0
    noise: str = ""


CHANGES = {
    "none": Change(),
    "gain −12 dB": Change(gain=0.25),
    "white noise, 10 dB SNR": Change(noise="white"),
    "pink noise, 10 dB SNR": Change(noise="pink"),
    "5 % slower": Change(speed=0.95),
    "5 % faster": Change(speed=1.05),
    "5 % slower, same pitch": Change(speed=0.95, same_pitch=True),
    "5 % faster, same pitch": Change(speed=1.05, same_pitch=True),
    "3 % faster, −12 dB, white noise": Change(speed=1.03, gain=0.25, noise="white"),
}


@dataclass
class Case:
    """A cut of a recording, and a longer reference that holds the changed recording between others."""

    query: Sound
    reference: Sound
    offset: float
    inside: tuple[float, float]


def same_source(a: str, b: str) -> bool:
    """Whether two recordings are cuts of one source by their names, such as 3-151081-A and 3-151081-B."""
    return a == b or (a[1:2] == "-" and a.rsplit("-", 1)[0] == b.rsplit("-", 1)[0])


def cases(library: dict[str, Sound], change: Change, *, seconds: float = 2.5) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for name, whole in library.items():
        samples = int(seconds * RATE)
        # Only where something is heard: silence, half of some recordings, has no offset.
        starts = [s for s in range(0, len(whole) - samples + 1, 800) if active(whole[s : s + samples])]
        if not starts:
            continue
        start = int(rng.choice(starts))
        others = [other for other in library if not same_source(name, other)]
        rng.shuffle(others)
        changed = whole
        if change.same_pitch:
            changed = librosa.effects.time_stretch(whole, rate=change.speed)
        elif change.speed != 1:
            changed = soxr.resample(whole, RATE * change.speed, RATE, quality="HQ")
        before = [library[other] for other in others[:3]]
        after = [library[other] for other in others[3:6]]
        reference = change.gain * np.concatenate([*before, changed, *after])
        if change.noise:
            reference = with_noise(reference, change.gain * changed, rng, pink=change.noise == "pink")
        begin = sum(map(len, before)) / RATE
        yield Case(
            query=whole[start : start + samples],
            reference=reference.astype(np.float32),
            offset=begin + start / RATE / change.speed,
            inside=(begin, begin + len(changed) / RATE),
        )


def active(x: Sound) -> bool:
    """Whether none of five equal parts is silent."""
    power = [np.mean(part**2) for part in np.array_split(x, 5)]
    return min(power) > 1e-6 and min(power) > 1e-3 * max(power)


def offset_of(found: Match) -> float:
    """Returns the position of the query's start in the reference, in seconds."""
    return found.reference_start - found.query_start / found.speed


@dataclass
class Figures:
    count: int = 0
    right: int = 0
    elsewhere: int = 0
    worst: float = 0.0
    weakest: float = 1.0

    @property
    def recall(self) -> float:
        return self.right / self.count


def measure(library: dict[str, Sound], change: Change, find: Callable[..., tuple[Match, ...]] = match) -> Figures:
    """Counts best matches at the right offset, and cases with a match in another recording."""
    figures = Figures()
    for case in cases(library, change):
        found = find(case.query, case.reference, sample_rate=RATE)
        figures.count += 1
        figures.elsewhere += any(m.reference_end < case.inside[0] or m.reference_start > case.inside[1] for m in found)
        if not found:
            continue
        best = max(found, key=lambda m: m.score)
        error = abs(offset_of(best) - case.offset)
        if error <= ACCURACY:
            figures.right += 1
            figures.worst, figures.weakest = max(figures.worst, error), min(figures.weakest, best.score)
    return figures


def print_row(where: str, name: str, f: Figures) -> None:
    print(
        f"| {where} | {name} | {f.right} of {f.count} | {f.worst:.3f} | {f.weakest:.2f} | {f.elsewhere} of {f.count} |"
    )


@pytest.mark.parametrize("name", CHANGES)
def test_recall_and_false_matches_on_demo_clips(name: str, clips: dict[str, Sound]) -> None:
    figures = measure(clips, CHANGES[name])
    print_row("demo clips", name, figures)
    assert figures.count == 5
    assert figures.recall == 1.0
    assert figures.elsewhere == 0


@pytest.mark.parametrize("name", CHANGES)
def test_recall_and_false_matches_on_recordings(name: str, recordings: dict[str, Sound]) -> None:
    figures = measure(recordings, CHANGES[name])
    print_row("recordings", name, figures)
    assert figures.count >= 20
    assert figures.recall >= 0.95
    assert figures.elsewhere <= 0.1 * figures.count


def test_the_measure_can_fail(clips: dict[str, Sound]) -> None:
    """`measure` detects a reference that is 0.2 s late, matches everywhere, and a speed outside the range."""

    def late(query: Sound, reference: Sound, **options: int) -> tuple[Match, ...]:
        return match(query, np.concatenate([np.zeros(3200, np.float32), reference]), **options)

    def everywhere(query: Sound, reference: Sound, **options: int) -> tuple[Match, ...]:
        one = Match(query_start=0, query_end=2, reference_start=0, reference_end=0.1, score=1.0, speed=1.0)
        return (one, *match(query, reference, **options))

    assert measure(clips, CHANGES["none"], late).recall == 0.0
    assert measure(clips, CHANGES["none"], everywhere).elsewhere == 5
    assert measure(clips, Change(speed=0.85)).recall < 1.0


def test_recall_needs_the_speeds(recordings: dict[str, Sound]) -> None:
    """If no other speeds are tried, a change of 5 % is too much for some recordings."""

    def one_speed(query: Sound, reference: Sound, **options: int) -> tuple[Match, ...]:
        return match(query, reference, speed_change=0.0, **options)

    assert measure(recordings, CHANGES["5 % faster"], one_speed).recall < 0.95


def test_recordings_of_the_same_kind_are_not_matched(recordings: dict[str, Sound]) -> None:
    """Every second recording against all the others, except cuts of the same source: 30 crying babies differ."""
    names = list(recordings)[::2]
    pairs = found = 0
    for name in names:
        others = [other for other in names if not same_source(name, other)]
        reference = np.concatenate([recordings[other] for other in others])
        pairs += len(others)
        found += len(match(recordings[name], reference, sample_rate=RATE))
    print(f"\n{found} false matches in {pairs} pairs of recordings")
    assert found <= 0.02 * pairs


# ---- what is found


@settings(max_examples=15)
@given(
    start=st.floats(0, 9), seconds=st.floats(2, 6), gain=st.floats(0.01, 3), seed=st.integers(0, 99),
    swap=st.booleans(),
)  # fmt: skip
def test_a_cut_is_found_where_it_was_cut(start: float, seconds: float, gain: float, seed: int, swap: bool) -> None:
    """Query and reference may be swapped; the match is the same."""
    if swap:
        seconds += 0.6  # patches of 2 s start every 0.5 s: one must lie within the cut
    whole = noise(16 * RATE, seed)
    cut = np.float32(gain) * whole[round(start * RATE) : round((start + seconds) * RATE)]
    found = match(*((whole, cut) if swap else (cut, whole)), sample_rate=RATE)
    assert len(found) == 1
    m = found[0]
    if swap:
        m = replace(
            m,
            query_start=m.reference_start, query_end=m.reference_end,
            reference_start=m.query_start, reference_end=m.query_end,
        )  # fmt: skip
    assert abs(m.speed - 1) <= 0.021
    assert m.score > 0.8  # the cut may lie between two frames, and its outer frames lack the samples beyond it
    assert abs(m.reference_start - m.query_start - start) <= 0.04
    # In the query, patches of 2 s start every 0.5 s.
    assert m.query_start <= 0.55
    assert m.query_end >= seconds - 0.55


@settings(max_examples=20)
@given(seed=st.integers(0, 999), threshold=st.floats(0.5, 1), least=st.floats(1, 4), speed=st.floats(0, 0.2))
def test_results_are_in_range(seed: int, threshold: float, least: float, speed: float) -> None:
    rng = np.random.default_rng(seed)
    query, reference = noise(int(rng.integers(4, 8) * RATE), seed), noise(int(rng.integers(6, 12) * RATE), seed + 1)
    reference[RATE : 4 * RATE] = query[: 3 * RATE]
    for m in match(query, reference, sample_rate=RATE, threshold=threshold, min_seconds=least, speed_change=speed):
        assert 0 <= m.query_start < m.query_end <= len(query) / RATE
        assert 0 <= m.reference_start < m.reference_end <= len(reference) / RATE
        assert m.query_end - m.query_start >= least - 1e-9
        assert threshold - 1e-6 <= m.score <= 1
        assert abs(m.speed - 1) <= 0.2 + 1e-9


def test_two_parts_in_another_order_are_two_matches() -> None:
    a, b, other = noise(4 * RATE, 1), noise(5 * RATE, 2), noise(7 * RATE, 3)
    found = match(np.concatenate([a, b]), np.concatenate([b, other, a]), sample_rate=RATE)
    assert [round(offset, 1) for offset in (m.reference_start - m.query_start for m in found)] == [-4.0, 12.0]
    for m, length in zip(found, (5, 4), strict=True):
        assert m.query_end - m.query_start == pytest.approx(length, abs=1.1)


def test_a_recording_that_comes_twice_is_found_twice() -> None:
    a, other = noise(4 * RATE, 1), noise(6 * RATE, 2)
    found = match(a, np.concatenate([other, a, other, a]), sample_rate=RATE)
    assert [round(m.reference_start, 1) for m in found] == [6.0, 16.0]


def test_a_reference_of_several_blocks_and_a_query_of_many_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    query, before, after = noise(20 * RATE, 1), noise(25 * RATE, 2), noise(9 * RATE, 3)
    reference = np.concatenate([before, query, after])
    whole = match(query, reference, sample_rate=RATE)
    assert [(m.query_start, m.query_end, m.reference_start) for m in whole] == [(0.0, 20.0, 25.0)]
    monkeypatch.setattr(module, "_BLOCK", 256)
    monkeypatch.setattr(module, "_PATCHES", 3)
    (pieces,) = match(query, reference, sample_rate=RATE)
    assert replace(pieces, score=0) == replace(whole[0], score=0)
    assert pieces.score == pytest.approx(whole[0].score, abs=1e-4)


def test_a_correlation_is_what_float64_gives() -> None:
    query, reference = noise(2 * RATE, 1), noise(6 * RATE, 2)
    reference[2 * RATE : 4 * RATE] += 2 * query
    (found,) = match(query, reference, sample_rate=RATE, speed_change=0.0, threshold=0.3)
    patch = module._features(iter((query,))).astype(np.float64)
    at = round(found.reference_start * 50)
    there = module._features(iter((reference,))).astype(np.float64)[at : at + len(patch)]
    patch, there = patch - patch.mean(0), there - there.mean(0)
    assert found.score == pytest.approx((patch * there).sum() / np.linalg.norm(patch) / np.linalg.norm(there), abs=1e-4)


@pytest.mark.parametrize("kind", ["silence", "tone", "constant"])
def test_a_constant_sound_matches_nothing(kind: str) -> None:
    t = np.arange(6 * RATE) / RATE
    x = {"silence": 0 * t, "tone": 0.3 * np.sin(2 * np.pi * 1000 * t), "constant": 0 * t + 0.5}[kind].astype(np.float32)
    assert match(x[: 3 * RATE], x, sample_rate=RATE) == ()
    assert match(noise(3 * RATE), x, sample_rate=RATE) == ()
    assert match(x, noise(3 * RATE), sample_rate=RATE) == ()


def test_files_of_any_rate(tmp_path: Path) -> None:
    whole = noise(10 * RATE)
    soundfile.write(tmp_path / "whole.wav", whole, RATE)
    cut = soxr.resample(whole[3 * RATE : 7 * RATE], RATE, 44100)
    soundfile.write(tmp_path / "cut.flac", np.stack([cut, cut], 1), 44100)
    (found,) = match(tmp_path / "cut.flac", tmp_path / "whole.wav")
    assert found.reference_start == pytest.approx(3, abs=0.02)
    assert found.query_end == pytest.approx(4, abs=0.02)


# ---- bad input


def test_a_bad_sample_does_not_hide_the_rest() -> None:
    sound = noise(20 * 16000)
    broken = sound.copy()
    broken[5 * 16000] = np.nan
    for query, reference, start in (
        (sound[10 * 16000 : 14 * 16000], broken, 10.0),
        (broken[3 * 16000 : 14 * 16000], sound, 3.0),
    ):
        (found,) = match(query, reference, sample_rate=16000)
        assert (found.query_start, found.reference_start) == pytest.approx((0.0, start), abs=0.05)


def test_too_short_is_one_clear_error() -> None:
    long, short = noise(5 * RATE), noise(RATE)
    with pytest.raises(MatchError, match=r"the query is 1\.00 s long; expected at least min_seconds = 2"):
        match(short, long, sample_rate=RATE)
    with pytest.raises(MatchError, match="the reference is"):
        match(long, short, sample_rate=RATE)
    with pytest.raises(MatchError, match="the reference is 0"):
        match(long, short[:100], sample_rate=RATE)
    match(long[: 2 * RATE], long, sample_rate=RATE)  # the shortest query


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("threshold", v) for v in (0.29, 1.01, float("nan"), "0.5", True, None)],
        *[("min_seconds", v) for v in (0.9, -1, float("nan"))],
        *[("speed_change", v) for v in (-0.01, 0.21, float("inf"))],
    ],
)
def test_settings_out_of_range(name: str, value: object) -> None:
    with pytest.raises(MatchError, match=rf"{name} = .*; expected a number"):
        match(noise(3 * RATE), noise(3 * RATE), sample_rate=RATE, **{name: value})


def test_unusable_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        match(tmp_path / "none.wav", noise(3 * RATE), sample_rate=RATE)
    with pytest.raises(AudioError, match="sample_rate"):
        match(noise(3 * RATE), noise(3 * RATE))
    with pytest.raises(AudioError, match="NaN"):
        match(np.full(3 * RATE, np.nan, np.float32), noise(3 * RATE), sample_rate=RATE)
    with pytest.raises(AudioError, match="NaN"):
        match(noise(3 * RATE), np.full(3 * RATE, np.nan, np.float32), sample_rate=RATE)
