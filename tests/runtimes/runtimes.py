"""`make runtimes`: the same files in every runtime, against PyTorch and against this package's engine.

    python tests/runtimes/runtimes.py --out assets/runtimes.json --document docs/runtimes.md

Each runtime runs in a process of its own (reader.py) or in a browser (page.html), on the same samples. A runtime that
this machine cannot have gets a row that says why; in strict mode (PANNS_LITERT_STRICT) that is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chromium import Browser, browser
from environments import HERE, NPM, PINS, MissingError, python
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips
from panns_litert.engine import CpuEngine, available_cores
from panns_litert.frontend import LogMel
from panns_litert.measure import insert, markdown, this_device
from panns_litert_convert.checkpoints import fetch, load_weights
from panns_litert_convert.convert import convert
from panns_litert_convert.references import EfficientatLogMel, TorchlibrosaLogMel
from panns_litert_convert.sweep import recipe_checkpoint
from panns_litert_convert.zoo import find

SECONDS = 10.0
RATE = 32000
OTHER_RATE = 44100
SHORT_SECONDS = 2.0
CHILD_SECONDS = 600.0

SHARED = HERE.parents[2] / "shared"
"""Published weights and real recordings. They are not part of the repository."""
RECORDINGS = (
    *("metro_station-paris.wav", "R9_ZSCveAHg_7s.wav", "esc10/dog_bark/1-100032-A.ogg", "esc10/rain/1-17367-A.ogg"),
    *("esc10/rooster/1-26806-A.ogg", "esc10/chainsaw/1-116765-A.ogg"),
)
SUBJECTS = (("demo", "waveform"), ("demo", "logmel"), ("mn04", "waveform"))
PRECISIONS = ("fp32", "fp16", "int8")

FLOAT32_GATE = 1e-3
"""Largest difference of a probability, where arithmetic is float32 and samples are at the model's rate."""
INT8_GATE = 0.1
"""The same for int8, against this package's engine. Older versions of XNNPACK round activations otherwise."""
HALF_GATE, ROUNDED_FACTOR = 0.05, 1.5
"""The same for arithmetic in float16, against PyTorch. The delegate stores samples in float16, too: a clip may also be
off by 1.5 times what PyTorch's probabilities change if its samples are rounded to float16. That is more than 0.05 in
recordings with empty bands: docs/waveform-graph.md."""

CASES = ("44.1 kHz", "2 s", "stereo")
"""What a reader may get that is not a clip of the model's rate and length."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A runtime to measure.

    Attributes:
        key: names the row.
        name: for people, without the version.
        reader: a function of reader.py or of page.html.
        environment: a key of pins.toml; None for this Python; "browser" for page.html.
        package: of package.json, for a browser.
        audio: whether it reads samples with a rate, and no tensors: it takes only waveform graphs.
        mono: whether its API has no channels.
        precisions: of the files that it is measured with.
        half: whether it computes in float16.
        software: whether it runs on a software driver here, so that its times say nothing.
        options: for page.html.
        wrong: precisions in which it is known to give wrong results. Known faults are measured, too.
    """

    key: str
    name: str
    reader: str
    environment: str | None = None
    package: str | None = None
    audio: bool = False
    mono: bool = False
    precisions: tuple[str, ...] = PRECISIONS
    half: bool = False
    software: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version that is measured."""
        if self.package:
            return str(json.loads(NPM[0].read_text(encoding="utf-8"))["dependencies"][self.package])
        if self.environment:
            return str(PINS[self.environment]["version"])
        from importlib.metadata import version

        return version("ai-edge-litert")


_LITERT_JS, _TASKS_AUDIO = "@litertjs/core", "@mediapipe/tasks-audio"
RUNTIMES = (
    Runtime(key="compiled-model", name="LiteRT CompiledModel, CPU", reader="compiled_model"),
    Runtime(key="interpreter", name="LiteRT Interpreter", reader="interpreter"),
    Runtime(
        key="gpu", name="LiteRT GPU delegate, float16", reader="gpu", precisions=("fp16",), half=True, software=True
    ),
    Runtime(
        key="tflite-runtime",
        name="tflite-runtime",
        reader="tflite_runtime",
        environment="tflite-runtime",
        wrong=("int8",),
    ),
    Runtime(key="mediapipe", name="MediaPipe Tasks, Python", reader="mediapipe", environment="mediapipe", audio=True),
    Runtime(
        key="mediapipe-old", name="MediaPipe Tasks, Python", reader="mediapipe", environment="mediapipe-old", audio=True
    ),
    Runtime(
        key="tflite-support",
        name="TFLite Task Library (tflite-support)",
        reader="tflite_support",
        environment="tflite-support",
        audio=True,
        wrong=("int8",),
    ),
    Runtime(
        key="litert-js-wasm",
        name="LiteRT.js, wasm",
        reader="litert",
        environment="browser",
        package=_LITERT_JS,
        options={"accelerator": "wasm"},
    ),
    Runtime(
        key="litert-js-webgpu",
        name="LiteRT.js, WebGPU, float32",
        reader="litert",
        environment="browser",
        package=_LITERT_JS,
        options={"accelerator": "webgpu", "gpuOptions": {"precision": "fp32"}},
        precisions=("fp32",),
        software=True,
    ),
    Runtime(
        key="mediapipe-web",
        name="MediaPipe Tasks, browser",
        reader="mediapipe",
        environment="browser",
        package=_TASKS_AUDIO,
        audio=True,
        mono=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and a graph, in every precision, with inputs and the probabilities that are expected.

    Attributes:
        weights: "demo", "published", or "recipe" for weights that mean nothing.
        files: by precision.
        inputs: the graph's input for every clip, (values,) float32.
        pytorch: (clips, classes), of the original network from the samples.
        rounded: what PyTorch's probabilities change if the samples are rounded to float16, the largest of every clip,
            (clips,); 0 for a graph that takes no samples.
        python: (clips, classes) of this package's CPU engine, by precision.
    """

    model: str
    graph: str
    weights: str
    files: dict[str, Path]
    inputs: list[NDArray[np.float32]]
    pytorch: NDArray[np.float32]
    rounded: NDArray[np.float32]
    python: dict[str, NDArray[np.float32]]


