"""How well scores find classes: average precision, AUC, d-prime and accuracy.

The definitions are those of PANNs' table of results (https://arxiv.org/abs/1912.10211, section V-B); precision and ROC
are scikit-learn's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from panns_litert.errors import DatasetError, importing


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class. A figure is None where it is not defined: no clip has the class, or every clip does.

    Attributes:
        label: its name.
        clips: how many have it.
        average_precision, auc: 0 … 1.
        d_prime: of the AUC, see `d_prime`.
    """

    label: str
    clips: int
    average_precision: float | None
    auc: float | None
    d_prime: float | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All classes together.

    Attributes:
        clips: how many were scored.
        mean_ap, auc: means over the classes that have the figure; None where none has.
        d_prime: of the mean AUC.
        accuracy: share of clips whose highest class is one of theirs; clips without a class do not count.
        classes: every class by itself.
    """

    clips: int
    mean_ap: float | None
    auc: float | None
    d_prime: float | None
    accuracy: float | None
    classes: tuple[ClassFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON types."""
        return asdict(self) | {"classes": [asdict(row) for row in self.classes]}


def d_prime(auc: float) -> float:
    """The distance of two unit normal distributions whose ROC has that area, √2·Φ⁻¹(AUC); 0 for 0.5.

    Args:
        auc: 0 … 1; the ends give ∓ infinity.

    >>> d_prime(0.5)
    0.0
    """
    return math.sqrt(2.0) * float(ndtri(auc))


def figures(probs: ArrayLike, truth: ArrayLike, labels: Sequence[str]) -> Figures:
    """Figures of scores against what is true.

    A perfect AUC has an infinite d-prime. It is taken as half a pair of clips short of perfect, the usual correction,
    so d-prime is finite and, at the ends, a bound.

    Args:
        probs: (clips, classes), higher means surer.
        truth: (clips, classes), 0 or 1.
        labels: names of the classes.

    Raises:
        DatasetError: shapes that do not fit, no clip, scores that are NaN or Inf, or a truth other than 0 and 1.
        MissingDependencyError: scikit-learn is not installed.
    """
    with importing("scikit-learn", extra="train", purpose="metrics need"):
        from sklearn.metrics import average_precision_score, roc_auc_score
    scores, true = np.asarray(probs, np.float64), np.asarray(truth)
    if scores.ndim != 2 or scores.shape != true.shape or scores.shape[1] != len(labels) or not scores.size:
        raise DatasetError(
            f"scores {scores.shape} and truth {true.shape} for {len(labels)} classes; expected (clips ≥ 1, classes)"
        )
    if not np.isfinite(scores).all() or not np.isin(true, (0, 1)).all():
        raise DatasetError("scores with NaN or Inf, or a truth other than 0 and 1; expected finite scores")
    rows, corrected = [], []
    for k, label in enumerate(labels):
        have = int(true[:, k].sum())
        others = len(true) - have
        precision = float(average_precision_score(true[:, k], scores[:, k])) if have else None
        auc = distance = None
        if have and others:
            auc = float(roc_auc_score(true[:, k], scores[:, k]))
            corrected.append(_short_of_perfect(auc, pairs=have * others))
            distance = d_prime(corrected[-1])
        rows.append(ClassFigures(label=label, clips=have, average_precision=precision, auc=auc, d_prime=distance))
    labelled = true.any(axis=1)
    hits: NDArray[np.bool_] = true[np.arange(len(true)), scores.argmax(axis=1)][labelled] == 1
    return Figures(
        clips=len(true),
        mean_ap=_mean([row.average_precision for row in rows]),
        auc=_mean([row.auc for row in rows]),
        d_prime=d_prime(float(np.mean(corrected))) if corrected else None,
        accuracy=float(hits.mean()) if hits.size else None,
        classes=tuple(rows),
    )


def _short_of_perfect(auc: float, *, pairs: int) -> float:
    half = 0.5 / pairs
    return min(max(auc, half), 1.0 - half)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
