"""The commands for data in AudioSet's form: pack, train."""

from __future__ import annotations

import argparse
from pathlib import Path

from panns_litert.cli import AddCommand, note, print_json, print_skipped, watching
from panns_litert.errors import importing
from panns_litert_convert.cli.finetune import resumable


def add_commands(command: AddCommand) -> None:
    """Adds pack and train."""
    sub = command("pack", run_pack, "Pack AudioSet's clips into an HDF5 file in PANNs' layout, for `train`.")
    sub.add_argument("--metadata", type=Path, required=True, help="AudioSet's segments: YTID, start, end, mids")
    sub.add_argument("--clips", type=Path, required=True, help="folder of clips, Y<YTID>.wav or <YTID>.flac and so on")
    sub.add_argument("--out", type=Path, required=True, help="the HDF5 file")
    sub.add_argument("--classes", type=Path, help="CSV: index, mid, display_name (default: AudioSet's 527)")
    sub.add_argument("--sample-rate", type=int, default=32000, help="Hz (default 32000)")
    sub.add_argument("--seconds", type=float, default=10.0, help="of every clip (default 10)")

    sub = command("train", run_train, "Train a model from scratch on packed clips, as PANNs were.")
    sub.add_argument(
        "--data", type=Path, nargs="+", required=True, help="packed clips to learn from: .h5, `pack`'s or PANNs'"
    )
    sub.add_argument("--evaluate", type=Path, nargs="+", default=[], help="packed clips to take figures on")
    sub.add_argument("--model", required=True, help="the network, as `models` lists it")
    sub.add_argument("--checkpoint", type=Path, help="weights to begin with (default: random ones)")
    sub.add_argument("--out", type=Path, required=True, help="folder for everything; run again, it goes on there")
    sub.add_argument(
        "--classes", type=Path, help="CSV: index, mid, display_name, of files that do not name their classes"
    )
    group = sub.add_argument_group("training; the defaults are PANNs'")
    group.add_argument("--steps", type=int, help="default 600000")
    group.add_argument("--batch-size", type=int, dest="batch", help="clips per step, of all processes (default 32)")
    group.add_argument("--accumulate", type=int, help="micro-batches per process and step (default 1)")
    group.add_argument("--learning-rate", type=float, help="default 1e-3")
    group.add_argument("--schedule", help="constant (default), or one-cycle")
    group.add_argument("--weight-decay", type=float, help="default 0")
    group.add_argument("--sampler", help="balanced (default), alternate or plain")
    group.add_argument("--mixup", type=float, metavar="ALPHA", help="default 1; 0 for none")
    boolean = argparse.BooleanOptionalAction
    group.add_argument("--spec-augment", action=boolean, default=None, help="default yes")
    group.add_argument("--dropout", action=boolean, default=None, help="default yes")
    group.add_argument("--sync-batch-norm", action="store_true", default=None, help="over all processes; GPUs only")
    group.add_argument("--settle", type=int, help="steps at the end for batch norm's averages (default 0)")
    group.add_argument("--every", type=int, help="steps between evaluations (default 2000)")
    group.add_argument("--workers", type=int, help="processes that load clips (default 0: it does so itself)")
    group.add_argument("--seed", type=int, help="the same seed gives the same weights (default 0)")


def run_pack(args: argparse.Namespace) -> int:
    """`pack`: metadata and clips to one file."""
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
        f"{packed.path}: {packed.clips} clips, {packed.classes} classes; {packed.missing} missing, {unusable} unusable"
    )
    return 0


def run_train(args: argparse.Namespace) -> int:
    """`train`: packed clips to a checkpoint."""
    with importing("the converter", extra="convert,train", purpose="this needs"):
        from panns_litert_convert.training.pack import read_classes
        from panns_litert_convert.training.scratch import METRICS, STATE, Recipe, describe, train
    names = ["steps", "batch", "accumulate", "learning_rate", "schedule", "weight_decay", "sampler", "mixup"]
    names += ["spec_augment", "dropout", "sync_batch_norm", "settle", "every", "workers", "seed"]
    given = {name: getattr(args, name) for name in names}
    recipe = Recipe(**{name: value for name, value in given.items() if value is not None})
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
        note(f"{result.absent} rows of the files hold no clip")
    print(f"{result.clips} clips, {result.steps} steps, processes: {result.processes}")
    print(describe(result.history[-1]))
    print(f"{result.checkpoint}: for `convert {args.model} --checkpoint`; {args.out / METRICS}")
    return 0
