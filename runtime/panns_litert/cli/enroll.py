"""Command for classes of the user's own, without training: enroll."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import no_audio, scan_folder
from panns_litert.bundle import file_sha256
from panns_litert.cli.options import add_model_options, open_tagger
from panns_litert.cli.output import SHOWN_SKIPPED, AddCommand, counting, note, print_json
from panns_litert.cli.recordings import print_warnings
from panns_litert.errors import DatasetError, PrototypeError
from panns_litert.evaluate import Dataset, LabelledClip, read_dataset, score
from panns_litert.prototypes import THRESHOLD_SCORE, Prototypes
from panns_litert.search import Enrolment, clip_embeddings, enroll
from panns_litert.tagger import Tagger
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds enroll."""
    sub = command("enroll", run_enroll)
    sub.add_argument("name", help="name of the class; a class of the same name is replaced")
    sub.add_argument("clips", nargs="+", help="audio files and folders")
    add_model_options(sub)
    sub.add_argument(
        "--background",
        nargs="+",
        metavar="AUDIO",
        help="files and folders without the sound, from where the model will be used; kept for later classes",
    )
    sub.add_argument("--prototypes", type=Path, help="file of the classes (default: BUNDLE.prototypes.json)")
    sub.add_argument("--test", type=Path, metavar="DATA", help="measure the classes on these other labelled clips")


def run_enroll(args: argparse.Namespace) -> int:
    """Runs `enroll`: adds a class to the prototypes of a bundle."""
    if args.prototypes is None and args.bundle is None and args.model is None:
        raise PrototypeError("the demo bundle belongs to the package; expected --bundle, --model or --prototypes FILE")
    clips = _files(args.clips)
    background = None if args.background is None else _files(args.background)
    tagger = open_tagger(args)
    if args.prototypes is None and (origin := tagger.bundle.origin) is not None:
        raise PrototypeError(f"{origin} stays as it was published; expected --prototypes FILE")
    if args.test is not None:
        _require_untested(args.test, clips)
    with counting(args, "clips") as progress:
        found = enroll(tagger, args.name, clips, path=args.prototypes, background=background, progress=progress)
    tested = None if args.test is None else _tested(tagger, found.prototypes, args.test, found.new.name)
    if args.json:
        return print_json(_row(found) | (tested or {}))
    for source, text in found.warnings:
        print_warnings(source, [text])
    for file, reason in found.skipped[:SHOWN_SKIPPED]:
        note(f"skipped {file}: {reason}")
    if not found.own_background:
        note("the background is the package's demo clips; --background FOLDER of sounds from where the model will be "
             "used gives a better threshold")  # fmt: skip
    classes = counted(len(found.prototypes.classes), "class", "classes")
    print(f"{found.path}: {found.new.name!r} from {counted(found.new.count, 'clip')} ({len(found.skipped)} skipped), "
          f"threshold {found.new.threshold:.3f}; {classes}")  # fmt: skip
    left_out = "" if found.heard is None else f"{found.heard} of {counted(found.new.count, 'clip')}, each left out; "
    print(f"reach it: {left_out}{found.alarms} of {counted(found.background, 'background window')}")
    if tested is not None:
        print(
            f"{counted(tested['tested'], 'other clip')}: {found.new.name!r} has precision "
            f"{_share(tested['precision'])}, recall {_share(tested['recall'])}; the highest score is right for "
            f"{_share(tested['accuracy'])} of those of enrolled classes"
        )
    return 0


def _files(names: Iterable[str]) -> list[Path]:
    """Returns the files, and the audio files of the folders."""
    files: list[Path] = []
    for name in names:
        if not Path(name).is_dir():
            files.append(Path(name))
            continue
        found = scan_folder(name)
        if not found.audio:
            raise no_audio(name, found)
        files += found.audio
        if found.note:
            note(f"{name}: {found.note}")
    return files


def _require_untested(data: Path, clips: Iterable[Path]) -> None:
    used = {file_sha256(file) for file in clips if file.is_file()}
    if both := [clip.path for clip in read_dataset(data).clips if clip.sha256 in used]:
        raise DatasetError(f"{both[0]} is enrolled and tested; expected other clips to test with")


def _sound(tagger: Tagger, clip: LabelledClip) -> Path | NDArray[np.float32]:
    """Returns a clip's file, or the samples of the part of it that the clip is."""
    if clip.start is None and clip.end is None:
        return clip.path
    return clip.read(sample_rate=tagger.bundle.manifest.front_end.sample_rate).waveform


def _tested(tagger: Tagger, prototypes: Prototypes, data: Path, name: str) -> dict[str, Any]:
    """Returns figures of labelled clips: whether the class with the highest score is right, and those of one class.

    A clip's score is the mean over its windows. Clips of other classes only count as negatives.
    """
    dataset: Dataset = read_dataset(data)
    scores, dataset = score(
        dataset,
        lambda clip: np.mean(
            [prototypes.scores(one) for one in clip_embeddings(tagger, _sound(tagger, clip))[0]], axis=0
        ),
    )
    classes = prototypes.labels
    right = [
        classes[row.argmax()] in clip.labels
        for row, clip in zip(scores, dataset.clips, strict=True)
        if not set(classes).isdisjoint(clip.labels)
    ]
    truth = np.array([name in clip.labels for clip in dataset.clips])
    found = scores[:, classes.index(name)] >= THRESHOLD_SCORE
    hits = int((truth & found).sum())
    return {
        "tested": len(dataset.clips),
        "accuracy": float(np.mean(right)) if right else None,
        "precision": hits / int(found.sum()) if found.any() else None,
        "recall": hits / int(truth.sum()) if truth.any() else None,
    }


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _row(found: Enrolment) -> dict[str, Any]:
    return {
        "prototypes": str(found.path),
        "name": found.new.name,
        "count": found.new.count,
        "threshold": found.new.threshold,
        "heard": found.heard,
        "background": found.background,
        "alarms": found.alarms,
        "own_background": found.own_background,
        "classes": list(found.prototypes.labels),
        "skipped": [{"file": file, "reason": reason} for file, reason in found.skipped],
        "warnings": [{"file": file, "warning": text} for file, text in found.warnings],
    }
