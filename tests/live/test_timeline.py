"""The time line of a source: what a rate that changes at any moment does to it."""

from __future__ import annotations

import numpy as np
import pytest

from panns_litert.live.parts import Heard, Lost
from panns_litert.live.timeline import Timeline

RATE = 16000


@pytest.mark.parametrize("changes", [1, 5, 30])  # the first blocks are held until their times are known
def test_a_rate_that_changes(changes: int) -> None:
    line = Timeline(RATE, channel=None, settle=1.0, late=5.0, past=3.0)
    parts: list[Heard | Lost] = []
    now, before = 0.0, 0
    line.start(now, 0.0)
    for rate in [8000] * changes + [48000] * 40:
        if rate != before:
            parts += line.restart(rate, 0.0)
            before = rate
        times = now + np.arange(rate // 10) / rate
        now += 0.1
        parts += line.push(np.sin(2 * np.pi * 440 * times)[:, None].astype(np.float32), now, 0.0)
    parts += line.finish(0.0)
    heard = np.concatenate([part.samples for part in parts if isinstance(part, Heard)])
    assert not any(isinstance(part, Lost) for part in parts)
    assert len(heard) == round(now * RATE)
    wanted = np.sin(2 * np.pi * 440 * np.arange(len(heard)) / RATE)
    assert np.sqrt(np.mean((heard - wanted) ** 2)) < 0.1, "the same tone all the time"
