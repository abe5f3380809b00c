"""Search: find recordings that sound alike (embeddings, index, prototypes), a recording within another (match), or the
same recording twice in a set (duplicates).

It may import `windows` and the layers below it.
"""

from panns_litert.search.duplicates import DUPLICATE_SCORE, Duplicate, find_duplicates
from panns_litert.search.embeddings import FORMATS, Embeddings, embed, model_sha256, require_same_model, similar, unit
from panns_litert.search.index import Hit, Index
from panns_litert.search.match import MATCH_LIMITS, MATCH_SPEC, Match, match, match_features
from panns_litert.search.prototypes import Prototype, Prototypes, prototypes_path

__all__ = [
    "DUPLICATE_SCORE",
    "FORMATS",
    "MATCH_LIMITS",
    "MATCH_SPEC",
    "Duplicate",
    "Embeddings",
    "Hit",
    "Index",
    "Match",
    "Prototype",
    "Prototypes",
    "embed",
    "find_duplicates",
    "match",
    "match_features",
    "model_sha256",
    "prototypes_path",
    "require_same_model",
    "similar",
    "unit",
]
