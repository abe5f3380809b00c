"""`make figures`: measures every time that the documents show, in one run on one machine, and writes them there.

    python tests/bench/figures.py             # measures, about half an hour on two quiet cores, then renders
    python tests/bench/figures.py --render    # renders what records/ and assets/runtimes.json hold

A run has steps: `panns-litert bench` with every model, every table of bench.py, and the table of runtimes. Each keeps
its results in build/figures until all steps are done; then they replace records/ and assets/runtimes.json together. An
interrupted run continues after its last step. The bundles are those of bundles.py; missing ones are converted first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import evidence
import soak
from bundles import PRECISIONS, bundle, wanted
from esc10 import MODEL
from tables import read_tables, texts, versions
from turns import ROOT

from panns_litert.cli.bench import MARKER as RECORDS_MARKER
from panns_litert.cli.bench import document
from panns_litert.measure import (
    DeviceRecord,
    Run,
    add_runs,
    bench,
    insert,
    join,
    markdown,
    plot_rungs,
    read_records,
    this_device,
)
from panns_litert.models import MEASUREMENTS, TIMES, model_row, models_table
from panns_litert_convert.sweep import brief
from panns_litert_convert.zoo import MODELS, find, properties

DEVICE = "AMD EPYC"
"""The machine of all times in documents, by the name of its record."""

_FILE = f"{DEVICE.lower().replace(' ', '-')}.json"
RECORD, TABLES, RUNTIMES = Path("records") / _FILE, Path("records/bench") / _FILE, Path("assets/runtimes.json")
"""The results of a run, in the repository."""

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "android_demo/README.md", "web_demo/README.md"),
    *("web_demo/panns-litert/README.md", "docs/**/*.md"),
)
"""Documents, as patterns. Each may have blocks `<!-- table NAME -->` for tables of bench.py."""

XNNPACK_ONLY = ("int8-weights", "int8-full")
"""Precisions that neither the GPU delegate nor the CPU's kernels without XNNPACK run."""

WORK = ROOT / "build" / "figures"
ROUNDS = 5


# ---- rendering


def documents(root: Path = ROOT) -> list[Path]:
    """Returns the documents of a repository."""
    return [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]


def device_record() -> DeviceRecord:
    """Returns the record of the machine of all documents."""
    return next(record for record in read_records(ROOT / "records") if record.device.name == DEVICE)


def bench_tables() -> dict[str, Any]:
    """Returns the record of bench.py's tables."""
    return read_tables(ROOT / TABLES)


def render(root: Path = ROOT) -> None:
    """Writes every measured time into the documents of a repository, and times.json into its assets.

    The records are those of this repository. Another `root` must have the documents with their markers.
    """
    record, tables = device_record(), bench_tables()
    records = read_records(ROOT / "records")
    known = {table["name"]: table for table in tables["tables"]}
    times = times_of(record)
    text = json.dumps(times, indent=1, ensure_ascii=False)
    (root / "assets" / TIMES).write_text(f"{text}\n", encoding="utf-8")
    zoo = json.loads((ROOT / "assets" / MEASUREMENTS).read_text(encoding="utf-8"))["rows"]
    models = [model_row(row) for row in models_table(properties(), zoo, times)]
    insert(root / "docs" / "zoo.md", markdown(models), marker="zoo")
    insert(root / "docs" / "choose.md", markdown(brief(models)), marker="zoo")
    insert(root / "docs" / "bench.md", document(records, join(records)), marker=RECORDS_MARKER)
    insert(root / "docs" / "speed.md", speed(tables), marker="speed")
    insert(root / "README.md", readme(record), marker="figures")
    evidence.render(root)
    soak.render(root)
    for path in documents(root):
        for name in re.findall(r"^<!-- table (\w+) -->$", path.read_text(encoding="utf-8"), re.M):
            shown = markdown(texts(known[name]["rows"])) if name in known else "Not measured yet.\n"
            insert(path, shown, marker=f"table {name}")


def times_of(record: DeviceRecord) -> dict[str, Any]:
    """Returns what times.json holds: the times of every model at fp16, of its first graph, for clips of 10 s."""
    rows = []
    for model in MODELS:
        runs = [timed(record, model.name, "fp16", threads=threads) for threads in (1, record.device.cores)]
        if None not in runs:
            one, all_cores = (round(run.ms.median, 3) for run in runs if run is not None)
            rows.append({"name": model.name, "one_thread_ms": one, "all_cores_ms": all_cores})
    day = max(run.date for run in record.runs)
    return {"device": record.device.name, "cores": record.device.cores, "date": day, "rows": rows}


