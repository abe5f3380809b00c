"""The page of web_demo, built and served as a static folder, in a real Chromium: its tags against Python's."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import importlib.util
import io
import json
import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
import urllib.parse
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kotlin
import matplotlib.image
import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from support import AUDIO, ROOT, edit_manifest, rehash

import panns_litert_convert.convert
from panns_litert import Tagger
from panns_litert.errors import AudioError
from panns_litert.events import audacity_labels, events_csv
from panns_litert.windows import find_events, tag_long

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WEB = ROOT / "web_demo"
SCREENSHOT = WEB / "screenshot.png"
HOP = 1.0
TOLERANCE = 5e-3
OWN_HOSTS = {
    "accounts.google.com", "clients2.google.com", "optimizationguide-pa.googleapis.com", "start.duckduckgo.com",
    "update.googleapis.com",
}  # fmt: skip
"""What Chromium asks by itself, with an empty page, too."""
DEMO_BUNDLE = ROOT / "assets" / "demo_bundle"

# ---- the page, its server, a browser


@pytest.fixture(scope="module")
def dist() -> Path:
    """The built page without bundles, and axe.min.js beside it."""
    if not shutil.which("npm"):
        pytest.skip("no npm; on Debian: apt install npm")
    left_out = {"node_modules", "dist", "public", "README.md", SCREENSHOT.name}
    sources = [f for f in WEB.rglob("*") if f.is_file() and not left_out & set(f.relative_to(WEB).parts)]

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch) / "web_demo"
            shutil.copytree(WEB, work, ignore=shutil.ignore_patterns(*left_out))
            for command in (["npm", "ci", "--silent"], ["npm", "run", "build", "--silent"]):
                done = subprocess.run(command, cwd=work, capture_output=True, text=True)
                assert done.returncode == 0, done.stdout + done.stderr
            shutil.copytree(work / "dist", folder / "dist")
            shutil.copy(work / "node_modules" / "axe-core" / "axe.min.js", folder)

    return kotlin.cached("page", sources, make)


@pytest.fixture(scope="module")
def make_public() -> Any:
    spec = importlib.util.spec_from_file_location("make_public", WEB / "make_public.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def served(dist: Path, make_public: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, in a folder of a static server, with the shipped demo bundle."""
    root = tmp_path_factory.mktemp("served")
    page = root / "some folder"
    shutil.copytree(dist / "dist", page, dirs_exist_ok=True)
    shutil.copytree(DEMO_BUNDLE, page / "bundles" / "demo", dirs_exist_ok=True)
    assert make_public.main(["--out", str(page), "--models", "demo"]) == 0
    with serving(functools.partial(_Static, directory=str(root))) as port:
        yield f"http://127.0.0.1:{port}/some%20folder/"


