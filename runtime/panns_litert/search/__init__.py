"""Search: find recordings that sound alike (embeddings, index, prototypes), or a recording within another (match).

It may import `windows` and the layers below it.
"""

from panns_litert.search.embeddings import FORMATS, Embeddings, embed, model_sha256, require_same_model, similar, unit
from panns_litert.search.index import Hit, Index
from panns_litert.search.match import MATCH_LIMITS, MATCH_SPEC, Match, match
from panns_litert.search.prototypes import Prototype, Prototypes, prototypes_path

__all__ = [
    "FORMATS",
    "MATCH_LIMITS",
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
