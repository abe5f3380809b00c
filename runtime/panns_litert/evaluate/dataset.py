"""Data sets of labelled clips, read from a folder per class or from a CSV, and their split for training."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import audio_files
from panns_litert.bundle import file_sha256
from panns_litert.errors import AudioError, DatasetError, why_failed
from panns_litert.escape import utf8
from panns_litert.sense import unknown_label
from panns_litert.strict import shown

COLUMNS = ("file", "labels", "fold")
"""Columns of a CSV. `labels` are separated by semicolons; `fold` is optional."""

TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held-out"
"""The folds of a split: the clips to train on, those that decide when to stop, and those for the final test."""

_NOT_IN_A_NAME = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, separators of lines

_HELD_OUT_SHARE, _VALIDATION_SHARE = 0.2, 0.15


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """One clip and its classes.

    Attributes:
        path: the file.
        labels: its classes, without repeats; empty for a clip of no class.
        fold: the fold that it belongs to, or None.
        sha256: SHA-256 of the file's bytes.
    """

    path: Path
    labels: tuple[str, ...]
    fold: str | None
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that was skipped.

    Attributes:
        path: the file.
        reason: why, in one line.
    """

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled clips.

    Attributes:
        clips: in the order of the folder's names or of the CSV's rows.
        classes: class names, in the order of a model's outputs.
        skipped: files that were skipped.
        repeated: number of files with the same bytes as an earlier file. Their labels were added to that clip.
    """

    clips: tuple[LabelledClip, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    repeated: int

    def truth(self) -> NDArray[np.float32]:
        """Returns the labels as an array (clips, classes) of 0 and 1."""
        have = [[label in clip.labels for label in self.classes] for clip in self.clips]
        return np.asarray(have, np.float32).reshape(len(self.clips), len(self.classes))

    def of_fold(self, fold: str) -> Dataset:
        """Returns the data set with the clips of one fold only.

        Raises:
            DatasetError: the fold has no clip.
        """
        chosen = tuple(clip for clip in self.clips if clip.fold == fold)
        if not chosen:
            folds = ", ".join(sorted({clip.fold or "" for clip in self.clips} - {""})) or "no folds"
            raise DatasetError(f"no clip of fold {fold!r}; expected one of: {folds}")
        return replace(self, clips=chosen)


def read_dataset(source: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> Dataset:
    """Reads labelled clips from a folder or a CSV.

    A folder has a subfolder of audio files for every class. A CSV has the columns `file` (relative to the CSV),
    `labels` (separated by ;) and optionally `fold`. Files with the same bytes become one clip with all their labels.

    Args:
        source: the folder or the CSV.
        classes: the allowed classes, in the order of a model's outputs; the classes that occur, sorted, if not given.

    Raises:
        DatasetError: the source is missing or malformed, it has no clip, a label is not in `classes`, or two folds have
            a file with the same bytes.
    """
    try:
        source = Path(source)
        names = None if classes is None else tuple(classes)
        if isinstance(classes, str) or not all(isinstance(name, str) for name in names or ()):
            raise TypeError(f"classes {shown(classes)}")
    except TypeError as error:
        raise DatasetError(f"{error}; expected the path of a folder or a CSV, and a list of class names") from error
    if source.is_dir():
        rows, skipped = _folder_rows(source)
    elif source.is_file():
        rows, skipped = _csv_rows(source), []
    else:
        raise DatasetError(f"{source}: no such folder or file; expected a folder for each class, or a CSV")
    merged: dict[str, LabelledClip] = {}
    repeated = 0
    for path, labels, fold in rows:
        if not path.is_file():
            skipped.append(Skipped(path=path, reason="no such file"))
            continue
        try:
            clip = LabelledClip(path=path, labels=labels, fold=fold, sha256=file_sha256(path))
        except OSError as error:
            skipped.append(Skipped(path=path, reason=f"{error.strerror}; expected an audio file"))
            continue
        first = merged.get(clip.sha256)
        if first is not None:
            repeated += 1
            if first.fold != fold:
                raise DatasetError(
                    f"{first.path} of fold {first.fold} and {path} of fold {fold} are the same recording; "
                    "expected both in one fold, so that training and test data do not overlap"
                )
            clip = replace(first, labels=tuple(dict.fromkeys((*first.labels, *labels))))
        merged[clip.sha256] = clip
    if not merged:
        raise DatasetError(f"{source}: no clip; expected audio files{_listed(skipped)}")
    found = sorted({label for clip in merged.values() for label in clip.labels})
    if bad := [label for label in found if ";" in label or any(category(c) in _NOT_IN_A_NAME for c in label)]:
        raise DatasetError(f"{source}: class {bad[0]!r}; expected a name of one line in UTF-8, without a semicolon")
    wanted = tuple(found) if names is None else names
    if strangers := [label for label in found if label not in wanted]:
        raise DatasetError(f"{source}: {unknown_label(strangers[0], wanted)}")
    return Dataset(clips=tuple(merged.values()), classes=wanted, skipped=tuple(skipped), repeated=repeated)


def _require_dataset(dataset: object) -> None:
    if not isinstance(dataset, Dataset):
        raise DatasetError(f"{shown(dataset)}; expected a Dataset, as `read_dataset` returns it")


_Rows = list[tuple[Path, tuple[str, ...], str | None]]


def _folder_rows(folder: Path) -> tuple[_Rows, list[Skipped]]:
    rows: _Rows = []
    skipped: list[Skipped] = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: {error.strerror}; expected a folder for each class") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            skipped.append(Skipped(path=entry, reason="not in a folder of a class"))
            continue
        try:
            rows += [(path, (entry.name,), None) for path in audio_files(entry)]
        except AudioError:
            skipped.append(Skipped(path=entry, reason="no audio file in this class's folder"))
    return rows, skipped


def _csv_rows(path: Path) -> _Rows:
    rows: _Rows = []
    try:
        # The names of files are bytes. Those that are no UTF-8 are kept; in a label they are refused.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            table = csv.DictReader(file)
            if len(set(names := table.fieldnames or ())) < len(names):
                raise DatasetError(f"{path}: columns {', '.join(names)}; expected each name once")
            if not {"file", "labels"} <= set(table.fieldnames or ()):
                raise DatasetError(
                    f"{path}: columns {utf8(', '.join(names)) or 'none'}; expected {', '.join(COLUMNS)}, in UTF-8"
                )
            for row in table:
                if not row["file"] or row["labels"] is None:
                    raise DatasetError(f"{path}, line {table.line_num}: no file or no labels; expected both")
                labels = tuple(dict.fromkeys(label.strip() for label in row["labels"].split(";") if label.strip()))
                rows.append((path.parent / row["file"], labels, (row.get("fold") or "").strip() or None))
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: {error}; expected a CSV in UTF-8") from error
    if len({fold is None for _, _, fold in rows}) > 1:
        raise DatasetError(f"{path}: some rows have a fold and some have none; expected one for every row, or for none")
    return rows


def _listed(skipped: Sequence[Skipped]) -> str:
    return "".join(f"; skipped {one.path}: {one.reason}" for one in skipped[:3])


def write_csv(dataset: Dataset, folder: Path) -> bytes:
    """Returns the data set as a CSV for `read_dataset`. File names are relative to `folder`, where the CSV will be."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for clip in dataset.clips:
        rows.writerow((os.path.relpath(clip.path.resolve(), folder.resolve()), ";".join(clip.labels), clip.fold or ""))
    return text.getvalue().encode(errors="surrogateescape")


