"""Tagger: runs a bundle's model on an engine and returns the tags of one clip of audio."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import Audio, FileLike, Scale, from_array, is_file_like, load_audio, name_of
from panns_litert.bundle import Bundle, open_bundle, pull
from panns_litert.engine import FLOAT16_MAX, CpuEngine, Engine, GpuEngine, Outputs
from panns_litert.errors import AudioError, BundleError, GpuError
from panns_litert.escape import escaped
from panns_litert.frontend import LogMel
from panns_litert.prototypes import Prototypes
from panns_litert.results import Row, bars, short
from panns_litert.strict import shown

EngineName = Literal["cpu", "gpu", "auto"]
"""What can be asked for: "auto" checks the GPU and uses it or the CPU."""
UsedEngine = Literal["cpu", "gpu"]
"""What runs a model."""
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

NO_EMBEDDING = np.zeros((1, 0), np.float32)
"""The embedding of a model that has none."""

_CODEC_PADDING_SECONDS = 0.05  # codecs pad by up to this much; no warning below it


class TruncationWarning(UserWarning):
    """A recording is longer than the model's clip. Only its start was used."""


@dataclass(frozen=True, kw_only=True)
class Tag(Row):
    """One class that was heard.

    Attributes:
        label: name of the class.
        index: place of the class among the model's outputs. Enrolled classes (`Tagger.prototypes`) come after them.
        score: its probability, 0 … 1; of an enrolled class its score, 0.5 at the threshold of the class.
    """

    label: str
    index: int
    score: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TaggingResult:
    """The fields that `Tagging` and `LongTagging` share."""

    source: str
    model: str
    engine: UsedEngine
    fallback: str | None
    seconds: float
    seconds_heard: float
    padding_seconds: float
    warnings: tuple[str, ...]
    tags: tuple[Tag, ...]
    probs: NDArray[np.float32]
    embedding: NDArray[np.float32]
    front_end_ms: float
    model_ms: float
    enrolled: tuple[str, ...] = ()

    def __repr__(self) -> str:
        tags = short([(tag.label, tag.score) for tag in self.tags])
        return f"<{type(self).__name__} of {self._title()}: {tags}>"

    def _repr_html_(self) -> str:
        """Returns the tags as a table with bars, for notebooks."""
        return bars(self._title(), [(tag.label, tag.score) for tag in self.tags])

    def _title(self) -> str:
        """Returns the recording, its length, the model and the engine."""
        return f"{escaped(self.source)}, {self.seconds:.1f} s, by {self.model} on {self.engine}"

    def _to_dict(self, extra: dict[str, float], *, embedding: bool) -> dict[str, Any]:
        data: dict[str, Any] = {
            "source": self.source,
            "model": self.model,
            "engine": self.engine,
            "fallback": self.fallback,
            "seconds": self.seconds,
            "seconds_heard": round(self.seconds_heard, 6),
            "padding_seconds": round(self.padding_seconds, 6),
            "warnings": list(self.warnings),
            **extra,
            "front_end_ms": round(self.front_end_ms, 3),
            "model_ms": round(self.model_ms, 3),
            "tags": [tag.to_dict() for tag in self.tags],
        }
        if self.enrolled:
            data["enrolled"] = list(self.enrolled)
        if embedding:
            data["embedding"] = self.embedding.tolist()
        return data


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tagging(TaggingResult):
    """The result of tagging one clip.

    Attributes:
        source: path of the file, or "array".
        tags: highest score first, limited by `top` and `threshold`.
        probs: (classes,) float32, clip-wise probabilities of all classes; then the scores of the enrolled ones.
        embedding: (dim,) float32; empty if the model has none.
        framewise: (frames, classes) float32, frame-wise probabilities; None if the network has none.
        seconds: length of the recording; that of its header if it is greater than what was found.
        seconds_heard: length of the sound that was tagged.
        padding_seconds: length of the padding behind a recording that is shorter than the model's clip; else 0.
        warnings: what was wrong with the recording or is missing, one phrase each.
        used_seconds: length of the part that was tagged; less than `seconds` if the recording was cut.
        front_end_ms, model_ms: run times of the front end and of the model, in milliseconds.
        engine: the engine that ran the model, "cpu" or "gpu".
        fallback: why `engine="auto"` uses the CPU; None if the GPU is used, or if another engine was chosen.
        model: name of the model.
        enrolled: names of the classes that come from prototypes.
    """

    framewise: NDArray[np.float32] | None
    used_seconds: float

    @property
    def truncated(self) -> bool:
        """Whether the recording was cut, by more than the padding that a codec adds."""
        return self.seconds - self.used_seconds >= _CODEC_PADDING_SECONDS

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """Returns the result as JSON types, with the embedding only if `embedding` is true."""
        return self._to_dict({"used_seconds": self.used_seconds}, embedding=embedding)


