"""Reads packed clips: HDF5 files in the layout of PANNs.

A file has the datasets `audio_name` (N,), bytes; `waveform` (N, samples), int16, full scale 32767; `target`
(N, classes), bool; and the attribute `sample_rate`, Hz. Files of `pack` also store the names of the classes, in the
attribute `labels`. Source: https://github.com/qiuqiangkong/audioset_tagging_cnn, utils/dataset.py. Its first version
stored float32 samples, which are read as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import DatasetError
from panns_litert_convert.assets import audioset_labels

FULL_SCALE = 32767.0
"""The int16 value of a sample of 1.0."""

AUDIO_NAME, WAVEFORM, TARGET = "audio_name", "waveform", "target"
SAMPLE_RATE, LABELS = "sample_rate", "labels"
"""Names of the datasets and the attributes; `labels` is a JSON array."""


class Rows:
    """Reads the samples of clips by index. It is small, so that it can be sent to loading processes.

    Args:
        paths: the files.
        where: (clips, 2), the index of each clip's file and its row in that file.
    """

    def __init__(self, paths: Sequence[Path], where: NDArray[np.int64]) -> None:
        self.paths, self._where = tuple(paths), where
        self._files: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}  # an open file cannot be sent

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Returns the samples (samples,) of a clip, float32, within [-1, 1].

        Raises:
            DatasetError: the file has changed or is damaged.
        """
        which, row = (int(value) for value in self._where[index])
        try:
            stored = self._opened(which)[WAVEFORM][row]
        except (OSError, RuntimeError, KeyError) as error:
            raise DatasetError(f"{self.paths[which]}, row {row}: {_reason(error)}; pack it again") from error
        return np.asarray(stored / np.float32(FULL_SCALE) if stored.dtype == np.int16 else stored, np.float32)

    def _opened(self, which: int) -> Any:
        if which not in self._files:
            self._files[which] = h5py.File(self.paths[which], "r")
        return self._files[which]


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
        self.rows = Rows(self.paths, where)
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
        if not path.is_file():
            raise DatasetError(f"{path}: no such file; expected clips packed by `panns-litert pack` or by PANNs")
        try:
            with h5py.File(path, "r") as file:
                self._read(file, labels)
        except (OSError, RuntimeError, KeyError) as error:
            raise DatasetError(f"{path}: not HDF5, or damaged ({_reason(error)}); expected packed clips") from error

    def _read(self, file: Any, labels: Sequence[str] | None) -> None:
        lacking = [name for name in (AUDIO_NAME, WAVEFORM, TARGET) if not isinstance(file.get(name), h5py.Dataset)]
        if lacking:
            hint = "it lists clips of other files: give those" if "index_in_hdf5" in file else "pack the clips again"
            raise DatasetError(f"{self.path}: no dataset {', '.join(lacking)}; expected PANNs' layout; {hint}")
        names, waveform, target = file[AUDIO_NAME], file[WAVEFORM], file[TARGET]
        fits = waveform.ndim == target.ndim == 2 and len(names) == len(waveform) == len(target)
        if not fits or waveform.dtype not in (np.int16, np.float32) or not waveform.shape[1] or not target.shape[1]:
            raise DatasetError(
                f"{self.path}: audio_name {names.shape}, waveform {waveform.shape} {waveform.dtype}, target "
                f"{target.shape}; expected (N,), (N, samples) int16 and (N, classes)"
            )
        if SAMPLE_RATE not in file.attrs:
            raise DatasetError(f"{self.path}: no attribute {SAMPLE_RATE}; expected PANNs' layout")
        self.sample_rate, self.samples = int(file.attrs[SAMPLE_RATE]), int(waveform.shape[1])
        self.labels = self._labels(file.attrs.get(LABELS), labels, target.shape[1])
        stored = [bytes(name) for name in names[:]]
        self.rows = np.flatnonzero([len(name) > 0 for name in stored])
        self.absent = len(stored) - len(self.rows)
        self.names = [stored[row].decode("utf-8", "replace") for row in self.rows]
        self.truth = np.asarray(target[:], np.bool_)[self.rows]

    def _labels(self, stored: Any, given: Sequence[str] | None, classes: int) -> tuple[str, ...]:
        found = json.loads(stored) if stored is not None else given
        labels = tuple(audioset_labels() if found is None else found)
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
