"""Windows: tags a recording of any length, or a live stream, in overlapping windows of the model's clip length.

The log-mel is computed once per frame, not once per window, and memory does not grow with the recording.
`StreamTagger` takes samples as they arrive. `windows`, `tag_long` and `find_events` feed it from a file, an array or an
iterator.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import AudioBlocks, AudioWarning, MonoResampler, Recording, Scale, level_dbfs
from panns_litert.errors import AudioError, WindowError
from panns_litert.events import TAIL_PERCENT, Event, EventChange, EventDetector, EventSettings, WindowSteps
from panns_litert.frontend import StreamingLogMel
from panns_litert.prototypes import with_enrolled
from panns_litert.results import bars
from panns_litert.sense import Sense
from panns_litert.tagger import NO_EMBEDDING, Tagger, TaggingResult, Threshold, top_tags
from panns_litert.words import counted

AggregateName = Literal["mean", "max"]
AGGREGATES: tuple[AggregateName, ...] = get_args(AggregateName)

HOP_SECONDS = 1.0
"""Default of the hop of a stream and, at most half a window, of events without frame-wise scores."""

_Step = tuple[NDArray[np.floating] | None, float, float]  # scores (classes,) if there are any, start, end

_CHUNK_SAMPLES = 1 << 16  # longer chunks are pushed in parts, so that the first results come early
_FRAMES_AT_ONCE = 64  # a frame alone costs far more, for numpy's calls
_MOST_STEPS = 200  # of the scores over time in a result
_TOLERANCE = 1e-6  # seconds; sums of hops differ by rounding


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Window:
    """The result of one window.

    Attributes:
        index: 0, 1, …
        start, end: seconds. In a recording shorter than a window, the window ends with the recording.
        probs: (classes,) float32, clip-wise probabilities; zeros if the window is unusable.
        embedding: (dim,) float32; zeros if the window is unusable, empty if the model has none.
        framewise: (frames, classes) float32, frame-wise probabilities; None if the network has none.
        level_dbfs: level of the samples, as `audio.level_dbfs`; -inf for silence and if the window is unusable.
        front_end_ms, model_ms: run times in milliseconds. The front end's time is that of this window's new samples.
        padding_seconds: how much of the model's input is padding; more than 0 only if the recording is shorter than it.
        unusable: why the model was not run, for example "NaN, Inf or samples far beyond full scale at 20.000 s"; None
            if it was.
    """

    index: int
    start: float
    end: float
    probs: NDArray[np.float32]
    embedding: NDArray[np.float32]
    framewise: NDArray[np.float32] | None
    level_dbfs: float
    front_end_ms: float
    model_ms: float
    padding_seconds: float = 0.0
    unusable: str | None = None

    def __repr__(self) -> str:
        what = self.unusable or f"{self.level_dbfs:.1f} dBFS, highest probability {self.probs.max():.2f}"
        return f"<Window {self.index}, {self.start:.2f} – {self.end:.2f} s: {what}>"

    def to_dict(self, *, probs: bool = False, embedding: bool = False) -> dict[str, Any]:
        """Returns the window as JSON types, with its arrays only where they are asked for."""
        data: dict[str, Any] = {
            "index": self.index,
            "start": self.start,
            "end": self.end,
            "level_dbfs": self.level_dbfs if math.isfinite(self.level_dbfs) else None,
            "front_end_ms": round(self.front_end_ms, 3),
            "model_ms": round(self.model_ms, 3),
            "padding_seconds": self.padding_seconds,
            "unusable": self.unusable,
        }
        data |= {"probs": self.probs.tolist()} if probs else {}
        return data | ({"embedding": self.embedding.tolist()} if embedding else {})


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LongTagging(TaggingResult):
    """The result of tagging a whole recording.

    Attributes:
        source: path of the file, or "samples".
        model: name of the model.
        seconds: length of the recording; that of its header if it is greater than what was found.
        seconds_heard: length of the usable sound that was found.
        padding_seconds: length of the padding, if the recording is shorter than a window; else 0.
        warnings: what was wrong with the recording or is missing, one phrase each.
        windows: number of windows that were tagged.
        windows_skipped: number of windows that were not, because of samples that cannot be used.
        tags: highest score first, limited by `top` and `threshold`.
        probs: (classes,) float32, aggregated over the windows.
        times: (n + 1,) seconds; step i lasts from times[i] to times[i + 1]. Up to 200 steps: a step is a window
            without overlap, or several in a long recording. A step without a usable window has scores of 0.
        scores: (n, classes) float32, the highest score within each step.
        embedding: (dim,) float32, mean over the windows; empty if the model has none.
        front_end_ms, model_ms: run times in milliseconds, summed over the windows.
        engine: the engine that ran the model, "cpu" or "gpu".
        fallback: why `engine="auto"` uses the CPU; None if the GPU is used, or if another engine was chosen.
        enrolled: names of the classes that come from prototypes.
    """

    windows: int
    windows_skipped: int
    times: NDArray[np.float64]
    scores: NDArray[np.float32]

    def _title(self) -> str:
        return f"{super()._title()}, {counted(self.windows, 'window')}"

    def _repr_html_(self) -> str:
        """Returns the tags as a table with bars and, for several windows, their scores over time, for notebooks."""
        scores = self.scores[:, [tag.index for tag in self.tags]]
        return bars(self._title(), [(tag.label, tag.score) for tag in self.tags], times=self.times, over_time=scores)

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """Returns the result as JSON types, with the embedding only if `embedding` is true."""
        counts: dict[str, float] = {"windows": self.windows, "windows_skipped": self.windows_skipped}
        return self._to_dict(counts, embedding=embedding)


class StreamTagger:
    """Tags a stream in overlapping windows. Each window is tagged as soon as its last sample has arrived.

    Window k begins at k hops. At the end of the stream, the rest after the last window is in one more window, which is
    shifted back so that it is full. It begins with a frame and ends less than a frame before the end of the stream. A
    rest shorter than 5 % of a window is left out. A stream that is shorter than a window is padded, as by `Tagger.tag`.

    `push` runs the model in the calling thread and drops no samples. If you push faster than the model runs, the call
    blocks. The delay from a window's last sample to its result is at most one hop, plus the model's run time, plus half
    a frame for a log-mel (at most 16 ms). Frames are computed when 64 wait or a window needs them, so most pushes of a
    few milliseconds only resample and copy their samples. An instance handles one stream at a time. Calls from several
    threads run one after another, in any order; several streams may share a tagger.

    Args:
        tagger: the model; its bundle defines the length of a window.
        hop: seconds from one window to the next, > 0 and at most a window; rounded to a whole number of frames.
        sample_rate: sample rate of the samples, Hz; the model's if not given.
        channel, scale: as for `load_audio`.

    Attributes:
        window, hop, frame: lengths in seconds, after rounding.
        labels: class names, in the order of the scores.
        enrolled: names of the classes that come from prototypes, the last ones of `labels`.

    Raises:
        WindowError: the hop is out of range.

    >>> stream = StreamTagger(Tagger(), hop=5.0, sample_rate=16000)
    >>> heard = [w for _ in range(13) for w in stream.push(np.zeros(16000, np.float32))] + stream.finish()
    >>> [(w.start, w.end) for w in heard]
    [(0.0, 10.0), (3.0, 13.0)]
    """

    def __init__(
        self,
        tagger: Tagger,
        *,
        hop: float = HOP_SECONDS,
        sample_rate: int | None = None,
        channel: int | None = None,
        scale: Scale | None = None,
    ) -> None:
        manifest = tagger.bundle.manifest
        spec = self._spec = manifest.front_end
        self.window = manifest.clip_samples / spec.sample_rate
        number = isinstance(hop, (int, float, np.number)) and not isinstance(hop, bool)
        if not number or not 0.0 < hop <= self.window + _TOLERANCE:
            raise WindowError(f"hop = {hop!r}; expected seconds, more than 0 and at most a window of {self.window:g}")
        frame = spec.hop_length
        most = max(1, manifest.clip_samples // frame)
        self._hop = min(max(1, round(hop * spec.sample_rate / frame)), most) * frame
        self.hop, self.frame = self._hop / spec.sample_rate, frame / spec.sample_rate
        self.labels, self.enrolled = tagger.labels, tagger.enrolled
        self._tagger, self._samples = tagger, manifest.clip_samples
        self._least_tail = max(frame, -(-self._samples * TAIL_PERCENT // 100))
        rate = spec.sample_rate if sample_rate is None else sample_rate
        self._mono = MonoResampler(rate, sample_rate=spec.sample_rate, channel=channel, scale=scale)
        self._frames_of_window = spec.filled_frames(self._samples)
        self._input = np.zeros(manifest.inputs[0].shape, np.float32)
        # The end of a stream needs the last window's samples again: it may be in a window that is shifted back.
        self._part = min(self._hop, _CHUNK_SAMPLES)
        self._wave = _Recent(self._samples + self._hop + self._part + spec.n_fft)
        self._block = _FRAMES_AT_ONCE * frame
        self._frames = _Recent(self._wave.rows // frame + 2, spec.n_mels)
        self._lock = threading.Lock()
        self._done: list[Window] = []  # windows that an error in a later one kept from being returned
        self._restart()

    def _restart(self) -> None:
        self._index = 0  # of the next window
        self._heard = 0  # number of samples of the stream so far
        self._base = 0  # of the samples in _wave and the frames in _frames: the first one's place in the stream
        self._wave.clear()  # NaN where a sample cannot be used
        self._frames.clear()
        self._waiting = 0  # number of the newest samples in _wave that the log-mel has not got
        self._front_end_ms = 0.0
        self._ended = False  # there are no more samples
        self._flushed = False  # there are no more frames
        self._over = False  # there are no more windows
        bundle = self._tagger.bundle
        has_logmel = bundle.manifest.graph == "logmel"
        self._logmel = StreamingLogMel(self._spec, basis=bundle.mel_basis) if has_logmel else None
        # The last frame of a window that is not the stream's last may need samples after the window.
        last_frame = self._logmel.samples_for(self._frames_of_window) if self._logmel else 0
        self._late = max(0, last_frame - self._samples)

    @property
    def seconds(self) -> float:
        """Length of the stream so far; after its end, of the whole stream, until the next one begins."""
        return self._heard / self._spec.sample_rate

    def push(self, samples: NDArray[np.floating]) -> list[Window]:
        """Takes the next samples and returns the windows that they complete.

        Args:
            samples: (n,) or (n, channels), floats within [-1, 1]. A window with NaN, Inf or samples far beyond full
                scale is returned as unusable.

        Raises:
            AudioError: wrong dtype or rank. These samples are ignored, and the stream can go on.
            GpuError, BundleError: the model failed. The stream has taken all samples and can go on without the windows
                that the model did not tag. The windows before them are returned by the next call.
        """
        return self._take_all(samples, self._mono.push)

    def _take_all(
        self, samples: NDArray[np.floating], mono: Callable[[NDArray[np.floating]], NDArray[np.float32]]
    ) -> list[Window]:
        with self._lock:
            if self._ended:
                self._restart()
            return self._collected(self._push(mono(samples)))

    def finish(self) -> list[Window]:
        """Ends the stream and returns its remaining windows. The next call of `push` begins another stream.

        Raises:
            GpuError, BundleError: the model failed. Another call of `finish` returns the other windows.
        """
        with self._lock:
            if self._over:
                self._restart()
            self._ended = True
            found = self._collected(self._finish())
            self._over = True
            return found

    def of(
        self,
        chunks: Iterable[NDArray[np.floating]] | AudioBlocks,
        *,
        watch: Callable[[NDArray[np.floating]], object] = lambda _: None,
    ) -> Iterator[Window]:
        """Yields the windows of all chunks one by one, then ends the stream and yields the remaining windows.

        The blocks of an `AudioBlocks` have the model's sample rate, whatever that of the stream. If the iterator is not
        run to its end, the next stream begins anew.

        Args:
            chunks: the chunks, as for `push`.
            watch: called with each chunk before it is tagged.
        """
        mono = np.asarray if isinstance(chunks, AudioBlocks) else self._mono.push
        try:
            for chunk in chunks:
                samples = np.asarray(chunk)
                watch(samples)
                # In parts, so that the first windows of a large chunk do not wait for its end.
                for start in range(0, len(samples) if samples.ndim else 1, _CHUNK_SAMPLES):
                    yield from self._take_all(
                        samples[start : start + _CHUNK_SAMPLES] if samples.ndim else samples, mono
                    )
            yield from self.finish()
        finally:
            if not self._over:
                self.discard()

    def discard(self) -> None:
        """Ends the stream without its remaining windows. The next call of `push` begins another stream."""
        with self._lock:
            self._mono.finish()
            self._done.clear()
            self._restart()

    def _collected(self, found: Iterator[Window]) -> list[Window]:
        for window in found:
            self._done.append(window)
        done, self._done = self._done, []
        return done

    def _push(self, mono: NDArray[np.float32]) -> Iterator[Window]:
        for start in range(0, len(mono), self._part):
            self._take(mono[start : start + self._part])
            try:
                yield from self._complete()
            except BaseException:
                for rest in range(start + self._part, len(mono), self._part):  # the times of later windows depend on it
                    self._take(mono[rest : rest + self._part])
                    while self._is_complete():
                        self._advance(self._index * self._hop)
                raise

    def _finish(self) -> Iterator[Window]:
        yield from self._push(self._mono.finish())
        heard = self._heard
        if heard and not self._flushed:
            self._flushed = True
            if heard < self._samples:
                self._pad()
                yield self._tag(0, heard)
                return
            self._finish_frames()
        yield from self._complete()
        covered = self._end_of(self._index - 1) if self._index else heard
        if heard - covered >= self._least_tail:
            start = (heard - self._samples) // self._spec.hop_length * self._spec.hop_length
            yield self._tag(start, start + self._samples)

    def _take(self, part: NDArray[np.float32]) -> None:
        """Takes at most a hop of samples. Computes frames if they are many or complete a window."""
        self._wave.push(part)
        self._heard += len(part)
        if self._logmel is not None:
            self._waiting += len(part)
            self._compute_frames(1 if self._is_complete() else self._block)

    def _compute_frames(self, least: int) -> None:
        """Computes the frames of the waiting samples if at least `least` ≥ 1 samples wait."""
        if self._logmel is None or self._waiting < least:
            return
        begin = time.perf_counter()
        part, self._waiting = self._wave.held[-self._waiting :], 0
        usable = np.isfinite(part)
        self._frames.push(self._logmel.push(part if usable.all() else np.where(usable, part, np.float32(0.0))))
        self._front_end_ms += 1e3 * (time.perf_counter() - begin)

    def _finish_frames(self) -> None:
        """Computes the frames at the end of the stream."""
        if self._logmel is not None:
            self._compute_frames(1)
            self._frames.push(self._logmel.finish())

    def _pad(self) -> None:
        """Pads a stream that is shorter than a window, as `Tagger.tag` does."""
        heard, whole = self._heard, self._samples
        if self._logmel is not None and self._spec.padded_frames is not None:
            whole = max(heard, self._spec.least_samples)  # the front end pads the frames, but needs at least one
        for start in range(heard, whole, self._part):
            self._take(np.zeros(min(self._part, whole - start), np.float32))
        self._finish_frames()
        self._heard = heard

    def _end_of(self, index: int) -> int:
        return index * self._hop + self._samples

    def _is_complete(self) -> bool:
        """Whether the samples of the next window and its frames have come."""
        return self._heard >= self._end_of(self._index) + (0 if self._flushed else self._late)

    def _complete(self) -> Iterator[Window]:
        while self._is_complete():
            yield self._tag(self._index * self._hop, self._end_of(self._index))

    def _advance(self, start: int) -> None:
        """Drops the samples and frames before a window, which begins at sample `start`."""
        self._wave.drop(start - self._base)
        if self._logmel is not None:
            self._frames.drop((start - self._base) // self._spec.hop_length)
        self._base = start
        self._index += 1
        self._front_end_ms = 0.0

    def _tag(self, start: int, end: int) -> Window:
        """Tags samples start … end - 1. The stream advances first, so that it can go on after an error of the model."""
        index, front_end_ms = self._index, self._front_end_ms
        self._advance(start)
        rate, wave = self._spec.sample_rate, self._wave.held[: self._samples]
        own = wave[: end - start]
        unusable = self._unusable(start, own)
        if unusable is None:
            self._fill(wave)
            begin = time.perf_counter()
            outputs = self._tagger.run(self._input)
            level, model_ms = level_dbfs(own), 1e3 * (time.perf_counter() - begin)
        else:
            outputs = self._tagger.zeros()
            level, model_ms = -math.inf, 0.0
        return Window(
            index=index,
            start=start / rate,
            end=end / rate,
            probs=outputs["probs"][0],
            embedding=outputs.get("embedding", NO_EMBEDDING)[0],
            framewise=outputs["framewise"][0] if "framewise" in outputs else None,
            level_dbfs=level,
            front_end_ms=front_end_ms,
            model_ms=model_ms,
            padding_seconds=(self._samples - len(own)) / rate,
            unusable=unusable,
        )

    def _fill(self, wave: NDArray[np.float32]) -> None:
        """Writes the model's input: the window's samples or frames."""
        if self._logmel is None:
            self._input[0] = wave
        else:
            filled = self._frames.held[: self._frames_of_window]
            self._input[0, 0, : len(filled)] = filled
            self._logmel.fill(self._input[0, 0, len(filled) :])

    def _unusable(self, start: int, wave: NDArray[np.float32]) -> str | None:
        """Says why a window that begins at sample `start` cannot be tagged."""
        usable = np.isfinite(wave)
        if usable.all():
            return None
        at = (start + int(usable.argmin())) / self._spec.sample_rate
        return f"NaN, Inf or samples far beyond full scale at {at:.3f} s"


class _Recent:
    """The newest rows of a stream, in an array that does not grow.

    Args:
        rows: the largest number of rows that are held at a time.
        width: lengths of the other axes.
    """

    def __init__(self, rows: int, *width: int) -> None:
        self.rows = rows
        self._data = np.empty((2 * rows, *width), np.float32)
        self.clear()

    def clear(self) -> None:
        self._begin = self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def held(self) -> NDArray[np.float32]:
        """The rows, as a view that is valid until the next call of `drop`."""
        return self._data[self._begin : self._end]

    def push(self, new: NDArray[np.float32]) -> None:
        """Appends rows."""
        self._data[self._end : self._end + len(new)] = new
        self._end += len(new)

    def drop(self, count: int) -> None:
        """Drops the oldest rows. Makes room here and not in `push`, which has less time."""
        self._begin += count
        if self._begin > self.rows:
            held = len(self)
            self._data[:held] = self.held
            self._begin, self._end = 0, held


class _Detecting:
    """Gives a detector the steps of a stream of windows, each as soon as its window is there."""

    def __init__(
        self, stream: StreamTagger, *, settings: EventSettings | None = None, sense: Sense | None = None
    ) -> None:
        self._sense = Sense(stream.labels) if sense is None else sense
        self._enrolled = self._sense.labels_of(stream.enrolled)
        self._detector = EventDetector(self._sense.labels, with_enrolled(settings, self._enrolled))
        self._at = 0.0  # when the stream begins, seconds
        self._begin = WindowSteps(window=stream.window, hop=stream.hop).begin
        self._frame, self._frames_of_hop = stream.frame, round(stream.hop / stream.frame)
        self._margin = (round(stream.window / stream.frame) - self._frames_of_hop) // 2
        self._restart()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the events: the classes, or the groups of the `Sense`."""
        return self._sense.labels

    def _restart(self) -> None:
        self._last: Window | None = None
        self._count = 0  # index of the next window
        self._next = 0  # first frame of the stream that the detector has not seen

    def _steps(self, window: Window) -> Iterator[_Step]:
        """Yields the steps of the next window; None where there are no scores."""
        before, self._last, self._count = self._count, window, window.index + 1
        if window.framewise is not None:
            yield from self._frames(window, self._margin + self._frames_of_hop)
            return
        if before < window.index:  # windows that an error kept from being tagged
            yield None, self._begin(before), self._begin(window.index)
        # The last window's step is longer, which `_rest` adds.
        yield self._scores(window), self._begin(window.index), min(self._begin(window.index + 1), window.end)

    def _rest(self) -> Iterator[_Step]:
        """Ends the stream and yields the steps at its end."""
        last = self._last
        if last is not None and last.framewise is not None:
            yield from self._frames(last, math.ceil((last.end - last.start) / self._frame - _TOLERANCE))
        elif last is not None and (begin := self._begin(last.index + 1)) < last.end:
            yield self._scores(last), begin, last.end
        self._restart()

    def _scores(self, window: Window) -> NDArray[np.floating] | None:
        return None if window.unusable else self._sense(window.probs, level_dbfs=window.level_dbfs)

    def _frames(self, window: Window, stop: int) -> Iterator[_Step]:
        """Yields the frames of a window before frame `stop`, except those that the detector has seen."""
        assert window.framewise is not None
        first = round(window.start / self._frame)
        if window.unusable:
            if first > self._next:  # later windows do not begin before this one
                yield None, self._next * self._frame, first * self._frame
                self._next = first
            return
        stop = min(stop, len(window.framewise))
        begin = max(0, self._next - first)
        self._next = max(self._next, first + stop)
        scores = self._sense(window.framewise[begin:stop], level_dbfs=window.level_dbfs)
        for at, values in enumerate(scores, first + begin):
            # Times are multiples of a frame, so that one step's end equals the next step's start exactly.
            start, end = at * self._frame, min((at + 1) * self._frame, window.end)
            if end > start:
                yield values, start, end


