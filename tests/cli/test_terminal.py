"""Commands with stderr on a terminal and stdout in a file: progress bars must not take what belongs on stdout."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording that is long enough for a progress bar: 61 s of noise."""
    path = tmp_path_factory.mktemp("minute") / "minute.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(61 * 8000), 8000)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["tag", "{}", "--windows", "--hop", "10"],
        ["events", "{}", "--on", "0.01"],
        ["page", "{}", "--out", "page.html"],
        ["index", "sounds.index", "{}"],
        ["embed", "{}"],
    ],
    ids=lambda command: command[0],
)
def test_stdout_is_the_same_beside_a_progress_bar(command: list[str], minute: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "panns_litert.cli", *(word.format(minute) for word in command)]
    plain, beside = tmp_path / "plain", tmp_path / "beside"
    plain.mkdir()
    beside.mkdir()
    want = subprocess.run(arguments, cwd=plain, capture_output=True, text=True, check=True).stdout
    terminal, stderr = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 4096):
                shown.append(data)
        except OSError:  # the other end was closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    environment = os.environ | {"TERM": "xterm"}
    got = subprocess.run(arguments, cwd=beside, env=environment, stdout=subprocess.PIPE, stderr=stderr, check=True)
    os.close(stderr)
    reader.join()
    os.close(terminal)
    times = re.compile(r"\d+\.\d ms")
    assert want.strip()
    assert times.sub("", got.stdout.decode()) == times.sub("", want)
    if command[0] in ("tag", "events", "page", "index"):
        assert b"\x1b[" in b"".join(shown), "no progress bar"
