"""Trains the demo model: `python -m panns_litert_convert.demo.train --out DIR`.

The model is Cnn14 with narrow blocks, taught on synthesised mixtures only. It exists so that a fresh checkout
can convert, verify and run a network whose answers mean something; it is no replacement for PANNs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save
from torch import Tensor, nn

from panns_litert.errors import CheckpointError
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert_convert.demo.sounds import LABELS, RATE, Waveform, mixture
from panns_litert_convert.networks.cnn14 import Cnn14
from panns_litert_convert.zoo import DEMO_CHANNELS

CLIP_SECONDS = 10.0
"""The window that the model is run on; a shorter clip is followed by zeros."""

HELD_OUT_SEED = 1_000_000
"""Seeds from here on are never trained on."""

CHECKPOINT_NAME = "demo_checkpoint.safetensors"
LABELS_NAME = "demo_labels.txt"

_BATCH = 16
# The order of float additions, and so every weight, depends on it. One: operations this small gain little from
# a second (0.12 s a step against 0.09 s), and lose a factor of ten when another process wants the core.
_THREADS = 1
_PEAK_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 1e-3
_SETTLING_BATCHES = 100
_ROUND_FRAMES = 32  # few distinct shapes: torch keeps its plan for each
_FLOOR_DB = -100.0  # log-mel of digital zero

Features = NDArray[np.float16]


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """Area under the precision-recall curve, as a step function: Σ precision · Δrecall.

    Clips of equal score are counted at once, so that their order does not matter.

    Args:
        scores: shape (clips,), higher means surer.
        labels: shape (clips,), 0 or 1.

    Returns:
        0 … 1; NaN if no label is 1.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1.0, 0.0, 1.0]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    positives = float(labels.sum())
    if positives == 0.0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(labels[order], dtype=np.float64)[last_of_tie]
    return float(np.sum(np.diff(hits, prepend=0.0) * hits / (last_of_tie + 1)) / positives)


def evaluate(network: Cnn14, *, clips: int, seed: int = HELD_OUT_SEED, padded: bool = False) -> NDArray[np.float64]:
    """Average precision per class on windows of CLIP_SECONDS that no training saw.

    Args:
        network: a Cnn14 with len(LABELS) classes; left in eval mode.
        clips: number of windows, ≥ 1; a class without a single one gets NaN.
        seed: ≥ HELD_OUT_SEED.
        padded: clips of 2–6 s followed by zeros, instead of clips that fill the window.

    Returns:
        Shape (len(LABELS),), 0 … 1 or NaN.

    Raises:
        ValueError: no clips, or a seed that training may have used.
    """
    if seed < HELD_OUT_SEED:
        raise ValueError(f"seed {seed} may have been trained on; expected at least {HELD_OUT_SEED}")
    if clips < 1:
        raise ValueError(f"{clips} clips; expected at least 1")
    logmel = LogMel(PANNS_32K)
    network.eval()
    probs, labels = [], []
    with torch.inference_mode(), _reproducible(seed):
        for i in range(clips):
            rng = np.random.default_rng([seed, i])
            seconds = rng.uniform(2.0, 6.0) if padded else CLIP_SECONDS
            waveform, truth = mixture(rng, seconds=seconds)
            probs.append(tag(network, waveform, logmel=logmel))
            labels.append(truth)
    scores, truths = np.stack(probs), np.stack(labels)  # (clips, classes)
    return np.array([average_precision(scores[:, k], truths[:, k]) for k in range(len(LABELS))])


def tag(network: Cnn14, waveform: Waveform, *, logmel: LogMel) -> NDArray[np.float32]:
    """Probabilities (classes,) for one clip (samples ≤ CLIP_SECONDS · RATE,), followed by zeros to fill the window."""
    window = np.zeros(round(CLIP_SECONDS * RATE), np.float32)
    window[: len(waveform)] = waveform
    with torch.inference_mode():
        probs = network(torch.from_numpy(logmel(window))[None, None])["probs"]  # (1, classes)
    return np.asarray(probs[0].numpy())


