"""Saved clips: the right sound under the right name, within the limits, on disks that are full or others' too."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from brokers import until
from disks import small_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from notices import START, event
from numpy.typing import NDArray

from panns_litert import demo_clips, load_audio
from panns_litert.errors import ResultsError, SettingsError
from panns_litert.live import ClipSink

RATE = 16000
STEP = 1 / 32768  # of 16 bits


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    """21.5 s of real sound."""
    return np.concatenate([load_audio(path, sample_rate=RATE).waveform for path in demo_clips()])


def feed(sink: ClipSink, x: NDArray[np.float32], until_second: float, *, from_second: float = 0.0, block: int = 1600,
         source: str = "microphone") -> None:  # fmt: skip
    for at in range(round(from_second * RATE), round(until_second * RATE), block):
        part = x[at : min(at + block, round(until_second * RATE))]
        sink.samples(source, part, at / RATE)


def read(path: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.subtype, file.samplerate, file.channels) == ("FLAC", "PCM_16", RATE, 1)
        return file.read(dtype="float32"), json.loads(file.copy_metadata()["comment"])


def clips(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.flac"))


def test_an_event_is_saved_with_what_was_before_and_after_it(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path / "clips", rate=RATE)
    feed(sink, sound, 12)
    sink.notice(event("start", "n-1_a", "Baby cry, infant cry", start=8, end=12))  # 4 s late
    feed(sink, sound, 14, from_second=12)
    sink.notice(event("update", "n-1_a", "Baby cry, infant cry", start=7.5, end=13, score=0.9))
    sink.notice(event("end", "n-1_a", "Baby cry, infant cry", start=7.5, end=14, score=0.95))
    assert sink.clip_path("n-1_a") is None, "not before the second after its end is heard"
    feed(sink, sound, 15.5, from_second=14)
    until(lambda: sink.clip_path("n-1_a"))
    path = sink.clip_path("n-1_a")
    assert path == tmp_path / "clips" / "2026-11-29_02-31-14_baby-cry-infant-cry_n-1_a.flac"
    sink.close()
    assert sink.problems == ()
    saved, about = read(path)
    np.testing.assert_allclose(saved, sound[round(5.5 * RATE) : 15 * RATE], atol=STEP)
    assert (about["label"], about["score"], about["whole"], about["lost_seconds"]) == (
        "Baby cry, infant cry", 0.95, True, 0.0,
    )  # fmt: skip
    assert about["clip_start"] == 5.5
    assert datetime.fromisoformat(about["clip_time"]).timestamp() == pytest.approx(START + 5.5, abs=1e-3)
    for place in (path, path.parent):
        assert place.stat().st_mode & 0o077 == 0, "nobody else reads what was said"
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name], "nothing else is left"


@settings(max_examples=60)
@given(data=st.data())
def test_every_sample_is_where_it_was_heard(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any blocks with any losses between them: sample n of the stream has the value n / 32768."""
    rate = 100
    folder = tmp_path_factory.mktemp("clips")
    before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    sink = ClipSink(folder, rate=rate, before=before, after=after, most_seconds=20, lag=20)
    blocks = data.draw(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=12))
    position, there = 0, np.zeros(sum(map(sum, blocks)) + 1, bool)
    starts = []
    for gap, length in blocks:
        position += gap
        starts.append((position, length))
        there[position : position + length] = True
        position += length
    start = data.draw(st.integers(0, position - 1)) / rate
    end = start + data.draw(st.integers(1, 2000)) / rate
    begun = ended = full = False
    for at, length in starts:
        sink.samples("m", np.arange(at, at + length, dtype=np.float32) / 32768, at / rate)
        heard = (at + length) / rate
        full |= not ended and heard >= start - before + 20  # an end that is told now comes after the clip was saved
        if not begun and heard >= start:
            sink.notice(event("start", start=start, end=start, source="m"))
            begun = True
        if begun and not ended and heard >= end:
            sink.notice(event("end", start=start, end=end, source="m"))
            ended = True
    sink.close()
    paths = clips(folder)
    if not paths:
        assert "no sound of the event was heard" in sink.problems[0]
        return
    with soundfile.SoundFile(paths[0]) as file:
        saved = np.round(file.read(dtype="float64") * 32768).astype(int)
        about = json.loads(file.copy_metadata()["comment"])
    first = round(about["clip_start"] * rate)
    assert first >= round((start - before) * rate)
    assert not there[max(round((start - before) * rate), 0) : first].any(), "nothing that was heard is missing in front"
    last = min(
        round((end + after) * rate) if ended and not full else position, position, round((start - before + 20) * rate)
    )
    assert first + len(saved) == last
    want = np.where(there[first:last], np.arange(first, last), 0)
    np.testing.assert_array_equal(saved, want)
    assert about["lost_seconds"] == pytest.approx(np.count_nonzero(~there[first:last]) / rate)


