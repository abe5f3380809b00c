"""Command listen, and what `serve` shares with it: sources, thresholds and sinks from options, and the summary."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import microphones
from panns_litert.cli.events import add_event_options
from panns_litert.cli.options import (
    STDIN,
    add_channel_options,
    add_model_options,
    add_prototype_options,
    add_raw_options,
    add_sense_options,
    open_tagger,
    require_rate,
    sense_of,
    settings_of,
    threshold_of,
)
from panns_litert.cli.output import AddCommand, json_text, note, print_json, print_table
from panns_litert.cli.recordings import print_warnings, print_window, window_row
from panns_litert.errors import AudioError, SettingsError
from panns_litert.escape import escaped
from panns_litert.live import (
    ClipSink,
    CsvSink,
    FileSource,
    JsonLinesSink,
    Listener,
    LossNotice,
    MicrophoneSource,
    MqttSink,
    NetworkSource,
    Notice,
    PipeSource,
    Sink,
    Source,
    TextSink,
    WebhookSink,
    iso_time,
)
from panns_litert.sense import Sense, unknown_label
from panns_litert.settings import TaggerSettings
from panns_litert.strict import printable, read_text
from panns_litert.tagger import Tagger, Threshold, require_choice
from panns_litert.windows import HOP_SECONDS, StreamTagger, Window

MOST_SECONDS = 1e9
"""Largest --seconds, 32 years."""

PASSWORD_VARIABLE = "PANNS_LITERT_MQTT_PASSWORD"
"""Environment variable with the password for --mqtt-user."""

_THRESHOLD = 0.1  # default of --threshold
_MOST_BYTES = 65536  # of files with headers or a password
_NEEDS = {
    "webhook": ("webhook_headers",),
    "mqtt": ("mqtt_user", "mqtt_password_file", "mqtt_tls", "mqtt_node", "mqtt_class"),
    "mqtt_user": ("mqtt_password_file",),
    "save_clips": ("clips_mb", "clips_days", "clip_seconds"),
}
"""By option, those that say nothing without it."""


def add_commands(command: AddCommand) -> None:
    """Adds listen."""
    sub = command("listen", run_listen)
    add_live_options(sub)
    sub.add_argument("--top", type=int, default=5, help="largest number of tags per hop (default %(default)s)")
    sub.add_argument("--threshold", type=float, help=f"least probability of a tag (default {_THRESHOLD:g})")
    sub.add_argument("--events", action="store_true", help="print starts and ends of events instead of tags")
    sub.add_argument("--devices", action="store_true", help="list the microphones, and end")


def add_live_options(sub: argparse.ArgumentParser) -> None:
    """Adds the options that `live_setup` reads."""
    sub.add_argument(
        "audio",
        nargs="*",
        metavar="SOURCE",
        help="a file, the URL of a stream (http, rtsp, …), or - for WAV or raw samples on standard input "
        "(default: the microphone)",
    )
    sub.add_argument(
        "--device", action="append", help="number or part of the name of a microphone; again for another one"
    )
    sub.add_argument(
        "--realtime", action="store_true", help="hear a file as if it sounded now; a pipe brings sound of now"
    )
    sub.add_argument("--seconds", type=float, help="stop after this time (default: at Ctrl-C or the end of the input)")
    add_raw_options(sub)
    add_channel_options(sub)
    add_model_options(sub)
    add_prototype_options(sub)
    add_event_options(sub, default_hop=f"default {HOP_SECONDS:g}, at most a window", live=True)
    add_sense_options(sub)
    group = sub.add_argument_group("where alerts go, besides this terminal")
    group.add_argument("--csv", metavar="DIR", help="CSV files of the events, one for each day")
    group.add_argument("--webhook", metavar="URL", help="post each start and end as JSON")
    group.add_argument("--webhook-headers", type=Path, metavar="FILE", help="lines 'Name: value', such as a token")
    group.add_argument("--mqtt", metavar="HOST[:PORT]", help="publish to an MQTT broker, for Home Assistant")
    group.add_argument("--mqtt-user", metavar="NAME", help=f"its password is in the file, or in {PASSWORD_VARIABLE}")
    group.add_argument("--mqtt-password-file", type=Path, metavar="FILE", help="file with the password alone")
    group.add_argument("--mqtt-tls", action="store_true", help="encrypt the connection")
    group.add_argument(
        "--mqtt-node",
        metavar="NAME",
        help="this device's name in topics; another one for a second program on this "
        "computer (default: the computer's)",
    )
    group.add_argument("--mqtt-class", action="append", metavar="CLASS", help="sensors for these (default: as heard)")
    group.add_argument("--save-clips", metavar="DIR", help="save the sound of each event, and of people")
    group.add_argument("--clips-mb", type=float, help="remove the oldest beyond this (default 1000)")
    group.add_argument("--clips-days", type=float, help="remove older ones (default: none)")
    group.add_argument("--clip-seconds", type=float, help="longest clip (default 60)")


@dataclass(frozen=True, kw_only=True)
class LiveSetup:
    """What a command listens with.

    Attributes:
        tagger: the model.
        sources: where sound comes from.
        sinks: where alerts go, besides the terminal.
        settings: thresholds and temperature.
        sense: transforms the scores.
        hop: seconds from one window to the next.
        clips: the one of the sinks that saves sound; None if none does.
    """

    tagger: Tagger
    sources: tuple[Source, ...]
    sinks: tuple[Sink, ...]
    settings: TaggerSettings
    sense: Sense
    hop: float
    clips: ClipSink | None

    def listener(self, *more: Sink) -> Listener:
        """Returns the listener, with further sinks. It tells what ends or fails on stderr."""
        return Listener(
            self.tagger,
            self.sources,
            (*self.sinks, *more),
            hop=self.hop,
            settings=self.settings.events,
            sense=self.sense,
            tell=lambda text: print(f"warning: {escaped(text)}", file=sys.stderr, flush=True),
        )


def live_setup(args: argparse.Namespace) -> LiveSetup:
    """Opens the model, the sources and the sinks of the options of `add_live_options`.

    Microphones and streams are opened when the listener runs.

    Raises:
        PannsLitertError: an option is out of range, or what it names cannot be used.
    """
    require_rate(args)
    if args.seconds is not None and not 0 < args.seconds <= MOST_SECONDS:
        raise AudioError(f"--seconds {args.seconds:g}; expected a number > 0, at most {MOST_SECONDS:g}")
    for option, dependent in _NEEDS.items():
        for name in dependent if getattr(args, option) is None else ():
            if getattr(args, name) is not None and getattr(args, name) is not False:  # 0 was given, too
                raise SettingsError(f"{_option(name)} without {_option(option)}; expected both")
    tagger = open_tagger(args)
    settings = settings_of(args, tagger.bundle)
    sense = sense_of(args, tagger.labels, settings)
    hop = min(HOP_SECONDS, tagger.bundle.manifest.clip_seconds) if args.hop is None else args.hop
    StreamTagger(tagger, hop=hop)  # raises now if the hop is out of range
    rate = tagger.bundle.manifest.front_end.sample_rate
    others = _sinks(args, sense)
    clips = _clips(args, rate, window=tagger.bundle.manifest.clip_seconds)
    sinks = (*others, *([clips] if clips else []))
    return LiveSetup(
        tagger=tagger,
        sources=_sources(args, rate),
        sinks=sinks,
        settings=settings,
        sense=sense,
        hop=hop,
        clips=clips,
    )


def summary(setup: LiveSetup, listener: Listener) -> int:
    """Prints on stderr what was heard. Returns the exit code: 2 if a source or a sink failed."""
    listened = listener.listened
    for source, row in zip(setup.sources, listened.sources, strict=True):
        print_warnings(source.name, getattr(source, "warnings", ()))
        note(escaped(str(row)))
    for problem in listened.problems:
        print(f"warning: {escaped(problem)}", file=sys.stderr)
    return 2 if listened.problems or any(row.error for row in listened.sources) else 0


def run_listen(args: argparse.Namespace) -> int:
    """Runs `listen`: prints one line per hop, or with --events the starts and ends of events."""
    if args.devices:
        return _list_devices(args)
    require_choice(args.top, _THRESHOLD if args.threshold is None else args.threshold)
    setup = live_setup(args)
    threshold = threshold_of(args, setup.settings, setup.sense, default=_THRESHOLD, enrolled=setup.tagger.enrolled)
    sinks: list[Sink] = []
    if args.events:
        sinks += [JsonLinesSink(sys.stdout), _Losses()] if args.json else [TextSink(sys.stdout)]
    else:
        named = len(setup.sources) > 1
        sinks += [_Lines(setup.sense, args.top, threshold, json=args.json, named=named), _Losses()]
    listener = setup.listener(*sinks)
    for sink in sinks:
        if isinstance(sink, _Lines):
            sink.time = listener.time
    if any(source.live for source in setup.sources):
        note(f"listening; the first tags come after {listener.window:g} s; stop with Ctrl-C")
    try:
        listener.run(args.seconds)
    except BaseException:  # Ctrl-C, or an error: what was heard is told all the same
        if any(row.seconds for row in listener.listened.sources):
            with contextlib.suppress(OSError):
                summary(setup, listener)
        raise
    return summary(setup, listener)


class _Lines(Sink):
    """Prints the tags of each window on a line: text, or a JSON object."""

    name = "tags"

    def __init__(self, sense: Sense, top: int, threshold: Threshold, *, json: bool, named: bool) -> None:
        self._sense, self._top, self._threshold, self._json, self._named = sense, top, threshold, json, named
        self.time: Callable[[str, float], float] = lambda _, seconds: seconds

    def window(self, source: str, window: Window, scores: NDArray[np.float64]) -> None:
        """Prints a window."""
        row = window_row(window, self._sense, top=self._top, threshold=self._threshold)
        try:
            if self._json:
                when = iso_time(self.time(source, window.start))
                print(json_text(row | {"source": escaped(source), "time": when}), flush=True)
            else:
                print_window(row, source=source if self._named else None)
        except BrokenPipeError:  # the reader, such as `head`, has ended
            self.ended = True


class _Losses(Sink):
    """Tells on stderr what was lost."""

    name = "losses"

    def notice(self, notice: Notice) -> None:
        if isinstance(notice, LossNotice):
            text = f"{notice.source}: {notice.seconds:.1f} s from {notice.time} lost: {notice.why}"
            print(f"warning: {escaped(text)}", file=sys.stderr, flush=True)


def _list_devices(args: argparse.Namespace) -> int:
    rows = [asdict(microphone) for microphone in microphones()]
    if args.json:
        print_json({"devices": rows})
    elif rows:
        texts = [{name: str(value) for name, value in row.items()} for row in rows]
        print_table([{**row, "default": "yes" if row["default"] == "True" else ""} for row in texts], optional=())
    else:
        note("no microphone")
    return 0


def _sources(args: argparse.Namespace, rate: int) -> tuple[Source, ...]:
    """Returns the sources, of which files and the pipe are open."""
    if args.audio.count(STDIN) > 1:
        raise AudioError("standard input (-) twice; expected it once")
    found: list[Source] = []
    devices = args.device or []
    for device in devices or ([] if args.audio else [None]):
        name = "microphone" if len(devices) < 2 else f"microphone {device}"
        found.append(MicrophoneSource(rate, device=device, channel=args.channel, name=name))
    for audio in args.audio:
        if audio == STDIN:
            found.append(
                PipeSource(
                    _standard_input(),
                    rate,
                    raw_rate=args.rate,
                    channels=args.channels,
                    form=args.format,
                    channel=args.channel,
                    scale=args.scale,
                    live=args.realtime,
                )
            )
        elif "://" in audio:
            found.append(NetworkSource(audio, rate, channel=args.channel))
        else:
            found.append(FileSource(audio, rate, realtime=args.realtime, channel=args.channel, scale=args.scale))
    names: set[str] = set()
    for source in found:  # streams may differ in their query alone, such as the channels of a recorder
        name, number = source.name, 1
        while source.name in names:
            number += 1
            source.name = f"{name} ({number})"
        names.add(source.name)
    return tuple(found)


def _standard_input() -> BinaryIO:
    """Returns standard input. Not `sys.stdin` itself: at the end of the process, Python waits for its lock, which a
    thread holds that still reads."""
    buffer = sys.stdin.buffer
    try:
        return os.fdopen(os.dup(buffer.fileno()), "rb")
    except (AttributeError, OSError):
        return buffer


def _sinks(args: argparse.Namespace, sense: Sense) -> list[Sink]:
    for option, folder in (("--csv", args.csv), ("--save-clips", args.save_clips)):
        if folder == "":  # a variable that was not set: it would be the current folder
            raise SettingsError(f"{option} without a name; expected a folder, . for the current one")
    sinks: list[Sink] = []
    if args.csv is not None:
        sinks.append(CsvSink(args.csv))
    if args.webhook is not None:
        sinks.append(WebhookSink(args.webhook, headers=_headers(args.webhook_headers)))
    if args.mqtt is not None:
        host, port = _host(args.mqtt)
        if strangers := [name for name in args.mqtt_class or () if name not in sense.labels]:
            raise SettingsError(f"--mqtt-class: {unknown_label(strangers[0], sense.labels)}")
        sinks.append(
            MqttSink(
                host,
                port,
                username=args.mqtt_user,
                password=_password(args),
                tls=args.mqtt_tls,
                node=args.mqtt_node,
                classes=args.mqtt_class,
            )
        )
    return sinks


def _clips(args: argparse.Namespace, rate: int, *, window: float) -> ClipSink | None:
    if args.save_clips is None:
        return None
    sink = ClipSink(
        args.save_clips,
        rate=rate,
        most_seconds=60.0 if args.clip_seconds is None else args.clip_seconds,
        most_bytes=1e9 if args.clips_mb is None else args.clips_mb * 1e6,
        most_days=args.clips_days,
        lag=min(max(30.0, 3 * window), 600.0),
    )
    note(f"{args.save_clips}: the sound of each event is saved here, also of people: tell those who may be heard")
    return sink


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _headers(path: Path | None) -> dict[str, str]:
    """Reads lines "Name: value"."""
    if path is None:
        return {}
    text = read_text(
        path, error=SettingsError, what="a text file of headers, a line 'Name: value' for each", most_bytes=_MOST_BYTES
    )
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in pairs):  # the line is not shown: it may be a token
        raise SettingsError(f"{printable(path)}: a line without a colon; expected 'Name: value' on each")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _host(text: str) -> tuple[str, int | None]:
    """Returns host and port of "host", "host:1883" or "[::1]:1883"."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is not None and "@" in parts.netloc:
        raise SettingsError("--mqtt with a user; expected HOST[:PORT], and --mqtt-user NAME")
    if parts is None or not host or parts.path or parts.query or parts.fragment:
        raise SettingsError(f"--mqtt {printable(text)}; expected HOST or HOST:PORT")
    return host, port


def _password(args: argparse.Namespace) -> str | None:
    """Returns the password for MQTT. It is never on the command line, where every user of the computer may read it."""
    if args.mqtt_user is None:
        return None
    if args.mqtt_password_file is not None:
        what = "a text file with the password alone"
        text = read_text(args.mqtt_password_file, error=SettingsError, what=what, most_bytes=_MOST_BYTES)
        return text.rstrip("\r\n")
    return os.environ.get(PASSWORD_VARIABLE)
