"""The cache folder for downloads and converted bundles."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from panns_litert.bundle.bundle import Bundle
from panns_litert.bundle.manifest import GRAPHS, OWN_WEIGHTS, PRECISIONS
from panns_litert.errors import BundleError, ModelError
from panns_litert.strict import shown

CACHE_VARIABLE = "PANNS_LITERT_CACHE"

DEFAULT_SECONDS = 10.0
DEFAULT_PRECISION = "fp16"
"""Default clip length and precision of the bundle that `convert NAME` makes and `--model NAME` finds."""


def cache_dir() -> Path:
    """Returns the cache folder: $PANNS_LITERT_CACHE, or the platform's folder for caches. It may not exist yet."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("panns-litert", appauthor=False)


def bundle_dir(model: str, *, graph: str, seconds: float, precision: str) -> Path:
    """Returns the folder of a cached bundle. It may not exist yet.

    Raises:
        ModelError: an argument cannot be a part of the folder's name, such as a model with a path separator.
    """
    if not isinstance(model, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", model):
        raise ModelError(f"model {shown(model)}; expected a name that `panns-litert models` lists")
    for what, value, choices in (("graph", graph, GRAPHS), ("precision", precision, PRECISIONS)):
        if value not in choices:
            raise ModelError(f"{what} {shown(value)}; expected one of {', '.join(choices)}")
    if not isinstance(seconds, (int, float)) or not 0.0 < seconds < 1e6:
        raise ModelError(f"clip of {shown(seconds)} s; expected a length in seconds")
    return cache_dir() / "bundles" / f"{model}_{graph}_{seconds:g}s_{precision}"


def cached_bundle(model: str, *, graph: str, seconds: float, precision: str) -> Bundle | None:
    """Opens the bundle in `bundle_dir`. Returns None if there is none.

    Raises:
        ModelError: as for `bundle_dir`.
        BundleError: the folder is no whole bundle, or one of another model or of the user's own weights.
    """
    path = bundle_dir(model, graph=graph, seconds=seconds, precision=precision)
    try:
        found = Bundle(path)  # also brings back a bundle whose replacement was interrupted
    except BundleError:
        if not os.path.lexists(path):
            return None
        raise
    manifest = found.manifest
    asked = (model, graph, float(seconds), precision)
    there = (manifest.model, manifest.graph, manifest.clip_seconds, manifest.precision)
    own = manifest.source.licence == OWN_WEIGHTS
    if there != asked or own:
        what = f"the user's own {manifest.model}" if own else _words(*there)
        raise BundleError(
            f"{path} is a bundle of {what}; expected {_words(*asked)}; delete it or name it with --bundle"
        )
    return found


def _words(model: str, graph: str, seconds: float, precision: str) -> str:
    return f"{model}, {graph}, {seconds:g} s, {precision}"
