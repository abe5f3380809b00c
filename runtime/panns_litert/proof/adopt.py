"""Adopts a .tflite that was made elsewhere: makes a bundle of it, which is not proven.

What can be checked without the original network is checked: that the model runs, returns finite probabilities that
depend on the sound, and that two sets of LiteRT's kernels agree.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import LEAST_RATE, MOST_RATE, load_audio
from panns_litert.bundle import (
    ADOPTED_VERSION,
    DEFAULT_SECONDS,
    ENGINE,
    MANIFEST,
    MEL_BASIS,
    MODEL_CARD,
    SELF_TEST,
    SELF_TEST_SAMPLES,
    UNKNOWN,
    Bundle,
    BundleWriter,
    Check,
    FileRecord,
    GraphName,
    Manifest,
    PrecisionName,
    SelfTest,
    Source,
    TensorSpec,
    model_card,
    require_tried,
)
from panns_litert.demo import demo_audio, demo_clips
from panns_litert.engine import AboutModel, CpuEngine, Graph, Outputs, read_about, read_graph, read_model, with_names
from panns_litert.errors import BundleError
from panns_litert.frontend import FRONT_ENDS, PANNS_32K, FrontEndSpec, LogMel, mel_basis
from panns_litert.hub import PREFIX, HubId, Snapshot
from panns_litert.proof.parity import GATES, compare, few_as_one, require
from panns_litert.proof.selftest import self_test_check
from panns_litert.sense import class_names
from panns_litert.strict import printable, read_bytes, shown

_MOST_LABEL_BYTES, _MOST_BASIS_BYTES = 4 << 20, 64 << 20
_SELF_TEST_SECONDS = 2.0
_RESERVED = {name.casefold() for name in (MANIFEST, MEL_BASIS, MODEL_CARD, SELF_TEST, SELF_TEST_SAMPLES)}
_LEAST_CHANGE = 1e-6  # of a probability, between sounds


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """Result of `adopt`.

    Attributes:
        bundle: the bundle.
        notes: what was taken from where, one phrase each.
    """

    bundle: Bundle
    notes: tuple[str, ...]


def adopt(
    file: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    front_end: FrontEndSpec | None = None,
    sample_rate: int | None = None,
    seconds: float | None = None,
    out: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> Adopted:
    """Makes a bundle of a .tflite that was made elsewhere. It is not proven: nothing compares it with its original.

    The .tflite in the bundle has the names and shapes of a bundle's tensors, and gives the same values as the file.
    A folder or repository is that of one .tflite, with `mel_basis.bin` and a file of class names if it has them, as
    the published LiteRT card of Cnn14 has.

    Args:
        file: a .tflite, a folder with one, or `hf:ORG/NAME[@REVISION]`. Its input is samples, such as (1, samples), or
            a log-mel, such as (1, 1, frames, mels); its outputs are probabilities of each class, and perhaps one that
            is named embedding.
        labels: class names, or a file of them, one a line; by default the file in the folder, or the names attached to
            the .tflite.
        front_end: of a log-mel; by default the one that the folder's mel_basis.bin belongs to.
        sample_rate: of samples, Hz; by default that of the .tflite's TFLite Metadata.
        seconds: length of a clip, if the input's shape leaves it open.
        out: folder of the bundle; by default one in the current folder, named as the file.
        report: called at the start of each step.
        progress: whether downloads draw progress bars on stderr.

    Raises:
        BundleError: the file cannot be used, something is not known, or two facts contradict each other.
        ParityError: two sets of LiteRT's kernels give different probabilities.
        DownloadError, MissingDependencyError: as for `pull`.
    """
    report("read")
    found = _find(file, progress=progress)
    where, content = printable(found.model), read_model(found.model)
    graph, about = read_graph(found.model, content), read_about(content, printable(found.model))
    notes: list[str] = []
    names, labels_file = _labels(labels, found, about, where, notes)
    outputs = _outputs(graph, about, len(names), where, notes)
    shape = _one_input(graph, where)
    sizes = [size for size in shape if size != 1]
    kind: GraphName
    if len(sizes) == 1:
        kind, spec, clip_seconds = "waveform", *_samples(sizes[0], front_end, sample_rate, seconds, about, where, notes)
        given: tuple[int, ...] = (1, sizes[0])
    elif len(sizes) == 2:
        kind, spec, clip_seconds = "logmel", *_log_mel(sizes, front_end, sample_rate, seconds, found, where, notes)
        given = (1, 1, *sizes)
    else:
        raise BundleError(f"{where}: input {shape}; expected samples, or a log-mel (1, 1, frames, mels)")
    same = list(graph.inputs.items()) == [(kind, given)] and list(graph.outputs.items()) == [
        (name, wanted) for name, (_, wanted) in outputs.items()
    ]
    named = content if same else with_names(content, {kind: given}, outputs)
    precision = _precision(content)
    target = Path(out) if out is not None else Path.cwd() / found.model.stem
    with BundleWriter(target) as writer:
        model_file = _plain(found.model.name)
        path = writer.folder / model_file
        path.write_bytes(named)
        report("checks")
        require_tried(path, named, hashlib.sha256(named).hexdigest())
        check = _checks(content, named, kind, given, spec, spec.samples(clip_seconds), outputs, precision, where)
        require([check])
        mel_basis(spec).astype("<f4").tofile(writer.folder / MEL_BASIS)
        (writer.folder / labels_file).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        manifest = Manifest(
            format_version=ADOPTED_VERSION,
            model=_plain(found.model.stem),
            network=about.name or "unknown",
            description=" ".join(about.description.split()) or f"{model_file}, made elsewhere",
            source=Source(
                file=found.model.name,
                sha256=hashlib.sha256(content).hexdigest(),
                url=found.url,
                licence=" ".join(about.licence.split()) or UNKNOWN,
                attribution=" ".join(about.author.split()) or UNKNOWN,
                published_map=None,
            ),
            front_end=spec,
            graph=kind,
            log_mel="host" if kind == "logmel" else "none",
            clip_seconds=clip_seconds,
            inputs=(TensorSpec(name=kind, shape=given),),
            outputs=tuple(TensorSpec(name=name, shape=wanted) for name, (_, wanted) in outputs.items()),
            files={
                model_file: writer.record(model_file, "model"),
                MEL_BASIS: writer.record(MEL_BASIS, "mel_basis"),
                labels_file: writer.record(labels_file, "labels"),
                MODEL_CARD: FileRecord(role="model_card", sha256="", bytes=0),
            },
            precision=precision,
            quantization=None,
            parity=(check,),
            gpu=None,
            versions={"python": platform.python_version()}
            | {name: metadata.version(name) for name in ("ai-edge-litert", "panns-litert")},
        )
        report("self_test")
        manifest = _with_self_test(manifest, CpuEngine(path, content=named), writer, notes)
        (writer.folder / MODEL_CARD).write_text(model_card(manifest), encoding="utf-8")
        manifest = replace(manifest, files=manifest.files | {MODEL_CARD: writer.record(MODEL_CARD, "model_card")})
        return Adopted(bundle=writer.commit(manifest), notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The .tflite, and the files that belong to it."""

    model: Path
    mel_basis: Path | None = None
    labels: Path | None = None
    url: str | None = None


