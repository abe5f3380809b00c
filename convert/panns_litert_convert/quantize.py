"""Quantize: a float32 .tflite to one of integer weights, and which of its layers must stay finer for the gate.

The recipes are ai-edge-quantizer's. Of every rung a uniform file is tried first. Where that fails its gate, every layer
is quantized by itself, and those that cost most for their bytes keep a finer type until the gate is passed: float16
in the rungs of int8, int8 in that of int4.
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
from panns_litert.bundle import Check, KeptLayer
from panns_litert.errors import AudioError, ParityError
from panns_litert.frontend import FrontEndSpec
from panns_litert_convert.export import SIGNATURE, captured, cast_fp16, float16_weights
from panns_litert_convert.frontend import ALWAYS_FLOAT32
from panns_litert_convert.stages import Reference

MOST_CLIPS = 64
"""That `calibrate` is given: of more the ranges hardly grow, and each takes a run of the network."""

_SENSITIVE_CLIPS = 2
_MOST_SHARE = 0.9
_CHUNK_BYTES = 32 * 2**20  # from here on ai-edge-quantizer 0.10 goes another, broken way

Ranges = Mapping[str, Any]
"""Smallest and largest value of every tensor, as ai-edge-quantizer keeps them."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator of a .tflite that can be quantized by itself.

    Attributes:
        index: of the operator in the graph.
        op: its kind, such as CONV_2D.
        name: path of the module that it came from, such as "conv_block1.conv1"; of a fused operator, the last one.
        weights: how many it has; 0 for an operator that has activations alone.
        scope: what ai-edge-quantizer calls it: the names of its outputs.
    """

    index: int
    op: str
    name: str
    weights: int
    scope: str

    @property
    def regex(self) -> str:
        """Matches this layer's scope and no other."""
        return f"^{re.escape(self.scope)}$"


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")


def layers(path: Path, *, precision: str) -> list[Layer]:
    """What a rung quantizes, in the graph's order: layers with weights, and for `int8-full` every operator.

    Args:
        path: a float32 .tflite.
        precision: the rung.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

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
            found.append(
                Layer(
                    index=index,
                    op=kind,
                    name=scope.split(";")[0],
                    weights=int(np.prod(shape)) if constant else 0,
                    scope=scope,
                )
            )
    return found


def _is_constant(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return (buffer.data is not None and len(buffer.data) > 0) or bool(getattr(buffer, "size", 0))


def quantize(
    source: Path,
    path: Path,
    *,
    precision: str,
    kept: Mapping[int, str] | None = None,
    only: int | None = None,
    ranges: Ranges | None = None,
    log: Path,
) -> None:
    """Writes a .tflite with a rung's weights; inputs, outputs and a front end inside the graph stay float32.

    Args:
        source, path: the float32 file, and where to write.
        precision: one of `parity.QUANTIZED`.
        kept: operators by their index, and the finer type that their weights get: "int8", "fp16" or "fp32".
        only: the one operator that is quantized, all others staying as they are; all if not given.
        ranges: of the activations, from `calibrate`; `int8-full` needs them.
        log: file for the converter's output.

    Raises:
        ConversionError: naming the log.
    """
    with captured(log, f"ai-edge-quantizer cannot make {precision} of {source.name}"), large_tensors():
        from ai_edge_quantizer import quantizer

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
        work.quantize(calibrated, enable_progress_bar=False, enable_progress_report=False).export_model(
            str(path), overwrite=True
        )
        _mend_outputs(source, path)
    del work
    gc.collect()


def _mend_outputs(source: Path, path: Path) -> None:
    """Points a quantized file's graph and signature at the same float32 outputs, in place.

    Where of the two operators around an output that is computed with further (the embedding) one is quantized and the
    other is not, ai-edge-quantizer 0.10 leaves one of the two at the integer tensor (docs/quantizer-issue.md).
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
    data = bytearray(path.read_bytes())
    graph, entries = outputs(data)
    changed = False
    for name, entry in entries.items():
        in_graph, in_signature = int(graph.Outputs(place_of[name])), int(entry.TensorIndex())
        if in_graph == in_signature:
            continue
        right = next(i for i in (in_graph, in_signature) if graph.Tensors(i).Type() == schema.TensorType.FLOAT32)
        # Both are 32-bit numbers in a flatbuffer: of a table (slot 1) and of a vector (slot 2).
        table, vector = entry._tab, graph._tab
        struct.pack_into("<I", data, table.Pos + table.Offset(6), right)
        struct.pack_into("<i", data, vector.Vector(vector.Offset(8)) + 4 * place_of[name], right)
        changed = True
    if changed:
        path.write_bytes(data)


