"""Thresholds: chooses the score from which a clip counts as a class, and measures what such thresholds find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panns_litert.errors import DatasetError, importing
from panns_litert.evaluate.metrics import checked
from panns_litert.strict import shown

LEAST_CLIPS = 10
"""The least number of clips of a class, and of other clips, that a threshold is chosen from."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How the clips at or above a threshold agree with the truth.

    Attributes:
        precision: share of them that have the class; None if there is none.
        recall: share of the clips of the class that are among them.
        f1: harmonic mean of the two; 0 if no clip is right.
    """

    precision: float | None
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class ClassThreshold:
    """The threshold of one class.

    Attributes:
        label: name of the class.
        clips: number of clips of the class.
        threshold: a clip counts as the class from this score; None if none was chosen.
        why: why none was chosen; None if one was.
        same: its rates on these clips; they flatter if it was chosen on them. None without a threshold.
        across: rates on all clips, each judged by the threshold that the other folds choose; None without folds, or if
            no other fold has the class.
    """

    label: str
    clips: int
    threshold: float | None
    why: str | None
    same: Rates | None
    across: Rates | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the threshold as JSON types."""
        return asdict(self)


def require_precision(precision: float | None) -> None:
    """Checks a wanted precision.

    Raises:
        DatasetError: it is neither None nor a number, 0 < precision ≤ 1.
    """
    if precision is not None and (
        isinstance(precision, bool) or not isinstance(precision, (int, float, np.number)) or not 0.0 < precision <= 1.0
    ):
        raise DatasetError(f"precision {shown(precision)}; expected a number, more than 0 and at most 1")


def choose_thresholds(
    scores: ArrayLike,
    truth: ArrayLike,
    labels: Sequence[str],
    *,
    precision: float | None = None,
    folds: Sequence[str | None] | None = None,
    given: Mapping[str, float] | None = None,
) -> tuple[ClassThreshold, ...]:
    """Chooses a threshold for every class that has clips.

    A threshold lies midway between two neighbouring scores of the class. No threshold is chosen for a class with fewer
    than `LEAST_CLIPS` clips, or with fewer other clips; if the wanted precision is not reached; or if every clip would
    count.

    Args:
        scores, truth, labels: as for `figures`.
        precision: the wanted precision, 0 < precision ≤ 1: the lowest threshold that reaches it. If not given, the
            threshold with the best F1.
        folds: the fold of each clip. With at least two, `across` is measured.
        given: thresholds by class name to measure, of settings; then none is chosen.

    Raises:
        DatasetError: as for `figures`, or `precision` is out of range.
        MissingDependencyError: scikit-learn is not installed.
    """
    require_precision(precision)
    values, true, labels = checked(scores, truth, labels)
    rows = []
    for k in np.flatnonzero(true.any(axis=0)):
        has, clips = true[:, k] == 1, int(true[:, k].sum())
        threshold, why = None, None
        if given is not None:
            threshold = given.get(labels[k])
            why = "the settings have none" if threshold is None else None
        elif clips < LEAST_CLIPS:
            why = f"fewer than {LEAST_CLIPS} clips"
        elif len(true) - clips < LEAST_CLIPS:
            why = f"fewer than {LEAST_CLIPS} other clips"
        else:
            threshold, why = _chosen(values[:, k], has, precision)
        same = None if threshold is None else rates(values[:, k] >= threshold, has)
        across = _across(values[:, k], has, precision, folds) if given is None else None
        rows.append(
            ClassThreshold(label=labels[k], clips=clips, threshold=threshold, why=why, same=same, across=across)
        )
    return tuple(rows)


def rates(found: NDArray[np.bool_], has: NDArray[np.bool_]) -> Rates:
    """Returns the rates of the clips that were found (clips,) against those that have the class (clips,), at least one.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    with importing("scikit-learn", extra="train", purpose="metrics need"):
        from sklearn.metrics import precision_recall_fscore_support
    precision, recall, f1, _ = precision_recall_fscore_support(has, found, average="binary", zero_division=0.0)
    return Rates(precision=float(precision) if found.any() else None, recall=float(recall), f1=float(f1))


def _chosen(
    scores: NDArray[np.float64], has: NDArray[np.bool_], wanted: float | None
) -> tuple[float | None, str | None]:
    """Returns the threshold of one class, or why there is none."""
    with importing("scikit-learn", extra="train", purpose="metrics need"):
        from sklearn.metrics import precision_recall_curve
    precision, recall, steps = precision_recall_curve(has, scores)  # steps: the different scores, ascending
    precision, recall = precision[:-1], recall[:-1]
    if wanted is None:
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
        best = int(np.flatnonzero(f1 >= f1.max() - 1e-12)[-1])  # of equals the highest, with the fewest clips
    else:
        reached = np.flatnonzero((precision >= wanted - 1e-12) & (recall > 0))
        if not len(reached):
            return None, f"the precision is {precision[recall > 0].max():.3f} at most"
        best = int(reached[0])
    if best == 0:
        return None, "every clip would count"
    return _between(float(steps[best - 1]), float(steps[best])), None


def _between(low: float, high: float) -> float:
    """Returns a number midway between two scores, with as few decimals as keep it in the middle fifth."""
    middle = (low + high) / 2
    for digits in range(1, 17):
        if abs((short := round(middle, digits)) - middle) < (high - low) / 10:
            return short
    return middle if middle > low else high


def _across(
    scores: NDArray[np.float64],
    has: NDArray[np.bool_],
    wanted: float | None,
    folds: Sequence[str | None] | None,
) -> Rates | None:
    """Judges the clips of every fold by the threshold that the other folds choose. Without one, none counts."""
    names = np.array([fold or "" for fold in folds or ()])
    found, judged = np.zeros(len(scores), bool), False
    for fold in np.unique(names):
        here = names == fold
        if has[~here].any() and not has[~here].all():
            judged = True
            threshold, _ = _chosen(scores[~here], has[~here], wanted)
            found[here] = threshold is not None and scores[here] >= threshold
    return rates(found, has) if judged else None
