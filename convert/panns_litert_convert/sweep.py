"""The zoo sweep: `python -m panns_litert_convert.sweep --out assets/zoo.json`, or `make zoo`.

Every model of the registry at full size, with the golden recipe's weights: converted, proven at every stage,
run on the GPU delegate where there is a driver, and timed on the CPU. One model's failure is a row of the
table and hides no other. Interrupted, it goes on where it was; `--fresh` starts over.

Half of a conversion keeps one core busy, so several models are measured at a time, each on cores of its own.
Times are taken at the end, one model after the other with nothing beside it, of the very files that were
measured: they wait in the cache for it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from panns_litert.bundle import Check, cache_dir
from panns_litert.engine import CpuEngine, available_cores
from panns_litert.errors import GpuDriverError, PannsLitertError, ParityError
from panns_litert.frontend import LogMel
from panns_litert.measure import insert, markdown
from panns_litert.proof import demo_inputs, gpu_check
from panns_litert_convert.convert import convert
from panns_litert_convert.export import cast_fp16, export_fp32
from panns_litert_convert.frontend import ALWAYS_FLOAT32
from panns_litert_convert.networks.efficientat import MobileNetV3
from panns_litert_convert.zoo import MODELS, Model, find, model_row, models_table, size_of
from panns_litert_golden.recipe import waveform, weights

TIMED_RUNS = 7
TIMEOUT_SECONDS = 1800
JOBS = 2
"""How many models are measured at a time. One needs up to 4 GB of memory."""

BRIEF = ("mn04", "mn10", "mn40", "mobilenetv1", "cnn14", "cnn14_decisionlevelmax", "wavegram_logmel_cnn14", "ast")
BRIEF_COLUMNS = ("name", "Hz", "M params", "GMAC", "mAP", "fp16 MB", "fp16 error", "GPU error", "on the GPU", "CPU ms")
"""Models, and what of them, that stand for the zoo where there is no room for all."""

MODEL_FILE = "model.tflite"


def measure(model: Model, folder: Path) -> dict[str, Any]:
    """One row: converts the model with recipe weights and takes every figure but its time.

    A failure is a figure, too: `error` then says what happened, and what was measured before it stays.

    Args:
        model: the model.
        folder: where to work; the float16 file is MODEL_FILE there in the end.
    """
    row: dict[str, Any] = {"name": model.name, "error": None}
    checkpoint = None
    if model.checkpoint.url is not None or not model.checkpoint.published:  # what ships is measured as it ships
        checkpoint = folder / "recipe.safetensors"
        save_file(recipe_state(model), checkpoint)
    try:
        bundle = convert(model.name, checkpoint=checkpoint, out=folder / "bundle")
    except ParityError as error:
        checks = error.report if isinstance(error.report, list) else []
        return row | {"error": str(error), "checks": worst(checks)}
    except PannsLitertError as error:
        return row | {"error": str(error)}
    row |= {
        "graph": bundle.manifest.graph,
        "fp16_bytes": bundle.file("model").stat().st_size,
        "checks": worst(bundle.manifest.parity),
    }
    # A software driver takes most of the time. The second clip ends in silence, which matters to a log-mel in float16.
    clips = demo_inputs(bundle)[: 2 if bundle.manifest.log_mel == "graph" else 1]
    try:
        report = gpu_check(bundle, inputs=clips, audit=False, timeout=TIMEOUT_SECONDS)
        row |= {
            "operators": report.operators,
            "resident": report.resident,
            "refused": sorted({f"{refused.op}: {refused.reason}" for refused in report.refused}),
            "gpu": worst(report.checks),
            "gpu_passed": report.passed,
            "gpu_why": report.why,
            "adapter": report.adapter,
        }
    except GpuDriverError:
        row["resident"] = None
    os.replace(bundle.file("model"), folder / MODEL_FILE)
    return row


def remake(model: Model, folder: Path) -> dict[str, Any]:
    """Makes the float16 file of a row again, MODEL_FILE in the folder, and proves nothing: the row's figures stand."""
    network = model.build()
    network.load_state_dict(recipe_state(model), strict=False)
    exported = network.eval().for_export(samples=model.front_end.samples(10.0))
    source, log = folder / "fp32.tflite", folder / "log"
    export_fp32(exported, {network.graph: torch.zeros(model.input_shape(10.0))}, source, log=log)
    cast_fp16(source, folder / MODEL_FILE, keep=ALWAYS_FLOAT32, log=log)
    return {"name": model.name, "error": None, "fp16_bytes": (folder / MODEL_FILE).stat().st_size}


