"""Data sets of labelled clips: reading them, splitting them for training, and scoring their clips."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import scan_folder
from panns_litert.bundle import file_sha256
from panns_litert.errors import DatasetError, LabelError, why_failed
from panns_litert.evaluate.annotations import CUT_SECONDS, Cutting, cut_recording, label_file, read_labels
from panns_litert.evaluate.clips import Dataset, LabelledClip, Skipped
from panns_litert.evaluate.folders import folder_rows
from panns_litert.evaluate.rows import Listing
from panns_litert.evaluate.tables import COLUMNS, table_rows
from panns_litert.sense import require_class_names, unknown_label
from panns_litert.strict import shown
from panns_litert.words import counted

TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held-out"
"""The folds of a split: the clips to train on, those that decide when to stop, and those for the final test."""

_HASH_DIGITS = 16  # of a file's hash, which name a recording
_HELD_OUT_SHARE, _VALIDATION_SHARE = 0.2, 0.15
_TEST_NAMES = (HELD_OUT, "test", "testing", "eval", "evaluation")
_VALIDATION_NAMES = (VALIDATION, "valid", "val")


def read_dataset(
    source: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    seconds: float = CUT_SECONDS,
    overlap: float = 0.5,
    background: str | None = None,
) -> Dataset:
    """Reads labelled clips from a folder or a table. `Dataset.layout` says what it was taken for.

    A folder has a folder of audio files for every class, at any depth below it. Folders named train, validation, test,
    fold1 and the like, each with folders of classes in it, are folds. A folder in which every recording has a label
    file of Audacity beside it (`rec.wav`, `rec.txt`) has long recordings, which are cut into clips.

    A table is recognised by its columns, which commas, semicolons or tabs separate:

    - `file` (relative to the table), `labels` (separated by ;), and optionally `fold`, `start` and `end` (seconds: the
      part of the file) and `recording` (clips of one recording belong in one fold);
    - those of ESC-50, UrbanSound8K, FSD50K and AudioSet's segments, with the audio where the data set has it;
    - `filename`, `onset`, `offset`, `event_label`: events in long recordings, which are cut into clips;
    - one column of files and one of labels: `fname,label`, `filename,label`, `path,label`, `audio,class`, ….

    Files with the same bytes become one clip with all their labels.

    Args:
        source: the folder or the table; or the label file of one recording.
        classes: the allowed classes, in the order of a model's outputs; the classes that occur, sorted, if not given.
        seconds: length of the clips that long recordings are cut into.
        overlap: least share of an event that a clip must hold to have its label; see `cut`.
        background: label of clips from the parts without an event; None for no such clips.

    Raises:
        DatasetError: the source is missing or malformed, it has no clip, a label is not in `classes`, or two folds have
            the same sound.
    """
    try:
        source = Path(source)
        names = None if classes is None else tuple(classes)
        if isinstance(classes, str) or not all(isinstance(name, str) for name in names or ()):
            raise TypeError(f"classes {shown(classes)}")
    except TypeError as error:
        raise DatasetError(f"{error}; expected the path of a folder or a CSV, and a list of class names") from error
    listing = _listing(source, Cutting(seconds=seconds, overlap=overlap, background=background))
    clips, repeated = _clips(listing)
    if not clips:
        raise DatasetError(f"{source}: no clip; expected audio files{_listed(listing.skipped)}")
    found = sorted({label for clip in clips for label in clip.labels})
    if bad := [label for label in found if ";" in label or not _is_class_name(label)]:
        raise DatasetError(
            f"{source}: class {bad[0]!r}; expected a name of one line in UTF-8, without a semicolon and without "
            "characters that a page does not show"
        )
    wanted = tuple(found) if names is None else names
    if strangers := [label for label in found if label not in wanted]:
        raise DatasetError(f"{source}: {unknown_label(strangers[0], wanted)}")
    dataset = Dataset(
        clips=clips, classes=wanted, skipped=tuple(listing.skipped), repeated=repeated, layout=listing.layout
    )
    return replace(dataset, notes=(*listing.notes, *_apart(dataset)))


def _listing(source: Path, cutting: Cutting) -> Listing:
    if source.is_dir():
        return folder_rows(source, cutting)
    if not source.is_file():
        raise DatasetError(f"{source}: no such folder or file; expected a folder for each class, or a CSV")
    recording = next((path for path in _beside(source) if label_file(path) == source), None)
    if recording is None:
        return table_rows(source, cutting)
    listing = Listing(layout="")
    cut_recording(recording, read_labels(source), cutting, listing)
    listing.layout = f"one recording with a label file, cut into {counted(len(listing.rows), 'clip')}"
    return listing


def _beside(path: Path) -> list[Path]:
    """Returns the audio files beside a text file that have its name."""
    if path.suffix.lower() != ".txt":
        return []
    stem = path.name.removesuffix(".txt").removesuffix(".labels")
    return [file for file in scan_folder(path.parent).audio if file.parent == path.parent and file.stem == stem]


def _clips(listing: Listing) -> tuple[tuple[LabelledClip, ...], int]:
    """Returns the clips of a listing, and how many of them were repeated; adds to its skipped files."""
    merged: dict[str, LabelledClip] = {}
    hashes: dict[Path, str] = {}
    repeated = 0
    for row in listing.rows:
        path = row.path
        if path not in hashes:
            try:
                hashes[path] = file_sha256(path) if path.is_file() else ""
                reason = "no such file"
            except OSError as error:
                hashes[path], reason = "", f"{error.strerror}; expected an audio file"
            if not hashes[path]:
                listing.skipped.append(Skipped(path=path, reason=reason))
        if not hashes[path]:
            continue
        clip = LabelledClip(
            path=path,
            labels=row.labels,
            fold=row.fold,
            sha256=hashes[path],
            start=row.start,
            end=row.end,
            recording=row.recording,
        )
        first = merged.get(clip.key)
        if first is not None:
            repeated += 1
            if first.fold != clip.fold:
                raise DatasetError(
                    f"{first.name} of fold {first.fold} and {clip.name} of fold {clip.fold} are the same recording; "
                    "expected both in one fold, so that training and test data do not overlap"
                )
            clip = replace(first, labels=tuple(dict.fromkeys((*first.labels, *clip.labels))))
        merged[clip.key] = clip
    return tuple(merged.values()), repeated


def _apart(dataset: Dataset) -> list[str]:
    """Returns a note if clips of one recording are in two folds."""
    firsts: dict[str, LabelledClip] = {}
    apart: dict[str, tuple[LabelledClip, LabelledClip]] = {}
    for clip in dataset.clips:
        source = source_of(clip)
        first = firsts.setdefault(source, clip)
        if first.fold != clip.fold:
            apart.setdefault(source, (first, clip))
    if not apart:
        return []
    first, other = next(iter(apart.values()))
    return [
        f"{counted(len(apart), 'recording')} in more than one fold, such as {first.name} of fold {first.fold} and "
        f"{other.name} of fold {other.fold}: figures of a held-out fold are then too high; give all clips of a "
        "recording one fold"
    ]


def one_recording(dataset: Dataset, pairs: Iterable[tuple[int, int]], *, move: bool = False) -> Dataset:
    """Returns the data set with pairs of clips marked as pieces of one recording, so that `split` keeps them together.

    Args:
        dataset: the clips.
        pairs: their places in `dataset.clips`. Pieces of one recording with either are marked, too.
        move: also give all of them the fold of the first one.
    """
    sources = [source_of(clip) for clip in dataset.clips]
    first = {source: i for i, source in reversed([*enumerate(sources)])}  # place of the first clip of each
    parent = {source: source for source in sources}

    def root(source: str) -> str:
        while parent[source] != source:
            source = parent[source]
        return source

    for a, b in pairs:
        one, other = sorted((root(sources[a]), root(sources[b])), key=first.__getitem__)
        parent[other] = one
    joined = {root(source) for source in sources if root(source) != source}
    clips = []
    for clip, source in zip(dataset.clips, sources, strict=True):
        if root(source) in joined:
            start = dataset.clips[first[root(source)]]
            name = start.recording or start.sha256[:_HASH_DIGITS]
            clip = replace(clip, recording=name, fold=start.fold if move else clip.fold)
        clips.append(clip)
    return replace(dataset, clips=tuple(clips))


def source_of(clip: LabelledClip) -> str:
    """Returns what clips of one recording share: the recording's name, or the hash of the file."""
    return clip.sha256 if clip.recording is None else f"recording {clip.recording}"


