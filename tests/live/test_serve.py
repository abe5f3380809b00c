"""The page of a listener: who may see it, what it is told, and what it shows in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import run_python

from panns_litert.demo import demo_clips
from panns_litert.errors import EventError, ServeError
from panns_litert.events import EventSettings
from panns_litert.live import (
    Access,
    Controls,
    EventNotice,
    LossNotice,
    PageServer,
    PageSink,
    is_loopback,
    new_token,
    webapp,
)
from panns_litert.windows import Window

LABELS = ("Speech", "Dog", "<img src=x onerror=document.title='run'>\u202e")
TOKEN = "a-token-of-this-test"


class Target:
    """Takes the settings, as the listener does."""

    settings = EventSettings()

    def set_settings(self, settings: EventSettings) -> None:
        self.settings = settings


class Folder:
    """Knows the sound of events by id."""

    def __init__(self, **paths: Path) -> None:
        self.paths = paths

    def clip_path(self, id: str) -> Path | None:
        return self.paths.get(id)


def notice(kind: str = "end", id: str = "e1", **values: Any) -> EventNotice:
    fields = {"source": "microphone", "label": "Dog", "index": 1, "start": 1.0, "end": 3.0, "score": 0.75}
    times = dict.fromkeys(("time", "end_time", "told"), "2026-11-29T14:03:20.125+01:00")
    return EventNotice(kind=kind, id=id, **(fields | times | values))  # type: ignore[arg-type]


def loss(**values: Any) -> LossNotice:
    fields = {"source": "microphone", "start": 5.0, "seconds": 2.0, "why": "overflow"}
    return LossNotice(kind="lost", time="2026-11-29T14:03:24.000+01:00", **(fields | values))


def window(index: int, *, hop: float = 1.0, start: float = 0.0) -> Window:
    return Window(
        index=index,
        start=start + index * hop,
        end=start + index * hop + 10.0,
        probs=np.zeros(3, np.float32),
        embedding=np.zeros(0, np.float32),
        framewise=None,
        level_dbfs=-30.0,
        front_end_ms=1.0,
        model_ms=1.0,
    )


def a_page(*, clips: Folder | None = None, sources: tuple[str, ...] = ("microphone",)) -> PageSink:
    return PageSink(LABELS, model="demo", window=10.0, hop=1.0, sources=sources, clips=clips)


def serving(page: PageSink, target: Target | None = None, **options: Any) -> PageServer:
    return PageServer(page, Controls(LABELS, EventSettings(), target or Target()), port=0, **options)


def ask(server: PageServer, method: str = "GET", path: str = "/", body: Any = None, **headers: str) -> tuple[int, Any]:
    """Sends one request. Underscores in the names of headers stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    for name, value in ({"Content_Length": str(len(data))} | headers).items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(data)
    answer = connection.getresponse()
    text = answer.read()
    answer.text = text.decode(errors="replace")  # type: ignore[attr-defined]
    answer.data = text  # type: ignore[attr-defined]
    connection.close()
    return answer.status, answer


