"""When samples were heard: sound line that run too fast or too slow, late blocks, and a clock that is set."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_litert.errors import AudioError
from panns_litert.live import SampleClock, clock, elapsed_time, iso_time, wall_offset

RATE = 48000
HOURS = 6
EPOCH = 1.75e9
STEP = 0.25  # seconds of a block


def heard_for_hours(*, ppm: float, jitter: float, busy: float, step: float, seed: int) -> tuple[float, bool]:
    """Simulates a sound card for 6 hours: returns the largest error, in seconds, and whether times never decreased.

    Blocks are late by an exponential `jitter`, and in bursts: with a chance of `busy` per second the computer takes
    none for up to 3 s, and then all at once. The wall clock is set by `step` in the middle, where times may decrease.
    The first 5 s do not count: there may be no early block yet.
    """
    rng = np.random.default_rng(seed)
    count = round(HOURS * 3600 / STEP)
    positions = np.arange(1, count + 1) * round(RATE * STEP)
    true = 1000.0 + positions / (RATE * (1 + ppm * 1e-6))
    arrivals = true + 0.01 + rng.exponential(jitter, count)
    for start in np.flatnonzero(rng.random(count) < busy * STEP):
        end = int(np.searchsorted(true, true[start] + rng.uniform(0, 3)))
        arrivals[start:end] = np.maximum(arrivals[start:end], arrivals[end - 1])
    arrivals = np.maximum.accumulate(arrivals)
    line, stepped, found = SampleClock(RATE), count // 2, np.empty(count)
    offsets = EPOCH + np.where(np.arange(count) < stepped, 0.0, step)
    read = offsets + rng.uniform(-1e-3, 1e-3, count)
    for k, (position, arrival, offset) in enumerate(zip(positions.tolist(), arrivals.tolist(), read, strict=True)):
        line.add(position, arrival, offset)
        found[k] = line.time(position)
    errors = np.abs(found - true - offsets)[round(5 / STEP) :]
    return float(errors.max()), bool(np.all(np.delete(np.diff(found), stepped - 1) >= 0))


@settings(max_examples=8)
@given(
    ppm=st.floats(-200, 200),
    jitter=st.floats(0.0005, 0.02),
    busy=st.floats(0, 0.02),
    step=st.floats(-3600, 3600),
    seed=st.integers(0, 2**32 - 1),
)
def test_six_hours_of_a_sound_card(ppm: float, jitter: float, busy: float, step: float, seed: int) -> None:
    error, growing = heard_for_hours(ppm=ppm, jitter=jitter, busy=busy, step=step, seed=seed)
    assert error < 0.05
    assert growing


def test_a_clock_that_takes_the_nominal_rate_drifts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property above can fail."""
    monkeypatch.setattr(clock, "_MOST_ERROR", 0.0)
    assert heard_for_hours(ppm=-200.0, jitter=0.001, busy=0.0, step=0.0, seed=1)[0] > 0.05


def test_small_changes_of_the_wall_clock_are_not_followed() -> None:
    line = SampleClock(100)
    line.add(100, 11.0, 500.0)
    assert line.time(100) == 511.0
    line.set_offset(500.009)
    assert line.time(100) == 511.0
    line.set_offset(500.011)  # since the last step, all in all
    assert line.time(100) == 511.011
    line.set_offset(400.0)
    assert line.time(100) == 411.0


def test_a_clock_without_arrivals() -> None:
    line = SampleClock(RATE)
    assert not line.ready
    assert np.isnan(line.time(0))
    with pytest.raises(AudioError, match="rate = 0; expected a sample rate in Hz, > 0"):
        SampleClock(0)


def test_the_clocks_of_this_computer() -> None:
    assert abs(wall_offset() + elapsed_time() - time.time()) < 0.05
    before = elapsed_time()
    time.sleep(0.05)
    assert 0.05 <= elapsed_time() - before < 5.0


@pytest.fixture
def berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("utc", "text"),
    [
        ("2026-01-15T11:00:00.1234", "2026-01-15T12:00:00.123+01:00"),
        ("2026-07-15T10:00:00.9996", "2026-07-15T12:00:01.000+02:00"),
        ("2026-10-25T00:30:00", "2026-10-25T02:30:00.000+02:00"),  # the hour that comes twice
        ("2026-10-25T01:30:00", "2026-10-25T02:30:00.000+01:00"),
        ("2026-03-29T01:00:00", "2026-03-29T03:00:00.000+02:00"),  # behind the hour that does not come
    ],
)
def test_times_have_the_zone_of_their_instant(utc: str, text: str) -> None:
    seconds = datetime.datetime.fromisoformat(f"{utc}+00:00").timestamp()
    assert iso_time(seconds) == text
    assert datetime.datetime.fromisoformat(text).timestamp() == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e20, "noon", None])
def test_what_is_no_time(seconds: object) -> None:
    with pytest.raises(AudioError, match="expected seconds since the epoch"):
        iso_time(seconds)  # type: ignore[arg-type]