def timed(record: DeviceRecord, name: str, precision: str, *, threads: int) -> Run | None:
    """Returns the run of a model on the CPU with XNNPACK's kernels, of its first graph and 10 s; None without one."""
    wanted = (name, precision, find(name).graphs[0], 10.0, "cpu", threads, True)
    return next((run for run in record.runs if run.key == wanted), None)


def speed(tables: dict[str, Any]) -> str:
    """Returns all tables of bench.py as Markdown, each under a heading."""
    device, known = tables["device"], tables["tables"]
    if not known:
        return "Not measured yet.\n"
    days = " and ".join(sorted({table["date"] for table in known}))
    software = ", ".join(f"{name} {version}" for name, version in known[-1]["versions"].items())
    parts = [f"{device['name']}, {device['cores']} cores, {device['os']}, {days}: {software}.\n"]
    for table in known:
        title = table["name"].replace("_", " ").capitalize()
        parts.append(f"## {title}\n\n{table['about']}\n\n{markdown(texts(table['rows']))}")
    return "\n".join(parts)


def readme(record: DeviceRecord) -> str:
    """Returns the table of README.md: of the ladder, the registry, the device record and evidence.py's."""
    ladder = json.loads((ROOT / "assets" / "ladder.json").read_text(encoding="utf-8"))["rows"]
    clips = read_tables(ROOT / evidence.RECORD)["tables"]
    rows = [
        {"": "file, MB"},
        {"": "mAP on AudioSet, as published"},
        {"": "largest error of a probability against PyTorch"},
        {"": f"ms for 10 s of sound, one core of an {DEVICE}"},
        {"": "clips of ESC-10 named right, without training"},
    ]
    for name, precision in (("mn04", "fp16"), ("mn04", "int8"), ("cnn14", "fp16")):
        rung = next(
            rung for row in ladder if row["name"] == name for rung in row["rungs"] if rung["precision"] == precision
        )
        run = timed(record, name, precision, threads=1)
        values = (
            f"{rung['bytes'] / 1e6:.1f}",
            f"{find(name).published_map:.3f}" if precision == "fp16" else "–",  # the original's; fp16 agrees with it
            f"{rung['checks'][f'{precision}/probs']:.2g}",
            "–" if run is None else f"{run.ms.median:.1f}",
            _share(clips, name, precision),
        )
        for row, value in zip(rows, values, strict=True):
            row[f"{name}, {precision}"] = value
    commands = ("make ladder", "make zoo", "make ladder", "make figures", "make evidence")
    for row, command in zip(rows, commands, strict=True):
        row["command"] = f"`{command}`"
    return markdown(rows)


def _share(tables: Sequence[dict[str, Any]], name: str, precision: str) -> str:
    """Returns how many clips of ESC-10 a model names right without training, of evidence.py's record."""
    if name != MODEL:
        return "–"
    rows = next(table["rows"] for table in tables if table["name"] == "zero_shot")
    row = next(row for row in rows if row["what"] == f"{precision}, log-mel, CPU" and row["window_s"] == "10")
    return f"{row['right_percent']:.1f} %"


# ---- measuring


def measure(*, rounds: int) -> None:
    """Measures everything in steps, and replaces the results of the repository when all are there.

    Args:
        rounds: turns of every candidate in the tables of bench.py.

    Raises:
        SystemExit: this is another machine, a step failed, or build/figures is of other software.
    """
    from bench import BENCHMARKS

    device = this_device()
    if device.name != DEVICE:
        raise SystemExit(
            f"figures: this is {device.name}; expected {DEVICE}, or another DEVICE in {Path(__file__).name}"
        )
    state = WORK / "run.json"
    begun = {"cpu": device.cpu, "cores": device.cores, "versions": versions(), "rounds": rounds}
    if state.exists() and json.loads(state.read_text(encoding="utf-8")) != begun:
        raise SystemExit(f"figures: {WORK} holds a run of other software or rounds; remove it, or finish it with those")
    for row in wanted():
        bundle(*row)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}; expected 0: nothing else may run", flush=True)
    WORK.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps(begun), encoding="utf-8")
    steps: dict[str, Callable[[], object]] = {
        "models": measure_models,
        "precisions": measure_precisions,
        "gpu": measure_gpu,
    }
    steps |= {f"table {name}": lambda name=name: measure_table(name, rounds) for name in BENCHMARKS}
    steps["runtimes"] = measure_runtimes
    for name, step in steps.items():
        if (done := WORK / f"{name}.done").exists():
            continue
        start = time.monotonic()
        step()
        done.touch()
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    for path in (RECORD, TABLES, RUNTIMES):
        (ROOT / path).parent.mkdir(exist_ok=True)
        os.replace(WORK / path, ROOT / path)
    shutil.rmtree(WORK)


