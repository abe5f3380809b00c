"""A virtual microphone: PulseAudio as a private server, whose null sink is played into and recorded from by ALSA.

PortAudio sees it as the ALSA device `testmic`: the real library opens it, and it can be unplugged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from streamserver import SECONDS, need, running

_PLUGIN = "/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so"
_DEVICE = """pcm.{name} {{
    type pulse
    server "unix:{socket}"
    device "{name}.monitor"
    hint {{ show on description "{name}" }}
}}
"""


class SoundServer:
    """A running PulseAudio.

    Attributes:
        environment: of programs that use it, and of PortAudio in this process.
        pid: of the server.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._socket = folder, folder / "native"
        self._config = folder / "asound.conf"
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": str(self._config),
        }
        self.pid = 0
        self._modules: dict[str, str] = {}
        self.offer("testmic")

    def offer(self, *names: str) -> None:
        """Changes which ALSA devices there are, in this order; each records from the sink of its name."""
        devices = [_DEVICE.format(name=name, socket=self._socket) for name in names]
        self._config.write_text("".join(["</usr/share/alsa/alsa.conf>\n", *devices]), encoding="utf-8")

    def plug(self, name: str = "testmic") -> None:
        """Adds a sink of 44.1 kHz and two channels."""
        self._modules[name] = self.control("load-module", "module-null-sink", f"sink_name={name}", "rate=44100")

    def reset(self) -> None:
        """Leaves the one microphone `testmic`."""
        self.offer("testmic")
        for name in {*self._modules} - {"testmic"}:
            self.unplug(name)
        if "testmic" not in self._modules:
            self.plug()

    def unplug(self, name: str = "testmic") -> None:
        self.control("unload-module", self._modules.pop(name))

    def control(self, *arguments: str) -> str:
        """Runs pactl and returns what it prints."""
        done = subprocess.run(
            ["pactl", *arguments], env=os.environ | self.environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def playing(self, path: Path, name: str = "testmic") -> Iterator[subprocess.Popen[bytes]]:
        """Plays a WAV file into a sink."""
        with running("paplay", f"--device={name}", path, env=os.environ | self.environment) as process:
            yield process


@contextmanager
def sound_server() -> Iterator[SoundServer]:
    """Runs a sound server with the microphone `testmic`. Skips where PulseAudio or ALSA's plugin for it is missing."""
    need("pulseaudio", "pactl", "paplay")
    if not list(Path("/").glob(_PLUGIN.removeprefix("/"))):
        pytest.skip("no ALSA plugin for PulseAudio (libasound2-plugins)")
    folder = Path(tempfile.mkdtemp(prefix="pulse-"))  # short: the path of a socket has at most 107 bytes
    server = SoundServer(folder)
    protocol = f"module-native-protocol-unix auth-anonymous=1 socket={folder / 'native'}"
    options = ("-n", "--daemonize=no", "--exit-idle-time=60", "--use-pid-file=no", "--disable-shm=yes")
    try:
        with running("pulseaudio", *options, "-L", protocol, env=os.environ | server.environment) as process:
            server.pid = process.pid
            until = time.monotonic() + SECONDS
            while not (folder / "native").exists():
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield server
    finally:
        shutil.rmtree(folder)
