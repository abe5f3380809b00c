"""Fine-tuning: makes a proven bundle of the user's classes from labelled clips, with figures on held-out clips."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
from panns_litert.bundle import PRECISIONS, QUANTIZED, Bundle, GraphName, PrecisionName, copy_bundle
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
from panns_litert.strict import shown
from panns_litert.tagger import Tagger
from panns_litert_convert.checkpoints import (
    facts_of,
    fetch,
    is_official,
    load_weights,
    model_for,
    save_own,
    source_of,
    weights_file,
    weights_sha256,
    with_classes,
)
from panns_litert_convert.convert import convert, require_length
from panns_litert_convert.facts import HeldOutFigures, OwnFacts, require_terms
from panns_litert_convert.networks import AudioTagger, LogmelCnn
from panns_litert_convert.stages import HeldOut
from panns_litert_convert.training.duplicates import duplicates_together
from panns_litert_convert.training.features import ClipInput, FeatureCache, of_network
from panns_litert_convert.training.loop import Part, Settings, clip_logits, train
from panns_litert_convert.training.state import owning
from panns_litert_convert.zoo import Model, find

STATE, CHECKPOINT, METRICS, SPLIT, BUNDLE, ANDROID = (
    "training.safetensors",
    "checkpoint.safetensors",
    "metrics.json",
    "split.csv",
    "bundle",
    "android",
)
"""What `finetune` writes to its folder: the state to resume from, the weights, the figures, the split, the first
bundle, and the folder for the assets of an app."""

_LONGEST_SECONDS = 10.0  # of a clip whose length is not given


@dataclass(frozen=True, kw_only=True)
class TunedBundle:
    """A bundle of a fine-tuned network.

    Attributes:
        bundle: the proven bundle.
        fallback: why the weights are not float16 although no precision was requested; otherwise None.
        tflite: figures on the held-out clips; None if no clip was held out.
        largest_difference: from PyTorch, of any probability of a held-out clip; None if no clip was held out.
    """

    bundle: Bundle
    fallback: str | None = None
    tflite: Figures | None = None
    largest_difference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON types; of the bundle, its folder's name and its precision."""
        return {
            "folder": self.bundle.path.name,
            "precision": self.bundle.manifest.precision,
            "fallback": self.fallback,
            "tflite": self.tflite.to_dict() if self.tflite else None,
            "largest_difference": self.largest_difference,
        }


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """The result of a fine-tuning.

    Attributes:
        bundles: a proven bundle of the user's classes for every requested precision.
        dataset: the clips, in the folds TRAIN, VALIDATION and HELD_OUT.
        torch: figures of PyTorch on the held-out clips; None if no clip was held out.
        epochs, best_epoch: number of epochs, and the epoch whose weights are used.
        history: a row per epoch; see `Progress`.
    """

    bundles: tuple[TunedBundle, ...]
    dataset: Dataset
    torch: Figures | None = None
    epochs: int
    best_epoch: int
    history: Sequence[dict[str, float]]

    @property
    def bundle(self) -> Bundle:
        """The first bundle."""
        return self.bundles[0].bundle

    @property
    def fallback(self) -> str | None:
        """`fallback` of the first bundle."""
        return self.bundles[0].fallback

    @property
    def tflite(self) -> Figures | None:
        """Figures of the first bundle on the held-out clips; None if no clip was held out."""
        return self.bundles[0].tflite

    @property
    def largest_difference(self) -> float | None:
        """`largest_difference` of the first bundle."""
        return self.bundles[0].largest_difference

    def to_dict(self) -> dict[str, Any]:
        """Returns everything except the bundles' content, as JSON types. The first bundle's values stand apart, too."""
        folds = {fold: sum(clip.fold == fold for clip in self.dataset.clips) for fold in (TRAIN, VALIDATION, HELD_OUT)}
        first = {name: value for name, value in self.bundles[0].to_dict().items() if name != "folder"}
        return first | {
            "classes": list(self.dataset.classes),
            "clips": folds,
            "repeated": self.dataset.repeated,
            "layout": self.dataset.layout,
            "counts": self.dataset.counts,
            "imbalance": self.dataset.imbalance,
            "notes": [*self.dataset.notes, *advice(self.dataset)],
            "skipped": [{"file": str(one.path), "reason": one.reason} for one in self.dataset.skipped],
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "torch": self.torch.to_dict() if self.torch else None,
            "bundles": [one.to_dict() for one in self.bundles],
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
    precision: PrecisionName | Sequence[PrecisionName] | None = None,
    graph: GraphName | None = None,
    licence: str | None = None,
    attribution: str | None = None,
    android: bool = False,
    settings: Settings | None = None,
    background: str | None = None,
    move_duplicates: bool = False,
    watch: Watch = no_watch,
) -> FineTuned:
    """Fine-tunes a network of the zoo on the classes of the data, and makes proven bundles of it.

    The held-out clips influence neither the weights nor the number of epochs. To resume an interrupted run, call this
    again with the same arguments. Called again after a finished run, it does not train again: other precisions, another
    graph or another licence only make other bundles.

    Args:
        data: a folder of class folders, or a CSV; see `read_dataset`.
        model: the base, a name of the registry.
        out: folder for all results. The first bundle is in its subfolder `bundle`, those of further precisions are in
            `bundle-PRECISION`.
        checkpoint: weights of the base, instead of the published ones.
        classes: names in the order of the outputs; default: those of the data, sorted.
        seconds: length of a clip, 1 … 60; default: that of the longest clip, in whole seconds and at most 10. Annotated
            recordings are cut into clips of this length.
        held_out: the fold of a CSV that is held out; see `split`.
        precision: of the bundle, or one for each of several bundles; default: fp16, or fp32 if fp16 fails its gate. The
            training clips calibrate int8-full.
        graph: of the bundles, as for `convert`.
        licence, attribution: of what the user adds to the base, for the model cards; not stated by default.
        android: whether to copy the bundles to the subfolder `android`, for the assets of an app.
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
    base = find(model) if checkpoint is None else model_for(find(model), checkpoint)
    if seconds is not None:
        require_length(seconds, base)  # first: recordings are cut into clips of this length
    graph, precisions = _require_known(base, graph, precision)
    for text, what in ((licence, "licence"), (attribution, "attribution")):
        if text is not None:
            require_terms(text, what)
    dataset = read_dataset(data, classes=classes, seconds=seconds or CUT_SECONDS, background=background)
    require_class_names(dataset.classes, str(data), error=DatasetError)
    if seconds is None:
        seconds = _longest(dataset)
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
            precisions=precisions,
            graph=graph,
            licence=licence,
            attribution=attribution,
            android=android,
            settings=settings,
            watch=watch,
        )


def _require_known(
    base: Model, graph: GraphName | None, precision: PrecisionName | Sequence[PrecisionName] | None
) -> tuple[GraphName, tuple[PrecisionName | None, ...]]:
    """Returns the graph, and the precisions; None stands for fp16, or fp32 if fp16 fails. Checked before the training.

    Raises:
        ModelError: one is unknown.
    """
    graph = base.graphs[0] if graph is None else graph
    precisions = (precision,) if precision is None or isinstance(precision, str) else tuple(dict.fromkeys(precision))
    if graph not in base.graphs:
        raise ModelError(f"graph {shown(graph)}; expected one of {', '.join(base.graphs)}")
    if not precisions or any(one is not None and one not in PRECISIONS for one in precisions):
        raise ModelError(f"precision {shown(precision)}; expected some of {', '.join(PRECISIONS)}")
    return graph, precisions


def _finetune(
    dataset: Dataset,
    base: Model,
    out: Path,
    *,
    checkpoint: str | os.PathLike[str] | None,
    seconds: float,
    held_out: str | None,
    precisions: Sequence[PrecisionName | None],
    graph: GraphName,
    licence: str | None,
    attribution: str | None,
    android: bool,
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
    clips_sha256 = hashlib.sha256(clips.encode()).hexdigest()
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
        | {"clips": clips_sha256},
        clips={c.key: (f"{c.path.parent.name}/{c.path.name}", ";".join(c.labels), c.fold or "") for c in dataset.clips},
        watch=watch,
    )
    unseen = None
    if any(clip.fold == HELD_OUT for clip in dataset.clips):
        unseen = _held_out(network, base, dataset.of_fold(HELD_OUT), seconds=seconds, graph=graph, watch=watch)
    ours = unseen.figures if unseen else None
    begun = facts_of(weights)  # of another fine-tuning
    facts = OwnFacts(
        base=base.name,
        labels=dataset.classes,
        seconds=float(seconds),
        graph=graph,
        front_end=base.front_end,
        weights=source_of(base, weights) if begun is None else begun.weights,
        began_with=weights_sha256(weights),
        licences=_joined(begun.licences if begun else (), licence),
        attributions=_joined(begun.attributions if begun else (), attribution),
        clips={label: _by_fold(dataset, label) for label in dataset.classes},
        clips_sha256=clips_sha256,
        settings={name: str(value) for name, value in asdict(settings).items()},
        held_out=HeldOutFigures(clips=ours.clips, accuracy=ours.accuracy, mean_ap=ours.mean_ap) if ours else None,
    )
    save_own(network, out / CHECKPOINT, model=base, classes=dataset.classes, facts=facts)
    learned = list(dict.fromkeys(clip.path for clip in dataset.of_fold(TRAIN).clips))

    def converted(precision: PrecisionName, folder: str) -> Bundle:
        return convert(
            checkpoint=out / CHECKPOINT,
            precision=precision,
            calibration=learned if precision == "int8-full" else (),
            held_out=unseen.clips if unseen and precision in QUANTIZED else None,
            out=out / folder,
            report=lambda step: watch(f"conversion to {precision}: {step}", 0, 0),
        )

    bundles: list[TunedBundle] = []
    failed: dict[str, ParityError] = {}
    for index, precision in enumerate(precisions):
        folder = f"{BUNDLE}-{precision}" if index else BUNDLE
        try:
            made = _made(precision, folder, converted, watch)
        except ParityError as error:
            failed[precision or "fp16"] = error
            continue
        if unseen is not None:
            made = _measured(made, unseen, watch)
        if android:
            copy_bundle(made.bundle, out / ANDROID / folder)
        bundles.append(made)
    if not bundles:
        raise next(iter(failed.values()))
    result = FineTuned(
        bundles=tuple(bundles),
        dataset=dataset,
        torch=ours,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        history=progress.history,
    )
    with replacing(out / METRICS) as file:
        file.write((json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())
    if failed:
        (name, first), *_ = failed.items()
        there = ", ".join(str(one.bundle.path) for one in bundles)
        raise ParityError(f"no bundle of {', '.join(failed)}: {name}: {first}; made: {there}", first.report) from first
    return result


def _made(
    precision: PrecisionName | None, folder: str, converted: Callable[[PrecisionName, str], Bundle], watch: Watch
) -> TunedBundle:
    """Returns a bundle of a precision; for None, of float16 weights, or of float32 ones if those fail their gate."""
    if precision is not None:
        return TunedBundle(bundle=converted(precision, folder))
    try:
        return TunedBundle(bundle=converted("fp16", folder))
    except ParityError as error:
        if (fallback := _fp16_alone(error)) is None:
            raise
    watch("fp32 instead of fp16", 0, 0)
    return TunedBundle(bundle=converted("fp32", folder), fallback=fallback)


def _joined(before: Sequence[str], own: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *([own.strip()] if own else []))))


def _by_fold(dataset: Dataset, label: str) -> dict[str, int]:
    """Returns the number of a class's clips in every fold that has some."""
    counts = Counter(str(clip.fold) for clip in dataset.clips if label in clip.labels)
    return dict(sorted(counts.items()))


