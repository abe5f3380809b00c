"""Options of several commands: the model, the recordings, and how the scores are changed."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panns_litert.atomic import writing
from panns_litert.audio import LEAST_RATE, MOST_RATE, RAW_FORMATS, SCALES, no_audio, scan_folder
from panns_litert.bundle import (
    CACHE_VARIABLE,
    RECOMMENDED_MODEL,
    Bundle,
    cache_dir,
    find_bundle,
    open_bundle,
)
from panns_litert.cli.extensions import converter
from panns_litert.cli.output import note, progress_wanted
from panns_litert.errors import (
    AudioError,
    BundleError,
    LabelError,
    MissingDependencyError,
    ModelError,
    PrototypeError,
    SettingsError,
)
from panns_litert.events import THRESHOLDS, EventSettings
from panns_litert.prototypes import Prototypes, prototypes_path, with_enrolled
from panns_litert.sense import Sense
from panns_litert.settings import TaggerSettings
from panns_litert.strict import printable, read_json
from panns_litert.tagger import ENGINES, Tagger, Threshold
from panns_litert.words import counted

STDIN = "-"
DEFAULT_ENGINE = "cpu"
_WAIT_SECONDS = 3600.0  # for another run's conversion, which may download first


BUNDLE_HELP = "a model's name (converted first if necessary), a bundle's folder, or hf:ORG/NAME[@REVISION]"
"""Help of an argument that `named_bundle` opens."""


def add_model_options(
    sub: argparse.ArgumentParser,
    *,
    threads: int | None = None,
    threads_help: str = "CPU threads (default: all cores)",
) -> None:
    """Adds --bundle, --model, --engine and --threads, whose default is `threads`."""
    add_bundle_options(sub)
    sub.add_argument(
        "--engine", choices=ENGINES, default=DEFAULT_ENGINE, help="auto checks the GPU first (default %(default)s)"
    )
    sub.add_argument("--threads", type=int, default=threads, help=threads_help)


def add_bundle_options(sub: argparse.ArgumentParser) -> None:
    """Adds --model and --bundle, which `bundle_for` reads."""
    sub.add_argument("--model", help=BUNDLE_HELP)
    sub.add_argument("--bundle", metavar="MODEL", help="the same as --model")


def add_prototype_options(sub: argparse.ArgumentParser) -> None:
    """Adds --prototypes and --no-prototypes, which `prototypes_for` reads."""
    group = sub.add_mutually_exclusive_group()
    group.add_argument(
        "--prototypes", type=Path, metavar="FILE", help="enrolled classes (default: BUNDLE.prototypes.json, if present)"
    )
    group.add_argument("--no-prototypes", action="store_true", help="leave out the enrolled classes")


def prototypes_for(args: argparse.Namespace, bundle: Bundle | None) -> Prototypes | None:
    """Returns the enrolled classes that the options name, or those beside the bundle, and says so in a note.

    Raises:
        PrototypeError: the file cannot be read, or it is not for this bundle.
    """
    if getattr(args, "no_prototypes", True):  # also for commands without these options
        return None
    path: Path | None = args.prototypes
    if path is None:
        path = None if bundle is None else prototypes_path(bundle)
        if path is None or not path.exists():
            return None
    try:
        known = Prototypes.read(path)
        known.require_model(open_bundle(bundle))
    except PrototypeError as error:
        text = str(error)
        where = "" if text.startswith(printable(path)) else f"{printable(path)}: "
        raise PrototypeError(f"{where}{text}; --no-prototypes leaves the enrolled classes out") from error
    note(f"{path}: {counted(len(known.classes), 'enrolled class', 'enrolled classes')}: {', '.join(known.labels)}")
    return known


def open_tagger(args: argparse.Namespace) -> Tagger:
    """Opens the tagger that the options name, with the enrolled classes if the command has options for them."""
    bundle = bundle_for(args)
    prototypes = prototypes_for(args, bundle)
    tagger = Tagger(bundle, engine=args.engine, threads=args.threads, prototypes=prototypes)
    if tagger.fallback:
        note(f"on the CPU: {tagger.fallback}")
    return tagger


def bundle_for(args: argparse.Namespace) -> Bundle | None:
    """Returns the bundle that --model or --bundle names, as `named_bundle` does.

    Without both options, returns None, which stands for the demo bundle, and prints a note.

    Raises:
        BundleError: both options are given.
        PannsLitertError: as for `named_bundle`.
    """
    if args.bundle is not None and args.model is not None:
        raise BundleError("--bundle and --model together; expected one of them")
    name = args.bundle if args.model is None else args.model
    if name is None:
        note(f"using the demo bundle (synthetic sounds, not PANNs); --model {RECOMMENDED_MODEL} for AudioSet")
        return None
    return named_bundle(args, name)


def named_bundle(args: argparse.Namespace, name: str) -> Bundle:
    """Opens the bundle that an argument names, as `open_bundle` does. Converts a model first if it is not in the cache.

    Of several runs that need the same model, one converts it and the others wait for its bundle.

    Raises:
        BundleError: there is no such bundle, it is incomplete or altered, or the cache holds another one in its place.
        ModelError: there is no such model.
        DownloadError: the hub has no such repository, or it cannot be reached.
        MissingDependencyError: the converter or huggingface_hub is needed and is not installed.
    """
    if (found := find_bundle(name, progress=progress_wanted(args))) is not None:
        return found
    try:
        return _converted(args, name.casefold())
    except ModelError as error:
        raise ModelError(f"no bundle at {printable(name)}, and {error}") from error
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"no bundle at {printable(name)}, and none of that name in the cache; to convert the model, {error}; "
            "hf:ORG/NAME opens a published bundle without that"
        ) from error


def _converted(args: argparse.Namespace, name: str) -> Bundle:
    """Converts a model, or waits for another run that does."""
    convert = converter("convert_bundle")
    with contextlib.ExitStack() as stack:
        converting = cache_dir() / "bundles" / name
        try:
            converting.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BundleError(f"{converting.parent}: {error.strerror}; point {CACHE_VARIABLE} elsewhere") from error
        try:
            stack.enter_context(writing(converting, error=BundleError))
        except BundleError:
            note(f"another run is converting {name}; waiting for its bundle")
            stack.enter_context(writing(converting, wait=_WAIT_SECONDS, error=BundleError))
        found: Bundle = find_bundle(name) or convert(args, name)
        return found


def add_audio_options(sub: argparse.ArgumentParser) -> None:
    """Adds the recordings, and the format of raw samples on standard input, which have no header."""
    sub.add_argument("audio", nargs="+", help="files (WAV, FLAC, OGG, MP3, …), folders, or - for standard input")
    add_raw_options(sub)
    add_channel_options(sub)


def add_channel_options(sub: argparse.ArgumentParser) -> None:
    """Adds --channel and --scale."""
    sub.add_argument("--channel", type=int, metavar="N", help="hear only this channel, from 1 (default: their mean)")
    sub.add_argument("--scale", choices=SCALES, help="of float samples that are not within -1 to 1")


def add_raw_options(sub: argparse.ArgumentParser) -> None:
    """Adds --rate, --channels and --format."""
    sub.add_argument("--rate", type=int, help="sample rate of raw samples, without a header, on standard input (-), Hz")
    sub.add_argument("--channels", type=int, default=1, help="channels of raw samples (default %(default)s)")
    sub.add_argument("--format", choices=RAW_FORMATS, default="s16le", help="of raw samples (default %(default)s)")


def require_rate(args: argparse.Namespace) -> None:
    """Checks --rate, whether or not it will be needed.

    Raises:
        AudioError: it is out of range. A rate that is far too low would make hours of a second of samples.
    """
    if args.rate is not None and not LEAST_RATE <= args.rate <= MOST_RATE:
        raise AudioError(
            f"--rate {args.rate}; expected the sample rate of the raw samples, {LEAST_RATE} … {MOST_RATE} Hz"
        )


def sources(args: argparse.Namespace) -> Iterator[str]:
    """Yields the recordings: files as given, the files of folders, or - for standard input.

    Raises:
        AudioError: - is given together with other recordings.
    """
    if STDIN in args.audio:
        if len(args.audio) > 1:
            raise AudioError("standard input (-) together with other recordings; expected it alone")
        yield STDIN
        return
    notes = []
    for name in args.audio:
        if not Path(name).is_dir():
            yield name
            continue
        found = scan_folder(name)
        if not found.audio:
            raise no_audio(name, found)
        yield from map(str, found.audio)
        notes += [f"{name}: {found.note}"] if found.note else []
    for text in notes:  # last, where they are seen
        note(text)


def add_settings_option(
    sub: argparse.ArgumentParser, text: str = "thresholds and temperature, as evaluate --write-settings writes"
) -> None:
    """Adds --settings, which `settings_of` reads."""
    sub.add_argument("--settings", type=Path, metavar="JSON", help=text)


def settings_of(args: argparse.Namespace, bundle: Bundle) -> TaggerSettings:
    """Returns the settings of --settings, or those that the other options give.

    Raises:
        SettingsError: the file cannot be read, is of another model, or an option is given for what the file is for.
        EventError: a threshold is out of range.
    """
    given = {name: getattr(args, name) for name in THRESHOLDS if hasattr(args, name)}
    if args.settings is None:
        return TaggerSettings(events=EventSettings(**given))
    changed = [name.replace("_", "-") for name, value in given.items() if value != getattr(EventSettings, name)]
    if changed or getattr(args, "threshold", None) is not None:
        raise SettingsError(f"--settings and --{(changed or ['threshold'])[0]} together; expected one of them")
    settings = TaggerSettings.load(args.settings)
    settings.require_model(bundle)
    return settings


def threshold_of(
    args: argparse.Namespace,
    settings: TaggerSettings,
    sense: Sense,
    *,
    default: float = 0.0,
    enrolled: Sequence[str] = (),
) -> Threshold:
    """Returns the least score of a tag: of --settings for each label of `sense`, of --threshold, or the default.

    Classes of `enrolled`, and groups of them alone, have their own threshold, unless the settings have one.
    """
    if args.settings is not None:
        events = with_enrolled(settings.events, sense.labels_of(enrolled)) or settings.events
        return [float(least) for least in replace(settings, events=events).thresholds(sense.labels)]
    return default if args.threshold is None else float(args.threshold)


def add_sense_options(sub: argparse.ArgumentParser) -> None:
    """Adds the options that change the model's scores."""
    group = sub.add_argument_group("options that change the scores")
    group.add_argument("--roll-up", action="store_true", help="a dog is also an animal (AudioSet's ontology)")
    group.add_argument("--allow", nargs="+", metavar="CLASS", help="only these; 'Animal/' is a class and all below it")
    group.add_argument("--deny", nargs="+", default=[], metavar="CLASS", help="leave out these classes")
    group.add_argument("--groups", type=Path, metavar="JSON", help='{"pets": ["Dog/", "Cat/"], …} instead of classes')
    group.add_argument("--silence", type=float, metavar="DBFS", help="set the scores of windows below this level to 0")
    group.add_argument("--temperature", metavar="T|JSON", help='divides the logits; a file has {"Dog": 1.5, …}')


