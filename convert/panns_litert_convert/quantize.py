"""Quantizes a float32 .tflite to integer weights, and finds the layers that need a finer type to pass the parity gate.

The recipes are those of ai-edge-quantizer. For every precision (rung) a uniform file is tried first. If it fails its
gate, every layer is quantized alone to measure its error. The layers with the largest error per byte then get a finer
type until the gate is passed: float16 in the int8 rungs, int8 in the int4 rung.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import audio_files, is_silent, load_audio
from panns_litert.bundle import Check, KeptLayer, PrecisionName
from panns_litert.errors import AudioError, ParityError
from panns_litert.frontend import FrontEndSpec
from panns_litert.words import counted
from panns_litert_convert.export import (
    SIGNATURE,
    captured,
    cast_fp16,
    float16_weights,
    quantizer_module,
    quantizer_package,
    write,
)
from panns_litert_convert.frontend import ALWAYS_FLOAT32
from panns_litert_convert.stages import Reference

MOST_CLIPS = 64
"""Most clips for `calibrate`. More clips hardly widen the ranges, and each costs a run of the network."""

_SENSITIVE_CLIPS = 2
_MOST_SHARE = 0.9
_CHUNK_BYTES = 32 * 2**20  # above this size ai-edge-quantizer 0.10 takes a code path that fails

Ranges = Mapping[str, Any]
"""Smallest and largest value of every tensor, in ai-edge-quantizer's format."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator of a .tflite that can be quantized alone.

    Attributes:
        index: index of the operator in the graph.
        op: type of the operator, such as CONV_2D.
        name: path of its module, such as "conv_block1.conv1"; for a fused operator, that of the last module.
        weights: number of weights; 0 for an operator with activations only.
        scope: ai-edge-quantizer's name for it, which joins the names of its outputs.
    """

    index: int
    op: str
    name: str
    weights: int
    scope: str

    @property
    def regex(self) -> str:
        """Regular expression that matches only this layer's scope."""
        return f"^{re.escape(self.scope)}$"


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")


def layers(path: Path, *, precision: PrecisionName) -> list[Layer]:
    """Returns the operators that a precision quantizes, in graph order: those with weights, or all for "int8-full".

    Args:
        path: a float32 .tflite.
        precision: one of `bundle.QUANTIZED`.
    """
    from ai_edge_litert import schema_py_generated as schema

    tfl_flatbuffer_utils = quantizer_module("utils.tfl_flatbuffer_utils")

    model = tfl_flatbuffer_utils.read_model(memoryview(path.read_bytes()))
    graph = model.subgraphs[0]
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    found = []
    for index, op in enumerate(graph.operators):
        kind = kinds[model.operatorCodes[op.opcodeIndex].builtinCode]
        weights = [graph.tensors[i] for i in op.inputs[1:2] if i >= 0]
        shape = [int(n) for n in weights[0].shape] if weights and kind in _WEIGHTED else []
        constant = bool(shape) and _is_constant(model, weights[0])
        if constant or precision == "int8-full":
            scope = tfl_flatbuffer_utils.get_op_scope(op, graph.tensors)
            count = int(np.prod(shape)) if constant else 0
            found.append(Layer(index=index, op=kind, name=scope.split(";")[0], weights=count, scope=scope))
    return found


