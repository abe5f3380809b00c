"""The training loop of fine-tuning: epochs until the validation loss stops falling, and a state to resume from."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from panns_litert.errors import TrainingError
from panns_litert.evaluate import Watch
from panns_litert.strict import shown
from panns_litert.words import counted
from panns_litert_convert.networks import AudioTagger
from panns_litert_convert.training.augment import epoch_order, mixup, spec_augment
from panns_litert_convert.training.features import one_thread
from panns_litert_convert.training.state import is_finite, keep, reproducible, require_counts, restore

LOSSES = ("bce", "ce")

TRAINING = "training"
"""Name of the task that `train` reports."""

_SAVE_SECONDS = 5.0  # between states; an epoch of a frozen network takes milliseconds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a fine-tuning.

    Args:
        unfrozen: train the whole network, instead of only the layers behind its embedding.
        loss: "bce", binary cross entropy of every class, or "ce", cross entropy of exactly one class per clip.
        epochs: at most, ≥ 1.
        patience: epochs without a lower validation loss after which the training stops, ≥ 1.
        batch: clips per step, 1 … 65536.
        learning_rate: of AdamW, > 0 and < 1; default: 2e-3, or 1e-4 unfrozen.
        weight_decay: of AdamW, ≥ 0.
        mixup: alpha of the beta distribution of the shares, 0 … 1000; 0: no mixup.
        spec_augment: hide stripes of the log-mel; only unfrozen.
        balanced: draw every class equally often.
        seed: ≥ 0. The same seed, data and machine give the same weights.

    Raises:
        TrainingError: a value is out of range.
    """

    unfrozen: bool = False
    loss: str = "bce"
    epochs: int = 200
    patience: int = 20
    batch: int = 32
    learning_rate: float | None = None
    weight_decay: float = 1e-3
    mixup: float = 0.2
    spec_augment: bool = True
    balanced: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise TrainingError(f"loss {self.loss!r}; expected one of {', '.join(LOSSES)}")
        require_in_range(self, {"epochs": 1, "patience": 1, "batch": 1, "seed": 0}, learning_rate=self.rate)

    @property
    def rate(self) -> float:
        """The learning rate: the given one, or the default."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-4 if self.unfrozen else 2e-3


MOST = {"batch": 65_536, "accumulate": 65_536, "workers": 1024}
"""Largest values of settings that take memory or processes. Every other whole number is below 2^63."""

_MOST_ALPHA = 1000.0  # of mixup: the shares are 0.5 ± 0.01; far above, their computation overflows


def require_in_range(settings: Any, least: Mapping[str, int], *, learning_rate: float) -> None:
    """Checks the settings of a training.

    Args:
        settings: a dataclass with the fields `weight_decay` and `mixup`.
        least: the smallest value of every whole number; `MOST` has the largest.
        learning_rate: > 0 and < 1.

    Raises:
        TrainingError: a value has the wrong type or is out of range.
    """
    for name, low in least.items():
        value, high = getattr(settings, name), MOST.get(name, 2**63 - 1)
        if type(value) is not int or not low <= value <= high:
            expected = f"{low} … {high}" if name in MOST else f"≥ {low}"
            raise TrainingError(f"{name} {shown(value)}; expected a whole number {expected}")
    for name, most in (("weight_decay", math.inf), ("mixup", _MOST_ALPHA)):
        value = getattr(settings, name)
        if not is_finite(value) or not 0.0 <= value <= most:
            below = f" and ≤ {most:g}" if is_finite(most) else ""
            raise TrainingError(f"{name} {shown(value)}; expected a number ≥ 0{below}")
    if not is_finite(learning_rate) or not 0.0 < learning_rate < 1.0:
        raise TrainingError(f"learning rate {shown(learning_rate)}; expected a number > 0 and < 1")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Clips of one fold.

    Attributes:
        load: returns the network's inputs or embeddings (n, …) of the clips with the given indexes (n,).
        truth: (clips, classes), 0 or 1.
    """

    load: Callable[[NDArray[np.int64]], Tensor]
    truth: NDArray[np.float32]


