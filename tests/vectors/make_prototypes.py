"""Writes prototypes.json, files of prototypes and what they find: `python tests/vectors/make_prototypes.py`.

The files are those that `panns_litert.prototypes.Prototypes` writes; the scores are computed in float64.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.events import EventSettings
from panns_litert.prototypes import Prototypes, with_enrolled

VECTORS = Path(__file__).with_name("prototypes.json")
DIM = 6

# Each changes a valid file so that it must be refused: name, path to the value, new value; None removes it.
REFUSED: list[tuple[str, list[str | int], Any]] = [
    ("another version", ["format_version"], 1),
    ("no version", ["format_version"], None),
    ("an unknown field", ["extra"], 1),
    ("no dim", ["dim"], None),
    ("another dim", ["dim"], DIM + 1),
    ("dim is no whole number", ["dim"], 6.5),
    ("classes are no list", ["classes"], {}),
    ("the name is empty", ["classes", 0, "name"], " "),
    ("the name has two lines", ["classes", 0, "name"], "a\nb"),
    ("a name twice", ["classes", 0, "name"], "second"),
    ("no clips", ["classes", 0, "count"], 0),
    ("a threshold above 1", ["classes", 0, "threshold"], 1.5),
    ("a threshold that is no number", ["classes", 0, "threshold"], "0.5"),
    ("a vector of another length", ["classes", 0, "mean"], [1.0]),
    ("a vector that is no unit vector", ["classes", 0, "mean"], [0.5, 0, 0, 0, 0, 0]),
    ("no vector", ["classes", 0, "mean"], []),
    ("no scale", ["classes", 0, "scale"], None),
    ("a scale of 0", ["classes", 0, "scale"], 0.0),
    ("a cosine above 1", ["classes", 0, "cosine"], 1.5),
    ("hashes that are no texts", ["classes", 0, "sha256"], [1]),
    ("no background", ["background"], None),
    ("more windows than vectors", ["background", "windows"], 6),
    ("a background of negative length", ["background", "windows"], -1),
    ("vectors that are no text", ["background", "vectors"], []),
    ("an unknown field of the background", ["background", "extra"], 1),
]

# Settings of events of the enrolled class "mine": an `on` of their own replaces its threshold.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"on": 0.9, "off": 0.8},
    {"classes": {"other": {"on": 0.1}}},
    {"classes": {"mine": {"min_duration": 2.0}}},
    {"classes": {"mine": {"off": 0.1}}},
    {"classes": {"mine": {"on": 0.1}}},
    {"off": 0.1, "classes": {"mine": {"on": 0.7}}},
]


def embeddings() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns embeddings (12, DIM) of short decimals."""
    return np.round(np.random.default_rng(7).normal(size=(12, DIM)), 2)


def changed(data: Any, path: list[str | int], value: Any) -> Any:
    """Returns a copy of JSON data with another value in a place."""
    data = json.loads(json.dumps(data))
    *way, last = path
    target = data
    for step in way:
        target = target[step]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return data


def vectors() -> str:
    """Returns the text of prototypes.json."""
    vectors = embeddings()
    made = Prototypes.empty("m", "0" * 64, DIM).with_background(vectors[7:], sha256=["1" * 64])
    made = made.enroll("first", vectors[:3], sha256=["2" * 64]).enroll("second", vectors[3:6])
    made = made.enroll("one clip", vectors[6:7])
    file = json.loads(made.to_json())
    cases = []
    for embedding in [*vectors, -vectors[0], 1e4 * vectors[6], 0.0 * vectors[0]]:
        unit = embedding / (np.linalg.norm(embedding) or 1.0)
        cosines = [float(one.mean.astype(np.float64) @ unit) for one in made.classes]
        scores = [
            1.0 / (1.0 + math.exp((one.threshold - cosine) / one.scale)) if embedding.any() else 0.0
            for one, cosine in zip(made.classes, cosines, strict=True)
        ]
        nearest = made.nearest(embedding)
        cases.append(
            {
                "embedding": embedding.tolist(),
                "cosines": [round(cosine, 7) for cosine in cosines] if embedding.any() else None,
                "scores": [round(score, 7) for score in scores],
                "nearest": None if nearest is None else nearest[0].name,
            }
        )
    settings = [
        {"settings": given, "of": with_enrolled(EventSettings(**given), ["mine"]).of("mine")}  # type: ignore[union-attr]
        for given in SETTINGS
    ]
    refused = [{"name": name, "file": changed(file, path, value)} for name, path, value in REFUSED]
    lines = [",\n".join("  " + json.dumps(row) for row in rows) for rows in (cases, settings, refused)]
    return (
        f'{{"file": {json.dumps(file)},\n"cases": [\n{lines[0]}\n], "settings": [\n{lines[1]}\n], '
        f'"refused": [\n{lines[2]}\n]}}\n'
    )


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
