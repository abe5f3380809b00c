"""Metrics: against closed forms, values computed by hand and counted pairs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from panns_litert.errors import DatasetError, PictureError
from panns_litert.evaluate import d_prime, figures, plot_worst


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values)[:, None]


@pytest.mark.parametrize(
    ("auc", "distance"),
    [
        (0.5, 0.0),
        (0.0, -math.inf),
        (1.0, math.inf),
        (0.5 * math.erfc(-1.0 / 2.0), 1.0),  # the area under the ROC of unit normals one apart: Φ(1/√2)
        (0.5 * math.erfc(-2.5 / 2.0), 2.5),
    ],
)
def test_d_prime_is_the_distance_of_two_normals(auc: float, distance: float) -> None:
    assert d_prime(auc) == pytest.approx(distance, abs=1e-12)


def test_auc_of_two_normals_gives_their_distance() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0.0, 1.0, 20000), rng.normal(1.5, 1.0, 20000)])
    found = figures(scores[:, None], np.repeat([0, 1], 20000)[:, None], ["one"])
    assert found.d_prime == pytest.approx(1.5, abs=0.05)


def test_average_precision_by_hand() -> None:
    found = figures(column(0.9, 0.8, 0.7, 0.6), column(1, 0, 1, 0), ["one"])
    assert found.mean_ap == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found.auc == pytest.approx(3 / 4)  # one of the four pairs has the wrong order
    assert found.d_prime == pytest.approx(d_prime(0.75))


def test_equal_scores_find_nothing() -> None:
    found = figures(np.full((10, 1), 0.3), column(*[1, 0] * 5), ["one"])
    assert (found.auc, found.d_prime, found.mean_ap) == (0.5, pytest.approx(0.0), pytest.approx(0.5))


def test_perfect_scores_have_a_finite_d_prime() -> None:
    found = figures(np.eye(4), np.eye(4), list("abcd"))
    assert (found.mean_ap, found.auc, found.accuracy) == (1.0, 1.0, 1.0)
    assert found.d_prime == pytest.approx(d_prime(1 - 0.5 / 3))  # three pairs per class
    wrong = figures(1 - np.eye(4), np.eye(4), list("abcd"))
    assert wrong.d_prime == pytest.approx(-d_prime(1 - 0.5 / 3))
    assert wrong.accuracy == 0.0


def test_a_class_that_no_clip_or_every_clip_has_counts_for_nothing() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    found = figures(np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.8, 0.2, 0.1]]), truth, list("abc"))
    a, b, c = found.classes
    assert (a.average_precision, a.auc) == (1.0, 1.0)
    assert (b.average_precision, b.auc, b.d_prime) == (None, None, None)
    assert (c.average_precision, c.auc, c.d_prime) == (1.0, None, None)
    assert found.auc == 1.0
    assert found.accuracy == pytest.approx(2 / 3)


def test_clips_of_several_classes_are_right_with_any_of_them() -> None:
    truth = np.array([[1, 1, 0], [0, 0, 0]])
    assert figures(np.array([[0.1, 0.9, 0.2], [0.9, 0.1, 0.1]]), truth, list("abc")).accuracy == 1.0
    assert figures(np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1]]), truth, list("abc")).accuracy == 0.0


def test_a_picture_of_the_worst_classes(tmp_path: Path) -> None:
    labels = [f"class {k}" for k in range(40)]
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (50, 40))
    found = figures(truth + rng.normal(0, np.arange(40) / 20, (50, 40)), truth, labels)
    plot_worst(found, tmp_path / "worst.svg")
    drawn = (tmp_path / "worst.svg").read_text(encoding="utf-8")
    worst = sorted((row.average_precision or 0, row.label) for row in found.classes)
    shown = [label for _, label in worst if f">{label}</text>" in drawn]
    assert shown == [label for _, label in worst[:30]]
    with pytest.raises(PictureError, match=r"suffix '\.xyz'; expected \.png or \.svg"):
        plot_worst(found, tmp_path / "worst.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["worst.svg"]


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 5))
def test_properties(seed: int, clips: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (clips, classes))
    scores = rng.integers(0, 6, (clips, classes)) / 5  # with ties
    labels = [str(k) for k in range(classes)]
    found = figures(scores, truth, labels)
    # Only the order of the scores counts, and reversed scores give 1 - AUC.
    assert figures(scores**3 / 7 + 1, truth, labels).to_dict() | {"accuracy": 0} == found.to_dict() | {"accuracy": 0}
    for one, turned in zip(found.classes, figures(-scores, truth, labels).classes, strict=True):
        if one.auc is None or turned.auc is None:
            assert turned.auc is None
            assert one.clips in (0, clips)
            continue
        k = int(one.label)
        pairs = scores[truth[:, k] == 1, k][:, None] - scores[truth[:, k] == 0, k][None]
        assert one.auc == pytest.approx(float(np.mean((pairs > 0) + 0.5 * (pairs == 0))))
        assert one.auc + turned.auc == pytest.approx(1.0)
        assert one.d_prime is not None
        assert math.isfinite(one.d_prime)
        if pairs.size > 1:  # d' is limited to half a pair short of perfect, which for a single pair is chance
            assert (one.d_prime > 1e-9) == (one.auc > 0.5 + 1e-9)
        assert one.average_precision is not None
        assert 0 < one.average_precision <= 1


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.zeros((0, 1)), np.zeros((0, 1))),
        (np.zeros((2, 2)), np.zeros((2, 2))),
        (np.zeros((2, 1)), np.zeros((3, 1))),
        (np.full((2, 1), np.nan), np.zeros((2, 1))),
        (np.zeros((2, 1)), np.full((2, 1), 0.5)),
    ],
)
def test_bad_input_is_one_error(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
    with pytest.raises(DatasetError, match="expected"):
        figures(scores, truth, ["one"])
