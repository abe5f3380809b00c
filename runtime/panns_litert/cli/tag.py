"""Commands for tags and classes: tag, labels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.cli.jsonlines import JsonLines, file_state
from panns_litert.cli.options import (
    STDIN,
    add_audio_options,
    add_model_options,
    add_prototype_options,
    add_sense_options,
    add_settings_option,
    open_tagger,
    require_rate,
    sense_arguments,
    sense_of,
    settings_of,
    threshold_of,
)
from panns_litert.cli.output import AddCommand, note, print_json, print_tagging
from panns_litert.cli.recordings import each_source, open_recording, print_window, window_row, windows_of
from panns_litert.errors import PictureError
from panns_litert.escape import escaped
from panns_litert.sense import Ontology
from panns_litert.settings import TaggerSettings
from panns_litert.tagger import Tagger, require_choice
from panns_litert.windows import AGGREGATES, Aggregate, StreamTagger
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds tag and labels."""
    sub = command("tag", run_tag)
    add_audio_options(sub)
    add_model_options(sub)
    add_prototype_options(sub)
    sub.add_argument("--top", type=int, default=5, help="largest number of tags (default %(default)s)")
    sub.add_argument("--threshold", type=float, help="least probability of a tag (default 0)")
    add_settings_option(sub)
    sub.add_argument("--hop", type=float, help="seconds from window to window (default: a window, no overlap)")
    sub.add_argument("--aggregate", choices=AGGREGATES, default="mean", help="over the windows (default %(default)s)")
    sub.add_argument("--windows", action="store_true", help="also print the tags of every window")
    sub.add_argument("--embedding", action="store_true", help="with --json or --out: include the embedding")
    sub.add_argument("--html", type=Path, metavar="FILE", help="also write a page with player, timeline and tags")
    sub.add_argument("--out", type=Path, help="write JSON lines to this file; an interrupted run continues there")
    add_sense_options(sub)

    sub = command("labels", run_labels)
    sub.add_argument("pattern", nargs="?", default="", help="only names that contain this text")
    sub.add_argument("--tree", action="store_true", help="as a tree, by AudioSet's ontology")
    add_model_options(sub)


def run_tag(args: argparse.Namespace) -> int:
    """Runs `tag`. A recording that cannot be used is reported; the others are still tagged."""
    require_rate(args)
    require_choice(args.top, args.threshold or 0.0)
    tagger = open_tagger(args)
    if args.embedding:
        tagger.bundle.require_embedding()
    if args.html is not None and (args.out is not None or STDIN in args.audio):
        raise PictureError("--html: expected recordings in files, which the page can play, and no --out")
    settings = settings_of(args, tagger.bundle)
    sense = sense_of(args, tagger.labels, settings)
    threshold = threshold_of(args, settings, sense, enrolled=tagger.enrolled)
    hop = tagger.bundle.manifest.clip_seconds if args.hop is None else args.hop
    StreamTagger(tagger, hop=hop)  # raises now if the hop is out of range
    results: list[dict[str, Any]] = []
    heard: list[str] = []

    def one(source: str) -> dict[str, Any]:
        aggregate = Aggregate(tagger, aggregate=args.aggregate, sense=sense)
        stream, rows = StreamTagger(tagger, hop=hop), []
        with open_recording(args, source, tagger.bundle.manifest.front_end.sample_rate) as blocks:
            for window in windows_of(args, stream, blocks):
                aggregate.push(window)
                if args.windows:
                    rows.append(window_row(window, sense, top=args.top, threshold=threshold))
                    if not args.json and args.out is None:
                        print_window(rows[-1])
        found = aggregate.result(source, heard=blocks, top=args.top, threshold=threshold)
        if not args.json and args.out is None:
            print_tagging(found)
        if args.html is not None:
            heard.append(source)
        row = found.to_dict(embedding=args.embedding) | {"source": escaped(source)}
        return row | ({"heard": rows} if args.windows else {})

    if args.out is not None:
        return _tag_into(args, _settings(args, tagger, hop, settings) | {"threshold": threshold}, one)
    try:
        failed = each_source(args, one, results.append)
    except BaseException:  # for example Ctrl-C: what was computed is kept
        if args.json:
            print_json({"results": results, "interrupted": True})
        raise
    if args.html is not None:
        from panns_litert.pictures import timeline, write_page

        options = {"hop": args.hop, "sense": sense, "settings": settings.events}
        write_page(args.html, (timeline(tagger, source, **options) for source in heard), top=args.top)
    if args.json:
        print_json({"results": results} | ({"page": str(args.html)} if args.html else {}))
    elif args.html is not None:
        print(args.html)
    return 2 if failed else 0


