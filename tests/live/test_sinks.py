"""Sinks that write lines and files or post to a web address, and the outbox behind them."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

import pytest
from brokers import free_port, until
from disks import small_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from notices import BERLIN, event, iso, lost
from webserver import hook

from panns_litert.errors import ResultsError, SettingsError
from panns_litert.live import CsvSink, EventNotice, JsonLinesSink, Sink, TextSink, WebhookSink, notice_row
from panns_litert.live.daily import COLUMNS
from panns_litert.live.outbox import NotNow, Outbox

OK = (200, {}, 0.0)
QUICK = (0.02, 0.05)  # pauses, seconds


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# Lines


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    sink = TextSink(sys.stdout)
    for notice in (event("start", label="Do\x1b[31mg\n"), event("update"), lost(why="over\x07flow"), event("end")):
        sink.notice(notice)
    sink.close()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        r"2026-11-29 02:31:17  start  Do\x1b[31mg\n  0.80  microphone",
        "2026-11-29 02:31:19  end    Dog  0.80  microphone  2.0 s",
    ]
    assert err == "2026-11-29 02:31:10  lost   0.5 s of microphone: over\\x07flow\n"
    assert (sink.problems, sink.ended) == ((), False)


def test_json_lines() -> None:
    stream = io.StringIO()
    sink = JsonLinesSink(stream)
    notices = [event("start", label="Hund\u2028\x9b\udce9"), event("update"), lost(), event("end")]
    for notice in notices:
        sink.notice(notice)
    lines = stream.getvalue().split("\n")
    assert [json.loads(line) for line in lines[1:-1]] == [notice_row(notice) for notice in notices[1:]]
    assert json.loads(lines[0])["label"] == "Hund\u2028\x9b\\xe9"
    assert "\u2028" not in stream.getvalue()


@contextmanager
def opened(target: int | str) -> Iterator[TextIO]:
    """Opens a stream to write. Closing it may fail: it still has what could not be written."""
    stream = open(target, "w")  # noqa: SIM115
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()


@pytest.mark.parametrize("kind", [TextSink, JsonLinesSink])
def test_a_closed_pipe_ends_a_sink_and_is_no_problem(kind: type[TextSink | JsonLinesSink]) -> None:
    read, write = os.pipe()
    with opened(write) as stream:
        sink = kind(stream)
        sink.notice(event("start"))
        assert os.read(read, 1000)
        assert not sink.ended
        os.close(read)
        sink.notice(event("end"))
        sink.notice(event("start"))
        assert (sink.ended, sink.problems) == (True, ())


@pytest.mark.parametrize("kind", [TextSink, JsonLinesSink])
def test_a_full_disk_ends_a_sink_with_a_problem(kind: type[TextSink | JsonLinesSink]) -> None:
    with opened("/dev/full") as stream:
        sink = kind(stream)
        sink.notice(event("start"))
        assert sink.ended
        assert sink.problems == (f"{sink.name}: the output cannot be written: No space left on device",)


def test_a_sink_that_does_nothing() -> None:
    sink = Sink()
    sink.notice(event("start"))
    sink.close()
    assert (sink.problems, sink.ended) == ((), False)


# CSV by day


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(folder: Path, *events: EventNotice) -> CsvSink:
    sink = CsvSink(folder)
    for notice in events:
        sink.notice(notice)
    sink.close()
    return sink


def test_a_row_for_each_event_that_ended_and_a_file_for_each_day(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    midnight = datetime(2026, 11, 30, tzinfo=BERLIN).timestamp()
    night = [
        event("end", "a", start=0, end=3, epoch=midnight - 5),
        event("end", "b", "=Dog", start=0, end=20, epoch=midnight - 0.001),  # ends on the next day
        event("end", "c", "Baby cry, infant cry", start=0, end=1, epoch=midnight),
    ]
    sink = write(folder, event("start"), night[0], event("update"), lost(), *night[1:])  # type: ignore[arg-type]
    assert sink.problems == ()
    assert sorted(path.name for path in folder.iterdir()) == ["events-2026-11-29.csv", "events-2026-11-30.csv"]
    first, second = (rows(path) for path in sorted(folder.iterdir()))
    assert [row["id"] for row in first] == ["a", "b"]
    assert first[1]["label"] == "'=Dog", "a spreadsheet must not run it"
    assert second == [
        {
            "time": "2026-11-30T00:00:00.000+01:00", "end_time": "2026-11-30T00:00:01.000+01:00",
            "source": "microphone", "start": "0.000000", "end": "1.000000", "label": "Baby cry, infant cry",
            "index": "74", "id": "c", "score": "0.800000",
        }
    ]  # fmt: skip
    write(folder, event("end", "d", start=0, end=1, epoch=midnight))  # the next run
    assert [row["id"] for row in rows(folder / "events-2026-11-30.csv")] == ["c", "d"]


@settings(max_examples=60)
@given(
    zone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo", "UTC"]),
    hours=st.lists(st.floats(0, 24 * 366), min_size=1, max_size=6),
    labels=st.lists(st.text(max_size=12), min_size=6, max_size=6),
)
def test_each_event_is_in_the_file_of_its_own_local_day(
    zone: str, hours: list[float], labels: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Over a year with both changes of the clocks; Cairo's is at midnight."""
    folder = tmp_path_factory.mktemp("days")
    first = datetime(2026, 1, 1, tzinfo=UTC)
    sink, want = CsvSink(folder), {}
    for n, hour in enumerate(hours):
        when = (first + timedelta(hours=hour)).astimezone(ZoneInfo(zone))
        stamp = iso(when.timestamp(), ZoneInfo(zone))
        notice = event("end", f"e{n}", labels[n])
        sink.notice(EventNotice(**{**notice_row(notice), "time": stamp, "label": labels[n]}))
        want[f"e{n}"] = f"events-{when:%Y-%m-%d}.csv"
    sink.close()
    assert sink.problems == ()
    found = {row["id"]: path.name for path in folder.iterdir() for row in rows(path)}
    assert found == want
    for path in folder.iterdir():
        lines = path.read_bytes().split(b"\n")
        assert len(lines) == len(rows(path)) + 2, "a row is a line, whatever the label has in it"
        for row in rows(path):
            assert set(row) == set(COLUMNS)
            assert row["label"][:1] not in ("=", "+", "-", "@") or len(row["label"]) == 1


