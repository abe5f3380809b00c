"""The command for many recordings: batch."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from panns_litert.batch import batch
from panns_litert.cli.events import add_event_options, settings_of
from panns_litert.cli.options import add_model_options, add_sense_options, bundle_for, sense_arguments
from panns_litert.cli.output import AddCommand, print_json, progress_wanted
from panns_litert.windows import AGGREGATES


def add_commands(command: AddCommand) -> None:
    """Adds batch."""
    sub = command("batch", run_batch, "Hear the recordings of a manifest on all cores or a cluster; write Parquet.")
    sub.add_argument("manifest", type=Path, help=".csv or .parquet with a column path, relative to it")
    sub.add_argument("--out", type=Path, required=True, help="folder of shards; a run that was broken off goes on")
    add_model_options(sub, default_threads="of every worker; default 1")
    sub.add_argument("--workers", type=int, help="processes (default: as many as there are cores for)")
    sub.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster's, such as ray://HOST:10001; local to start one")
    sub.add_argument("--per-shard", type=int, metavar="N", help="recordings of a shard (default 1 to 64)")
    sub.add_argument("--top", type=int, default=10, help="how many tags (default 10)")
    sub.add_argument("--threshold", type=float, default=0.0, help="no tag below this probability (default 0)")
    sub.add_argument("--aggregate", choices=AGGREGATES, default="mean", help="over the windows (default mean)")
    sub.add_argument("--no-embeddings", action="store_true", help="leave the embeddings out")
    add_event_options(sub, default_hop="default: a window, no overlap")
    add_sense_options(sub)


def run_batch(args: argparse.Namespace) -> int:
    """`batch`: a manifest to a folder of Parquet. A bad recording is a row with its error."""
    with _bar(args) as progress:
        found = batch(
            args.manifest,
            args.out,
            bundle=bundle_for(args),
            engine=args.engine,
            threads=1 if args.threads is None else args.threads,
            workers=args.workers,
            address=args.ray,
            hop=args.hop,
            aggregate=args.aggregate,
            top=args.top,
            threshold=args.threshold,
            settings=settings_of(args),
            sense=sense_arguments(args),
            embeddings=not args.no_embeddings,
            per_shard=args.per_shard,
            progress=progress,
        )
    if args.json:
        print_json(dataclasses.asdict(found))
    else:
        print(
            f"{found.out}: {found.recordings} recordings, {found.failed} failed, {found.hours:.2f} h of audio\n"
            f"{found.computed} of {found.shards} shards computed in {found.seconds:.1f} s, "
            f"{found.hours_per_minute:.2f} h of audio a minute"
        )
    return 2 if found.failed else 0


@contextlib.contextmanager
def _bar(args: argparse.Namespace) -> Iterator[Callable[[int, int], object]]:
    """A progress bar with the time that is left, on a terminal."""
    if not progress_wanted(args):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("recordings", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
