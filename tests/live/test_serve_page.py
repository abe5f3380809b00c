"""The page of a listener in a real browser: a listener with the demo bundle hears a recording step by step."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support import AUDIO, needs_shared
from test_serve import LABELS, Folder, Target, loss, notice, window

from panns_litert import Tagger
from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips
from panns_litert.events import EventSettings
from panns_litert.live import (
    ClipSink,
    Controls,
    EventNotice,
    FileSource,
    Heard,
    Listener,
    Lost,
    Notice,
    PageServer,
    PageSink,
    Sink,
)
from panns_litert.windows import StreamTagger, Window

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

RATE = 32000
SETTINGS = EventSettings(on=0.5)


class Gate:
    """A recording as a source that gives as much sound as the test lets through."""

    name, live = "microphone", False

    def __init__(self, sound: NDArray[np.float32]) -> None:
        self._sound, self._allowed, self._closed = sound, 0.0, False
        self._changed = threading.Condition()

    def let(self, seconds: float) -> None:
        """Lets the sound through up to this time."""
        with self._changed:
            self._allowed = seconds
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Heard | Lost]:
        start, step = time.time(), RATE // 2
        for at in range(0, len(self._sound), step):
            with self._changed:
                self._changed.wait_for(lambda at=at: self._closed or self._allowed >= (at + step) / RATE)
                if self._closed:
                    return
            yield Heard(samples=self._sound[at : at + step], time=start + at / RATE)


class Kept(Sink):
    """Keeps what the page gets, too."""

    name = "kept"

    def __init__(self) -> None:
        self.windows: list[tuple[Window, NDArray[np.float64]]] = []
        self.events: dict[str, EventNotice] = {}

    def window(self, source: str, window: Window, scores: NDArray[np.float64]) -> None:
        self.windows.append((window, scores))

    def notice(self, notice: Notice) -> None:
        assert isinstance(notice, EventNotice)
        self.events[notice.id] = notice


class Hearing:
    """A listener that hears all demo clips one after another, with its page."""

    def __init__(self, tagger: Tagger, sound: NDArray[np.float32], clips: Path | None = None) -> None:
        self.gate, self.kept = Gate(sound), Kept()
        self.clips = ClipSink(clips, rate=RATE, before=1.0, after=1.0) if clips is not None else None
        stream = StreamTagger(tagger)
        self.page = PageSink(
            tagger.labels, model="demo", window=stream.window, hop=stream.hop, sources=["microphone"], clips=self.clips
        )
        sinks: Sequence[Sink] = [self.kept, self.page, *([self.clips] if self.clips else [])]
        self.listener = Listener(tagger, [self.gate], sinks, settings=SETTINGS)
        self.server = PageServer(self.page, Controls(tagger.labels, SETTINGS, self.listener), port=0)
        self._thread = threading.Thread(target=self.listener.run, daemon=True)

    def __enter__(self) -> Self:
        self.server.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.stop()
        self._thread.join(20)
        self.server.__exit__(None, None, None)

    def hear(self, seconds: float) -> None:
        """Lets the listener hear, and waits until it has tagged what it can."""
        self.gate.let(seconds)
        until = time.monotonic() + 60
        while len(self.kept.windows) < int(seconds - 10.0):  # the last one needs half a frame more
            assert time.monotonic() < until
            time.sleep(0.02)


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """Opens a headless Chromium whose console and requests can be read; its data are in the folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "disable-dev-shm-usage", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync", "mute-audio",
        "window-size=1280,1000", f"user-data-dir={folder}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver; on Debian: apt install chromium chromium-driver")
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def answers(browser: Chrome) -> list[tuple[str, int]]:
    """Returns the addresses and HTTP statuses of the answers since the last call."""
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    got = [e["params"]["response"] for e in entries if e["method"] == "Network.responseReceived"]
    return [(one["url"], one["status"]) for one in got if not one["url"].startswith(("data:", "chrome:"))]


