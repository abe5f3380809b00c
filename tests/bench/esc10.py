"""Tables `zero_shot`, `agreement` and `fine_tuned` of evidence.py: mn04 on ESC-10, whose labels nobody here made.

Without training, each of ESC-10's ten classes is a group of AudioSet's classes (`GROUPS` of event_defaults.py), and a
clip has the class whose group scores highest. A clip is heard whole: in one window of 10 or 5 s, or in several of 2 s,
whose scores are averaged.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bundles import yamnet_file
from event_defaults import GROUPS
from numpy.typing import NDArray
from turns import ROOT

from panns_litert.atomic import replacing
from panns_litert.bundle import PRECISIONS, Bundle, GraphName, PrecisionName
from panns_litert.evaluate import Dataset, figures, score
from panns_litert.proof import adopt
from panns_litert.sense import Sense
from panns_litert.tagger import EngineName, Tagger
from panns_litert.windows import tag_long
from panns_litert_convert.convert import convert
from panns_litert_convert.training.finetune import checkpoint_scores, finetune
from panns_litert_convert.training.loop import Settings

MODEL = "mn04"
TAG = 0.3
"""A class with this probability or more is a tag."""

GRAPHS: tuple[GraphName, ...] = ("logmel", "waveform")
ON_GPU: tuple[PrecisionName, ...] = ("fp32", "fp16", "int8")
"""The precisions that the GPU delegate runs."""

_Row = dict[str, Any]


def right_percent(bundle: Bundle, data: Dataset) -> float:
    """Returns the percentage of ESC-10's clips that a bundle for AudioSet names right, without training."""
    with Tagger(bundle) as tagger:
        return float(named(tagger.labels, data, heard(tagger, data))["right_percent"])


def heard(tagger: Tagger, data: Dataset) -> NDArray[np.float32]:
    """Returns the probabilities (clips, classes) of whole clips.

    Raises:
        SystemExit: a clip cannot be read.
    """
    hop = tagger.bundle.manifest.clip_seconds / 2
    found, used = score(data, lambda clip: tag_long(tagger, clip.path, hop=hop).probs)
    return _all(found, data, used)


def _all(found: NDArray[np.float32], data: Dataset, used: Dataset) -> NDArray[np.float32]:
    if len(used.clips) != len(data.clips):
        raise SystemExit(
            f"evidence: {len(used.clips)} of {len(data.clips)} clips were heard; {used.skipped[-1].reason}"
        )
    return found


def named(labels: tuple[str, ...], data: Dataset, probs: NDArray[np.float32]) -> _Row:
    """Returns accuracy and mean average precision of ESC-10's classes, from AudioSet's (clips, classes)."""
    groups = Sense(labels, groups=GROUPS)
    found = figures(groups(probs), data.truth(), data.classes)
    assert groups.labels == data.classes
    assert found.accuracy is not None
    assert found.mean_ap is not None
    return {"right_percent": 100 * found.accuracy, "mAP_percent": 100 * found.mean_ap}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the tables are made of.

    Attributes:
        data: labelled clips of ESC-10, with its class names and folds.
        weights: mn04's published checkpoint.
        calibration: recordings for int8-full.
        work: folder that keeps scores and trainings; an interrupted run continues there.
        bundles: folder that keeps bundles.
        say: prints a line of progress.
    """

    data: Dataset
    weights: Path
    calibration: Sequence[Path]
    work: Path
    bundles: Path
    say: Callable[[str], None]

    def bundle(self, precision: PrecisionName = "fp16", graph: GraphName = "logmel", seconds: float = 10.0) -> Bundle:
        """Returns a bundle of mn04; converts it if it is not in `bundles`."""
        out = self.bundles / f"{precision}-{graph}-{seconds:g}"
        if not out.is_dir():
            self.say(f"converting {MODEL} {precision} {graph} {seconds:g} s")
            convert(
                MODEL, checkpoint=self.weights, precision=precision, graph=graph, seconds=seconds, out=out,
                calibration=self.calibration if precision == "int8-full" else (),
            )  # fmt: skip
        return Bundle(out)

    def kept(self, name: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns an array that `make` makes, and keeps it in `work` under a name."""
        path = self.work / "scores" / f"{name}-{len(self.data.clips)}.npy"
        if not path.exists():
            self.say(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, make())
        return np.asarray(np.load(path))

    def probs(self, bundle: Bundle, engine: EngineName) -> NDArray[np.float32]:
        """Returns the probabilities (clips, classes) of a bundle, one row per clip."""
        manifest = bundle.manifest
        name = f"{manifest.model}-{manifest.precision}-{manifest.graph}-{manifest.clip_seconds:g}-{engine}"

        def make() -> NDArray[np.float32]:
            with Tagger(bundle, engine=engine) as tagger:
                return heard(tagger, self.data)

        return self.kept(name, make)

    def torch_probs(self, seconds: float) -> NDArray[np.float32]:
        """Returns PyTorch's probabilities (clips, classes) for clips of `seconds` s."""

        def make() -> NDArray[np.float32]:
            found, used = checkpoint_scores(self.data, model=MODEL, checkpoint=self.weights, seconds=seconds)
            return _all(found, self.data, used)

        return self.kept(f"torch-{seconds:g}", make)