def sense_of(args: argparse.Namespace, labels: Sequence[str], settings: TaggerSettings) -> Sense:
    """Returns the `Sense` of the options and the settings for these classes.

    Raises:
        LabelError, SettingsError: as for `sense_arguments`; or a name is no class.
    """
    return Sense(labels, **sense_arguments(args, settings))


def sense_arguments(args: argparse.Namespace, settings: TaggerSettings) -> dict[str, Any]:
    """Returns the options and the settings as arguments of `Sense`. Reads the files of the options.

    Raises:
        LabelError: a file cannot be read, or a value in it is not valid.
        SettingsError: the settings have a temperature or groups, and an option gives others.
    """
    default = TaggerSettings()
    if args.temperature is not None and settings.temperature != default.temperature:
        raise SettingsError(f"--temperature, and {args.settings} has one, too; expected one of them")
    if args.groups is not None and settings.groups is not None:
        raise SettingsError(f"--groups, and {args.settings} has groups, too; expected one of them")
    temperature: float | Mapping[str, float] = settings.temperature
    if args.temperature is not None:
        try:
            temperature = float(args.temperature)
        except ValueError:
            temperature = _object(Path(args.temperature))
    groups = settings.groups if args.groups is None else groups_of(args.groups)
    if args.silence is not None and not math.isfinite(args.silence):
        raise LabelError(f"--silence {args.silence}; expected a level in dB, such as -60")
    return {
        "temperature": temperature,
        "silence_dbfs": args.silence,
        "roll_up": args.roll_up,
        "allow": args.allow,
        "deny": args.deny,
        "groups": groups,
    }


def groups_of(path: Path) -> dict[str, list[str]]:
    """Reads a file of groups.

    Raises:
        LabelError: the file cannot be read or has another form.
    """
    groups = _object(path)
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in groups.values()):
        raise LabelError(f'{path}: expected {{"group": ["class", …], …}}')
    return groups


def _object(path: Path) -> dict[str, Any]:
    data = read_json(path, error=LabelError, what="a JSON file with class names")
    if not isinstance(data, dict) or not data:
        raise LabelError(f"{printable(path)}: expected a JSON object with names")
    return data