def _find(file: str | os.PathLike[str], *, progress: bool) -> _Found:
    """Finds the .tflite and the files beside it. Of a repository, only these are downloaded."""
    if isinstance(file, str) and file.startswith(PREFIX):
        snapshot = Snapshot(HubId.parse(file), progress=progress)
        chosen = _choose(snapshot.names(), str(snapshot.hub_id))
        paths = {role: snapshot.file(name) for role, name in chosen.items()}
        repo, revision = snapshot.hub_id.repo, snapshot.hub_id.revision
        return _found(paths, url=f"https://huggingface.co/{repo}/resolve/{revision}/{chosen['model']}")
    path = Path(file)
    if not path.is_dir():
        return _Found(model=path)
    chosen = _choose([entry.name for entry in path.iterdir() if entry.is_file()], printable(path))
    return _found({role: path / name for role, name in chosen.items()})


def _found(paths: Mapping[str, Path], *, url: str | None = None) -> _Found:
    return _Found(model=paths["model"], mel_basis=paths.get("mel_basis"), labels=paths.get("labels"), url=url)


def _choose(names: Sequence[str], where: str) -> dict[str, str]:
    """Returns the names of the model, and of the mel basis and the class names if there are any, by role."""
    if MANIFEST in names:
        raise BundleError(f"{where} is a bundle already; expected a folder with a .tflite and no {MANIFEST}")
    models = sorted(name for name in names if name.casefold().endswith(".tflite") and "/" not in name)
    if len(models) != 1:
        raise BundleError(
            f"{where} has {len(models)} .tflite files ({', '.join(map(printable, models[:5])) or 'none'}); expected "
            "one, or the path of one"
        )
    labels = sorted(name for name in names if "label" in name.casefold() and name.casefold().endswith(".txt"))
    if len(labels) > 1:
        raise BundleError(f"{where} has {', '.join(map(printable, labels[:5]))}; expected one list of class names")
    return (
        {"model": models[0]}
        | ({"mel_basis": MEL_BASIS} if MEL_BASIS in names else {})
        | ({"labels": labels[0]} if labels else {})
    )


