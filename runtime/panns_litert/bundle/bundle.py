"""Reads and writes bundles: the folders that `convert` writes and every runtime reads.

    <model>_<dataset>_<precision>.tflite   mel_basis.bin   <labels>.txt   manifest.json   README.md

`manifest.json` holds everything else: front end, shapes, hashes, source and proof. Reading is strict: an unknown format
version, a missing or altered file, or a shape that does not fit raises an error.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.bundle.manifest import MANIFEST, FileRecord, Manifest
from panns_litert.errors import BundleError
from panns_litert.frontend import mel_basis

MEL_BASIS = "mel_basis.bin"
MODEL_CARD = "README.md"

_REMEDY = "convert it again, or copy the whole folder again"


class Bundle:
    """Opens a bundle and checks every file of it.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        manifest: the manifest.
        labels: class names, in the order of the outputs.
        mel_basis: (n_mels, bins) float32.

    Raises:
        BundleError: a file is missing, altered or does not fit. The message names the file and the remedy.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        manifest_path = self.path / MANIFEST
        if not self.path.is_dir():
            raise BundleError(f"no bundle at {self.path}; expected a folder that `panns-litert convert` wrote")
        try:
            text = manifest_path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise BundleError(f"{self.path} has no {MANIFEST}; expected a bundle that `convert` wrote") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{manifest_path}: {error}; {_REMEDY}") from error
        try:
            self.manifest = Manifest.from_json(text)
        except BundleError as error:
            raise BundleError(f"{manifest_path}: {error}") from error
        for name, record in self.manifest.files.items():
            self._check_file(name, record)
        self.labels = self._read_labels()
        self.mel_basis = self._read_mel_basis()

    def file(self, role: str) -> Path:
        """Returns the path of the file with a role: model, mel_basis, labels or model_card."""
        return self.path / self.manifest.file(role)

    def _check_file(self, name: str, record: FileRecord) -> None:
        path = self.path / name
        try:
            size = path.stat().st_size
            if size != record.bytes:
                raise BundleError(f"{path} has {size} bytes; the manifest says {record.bytes}; {_REMEDY}")
            if file_sha256(path) != record.sha256:
                raise BundleError(f"{path} was altered: its sha256 is not the manifest's; {_REMEDY}")
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}; {_REMEDY}") from error

    def _read_labels(self) -> tuple[str, ...]:
        path = self.file("labels")
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
        if len(labels) != self.manifest.classes or len(set(labels)) != len(labels) or "" in labels:
            raise BundleError(
                f"{path} has {len(labels)} lines; expected {self.manifest.classes} different names, one a line"
            )
        return labels

    def _read_mel_basis(self) -> NDArray[np.float32]:
        path, spec = self.file("mel_basis"), self.manifest.front_end
        expected = 4 * spec.n_mels * spec.bins
        if path.stat().st_size != expected:
            raise BundleError(f"{path} has {path.stat().st_size} bytes; the front end needs {expected}; {_REMEDY}")
        basis = np.fromfile(path, "<f4").reshape(spec.n_mels, spec.bins).astype(np.float32)
        if not np.abs(basis - mel_basis(spec)).max() <= 1e-7:
            raise BundleError(f"{path} is not the mel basis of the manifest's front end; {_REMEDY}")
        return basis


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BundleWriter:
    """Collects the files of a bundle in a hidden folder next to the target, and moves them into place at once.

    A context manager. Without `commit`, the written files are removed at its end.

    >>> with BundleWriter(target) as writer:
    ...     (writer.folder / "mel_basis.bin").write_bytes(data)
    ...     writer.commit(manifest)

    Raises:
        BundleError: the target exists and is not a bundle, or is the current folder. The target is not changed.
    """

    def __init__(self, target: Path) -> None:
        target = self.target = target.resolve()
        if Path.cwd().is_relative_to(target):
            raise BundleError(f"{target} is the current folder; expected a new folder, such as {target / 'bundle'}")
        if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
            raise BundleError(f"{target} exists and is no bundle; expected a new or empty folder, or an old bundle")
        target.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def record(self, name: str, role: str) -> FileRecord:
        """Returns the role, hash and size of a file that was written into the folder."""
        path = self.folder / name
        return FileRecord(role=role, sha256=file_sha256(path), bytes=path.stat().st_size)

    def commit(self, manifest: Manifest) -> Bundle:
        """Writes the manifest, reads the whole bundle back to check it, and moves it to the target."""
        (self.folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        Bundle(self.folder)
        self.folder.chmod(0o755)  # mkdtemp made it private
        if self.target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.old.", dir=self.target.parent))
            try:
                os.replace(self.target, old / "bundle")
                os.replace(self.folder, self.target)
            finally:
                if not self.target.exists() and (old / "bundle").exists():
                    os.replace(old / "bundle", self.target)
                shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(self.folder, self.target)
        return Bundle(self.target)
