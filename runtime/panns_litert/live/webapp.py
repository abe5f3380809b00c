"""The page's addresses: the page itself, its messages, the thresholds, the sound of events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panns_litert.errors import EventError
from panns_litert.live.access import Access
from panns_litert.live.controls import Controls
from panns_litert.live.feed import Message, PageSink
from panns_litert.strict import parse_json

if TYPE_CHECKING:  # an extra brings it, so the functions import it
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Sent

_FILES = {"/page.css": "text/css", "/page.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NEEDS_TOKEN = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<title>What is heard</title><h1>This page needs its token</h1><p>Open the address that the program printed, with "
    "<code>?token=</code>.</p><p>If you have just done that: <a href='./'>go on to the page</a>.</p></html>"
)
_MOST_BROWSERS = 16  # that get messages at a time
_POLL_SECONDS = 0.1  # how often a browser's new messages are looked for
_PING_SECONDS = 5.0  # the page connects again after 15 s without a message
_STALLED_SECONDS = 10.0  # a browser that takes nothing for so long is dropped
_MOST_BODY = 4096  # bytes of a request

logger = logging.getLogger(__name__)


def build_app(
    page: PageSink, controls: Controls, access: Access, *, cookie: str, stopping: Callable[[], bool]
) -> ASGIApp:
    """Returns the ASGI application of the page.

    Args:
        page: what it shows.
        controls: the thresholds that it moves.
        access: who may see it.
        cookie: name of its cookie.
        stopping: whether the server is about to end, so that the messages end, too.
    """
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    folder = Path(__file__).parent
    texts = {name: (folder / name[1:]).read_text(encoding="utf-8") for name in ("/page.html", *_FILES)}
    browsers: list[object] = []

    def document(_: Request) -> Response:
        return HTMLResponse(texts["/page.html"])

    def file(request: Request) -> Response:
        return Response(texts[request.url.path], media_type=_FILES[request.url.path])

    def events(request: Request) -> Any:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if len(browsers) >= _MOST_BROWSERS:
            return PlainTextResponse(f"{_MOST_BROWSERS} browsers have the page open; close one.", 503)
        after = request.headers.get("last-event-id", request.query_params.get("after", ""))
        return _Messages(page, controls, after=after, stopping=stopping, browsers=browsers)

    async def thresholds(request: Request) -> Response:
        if request.method != "POST":
            text = json.dumps(controls.document(), indent=2) + "\n"
            return Response(
                text,
                headers={"Content-Disposition": "attachment; filename=thresholds.json"},
                media_type="application/json",
            )
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("Expected Content-Type application/json.", 415)
        body = b""
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                async for part in request.stream():
                    body += part
                    if len(body) > _MOST_BODY:
                        return PlainTextResponse(f"Expected at most {_MOST_BODY} bytes.", 413)
        except TimeoutError:
            return PlainTextResponse("The body did not come in time.", 408, {"Connection": "close"})
        try:
            _move(controls, body)
        except EventError as error:
            return JSONResponse({"error": str(error)}, 400)
        page.tell("thresholds", controls.row())
        return JSONResponse(controls.row())

    def clip(request: Request) -> Response:
        path = page.clip_path(request.path_params["id"])
        with contextlib.suppress(OSError):
            if path is not None:
                return FileResponse(path, media_type="audio/flac", stat_result=os.stat(path))
        return PlainTextResponse("No sound is saved of this event.", 404)

    routes = [
        Route("/", document),
        *(Route(name, file) for name in _FILES),
        Route("/events", events),
        Route("/thresholds.json", thresholds, methods=["GET", "POST"]),
        Route("/clips/{id}", clip),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return _Guard(app, access, cookie)


def _move(controls: Controls, body: bytes) -> None:
    """Moves a threshold as {"index": 3, "on": 0.5} says.

    Raises:
        EventError: the body is no such JSON, or a value is out of range.
    """
    data = parse_json(body, "thresholds", error=EventError)
    if not isinstance(data, dict) or set(data) != {"index", "on"}:
        raise EventError('expected {"index": the place of a class or null, "on": a number or null}')
    controls.set_on(data["on"], index=data["index"])


class _Messages:
    """The answer to /events: messages as they come, as server-sent events, until the browser goes or stalls."""

    def __init__(
        self, page: PageSink, controls: Controls, *, after: str, stopping: Callable[[], bool], browsers: list[object]
    ) -> None:
        self._page, self._controls, self._stopping, self._browsers = page, controls, stopping, browsers
        run, _, number = after.partition("-")
        known = run == page.run and number.isascii() and number.isdigit() and len(number) < 16
        self._number = int(number) if known else -1  # of the last message that the browser has

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        gone = asyncio.create_task(_gone(receive))
        self._browsers.append(self)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            sent = looked = float("-inf")
            while not gone.done() and not self._stopping():
                now = time.monotonic()
                if now - looked >= 1.0:
                    self._page.look_for_clips()
                    looked = now
                text = self._news()
                if not text and now - sent >= _PING_SECONDS:
                    text = "event: ping\ndata: {}\n\n"
                if text:
                    async with asyncio.timeout(_STALLED_SECONDS):
                        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    sent = now
                await asyncio.wait({gone}, timeout=_POLL_SECONDS)
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            logger.info("a browser that took no messages was dropped")
        finally:
            self._browsers.remove(self)
            gone.cancel()

    def _news(self) -> str:
        messages = self._page.since(self._number)
        if messages is None:
            messages = [self._page.state(thresholds=self._controls.row())]
        if messages:
            self._number = messages[-1].number
        return "".join(map(self._text, messages))

    def _text(self, message: Message) -> str:
        return f"id: {self._page.run}-{message.number}\nevent: {message.kind}\ndata: {message.data}\n\n"


async def _gone(receive: Receive) -> None:
    """Waits until the browser has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Guard:
    """Lets only those requests through that `Access` allows, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access, cookie: str) -> None:
        self._app, self._access, self._cookie = app, access, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import MutableHeaders
        from starlette.requests import ClientDisconnect, Request

        if scope["type"] != "http":
            return

        async def guarded(message: Sent) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        request = Request(scope)
        try:
            await (self._answer(request) or self._app)(scope, receive, guarded)
        except ClientDisconnect:
            pass
        except Exception:  # told with its traceback; uvicorn answers 500 if no answer has begun
            logger.exception("page: %s %s failed", request.method, request.url.path)

    def _answer(self, request: Request) -> Response | None:
        """Returns the answer to a request that is not let through."""
        from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse

        access, document = self._access, request.url.path == "/"
        if (refusal := access.refusal(request.method, request.headers, document=document)) is not None:
            return PlainTextResponse(refusal.why, refusal.status)
        given = request.query_params.get("token")
        if document and given is not None and access.is_token(given):
            answer = RedirectResponse("/", 303)  # the address without the token
            assert access.session is not None
            answer.set_cookie(self._cookie, access.session, httponly=True, samesite="strict")
            return answer
        authorization = request.headers.get("authorization", "")
        if not access.knows(authorization=authorization, cookie=request.cookies.get(self._cookie, "")):
            bearer = {"WWW-Authenticate": "Bearer"}
            return (
                HTMLResponse(_NEEDS_TOKEN, 401, bearer)
                if document
                else PlainTextResponse("Needs the token.", 401, bearer)
            )
        return None
