"""A picture of all rungs: size × time × agreement, one panel a device. Takes matplotlib, the extra `plot`."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panns_litert.atomic import replacing
from panns_litert.errors import RecordError
from panns_litert.measure.report import Rung
from panns_litert.pictures import picture_format

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm

_MARKERS = "osD^vP*X<>"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib's own: the same picture everywhere
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "panns-litert",
}
# An error below that is as good as none, and one above is as bad as any.
_LEAST, _MOST = 1e-7, 0.3


def plot_rungs(rungs: Sequence[Rung], path: str | os.PathLike[str]) -> None:
    """Draws every rung whose time and agreement are known: the rungs of a model are joined by a line.

    The colour is the largest error of a probability; a black edge marks the Pareto front; the form is the precision.
    The same rungs give the same file.

    Args:
        rungs: of `panns_litert.measure.report.join`.
        path: a .png or .svg file; it is written whole or not at all.

    Raises:
        RecordError: there is nothing to draw.
        PictureError: another suffix.
        ResultsError: the file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    form = picture_format(path)
    from matplotlib import style
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = [rung for rung in rungs if rung.fastest is not None and rung.agreement is not None]
    if not shown:
        raise RecordError("no run has both a time and an agreement; expected at least one to draw")
    devices = sorted({rung.device.name for rung in shown})
    precisions = sorted({rung.file.precision for rung in shown}, key=lambda name: (name[:2] != "fp", name))
    markers = {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(precisions)}
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(1.5 + 6.5 * len(devices), 6.0), layout="constrained")
        panels = figure.subplots(1, len(devices), squeeze=False, sharex=True, sharey=True)[0]
        norm = LogNorm(_LEAST, _MOST)
        for axes, device in zip(panels, devices, strict=True):
            drawn = _draw(axes, [rung for rung in shown if rung.device.name == device], markers, norm)
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
        # The layout's solver differs in the last bit from run to run: another name of each clip path in SVG.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            axes.set_position([round(float(v), 6) for v in axes.get_position().bounds])  # type: ignore[arg-type]
        data = io.BytesIO()
        figure.savefig(data, format=form, dpi=110, metadata={"Date": None} if form == "svg" else None)
    with replacing(Path(path)) as file:
        file.write(data.getvalue())


def _draw(axes: Axes, rungs: Sequence[Rung], markers: dict[str, str], norm: LogNorm) -> Any:
    drawn = None
    lines: dict[tuple[str, str, float], list[Rung]] = {}
    for rung in rungs:
        lines.setdefault((rung.file.model, rung.file.graph, rung.file.clip_seconds), []).append(rung)
    for (model, graph, seconds), line in lines.items():
        points = [(rung.file.model_bytes / 1e6, rung.fastest.ms.median) for rung in line if rung.fastest is not None]
        axes.plot(*zip(*points, strict=True), color="#cccccc", linewidth=1.0, zorder=1)
        for rung, (megabytes, ms) in zip(line, points, strict=True):
            error = rung.agreement.max_abs_prob if rung.agreement is not None else math.nan
            drawn = axes.scatter(
                [megabytes],
                [ms],
                c=[min(max(error, _LEAST), _MOST)],
                cmap="viridis_r",
                norm=norm,
                marker=markers[rung.file.precision],
                s=70,
                edgecolors="black" if rung.pareto else "#cccccc",
                linewidths=1.4 if rung.pareto else 0.6,
                zorder=2,
            )
        name = model if graph == "logmel" and seconds == 10 else f"{model}, {graph}, {seconds:g} s"
        axes.annotate(name, points[0], xytext=(7, 5), textcoords="offset points", fontsize=8)
    return drawn
