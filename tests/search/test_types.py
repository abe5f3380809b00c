"""Values of a wrong type or out of range, for every public function of search and evaluate: one typed error each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle
from panns_litert.errors import PannsLitertError
from panns_litert.evaluate import evaluate, figures, read_dataset, require_classes, score, split
from panns_litert.prototypes import Prototypes
from panns_litert.search import (
    Embeddings,
    Index,
    embed,
    match,
    require_same_model,
    similar,
    unit,
)
from panns_litert.tagger import Tagger

NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, 16000 * 3).astype(np.float32)
WRONG: list[Any] = [None, 5, 1.5, True, "x", b"x", [], {}, object(), np.nan, float("inf"), 10**400, np.zeros((2, 2, 2))]


def of(**changes: Any) -> Embeddings:
    values: dict[str, Any] = {
        "source": "a", "model": "demo", "model_sha256": "0" * 64, "window": 1.0, "hop": 1.0,
        "starts": np.zeros(1), "ends": np.ones(1), "vectors": np.ones((1, 3), np.float32),
    }  # fmt: skip
    return Embeddings(**(values | changes))


def nothing() -> Prototypes:
    return Prototypes.of_bundle(Bundle(demo_bundle())).with_background(np.eye(96))


CALLS: dict[str, Callable[[Any, Tagger, Path], object]] = {
    "embed": lambda x, tagger, _: embed(tagger, x),
    "embed, samples": lambda x, tagger, _: embed(tagger, x, sample_rate=32000),
    "similar": lambda x, tagger, _: similar(x, of()),
    "similar, second": lambda x, tagger, _: similar(of(), x),
    "require_same_model": lambda x, tagger, _: require_same_model(x, "m", "0", 3),
    "unit": lambda x, tagger, _: unit(x if not isinstance(x, (np.ndarray, list)) else "x"),  # type: ignore[arg-type]
    "match": lambda x, tagger, _: match(x, NOISE),
    "match, reference": lambda x, tagger, _: match(NOISE, x),
    "match, rate": lambda x, tagger, _: match(NOISE, NOISE, sample_rate=repr(x)[:9]),
    "Index": lambda x, tagger, folder: Index(x if not isinstance(x, (str, bytes)) else folder / "none"),
    "Index.build, paths": lambda x, tagger, folder: Index.build(folder / "index", tagger, x),
    "Index.build, path": lambda x, tagger, folder: Index.build(folder / "index", tagger, [x]),
    "load": lambda x, tagger, _: Embeddings.load(x),
    "save": lambda x, tagger, _: of().save(x),
    "Prototypes.read": lambda x, tagger, _: Prototypes.read(x),
    "Tagger, prototypes": lambda x, tagger, _: Tagger(prototypes=x if x is not None else 5),
    "with_background": lambda x, tagger, _: nothing().with_background(x),
    "enroll": lambda x, tagger, _: nothing().enroll("a", x),
    "scores": lambda x, tagger, _: nothing().enroll("a", np.ones((1, 96))).scores(x),
    "nearest": lambda x, tagger, _: nothing().enroll("a", np.ones((1, 96))).nearest(x),
    "read_dataset": lambda x, tagger, _: read_dataset(x),
    "split": lambda x, tagger, _: split(x),
    "score": lambda x, tagger, _: score(x, lambda clip: np.zeros(1, np.float32)),
    "evaluate": lambda x, tagger, _: evaluate(tagger, x),
    "require_classes": lambda x, tagger, _: require_classes(x, tagger.labels),
    "figures": lambda x, tagger, _: figures(x, np.eye(2), ("a", "b")),
    "figures, truth": lambda x, tagger, _: figures(np.eye(2), x, ("a", "b")),
    "figures, labels": lambda x, tagger, _: figures(np.eye(3), np.eye(3), x),
    **{
        f"Embeddings, {name}": lambda x, tagger, _, name=name: of(**{name: [x]})
        for name in ("window", "hop", "starts", "ends", "vectors", "warnings", "source")
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_every_wrong_value_is_one_typed_error(name: str, tagger: Tagger, tmp_path: Path) -> None:
    for value in WRONG:
        with pytest.raises(PannsLitertError) as raised:
            CALLS[name](value, tagger, tmp_path)
            pytest.fail(f"{value!r:.50}")
        assert "\n" not in str(raised.value)
