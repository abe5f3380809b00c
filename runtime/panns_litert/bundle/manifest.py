"""The content of a bundle's manifest.json, checked on construction and read strictly."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from panns_litert.bundle.check import ENGINE, QUANTIZED, STAGES, Check, PrecisionName
from panns_litert.errors import BundleError
from panns_litert.frontend import FrontEndSpec
from panns_litert.strict import parse_json, read, shown

FORMAT_VERSION = 2
"""Format of what `convert` writes: every stage is proven, and the outputs begin with probs and embedding."""
ADOPTED_VERSION = 3
"""Format of what `adopt` writes. Its fields are those of format 2; proof and embedding may be missing."""
MANIFEST = "manifest.json"
GraphName = Literal["logmel", "waveform"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
LOG_MEL = ("host", "graph", "none")
PRECISIONS: tuple[PrecisionName, ...] = tuple(STAGES)
OWN_WEIGHTS = "unknown: the user's own checkpoint"
"""The licence and attribution of weights that are not the published ones."""
FINE_TUNED = "fine-tuned from "
"""In the attribution of weights that the user fine-tuned, before the base."""
UNKNOWN = "unknown: made elsewhere"
"""The licence and attribution of a .tflite that was made elsewhere, if it does not tell them."""

MOST_MODEL_BYTES = 2**31 - 1
"""Size of the largest file of a bundle: a flatbuffer has offsets of 31 bits."""
NPU_MODEL = "npu_model"
"""Role of a file that was compiled ahead of time for one NPU; a bundle has any number of them. The file with the role
"model" runs everywhere, and no runtime takes another one by itself."""
_MOST_BYTES = {
    "model": MOST_MODEL_BYTES,
    NPU_MODEL: MOST_MODEL_BYTES,
    "mel_basis": 64 << 20,
    "labels": 4 << 20,
    "selftest": 4 << 20,
    "selftest_samples": 4 << 20,
}
_ROLES = ("labels", "mel_basis", "model", "model_card")
_SELF_TEST_ROLES = ("selftest", "selftest_samples")  # both or none: bundles of earlier versions have none
_MOST_SAMPLES = 100_000_000  # of a clip: almost an hour at 32 kHz; the same bound in Manifest.kt


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        name: its name.
        shape: its static shape.
        dtype: type of its elements.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What shows whether a file of a bundle was altered.

    The model card may be altered: its hash and size are those of the text that was first written.

    Attributes:
        role: what the file is, such as "model".
        sha256: SHA-256 of its content, hexadecimal.
        bytes: its size.
    """

    role: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """The checkpoint that a bundle was made from; or the .tflite that was adopted without proof.

    Attributes:
        file: name of the file.
        sha256: SHA-256 of its content, hexadecimal.
        url: where it is published; None for a local file of the user.
        licence, attribution: of the weights.
        published_map: mAP that its authors published, 0 … 1; None if there is none.
    """

    file: str
    sha256: str
    url: str | None
    licence: str
    attribution: str
    published_map: float | None

    @property
    def own(self) -> bool:
        """Whether these are weights of the user's own."""
        return self.licence == OWN_WEIGHTS or FINE_TUNED in self.attribution


