"""The commands that listen: tag, demo."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from panns_litert.cli.convert import bundle_for, convert_bundle, print_checks
from panns_litert.cli.gpu import residency
from panns_litert.cli.output import AddCommand, note, one_line, print_json
from panns_litert.errors import AudioError, BundleError, GpuDriverError
from panns_litert.gpu import GpuReport, gpu_check
from panns_litert.tagger import ENGINES, Tagger, Tagging, TruncationWarning, demo_clips


def add_commands(command: AddCommand) -> None:
    """Adds tag and demo."""
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


def run_tag(args: argparse.Namespace) -> int:
    """`tag`: files to tags. A bad file is reported and does not stop the rest."""
    if args.bundle is not None and args.model is not None:
        raise BundleError("--bundle and --model together; expected one of them")
    tagger = Tagger(bundle_for(args), engine=args.engine, threads=args.threads)
    if tagger.fallback:
        note(f"on the CPU: {tagger.fallback}")
    if args.bundle is None and args.model is None:
        note(f"using the demo bundle ({len(tagger.labels)} synthetic sounds, not PANNs); --model cnn14 for AudioSet")
    results: list[dict[str, Any]] = []
    failed = False
    for name in args.audio:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TruncationWarning)  # printed below, with the tags
                tagging = tagger.tag(name, top=args.top, threshold=args.threshold)
        except AudioError as error:
            failed = True
            print(f"panns-litert: {one_line(error)}", file=sys.stderr)
            results.append({"source": name, "error": one_line(error)})
            continue
        results.append(tagging.to_dict(embedding=args.embedding))
        if not args.json:
            print_tagging(tagging)
    if args.json:
        print_json({"results": results})
    return 2 if failed else 0


def run_demo(args: argparse.Namespace) -> int:
    """`demo`: the whole path on what the package ships with."""
    start = time.perf_counter()
    bundle = convert_bundle(args, "demo", out=args.out)
    tagger = Tagger(bundle)
    results = [tagger.tag(clip, top=3) for clip in demo_clips()]
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
    print(f"Converted, proven and tagged in {seconds:.0f} s. The same with Cnn14 (327 MB download):")
    print("    panns-litert convert cnn14 && panns-litert tag --model cnn14 recording.wav")
    return 0


def print_tagging(tagging: Tagging) -> None:
    """One recording's tags for people."""
    times = f"front end {tagging.front_end_ms:.1f} ms, model {tagging.model_ms:.1f} ms, {tagging.engine}"
    print(f"{tagging.source}  ({tagging.seconds:.1f} s; {times})")
    if tagging.truncated:
        note(f"{tagging.source}: only the first {tagging.used_seconds:g} s of {tagging.seconds:.1f} s were tagged")
    for tag in tagging.tags:
        print(f"  {tag.score:6.3f}  {tag.label}")
    print()
