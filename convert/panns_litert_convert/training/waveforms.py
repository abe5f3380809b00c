"""Reads packed clips: HDF5 files in the layout of PANNs.

A file has the datasets `audio_name` (N,), bytes; `waveform` (N, samples), int16, full scale 32767; `target`
(N, classes), bool; and the attribute `sample_rate`, Hz. Files of `pack` also store the names of the classes, in the
attribute `labels`. Source: https://github.com/qiuqiangkong/audioset_tagging_cnn, utils/dataset.py. Its first version
stored float32 samples, which are read as well.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import DatasetError
from panns_litert.strict import parse_json, printable, shown
from panns_litert_convert.assets import audioset_labels
from panns_litert_convert.checkpoints import require_classes

FULL_SCALE = 32767.0
"""The int16 value of a sample of 1.0."""

AUDIO_NAME, WAVEFORM, TARGET = "audio_name", "waveform", "target"
SAMPLE_RATE, LABELS = "sample_rate", "labels"
"""Names of the datasets and the attributes; `labels` is a JSON array."""

SAMPLE_RATES = (1000, 192_000)
"""Lowest and highest sample rate, Hz."""

_SAMPLES = (np.int16, np.float32)
_MOST_PEAK = 2.5  # of float samples; resampling can exceed 1, and 16-bit scale is far above
# Names and labels are a small part of a file: no more than this times its size, since they may be compressed, or this
# many bytes, since rows that were never written take no space.
_MOST_RATIO, _ANY_SIZE = 64, 1 << 26


class Rows:
    """Reads the samples of clips by index. It is small, so that it can be sent to loading processes.

    Args:
        paths: the files.
        where: (clips, 2), the index of each clip's file and its row in that file.
        samples: length of every clip.
    """

    def __init__(self, paths: Sequence[Path], where: NDArray[np.int64], *, samples: int) -> None:
        self.paths, self._where, self._samples = tuple(paths), where, samples
        self._files: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}  # an open file cannot be sent

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Returns the samples (samples,) of a clip, float32, within [-1, 1].

        Raises:
            DatasetError: the file has changed or is damaged.
        """
        which, row = (int(value) for value in self._where[index])
        where = f"{self.paths[which]}, row {row}"
        with _readable(where, "pack it again"):
            stored = own_dataset(self._opened(which), WAVEFORM, where)[row]
            if stored.shape != (self._samples,) or stored.dtype not in _SAMPLES:
                raise DatasetError(
                    f"{where}: {stored.shape} {stored.dtype}; expected ({self._samples},); pack it again"
                )
        if stored.dtype == np.int16:
            return np.asarray(stored / np.float32(FULL_SCALE), np.float32)
        if not np.abs(stored).max() <= _MOST_PEAK:  # also NaN
            raise DatasetError(f"{where}: NaN, or a sample beyond ±{_MOST_PEAK}; expected samples within [-1, 1]")
        return np.asarray(stored, np.float32)

    def _opened(self, which: int) -> Any:
        if which not in self._files:
            _require_regular(self.paths[which])
            self._files[which] = h5py.File(self.paths[which], "r")
        return self._files[which]


def own_dataset(file: Any, name: str, where: str) -> Any:
    """Returns a dataset whose data is in the file itself.

    HDF5 can also refer to other files, any of which would be read as samples: links to other HDF5 files, external
    storage, which is the bytes of any file, and virtual datasets.

    Raises:
        DatasetError: there is no such dataset, or it refers to another file.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise DatasetError(f"{where}: no dataset {name} of its own; expected PANNs' layout; pack the clips again")
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise DatasetError(
            f"{where}: {name} refers to other files; expected a dataset of its own; pack the clips again"
        )
    return dataset


def _require_regular(path: Path) -> None:
    if not os.path.isfile(path):
        what = "not a regular file" if os.path.exists(path) else "no such file"
        raise DatasetError(f"{printable(path)}: {what}; expected clips packed by `panns-litert pack` or by PANNs")


@contextlib.contextmanager
def _readable(where: str, remedy: str) -> Iterator[None]:
    """Converts any error of the block to a DatasetError: HDF5's metadata, if damaged, can fail in any way."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{where}: not HDF5, or damaged ({_reason(error)}); {remedy}") from error


