"""Writes streams.json, the events in series of windows: `python tests/vectors/make_streams.py`.

The events are those of `panns_litert.windows.EventStream`. What is told with each window, and at the end, is what
`LiveEvents` tells. Times are seconds.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from panns_litert.events import EventChange, EventSettings
from panns_litert.sense import Sense
from panns_litert.windows import EventStream, LiveEvents, StreamTagger, Window

VECTORS = Path(__file__).with_name("streams.json")
LABELS = ("Dog", "Bark", "Music")
FRAME = 0.1
SETTINGS: dict[str, Any] = {"on": 0.7, "off": 0.3, "min_duration": 0.0, "max_gap": 0.0, "cooldown": 0.0}


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What an `EventStream` asks of the source of its windows."""

    window: float
    hop: float
    frame: float = FRAME
    labels: tuple[str, ...] = LABELS
    enrolled: tuple[str, ...] = ()


def windows(stream: Stream, seconds: float, *, framewise: bool, seed: int, bad: tuple[int, ...]) -> list[Window]:
    """Returns the windows of a recording: the windows `bad` cannot be used, the scores are multiples of 0.05."""
    rng = random.Random(seed)
    starts = [0.0]
    while (start := len(starts) * stream.hop) + stream.window <= seconds + 1e-9:
        starts.append(start)
    if seconds - (starts[-1] + stream.window) >= 0.05 * stream.window:
        starts.append(math.floor((seconds - stream.window) / FRAME + 1e-9) * FRAME)
    levels = [rng.randint(0, 20) for _ in LABELS]

    def scores() -> list[float]:
        levels[:] = [min(20, max(0, level + rng.randint(-7, 7))) for level in levels]
        return [level / 20 for level in levels]

    found = []
    for index, start in enumerate(starts):
        frames = np.array([scores() for _ in range(round(stream.window / FRAME) + 1)], np.float32)
        found.append(
            Window(
                index=index, start=round(start, 9), end=round(min(start + stream.window, seconds), 9),
                probs=np.array(scores(), np.float32), embedding=np.zeros(2, np.float32),
                framewise=frames if framewise else None, level_dbfs=-70.0 if index % 5 == 3 else -20.0,
                front_end_ms=0.0, model_ms=0.0, unusable="NaN" if index in bad else None,
            )
        )  # fmt: skip
    return found


def case(
    name: str,
    *,
    window: float,
    hop: float,
    seconds: float,
    framewise: bool = False,
    seed: int = 0,
    bad: tuple[int, ...] = (),
    missing: tuple[int, ...] = (),
    settings: dict[str, Any] | None = None,
    sense: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns a case with the events of this runtime. The engine failed at the windows `missing`."""
    stream = cast(StreamTagger, Stream(window=window, hop=hop))
    settings, sense = {**SETTINGS, **(settings or {})}, sense or {}
    thresholds = EventSettings(**settings)
    found = EventStream(stream, settings=thresholds, sense=Sense(LABELS, **sense))
    live = LiveEvents(stream, settings=thresholds, sense=Sense(LABELS, **sense))
    given = [
        window
        for window in windows(cast(Stream, stream), seconds, framewise=framewise, seed=seed, bad=bad)
        if window.index not in missing
    ]
    events = [event for window in given for event in found.push(window)] + list(found.finish())
    rows = [
        {
            "index": window.index, "start": window.start, "end": window.end, "level_dbfs": window.level_dbfs,
            "unusable": window.unusable is not None,
            "probs": [round(value, 2) for value in window.probs.tolist()],
            "framewise": None if window.framewise is None
            else [[round(value, 2) for value in row] for row in window.framewise.tolist()],
        }
        for window in given
    ]  # fmt: skip
    return {
        "name": name, "window": window, "hop": hop, "frame": FRAME, "labels": LABELS, "settings": settings,
        "sense": sense, "windows": rows,
        "events": [
            {"label": e.label, "index": e.index, "start": round(e.start, 9), "end": round(e.end, 9),
             "score": round(e.score, 7)}
            for e in sorted(events, key=lambda event: (event.start, event.index))
        ],
        "changes": [told(news) for news in (*map(live.push, given), live.finish())],
    }  # fmt: skip


def told(news: tuple[EventChange, ...]) -> list[dict[str, Any]]:
    """Returns what was told with a window."""
    return [
        {"phase": c.phase, "number": c.number, "label": c.label, "index": c.index, "start": round(c.start, 9),
         "end": round(c.end, 9), "score": round(c.score, 7)}
        for c in news
    ]  # fmt: skip


def vectors() -> str:
    """Returns the text of streams.json."""
    cases = []
    for framewise in (False, True):
        kind = "frame-wise" if framewise else "clip-wise"
        shapes: dict[str, dict[str, Any]] = {
            "no overlap": {"window": 2.0, "hop": 2.0, "seconds": 9.0},
            "half a window": {"window": 2.0, "hop": 1.0, "seconds": 12.0},
            "the last window is shifted back": {"window": 2.0, "hop": 1.0, "seconds": 11.45},
            "shorter than a window": {"window": 2.0, "hop": 1.0, "seconds": 0.75},
            "a rest that is left out": {"window": 2.0, "hop": 0.5, "seconds": 8.08},
            "windows that cannot be used": {"window": 2.0, "hop": 0.5, "seconds": 9.3, "bad": (0, 4, 5, 9)},
            "the last window cannot be used": {"window": 2.0, "hop": 1.0, "seconds": 9.3, "bad": (8,)},
            "the engine failed": {"window": 2.0, "hop": 0.5, "seconds": 9.3, "missing": (3, 6, 7)},
            "classes with own thresholds": {
                "window": 2.0, "hop": 0.5, "seconds": 12.0,
                "settings": {
                    "min_duration": 0.2,
                    "classes": {"Bark": {"on": 0.4, "off": 0.2, "min_duration": 0.7}, "Music": {"max_gap": 1.0}},
                },
            },
            "off is half of on": {"window": 2.0, "hop": 0.5, "seconds": 9.0, "settings": {"on": 0.9, "off": None}},
            "silence and roll-up": {
                "window": 2.0, "hop": 1.0, "seconds": 12.0, "sense": {"silence_dbfs": -60.0, "roll_up": True},
            },
            "groups": {
                "window": 2.0, "hop": 1.0, "seconds": 9.0, "sense": {"groups": {"pets": ["Dog/"], "all": ["Music"]}},
            },
            "a window of 22.5 frames": {"window": 2.25, "hop": 0.9, "seconds": 9.3},
            "a cool-down": {
                "window": 2.0, "hop": 0.5, "seconds": 20.0,
                "settings": {"cooldown": 4.0, "max_gap": 0.5, "classes": {"Bark": {"cooldown": 0.0}}},
            },
        }  # fmt: skip
        for seed, (name, shape) in enumerate(shapes.items()):
            cases.append(case(f"{kind}: {name}", framewise=framewise, seed=seed, **shape))
    lines = ",\n".join("  " + json.dumps(case) for case in cases)  # one case per line, for readable diffs
    return '{"cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
