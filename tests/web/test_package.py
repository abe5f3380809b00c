"""The npm package of web_demo/panns-litert: its own tests; its numbers against float64, soxr and this runtime."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import kotlin
import pytest
from driven import CHANGES, EVENT_SEEDS, RESAMPLED, SPECS, Driver, Json
from support import ROOT

from panns_litert_convert.references import front_end_sounds

WEB = ROOT / "web_demo"
PACKAGE = WEB / "panns-litert"
WORKSPACE = [WEB / "package.json", WEB / "package-lock.json", WEB / ".npmrc"]
"""What pins the dependencies."""
SOURCES = [
    *(PACKAGE / name for name in ("package.json", "tsconfig.json", "README.md")),
    *sorted((PACKAGE / "src").rglob("*.ts")),
    *sorted((PACKAGE / "test").glob("*.js")),
]


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the package with its dependencies, built."""
    if not shutil.which("npm"):
        pytest.skip("no npm; on Debian: apt install npm")

    def make(folder: Path) -> None:
        for path in (*WORKSPACE, *SOURCES):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        for name in ("assets", "tests"):  # the package's tests read the demo bundle and the vectors
            (folder / name).symlink_to(ROOT / name)
        kotlin.run_tool("npm", "ci", "--silent", cwd=folder / "web_demo")
        kotlin.run_tool("npm", "run", "build", "--silent", cwd=folder / "web_demo" / "panns-litert")

    return kotlin.cached("web-package", [*WORKSPACE, *SOURCES], make) / "web_demo" / "panns-litert"


@pytest.fixture(scope="module")
def driver(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The results of all cases of this file."""
    script = str(package / "test" / "driver.js")
    driver = Driver(tmp_path_factory.mktemp("package"), lambda cases: kotlin.run_tool("node", script, str(cases)))
    driver.add_all()
    driver.run()
    return driver


def test_the_tests_of_the_package(package: Path) -> None:
    found = subprocess.run(["npm", "test", "--silent"], cwd=package, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    count = re.search(r"^# pass (\d+)$", found.stdout, re.MULTILINE)
    assert count
    assert int(count[1]) >= 50


def test_what_is_published(package: Path) -> None:
    """The build, the readme and the types, and nothing else; no dependency but LiteRT.js."""
    packed = json.loads(kotlin.run_tool("npm", "pack", "--dry-run", "--json", "--ignore-scripts", cwd=package))[0]
    names = [file["path"] for file in packed["files"]]
    assert {"package.json", "README.md", "dist/index.js", "dist/index.d.ts"} <= set(names)
    assert [name for name in names if not re.fullmatch(r"package\.json|README\.md|dist/.+\.(js|d\.ts)", name)] == []
    written = json.loads((package / "package.json").read_text(encoding="utf-8"))
    assert list(written["dependencies"]) == ["@litertjs/core"]


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))
    resolved = [entry["resolved"] for entry in lock["packages"].values() if "resolved" in entry]
    assert [where for where in resolved if where != "panns-litert"] == []


@pytest.mark.parametrize("sound", front_end_sounds(8000))
@pytest.mark.parametrize("name", SPECS)
def test_front_end_gate(driver: Driver, name: str, sound: str) -> None:
    driver.require_front_end(name, sound)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_definition_fails(driver: Driver, change: Json) -> None:
    driver.require_another_definition_fails(change)


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_keeps_the_passband_and_nothing_else(driver: Driver, rates: tuple[int, int]) -> None:
    driver.require_passband(rates, stop_db=-115)


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_agrees_with_soxr(driver: Driver, rates: tuple[int, int]) -> None:
    # From 44.1 kHz, soxr itself differs from an exact tone by -104 dB at 8 kHz and -70 dB at 13 kHz.
    driver.require_soxr(rates, rms_db=-75 if 44100 in rates else -110)


def test_resampler_in_chunks_is_one_call(driver: Driver) -> None:
    driver.require_any_chunks()


@pytest.mark.parametrize("seed", range(EVENT_SEEDS))
def test_events_are_this_runtimes(driver: Driver, seed: int) -> None:
    driver.require_events(seed)
