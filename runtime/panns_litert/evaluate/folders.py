"""Data sets in folders: a folder for each class, within folders of splits or not, or recordings with label files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from panns_litert.audio import audio_files, scan_folder
from panns_litert.errors import AudioError, DatasetError
from panns_litert.evaluate.annotations import Cutting, cut_recording, label_file, read_labels
from panns_litert.evaluate.clips import Skipped
from panns_litert.evaluate.rows import Listing, Row
from panns_litert.words import counted

_SPLIT = re.compile(
    r"(train|training|val|valid|validation|dev|development|test|testing|eval|evaluation|fold[ _-]?\d+)", re.IGNORECASE
)
_TABLES = (".csv", ".tsv")
_SHOWN = 3


def folder_rows(folder: Path, cutting: Cutting) -> Listing:
    """Lists a folder of classes, of splits of classes, or of recordings with Audacity's label files beside them.

    Raises:
        DatasetError: the folder cannot be read, or may be taken for several of these.
    """
    entries = _entries(folder)
    folders = [entry for entry in entries if entry.is_dir()]
    audio = scan_folder(folder).audio
    annotated = [path for path in audio if label_file(path) is not None]
    if annotated:
        return _annotated(folder, audio, annotated, folders, cutting)
    splits = [entry for entry in folders if _SPLIT.fullmatch(entry.name) and not _has_audio(entry)]
    if splits and len(splits) < len(folders):
        other = next(entry for entry in folders if entry not in splits)
        raise DatasetError(
            f"{folder}: {splits[0].name} holds folders, as a split does, and {other.name} is beside it; expected "
            "either splits (train, validation, test, fold1, …) or classes there, not both"
        )
    if not splits:
        found = _classes(folder, entries, None)
        _require_no_table(folder, found)
        found.layout = f"a folder for each class, {found.size}"
        inner = next((row.path for row in found.rows if _within_split(row.path.relative_to(folder))), None)
        if inner is not None:
            found.notes.append(
                f"{inner} is in a folder that is named as a fold, within a class, and was given none; put the folders "
                "of folds above those of the classes"
            )
    else:
        found = Listing(layout="")
        found.skipped += [_stray(entry) for entry in entries if not entry.is_dir()]
        for entry in splits:
            part = _classes(entry, _entries(entry), entry.name if len(splits) > 1 else None)
            found.rows += part.rows
            found.skipped += part.skipped
        names = ", ".join(entry.name for entry in splits)
        found.layout = f"the {'splits' if len(splits) > 1 else 'split'} {names} of class folders, {found.size}"
    tables = [entry.name for entry in entries if entry.suffix.lower() in _TABLES]
    if tables and found.rows:
        found.notes.append(f"{tables[0]} in this folder was not read: the folders give the classes; to use it, pass it")
    return found


def _classes(folder: Path, entries: list[Path], fold: str | None) -> Listing:
    found = Listing(layout="")
    for entry in entries:
        if not entry.is_dir():
            found.skipped.append(_stray(entry))
            continue
        try:
            found.rows += [Row(path=path, labels=(entry.name,), fold=fold) for path in audio_files(entry)]
        except AudioError:
            found.skipped.append(Skipped(path=entry, reason="no audio file in this class's folder"))
    return found


def _annotated(
    folder: Path, audio: list[Path], annotated: list[Path], folders: list[Path], cutting: Cutting
) -> Listing:
    """Cuts recordings that have label files beside them."""
    if len(annotated) < len(audio):
        without = next(path for path in audio if path not in set(annotated))
        raise DatasetError(
            f"{without} has no label file beside it, and {annotated[0]} has one; expected one for every recording "
            "(an empty one where nothing is heard), or for none"
        )
    splits = len(folders) > 1 and all(_SPLIT.fullmatch(entry.name) for entry in folders)
    splits = splits and not any(path.parent == folder for path in audio)
    found = Listing(layout="")
    for path in annotated:
        labels = label_file(path)
        assert labels is not None
        fold = path.relative_to(folder).parts[0] if splits else None
        cut_recording(path, read_labels(labels), cutting, found, fold=fold)
    found.layout = (
        f"{counted(len(annotated), 'recording')} with label files, cut into {counted(len(found.rows), 'clip')}"
    )
    found.layout += f" of {cutting.seconds:g} s"
    return found


def _require_no_table(folder: Path, found: Listing) -> None:
    """Refuses the folder of a published data set, whose clips are all in one folder: a table has their classes."""
    if len({row.labels for row in found.rows}) != 1:
        return
    tables = [path for depth in ("*", "*/*") for path in sorted(folder.glob(depth)) if path.suffix.lower() in _TABLES]
    if tables:
        names = ", ".join(str(path) for path in tables[:_SHOWN])
        raise DatasetError(
            f"{folder}: audio files in one folder only, {found.rows[0].labels[0]}, and {counted(len(tables), 'table')} "
            f"({names}); expected the table instead of the folder"
        )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder}: {error.strerror}; expected a folder for each class") from error


def _has_audio(folder: Path) -> bool:
    """Returns whether audio files lie directly in a folder."""
    return any(os.path.dirname(path) == str(folder) for path in scan_folder(folder).audio)


def _within_split(path: Path) -> bool:
    """Returns whether a file, relative to the folder of classes, is in a split within its class."""
    return any(_SPLIT.fullmatch(name) for name in path.parts[1:-1])


def _stray(path: Path) -> Skipped:
    return Skipped(path=path, reason="not in a folder of a class")
