"""The commands of the converter: models, fetch, convert, verify."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from panns_litert.bundle import GRAPHS, PRECISIONS, Bundle, Check, bundle_dir
from panns_litert.cli.output import AddCommand, print_json, print_table, progress_wanted, steps
from panns_litert.errors import MissingDependencyError, ParityError

DEFAULT_SECONDS = 10.0
DEFAULT_PRECISION = "fp16"


def add_commands(command: AddCommand) -> None:
    """Adds models, fetch, convert and verify."""
    command("models", run_models, "List the models of the registry.")

    sub = command("fetch", run_fetch, "Download a model's checkpoint and check its hash.")
    sub.add_argument("model", help="name, as `models` lists it")

    sub = command("convert", run_convert, "Make a bundle from a checkpoint and prove every step.")
    sub.add_argument("model", help="name, as `models` lists it")
    sub.add_argument("--checkpoint", type=Path, help="use these weights, no download: a file, or a model hub's folder")
    sub.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="length of a clip, 1 … 60 (default 10)")
    sub.add_argument("--graph", choices=GRAPHS, help="what the graph takes (default: logmel where the network does)")
    sub.add_argument("--precision", choices=PRECISIONS, default=DEFAULT_PRECISION, help="of weights (default fp16)")
    sub.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        default=(),
        metavar="AUDIO",
        help="recordings or folders of them that int8-full takes its ranges from",
    )
    sub.add_argument("--gpu", action="store_true", help="the GPU delegate must run it whole and right, too")
    sub.add_argument("--out", type=Path, help="folder of the bundle (default: the cache, where --model finds it)")

    sub = command("verify", run_verify, "Run every parity stage again for a bundle.")
    sub.add_argument("bundle", type=Path)
    sub.add_argument("--checkpoint", type=Path, help="the weights it was made from, if not the published ones")
    sub.add_argument("--gpu", action="store_true", help="run the GPU stage, too")


def run_models(args: argparse.Namespace) -> int:
    """`models`: the registry as a table."""
    with convert_package():
        from panns_litert_convert.zoo import models_table
    rows = models_table()
    if args.json:
        return print_json({"models": rows})
    columns = ["network", "licence", "checkpoint", "its MB", "graphs", "outputs", "refused"]
    print_table([model_row(row) for row in rows], optional=columns)
    return 0


def model_row(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of `zoo.models_table` for people."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    measured = row["measured"] or {}
    checks = measured.get("checks") or {}
    resident = {True: "all", False: "NO", None: "–"}[measured.get("resident")]
    error = measured.get("error")
    return {
        "name": row["name"],
        "network": row["network"],
        "Hz": str(row["sample_rate"]),
        "M params": f"{row['parameters'] / 1e6:.2f}",
        "GMAC": f"{row['gmac_per_10_s']:.2f}",
        "mAP": number(row["published_map"], ".3f"),
        "fp16 MB": number(measured["fp16_bytes"] / 1e6 if "fp16_bytes" in measured else None, ".1f"),
        "fp32 error": number(checks.get("fp32/probs"), ".0e"),
        "fp16 error": number(checks.get("fp16/probs"), ".0e"),
        "GPU error": number((measured.get("gpu") or {}).get("gpu_fp16/probs"), ".0e"),
        "operators": str(measured.get("operators", "–")),
        "on the GPU": f"failed: {error[:60]}" if error else resident,
        "CPU ms": number(measured.get("cpu_ms"), ".1f"),
        "licence": row["licence"],
        "checkpoint": row["checkpoint"] or "none published",
        "its MB": number(row["checkpoint_bytes"] and row["checkpoint_bytes"] / 1e6, ".1f"),
        "graphs": ", ".join(row["graphs"]),
        "outputs": ", ".join(row["outputs"]),
        "refused": "; ".join(measured.get("refused") or ()) or "–",
    }


def run_fetch(args: argparse.Namespace) -> int:
    """`fetch`: one checkpoint into the cache."""
    with convert_package():
        from panns_litert_convert.checkpoints import fetch
        from panns_litert_convert.zoo import find
    path = fetch(find(args.model), progress=progress_wanted(args))
    if args.json:
        return print_json({"path": str(path), "bytes": path.stat().st_size})
    print(path)
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """`convert`: checkpoint to bundle, with the table of every stage."""
    bundle = convert_bundle(args, args.model, checkpoint=args.checkpoint, graph=args.graph, seconds=args.seconds,
                      precision=args.precision, calibration=args.calibration, gpu=args.gpu, out=args.out)  # fmt: skip
    checks = [*bundle.manifest.parity, *(bundle.manifest.gpu.checks if bundle.manifest.gpu else ())]
    if args.json:
        return print_json({"bundle": str(bundle.path), "passed": True, "parity": [c.to_dict() for c in checks]})
    print_checks(checks)
    if gpu := bundle.manifest.gpu:
        print(f"GPU: all {gpu.operators} operators resident, {gpu.arithmetic}, on {gpu.adapter}; driver: {gpu.driver}")
    size = bundle.file("model").stat().st_size / 1e6
    print(f"{bundle.path}: {bundle.file('model').name}, {size:.1f} MB, every stage passed")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`verify`: every stage again for a bundle."""
    with convert_package():
        from panns_litert_convert.convert import verify
    with steps(args) as report:
        checks = verify(
            args.bundle, checkpoint=args.checkpoint, gpu=args.gpu, report=report, progress=progress_wanted(args)
        )
    passed = all(check.passed for check in checks)
    if args.json:
        print_json({"bundle": str(args.bundle), "passed": passed, "parity": [c.to_dict() for c in checks]})
    else:
        print_checks(checks)
        print(f"{args.bundle}: {'every stage passed' if passed else 'FAILED'}")
    return 0 if passed else 1


