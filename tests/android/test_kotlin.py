"""The Kotlin library of android_demo/tagger: its own tests; its numbers against float64, soxr and this runtime."""

from __future__ import annotations

import re
from pathlib import Path

import kotlin
import numpy as np
import pytest
from driven import CHANGES, CHUNKS, EVENT_SEEDS, RESAMPLED, SPECS, Driver, Json
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips
from panns_litert.engine import CpuEngine
from panns_litert.frontend import PANNS_32K, mel_basis
from panns_litert.tagger import Tagger
from panns_litert_convert.references import float64_logmel, front_end_sounds
from panns_litert_convert.stages import NEAR_DB

PACKAGE = "io.github.pannslitert"


@pytest.fixture(scope="module")
def driver(jvm: None, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The results of all cases of this file."""
    driver = Driver(tmp_path_factory.mktemp("kotlin"), lambda cases: kotlin.run(f"{PACKAGE}.DriverKt", cases))
    driver.add_all()
    driver.add(
        "streaming", "streaming", spec=PANNS_32K.to_dict(), basis=mel_basis(PANNS_32K), input=stream(),
        window=64000, hop=50, chunks=CHUNKS,
    )  # fmt: skip
    for clip in demo_clips():
        driver.add(
            f"clip {clip.name}", "logmel", spec=PANNS_32K.to_dict(), basis=mel_basis(PANNS_32K), input=padded(clip)
        )
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


@pytest.mark.parametrize("sound", front_end_sounds(8000))
@pytest.mark.parametrize("name", SPECS)
def test_front_end_gate(driver: Driver, name: str, sound: str) -> None:
    driver.require_front_end(name, sound)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_definition_fails(driver: Driver, change: Json) -> None:
    driver.require_another_definition_fails(change)


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


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_keeps_the_passband_and_nothing_else(driver: Driver, rates: tuple[int, int]) -> None:
    driver.require_passband(rates)


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_agrees_with_soxr(driver: Driver, rates: tuple[int, int]) -> None:
    driver.require_soxr(rates)


def test_resampler_in_chunks_is_one_call(driver: Driver) -> None:
    driver.require_any_chunks()


# --- events ---


@pytest.mark.parametrize("seed", range(EVENT_SEEDS))
def test_events_are_this_runtimes(driver: Driver, seed: int) -> None:
    driver.require_events(seed)
