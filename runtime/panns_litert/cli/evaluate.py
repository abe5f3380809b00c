"""Command for labelled clips: evaluate."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from panns_litert.cli.extensions import converter
from panns_litert.cli.options import DEFAULT_ENGINE, add_bundle_options, bundle_for
from panns_litert.cli.output import AddCommand, print_figures, print_json, print_skipped, watching
from panns_litert.evaluate import Dataset, Figures, Skipped, evaluate, figures, plot_worst, read_dataset
from panns_litert.pictures import picture_format
from panns_litert.tagger import ENGINES, Tagger
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds evaluate."""
    sub = command("evaluate", run_evaluate)
    sub.add_argument("--data", type=Path, required=True, help="folder of class folders, or CSV: file, labels, fold")
    sub.add_argument("--fold", help="use only the clips of this fold of the CSV")
    add_bundle_options(sub)
    sub.add_argument(
        "--engine",
        nargs="+",
        choices=ENGINES,
        default=[DEFAULT_ENGINE],
        help=f"one or several (default {DEFAULT_ENGINE})",
    )
    sub.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    sub.add_argument("--checkpoint", type=Path, help="checkpoint of the bundle: also print PyTorch's figures")
    sub.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of the classes with the worst figures")


def run_evaluate(args: argparse.Namespace) -> int:
    """Runs `evaluate`: prints the figures of a bundle on every engine."""
    if args.plot is not None:
        picture_format(args.plot)  # before the clips, which may be many, are heard
    measured: dict[str, Figures] = {}
    dataset: Dataset | None = None
    chosen = bundle_for(args)
    with watching(args) as watch:
        for engine in dict.fromkeys(args.engine):
            with Tagger(chosen, engine=engine, threads=args.threads) as tagger:
                if dataset is None:
                    dataset = read_dataset(args.data, classes=tagger.labels)
                    dataset = dataset if args.fold is None else dataset.of_fold(args.fold)
                measured[f"tflite {tagger.engine}"], dataset = evaluate(tagger, dataset, watch=watch)
        assert dataset is not None  # argparse wants at least one engine
        if args.checkpoint is not None:
            manifest = tagger.bundle.manifest
            probs, dataset = converter("checkpoint_scores")(
                dataset, model=manifest.model, checkpoint=args.checkpoint, seconds=manifest.clip_seconds, watch=watch
            )
            measured = {"torch": figures(probs, dataset.truth(), dataset.classes)} | measured
    if args.plot is not None:
        plot_worst(next(reversed(measured.values())), args.plot)
    if args.json:
        rows = {name: found.to_dict() for name, found in measured.items()}
        skipped = _skipped_rows(dataset.skipped)
        return print_json({"bundle": str(tagger.bundle.path), "figures": rows, "skipped": skipped})
    print_figures(measured)
    print_skipped(dataset.skipped, repeated=dataset.repeated)
    print(f"{tagger.bundle.path}: {counted(len(dataset.clips), 'clip')}")
    return 0


def _skipped_rows(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    return [{"file": str(one.path), "reason": one.reason} for one in skipped]