def _require_dataset(dataset: object) -> None:
    if not isinstance(dataset, Dataset):
        raise DatasetError(f"{shown(dataset)}; expected a Dataset, as `read_dataset` returns it")


def _is_class_name(label: str) -> bool:
    """Returns whether a bundle can have a class of this name."""
    try:
        require_class_names([label])
    except LabelError:
        return False
    return True


def _listed(skipped: Sequence[Skipped]) -> str:
    return "".join(f"; skipped {one.path}: {one.reason}" for one in skipped[:3])


def write_csv(dataset: Dataset, folder: Path) -> bytes:
    """Returns the data set as a CSV for `read_dataset`. File names are relative to `folder`, where the CSV will be.

    The columns start, end and recording are there if a clip has them.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    more = [name for name in COLUMNS[3:] if any(getattr(clip, name) is not None for clip in dataset.clips)]
    rows.writerow((*COLUMNS[:3], *more))
    for clip in dataset.clips:
        cells = (getattr(clip, name) for name in more)
        rows.writerow(
            (
                os.path.relpath(clip.path.resolve(), folder.resolve()),
                ";".join(clip.labels),
                clip.fold or "",
                *("" if cell is None else cell for cell in cells),
            )
        )
    return text.getvalue().encode(errors="surrogateescape")


def split(dataset: Dataset, *, held_out: str | None = None, seed: int = 0) -> Dataset:
    """Splits a data set: returns the same clips with TRAIN, VALIDATION or HELD_OUT as their fold.

    If the clips have folds, the fold `held_out` becomes HELD_OUT. The fold VALIDATION (or valid, val, and dev beside
    train) stays; without one, a share of every class of the other clips is drawn for it. If the clips have no folds, a
    share of every class is drawn for HELD_OUT and for VALIDATION. Clips of one recording are drawn together. A class
    with one recording is in TRAIN only; a class with two is in TRAIN and HELD_OUT.

    Args:
        dataset: clips of at least two classes.
        held_out: the fold to hold out; if not given, HELD_OUT (or test, eval) if it exists, otherwise the last fold.
        seed: seed of the random draw, ≥ 0.

    Raises:
        DatasetError: there are fewer than two classes, no such fold, or no clips left to train on, or the seed is
            negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DatasetError(f"seed = {shown(seed)}; expected a whole number ≥ 0")
    _require_dataset(dataset)
    present = {label for clip in dataset.clips for label in clip.labels}
    if len(present) < 2:
        one = f"only the class {next(iter(present))!r}" if present else "no class at all"
        raise DatasetError(f"{one}; expected clips of at least two: add a class of other sounds, such as 'background'")
    folds = dataset.folds
    rng = np.random.default_rng([seed, 0])
    if not folds:
        if held_out is not None:
            raise DatasetError(f"fold {held_out!r}, but the clips have no folds; expected a CSV with the column fold")
        return _drawn(dataset, rng, held=_HELD_OUT_SHARE, validation=_VALIDATION_SHARE)
    held_out = held_out or _named(folds, _TEST_NAMES) or folds[-1]
    if held_out not in folds or len(folds) < 2:
        raise DatasetError(f"fold {held_out!r} of {', '.join(folds)}; expected one of at least two")
    rest = replace(dataset, clips=tuple(clip for clip in dataset.clips if clip.fold != held_out))
    watched = _named(rest.folds, _VALIDATION_NAMES)
    if watched is None and _named(rest.folds, (TRAIN, "training")):
        watched = _named(rest.folds, ("dev", "development"))  # without train, it is what to train on
    if watched is not None:
        parts = [replace(clip, fold=VALIDATION if clip.fold == watched else TRAIN) for clip in rest.clips]
    else:
        parts = list(_drawn(rest, rng, held=0.0, validation=_VALIDATION_SHARE).clips)
    if not any(clip.fold == TRAIN for clip in parts):
        raise DatasetError(f"only the folds {held_out!r} and {watched!r}; expected another one to train on")
    of = {clip.key: clip.fold for clip in parts}
    return replace(dataset, clips=tuple(replace(clip, fold=of.get(clip.key, HELD_OUT)) for clip in dataset.clips))


