"""Plot: draws the timeline of a recording: log-mel, the top classes over time, and events.

Needs matplotlib (extra `plot`). Draws on its own figures; pyplot and its state are not used.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panns_litert.atomic import replacing
from panns_litert.errors import PictureError, importing
from panns_litert.escape import escaped
from panns_litert.pictures.timeaxis import clock, ticks
from panns_litert.pictures.timeline import Timeline
from panns_litert.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FORMATS = (".png", ".svg")

_SIZE, _DPI = (16.0, 10.0), 100  # inches, pixels per inch: 1600 × 1000 pixels
_RANGE_DB = 80.0  # from the loudest value; quieter values are white
_HZ = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)
# Each colour map has one hue and goes from light to dark, so that values can be read without colour vision.
_LOG_MEL, _SCORES, _EVENTS = "Greys", "Blues", "#b34700"
BLUE, ORANGE = "#084594", _EVENTS
"""The colours of all pictures: the darkest of the scores, and that of events."""
_LONGEST_LABEL, _LONGEST_LINE = 40, 110
_SHOWN_WARNINGS = 3

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the picture is the same on every machine
    "text.parse_math": False,  # a $ in a name is no formula
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "panns-litert",  # the same file for the same picture
}


def picture_format(path: str | os.PathLike[str]) -> str:
    """Returns the format that a file's suffix names: "png" or "svg".

    Call this before long work whose result is drawn, so that a wrong suffix or a missing matplotlib is found early.

    Raises:
        PictureError: the suffix is neither .png nor .svg.
        MissingDependencyError: matplotlib is not installed.
    """
    with importing("matplotlib", extra="plot", purpose="pictures need"):
        import matplotlib  # noqa: F401
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise PictureError(f"{os.fspath(path)}: suffix {suffix!r}; expected {' or '.join(FORMATS)}")
    return suffix[1:]


def plot(timeline: Timeline, path: str | os.PathLike[str], *, top: int = 8) -> None:
    """Draws a recording's log-mel, its top classes over time and its events into a file of 1600 × 1000 pixels.

    The same timeline gives the same file. Not thread-safe: matplotlib's settings are global.

    Args:
        timeline: the timeline to draw.
        path: a .png or .svg file; written atomically.
        top: number of classes, ≥ 1.

    Raises:
        PictureError: another suffix.
        AudioError: `top` is out of range.
        ResultsError: the file cannot be written.
        MissingDependencyError: matplotlib is not installed.

    >>> from panns_litert import Tagger, demo_clips
    >>> from panns_litert.pictures.timeline import timeline
    >>> plot(timeline(Tagger(), demo_clips()[0]), "heard.png")
    """
    with drawing(path, size=_SIZE, dpi=_DPI, font_size=13.0) as figure:
        _draw(figure, timeline, top)


@contextlib.contextmanager
def drawing(
    path: str | os.PathLike[str], *, size: tuple[float, float], dpi: int, font_size: float = 10.0
) -> Iterator[Figure]:
    """Yields a figure to draw on. At the end of the block, writes it atomically; the same drawing gives the same file.

    Not thread-safe: matplotlib's settings are global.

    Args:
        path: a .png or .svg file.
        size: width and height, inches.
        dpi: pixels per inch.
        font_size: size of the text, points.

    Raises:
        PictureError: another suffix.
        ResultsError: the file cannot be written.
        MissingDependencyError: matplotlib is not installed.

    >>> with drawing("line.png", size=(4.0, 3.0), dpi=100) as figure:
    ...     _ = figure.subplots().plot([1, 2])
    """
    form = picture_format(path)
    from matplotlib import style
    from matplotlib.figure import Figure

    data = io.BytesIO()
    with style.context(["default", _STYLE | {"font.size": font_size}]):  # not the user's own style
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        # The result of the layout's solver differs in the last bit from run to run. In an SVG, the names of the clip
        # paths depend on it.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for ax in figure.axes:
            ax.set_position([round(float(v), 6) for v in ax.get_position().bounds])  # type: ignore[arg-type]
        figure.savefig(data, format=form, dpi=dpi, metadata={"Date": None} if form == "svg" else None)
    with replacing(path) as file:
        file.write(data.getvalue())


def _draw(figure: Figure, timeline: Timeline, top: int) -> None:
    classes = timeline.top(top)
    lanes = _event_lanes(timeline, top)
    heights = [5.0, 0.5 + 0.42 * len(classes), 0.5 + 0.42 * max(1, len(lanes))]
    grid = figure.add_gridspec(3, 2, width_ratios=[60, 1], height_ratios=heights)
    about = f"{_short(timeline.name)}  ·  {clock(timeline.seconds)}  ·  {timeline.about}"
    figure.suptitle("\n".join((about, *_warning_lines(timeline.warnings))), fontsize=16)
    axes = [figure.add_subplot(grid[row, 0]) for row in range(3)]
    figure.colorbar(_draw_logmel(axes[0], timeline), cax=figure.add_subplot(grid[0, 1]), label="log-mel, dB")
    scores = _draw_scores(axes[1], timeline, classes)
    figure.colorbar(scores, cax=figure.add_subplot(grid[1, 1]), label="score", ticks=[0.0, 0.5, 1.0])
    _draw_events(axes[2], timeline, lanes)
    at = ticks(timeline.seconds)
    for ax in axes:
        ax.set_xlim(0.0, timeline.seconds)
        ax.set_xticks(at, [clock(t, tenths=at[1:2] < [1]) for t in at] if ax is axes[2] else [""] * len(at))
    axes[2].set_xlabel("time, minutes:seconds" if timeline.seconds < 3600 else "time, hours:minutes:seconds")


def _event_lanes(timeline: Timeline, most: int) -> list[str]:
    """Returns the classes with the highest scores of events, at most `most`, ordered as the rows of the scores are."""
    highest: dict[str, float] = {}
    for event in timeline.events:
        highest[event.label] = max(highest.get(event.label, 0.0), event.score)
    kept = sorted(highest, key=lambda label: -highest[label])[:most]
    order = [timeline.labels[i] for i in timeline.top(len(timeline.labels))]
    return sorted(kept, key=order.index)


def _draw_logmel(ax: Axes, timeline: Timeline) -> AxesImage:
    times, (columns, mels) = timeline.logmel_times, timeline.logmel.shape
    # All columns are equally wide, except the first and the last one, which the recording's ends cut.
    width = times[2] - times[1] if columns > 2 else times[1] - times[0]
    left = times[1] - width
    loudest = float(timeline.logmel.max())
    image = ax.imshow(
        timeline.logmel.T,
        origin="lower",
        aspect="auto",
        cmap=_LOG_MEL,
        vmin=loudest - _RANGE_DB,
        vmax=loudest,
        extent=(left, left + columns * width, -0.5, mels - 0.5),
    )
    ax.set_yticks(*_hz_ticks(timeline))
    ax.set_ylabel("Hz, centre of the mel band")
    return image


def _hz_ticks(timeline: Timeline) -> tuple[list[float], list[str]]:
    """Returns positions on the axis of bands and their labels, from the top, with a least distance between them."""
    mels = len(timeline.mel_hz)
    at: list[float] = []
    names: list[str] = []
    for hz in reversed(_HZ):
        band = float(np.interp(hz, timeline.mel_hz, np.arange(mels)))
        if timeline.mel_hz[0] <= hz <= timeline.mel_hz[-1] and (not at or band < at[-1] - 0.06 * mels):
            at.append(band)
            names.append(f"{hz // 1000} k" if hz >= 1000 else f"{hz}")
    return at, names


def _draw_scores(ax: Axes, timeline: Timeline, classes: list[int]) -> QuadMesh:
    mesh = ax.pcolormesh(
        timeline.times,
        np.arange(len(classes) + 1) - 0.5,
        timeline.scores[:, classes].T,
        cmap=_SCORES,
        vmin=0.0,
        vmax=1.0,
        rasterized=True,
    )
    ax.hlines(np.arange(1, len(classes)) - 0.5, 0.0, timeline.seconds, color="white", linewidth=2.0)
    _name_rows(ax, [timeline.labels[i] for i in classes])
    ax.set_ylabel("classes")
    return mesh


def _draw_events(ax: Axes, timeline: Timeline, lanes: list[str]) -> None:
    for lane, label in enumerate(lanes):
        spans = [(event.start, event.end - event.start) for event in timeline.events if event.label == label]
        ax.broken_barh(spans, (lane - 0.3, 0.6), facecolor=_EVENTS, edgecolor=_EVENTS)
        ax.axhline(lane, color="#dddddd", linewidth=1.0, zorder=0)
    _name_rows(ax, lanes)
    ax.set_ylabel("events")
    classes = len({event.label for event in timeline.events})
    if not lanes:
        ax.text(0.5, 0.5, "none above the thresholds", transform=ax.transAxes, ha="center", va="center")
    elif classes > len(lanes):
        ax.set_title(
            f"and events of {counted(classes - len(lanes), 'more class', 'more classes')}", fontsize=12, loc="right"
        )


def _name_rows(ax: Axes, labels: list[str]) -> None:
    ax.set_yticks(range(len(labels)), [_short(escaped(label), most=_LONGEST_LABEL) for label in labels])
    ax.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def _short(text: str, *, most: int = _LONGEST_LINE) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _warning_lines(warnings: tuple[str, ...]) -> list[str]:
    shown = [_short(f"Warning: {escaped(warning)}") for warning in warnings[:_SHOWN_WARNINGS]]
    more = len(warnings) - len(shown)
    return [*shown, f"and {counted(more, 'more warning')}"] if more else shown
