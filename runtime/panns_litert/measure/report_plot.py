"""Draws all rungs: size, time and agreement, one panel per device. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from panns_litert.errors import RecordError
from panns_litert.measure.report import Rung
from panns_litert.pictures import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.colors import LogNorm

_MARKERS = "osD^vP*X<>"
_LEAST, _MOST = 1e-7, 0.3  # range of the colours; errors outside of it get the colour of the nearer end


class _Point(NamedTuple):
    rung: Rung
    megabytes: float
    ms: float
    error: float


def plot_rungs(rungs: Sequence[Rung], path: str | os.PathLike[str]) -> None:
    """Draws every rung whose time and agreement are known. A line joins the rungs of a model.

    The colour shows the largest error of a probability, the marker shows the precision, and a black edge marks the
    Pareto front. The same rungs give the same file.

    Args:
        rungs: result of `panns_litert.measure.report.join`.
        path: a .png or .svg file; written atomically.

    Raises:
        RecordError: no rung has both a time and an agreement.
        PictureError: another suffix.
        ResultsError: the file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    points = [
        _Point(rung, rung.file.model_bytes / 1e6, rung.fastest.ms.median, rung.agreement.max_abs_prob)
        for rung in rungs
        if rung.fastest is not None and rung.agreement is not None
    ]
    if not points:
        raise RecordError("no run has both a time and an agreement; expected at least one to draw")
    devices = sorted({point.rung.device.name for point in points})
    precisions = sorted({point.rung.file.precision for point in points}, key=lambda name: (name[:2] != "fp", name))
    markers = {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(precisions)}
    with drawing(path, size=(1.5 + 6.5 * len(devices), 6.0), dpi=110) as figure:
        from matplotlib.colors import LogNorm
        from matplotlib.lines import Line2D
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        panels = figure.subplots(1, len(devices), squeeze=False, sharex=True, sharey=True)[0]
        norm = LogNorm(_LEAST, _MOST)
        for axes, device in zip(panels, devices, strict=True):
            drawn = _draw(axes, [point for point in points if point.rung.device.name == device], markers, norm)
            axes.set(title=device, xscale="log", yscale="log", xlabel="MB of the .tflite")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
            axes.grid(which="major", color="#e6e6e6")
            axes.margins(0.15)
        panels[0].set_ylabel("ms, fastest engine of the device")
        legend = [
            Line2D([], [], linestyle="", color="#888888", marker=marker, label=name) for name, marker in markers.items()
        ]
        legend.append(
            Line2D(
                [], [], linestyle="", marker="o", markerfacecolor="none", markeredgecolor="black", label="Pareto front"
            )
        )
        panels[0].legend(handles=legend, fontsize=8)
        bar = figure.colorbar(drawn, ax=list(panels), label="largest error of a probability against PyTorch")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))


def _draw(axes: Axes, points: Sequence[_Point], markers: dict[str, str], norm: LogNorm) -> PathCollection:
    """Draws one device's points, at least one. Returns what the colour bar is made from."""
    lines: dict[tuple[str, str, float], list[_Point]] = {}
    for point in points:
        file = point.rung.file
        lines.setdefault((file.model, file.graph, file.clip_seconds), []).append(point)
    for (model, graph, seconds), line in lines.items():
        axes.plot([p.megabytes for p in line], [p.ms for p in line], color="#cccccc", linewidth=1.0, zorder=1)
        for point in line:
            drawn = axes.scatter(
                [point.megabytes],
                [point.ms],
                c=[min(max(point.error, _LEAST), _MOST)],
                cmap="viridis_r",
                norm=norm,
                marker=markers[point.rung.file.precision],
                s=70,
                edgecolors="black" if point.rung.pareto else "#cccccc",
                linewidths=1.4 if point.rung.pareto else 0.6,
                zorder=2,
            )
        name = model if graph == "logmel" and seconds == 10 else f"{model}, {graph}, {seconds:g} s"
        at = (line[0].megabytes, line[0].ms)
        axes.annotate(name, at, xytext=(7, 5), textcoords="offset points", fontsize=8)
    return drawn
