"""Confusion: which class each clip was taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from panns_litert.errors import importing
from panns_litert.evaluate.metrics import checked


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """Clips of one class that were taken for another.

    Attributes:
        true: the clips' class.
        taken_for: the class that scored highest.
        count: how many clips.
        clips: how many clips of the class were counted.
    """

    true: str
    taken_for: str
    count: int
    clips: int


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts of clips by their class and by the class that scored highest.

    Attributes:
        labels: the classes of a row or column that is not empty, in the order of the model's outputs.
        counts: row by row (labels × labels): a row has the clips of a class, a column those that were taken for one.
        left_out: number of clips without a class or with several, which are not counted.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    left_out: int

    def mistakes(self) -> tuple[Mistake, ...]:
        """Returns the counts off the diagonal that are not 0, the largest first."""
        found = [
            Mistake(true=true, taken_for=other, count=count, clips=sum(row))
            for i, (true, row) in enumerate(zip(self.labels, self.counts, strict=True))
            for j, (other, count) in enumerate(zip(self.labels, row, strict=True))
            if count and i != j
        ]
        return tuple(sorted(found, key=lambda one: (-one.count, one.clips)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the counts as JSON types, with the mistakes."""
        return asdict(self) | {"mistakes": [asdict(one) for one in self.mistakes()]}


def confusion(scores: ArrayLike, truth: ArrayLike, labels: Sequence[str]) -> Confusion:
    """Counts which class each clip of exactly one class was taken for: the one with the highest score.

    Args:
        scores, truth, labels: as for `figures`.

    Raises:
        DatasetError, MissingDependencyError: as for `figures`.
    """
    with importing("scikit-learn", extra="train", purpose="metrics need"):
        from sklearn.metrics import confusion_matrix
    values, true, labels = checked(scores, truth, labels)
    one = true.sum(axis=1) == 1
    if not one.any():
        return Confusion(labels=(), counts=(), left_out=len(true))
    rows, columns = true[one].argmax(axis=1), values[one].argmax(axis=1)
    used = np.union1d(rows, columns)
    counts = confusion_matrix(rows, columns, labels=used)
    return Confusion(
        labels=tuple(labels[k] for k in used),
        counts=tuple(tuple(row) for row in counts.tolist()),
        left_out=int((~one).sum()),
    )
