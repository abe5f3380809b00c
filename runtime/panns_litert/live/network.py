"""A network stream as a source, which is connected again when it breaks off."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import NetworkStream, plain_url, require_av
from panns_litert.errors import AudioError, PannsLitertError, StreamError
from panns_litert.live.clock import elapsed_time, wall_offset
from panns_litert.live.parts import Heard, Lost
from panns_litert.live.sources import BaseSource
from panns_litert.live.timeline import Timeline
from panns_litert.strict import shown

MOST_SECONDS = 60.0
"""Seconds of sound that may wait for a slow reader. What comes then is lost."""

_SETTLE_SECONDS = 1.0  # behind a connection, until its first sound is told: servers send some of the past at once
_LATE_SECONDS = 5.0  # by which sound may come late before some is taken to be missing
_PAST_SECONDS = 3.0  # from a connection to its first sound: FFmpeg looks at some of it before
_POLL_SECONDS = 0.2
_FIRST_WAIT, _MOST_WAIT = 0.5, 30.0  # between two tries to connect


class _Block(NamedTuple):
    samples: NDArray[np.float32]
    rate: int
    arrival: float  # elapsed_time
    gap: bool


class NetworkSource(BaseSource):
    """A network stream: HTTP, Icecast, HLS, RTSP or RTMP, in any format that FFmpeg decodes. Needs the extra `media`.

    A connection that breaks off, or from which nothing comes, is opened again: after 0.5 s and then ever longer, up to
    30 s. What was lost meanwhile is told, as by `MicrophoneSource`. Times are those of arrival: the delay of the
    server, often several seconds, is not known here.

    Args:
        url: of the stream; user and password may be in it. They, and the query, are in no message and no name.
        rate: wanted sample rate, Hz.
        channel: number of the channel to take, from 1; the mean of all if not given.
        timeout: seconds to wait for a connection, and for more data, > 0.
        patience: seconds to wait for the first sound, > 0; beyond that, iteration ends with an error.
        name: what notices call it; by default the URL without secrets.

    Raises:
        MissingDependencyError: PyAV is not installed.
        AudioError: no URL of a stream, or an argument is out of range.
        StreamError: in the iteration: the first sound does not come in time, the stream is refused or not decodable.
    """

    live = True

    def __init__(
        self,
        url: str,
        rate: int,
        *,
        channel: int | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        name: str | None = None,
    ) -> None:
        super().__init__(plain_url(url) if name is None else name)
        for what, value in (("timeout", timeout), ("patience", patience)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise AudioError(f"{what} = {shown(value)}; expected seconds, > 0")
        plain_url(url)
        require_av()
        self._url, self._timeout, self._patience = url, timeout, patience
        self._line = Timeline(rate, channel=channel, settle=_SETTLE_SECONDS, late=_LATE_SECONDS, past=_PAST_SECONDS)
        self._news: queue.Queue[_Block | Exception | None] = queue.Queue()
        self._put = self._got = 0.0  # seconds of sound that went through the queue; each is written by one thread

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """What was noticed in the sound so far, one phrase each."""
        return self._line.warnings

    def close(self) -> None:
        super().close()
        self._news.put(None)

    def __iter__(self) -> Iterator[Heard | Lost]:
        # A thread of its own: nothing else could end a read of FFmpeg before its time is up.
        threading.Thread(target=self._receive, name=f"stream {self.name}", daemon=True).start()
        line, begin, problem, rate = self._line, elapsed_time(), "", None
        heard = broken = False
        line.start(begin, wall_offset())
        while not self._closed.is_set():
            try:
                news = self._news.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not heard and elapsed_time() - begin > self._patience:
                    text = f"no sound came within {self._patience:g} s{problem and f' ({problem})'}"
                    raise StreamError(f"{self.name}: {text}; expected a stream that is on the air") from None
                if heard:
                    yield from line.waiting(elapsed_time(), wall_offset())
                continue
            if isinstance(news, _Block):
                heard, broken = True, False
                self._got += len(news.samples) / news.rate
                if news.gap:
                    yield from line.broken("data of the stream are missing", wall_offset())
                if news.rate != rate:
                    rate = news.rate
                    yield from line.restart(rate, wall_offset())
                try:
                    yield from line.push(news.samples, news.arrival, wall_offset())
                except AudioError as error:
                    raise AudioError(f"{self.name}: {error}") from error
            elif news is not None:
                problem = str(news)
                if not isinstance(news, StreamError) or (news.final and not heard):
                    raise StreamError(f"{self.name}: {news}") from news
                if heard and not broken:
                    broken = True
                    yield from line.broken(f"the stream {problem}", wall_offset())

    def _receive(self) -> None:
        """Connects, and puts into the queue what comes, until the source is closed. Runs in a thread."""
        wait, gap = _FIRST_WAIT, False
        while not self._closed.is_set():
            try:
                with NetworkStream(self._url, timeout=self._timeout) as stream:
                    for samples, rate, missing in stream:
                        if self._closed.is_set():
                            return
                        wait, gap = _FIRST_WAIT, gap or missing
                        if self._put - self._got > MOST_SECONDS:
                            gap = True
                            continue
                        self._put += len(samples) / rate
                        self._news.put(_Block(samples, rate, elapsed_time(), gap))
                        gap = False
            except PannsLitertError as error:
                self._news.put(error)
            except Exception as error:  # of a library: the iteration raises it
                self._news.put(error)
                return
            self._closed.wait(wait)
            wait = min(2 * wait, _MOST_WAIT)
