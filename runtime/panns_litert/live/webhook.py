"""A sink that posts notices to a web address."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from panns_litert.errors import SettingsError
from panns_litert.escape import escaped
from panns_litert.live.lines import json_line
from panns_litert.live.outbox import NotNow, Outbox, Undeliverable
from panns_litert.live.parts import EventNotice, Notice, Sink

_MOST_TRIES = 10  # of a notice that the server answers with an error of its own: its content may be the cause
_LONGEST_WAIT = 3600.0  # seconds; a server may ask for less with Retry-After, not for more


class WebhookSink(Sink):
    """Posts starts and ends of events and lost sound as JSON: `notice_row`, one notice per request, in their order.

    While the server cannot be reached, or answers 408, 429 or 5xx, a notice is tried again, after pauses of 1 to 60
    seconds or as long as `Retry-After` asks. Ten answers 408, 429 or 5xx lose it, any other answer but 2xx loses it at
    once. A server may get a notice twice, if its answer was lost; `id` and `kind` tell. Redirections are not followed.
    Messages show the host of the address and nothing else of it.

    Args:
        url: http or https. A user and password in it are sent as Basic authentication.
        headers: more headers, such as an Authorization.
        timeout: seconds to wait for the connection, and for the answer, > 0; both take at most twice as long, whatever
            comes meanwhile.
        most_waiting: how many notices may wait before the oldest is lost, ≥ 1.

    Raises:
        SettingsError: the address, a header or a number is not valid.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        most_waiting: int = 1000,
        pauses: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        parts = _parts(url)
        if not 0 < timeout <= 600 or most_waiting < 1:
            raise SettingsError(
                f"webhook: timeout {timeout} s, most_waiting {most_waiting}; expected at most 600 s, at least 1 notice"
            )
        self._host = escaped(parts.netloc.rpartition("@")[2])
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "panns-litert"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        for name, value in (headers or {}).items():
            if not _is_header(name, value):  # the value is not shown: it may be a password
                raise SettingsError(
                    f"webhook: header {escaped(str(name))}; expected a name and a value of printable ASCII characters"
                )
            self._headers[name] = value
        self._timeout = timeout
        self._limit = _Limit(2 * timeout)
        self._opener = urllib.request.build_opener(_NoRedirections, _Http(self._limit), _Https(self._limit))
        self._outbox = Outbox(self.name, self._post, most_waiting=most_waiting, pauses=pauses)

    def notice(self, notice: Notice) -> None:
        """Takes a notice, but for updates."""
        if not (isinstance(notice, EventNotice) and notice.kind == "update"):
            self._outbox.put(notice)

    def close(self) -> None:
        self._outbox.close()

    @property
    def problems(self) -> tuple[str, ...]:
        return self._outbox.problems

    def _post(self, notice: Notice) -> None:
        request = urllib.request.Request(self._url, json_line(notice).encode(), self._headers, method="POST")
        try:
            with self._limit:
                self._opener.open(request, timeout=self._timeout).close()
        except urllib.error.HTTPError as answer:
            with answer:
                self._judge(answer.code, answer.headers)
        except urllib.error.URLError as error:
            raise NotNow(f"{self._host}: {_cause(error.reason)}") from None
        except (OSError, http.client.HTTPException) as error:  # while the answer was read
            raise NotNow(f"{self._host}: {'no answer in time' if self._limit.reached else _cause(error)}") from None

    def _judge(self, code: int, headers: Any) -> None:
        what = f"{self._host} answers {code}"
        if code in (408, 429) or code >= 500:
            raise NotNow(what, after=_retry_after(headers.get("Retry-After")), most_tries=_MOST_TRIES)
        if 300 <= code < 400:
            where = escaped(urlsplit(headers.get("Location") or "").netloc.rpartition("@")[2] or self._host)
            raise Undeliverable(f"{what}: it redirects to {where}, which is not followed; give the final address")
        raise Undeliverable(what)


class _Limit:
    """Ends the connection of one request at a time when it takes too long: a timeout is only for each of its reads.

    Args:
        seconds: that a request may take.

    Attributes:
        reached: whether the last request was ended.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self.reached = seconds, False
        self._socket: socket.socket | None = None

    def __enter__(self) -> None:
        self.reached, self._socket = False, None
        self._timer = threading.Timer(self._seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def opened(self, connection: http.client.HTTPConnection) -> None:
        """Notes the connection of the request."""
        self._socket = connection.sock
        if self.reached:
            self._end()

    def _end(self) -> None:
        self.reached = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of TLS, too, as the thread that reads has it


def _limited(kind: type[http.client.HTTPConnection], limit: _Limit) -> Any:
    class Connection(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            limit.opened(self)

    return Connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, limit: _Limit) -> None:
        super().__init__()
        self._kind = _limited(http.client.HTTPConnection, limit)

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._kind, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, limit: _Limit) -> None:
        super().__init__(context=ssl.create_default_context())
        self._kind = _limited(http.client.HTTPSConnection, limit)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._kind, request, context=self._context)  # type: ignore[attr-defined]


class _NoRedirections(urllib.request.HTTPRedirectHandler):
    """Follows none: a notice, and its credentials, go where they were meant to go, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _parts(url: str) -> SplitResult:
    """Returns the parts of an address, or an error that does not show it: it may hold a password or a token."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):  # AttributeError, TypeError: no text
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise SettingsError(
            "webhook: not a valid address (it is not shown, since it may hold a password); expected "
            "https://HOST/PATH or http://HOST/PATH, other characters than ASCII written %XX"
        )
    return parts


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and bool(name)
        and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)
        and (name + value).isascii()
        and value.isprintable()
    )


def _cause(error: object) -> str:
    """Returns why a connection failed, without an address."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection ({error.reason})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _retry_after(text: str | None) -> float:
    """Returns the seconds that a `Retry-After` asks for, by a number or a date (RFC 9110, 10.2.3); 0 if by neither."""
    if text is None:
        return 0.0
    try:
        seconds = float(text) if text.strip().isdigit() else _until(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
