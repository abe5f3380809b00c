"""Writes .tflite files: with aligned data, and with other names and shapes of the inputs and outputs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 16  # of Buffer.data in LiteRT's schema


def buffer_data(buffer: Any, content: bytes) -> NDArray[np.uint8]:
    """Returns the data of a buffer (`schema_py_generated.BufferT`), which may be behind the flatbuffer."""
    if buffer.offset > 1:  # 0 and 1 stand for no data there
        return np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
    return np.asarray([] if buffer.data is None else buffer.data, np.uint8)


def pack(model: Any, data: Sequence[NDArray[np.uint8]]) -> memoryview:
    """Returns the flatbuffer of a model (`schema_py_generated.ModelT`) with this data in its buffers."""
    model.buffers = [_Buffer(values) for values in data]
    builder = flatbuffers.Builder(sum(map(len, data)) + 2**16)  # room for all: a full builder doubles its memory
    builder.Finish(model.Pack(builder), b"TFL3")
    return memoryview(builder.Bytes)[builder.Head() :]


class _Buffer:
    """A buffer that `schema_py_generated.ModelT` writes with aligned data; its own `BufferT` does not align them."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 - called by `ModelT.Pack`
        """Writes data and table. Returns the table's offset."""
        size, vector = len(self._data), 0
        if size:
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self._data.data
            vector = builder.EndVector()
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        return int(builder.EndObject())


def with_names(
    content: bytes, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, tuple[int, ...]]]
) -> bytes:
    """Returns a .tflite with a signature of these names and shapes, which computes the same values.

    A tensor of another shape is reshaped. Outputs that are not named are left out. Attached files stay.

    Args:
        content: a .tflite that `read_graph` accepts.
        inputs: shape of each input by its new name, in the order of the file.
        outputs: position in the file, and shape, of each output by its new name.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    data = [buffer_data(buffer, content) for buffer in model.buffers]
    graph, before, after = model.subgraphs[0], [], []
    given, results = list(graph.inputs), list(graph.outputs)

    def add(name: str, shape: Sequence[int], kind: int, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, buffer
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def reshape(source: int, target: int) -> Any:
        shape = np.array(graph.tensors[target].shape, "<i4")
        data.append(shape.view(np.uint8))
        constant = add("shape", shape.shape, schema.TensorType.INT32, len(data) - 1)
        operator, options = schema.OperatorT(), schema.ReshapeOptionsT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), [source, constant], [target]
        options.newShape = shape.tolist()
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
        return operator

    def mapped(name: str, index: int) -> Any:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry

    float32, signature = schema.TensorType.FLOAT32, schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [], []
    for position, (name, shape) in enumerate(inputs.items()):
        index = given[position]
        if tuple(graph.tensors[index].shape) != shape:
            new = add(name, shape, float32)
            before.append(reshape(new, index))
            index = new
        signature.inputs.append(mapped(name, index))
    for name, (position, shape) in outputs.items():
        index = results[position]
        if tuple(graph.tensors[index].shape) != shape:
            new = add(name, shape, float32)
            after.append(reshape(index, new))
            index = new
        signature.outputs.append(mapped(name, index))
    if before or after:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
        code.version = 1
        model.operatorCodes.append(code)
    graph.operators = [*before, *graph.operators, *after]
    graph.inputs = [entry.tensorIndex for entry in signature.inputs]
    graph.outputs = [entry.tensorIndex for entry in signature.outputs]
    model.signatureDefs = [signature]
    file = io.BytesIO()
    file.write(pack(model, data))
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "a") as new_zip:
            for info in old.infolist():
                new_zip.writestr(info, old.read(info))
    return file.getvalue()
