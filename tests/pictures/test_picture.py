"""Pictures: the timeline against its sources, the files of the plot, the page in a real browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import AUDIO, REAL_WEIGHTS, fake_windows, needs_shared, run_python

from panns_litert import Tagger
from panns_litert.atomic import replacing
from panns_litert.audio import load_audio
from panns_litert.cli import main
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError, PictureError, ResultsError
from panns_litert.events import EventSettings
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_32K, FrontEndSpec, LogMel, mel_basis
from panns_litert.pictures import Timeline, clock, plot, ticks, timeline, write_page
from panns_litert.pictures.page import _embedded
from panns_litert.pictures.timeline import _band_centres, _LogMelColumns, _Scores
from panns_litert.sense import Sense
from panns_litert.windows import Columns, StreamTagger, find_events, windows

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HOSTILE = "<script>document.title='run'<_script>&\"'$x^2$\u202e.flac"
"""A file name that must not act as markup, attribute or formula."""


@pytest.fixture(scope="module")
def recording(demo_sound: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All demo clips one after another, 21.5 s, in a format that browsers play."""
    path = tmp_path_factory.mktemp("recording") / "all of them.flac"
    soundfile.write(path, demo_sound, 32000)
    return path


@pytest.fixture(scope="module")
def heard(tagger: Tagger, recording: Path) -> Timeline:
    return timeline(tagger, recording)


# ---- timeline


@hypothesis_settings(max_examples=50)
@given(blocks=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_columns_are_the_highest_of_equal_stretches(blocks: list[int], seed: int) -> None:
    most = 8
    rows = np.random.default_rng(seed).standard_normal((max(1, sum(blocks)), 3)).astype(np.float32)
    starts = 0.5 * np.arange(len(rows))
    columns = Columns(3, most)
    at = 0
    for size in [*blocks, len(rows) - sum(blocks)]:
        columns.push(rows[at : at + size], starts[at : at + size])
        at += size
    edges, values = columns.finish(0.5 * len(rows))
    stride = 1
    while stride * most < len(rows):
        stride *= 2
    want = [rows[i : i + stride].max(axis=0) for i in range(0, len(rows), stride)]
    assert np.array_equal(values, want)
    assert edges.tolist() == [*starts[::stride], 0.5 * len(rows)]


def test_timeline_is_what_windows_and_events_say(tagger: Tagger, recording: Path, heard: Timeline) -> None:
    found = list(windows(tagger, recording, hop=1.0))
    assert heard.seconds == found[-1].end == 21.5
    assert heard.source == str(recording)
    assert np.array_equal(heard.scores, [window.probs for window in found])
    assert heard.times.tolist() == [0.0, *(5.5 + k for k in range(len(found) - 1)), 21.5]
    assert list(heard.events) == sorted(find_events(tagger, recording), key=lambda event: (event.start, event.index))
    assert len(heard.events) >= 5
    best = [heard.labels[i] for i in heard.top(3)]
    assert "Foghorn" in best
    assert heard.scores.max(axis=0)[heard.top(3)].tolist() == sorted(heard.scores.max(axis=0))[:-4:-1]


@pytest.mark.parametrize("spec", [PANNS_32K, EFFICIENTAT_32K, AST_16K], ids=["panns", "efficientat", "ast"])
def test_log_mel_is_that_of_the_whole_in_decibels(spec: FrontEndSpec, recording: Path) -> None:
    sound = load_audio(recording, sample_rate=spec.sample_rate).waveform
    columns = _LogMelColumns(spec, mel_basis(spec))
    for part in np.split(sound, [5, 4000, 70000]):
        columns.push(part)
    seconds = len(sound) / spec.sample_rate
    edges, decibels = columns.finish(seconds)
    logmel = LogMel(replace(spec, padded_frames=None))(sound)
    if spec.affine is not None:  # ln to 10 log10
        logmel = 10 * (logmel * spec.affine[1] - spec.affine[0]) / np.log(10)
    stride = -(-len(logmel) // 2000)
    want = [logmel[i : i + stride].max(axis=0) for i in range(0, len(logmel), stride)]
    assert np.abs(decibels - want).max() <= 1e-4
    assert (edges[0], edges[-1]) == (0.0, seconds)
    assert (np.diff(edges) > 0).all()
    centre = (stride * 5 + (stride - 1) / 2) * spec.hop_length + (0 if spec.center else spec.win_length / 2)
    assert (edges[5] + edges[6]) / 2 == pytest.approx(centre / spec.sample_rate)


def test_a_tone_is_drawn_at_its_frequency(tagger: Tagger, tmp_path: Path) -> None:
    for hz in (300.0, 1000.0, 6000.0):
        soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * hz * np.arange(32000) / 32000), 32000)
        found = timeline(tagger, tmp_path / "tone.wav")
        loudest = found.mel_hz[found.logmel[20].argmax()]
        assert abs(loudest - hz) <= max(40.0, 0.05 * hz)


