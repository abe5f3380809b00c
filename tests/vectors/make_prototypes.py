"""Writes prototypes.json, files of prototypes and what they find: `python tests/vectors/make_prototypes.py`.

The files are those that `panns_litert.search.Prototypes` writes; the cosines are computed in float64.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.search import Prototypes

VECTORS = Path(__file__).with_name("prototypes.json")
DIM = 6

# Each changes a valid file so that it must be refused: name, path to the value, new value; None removes it.
REFUSED: list[tuple[str, list[str | int], Any]] = [
    ("another version", ["format_version"], 2),
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
    made = Prototypes(model="m", model_sha256="0" * 64, dim=DIM, classes=())
    made = made.enroll("first", vectors[:3]).enroll("second", vectors[3:6]).enroll("one clip", vectors[6:7])
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder) / "file.json")
        file = json.loads((Path(folder) / "file.json").read_text(encoding="utf-8"))
    cases = []
    for embedding in [*vectors, -vectors[0], 1e4 * vectors[6]]:
        unit = embedding / np.linalg.norm(embedding)
        scores = [float(one.mean.astype(np.float64) @ unit) for one in made.classes]
        nearest = made.nearest(embedding)
        cases.append(
            {
                "embedding": embedding.tolist(),
                "scores": [round(score, 7) for score in scores],
                "nearest": None if nearest is None else nearest[0].name,
            }
        )
    refused = [{"name": name, "file": changed(file, path, value)} for name, path, value in REFUSED]
    lines = [",\n".join("  " + json.dumps(row) for row in rows) for rows in (cases, refused)]
    return f'{{"file": {json.dumps(file)},\n"cases": [\n{lines[0]}\n], "refused": [\n{lines[1]}\n]}}\n'


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
