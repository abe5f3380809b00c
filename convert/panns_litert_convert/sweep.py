"""The zoo sweep: `python -m panns_litert_convert.sweep --out assets/zoo.json`, or `make zoo`.

Every model of the registry at full size, with the golden recipe's weights: converted, proven at every stage,
run on the GPU delegate where there is a driver, and timed on the CPU. One model's failure is a row of the
table and hides no other. Interrupted, it goes on where it was; `--fresh` starts over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from panns_litert.cache import cache_dir
from panns_litert.cli.convert import model_row
from panns_litert.engine import CpuEngine, available_cores
from panns_litert.errors import GpuDriverError, PannsLitertError, ParityError
from panns_litert.frontend import LogMel
from panns_litert.gpu import gpu_check
from panns_litert.parity import Check
from panns_litert_convert.convert import convert
from panns_litert_convert.networks.efficientat import MobileNetV3
from panns_litert_convert.zoo import MODELS, Model, find, models_table
from panns_litert_golden.recipe import waveform, weights

TIMED_RUNS = 7
TIMEOUT_SECONDS = 900


def measure(model: Model, folder: Path, *, timed: bool = True) -> dict[str, Any]:
    """One row: converts the model with recipe weights into the folder and takes every figure; its time if `timed`.

    A failure is a figure, too: `error` then says what happened, and what was measured before it stays.
    """
    row: dict[str, Any] = {"name": model.name, "error": None}
    start = time.perf_counter()
    checkpoint = None
    if model.checkpoint.url is not None or not model.checkpoint.published:  # what ships is measured as it ships
        checkpoint = folder / "recipe.safetensors"
        save_file(recipe_state(model), checkpoint)
    try:
        bundle = convert(model.name, checkpoint=checkpoint, out=folder / "bundle")
    except ParityError as error:
        checks = error.report if isinstance(error.report, list) else []
        return row | {"error": str(error), "checks": worst(checks), "seconds": time.perf_counter() - start}
    except PannsLitertError as error:
        return row | {"error": str(error)}
    row |= {
        "graph": bundle.manifest.graph,
        "fp16_bytes": bundle.file("model").stat().st_size,
        "checks": worst(bundle.manifest.parity),
        "cpu_ms": latency(bundle.file("model")) if timed else None,
    }
    try:
        report = gpu_check(bundle, audit=False, timeout=TIMEOUT_SECONDS)
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
    return row | {"seconds": time.perf_counter() - start}


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


def sweep(names: Sequence[str], out: Path, *, fresh: bool, timed: bool = True) -> list[dict[str, Any]]:
    """Measures models, each in a process of its own, and writes what is known after each of them.

    Args:
        names: of the models; those measured before are not measured again.
        out: JSON file of all rows.
        fresh: whether to forget the rows of those models first.
        timed: whether to take times; not on a machine that does other work.
    """
    known: dict[str, dict[str, Any]] = {}
    if out.is_file():
        known = {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    if fresh:
        known = {name: row for name, row in known.items() if name not in names}
    for name in names:
        before = known.get(name, {"error": "not measured"})
        if before.get("error") is None and (before.get("cpu_ms") or not timed):
            print(f"{name}: measured before")
            continue
        start = time.perf_counter()
        known[name] = in_process(name, timed=timed)
        write(out, [known[model.name] for model in MODELS if model.name in known])
        verdict = known[name].get("error") or known[name].get("gpu_why") or "passed"
        print(f"{name}: {verdict}, {time.perf_counter() - start:.0f} s", flush=True)
    return [known[model.name] for model in MODELS if model.name in known]


def in_process(name: str, *, timed: bool = True) -> dict[str, Any]:
    """`measure` in a process of its own, so that a crash or a lack of memory stays one row."""
    (cache_dir() / "work").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir() / "work") as folder:
        command = [sys.executable, "-m", "panns_litert_convert.sweep", "--one", name, "--folder", folder]
        command += [] if timed else ["--untimed"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return {"name": name, "error": f"no result after {TIMEOUT_SECONDS} s"}
        result = Path(folder) / "row.json"
        if not result.is_file():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return {"name": name, "error": last[:300]}
        row: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return row


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the rows, all at once."""
    new = out.with_name(out.name + ".new")
    new.write_text(json.dumps({"cores": available_cores(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    os.replace(new, out)


def markdown(rows: list[dict[str, str]]) -> str:
    """A table for documents."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row[column] for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def insert(document: Path, table: str) -> None:
    """Puts the table between a document's markers."""
    begin, end = "<!-- zoo -->\n", "<!-- /zoo -->"
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, marker, after = rest.partition(end)
    if not marker:
        raise SystemExit(f"{document}: no {begin.strip()} … {end} to put the table between")
    document.write_text(before + begin + table + end + after, encoding="utf-8")


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--document", type=Path, action="append", default=[], help="Markdown to put the table into")
    parser.add_argument("--only", action="append", help="measure these models alone")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--untimed", action="store_true", help="take no times: the machine does other work")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        row = measure(find(args.one), args.folder, timed=not args.untimed)
        (args.folder / "row.json").write_text(json.dumps(row), encoding="utf-8")
        return
    if args.out is None:
        parser.error("--out is required")
    rows = sweep(args.only or [model.name for model in MODELS], args.out, fresh=args.fresh, timed=not args.untimed)
    table = markdown([model_row(row) for row in models_table(rows)])
    for document in args.document:
        insert(document, table)
    print(table)


if __name__ == "__main__":
    main()
