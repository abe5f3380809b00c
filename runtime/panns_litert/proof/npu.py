"""NPU check: tests without a phone that an NPU takes a whole .tflite, and what its arithmetic does to the outputs.

LiteRT's compiler plugin compiles the file ahead of time, as an app's build does. The bytecode then runs on the vendor's
emulator, whose arithmetic is the NPU's. An emulator proves arithmetic and residency. It proves nothing about speed.
Both run in a child process, so that a crash or a hang can be reported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle, Check, Manifest, NpuRecord, file_sha256
from panns_litert.child import run_child
from panns_litert.engine import Outputs, read_graph
from panns_litert.errors import BundleError, NpuError, NpuVendorError
from panns_litert.proof.gpu import (
    TIMEOUT_SECONDS,
    Clips,
    bundle_of,
    compare_outputs,
    demo_inputs,
    generated_inputs,
    require_inputs,
    rewritten,
    text_of,
)
from panns_litert.proof.gpu_worker import load_clips, save_clips
from panns_litert.proof.npu_plugin import Compiled, Refusal, read_compiled
from panns_litert.proof.npu_targets import QUALCOMM, NpuTarget, npu_targets, qnn_build, vendor_parts
from panns_litert.proof.npu_worker import COMPILED
from panns_litert.words import counted

DEFAULT_SOC = "SM8650"


@dataclass(frozen=True, kw_only=True)
class CompiledNpu:
    """What a compiler plugin made of a .tflite for one target.

    Attributes:
        file: the .tflite.
        soc: the target, such as "SM8650".
        architecture: the NPU's architecture, such as "v75"; None if the plugin did not say.
        compiled: the compiled file; None if the plugin wrote none.
        operators: number of operators, as the plugin counts them.
        taken: how many of them the plugin took.
        partitions: in how many parts.
        refused: the others, with the plugin's reasons.
        errors: why there is no file: a crash, a time-out, a failure of the vendor's compiler.
        file_bytes, compiled_bytes: sizes of the two files.
        bytecode_sha256: of the bytecode; None if there is none.
        versions: of the tools, by name.
    """

    file: Path
    soc: str
    architecture: str | None
    compiled: Path | None
    operators: int
    taken: int
    partitions: int
    refused: tuple[Refusal, ...]
    errors: tuple[str, ...]
    file_bytes: int
    compiled_bytes: int | None
    bytecode_sha256: str | None
    versions: dict[str, str]

    @property
    def resident(self) -> bool:
        """Whether the whole graph is one part for the NPU, and nothing is left for the CPU."""
        return (
            self.compiled is not None
            and not (self.refused or self.errors)
            and self.taken == self.operators > 0
            and self.partitions == 1
        )

    @property
    def why(self) -> str:
        """Why the graph is not resident; empty if it is."""
        reasons = [f"refused {refused}" for refused in self.refused] + list(self.errors)
        if self.errors and self.taken == self.operators > 0:  # the plugin and the vendor's compiler disagree
            reasons[0] = f"the plugin took all {counted(self.operators, 'operator')}, but {reasons[0]}"
        if not self.resident and not self.errors:
            parts = counted(self.partitions, "part")
            reasons.append(f"{self.taken} of {self.operators} operators in {parts}; expected all in 1 part")
        return "; ".join(reasons)


@dataclass(frozen=True, kw_only=True)
class NpuReport:
    """The result of an NPU check for one target.

    Attributes:
        build: what the compiler plugin made of the file.
        arithmetic: of floating-point operators: "float16" or "float32", as measured; None if nothing ran. A graph of
            integers does not use it.
        errors: of the run: a crash, a time-out, an emulator that refuses the bytecode.
        checks: the stage npu: a check per output against the CPU's outputs of the same file, and, if references were
            given, one per output against PyTorch's; empty if nothing ran.
        outputs_sha256: of all outputs of all runs. Two targets with the same one compute alike. None if nothing ran.
    """

    build: CompiledNpu
    arithmetic: str | None
    errors: tuple[str, ...]
    checks: tuple[Check, ...]
    outputs_sha256: str | None

    @property
    def resident(self) -> bool:
        """Whether the whole graph is one part for the NPU, and the emulator ran it without a CPU."""
        return self.build.resident and bool(self.checks) and not self.errors

    @property
    def passed(self) -> bool:
        """Whether the graph is resident, without errors, and every output is within its gate."""
        return not self.why

    @property
    def why(self) -> str:
        """Why the check did not pass; empty if it passed."""
        reasons = [self.build.why] if self.build.why else []
        reasons += self.errors
        if failed := [f"{check.output}: {check.why}" for check in self.checks if not check.passed]:
            took = f"the plugin took all {counted(self.build.operators, 'operator')}, but the run gives other values: "
            reasons.append(took + "; ".join(failed))
        if not reasons and not self.checks:
            reasons.append("nothing ran")
        return "; ".join(reasons)

    def record(self) -> NpuRecord:
        """Returns the record for the manifest of a bundle."""
        build = self.build
        return NpuRecord(
            soc=build.soc,
            architecture=build.architecture,
            arithmetic=self.arithmetic,
            operators=build.operators,
            taken=build.taken,
            partitions=build.partitions,
            resident=self.resident,
            refused=tuple(map(str, build.refused)),
            errors=(*build.errors, *self.errors),
            checks=self.checks,
            compiled_bytes=build.compiled_bytes,
            outputs_sha256=self.outputs_sha256,
            passed=self.passed,
            model_sha256=file_sha256(build.file),
            versions=build.versions,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON types."""
        build = self.build
        return {
            "file": str(build.file),
            "soc": build.soc,
            "architecture": build.architecture,
            "arithmetic": self.arithmetic,
            "passed": self.passed,
            "why": self.why,
            "operators": build.operators,
            "taken": build.taken,
            "partitions": build.partitions,
            "resident": self.resident,
            "refused": [
                {"op": found.op, "operators": list(found.operators), "count": found.count, "reason": found.reason}
                for found in build.refused
            ],
            "errors": [*build.errors, *self.errors],
            "checks": [check.to_dict() for check in self.checks],
            "file_bytes": build.file_bytes,
            "compiled_bytes": build.compiled_bytes,
            "bytecode_sha256": build.bytecode_sha256,
            "outputs_sha256": self.outputs_sha256,
            "versions": build.versions,
        }


