"""What the benchmarks share: candidates that take turns, and the real recordings that speed is measured on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
"""Real weights and recordings, which are not part of the repository."""

ESC10 = SHARED / "audio" / "esc10"
REAL_WEIGHTS = SHARED / "weights" / "mn04_as_mAP_432.pt"
PAUSE_SECONDS = 0.2


def take_turns(
    candidates: dict[str, Callable[[], object]],
    rounds: int,
    *,
    runs: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Returns the median milliseconds of each candidate, measured in turns of `runs` runs each.

    A pause before every turn lets the idle threads of the previous candidate go to sleep: those of OpenMP and OpenBLAS
    spin for a while, on cores that the next candidate needs. The first run of a turn is not counted.

    Args:
        candidates: name to function.
        rounds, runs: number of turns of every candidate, and of counted runs in a turn.
        clock: `time.perf_counter` for the time that passes, `time.process_time` for the CPU time of the process.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            time.sleep(PAUSE_SECONDS)
            run()
            for _ in range(runs):
                start = clock()
                run()
                times[name].append(1e3 * (clock() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def settle_malloc() -> None:
    """Lets glibc's malloc keep freed memory from here on.

    It does so once a block just below 32 MB was freed. Before, it gives memory back to the system after the runs of
    some candidates and not of others, and then their page faults are measured.
    """
    np.ones((1 << 25) - (1 << 13), np.uint8)


def real_recordings() -> dict[str, Path]:
    """Returns real recordings by name: a metro station, speech, a baby, and one clip of each class of ESC-10.

    Raises:
        SystemExit: they are not on this machine.
    """
    audio = SHARED / "audio"
    if not ESC10.is_dir():
        raise SystemExit("bench: no ../shared/audio; speed is measured on real recordings only")
    table = [line.split(",") for line in (ESC10 / "esc10.csv").read_text(encoding="utf-8").splitlines()[1:]]
    firsts = {label: ESC10 / name for name, label, *_ in reversed(table)}
    station, speech = audio / "metro_station-paris.wav", audio / "R9_ZSCveAHg_7s.wav"
    baby = sorted((audio / "baby_cry").glob("*.*"))[0]
    return {"metro station": station, "speech": speech, "baby": baby} | dict(sorted(firsts.items()))
