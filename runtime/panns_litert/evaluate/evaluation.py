"""Evaluate: the metrics of a bundle on labelled clips."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import DatasetError
from panns_litert.evaluate.clips import Dataset, LabelledClip
from panns_litert.evaluate.dataset import Scorer, Watch, no_watch, score
from panns_litert.evaluate.metrics import Figures, figures
from panns_litert.sense import unknown_label
from panns_litert.strict import shown
from panns_litert.tagger import Tagger, TruncationWarning


def bundle_scorer(tagger: Tagger) -> Scorer:
    """Returns a scorer that computes the probabilities (classes,) of a clip, cut to the bundle's clip length.

    Of a clip that is a part of a file, only that part is heard.
    """
    manifest = tagger.bundle.manifest

    def scorer(clip: LabelledClip) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            if clip.start is None and clip.end is None:
                return tagger.tag(clip.path, top=1).probs
            rate = manifest.front_end.sample_rate
            part = clip.read(sample_rate=rate, max_seconds=manifest.clip_seconds)
            return tagger.tag(part.waveform, sample_rate=rate, top=1).probs

    return scorer


def evaluate(tagger: Tagger, dataset: Dataset, *, watch: Watch = no_watch) -> tuple[Figures, Dataset]:
    """Computes the metrics of a bundle on labelled clips.

    Args:
        tagger: the bundle, on any engine.
        dataset: clips, with exactly the bundle's classes.
        watch: called for every clip.

    Returns:
        The metrics, and the data set without the clips that could not be read.

    Raises:
        DatasetError: the data set's classes are not the bundle's, or no clip could be read.
    """
    require_classes(dataset, tagger)
    probs, dataset = score(dataset, bundle_scorer(tagger), what=f"clips, {tagger.engine}", watch=watch)
    return figures(probs, dataset.truth(), dataset.classes), dataset


def require_classes(dataset: Dataset, tagger: Tagger) -> None:
    """Checks that the data set's classes are the bundle's, in the same order.

    Raises:
        DatasetError: they are not; the message says why.
    """
    if not isinstance(dataset, Dataset):
        raise DatasetError(f"{shown(dataset)}; expected a Dataset, as `read_dataset` returns it")
    if dataset.classes != tagger.labels:
        stranger = next((name for name in dataset.classes if name not in tagger.labels), None)
        why = unknown_label(stranger, tagger.labels) if stranger else "the classes are in another order"
        raise DatasetError(f"{why}; read the data with the bundle's labels as its classes")
