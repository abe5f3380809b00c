"""Bundle: the folder that `convert` writes and every runtime reads.

    <model>_<dataset>_<precision>.tflite   mel_basis.bin   <labels>.txt   manifest.json   README.md

`manifest.json` says everything else: front end, shapes, hashes, source and proof. Reading is strict: an
unknown format version, a missing or altered file, a shape that does not fit is one clear error.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import BundleError
from panns_litert.frontend.logmel import FrontEndSpec, mel_basis
from panns_litert.proof.parity import QUANTIZED, STAGES, Check
from panns_litert.strict import read

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
MEL_BASIS = "mel_basis.bin"
MODEL_CARD = "README.md"
GRAPHS = ("logmel", "waveform")
LOG_MEL = ("host", "graph", "none")
PRECISIONS = tuple(STAGES)

_REMEDY = "convert it again, or copy the whole folder again"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Name, static shape and dtype of an input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What a file of the bundle is, and how to tell that it is unaltered."""

    role: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """The checkpoint that a bundle was made from. `url` is None for a file of the user's own."""

    file: str
    sha256: str
    url: str | None
    licence: str
    attribution: str
    published_map: float | None


@dataclass(frozen=True, kw_only=True)
class GpuRecord:
    """The last strict GPU check of a bundle's .tflite.

    Attributes:
        adapter, driver: what it ran on, in their own words.
        arithmetic: "float16" or "float32", as measured; "none" if nothing ran.
        operators: how many the graph has.
        resident: whether all of them were compiled for the GPU, with nothing else allowed.
        refused, errors: the delegate's words; empty where all went well.
        reference: what the outputs were compared with, "cpu" or "pytorch".
        checks: the gpu_fp16 stage.
        passed: the verdict.
        model_sha256: of the file that was checked.
        litert: version of ai-edge-litert.
    """

    adapter: str
    driver: str
    arithmetic: str
    operators: int
    resident: bool
    refused: tuple[str, ...]
    errors: tuple[str, ...]
    reference: str
    checks: tuple[Check, ...]
    passed: bool
    model_sha256: str
    litert: str

    def __post_init__(self) -> None:
        proven = self.resident and self.arithmetic == "float16" and self.checks and all(c.passed for c in self.checks)
        if self.passed and (self.refused or self.errors or not proven):
            raise BundleError("gpu: passed, but its figures say otherwise; run gpu-check again")


