"""Reads the inputs and outputs that a .tflite file declares, from the flatbuffer and without running it."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panns_litert.errors import BundleError


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


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Reads the graph that a .tflite file declares.

    Raises:
        BundleError: the file is missing, damaged or not a .tflite file, or has several signatures, a dynamic shape, or
            an input or output that is not float32 or has no name of its own.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path}: no such file; expected a .tflite file")
    with path.open("rb") as file:
        # Checked first, because all later reads follow offsets from the file.
        if file.read(8)[4:] != b"TFL3":
            raise BundleError(f"{path}: not a .tflite file; expected the identifier TFL3")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(path, data)
            except BundleError:
                raise
            except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
                raise BundleError(f"{path}: damaged .tflite file ({error}); convert it again") from error


def _read(path: Path, data: Any) -> Graph:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    if (signatures := model.SignatureDefsLength()) > 1:
        raise BundleError(f"{path}: {signatures} signatures; expected one")
    if signatures and model.SignatureDefs(0).SubgraphIndex() != 0:
        raise BundleError(f"{path}: its signature runs subgraph {model.SignatureDefs(0).SubgraphIndex()}; expected 0")
    if not model.SubgraphsLength():
        raise BundleError(f"{path}: damaged .tflite file (it has no graph); convert it again")
    graph = model.Subgraphs(0)
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}

    def tensor(index: int, name: str | None = None) -> tuple[str, tuple[int, ...]]:
        found = graph.Tensors(index)
        name = found.Name().decode() if name is None else name
        if any(found.ShapeSignature(i) < 0 for i in range(found.ShapeSignatureLength())):
            raise BundleError(f"{path}: {name} has a dynamic shape; expected static shapes")
        if found.Type() != schema.TensorType.FLOAT32:
            raise BundleError(f"{path}: {name} is {types.get(found.Type(), 'unknown').lower()}; expected float32")
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
            raise BundleError(f"{path}: {kind.lower()} that share a name or have none; expected a name for each")
        return dict(found)

    return Graph(inputs=tensors("Inputs"), outputs=tensors("Outputs"), operators=graph.OperatorsLength())
