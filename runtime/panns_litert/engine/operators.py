"""Checks the operators and tensors of a .tflite file before LiteRT sees them.

LiteRT trusts a file whose flatbuffer is valid: a tensor that no operator wrote, an operator with too few inputs or a
stride of 0 ends the process. What is checked here holds for every file that a converter writes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from panns_litert.errors import BundleError

_MOST_TENSOR_BYTES = 2**31 - 1
_BITS = {
    "FLOAT32": 32, "FLOAT16": 16, "BFLOAT16": 16, "FLOAT64": 64, "INT64": 64, "UINT64": 64, "INT32": 32, "UINT32": 32,
    "INT16": 16, "UINT16": 16, "INT8": 8, "UINT8": 8, "BOOL": 8, "INT4": 4, "UINT4": 4, "INT2": 2,
    "COMPLEX64": 64, "COMPLEX128": 128,
}  # fmt: skip
"""Bits of one element, by type. Other types, such as text, belong to operators that are refused."""

_MANY = 10**6
_ONE_INPUT = """
    ABS AVERAGE_POOL_2D CAST CEIL COMPLEX_ABS COS DEPTH_TO_SPACE DEQUANTIZE ELU EXP FLOOR GELU HARD_SWISH IMAG
    L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LOCAL_RESPONSE_NORMALIZATION LOG LOG_SOFTMAX LOGICAL_NOT LOGISTIC
    MAX_POOL_2D NEG QUANTIZE RANK REAL RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SOFTMAX
    SPACE_TO_DEPTH SQRT SQUARE SQUEEZE TANH ZEROS_LIKE
"""
_TWO_INPUTS = """
    ADD ARG_MAX ARG_MIN ATAN2 BATCH_MATMUL BROADCAST_TO CUMSUM DIV EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD GATHER
    GATHER_ND GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR MAXIMUM MEAN MINIMUM MIRROR_PAD MUL
    NOT_EQUAL PAD POW PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RFFT2D SQUARED_DIFFERENCE SUB SUM TILE TRANSPOSE
