"""Converts a checkpoint to a bundle with proven parity, and verifies existing bundles with the same stages.

The steps are checkpoint → network → fp32 .tflite → fp16 or integer .tflite → bundle. A parity stage follows every step;
the last one, on the GPU, is optional. If a stage fails, no bundle is written.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from panns_litert.atomic import writing
from panns_litert.bundle import (
    ADOPTED_VERSION,
    CACHE_VARIABLE,
    DEFAULT_PRECISION,
    DEFAULT_SECONDS,
    FORMAT_VERSION,
    MEL_BASIS,
    MODEL_CARD,
    NPU_MODEL,
    PRECISIONS,
    QUANTIZED,
    SELF_TEST,
    SELF_TEST_SAMPLES,
    Bundle,
    BundleWriter,
    Check,
    FileRecord,
    GpuRecord,
    GraphName,
    Manifest,
    PrecisionName,
    Quantization,
    SelfTest,
    Source,
    TensorSpec,
    bundle_dir,
    cache_dir,
    model_card,
    open_bundle,
)
from panns_litert.engine import CpuEngine
from panns_litert.errors import (
    BundleError,
    ConversionError,
    ModelError,
    PannsLitertError,
    ParityError,
    ResultsError,
)
from panns_litert.frontend import FrontEndSpec, LogMel, mel_basis
from panns_litert.proof import (
    HELD_OUT_GATES,
    HELD_OUT_LOSSES,
    HELD_OUT_OUTPUTS,
    Adopted,
    adopt,
    compile_npu,
    npu_check,
    npu_targets,
    require,
    self_test_check,
    vendor_parts,
)
from panns_litert.strict import printable, shown
from panns_litert.words import counted
from panns_litert_convert.checkpoints import (
    base_of,
    facts_of,
    fetch,
    is_official,
    load_weights,
    model_for,
    source_of,
    weights_file,
)
from panns_litert_convert.export import export_fp32, quantizer_package
from panns_litert_convert.frontend import WaveformNetwork
from panns_litert_convert.metadata import About, about_model, complete
from panns_litert_convert.networks import AudioTagger
from panns_litert_convert.quantize import calibration_clips, write_precision
from panns_litert_convert.selftest import pytorch_outputs, recorded_check, self_tests
from panns_litert_convert.stages import (
    HeldOut,
    Reference,
    constants_check,
    front_end_stage,
    graph_front_end_stage,
    network_stage,
)
from panns_litert_convert.zoo import CLIP_SECONDS, Model, find

_LOGGER = logging.getLogger(__name__)

Report = Callable[[str], None]
"""Called with a few words at the start of each step."""

# The manifest lists the model card, and the card is made from the manifest: this record stands in until it is written.
_NO_CARD_YET = FileRecord(role="model_card", sha256="", bytes=0)

_TOOLS = ("ai-edge-litert", "litert-torch", "panns-litert", "torch")


def convert(
    name: str | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | Sequence[str] | None = None,
    graph: GraphName | None = None,
    seconds: float | None = None,
    precision: PrecisionName = DEFAULT_PRECISION,
    calibration: Sequence[str | os.PathLike[str]] = (),
    held_out: HeldOut | None = None,
    gpu: bool = False,
    npu: str | Sequence[str] | None = None,
    npu_parts: bool = False,
    out: str | os.PathLike[str] | None = None,
    report: Report = lambda _: None,
    progress: bool = False,
) -> Bundle:
    """Makes a bundle and proves the parity of every step.

    Converting again gives the same bytes and replaces the old bundle.

    Args:
        name: a model of the registry; by default the one that the checkpoint was fine-tuned from.
        checkpoint: weights to use instead of the published ones (offline use, fine-tuned weights): what
            `checkpoints.load_weights` takes.
        classes: with `checkpoint`: the names of its classes in the order of the outputs, or a file of them, one a line.
            The default are the names that the checkpoint or the config.json of a hub's folder has, or the model's own.
        graph: "logmel" (the host computes the log-mel) or "waveform" (the graph takes samples). The default is that of
            the fine-tuning, or the first of the model's `graphs`.
        seconds: length of a clip, 1 … 60 s; by default that of the fine-tuning, or 10 s.
        precision: one of `bundle.PRECISIONS`. With integer weights, layers keep a finer type if the gate requires it.
        calibration: recordings, or folders of them, like those that will be tagged. "int8-full" derives the ranges of
            its activations from them.
        held_out: clips that a fine-tuning held out: a file with integer weights must keep their accuracy.
        gpu: whether this machine's GPU delegate must also run the whole graph and pass its parity gate.
        npu: SoCs, as for `proof.npu_targets`. For each of them the bundle also gets a file that is compiled for its
            NPU. The vendor's emulator runs the self-test with it, and must agree with PyTorch within the gate "npu".
        npu_parts: whether such a file is also written if the NPU takes only a part of the operators.
        out: folder of the bundle; by default a folder in the cache.
        report: called at the start of each step.
        progress: whether a download draws a progress bar on stderr.

    Raises:
        ModelError: the model, graph, length or precision is unknown, "int8-full" was requested without audio or
            another precision with audio, or weights other than the published ones need `out`.
        NpuError: there is no such SoC, or a part of its vendor is missing on this machine; before anything is done.
        AudioError: audio for calibration is missing, unreadable or silent.
        DownloadError, CheckpointError: the weights cannot be downloaded or used.
        ConversionError: a converter failed. The message names its log.
        ParityError: a stage failed, or an NPU does not take the whole file. The error's `report` has all figures. No
            bundle is written.
        GpuDriverError: `gpu` is set and there is no driver.
    """
    if name is None and (checkpoint is None or (name := base_of(checkpoint)) is None):
        raise ModelError(
            f"no model named{'' if checkpoint is None else f', and {printable(checkpoint)} names none'}; expected one"
        )
    model = find(name)
    if checkpoint is not None:
        model = model_for(model, checkpoint, classes)
    elif classes is not None:
        raise ModelError("class names without a checkpoint; expected them with the weights of those classes")
    facts = None if checkpoint is None else facts_of(checkpoint)
    if seconds is None:
        seconds = DEFAULT_SECONDS if facts is None else facts.seconds
    require_length(seconds, model)
    if facts is not None and seconds != facts.seconds:
        _LOGGER.warning(
            "clips of %g s; %s was fine-tuned with clips of %g s", seconds, printable(checkpoint), facts.seconds
        )
    if graph is None:
        graph = model.graphs[0] if facts is None else facts.graph
    for what, value, choices in (("graph", graph, model.graphs), ("precision", precision, PRECISIONS)):
        if value not in choices:
            raise ModelError(f"{what} {value!r}; expected one of {', '.join(choices)}")
    if (precision == "int8-full") != bool(calibration):
        raise ModelError(
            f"precision {precision} {'with' if calibration else 'without'} audio for calibration; expected recordings "
            "with int8-full, and only with it"
        )
    npus = [] if npu is None else npu_targets(npu)
    for each in npus:
        vendor_parts(each)  # before a download or a conversion
    clips = calibration_clips(calibration, model.front_end, seconds=seconds) if calibration else []
    target = Path(out) if out is not None else bundle_dir(model.name, graph=graph, seconds=seconds, precision=precision)
    with _workspace() as work, BundleWriter(target) as writer:
        network, source, official = _load(model, checkpoint, report=report, progress=progress)
        if not official and out is None:
            raise ModelError(
                f"{printable(checkpoint)} is not the published {model.checkpoint.file}; the cache is for published "
                "weights; expected --out DIR"
            )
        description = _description(model, source, official)
        versions = _versions()
        about = about_model(
            model,
            source=source,
            description=description,
            graph=graph,
            seconds=seconds,
            version=versions["panns-litert"],
        )
        model_file = f"{model.name}_{model.dataset}_{'' if graph == 'logmel' else f'{graph}_'}{precision}.tflite"
        proof = _prove(
            model,
            network,
            graph=graph,
            seconds=seconds,
            precision=precision,
            calibration=clips,
            held_out=held_out,
            gpu=gpu,
            about=about,
            work=work,
            report=report,
        )
        require([*proof.checks, *(proof.gpu.checks if proof.gpu else ())])
        _require_gpu(proof.gpu)
        report("bundle")
        shutil.copyfile(proof.file, writer.folder / model_file)
        mel_basis(model.front_end).astype("<f4").tofile(writer.folder / MEL_BASIS)
        (writer.folder / about.labels_file).write_bytes(about.labels)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            model=model.name,
            network=model.network,
            description=description,
            source=source,
            front_end=model.front_end,
            graph=graph,
            log_mel=_log_mel(network, graph),
            clip_seconds=float(seconds),
            inputs=(TensorSpec(name=graph, shape=model.input_shape(seconds, graph)),),
            outputs=_outputs(network, model.input_shape(seconds)),
            files={
                model_file: writer.record(model_file, "model"),
                MEL_BASIS: writer.record(MEL_BASIS, "mel_basis"),
                model.labels: writer.record(model.labels, "labels"),
                MODEL_CARD: _NO_CARD_YET,
            },
            precision=precision,
            quantization=proof.quantization,
            parity=tuple(proof.checks),
            gpu=proof.gpu,
            versions=versions,
        )
        report("self_test")
        manifest = _with_self_test(manifest, network, proof, writer)
        for each in npus:
            report(f"npu {each.soc}")
            manifest = _with_npu_file(manifest, network, writer, soc=each.soc, parts=npu_parts)
        (writer.folder / MODEL_CARD).write_text(model_card(manifest), encoding="utf-8")
        manifest = replace(manifest, files=manifest.files | {MODEL_CARD: writer.record(MODEL_CARD, "model_card")})
        return writer.commit(manifest)


def _with_self_test(manifest: Manifest, network: AudioTagger, proof: _Proof, writer: BundleWriter) -> Manifest:
    """Writes the self-test's files. Returns the manifest with their records.

    The bounds of a self-test come from the parity clips. Any other recording may exceed them by a little, especially
    with few classes. So the first recording that the CPU reproduces within them is taken: parity proves the model, and
    the self-test proves the engine of a phone.

    Raises:
        ParityError: the CPU reproduces none of the recordings.
    """
    spec, engine = manifest.front_end, CpuEngine(proof.file)
    for self_test in self_tests(network, spec, samples=manifest.clip_samples):
        check = self_test_check(self_test, manifest, engine)
        if check.passed:
            break
    require([*proof.checks, check])
    text = self_test.to_json(model_sha256=manifest.model_sha256, sample_rate=spec.sample_rate)
    (writer.folder / SELF_TEST).write_text(text, encoding="utf-8")
    (writer.folder / SELF_TEST_SAMPLES).write_bytes(self_test.pcm)
    records = {
        SELF_TEST: writer.record(SELF_TEST, "selftest"),
        SELF_TEST_SAMPLES: writer.record(SELF_TEST_SAMPLES, "selftest_samples"),
    }
    return replace(manifest, files=manifest.files | records)


def _with_npu_file(
    manifest: Manifest, network: AudioTagger, writer: BundleWriter, *, soc: str, parts: bool
) -> Manifest:
    """Compiles the .tflite for a SoC's NPU, and runs the self-test with it. Returns the manifest with its records.

    Args:
        manifest: of the files in the writer's folder, among them the self-test.
        network: with its weights, for the outputs to compare with.
        writer: the bundle's.
        soc: one of `proof.npu_socs()`.
        parts: whether to keep a file of which the NPU takes only a part. Nothing runs it here.

    Raises:
        ParityError: the NPU does not take the whole file, or computes something else.
    """
    model, samples, spec = writer.folder / manifest.file("model"), manifest.clip_samples, manifest.inputs[0]
    name = f"{model.stem}_{soc.casefold()}{model.suffix}"
    build = compile_npu(model, soc, writer.folder / name)
    if build.compiled is None or not (build.resident or parts):
        remedy = "" if build.compiled is None else "; with --npu-parts (npu_parts) it is written all the same"
        raise ParityError(f"the NPU of {soc} does not take the whole {model.name}: {build.why}{remedy}")
    recorded, pcm = ((writer.folder / manifest.file(role)).read_bytes() for role in ("selftest", "selftest_samples"))
    self_test = SelfTest.from_files(recorded, pcm, manifest)
    clip = self_test.clip(samples)
    values = clip if spec.name == "waveform" else LogMel(manifest.front_end)(clip)
    found = npu_check(
        model,
        soc=soc,
        inputs=[{spec.name: values.reshape(spec.shape)}],
        references=[pytorch_outputs(self_test, network, manifest.front_end, samples=samples)],
        compiled=build.compiled,
    )
    found = replace(found, build=build)  # which knows what the plugin refused
    if build.resident and not found.passed:
        raise ParityError(f"the NPU of {soc}: {found.why}", list(found.checks))
    return replace(
        manifest,
        files=manifest.files | {name: writer.record(name, NPU_MODEL)},
        npu=(*manifest.npu, found.record()),
    )


def verify(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    gpu: bool = False,
    report: Report = lambda _: None,
    progress: bool = False,
) -> list[Check]:
    """Runs all stages again for a bundle, with its own .tflite and mel basis, and its self-test if it has one.

    Args:
        bundle: a bundle, or what `open_bundle` takes.
        checkpoint: the weights that it was made from, if they are not the published ones.
        gpu: whether to run the gpu_fp16 stage too, on this machine's GPU delegate.
        report, progress: as for `convert`.

    Returns:
        All checks, passed and failed.

    Raises:
        BundleError: the bundle is incomplete or altered, or its manifest contradicts the registry.
        GpuDriverError: `gpu` is set and there is no driver.
        ParityError: the GPU refuses an operation, or its driver failed.
    """
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if not manifest.proven:
        raise BundleError(
            f"{opened.path} is not proven: its .tflite was made elsewhere; expected a proven bundle; "
            "`adopt --model NAME --checkpoint FILE` proves it"
        )
    model = find(manifest.model)
    if checkpoint is not None:
        own = not is_official(weights_file(checkpoint), model.checkpoint)
        # A checkpoint of elsewhere knows no names: those of its classes are the bundle's.
        model = model_for(model, checkpoint, opened.labels if own else None)
    require_length(manifest.clip_seconds, model)
    network, source, official = _load(model, checkpoint, report=report, progress=progress)
    if manifest.format_version == ADOPTED_VERSION:
        _require_manifest(opened, model, source, description=manifest.description)
        return _verify_adopted(opened, model, network, gpu=gpu, report=report)
    description = _description(model, source, official)
    _require_manifest(opened, model, source, description=description)
    about = about_model(
        model,
        source=source,
        description=description,
        graph=manifest.graph,
        seconds=manifest.clip_seconds,
        version=manifest.versions["panns-litert"],
    )
    with _workspace() as work:
        proof = _prove(
            model,
            network,
            graph=manifest.graph,
            seconds=manifest.clip_seconds,
            precision=manifest.precision,
            gpu=gpu,
            about=about,
            work=work,
            report=report,
            bundle=opened,
        )
        checks = proof.checks
        if all(check.passed for check in checks):
            _require_figures(opened, [check for check in checks if check.output != "constants"])
            _require_complete(opened, about, work)
    checks += _self_test_checks(opened, model, network, report=report)
    if proof.gpu:
        checks += proof.gpu.checks
        if all(check.passed for check in checks):
            _require_gpu(proof.gpu)
    return checks


def adopt_proven(
    file: str | os.PathLike[str],
    name: str,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    front_end: FrontEndSpec | None = None,
    sample_rate: int | None = None,
    seconds: float | None = None,
    out: str | os.PathLike[str] | None = None,
    report: Report = lambda _: None,
    progress: bool = False,
) -> Adopted:
    """Makes a bundle of a .tflite that was made elsewhere, and proves that it is the network of a checkpoint.

    The stages are `convert`'s for the outputs that it has, without those of this project's own export.

    Args:
        file, labels, seconds, out, report, progress: as for `adopt`. The default of `labels` is the model's.
        name: the model of the registry that it is.
        checkpoint: the weights that it was made from, if they are not the published ones.
        front_end, sample_rate: the model's own, if given.

    Raises:
        BundleError, ParityError, DownloadError, MissingDependencyError: as for `adopt`. The class names or the front
            end are not the model's. Or a stage failed: the error's `report` has all figures. No bundle is written.
        ModelError, CheckpointError: as for `convert`.
    """
    model = find(name) if checkpoint is None else model_for(find(name), checkpoint)
    if front_end not in (None, model.front_end):
        raise BundleError(f"a front end that is not that of {model.name}; expected none: the model says which")
    network, source, official = _load(model, checkpoint, report=report, progress=progress)
    with _workspace() as work:
        # A bundle without proof first: it is what the stages run.
        adopted = adopt(
            file,
            labels=model.class_names() if labels is None else labels,
            front_end=model.front_end,
            sample_rate=sample_rate,
            seconds=seconds,
            out=work.folder / "adopted",
            report=report,
            progress=progress,
        )
        bundle, made = adopted.bundle, adopted.bundle.manifest
        require_length(made.clip_seconds, model)
        if bundle.labels != model.class_names():
            raise BundleError(f"{shown(labels)}: not the class names of {model.name}; expected those, in their order")
        target = Path(out) if out is not None else Path.cwd() / made.model
        description = f"{_description(model, source, official)} Made elsewhere: {made.source.file}"
        with BundleWriter(target) as writer:
            checks = _adopted_stages(bundle, model, network, report=report)
            require(checks)
            names = {made.file("model"): "model", MEL_BASIS: "mel_basis", model.labels: "labels"}
            for of, role in names.items():
                shutil.copyfile(bundle.file(role), writer.folder / of)
            files = {of: writer.record(of, role) for of, role in names.items()} | {MODEL_CARD: _NO_CARD_YET}
            manifest = replace(
                made,
                model=model.name,
                network=model.network,
                description=description,
                source=source,
                log_mel=_log_mel(network, made.graph),
                files=files,
                parity=tuple(checks),
                versions=_versions(),
            )
            report("self_test")
            proof = _Proof(checks=checks, file=bundle.file("model"), quantization=None, gpu=None)
            manifest = _with_self_test(manifest, network, proof, writer)
            (writer.folder / MODEL_CARD).write_text(model_card(manifest), encoding="utf-8")
            manifest = replace(manifest, files=manifest.files | {MODEL_CARD: writer.record(MODEL_CARD, "model_card")})
            return Adopted(bundle=writer.commit(manifest), notes=adopted.notes)


def _verify_adopted(bundle: Bundle, model: Model, network: AudioTagger, *, gpu: bool, report: Report) -> list[Check]:
    """Runs the stages of an adopted bundle again, and its self-test."""
    checks = _adopted_stages(bundle, model, network, report=report)
    if all(check.passed for check in checks):
        _require_figures(bundle, checks)
    checks += _self_test_checks(bundle, model, network, report=report)
    if gpu:
        report("gpu_fp16")
        record = _adopted_reference(bundle, model, network).gpu_check(bundle.file("model")).record()
        checks += record.checks
        if all(check.passed for check in checks):
            _require_gpu(record)
    return checks


def _adopted_stages(bundle: Bundle, model: Model, network: AudioTagger, *, report: Report) -> list[Check]:
    """Runs the stages that a .tflite from elsewhere can have: front end, network, and the file against PyTorch."""
    manifest = bundle.manifest
    report("front_end")
    checks = front_end_stage(model.front_end, basis=bundle.mel_basis)
    report("network")
    checks += network_stage(model)
    report(manifest.precision)
    return checks + _adopted_reference(bundle, model, network).check(manifest.precision, bundle.file("model"))


def _adopted_reference(bundle: Bundle, model: Model, network: AudioTagger) -> Reference:
    """Returns PyTorch's outputs of those names that the bundle has."""
    manifest = bundle.manifest
    reference = Reference(network, model.front_end, graph=manifest.graph, seconds=manifest.clip_seconds)
    names = {output.name for output in manifest.outputs}
    reference.outputs = {name: values for name, values in reference.outputs.items() if name in names}
    reference.half = {name: values for name, values in reference.half.items() if name in names}
    return reference


