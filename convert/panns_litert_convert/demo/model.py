"""The demo model: evaluates a checkpoint and, if it is good enough, writes it as the one that ships.

`make demo-model` trains it with the commands of docs/training.md: Cnn14 with narrow blocks, on synthesised mixtures
only. With it, a fresh checkout can convert, verify and run a network with meaningful outputs. It is no substitute for
PANNs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import save

from panns_litert.atomic import replacing
from panns_litert.errors import CheckpointError
from panns_litert.evaluate import figures
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert_convert.checkpoints import load_weights, model_of
from panns_litert_convert.convert import convert
from panns_litert_convert.demo.audioset import HELD_OUT_SEED
from panns_litert_convert.demo.sounds import LABELS, RATE, Waveform, mixture
from panns_litert_convert.networks import AudioTagger
from panns_litert_convert.training.features import one_thread
from panns_litert_convert.zoo import DEMO_CHANNELS, find

CLIP_SECONDS = 10.0
"""The window that the model runs on; a shorter clip is padded with zeros."""

CHECKPOINT_NAME = "demo_checkpoint.safetensors"
LABELS_NAME = "demo_labels.txt"

LEAST_MAP, LEAST_AP = 0.95, 0.8
"""Least average precision on held-out clips of a checkpoint that ships: mean, and of any class."""


def evaluate(
    network: AudioTagger, *, clips: int, seed: int = HELD_OUT_SEED, padded: bool = False
) -> NDArray[np.float64]:
    """Returns the average precision per class on held-out windows of CLIP_SECONDS.

    Args:
        network: of len(LABELS) classes; afterwards in eval mode.
        clips: number of windows, ≥ 1. A class that occurs in none of them gets NaN.
        seed: ≥ HELD_OUT_SEED.
        padded: use clips of 2–6 s, padded with zeros, instead of clips that fill the window.

    Returns:
        Shape (len(LABELS),), 0 … 1 or NaN.

    Raises:
        ValueError: `clips` or `seed` is out of range.
    """
    if seed < HELD_OUT_SEED:
        raise ValueError(f"seed {seed} may have been trained on; expected at least {HELD_OUT_SEED}")
    if clips < 1:
        raise ValueError(f"{clips} clips; expected at least 1")
    logmel = LogMel(PANNS_32K)
    network.eval()
    probs, labels = [], []
    with one_thread():
        for i in range(clips):
            rng = np.random.default_rng([seed, i])
            seconds = rng.uniform(2.0, 6.0) if padded else CLIP_SECONDS
            waveform, truth = mixture(rng, seconds=seconds)
            probs.append(tag(network, waveform, logmel=logmel))
            labels.append(truth)
    found = figures(np.stack(probs), np.stack(labels), LABELS)
    return np.array([np.nan if row.average_precision is None else row.average_precision for row in found.classes])


def tag(network: AudioTagger, waveform: Waveform, *, logmel: LogMel) -> NDArray[np.float32]:
    """Returns the probabilities (classes,) for a clip (samples ≤ CLIP_SECONDS · RATE,), padded with zeros."""
    window = np.zeros(round(CLIP_SECONDS * RATE), np.float32)
    window[: len(waveform)] = waveform
    with torch.inference_mode():
        probs = network(torch.from_numpy(logmel(window))[None, None])["probs"]  # (1, classes)
    return np.asarray(probs[0].numpy())


def ship(checkpoint: Path, out: Path, *, clips: int) -> Table:
    """Writes a checkpoint of `train` as CHECKPOINT_NAME, and LABELS_NAME, if it is good enough.

    It is if it reaches LEAST_MAP and LEAST_AP, and both of its graphs pass parity on the GPU delegate.

    Args:
        checkpoint: of the demo network, with the classes LABELS.
        out: folder.
        clips: windows per evaluation.

    Returns:
        A table of the held-out average precision per class.

    Raises:
        CheckpointError: the network or the classes are others, or the precision is below LEAST_MAP or LEAST_AP.
        ParityError, GpuDriverError: a graph fails parity on the GPU, or there is no GPU.
    """
    record = model_of(find("demo"), checkpoint)
    if record.class_names() != LABELS:
        raise CheckpointError(f"{checkpoint}: other classes; expected {', '.join(LABELS)}")
    network = record.build()
    load_weights(network, checkpoint, record)
    full, padded = (evaluate(network, clips=clips, padded=padded) for padded in (False, True))
    table = Table(title=f"average precision on {clips} held-out windows of {CLIP_SECONDS:g} s")
    for heading in ("sound", "full window", "2–6 s, then zeros"):
        table.add_column(heading, justify="left" if heading == "sound" else "right")
    for label, a, b in zip(LABELS, full, padded, strict=True):
        table.add_row(label, f"{a:.3f}", f"{b:.3f}")
    table.add_row("mean", f"{np.nanmean(full):.4f}", f"{np.nanmean(padded):.4f}", style="bold")
    worse = float(min(np.nanmean(full), np.nanmean(padded)))
    if not worse >= LEAST_MAP:
        raise CheckpointError(f"{checkpoint}: held-out mAP {worse:.4f}; expected at least {LEAST_MAP}; train longer")
    weak = [f"{label} {ap:.3f}" for label, ap in zip(LABELS, np.fmin(full, padded), strict=True) if ap < LEAST_AP]
    if weak:
        raise CheckpointError(f"{checkpoint}: {', '.join(weak)}; expected at least {LEAST_AP} of every sound")
    with tempfile.TemporaryDirectory() as folder:
        for graph in record.graphs:
            convert("demo", checkpoint=checkpoint, graph=graph, gpu=True, out=Path(folder) / graph)
    facts = {
        "model": "panns-litert demo: narrow Cnn14 trained on synthesised sounds, not a PANNs checkpoint",
        "network": "Cnn14",
        "channels": DEMO_CHANNELS,
        "labels": LABELS,
        "front_end": PANNS_32K.to_dict(),
        "held_out_map": round(worse, 4),
    }
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / CHECKPOINT_NAME) as file:
        # A single entry, since the order of several would change from run to run.
        file.write(save(network.state_dict(), {"panns_litert": json.dumps(facts)}))
    with replacing(out / LABELS_NAME) as file:
        file.write("".join(f"{label}\n" for label in LABELS).encode())
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates a checkpoint, prints the table and writes the files that ship. Returns 0."""
    parser = argparse.ArgumentParser(description="Make a checkpoint of `train` the demo model that ships.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of `panns-litert train --model demo`")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and its labels")
    parser.add_argument("--clips", type=int, default=500, help="windows per evaluation (default %(default)s)")
    args = parser.parse_args(argv)
    Console().print(ship(args.checkpoint, args.out, clips=args.clips))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