def compile_npu(
    model: str | os.PathLike[str] | Bundle,
    soc: str,
    out: str | os.PathLike[str],
    *,
    timeout: float = TIMEOUT_SECONDS,
) -> CompiledNpu:
    """Compiles a .tflite ahead of time for one NPU, with LiteRT's compiler plugin. Runs nothing.

    Args:
        model: a .tflite, the folder of a bundle, or a bundle.
        soc: one of `npu_socs()`, in any case.
        out: the compiled file, replaced atomically. It is written also if the plugin took only a part of the graph;
            `CompiledNpu.resident` says so.
        timeout: seconds after which the compilation is ended, > 0.

    Raises:
        BundleError: the file or the bundle cannot be read, `out` is the file itself, or the timeout is out of range.
        NpuError: there is no such target.
        NpuVendorError: a part of the vendor is missing or of another version; the message says what to do.
    """
    target, path = _one_target(soc), _file_of(model, timeout)[0]
    if Path(out).exists() and path.samefile(out):
        raise BundleError(f"{out} is the file to compile; expected another name for the compiled one")
    versions = vendor_parts(target, run=False).versions
    with tempfile.TemporaryDirectory() as name:
        notes, problem = _child(Path(name), path, target, timeout=timeout)
        build = _build(path, target, Path(name) / COMPILED, versions, notes, problem)
        if build.compiled is None:
            return build
        try:
            with build.compiled.open("rb") as made, replacing(out) as file:
                shutil.copyfileobj(made, file)
        except OSError as error:
            raise BundleError(f"{out}: {error.strerror or error}; the compiled file is not written") from error
    return replace(build, compiled=Path(out))