def _self_test_checks(bundle: Bundle, model: Model, network: AudioTagger, *, report: Report) -> list[Check]:
    """Compares a bundle's self-test, if it has one, with PyTorch and with the CPU."""
    if (self_test := bundle.self_test) is None:
        return []
    report("self_test")
    manifest = bundle.manifest
    engine = CpuEngine(bundle.file("model"), content=bundle.model)
    return [
        recorded_check(self_test, network, model.front_end, samples=manifest.clip_samples),
        self_test_check(self_test, manifest, engine),
    ]


@dataclass(frozen=True, kw_only=True)
class _Proof:
    """Result of `_prove`: the checks, the .tflite of the requested precision, and its records for the manifest."""

    checks: list[Check]
    file: Path
    quantization: Quantization | None
    gpu: GpuRecord | None


def _prove(
    model: Model,
    network: AudioTagger,
    *,
    graph: GraphName,
    seconds: float,
    precision: PrecisionName,
    calibration: Sequence[NDArray[np.float32]] = (),
    held_out: HeldOut | None = None,
    gpu: bool,
    about: About,
    work: _Workspace,
    report: Report,
    bundle: Bundle | None = None,
) -> _Proof:
    """Runs every stage up to that of `precision`, then that of the GPU. Intermediate files are written to `work`.

    With a bundle, its mel basis and its .tflite are checked instead of new ones, and the same layers stay finer.
    """
    spec = model.front_end
    report("front_end")
    checks = front_end_stage(spec, basis=bundle.mel_basis if bundle else None)
    samples = spec.samples(seconds)
    if _log_mel(network, graph) == "graph":
        checks += graph_front_end_stage(spec, work.folder / "front_end.tflite", log=work.log)
    exported = (
        network.for_export(samples=samples)
        if graph == network.graph
        else WaveformNetwork(network, spec, samples=samples)
    )
    report("network")
    checks += network_stage(model)
    report("reference")
    reference = Reference(network, spec, graph=graph, seconds=seconds, held_out=held_out)
    source, made = work.folder / "source.tflite", work.folder / f"{precision}.tflite"
    report("export fp32")
    export_fp32(exported, {graph: torch.from_numpy(reference.inputs[0])}, source, log=work.log)
    if precision != "fp32":
        report("fp32")
        checks += reference.check("fp32", source)
    if not bundle and precision in QUANTIZED:
        require(checks)  # searching the layers of a wrong float32 file would be useless
    recorded = bundle.manifest.quantization if bundle else None
    try:
        found = write_precision(
            source,
            made,
            precision=precision,
            reference=reference,
            calibration=reference.prepared(calibration) if calibration else reference.inputs,
            kept={layer.operator: layer.precision for layer in recorded.kept} if recorded else None,
            log=work.log,
            report=report,
        )
    except ParityError as error:
        figures = error.report if isinstance(error.report, list) else []
        raise ParityError(str(error), [*checks, *figures], layers=error.layers) from error
    complete(made, made, about)  # before its stage, which must run the final file
    made_here = Quantization(kept=found, calibration_clips=len(calibration)) if precision in QUANTIZED else None
    report(precision)
    shipped = bundle.file("model") if bundle else made
    if bundle:
        checks += reference.check(precision, shipped, wide=_judged_wide(bundle.manifest))
        checks.append(constants_check(precision, shipped, made))
    else:
        checks += reference.final_check(precision, shipped)
    gpu_record = None
    if gpu:
        report("gpu_fp16")
        gpu_record = reference.gpu_check(shipped).record()
    return _Proof(checks=checks, file=shipped, quantization=recorded if bundle else made_here, gpu=gpu_record)