def _add_rung(work: Any, precision: str, regex: str, chosen: Sequence[Layer]) -> None:
    """Adds a rung's configuration for the scopes that match; `chosen` are the layers there."""
    from ai_edge_quantizer import qtyping, quantizer

    names, algorithms = qtyping.TFLOperationName, quantizer.AlgorithmName
    if precision == "int8-weights":
        work.add_weight_only_config(regex, names.ALL_SUPPORTED, 8)
    elif precision == "int8-full":
        work.add_static_config(regex, names.ALL_SUPPORTED, 8, 8)
    else:
        work.add_dynamic_config(regex, names.ALL_SUPPORTED, 8)
    if precision == "int8-full":
        # The interface stays float32, and the sigmoid too: 256 steps are too few for probabilities.
        for name in (names.INPUT, names.OUTPUT, names.LOGISTIC):
            work.update_quantization_recipe(".*", name, algorithm_key=algorithms.NO_QUANTIZE)
    if precision == "int4-weights":
        # Scales of the least squared error: with the largest weight's, 15 steps leave most weights at zero. Of whole
        # channels: blocks of a fully connected layer have a kernel on the CPU, and crash the GPU delegate's compiler.
        for layer in chosen:
            if layer.op in ("CONV_2D", "FULLY_CONNECTED"):
                work.add_dynamic_config(layer.regex, names[layer.op], 4, algorithm_key=algorithms.MSE)


def _add_finer(work: Any, layer: Layer, finer: str) -> None:
    from ai_edge_quantizer import qtyping, quantizer

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
    from ai_edge_quantizer import qtyping, quantizer

    work.update_quantization_recipe(
        regex, qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
    )


