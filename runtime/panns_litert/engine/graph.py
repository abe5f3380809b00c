"""Reads the inputs and outputs that a .tflite file declares, from the flatbuffer and without running it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

from panns_litert.engine.operators import require_operators
from panns_litert.errors import BundleError
from panns_litert.strict import printable, read_bytes


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The graph that a .tflite file runs: its first. Other graphs belong to control flow and composites.

    Attributes:
        inputs, outputs: name to static shape, float32, in the file's order. The names are those of the signature, or of
            the tensors if the file has no signature.
        operators: number of operators.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    operators: int


def read_graph(path: str | os.PathLike[str], content: bytes | None = None) -> Graph:
    """Reads the graph that a .tflite file declares, and checks all operators and tensors of the file.

    Args:
        path: the file.
        content: its bytes; read from the file if not given.

    Raises:
        BundleError: the file is missing, damaged or not a .tflite file, has operators that LiteRT could not run, or
            has several signatures, a dynamic shape, or an input or output that is not float32 or has no name of its
            own.
    """
    from ai_edge_litert import schema_py_generated as schema

    where = printable(path)
    data = read_model(path) if content is None else content
    try:
        model = schema.Model.GetRootAs(data, 0)
        try:
            require_operators(model, schema, file_bytes=len(data))
        except BundleError as error:
            raise BundleError(f"LiteRT cannot load it ({error})") from error
        return _read(model, schema)
    except BundleError as error:
        raise BundleError(f"{where}: {error}; convert it again") from error
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{where}: damaged .tflite file ({error}); convert it again") from error


def read_model(path: str | os.PathLike[str]) -> bytes:
    """Reads a .tflite file into memory. Whatever happens to the file later, the model stays the same.

    Raises:
        BundleError: the file is missing, not regular, larger than 2 GB or not a .tflite file.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.path.isfile(path):
        raise BundleError(f"{printable(path)}: no such file; expected a .tflite file")
    data = read_bytes(path, error=BundleError, what="a .tflite file", most_bytes=2**31 - 1)
    # Checked first, because all later reads follow offsets from the file.
    if data[4:8] != b"TFL3":
        raise BundleError(f"{printable(path)}: not a .tflite file; expected the identifier TFL3")
    return data


def _read(model: Any, schema: Any) -> Graph:
    if (signatures := model.SignatureDefsLength()) > 1:
        raise BundleError(f"{signatures} signatures; expected one")
    if signatures and model.SignatureDefs(0).SubgraphIndex() != 0:
        raise BundleError(f"its signature runs subgraph {model.SignatureDefs(0).SubgraphIndex()}; expected 0")
    if not model.SubgraphsLength():
        raise BundleError("damaged .tflite file (it has no graph)")
    graph = model.Subgraphs(0)
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}

    def tensor(index: int, name: str | None = None) -> tuple[str, tuple[int, ...]]:
        found = graph.Tensors(index)
        name = found.Name().decode() if name is None else name
        if any(found.ShapeSignature(i) < 0 for i in range(found.ShapeSignatureLength())):
            raise BundleError(f"{printable(name)} has a dynamic shape; expected static shapes")
        if found.Type() != schema.TensorType.FLOAT32:
            raise BundleError(f"{printable(name)} is {types.get(found.Type(), 'unknown').lower()}; expected float32")
        return name, tuple(found.Shape(i) for i in range(found.ShapeLength()))

    def tensors(kind: str) -> dict[str, tuple[int, ...]]:
        indices = [getattr(graph, kind)(i) for i in range(getattr(graph, f"{kind}Length")())]
        if not signatures:
            found = [tensor(index) for index in indices]
        else:
            signature = model.SignatureDefs(0)
            entries = [getattr(signature, kind)(i) for i in range(getattr(signature, f"{kind}Length")())]
            entries.sort(key=lambda entry: indices.index(entry.TensorIndex()))
            found = [tensor(entry.TensorIndex(), entry.Name().decode()) for entry in entries]
        if len(dict(found)) != len(indices):
            raise BundleError(f"{kind.lower()} that share a name or have none; expected a name for each")
        return dict(found)

    return Graph(inputs=tensors("Inputs"), outputs=tensors("Outputs"), operators=graph.OperatorsLength())