Threshold = float | Sequence[float] | NDArray[np.floating]
"""The least score of a tag, 0 … 1: one number for all classes, or one per class (classes,)."""


def require_choice(top: object, threshold: object) -> None:
    """Checks `top` and `threshold`.

    Raises:
        AudioError: `top` is neither None nor a whole number ≥ 1, or `threshold` is not a number, 0 … 1, or a list of
            them.
    """
    if top is not None and (not isinstance(top, (int, np.integer)) or isinstance(top, bool) or top < 1):
        raise AudioError(f"top = {shown(top)}; expected a whole number ≥ 1, or None for all")
    each = threshold if isinstance(threshold, (list, tuple, np.ndarray)) else [threshold]
    if not all(isinstance(one, (int, float, np.number)) and 0.0 <= one <= 1.0 for one in each):
        raise AudioError(f"threshold = {shown(threshold)}; expected a number, 0 … 1")


def top_tags(
    labels: Sequence[str], probs: NDArray[np.floating], *, top: int | None = 10, threshold: Threshold = 0.0
) -> tuple[Tag, ...]:
    """Returns the classes with the highest probabilities, highest first.

    Args:
        labels: class names.
        probs: (classes,), 0 … 1.
        top: the largest number of tags, ≥ 1; None for all.
        threshold: the lowest probability of a tag, 0 … 1; of all classes, or (classes,) of each.

    Raises:
        AudioError: `top` or `threshold` is out of range, or there is not one probability or threshold for each label.
    """
    require_choice(top, threshold)
    if not isinstance(probs, np.ndarray):
        raise AudioError(f"probabilities {shown(probs)}; expected an array of floats")
    if isinstance(labels, str) or not isinstance(labels, Sequence) or probs.shape != (len(labels),):
        raise AudioError(f"probabilities of shape {probs.shape}; expected one for each label")
    if probs.dtype.kind != "f":
        raise AudioError(f"probabilities of type {probs.dtype}; expected floats")
    least = np.asarray(threshold, np.float64)
    if least.ndim and least.shape != (len(labels),):
        raise AudioError(f"{least.size} thresholds; expected one, or one for each of {len(labels)} labels")
    bounds = np.broadcast_to(least, (len(labels),)).tolist()
    order = np.argsort(-probs, kind="stable")[:top]
    # Compare Python floats, which are what the caller sees: 0.7 as float32 is a little below the threshold 0.7.
    scores = probs.tolist()
    return tuple(Tag(label=labels[i], index=int(i), score=scores[i]) for i in order if scores[i] >= bounds[i])


