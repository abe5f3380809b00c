"""Command bench: measures bundles, stores device records, and joins them into a table and a picture."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.bundle import RECOMMENDED_MODEL, open_bundle
from panns_litert.cli.options import BUNDLE_HELP, named_bundle
from panns_litert.cli.output import AddCommand, note, print_json, print_table, steps
from panns_litert.errors import BenchError, GpuDriverError
from panns_litert.measure import (
    ENGINES,
    ROUNDS,
    RUNS,
    SECONDS,
    TIMEOUT_SECONDS,
    WARMUP,
    Device,
    DeviceRecord,
    Failure,
    Run,
    Rung,
    add_runs,
    bench,
    insert,
    join,
    markdown,
    plot_rungs,
    read_records,
    table,
    this_device,
)
from panns_litert.words import counted

RECORDS = Path("records")
MARKER = "records"
_XNNPACK = {"both": (True, False), "on": (True,), "off": (False,)}


def add_commands(command: AddCommand) -> None:
    """Adds bench."""
    sub = command("bench", run_bench)
    sub.add_argument(
        "bundles", nargs="*", metavar="MODEL", help=f"{BUNDLE_HELP}; measured in turns (default: the demo bundle)"
    )
    sub.add_argument(
        "--engine", choices=(*ENGINES, "all"), default="all", help="all skips a missing GPU (default %(default)s)"
    )
    sub.add_argument("--threads", type=int, nargs="+", metavar="N", help="CPU threads (default: one, and all cores)")
    sub.add_argument("--xnnpack", choices=_XNNPACK, default="both", help="CPU kernels (default %(default)s)")
    sub.add_argument("--warmup", type=int, default=WARMUP, help="uncounted inferences per round (default %(default)s)")
    sub.add_argument("--runs", type=int, default=RUNS, help="counted inferences per round (default %(default)s)")
    sub.add_argument("--rounds", type=int, default=ROUNDS, help="turns of every setting (default %(default)s)")
    sub.add_argument("--seconds", type=float, default=SECONDS, help="length of a turn, about (default %(default)g)")
    sub.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="of a turn, seconds (default %(default)g)")
    sub.add_argument("--records", type=Path, default=RECORDS, help="folder of device records (default %(default)s)")
    sub.add_argument("--device", metavar="NAME", help="name of this device (default: the name of its processor)")
    sub.add_argument("--report", action="store_true", help="measure nothing; join all records into one table")
    sub.add_argument(
        "--out", type=Path, metavar="MD", help=f"with --report: insert the table after <!-- {MARKER} --> of this file"
    )
    sub.add_argument("--plot", type=Path, metavar="FILE", help="with --report: .png or .svg of size, time, agreement")


def run_bench(args: argparse.Namespace) -> int:
    """Runs `bench`: measures bundles, or with --report joins the records."""
    if args.report:
        return _report(args)
    if args.out is not None or args.plot is not None:
        raise BenchError("--out or --plot without --report; expected --report")
    bundles = [named_bundle(args, name) for name in args.bundles]
    if not bundles:
        note(f"measuring the demo bundle (synthetic sounds, not PANNs); name models, such as {RECOMMENDED_MODEL}")
        bundles = [open_bundle()]
    device = this_device(args.device)
    with steps(args) as step:
        measured = bench(
            bundles,
            engines=ENGINES if args.engine == "all" else (args.engine,),
            threads=args.threads,
            xnnpack=_XNNPACK[args.xnnpack],
            warmup=args.warmup,
            runs=args.runs,
            rounds=args.rounds,
            seconds=args.seconds,
            timeout=args.timeout,
            report=step,
        )
    failures = [failure for failure in measured.failures if not (failure.no_driver and args.engine == "all")]
    for why in sorted({failure.why for failure in measured.failures if failure not in failures}):
        note(why)
    if not measured.runs and all(failure.no_driver for failure in failures):
        raise GpuDriverError(failures[0].why)
    path = add_runs(args.records, device, measured.runs) if measured.runs else None
    if args.json:
        print_json(_json(device, path, measured.runs, failures))
    else:
        _print(device, path, measured.runs, failures)
    if measured.interrupted:
        raise KeyboardInterrupt  # after the runs so far were stored
    return 1 if failures else 0


def _json(device: Device, path: Path | None, runs: tuple[Run, ...], failures: list[Failure]) -> dict[str, Any]:
    return {
        "record": None if path is None else str(path),
        "device": asdict(device),
        "runs": [asdict(run) for run in runs],
        "failures": [
            {"model": f.model, "precision": f.precision, "setting": str(f.setting), "why": f.why} for f in failures
        ],
    }


def _print(device: Device, path: Path | None, runs: tuple[Run, ...], failures: list[Failure]) -> None:
    print(f"{device.name}: {device.os}, {counted(device.cores, 'core')}, {device.memory_bytes / 1e9:.1f} GB")
    rows = [
        {
            "model": run.model,
            "precision": run.precision,
            "MB": f"{run.model_bytes / 1e6:.2f}",
            "engine": run.engine + (", software driver" if run.software else ""),
            "threads": "–" if run.threads is None else str(run.threads),
            "XNNPACK": {None: "–", True: "yes", False: "no"}[run.xnnpack],
            "median ms": f"{run.ms.median:.2f}",
            "p10 – p90": f"{run.ms.p10:.2f} – {run.ms.p90:.2f}",
            "first ms": f"{run.first_ms:.0f}",
            "peak MB": f"{run.peak_memory_bytes / 1e6:.0f}",
            "on the GPU": "–" if run.resident is None else f"{run.resident} of {run.operators}",
            "runs": str(run.runs),
        }
        for run in runs
    ]
    if rows:
        print_table(rows, optional=("runs", "on the GPU", "first ms"))
    for failure in failures:
        print(f"not measured: {failure.model} {failure.precision}, {failure.setting}: {failure.why}")
    if path is not None:
        print(path)


def _report(args: argparse.Namespace) -> int:
    if args.bundles:
        raise BenchError("bundles with --report, which measures nothing; expected one or the other")
    records = read_records(args.records)
    rungs = join(records)
    if args.plot is not None:
        plot_rungs(rungs, args.plot)
    if args.out is not None:
        insert(args.out, document(records, rungs), marker=MARKER)
    if args.json:
        pareto = [f"{r.file.model} {r.file.precision} on {r.device.name}" for r in rungs if r.pareto]
        return print_json({"devices": len(records), "pareto": pareto, "table": table(rungs)})
    if args.out is None:
        print(document(records, rungs), end="")
    for path in (args.out, args.plot):
        if path is not None:
            print(path)
    return 0


def document(records: list[DeviceRecord], rungs: list[Rung]) -> str:
    """Returns the table of all rungs and the table of all devices, as Markdown."""
    devices = [
        {
            "device": record.device.name,
            "processor": record.device.cpu,
            "cores": str(record.device.cores),
            "GB": f"{record.device.memory_bytes / 1e9:.1f}",
            "system": record.device.os,
            "GPU": next((run.adapter.split(", arch=")[0] for run in record.runs if run.adapter is not None), "–"),
            "measured": max((run.date for run in record.runs), default="–"),
        }
        for record in records
    ]
    return (markdown(table(rungs)) + "\n" if rungs else "") + markdown(devices)
