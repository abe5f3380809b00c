"""tag, events, listen and labels: recordings of any length, many files, pipes, and interrupted runs."""

from __future__ import annotations

import contextlib
import io
import json
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support import run_command

from panns_litert import Tagger
from panns_litert.audio import AudioWarning, find_microphone
from panns_litert.errors import AudioError
from panns_litert.events import EventSettings
from panns_litert.windows import find_events, tag_long, windows


def from_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_the_whole_recording_is_tagged(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    out, _ = run_command(capsys, "tag", recording, "--json", "--aggregate", "max", "--windows", "--hop", "5")
    (result,) = json.loads(out)["results"]
    want = tag_long(Tagger(), recording, hop=5.0, aggregate="max", top=5)
    assert result["seconds"] == pytest.approx(21.5)
    assert result["windows"] == len(result["heard"]) == 4
    assert [tag["label"] for tag in result["tags"]] == [tag.label for tag in want.tags]
    assert result["heard"][-1]["end"] == pytest.approx(21.5)
    out, _ = run_command(capsys, "tag", recording, "--windows")
    assert "0:10.00 –   0:20.00" in out
    assert "(21.5 s; 3 windows;" in out


def test_windows_that_cannot_be_used_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sound = np.full(25 * 8000, 0.1)
    sound[12 * 8000] = np.nan
    soundfile.write(tmp_path / "nan.wav", sound, 8000, subtype="FLOAT")
    reason = "NaN, Inf or samples far beyond full scale at 12.000 s"
    out, _ = run_command(capsys, "tag", tmp_path / "nan.wav", "--windows")
    assert f"0:10.00 –   0:20.00  {reason}" in out
    out, _ = run_command(capsys, "tag", tmp_path / "nan.wav", "--windows", "--json")
    (result,) = json.loads(out)["results"]
    assert (result["windows"], result["windows_skipped"], result["seconds"]) == (2, 1, 25.0)
    assert [(row["start"], row["unusable"], bool(row["tags"])) for row in result["heard"]] == [
        (0.0, None, True), (10.0, reason, False), (15.0, None, True),
    ]  # fmt: skip


def test_a_folder_and_a_bad_file(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    (tmp_path / "notes.txt").write_text("no audio either")
    soundfile.write(tmp_path / "sub" / "tone.flac", np.zeros(8000), 16000)
    out, err = run_command(capsys, "tag", tmp_path, recording, "--json", code=2)
    results = json.loads(out)["results"]
    assert [Path(r["source"]).name for r in results] == ["bad.wav", "tone.flac", "all.wav"]
    assert ["error" in r for r in results] == [True, False, False]
    assert len([line for line in err.splitlines() if "bad.wav" in line]) == 1
    (tmp_path / "empty").mkdir()
    _, err = run_command(capsys, "tag", tmp_path / "empty", code=2)
    assert "no audio file in this folder" in err


@pytest.mark.parametrize(("form", "dtype"), [("s16le", "<i2"), ("s32le", "<i4"), ("f32le", "<f4")])
def test_raw_samples_from_a_pipe(
    form: str,
    dtype: str,
    capsys: pytest.CaptureFixture[str],
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sound, rate = soundfile.read(recording, dtype="float64")
    scale = 1.0 if form == "f32le" else float(np.iinfo(dtype).max)
    stereo = (np.stack([sound, sound], axis=1) * scale).astype(dtype)
    from_stdin(monkeypatch, stereo.tobytes() + b"\x00")  # and a part of a sample
    out, _ = run_command(capsys, "tag", "-", "--rate", rate, "--channels", 2, "--format", form, "--json")
    (result,) = json.loads(out)["results"]
    same = tmp_path / "same.wav"  # the same samples in a file
    soundfile.write(same, stereo, rate, subtype={"s16le": "PCM_16", "s32le": "PCM_32", "f32le": "FLOAT"}[form])
    want = tag_long(Tagger(), same, top=5)
    assert result["seconds"] == pytest.approx(want.seconds)
    assert [tag["label"] for tag in result["tags"]] == [tag.label for tag in want.tags]
    assert [tag["score"] for tag in result["tags"]] == pytest.approx([tag.score for tag in want.tags], abs=1e-4)


def test_events(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    out, _ = run_command(capsys, "events", recording, "--json", "--on", "0.6", "--off", "0.3", "--hop", "2")
    (result,) = json.loads(out)["results"]
    want = sorted(
        find_events(Tagger(), recording, hop=2.0, settings=EventSettings(on=0.6, off=0.3)),
        key=lambda e: (e.start, e.index),
    )
    assert [(e["label"], e["start"], e["end"]) for e in result["events"]] == [
        (e.label, pytest.approx(e.start), pytest.approx(e.end)) for e in want
    ]
    track = tmp_path / "labels.txt"
    run_command(capsys, "events", recording, "--as", "audacity", "--out", track)
    assert all(len(line.split("\t")) == 3 for line in track.read_text(encoding="utf-8").splitlines())
    out, _ = run_command(capsys, "events", recording, "--as", "csv")
    assert out.startswith("source,start,end,label,index,score\n")
    out, _ = run_command(capsys, "events", recording)
    assert "Siren" in out
    out, _ = run_command(capsys, "events", recording, "--on", "1.0", "--off", "1.0")
    assert "nothing above the thresholds" in out


def test_thresholds_from_a_file(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    thresholds = json.dumps({"on": 0.99, "off": 0.9, "classes": {"Siren": {"on": 0.4, "off": 0.2}}})
    path.write_text(f"\ufeff{thresholds}")  # with a byte order mark, as some editors write
    out, _ = run_command(capsys, "events", recording, "--settings", path, "--json")
    assert "Siren" in {e["label"] for e in json.loads(out)["results"][0]["events"]}
    path.write_text(json.dumps({"on": 0.5, "off": 0.4, "classes": {"Sirene": {"on": 0.4}}}))
    _, err = run_command(capsys, "events", recording, "--settings", path, code=2)
    assert "did you mean 'Siren'" in err


def test_sense_options(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    out, _ = run_command(capsys, "tag", recording, "--allow", "Siren", "--json", "--threshold", "0.001")
    assert {t["label"] for t in json.loads(out)["results"][0]["tags"]} == {"Siren"}
    groups = tmp_path / "groups.json"
    groups.write_text(f"\ufeff{json.dumps({'alarms': ['Siren', 'Foghorn'], 'phones': ['Dial tone']})}")
    out, _ = run_command(capsys, "tag", recording, "--groups", groups, "--json")
    assert {t["label"] for t in json.loads(out)["results"][0]["tags"]} == {"alarms", "phones"}
    out, _ = run_command(capsys, "tag", recording, "--silence", "10", "--json")
    assert {t["score"] for t in json.loads(out)["results"][0]["tags"]} == {0.0}
    temperature = tmp_path / "temperature.json"
    temperature.write_text(f"\ufeff{json.dumps({'Siren': 2.0})}")  # with a byte order mark, as some editors write
    run_command(capsys, "tag", recording, "--temperature", temperature)
    run_command(capsys, "tag", recording, "--temperature", 1.5, "--roll-up")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "x.wav", "--hop", "0"], "hop = 0.0; expected seconds"),
        (["tag", "x.wav", "--hop", "11"], "at most a window of 10"),
        (["tag", "-", "x.wav", "--rate", "8000"], "standard input (-) together with other recordings"),
        (["tag", "x.wav", "--deny", "Sirne"], "did you mean 'Siren'"),
        (["tag", "x.wav", "--groups", "nowhere.json"], "nowhere.json"),
        (["tag", "x.wav", "--silence", "nan"], "expected a level in dB"),
        (["tag", "x.wav", "--temperature", "-1"], "expected a number > 0"),
        (["tag", "x.wav", "--out", "/"], "expected a file that can be written"),
        (["tag", "x.wav", "--top", "0"], "top = 0; expected a whole number ≥ 1"),
        (["tag", "-", "--rate", "8000", "--html", "x.html"], "expected recordings in files"),
        (["events", "x.wav", "--on", "0.3", "--off", "0.5"], "expected"),
        (["events", "x.wav", "--on", "1.5"], "expected"),
        (["events", "x.wav", "y.wav", "--as", "audacity"], "expected --out FOLDER"),
        (["events", "x.wav", "--out", "/"], "not a regular file"),
        (["events", "x.wav", "--out", "/dev/null"], "not a regular file"),
        (["events", "x.wav", "--out", "/dev/stdout"], "not a regular file"),
        (["events", "x.wav", "--out", "nowhere/x.csv"], "nowhere/x.csv: No such file or directory"),
        (["events", "x.wav", "--hop", "11"], "at most a window of 10"),
        (["listen", "file.wav"], "file.wav: no such file"),
        (["listen", "-", "-", "--rate", "8000"], "standard input (-) twice; expected it once"),
        (["listen", "x.wav", "--mqtt", "home:secret@broker"], "--mqtt with a user; expected HOST[:PORT]"),
        (["listen", "x.wav", "--mqtt", "broker", "--mqtt-node", "a/b"], "node 'a/b'; expected letters"),
        (["listen", "x.wav", "--mqtt", "broker:port"], "--mqtt broker:port; expected HOST or HOST:PORT"),
        (["listen", "x.wav", "--mqtt", "broker", "--mqtt-class", "Sirne"], "did you mean 'Siren'"),
        (["listen", "x.wav", "--mqtt", "broker", "--mqtt-password-file", "x"], "without --mqtt-user"),
        (["listen", "x.wav", "--webhook", "ftp://server/"], "not a valid address"),
        (["listen", "x.wav", "--webhook-headers", "x"], "without --webhook"),
        (["listen", "x.wav", "--mqtt-user", "x"], "--mqtt-user without --mqtt; expected both"),
        (["listen", "x.wav", "--mqtt-tls"], "--mqtt-tls without --mqtt; expected both"),
        (["listen", "x.wav", "--mqtt-class", "Siren"], "--mqtt-class without --mqtt; expected both"),
        (["serve", "x.wav", "--mqtt-node", "x"], "--mqtt-node without --mqtt; expected both"),
        (["listen", "x.wav", "--clips-days", "1"], "--clips-days without --save-clips; expected both"),
        (["listen", "x.wav", "--clips-mb", "0"], "--clips-mb without --save-clips; expected both"),
        (["listen", "x.wav", "--webhook", "http://server/", "--webhook-headers", "nowhere.txt"], "nowhere.txt"),
        (["listen", "x.wav", "--csv", ""], "--csv without a name; expected a folder"),
        (["listen", "x.wav", "--save-clips", ""], "--save-clips without a name; expected a folder"),
        (["listen", "x.wav", "--csv", "/dev/null/x"], "expected a folder that can be written"),
        (["listen", "x.wav", "--cooldown", "-1"], "cooldown = -1.0; expected a number ≥ 0"),
        (["listen", "-", "--rate", "8000", "--seconds", "0"], "expected a number > 0"),
        (["listen", "-", "--rate", "8000", "--seconds", "nan"], "expected a number > 0"),
        (["listen", "-", "--rate", "8000", "--seconds", "inf"], "at most 1e+09"),
        (["listen", "-", "--rate", "8000", "--seconds", "1e308"], "at most 1e+09"),
        (["listen", "-", "--rate", "8000", "--threshold", "nan"], "threshold = nan"),
        (["listen", "-", "--rate", "8000", "--top", "0"], "top = 0"),
        (["listen", "-", "--rate", "8000", "--hop", "1e308"], "at most a window of 10"),
        *(
            (
                [command, "-", "--rate", rate],
                f"--rate {rate}; expected the sample rate of the raw samples, 1000 … 768000",
            )
            for command in ("tag", "events", "listen")
            for rate in ("0", "1", "10", "-8000", "768001", "999999999999")
        ),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run_command(capsys, *arguments, code=2)
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert message in lines[-1]
    assert len(lines) == 1


def test_listening_to_a_pipe(
    capsys: pytest.CaptureFixture[str], recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    floats, rate = soundfile.read(recording)
    sound = (32767 * floats).astype("<i2")
    from_stdin(monkeypatch, sound.tobytes())
    out, _ = run_command(capsys, "listen", "-", "--rate", rate, "--hop", 2, "--json", "--seconds", 14)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["start"], row["end"]) for row in rows] == [(0, 10), (2, 12), (4, 14)]
    from_stdin(monkeypatch, sound.tobytes())
    out, _ = run_command(capsys, "listen", "-", "--rate", rate, "--events")
    assert "Siren" in out


def test_sources_of_one_name_get_numbers(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    out, err = run_command(capsys, "listen", "--events", "--json", *[recording] * 3)
    assert {json.loads(line)["source"] for line in out.splitlines()} == {
        str(recording), f"{recording} (2)", f"{recording} (3)"
    }  # fmt: skip
    assert f"note: {recording} (2): 21.5 s heard" in err


def test_listening_to_files(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    """Several sources in one process: their starts and ends, with the time of the clock, here and in a CSV file."""
    other = tmp_path / "other.wav"
    other.write_bytes(recording.read_bytes())
    out, err = run_command(
        capsys, "listen", recording, other, "--events", "--json", "--hop", 2, "--csv", tmp_path / "csv"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    for source in (recording, other):
        found = sorted(
            (r["label"], r["start"], r["end"]) for r in rows if (r["kind"], r["source"]) == ("end", str(source))
        )
        want = sorted((e.label, e.start, e.end) for e in find_events(Tagger(), recording, hop=2.0))
        assert found == [(label, pytest.approx(start), pytest.approx(end)) for label, start, end in want]
        assert f"note: {source}: 21.5 s heard, 7 windows, {len(want)} events" in err
    assert len({row["id"] for row in rows}) == 2 * len(want)
    assert sum(len(file.read_text().splitlines()) - 1 for file in (tmp_path / "csv").iterdir()) == 2 * len(want)
    out, _ = run_command(capsys, "listen", recording, other, "--hop", 10)
    assert sorted(line.rpartition("  ")[2] for line in out.splitlines()) == sorted([str(recording), str(other)] * 3)
    start = time.monotonic()
    out, _ = run_command(capsys, "listen", other, "--realtime", "--seconds", 1.5, "--events")
    assert time.monotonic() - start > 1.4


def listening(*arguments: object) -> subprocess.Popen[bytes]:
    """Starts `listen` in a process of its own, on a pipe."""
    command = [sys.executable, "-m", "panns_litert.cli", "listen", "-", "--rate", "32000", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_open_events(number: int, demo_sound: NDArray[np.float32], tmp_path: Path) -> None:
    """The pipe stays open. Each event that has started gets its end, the sinks are closed, the summary is printed."""
    process = listening("--events", "--json", "--hop", "2", "--format", "f32le", "--csv", tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(demo_sound.astype("<f4").tobytes())
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(12)]  # with the window that ends at 20 s
    process.send_signal(number)
    began = time.monotonic()
    with process.stdout, process.stderr, process.stdin:
        out, err = process.stdout.read(), process.stderr.read()
    assert process.wait(60) == 130
    assert time.monotonic() - began < 20
    rows = [json.loads(line) for line in b"".join([*lines, out]).splitlines()]
    started, ended = ([row["id"] for row in rows if row["kind"] == kind] for kind in ("start", "end"))
    assert sorted(started) == sorted(ended)
    assert len(started) > 5
    assert [row["kind"] for row in rows[-2:]] == ["end", "end"]
    summary = f"note: standard input: 2[01]\\.\\d s heard, [67] windows, {len(started)} events"
    assert re.search(summary, err.decode())
    assert sum(len(file.read_text().splitlines()) - 1 for file in tmp_path.glob("*.csv")) == len(ended)


@pytest.mark.parametrize("form", [["--events"], ["--events", "--json"], [], ["--json"]])
def test_listening_ends_with_the_reader_of_its_output(form: list[str], demo_sound: NDArray[np.float32]) -> None:
    process = listening(*form, "--hop", "2", "--format", "f32le")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(demo_sound[: 14 * 32000].astype("<f4").tobytes())
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(demo_sound.astype("<f4").tobytes())
        process.stdin.flush()  # and stays open
    assert process.wait(60) == 0
    assert b"Traceback" not in process.stderr.read()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stderr.close()


def test_an_interrupt_ends_although_nobody_reads(demo_sound: NDArray[np.float32]) -> None:
    """The output is full, as behind a pager that waits for a key."""
    fcntl: Any = pytest.importorskip("fcntl")
    process = listening("--json", "--hop", "0.05", "--top", "18", "--threshold", "0", "--format", "f32le")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    process.stdin.write(demo_sound[: 14 * 32000].astype("<f4").tobytes())  # 80 windows of more than 300 bytes
    process.stdin.flush()
    with process.stdout, process.stderr, process.stdin:
        assert select.select([process.stdout], [], [], 60)[0]
        time.sleep(2.0)  # the buffer of Python is full, too
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        assert b"panns-litert: interrupted" in process.stderr.read()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_listening_to_a_wav_from_a_pipe(
    capsys: pytest.CaptureFixture[str], recording: Path, monkeypatch: pytest.MonkeyPatch, subtype: str
) -> None:
    """The header tells rate and format; the sizes in it are those of a program that cannot seek back."""
    floats, rate = soundfile.read(recording)
    file = io.BytesIO()
    soundfile.write(file, np.stack([floats, floats], 1), rate, format="WAV", subtype=subtype)
    data = bytearray(file.getvalue())
    for at in (4, data.index(b"data") + 4):
        data[at : at + 4] = b"\xff" * 4
    from_stdin(monkeypatch, bytes(data))
    out, _ = run_command(capsys, "listen", "-", "--hop", 5, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[-1]["end"] == pytest.approx(21.5, abs=0.02)
    want = {tag.label: tag.score for tag in tag_long(Tagger(), recording, hop=5.0, aggregate="max", top=3).tags}
    heard: dict[str, float] = {}
    for tag in (tag for row in rows for tag in row["tags"]):
        heard[tag["label"]] = max(heard.get(tag["label"], 0.0), tag["score"])
    bound = 0.05 if subtype == "ULAW" else 0.01
    assert {label: heard.get(label) for label in want} == pytest.approx(want, abs=bound)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "ends in the header of a WAV file"),
        (b"fLaC" + bytes(40), "begins like no WAV file"),
        (bytes(40), "give --rate HZ"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(40), "without PCM or float samples"),
    ],
)
def test_a_pipe_that_cannot_be_listened_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    from_stdin(monkeypatch, data)
    _, err = run_command(capsys, "listen", "-", code=2)
    assert message in err.splitlines()[-1]


def test_one_channel_is_chosen(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    """In channels of opposite sign, the mean is silence. Each command says so, and hears what --channel names."""
    floats, rate = soundfile.read(recording)
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([floats, -floats], 1), rate)
    for arguments in (["tag", stereo], ["events", stereo], ["page", stereo, "--out", tmp_path / "page.html"]):
        silence, err = run_command(capsys, *arguments, "--json")
        assert "channels cancel each other" in err
        sound, err = run_command(capsys, *arguments, "--json", "--channel", "2")
        assert "cancel" not in err
        assert silence != sound
        for text, heard in ((silence, False), (sound, True)):
            (result,) = json.loads(text)["results"]
            tags = result["tags"][:3] if "tags" in result else result["events"]
            names = [tag["label"] for tag in tags]
            assert ("Foghorn" in names or "Church bell" in names) == heard
    _, err = run_command(capsys, "tag", stereo, "--channel", "3", code=2)
    assert "channel = 3; expected 1 … 2" in err


def test_windows_and_events_warn_of_what_was_not_heard(tagger: Tagger, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.flac", np.random.default_rng(1).uniform(-0.1, 0.1, 64000), 16000)
    path = tmp_path / "cut.flac"
    path.write_bytes((tmp_path / "whole.flac").read_bytes()[:-20000])
    for heard in (windows, find_events):
        with pytest.warns(AudioWarning, match=r"cut\.flac: .* of 4\.00 s could be decoded"):
            list(heard(tagger, path))
    result = tag_long(tagger, path)  # has a field for it
    assert result.seconds == 4.0
    assert 2.0 < result.seconds_heard < 3.9
    assert result.warnings


def test_no_microphone_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without sounddevice, PortAudio or a microphone. Skips on a machine that has all three."""
    try:
        find_microphone()
        pytest.skip("there is a microphone here")
    except (ImportError, AudioError):
        pass
    _, err = run_command(capsys, "listen", "--seconds", "1", code=2)
    assert "microphone" in err


def test_tags_as_a_page(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    out, _ = run_command(
        capsys, "tag", recording, tmp_path / "none.wav", "--html", tmp_path / "page.html", "--json", code=2
    )
    assert json.loads(out)["page"] == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Siren" in page
    assert "<audio" in page
    _, err = run_command(capsys, "tag", recording, "--html", tmp_path / "page.txt", code=2)
    assert ".html" in err


def test_labels(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run_command(capsys, "labels")
    assert len(out.splitlines()) == 527
    out, _ = run_command(capsys, "labels", "bark", "--tree")
    assert out.splitlines()[:4] == ["Animal", "  Domestic animals, pets", "    Dog", "      Bark"]
    out, _ = run_command(capsys, "labels", "SIREN", "--json")
    assert {"index": 396, "label": "Siren"} in json.loads(out)["labels"]
    out, _ = run_command(capsys, "labels", "no such sound")
    assert "no class contains" in out
