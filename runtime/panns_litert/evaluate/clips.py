"""Labelled clips: what a data set consists of."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import Audio, AudioWarning, load_audio
from panns_litert.errors import AudioError, DatasetError

_ROUNDING_SECONDS = 0.05  # tables round times


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """One clip and its classes: a file, or a part of one.

    Attributes:
        path: the file.
        labels: its classes, without repeats; empty for a clip of no class.
        fold: the fold that it belongs to, or None.
        sha256: SHA-256 of the file's bytes.
        start, end: the part of the file, seconds; None for the beginning and for the end.
        recording: the recording that it was cut from, any name; None if it is a recording of its own. Clips of one
            recording belong in one fold.
    """

    path: Path
    labels: tuple[str, ...]
    fold: str | None
    sha256: str
    start: float | None = None
    end: float | None = None
    recording: str | None = None

    @property
    def key(self) -> str:
        """What is heard, as 64 hexadecimal digits: `sha256` for a whole file, another hash for a part of it."""
        if self.start is None and self.end is None:
            return self.sha256
        return hashlib.sha256(f"{self.sha256} {self.start} {self.end}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """The path, and the part in seconds if it is not the whole file."""
        if self.start is None and self.end is None:
            return str(self.path)
        return f"{self.path} ({self.start or 0.0:g} … {'end' if self.end is None else f'{self.end:g}'} s)"

    def read(self, *, sample_rate: int, max_seconds: float | None = None) -> Audio:
        """Reads the clip, and no more of the file than that.

        Args:
            sample_rate: wanted sample rate, Hz.
            max_seconds: seconds to read from the clip's start, at most, > 0; None for the whole clip.

        Raises:
            AudioError: the file cannot be used, or has less than half of the clip.

        Warns:
            AudioWarning: the file ends before the clip does.
        """
        start = self.start or 0.0
        most = [seconds for seconds in (max_seconds, None if self.end is None else self.end - start) if seconds]
        audio = load_audio(self.path, sample_rate=sample_rate, start=start, max_seconds=min(most, default=None))
        if self.end is not None and audio.seconds < (start + self.end) / 2:
            raise AudioError(
                f"{self.path} ends at {audio.seconds:g} s; expected at least half of the part from {start:g} to "
                f"{self.end:g} s"
            )
        if self.end is not None and audio.seconds < self.end - _ROUNDING_SECONDS:
            warnings.warn(f"{self.name}: the file ends at {audio.seconds:g} s", AudioWarning, stacklevel=2)
        return audio


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
        repeated: number of clips with the same sound, byte for byte, as an earlier one. Their labels were added to that
            clip.
        layout: what the data was taken for, such as "ESC-50's CSV".
        notes: what may be wrong with the data, a sentence each, such as one recording in two folds.
    """

    clips: tuple[LabelledClip, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    repeated: int
    layout: str = ""
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of clips of every class."""
        found = Counter(label for clip in self.clips for label in clip.labels)
        return {label: found[label] for label in self.classes}

    @property
    def imbalance(self) -> float:
        """How many times more clips the largest class has than the smallest, among those with clips; 1 if there is one
        class or none."""
        counts = [count for count in self.counts.values() if count]
        return max(counts) / min(counts) if counts else 1.0

    @property
    def folds(self) -> tuple[str, ...]:
        """The folds, sorted: numbers by their value."""
        return sorted_folds(clip.fold for clip in self.clips)

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
            raise DatasetError(f"no clip of fold {fold!r}; expected one of: {', '.join(self.folds) or 'no folds'}")
        return replace(self, clips=chosen)


def sorted_folds(folds: Iterable[str | None]) -> tuple[str, ...]:
    """Returns the different folds that there are, numbers by their value and in front of names."""
    found = {fold for fold in folds if fold is not None}
    number = {fold: int(fold) if fold.isascii() and fold.isdigit() else math.inf for fold in found}
    return tuple(sorted(found, key=lambda fold: (number[fold], fold)))
