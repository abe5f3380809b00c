"""The listener: tags several sources of live sound with one model, and tells sinks what starts and ends."""

from __future__ import annotations

import bisect
import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError, WindowError, why_failed
from panns_litert.events import EventChange, EventSettings
from panns_litert.live.clock import iso_time
from panns_litert.live.parts import EventNotice, Heard, LossNotice, Lost, Notice, Sink, Source
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import HOP_SECONDS, LiveEvents, StreamTagger, Window
from panns_litert.words import counted

SLOWER = "the model is slower than the sound"
"""The cause of the losses that the listener makes itself."""

_LOG = logging.getLogger(__name__)
_LEAST_BEHIND = 4.0  # seconds; a shorter pause of the computer loses nothing
_MOST_FAILURES = 10  # windows in a row that the model may fail on
_MOST_CAUSES = 20  # of losses that are counted apart; a cause may contain numbers
_OTHER_CAUSES = "other causes"
_MOST_TIMES, _TIMES_SECONDS = 4096, 1.0  # times of the clock that are remembered, and how far they lie apart
_OPENING = 30.0  # seconds that a live source may take to begin, if `run` is for a limited time
_TAGGING_END, _READERS_END, _SINKS_END = 5.0, 2.0, 10.0  # seconds that they may take at the end


@dataclass(kw_only=True)
class SourceListened:
    """What was heard of one source.

    Attributes:
        name: of the source.
        seconds: its length so far, with what was lost.
        heard: seconds that were heard and passed to the model.
        lost: seconds that were lost, by cause; with `skipped`.
        skipped: seconds that were left out because the model was slower than the sound.
        windows: windows that were tagged.
        unusable: windows that were not tagged because of their samples.
        failed: windows on which the model failed.
        events: events that were told.
        error: why the source ended, if it was an error.
    """

    name: str
    seconds: float = 0.0
    heard: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)
    skipped: float = 0.0
    windows: int = 0
    unusable: int = 0
    failed: int = 0
    events: int = 0
    error: str | None = None

    def copy(self) -> SourceListened:
        """Returns a copy, which does not change any more."""
        return replace(self, lost=dict(self.lost))

    def add_loss(self, lost: Lost) -> None:
        """Adds a loss."""
        self.seconds += lost.seconds
        why = lost.why if lost.why in self.lost or len(self.lost) < _MOST_CAUSES else _OTHER_CAUSES
        self.lost[why] = self.lost.get(why, 0.0) + lost.seconds
        self.skipped += lost.seconds if lost.why == SLOWER else 0.0

    def __str__(self) -> str:
        text = f"{self.heard:.1f} s heard, {counted(self.windows, 'window')}, {counted(self.events, 'event')}"
        text += "".join(f"; {seconds:.1f} s lost: {why}" for why, seconds in self.lost.items())
        text += f"; {counted(self.unusable, 'unusable window')}" if self.unusable else ""
        text += f"; the model failed on {counted(self.failed, 'window')}" if self.failed else ""
        return f"{self.name}: {text}" + (f"; ended: {self.error}" if self.error else "")


@dataclass(frozen=True, kw_only=True)
class Listened:
    """What was heard.

    Attributes:
        sources: by source, in the order of the listener's.
        problems: what sinks could not deliver, one sentence each.
    """

    sources: tuple[SourceListened, ...]
    problems: tuple[str, ...]