class _Static(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: Callable[..., socketserver.BaseRequestHandler]) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[int, list[str]]]:
    """A proxy for every address but this computer's: its port, and what it was asked for."""
    asked: list[str] = []

    class Trap(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = urllib.parse.urlsplit(self.path).hostname or self.path.partition(":")[0]
            if host not in OWN_HOSTS:
                asked.append(self.path)
            self.send_error(403)

        do_CONNECT = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with serving(Trap) as port:
        yield port, asked


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Chrome]]:
    """Starts a browser with more arguments, and ends it after the module."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver; on Debian: apt install chromium chromium-driver")
    from selenium import webdriver

    started = []

    def browser(*more: str) -> Chrome:
        folder = tmp_path_factory.mktemp("chromium")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "headless", "no-sandbox", "disable-gpu", "disable-quic", "disable-dev-shm-usage", "no-first-run",
            "disable-background-networking", "disable-component-update", "disable-sync", "mute-audio",
            "force-device-scale-factor=1", "window-size=1280,900", f"user-data-dir={folder}", *more,
        ):  # fmt: skip
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        started.append(driver)
        behavior = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
        driver.downloads = folder / "downloads"
        return driver

    yield browser
    for driver in started:
        driver.quit()


@pytest.fixture(scope="module")
def browser(start: Callable[..., Chrome], elsewhere: tuple[int, list[str]]) -> Chrome:
    return start(f"proxy-server=127.0.0.1:{elsewhere[0]}")


@pytest.fixture
def page(browser: Chrome, served: str) -> Chrome:
    return opened(browser, served)


@pytest.fixture(scope="module")
def python() -> Tagger:
    return Tagger(DEMO_BUNDLE, threads=1)


def opened(browser: Chrome, address: str) -> Chrome:
    """Opens the page and waits for its model."""
    emulate(browser)
    browser.get(address)
    wait(browser, lambda: browser.find_element("id", "badge").get_attribute("data-state") != "busy")
    return browser


def emulate(
    browser: Chrome, *, scheme: str = "light", motion: str = "reduce", width: int = 1280, height: int = 900
) -> None:
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
    media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait(browser: Chrome, condition: Callable[[], object], seconds: float = 30) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, seconds, poll_frequency=0.05).until(lambda _: condition())


def text(browser: Chrome, element: str) -> str:
    return browser.find_element("id", element).text


def give(browser: Chrome, path: Path) -> None:
    """Chooses a recording and waits until it has been tagged."""
    browser.execute_script("document.getElementById('spoken').textContent = ''")  # it is said at the end
    browser.find_element("id", "file").send_keys(str(path))
    wait(browser, lambda: path.name in browser.find_element("id", "spoken").get_attribute("textContent"))


def saved(browser: Chrome, form: str) -> str:
    """Exports the result and returns the content of the file."""
    return downloaded(browser, lambda: click(browser, f"[data-export='{form}']")).read_text(encoding="utf-8")


def downloaded(browser: Chrome, action: Callable[[], None]) -> Path:
    """Does `action` and returns the file that it saves, once it is whole.

    Chromium makes the file before it writes it, so that a file that is there may still be empty."""
    folder: Path = browser.downloads  # type: ignore[attr-defined]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    browser.execute_script("""
        window.saving = [];
        window.makeURL ??= URL.createObjectURL;
        URL.createObjectURL = (blob) => { window.saving.push(blob.size); return window.makeURL.call(URL, blob); };
    """)
    action()
    wait(browser, lambda: browser.execute_script("return window.saving.length"))
    size = browser.execute_script("return window.saving.at(-1)")
    finished = lambda: [f for f in folder.iterdir() if f.suffix != ".crdownload" and f.stat().st_size == size]  # noqa: E731
    wait(browser, finished)
    return finished()[0]


def click(browser: Chrome, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def drop(browser: Chrome, *names: str, first: str = "") -> None:
    """Drops the siren under these names, right after what the script `first` does."""
    script = """
        const [url, names, done] = arguments;
        fetch(url).then((r) => r.blob()).then((blob) => {
            const data = new DataTransfer();
            for (const name of names) data.items.add(new File([blob], name));
            FIRST
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
            done();
        });
    """
    script = script.replace("FIRST", first)  # the page's policy forbids eval
    browser.execute_async_script(script, "examples/siren_44k1_stereo.flac", names)


def tagged(browser: Chrome, name: str) -> None:
    """Waits until a recording has been tagged."""
    wait(browser, lambda: name in browser.find_element("id", "spoken").get_attribute("textContent"))
    assert text(browser, "heard-title") == name


CHOOSE_DEMO = "const m = document.getElementById('model'); m.value = 'demo'; m.dispatchEvent(new Event('change'));"


@pytest.fixture
def backwards(tmp_path: Path) -> Path:
    """The demo bundle with its class names in reverse order."""
    folder = shutil.copytree(DEMO_BUNDLE, tmp_path / "backwards")
    labels = (folder / "demo_labels.txt").read_text(encoding="utf-8").splitlines()
    (folder / "demo_labels.txt").write_text("\n".join(labels[::-1]) + "\n", encoding="utf-8")
    rehash(folder, "demo_labels.txt")
    return folder


def open_bundle(browser: Chrome, folder: Path) -> None:
    browser.execute_script("document.getElementById('spoken').textContent = ''")
    browser.find_element("id", "folder").send_keys(str(folder))
    wait(browser, lambda: "opened here" in browser.find_element("id", "model").text.split("\n")[0])
    wait(browser, lambda: browser.find_element("id", "badge").get_attribute("data-state") != "busy")


# ---- tags


def recordings(demo_sound: NDArray[np.float32], folder: Path) -> list[Path]:
    """Recordings at several rates, in several formats; the third has two channels that differ."""
    if (real := AUDIO / "metro_station-paris.wav").is_file():
        street, rate = soundfile.read(real, dtype="float32")
        street = soxr.resample(street, rate, 32000)
    else:
        street = demo_sound[::-1].copy()
    forms = [
        ("a 16k.wav", 16000, "PCM_16", [demo_sound]),
        ("a 22k.flac", 22050, "PCM_16", [demo_sound]),
        ("a 44k stereo.wav", 44100, "PCM_24", [demo_sound[: len(street)], 0.5 * street[: len(demo_sound)]]),
        ("a 48k.flac", 48000, "PCM_24", [street]),
    ]
    found = []
    for name, rate, subtype, channels in forms:
        frames = min(map(len, channels))
        samples = np.stack([soxr.resample(channel[:frames], 32000, rate) for channel in channels], axis=1)
        soundfile.write(folder / name, np.clip(samples, -0.999, 0.999), rate, subtype=subtype)
        found.append(folder / name)
    return found


def test_tags_and_events_are_those_of_python_at_any_rate(
    page: Chrome, python: Tagger, demo_sound: NDArray[np.float32], tmp_path: Path
) -> None:
    real = [*sorted(AUDIO.glob("*.wav")), *sorted(AUDIO.rglob("*.ogg"))[:1], *sorted(AUDIO.rglob("*.mp3"))[:1]]
    for path in (*recordings(demo_sound, tmp_path), *real):
        give(page, path)
        compare(json.loads(saved(page, "json")), python, path)


def test_the_shipped_clips(page: Chrome, python: Tagger) -> None:
    for path in sorted((ROOT / "assets" / "clips").iterdir()):
        give(page, path)
        compare(json.loads(saved(page, "json")), python, path)
        assert "of padding" in text(page, "heard-line")


def compare(result: dict[str, Any], python: Tagger, path: Path, hop: float = HOP) -> None:
    """Requires that the page's result is Python's: every class, what was heard, and the events."""
    for aggregate in ("mean", "max"):
        wanted = tag_long(python, path, hop=hop, aggregate=aggregate, top=None)
        found = np.zeros(len(python.labels))
        for tag in result["tags"]:
            assert python.labels[tag["index"]] == tag["label"]
            found[tag["index"]] = tag[aggregate]
        assert np.abs(found - wanted.probs).max() <= TOLERANCE
        assert wanted.probs.max() > 0.1, "a recording that says nothing would prove nothing"
    assert (result["windows"], result["windows_skipped"]) == (wanted.windows, wanted.windows_skipped)
    for key in ("seconds", "seconds_heard", "padding_seconds"):
        assert result[key] == pytest.approx(getattr(wanted, key), abs=1e-3)
    events = sorted(find_events(python, path, hop=hop), key=lambda e: (e.start, e.index))
    assert [(e["label"], e["start"], e["end"]) for e in result["events"]] == [
        (e.label, pytest.approx(e.start, abs=1e-3), pytest.approx(e.end, abs=1e-3)) for e in events
    ]
    assert [e["score"] for e in result["events"]] == pytest.approx([e.score for e in events], abs=TOLERANCE)


def test_exports_are_pythons(page: Chrome, python: Tagger, recording: Path) -> None:
    give(page, recording)
    events = sorted(find_events(python, recording, hop=HOP), key=lambda e: (e.start, e.index))
    assert len(events) >= 5
    assert saved(page, "audacity") == audacity_labels(events)
    lines = [line.rsplit(",", 1) for line in saved(page, "csv").splitlines()]
    wanted = [line.rsplit(",", 1) for line in events_csv(events).splitlines()]
    assert [line[0] for line in lines] == [line[0] for line in wanted]


def test_a_dropped_file_and_an_example_are_tagged(page: Chrome) -> None:
    drop(page, "dropped.flac", "notes.txt")
    wait(page, lambda: "dropped.flac" in page.find_element("id", "spoken").get_attribute("textContent"))
    assert "1 more was not" in text(page, "notices")
    assert "stereo" in text(page, "heard-line")
    click(page, "#examples button")
    wait(page, lambda: "six_sounds" in page.find_element("id", "spoken").get_attribute("textContent"))
    assert text(page, "notices") == ""
    click(page, "#tags")
    assert float(page.find_element("css selector", "#tags .value").text) > 0.9


def test_the_badge_is_the_bundles_self_test(page: Chrome) -> None:
    assert page.find_element("id", "badge").get_attribute("data-state") == "good"
    click(page, "#badge summary")
    assert "computes what PyTorch computed" in text(page, "badge-line")
    difference = float(text(page, "badge-text").split()[-1])
    assert 0 < difference < 5e-3


def test_without_webgpu_the_page_says_so(page: Chrome) -> None:
    """This browser has no adapter. The page falls back to WebAssembly, and says why."""
    page.execute_script(
        "const engine = document.getElementById('engine'); engine.value = 'webgpu';"
        "engine.dispatchEvent(new Event('change'))"
    )
    wait(page, lambda: "WebGPU is not used here" in text(page, "notices"))
    assert page.find_element("id", "badge").get_attribute("data-state") == "good"
    assert page.find_element("id", "engine").get_property("value") == "wasm"


def test_a_recording_that_comes_while_a_model_is_opened(page: Chrome, recording: Path, backwards: Path) -> None:
    """It is tagged with the new model, and the one of before does not come back."""
    give(page, recording)
    open_bundle(page, backwards)
    tagged(page, recording.name)
    drop(page, "dropped.flac", first=CHOOSE_DEMO)
    tagged(page, "dropped.flac")
    assert page.find_element("css selector", "#tags .label").text == "Siren"


def test_a_model_that_is_chosen_while_a_recording_is_decoded(
    page: Chrome, python: Tagger, recording: Path, backwards: Path
) -> None:
    """The tags have the names of the model that was run."""
    give(page, recording)
    page.execute_script("""
        const { arrayBuffer } = File.prototype;
        const held = new Promise((resolve) => (window.release = resolve));
        File.prototype.arrayBuffer = async function () {
            if (this.name === "held.flac") await held;
            return arrayBuffer.call(this);
        };
    """)
    drop(page, "held.flac")
    open_bundle(page, backwards)
    assert text(page, "heard-title") == recording.name  # as long as nothing else is there
    page.execute_script("window.release()")
    tagged(page, "held.flac")
    result = json.loads(saved(page, "json"))
    labels = python.labels[::-1]
    assert all(labels[tag["index"]] == tag["label"] for tag in result["tags"])
    assert result["tags"][0]["index"] == python.labels.index("Siren")


def test_windows_of_less_than_a_second(page: Chrome, short: Path, recording: Path) -> None:
    """A stream rounds the hop to whole frames, here 0.975 s to 0.97 s. The events have the times of its windows."""
    open_bundle(page, short)
    give(page, recording)
    result = json.loads(saved(page, "json"))
    assert (result["window_seconds"], result["hop_seconds"]) == (0.975, 0.97)
    assert len(result["events"]) >= 5
    compare(result, Tagger(short, threads=1), recording, hop=0.975)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a window of 0.975 s, which is no whole number of frames. `convert` makes none below 1 s."""
    folder = tmp_path_factory.mktemp("short") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panns_litert_convert.convert, "require_length", lambda *_: None)
        panns_litert_convert.convert.convert("demo", precision="fp32", seconds=0.975, out=folder)
    return folder


