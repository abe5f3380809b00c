"""Timeline: log-mel, scores and events of a recording over time. Its size is limited, whatever the recording's length.

`timeline` reads a recording once. `panns_litert.pictures.plot` and `panns_litert.pictures.page` draw the result.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import AudioBlocks, Scale
from panns_litert.escape import escaped
from panns_litert.events import Event, EventSettings, WindowSteps
from panns_litert.frontend import FrontEndSpec, StreamingLogMel
from panns_litert.results import bars, short
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger, require_choice
from panns_litert.windows import Aggregate, Columns, EventStream, StreamTagger, Window, event_hop
from panns_litert.words import counted

# A picture is about a thousand pixels wide. When the columns become more than the limit, pairs of them are merged.
# There are then still at least half as many columns as the limit.
_MOST_COLUMNS = 2000
_MOST_STEPS = 1000

_TOLERANCE = 1e-6  # frames; seconds divided by the hop of a frame are not exactly whole numbers


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Timeline:
    """Log-mel, scores and events of one recording over time.

    Attributes:
        source: path of the file.
        model: name of the model.
        window, hop: length of the model's windows, and time from one to the next, seconds.
        seconds: length of the recording.
        seconds_heard: length of the usable sound in it.
        warnings: what was wrong with the recording or is missing, one phrase each.
        labels: class names.
        times: (n + 1,) seconds; step i lasts from times[i] to times[i + 1]. The first step begins at 0, the last one
            ends with the recording; n ≤ 1000.
        scores: (n, classes) float32, the highest score within each step, 0 … 1.
        mean: (classes,) float32, the mean score over all windows.
        events: the events, ordered by start.
        logmel_times: (columns + 1,) seconds, like `times`; columns ≤ 2000.
        logmel: (columns, mels) float32, dB, the highest value within each column.
        mel_hz: (mels,) centre of each mel band, Hz, in rising order.
    """

    source: str
    model: str
    window: float
    hop: float
    seconds: float
    seconds_heard: float
    warnings: tuple[str, ...]
    labels: tuple[str, ...]
    times: NDArray[np.float64]
    scores: NDArray[np.float32]
    mean: NDArray[np.float32]
    events: tuple[Event, ...]
    logmel_times: NDArray[np.float64]
    logmel: NDArray[np.float32]
    mel_hz: NDArray[np.float64]

    def __repr__(self) -> str:
        best = short([(self.labels[i], float(self.scores[:, i].max())) for i in self.top(len(self.labels))])
        return f"<Timeline of {self.name}, {self.seconds:.1f} s, {counted(len(self.events), 'event')}: {best}>"

    def _repr_html_(self) -> str:
        """Returns the eight highest classes over time, for notebooks."""
        best = self.top(8)
        scores = [(self.labels[i], float(self.scores[:, i].max())) for i in best]
        title = f"{self.name}, {self.seconds:.1f} s: highest scores"
        return bars(title, scores, times=self.times, over_time=self.scores[:, best])

    @property
    def about(self) -> str:
        """The model, and the length and hop of its windows, for the title of a picture."""
        return f"{escaped(self.model)}, windows of {self.window:g} s every {self.hop:.4g} s"

    @property
    def name(self) -> str:
        """The file's name; characters that cannot be shown are escaped."""
        return escaped(Path(self.source).name)

    def top(self, count: int) -> list[int]:
        """Returns the indices of the classes with the highest scores at any time, highest first, at most `count`.

        Raises:
            AudioError: `count` is not a whole number ≥ 1.
        """
        require_choice(count, 0.0)
        return [int(i) for i in np.argsort(-self.scores.max(axis=0), kind="stable")[:count]]


def timeline(
    tagger: Tagger,
    path: str | os.PathLike[str],
    *,
    channel: int | None = None,
    scale: Scale | None = None,
    hop: float | None = None,
    settings: EventSettings | None = None,
    sense: Sense | None = None,
    progress: Callable[[float], object] = lambda _: None,
) -> Timeline:
    """Computes the timeline of a file. Memory does not grow with the file's length.

    Args:
        tagger: the model.
        path: an audio file.
        channel, scale: as for `load_audio`.
        hop: seconds from the start of one window to the start of the next; the default is `event_hop`.
        settings: thresholds of the events.
        sense: applied to the scores first.
        progress: called after each window with its end, seconds.

    Raises:
        AudioError: the file cannot be used.
        WindowError: the hop is out of range.
        LabelError: the settings name an unknown class.
    """
    manifest = tagger.bundle.manifest
    stream = StreamTagger(tagger, hop=event_hop(tagger) if hop is None else hop)
    sense = Sense(tagger.labels) if sense is None else sense
    hearing = EventStream(stream, settings=settings, sense=sense)
    mean, scores = Aggregate(tagger, sense=sense), _Scores(stream, sense)
    logmel = _LogMelColumns(manifest.front_end, tagger.bundle.mel_basis)
    events: list[Event] = []

    def draw(block: NDArray[np.floating]) -> None:
        logmel.push(np.nan_to_num(block))  # NaN are samples that cannot be used; there the picture shows silence

    with AudioBlocks(path, sample_rate=manifest.front_end.sample_rate, channel=channel, scale=scale) as blocks:
        for window in stream.of(blocks, watch=draw):
            events.extend(hearing.push(window))
            mean.push(window)
            scores.push(window)
            progress(window.end)
    events.extend(hearing.finish())
    found = mean.result(os.fspath(path), heard=blocks)
    end = logmel.seconds  # `found.seconds` is what the header says if that is more
    times, highest = scores.finish(end)
    logmel_times, decibels = logmel.finish(end)
    return Timeline(
        source=found.source,
        model=found.model,
        window=stream.window,
        hop=stream.hop,
        seconds=end,
        seconds_heard=found.seconds_heard,
        warnings=found.warnings,
        labels=sense.labels,
        times=times,
        scores=highest,
        mean=found.probs,
        events=tuple(sorted(events, key=lambda event: (event.start, event.index))),
        logmel_times=logmel_times,
        logmel=decibels,
        mel_hz=_band_centres(manifest.front_end, tagger.bundle.mel_basis),
    )


