"""Long recordings and streams: every frame once, no sample lost, the same results for any chunks."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import fake_windows, pieces, run_python
from vectors.make_windows import VECTORS, vectors

from panns_litert import Tagger
from panns_litert.demo import demo_clips
from panns_litert.engine import Outputs
from panns_litert.errors import AudioError, GpuError, WindowError
from panns_litert.events import EventDetector, EventSettings, WindowSteps
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert.windows import (
    Aggregate,
    EventStream,
    LiveEvents,
    StreamTagger,
    Window,
    find_events,
    tag_long,
    windows,
)

CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]


# ---- windows


def test_one_window_is_one_clip(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    """A recording of at most one clip gives the result of `Tagger.tag`."""
    for samples in (320000, 319999, 100000, 1, 600):
        (window,) = windows(tagger, demo_sound[:samples], sample_rate=32000)
        clip = tagger.tag(demo_sound[:samples], sample_rate=32000)
        assert np.abs(window.probs - clip.probs).max() <= 1e-5
        assert np.abs(window.embedding - clip.embedding).max() <= 1e-4
        assert (window.index, window.start, window.end) == (0, 0.0, samples / 32000)


class Recorder(Tagger):
    """A tagger that records the inputs of its graph."""

    given: list[NDArray[np.float32]]

    def run(self, values: NDArray[np.float32]) -> Outputs:
        self.given = [*getattr(self, "given", []), values.copy()]
        return super().run(values)


class Failing(Tagger):
    """A tagger whose engine fails in some of its runs."""

    runs, fails = 0, frozenset[int]()

    def run(self, values: NDArray[np.float32]) -> Outputs:
        self.runs += 1
        if self.runs - 1 in self.fails:
            raise GpuError("the driver is gone")
        return super().run(values)


class Silent(Tagger):
    """A tagger that does not run the model."""

    def run(self, values: NDArray[np.float32]) -> Outputs:
        return {o.name: np.zeros(o.shape, np.float32) for o in self.bundle.manifest.outputs}


@pytest.fixture(scope="module")
def silent() -> Tagger:
    return Silent(threads=1)


def test_windows_are_the_recording_s_own_frames(demo_sound: NDArray[np.float32]) -> None:
    """A window is a part of the whole recording's log-mel. Away from its edges it is also that of its own samples."""
    recorder = Recorder(threads=1)
    heard = list(windows(recorder, demo_sound, sample_rate=32000, hop=4.0))
    whole = LogMel(PANNS_32K)(np.concatenate((demo_sound, np.zeros(320000, np.float32))))
    for window, values in zip(heard, recorder.given, strict=True):
        first = round(window.start * 100)
        inside = values[0, 0, 2:-2]
        assert np.abs(inside - whole[first + 2 : first + 999]).max() <= 1e-5
        clip = np.zeros(320000, np.float32)
        samples = demo_sound[round(window.start * 32000) :][:320000]
        clip[: len(samples)] = samples
        assert np.abs(inside - LogMel(PANNS_32K)(clip)[2:-2]).max() <= 1e-5


def test_the_vectors_are_up_to_date() -> None:
    assert VECTORS.read_text(encoding="utf-8") == vectors()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['samples']} samples, hop {case['hop']}")