# ---- the microphone


@pytest.fixture(scope="module")
def hearing(
    start: Callable[..., Chrome], demo_sound: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> Chrome:
    """A browser whose microphone hears the demo sound again and again."""
    source = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    played = soxr.resample(demo_sound, 32000, 48000)
    soundfile.write(source, np.stack([played, played], axis=1), 48000, subtype="PCM_16")
    return start(
        "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream",
        f"use-file-for-fake-audio-capture={source}",
    )


def test_a_model_that_is_chosen_while_the_microphone_is_asked_for(
    hearing: Chrome, served: str, python: Tagger, backwards: Path, tmp_path: Path
) -> None:
    browser = opened(hearing, served)
    open_bundle(browser, backwards)
    browser.execute_script("""
        const media = navigator.mediaDevices;
        const ask = media.getUserMedia.bind(media);
        const held = new Promise((resolve) => (window.release = resolve));
        media.getUserMedia = (wanted) => held.then(() => ask(wanted));
    """)
    click(browser, "#listen")
    browser.execute_script(CHOOSE_DEMO)
    wait(browser, lambda: browser.find_element("id", "badge").get_attribute("data-state") == "good")
    browser.execute_script("window.release()")
    wait(browser, lambda: "3 s so far" in text(browser, "heard-line"))
    click(browser, "#play")
    tagged(browser, "Microphone")
    heard = downloaded(browser, lambda: click(browser, "#save")).rename(tmp_path / "heard.wav")
    tags = json.loads(saved(browser, "json"))["tags"]
    assert all(python.labels[tag["index"]] == tag["label"] for tag in tags)
    assert tags[0]["label"] == tag_long(python, heard).tags[0].label


def test_samples_of_the_microphone_that_cannot_be_used(hearing: Chrome, served: str) -> None:
    """A NaN and a block of a wrong scale cost their windows. Listening goes on, and what is there is measured."""
    browser = opened(hearing, served)
    browser.execute_script("""
        const { postMessage } = Worker.prototype;
        let blocks = 0;
        Worker.prototype.postMessage = function (message, ...more) {
            if (message.kind === "samples") {
                blocks += 1;
                if (blocks === 3) message.samples[5] = NaN;
                if (blocks === 5) message.samples.fill(100);
            }
            return postMessage.call(this, message, ...more);
        };
    """)
    click(browser, "#listen")
    wait(browser, lambda: "12 s so far" in text(browser, "heard-line"))
    click(browser, "#play")
    tagged(browser, "Microphone")
    result = json.loads(saved(browser, "json"))
    assert result["windows"] >= 2
    assert result["windows_skipped"] == 1
    assert [warning for warning in result["warnings"] if "silence" in warning or "failed" in warning] == []
    # The next recording may come before what was heard has become one.
    click(browser, "#listen")
    wait(browser, lambda: "of a 10 s window" in text(browser, "tags-of"))
    drop(browser, "dropped.flac", first="document.getElementById('play').click();")
    tagged(browser, "dropped.flac")
    siren = soundfile.info(ROOT / "assets" / "clips" / "siren_44k1_stereo.flac").duration
    assert json.loads(saved(browser, "json"))["seconds"] == pytest.approx(siren)
    assert text(browser, "notices") == ""


def test_the_microphone(
    hearing: Chrome, served: str, python: Tagger, demo_sound: NDArray[np.float32], tmp_path: Path
) -> None:
    """The tags of a live stream are Python's for the samples that the page heard, and those are the microphone's."""
    browser = opened(hearing, served)
    click(browser, "#listen")
    wait(browser, lambda: "of a 10 s window" in text(browser, "tags-of"))  # before the first window is full
    wait(browser, lambda: text(browser, "tags-of") == "the last 10 s")
    wait(browser, lambda: "12 s so far" in text(browser, "heard-line"))
    live = [item.text.split("\n")[0] for item in browser.find_elements("css selector", "#tags li")]
    assert browser.find_element("id", "spoken").get_attribute("textContent").startswith("Hearing ")
    click(browser, "#play")  # stops
    wait(browser, lambda: "Microphone:" in browser.find_element("id", "spoken").get_attribute("textContent"))
    heard = downloaded(browser, lambda: click(browser, "#save")).rename(tmp_path / "heard.wav")
    result = json.loads(saved(browser, "json"))
    compare(result, python, heard)
    samples, rate = soundfile.read(heard, dtype="float32")
    assert len(samples) / rate >= 12
    assert {tag["label"] for tag in result["tags"][:3]} & set(live[:3])
    whole = soxr.resample(np.concatenate([demo_sound, demo_sound]), 32000, rate)
    likeness = [likeness_to(whole, samples[at : at + rate // 2]) for at in range(rate, 11 * rate, rate)]
    print(f"half seconds against the source: {[round(value, 3) for value in likeness]}")
    # Half of them at least: on a busy machine the browser's microphone loses samples within some.
    assert np.nanmedian(likeness) > 0.99


def likeness_to(whole: NDArray[np.float32], part: NDArray[np.float32]) -> float:
    """Returns the correlation of a part of a recording with the place in the source that is most like it."""
    size = 1 << int(np.ceil(np.log2(len(whole) + len(part))))
    correlation = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    at = int(correlation[: len(whole) - len(part)].argmax())
    return float(np.corrcoef(whole[at : at + len(part)], part)[0, 1])


def test_a_microphone_that_is_not_allowed(start: Callable[..., Chrome], served: str, long: Path) -> None:
    """The recording on the page stays, is tagged further, and can be played."""
    browser = start("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream=deny")
    opened(browser, served)
    browser.find_element("id", "file").send_keys(str(long))
    wait(browser, lambda: browser.find_elements("css selector", "#events tbody tr"))
    click(browser, "#listen")
    wait(browser, lambda: "The microphone was not allowed" in text(browser, "notices"))
    goes_on(browser, long)


def goes_on(browser: Chrome, recording: Path) -> None:
    """Requires that the page still tags the recording and plays it."""
    assert text(browser, "heard-title") == recording.name
    assert browser.find_element("id", "progress").is_displayed()
    before = float(browser.find_element("id", "progress").get_property("value"))
    wait(browser, lambda: float(browser.find_element("id", "progress").get_property("value")) > before)
    browser.find_element("id", "play").click()  # a script may not play
    wait(browser, lambda: float(browser.find_element("id", "face").get_attribute("aria-valuenow")) > 0.3)
    click(browser, "#play")


def test_no_microphone(page: Chrome, browser: Chrome, served: str) -> None:
    click(page, "#listen")
    wait(page, lambda: "microphone" in text(page, "notices"))
    assert "No microphone was found" in text(page, "notices")
    script = {"source": "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        opened(browser, served)
        click(browser, "#listen")
        wait(browser, lambda: "no access to a microphone" in text(browser, "notices"))
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


# ---- bad input


def test_bad_recordings_are_one_sentence_each_and_the_page_goes_on(
    page: Chrome, recording: Path, tmp_path: Path
) -> None:
    give(page, recording)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("no sound\n" * 999)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000)
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes([128]) * 8000 * 7200)
    for name, message in {
        "empty.wav": "empty.wav is empty: 0 bytes. Expected a recording",
        "text.mp3": "text.mp3: the browser cannot decode this file",
        "none.wav": "none.wav: no samples; expected at least one",
        "long.wav": "long.wav is 120 minutes long. Expected at most 60 minutes",
    }.items():
        page.find_element("id", "file").send_keys(str(tmp_path / name))
        wait(page, lambda message=message: message in text(page, "notices"))
        assert len(page.find_elements("css selector", "[role=alert]")) == 1
        assert "\n" not in text(page, "notices").removesuffix("\nClose")
        assert text(page, "heard-title") == recording.name  # the one before is still there
    give(page, recording)
    assert text(page, "notices") == ""


def test_what_was_not_heard_is_said(page: Chrome, demo_sound: NDArray[np.float32], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "loud.wav", np.clip(40 * demo_sound[:64000], -1, 1), 32000)
    soundfile.write(tmp_path / "whole.wav", demo_sound, 32000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:500_000])
    expected = {
        "silence.wav": ("digital silence", "Heard 1.0 s of 1.0 s, and 9.0 s of padding"),
        "loud.wav": ("clipped for", "Heard 2.0 s of 2.0 s, and 8.0 s of padding"),
        "cut.wav": ("7.8", "Heard 7.8 s of 21.5 s"),
    }
    for name, (warning, line) in expected.items():
        give(page, tmp_path / name)
        assert warning in text(page, "warnings")
        assert line in text(page, "heard-line")
        assert json.loads(saved(page, "json"))["warnings"] == text(page, "warnings").split("\n")


@pytest.mark.filterwarnings("ignore:.*NaN, Inf or beyond")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -100])
def test_samples_that_cannot_be_used(
    page: Chrome, python: Tagger, demo_sound: NDArray[np.float32], tmp_path: Path, bad: float
) -> None:
    """They cost their windows, and the rest is measured without them. A recording of nothing else has no result."""
    sound = demo_sound.copy()
    sound[100] = bad
    soundfile.write(tmp_path / "one.wav", sound, 32000, subtype="FLOAT")
    give(page, tmp_path / "one.wav")
    result = json.loads(saved(page, "json"))
    compare(result, python, tmp_path / "one.wav")
    count = result["windows"] + 1
    assert text(page, "warnings").startswith(f"1 of {count} windows could not be tagged: NaN, Inf or samples far")
    assert result["warnings"] == [text(page, "warnings")]
    sound[::1000] = np.nan
    soundfile.write(tmp_path / "all.wav", sound, 32000, subtype="FLOAT")
    give(page, tmp_path / "all.wav")
    with pytest.raises(AudioError, match="expected at least one window of usable samples"):
        tag_long(python, tmp_path / "all.wav")
    message = "all.wav: NaN, Inf or samples far beyond full scale at 0.000 s; expected at least one usable window"
    assert message in text(page, "notices")
    assert text(page, "tags") == ""
    assert not any(button.is_enabled() for button in page.find_elements("css selector", "[data-export]"))


