"""Windows: a recording of any length, or a live stream, heard in overlapping clips of the model's length.

The log-mel is computed once per frame, not once per window, and memory does not grow with the recording.
`StreamTagger` takes samples as they come; `windows`, `tag_long` and `find_events` feed it from a file or an array.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import AudioBlocks, MonoResampler, from_array, level_dbfs
from panns_litert.errors import AudioError, WindowError
from panns_litert.events import Event, EventDetector, EventSettings, WindowSteps
from panns_litert.frontend import StreamingLogMel
from panns_litert.sense import Sense
from panns_litert.tagger import Tag, Tagger, top_tags

AGGREGATES = ("mean", "max")

# A stretch of an array that is pushed at once: results come while the rest is still to be heard.
_CHUNK_SAMPLES = 1 << 16
_TOLERANCE = 1e-6  # seconds; sums of hops miss one another by rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """What a model heard in one window.

    Attributes:
        index: 0, 1, …
        start, end: seconds; the last window ends with the recording, what the model heard beyond it were zeros.
        probs: (classes,) float32.
        embedding: (dim,) float32.
        framewise: (frames, classes) float32 over the window, of networks that have them; else None.
        level_dbfs: mean power of the samples, dB below a full-scale square wave; -inf for digital silence.
        front_end_ms, model_ms: how long each took; the front end of the samples that this window added.
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
class LongTagging:
    """What a model heard in a whole recording.

    Attributes:
        source: the file, or "samples".
        model: name of the model.
        seconds: length of the recording.
        windows: how many there were.
        tags: highest first, as asked for by `top` and `threshold`.
        probs: (classes,) float32, aggregated over the windows.
        embedding: (dim,) float32, their mean.
        front_end_ms, model_ms: how long each took, of all windows.
        engine: the engine that ran the model, "cpu" or "gpu".
        fallback: why the GPU was not used although `engine="auto"` tried; else None.
    """

    source: str
    model: str
    engine: str
    fallback: str | None
    seconds: float
    windows: int
    tags: tuple[Tag, ...]
    probs: NDArray[np.float32]
    embedding: NDArray[np.float32]
    front_end_ms: float
    model_ms: float

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """The result as JSON types; with the embedding if asked for."""
        data: dict[str, Any] = {
            "source": self.source,
            "model": self.model,
            "engine": self.engine,
            "fallback": self.fallback,
            "seconds": self.seconds,
            "windows": self.windows,
            "front_end_ms": round(self.front_end_ms, 3),
            "model_ms": round(self.model_ms, 3),
            "tags": [{"label": t.label, "index": t.index, "score": t.score} for t in self.tags],
        }
        return data | ({"embedding": [float(v) for v in self.embedding]} if embedding else {})