def test_windows_of_recordings_of_many_lengths(silent: Tagger, case: dict[str, Any]) -> None:
    stream = StreamTagger(silent, hop=case["hop"] / 32000)
    heard = list(stream.of([np.zeros(case["samples"], np.float32)]))
    found = [{"start": w.start, "end": w.end, "padding": w.padding_seconds} for w in heard]
    assert [{name: round(value * 32000) for name, value in window.items()} for window in found] == case["windows"]
    assert [w.index for w in heard] == list(range(len(heard)))
    assert stream.seconds == case["samples"] / 32000
    # Steps of events cover each moment up to the end of the last window once.
    steps = WindowSteps(window=10.0, hop=stream.hop)
    assert steps.count(stream.seconds) == len(heard)
    covered = [step for w in heard for step in steps.push([0.0])] + list(steps.finish(heard[-1].end))
    assert (covered[0].start, covered[-1].end, len(covered)) == (0.0, heard[-1].end, len(heard))
    assert all(a.end == b.start < b.end for a, b in itertools.pairwise(covered))


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, 10**7), max_size=10), hop=st.sampled_from([2.0, 5.0, 10.0]))
def test_chunks_do_not_matter(tagger: Tagger, demo_sound: NDArray[np.float32], cuts: list[int], hop: float) -> None:
    sound = demo_sound[:600001]
    want = list(windows(tagger, sound, sample_rate=32000, hop=hop))
    stream = StreamTagger(tagger, hop=hop)
    got = [*(window for part in pieces(sound, cuts) for window in stream.push(part)), *stream.finish()]
    assert [(w.start, w.end) for w in got] == [(w.start, w.end) for w in want]
    assert max(float(np.abs(a.probs - b.probs).max()) for a, b in zip(got, want, strict=True)) <= 1e-5


@pytest.mark.parametrize("block", [1, 320, 1000])
def test_a_window_comes_with_its_last_sample(silent: Tagger, block: int) -> None:
    """A window comes half a frame after its last sample: the centred frames at its end need that much."""
    stream, last = StreamTagger(silent, hop=1.0), [320000 + 512, 352000 + 512]
    assert not stream.push(np.zeros(319000, np.float32))
    pushed = range(319000 + block, 353000 + block, block)
    come = [total for total in pushed for _ in stream.push(np.zeros(block, np.float32))]
    assert come == [next(total for total in pushed if total >= needed) for needed in last]


def test_another_rate_and_channels(tagger: Tagger, tmp_path: Path, demo_sound: NDArray[np.float32]) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([demo_sound, demo_sound], axis=1), 32000, subtype="FLOAT")
    for a, b in zip(windows(tagger, path), windows(tagger, demo_sound, sample_rate=32000), strict=True):
        assert np.abs(a.probs - b.probs).max() <= 1e-5


@pytest.mark.parametrize("hop", [0.0, -1.0, 10.5, float("nan"), "1", True])
def test_hops_out_of_range(tagger: Tagger, hop: float) -> None:
    with pytest.raises(WindowError, match="expected seconds, more than 0 and at most a window of 10"):
        StreamTagger(tagger, hop=hop)


def test_no_samples(tagger: Tagger) -> None:
    assert StreamTagger(tagger).finish() == []
    with pytest.raises(AudioError, match="no samples"):
        tag_long(tagger, np.zeros(0, np.float32), sample_rate=32000)
    with pytest.raises(AudioError, match="sample_rate"):
        tag_long(tagger, np.zeros(10, np.float32))


# ---- samples that cannot be used, and errors of the model


def noise(seconds: float, *, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(32000 * seconds))).astype(np.float32)


def same(a: Window, b: Window) -> bool:
    return (a.index, a.start, a.end) == (b.index, b.start, b.end) and bool(np.abs(a.probs - b.probs).max() <= 1e-5)


@pytest.mark.parametrize(("bad", "count"), [(np.nan, 1), (np.nan, 40000), (-np.inf, 40000), (1e30, 40000), (-3.0, 1)])
def test_bad_samples_cost_the_windows_that_hold_them(tagger: Tagger, bad: float, count: int) -> None:
    """The windows are marked, the model is not run for them, and all others are as without the bad samples."""
    sound = noise(30)
    broken = sound.copy()
    broken[640_000 : 640_000 + count] = bad  # from 20 s on
    sound[640_000 : 640_000 + count] = 0.0
    runs = Failing(threads=1)
    stream = StreamTagger(runs, hop=5.0)
    heard = [w for part in np.split(broken, 40) for w in stream.push(part)] + stream.finish()
    want = list(windows(tagger, sound, sample_rate=32000, hop=5.0))
    last = 20.0 + (count - 1) / 32000
    for a, b in zip(heard, want, strict=True):
        if a.start <= last and a.end > 20.0:
            assert (a.index, a.start, a.end, a.level_dbfs) == (b.index, b.start, b.end, -np.inf)
            assert a.unusable == "NaN, Inf or samples far beyond full scale at 20.000 s"
            assert not a.probs.any()
            assert not a.embedding.any()
        else:
            assert a.unusable is None
            assert same(a, b)
    assert [w.start for w in heard if w.unusable] == [15.0, 20.0]
    assert runs.runs == len(heard) - 2


