"""tag --out: rows that an interrupted run continues, and what is refused so that no row is lost, mixed or stale."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import disk_full, rehash, run_command

from panns_litert.atomic import writing
from panns_litert.bundle import Bundle
from panns_litert.cli.jsonlines import JsonLines, file_state
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.errors import ResultsError


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder with three recordings: a.wav, b.wav and c.wav."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name, clip in zip("abc", demo_clips(), strict=False):
        shutil.copyfile(clip, folder / f"{name}.wav")
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(path: Path) -> list[str]:
    return [Path(row["source"]).name for row in rows(path)]


def tag(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Runs `tag` and returns the last line on stderr."""
    return run_command(capsys, "tag", *arguments, code=code)[1].splitlines()[-1]


def test_a_run_is_continued_and_says_what_it_did(
    capsys: pytest.CaptureFixture[str], sounds: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    last = tag(capsys, sounds / "a.wav", sounds / "b.wav", "--out", out)
    assert last == f"note: {out}: tagged 2 recordings, skipped 0 (already there), 0 failed"
    out.write_bytes(out.read_bytes()[:-20])  # killed in the middle of a line
    (sounds / "d.wav").write_bytes(b"no audio")
    assert "3 tagged" not in (last := tag(capsys, sounds, "--out", out, code=2))
    assert last.endswith("tagged 2 recordings, skipped 1 (already there), 1 failed")
    assert names(out) == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert all(("error" in row) == row["source"].endswith("d.wav") and row["file"]["path"] for row in rows(out))
    printed, _ = run_command(capsys, "tag", sounds, "--out", out, "--json", code=2)
    assert json.loads(printed) == {"out": str(out), "tagged": 0, "skipped": 3, "failed": 1}
    assert names(out) == ["a.wav", "b.wav", "c.wav", "d.wav"]  # the failed one was tried again, and has one row


def test_a_changed_recording_starts_anew(
    capsys: pytest.CaptureFixture[str], sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.jsonl"
    tag(capsys, sounds, "--out", out)
    before = rows(out)
    shutil.copyfile(sounds / "c.wav", sounds / "a.wav")  # another size
    os.utime(sounds / "b.wav", ns=(1, 1))
    (sounds / "c.wav").write_bytes(b"no audio")
    assert "tagged 2 recordings, skipped 0" in tag(capsys, sounds, "--out", out, code=2)
    after = {Path(row["source"]).name: row for row in rows(out)}
    assert len(after) == len(rows(out)) == 3
    assert after["a.wav"]["tags"] == before[2]["tags"]
    assert after["b.wav"]["tags"] == before[1]["tags"]
    assert "error" in after["c.wav"]
    monkeypatch.chdir(sounds)  # another name of the same file
    assert "tagged 0 recordings, skipped 1" in tag(capsys, "a.wav", "--out", out)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy2(sounds / "a.wav", other / "a.wav")
    monkeypatch.chdir(other)  # the same name of another file
    assert "tagged 1 recording, skipped 0" in tag(capsys, "a.wav", "--out", out)
    assert names(out).count("a.wav") == 2


def test_standard_input_is_never_done(sounds: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        line = [sys.executable, "-m", "panns_litert.cli", "tag", "-", "--rate", "8000", "--out", "rows.jsonl"]
        subprocess.run(line, input=bytes(16000 * number), cwd=tmp_path, check=True, capture_output=True)
    assert [row["seconds"] for row in rows(tmp_path / "rows.jsonl")] == [1.0, 2.0]


def test_other_settings_are_refused_by_name(capsys: pytest.CaptureFixture[str], sounds: Path, tmp_path: Path) -> None:
    groups, temperature = tmp_path / "groups.json", tmp_path / "temperature.json"
    groups.write_text(json.dumps({"alarms": ["Siren"]}))
    temperature.write_text(json.dumps({"Siren": 1.5}))
    out, given = tmp_path / "rows.jsonl", [sounds, "--groups", groups, "--temperature", temperature]
    tag(capsys, *given, "--out", out)
    whole = out.read_bytes()
    for option, change in (
        (["--top", "3"], "top was 5, now 3"),
        (["--threshold", "0.5"], "threshold was 0.0, now 0.5"),
        (["--hop", "5"], "hop was 10.0, now 5.0"),
        (["--aggregate", "max"], "aggregate was 'mean', now 'max'"),
        (["--roll-up"], "roll_up was False, now True"),
        (["--silence", "-60"], "silence_dbfs was None, now -60.0"),
        (["--allow", "Siren"], "allow was None, now ['Siren']"),
        (["--embedding"], "embedding was False, now True"),
        (["--temperature", "2"], "temperature was {'Siren': 1.5}, now 2.0"),
    ):
        assert change in tag(capsys, *given, "--out", out, *option, code=2), option
    groups.write_text(json.dumps({"alarms": ["Siren", "Foghorn"]}))  # the same name, other contents
    message = tag(capsys, *given, "--out", out, code=2)
    assert "groups was {'alarms': ['Siren']}, now {'alarms': ['Siren', 'Foghorn']}" in message
    assert message.endswith("give another --out")
    assert out.read_bytes() == whole


def test_another_model_of_the_same_name_is_refused(
    capsys: pytest.CaptureFixture[str], sounds: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(demo_bundle(), bundle)
    out = tmp_path / "rows.jsonl"
    tag(capsys, sounds, "--bundle", bundle, "--out", out)
    shutil.copytree(bundle, tmp_path / "copy")
    assert "skipped 3" in tag(capsys, sounds, "--bundle", tmp_path / "copy", "--out", out)
    labels = bundle / Bundle(bundle).manifest.file("labels")
    labels.write_text(labels.read_text(encoding="utf-8").replace("Siren", "Alarm"), encoding="utf-8")
    rehash(bundle, labels.name)
    assert "labels_sha256 was" in tag(capsys, sounds, "--bundle", bundle, "--out", out, code=2)


ROW = {"source": "a.wav", "file": {"path": "/a.wav", "bytes": 1, "modified_ns": 2}}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda good: good + b'{"sou', None),
        (lambda good: good + b"\0" * 4096, None),
        (lambda good: good + good[:30] + b"\0" * 100, None),
        (lambda good: good[:-1], None),
        (lambda good: b"", None),
        (lambda good: good + b"hello\n" + good, "line 2: not JSON"),
        (lambda good: good + b"\0" * 100 + b"\n" + good, "line 2: not JSON"),
        (lambda good: good + b"\n" + good, "line 2: not JSON"),
        (lambda good: good + b"[1]\n", "line 2: not a result"),
        (lambda good: good + b'{"source": 1}\n', "line 2: not a result"),
        (lambda good: good + b'{"source": "a"}\n', "line 2: not a result"),
        (lambda good: good + b'{"source": NaN}\n', "line 2: NaN"),
        (lambda good: good + b"\xff\n", "line 2: not UTF-8"),
        (lambda good: good + b"[" * 100000 + b"\n", "line 2: nested"),
        (lambda good: good + b'{"source": "a", "source": "b"}\n', "line 2: 'source' twice"),
    ],
)
def test_damaged_rows(damage: Callable[[bytes], bytes], message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path, {"model": "demo"}) as lines:
        lines.write(ROW)
    good = path.read_bytes()
    path.write_bytes(broken := damage(good))
    if message is None:
        with JsonLines(path, {"model": "demo"}) as lines:
            lines.write({"source": "b.wav"})
        assert names(path) == (["a.wav", "b.wav"] if broken else ["b.wav"])
    else:
        with pytest.raises(ResultsError, match=message) as raised:
            JsonLines(path, {"model": "demo"})
        assert "give another --out" in str(raised.value)
        assert path.read_bytes() == broken
        with writing(path):  # not locked any more
            pass


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.write_text('{"settings": {"top": 5}}\n{"source": "a"}\n'), "of an earlier version"),
        (lambda path: path.write_text("my notes, without a line break"), "has no rows.jsonl.settings.json"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.parent.rmdir(), "No such file"),
    ],
)
def test_files_that_are_no_results_stay_as_they_are(
    prepare: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "rows.jsonl"
    path.parent.mkdir()
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ResultsError, match=message):
        JsonLines(path, {"model": "demo"})
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("settings", ["", "[1]", "{", '{"model": "other"}'])
def test_settings_that_are_damaged_or_gone(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path, {"model": "demo"}) as lines:
        lines.write(ROW)
    beside = tmp_path / "rows.jsonl.settings.json"
    beside.write_text(settings)
    with pytest.raises(ResultsError, match="settings"):
        JsonLines(path, {"model": "demo"})
    beside.unlink()
    with pytest.raises(ResultsError, match=r"has no rows.jsonl.settings.json"):
        JsonLines(path, {"model": "demo"})
    assert names(path) == ["a.wav"]


