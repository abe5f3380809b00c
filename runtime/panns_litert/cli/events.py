"""Command events: finds the events in recordings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from panns_litert.cli.eventoutput import EVENT_FORMATS, EventOutput, event_row
from panns_litert.cli.options import (
    add_audio_options,
    add_model_options,
    add_prototype_options,
    add_sense_options,
    add_settings_option,
    open_tagger,
    require_rate,
    sense_of,
    settings_of,
)
from panns_litert.cli.output import AddCommand
from panns_litert.cli.recordings import (
    each_source,
    heard_row,
    open_recording,
    windows_of,
)
from panns_litert.escape import escaped
from panns_litert.events import Event, EventSettings
from panns_litert.windows import HOP_SECONDS, EventStream, StreamTagger, event_hop


def add_commands(command: AddCommand) -> None:
    """Adds events."""
    sub = command("events", run_events)
    add_audio_options(sub)
    add_model_options(sub)
    add_prototype_options(sub)
    add_event_options(sub)
    sub.add_argument("--as", dest="form", choices=EVENT_FORMATS, help="format (default: table, with --json json)")
    sub.add_argument(
        "--out", type=Path, help="write one file of all recordings, or with --as audacity a folder with a file for each"
    )
    add_sense_options(sub)


def add_event_options(
    sub: argparse.ArgumentParser,
    *,
    default_hop: str = f"default: half a window; at most {HOP_SECONDS:g} without frame-wise scores",
    live: bool = False,
) -> None:
    """Adds --hop and the thresholds of events; if `live`, also --cooldown, which only news of starts has."""
    sub.add_argument("--hop", type=float, help=f"seconds from window to window ({default_hop})")
    sub.add_argument(
        "--on", type=float, default=EventSettings.on, help="an event starts at this score (default %(default)g)"
    )
    sub.add_argument(
        "--off", type=float, help="an event lasts while the score is at least this (default: half of --on)"
    )
    texts = {"min_duration": "drop shorter events", "max_gap": "merge closer events"}
    texts |= {"cooldown": "after an event, tell no other one of its class for this long"} if live else {}
    for name, text in texts.items():
        option, default = f"--{name.replace('_', '-')}", getattr(EventSettings, name)
        sub.add_argument(option, type=float, default=default, help=f"{text}, seconds (default %(default)g)")
    add_settings_option(sub)


def run_events(args: argparse.Namespace) -> int:
    """Runs `events`. A recording that cannot be used is reported; the others are still processed."""
    require_rate(args)
    output = EventOutput(
        args.audio,
        form=args.form or ("json" if args.json else "table"),
        out=args.out,
        json=args.json,
    )
    tagger = open_tagger(args)
    settings = settings_of(args, tagger.bundle)
    sense = sense_of(args, tagger.labels, settings)
    hop = event_hop(tagger) if args.hop is None else args.hop
    StreamTagger(tagger, hop=hop)  # raises now if the hop is out of range

    def one(source: str) -> dict[str, Any]:
        found: list[Event] = []
        stream = StreamTagger(tagger, hop=hop)
        events = EventStream(stream, settings=settings.events, sense=sense)
        with open_recording(args, source, tagger.bundle.manifest.front_end.sample_rate) as blocks:
            for window in windows_of(args, stream, blocks):
                found += events.push(window)
        found += events.finish()
        found.sort(key=lambda event: (event.start, event.index))
        output.add(source, found)
        return {"source": escaped(source), **heard_row(blocks), "events": [event_row(event) for event in found]}

    document: dict[str, Any] = {"model": tagger.bundle.manifest.model, "hop": hop}
    document |= ({"enrolled": list(tagger.enrolled)} if tagger.enrolled else {}) | {"results": []}
    try:
        failed = each_source(args, one, document["results"].append)
    except BaseException:  # for example Ctrl-C: what was computed is kept
        output.finish(document | {"interrupted": True})
        raise
    output.finish(document)
    return 2 if failed else 0