@dataclass(frozen=True, kw_only=True)
class KeptLayer:
    """A layer of a quantized .tflite whose weights have a finer type than the bundle's precision says.

    Attributes:
        operator: its index in the float32 graph.
        op: its kind, such as CONV_2D.
        name: of the module that it came from.
        weights: how many it has.
        precision: of its weights: "int8", "fp16" or "fp32".
        error: what its quantization alone costs: mean squared error of logits and embedding over their variance.
    """

    operator: int
    op: str
    name: str
    weights: int
    precision: str
    error: float

    def __post_init__(self) -> None:
        if self.operator < 0 or self.weights < 0 or not (math.isfinite(self.error) and self.error >= 0):
            raise BundleError(f"kept layer {self}; expected figures >= 0")
        if self.precision not in ("int8", "fp16", "fp32"):
            raise BundleError(f"kept layer of precision {self.precision!r}; expected int8, fp16 or fp32")


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a bundle of integer weights was made.

    Attributes:
        kept: layers with a finer type, found one by one, the most worth it first; none where none had to be.
        calibration_clips: how many clips of audio gave the ranges of `int8-full`; 0 for every other precision.
    """

    kept: tuple[KeptLayer, ...] = ()
    calibration_clips: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a reader needs to know about a bundle. Checked on construction.

    Attributes:
        graph: what the graph takes, "logmel" or "waveform".
        log_mel: who computes the log-mel: the "host", the "graph", or "none" where the network has none; then
            of `front_end` only the sample rate counts.
        quantization: of a precision with integer weights; None for fp32 and fp16.

    Raises:
        BundleError: the parts contradict each other.
    """

    format_version: int
    model: str
    network: str
    description: str
    source: Source
    front_end: FrontEndSpec
    graph: str
    log_mel: str
    clip_seconds: float
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: dict[str, FileRecord]
    precision: str
    quantization: Quantization | None
    parity: tuple[Check, ...]
    gpu: GpuRecord | None
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise BundleError(
                f"format_version {self.format_version!r}; this version reads {FORMAT_VERSION}; "
                "update panns-litert or convert the model again"
            )
        if self.graph not in GRAPHS:
            raise BundleError(f"graph {self.graph!r}; expected one of {', '.join(GRAPHS)}")
        if self.log_mel not in LOG_MEL or (self.log_mel == "host") != (self.graph == "logmel"):
            raise BundleError(f"log_mel {self.log_mel!r} with graph {self.graph!r}; expected host with logmel alone")
        if self.precision not in PRECISIONS:
            raise BundleError(f"precision {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        self._require_quantization()
        if not (math.isfinite(self.clip_seconds) and self.clip_seconds > 0):
            raise BundleError(f"clip_seconds {self.clip_seconds!r}; expected a number > 0")
        most = self.front_end.most_samples
        if most is not None and self.clip_samples > most:
            raise BundleError(f"clip_seconds {self.clip_seconds:g}; the front end has room for {most} samples")
        shapes = {"logmel": (1, 1, self.frames, self.front_end.n_mels), "waveform": (1, self.clip_samples)}
        expected = TensorSpec(name=self.graph, shape=shapes[self.graph])
        if self.inputs != (expected,):
            raise BundleError(f"inputs {self.inputs}; the front end and clip_seconds give {expected}")
        if not set(STAGES[self.precision]) <= {check.stage for check in self.parity}:
            raise BundleError(
                f"no proof of every stage; expected {', '.join(STAGES[self.precision])}; convert it again"
            )
        if unproven := [f"{c.stage}/{c.output}" for c in self.parity if not c.passed or "max_abs" not in c.threshold]:
            raise BundleError(f"no proof of {', '.join(unproven)}; convert it again")
        names = tuple(output.name for output in self.outputs)
        if names[:2] != ("probs", "embedding"):
            raise BundleError(f"outputs {', '.join(names) or 'none'}; expected probs, embedding")
        for output in self.outputs:
            if output.dtype != "float32" or len(output.shape) < 2 or output.shape[0] != 1 or min(output.shape) < 1:
                raise BundleError(f"output {output}; expected float32 of shape (1, …)")
        roles = sorted(record.role for record in self.files.values())
        if roles != ["labels", "mel_basis", "model", "model_card"]:
            raise BundleError(f"files with roles {roles}; expected labels, mel_basis, model, model_card, one each")
        for name in self.files:
            if name != os.path.basename(name) or name in ("", ".", "..", MANIFEST) or "\\" in name:
                raise BundleError(f"file name {name!r}; expected a plain name inside the bundle")
        if self.gpu is not None and self.gpu.model_sha256 != self.files[self.file("model")].sha256:
            raise BundleError("the GPU's result is of another .tflite; run gpu-check again")

    def _require_quantization(self) -> None:
        found = self.quantization
        if (found is not None) != (self.precision in QUANTIZED):
            raise BundleError(f"quantization {found} with precision {self.precision}; expected it with integer weights")
        if found is not None and (found.calibration_clips > 0) != (self.precision == "int8-full"):
            raise BundleError(f"calibration_clips {found.calibration_clips} with precision {self.precision}")

    @property
    def clip_samples(self) -> int:
        """Samples of one clip."""
        return self.front_end.samples(self.clip_seconds)

    @property
    def frames(self) -> int:
        """Log-mel frames of one clip."""
        return self.front_end.frames(self.clip_samples)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.outputs[0].shape[1]

    def file(self, role: str) -> str:
        """Name of the file with that role: model, mel_basis, labels or model_card."""
        return next(name for name, record in self.files.items() if record.role == role)

    def to_json(self) -> str:
        """The manifest as indented JSON, the same text for the same content."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest from JSON, strictly: every field of the format, and no other.

        Raises:
            BundleError: not JSON, or not this format.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BundleError(f"not JSON: {error}") from error
        if not isinstance(data, dict) or "format_version" not in data:
            raise BundleError("no format_version; expected the manifest of a panns-litert bundle")
        if data["format_version"] != FORMAT_VERSION:  # before anything else: other fields may differ too
            raise BundleError(
                f"format_version {data['format_version']!r}; this version reads {FORMAT_VERSION}; "
                "update panns-litert or convert the model again"
            )
        manifest: Manifest = read(cls, data, "manifest", error=BundleError)
        return manifest


class Bundle:
    """An opened bundle whose every file was checked.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        manifest: its manifest.
        labels: class names, in the order of the outputs.
        mel_basis: (n_mels, bins) float32.

    Raises:
        BundleError: naming the file, what was expected and the remedy.
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
        """Path of the file with that role: model, mel_basis, labels or model_card."""
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
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BundleWriter:
    """Collects the files of a bundle in a hidden folder beside it and puts them in place at once.

    A context manager: leaving it without `commit` removes what was written.

    >>> with BundleWriter(target) as writer:
    ...     (writer.folder / "mel_basis.bin").write_bytes(data)
    ...     writer.commit(manifest)

    Raises:
        BundleError: the target exists and is no bundle; nothing of it is touched.
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
        """Size and hash of a file that was written into the folder."""
        path = self.folder / name
        return FileRecord(role=role, sha256=file_sha256(path), bytes=path.stat().st_size)

    def commit(self, manifest: Manifest) -> Bundle:
        """Writes the manifest, reads the whole bundle back, and moves it to the target."""
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
