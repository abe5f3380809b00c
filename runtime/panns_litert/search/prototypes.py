"""Prototypes: classes of the user's own, made without training from the mean directions of a model's embeddings.

After Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017,
https://arxiv.org/abs/1703.05175, with the cosine in place of their distance.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle
from panns_litert.errors import PrototypeError
from panns_litert.strict import printable, read, read_json, shown

FORMAT_VERSION = 1

_MOST_BYTES = 1 << 28  # of a file; a class of 2048 numbers has 45 kB

_UNIT_TOLERANCE = 1e-3
_ONE_CLIP_THRESHOLD = 0.9
_NOT_IN_A_NAME = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, separators of lines


def prototypes_path(bundle: Bundle) -> Path:
    """Returns the default file of a bundle's prototypes.

    It is beside the bundle's folder, not in it, because a new conversion replaces the folder.
    """
    return bundle.path.resolve().with_name(f"{bundle.path.resolve().name}.prototypes.json")


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """One class.

    Attributes:
        name: name of the class.
        count: number of clips that the mean was taken over, ≥ 1.
        threshold: least cosine of a clip that counts as this class, -1 … 1.
        mean: (dim,) float32, a unit vector.
    """

    name: str
    count: int
    threshold: float
    mean: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """The prototypes of a model.

    Attributes:
        model: name of the model.
        model_sha256: SHA-256 of the .tflite that the embeddings are from. Embeddings of another .tflite cannot be used.
        dim: length of an embedding.
        classes: the prototypes, with different names.
    """

    model: str
    model_sha256: str
    dim: int
    classes: tuple[Prototype, ...]

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Prototypes:
        """Returns an empty set of prototypes for a bundle.

        Raises:
            BundleError: the model has no embedding.
        """
        bundle.require_embedding()
        manifest = bundle.manifest
        return cls(
            model=manifest.model,
            model_sha256=manifest.model_sha256,
            dim=manifest.embedding_size,
            classes=(),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of `scores`."""
        return tuple(one.name for one in self.classes)

    def enroll(self, name: str, embeddings: NDArray[np.floating]) -> Prototypes:
        """Returns these prototypes with one more class. A class of the same name is replaced.

        The threshold is the lowest cosine of any clip with the mean of the other clips. If the cosine of the nearest
        other class with the new mean is as high or higher, the threshold is halfway between that cosine and 1. A
        single clip has no spread: its threshold is halfway between the nearest other class and 1, or 0.9 if there is
        no other class.

        Args:
            name: name of the class.
            embeddings: (clips ≥ 1, dim) from the bundle's model.

        Raises:
            PrototypeError: the name is blank or not one line of text; the embeddings have another shape, are zero or
                not finite; or their mean is zero.
        """
        _require_name(name)
        units = _units(embeddings, self.dim)
        mean = units.mean(axis=0)
        norm = np.linalg.norm(mean)
        if not norm > 0:
            raise PrototypeError("the clips point in opposite directions; expected clips of one sound")
        mean /= norm
        others = [one for one in self.classes if one.name != name]
        threshold = _least_left_out(units) if len(units) > 1 else _ONE_CLIP_THRESHOLD
        if others:
            nearest = min(1.0, max(float(one.mean @ mean) for one in others))  # rounding may give more
            if len(units) == 1 or nearest >= threshold:
                threshold = (1.0 + nearest) / 2
        new = Prototype(name=name, count=len(units), threshold=threshold, mean=mean.astype(np.float32))
        return replace(self, classes=(*others, new))

    def scores(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the cosines (classes,) of an embedding (dim,) with every prototype, -1 … 1.

        Raises:
            PrototypeError: there is no class, or the embedding has another length, is zero or not finite.
        """
        if not self.classes:
            raise PrototypeError("no class yet; expected at least one: panns-litert enroll NAME CLIP …")
        unit = _units(np.asarray(embedding)[None], self.dim)[0]
        return np.asarray(np.clip(np.stack([one.mean for one in self.classes]) @ unit, -1.0, 1.0), np.float32)

    def nearest(self, embedding: NDArray[np.floating]) -> tuple[Prototype, float] | None:
        """Returns the class with the highest cosine, and that cosine.

        Only classes whose threshold is reached count. If there is none, returns None.
        """
        scores = self.scores(embedding)
        reached = [i for i, one in enumerate(self.classes) if scores[i] >= one.threshold]
        if not reached:
            return None
        best = max(reached, key=lambda i: float(scores[i]))
        return self.classes[best], float(scores[best])

    def require_model(self, bundle: Bundle) -> None:
        """Checks that the prototypes are for this bundle's model.

        Raises:
            PrototypeError: they are for another model.
        """
        mine = Prototypes.of_bundle(bundle)
        if (self.model_sha256, self.dim) != (mine.model_sha256, mine.dim):
            raise PrototypeError(
                f"prototypes of {self.model} ({self.model_sha256[:12]}…); {bundle.path} is {mine.model} "
                f"({mine.model_sha256[:12]}…); enroll the clips again with that bundle"
            )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, atomically.

        Raises:
            ResultsError: the file cannot be written.
        """
        classes = tuple(
            _Class(name=one.name, count=one.count, threshold=one.threshold, mean=tuple(one.mean.tolist()))
            for one in self.classes
        )
        file = _File(
            format_version=FORMAT_VERSION,
            model=self.model,
            model_sha256=self.model_sha256,
            dim=self.dim,
            classes=classes,
        )
        text = json.dumps(asdict(file), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        with replacing(path) as target:
            target.write(text.encode())

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
            Prototype(name=one.name, count=one.count, threshold=one.threshold, mean=np.asarray(one.mean, np.float32))
            for one in file.classes
        ]
        return cls(model=file.model, model_sha256=file.model_sha256, dim=file.dim, classes=tuple(classes))


@dataclass(frozen=True, kw_only=True)
class _Class:
    """A class as the file holds it. The values are checked on construction."""

    name: str
    count: int
    threshold: float
    mean: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_name(self.name)
        if self.count < 1 or not -1.0 <= self.threshold <= 1.0:
            raise PrototypeError(f"count {self.count}, threshold {self.threshold:g}; expected ≥ 1, and -1 … 1")
        if not abs(float(np.linalg.norm(self.mean)) - 1.0) <= _UNIT_TOLERANCE:
            raise PrototypeError(f"mean of class {self.name!r}; expected a vector of length 1")


@dataclass(frozen=True, kw_only=True)
class _File:
    """What the file holds."""

    format_version: int
    model: str
    model_sha256: str
    dim: int
    classes: tuple[_Class, ...]


def _require_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or any(category(c) in _NOT_IN_A_NAME for c in name):
        raise PrototypeError(f"class {shown(name)}; expected a name of one line")


def _least_left_out(units: NDArray[np.float64]) -> float:
    """Returns the least cosine of any unit vector of (clips ≥ 2, dim) with the mean of the others."""
    rest = units.sum(axis=0) - units
    norms = np.linalg.norm(rest, axis=1)
    cosines = np.sum(units * rest, axis=1) / np.where(norms > 0, norms, 1.0)
    return float(np.clip(cosines.min(), -1.0, 1.0))


def _units(embeddings: NDArray[np.floating], dim: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(embeddings, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PrototypeError(f"embeddings {shown(embeddings)}; expected numbers (clips ≥ 1, {dim})") from error
    if values.ndim != 2 or len(values) < 1 or values.shape[1] != dim:
        raise PrototypeError(f"embeddings of shape {values.shape}; expected (clips ≥ 1, {dim})")
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise PrototypeError("an embedding is zero or not finite; expected a clip in which something is heard")
    return np.asarray(values / norms)
