"""Tagger: a bundle, an engine, and audio in; tags out."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import Audio, from_array, load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle
from panns_litert.engine import CpuEngine, Engine, GpuEngine, Outputs
from panns_litert.errors import AudioError, BundleError, GpuError
from panns_litert.frontend import LogMel

# Of a sample or a log-mel: what float16 can hold.
_LARGEST_INPUT = 65504.0

ENGINES = ("cpu", "gpu", "auto")

_CODEC_PADDING_SECONDS = 0.05  # so little beyond the clip is no news to anybody


class TruncationWarning(UserWarning):
    """A recording is longer than the model's clip; only its start was used."""


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One class and its probability, 0 … 1."""

    label: str
    index: int
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Tagging:
    """What a model heard in one clip.

    Attributes:
        source: the file, or "array".
        tags: highest first, as asked for by `top` and `threshold`.
        probs: (classes,) float32, all of them.
        embedding: (dim,) float32.
        framewise: (frames, classes) float32, probabilities over the clip, of networks that have them; else None.
        seconds: length of the recording.
        used_seconds: how much of it the model heard; less than `seconds` if it was too long.
        front_end_ms, model_ms: how long each took.
        engine: the engine that ran the model, "cpu" or "gpu".
        fallback: why the GPU was not used although `engine="auto"` tried; None if it was, or was not asked for.
        model: name of the model.
    """

    source: str
    tags: tuple[Tag, ...]
    probs: NDArray[np.float32]
    embedding: NDArray[np.float32]
    framewise: NDArray[np.float32] | None
    seconds: float
    used_seconds: float
    front_end_ms: float
    model_ms: float
    engine: str
    fallback: str | None
    model: str

    @property
    def truncated(self) -> bool:
        """Whether the end of the recording was left out, more than the padding that a codec adds."""
        return _is_truncated(self.seconds, self.used_seconds)

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """The result as JSON types; with the embedding if asked for."""
        data: dict[str, Any] = {
            "source": self.source,
            "model": self.model,
            "engine": self.engine,
            "fallback": self.fallback,
            "seconds": self.seconds,
            "used_seconds": self.used_seconds,
            "front_end_ms": round(self.front_end_ms, 3),
            "model_ms": round(self.model_ms, 3),
            "tags": [{"label": t.label, "index": t.index, "score": t.score} for t in self.tags],
        }
        if embedding:
            data["embedding"] = [float(v) for v in self.embedding]
        return data


def _is_truncated(seconds: float, used: float) -> bool:
    return seconds - used >= _CODEC_PADDING_SECONDS


def require_choice(top: object, threshold: object) -> None:
    """Raises unless `top` is a whole number ≥ 1 or None, and `threshold` a number, 0 … 1.

    Raises:
        AudioError: saying which.
    """
    if top is not None and (not isinstance(top, (int, np.integer)) or isinstance(top, bool) or top < 1):
        raise AudioError(f"top = {top!r}; expected a whole number ≥ 1, or None for all")
    if not isinstance(threshold, (int, float, np.number)) or not 0.0 <= threshold <= 1.0:
        raise AudioError(f"threshold = {threshold!r}; expected a number, 0 … 1")


def top_tags(
    labels: Sequence[str], probs: NDArray[np.floating], *, top: int | None = 10, threshold: float = 0.0
) -> tuple[Tag, ...]:
    """The classes with the highest probabilities (classes,), highest first: at most `top`, none below `threshold`.

    Raises:
        AudioError: `top` or `threshold` is out of range.
    """
    require_choice(top, threshold)
    order = np.argsort(-probs, kind="stable")[:top]
    # As Python floats, as the caller sees them: in float32, 0.7 is a little less than the threshold 0.7.
    scores = probs.tolist()
    return tuple(Tag(label=labels[i], index=int(i), score=scores[i]) for i in order if scores[i] >= threshold)


class Tagger:
    """Tags audio with a bundle. One instance belongs to one thread; its buffers are made once.

    The model takes memory until the tagger is gone or closed: `with Tagger() as tagger: …`.

    Args:
        bundle: folder of a bundle, or a `Bundle`; the demo bundle if not given.
        engine: "cpu"; "gpu", strictly: whole on the GPU or an error; or "auto": the GPU if one is there, if it
            takes the whole graph and, on a demo recording, agrees with the CPU; the CPU otherwise, and
            `fallback` says why. The check runs in a process of its own and takes as long as loading does.
        threads: of the CPU engine, ≥ 1; all cores of this process if not given.

    Attributes:
        bundle: the opened bundle.
        fallback: why "auto" chose the CPU, or None.

    Raises:
        BundleError: the bundle is incomplete, altered, or its graph is not what its manifest says.
        GpuError: engine "gpu", and the GPU refuses the graph, or there is no driver.

    >>> from panns_litert import Tagger
    >>> tagger = Tagger()
    >>> [tag.label for tag in tagger.tag("siren.flac", top=1).tags]
    ['Siren']
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        *,
        engine: str = "cpu",
        threads: int | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise BundleError(f"engine {engine!r}; expected one of {', '.join(ENGINES)}")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(demo_bundle() if bundle is None else bundle)
        manifest = self.bundle.manifest
        self._threads, self._auto, self._closed = threads, engine == "auto", False
        self.fallback: str | None = None
        if self._auto:
            from panns_litert.proof import why_not_gpu  # only here: it brings what only checking needs

            self.fallback = why_not_gpu(self.bundle)
        model = self.bundle.file("model")
        use_gpu = engine == "gpu" or (self._auto and self.fallback is None)
        self._engine: Engine = GpuEngine(model) if use_gpu else CpuEngine(model, threads=threads)
        expected_inputs = [(spec.name, spec.shape) for spec in manifest.inputs]
        expected_outputs = [(output.name, output.shape) for output in manifest.outputs]
        if (
            list(self._engine.inputs.items()) != expected_inputs
            or list(self._engine.outputs.items()) != expected_outputs
        ):
            raise BundleError(
                f"{model}: inputs {self._engine.inputs}, outputs {self._engine.outputs}; "
                f"the manifest says {dict(expected_inputs)}, {dict(expected_outputs)}; convert it again"
            )
        self._logmel = LogMel(manifest.front_end, basis=self.bundle.mel_basis) if manifest.graph == "logmel" else None
        self._clip = np.zeros(manifest.clip_samples, np.float32)
        self._input = self._clip[None] if self._logmel is None else np.zeros(manifest.inputs[0].shape, np.float32)

    def close(self) -> None:
        """Frees the model; tagging with it is an error from then on."""
        if not self._closed:
            self._engine.close()
        self._closed = True

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of `Tagging.probs`."""
        return self.bundle.labels

    @property
    def engine(self) -> str:
        """The engine that runs the model now, "cpu" or "gpu"."""
        return self._engine.name

    def tag(
        self,
        audio: str | os.PathLike[str] | NDArray[np.floating],
        *,
        sample_rate: int | None = None,
        top: int | None = 10,
        threshold: float = 0.0,
    ) -> Tagging:
        """Tags the first clip of a recording.

        A shorter recording is padded with zeros, of samples or as the front end has it; of a longer one only the
        start is used, with a `TruncationWarning`.

        Args:
            audio: a file that libsndfile reads, or float samples of shape (samples,) or
                (samples, channels), nominally within [-1, 1].
            sample_rate: of an array, Hz; not used for a file.
            top: at most that many tags, ≥ 1; None for all.
            threshold: no tag below that probability, 0 … 1.

        Raises:
            AudioError: the audio cannot be used.
        """
        require_choice(top, threshold)
        clip, source = self._read(audio, sample_rate)
        outputs, front_end_ms, model_ms = self._run(clip.waveform)
        probs = outputs["probs"][0]
        used = min(clip.seconds, self.bundle.manifest.clip_seconds)
        if _is_truncated(clip.seconds, used):
            warnings.warn(
                f"{source}: {clip.seconds:.1f} s long; only the first {used:g} s were tagged",
                TruncationWarning,
                stacklevel=2,
            )
        return Tagging(
            source=source,
            tags=top_tags(self.labels, probs, top=top, threshold=threshold),
            probs=probs,
            embedding=outputs["embedding"][0],
            framewise=outputs["framewise"][0] if "framewise" in outputs else None,
            seconds=clip.seconds,
            used_seconds=used,
            front_end_ms=front_end_ms,
            model_ms=model_ms,
            engine=self.engine,
            fallback=self.fallback,
            model=self.bundle.manifest.model,
        )

    def _read(self, audio: str | os.PathLike[str] | NDArray[np.floating], sample_rate: int | None) -> tuple[Audio, str]:
        manifest = self.bundle.manifest
        rate, seconds = manifest.front_end.sample_rate, manifest.clip_seconds
        if isinstance(audio, (str, os.PathLike)):
            return load_audio(audio, sample_rate=rate, max_seconds=seconds), os.fspath(audio)
        if sample_rate is None:
            raise AudioError("samples without a sample rate; expected tag(samples, sample_rate=…)")
        return from_array(audio, sample_rate, sample_rate=rate, max_seconds=seconds), "array"

    def _run(self, waveform: NDArray[np.float32]) -> tuple[Outputs, float, float]:
        start = time.perf_counter()
        self._clip[: len(waveform)] = waveform
        self._clip[len(waveform) :] = 0.0
        if self._logmel is not None:
            spec, clip = self._logmel.spec, self._clip
            if spec.padded_frames is not None:  # its padding is no silence
                clip = clip[: max(len(waveform), spec.least_samples)]
            with np.errstate(over="ignore", invalid="ignore"):  # `run` reports it
                self._logmel(clip, out=self._input[0, 0])
        middle = time.perf_counter()
        outputs = self.run(self._input)
        end = time.perf_counter()
        return outputs, 1e3 * (middle - start), 1e3 * (end - middle)

    def run(self, values: NDArray[np.float32]) -> Outputs:
        """Runs the graph once on what it takes: log-mel (1, 1, frames, mels) or samples (1, samples), float32.

        Returns:
            The bundle's outputs by name, each with a first axis of 1.

        Raises:
            AudioError: values that float16 does not hold: samples far beyond [-1, 1].
        """
        if self._closed:
            raise BundleError(f"{self.bundle.path}: this tagger was closed; expected a new one")
        if not (np.abs(values) <= _LARGEST_INPUT).all():
            raise AudioError("samples are far too large for the model; expected samples in [-1, 1]")
        try:
            return self._engine.run(values)
        except GpuError as error:
            if not self._auto:
                raise
            self.fallback = str(error)
            self._engine = CpuEngine(self.bundle.file("model"), threads=self._threads)
            return self._engine.run(values)
