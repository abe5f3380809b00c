"""Bar chart of the classes with the lowest average precision. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from panns_litert.atomic import replacing
from panns_litert.errors import ResultsError, importing
from panns_litert.evaluate.metrics import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30
"""The largest number of classes in a picture."""


def draw_worst(axes: Axes, figures: Figures) -> None:
    """Draws the average precision of up to `MOST` classes with the lowest values, the lowest on top."""
    known = [(row.average_precision, row.label) for row in figures.classes if row.average_precision is not None]
    worst = sorted(known)[:MOST][::-1]
    axes.barh([label for _, label in worst], [value for value, _ in worst])
    axes.set(xlim=(0, 1), xlabel=f"average precision, {len(worst)} of {len(known)} classes")


def plot_worst(figures: Figures, path: str | os.PathLike[str]) -> None:
    """Writes the picture of `draw_worst` to a file, in the format of its suffix; PNG without a suffix.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ResultsError: the file cannot be written, or matplotlib does not support the format.
    """
    with importing("matplotlib", extra="plot", purpose="pictures need"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 1.5 + 0.25 * min(MOST, len(figures.classes))), layout="constrained")
    draw_worst(figure.subplots(), figures)
    with replacing(path) as file:
        try:
            figure.savefig(file, dpi=120, format=Path(path).suffix.removeprefix(".") or "png")
        except ValueError as error:
            raise ResultsError(f"{path}: {error}; expected a name such as worst.png") from error
