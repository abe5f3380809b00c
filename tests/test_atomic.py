"""writing: one process or thread at a time has an output; the next one waits or is refused in one line."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from panns_litert.atomic import remove_unfinished, replacing, writing
from panns_litert.errors import EmbeddingError, ResultsError

_HOLD = """
import sys, time
from panns_litert.atomic import remove_unfinished, replacing, writing
with writing(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Starts a process that holds the lock, and returns when it has it."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_another_process_is_refused_by_every_name_and_free_after_a_kill(tmp_path: Path) -> None:
    path, link = tmp_path / "out.json", tmp_path / "link.json"
    path.write_text("old")
    link.symlink_to(path)
    process = holder(path)
    try:
        for name in (path, link, tmp_path / "." / "out.json"):
            with (
                pytest.raises(EmbeddingError, match=r"out.json: another run is writing it"),
                writing(name, error=EmbeddingError),
            ):
                pass
        with writing(tmp_path / "other.json"):
            pass
        threading.Timer(0.3, process.kill).start()
        with writing(path, wait=20.0):  # the lock of a killed process is free
            pass
    finally:
        process.kill()
        process.communicate()
    assert path.read_text() == "old"


def test_threads_wait_and_a_failed_block_frees_the_lock(tmp_path: Path) -> None:
    path, inside = tmp_path / "count", []

    def count() -> None:
        with writing(path, wait=20.0):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.02)
            inside.pop()
            path.write_text(str(int(path.read_text()) + 1 if path.exists() else 1))

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "6"
    with pytest.raises(KeyError), writing(path):
        raise KeyError
    with writing(path):
        pass


def test_an_output_that_another_writer_makes_now_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for a device, which has no lock, if it came into being between two looks at it."""
    path, looks, real = tmp_path / "new", [], Path.stat

    def made_meanwhile(self: Path, **options: Any) -> Any:
        try:
            return real(self, **options)
        finally:
            if self == path:
                looks.append(1)
            if len(looks) == 2:  # the first look is that of `resolve`
                path.write_text("another's")

    monkeypatch.setattr(Path, "stat", made_meanwhile)
    with writing(path):
        assert looks
        with pytest.raises(ResultsError, match="another run"), writing(path):
            pass


def test_what_cannot_be_locked_is_one_line_and_a_device_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for bad in (tmp_path / "nowhere" / "x", tmp_path / "loop", tmp_path / "a\0b"):
        with pytest.raises(ResultsError, match="cannot be locked") as raised, writing(bad):
            pass
        assert "\n" not in str(raised.value)
    with writing("/dev/null"), writing("/dev/null"):
        pass


_KILLED = """
import os, signal, sys
from panns_litert.atomic import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ["state", "state.json", "a" * 255]
    for name in names:
        assert subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / name)], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 3
    with replacing(tmp_path / "state.json") as file:  # that of a running writer of another file
        remove_unfinished(tmp_path / "state")
        file.write(b"whole")
    assert not [
        path for path in tmp_path.iterdir() if path.name.startswith(".unfinished.state.") and "json" not in path.name
    ]
    for name in names:
        remove_unfinished(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
