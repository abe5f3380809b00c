"""Ways in and out: pipes, file objects, folders, a fork; and what batch, index and page tell of a damaged recording."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases.made import RATE, SECONDS, encoded, hole, id3v2, mp3, pcm, sound, wav
from cases.table import BOTH, PIPES, Case
from support import run_command, run_python

from panns_litert import Tagger
from panns_litert.audio import AudioBlocks, load_audio
from panns_litert.errors import AudioError

PROGRAM = f"{shlex.quote(sys.executable)} -m panns_litert.cli"


def found(row: dict[str, Any]) -> set[str]:
    return {tag["label"] for tag in row["tags"] if tag["score"] > 0.5}


# ---- pipes


class Pipe(io.RawIOBase):
    """Reads as from a pipe: no position, and a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._data.read(min(len(buffer), 4096))
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("case", [case for case in PIPES if case.made is not None], ids=lambda case: case.name)
def test_standard_input(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.made is not None
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(Pipe(case.made()))))  # type: ignore
    options = [str(word) for option in case.options.items() for word in option]
    out, err = run_command(
        capsys, "tag", "-", "--json", "--aggregate=max", *options, code=0 if case.seconds is not None else 2
    )
    (row,) = json.loads(out)["results"]
    if case.seconds is None:
        assert case.says is not None
        assert case.says in row["error"]
        assert case.says in err
        return
    assert row["seconds_heard"] == pytest.approx(case.seconds, abs=case.within)
    assert row["warnings"] == []
    assert found(row) >= set(BOTH)


def test_a_named_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fifo.wav"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(wav(size=2**32 - 1),), daemon=True)
    writer.start()
    out, _ = run_command(capsys, "tag", path, "--json", "--aggregate=max")
    writer.join()
    (row,) = json.loads(out)["results"]
    assert row["seconds_heard"] == pytest.approx(SECONDS)
    assert found(row) >= set(BOTH)
    writer = threading.Thread(target=path.write_bytes, args=(encoded("FLAC"),), daemon=True)
    writer.start()
    assert load_audio(path, sample_rate=RATE).seconds_heard == pytest.approx(SECONDS)
    writer.join()


def test_dev_stdin(tmp_path: Path) -> None:
    """/dev/stdin of a pipe, and process substitution. One shell, because each process takes a second to start."""
    (tmp_path / "sound.mp3").write_bytes(id3v2() + mp3())
    line = f"cat sound.mp3 | {PROGRAM} tag --json --aggregate=max /dev/stdin <(cat sound.mp3)"
    if not Path("/dev/stdin").exists():
        pytest.skip("no /dev/stdin")
    result = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True, timeout=120)
    rows = json.loads(result.stdout)["results"]
    assert [row["seconds_heard"] for row in rows] == pytest.approx([SECONDS] * 2)
    assert all(found(row) >= set(BOTH) for row in rows)


# ---- in Python


def zipped(data: bytes) -> Any:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound", data)
    return zipfile.ZipFile(buffer).open("sound")


def behind(data: bytes) -> io.BytesIO:
    """Returns an object that stands behind 100 bytes of something else."""
    file = io.BytesIO(bytes(100) + data)
    file.seek(100)
    return file


@pytest.mark.parametrize(
    "data", [wav(), encoded("FLAC"), mp3(), encoded("OGG", "VORBIS")], ids=["wav", "flac", "mp3", "ogg"]
)
@pytest.mark.parametrize(
    "made", [bytes, bytearray, memoryview, io.BytesIO, Pipe, zipped, behind], ids=lambda made: made.__name__
)
def test_file_objects(made: Callable[[bytes], Any], data: bytes, tagger: Tagger, tmp_path: Path) -> None:
    want = load_audio(data, sample_rate=RATE)
    got = load_audio(made(data), sample_rate=RATE)
    np.testing.assert_array_equal(got.waveform, want.waveform)
    assert got.warnings == ()
    path = tmp_path / "sound"
    path.write_bytes(data)
    with path.open("rb") as file:
        tags = tagger.tag(file).tags
        assert not file.closed
    assert [tag.label for tag in tags[:2]] == [tag.label for tag in tagger.tag(made(data)).tags[:2]]
    assert {tag.label for tag in tags[:2]} == set(BOTH)


