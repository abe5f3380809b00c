"""Prototypes: classes of the user's own, made without training from the mean directions of a model's embeddings.

After Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017,
https://arxiv.org/abs/1703.05175, with the cosine in place of their distance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    mean: NDArray[np.float32]


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
        """Returns an empty set of prototypes for a bundle."""
        manifest = bundle.manifest
        return cls(
            model=manifest.model,
            model_sha256=manifest.model_sha256,
            dim=manifest.outputs[1].shape[1],
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
            PrototypeError: the name is blank; the embeddings have another shape, are zero or not finite; or their
                mean is zero.
        """
        if not name.strip():
            raise PrototypeError("a class without a name; expected one")
        units = _units(embeddings, self.dim)
        mean = units.mean(axis=0)
        norm = np.linalg.norm(mean)
        if not norm > 0:
            raise PrototypeError("the clips point in opposite directions; expected clips of one sound")
        mean /= norm
        others = [one for one in self.classes if one.name != name]
        threshold = _least_left_out(units) if len(units) > 1 else _ONE_CLIP_THRESHOLD
        if others:
            nearest = max(float(one.mean @ mean) for one in others)
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
        """Reads a file that `write` wrote. Every value is checked.

        Raises:
            PrototypeError: the file is missing, not JSON or of another format, or a vector is not a unit vector of
                length `dim`.
        """
        path = Path(path)
        remedy = "expected a file that `panns-litert enroll` wrote; enroll the clips again"
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
            raise PrototypeError(f"not prototypes of format_version {FORMAT_VERSION}")
        dim, classes = data["dim"], []
        if type(dim) is not int or dim < 1:
            raise PrototypeError(f"dim {dim!r}")
        if not all(isinstance(data[name], str) for name in ("model", "model_sha256")):
            raise PrototypeError("model or model_sha256 is not text")
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
                raise PrototypeError(
                    f"class {row.get('name')!r} lacks a valid name, count, threshold or unit vector of length {dim}"
                )
            classes.append(
                Prototype(name=row["name"], count=row["count"], threshold=float(row["threshold"]), mean=mean)
            )
        if len({one.name for one in classes}) != len(classes):
            raise PrototypeError("two classes have the same name")
        return cls(model=data["model"], model_sha256=data["model_sha256"], dim=dim, classes=tuple(classes))


def _least_left_out(units: NDArray[np.float64]) -> float:
    """Returns the least cosine of any unit vector of (clips ≥ 2, dim) with the mean of the others."""
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