class EventStream(_Detecting):
    """Finds events in a stream of windows.

    With frame-wise scores, the events have the resolution of a frame. Each window contributes its middle part, of the
    length of a hop, so that no time counts twice. The first window also contributes its beginning, and the last window
    all that is left. Without frame-wise scores, the scores of a window stand for the hop around its centre
    (`WindowSteps`). An unusable window has no scores: events end there.

    An event of an enrolled class, or of a group of enrolled classes alone, starts at its threshold, a score of 0.5, and
    lasts while the score is at least 0.25, unless the settings have an `on` for that class or group.

    Args:
        stream: the source of the windows.
        settings: thresholds, for the classes that `sense` returns.
        sense: transforms the scores of each window first.

    Raises:
        LabelError: the settings name an unknown class.
    """

    def push(self, window: Window) -> tuple[Event, ...]:
        """Takes the next window and returns the events that are now final."""
        return tuple(event for step in self._steps(window) for event in self._detector.push(*step))

    def finish(self) -> tuple[Event, ...]:
        """Ends the stream, returns the remaining events, and resets this instance for the next stream."""
        events = [event for step in self._rest() for event in self._detector.push(*step)]
        return (*events, *self._detector.finish())


class LiveEvents(_Detecting):
    """Tells of the events in a stream of windows from their start on. The events are those of `EventStream`.

    A start is told with the first window in whose middle, or step, the score reaches `on`, with `min_duration` as in
    `EventDetector.changes`. That window ends at most (window + hop) / 2 after the time of the start; the first window
    of a stream, when it is full. Frames of a frame-wise network are told with the window that has them in its middle,
    because frames near the edge of a window are less certain, and a start is never taken back.

    Args:
        stream, settings, sense: as for `EventStream`.

    Raises:
        LabelError: the settings name an unknown class.
    """

    def push(self, window: Window) -> tuple[EventChange, ...]:
        """Takes the next window and tells what has changed (`EventDetector.changes`). Windows that cannot be used, or
        were not tagged, end the events."""
        return self._changes(self._steps(window))

    def skip(self, seconds: float) -> tuple[EventChange, ...]:
        """Ends the stream, and begins another one that goes on from it after a loss. Tells the changes up to there.

        An event that is open ends with the stream, unless `max_gap` is longer than the loss. Numbers and cool-downs go
        on.

        Args:
            seconds: time at which the next stream begins, in the time of the changes; not before the end of this one.
        """
        changes = self._changes(self._rest())
        last = max(self._at, self._detector.previous_end)
        if seconds > last:
            changes += self._detector.changes(None, last, seconds)
        self._at = seconds
        return changes

    def finish(self) -> tuple[EventChange, ...]:
        """Ends the stream, tells the remaining changes, and resets this instance for the next stream."""
        changes = self._changes(self._rest()) + self._detector.finish_changes()
        self._at = 0.0
        return changes

    def set_settings(self, settings: EventSettings | None) -> None:
        """Changes the thresholds from the next window on, as `EventDetector.set_settings`.

        Raises:
            LabelError: the settings name an unknown class. The former ones stay.
        """
        self._detector.set_settings(with_enrolled(settings, self._enrolled) or EventSettings())

    def _changes(self, steps: Iterable[_Step]) -> tuple[EventChange, ...]:
        detector, at = self._detector, self._at
        return tuple(
            change for scores, start, end in steps for change in detector.changes(scores, start + at, end + at)
        )


