"""Microphones: a virtual one that PortAudio records from for real; failures of hardware at the library's boundary."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from reading import Reading, place_in, require_true_times, wait_for
from soundserver import SoundServer, sound_server
from support import AUDIO, needs_shared, run_command

from panns_litert import Tagger
from panns_litert.audio import find_microphone, load_audio, microphones, same_microphone
from panns_litert.audio import microphone as audio_microphone
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError
from panns_litert.live import Heard, Lost, MicrophoneSource, elapsed_time
from panns_litert.live import microphone as module

RATE = 32000
REAL = AUDIO / "R9_ZSCveAHg_7s.wav"


@pytest.fixture(scope="module")
def running() -> Iterator[SoundServer]:
    with sound_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def server(running: SoundServer, monkeypatch: pytest.MonkeyPatch) -> SoundServer:
    """A sound server with the one microphone `testmic`. A lost one is looked for at least every second."""
    monkeypatch.setattr(module, "_MOST_WAIT", 1.0)
    running.reset()
    return running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    return left_channel(demo_clips()[0], tmp_path_factory.mktemp("clip"))


def left_channel(recording: Path, folder: Path) -> tuple[Path, NDArray[np.float32]]:
    """Returns a stereo file of 44.1 kHz with a recording on the left, and the recording's samples at 32 kHz."""
    sound = load_audio(recording, sample_rate=44100).waveform
    soundfile.write(folder / "left.wav", np.stack([sound, np.zeros_like(sound)], 1), 44100)
    return folder / "left.wav", load_audio(recording, sample_rate=RATE).waveform


