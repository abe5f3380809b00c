"""Pulls bundles from the Hugging Face hub."""

from __future__ import annotations

import contextlib
import hashlib

from panns_litert.bundle.bundle import Bundle
from panns_litert.bundle.manifest import MANIFEST, MOST_MODEL_BYTES, Manifest
from panns_litert.errors import BundleError, DownloadError
from panns_litert.hub import HubId, Snapshot
from panns_litert.strict import MOST_BYTES, read_bytes, read_text


def pull(repo: str | HubId, *, revision: str | None = None, progress: bool = False) -> Bundle:
    """Opens a bundle of a repository. Downloads the files that are not in the hub's cache.

    Only the files that the manifest lists are downloaded, and each has the manifest's hash. A file in the cache that is
    damaged is downloaded once more.

    Args:
        repo: ORG/NAME or hf:ORG/NAME, each with or without @REVISION.
        revision: branch, tag or commit (40 hexadecimal digits). A commit is always the same bundle.
        progress: whether downloads draw progress bars on stderr.

    Returns:
        The bundle, in the hub's cache. Its `origin` names the commit.

    Raises:
        BundleError: the repository holds no bundle, or one that is incomplete, altered or of an unknown format.
        DownloadError: there is no such repository or revision, it may not be read, or a file cannot be downloaded.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub_id = repo if isinstance(repo, HubId) else HubId.parse(repo)
    if revision is not None:
        if hub_id.revision is not None:
            raise BundleError(f"{hub_id} and revision {revision}; expected one of them")
        hub_id = HubId(hub_id.repo, revision)
    snapshot = Snapshot(hub_id, progress=progress)
    try:
        return _open(snapshot)
    except BundleError as error:
        if not _renew(snapshot):
            raise _named(error, snapshot) from error
    try:
        return _open(snapshot)
    except BundleError as error:
        raise _named(error, snapshot) from error


def _open(snapshot: Snapshot) -> Bundle:
    manifest = _manifest(snapshot)
    for name, record in manifest.files.items():
        if record.role != "model_card":
            snapshot.file(name)
    with contextlib.suppress(BundleError, DownloadError):  # documentation, which may be removed
        snapshot.file(manifest.file("model_card"))
    return Bundle(snapshot.file(MANIFEST).parent, origin=str(snapshot.hub_id))


def _manifest(snapshot: Snapshot) -> Manifest:
    what = "a bundle's manifest"
    return Manifest.from_json(read_text(snapshot.file(MANIFEST), error=BundleError, what=what, most_bytes=MOST_BYTES))


def _renew(snapshot: Snapshot) -> bool:
    """Downloads the damaged files of a snapshot again. Returns whether there were any."""
    try:
        manifest = _manifest(snapshot)
    except BundleError:
        snapshot.file(MANIFEST, again=True)
        return True
    damaged = [
        name
        for name, record in manifest.files.items()
        if record.role != "model_card" and _sha256(snapshot, name) != record.sha256
    ]
    for name in damaged:
        snapshot.file(name, again=True)
    return bool(damaged)


def _sha256(snapshot: Snapshot, name: str) -> str:
    what = "a file of a bundle"
    data = read_bytes(snapshot.file(name), error=BundleError, what=what, most_bytes=MOST_MODEL_BYTES)
    return hashlib.sha256(data).hexdigest()


def _named(error: BundleError, snapshot: Snapshot) -> BundleError:
    return BundleError(f"{snapshot.hub_id} is no whole bundle: {error}")
