"""Packs AudioSet's metadata and a folder of clips into one HDF5 file in the layout of PANNs."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from panns_litert.atomic import replacing
from panns_litert.audio import audio_files, load_audio
from panns_litert.errors import AudioError, DatasetError, ResultsError
from panns_litert.evaluate import Skipped, Watch, no_watch
from panns_litert.strict import printable, read_text, shown
from panns_litert.words import counted
from panns_litert_convert.assets import CLASS_LIST
from panns_litert_convert.checkpoints import require_classes
from panns_litert_convert.training.waveforms import (
    AUDIO_NAME,
    LABELS,
    SAMPLE_RATE,
    SAMPLE_RATES,
    TARGET,
    WAVEFORM,
    to_int16,
)
from panns_litert_convert.zoo import CLIP_SECONDS, asset

_MOST_BYTES = 1 << 30  # of a CSV; that of AudioSet's unbalanced segments has 100 MB
_HEADERS = 100_000  # bytes, more than enough for HDF5's own data and the names of classes

MISSING = "no such clip"
"""The reason for skipping a clip of the metadata that has no file."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A row of AudioSet's metadata.

    Attributes:
        name: YTID, the video's 11 characters.
        mids: AudioSet's identifiers of its classes.
    """

    name: str
    mids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The result of `pack`.

    Attributes:
        path: the HDF5 file.
        clips, classes: number of each.
        skipped: rows of the metadata without a usable clip, with the reason.
    """

    path: Path
    clips: int
    classes: int
    skipped: tuple[Skipped, ...]

    @property
    def missing(self) -> int:
        """The number of skipped clips that have no file. Some are always missing from AudioSet."""
        return sum(one.reason == MISSING for one in self.skipped)


