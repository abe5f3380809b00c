"""Search: which recordings sound alike (embeddings, index, prototypes), and where one is heard again (match).

It imports windows and what is below it.
"""

from panns_litert.search.embeddings import FORMATS, Embeddings, embed, model_sha256, require_same_model, similar, unit
from panns_litert.search.index import Hit, Index
from panns_litert.search.match import MATCH_SPEC, Match, match
from panns_litert.search.prototypes import Prototype, Prototypes, prototypes_path

__all__ = [
    "FORMATS",
    "MATCH_SPEC",
    "Embeddings",
    "Hit",
    "Index",
    "Match",
    "Prototype",
    "Prototypes",
    "embed",
    "match",
    "model_sha256",
    "prototypes_path",
    "require_same_model",
    "similar",
    "unit",
]
