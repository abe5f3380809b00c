"""A picture of the classes that are found worst. Takes matplotlib, the extra `plot`."""

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
"""Classes that a picture has room for."""


def draw_worst(axes: Axes, figures: Figures) -> None:
    """Draws the average precision of the classes that have the least, the worst on top."""
    known = [(row.average_precision, row.label) for row in figures.classes if row.average_precision is not None]
    worst = sorted(known)[:MOST][::-1]
    axes.barh([label for _, label in worst], [value for value, _ in worst])
    axes.set(xlim=(0, 1), xlabel=f"average precision, {len(worst)} of {len(known)} classes")


def plot_worst(figures: Figures, path: str | os.PathLike[str]) -> None:
    """Writes that picture into a file, in the format of its suffix.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ResultsError: the file cannot be written, or matplotlib knows no such format.
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
