"""Match: finds parts of one recording in another. It finds the same recording, not the same kind of sound.

Patches of the query's log-mel, some seconds long, are correlated with the reference at every frame and at several
speeds. Consecutive patches that are found at the same offset form a match. No model is used: the windows of a tagger
are much longer than the accuracy that is needed, and its embeddings are trained to be similar for all barking dogs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from panns_litert.audio import AudioBlocks, Recording
from panns_litert.errors import AudioError, MatchError
from panns_litert.frontend import PANNS_16K, FrontEndSpec, StreamingLogMel
from panns_litert.results import Row
from panns_litert.strict import shown
from panns_litert.windows import audio_chunks

MATCH_SPEC: FrontEndSpec = replace(
    PANNS_16K, n_fft=2048, win_length=2048, hop_length=320, n_mels=40, fmin=100.0, fmax=7000.0
)
"""The log-mel that is correlated: frames of 128 ms, hop 20 ms."""

MATCH_LIMITS: Mapping[str, tuple[float, float]] = {
    "threshold": (0.3, 1.0),  # below 0.3, unrelated sounds match
    "min_seconds": (1.0, math.inf),
    "speed_change": (0.0, 0.2),
}
"""Smallest and largest value of each setting of `match`."""

_RATE = MATCH_SPEC.sample_rate
_FPS = _RATE / MATCH_SPEC.hop_length
_MOST_PATCH_SECONDS = 3.0  # the speed may be wrong by half a step; the ends of a longer patch would be misaligned
_SPEED_STEP = 0.02
_DRIFT = 2  # largest change of the offset from one patch to the next, frames
_LEAST_CHANGE = 1e-3  # least share of the energy that varies over time; below it, rounding errors would be correlated
_BLOCK = 4096  # frames of the reference per transform
_PATCHES = 32  # patches per transform: 40 MB


@dataclass(frozen=True, kw_only=True)
class Match(Row):
    """A part of the query that was found in the reference.

    Attributes:
        query_start, query_end: the part of the query, seconds.
        reference_start, reference_end: where it is in the reference, seconds.
        score: mean correlation of the patches, `threshold` … 1.
        speed: speed of the reference relative to the query, ± 0.01; above 1 if the reference is faster.
    """

    query_start: float
    query_end: float
    reference_start: float
    reference_end: float
    score: float
    speed: float


def match(
    query: Recording | AudioBlocks,
    reference: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    threshold: float = 0.6,
    min_seconds: float = 2.0,
    speed_change: float = 0.06,
) -> tuple[Match, ...]:
    """Finds parts of `query` in `reference`. Returns the matches in the order of the reference.

    If several matches overlap by more than half in both recordings, as with sounds that repeat, only the best one is
    returned. The computing time grows with the length of the query times the length of the reference.

    Args:
        query, reference, sample_rate: as for `windows`; an `AudioBlocks` has the sample rate of `MATCH_SPEC`.
        threshold: least correlation of a patch, 0.3 … 1. Unrelated sounds reach 0.2 to 0.5, and a few reach more.
        min_seconds: least length of a match in the query, ≥ 1. A patch has this length, but at most 3 s. Patches
            overlap by three quarters. A common part that is shorter than 1.25 patches may therefore contain no whole
            patch of a longer query, and is then not found.
        speed_change: largest relative difference in speed, 0 … 0.2. The computing time grows with it.

    Raises:
        AudioError: a recording cannot be used.
        MatchError: a recording is shorter than `min_seconds`, or a setting is out of range.

    >>> noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16000 * 10)
    >>> [(m.reference_start, m.reference_end) for m in match(noise[64000:112000], noise, sample_rate=16000)]
    [(4.0, 7.0)]
    """
    _require("threshold", threshold)
    _require("min_seconds", min_seconds)
    _require("speed_change", speed_change)
    waveform = np.concatenate([np.empty(0, np.float32), *_usable(query, sample_rate)])
    heard = _features(_usable(reference, sample_rate))
    steps = math.ceil(speed_change / _SPEED_STEP - 1e-9)
    fastest = 1 + steps * _SPEED_STEP
    for name, seconds in (("query", len(waveform) / _RATE), ("reference", len(heard) / _FPS * fastest)):
        if seconds < min_seconds - 1e-9:
            raise MatchError(f"the {name} is {seconds:.2f} s long; expected at least min_seconds = {min_seconds:g}")
    runs: list[Match] = []
    for step in range(-steps, steps + 1):
        speed = 1 + step * _SPEED_STEP
        runs += _Runs(waveform, speed, min(min_seconds, _MOST_PATCH_SECONDS)).find(heard, threshold)
    long_enough = [run for run in runs if run.query_end - run.query_start >= min_seconds - 1e-9]
    found: list[Match] = []
    for run in sorted(long_enough, key=lambda r: (-r.score * (r.query_end - r.query_start), abs(r.speed - 1))):
        if not any(_same(run, other) for other in found):
            found.append(run)
    return tuple(sorted(found, key=lambda m: (m.reference_start, m.query_start)))


def _usable(audio: Recording | AudioBlocks, sample_rate: int | None) -> Iterator[NDArray[np.float32]]:
    """Yields the blocks of a recording, with 0 in place of samples that cannot be used.

    Raises:
        AudioError: no sample can be used.
    """
    usable = False
    blocks = audio_chunks(audio, sample_rate, _RATE)
    for block in blocks:
        usable = usable or not np.isnan(block).all()
        yield np.nan_to_num(block, nan=0.0)
    if not usable:
        raise AudioError(f"{blocks.name}: every sample is NaN, Inf or far too large; expected samples in [-1, 1]")


class _Runs:
    """The query at one speed, cut into patches. A run is a sequence of patches found at the same offset."""

    def __init__(self, waveform: NDArray[np.float32], speed: float, patch_seconds: float) -> None:
        played = waveform if speed == 1 else soxr.resample(waveform, _RATE * speed, _RATE, quality="HQ")
        features = _features(iter((played,)))
        self._speed, self._seconds = speed, len(waveform) / _RATE
        self._length = min(int(patch_seconds / speed * _FPS), len(features))
        last = len(features) - self._length
        self._starts = sorted({*range(0, last, max(1, self._length // 4)), last})  # the last one ends with the query
        self._features = features

    def find(self, heard: NDArray[np.float32], threshold: float) -> list[Match]:
        """Returns the runs in the reference's features (frames, mels)."""
        runs: list[list[tuple[int, int, float]]] = []  # (start in the query, start in the reference, score) per patch
        open_runs: list[list[tuple[int, int, float]]] = []
        for start, peaks in self._peaks(heard, threshold):
            open_runs = [run for run in open_runs if start - run[-1][0] <= self._length]  # no gap
            for at, score in peaks:
                near = [
                    run
                    for run in open_runs
                    if run[-1][0] < start and abs((at - start) - (run[-1][1] - run[-1][0])) <= _DRIFT
                ]
                if near:
                    max(near, key=len).append((start, at, score))
                else:
                    open_runs.append([(start, at, score)])
                    runs.append(open_runs[-1])
        return [self._match(run) for run in runs]

    def _match(self, run: list[tuple[int, int, float]]) -> Match:
        def in_query(frame: int) -> float:
            return min(frame / _FPS * self._speed, self._seconds)

        (first, first_at, _), (last, last_at, _) = run[0], run[-1]
        return Match(
            query_start=in_query(first),
            query_end=self._seconds if last == self._starts[-1] else in_query(last + self._length),
            reference_start=first_at / _FPS,
            reference_end=(last_at + self._length) / _FPS,
            score=float(np.clip(np.mean([score for _, _, score in run]), 0.0, 1.0)),
            speed=self._speed,
        )

    def _peaks(self, heard: NDArray[np.float32], threshold: float) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """Yields for each patch its start, and the position and score of each local maximum ≥ threshold."""
        length = self._length
        if len(heard) < length:
            return
        size = scipy.fft.next_fast_len(min(_BLOCK, len(heard)), real=True)
        size = max(size, scipy.fft.next_fast_len(2 * length, real=True))
        for first in range(0, len(self._starts), _PATCHES):
            starts = self._starts[first : first + _PATCHES]
            patches = np.stack([self._features[start : start + length] for start in starts])  # (patches, frames, mels)
            total = (patches.astype(np.float64) ** 2).sum((1, 2))
            patches = patches - patches.mean(1, keepdims=True)
            energy = (patches.astype(np.float64) ** 2).sum((1, 2))
            alive = energy > _LEAST_CHANGE * total
            transformed = np.conj(scipy.fft.rfft(patches, size, axis=1))
            peaks: list[list[tuple[int, float]]] = [[] for _ in starts]
            for begin in range(0, len(heard) - length + 1, size - length + 1):
                block = heard[begin : begin + size]
                places = len(block) - length + 1
                spectrum = scipy.fft.rfft(block, size, axis=0)
                product = np.einsum("pfm,fm->pf", transformed, spectrum)
                correlation = scipy.fft.irfft(product, size, axis=1)[:, :places]
                there, changing = _energies(block, length)
                with np.errstate(divide="ignore", invalid="ignore"):
                    scores = correlation / np.sqrt(energy[:, None] * there)
                scores[:, ~changing] = 0.0
                scores[~alive] = 0.0
                around = np.pad(scores, ((0, 0), (1, 1)))
                tops = (scores >= threshold) & (scores >= around[:, :-2]) & (scores >= around[:, 2:])
                for patch, at in zip(*np.nonzero(tops), strict=True):
                    peaks[patch].append((begin + int(at), float(scores[patch, at])))
            yield from zip(starts, peaks, strict=True)


