"""Training from scratch on packed clips, as PANNs were trained: in one or several processes, on one or several hosts.

Several processes are started with `accelerate launch` or `torchrun`, and communicate through Accelerate. The batch of
every step is split into parts, one per process and micro-batch. Each part has its own batch-norm statistics, as in
PANNs, whose DataParallel splits batches in the same way, and its own random numbers. So two processes learn the same as
one process with two micro-batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from panns_litert.atomic import replacing
from panns_litert.errors import DatasetError, TrainingError
from panns_litert.evaluate import Figures, Watch, figures, no_watch
from panns_litert.strict import shown
from panns_litert_convert.checkpoints import (
    load_weights,
    require_classes,
    save_own,
    weights_file,
    weights_sha256,
    with_classes,
)
from panns_litert_convert.convert import require_length
from panns_litert_convert.networks import AudioTagger, LogmelCnn, PooledTagger
from panns_litert_convert.training.augment import mix_pairs, unhidden
from panns_litert_convert.training.features import ClipInput
from panns_litert_convert.training.loop import clip_logits, require_in_range
from panns_litert_convert.training.samplers import Sampler
from panns_litert_convert.training.state import is_finite, keep, owning, reproducible, require_counts, restore
from panns_litert_convert.training.waveforms import Rows, Waveforms
from panns_litert_convert.zoo import find

STATE, CHECKPOINT, METRICS = "training.safetensors", "checkpoint.safetensors", "metrics.json"
"""Files that `train` writes to its folder: the state to resume from, the weights, and the figures."""

SCHEDULES = ("constant", "one-cycle")
"""Schedules of the learning rate: constant; or it rises for a fifth of the steps and then falls to 0."""

_SAVE_SECONDS = 300.0  # between states, besides those written at evaluations
_BETAS = (0.9, 0.999)
_AUGMENT = 20  # stream of random numbers


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training. The defaults are PANNs' (main.py and README.md of
    https://github.com/qiuqiangkong/audioset_tagging_cnn).

    Args:
        steps: updates of the weights, ≥ 1. PANNs' README gives Cnn14's published figure after 600,000.
        batch: clips per step, 1 … 65536, a multiple of the number of parts. Mixup makes them from twice as many clips.
        accumulate: micro-batches per process and step, 1 … 65536; more than 1 needs less memory.
        learning_rate: of Adam with AMSGrad, betas 0.9 and 0.999; > 0 and < 1.
        schedule: one of SCHEDULES.
        weight_decay: decoupled, ≥ 0.
        sampler: one of samplers.SAMPLERS.
        mixup: alpha of the beta distribution of the shares, 0 … 1000; 0: no mixup.
        spec_augment: hide stripes: two of up to 64 of 1001 frames, two of up to 8 of 64 mels.
        dropout: use the dropout of the network.
        sync_batch_norm: compute batch-norm statistics over all processes; only on GPUs.
        settle: further steps that only recompute the averages of batch norm, ≥ 0; 0: keep the moving averages.
        every: steps between evaluations, ≥ 1.
        workers: loading processes for each training process, 0 … 1024; 0: the training process loads the clips.
        seed: ≥ 0. The same seed, data and machine give the same weights.

    Raises:
        TrainingError: a value is out of range.
    """

    steps: int = 600_000
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    schedule: str = "constant"
    weight_decay: float = 0.0
    sampler: str = "balanced"
    mixup: float = 1.0
    spec_augment: bool = True
    dropout: bool = True
    sync_batch_norm: bool = False
    settle: int = 0
    every: int = 2000
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise TrainingError(f"schedule {self.schedule!r}; expected one of {', '.join(SCHEDULES)}")
        least = {"steps": 1, "batch": 1, "accumulate": 1, "every": 1, "settle": 0, "workers": 0, "seed": 0}
        require_in_range(self, least, learning_rate=self.learning_rate)

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, 0 … steps - 1."""
        if self.schedule == "constant":
            return self.learning_rate
        done, rise = (step + 1) / (self.steps + 1), 0.2
        share = done / rise if done < rise else (1.0 - done) / (1.0 - rise)
        return self.learning_rate * (0.5 - 0.5 * math.cos(math.pi * share))

    def decisive(self, parts: int) -> dict[str, Any]:
        """Returns the settings that the weights depend on, as JSON types; not `steps` if the rate is constant."""
        aside = {"workers", "accumulate", "every"} | ({"steps"} if self.schedule == "constant" else set())
        return {name: value for name, value in asdict(self).items() if name not in aside} | {"parts": parts}


@dataclass(kw_only=True)
class Progress:
    """The progress of a training.

    Attributes:
        step: number of finished steps.
        loss, losses: sum and number of the losses since the last evaluation.
        history: a row per evaluation: step, mean loss, and for every file mean_ap, auc and d_prime.

    Raises:
        TrainingError: a value is out of range, as that of a damaged state may be.
    """

    step: int
    loss: float
    losses: int
    history: list[dict[str, Any]]

    def __post_init__(self) -> None:
        require_counts(self, "step", "losses")
        figures_of = [
            value
            for row in self.history
            for part in row.values()
            for value in (part.values() if isinstance(part, dict) else (part,))
        ]
        if not is_finite(self.loss) or not all(value is None or is_finite(value) for value in figures_of):
            raise TrainingError(f"loss {shown(self.loss)}, history {shown(self.history)}; expected finite numbers")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of a training.

    Attributes:
        checkpoint: file of the weights, for `convert`.
        clips, absent: number of training clips, and of rows of the files without a clip.
        steps, processes: number of each.
        figures: by the name of the evaluated file, without its suffix.
        history: see `Progress`.
        first: True in the first process, which reports.
    """

    checkpoint: Path
    clips: int
    absent: int
    steps: int
    processes: int
    figures: dict[str, Figures]
    history: Sequence[dict[str, Any]]
    first: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns everything except `first`, as JSON types."""
        found = {name: of.to_dict() for name, of in self.figures.items()}
        counts = {"clips": self.clips, "absent": self.absent, "steps": self.steps, "processes": self.processes}
        return {"checkpoint": str(self.checkpoint)} | counts | {"figures": found, "history": list(self.history)}


def train(
    data: Sequence[str | os.PathLike[str]],
    *,
    model: str,
    out: str | os.PathLike[str],
    evaluate: Sequence[str | os.PathLike[str]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    watch: Watch = no_watch,
) -> Trained:
    """Trains a network of the zoo from random weights. To resume an interrupted run, call this again.

    Args:
        data: files of packed clips to train on; see `Waveforms`.
        model: a name of the registry.
        out: folder for all results; several hosts need one that all of them can access.
        evaluate: files of packed clips to evaluate on.
        checkpoint: initial weights, instead of random ones.
        labels: names of the classes, if the files do not store them.
        recipe: settings of the training.
        watch: called with the progress of every step, in the first process.

    Raises:
        DatasetError: the files cannot be used, or do not fit the network.
        TrainingError: `out` contains another training, or another run writes it, the batch is no multiple of the number
            of parts, or the loss is not finite.
        ModelError, CheckpointError: the network or its weights cannot be loaded.
        ResultsError: `out` cannot be written.
    """
    recipe, out = recipe or Recipe(), Path(out)
    run = _Run(data, evaluate, model, out, checkpoint, labels, recipe, watch)
    # Several processes are one run, in which the first one writes.
    first = run.accelerator.is_main_process
    alone = owning(out, STATE, CHECKPOINT, METRICS) if first else contextlib.nullcontext()
    with alone, reproducible(deterministic=run.accelerator.device.type == "cpu"):
        return run()


class _Run:
    """One process of a training."""

    def __init__(
        self,
        data: Sequence[str | os.PathLike[str]],
        evaluate: Sequence[str | os.PathLike[str]],
        model: str,
        out: Path,
        checkpoint: str | os.PathLike[str] | None,
        labels: Sequence[str] | None,
        recipe: Recipe,
        watch: Watch,
    ) -> None:
        self.record, self.out, self.recipe = find(model), out, recipe
        self.learn = Waveforms(data, labels=labels)
        require_classes(self.learn.labels, str(self.learn.paths[0]), error=DatasetError)
        self.evaluated = _named(evaluate, labels)
        for waveforms in (self.learn, *self.evaluated.values()):
            self._require_fit(waveforms)
        self.accelerator = _accelerator(recipe.accumulate)
        self.watch = watch if self.accelerator.is_main_process else no_watch
        self.parts = self.accelerator.num_processes * recipe.accumulate
        if recipe.batch % self.parts:
            of = f"{self.accelerator.num_processes} processes of {recipe.accumulate} micro-batches"
            raise TrainingError(f"a batch of {recipe.batch} clips for {of}; expected a multiple of {self.parts}")
        first = self.accelerator.process_index * recipe.accumulate
        self.mine = range(first, first + recipe.accumulate)
        self.record = with_classes(self.record, self.learn.labels)
        self.seconds = self.learn.samples / self.learn.sample_rate
        require_length(self.seconds, self.record)
        self.sampler = Sampler(
            truth=self.learn.truth,
            kind=recipe.sampler,
            count=recipe.batch * (2 if recipe.mixup else 1),
            seed=recipe.seed,
        )
        self.fingerprint = {
            "model": self.record.name,
            "weights": None if checkpoint is None else weights_sha256(checkpoint),
            "clips": _digest(self.learn),
            "evaluated": {name: _digest(waveforms) for name, waveforms in self.evaluated.items()},
        }
        self.network = self._network(checkpoint)
        self.inputs = ClipInput(self.record.front_end, graph=self.network.graph, seconds=self.seconds)

    def _require_fit(self, waveforms: Waveforms) -> None:
        where, rate = waveforms.paths[0], self.record.front_end.sample_rate
        if waveforms.sample_rate != rate:
            raise DatasetError(
                f"{where}: {waveforms.sample_rate} Hz; expected {rate} Hz for {self.record.name}: pack with that rate"
            )
        if waveforms.labels != self.learn.labels or waveforms.samples != self.learn.samples:
            raise DatasetError(
                f"{where}: {len(waveforms.labels)} classes, {waveforms.samples} samples; expected the classes and the "
                f"length of {self.learn.paths[0]}: {len(self.learn.labels)}, {self.learn.samples}"
            )

    def _network(self, checkpoint: str | os.PathLike[str] | None) -> AudioTagger:
        if self.recipe.sync_batch_norm and self.accelerator.device.type == "cpu":
            raise TrainingError("batch norm over all processes is for GPUs alone; leave --sync-batch-norm out")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            network = self.record.build()
            _initialise(network)
        if checkpoint is not None:
            load_weights(network, weights_file(checkpoint), self.record)
        if self.recipe.sync_batch_norm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        # With channels last, narrow blocks train 1.5 × as fast, and wide ones at the same speed.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def __call__(self) -> Trained:
        recipe = self.recipe
        _freeze_unused(self.network, torch.from_numpy(self.inputs.of_samples(self.learn[0])))
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        # Without weight decay, AdamW is Adam.
        optimizer = torch.optim.AdamW(
            learning, lr=recipe.rate(0), betas=_BETAS, weight_decay=recipe.weight_decay, amsgrad=True
        )
        learner, prepared = self.accelerator.prepare(_Learner(self.network), optimizer)
        progress = Progress(step=0, loss=0.0, losses=0, history=[])
        state = self.out / STATE
        of: dict[str, Any] = {
            "settings": recipe.decisive(self.parts),
            "fingerprint": self.fingerprint,
            "groups": {"network": self.network.state_dict()},
            "optimizer": optimizer,
        }
        if state.exists():
            progress = restore(state, Progress, **of)
            if progress.step > recipe.steps:
                raise TrainingError(f"{state}: {progress.step} steps are done; expected --steps of at least as many")
        saved = time.monotonic()
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        total += progress.loss
        batches = iter(self._batches(progress.step))

        def evaluated() -> dict[str, Figures]:
            _require_finite(float(total), progress.step)
            found = self._evaluate(progress, float(total))
            total.zero_()
            return found

        def save() -> None:
            progress.loss = float(total)
            _require_finite(progress.loss, progress.step)
            if self.accelerator.is_main_process:
                keep(state, progress=asdict(progress), **of)

        while progress.step < recipe.steps:
            self.watch("steps", progress.step, recipe.steps)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(progress.step)
            _training_mode(self.network, dropout=recipe.dropout)
            for part in self.mine:
                with self.accelerator.accumulate(learner):
                    x, chosen = next(batches)
                    y = torch.from_numpy(self.learn.truth[chosen.numpy()].astype(np.float32))
                    x, y = x.to(self.accelerator.device), y.to(self.accelerator.device)
                    loss = self._loss(learner, x, y, step=progress.step, part=part)
                    self.accelerator.backward(loss)
                    prepared.step()
                    prepared.zero_grad()
                total += loss.detach().double() / recipe.accumulate
            progress.step, progress.losses = progress.step + 1, progress.losses + 1
            due = progress.step % recipe.every == 0 and progress.step < recipe.steps
            if due:
                evaluated()
            if due or time.monotonic() - saved > _SAVE_SECONDS:
                save()
                saved = time.monotonic()
        self.watch("steps", recipe.steps, recipe.steps)
        save()
        self._settle()
        found = evaluated()
        if self.accelerator.is_main_process:
            save_own(self.network, self.out / CHECKPOINT, model=self.record, classes=self.learn.labels)
        result = Trained(
            checkpoint=self.out / CHECKPOINT,
            clips=len(self.learn),
            absent=self.learn.absent,
            steps=progress.step,
            processes=self.accelerator.num_processes,
            figures=found,
            history=progress.history,
            first=self.accelerator.is_main_process,
        )
        if self.accelerator.is_main_process:
            with replacing(self.out / METRICS) as file:
                file.write((json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())
        self.accelerator.end_training()
        return result

    def _loss(self, learner: nn.Module, x: Tensor, y: Tensor, *, step: int, part: int) -> Tensor:
        """Returns the loss of one part of a step from inputs and labels of its clips, twice as many with mixup."""
        rng = np.random.default_rng([self.recipe.seed, _AUGMENT, step, part])
        torch.manual_seed(int(rng.integers(2**31)))  # for dropout
        hide = self.recipe.spec_augment and x.ndim == 4
        left = unhidden(x, rng=rng) if hide else None
        alpha = self.recipe.mixup
        shares = torch.from_numpy(rng.beta(alpha, alpha, len(x) // 2).astype(np.float32)) if alpha else None

        def augment(z: Tensor, hidden: Tensor | float) -> Tensor:
            if left is not None:
                z = torch.where(left, z, hidden)
            return z if shares is None else mix_pairs(z, shares)

        if isinstance(self.network, LogmelCnn):  # as published: after the first batch norm, where a mel's mean is 0
            self.network.augment = lambda z: augment(z, 0.0)
            try:
                logits = learner(x)
            finally:
                self.network.augment = None
        else:
            logits = learner(augment(x, x.mean(dim=2, keepdim=True) if hide else 0.0))
        return F.binary_cross_entropy_with_logits(logits.float(), y if shares is None else mix_pairs(y, shares))

    def _batches(self, start: int) -> DataLoader[Any]:
        """Returns a loader of this process's parts of every step from `start` on."""

        def indexes() -> Iterator[list[int]]:
            size = self.sampler.count // self.parts
            for step in range(start, self.recipe.steps):
                chosen = self.sampler(step)
                for part in self.mine:
                    yield chosen[part * size : (part + 1) * size].tolist()

        return self._loader(self.learn, indexes())

    def _loader(self, waveforms: Waveforms, batches: Iterable[list[int]]) -> DataLoader[Any]:
        return DataLoader(
            _Clips(waveforms.rows, self.inputs),
            batch_sampler=batches,
            num_workers=self.recipe.workers,
            # A fork of a process with threads can hang, and communication between processes uses threads.
            multiprocessing_context="forkserver" if self.recipe.workers else None,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    @torch.no_grad()
    def _settle(self) -> None:
        """Replaces the moving averages of batch norm by plain ones with the final weights, equal in all processes."""
        if not self.recipe.settle:
            return
        norms = [m for m in self.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # plain average
        _training_mode(self.network, dropout=False)
        steps = range(self.recipe.steps, self.recipe.steps + self.recipe.settle)
        for done, (x, _) in enumerate(self._loader(self.learn, [self.sampler(step).tolist() for step in steps])):
            self.watch("batch norm", done, self.recipe.settle)
            self.network.embed(x.to(self.accelerator.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @torch.no_grad()
    def _evaluate(self, progress: Progress, total: float) -> dict[str, Figures]:
        """Returns the figures on every file and adds a row to the history; the processes share the clips."""
        mean = float(np.mean(gather_object([total / max(progress.losses, 1)])))
        row: dict[str, Any] = {"step": progress.step, "loss": mean}
        found = {}
        self.network.eval()
        for buffer in self.network.buffers():  # batch norm's averages, which each process has of its own clips
            if buffer.is_floating_point():
                buffer.copy_(self.accelerator.reduce(buffer, "mean"))
        me, all_of_us = self.accelerator.process_index, self.accelerator.num_processes
        for name, waveforms in self.evaluated.items():
            mine = np.arange(me, len(waveforms), all_of_us)
            batches = [mine[k : k + self.recipe.batch].tolist() for k in range(0, len(mine), self.recipe.batch)]
            probs = [np.zeros((0, len(waveforms.labels)), np.float32)]
            for done, (x, _) in enumerate(self._loader(waveforms, batches)):
                self.watch(f"evaluation of {name}", done, len(batches))
                probs.append(self.network(x.to(self.accelerator.device))["probs"].float().cpu().numpy())
            scores = np.empty((len(waveforms), len(waveforms.labels)), np.float32)
            for process, share in enumerate(gather_object([np.concatenate(probs)])):
                scores[process::all_of_us] = share
            found[name] = figures(scores, waveforms.truth, waveforms.labels)
            row[name] = {key: getattr(found[name], key) for key in ("mean_ap", "auc", "d_prime")}
        progress.history.append(row)
        progress.loss, progress.losses = 0.0, 0
        self.watch(describe(row), 0, 0)
        return found


def _accelerator(accumulate: int) -> Accelerator:
    """Returns Accelerate for the GPUs, or for the CPU if there is none; it does not detect that itself."""
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), gradient_accumulation_steps=accumulate)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise TrainingError(f"{started} processes were started, but {accelerator.num_processes} found each other")
    return accelerator


def describe(row: dict[str, Any]) -> str:
    """Returns a row of the history as a line of text."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    parts = [f"step {row['step']}: loss {row['loss']:.4f}"]
    for name, found in row.items():
        if isinstance(found, dict):
            parts.append(f"{name} mAP {number(found['mean_ap'])}, AUC {number(found['auc'])}, "
                         f"d' {number(found['d_prime'])}")  # fmt: skip
    return "; ".join(parts)


class _Learner(nn.Module):
    """Computes the logits (clips, classes) of a network's clip-wise probabilities from its inputs."""

    def __init__(self, network: AudioTagger) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return clip_logits(self.network, x)


class _Clips(Dataset[tuple[NDArray[np.float32], int]]):
    """The network inputs of packed clips, each with its index, for a DataLoader."""

    def __init__(self, rows: Rows, inputs: ClipInput) -> None:
        self._rows, self._inputs = rows, inputs

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        return self._inputs.of_samples(self._rows[index])[0], index


def _named(paths: Sequence[str | os.PathLike[str]], labels: Sequence[str] | None) -> dict[str, Waveforms]:
    found = {Path(path).stem: Waveforms([path], labels=labels) for path in paths}
    if len(found) != len(paths):
        raise DatasetError("two files to evaluate on have the same name; expected different ones")
    return found


def _initialise(network: AudioTagger) -> None:
    """Sets PANNs' initial weights (models.py, init_layer and init_bn). Other families keep their own."""
    if not isinstance(network, (LogmelCnn, PooledTagger)):
        return
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _freeze_unused(network: AudioTagger, x: Tensor) -> None:
    """Freezes the parameters that the network does not use: several processes would wait for their gradients."""
    named = list(network.parameters())
    found = torch.autograd.grad(clip_logits(network.eval(), x).sum(), named, allow_unused=True)
    for parameter, gradient in zip(named, found, strict=True):
        parameter.requires_grad_(gradient is not None)


def _training_mode(network: nn.Module, *, dropout: bool) -> None:
    network.train()
    if not dropout:  # F.dropout reads the flag of the module that calls it; batch norm reads its own
        for module in network.modules():
            module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is not finite after step {step}; try a lower learning rate")


def _digest(waveforms: Waveforms) -> str:
    """Returns a hash of the clips' names and labels, but not of their samples: AudioSet has a terabyte of them."""
    known = json.dumps([waveforms.names, waveforms.samples, waveforms.labels]).encode()
    return hashlib.sha256(known + waveforms.truth.tobytes()).hexdigest()
