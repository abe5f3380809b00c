"""Picture of an evaluation: confusion, calibration, and the classes with the lowest average precision.

Needs matplotlib (extra `plot`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from panns_litert.escape import escaped
from panns_litert.evaluate.calibration import Calibration
from panns_litert.evaluate.confusion import Confusion
from panns_litert.evaluate.evaluation import Evaluation
from panns_litert.evaluate.metrics import Figures
from panns_litert.pictures import BLUE, ORANGE, drawing
from panns_litert.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30
"""The largest number of classes in a picture."""


def draw_worst(axes: Axes, figures: Figures) -> None:
    """Draws the average precision of up to `MOST` classes with the lowest values, the lowest on top."""
    known = [(row.average_precision, row.label) for row in figures.classes if row.average_precision is not None]
    worst = sorted(known)[:MOST]
    axes.barh(range(len(worst)), [value for value, _ in worst], color=BLUE)
    axes.set_yticks(range(len(worst)), [escaped(label) for _, label in worst])
    axes.tick_params(axis="y", length=0)
    axes.set(
        xlim=(0, 1),
        ylim=(max(1, len(worst)) - 0.5, -0.5),
        xlabel=f"average precision, {len(worst)} of {counted(len(known), 'class', 'classes')}",
    )


def draw_confusion(axes: Axes, confusion: Confusion) -> None:
    """Draws the confusion matrix, coloured by the share of each class's clips.

    Of more than `MOST` classes, those with the most mistakes are drawn: as a clip's class or as what it was taken for.
    """
    counts = np.array(confusion.counts, int).reshape(len(confusion.labels), len(confusion.labels))
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-mistakes, kind="stable")[:MOST])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = shares[np.ix_(shown, shown)]
    names = [escaped(confusion.labels[k]) for k in shown]
    if len(shown):
        axes.imshow(drawn, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(shown):
        for j, column in enumerate(shown):
            if counts[row, column]:
                colour = "white" if drawn[i, j] > 0.5 else "black"
                axes.text(j, i, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    left_out = f", without {counted(confusion.left_out, 'clip')} of no or several classes" if confusion.left_out else ""
    classes = counted(len(confusion.labels), "class", "classes")
    axes.set(xlabel="taken for", ylabel="class of the clip")
    axes.set_title(f"clips, {len(shown)} of {classes}{left_out}", fontsize="medium")


def draw_reliability(axes: Axes, calibration: Calibration) -> None:
    """Draws the reliability curve of the scores as they are and, if there is one, with the temperature."""
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    curves = [(calibration.before, "as they are", BLUE)]
    if calibration.after is not None and calibration.temperature is not None:
        curves += [(calibration.after, f"temperature {calibration.temperature:g}", ORANGE)]
    for found, text, colour in curves:
        at, shares = [one.score for one in found.curve], [one.share for one in found.curve]
        axes.plot(at, shares, "o-", markersize=4, color=colour, label=f"{text}, error {found.error:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share of clips with the class")
    axes.legend()


def plot_evaluation(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Writes a picture of the confusion, the calibration and the worst classes, in the style of all pictures.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        PictureError: the suffix is neither .png nor .svg.
        ResultsError: the file cannot be written.
    """
    matrix = 3.0 + 0.3 * min(MOST, len(evaluation.confusion.labels))
    bars = 1.5 + 0.25 * min(MOST, evaluation.figures.heard_classes)
    with drawing(path, size=(8.0 + matrix, max(4.0 + bars, matrix)), dpi=120) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=[matrix, 8.0], height_ratios=[4.0, bars])
        draw_confusion(figure.add_subplot(grid[:, 0]), evaluation.confusion)
        draw_reliability(figure.add_subplot(grid[0, 1]), evaluation.calibration)
        draw_worst(figure.add_subplot(grid[1, 1]), evaluation.figures)