def day(folder: Path) -> Path:
    return folder / "events-2026-11-29.csv"


def test_a_torn_last_row_is_removed_and_told_wherever_it_was_torn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, event("end", "a"), event("end", "b", 'Say "x", then'))
    whole = day(tmp_path).read_bytes()
    end_of_a = whole.index(b"\n", whole.index(b",a,")) + 1
    for cut in [*range(1, len(whole) - 1, 7), end_of_a, end_of_a - 1, len(whole) - 1, len(whole)]:
        day(tmp_path).write_bytes(whole[:cut])
        caplog.clear()
        write(tmp_path, event("end", "next"))
        ids = [row["id"] for row in rows(day(tmp_path))]
        kept = (["a"] if cut >= end_of_a - 1 else []) + (["b"] if cut >= len(whole) - 1 else [])
        assert ids == [*kept, "next"], cut
        assert all(None not in row and None not in row.values() for row in rows(day(tmp_path)))
        torn = whole[:cut].rpartition(b"\n")[2]
        assert ("torn" in caplog.text) == (bool(torn) and cut not in (end_of_a - 1, len(whole) - 1)), cut


def test_a_file_of_other_columns_is_left_alone_and_the_events_wait(tmp_path: Path) -> None:
    day(tmp_path).write_text("start,end,label\n1,2,Dog\n")
    sink = CsvSink(tmp_path)
    sink.notice(event("end"))
    until(lambda: sink.problems)
    assert "other columns" in sink.problems[0]
    day(tmp_path).rename(tmp_path / "mine.csv")
    until(lambda: not sink.problems)
    sink.close()
    assert [row["id"] for row in rows(day(tmp_path))] == ["a1"]
    assert (tmp_path / "mine.csv").read_text() == "start,end,label\n1,2,Dog\n"


def test_a_disk_that_is_full_for_a_while_loses_no_row(tmp_path: Path) -> None:
    with small_disk(tmp_path, "64k") as disk:
        filler = disk / "filler"
        write(disk, event("end", "a"))
        room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(bytes(room))
        with day(disk).open("ab") as file:  # the page that the file has already
            file.write(b"x" * (4096 - day(disk).stat().st_size - 150))
            file.write(b"\n")
        before = day(disk).read_bytes()
        sink = CsvSink(disk)
        for n in range(3):
            sink.notice(event("end", f"b{n}"))
        until(lambda: sink.problems)
        assert "No space left on device" in sink.problems[0]
        assert day(disk).read_bytes()[: len(before)] == before
        assert day(disk).read_bytes().endswith(b"\n"), "no half row"
        filler.unlink()
        until(lambda: not sink.problems)
        sink.close()
        ids = [row["id"] for row in rows(day(disk))]
        assert (ids[0], ids[2:]) == ("a", ["b0", "b1", "b2"])


