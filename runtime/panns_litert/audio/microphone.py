"""Microphones by PortAudio (extra `mic`): which there are, and one opened at its own rate and number of channels."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError, importing
from panns_litert.results import Row
from panns_litert.strict import shown
from panns_litert.words import counted, did_you_mean

BLOCK_SECONDS = 0.05
"""Sound of one callback. It is what the time from sound to result grows by, at most."""

_BUFFER_SECONDS = 0.2  # of PortAudio: so long may this process be busy before sound is lost
# A sound server such as PulseAudio takes as many channels as it is asked for, and says 32 or more. Two hold what the
# microphone behind it has.
_MOST_CHANNELS, _SERVER_CHANNELS = 16, 2
_OTHER_RATES = (48000, 44100, 16000)  # where PortAudio's own default is refused
_FEW_NAMES = 8
_REREAD_SECONDS = 60.0
_LINUX = sys.platform.startswith("linux")

# PortAudio's error codes, and errno within "unanticipated host error"
_BAD_CHANNELS, _BAD_RATE, _HOST_ERROR = -9998, -9997, -9999
_BUSY = (-9985, -16)  # paDeviceUnavailable, EBUSY
_DENIED = (-13, -1)  # EACCES, EPERM
_GONE = (-9996, -2, -5, -6, -19)  # paInvalidDevice, ENOENT, EIO, ENXIO, ENODEV


@dataclass(frozen=True, kw_only=True)
class Microphone(Row):
    """A microphone, or anything else that records.

    Attributes:
        number: of PortAudio; it may change when another device comes or goes.
        name: what the system calls it.
        host: the host API, such as "ALSA" or "Core Audio".
        channels: the most that it has.
        rate: its own sample rate, Hz.
        default: whether it is taken if none is named.
    """

    number: int
    name: str
    host: str
    channels: int
    rate: int
    default: bool


_lock = threading.RLock()  # over PortAudio: its list may only be read again while no stream is open
_open: set[MicrophoneStream] = set()
_cards: str | None = None  # at the last reading of the list
_read_at = -math.inf  # time.monotonic() of it


def _library() -> Any:
    with importing("sounddevice", extra="mic", purpose="the microphone needs", also="the library PortAudio"):
        import sounddevice
    return sounddevice


def _present() -> str | None:
    """Returns a text that changes when a sound card comes or goes, where the system has one."""
    try:
        return Path("/proc/asound/cards").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def microphones() -> list[Microphone]:
    """Returns the microphones that are there now.

    While this process has one open, the list is only read again if a sound card came or went, or once a minute where
    the system does not tell (it is not Linux); then the open ones are interrupted for a moment.

    Raises:
        MissingDependencyError: sounddevice or its library PortAudio is not installed.
    """
    global _cards, _read_at
    library = _library()
    with _lock:
        unknown = _present() is None and time.monotonic() - _read_at > _REREAD_SECONDS
        if not _open or _present() != _cards or unknown:
            for stream in tuple(_open):
                stream.interrupted = True
                stream.close()
            with _quiet():  # PortAudio lists what it saw when it was started
                library._terminate()
                library._initialize()
            _cards, _read_at = _present(), time.monotonic()
        hosts = library.query_hostapis()
        first = library.default.device[0]
        first = first if first >= 0 else library.query_hostapis(library.default.hostapi)["default_input_device"]
        return [
            Microphone(
                number=number,
                name=str(device["name"]),
                host=str(hosts[device["hostapi"]]["name"]),
                channels=int(device["max_input_channels"]),
                rate=round(device["default_samplerate"]),
                default=number == first,
            )
            for number, device in enumerate(library.query_devices())
            if device["max_input_channels"] > 0
        ]


def find_microphone(device: str | int | None = None) -> Microphone:
    """Returns one of `microphones`.

    Args:
        device: its number, its name or a part of it; the system's default if not given.

    Raises:
        MissingDependencyError: sounddevice or its library PortAudio is not installed.
        AudioError: there is none, or no one or several of this name. The message names those that there are.
    """
    if isinstance(device, bool) or not isinstance(device, (str, int, type(None))):
        raise AudioError(f"device = {shown(device)}; expected number, name or part of the name of a microphone")
    found = microphones()
    if not found:
        raise AudioError(_why_none())
    if device is None or device == "":
        return next((one for one in found if one.default), found[0])
    known = "; ".join(f"{one.number} {one.name}" for one in found[:_FEW_NAMES])
    known += f" and {len(found) - _FEW_NAMES} more" if len(found) > _FEW_NAMES else ""
    if isinstance(device, int) or device.isdigit():
        for one in found:
            if one.number == int(device):
                return one
        raise AudioError(f"no microphone has the number {device}; expected one of: {known}")
    name = device.casefold()
    fitting = [one for one in found if one.name.casefold() == name] or [
        one for one in found if name in one.name.casefold()
    ]
    if len(fitting) > 1:  # Windows has each device once for each host API
        host = next((one.host for one in found if one.default), fitting[0].host)
        fitting = [one for one in fitting if one.host == host] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        same = "; ".join(f"{one.number} {one.name} ({one.host})" for one in fitting[:_FEW_NAMES])
        raise AudioError(f"{counted(len(fitting), 'microphone')} called {device!r}; expected one: {same}")
    meant = did_you_mean(device, (one.name for one in found))
    raise AudioError(f"no microphone is called {device!r}{meant}; expected one of: {known}")


def same_microphone(wanted: Microphone) -> Microphone | None:
    """Returns the microphone of this name and host API that is there now, or None. Its number may be another one.

    The number of its sound card, which ALSA puts behind the name, does not count.

    Raises:
        MissingDependencyError: sounddevice or its library PortAudio is not installed.
    """
    same = [one for one in microphones() if (one.host, _model(one)) == (wanted.host, _model(wanted))]
    exact = [one for one in same if one.name == wanted.name]
    return next(iter(exact or same), None)


def _model(microphone: Microphone) -> str:
    return re.sub(r" \(hw:\d+,\d+\)$", "", microphone.name)


class MicrophoneStream:
    """An open microphone. A callback gets its blocks, in a thread of PortAudio.

    Args:
        microphone: which.
        heard: called with a block (n, channels) float32, and whether sound was lost before it.
        channel: number of the channel that is wanted, from 1: at least so many are opened.

    Attributes:
        microphone: which.
        rate, channels: as it was opened.
        interrupted: whether it was closed because the list of microphones was read again.

    Raises:
        MissingDependencyError: sounddevice or its library PortAudio is not installed.
        AudioError: it cannot be opened: it is in use, not allowed, gone, or has no such channel.
    """

    def __init__(
        self,
        microphone: Microphone,
        heard: Callable[[NDArray[np.float32], bool], None],
        *,
        channel: int | None = None,
    ) -> None:
        library = _library()
        self.microphone, self.interrupted = microphone, False
        if channel is not None and not 1 <= channel <= microphone.channels:
            raise AudioError(f"channel = {channel}; expected 1 … {microphone.channels}, which {microphone.name} has")
        most = microphone.channels
        counts = [most if most <= _MOST_CHANNELS else max(_SERVER_CHANNELS, channel or 1), 2, 1]
        rates = [microphone.rate, *_OTHER_RATES]
        with _lock, _quiet():
            while True:
                self.rate, self.channels = rates[0], counts[0]
                try:
                    self._stream: Any = library.RawInputStream(
                        device=microphone.number,
                        samplerate=self.rate,
                        channels=self.channels,
                        dtype="float32",
                        blocksize=round(self.rate * BLOCK_SECONDS),
                        latency=_BUFFER_SECONDS,
                        callback=self._called(heard),
                    )
                    self._stream.start()
                except (library.PortAudioError, ValueError) as error:
                    code = error.args[1] if len(error.args) > 1 else None
                    if code == _BAD_CHANNELS and len(counts) > 1:
                        counts = [count for count in counts[1:] if count < counts[0] and count >= (channel or 1)]
                        if counts:
                            continue
                    if code == _BAD_RATE and len(rates) > 1:
                        rates = rates[1:]
                        continue
                    raise AudioError(f"microphone {microphone.name}: {_why(error)}") from error
                _open.add(self)
                return

    def _called(self, heard: Callable[[NDArray[np.float32], bool], None]) -> Callable[..., None]:
        channels = self.channels

        def callback(data: Any, _frames: int, _time: object, status: Any) -> None:
            heard(np.frombuffer(data, np.float32).reshape(-1, channels).copy(), bool(status.input_overflow))

        return callback

    @property
    def active(self) -> bool:
        """Whether blocks still come: not after the microphone was unplugged, and not after `close`."""
        with _lock:
            return self in _open and bool(self._stream.active)

    def close(self) -> None:
        """Closes the microphone."""
        with _lock:
            if self in _open:
                _open.discard(self)
                # a microphone that is gone cannot be stopped
                with contextlib.suppress(_library().PortAudioError), _quiet():
                    self._stream.close()


def _why(error: Exception) -> str:
    """Returns what a failure of PortAudio means, and what to do."""
    details = [value for value in error.args[1:] if isinstance(value, int)]
    details += [value for part in error.args if isinstance(part, tuple) for value in part[1:] if isinstance(value, int)]
    text = str(error.args[0] if error.args else error).removeprefix("Error opening RawInputStream: ")
    host = next((str(part[-1]) for part in error.args if isinstance(part, tuple)), "")
    text = f"{text}: {host}" if host else text
    if any(code in _BUSY for code in details):
        remedy = "end that program, or record through the sound server (--device pulse or default)"
        return f"it is in use by another program ({text}); expected a free one: {remedy}"
    if any(code in _DENIED for code in details):
        return f"the system does not allow to record ({text}); {_permission()}"
    if any(code in _GONE for code in details):
        return f"it is not there any more, or its sound server does not answer ({text}); plug it in, or choose another"
    return f"{text}; expected one that is connected, allowed and not in use"


def _permission() -> str:
    if _LINUX:
        return "expected a user of the group audio: sudo usermod -aG audio USER, then log in again"
    return "expected a permission for this program in the settings of the system, under privacy and microphone"


def _why_none(devices: Path = Path("/dev/snd")) -> str:
    """Returns why there is no microphone at all, and what to do."""
    if _LINUX:
        recorders = sorted(devices.glob("pcm*c")) if devices.is_dir() else []
        if any(not os.access(path, os.R_OK | os.W_OK) for path in recorders):
            return f"no microphone: {recorders[0]} may not be read by this user; {_permission()}"
        if not recorders:
            return "no microphone: no sound card that records is connected, and no sound server offers one; connect one"
    return f"no microphone: none is connected, or it is not allowed; connect one; {_permission()}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what PortAudio and ALSA print about a device off stderr: the error that is raised has it in one line."""
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
