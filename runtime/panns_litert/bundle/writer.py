"""Writes bundles: into a hidden folder, which takes the target's place when it is complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from panns_litert.bundle.bundle import Bundle, file_sha256
from panns_litert.bundle.manifest import MANIFEST, FileRecord, Manifest
from panns_litert.bundle.replacing import Replacement
from panns_litert.bundle.trial import remember
from panns_litert.errors import BundleError
from panns_litert.strict import shown


class BundleWriter:
    """Collects the files of a bundle in a hidden folder next to the target, and puts it in the target's place at once.

    A context manager. Without `commit`, the written files are removed at its end. Only one process can write a bundle
    at a time. What a process left that was killed while it wrote the same bundle is removed.

    Attributes:
        target: the bundle's folder.
        folder: the folder to write the files into.

    >>> demo = open_bundle()
    >>> with BundleWriter("copy") as writer:
    ...     for name in demo.manifest.files:
    ...         _ = (writer.folder / name).write_bytes((demo.path / name).read_bytes())
    ...     writer.commit(demo.manifest).manifest.model
    'demo'

    Raises:
        BundleError: the target exists and is not a bundle, is the current folder, is being written by another process,
            or cannot be written. The target is not changed.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        try:
            self.target = Path(target).resolve()
        except (OSError, ValueError, TypeError, RuntimeError) as error:  # NUL, no path, a loop of links
            raise BundleError(f"{shown(target)}: {error}; expected a folder that can be written") from error
        if Path.cwd().is_relative_to(self.target):
            raise BundleError(
                f"{self.target} is the current folder; expected a new folder, such as {self.target / 'bundle'}"
            )
        self._replacement = Replacement(self.target)
        try:
            if os.path.lexists(self.target) and not (self.target / MANIFEST).is_file() and not _is_empty(self.target):
                raise BundleError(
                    f"{self.target} exists and is no bundle; expected a new or empty folder, or an old bundle"
                )
            self.folder = self._replacement.begin()
        except BaseException:
            self._replacement.close()
            raise

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._replacement.close()

    def record(self, name: str, role: str) -> FileRecord:
        """Returns the role, hash and size of a file that was written into the folder."""
        path = self.folder / name
        return FileRecord(role=role, sha256=file_sha256(path), bytes=path.stat().st_size)

    def commit(self, manifest: Manifest) -> Bundle:
        """Writes the manifest, reads the whole bundle back to check it, and puts it in the target's place."""
        (self.folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        remember(manifest.model_sha256)  # made here: the parity stages ran it
        return self._place()

    def _place(self) -> Bundle:
        Bundle(self.folder)
        self._replacement.finish()
        return Bundle(self.target)


def copy_bundle(bundle: Bundle, target: str | os.PathLike[str]) -> Bundle:
    """Copies a bundle into a folder of the user's own, byte for byte. Replaces an older bundle there.

    Returns:
        The new bundle.

    Raises:
        BundleError: the target cannot be written, as for `BundleWriter`.
    """
    with BundleWriter(target) as writer:
        for name in (MANIFEST, *bundle.manifest.files):
            if (bundle.path / name).exists():  # the model card may be removed
                shutil.copyfile(bundle.path / name, writer.folder / name)
        return writer._place()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