def recipe_state(model: Model) -> dict[str, torch.Tensor]:
    """The golden recipe's weights for a model; EfficientAT's made gentler.

    Through its linear bottlenecks the recipe's sums grow to hundreds, which no trained network's do and float16
    cannot follow: there a block gives 0.7 times as much, and logits get a deviation of 2.
    """
    with torch.device("meta"):
        state = model.build().state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    tensors = {key: torch.from_numpy(w) for key, w in weights(shapes).items()}
    if model.architecture is not MobileNetV3:
        return tensors
    for block in {key.split(".block.")[0] for key in tensors if ".block." in key}:
        scales = [key for key in tensors if key.startswith(f"{block}.block.") and key.endswith(".1.weight")]
        last = max(scales, key=lambda key: int(key.split(".")[3]))
        tensors[last] *= 0.7
    network = model.build()
    network.load_state_dict(tensors, strict=False)
    sound = LogMel(model.front_end)(waveform(model.front_end.sample_rate, 10.0))
    with torch.inference_mode():
        logits = network.eval().trace(torch.from_numpy(sound)[None, None])["logits"]
    for key in ("classifier.5.weight", "classifier.5.bias"):
        tensors[key] *= 2.0 / float(logits.std())
    return tensors


def worst(checks: Sequence[Check]) -> dict[str, float]:
    """The largest error of every stage and output: "fp32/probs" to its figure."""
    return {f"{check.stage}/{check.output}": check.max_abs for check in checks if check.max_abs is not None}


def latency(path: Path) -> float:
    """Milliseconds of the fastest of several runs on all cores: whatever else the machine does only adds to it."""
    engine = CpuEngine(path)
    rng = np.random.default_rng(0)
    values = {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in engine.inputs.items()}
    times = []
    for _ in range(TIMED_RUNS + 1):
        start = time.perf_counter()
        engine.run(values)
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[1:])