def _is_constant(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return (buffer.data is not None and len(buffer.data) > 0) or bool(getattr(buffer, "size", 0))


def quantize(
    source: Path,
    path: Path,
    *,
    precision: PrecisionName,
    kept: Mapping[int, str] | None = None,
    only: int | None = None,
    ranges: Ranges | None = None,
    log: Path,
) -> None:
    """Writes a quantized .tflite. Inputs, outputs and a front end inside the graph stay float32.

    Args:
        source: the float32 .tflite.
        path: the .tflite to write.
        precision: one of `bundle.QUANTIZED`.
        kept: finer type of some operators' weights, "int8", "fp16" or "fp32", by the index of the operator.
        only: index of the only operator to quantize; by default all are quantized.
        ranges: ranges of the activations from `calibrate`, required for "int8-full".
        log: file for the converter's output.

    Raises:
        ConversionError: the quantizer failed. The message names the log.
        ResultsError: the file cannot be written.
    """
    with captured(log, f"{quantizer_package()} cannot make {precision} of {source.name}"), large_tensors():
        quantizer = quantizer_module("quantizer")

        work = quantizer.Quantizer(str(source))
        by_index = {layer.index: layer for layer in layers(source, precision=precision)}
        if only is None:
            _add_rung(work, precision, ".*", list(by_index.values()))
        else:
            _add_rung(work, precision, by_index[only].regex, [by_index[only]])
        for index, finer in (kept or {}).items():
            _add_finer(work, by_index[index], finer)
        _leave(work, ALWAYS_FLOAT32)
        calibrated = None if precision != "int8-full" else dict(ranges or {})
        made = work.quantize(calibrated, enable_progress_bar=False, enable_progress_report=False).quantized_model
        data = bytearray(made)
        del made
        _mend_outputs(source, data)
    write(path, data)
    del work, data
    gc.collect()


def _mend_outputs(source: Path, data: bytearray) -> None:
    """Makes a quantized file's graph and signature name the same float32 outputs. Edits the file's bytes in place.

    The embedding is both an output and the input of further operators. If its producer is quantized and its consumer is
    not, or the reverse, ai-edge-quantizer 0.10 leaves the graph or the signature pointing at the integer tensor
    (docs/upstream/quantizer-issue.md).
    """
    from ai_edge_litert import schema_py_generated as schema

    def outputs(data: bytes | bytearray) -> tuple[Any, dict[str, Any]]:
        model = schema.Model.GetRootAs(data, 0)
        signature = model.SignatureDefs(0)
        maps = [signature.Outputs(i) for i in range(signature.OutputsLength())]
        return model.Subgraphs(0), {entry.Name(): entry for entry in maps}

    graph, entries = outputs(source.read_bytes())
    places = [int(graph.Outputs(i)) for i in range(graph.OutputsLength())]
    place_of = {name: places.index(entry.TensorIndex()) for name, entry in entries.items()}
    graph, entries = outputs(data)
    for name, entry in entries.items():
        in_graph, in_signature = int(graph.Outputs(place_of[name])), int(entry.TensorIndex())
        if in_graph == in_signature:
            continue
        right = next(i for i in (in_graph, in_signature) if graph.Tensors(i).Type() == schema.TensorType.FLOAT32)
        # Both are 32-bit integers in the flatbuffer: a field of a table (slot 1), and an item of a vector (slot 2).
        table, vector = entry._tab, graph._tab
        struct.pack_into("<I", data, table.Pos + table.Offset(6), right)
        struct.pack_into("<i", data, vector.Vector(vector.Offset(8)) + 4 * place_of[name], right)


def _add_rung(work: Any, precision: PrecisionName, regex: str, chosen: Sequence[Layer]) -> None:
    """Adds a precision's recipe for the scopes that match `regex`. `chosen` are the layers with these scopes."""
    qtyping, quantizer = quantizer_module("qtyping"), quantizer_module("quantizer")

    names, algorithms = qtyping.TFLOperationName, quantizer.AlgorithmName
    if precision == "int8-weights":
        work.add_weight_only_config(regex, names.ALL_SUPPORTED, 8)
    elif precision == "int8-full":
        work.add_static_config(regex, names.ALL_SUPPORTED, 8, 8)
        # Inputs and outputs stay float32. So does the sigmoid, because 256 steps are too few for probabilities.
        for name in (names.INPUT, names.OUTPUT, names.LOGISTIC):
            work.update_quantization_recipe(".*", name, algorithm_key=algorithms.NO_QUANTIZE)
    else:
        work.add_dynamic_config(regex, names.ALL_SUPPORTED, 8)
    if precision == "int4-weights":
        # Scales minimise the squared error: scaled to the largest weight, 15 steps would round most weights to zero.
        # Scales are per channel: a fully connected layer with blockwise scales runs on the CPU, but crashes the GPU
        # delegate's compiler.
        for layer in chosen:
            if layer.op in ("CONV_2D", "FULLY_CONNECTED"):
                work.add_dynamic_config(layer.regex, names[layer.op], 4, algorithm_key=algorithms.MSE)


def _add_finer(work: Any, layer: Layer, finer: str) -> None:
    qtyping, quantizer = quantizer_module("qtyping"), quantizer_module("quantizer")

    name = qtyping.TFLOperationName.ALL_SUPPORTED
    if finer == "int8":
        work.add_dynamic_config(layer.regex, name, 8)
    elif finer == "fp16":
        work.update_quantization_recipe(
            layer.regex, name, float16_weights(), algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING
        )
    else:
        _leave(work, layer.regex)


def _leave(work: Any, regex: str) -> None:
    qtyping, quantizer = quantizer_module("qtyping"), quantizer_module("quantizer")

    work.update_quantization_recipe(
        regex, qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
    )


def calibrate(source: Path, inputs: Sequence[NDArray[np.float32]], *, log: Path) -> Ranges:
    """Returns the smallest and largest value of every tensor over all inputs.

    By default ai-edge-quantizer takes a moving average with a weight of 0.95 for previous values. With few clips the
    first one then dominates, and louder ones are clipped.

    Args:
        source: the float32 .tflite, with one input.
        inputs: inputs of the graph, one per clip.
        log: file for the converter's output.

    Raises:
        ConversionError: the calibrator failed. The message names the log.
    """
    with captured(log, f"{quantizer_package()} cannot calibrate {source.name}"):
        calibrator, quantizer = quantizer_module("calibrator"), quantizer_module("quantizer")
        qsv_utils = quantizer_module("utils.qsv_utils")
        from panns_litert.engine import read_graph

        name = next(iter(read_graph(source).inputs))
        work = quantizer.Quantizer(str(source))
        _add_rung(work, "int8-full", ".*", [])
        measure = calibrator.Calibrator(str(source), num_threads=2, qsv_update_func=qsv_utils.min_max_update)
        measure.calibrate({SIGNATURE: [{name: values} for values in inputs]}, work._recipe_manager)
        found: Ranges = measure.get_model_qsvs()
    return found


def write_precision(
    source: Path,
    path: Path,
    *,
    precision: PrecisionName,
    reference: Reference,
    calibration: Sequence[NDArray[np.float32]],
    kept: Mapping[int, str] | None = None,
    log: Path,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[KeptLayer, ...]:
    """Writes the .tflite of any precision. A front end inside the graph stays float32.

    Args:
        source: the float32 .tflite.
        path: the .tflite to write.
        precision: one of `bundle.PRECISIONS`.
        reference: outputs that a file with integer weights must reproduce.
        calibration: inputs of the graph, used for "int8-full" only.
        kept: layers with a finer type, as for `quantize`. By default `quantize_within_gate` finds them.
        log, report: as for `quantize_within_gate`.

    Returns:
        The layers that `quantize_within_gate` found; empty if it was not needed.

    Raises:
        ConversionError: a converter failed. The message names the log.
        ParityError: no file within the size limit passes the gate, as for `quantize_within_gate`.
    """
    if precision == "fp32":
        shutil.copyfile(source, path)
        return ()
    if precision == "fp16":
        report("cast fp16")
        cast_fp16(source, path, keep=ALWAYS_FLOAT32, log=log)
        return ()
    report("calibrate" if precision == "int8-full" else "quantize")
    ranges = calibrate(source, calibration, log=log) if precision == "int8-full" else None
    if kept is not None:
        quantize(source, path, precision=precision, kept=kept, ranges=ranges, log=log)
        return ()
    return quantize_within_gate(
        source, path, precision=precision, reference=reference, ranges=ranges, log=log, report=report
    )


def quantize_within_gate(
    source: Path,
    path: Path,
    *,
    precision: PrecisionName,
    reference: Reference,
    ranges: Ranges | None = None,
    log: Path,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[KeptLayer, ...]:
    """Writes the quantized .tflite with the fewest finer layers that passes its gate.

    If none does and the reference has held-out clips, their accuracy decides: the gate is `HELD_OUT_GATES` then.

    Args:
        source: the float32 .tflite.
        path: the .tflite to write.
        precision: one of `bundle.QUANTIZED`.
        reference: outputs to compare with.
        ranges, log: as for `quantize`.
        report: called at the start of each step.

    Returns:
        The layers with a finer type, those with the largest error per byte first. Empty if the uniform file passes.

    Raises:
        ConversionError: the quantizer failed. The message names the log.
        ParityError: no file within the size limit passes. The message names the layers with the largest error per byte,
            and the error's `report` has the checks.
    """

    wide = False

    def made(kept: Sequence[KeptLayer]) -> list[Check]:
        chosen = {layer.operator: layer.precision for layer in kept}
        quantize(source, path, precision=precision, kept=chosen, ranges=ranges, log=log)
        return reference.check(precision, path, wide=wide)

    checks = made(())
    if all(check.passed for check in checks):
        return ()
    report(f"{precision}: layer by layer")
    trial = path.with_name(f"{path.stem}_of_one_layer.tflite")
    ranked = sensitivities(
        source, trial, precision=precision, reference=reference, ranges=ranges, log=log, report=report
    )
    # A mixed file is useful only if it is clearly smaller than the file of the next finer precision: float16 for int8,
    # int8 for int4. A log-mel in the graph is float32 in both.
    every = layers(source, precision=precision)
    float32 = 4 * sum(layer.weights for layer in every if re.search(ALWAYS_FLOAT32, layer.scope))
    above = float32 + (source.stat().st_size - float32) / (4 if precision == "int4-weights" else 2)
    room = _MOST_SHARE * above - path.stat().st_size
    affordable = []
    for layer in ranked:
        if (more := _more_bytes(layer)) <= room:
            affordable.append(layer)
            room -= more

    def attempt(count: int) -> bool:
        nonlocal checks
        report(f"{precision}: {counted(count, 'layer')} finer")
        checks = made(affordable[:count])
        return all(check.passed for check in checks)

    def fewest() -> int | None:
        """Returns the fewest sufficient layers: doubles the number until the gate is passed, then bisects."""
        fails, passes = 0, min(1, len(affordable))
        while not (passes and attempt(passes)):
            if passes == len(affordable):
                return None
            fails, passes = passes, min(2 * passes, len(affordable))
        while passes - fails > 1:
            middle = (fails + passes) // 2
            fails, passes = (fails, middle) if attempt(middle) else (middle, passes)
        return passes

    best, closest = fewest(), checks
    if best is None and reference.held_out is not None:
        report(f"{precision}: judged by the held-out clips")
        wide = True
        best = 0 if all(check.passed for check in made(())) else fewest()
    if best is None:
        failed = "; ".join(f"{check.stage}/{check.output}: {check.why}" for check in closest if not check.passed)
        hurt = [f"{layer.op} {layer.name} alone {layer.error:.2g}" for layer in ranked[:3]]
        raise ParityError(
            f"{precision} fails its gate, even with the {counted(len(affordable), 'layer')} finer "
            f"that it has room for ({failed}); "
            f"the layers that hurt most: {'; '.join(hurt)}; expected another precision for this network",
            closest,
            layers=hurt,
        )
    made(affordable[:best])
    return tuple(affordable[:best])


def _more_bytes(layer: KeptLayer) -> float:
    """Returns a layer's extra bytes with the finer type: eight bits instead of four, or float16 instead of eight."""
    return 0.5 * layer.weights if layer.precision == "int8" else 1.0 * layer.weights


def sensitivities(
    source: Path,
    path: Path,
    *,
    precision: PrecisionName,
    reference: Reference,
    ranges: Ranges | None = None,
    log: Path,
    report: Callable[[str], None] = lambda _: None,
) -> list[KeptLayer]:
    """Quantizes every layer alone. Returns each layer's error and finer type, the largest error per byte first.

    The bytes are those that the finer type takes in addition. Squared errors of many layers add up like those of
    independent noise.

    The arguments are those of `quantize_within_gate`. Every trial is written to `path` and deleted.
    """
    finer = "int8" if precision == "int4-weights" else "fp16"
    found = []
    candidates = [layer for layer in layers(source, precision=precision) if not re.search(ALWAYS_FLOAT32, layer.scope)]
    for count, layer in enumerate(candidates):
        report(f"{precision}: layer {count + 1} of {len(candidates)}")
        quantize(source, path, precision=precision, only=layer.index, ranges=ranges, log=log)
        error = reference.error(path, clips=_SENSITIVE_CLIPS)
        path.unlink()
        found.append(
            KeptLayer(
                operator=layer.index,
                op=layer.op,
                name=layer.name,
                weights=layer.weights,
                precision=finer if layer.weights else "fp32",
                error=error,
            )
        )
    return sorted(found, key=lambda layer: -layer.error / (_more_bytes(layer) + 64))


def calibration_clips(
    paths: Sequence[str | os.PathLike[str]], spec: FrontEndSpec, *, seconds: float
) -> list[NDArray[np.float32]]:
    """Cuts recordings into clips for `calibrate` and leaves out silent clips.

    Args:
        paths: audio files, and folders of them.
        spec: the front end, whose sample rate is used.
        seconds: length of a clip, s.

    Returns:
        1 … MOST_CLIPS clips (samples,). If there are more, MOST_CLIPS evenly spaced ones.

    Raises:
        AudioError: a file is missing or unreadable, a folder has no audio, or all clips are silent.
    """
    files = [file for path in map(Path, paths) for file in (audio_files(path) if path.is_dir() else [path])]
    samples = spec.samples(seconds)
    clips = []
    for file in files:
        sound = load_audio(file, sample_rate=spec.sample_rate).waveform
        for start in range(0, len(sound), samples):
            part = sound[start : start + samples]
            if not is_silent(part):
                clips.append(np.pad(part, (0, samples - len(part))))
    if not clips:
        named = ", ".join(str(file) for file in files[:3])
        raise AudioError(
            f"nothing but silence to calibrate on ({named}{', …' if len(files) > 3 else ''}); "
            "expected recordings like those that will be tagged"
        )
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), MOST_CLIPS)).round().astype(int)
    return [clips[i] for i in chosen]


