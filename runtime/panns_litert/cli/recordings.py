"""Functions of the commands that tag recordings: the windows of each recording, and how they are printed."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.audio import AudioBlocks, Prefixed, Recording, is_container, raw_blocks, read_head
from panns_litert.cli.options import STDIN, sources
from panns_litert.cli.output import failure, progress_bar, progress_wanted
from panns_litert.errors import AudioError, PannsLitertError, why_failed
from panns_litert.escape import escaped
from panns_litert.sense import Sense
from panns_litert.tagger import Threshold, top_tags
from panns_litert.windows import StreamTagger, Window


def each_source(
    args: argparse.Namespace,
    one: Callable[[str], dict[str, Any]],
    write: Callable[[dict[str, Any]], object],
    done: Container[str] = (),
) -> bool:
    """Runs `one` on every recording that is not in `done` and writes its result. Returns whether any failed."""
    failed = False
    for source in sources(args):
        if source in done:
            continue
        try:
            write(one(source))
        except Exception as error:
            failed = True
            write(failure(source, of_recording(source, error)))
    return failed


def of_recording(source: str, error: Exception) -> AudioError:
    """Returns the error of one recording, such as MemoryError, after which the others are still heard.

    Raises:
        PannsLitertError, OSError: the error itself, if it would be the same for all recordings: of the options, the
            model or the output.
    """
    if isinstance(error, (PannsLitertError, OSError)) and not isinstance(error, AudioError):
        raise error
    return AudioError(why_failed(source, error))


@contextlib.contextmanager
def open_recording(args: argparse.Namespace, source: str, sample_rate: int) -> Iterator[AudioBlocks]:
    """Opens a recording, at the wanted sample rate: a file, a pipe, or - for standard input.

    A pipe holds an audio file, or raw samples if --rate is given. At the end, prints the recording's warnings.
    """
    options: dict[str, Any] = {"sample_rate": sample_rate, "channel": args.channel, "scale": args.scale}
    with contextlib.ExitStack() as stack:
        audio: Recording = source
        rate = None
        if source == STDIN or _is_pipe(source):
            try:
                pipe = sys.stdin.buffer if source == STDIN else stack.enter_context(open(source, "rb"))
                head = read_head(pipe)
            except OSError as error:
                raise AudioError(f"{source}: {error.strerror or error}; expected a pipe that can be read") from error
            audio = stream = Prefixed(head, pipe)
            if head and not is_container(head, mpeg=args.rate is None):
                if args.rate is None:
                    raise AudioError(f"{source}: begins like no audio file; for raw samples, give --rate HZ")
                audio = raw_blocks(stream, channels=args.channels, form=args.format)
                rate = args.rate
        with AudioBlocks(audio, name=source, rate=rate, **options) as blocks:
            yield blocks
    print_warnings(source, blocks.warnings)


def _is_pipe(source: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISFIFO(os.stat(source).st_mode)
    return False


def heard_row(blocks: AudioBlocks) -> dict[str, Any]:
    """Returns how much of a recording was heard, after its last block, as JSON types."""
    heard = {"seconds": blocks.seconds or 0.0, "seconds_heard": round(blocks.seconds_heard, 6)}
    return {**heard, "warnings": list(blocks.warnings)}


def print_warnings(source: str, warnings: Iterable[str]) -> None:
    """Prints what was wrong with a recording on stderr."""
    for warning in warnings:
        print(f"warning: {escaped(source)}: {escaped(warning)}", file=sys.stderr)


def windows_of(args: argparse.Namespace, stream: StreamTagger, blocks: AudioBlocks) -> Iterator[Window]:
    """Yields the windows of a recording. On a terminal, shows a bar for a long one."""
    with bar(args, blocks.name, blocks.seconds) as show:
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

    text = TextColumn("{task.description}", markup=False)  # a name may look like markup: [/b].wav
    columns = (text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task(escaped(Path(source).name), total=seconds)
        yield lambda at: progress.update(task, completed=at)


def window_row(window: Window, sense: Sense, *, top: int, threshold: Threshold) -> dict[str, Any]:
    """Returns a window's tags as JSON types, selected as by `top_tags`, or why there are none."""
    scores = sense(window.probs, level_dbfs=window.level_dbfs)
    tags = () if window.unusable else top_tags(sense.labels, scores, top=top, threshold=threshold)
    times = {"start": window.start, "end": window.end}
    return {**times, "unusable": window.unusable, "tags": [asdict(tag) for tag in tags]}


def print_window(row: dict[str, Any], *, source: str | None = None) -> None:
    """Prints a window's tags on one line, with the name of the source if there are several."""
    tags = ", ".join(f"{escaped(tag['label'])} {tag['score']:.2f}" for tag in row["tags"])
    text = f"{clock(row['start'])} – {clock(row['end'])}  {row['unusable'] or tags or '–'}"
    print(text if source is None else f"{text}  {escaped(source)}", flush=True)


def clock(seconds: float) -> str:
    """Formats a time as minutes:seconds."""
    minutes, rest = divmod(round(seconds, 2), 60.0)
    return f"{int(minutes):3d}:{rest:05.2f}"