def checkpoint_scores(
    dataset: Dataset, *, model: str, checkpoint: str | os.PathLike[str], seconds: float, watch: Watch = no_watch
) -> tuple[NDArray[np.float32], Dataset]:
    """Returns the probabilities of PyTorch for every clip: `score` with a checkpoint.

    Args:
        dataset: the clips. A checkpoint of elsewhere knows no names: its classes are those of the dataset.
        model: the checkpoint's name in the registry.
        checkpoint: its weights.
        seconds: length of a clip.
        watch: called with the progress of every clip.
    """
    record = find(model)
    own = not is_official(weights_file(checkpoint), record.checkpoint)
    record = model_for(record, checkpoint, dataset.classes if own else None)
    network = record.build()
    load_weights(network, weights_file(checkpoint), record)
    inputs = ClipInput(record.front_end, graph=network.graph, seconds=seconds)
    return score(dataset, of_network(network.eval(), inputs, "probs"), what="held-out, torch", watch=watch)


@dataclass(frozen=True, kw_only=True)
class _HeldOut:
    """The held-out clips that could be read, PyTorch's figures on them, and what judges quantized files."""

    dataset: Dataset
    figures: Figures
    clips: HeldOut


def _held_out(
    network: AudioTagger, base: Model, dataset: Dataset, *, seconds: float, graph: GraphName, watch: Watch
) -> _HeldOut:
    inputs = ClipInput(base.front_end, graph=network.graph, seconds=seconds)
    scorer = of_network(network.eval(), inputs, "probs")
    probs, dataset = score(dataset, scorer, what="held-out, torch", watch=watch)
    truth, of_graph = dataset.truth(), ClipInput(base.front_end, graph=graph, seconds=seconds)
    clips = HeldOut(load=lambda index: of_graph(dataset.clips[index]), truth=truth, probs=probs)
    return _HeldOut(dataset=dataset, figures=figures(probs, truth, dataset.classes), clips=clips)


def _measured(made: TunedBundle, held_out: _HeldOut, watch: Watch) -> TunedBundle:
    """Returns the bundle with its figures on the held-out clips."""
    dataset, what = held_out.dataset, f"held-out, tflite {made.bundle.manifest.precision}"
    with Tagger(made.bundle) as tagger:
        theirs, _ = score(dataset, bundle_scorer(tagger), what=what, watch=watch)
    return replace(
        made,
        tflite=figures(theirs, dataset.truth(), dataset.classes),
        largest_difference=float(np.abs(held_out.clips.probs - theirs).max()),
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
