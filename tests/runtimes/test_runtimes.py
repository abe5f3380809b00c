"""The same files in every runtime: same tags, known faults, and the examples of docs/runtimes.md."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import environments
import kotlin
import numpy as np
import pytest
import runtimes
import signatures
import soundfile
from runtimes import CASES, RATE, RUNTIMES, SUBJECTS, Bench, Runtime, Subject, clip_of, engine_scores, subject
from support import ROOT

from panns_litert.demo import demo_clips

DOCUMENT = ROOT / "docs" / "runtimes.md"
RESULTS = ROOT / "assets" / "runtimes.json"
PRECISIONS = {
    ("demo", "waveform"): ("fp32", "int8"),
    ("demo", "logmel"): ("fp32", "fp16"),
    ("mn04", "waveform"): ("fp32",),
}
MODEL = "demo_synthetic_waveform_fp32.tflite"
BY_KEY = {runtime.key: runtime for runtime in RUNTIMES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtimes")


@pytest.fixture(scope="module")
def clips() -> list[Path]:
    return runtimes.recordings()[:2]


@pytest.fixture(scope="module")
def subjects(folder: Path, clips: list[Path]) -> list[Subject]:
    return [subject(*names, clips, folder, PRECISIONS[names]) for names in SUBJECTS]


@pytest.fixture(scope="module")
def bench(folder: Path) -> Iterator[Bench]:
    with Bench(folder) as bench:
        yield bench


@pytest.fixture(scope="module")
def results(subjects: list[Subject], clips: list[Path], folder: Path) -> dict[str, Any]:
    return runtimes.measure(subjects, clips, folder, runs=1)


def of(results: dict[str, Any], key: str) -> dict[str, Any]:
    """Returns the part of the results that concerns one runtime. Skips the test where the machine cannot have it."""
    part = results | {name: [row for row in results[name] if row["runtime"] == key] for name in ("rows", "cases")}
    for row in part["rows"]:
        if "missing" in row:
            pytest.skip(row["missing"])
    return part


@pytest.mark.parametrize("key", BY_KEY)
def test_a_runtime_gives_the_same_tags(key: str, results: dict[str, Any]) -> None:
    part = of(results, key)
    assert part["rows"]
    assert runtimes.problems(part, strict=True) == []
    measured = {(row["model"], row["graph"]) for row in part["rows"] if row["files"]}
    if key != "gpu":  # here only with the float16 file of the log-mel graph
        assert measured == {names for names in SUBJECTS if names[1] == "waveform" or not BY_KEY[key].audio}


def test_the_check_above_can_fail(results: dict[str, Any]) -> None:
    def problems(**changes: object) -> list[str]:
        changed = copy.deepcopy(of(results, "interpreter"))
        changed["rows"][0]["files"]["fp32"].update(changes)
        return runtimes.problems(changed, strict=False)

    assert problems() == []
    assert "0.002 off python; expected at most 0.001" in problems(python=0.002)[0]
    assert "nan off pytorch" in problems(pytorch=float("nan"))[0]
    assert "2 chunks of a clip; expected 1" in problems(chunks=2)[0]
    assert "refused: because" in problems(refused="because")[0]
    scores = np.full((2, 3), 0.5)
    with pytest.raises(RuntimeError, match=r"scores of shape \(2, 3\); expected \(2, 4\)"):
        runtimes.difference(scores, np.zeros((2, 4)))
    changed = scores.copy()
    changed[1, 1] = 0.75
    assert runtimes.difference(scores, changed) == 0.25


def test_a_runtime_that_is_missing_is_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch, subjects: list[Subject], clips: list[Path], tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = runtimes.measure(subjects[:1], clips, tmp_path, runs=0, runtimes=[BY_KEY["litert-js-wasm"]])
    (row,) = found["rows"]
    assert row["missing"].startswith("no chromium and chromedriver")
    assert "not measured: no chromium" in runtimes.table(found)[0]["fp32"]
    assert "not measured: no chromium" in runtimes.case_table(found)[0][CASES[0]]
    assert runtimes.problems(found, strict=False) == []
    assert len(runtimes.problems(found, strict=True)) == 3


def test_packages_that_cannot_be_installed_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments, "BUILD", tmp_path)
    monkeypatch.setitem(environments.PINS, "mediapipe", {"version": "9", "packages": ["./no-such-file.whl"]})
    with pytest.raises(
        environments.MissingError, match=r"^pip cannot install mediapipe 9 \(Python 3\.\d+\.\d+, \w+\)$"
    ):
        environments.python("mediapipe")
    assert not list(tmp_path.glob("*/ready"))


def test_the_table_has_every_runtime_and_is_rendered_from_its_file() -> None:
    known = json.loads(RESULTS.read_text(encoding="utf-8"))
    expected = [
        (f"{runtime.name} {runtime.version}", *names)
        for names in SUBJECTS
        for runtime in RUNTIMES
        if names[1] == "waveform" or not runtime.audio
    ]
    assert [(row["name"], row["model"], row["graph"]) for row in known["rows"]] == expected
    assert all(
        "missing" not in row and set(row["files"]) == {*BY_KEY[row["runtime"]].precisions} for row in known["rows"]
    )
    assert runtimes.problems(known, strict=True) == []
    assert known["clips"] == "6 real recordings"
    text = DOCUMENT.read_text(encoding="utf-8")
    for marker, block in runtimes.blocks(known).items():
        assert f"<!-- {marker} -->\n{block}<!-- /{marker} -->" in text, "run `python tests/bench/figures.py --render`"


# ---- known faults


@pytest.mark.parametrize("key", [runtime.key for runtime in RUNTIMES if runtime.wrong])
def test_old_interpreters_run_int8_wrongly_without_an_error(key: str, results: dict[str, Any]) -> None:
    (row,) = [row for row in of(results, key)["rows"] if "int8" in row["files"]]
    assert row["files"]["int8"]["python"] > 0.3


def test_webgpu_in_float16_gives_zeros_and_says_that_all_is_well(bench: Bench, subjects: list[Subject]) -> None:
    half = {"accelerator": "webgpu", "gpuOptions": {"precision": "fp16"}}
    runtime = Runtime(key="x", name="x", reader="litert", environment="browser", options=half)
    try:
        (result,) = bench.read(runtime, subjects[0].files["fp32"], [(subjects[0].inputs[0], RATE)], runs=0)
    except environments.MissingError as error:
        pytest.skip(str(error))
    assert bench.facts == {"fullyAccelerated": True, "shaderF16": False}
    assert set(result["chunks"][0]) == {0.0}


def test_compiled_model_takes_a_short_input_and_keeps_the_rest(
    bench: Bench, subjects: list[Subject], clips: list[Path]
) -> None:
    """ai-edge-litert 2.3.0: `write` of too few values is no error."""
    file, first = subjects[0].files["fp32"], clip_of(clips[0])
    short = clip_of(clips[1])[: 2 * RATE]
    results = bench.read(BY_KEY["compiled-model"], file, [(first, RATE), (short, RATE)], runs=0)
    mixed = np.concatenate([short, first[len(short) :]])
    assert np.abs(results[1]["chunks"][0] - engine_scores(file, [mixed])[0]).max() <= 1e-6


def test_the_task_library_puts_a_short_clip_at_the_end(
    bench: Bench, subjects: list[Subject], clips: list[Path]
) -> None:
    file, short = subjects[0].files["fp32"], clip_of(clips[0])[: 2 * RATE]
    try:
        (result,) = bench.read(BY_KEY["tflite-support"], file, [(short, RATE)], runs=0)
    except environments.MissingError as error:
        pytest.skip(str(error))
    behind = np.pad(short, (8 * RATE, 0))
    assert np.abs(result["chunks"][0] - engine_scores(file, [behind])[0]).max() <= 1e-3


def test_what_readers_make_of_other_rates_lengths_and_channels(results: dict[str, Any]) -> None:
    """As docs/runtimes.md says."""
    rate, length, channels = CASES
    found = {row["runtime"]: row["cases"] for row in results["cases"] if "missing" not in row}
    for key in ("interpreter", "tflite-runtime", "litert-js-wasm"):
        assert all("refused" in case for case in found.get(key, {}).values())
    for key in ("mediapipe", "mediapipe-old", "mediapipe-web"):
        if key in found:
            assert found[key][rate]["chunks"] == 2
            assert 0 < found[key][rate]["python"] < 0.05
            assert found[key][length] == {"chunks": 1, "python": pytest.approx(0, abs=1e-3)}
            assert key == "mediapipe-web" or found[key][channels]["python"] <= 1e-3
    if "tflite-support" in found:
        assert "44100 Hz" in found["tflite-support"][rate]["refused"]
        assert "number of channels" in found["tflite-support"][channels]["refused"]
    if "chromium" in found:
        assert 0 < found["chromium"][rate]["python"] < 0.05


# ---- examples


def example(info: str) -> str:
    (code,) = re.findall(rf"^```{info}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)
    return str(code)


@pytest.fixture(scope="module")
def work(subjects: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples read."""
    work = tmp_path_factory.mktemp("examples")
    shutil.copy(subjects[0].files["fp32"], work / MODEL)
    shutil.copy(subjects[0].files["fp32"].with_name("demo_labels.txt"), work)
    clip = clip_of(next(path for path in demo_clips() if path.name.startswith("siren")))
    soundfile.write(work / "recording.wav", clip, RATE, subtype="PCM_16")
    sound, _ = soundfile.read(work / "recording.wav", dtype="float32")
    stereo = sound[:, None] * np.float32([0.5, 1.5])  # the mean of the channels is the recording
    soundfile.write(work / "stereo.wav", stereo, RATE, subtype="FLOAT")
    soundfile.write(work / "channels.wav", np.stack([sound, sound], axis=1), RATE, subtype="PCM_16")
    soundfile.write(work / "bytes.wav", sound, RATE, subtype="PCM_24")
    soundfile.write(work / "rate.wav", sound, 44100, subtype="PCM_16")
    return work


