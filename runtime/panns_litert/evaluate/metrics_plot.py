"""Bar chart of the classes with the lowest average precision. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from panns_litert.escape import escaped
from panns_litert.evaluate.metrics import Figures
from panns_litert.pictures import BLUE, drawing
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


def plot_worst(figures: Figures, path: str | os.PathLike[str]) -> None:
    """Writes the picture of `draw_worst` to a file, in the style of all pictures.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        PictureError: the suffix is neither .png nor .svg.
        ResultsError: the file cannot be written.
    """
    size = (8.0, 1.5 + 0.25 * min(MOST, len(figures.classes)))
    with drawing(path, size=size, dpi=120) as figure:
        draw_worst(figure.subplots(), figures)
