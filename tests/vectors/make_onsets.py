"""Writes onsets.json, what is told of events while they happen: `python -m vectors.make_onsets` in tests/.

What is told at a step follows from the events of the steps up to it, which make_events.py finds in the whole series at
once. An implementation that takes one step at a time must tell the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from vectors.make_events import CASES as EVENT_CASES
from vectors.make_events import TOLERANCE, Case, classes, events, one, random_case, side_by_side

VECTORS = Path(__file__).with_name("onsets.json")
RISE, SECONDS = Decimal("0.1"), Decimal(10)
"""An event is told again when its score rose by RISE, or after SECONDS."""


@dataclass(frozen=True)
class Live:
    """A case of events.json, with the cool-down of all classes and the places of the steps that have no scores."""

    case: Case
    cooldown: str = "0"
    missing: tuple[int, ...] = ()


def changes(live: Live) -> list[list[dict[str, Any]]]:
    """Returns what is told at each step, and at the end."""
    case, cooldown = live.case, Decimal(live.cooldown)
    told: list[dict[str, Any]] = []  # the newest news of each event, in the order of their numbers
    quiet = [Decimal("-Infinity")] * classes(case)  # until when
    news: list[list[dict[str, Any]]] = []

    def tell(phase: str, number: int, event: dict[str, Any]) -> dict[str, Any]:
        return {"phase": phase, "number": number, **event}

    for count in range(1, len(case.steps) + 1):
        scored = [step for k, step in enumerate(case.steps[:count]) if k not in live.missing]
        now = Decimal(case.steps[count - 1][1])
        known = events(replace(case, steps=scored)) if scored else []
        by_place = {(event["index"], event["start"]): event for event in known}
        here: dict[str, list[dict[str, Any]]] = {"end": [], "start": [], "update": []}
        for number, last in enumerate(told, 1):
            if last["phase"] != "end":
                event = by_place[last["index"], last["start"]]
                end, score = decimal(event["end"]), decimal(event["score"])
                if now - end > Decimal(case.max_gap) + 2 * TOLERANCE:
                    here["end"].append(tell("end", number, event))
                    quiet[event["index"]] = end + cooldown
                elif end == now and (
                    score - decimal(last["score"]) >= RISE or end - decimal(last["end"]) >= SECONDS - TOLERANCE
                ):
                    here["update"].append(tell("update", number, event))
        for event in known:
            new = not any((event["index"], event["start"]) == (last["index"], last["start"]) for last in told)
            if new and decimal(event["end"]) == now >= quiet[event["index"]] - TOLERANCE:
                here["start"].append(tell("start", len(told) + 1, event))
                told.append(here["start"][-1])
        for phase in here.values():
            phase.sort(key=lambda change: (change["start"], change["index"]))
            for change in phase:
                told[change["number"] - 1] = change
        news.append([*here["end"], *here["start"], *here["update"]])
    rest = [(number, last) for number, last in enumerate(told, 1) if last["phase"] != "end"]
    news.append([tell("end", number, by_place[last["index"], last["start"]]) for number, last in rest])
    news[-1].sort(key=lambda change: (change["start"], change["index"]))
    return news


def decimal(value: float) -> Decimal:
    """Returns a short decimal of a case again, exactly."""
    return Decimal(repr(value))


def ringing(*lengths: tuple[int, int], score: str = "0.8") -> list[str]:
    """Returns scores of steps of 1 s: for each pair, so many above and then so many below the thresholds."""
    return [value for on, off in lengths for value in [score] * on + ["0.1"] * off]


CASES = (
    *(Live(case) for case in EVENT_CASES if case.steps),
    Live(one("the score rises by steps", "0.5", "0.55", "0.6", "0.65", "0.7", "0.9", "0.4", "0.95", "0.1")),
    Live(one("a long event", *ringing((35, 2)))),
    Live(one("a long event in parts that merge", *ringing((8, 2), (4, 1), (15, 4)), max_gap="2")),
    Live(one("a start waits for min_duration", *ringing((2, 1), (1, 3), (5, 2)), min_duration="3", max_gap="1")),
    Live(one("missing steps end an event", *ringing((4, 0), (9, 0), (3, 0)), max_gap="2"), missing=tuple(range(4, 12))),
    Live(one("missing steps within max_gap", *ringing((4, 0), (9, 0), (3, 0)), max_gap="2"), missing=(5, 6, 9)),
    Live(one("the first and the last steps are missing", *ringing((3, 2), (4, 0))), missing=(0, 1, 7, 8)),
    Live(one("a cool-down hides short events", *ringing((2, 3), (1, 2), (2, 9), (2, 2))), cooldown="8"),
    Live(one("an event goes on after the cool-down", *ringing((2, 3), (9, 3))), cooldown="8"),
    Live(one("an event ends exactly with the cool-down", *ringing((2, 3), (5, 3))), cooldown="8"),
    Live(one("an event ends just before that", *ringing((2, 3), (4, 3))), cooldown="8"),
    Live(one("an event merges across the end of the cool-down", *ringing((2, 3), (3, 2), (2, 3)), max_gap="2"), "6"),
    Live(one("the cool-down is over in a gap that may merge", *ringing((2, 3), (3, 6)), max_gap="2"), cooldown="7"),
    Live(one("min_duration and a cool-down", *ringing((1, 2), (3, 4), (3, 4), (9, 2)), min_duration="2"), "6"),
    Live(
        Case(
            "the cool-down of one class leaves the others",
            side_by_side("0.9 0.1", "0.1 0.1", "0.1 0.9", "0.9 0.1", "0.1 0.1", "0.1 0.9", "0.1 0.1"),
            ["0.5", "0.5"],
            ["0.3", "0.3"],
        ),
        cooldown="5",
    ),
    Live(replace(random_case(11, classes=3, count=120, gaps=True, max_gap="0.3"), name="random, cool-down"), "2"),
    Live(
        replace(
            random_case(12, classes=3, count=120, gaps=True, min_duration="0.4", max_gap="0.2"),
            name="random, missing steps and a cool-down",
        ),
        "1.5",
        missing=tuple(range(0, 120, 7)),
    ),
)


def vectors() -> str:
    """Returns the text of onsets.json."""
    cases = [
        {
            "name": live.case.name,
            "classes": classes(live.case),
            **({} if live.case.on is None else {"on": [float(value) for value in live.case.on]}),
            **({} if live.case.off is None else {"off": [float(value) for value in live.case.off]}),
            "min_duration": float(live.case.min_duration),
            "max_gap": float(live.case.max_gap),
            "cooldown": float(live.cooldown),
            "steps": [
                {
                    "start": float(start),
                    "end": float(end),
                    "scores": None if k in live.missing else [float(score) for score in scores],
                }
                for k, (start, end, scores) in enumerate(live.case.steps)
            ],
            "changes": changes(live),
        }
        for live in CASES
    ]
    lines = ",\n".join("  " + json.dumps(case) for case in cases)  # one case per line, for readable diffs
    return '{"cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