def split(dataset: Dataset, *, held_out: str | None = None, seed: int = 0) -> Dataset:
    """Splits a data set: returns the same clips with TRAIN, VALIDATION or HELD_OUT as their fold.

    If the clips have folds, the fold `held_out` becomes HELD_OUT. The fold VALIDATION stays; without one, a share of
    every class of the other clips is drawn for it. If the clips have no folds, a share of every class is drawn for
    HELD_OUT and for VALIDATION. A class with one clip is in TRAIN only; a class with two is in TRAIN and HELD_OUT.

    Args:
        dataset: clips of at least two classes.
        held_out: the fold to hold out; if not given, HELD_OUT if it exists, otherwise the last fold by name.
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
    folds = sorted({clip.fold for clip in dataset.clips if clip.fold is not None})
    rng = np.random.default_rng([seed, 0])
    if not folds:
        if held_out is not None:
            raise DatasetError(f"fold {held_out!r}, but the clips have no folds; expected a CSV with the column fold")
        return _drawn(dataset, rng, held=_HELD_OUT_SHARE, validation=_VALIDATION_SHARE)
    held_out = held_out or (HELD_OUT if HELD_OUT in folds else folds[-1])
    if held_out not in folds or len(folds) < 2:
        raise DatasetError(f"fold {held_out!r} of {', '.join(folds)}; expected one of at least two")
    rest = replace(dataset, clips=tuple(clip for clip in dataset.clips if clip.fold != held_out))
    if VALIDATION in folds and held_out != VALIDATION:
        parts = [replace(clip, fold=VALIDATION if clip.fold == VALIDATION else TRAIN) for clip in rest.clips]
    else:
        parts = list(_drawn(rest, rng, held=0.0, validation=_VALIDATION_SHARE).clips)
    if not any(clip.fold == TRAIN for clip in parts):
        raise DatasetError(f"only the folds {held_out!r} and {VALIDATION!r}; expected another one to train on")
    of = {clip.sha256: clip.fold for clip in parts}
    return replace(dataset, clips=tuple(replace(clip, fold=of.get(clip.sha256, HELD_OUT)) for clip in dataset.clips))


def _drawn(dataset: Dataset, rng: np.random.Generator, *, held: float, validation: float) -> Dataset:
    """Draws the shares `held` and `validation` of every class, at least one clip each if the class has enough clips.

    A clip of several classes counts for its rarest class.
    """
    sizes = Counter(label for clip in dataset.clips for label in clip.labels)
    groups: dict[str, list[int]] = {}
    for i, clip in enumerate(dataset.clips):
        rarest = min(clip.labels, key=lambda label: (sizes[label], label), default="")
        groups.setdefault(rarest, []).append(i)
    folds = [TRAIN] * len(dataset.clips)
    for label in sorted(groups):
        members = rng.permutation(groups[label])
        kept = max(1, round(held * len(members))) if held and len(members) >= 2 else 0
        watched = max(1, round(validation * len(members))) if len(members) >= (3 if held else 2) else 0
        for i in members[:kept]:
            folds[i] = HELD_OUT
        for i in members[kept : kept + watched]:
            folds[i] = VALIDATION
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
            skipped.append(Skipped(path=clip.path, reason=why_failed(str(clip.path), error)))
    watch(what, len(dataset.clips), len(dataset.clips))
    if not kept:
        raise DatasetError(f"no clip could be read; expected audio files{_listed(skipped)}")
    return np.stack(scores), replace(dataset, clips=tuple(kept), skipped=tuple(skipped))