def train(*, seed: int, clips: int, epochs: int, progress: bool = False) -> Cnn14:
    """A network taught on `clips` synthesised mixtures; the same arguments give the same weights.

    Args:
        seed: 0 … HELD_OUT_SEED − 1.
        clips: number of mixtures, ≥ 2.
        epochs: how often each is seen, ≥ 1.
        progress: show bars on the terminal.

    Returns:
        The network, in eval mode.

    Raises:
        ValueError: an argument out of range.
    """
    if not 0 <= seed < HELD_OUT_SEED:
        raise ValueError(f"seed {seed}; expected 0 … {HELD_OUT_SEED - 1}")
    if clips < 2 or epochs < 1:
        raise ValueError(f"{clips} clips, {epochs} epochs; expected at least 2 and 1")
    features, labels = _training_set(clips, seed=seed, progress=progress)
    with _reproducible(seed):
        network = Cnn14(classes=len(LABELS), channels=DEMO_CHANNELS)
        # Blocks this narrow train about 1.5 × as fast with channels last.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        _normalise_input(network, features)
        rng = np.random.default_rng([seed, clips])  # clip i has [seed, i], i < clips
        steps = epochs * -(-clips // _BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_PEAK_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=_PEAK_LEARNING_RATE, total_steps=steps + 1, pct_start=0.2
        )
        _training_mode(network)
        batches = (batch for _ in range(epochs) for batch in _batches(features, rng))
        for x, chosen in track(batches, "training", total=steps, disable=not progress):
            optimizer.zero_grad()
            logits = network.logits(network.embed(x))  # (batch, classes)
            loss = F.binary_cross_entropy_with_logits(logits, labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        _settle_batch_norm(network, features, rng)
        return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload,no-any-return]


def _training_set(clips: int, *, seed: int, progress: bool) -> tuple[list[Features], Tensor]:
    """Log-mels (frames, mels) of clips of 2–10 s, mostly short ones, and their labels (clips, classes).

    float16 resolves 0.06 dB, and halves the memory.
    """
    logmel = LogMel(PANNS_32K)
    features, labels = [], []
    for i in track(range(clips), "synthesising", disable=not progress):
        rng = np.random.default_rng([seed, i])
        seconds = rng.uniform(2.0, 4.0) if rng.random() < 0.8 else rng.uniform(4.0, CLIP_SECONDS)
        waveform, truth = mixture(rng, seconds=seconds)
        features.append(logmel(waveform).astype(np.float16))
        labels.append(truth)
    return features, torch.from_numpy(np.stack(labels))


def _batches(features: Sequence[Features], rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: log-mels (batch, 1, frames, mels) and which clips they are (batch,).

    A batch holds clips of about one length, to compute little on padding. Every third one is followed by
    some random length of digital zero, up to the window of the finished product.
    """
    longest = PANNS_32K.frames(round(CLIP_SECONDS * RATE))
    # Not quite sorted by length: 50 frames of jitter put other clips together in every epoch.
    order = np.argsort([len(f) + rng.uniform(0.0, 50.0) for f in features])
    groups = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    for k in rng.permutation(len(groups)):
        chosen = groups[k]
        frames = max(len(features[i]) for i in chosen)
        if rng.random() < 1 / 3:
            frames = int(rng.integers(frames, longest + 1))
        frames = -(-frames // _ROUND_FRAMES) * _ROUND_FRAMES
        x = np.full((len(chosen), 1, frames, PANNS_32K.n_mels), _FLOOR_DB, np.float32)
        for row, i in zip(x, chosen, strict=True):
            row[0, : len(features[i])] = features[i]
        yield torch.from_numpy(x), torch.from_numpy(chosen)


def _normalise_input(network: Cnn14, features: Sequence[Features]) -> None:
    """Fixes bn0's statistics to those of the training set; its scale and offset stay trainable.

    Batch statistics would make a clip's features depend on how much padding its neighbours have.
    """
    stacked = np.concatenate([f[::8] for f in features]).astype(np.float32)  # (frames, mels), dB
    network.bn0.running_mean = torch.from_numpy(stacked.mean(axis=0))
    network.bn0.running_var = torch.from_numpy(stacked.var(axis=0))


def _training_mode(network: Cnn14) -> None:
    network.train()
    network.bn0.eval()
    # The flag of the root alone governs dropout. The original's rates starve blocks this narrow, and
    # thousands of random mixtures leave them little to overfit.
    network.training = False


def _settle_batch_norm(network: Cnn14, features: Sequence[Features], rng: np.random.Generator) -> None:
    """Replaces the moving averages of the last steps by plain averages under the final weights."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average
    with torch.no_grad():
        for (x, _), _ in zip(_batches(features, rng), range(_SETTLING_BATCHES), strict=False):
            network.embed(x)


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seeds torch and makes it deterministic; puts the process back as it was afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seed)
            torch.set_num_threads(_THREADS)
            torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)


