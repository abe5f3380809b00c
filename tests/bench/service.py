"""Benchmark `service`: what `panns-litert listen` needs as a service, on one core."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from bundles import bundle
from turns import real_recordings

from panns_litert.audio import load_audio

SECONDS, RATE = 180, 48000
MODELS = (("mn04", "fp16"), ("mn04", "int8"), ("cnn14", "int8"))


def service(rounds: int) -> list[dict[str, Any]]:
    """CPU time and memory of `panns-litert listen --events --on 0.9`, bound to one core (`taskset -c 0`), on three
    minutes of real recordings at 48 kHz, with windows of 10 s and a hop of 1 s. `core`: CPU time per second of sound,
    without the start. `start`: CPU time until the first window. `memory`: the most resident memory of the process.

    Medians of rounds / 5 runs. cnn14's weights are random ones; 0.9 keeps them from telling hundreds of events.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        recording = Path(name) / "sound.wav"
        sounds = [load_audio(path, sample_rate=RATE).waveform for path in real_recordings().values()]
        soundfile.write(recording, np.resize(np.concatenate(sounds), SECONDS * RATE), RATE)
        for model, precision in MODELS:
            folder = bundle(model, precision)
            runs = []
            for _ in range(max(1, rounds // 5)):
                start, _ = listened(folder, recording, 10.1)
                whole, megabytes = listened(folder, recording, SECONDS)
                runs.append((100 * (whole - start) / (SECONDS - 10), start, megabytes))
            core, start, megabytes = np.median(runs, axis=0)
            rows.append(
                {
                    "what": f"{model}, {precision}",
                    "core_percent": float(core),
                    "start_s": float(start),
                    "memory_MB": float(megabytes),
                }
            )
    return rows


def listened(folder: Path, recording: Path, seconds: float) -> tuple[float, float]:
    """Runs `listen`. Returns its CPU seconds, and the most memory in MB.

    Raises:
        SystemExit: it failed.
    """
    with open(os.devnull, "wb") as null:
        command = ["taskset", "-c", "0", sys.executable, "-m", "panns_litert.cli", "listen", str(recording)]
        command += ["--model", str(folder), "--threads", "1", "--events", "--on", "0.9", "--seconds", f"{seconds:g}"]
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), 1), (os.POSIX_SPAWN_DUP2, null.fileno(), 2)]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        process = os.posix_spawnp(command[0], command, one_thread, file_actions=actions)
        _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"bench: {' '.join(command)}: status {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3
