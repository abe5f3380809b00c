"""Writes events.json, which defines the events of a series of scores: `python tests/vectors/make_events.py`.

The events are computed from the whole series at once, in decimal arithmetic, by simple code: find the runs of each
class, merge neighbours, drop short ones. An implementation that takes one step at a time must find the same events.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).with_name("events.json")
TOLERANCE = Decimal("0.000001")
ON = "0.2"


@dataclass(frozen=True)
class Case:
    """Steps of (start, end, scores), and thresholds of every class. All numbers are short decimals, as text.

    A case without `on` or `off` tests their defaults: ON, and half of `on`.
    """

    name: str
    steps: list[tuple[str, str, list[str]]]
    on: list[str] | None = None
    off: list[str] | None = None
    min_duration: str = "0"
    max_gap: str = "0"


def classes(case: Case) -> int:
    """Returns the number of classes of a case."""
    return len(case.steps[0][2]) if case.on is None else len(case.on)


def events(case: Case) -> list[dict[str, Any]]:
    """Returns the events of a case, sorted by (start, index)."""
    found = []
    for index in range(classes(case)):
        on = Decimal(ON if case.on is None else case.on[index])
        off = on / 2 if case.off is None else Decimal(case.off[index])
        series = [(Decimal(start), Decimal(end), Decimal(scores[index])) for start, end, scores in case.steps]
        runs: list[list[Decimal]] = []  # start, end, highest score
        k = 0
        while k < len(series):
            if series[k][2] < on:
                k += 1
                continue
            first = k
            while k + 1 < len(series) and series[k + 1][2] >= off and series[k + 1][0] - series[k][1] <= TOLERANCE:
                k += 1
            runs.append([series[first][0], series[k][1], max(score for _, _, score in series[first : k + 1])])
            k += 1
        merged: list[list[Decimal]] = []
        for run in runs:
            if merged and run[0] - merged[-1][1] <= Decimal(case.max_gap) + TOLERANCE:
                merged[-1][1:] = run[1], max(merged[-1][2], run[2])
            else:
                merged.append(run)
        for start, end, score in merged:
            if end - start >= Decimal(case.min_duration) - TOLERANCE:
                found.append({"index": index, "start": float(start), "end": float(end), "score": float(score)})
    return sorted(found, key=lambda event: (event["start"], event["index"]))


def side_by_side(*scores: str, length: str = "1", start: str = "0") -> list[tuple[str, str, list[str]]]:
    """Returns adjacent steps of equal length, each with the scores of all classes, given as "0.5 0.1"."""
    times = [Decimal(start) + k * Decimal(length) for k in range(len(scores) + 1)]
    return [(str(times[k]), str(times[k + 1]), row.split()) for k, row in enumerate(scores)]


def one(name: str, *scores: str, on: str = "0.5", off: str = "0.3", **settings: str) -> Case:
    """Returns a case of one class and steps of 1 s."""
    return Case(name, side_by_side(*scores), [on], [off], **settings)


def random_case(seed: int, *, classes: int, count: int, gaps: bool, **settings: str) -> Case:
    """Returns a case of random multiples of 0.05 as scores and thresholds, steps of 0.01 … 0.5 s, and optional gaps."""
    rng = random.Random(seed)

    def twentieth(value: int) -> str:
        return str(Decimal(value) / 20)

    steps, time, levels = [], Decimal(0), [rng.randint(0, 20) for _ in range(classes)]
    for _ in range(count):
        end = time + Decimal(rng.randint(1, 50)) / 100
        levels = [min(20, max(0, level + rng.randint(-6, 6))) for level in levels]
        steps.append((str(time), str(end), [twentieth(level) for level in levels]))
        time = end + (Decimal(rng.randint(1, 60)) / 100 if gaps and rng.random() < 0.2 else 0)
    on = [rng.randint(8, 14) for _ in range(classes)]
    off = [rng.randint(4, value) for value in on]
    return Case(
        f"random {seed}", steps, [twentieth(value) for value in on], [twentieth(value) for value in off], **settings
    )


CASES = (
    one("nothing above on", "0.1", "0.45", "0.2"),
    one("one step", "0.1", "0.8", "0.1"),
    one("no step at all"),
    one("hysteresis: goes on between off and on", "0.1", "0.6", "0.35", "0.4", "0.1", "0.4"),
    one("hysteresis: does not open between off and on", "0.4", "0.45", "0.6", "0.2"),
    one("touches on and off exactly", "0.5", "0.3", "0.29", "0.49"),
    one("on equals off", "0.5", "0.45", "0.5", "0.55", on="0.5", off="0.5"),
    one("on is 0: one event throughout", "0", "0.2", "0", on="0", off="0"),
    one("on is 1", "0.95", "1", "0.95", "0.2", on="1", off="0.9"),
    one("open at the end", "0.1", "0.7", "0.9"),
    one("open from the start to the end", "0.7", "0.7", "0.7"),
    one("gap exactly max_gap merges", "0.9", "0.1", "0.1", "0.8", "0.1", max_gap="2"),
    one("gap above max_gap does not merge", "0.9", "0.1", "0.1", "0.8", "0.1", max_gap="1.9"),
    one("no max_gap: neighbours stay apart", "0.9", "0.1", "0.8", "0.1"),
    one("score between off and on in a gap does not close it", "0.6", "0.1", "0.45", "0.6", "0.1", max_gap="1"),
    one("three parts merge one after another", "0.6", "0.1", "0.9", "0.1", "0.7", "0.1", "0.1", "0.8", max_gap="1"),
    one("shorter than min_duration", "0.9", "0.1", "0.9", "0.9", "0.1", min_duration="1.5"),
    one("exactly min_duration", "0.9", "0.9", "0.1", "0.9", min_duration="2"),
    one("min_duration counts after merging", "0.9", "0.1", "0.8", "0.1", "0.1", "0.7", min_duration="3", max_gap="1"),
    Case(
        "exactly min_duration, which floats miss: 0.7 - 0.4 < 0.3",
        side_by_side("0.9", "0.9", "0.9", "0.1", length="0.1", start="0.4"),
        ["0.5"],
        ["0.3"],
        min_duration="0.3",
    ),
    Case(
        "exactly max_gap, which floats miss: 0.4 - 0.1 > 0.3",
        side_by_side("0.9", "0.1", "0.1", "0.1", "0.9", length="0.1"),
        ["0.5"],
        ["0.3"],
        max_gap="0.3",
    ),
    Case(
        "missing steps close an event",
        [("0", "1", ["0.9"]), ("1", "2", ["0.8"]), ("2.5", "3.5", ["0.4"]), ("3.5", "4.5", ["0.7"])],
        ["0.5"],
        ["0.3"],
    ),
    Case(
        "missing steps within max_gap merge",
        [("0", "1", ["0.9"]), ("1.5", "2.5", ["0.6"]), ("3.1", "4.1", ["0.7"])],
        ["0.5"],
        ["0.3"],
        max_gap="0.5",
    ),
    Case(
        "a break shorter than the tolerance is none",
        [("0", "1", ["0.9"]), ("1.0000005", "2", ["0.4"]), ("1.9999995", "3", ["0.4"])],
        ["0.5"],
        ["0.3"],
    ),
    Case(
        "several classes, each with its thresholds",
        side_by_side("0.9 0.1 0.3", "0.4 0.6 0.3", "0.4 0.6 0.1", "0.1 0.6 0.2", "0.9 0.1 0.3"),
        ["0.5", "0.6", "0.25"],
        ["0.3", "0.6", "0.2"],
    ),
    Case(
        "equal starts: by class",
        side_by_side("0.9 0.9 0.9", "0.9 0.1 0.9", "0.1 0.1 0.9", "0.9 0.9 0.1"),
        ["0.5", "0.5", "0.5"],
        ["0.3", "0.3", "0.3"],
    ),
    Case(
        "frames of 10 ms",
        side_by_side(*["0.2", *["0.6"] * 29, *["0.1"] * 10, *["0.6"] * 7], length="0.01"),
        ["0.5"],
        ["0.3"],
        min_duration="0.3",
        max_gap="0.1",
    ),
    Case(
        "irregular steps, not from 0",
        [("12.5", "12.75", ["0.6"]), ("12.75", "14", ["0.2"]), ("14", "14.01", ["0.7"]), ("14.01", "20", ["0.3"])],
        ["0.5"],
        ["0.3"],
        max_gap="1.25",
    ),
    Case("defaults: on", side_by_side("0.15 0.2", "0.25 0.1", "0.05 0.1")),
    Case("defaults: off is half of on", side_by_side("0.6", "0.3", "0.25", "0.6"), on=["0.6"]),
    random_case(1, classes=3, count=60, gaps=False),
    random_case(2, classes=3, count=60, gaps=True, max_gap="0.3"),
    random_case(3, classes=3, count=60, gaps=True, min_duration="0.5", max_gap="0.2"),
    random_case(4, classes=2, count=80, gaps=False, min_duration="0.4", max_gap="0.25"),
)


def vectors() -> str:
    """Returns the text of events.json."""
    cases = [
        {
            "name": case.name,
            "classes": classes(case),
            **({} if case.on is None else {"on": [float(value) for value in case.on]}),
            **({} if case.off is None else {"off": [float(value) for value in case.off]}),
            "min_duration": float(case.min_duration),
            "max_gap": float(case.max_gap),
            "steps": [
                {"start": float(start), "end": float(end), "scores": [float(score) for score in scores]}
                for start, end, scores in case.steps
            ],
            "events": events(case),
        }
        for case in CASES
    ]
    lines = ",\n".join("  " + json.dumps(case) for case in cases)  # one case per line, for readable diffs
    return '{"cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
