"""Evaluation: data sets of labelled clips, and a tagger's metrics on them (mAP, AUC, d-prime, accuracy).

It may import `pictures` and the layers below it.
"""

from panns_litert.evaluate.advice import advice
from panns_litert.evaluate.annotations import CUT_SECONDS, Annotation, Cutting, cut
from panns_litert.evaluate.clips import Dataset, LabelledClip, Skipped
from panns_litert.evaluate.dataset import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Scorer,
    Watch,
    no_watch,
    one_recording,
    read_dataset,
    score,
    source_of,
    split,
    write_csv,
)
from panns_litert.evaluate.evaluation import bundle_scorer, evaluate, require_classes
from panns_litert.evaluate.metrics import ClassFigures, Figures, d_prime, figures
from panns_litert.evaluate.metrics_plot import draw_worst, plot_worst
from panns_litert.evaluate.tables import COLUMNS

__all__ = [
    "COLUMNS",
    "CUT_SECONDS",
    "HELD_OUT",
    "TRAIN",
    "VALIDATION",
    "Annotation",
    "ClassFigures",
    "Cutting",
    "Dataset",
    "Figures",
    "LabelledClip",
    "Scorer",
    "Skipped",
    "Watch",
    "advice",
    "bundle_scorer",
    "cut",
    "d_prime",
    "draw_worst",
    "evaluate",
    "figures",
    "no_watch",
    "one_recording",
    "plot_worst",
    "read_dataset",
    "require_classes",
    "score",
    "source_of",
    "split",
    "write_csv",
]
