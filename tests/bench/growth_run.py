"""One run of the benchmark `growth`, in a process without torch: `python growth_run.py WHAT BUNDLE SIZE PATH …`.

Prints the CPU seconds after a start, which `WHAT` describes, and the peak memory of the process in MB.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from panns_litert.audio import load_audio
from panns_litert.batch import batch
from panns_litert.tagger import Tagger
from panns_litert.windows import StreamTagger, find_events, tag_long, windows

RATE, BLOCK, SECONDS = 48000, 480, 20
"""Streams are those of a microphone at 48 kHz that gives a block every 10 ms, each for this long after its start."""


def tagging(bundle: str, _: int, recording: str) -> float:
    """Tags a recording, without overlap. The start opens the bundle and tags one window."""
    with Tagger(bundle, threads=1) as tagger:
        next(windows(tagger, recording))
        begin = time.process_time()
        tag_long(tagger, recording)
        return time.process_time() - begin


def events(bundle: str, _: int, recording: str) -> float:
    """Finds events with the default hop. The start opens the bundle and tags one window."""
    with Tagger(bundle, threads=1) as tagger:
        next(windows(tagger, recording))
        begin = time.process_time()
        for _event in find_events(tagger, recording):
            pass
        return time.process_time() - begin


def files(bundle: str, count: int, *folders: str) -> float:
    """Tags recordings with `batch` and one worker. The start is that of a second batch: a worker and one recording."""
    clips, out = (Path(folder) for folder in folders)
    paths, spent = sorted(clips.iterdir()), []
    for turn, most in enumerate((1, 1, count)):  # the first batch also imports
        begin = cpu_seconds()
        summary = batch(paths[:most], out / str(turn), bundle=bundle, workers=1)
        spent.append(cpu_seconds() - begin)
        if summary.failed or summary.recordings != most:
            raise SystemExit(f"growth: {summary}")
    return spent[2] - spent[1]


def streams(bundle: str, count: int, recording: str) -> float:
    """Runs streams through one tagger with a hop of 1 s. The start is each stream's first window."""
    sound = load_audio(recording, sample_rate=RATE).waveform
    with Tagger(bundle, threads=1) as tagger:
        running = [StreamTagger(tagger, hop=1.0, sample_rate=RATE) for _ in range(count)]
        first = round(running[0].window * RATE)
        sound = np.resize(sound, first + SECONDS * RATE)
        for stream in running:
            stream.push(sound[:first])
        begin = time.process_time()
        for start in range(first, len(sound), BLOCK):
            for stream in running:
                stream.push(sound[start : start + BLOCK])
        return time.process_time() - begin


def cpu_seconds() -> float:
    """CPU time of this process and of the processes that it has started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_mb() -> float:
    """Peak memory of this process, or of the largest that it has started, in MB."""
    # Not this process's ru_maxrss, which starts at the peak of its parent process.
    status = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert status is not None
    return max(int(status[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


WHAT: dict[str, Callable[..., float]] = {"tagging": tagging, "events": events, "files": files, "streams": streams}

if __name__ == "__main__":
    what, bundle, size, *paths = sys.argv[1:]
    seconds = WHAT[what](bundle, int(size), *paths)
    print(json.dumps({"cpu_s": seconds, "MB": peak_mb()}))
