"""Servers of network streams on this machine."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

SECONDS = 60.0
"""A server, a wait or a program of a test lasts no longer."""


def need(*programs: str) -> None:
    """Skips the test if a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(*arguments: object, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program, and ends it with the block."""
    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)


class StreamServer:
    """An HTTP server, or HTTPS with a certificate. Its /stream is WAV without an end, in real time: a sound again and
    again. A context manager.

    Attributes:
        url: of the stream.
        on_air: whether requests get the stream; if not, running ones are cut off, and new ones get status 503.
        silent: whether running ones get no more data.
        login: USER:PASSWORD that is required, if any.
        requests: how many came so far.
    """

    def __init__(
        self, sound: NDArray[np.float32], rate: int, *, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self.on_air, self.silent, self.login, self.requests = True, False, "", 0
        data = np.round(sound * 32767).astype("<i2").tobytes()
        outer, step = self, rate // 20

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                sent = base64.b64encode(outer.login.encode()).decode()
                if outer.login and self.headers.get("Authorization") != f"Basic {sent}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="stream"')
                    self.end_headers()
                    return
                if self.path == "/file":
                    self.send_response(200)
                    self.send_header("Content-Length", str(44 + len(data)))
                elif self.path == "/page":
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.end_headers()
                    self.wfile.write(b"<html>no sound here</html>" * 10000)
                    return
                else:
                    self.send_response(200 if self.path.startswith("/stream") and outer.on_air else 503)
                self.send_header("Content-Type", "audio/wav")
                self.end_headers()
                if not outer.on_air:
                    return
                form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
                self.wfile.write(b"RIFF\xff\xff\xff\xffWAVEfmt " + form + b"data\xff\xff\xff\xff")
                if self.path == "/file":
                    self.wfile.write(data)
                    return
                begin, count = time.monotonic(), 0
                with contextlib.suppress(ConnectionError):
                    while outer.on_air and time.monotonic() - begin < SECONDS:
                        if not outer.silent:
                            at = count * 2 * step % len(data)
                            self.wfile.write((data + data)[at : at + 2 * step])
                        count += 1
                        time.sleep(max(0.0, begin + count * step / rate - time.monotonic()))

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/stream"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self.port}/stream"

    def __enter__(self) -> StreamServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.on_air = False
        self._server.shutdown()
        self._server.server_close()


_ICECAST = """<icecast>
  <limits><clients>20</clients><sources>5</sources></limits>
  <authentication>
    <source-password>source</source-password><admin-user>admin</admin-user><admin-password>admin</admin-password>
  </authentication>
  <hostname>127.0.0.1</hostname><location>-</location><admin>-</admin>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <paths><basedir>/usr/share/icecast2</basedir><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>
    <adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><accesslog>-</accesslog><errorlog>-</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""


@contextlib.contextmanager
def icecast(folder: Path) -> Iterator[str]:
    """Runs a real Icecast and yields its HOST:PORT. It refuses to run as root, so that it becomes `nobody` then."""
    need("icecast2", "ffmpeg")
    port = free_port()
    owner = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>" if os.getuid() == 0 else ""
    config = folder / "icecast.xml"
    config.write_text(_ICECAST.format(port=port, folder=folder, owner=owner), encoding="utf-8")
    with running("icecast2", "-c", config) as process:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            time.sleep(0.05)
        assert process.poll() is None
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def on_air(host: str, path: Path, mount: str, *options: str) -> Iterator[None]:
    """Sends a recording to an Icecast in real time, again and again, by ffmpeg with these options of its encoder."""
    url = f"icecast://source:source@{host}/{mount}"
    with running("ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", path, *options, url):
        yield


class RtspServer:
    """An RTSP server whose stream is G.711 (mu-law, 8 kHz) over TCP, in real time: a sound again and again.

    It speaks as much of RFC 2326 as FFmpeg asks for: OPTIONS, DESCRIBE, SETUP and PLAY, with RTP between the answers.
    A context manager.

    Attributes:
        url: of the stream.
        lost: seconds of packets that are left out from now on; then it is 0 again.
    """

    def __init__(self, sound: NDArray[np.float32]) -> None:
        file = io.BytesIO()
        soundfile.write(file, sound, 8000, format="RAW", subtype="ULAW")
        self._data, self.lost = file.getvalue(), 0.0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    while request := self.rfile.readline().decode():
                        headers = {}
                        while line := self.rfile.readline().decode().strip():
                            name, _, value = line.partition(":")
                            headers[name.lower()] = value.strip()
                        self._answer(request.split()[0], headers["cseq"])

            def _answer(self, method: str, number: str) -> None:
                more, body = {
                    "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""),
                    "DESCRIBE": (
                        "Content-Type: application/sdp\r\n",
                        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=control:sound\r\n",
                    ),
                    "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
                    "PLAY": ("Session: 1\r\n", ""),
                }.get(method, ("", ""))
                head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
                self.wfile.write((head + body).encode())
                if method == "PLAY":
                    self._play()

            def _play(self) -> None:
                begin, skip = time.monotonic(), 0
                for count in range(round(SECONDS / 0.02)):
                    if outer.lost:
                        skip, outer.lost = round(outer.lost / 0.02), 0.0
                    if skip:
                        skip -= 1
                    else:
                        at = count * 160 % len(outer._data)
                        head = struct.pack(">BBHII", 0x80, 0, count & 0xFFFF, count * 160, 7)
                        packet = head + (outer._data + outer._data)[at : at + 160]
                        self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
                    time.sleep(max(0.0, begin + (count + 1) * 0.02 - time.monotonic()))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"rtsp://127.0.0.1:{self._server.server_address[1]}/front"

    def __enter__(self) -> RtspServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
