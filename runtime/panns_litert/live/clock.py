"""When a sample was heard: the computer's clock, and a sound card whose own clock runs a little differently."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from datetime import UTC, datetime

from panns_litert.errors import AudioError
from panns_litert.strict import shown

# A step of the wall clock below this is not followed until it has grown to it: two clocks are not read at one instant.
_STEP = 0.01
_BUCKET, _BUCKETS = 5.0, 120  # the earliest arrival of every 5 s is kept, for 10 minutes
_LEAST_SPAN = 30.0  # seconds of arrivals before a rate is taken from them
_MOST_ERROR = 1e-3  # of a sound card's rate; crystals are within 2e-4


def iso_time(seconds: float) -> str:
    """Returns a time as ISO 8601, in the zone of this computer at that time, with milliseconds.

    Args:
        seconds: since the epoch.

    Raises:
        AudioError: no year 1 … 9999.
    """
    try:
        if not math.isfinite(seconds):
            raise ValueError
        # in UTC first: its `astimezone` asks for the zone of that very instant, also within the hour that comes twice
        return datetime.fromtimestamp(round(seconds, 3), UTC).astimezone().isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise AudioError(f"time = {shown(seconds)}; expected seconds since the epoch") from error


if sys.platform == "linux":

    def elapsed_time() -> float:
        """Returns seconds since some fixed time. No step of the wall clock changes it, and it goes on during sleep."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

elif sys.platform == "darwin":

    def elapsed_time() -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC)  # goes on during sleep there; time.monotonic does not

else:

    def elapsed_time() -> float:
        return time.monotonic()


def awake_time() -> float:
    """Returns seconds since some fixed time, without those in which the computer slept, where it can tell."""
    return time.clock_gettime(time.CLOCK_MONOTONIC) if sys.platform == "linux" else time.monotonic()


def wall_offset() -> float:
    """Returns the wall clock's time, in seconds since the epoch, minus `elapsed_time`."""
    best = offset = math.inf
    for _ in range(5):  # the process may be interrupted between two readings
        before, wall, after = elapsed_time(), time.time(), elapsed_time()
        if after - before < best:
            best, offset = after - before, wall - (before + after) / 2
        if best < 1e-4:
            break
    return offset


class SampleClock:
    """Maps positions in a stream of samples to times, from when its blocks arrived.

    A block arrives late, never early: behind its last sample by what buffers and a busy computer take. The clock is the
    straight line below all arrivals of the last 10 minutes that is nearest to them, so that late blocks do not move it.
    Its slope is the true rate of the sound card (crystals differ by up to 200 ppm). In the first 30 s the nominal rate
    is taken.

    Times of the line are those of `elapsed_time`, which no one sets. The wall clock comes in at the end, by its offset:
    after a step (NTP, a person) all later answers are of the new time. Only a step back makes an answer earlier than
    the one before; otherwise answers for growing positions never decrease.

    Args:
        rate: nominal sample rate, Hz, > 0.

    >>> clock = SampleClock(8000)
    >>> for k in range(1, 5):
    ...     clock.add(k * 800, 100.0 + k * 0.1, 1.7e9)
    >>> round(clock.time(1600) - 1.7e9, 6)
    100.2
    """

    def __init__(self, rate: float) -> None:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
            raise AudioError(f"rate = {shown(rate)}; expected a sample rate in Hz, > 0")
        self._rate = float(rate)
        self._least: deque[tuple[float, float]] = deque(maxlen=_BUCKETS)  # of each bucket: seconds, arrival - seconds
        self._slope, self._level = 0.0, math.inf  # of the line: arrival - seconds over seconds
        self._next_bucket = -math.inf
        self._offset: float | None = None
        self._last = (-math.inf, -math.inf)

    @property
    def ready(self) -> bool:
        """Whether a block arrived so far."""
        return bool(self._least)

    def add(self, position: int, arrival: float, offset: float) -> None:
        """Takes an arrival.

        Args:
            position: samples of the stream up to the end of the block that arrived; not less than before.
            arrival: `elapsed_time` then.
            offset: `wall_offset` then.
        """
        seconds = position / self._rate
        late = arrival - seconds
        if seconds >= self._next_bucket:
            self._next_bucket = seconds + _BUCKET
            self._least.append((seconds, late))
            self._fit()
        elif late < self._least[-1][1]:
            self._least[-1] = (seconds, late)
        self._level = min(self._level, late - self._slope * seconds)
        self.set_offset(offset)

    def set_offset(self, offset: float) -> None:
        """Takes the wall clock's offset, as for `add`, without an arrival."""
        if self._offset is None or abs(offset - self._offset) > _STEP:
            self._offset = offset

    def _fit(self) -> None:
        """Lays the line: of the edges of the lower convex hull, the one over the mean of the times is the line below
        all points whose distance to them is least in sum (Moon, Skelly and Towsley, INFOCOM 1999)."""
        hull: list[tuple[float, float]] = []
        for x, y in self._least:
            while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (y - hull[-2][1]) * (
                hull[-1][0] - hull[-2][0]
            ):
                hull.pop()
            hull.append((x, y))
        self._slope = 0.0
        if self._least[-1][0] - self._least[0][0] >= _LEAST_SPAN:
            mean = sum(x for x, _ in self._least) / len(self._least)
            right = next(k for k, (x, _) in enumerate(hull) if x > mean)
            (x0, y0), (x1, y1) = hull[right - 1], hull[right]
            self._slope = min(max((y1 - y0) / (x1 - x0), -_MOST_ERROR), _MOST_ERROR)
        self._level = min(y - self._slope * x for x, y in self._least)

    def elapsed(self, position: float) -> float:
        """Returns the `elapsed_time` at which a position was or will be heard, as far as is known now. NaN before any
        arrival."""
        if not self._least:
            return math.nan
        seconds = position / self._rate
        return seconds + self._level + self._slope * seconds

    def time(self, position: float) -> float:
        """Returns when a position was heard, in seconds since the epoch. NaN before any arrival."""
        if self._offset is None:
            return math.nan
        found = self.elapsed(position)
        if position >= self._last[0]:
            found = max(found, self._last[1])
            self._last = (position, found)
        return found + self._offset
