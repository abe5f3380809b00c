"""Opens bundles: the folders that `convert` writes and every runtime reads.

    <model>_<dataset>_<precision>.tflite   mel_basis.bin   <labels>.txt   manifest.json   README.md
    selftest.json   selftest.pcm

`manifest.json` holds everything else: front end, shapes, hashes, source and proof. Reading is strict: an unknown format
version, a missing or altered file, or a shape that does not fit raises an error. README.md is documentation: it may be
edited or removed. Bundles of earlier versions have no self-test.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.bundle.manifest import MANIFEST, MOST_MODEL_BYTES, FileRecord, Manifest
from panns_litert.bundle.replacing import recover
from panns_litert.bundle.selftest import SelfTest
from panns_litert.bundle.trial import require_tried
from panns_litert.engine import read_graph
from panns_litert.errors import BundleError
from panns_litert.frontend import mel_basis
from panns_litert.sense import class_names
from panns_litert.strict import MOST_BYTES, printable, read_bytes, read_text, shown
from panns_litert.words import counted

MEL_BASIS = "mel_basis.bin"
MODEL_CARD = "README.md"

_REMEDY = "convert it again, or copy the whole folder again"

# Between two reads of a bundle that is being replaced; one that is replaced during each of ten reads is an error.
_TRIES, _WAIT_SECONDS = 10, 0.01


class Bundle:
    """Opens a bundle and checks every file of it but the model card, which is documentation.

    A bundle that another process replaces meanwhile is read as the whole old one or the whole new one. The model's
    bytes are kept, so that they are those that were checked, whatever happens to the file later.

    A model that this computer has not run before is run once in a child process, because a file can crash LiteRT.

    Args:
        path: the folder.
        origin: where the folder came from, if it must not be changed.

    Attributes:
        path: the folder.
        origin: the hub's repository and commit that the bundle was pulled from, such as hf:ORG/NAME@COMMIT; None if the
            folder is the user's own.
        manifest: the manifest.
        labels: class names, in the order of the outputs.
        mel_basis: (n_mels, bins) float32.
        model: the content of the .tflite file.
        self_test: the self-test; None if the bundle has none.

    Raises:
        BundleError: a file is missing, altered or does not fit. The message names the file and the remedy.
    """

    def __init__(self, path: str | os.PathLike[str], *, origin: str | None = None) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise BundleError(f"bundle {shown(path)}; expected the path of a folder")
        self.origin = origin
        self.path = Path(path)
        for tries in range(1, _TRIES + 1):
            before = _identity(self.path)
            try:
                self._read()
                return
            except BundleError:
                # Files of two bundles, or a missing one, are no fault if the folder has been replaced meanwhile.
                if tries == _TRIES or (not recover(self.path) and _identity(self.path) == before):
                    raise
                time.sleep(_WAIT_SECONDS)

    def __repr__(self) -> str:
        return f"<Bundle {str(self.path)!r}: {self.describe()}>"

    def require_embedding(self) -> None:
        """Checks that the model has an embedding.

        Raises:
            BundleError: it has none.
        """
        if not self.manifest.embedding_size:
            raise BundleError(
                f"{self.manifest.model} has no embedding; expected a model with one: `panns-litert models` lists some"
            )

    def describe(self) -> str:
        """Returns in a few words what the model is: its name, precision, classes, and length of a clip."""
        manifest = self.manifest
        classes = counted(len(self.labels), "class", "classes")
        return f"{manifest.model} {manifest.precision}, {classes}, clips of {manifest.clip_seconds:g} s"

    def _read(self) -> None:
        manifest_path = self.path / MANIFEST
        if not os.path.isdir(self.path):
            raise BundleError(
                f"no bundle at {printable(self.path)}; expected a folder that `panns-litert convert` wrote"
            )
        if not os.path.lexists(manifest_path):
            raise BundleError(f"{printable(self.path)} has no {MANIFEST}; expected a bundle that `convert` wrote")
        text = read_text(
            manifest_path, error=BundleError, what=f"a bundle's manifest; {_REMEDY}", most_bytes=MOST_BYTES
        )
        try:
            self.manifest = Manifest.from_json(text)
        except BundleError as error:
            raise BundleError(f"{printable(manifest_path)}: {error}") from error
        contents = {
            record.role: self._checked(name, record)
            for name, record in self.manifest.files.items()
            if record.role != "model_card"
        }
        self.labels = self._labels(contents["labels"])
        self.mel_basis = self._mel_basis(contents["mel_basis"])
        self.model = contents["model"]
        self.self_test = self._self_test(contents) if "selftest" in contents else None
        self._require_graph()

    def _require_graph(self) -> None:
        """Checks that the model can run, and that its inputs and outputs are those of the manifest."""
        path = self.file("model")
        graph = read_graph(path, self.model)
        inputs = {spec.name: spec.shape for spec in self.manifest.inputs}
        outputs = {spec.name: spec.shape for spec in self.manifest.outputs}
        if (list(graph.inputs.items()), list(graph.outputs.items())) != (list(inputs.items()), list(outputs.items())):
            raise BundleError(
                f"{printable(path)}: inputs {graph.inputs}, outputs {graph.outputs}; "
                f"the manifest says {inputs}, {outputs}; convert it again"
            )
        require_tried(path, self.model, self.manifest.model_sha256)

    def file(self, role: str) -> Path:
        """Returns the path of the file with a role, see `Manifest.file`.

        Raises:
            BundleError: there is no such role.
        """
        return self.path / self.manifest.file(role)

    def _checked(self, name: str, record: FileRecord) -> bytes:
        path = self.path / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise BundleError(f"{printable(path)}: {error.strerror}; {_REMEDY}") from error
        if size != record.bytes:
            raise BundleError(f"{printable(path)} has {size} bytes; the manifest says {record.bytes}; {_REMEDY}")
        data = read_bytes(path, error=BundleError, what=f"a file of a bundle; {_REMEDY}", most_bytes=MOST_MODEL_BYTES)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise BundleError(f"{printable(path)} was altered: its sha256 is not the manifest's; {_REMEDY}")
        return data

    def _labels(self, data: bytes) -> tuple[str, ...]:
        path = printable(self.file("labels"))
        try:
            labels = class_names(data.decode("utf-8-sig"), path, error=BundleError)
        except UnicodeDecodeError as error:
            raise BundleError(f"{path}: not UTF-8 at byte {error.start}; expected class names; {_REMEDY}") from error
        if len(labels) != self.manifest.classes:
            raise BundleError(
                f"{path} has {len(labels)} lines; expected {self.manifest.classes} different names, one a line"
            )
        return labels

    def _mel_basis(self, data: bytes) -> NDArray[np.float32]:
        path, spec = printable(self.file("mel_basis")), self.manifest.front_end
        expected = 4 * spec.n_mels * spec.bins
        if len(data) != expected:
            raise BundleError(f"{path} has {len(data)} bytes; the front end needs {expected}; {_REMEDY}")
        basis = np.frombuffer(data, "<f4").reshape(spec.n_mels, spec.bins).astype(np.float32)
        if not np.abs(basis - mel_basis(spec)).max() <= 1e-7:
            raise BundleError(f"{path} is not the mel basis of the manifest's front end; {_REMEDY}")
        return basis

    def _self_test(self, contents: dict[str, bytes]) -> SelfTest:
        try:
            return SelfTest.from_files(contents["selftest"], contents["selftest_samples"], self.manifest)
        except BundleError as error:
            raise BundleError(f"{printable(self.file('selftest'))}: {error}; {_REMEDY}") from error


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Returns what tells a folder from the one that takes its place; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
