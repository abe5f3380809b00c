"""Thresholds and calibration: against values computed by hand, every other threshold, and known temperatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from panns_litert.errors import DatasetError
from panns_litert.evaluate import (
    LEAST_CALIBRATION_CLIPS,
    LEAST_CLIPS,
    ClassThreshold,
    calibrate,
    choose_thresholds,
    fit_temperature,
    reliability,
)


def chosen(scores: Any, truth: Any, **options: Any) -> ClassThreshold:
    (found,) = choose_thresholds(np.asarray(scores)[:, None], np.asarray(truth)[:, None], ["one"], **options)
    return found


def test_a_threshold_is_midway_between_neighbours() -> None:
    # Ten clips of the class at 0.6 … 0.69, one at 0.2 between ten others at 0.1 … 0.19 and ten at 0.3 … 0.39.
    scores = np.concatenate([0.6 + np.arange(10) / 100, [0.2], 0.1 + np.arange(10) / 100, 0.3 + np.arange(10) / 100])
    found = chosen(scores, [1] * 11 + [0] * 20)
    assert found.threshold == 0.5  # midway between 0.39 and 0.6 is 0.495; a tenth of the gap off is near enough
    assert found.same is not None
    assert (found.same.precision, found.same.recall) == (1.0, pytest.approx(10 / 11))
    assert found.same.f1 == pytest.approx(20 / 21)
    # 11 of the 22 clips at or above 0.19 are right: a precision of 0.5 is reached there, and at 0.18 no more.
    low = chosen(scores, [1] * 11 + [0] * 20, precision=0.5)
    assert low.threshold == 0.185
    assert low.same is not None
    assert (low.same.precision, low.same.recall) == (0.5, 1.0)


def rates_at(scores: NDArray[np.float64], has: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """Returns precision and F1 by counting."""
    found = scores >= threshold
    right = int((found & has).sum())
    return right / max(1, int(found.sum())), 2 * right / (int(found.sum()) + int(has.sum()))


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.3, 0.7, 0.95, 1.0]))
def test_no_other_threshold_is_better(seed: int, wanted: float | None) -> None:
    rng = np.random.default_rng(seed)
    has = rng.permutation(np.arange(40) < 12)
    scores = np.round(np.clip(0.2 * has + rng.normal(0.4, 0.2, 40), 0, 1), 2)
    found = chosen(scores, has, precision=wanted)
    others = [rates_at(scores, has, score) for score in np.unique(scores)]
    if found.threshold is None:
        assert found.why is not None
        best = others[0] if wanted is None else None  # the lowest score: every clip counts
        assert best is None or best[1] == max(f1 for _, f1 in others)
        if wanted is not None and "at most" in found.why:
            assert all(precision < wanted for precision, _ in others)
        return
    assert found.threshold not in scores
    precision, f1 = rates_at(scores, has, found.threshold)
    if wanted is None:
        assert f1 == pytest.approx(max(f1 for _, f1 in others))
    else:
        assert precision >= wanted - 1e-9
        lower = [rates_at(scores, has, score)[0] for score in np.unique(scores) if score < found.threshold]
        assert all(precision < wanted for precision in lower)


@pytest.mark.parametrize(
    ("clips", "others", "options", "why"),
    [
        (LEAST_CLIPS - 1, 30, {}, f"fewer than {LEAST_CLIPS} clips"),
        (30, LEAST_CLIPS - 1, {}, f"fewer than {LEAST_CLIPS} other clips"),
        (LEAST_CLIPS, 30, {"precision": 0.9}, "the precision is 0.250 at most"),
        (LEAST_CLIPS, 30, {}, "every clip would count"),
    ],
)
def test_no_threshold_is_said_with_its_reason(clips: int, others: int, options: Any, why: str) -> None:
    found = chosen(np.full(clips + others, 0.5), [1] * clips + [0] * others, **options)
    assert (found.clips, found.threshold, found.same, found.why) == (clips, None, None, why)


def test_classes_without_clips_are_left_out() -> None:
    truth = np.zeros((40, 3))
    truth[:20, 1] = 1
    (found,) = choose_thresholds(truth, truth, ["a", "b", "c"])
    assert (found.label, found.threshold) == ("b", 0.5)
    with pytest.raises(DatasetError, match=r"precision 1\.5; expected a number, more than 0 and at most 1"):
        choose_thresholds(truth, truth, ["a", "b", "c"], precision=1.5)


def test_other_folds_show_what_the_same_clips_hide() -> None:
    rng = np.random.default_rng(0)
    has, scores = rng.random(200) < 0.2, rng.random(200)  # scores that say nothing
    folds = [str(k % 4) for k in range(200)]
    found = chosen(scores, has, precision=0.6, folds=folds)
    assert found.same is not None
    assert found.across is not None
    assert found.same.precision is not None
    assert found.same.precision >= 0.6
    assert (found.across.precision or 0.0) < 0.4  # about the share of the class
    assert chosen(scores, has, folds=["1"] * 200).across is None
    # By hand: fold a chooses 0.5 for fold b, and b chooses 0.8 for a.
    scores = np.concatenate([[0.6] * 10, [0.4] * 10, [0.9] * 10, [0.7] * 10])
    truth, folds = ([1] * 10 + [0] * 10) * 2, ["a"] * 20 + ["b"] * 20
    across = chosen(scores, truth, folds=folds).across
    assert across is not None
    assert (across.precision, across.recall) == (0.5, 0.5)  # none of a, and all of b


def test_reliability_by_hand() -> None:
    # 4 decisions at 0.2, one of them right; 6 at 0.9, three right.
    found = reliability(np.array([[0.2, 0.9]] * 4 + [[0.9, 0.9]])[:, :], [[1, 1]] + [[0, 1]] + [[0, 0]] * 2 + [[1, 0]])
    assert [(one.score, one.share, one.decisions) for one in found.curve] == [
        (pytest.approx(0.2), 0.25, 4),
        (pytest.approx(0.9), 0.5, 6),
    ]
    assert found.error == pytest.approx(0.4 * abs(0.25 - 0.2) + 0.6 * abs(0.5 - 0.9))
    loss = np.log(0.2) + 3 * np.log(0.8) + 3 * np.log(0.9) + 3 * np.log(0.1)
    assert found.loss == pytest.approx(-loss / 10)
    with pytest.raises(DatasetError, match="expected probabilities"):
        reliability([[1.5]], [[1]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (3000, 4))
    truth = rng.random(logits.shape) < expit(logits)

    def scores_at(divisor: float) -> NDArray[np.float64]:
        return expit(logits * temperature / divisor)

    assert fit_temperature(scores_at, truth) == pytest.approx(temperature, rel=0.05)
    folds = [str(k % 5) for k in range(3000)]
    found = calibrate(scores_at, truth, folds=folds)
    assert found.after is not None
    assert found.across is not None
    assert found.after.error < 0.015
    assert found.across.loss == pytest.approx(found.after.loss, rel=0.01)
    assert found.after.loss <= found.before.loss
    if temperature != 1.0:
        assert found.before.error > 3 * found.after.error


def test_a_temperature_that_means_nothing_is_refused() -> None:
    truth = np.repeat([[0], [1]], 40, axis=0)
    perfect = np.where(truth, 2.0, -2.0)
    with pytest.raises(DatasetError, match=r"at the end of 0\.1 … 10, 0\.1"):  # always right: the surer the better
        fit_temperature(lambda divisor: expit(perfect / divisor), truth)
    with pytest.raises(DatasetError, match=r"at the end of 0\.1 … 10, 10"):  # always wrong
        fit_temperature(lambda divisor: expit(-perfect / divisor), truth)
    few = LEAST_CALIBRATION_CLIPS - 1
    with pytest.raises(DatasetError, match=f"{few} clips; a temperature is fitted to {LEAST_CALIBRATION_CLIPS}"):
        fit_temperature(lambda divisor: expit(perfect[:few] / divisor), truth[:few])
    found = calibrate(lambda divisor: expit(perfect / divisor), truth)
    assert found.temperature is None
    assert found.after is None
    assert found.why is not None
