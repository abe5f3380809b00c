"""Search: find recordings that sound alike (embeddings, index), a recording within another (match), or the same
recording twice in a set (duplicates); enroll classes.

It may import `windows` and the layers below it.
"""

from panns_litert.search.duplicates import DUPLICATE_SCORE, Duplicate, find_duplicates
from panns_litert.search.embeddings import FORMATS, Embeddings, embed, model_sha256, require_same_model, similar, unit
from panns_litert.search.enrolment import Enrolment, clip_embeddings, enroll
from panns_litert.search.index import Hit, Index
from panns_litert.search.match import MATCH_LIMITS, MATCH_SPEC, Match, match, match_features

__all__ = [
    "DUPLICATE_SCORE",
    "FORMATS",
    "MATCH_LIMITS",
    "MATCH_SPEC",
    "Duplicate",
    "Embeddings",
    "Enrolment",
    "Hit",
    "Index",
    "Match",
    "clip_embeddings",
    "embed",
    "enroll",
    "find_duplicates",
    "match",
    "match_features",
    "model_sha256",
    "require_same_model",
    "similar",
    "unit",
]
