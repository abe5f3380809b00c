"""Classes of the user's own without training: prototypes, the mean directions of a model's embeddings.

Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017, https://arxiv.org/abs/1703.05175, with
cosine for their distance.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle
from panns_litert.errors import PrototypeError

FORMAT_VERSION = 1

_UNIT_TOLERANCE = 1e-3
_ONE_CLIP_THRESHOLD = 0.9


def prototypes_path(bundle: Bundle) -> Path:
    """Where a bundle's prototypes are: beside its folder, which a new conversion replaces."""
    return bundle.path.resolve().with_name(f"{bundle.path.resolve().name}.prototypes.json")


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """One class.

    Attributes:
        name: of the class.
        count: how many clips it is the mean of, ≥ 1.
        threshold: the least cosine of a clip that counts as this class, -1 … 1.
        mean: (dim,) float32, a unit vector.
    """

    name: str
    count: int
    threshold: float
    mean: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """The prototypes of a model.

    Attributes:
        model: its name.
        model_sha256: of the .tflite whose embeddings they are of; those of another mean nothing to them.
        dim: length of the embedding.
        classes: the prototypes, each name once.
    """

    model: str
    model_sha256: str
    dim: int
    classes: tuple[Prototype, ...]

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Prototypes:
        """None yet, for a bundle."""
        manifest = bundle.manifest
        return cls(
            model=manifest.model,
            model_sha256=manifest.files[manifest.file("model")].sha256,
            dim=manifest.outputs[1].shape[1],
            classes=(),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of `scores`."""
        return tuple(one.name for one in self.classes)

    def enroll(self, name: str, embeddings: NDArray[np.floating]) -> Prototypes:
        """These prototypes and one more; one of the same name is replaced.

        The threshold is the lowest cosine of any clip with the mean of the others, and, where another class is nearer
        to the mean than that, halfway between the two. One clip alone tells no spread: halfway to the nearest other
        class, or 0.9 if there is none.

        Args:
            name: of the class.
            embeddings: (clips ≥ 1, dim) of the bundle's model.

        Raises:
            PrototypeError: no name, or embeddings of another shape, zero or not finite.
        """
        if not name.strip():
            raise PrototypeError("a class without a name; expected one")
        units = _units(embeddings, self.dim)
        mean = _unit(units.mean(axis=0))
        others = [one for one in self.classes if one.name != name]
        threshold = _least_left_out(units) if len(units) > 1 else _ONE_CLIP_THRESHOLD
        if others:
            nearest = max(float(one.mean @ mean) for one in others)
            if len(units) == 1 or nearest >= threshold:
                threshold = (1.0 + nearest) / 2
        new = Prototype(name=name, count=len(units), threshold=threshold, mean=mean.astype(np.float32))
        return Prototypes(model=self.model, model_sha256=self.model_sha256, dim=self.dim, classes=(*others, new))

    def scores(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Cosines (classes,) of an embedding (dim,) with every prototype, -1 … 1.

        Raises:
            PrototypeError: no class yet, or an embedding of another length, zero or not finite.
        """
        if not self.classes:
            raise PrototypeError("no class yet; expected at least one: panns-litert enroll NAME CLIP …")
        unit = _units(np.asarray(embedding)[None], self.dim)[0]
        return np.asarray(np.clip(np.stack([one.mean for one in self.classes]) @ unit, -1.0, 1.0), np.float32)

    def nearest(self, embedding: NDArray[np.floating]) -> tuple[Prototype, float] | None:
        """The class with the highest cosine among those whose threshold it reaches, and that cosine; None for none."""
        scores = self.scores(embedding)
        reached = [i for i, one in enumerate(self.classes) if scores[i] >= one.threshold]
        if not reached:
            return None
        best = max(reached, key=lambda i: float(scores[i]))
        return self.classes[best], float(scores[best])

    def require_model(self, bundle: Bundle) -> None:
        """Raises unless they are of that bundle's model.

        Raises:
            PrototypeError: they are of another.
        """
        mine = Prototypes.of_bundle(bundle)
        if (self.model_sha256, self.dim) != (mine.model_sha256, mine.dim):
            raise PrototypeError(
                f"prototypes of {self.model} ({self.model_sha256[:12]}…); {bundle.path} is {mine.model} "
                f"({mine.model_sha256[:12]}…); enroll the clips again with that bundle"
            )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, at once or not at all.

        Raises:
            ResultsError: it cannot be written.
        """
        data = {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "dim": self.dim,
            "classes": [
                {"name": one.name, "count": one.count, "threshold": one.threshold, "mean": one.mean.tolist()}
                for one in self.classes
            ],
        }
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        with replacing(path) as file:
            file.write(text.encode())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Prototypes:
        """Reads a file, strictly.

        Raises:
            PrototypeError: missing, no JSON, another format, or vectors that are no unit vectors of that length.
        """
        path = Path(path)
        remedy = "expected what `panns-litert enroll` wrote; enroll the clips again"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise PrototypeError(f"{path}: {error}; {remedy}") from error
        try:
            return cls._parsed(data)
        except (PrototypeError, KeyError, TypeError, ValueError) as error:
            what = f"missing {error}" if isinstance(error, KeyError) else str(error)
            raise PrototypeError(f"{path}: {what}; {remedy}") from error

    @classmethod
    def _parsed(cls, data: Any) -> Prototypes:
        expected = {"format_version", "model", "model_sha256", "dim", "classes"}
        if not isinstance(data, Mapping) or data.get("format_version") != FORMAT_VERSION or set(data) != expected:
            raise PrototypeError(f"no prototypes of format_version {FORMAT_VERSION}")
        dim, classes = data["dim"], []
        if type(dim) is not int or dim < 1:
            raise PrototypeError(f"dim {dim!r}")
        if not all(isinstance(data[name], str) for name in ("model", "model_sha256")):
            raise PrototypeError("model or model_sha256 is no text")
        for row in data["classes"]:
            mean = np.asarray(row["mean"], np.float32)
            if (
                set(row) != {"name", "count", "threshold", "mean"}
                or not (isinstance(row["name"], str) and row["name"].strip())
                or not (type(row["count"]) is int and row["count"] >= 1)
                or not (type(row["threshold"]) in (int, float) and -1.0 <= row["threshold"] <= 1.0)
                or mean.shape != (dim,)
                or not abs(float(np.linalg.norm(mean)) - 1.0) <= _UNIT_TOLERANCE
            ):
                raise PrototypeError(f"class {row.get('name')!r} is no name, count, threshold and unit vector of {dim}")
            classes.append(
                Prototype(name=row["name"], count=row["count"], threshold=float(row["threshold"]), mean=mean)
            )
        if len({one.name for one in classes}) != len(classes):
            raise PrototypeError("a name twice")
        return cls(model=data["model"], model_sha256=data["model_sha256"], dim=dim, classes=tuple(classes))


def _least_left_out(units: NDArray[np.float64]) -> float:
    """The least cosine of any of (clips ≥ 2, dim) with the mean of the others."""
    rest = units.sum(axis=0) - units
    norms = np.linalg.norm(rest, axis=1)
    cosines = np.sum(units * rest, axis=1) / np.where(norms > 0, norms, 1.0)
    return float(np.clip(cosines.min(), -1.0, 1.0))


def _units(embeddings: NDArray[np.floating], dim: int) -> NDArray[np.float64]:
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or len(values) < 1 or values.shape[1] != dim:
        raise PrototypeError(f"embeddings of shape {values.shape}; expected (clips ≥ 1, {dim})")
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise PrototypeError("an embedding is zero or not finite; expected a clip in which something is heard")
    return np.asarray(values / norms)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = float(np.linalg.norm(vector))
    if not (math.isfinite(norm) and norm > 0):
        raise PrototypeError("the clips point in opposite directions; expected clips of one sound")
    return vector / norm
