"""Commands that compare recordings: embed, similar, match, index, search."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.audio import AudioBlocks
from panns_litert.cli.options import add_channel_options, add_model_options, open_tagger
from panns_litert.cli.output import AddCommand, counting, failure, note, print_json, print_table
from panns_litert.cli.recordings import of_recording, print_warnings
from panns_litert.errors import EmbeddingError
from panns_litert.escape import escaped
from panns_litert.search import FORMATS, MATCH_LIMITS, MATCH_SPEC, Embeddings, Index, embed, match, similar
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds embed, similar, match, index and search."""
    sub = command("embed", run_embed)
    sub.add_argument("audio", nargs="+", help="audio files (WAV, FLAC, OGG, MP3, …)")
    sub.add_argument("--out", type=Path, default=Path(), help="folder of the files (default: the current one)")
    sub.add_argument("--format", choices=FORMATS, default="npz", help="npy: only vectors (default %(default)s)")
    add_channel_options(sub)
    _add_hop(sub)
    add_model_options(sub)

    sub = command("similar", run_similar)
    sub.add_argument("a")
    sub.add_argument("b")
    add_model_options(sub)

    sub = command("match", run_match)
    sub.add_argument("query")
    sub.add_argument("reference")
    for name, default, text in (
        ("threshold", 0.6, "least correlation"),
        ("min_seconds", 2.0, "least length of a match, seconds"),
        ("speed_change", 0.06, "largest relative difference in speed"),
    ):
        least, most = MATCH_LIMITS[name]
        limits = f"{least:g} … {most:g}" if math.isfinite(most) else f"≥ {least:g}"
        text += f", {limits} (default %(default)g)"
        sub.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help=text)

    sub = command("index", run_index)
    sub.add_argument("index", type=Path, help="folder of the index")
    sub.add_argument("audio", nargs="+", help="audio files and folders")
    _add_hop(sub)
    add_model_options(sub)

    sub = command("search", run_search)
    sub.add_argument("index", type=Path, help="folder of the index")
    sub.add_argument("audio")
    sub.add_argument("--top", type=int, default=10, help="largest number of recordings (default %(default)s)")
    add_model_options(sub)


def _add_hop(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--hop", type=float, help="seconds from window to window (default: a window, no overlap)")


def run_embed(args: argparse.Namespace) -> int:
    """Runs `embed`. A file that cannot be used is reported; the others are still processed."""
    targets = [args.out / f"{Path(name).name}.{args.format}" for name in args.audio]
    if len(set(targets)) < len(targets):
        raise EmbeddingError("files of the same name; expected different ones, or one run with its own --out for each")
    tagger = open_tagger(args)
    tagger.bundle.require_embedding()  # once, and not for each recording
    args.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    failed = False
    for name, target in zip(args.audio, targets, strict=True):
        try:
            found = embed(tagger, name, channel=args.channel, scale=args.scale, hop=args.hop)
        except Exception as error:
            failed = True
            results.append(failure(name, of_recording(name, error)))
            continue
        print_warnings(name, found.warnings)
        found.save(target)
        results.append(_summary(found) | {"file": str(target)})
        if not args.json:
            windows, dim = found.vectors.shape
            print(f"{escaped(target)}: {counted(windows, 'window')} × {dim}")
    if args.json:
        print_json({"results": results})
    return 2 if failed else 0


def _summary(found: Embeddings) -> dict[str, Any]:
    data = {"source": found.source, "model": found.model, "model_sha256": found.model_sha256}
    windows, dim = found.vectors.shape
    sizes = {"window": found.window, "hop": found.hop, "windows": windows, "dim": dim}
    heard = {"seconds": float(found.ends[-1]), "seconds_heard": found.seconds_heard, "warnings": list(found.warnings)}
    return data | sizes | heard | {"clip": found.clip.tolist()}


def run_similar(args: argparse.Namespace) -> int:
    """Runs `similar`: prints the similarity of two files."""
    tagger = open_tagger(args)
    a, b = embed(tagger, args.a), embed(tagger, args.b)
    for one in (a, b):
        print_warnings(one.source, one.warnings)
    score = similar(a, b)
    if args.json:
        model = tagger.bundle.manifest.model
        warnings = [*a.warnings, *b.warnings]
        return print_json({"a": args.a, "b": args.b, "model": model, "similar": score, "warnings": warnings})
    print(f"{score:.3f}")
    return 0


def run_match(args: argparse.Namespace) -> int:
    """Runs `match`: prints where parts of the query are in the reference."""
    rate = MATCH_SPEC.sample_rate
    with AudioBlocks(args.query, sample_rate=rate) as query, AudioBlocks(args.reference, sample_rate=rate) as reference:
        found = match(
            query,
            reference,
            threshold=args.threshold,
            min_seconds=args.min_seconds,
            speed_change=args.speed_change,
        )
    for one in (query, reference):
        print_warnings(one.name, one.warnings)
    if args.json:
        matches = [asdict(m) for m in found]
        warnings = [*query.warnings, *reference.warnings]
        names = {"query": args.query, "reference": args.reference}
        return print_json(names | {"matches": matches, "warnings": warnings})
    if not found:
        print(f"{escaped(args.query)}: not heard in {escaped(args.reference)}")
        return 0
    rows = [
        {
            "query": f"{m.query_start:.2f} – {m.query_end:.2f} s",
            "reference": f"{m.reference_start:.2f} – {m.reference_end:.2f} s",
            "score": f"{m.score:.2f}",
            "speed": f"{m.speed:.2f}",
        }
        for m in found
    ]
    print_table(rows, optional=("speed",))
    return 0


def run_index(args: argparse.Namespace) -> int:
    """Runs `index`. A file that cannot be used is reported; the others are still indexed."""
    tagger = open_tagger(args)
    taken = total = 0
    with counting(args, "index", keep=True) as count:

        def report(number: int, of: int, source: str, error: str | None) -> None:
            nonlocal taken, total
            taken, total = taken + (error is None), of
            if error is not None:
                print(f"panns-litert: {error}", file=sys.stderr)
            count(number, of)

        index = Index.build(args.index, tagger, args.audio, hop=args.hop, report=report)
    for source, warnings in index.warned.items():
        print_warnings(source, warnings)
    if args.json:
        print_json(
            {
                "index": str(args.index),
                "model": index.model,
                "recordings": len(index.sources),
                "windows": index.windows,
                "failed": [{"source": source, "error": error} for source, error in index.failed.items()],
                "warned": [{"source": source, "warnings": list(found)} for source, found in index.warned.items()],
            }
        )
    else:
        if index.failed:
            note(f"{counted(len(index.failed), 'file')} could not be used; see above")
        found = f"{counted(len(index.sources), 'recording')}, {counted(index.windows, 'window')}, by {index.model}"
        print(f"Indexed {taken} of {counted(total, 'file')}; {escaped(args.index)} now has {found}.")
    return 2 if index.failed else 0


def run_search(args: argparse.Namespace) -> int:
    """Runs `search`: prints the recordings of the index that sound most like a file."""
    tagger = open_tagger(args)
    index = Index(args.index)
    query = embed(tagger, args.audio)
    print_warnings(query.source, query.warnings)
    hits = index.search(query, top=args.top)
    if args.json:
        return print_json({"query": args.audio, "model": index.model, "hits": [asdict(hit) for hit in hits]})
    for hit in hits:
        print(f"  {hit.score:6.3f}  {hit.start:.1f} – {hit.end:.1f} s  {escaped(hit.source)}")
    return 0