def _labels(
    labels: str | os.PathLike[str] | Sequence[str] | None,
    found: _Found,
    about: AboutModel,
    where: str,
    notes: list[str],
) -> tuple[tuple[str, ...], str]:
    """Returns the class names, and the name of the file to write them into."""
    if labels is not None and not isinstance(labels, (str, os.PathLike)):
        return class_names("\n".join(labels), "labels", error=BundleError), "labels.txt"
    path = Path(labels) if labels is not None else found.labels
    if path is not None:
        data = read_bytes(path, error=BundleError, what="class names", most_bytes=_MOST_LABEL_BYTES)
        source, name = printable(path), path.name
    elif about.labels is not None:
        data, source, name = about.labels, f"{about.labels_file} in {where}", Path(about.labels_file).name
    else:
        raise BundleError(f"{where}: no class names beside it or attached to it; expected --labels FILE, one a line")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BundleError(f"{source}: not UTF-8 at byte {error.start}; expected class names, one a line") from error
    names = class_names(text, source, error=BundleError)
    notes.append(f"{len(names)} class names: {source}")
    name = _plain(name)
    return names, name if name.casefold().endswith(".txt") and name.casefold() not in _RESERVED else "labels.txt"


def _plain(name: str) -> str:
    """Returns a file name without characters that a manifest refuses."""
    return "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)[-200:]


