"""Command gpu-check."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.bundle import Bundle
from panns_litert.cli.options import BUNDLE_HELP, named_bundle
from panns_litert.cli.output import AddCommand, note, one_line, print_checks, print_json, print_table, residency, steps
from panns_litert.errors import BundleError
from panns_litert.hub import PREFIX
from panns_litert.proof import (
    FP16_MAX,
    FP16_SMALLEST_NORMAL,
    TIMEOUT_SECONDS,
    Clips,
    GpuReport,
    gpu_check,
    graph_input,
    record_gpu,
)


def add_commands(command: AddCommand) -> None:
    """Adds gpu-check."""
    sub = command("gpu-check", run_gpu_check)
    add_check_options(sub)
    sub.add_argument("--rows", type=int, default=10, help="rows of the float16 range table (default %(default)s)")


def add_check_options(sub: argparse.ArgumentParser) -> None:
    """Adds the target and the options of a check that runs it: what it runs on, for how long, where it is recorded."""
    sub.add_argument("target", metavar="MODEL|FILE.tflite", help=f"{BUNDLE_HELP}; or any .tflite file")
    sub.add_argument("--audio", nargs="+", default=[], metavar="FILE", help="recordings to run a bundle on")
    sub.add_argument(
        "--inputs", nargs="+", default=[], type=Path, metavar="NPZ", help="arrays by input name, to run on"
    )
    sub.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds (default %(default)g)")
    sub.add_argument("--no-record", action="store_true", help="do not write the result into the bundle's manifest")


def run_gpu_check(args: argparse.Namespace) -> int:
    """Runs `gpu-check`: checks residency, float16 accuracy and float16 range of a bundle or a .tflite."""
    file, bundle = check_target(args)
    with steps(args) as step:
        step("gpu-check")
        report = gpu_check(bundle or file, inputs=check_inputs(args, bundle), timeout=args.timeout)
    data = report.to_dict() | {"bundle": str(bundle.path) if bundle else None, "recorded": False}
    if bundle is not None and not args.no_record:
        try:
            record_gpu(bundle, report)
            data["recorded"] = True
        except BundleError as error:  # the check is still useful if the bundle cannot be written
            note(one_line(error))
    if args.json:
        print_json(data)
    else:
        print_gpu_report(report, rows=args.rows)
    return 0 if report.passed else 1


def check_target(args: argparse.Namespace) -> tuple[Path, Bundle | None]:
    """Returns the target as a path, and the bundle that it means; None for a bare .tflite."""
    file = Path(args.target)
    is_file = not args.target.startswith(PREFIX) and (file.suffix == ".tflite" or file.is_file())
    return file, None if is_file else named_bundle(args, args.target)


def check_inputs(args: argparse.Namespace, bundle: Bundle | None) -> Clips | None:
    """Returns the inputs that --audio and --inputs name, or None for the demo recordings or generated numbers."""
    if args.audio and bundle is None:
        raise BundleError("--audio with a bare file; expected a bundle, whose manifest has the front end; use --inputs")
    runs: list[dict[str, NDArray[np.float32]]] = []
    for name in args.audio:
        assert bundle is not None
        manifest = bundle.manifest
        clip = np.zeros(manifest.clip_samples, np.float32)
        samples = load_audio(name, sample_rate=manifest.front_end.sample_rate, max_seconds=manifest.clip_seconds)
        used = samples.waveform[: len(clip)]
        clip[: len(used)] = used
        runs.append(graph_input(bundle, clip))
    for path in args.inputs:
        try:
            with np.load(path) as file:
                runs.append({name: file[name] for name in file.files})
        except (OSError, ValueError, AttributeError) as error:
            raise BundleError(f"{path}: {error}; expected an .npz file of arrays by input name") from error
    return runs or None


def print_gpu_report(report: GpuReport, *, rows: int) -> None:
    """Prints a GPU check: the verdict, the comparison, and the `rows` worst float16 ranges."""
    print(residency(report))
    for refused in report.refused:
        print(f"  refused {refused.op}: {refused.reason}")
    for error in report.errors:
        print(f"  {error}")
    if report.checks:
        print_checks(report.checks)
        runs = ", ".join(f"{seconds:.2f}" for seconds in report.run_seconds)
        print(f"compiled in {report.compile_seconds or 0.0:.2f} s; runs: {runs} s; compared with {report.reference}")
    if report.ranges and rows > 0:
        limits = f"largest {FP16_MAX:g}, smallest normal {FP16_SMALLEST_NORMAL:.1e}"
        print(f"\nfloat16 range ({limits}), worst {rows} of {len(report.ranges)} tensors:")
        print_table(
            [
                {
                    "verdict": entry.verdict,
                    "op": entry.op,
                    "max abs": f"{entry.max_abs:.3g}",
                    "running total": "–" if entry.running_total is None else f"{entry.running_total:.3g}",
                    "headroom": f"{entry.headroom:.3g} ×",
                    "below normal": f"{100 * entry.tiny_share:.1f} %",
                    "shape": "×".join(map(str, entry.shape)),
                    "tensor": entry.tensor if len(entry.tensor) <= 60 else f"…{entry.tensor[-59:]}",
                }
                for entry in report.ranges[:rows]
            ],
            optional=("tensor", "shape"),
        )
    print(f"{report.file}: {'passed' if report.passed else f'FAILED: {report.why}'}")