def test_bad_windows_are_left_out_of_the_result(tagger: Tagger) -> None:
    sound = noise(30)
    sound[500_000] = np.nan  # in the second of three windows
    first, _, third = windows(tagger, iter([sound]), sample_rate=32000)
    for aggregate in ("mean", "max"):
        found = tag_long(tagger, iter([sound]), sample_rate=32000, aggregate=aggregate)
        pair = np.stack([first.probs, third.probs])
        assert np.abs(found.probs - (pair.mean(axis=0) if aggregate == "mean" else pair.max(axis=0))).max() <= 1e-6
        assert np.abs(found.embedding - (first.embedding + third.embedding) / 2).max() <= 1e-5
        assert (found.windows, found.windows_skipped, found.seconds) == (2, 1, 30.0)
        assert found.to_dict()["windows_skipped"] == 1
    with pytest.raises(AudioError, match=r"samples: NaN, Inf or .* at 0\.000 s; expected at least one window"):
        tag_long(tagger, iter([np.full(8 * 32000, np.nan, np.float32)] * 3), sample_rate=32000)


def test_events_end_where_samples_cannot_be_used(tagger: Tagger) -> None:
    """With thresholds of 0, a class has one event where there are scores, and none where there are no scores."""
    sound = noise(40)
    sound[640_000] = np.nan
    always = EventSettings(on=0.0, off=0.0)
    found = list(find_events(tagger, iter([sound]), sample_rate=32000, hop=1.0, settings=always))
    # Windows that begin from 11 s to 20 s hold the sample. A window stands for the hop around its centre.
    assert {(e.start, e.end) for e in found} == {(0.0, 15.5), (25.5, 40.0)}


@pytest.mark.parametrize("hop", [250, 1000])
def test_frame_wise_events_end_where_samples_cannot_be_used(tagger: Tagger, hop: int) -> None:
    scores = np.full((3500, len(tagger.labels)), 0.9)
    stream = EventStream(StreamTagger(tagger, hop=hop / 100))
    heard = fake_windows(scores, hop=hop, length=1000)
    marked = [replace(w, unusable="NaN", probs=0 * w.probs) if w.start <= 17.0 < w.end else w for w in heard]
    found = [event for window in marked for event in stream.push(window)] + list(stream.finish())
    first, second = sorted({(event.start, event.end) for event in found})
    left = [w for w in marked if w.unusable is None]
    assert first[0] == 0.0
    assert second == (min(w.start for w in left if w.start > 17.0), 35.0)
    assert first[1] == {250: 11.25, 1000: 10.0}[hop]  # the end of the middle part of the last window before


@pytest.mark.parametrize("chunk", [1600, 32000, 320_000, 10**6])
def test_a_stream_goes_on_after_an_error_of_the_model(tagger: Tagger, chunk: int) -> None:
    """An error costs the window, and the ones that the same chunk completes. All others come once, in time."""
    sound, failing = noise(24), Failing(threads=1)
    failing.fails = frozenset({3, 5})
    stream, heard, errors = StreamTagger(failing, hop=1.0), [], 0
    want = list(windows(tagger, sound, sample_rate=32000, hop=1.0))
    held = []
    for start in range(0, len(sound), chunk):
        try:
            heard += stream.push(sound[start : start + chunk])
        except GpuError:
            errors += 1
        held.append(len(stream._wave))
    for _ in range(3):
        try:
            heard += stream.finish()
            break
        except GpuError:
            errors += 1
    indices = [window.index for window in heard]
    assert errors in (1, 2)
    assert indices == sorted(set(indices))
    lost = {320_000: [0, 1, 2, 10, 14], 10**6: [0, 1, 2, 14]}
    assert indices == lost.get(chunk, [i for i in range(15) if i not in (3, 5)])
    assert all(same(window, want[window.index]) for window in heard)
    assert max(held) <= 13 * 32000
    failing.fails = frozenset()
    again = [*stream.push(sound), *stream.finish()]
    assert all(same(a, b) for a, b in zip(again, want, strict=True))


