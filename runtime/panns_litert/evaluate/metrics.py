"""Metrics of tagging: average precision, AUC, d-prime and accuracy.

The definitions are those of PANNs' table of results (https://arxiv.org/abs/1912.10211, section V-B). Average precision
and AUC are computed by scikit-learn.
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
    """Metrics of one class.

    Attributes:
        label: name of the class.
        clips: number of clips of the class.
        average_precision: 0 … 1; None if no clip has the class.
        auc: 0 … 1; None if no clip or every clip has the class.
        d_prime: d-prime of the AUC, see `figures`; None if the AUC is.
    """

    label: str
    clips: int
    average_precision: float | None
    auc: float | None
    d_prime: float | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Metrics over all classes.

    Attributes:
        clips: number of scored clips.
        mean_ap, auc: means over the classes for which the metric is defined; None if there is none.
        d_prime: d-prime of the mean AUC, see `figures`; None if `auc` is.
        accuracy: share of clips whose highest-scoring class is one of their labels. Clips without labels do not count;
            None if no clip has labels.
        classes: metrics of each class.
    """

    clips: int
    mean_ap: float | None
    auc: float | None
    d_prime: float | None
    accuracy: float | None
    classes: tuple[ClassFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics as JSON types."""
        return asdict(self) | {"classes": [asdict(row) for row in self.classes]}


def d_prime(auc: float) -> float:
    """Returns d-prime, √2·Φ⁻¹(AUC): the distance of two unit normal distributions whose ROC has this area.

    Args:
        auc: area under the ROC curve, 0 … 1; 0 gives -infinity, 1 gives infinity.

    >>> d_prime(0.5)
    0.0
    """
    return math.sqrt(2.0) * float(ndtri(auc))


def figures(probs: ArrayLike, truth: ArrayLike, labels: Sequence[str]) -> Figures:
    """Computes the metrics of scores against the true labels.

    An AUC of 0 or 1 has an infinite d-prime. For d-prime, each class's AUC is therefore limited to half a pair of clips
    from 0 and 1, which is the usual correction. A d-prime at such a limit is only a bound.

    Args:
        probs: scores (clips, classes); a higher score means that the class is more likely.
        truth: true labels (clips, classes), 0 or 1.
        labels: names of the classes.

    Raises:
        DatasetError: the shapes do not match, there is no clip, a score is NaN or Inf, or `truth` is not 0 or 1.
        MissingDependencyError: scikit-learn is not installed.
    """
    with importing("scikit-learn", extra="train", purpose="metrics need"):
        from sklearn.metrics import average_precision_score, roc_auc_score
    try:
        scores, true, labels = np.asarray(probs, np.float64), np.asarray(truth, np.float64), tuple(labels)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"scores, truth or labels are none ({error}); expected (clips ≥ 1, classes)") from error
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
            half_pair = 0.5 / (have * others)
            corrected.append(min(max(auc, half_pair), 1.0 - half_pair))
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
