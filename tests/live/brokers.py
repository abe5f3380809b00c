"""A real MQTT broker on this machine, mosquitto, and what it was told."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Broker:
    """mosquitto on a free port of 127.0.0.1. Can be stopped, killed and started again.

    Args:
        folder: for its configuration.
        more: more lines of the configuration; `allow_anonymous true` if empty.
    """

    def __init__(self, folder: Path, more: str = "allow_anonymous true") -> None:
        if MOSQUITTO is None:
            pytest.skip("no mosquitto: apt-get install mosquitto")
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        # As root, mosquitto would become another user, who cannot read a test's folder.
        self._config.write_text(f"listener {self.port} 127.0.0.1\nuser {getpass.getuser()}\n{more}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def broker(folder: Path, more: str = "allow_anonymous true") -> Iterator[Broker]:
    started = Broker(folder, more)
    started.start()
    try:
        yield started
    finally:
        started.stop()


class Listener:
    """Subscribes to everything, as Home Assistant would, and keeps what it got."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, str, bool]] = []  # topic, payload, whether it was retained
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.got.append(
            (message.topic, message.payload.decode(), message.retain)
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def of(self, topic: str) -> list[str]:
        """Returns the payloads of a topic, in their order."""
        return [payload for name, payload, _ in list(self.got) if name == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def listener(port: int) -> Iterator[Listener]:
    subscribed = Listener(port)
    try:
        yield subscribed
    finally:
        subscribed.close()


class Relay:
    """A port that leads to another one while it is open. It refuses connections otherwise.

    It lets a test subscribe to a broker before the sink under test can reach it.

    Attributes:
        mute: whether the answers of the other port are dropped.
    """

    def __init__(self, target: int) -> None:
        self.port, self._target, self.mute = free_port(), target, False
        self._ends: list[socket.socket] = []
        self._fronts: list[socket.socket] = []
        self._lost: set[socket.socket] = set()

    def open(self) -> None:
        server = socket.create_server(("127.0.0.1", self.port))
        self._ends.append(server)
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def forget(self) -> None:
        """Ends the connections on this side alone: the other one sees no end, as when a radio link is lost."""
        for end in self._fronts:
            with contextlib.suppress(OSError):
                self._lost.add(end)
                end.shutdown(socket.SHUT_RDWR)
        self._fronts.clear()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                pair = server.accept()[0], socket.create_connection(("127.0.0.1", self._target))
                self._ends += pair
                self._fronts.append(pair[0])
                for one, other, answers in ((*pair, False), (*pair[::-1], True)):
                    threading.Thread(target=self._pass, args=(one, other, answers), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(4096):
                if not (answers and self.mute):
                    other.sendall(data)
            if one not in self._lost:
                other.shutdown(socket.SHUT_RDWR)
