"""Benchmark `streams`: what a push costs, where the time of a stream goes, and how many streams fit on one core."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
from bundles import bundle
from numpy.typing import NDArray
from turns import real_recordings

from panns_litert.audio import MonoResampler, load_audio
from panns_litert.frontend import StreamingLogMel
from panns_litert.tagger import Tagger
from panns_litert.windows import StreamTagger

RATE, BLOCK, HOP_SECONDS = 48000, 480, 1.0
"""A microphone at 48 kHz that gives a block every 10 ms."""
COUNTS, SECONDS = (1, 8, 32), 5
"""Numbers of streams through one tagger, and seconds of each that are measured in a turn."""
PARTS = {"resample": (MonoResampler, "push"), "log_mel": (StreamingLogMel, "push"), "model": (Tagger, "run")}


def streams(rounds: int) -> list[dict[str, Any]]:
    """mn04 at a hop of 1 s on one thread: CPU µs of a push of 10 ms, CPU ms of a second of stream, streams per core.

    Each stream is a real recording at 48 kHz, repeated, in blocks of 10 ms. `p99_us` and `most_us` are the 99th
    percentile and the largest of the pushes that complete no window, without the time that the process waits: medians
    over the turns. The parts are those of a turn of their own, because measuring them takes time; the rest is what
    remains of a whole turn.
    """
    turns: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    with Tagger(bundle("mn04"), threads=1) as tagger:
        sounds = [load_audio(path, sample_rate=RATE).waveform for path in real_recordings().values()]
        for _ in range(max(3, rounds // 2)):
            for count in COUNTS:
                turns[count].append(turn(tagger, sounds, count))
    rows = []
    for count, found in turns.items():
        row: dict[str, Any] = {name: statistics.median(turn[name] for turn in found) for name in found[0]}
        name = f"{count} stream{'s' if count > 1 else ''}"
        rows.append({"what": name, **row, "per_core": 1e3 / row["ms"]})
    return rows


def turn(tagger: Tagger, sounds: list[NDArray[np.float32]], count: int) -> dict[str, float]:
    """Returns the figures of one turn of `count` streams, in CPU time."""
    filled = [filling(tagger, sounds[k % len(sounds)], k / count) for k in range(count)]
    pushes: list[float] = []
    begin = time.thread_time()
    for _ in range(SECONDS * RATE // BLOCK):
        for stream, blocks in filled:
            block = next(blocks)
            start = time.thread_time()
            if not stream.push(block):
                pushes.append(1e6 * (time.thread_time() - start))
    milliseconds = 1e3 * (time.thread_time() - begin) / (SECONDS * count)
    spent = dict.fromkeys(PARTS, 0.0)
    with contextlib.ExitStack() as patches:
        for part, (owner, name) in PARTS.items():
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name), spent, part)))
        for _ in range(SECONDS * RATE // BLOCK):
            for stream, blocks in filled:
                stream.push(next(blocks))
    parts = {f"{part}_ms": 1e3 * seconds / (SECONDS * count) for part, seconds in spent.items()}
    return {
        "push_us": statistics.median(pushes),
        "p99_us": float(np.percentile(pushes, 99)),
        "most_us": max(pushes),
        **parts,
        "rest_ms": milliseconds - sum(parts.values()),
        "ms": milliseconds,
    }


def filling(
    tagger: Tagger, sound: NDArray[np.float32], share: float
) -> tuple[StreamTagger, Iterator[NDArray[np.float32]]]:
    """Returns a stream that is `share` of a hop after its second window, and the blocks that follow."""
    stream = StreamTagger(tagger, hop=HOP_SECONDS, sample_rate=RATE)
    before = round((stream.window + (1 + share) * HOP_SECONDS) * RATE / BLOCK) * BLOCK
    whole = np.resize(sound, before + 2 * SECONDS * RATE)
    stream.push(whole[:before])
    return stream, (whole[start : start + BLOCK] for start in range(before, len(whole), BLOCK))


def timed(run: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    """Returns a function that adds its CPU time to `spent`."""

    def timing(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return run(*args, **kwargs)
        finally:
            spent[part] += time.thread_time() - start

    return timing
