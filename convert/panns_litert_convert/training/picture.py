"""What a fine-tuning looks like: its losses, and how well every class is found."""

from __future__ import annotations

from pathlib import Path

from panns_litert.errors import MissingDependencyError
from panns_litert_convert.training.finetune import FineTuned

PICTURE = "metrics.png"

_WORST = 30  # classes that a picture has room for


def draw(result: FineTuned, folder: Path) -> Path:
    """Draws the losses by epoch, and the average precision of the classes that are found worst.

    Returns:
        The picture's path.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib; pip install 'panns-litert[plot]'") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, classes = figure.subplots(1, 2)
    epochs = range(1, len(result.history) + 1)
    for name, text in (("loss", "learnt"), ("watched_loss", "watched")):
        if name in result.history[0]:
            losses.plot(epochs, [row[name] for row in result.history], label=text)
    losses.axvline(result.best_epoch, color="grey", linestyle=":", label=f"best, {result.best_epoch}")
    losses.set(xlabel="epoch", ylabel="loss", yscale="log")
    losses.legend()
    if result.tflite is not None:
        known = [
            (row.average_precision, row.label) for row in result.tflite.classes if row.average_precision is not None
        ]
        worst = sorted(known)[:_WORST][::-1]
        classes.barh([label for _, label in worst], [value for value, _ in worst])
    classes.set(xlim=(0, 1), xlabel="average precision, held out")
    path = folder / PICTURE
    figure.savefig(path, dpi=120)
    return path
