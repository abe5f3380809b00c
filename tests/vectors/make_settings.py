"""Writes settings.json, settings files and what they mean: `python tests/vectors/make_settings.py`.

The thresholds and the scores are those of `panns_litert.TaggerSettings`, the scores in float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.settings import TaggerSettings

VECTORS = Path(__file__).with_name("settings.json")
LABELS = ["Animal", "Dog", "Bark", "Cat"]
PROBS = [0.1, 0.2, 0.9, 0.05]
HASH = "0123456789abcdef" * 4

FILES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "thresholds alone, as in earlier versions": {
        "on": 0.4, "off": 0.3, "min_duration": 1, "max_gap": 0.5, "classes": {"Dog": {"on": 0.6, "max_gap": 2}},
    },
    "a cool-down": {"cooldown": 30, "classes": {"Dog": {"cooldown": 0}, "Cat": {"on": 0.3}}},
    "off is half of on": {"on": 0.5, "classes": {"Dog": {"on": 0.3}, "Cat": {"off": 0.1}}},
    "of a model": {
        "model": "m", "model_sha256": HASH, "data": "clips: 20 clips, best F1", "classes": {"Bark": {"on": 0.0125}},
    },
    "a temperature": {"temperature": 2.5, "classes": {"Bark": {"on": 0.7}}},
    "temperatures of classes": {"temperature": {"Bark": 2, "Cat": 0.5}},
    "groups": {
        "temperature": 1.5, "groups": {"pets": ["Dog/", "Cat"], "beasts": ["Animal"]}, "classes": {"pets": {"on": 0.1}},
    },
}  # fmt: skip

REFUSED: dict[str, Any] = {
    "an unknown field": {"onset": 0.5},
    "a field that is null": {"temperature": None},
    "off is null": {"off": None},
    "on is above 1": {"on": 1.5},
    "on is a text": {"on": "0.5"},
    "off is above on": {"on": 0.2, "off": 0.3},
    "off is above on in a class": {"classes": {"Dog": {"off": 0.5}}},
    "a negative duration": {"min_duration": -1},
    "a negative cool-down": {"classes": {"Dog": {"cooldown": -1}}},
    "classes are a list": {"classes": ["Dog"]},
    "a class is a number": {"classes": {"Dog": 0.5}},
    "an unknown field of a class": {"classes": {"Dog": {"onset": 0.5}}},
    "a field of a class is null": {"classes": {"Dog": {"on": None}}},
    "a model without its hash": {"model": "m"},
    "a hash without its model": {"model_sha256": HASH},
    "a hash of another form": {"model": "m", "model_sha256": "0123"},
    "the data are a number": {"data": 1},
    "temperature 0": {"temperature": 0},
    "a temperature that is a text": {"temperature": "2"},
    "a temperature that is true": {"temperature": True},
    "a temperature of a class is 0": {"temperature": {"Dog": 0}},
    "groups are a list": {"groups": ["Dog"]},
    "no group": {"groups": {}},
    "a group is a text": {"groups": {"pets": "Dog"}},
    "a group is empty": {"groups": {"pets": []}},
    "a group of numbers": {"groups": {"pets": [1]}},
}

STRANGERS: dict[str, dict[str, Any]] = {
    "a threshold of no class": {"classes": {"Dgo": {"on": 0.5}}},
    "a threshold of a class beside groups": {"groups": {"pets": ["Dog"]}, "classes": {"Dog": {"on": 0.5}}},
    "a temperature of no class": {"temperature": {"Dgo": 2}},
    "a group of no class": {"groups": {"pets": ["Dgo"]}},
}
"""Files that are read, and refused for `LABELS`."""


def vectors() -> str:
    """Returns the text of settings.json."""
    cases = []
    for name, file in FILES.items():
        settings = TaggerSettings.from_dict(file)
        sense = settings.sense(LABELS)
        settings.thresholds(sense.labels)
        cases.append(
            {
                "name": name,
                "file": file,
                "thresholds": {label: settings.events.of(label) for label in sense.labels},
                "scores": np.round(sense(np.array(PROBS)), 9).tolist(),
            }
        )
    refused = [{"name": name, "file": file} for name, file in REFUSED.items()]
    strangers = [{"name": name, "file": file} for name, file in STRANGERS.items()]
    lines = [",\n".join("  " + json.dumps(row) for row in rows) for rows in (cases, refused, strangers)]
    head = f'{{"labels": {json.dumps(LABELS)}, "probs": {PROBS},\n'
    return f'{head}"cases": [\n{lines[0]}\n], "refused": [\n{lines[1]}\n], "strangers": [\n{lines[2]}\n]}}\n'


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