@contextlib.contextmanager
def large_tensors() -> Iterator[None]:
    """Lets ai-edge-quantizer 0.10 quantize tensors above 32 MiB.

    For these its `uniform_quantize` makes the data two-dimensional before it broadcasts four-dimensional scales, which
    fails (docs/upstream/quantizer-issue.md). This passes the data in pieces of up to 32 MiB along the first axis, which
    avoids that code. A test without this workaround will fail once upstream is fixed.
    """
    module = quantizer_module("algorithms.uniform_quantize.uniform_quantize_tensor")

    original = module.uniform_quantize

    def in_pieces(data: Any, params: Any, is_blockwise_quant: bool = False) -> Any:
        if is_blockwise_quant or data.ndim < 2 or data.nbytes <= _CHUNK_BYTES:
            return original(data, params, is_blockwise_quant)
        whole = module.fix_quantization_params_rank(data, params)
        rows = max(1, _CHUNK_BYTES // (data.nbytes // len(data)))
        pieces = []
        for start in range(0, len(data), rows):
            part = slice(start, start + rows)
            of_part = {
                name: value[part] if value.ndim and len(value) == len(data) else value
                for name, value in (("scale", whole.scale), ("zero_point", whole.zero_point))
            }
            pieces.append(original(data[part], dataclasses.replace(whole, **of_part)))
        return np.concatenate(pieces)

    module.uniform_quantize = in_pieces
    try:
        yield
    finally:
        module.uniform_quantize = original