def test_band_centres_rise_even_where_a_band_is_empty() -> None:
    basis = mel_basis(PANNS_32K)
    basis[0] = basis[7] = 0.0
    centres = _band_centres(PANNS_32K, basis)
    assert (np.diff(centres) >= 0).all()
    assert centres[6] < centres[7] < centres[8]


@pytest.mark.parametrize("seconds", [1 / 32000, 0.01, 0.3])
def test_a_very_short_recording_has_a_timeline_and_a_picture(tagger: Tagger, tmp_path: Path, seconds: float) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(max(1, round(32000 * seconds)), 0.1), 32000)
    found = timeline(tagger, tmp_path / "short.wav")
    assert found.seconds == pytest.approx(seconds)
    assert found.times.tolist() == [0.0, found.seconds]
    assert np.isfinite(found.logmel).all()
    plot(found, tmp_path / "short.png")
    write_page(tmp_path / "short.html", [found])


def test_an_hour_stays_small(tagger: Tagger, tmp_path: Path) -> None:
    """Timeline, plot and page of an hour stay small. The model runs every 10 s only."""
    block = np.sin(0.1 * np.arange(8000 * 60))
    with soundfile.SoundFile(tmp_path / "hour.wav", "w", 8000, 1, "PCM_U8") as file:
        for _ in range(60):
            file.write(block)
    told: list[float] = []
    found = timeline(tagger, tmp_path / "hour.wav", hop=10.0, progress=told.append)
    assert told == [10.0 * (k + 1) for k in range(360)]
    assert found.seconds == 3600.0
    assert 1000 < len(found.logmel) <= 2000
    assert len(found.scores) == 360
    plot(found, tmp_path / "hour.svg")
    assert "hours:minutes:seconds" in (tmp_path / "hour.svg").read_text(encoding="utf-8")
    write_page(tmp_path / "hour.html", [found])
    assert (tmp_path / "hour.html").stat().st_size < 200_000  # 29 MB of samples, and a link to them


@pytest.mark.parametrize("hop", [250, 999, 1000])
@pytest.mark.parametrize("frames", [40, 1000, 1001, 2345])
def test_frame_wise_scores_do_not_depend_on_windows(tagger: Tagger, frames: int, hop: int) -> None:
    scores = np.random.default_rng(1).random((frames, len(tagger.labels))).astype(np.float32)
    found = _Scores(StreamTagger(tagger, hop=hop / 100), Sense(tagger.labels))
    for window in fake_windows(scores.astype(np.float64), hop=hop, length=1000):
        found.push(window)
    edges, values = found.finish(frames / 100)
    stride = 1
    while stride * 1000 < frames:
        stride *= 2
    assert np.array_equal(values, [scores[i : i + stride].max(axis=0) for i in range(0, frames, stride)])
    assert np.allclose(edges, [*np.arange(0, frames, stride) / 100, frames / 100])