def sweep(
    names: Sequence[str], out: Path, *, fresh: bool, timed: bool = True, jobs: int = JOBS
) -> list[dict[str, Any]]:
    """Measures models, each in a process of its own, and writes what is known after each of them.

    Args:
        names: of the models; what was measured before is not measured again.
        out: JSON file of all rows.
        fresh: whether to forget the rows of those models first.
        timed: whether to take the times that are missing; not on a machine that does other work.
        jobs: how many models to measure at a time, ≥ 1.

    Returns:
        All rows of the file, in the registry's order. `seconds` are the row's own, with its neighbours at work, and
        `cpu_seconds` what its processes computed.
    """
    known: dict[str, dict[str, Any]] = {}
    if out.is_file():
        known = {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    if fresh:
        known = {name: row for name, row in known.items() if name not in names}

    def learn(name: str, row: dict[str, Any], verdict: str) -> None:
        known[name] = row
        write(out, [known[model.name] for model in MODELS if model.name in known])
        print(f"{name}: {verdict}", flush=True)

    pending = [name for name in names if known.get(name, {"error": "not measured"}).get("error") is not None]
    for name, row in in_parallel(pending, jobs):
        learn(name, row, f"{row['error'] or row.get('gpu_why') or 'passed'}, {row['seconds']:.0f} s")
    for name in names if timed else ():
        row = known[name]
        if row["error"] is not None or row.get("cpu_ms") is not None:
            continue
        path = kept(name)
        if not path.is_file() or path.stat().st_size != row["fp16_bytes"]:
            made = in_process(name, "remake")
            if made["error"] or made["fp16_bytes"] != row["fp16_bytes"]:
                why = made["error"] or f"its file has {made['fp16_bytes']} bytes, expected {row['fp16_bytes']}"
                print(f"{name}: no time: {why}; measure it again: --only {name} --fresh", flush=True)
                continue
        milliseconds = latency(path)
        path.unlink()
        learn(name, row | {"cpu_ms": milliseconds}, f"{milliseconds:.1f} ms")
    return [known[model.name] for model in MODELS if model.name in known]


def in_parallel(names: Sequence[str], jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and row of every model as they are ready, `jobs` at a time, each on cores of its own."""
    cores = sorted(os.sched_getaffinity(0))
    jobs = min(jobs, len(cores), max(len(names), 1))
    shares: queue.Queue[set[int]] = queue.Queue()
    for i in range(jobs):
        shares.put(set(cores[i::jobs]))

    def bind() -> None:
        os.sched_setaffinity(0, shares.get())  # of this thread, and of the processes that it starts

    largest_first = sorted(names, key=lambda name: -size_of(find(name)).gmac)  # so that none is left alone at the end
    with ThreadPoolExecutor(jobs, initializer=bind) as pool:
        rows = {pool.submit(in_process, name, "measure"): name for name in largest_first}
        try:
            for row in as_completed(rows):
                yield rows[row], row.result()
        finally:
            pool.shutdown(cancel_futures=True)


def in_process(name: str, step: str) -> dict[str, Any]:
    """`measure` or `remake` in a process of its own, so that a crash or a lack of memory stays one row.

    The model's file is `kept`.
    """
    start = time.perf_counter()
    with work_folder() as folder:
        words = ["--step", step]
        row = row_of_process("panns_litert_convert.sweep", name, words, folder=folder, timeout=TIMEOUT_SECONDS)
        if (made := folder / MODEL_FILE).is_file():
            kept(name).parent.mkdir(exist_ok=True)
            shutil.move(made, kept(name))
        return row | {"seconds": round(time.perf_counter() - start, 1)}


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for large files, on the disk of the cache; gone at the end."""
    (cache_dir() / "work").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir() / "work") as folder:
        yield Path(folder)


def row_of_process(
    module: str, name: str, words: Sequence[str], *, folder: Path, timeout: float, shown: bool = False
) -> dict[str, Any]:
    """What `python -m MODULE WORDS --one NAME --folder FOLDER` leaves as row.json there; an error if it leaves none.

    With `shown` its progress is this process's stderr, too.
    """
    command = [sys.executable, "-m", module, *words, "--one", name, "--folder", str(folder)]
    result = folder / "row.json"
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"no result after {timeout:g} s"}
    if not result.is_file():
        last = ((done.stderr or "").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"name": name, "error": last[:300]}
    row: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return row


def kept(name: str) -> Path:
    """Where a model's file waits until its time is taken."""
    return cache_dir() / "zoo" / f"{name}.tflite"


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the rows, all at once."""
    new = out.with_name(out.name + ".new")
    new.write_text(json.dumps({"cores": available_cores(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    os.replace(new, out)


def brief(table: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """What BRIEF and BRIEF_COLUMNS leave of the table."""
    by_name = {row["name"]: row for row in table}
    return [{column: by_name[name][column] for column in BRIEF_COLUMNS} for name in BRIEF]


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--document", type=Path, action="append", default=[], help="Markdown to put the table into")
    parser.add_argument("--brief", type=Path, help="Markdown to put the rows of some models into")
    parser.add_argument("--only", action="append", help="measure these models alone")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--untimed", action="store_true", help="take no times: the machine does other work")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"models to measure at a time (default {JOBS})")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=("measure", "remake"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        row = {"measure": measure, "remake": remake}[args.step](find(args.one), args.folder)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        row["cpu_seconds"] = round(sum(usage.ru_utime + usage.ru_stime for usage in used), 1)
        (args.folder / "row.json").write_text(json.dumps(row), encoding="utf-8")
        return
    if args.out is None:
        parser.error("--out is required")
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}; expected at least 1")
    start = time.perf_counter()
    names = args.only or [model.name for model in MODELS]
    rows = sweep(names, args.out, fresh=args.fresh, timed=not args.untimed, jobs=args.jobs)
    table = [model_row(row) for row in models_table(rows)]
    for document in args.document:
        insert(document, markdown(table), marker="zoo")
    if args.brief:
        insert(args.brief, markdown(brief(table)), marker="zoo")
    print(markdown(table))
    computed = sum(row.get("cpu_seconds", 0.0) for row in rows)
    print(f"this run: {(time.perf_counter() - start) / 60:.1f} minutes; these rows: {computed / 60:.1f} core minutes")


if __name__ == "__main__":
    main()