def test_bundles_from_the_disk(page: Chrome, python: Tagger, recording: Path, tmp_path: Path) -> None:
    """A broken one is refused in a sentence, and the model before stays open. A good one works."""
    give(page, recording)

    def version(folder: Path) -> None:
        edit_manifest(folder, lambda data: data.update(format_version=99))

    def damage(folder: Path) -> None:
        (model,) = folder.glob("*.tflite")
        model.write_bytes(model.read_bytes()[:-1] + b"!")

    broken: list[tuple[str, Callable[[Path], object], str]] = [
        ("incomplete", lambda folder: (folder / "mel_basis.bin").unlink(), "mel_basis.bin"),
        ("without manifest", lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
        ("damaged", damage, ".tflite"),
        ("of the future", version, "99"),
    ]
    for name, change, message in broken:
        shutil.copytree(DEMO_BUNDLE, tmp_path / name)
        change(tmp_path / name)
        page.find_element("id", "folder").send_keys(str(tmp_path / name))
        wait(page, lambda message=message: message in text(page, "notices"))
        assert len(page.find_elements("css selector", "[role=alert]")) == 1
        wait(page, lambda: page.find_element("id", "badge").get_attribute("data-state") == "good")
    open_bundle(page, DEMO_BUNDLE)
    wait(page, lambda: not page.find_element("id", "progress").is_displayed())
    assert text(page, "notices") == ""
    give(page, recording)
    compare(json.loads(saved(page, "json")), python, recording)


def test_a_browser_without_simd(start: Callable[..., Chrome], served: str) -> None:
    browser = start("js-flags=--no-enable-sse4-1 --no-enable-ssse3")
    if browser.execute_script("return WebAssembly.validate(new Uint8Array(arguments[0]))", SIMD):
        script = {"source": "WebAssembly.validate = () => false"}  # a processor whose SIMD cannot be switched off
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    opened(browser, served)
    assert "no WebAssembly SIMD" in text(browser, "notices")
    assert browser.find_element("id", "badge").get_attribute("data-state") == "bad"


SIMD = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]  # fmt: skip


