"""The listener: several sources and one model, losses, overload, errors, changed thresholds, and the end."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from panns_litert import Tagger
from panns_litert.errors import AudioError, BundleError, LabelError, WindowError
from panns_litert.events import EventSettings
from panns_litert.live import (
    SLOWER,
    EventNotice,
    FileSource,
    Heard,
    Listened,
    Listener,
    LossNotice,
    Lost,
    Notice,
    Sink,
    Source,
)
from panns_litert.live.listener import _Waiting
from panns_litert.windows import StreamTagger, Window, find_events

RATE = 32000
BEGAN = 1_780_000_000.0


class Items:
    """A source of given items, such as a microphone that loses sound."""

    def __init__(
        self,
        items: Sequence[Heard | Lost | Exception],
        *,
        name: str = "items",
        live: bool = False,
        pause: float = 0.0,
        stays: bool = False,
    ) -> None:
        self._items, self.name, self.live, self._pause, self._stays = items, name, live, pause, stays
        self._closed = threading.Event()
        self.given = 0.0  # seconds

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Heard | Lost]:
        for item in self._items:
            if self._closed.wait(self._pause):
                return
            if isinstance(item, Exception):
                raise item
            self.given += len(item.samples) / RATE if isinstance(item, Heard) else item.seconds
            yield item
        if self._stays:
            self._closed.wait()

    def close(self) -> None:
        self._closed.set()


class Kept(Sink):
    """Keeps what a sink gets."""

    name = "kept"

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.windows: list[tuple[str, Window, NDArray[np.float64]]] = []
        self.parts: list[tuple[str, float, int]] = []
        self.closed = False
        self.threads: set[int] = set()

    def samples(self, source: str, samples: NDArray[np.float32], start: float) -> None:
        self.parts.append((source, start, len(samples)))

    def window(self, source: str, window: Window, scores: NDArray[np.float64]) -> None:
        self.windows.append((source, window, scores))

    def notice(self, notice: Notice) -> None:
        self.threads.add(threading.get_ident())
        self.notices.append(notice)

    def close(self) -> None:
        self.closed = True

    @property
    def events(self) -> list[EventNotice]:
        return [notice for notice in self.notices if isinstance(notice, EventNotice)]

    @property
    def losses(self) -> list[LossNotice]:
        return [notice for notice in self.notices if isinstance(notice, LossNotice)]


class SlowTagger(Tagger):
    """The demo model on a slow machine."""

    pause = 0.1

    def run(self, *arguments: Any, **more: Any) -> Any:
        time.sleep(self.pause)
        return super().run(*arguments, **more)


class FailingTagger(Tagger):
    """The demo model on a machine that fails on some windows."""

    fails: Callable[[int], bool] = staticmethod(lambda _: True)
    runs = 0

    def run(self, *arguments: Any, **more: Any) -> Any:
        self.runs += 1
        if self.fails(self.runs):
            raise BundleError("the accelerator is gone; expected one that stays")
        return super().run(*arguments, **more)


def heard(sound: NDArray[np.float32], *, at: float = 0.0, chunk: float = 0.5) -> list[Heard]:
    """Returns sound in chunks, from `at` seconds on."""
    step = round(chunk * RATE)
    return [
        Heard(samples=sound[start : start + step], time=BEGAN + at + start / RATE)
        for start in range(0, len(sound), step)
    ]


def lost(seconds: float, *, at: float = 0.0, why: str = "overflow") -> Lost:
    return Lost(seconds=seconds, why=why, time=BEGAN + at)


def listen(tagger: Tagger, *sources: Any, **options: Any) -> tuple[Listened, Kept]:
    kept = Kept()
    result = Listener(tagger, sources, [kept], **options).run()
    assert kept.closed
    assert len(kept.threads) <= 1
    require_phases(kept)
    return result, kept


def require_phases(kept: Kept) -> None:
    """Checks that each event has one start, then updates, then one end."""
    phases: dict[str, list[str]] = {}
    for event in kept.events:
        phases.setdefault(event.id, []).append(event.kind)
        assert re.fullmatch("[A-Za-z0-9_-]+", event.id)
    for seen in phases.values():
        assert (seen[0], seen[-1], set(seen[1:-1]) <= {"update"}, len(seen) > 1) == ("start", "end", True, True)


def ends(kept: Kept, source: str | None = None) -> list[tuple[str, float, float, float]]:
    found = (e for e in kept.events if e.kind == "end" and source in (None, e.source))
    return sorted((e.label, e.start, e.end, e.score) for e in found)


def test_two_sources_share_a_model(tagger: Tagger, recording: Path, demo_sound: NDArray[np.float32]) -> None:
    """The events are those of find_events, whatever the chunks; ids differ; clock times are those of the source."""
    file = FileSource(recording, RATE, start_time=BEGAN)
    pieces = Items(heard(demo_sound, chunk=0.07), name="pieces", live=True)
    result, kept = listen(tagger, file, pieces, hop=2.0, behind=60.0)
    want = sorted((e.label, e.start, e.end, e.score) for e in find_events(tagger, recording, hop=2.0))
    assert len(want) > 5
    assert ends(kept, file.name) == want
    assert ends(kept, "pieces") == want
    assert len({event.id for event in kept.events}) == 2 * len(want)
    for event in kept.events:
        assert datetime.fromisoformat(event.time).timestamp() == pytest.approx(BEGAN + event.start, abs=2e-3)
        assert datetime.fromisoformat(event.end_time).timestamp() == pytest.approx(BEGAN + event.end, abs=2e-3)
        assert datetime.fromisoformat(event.told).tzinfo is not None
    for row in result.sources:
        assert (row.seconds, row.heard, row.lost, row.events) == (21.5, pytest.approx(21.5), {}, len(want))
        assert (row.windows, row.unusable, row.failed, row.skipped, row.error) == (7, 0, 0, 0.0, None)
    for name in (file.name, "pieces"):
        parts = [(start, count) for source, start, count in kept.parts if source == name]
        assert sum(count for _, count in parts) == len(demo_sound)
        assert [start for start, _ in parts] == pytest.approx(
            np.cumsum([0] + [count for _, count in parts])[:-1] / RATE, abs=1e-6
        )
    # In turns: neither source is served twice as often as the other while both have sound.
    order = [source for source, *_ in kept.windows]
    assert set(order[:2]) == set(order[2:4]) == {file.name, "pieces"}


def test_overload_skips_the_oldest_sound(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    """A model that takes longer than a hop: what is skipped is said, what is tagged is whole and new."""
    slow = SlowTagger(threads=1)
    sound = np.tile(demo_sound, 20)  # 430 s
    source = Items(heard(sound), live=True, pause=0.004, name="microphone")  # at 100 times its speed
    result, kept = listen(slow, source, hop=1.0)
    (row,) = result.sources
    assert row.seconds == pytest.approx(430.0)
    assert row.skipped > 100.0
    assert row.lost == {SLOWER: pytest.approx(row.skipped)}
    assert row.heard + row.skipped == pytest.approx(430.0)
    assert f"lost: {SLOWER}" in str(row)
    assert len(kept.losses) > 3
    assert sum(loss.seconds for loss in kept.losses) == pytest.approx(row.skipped)
    assert row.unusable == 0
    assert row.windows == len(kept.windows) > 5
    for loss in kept.losses:
        assert loss.why == SLOWER
        assert loss.seconds >= 10.0  # rarely and much, so that whole windows remain
        assert datetime.fromisoformat(loss.time).timestamp() == pytest.approx(BEGAN + loss.start, abs=1e-3)
        end = loss.start + loss.seconds
        assert not any(window.start < end - 1e-6 and window.end > loss.start + 1e-6 for _, window, _ in kept.windows)
        assert not any(e.start < end - 1e-6 and e.end > loss.start + 1e-6 for e in kept.events if e.kind == "end")
    # What lies between two losses has the windows that it has alone: the time is true after every loss.
    begins = [0.0, *(loss.start + loss.seconds for loss in kept.losses)]
    ends = [*(loss.start for loss in kept.losses), row.seconds]
    found = iter(window for _, window, _ in kept.windows)
    for begin, end in zip(begins, ends, strict=True):
        stream = StreamTagger(tagger, hop=1.0)
        own = stream.push(sound[round(begin * RATE) : round(end * RATE)])
        for window in own + (stream.finish() if end == row.seconds else []):
            same = next(found)
            assert (same.start, same.end) == (pytest.approx(begin + window.start), pytest.approx(begin + window.end))
            assert same.probs == pytest.approx(window.probs, abs=1e-5)
    assert not list(found)


def test_a_source_that_is_not_live_waits(demo_sound: NDArray[np.float32]) -> None:
    source = Items(heard(np.tile(demo_sound, 2)), name="file")
    ahead = []

    class Watch(Kept):
        def window(self, name: str, window: Window, scores: NDArray[np.float64]) -> None:
            super().window(name, window, scores)
            ahead.append(source.given - window.end)

    kept = Watch()
    (row,) = Listener(SlowTagger(threads=1), [source], [kept], hop=2.0).run().sources
    assert (row.seconds, row.skipped, kept.losses) == (pytest.approx(43.0), 0.0, [])
    assert max(ahead) <= 20.0 + 2.0 + 0.5  # two windows wait, and what is being tagged


def test_a_short_loss_makes_windows_unusable(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    cut = 12 * RATE
    items = [*heard(demo_sound[:cut]), lost(0.25, at=12.0), *heard(demo_sound[cut:], at=12.25)]
    result, kept = listen(tagger, Items(items), hop=1.0)
    (row,) = result.sources
    assert row.seconds == pytest.approx(21.75)
    assert (row.lost, row.skipped, row.failed) == ({"overflow": 0.25}, 0.0, 0)
    spoilt = [window for _, window, _ in kept.windows if window.unusable]
    assert len(spoilt) == row.unusable > 3
    for window in spoilt:
        assert window.start < 12.25
        assert window.end > 12.0
    (loss,) = kept.losses
    assert (loss.start, loss.seconds, loss.why) == (12.0, 0.25, "overflow")


def test_a_loss_at_the_end_spoils_nothing_before_it(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    cut = Lost(seconds=2.0, why="the file is cut", time=BEGAN + 5.0, last=True)
    result, kept = listen(tagger, Items([*heard(demo_sound[: 5 * RATE]), cut]), hop=1.0)
    (row,) = result.sources
    assert (row.seconds, row.lost, row.unusable) == (pytest.approx(7.0), {"the file is cut": 2.0}, 0)
    whole, kept_whole = listen(tagger, Items(heard(demo_sound[: 5 * RATE])), hop=1.0)
    assert ends(kept) == ends(kept_whole) != []
    assert row.windows == whole.sources[0].windows


@pytest.mark.parametrize("seconds", [10.0, 3600.0, 30 * 86400.0])
def test_a_long_loss_starts_anew_at_the_true_time(
    tagger: Tagger, demo_sound: NDArray[np.float32], recording: Path, seconds: float
) -> None:
    items = [*heard(demo_sound), lost(seconds, at=21.5, why="unplugged"), *heard(demo_sound, at=21.5 + seconds)]
    began = time.process_time()
    result, kept = listen(tagger, Items(items), hop=2.0)
    assert time.process_time() - began < 30  # whatever the length of the loss: as for 43 s of sound
    (row,) = result.sources
    assert row.seconds == pytest.approx(43.0 + seconds)
    assert row.heard == pytest.approx(43.0)
    assert row.windows == 14
    once = [(e.label, e.start, e.end, e.score) for e in find_events(tagger, recording, hop=2.0)]
    want = [(label, start + at, end + at, score) for at in (0.0, 21.5 + seconds) for label, start, end, score in once]
    for found, wanted in zip(ends(kept), sorted(want), strict=True):
        assert found == (wanted[0], *map(pytest.approx, wanted[1:]))
    for event in kept.events:
        assert datetime.fromisoformat(event.time).timestamp() == pytest.approx(BEGAN + event.start, abs=2e-3)
    first = next(i for i, event in enumerate(kept.events) if event.start > 21.5)
    before = Counter(event.kind for event in kept.events[:first])
    assert before["start"] == before["end"] == len(once)  # open events end with the loss


def test_cooldown_and_numbers_outlast_a_loss(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    """An alarm that goes on while sound is lost again and again gives one alert."""
    part = demo_sound[: 12 * RATE]
    items: list[Any] = []
    for k in range(4):
        at = k * 27.0
        items += [*heard(part, at=at), lost(15.0, at=at + 12.0)]
    without, kept = listen(tagger, Items(items), hop=2.0)
    labels = Counter(event.label for event in kept.events if event.kind == "start")
    assert labels["Church bell"] == 4
    _, kept = listen(tagger, Items(items), hop=2.0, settings=EventSettings(cooldown=1000.0))
    assert set(Counter(event.label for event in kept.events if event.kind == "start").values()) == {1}
    assert without.sources[0].events > len({event.id for event in kept.events})


def test_a_source_that_fails_does_not_end_the_others(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    told: list[str] = []
    bad = Items([*heard(demo_sound[: 11 * RATE]), AudioError("gone; expected it to stay")], name="bad")
    worse = Items([RuntimeError("a driver's own error")], name="worse")
    good = Items(heard(demo_sound), name="good")
    result, _ = listen(tagger, bad, worse, good, hop=2.0, tell=told.append)
    rows = {row.name: row for row in result.sources}
    assert rows["bad"].error == "gone; expected it to stay"
    assert rows["bad"].windows == 2  # also the one at its end
    assert "a driver's own error" in (rows["worse"].error or "")
    assert (rows["good"].error, rows["good"].windows) == (None, 7)
    assert len(told) == 2
    with pytest.raises(AudioError, match="no device"):
        Listener(tagger, [Items([AudioError("no device")], name="a")], tell=told.append).run()


def test_a_model_that_fails_on_a_window(demo_sound: NDArray[np.float32]) -> None:
    tagger = FailingTagger(threads=1)
    tagger.fails = lambda run: run == 3
    result, kept = listen(tagger, Items(heard(demo_sound)), hop=2.0)
    (row,) = result.sources
    assert (row.windows, row.failed) == (6, 1)
    (loss,) = kept.losses
    assert "the model failed: the accelerator is gone" in loss.why
    assert loss.seconds == pytest.approx(2.0)
    tagger.fails = lambda run: True
    with pytest.raises(BundleError, match="the accelerator is gone"):
        Listener(tagger, [Items(heard(demo_sound))], [kept], hop=0.5).run()


def test_a_sink_that_fails_does_not_end_listening(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    class Failing(Sink):
        name = "failing"

        def notice(self, _: Notice) -> None:
            raise ValueError("out of paper")

        def close(self) -> None:
            time.sleep(60)

    told: list[str] = []
    kept = Kept()
    began = time.monotonic()
    result = Listener(tagger, [Items(heard(demo_sound))], [Failing(), kept], hop=2.0, tell=told.append).run()
    assert time.monotonic() - began < 30  # it does not wait for a sink for ever
    require_phases(kept)
    assert result.sources[0].events == len([e for e in kept.events if e.kind == "end"]) > 5
    assert len(told) == 1
    assert ["out of paper" in problem for problem in result.problems] == [True]


def test_listening_ends_when_nobody_reads(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    class Closing(Sink):
        def notice(self, _: Notice) -> None:
            self.ended = True

    (row,) = Listener(tagger, [Items(heard(np.tile(demo_sound, 50)))], [Closing()]).run().sources
    assert row.seconds < 60


def test_thresholds_change_while_listening(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    """An open event goes on above its new `off`, and ends below it. No start is taken back."""
    kept = Kept()
    listener: Listener

    class Moving(Sink):
        def window(self, _: str, window: Window, scores: NDArray[np.float64]) -> None:
            if window.index == 3:
                listener.set_settings(EventSettings(on=1.0, off=1.0, min_duration=500.0))

    listener = Listener(tagger, [Items(heard(np.tile(demo_sound, 2)))], [Moving(), kept], hop=2.0)
    listener.run()
    require_phases(kept)
    assert {event.kind for event in kept.events} >= {"start", "end"}
    assert max(event.end for event in kept.events) <= 4 * 2.0 + 6.0
    with pytest.raises(LabelError, match="did you mean 'Siren'"):
        listener.set_settings(EventSettings(classes={"Sirene": {"on": 0.5}}))
    assert listener.settings == EventSettings(on=1.0, off=1.0, min_duration=500.0)


def test_stop_ends_a_source_that_waits(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    kept = Kept()
    source = Items(heard(demo_sound[: 12 * RATE]), stays=True, live=True)
    listener = Listener(tagger, [source], [kept], hop=1.0)
    thread = threading.Thread(target=listener.run)
    thread.start()
    deadline = time.monotonic() + 60
    while len(kept.windows) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert listener.listened.sources[0].windows == 2
    assert thread.is_alive()
    assert any(event.kind == "start" for event in kept.events)
    listener.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert kept.closed
    require_phases(kept)
    with pytest.raises(AudioError, match="has run"):
        listener.run()


def test_seconds_count_what_is_lost(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    items = [*heard(demo_sound), lost(30.0, at=21.5), *heard(demo_sound, at=51.5)]
    kept = Kept()
    (row,) = Listener(tagger, [Items(items, stays=True)], [kept], hop=2.0).run(63.0).sources
    assert (row.seconds, row.heard) == (pytest.approx(63.0), pytest.approx(33.0))
    assert kept.windows[-1][1].end == pytest.approx(63.0, abs=0.02)
    require_phases(kept)


@pytest.mark.parametrize(
    ("sources", "options", "error", "message"),
    [
        ([], {}, AudioError, "expected one or more"),
        (["a", "a"], {}, AudioError, "with names that differ"),
        (["a"], {"behind": 3.0}, WindowError, "at least a window of 10"),
        (["a"], {"behind": float("nan")}, WindowError, "at least a window of 10"),
        (["a"], {"hop": 11.0}, WindowError, "at most a window of 10"),
        (["a"], {"settings": EventSettings(classes={"Sirne": {"on": 0.5}})}, LabelError, "did you mean 'Siren'"),
    ],
)
def test_wrong_arguments(
    tagger: Tagger, sources: list[str], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Listener(tagger, [Items([], name=name) for name in sources], **options)


ITEMS = st.lists(st.one_of(st.integers(1, 40), st.floats(0.1, 9.0)), min_size=1, max_size=60)


@given(items=ITEMS, takes=st.lists(st.integers(0, 3), min_size=60, max_size=60), hop=st.integers(1, 30))
def test_what_waits_is_bounded_and_nothing_is_lost_unsaid(items: list[int | float], takes: list[int], hop: int) -> None:
    """Of a live source, sound in front of newer sound becomes a loss of its length; order and length stay."""
    waiting = _Waiting(threading.Condition(), 1, most=30, keep=15)
    put = taken = 0.0
    newest = -1.0
    count = 0

    def take() -> None:
        nonlocal taken, newest, count
        for item in waiting.take(hop)[0]:
            assert item.time == pytest.approx(taken)  # nothing is missing in front of it
            taken += len(item.samples) if isinstance(item, Heard) else item.seconds
            if isinstance(item, Heard):
                assert item.samples[0] > newest
                newest = float(item.samples[-1])

    for item, times in zip(items, takes, strict=False):
        if isinstance(item, int):
            waiting.put(Heard(samples=np.arange(count, count + item, dtype=np.float32), time=put), live=True)
            put, count = put + item, count + item
        else:
            waiting.put(Lost(seconds=item, why="x", time=put), live=True)
            put += item
        assert waiting._samples <= max(30, item)
        for _ in range(times):
            take()
    waiting.end()
    while waiting._items:
        take()
    assert taken == pytest.approx(put)
    assert waiting.take(1) == ([], True)
    if items and isinstance(items[-1], int):
        assert newest == count - 1  # the newest sound is never skipped
