"""The commands fetch, convert, adopt and verify."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.bundle import DEFAULT_PRECISION, DEFAULT_SECONDS, GRAPHS, PRECISIONS, Bundle, NpuRecord
from panns_litert.cli import (
    BUNDLE_HELP,
    AddCommand,
    named_bundle,
    note,
    print_checks,
    print_json,
    progress_wanted,
    steps,
)
from panns_litert.errors import ModelError, ParityError, importing
from panns_litert.frontend import FRONT_ENDS, front_end_of
from panns_litert.proof import HELD_OUT_OUTPUTS, adopt
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds fetch, convert, adopt and verify."""
    sub = command("fetch", run_fetch)
    sub.add_argument("model", help="name, as `models` lists it")

    sub = command("convert", run_convert)
    sub.add_argument("model", nargs="?", help="name, as `models` lists it (default: what --checkpoint was tuned from)")
    sub.add_argument("--checkpoint", type=Path, help="weights, instead of a download: a file or a model hub's folder")
    sub.add_argument("--classes", type=Path, metavar="FILE", help="with --checkpoint: its class names, one a line")
    sub.add_argument(
        "--seconds",
        type=float,
        help=f"length of a clip, 1 … 60 (default {DEFAULT_SECONDS:g}, or as --checkpoint was fine-tuned)",
    )
    sub.add_argument(
        "--graph",
        choices=GRAPHS,
        help="the graph's input (default: logmel, if it has one, or as --checkpoint was tuned)",
    )
    sub.add_argument(
        "--precision", choices=PRECISIONS, default=DEFAULT_PRECISION, help="of the weights (default %(default)s)"
    )
    sub.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        default=(),
        metavar="AUDIO",
        help="recordings, or folders of them, from which int8-full takes its ranges",
    )
    sub.add_argument("--gpu", action="store_true", help="also require parity and full residency on the GPU delegate")
    sub.add_argument(
        "--npu", metavar="SOC[,SOC]", help="also write a file compiled for each SoC's NPU, and run it on its emulator"
    )
    sub.add_argument("--npu-parts", action="store_true", help="also write it if the NPU takes only a part of the model")
    sub.add_argument("--out", type=Path, help="folder of the bundle (default: in the cache, where --model finds it)")

    sub = command("adopt", run_adopt)
    sub.add_argument("file", metavar="FILE", help="a .tflite, a folder with one, or hf:ORG/NAME[@REVISION]")
    sub.add_argument("--labels", type=Path, metavar="FILE", help="class names, one a line (default: its own)")
    sub.add_argument("--front-end", metavar="NAME", help=f"of a log-mel input: {', '.join(FRONT_ENDS)}, or a JSON file")
    sub.add_argument("--sample-rate", type=int, metavar="HZ", help="of an input of samples (default: of its metadata)")
    sub.add_argument("--seconds", type=float, help="length of a clip (default: as the input's shape says)")
    sub.add_argument("--model", help="the model that it is, as `models` lists it: proves it with its checkpoint")
    sub.add_argument("--checkpoint", type=Path, help="with --model: its weights, instead of a download")
    sub.add_argument("--out", type=Path, help="folder of the bundle (default: one here, named as FILE)")

    sub = command("verify", run_verify)
    sub.add_argument("bundle", metavar="MODEL", help=BUNDLE_HELP)
    sub.add_argument("--checkpoint", type=Path, help="the weights that it was made from, if not the published ones")
    sub.add_argument("--gpu", action="store_true", help="also run the GPU stage")


def run_fetch(args: argparse.Namespace) -> int:
    """`fetch`: downloads a checkpoint into the cache."""
    with importing("the converter", extra="convert", purpose="this needs"):
        from panns_litert_convert.checkpoints import fetch
        from panns_litert_convert.zoo import find
    path = fetch(find(args.model), progress=progress_wanted(args))
    if args.json:
        return print_json({"path": str(path), "bytes": path.stat().st_size})
    print(path)
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """`convert`: makes a bundle from a checkpoint and prints the table of the stages."""
    bundle = convert_bundle(args, args.model, checkpoint=args.checkpoint, classes=args.classes, graph=args.graph,
                      seconds=args.seconds, precision=args.precision, calibration=args.calibration, gpu=args.gpu,
                      npu=args.npu, npu_parts=args.npu_parts, out=args.out)  # fmt: skip
    checks = [*bundle.manifest.parity, *(bundle.manifest.gpu.checks if bundle.manifest.gpu else ())]
    if args.json:
        npu = [asdict(record) for record in bundle.manifest.npu]
        parity = [check.to_dict() for check in checks]
        return print_json({"bundle": str(bundle.path), "passed": True, "parity": parity, "npu": npu})
    print_checks(checks)
    if gpu := bundle.manifest.gpu:
        operators = counted(gpu.operators, "operator")
        print(f"GPU: all {operators} resident, {gpu.arithmetic}, on {gpu.adapter}; driver: {gpu.driver}")
    for record in bundle.manifest.npu:
        print(_npu(record, bundle.manifest.npu_file(record.soc)))
    size = bundle.file("model").stat().st_size / 1e6
    print(f"{bundle.path}: {bundle.file('model').name}, {size:.1f} MB, every stage passed")
    return 0


