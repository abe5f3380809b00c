"""Benchmark `yamnet`: mn04 beside YAMNet's public .tflite, if there is one on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from bundles import bundle, yamnet_file
from esc10 import right_percent
from event_defaults import GROUPS
from numpy.typing import NDArray
from turns import ESC10, real_recordings, take_turns

from panns_litert.audio import load_audio
from panns_litert.bundle import Bundle
from panns_litert.evaluate import read_dataset
from panns_litert.frontend import LogMel
from panns_litert.proof import adopt
from panns_litert.tagger import Tagger

SECONDS = 10.0
RATE, WINDOW, HOP = 16000, 15600, 7800
"""YAMNet's input: 0.975 s at 16 kHz, here with a hop of half of it, 0.4875 s."""


def yamnet(rounds: int) -> list[dict[str, Any]]:
    """10 s of a real recording to scores on one thread, CPU ms, and clips of ESC-10 named right without training.

    The samples have each model's rate. mn04 takes one log-mel of 10 s; YAMNet's .tflite takes windows of 0.975 s with a
    hop of 0.4875 s in LiteRT's interpreter, as its users run it. Clips of ESC-10 as in docs/evidence.md. The file is
    that of the environment variable YAMNET, or yamnet*.tflite in ../shared.
    """
    recording, file = real_recordings()["metro station"], yamnet_file()
    data = read_dataset(ESC10 / "esc10.csv", classes=tuple(GROUPS))
    with tempfile.TemporaryDirectory() as folder:
        bundles = {"mn04, fp16": Bundle(bundle("mn04"))}
        candidates = {"mn04, fp16": one_window(bundles["mn04, fp16"], recording)}
        if file is not None:
            name = f"YAMNet, {file.name}"
            bundles[name] = adopt(file, out=Path(folder) / "yamnet").bundle
            candidates[name] = many_windows(file, recording)
        times = take_turns(candidates, rounds, clock=time.process_time)
        rows: list[dict[str, Any]] = []
        for name, found in bundles.items():
            ratio, right = times[name] / times["mn04, fp16"], right_percent(found, data)
            rows.append({"what": name, "cpu_ms": times[name], "ratio": ratio, "esc10_right_percent": right})
    if file is None:
        rows.append({"what": "YAMNet: not measured; expected YAMNET=FILE, its public .tflite"})
    return rows


def one_window(bundle: Bundle, recording: Path) -> Callable[[], object]:
    """Returns a function that computes the log-mel of a recording and runs a bundle's model on it."""
    samples = beginning(recording, bundle.manifest.front_end.sample_rate)
    logmel, tagger = LogMel(bundle.manifest.front_end, basis=bundle.mel_basis), Tagger(bundle, threads=1)
    return lambda: tagger.run(logmel(samples)[None, None])


def many_windows(file: Path, recording: Path) -> Callable[[], object]:
    """Returns a function that runs YAMNet on windows of a recording and averages their scores."""
    samples = beginning(recording, RATE)
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    given, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]

    def run() -> object:
        found = []
        for start in range(0, len(samples) - WINDOW + 1, HOP):
            interpreter.set_tensor(given["index"], samples[start : start + WINDOW].reshape(given["shape"]))
            interpreter.invoke()
            found.append(interpreter.get_tensor(scores))
        return np.mean(found, axis=0)

    return run


def beginning(recording: Path, rate: int) -> NDArray[np.float32]:
    """Returns the first SECONDS of a recording, (samples,)."""
    return load_audio(recording, sample_rate=rate, max_seconds=SECONDS).waveform
