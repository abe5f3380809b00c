"""Duplicates: finds recordings of a large set that are the same sound, at another gain, format, cut or overlap.

`match` compares two recordings; this compares all pairs of a set, in two steps. Every frame has a hash: the signs of
the differences between neighbouring bands, and between now and a moment ago (Haitsma and Kalker, "A Highly Robust Audio
Fingerprinting System", 2002). Pairs with equal hashes at the same offset are candidates. They are correlated at that
offset as `match` does. Unlike `match`, it does not find a sound at another speed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import MatchError
from panns_litert.results import Row
from panns_litert.search.match import MATCH_SPEC
from panns_litert.strict import shown

DUPLICATE_SCORE = 0.7
"""Least correlation of a duplicate. In ESC-10, copies of a clip have 0.77 and more, other clips at most 0.59."""

_BANDS = np.r_[0:10, 10:40:2]  # the first mel of each: 25 bands, of which the low ones are narrow
_AGO = 8  # frames: more than the window of a frame is long
# What is left of silence behind a lossy codec is much the same in every recording. A frame counts as sound if its
# features have this norm, in ESC-10 about -65 dBFS. Two recordings are compared if both have so many such frames in
# their common part.
_LEAST_NORM = 0.1
_LEAST_SOUND = 15  # frames, 0.3 s
_VOTES = 2  # equal hashes at one offset that make a candidate
_OFFSETS = 3  # of a candidate that are tried
_REFINED = 2  # frames around the best offset that are tried
_NEIGHBOURS = 64  # frames with the same hash that a frame is paired with, at most
_SHIFT = 20  # bits of an offset
_FPS = MATCH_SPEC.sample_rate / MATCH_SPEC.hop_length


@dataclass(frozen=True, kw_only=True)
class Duplicate(Row):
    """Two recordings that are the same sound.

    Attributes:
        first, second: their places in the set, first < second.
        offset: seconds by which the sound is later in the first than in the second.
        seconds: length of what they have in common.
        score: correlation of that part, DUPLICATE_SCORE … 1.
    """

    first: int
    second: int
    offset: float
    seconds: float
    score: float


def find_duplicates(
    features: Iterable[NDArray[np.float32]],
    *,
    groups: Sequence[Hashable] | None = None,
    threshold: float = DUPLICATE_SCORE,
    min_seconds: float = 1.0,
) -> tuple[Duplicate, ...]:
    """Finds the pairs of recordings that are the same sound, at another gain, in another format, or cut differently.

    The computing time grows with the number of recordings and of their coincidences, not with the number of pairs.

    Args:
        features: (frames, mels) of every recording, from `match_features`. They are kept in memory, 4 kB a second.
        groups: a group for every recording; two of one group are not compared, such as two parts of one file.
        threshold: least correlation, 0.3 … 1.
        min_seconds: least length of the common part, ≥ 0.5. Shorter recordings are never found.

    Returns:
        One entry per pair, sorted by their places.

    Raises:
        MatchError: a setting is out of range, or there is not one group for every recording.

    >>> noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16000 * 5).astype(np.float32)
    >>> other = np.random.default_rng(1).uniform(-0.1, 0.1, 16000 * 5).astype(np.float32)
    >>> from panns_litert.search import match_features
    >>> [found] = find_duplicates(map(match_features, (noise, other, 0.2 * noise[16000:])))
    >>> found.first, found.second, found.offset, found.seconds
    (0, 2, 1.0, 4.0)
    """
    for name, value, least, most in (("threshold", threshold, 0.3, 1.0), ("min_seconds", min_seconds, 0.5, 3600.0)):
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            raise MatchError(f"{name} = {shown(value)}; expected a number, {least:g} … {most:g}")
    with np.errstate(over="ignore"):  # what float16 cannot hold is infinite, and refused
        kept = [np.asarray(one, np.float16) for one in features]
    for place, values in enumerate(kept):
        if values.ndim != 2 or values.shape[1] != MATCH_SPEC.n_mels or not np.isfinite(values).all():
            raise MatchError(
                f"recording {place}: features of shape {values.shape}; expected (frames, {MATCH_SPEC.n_mels}) finite "
                "numbers, as match_features returns them"
            )
    if groups is not None and len(groups) != len(kept):
        raise MatchError(f"{len(groups)} groups of {len(kept)} recordings; expected one for each")
    names = {name: i for i, name in enumerate(dict.fromkeys(groups))} if groups is not None else {}
    group = np.arange(len(kept)) if groups is None else np.asarray([names[name] for name in groups], np.int64)
    found = []
    least = round(min_seconds * _FPS)
    for first, second, offsets in _candidates(kept, group):
        offset, score = _aligned(kept[first], kept[second], offsets, least)
        if score >= threshold:
            seconds = _common(kept[first], kept[second], offset) / _FPS
            one = Duplicate(first=first, second=second, offset=offset / _FPS, seconds=seconds, score=min(score, 1.0))
            found.append(one)
    return tuple(found)


def _hashes(features: NDArray[np.float16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the hashes of a recording, and their frames. Silence has none."""
    if len(features) <= _AGO:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    bands = np.add.reduceat(features.astype(np.float32), _BANDS, axis=1)
    steps = bands[:, :-1] - bands[:, 1:]
    change = steps[_AGO:] - steps[:-_AGO]  # (frames, bands - 1)
    bits = 1 << np.arange(change.shape[1], dtype=np.int64)
    hashes = ((change > 0) * bits).sum(1)
    sound = _sound(features)
    frames = np.flatnonzero((sound[_AGO:] | sound[:-_AGO]) & change.any(1))
    return hashes[frames], frames