def match_features(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the features (frames, mels) that `match` correlates, for `find_duplicates`: 50 frames a second.

    Args:
        waveform: (samples,) at the sample rate of MATCH_SPEC.
    """
    return _features(iter((waveform,)))


def _features(chunks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns features (frames, mels): the fourth root of the mel power, minus the mean of each frame.

    With a root, a gain is a constant factor, which does not change the correlation. A root gives less weight to faint
    bands and to silence than a logarithm. Without subtracting the mean, the loud moments of unrelated sounds would
    correlate.
    """
    stream = StreamingLogMel(MATCH_SPEC)
    least = MATCH_SPEC.least_samples
    parts: list[NDArray[np.float32]] = []
    samples = 0
    for chunk in chunks:
        samples += len(chunk)
        parts.append(_roots(stream.push(chunk)))
    if samples < least:
        return np.empty((0, MATCH_SPEC.n_mels), np.float32)
    features = np.concatenate((*parts, _roots(stream.finish())))[: samples // MATCH_SPEC.hop_length]
    # At both ends the front end mirrors the samples, which adds a click to the frames that reach beyond an end.
    half = MATCH_SPEC.n_fft // 2
    first, last = -(-half // MATCH_SPEC.hop_length), (samples - half) // MATCH_SPEC.hop_length
    if first < last < len(features):
        features[:first] = features[first]
        features[last + 1 :] = features[last]
    return features


def _roots(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    roots: NDArray[np.float32] = np.power(np.float32(10), decibels / np.float32(40))
    roots -= roots.mean(1, keepdims=True)
    return roots


def _energies(block: NDArray[np.float32], length: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns for every position the energy (positions,) of `length` frames after each band's mean is subtracted.

    The second array (positions,) is True where this energy is large enough to be correlated.
    """
    wide = block.astype(np.float64)
    sums = np.cumsum(np.pad(wide, ((1, 0), (0, 0))), axis=0)
    squares = np.cumsum(np.pad((wide**2).sum(1), (1, 0)))
    total = squares[length:] - squares[:-length]
    left = total - ((sums[length:] - sums[:-length]) ** 2).sum(1) / length
    return left, (left > _LEAST_CHANGE * total) & (left > 0)


def _same(a: Match, b: Match) -> bool:
    """Returns whether two matches overlap by more than half of the shorter one, in both recordings."""

    def share(start: float, end: float, other_start: float, other_end: float) -> bool:
        common = min(end, other_end) - max(start, other_start)
        return common > 0.5 * min(end - start, other_end - other_start)

    return share(a.query_start, a.query_end, b.query_start, b.query_end) and share(
        a.reference_start, a.reference_end, b.reference_start, b.reference_end
    )


def _require(name: str, value: object) -> None:
    least, most = MATCH_LIMITS[name]
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or (not least <= value <= most)
    ):
        upper = f"… {most:g}" if math.isfinite(most) else "or more"
        raise MatchError(f"{name} = {shown(value)}; expected a number, {least:g} {upper}")
