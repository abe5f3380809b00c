"""Commands for sounds over time: events, listen."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panns_litert.audio import Prefixed, is_container, microphone, raw_blocks, read_head, wav_header
from panns_litert.cli.eventoutput import EVENT_FORMATS, EventOutput, event_line, event_row
from panns_litert.cli.options import (
    STDIN,
    add_audio_options,
    add_channel_options,
    add_model_options,
    add_prototype_options,
    add_raw_options,
    add_sense_options,
    add_settings_option,
    open_tagger,
    require_rate,
    sense_of,
    settings_of,
    threshold_of,
)
from panns_litert.cli.output import AddCommand, json_text, note
from panns_litert.cli.recordings import (
    each_source,
    heard_row,
    open_recording,
    print_window,
    window_row,
    windows_of,
)
from panns_litert.errors import AudioError
from panns_litert.escape import escaped
from panns_litert.events import Event, EventSettings
from panns_litert.tagger import require_choice
from panns_litert.windows import HOP_SECONDS, EventStream, StreamTagger, event_hop

MOST_SECONDS = 1e9
"""Largest --seconds of `listen`, 32 years."""

_THRESHOLD = 0.1  # default of --threshold of `listen`


def add_commands(command: AddCommand) -> None:
    """Adds events and listen."""
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

    sub = command("listen", run_listen)
    sub.add_argument("audio", nargs="?", help="- for WAV or raw samples on standard input (default: the microphone)")
    add_raw_options(sub)
    add_channel_options(sub)
    add_model_options(sub)
    add_prototype_options(sub)
    sub.add_argument("--device", help="number or part of the name of the microphone (default: the system's)")
    sub.add_argument("--seconds", type=float, help="stop after this time (default: at Ctrl-C or the end of the input)")
    sub.add_argument("--top", type=int, default=5, help="largest number of tags per hop (default %(default)s)")
    sub.add_argument("--threshold", type=float, help=f"least probability of a tag (default {_THRESHOLD:g})")
    add_event_options(sub, default_hop=f"default {HOP_SECONDS:g}, at most a window", live=True)
    sub.add_argument("--events", action="store_true", help="print events instead of tags")
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


def run_listen(args: argparse.Namespace) -> int:
    """Runs `listen`: prints one line per hop, or with --events one line per event."""
    if args.audio not in (None, STDIN):
        raise AudioError("listen: expected no file, for the microphone, or - for WAV or raw samples from a pipe")
    require_rate(args)
    require_choice(args.top, _THRESHOLD if args.threshold is None else args.threshold)
    if args.seconds is not None and not 0 < args.seconds <= MOST_SECONDS:
        raise AudioError(f"--seconds {args.seconds:g}; expected a number > 0, at most {MOST_SECONDS:g}")
    tagger = open_tagger(args)
    settings = settings_of(args, tagger.bundle)
    sense = sense_of(args, tagger.labels, settings)
    threshold = threshold_of(args, settings, sense, default=_THRESHOLD, enrolled=tagger.enrolled)
    hop = min(HOP_SECONDS, tagger.bundle.manifest.clip_seconds) if args.hop is None else args.hop
    StreamTagger(tagger, hop=hop)  # raises now if the hop is out of range
    rate, channels, form, pipe = tagger.bundle.manifest.front_end.sample_rate, args.channels, args.format, None
    if args.audio == STDIN:
        head = read_head(sys.stdin.buffer)
        pipe = Prefixed(head, sys.stdin.buffer)
        if is_container(head, mpeg=False):
            rate, channels, form = wav_header(pipe)
        elif args.rate is None:
            raise AudioError("listen: begins like no WAV file; for raw samples, give --rate HZ")
        else:
            rate = args.rate
    stream = StreamTagger(tagger, hop=hop, sample_rate=rate, channel=args.channel, scale=args.scale)
    events = EventStream(stream, settings=settings.events, sense=sense)
    with contextlib.ExitStack() as stack:
        if pipe is not None:
            chunks = raw_blocks(pipe, channels=channels, form=form)
        else:
            chunks = stack.enter_context(microphone(rate, device=args.device))
            note(f"listening; the first tags come after {stream.window:g} s; stop with Ctrl-C")
        for window in stream.of(_until(chunks, rate, args.seconds)):
            if args.events:
                _print_events(args, events.push(window))
            elif args.json:
                print(json_text(window_row(window, sense, top=args.top, threshold=threshold)), flush=True)
            else:
                print_window(window_row(window, sense, top=args.top, threshold=threshold))
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
        line = json_text(event_row(event)) if args.json else event_line(event)
        print(line, flush=True)