class Listener:
    """Tags live sound, and tells sinks the events in it as they start and end.

    A thread for each source reads its sound; one thread runs the model for all sources in turns of one hop, and calls
    the sinks. If the model is slower than the sound of a live source, the newest sound is tagged first: as soon as more
    than `behind` seconds wait, the older half is skipped, and a `LossNotice` says so. A source that is not live, such
    as a file at full speed, waits instead.

    A loss shorter than a window makes the windows around it unusable. At a longer one, open events end, and tagging
    begins anew at the true time after it.

    Args:
        tagger: the model.
        sources: where sound comes from: mono, at the model's sample rate. Their names differ.
        sinks: where notices go.
        hop: seconds from one window to the next.
        settings: thresholds of the events.
        sense: transforms the scores of each window first.
        behind: seconds of a live source's sound that may wait for the model, at least a window; two windows, and at
            least 4 s, if not given.
        tell: gets a message in one line for people: a source ended with an error, the model failed.

    Raises:
        AudioError: there is no source, or two have one name.
        WindowError: `hop` or `behind` is out of range.
        LabelError: the settings name an unknown class.
    """

    def __init__(
        self,
        tagger: Tagger,
        sources: Sequence[Source],
        sinks: Sequence[Sink] = (),
        *,
        hop: float = HOP_SECONDS,
        settings: EventSettings | None = None,
        sense: Sense | None = None,
        behind: float | None = None,
        tell: Callable[[str], object] = _LOG.warning,
    ) -> None:
        names = [source.name for source in sources]
        if not names or len(set(names)) < len(names):
            raise AudioError(
                f"sources {', '.join(map(repr, names)) or 'none'}; expected one or more, with names that differ"
            )
        self._sense = Sense(tagger.labels) if sense is None else sense
        self._rate = tagger.bundle.manifest.front_end.sample_rate
        self._sinks, self._tell = tuple(sinks), tell
        self._sink_problems: dict[str, str] = {}
        self._scored = tuple(sink for sink in sinks if type(sink).window is not Sink.window)
        self._changed = threading.Condition()  # guards the waiting sound and the flags
        self._settings, self._settings_count = settings, 0
        self._stopping = self._ran = False
        streams = [StreamTagger(tagger, hop=hop) for _ in sources]
        self.window, self.hop = streams[0].window, streams[0].hop
        self.behind = max(2 * self.window, _LEAST_BEHIND) if behind is None else behind
        if not self.behind >= self.window:
            raise WindowError(f"behind = {behind!r}; expected seconds, at least a window of {self.window:g}")
        run = f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(3)}"  # no two listeners have one
        self._channels = [
            _Channel(
                source,
                _Waiting(self._changed, self._rate, most=self.behind, keep=max(self.window, self.behind / 2)),
                stream,
                LiveEvents(stream, settings=settings, sense=self._sense),
                f"{run}-{number}",
            )
            for number, (source, stream) in enumerate(zip(sources, streams, strict=True), 1)
        ]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes whose scores and events the sinks get."""
        return self._sense.labels

    @property
    def settings(self) -> EventSettings | None:
        """The thresholds from the next window on."""
        return self._settings

    def set_settings(self, settings: EventSettings) -> None:
        """Changes the thresholds from the next window on. Any thread may call it.

        An event that is open goes on until its score falls below its new `off`.

        Raises:
            LabelError: the settings name an unknown class. The former ones stay.
        """
        LiveEvents(self._channels[0].stream, settings=settings, sense=self._sense)  # raises here, not while tagging
        with self._changed:
            self._settings, self._settings_count = settings, self._settings_count + 1

    @property
    def listened(self) -> Listened:
        """What was heard so far."""
        problems = [problem for sink in self._sinks for problem in sink.problems]
        return Listened(
            sources=tuple(channel.listened.copy() for channel in self._channels),
            problems=(*problems, *self._sink_problems.values()),
        )

    def time(self, source: str, seconds: float) -> float:
        """Returns when a moment of a source was heard, in seconds since the epoch. Sinks may call it.

        Args:
            source: name of the source.
            seconds: the moment, in seconds since the source's first sample; one of about the last hour.
        """
        return next(channel for channel in self._channels if channel.source.name == source).time(seconds)

    def stop(self) -> None:
        """Ends `run` soon: sound that waits is not tagged, and open events end. Any thread may call it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for channel in self._channels:
            channel.source.close()

    def run(self, seconds: float | None = None) -> Listened:
        """Listens until all sources have ended. Then open events end, and the sinks are closed.

        A source that ends with an error does not end the others. Ctrl-C ends listening as `stop` does, and is raised
        afterwards. A listener runs once.

        Args:
            seconds: how much of each source to hear, with what it loses.

        Raises:
            AudioError, MissingDependencyError: nothing was heard, because of this error of the first source.
            AudioError: the listener has run before.
            PannsLitertError: the model failed on ten windows in a row.
        """
        if self._ran:
            raise AudioError("this listener has run; expected a new one for each run")
        self._ran = True
        most = math.inf if seconds is None else max(1, round(seconds * self._rate))
        failures: list[BaseException] = []

        def tag() -> None:
            try:
                self._tag(most)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=self._read, args=(channel,), daemon=True) for channel in self._channels]
        threads.insert(0, threading.Thread(target=tag, daemon=True))
        for thread in threads:
            thread.start()
        latest = time.monotonic() + (math.inf if seconds is None else seconds + self.behind + _OPENING)
        try:
            while threads[0].is_alive():
                threads[0].join(1.0)
                for channel in self._channels:
                    if channel.source.live and time.monotonic() > latest:  # its sound does not come any more
                        channel.source.close()
        finally:  # also at Ctrl-C, which only the main thread gets
            self.stop()
            _join(threads[:1], _TAGGING_END)
            _join(threads[1:], _READERS_END)  # one may wait in a read that nothing ends
            self._close_sinks()
        if failures:
            raise failures[0]
        errors = [channel.error for channel in self._channels]
        if errors[0] is not None and None not in errors and not any(c.listened.seconds for c in self._channels):
            raise errors[0]
        return self.listened

    def _read(self, channel: _Channel) -> None:
        """Reads a source until it ends."""
        waiting = channel.waiting
        try:
            with channel.source as source:
                for item in source:
                    if not waiting.put(item, live=source.live):
                        return
        except Exception as error:  # of any library that brings sound; the other sources go on
            if not waiting.closed:
                channel.error = error
        finally:
            waiting.end()

    def _tag(self, most: float) -> None:
        """Tags the sound of all sources, in turns of a hop, until they have ended."""
        listening, count = list(self._channels), 0
        try:
            while listening:
                with self._changed:
                    while not (self._stopping or any(channel.waiting for channel in listening)):
                        self._changed.wait()
                    if self._stopping:
                        break
                    settings, changes = self._settings, self._settings_count
                if changes != count:
                    count = changes
                    for channel in listening:
                        channel.events.set_settings(settings)
                listening = [channel for channel in listening if not channel.waiting or self._turn(channel, most)]
        finally:
            for channel in self._channels:
                channel.waiting.close()
            for channel in listening:
                self._notify(channel.notices(channel.events.finish()))

    def _turn(self, channel: _Channel, most: float) -> bool:
        """Tags a hop of a source's sound, if there is as much. Returns whether more may follow.

        Args:
            channel: the source.
            most: number of samples of the source to hear.
        """
        items, ended = channel.waiting.take(round(self.hop * self._rate))
        for item in items:
            left = most - channel.position
            if left <= 0:
                break
            if isinstance(item, Lost):
                self._lose(channel, item)
            else:
                samples = item.samples if len(item.samples) <= left else item.samples[: int(left)]
                start = channel.position / self._rate
                for sink in self._sinks:
                    self._call(sink, partial(sink.samples, channel.source.name, samples, start))
                channel.hear(samples, item.time)
                self._windows(channel, partial(channel.stream.push, samples))
        if channel.position < most and not ended:
            return True
        channel.waiting.close()
        channel.source.close()
        self._windows(channel, channel.stream.finish)
        self._notify(channel.notices(channel.events.finish()))
        if channel.error is not None:
            channel.listened.error = why_failed(channel.source.name, channel.error)
            if channel.position or len(self._channels) > 1:  # otherwise `run` raises it
                self._tell(f"{channel.source.name} ended: {channel.listened.error}")
        return False

    def _lose(self, channel: _Channel, lost: Lost) -> None:
        """Passes over sound that was lost."""
        samples = round(lost.seconds * self._rate)
        notice = channel.lose(lost)
        if samples < round(self.window * self._rate) and not lost.last:  # NaN: the windows around it are not tagged
            channel.position += samples
            self._notify([notice])
            self._windows(channel, partial(channel.stream.push, np.full(samples, np.nan, np.float32)))
            return
        # What came before is tagged, unless there is no time for it.
        if lost.why == SLOWER:
            channel.stream.discard()
        else:
            self._windows(channel, channel.stream.finish)
        self._notify([notice])
        channel.position += samples
        channel.base = channel.position / self._rate
        self._notify(channel.notices(channel.events.skip(channel.base)))

    def _windows(self, channel: _Channel, run: Callable[[], Sequence[Window]]) -> None:
        """Runs the model, and passes on its windows and what changes with them."""
        try:
            found, failed = run(), None
        except Exception as error:  # the next call returns the windows before it
            found, failed = (), error
        for window in found:
            channel.failures = 0
            channel.listened.unusable += window.unusable is not None
            channel.listened.windows += window.unusable is None
            if self._scored:
                scores = np.asarray(self._sense(window.probs, level_dbfs=window.level_dbfs), np.float64)
                true = replace(window, start=channel.base + window.start, end=channel.base + window.end)
                for sink in self._scored:
                    self._call(sink, partial(sink.window, channel.source.name, true, scores))
            self._notify(channel.notices(channel.events.push(window)))
        if failed is not None:
            channel.failures += 1
            channel.listened.failed += 1
            self._notify([channel.not_tagged(failed, self.hop)])
            if channel.failures >= _MOST_FAILURES:
                raise failed

    def _notify(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            for sink in self._sinks:
                self._call(sink, partial(sink.notice, notice))

    def _call(self, sink: Sink, call: Callable[[], object]) -> None:
        """Calls a sink. Its error does not end listening, but its end does: nobody reads what it writes any more."""
        try:
            call()
        except Exception as error:
            if sink.name not in self._sink_problems:
                self._tell(f"{sink.name}: {why_failed(sink.name, error)}")
            self._sink_problems[sink.name] = f"{sink.name}: failed, last with {type(error).__name__}: {error}"
        if sink.ended:
            self.stop()

    def _close_sinks(self) -> None:
        """Closes the sinks at the same time: each may take a few seconds."""
        closing = [threading.Thread(target=self._call, args=(sink, sink.close), daemon=True) for sink in self._sinks]
        for thread in closing:
            thread.start()
        _join(closing, _SINKS_END)


class _Waiting:
    """Sound of a source that waits for the model: what `put` brings, in order, until `end`.

    Args:
        changed: the lock, which is notified of each change.
        rate: sample rate, Hz.
        most: seconds that may wait.
        keep: seconds that are kept of live sound if more than `most` wait: the newest.
    """

    def __init__(self, changed: threading.Condition, rate: int, *, most: float, keep: float) -> None:
        self._changed, self.rate = changed, rate
        self._most, self._keep = round(most * rate), round(keep * rate)
        self._items: deque[Heard | Lost] = deque()
        self._samples = 0
        self._ended = False
        self.closed = False  # nobody takes any more

    def __bool__(self) -> bool:
        return bool(self._items) or self._ended

    def put(self, item: Heard | Lost, *, live: bool) -> bool:
        """Adds an item. Returns whether more is wanted. If the source is not live, waits for room first."""
        with self._changed:
            while not live and self._samples >= self._most and not self.closed:
                self._changed.wait()
            if self.closed:
                return False
            self._items.append(item)
            if isinstance(item, Heard):
                self._samples += len(item.samples)
            if live and self._samples > self._most:
                self._skip()
            self._changed.notify_all()
            return True

    def _skip(self) -> None:
        """Replaces the oldest sound by a loss. What the source itself lost stays a loss of its own."""
        kept: deque[Heard | Lost] = deque()
        while self._samples > self._keep and len(self._items) > 1:
            item = self._items.popleft()
            if isinstance(item, Heard):
                self._samples -= len(item.samples)
                item = Lost(seconds=len(item.samples) / self.rate, why=SLOWER, time=item.time)
            before = kept[-1] if kept else None
            if isinstance(before, Lost) and before.why == item.why:
                kept[-1] = replace(before, seconds=before.seconds + item.seconds)
            else:
                kept.append(item)
        self._items.extendleft(reversed(kept))

    def end(self) -> None:
        """Nothing will be added any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing will be taken any more."""
        with self._changed:
            self.closed = True
            self._items.clear()
            self._changed.notify_all()

    def take(self, samples: int) -> tuple[list[Heard | Lost], bool]:
        """Takes items with up to `samples` samples. Returns them, and whether they are the last ones."""
        taken: list[Heard | Lost] = []
        with self._changed:
            while self._items and samples > 0:
                item = self._items.popleft()
                if isinstance(item, Heard):
                    if len(item.samples) > samples:
                        rest = replace(item, samples=item.samples[samples:], time=item.time + samples / self.rate)
                        self._items.appendleft(rest)
                        item = replace(item, samples=item.samples[:samples])
                    samples -= len(item.samples)
                    self._samples -= len(item.samples)
                taken.append(item)
            self._changed.notify_all()
            return taken, self._ended and not self._items


class _Channel:
    """A source, and where the thread that tags is in it.

    Attributes:
        source, waiting, stream, events: of this source.
        position: samples so far, with those that were lost.
        base: start of the stream, seconds: the end of the last long loss.
        failures: windows in a row that the model failed on.
        error: what ended the source.
        listened: what was heard so far.
    """

    def __init__(
        self, source: Source, waiting: _Waiting, stream: StreamTagger, events: LiveEvents, prefix: str
    ) -> None:
        self.source, self.waiting, self.stream, self.events, self._prefix = source, waiting, stream, events, prefix
        self._rate = waiting.rate
        self.position = 0
        self.base = 0.0
        self.failures = 0
        self.error: Exception | None = None
        self.listened = SourceListened(name=source.name)
        self._times: deque[tuple[float, float]] = deque(maxlen=_MOST_TIMES)  # seconds of the stream, of the clock

    def hear(self, samples: NDArray[np.float32], at: float) -> None:
        """Notes samples, the first of which was heard at the time `at`."""
        start = self.position / self._rate
        if not self._times or start >= self._times[-1][0] + _TIMES_SECONDS:
            self._times.append((start, at))
        self.position += len(samples)
        self.listened.heard += len(samples) / self._rate
        self.listened.seconds = self.position / self._rate

    def lose(self, lost: Lost) -> LossNotice:
        """Notes a loss."""
        self.listened.add_loss(lost)
        return self._loss(self.position / self._rate, lost.seconds, lost.why, lost.time)

    def not_tagged(self, error: Exception, hop: float) -> LossNotice:
        """Returns the notice of a window that the model failed on."""
        end = self.position / self._rate
        start = max(0.0, end - hop)
        return self._loss(
            start, end - start, f"the model failed: {why_failed(self.source.name, error)}", self.time(start)
        )

    def _loss(self, start: float, seconds: float, why: str, at: float) -> LossNotice:
        return LossNotice(
            kind="lost", source=self.source.name, start=start, seconds=seconds, why=why, time=iso_time(at)
        )

    def notices(self, changes: Sequence[EventChange]) -> list[EventNotice]:
        """Returns the notices of changes."""
        self.listened.events += sum(change.phase == "start" for change in changes)
        told = iso_time(time.time())
        return [
            EventNotice(
                kind=change.phase,
                id=f"{self._prefix}-{change.number}",
                source=self.source.name,
                label=change.label,
                index=change.index,
                start=change.start,
                end=change.end,
                score=change.score,
                time=iso_time(self.time(change.start)),
                end_time=iso_time(self.time(change.end)),
                told=told,
            )
            for change in changes
        ]

    def time(self, seconds: float) -> float:
        """Returns the time of the clock at which a moment of the stream was heard."""
        if not self._times:
            return time.time()
        place = max(0, bisect.bisect_right(self._times, seconds, key=lambda entry: entry[0]) - 1)
        start, at = self._times[place]
        return at + seconds - start


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    """Waits for threads to end, but not longer than `seconds`."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