def _outputs(
    graph: Graph, about: AboutModel, classes: int, where: str, notes: list[str]
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Returns position in the file, and shape in the bundle, of each output by its name in the bundle."""
    shapes = list(graph.outputs.items())
    fit = [i for i, (_, shape) in enumerate(shapes) if shape and shape[-1] == classes == math.prod(shape)]
    for preferred in ([i for i in fit if shapes[i][0] == "probs"], [i for i in fit if i == about.labels_output]):
        fit = preferred or fit
    if len(fit) != 1:
        listed = ", ".join(f"{printable(name)} {list(shape)}" for name, shape in shapes)
        raise BundleError(
            f"{where}: outputs {listed}; expected one with {classes} values, one for each class name; --labels FILE "
            "gives other names"
        )
    found: dict[str, tuple[int, tuple[int, ...]]] = {"probs": (fit[0], (1, classes))}
    for i, (name, shape) in enumerate(shapes):
        size = math.prod(shape)
        if i not in fit and "embedding" in name.casefold() and "embedding" not in found and shape[-1] == size:
            found["embedding"] = (i, (1, size))
    for i, (name, shape) in enumerate(shapes):
        if i not in fit and name == "framewise" and len(shape) == 3 and shape[0] == 1 and shape[2] == classes:
            found["framewise"] = (i, shape)
    used = {position for position, _ in found.values()}
    if left := [printable(name) for i, (name, _) in enumerate(shapes) if i not in used]:
        notes.append(f"outputs left out: {', '.join(left)}")
    if "embedding" not in found:
        notes.append("no embedding: embed, index and enroll cannot use this model")
    return found


def _one_input(graph: Graph, where: str) -> tuple[int, ...]:
    if len(graph.inputs) != 1:
        raise BundleError(f"{where}: inputs {', '.join(map(printable, graph.inputs))}; expected one")
    return next(iter(graph.inputs.values()))


def _samples(
    samples: int,
    front_end: FrontEndSpec | None,
    sample_rate: int | None,
    seconds: float | None,
    about: AboutModel,
    where: str,
    notes: list[str],
) -> tuple[FrontEndSpec, float]:
    """Returns a front end with the sample rate of an input of samples, and the length of a clip, s."""
    if about.channels not in (None, 1):
        raise BundleError(f"{where}: samples of {about.channels} channels, by its metadata; expected mono")
    if front_end is not None and sample_rate not in (None, front_end.sample_rate):
        raise _two_rates(sample_rate, front_end)
    rate = sample_rate if sample_rate is not None else front_end.sample_rate if front_end else about.sample_rate
    if rate is None:
        raise BundleError(f"{where} takes {samples} samples and does not say their rate; expected --sample-rate HZ")
    if isinstance(rate, bool) or not isinstance(rate, int) or not LEAST_RATE <= rate <= MOST_RATE:
        raise BundleError(f"{where}: sample rate {shown(rate)}; expected {LEAST_RATE} … {MOST_RATE} Hz")
    if seconds is not None and round(seconds * rate) != samples:
        raise BundleError(f"{where}: {samples} samples at {rate} Hz are {samples / rate:g} s; expected no other length")
    if about.sample_rate is not None:
        wins = "" if rate == about.sample_rate else f"; {rate} Hz was asked for and is used"
        notes.append(f"{about.sample_rate} Hz: TFLite Metadata of {where}{wins}")
    known = {spec.sample_rate: spec for spec in reversed(FRONT_ENDS.values())}
    spec = front_end or known.get(rate) or replace(PANNS_32K, sample_rate=rate, fmax=min(PANNS_32K.fmax, rate / 2))
    return spec, samples / rate


def _log_mel(
    sizes: Sequence[int],
    front_end: FrontEndSpec | None,
    sample_rate: int | None,
    seconds: float | None,
    found: _Found,
    where: str,
    notes: list[str],
) -> tuple[FrontEndSpec, float]:
    """Returns the front end of a log-mel (frames, mels), and the length of a clip, s."""
    frames, mels = sizes
    expected = f"expected --front-end with {', '.join(FRONT_ENDS)} or a JSON file"
    basis = None
    if found.mel_basis is not None:
        data = read_bytes(found.mel_basis, error=BundleError, what="a mel basis", most_bytes=_MOST_BASIS_BYTES)
        basis = np.frombuffer(data, "<f4") if len(data) % 4 == 0 else np.empty(0, np.float32)
    if front_end is None:
        if basis is None:
            raise BundleError(f"{where} takes a log-mel of {frames} frames and {mels} mels; {expected}")
        fits = [name for name, spec in FRONT_ENDS.items() if spec.n_mels == mels and _is_basis(basis, spec)]
        if len(fits) != 1:
            raise BundleError(f"{found.mel_basis} is not the mel basis of a known front end; {expected}")
        front_end = FRONT_ENDS[fits[0]]
        notes.append(f"front end {fits[0]}: {found.mel_basis}")
    elif basis is not None and not _is_basis(basis, front_end):
        raise BundleError(f"{found.mel_basis} is not the mel basis of the front end that was given; {expected}")
    if front_end.n_mels != mels:
        order = "; mels before frames cannot be used" if front_end.n_mels == frames else ""
        raise BundleError(
            f"{where}: input of {frames} frames and {mels} mels; expected {front_end.n_mels} of the front end{order}"
        )
    if sample_rate not in (None, front_end.sample_rate):
        raise _two_rates(sample_rate, front_end)
    hop, rate = front_end.hop_length, front_end.sample_rate
    if seconds is not None:
        samples = front_end.samples(seconds)
    elif front_end.padded_frames is not None:
        samples = front_end.samples(DEFAULT_SECONDS)
    elif front_end.center:  # of all lengths with so many frames, the one that is a multiple of the hop
        samples = (frames if front_end.pre_emphasis else frames - 1) * hop
    else:
        samples = front_end.win_length + (frames - 1) * hop
    has = front_end.frames(samples) if samples >= front_end.least_samples else 0
    if has != frames:
        raise BundleError(
            f"{where}: input of {frames} frames; a clip of {samples / rate:g} s has {has}; expected --seconds S with "
            "the length of a clip"
        )
    return front_end, samples / rate


def _two_rates(sample_rate: object, front_end: FrontEndSpec) -> BundleError:
    rate = front_end.sample_rate
    return BundleError(f"sample rate {shown(sample_rate)} and a front end of {rate} Hz; expected one of them")


def _is_basis(values: NDArray[np.float32], spec: FrontEndSpec) -> bool:
    return values.size == spec.n_mels * spec.bins and bool(
        np.abs(values.reshape(spec.n_mels, spec.bins) - mel_basis(spec)).max() <= 1e-6
    )


def _precision(content: bytes) -> PrecisionName:
    """Returns the precision that most weights have."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph, kinds, operators = model.Subgraphs(0), schema.TensorType, schema.BuiltinOperator
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    buffers = [model.Buffers(tensor.Buffer()) for tensor in tensors]
    weights = [buffer.Size() or buffer.DataLength() for buffer in buffers]
    sizes = {
        kind: sum(size for tensor, size in zip(tensors, weights, strict=True) if size and tensor.Type() in types)
        for kind, types in {
            "fp32": (kinds.FLOAT32,),
            "fp16": (kinds.FLOAT16,),
            "int8": (kinds.INT8, kinds.UINT8),
            "int4-weights": (kinds.INT4,),
        }.items()
    }
    kind = max(sizes, key=lambda name: sizes[name])
    if kind == "int8":
        computed = [tensor.Type() for tensor, size in zip(tensors, weights, strict=True) if not size]
        if 2 * sum(of in (kinds.INT8, kinds.UINT8) for of in computed) > len(computed):
            kind = "int8-full"
        else:
            for i in range(graph.OperatorsLength()):
                operator = graph.Operators(i)
                code = model.OperatorCodes(operator.OpcodeIndex())
                if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == operators.DEQUANTIZE:
                    source = operator.Inputs(0)
                    if weights[source] and tensors[source].Type() == kinds.INT8:
                        kind = "int8-weights"
    return next(name for name in get_args(PrecisionName) if name == kind)


def _checks(
    content: bytes,
    named: bytes,
    kind: GraphName,
    shape: tuple[int, ...],
    spec: FrontEndSpec,
    samples: int,
    outputs: dict[str, tuple[int, tuple[int, ...]]],
    precision: PrecisionName,
    where: str,
) -> Check:
    """Runs the model on the demo's sounds, and checks what needs no reference. Compares two sets of kernels."""
    clips = demo_audio(spec.sample_rate, samples)
    values = [(clip if kind == "waveform" else LogMel(spec)(clip)).reshape(shape) for clip in clips]
    engine, original = CpuEngine(where, content=named), CpuEngine(where, content=content)
    given = next(iter(original.inputs.values()))
    runs: list[Outputs] = []
    for one in values:
        runs.append(engine.run_unchecked(one))
        before = list(original.run_unchecked(one.reshape(given)).values())
        for name, (position, wanted) in outputs.items():
            if not np.array_equal(runs[-1][name], before[position].reshape(wanted), equal_nan=True):
                raise BundleError(f"{where}: {name} changes with the tensors' names; expected the same values")
    probs = np.concatenate([run["probs"] for run in runs])  # (clips, classes)
    for name in outputs:
        if not all(np.isfinite(run[name]).all() for run in runs):
            raise BundleError(f"{where}: NaN or Inf in {name} for the demo's sounds; expected finite values")
    if probs.min() < 0 or probs.max() > 1:
        raise BundleError(
            f"{where}: values of {probs.min():.3g} … {probs.max():.3g}, such as logits; expected probabilities, 0 … 1: "
            "export it with its sigmoid"
        )
    if not probs.any(axis=1).all():
        raise BundleError(f"{where}: nothing but zeros for one of the demo's sounds; expected probabilities")
    if np.ptp(probs, axis=0).max() < _LEAST_CHANGE:
        raise BundleError(f"{where}: the same probabilities for every sound; expected a model that hears its input")
    own = CpuEngine(where, content=named, xnnpack=False)
    kernels = np.concatenate([own.run_unchecked(one)["probs"] for one in values])
    return compare(ENGINE, "probs", *few_as_one(probs, kernels), gate=GATES[precision])


def _with_self_test(manifest: Manifest, engine: CpuEngine, writer: BundleWriter, notes: list[str]) -> Manifest:
    """Writes a self-test with the model's own probabilities. Returns the manifest with the records of its files.

    Of the demo's recordings, the one with the widest spread of probabilities is taken. With a single class there is no
    spread, and no self-test.
    """
    spec, tensor = manifest.front_end, manifest.inputs[0]
    found = []
    for path in demo_clips():
        waveform = load_audio(path, sample_rate=spec.sample_rate, max_seconds=_SELF_TEST_SECONDS).waveform
        waveform = waveform[: manifest.clip_samples]
        pcm = np.round(np.clip(waveform, -1.0, 32767 / 32768) * 32768.0).astype("<i2").tobytes()
        recording = SelfTest(pcm=pcm, probs=())
        clip = recording.clip(manifest.clip_samples)
        values = clip if manifest.graph == "waveform" else LogMel(spec)(clip)
        probs = engine.run(values.reshape(tensor.shape))["probs"][0]
        found.append(replace(recording, probs=tuple(probs.tolist())))
    best = max(found, key=lambda one: max(one.probs) - min(one.probs))
    if not self_test_check(best, manifest, engine).passed:
        notes.append("no self-test: the probabilities of all classes are equal, and the Android app needs one")
        return manifest
    text = best.to_json(model_sha256=manifest.model_sha256, sample_rate=spec.sample_rate)
    (writer.folder / SELF_TEST).write_text(text, encoding="utf-8")
    (writer.folder / SELF_TEST_SAMPLES).write_bytes(best.pcm)
    return replace(
        manifest,
        files=manifest.files
        | {
            SELF_TEST: writer.record(SELF_TEST, "selftest"),
            SELF_TEST_SAMPLES: writer.record(SELF_TEST_SAMPLES, "selftest_samples"),
        },
    )
