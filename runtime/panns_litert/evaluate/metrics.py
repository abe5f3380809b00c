"""Metrics of tagging: average precision, AUC, d-prime and accuracy.

The definitions are those of PANNs' table of results (https://arxiv.org/abs/1912.10211, section V-B). Average precision
and AUC are computed by scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import binomtest

from panns_litert.errors import DatasetError, importing

BOOTSTRAPS = 1000
"""Number of times that the clips are drawn again for an interval."""

CONFIDENCE = 0.95
"""Confidence of the intervals."""

Interval = tuple[float, float]
"""The ends of a confidence interval."""

_DRAWN_AT_ONCE = 50  # of the bootstraps: thousands of clips in all of them would take gigabytes


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
        accuracy_interval: Wilson's interval of the accuracy.
        classes: metrics of each class.
    """

    clips: int
    mean_ap: float | None
    auc: float | None
    d_prime: float | None
    accuracy: float | None
    accuracy_interval: Interval | None
    classes: tuple[ClassFigures, ...]

    @property
    def heard_classes(self) -> int:
        """Number of classes that have clips: those that the means are over."""
        return sum(row.clips > 0 for row in self.classes)

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


@dataclass(frozen=True, kw_only=True)
class F1Score:
    """F1 of the decisions that thresholds make, over the classes that have a threshold and clips.

    Attributes:
        classes: number of these classes.
        micro: over the decisions of all classes together.
        macro: mean over the classes.
        micro_interval, macro_interval: bootstrap intervals, see `f1_scores`.
    """

    classes: int
    micro: float
    macro: float
    micro_interval: Interval
    macro_interval: Interval


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
    scores, true, labels = checked(probs, truth, labels)
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
        accuracy_interval=wilson(int(hits.sum()), hits.size) if hits.size else None,
        classes=tuple(rows),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def checked(
    scores: ArrayLike, truth: ArrayLike, labels: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Checks scores, truth and labels as `figures` does. Returns them as arrays (clips, classes) and a tuple.

    Raises:
        DatasetError: as for `figures`.
    """
    try:
        values, true, names = np.asarray(scores, np.float64), np.asarray(truth, np.float64), tuple(labels)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"scores, truth or labels are none ({error}); expected (clips ≥ 1, classes)") from error
    if values.ndim != 2 or values.shape != true.shape or values.shape[1] != len(names) or not values.size:
        raise DatasetError(
            f"scores {values.shape} and truth {true.shape} for {len(names)} classes; expected (clips ≥ 1, classes)"
        )
    if not np.isfinite(values).all() or not np.isin(true, (0, 1)).all():
        raise DatasetError("scores with NaN or Inf, or a truth other than 0 and 1; expected finite scores")
    return values, true, names


def wilson(right: int, of: int) -> Interval:
    """Returns Wilson's interval of a share: `right` of `of` > 0."""
    found = binomtest(right, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def mean_ap_interval(scores: ArrayLike, truth: ArrayLike, labels: Sequence[str]) -> Interval | None:
    """Returns the bootstrap interval of the mean average precision: the clips are drawn again, with replacement.

    The seed is fixed. A class that a draw has no clip of does not count there.

    Args:
        scores, truth, labels: as for `figures`.

    Returns:
        The interval; None if no clip has a class.

    Raises:
        DatasetError: as for `figures`.
    """
    values, true, _ = checked(scores, truth, labels)
    classes = np.flatnonzero(true.any(axis=0))
    if not len(classes):
        return None
    orders = [np.argsort(-values[:, k], kind="stable") for k in classes]
    # Equal scores are one step of the curve, as in scikit-learn: only the last clip of each is a point.
    ends = [np.append(np.diff(values[order, k]) != 0, True) for k, order in zip(classes, orders, strict=True)]
    means = []
    for counts in _draws(len(true)):
        sums, present = np.zeros(len(counts)), np.zeros(len(counts))
        for k, order, end in zip(classes, orders, ends, strict=True):
            drawn = counts[:, order]
            right = np.cumsum(drawn * true[order, k], axis=1)[:, end]
            precision = right / np.maximum(np.cumsum(drawn, axis=1)[:, end], 1)
            total = right[:, -1]
            sums += (np.diff(right, axis=1, prepend=0) * precision).sum(axis=1) / np.maximum(total, 1)
            present += total > 0
        means.append(sums / np.maximum(present, 1))
    return _interval(np.concatenate(means))


def f1_scores(
    scores: ArrayLike, truth: ArrayLike, labels: Sequence[str], *, thresholds: float | Mapping[str, float] = 0.5
) -> F1Score | None:
    """Returns the F1 of the decisions "score ≥ threshold".

    The intervals are those of the bootstrap: the clips are drawn again, with replacement and a fixed seed; the
    thresholds stay.

    Args:
        scores, truth, labels: as for `figures`.
        thresholds: one for all classes, or by class name; classes without one do not count.

    Returns:
        The F1; None if no class has a threshold and clips.

    Raises:
        DatasetError: as for `figures`.
    """
    values, true, names = checked(scores, truth, labels)
    least = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(names, thresholds)
    kept = [k for k, name in enumerate(names) if name in least and true[:, k].any()]
    if not kept:
        return None
    has = true[:, kept].astype(bool)
    found = values[:, kept] >= np.array([least[names[k]] for k in kept])
    right, all_of_both = (has & found).astype(np.float64), has.astype(np.float64) + found

    def score(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns micro and macro F1 (2, draws) of clips that are drawn so often, (draws, clips)."""
        both, either = 2 * counts @ right, counts @ all_of_both
        micro = both.sum(axis=1) / np.maximum(either.sum(axis=1), 1)
        macro = (both / np.maximum(either, 1)).sum(axis=1) / np.maximum((either > 0).sum(axis=1), 1)
        return np.array([micro, macro])

    (micro,), (macro,) = score(np.ones((1, len(true)), np.int64))
    micros, macros = np.concatenate([score(counts) for counts in _draws(len(true))], axis=1)
    return F1Score(
        classes=len(kept),
        micro=float(micro),
        macro=float(macro),
        micro_interval=_interval(micros),
        macro_interval=_interval(macros),
    )


def _draws(clips: int) -> Iterator[NDArray[np.int64]]:
    """Yields how often each clip is drawn in some of the bootstraps, (draws, clips)."""
    rng = np.random.default_rng(0)
    for start in range(0, BOOTSTRAPS, _DRAWN_AT_ONCE):
        count = min(_DRAWN_AT_ONCE, BOOTSTRAPS - start)
        yield rng.multinomial(clips, np.full(clips, 1.0 / clips), size=count)


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [(1.0 - CONFIDENCE) / 2, (1.0 + CONFIDENCE) / 2])
    return float(low), float(high)