def test_lost_sound_is_silence_of_the_same_length(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE)
    broken = sound.copy()
    broken[5 * RATE : 5 * RATE + 800] = np.nan  # what a source that cannot read makes of it
    feed(sink, broken, 6)
    sink.notice(event("start", start=4, end=6))
    feed(sink, broken, 10, from_second=7.5)  # 1.5 s were not heard
    sink.notice(event("end", start=4, end=9))
    sink.close()
    saved, about = read(clips(tmp_path)[0])
    want = np.nan_to_num(broken[2 * RATE : 10 * RATE])
    want[4 * RATE : round(5.5 * RATE)] = 0
    np.testing.assert_allclose(saved, want, atol=STEP)
    assert about["lost_seconds"] == 1.55


def test_an_alarm_that_does_not_stop(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE, most_seconds=6, lag=5)
    long = np.tile(sound, 30)  # more than ten minutes
    most = 0
    for second in range(600):
        feed(sink, long, second + 1, from_second=second)
        if second == 5:
            sink.notice(event("start", "alarm", start=4, end=6))
        most = max(most, sum(len(block) for _, block in sink._tapes["microphone"].blocks))
    until(lambda: sink.clip_path("alarm"))
    sink.notice(event("end", "alarm", start=4, end=600))
    sink.close()
    saved, about = read(clips(tmp_path)[0])
    np.testing.assert_allclose(saved, long[2 * RATE : 8 * RATE], atol=STEP)
    assert not about["whole"]
    assert most <= (2 + 5 + 6) * RATE, "memory does not grow"


def test_the_end_of_the_program_saves_what_was_heard(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE)
    feed(sink, sound, 5)
    for n, kind in enumerate(("start", "end")):
        sink.notice(event(kind, start=1, end=4.5 + n))  # type: ignore[arg-type]
    sink.close()
    saved, about = read(clips(tmp_path)[0])
    np.testing.assert_allclose(saved, sound[: 5 * RATE], atol=STEP)
    assert about["clip_start"] == 0, "there is nothing before the first sample"


def test_sources_are_kept_apart(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE)
    feed(sink, sound, 6, source="door")
    feed(sink, sound[RATE:], 6, source="hall")
    for source in ("door", "hall"):
        sink.notice(event("start", source, start=3, end=4, source=source))
        sink.notice(event("end", source, start=3, end=4, source=source))
    sink.close()
    for source, shift in (("door", 0), ("hall", 1)):
        path = next(tmp_path.glob(f"*_{source}.flac"))
        np.testing.assert_allclose(read(path)[0], sound[(1 + shift) * RATE : (5 + shift) * RATE], atol=STEP)


def save(sink: ClipSink, x: NDArray[np.float32], names: list[str], epoch: float = START) -> None:
    """Saves events of 2 s, which begin 10 s after each other."""
    feed(sink, x, 6)
    for n, name in enumerate(names):
        for kind in ("start", "end"):
            sink.notice(event(kind, name, start=3, end=4, epoch=epoch + 10 * n))  # type: ignore[arg-type]
        until(lambda: sink._outbox.waiting == 0)


def test_the_oldest_clips_are_removed_and_nothing_else(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 6 * RATE).astype(np.float32)  # 2 bytes per sample, also as FLAC
    others = {
        "2026-01-01_00-00-00_dog_old.flac": None,  # looks like a clip, without the mark inside
        "2026-01-01_00-00-00_dog_text.flac": b"not a sound",
        "notes.txt": b"mine",
        "holiday.flac": None,
    }
    for name, data in others.items():
        if data is None:
            soundfile.write(tmp_path / name, sound[:RATE], RATE)
        else:
            (tmp_path / name).write_bytes(data)
    before = {name: (tmp_path / name).read_bytes() for name in others}
    options: dict[str, Any] = {"rate": RATE, "most_seconds": 4, "most_bytes": 300_000}
    sink = ClipSink(tmp_path, **options)
    save(sink, noise, ["a", "b", "c"])
    assert [sink.clip_path(name) is not None for name in "abc"] == [False, True, True]
    sink.close()
    sink = ClipSink(tmp_path, **options)  # the next run
    assert [sink.clip_path(name) is not None for name in "abc"] == [False, True, True]
    save(sink, noise, ["d"], START + 100)
    assert [sink.clip_path(name) is not None for name in "abcd"] == [False, False, True, True]
    sink.close()
    assert sink.problems == ()
    ours = [path for path in clips(tmp_path) if path.name not in others]
    assert sum(path.stat().st_size for path in ours) <= 300_000
    assert {name: (tmp_path / name).read_bytes() for name in others} == before


