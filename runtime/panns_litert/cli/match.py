"""The commands that compare: embed, similar, match, index, search."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panns_litert.cli.options import add_model_options, open_tagger
from panns_litert.cli.output import AddCommand, one_line, print_json, print_table, progress_wanted
from panns_litert.errors import AudioError, EmbeddingError
from panns_litert.search import FORMATS, Embeddings, Index, embed, match, similar


def add_commands(command: AddCommand) -> None:
    """Adds embed, similar, match, index and search."""
    sub = command("embed", run_embed, "Write the embeddings of audio files, window by window.")
    sub.add_argument("audio", nargs="+", help="files that libsndfile reads (WAV, FLAC, OGG, MP3, …)")
    sub.add_argument("--out", type=Path, default=Path(), help="folder for a file of each (default: the current one)")
    sub.add_argument("--format", choices=FORMATS, default="npz", help="default npz; npy: the vectors alone")
    _add_hop(sub)
    add_model_options(sub)

    sub = command("similar", run_similar, "Say how alike two audio files sound, 0 to 1.")
    sub.add_argument("a")
    sub.add_argument("b")
    add_model_options(sub)

    sub = command("match", run_match, "Find where parts of one recording are heard again in another; needs no model.")
    sub.add_argument("query")
    sub.add_argument("reference")
    sub.add_argument("--threshold", type=float, default=0.6, help="least correlation, 0.3 … 1 (default %(default)g)")
    sub.add_argument("--min-seconds", type=float, default=2.0, help="least length, ≥ 1 (default %(default)g)")
    sub.add_argument("--speed-change", type=float, default=0.06, help="at most, 0 … 0.2 (default %(default)g)")

    sub = command("index", run_index, "Index audio files and folders for search; adds to an index that is there.")
    sub.add_argument("index", type=Path, help="folder of the index")
    sub.add_argument("audio", nargs="+", help="files, and folders with files")
    _add_hop(sub)
    add_model_options(sub)

    sub = command("search", run_search, "Find the recordings of an index that sound most like one.")
    sub.add_argument("index", type=Path, help="folder of the index")
    sub.add_argument("audio")
    sub.add_argument("--top", type=int, default=10, help="how many (default 10)")
    add_model_options(sub)


def _add_hop(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--hop", type=float, help="seconds from one window to the next (default: a window)")


def run_embed(args: argparse.Namespace) -> int:
    """`embed`: files to files of embeddings. A bad file is reported and does not stop the rest."""
    targets = [args.out / f"{Path(name).name}.{args.format}" for name in args.audio]
    if len(set(targets)) < len(targets):
        raise EmbeddingError("files of the same name; expected different ones, or one run with its own --out for each")
    tagger = open_tagger(args)
    args.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    failed = False
    for name, target in zip(args.audio, targets, strict=True):
        try:
            found = embed(tagger, name, hop=args.hop)
        except AudioError as error:
            failed = True
            print(f"panns-litert: {one_line(error)}", file=sys.stderr)
            results.append({"source": name, "error": one_line(error)})
            continue
        found.save(target)
        windows, dim = found.vectors.shape
        results.append(_summary(found) | {"file": str(target)})
        if not args.json:
            print(f"{target}: {windows} windows × {dim}")
    if args.json:
        print_json({"results": results})
    return 2 if failed else 0


def _summary(found: Embeddings) -> dict[str, Any]:
    data = {"source": found.source, "model": found.model, "model_sha256": found.model_sha256}
    windows, dim = found.vectors.shape
    sizes = {"window": found.window, "hop": found.hop, "windows": windows, "dim": dim}
    return data | sizes | {"seconds": float(found.ends[-1]), "clip": found.clip.tolist()}


def run_similar(args: argparse.Namespace) -> int:
    """`similar`: two files to one number."""
    tagger = open_tagger(args)
    score = similar(embed(tagger, args.a), embed(tagger, args.b))
    if args.json:
        return print_json({"a": args.a, "b": args.b, "model": tagger.bundle.manifest.model, "similar": score})
    print(f"{score:.3f}")
    return 0


def run_match(args: argparse.Namespace) -> int:
    """`match`: where the query is heard again."""
    found = match(
        args.query,
        args.reference,
        threshold=args.threshold,
        min_seconds=args.min_seconds,
        speed_change=args.speed_change,
    )
    if args.json:
        matches = [asdict(m) for m in found]
        return print_json({"query": args.query, "reference": args.reference, "matches": matches})
    if not found:
        print(f"{args.query}: not heard in {args.reference}")
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
    """`index`: files and folders into an index. A bad file is reported and does not stop the rest."""
    tagger = open_tagger(args)
    with _progress(args) as report:
        index = Index.build(args.index, tagger, args.audio, hop=args.hop, report=report)
    if args.json:
        print_json(
            {
                "index": str(args.index),
                "model": index.model,
                "recordings": len(index.sources),
                "windows": index.windows,
                "failed": [{"source": source, "error": error} for source, error in index.failed.items()],
            }
        )
    else:
        print(f"{args.index}: {len(index.sources)} recordings, {index.windows} windows, {index.model}")
    return 2 if index.failed else 0


@contextlib.contextmanager
def _progress(args: argparse.Namespace) -> Iterator[Callable[[int, int, str, str | None], None]]:
    """Errors as they come, and on a terminal a bar with the time that is left."""

    def fail(error: str | None) -> None:
        if error is not None:
            print(f"panns-litert: {error}", file=sys.stderr)

    if not progress_wanted(args):
        yield lambda number, count, source, error: fail(error)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("index", total=None)

        def report(number: int, count: int, source: str, error: str | None) -> None:
            fail(error)
            progress.update(task, completed=number, total=count)

        yield report


def run_search(args: argparse.Namespace) -> int:
    """`search`: what in the index sounds most like a file."""
    tagger = open_tagger(args)
    index = Index(args.index)
    hits = index.search(embed(tagger, args.audio), top=args.top)
    if args.json:
        return print_json({"query": args.audio, "model": index.model, "hits": [asdict(hit) for hit in hits]})
    for hit in hits:
        print(f"  {hit.score:6.3f}  {hit.start:.1f} – {hit.end:.1f} s  {hit.source}")
    return 0
