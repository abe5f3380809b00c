"""Evaluation: data sets of labelled clips, a tagger's metrics on them, and the settings that follow from them.

It may import `pictures` and the layers below it.
"""

from panns_litert.evaluate.advice import advice
from panns_litert.evaluate.annotations import CUT_SECONDS, Annotation, Cutting, cut
from panns_litert.evaluate.calibration import (
    BINS,
    LEAST_CALIBRATION_CLIPS,
    TEMPERATURES,
    Bin,
    Calibration,
    Reliability,
    calibrate,
    fit_temperature,
    reliability,
)
from panns_litert.evaluate.clips import Dataset, LabelledClip, Skipped
from panns_litert.evaluate.confusion import Confusion, Mistake, confusion
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
from panns_litert.evaluate.evaluation import Evaluation, Heard, bundle_scorer, evaluate, require_classes
from panns_litert.evaluate.metrics import (
    BOOTSTRAPS,
    CONFIDENCE,
    ClassFigures,
    F1Score,
    Figures,
    Interval,
    d_prime,
    f1_scores,
    figures,
    mean_ap_interval,
    wilson,
)
from panns_litert.evaluate.metrics_plot import draw_confusion, draw_reliability, draw_worst, plot_evaluation
from panns_litert.evaluate.tables import COLUMNS
from panns_litert.evaluate.thresholds import LEAST_CLIPS, ClassThreshold, Rates, choose_thresholds

__all__ = [
    "BINS",
    "BOOTSTRAPS",
    "COLUMNS",
    "CONFIDENCE",
    "CUT_SECONDS",
    "HELD_OUT",
    "LEAST_CALIBRATION_CLIPS",
    "LEAST_CLIPS",
    "TEMPERATURES",
    "TRAIN",
    "VALIDATION",
    "Annotation",
    "Bin",
    "Calibration",
    "ClassFigures",
    "ClassThreshold",
    "Confusion",
    "Cutting",
    "Dataset",
    "Evaluation",
    "F1Score",
    "Figures",
    "Heard",
    "Interval",
    "LabelledClip",
    "Mistake",
    "Rates",
    "Reliability",
    "Scorer",
    "Skipped",
    "Watch",
    "advice",
    "bundle_scorer",
    "calibrate",
    "choose_thresholds",
    "confusion",
    "cut",
    "d_prime",
    "draw_confusion",
    "draw_reliability",
    "draw_worst",
    "evaluate",
    "f1_scores",
    "figures",
    "fit_temperature",
    "mean_ap_interval",
    "no_watch",
    "one_recording",
    "plot_evaluation",
    "read_dataset",
    "reliability",
    "require_classes",
    "score",
    "source_of",
    "split",
    "wilson",
    "write_csv",
]
