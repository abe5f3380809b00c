"""The commands for data in AudioSet's format: pack and train."""

from __future__ import annotations

import argparse
from pathlib import Path

from panns_litert.cli import AddCommand, note, print_json, print_skipped, watching
from panns_litert.errors import importing
from panns_litert.words import counted
from panns_litert_convert.cli.finetune import given, resumable


def add_commands(command: AddCommand) -> None:
    """Adds pack and train."""
    sub = command("pack", run_pack)
    sub.add_argument("--metadata", type=Path, required=True, help="AudioSet's segments, a CSV: YTID, start, end, mids")
    sub.add_argument("--clips", type=Path, required=True, help="folder of clips: Y<YTID>.wav, <YTID>.flac and so on")
    sub.add_argument("--out", type=Path, required=True, help="the HDF5 file to write")
    sub.add_argument("--classes", type=Path, help="CSV: index, mid, display_name (default: AudioSet's 527 classes)")
    sub.add_argument("--sample-rate", type=int, default=32000, help="Hz (default %(default)s)")
    sub.add_argument("--seconds", type=float, default=10.0, help="length of a clip (default %(default)g)")

    sub = command("train", run_train)
    sub.add_argument("--data", type=Path, nargs="+", required=True, help="packed clips to train on, of `pack` or PANNs")
    sub.add_argument("--evaluate", type=Path, nargs="+", default=[], help="packed clips to evaluate on")
    sub.add_argument("--model", required=True, help="the network: a name that `models` lists")
    sub.add_argument("--checkpoint", type=Path, help="initial weights (default: random)")
    sub.add_argument("--out", type=Path, required=True, help="folder for all results; a second run resumes there")
    sub.add_argument("--classes", type=Path, help="CSV: index, mid, display_name; for files that store no class names")
    group = sub.add_argument_group("training; the defaults are PANNs'")
    group.add_argument("--steps", type=int, help="updates of the weights (default 600000)")
    group.add_argument("--batch-size", type=int, dest="batch", help="clips per step, over all processes (default 32)")
    group.add_argument("--accumulate", type=int, help="micro-batches per process and step (default 1)")
    group.add_argument("--learning-rate", type=float, help="of Adam (default 1e-3)")
    group.add_argument("--schedule", help="of the learning rate: constant or one-cycle (default constant)")
    group.add_argument("--weight-decay", type=float, help="decoupled (default 0)")
    group.add_argument("--sampler", help="balanced, alternate or plain (default balanced)")
    group.add_argument("--mixup", type=float, metavar="ALPHA", help="0 for no mixup (default 1)")
    boolean = argparse.BooleanOptionalAction
    group.add_argument("--spec-augment", action=boolean, default=None, help="hide stripes of the log-mel (default yes)")
    group.add_argument("--dropout", action=boolean, default=None, help="use the network's dropout (default yes)")
    group.add_argument("--sync-batch-norm", action="store_true", default=None, help="over all processes; only on GPUs")
    group.add_argument("--settle", type=int, help="further steps, only for batch norm's averages (default 0)")
    group.add_argument("--every", type=int, help="steps between evaluations (default 2000)")
    group.add_argument("--workers", type=int, help="loading processes; 0: the training process loads (default 0)")
    group.add_argument("--seed", type=int, help="the same seed gives the same weights (default 0)")


def run_pack(args: argparse.Namespace) -> int:
    """`pack`: writes metadata and clips to one file."""
    with importing("the converter", extra="convert,train", purpose="this needs"):
        from panns_litert_convert.training.pack import pack
    with watching(args) as watch:
        packed = pack(
            args.metadata,
            args.clips,
            out=args.out,
            classes=args.classes,
            sample_rate=args.sample_rate,
            seconds=args.seconds,
            watch=watch,
        )
    unusable = len(packed.skipped) - packed.missing
    if args.json:
        skipped = [{"file": str(one.path), "reason": one.reason} for one in packed.skipped]
        counts = {"clips": packed.clips, "classes": packed.classes, "missing": packed.missing, "unusable": unusable}
        return print_json({"file": str(packed.path)} | counts | {"skipped": skipped})
    print_skipped(packed.skipped)
    print(
        f"{packed.path}: {counted(packed.clips, 'clip')}, {counted(packed.classes, 'class', 'classes')}; "
        f"{packed.missing} missing, {unusable} unusable"
    )
    return 0


def run_train(args: argparse.Namespace) -> int:
    """`train`: trains on packed clips and writes a checkpoint."""
    with importing("the converter", extra="convert,train", purpose="this needs"):
        from panns_litert_convert.training.pack import read_classes
        from panns_litert_convert.training.scratch import METRICS, STATE, Recipe, describe, train
    recipe = Recipe(**given(args, Recipe))
    labels = None if args.classes is None else list(read_classes(args.classes).values())
    with resumable(args.out / STATE), watching(args) as watch:
        result = train(
            args.data,
            model=args.model,
            out=args.out,
            evaluate=args.evaluate,
            checkpoint=args.checkpoint,
            labels=labels,
            recipe=recipe,
            watch=watch,
        )
    if not result.first:
        return 0
    if args.json:
        return print_json(result.to_dict())
    if result.absent:
        note(f"{counted(result.absent, 'row')} without a clip in the files")
    print(f"{counted(result.clips, 'clip')}, {counted(result.steps, 'step')}, processes: {result.processes}")
    print(describe(result.history[-1]))
    print(f"{result.checkpoint}: for `convert {args.model} --checkpoint`; {args.out / METRICS}")
    return 0