_NO_SETTINGS = [
    "command", "run", "verbose", "json", "audio", "out", "html", "bundle", "model", "threads", "silence", "settings",
    "prototypes", "no_prototypes",
]  # fmt: skip
"""Options of `tag` that do not change a result, or that `_settings` has in another form."""


def _tag_into(args: argparse.Namespace, settings: dict[str, Any], one: Callable[[str], dict[str, Any]]) -> int:
    """Writes the results to the file of --out, and at the end how many there are."""

    def kept(source: str) -> dict[str, Any]:
        file = file_state(source)  # first, so that a change during the run is noticed by the next one
        return one(source) | {"file": file}

    with JsonLines(args.out, settings) as lines:
        try:
            failed = each_source(args, kept, lines.write, lines)
        finally:  # also if the run is interrupted
            done = f"tagged {counted(lines.tagged, 'recording')}, skipped {lines.skipped} (already there)"
            note(f"{args.out}: {done}, {lines.failed} failed")
    if args.json:
        print_json({"out": str(args.out), "tagged": lines.tagged, "skipped": lines.skipped, "failed": lines.failed})
    return 2 if failed else 0


def _settings(args: argparse.Namespace, tagger: Tagger, hop: float, settings: TaggerSettings) -> dict[str, Any]:
    """Returns everything that changes a result: the model, its engine, the options, and the contents of their files."""
    manifest = tagger.bundle.manifest
    model = {"model": manifest.model, "precision": manifest.precision, "window": manifest.clip_seconds}
    hashes = {f"{role}_sha256": manifest.files[manifest.file(role)].sha256 for role in ("model", "mel_basis", "labels")}
    options = {name: value for name, value in vars(args).items() if name not in _NO_SETTINGS}
    changed = {"engine": tagger.engine, "hop": hop} | sense_arguments(args, settings)
    if tagger.prototypes is not None:
        changed["prototypes"] = tagger.prototypes.answers_sha256
    return model | hashes | {"front_end": asdict(manifest.front_end)} | options | changed


def run_labels(args: argparse.Namespace) -> int:
    """Runs `labels`: prints the classes of a model, or of AudioSet if no model is named."""
    labels = Ontology.load().labels
    if args.bundle is not None or args.model is not None:
        labels = open_tagger(args).labels
    wanted = args.pattern.casefold()
    if args.tree:
        lines = list(_tree(Ontology.load(labels), wanted))
    else:
        lines = [f"{index:4d}  {label}" for index, label in enumerate(labels) if wanted in label.casefold()]
    if args.json:
        rows = [{"index": i, "label": label} for i, label in enumerate(labels) if wanted in label.casefold()]
        return print_json({"labels": rows})
    print("\n".join(lines) if lines else f"no class contains {args.pattern!r}")
    return 0


def _tree(ontology: Ontology, wanted: str) -> Iterator[str]:
    """Yields the lines of the nodes whose name contains the text, and of all nodes above them."""
    classes = set(ontology.labels)

    def lines(name: str, depth: int) -> list[str]:
        below = [line for child in ontology.children(name) for line in lines(child, depth + 1)]
        if below or (wanted in name.casefold() and (depth or name in classes)):
            return [f"{'  ' * depth}{name}{'' if name in classes else ' (no class)'}", *below]
        return []

    for root in ontology.roots:
        yield from lines(root, 0)