def measure_models() -> None:
    """Every model at fp16, and the other precisions of Cnn14: large models, so few runs."""
    others = [bundle(model.name) for model in MODELS if model.name not in PRECISIONS]
    cnn14 = [bundle("cnn14", precision) for precision in PRECISIONS["cnn14"]]
    _bench([*others, *cnn14], xnnpack=[True], rounds=2, runs=4, seconds=2.5)


def measure_precisions() -> None:
    """The small models at every precision, with XNNPACK's kernels and without them."""
    _bench(_small(), xnnpack=[True], rounds=3, runs=10)
    _bench(_small(leave_out=XNNPACK_ONLY), xnnpack=[False], rounds=2, runs=5)


def measure_gpu() -> None:
    """What runs on the GPU delegate. A software driver's times mean nothing, so that one run is enough."""
    _bench(_small(leave_out=XNNPACK_ONLY), engines=["gpu"], rounds=1, runs=1)


def _small(*, leave_out: Sequence[str] = ()) -> list[Path]:
    names = [(name, precision) for name in ("demo", "mn04") for precision in PRECISIONS[name]]
    return [bundle(*name) for name in names if name[1] not in leave_out]


def _bench(bundles: Sequence[Path], *, engines: Sequence[str] = ("cpu",), **options: Any) -> None:
    """Measures bundles and adds the runs to the record of this run. A failure ends the run."""
    found = bench(bundles, engines=engines, warmup=1, report=lambda turn: print(turn, file=sys.stderr), **options)
    if found.interrupted:
        raise KeyboardInterrupt
    if found.failures:
        raise SystemExit("\n".join(f"figures: {f.model} {f.precision}, {f.setting}: {f.why}" for f in found.failures))
    add_runs(WORK / RECORD.parent, this_device(), found.runs)


def measure_table(name: str, rounds: int) -> None:
    """A table of bench.py, in a process of its own. A row that is not measured ends the run."""
    _run("tests/bench/bench.py", "--only", name, "--rounds", rounds, "--out", WORK / TABLES)
    rows = next(table["rows"] for table in read_tables(WORK / TABLES)["tables"] if table["name"] == name)
    for text in (value for row in rows for value in row.values()):
        if isinstance(text, str) and text.startswith("not measured"):
            raise SystemExit(f"figures: {name}: {text}")


def measure_runtimes() -> None:
    """The table of runtimes."""
    (WORK / RUNTIMES).parent.mkdir(exist_ok=True)
    _run("tests/runtimes/runtimes.py", "--out", WORK / RUNTIMES, PANNS_LITERT_STRICT="1")


def _run(script: str, *words: object, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / script, *map(str, words)],
        stdout=subprocess.DEVNULL,
        env=os.environ | variables,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"figures: {script} {' '.join(map(str, words))} failed; run the same command to continue")


def main() -> None:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--render", action="store_true", help="measure nothing; write the documents again")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of every candidate (default %(default)s)")
    args = parser.parse_args()
    if not args.render:
        measure(rounds=args.rounds)
    render()
    rungs = [rung for rung in join(read_records(ROOT / "records")) if rung.file.model in PRECISIONS]
    plot_rungs(rungs, ROOT / "docs" / "rungs.svg")
    _run(
        "tests/runtimes/runtimes.py", "--render", "--out", ROOT / RUNTIMES, "--document", ROOT / "docs" / "runtimes.md"
    )
    _run("tests/arm/arm.py", "--render")


if __name__ == "__main__":
    main()
