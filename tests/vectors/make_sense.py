"""Writes sense.json, what becomes of a model's probabilities: `python tests/vectors/make_sense.py`.

The scores are those of `panns_litert.Sense` in float64.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.sense import Ontology, Sense

VECTORS = Path(__file__).with_name("sense.json")
LABELS = ["Animal", "Dog", "Bark", "Growling", "Cat", "Music", "Singing", "Speech", "My kettle"]
AUDIOSET = list(Ontology.load().labels)
PROBS = [0.1, 0.2, 0.9, 0.3, 0.05, 0.8, 0.0, 1.0, 0.45]
GROUPS = {"pets": ["Dog/", "Cat/"], "people": ["Human sounds/"], "kitchen": ["My kettle"]}

OPTIONS: dict[str, dict[str, Any]] = {
    "no change": {},
    "roll-up": {"roll_up": True},
    "temperature": {"temperature": 2.5},
    "temperature of a class": {"temperature": {"Bark": 2.0, "My kettle": 0.5}},
    "only a class": {"allow": ["Dog"]},
    "only a class and all below it": {"allow": ["Dog/"]},
    "only below a node that is no class": {"allow": ["Human sounds/"]},
    "nothing is allowed": {"allow": []},
    "not a class": {"deny": ["Music"]},
    "allowed, but for some": {"allow": ["Animal/", "My kettle"], "deny": ["Cat/"]},
    "groups": {"groups": GROUPS},
    "all in order": {
        "temperature": 1.5, "silence_dbfs": -50.0, "roll_up": True, "deny": ["Bark", "Speech"], "groups": GROUPS,
    },
}  # fmt: skip
LEVELS = {None: -60.0, -60.1: -60.0, -60.0: -60.0, -20.0: -60.0}
"""Level of the window and gate."""

REFUSED: list[dict[str, Any]] = [
    {"allow": ["Dgo"]},
    {"deny": ["Human sounds"]},
    {"allow": ["Vehicle/"]},
    {"allow": [""]},
    {"allow": ["Dog//"]},
    {"groups": {"pets": []}},
    {"groups": {"pets": ["Cta"]}},
    {"temperature": 0.0},
    {"temperature": -1.0},
    {"temperature": {"Dgo": 2.0}},
    {"temperature": {"Dog": 0.0}},
]


def case(
    name: str, options: dict[str, Any], level: float | None = None, labels: list[str] = LABELS, probs: Any = PROBS
) -> dict[str, Any]:
    """Returns a case with the scores of this runtime. Without labels it is for all classes of AudioSet."""
    sense = Sense(labels, **options)
    return {
        "name": name,
        **({} if labels is AUDIOSET else {"labels": labels}),
        "options": options,
        "level_dbfs": level,
        "probs": probs,
        "names": [] if sense.labels == tuple(labels) else list(sense.labels),
        "scores": np.round(sense(np.array(probs), level_dbfs=level), 9).tolist(),
    }


def vectors() -> str:
    """Returns the text of sense.json."""
    rng = random.Random(1)
    probs = [rng.randint(0, 100) / 100 for _ in AUDIOSET]
    roots = {root: [f"{root}/"] for root in Ontology.load().roots}
    cases = [
        *(case(name, options) for name, options in OPTIONS.items()),
        *(case(f"level {level}", {"silence_dbfs": gate}, level) for level, gate in LEVELS.items()),
        case("all in order, in silence", OPTIONS["all in order"], -50.1),
        case("roll-up of all classes", {"roll_up": True}, labels=AUDIOSET, probs=probs),
        case("a group for each root", {"groups": roots}, labels=AUDIOSET, probs=probs),
    ]
    refused = [{"labels": LABELS, "options": options} for options in REFUSED]
    lines = [",\n".join("  " + json.dumps(row) for row in rows) for rows in (cases, refused)]
    return f'{{"cases": [\n{lines[0]}\n], "refused": [\n{lines[1]}\n]}}\n'


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