def _named(folds: Sequence[str], names: Sequence[str]) -> str | None:
    """Returns the fold with the first of the names that there is."""
    found = {fold.casefold(): fold for fold in folds}
    return next((found[name] for name in names if name in found), None)


def _taken(drawn: list[list[int]], wanted: int) -> list[list[int]]:
    """Takes recordings of about `wanted` clips off the list: those that fit, or the smallest. One stays to train on."""
    taken: list[list[int]] = []
    rest = wanted
    for members in list(drawn):
        if len(members) <= rest and len(drawn) > 1:
            taken.append(members)
            drawn.remove(members)
            rest -= len(members)
    if wanted and not taken and len(drawn) > 1:
        taken.append(min(drawn, key=len))
        drawn.remove(taken[0])
    return taken


def _drawn(dataset: Dataset, rng: np.random.Generator, *, held: float, validation: float) -> Dataset:
    """Draws the shares `held` and `validation` of every class, at least one recording each if there are enough.

    A clip of several classes counts for its rarest class, and a recording for the rarest class of its clips.
    """
    sizes = Counter(label for clip in dataset.clips for label in clip.labels)
    recordings: dict[str, list[int]] = {}
    for i, clip in enumerate(dataset.clips):
        recordings.setdefault(source_of(clip), []).append(i)
    groups: dict[str, list[list[int]]] = {}
    for members in recordings.values():
        labels = [label for i in members for label in dataset.clips[i].labels]
        groups.setdefault(min(labels, key=lambda label: (sizes[label], label), default=""), []).append(members)
    folds = [TRAIN] * len(dataset.clips)
    for label in sorted(groups):
        drawn = [groups[label][i] for i in rng.permutation(len(groups[label]))]
        count = sum(map(len, drawn))
        kept = max(1, round(held * count)) if held and len(drawn) >= 2 else 0
        watched = max(1, round(validation * count)) if len(drawn) >= (3 if held else 2) else 0
        for wanted, fold in ((kept, HELD_OUT), (watched, VALIDATION)):
            for members in _taken(drawn, wanted):
                for i in members:
                    folds[i] = fold
    clips = tuple(replace(clip, fold=fold) for clip, fold in zip(dataset.clips, folds, strict=True))
    return replace(dataset, clips=clips)