@pytest.fixture(scope="module")
def long(demo_sound: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "ten minutes.wav"
    soundfile.write(path, np.tile(demo_sound, 28), 32000)
    return path


def test_a_bad_recording_leaves_the_one_that_is_being_tagged(page: Chrome, long: Path, tmp_path: Path) -> None:
    page.find_element("id", "file").send_keys(str(long))
    wait(page, lambda: page.find_elements("css selector", "#events tbody tr"))
    (tmp_path / "text.mp3").write_text("no sound\n" * 999)
    page.find_element("id", "file").send_keys(str(tmp_path / "text.mp3"))
    wait(page, lambda: "text.mp3: the browser cannot decode" in text(page, "notices"))
    goes_on(page, long)


def test_a_bad_bundle_leaves_the_recording_that_is_being_tagged(page: Chrome, long: Path, tmp_path: Path) -> None:
    """It is tagged again from its beginning, with the model of before."""
    page.find_element("id", "file").send_keys(str(long))
    wait(page, lambda: page.find_elements("css selector", "#events tbody tr"))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    page.find_element("id", "folder").send_keys(str(tmp_path / "bundle"))
    wait(page, lambda: "manifest.json" in text(page, "notices"))
    wait(page, lambda: page.find_element("id", "progress").is_displayed())
    assert "canceled" not in text(page, "warnings")
    goes_on(page, long)


def test_canceled(page: Chrome, long: Path) -> None:
    page.find_element("id", "file").send_keys(str(long))
    wait(page, lambda: page.find_elements("css selector", "#events tbody tr"))
    # The page stays quick: a frame comes soon, while the model runs.
    gap = page.execute_async_script(
        "const done = arguments[0]; let last = performance.now(), worst = 0, frames = 0;"
        "const next = (now) => { worst = Math.max(worst, now - last); last = now;"
        "  if (++frames < 30) requestAnimationFrame(next); else done(worst); }; requestAnimationFrame(next);"
    )
    assert gap < 1000
    assert page.find_element("id", "progress").is_displayed()
    click(page, "#cancel")
    wait(page, lambda: "canceled" in text(page, "warnings"))
    assert not page.find_element("id", "progress").is_displayed()
    result = json.loads(saved(page, "json"))
    end = 10 + (result["windows"] - 1) * HOP
    assert 10 <= end < 590
    assert result["seconds_heard"] == end
    assert result["seconds"] == pytest.approx(soundfile.info(long).duration)
    assert f"Heard {end:.1f} s of {result['seconds']:.1f} s" in text(page, "heard-line")
    assert "canceled" in result["warnings"][-1]


# ---- playing, keyboard, screen readers


def test_playing_and_the_keyboard(page: Chrome, recording: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    give(page, recording)
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(60):
        page.switch_to.active_element.send_keys(Keys.TAB)
        element = page.switch_to.active_element
        if element.tag_name == "body":
            break
        reached.append((element.aria_role, element.accessible_name))
    names = [name for _, name in reached]
    for name in ("Model", "Choose a recording", "Use the microphone", "Play", "Position in the recording", "JSON"):
        assert name in names
    assert sum(name.startswith("Play ") for name in names) >= 5
    face = page.find_element("id", "face")
    assert face.aria_role == "slider"
    face.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    wait(page, lambda: face.get_attribute("aria-valuetext") == "0:02.0 of 0:21.5")
    face.send_keys(Keys.END)
    wait(page, lambda: face.get_attribute("aria-valuetext") == "0:21.5 of 0:21.5")
    face.send_keys(Keys.HOME, Keys.SPACE)
    wait(page, lambda: float(face.get_attribute("aria-valuenow")) > 0.3)
    assert page.find_element("id", "play").accessible_name == "Pause"
    assert "0:00 to 0:10" in text(page, "tags-of")
    face.send_keys(Keys.SPACE)
    wait(page, lambda: page.find_element("id", "play").accessible_name == "Play")
    row = page.find_elements("css selector", "#events tbody button")[2]
    at = float(row.get_attribute("data-at"))
    row.send_keys(Keys.ENTER)
    wait(page, lambda: float(face.get_attribute("aria-valuenow")) > at)
    cursor = page.execute_script(
        "const box = document.querySelector('#face').getBoundingClientRect();"
        "return (document.querySelector('.cursor').getBoundingClientRect().left + 0.5 - box.left) / box.width * 21.5"
    )
    assert cursor == pytest.approx(float(face.get_attribute("aria-valuenow")), abs=0.3)
    click(page, "#play")


def test_the_timeline_is_a_table_too(page: Chrome, python: Tagger, recording: Path) -> None:
    give(page, recording)
    click(page, ".alternative summary")
    rows = [row.text for row in page.find_elements("css selector", "#table tbody tr")]
    assert len(rows) == 8
    wanted = tag_long(python, recording, hop=HOP, aggregate="max", top=8)
    assert [row.rsplit(" ", 12)[0] for row in rows] == [tag.label for tag in wanted.tags]
    shown = [max(map(float, row.rsplit(" ", 12)[1:])) for row in rows]
    assert shown == pytest.approx([tag.score for tag in wanted.tags], abs=0.006)


def test_what_axe_finds(page: Chrome, dist: Path, recording: Path) -> None:
    """Roles, names, contrast and the like, empty and with a recording, in both schemes, on a desk and a phone."""
    for given in (False, True):
        if given:
            give(page, recording)
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)):
            emulate(page, scheme=scheme, width=width)
            page.execute_cdp_cmd("Runtime.evaluate", {"expression": (dist / "axe.min.js").read_text(encoding="utf-8")})
            found = page.execute_async_script(
                "const done = arguments[0]; axe.run().then((r) => done(r.violations.map((v) => "
                "v.id + ': ' + v.nodes.map((n) => n.html + ' ' + n.failureSummary).join(' | '))))"
            )
            assert found == [], (given, scheme, width)
            wide = page.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width
    page.execute_script("document.querySelector('h2').removeAttribute('id'); document.querySelector('h1').remove();"
                        "document.querySelector('#play').removeAttribute('aria-label')")  # fmt: skip
    broken = page.execute_async_script("axe.run().then((r) => arguments[0](r.violations.map((v) => v.id)))")
    assert "button-name" in broken


