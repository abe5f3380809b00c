"""Benchmark `growth`: how time and memory grow with the recording, the files, the classes and the streams."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file
from turns import ROOT, real_recordings

from panns_litert.audio import load_audio
from panns_litert.demo import demo_bundle
from panns_litert_convert.checkpoints import save_own, with_classes
from panns_litert_convert.convert import convert
from panns_litert_convert.zoo import find

LENGTHS = (10, 60, 300, 600, 2700, 10800)
EVENTS = (10, 30, 100, 200, 600, 1800)
FILES = (1, 10, 100, 500, 2500, 10000)
CLASSES = (10, 30, 100, 300, 527)
STREAMS = (1, 2, 4, 8, 16, 32, 64)
CLASS_SECONDS = 600


def growth(rounds: int) -> list[dict[str, Any]]:
    """CPU time and peak memory of a process against size, with the exponents of the upper half of the sizes.

    Time is CPU time without the start (imports, opening the bundle, first window; for files, a batch of one), of the
    fastest of `rounds` / 10 runs. An exponent is the slope of a line through log(size) and log(time) or log(memory) of
    the upper half of the sizes, by least squares; that of memory is near 0 if memory does not grow. On a machine with
    other work, an exponent of time varies by 0.1.

    Recordings are real ones, repeated. The demo model runs on one thread: windows of 10 s for length and streams, of
    2 s for files of 1 s and for classes, whose model is the demo network with its classes repeated, so that each finds
    as many events. Events stop at 30 minutes: with their hop of 1 s, 3 h take 90 s.
    """
    turns = max(1, rounds // 10)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder, sounds = Path(name), list(real_recordings().values())

        def line(
            what: str, unit: str, run: str, sizes: Sequence[int], given: Callable[[int], tuple[Path, ...]]
        ) -> None:
            """Adds the row of one kind of run; `given` makes the bundle and the paths of a size."""
            found = []
            for size in sizes:
                bundle, *paths = given(size)
                runs = [measured(run, bundle, size, *paths) for _ in range(turns)]
                found.append([min(one["cpu_s"] for one in runs), max(one["MB"] for one in runs)])
            rows.append({"what": f"{what}, {sizes[0]} to {sizes[-1]} {unit}"} | figures(sizes, np.array(found)))

        demo, flac = demo_bundle(), folder / "long.flac"
        line("tag_long", "s", "tagging", LENGTHS, lambda n: (demo, repeated(sounds[0], flac, n)))
        line("find_events", "s", "events", EVENTS, lambda n: (demo, repeated(sounds[0], flac, n)))
        small = with_own_classes(22, folder)
        clips = short_clips(sounds, folder / "clips", max(FILES))
        line("batch", "files", "files", FILES, lambda _: (small, clips, empty(folder / "out")))
        lasting = repeated(sounds[0], flac, CLASS_SECONDS)
        line("find_events", "classes", "events", CLASSES, lambda n: (with_own_classes(n, folder), lasting))
        line("StreamTagger", "streams", "streams", STREAMS, lambda _: (demo, sounds[0]))
    return rows


def measured(run: str, bundle: Path, size: int, *paths: Path) -> dict[str, float]:
    """Runs growth_run.py in a process of its own."""
    script = Path(__file__).with_name("growth_run.py")
    command = [sys.executable, str(script), run, str(bundle), str(size), *map(str, paths)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread)
    values: dict[str, float] = json.loads(result.stdout)
    return values


def figures(sizes: Sequence[int], found: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> dict[str, float]:
    """Returns the figures of a row from CPU seconds and MB, (sizes, 2)."""
    upper = len(sizes) // 2
    slopes = np.polyfit(np.log(sizes[upper:]), np.log(found[upper:]), 1)[0]
    return {
        "cpu_s_of_most": found[-1, 0],
        "cpu_exponent": slopes[0],
        "MB_of_least": found[0, 1],
        "MB_of_most": found[-1, 1],
        "MB_exponent": slopes[1],
    }


def repeated(source: Path, path: Path, seconds: int) -> Path:
    """Writes a recording, repeated to a length, as FLAC."""
    with soundfile.SoundFile(source) as sound:
        samples, rate = sound.read(dtype="int16"), sound.samplerate
    with soundfile.SoundFile(path, "w", rate, 1 if samples.ndim == 1 else samples.shape[1]) as file:
        for left in range(seconds * rate, 0, -len(samples)):
            file.write(samples[:left])
    return path


def short_clips(sources: Sequence[Path], folder: Path, count: int) -> Path:
    """Writes the first second of each recording into a folder, with hard links up to `count` files."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:05d}.wav"
        if number < len(sources):
            soundfile.write(path, load_audio(sources[number], sample_rate=32000, max_seconds=1.0).waveform, 32000)
        else:
            path.hardlink_to(folder / f"{number % len(sources):05d}.wav")
    return folder


def empty(folder: Path) -> Path:
    """Returns a folder without files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def with_own_classes(count: int, folder: Path) -> Path:
    """Converts the demo network for windows of 2 s, with the weights of its classes repeated for `count` classes."""
    model = find("demo")
    classes = [f"class {k}" for k in range(count)]
    network = with_classes(model, classes).build()
    weights = load_file(ROOT / "assets" / model.checkpoint.file)
    for name in ("fc_audioset.weight", "fc_audioset.bias"):
        own = weights[name]
        weights[name] = own[torch.arange(count) % len(own)].contiguous()
    network.load_state_dict(weights, strict=False)
    save_own(network, folder / f"{count}.safetensors", model=model, classes=classes)
    out = folder / f"bundle-{count}"
    convert("demo", checkpoint=folder / f"{count}.safetensors", seconds=2.0, out=out)
    return out
