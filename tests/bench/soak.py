"""`make soak`: hours of simulated live sound at full speed: memory, drift, and whether each planted sound is told once.

    python tests/bench/soak.py                 # 12 h; ESC-10 and mn04's weights of ../shared
    python tests/bench/soak.py --hours 1       # printed alone; nothing is written
    python tests/bench/soak.py --render        # writes the document from the record alone

The stream is noise of -70 dBFS. Every 60 to 120 s a real clip begins in it, of -20 dBFS and without its quiet ends. In
the middle of each hour, 37.25 s are lost. Only clear clips are planted: those that are told once when they are alone,
with each of four places of their start in a hop; they are planted at these places. The threshold is the one of three
with which most clips are clear. A planted sound counts as told once if exactly one event of its class overlaps it. The
listener runs in a process without torch, on one thread, with windows of 2 s and a hop of 1 s, and writes JSON lines,
CSV and clips.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tables import add_table, read_tables, texts
from turns import ESC10, REAL_WEIGHTS, ROOT

from panns_litert.audio import load_audio
from panns_litert.events import EventSettings
from panns_litert.live import (
    ClipSink,
    CsvSink,
    EventNotice,
    Heard,
    JsonLinesSink,
    Listener,
    Lost,
    Notice,
    Sink,
    Source,
)
from panns_litert.measure import insert, markdown
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import EventStream, StreamTagger

RECORD = Path("records/live/amd-epyc.json")
DOCUMENT = Path("docs/live.md")
HOURS, HOUR, HOP, SEED = 12.0, 3600.0, 1.0, 0  # HOUR: seconds of a row
NOISE_DBFS, LEVEL_DBFS, QUIET_DBFS = -70.0, -20.0, -60.0
EVERY = (60.0, 120.0)  # seconds from one planted sound to the next
LOSS, LOSS_AT, APART = 37.25, 1800.0, 40.0  # seconds: length of a loss, its place in each hour, no sound is that near
THRESHOLDS = (0.2, 0.3, 0.5)
PHASES = (0.0, 0.25, 0.5, 0.75)  # of a hop
MAX_GAP = 5.0  # a dog that barks twice is one event
BEGAN = 1_767_225_600.0  # 2026-01-01, 0:00 UTC

ABOUT = (
    "Memory is that at the end of each hour, with the clips that are planted; in the last row, the most. `start "
    "error`: the median of the events' starts against those of the sounds."
)

Planted = tuple[float, float, str]  # start and end in seconds, class


def run(
    bundle: Path, clips: Sequence[tuple[Path, str]], groups: Mapping[str, Sequence[str]], *, hours: float, folder: Path
) -> list[dict[str, Any]]:
    """Listens to the simulated stream. Returns a row for every hour, and one for all.

    Args:
        bundle: of the model.
        clips: sounds and their classes, of which the clear ones are planted.
        groups: the classes, each a group of the model's.
        hours: length of the stream.
        folder: for what the sinks write.
    """
    with Tagger(bundle, threads=1) as tagger:
        rate = tagger.bundle.manifest.front_end.sample_rate
        sense = Sense(tagger.labels, groups=groups)
        noise = 10 ** (NOISE_DBFS / 20) * np.random.default_rng(SEED).standard_normal(64 * rate).astype(np.float32)
        sounds = [(sound(path, rate), label) for path, label in clips]
        clear = [clear_at(tagger, sense, *one, noise) for one in sounds]
        on = max(THRESHOLDS, key=lambda on: sum(on in found for found in clear))
        chosen = [one for one, found in zip(sounds, clear, strict=True) if on in found]
        stream = Simulated(chosen, noise, rate, 3600 * hours)
        kept = Kept()
        with (folder / "events.jsonl").open("w", encoding="utf-8") as lines:
            sinks = (kept, JsonLinesSink(lines), CsvSink(folder / "csv"), ClipSink(folder / "clips", rate=rate))
            settings = EventSettings(on=on, max_gap=MAX_GAP)
            listened = Listener(tagger, [stream], sinks, hop=HOP, settings=settings, sense=sense).run()
    (source,) = listened.sources
    written = sum(len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in (folder / "csv").iterdir())
    ended = [notice for notice in kept.notices if isinstance(notice, EventNotice) and notice.kind == "end"]
    if written != len(ended) or listened.problems or len({event.id for event in ended}) != len(ended):
        raise SystemExit(f"soak: {written} events in CSV files, {len(ended)} told; {listened.problems}")
    rows = [
        {"what": f"hour {hour + 1}", "memory_MB": memory, "CPU_s": cpu, **figures(ended, planted, HOUR * hour, HOUR)}
        for hour, (memory, cpu, planted) in enumerate(stream.hours)
    ]
    every = [sound for _, _, planted in stream.hours for sound in planted]
    clock = max(abs(datetime.fromisoformat(event.time).timestamp() - BEGAN - event.start) for event in ended)
    total = {"what": f"{hours:g} h", "memory_MB": peak_memory(), "CPU_s": sum(row["CPU_s"] for row in rows)}
    total |= figures(ended, every, 0.0, 3600 * hours) | {
        "clear_clips": f"{len(chosen)} of {len(sounds)}",
        "threshold": f"{on:g}",
        "length_h": f"{source.seconds / 3600:.6f}",
        "lost_s": f"{sum(source.lost.values()):g}",
        "windows": str(source.windows),
        "largest_clock_error_ms": 1e3 * clock,
    }
    return [*rows, total]


class Simulated:
    """The stream, as fast as it is read. Every hour it notes memory, CPU time and what was planted."""

    name, live = "simulated", False

    def __init__(
        self, clips: Sequence[tuple[NDArray[np.float32], str]], noise: NDArray[np.float32], rate: int, seconds: float
    ) -> None:
        self._clips, self._noise, self._rate, self._seconds = clips, noise, rate, seconds
        self._rng = np.random.default_rng(SEED + 1)
        self._closed = threading.Event()
        self.hours: list[tuple[float, float, list[Planted]]] = []

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()

    def __iter__(self) -> Iterator[Heard | Lost]:
        rate, rng = self._rate, self._rng
        at = 0.0  # seconds, a whole number but for what is lost
        start, clip, label = 0.0, np.zeros(0, np.float32), ""
        planted: list[Planted] = []
        cpu, hour_end, loss_at = time.process_time(), HOUR, LOSS_AT
        following = 10.0
        while at < self._seconds and not self._closed.is_set():
            if at >= loss_at:
                yield Lost(seconds=LOSS, why="unplugged", time=BEGAN + at)
                at, loss_at = at + LOSS, loss_at + 3600.0
            if at >= following - 1.0:
                start, (clip, label) = following, self._clips[rng.integers(len(self._clips))]
                following += rng.uniform(*EVERY)
                following = round(following * len(PHASES)) / len(PHASES)  # one of the places that were tried
                while loss_at - APART < following < loss_at + LOSS + APART or following % HOUR > HOUR - APART:
                    following += 1.0
                planted.append((start, start + len(clip) / rate, label))
            shift = rng.integers(len(self._noise) - rate)
            block = self._noise[shift : shift + rate].copy()
            first = round((start - at) * rate)  # of the clip, in this block
            part = clip[max(0, -first) : max(0, rate - first)]
            block[max(0, first) : max(0, first) + len(part)] += part
            yield Heard(samples=block, time=BEGAN + at)
            at += 1.0
            if at >= min(hour_end, self._seconds):
                now = time.process_time()
                self.hours.append((memory(), now - cpu, planted))
                planted, cpu, hour_end = [], now, hour_end + HOUR


class Kept(Sink):
    """Keeps the notices."""

    name = "kept"

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)


def sound(path: Path, rate: int) -> NDArray[np.float32]:
    """Returns a clip at LEVEL_DBFS, without its quiet ends."""
    wave = load_audio(path, sample_rate=rate).waveform
    block = rate // 50
    power = np.square(wave[: len(wave) // block * block].reshape(-1, block), dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > 10 ** (QUIET_DBFS / 10))
    wave = wave[loud[0] * block : (loud[-1] + 1) * block]
    level = np.sqrt(np.square(wave, dtype=np.float64).mean())
    return np.asarray((wave * (10 ** (LEVEL_DBFS / 20) / level)).clip(-1, 1), np.float32)


def clear_at(
    tagger: Tagger, sense: Sense, clip: NDArray[np.float32], label: str, noise: NDArray[np.float32]
) -> set[float]:
    """Returns the thresholds with which exactly one event of its class is found in the clip, alone between noise,
    wherever in a hop it begins."""
    rate = tagger.bundle.manifest.front_end.sample_rate
    found = set(THRESHOLDS)
    for phase in PHASES:
        begin = 4 + phase * HOP
        first = round(begin * rate)
        around = noise[: len(clip) + 12 * rate].copy()
        around[first : first + len(clip)] += clip
        stream = StreamTagger(tagger, hop=HOP)
        windows = list(stream.of([around]))
        for on in tuple(found):
            events = EventStream(stream, settings=EventSettings(on=on, max_gap=MAX_GAP), sense=sense)
            every = [event for window in windows for event in events.push(window)] + [*events.finish()]
            own = [event for event in every if event.label == label]
            if len(own) != 1 or own[0].start >= begin + len(clip) / rate or own[0].end <= begin:
                found.remove(on)
    return found


def figures(ended: Sequence[EventNotice], planted: Sequence[Planted], begin: float, seconds: float) -> dict[str, Any]:
    """Counts the events of the planted sounds."""
    own = [[e for e in ended if e.label == label and e.start < end and e.end > start] for start, end, label in planted]
    counts = [len(found) for found in own]
    errors = [found[0].start - start for found, (start, *_) in zip(own, planted, strict=True) if len(found) == 1]
    right = {event.id for found in own for event in found}
    others = [e for e in ended if begin <= e.start < begin + seconds and e.id not in right]
    return {
        "planted": str(len(planted)),
        "told_once": str(counts.count(1)),
        "missed": str(counts.count(0)),
        "told_more_than_once": str(sum(count > 1 for count in counts)),
        "events_of_other_classes": str(len(others)),
        "start_error_s": float(np.median(errors)) if errors else None,
    }


def memory() -> float:
    """Returns the resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_memory() -> float:
    """Returns the most resident memory of this process, MB. `ru_maxrss` may be that of its parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def real_run(hours: float) -> list[dict[str, Any]]:
    """Runs the soak with real clips and weights, in a process of its own.

    Raises:
        SystemExit: they are not on this machine.
    """
    from event_defaults import GROUPS

    from panns_litert_convert.convert import convert

    for path in (ESC10, REAL_WEIGHTS):
        if not path.exists():
            raise SystemExit(f"soak: no {path.name}; expected real recordings and weights in ../shared")
    with (ESC10 / "esc10.csv").open(encoding="utf-8", newline="") as file:
        clips = [(str(ESC10 / row["file"]), row["labels"]) for row in csv.DictReader(file)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        convert("mn04", checkpoint=REAL_WEIGHTS, seconds=2.0, out=folder / "mn04")
        plan = {"bundle": str(folder / "mn04"), "clips": clips, "groups": GROUPS, "hours": hours, "folder": name}
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        command = [sys.executable, __file__, "--plan", str(folder / "plan.json")]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def render(root: Path = ROOT) -> None:
    """Writes the tables of the record into the document of a repository."""
    tables = read_tables(ROOT / RECORD)["tables"] if (ROOT / RECORD).exists() else []
    text = "".join(f"{table['about']}\n\n{markdown(texts(table['rows']))}" for table in tables)
    insert(root / DOCUMENT, text or "Not measured yet.\n", marker="live soak")


def main() -> None:
    """Runs the soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=HOURS, help="default %(default)g; others are printed alone")
    parser.add_argument("--render", action="store_true", help="only write the document, from the record")
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plan is not None:
        plan = json.loads(args.plan.read_text(encoding="utf-8"))
        clips = [(Path(path), label) for path, label in plan["clips"]]
        options = {"hours": plan["hours"], "folder": Path(plan["folder"])}
        print(json.dumps(run(Path(plan["bundle"]), clips, plan["groups"], **options)))
        return
    if not args.render:
        rows = real_run(args.hours)
        print(json.dumps(rows, indent=1))
        if args.hours != HOURS:
            return
        add_table(ROOT / RECORD, "soak", ABOUT, rows, rounds=1)
    render()


if __name__ == "__main__":
    main()
