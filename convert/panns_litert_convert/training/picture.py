"""Picture of a fine-tuning: its losses, and the average precision of its worst classes."""

from __future__ import annotations

from pathlib import Path

from panns_litert.errors import importing
from panns_litert.evaluate import draw_worst
from panns_litert.pictures import BLUE, ORANGE, drawing
from panns_litert_convert.training.finetune import FineTuned

PICTURE = "metrics.png"


def draw(result: FineTuned, folder: Path) -> Path:
    """Draws the losses by epoch, and the classes with the lowest average precision.

    Returns:
        The picture's path.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with importing("matplotlib", extra="plot", purpose="pictures need"):
        from matplotlib.ticker import LogFormatter
    path = folder / PICTURE
    with drawing(path, size=(10.0, 4.0), dpi=120) as figure:
        losses, classes = figure.subplots(1, 2)
        epochs = range(1, len(result.history) + 1)
        for name, text, colour in (("loss", "learnt", BLUE), ("watched_loss", "watched", ORANGE)):
            if name in result.history[0]:
                losses.plot(epochs, [row[name] for row in result.history], label=text, color=colour)
        losses.axvline(result.best_epoch, color="grey", linestyle=":", label=f"best, {result.best_epoch}")
        losses.set(xlabel="epoch", ylabel="loss", yscale="log")
        # The default formatter writes powers of ten as formulas.
        losses.yaxis.set_major_formatter(LogFormatter())
        losses.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.0, 0.4)))
        losses.legend()
        if result.tflite is not None:
            draw_worst(classes, result.tflite)
    return path
