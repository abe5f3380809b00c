"""Commands for sounds over time: events, listen."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from panns_litert.audio import microphone, raw_blocks
from panns_litert.cli.options import (
    STDIN,
    add_audio_options,
    add_model_options,
    add_raw_options,
    add_sense_options,
    open_tagger,
    sense_of,
)
from panns_litert.cli.output import AddCommand, note, print_json, print_table
from panns_litert.cli.recordings import (
    clock,
    each_source,
    heard_row,
    open_recording,
    print_window,
    window_row,
    windows_of,
)
from panns_litert.errors import AudioError, EventError, ResultsError
from panns_litert.events import Event, EventSettings, audacity_labels, events_csv
from panns_litert.windows import HOP_SECONDS, EventStream, StreamTagger, event_hop

EVENT_FORMATS = ("table", "csv", "audacity", "json")


def add_commands(command: AddCommand) -> None:
    """Adds events and listen."""
    sub = command("events", run_events, "Find the events in recordings: start, end, label and score.")
    add_audio_options(sub)
    add_model_options(sub)
    add_event_options(sub)
    sub.add_argument("--as", dest="form", choices=EVENT_FORMATS, default="table", help="format (default %(default)s)")
    sub.add_argument("--out", type=Path, help="write to this file instead of standard output; one recording only")
    add_sense_options(sub)

    sub = command("listen", run_listen, "Tag sound from the microphone or a pipe while it is recorded.")
    sub.add_argument("audio", nargs="?", help="- for raw samples on standard input (default: the microphone)")
    add_raw_options(sub)
    add_model_options(sub)
    sub.add_argument("--device", help="number or part of the name of the microphone (default: the system's)")
    sub.add_argument("--seconds", type=float, help="stop after this time (default: at Ctrl-C or the end of the input)")
    sub.add_argument("--top", type=int, default=5, help="largest number of tags per hop (default %(default)s)")
    sub.add_argument("--threshold", type=float, default=0.1, help="least probability of a tag (default %(default)g)")
    add_event_options(sub, default_hop=f"default {HOP_SECONDS:g}, at most a window")
    sub.add_argument("--events", action="store_true", help="print events instead of tags")
    add_sense_options(sub)


def add_event_options(
    sub: argparse.ArgumentParser,
    *,
    default_hop: str = f"default: half a window; at most {HOP_SECONDS:g} without frame-wise scores",
) -> None:
    """Adds --hop and the thresholds of events."""
    sub.add_argument("--hop", type=float, help=f"seconds from window to window ({default_hop})")
    sub.add_argument(
        "--on", type=float, default=EventSettings.on, help="an event starts at this score (default %(default)g)"
    )
    sub.add_argument(
        "--off", type=float, help="an event lasts while the score is at least this (default: half of --on)"
    )
    for name, text in (("min_duration", "drop shorter events"), ("max_gap", "merge closer events")):
        option, default = f"--{name.replace('_', '-')}", getattr(EventSettings, name)
        sub.add_argument(option, type=float, default=default, help=f"{text}, seconds (default %(default)g)")
    sub.add_argument("--settings", type=Path, metavar="JSON", help="file with thresholds of all and of single classes")


def run_events(args: argparse.Namespace) -> int:
    """Runs `events`. A recording that cannot be used is reported; the others are still processed."""
    if args.out is not None and len(args.audio) > 1:
        raise EventError("--out with several recordings; expected one, or --json on standard output")
    tagger = open_tagger(args)
    sense, settings = sense_of(args, tagger.labels), settings_of(args)
    hop = event_hop(tagger) if args.hop is None else args.hop
    results: list[dict[str, Any]] = []

    def one(source: str) -> dict[str, Any]:
        found: list[Event] = []
        stream = StreamTagger(tagger, hop=hop)
        events = EventStream(stream, settings=settings, sense=sense)
        with open_recording(args, source, tagger.bundle.manifest.front_end.sample_rate) as blocks:
            for window in windows_of(args, stream, blocks):
                found += events.push(window)
        found += events.finish()
        found.sort(key=lambda event: (event.start, event.index))
        if not args.json:
            _write_events(args, source, found)
        return {"source": source, **heard_row(blocks), "events": [_event_row(event) for event in found]}

    failed = each_source(args, one, results.append)
    if args.json:
        print_json({"model": tagger.bundle.manifest.model, "hop": hop, "results": results})
    return 2 if failed else 0


def settings_of(args: argparse.Namespace) -> EventSettings:
    """Returns the thresholds that the options give."""
    if args.settings is not None:
        return EventSettings.load(args.settings)
    return EventSettings(on=args.on, off=args.off, min_duration=args.min_duration, max_gap=args.max_gap)


def _event_row(event: Event) -> dict[str, Any]:
    row = {"start": event.start, "end": event.end, "label": event.label, "index": event.index, "score": event.score}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def _write_events(args: argparse.Namespace, source: str, events: list[Event]) -> None:
    with contextlib.ExitStack() as stack:
        out: TextIO = sys.stdout
        if args.out is not None:
            try:
                out = stack.enter_context(args.out.open("w", encoding="utf-8"))
            except OSError as error:
                raise ResultsError(f"{args.out}: {error.strerror}; expected a file that can be written") from error
        if args.form == "csv":
            out.write(events_csv(events))
        elif args.form == "audacity":
            out.write(audacity_labels(events))
        elif args.form == "json":
            out.write(json.dumps([_event_row(event) for event in events], indent=1, ensure_ascii=False) + "\n")
        elif args.out is not None:
            out.writelines(f"{_event_line(event)}\n" for event in events)
        else:
            print(source)
            if events:
                rows = [
                    {"start": clock(e.start), "end": clock(e.end), "label": e.label, "score": f"{e.score:.3f}"}
                    for e in events
                ]
                print_table(rows, optional=())
            else:
                print("  nothing above the thresholds\n")


def run_listen(args: argparse.Namespace) -> int:
    """Runs `listen`: prints one line per hop, or with --events one line per event."""
    if args.audio not in (None, STDIN) or (args.audio == STDIN and args.rate is None):
        raise AudioError("listen: expected no file, for the microphone, or - with --rate HZ for raw samples")
    if args.seconds is not None and not args.seconds > 0:
        raise AudioError(f"--seconds {args.seconds}; expected a number > 0")
    tagger = open_tagger(args)
    sense, settings = sense_of(args, tagger.labels), settings_of(args)
    rate = args.rate if args.audio == STDIN else tagger.bundle.manifest.front_end.sample_rate
    hop = min(HOP_SECONDS, tagger.bundle.manifest.clip_seconds) if args.hop is None else args.hop
    stream = StreamTagger(tagger, hop=hop, sample_rate=rate)
    events = EventStream(stream, settings=settings, sense=sense)
    with contextlib.ExitStack() as stack:
        if args.audio == STDIN:
            chunks = raw_blocks(sys.stdin.buffer, channels=args.channels, form=args.format)
        else:
            chunks = stack.enter_context(microphone(rate, device=args.device))
            note(f"listening; the first tags come after {stream.window:g} s; stop with Ctrl-C")
        for window in stream.of(_until(chunks, rate, args.seconds)):
            if args.events:
                _print_events(args, events.push(window))
            elif args.json:
                print(json.dumps(window_row(window, sense, args), ensure_ascii=False), flush=True)
            else:
                print_window(window_row(window, sense, args))
        if args.events:
            _print_events(args, events.finish())
    return 0


def _until(chunks: Iterator[Any], rate: int, seconds: float | None) -> Iterator[Any]:
    """Yields the chunks of the first `seconds`, or all chunks if None."""
    left = float("inf") if seconds is None else round(seconds * rate)
    for chunk in chunks:
        if len(chunk) >= left:
            yield chunk[: int(left)]
            return
        left -= len(chunk)
        yield chunk


def _print_events(args: argparse.Namespace, events: tuple[Event, ...]) -> None:
    for event in events:
        line = json.dumps(_event_row(event), ensure_ascii=False) if args.json else _event_line(event)
        print(line, flush=True)


def _event_line(event: Event) -> str:
    return f"{clock(event.start)} – {clock(event.end)}  {event.score:.2f}  {event.label}"