def npu_check(
    model: str | os.PathLike[str] | Bundle,
    *,
    soc: str = DEFAULT_SOC,
    inputs: Clips | None = None,
    references: Sequence[Outputs] | None = None,
    compiled: str | os.PathLike[str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> NpuReport:
    """Compiles a file for one NPU, runs the bytecode on the vendor's emulator, and compares its outputs.

    As for `gpu_check`: if the rounding of a run's inputs to float16 alone moves the CPU's outputs outside the gate, the
    run is checked with its own threshold, and the effect of the rounding is recorded beside it.

    Args:
        model: a .tflite, the folder of a bundle, or a bundle.
        soc: one of `npu_socs()`, in any case.
        inputs: for every run an array per input name, float32 of the input's shape. If not given, the demo
            recordings for a bundle, and random numbers for a bare file.
        references: PyTorch's outputs for every run, to compare with besides the CPU's outputs of the same file.
        compiled: a file that `compile_npu` made of this model for this target, to run instead of compiling again.
        timeout: seconds after which the child process is killed, > 0.

    Returns:
        The report, even if the plugin refused the file or crashed, or the emulator did.

    Raises:
        BundleError: the file or the bundle cannot be read, the inputs do not fit it, the number of references is not
            the number of runs, or the timeout is out of range.
        NpuError: there is no such target, or `compiled` is damaged or not of this model and target.
        NpuVendorError: a part of the vendor is missing or of another version; the message says what to do.
    """
    target, (path, bundle) = _one_target(soc), _file_of(model, timeout)
    graph = read_graph(path)
    if inputs is None:
        inputs = demo_inputs(bundle) if bundle else generated_inputs(graph)
    require_inputs(path, graph, inputs)
    if references is not None and len(references) != len(inputs):
        raise BundleError(f"{len(references)} references for {len(inputs)} runs; expected one each")
    versions = vendor_parts(target).versions
    ready = None if compiled is None else Path(compiled)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if ready is not None:
            _require_same(ready, target, path, folder)
        save_clips(folder / "inputs.npz", inputs)
        notes, problem = _child(folder, path, target, timeout=timeout, run=True, compiled=ready)
        made = ready or folder / COMPILED
        build = _build(path, target, made, versions, notes, problem)
        got = load_clips(folder / "npu.npz") if (folder / "npu.npz").exists() else []
        cpu = load_clips(folder / "cpu.npz") if got else []
        half = load_clips(folder / "half.npz") if got and notes.get("arithmetic") != "float32" else None
    if ready is None:  # the temporary file is gone
        build = replace(build, compiled=Path(COMPILED) if build.compiled else None)
    errors = []
    if build.compiled and "refusal" in notes:
        errors.append(f"the plugin compiled the whole file, but the bytecode does not run: {notes['refusal']}")
    if build.compiled and problem:
        errors.append(f"{problem} ({_STEPS.get(notes.get('step', ''), 'at the start')})")
    checks = compare_outputs(got, cpu, half, stage="npu") if got else []
    if got and references is not None:
        against = compare_outputs(got, references, half, stage="npu")
        checks += [replace(check, output=f"{check.output}, against PyTorch") for check in against]
    return NpuReport(
        build=build,
        arithmetic=notes.get("arithmetic"),
        errors=tuple(errors),
        checks=tuple(checks),
        outputs_sha256=_digest(got) if got else None,
    )


def same_outputs(reports: Sequence[NpuReport]) -> list[list[NpuReport]]:
    """Groups the reports of one file on several targets: those of a group have the same outputs, to the last bit.

    A report without outputs is in a group of its own.
    """
    groups: dict[str, list[NpuReport]] = {}
    for i, report in enumerate(reports):
        groups.setdefault(report.outputs_sha256 or f"nothing ran: {i}", []).append(report)
    return list(groups.values())


def record_npu(bundle: Bundle, reports: Sequence[NpuReport]) -> Bundle:
    """Writes reports into the bundle's manifest and model card, in place of earlier ones of the same targets.

    Returns:
        The new bundle.

    Raises:
        BundleError: the bundle cannot be written, it has another model by now, it is one of the hub, or it has a
            compiled file of a target and a report is of other bytecode.
    """
    new = {report.build.soc: report.record() for report in reports}

    def changed(manifest: Manifest) -> Manifest:
        for report in reports:
            _require_of_its_file(bundle, manifest, report.build)
        records = {record.soc: record for record in manifest.npu} | new
        return replace(manifest, npu=tuple(records[soc] for soc in sorted(records)))

    return rewritten(bundle, changed, "the NPU check")


def _require_of_its_file(bundle: Bundle, manifest: Manifest, build: CompiledNpu) -> None:
    """Checks that a result for a SoC is of the bytecode in the bundle's compiled file for it, if it has one.

    Raises:
        BundleError: it is not: the result would stand for a file that was not checked.
    """
    name = manifest.npu_file(build.soc)
    if name is None:
        return
    bytecode = read_compiled(bundle.path / name).bytecode
    if build.bytecode_sha256 != hashlib.sha256(bytecode).hexdigest():
        raise BundleError(
            f"{bundle.path}: {name} keeps its result: this check compiled the model anew, and "
            f"{'not to the same bytecode' if build.bytecode_sha256 else 'got no file'}; "
            "convert it again with --npu for a new file"
        )


def _one_target(soc: str) -> NpuTarget:
    targets = npu_targets(soc)
    if len(targets) != 1:
        raise NpuError(f"{counted(len(targets), 'SoC')}; expected one, such as {DEFAULT_SOC}")
    return targets[0]


def _file_of(model: str | os.PathLike[str] | Bundle, timeout: float) -> tuple[Path, Bundle | None]:
    if not timeout > 0:
        raise BundleError(f"timeout = {timeout!r}; expected seconds > 0")
    bundle = bundle_of(model)
    path = bundle.file("model") if bundle else Path(os.fspath(model))  # type: ignore[arg-type]
    read_graph(path)  # a file that is no .tflite, or damaged, is no work for a compiler
    return path, bundle


def _child(
    folder: Path, model: Path, target: NpuTarget, *, timeout: float, run: bool = False, compiled: Path | None = None
) -> tuple[dict[str, Any], str]:
    """Runs the child process. Returns its notes, and what went wrong with the process or an empty text."""
    request = {
        "model": str(model.resolve()),
        "soc": target.soc,
        "compiled": None if compiled is None else str(compiled.resolve()),
        "run": run,
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    problem = run_child("panns_litert.proof.npu_worker", folder, timeout)
    notes: dict[str, Any] = json.loads(text_of(folder / "notes.json") or "{}")
    if "error" in notes:
        raise NpuError(notes["error"])
    if unloaded := notes.get("plugin", {}).get("unloaded"):
        raise NpuVendorError(f"LiteRT's plugin for {target.vendor} cannot be loaded: {unloaded}")
    return notes, problem


def _build(
    path: Path, target: NpuTarget, made: Path, versions: dict[str, str], notes: Mapping[str, Any], problem: str
) -> CompiledNpu:
    """Returns what the plugin made, from the notes of the child process."""
    said = notes.get("plugin")
    compiled = read_compiled(made) if made.exists() and (said or notes.get("step") != "compile") else None
    errors = list(said["errors"]) if said else []
    if compiled is None and not errors:
        errors.append(f"{problem or 'the plugin wrote no file'} ({_STEPS.get(notes.get('step', ''), 'at the start')})")
    if said and said["api"]:
        versions |= {"plugin": f"QNN API {said['api']}"}
    operators = (said["operators"] if said else 0) or read_graph(path).operators
    left = len(compiled.left) if compiled else operators
    return CompiledNpu(
        file=path,
        soc=target.soc,
        architecture=said["architecture"] if said else None,
        compiled=made if compiled else None,
        operators=operators,
        taken=said["taken"] if said else operators - left,
        partitions=said["partitions"] if said else compiled.partitions if compiled else 0,
        refused=tuple(Refusal(**entry | {"operators": tuple(entry["operators"])}) for entry in said["refused"])
        if said
        else (),
        errors=tuple(errors),
        file_bytes=path.stat().st_size,
        compiled_bytes=made.stat().st_size if compiled else None,
        bytecode_sha256=hashlib.sha256(compiled.bytecode).hexdigest() if compiled else None,
        versions=versions,
    )


def _require_same(compiled: Path, target: NpuTarget, model: Path, folder: Path) -> Compiled:
    """Checks that a compiled file is of this model, this target and this version of the emulator.

    Raises:
        NpuError, NpuVendorError: it is not.
    """
    found, graph = read_compiled(compiled), read_graph(model)
    if (found.vendor, found.soc) != (target.vendor, target.model):
        raise NpuError(
            f"{compiled} is compiled for {found.vendor} {found.soc}; expected {target.vendor} {target.model}"
        )
    if found.whole and (found.inputs, found.outputs) != (graph.inputs, graph.outputs):
        raise NpuError(f"{compiled} has other inputs or outputs than {model}; compile it again")
    if target.vendor == QUALCOMM:
        bytecode = folder / "bytecode.bin"
        bytecode.write_bytes(found.bytecode)
        build, emulator = qnn_build(bytecode), vendor_parts(target).versions["QNN"]
        if build is not None and build != emulator:
            raise NpuVendorError(
                f"{compiled} is compiled with QNN {build}, and the emulator is of another version, {emulator}; "
                "compile it again"
            )
    return found


def _digest(runs: Sequence[Outputs]) -> str:
    digest = hashlib.sha256()
    for run in runs:
        for name in sorted(run):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(run[name], np.float32).tobytes())
    return digest.hexdigest()


_STEPS = {
    "compile": "while the plugin compiled the file",
    "cpu": "while the CPU ran the file",
    "run": "while the bytecode ran",
    "arithmetic": "after the run",
}