class _Scores:
    """Turns the scores of overlapping windows into steps that do not overlap.

    A step is a frame if the network has frame-wise scores, else a hop around the centre of a window.
    """

    def __init__(self, stream: StreamTagger, sense: Sense) -> None:
        self._sense, self._frame = sense, stream.frame
        self._steps = WindowSteps(window=stream.window, hop=stream.hop)
        self._margin = (round(stream.window / stream.frame) - round(stream.hop / stream.frame)) // 2
        self._columns = Columns(len(sense.labels), _MOST_STEPS)
        self._last: Window | None = None
        self._next = 0  # first frame of the recording that has not been added yet

    def push(self, window: Window) -> None:
        """Adds the next window."""
        if window.framewise is None:
            for step in self._steps.push(self._sense(window.probs, level_dbfs=window.level_dbfs)):
                self._columns.push(step.scores[None], np.array([step.start]))
        else:  # two windows that overlap give half of the overlap each
            self._take(round(window.start / self._frame) + self._margin)
        self._last = window

    def finish(self, seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Returns the edges (n + 1,), seconds, and the highest scores (n, labels)."""
        for step in self._steps.finish(seconds):
            self._columns.push(step.scores[None], np.array([step.start]))
        self._take(math.ceil(seconds / self._frame - _TOLERANCE))
        return self._columns.finish(seconds)

    def _take(self, stop: int) -> None:
        """Adds the last window's frames before frame `stop` of the recording."""
        if self._last is None or self._last.framewise is None:
            return
        first = round(self._last.start / self._frame)
        frames = self._last.framewise[self._next - first : stop - first]
        starts = self._frame * np.arange(self._next, self._next + len(frames))
        self._columns.push(self._sense(frames, level_dbfs=self._last.level_dbfs), starts)
        self._next += len(frames)


class _LogMelColumns:
    """The log-mel of a stream in dB, in a limited number of columns."""

    def __init__(self, spec: FrontEndSpec, basis: NDArray[np.float32]) -> None:
        self._spec, self._logmel = spec, StreamingLogMel(spec, basis=basis)
        self._columns = Columns(spec.n_mels, _MOST_COLUMNS)
        self._samples, self._frames = 0, 0

    @property
    def seconds(self) -> float:
        """Length of the samples so far."""
        return self._samples / self._spec.sample_rate

    def push(self, samples: NDArray[np.float32]) -> None:
        """Adds the next samples (n,)."""
        self._samples += len(samples)
        self._take(self._logmel.push(samples))

    def finish(self, seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Returns the edges (columns + 1,), seconds, and the columns (columns, mels)."""
        self._take(self._logmel.push(np.zeros(max(0, self._spec.least_samples - self._samples), np.float32)))
        self._take(self._logmel.finish())
        return self._columns.finish(seconds)

    def _take(self, frames: NDArray[np.float32]) -> None:
        spec = self._spec
        centre = 0.0 if spec.center else 0.5 * spec.win_length
        at = spec.hop_length * (np.arange(self._frames, self._frames + len(frames)) - 0.5) + centre
        self._columns.push(_decibels(spec, frames), at / spec.sample_rate)
        self._frames += len(frames)


def _decibels(spec: FrontEndSpec, logmel: NDArray[np.float32]) -> NDArray[np.float32]:
    if spec.affine is not None:
        offset, scale = spec.affine
        logmel = logmel * np.float32(scale) - np.float32(offset)
    return logmel * np.float32(10.0 / math.log(10.0)) if spec.log == "ln" else logmel


def _band_centres(spec: FrontEndSpec, basis: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the centre of gravity of each band, Hz. A band without a bin is placed between its neighbours."""
    weights = basis.sum(axis=1, dtype=np.float64)
    filled = np.flatnonzero(weights)
    hz = np.arange(spec.bins) * (spec.sample_rate / spec.n_fft)
    centres = (basis[filled] @ hz) / weights[filled]
    return np.maximum.accumulate(np.interp(np.arange(len(basis)), filled, centres))
