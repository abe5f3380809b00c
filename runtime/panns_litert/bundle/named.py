"""Opens the bundle that one argument names: a folder, a model or a repository of the hub."""

from __future__ import annotations

import os
from pathlib import Path

from panns_litert.bundle.bundle import Bundle
from panns_litert.bundle.cache import is_model_name
from panns_litert.bundle.cached import cached_model
from panns_litert.bundle.manifest import MANIFEST
from panns_litert.bundle.pulled import pull
from panns_litert.bundle.replacing import recover
from panns_litert.demo import demo_bundle
from panns_litert.errors import BundleError
from panns_litert.hub import PREFIX
from panns_litert.strict import printable

RECOMMENDED_MODEL = "mn04"
"""The model that messages suggest."""


def open_bundle(bundle: str | os.PathLike[str] | Bundle | None = None) -> Bundle:
    """Opens a bundle.

    Args:
        bundle: one of

            - `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`, a repository of the Hugging Face hub, as for `pull`;
            - the path of a folder;
            - the name of a model, such as "mn04", which `convert` has put into the cache. A folder of this name in
              the current folder is preferred if it holds a bundle;
            - a `Bundle`, which is returned as it is;
            - None, for the demo bundle.

    Raises:
        BundleError: there is no such bundle, or it is incomplete or altered.
        DownloadError, MissingDependencyError: as for `pull`.
    """
    if isinstance(bundle, Bundle):
        return bundle
    if bundle is None:
        return Bundle(demo_bundle())
    if (found := find_bundle(bundle)) is not None:
        return found
    name = printable(bundle)
    raise BundleError(
        f"no bundle at {name}, and no model {name} in the cache; expected a folder, a model that was converted "
        f"(`panns-litert convert {RECOMMENDED_MODEL}`), or hf:ORG/NAME"
    )


def find_bundle(bundle: str | os.PathLike[str], *, progress: bool = False) -> Bundle | None:
    """Opens a bundle as `open_bundle` does. Returns None for the name of a model that is not in the cache.

    Args:
        bundle: as for `open_bundle`.
        progress: whether downloads draw progress bars on stderr.

    Raises:
        BundleError, DownloadError, MissingDependencyError: as for `open_bundle`.
    """
    if isinstance(bundle, str) and bundle.startswith(PREFIX):
        return pull(bundle, progress=progress)
    if isinstance(bundle, str) and is_model_name(bundle.casefold()) and not _is_here(Path(bundle)):
        return cached_model(bundle.casefold())
    return Bundle(bundle)


def _is_here(folder: Path) -> bool:
    return os.path.lexists(folder / MANIFEST) or recover(folder)
