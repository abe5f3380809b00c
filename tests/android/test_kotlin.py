"""The Kotlin library of android_demo/tagger: its own tests; its numbers against float64, soxr and this runtime."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import kotlin
import numpy as np
import pytest
import scipy.signal
import soxr
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips
from panns_litert.engine import CpuEngine
from panns_litert.events import EventDetector, EventSettings
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_8K, PANNS_16K, PANNS_32K, LogMel, mel_basis
from panns_litert.tagger import Tagger
from panns_litert_convert.references import float64_logmel, front_end_sounds
from panns_litert_convert.references import to_decibels as decibels
from panns_litert_convert.stages import ELSEWHERE_DB, NEAR_DB, near_peak

Json = dict[str, Any]
PACKAGE = "io.github.pannslitert"

SPECS = {"32k": PANNS_32K, "16k": PANNS_16K, "8k": PANNS_8K, "EfficientAT": EFFICIENTAT_32K, "AST": AST_16K}
CHANGES: list[Json] = [{"hop_length": 319}, {"fmax": 13900.0}, {"win_length": 1000}]
RESAMPLED = [(44100, 32000), (48000, 32000), (16000, 32000), (8000, 32000), (48000, 16000), (44100, 16000)]
CHUNKS = [160, 1, 4097, 33]


class Driver:
    """Collects cases, runs them in one JVM, and reads their results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cases: list[Json] = []
        self._results: dict[str, Path] = {}

    def add(self, name: str, run: str, **arguments: Any) -> None:
        case: Json = {"run": run, "output": str(self._folder / f"{len(self._cases)}.out"), "name": name}
        for key, value in arguments.items():
            if isinstance(value, np.ndarray):
                path = self._folder / f"{len(self._cases)}.{key}"
                value.astype("<f4").tofile(path)
                value = str(path)
            case[key] = value
        self._cases.append(case)

    def run(self) -> None:
        path = self._folder / "cases.json"
        path.write_text(json.dumps(self._cases), encoding="utf-8")
        kotlin.run(f"{PACKAGE}.DriverKt", path)
        self._results = {case["name"]: Path(case["output"]) for case in self._cases}

    def floats(self, name: str) -> NDArray[np.float32]:
        return np.fromfile(self._results[name], "<f4").astype(np.float32)

    def json(self, name: str) -> Any:
        return json.loads(self._results[name].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def driver(jvm: None, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The results of all cases of this file."""
    driver = Driver(tmp_path_factory.mktemp("kotlin"))
    for name, spec in SPECS.items():
        for sound, samples in front_end_sounds(spec.sample_rate).items():
            driver.add(f"{name} {sound}", "logmel", spec=spec.to_dict(), basis=mel_basis(spec), input=samples)
    for change in CHANGES:
        noise = front_end_sounds(32000)["white noise"]
        spec = replace(PANNS_32K, **change)
        driver.add(f"change {change}", "logmel", spec=spec.to_dict(), basis=mel_basis(spec), input=noise)
    driver.add(
        "streaming", "streaming", spec=PANNS_32K.to_dict(), basis=mel_basis(PANNS_32K), input=stream(),
        window=64000, hop=50, chunks=CHUNKS,
    )  # fmt: skip
    for clip in demo_clips():
        driver.add(
            f"clip {clip.name}", "logmel", spec=PANNS_32K.to_dict(), basis=mel_basis(PANNS_32K), input=padded(clip)
        )
    for rates in RESAMPLED:
        for name, samples in resampler_inputs(*rates).items():
            for chunks in ([1 << 30], CHUNKS):
                title = f"resample {rates} {name} {len(chunks)}"
                driver.add(title, "resample", input=samples, **{"from": rates[0], "to": rates[1]}, chunks=chunks)
    for seed in range(20):
        driver.add(f"events {seed}", "events", **event_case(seed))
    driver.run()
    return driver


def test_the_tests_of_the_library(jvm: None) -> None:
    classes = [
        ".".join(path.relative_to(kotlin.TESTS).with_suffix("").parts) for path in kotlin.TESTS.rglob("*Test.kt")
    ]
    assert len(classes) >= 6
    report = kotlin.run("org.junit.runner.JUnitCore", *sorted(classes))
    print(report)
    assert "\nOK (" in report


def test_gradle_packages_the_resources() -> None:
    """The library of the tests has the same resources as that of Gradle, under the same names."""
    script = (kotlin.DEMO / "tagger" / "build.gradle.kts").read_text(encoding="utf-8")
    found = re.findall(r'from\(rootDir\.resolve\("([^"]+)"\)\) \{\s*into\("([^"]+)"\)', script)
    assert {package: (kotlin.DEMO / path).resolve() for path, package in found} == kotlin.RESOURCES


# --- packages ---

LAYERS = (("",), ("audio", "frontend", "events", "sense"), ("bundle",), ("tagging",), ("measure",))
"""Packages of the library below `PACKAGE`, from the lowest layer to the highest. "" is `PACKAGE` itself."""


def layer_faults(folder: Path) -> list[str]:
    """Finds breaks of the layers in a folder of Kotlin sources.

    A file must be in the folder of its package. It may name its own package and the packages of lower layers, in an
    import or in the code.
    """
    layer = {package: number for number, packages in enumerate(LAYERS) for package in packages}
    faults = []
    for file in sorted(folder.rglob("*.kt")):
        name, text = str(file.relative_to(folder)), file.read_text(encoding="utf-8")
        own = ".".join(file.relative_to(folder).parent.parts)
        package = own.removeprefix(PACKAGE).removeprefix(".")
        if not text.startswith(f"package {own}\n"):
            faults.append(f"{name}: expected package {own}, as its folder")
        if package not in layer:
            faults.append(f"{name}: package {own} is not in LAYERS")
            continue
        for found in re.findall(rf"\b{re.escape(PACKAGE)}\.(\w+)", text.partition("\n")[2]):
            other = found if found in layer else ""
            if other != package and layer[other] >= layer[package]:
                faults.append(f"{name}: {package or 'the root'} may not use {other or 'the root'}")
    return faults


def test_packages_import_only_from_lower_layers() -> None:
    folders = {".".join(file.relative_to(kotlin.MAIN).parent.parts) for file in kotlin.MAIN.rglob("*.kt")}
    assert folders == {f"{PACKAGE}.{package}".removesuffix(".") for packages in LAYERS for package in packages}
    assert layer_faults(kotlin.MAIN) == []


@pytest.mark.parametrize(
    ("folder", "text", "fault"),
    [
        ("bundle", "package {0}.bundle\n\nimport {0}.AudioException\nimport {0}.frontend.LogMel\n", None),
        ("bundle", "package {0}.bundle\n\nimport {0}.tagging.Tagger\n", "bundle may not use tagging"),
        ("audio", "package {0}.audio\n\nimport {0}.frontend.*\n", "audio may not use frontend"),
        ("audio", "package {0}.audio\n\nval rate = {0}.events.RATE\n", "audio may not use events"),
        ("", "package {0}\n\nimport {0}.audio.Resampler\n", "the root may not use audio"),
        ("events", "package {0}.audio\n", "expected package {0}.events"),
        ("extras", "package {0}.extras\n", "package {0}.extras is not in LAYERS"),
    ],
)
def test_a_break_of_the_layers_is_found(tmp_path: Path, folder: str, text: str, fault: str | None) -> None:
    file = tmp_path.joinpath(*PACKAGE.split("."), folder, "Made.kt")
    file.parent.mkdir(parents=True)
    file.write_text(text.format(PACKAGE), encoding="utf-8")
    faults = layer_faults(tmp_path)
    assert len(faults) == (fault is not None)
    assert fault is None or fault.format(PACKAGE) in faults[0]


# --- front end ---


def largest_errors(name: str, got: NDArray[np.floating], want: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the largest errors near the peak and elsewhere, in dB, as the front_end gate bounds them."""
    error, near = np.abs(got - want), near_peak(want)
    at_peak, elsewhere = (float(error[part].max(initial=0.0)) for part in (near, ~near))
    print(f"{name}: near the peak {at_peak:.1e} dB, elsewhere {elsewhere:.1e} dB")
    return at_peak, elsewhere


@pytest.mark.parametrize("sound", front_end_sounds(8000))
@pytest.mark.parametrize("name", SPECS)
def test_front_end_gate(driver: Driver, name: str, sound: str) -> None:
    spec, samples = SPECS[name], front_end_sounds(SPECS[name].sample_rate)[sound]
    got = driver.floats(f"{name} {sound}").reshape(spec.frames(len(samples)), spec.n_mels)
    want = decibels(float64_logmel(samples, spec), spec)
    at_peak, elsewhere = largest_errors(f"{name} {sound}", decibels(got, spec), want)
    assert at_peak <= NEAR_DB
    assert elsewhere <= ELSEWHERE_DB
    if sound == "digital silence" and spec.log == "10log10":
        assert np.all(got == np.float32(-100.0))
    # The two languages agree: each may be off by the gate, and Python uses float32 where that is enough.
    assert np.abs(decibels(got, spec) - decibels(LogMel(spec)(samples), spec)).max() <= ELSEWHERE_DB


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_definition_fails(driver: Driver, change: Json) -> None:
    want = float64_logmel(front_end_sounds(32000)["white noise"], PANNS_32K)
    got = driver.floats(f"change {change}").reshape(-1, 64)[: len(want)]
    assert largest_errors(str(change), got, want[: len(got)])[0] > 10 * ELSEWHERE_DB


def stream() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    return (0.1 * rng.standard_normal(5 * 32000 + 77)).astype(np.float32)


def test_streaming_gives_the_frames_of_the_whole(driver: Driver) -> None:
    want = float64_logmel(stream(), PANNS_32K)
    windows = driver.floats("streaming").reshape(-1, 201, 64)
    assert len(windows) == (len(want) - 201) // 50 + 1
    for i, window in enumerate(windows):
        assert np.abs(window - want[50 * i : 50 * i + 201]).max() <= NEAR_DB
        assert i == 0 or np.array_equal(window[:151], windows[i - 1][50:])


def padded(clip: Path) -> NDArray[np.float32]:
    samples = load_audio(clip, sample_rate=32000, max_seconds=10.0).waveform
    return np.pad(samples, (0, 320000 - len(samples)))


def test_kotlins_log_mel_gives_the_demo_models_probabilities(driver: Driver) -> None:
    tagger = Tagger()
    engine = CpuEngine(tagger.bundle.file("model"))
    for clip in demo_clips():
        logmel = driver.floats(f"clip {clip.name}").reshape(1, 1, 1001, 64)
        probs, want = engine.run(logmel)["probs"][0], tagger.tag(padded(clip), sample_rate=32000).probs
        print(f"{clip.name}: {np.abs(probs - want).max():.1e}")
        assert np.abs(probs - want).max() <= 1e-4
        assert probs.argmax() == want.argmax()


# --- resampler ---

RESAMPLE_SECONDS = 0.5
STOP_DB = -85


def resampler_inputs(source: int, target: int) -> dict[str, NDArray[np.float64]]:
    """Returns tones, named by their share of the lower Nyquist frequency, and noise below 0.85 of it."""
    nyquist, t = min(source, target) / 2, np.arange(int(RESAMPLE_SECONDS * source)) / source
    shares = (0.05, 0.5, 0.9, 1.0, 1.3, 1.9) if source > target else (0.05, 0.5, 0.9)
    tones = {f"tone {s}": np.sin(2 * np.pi * s * nyquist * t + 0.3) for s in shares if s * nyquist < 0.99 * source / 2}
    noise = 0.1 * np.random.default_rng(1).standard_normal(len(t))
    taps = scipy.signal.firwin(1001, min(0.85 * nyquist, 0.45 * source), fs=source)
    return tones | {"noise": scipy.signal.fftconvolve(noise, taps, mode="same")}


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_keeps_the_passband_and_nothing_else(driver: Driver, rates: tuple[int, int]) -> None:
    """Up to 0.9 of the lower Nyquist frequency, tones are within 0.01 dB. No alias or image is above STOP_DB."""
    source, target = rates
    nyquist = min(rates) / 2
    inner = slice(target // 20, -target // 20)  # 50 ms from the ends
    for name in resampler_inputs(*rates):
        if not name.startswith("tone"):
            continue
        share = float(name.split()[1])
        got = driver.floats(f"resample {rates} {name} 1").astype(np.float64)
        assert len(got) == int(np.ceil(RESAMPLE_SECONDS * target))
        want = np.sin(2 * np.pi * share * nyquist * np.arange(len(got)) / target + 0.3) if share <= 0.9 else 0 * got
        error = np.abs(got - want)[inner].max()
        print(f"{source} to {target} Hz, {name}: {20 * np.log10(error + 1e-12):.0f} dB")
        # An amplitude that is off by 0.01 dB is an error of -59 dB; the bound for images is lower.
        assert error <= 10 ** (STOP_DB / 20)


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_agrees_with_soxr(driver: Driver, rates: tuple[int, int]) -> None:
    got = driver.floats(f"resample {rates} noise 1")
    want = soxr.resample(resampler_inputs(*rates)["noise"], *rates, quality="VHQ")
    n = min(len(got), len(want))
    inner = slice(rates[1] // 20, n - rates[1] // 20)
    rms = np.sqrt(np.mean((got[inner] - want[inner]) ** 2) / np.mean(want[inner] ** 2))
    print(f"{rates}: {20 * np.log10(rms):.0f} dB")
    assert abs(len(got) - len(want)) <= 1
    assert rms <= 10 ** (-75 / 20)


def test_resampler_in_chunks_is_one_call(driver: Driver) -> None:
    for rates in RESAMPLED:
        for name in resampler_inputs(*rates):
            whole, parts = (driver.floats(f"resample {rates} {name} {n}") for n in (1, len(CHUNKS)))
            assert np.array_equal(whole, parts)


# --- events ---


def event_case(seed: int) -> Json:
    """Returns random walks of scores, with gaps in time, and random settings."""
    rng = np.random.default_rng(seed)
    classes, steps = int(rng.integers(1, 5)), 200
    walk = np.clip(0.4 + np.cumsum(rng.normal(0, 0.15, (steps, classes)), axis=0) % 0.7, 0, 1)
    on = np.round(rng.uniform(0.4, 0.9, classes), 2)
    starts = np.cumsum(np.where(rng.random(steps) < 0.05, 0.5, 0.1))
    return {
        "on": on.tolist(),
        "off": np.round(on * rng.uniform(0.5, 1.0, classes), 2).tolist(),
        "min_duration": round(float(rng.uniform(0, 0.4)), 2),
        "max_gap": round(float(rng.uniform(0, 0.5)), 2),
        "steps": [
            {"start": round(float(s), 3), "end": round(float(s) + 0.1, 3), "scores": np.round(row, 3).tolist()}
            for s, row in zip(starts, walk, strict=True)
        ],
    }


@pytest.mark.parametrize("seed", range(20))
def test_events_are_this_runtimes(driver: Driver, seed: int) -> None:
    case = event_case(seed)
    labels = [str(i) for i in range(len(case["on"]))]
    thresholds = zip(labels, case["on"], case["off"], strict=True)
    settings = EventSettings(
        min_duration=case["min_duration"],
        max_gap=case["max_gap"],
        classes={label: {"on": on, "off": off} for label, on, off in thresholds},
    )
    detector = EventDetector(labels, settings)
    want = [e for s in case["steps"] for e in detector.push(np.array(s["scores"]), s["start"], s["end"])]
    want = sorted([*want, *detector.finish()], key=lambda e: (e.start, e.index))
    got = driver.json(f"events {seed}")
    assert [e["index"] for e in got] == [e.index for e in want]
    assert len(want) > 0
    assert np.allclose(
        [[e["start"], e["end"], e["score"]] for e in got], [[e.start, e.end, e.score] for e in want], rtol=0, atol=1e-6
    )