@pytest.mark.parametrize("recording", [demo_clips()[0], pytest.param(REAL, marks=needs_shared)], ids=["demo", "real"])
def test_a_recording_is_heard_and_tagged(server: SoundServer, recording: Path, tmp_path: Path) -> None:
    """Two sources on one microphone: the channel that has the sound, and the one that has none."""
    path, sound = left_channel(recording, tmp_path)
    left = MicrophoneSource(RATE, device="testmic", channel=1, name="left")
    with left, MicrophoneSource(RATE, device="testmic", channel=2, name="right") as right:
        assert left.microphone is not None
        assert (left.microphone.name, left.microphone.rate, left.live) == ("testmic", 44100, True)
        with Reading(left) as reading, Reading(right) as silent:
            wait_for(lambda: len(reading.heard()))
            with server.playing(path) as player:
                player.wait(60)
            played = len(reading.heard())
            wait_for(lambda: len(reading.heard()) > played + RATE // 2)
            wait_for(lambda: len(silent.heard()) > played)
    heard = reading.heard()
    place, fit = place_in(heard, sound)
    assert fit > 0.95  # on a busy machine the player may leave out a moment
    assert np.abs(silent.heard()).max() < 1e-4
    assert reading.losses == []
    require_true_times(reading.parts, RATE, within=0.1, after=1.5)
    tagger = Tagger()
    label = tagger.tag(sound, sample_rate=RATE, top=1).tags[0].label
    assert tagger.tag(heard[place : place + len(sound)], sample_rate=RATE, top=1).tags[0].label == label


def test_the_command_listens(
    server: SoundServer, clip: tuple[Path, NDArray[np.float32]], capsys: pytest.CaptureFixture[str]
) -> None:
    """From a sound on the virtual microphone to the line that tells its start and its time."""
    out, _ = run_command(capsys, "listen", "--devices", "--json")
    assert "testmic" in {row["name"] for row in json.loads(out)["devices"]}
    _, err = run_command(capsys, "listen", "--device", "testmik", code=2)
    assert "no microphone is called 'testmik'; did you mean testmic?" in err.splitlines()[-1]
    begin = time.time()
    with server.playing(clip[0]):
        out, _ = run_command(capsys, "listen", "--device", "testmic", "--events", "--json", "--seconds", 11)
    rows = [json.loads(line) for line in out.splitlines()]
    label = Tagger().tag(clip[1], sample_rate=RATE, top=1).tags[0].label
    start, end = (
        next(row for row in rows if (row["kind"], row["label"]) == (kind, label)) for kind in ("start", "end")
    )
    assert start["id"] == end["id"]
    told = datetime.fromisoformat(start["time"]).timestamp()
    assert 0 < told - begin < 11
    assert (told - begin) - start["start"] < 5.0  # of a sound server that begins to play


def test_a_microphone_that_is_unplugged(server: SoundServer, clip: tuple[Path, NDArray[np.float32]]) -> None:
    """It comes back under another number, behind another microphone, which is not taken meanwhile.

    That one comes later: while PulseAudio has another source, it moves a recording there itself.
    """
    path, sound = clip
    with MicrophoneSource(RATE, device="testmic") as source, Reading(source) as reading:
        wait_for(lambda: len(reading.heard()) > RATE // 2)
        server.unplug()
        wait_for(lambda: reading.losses)
        server.offer("first")
        server.plug("first")
        before = len(reading.parts)
        assert reading.losses[0].why == "testmic was unplugged, or taken away by the system; not back yet"
        assert reading.losses[0].seconds >= 1.0
        losses = len(reading.losses)
        wait_for(lambda: len(reading.losses) > losses)  # told again, after twice the time
        assert len(reading.heard(before)) == 0
        server.offer("first", "testmic")
        server.plug()
        wait_for(lambda: len(reading.heard(before)))
        assert reading.losses[-1].why == "testmic was unplugged, or taken away by the system; back now"
        with server.playing(path) as player:
            player.wait(60)
        wait_for(lambda: place_in(reading.heard(before), sound)[1] > 0.95)
        assert source.microphone is not None
        assert source.microphone.number == find_microphone("testmic").number > find_microphone("first").number
    require_true_times(reading.parts, RATE, within=0.1, after=1.5)


def test_the_list_is_read_again_while_one_is_open(server: SoundServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The open one is interrupted: PortAudio reads its list only when no stream is open."""
    monkeypatch.setattr(audio_microphone, "_present", lambda: None)
    monkeypatch.setattr(audio_microphone, "_REREAD_SECONDS", 0.0)
    with MicrophoneSource(RATE, device="testmic") as source, Reading(source) as reading:
        wait_for(lambda: len(reading.heard()))
        server.offer("testmic", "second")
        server.plug("second")
        assert "second" in {one.name for one in microphones()}
        wait_for(lambda: reading.losses)
        before = len(reading.parts)
        wait_for(lambda: len(reading.heard(before)) > RATE)
    for loss in reading.losses:
        assert loss.why.startswith("interrupted to read the list of microphones again")
        assert loss.seconds < 5.0


def test_closing_ends_the_wait_for_a_microphone(server: SoundServer) -> None:
    with MicrophoneSource(RATE, device="testmic") as source, Reading(source) as reading:
        wait_for(lambda: len(reading.heard()))
        server.unplug()
        wait_for(lambda: reading.losses)
    # Reading requires that the end came soon


def test_which_microphone(server: SoundServer) -> None:
    listed = {one.name: one for one in microphones()}
    assert (listed["testmic"].host, listed["testmic"].rate) == ("ALSA", 44100)
    assert listed["testmic"].to_dict()["number"] == listed["testmic"].number
    assert find_microphone("TESTM") == find_microphone(str(listed["testmic"].number)) == listed["testmic"]
    assert find_microphone().default
    for name, message in (
        ("testmik", r"no microphone is called 'testmik'; did you mean testmic\?; expected one of: .*testmic"),
        ("99", "no microphone has the number 99; expected one of: .*testmic"),
        (99, "no microphone has the number 99; expected one of: .*testmic"),
        ("e", "microphones called 'e'; expected one: .*testmic"),
    ):
        with pytest.raises(AudioError, match=message):
            find_microphone(name)
    with pytest.raises(AudioError, match=r"channel = 99; expected 1 … \d+, which testmic has"):
        MicrophoneSource(RATE, device="testmic", channel=99).__enter__()


def test_no_microphone_at_all(server: SoundServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALSA_CONFIG_PATH")
    monkeypatch.setenv("PULSE_SERVER", "unix:/nowhere")
    if list(Path("/dev/snd").glob("pcm*c")):
        pytest.skip("there is a sound card here")
    with pytest.raises(AudioError, match="no microphone: no sound card that records is connected"):
        MicrophoneSource(RATE).__enter__()


def test_a_sound_server_that_does_not_answer(server: SoundServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.unplug()
    with pytest.raises(AudioError, match="microphone testmic: it is not there any more, or its sound server"):
        MicrophoneSource(RATE, device="testmic").__enter__()
    assert capfd.readouterr().err == ""  # what PortAudio and ALSA print stays off it


# ---- what no virtual microphone does: at the boundary of the library


class FakeError(Exception):
    pass


def fake_library(play: Callable[[Callable[..., None]], None], error: Exception | None = None) -> SimpleNamespace:
    """Stands in for sounddevice: one microphone of 16 kHz; `play` calls the callback of its stream, in a thread."""

    class Stream:
        def __init__(self, *, callback: Callable[..., None], **_: object) -> None:
            if error is not None:
                raise error
            self._thread = threading.Thread(target=play, args=(callback,), daemon=True)

        def start(self) -> None:
            self._thread.start()

        @property
        def active(self) -> bool:
            return self._thread.is_alive()

        def close(self) -> None: ...

    device = {"name": "fake", "hostapi": 0, "max_input_channels": 1, "default_samplerate": 16000.0}
    hosts = [{"name": "fake", "default_input_device": 0}]
    return SimpleNamespace(
        RawInputStream=Stream,
        PortAudioError=FakeError,
        default=SimpleNamespace(device=(-1, -1), hostapi=0),
        query_devices=lambda: [device],
        query_hostapis=lambda number=None: hosts if number is None else hosts[number],
        _initialize=lambda: None,
        _terminate=lambda: None,
    )


class Card:
    """Plays a ramp of samples in real time; samples of `gap` seconds are lost in the middle."""

    def __init__(self, *, gap: float, flagged: bool, before: Callable[[], None] = lambda: None) -> None:
        self._gap, self._flagged, self._before = gap, flagged, before

    def __call__(self, callback: Callable[..., None]) -> None:
        begin = elapsed_time()
        for k in range(1, 81):
            if k == 31:
                time.sleep(self._gap)
                begin += self._gap
                self._before()
            time.sleep(max(0.0, begin + k * 0.05 - elapsed_time()))
            samples = np.full(800, 0.1, np.float32)
            callback(samples.tobytes(), 800, None, SimpleNamespace(input_overflow=self._flagged and k == 31))


@pytest.mark.parametrize(
    ("gap", "flagged", "slept", "why"),
    [
        (0.6, True, 0.0, "overflow: this computer was too busy to take the sound in time"),
        (0.0, True, 0.0, "overflow: this computer was too busy to take the sound in time"),
        (1.6, False, 0.0, "sound is missing: it comes later than it should"),
        (1.6, False, 1.6, "the computer slept"),
    ],
)
def test_what_is_lost_is_measured(
    gap: float, flagged: bool, slept: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = [0.0]

    def wake() -> None:
        awake[0] = slept

    monkeypatch.setitem(sys.modules, "sounddevice", fake_library(Card(gap=gap, flagged=flagged, before=wake)))
    monkeypatch.setattr(module, "awake_time", lambda: elapsed_time() - awake[0])
    with MicrophoneSource(16000) as source:
        parts: list[Heard | Lost] = []
        for part in source:
            parts.append(part)
            if sum(len(part.samples) for part in parts if isinstance(part, Heard)) >= 80 * 800:
                break
    (loss,) = (part for part in parts if isinstance(part, Lost))
    assert loss.why == why
    assert loss.seconds == pytest.approx(gap, abs=0.1)
    assert loss.time - parts[0].time == pytest.approx(30 * 0.05, abs=0.1)
    require_true_times(parts, 16000, within=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("Device unavailable", -9985),
            r"fake: it is in use by another program \(Device unavailable\); expected a free",
        ),
        (("Unanticipated host error", -9999, (0, -16, "busy")), r"in use by another program \(.*: busy\)"),
        (("Unanticipated host error", -9999, (0, -13, "Permission denied")), "the system does not allow to record"),
        (("Internal error", -9986), "Internal error; expected one that is connected, allowed and not in use"),
    ],
)
def test_why_a_microphone_cannot_be_opened(
    arguments: tuple[Any, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", fake_library(lambda _: None, FakeError(*arguments)))
    with pytest.raises(AudioError, match=message):
        MicrophoneSource(16000).__enter__()


def test_the_same_microphone_behind_another_number_of_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_library(lambda _: None)
    names = ["USB Audio: - (hw:1,0)", "Webcam: - (hw:2,0)"]
    device = library.query_devices()[0]
    library.query_devices = lambda: [device | {"name": name} for name in names]
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    usb = find_microphone("usb")
    names[:] = ["Webcam: - (hw:1,0)", "USB Audio: - (hw:2,0)"]
    found = same_microphone(usb)
    assert found is not None
    assert (found.number, found.name) == (1, "USB Audio: - (hw:2,0)")
    names.pop()
    assert same_microphone(usb) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": 1.5}, "device = 1.5; expected number, name or part of the name of a microphone"),
        ({"device": True}, "device = True; expected"),
        ({"channel": 0}, "channel = 0; expected 1 for the first channel"),
        ({"rate": 0}, "sample rate 0; expected a whole number of Hz"),
    ],
)
def test_arguments_that_are_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        MicrophoneSource(**{"rate": RATE} | arguments).__enter__()


def test_devices_that_this_user_may_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from panns_litert.audio.microphone import _why_none

    (tmp_path / "pcmC0D0c").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    if sys.platform.startswith("linux"):
        assert "pcmC0D0c may not be read by this user; expected a user of the group audio" in _why_none(tmp_path)
