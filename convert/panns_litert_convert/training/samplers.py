"""PANNs' samplers, which draw the clips of a training step, as functions of the step alone.

A sampler keeps no state between steps. So a training can resume at any step, and every process knows the clips of the
others. Source: https://github.com/qiuqiangkong/audioset_tagging_cnn, utils/data_generator.py, and
https://arxiv.org/abs/1912.10211.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import DatasetError, TrainingError

SAMPLERS = ("plain", "balanced", "alternate")
"""Every clip equally often; every class equally often; or both in turn, step by step."""

_PLAIN, _CLASSES, _CLIPS = 10, 11, 12  # streams of random numbers


@dataclass(kw_only=True)
class Sampler:
    """Draws the clips of every step.

    Plain: all clips in random order, then all in a new random order, and so on. Balanced: the same with all classes,
    and with the clips of each class; classes without clips and clips without classes are left out.

    Args:
        truth: (clips, classes), bool, or 0 or 1.
        kind: one of SAMPLERS.
        count: clips per step, ≥ 1.
        seed: ≥ 0.

    Raises:
        TrainingError: no such kind.
        DatasetError: no clip has a class, but the kind needs classes.
    """

    truth: NDArray[np.generic]
    kind: str
    count: int
    seed: int
    _members: list[NDArray[np.int64]] = field(init=False, repr=False)
    _orders: dict[tuple[int, int], tuple[int, NDArray[np.int64]]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in SAMPLERS:
            raise TrainingError(f"sampler {self.kind!r}; expected one of {', '.join(SAMPLERS)}")
        members = [np.flatnonzero(column) for column in self.truth.T]
        self._members = [clips for clips in members if len(clips)]
        if self.kind != "plain" and not self._members:
            raise DatasetError("no clip has a class; expected some, or the sampler plain")

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Returns the indexes (count,) of the clips of a step, ≥ 0."""
        if self.kind == "alternate":
            draw = self._balanced if step % 2 else self._plain
            step //= 2
        else:
            draw = self._balanced if self.kind == "balanced" else self._plain
        return np.array([draw(place) for place in range(step * self.count, (step + 1) * self.count)], np.int64)

    def _plain(self, place: int) -> int:
        turn, at = divmod(place, len(self.truth))
        return int(self._order(_PLAIN, 0, turn, len(self.truth))[at])

    def _balanced(self, place: int) -> int:
        # Each class is drawn once per turn, so this is the turn-th draw of its clips.
        turn, at = divmod(place, len(self._members))
        which = int(self._order(_CLASSES, 0, turn, len(self._members))[at])
        clips = self._members[which]
        again, at = divmod(turn, len(clips))
        return int(clips[self._order(_CLIPS, which, again, len(clips))[at]])

    def _order(self, stream: int, which: int, turn: int, size: int) -> NDArray[np.int64]:
        known = self._orders.get((stream, which))
        if known is None or known[0] != turn:
            rng = np.random.default_rng([self.seed, stream, which, turn])
            known = self._orders[stream, which] = (turn, rng.permutation(size))
        return known[1]
