"""Search: find recordings that sound alike (embeddings, index), or a recording within another (match); enroll classes.

It may import `windows` and the layers below it.
"""

from panns_litert.search.embeddings import FORMATS, Embeddings, embed, model_sha256, require_same_model, similar, unit
from panns_litert.search.enrolment import Enrolment, clip_embeddings, enroll
from panns_litert.search.index import Hit, Index
from panns_litert.search.match import MATCH_LIMITS, MATCH_SPEC, Match, match

__all__ = [
    "FORMATS",
    "MATCH_LIMITS",
    "MATCH_SPEC",
    "Embeddings",
    "Enrolment",
    "Hit",
    "Index",
    "Match",
    "clip_embeddings",
    "embed",
    "enroll",
    "match",
    "model_sha256",
    "require_same_model",
    "similar",
    "unit",
]