def test_an_engine_that_always_fails_does_not_fill_the_memory() -> None:
    failing = Failing(threads=1)
    failing.fails = frozenset(range(1000))
    stream = StreamTagger(failing, hop=1.0)
    size = stream._wave._data.nbytes + stream._frames._data.nbytes
    for _ in range(30):
        with contextlib.suppress(GpuError):
            stream.push(np.zeros(32000 * 7, np.float32))
    assert stream.seconds == 210.0
    assert stream._wave._data.nbytes + stream._frames._data.nbytes == size
    assert stream._done == []


def test_events_are_in_time_after_an_error_of_the_model() -> None:
    failing = Failing(threads=1)
    failing.fails = frozenset({2})
    stream, found, sound = StreamTagger(failing, hop=1.0), [], noise(16)
    events = EventStream(stream, settings=EventSettings(on=0.0, off=0.0))
    for start in range(0, len(sound), 16000):
        with contextlib.suppress(GpuError):
            found += [event for window in stream.push(sound[start : start + 16000]) for event in events.push(window)]
    found += [event for window in stream.finish() for event in events.push(window)] + list(events.finish())
    assert {(event.start, event.end) for event in found} == {(0.0, 6.5), (7.5, 16.0)}


def test_a_stream_that_is_given_up_does_not_reach_into_the_next(tagger: Tagger) -> None:
    stream, sound = StreamTagger(tagger, hop=5.0, sample_rate=44100), noise(20)
    next(stream.of([sound]))
    want = list(StreamTagger(tagger, hop=5.0, sample_rate=44100).of([sound]))
    assert all(same(a, b) for a, b in zip(stream.of([sound]), want, strict=True))


