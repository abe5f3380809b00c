"""Advice on a data set before it is trained on: few clips, uneven classes, and no class for everything else."""

from __future__ import annotations

import re

from panns_litert.evaluate.clips import Dataset
from panns_litert.words import counted

FEW_CLIPS = 10
"""A class with fewer clips is named: its figures rest on one or two held-out clips."""

UNEVEN = 10.0
"""Uneven classes are named if the largest has this many times more clips than the smallest."""

_BACKGROUND = re.compile(
    r"(back ?ground|other|others|other sounds?|silence|silent|noise|negatives?|none|nothing|unknown|ambient|ambience)"
    r"( .*)?"
)
_SHOWN = 5


def advice(dataset: Dataset) -> tuple[str, ...]:
    """Returns what would make a data set better to train on, a sentence each; nothing if it is good.

    It names classes with fewer than FEW_CLIPS clips, classes that are uneven by more than UNEVEN, and the lack of a
    class for everything else, which any clip without a label stands for, too.

    >>> advice(Dataset(clips=(), classes=("dog", "other"), skipped=(), repeated=0))[0]
    'no clips of 2 classes: dog, other'
    """
    counts = sorted(dataset.counts.items(), key=lambda item: (item[1], item[0]))
    lines = []
    without = [label for label, count in counts if not count]
    if without:
        lines.append(f"no clips of {counted(len(without), 'class', 'classes')}: {_listed(without)}")
    few = [f"{label} {count}" for label, count in counts if 0 < count < FEW_CLIPS]
    if few:
        lines.append(
            f"fewer than {FEW_CLIPS} clips of {counted(len(few), 'class', 'classes')}: {_listed(few)}; figures of so "
            "few say little, and 20 or more are a good start"
        )
    if dataset.imbalance >= UNEVEN:
        smallest = next(item for item in counts if item[1])
        largest = counts[-1]
        lines.append(
            f"uneven classes: {largest[0]} has {largest[1]} clips, {smallest[0]} {smallest[1]}; training draws every "
            "class equally often, so clips of the small ones are seen again and again: add some"
        )
    if not any(is_background(label) for label in dataset.classes) and all(clip.labels for clip in dataset.clips):
        lines.append(
            "no class for everything else: without one, any sound is taken for one of the classes; add clips of what "
            "is heard where the model will be used, as a class named background"
        )
    return tuple(lines)


def is_background(label: str) -> bool:
    """Returns whether a class stands for everything else, by its name: background, other, silence, noise, …

    >>> [is_background(label) for label in ("Background_noise", "other", "dog")]
    [True, True, False]
    """
    return _BACKGROUND.fullmatch(re.sub(r"[\W_]+", " ", label).strip().casefold()) is not None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