@dataclass(kw_only=True)
class Progress:
    """The progress of a training.

    Attributes:
        epoch: number of finished epochs.
        best_epoch: the epoch with the lowest validation loss, counted from 1; 0 before the first.
        best_loss: that loss.
        history: a row per epoch: loss, and watched_loss, the validation loss, if there are validation clips.

    Raises:
        TrainingError: the values contradict each other, as those of a damaged state may.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: list[dict[str, float]]

    def __post_init__(self) -> None:
        require_counts(self, "epoch", "best_epoch")
        rows_fit = len(self.history) == self.epoch >= self.best_epoch
        if not rows_fit or not all(is_finite(value) for row in self.history for value in row.values()):
            raise TrainingError(f"{len(self.history)} rows of {self.epoch} epochs; expected one row of numbers each")
        if self.epoch and not (is_finite(self.best_loss) and self.best_epoch):
            raise TrainingError(f"best_loss {shown(self.best_loss)}; expected that of an epoch")


def train(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    parameters: dict[str, nn.Parameter],
    *,
    learn: Part,
    watched: Part,
    settings: Settings,
    state: Path,
    fingerprint: dict[str, Any],
    clips: Mapping[str, Sequence[str]] | None = None,
    watch: Watch,
) -> Progress:
    """Trains parameters of a network. Afterwards the network is in eval mode, with the parameters of the best epoch.

    Without validation clips, all epochs are run and the parameters of the last one are used.

    Args:
        network: the network that `forward` runs.
        forward: from what a part loads to logits (n, classes).
        parameters: the parameters to train, by name.
        learn, watched: the clips to train on, and the validation clips.
        settings: of the training.
        state: file of the state; if it exists, the training resumes from it.
        fingerprint: everything that the training depends on besides the settings, as JSON types.
        clips: of the state, to say which differ in another training; see `keep`.
        watch: called before every epoch and at the end.

    Raises:
        TrainingError: `state` belongs to another training, or the loss is no longer finite.
        ResultsError: `state` cannot be written; the previous file is unchanged.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in parameters)
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.rate, weight_decay=settings.weight_decay)
    best = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    progress = Progress(history=[])
    of: dict[str, Any] = {"settings": asdict(settings), "fingerprint": fingerprint, "optimizer": optimizer}
    of["clips"] = clips or {}
    watching = len(watched.truth) > 0
    if state.exists():
        progress = restore(state, Progress, groups={"network": parameters, "best": best}, **of)

    def save() -> None:
        keep(state, groups={"network": parameters, "best": best}, progress=asdict(progress), **of)

    saved = time.monotonic()
    with reproducible(), contextlib.nullcontext() if settings.unfrozen else one_thread():
        try:
            while not _finished(progress, settings, watching=watching):
                watch(_now(progress, settings, watching=watching), progress.epoch, settings.epochs)
                _epoch(network, forward, parameters, best, learn, watched, settings, optimizer, progress)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        finally:
            network.eval()
    save()
    watch(_ended(progress, settings), progress.epoch, progress.epoch)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(best[name])
    return progress


def _finished(progress: Progress, settings: Settings, *, watching: bool) -> bool:
    waited = progress.epoch - progress.best_epoch
    return progress.epoch >= settings.epochs or (watching and waited >= settings.patience)


def _now(progress: Progress, settings: Settings, *, watching: bool) -> str:
    """Returns what a training is doing, such as "training: epoch 12 of at most 200, best 7 (stops after …)"."""
    if not watching:
        return f"{TRAINING}: epoch {progress.epoch + 1} of {settings.epochs}, no validation clips"
    best = f", best {progress.best_epoch}" if progress.best_epoch else ""
    stops = f"stops after {settings.patience} without improvement"
    return f"{TRAINING}: epoch {progress.epoch + 1} of at most {settings.epochs}{best} ({stops})"


def _ended(progress: Progress, settings: Settings) -> str:
    if progress.epoch >= settings.epochs:
        return f"{TRAINING}: all {counted(progress.epoch, 'epoch')}, best {progress.best_epoch}"
    return f"{TRAINING}: stopped after epoch {progress.epoch} of at most {settings.epochs}, best {progress.best_epoch}"


def _epoch(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    parameters: dict[str, nn.Parameter],
    best: dict[str, Tensor],
    learn: Part,
    watched: Part,
    settings: Settings,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Trains for one epoch and computes the validation loss."""
    # Seeded by the seed and the epoch alone, so that a resumed training draws the same numbers.
    rng = np.random.default_rng([settings.seed, 1, progress.epoch])
    torch.manual_seed(int(rng.integers(2**31)))
    _training_mode(network)
    total, seen = 0.0, 0
    order = epoch_order(learn.truth, balanced=settings.balanced, rng=rng)
    for start in range(0, len(order), settings.batch):
        chosen = order[start : start + settings.batch]
        x, y = learn.load(chosen), torch.from_numpy(learn.truth[chosen])
        if settings.unfrozen and settings.spec_augment and x.ndim == 4:
            x = spec_augment(x, rng=rng)
        if settings.mixup > 0:
            x, y = mixup(x, y, alpha=settings.mixup, rng=rng)
        optimizer.zero_grad()
        loss = loss_of(forward(x), y, settings.loss)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, seen = total + loss.item() * len(chosen), seen + len(chosen)
    row = {"loss": total / seen}
    verdict = row["loss"]
    network.eval()
    if len(watched.truth):
        losses = []
        with torch.no_grad():
            for start in range(0, len(watched.truth), settings.batch):
                chosen = np.arange(start, min(start + settings.batch, len(watched.truth)))
                y = torch.from_numpy(watched.truth[chosen])
                losses.append(loss_of(forward(watched.load(chosen)), y, settings.loss).item() * len(chosen))
        verdict = row["watched_loss"] = sum(losses) / len(watched.truth)
    if not np.isfinite(verdict):
        raise TrainingError(f"the loss is {verdict} after epoch {progress.epoch + 1}; try a lower learning rate")
    progress.epoch += 1
    progress.history.append(row)
    if verdict < progress.best_loss or not len(watched.truth):
        progress.best_loss, progress.best_epoch = verdict, progress.epoch
        for name, parameter in parameters.items():
            best[name] = parameter.detach().clone()


def loss_of(logits: Tensor, y: Tensor, kind: str) -> Tensor:
    """Returns the mean loss of logits (n, classes) for labels (n, classes), 0 … 1; for "ce" the labels sum to 1."""
    return F.binary_cross_entropy_with_logits(logits, y) if kind == "bce" else F.cross_entropy(logits, y)


def clip_logits(network: AudioTagger, x: Tensor) -> Tensor:
    """Returns the logits (batch, classes) of a network's clip-wise probabilities."""
    found = network.trace(x)
    if found["logits"].shape == found["probs"].shape:
        return found["logits"]
    return torch.logit(found["probs"], eps=1e-6)  # the traced logits are frame-wise


def _training_mode(network: nn.Module) -> None:
    network.train()
    for module in network.modules():  # keep AudioSet's statistics: those of few clips are worse
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()