def test_groups_take_the_place_of_classes(tagger: Tagger, recording: Path) -> None:
    sense = Sense(tagger.labels, groups={"signal": ["Siren", "Foghorn"], "bell": ["Church bell"]})
    found = timeline(tagger, recording, sense=sense, settings=EventSettings(on=0.5, off=0.4))
    assert found.labels == ("signal", "bell")
    assert {event.label for event in found.events} == {"signal", "bell"}
    assert found.scores.shape[1] == len(found.mean) == 2


@given(seconds=st.floats(1e-4, 1e6))
def test_ticks_are_few_round_and_within(seconds: float) -> None:
    at = ticks(seconds)
    assert at[0] == 0
    assert at[-1] <= seconds * (1 + 1e-6)
    assert len(at) <= 13
    assert seconds < 0.2 or len(at) >= 3


def test_times_are_minutes_and_seconds() -> None:
    times = ["0:00", "0:59", "1:00", "59:59", "1:00:00", "10:01:01"]
    assert [clock(t) for t in (0, 59.99, 60, 3599, 3600, 36061)] == times
    assert [clock(t, tenths=True) for t in (0.3, 0.7, 1.1, 75.25)] == ["0:00.3", "0:00.7", "0:01.1", "1:15.2"]


# ---- plot


def pixels(path: Path) -> NDArray[np.float64]:
    return np.asarray(matplotlib.image.imread(path))[..., :3].astype(np.float64)


def test_png_is_of_that_size_and_not_blank(heard: Timeline, tmp_path: Path) -> None:
    plot(heard, tmp_path / "heard.png")
    plot(replace(heard, events=()), tmp_path / "none.png")
    image, without_events = (pixels(tmp_path / f"{name}.png") for name in ("heard", "none"))
    assert image.shape == (1000, 1600, 3)
    assert 0.05 < (image.mean(axis=2) < 0.5).mean() < 0.6
    event_bars = np.array([0xB3, 0x47, 0x00]) / 255
    assert (np.abs(image - event_bars).max(axis=2) < 0.01).sum() > 5000
    assert (np.abs(without_events - event_bars).max(axis=2) < 0.01).sum() == 0


def test_svg_has_its_texts(heard: Timeline, tmp_path: Path) -> None:
    plot(heard, tmp_path / "heard.svg", top=5)
    root = ElementTree.parse(tmp_path / "heard.svg").getroot()
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {heard.labels[i] for i in heard.top(5)} <= texts
    assert {
        "0:00",
        "0:20",
        "1 k",
        "log-mel, dB",
        "all of them.flac  ·  0:21  ·  demo, windows of 10 s every 1 s",
    } <= texts


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_timeline_is_the_same_file(heard: Timeline, tmp_path: Path, suffix: str) -> None:
    import matplotlib

    plot(heard, tmp_path / f"a.{suffix}")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30.0}):  # the user's own style
        plot(heard, tmp_path / f"b.{suffix}")
        assert matplotlib.rcParams["font.size"] == 30.0
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert sorted(os.listdir(tmp_path)) == [f"a.{suffix}", f"b.{suffix}"]


def test_another_timeline_is_another_picture(heard: Timeline, tmp_path: Path) -> None:
    plot(heard, tmp_path / "a.png")
    a = pixels(tmp_path / "a.png")
    for change in ({"scores": 0 * heard.scores}, {"logmel": heard.logmel[:, ::-1]}, {"events": heard.events[:3]}):
        plot(replace(heard, **change), tmp_path / "b.png")  # type: ignore[arg-type]
        assert (np.abs(pixels(tmp_path / "b.png") - a).max(axis=2) > 0.1).mean() > 0.01, change