@pytest.mark.parametrize("sample_rate", [None, 16000])
def test_several_threads_may_push(tagger: Tagger, sample_rate: int | None) -> None:
    """Every window comes once, in its place, whichever thread gets it. The chunks are equal, so their order is, too."""
    stream, chunk = StreamTagger(tagger, hop=1.0, sample_rate=sample_rate), noise(0.25)
    want = list(StreamTagger(tagger, hop=1.0, sample_rate=sample_rate).of([chunk] * 160))
    heard: list[Window] = []
    threads = [threading.Thread(target=lambda: [heard.extend(stream.push(chunk)) for _ in range(40)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = sorted([*heard, *stream.finish()], key=lambda window: window.index)
    assert len(heard) > 20
    assert all(same(a, b) for a, b in zip(heard, want, strict=True))


# ---- aggregates


def test_mean_and_max(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    heard = list(windows(tagger, demo_sound, sample_rate=32000))
    weights = np.diff([0.0, *(w.end for w in heard)])  # the last window is shifted back and overlaps the one before it
    assert [w.start for w in heard] == [0.0, 10.0, 11.5]
    assert weights.tolist() == pytest.approx([10.0, 10.0, 1.5])
    probs = np.stack([w.probs for w in heard]).astype(np.float64)
    mean = tag_long(tagger, demo_sound, sample_rate=32000)
    assert np.abs(mean.probs - weights @ probs / weights.sum()).max() <= 1e-6
    most = tag_long(tagger, demo_sound, sample_rate=32000, aggregate="max")
    assert np.abs(most.probs - probs.max(axis=0)).max() <= 1e-6
    assert mean.windows == most.windows == len(heard)
    assert mean.seconds == pytest.approx(len(demo_sound) / 32000)
    with pytest.raises(WindowError, match="expected one of mean, max"):
        Aggregate(tagger, aggregate="median")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow(tmp_path: Path) -> None:
    """A quarter of an hour of 48 kHz stereo takes less than 50 MB more than its first window."""
    path = tmp_path / "long.flac"
    noise = 0.1 * np.random.default_rng(3).standard_normal((48000, 2))
    with soundfile.SoundFile(path, "w", 48000, 2) as file:
        for _ in range(900):  # a quarter of an hour: 345 MB as float32
            file.write(noise)
    # VmHWM, because ru_maxrss starts at that of the parent process.
    script = (
        "import re, sys; from panns_litert import Tagger, tag_long, windows\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "tagger = Tagger(threads=1); next(windows(tagger, sys.argv[1])); before = peak()\n"
        "found = tag_long(tagger, sys.argv[1])\n"
        "print(found.windows, peak() - before)"
    )
    count, kilobytes = map(int, run_python(script, path).stdout.split())
    print(f"{count} windows, {kilobytes / 1000:.1f} MB more than after the first")
    assert count == 90
    assert kilobytes < 50_000


# ---- events


def test_events_of_the_demo_recordings(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    found = list(find_events(tagger, demo_sound, sample_rate=32000, settings=EventSettings(on=0.5, off=0.3)))
    assert found
    assert all(0.0 <= e.start < e.end <= len(demo_sound) / 32000 + 1e-9 for e in found)
    labels = {event.label for event in found}
    best = {tagger.tag(path, top=1).tags[0].label for path in demo_clips()}
    assert labels & best


def test_live_events_end_where_sound_is_missing(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    """Sounds, then a gap of 30 s: what was told has ended before sound comes again, at the start of the gap."""
    sound = np.concatenate([demo_sound, np.full(32000 * 30, np.nan, np.float32), demo_sound])
    rule = EventSettings(on=0.5, off=0.3, max_gap=2.0)
    stream = StreamTagger(tagger, hop=1.0)
    live, told = LiveEvents(stream, settings=rule), []
    gap = len(demo_sound) / 32000
    for window in stream.of([sound]):
        told += live.push(window)
        if gap + 10 < window.end < gap + 29:
            starts, ends = ({c.number for c in told if c.phase == phase} for phase in ("start", "end"))
            assert starts == ends
            assert starts
    assert max(c.end for c in told if c.start < gap) <= gap
    told += live.finish()
    ends = {(c.label, c.start, c.end, c.score) for c in told if c.phase == "end"}
    events = find_events(tagger, sound, sample_rate=32000, hop=1.0, settings=rule)
    assert ends == {(e.label, e.start, e.end, e.score) for e in events}


@settings(max_examples=25)
@given(
    frames=st.integers(1, 3000),
    hop=st.sampled_from([250, 500, 999, 1000]),
    seed=st.integers(0, 50),
)
def test_frame_wise_events_do_not_depend_on_windows(tagger: Tagger, frames: int, hop: int, seed: int) -> None:
    """Overlapping windows with the same scores give the events of one long window."""
    rng = np.random.default_rng(seed)
    scores = np.zeros((frames, len(tagger.labels)))
    scores[:, :3] = np.repeat(rng.random((frames // 40 + 1, 3)), 40, axis=0)[:frames].astype(np.float32)
    stream = EventStream(StreamTagger(tagger, hop=hop / 100), settings=EventSettings(on=0.6, off=0.4))
    heard = fake_windows(scores, hop=hop, length=1000)
    got = [*(event for window in heard for event in stream.push(window)), *stream.finish()]
    detector = EventDetector(tagger.labels, EventSettings(on=0.6, off=0.4))
    want = [e for i, row in enumerate(scores) for e in detector.push(row, i / 100, (i + 1) / 100)]
    want += detector.finish()
    got, want = (
        [(e.index, round(e.start, 6), round(e.end, 6), round(e.score, 6)) for e in events] for events in (got, want)
    )
    assert got == want


def test_results_are_json(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    data = json.loads(json.dumps(tag_long(tagger, demo_sound, sample_rate=32000, top=2).to_dict(embedding=True)))
    assert len(data["tags"]) == 2
    assert data["windows"] == 3
    assert len(data["embedding"]) == tagger.bundle.manifest.outputs[1].shape[1]
