"""The training loop: epochs until the watched clips get no better, and a state from which a broken run goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
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
from panns_litert_convert.networks.tagger import AudioTagger
from panns_litert_convert.training.augment import epoch_order, mixup, spec_augment
from panns_litert_convert.training.features import one_thread
from panns_litert_convert.training.state import keep, reproducible, restore

LOSSES = ("bce", "ce")

_SAVE_SECONDS = 5.0  # between states; a frozen epoch takes milliseconds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train.

    Args:
        unfrozen: whether the whole network learns, or only what follows its embedding.
        loss: "bce", every class by itself, or "ce", cross entropy of exactly one class per clip.
        epochs: at most, ≥ 1.
        patience: epochs without a lower loss on the watched clips after which it stops, ≥ 1.
        batch: clips per step, ≥ 1.
        learning_rate: of AdamW, > 0; 2e-3, or 1e-4 unfrozen, if not given.
        weight_decay: of AdamW, ≥ 0.
        mixup: alpha, ≥ 0; none for 0.
        spec_augment: whether stripes of the log-mel are hidden; only unfrozen.
        balanced: whether every class is drawn equally often.
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
        for name, least in (("epochs", 1), ("patience", 1), ("batch", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} {getattr(self, name)}; expected a whole number ≥ {least}")
        for name in ("weight_decay", "mixup"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise TrainingError(f"{name} {getattr(self, name)}; expected a number ≥ 0")
        if not 0.0 < self.rate < 1.0:
            raise TrainingError(f"learning rate {self.rate}; expected a number > 0 and < 1")

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-4 if self.unfrozen else 2e-3


@dataclass(frozen=True, kw_only=True)
class Part:
    """Clips to learn from or to watch.

    Attributes:
        load: the network's inputs or embeddings (n, …) of those clips.
        truth: (clips, classes), 0 or 1.
    """

    load: Callable[[NDArray[np.int64]], Tensor]
    truth: NDArray[np.float32]


@dataclass(kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: how many are done.
        best_epoch: after which the watched clips' loss was lowest, from 1 on; 0 before the first.
        best_loss: that loss.
        history: a row per epoch: loss, and watched_loss where clips are watched.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: list[dict[str, float]]


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
    watch: Watch,
) -> Progress:
    """Trains parameters of a network; leaves it in eval mode with those of the best epoch.

    Without watched clips all epochs are run and the last one counts.

    Args:
        network: what `forward` runs.
        forward: what a part loads, to logits (n, classes).
        parameters: those that learn, by name.
        learn, watched: the clips.
        settings: how.
        state: a file to go on from, if it is there, and to keep the state in.
        fingerprint: JSON types, all that the training depends on besides the settings.
        watch: told of every epoch.

    Raises:
        TrainingError: `state` is of another training, or the loss is no longer finite.
        ResultsError: `state` cannot be written; an earlier one is as it was.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in parameters)
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.rate, weight_decay=settings.weight_decay)
    best = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    progress = Progress(history=[])
    of: dict[str, Any] = {"settings": asdict(settings), "fingerprint": fingerprint, "optimizer": optimizer}
    if state.exists():
        progress = Progress(**restore(state, groups={"network": parameters, "best": best}, **of))

    def save() -> None:
        keep(state, groups={"network": parameters, "best": best}, progress=asdict(progress), **of)

    saved = time.monotonic()
    with reproducible(), contextlib.nullcontext() if settings.unfrozen else one_thread():
        try:
            while not _finished(progress, settings, watching=len(watched.truth) > 0):
                watch("epochs", progress.epoch, settings.epochs)
                _epoch(network, forward, parameters, best, learn, watched, settings, optimizer, progress)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        finally:
            network.eval()
    save()
    watch("epochs", settings.epochs, settings.epochs)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(best[name])
    return progress


def _finished(progress: Progress, settings: Settings, *, watching: bool) -> bool:
    waited = progress.epoch - progress.best_epoch
    return progress.epoch >= settings.epochs or (watching and waited >= settings.patience)


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
    """One pass over the clips to learn from, and the verdict on it."""
    # Of the seed and the epoch alone, so that a resumed training draws what an uninterrupted one does.
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
    """The mean loss of logits (n, classes) against labels (n, classes), 0 … 1; for "ce" they sum to 1."""
    return F.binary_cross_entropy_with_logits(logits, y) if kind == "bce" else F.cross_entropy(logits, y)


def clip_logits(network: AudioTagger, x: Tensor) -> Tensor:
    """The logits (batch, classes) of a network's clip-wise probabilities."""
    found = network.trace(x)
    if found["logits"].shape == found["probs"].shape:
        return found["logits"]
    return torch.logit(found["probs"], eps=1e-6)  # frame by frame: the clip's are a summary of those


def _training_mode(network: nn.Module) -> None:
    network.train()
    for module in network.modules():  # statistics of few clips are worse than those of AudioSet
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()