def calibrate(source: Path, inputs: Sequence[NDArray[np.float32]], *, log: Path) -> Ranges:
    """The smallest and largest value of every tensor on some inputs.

    ai-edge-quantizer by itself takes a moving average with a weight of 0.95 for what was: of few clips the first one
    decides, and louder ones are clipped.

    Args:
        source: the float32 .tflite, of one input.
        inputs: of the graph, one for every clip.
        log: file for the converter's output.

    Raises:
        ConversionError: naming the log.
    """
    with captured(log, f"ai-edge-quantizer cannot calibrate {source.name}"):
        from ai_edge_quantizer import calibrator, quantizer
        from ai_edge_quantizer.utils import qsv_utils

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
    precision: str,
    reference: Reference,
    calibration: Sequence[NDArray[np.float32]],
    kept: Mapping[int, str] | None = None,
    log: Path,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[KeptLayer, ...]:
    """Writes the file of any precision; a front end inside the graph stays float32.

    Args:
        source, path: the float32 file, and where to write.
        precision: one of `bundle.PRECISIONS`.
        reference: what a file of integer weights is held to.
        calibration: inputs of the graph, for "int8-full" alone.
        kept: the layers that stay finer, as for `quantize`; found by `quantize_within_gate` if not given.
        log, report: as there.

    Returns:
        The layers that were found.

    Raises:
        ConversionError: a converter failed; naming the log.
        ParityError: as `quantize_within_gate`.
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
        source,
        path,
        precision=precision,
        reference=reference,
        ranges=ranges,
        log=log,
        report=report,
    )


def quantize_within_gate(
    source: Path,
    path: Path,
    *,
    precision: str,
    reference: Reference,
    ranges: Ranges | None = None,
    log: Path,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[KeptLayer, ...]:
    """Writes the smallest file of a rung that passes its gate.

    Args:
        source, path: the float32 file, and where to write.
        precision: one of `parity.QUANTIZED`.
        reference: what its outputs are compared with.
        ranges, log: see `quantize`.
        report: told of every step.

    Returns:
        The layers with a finer type than the rung's, the most worth it first; none where none had to be.

    Raises:
        ConversionError: the quantizer failed; naming the log.
        ParityError: no such file passes; the message names the layers that hurt most, `report` has the checks.
    """

    def made(kept: Sequence[KeptLayer]) -> list[Check]:
        chosen = {layer.operator: layer.precision for layer in kept}
        quantize(source, path, precision=precision, kept=chosen, ranges=ranges, log=log)
        return reference.check(precision, path)

    checks = made(())
    if all(check.passed for check in checks):
        return ()
    report(f"{precision}: layer by layer")
    trial = path.with_name(f"{path.stem}_of_one_layer.tflite")
    ranked = sensitivities(
        source, trial, precision=precision, reference=reference, ranges=ranges, log=log, report=report
    )
    # A mixed file is worth having if it is clearly smaller than the rung above: float16's, or int8's of int4's. What is
    # float32 in every rung, a log-mel in the graph, is so in that one, too.
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
        report(f"{precision}: {count} layers finer")
        checks = made(affordable[:count])
        return all(check.passed for check in checks)

    # The fewest layers that do: first twice as many each time, then between the last two.
    fails, passes = 0, min(1, len(affordable))
    while not (passes and attempt(passes)):
        if passes == len(affordable):
            failed = "; ".join(f"{check.stage}/{check.output}: {check.why}" for check in checks if not check.passed)
            hurt = [f"{layer.op} {layer.name} alone {layer.error:.2g}" for layer in ranked[:3]]
            raise ParityError(
                f"{precision} fails its gate, even with the {passes} layers finer that it has room for ({failed}); "
                f"the layers that hurt most: {'; '.join(hurt)}; expected another precision for this network",
                checks,
                layers=hurt,
            )
        fails, passes = passes, min(2 * passes, len(affordable))
    best = passes
    while best - fails > 1:
        middle = (fails + best) // 2
        fails, best = (fails, middle) if attempt(middle) else (middle, best)
    made(affordable[:best])
    return tuple(affordable[:best])


def _more_bytes(layer: KeptLayer) -> float:
    """What a layer takes more for being finer: eight bits instead of four, float16 instead of eight."""
    return 0.5 * layer.weights if layer.precision == "int8" else 1.0 * layer.weights


def sensitivities(
    source: Path,
    path: Path,
    *,
    precision: str,
    reference: Reference,
    ranges: Ranges | None = None,
    log: Path,
    report: Callable[[str], None] = lambda _: None,
) -> list[KeptLayer]:
    """Every layer quantized by itself: what it costs, and what its weights would be kept as; worst first.

    The order is by error for every byte that the finer type takes more: squared errors of many layers add up like
    those of independent noise.

    Args are those of `quantize_within_gate`; `path` is for the files on the way, one after the other.
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
    """Recordings cut into clips for `calibrate`; silent ones are left out.

    Args:
        paths: audio files, and folders of them.
        spec: the front end, for its sample rate.
        seconds: length of a clip.

    Returns:
        1 … MOST_CLIPS clips (samples,), evenly chosen where there are more.

    Raises:
        AudioError: a file is missing or unreadable, a folder has none, or all is silent.
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

    There its `uniform_quantize` makes the data two-dimensional before it broadcasts the scales of four dimensions
    (docs/quantizer-issue.md). Given no more than 32 MiB at a time, along the first axis, it takes its other path. The
    test that calls it without this says when upstream is mended.
    """
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as module

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