def test_a_hostile_name_is_text_in_a_picture(heard: Timeline, tmp_path: Path) -> None:
    plot(replace(heard, source=f"{HOSTILE}\x01\udcff"), tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    title = next(text for e in root.iter("{http://www.w3.org/2000/svg}text") if "demo" in (text := e.text or ""))
    assert title.startswith("<script>document.title='run'<_script>&\"'$x^2$\\u202e.flac")
    assert not list(root.iter("script"))


def test_hostile_labels_and_warnings_are_text(heard: Timeline, tmp_path: Path) -> None:
    label = "\x1b[31m<b>\x00\x9b\udce9"
    labels = (label, *heard.labels[1:])
    scores = np.ones_like(heard.scores)
    event = replace(heard.events[0], label=label, index=0)
    bad = replace(heard, labels=labels, scores=scores, events=(event,), model=label, warnings=(label, "cut at 3 s"))
    plot(bad, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    shown = r"\x1b[31m<b>\x00\u009b\xe9"
    assert texts.count(shown) == 2  # classes, events
    assert f"Warning: {shown}" in texts
    assert "Warning: cut at 3 s" in texts
    write_page(tmp_path / "a.html", [bad])
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not any(c in page for c in "\x1b\x00\x9b")
    assert shown.replace("<b>", "&lt;b&gt;") in page
    assert '<p class="warning">Warning: cut at 3 s</p>' in page


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt"])
def test_an_unknown_kind_of_picture_is_an_error(heard: Timeline, tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match=r"expected \.png or \.svg"):
        plot(heard, tmp_path / name)
    with pytest.raises(PictureError, match=r"expected \.html"):
        write_page(tmp_path / name, [heard])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("top", [0, -1, True, 1.5])
def test_top_out_of_range_is_an_error(heard: Timeline, tmp_path: Path, top: Any) -> None:
    with pytest.raises(AudioError, match="expected a whole number"):
        plot(heard, tmp_path / "a.png", top=top)
    with pytest.raises(AudioError, match="expected a whole number"):
        write_page(tmp_path / "a.html", [heard], top=top)
    assert os.listdir(tmp_path) == []


def test_matplotlib_missing_is_said() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from panns_litert.cli import main; sys.exit(main(['plot', 'a.wav', '--out', 'a.png']))"
    )
    result = run_python(code, check=False)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("panns-litert: pictures need matplotlib, which cannot be imported (")
    assert line.endswith("); install the extra plot (docs/install.md)")


# ---- files


def test_files_are_written_atomically(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("before")
    with pytest.raises(PictureError, match="no recording"):
        write_page(tmp_path / "a.html", [])
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.html") as file:
        file.write(b"half")
        raise RuntimeError
    assert (tmp_path / "a.html").read_text() == "before"
    with (
        pytest.raises(ResultsError, match=r"nowhere.*expected a file that can be written"),
        replacing(tmp_path / "nowhere" / "a.html"),
    ):
        pass
    with replacing(tmp_path / "a.html") as file:
        file.write(b"after")
    assert (tmp_path / "a.html").read_text() == "after"
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.html").stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["a.html"]


def sound_in(address: str) -> NDArray[np.float64]:
    kind, data = address.removeprefix("data:").split(";base64,")
    assert kind.startswith("audio/")
    return soundfile.read(io.BytesIO(base64.b64decode(data)))[0]  # type: ignore[no-any-return]


def test_a_playable_recording_is_embedded_as_it_is(recording: Path) -> None:
    address = _embedded(str(recording), 8_000_000)
    assert address is not None
    assert base64.b64decode(address.split(",")[1]) == recording.read_bytes()


@pytest.mark.parametrize(
    ("name", "subtype", "channels"),
    [
        ("a.aiff", "PCM_24", 2),
        ("a.wav", "DOUBLE", 1),
        ("a.wav", "PCM_16", 1),
        ("a.wav", "GSM610", 1),
        ("a.w64", "PCM_16", 4),
    ],
)
def test_any_recording_is_embedded_as_something_playable(
    tmp_path: Path, name: str, subtype: str, channels: int
) -> None:
    sound = 0.5 * np.sin(0.05 * np.arange(20000))
    soundfile.write(tmp_path / name, np.repeat(sound[:, None], channels, axis=1), 8000, subtype=subtype)
    address = _embedded(str(tmp_path / name), 8_000_000)
    assert address is not None
    assert address.startswith(("data:audio/flac;", "data:audio/wav;"))
    mono = sound_in(address)
    assert mono.ndim == 1
    assert len(mono) >= 20000
    assert np.abs(mono[:20000] - sound).max() < (0.3 if subtype == "GSM610" else 1e-4)


def test_a_large_recording_is_a_link(heard: Timeline, recording: Path, tmp_path: Path) -> None:
    assert _embedded(str(recording), 100_000) is None
    noise = np.random.default_rng(0).uniform(-1, 1, (32000 * 150, 2)).astype(np.float32)
    folder = tmp_path / "a folder: 100 % #1?"
    folder.mkdir()
    soundfile.write(folder / "noise.wav", noise, 32000)
    write_page(tmp_path / "a.html", [replace(heard, source=str(folder / "noise.wav"))])
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert 'src="a%20folder%3A%20100%20%25%20%231%3F/noise.wav"' in page


def test_a_recording_that_is_gone_is_an_error(heard: Timeline, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no longer readable"):
        write_page(tmp_path / "a.html", [replace(heard, source=str(tmp_path / "gone.wav"))])
    assert os.listdir(tmp_path) == []


# ---- page, in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium whose console and requests can be read."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver; on Debian: apt install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "disable-dev-shm-usage", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync", "mute-audio",
        "window-size=1280,1000", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


def requests(browser: Chrome) -> list[str]:
    """Returns the addresses requested since the last call, without data: and the browser's own chrome: pages."""
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "chrome:"))]


