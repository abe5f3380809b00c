"""Sense: converts a model's probabilities to the scores that the application uses."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import LabelError
from panns_litert.sense.labels import require_class_names, unknown_label
from panns_litert.sense.ontology import Ontology
from panns_litert.strict import shown


class Sense:
    """Converts probabilities to scores: temperature, silence, roll-up, selection and groups, in this order.

    Args:
        labels: the model's class names, such as `Tagger.labels`.
        temperature: divisor of the logits, > 0; above 1 for an overconfident model. One number for all classes, or a
            mapping from class name to number, with 1 for classes that it does not name.
        silence_dbfs: gate, dB: in a window with a lower level every score is 0. None for no gate.
        roll_up: whether a class scores at least as high as the classes below it in AudioSet's ontology: a dog is also
            an animal.
        allow, deny: "Dog" for a class, "Animal/" for a node and everything below it. Classes that are denied,
            or not allowed, score 0.
        groups: name of each group to its members, written as for `allow`. The groups replace the classes.

    Attributes:
        labels: names of the scores: the classes, or the groups.

    Raises:
        LabelError: a name is unknown (the message suggests the nearest one), or a temperature is not > 0.

    >>> sense = Sense(("Animal", "Dog", "Bark", "Music"), roll_up=True, deny=["Music"])
    >>> sense(np.array([0.1, 0.2, 0.9, 0.8]))
    array([0.9, 0.9, 0.9, 0. ])
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        temperature: float | Mapping[str, float] = 1.0,
        silence_dbfs: float | None = None,
        roll_up: bool = False,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._classes, self._groups = require_class_names(labels, "labels"), groups
        if groups is not None and not isinstance(groups, Mapping):
            raise LabelError(f"groups {shown(groups)}; expected names with the members of each group")
        for what, names in (("allow", () if allow is None else allow), ("deny", deny)):
            if isinstance(names, str) or not isinstance(names, Sequence):
                raise LabelError(f"{what} = {shown(names)}; expected a list of names")
        if silence_dbfs is not None and not _is_number(silence_dbfs):
            raise LabelError(f"silence_dbfs = {shown(silence_dbfs)}; expected a level in dB, such as -60, or None")
        if not isinstance(roll_up, (bool, np.bool_)):
            raise LabelError(f"roll_up = {shown(roll_up)}; expected True or False")
        self.labels = self._classes if groups is None else tuple(groups)
        self._temperature = _temperatures(self._classes, temperature)
        self._silence_dbfs, self._roll_up = silence_dbfs, roll_up
        chosen = allow is not None or len(deny) > 0
        # Reading the ontology takes some milliseconds, and most runs do not need it.
        self._ontology = Ontology.load(labels) if roll_up or chosen or groups is not None else None
        self._kept = self._ontology.select(allow=allow, deny=deny) if self._ontology and chosen else None
        self(np.zeros(len(self._classes)))  # raises now, not at the first window, if a group names an unknown class

    def __call__(self, probs: NDArray[np.floating], *, level_dbfs: float | None = None) -> NDArray[np.floating]:
        """Converts probabilities (…, classes) to scores (…, labels), 0 … 1.

        Args:
            probs: probabilities of one window, or of its frames.
            level_dbfs: level of the window's samples, dB. None if unknown: then the window is not silent.

        Raises:
            LabelError: wrong number of classes.
        """
        try:
            scores = np.asarray(probs)
        except ValueError as error:  # lists of different lengths
            raise LabelError(f"scores {shown(probs)}; expected an array of floats") from error
        if scores.dtype.kind != "f":
            raise LabelError(f"scores of type {scores.dtype}; expected floats")
        if scores.shape[-1:] != (len(self._classes),):
            raise LabelError(f"scores of shape {scores.shape}; expected (…, {len(self._classes)}), one per class")
        if self._temperature is not None:
            with np.errstate(divide="ignore", over="ignore"):  # infinite logits are right for 0 and 1
                logits = np.log(scores) - np.log1p(-scores)
                scores = (1.0 / (1.0 + np.exp(-logits / self._temperature))).astype(scores.dtype)
        if level_dbfs is not None and self._silence_dbfs is not None and level_dbfs < self._silence_dbfs:
            scores = np.zeros_like(scores)
        if self._ontology is not None and self._roll_up:
            scores = self._ontology.roll_up(scores)
        if self._kept is not None:
            scores = np.where(self._kept, scores, scores.dtype.type(0))
        if self._ontology is not None and self._groups is not None:
            scores = self._ontology.group(scores, self._groups)
        return scores

    def labels_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns the labels whose scores come from these classes alone: the classes, or the groups without others.

        Args:
            names: class names; others are ignored.
        """
        own = set(names)
        if self._ontology is None or self._groups is None:
            return tuple(label for label in self.labels if label in own)
        members = {label: self._ontology.select(allow=list(of)) for label, of in self._groups.items()}
        return tuple(
            label for label, mask in members.items() if own.issuperset(self._classes[i] for i in np.flatnonzero(mask))
        )


def _temperatures(labels: Sequence[str], given: float | Mapping[str, float]) -> NDArray[np.float64] | None:
    """Returns the temperature of each class (classes,), or None if all are 1."""
    found = np.ones(len(labels))
    if isinstance(given, Mapping):
        for name, value in given.items():
            if name not in labels:
                raise LabelError(unknown_label(name, labels))
            found[list(labels).index(name)] = _positive(value)
    else:
        found[:] = _positive(given)
    return None if (found == 1.0).all() else found


def _positive(value: object) -> float:
    if not _is_number(value) or not 0.0 < value < sys.float_info.max:
        raise LabelError(f"temperature {shown(value)}; expected a number > 0")
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and value == value