def _npu(record: NpuRecord, file: str | None) -> str:
    """Returns a line about a file for an NPU: what the NPU takes, and the error of the self-test on the emulator."""
    taken = f"{record.taken} of {counted(record.operators, 'operator')} in {counted(record.partitions, 'part')}"
    errors = [check.max_abs for check in record.checks if check.output == "probs" and check.max_abs is not None]
    ran = f"probs within {max(errors):.1e} of the CPU's" if errors else "NOT RUN: only a part is compiled"
    return f"NPU {record.soc}: {taken}; {ran}; {file}"


def run_adopt(args: argparse.Namespace) -> int:
    """`adopt`: makes a bundle of a .tflite that was made elsewhere, proven only with a model's checkpoint."""
    options = {
        "labels": args.labels,
        "front_end": front_end_of(args.front_end) if args.front_end is not None else None,
        "sample_rate": args.sample_rate,
        "seconds": args.seconds,
        "out": args.out,
        "progress": progress_wanted(args),
    }
    if args.model is None and args.checkpoint is not None:
        raise ModelError("--checkpoint without --model; expected the model that it belongs to, such as --model cnn14")
    if args.model is None:
        with steps(args) as report:
            adopted = adopt(args.file, report=report, **options)
    else:
        with importing("the converter", extra="convert", purpose="a proof needs"):
            from panns_litert_convert.convert import adopt_proven
        with _figures(args), steps(args) as report:
            adopted = adopt_proven(args.file, args.model, checkpoint=args.checkpoint, report=report, **options)
    bundle, manifest = adopted.bundle, adopted.bundle.manifest
    if args.json:
        checks = [check.to_dict() for check in manifest.parity]
        return print_json(
            {"bundle": str(bundle.path), "proven": manifest.proven, "notes": list(adopted.notes), "parity": checks}
        )
    for text in adopted.notes:
        note(text)
    print_checks(manifest.parity)
    verdict = "every stage passed" if manifest.proven else "NOT PROVEN: nothing compared it with its original"
    print(f"{bundle.path}: {bundle.describe()}; {verdict}")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`verify`: runs every stage again for a bundle, and its self-test."""
    with importing("the converter", extra="convert", purpose="this needs"):
        from panns_litert_convert.convert import verify
    bundle = named_bundle(args, args.bundle)
    with steps(args) as report:
        checks = verify(bundle, checkpoint=args.checkpoint, gpu=args.gpu, report=report, progress=progress_wanted(args))
    if not any(check.stage == "self_test" for check in checks):
        note(f"{args.bundle} has no self-test, and the Android app needs one; convert it again")
    if any(check.output in HELD_OUT_OUTPUTS for check in bundle.manifest.parity):
        note("its accuracy on the clips that were held out is not measured again; `evaluate` does it")
    passed = all(check.passed for check in checks)
    if args.json:
        print_json({"bundle": str(args.bundle), "passed": passed, "parity": [c.to_dict() for c in checks]})
    else:
        print_checks(checks)
        print(f"{args.bundle}: {'every stage passed' if passed else 'FAILED'}")
    return 0 if passed else 1


def convert_bundle(args: argparse.Namespace, name: str | None, **options: Any) -> Bundle:
    """Converts a model and shows the progress on stderr. If a stage fails, its figures are printed before the error."""
    with importing("the converter", extra="convert", purpose="this needs"):
        from panns_litert_convert.convert import convert
    with _figures(args), steps(args) as report:
        return convert(name, report=report, progress=progress_wanted(args), **options)


@contextlib.contextmanager
def _figures(args: argparse.Namespace) -> Iterator[None]:
    """Prints the figures of a failed stage before its error."""
    try:
        yield
    except ParityError as error:
        if isinstance(error.report, list):
            if args.json:
                print_json({"passed": False, "parity": [check.to_dict() for check in error.report]})
            else:
                print_checks(error.report)
        raise
