"""The cache folder for downloads and converted bundles."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

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
    """Returns the folder of a cached bundle. It may not exist yet."""
    return cache_dir() / "bundles" / f"{model}_{graph}_{seconds:g}s_{precision}"
