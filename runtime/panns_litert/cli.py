"""The command line: a thin skin over the public functions of this package and of panns_litert_convert.

Exit codes: 0 ok, 1 a check failed, 2 usage or bad input. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.bundle import GRAPHS, PRECISIONS, Bundle
from panns_litert.cache import bundle_dir
from panns_litert.errors import (
    AudioError,
    BundleError,
    GpuDriverError,
    GpuError,
    MissingDependencyError,
    PannsLitertError,
    ParityError,
)
from panns_litert.gpu import TIMEOUT_SECONDS, Clips, GpuReport, gpu_check, graph_input, record_gpu
from panns_litert.parity import Check
from panns_litert.tagger import ENGINES, Tagger, Tagging, TruncationWarning, demo_clips

DEFAULT_SECONDS = 10.0
DEFAULT_PRECISION = "fp16"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="panns-litert",
        description="Pretrained audio taggers as proven LiteRT bundles. Exit codes: 0 ok, 1 check failed, 2 bad input.",
    )
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print JSON, nothing else, on stdout")
        sub.set_defaults(run=run)
        return sub

    command("models", run_models, "List the models of the registry.")

    sub = command("fetch", run_fetch, "Download a model's checkpoint and check its hash.")
    sub.add_argument("model", help="name, as `models` lists it")

    sub = command("convert", run_convert, "Make a bundle from a checkpoint and prove every step.")
    sub.add_argument("model", help="name, as `models` lists it")
    sub.add_argument("--checkpoint", type=Path, help="use this file of weights, no download")
    sub.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="length of a clip, 1 … 60 (default 10)")
    sub.add_argument("--graph", choices=GRAPHS, help="what the graph takes (default: logmel where the network does)")
    sub.add_argument("--precision", choices=PRECISIONS, default=DEFAULT_PRECISION)
    sub.add_argument("--gpu", action="store_true", help="the GPU delegate must run it whole and right, too")
    sub.add_argument("--out", type=Path, help="folder of the bundle (default: the cache, where --model finds it)")

    sub = command("verify", run_verify, "Run every parity stage again for a bundle.")
    sub.add_argument("bundle", type=Path)
    sub.add_argument("--checkpoint", type=Path, help="the weights it was made from, if not the published ones")
    sub.add_argument("--gpu", action="store_true", help="run the GPU stage, too")

    sub = command("gpu-check", run_gpu_check, "Run a model on the GPU delegate, whole and in float16, and compare.")
    sub.add_argument("target", metavar="BUNDLE|FILE.tflite", type=Path)
    sub.add_argument("--audio", nargs="+", default=[], metavar="FILE", help="of a bundle: recordings to run")
    sub.add_argument("--inputs", nargs="+", default=[], type=Path, metavar="NPZ", help="arrays by input name, to run")
    sub.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds (default %(default)g)")
    sub.add_argument("--rows", type=int, default=10, help="of the float16 range table (default 10)")
    sub.add_argument("--no-record", action="store_true", help="leave the bundle's manifest as it is")

    sub = command("tag", run_tag, "Say what is heard in audio files.")
    sub.add_argument("audio", nargs="+", help="files that libsndfile reads (WAV, FLAC, OGG, MP3, …)")
    sub.add_argument("--bundle", type=Path, help="folder of a bundle")
    sub.add_argument("--model", help="use the cached bundle of this model; convert it first if need be")
    sub.add_argument("--top", type=int, default=5, help="how many tags (default 5)")
    sub.add_argument("--threshold", type=float, default=0.0, help="no tag below this probability (default 0)")
    sub.add_argument("--engine", choices=ENGINES, default="cpu", help="default cpu; auto checks the GPU first")
    sub.add_argument("--threads", type=int, help="default: all cores")
    sub.add_argument("--embedding", action="store_true", help="with --json: include the embedding")

    sub = command("demo", run_demo, "Convert the demo checkpoint, prove it, tag the demo clips.")
    sub.add_argument("--out", type=Path, help="folder of the bundle (default: the cache)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a name or a dash that the terminal cannot show is no crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed why
        return stop.code if isinstance(stop.code, int) else 2
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # so that what is half done is cleaned up
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except PannsLitertError as error:
        print(f"panns-litert: {_one_line(error)}", file=sys.stderr)
        failed = isinstance(error, (ParityError, GpuError)) and not isinstance(error, GpuDriverError)
        return 1 if failed else 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # disk full, no permission: the user's to mend
        print(f"panns-litert: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("panns-litert: interrupted", file=sys.stderr)
        return 130


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def run_models(args: argparse.Namespace) -> int:
    """`models`: the registry as a table."""
    with _convert_package():
        from panns_litert_convert.zoo import models_table
    rows = models_table()
    if args.json:
        return _print_json({"models": rows})
    columns = ["licence", "checkpoint", "graphs", "outputs", "refused"]
    _print_table([model_row(row) for row in rows], optional=columns)
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
        "graphs": ", ".join(row["graphs"]),
        "outputs": ", ".join(row["outputs"]),
        "refused": "; ".join(measured.get("refused") or ()) or "–",
    }


def run_fetch(args: argparse.Namespace) -> int:
    """`fetch`: one checkpoint into the cache."""
    with _convert_package():
        from panns_litert_convert.checkpoints import fetch
        from panns_litert_convert.zoo import find
    path = fetch(find(args.model), progress=_progress(args))
    if args.json:
        return _print_json({"path": str(path), "bytes": path.stat().st_size})
    print(path)
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """`convert`: checkpoint to bundle, with the table of every stage."""
    bundle = _convert(args, args.model, checkpoint=args.checkpoint, graph=args.graph, seconds=args.seconds,
                      precision=args.precision, gpu=args.gpu, out=args.out)  # fmt: skip
    checks = [*bundle.manifest.parity, *(bundle.manifest.gpu.checks if bundle.manifest.gpu else ())]
    if args.json:
        return _print_json({"bundle": str(bundle.path), "passed": True, "parity": [c.to_dict() for c in checks]})
    print_checks(checks)
    if gpu := bundle.manifest.gpu:
        print(f"GPU: all {gpu.operators} operators resident, {gpu.arithmetic}, on {gpu.adapter}; driver: {gpu.driver}")
    size = bundle.file("model").stat().st_size / 1e6
    print(f"{bundle.path}: {bundle.file('model').name}, {size:.1f} MB, every stage passed")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`verify`: every stage again for a bundle."""
    with _convert_package():
        from panns_litert_convert.convert import verify
    with _steps(args) as report:
        checks = verify(args.bundle, checkpoint=args.checkpoint, gpu=args.gpu, report=report, progress=_progress(args))
    passed = all(check.passed for check in checks)
    if args.json:
        _print_json({"bundle": str(args.bundle), "passed": passed, "parity": [c.to_dict() for c in checks]})
    else:
        print_checks(checks)
        print(f"{args.bundle}: {'every stage passed' if passed else 'FAILED'}")
    return 0 if passed else 1


