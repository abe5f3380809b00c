"""A web server on this machine that answers as a test wants, and keeps what it was sent."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any


class Hook:
    """Answers the n-th request with the n-th of `answers`, and the rest with the last: (status, headers, seconds)."""

    def __init__(self, *answers: tuple[int, Mapping[str, str], float], port: int = 0) -> None:
        self.got: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []  # path, headers, body
        self.times: list[float] = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, headers, seconds = answers[min(len(hook.got), len(answers) - 1)]
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.times.append(time.monotonic())
                hook.got.append((self.path, dict(self.headers), body))
                time.sleep(seconds)
                with contextlib.suppress(OSError):  # the sink has given up
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def do_GET(self) -> None:
                hook.got.append((self.path, dict(self.headers), {}))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def sent(self) -> list[tuple[str, str]]:
        """(id, kind) of each notice, and ("", "lost") of a loss."""
        return [(body.get("id", ""), body.get("kind", "")) for _, _, body in self.got]


@contextlib.contextmanager
def hook(*answers: tuple[int, Mapping[str, str], float], port: int = 0) -> Iterator[Hook]:
    started = Hook(*answers, port=port)
    try:
        yield started
    finally:
        started.close()
