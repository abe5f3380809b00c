"""Tagger, on the demo bundle: the same sound gives the same tags from any kind of input."""

from __future__ import annotations

import gc
import json
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import edit_manifest, rehash, run_python

from panns_litert import Bundle, Tag, Tagger, Tagging, TruncationWarning, demo_clips, windows
from panns_litert.engine import CpuEngine
from panns_litert.errors import AudioError, BundleError, PannsLitertError

RATE = 32000
CLIPS = demo_clips()


@pytest.fixture(scope="module")
def tagger(demo: Bundle) -> Tagger:
    """One tagger for the whole file: these tests also check that a tagger can be used many times."""
    return Tagger(demo)


def sound(seconds: float, *, rate: int = RATE, seed: int = 1) -> NDArray[np.float32]:
    """Returns a chirp in noise. It changes all the time, so that a shift or a cut changes the result."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    chirp = np.sin(2 * np.pi * (200.0 * seed + 150.0 * time) * time)
    return (0.3 * chirp + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def same(first: Tagging, second: Tagging, tolerance: float = 0.0) -> None:
    np.testing.assert_allclose(first.probs, second.probs, atol=tolerance, rtol=0)
    np.testing.assert_allclose(first.embedding, second.embedding, atol=tolerance * 10, rtol=0)


def differ(first: Tagging, second: Tagging) -> None:
    """Shows that the embedding depends on the sound: otherwise `same` would prove nothing."""
    assert np.abs(first.embedding - second.embedding).max() > 1e-2


# --- the same sound, the same result ------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 32000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_and_its_samples(tagger: Tagger, tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "sound.wav"
    signal = sound(10.0, rate=rate)
    samples = np.stack([signal, 0.1 * signal], axis=1) if channels == 2 else signal
    soundfile.write(path, samples, rate, subtype="FLOAT")
    file, array = tagger.tag(path), tagger.tag(samples, sample_rate=rate)
    same(file, array)
    same(file, tagger.tag(str(path)))
    assert file.source == str(path)
    assert array.source == "array"
    assert file.seconds == array.seconds == file.used_seconds == 10.0
    assert not file.truncated
    differ(file, tagger.tag(sound(10.0, seed=2), sample_rate=RATE))


def test_stereo_is_the_mean_of_its_channels(tagger: Tagger) -> None:
    left, right = sound(10.0, seed=1), sound(10.0, seed=4)
    both = tagger.tag(np.stack([left, right], axis=1), sample_rate=RATE)
    same(both, tagger.tag((left + right) / 2, sample_rate=RATE), 1e-6)
    differ(both, tagger.tag(left, sample_rate=RATE))


@pytest.mark.parametrize("seconds", [1 / RATE, 79 / RATE, 0.5, 9.99])
def test_a_short_clip_is_padded_with_zeros(tagger: Tagger, seconds: float) -> None:
    signal = sound(seconds)
    padded = np.concatenate([signal, np.zeros(10 * RATE - len(signal), np.float32)])
    short, full = tagger.tag(signal, sample_rate=RATE), tagger.tag(padded, sample_rate=RATE)
    same(short, full)
    assert short.seconds == short.used_seconds == len(signal) / RATE
    assert not short.truncated
    assert full.seconds == 10.0


def test_one_sample_at_a_high_rate_is_silence(tagger: Tagger) -> None:
    """After resampling no sample is left."""
    same(
        tagger.tag(np.full(1, 0.5, np.float32), sample_rate=192000),
        tagger.tag(np.zeros(RATE, np.float32), sample_rate=RATE),
    )


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_long_recording_is_cut_with_a_warning(tagger: Tagger, tmp_path: Path, rate: int) -> None:
    signal = sound(13.0, rate=rate)
    path = tmp_path / "long.wav"
    soundfile.write(path, signal, rate, subtype="FLOAT")
    with pytest.warns(TruncationWarning, match=r"13\.0 s long; only the first 10 s were tagged") as caught:
        long = tagger.tag(path)
    assert caught[0].filename == __file__  # it points at the caller
    with pytest.warns(TruncationWarning):
        same(long, tagger.tag(signal, sample_rate=rate), 1e-6)
    assert long.truncated
    assert (long.seconds, long.used_seconds) == (13.0, 10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = tagger.tag(signal[: 10 * rate], sample_rate=rate)
    # The resampler's filter reaches beyond the cut, where the cut recording has no samples.
    same(long, cut, 0.0 if rate == RATE else 1e-3)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_the_demo_clips(tagger: Tagger, clip: Path) -> None:
    """Every clip gets a tag above 0.5. Its samples and its file give the same result."""
    result = tagger.tag(clip, top=3)
    samples, rate = soundfile.read(clip, always_2d=True)
    same(result, tagger.tag(samples, sample_rate=rate), 1e-6)
    assert result.tags[0].score > 0.5
    assert result.engine == "cpu"
    assert result.model == "demo"
    assert result.front_end_ms > 0
    assert result.model_ms > 0


# --- buffers ------------------------------------------------------------------------------------------


def test_an_earlier_clip_does_not_change_the_result(demo: Bundle, tagger: Tagger) -> None:
    """A short soft clip after long loud ones gives the result of a new tagger."""
    for signal in (sound(0.3, seed=5), 0.001 * sound(4.0, seed=6), np.zeros(100, np.float32)):
        tagger.tag(0.9 * np.ones(10 * RATE), sample_rate=RATE)
        with pytest.warns(TruncationWarning):
            tagger.tag(sound(20.0), sample_rate=RATE)
        same(tagger.tag(signal, sample_rate=RATE), Tagger(demo).tag(signal, sample_rate=RATE))


def test_a_refused_clip_does_not_change_the_result(tagger: Tagger) -> None:
    before = tagger.tag(sound(2.0), sample_rate=RATE)
    broken = sound(10.0, seed=3)
    broken[-1] = np.nan
    with pytest.raises(AudioError):
        tagger.tag(broken, sample_rate=RATE)
    same(before, tagger.tag(sound(2.0), sample_rate=RATE))


def test_earlier_results_stay_as_they_were(tagger: Tagger) -> None:
    first = tagger.tag(sound(10.0, seed=1), sample_rate=RATE)
    probs, embedding = first.probs.copy(), first.embedding.copy()
    differ(first, tagger.tag(sound(10.0, seed=2), sample_rate=RATE))
    np.testing.assert_array_equal(first.probs, probs)
    np.testing.assert_array_equal(first.embedding, embedding)
    first.probs[:] = 0.0  # the arrays belong to the caller
    np.testing.assert_array_equal(tagger.tag(sound(10.0, seed=1), sample_rate=RATE).probs, probs)


def test_the_callers_samples_are_left_alone(tagger: Tagger) -> None:
    signal = sound(10.0)
    before = signal.copy()
    tagger.tag(signal, sample_rate=RATE)
    np.testing.assert_array_equal(signal, before)


def test_threads_do_not_change_the_result(demo: Bundle) -> None:
    signal = sound(10.0)
    one, two, all_cores = (Tagger(demo, threads=n).tag(signal, sample_rate=RATE) for n in (1, 2, None))
    same(one, two, 1e-6)
    same(one, all_cores, 1e-6)


# --- several threads ----------------------------------------------------------------------------------


def test_threads_get_their_own_sound(tagger: Tagger) -> None:
    """1,000 calls from 4 threads on one tagger, each with another sound."""
    sounds = [sound(1.0, seed=seed) for seed in range(4)]
    want = [tagger.tag(x, sample_rate=RATE) for x in sounds]
    assert len({result.probs.tobytes() for result in want}) == 4

    def calls(k: int) -> int:
        return sum(np.array_equal(tagger.tag(sounds[k], sample_rate=RATE).probs, want[k].probs) for _ in range(250))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(calls, range(4))) == [250] * 4


def test_streams_in_threads_share_a_tagger(tagger: Tagger) -> None:
    sounds = [sound(30.0, seed=seed) for seed in range(3)]

    def scores(x: NDArray[np.float32]) -> list[bytes]:
        return [window.probs.tobytes() for window in windows(tagger, x, sample_rate=RATE, hop=1.0)]

    want = [scores(x) for x in sounds]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(scores, sounds)) == want


# --- top, threshold, results --------------------------------------------------------------------------


def test_tags_are_ordered_and_cut(tagger: Tagger) -> None:
    signal = sound(10.0)
    every = tagger.tag(signal, sample_rate=RATE, top=None)
    assert len(every.tags) == len(tagger.labels) == len(every.probs)
    assert [tag.score for tag in every.tags] == sorted(every.probs.tolist(), reverse=True)
    for tag in every.tags:
        assert tagger.labels[tag.index] == tag.label
        assert every.probs[tag.index] == np.float32(tag.score)
    assert len(tagger.tag(signal, sample_rate=RATE).tags) == 10
    for top in (1, 3, len(tagger.labels), 1000, np.int64(2)):
        assert tagger.tag(signal, sample_rate=RATE, top=top).tags == every.tags[:top]
    for threshold in (0.0, 0.1, 0.7, every.tags[2].score, 1.0):
        tags = tagger.tag(signal, sample_rate=RATE, top=None, threshold=threshold).tags
        assert tags == tuple(tag for tag in every.tags if tag.score >= threshold)
        assert tagger.tag(signal, sample_rate=RATE, top=2, threshold=threshold).tags == tags[:2]


def test_equal_scores_keep_the_order_of_the_classes(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """And float32(0.7) is a little less than 0.7, so that it does not reach this threshold."""
    probs = np.full(len(tagger.labels), 0.7, np.float32)
    outputs = {"probs": probs[None], "embedding": np.zeros((1, 96), np.float32)}
    monkeypatch.setattr(tagger, "_run", lambda _: (outputs, 1.0, 1.0))
    tags = tagger.tag(sound(1.0), sample_rate=RATE, top=None).tags
    assert [tag.index for tag in tags] == list(range(len(tagger.labels)))
    assert tagger.tag(sound(1.0), sample_rate=RATE, threshold=0.7).tags == ()
    assert len(tagger.tag(sound(1.0), sample_rate=RATE, threshold=float(np.float32(0.7))).tags) == 10


@pytest.mark.parametrize("top", [0, -1, 2.5, "3", True, float("nan")])
def test_wrong_top(tagger: Tagger, top: object) -> None:
    with pytest.raises(AudioError, match=r"top = .*; expected a whole number ≥ 1, or None for all"):
        tagger.tag(sound(1.0), sample_rate=RATE, top=top)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None])
def test_wrong_threshold(tagger: Tagger, threshold: object) -> None:
    with pytest.raises(AudioError, match=r"threshold = .*; expected a number, 0 … 1"):
        tagger.tag(sound(1.0), sample_rate=RATE, threshold=threshold)  # type: ignore[arg-type]


def test_results_are_json(tagger: Tagger) -> None:
    with pytest.warns(TruncationWarning):
        result = tagger.tag(sound(11.0), sample_rate=RATE, top=2)
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data == result.to_dict()
    assert data["tags"] == [{"label": t.label, "index": t.index, "score": t.score} for t in result.tags]
    assert (data["seconds"], data["used_seconds"], data["source"]) == (11.0, 10.0, "array")
    assert "embedding" not in data
    embedding = json.loads(json.dumps(result.to_dict(embedding=True)))["embedding"]
    np.testing.assert_array_equal(np.array(embedding, np.float32), result.embedding)


def test_results_are_frozen(tagger: Tagger) -> None:
    result = tagger.tag(sound(1.0), sample_rate=RATE, top=1)
    with pytest.raises(FrozenInstanceError):
        result.source = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        result.tags[0].score = 1.0  # type: ignore[misc]
    assert isinstance(result.tags, tuple)
    assert Tag(label="a", index=0, score=0.5) == Tag(label="a", index=0, score=0.5)


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(100, np.float32), None, r"expected tag\(samples, sample_rate=…\)"),
        (np.zeros(100, np.int16), RATE, "or integers and their scale: scale='int16'"),
        (np.full(100, np.nan), RATE, "sample 0 is NaN, Inf or beyond"),
        (np.zeros(100, np.float32), 44100.0, "whole number of Hz"),
        ("no_such_file.wav", None, "no such file"),
        (Path("no_such_folder") / "file.wav", None, "no such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_audio_that_cannot_be_used(tagger: Tagger, samples: object, rate: object, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        tagger.tag(samples, sample_rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_wrong_threads(demo: Bundle, threads: object) -> None:
    for make in (lambda: Tagger(demo, threads=threads), lambda: CpuEngine(demo.file("model"), threads=threads)):  # type: ignore[arg-type]
        with pytest.raises(BundleError, match=r"threads = .*; expected a whole number ≥ 1"):
            make()


def test_no_bundle(demo: Bundle, copy_of: Callable[[Bundle], Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        Tagger(tmp_path / "missing")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Tagger(tmp_path)
    damaged = copy_of(demo)
    (damaged / demo.manifest.file("labels")).unlink()
    with pytest.raises(BundleError, match=demo.manifest.file("labels")):
        Tagger(damaged)


@pytest.mark.parametrize("output", [0, 1])
def test_a_model_that_contradicts_its_manifest(demo: Bundle, copy_of: Callable[[Bundle], Path], output: int) -> None:
    """Files and hashes agree; only the opened model shows that the shape of an output is wrong."""
    folder = copy_of(demo)
    labels = folder / demo.manifest.file("labels")
    edit_manifest(folder, lambda data: data["outputs"][output].update(shape=[1, 2]))
    for name in ("selftest.json", "selftest.pcm"):  # its number of probabilities would show it, too
        edit_manifest(folder, lambda data, name=name: data["files"].pop(name))
    if output == 0:
        labels.write_text("one\ntwo\n")
        rehash(folder, labels.name)
    with pytest.raises(BundleError, match=r"the manifest says .*convert it again"):
        Tagger(folder)


# --- any audio ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::panns_litert.tagger.TruncationWarning")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.one_of(st.integers(1, 2000), st.integers(2000, 500_000)),
    channels=st.none() | st.integers(1, 3),
    rate=st.one_of(st.sampled_from([8000, 11025, 32000, 44100, 48000, 192000]), st.integers(1, 400_000)),
    level=st.sampled_from([0.0, 1e-30, 1e-4, 0.2]),
    offset=st.sampled_from([0.0, -1.0, 0.5]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 9),
)
def test_any_audio_gives_probabilities(
    tagger: Tagger,
    samples: int,
    channels: int | None,
    rate: int,
    level: float,
    offset: float,
    dtype: type,
    seed: int,
) -> None:
    shape = samples if channels is None else (samples, channels)
    signal = (level * np.random.default_rng(seed).standard_normal(shape) + offset).astype(dtype)
    result = tagger.tag(signal, sample_rate=rate)
    assert result.probs.shape == (len(tagger.labels),)
    assert result.embedding.shape == tagger.bundle.manifest.outputs[1].shape[1:]
    for values in (result.probs, result.embedding):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert (result.probs >= 0).all()
    assert (result.probs <= 1).all()
    assert (result.embedding >= 0).all()
    assert result.seconds == samples / rate
    assert result.used_seconds == min(10.0, result.seconds)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.sampled_from(
        [np.zeros(10, np.int32), np.zeros((1, 2, 3)), np.array([np.inf]), "x", 1.0, None, [[]], {}]
    ),
    rate=st.sampled_from([RATE, 0, None, 1.5, "x"]),
    top=st.sampled_from([1, 0, None, "x"]),
    threshold=st.sampled_from([0.0, 2.0, None, "x"]),
)
def test_nonsense_is_one_typed_error(
    tagger: Tagger, samples: object, rate: object, top: object, threshold: object
) -> None:
    with pytest.raises(PannsLitertError):
        tagger.tag(samples, sample_rate=rate, top=top, threshold=threshold)  # type: ignore[arg-type]


# --- a process of its own ---------------------------------------------------------------------------------


def test_tagging_loads_nothing_heavy_and_prints_nothing(demo: Bundle) -> None:
    """From the import to a result, no heavy package is loaded, and LiteRT's own notes reach neither stream."""
    code = """
import sys
from panns_litert import Tagger
result = Tagger(sys.argv[1]).tag(sys.argv[2])
heavy = {"torch", "librosa", "litert_torch", "tensorflow", "panns_litert_convert"} & set(sys.modules)
print(result.tags[0].label, sorted(heavy))
"""
    result = run_python(code, demo.path, CLIPS[0])
    assert result.stdout == f"{Tagger(demo).tag(CLIPS[0]).tags[0].label} []\n"
    assert result.stderr == ""


def test_closing_frees_the_model() -> None:
    with Tagger(threads=1) as tagger:
        engine = weakref.ref(tagger._engine._interpreter)  # type: ignore[attr-defined]
        assert engine() is not None
        tagger.tag(np.zeros(100), sample_rate=32000)
    gc.collect()
    assert engine() is None
    with pytest.raises(BundleError, match="this tagger was closed"):
        tagger.tag(np.zeros(100), sample_rate=32000)
    tagger.close()  # a second call is no error
