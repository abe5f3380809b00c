"""`make bench`: measures what docs/figures.md says about speed.

Every table is one comparison. Its candidates take turns, so that a busy machine slows all of them equally. Compare the
medians and ratios; the absolute times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch
from loading import loading
from numpy.typing import NDArray
from process_start import process_start
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from turns import PAUSE_SECONDS, REAL_WEIGHTS, take_turns

from panns_litert.audio import load_audio
from panns_litert.bundle import GRAPHS, Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.engine import CpuEngine, available_cores
from panns_litert.frontend import PANNS_32K, LogMel, hann, mel_basis
from panns_litert_convert import sweep
from panns_litert_convert.references import TorchlibrosaLogMel
from panns_litert_convert.zoo import find, golden_shapes
from panns_litert_golden.recipe import waveform, weights

SECONDS = 10.0


def main() -> int:
    """Runs the requested benchmarks, by default all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(BENCHMARKS), action="append")
    parser.add_argument("--rounds", type=int, default=10, help="turns of every candidate (default %(default)s)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {available_cores()} cores, Python {platform.python_version()}"
    }
    for name in args.only or BENCHMARKS:
        results[name] = BENCHMARKS[name](args.rounds)
        if not args.json:
            show(console, name, results[name])
    if args.json:
        print(json.dumps(results, indent=2))
    else:
        console.print(results["machine"])
    return 0


def noise_and_clip() -> dict[str, NDArray[np.float32]]:
    """Returns SECONDS of white noise and of a repeated demo clip, (samples,), by name."""
    clip, samples = demo_clips()[0], PANNS_32K.samples(SECONDS)
    noise = (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)
    recording = load_audio(clip, sample_rate=32000).waveform
    return {"white noise": noise, f"clip {clip.name}, repeated": np.resize(recording, samples)}


