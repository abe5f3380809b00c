"""The command demo: converts the shipped checkpoint and tags the shipped clips."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from panns_litert.bundle import RECOMMENDED_MODEL
from panns_litert.cli import AddCommand, note, one_line, print_checks, print_json, print_tagging, residency
from panns_litert.demo import demo_clips
from panns_litert.errors import GpuDriverError
from panns_litert.proof import GpuReport, gpu_check
from panns_litert.tagger import Tagger
from panns_litert.windows import tag_long
from panns_litert_convert.cli.convert import convert_bundle


def add_commands(command: AddCommand) -> None:
    """Adds demo."""
    sub = command("demo", run_demo)
    sub.add_argument("--out", type=Path, help="folder of the bundle (default: in the cache)")


def run_demo(args: argparse.Namespace) -> int:
    """`demo`: from checkpoint to tags, with the files that the package ships."""
    start = time.perf_counter()
    bundle = convert_bundle(args, "demo", out=args.out)
    tagger = Tagger(bundle)
    results = [tag_long(tagger, clip, top=3) for clip in demo_clips()]
    gpu: GpuReport | None = None
    try:
        gpu = gpu_check(bundle, audit=False)
    except GpuDriverError as error:
        if not args.json:
            note(f"GPU not checked: {one_line(error)}")
    seconds = time.perf_counter() - start
    if args.json:
        checks = [check.to_dict() for check in bundle.manifest.parity]
        tagged = [result.to_dict() for result in results]
        data = {"bundle": str(bundle.path), "passed": True, "parity": checks, "results": tagged}
        return print_json(data | {"gpu": gpu.to_dict() if gpu else None})
    print_checks([*bundle.manifest.parity, *(gpu.checks if gpu else ())])
    if gpu:
        print(residency(gpu))
    print(f"{bundle.path}\nA demo network ({len(tagger.labels)} synthetic sounds, not PANNs) on the demo clips:\n")
    for tagging in results:
        print_tagging(tagging)
    model = RECOMMENDED_MODEL
    print(f"Converted, proven and tagged in {seconds:.0f} s. The same with {model}, which knows AudioSet's classes:")
    print(f"    panns-litert convert {model} && panns-litert tag --model {model} recording.wav")
    return 0
