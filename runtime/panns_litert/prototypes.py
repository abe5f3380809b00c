"""Prototypes: classes of the user's own, made without training from the mean directions of a model's embeddings.

After Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017,
https://arxiv.org/abs/1703.05175, with the cosine in place of their distance.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle
from panns_litert.errors import LabelError, PrototypeError
from panns_litert.events import EventSettings
from panns_litert.sense import require_class_names
from panns_litert.strict import parse_json, printable, read, read_json, shown
from panns_litert.words import counted

FORMAT_VERSION = 2

MOST_BACKGROUND = 256
"""Largest number of background embeddings that are kept."""

THRESHOLD_SCORE = 0.5
"""The score at the threshold of a class."""

_BACKGROUND_SHARE = 0.95  # of the background's cosines are below its level
_BACKGROUND_LOGIT = math.log(19.0)  # minus the logit of the score at that level, 0.05
_LEAST_STEP = 0.02  # from the background's level to the threshold

_MOST_BYTES = 1 << 28  # of a file; a class of 2048 numbers has 45 kB

_UNIT_TOLERANCE = 1e-3


def with_enrolled(settings: EventSettings | None, enrolled: Sequence[str]) -> EventSettings | None:
    """Returns the settings with the thresholds of enrolled classes, which are not those of the model's classes.

    They are 0.5 and 0.25, for each class of which the settings have no `on`.
    """
    if not enrolled:
        return settings
    settings = EventSettings() if settings is None else settings
    classes = dict(settings.classes)
    for name in enrolled:
        given = classes.get(name, {})
        if "on" not in given:
            classes[name] = {"on": THRESHOLD_SCORE, "off": THRESHOLD_SCORE / 2, **given}
    return replace(settings, classes=classes)


def prototypes_path(bundle: Bundle) -> Path:
    """Returns the default file of a bundle's prototypes.

    It is beside the bundle's folder, not in it, because a new conversion replaces the folder.
    """
    return bundle.path.resolve().with_name(f"{bundle.path.resolve().name}.prototypes.json")


def score_of_cosine(
    cosine: NDArray[np.floating], *, threshold: NDArray[np.floating] | float, scale: NDArray[np.floating] | float
) -> NDArray[np.float64]:
    """Returns the score of a class for the cosine of an embedding with its mean.

    It is 1 / (1 + exp((threshold − cosine) / scale)): it grows with the cosine and is 0.5 at the threshold.
    `Prototypes.enroll` chooses the scale so that it is 0.05 at the level of the background.

    Args:
        cosine: cosines, -1 … 1, of any shape.
        threshold: the class's threshold, -1 … 1.
        scale: cosine for one unit of the score's logit, > 0.

    >>> score_of_cosine(np.array([0.3, 0.6, 0.9]), threshold=0.6, scale=0.1).round(2)
    array([0.05, 0.5 , 0.95])
    """
    with np.errstate(over="ignore"):  # infinite for cosines far below the threshold, whose score is 0
        return np.asarray(1.0 / (1.0 + np.exp((threshold - np.asarray(cosine, np.float64)) / scale)))


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """One class.

    Attributes:
        name: name of the class.
        count: number of clips that the mean was taken over, ≥ 1.
        cosine: mean cosine of a clip's windows with the mean of the other clips, -1 … 1; 1 for a single clip.
        threshold: least cosine of a window that counts as this class, -1 … 1.
        scale: cosine for one unit of the score's logit, > 0; see `score_of_cosine`.
        mean: (dim,) float32, a unit vector.
        sha256: hashes of the clips' files; empty if they are not known.
    """

    name: str
    count: int
    cosine: float = field(repr=False)
    threshold: float
    scale: float
    mean: NDArray[np.float32] = field(repr=False)
    sha256: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """Embeddings of sounds that belong to none of the classes.

    Attributes:
        vectors: (windows, dim) float32, unit vectors that float16 can hold.
        sha256: hashes of the clips' files.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    sha256: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prototypes:
    """The prototypes of a model. Give them to a `Tagger`: their classes then follow the model's own.

    Attributes:
        model: name of the model.
        model_sha256: SHA-256 of the .tflite that the embeddings are from. Embeddings of another .tflite cannot be used.
        dim: length of an embedding.
        classes: the prototypes, with different names.
        background: embeddings of other sounds, from which the thresholds come.
    """

    model: str
    model_sha256: str
    dim: int
    classes: tuple[Prototype, ...]
    background: Background

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Prototypes:
        """Returns an empty set of prototypes for a bundle, without a background.

        Raises:
            BundleError: the model has no embedding.
        """
        bundle.require_embedding()
        manifest = bundle.manifest
        return cls.empty(manifest.model, manifest.model_sha256, manifest.embedding_size)

    @classmethod
    def empty(cls, model: str, model_sha256: str, dim: int) -> Prototypes:
        """Returns an empty set of prototypes, without a background."""
        none = Background(vectors=np.zeros((0, dim), np.float32), sha256=())
        return cls(model=model, model_sha256=model_sha256, dim=dim, classes=(), background=none)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of `scores`."""
        return tuple(one.name for one in self.classes)

    @property
    def answers_sha256(self) -> str:
        """Hash of all that changes a score: two files with the same one give the same scores."""
        digest = hashlib.sha256(self.model_sha256.encode())
        for one in self.classes:
            digest.update(json.dumps([one.name, one.threshold, one.scale, one.mean.tolist()]).encode())
        return digest.hexdigest()

    def with_background(self, embeddings: ArrayLike, *, sha256: Sequence[str] = ()) -> Prototypes:
        """Returns these prototypes with another background, and with the thresholds that follow from it.

        Args:
            embeddings: (windows ≥ 1, dim) from the bundle's model, of sounds of none of the classes, as they occur
                where the model is used. Of more than `MOST_BACKGROUND`, only as many are kept, evenly spread.
            sha256: hashes of the clips' files.

        Raises:
            PrototypeError: the embeddings have another shape, are zero or not finite; or a clip is one of a class.
        """
        vectors = _units(embeddings, self.dim)
        kept = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), MOST_BACKGROUND)).round().astype(int))
        # In float16, as in the file, so that the thresholds do not depend on whether the file was read again.
        rounded = vectors[kept].astype(np.float16).astype(np.float32)
        background = Background(vectors=rounded, sha256=tuple(sha256))
        for one in self.classes:
            _require_apart(one.name, one.sha256, background.sha256)
        return replace(self, background=background)._settled()

    def enroll(self, name: str, clips: Iterable[ArrayLike], *, sha256: Sequence[str] = ()) -> Prototypes:
        """Returns these prototypes with one more class. A class of the same name is replaced.

        The threshold is halfway between two cosines with the class's mean. One is the level of the background: 95 % of
        its embeddings and of the other classes' means are below. The other is the mean cosine of a clip with the mean
        of the other clips, averaged with one imaginary clip halfway between the level and 1, which is all that is known
        of a class of a single clip. The thresholds of the other classes are chosen again, so the order of enrolment
        does not matter.

        Args:
            name: name of the class.
            clips: of each clip, the embedding (dim,) or those of its windows (windows ≥ 1, dim), from the bundle's
                model.
            sha256: hashes of the clips' files.

        Raises:
            PrototypeError: the name is blank or not one line of text; there is no background; the embeddings have
                another shape, are zero or not finite; their mean is zero; or a clip is part of the background.
        """
        _require_name(name)
        if not len(self.background.vectors):
            raise PrototypeError("no background; expected embeddings of other sounds first: with_background(…)")
        _require_apart(name, sha256, self.background.sha256)
        windows = clip_units(clips, self.dim)
        means = np.stack([clip.mean(axis=0) for clip in windows])
        mean = means.mean(axis=0)
        norm = np.linalg.norm(mean)
        if not norm > 0:
            raise PrototypeError("the clips point in opposite directions; expected clips of one sound")
        new = Prototype(
            name=name,
            count=len(windows),
            cosine=float(np.clip(np.mean(np.concatenate(left_out_cosines(windows))), -1.0, 1.0)),
            threshold=1.0,  # `_settled` replaces both
            scale=1.0,
            mean=(mean / norm).astype(np.float32),
            sha256=tuple(sha256),
        )
        others = tuple(one for one in self.classes if one.name != name)
        return replace(self, classes=(*others, new))._settled()

    def _settled(self) -> Prototypes:
        """Returns the same classes with their thresholds and scales chosen, as `enroll` says."""
        means = np.stack([one.mean for one in self.classes]) if self.classes else np.zeros((0, self.dim), np.float32)
        settled = []
        for k, one in enumerate(self.classes):
            others = np.concatenate([self.background.vectors, np.delete(means, k, axis=0)]).astype(np.float64)
            level = min(1.0, float(np.quantile(others @ one.mean, _BACKGROUND_SHARE)))  # rounding may give more
            known = one.count if one.count > 1 else 0
            own = (known * one.cosine + (1.0 + level) / 2) / (known + 1)
            step = max((own - level) / 2, _LEAST_STEP)
            threshold, scale = min(1.0, level + step), step / _BACKGROUND_LOGIT
            settled.append(replace(one, threshold=threshold, scale=scale))
        return replace(self, classes=tuple(settled))

    def cosines(self, embedding: ArrayLike) -> NDArray[np.float64]:
        """Returns the cosines (classes,) of an embedding (dim,) with the mean of every class, -1 … 1.

        Raises:
            PrototypeError: there is no class, or the embedding has another length, is zero or not finite.
        """
        if not self.classes:
            raise PrototypeError("no class yet; expected at least one: panns-litert enroll NAME CLIP …")
        unit = _units(np.asarray(embedding)[None], self.dim)[0]
        return np.asarray(np.clip(np.stack([one.mean for one in self.classes]) @ unit, -1.0, 1.0))

    def scores(self, embedding: ArrayLike) -> NDArray[np.float32]:
        """Returns the scores (classes,) of an embedding (dim,), 0 … 1; 0.5 is the threshold of a class.

        An embedding of zeros, in which the model hears nothing, scores 0.

        Raises:
            PrototypeError: there is no class, or the embedding has another length or is not finite.
        """
        values = np.asarray(embedding)
        if self.classes and values.shape == (self.dim,) and values.dtype.kind == "f" and not values.any():
            return np.zeros(len(self.classes), np.float32)
        thresholds, scales = (np.array([getattr(one, key) for one in self.classes]) for key in ("threshold", "scale"))
        return score_of_cosine(self.cosines(values), threshold=thresholds, scale=scales).astype(np.float32)

    def nearest(self, embedding: ArrayLike) -> tuple[Prototype, float] | None:
        """Returns the class with the highest score, and that score, or None if no class reaches its threshold."""
        scores = self.scores(embedding)
        best = int(scores.argmax())
        return (self.classes[best], float(scores[best])) if scores[best] >= THRESHOLD_SCORE else None

    def joined(self, outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Returns the outputs of a model, with the scores of these classes behind those of the model's own.

        Args:
            outputs: `probs` (1, classes) and `embedding` (1, dim), and `framewise` (1, frames, classes) if the network
                has it. The embedding is of the whole clip, so every frame gets the same scores of these classes.
        """
        own = self.scores(outputs["embedding"][0])[None]  # (1, classes of these prototypes)
        joined = dict(outputs) | {"probs": np.concatenate([outputs["probs"], own], axis=-1)}
        if (frames := outputs.get("framewise")) is not None:
            repeated = np.broadcast_to(own[:, None], (1, frames.shape[1], own.shape[1]))
            joined["framewise"] = np.concatenate([frames, repeated], axis=-1)
        return joined

    def require_model(self, bundle: Bundle) -> None:
        """Checks that the prototypes are for this bundle's model, and that its classes have other names.

        Raises:
            PrototypeError: they are for another model, or have a class of its.
            BundleError: the model has no embedding.
        """
        mine = Prototypes.of_bundle(bundle)
        if (self.model_sha256, self.dim) != (mine.model_sha256, mine.dim):
            raise PrototypeError(
                f"prototypes of {self.model} ({self.model_sha256[:12]}…); {bundle.path} is {mine.model} "
                f"({mine.model_sha256[:12]}…); enroll the clips again with that bundle"
            )
        for name in self.labels:
            require_new_name(name, bundle)

    def without_background(self) -> Prototypes:
        """Returns the same classes without the background, which scores do not need."""
        return replace(self, background=Prototypes.empty(self.model, self.model_sha256, self.dim).background)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, atomically.

        Raises:
            ResultsError: the file cannot be written.
        """
        with replacing(path) as target:
            target.write(self.to_json().encode())

    def to_json(self) -> str:
        """Returns the text of the file."""
        classes = tuple(
            _Class(
                name=one.name,
                count=one.count,
                cosine=one.cosine,
                threshold=one.threshold,
                scale=one.scale,
                mean=tuple(one.mean.tolist()),
                sha256=one.sha256,
            )
            for one in self.classes
        )
        vectors = self.background.vectors
        background = _BackgroundFile(
            sha256=self.background.sha256,
            windows=len(vectors),
            vectors=base64.b64encode(vectors.astype("<f2").tobytes()).decode(),
        )
        file = _File(
            format_version=FORMAT_VERSION,
            model=self.model,
            model_sha256=self.model_sha256,
            dim=self.dim,
            classes=classes,
            background=background,
        )
        return json.dumps(asdict(file), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Prototypes:
        """Reads a file that `write` wrote. Every value is checked.

        Raises:
            PrototypeError: the file is missing, not JSON or of another format, or a vector is not a unit vector of
                length `dim`.
        """
        what, remedy = "a file that `panns-litert enroll` wrote", "enroll the clips again"
        try:
            data = read_json(path, error=PrototypeError, what=what, most_bytes=_MOST_BYTES)
        except PrototypeError as error:
            raise PrototypeError(f"{error}; {remedy}") from error
        try:
            return cls._parsed(data)
        except PrototypeError as error:
            raise PrototypeError(f"{printable(path)}: {error}; {remedy}") from error

    @classmethod
    def from_json(cls, text: str) -> Prototypes:
        """Reads the text of a file, as `read` does.

        Raises:
            PrototypeError: the text is not JSON, or as for `read`.
        """
        return cls._parsed(parse_json(text, "prototypes", error=PrototypeError))

    @classmethod
    def _parsed(cls, data: Any) -> Prototypes:
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:  # first, because another version may have other fields
            raise PrototypeError(f"format_version {shown(version)}; expected {FORMAT_VERSION}")
        file: _File = read(_File, data, "prototypes", error=PrototypeError)
        for one in file.classes:
            if len(one.mean) != file.dim:
                raise PrototypeError(f"class {one.name!r} has {len(one.mean)} numbers; expected {file.dim}")
        if len({one.name for one in file.classes}) != len(file.classes):
            raise PrototypeError("two classes have the same name; expected each name once")
        classes = [
            Prototype(
                name=one.name,
                count=one.count,
                cosine=one.cosine,
                threshold=one.threshold,
                scale=one.scale,
                mean=np.asarray(one.mean, np.float32),
                sha256=one.sha256,
            )
            for one in file.classes
        ]
        return cls(
            model=file.model,
            model_sha256=file.model_sha256,
            dim=file.dim,
            classes=tuple(classes),
            background=Background(vectors=file.background.read(file.dim), sha256=file.background.sha256),
        )


@dataclass(frozen=True, kw_only=True)
class _Class:
    """A class as the file holds it. The values are checked on construction."""

    name: str
    count: int
    cosine: float
    threshold: float
    scale: float
    mean: tuple[float, ...]
    sha256: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_name(self.name)
        if self.count < 1 or not (-1.0 <= self.threshold <= 1.0 and -1.0 <= self.cosine <= 1.0):
            raise PrototypeError(
                f"count {self.count}, threshold {self.threshold:g}, cosine {self.cosine:g}; expected ≥ 1, and -1 … 1"
            )
        if not 0.0 < self.scale < math.inf:
            raise PrototypeError(f"scale {self.scale:g} of class {self.name!r}; expected a number > 0")
        if not abs(float(np.linalg.norm(self.mean)) - 1.0) <= _UNIT_TOLERANCE:
            raise PrototypeError(f"mean of class {self.name!r}; expected a vector of length 1")


@dataclass(frozen=True, kw_only=True)
class _BackgroundFile:
    """The background as the file holds it: float16, little-endian, in base64."""

    sha256: tuple[str, ...]
    windows: int
    vectors: str

    def read(self, dim: int) -> NDArray[np.float32]:
        try:
            data = base64.b64decode(self.vectors, validate=True)
        except ValueError as error:
            raise PrototypeError(f"background: {error}; expected base64") from error
        if not 0 <= self.windows <= MOST_BACKGROUND or len(data) != 2 * dim * self.windows:
            raise PrototypeError(
                f"background: {self.windows} windows in {len(data)} bytes; expected 0 … {MOST_BACKGROUND}, each of "
                f"{2 * dim} bytes"
            )
        vectors = np.frombuffer(data, "<f2").astype(np.float32).reshape(self.windows, dim)
        if not (np.abs(np.linalg.norm(vectors, axis=1) - 1.0) <= _UNIT_TOLERANCE).all():
            raise PrototypeError("background: a vector of another length; expected vectors of length 1")
        return vectors


@dataclass(frozen=True, kw_only=True)
class _File:
    """What the file holds."""

    format_version: int
    model: str
    model_sha256: str
    dim: int
    classes: tuple[_Class, ...]
    background: _BackgroundFile


def require_new_name(name: str, bundle: Bundle) -> None:
    """Checks that the model has no class of this name.

    Raises:
        PrototypeError: it has one, perhaps in other letters: Dog and dog.
    """
    for label in bundle.labels:
        if label.casefold() == name.casefold():
            raise PrototypeError(
                f"{bundle.manifest.model} has a class {label!r}; expected another name for the new one"
            )


def _require_apart(name: str, sha256: Sequence[str], background: Sequence[str]) -> None:
    if both := set(sha256) & set(background):
        raise PrototypeError(
            f"{counted(len(both), 'clip')} of {name!r} (SHA-256 {min(both)[:12]}…) also in the background; "
            "expected a background without the sound"
        )


def _require_name(name: object) -> None:
    try:
        require_class_names([name])  # type: ignore[list-item]
    except LabelError as error:
        raise PrototypeError(
            f"class {shown(name)}; expected a name of one line, without characters that a page does not show"
        ) from error


def clip_units(clips: Iterable[ArrayLike], dim: int) -> list[NDArray[np.float64]]:
    """Returns the unit vectors (windows, dim) of each clip's embeddings (dim,) or (windows, dim).

    Raises:
        PrototypeError: there is no clip, or embeddings have another shape, are zero or not finite.
    """
    if not isinstance(clips, Iterable) or isinstance(clips, (str, bytes)):
        raise PrototypeError(f"embeddings {shown(clips)}; expected those of each clip, (windows ≥ 1, {dim})")
    found = [_units(np.atleast_2d(_numbers(clip, dim)), dim) for clip in clips]
    if not found:
        raise PrototypeError(f"no embeddings; expected those of at least one clip, (windows ≥ 1, {dim})")
    return found


def left_out_cosines(windows: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Returns the cosines (windows,) of each clip's unit vectors with the mean of the other clips; 1 for one clip."""
    if len(windows) == 1:
        return [np.ones(len(windows[0]))]
    means = np.stack([clip.mean(axis=0) for clip in windows])
    rest = means.sum(axis=0) - means
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    rest /= np.where(norms > 0, norms, 1.0)
    return [clip @ other for clip, other in zip(windows, rest, strict=True)]


def _numbers(values: ArrayLike, dim: int) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PrototypeError(f"embeddings {shown(values)}; expected numbers (windows ≥ 1, {dim})") from error


def _units(embeddings: ArrayLike, dim: int) -> NDArray[np.float64]:
    values = _numbers(embeddings, dim)
    if values.ndim != 2 or len(values) < 1 or values.shape[1] != dim:
        raise PrototypeError(f"embeddings of shape {values.shape}; expected (windows ≥ 1, {dim})")
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise PrototypeError("an embedding is zero or not finite; expected a clip in which something is heard")
    return np.asarray(values / norms)