@pytest.fixture(scope="module")
def tags(work: Path) -> list[str]:
    """What each example prints."""
    sound, _ = soundfile.read(work / "recording.wav", dtype="float32")
    (scores,) = engine_scores(work / MODEL, [sound])
    labels = (work / "demo_labels.txt").read_text(encoding="utf-8").splitlines()
    return [f"{labels[k]} {scores[k]:.4f}" for k in np.argsort(-scores)[:3]]


def environment(name: str) -> str:
    try:
        return str(environments.python(name))
    except environments.MissingError as error:
        pytest.skip(str(error))


def printed(command: list[str], work: Path) -> list[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=work, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def refused(command: list[str], work: Path) -> str:
    """Returns what an example writes about a recording that it does not take."""
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode, done.stdout
    return done.stderr


def test_the_example_for_python(work: Path, tags: list[str]) -> None:
    code = example("python interpreter")
    assert printed([sys.executable, "-c", code], work) == tags
    for name, found in (("channels", (2, 2, RATE)), ("bytes", (1, 3, RATE)), ("rate", (1, 2, 44100))):
        other = code.replace("recording.wav", f"{name}.wav")
        assert f"{found}; expected mono, 16 bit, 32 kHz" in refused([sys.executable, "-c", other], work)


def test_the_example_for_an_old_interpreter(work: Path, tags: list[str]) -> None:
    code = example("python interpreter").replace("from ai_edge_litert.", "from tflite_runtime.")
    assert printed([environment("tflite-runtime"), "-c", code], work) == tags


@pytest.mark.parametrize("name", ["mediapipe", "mediapipe-old"])
def test_the_example_for_mediapipe(name: str, work: Path, tags: list[str]) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import reader; reader.without_pictures(); import example"
    command = [environment(name), "-c", code, str(environments.HERE)]
    (work / "example.py").write_text(example("python mediapipe"), encoding="utf-8")
    assert printed(command, work) == tags
    for other, found in (("channels", (2, 2)), ("bytes", (1, 3))):
        changed = example("python mediapipe").replace("recording.wav", f"{other}.wav")
        (work / "example.py").write_text(changed, encoding="utf-8")
        assert f"{found}; expected mono, 16 bit" in refused(command, work)


@pytest.mark.parametrize("name", ["litert", "mediapipe"])
def test_the_example_for_a_browser(name: str, work: Path, tags: list[str]) -> None:
    page = (environments.HERE / "page.html").read_text(encoding="utf-8").partition('<script type="module">')[0]
    script = f"{page}<script>const printed = []; console.log = (...values) => printed.push(values.join(' '));</script>"
    script += f'<script type="module">\n{example(f"js {name}")}\nwindow.ready = true;\n</script>\n'
    (work / "example.html").write_text(script, encoding="utf-8")
    (work / "stereo.html").write_text(script.replace("recording.wav", "stereo.wav"), encoding="utf-8")
    try:
        with chromium.browser(work) as browser:
            assert browser.printed("example.html")[-3:] == tags  # the runtimes print, too
            assert browser.printed("stereo.html")[-3:] == tags
    except environments.MissingError as error:
        pytest.skip(str(error))


def test_the_example_for_c(work: Path, tags: list[str], subjects: list[Subject], tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++; on Debian: apt install g++")
    import ai_edge_litert

    code = example("cpp")
    for header in re.findall(r'#include "(.*)"', code):
        (tmp_path / header).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(environments.HERE / "litert_c.h", tmp_path / header)
    (tmp_path / "tag.cc").write_text(code, encoding="utf-8")
    library = Path(str(ai_edge_litert.__file__)).with_name("libLiteRt.so")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", f"-Wl,-rpath,{library.parent}"]
    tag = tmp_path / "tag"
    subprocess.run([compiler, *flags, str(tmp_path / "tag.cc"), str(library), "-o", str(tag)], check=True)
    sound, _ = soundfile.read(work / "recording.wav", dtype="float32")
    sound.tofile(tmp_path / "clip.f32")
    lines = [line.split() for line in printed([str(tag), str(work / MODEL), str(tmp_path / "clip.f32")], work)]
    labels = (work / "demo_labels.txt").read_text(encoding="utf-8").splitlines()
    best = sorted(lines, key=lambda line: -float(line[1]))[:3]
    assert [f"{labels[int(k)]} {score}" for k, score in best] == tags
    sound[:-1].tofile(tmp_path / "clip.f32")
    done = subprocess.run([tag, work / MODEL, tmp_path / "clip.f32"], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "expected 320000 float32 samples" in done.stderr


def test_the_example_for_android_compiles(tmp_path: Path) -> None:
    """Against what MediaPipe and Android publish; it cannot run here."""
    mediapipe = signatures.FOLDER / "mediapipe-tasks-audio.txt"
    for api in (signatures.ANDROID, mediapipe):
        signatures.write_stubs(api.read_text(encoding="utf-8"), tmp_path / "stubs")
    names = ["android.content.Context", *signatures.parse(mediapipe.read_text(encoding="utf-8"))]
    (tmp_path / "Example.kt").write_text(
        "".join(f"import {name}\n" for name in names) + "\n" + example("kotlin"), encoding="utf-8"
    )
    if shutil.which("java") is None:
        pytest.skip("no java; on Debian: apt install openjdk-17-jdk-headless")
    try:
        kotlin.compile_sources(
            [tmp_path / "Example.kt", tmp_path / "stubs"],
            module="example",
            class_path=[kotlin.standard_library()],
            out=tmp_path / "classes",
        )
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))