def run_gpu_check(args: argparse.Namespace) -> int:
    """`gpu-check`: residency, float16 accuracy and range of a bundle or a .tflite."""
    bundle = Bundle(args.target) if args.target.is_dir() else None
    with _steps(args) as step:
        step("gpu-check")
        report = gpu_check(bundle or args.target, inputs=_gpu_inputs(args, bundle), timeout=args.timeout)
    data = report.to_dict() | {"bundle": str(bundle.path) if bundle else None, "recorded": False}
    if bundle is not None and not args.no_record:
        try:
            record_gpu(bundle, report)
            data["recorded"] = True
        except BundleError as error:  # a bundle that is not the user's to write is still worth checking
            _note(_one_line(error))
    if args.json:
        _print_json(data)
    else:
        print_gpu_report(report, rows=args.rows)
    return 0 if report.passed else 1


def _gpu_inputs(args: argparse.Namespace, bundle: Bundle | None) -> Clips | None:
    """What --audio and --inputs name; None for the demo recordings or generated numbers."""
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


def run_tag(args: argparse.Namespace) -> int:
    """`tag`: files to tags. A bad file is reported and does not stop the rest."""
    if args.bundle is not None and args.model is not None:
        raise BundleError("--bundle and --model together; expected one of them")
    tagger = Tagger(_bundle_for(args), engine=args.engine, threads=args.threads)
    if tagger.fallback:
        _note(f"on the CPU: {tagger.fallback}")
    if args.bundle is None and args.model is None:
        _note(f"using the demo bundle ({len(tagger.labels)} synthetic sounds, not PANNs); --model cnn14 for AudioSet")
    results: list[dict[str, Any]] = []
    failed = False
    for name in args.audio:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TruncationWarning)  # printed below, with the tags
                tagging = tagger.tag(name, top=args.top, threshold=args.threshold)
        except AudioError as error:
            failed = True
            print(f"panns-litert: {_one_line(error)}", file=sys.stderr)
            results.append({"source": name, "error": _one_line(error)})
            continue
        results.append(tagging.to_dict(embedding=args.embedding))
        if not args.json:
            _print_tagging(tagging)
    if args.json:
        _print_json({"results": results})
    return 2 if failed else 0


def run_demo(args: argparse.Namespace) -> int:
    """`demo`: the whole path on what the package ships with."""
    start = time.perf_counter()
    bundle = _convert(args, "demo", out=args.out)
    tagger = Tagger(bundle)
    results = [tagger.tag(clip, top=3) for clip in demo_clips()]
    gpu: GpuReport | None = None
    try:
        gpu = gpu_check(bundle, audit=False)
    except GpuDriverError as error:
        if not args.json:
            _note(f"GPU not checked: {_one_line(error)}")
    seconds = time.perf_counter() - start
    if args.json:
        checks = [check.to_dict() for check in bundle.manifest.parity]
        tagged = [result.to_dict() for result in results]
        data = {"bundle": str(bundle.path), "passed": True, "parity": checks, "results": tagged}
        return _print_json(data | {"gpu": gpu.to_dict() if gpu else None})
    print_checks([*bundle.manifest.parity, *(gpu.checks if gpu else ())])
    if gpu:
        print(_residency(gpu))
    print(f"{bundle.path}\nA demo network ({len(tagger.labels)} synthetic sounds, not PANNs) on the demo clips:\n")
    for tagging in results:
        _print_tagging(tagging)
    print(f"Converted, proven and tagged in {seconds:.0f} s. The same with Cnn14 (327 MB download):")
    print("    panns-litert convert cnn14 && panns-litert tag --model cnn14 recording.wav")
    return 0


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
    _print_table(rows, optional=("rmse", "PSNR dB", "top-5"))


