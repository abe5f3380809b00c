"""Metrics: against closed forms, values computed by hand and counted pairs."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from panns_litert.errors import DatasetError
from panns_litert.evaluate import (
    BOOTSTRAPS,
    confusion,
    d_prime,
    draw_confusion,
    draw_worst,
    f1_scores,
    figures,
    mean_ap_interval,
    wilson,
)
from panns_litert.evaluate.metrics_plot import MOST
from panns_litert.pictures import drawing


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


@pytest.mark.parametrize(("right", "of"), [(0, 10), (7, 10), (10, 10), (306, 320)])
def test_wilsons_interval_by_its_formula(right: int, of: int) -> None:
    z, share = 1.959963984540054, right / of
    centre, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    assert wilson(right, of) == pytest.approx(
        ((centre - half) / (1 + z * z / of), (centre + half) / (1 + z * z / of)), abs=1e-12
    )


def made(clips: int, classes: int, *, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Returns scores with ties, a truth and the names of the classes; the last class has no clip."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((clips, classes)) < 0.3).astype(np.int64)
    truth[:, -1] = 0
    scores = np.round(np.clip(0.3 * truth + rng.normal(0.4, 0.2, truth.shape), 0, 1), 1)
    return scores, truth, [str(k) for k in range(classes)]


def test_intervals_are_those_of_scikit_learn_on_the_same_draws() -> None:
    scores, truth, labels = made(25, 4)
    means, micro, macro = [], [], []
    for counts in np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=BOOTSTRAPS):
        drawn = np.repeat(np.arange(25), counts)
        present = [k for k in range(3) if truth[drawn, k].any()]
        means.append(np.mean([average_precision_score(truth[drawn, k], scores[drawn, k]) for k in present]))
        found = scores[drawn, :3] >= 0.5
        micro.append(f1_score(truth[drawn, :3], found, average="micro"))
        macro.append(f1_score(truth[drawn, :3], found, average="macro", zero_division=np.nan))
    assert mean_ap_interval(scores, truth, labels) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    f1 = f1_scores(scores, truth, labels)
    assert f1 is not None
    assert f1.classes == 3
    assert f1.micro_interval == pytest.approx(tuple(np.quantile(micro, [0.025, 0.975])))
    assert f1.macro_interval == pytest.approx(tuple(np.quantile(macro, [0.025, 0.975])))
    assert f1.micro == pytest.approx(f1_score(truth[:, :3], scores[:, :3] >= 0.5, average="micro"))
    own = f1_scores(scores, truth, labels, thresholds={"1": 0.7, "3": 0.1})
    assert own is not None
    assert own.classes == 1
    assert own.macro == pytest.approx(f1_score(truth[:, 1], scores[:, 1] >= 0.7))


def test_no_interval_without_a_class() -> None:
    assert mean_ap_interval(np.zeros((2, 1)), np.zeros((2, 1)), ["one"]) is None
    assert f1_scores(np.zeros((2, 1)), np.zeros((2, 1)), ["one"]) is None
    assert f1_scores(np.zeros((2, 1)), np.ones((2, 1)), ["one"], thresholds={}) is None
    assert figures(np.zeros((2, 1)), np.zeros((2, 1)), ["one"]).accuracy_interval is None


def test_confusion_by_hand() -> None:
    # Two clips of a, one of them taken for c; one of b; one of both and one of none, which do not count.
    truth = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    scores = np.array([[9, 1, 1, 0], [1, 2, 3, 0], [1, 2, 1, 0], [1, 1, 9, 0], [1, 1, 9, 0]]) / 10
    found = confusion(scores, truth, list("abcd"))
    assert found.labels == ("a", "b", "c")  # d is neither the class of a clip nor what one was taken for
    assert found.counts == ((1, 0, 1), (0, 1, 0), (0, 0, 0))
    assert found.left_out == 2
    (mistake,) = found.mistakes()
    assert (mistake.true, mistake.taken_for, mistake.count, mistake.clips) == ("a", "c", 1, 2)
    assert found.to_dict()["mistakes"][0]["count"] == 1
    assert confusion(scores[3:], truth[3:], list("abcd")).counts == ()


def test_pictures_show_the_worst_classes(tmp_path: Path) -> None:
    labels = [f"class {k}" for k in range(40)]
    rng = np.random.default_rng(0)
    truth = np.tile(np.eye(40), (5, 1))
    scores = truth + rng.normal(0, np.arange(40) / 20, truth.shape)
    found, confused = figures(scores, truth, labels), confusion(scores, truth, labels)
    worst = sorted((row.average_precision or 0, row.label) for row in found.classes)
    with drawing(tmp_path / "worst.svg", size=(8.0, 8.0), dpi=120) as figure:
        draw_worst(figure.subplots(), found)
    drawn = (tmp_path / "worst.svg").read_text(encoding="utf-8")
    assert [label for _, label in worst if f">{label}</text>" in drawn] == [label for _, label in worst[:MOST]]
    with drawing(tmp_path / "confused.svg", size=(8.0, 8.0), dpi=120) as figure:
        draw_confusion(figure.subplots(), confused)
    drawn = (tmp_path / "confused.svg").read_text(encoding="utf-8")
    mistakes = Counter(
        name for one in confused.mistakes() for name in (one.true, one.taken_for) for _ in range(one.count)
    )
    shown = [label for label in labels if f">{label}</text>" in drawn]
    assert len(shown) == MOST
    assert min(mistakes[label] for label in shown) >= max(mistakes[label] for label in labels if label not in shown)
    assert "clips, 30 of 40 classes" in drawn


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 5))
def test_properties(seed: int, clips: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (clips, classes))
    scores = rng.integers(0, 6, (clips, classes)) / 5  # with ties
    labels = [str(k) for k in range(classes)]
    found = figures(scores, truth, labels)
    # Only the order of the scores counts, and reversed scores give 1 - AUC.
    other = figures(scores**3 / 7 + 1, truth, labels).to_dict()
    none = {"accuracy": 0, "accuracy_interval": 0}  # rounding may make scores equal, and the first is the highest
    assert other | none == found.to_dict() | none
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