def test_a_second_writer_is_refused_and_loses_nothing(sounds: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "panns_litert.cli", "tag", str(sounds), "--out", "rows.jsonl"]
    runs = [subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(run.communicate()[1].splitlines()[-1], run.returncode) for run in runs]
    assert sorted(names(tmp_path / "rows.jsonl")) == ["a.wav", "b.wav", "c.wav"]
    for message, code in ends:  # a run that came later than the end of another finds everything done
        assert code == 0 or (code == 2 and "another run is writing it" in message)
    with JsonLines(tmp_path / "other.jsonl", {}), pytest.raises(ResultsError, match="another run is writing it"):
        JsonLines(tmp_path / "other.jsonl", {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_keeps_its_rows(number: signal.Signals, sounds: Path, tmp_path: Path) -> None:
    for copy in range(40):
        shutil.copyfile(sounds / "a.wav", sounds / f"a{copy}.wav")
    line = [sys.executable, "-m", "panns_litert.cli", "tag", str(sounds), "--out", "rows.jsonl"]
    run = subprocess.Popen(
        line,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's jobs may ignore it
    )
    out = tmp_path / "rows.jsonl"
    while not (out.exists() and out.stat().st_size):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.01)
    run.send_signal(number)
    stderr = run.communicate()[1]
    if number is not signal.SIGKILL:
        assert run.returncode == 130
        assert re.search(r"tagged \d+ recordings?, skipped 0 \(already there\), 0 failed", stderr)
    again = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert " skipped 0 " not in again.stderr
    assert sorted(names(out)) == sorted(path.name for path in sounds.iterdir())


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    for name in "abc":
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with JsonLines(path, {"model": "demo"}) as lines:
        lines.write({"source": "a"})
        with monkeypatch.context() as patch, pytest.raises(ResultsError, match="results so far are whole"):
            patch.setattr("os.fsync", disk_full)
            lines.write({"source": "b"})
        lines.write({"source": "c", "file": file_state("c")})
    assert names(path) == ["a", "c"]
    with JsonLines(path, {"model": "demo"}) as lines:
        assert "a" in lines
        assert "b" not in lines
        assert "c" in lines