def print_checks(checks: Sequence[Check]) -> None:
    """The parity table for people."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    rows = [
        {
            "stage": check.stage,
            "output": check.output,
            "max abs": number(check.max_abs, ".1e"),
            "bound": f"{check.threshold['max_abs']:.1e}",
            "rmse": number(check.rmse, ".1e"),
            "corr": number(check.corr, ".7f"),
            "PSNR dB": number(check.psnr_db, ".1f"),
            "top-5": number(check.top5_agree, ".2f"),
            "gate": "passed" if check.passed else f"FAILED: {check.why}",
        }
        for check in checks
    ]
    print_table(rows, optional=("rmse", "PSNR dB", "top-5"))


def convert_bundle(args: argparse.Namespace, name: str, **options: Any) -> Bundle:
    """Converts a model with its progress on stderr; a failed gate prints its figures first."""
    with convert_package():
        from panns_litert_convert.convert import convert
    try:
        with steps(args) as report:
            return convert(name, report=report, progress=progress_wanted(args), **options)
    except ParityError as error:
        if isinstance(error.report, list):  # every figure first, then the verdict
            if args.json:
                print_json({"passed": False, "parity": [check.to_dict() for check in error.report]})
            else:
                print_checks(error.report)
        raise


def bundle_for(args: argparse.Namespace) -> Bundle | Path | None:
    """The bundle that --bundle or --model names, converted first if need be; None for the demo bundle."""
    if args.model is None:
        return args.bundle  # type: ignore[no-any-return]
    name = args.model.casefold()
    for graph in GRAPHS:  # a network has the one or the other unless it was converted to both
        path = bundle_dir(name, graph=graph, seconds=DEFAULT_SECONDS, precision=DEFAULT_PRECISION)
        if path.exists():
            return path
    return convert_bundle(args, name)


@contextlib.contextmanager
def convert_package(extras: str = "convert") -> Iterator[None]:
    """Imports of panns_litert_convert; the runtime alone does without it, and without what those extras install."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs the converter ({error.name or error} is not installed); "
            f"pip install 'panns-litert[{extras}]'"
        ) from error
