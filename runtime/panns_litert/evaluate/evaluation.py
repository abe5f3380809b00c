"""Evaluate: a bundle's tags of labelled clips, and how good they are."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import DatasetError
from panns_litert.evaluate.dataset import Dataset, LabelledClip, Scorer, Watch, no_watch, score
from panns_litert.evaluate.metrics import Figures, figures
from panns_litert.sense import unknown_label
from panns_litert.tagger import Tagger, TruncationWarning


def bundle_scorer(tagger: Tagger) -> Scorer:
    """Probabilities (classes,) of a clip; of a longer one than the bundle's, of its start."""

    def scorer(clip: LabelledClip) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            return tagger.tag(clip.path, top=1).probs

    return scorer


def evaluate(tagger: Tagger, dataset: Dataset, *, watch: Watch = no_watch) -> tuple[Figures, Dataset]:
    """Figures of a bundle on labelled clips.

    Args:
        tagger: the bundle, on any engine.
        dataset: clips whose classes are among the bundle's.
        watch: told of every clip.

    Returns:
        The figures, and the data set without the clips that could not be read.

    Raises:
        DatasetError: another list of classes than the bundle's, or no clip could be read.
    """
    require_classes(dataset, tagger)
    probs, dataset = score(dataset, bundle_scorer(tagger), what=f"clips, {tagger.engine}", watch=watch)
    return figures(probs, dataset.truth(), dataset.classes), dataset


def require_classes(dataset: Dataset, tagger: Tagger) -> None:
    """Raises unless the data set's classes are the bundle's, in its order.

    Raises:
        DatasetError: naming a class that is not.
    """
    if dataset.classes != tagger.labels:
        stranger = next((name for name in dataset.classes if name not in tagger.labels), None)
        why = unknown_label(stranger, tagger.labels) if stranger else "the classes are in another order"
        raise DatasetError(f"{why}; read the data with the bundle's labels as its classes")
