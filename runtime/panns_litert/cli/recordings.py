"""Functions of the commands that tag recordings: the windows of each recording, and how they are printed."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.audio import AudioBlocks, raw_blocks
from panns_litert.cli.options import STDIN, sources
from panns_litert.cli.output import failure, progress_bar, progress_wanted
from panns_litert.errors import AudioError
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger, top_tags
from panns_litert.windows import StreamTagger, Window


def each_source(
    args: argparse.Namespace,
    one: Callable[[str], dict[str, Any]],
    write: Callable[[dict[str, Any]], object],
    done: Collection[str] = (),
) -> bool:
    """Runs `one` on every recording that is not in `done` and writes its result. Returns whether any failed."""
    failed = False
    for source in sources(args):
        if source in done:
            continue
        try:
            write(one(source))
        except AudioError as error:
            failed = True
            write(failure(source, error))
    return failed


def windows_of(args: argparse.Namespace, tagger: Tagger, source: str, hop: float) -> Iterator[Window]:
    """Yields the windows of a recording or of standard input. On a terminal, shows a bar for a long recording."""
    rate = tagger.bundle.manifest.front_end.sample_rate
    if source == STDIN:
        stream = StreamTagger(tagger, hop=hop, sample_rate=args.rate)
        yield from stream.of(raw_blocks(sys.stdin.buffer, channels=args.channels, form=args.format))
        return
    stream = StreamTagger(tagger, hop=hop)
    with AudioBlocks(source, sample_rate=rate) as blocks, bar(args, source, blocks.seconds) as show:
        for window in stream.of(blocks):
            show(window.end)
            yield window


@contextlib.contextmanager
def bar(args: argparse.Namespace, source: str, seconds: float | None) -> Iterator[Callable[[float], None]]:
    """Yields a function that takes the position, seconds. On a terminal, it shows a bar for a recording ≥ 60 s."""
    if not progress_wanted(args) or seconds is None or seconds < 60:
        yield lambda _: None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task(Path(source).name, total=seconds)
        yield lambda at: progress.update(task, completed=at)


def window_row(window: Window, sense: Sense, args: argparse.Namespace) -> dict[str, Any]:
    """Returns a window's tags as JSON types, selected by --top and --threshold."""
    scores = sense(window.probs, level_dbfs=window.level_dbfs)
    tags = top_tags(sense.labels, scores, top=args.top, threshold=args.threshold)
    return {"start": window.start, "end": window.end, "tags": [asdict(tag) for tag in tags]}


def print_window(row: dict[str, Any]) -> None:
    """Prints a window's tags on one line."""
    tags = ", ".join(f"{tag['label']} {tag['score']:.2f}" for tag in row["tags"])
    print(f"{clock(row['start'])} – {clock(row['end'])}  {tags or '–'}", flush=True)


def clock(seconds: float) -> str:
    """Formats a time as minutes:seconds."""
    minutes, rest = divmod(round(seconds, 2), 60.0)
    return f"{int(minutes):3d}:{rest:05.2f}"
