"""fp16 range audit: which layer of a .tflite file leaves the range of float16, before any phone does.

A phone's GPU computes in float16: above 65504 a value becomes Inf, below 2**-14 it loses digits or, on
most GPUs, flushes to zero. The audit runs the file in float32 on the CPU, looks at every float tensor of
the graph and ranks them, worst first.

What it sees and what it does not:

- SUM, MEAN and AVERAGE_POOL_2D are audited by their running total as well, for a sum overflows long
  before the mean does. It adds in row-major order; a GPU may add in another. CUMSUM is its own total.
- Convolutions, FULLY_CONNECTED and BATCH_MATMUL are audited by their result: the bound of their partial
  sums costs as much as the layer. So are operators with sums inside (L2_NORMALIZATION, SOFTMAX, GELU).
- Only the primary subgraph is visible. An operator with a body (STABLEHLO_COMPOSITE, WHILE, IF) is audited
  by its result, not by what its body computes.
- Some CPU kernels (ADD, CONV_2D, …) clamp an Inf to 3.4e38: it then shows as an overflow.
- The figures hold for the given inputs. Give it loud, silent and long ones.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.engine import available_cores, native_log, read_graph
from panns_litert.errors import BundleError

FP16_MAX = 65504.0
FP16_SMALLEST_NORMAL = 2.0**-14
FLUSH_SHARE = 0.05
"""Tiny share above which a tensor counts as flushing: 5 % of a zero-mean Gaussian lie below the smallest
normal at a deviation of 1e-3. Weights of a trained network are wider; narrower ones begin to lose digits."""

_HEADROOM_CAP = 1e9  # of a tensor that is all zero; JSON has no infinity
_VERDICTS = ("not finite", "overflows", "flushes", "ok")  # worst first
# Their outputs repeat what their inputs hold.
# fmt: off
_MOVEMENT = {
    "BATCH_TO_SPACE_ND", "BROADCAST_TO", "CONCATENATION", "DEPTH_TO_SPACE", "DYNAMIC_UPDATE_SLICE", "EXPAND_DIMS",
    "GATHER", "GATHER_ND", "MIRROR_PAD", "PACK", "PAD", "RESHAPE", "REVERSE_V2", "SLICE", "SPACE_TO_BATCH_ND",
    "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
}
# fmt: on


@dataclass(frozen=True, kw_only=True)
class TensorRange:
    """The range of one tensor over all inputs of an audit.

    Attributes:
        tensor: its name in the file.
        op: the operator that makes it, such as "CONV_2D"; "input" or "constant" for what no operator makes.
        index: of the operator in the graph; -1 for inputs and constants.
        shape: as run.
        max_abs: largest magnitude of any finite value.
        running_total: of a reduction, the largest magnitude that its sum passes through; else None.
        tiny_share: 0 … 1, share of the values that are nonzero and below float16's smallest normal, 2**-14.
        headroom: 65504 / the larger of the two magnitudes, at most 1e9; 0 if not finite. Below 1 it overflows.
        verdict: "not finite" (NaN or Inf in float32 already), "overflows", "flushes" (tiny_share above
            `FLUSH_SHARE`; harmless where tiny means zero, as in probabilities) or "ok".
    """

    tensor: str
    op: str
    index: int
    shape: tuple[int, ...]
    max_abs: float
    running_total: float | None
    tiny_share: float
    headroom: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """The range as JSON types, without NaN or infinity."""
        return asdict(self) | {"shape": list(self.shape)}


def audit_fp16(path: str | os.PathLike[str], inputs: Sequence[Mapping[str, NDArray[np.float32]]]) -> list[TensorRange]:
    """Finds what would overflow or flush if a graph ran in float16.

    Float tensors only. Outputs of pure data movement (RESHAPE, TRANSPOSE, …) are left out, and so are
    float16 weights a second time, after their DEQUANTIZE.

    Args:
        path: a .tflite file; at most one signature, static input shapes.
        inputs: at least one set of inputs: name to array, of the shape and type that the file declares.
            The names are the signature's; the tensors' if the file has no signature.

    Returns:
        Every tensor, worst first: by verdict, then by headroom.

    Raises:
        BundleError: the file is missing, damaged or not of that form, or the inputs do not fit it.

    Example:
        for row in audit_fp16("model.tflite", [{"logmel": logmel[None, None]}])[:5]:
            print(row.verdict, row.headroom, row.op, row.tensor)
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = Path(path)
    graph = _read(path)
    with native_log() as log:
        try:
            # Kernels of LiteRT itself: a delegate such as XNNPACK hides the tensors between its layers.
            interpreter = Interpreter(
                str(path),
                num_threads=available_cores(),
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            interpreter.allocate_tensors()
            details = {int(d["index"]): d for d in interpreter.get_input_details()}
            _check_inputs(path, graph, details, inputs)
            ranges = _run(interpreter, graph, inputs)
        except BundleError:
            raise
        except (ValueError, RuntimeError) as error:
            detail = " ".join(f"{error} {log.text()}".split())[:300]
            raise BundleError(f"{path}: LiteRT cannot run it ({detail}); convert it again") from error
    return sorted(ranges, key=lambda r: (_VERDICTS.index(r.verdict), r.headroom))


@dataclass(frozen=True, kw_only=True)
class _Operator:
    index: int
    name: str
    inputs: list[int]
    outputs: list[int]
    pool: tuple[int, int, int, int] | None  # window height, width, stride height, width


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """The primary subgraph. A tensor is known by its index, which the interpreter uses too."""

    names: list[str]
    floats: set[int]
    constants: list[int]
    inputs: dict[str, int]
    operators: list[_Operator]


class _Range:
    """Figures of one tensor, taken run by run."""

    def __init__(self, tensor: str, op: str, index: int) -> None:
        self.tensor, self.op, self.index = tensor, op, index
        self.shape: tuple[int, ...] = ()
        self.max_abs, self.tiny, self.count = 0.0, 0, 0
        self.running_total: float | None = None
        self.finite = True

    def add(self, values: NDArray[np.floating], running_total: float | None = None) -> None:
        magnitude = np.abs(values)
        peak = float(magnitude.max(initial=0.0))
        if not math.isfinite(peak):
            self.finite = False
            peak = float(magnitude[np.isfinite(magnitude)].max(initial=0.0))
        self.shape = values.shape
        self.max_abs = max(self.max_abs, peak)
        self.tiny += int(np.count_nonzero(magnitude < FP16_SMALLEST_NORMAL) - np.count_nonzero(magnitude == 0))
        self.count += magnitude.size
        if running_total is not None:
            self.running_total = max(self.running_total or 0.0, running_total)

    def result(self) -> TensorRange:
        peak = max(self.max_abs, self.running_total or 0.0)
        tiny_share = self.tiny / max(self.count, 1)
        failed = (not self.finite, peak > FP16_MAX, tiny_share > FLUSH_SHARE, True)
        return TensorRange(
            tensor=self.tensor,
            op=self.op,
            index=self.index,
            shape=self.shape,
            max_abs=self.max_abs,
            running_total=self.running_total,
            tiny_share=tiny_share,
            headroom=FP16_MAX / max(peak, FP16_MAX / _HEADROOM_CAP) if self.finite else 0.0,
            verdict=_VERDICTS[failed.index(True)],
        )


def _run(interpreter: Any, graph: _Graph, inputs: Sequence[Mapping[str, NDArray[np.float32]]]) -> list[TensorRange]:
    """Runs every set of inputs and folds one tensor after the other: only one copy is held at a time."""
    sources = [_Operator(index=-1, name="input", inputs=[], outputs=list(graph.inputs.values()), pool=None)]
    operators = [op for op in graph.operators if op.name not in _MOVEMENT]
    # A float16 weight comes with a DEQUANTIZE. An integer one is a float tensor only after it, and stays.
    operators = [op for op in operators if op.name != "DEQUANTIZE" or op.inputs[0] not in graph.floats]
    ranges: dict[int, _Range] = {}
    for values in inputs:
        for name, index in graph.inputs.items():
            interpreter.set_tensor(index, values[name])
        interpreter.invoke()
        for op in sources + operators:
            for output in graph.floats.intersection(op.outputs):
                result = interpreter.get_tensor(output)
                entry = ranges.setdefault(output, _Range(graph.names[output], op.name, op.index))
                entry.add(result, _running_total(interpreter, op, result.shape))
    for index in graph.constants:
        ranges[index] = _Range(graph.names[index], "constant", -1)
        ranges[index].add(interpreter.get_tensor(index))
    return [entry.result() for entry in ranges.values()]


def _running_total(interpreter: Any, op: _Operator, shape: tuple[int, ...]) -> float | None:
    """Largest magnitude that any sum of a reduction passes through, in float64; None for other operators.

    Args:
        shape: of the operator's output.
    """
    if op.name not in ("SUM", "MEAN") and op.pool is None:
        return None
    values = np.atleast_1d(interpreter.get_tensor(op.inputs[0]))
    if not np.isfinite(values).all():  # the verdict says so; the total is of the others
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if op.pool is not None:
        return _pool_total(values, op.pool, shape[1:3])
    axes = {int(axis) % values.ndim for axis in interpreter.get_tensor(op.inputs[1]).ravel()}
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    length = math.prod(values.shape[axis] for axis in axes)
    rows = values.transpose(*kept, *sorted(axes)).reshape(values.size // max(length, 1), length)
    return _peak(np.cumsum(rows, axis=1, dtype=np.float64))


def _pool_total(values: NDArray[np.floating], pool: tuple[int, int, int, int], output: tuple[int, ...]) -> float:
    """The same of the windows of a pool: values (batch, height, width, channels), output (height, width)."""
    height, width, *strides = pool
    spans = [(n - 1) * stride + 1 for n, stride in zip(output, strides, strict=True)]
    # What the windows reach beyond the map is padding, half of it before the map; none with VALID.
    pads = [
        max(span + window - 1 - size, 0)
        for span, window, size in zip(spans, (height, width), values.shape[1:3], strict=True)
    ]
    values = np.pad(values, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    total = np.zeros((len(values), *output, values.shape[3]))  # (batch, height, width, channels)
    peak = 0.0
    for y in range(height):
        for x in range(width):
            total += values[:, y : y + spans[0] : strides[0], x : x + spans[1] : strides[1]]
            peak = max(peak, _peak(total))
    return peak


def _peak(values: NDArray[np.float64]) -> float:
    return float(max(values.max(initial=0.0), -values.min(initial=0.0)))


def _check_inputs(path: Path, graph: _Graph, details: Mapping[int, Any], inputs: Any) -> None:
    """Everything about the inputs that could go wrong, before the first run."""
    if not isinstance(inputs, Sequence) or not inputs:
        raise BundleError("no inputs given; expected a list of at least one dict, input name to array")
    for i, values in enumerate(inputs):
        if not isinstance(values, Mapping) or set(values) != set(graph.inputs):
            given = ", ".join(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise BundleError(f"inputs[{i}]: {given or 'nothing'}; expected a dict with {', '.join(graph.inputs)}")
        for name, index in graph.inputs.items():
            shape, dtype = tuple(int(n) for n in details[index]["shape"]), np.dtype(details[index]["dtype"])
            array = values[name]
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                is_array = isinstance(array, np.ndarray)
                given = f"shape {array.shape}, {array.dtype}" if is_array else type(array).__name__
                raise BundleError(f"inputs[{i}]: {name} of {given}; expected {dtype} {shape}")


def _read(path: Path) -> _Graph:
    """The operators and tensors of a .tflite file that `read_graph` has accepted."""
    from ai_edge_litert import schema_py_generated as schema

    declared = read_graph(path)
    try:
        return _parse(schema, schema.Model.GetRootAs(np.memmap(path, np.uint8, "r"), 0), tuple(declared.inputs))
    except (struct.error, AttributeError, LookupError, TypeError, ValueError, MemoryError) as error:
        # Found here because the interpreter follows offsets into nowhere.
        raise BundleError(f"{path}: damaged ({error}); expected a whole .tflite file; convert it again") from error


def _parse(schema: Any, model: Any, input_names: tuple[str, ...]) -> _Graph:
    graph = model.Subgraphs(0)
    op_names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    names, floats, constants = [], set(), []
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        names.append((tensor.Name() or b"").decode(errors="replace"))
        buffer = model.Buffers(tensor.Buffer())
        if tensor.Type() in (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16):
            floats.add(i)
            if buffer.Size() or buffer.DataLength():  # behind the flatbuffer or in it
                constants.append(i)
    operators = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # The old field is one byte wide and holds a placeholder for newer operators.
        name = op_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        pool = None
        if name == "AVERAGE_POOL_2D":
            options = schema.Pool2DOptions()
            options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
            pool = (options.FilterHeight(), options.FilterWidth(), options.StrideH(), options.StrideW())
        ins, outs = _ints(operator.InputsAsNumpy()), _ints(operator.OutputsAsNumpy())
        operators.append(_Operator(index=i, name=name, inputs=ins, outputs=outs, pool=pool))
    inputs = dict(zip(input_names, _ints(graph.InputsAsNumpy()), strict=True))
    return _Graph(names=names, floats=floats, constants=constants, inputs=inputs, operators=operators)


def _ints(vector: int | Iterable[int]) -> list[int]:
    return [] if isinstance(vector, int) else [int(n) for n in vector]  # flatbuffers: 0 for no vector