def print_gpu_report(report: GpuReport, *, rows: int = 10) -> None:
    """A GPU check for people: the verdict, the comparison, and the worst of the float16 ranges."""
    print(_residency(report))
    for refused in report.refused:
        print(f"  refused {refused.op}: {refused.reason}")
    for error in report.errors:
        print(f"  {error}")
    if report.checks:
        print_checks(report.checks)
        runs = ", ".join(f"{seconds:.2f}" for seconds in report.run_seconds)
        print(f"compiled in {report.compile_seconds or 0.0:.2f} s; runs: {runs} s; compared with {report.reference}")
    if report.ranges and rows > 0:
        print(
            f"\nfloat16 range (largest 65504, smallest normal 6.1e-05), worst {rows} of {len(report.ranges)} tensors:"
        )
        _print_table(
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


def _residency(report: GpuReport) -> str:
    where = f"{report.adapter or 'no adapter'}; driver: {report.driver or 'unknown'}"
    if report.resident:
        return f"GPU: all {report.operators} operators resident, {report.arithmetic or 'nothing run'}, on {where}"
    return f"GPU: NOT resident, {report.operators} operators, on {where}"


def _convert(args: argparse.Namespace, name: str, **options: Any) -> Bundle:
    with _convert_package():
        from panns_litert_convert.convert import convert
    try:
        with _steps(args) as report:
            return convert(name, report=report, progress=_progress(args), **options)
    except ParityError as error:
        if isinstance(error.report, list):  # every figure first, then the verdict
            if args.json:
                _print_json({"passed": False, "parity": [check.to_dict() for check in error.report]})
            else:
                print_checks(error.report)
        raise


def _bundle_for(args: argparse.Namespace) -> Bundle | Path | None:
    if args.model is None:
        return args.bundle  # type: ignore[no-any-return]
    name = args.model.casefold()
    for graph in GRAPHS:  # a network has the one or the other unless it was converted to both
        path = bundle_dir(name, graph=graph, seconds=DEFAULT_SECONDS, precision=DEFAULT_PRECISION)
        if path.exists():
            return path
    return _convert(args, name)


@contextlib.contextmanager
def _convert_package() -> Iterator[None]:
    """Imports of panns_litert_convert; the runtime alone does without it."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs the converter ({error.name or error} is not installed); "
            "pip install 'panns-litert[convert]'"
        ) from error


@contextlib.contextmanager
def _steps(args: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """Shows the running step and its time on stderr, on a terminal as a spinner."""
    if args.json:
        yield lambda _: None
        return
    from rich.console import Console

    # The converter's own output is kept from stderr; the progress must still get there.
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as stream:
        console = Console(file=stream)
        start = time.perf_counter()
        if not console.is_terminal:
            yield lambda step: console.print(f"[{time.perf_counter() - start:5.1f} s] {step}", markup=False)
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console,
            redirect_stdout=False, redirect_stderr=False,
        ) as progress:  # fmt: skip
            running: list[Any] = []

            def report(step: str) -> None:
                if running:
                    progress.update(running[-1], total=1, completed=1)
                running.append(progress.add_task(step, total=None))

            yield report
            if running:
                progress.update(running[-1], total=1, completed=1)


def _progress(args: argparse.Namespace) -> bool:
    return not args.json and sys.stderr.isatty()


def _print_tagging(tagging: Tagging) -> None:
    times = f"front end {tagging.front_end_ms:.1f} ms, model {tagging.model_ms:.1f} ms, {tagging.engine}"
    print(f"{tagging.source}  ({tagging.seconds:.1f} s; {times})")
    if tagging.truncated:
        _note(f"{tagging.source}: only the first {tagging.used_seconds:g} s of {tagging.seconds:.1f} s were tagged")
    for tag in tagging.tags:
        print(f"  {tag.score:6.3f}  {tag.label}")
    print()


def _print_table(rows: Sequence[dict[str, str]], *, optional: Sequence[str]) -> None:
    """Prints rows as a table; on a narrow terminal without the optional columns, the last ones first."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # A pipe has no width; a table must not be cut there.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    columns = list(rows[0])
    width = {column: max(len(column), *(len(row[column]) for row in rows)) + 3 for column in columns}
    for column in reversed(optional):
        if sum(width[c] for c in columns if c != "gate") + 10 > console.width:
            columns.remove(column)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console.print(table)


def _print_json(data: dict[str, Any]) -> int:
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
    return 0


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