class StreamTagger:
    """Tags a stream in overlapping windows, each as soon as its last sample is there.

    `push` runs the model, in the calling thread, for every window that its samples complete, and drops nothing: a
    caller that pushes faster than the model runs waits. A result comes no later than one hop, the model's time and
    for a log-mel half a frame (16 ms at most) after its last sample. One stream at a time; not safe for use by
    several threads at once, nor together with other uses of the same tagger.

    Args:
        tagger: the model; its bundle says how long a window is.
        hop: seconds from one window to the next, > 0 and at most a window; made a whole number of frames.
        sample_rate: of the samples, Hz; the model's if not given.

    Attributes:
        window, hop, frame: seconds.
        labels: class names, in the order of the scores.

    Raises:
        WindowError: the hop is out of range.

    >>> stream = StreamTagger(Tagger(), hop=5.0, sample_rate=16000)
    >>> heard = [w for _ in range(13) for w in stream.push(np.zeros(16000, np.float32))] + stream.finish()
    >>> [(w.start, w.end) for w in heard]
    [(0.0, 10.0), (5.0, 13.0)]
    """

    def __init__(self, tagger: Tagger, *, hop: float = 1.0, sample_rate: int | None = None) -> None:
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
        self._logmel = StreamingLogMel(spec, basis=tagger.bundle.mel_basis) if manifest.graph == "logmel" else None
        self._frames_of_window = spec.filled_frames(self._samples)
        self._input = np.zeros(manifest.inputs[0].shape, np.float32)
        self._restart()

    def _restart(self) -> None:
        self._index = 0  # of the next window
        self._heard = 0  # samples of the stream
        self._wave = np.empty(0, np.float32)  # from the next window's first sample on
        self._frames = np.empty((0, self._spec.n_mels), np.float32)  # from the next window's first frame on
        self._front_end_ms = 0.0
        if self._logmel is not None:
            self._logmel = StreamingLogMel(self._spec, basis=self._tagger.bundle.mel_basis)

    def push(self, samples: NDArray[np.floating]) -> list[Window]:
        """Takes the next samples, (n,) or (n, channels), within [-1, 1], and gives the windows that they complete.

        Raises:
            AudioError: NaN, Inf, another dtype or rank; the stream goes on as if they had not been there.
        """
        return list(self._push(self._mono.push(samples)))

    def finish(self) -> list[Window]:
        """Ends the stream: gives the windows that wait for samples beyond its end, and begins anew.

        The last window reaches the stream's end; what it lacks is zeros, as for a short recording.
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

    def of(self, chunks: Iterable[NDArray[np.floating]]) -> Iterator[Window]:
        """The windows of all chunks, and of the end, one by one."""
        for chunk in chunks:
            yield from self._push(self._mono.push(chunk))
        yield from self._finish()

    def _push(self, mono: NDArray[np.float32]) -> Iterator[Window]:
        # In stretches of a hop, so that the first window of a large chunk does not wait for the chunk's end.
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
        """Makes up what the next window lacks after the stream's end."""
        lacking = max(0, self._samples - len(self._wave))
        if self._spec.padded_frames is None or self._logmel is None:
            self._take(np.zeros(lacking, np.float32))
        elif self._index == 0:  # the front end fills up the frames; there must be one
            self._take(np.zeros(max(0, self._spec.least_samples - self._heard), np.float32))
        if self._logmel is None or self._has_frames() or self._spec.padded_frames is not None:
            return
        if last:
            self._frames = np.concatenate((self._frames, self._logmel.finish()))
        else:  # a few samples of the window after this one are there, and zeros follow
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
    """Events of a stream of windows: frame by frame where the network says so, else by the hop around each centre.

    Of frame-wise scores each window gives its middle, so that no stretch counts twice; the first gives its beginning,
    too, and the last its end.

    Args:
        stream: what the windows come from.
        settings: thresholds; of the classes as `sense` names them.
        sense: what is made of the scores first.

    Raises:
        LabelError: the settings name a class that there is not.
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
        self._taken = 0  # frames of the last window that were given

    def push(self, window: Window) -> tuple[Event, ...]:
        """Takes the next window and gives the events that became final."""
        if window.framewise is None:
            steps = self._steps.push(self._sense(window.probs, level_dbfs=window.level_dbfs))
            events = [event for step in steps for event in self._detector.push(*step)]
        else:
            self._taken = self._margin if window.index else 0
            events = self._frames(window, self._margin + self._frames_of_hop)
        self._last = window
        return tuple(events)

    def finish(self) -> tuple[Event, ...]:
        """Ends the stream: gives the events that were still open, and begins anew."""
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
            # From whole numbers of frames, so that one step's end is the next one's start to the last bit.
            at = round(window.start / self._frame) + i
            begin, end = at * self._frame, min((at + 1) * self._frame, window.end)
            if end > begin:
                events += self._detector.push(scores[i], begin, end)
        self._taken = max(self._taken, stop)
        return events


Recording = str | os.PathLike[str] | NDArray[np.floating] | Iterator[NDArray[np.floating]]
"""A file, an array, or chunks of samples as they come."""


def windows(
    tagger: Tagger,
    audio: Recording,
    *,
    sample_rate: int | None = None,
    hop: float | None = None,
) -> Iterator[Window]:
    """The windows of a whole recording, one by one as they are heard; memory does not grow with its length.

    Args:
        tagger: the model.
        audio: a file that libsndfile reads, or float samples (samples,) or (samples, channels) within [-1, 1], in
            one array or in an iterator of chunks.
        sample_rate: of samples, Hz; not used for a file.
        hop: seconds from one window to the next; a window's length, without overlap, if not given.

    Raises:
        AudioError: the audio cannot be used; what came before it was given.
        WindowError: the hop is out of range.
    """
    hop = tagger.bundle.manifest.clip_seconds if hop is None else hop
    stream = StreamTagger(tagger, hop=hop)
    return stream.of(audio_chunks(audio, sample_rate, tagger.bundle.manifest.front_end.sample_rate))


def tag_long(
    tagger: Tagger,
    audio: Recording,
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
        aggregate: "mean" over the windows, each with the weight of its length, or "max".
        top, threshold: as for `Tagger.tag`.
        sense: what is made of every window's scores first.

    Raises:
        AudioError, WindowError: as for `windows`; an unknown aggregate.
    """
    found = Aggregate(tagger, aggregate=aggregate, sense=sense)
    for window in windows(tagger, audio, sample_rate=sample_rate, hop=hop):
        found.push(window)
    source = os.fspath(audio) if isinstance(audio, (str, os.PathLike)) else "samples"
    return found.result(source, top=top, threshold=threshold)