@dataclass(frozen=True, kw_only=True)
class GpuRecord:
    """The last strict GPU check of a bundle's .tflite.

    Attributes:
        adapter, driver: the GPU and its driver, in the driver's words.
        arithmetic: "float16" or "float32", as measured; "none" if nothing ran.
        operators: number of operators of the graph.
        resident: whether all operators were compiled for the GPU, with no other accelerator allowed.
        refused, errors: messages of the delegate; empty if there were no problems.
        reference: what the outputs were compared with, "cpu" or "pytorch".
        checks: the checks of the stage gpu_fp16.
        passed: the verdict.
        model_sha256: SHA-256 of the file that was checked.
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
class NpuRecord:
    """The last check of a bundle's .tflite for one NPU.

    Attributes:
        soc: the target, such as "SM8650".
        architecture: the NPU's architecture, such as "v75"; None if the compiler plugin did not say.
        arithmetic: of floating-point operators, "float16" or "float32", as measured; None if nothing ran.
        operators, taken, partitions: number of operators of the graph, how many of them the plugin took, and in how
            many parts.
        resident: whether the whole graph is one part for the NPU, and ran so.
        refused, errors: messages of the plugin and of the run; empty if there were no problems.
        checks: the checks of the stage npu.
        compiled_bytes: size of the compiled file; None if there is none.
        outputs_sha256: of all outputs, hexadecimal: targets with the same one compute alike. None if nothing ran.
        passed: the verdict.
        model_sha256: SHA-256 of the file that was checked.
        versions: of the tools, by name.
    """

    soc: str
    architecture: str | None
    arithmetic: str | None
    operators: int
    taken: int
    partitions: int
    resident: bool
    refused: tuple[str, ...]
    errors: tuple[str, ...]
    checks: tuple[Check, ...]
    compiled_bytes: int | None
    outputs_sha256: str | None
    passed: bool
    model_sha256: str
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9-]*", self.soc):  # a part of a file's name, and of the model card
            raise BundleError(f"npu {shown(self.soc)}; expected the name of a SoC, such as SM8650")
        whole = self.taken == self.operators > 0 and self.partitions == 1
        ran = self.checks and not (self.refused or self.errors)
        if self.resident and not (whole and ran):
            raise BundleError(f"npu {self.soc}: resident, but its figures say otherwise; run npu-check again")
        if self.passed and not (self.resident and all(check.passed for check in self.checks)):
            raise BundleError(f"npu {self.soc}: passed, but its figures say otherwise; run npu-check again")


@dataclass(frozen=True, kw_only=True)
class KeptLayer:
    """A layer of a quantized .tflite whose weights have a finer type than the bundle's precision.

    Attributes:
        operator: index of the operator in the float32 graph.
        op: kind of the operator, such as CONV_2D.
        name: name of the module that the layer came from.
        weights: number of weights.
        precision: type of the weights: "int8", "fp16" or "fp32".
        error: error if only this layer is quantized: mean squared error of logits and embedding over their variance.
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
        kept: layers with a finer type, chosen one by one, the most useful first; empty if the gate required none.
        calibration_clips: number of audio clips that gave the ranges of `int8-full`; 0 for every other precision.
    """

    kept: tuple[KeptLayer, ...] = ()
    calibration_clips: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a reader needs to know about a bundle. Checked on construction.

    Attributes:
        format_version: `FORMAT_VERSION`, or `ADOPTED_VERSION` for a .tflite that was made elsewhere.
        model, network: name of the model, and of its architecture.
        description: one line about the model.
        source: the checkpoint.
        front_end: how samples become the log-mel.
        graph: input of the graph, "logmel" or "waveform".
        log_mel: what computes the log-mel: "host" or "graph"; "none" if the network has no log-mel, or if what it does
            with the samples is not known. Then only the sample rate of `front_end` is used.
        clip_seconds: length of a clip.
        inputs, outputs: of the graph.
        files: all files by name.
        precision: of the weights, one of `PRECISIONS`.
        parity: the checks of all stages.
        gpu: the last check on a GPU; None if there was none.
        npu: the last check for every NPU that there was one for, each SoC once.
        versions: of the tools that made the bundle, by name.
        quantization: set for a precision with integer weights; None for fp32 and fp16, and for a .tflite that was made
            elsewhere.

    Raises:
        BundleError: the parts contradict each other.
    """

    format_version: int
    model: str
    network: str
    description: str
    source: Source
    front_end: FrontEndSpec
    graph: GraphName
    log_mel: str
    clip_seconds: float
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: dict[str, FileRecord]
    precision: PrecisionName
    quantization: Quantization | None
    parity: tuple[Check, ...]
    gpu: GpuRecord | None
    npu: tuple[NpuRecord, ...] = ()
    versions: dict[str, str]

    def __post_init__(self) -> None:
        _require_version(self.format_version)
        if self.graph not in GRAPHS:
            raise BundleError(f"graph {self.graph!r}; expected one of {', '.join(GRAPHS)}")
        if self.log_mel not in LOG_MEL or (self.log_mel == "host") != (self.graph == "logmel"):
            raise BundleError(f"log_mel {self.log_mel!r} with graph {self.graph!r}; expected host with logmel alone")
        if self.precision not in PRECISIONS:
            raise BundleError(f"precision {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        self._require_quantization()
        if not 0 < self.clip_seconds * self.front_end.sample_rate <= _MOST_SAMPLES:
            raise BundleError(
                f"clip_seconds {self.clip_seconds!r}; expected a number > 0 that makes at most {_MOST_SAMPLES} samples"
            )
        if self.log_mel != "none" and self.clip_samples < self.front_end.least_samples:
            least = self.front_end.least_samples
            raise BundleError(f"clip_seconds {self.clip_seconds!r}; the front end takes at least {least} samples")
        most = self.front_end.most_samples
        if most is not None and self.clip_samples > most:
            raise BundleError(f"clip_seconds {self.clip_seconds:g}; the front end has room for {most} samples")
        shapes = {"logmel": (1, 1, self.frames, self.front_end.n_mels), "waveform": (1, self.clip_samples)}
        expected = TensorSpec(name=self.graph, shape=shapes[self.graph])
        if self.inputs != (expected,):
            raise BundleError(f"inputs {self.inputs}; the front end and clip_seconds give {expected}")
        if self.format_version == FORMAT_VERSION and not self.proven:
            raise BundleError(
                f"no proof of every stage; expected {', '.join(STAGES[self.precision])}; convert it again"
            )
        checked = {check.stage for check in self.parity if check.output == "probs"}
        if self.format_version == ADOPTED_VERSION and not checked & {self.precision, ENGINE}:
            raise BundleError(f"no check of probs at {self.precision} or {ENGINE}; expected one; adopt it again")
        if unproven := [f"{c.stage}/{c.output}" for c in self.parity if not c.passed or "max_abs" not in c.threshold]:
            raise BundleError(f"no proof of {', '.join(unproven)}; convert it again")
        names = tuple(output.name for output in self.outputs)
        expected_names = ("probs", "embedding") if self.format_version == FORMAT_VERSION else ("probs",)
        if names[: len(expected_names)] != expected_names:
            raise BundleError(f"outputs {', '.join(names) or 'none'}; expected {', '.join(expected_names)}")
        for output in self.outputs:
            if output.dtype != "float32" or len(output.shape) < 2 or output.shape[0] != 1 or min(output.shape) < 1:
                raise BundleError(f"output {output}; expected float32 of shape (1, …)")
        roles = sorted(record.role for record in self.files.values() if record.role != NPU_MODEL)
        if roles not in (sorted(_ROLES), sorted(_ROLES + _SELF_TEST_ROLES)):
            raise BundleError(
                f"files with roles {roles}; expected {', '.join(_ROLES)}, one each, "
                f"and {' and '.join(_SELF_TEST_ROLES)} or neither, and any number of {NPU_MODEL}"
            )
        for name, record in self.files.items():
            plain = name.isprintable() and not set(name) & set("/\\")
            if not plain or len(name) > 255 or name in ("", ".", "..", MANIFEST):
                raise BundleError(f"file name {shown(name)}; expected a plain name inside the bundle")
            if record.role != "model_card" and not re.fullmatch("[0-9a-f]{64}", record.sha256):
                raise BundleError(f"{name} with sha256 {shown(record.sha256)}; expected 64 hexadecimal digits")
            # The model card is documentation: its hash says what was written, and nothing checks it.
            most = _MOST_BYTES.get(record.role)
            if most is not None and not 0 < record.bytes <= most:
                raise BundleError(f"{name} of {record.bytes} bytes; expected a {record.role} of 1 … {most} bytes")
        if self.gpu is not None and self.gpu.model_sha256 != self.model_sha256:
            raise BundleError("the GPU's result is of another .tflite; run gpu-check again")
        if any(record.model_sha256 != self.model_sha256 for record in self.npu):
            raise BundleError("an NPU's result is of another .tflite; run npu-check again")
        if len({record.soc.casefold() for record in self.npu}) < len(self.npu):
            raise BundleError("two NPU results of one SoC; expected one each; run npu-check again")
        sizes = {self.npu_file(record.soc): record.compiled_bytes for record in self.npu}
        for name, file in self.files.items():
            if file.role == NPU_MODEL and sizes.get(name) != file.bytes:
                raise BundleError(f"{name} without the result of its NPU; expected it; convert it again")

    def _require_quantization(self) -> None:
        found = self.quantization
        if self.format_version == ADOPTED_VERSION:
            if found is not None:
                raise BundleError(f"quantization {found} in format {ADOPTED_VERSION}; expected none")
        elif (found is not None) != (self.precision in QUANTIZED):
            raise BundleError(f"quantization {found} with precision {self.precision}; expected it with integer weights")
        if found is not None and (found.calibration_clips > 0) != (self.precision == "int8-full"):
            raise BundleError(f"calibration_clips {found.calibration_clips} with precision {self.precision}")

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the .tflite, hexadecimal."""
        return self.files[self.file("model")].sha256

    @property
    def answers_sha256(self) -> str:
        """SHA-256 of all that changes an answer, hexadecimal: model, mel basis, labels, and their use."""
        names = ("front_end", "graph", "log_mel", "clip_seconds", "inputs", "outputs")
        about = {name: value for name, value in asdict(self).items() if name in names}
        files = {role: self.files[self.file(role)].sha256 for role in ("model", "mel_basis", "labels")}
        return hashlib.sha256(json.dumps(about | files, sort_keys=True).encode()).hexdigest()

    @property
    def clip_samples(self) -> int:
        """Number of samples of one clip."""
        return self.front_end.samples(self.clip_seconds)

    @property
    def frames(self) -> int:
        """Number of log-mel frames of one clip."""
        return self.front_end.frames(self.clip_samples)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.outputs[0].shape[1]

    @property
    def embedding_size(self) -> int:
        """Length of the embedding; 0 if the model has none."""
        return next((output.shape[1] for output in self.outputs if output.name == "embedding"), 0)

    @property
    def proven(self) -> bool:
        """Whether every stage of its parity compared the model with the original network.

        The float32 stage shows that `convert` exported rightly; a .tflite that was made elsewhere has no such stage.
        """
        done = {check.stage for check in self.parity}
        stages = STAGES[self.precision]
        if self.format_version == ADOPTED_VERSION:
            stages = ("front_end", "network", self.precision)
        return set(stages) <= done

    def file(self, role: str) -> str:
        """Returns the name of the first file with a role: model, mel_basis, labels, model_card, selftest,
        selftest_samples, npu_model.

        Raises:
            BundleError: there is no such role.
        """
        for name, record in self.files.items():
            if record.role == role:
                return name
        raise BundleError(f"role {shown(role)}; expected one of {', '.join(r.role for r in self.files.values())}")

    def npu_file(self, soc: str) -> str | None:
        """Returns the name of the file that is compiled for a SoC's NPU; None if there is none.

        Args:
            soc: name of the SoC, such as "SM8650", in any case.
        """
        ending = f"_{soc.casefold()}.tflite"
        return next((n for n, of in self.files.items() if of.role == NPU_MODEL and n.endswith(ending)), None)

    def to_json(self) -> str:
        """Returns the manifest as indented JSON. The same content gives the same text.

        Without a check on an NPU there is no `npu`, so that readers of before that check read the bundle, too.
        """
        data = {name: value for name, value in asdict(self).items() if name != "npu" or value}
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads the manifest from JSON, strictly: every field of the format but `npu` is required, no other allowed.

        Raises:
            BundleError: the text is not JSON, or not of this format.
        """
        data = parse_json(text, "manifest", error=BundleError)
        if not isinstance(data, dict) or "format_version" not in data:
            raise BundleError("no format_version; expected the manifest of a panns-litert bundle")
        _require_version(data["format_version"])  # first, because another version may have other fields
        manifest: Manifest = read(cls, {"npu": []} | data, "manifest", error=BundleError)
        return manifest


def _require_version(version: object) -> None:
    if version not in (FORMAT_VERSION, ADOPTED_VERSION) or isinstance(version, bool):
        raise BundleError(
            f"format_version {shown(version)}; this version reads {FORMAT_VERSION} and {ADOPTED_VERSION}; "
            "update panns-litert or convert the model again"
        )
