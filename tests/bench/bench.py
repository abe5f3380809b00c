"""`make bench`: measures what docs/speed.md shows.

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

import numpy as np
import soundfile
import torch
from bundles import bundle
from duplicates import duplicates
from growth import growth
from jvm import kotlin
from latency import latency
from loading import loading
from logmels import front_end
from pipeline import clips, pipeline
from process_start import process_start
from rich import box
from rich.console import Console
from rich.table import Table
from service import service
from streams import streams
from tables import add_table, texts
from torch import nn
from turns import PAUSE_SECONDS, real_recordings, take_turns
from yamnet import yamnet

from panns_litert.audio import load_audio
from panns_litert.bundle import GRAPHS, Bundle
from panns_litert.engine import CpuEngine, available_cores
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert_convert import sweep
from panns_litert_convert.references import TorchlibrosaLogMel
from panns_litert_convert.zoo import find
from panns_litert_golden.recipe import waveform

SECONDS = 10.0


def main() -> int:
    """Runs the requested benchmarks, by default all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(BENCHMARKS), action="append")
    parser.add_argument("--rounds", type=int, default=10, help="turns of every candidate (default %(default)s)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--out", type=Path, help="record of this device, to which every table is added when it is ready"
    )
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {available_cores()} cores, Python {platform.python_version()}"
    }
    for name in args.only or BENCHMARKS:
        results[name] = BENCHMARKS[name](args.rounds)
        if args.out is not None:
            add_table(args.out, name, about(name), results[name], rounds=args.rounds)
        if not args.json:
            show(console, name, results[name])
    if args.json:
        print(json.dumps(results, indent=2))
    else:
        console.print(results["machine"])
    return 0


def count(threads: int) -> str:
    """Returns the number of threads as text."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def recipe_network() -> nn.Module:
    """Returns full-size Cnn14 with the weights of its bundle in build/zoo, in eval mode."""
    network = find("cnn14").build().eval()
    network.load_state_dict(sweep.recipe_state(find("cnn14")), strict=False)
    return network


def body(rounds: int) -> list[dict[str, Any]]:
    """The CNN body of full-size Cnn14 on one 10 s clip, with the weights of the golden recipe."""
    paths = {precision: Bundle(bundle("cnn14", precision)).file("model") for precision in ("fp32", "fp16")}
    network = recipe_network()
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
    """Samples to tags on the CPU, 10 s of a metro station: the waveform graph against host log-mel and logmel graph."""
    recording = load_audio(real_recordings()["metro station"], sample_rate=32000).waveform
    samples = np.resize(recording, PANNS_32K.samples(SECONDS))
    rows = []
    for name in ("cnn14", "mn04"):
        model = find(name)
        front_end = LogMel(model.front_end)
        paths = {graph: Bundle(bundle(name, graph=graph)).file("model") for graph in GRAPHS}
        for threads in dict.fromkeys((available_cores(), 1)):
            logmel, whole = (CpuEngine(paths[graph], threads=threads) for graph in ("logmel", "waveform"))
            times = take_turns(
                {
                    "host log-mel + logmel graph": lambda e=logmel, f=front_end: e.run(f(samples)[None, None]),
                    "waveform graph": lambda e=whole: e.run(samples[None]),
                },
                rounds,
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
        checkpoint, out = sweep.recipe_checkpoint(find("cnn14"), Path(folder)), Path(folder) / "bundle"
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "panns_litert.cli", "convert", "cnn14", "--json", "--checkpoint", str(checkpoint),
             "--out", str(out)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit("bench: the conversion failed; run `panns-litert convert` to see why")
        memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        size = Bundle(out).file("model").stat().st_size
    return [{"what": "convert cnn14, every stage", "seconds": seconds, "peak_GB": memory / 1e9, "fp16_MB": size / 1e6}]


def throughput(_: int) -> list[dict[str, Any]]:
    """Hours of audio per minute on all cores: `batch` against a loop of PyTorch and torchlibrosa; and time to a tag."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.wav" for i in range(6)]
        samples = np.concatenate([load_audio(clip, sample_rate=32000).waveform for clip in clips(36)])
        for file, part in zip(files, np.split(samples[: 6 * 30 * 32000], 6), strict=True):
            soundfile.write(file, part, 32000)
        hours = 30 * len(files) / 3600
        network, logmel = recipe_network(), TorchlibrosaLogMel(PANNS_32K)
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
                    panns_litert("batch", manifest, "--out", out, "--bundle", bundle(name))
                times[name].append((time.perf_counter() - begin) / often)
        for name, seconds in times.items():
            rate = 60 * hours / statistics.median(seconds)
            rows.append({"what": name, "hours_per_minute": rate, "ratio": 1.0})
            rows[-1]["ratio"] = rate / rows[0]["hours_per_minute"]
            if name in ("cnn14", "mn04"):
                begin = time.perf_counter()
                panns_litert("tag", files[0], "--bundle", bundle(name))
                rows[-1]["what"] = (
                    f"{name} fp16, batch (tag of one file: {time.perf_counter() - begin:.1f} s from start)"
                )
    return rows


def panns_litert(*arguments: object) -> None:
    """Runs a command of panns-litert in a new process."""
    command = [sys.executable, "-m", "panns_litert.cli", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def show(console: Console, name: str, rows: list[dict[str, Any]]) -> None:
    """Prints the results of one benchmark as a table."""
    console.print(f"\n{name}: {about(name)}", markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = texts(rows)
    for column, value in zip(shown[0], rows[0].values(), strict=False):
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in shown:
        table.add_row(*row.values())
    console.print(table)


def about(name: str) -> str:
    """Returns what a benchmark measures, a sentence."""
    return (BENCHMARKS[name].__doc__ or "").splitlines()[0]


BENCHMARKS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "front_end": front_end,
    "kotlin": kotlin,
    "loading": loading,
    "process_start": process_start,
    "conversion": conversion,
    "body": body,
    "graphs": graphs,
    "throughput": throughput,
    "pipeline": pipeline,
    "streams": streams,
    "growth": growth,
    "yamnet": yamnet,
    "duplicates": duplicates,
    "service": service,
    "latency": latency,
}

if __name__ == "__main__":
    sys.exit(main())