def save_checkpoint(network: Cnn14, out: Path, *, seed: int, held_out_map: float) -> None:
    """Writes CHECKPOINT_NAME and LABELS_NAME into the folder `out`, each at once or not at all.

    Raises:
        CheckpointError: the weights hold NaN or Inf.
    """
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if broken := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"training left NaN or Inf in {', '.join(broken)}; try another seed")
    facts = {
        "model": "panns-litert demo: narrow Cnn14 trained on synthesised sounds, not a PANNs checkpoint",
        "network": "Cnn14",
        "channels": DEMO_CHANNELS,
        "labels": LABELS,
        "front_end": PANNS_32K.to_dict(),
        "clip_seconds": CLIP_SECONDS,
        "seed": seed,
        "held_out_map": round(held_out_map, 4),
    }
    out.mkdir(parents=True, exist_ok=True)
    # One entry: safetensors writes several in an order that changes from run to run.
    _write(out / CHECKPOINT_NAME, save(state, {"panns_litert": json.dumps(facts)}))
    _write(out / LABELS_NAME, "".join(f"{label}\n" for label in LABELS).encode())


def _write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.chmod(file.name, 0o644)  # the temporary file is private
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m panns_litert_convert.demo.train`."""
    parser = argparse.ArgumentParser(description="Train the demo model on synthesised sounds.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and its labels")
    parser.add_argument("--seed", type=int, default=0, help="0 … 999999 (default: 0)")
    parser.add_argument("--clips", type=int, default=8000, help="mixtures to synthesise (default: 8000)")
    parser.add_argument("--epochs", type=int, default=6, help="passes over them (default: 6)")
    parser.add_argument("--held-out", type=int, default=500, help="windows per evaluation (default: 500)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, prints the held-out average precision per class, writes the checkpoint. Returns 0."""
    args = build_parser().parse_args(argv)
    network = train(seed=args.seed, clips=args.clips, epochs=args.epochs, progress=True)
    full = evaluate(network, clips=args.held_out)
    padded = evaluate(network, clips=args.held_out, padded=True)
    table = Table(title=f"average precision on {args.held_out} held-out windows of {CLIP_SECONDS:g} s")
    for heading in ("sound", "full window", "2–6 s, then zeros"):
        table.add_column(heading, justify="left" if heading == "sound" else "right")
    for label, a, b in zip(LABELS, full, padded, strict=True):
        table.add_row(label, f"{a:.3f}", f"{b:.3f}")
    table.add_row("mean", f"{np.nanmean(full):.4f}", f"{np.nanmean(padded):.4f}", style="bold")
    Console().print(table)
    worse = float(min(np.nanmean(full), np.nanmean(padded)))
    save_checkpoint(network, args.out, seed=args.seed, held_out_map=worse)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