def test_two_sinks_write_to_one_folder(tmp_path: Path) -> None:
    sinks = [CsvSink(tmp_path), CsvSink(tmp_path)]
    for n in range(20):
        for k, sink in enumerate(sinks):
            sink.notice(event("end", f"s{k}-{n}"))
    for sink in sinks:
        sink.close()
        assert sink.problems == ()
    assert len(rows(day(tmp_path))) == 40


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="expected a folder"):
        CsvSink(tmp_path / "file")


# Webhook


def test_a_webhook_gets_each_notice_in_order() -> None:
    with hook(OK) as server:
        sink = WebhookSink(f"http://me:pa%20ss@127.0.0.1:{server.port}/hooks/T0KEN?x=1", headers={"X-Key": "secret"})
        notices = [event("start", label="Hündin"), event("update"), lost(), event("end")]
        for notice in notices:
            sink.notice(notice)
        sink.close()
        assert sink.problems == ()
        assert [body for _, _, body in server.got] == [notice_row(n) for n in notices if n.kind != "update"]
        path, headers, _ = server.got[0]
        assert path == "/hooks/T0KEN?x=1"
        assert headers["Content-Type"] == "application/json"
        assert (headers["X-Key"], headers["Authorization"]) == ("secret", "Basic bWU6cGEgc3M=")


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_it_is_tried_again_and_the_order_stays(status: int) -> None:
    with hook((status, {}, 0.0), (status, {}, 0.0), OK) as server:
        sink = WebhookSink(f"http://127.0.0.1:{server.port}/", pauses=QUICK)
        sink.notice(event("start"))
        sink.notice(event("end"))
        until(lambda: len(server.got) == 4)
        sink.close()
        assert server.sent == [("a1", "start")] * 3 + [("a1", "end")]
        assert sink.problems == ()


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_it_waits_as_long_as_the_server_asks(form: str) -> None:
    when = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    with hook((429, {"Retry-After": when}, 0.0), OK) as server:
        sink = WebhookSink(f"http://127.0.0.1:{server.port}/", pauses=QUICK)
        sink.notice(event("start"))
        until(lambda: len(server.got) == 2)
        sink.close()
        assert server.times[1] - server.times[0] > 0.9


def test_what_the_server_refuses_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    with hook((404, {}, 0.0), (404, {}, 0.0), OK) as server:
        sink = WebhookSink(f"http://127.0.0.1:{server.port}/T0KEN", pauses=QUICK)
        for kind in ("start", "end", "start"):
            sink.notice(event(kind))  # type: ignore[arg-type]
        sink.close()
        assert len(server.got) == 3
        assert sink.problems == (f"webhook: 2 notices not delivered: 127.0.0.1:{server.port} answers 404",)
        assert "T0KEN" not in caplog.text


def test_a_notice_that_breaks_the_server_does_not_hold_up_the_others_for_ever() -> None:
    with hook(*[(500, {}, 0.0)] * 10, OK) as server:
        sink = WebhookSink(f"http://127.0.0.1:{server.port}/", pauses=(0.001, 0.002))
        sink.notice(event("start"))
        sink.notice(event("end"))
        until(lambda: len(server.got) == 11)
        sink.close()
        assert server.sent == [("a1", "start")] * 10 + [("a1", "end")]
        assert "1 notice not delivered" in sink.problems[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(status: int) -> None:
    with hook(OK) as other, hook((status, {"Location": f"http://127.0.0.1:{other.port}/x"}, 0.0)) as server:
        sink = WebhookSink(f"http://127.0.0.1:{server.port}/", headers={"Authorization": "Bearer secret"})
        sink.notice(event("start"))
        sink.close()
        assert (len(server.got), len(other.got)) == (1, 0)
        assert f"redirects to 127.0.0.1:{other.port}" in sink.problems[0]


def test_a_server_that_is_down_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    sink = WebhookSink(f"http://user:passw0rd@127.0.0.1:{port}/T0KEN", most_waiting=3, pauses=QUICK)
    for n in range(8):
        sink.notice(event("start", f"e{n}"))
    until(lambda: any("Connection refused" in problem for problem in sink.problems))
    with hook(OK, port=port) as server:
        until(lambda: sink.problems[1:] == ())
        sink.close()
        assert [id for id, _ in server.sent][-3:] == ["e5", "e6", "e7"]
        assert sink.problems[0].startswith(f"webhook: {8 - len(server.got)} notices not delivered")
    text = caplog.text + "".join(sink.problems)
    assert "passw0rd" not in text
    assert "T0KEN" not in text
    assert text.count("is tried again") == 1


def test_a_slow_server_holds_up_nothing_but_its_own_notices() -> None:
    with hook((200, {}, 30.0)) as server:
        sink = WebhookSink(f"http://127.0.0.1:{server.port}/", timeout=0.2, pauses=(5.0, 5.0))
        started = time.monotonic()
        for _ in range(50):
            sink.notice(event("start"))
        assert time.monotonic() - started < 2
        until(lambda: any("no answer in time" in problem for problem in sink.problems))
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 8
        assert sink.problems == (f"webhook: 50 notices not delivered: 127.0.0.1:{server.port}: no answer in time",)


def test_a_server_that_never_ends_its_answer() -> None:
    """A timeout is only for each read: one byte before each would hold up all notices for ever."""
    tries: list[socket.socket] = []

    def drip(connection: socket.socket) -> None:
        tries.append(connection)
        with connection, suppress(OSError):
            while True:
                connection.sendall(b"H")
                time.sleep(0.1)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        sink = WebhookSink(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.4, pauses=QUICK)
        sink.notice(event("start"))
        until(lambda: len(tries) > 2)
        assert "no answer in time; 1 notice waiting" in sink.problems[0]
        sink.close()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://host/", "http://", "https:///x", "http://ho st/", "http://host:99999/", "http://host/\nx", "host/path",
     "http://höst/", "file:///etc/passwd", "http://[::1/"],
)  # fmt: skip
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(SettingsError, match="expected https://HOST/PATH"):
        WebhookSink(url)


