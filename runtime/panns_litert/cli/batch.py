"""Command for many recordings: batch."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from panns_litert.bundle import open_bundle
from panns_litert.cli.events import add_event_options
from panns_litert.cli.options import (
    add_channel_options,
    add_model_options,
    add_prototype_options,
    add_sense_options,
    bundle_for,
    prototypes_for,
    sense_arguments,
    settings_of,
    threshold_of,
)
from panns_litert.cli.output import AddCommand, counting, note, print_json
from panns_litert.sense import Sense
from panns_litert.windows import AGGREGATES
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds batch."""
    sub = command("batch", run_batch)
    sub.add_argument("manifest", type=Path, help=".csv or .parquet with a column path, relative to the manifest")
    sub.add_argument("--out", type=Path, required=True, help="folder of shards; an interrupted run continues there")
    add_model_options(sub, threads=1, threads_help="CPU threads of each worker (default %(default)s)")
    add_prototype_options(sub)
    sub.add_argument("--workers", type=int, help="number of processes (default: so that all cores are used)")
    sub.add_argument("--ray", metavar="ADDRESS", help="Ray cluster, such as ray://HOST:10001, or local to start one")
    sub.add_argument("--per-shard", type=int, metavar="N", help="recordings per shard (default: by their number)")
    sub.add_argument("--encoding", default="utf-8", help="of a .csv, such as latin-1 (default %(default)s)")
    sub.add_argument("--top", type=int, default=10, help="largest number of tags (default %(default)s)")
    sub.add_argument("--threshold", type=float, help="least probability of a tag (default 0)")
    sub.add_argument("--aggregate", choices=AGGREGATES, default="mean", help="over the windows (default %(default)s)")
    sub.add_argument("--no-embeddings", action="store_true", help="do not write embeddings")
    add_channel_options(sub)
    add_event_options(sub, default_hop="default: a window, no overlap")
    add_sense_options(sub)


def run_batch(args: argparse.Namespace) -> int:
    """Runs `batch`. A recording that cannot be used becomes a row with its error."""
    from panns_litert.batch import batch  # only here: it imports multiprocessing

    bundle = open_bundle(bundle_for(args))
    prototypes = prototypes_for(args, bundle)
    settings = settings_of(args, bundle)
    sense = sense_arguments(args, settings)
    enrolled = () if prototypes is None else prototypes.labels
    threshold = threshold_of(args, settings, Sense((*bundle.labels, *enrolled), **sense), enrolled=enrolled)
    with counting(args, "recordings") as progress:
        found = batch(
            args.manifest,
            args.out,
            bundle=bundle,
            prototypes=prototypes,
            engine=args.engine,
            threads=args.threads,
            workers=args.workers,
            address=args.ray,
            channel=args.channel,
            scale=args.scale,
            hop=args.hop,
            aggregate=args.aggregate,
            top=args.top,
            threshold=threshold,
            settings=settings.events,
            sense=sense,
            embeddings=not args.no_embeddings,
            per_shard=args.per_shard,
            encoding=args.encoding,
            progress=progress,
        )
    for why in found.redone:
        note(f"computed again: {why}")
    for _, error in found.failures:
        print(f"panns-litert: {error}", file=sys.stderr)
    if found.failed > len(found.failures):
        note(f"failed: {counted(found.failed, 'recording')} in all; column error in {found.out}")
    if found.warned:
        note(f"{counted(found.warned, 'recording')} with warnings: see the column warnings in {found.out}")
    if args.json:
        print_json(dataclasses.asdict(found))
    else:
        print(
            f"Tagged {counted(found.done, 'recording')} in {found.seconds:.1f} s, "
            f"{found.hours_per_minute:.2f} h of audio a minute; {found.skipped} of an earlier run kept.\n"
            f"{found.out} now has {counted(found.recordings, 'recording')} ({found.failed} failed), "
            f"{found.hours:.2f} h of audio, in {counted(found.shards, 'shard')}, of which {found.computed} are new."
        )
    return 2 if found.failed else 0
