"""Fine-tuning: makes a proven bundle of the user's classes from labelled clips, with figures on held-out clips."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle, PrecisionName
from panns_litert.errors import DatasetError, ModelError, ParityError
from panns_litert.evaluate import (
    CUT_SECONDS,
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Dataset,
    Figures,
    Watch,
    advice,
    bundle_scorer,
    figures,
    no_watch,
    read_dataset,
    score,
    split,
    write_csv,
)
from panns_litert.sense import require_class_names
from panns_litert.tagger import Tagger
from panns_litert_convert.checkpoints import (
    fetch,
    load_weights,
    model_of,
    save_own,
    weights_file,
    weights_sha256,
    with_classes,
)
from panns_litert_convert.convert import convert, require_length
from panns_litert_convert.networks import AudioTagger, LogmelCnn
from panns_litert_convert.training.duplicates import duplicates_together
from panns_litert_convert.training.features import ClipInput, FeatureCache, of_network
from panns_litert_convert.training.loop import Part, Settings, clip_logits, train
from panns_litert_convert.training.state import owning
from panns_litert_convert.zoo import Model, find

STATE, CHECKPOINT, METRICS, SPLIT, BUNDLE = (
    "training.safetensors",
    "checkpoint.safetensors",
    "metrics.json",
    "split.csv",
    "bundle",
)
"""Files that `finetune` writes to its folder: the state to resume from, the weights, the figures, the split, and the
bundle."""

_LONGEST_SECONDS = 10.0  # of a clip whose length is not given


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """The result of a fine-tuning.

    Attributes:
        bundle: the proven bundle of the user's classes.
        fallback: why the weights are not float16 although no precision was requested; otherwise None.
        dataset: the clips, in the folds TRAIN, VALIDATION and HELD_OUT.
        torch, tflite: figures on the held-out clips; None if no clip was held out.
        largest_difference: between the two, of any probability of a held-out clip; None if no clip was held out.
        epochs, best_epoch: number of epochs, and the epoch whose weights are used.
        history: a row per epoch; see `Progress`.
    """

    bundle: Bundle
    fallback: str | None
    dataset: Dataset
    torch: Figures | None = None
    tflite: Figures | None = None
    largest_difference: float | None = None
    epochs: int
    best_epoch: int
    history: Sequence[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything except the bundle, as JSON types."""
        folds = {fold: sum(clip.fold == fold for clip in self.dataset.clips) for fold in (TRAIN, VALIDATION, HELD_OUT)}
        return {
            "classes": list(self.dataset.classes),
            "clips": folds,
            "repeated": self.dataset.repeated,
            "layout": self.dataset.layout,
            "counts": self.dataset.counts,
            "imbalance": self.dataset.imbalance,
            "notes": [*self.dataset.notes, *advice(self.dataset)],
            "skipped": [{"file": str(one.path), "reason": one.reason} for one in self.dataset.skipped],
            "precision": self.bundle.manifest.precision,
            "fallback": self.fallback,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "torch": self.torch.to_dict() if self.torch else None,
            "tflite": self.tflite.to_dict() if self.tflite else None,
            "largest_difference": self.largest_difference,
            "history": list(self.history),
        }


def finetune(
    data: str | os.PathLike[str],
    *,
    model: str,
    out: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    seconds: float | None = None,
    held_out: str | None = None,
    precision: PrecisionName | None = None,
    settings: Settings | None = None,
    background: str | None = None,
    move_duplicates: bool = False,
    watch: Watch = no_watch,
) -> FineTuned:
    """Fine-tunes a network of the zoo on the classes of the data, and makes a proven bundle of it.

    The held-out clips influence neither the weights nor the number of epochs. To resume an interrupted run, call this
    again with the same arguments.

    Args:
        data: a folder of class folders, or a CSV; see `read_dataset`.
        model: the base, a name of the registry.
        out: folder for all results; the bundle is in its subfolder `bundle`.
        checkpoint: weights of the base, instead of the published ones.
        classes: names in the order of the outputs; default: those of the data, sorted.
        seconds: length of a clip, 1 … 60; default: that of the longest clip, in whole seconds and at most 10. Annotated
            recordings are cut into clips of this length.
        held_out: the fold of a CSV that is held out; see `split`.
        precision: of the bundle; default: fp16, or fp32 if fp16 fails its gate. The training clips calibrate int8-full.
        settings: of the training.
        background: class of clips from the parts of annotated recordings without an event; None for no such clips.
        move_duplicates: whether clips of different folds that are the same sound are given the fold of the first one;
            without it, they are only reported.
        watch: called with the progress of every step.

    Raises:
        DatasetError: the data cannot be used.
        TrainingError: `out` contains another training, or another run writes it, or the loss is no longer finite.
        ModelError, CheckpointError, DownloadError: the base cannot be downloaded or used.
        ConversionError, ParityError: the bundle could not be made or proven.
        ResultsError: `out` cannot be written.
    """
    settings = settings or Settings()
    out = Path(out)
    watch("reading the data", 0, 0)
    base = model_of(find(model), checkpoint)
    dataset = read_dataset(data, classes=classes, seconds=seconds or CUT_SECONDS, background=background)
    require_class_names(dataset.classes, str(data), error=DatasetError)
    seconds = _longest(dataset) if seconds is None else seconds
    require_length(seconds, base)
    dataset = duplicates_together(dataset, seconds=seconds, move=move_duplicates, watch=watch)
    split(dataset, held_out=held_out, seed=settings.seed)  # refuses what cannot be split before anything is computed
    with owning(out, STATE, CHECKPOINT, METRICS, SPLIT):
        return _finetune(
            dataset,
            base,
            out,
            checkpoint=checkpoint,
            seconds=seconds,
            held_out=held_out,
            precision=precision,
            settings=settings,
            watch=watch,
        )