def windows(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
    hop: float | None = None,
) -> Iterator[Window]:
    """Yields the windows of a whole recording one by one. Memory does not grow with its length.

    Args:
        tagger: the model.
        audio: a recording: its path, its content or a binary file object; or float samples (samples,) or
            (samples, channels) within [-1, 1], in one array or in an iterator of chunks; or an `AudioBlocks`, which
            takes more options and tells what was not heard.
        sample_rate: sample rate of the samples, Hz; ignored for a file.
        channel, scale: as for `load_audio`; ignored for an `AudioBlocks`.
        hop: seconds from one window to the next; a window's length, without overlap, if not given.

    Raises:
        AudioError: the audio cannot be used. The windows before the error are yielded first.
        WindowError: the hop is out of range.

    Warns:
        AudioWarning: at the end, if something was wrong with the recording or is missing.
    """
    manifest = tagger.bundle.manifest
    stream = StreamTagger(tagger, hop=manifest.clip_seconds if hop is None else hop)
    blocks = audio_chunks(audio, sample_rate, manifest.front_end.sample_rate, channel=channel, scale=scale)
    return _warned(stream.of(blocks), None if blocks is audio else blocks)


def tag_long(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
    hop: float | None = None,
    aggregate: AggregateName = "mean",
    top: int | None = 10,
    threshold: Threshold = 0.0,
    sense: Sense | None = None,
) -> LongTagging:
    """Tags a whole recording of any length.

    Args:
        tagger, audio, sample_rate, channel, scale, hop: as for `windows`.
        aggregate: "mean" over the windows, weighted by the time that each adds to the windows before it, or "max".
        top, threshold: as for `Tagger.tag`.
        sense: transforms the scores of each window first.

    Raises:
        AudioError: as for `windows`; `top` or `threshold` is out of range; or the recording has no samples.
        WindowError: the hop is out of range, or the aggregate is unknown.
    """
    found = Aggregate(tagger, aggregate=aggregate, sense=sense)
    rate = tagger.bundle.manifest.front_end.sample_rate
    blocks = audio_chunks(audio, sample_rate, rate, channel=channel, scale=scale)
    for window in windows(tagger, blocks, hop=hop):
        found.push(window)
    return found.result(blocks.name, heard=blocks, top=top, threshold=threshold)