def test_settings_of_a_webhook_that_cannot_be() -> None:
    for headers in ({"X-Key": "se\ncret"}, {"X Key": "secret"}, {"": "secret"}, {"X-Key": "sécret"}):
        with pytest.raises(SettingsError, match="expected a name and a value") as caught:
            WebhookSink("http://127.0.0.1/", headers=headers)
        assert "cret" not in str(caught.value)
    for options in ({"timeout": 0}, {"timeout": float("nan")}, {"most_waiting": 0}):
        with pytest.raises(SettingsError, match="at least 1 notice"):
            WebhookSink("http://127.0.0.1/", **options)  # type: ignore[arg-type]


# The outbox


@contextmanager
def stuck() -> Iterator[tuple[Outbox[int], threading.Event]]:
    """An outbox whose deliveries wait for an event."""
    free = threading.Event()
    box: Outbox[int] = Outbox("test", lambda _: free.wait(30) and None, most_waiting=2)
    try:
        yield box, free
    finally:
        free.set()


def test_close_waits_only_so_long_and_counts_what_is_left() -> None:
    with stuck() as (box, free):
        for n in range(3):
            box.put(n)
            until(lambda: box.waiting)
            time.sleep(0.05)
        started = time.monotonic()
        box.close(0.3)
        assert 0.2 < time.monotonic() - started < 10
        assert box.problems == ("test: 3 notices not delivered: it took too long",)
        free.set()
        box.put(4)
        time.sleep(0.1)
        assert box.problems == ("test: 3 notices not delivered: it took too long",)


@settings(max_examples=30)
@given(fails=st.lists(st.integers(0, 2), max_size=12))
def test_every_item_is_delivered_once_and_in_order(fails: list[int]) -> None:
    """Item n fails `fails[n]` times before it is delivered."""
    got: list[int] = []
    left = dict(enumerate(fails))

    def deliver(n: int) -> None:
        if left[n]:
            left[n] -= 1
            raise NotNow("busy")
        got.append(n)

    box = Outbox("test", deliver, pauses=(0.0, 0.0))
    for n in range(len(fails)):
        box.put(n)
    until(lambda: not box.waiting)
    box.close()
    assert got == list(range(len(fails)))
    assert box.problems == ()


def test_a_fault_of_one_delivery_ends_neither_the_others_nor_shows_secrets() -> None:
    got = []

    def deliver(n: int) -> None:
        if n == 1:
            raise ValueError("Invalid header value b'secret'")
        got.append(n)

    box = Outbox("test", deliver)
    for n in range(3):
        box.put(n)
    box.close()
    assert got == [0, 2]
    assert box.problems == ("test: 1 notice not delivered: ValueError",)


def test_a_program_ends_although_a_server_never_answers() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[2])
from notices import event
from panns_litert.live import WebhookSink
sink = WebhookSink(f"http://127.0.0.1:{sys.argv[1]}/", timeout=60)
sink.notice(event("start"))
sink.close()
print(sink.problems)
"""
    with hook((200, {}, 30.0)) as server:
        environment = os.environ | {"no_proxy": "127.0.0.1"}
        result = subprocess.run(
            [sys.executable, "-c", code, str(server.port), str(Path(__file__).parent)],
            capture_output=True, text=True, timeout=25, env=environment, check=True,
        )  # fmt: skip
        assert "1 notice not delivered" in result.stdout
