"""Standard streams that are closed, full or broken; names that are no UTF-8; native code that prints."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from panns_litert.demo import demo_clips

CLIP = str(demo_clips()[0])
PROGRAM = f"{shlex.quote(sys.executable)} -m panns_litert.cli"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        capture_output=True,
        env=os.environ | environment,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("tag {clip} >&-", 2, "standard output is closed"),
        ("tag {clip} --json >&-", 2, "standard output is closed"),
        ("tag {clip} >/dev/full", 2, "standard output: No space left on device"),
        ("tag {clip} --out rows.jsonl >&- 2>&- <&-", 0, ""),
        ("tag {clip} 2>&-", 0, ""),
        ("tag {clip} --json 2>&-", 0, ""),
        ("tag {clip} 2>/dev/full", 0, ""),
        ("tag {clip} <&-", 0, ""),
        ("tag nowhere.wav >&- 2>&-", 2, ""),
        ("tag - --rate 8000 <&-", 2, "standard input is closed"),
        ("listen - --rate 8000 <&-", 2, "standard input is closed"),
        ("labels | head -n 1", 0, ""),
        ("--help >&-", 0, ""),
    ],
)
def test_closed_and_full_streams(line: str, code: int, message: str, tmp_path: Path) -> None:
    result = shell(f"{PROGRAM} {line.format(clip=shlex.quote(CLIP))}", tmp_path)
    errors = [text for text in result.stderr.decode().splitlines() if not text.startswith("note: ")]
    assert result.returncode == code, result
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr
    assert len(errors) == (1 if message else 0), errors
    if message:
        assert message in errors[0]
    if "rows.jsonl" in line:
        assert json.loads((tmp_path / "rows.jsonl").read_text())["source"] == CLIP
    if "--json 2>&-" in line:
        assert json.loads(result.stdout)["results"]


def test_messages_that_nobody_reads_do_not_end_the_run(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.wav").write_bytes(b"no audio")
    line = f"{{ {PROGRAM} tag a.wav b.wav c.wav {shlex.quote(CLIP)} --out rows.jsonl 2>&1 >/dev/null; }} | true"
    shell(line, tmp_path)
    rows = [json.loads(row) for row in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert ["error" in row for row in rows] == [True, True, True, False]


def test_what_libsndfile_prints_is_not_in_the_results(tmp_path: Path) -> None:
    path = tmp_path / "damaged.sds"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(2000), 8000, format="SDS", subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[21 + 127 * 3 + 1] = 0x3C  # the start of a block must be F0 7E
    path.write_bytes(data)
    reading = f"import soundfile; soundfile.SoundFile({str(path)!r}).read()"
    printed = subprocess.run([sys.executable, "-c", reading], capture_output=True, check=False).stdout
    assert printed, "libsndfile prints nothing for this file; expected another damage"
    result = shell(f"{PROGRAM} tag damaged.sds {shlex.quote(CLIP)} --json", tmp_path)
    assert json.loads(result.stdout)["results"][1]["tags"]
    assert printed.strip() in result.stderr


HOSTILE = (b"caf\xe9.wav", b"\x1b[31mred.wav", "dir\u202eection\u2028.wav".encode(), b"line\nbreak.wav", b"[bold].wav")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with recordings whose names terminals and files cannot show, and one that is no audio."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in HOSTILE:
        soundfile.write(os.fsencode(folder) + b"/" + name, 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff\x1b.wav")).write_bytes(b"no audio")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "tag sounds",
        "tag sounds --json",
        "tag sounds --json --html out.html && cat out.html >&2",
        "tag sounds --out out && cat out",
        "events sounds --on 0.01",
        "events sounds --json",
        "events sounds --as csv",
        "events sounds --as json",
        "events sounds --as csv --out out && cat out",
        "events sounds --as audacity --out out && cat out/*",
        "page sounds --out out.html && cat out.html",
        "page sounds --out out.html --json",
        "embed sounds/*",
        "index out sounds",
    ],
)
def test_names_that_nothing_can_show(line: str, hostile: Path, tmp_path: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii"} if "--json" in line else {}
    line = line.replace("&&", ";")  # the exit code is 2, for the file that is no audio
    result = shell(f"{PROGRAM} {line}", tmp_path, **environment)
    assert "cat: " not in result.stderr.decode()
    for output in (result.stdout.decode(), result.stderr.decode()):
        assert "Traceback" not in output
        assert not set(output) & set("\x1b\x00\x9b\u202e\u2028\r"), output
    assert r"bad\xff\x1b.wav" in result.stderr.decode()
    if "--json" in line or "--as json" in line:
        names = [Path(found["source"]).name for found in json.loads(result.stdout)["results"]]
        assert sorted(names) == sorted(
            [r"caf\xe9.wav", r"\x1b[31mred.wav", r"dir\u202eection\u2028.wav", r"line\nbreak.wav", "[bold].wav",
             r"bad\xff\x1b.wav"]
        )  # fmt: skip