def _sound(features: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Returns for every frame whether it is sound, and not silence."""
    wide = features.astype(np.float32)
    return np.asarray((wide * wide).sum(1) >= _LEAST_NORM**2)


def _candidates(
    features: Sequence[NDArray[np.float16]], group: NDArray[np.int64]
) -> Iterable[tuple[int, int, list[int]]]:
    """Yields pairs of recordings of different groups with equal hashes, and the offsets with the most of them."""
    parts = [_hashes(one) for one in features]
    if not parts:
        return
    hashes = np.concatenate([one for one, _ in parts])
    frames = np.concatenate([one for _, one in parts])
    owner = np.repeat(np.arange(len(parts)), [len(one) for one, _ in parts])
    order = np.argsort(hashes, kind="stable")
    hashes, frames, owner = hashes[order], frames[order], owner[order]
    keys = [np.empty(0, np.int64)]
    for lag in range(1, min(_NEIGHBOURS, len(hashes) - 1) + 1):
        at = np.flatnonzero(hashes[lag:] == hashes[:-lag])
        at = at[group[owner[at]] != group[owner[at + lag]]]
        # The sort is stable: the first of two with one hash belongs to the earlier recording.
        pair = owner[at] * len(parts) + owner[at + lag]
        keys.append((pair << _SHIFT) + (frames[at] - frames[at + lag]) + (1 << (_SHIFT - 1)))
    found, votes = np.unique(np.concatenate(keys), return_counts=True)
    votes = votes + _beside(found, votes, 1) + _beside(found, votes, -1)  # a cut lies between two frames
    found, votes = found[votes >= _VOTES], votes[votes >= _VOTES]
    pairs = found >> _SHIFT
    for begin, end in zip(*_runs(pairs), strict=True):
        best = begin + np.argsort(-votes[begin:end], kind="stable")[:_OFFSETS]
        offsets = (found[best] & ((1 << _SHIFT) - 1)) - (1 << (_SHIFT - 1))
        first, second = divmod(int(pairs[begin]), len(parts))
        yield first, second, offsets.tolist()


def _beside(keys: NDArray[np.int64], votes: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Returns the votes of the neighbouring offset of every key."""
    at = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
    return np.where(keys[at] == keys + step, votes[at], 0) if len(keys) else votes


def _runs(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns where each run of equal values begins and ends."""
    begins = np.flatnonzero(np.diff(values, prepend=-1))
    return begins, np.append(begins, len(values))[1:]


def _aligned(
    first: NDArray[np.float16], second: NDArray[np.float16], offsets: Sequence[int], least: int
) -> tuple[int, float]:
    """Returns the offset with the highest correlation, near the given ones, and that correlation."""
    tried = [(_correlation(first, second, offset, least), offset) for offset in offsets]
    _, offset = max(tried)
    near = range(offset - _REFINED, offset + _REFINED + 1)
    score, offset = max((_correlation(first, second, one, least), one) for one in near)
    return offset, score


def _common(first: NDArray[np.float16], second: NDArray[np.float16], offset: int) -> int:
    """Returns how many frames two recordings have in common at an offset."""
    return min(len(first), len(second) + offset) - max(0, offset)


def _correlation(first: NDArray[np.float16], second: NDArray[np.float16], offset: int, least: int) -> float:
    """Returns the correlation of the common part, without each band's mean; 0 if there is too little sound in it."""
    count = _common(first, second, offset)
    if count < least:
        return 0.0
    begin = max(0, offset)
    a, b = first[begin : begin + count], second[begin - offset : begin - offset + count]
    if min(_sound(a).sum(), _sound(b).sum()) < _LEAST_SOUND:
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = a - a.mean(0), b - b.mean(0)
    energy = (a * a).sum() * (b * b).sum()
    return float((a * b).sum() / np.sqrt(energy)) if energy > 0 else 0.0