def messages(server: PageServer, path: str = "/events", *, count: int, **headers: str) -> list[tuple[str, str, Any]]:
    """Returns the first messages of a stream: id, kind and data of each."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    assert answer.status == 200
    found = []
    while len(found) < count:
        lines = dict[str, str]()
        while line := answer.readline().decode().strip():
            name, _, value = line.partition(": ")
            lines[name] = value
        if lines["event"] != "ping":
            found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    answer.close()
    connection.close()
    return found


# ---- who may see it


@pytest.fixture(scope="module")
def clip() -> Path:
    return demo_clips()[0]


@pytest.fixture(scope="module")
def secret(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "secret.flac"
    path.write_bytes(clip.read_bytes())
    return path


@pytest.fixture(scope="module")
def server(clip: Path, secret: Path) -> Iterator[PageServer]:
    """A page with two events, one of which has a sound; the sound of an event that it does not show is there, too."""
    page = a_page(clips=Folder(e1=clip, hidden=secret))
    page.notice(notice())
    page.notice(notice(id="e2"))
    with serving(page) as server:
        yield server


@pytest.fixture(scope="module")
def locked() -> Iterator[PageServer]:
    with serving(a_page(), token=TOKEN) as server:
        yield server


SITE = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}
LINK = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
MOVE = {"index": None, "on": 0.5}
JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (200, "GET", "/", {}),
        (200, "HEAD", "/", {}),
        (200, "GET", "/page.js", {}),
        (200, "GET", "/", {"Host": "localhost:8765"}),
        (200, "GET", "/", {"Host": "LOCALHOST"}),
        (200, "GET", "/", {"Host": "[::1]:8765"}),
        (421, "GET", "/", {"Host": "evil.example"}),
        (421, "GET", "/", {"Host": "evil.example:8765"}),
        (421, "GET", "/", {"Host": "localhost.evil.example"}),
        (421, "GET", "/", {"Host": "127.0.0.1.evil.example"}),
        (421, "GET", "/", {"Host": "192.168.0.7:8765"}),
        (421, "GET", "/", {"Host": ""}),
        (421, "GET", "/events", {"Host": "evil.example"}),
        (421, "POST", "/thresholds.json", {"Host": "evil.example", "Origin": "http://evil.example", **JSON}),
        (200, "GET", "/", LINK),
        (403, "GET", "/", {**LINK, "Sec_Fetch_Dest": "iframe"}),
        (403, "GET", "/page.js", SITE),
        (403, "GET", "/page.js", {**SITE, "Sec_Fetch_Site": "same-site"}),  # another port of this computer
        (403, "GET", "/events", {**SITE, "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}),
        (403, "GET", "/clips/e1", {**SITE, "Sec_Fetch_Dest": "audio"}),
        (403, "GET", "/clips/e1", LINK),
        (403, "POST", "/", LINK),
        (403, "POST", "/thresholds.json", {**SITE, **JSON}),
        (403, "POST", "/thresholds.json", {"Origin": "http://evil.example", **JSON}),
        (403, "POST", "/thresholds.json", {"Origin": "null", **JSON}),
        (403, "POST", "/thresholds.json", {"Origin": "http://[", **JSON}),
        (403, "POST", "/thresholds.json", {"Origin": "http://127.0.0.1:1", **JSON}),
        (415, "POST", "/thresholds.json", {"Content_Type": "text/plain"}),
        (415, "POST", "/thresholds.json", {"Content_Type": "application/x-www-form-urlencoded"}),
        (415, "POST", "/thresholds.json", {}),
        (405, "PUT", "/thresholds.json", JSON),
        (405, "OPTIONS", "/thresholds.json", {"Access_Control_Request_Method": "POST"}),
        (405, "POST", "/events", JSON),
        (404, "GET", "/page.html", {}),
        (404, "GET", "/app.py", {}),
        (404, "GET", "/start", {}),
        (404, "POST", "/listen", JSON),
    ],
)
def test_requests_from_elsewhere_are_refused(
    server: PageServer, status: int, method: str, path: str, headers: dict[str, str]
) -> None:
    got, answer = ask(server, method, path, MOVE, **headers)
    assert got == status, answer.text
    assert answer.getheader("Access-Control-Allow-Origin") is None
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert answer.getheader("Cache-Control") == "no-store"
    assert "unsafe" not in answer.getheader("Content-Security-Policy")
    assert answer.getheader("Content-Security-Policy").startswith("default-src 'none'; script-src 'self';")


def test_refused_requests_change_nothing(server: PageServer) -> None:
    _, answer = ask(server, path="/thresholds.json")
    assert EventSettings.from_json(answer.text).of(None) == EventSettings().of(None)
    assert json.loads(answer.text)["classes"] == {}


@pytest.mark.parametrize(
    "path",
    [
        "/clips/e2",  # nothing saved
        "/clips/e3",  # no such event
        "/clips/hidden",  # saved, but of no event that the page shows
        "/clips/",
        "/clips/..",
        "/clips/../page.css",
        "/clips/..%2fpage.css",
        "/clips/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/clips/%2fetc%2fpasswd",
        "/clips/e1%00",
        "/clips/e1.flac",
        "/clips/e1/",
        "/../../etc/passwd",
    ],
)
def test_no_other_file_is_served(server: PageServer, path: str) -> None:
    assert ask(server, path=path)[0] == 404


def test_a_sound_is_served_whole_and_in_parts(server: PageServer, clip: Path) -> None:
    status, answer = ask(server, path="/clips/e1")
    assert (status, answer.data) == (200, clip.read_bytes())
    assert answer.getheader("Content-Type") == "audio/flac"
    status, answer = ask(server, path="/clips/e1", Range="bytes=100-199")
    assert (status, answer.data) == (206, clip.read_bytes()[100:200])
    assert answer.getheader("Content-Range") == f"bytes 100-199/{clip.stat().st_size}"
    assert ask(server, path="/clips/e1", Range="bytes=99999999-")[0] == 416


def test_without_the_token_nothing_is_shown(locked: PageServer) -> None:
    for path in ("/", "/page.js", "/events", "/thresholds.json", "/clips/e1"):
        assert ask(locked, path=path)[0] == 401, path
        assert ask(locked, path=path, Authorization=f"Bearer {TOKEN}x")[0] == 401, path
        assert ask(locked, path=path, Authorization=f"Basic {TOKEN}")[0] == 401, path
        assert ask(locked, path=path, Cookie=f"panns_litert_{locked.port}={TOKEN}")[0] == 401, path
    assert ask(locked, "POST", "/thresholds.json", MOVE, **JSON)[0] == 401
    assert ask(locked, path="/?token=")[0] == 401
    assert ask(locked, path=f"/?token={TOKEN[:-1]}")[0] == 401
    assert ask(locked, path="/?token=%ff%c3%a9")[0] == 401
    assert ask(locked, path=f"/page.js?token={TOKEN}")[0] == 401
    assert ask(locked, path=f"/?token={TOKEN}", Host="evil.example")[0] == 421
    assert "Open the address that the program printed" in ask(locked)[1].text


def test_the_token_opens_the_page_and_leaves_the_address(locked: PageServer) -> None:
    assert ask(locked, Authorization=f"Bearer {TOKEN}")[0] == 200
    status, answer = ask(locked, path=f"/?token={TOKEN}")
    assert (status, answer.getheader("Location")) == (303, "/")
    cookie, *attributes = answer.getheader("Set-Cookie").split("; ")
    assert {"HttpOnly", "SameSite=strict"} <= set(attributes)
    assert TOKEN not in cookie
    assert ask(locked, Cookie=cookie)[0] == 200
    assert ask(locked, "POST", "/thresholds.json", MOVE, Cookie=cookie, **JSON)[0] == 200
    assert ask(locked, "POST", "/thresholds.json", MOVE, Cookie=cookie, Origin="http://evil.example", **JSON)[0] == 403


@pytest.mark.parametrize(
    ("host", "names", "given", "answered"),
    [
        ("127.0.0.1", (), "127.0.0.1", True),
        ("localhost", (), "127.0.0.1:1", True),
        ("192.0.2.7", (), "192.0.2.7:8765", True),
        ("192.0.2.7", (), "192.0.2.8", False),
        ("home.example", (), "Home.Example.:80", True),
        ("127.0.0.1", ("panns.example",), "panns.example", True),
        ("127.0.0.1", ("panns.example",), "x.panns.example", False),
        ("0.0.0.0", (), "192.0.2.8:8765", True),
        ("0.0.0.0", (), socket.gethostname(), True),
        ("0.0.0.0", (), f"{socket.gethostname()}.local:8765", True),
        ("0.0.0.0", (), "evil.example", False),
        ("::", (), "[2001:db8::1]:8765", True),
        ("::", (), "[evil.example]", False),
        ("127.0.0.1", (), "0.0.0.0", False),  # browsers take it for this computer
        ("127.0.0.1", (), "[", False),
    ],
)
def test_names_of_the_page(host: str, names: tuple[str, ...], given: str, answered: bool) -> None:
    refusal = Access(host, token=TOKEN, names=names).refusal("GET", {"host": given}, document=True)
    assert (refusal is None) == answered


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "host 0.0.0.0 without a token; expected a token"),
        ({"host": "::"}, "host :: without a token"),
        ({"host": "192.168.0.7"}, "without a token"),
        ({"host": "127.evil.example"}, "without a token"),
        ({"host": ""}, "host ''; expected a name or an address"),
        ({"host": None}, "host None; expected"),
        ({"token": "short"}, "expected 16 … 200 letters, digits"),
        ({"token": "with a space in it, and long"}, "expected 16 … 200"),
        ({"port": -1}, "port -1; expected 1 … 65535, or 0"),
        ({"port": 65536}, "port 65536; expected"),
        ({"port": "8765"}, "port '8765'; expected"),
    ],
)
def test_a_page_for_others_needs_a_token(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ServeError, match=message) as error:
        PageServer(a_page(), Controls(LABELS, EventSettings(), Target()), **options)
    assert "short" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.7", "not an address of this computer; expected one of its own"),
        ("no-such-host.invalid", "expected a name or an address of this computer"),
        ("0", "all interfaces; expected 0.0.0.0 or :: for them"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_clear_error(host: str, message: str) -> None:
    with pytest.raises(ServeError, match=message), serving(a_page(), host=host, token=TOKEN):
        pass


def test_a_port_in_use_is_one_clear_error(server: PageServer) -> None:
    controls = Controls(LABELS, EventSettings(), Target())
    with (
        pytest.raises(ServeError, match=rf"127\.0\.0\.1:{server.port}: already in use; expected a free port"),
        PageServer(a_page(), controls, port=server.port),
    ):
        pass


def test_only_the_chosen_interface_is_listened_on() -> None:
    with serving(a_page()) as server, pytest.raises(OSError):
        socket.create_connection((own_address(), server.port), timeout=5).close()
    with serving(a_page(), host="0.0.0.0", token=TOKEN) as server:
        socket.create_connection((own_address(), server.port), timeout=5).close()
        assert server.url == f"http://{socket.gethostname()}:{server.port}/?token={TOKEN}"


def own_address() -> str:
    """Returns an address of this computer that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.7", 9))  # sends nothing
            address = str(probe.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    # Without another interface: an address that loopback has, and that the page does not listen on.
    return "127.0.0.2" if address.startswith("127.") else address


def test_what_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.0.0.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example")] == [False] * 4
    assert new_token() != new_token()
    Access("0.0.0.0", token=new_token())


def test_starlette_missing_is_said() -> None:
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from panns_litert.live import Controls, PageServer, PageSink\n"
        "from panns_litert.events import EventSettings\n"
        "page = PageSink(('Dog',), model='demo', window=1.0, hop=1.0)\n"
        "PageServer(page, Controls(('Dog',), EventSettings(), None))"
    )
    result = run_python(code, check=False)
    assert "the page needs starlette and uvicorn, which cannot be imported" in result.stderr
    assert "install the extra serve (docs/install.md)" in result.stderr