class Tagger:
    """Tags audio with a bundle.

    Several threads may use one tagger: it has one model and one set of buffers, so their calls run one after another.
    For parallel work, give each thread a tagger of its own. A tagger holds the model in memory until it is closed or
    deleted: `with Tagger() as tagger: …`. After a fork, the child loads the model again at its first call; a tagger on
    the GPU cannot be used there.

    Args:
        bundle: the folder of a bundle, the name of a model that `convert` has put into the cache, such as "mn04",
            `hf:ORG/NAME[@REVISION]`, or a `Bundle`, as for `open_bundle`; the demo bundle if not given.
        engine: "cpu", "gpu" or "auto". "gpu" runs the whole graph on the GPU or raises an error. "auto" uses the GPU
            if there is one, if it runs the whole graph, and if it agrees with the CPU on a demo recording. Otherwise
            "auto" uses the CPU, and `fallback` says why. This check runs in a separate process and takes as long as
            loading the model.
        threads: number of threads of the CPU engine, ≥ 1; all cores of this process if not given.
        prototypes: enrolled classes, or the path of their file. Their scores follow those of the model's own classes in
            every result, so all that takes a tagger has them: tags, windows, events, pictures.

    Attributes:
        bundle: the opened bundle.
        labels: class names, in the order of `Tagging.probs`.
        prototypes: the enrolled classes; None if there are none.
        fallback: why "auto" chose the CPU, or None.

    Raises:
        BundleError: there is no such bundle, it is incomplete or altered, or its graph does not match its manifest.
        DownloadError: the hub has no such repository, or it cannot be reached.
        GpuError: the engine is "gpu", and the GPU refuses the graph or has no driver.
        PrototypeError: the prototypes cannot be read, are of another model, or have a class of this one.

    >>> from panns_litert import Tagger
    >>> tagger = Tagger()
    >>> [tag.label for tag in tagger.tag("siren.flac", top=1).tags]
    ['Siren']
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        *,
        engine: EngineName = "cpu",
        threads: int | None = None,
        prototypes: Prototypes | str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(engine, str) or engine not in ENGINES:
            raise BundleError(f"engine {shown(engine)}; expected one of {', '.join(ENGINES)}")
        self.bundle = open_bundle(bundle)
        if prototypes is not None and not isinstance(prototypes, Prototypes):
            prototypes = Prototypes.read(prototypes)
        if prototypes is not None:
            prototypes.require_model(self.bundle)
        self.prototypes = prototypes if prototypes is not None and prototypes.classes else None
        self.labels: tuple[str, ...] = self.bundle.labels + self.enrolled
        _settle_malloc()
        manifest = self.bundle.manifest
        self._threads, self._auto, self._closed = threads, engine == "auto", False
        self._lock = threading.RLock()  # guards the buffers and the engine; `tag` holds it while it calls `run`
        self.fallback: str | None = None
        if self._auto:
            from panns_litert.proof import why_not_gpu  # imported late: only the check needs it

            self.fallback = why_not_gpu(self.bundle)
        use_gpu = engine == "gpu" or (self._auto and self.fallback is None)
        self._engine: Engine = self._gpu() if use_gpu else self._cpu()
        self._logmel = LogMel(manifest.front_end, basis=self.bundle.mel_basis) if manifest.graph == "logmel" else None
        self._clip = np.zeros(manifest.clip_samples, np.float32)
        self._input = self._clip[None] if self._logmel is None else np.zeros(manifest.inputs[0].shape, np.float32)
        _open_taggers.add(self)

    @classmethod
    def from_pretrained(
        cls, repo: str, *, revision: str | None = None, engine: EngineName = "cpu", threads: int | None = None
    ) -> Tagger:
        """Opens a bundle of a Hugging Face repository. Downloads it if it is not in the hub's cache.

        Args:
            repo: ORG/NAME.
            revision: branch, tag or commit. A commit is always the same bundle, and needs no network once it is cached.
            engine, threads: as for `Tagger`.

        Raises:
            BundleError, DownloadError, MissingDependencyError: as for `panns_litert.bundle.pull`.
        """
        return cls(pull(repo, revision=revision), engine=engine, threads=threads)

    def _cpu(self) -> CpuEngine:
        return CpuEngine(self.bundle.file("model"), content=self.bundle.model, threads=self._threads)

    def _gpu(self) -> GpuEngine:
        return GpuEngine(self.bundle.file("model"), content=self.bundle.model)

    def close(self) -> None:
        """Frees the model. Using the tagger after that is an error."""
        with self._lock:
            if not self._closed:
                self._engine.close()
            self._closed = True

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<Tagger of {self.bundle.describe()} on {self.engine}{closed}>"

    def _after_fork(self) -> None:
        """Replaces the lock, which another thread of the parent may hold; that thread does not exist here."""
        self._lock = threading.RLock()

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def enrolled(self) -> tuple[str, ...]:
        """Names of the enrolled classes, the last ones of `labels`."""
        return () if self.prototypes is None else self.prototypes.labels

    @property
    def engine(self) -> UsedEngine:
        """The engine that runs the model, "cpu" or "gpu". "auto" switches to the CPU if the GPU fails later."""
        return self._engine.name

    def tag(
        self,
        audio: FileLike | NDArray[np.generic],
        *,
        sample_rate: int | None = None,
        channel: int | None = None,
        scale: Scale | None = None,
        top: int | None = 10,
        threshold: Threshold = 0.0,
    ) -> Tagging:
        """Tags the first clip of a recording.

        A shorter recording is padded with zero samples, or with the front end's padding frames. A longer recording
        is cut to the clip length, with a `TruncationWarning`.

        Args:
            audio: a recording: its path, its content or a binary file object; or float samples of shape (samples,) or
                (samples, channels), within [-1, 1].
            sample_rate: sample rate of an array, Hz; ignored for a file.
            channel, scale: as for `load_audio`.
            top: the largest number of tags, ≥ 1; None for all.
            threshold: the lowest probability of a tag, 0 … 1; of all classes, or (classes,) of each.

        Raises:
            AudioError: the audio cannot be used.
        """
        require_choice(top, threshold)
        clip, source = self._read(audio, sample_rate, {"channel": channel, "scale": scale})
        with self._lock:
            outputs, front_end_ms, model_ms = self._run(clip.waveform)
            engine, fallback = self.engine, self.fallback
        probs = outputs["probs"][0]
        used = min(clip.seconds, self.bundle.manifest.clip_seconds)
        result = Tagging(
            source=source,
            tags=top_tags(self.labels, probs, top=top, threshold=threshold),
            probs=probs,
            embedding=outputs.get("embedding", NO_EMBEDDING)[0],
            framewise=outputs["framewise"][0] if "framewise" in outputs else None,
            seconds=clip.seconds,
            seconds_heard=clip.seconds_heard,
            padding_seconds=max(0.0, self.bundle.manifest.clip_seconds - len(clip.waveform) / clip.sample_rate),
            warnings=clip.warnings,
            used_seconds=used,
            front_end_ms=front_end_ms,
            model_ms=model_ms,
            engine=engine,
            fallback=fallback,
            model=self.bundle.manifest.model,
            enrolled=self.enrolled,
        )
        if result.truncated:
            warnings.warn(
                f"{source}: {clip.seconds:.1f} s long; only the first {used:g} s were tagged",
                TruncationWarning,
                stacklevel=2,
            )
        return result

    def _read(
        self, audio: FileLike | NDArray[np.generic], sample_rate: int | None, options: dict[str, Any]
    ) -> tuple[Audio, str]:
        manifest = self.bundle.manifest
        rate, seconds = manifest.front_end.sample_rate, manifest.clip_seconds
        if is_file_like(audio):
            return load_audio(audio, sample_rate=rate, max_seconds=seconds, **options), name_of(audio)  # type: ignore
        if sample_rate is None:
            raise AudioError("samples without a sample rate; expected tag(samples, sample_rate=…)")
        return from_array(audio, sample_rate, sample_rate=rate, max_seconds=seconds, **options), "array"  # type: ignore

    def _run(self, waveform: NDArray[np.float32]) -> tuple[Outputs, float, float]:
        start = time.perf_counter()
        self._clip[: len(waveform)] = waveform
        self._clip[len(waveform) :] = 0.0
        if self._logmel is not None:
            spec, clip = self._logmel.spec, self._clip
            if spec.padded_frames is not None:  # the front end pads frames; zero samples would give other values
                clip = clip[: max(len(waveform), spec.least_samples)]
            with np.errstate(over="ignore", invalid="ignore"):  # `run` reports it
                self._logmel(clip, out=self._input[0, 0])
        middle = time.perf_counter()
        outputs = self.run(self._input)
        end = time.perf_counter()
        return outputs, 1e3 * (middle - start), 1e3 * (end - middle)

    def run(self, values: NDArray[np.float32]) -> Outputs:
        """Runs the graph once.

        Args:
            values: the graph's input: log-mel (1, 1, frames, mels) or samples (1, samples), float32.

        Returns:
            The bundle's outputs by name, each with a first axis of 1. The scores of enrolled classes are behind those
            of the model's own in `probs` and `framewise`.

        Raises:
            AudioError: the input is no float32 array, or a value is NaN or too large for float16, which means samples
                far beyond [-1, 1].
            BundleError: the tagger was closed.
        """
        with self._lock:
            if self._closed:
                raise BundleError(f"{self.bundle.path}: this tagger was closed; expected a new one")
            if not isinstance(values, np.ndarray) or values.dtype != np.float32:
                found = values.dtype if isinstance(values, np.ndarray) else shown(values)
                raise AudioError(f"input {found}; expected a float32 array of shape {self._input.shape}")
            if not (np.abs(values) <= FLOAT16_MAX).all():
                raise AudioError("samples are far too large for the model; expected samples in [-1, 1]")
            try:
                outputs = self._engine.run(values)
            except GpuError as error:
                if not self._auto:
                    raise
                self.fallback = str(error)
                self._engine = self._cpu()
                outputs = self._engine.run(values)
        return outputs if self.prototypes is None else self.prototypes.joined(outputs)

    def zeros(self) -> Outputs:
        """Returns the outputs of a clip that cannot be tagged: those of `run`, all 0."""
        outputs = {one.name: np.zeros(one.shape, np.float32) for one in self.bundle.manifest.outputs}
        return outputs if self.prototypes is None else self.prototypes.joined(outputs)


def _settle_malloc() -> None:
    """Lets glibc's malloc keep freed memory for the next recording.

    It does so, up to twice the size, once an array just below 32 MB was freed, even one that was not used. Before, it
    may give the memory back after every recording, and the page faults of getting it again take time.
    """
    np.empty((1 << 25) - (1 << 13), np.uint8)


_open_taggers: weakref.WeakSet[Tagger] = weakref.WeakSet()


def _after_fork() -> None:
    for tagger in list(_open_taggers):
        tagger._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)
