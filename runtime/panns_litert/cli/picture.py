"""Commands that draw recordings: plot, page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panns_litert.audio import AudioBlocks
from panns_litert.cli.events import add_event_options
from panns_litert.cli.options import (
    STDIN,
    add_channel_options,
    add_model_options,
    add_prototype_options,
    add_sense_options,
    open_tagger,
    sense_of,
    settings_of,
    sources,
)
from panns_litert.cli.output import AddCommand, failure, note, print_json
from panns_litert.cli.recordings import bar, of_recording, print_warnings
from panns_litert.errors import AudioError, PictureError
from panns_litert.escape import escaped
from panns_litert.pictures import Timeline, picture_format, plot, timeline, write_page
from panns_litert.tagger import Tagger, require_choice
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds plot and page."""
    sub = command("plot", run_plot)
    sub.add_argument("audio", help="an audio file")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png or .svg file")
    _add_options(sub)

    sub = command("page", run_page)
    sub.add_argument("audio", nargs="+", help="audio files, or folders")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="an .html file")
    _add_options(sub)


def _add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--top", type=int, default=8, help="largest number of classes (default %(default)s)")
    add_channel_options(sub)
    add_model_options(sub)
    add_prototype_options(sub)
    add_event_options(sub)
    add_sense_options(sub)


def run_plot(args: argparse.Namespace) -> int:
    """Runs `plot`: draws a recording."""
    picture_format(args.out)  # check this before the recording, which may be long, is read
    if not args.out.absolute().parent.is_dir():
        raise PictureError(f"{args.out}: no folder {args.out.parent}; expected an existing folder")
    require_choice(args.top, 0.0)
    found = _heard(args, open_tagger(args), args.audio)
    plot(found, args.out, top=args.top)
    if args.json:
        return print_json({"picture": str(args.out)} | _row(found, args.top))
    print(args.out)
    return 0


def run_page(args: argparse.Namespace) -> int:
    """Runs `page`. A recording that cannot be used is reported; the page shows the others."""
    if STDIN in args.audio:
        raise AudioError("- for standard input: expected files, which the page can play")
    require_choice(args.top, 0.0)
    tagger = open_tagger(args)
    results: list[dict[str, Any]] = []
    interrupted: list[KeyboardInterrupt] = []

    def heard() -> Iterator[Timeline]:
        for source in sources(args):
            try:
                found = _heard(args, tagger, source)
            except Exception as error:
                results.append(failure(source, of_recording(source, error)))
            except KeyboardInterrupt as stop:  # the page shows what was heard, if anything was
                if all("error" in result for result in results):
                    raise
                interrupted.append(stop)
                return
            else:
                results.append(_row(found, args.top))
                yield found

    write_page(args.out, heard(), top=args.top)
    if interrupted:
        note(f"{args.out}: shows {counted(sum('error' not in result for result in results), 'recording')}")
        raise interrupted[0]
    if args.json:
        print_json({"page": str(args.out), "results": results})
    else:
        print(args.out)
    return 2 if any("error" in result for result in results) else 0


def _heard(args: argparse.Namespace, tagger: Tagger, source: str) -> Timeline:
    settings = settings_of(args, tagger.bundle)
    with AudioBlocks(source, sample_rate=tagger.bundle.manifest.front_end.sample_rate) as blocks:
        seconds = blocks.seconds
    with bar(args, source, seconds) as show:
        found = timeline(
            tagger,
            source,
            channel=args.channel,
            scale=args.scale,
            hop=args.hop,
            settings=settings.events,
            sense=sense_of(args, tagger.labels, settings),
            progress=show,
        )
    print_warnings(source, found.warnings)
    return found


def _row(found: Timeline, top: int) -> dict[str, Any]:
    """Returns a summary of a timeline as JSON types."""
    tags = [{"label": found.labels[i], "index": i, "highest": float(found.scores[:, i].max())} for i in found.top(top)]
    heard = {"seconds_heard": round(found.seconds_heard, 6), "warnings": list(found.warnings)}
    counts = {"seconds": found.seconds, **heard, "events": len(found.events)}
    return {"source": escaped(found.source), "model": found.model, **counts, "tags": tags}