def recordings() -> list[Path]:
    """Returns six real recordings, or the demo clips where there is no `shared`."""
    found = [SHARED / "audio" / name for name in RECORDINGS]
    return found if all(path.is_file() for path in found) else demo_clips()


def clip_of(path: Path, *, rate: int = RATE) -> NDArray[np.float32]:
    """Returns the first SECONDS of a recording, with zeros behind a shorter one, (samples,)."""
    samples = round(SECONDS * rate)
    sound = load_audio(path, sample_rate=rate, max_seconds=SECONDS).waveform[:samples]
    return np.pad(sound, (0, samples - len(sound)))


def subject(model: str, graph: str, clips: Sequence[Path], folder: Path, precisions: Sequence[str]) -> Subject:
    """Converts a model and computes what is expected of every runtime."""
    record = find(model)
    published = SHARED / "weights" / "mn04_as_mAP_432.pt"
    real = model == "mn04" and published.is_file()
    checkpoint = published if real else recipe_checkpoint(record, folder)
    files = {
        precision: convert(
            model, checkpoint=checkpoint, graph=graph, precision=precision, out=folder / f"{model}-{graph}-{precision}"
        ).file("model")
        for precision in precisions
    }
    network = record.build()
    load_weights(network, checkpoint or fetch(record), record)
    network.eval()
    sounds = [clip_of(path) for path in clips]
    reference = (EfficientatLogMel if model == "mn04" else TorchlibrosaLogMel)(record.front_end)

    def scores(sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.stack([network(torch.from_numpy(reference(x))[None, None])["probs"][0].numpy() for x in sounds])

    pytorch = scores(sounds)
    given = sounds if graph == "logmel" else [sound.astype(np.float16).astype(np.float32) for sound in sounds]
    logmel = LogMel(record.front_end)
    inputs = [sound if graph == "waveform" else logmel(sound).ravel() for sound in sounds]
    return Subject(
        model=model,
        graph=graph,
        weights="published" if real else "recipe" if checkpoint else "demo",
        files=files,
        inputs=inputs,
        pytorch=pytorch,
        rounded=np.abs(scores(given) - pytorch).max(axis=1),
        python={precision: engine_scores(path, inputs) for precision, path in files.items()},
    )


def engine_scores(path: Path, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns the probabilities (inputs, classes) of this package's engine for inputs of the graph's size."""
    engine = CpuEngine(path, threads=1)
    (shape,) = engine.inputs.values()
    return np.stack([engine.run(values.reshape(shape))["probs"][0] for values in inputs])


class Bench:
    """Runs files in runtimes. Opens a browser when a runtime first needs one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._stack = folder, contextlib.ExitStack()
        self._browser: Browser | MissingError | None = None
        self.facts: dict[str, Any] = {}
        """What the browser's last runtime says about itself."""

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(
        self, runtime: Runtime, model: Path, clips: Sequence[tuple[NDArray[np.float32], int]], *, runs: int
    ) -> list[dict[str, Any]]:
        """Runs a file on inputs with their rates. Returns what reader.py writes.

        Raises:
            MissingError: this machine cannot have the runtime.
            RuntimeError: the runtime refuses the file, or its process failed.
        """
        job: dict[str, Any] = {"runs": runs, "clips": [], "options": dict(runtime.options)}
        for index, (values, rate) in enumerate(clips):
            path = self.folder / f"clip{index}.f32"
            values.astype("<f4").tofile(path)
            job["clips"].append(
                {"path": str(path), "rate": rate, "channels": values.shape[1] if values.ndim > 1 else 1}
            )
        copy = self.folder / "model.tflite"
        copy.write_bytes(model.read_bytes())
        job["model"] = str(copy)
        if runtime.environment == "browser":
            results, self.facts = self.browser().read(runtime.reader, job)
            return results
        return self._in_child(runtime, job)

    def browser(self) -> Browser:
        """Returns the browser.

        Raises:
            MissingError: this machine has none.
        """
        if self._browser is None:
            try:
                self._browser = self._stack.enter_context(browser(self.folder))
            except MissingError as error:
                self._browser = error
        if isinstance(self._browser, MissingError):
            raise self._browser
        return self._browser

    def _in_child(self, runtime: Runtime, job: Mapping[str, Any]) -> list[dict[str, Any]]:
        path = self.folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        executable = sys.executable
        if runtime.environment is None:
            environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
        else:
            executable = str(python(runtime.environment))
        command = [executable, "-P", str(HERE / "reader.py"), runtime.reader, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=CHILD_SECONDS, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            if "GpuDriverError" in last:
                raise MissingError("no Vulkan driver that the delegate can use: see README.md")
            if "cannot open shared object file" in last:
                raise MissingError(f"{last}; on Debian: apt install libegl1 libgles2 libusb-1.0-0")
            raise RuntimeError(last.replace(str(self.folder), "").strip())
        results: list[dict[str, Any]] = json.loads(path.with_suffix(".out.json").read_text(encoding="utf-8"))
        return results


def row_of(bench: Bench, runtime: Runtime, subject: Subject, *, runs: int) -> dict[str, Any]:
    """Measures one runtime with every file of a subject that it can read."""
    row: dict[str, Any] = {
        "runtime": runtime.key,
        "name": f"{runtime.name} {runtime.version}",
        "model": subject.model,
        "graph": subject.graph,
        "weights": subject.weights,
        "files": {},
    }
    clips = [(values, RATE) for values in subject.inputs]
    for precision in [name for name in runtime.precisions if name in subject.files]:
        try:
            results = bench.read(runtime, subject.files[precision], clips, runs=0 if runtime.software else runs)
        except MissingError as error:
            return row | {"missing": str(error)}
        except RuntimeError as error:
            row["files"][precision] = {"refused": str(error)}
            continue
        if errors := [result["error"] for result in results if "error" in result]:
            row["files"][precision] = {"refused": errors[0]}
            continue
        scores = np.array([result["chunks"][0] for result in results], np.float32)
        times = [ms for result in results for ms in result["ms"]]
        row["files"][precision] = {
            "pytorch": difference(scores, subject.pytorch),
            "python": difference(scores, subject.python[precision]),
            "median": float(f"{_high_median(off_by_clip(scores, subject.pytorch)):.1e}"),
            "chunks": max(len(result["chunks"]) for result in results),
            "ms": round(statistics.median(times), 1) if times else None,
        }
        if runtime.half:
            bounds = HALF_GATE + ROUNDED_FACTOR * subject.rounded
            row["files"][precision]["of_bound"] = float(f"{(off_by_clip(scores, subject.pytorch) / bounds).max():.2g}")
    return row


def difference(scores: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Returns the largest difference of a probability, rounded to two digits."""
    return float(f"{off_by_clip(scores, expected).max():.1e}")


def off_by_clip(scores: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the largest difference of a probability of every clip."""
    if scores.shape != expected.shape:
        raise RuntimeError(f"scores of shape {scores.shape}; expected {expected.shape}")
    return np.abs(scores - expected).max(axis=-1)


def _high_median(values: NDArray[np.floating]) -> float:
    """Returns the median, the higher one of two."""
    return float(np.sort(values)[len(values) // 2])


def cases_of(bench: Bench, runtime: Runtime, file: Path, clips: Sequence[Path]) -> dict[str, Any]:
    """Measures what a runtime makes of 44.1 kHz, of a short clip and of stereo, with a waveform graph.

    The first clip is run before, at the model's rate and length: a reader must not keep it.
    """
    first, second = clip_of(clips[0]), clip_of(clips[1])
    short = first[: round(SHORT_SECONDS * RATE)]
    stereo = np.stack([first, second], axis=1)
    expected = [first, first, np.pad(short, (0, len(first) - len(short))), stereo.mean(axis=1)]
    given = [(first, RATE), (clip_of(clips[0], rate=OTHER_RATE), OTHER_RATE), (short, RATE)]
    given += [] if runtime.mono else [(stereo, RATE)]
    row: dict[str, Any] = {"runtime": runtime.key, "name": f"{runtime.name} {runtime.version}", "cases": {}}
    try:
        results = bench.read(runtime, file, given, runs=0)
    except MissingError as error:
        return row | {"missing": str(error)}
    for case, result, wanted in zip(CASES, results[1:], engine_scores(file, expected)[1:], strict=False):
        row["cases"][case] = (
            {"refused": " ".join(result["error"].split())[:200]}
            if "error" in result
            else {
                "chunks": len(result["chunks"]),
                "python": difference(np.array(result["chunks"][0], np.float32), wanted),
            }
        )
    return row


def decoder_row(bench: Bench, file: Path, clip: Path) -> dict[str, Any]:
    """Measures what Chromium's decoder and resampler add to a 44.1 kHz recording, against soxr's."""
    import soundfile

    path = bench.folder / "recording.wav"
    soundfile.write(path, clip_of(clip, rate=OTHER_RATE), OTHER_RATE, subtype="FLOAT")
    row: dict[str, Any] = {"runtime": "chromium", "name": "Chromium's decodeAudioData", "cases": {}}
    job = {"runs": 0, "clips": [{"path": str(path), "rate": OTHER_RATE, "channels": 1}], "options": {"rate": RATE}}
    try:
        results, _ = bench.browser().read("decode", job)
    except MissingError as error:
        return row | {"missing": str(error)}
    samples = round(SECONDS * RATE)
    decoded = np.pad(np.array(results[0]["chunks"][0], np.float32)[:samples], (0, samples))[:samples]
    found, wanted = engine_scores(file, [decoded, clip_of(clip)])
    row["cases"] = {CASES[0]: {"chunks": 1, "python": difference(found, wanted)}}
    return row


def problems(results: Mapping[str, Any], *, strict: bool) -> list[str]:
    """Returns what is outside its gate, one line each; with `strict`, also what is missing."""
    found = []
    runtimes = {runtime.key: runtime for runtime in RUNTIMES}
    for row in results["rows"]:
        name, runtime = f"{row['name']}, {row['model']} {row['graph']}", runtimes[row["runtime"]]
        if "missing" in row:
            found += [f"{name}: missing: {row['missing']}"] if strict else []
            continue
        for precision, figures in row["files"].items():
            if "refused" in figures:
                found.append(f"{name} {precision}: refused: {figures['refused']}")
                continue
            if precision in runtime.wrong:
                continue
            bounds = {"python": INT8_GATE if precision == "int8" else FLOAT32_GATE}
            if precision == "fp32":
                bounds["pytorch"] = FLOAT32_GATE
            if runtime.half:
                bounds = {"of_bound": 1.0}
            for against, bound in bounds.items():
                if not figures[against] <= bound:
                    off = (
                        f"{figures[against]} of its bound"
                        if against == "of_bound"
                        else f"{figures[against]} off {against}"
                    )
                    found.append(f"{name} {precision}: {off}; expected at most {bound}")
            if figures["chunks"] != 1:
                found.append(f"{name} {precision}: {figures['chunks']} chunks of a clip; expected 1")
    found += [f"{row['name']}: missing: {row['missing']}" for row in results["cases"] if "missing" in row and strict]
    return found


def measure(
    subjects: Sequence[Subject],
    clips: Sequence[Path],
    folder: Path,
    *,
    runs: int,
    runtimes: Sequence[Runtime] = RUNTIMES,
) -> dict[str, Any]:
    """Measures runtimes with subjects. Returns what assets/runtimes.json holds."""
    real = clips[0].is_relative_to(SHARED)
    results: dict[str, Any] = {
        "machine": f"{this_device().name}, {available_cores()} cores",
        "date": date.today().isoformat(),
        "clips": f"{len(clips)} {'real recordings' if real else 'demo clips'}",
        "rows": [],
        "cases": [],
    }
    with Bench(folder) as bench:
        for subject in subjects:
            for runtime in runtimes:
                if subject.graph == "waveform" or not runtime.audio:
                    results["rows"].append(row_of(bench, runtime, subject, runs=runs))
                    print(json.dumps(results["rows"][-1]), file=sys.stderr, flush=True)
        file = next(subject.files["fp32"] for subject in reversed(subjects) if subject.graph == "waveform")
        for runtime in runtimes:
            if not runtime.software:
                results["cases"].append(cases_of(bench, runtime, file, clips))
        if any(runtime.environment == "browser" for runtime in runtimes):
            results["cases"].append(decoder_row(bench, file, clips[0]))
    return results


def table(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a row of texts for every runtime and file: differences from PyTorch / from this package's engine."""
    runtimes = {runtime.key: runtime for runtime in RUNTIMES}
    rows = []
    for row in results["rows"]:
        found = {"runtime": row["name"], "file": f"{row['model']} {row['graph']}"}
        for precision in PRECISIONS:
            figures, ms = row["files"].get(precision), "–"
            if "missing" in row:
                text = f"not measured: {row['missing']}" if precision == PRECISIONS[0] else "–"
            elif figures is None:
                text = "–"
            elif "refused" in figures:
                text = "refused"
            else:
                text = f"{_short(figures['pytorch'])} / {_short(figures['python'])}"
                text += f", median {_short(figures['median'])}" if runtimes[row["runtime"]].half else ""
                text = f"**{text}**" if precision in runtimes[row["runtime"]].wrong else text
                ms = "–" if figures["ms"] is None else f"{figures['ms']:.0f}"
            found |= {precision: text, f"{precision}, ms": ms}
        rows.append(found)
    return rows


def _short(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if value else "0"


def case_table(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a row of texts for every runtime: what it makes of what is not a clip of the model."""
    rows = []
    for row in results["cases"]:
        found = {"reader": row["name"]}
        for case in CASES:
            figures = row["cases"].get(case)
            if figures is None:
                found[case] = f"not measured: {row['missing']}" if "missing" in row and case == CASES[0] else "–"
            elif "refused" in figures:
                found[case] = "an error"
            else:
                chunks = figures["chunks"]
                found[case] = _short(figures["python"]) + (f", {chunks} chunks" if chunks > 1 else "")
        rows.append(found)
    return rows


def render(results: Mapping[str, Any], document: Path) -> None:
    """Puts both tables into a Markdown document."""
    for marker, text in blocks(results).items():
        insert(document, text, marker=marker)


def blocks(results: Mapping[str, Any]) -> dict[str, str]:
    """Returns what stands between the markers of the document, by marker."""
    about = f"{results['clips']}, {results['machine']}, {results['date']}.\n\n"
    return {"runtimes": about + markdown(table(results)), "cases": markdown(case_table(results))}


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder for models and clips."""
    with tempfile.TemporaryDirectory(prefix="runtimes-") as folder:
        yield Path(folder)


def main() -> int:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--document", type=Path, help="Markdown to put the tables into")
    parser.add_argument("--only", choices=[runtime.key for runtime in RUNTIMES], action="append")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of every clip (default %(default)s)")
    parser.add_argument("--render", action="store_true", help="measure nothing: only write the tables of --out again")
    args = parser.parse_args()
    if args.only and args.document:
        parser.error("--only measures a part of the table; leave --document out")
    if args.render:
        render(json.loads(args.out.read_text(encoding="utf-8")), args.document)
        return 0
    clips = recordings()
    runtimes = [runtime for runtime in RUNTIMES if not args.only or runtime.key in args.only]
    with work_folder() as folder:
        subjects = [subject(model, graph, clips, folder, PRECISIONS) for model, graph in SUBJECTS]
        results = measure(subjects, clips, folder, runs=args.runs, runtimes=runtimes)
    if args.out:
        with replacing(args.out) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())
    if args.document:
        render(results, args.document)
    print(markdown(table(results)), markdown(case_table(results)), sep="\n")
    for problem in (found := problems(results, strict=bool(os.environ.get("PANNS_LITERT_STRICT")))):
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
