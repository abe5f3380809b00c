"""Long recordings and streams: every frame once, no sample lost, the same results for any chunks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import fake_windows, pieces, run_python

from panns_litert import Tagger
from panns_litert.demo import demo_clips
from panns_litert.engine import Outputs
from panns_litert.errors import AudioError, WindowError
from panns_litert.events import EventDetector, EventSettings
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert.windows import Aggregate, EventStream, StreamTagger, find_events, tag_long, windows


def test_nan_in_the_middle_of_a_stream(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    stream, clean = StreamTagger(tagger, hop=5.0), StreamTagger(tagger, hop=5.0)
    bad = demo_sound[:4000].copy()
    bad[1000] = np.nan
    heard, want = stream.push(demo_sound[:400000]), clean.push(demo_sound[:400000])
    with pytest.raises(AudioError, match=r"after 12\.500 s: sample 1000 is NaN or Inf"):
        stream.push(bad)
    heard += stream.push(demo_sound[400000:]) + stream.finish()
    want += clean.push(demo_sound[400000:]) + clean.finish()
    assert len(heard) == len(want) > 2
    assert all(np.array_equal(a.probs, b.probs) for a, b in zip(heard, want, strict=True))


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


@pytest.mark.parametrize("hop", [10.0, 5.0, 3.0, 1.0])
@pytest.mark.parametrize("seconds", [0.5, 10.0, 10.001, 10.02, 13.0, 19.99, 20.005])
def test_windows_cover_the_recording(tagger: Tagger, hop: float, seconds: float) -> None:
    samples = round(seconds * 32000)
    heard = list(windows(tagger, np.zeros(samples, np.float32), sample_rate=32000, hop=hop))
    assert [w.start for w in heard] == [pytest.approx(k * hop) for k in range(len(heard))]
    assert heard[-1].end == pytest.approx(samples / 32000)
    assert all(w.end == pytest.approx(w.start + 10.0) for w in heard[:-1])
    assert len(heard) == 1 or heard[-2].end < samples / 32000  # no window after the one that reaches the end


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, 10**7), max_size=10), hop=st.sampled_from([2.0, 5.0, 10.0]))
def test_chunks_do_not_matter(tagger: Tagger, demo_sound: NDArray[np.float32], cuts: list[int], hop: float) -> None:
    sound = demo_sound[:600001]
    want = list(windows(tagger, sound, sample_rate=32000, hop=hop))
    stream = StreamTagger(tagger, hop=hop)
    got = [*(window for part in pieces(sound, cuts) for window in stream.push(part)), *stream.finish()]
    assert [(w.start, w.end) for w in got] == [(w.start, w.end) for w in want]
    assert max(float(np.abs(a.probs - b.probs).max()) for a, b in zip(got, want, strict=True)) <= 1e-5


def test_a_window_comes_with_its_last_sample(tagger: Tagger) -> None:
    """A window comes at most half a frame after its last sample: the centred frames at its end need that much."""
    stream = StreamTagger(tagger, hop=1.0)
    assert not stream.push(np.zeros(320000, np.float32))
    assert len(stream.push(np.zeros(512, np.float32))) == 1
    assert not stream.push(np.zeros(31999, np.float32))
    assert len(stream.push(np.zeros(1, np.float32))) == 1


def test_another_rate_and_channels(tagger: Tagger, tmp_path: Path, demo_sound: NDArray[np.float32]) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([demo_sound, demo_sound], axis=1), 32000, subtype="FLOAT")
    for a, b in zip(windows(tagger, path), windows(tagger, demo_sound, sample_rate=32000), strict=True):
        assert np.abs(a.probs - b.probs).max() <= 1e-5


@pytest.mark.parametrize("hop", [0.0, -1.0, 10.5, float("nan"), "1"])
def test_hops_out_of_range(tagger: Tagger, hop: float) -> None:
    with pytest.raises(WindowError, match="expected seconds, more than 0 and at most a window of 10"):
        StreamTagger(tagger, hop=hop)


def test_no_samples(tagger: Tagger) -> None:
    assert StreamTagger(tagger).finish() == []
    with pytest.raises(AudioError, match="no samples"):
        tag_long(tagger, np.zeros(0, np.float32), sample_rate=32000)
    with pytest.raises(AudioError, match="sample_rate"):
        tag_long(tagger, np.zeros(10, np.float32))


# ---- aggregates


def test_mean_and_max(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    heard = list(windows(tagger, demo_sound, sample_rate=32000))
    weights = np.array([w.end - w.start for w in heard])
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
