"""GPU check: tests that the GPU delegate runs a whole .tflite, without the CPU, and with correct outputs.

The delegate (ML Drift) is the one that a phone's CompiledModel uses. It needs a Vulkan driver; a software driver is
sufficient. The check runs in a child process, so that a crash or a hang can be reported.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.bundle import Bundle, BundleWriter, Check, GpuRecord, Manifest, file_sha256, model_card, open_bundle
from panns_litert.child import PRINTED_LOG, run_child
from panns_litert.demo import demo_audio
from panns_litert.engine import (
    DRIVER_REMEDY,
    Graph,
    Outputs,
    RefusedOp,
    read_delegate_log,
    read_graph,
    unusable,
)
from panns_litert.errors import BundleError, GpuDriverError
from panns_litert.frontend import LogMel
from panns_litert.hub import PREFIX
from panns_litert.proof.audit import TensorRange
from panns_litert.proof.gpu_worker import DELEGATE_LOG, load_clips, save_clips
from panns_litert.proof.parity import GATES, Gate, compare, few_as_one

TIMEOUT_SECONDS = 600.0
"""Default time limit of a check: enough for a software driver and the largest model."""

Clips = Sequence[Mapping[str, NDArray[np.float32]]]
"""Inputs: for every run a mapping of input name to array."""


@dataclass(frozen=True, kw_only=True)
class GpuReport:
    """The result of a GPU check.

    Attributes:
        file: the .tflite.
        adapter: name of the GPU, or of the software driver, as the delegate prints it; None if the check ended before.
        driver: the Vulkan driver and its version; None if unknown.
        software: whether the adapter is a CPU with a software driver, not a GPU.
        arithmetic: "float16" or "float32": the arithmetic of the delegate, as measured; None if it did not run.
        operators: number of operators in the file.
        resident: whether all operators were compiled for the GPU, with no other accelerator allowed.
        refused: the operators that were not, with the delegate's reasons.
        errors: validation errors of WebGPU, a crash, a hang, a refusal without a reason.
        reference: what the outputs were compared with: "cpu" (the same file) or "pytorch".
        checks: the gpu_fp16 stage, at least one check per output; empty if nothing ran.
        ranges: the fp16 range audit, worst first; empty if not requested.
        compile_seconds: time of the compilation.
        run_seconds: time of each run.
    """

    file: Path
    adapter: str | None
    driver: str | None
    software: bool
    arithmetic: str | None
    operators: int
    resident: bool
    refused: tuple[RefusedOp, ...]
    errors: tuple[str, ...]
    reference: str
    checks: tuple[Check, ...]
    ranges: tuple[TensorRange, ...]
    compile_seconds: float | None
    run_seconds: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether the graph is resident, computed in float16, without errors, and every output is within its gate."""
        return not self.why

    @property
    def why(self) -> str:
        """Why the check did not pass; empty if it passed."""
        reasons = [f"refused {refused.op}: {refused.reason}" for refused in self.refused]
        reasons += list(self.errors)
        reasons += [f"{check.output}: {check.why}" for check in self.checks if not check.passed]
        if self.arithmetic not in (None, "float16"):
            reasons.append(f"the driver computed in {self.arithmetic}, which proves nothing about float16")
        if not reasons and not (self.resident and self.checks):
            reasons.append("nothing ran")
        return "; ".join(reasons)

    def record(self) -> GpuRecord:
        """Returns the record for the manifest of a bundle. It has no times, because they differ from run to run."""
        return GpuRecord(
            adapter=self.adapter or "none",
            driver=self.driver or "unknown",
            arithmetic=self.arithmetic or "none",
            operators=self.operators,
            resident=self.resident,
            refused=tuple(f"{refused.op}: {refused.reason}" for refused in self.refused),
            errors=self.errors,
            reference=self.reference,
            checks=self.checks,
            passed=self.passed,
            model_sha256=file_sha256(self.file),
            litert=metadata.version("ai-edge-litert"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON types."""
        return {
            "file": str(self.file),
            "passed": self.passed,
            "why": self.why,
            "adapter": self.adapter,
            "driver": self.driver,
            "software": self.software,
            "arithmetic": self.arithmetic,
            "operators": self.operators,
            "resident": self.resident,
            "refused": [{"op": refused.op, "reason": refused.reason} for refused in self.refused],
            "errors": list(self.errors),
            "reference": self.reference,
            "checks": [check.to_dict() for check in self.checks],
            "compile_seconds": self.compile_seconds,
            "run_seconds": list(self.run_seconds),
            "ranges": [entry.to_dict() for entry in self.ranges],
        }


def gpu_check(
    model: str | os.PathLike[str] | Bundle,
    *,
    inputs: Clips | None = None,
    references: Sequence[Outputs] | None = None,
    half: Sequence[Outputs] | None = None,
    audit: bool = True,
    timeout: float = TIMEOUT_SECONDS,
) -> GpuReport:
    """Compiles a file for the GPU only, runs it there in float16, and compares its outputs with a reference.

    Args:
        model: a .tflite, the folder of a bundle, or a bundle.
        inputs: for every run an array per input name, float32 of the input's shape. If not given, the demo
            recordings for a bundle, and random numbers for a bare file.
        references: PyTorch's outputs for every run; the CPU's outputs of the same file if not given.
        half: with `references`, PyTorch's outputs for the inputs rounded to float16, for every run. Without
            `references`, the CPU's outputs for them are used. If this rounding alone moves a run outside the gate, the
            run is checked with its own threshold, and the effect of the rounding is recorded beside it.
        audit: whether to run the fp16 range audit too.
        timeout: seconds after which the child process is killed, > 0.

    Returns:
        The report, even if the GPU refused the file, crashed or hung.

    Raises:
        BundleError: the file or the bundle cannot be read, the inputs do not fit it, the number of references is not
            the number of runs, or the timeout is out of range.
        GpuDriverError: there is no driver, or it is too old; the message says what to install.
    """
    if not timeout > 0:
        raise BundleError(f"timeout = {timeout!r}; expected seconds > 0")
    bundle = bundle_of(model)
    path = bundle.file("model") if bundle else Path(os.fspath(model))  # type: ignore[arg-type]
    graph = read_graph(path)
    if inputs is None:
        inputs = demo_inputs(bundle) if bundle else generated_inputs(graph)
    require_inputs(path, graph, inputs)
    for what, runs in (("references", references), ("half", half)):
        if runs is not None and len(runs) != len(inputs):
            raise BundleError(f"{len(runs)} {what} for {len(inputs)} runs; expected one each")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = {"model": str(path.resolve()), "cpu": references is None, "audit": audit}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        save_clips(folder / "inputs.npz", inputs)
        problem = run_child("panns_litert.proof.gpu_worker", folder, timeout)
        notes: dict[str, Any] = json.loads(text_of(folder / "notes.json") or "{}")
        log = read_delegate_log(text_of(folder / DELEGATE_LOG) + text_of(folder / PRINTED_LOG))
        if log.driver_problem:
            raise GpuDriverError(f"no GPU: {log.driver_problem}; {DRIVER_REMEDY}")
        if "error" in notes:
            raise BundleError(notes["error"])
        got = load_clips(folder / "gpu.npz") if (folder / "gpu.npz").exists() else []
        reference = "cpu" if references is None else "pytorch"
        if references is None and got:
            references, half = load_clips(folder / "cpu.npz"), load_clips(folder / "half.npz")
    errors = list(log.validation_errors)
    if problem:
        errors.append(f"{problem} ({_STEPS.get(notes.get('step', ''), 'at the start')})")
    elif "refusal" in notes and not log.refused and not errors:
        errors.append(notes["refusal"])
    drivers = notes.get("drivers", {})
    adapter = log.adapter
    driver = next((driver for name, driver in drivers.items() if adapter and adapter.startswith(name)), None)
    return GpuReport(
        file=path,
        adapter=adapter,
        driver=driver,
        software=log.software,
        arithmetic=notes.get("arithmetic"),
        operators=graph.operators,
        resident="compile_s" in notes and not log.refused,
        refused=log.refused,
        errors=tuple(dict.fromkeys(errors)),
        reference=reference,
        checks=tuple(compare_outputs(got, references, half)) if references and got else (),
        ranges=tuple(TensorRange(**entry | {"shape": tuple(entry["shape"])}) for entry in notes.get("ranges", ())),
        compile_seconds=notes.get("compile_s"),
        run_seconds=tuple(notes.get("run_s", ())),
    )


def compare_outputs(
    got: Sequence[Outputs],
    references: Sequence[Outputs],
    half: Sequence[Outputs] | None = None,
    *,
    stage: str = "gpu_fp16",
) -> list[Check]:
    """Returns the checks of a stage that computes in float16: one per output, over all runs.

    Runs that are outside the gate because of inputs rounded to float16 get separate checks with their own threshold.
    For clip-wise and frame-wise probabilities, the gate bounds the absolute error. For any other output, it bounds the
    error as a share of the output's spread.

    Args:
        got, references, half: as for `gpu_check`.
        stage: the stage whose gate in `GATES` is used. If the gate asks for the five highest classes, it does so for
            the clip-wise probabilities alone.
    """
    gate = GATES[stage]
    gates = {name: replace(gate, top5=False, relative=name != "framewise") for name in references[0]}
    if "probs" in gates:
        gates["probs"] = gate

    def stacked(runs: Sequence[Outputs], which: Sequence[int], name: str) -> NDArray[np.float32]:
        return np.concatenate([runs[i][name].reshape(1, -1) for i in which])

    def check(runs: Sequence[Outputs], which: Sequence[int], name: str, gate: Gate, suffix: str = "") -> Check:
        a, b = stacked(runs, which, name), stacked(references, which, name)
        if name == "probs":
            a, b = few_as_one(a, b)
        return compare(stage, name + suffix, a, b, gate=gate)

    everything = range(len(references))
    if half is None:
        return [check(got, everything, name, gate) for name, gate in gates.items()]
    beyond = [
        i
        for i in everything
        if not unusable(half[i]) and not all(check(half, [i], name, gate).passed for name, gate in gates.items())
    ]
    within = [i for i in everything if i not in beyond]
    checks = [check(got, within, name, gate) for name, gate in gates.items()] if within else []
    for name in gates if beyond else ():
        loss = float(np.abs(stacked(half, beyond, name) - stacked(references, beyond, name)).max())
        # Twice the loss, because the GPU rounds every value that it computes, not only the input.
        own = check(got, beyond, name, Gate(max_abs=2 * loss), ", input beyond float16")
        checks.append(replace(own, threshold=own.threshold | {"float16_input_alone": loss}))
    return checks


def demo_inputs(bundle: Bundle) -> list[dict[str, NDArray[np.float32]]]:
    """Returns two demo inputs of a bundle's graph: a clip of several recordings, and one recording with zeros after."""
    manifest = bundle.manifest
    clips = demo_audio(manifest.front_end.sample_rate, manifest.clip_samples)
    return [graph_input(bundle, clip) for clip in (clips[0], clips[-1])]


def graph_input(bundle: Bundle, clip: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Returns a clip (clip_samples,) as the input of the bundle's graph: the samples, or their log-mel."""
    spec = bundle.manifest.inputs[0]
    values = clip if spec.name == "waveform" else LogMel(bundle.manifest.front_end, basis=bundle.mel_basis)(clip)
    return {spec.name: values.reshape(spec.shape)}


def generated_inputs(graph: Graph) -> list[dict[str, NDArray[np.float32]]]:
    """Returns random inputs for a bare file: two runs, normally distributed, always the same numbers.

    The mean and standard deviation are -40 and 15 (decibels) for an input named logmel, 0 and 0.1 (samples) for one
    named waveform, and 0 and 1 for any other.
    """
    rng = np.random.default_rng(0)
    scales = {"logmel": (-40.0, 15.0), "waveform": (0.0, 0.1)}
    runs = []
    for _ in range(2):
        run = {}
        for name, shape in graph.inputs.items():
            mean, deviation = scales.get(name, (0.0, 1.0))
            run[name] = (mean + deviation * rng.standard_normal(shape)).astype(np.float32)
        runs.append(run)
    return runs


def why_not_gpu(bundle: Bundle, *, timeout: float = 120.0) -> str | None:
    """Returns why a tagger should not use the GPU for a bundle; None if it should.

    Args:
        bundle: the bundle.
        timeout: time limit for the check of one clip, seconds.
    """
    try:
        report = gpu_check(bundle, inputs=demo_inputs(bundle)[:1], audit=False, timeout=timeout)
    except GpuDriverError as error:
        return str(error)
    if report.software:
        return f"{report.adapter} is a CPU, not a GPU"
    return report.why or None


def record_gpu(bundle: Bundle, report: GpuReport) -> Bundle:
    """Writes a report into the bundle's manifest and model card. Replaces the old bundle atomically.

    A model card that somebody edited stays as it is.

    Returns:
        The new bundle.

    Raises:
        BundleError: the bundle cannot be written, or it is one of the hub.
    """
    return rewritten(bundle, lambda manifest: replace(manifest, gpu=report.record()), "the GPU check")


def rewritten(bundle: Bundle, change: Callable[[Manifest], Manifest], what: str) -> Bundle:
    """Replaces a bundle atomically by one with another manifest, and a model card of it. Returns the new bundle.

    A model card that somebody edited stays as it is. What another check recorded since the bundle was opened, too.

    Args:
        bundle: the bundle.
        change: returns the new manifest, of the same files, for the one that the folder has now.
        what: what the manifest records, for messages.

    Raises:
        BundleError: the bundle cannot be written, it has another model by now, or it is one of the hub.
    """
    if bundle.origin is not None:
        raise BundleError(
            f"{bundle.origin} stays as it was published, and {what} is not recorded; `panns-litert pull "
            "--out DIR` makes a copy that can be changed"
        )
    try:
        with BundleWriter(bundle.path) as writer:  # from here on nobody else writes it
            was, bundle = bundle.manifest.model_sha256, Bundle(bundle.path)
            if bundle.manifest.model_sha256 != was:
                raise BundleError(f"{bundle.path} got another model meanwhile; {what} is not recorded; run it again")
            manifest, card = change(bundle.manifest), bundle.manifest.file("model_card")
            for name in bundle.manifest.files:
                if name != card:
                    shutil.copyfile(bundle.path / name, writer.folder / name)
            if (text := _edited_card(bundle)) is not None:
                (writer.folder / card).write_bytes(text)
            else:
                (writer.folder / card).write_text(model_card(manifest), encoding="utf-8")
                manifest = replace(manifest, files=manifest.files | {card: writer.record(card, "model_card")})
            return writer.commit(manifest)
    except OSError as error:
        raise BundleError(f"{bundle.path}: {error.strerror or error}; {what} is not recorded") from error


def _edited_card(bundle: Bundle) -> bytes | None:
    """Returns the model card if somebody edited it; None if it is as it was written, or not there."""
    card = bundle.file("model_card")
    if not card.is_file() or file_sha256(card) == bundle.manifest.files[card.name].sha256:
        return None
    return card.read_bytes()


def bundle_of(model: str | os.PathLike[str] | Bundle) -> Bundle | None:
    """Returns the bundle that a name, a folder or an address of the hub means; None for a bare .tflite file."""
    if isinstance(model, Bundle):
        return model
    # A file has a suffix, or is there; anything else names a bundle.
    of_hub = isinstance(model, str) and model.startswith(PREFIX)
    path = Path(model)
    return open_bundle(model) if of_hub or path.is_dir() or not (path.suffix or path.is_file()) else None


def require_inputs(path: Path, graph: Graph, inputs: Clips) -> None:
    """Checks that every run has finite float32 arrays of the graph's inputs.

    Raises:
        BundleError: otherwise.
    """
    if not inputs:
        raise BundleError(f"{path}: no inputs given; expected at least one run")
    for run in inputs:
        if set(run) != set(graph.inputs):
            raise BundleError(f"{path}: inputs {', '.join(run)}; expected {', '.join(graph.inputs)}")
        for name, shape in graph.inputs.items():
            array = np.asarray(run[name])
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise BundleError(
                    f"{path}: {name} of shape {array.shape}, {array.dtype}; expected finite float32 {shape}"
                )


_STEPS = {
    "cpu": "while the CPU ran the file",
    "audit": "in the range audit",
    "driver": "while Vulkan listed its devices",
    "compile": "while the GPU compiled the file",
    "run": "while the GPU ran the file",
    "arithmetic": "after the run",
}


def text_of(path: Path) -> str:
    """Returns what a process wrote to a file; an empty text if it wrote none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