class Waveforms:
    """The clips of one or several files, as one sequence. Rows without a name are left out: PANNs' packer leaves such a
    row for a clip without a file.

    Args:
        paths: the files, with the same sample rate, length of clips, and classes.
        labels: names of the classes, if the files do not store them; default: the 527 of AudioSet.

    Attributes:
        paths: the files.
        rows: reads the samples.
        sample_rate: Hz.
        samples: length of every clip.
        labels: names of the classes.
        names: of the clips, with their suffix.
        truth: (clips, classes), bool, since AudioSet's would be 4 GB in float32.
        absent: number of rows that were left out.

    Raises:
        DatasetError: there is no file, or one is not HDF5, has another layout, is empty, or differs from the others.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], *, labels: Sequence[str] | None = None) -> None:
        if not paths:
            raise DatasetError("no file of packed clips; expected at least one .h5")
        self.paths = tuple(Path(path) for path in paths)
        parts = [_Part(path, labels) for path in self.paths]
        first = parts[0]
        for part in parts[1:]:
            if part.facts != first.facts:
                differ = [f"{k} {part.facts[k]} instead of {v}" for k, v in first.facts.items() if part.facts[k] != v]
                raise DatasetError(
                    f"{part.path} does not go with {first.path}: {'; '.join(differ)[:300]}; expected files packed alike"
                )
        self.sample_rate, self.samples, self.labels = first.sample_rate, first.samples, first.labels
        self.names = tuple(name for part in parts for name in part.names)
        self.truth = np.concatenate([part.truth for part in parts])
        self.absent = sum(part.absent for part in parts)
        where = np.concatenate([np.c_[np.full(len(part.rows), k), part.rows] for k, part in enumerate(parts)])
        self.rows = Rows(self.paths, where, samples=self.samples)
        if not len(self.names):
            raise DatasetError(f"{', '.join(map(str, self.paths))}: no clip; expected at least one")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Returns the samples (samples,) of a clip, as `rows` reads them."""
        return self.rows[index]


class _Part:
    """The contents of one file, except its samples."""

    def __init__(self, path: Path, labels: Sequence[str] | None) -> None:
        self.path = path
        _require_regular(path)
        with _readable(str(path), "expected packed clips"), h5py.File(path, "r") as file:
            self._read(file, labels)

    def _read(self, file: Any, labels: Sequence[str] | None) -> None:
        lacking = [name for name in (AUDIO_NAME, WAVEFORM, TARGET) if name not in file]
        if lacking:
            hint = "it lists clips of other files: give those" if "index_in_hdf5" in file else "pack the clips again"
            raise DatasetError(f"{self.path}: no dataset {', '.join(lacking)}; expected PANNs' layout; {hint}")
        names, waveform, target = (own_dataset(file, name, str(self.path)) for name in (AUDIO_NAME, WAVEFORM, TARGET))
        shapes = [dataset.shape for dataset in (names, waveform, target)]
        fits = [len(shape or ()) for shape in shapes] == [1, 2, 2] and len({shape[0] for shape in shapes}) == 1
        kinds = h5py.check_string_dtype(names.dtype), waveform.dtype in _SAMPLES, target.dtype.kind in "biuf"
        if not fits or not all(kinds) or not waveform.shape[1] or not target.shape[1]:
            raise DatasetError(
                f"{self.path}: audio_name {names.shape} {names.dtype}, waveform {waveform.shape} {waveform.dtype}, "
                f"target {target.shape} {target.dtype}; expected (N,), (N, samples) int16 and (N, classes)"
            )
        size = self.path.stat().st_size
        if names.nbytes + target.nbytes > _MOST_RATIO * size + _ANY_SIZE:
            raise DatasetError(
                f"{self.path}: {target.shape[0]} rows of {target.shape[1]} classes in a file of {size} bytes; expected "
                "packed clips"
            )
        self.sample_rate, self.samples = self._rate(file.attrs), int(waveform.shape[1])
        self.labels = self._labels(file.attrs.get(LABELS), labels, target.shape[1])
        stored = [bytes(name) for name in names[:]]
        self.rows = np.flatnonzero([len(name) > 0 for name in stored])
        self.absent = len(stored) - len(self.rows)
        self.names = [stored[row].decode("utf-8", "replace") for row in self.rows]
        truth = np.asarray(target[:])
        if not np.isin(truth, (0, 1)).all():
            raise DatasetError(f"{self.path}: target has values besides 0 and 1; expected labels; pack the clips again")
        self.truth = np.asarray(truth, np.bool_)[self.rows]

    def _rate(self, attributes: Any) -> int:
        """Returns the attribute `sample_rate`: a single whole number, also of a float type."""
        if SAMPLE_RATE not in attributes:
            raise DatasetError(f"{self.path}: no attribute {SAMPLE_RATE}; expected PANNs' layout")
        found = np.asarray(attributes[SAMPLE_RATE])
        low, high = SAMPLE_RATES
        if found.size != 1 or found.dtype.kind not in "iuf" or not low <= (rate := found.item()) <= high or rate % 1:
            raise DatasetError(
                f"{self.path}: {SAMPLE_RATE} {shown(attributes[SAMPLE_RATE])}; expected {low} … {high} Hz"
            )
        return int(rate)

    def _labels(self, stored: Any, given: Sequence[str] | None, classes: int) -> tuple[str, ...]:
        where = f"{self.path}: its {LABELS}"
        if stored is not None:
            if not isinstance(stored, (str, bytes)):
                raise DatasetError(f"{where} {shown(stored)}; expected a JSON array of names")
            found = parse_json(stored, where, error=DatasetError)
        else:
            found = audioset_labels() if given is None else given
        labels = require_classes(found, where, error=DatasetError)
        if len(labels) != classes:
            raise DatasetError(f"{self.path}: {classes} classes, but {len(labels)} names of classes; expected as many")
        return labels

    @property
    def facts(self) -> dict[str, Any]:
        return {SAMPLE_RATE: self.sample_rate, "samples": self.samples, LABELS: self.labels}


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Returns samples as int16, as they are stored; values outside [-1, 1] are clipped."""
    return np.asarray(np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE), np.int16)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
