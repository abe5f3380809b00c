"""Measures the zoo: `python -m panns_litert_convert.sweep --out assets/zoo.json`, or `make zoo`.

Every model of the registry is converted at full size, with the golden recipe's weights. It passes all parity stages
and runs on the GPU delegate if there is a driver. If a model fails, its row says so and the others are measured. An
interrupted run continues where it stopped; `--fresh` starts over. `make figures` measures the times.

Half of a conversion uses one core only, so several models are measured at a time, each on its own cores.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from panns_litert.atomic import replacing
from panns_litert.bundle import Check
from panns_litert.engine import available_cores
from panns_litert.errors import GpuDriverError, PannsLitertError, ParityError
from panns_litert.frontend import LogMel
from panns_litert.measure import insert, markdown
from panns_litert.models import model_row, models_table
from panns_litert.proof import demo_inputs, gpu_check
from panns_litert_convert.convert import convert, work_folder
from panns_litert_convert.networks import MobileNetV3
from panns_litert_convert.zoo import MODELS, Model, find, properties, size_of
from panns_litert_golden.recipe import waveform, weights

TIMEOUT_SECONDS = 1800
JOBS = 2
"""Number of models measured at a time. One model needs up to 4 GB of memory."""

BRIEF = ("mn04", "mn10", "mn40", "mobilenetv1", "cnn14", "cnn14_decisionlevelmax", "wavegram_logmel_cnn14", "ast")
BRIEF_COLUMNS = ("name", "Hz", "M params", "GMAC", "mAP", "fp16 MB", "fp16 error", "GPU error", "on the GPU", "CPU ms")
"""Models and columns in the short table of docs/choose.md."""


def measure(model: Model, folder: Path) -> dict[str, Any]:
    """Converts a model and returns its row.

    After a failure the row has the reason as `error`, and the figures that were taken before.

    Args:
        model: the registry record.
        folder: folder for intermediate files.
    """
    row: dict[str, Any] = {"name": model.name, "error": None}
    try:
        bundle = convert(model.name, checkpoint=recipe_checkpoint(model, folder), out=folder / "bundle")
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
    # Few clips, because a software driver takes most of the time. The second clip ends in silence, which is a hard case
    # for a log-mel in float16.
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
    return row


def recipe_state(model: Model) -> dict[str, torch.Tensor]:
    """Returns the golden recipe's weights for a model, scaled down for EfficientAT.

    In EfficientAT's linear bottlenecks the recipe's sums grow to hundreds. This does not happen in a trained network,
    and float16 is too coarse for it. Therefore every block's output is multiplied by 0.7, and the logits are scaled to
    a standard deviation of 2.
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


def recipe_checkpoint(model: Model, folder: Path) -> Path | None:
    """Writes the recipe's weights into a folder. Returns their path, or None for a model whose weights ship."""
    if model.checkpoint.ships:
        return None
    path = folder / "recipe.safetensors"
    save_file(recipe_state(model), path)
    return path


def worst(checks: Sequence[Check]) -> dict[str, float]:
    """Returns the largest error of every stage and output by name, such as "fp32/probs"."""
    return {f"{check.stage}/{check.output}": check.max_abs for check in checks if check.max_abs is not None}


def sweep(names: Sequence[str], out: Path, *, fresh: bool, jobs: int = JOBS) -> list[dict[str, Any]]:
    """Measures models, each in its own process, and writes all rows after each model.

    Args:
        names: the models. Those without an error in `out` are not measured again.
        out: JSON file of all rows.
        fresh: whether to delete the models' rows first.
        jobs: number of models to measure at a time, ≥ 1.

    Returns:
        All rows of the file, in the registry's order. `seconds` is a row's elapsed time while other models were
        measured, and `cpu_seconds` the CPU time of its processes.
    """
    known = read(out)
    if fresh:
        known = {name: row for name, row in known.items() if name not in names}

    pending = [name for name in names if known.get(name, {"error": "not measured"}).get("error") is not None]
    for name, row in in_parallel(pending, jobs):
        known[name] = row
        write(out, in_order(known))
        print(f"{name}: {row['error'] or row.get('gpu_why') or 'passed'}, {row['seconds']:.0f} s", flush=True)
    return in_order(known)


def in_parallel(names: Sequence[str], jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and row of every model when it is ready. `jobs` models run at a time, each on its own cores."""
    cores = sorted(os.sched_getaffinity(0))
    jobs = min(jobs, len(cores), max(len(names), 1))
    shares: queue.Queue[set[int]] = queue.Queue()
    for i in range(jobs):
        shares.put(set(cores[i::jobs]))

    def bind() -> None:
        os.sched_setaffinity(0, shares.get())  # for this thread and the processes that it starts

    # The largest first, so that no large model runs alone at the end.
    largest_first = sorted(names, key=lambda name: -size_of(find(name)).gmac)
    with ThreadPoolExecutor(jobs, initializer=bind) as pool:
        rows = {pool.submit(in_process, name): name for name in largest_first}
        try:
            for row in as_completed(rows):
                yield rows[row], row.result()
        finally:
            pool.shutdown(cancel_futures=True)


def in_process(name: str) -> dict[str, Any]:
    """Runs `measure` in its own process, so that a crash or a lack of memory affects one row only."""
    start = time.perf_counter()
    with work_folder() as folder:
        row = row_of_process("panns_litert_convert.sweep", name, (), folder=folder, timeout=TIMEOUT_SECONDS)
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def row_of_process(
    module: str, name: str, words: Sequence[str], *, folder: Path, timeout: float, shown: bool = False
) -> dict[str, Any]:
    """Runs `python -m MODULE WORDS --one NAME --folder FOLDER` and returns the row that it writes to FOLDER/row.json.

    Without that file the row has an `error`. With `shown`, the process writes its progress to this process's stderr.
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


def read(out: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of a file that `write` wrote, by model; none if there is no such file."""
    if not out.is_file():
        return {}
    return {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}


def in_order(known: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows, given by model, in the registry's order."""
    return [known[model.name] for model in MODELS if model.name in known]


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the rows atomically."""
    with replacing(out) as file:
        file.write(f"{json.dumps({'cores': available_cores(), 'rows': rows}, indent=1)}\n".encode())


def brief(table: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Returns the rows BRIEF and the columns BRIEF_COLUMNS of a table."""
    by_name = {row["name"]: row for row in table}
    return [{column: by_name[name][column] for column in BRIEF_COLUMNS} for name in BRIEF]


def main() -> None:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--document", type=Path, action="append", default=[], help="Markdown to put the table into")
    parser.add_argument("--brief", type=Path, help="Markdown to put the rows of some models into")
    parser.add_argument("--only", action="append", help="measure only these models")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"models to measure at a time (default {JOBS})")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        row = measure(find(args.one), args.folder)
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
    rows = sweep(names, args.out, fresh=args.fresh, jobs=args.jobs)
    table = [model_row(row) for row in models_table(properties(), rows)]
    for document in args.document:
        insert(document, markdown(table), marker="zoo")
    if args.brief:
        insert(args.brief, markdown(brief(table)), marker="zoo")
    print(markdown(table))
    computed = sum(row.get("cpu_seconds", 0.0) for row in rows)
    print(f"this run: {(time.perf_counter() - start) / 60:.1f} minutes; these rows: {computed / 60:.1f} core minutes")


if __name__ == "__main__":
    main()
