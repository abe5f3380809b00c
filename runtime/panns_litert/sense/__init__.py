"""Sense: processes a model's scores: class names, AudioSet's ontology, groups, silence, temperature.

It may import only the layers below it: `strict`, `atomic` and `errors`.
"""

from panns_litert.sense.labels import class_names, nearest, require_class_names, unknown_label
from panns_litert.sense.ontology import ONTOLOGY, Node, Ontology, audioset_nodes
from panns_litert.sense.sense import Sense

__all__ = [
    "ONTOLOGY",
    "Node",
    "Ontology",
    "Sense",
    "audioset_nodes",
    "class_names",
    "nearest",
    "require_class_names",
    "unknown_label",
]
