"""Publishes bundles on the Hugging Face hub, if their proof is complete and their self-test passes here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from panns_litert.bundle import MANIFEST, METADATA_MARK, MODEL_CARD, Bundle, Check, model_card
from panns_litert.engine import CpuEngine
from panns_litert.errors import BundleError
from panns_litert.hub import HubId, upload
from panns_litert.proof.parity import require
from panns_litert.proof.selftest import self_test_check
from panns_litert.strict import read_bytes

_MOST_CARD_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Published:
    """Result of `publish`.

    Attributes:
        hub_id: the repository, with the commit if something was uploaded.
        url: page of the commit; None after a dry run.
        card: the model card, UTF-8.
        files: size of each file in bytes, by name.
        self_test: the check of the self-test that ran here.
    """

    hub_id: HubId
    url: str | None
    card: bytes
    files: dict[str, int]
    self_test: Check


def publish(
    bundle: Bundle,
    repo: str | HubId,
    *,
    private: bool = False,
    dry_run: bool = False,
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> Published:
    """Uploads a bundle to a repository of the hub in one commit, byte for byte. Creates the repository if necessary.

    Every stage of the bundle's parity must have passed, and its self-test is run on the CPU of this machine. The model
    card begins with the hub's metadata; a card of an earlier version, which has none, is written anew for the upload.

    Args:
        bundle: the bundle.
        repo: ORG/NAME or hf:ORG/NAME, without a revision.
        private: whether the repository must be private.
        dry_run: check everything, and upload nothing.
        report: called at the start of each step.
        progress: whether the upload draws progress bars on stderr.

    Raises:
        BundleError: the bundle has no proof or no self-test, its card was edited and has no metadata, or the repository
            holds other files or is public and must be private.
        ParityError: the self-test fails here.
        DownloadError: the hub cannot be reached or refuses.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub_id = repo if isinstance(repo, HubId) else HubId.parse(repo)
    if hub_id.revision is not None:
        raise BundleError(f"{hub_id}; expected a repository without a revision: a bundle goes to its default branch")
    report("self_test")
    passed = _require_proof(bundle)
    card = _card(bundle)
    files: dict[str, Path | bytes] = {MANIFEST: bundle.path / MANIFEST}
    files |= {name: bundle.path / name for name, of in bundle.manifest.files.items() if of.role != "model_card"}
    files[MODEL_CARD] = card  # the only name that the hub shows
    sizes = {name: len(of) if isinstance(of, bytes) else of.stat().st_size for name, of in files.items()}
    url = None
    if not dry_run:
        report("upload")
        manifest = bundle.manifest
        message = f"{manifest.model} {manifest.precision}, {manifest.graph}, {manifest.clip_seconds:g} s"
        sent = upload(hub_id.repo, files, message=message, private=private, marker=MANIFEST, progress=progress)
        hub_id, url = sent.hub_id, sent.url
    return Published(hub_id=hub_id, url=url, card=card, files=sizes, self_test=passed)


def _require_proof(bundle: Bundle) -> Check:
    """Checks that every stage passed and that the self-test passes here. Returns the self-test's check."""
    manifest = bundle.manifest
    if not manifest.proven:
        raise BundleError(
            f"{bundle.path} is not proven: nothing compared it with the original network; expected a proven bundle; "
            "adopt it with --model and --checkpoint, or convert the model"
        )
    require(manifest.parity)
    if bundle.self_test is None:
        raise BundleError(f"{bundle.path} has no self-test; expected one; convert it again")
    check = self_test_check(bundle.self_test, manifest, CpuEngine(bundle.file("model"), content=bundle.model))
    require([check])
    return check


def _card(bundle: Bundle) -> bytes:
    """Returns the model card for the hub: the bundle's own if it has the hub's metadata."""
    path, record = bundle.file("model_card"), bundle.manifest.files[bundle.manifest.file("model_card")]
    if not path.exists():
        return model_card(bundle.manifest).encode()
    data = read_bytes(path, error=BundleError, what="a model card", most_bytes=_MOST_CARD_BYTES)
    if data.replace(b"\r\n", b"\n").startswith(METADATA_MARK.encode()):
        return data
    if hashlib.sha256(data).hexdigest() == record.sha256:  # as an earlier version wrote it
        return model_card(bundle.manifest).encode()
    raise BundleError(
        f"{path} was edited and has no metadata of the hub; expected it to begin with a line of ---, as a new card "
        "does; add that, or delete the file, and a new card is written"
    )
