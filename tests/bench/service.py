"""Benchmark `service`: what `panns-litert listen` needs as a service, on one core."""

from __future__ import annotations

import json
import os
import subprocess
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
_RUN = """
import json, re, sys, time
from panns_litert.cli import main
code = main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print(json.dumps([time.process_time(), int(peak)]))
sys.exit(code)
"""
"""Runs a command and prints its CPU time and the peak of its memory: `ru_maxrss` would also be that of the parent."""

MODELS = (("mn04", "fp16"), ("mn04", "int8"), ("cnn14", "int8"))


def service(rounds: int) -> list[dict[str, Any]]:
    """CPU time and memory of `panns-litert listen --events --on 0.9` on one core, real recordings, windows of 10 s.

    Bound to one core by `taskset -c 0`; three minutes at 48 kHz, with a hop of 1 s. `core`: CPU time per second of
    sound, without the start. `start`: CPU time until the first window. `memory`: the most resident memory.

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
    """Runs `listen` in a process of its own. Returns its CPU seconds, and the most memory in MB."""
    command = ["taskset", "-c", "0", sys.executable, "-c", _RUN, "listen", str(recording), "--model", str(folder)]
    command += ["--threads", "1", "--events", "--on", "0.9", "--seconds", f"{seconds:g}"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread)
    cpu, kibibytes = json.loads(result.stdout.splitlines()[-1])
    return cpu, kibibytes * 1024 / 1e6
