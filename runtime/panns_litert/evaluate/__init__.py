"""Evaluation: data sets of labelled clips, and a tagger's metrics on them (mAP, AUC, d-prime, accuracy).

It may import `pictures` and the layers below it.
"""

from panns_litert.evaluate.dataset import (
    COLUMNS,
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Dataset,
    LabelledClip,
    Scorer,
    Skipped,
    Watch,
    no_watch,
    read_dataset,
    score,
    split,
    write_csv,
)
from panns_litert.evaluate.evaluation import bundle_scorer, evaluate, require_classes
from panns_litert.evaluate.metrics import ClassFigures, Figures, d_prime, figures
from panns_litert.evaluate.metrics_plot import draw_worst, plot_worst

__all__ = [
    "COLUMNS",
    "HELD_OUT",
    "TRAIN",
    "VALIDATION",
    "ClassFigures",
    "Dataset",
    "Figures",
    "LabelledClip",
    "Scorer",
    "Skipped",
    "Watch",
    "bundle_scorer",
    "d_prime",
    "draw_worst",
    "evaluate",
    "figures",
    "no_watch",
    "plot_worst",
    "read_dataset",
    "require_classes",
    "score",
    "split",
    "write_csv",
]
