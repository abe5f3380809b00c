"""events of several recordings: one table, CSV or JSON document, a label track each; failures and interruptions."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import disk_full, run_command

from panns_litert.demo import demo_clips
from panns_litert.events import Event, audacity_labels, events_csv

HEARD = ["one/a.wav", "one/b.wav", "two/a.wav"]


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders one (a.wav, b.wav) and two (a.wav and bad.wav, which is no audio), in the current folder."""
    for name, clip in zip(HEARD, demo_clips(), strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(clip, tmp_path / name)
    (tmp_path / "two" / "bad.wav").write_bytes(b"no audio")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["results"]
    return found


def test_json_is_one_document_with_the_failures(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    printed, err = run_command(capsys, "events", "one", "two", "--json", code=2)
    assert [result["source"] for result in results(printed)] == [*HEARD, "two/bad.wav"]
    assert "error" in results(printed)[-1]
    assert all(result["events"] for result in results(printed)[:-1])
    assert err.splitlines()[-1] == "note: 1 of 4 recordings failed: two/bad.wav"
    for arguments in (["--as", "json"], ["--as", "json", "--out", "events.json"], ["--json", "--out", "events.json"]):
        (sounds / "events.json").unlink(missing_ok=True)
        again, _ = run_command(capsys, "events", "one", "two", *arguments, code=2)
        written = sounds / "events.json"
        assert (
            written.read_text(encoding="utf-8") if arguments[0] == "--as" and len(arguments) > 2 else again
        ) == printed
    assert (sounds / "events.json").read_text(encoding="utf-8") == printed


def test_csv_is_one_table_with_the_source_first(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    printed, _ = run_command(capsys, "events", "one", "two", "--as", "csv", code=2)
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert list(rows[0]) == ["source", "start", "end", "label", "index", "score"]
    assert list(dict.fromkeys(row["source"] for row in rows)) == HEARD
    run_command(capsys, "events", "one", "two", "--as", "csv", "--out", "events.csv", code=2)
    assert (sounds / "events.csv").read_text(encoding="utf-8") == printed
    out, _ = run_command(capsys, "events", "one", "two", "--as", "csv", "--json", "--out", "both.csv", code=2)
    assert (sounds / "both.csv").read_text(encoding="utf-8") == printed
    assert len(results(out)) == 4
    single, _ = run_command(capsys, "events", "one/a.wav", "--as", "csv")
    assert single.splitlines() == [line for line in printed.splitlines() if line.startswith(("source", "one/a.wav"))]


def test_a_table_of_several_names_the_source(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    printed, _ = run_command(capsys, "events", "one", "two", code=2)
    assert printed.split()[:5] == ["source", "start", "end", "label", "score"]
    assert [name for name in HEARD if name in printed] == HEARD
    none, _ = run_command(capsys, "events", "one", "--on", "1", "--off", "1")
    assert none.count("nothing above the thresholds") == 2
    run_command(capsys, "events", "one", "two", "--out", "events.txt", code=2)
    lines = (sounds / "events.txt").read_text(encoding="utf-8").splitlines()
    assert list(dict.fromkeys(line.split()[0] for line in lines)) == HEARD


def test_label_tracks_of_several_recordings(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    shutil.copyfile("one/a.wav", "one/a.b.wav")
    shutil.copyfile("one/a.wav", "one/A.WAVE.wav")
    (sounds / "two" / "deep").mkdir()
    shutil.copyfile("one/b.wav", "two/deep/a.wav")
    run_command(capsys, "events", "one", "two", "--as", "audacity", "--out", "tracks/new", code=2)
    tracks = sorted(str(path.relative_to("tracks/new")) for path in Path("tracks/new").rglob("*.txt"))
    assert tracks == ["A.WAVE.txt", "a.b.txt", "a.txt", "a.wav.txt", "b.txt", "deep/a.txt"]
    for path in Path("tracks/new").rglob("*.txt"):
        assert all(len(line.split("\t")) == 3 for line in path.read_text(encoding="utf-8").splitlines())
    single, _ = run_command(capsys, "events", "one/b.wav", "--as", "audacity")
    assert Path("tracks/new/b.txt").read_text(encoding="utf-8") == single
    run_command(capsys, "events", "one/b.wav", "--as", "audacity", "--out", "tracks")  # into an existing folder
    assert Path("tracks/b.txt").read_text(encoding="utf-8") == single
    _, err = run_command(capsys, "events", "one", "--as", "audacity", "--out", "one/a.wav", code=2)
    assert "expected a folder" in err


def test_a_recording_is_not_overwritten(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    before = Path("one/a.wav").read_bytes()
    _, err = run_command(capsys, "events", "one/a.wav", "--as", "csv", "--out", "one/a.wav", code=2)
    assert "would be overwritten" in err
    assert Path("one/a.wav").read_bytes() == before


def test_search_prints_each_hit_on_one_line(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    Path("one/a.wav").rename("one/a\n  1.000  forged\t.wav")
    run_command(capsys, "index", "idx", "one")
    out, _ = run_command(capsys, "search", "idx", "one/b.wav")
    assert len(out.splitlines()) == 2
    assert "forged\\t.wav" in out


def test_the_old_file_stays_if_nothing_was_heard(capsys: pytest.CaptureFixture[str], sounds: Path) -> None:
    Path("events.csv").write_text("old")
    _, err = run_command(capsys, "events", "two/bad.wav", "nowhere.wav", "--as", "csv", "--out", "events.csv", code=2)
    assert "events.csv: not written, since no recording was heard" in err
    assert Path("events.csv").read_text() == "old"
    assert sorted(path.name for path in sounds.iterdir()) == ["events.csv", "one", "two"]


def test_a_full_disk_at_the_end_loses_nothing(
    capsys: pytest.CaptureFixture[str], sounds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("events.csv").write_text("old")
    monkeypatch.setattr("os.replace", disk_full)
    printed, err = run_command(capsys, "events", "one", "--as", "csv", "--out", "events.csv", code=2)
    assert "No space left on device" in err
    assert "one/b.wav" in printed
    assert Path("events.csv").read_text() == "old"


def test_a_label_track_replaces_only_label_tracks(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes, track = sounds / "one" / "a.txt", sounds / "one" / "b.txt"
    notes.write_text("my notes of this place")
    track.write_text("0.000000\t1.000000\told\n")
    run_command(capsys, "events", "one", "--as", "audacity", "--out", "one")
    assert notes.read_text() == "my notes of this place"
    assert "old" not in track.read_text()
    assert (sounds / "one" / "a.wav.txt").read_text().count("\t") >= 2


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_an_interrupted_run_writes_what_was_computed(form: str, sounds: Path) -> None:
    out, many = sounds / "events", sounds / "many"
    out.write_text("old")
    many.mkdir()
    for number in range(300):
        (many / f"{number:03d}.wav").hardlink_to(sounds / "one" / "a.wav")
    line = [sys.executable, "-m", "panns_litert.cli", "events", "many", "--as", form, "--out", str(out), "--hop", "0.5"]
    for seconds in (2, 4, 8, 16, 32):  # until the machine is fast enough to have heard one
        run = subprocess.Popen(
            line,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's jobs may ignore it
        )
        time.sleep(seconds)
        run.send_signal(signal.SIGINT)
        err = run.communicate()[1].splitlines()
        if len(err) > 1 and "events of" in err[-2]:
            break
        assert run.returncode != 130 or out.read_text() == "old"
    assert err[-1] == "panns-litert: interrupted"
    count = int(err[-2].split()[-2])
    assert 0 < count < 300
    text = out.read_text(encoding="utf-8")
    assert {f"many/{number:03d}.wav" in text for number in range(count)} == {True}
    assert f"many/{count:03d}.wav" not in text
    if form == "json":
        assert json.loads(text)["interrupted"] is True


@pytest.mark.parametrize("label", ["=1+1", "a\tb\nc", "\x1b[31m", '"quoted", and more', "caf\udce9"])
def test_hostile_labels(label: str) -> None:
    event = Event(label=label, index=0, start=0.0, end=1.0, score=0.5)
    text = events_csv([event], source=label)
    ((source, _, _, name, _, _),) = list(csv.reader(io.StringIO(text)))[1:]
    assert source == name
    assert not name.startswith("=")
    for written in (text, audacity_labels([event])):
        written.encode()
        assert "\x1b" not in written
    assert len(audacity_labels([event]).splitlines()) == 1
    assert len(audacity_labels([event]).split("\t")) == 3
