"""The time axis of pictures: the positions of its ticks, and the format of times."""

from __future__ import annotations

import math

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def ticks(seconds: float, *, most: int = 12) -> list[float]:
    """Returns round times from 0 to `seconds`, seconds; at most `most` + 1 of them.

    >>> ticks(25.0)
    [0, 5, 10, 15, 20, 25]
    """
    step = next((step for step in _STEPS if seconds <= most * step), 86400 * math.ceil(seconds / (most * 86400)))
    return [round(i * step, 1) if step < 1 else i * step for i in range(math.floor(seconds / step + 1e-6) + 1)]


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Formats a time as m:ss or h:mm:ss, cut down to whole seconds or, with `tenths`, to tenths.

    >>> clock(75), clock(3675.25, tenths=True)
    ('1:15', '1:01:15.2')
    """
    whole = int(seconds)
    tenth = int(10 * (seconds - whole) + 1e-6)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{text}.{tenth}" if tenths else text
