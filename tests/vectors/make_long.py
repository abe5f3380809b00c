"""Writes long.json, the results for whole recordings: `python tests/vectors/make_long.py`.

They are those of `panns_litert.windows` with the demo bundle and an engine whose outputs `outputs` defines. The sound
of a recording is defined by `sound`.
"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert import Tagger
from panns_litert.audio import AudioWarning
from panns_litert.engine import Outputs
from panns_litert.sense import Sense
from panns_litert.windows import find_events, tag_long, windows

VECTORS = Path(__file__).with_name("long.json")
AMPLITUDES = (0.5, 0.05, 0.0, 0.2)
DC = 0.1

CASES: list[dict[str, Any]] = [
    {"name": "one window", "rate": 32000, "seconds": 10.0},
    {"name": "shorter than a window", "rate": 32000, "seconds": 3.3},
    {"name": "no overlap", "rate": 32000, "seconds": 23.4},
    {"name": "a rest that is left out", "rate": 32000, "seconds": 20.4},
    {"name": "overlap", "rate": 32000, "seconds": 23.4, "hop": 4.0},
    {"name": "max", "rate": 32000, "seconds": 23.4, "hop": 4.0, "aggregate": "max"},
    {"name": "bad samples", "rate": 32000, "seconds": 27.0, "hop": 4.0, "bad": [[12.3, 12.3]]},
    {"name": "bad samples at the end", "rate": 32000, "seconds": 27.0, "hop": 4.0, "bad": [[26.5, 26.6]]},
    {"name": "silence", "rate": 32000, "seconds": 23.4, "hop": 4.0, "amplitudes": [0.0] * 15 + [0.3] * 10,
     "sense": {"silence_dbfs": -60.0, "temperature": 2.0}},
    {"name": "a hop of 12.5 frames, which rounds to 12", "rate": 32000, "seconds": 10.7, "hop": 0.125},
    {"name": "44.1 kHz, stereo", "rate": 44100, "seconds": 23.4, "channels": 2, "hop": 4.0},
    {"name": "48 kHz, bad samples", "rate": 48000, "seconds": 31.0, "hop": 5.0, "bad": [[20.0, 20.5]]},
    {"name": "16 kHz, four channels, bad samples", "rate": 16000, "seconds": 12.0, "channels": 4, "bad": [[0.5, 0.5]]},
]  # fmt: skip


def sound(case: dict[str, Any]) -> NDArray[np.float32]:
    """Returns a recording, (samples, channels): 440 Hz plus DC. Every second has its amplitude, channel c half of that
    of the channel before it. Samples of the bad spans are NaN in the last channel."""
    rate, amplitudes = case["rate"], np.array(case["amplitudes"])
    n = np.arange(round(case["seconds"] * rate))
    tone = amplitudes[n // rate % len(amplitudes)] * np.sin(2 * np.pi * 440.0 * n / rate) + DC
    made = np.stack([tone / 2**channel for channel in range(case["channels"])], axis=1).astype(np.float32)
    for first, last in case["bad"]:
        made[round(first * rate) : round(last * rate) + 1, -1] = np.nan
    return made


class Numbers(Tagger):
    """A tagger whose engine counts its runs: outputs c of run n, both from 0, are made from n and c."""

    runs = 0

    def run(self, values: NDArray[np.float32]) -> Outputs:
        n, self.runs = self.runs, self.runs + 1
        probs, embedding = (np.arange(output.shape[1]) for output in self.bundle.manifest.outputs)
        return {
            "probs": ((37 * n + 13 * probs) % 101 / 100)[None].astype(np.float32),
            "embedding": ((5 * n + 3 * embedding) % 17 / 17 - 0.5)[None].astype(np.float32),
        }


def result(given: dict[str, Any]) -> dict[str, Any]:
    """Returns a case with the results of this runtime."""
    case = {"hop": 10.0, "aggregate": "mean", "channels": 1, "bad": [], "amplitudes": AMPLITUDES, "sense": {}} | given
    samples, hop = sound(case), case["hop"]
    tagger = Numbers(threads=1)
    rows = [
        {
            "index": w.index, "start": round(w.start, 6), "seconds": round(w.end - w.start, 6),
            "padding": round(w.padding_seconds, 6), "unusable": w.unusable,
            "level_dbfs": round(w.level_dbfs, 4) if math.isfinite(w.level_dbfs) else None,
        }
        for w in windows(tagger, samples, sample_rate=case["rate"], hop=hop)
    ]  # fmt: skip
    tagger.runs = 0
    sense = Sense(tagger.labels, **case["sense"])
    long = tag_long(tagger, samples, sample_rate=case["rate"], hop=hop, aggregate=case["aggregate"], sense=sense, top=3)
    tagger.runs = 0
    events = find_events(tagger, samples, sample_rate=case["rate"], sense=sense)
    return case | {
        "windows": rows,
        "result": {
            "tags": [tag.label for tag in long.tags],
            "scores": [round(value, 6) for value in long.probs.tolist()],
            "embedding": [round(value, 6) for value in long.embedding.tolist()],
            "seconds": round(long.seconds, 6), "padding": round(long.padding_seconds, 6),
            "windows": long.windows, "skipped": long.windows_skipped,
        },
        "events": [
            [event.label, round(event.start, 6), round(event.end, 6), round(event.score, 6)]
            for event in sorted(events, key=lambda event: (event.start, event.index))
        ],
    }  # fmt: skip


def vectors() -> str:
    """Returns the text of long.json."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # of the bad samples
        results = [result(case) for case in CASES]
    lines = ",\n".join("  " + json.dumps(case) for case in results)  # one case per line, for readable diffs
    return '{"cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