"""
_THREE_INPUTS = "BATCH_TO_SPACE_ND DYNAMIC_UPDATE_SLICE PADV2 RANGE SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND"
# Least and most inputs, then outputs, of the operators that compute tensors from tensors. Operators with a state, with
# results of a size that depends on values, or with code that LiteRT does not have, are refused.
_ARITY: dict[str, tuple[int, int, int, int]] = {
    **dict.fromkeys(_ONE_INPUT.split(), (1, 1, 1, 1)),
    **dict.fromkeys(_TWO_INPUTS.split(), (2, 2, 1, 1)),
    **dict.fromkeys(_THREE_INPUTS.split(), (3, 3, 1, 1)),
    **dict.fromkeys(("ONE_HOT", "STRIDED_SLICE"), (4, 4, 1, 1)),
    **dict.fromkeys(("CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (2, 3, 1, 1)),
    **dict.fromkeys(("ADD_N", "CONCATENATION", "PACK"), (1, _MANY, 1, 1)),
    "RESHAPE": (1, 2, 1, 1),
    "SPLIT": (2, 2, 1, _MANY),
    "SPLIT_V": (3, 3, 1, _MANY),
    "TOPK_V2": (2, 2, 2, 2),
    "TRANSPOSE_CONV": (3, 4, 1, 1),
    "UNPACK": (1, 1, 1, _MANY),
    "STABLEHLO_COMPOSITE": (0, _MANY, 1, _MANY),
}
_OPTIONAL = {"CONV_2D": 2, "CONV_3D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
"""The input that may be missing: the bias."""

# Without its options an operator would run with zeros: a stride of 0, no axis.
_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions", "BATCH_MATMUL": "BatchMatMulOptions", "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions", "CONV_3D": "Conv3DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions", "FULLY_CONNECTED": "FullyConnectedOptions", "GATHER": "GatherOptions",
    "L2_POOL_2D": "Pool2DOptions", "LEAKY_RELU": "LeakyReluOptions", "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions", "MIRROR_PAD": "MirrorPadOptions", "PACK": "PackOptions", "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions", "SOFTMAX": "SoftmaxOptions", "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SPLIT": "SplitOptions", "SPLIT_V": "SplitVOptions", "STRIDED_SLICE": "StridedSliceOptions",
    "SUM": "ReducerOptions", "TRANSPOSE_CONV": "TransposeConvOptions", "UNPACK": "UnpackOptions",
}  # fmt: skip
_AT_LEAST_ONE = (
    "StrideW", "StrideH", "StrideD", "DilationWFactor", "DilationHFactor", "DilationDFactor", "FilterWidth",
    "FilterHeight", "BlockSize",
)  # fmt: skip

_RANK = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "AVERAGE_POOL_2D": 4, "MAX_POOL_2D": 4, "L2_POOL_2D": 4}
"""Rank of the first input and of the output, and of weights."""


def require_operators(model: Any, schema: Any, *, file_bytes: int) -> None:
    """Checks every graph of a .tflite file.

    Args:
        model: the flatbuffer's root, a `schema.Model`.
        file_bytes: size of the file.
        schema: the module `ai_edge_litert.schema_py_generated`.

    Raises:
        BundleError: an index is out of range, a tensor is read before it is written or written twice, its size is not
            that of its data, or an operator is unknown, custom, stateful, or has wrong inputs, outputs or options.
        struct.error, IndexError, TypeError, ValueError, AttributeError: the flatbuffer is damaged.
    """
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    options = {code: name for name, code in vars(schema.BuiltinOptions).items() if isinstance(code, int)}
    sizes = _buffer_sizes(model, file_bytes)
    codes = []
    for i in range(_count(model.OperatorCodesLength())):
        code = model.OperatorCodes(i)
        # Old files have the code in one field, new ones in the other; LiteRT takes the larger, too.
        name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
        if code.CustomCode() is not None or name == "CUSTOM":
            raise BundleError(f"operator {code.CustomCode()!r} is custom; expected operators of LiteRT")
        codes.append(name)
    for i in range(_count(model.SubgraphsLength())):
        _Graph(model.Subgraphs(i), sizes, schema).require(codes, options, after=i, graphs=model.SubgraphsLength())


class _Graph:
    """One graph of a file, whose tensors were checked."""

    def __init__(self, graph: Any, sizes: list[int], schema: Any) -> None:
        self._graph, self._schema = graph, schema
        types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
        self._ranks: list[int] = []
        self._constant: list[bool] = []
        for i in range(_count(graph.TensorsLength())):
            tensor = graph.Tensors(i)
            shape = [tensor.Shape(k) for k in range(_count(tensor.ShapeLength(), 64))]
            bits = _BITS.get(types.get(tensor.Type(), ""))
            if bits is None or min(shape, default=0) < 0:
                raise BundleError(f"tensor {i} of type {types.get(tensor.Type(), 'unknown')}, shape {shape}")
            size = (math.prod(shape) * bits + 7) // 8
            if size > _MOST_TENSOR_BYTES or not 0 <= tensor.Buffer() < len(sizes):
                raise BundleError(
                    f"tensor {i} of {size} bytes in buffer {tensor.Buffer()}; expected less, and a buffer"
                )
            if sizes[tensor.Buffer()] not in (0, size):
                raise BundleError(f"tensor {i} of {size} bytes has {sizes[tensor.Buffer()]} bytes of data")
            if tensor.IsVariable() or tensor.Sparsity() is not None:
                raise BundleError(f"tensor {i} is variable or sparse; expected neither")
            _require_quantization(i, tensor.Quantization(), shape)
            self._ranks.append(len(shape))
            self._constant.append(sizes[tensor.Buffer()] > 0 or size == 0)

    def require(self, codes: list[str], options: dict[int, str], *, after: int, graphs: int) -> None:
        """Checks the operators, in the order in which they run."""
        graph, known = self._graph, list(self._constant)
        inputs, outputs = _indices(graph, "Inputs"), _indices(graph, "Outputs")
        for index in inputs:
            if not 0 <= index < len(known) or known[index]:
                raise BundleError(f"input {index} is no tensor, a constant, or there twice")
            known[index] = True
        for i in range(_count(graph.OperatorsLength())):
            operator = graph.Operators(i)
            code = operator.OpcodeIndex()
            name = codes[code] if 0 <= code < len(codes) else "unknown"
            where = f"operator {i}, {name}"
            if name not in _ARITY:
                raise BundleError(f"{where}, is not one that an audio tagger needs; expected another model")
            self._require_operator(operator, name, where, known)
            kind = options.get(operator.BuiltinOptionsType(), "unknown")
            if name in _OPTIONS and kind != _OPTIONS[name]:
                raise BundleError(f"{where}, has {kind}; expected {_OPTIONS[name]}")
            if name in _OPTIONS:
                self._require_values(operator, kind, where)
            if name == "STABLEHLO_COMPOSITE":
                body = self._schema.StableHLOCompositeOptions()
                table = operator.BuiltinOptions2()
                if table is None:
                    raise BundleError(f"{where}, has no body")
                body.Init(table.Bytes, table.Pos)
                if not after < body.DecompositionSubgraphIndex() < graphs:  # a body that runs itself never ends
                    raise BundleError(f"{where}, has graph {body.DecompositionSubgraphIndex()} as its body")
        if missing := [index for index in outputs if not (0 <= index < len(known) and known[index])]:
            raise BundleError(f"output {missing[0]} is no tensor, or nothing writes it")

    def _require_operator(self, operator: Any, name: str, where: str, known: list[bool]) -> None:
        """Checks inputs and outputs of one operator, and marks the outputs as written in `known`."""
        inputs, outputs = _indices(operator, "Inputs"), _indices(operator, "Outputs")
        least_in, most_in, least_out, most_out = _ARITY[name]
        if not (least_in <= len(inputs) <= most_in and least_out <= len(outputs) <= most_out):
            raise BundleError(f"{where}, has {len(inputs)} inputs and {len(outputs)} outputs")
        for position, index in enumerate(inputs):
            if index == -1 and _OPTIONAL.get(name) == position:
                continue
            if not 0 <= index < len(known) or not known[index]:
                raise BundleError(f"{where}, reads tensor {index}, which nothing wrote before")
        if operator.IntermediatesLength():
            raise BundleError(f"{where}, has intermediate tensors; expected none")
        for index in outputs:
            if not 0 <= index < len(known) or known[index]:
                raise BundleError(f"{where}, writes tensor {index}, which is none, a constant or written before")
            known[index] = True
        if (rank := _RANK.get(name)) is not None:
            found = [self._ranks[index] for index in (*inputs[:2], *outputs)]
            if any(value != rank for value in found):
                raise BundleError(f"{where}, has tensors of ranks {found}; expected {rank}")

    def _require_values(self, operator: Any, kind: str, where: str) -> None:
        table = operator.BuiltinOptions()
        values = getattr(self._schema, kind)()
        values.Init(table.Bytes, table.Pos)
        for field in _AT_LEAST_ONE:
            value = getattr(values, field)() if hasattr(values, field) else 1
            if not 1 <= value < 2**16:
                raise BundleError(f"{where}, has {field} {value}; expected at least 1")


_BLOCKWISE = 2  # QuantizationDetails.BlockwiseQuantization


def _require_quantization(i: int, found: Any, shape: list[int]) -> None:
    if found is None or found.DetailsType() == _BLOCKWISE:  # its scales are in another tensor; the trial finds the rest
        return
    scales, points, axis = found.ScaleLength(), found.ZeroPointLength(), found.QuantizedDimension()
    if found.DetailsType() or scales < 0 or points not in (0, scales):
        raise BundleError(f"tensor {i} has {scales} scales and {points} zero points; expected as many")
    if scales > 1 and not (0 <= axis < len(shape) and shape[axis] == scales):
        raise BundleError(f"tensor {i} of shape {shape} has {scales} scales along axis {axis}")
    if scales and not (np.isfinite(found.ScaleAsNumpy()).all() and (found.ScaleAsNumpy() > 0).all()):
        raise BundleError(f"tensor {i} has scales that are not > 0")


def _buffer_sizes(model: Any, file_bytes: int) -> list[int]:
    """Returns the size of each buffer's data, in bytes; 0 for a buffer of results."""
    sizes = []
    for i in range(_count(model.BuffersLength())):
        buffer = model.Buffers(i)
        inside, offset, outside = buffer.DataLength(), buffer.Offset(), buffer.Size()
        if offset <= 1:  # 0 and 1 stand for no data behind the flatbuffer
            outside = 0
        if inside < 0 or (inside and outside) or inside > file_bytes or offset + outside > file_bytes:
            raise BundleError(f"buffer {i} of {inside} bytes, or {outside} bytes at {offset}, in {file_bytes} bytes")
        sizes.append(inside or outside)
    return sizes


def _indices(owner: Any, kind: str) -> list[int]:
    return [getattr(owner, kind)(i) for i in range(_count(getattr(owner, f"{kind}Length")()))]


def _count(length: int, most: int = _MANY) -> int:
    """Returns the length of a list if it is plausible; a damaged file may claim billions of items."""
    if not 0 <= length <= most:
        raise BundleError(f"a list of {length} items; expected at most {most}")
    return length
