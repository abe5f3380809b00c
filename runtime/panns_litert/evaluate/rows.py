"""The rows of a data set as its folder or table lists them, before the files are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from panns_litert.evaluate.clips import Skipped, sorted_folds
from panns_litert.words import counted


@dataclass(frozen=True, kw_only=True)
class Row:
    """A clip that a folder or a table lists: path, labels, fold, start, end and recording, as in `LabelledClip`."""

    path: Path
    labels: tuple[str, ...]
    fold: str | None = None
    start: float | None = None
    end: float | None = None
    recording: str | None = None


@dataclass(kw_only=True)
class Listing:
    """What a folder or a table lists.

    Attributes:
        layout: what it was taken for.
        rows: the clips.
        skipped: files that were skipped.
        notes: what may be wrong with it, a sentence each.
    """

    layout: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> str:
        """The number of clips and classes, and the folds: "2000 clips, 50 classes, folds 1–5"."""
        labels = {label for row in self.rows for label in row.labels}
        text = f"{counted(len(self.rows), 'clip')}, {counted(len(labels), 'class', 'classes')}"
        folds = sorted_folds(row.fold for row in self.rows)
        if not folds:
            return text
        numbers = [int(fold) for fold in folds if fold.isascii() and fold.isdigit()]
        if len(numbers) == len(folds) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
            return f"{text}, folds {folds[0]}–{folds[-1]}"
        return f"{text}, {'folds' if len(folds) > 1 else 'fold'} {', '.join(folds)}"
