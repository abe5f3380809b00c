"""fp16 range audit: finds the layers of a .tflite file whose values leave the range of float16.

A phone's GPU computes in float16. A value above 65504 becomes Inf there; a value below 2**-14 loses digits or, on most
GPUs, is flushed to zero. The audit runs the file in float32 on the CPU, measures every float tensor of the graph and
ranks them, worst first.

What the audit covers:

- SUM, MEAN and AVERAGE_POOL_2D are audited by their result and by their running total, because a sum overflows long
  before the mean does. The total adds in row-major order; a GPU may use another order. A CUMSUM's result is its total.
- Convolutions, FULLY_CONNECTED and BATCH_MATMUL are audited by their result only, because a bound on their partial
  sums costs as much as the layer. The same holds for operators with inner sums (L2_NORMALIZATION, SOFTMAX, GELU).
- Only the primary subgraph is visible. An operator with a body (STABLEHLO_COMPOSITE, WHILE, IF) is audited by its
  result, not by the values inside its body.
- Some CPU kernels (ADD, CONV_2D, …) clamp Inf to 3.4e38, which is then reported as an overflow.
- The figures hold for the given inputs. Use loud, silent and long ones.
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

from panns_litert.engine import FLOAT16_MAX, available_cores, native_log, read_graph
from panns_litert.errors import BundleError

FP16_MAX = FLOAT16_MAX
FP16_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
FLUSH_SHARE = 0.05
"""Share of tiny values above which the verdict is "flushes". 5 % of a zero-mean Gaussian are below the smallest normal
float16 if its standard deviation is 1e-3. Weights of trained networks are wider; narrower weights begin to lose digits.
"""

_HEADROOM_CAP = 1e9  # for a tensor of zeros; JSON has no infinity
_VERDICTS = ("not finite", "overflows", "flushes", "ok")  # worst first
# Operators of pure data movement.
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
        op: the operator that computes it, such as "CONV_2D"; otherwise "input" or "constant".
        index: index of the operator in the graph; -1 for inputs and constants.
        shape: its shape in the run.
        max_abs: largest magnitude of all finite values.
        running_total: largest magnitude of the partial sums of a reduction; None for other operators.
        tiny_share: share, 0 … 1, of values that are nonzero and below float16's smallest normal number, 2**-14.
        headroom: 65504 divided by the larger of `max_abs` and `running_total`, at most 1e9; 0 if not finite. The
            tensor overflows if it is below 1.
        verdict: "not finite" (NaN or Inf even in float32), "overflows", "flushes" (tiny_share above `FLUSH_SHARE`;
            harmless if zero would do as well, as for probabilities) or "ok".
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
        """Returns the range as JSON types, without NaN or infinity."""
        return asdict(self) | {"shape": list(self.shape)}


def audit_fp16(path: str | os.PathLike[str], inputs: Sequence[Mapping[str, NDArray[np.float32]]]) -> list[TensorRange]:
    """Finds the tensors of a graph that would overflow or flush to zero in float16.

    Only float tensors are measured. Outputs of pure data movement (RESHAPE, TRANSPOSE, …) are skipped, and so is the
    DEQUANTIZE output of float16 weights, which repeats the weights.

    Args:
        path: a .tflite file with at most one signature and static input shapes.
        inputs: at least one set of inputs, each a mapping of name to array of the declared shape and type. The names
            are those of the signature, or those of the tensors if the file has no signature.

    Returns:
        The ranges of all measured tensors, worst first: by verdict, then by headroom.

    Raises:
        BundleError: the file is missing, damaged or has another form, or the inputs do not fit it.

    Example:
        for row in audit_fp16("model.tflite", [{"logmel": logmel[None, None]}])[:5]:
            print(row.verdict, row.headroom, row.op, row.tensor)
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = Path(path)
    graph = _read(path)
    with native_log() as log:
        try:
            # LiteRT's own kernels, because a delegate such as XNNPACK hides the tensors between its layers.
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
    """The primary subgraph. Tensors are referred to by their index, as in the interpreter."""

    names: list[str]
    floats: set[int]
    constants: list[int]
    inputs: dict[str, int]
    operators: list[_Operator]


class _Range:
    """Collects the figures of one tensor over several runs."""

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
    """Runs every set of inputs and measures one tensor after the other, so that only one copy is in memory."""
    sources = [_Operator(index=-1, name="input", inputs=[], outputs=list(graph.inputs.values()), pool=None)]
    operators = [op for op in graph.operators if op.name not in _MOVEMENT]
    # The DEQUANTIZE of a float16 weight repeats it. That of an integer weight is the only float tensor, and is kept.
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
    """Returns the largest magnitude of the partial sums of a reduction, in float64; None for other operators.

    Args:
        interpreter: holds the values of the last run.
        op: the operator.
        shape: shape of its output.
    """
    if op.name not in ("SUM", "MEAN") and op.pool is None:
        return None
    values = np.atleast_1d(interpreter.get_tensor(op.inputs[0]))
    if not np.isfinite(values).all():  # the audit reports them where they arise; the total is that of the others
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if op.pool is not None:
        return _pool_total(values, op.pool, shape[1:3])
    axes = {int(axis) % values.ndim for axis in interpreter.get_tensor(op.inputs[1]).ravel()}
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    length = math.prod(values.shape[axis] for axis in axes)
    rows = values.transpose(*kept, *sorted(axes)).reshape(values.size // max(length, 1), length)
    return _peak(np.cumsum(rows, axis=1, dtype=np.float64))


def _pool_total(values: NDArray[np.floating], pool: tuple[int, int, int, int], output: tuple[int, ...]) -> float:
    """Returns the largest partial sum of the windows of a pool.

    Args:
        values: (batch, height, width, channels).
        pool: window height, window width, vertical stride, horizontal stride.
        output: height and width of the result.
    """
    height, width, *strides = pool
    spans = [(n - 1) * stride + 1 for n, stride in zip(output, strides, strict=True)]
    # Windows that reach beyond the map read padding, half of it before the map. With VALID there is none.
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
    """Raises BundleError if the inputs do not fit the graph."""
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
    """Returns the operators and tensors of a .tflite file."""
    from ai_edge_litert import schema_py_generated as schema

    declared = read_graph(path)
    try:
        return _parse(schema, schema.Model.GetRootAs(np.memmap(path, np.uint8, "r"), 0), tuple(declared.inputs))
    except (struct.error, AttributeError, LookupError, TypeError, ValueError, MemoryError) as error:
        # The interpreter does not check these offsets and could crash on them.
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
            if buffer.Size() or buffer.DataLength():  # data after the flatbuffer, or inside it
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
    return [] if isinstance(vector, int) else [int(n) for n in vector]  # flatbuffers returns 0 for a missing vector
