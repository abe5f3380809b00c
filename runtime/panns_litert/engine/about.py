"""Reads what a .tflite says about itself: TFLite Metadata, and the class names that are attached as a zip.

Field numbers are those of MediaPipe's mediapipe/tasks/metadata/metadata_schema.fbs, version 1.5.0.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table

from panns_litert.errors import BundleError
from panns_litert.strict import shown

METADATA_ENTRY = b"TFLITE_METADATA"
"""Name of the metadata in a .tflite."""
AUDIO_PROPERTIES = 4
"""Number of an input of samples among the schema's ContentProperties."""
_LABELS = (2, 3)  # of AssociatedFileType: labels of an axis, or of values
_MOST_LABEL_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class AboutModel:
    """What a .tflite says about itself; "" or None for what it does not say.

    Attributes:
        name, description, author, licence: of the model.
        sample_rate, channels: of an input of samples.
        labels_file: name of the attached file with class names.
        labels: its content.
        labels_output: position of the output that they belong to.
    """

    name: str = ""
    description: str = ""
    author: str = ""
    licence: str = ""
    sample_rate: int | None = None
    channels: int | None = None
    labels_file: str = ""
    labels: bytes | None = None
    labels_output: int | None = None


def read_about(content: bytes, where: str) -> AboutModel:
    """Reads the metadata of a .tflite that `read_graph` accepts.

    Raises:
        BundleError: the metadata or the attached class names are damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        entries = [model.Metadata(i) for i in range(model.MetadataLength())]
        buffers = [model.Buffers(entry.Buffer()) for entry in entries if entry.Name() == METADATA_ENTRY]
        if not buffers:
            return AboutModel()
        buffer = buffers[0]
        data = (
            content[buffer.Offset() : buffer.Offset() + buffer.Size()]
            if buffer.Size()
            else buffer.DataAsNumpy().tobytes()
        )
        return _read(_Fields(data, int.from_bytes(data[:4], "little")), content)
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, KeyError, OSError,
            zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:  # fmt: skip
        raise BundleError(
            f"{where}: its TFLite Metadata are damaged ({shown(str(error))}); expected none, or those of a writer"
        ) from error


def _read(about: _Fields, content: bytes) -> AboutModel:
    graph = next(iter(about.tables(3)), None)
    inputs, outputs = (graph.tables(2), graph.tables(3)) if graph is not None else ([], [])
    audio = None
    for tensor in inputs:
        part = tensor.table(3)
        if part is not None and part.number(0, number_types.Uint8Flags) == AUDIO_PROPERTIES:
            audio = part.table(1)
    labels: dict[str, Any] = {}
    for position, tensor in enumerate(outputs):
        for file in tensor.tables(6):
            if file.number(2, number_types.Int8Flags) in _LABELS and not labels:
                name = file.text(0)
                labels = {"labels_file": name, "labels": _attached(content, name), "labels_output": position}
    return AboutModel(
        name=about.text(0),
        description=about.text(1),
        author=about.text(4),
        licence=about.text(5),
        sample_rate=audio.number(0, number_types.Uint32Flags) or None if audio is not None else None,
        channels=audio.number(1, number_types.Uint32Flags) or None if audio is not None else None,
        **labels,
    )


def _attached(content: bytes, name: str) -> bytes | None:
    """Returns the content of an attached file. Quantizers keep the metadata and drop the zip: then None."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    with zipfile.ZipFile(io.BytesIO(content)) as files, files.open(name) as file:
        data = file.read(_MOST_LABEL_BYTES + 1)
    if len(data) > _MOST_LABEL_BYTES:
        raise ValueError(f"{name} has more than {_MOST_LABEL_BYTES} bytes")
    return data


class _Fields:
    """A table of a flatbuffer, whose fields are read by their numbers."""

    def __init__(self, data: bytes, place: int) -> None:
        self._table, self._data = Table(data, place), data

    def _offset(self, number: int) -> int:
        return int(self._table.Offset(4 + 2 * number))

    def text(self, number: int) -> str:
        """Returns a text; "" if there is none."""
        offset = self._offset(number)
        return bytes(self._table.String(self._table.Pos + offset)).decode() if offset else ""

    def number(self, number: int, flags: Any) -> int:
        """Returns a whole number; 0 if there is none."""
        offset = self._offset(number)
        return int(self._table.Get(flags, self._table.Pos + offset)) if offset else 0

    def table(self, number: int) -> _Fields | None:
        """Returns a table; None if there is none."""
        offset = self._offset(number)
        return _Fields(self._data, self._table.Indirect(self._table.Pos + offset)) if offset else None

    def tables(self, number: int) -> list[_Fields]:
        """Returns a vector of tables."""
        if not (offset := self._offset(number)):
            return []
        start, count = self._table.Vector(offset), min(self._table.VectorLen(offset), len(self._data))
        return [_Fields(self._data, self._table.Indirect(start + 4 * item)) for item in range(count)]