def count(threads: int) -> str:
    """Returns the number of threads as text."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def recipe_network(checkpoint: Path) -> nn.Module:
    """Returns full-size Cnn14 with the weights of `recipe_checkpoint`, in eval mode."""
    network = find("cnn14").build().eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True), strict=False)
    return network


def front_end(rounds: int) -> list[dict[str, Any]]:
    """10 s of 32 kHz audio to a log-mel of 1001 × 64, for three kinds of sound."""
    rows = []
    sounds = noise_and_clip() | {"chirp, tone, silence": waveform(32000, SECONDS)}
    ours, reference, cores = LogMel(PANNS_32K), TorchlibrosaLogMel(PANNS_32K), available_cores()

    def torchlibrosa(samples: NDArray[np.float32], threads: int) -> object:
        torch.set_num_threads(threads)
        return reference(samples)

    out = np.empty((1001, 64), np.float32)
    for sound, samples_ in sounds.items():
        times = take_turns(
            {
                "panns-litert": lambda x=samples_: ours(x, out=out),
                "librosa": lambda x=samples_: librosa_logmel(x),
                "published loop": lambda x=samples_: published_loop(x),
                "torchlibrosa 0.1.0, 1 thread": lambda x=samples_: torchlibrosa(x, 1),
                f"torchlibrosa 0.1.0, {cores} threads": lambda x=samples_: torchlibrosa(x, cores),
            },
            rounds,
        )
        rows += [
            {"sound": sound, "what": name, "ms": ms, "ratio": ms / times["panns-litert"]} for name, ms in times.items()
        ]
    return rows


def published_loop(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The front end of the published Cnn14 LiteRT sample: one float64 FFT per frame, dense mel product."""
    spec = PANNS_32K
    padded = np.pad(samples, spec.n_fft // 2, mode="reflect")
    window = hann(spec.win_length, spec.n_fft)
    spectrum = np.stack(
        [
            np.abs(np.fft.rfft(padded[t * spec.hop_length :][: spec.n_fft].astype(np.float64) * window)) ** 2
            for t in range(spec.frames(len(samples)))
        ]
    )
    return np.asarray(10.0 * np.log10(np.maximum(spectrum @ _BASIS, spec.amin)))


_BASIS = mel_basis(PANNS_32K).T.astype(np.float64)


def librosa_logmel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The log-mel (frames, mels) of librosa."""
    spec = PANNS_32K
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        pad_mode="reflect",
    )
    return np.asarray(librosa.power_to_db(mel, amin=spec.amin, top_db=None))


def kotlin(_: int) -> list[dict[str, Any]]:
    """10 s of 32 kHz audio to a log-mel by the Kotlin library, against a textbook version in the same JVM."""
    sounds = noise_and_clip()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("basis", *sounds)]
        for path, values in zip(paths, (mel_basis(PANNS_32K), *sounds.values()), strict=True):
            values.astype("<f4").tofile(path)
        runner = Path(__file__).resolve().parents[1] / "android" / "kotlin.py"
        command = [sys.executable, str(runner), "io.github.pannslitert.frontend.BenchKt", *map(str, paths)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return [{"sound": "none", "what": f"not measured: {result.stderr.splitlines()[-1]}"}]
    return [
        {"sound": sound, "what": name, "ms": ms, "ratio": ms / times["tagger"]}
        for sound, times in json.loads(result.stdout).items()
        for name, ms in times.items()
    ]


def body(rounds: int) -> list[dict[str, Any]]:
    """The CNN body of full-size Cnn14 on one 10 s clip, with the weights of the golden recipe."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = recipe_checkpoint(Path(folder))
        paths = {}
        for precision in ("fp32", "fp16"):
            run_convert(checkpoint, Path(folder) / precision, precision)
            paths[precision] = Bundle(Path(folder) / precision).file("model")
        network = recipe_network(checkpoint)
        logmel = LogMel(PANNS_32K)(waveform(32000, SECONDS))[None, None]
        values = torch.from_numpy(logmel)

        def torch_run(threads: int) -> object:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return network(values)

        cores = available_cores()
        candidates: dict[str, Callable[[], object]] = {}
        for threads in dict.fromkeys((cores, 1)):
            label = count(threads)
            for precision, path in paths.items():
                engine = CpuEngine(path, threads=threads)
                candidates[f"LiteRT {precision}, {label}"] = lambda e=engine: e.run(logmel)
            candidates[f"PyTorch, {label}"] = lambda n=threads: torch_run(n)
        times = take_turns(candidates, max(3, rounds // 3))
    fastest = times[f"LiteRT fp16, {count(cores)}"]
    return [{"what": name, "ms": ms, "ratio": ms / fastest} for name, ms in times.items()]


def graphs(rounds: int) -> list[dict[str, Any]]:
    """Samples to tags at full size on the CPU: the waveform graph against host log-mel and logmel graph."""
    samples = (0.1 * np.random.default_rng(0).standard_normal(320_000)).astype(np.float32)
    rows = []
    for name in ("cnn14", "mn04"):
        model = find(name)
        front_end = LogMel(model.front_end)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = sweep.recipe_checkpoint(model, Path(folder))
            assert checkpoint is not None
            paths = {}
            for graph in GRAPHS:
                run_convert(checkpoint, Path(folder) / graph, "fp16", graph, model=name)
                paths[graph] = Bundle(Path(folder) / graph).file("model")
            for threads in dict.fromkeys((available_cores(), 1)):
                logmel, whole = (CpuEngine(paths[graph], threads=threads) for graph in ("logmel", "waveform"))
                times = take_turns(
                    {
                        "host log-mel + logmel graph": lambda e=logmel, f=front_end: e.run(f(samples)[None, None]),
                        "waveform graph": lambda e=whole: e.run(samples[None]),
                    },
                    max(5, rounds),
                )
                host = times["host log-mel + logmel graph"]
                rows += [
                    {"what": f"{name}: {what}, {count(threads)}", "ms": ms, "ratio": ms / host}
                    for what, ms in times.items()
                ]
    return rows


def conversion(_: int) -> list[dict[str, Any]]:
    """Time and peak memory of the command that converts full-size Cnn14 to a proven bundle."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = recipe_checkpoint(Path(folder))
        seconds, memory = run_convert(checkpoint, Path(folder) / "bundle", "fp16")
        size = Bundle(Path(folder) / "bundle").file("model").stat().st_size
    return [{"what": "convert cnn14, every stage", "seconds": seconds, "peak_GB": memory, "fp16_MB": size / 1e6}]


def first_result(rounds: int) -> list[dict[str, Any]]:
    """Time from process start to the first tags, with the demo bundle."""
    clip = demo_clips()[0]
    command = [sys.executable, "-m", "panns_litert.cli", "tag", str(clip), "--bundle", str(demo_bundle())]
    imports = [sys.executable, "-c", "import panns_litert"]
    nothing = [sys.executable, "-c", ""]
    times = take_turns(
        {
            "panns-litert tag CLIP": lambda: subprocess.run(command, check=True, capture_output=True),
            "import panns_litert": lambda: subprocess.run(imports, check=True),
            "python alone": lambda: subprocess.run(nothing, check=True),
        },
        max(3, rounds // 3),
    )
    return [{"what": name, "ms": ms} for name, ms in times.items()]


_TAG_LONG = """
import re, sys, time
from pathlib import Path
from panns_litert import Tagger, tag_long, windows
def peak():  # of this process; ru_maxrss would start at the peak of its parent process
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
tagger = Tagger(sys.argv[1])
next(windows(tagger, sys.argv[2]))
before = peak()
start = time.perf_counter()
found = tag_long(tagger, sys.argv[2])
print(found.seconds, time.perf_counter() - start, before, peak())
"""


def long_recording(_: int) -> list[dict[str, Any]]:
    """Time and memory for hours of 48 kHz stereo, with the demo model and full-size Cnn14."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run_convert(recipe_checkpoint(Path(folder)), Path(folder) / "cnn14", "fp16")
        for name, bundle, minutes in (("demo", demo_bundle(), 180), ("cnn14", Path(folder) / "cnn14", 20)):
            path = Path(folder) / f"{name}.flac"
            tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(60 * 48000) / 48000)
            with soundfile.SoundFile(path, "w", 48000, 2) as file:
                for _ in range(minutes):
                    file.write(np.stack([tone, -0.5 * tone], axis=1))
            command = [sys.executable, "-c", _TAG_LONG, str(bundle), str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            audio, seconds, before, after = map(float, done.stdout.split())
            rows.append(
                {
                    "what": f"{name}, {audio / 3600:.2g} h",
                    "seconds": seconds,
                    "times_real_time": audio / seconds,
                    "MB_after_one_window": before / 1024,
                    "MB_peak": after / 1024,
                }
            )
    return rows


def throughput(_: int) -> list[dict[str, Any]]:
    """Hours of audio per minute on all cores: `batch` against a loop of PyTorch and torchlibrosa; and time to a tag."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = recipe_checkpoint(Path(folder))
        run_convert(checkpoint, Path(folder) / "cnn14", "fp16")
        efficient = REAL_WEIGHTS if REAL_WEIGHTS.exists() else recipe_checkpoint(Path(folder), "mn04_as")
        run_convert(efficient, Path(folder) / "mn04", "fp16", model="mn04")
        files = [Path(folder) / f"{i}.wav" for i in range(6)]
        for i, file in enumerate(files):
            soundfile.write(file, 0.1 * np.random.default_rng(i).standard_normal(30 * 32000), 32000)
        hours = 30 * len(files) / 3600
        network, logmel = recipe_network(checkpoint), TorchlibrosaLogMel(PANNS_32K)
        torch.set_num_threads(available_cores())

        def torch_hears(file: Path) -> None:
            samples, _ = soundfile.read(file, dtype="float32")
            with torch.inference_mode():
                for start in range(0, len(samples), 320_000):
                    network(torch.from_numpy(logmel(samples[start : start + 320_000]))[None, None])

        torch_hears(files[0])
        times: dict[str, list[float]] = {"PyTorch Cnn14 + torchlibrosa, a loop": [], "cnn14": [], "mn04": []}
        # A fast candidate repeats the files, so that the start of its workers is a small part of the measured time.
        for turn in range(2):
            for name, often in zip(times, (1, 3, 60), strict=True):
                time.sleep(PAUSE_SECONDS)
                begin = time.perf_counter()
                if often == 1:
                    for file in files:
                        torch_hears(file)
                else:
                    manifest, out = Path(folder) / "manifest.csv", Path(folder) / f"{name}-{turn}"
                    manifest.write_text("\n".join(["path", *(file.name for file in files * often)]) + "\n")
                    panns_litert("batch", manifest, "--out", out, "--bundle", Path(folder) / name)
                times[name].append((time.perf_counter() - begin) / often)
        for name, seconds in times.items():
            rate = 60 * hours / statistics.median(seconds)
            rows.append({"what": name, "hours_per_minute": rate, "ratio": 1.0})
            rows[-1]["ratio"] = rate / rows[0]["hours_per_minute"]
            if (bundle := Path(folder) / name).exists():
                begin = time.perf_counter()
                panns_litert("tag", files[0], "--bundle", bundle)
                rows[-1]["what"] = (
                    f"{name} fp16, batch (tag of one file: {time.perf_counter() - begin:.1f} s from start)"
                )
    return rows


def panns_litert(*arguments: object) -> None:
    """Runs a command of panns-litert in a new process."""
    command = [sys.executable, "-m", "panns_litert.cli", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def recipe_checkpoint(folder: Path, shapes: str = "Cnn14") -> Path:
    """Writes a checkpoint of a full-size network with the weights of the golden recipe. Returns its path."""
    path = folder / f"{shapes}_recipe.pth"
    torch.save({key: torch.from_numpy(w) for key, w in weights(golden_shapes(shapes)).items()}, path)
    return path


def run_convert(
    checkpoint: Path, out: Path, precision: str, graph: str = "logmel", *, model: str = "cnn14"
) -> tuple[float, float]:
    """Runs `convert` in a new process. Returns its seconds and its peak memory, GB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "panns_litert.cli", "convert", model, "--json", "--precision", precision,
         "--graph", graph, "--checkpoint", str(checkpoint), "--out", str(out)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("bench: the conversion failed; run `panns-litert convert` to see why")
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * kilobyte / 1e9


def show(console: Console, name: str, rows: list[dict[str, Any]]) -> None:
    """Prints the results of one benchmark as a table."""
    console.print(f"\n{name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}", markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.2f}" for value in row.values()))
    console.print(table)


BENCHMARKS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "front_end": front_end,
    "kotlin": kotlin,
    "first_result": first_result,
    "loading": loading,
    "process_start": process_start,
    "conversion": conversion,
    "body": body,
    "graphs": graphs,
    "throughput": throughput,
    "long_recording": long_recording,
}

if __name__ == "__main__":
    sys.exit(main())
