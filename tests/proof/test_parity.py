"""Parity figures: every kind of wrong output fails, and a right one passes."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from panns_litert.bundle import Check
from panns_litert.errors import BundleError, ParityError
from panns_litert.proof import GATES, TAG_THRESHOLD, Gate, compare, compare_tags, require
from panns_litert.strict import read

GATE = Gate(max_abs=5e-3, corr=0.9999, top5=True)


@pytest.fixture
def reference() -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(0, 1, (3, 527))


def test_equal_passes(reference: NDArray[np.float64]) -> None:
    check = compare("fp16", "probs", reference, reference, gate=GATE)
    assert check.passed
    assert (check.max_abs, check.rmse, check.top5_agree) == (0.0, 0.0, 1.0)
    assert check.corr == pytest.approx(1.0)
    assert check.psnr_db == 300.0


def test_figures_are_the_textbook_ones() -> None:
    got, want = np.array([[1.0, 2.0, 4.0]]), np.array([[1.0, 2.0, 3.0]])
    check = compare("fp32", "x", got, want, gate=Gate(max_abs=2.0))
    assert check.max_abs == 1.0
    assert check.rmse == pytest.approx(np.sqrt(1 / 3))
    assert check.corr == pytest.approx(np.corrcoef(got[0], want[0])[0, 1])
    assert check.psnr_db == pytest.approx(20 * np.log10(3 / np.sqrt(1 / 3)))


def test_scale_is_not_hidden_by_correlation(reference: NDArray[np.float64]) -> None:
    check = compare("fp16", "probs", 0.9 * reference, reference, gate=GATE)
    assert check.corr == pytest.approx(1.0)
    assert not check.passed
    assert "max abs error" in check.why


def test_one_class_of_527_is_not_hidden_by_psnr(reference: NDArray[np.float64]) -> None:
    got = reference.copy()
    got[1, 100] = abs(got[1, 100] - 0.37)
    check = compare("fp16", "probs", got, reference, gate=GATE)
    assert check.psnr_db is not None
    assert check.psnr_db > 35
    assert not check.passed


def test_one_bad_clip_is_not_hidden_by_the_others() -> None:
    reference = np.concatenate([np.linspace(0, 1, 50)[None], 1e-4 * np.linspace(0, 1, 50)[None]])
    got = reference.copy()
    got[1] = got[1, ::-1]  # tiny values in reversed order: max abs error stays far below the bound
    check = compare("fp16", "probs", got, reference, gate=GATE)
    assert check.max_abs is not None
    assert check.max_abs < 1e-3
    assert "correlation" in check.why


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_fail(reference: NDArray[np.float64], value: float) -> None:
    got = reference.copy()
    got[2, 5] = value
    check = compare("fp16", "probs", got, reference, gate=Gate(max_abs=np.inf))
    assert not check.passed
    assert check.why == "1 values are NaN or Inf"
    assert check.max_abs is None
    assert not compare("fp16", "probs", reference, got, gate=Gate(max_abs=np.inf)).passed


def test_all_zero_fails_whatever_the_bound(reference: NDArray[np.float64]) -> None:
    got = reference.copy()
    got[0] = 0
    check = compare("fp16", "probs", got, reference, gate=Gate(max_abs=10.0))
    assert not check.passed
    assert "all zero" in check.why


def test_flat_reference_fails() -> None:
    flat = np.full((2, 10), 0.5)
    check = compare("fp16", "probs", flat, flat, gate=GATE)
    assert not check.passed
    assert "flat" in check.why


def test_flat_output_fails(reference: NDArray[np.float64]) -> None:
    check = compare("fp16", "probs", np.full_like(reference, 0.5), reference, gate=Gate(max_abs=1.0, corr=0.1))
    assert not check.passed
    assert check.corr == -1.0


@pytest.mark.parametrize("shape", [(3, 526), (2, 527), (527, 3), (3, 0), (3,)])
def test_another_shape_fails(reference: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    check = compare("fp16", "probs", np.ones(shape), reference, gate=GATE)
    assert not check.passed
    assert "shape" in check.why


def test_top5_must_hold_where_the_margin_exceeds_the_error() -> None:
    reference = np.linspace(0.0, 0.1, 20)[None].copy()
    reference[0, 15:] = 0.5 + 0.004 * np.arange(5)  # the lowest of the five is 0.400 above the sixth
    assert compare("fp16", "probs", reference, reference, gate=GATE).top5_agree == 1.0
    got = reference.copy()
    got[0, 15], got[0, 0] = 0.2, 0.21  # error 0.3 < margin 0.405: class 0 takes the place of class 15
    check = compare("fp16", "probs", got, reference, gate=Gate(max_abs=1.0, top5=True))
    assert check.top5_agree == pytest.approx(0.8)
    assert "five highest" in check.why


def test_top5_within_the_error_is_undecided() -> None:
    reference = np.full((1, 20), 0.1)
    reference[0, :5], reference[0, 5] = 0.9, 0.899
    got = reference.copy()
    got[0, 4], got[0, 5] = got[0, 5], got[0, 4] + 1e-3
    assert compare("fp16", "probs", got, reference, gate=Gate(max_abs=1.0, top5=True)).passed


def test_relative_bound_is_a_share_of_the_spread() -> None:
    reference = np.array([[-100.0, 0.0, 300.0]])
    assert compare("network", "logits", reference + 0.03, reference, gate=GATES["network"]).passed
    check = compare("network", "logits", reference + 0.05, reference, gate=GATES["network"])
    assert not check.passed
    assert check.threshold["max_abs"] == pytest.approx(0.04)


@given(seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e-1), clips=st.integers(1, 4))
def test_verdict_follows_the_largest_error(seed: int, scale: float, clips: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.uniform(0, 1, (clips, 50))
    got = reference + scale * rng.uniform(-1, 1, reference.shape)
    error = np.abs(got - reference).max()
    assert compare("x", "probs", got, reference, gate=Gate(max_abs=error)).passed
    assert not compare("x", "probs", got, reference, gate=Gate(max_abs=error * 0.999)).passed


def test_require_names_every_failure(reference: NDArray[np.float64]) -> None:
    good = compare("fp32", "probs", reference, reference, gate=GATE)
    bad = [compare("fp16", name, reference + 1, reference, gate=GATE) for name in ("probs", "embedding")]
    require([good])
    with pytest.raises(ParityError, match=r"2 of 3 .*fp16/probs.*fp16/embedding") as caught:
        require([good, *bad])
    assert caught.value.report == [good, *bad]
    with pytest.raises(ParityError, match="no parity check"):
        require([])


def test_check_round_trips_through_json(reference: NDArray[np.float64]) -> None:
    for got in (reference, reference + np.nan):
        check = compare("fp32", "probs", got, reference, gate=GATE)
        data = json.loads(json.dumps(check.to_dict(), allow_nan=False))
        assert read(Check, data, "check", error=BundleError) == check


@pytest.mark.parametrize("change", [{"passed": 1}, {"threshold": 3}, {"extra": 1}, {"max_abs": "0"}])
def test_check_is_read_strictly(reference: NDArray[np.float64], change: dict[str, object]) -> None:
    data = compare("fp32", "probs", reference, reference, gate=GATE).to_dict()
    with pytest.raises(BundleError, match="expected"):
        read(Check, data | change, "check", error=BundleError)
    del data["corr"]
    with pytest.raises(BundleError, match="expected"):
        read(Check, data, "check", error=BundleError)


# --- tags ---

TAGS = Gate(max_abs=0.1, corr=0.99)


def probabilities(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.01, 0.99, (3, 40)).astype(np.float32)


def test_the_same_tags_pass() -> None:
    reference = probabilities(np.random.default_rng(0))
    check = compare_tags("int8", reference, reference, gate=TAGS)
    assert (check.output, check.max_abs, check.passed) == ("tags", 0.0, True)
    assert check.corr == pytest.approx(1.0)


@given(seed=st.integers(0, 99), flips=st.integers(0, 20))
def test_the_share_of_tags_that_differ_is_counted(seed: int, flips: int) -> None:
    """Compared with a count by sets."""
    rng = np.random.default_rng(seed)
    reference = probabilities(rng)
    got = reference.copy()
    places = rng.choice(reference.size, flips, replace=False)
    got.reshape(-1)[places] = np.where(got.reshape(-1)[places] >= TAG_THRESHOLD, 0.1, 0.9)
    tags = [{(i, j) for i, j in np.argwhere(x >= TAG_THRESHOLD).tolist()} for x in (got, reference)]
    share = len(tags[0] ^ tags[1]) / len(tags[0] | tags[1])
    check = compare_tags("int8", got, reference, gate=Gate(max_abs=0.1))
    assert check.max_abs == pytest.approx(share)
    failed = share > 0.1 and len(tags[0] ^ tags[1]) > 1
    assert check.passed != failed
    assert ("tags" in check.why) == failed


@pytest.mark.parametrize(("flips", "passed"), [(1, True), (2, False)])
def test_one_tag_of_few_may_differ_and_two_may_not(flips: int, passed: bool) -> None:
    reference = np.full((1, 20), 0.1, np.float32) + np.arange(20, dtype=np.float32) / 1000
    reference[0, :5] += 0.21
    got = reference.copy()
    got[0, :flips] -= 0.02
    assert compare_tags("int8", got, reference, gate=Gate(max_abs=0.1)).passed == passed


def test_another_order_of_classes_fails() -> None:
    reference = np.linspace(0.31, 0.9, 40, dtype=np.float32)[None].repeat(2, axis=0)
    got = reference.copy()
    got[0] = got[0, ::-1]  # the same tags in reverse order: the mean correlation of -1 and 1 is 0
    check = compare_tags("int8", got, reference, gate=TAGS)
    assert check.max_abs == 0.0
    assert check.corr == pytest.approx(0.0)
    assert not check.passed
    assert "rank correlation" in check.why


@pytest.mark.parametrize("damage", [lambda p: p * np.nan, lambda p: p[:, :-1], lambda p: 0 * p])
def test_tags_of_nothing_fail(damage: Callable[[np.ndarray], np.ndarray]) -> None:
    reference = probabilities(np.random.default_rng(0))
    check = compare_tags("int8", damage(reference), reference, gate=TAGS)
    assert not check.passed
    assert check.why