def complaints(browser: Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def opened(browser: Chrome, page: Path) -> str:
    """Opens a page and waits until its recordings have loaded. Returns its address."""
    from selenium.webdriver.support.wait import WebDriverWait

    requests(browser)
    complaints(browser)
    browser.get(page.as_uri())
    loaded = "return [...document.querySelectorAll('audio')].every((a) => a.readyState >= 1 || a.error)"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(loaded))
    return page.as_uri()


@pytest.fixture(scope="module")
def page(tagger: Tagger, heard: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    shutil.copyfile(demo_clips()[0], folder / HOSTILE)
    soundfile.write(folder / "other format.aiff", np.sin(0.1 * np.arange(16000)), 8000)
    others = [timeline(tagger, folder / name) for name in (HOSTILE, "other format.aiff")]
    write_page(folder / "heard.html", [heard, *others], top=6)
    return folder / "heard.html"


def test_the_page_loads_without_complaint_or_request(browser: Chrome, page: Path) -> None:
    address = opened(browser, page)
    assert complaints(browser) == []
    assert requests(browser) == [address]
    assert browser.title == "What was heard: 3 recordings, demo, windows of 10 s every 1 s"
    durations = browser.execute_script("return [...document.querySelectorAll('audio')].map((a) => a.duration)")
    assert durations == pytest.approx([21.5, soundfile.info(demo_clips()[0]).duration, 2.0], abs=0.01)


def test_the_check_above_can_fail(browser: Chrome, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tampered = tmp_path / "tampered.html"
    tampered.write_text(text.replace("<h1>", '<img src="http://127.0.0.1:9/a.png"><script>1;</script><h1>', 1))
    opened(browser, tampered)
    assert len(complaints(browser)) == 2  # the page's own policy forbids both
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", tampered.read_text())
    tampered.write_text(open_page)
    opened(browser, tampered)
    assert "http://127.0.0.1:9/a.png" in requests(browser)


def test_the_page_says_what_was_heard(browser: Chrome, page: Path, heard: Timeline) -> None:
    from selenium.webdriver.common.by import By

    opened(browser, page)
    names = [element.text for element in browser.find_elements(By.TAG_NAME, "h2")]
    assert names == [heard.name, Path(HOSTILE).name.replace("\u202e", "\\u202e"), "other format.aiff"]
    tables = browser.find_element(By.TAG_NAME, "article").find_elements(By.TAG_NAME, "table")
    assert [table.is_displayed() for table in tables] == [True, True]
    tags, events = (table.text for table in tables)
    for index in heard.top(6):
        assert f"{heard.labels[index]} {heard.scores[:, index].max():.3f} {heard.mean[index]:.3f}" in tags
    for event in heard.events:
        times = f"{clock(event.start, tenths=True)} {clock(event.end, tenths=True)}"
        assert f"{event.label} {times} {event.score:.3f}" in events
    labels = browser.find_elements(By.CSS_SELECTOR, "article:first-of-type .label")
    assert [label.text for label in labels] == ["log-mel, 0.1 – 13 kHz", *(heard.labels[i] for i in heard.top(6))]


def test_the_spectrogram_shows_every_value_at_its_time(browser: Chrome, page: Path, heard: Timeline) -> None:
    """Its grey values, read back from the browser, are the log-mel's; its columns begin and end as they do."""
    opened(browser, page)
    width, height, left, right, greys = browser.execute_script(
        "const image = document.querySelector('.spectrogram img'), row = image.parentElement.getBoundingClientRect();"
        "const canvas = document.createElement('canvas'), box = image.getBoundingClientRect();"
        "[canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];"
        "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
        "const data = context.getImageData(0, 0, canvas.width, canvas.height).data;"
        "return [canvas.width, canvas.height, (box.left - row.left) / row.width, (box.right - row.left) / row.width,"
        " [...data].filter((_, k) => k % 4 == 0)]"
    )
    columns, mels = heard.logmel.shape
    step = -(-columns // 1000)
    assert (width, height) == (-(-columns // step), mels)
    hop = heard.logmel_times[2] - heard.logmel_times[1]
    assert left == pytest.approx((heard.logmel_times[1] - hop) / heard.seconds, abs=2e-3)
    assert right == pytest.approx(left + width * step * hop / heard.seconds, abs=2e-3)
    joined = np.maximum.reduceat(heard.logmel, np.arange(0, columns, step), axis=0)
    expected = 255.0 * np.clip((heard.logmel.max() - joined) / 80.0, 0.0, 1.0)
    assert np.abs(np.reshape(greys, (height, width))[::-1].T - expected).max() < 1.0


def test_the_list_leads_to_recordings_and_the_filter_hides_others(browser: Chrome, page: Path, heard: Timeline) -> None:
    from selenium.webdriver.common.by import By

    opened(browser, page)
    links = browser.find_elements(By.CSS_SELECTOR, "nav li a")
    assert [link.text for link in links] == [h2.text for h2 in browser.find_elements(By.TAG_NAME, "h2")]
    links[2].click()
    assert browser.execute_script("return document.querySelector('#recording3').getBoundingClientRect().top") < 1000
    field = browser.find_element(By.ID, "filter")

    def shown() -> list[str]:
        return [h2.text for h2 in browser.find_elements(By.TAG_NAME, "h2") if h2.is_displayed()]

    everything = shown()
    field.send_keys("OTHER aiff")
    assert shown() == ["other format.aiff"]
    assert browser.find_element(By.ID, "shown").text == "1 of 3 recordings"
    assert [link.is_displayed() for link in links] == [False, False, True]
    field.clear()
    field.send_keys("no such sound")
    assert shown() == []
    field.clear()
    field.send_keys(" ")
    assert shown() == everything
    field.clear()
    field.send_keys(heard.labels[heard.top(1)[0]])  # a class
    assert heard.name in shown()
    lowest = heard.top(len(heard.labels))[-1]
    assert heard.scores[:, lowest].max() < 0.1
    field.clear()
    field.send_keys(heard.labels[lowest])
    assert heard.name not in shown()  # it was not heard
    assert complaints(browser) == []


def test_one_recording_needs_no_list(heard: Timeline, tmp_path: Path) -> None:
    write_page(tmp_path / "one.html", [heard])
    text = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "<nav" not in text
    assert "<title>What was heard: 1 recording, demo, windows of 10 s every 1 s</title>" in text


@pytest.mark.parametrize("width", [360, 640, 1280])
def test_the_page_fits_any_screen(browser: Chrome, page: Path, width: int) -> None:
    """Nothing is wider than the screen, and the timelines of a phone take most of it. The axis fits the timeline."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(browser, page)
        more, line, row, axis = browser.execute_script(
            "const box = (name) => document.querySelector(name).getBoundingClientRect();"
            "const root = document.documentElement;"
            "return [root.scrollWidth - root.clientWidth, ...['.timeline', '.row', '.axis'].map((name) =>"
            " [box(name).left, box(name).right])]"
        )
        assert more == 0
        assert line == pytest.approx(row, abs=0.5)
        assert line == pytest.approx(axis, abs=0.5)
        assert line[1] - line[0] >= (0.85 if width <= 640 else 0.6) * width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def place(browser: Chrome) -> tuple[float, float]:
    """Returns the position in the first recording, in seconds: of the player, and of the cursor on the timeline."""
    return tuple(  # type: ignore[return-value]
        browser.execute_script(
            "const box = document.querySelector('.timeline').getBoundingClientRect();"
            "const cursor = document.querySelector('.cursor').getBoundingClientRect();"
            "const at = document.querySelector('audio').currentTime;"
            "return [at, 21.5 * ((cursor.left + cursor.right) / 2 - box.left) / box.width]"
        )
    )


def test_a_click_seeks_and_the_cursor_follows(browser: Chrome, page: Path, heard: Timeline) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    opened(browser, page)
    line = browser.find_element(By.CSS_SELECTOR, ".timeline")
    assert place(browser) == pytest.approx((0.0, 0.0), abs=0.05)
    ActionChains(browser).move_to_element_with_offset(line, line.size["width"] // 4, 0).click().perform()
    assert place(browser) == pytest.approx((0.75 * 21.5,) * 2, abs=0.1)
    assert line.get_attribute("aria-valuetext") == "0:16"
    now = browser.find_elements(By.CSS_SELECTOR, "article:first-of-type tr.now")
    at = 0.75 * 21.5
    assert len(now) >= 2
    assert {row.text.rsplit(" ", 3)[0] for row in now} == {e.label for e in heard.events if e.start <= at < e.end}
    browser.find_element(By.CSS_SELECTOR, ".events button[data-at='6.500']").click()
    assert place(browser) == pytest.approx((6.5, 6.5), abs=0.05)
    browser.execute_script("document.querySelector('audio').currentTime = 3")
    WebDriverWait(browser, 10).until(lambda b: abs(place(b)[1] - 3.0) < 0.05)
    line.send_keys(Keys.ARROW_RIGHT)
    assert place(browser) == pytest.approx((4.0, 4.0), abs=0.05)
    line.send_keys(Keys.HOME)
    assert place(browser) == pytest.approx((0.0, 0.0), abs=0.05)
    line.send_keys(Keys.SPACE)  # plays
    WebDriverWait(browser, 20).until(lambda b: place(b)[1] > 0.3)
    player, cursor = place(browser)
    assert abs(player - cursor) < 0.3
    line.send_keys(Keys.SPACE)
    assert browser.execute_script("return document.querySelector('audio').paused")
    assert complaints(browser) == []


def test_everything_is_reached_by_keyboard(browser: Chrome, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)
    reached = []
    for _ in range(20):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.switch_to.active_element)
    roles = [(element.tag_name, element.aria_role) for element in reached]
    assert [tag for tag, _ in roles[:4]] == ["input", "a", "a", "a"]
    assert "audio" in {tag for tag, _ in roles}
    assert ("div", "slider") in roles
    assert ("button", "button") in roles
    names = {element.accessible_name for element in reached}
    assert {"Position in all of them.flac", "Tags", "go to 0:06.5"} <= names


def test_a_linked_recording_plays(browser: Chrome, heard: Timeline, tmp_path: Path) -> None:
    folder = tmp_path / "large ones: 100 % #1?"
    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-1, 1, 32000 * 100).astype(np.float32)
    soundfile.write(folder / "noise.flac", noise, 96000, subtype="PCM_24")
    assert (folder / "noise.flac").stat().st_size > 8_000_000
    write_page(tmp_path / "a.html", [replace(heard, source=str(folder / "noise.flac"))])
    opened(browser, tmp_path / "a.html")
    assert browser.execute_script("return document.querySelector('audio').duration") == pytest.approx(100 / 3, abs=0.01)
    assert complaints(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(browser: Chrome, page: Path, scheme: str) -> None:
    """The contrast is at least 4.5, the limit of WCAG 2.2 (1.4.3)."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    opened(browser, page)
    colours = browser.execute_script(
        "const of = (s, p) => getComputedStyle(document.querySelector(s))[p];"
        "return [of('body', 'backgroundColor'), of('h2', 'color'), of('svg', 'fill'), of('svg .event', 'fill')]"
    )
    paper, *inks = (luminance(colour) for colour in colours)
    assert (paper > 0.5) == (scheme == "light")
    for ink in inks:
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Returns the relative luminance of "rgb(r, g, b)" (WCAG 2.2)."""
    channels = np.array([int(n) for n in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# ---- commands


def test_plot_and_page_commands(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, page = tmp_path / "a.png", tmp_path / "a.html"
    assert main(["plot", str(recording), "--out", str(picture), "--top", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["picture"] == str(picture)
    assert len(report["tags"]) == 3
    assert pixels(picture).shape == (1000, 1600, 3)
    assert main(["page", str(recording), str(demo_clips()[0].parent), "--out", str(page), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [r["source"] for r in results] == [str(recording), *map(str, demo_clips())]
    assert page.read_text(encoding="utf-8").count("<article") == 1 + len(demo_clips())


def test_a_bad_recording_does_not_stop_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "a.html"
    assert main(["page", "nowhere.wav", str(demo_clips()[0]), "--out", str(page)]) == 2
    assert "nowhere.wav: no such file" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8").count("<article") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plot", "nowhere.wav", "--out", "a.gif"], "expected .png or .svg"),
        (["plot", "nowhere.wav", "--out", "nowhere/a.png"], "no folder nowhere"),
        (["plot", "nowhere.wav", "--out", "a.png", "--top", "0"], "top = 0"),
        (["plot", "nowhere.wav", "--out", "a.png"], "nowhere.wav: no such file"),
        (["page", "-", "--out", "a.html"], "expected files"),
        (["page", "nowhere.wav", "--out", "a.wav"], "expected .html"),
        (["page", "nowhere.wav", "--out", "nowhere/a.html"], "expected a file that can be written"),
    ],
)
def test_bad_input_is_exit_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


# ---- real recordings


@needs_shared
def test_real_recordings_with_real_weights(tmp_path: Path) -> None:
    from panns_litert_convert.convert import convert

    tagger = Tagger(convert("mn04", checkpoint=REAL_WEIGHTS, out=tmp_path / "mn04"), threads=1)
    found = [timeline(tagger, path) for path in sorted(AUDIO.glob("*.wav"))]
    best = {Path(t.source).name: t.labels[t.top(1)[0]] for t in found}
    assert best == {"R9_ZSCveAHg_7s.wav": "Speech", "metro_station-paris.wav": "Train"}
    write_page(tmp_path / "real.html", found)
    for t in found:
        plot(t, tmp_path / f"{t.name}.svg")
        assert t.labels[t.top(1)[0]] in (tmp_path / f"{t.name}.svg").read_text(encoding="utf-8")