# ---- the network


def test_nothing_leaves_the_page(page: Chrome, elsewhere: tuple[int, list[str]], recording: Path) -> None:
    """All that the browser asks of other computers would go through a proxy, which has been asked for nothing."""
    _, asked = elsewhere
    give(page, recording)
    assert asked == []
    policy = page.execute_script("return document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert "connect-src 'self'" in policy
    assert refusals(page) == []  # the page itself keeps to it
    page.execute_script("document.body.append(Object.assign(new Image(), { src: 'http://example.com/a.png' }))")
    wait(page, lambda: refusals(page))
    assert asked == []
    page.get("data:text/html,<img src='http://example.com/a.png'>")
    wait(page, lambda: asked == ["http://example.com/a.png"])  # so the proxy would have noticed
    asked.clear()


def refusals(page: Chrome) -> list[str]:
    """What the page's policy has refused since the last call."""
    return [entry["message"] for entry in page.get_log("browser") if "Content Security Policy" in entry["message"]]


# ---- what it serves


def test_a_bundle_that_cannot_be_made_is_left_out(
    make_public: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DEMO_BUNDLE, tmp_path / "bundles" / "demo")
    monkeypatch.setenv("MN04_CHECKPOINT", str(tmp_path / "nowhere.pt"))
    assert make_public.main(["--out", str(tmp_path)]) == 0
    assert "without mn04" in capsys.readouterr().out
    listed = json.loads((tmp_path / "bundles" / "index.json").read_text())
    assert [entry["folder"] for entry in listed] == ["demo"]
    for entry in json.loads((tmp_path / "examples" / "index.json").read_text()):
        assert soundfile.info(tmp_path / "examples" / entry["file"]).duration > 2


# ---- the picture of the README


def test_the_screenshot_is_of_this_page(page: Chrome) -> None:
    """WEB_SCREENSHOT=1 takes it again. Fonts may differ between computers, so parts are compared, not pixels."""
    emulate(page, height=1400)
    click(page, "#examples button")
    wait(page, lambda: "six_sounds" in page.find_element("id", "spoken").get_attribute("textContent"))
    page.execute_script(
        "document.activeElement.blur(); scrollTo(0, 0);"
        "const line = document.querySelector('#heard-line');"
        "line.textContent = line.textContent.replace(/ \\d+ ms per window\\./, '');"  # varies
    )
    time.sleep(0.3)
    png = base64.b64decode(page.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    if os.environ.get("WEB_SCREENSHOT"):
        SCREENSHOT.write_bytes(png)
    now, committed = coarse(png), coarse(SCREENSHOT.read_bytes())
    assert now.shape == committed.shape
    assert np.abs(now - committed).mean() < 0.02
    emulate(page, scheme="dark", height=1400)
    time.sleep(0.3)
    dark = base64.b64decode(page.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    assert np.abs(coarse(dark) - committed).mean() > 0.2  # so another page would be noticed


def coarse(png: bytes) -> NDArray[np.float32]:
    """The picture in squares of 20 pixels, grey, 0 … 1."""
    grey = matplotlib.image.imread(io.BytesIO(png))[..., :3].mean(axis=2)
    height, width = (20 * (n // 20) for n in grey.shape)
    return np.asarray(grey[:height, :width].reshape(height // 20, 20, width // 20, 20).mean(axis=(1, 3)), np.float32)