def read_classes(path: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Returns the display names of classes by mid, in the order of the outputs.

    Args:
        path: a CSV with the columns index, mid and display_name; default: AudioSet's own.

    Raises:
        DatasetError: the file cannot be read, or has other columns, fewer than two classes, or a class twice.
    """
    path = asset(CLASS_LIST) if path is None else Path(path)
    expected = "a CSV in UTF-8 with the columns index, mid, display_name"
    text = read_text(path, error=DatasetError, what=expected, most_bytes=_MOST_BYTES)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        rows = sorted(rows, key=lambda row: int(row["index"]))
        classes = {row["mid"]: row["display_name"] for row in rows}
        indexes = [int(row["index"]) for row in rows]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: {_reason(error)}; expected {expected}") from error
    if len(classes) < 2 or indexes != list(range(len(classes))) or len(set(classes.values())) != len(classes):
        raise DatasetError(f"{path}: {len(rows)} rows; expected classes numbered from 0 on, at least two, each once")
    require_classes([*classes.values()], str(path), error=DatasetError)
    return classes


def read_segments(path: str | os.PathLike[str]) -> list[Segment]:
    """Reads AudioSet's metadata: rows of `YTID, start_seconds, end_seconds, "mid,mid"`, and comments that begin with #.

    Raises:
        DatasetError: the file cannot be read, or a row has another form or repeats the clip of an earlier row.
    """
    path, segments, seen = Path(path), [], set()
    expected = "AudioSet's segments, a CSV in UTF-8"
    text = read_text(path, error=DatasetError, what=expected, most_bytes=_MOST_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        for row in rows:
            if not row or row[0].startswith("#"):
                continue
            where = f"{path}, line {rows.line_num}"
            if len(row) != 4 or not row[0] or not _is_number(row[1]) or not _is_number(row[2]):
                raise DatasetError(f'{where}: {shown(row)}; expected YTID, start_seconds, end_seconds, "mid,mid"')
            if row[0] in seen:
                raise DatasetError(f"{where}: {printable(row[0])[:100]} again; expected every clip once")
            seen.add(row[0])
            mids = tuple(dict.fromkeys(mid.strip() for mid in row[3].split(",") if mid.strip()))
            segments.append(Segment(name=row[0], mids=mids))
    except csv.Error as error:
        raise DatasetError(f"{path}: {_reason(error)}; expected {expected}") from error
    if not segments:
        raise DatasetError(f"{path}: no row; expected AudioSet's segments")
    return segments


def pack(
    metadata: str | os.PathLike[str],
    clips: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    classes: str | os.PathLike[str] | None = None,
    sample_rate: int = 32000,
    seconds: float = 10.0,
    watch: Watch = no_watch,
) -> Packed:
    """Packs the clips of the metadata whose files are in a folder.

    A clip is a file named YTID or, as PANNs' download names it, Y + YTID, with the suffix of any format that libsndfile
    reads. It contains only the segment, not the whole video. Its channels are averaged. It is resampled, and cut or
    padded with zeros to the length of a clip.

    Args:
        metadata: AudioSet's segments; see `read_segments`.
        clips: the folder, which is searched with its subfolders.
        out: the HDF5 file, written atomically.
        classes: a CSV; see `read_classes`.
        sample_rate: Hz, within waveforms.SAMPLE_RATES.
        seconds: length of a clip, within zoo.CLIP_SECONDS.
        watch: called with the progress of every clip.

    Raises:
        DatasetError: the metadata cannot be used, or none of its clips.
        ResultsError: the file cannot be written: the folder does not exist, or the disk is full.
    """
    (shortest, longest), (low, high) = CLIP_SECONDS, SAMPLE_RATES
    if not shortest <= seconds <= longest or not low <= sample_rate <= high:
        raise DatasetError(
            f"{seconds} s at {shown(sample_rate)} Hz; expected {shortest:g} … {longest:g} s, {low} … {high} Hz"
        )
    names = read_classes(classes)
    segments = read_segments(metadata)
    if unknown := sorted({mid for segment in segments for mid in segment.mids} - set(names)):
        raise DatasetError(
            f"{metadata}: no class {unknown[0]}; expected mids of {classes or CLASS_LIST}; pass --classes"
        )
    found = _files(Path(clips))
    files = {segment.name: found.get(f"Y{segment.name}") or found.get(segment.name) for segment in segments}
    skipped = [Skipped(path=Path(clips) / f"Y{name}", reason=MISSING) for name, file in files.items() if file is None]
    there = [segment for segment in segments if files[segment.name] is not None]
    out, samples, count = Path(out), round(seconds * sample_rate), 0
    with replacing(out) as reserved:
        _lay_out(reserved, there, samples, list(names.values()), sample_rate)
        with h5py.File(reserved.name, "r+") as file:
            for done, segment in enumerate(there):
                watch("clips", done, len(there))
                path = files[segment.name]
                assert path is not None
                try:
                    waveform = load_audio(path, sample_rate=sample_rate, max_seconds=seconds).waveform
                except AudioError as error:
                    skipped.append(Skipped(path=path, reason=str(error)))
                    continue
                row = np.zeros(samples, np.int16)
                row[: len(waveform)] = to_int16(waveform)[:samples]
                file[WAVEFORM][count] = row
                file[TARGET][count] = [mid in segment.mids for mid in names]
                file[AUDIO_NAME][count] = f"Y{segment.name}{path.suffix}".encode()
                count += 1
            watch("clips", len(there), len(there))
        if not count:
            listed = "; ".join(f"{one.path.name}: {one.reason}" for one in skipped[:3])
            raise DatasetError(f"{clips}: none of {counted(len(segments), 'clip')} can be used; {listed}")
    return Packed(path=out, clips=count, classes=len(names), skipped=tuple(skipped))


def _lay_out(file: BinaryIO, there: Sequence[Segment], samples: int, labels: Sequence[str], sample_rate: int) -> None:
    """Makes the file with empty rows, and reserves its space on the disk: HDF5 crashes if the disk fills up.

    Rows that stay empty are what PANNs' packer writes for a clip that it does not find.
    """
    longest = max((len(f"Y{segment.name}.flac") for segment in there), default=0)
    names = np.zeros(len(there), f"S{max(20, longest)}")
    target = np.zeros((len(there), len(labels)), np.bool_)
    expected = names.nbytes + target.nbytes + 2 * samples * len(there)
    _reserve(file, expected + _HEADERS)
    file.truncate(0)
    at_once = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    at_once.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    at_once.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # reserved space is filled with zeros already
    with h5py.File(file.name, "w") as made:
        made.attrs.create(SAMPLE_RATE, sample_rate, dtype=np.int32)
        made.attrs[LABELS] = json.dumps(labels, ensure_ascii=False)
        made.create_dataset(AUDIO_NAME, data=names)
        made.create_dataset(TARGET, data=target)
        made.create_dataset(WAVEFORM, shape=(len(there), samples), dtype=np.int16, dcpl=at_once)
    _reserve(file, os.fstat(file.fileno()).st_size)


def _reserve(file: BinaryIO, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise ResultsError(
            f"no room for {size / 1e6:.1f} MB ({error.strerror}); free some, or pack in parts"
        ) from error


def _files(folder: Path) -> dict[str, Path]:
    """Returns the audio files of a folder by their names without suffix."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one of clips")
    try:
        return {path.stem: path for path in audio_files(folder)}
    except AudioError as error:
        raise DatasetError(str(error)) from error


def _reason(error: Exception) -> str:
    """Returns the text of an error without the file's name, which the message states already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_number(text: str) -> bool:
    try:
        return 0.0 <= float(text) < math.inf
    except ValueError:
        return False
