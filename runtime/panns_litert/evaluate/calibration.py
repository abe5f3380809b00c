"""Calibration: whether a score of 0.7 is right in 70 % of cases, and the temperature that makes it so.

After Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
https://arxiv.org/abs/1706.04599, with a sigmoid for each class in place of their softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from panns_litert.errors import DatasetError, importing
from panns_litert.evaluate.metrics import checked

BINS = 10
"""Number of bins of a reliability curve, of equal width."""

LEAST_CALIBRATION_CLIPS = 30
"""The least number of clips that a temperature is fitted to."""

TEMPERATURES = (0.1, 10.0)
"""The range in which a temperature is looked for."""

_EDGE = 1e-6  # a loss that is lower than at the end of the range by less than this share is at the end
_CLIPPED = 1e-7  # scores nearer than this to 0 or 1 count as this near: a float32 below 1 is not nearer


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The decisions whose scores are in one bin. A decision is one class of one clip.

    Attributes:
        score: mean of their scores.
        share: share of them in which the clip has the class.
        decisions: how many they are, > 0.
    """

    score: float
    share: float
    decisions: int


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well scores are calibrated.

    Attributes:
        error: expected calibration error: mean of |share - score| over the bins, weighted by their decisions.
        loss: mean binary cross entropy of the decisions, nats.
        curve: the bins that are not empty, by ascending score.
    """

    error: float
    loss: float
    curve: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The calibration of a model's scores before and after a temperature.

    Attributes:
        clips, classes: numbers of the clips, and of the classes that have clips. Only those classes count.
        temperature: divisor of the logits with the lowest loss; None if none could be fitted.
        why: why not; None if it was.
        before: of the scores as they are.
        after: of the scores with the temperature, on the clips that it was fitted to; None without one.
        across: of the scores of each clip with the temperature that the other folds give; None without folds.
    """

    clips: int
    classes: int
    temperature: float | None
    why: str | None
    before: Reliability
    after: Reliability | None
    across: Reliability | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the calibration as JSON types."""
        return asdict(self)


def reliability(scores: ArrayLike, truth: ArrayLike) -> Reliability:
    """Compares scores (clips, classes), 0 … 1, with the truth of the same shape, 0 or 1.

    Raises:
        DatasetError: as for `figures`, or a score is not 0 … 1.
        MissingDependencyError: scikit-learn is not installed.
    """
    with importing("scikit-learn", extra="train", purpose="metrics need"):
        from sklearn.calibration import calibration_curve
        from sklearn.metrics import log_loss
    values, true = _decisions(scores, truth)
    shares, means = calibration_curve(true, values, n_bins=BINS)
    # As in calibration_curve, which does not return the counts: a score at an edge is in the bin below it.
    bins = np.searchsorted(np.linspace(0.0, 1.0, BINS + 1)[1:-1], values)
    counts = np.bincount(bins, minlength=BINS)
    counts = counts[counts > 0]
    curve = tuple(
        Bin(score=float(mean), share=float(share), decisions=int(count))
        for mean, share, count in zip(means, shares, counts, strict=True)
    )
    error = float(np.abs(shares - means) @ counts / counts.sum())
    return Reliability(error=error, loss=float(log_loss(true, _clipped(values), labels=[0, 1])), curve=curve)


def fit_temperature(scores_at: Callable[[float], NDArray[np.floating]], truth: ArrayLike) -> float:
    """Returns the temperature with the lowest binary cross entropy.

    Args:
        scores_at: returns the scores (clips, classes), 0 … 1, with a temperature.
        truth: true labels (clips, classes), 0 or 1.

    Raises:
        DatasetError: there are fewer than `LEAST_CALIBRATION_CLIPS` clips, or the temperature is at an end of
            `TEMPERATURES`: then no temperature helps.
    """
    true = np.asarray(truth, np.float64)
    if len(true) < LEAST_CALIBRATION_CLIPS:
        raise DatasetError(f"{len(true)} clips; a temperature is fitted to {LEAST_CALIBRATION_CLIPS} at least")

    def loss(logarithm: float) -> float:
        values, true_of = _decisions(scores_at(math.exp(logarithm)), true)
        clipped = _clipped(values)
        return float(-np.mean(true_of * np.log(clipped) + (1.0 - true_of) * np.log1p(-clipped)))

    ends = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    best = float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4}).x)
    end = min(ends, key=loss)
    if loss(end) <= loss(best) * (1.0 + _EDGE):
        raise DatasetError(
            f"the best temperature is at the end of {TEMPERATURES[0]:g} … {TEMPERATURES[1]:g}, {math.exp(end):g}, "
            "which means that the scores are all right, all wrong or all alike"
        )
    return float(f"{math.exp(best):.4g}")  # a file for people; the loss is flat there


def calibrate(
    scores_at: Callable[[float], NDArray[np.floating]],
    truth: ArrayLike,
    *,
    folds: Sequence[str | None] | None = None,
) -> Calibration:
    """Measures the calibration of the classes that have clips, and fits a temperature.

    Args:
        scores_at: returns the scores (clips, classes), 0 … 1, with a temperature; 1 gives the scores as they are.
        truth: true labels (clips, classes), 0 or 1.
        folds: the fold of each clip. With at least two, `across` is measured.

    Raises:
        DatasetError: the shapes do not match, no clip has a class, or a score is not 0 … 1.
        MissingDependencyError: scikit-learn is not installed.
    """
    whole = np.asarray(truth, np.float64)
    classes = np.flatnonzero(whole.any(axis=0))
    if not len(classes):
        raise DatasetError("no clip has a class; expected labelled clips")
    true = whole[:, classes]

    def kept(temperature: float) -> NDArray[np.floating]:
        return np.asarray(scores_at(temperature))[:, classes]

    temperature, why, after = None, None, None
    before = reliability(kept(1.0), true)
    try:
        temperature = fit_temperature(kept, true)
        after = reliability(kept(temperature), true)
    except DatasetError as error:
        why = str(error)
    return Calibration(
        clips=len(true),
        classes=len(classes),
        temperature=temperature,
        why=why,
        before=before,
        after=after,
        across=_across(kept, true, folds),
    )


def _across(
    scores_at: Callable[[float], NDArray[np.floating]], true: NDArray[np.float64], folds: Sequence[str | None] | None
) -> Reliability | None:
    names = np.array([fold or "" for fold in folds or ()])
    if len(np.unique(names)) < 2:
        return None
    scores = np.zeros(true.shape)
    for fold in np.unique(names):
        here = names == fold

        def others(temperature: float, rows: NDArray[np.bool_] = ~here) -> NDArray[np.floating]:
            return scores_at(temperature)[rows]

        try:
            scores[here] = scores_at(fit_temperature(others, true[~here]))[here]
        except DatasetError:
            return None
    return reliability(scores, true)


def _decisions(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the scores and the truth of all decisions, (decisions,) each."""
    values, true, _ = checked(scores, truth, [""] * np.asarray(truth).shape[-1])
    if not (values.min() >= 0.0 and values.max() <= 1.0):
        raise DatasetError(f"scores {values.min():g} … {values.max():g}; expected probabilities, 0 … 1")
    return values.ravel(), true.ravel()


def _clipped(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(values, _CLIPPED, 1.0 - _CLIPPED)