# ---- thresholds


def test_moved_thresholds_reach_the_listener_and_the_browsers(locked: PageServer) -> None:
    target, page = Target(), a_page()
    with serving(page, target) as server:
        for body, row in (
            ({"index": None, "on": 0.5}, {"on": 0.5, "classes": {}}),
            ({"index": 1, "on": 0.25}, {"on": 0.5, "classes": {"1": 0.25}}),
            ({"index": None, "on": 1}, {"on": 1.0, "classes": {"1": 0.25}}),
            ({"index": 1, "on": None}, {"on": 1.0, "classes": {}}),
        ):
            status, answer = ask(server, "POST", "/thresholds.json", body, **JSON)
            assert (status, json.loads(answer.text)) == (200, row)
            assert target.settings.on == row["on"]
            assert target.settings.of("Dog")["on"] == row["classes"].get("1", row["on"])  # type: ignore[union-attr]
            assert messages(server, count=1)[0][2]["thresholds"] == row


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"on": 0.5}', b'{"index": 1, "on": 0.5, "label": "Dog"}', b"\xff",
        {"index": 3, "on": 0.5}, {"index": -1, "on": 0.5}, {"index": True, "on": 0.5}, {"index": "Dog", "on": 0.5},
        {"index": 1, "on": 0}, {"index": 1, "on": 1.01}, {"index": 1, "on": "0.5"}, {"index": 1, "on": True},
        {"index": None, "on": None}, b'{"index": 1, "on": NaN}', b'{"index": 1, "index": 1, "on": 0.5}',
    ],
)  # fmt: skip
def test_bad_thresholds_are_refused(server: PageServer, body: Any) -> None:
    status, answer = ask(server, "POST", "/thresholds.json", body, **JSON)
    assert status == 400
    assert json.loads(answer.text)["error"]
    assert json.loads(ask(server, path="/thresholds.json")[1].text)["on"] == 0.2