def complaints(browser: Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def opened(browser: Chrome, server: PageServer) -> None:
    """Opens the page and waits for the state."""
    answers(browser)
    complaints(browser)
    browser.get(server.url)
    wait(lambda: text(browser, "#about"))


def wait(condition: Callable[[], object], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)


def one(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element("css selector", selector)


def text(browser: Chrome, selector: str) -> str:
    found: str = browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    return found


def texts(browser: Chrome, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def rows(browser: Chrome) -> list[str]:
    return [" ".join(row.split()) for row in texts(browser, "#events li")]


# ---- a recording, from its first second to its end


def test_events_appear_when_they_start_and_end(browser: Chrome, tagger: Tagger, demo_sound: Any) -> None:
    with Hearing(tagger, demo_sound) as heard:
        opened(browser, heard.server)
        assert text(browser, "#state") == "Listening"
        assert text(browser, "#about") == "demo, windows of 10 s every second"
        assert text(browser, "#silent") == "The first result comes after 10 s of sound."
        assert text(browser, "#none") == "Nothing above the thresholds yet."
        assert one(browser, "#none").is_displayed()
        heard.hear(12.0)
        wait(lambda: any("so far" in row for row in rows(browser)))
        _, scores = heard.kept.windows[-1]
        best = np.argsort(scores)[::-1][:5]
        wait(lambda: texts(browser, "#tags .number")[:1] == [f"{scores[best[0]]:.2f}"])
        shown = [(tagger.labels[i], f"{scores[i]:.2f}") for i in best if scores[i] >= 0.02]
        assert list(zip(texts(browser, "#tags .name"), texts(browser, "#tags .number"), strict=True)) == shown
        assert texts(browser, "#tags .above .name") == [tagger.labels[i] for i in best if scores[i] >= 0.5]
        early = list(heard.kept.events.values())
        assert any(event.kind != "end" for event in early)
        assert sorted(texts(browser, "#events .name")) == sorted(event.label for event in early)
        heard.gate.let(99)
        wait(lambda: text(browser, "#state") == "Listening has ended")
        told = list(heard.kept.events.values())
        assert len(told) > len(early)
        assert {event.kind for event in told} == {"end"}
        want = [f"{e.time[11:19]} {e.label} {e.end - e.start:.1f} s · {e.score:.2f}" for e in told]
        assert sorted(rows(browser)) == sorted(want)
        stamps = [time.get_attribute("datetime") for time in browser.find_elements("css selector", "#events time")]
        assert stamps == sorted((event.time for event in told), reverse=True)
        assert not one(browser, "#none").is_displayed()
        drawn = browser.execute_script(
            "return Object.fromEntries([...document.querySelectorAll('#classes .class')].map((row) => ["
            " row.querySelector('.name').innerText, [...row.querySelectorAll('.event')].map((mark) =>"
            " [Number(mark.getAttribute('x')), Number(mark.getAttribute('width'))])]))"
        )
        begin = 21.5 - 180.0
        for label, marks in drawn.items():
            events = sorted((e.start, e.end) for e in told if e.label == label)
            assert [(x + begin, x + width + begin) for x, width in sorted(marks)] == [
                pytest.approx(event, abs=1e-3) for event in events
            ], label
        assert sum(map(len, drawn.values())) == len(told)
        assert complaints(browser) == []
        assert {url.split("?")[0].removeprefix(heard.server.url) for url, _ in answers(browser)} == {
            "", "page.css", "page.js", "events",
        }  # fmt: skip


def test_a_moved_threshold_changes_what_is_told(browser: Chrome, tagger: Tagger, demo_sound: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    twice = np.concatenate([demo_sound, demo_sound, demo_sound])
    with Hearing(tagger, twice) as heard:
        opened(browser, heard.server)
        heard.hear(21.0)
        wait(lambda: len(rows(browser)) >= 3)
        one(browser, "#on").send_keys(Keys.END)  # 1: nothing is that sure
        wait(lambda: heard.listener.settings is not None and heard.listener.settings.on == 1.0)
        wait(lambda: text(browser, "#general output") == "1.00")
        wait(lambda: set(texts(browser, "#classes output")) == {"1.00"})
        heard.hear(24.0)
        before = set(heard.kept.events)
        assert before
        heard.hear(43.0)
        new = [event.label for key, event in heard.kept.events.items() if key not in before]
        assert new == []
        # One class gets a threshold of its own, by the keyboard.
        label = "Tick-tock"
        wait(lambda: label in texts(browser, "#classes .name"))
        index = tagger.labels.index(label)
        slider = one(browser, f".class[data-index='{index}'] input")
        assert slider.accessible_name == f"Threshold of {label}"
        slider.send_keys(Keys.HOME)
        wait(lambda: heard.listener.settings is not None and heard.listener.settings.of(label)["on"] == 0.01)
        slider.send_keys(*[Keys.ARROW_RIGHT] * 39)
        wait(lambda: heard.listener.settings is not None and heard.listener.settings.of(label)["on"] == 0.4)
        heard.hear(64.0)
        new = [event.label for key, event in heard.kept.events.items() if key not in before]
        assert new
        assert set(new) == {label}
        wait(lambda: sorted(texts(browser, "#events .name")) == sorted(e.label for e in heard.kept.events.values()))
        reset = one(browser, f".class[data-index='{index}'] button")
        assert reset.accessible_name == f"Reset the threshold of {label}"
        reset.click()
        wait(lambda: heard.listener.settings is not None and heard.listener.settings.of(label)["on"] == 1.0)
        wait(lambda: not reset.is_displayed())
        assert text(browser, "#refused") == ""
        assert complaints(browser) == []


def test_a_saved_sound_plays_and_seeks(browser: Chrome, tagger: Tagger, demo_sound: Any, tmp_path: Path) -> None:
    with Hearing(tagger, demo_sound, tmp_path / "clips") as heard:
        opened(browser, heard.server)
        heard.gate.let(99)
        wait(lambda: text(browser, "#state") == "Listening has ended")
        assert len(heard.kept.events) >= 3
        wait(lambda: len(browser.find_elements("css selector", "#events button")) == len(heard.kept.events))
        button = one(browser, "#events button")
        key = one(browser, "#events li:has(button)").get_attribute("data-id")
        assert key is not None
        assert heard.clips is not None
        path = heard.clips.clip_path(key)
        assert path is not None
        assert button.accessible_name.startswith(f"Play {heard.kept.events[key].label}, ")
        button.click()
        audio = "document.querySelector('#events audio')"
        wait(lambda: browser.execute_script(f"return {audio}.currentTime > 0.1"))
        assert browser.execute_script(f"return {audio}.duration") == pytest.approx(
            soundfile.info(path).duration, abs=0.05
        )
        browser.execute_script(f"{audio}.pause(); {audio}.currentTime = {audio}.duration - 0.5")
        wait(lambda: browser.execute_script(f"return !{audio}.seeking && {audio}.readyState >= 2"))
        assert (f"{heard.server.url}clips/{key}", 206) in answers(browser)
        assert complaints(browser) == []
        other = one(browser, "#events li:has(button)").get_attribute("data-id")
        heard.clips.clip_path(other or "").unlink()  # type: ignore[union-attr]
        one(browser, "#events button").click()
        wait(lambda: "This sound is no longer kept." in text(browser, "#events"))


@needs_shared
def test_a_real_recording_as_if_live(browser: Chrome, tagger: Tagger, tmp_path: Path) -> None:
    """The page shows the events of a real recording while it sounds, each with the time of day at which it began."""
    clips = [sorted((AUDIO / "esc10" / name).iterdir())[0] for name in ("clock_tick", "rooster", "baby_cry")]
    sound = np.concatenate([load_audio(clip, sample_rate=RATE).waveform for clip in clips])
    soundfile.write(tmp_path / "three.wav", sound, RATE, subtype="FLOAT")
    kept = Kept()
    source = FileSource(tmp_path / "three.wav", RATE, realtime=True, name="three")
    page = PageSink(tagger.labels, model="demo", window=10.0, hop=1.0, sources=["three"])
    listener = Listener(tagger, [source], [kept, page], settings=EventSettings(on=0.2))
    with PageServer(page, Controls(tagger.labels, EventSettings(on=0.2), listener), port=0) as server:
        opened(browser, server)
        began = time.time()
        running = threading.Thread(target=listener.run, daemon=True)
        running.start()
        wait(lambda: rows(browser))
        assert time.time() - began > 9.0
        wait(lambda: text(browser, "#state") == "Listening has ended")
        assert len(sound) / RATE <= time.time() - began
        told = list(kept.events.values())
        assert sorted(rows(browser)) == sorted(
            f"{e.time[11:19]} {e.label} {e.end - e.start:.1f} s · {e.score:.2f}" for e in told
        )
        for event in told:
            assert datetime.fromisoformat(event.time).timestamp() == pytest.approx(began + event.start, abs=1.0)
        running.join(20)


# ---- what else may come


@pytest.fixture
def page() -> PageSink:
    return PageSink(LABELS, model="<b>demo", window=10.0, hop=1.0, sources=["microphone"])


def serving(page: PageSink, **options: Any) -> PageServer:
    return PageServer(page, Controls(LABELS, EventSettings(), Target()), **({"port": 0} | options))


def test_names_from_elsewhere_are_text(browser: Chrome, page: PageSink) -> None:
    hostile, safe = LABELS[2], LABELS[2].replace("\u202e", "\\u202e")
    with serving(page) as server:
        opened(browser, server)
        page.window("<script>document.title='run'</script>", window(0), np.array([0.0, 0.0, 0.9]))
        page.window("microphone", window(0), np.array([0.0, 0.0, 0.9]))
        page.notice(notice(label=hostile, index=2))
        page.notice(loss(why="<img src=x onerror=document.title='run'>"))
        wait(lambda: len(rows(browser)) == 2)
        wait(lambda: texts(browser, "#tags .name") == [safe])
        assert texts(browser, "#classes .name") == [safe]
        assert texts(browser, "#events .name") == [
            "<img src=x onerror=document.title='run'> · microphone", f"{safe} · microphone",
        ]  # fmt: skip
        assert text(browser, "#about").startswith("<b>demo")
        options = "return [...document.querySelectorAll('#source option')].map((one) => one.textContent)"
        assert browser.execute_script(options) == ["microphone", "<script>document.title='run'</script>"]
        assert browser.execute_script("return document.querySelectorAll('img, b, main script').length") == 0
        assert browser.title == "What is heard"
        assert complaints(browser) == []


def test_sources_are_chosen(browser: Chrome, page: PageSink) -> None:
    with serving(page) as server:
        opened(browser, server)
        assert not one(browser, "#which").is_displayed()
        page.window("microphone", window(0), np.array([0.9, 0.0, 0.0]))
        page.window("door", window(0), np.array([0.0, 0.7, 0.0]))
        wait(lambda: one(browser, "#which").is_displayed())
        assert texts(browser, "#tags .name") == ["Speech"]
        one(browser, "#source").send_keys("door")
        wait(lambda: texts(browser, "#tags .name") == ["Dog"])


def test_losses_are_shown_and_the_state_says_so(browser: Chrome, page: PageSink) -> None:
    with serving(page) as server:
        opened(browser, server)
        for k in range(20):
            page.window("microphone", window(k), np.array([0.9, 0.0, 0.0]))
        page.notice(loss(start=20.0, seconds=4.0, why="the model is slower than the sound"))
        wait(lambda: text(browser, "#state") == "4.0 s not heard: the model is slower than the sound")
        assert rows(browser)[0].endswith("the model is slower than the sound 4.0 s not heard")
        wait(lambda: browser.find_elements("css selector", ".strip .gap"))


def test_unusable_sound_is_said(browser: Chrome, page: PageSink) -> None:
    from dataclasses import replace

    with serving(page) as server:
        opened(browser, server)
        page.window("microphone", replace(window(0), unusable="NaN at 3 s"), np.zeros(3))
        wait(lambda: text(browser, "#silent") == "This sound cannot be used: NaN at 3 s")


def test_the_page_comes_back_after_the_server(browser: Chrome, page: PageSink) -> None:
    with serving(page) as server:
        opened(browser, server)
        port = server.port
    wait(lambda: text(browser, "#state") == "Connection lost; trying again …")
    other = PageSink(LABELS, model="other", window=5.0, hop=0.5)
    with serving(other, port=port):
        wait(lambda: text(browser, "#about") == "other, windows of 5 s every 0.5 s")
        wait(lambda: text(browser, "#state") == "Listening")


def test_a_refused_threshold_is_said(browser: Chrome, page: PageSink) -> None:
    from selenium.webdriver.common.keys import Keys

    with serving(page) as server:
        opened(browser, server)
        browser.execute_script("document.getElementById('on').max = 2")
        one(browser, "#on").send_keys(Keys.END)
        wait(lambda: "The threshold was not changed: on = 2; expected a number > 0" in text(browser, "#refused"))
        wait(lambda: text(browser, "#general output") == "0.20")


def test_another_class_is_shown_when_asked_for(browser: Chrome, page: PageSink) -> None:
    from selenium.webdriver.common.keys import Keys

    with serving(page) as server:
        opened(browser, server)
        one(browser, "#another").send_keys("no such class", Keys.ENTER)
        wait(lambda: text(browser, "#refused") == "No class of this model has that name.")
        one(browser, "#another").clear()
        one(browser, "#another").send_keys("dog", Keys.ENTER)
        wait(lambda: texts(browser, "#classes .name") == ["Dog"])
        assert text(browser, "#refused") == ""


def test_the_token_is_not_left_in_the_address(browser: Chrome, page: PageSink) -> None:
    with serving(page, token="a-token-of-this-test") as server:
        address = server.url.partition("?")[0]
        browser.get(address)
        assert text(browser, "h1") == "This page needs its token"
        opened(browser, server)
        assert browser.current_url == address
        assert browser.execute_script("return document.cookie") == ""  # HttpOnly
        browser.get(address)
        wait(lambda: text(browser, "#state") == "Listening")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 700, 1280])
def test_the_page_fits_any_screen(browser: Chrome, page: PageSink, width: int, scheme: str, tmp_path: Path) -> None:
    """Nothing is wider than the screen, no text is cut but names of classes, and texts stand out from the paper."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page._clips = Folder(e1=demo_clips()[0])
    try:
        with serving(page) as server:
            opened(browser, server)
            for k in range(20):
                page.window("microphone", window(k), np.array([0.9, 0.5, 0.3]))
            page.notice(notice(label="A class whose name is so long that it needs more than one line of a phone"))
            page.notice(notice("start", id="e2"))
            page.notice(loss(why="a microphone that was unplugged, and is looked for until it comes back"))
            wait(lambda: browser.find_elements("css selector", "#events button"))
            one(browser, "#events button").click()
            wait(lambda: len(texts(browser, "#classes .name")) == 3)
            over = browser.execute_script(
                "const root = document.documentElement;"
                "return [root.scrollWidth - root.clientWidth, ...[...document.querySelectorAll('header, section, li,"
                " .class, .threshold, #more, button, output, .more')].map((one) => one.scrollWidth - one.clientWidth)]"
            )
            assert max(over) <= 1
            strip = one(browser, ".strip").size["width"]
            assert strip >= (0.9 if width < 500 else 0.35) * width
            assert browser.execute_script(CONTRAST) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# Returns the elements whose own text has a contrast below 4.5 to the paper (WCAG 2.2, 1.4.3).
CONTRAST = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const paper = light(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() &&
  [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())).filter((one) => {
  const ink = light(getComputedStyle(one).color);
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) < 4.5;
}).map((one) => one.outerHTML);
"""


def test_everything_has_a_name_and_is_reached_by_keyboard(browser: Chrome, page: PageSink) -> None:
    from selenium.webdriver.common.keys import Keys

    with serving(page) as server:
        opened(browser, server)
        page.window("microphone", window(0), np.array([0.9, 0.5, 0.0]))
        page.notice(notice())
        wait(lambda: len(texts(browser, "#classes .name")) == 2)
        names = []
        for _ in range(7):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            element = browser.switch_to.active_element
            names.append((element.aria_role, element.accessible_name))
        assert names == [
            ("region", "List of events"),
            ("slider", "All classes"),
            ("slider", "Threshold of Speech"),
            ("slider", "Threshold of Dog"),
            ("combobox", "Show another class"),
            ("button", "Show"),
            ("link", "Save the thresholds"),
        ]