class Columns:
    """Reduces a stream of rows to a limited number of columns. A column is the maximum over `stride` successive rows.

    Args:
        width: length of a row.
        most: largest number of columns.
    """

    def __init__(self, width: int, most: int) -> None:
        self._values = np.full((most, width), -np.inf, np.float32)
        self._starts = np.zeros(most)
        self._stride, self._rows = 1, 0

    def push(self, rows: NDArray[np.floating], starts: NDArray[np.floating]) -> None:
        """Adds rows (n, width) with their start times (n,), seconds."""
        done = 0
        while done < len(rows):
            column, held = divmod(self._rows, self._stride)
            if column == len(self._values):
                self._halve()
                continue
            part = rows[done : done + self._stride - held]
            if not held:
                self._starts[column] = starts[done]
            np.maximum(self._values[column], part.max(axis=0), out=self._values[column])
            self._rows += len(part)
            done += len(part)

    def _halve(self) -> None:
        half = len(self._values) // 2
        self._values[:half] = np.maximum(self._values[::2], self._values[1::2])
        self._values[half:] = -np.inf
        self._starts[:half] = self._starts[::2]
        self._stride *= 2

    def finish(self, seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Returns the edges (columns + 1,), seconds, and the columns (columns, width)."""
        count = -(-self._rows // self._stride)
        edges = np.minimum(np.append(self._starts[:count], seconds), seconds)
        edges[0] = 0.0
        return edges, self._values[:count].copy()


class Aggregate:
    """Aggregates the windows of one recording. Unusable windows are only counted.

    Args:
        tagger: the model.
        aggregate: "mean" over the windows, weighted by the time that each adds to the windows before it, or "max".
        sense: transforms the scores of each window first.

    Raises:
        WindowError: the aggregate is unknown.
    """

    def __init__(self, tagger: Tagger, *, aggregate: AggregateName = "mean", sense: Sense | None = None) -> None:
        if aggregate not in AGGREGATES:
            raise WindowError(f"aggregate {aggregate!r}; expected one of {', '.join(AGGREGATES)}")
        self._tagger, self._aggregate = tagger, aggregate
        self._sense = Sense(tagger.labels) if sense is None else sense
        self._count, self._weight, self._seconds = 0, 0.0, 0.0
        self._covered = 0.0  # end of the last window that was tagged
        self._skipped, self._unusable, self._padding = 0, "", 0.0
        self._front_end_ms, self._model_ms = 0.0, 0.0
        self._probs = np.zeros(len(self._sense.labels))
        self._embedding = np.zeros(tagger.bundle.manifest.embedding_size)
        self._columns = Columns(len(self._sense.labels), _MOST_STEPS)
        self._before: tuple[float, float] | None = None  # of the last window: start and end

    def push(self, window: Window) -> None:
        """Takes the next window."""
        self._seconds, self._padding = window.end, window.padding_seconds
        self._front_end_ms += window.front_end_ms
        # Two windows that overlap give half of the overlap each.
        edge = 0.0 if self._before is None else (sum(self._before) + window.start + window.end) / 4.0
        self._before = window.start, window.end
        if window.unusable is not None:
            self._columns.push(np.zeros((1, len(self._probs))), np.array([edge]))
            self._skipped, self._unusable = self._skipped + 1, self._unusable or window.unusable
            return
        scores = self._sense(window.probs, level_dbfs=window.level_dbfs)
        self._columns.push(scores[None], np.array([edge]))
        weight = window.end - max(window.start, self._covered)
        self._probs = self._probs + weight * scores if self._aggregate == "mean" else np.maximum(self._probs, scores)
        self._embedding += weight * window.embedding
        self._count, self._weight, self._covered = self._count + 1, self._weight + weight, window.end
        self._model_ms += window.model_ms

    def result(
        self, source: str, *, heard: AudioBlocks | None = None, top: int | None = 10, threshold: Threshold = 0.0
    ) -> LongTagging:
        """Returns the result of the windows so far.

        Args:
            source: name of the recording.
            heard: the recording that the windows are of, after its last block. It tells what was not heard.
            top, threshold: as for `Tagger.tag`.

        Raises:
            AudioError: there was no window, or none that could be used; or `top` or `threshold` is out of range.
        """
        if self._skipped and not self._count:
            raise AudioError(f"{source}: {self._unusable}; expected at least one window of usable samples")
        if not self._count:
            raise AudioError(f"{source}: no samples; expected at least one")
        times, highest = self._columns.finish(self._seconds)
        probs = (self._probs / self._weight if self._aggregate == "mean" else self._probs).astype(np.float32)
        return LongTagging(
            source=source,
            model=self._tagger.bundle.manifest.model,
            engine=self._tagger.engine,
            fallback=self._tagger.fallback,
            enrolled=self._tagger.enrolled,
            seconds=max(self._seconds, (heard.seconds if heard else None) or 0.0),
            seconds_heard=heard.seconds_heard if heard else self._seconds,
            padding_seconds=self._padding,
            warnings=heard.warnings if heard else (),
            windows=self._count,
            windows_skipped=self._skipped,
            tags=top_tags(self._sense.labels, probs, top=top, threshold=threshold),
            probs=probs,
            embedding=(self._embedding / self._weight).astype(np.float32),
            times=times,
            scores=highest,
            front_end_ms=self._front_end_ms,
            model_ms=self._model_ms,
        )


def find_events(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
    hop: float | None = None,
    settings: EventSettings | None = None,
    sense: Sense | None = None,
) -> Iterator[Event]:
    """Yields the events of a whole recording, each as soon as it is final.

    Args:
        tagger, audio, sample_rate, channel, scale: as for `windows`.
        hop: seconds from one window to the next; `event_hop` if not given. Without frame-wise scores, the hop is also
            the time resolution of the events.
        settings: thresholds.
        sense: transforms the scores of each window first.

    Raises:
        AudioError, WindowError: as for `windows`.
        LabelError: the settings name an unknown class.

    Warns:
        AudioWarning: as for `windows`.
    """
    stream = StreamTagger(tagger, hop=event_hop(tagger) if hop is None else hop)
    rate = tagger.bundle.manifest.front_end.sample_rate
    blocks = audio_chunks(audio, sample_rate, rate, channel=channel, scale=scale)
    found = _warned(stream.of(blocks), None if blocks is audio else blocks)
    return _events_of(EventStream(stream, settings=settings, sense=sense), found)


def event_hop(tagger: Tagger) -> float:
    """Returns the default hop for events, in seconds: half a window if the network has frame-wise scores, else half a
    window but at most 1 s."""
    manifest = tagger.bundle.manifest
    framewise = any(output.name == "framewise" for output in manifest.outputs)
    return manifest.clip_seconds / 2 if framewise else min(HOP_SECONDS, manifest.clip_seconds / 2)


def _events_of(events: EventStream, found: Iterator[Window]) -> Iterator[Event]:
    for window in found:
        yield from events.push(window)
    yield from events.finish()


def _warned(found: Iterator[Window], blocks: AudioBlocks | None) -> Iterator[Window]:
    """Yields the windows, then warns of what was not heard."""
    yield from found
    for text in blocks.warnings if blocks else ():
        warnings.warn(f"{blocks.name if blocks else ''}: {text}", AudioWarning, stacklevel=2)


def audio_chunks(
    audio: Recording | AudioBlocks,
    sample_rate: int | None,
    wanted: int,
    *,
    channel: int | None = None,
    scale: Scale | None = None,
) -> AudioBlocks:
    """Opens a recording as blocks of mono samples, resampled to the wanted rate.

    Args:
        audio, sample_rate, channel, scale: as for `windows`.
        wanted: sample rate of the result, Hz.

    Raises:
        AudioError: the audio cannot be used; for samples and damaged files, when the blocks are read.
    """
    if isinstance(audio, AudioBlocks):
        return audio
    return AudioBlocks(audio, sample_rate=wanted, rate=sample_rate, channel=channel, scale=scale)