def test_objects_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(wav())
    with path.open(encoding="latin-1") as text, pytest.raises(AudioError, match="opened as text"):
        load_audio(text, sample_rate=RATE)  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    with pytest.raises(AudioError, match="cannot be read"):
        load_audio(closed, sample_rate=RATE)
    with pytest.raises(AudioError, match="no known audio file"):
        load_audio(Pipe(b"Dear recording," * 9), sample_rate=RATE)  # type: ignore[arg-type]


def test_a_fork_after_use() -> None:
    """A child of a process whose tagger has run hears the same."""
    code = """
import os, signal
from panns_litert import Tagger, demo_clips
tagger = Tagger(threads=2)
want = tagger.tag(demo_clips()[0]).probs
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if (tagger.tag(demo_clips()[0]).probs == want).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(code).stdout == "0\n"


def test_a_short_recording_says_its_padding(tagger: Tagger, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert tagger.tag(wav()).padding_seconds == pytest.approx(4.0)
    path = tmp_path / "short.wav"
    path.write_bytes(wav())
    out, _ = run_command(capsys, "tag", path, "--json")
    assert json.loads(out)["results"][0]["padding_seconds"] == pytest.approx(4.0)


# ---- folders


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hidden files, suffixes, links in a circle, a name that is no UTF-8, a bad file, and files that are not read."""
    whole = {"UPPER.WAV": wav(), "a.WAVE": wav(), "b.bwf": wav(), "c.aifc": encoded("AIFF"), "d.mpga": mp3(),
             "e.sph": encoded("NIST"), "f.snd": encoded("AU"), "g.oga": encoded("OGG", "VORBIS")}  # fmt: skip
    folder = tmp_path / "sounds"
    (folder / ".trash").mkdir(parents=True)
    (folder / "sub").mkdir()
    for name, content in whole.items():
        (folder / name).write_bytes(content)
    latin = os.fsdecode(os.fsencode(folder) + b"/sub/caf\xe9.wav")
    Path(latin).write_bytes(wav())
    (folder / "bad.wav").write_bytes(b"no audio")
    for name in ("._UPPER.WAV", ".hidden.wav", ".trash/old.wav", "notes.txt"):
        (folder / name).write_bytes(wav())
    (folder / "voice.raw").write_bytes(pcm())
    (folder / "again").symlink_to(folder / "sub", target_is_directory=True)
    (folder / "circle").symlink_to(folder, target_is_directory=True)
    out, err = run_command(capsys, "tag", folder, "--json", "--aggregate=max", code=2)
    rows = json.loads(out)["results"]
    heard = [row for row in rows if "error" not in row]
    assert len(heard) == len(whole) + 1
    assert all(row["seconds_heard"] == pytest.approx(SECONDS, abs=0.1) for row in heard)
    assert all(found(row) >= set(BOTH) for row in heard)
    assert [Path(row["source"]).name for row in rows if "error" in row] == ["bad.wav"]
    assert len([row for row in heard if Path(row["source"]).name.startswith("caf")]) == 1
    assert "voice.raw" in err
    out.encode("utf-8")


# ---- the other commands


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "damaged.flac"
    path.write_bytes(hole(encoded("FLAC")))
    return path


SAYS = "damaged at 1.66 s"


def test_a_page_shows_what_is_missing(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run_command(capsys, "page", damaged, "--out", tmp_path / "page.html")
    assert SAYS in err
    assert SAYS in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_events_tell_of_damage(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run_command(capsys, "events", damaged, "--json")
    assert SAYS in err
    assert any(SAYS in warning for warning in json.loads(out)["results"][0]["warnings"])


def test_embeddings_and_an_index_tell_of_damage(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run_command(capsys, "embed", damaged, "--out", tmp_path / "embeddings.npz")
    assert SAYS in err
    _, err = run_command(capsys, "index", tmp_path / "index", damaged)
    assert SAYS in err


def test_blocks_of_every_case_are_small() -> None:
    """A recording is never decoded at once."""
    with AudioBlocks(encoded("FLAC"), sample_rate=RATE) as blocks:
        assert max(map(len, blocks)) <= 1 << 16
    assert len(sound()) > 1 << 16


def test_samples_without_channels_and_a_strided_view() -> None:
    with pytest.raises(AudioError, match="expected"):
        list(AudioBlocks(np.zeros((1000, 0), np.float32), sample_rate=32000, rate=32000))
    doubled = np.repeat(np.frombuffer(wav(), np.uint8), 2).tobytes()
    with AudioBlocks(memoryview(doubled)[::2], sample_rate=32000) as blocks:
        assert sum(map(len, blocks)) == 6 * 32000
