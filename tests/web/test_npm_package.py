"""The npm package of web_demo/panns-litert: its own tests; its numbers against float64, soxr and this runtime."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kotlin
import numpy as np
import pytest
from driven import CHANGES, EVENT_SEEDS, RESAMPLED, SPECS, Driver, Json
from support import ROOT

from panns_litert import Tagger
from panns_litert.demo import demo_clips
from panns_litert.windows import tag_long
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


def test_what_is_published(package: Path, tmp_path: Path) -> None:
    """The build, which packing makes, the readme and the types, and nothing else; no dependency but LiteRT.js."""
    web = tmp_path / "web_demo"
    shutil.copytree(package.parent, web, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (web / "node_modules").symlink_to(package.parent / "node_modules")
    command = ("npm", "pack", "--dry-run", "--json", "--silent", "--ignore-scripts=false")
    packed = json.loads(kotlin.run_tool(*command, cwd=web / "panns-litert"))[0]
    names = [file["path"] for file in packed["files"]]
    assert {"package.json", "README.md", "dist/index.js", "dist/index.d.ts"} <= set(names)
    assert [name for name in names if not re.fullmatch(r"package\.json|README\.md|dist/.+\.(js|d\.ts)", name)] == []
    written = json.loads((package / "package.json").read_text(encoding="utf-8"))
    assert list(written["dependencies"]) == ["@litertjs/core"]


def test_the_code_in_the_readme_compiles(package: Path) -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```ts\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    code = "".join(blocks).replace('"panns-litert"', '"./index.js"')
    given = "declare const file: File, node: AudioWorkletNode, rate: number, samples: Float32Array;\n"
    script = package / "src" / "readme.ts"
    try:
        script.write_text(given + code, encoding="utf-8")
        kotlin.run_tool("npm", "run", "check", "--silent", cwd=package)
    finally:
        script.unlink()


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
    driver.require_passband(rates)


@pytest.mark.parametrize("rates", RESAMPLED, ids=lambda rates: f"{rates[0]}-{rates[1]}")
def test_resampler_agrees_with_soxr(driver: Driver, rates: tuple[int, int]) -> None:
    driver.require_soxr(rates)


def test_resampler_in_chunks_is_one_call(driver: Driver) -> None:
    driver.require_any_chunks()


@pytest.mark.parametrize("seed", range(EVENT_SEEDS))
def test_events_are_this_runtimes(driver: Driver, seed: int) -> None:
    driver.require_events(seed)


# ---- the engine, in Chromium

PAGE = """<!doctype html><title></title><link rel="icon" href="data:,"><script type="importmap">{"imports": {
  "@litertjs/wasm-utils": "./web_demo/node_modules/@litertjs/wasm-utils/dist/index.js",
  "@litertjs/core": "./web_demo/node_modules/@litertjs/core/dist/index.js"
}}</script><script type="module">
import { Bundle, decode, Tagger } from "./web_demo/panns-litert/dist/index.js";
window.run = async (options, clips) => {
  const bundle = await Bundle.open("assets/demo_bundle/");
  const tagger = await Tagger.open(bundle, { wasmPath: "web_demo/node_modules/@litertjs/core/wasm", ...options });
  const found = { engine: tagger.engine, fallback: tagger.fallback, test: await tagger.selfTest(), clips: [] };
  for (const clip of clips) {
    const recording = await decode(await (await fetch(clip)).arrayBuffer(), clip);
    const { probs } = await tagger.tagLong(recording);
    found.clips.push({ probs: [...probs], sampleRate: recording.sampleRate, warnings: recording.warnings });
  }
  tagger.close();
  return found;
};
document.title = "ready";
</script>"""

Run = Callable[..., Any]


class _Static(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - as in the base class
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def run(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs the page's function in Chromium, whose WebGPU is a software driver without float16."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver; on Debian: apt install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.support.wait import WebDriverWait

    site = tmp_path_factory.mktemp("site")
    (site / "index.html").write_text(PAGE, encoding="utf-8")
    (site / "web_demo").symlink_to(package.parent)
    (site / "assets").symlink_to(ROOT / "assets")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless", "no-sandbox", "disable-quic", "disable-dev-shm-usage", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync", "enable-unsafe-webgpu",
        "use-webgpu-adapter=swiftshader", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Static, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        driver.set_script_timeout(240)

        def run(options: Json, clips: list[str] | None = None) -> Any:
            driver.get(f"http://127.0.0.1:{server.server_port}/")
            WebDriverWait(driver, 60).until(lambda driver: driver.title == "ready")
            return driver.execute_async_script(
                "const [options, clips, done] = arguments;"
                "run(options, clips).then(done, (error) => done({error: `${error.name}: ${error.message}`}));",
                options, clips or [],
            )  # fmt: skip

        yield run
        driver.quit()
        server.shutdown()


def test_tags_in_chromium_are_pythons(run: Run) -> None:
    """Recordings of every rate, WAV and FLAC, decoded at their own rate."""
    clips, tagger = demo_clips(), Tagger(threads=1)
    found = run({}, [f"assets/clips/{clip.name}" for clip in clips])
    assert found["engine"] == "wasm"
    assert found["fallback"] is None
    assert found["test"]["passed"], found["test"]
    assert [clip["warnings"] for clip in found["clips"]] == [[] for _ in clips]
    assert len({clip["sampleRate"] for clip in found["clips"]}) >= 5
    for clip, got in zip(clips, found["clips"], strict=True):
        difference = np.abs(np.array(got["probs"]) - tag_long(tagger, clip).probs).max()
        print(f"{clip.name}, {got['sampleRate']} Hz: {difference:.1e}")
        assert difference <= 2e-3


def test_webgpu_is_used_behind_the_self_test(run: Run) -> None:
    found = run({"accelerator": "webgpu", "gpuPrecision": "fp32"})
    assert found["engine"] == "webgpu", found["fallback"]
    assert found["test"]["passed"]
    assert found["test"]["largestDifference"] <= 1e-3


def test_webgpu_that_returns_zeros_is_not_used(run: Run) -> None:
    """In float16 without `shader-f16`, LiteRT.js returns zeros and says that all of the graph ran on the GPU."""
    found = run({"accelerator": "webgpu", "gpuPrecision": "fp16"})
    assert found["engine"] == "wasm"
    assert found["fallback"].startswith("WebGPU fails the self-test: ")
    assert "all zero" in found["fallback"]
    assert found["test"]["passed"]


def test_options_that_cannot_be_used(run: Run) -> None:
    for options, part in (
        ({"wasmPath": "nowhere/"}, "expected the files of @litertjs/core/wasm there"),
        ({"threads": 2}, "not cross-origin isolated"),
        ({"threads": 0}, "expected a whole number ≥ 1"),
        ({"gpuPrecision": "fp8"}, "expected fp32 or fp16"),
    ):
        error = run(options)["error"]
        assert error.startswith("PannsLitertError: "), options
        assert part in error
