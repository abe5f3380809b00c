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
from panns_litert.cli.output import SHOWN_SKIPPED, AddCommand, counting, note, print_dataset, print_json
from panns_litert.cli.recordings import print_warnings
from panns_litert.errors import DatasetError, PrototypeError
from panns_litert.evaluate import Dataset, LabelledClip, read_dataset, score
from panns_litert.prototypes import THRESHOLD_SCORE, Prototypes, prototypes_path
from panns_litert.search import Enrolment, enroll
from panns_litert.tagger import Tagger
from panns_litert.windows import tag_long
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
    test: Dataset | None = None
    if args.test is not None:
        test = read_dataset(args.test, seconds=tagger.bundle.manifest.clip_seconds)
        _require_untested(test, args.name, clips, background, args.prototypes or prototypes_path(tagger.bundle))
    with counting(args, "clips") as progress:
        found = enroll(tagger, args.name, clips, path=args.prototypes, background=background, progress=progress)
    tested = None
    if test is not None:
        tested, test = _tested(args, found, tagger, test)
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
    if tested is not None and test is not None:
        print_dataset(test)
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


def _require_untested(
    dataset: Dataset, name: str, clips: Iterable[Path], background: Iterable[Path] | None, path: Path
) -> None:
    """Refuses clips to test with that are enrolled, now or before, or that are part of the background.

    Raises:
        DatasetError: there is one.
    """
    try:
        known = Prototypes.read(path) if path.exists() else None
    except PrototypeError:
        known = None  # `enroll` says what is wrong with the file
    used: dict[str, str] = {}
    if known is not None:
        others = [one for one in known.classes if one.name != name]
        used |= {digest: f"enrolled as {one.name!r}" for one in others for digest in one.sha256}
        if background is None:
            used |= dict.fromkeys(known.background.sha256, "part of the background")
    used |= {file_sha256(file): "part of the background" for file in background or () if file.is_file()}
    used |= (own := {file_sha256(file): "enrolled" for file in clips if file.is_file()})
    if both := sorted((clip for clip in dataset.clips if clip.sha256 in used), key=lambda clip: clip.sha256 not in own):
        raise DatasetError(f"{both[0].path} is {used[both[0].sha256]} and tested; expected other clips to test with")


def _tested(
    args: argparse.Namespace, found: Enrolment, tagger: Tagger, dataset: Dataset
) -> tuple[dict[str, Any], Dataset]:
    """Returns figures of labelled clips: whether the class with the highest score is right, and those of one class.

    The scores are those of `tag`. Clips of other classes only count as negatives. Also returns the data set without the
    clips that could not be read.
    """
    classes, rate = found.prototypes.labels, tagger.bundle.manifest.front_end.sample_rate
    with Tagger(tagger.bundle, engine=args.engine, threads=args.threads, prototypes=found.prototypes) as hearing:

        def own_scores(clip: LabelledClip) -> NDArray[np.float32]:
            if clip.start is None and clip.end is None:
                heard = tag_long(hearing, clip.path)
            else:  # a part of a file
                heard = tag_long(hearing, clip.read(sample_rate=rate).waveform, sample_rate=rate)
            print_warnings(clip.name, heard.warnings)
            return heard.probs[-len(classes) :]

        scores, dataset = score(dataset, own_scores)
    right = [
        classes[row.argmax()] in clip.labels
        for row, clip in zip(scores, dataset.clips, strict=True)
        if not set(classes).isdisjoint(clip.labels)
    ]
    truth = np.array([found.new.name in clip.labels for clip in dataset.clips])
    reached = scores[:, classes.index(found.new.name)] >= THRESHOLD_SCORE
    hits = int((truth & reached).sum())
    figures = {
        "tested": len(dataset.clips),
        "accuracy": float(np.mean(right)) if right else None,
        "precision": hits / int(reached.sum()) if reached.any() else None,
        "recall": hits / int(truth.sum()) if truth.any() else None,
        "test_skipped": [{"file": str(one.path), "reason": one.reason} for one in dataset.skipped],
    }
    return figures, dataset


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