def test_a_large_body_is_refused(server: PageServer) -> None:
    assert ask(server, "POST", "/thresholds.json", b" " * 5000, **JSON)[0] == 413


@pytest.mark.parametrize(
    "settings",
    [
        EventSettings(on=0.2),
        EventSettings(on=0.4, off=0.3, classes={"Dog": {"on": 0.35, "max_gap": 1.0}, "Speech": {"off": 0.4}}),
        EventSettings(on=0.4, off=0.4, classes={"Dog": {"min_duration": 2.0}}),
        EventSettings(on=0.0, off=0.0),
        EventSettings(on=1.0, off=0.0, classes={"Dog": {"on": 0.0, "off": 0.0}}),
    ],
)
def test_any_move_gives_valid_settings(settings: EventSettings, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = Target()
    controls = Controls(LABELS, settings, target)
    for _ in range(200):
        index = int(rng.integers(-1, 3))
        on = None if index >= 0 and rng.random() < 0.3 else round(float(rng.uniform(0.01, 1.0)), 2)
        others = {label: controls.settings.of(label) for label in LABELS if label != LABELS[index]}
        controls.set_on(on, index=None if index < 0 else index)
        now = target.settings
        assert controls.settings is now
        label = None if index < 0 else LABELS[index]
        assert now.of(label)["on"] == (now.on if on is None else on)
        if label is not None:
            assert {other: now.of(other) for other in others} == others
        (tmp_path / "thresholds.json").write_text(json.dumps(controls.document()), encoding="utf-8")
        assert EventSettings.load(tmp_path / "thresholds.json").of("Dog") == now.of("Dog")


def test_off_keeps_its_share_of_on() -> None:
    target = Target()
    controls = Controls(LABELS, EventSettings(on=0.4, off=0.3, max_gap=1.0), target)
    controls.set_on(0.8)
    assert target.settings.of(None)["off"] == pytest.approx(0.6)
    assert target.settings.max_gap == 1.0
    controls.set_on(0.4, index=1)
    assert target.settings.of("Dog")["off"] == pytest.approx(0.3)
    with pytest.raises(EventError, match="index 3; expected the place of a class, 0 … 2"):
        controls.set_on(0.5, index=3)


# ---- messages


def test_a_browser_gets_the_state_then_every_change(server: PageServer) -> None:
    page = a_page()
    page.window("microphone", window(0), np.array([0.5, 0.9, 0.01]))
    page.notice(notice("start"))
    with serving(page) as server:
        (place, kind, state), *_ = messages(server, count=1)
        assert kind == "state"
        assert (state["model"], state["window"], state["hop"]) == ("demo", 10.0, 1.0)
        assert state["labels"] == ["Speech", "Dog", LABELS[2].replace("\u202e", "\\u202e")]
        assert [row["kind"] for row in state["events"]] == ["start"]
        assert state["windows"] == {
            "microphone": [
                {"source": "microphone", "begin": 0.0, "end": 10.0, "unusable": None, "scores": [[1, 0.9], [0, 0.5]]}
            ]
        }
        page.window("microphone", window(1), np.array([0.5, 0.9, 0.01]))
        page.notice(notice("end"))
        page.notice(loss())
        want = ["window", "event", "loss"]
        assert [kind for _, kind, _ in messages(server, f"/events?after={place}", count=3)] == want
        found = messages(server, count=3, Last_Event_ID=place)
        assert found[0][2]["begin"] == 5.5  # half a window minus half a hop, as WindowSteps has it
        assert found[2][2]["why"] == "overflow"
        for other in (
            "",
            "x",
            f"{page.run}-99",
            f"{page.run}-",
            "other-1",
            f"{page.run}-²",
            f"{page.run}-{'9' * 5000}",
        ):
            assert [kind for _, kind, _ in messages(server, count=1, Last_Event_ID=other)] == ["state"], other


def test_memory_is_bounded() -> None:
    page = a_page()
    for k in range(3000):
        page.window("microphone", window(k, hop=0.1), np.full(3, 0.5))
        page.notice(notice(id=f"e{k}"))
        page.notice(loss(start=float(k)))
    for k in range(50):
        page.window(f"source {k}", window(0), np.full(3, 0.5))
    state = json.loads(page.state().data)
    assert len(state["windows"]["microphone"]) == 1000
    assert len(state["windows"]) == 16
    assert [row["id"] for row in state["events"]] == [f"e{k}" for k in range(2800, 3000)]
    assert len(state["losses"]) == 50
    assert page.since(0) is None
    assert len(page.since(json.loads(page.state().data) and page.state().number - 100) or ()) == 100


def test_open_events_outlive_ended_ones() -> None:
    page = a_page()
    page.notice(notice("start", id="alarm"))
    for k in range(300):
        page.notice(notice(id=f"e{k}"))
    rows = json.loads(page.state().data)["events"]
    assert [row["id"] for row in rows[:2]] == ["alarm", "e101"]


def test_a_restarted_stream_goes_on_at_its_time() -> None:
    page = a_page()
    for k in range(3):
        page.window("microphone", window(k), np.full(3, 0.5))
    for k in range(3):
        page.window("microphone", window(k, start=100.0), np.full(3, 0.5))
    rows = json.loads(page.state().data)["windows"]["microphone"]
    assert [row["begin"] for row in rows] == [0.0, 5.5, 6.5, 100.0, 105.5, 106.5]


def test_a_sound_is_told_when_it_has_been_saved(clip: Path, tmp_path: Path) -> None:
    clips = Folder()
    page = a_page(clips=clips)
    page.notice(notice())
    page.look_for_clips()
    assert json.loads(page.state().data)["events"][0]["clip"] is False
    clips.paths["e1"] = tmp_path / "not yet.flac"
    page.look_for_clips()
    assert page.clip_path("e1") is None
    (tmp_path / "not yet.flac").write_bytes(clip.read_bytes())
    page.look_for_clips()
    assert [m.kind for m in page.since(0) or ()] == ["event", "clip"]
    assert page.clip_path("e1") == tmp_path / "not yet.flac"
    (tmp_path / "not yet.flac").unlink()  # for example, because the folder has reached its limit
    with serving(page) as server:
        assert ask(server, path="/clips/e1")[0] == 404


def test_a_browser_that_takes_nothing_is_dropped_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webapp, "_STALLED_SECONDS", 0.5)
    page = a_page()
    why = "x" * 10_000  # the system's own buffers are large
    with caplog.at_level(logging.INFO), serving(page) as server, socket.socket() as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        browser.connect(("127.0.0.1", server.port))
        browser.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until, spent = time.monotonic() + 60, 0.0
        while "a browser that took no messages was dropped" not in caplog.text:
            assert time.monotonic() < until
            start = time.perf_counter()
            for _ in range(100):
                page.notice(loss(why=why))
            spent = max(spent, time.perf_counter() - start)
            assert messages(server, count=1)[0][1] == "state"  # others are served meanwhile
        assert spent < 5


