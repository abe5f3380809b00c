"""Sense: roll-up, allowed and denied classes, groups, the silence gate, temperature."""

from __future__ import annotations

import numpy as np
import pytest

from panns_litert.errors import LabelError
from panns_litert.sense import Sense


def test_sense() -> None:
    labels = ("Animal", "Dog", "Bark", "Music", "Speech")
    probs = np.array([0.1, 0.2, 0.9, 0.8, 0.5])
    assert np.array_equal(Sense(labels)(probs), probs)
    assert np.array_equal(Sense(labels, roll_up=True)(probs), [0.9, 0.9, 0.9, 0.8, 0.5])
    assert np.array_equal(Sense(labels, allow=["Animal/"])(probs), [0.1, 0.2, 0.9, 0.0, 0.0])
    assert np.array_equal(Sense(labels, deny=["Dog/"])(probs), [0.1, 0.0, 0.0, 0.8, 0.5])
    grouped = Sense(labels, groups={"pets": ["Dog", "Bark"], "rest": ["Music"]})
    assert grouped.labels == ("pets", "rest")
    assert np.array_equal(grouped(probs), [0.9, 0.8])
    gate = Sense(labels, silence_dbfs=-60.0)
    assert not gate(probs, level_dbfs=-60.1).any()
    assert np.array_equal(gate(probs, level_dbfs=-60.0), probs)
    assert np.array_equal(gate(probs), probs)
    mild = Sense(labels, temperature={"Bark": 2.0})(probs)
    assert mild[2] == pytest.approx(0.75)  # odds of sqrt(9) to 1
    assert np.allclose(np.delete(mild, 2), np.delete(probs, 2))
    framewise = np.stack([probs, probs])
    assert Sense(labels, roll_up=True)(framewise).shape == (2, 5)
    assert np.array_equal(Sense(labels, temperature=3.0)(np.array([0.0, 1.0, 0.5, 0, 1])), [0, 1, 0.5, 0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deny": ["Dgo"]}, "did you mean 'Dog'"),
        ({"groups": {"pets": ["Cta"]}}, "no class 'Cta'"),
        ({"temperature": 0.0}, "temperature 0.0; expected a number > 0"),
        ({"temperature": {"Dgo": 2.0}}, "did you mean 'Dog'"),
    ],
)
def test_sense_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        Sense(("Animal", "Dog"), **options)  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="expected"):
        Sense(("Animal", "Dog"))(np.zeros(3))
