"""Opens the bundles in the cache folder."""

from __future__ import annotations

import os

from panns_litert.bundle.bundle import Bundle
from panns_litert.bundle.cache import DEFAULT_PRECISION, DEFAULT_SECONDS, bundle_dir
from panns_litert.bundle.check import PrecisionName
from panns_litert.bundle.manifest import GRAPHS, GraphName
from panns_litert.errors import BundleError


def cached_bundle(model: str, *, graph: GraphName, seconds: float, precision: PrecisionName) -> Bundle | None:
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
    own = manifest.source.own
    if there != asked or own:
        what = f"the user's own {manifest.model}" if own else _words(*there)
        raise BundleError(
            f"{path} is a bundle of {what}; expected {_words(*asked)}; delete it or name it with --bundle"
        )
    return found


def cached_model(model: str) -> Bundle | None:
    """Opens the bundle that `convert MODEL` writes if no other option is given, or returns None if there is none.

    Raises:
        ModelError, BundleError: as for `cached_bundle`.
    """
    for graph in GRAPHS:  # a model has the first of these that its network takes
        found = cached_bundle(model, graph=graph, seconds=DEFAULT_SECONDS, precision=DEFAULT_PRECISION)
        if found is not None:
            return found
    return None


def _words(model: str, graph: GraphName, seconds: float, precision: PrecisionName) -> str:
    return f"{model}, {graph}, {seconds:g} s, {precision}"