Scorer = Callable[[LabelledClip], NDArray[np.float32]]
"""Returns an array for one clip, such as its scores (classes,). Raises an exception if the clip cannot be used."""

Watch = Callable[[str, int, int], None]
"""Progress callback: called with the name of the task, the amount done, and the total amount (0 if unknown)."""


def no_watch(what: str, done: int, total: int) -> None:
    """A `Watch` that does nothing."""


def score(
    dataset: Dataset, scorer: Scorer, *, what: str = "clips", watch: Watch = no_watch
) -> tuple[NDArray[np.float32], Dataset]:
    """Scores the clips one after another; only one clip's audio is in memory at a time.

    No exception of a clip ends it: the clip is skipped.

    Args:
        dataset: the clips.
        scorer: scores one clip.
        what: name of the task for `watch`.
        watch: called for every clip.

    Returns:
        The scores (clips, …), and the data set without the clips that could not be read. Those are in its `skipped`.

    Raises:
        DatasetError: no clip could be read.
    """
    _require_dataset(dataset)
    scores, kept, skipped = [], [], list(dataset.skipped)
    for i, clip in enumerate(dataset.clips):
        watch(what, i, len(dataset.clips))
        try:
            scores.append(scorer(clip))
            kept.append(clip)
        except Exception as error:
            skipped.append(Skipped(path=clip.path, reason=why_failed(clip.name, error)))
    watch(what, len(dataset.clips), len(dataset.clips))
    if not kept:
        raise DatasetError(f"no clip could be read; expected audio files{_listed(skipped)}")
    return np.stack(scores), replace(dataset, clips=tuple(kept), skipped=tuple(skipped))
