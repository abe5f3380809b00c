"""Table `latency` of bench.py: how soon after a sound begins it is told."""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from event_defaults import CLIPS_A_RECORDING, GROUPS, RATE, SEED, Recording, joined
from numpy.typing import NDArray
from turns import ESC10, REAL_WEIGHTS

from panns_litert.events import EventSettings
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import LiveEvents, StreamTagger
from panns_litert_convert.convert import convert

WINDOWS = {1.0: (0.5,), 2.0: (1.0, 0.5), 5.0: (1.0,)}
"""Hops by the length of the window, seconds. The first one is `event_hop`."""

CHUNK = RATE // 50
"""Samples that are pushed at a time: 20 ms."""

CLEAR = 0.5
"""A sound is clear if its class has this score in the window that begins with it."""

ON = EventSettings().on


def latency(rounds: int) -> list[dict[str, Any]]:
    """Seconds of stream from the beginning of each clip of ESC-10 to the start that `LiveEvents` tells, with mn04.

    The clips have the same level and no quiet ends (blocks of 20 ms below -60 dBFS) and are joined with gaps of 2 to
    15 s of silence. mn04 is fp32, because its fp16 file of 1 s fails its gate, with its published weights and the
    default thresholds; each class of ESC-10 is a group of AudioSet's. docs/events.md says what the columns are.

    Args:
        rounds: not used; nothing but the CPU time varies.

    Raises:
        SystemExit: the clips or the weights are not on this machine.
    """
    for path in (ESC10, REAL_WEIGHTS):
        if not path.exists():
            raise SystemExit(f"bench: no {path.name}; latency is measured on real recordings with real weights only")
    heard, rows = recordings(), []
    with tempfile.TemporaryDirectory() as folder:
        for window, hops in WINDOWS.items():
            out = Path(folder) / f"{window:g}"
            convert("mn04", checkpoint=REAL_WEIGHTS, seconds=window, precision="fp32", out=out)
            with Tagger(out, threads=1) as tagger:
                clear = np.concatenate([scores(tagger, recording, window) for recording in heard]) >= CLEAR
                half = np.concatenate([scores(tagger, recording, window / 2) for recording in heard]) >= ON
                for hop in hops:
                    print(f"latency: window of {window:g} s, hop {hop:g} s", file=sys.stderr, flush=True)
                    found = [delays(tagger, hop, recording) for recording in heard]
                    waits = np.concatenate([waits for waits, _ in found])
                    bound, told = window / 2 + hop, np.isfinite(waits)
                    rows.append({
                        "what": f"window of {window:g} s",
                        "hop_s": f"{hop:g}",
                        "told_percent": 100 * float(told.mean()),
                        "median_s": float(np.median(waits[told])),
                        "95_percent_s": float(np.percentile(waits[told], 95)),
                        "bound_s": f"{bound:g}",
                        "within_percent": 100 * float((waits[told] <= bound).mean()),
                        "clear_clips": int(clear.sum()),
                        "clear_within_percent": 100 * float((waits[clear] <= bound).mean()),
                        "half_clips": int(half.sum()),
                        "half_within_percent": 100 * float((waits[half] <= bound).mean()),
                        "window_ms": float(np.median(np.concatenate([times for _, times in found]))),
                    })  # fmt: skip
    return rows


def recordings() -> list[Recording]:
    """Returns recordings of all clips, each clip in one, with silence before, between and after them."""
    rows = list(csv.DictReader((ESC10 / "esc10.csv").read_text(encoding="utf-8").splitlines()))
    rng = np.random.default_rng(SEED)
    order = [rows[k] for k in rng.permutation(len(rows))]
    parts = (order[k : k + CLIPS_A_RECORDING] for k in range(0, len(order), CLIPS_A_RECORDING))
    return [joined(((ESC10 / row["file"], row["labels"]) for row in part), rng, level=True) for part in parts]


def scores(tagger: Tagger, recording: Recording, seconds: float) -> NDArray[np.floating]:
    """Returns for every sound the score of its class in a window that ends with its first `seconds` after silence."""
    samples, sounds = recording
    sense, length = Sense(tagger.labels, groups=GROUPS), round(seconds * RATE)
    silence = np.zeros(round(tagger.bundle.manifest.clip_seconds * RATE) - length, np.float32)
    found = []
    for begin, _, label in sounds:
        sound = samples[round(begin * RATE) :][:length]
        probs = tagger.tag(np.concatenate([silence, sound]), sample_rate=RATE).probs
        found.append(sense(probs)[sense.labels.index(label)])
    return np.array(found)


def delays(tagger: Tagger, hop: float, recording: Recording) -> tuple[NDArray[np.float64], list[float]]:
    """Returns the seconds from the beginning of every sound to its start, infinite if there is none; and the CPU times
    of the windows, milliseconds."""
    samples, sounds = recording
    stream = StreamTagger(tagger, hop=hop)
    live = LiveEvents(stream, settings=EventSettings(), sense=Sense(tagger.labels, groups=GROUPS))
    starts: list[tuple[float, str]] = []  # when it was told, class
    times = []
    for at in range(0, len(samples), CHUNK):
        begin = time.process_time()
        windows = stream.push(samples[at : at + CHUNK])
        changes = [change for window in windows for change in live.push(window)]
        if windows:
            times.append(1e3 * (time.process_time() - begin))
        starts += [(stream.seconds, change.label) for change in changes if change.phase == "start"]
    waits = []
    for k, (begin, end, label) in enumerate(sounds):
        next_begin = sounds[k + 1][0] if k + 1 < len(sounds) else np.inf
        last = min(end + stream.window, next_begin)
        waits.append(next((told - begin for told, name in starts if name == label and begin <= told <= last), np.inf))
    return np.array(waits), times