def test_clips_that_are_too_old_are_removed(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    now = time.time()
    sink = ClipSink(tmp_path, rate=RATE, most_seconds=4)
    save(sink, sound, ["old"], now - 90000)
    save(sink, sound, ["new"], now - 3600)
    sink.close()
    sink = ClipSink(tmp_path, rate=RATE, most_days=1)
    assert (sink.clip_path("old"), len(clips(tmp_path))) == (None, 1)
    assert sink.clip_path("new")
    sink.close()


def test_a_clip_that_somebody_else_removes(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE)
    save(sink, sound, ["a", "b"])
    path = sink.clip_path("a")
    assert path is not None
    path.unlink()
    assert sink.clip_path("a") is None
    assert sink.clip_path("../../etc/passwd") is None
    save(sink, sound, ["c"])
    sink.close()
    assert sink.problems == ()


def test_a_full_disk_loses_a_clip_and_later_ones_are_saved(
    tmp_path: Path, sound: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path, "512k") as disk:
        sink = ClipSink(disk, rate=RATE)
        filler = disk / "filler"
        filler.write_bytes(bytes(500_000))
        save(sink, sound, ["a", "b"])
        assert sink.problems == (f"clips: 2 clips not delivered: {disk}: No space left on device",)
        assert sorted(path.name for path in disk.iterdir()) == [".clips.lock", "filler"], "nothing half is left"
        filler.unlink()
        save(sink, sound, ["c"])
        assert sink.clip_path("c")
        sink.close()
        assert len(read(clips(disk)[0])[0]) == 4 * RATE
    told = [record.getMessage() for record in caplog.records if "No space" in record.getMessage()]
    assert len(told) == 1


def test_a_run_that_is_killed_leaves_no_half_clip(tmp_path: Path) -> None:
    code = """
import sys, numpy as np
sys.path.insert(0, sys.argv[2])
from notices import event
from panns_litert.live import ClipSink
sink = ClipSink(sys.argv[1], rate=32000, lag=60, most_seconds=60)
x = np.random.default_rng(1).uniform(-1, 1, 32000 * 50).astype(np.float32)
sink.samples("m", x, 0)
n = 0
while True:
    for kind in ("start", "end"):
        sink.notice(event(kind, f"e{n}", start=3, end=40, source="m"))
    n += 1
    sink.clip_path("e0") and print("saved", flush=True)
"""
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, Path(__file__).parent],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    sink = ClipSink(tmp_path, rate=32000)
    sink.close()
    assert clips(tmp_path)
    for path in clips(tmp_path):
        with soundfile.SoundFile(path) as file:
            assert file.frames == len(file.read()) == 40 * 32000
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".flac"] == [], "the next run has cleaned up"


def test_one_run_at_a_time_saves_to_a_folder(tmp_path: Path) -> None:
    sink = ClipSink(tmp_path, rate=RATE)
    with pytest.raises(ResultsError, match="another run is writing it"):
        ClipSink(tmp_path, rate=RATE)
    closing = threading.Thread(target=sink.close)  # as the listener does
    closing.start()
    closing.join()
    ClipSink(tmp_path, rate=RATE).close()


def test_an_event_whose_sound_is_gone(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE, lag=2)
    feed(sink, sound, 20)
    for kind in ("start", "end"):
        sink.notice(event(kind, start=3, end=4))  # type: ignore[arg-type]
    sink.close()
    assert sink.problems == (
        "clips: 1 clip not delivered: no sound of the event was heard, or its notice came too late",
    )


def test_an_event_that_is_told_long_after_its_start(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    """As at the end of a cool-down, which it has outlasted: the clip has what is left, and goes on from there."""
    sink = ClipSink(tmp_path, rate=RATE, before=1, most_seconds=6, lag=2)
    long = np.tile(sound, 2)
    feed(sink, long, 20)
    sink.notice(event("start", start=3, end=20))
    sink.notice(event("update", start=3, end=20, score=0.9))
    feed(sink, long, 30, from_second=20)
    sink.close()
    assert sink.problems == ()
    saved, about = read(clips(tmp_path)[0])
    assert about["clip_start"] == pytest.approx(17, abs=0.11)
    first = round(about["clip_start"] * RATE)
    np.testing.assert_allclose(saved, long[first : first + 6 * RATE], atol=STEP)
    assert about["start"] == 3


def test_names_are_safe(tmp_path: Path, sound: NDArray[np.float32]) -> None:
    sink = ClipSink(tmp_path, rate=RATE)
    feed(sink, sound, 6)
    for n, label in enumerate(("../../x", "a/b\0c", "CON", "狗", "x" * 400, "\udce9\n")):
        for kind in ("start", "end"):
            sink.notice(event(kind, f"e{n}", label, start=3, end=4))  # type: ignore[arg-type]
    sink.notice(event("start", "../evil", start=3, end=4))
    sink.notice(event("end", "../evil", start=3, end=4))
    sink.close()
    assert len(clips(tmp_path)) == 6
    assert all(re.fullmatch(r"2026-11-29_02-31-10_[a-z0-9-]{1,48}_e\d\.flac", path.name) for path in clips(tmp_path))
    assert "expected an id" in sink.problems[0]


@pytest.mark.parametrize(
    "options",
    [{"before": -1}, {"before": 60}, {"after": float("nan")}, {"most_seconds": 0}, {"most_bytes": 1000}, {"lag": -1},
     {"most_days": 0}, {"rate": 0}, {"most_bytes": float("nan")}],
)  # fmt: skip
def test_settings_that_cannot_be(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected"):
        ClipSink(tmp_path, **({"rate": RATE} | options))


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="expected a folder"):
        ClipSink(tmp_path / "file", rate=RATE)
