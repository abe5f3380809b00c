"""The server of the page, in a thread of its own."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from panns_litert.errors import ServeError, importing
from panns_litert.live.access import EVERYWHERE, Access
from panns_litert.live.controls import Controls
from panns_litert.live.feed import PageSink
from panns_litert.strict import shown

DEFAULT_PORT = 8765

_MOST_CONNECTIONS = 64
_REQUEST_SECONDS = 10.0  # until a connection has brought a request: others wait for its place
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


class PageServer(AbstractContextManager["PageServer"]):
    """Serves the page of a `PageSink` while its context is open. It never starts or stops the listening.

    Args:
        page: what the page shows.
        controls: the thresholds that it moves.
        host: name or IP address of this computer; 0.0.0.0 or :: for all its interfaces.
        port: 1 … 65535, or 0 for any free port.
        token, names: as for `Access`. The page speaks HTTP: beyond this computer, its token can be read on the way,
            unless a proxy or a tunnel in front of it encrypts.

    Attributes:
        port: where it listens; after the context was opened, also for 0.
        url: its address, with the token.

    Raises:
        ServeError: host, port or token are not valid; or, when the context is opened, the port is in use.
        MissingDependencyError: Starlette or uvicorn is not installed.
    """

    def __init__(
        self,
        page: PageSink,
        controls: Controls,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        token: str | None = None,
        names: Sequence[str] = (),
    ) -> None:
        if type(port) is not int or not 0 <= port <= 65535:
            raise ServeError(f"port {shown(port)}; expected 1 … 65535, or 0 for any free port")
        self._access = Access(host, token=token, names=names)
        self._page, self._controls, self._host, self.port = page, controls, host, port
        with importing("starlette and uvicorn", extra="serve", purpose="the page needs"):
            import starlette  # noqa: F401
            import uvicorn
        self._uvicorn = uvicorn
        self._stopping = False

    @property
    def url(self) -> str:
        host = self._host
        if host in EVERYWHERE:
            host = socket.gethostname()
        elif ":" in host:
            host = f"[{host}]"
        token = "" if self._access.token is None else f"?token={self._access.token}"
        return f"http://{host}:{self.port}/{token}"

    def __enter__(self) -> PageServer:
        from panns_litert.live.webapp import build_app

        bound = _bound(self._host, self.port)
        self.port = bound.getsockname()[1]
        app = build_app(
            self._page,
            self._controls,
            self._access,
            cookie=f"panns_litert_{self.port}",  # browsers share cookies among the ports of a host
            stopping=lambda: self._stopping,
        )
        self._server = self._uvicorn.Server(
            self._uvicorn.Config(
                app,
                loop="asyncio",
                http=_protocol(),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # the application logs its own errors
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([bound],), name="page", daemon=True)
        self._thread.start()
        until = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                bound.close()
                raise ServeError(f"{self._host}:{self.port}: the server does not start; --verbose tells more")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.2)  # so that browsers still get the last messages
        self._stopping = self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)


def _protocol() -> Any:
    """Returns uvicorn's protocol, but for connections that bring no request: they are closed after a while. Otherwise
    anybody could take all places, without the token."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._last: object = None
            self._timer = self.loop.call_later(_REQUEST_SECONDS, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            answered = self.cycle is None or (self.cycle is self._last and self.cycle.response_complete)
            if answered and not self.transport.is_closing():
                self.transport.close()
                return
            self._last = self.cycle
            self._timer = self.loop.call_later(_REQUEST_SECONDS, self._look)

    return Protocol


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to one address.

    Raises:
        ServeError: the name is unknown, the port is in use, or this computer does not have the address.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if host.casefold() == "localhost":
            host = "127.0.0.1"
        try:
            ipaddress.ip_address(host)
        except ValueError:
            host = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
            if ipaddress.ip_address(host).is_unspecified:  # such as "0"
                raise ServeError(f"{where}: all interfaces; expected 0.0.0.0 or :: for them") from None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # :: is not 0.0.0.0, too
            bound.bind((host, port))
            bound.listen(_MOST_CONNECTIONS)
        except OSError:
            bound.close()
            raise
    except ServeError:
        raise
    except OSError as error:
        expected = {
            errno.EADDRINUSE: "already in use; expected a free port: --port N chooses another, --port 0 any free one",
            errno.EACCES: "no permission; expected a port from 1024 on",
            errno.EADDRNOTAVAIL: "not an address of this computer; expected one of its own, such as 127.0.0.1",
        }.get(error.errno or 0, f"{error.strerror or error}; expected a name or an address of this computer")
        raise ServeError(f"{where}: {expected}") from error
    return bound
