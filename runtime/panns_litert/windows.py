"""Windows: tags a recording of any length, or a live stream, in overlapping windows of the model's clip length.

The log-mel is computed once per frame, not once per window, and memory does not grow with the recording.
`StreamTagger` takes samples as they arrive. `windows`, `tag_long` and `find_events` feed it from a file, an array or an
iterator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import AudioBlocks, MonoResampler, Recording, level_dbfs
from panns_litert.errors import AudioError, WindowError
from panns_litert.events import Event, EventDetector, EventSettings, WindowSteps
from panns_litert.frontend import StreamingLogMel
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger, TaggingResult, top_tags

AGGREGATES = ("mean", "max")

HOP_SECONDS = 1.0
"""Default of the hop of a stream and, at most half a window, of events without frame-wise scores."""

_TOLERANCE = 1e-6  # seconds; sums of hops differ by rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The result of one window.

    Attributes:
        index: 0, 1, …
        start, end: seconds. The last window ends with the recording; the rest of the model's input is zeros.
        probs: (classes,) float32, clip-wise probabilities.
        embedding: (dim,) float32.
        framewise: (frames, classes) float32, frame-wise probabilities; None if the network has none.
        level_dbfs: mean power of the samples in dB relative to a full-scale square wave; -inf for digital silence.
        front_end_ms, model_ms: run times in milliseconds. The front end's time is that of this window's new samples.
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


@dataclass(frozen=True, kw_only=True, eq=False)
class LongTagging(TaggingResult):
    """The result of tagging a whole recording.

    Attributes:
        source: path of the file, or "samples".
        model: name of the model.
        seconds: length of the recording; that of its header if it is greater than what was found.
        seconds_heard: length of the usable sound that was found.
        padding_seconds: length of the padding, if the recording is shorter than a window; else 0.
        warnings: what was wrong with the recording or is missing, one phrase each.
        windows: number of windows.
        tags: highest score first, limited by `top` and `threshold`.
        probs: (classes,) float32, aggregated over the windows.
        embedding: (dim,) float32, mean over the windows.
        front_end_ms, model_ms: run times in milliseconds, summed over the windows.
        engine: the engine that ran the model, "cpu" or "gpu".
        fallback: why `engine="auto"` uses the CPU; None if the GPU is used, or if another engine was chosen.
    """

    windows: int

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """Returns the result as JSON types, with the embedding only if `embedding` is true."""
        return self._to_dict({"windows": self.windows}, embedding=embedding)


class StreamTagger:
    """Tags a stream in overlapping windows. Each window is tagged as soon as its last sample has arrived.

    `push` runs the model in the calling thread and drops no samples. If you push faster than the model runs, the call
    blocks. The delay from a window's last sample to its result is at most one hop, plus the model's run time, plus half
    a frame for a log-mel (at most 16 ms). An instance handles one stream at a time. Do not use it from several threads
    at once, and do not use its tagger for other audio at the same time.

    Args:
        tagger: the model; its bundle defines the length of a window.
        hop: seconds from one window to the next, > 0 and at most a window; rounded to a whole number of frames.
        sample_rate: sample rate of the samples, Hz; the model's if not given.

    Attributes:
        window, hop, frame: lengths in seconds, after rounding.
        labels: class names, in the order of the scores.

    Raises:
        WindowError: the hop is out of range.

    >>> stream = StreamTagger(Tagger(), hop=5.0, sample_rate=16000)
    >>> heard = [w for _ in range(13) for w in stream.push(np.zeros(16000, np.float32))] + stream.finish()
    >>> [(w.start, w.end) for w in heard]
    [(0.0, 10.0), (5.0, 13.0)]
    """

    def __init__(self, tagger: Tagger, *, hop: float = HOP_SECONDS, sample_rate: int | None = None) -> None:
        manifest = tagger.bundle.manifest
        spec = self._spec = manifest.front_end
        self.window = manifest.clip_samples / spec.sample_rate
        if not isinstance(hop, (int, float, np.number)) or not 0.0 < hop <= self.window + _TOLERANCE:
            raise WindowError(f"hop = {hop!r}; expected seconds, more than 0 and at most a window of {self.window:g}")
        frame = spec.hop_length
        self._hop = min(max(1, round(hop * spec.sample_rate / frame)) * frame, manifest.clip_samples)
        self.hop, self.frame = self._hop / spec.sample_rate, frame / spec.sample_rate
        self.labels = tagger.labels
        self._tagger, self._samples = tagger, manifest.clip_samples
        self._mono = MonoResampler(sample_rate or spec.sample_rate, sample_rate=spec.sample_rate)
        self._frames_of_window = spec.filled_frames(self._samples)
        self._input = np.zeros(manifest.inputs[0].shape, np.float32)
        self._restart()

    def _restart(self) -> None:
        self._index = 0  # of the next window
        self._heard = 0  # number of samples of the stream so far
        self._wave = np.empty(0, np.float32)  # from the next window's first sample on
        self._frames = np.empty((0, self._spec.n_mels), np.float32)  # from the next window's first frame on
        self._front_end_ms = 0.0
        bundle = self._tagger.bundle
        has_logmel = bundle.manifest.graph == "logmel"
        self._logmel = StreamingLogMel(self._spec, basis=bundle.mel_basis) if has_logmel else None

    def push(self, samples: NDArray[np.floating]) -> list[Window]:
        """Takes the next samples and returns the windows that they complete.

        Args:
            samples: (n,) or (n, channels), floats within [-1, 1].

        Raises:
            AudioError: NaN, Inf, or a wrong dtype or rank. These samples are ignored, and the stream can go on.
        """
        return list(self._push(self._mono.push(samples)))

    def finish(self) -> list[Window]:
        """Ends the stream, returns its remaining windows, and resets this instance for the next stream.

        The last window ends with the stream. It is padded like a short recording.
        """
        return list(self._finish())

    def _finish(self) -> Iterator[Window]:
        yield from self._push(self._mono.finish())
        try:
            while self._heard and (self._index == 0 or self._heard > self._end_of(self._index - 1)):
                self._complete(last=self._heard <= self._end_of(self._index))
                yield self._next(min(self._heard, self._end_of(self._index)))
        finally:
            self._restart()

    def of(self, chunks: Iterable[NDArray[np.floating]] | AudioBlocks) -> Iterator[Window]:
        """Yields the windows of all chunks one by one, then ends the stream and yields the remaining windows.

        The blocks of an `AudioBlocks` have the model's sample rate, whatever that of the stream.
        """
        for chunk in chunks:
            yield from self._push(chunk if isinstance(chunks, AudioBlocks) else self._mono.push(chunk))
        yield from self._finish()

    def _push(self, mono: NDArray[np.float32]) -> Iterator[Window]:
        # One hop at a time, so that the first window of a large chunk does not wait for the end of the chunk.
        for start in range(0, len(mono), self._hop):
            part = mono[start : start + self._hop]
            self._heard += len(part)
            self._take(part)
            while len(self._wave) >= self._samples and self._has_frames():
                yield self._next(self._end_of(self._index))

    def _take(self, part: NDArray[np.float32]) -> None:
        self._wave = np.concatenate((self._wave, part))
        if self._logmel is not None:
            begin = time.perf_counter()
            self._frames = np.concatenate((self._frames, self._logmel.push(part)))
            self._front_end_ms += 1e3 * (time.perf_counter() - begin)

    def _has_frames(self) -> bool:
        return self._logmel is None or len(self._frames) >= self._frames_of_window

    def _end_of(self, index: int) -> int:
        return index * self._hop + self._samples

    def _complete(self, *, last: bool) -> None:
        """Pads the next window after the end of the stream."""
        lacking = max(0, self._samples - len(self._wave))
        if self._spec.padded_frames is None or self._logmel is None:
            self._take(np.zeros(lacking, np.float32))
        elif self._index == 0:  # the front end pads the frames, but needs at least one
            self._take(np.zeros(max(0, self._spec.least_samples - self._heard), np.float32))
        if self._logmel is None or self._has_frames() or self._spec.padded_frames is not None:
            return
        if last:
            self._frames = np.concatenate((self._frames, self._logmel.finish()))
        else:  # the stream ends in the next window: complete this window's last frame with zeros
            self._take(np.zeros(self._spec.n_fft, np.float32))

    def _next(self, end: int) -> Window:
        start = self._index * self._hop
        rate = self._spec.sample_rate
        if self._logmel is None:
            self._input[0] = self._wave[: self._samples]
        else:
            filled = self._frames[: self._frames_of_window]
            self._input[0, 0, : len(filled)] = filled
            self._logmel.fill(self._input[0, 0, len(filled) :])
        begin = time.perf_counter()
        outputs = self._tagger.run(self._input)
        window = Window(
            index=self._index,
            start=start / rate,
            end=end / rate,
            probs=outputs["probs"][0],
            embedding=outputs["embedding"][0],
            framewise=outputs["framewise"][0] if "framewise" in outputs else None,
            level_dbfs=level_dbfs(self._wave[: end - start]),
            front_end_ms=self._front_end_ms,
            model_ms=1e3 * (time.perf_counter() - begin),
        )
        self._index += 1
        self._front_end_ms = 0.0
        self._wave = self._wave[self._hop :]
        self._frames = self._frames[self._hop // self._spec.hop_length :]
        return window


class EventStream:
    """Finds events in a stream of windows.

    With frame-wise scores, the events have the resolution of a frame. Each window contributes its middle part, of the
    length of a hop, so that no time counts twice. The first window also contributes its beginning, and the last window
    its end. Without frame-wise scores, the scores of a window stand for the hop around its centre (`WindowSteps`).

    Args:
        stream: the source of the windows.
        settings: thresholds, for the classes that `sense` returns.
        sense: transforms the scores of each window first.

    Raises:
        LabelError: the settings name an unknown class.
    """

    def __init__(
        self, stream: StreamTagger, *, settings: EventSettings | None = None, sense: Sense | None = None
    ) -> None:
        self._sense = Sense(stream.labels) if sense is None else sense
        self._detector = EventDetector(self._sense.labels, settings)
        self._steps = WindowSteps(window=stream.window, hop=stream.hop)
        self._frame, self._frames_of_hop = stream.frame, round(stream.hop / stream.frame)
        self._margin = (round(stream.window / stream.frame) - self._frames_of_hop) // 2
        self._last: Window | None = None
        self._taken = 0  # number of frames of the last window that were passed to the detector

    def push(self, window: Window) -> tuple[Event, ...]:
        """Takes the next window and returns the events that are now final."""
        if window.framewise is None:
            steps = self._steps.push(self._sense(window.probs, level_dbfs=window.level_dbfs))
            events = [event for step in steps for event in self._detector.push(*step)]
        else:
            self._taken = self._margin if window.index else 0
            events = self._frames(window, self._margin + self._frames_of_hop)
        self._last = window
        return tuple(events)

    def finish(self) -> tuple[Event, ...]:
        """Ends the stream, returns the remaining events, and resets this instance for the next stream."""
        events: list[Event] = []
        if (last := self._last) is not None:
            if last.framewise is None:
                events += [event for step in self._steps.finish(last.end) for event in self._detector.push(*step)]
            else:
                events += self._frames(last, math.ceil((last.end - last.start) / self._frame - _TOLERANCE))
        self._last = None
        return (*events, *self._detector.finish())

    def _frames(self, window: Window, stop: int) -> list[Event]:
        assert window.framewise is not None
        scores = self._sense(window.framewise, level_dbfs=window.level_dbfs)
        events: list[Event] = []
        for i in range(self._taken, min(stop, len(scores))):
            # Times are multiples of a frame, so that one step's end equals the next step's start exactly.
            at = round(window.start / self._frame) + i
            begin, end = at * self._frame, min((at + 1) * self._frame, window.end)
            if end > begin:
                events += self._detector.push(scores[i], begin, end)
        self._taken = max(self._taken, stop)
        return events


def windows(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    hop: float | None = None,
) -> Iterator[Window]:
    """Yields the windows of a whole recording one by one. Memory does not grow with its length.

    Args:
        tagger: the model.
        audio: a recording: its path, its content or a binary file object; or float samples (samples,) or
            (samples, channels) within [-1, 1], in one array or in an iterator of chunks; or an `AudioBlocks`, which
            takes more options and tells what was not heard.
        sample_rate: sample rate of the samples, Hz; ignored for a file.
        hop: seconds from one window to the next; a window's length, without overlap, if not given.

    Raises:
        AudioError: the audio cannot be used. The windows before the error are yielded first.
        WindowError: the hop is out of range.
    """
    hop = tagger.bundle.manifest.clip_seconds if hop is None else hop
    stream = StreamTagger(tagger, hop=hop)
    return stream.of(audio_chunks(audio, sample_rate, tagger.bundle.manifest.front_end.sample_rate))


def tag_long(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    hop: float | None = None,
    aggregate: str = "mean",
    top: int | None = 10,
    threshold: float = 0.0,
    sense: Sense | None = None,
) -> LongTagging:
    """Tags a whole recording of any length.

    Args:
        tagger, audio, sample_rate, hop: as for `windows`.
        aggregate: "mean" over the windows, weighted by their length, or "max".
        top, threshold: as for `Tagger.tag`.
        sense: transforms the scores of each window first.

    Raises:
        AudioError: as for `windows`; `top` or `threshold` is out of range; or the recording has no samples.
        WindowError: the hop is out of range, or the aggregate is unknown.
    """
    found = Aggregate(tagger, aggregate=aggregate, sense=sense)
    blocks = audio_chunks(audio, sample_rate, tagger.bundle.manifest.front_end.sample_rate)
    for window in windows(tagger, blocks, hop=hop):
        found.push(window)
    return found.result(blocks.name, heard=blocks, top=top, threshold=threshold)


class Aggregate:
    """Aggregates the windows of one recording.

    Args:
        tagger: the model.
        aggregate: "mean" over the windows, weighted by their length, or "max".
        sense: transforms the scores of each window first.

    Raises:
        WindowError: the aggregate is unknown.
    """

    def __init__(self, tagger: Tagger, *, aggregate: str = "mean", sense: Sense | None = None) -> None:
        if aggregate not in AGGREGATES:
            raise WindowError(f"aggregate {aggregate!r}; expected one of {', '.join(AGGREGATES)}")
        self._tagger, self._aggregate = tagger, aggregate
        self._sense = Sense(tagger.labels) if sense is None else sense
        self._count, self._weight, self._seconds = 0, 0.0, 0.0
        self._front_end_ms, self._model_ms = 0.0, 0.0
        self._probs = np.zeros(len(self._sense.labels))
        self._embedding = np.zeros(tagger.bundle.manifest.outputs[1].shape[1])

    def push(self, window: Window) -> None:
        """Takes the next window."""
        scores, weight = self._sense(window.probs, level_dbfs=window.level_dbfs), window.end - window.start
        self._probs = self._probs + weight * scores if self._aggregate == "mean" else np.maximum(self._probs, scores)
        self._embedding += weight * window.embedding
        self._count, self._weight, self._seconds = self._count + 1, self._weight + weight, window.end
        self._front_end_ms += window.front_end_ms
        self._model_ms += window.model_ms

    def result(
        self, source: str, *, heard: AudioBlocks | None = None, top: int | None = 10, threshold: float = 0.0
    ) -> LongTagging:
        """Returns the result of the windows so far.

        Args:
            source: name of the recording.
            heard: the recording that the windows are of, after its last block. It tells what was not heard.
            top, threshold: as for `Tagger.tag`.

        Raises:
            AudioError: there was no window, or `top` or `threshold` is out of range.
        """
        if not self._count:
            raise AudioError(f"{source}: no samples; expected at least one")
        probs = (self._probs / self._weight if self._aggregate == "mean" else self._probs).astype(np.float32)
        return LongTagging(
            source=source,
            model=self._tagger.bundle.manifest.model,
            engine=self._tagger.engine,
            fallback=self._tagger.fallback,
            seconds=max(self._seconds, (heard.seconds if heard else None) or 0.0),
            seconds_heard=heard.seconds_heard if heard else self._seconds,
            padding_seconds=max(0.0, self._tagger.bundle.manifest.clip_seconds - self._seconds),
            warnings=heard.warnings if heard else (),
            windows=self._count,
            tags=top_tags(self._sense.labels, probs, top=top, threshold=threshold),
            probs=probs,
            embedding=(self._embedding / self._weight).astype(np.float32),
            front_end_ms=self._front_end_ms,
            model_ms=self._model_ms,
        )


def find_events(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    hop: float | None = None,
    settings: EventSettings | None = None,
    sense: Sense | None = None,
) -> Iterator[Event]:
    """Yields the events of a whole recording, each as soon as it is final.

    Args:
        tagger, audio, sample_rate: as for `windows`.
        hop: seconds from one window to the next; `event_hop` if not given. Without frame-wise scores, the hop is also
            the time resolution of the events.
        settings: thresholds.
        sense: transforms the scores of each window first.

    Raises:
        AudioError, WindowError: as for `windows`.
        LabelError: the settings name an unknown class.
    """
    stream = StreamTagger(tagger, hop=event_hop(tagger) if hop is None else hop)
    chunks = audio_chunks(audio, sample_rate, tagger.bundle.manifest.front_end.sample_rate)
    return _events_of(EventStream(stream, settings=settings, sense=sense), stream.of(chunks))


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


def audio_chunks(audio: Recording | AudioBlocks, sample_rate: int | None, wanted: int) -> AudioBlocks:
    """Opens a recording as blocks of mono samples, resampled to the wanted rate.

    Args:
        audio, sample_rate: as for `windows`.
        wanted: sample rate of the result, Hz.

    Raises:
        AudioError: the audio cannot be used; for samples and damaged files, when the blocks are read.
    """
    if isinstance(audio, AudioBlocks):
        return audio
    return AudioBlocks(audio, sample_rate=wanted, rate=sample_rate)
