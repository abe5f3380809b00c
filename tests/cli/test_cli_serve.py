"""serve: the address it prints, the page behind it, what it refuses, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import run_command

from panns_litert.cli.serve import TOKEN_VARIABLE
from panns_litert.errors import AudioError
from panns_litert.events import EventSettings
from panns_litert.live import FileSource, Heard, Lost

TOKEN = "a-token-of-this-test"


@pytest.fixture
def started(recording: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts serve with more arguments. Returns the process and the address that it prints."""
    running = []

    def start(*arguments: object, **environment: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "panns_litert.cli", "serve", *map(str, arguments), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return process, json.loads(line)["url"]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """Ends the process. Returns its exit code and what it printed on stderr."""
    process.send_signal(by)
    out, err = process.communicate(timeout=60)
    assert out == ""
    return f"{process.returncode} {err}"


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return str(answer.read().decode())


def state(url: str, **headers: str) -> dict[str, Any]:
    """Returns the first message of the page."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}events", headers=headers), timeout=20) as answer:
        lines = iter(lambda: answer.readline().decode(), "\n")
        (data,) = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        return dict(json.loads(data))


def test_a_recording_is_heard_and_the_page_stays(started: Any, recording: Path, tmp_path: Path) -> None:
    process, url = started(recording, "--save-clips", tmp_path / "clips", "--on", "0.5", "--off", "0.25")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    assert "<title>What is heard</title>" in get(url)
    until = time.monotonic() + 60
    while not ((now := state(url))["ended"] and all(event["clip"] for event in now["events"])):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert now["model"] == "demo"
    assert len(now["events"]) >= 3
    assert len(list((tmp_path / "clips").glob("*.flac"))) == len(now["events"])
    (tmp_path / "saved.json").write_text(get(f"{url}thresholds.json"), encoding="utf-8")
    assert EventSettings.load(tmp_path / "saved.json").of(None) == EventSettings(on=0.5, off=0.25).of(None)
    text = ended(process, signal.SIGINT)
    assert text.startswith("0 ")
    assert "the sound has ended; the page stays until Ctrl-C" in text


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_listening_and_the_page(started: Any, recording: Path, by: signal.Signals) -> None:
    process, url = started(recording, "--realtime")
    assert not state(url)["ended"]
    text = ended(process, by)
    assert text.startswith("130 ")
    assert "s heard, 0 windows, 0 events" in text
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_it_ends_after_seconds(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    out, err = run_command(capsys, "serve", recording, "--seconds", 12, "--port", 0)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", out)
    assert "12.0 s heard, 3 windows" in err


def test_it_ends_after_an_error_of_its_source(
    capsys: pytest.CaptureFixture[str], recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service is started again then; a page that stays would hide the error."""
    whole = FileSource.__iter__

    def broken(source: FileSource) -> Iterator[Heard | Lost]:
        yield next(iter(whole(source)))
        raise AudioError("the disk is gone")

    monkeypatch.setattr(FileSource, "__iter__", broken)
    _, err = run_command(capsys, "serve", recording, "--port", 0, code=2)
    assert "ended: the disk is gone" in err


def test_other_hosts_need_a_token_which_is_made_and_printed(started: Any, recording: Path) -> None:
    process, url = started(recording, "--host", "0.0.0.0")
    page, _, token = url.partition("?token=")
    assert page.startswith(f"http://{socket.gethostname()}:")
    assert len(token) >= 32
    local = f"http://127.0.0.1:{page.rpartition(':')[2]}"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(local)
    assert "What is heard" in get(local, Authorization=f"Bearer {token}")
    text = ended(process, signal.SIGINT)
    assert "0.0.0.0: on every network of this computer; who has the token sees the page" in text
    assert "HTTP is not encrypted" in text
    assert token not in text


def test_the_token_may_be_in_the_environment(started: Any, recording: Path) -> None:
    _, url = started(recording, **{TOKEN_VARIABLE: TOKEN})
    assert url.endswith(f"/?token={TOKEN}")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(url.partition("?")[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "127.0.0.1", "--token", "short"], "expected 16 … 200 letters, digits"),
        (["--port", "99999"], "port 99999; expected 1 … 65535"),
        (["--host", ""], "host ''; expected a name or an address of this computer"),
        (["--host", "192.0.2.7"], "192.0.2.7:8765: not an address of this computer"),
        (["--on", "2"], "expected off ≤ on ≤ 1"),
        (["--hop", "11"], "at most a window of 10"),
        (["nowhere.wav"], "nowhere.wav"),
    ],
)
def test_wrong_options_are_one_clear_error(
    capsys: pytest.CaptureFixture[str], recording: Path, arguments: list[str], message: str
) -> None:
    source = [] if "nowhere.wav" in arguments else [recording]
    _, err = run_command(capsys, "serve", *source, *arguments, code=2)
    (line,) = (line for line in err.splitlines() if line.startswith("panns-litert: "))
    assert message in line


def test_a_port_in_use_is_one_clear_error(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        options = ["--port", port, "--save-clips", tmp_path / "clips"]
        _, err = run_command(capsys, "serve", recording, *options, code=2)
    assert f"panns-litert: 127.0.0.1:{port}: already in use; expected a free port" in err
    # What was opened before is closed: another run may save clips there.
    run_command(capsys, "serve", recording, "--port", 0, "--save-clips", tmp_path / "clips", "--seconds", 1)
