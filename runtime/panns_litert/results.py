"""How results are shown and converted: as dictionaries, as short texts, and as HTML in notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.escape import escaped

_SHOWN = 3
"""Number of tags in a short text."""


class Row:
    """A result whose fields are texts and numbers: a row of a table. `pandas.DataFrame` takes a list of them."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


def short(scores: Sequence[tuple[str, float]]) -> str:
    """Returns the first scores, given by name, in a few words.

    >>> short([("Siren", 0.981), ("Alarm", 0.2), ("Bell", 0.1), ("Dog", 0.04)])
    'Siren 0.98, Alarm 0.20, Bell 0.10, … (4 in all)'
    """
    texts = [f"{escaped(name)} {score:.2f}" for name, score in scores[:_SHOWN]]
    return ", ".join([*texts, f"… ({len(scores)} in all)"] if len(scores) > _SHOWN else texts) or "none"


def bars(
    title: str,
    scores: Sequence[tuple[str, float]],
    *,
    times: NDArray[np.float64] | None = None,
    over_time: NDArray[np.float32] | None = None,
) -> str:
    """Returns a table as HTML, with a bar for each score and, if there are several steps, the scores over time.

    Args:
        title: text above the table.
        scores: names and scores, 0 … 1.
        times: (n + 1,) seconds, the edges of the steps.
        over_time: (n, scores) of each step, 0 … 1.
    """
    rows = []
    timed = times is not None and over_time is not None and len(over_time) > 1
    for k, (name, score) in enumerate(scores):
        bar = f'<div style="width:{100 * score:.1f}%;height:.8em;background:#2a78c4"></div>'
        cells = f"<td>{score:.3f}</td><td style='width:8em'>{bar}</td>"
        if timed:
            cells += f"<td style='width:24em'>{_steps(times, over_time[:, k])}</td>"  # type: ignore[index, arg-type]
        rows.append(f"<tr><td style='text-align:left'>{html.escape(escaped(name))}</td>{cells}</tr>")
    if timed:
        span = f"<span>{times[0]:.0f} s</span><span>{times[-1]:.0f} s</span>"  # type: ignore[index]
        axis = f"<div style='display:flex;justify-content:space-between'>{span}</div>"
        rows.append(f"<tr><td></td><td></td><td></td><td>{axis}</td></tr>")
    body = "".join(rows) or "<tr><td>no class</td></tr>"
    return f"<table><caption>{html.escape(escaped(title))}</caption><tbody>{body}</tbody></table>"


def _steps(times: NDArray[np.float64], scores: NDArray[np.float32]) -> str:
    """Returns the scores of one class over time as an SVG: the darker a step, the higher its score."""
    length = float(times[-1] - times[0])
    marks = "".join(
        f'<rect x="{a - times[0]:.3f}" width="{b - a:.3f}" height="1" fill-opacity="{score:.2f}"/>'
        for a, b, score in zip(times[:-1], times[1:], scores, strict=True)
        if score >= 0.005
    )
    style = "display:block;width:100%;height:.8em;outline:1px solid #8886;fill:#2a78c4"
    return f'<svg viewBox="0 0 {length:.3f} 1" preserveAspectRatio="none" style="{style}">{marks}</svg>'
