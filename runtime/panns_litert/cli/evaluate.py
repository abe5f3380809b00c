"""Commands for labelled clips: evaluate, enroll."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.atomic import writing
from panns_litert.audio import audio_files
from panns_litert.bundle import file_sha256
from panns_litert.cli.extensions import converter
from panns_litert.cli.options import DEFAULT_ENGINE, add_bundle_options, add_model_options, bundle_for, open_tagger
from panns_litert.cli.output import (
    DATA_HELP,
    SHOWN_SKIPPED,
    AddCommand,
    note,
    print_dataset,
    print_figures,
    print_json,
    watching,
)
from panns_litert.cli.recordings import print_warnings
from panns_litert.errors import AudioError, DatasetError, PrototypeError, why_failed
from panns_litert.evaluate import (
    Dataset,
    Figures,
    LabelledClip,
    Skipped,
    evaluate,
    figures,
    plot_worst,
    read_dataset,
    score,
)
from panns_litert.pictures import picture_format
from panns_litert.search import Prototypes, prototypes_path
from panns_litert.tagger import ENGINES, Tagger
from panns_litert.windows import tag_long
from panns_litert.words import counted

WAIT_SECONDS = 30.0
"""How long `enroll` waits for another one that writes the same file."""


def add_commands(command: AddCommand) -> None:
    """Adds evaluate and enroll."""
    sub = command("evaluate", run_evaluate)
    sub.add_argument("--data", type=Path, required=True, help=DATA_HELP)
    sub.add_argument("--fold", help="use only the clips of this fold of the CSV")
    add_bundle_options(sub)
    sub.add_argument(
        "--engine",
        nargs="+",
        choices=ENGINES,
        default=[DEFAULT_ENGINE],
        help=f"one or several (default {DEFAULT_ENGINE})",
    )
    sub.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    sub.add_argument("--checkpoint", type=Path, help="checkpoint of the bundle: also print PyTorch's figures")
    sub.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of the classes with the worst figures")

    sub = command("enroll", run_enroll)
    sub.add_argument("name", help="name of the class; a class of the same name is replaced")
    sub.add_argument("clips", nargs="+", help="audio files and folders")
    add_model_options(sub)
    sub.add_argument("--prototypes", type=Path, help="file of the classes (default: BUNDLE.prototypes.json)")
    sub.add_argument("--test", type=Path, metavar="DATA", help="measure the accuracy on these other labelled clips")


def run_evaluate(args: argparse.Namespace) -> int:
    """Runs `evaluate`: prints the figures of a bundle on every engine."""
    if args.plot is not None:
        picture_format(args.plot)  # before the clips, which may be many, are heard
    measured: dict[str, Figures] = {}
    dataset: Dataset | None = None
    chosen = bundle_for(args)
    with watching(args) as watch:
        for engine in dict.fromkeys(args.engine):
            with Tagger(chosen, engine=engine, threads=args.threads) as tagger:
                if dataset is None:
                    seconds = tagger.bundle.manifest.clip_seconds
                    dataset = read_dataset(args.data, classes=tagger.labels, seconds=seconds)
                    dataset = dataset if args.fold is None else dataset.of_fold(args.fold)
                measured[f"tflite {tagger.engine}"], dataset = evaluate(tagger, dataset, watch=watch)
        assert dataset is not None  # argparse wants at least one engine
        if args.checkpoint is not None:
            manifest = tagger.bundle.manifest
            probs, dataset = converter("checkpoint_scores")(
                dataset, model=manifest.model, checkpoint=args.checkpoint, seconds=manifest.clip_seconds, watch=watch
            )
            measured = {"torch": figures(probs, dataset.truth(), dataset.classes)} | measured
    if args.plot is not None:
        plot_worst(next(reversed(measured.values())), args.plot)
    if args.json:
        rows = {name: found.to_dict() for name, found in measured.items()}
        skipped = _skipped_rows(dataset.skipped)
        facts = {"bundle": str(tagger.bundle.path), "layout": dataset.layout, "notes": list(dataset.notes)}
        return print_json(facts | {"figures": rows, "skipped": skipped})
    print_figures(measured)
    print_dataset(dataset)
    print(f"{tagger.bundle.path}: {counted(len(dataset.clips), 'clip')}")
    return 0


def run_enroll(args: argparse.Namespace) -> int:
    """Runs `enroll`: adds a class to the prototypes of a bundle."""
    if args.prototypes is None and args.bundle is None and args.model is None:
        raise PrototypeError("the demo bundle belongs to the package; expected --bundle, --model or --prototypes FILE")
    tagger = open_tagger(args)
    if args.prototypes is None and (origin := tagger.bundle.origin) is not None:
        raise PrototypeError(f"{origin} stays as it was published; expected --prototypes FILE")
    path = args.prototypes or prototypes_path(tagger.bundle)
    _known(path, tagger)  # raises before the clips are heard
    files = [file for name in args.clips for file in (audio_files(name) if Path(name).is_dir() else [Path(name)])]
    embeddings, skipped = [], []
    for file in files:
        try:
            embeddings.append(_embedding(tagger, file))
        except Exception as error:
            skipped.append(Skipped(path=file, reason=why_failed(str(file), error)))
    if not embeddings:
        raise AudioError(f"none of {counted(len(files), 'clip')} can be used; {skipped[0].reason}")
    accuracy, tested = None, None
    with writing(path, wait=WAIT_SECONDS, error=PrototypeError):
        known = _known(path, tagger).enroll(args.name, np.stack(embeddings))  # read again: others may have added to it
        if args.test is not None:
            tested = read_dataset(args.test, classes=known.labels)
            accuracy, tested = _accuracy(tagger, known, tested, enrolled=files)
        known.write(path)
    new = known.classes[-1]
    if args.json:
        data: dict[str, Any] = {"prototypes": str(path), "name": new.name, "count": new.count}
        data |= {"threshold": new.threshold, "classes": list(known.labels), "accuracy": accuracy}
        data["skipped"] = _skipped_rows(skipped)
        return print_json(data | {"tested": len(tested.clips) if tested else 0})
    for one in skipped[:SHOWN_SKIPPED]:
        note(f"skipped {one.path}: {one.reason}")
    classes = counted(len(known.classes), "class", "classes")
    print(f"{path}: {new.name!r} from {counted(new.count, 'clip')} ({len(skipped)} skipped), "
          f"threshold {new.threshold:.3f}; {classes}")  # fmt: skip
    if accuracy is not None and tested is not None:
        print(
            f"the nearest class is right for {accuracy:.1%} of {counted(len(tested.clips), 'clip')} "
            "that were not enrolled"
        )
    return 0


def _known(path: Path, tagger: Tagger) -> Prototypes:
    known = Prototypes.read(path) if path.exists() else Prototypes.of_bundle(tagger.bundle)
    known.require_model(tagger.bundle)
    return known


def _embedding(tagger: Tagger, file: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = tag_long(tagger, file, top=1)
    print_warnings(str(file), found.warnings)
    if not found.embedding.any():
        raise AudioError(f"{file}: the model hears nothing in it; expected a clip with a sound")
    return found.embedding


def _clip_embedding(tagger: Tagger, clip: LabelledClip) -> np.ndarray[Any, np.dtype[np.float32]]:
    if clip.start is None and clip.end is None:
        return _embedding(tagger, clip.path)
    rate = tagger.bundle.manifest.front_end.sample_rate
    return tag_long(tagger, clip.read(sample_rate=rate).waveform, sample_rate=rate, top=1).embedding


def _accuracy(
    tagger: Tagger, prototypes: Prototypes, dataset: Dataset, *, enrolled: Sequence[Path]
) -> tuple[float, Dataset]:
    """Returns the share of clips whose nearest prototype is one of their classes, and the clips that could be read."""
    used = {file_sha256(file) for file in enrolled if file.is_file()}
    if both := [clip.path for clip in dataset.clips if clip.sha256 in used]:
        raise DatasetError(f"{both[0]} is enrolled and tested; expected other clips to test with")
    scores, dataset = score(dataset, lambda clip: prototypes.scores(_clip_embedding(tagger, clip)))
    right = [dataset.classes[row.argmax()] in clip.labels for row, clip in zip(scores, dataset.clips, strict=True)]
    return float(np.mean(right)), dataset


def _skipped_rows(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    return [{"file": str(one.path), "reason": one.reason} for one in skipped]