def _load(
    model: Model, checkpoint: str | os.PathLike[str] | None, *, report: Report, progress: bool
) -> tuple[AudioTagger, Source, bool]:
    """Returns the network with its weights, their source, and whether they are the published ones."""
    report("checkpoint")
    path = fetch(model, progress=progress) if checkpoint is None else weights_file(checkpoint)
    network = model.build()
    load_weights(network, path, model)
    source = source_of(model, path)
    official = checkpoint is None or not source.own
    return network.eval(), source, official


def _description(model: Model, source: Source, official: bool) -> str:
    if official:
        return model.description
    classes = f" for {counted(len(model.own_classes), 'class', 'classes')}" if model.own_classes is not None else ""
    return f"{model.network} with the user's own weights{classes} ({source.file})"


def _require_manifest(bundle: Bundle, model: Model, source: Source, *, description: str) -> None:
    """Compares the manifest with the registry and the checkpoint, beyond the checks that `Bundle` makes."""
    manifest = bundle.manifest
    expected = {
        "network": (manifest.network, model.network),
        "source": (manifest.source, source),
        "description": (manifest.description, description),
        "versions of": (sorted(manifest.versions), sorted(_versions())),
        "front_end": (manifest.front_end, model.front_end),
        "labels": (bundle.labels, model.class_names()),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            remedy = "pass the checkpoint that it was made from" if name == "source" else "convert it again"
            short = [value if len(value) < 300 else f"{value[:300]}…" for value in (str(found), str(wanted))]
            raise BundleError(f"{bundle.path}: {name} is {short[0]}; expected {short[1]}; {remedy}")


def _require_figures(bundle: Bundle, checks: list[Check]) -> None:
    """Requires the recorded checks and bounds to equal the new ones, and recorded figures to be within the bounds.

    Another machine may measure other figures, but none that are a hundred times larger.
    """
    # Held-out clips are not part of a bundle: their checks were made when it was.
    recorded = [check for check in bundle.manifest.parity if check.output not in HELD_OUT_OUTPUTS]
    for check in bundle.manifest.parity:
        if check.output in HELD_OUT_OUTPUTS and not _within_loss(check):
            raise BundleError(
                f"{bundle.path}: the recorded {check.output} of {check.stage} is not within the loss that it may have; "
                "fine-tune again"
            )
    same = [(c.stage, c.output) for c in recorded] == [(c.stage, c.output) for c in checks]
    for old, new in zip(recorded, checks, strict=False):
        bound = new.threshold["max_abs"]
        same = same and math.isclose(old.threshold["max_abs"], bound, rel_tol=0.01)
        same = same and old.max_abs is not None and (new.max_abs or 0.0) / 100 <= old.max_abs <= bound
    if not same:
        raise BundleError(f"{bundle.path}: the recorded parity is not that of these stages; convert it again")


def _within_loss(check: Check) -> bool:
    """Returns whether a recorded check of held-out clips has the bound of its precision, and a loss within it."""
    bound, loss = HELD_OUT_LOSSES.get(check.stage), check.max_abs
    if bound is None or loss is None or check.threshold.get("max_abs") != bound:
        return False
    return 0.0 <= loss <= bound + 1e-9  # as in `HeldOut.checks`


def _judged_wide(manifest: Manifest) -> bool:
    """Returns whether held-out clips judged a bundle, because it is outside the gate of its precision."""
    of_stage = {check.output: check for check in manifest.parity if check.stage == manifest.precision}
    if manifest.precision not in HELD_OUT_GATES or not of_stage.keys() & set(HELD_OUT_OUTPUTS):
        return False
    if "probs" not in of_stage:
        return False
    return math.isclose(of_stage["probs"].threshold["max_abs"], HELD_OUT_GATES[manifest.precision].max_abs)


def _require_complete(bundle: Bundle, about: About, work: _Workspace) -> None:
    """Requires the .tflite to have the metadata, class names and form that `complete` gives it."""
    shipped, again = bundle.file("model"), work.folder / "again.tflite"
    complete(shipped, again, about)
    if again.read_bytes() != bundle.model:
        raise BundleError(
            f"{shipped}: its metadata or attached class names are not those of this model; convert it again"
        )


def require_length(seconds: float, model: Model) -> None:
    """Checks that a model's bundle can have clips of `seconds` s.

    Raises:
        ModelError: the length is outside the model's range.
    """
    low, high = CLIP_SECONDS
    if (most := model.front_end.most_samples) is not None:
        high = min(high, math.floor(10 * most / model.front_end.sample_rate) / 10)
    try:
        fits = low <= seconds <= high
    except (TypeError, ValueError):  # no number
        fits = False
    if not fits:
        raise ModelError(f"clip of {shown(seconds)} s; expected {low:g} … {high:g} s for {model.name}")


_OWNER = ".owner.lock"  # in a work folder; locked while its process lives
_SETTLING = 60.0  # s, more than it takes to delete the folders of killed runs


@dataclass(frozen=True, kw_only=True)
class _Workspace:
    """A folder for intermediate files, and the converter's log."""

    folder: Path
    log: Path


def _require_gpu(record: GpuRecord | None) -> None:
    """Requires what the figures of the gpu_fp16 stage do not show: residency, arithmetic, no errors of the driver."""
    if record is not None and not record.passed:
        problems = [f"refused {refused}" for refused in record.refused] + list(record.errors)
        raise ParityError(
            f"gpu_fp16: {'; '.join(problems) or f'the driver computed in {record.arithmetic}'}", list(record.checks)
        )


def _log_mel(network: AudioTagger, graph: GraphName) -> str:
    """Returns where a bundle's log-mel is computed: "host", "graph" or "none"."""
    if graph == "logmel":
        return "host"
    return "graph" if network.graph == "logmel" or network.has_log_mel else "none"


def _outputs(network: nn.Module, shape: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    with torch.inference_mode():
        outputs = network(torch.zeros(shape))
    return tuple(TensorSpec(name=name, shape=tuple(value.shape)) for name, value in outputs.items())


def _versions() -> dict[str, str]:
    tools = sorted([*_TOOLS, quantizer_package()])
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in tools}


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Creates a folder for large files on the disk of the cache, and deletes it at the end of the block.

    Folders that killed runs left are deleted first. The system frees a lock when its process ends, so a folder whose
    lock is free has no owner.

    Raises:
        ResultsError: the cache cannot be written.
    """
    parent = cache_dir() / "work"  # not the system's temporary folder, which may be small or in memory
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with writing(parent / "folders", wait=_SETTLING):  # no folder is deleted before its owner has locked it
            for left in parent.iterdir():
                if left.is_dir():
                    with contextlib.suppress(Timeout, OSError), FileLock(left / _OWNER, timeout=0):
                        shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=parent))
            owner = FileLock(folder / _OWNER)
            owner.acquire()
    except PannsLitertError:
        raise
    except OSError as error:
        raise ResultsError(
            f"{parent}: {error.strerror or error}; free some space or point {CACHE_VARIABLE} elsewhere"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.release()


@contextlib.contextmanager
def _workspace() -> Iterator[_Workspace]:
    """Yields a workspace. The log of a failed conversion stays, because the error names it.

    Raises:
        ResultsError: a file cannot be written, such as on a full disk.
    """
    log = cache_dir() / "logs" / f"convert-{os.getpid()}.log"
    failed = False
    try:
        with work_folder() as folder:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
            yield _Workspace(folder=folder, log=log)
    except ConversionError:
        failed = True
        raise
    except PannsLitertError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ResultsError(f"{where}{error.strerror or error}; expected files that can be written") from error
    finally:
        if not failed:
            log.unlink(missing_ok=True)