def _finetune(
    dataset: Dataset,
    base: Model,
    out: Path,
    *,
    checkpoint: str | os.PathLike[str] | None,
    seconds: float,
    held_out: str | None,
    precision: PrecisionName | None,
    settings: Settings,
    watch: Watch,
) -> FineTuned:
    """Fine-tunes in a folder that no other run writes."""
    weights = fetch(base) if checkpoint is None else weights_file(checkpoint)
    network = base.build()
    load_weights(network, weights, base)
    inputs = ClipInput(base.front_end, graph=network.graph, seconds=seconds)
    key = {"spec": base.front_end.to_dict(), "seconds": seconds, "graph": network.graph}
    if settings.unfrozen:
        cache = FeatureCache(inputs, key=key)
        # Only the cache holds them: the inputs of the whole network are too large for the memory.
        _, dataset = score(dataset, lambda clip: cache(clip)[:0].ravel(), what="clips", watch=watch)
        features = np.empty((len(dataset.clips), 0), np.float32)
    else:
        _require_embedding_alone(network.eval(), base, inputs.seconds)
        base_facts: dict[str, object] = {"model": base.name, "weights": weights_sha256(weights)}
        cache = FeatureCache(of_network(network, inputs, "embedding"), key=key | base_facts)
        features, dataset = score(dataset, cache, what="embeddings", watch=watch)
    dataset = split(dataset, held_out=held_out, seed=settings.seed)
    truth = dataset.truth()
    if settings.loss == "ce" and not (truth.sum(axis=1) == 1).all():
        raise DatasetError("cross entropy with clips of no class or of several; expected one each, or the loss bce")

    tuned = with_classes(base, dataset.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _with_new_head(network, tuned)
    parameters = dict(network.named_parameters())
    if not settings.unfrozen:
        parameters = _head(network, features[:1])
    forward = partial(clip_logits, network) if settings.unfrozen else partial(_head_logits, network)

    def part(fold: str) -> Part:
        which = np.flatnonzero([clip.fold == fold for clip in dataset.clips])

        def load(chosen: NDArray[np.int64]) -> Tensor:
            if settings.unfrozen:
                return torch.from_numpy(np.concatenate([cache(dataset.clips[which[i]]) for i in chosen]))
            return torch.from_numpy(features[which[chosen]])

        return Part(load=load, truth=truth[which])

    with replacing(out / SPLIT) as file:
        file.write(write_csv(dataset, out))
    clips = json.dumps([(clip.key, clip.labels, clip.fold) for clip in dataset.clips])
    progress = train(
        network,
        forward,
        parameters,
        learn=part(TRAIN),
        watched=part(VALIDATION),
        settings=settings,
        state=out / STATE,
        fingerprint=key
        | {"model": base.name, "weights": weights_sha256(weights), "classes": dataset.classes}
        | {"clips": hashlib.sha256(clips.encode()).hexdigest()},
        watch=watch,
    )
    save_own(network, out / CHECKPOINT, model=base, classes=dataset.classes)

    learned = list(dict.fromkeys(clip.path for clip in dataset.of_fold(TRAIN).clips))

    def converted(precision: PrecisionName) -> Bundle:
        return convert(
            base.name,
            checkpoint=out / CHECKPOINT,
            graph=network.graph,
            seconds=seconds,
            precision=precision,
            calibration=learned if precision == "int8-full" else (),
            out=out / BUNDLE,
            report=lambda step: watch(step, 0, 0),
        )

    fallback = None
    try:
        bundle = converted(precision or "fp16")
    except ParityError as error:
        fallback = _fp16_alone(error) if precision is None else None
        if fallback is None:
            raise
        watch("fp32 instead of fp16", 0, 0)
        bundle = converted("fp32")
    result = FineTuned(
        bundle=bundle,
        fallback=fallback,
        dataset=dataset,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        history=progress.history,
    )
    if any(clip.fold == HELD_OUT for clip in dataset.clips):
        result = _measured(result, tuned, out / CHECKPOINT, watch)
    with replacing(out / METRICS) as file:
        file.write((json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())
    return result


def checkpoint_scores(
    dataset: Dataset, *, model: str, checkpoint: str | os.PathLike[str], seconds: float, watch: Watch = no_watch
) -> tuple[NDArray[np.float32], Dataset]:
    """Returns the probabilities of PyTorch for every clip: `score` with a checkpoint.

    Args:
        dataset: the clips.
        model: the checkpoint's name in the registry.
        checkpoint: its weights.
        seconds: length of a clip.
        watch: called with the progress of every clip.
    """
    record = model_of(find(model), checkpoint)
    network = record.build()
    load_weights(network, weights_file(checkpoint), record)
    inputs = ClipInput(record.front_end, graph=network.graph, seconds=seconds)
    return score(dataset, of_network(network.eval(), inputs, "probs"), what="held-out, torch", watch=watch)


def _measured(result: FineTuned, model: Model, checkpoint: Path, watch: Watch) -> FineTuned:
    """Returns the result with the figures of the checkpoint and the bundle on disk."""
    held_out = result.dataset.of_fold(HELD_OUT)
    seconds = result.bundle.manifest.clip_seconds
    ours, held_out = checkpoint_scores(held_out, model=model.name, checkpoint=checkpoint, seconds=seconds, watch=watch)
    with Tagger(result.bundle) as tagger:
        theirs, _ = score(held_out, bundle_scorer(tagger), what="held-out, tflite", watch=watch)
    truth, labels = held_out.truth(), held_out.classes
    return replace(
        result,
        torch=figures(ours, truth, labels),
        tflite=figures(theirs, truth, labels),
        largest_difference=float(np.abs(ours - theirs).max()),
    )


def _fp16_alone(error: ParityError) -> str | None:
    """Returns what failed if only the float16 stage or the self-test failed, otherwise None.

    Rounding shows most where probabilities are close to 0.5. Taggers of hundreds of classes rarely give such
    probabilities; taggers of a few classes do.
    """
    failed = [check for check in error.report if not check.passed] if isinstance(error.report, list) else []
    if not failed or any(check.stage not in ("fp16", "self_test") for check in failed):
        return None
    return "; ".join(f"{check.stage}/{check.output}: {check.why}" for check in failed)


def _longest(dataset: Dataset) -> float:
    longest = 1.0
    for clip in dataset.clips:
        try:
            whole = soundfile.info(clip.path).duration if clip.end is None else clip.end
            longest = max(longest, whole - (clip.start or 0.0))
        except (RuntimeError, OSError):  # it will be skipped, and the reason reported
            continue
    return float(
        min(_LONGEST_SECONDS, math.ceil(longest - 0.05))
    )  # the padding of a codec does not count as another second


def _with_new_head(network: AudioTagger, model: Model) -> AudioTagger:
    """Returns a new network of the model, with the weights of `network` whose shapes do not depend on the classes."""
    new = model.build()
    kept = network.state_dict()
    new.load_state_dict(
        {name: kept[name] if kept[name].shape == tensor.shape else tensor for name, tensor in new.state_dict().items()}
    )
    return new


def _head(network: AudioTagger, embedding: NDArray[np.float32]) -> dict[str, nn.Parameter]:
    """Returns the parameters behind the embedding (1, dim)."""
    named = dict(network.named_parameters())
    total = network.eval().logits(torch.from_numpy(embedding)).sum()
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return {name: parameter for (name, parameter), grad in zip(named.items(), found, strict=True) if grad is not None}


def _head_logits(network: AudioTagger, embedding: Tensor) -> Tensor:
    """Returns the logits (batch, classes) of embeddings. For PANNs, training applies dropout of 0.5 to the embeddings.

    PANNs' transfer learning (finetune_template.py) does the same: its head is given the embedding after dropout, while
    Cnn14's own head is given the embedding before it.
    """
    if isinstance(network, LogmelCnn):
        embedding = F.dropout(embedding, 0.5, training=network.training)
    return network.logits(embedding)


def _require_embedding_alone(network: AudioTagger, model: Model, seconds: float) -> None:
    """Raises ModelError if the network computes its classes frame by frame, not from the embedding."""
    samples = model.front_end.samples(seconds)
    frames = (1, 1, model.front_end.frames(samples), model.front_end.n_mels)
    shape = (1, samples) if network.graph == "waveform" else frames
    with torch.inference_mode():
        outputs = network(torch.zeros(shape))
    if "framewise" in outputs:
        raise ModelError(f"{model.name} decides frame by frame, not by its embedding; expected --unfrozen with it")
