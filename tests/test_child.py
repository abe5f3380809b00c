"""A module in a process of its own: whatever happens to it, nothing of it is left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from panns_litert.child import run_child

_WORKER = """\
import os, pathlib, signal, subprocess, sys, time
other = subprocess.Popen(["sleep", "60"])
pathlib.Path(sys.argv[1], "pid").write_text(str(other.pid))
{end}
"""


@pytest.mark.parametrize(
    ("end", "seconds", "problem"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 60.0, "the process crashed with SIGKILL"),
        ("sys.exit('no memory')", 60.0, "the process failed: no memory"),
        ("time.sleep(60)", 2.0, "no result after 2 s"),
    ],
)
def test_what_it_started_ends_with_it(
    end: str, seconds: float, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_worker.py").write_text(_WORKER.format(end=end), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_child("a_worker", tmp_path, seconds) == problem
    other = Path("/proc") / (tmp_path / "pid").read_text(encoding="utf-8")
    until = time.monotonic() + 10
    while (running := _state(other)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not running


def _state(process: Path) -> str:
    """Returns the state of a process, such as S; empty if it ended, also if its status was not read yet."""
    try:
        state = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if state == "Z" else state
