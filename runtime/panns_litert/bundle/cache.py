"""The cache folder for downloads and converted bundles."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from panns_litert.bundle.check import PrecisionName
from panns_litert.bundle.manifest import GRAPHS, PRECISIONS, GraphName
from panns_litert.errors import ModelError
from panns_litert.strict import shown

CACHE_VARIABLE = "PANNS_LITERT_CACHE"

DEFAULT_SECONDS = 10.0
DEFAULT_PRECISION: PrecisionName = "fp16"
"""Default clip length and precision of the bundle that `convert NAME` makes and `--model NAME` finds."""


def cache_dir() -> Path:
    """Returns the cache folder: $PANNS_LITERT_CACHE, or the platform's folder for caches. It may not exist yet."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("panns-litert", appauthor=False)


def bundle_dir(model: str, *, graph: GraphName, seconds: float, precision: PrecisionName) -> Path:
    """Returns the folder of a cached bundle. It may not exist yet.

    Raises:
        ModelError: an argument cannot be a part of the folder's name, such as a model with a path separator.
    """
    if not is_model_name(model):
        raise ModelError(f"model {shown(model)}; expected a name that `panns-litert models` lists")
    for what, value, choices in (("graph", graph, GRAPHS), ("precision", precision, PRECISIONS)):
        if value not in choices:
            raise ModelError(f"{what} {shown(value)}; expected one of {', '.join(choices)}")
    if not isinstance(seconds, (int, float)) or not 0.0 < seconds < 1e6:
        raise ModelError(f"clip of {shown(seconds)} s; expected a length in seconds")
    return cache_dir() / "bundles" / f"{model}_{graph}_{seconds:g}s_{precision}"


def is_model_name(model: object) -> bool:
    """Returns whether a value has the form of a model's name, which can be a part of a folder's name."""
    return isinstance(model, str) and re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", model) is not None
