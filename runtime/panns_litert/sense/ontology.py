"""AudioSet's ontology: which class is a kind of which other, to roll up scores, select classes and group them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import LabelError
from panns_litert.sense.labels import require_class_names, unknown_label
from panns_litert.strict import shown

ONTOLOGY = "audioset_ontology.json"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A kind of sound.

    Attributes:
        id: AudioSet's identifier, `/m/…` or `/t/…`.
        name: its name.
        children: identifiers of the nodes directly below it.
    """

    id: str
    name: str
    children: tuple[str, ...]


def audioset_nodes() -> tuple[Node, ...]:
    """Returns the 632 nodes of AudioSet's ontology (Google, CC BY-SA 4.0), in its order; 527 of them are classes."""
    data = json.loads((resources.files("panns_litert_assets") / ONTOLOGY).read_text(encoding="utf-8"))
    return tuple(Node(id=row["id"], name=row["name"], children=tuple(row["children"])) for row in data["nodes"])


class Ontology:
    """The classes of a model in AudioSet's ontology. A class that AudioSet does not have is above and below no other.

    Where classes are selected, "Dog" means only that class, and "Animal/" means Animal and everything below it. A name
    that is not a class of the model, such as "Human sounds", needs the slash.

    Some sounds are below several others: Growling is below Dog, Cat and two more.

    Attributes:
        labels: class names, in the order of the scores.
        roots: names of the nodes that are not below another one.

    >>> ontology = Ontology.load()
    >>> ontology.roots[:2], ontology.children("Dog")[:2]
    (('Human sounds', 'Animal'), ('Bark', 'Yip'))
    """

    def __init__(self, nodes: Iterable[Node], labels: Sequence[str]) -> None:
        self.labels = require_class_names(labels, "labels")
        self._index = {label: i for i, label in enumerate(self.labels)}
        nodes = tuple(nodes) if isinstance(nodes, Iterable) else (nodes,)
        if not all(isinstance(node, Node) for node in nodes):
            raise LabelError(f"nodes {shown(nodes)}; expected nodes, as audioset_nodes() returns")
        names = {node.id: node.name for node in nodes}
        if missing := {child for node in nodes for child in node.children} - set(names):
            raise LabelError(f"no node {shown(min(missing))}; expected a node for each child")
        self._children = {node.name: tuple(names[child] for child in node.children) for node in nodes}
        self._children |= {label: () for label in self.labels if label not in self._children}
        below_another = {child for children in self._children.values() for child in children}
        self.roots = tuple(name for name in self._children if name not in below_another)
        within = [self._classes_within(label) for label in self.labels]
        self._within = np.concatenate(within)
        self._first = np.cumsum([0, *(len(classes) for classes in within[:-1])])

    @classmethod
    def load(cls, labels: Sequence[str] | None = None) -> Ontology:
        """Loads AudioSet's ontology for the classes of a model.

        Args:
            labels: class names, such as `Tagger.labels`; AudioSet's 527 classes if not given.

        Raises:
            LabelError: there are no labels, or two are the same.
        """
        if labels is None:
            text = (resources.files("panns_litert_assets") / "audioset_labels.txt").read_text(encoding="utf-8")
            labels = text.splitlines()
        return cls(audioset_nodes(), labels)

    def children(self, name: str) -> tuple[str, ...]:
        """Returns the names of the nodes directly below a node, in the ontology's order.

        Raises:
            LabelError: there is no such node. The message suggests the nearest name.
        """
        if not isinstance(name, str) or name not in self._children:
            raise LabelError(unknown_label(name, self._children))
        return self._children[name]

    def roll_up(self, probs: NDArray[np.floating]) -> NDArray[np.floating]:
        """Returns scores in which a class scores at least as high as every class below it: a dog is also an animal.

        A sound that is below several classes counts for each of them: Dog and Cat score at least as high as Growling.

        Args:
            probs: float scores, (…, classes).

        Returns:
            (…, classes), of the same dtype. No score is lower than before.

        Raises:
            LabelError: wrong dtype or number of classes.
        """
        return np.maximum.reduceat(self._checked(probs)[..., self._within], self._first, axis=-1)

    def select(self, *, allow: Sequence[str] | None = None, deny: Sequence[str] = ()) -> NDArray[np.bool_]:
        """Returns which classes to keep: the allowed ones, without the denied ones.

        Args:
            allow: "Dog" for a class, "Animal/" for a node and everything below it; all classes if not given.
            deny: the same for the classes to leave out.

        Returns:
            (classes,), True where the class is kept.

        Raises:
            LabelError: a name is unknown, or the model has no such class. The message suggests the nearest name.
        """
        mask = np.full(len(self.labels), allow is None)
        mask[self._chosen(() if allow is None else allow)] = True
        mask[self._chosen(deny)] = False
        return mask

    def group(self, probs: NDArray[np.floating], groups: Mapping[str, Sequence[str]]) -> NDArray[np.floating]:
        """Returns the highest score within each group of classes.

        Args:
            probs: float scores, (…, classes).
            groups: name of each group to its members: "Dog" for a class, "Animal/" for a node and everything below it.

        Returns:
            (…, groups), in the order of `groups`.

        Raises:
            LabelError: wrong dtype or number of classes, an empty group, or an unknown name.
        """
        if not isinstance(groups, Mapping) or not all(isinstance(name, str) for name in groups):
            raise LabelError(f"groups {shown(groups)}; expected names with the members of each group")
        if not all(isinstance(members, (list, tuple)) for members in groups.values()):
            raise LabelError(f"groups {shown(groups)}; expected a list of names for each group")
        probs = self._checked(probs)
        result = np.empty((*probs.shape[:-1], len(groups)), probs.dtype)
        for i, (name, members) in enumerate(groups.items()):
            if not len(members):
                raise LabelError(f"group {name!r} is empty; expected at least one class")
            result[..., i] = probs[..., self._chosen(members)].max(axis=-1)
        return result

    def _chosen(self, names: Sequence[str]) -> list[int]:
        if isinstance(names, str):
            raise LabelError(f"{shown(names)} is one name; expected a list of names")
        names = list(names) if isinstance(names, Iterable) else [names]
        if not all(isinstance(name, str) for name in names):
            raise LabelError(f"{shown(names)}; expected a list of names")
        return sorted({i for name in names for i in self._named(name)})

    def _named(self, name: str) -> list[int]:
        node = name.removesuffix("/")
        if name in self._index:
            return [self._index[name]]
        if node not in self._children:
            raise LabelError(unknown_label(node, self._children))
        if node == name:
            raise LabelError(f"{name!r} is no class of the model; expected a class, or '{name}/' for all below it")
        if not (classes := self._classes_within(node)):
            raise LabelError(f"the model has no class within {name!r}; expected one that it has")
        return classes

    def _classes_within(self, name: str) -> list[int]:
        """Returns the indices of the model's classes among a node and everything below it."""
        seen, waiting = {name}, [name]
        while waiting:
            new = [child for child in self._children[waiting.pop()] if child not in seen]
            seen.update(new)
            waiting += new
        return sorted(self._index[found] for found in seen if found in self._index)

    def _checked(self, probs: NDArray[np.floating]) -> NDArray[np.floating]:
        try:
            probs = np.asarray(probs)
        except ValueError as error:  # lists of different lengths
            raise LabelError(f"scores {shown(probs)}; expected an array of floats") from error
        if probs.ndim < 1 or probs.shape[-1] != len(self.labels) or probs.dtype.kind != "f":
            raise LabelError(
                f"{probs.dtype} scores of shape {probs.shape}; expected floats, (…, {len(self.labels)}), one per class"
            )
        return probs