def zero_shot(evidence: Evidence) -> list[_Row]:
    """Clips of ESC-10 named right by mn04 and YAMNet without training, and the mean average precision (mAP), percent.

    mn04 has its published weights. "PyTorch" is its network in float32. YAMNet's file is that of the environment
    variable YAMNET, or yamnet*.tflite in ../shared.
    """
    rows: list[_Row] = []
    labels = evidence.bundle().labels
    for seconds in (10.0, 5.0):
        rows.append(_what("PyTorch", seconds) | named(labels, evidence.data, evidence.torch_probs(seconds)))
    for name, seconds, found in _runs(evidence):
        if isinstance(found, str):
            rows.append({"what": f"{name}: {found}"})
        else:
            rows.append(_what(name, seconds) | named(labels, evidence.data, found))
    for seconds in (5.0, 2.0):
        for precision in ("fp16", "int8"):
            bundle = evidence.bundle(precision, seconds=seconds)
            row = named(labels, evidence.data, evidence.probs(bundle, "cpu"))
            rows.append(_what(f"{precision}, log-mel, CPU", seconds) | row)
    file = yamnet_file()
    if file is None:
        rows.append({"what": "YAMNet: not measured; expected YAMNET=FILE, its public .tflite"})
        return rows
    with tempfile.TemporaryDirectory() as folder:
        yamnet = adopt(file, out=Path(folder) / "yamnet").bundle
        found = evidence.probs(yamnet, "cpu")
        rows.append(_what("YAMNet", yamnet.manifest.clip_seconds) | named(yamnet.labels, evidence.data, found))
    return rows


def _what(name: str, seconds: float) -> _Row:
    return {"what": name, "window_s": f"{seconds:g}"}


def _runs(evidence: Evidence) -> Iterator[tuple[str, float, NDArray[np.float32] | str]]:
    """Yields name, clip length and probabilities of every precision, graph and engine, or why there are none."""
    ladder = json.loads((ROOT / "assets" / "ladder.json").read_text(encoding="utf-8"))["rows"]
    rungs = next(row["rungs"] for row in ladder if row["name"] == MODEL)
    failing = {rung["precision"] for rung in rungs if not rung["passed"]}
    for graph in GRAPHS:
        for precision in PRECISIONS:
            shown = "log-mel" if graph == "logmel" else graph
            if precision in failing:  # the search for layers that must stay finer takes long, and finds none again
                yield f"{precision}, {shown}", 10.0, "fails its gates (docs/ladder.md)"
                continue
            bundle = evidence.bundle(precision, graph)
            yield f"{precision}, {shown}, CPU", 10.0, evidence.probs(bundle, "cpu")
            if precision in ON_GPU:
                yield f"{precision}, {shown}, GPU", 10.0, evidence.probs(bundle, "gpu")


def agreement(evidence: Evidence) -> list[_Row]:
    """How far the tags of ESC-10's clips are from PyTorch's, for mn04's 527 classes and windows of 10 s.

    A tag is a class with a probability of at least 0.3. "tags differ": pairs of clip and class that only one of the two
    tags, of those that either tags. "first tag": clips whose highest class is PyTorch's.
    """
    true = evidence.torch_probs(10.0)
    rows: list[_Row] = []
    for name, _, found in _runs(evidence):
        if isinstance(found, str):
            continue
        mine, theirs = found >= TAG, true >= TAG
        error = np.abs(found - true)
        rows.append({
            "what": name,
            "largest_error": float(error.max()),
            "median_of_largest_per_clip": float(np.median(error.max(axis=1))),
            "tags_differ_percent": 100 * float((mine != theirs).sum() / (mine | theirs).sum()),
            "first_tag_percent": 100 * float((found.argmax(1) == true.argmax(1)).mean()),
        })  # fmt: skip
    return rows


FROZEN = Settings(loss="ce")
UNFROZEN = Settings(loss="ce", unfrozen=True, epochs=10, patience=4)
TUNED: tuple[PrecisionName, ...] = ("fp16", "int8")


def fine_tuned(evidence: Evidence) -> list[_Row]:
    """Held-out clips of ESC-10 named right after fine-tuning mn04 on the other folds, clips of 5 s.

    Each fold is held out once, and its clips have no part in the training. "frozen" trains the layers after the
    embedding, "unfrozen" the whole network, for at most 10 epochs and with two of the folds, since it takes long. Both
    use cross entropy.
    """
    every = sorted({clip.fold for clip in evidence.data.clips if clip.fold})
    rows: list[_Row] = []
    for name, settings, folds in (("frozen", FROZEN, every), ("unfrozen", UNFROZEN, every[:2])):
        found = {fold: _held_out(evidence, name, settings, fold) for fold in folds}
        for file in ("PyTorch", *TUNED):
            right = {f"fold_{fold}": 100 * found[fold][file] for fold in folds}
            rows.append({"what": f"{name}, {file}", "mean_percent": float(np.mean(list(right.values()))), **right})
    return rows


def _held_out(evidence: Evidence, name: str, settings: Settings, fold: str) -> dict[str, float]:
    """Returns the accuracy on a fold after training on the others, by file; keeps it in `work`."""
    path = evidence.work / "tuned" / f"{name}-{fold}-{len(evidence.data.clips)}.json"
    if path.exists():
        kept: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    evidence.say(f"fine-tuning, {name}, fold {fold}")
    result = finetune(
        evidence.work / "esc10.csv", model=MODEL, checkpoint=evidence.weights, out=path.with_suffix(""),
        classes=evidence.data.classes, seconds=5.0, held_out=fold, precision=TUNED, settings=settings,
    )  # fmt: skip
    figures_of = {"PyTorch": result.torch} | {one.bundle.manifest.precision: one.tflite for one in result.bundles}
    found: dict[str, float] = {}
    for file in ("PyTorch", *TUNED):
        figure = figures_of.get(file)
        if figure is None or figure.accuracy is None:
            raise SystemExit(f"evidence: fine-tuning, {name}, fold {fold}: no figures of {file}")
        found[file] = figure.accuracy
    with replacing(path) as file:
        file.write(json.dumps(found).encode())
    return found
