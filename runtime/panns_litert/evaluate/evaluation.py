"""Evaluate: the metrics of a bundle on labelled clips, and the settings that follow from them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.bundle import Bundle
from panns_litert.errors import AudioError, DatasetError, SettingsError
from panns_litert.evaluate.calibration import Calibration, calibrate
from panns_litert.evaluate.clips import Dataset, LabelledClip
from panns_litert.evaluate.confusion import Confusion, confusion
from panns_litert.evaluate.dataset import Scorer, Watch, no_watch, score
from panns_litert.evaluate.metrics import F1Score, Figures, Interval, f1_scores, figures, mean_ap_interval
from panns_litert.evaluate.thresholds import LEAST_CLIPS, ClassThreshold, choose_thresholds, require_precision
from panns_litert.events import EventSettings
from panns_litert.sense import Sense, unknown_label
from panns_litert.settings import TaggerSettings
from panns_litert.strict import shown
from panns_litert.tagger import Tagger, Tagging, TruncationWarning
from panns_litert.windows import windows
from panns_litert.words import counted


@dataclass(frozen=True, kw_only=True)
class Heard:
    """How much of the clips the model heard.

    Attributes:
        windows: number of windows, over all clips.
        longer: number of clips that are longer than the model's clip.
        whole: whether those were heard to their end, in several windows; if not, only their start was.
        shorter: number of clips that are shorter than the model's clip, and were padded.
        unusable: number of windows with samples that cannot be used, which were left out.
        warned: number of clips of which something was wrong or missing.
    """

    windows: int
    longer: int
    whole: bool
    shorter: int
    unusable: int
    warned: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        dataset: the clips that were scored. Those that could not be read are in its `skipped`.
        heard: how much of the clips the model heard.
        figures: mAP, AUC, d-prime and accuracy, of the scores as they are; with the temperature of `measured`.
        mean_ap_interval: bootstrap interval of the mAP; None if no clip has a class.
        confusion: which class each clip was taken for.
        calibration: how well the scores are calibrated, and the temperature.
        calibrated: whether the thresholds and the F1 are of the scores with that temperature.
        precision: the precision that the thresholds were chosen for; None for the best F1.
        thresholds: the threshold of every class that has clips.
        f1_half, f1_chosen: F1 at 0.5, and at the thresholds, on the same clips; None without a threshold.
        groups: the groups that were evaluated in place of the model's classes, or None.
        measured: the settings whose thresholds were measured, instead of chosen; None if they were chosen.
    """

    dataset: Dataset
    heard: Heard
    figures: Figures
    mean_ap_interval: Interval | None
    confusion: Confusion
    calibration: Calibration
    calibrated: bool
    precision: float | None
    thresholds: tuple[ClassThreshold, ...]
    f1_half: F1Score | None
    f1_chosen: F1Score | None
    groups: Mapping[str, Sequence[str]] | None
    measured: TaggerSettings | None

    @property
    def rule(self) -> str:
        """The rule of the thresholds, in words."""
        if self.measured is not None:
            return "of the settings"
        return "best F1" if self.precision is None else f"lowest with precision ≥ {self.precision:g}"

    def settings(self, bundle: Bundle, *, data: str) -> TaggerSettings:
        """Returns the thresholds, and the temperature if they are of calibrated scores, as settings of a bundle.

        Args:
            bundle: the bundle that was evaluated.
            data: name of the data, for people.

        Raises:
            DatasetError: no class has a threshold.
        """
        chosen = {one.label: {"on": one.threshold} for one in self.thresholds if one.threshold is not None}
        if not chosen:
            why = self.thresholds[0].why if self.thresholds else "no clip has a class"
            raise DatasetError(
                f"no class has a threshold ({why}); expected at least {LEAST_CLIPS} clips of a class and as many others"
            )
        temperature = self.calibration.temperature if self.calibrated else None
        return TaggerSettings(
            events=EventSettings(classes=chosen),
            temperature=1.0 if temperature is None else temperature,
            groups=self.groups,
            model=bundle.manifest.model,
            model_sha256=bundle.manifest.model_sha256,
            data=f"{data}: {counted(len(self.dataset.clips), 'clip')}, {self.rule}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the clips as JSON types."""
        return {
            "heard": asdict(self.heard),
            "mean_ap_interval": self.mean_ap_interval,
            "confusion": self.confusion.to_dict(),
            "calibration": self.calibration.to_dict(),
            "calibrated": self.calibrated,
            "rule": self.rule,
            "thresholds": [one.to_dict() for one in self.thresholds],
            "f1_half": None if self.f1_half is None else asdict(self.f1_half),
            "f1_chosen": None if self.f1_chosen is None else asdict(self.f1_chosen),
        }


class _Scores:
    """The scores of the windows of all clips, from which the clips' scores with any temperature follow."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self._windows: list[NDArray[np.float32]] = []
        self._weights: list[NDArray[np.float32]] = []

    def add(self, scores: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
        """Adds a clip: scores (windows, labels), weights (windows,)."""
        self._windows.append(scores)
        self._weights.append(weights)

    def at(self, temperature: float) -> NDArray[np.float32]:
        """Returns the scores (clips, labels), as `tag_long` gives them with this temperature."""
        scores = Sense(self.labels, temperature=temperature)(np.concatenate(self._windows))
        weights = np.concatenate(self._weights)
        first = np.cumsum([0, *map(len, self._weights[:-1])])
        sums = np.add.reduceat(scores.astype(np.float64) * weights[:, None], first)
        totals = np.add.reduceat(weights.astype(np.float64), first)
        return np.asarray(sums / totals[:, None], np.float32)


def bundle_scorer(tagger: Tagger) -> Scorer:
    """Returns a scorer that computes the probabilities (classes,) of a clip, cut to the bundle's clip length.

    Of a clip that is a part of a file, only that part is heard.
    """

    def scorer(clip: LabelledClip) -> NDArray[np.float32]:
        return _start(tagger, clip).probs

    return scorer


def _sound(tagger: Tagger, clip: LabelledClip, seconds: float | None = None) -> tuple[Any, int | None]:
    """Returns what a tagger hears of a clip: the file, or the samples of a part of it (its first `seconds`), and their
    sample rate."""
    if clip.start is None and clip.end is None:
        return clip.path, None
    rate = tagger.bundle.manifest.front_end.sample_rate
    return clip.read(sample_rate=rate, max_seconds=seconds).waveform, rate


def _start(tagger: Tagger, clip: LabelledClip) -> Tagging:
    """Tags a clip, cut to the bundle's clip length."""
    sound, rate = _sound(tagger, clip, tagger.bundle.manifest.clip_seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        return tagger.tag(sound, sample_rate=rate, top=1)


def evaluate(
    tagger: Tagger,
    dataset: Dataset,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    precision: float | None = None,
    calibrated: bool = False,
    settings: TaggerSettings | None = None,
    whole: bool = True,
    watch: Watch = no_watch,
) -> Evaluation:
    """Computes the metrics of a bundle on labelled clips.

    A clip that is longer than the model's clip is heard in windows without overlap, as by `tag_long`; its scores are
    their mean.

    Args:
        tagger: the bundle, on any engine.
        dataset: clips, with exactly the bundle's classes, or with the names of the groups as its classes.
        groups: as for `Sense`: names of classes of the data set, with the model's classes that each stands for.
        precision: the precision that every threshold should reach; the best F1 if not given.
        calibrated: whether to fit a temperature first, and to choose the thresholds of the scores with it.
        settings: settings to measure on other clips than those that they were chosen on: their temperature and groups
            are applied first, and their thresholds are measured, not chosen: those of single classes, and of the
            others if the settings have an `on` for all. Not together with the three above.
        whole: whether long clips are heard to their end; if not, only their start is.
        watch: called for every clip.

    Raises:
        DatasetError: the data set's classes are not the bundle's or the groups, no clip could be read, no clip has a
            class, `precision` is out of range, or no temperature can be fitted and `calibrated` asks for one.
        LabelError: the groups or the settings name an unknown class.
        SettingsError: the settings are of another model, or given together with what they decide.
        MissingDependencyError: scikit-learn is not installed.
    """
    require_precision(precision)
    sense, given = Sense(tagger.labels, groups=groups), None
    if settings is not None:
        if groups is not None or precision is not None or calibrated:
            raise SettingsError("settings together with groups, a precision or a calibration; expected either")
        settings.require_model(tagger.bundle)
        sense, groups = settings.sense(tagger.labels), settings.groups
        given = {
            name: float(least)
            for name, least in zip(sense.labels, settings.thresholds(sense.labels), strict=True)
            if name in settings.events.classes or settings.events.on != EventSettings.on
        }
    require_classes(dataset, sense.labels)
    scores, found = _Scores(sense.labels), list[Heard]()

    def scorer(clip: LabelledClip) -> NDArray[np.float32]:
        parts, weights, one = _windows_of(tagger, clip, sense, whole=whole)
        scores.add(parts, weights)
        found.append(one)
        return np.asarray(parts[0], np.float32)

    _, heard = score(dataset, scorer, what=f"clips, {tagger.engine}", watch=watch)
    truth, folds = heard.truth(), [clip.fold for clip in heard.clips]
    plain = scores.at(1.0)
    calibration = calibrate(scores.at, truth, folds=folds)
    if calibrated and calibration.temperature is None:
        raise DatasetError(f"no temperature: {calibration.why}; leave out the calibration, or give more clips")
    decided = scores.at(calibration.temperature or 1.0) if calibrated else plain
    labels = sense.labels
    thresholds = choose_thresholds(decided, truth, labels, precision=precision, folds=folds, given=given)
    chosen = {one.label: one.threshold for one in thresholds if one.threshold is not None}
    return Evaluation(
        dataset=heard,
        heard=Heard(
            windows=sum(one.windows for one in found),
            longer=sum(one.longer for one in found),
            whole=whole,
            shorter=sum(one.shorter for one in found),
            unusable=sum(one.unusable for one in found),
            warned=sum(one.warned for one in found),
        ),
        figures=figures(plain, truth, labels),
        mean_ap_interval=mean_ap_interval(plain, truth, labels),
        confusion=confusion(plain, truth, labels),
        calibration=calibration,
        calibrated=calibrated,
        precision=precision,
        thresholds=thresholds,
        f1_half=f1_scores(decided, truth, labels),
        f1_chosen=f1_scores(decided, truth, labels, thresholds=chosen),
        groups=groups,
        measured=settings,
    )


def _windows_of(
    tagger: Tagger, clip: LabelledClip, sense: Sense, *, whole: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], Heard]:
    """Returns the scores of a clip's windows (windows, labels), their weights as in `tag_long`, and what was heard."""
    if not whole:
        tagging = _start(tagger, clip)
        heard = Heard(
            windows=1,
            longer=tagging.truncated,
            whole=whole,
            shorter=tagging.padding_seconds > 0,
            unusable=0,
            warned=bool(tagging.warnings),
        )
        return sense(tagging.probs)[None].astype(np.float32), np.ones(1, np.float32), heard
    parts, weights, covered, unusable, padding = [], [], 0.0, 0, 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sound, rate = _sound(tagger, clip)
        for window in windows(tagger, sound, sample_rate=rate):
            padding = window.padding_seconds
            if window.unusable is not None:
                unusable += 1
                continue
            parts.append(sense(window.probs))
            weights.append(window.end - max(window.start, covered))
            covered = window.end
    if not parts:
        raise AudioError(f"{clip.name}: no window of usable samples; expected at least one")
    heard = Heard(
        windows=len(parts),
        longer=len(parts) + unusable > 1,
        whole=whole,
        shorter=padding > 0,
        unusable=unusable,
        warned=bool(caught),
    )
    return np.stack(parts).astype(np.float32), np.array(weights, np.float32), heard


def require_classes(dataset: Dataset, labels: Sequence[str]) -> None:
    """Checks that the data set's classes are these, in the same order.

    Args:
        dataset: the data set.
        labels: a bundle's classes, or the names of groups.

    Raises:
        DatasetError: they are not; the message says why.
    """
    if not isinstance(dataset, Dataset):
        raise DatasetError(f"{shown(dataset)}; expected a Dataset, as `read_dataset` returns it")
    if dataset.classes != tuple(labels):
        stranger = next((name for name in dataset.classes if name not in labels), None)
        why = unknown_label(stranger, labels) if stranger else "the classes are in another order"
        raise DatasetError(f"{why}; read the data with the bundle's labels, or the names of the groups, as its classes")