class Aggregate:
    """What the windows of one recording say together.

    Args:
        tagger: the model.
        aggregate: "mean", each window with the weight of its length, or "max".
        sense: what is made of every window's scores first.

    Raises:
        WindowError: an unknown aggregate.
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

    def result(self, source: str, *, top: int | None = 10, threshold: float = 0.0) -> LongTagging:
        """What was heard in the windows so far.

        Raises:
            AudioError: there was no window.
        """
        if not self._count:
            raise AudioError(f"{source}: no samples; expected at least one")
        probs = (self._probs / self._weight if self._aggregate == "mean" else self._probs).astype(np.float32)
        return LongTagging(
            source=source,
            model=self._tagger.bundle.manifest.model,
            engine=self._tagger.engine,
            fallback=self._tagger.fallback,
            seconds=self._seconds,
            windows=self._count,
            tags=top_tags(self._sense.labels, probs, top=top, threshold=threshold),
            probs=probs,
            embedding=(self._embedding / self._weight).astype(np.float32),
            front_end_ms=self._front_end_ms,
            model_ms=self._model_ms,
        )


def find_events(
    tagger: Tagger,
    audio: Recording,
    *,
    sample_rate: int | None = None,
    hop: float | None = None,
    settings: EventSettings | None = None,
    sense: Sense | None = None,
) -> Iterator[Event]:
    """The events of a whole recording, each as soon as it is final.

    Args:
        tagger, audio, sample_rate: as for `windows`.
        hop: seconds from one window to the next; `event_hop` if not given. Without frame-wise scores events begin
            and end with a hop.
        settings: thresholds.
        sense: what is made of the scores first.

    Raises:
        AudioError, WindowError: as for `windows`.
        LabelError: the settings name a class that there is not.
    """
    hop = event_hop(tagger) if hop is None else hop
    stream = StreamTagger(tagger, hop=hop)
    chunks = audio_chunks(audio, sample_rate, tagger.bundle.manifest.front_end.sample_rate)
    return _events_of(EventStream(stream, settings=settings, sense=sense), stream.of(chunks))


def event_hop(tagger: Tagger) -> float:
    """Seconds from window to window for events, where nobody says: half a window where the network has frame-wise
    scores, and 1 s at most where it has not."""
    manifest = tagger.bundle.manifest
    framewise = any(output.name == "framewise" for output in manifest.outputs)
    return manifest.clip_seconds / 2 if framewise else min(1.0, manifest.clip_seconds / 2)


def _events_of(events: EventStream, found: Iterator[Window]) -> Iterator[Event]:
    for window in found:
        yield from events.push(window)
    yield from events.finish()


def audio_chunks(audio: Recording, sample_rate: int | None, wanted: int) -> Iterator[NDArray[np.float32]]:
    """A recording's mono samples (n,) float32 at the wanted rate, chunk by chunk.

    Args:
        audio, sample_rate: as for `windows`.
        wanted: rate, Hz.

    Raises:
        AudioError: the audio cannot be used; what came before it was given.
    """
    if isinstance(audio, (str, os.PathLike)):
        return _file(audio, wanted)
    if sample_rate is None:
        raise AudioError("samples without a sample rate; expected sample_rate=…")
    if isinstance(audio, Iterator):
        return _resampled(audio, MonoResampler(sample_rate, sample_rate=wanted))
    waveform = from_array(audio, sample_rate, sample_rate=wanted).waveform
    return (waveform[start : start + _CHUNK_SAMPLES] for start in range(0, len(waveform), _CHUNK_SAMPLES))


def _file(path: str | os.PathLike[str], wanted: int) -> Iterator[NDArray[np.float32]]:
    with AudioBlocks(path, sample_rate=wanted) as blocks:
        yield from blocks


def _resampled(chunks: Iterator[NDArray[np.floating]], mono: MonoResampler) -> Iterator[NDArray[np.float32]]:
    for chunk in chunks:
        yield mono.push(chunk)
    yield mono.finish()
