"""Who may see the page: its names, its token, and requests of other sites, which are refused."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from panns_litert.errors import ServeError
from panns_litert.strict import shown

EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that stand for all interfaces of this computer."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")


class Refusal(NamedTuple):
    """An HTTP status and why, one sentence."""

    status: int
    why: str


def new_token() -> str:
    """Returns a token that nobody can guess."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Returns whether only this computer reaches what listens on a host: its name or its IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


class Access:
    """Decides which requests are answered.

    - The Host header must be a name of the page. Otherwise a site could let its own name lead to this computer (DNS
      rebinding) and read the page as its own.
    - With a token, a request must have it: as a cookie, which the address with `?token=` gives, or as a Bearer.
    - Another site may lead to the page by a link, and nothing else: no request of its scripts, pictures or forms.

    Args:
        host: where the page listens. All interfaces (0.0.0.0, ::) have many addresses: then every IP address is a name
            of the page, because rebinding needs a name, and this computer's own name is one, too.
        token: 16 … 200 letters, digits and . _ ~ -; None for none, on loopback only.
        names: more names of the page, such as that of a proxy in front of it.

    Attributes:
        session: what the cookie holds; None without a token.

    Raises:
        ServeError: the host is empty, or not loopback and there is no token; or the token has another form.
    """

    def __init__(self, host: str, *, token: str | None = None, names: Sequence[str] = ()) -> None:
        if not isinstance(host, str) or not host:
            raise ServeError(f"host {shown(host)}; expected a name or an address of this computer, such as 127.0.0.1")
        if token is None and not is_loopback(host):
            raise ServeError(
                f"host {host} without a token; expected a token, or a host that only this computer reaches"
            )
        if token is not None and (not isinstance(token, str) or _TOKEN.fullmatch(token) is None):
            raise ServeError("this token has another form; expected 16 … 200 letters, digits and . _ ~ -")
        self.token = token
        self._every_address = host in EVERYWHERE
        own = (socket.gethostname(), f"{socket.gethostname()}.local") if self._every_address else (host,)
        self._names = {name.casefold() for name in (*_LOOPBACK, *own, *names)}
        # The cookie does not hold the token itself, so that who reads the one does not know the other.
        self.session = None if token is None else hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Returns whether a text is the token. The time that it takes does not depend on how much of it is right."""
        return self.token is not None and hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def refusal(self, method: str, headers: Mapping[str, str], *, document: bool) -> Refusal | None:
        """Returns why a request is refused, whether or not it has the token; None if it is not.

        Args:
            method: such as "GET".
            headers: its headers, whose names are found in any case.
            document: whether the address is that of the page itself, to which other sites may link.
        """
        host = headers.get("host", "")
        if not self._is_name(host):
            return Refusal(421, f"Host {shown(host)} is no name of this page; --name allows one more.")
        fetch = [headers.get(f"sec-fetch-{name}", "") for name in ("site", "mode", "dest")]
        link = document and method in ("GET", "HEAD") and fetch[1:] == ["navigate", "document"]
        if (fetch[0] not in ("", "same-origin", "none") and not link) or not _same(headers.get("origin"), host):
            return Refusal(403, "Requests of other sites are refused.")
        return None

    def knows(self, *, authorization: str, cookie: str) -> bool:
        """Returns whether a request has the token, or needs none.

        Args:
            authorization, cookie: the header, and the page's cookie; empty if there is none.
        """
        if self.session is None:
            return True
        scheme, _, bearer = authorization.partition(" ")
        if scheme.casefold() == "bearer" and self.is_token(bearer.strip()):
            return True
        return hmac.compare_digest(cookie.encode(errors="replace"), self.session.encode())

    def _is_name(self, host: str) -> bool:
        name = (host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]).rstrip(".").casefold()
        if name in self._names:
            return True
        if not self._every_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same(origin: str | None, host: str) -> bool:
    """Returns whether an Origin header, if there is one, is of the page itself. A proxy may change http to https."""
    try:
        return origin is None or urlsplit(origin).netloc.casefold() == host.casefold()
    except ValueError:
        return False