def test_browsers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webapp, "_MOST_BROWSERS", 2)
    with serving(a_page()) as server:
        opened = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(2)]
        for connection in opened:
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1)
        status, answer = ask(server, path="/events")
        assert (status, answer.text) == (503, "2 browsers have the page open; close one.")
        for connection in opened:
            connection.close()
        eventually(lambda: has_room(server))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nG",  # answered, and begins another request
        b"POST /thresholds.json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{",
    ],
)
def test_connections_that_bring_no_request_take_no_place_for_ever(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody could shut out everybody, without the token."""
    monkeypatch.setattr("panns_litert.live.server._REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(webapp, "_STALLED_SECONDS", 0.5)
    with serving(a_page()) as server, contextlib.ExitStack() as stack:
        browser = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        stack.callback(browser.close)
        browser.request("GET", "/events")
        answer = browser.getresponse()
        for _ in range(70):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            with contextlib.suppress(OSError):  # beyond 64, it is refused at once
                connection.sendall(sent)
        eventually(lambda: ask(server)[0] == 200)
        server._page.tell("still", {})
        while answer.readline().strip() != b"event: still":  # which does not end, whoever else comes
            pass


def has_room(server: PageServer) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    answer.close()
    connection.close()
    return answer.status == 200


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_server_ends_with_browsers_open() -> None:
    page = a_page()
    with serving(page) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        answer.readline()
        page.close()
    text = answer.read().decode()
    assert "event: ended" in text
    assert not server._thread.is_alive()
