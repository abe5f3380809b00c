"""Makes a .tflite complete by itself, for runtimes that have only this file of a bundle.

- TFLite Metadata: facts about the model, and the name and meaning of every tensor.
- The class names: a zip behind the flatbuffer, the associated file of `probs`.
- All data inside the flatbuffer. ai-edge-quantizer stores large weights behind it, where old runtimes do not look.

Field numbers and values are those of MediaPipe's mediapipe/tasks/metadata/metadata_schema.fbs, version 1.5.0. The
official writers damage the files of today's converters (docs/upstream/metadata-issue.md).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from panns_litert.atomic import replacing
from panns_litert.bundle import GraphName, Source
from panns_litert.engine import AUDIO_PROPERTIES, METADATA_ENTRY, buffer_data, pack, read_graph
from panns_litert_convert.zoo import Model

_FEATURE_PROPERTIES = 1  # of ContentProperties
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType


@dataclass(frozen=True, kw_only=True)
class About:
    """What a .tflite says about itself.

    Attributes:
        name, description, version, author, licence: of the model.
        tensors: description of every input and output, by name.
        sample_rate: of an input of mono samples, Hz; None for another input.
        labels_file: file name of the class names.
        labels: content of that file, UTF-8, one class name a line.
    """

    name: str
    description: str
    version: str
    author: str
    licence: str
    tensors: Mapping[str, str]
    sample_rate: int | None
    labels_file: str
    labels: bytes


def about_model(
    model: Model, *, source: Source, description: str, graph: GraphName, seconds: float, version: str
) -> About:
    """Returns what the .tflite of a bundle says about itself.

    Args:
        model: its record in the registry.
        source: its checkpoint.
        description: one line about the network and its weights.
        graph: "logmel" or "waveform".
        seconds: length of a clip, s.
        version: version of this package that made the .tflite.
    """
    spec = model.front_end
    return About(
        name=model.name,
        description=description,
        version=f"panns-litert {version}",
        author=source.attribution,
        licence=source.licence,
        tensors={
            "logmel": f"Log-mel (1, 1, frames, mels) of a clip of {seconds:g} s: {spec.describe()}",
            "waveform": f"Samples of a clip of {seconds:g} s, {spec.sample_rate} Hz mono, within -1 … 1",
            "probs": "Probability of each class",
            "embedding": "Embedding of the clip",
            "framewise": "Probability of each class over time, (1, frames, classes)",
        },
        sample_rate=spec.sample_rate if graph == "waveform" else None,
        labels_file=model.labels,
        labels="".join(f"{label}\n" for label in model.class_names()).encode(),
    )


def complete(source: Path, path: Path, about: About) -> None:
    """Writes a copy of a .tflite that is complete by itself. Operators, tensors and their values are the same.

    The same arguments give the same bytes, and the copy of a copy is the same file.

    Args:
        source: the .tflite of a converter, or a copy that this function made.
        path: the .tflite to write. It may be `source`.
        about: what to write into it.

    Raises:
        BundleError: `source` is no .tflite that LiteRT can run.
        ResultsError: the file cannot be written.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = source.read_bytes()
    graph = read_graph(source, content)
    model = schema.ModelT.InitFromPackedBuf(content)
    entries = [entry for entry in model.metadata or [] if entry.name != METADATA_ENTRY]
    old = {entry.buffer for entry in model.metadata or []} - {entry.buffer for entry in entries}
    # Buffer 0 is empty by definition, and serves every tensor without data.
    data = [buffer_data(buffer, content) for buffer in model.buffers]
    kept = [0, *(index for index, values in enumerate(data) if len(values) and index not in old)]
    place = {index: position for position, index in enumerate(kept)}
    for user in (*(tensor for part in model.subgraphs for tensor in part.tensors), *entries):
        user.buffer = place.get(user.buffer, 0)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_ENTRY, len(kept)
    made = np.frombuffer(_metadata(about, inputs=list(graph.inputs), outputs=list(graph.outputs)), np.uint8)
    model.metadata = [*entries, entry]
    flatbuffer = pack(model, [*(data[index] for index in kept), made])
    label_file = zipfile.ZipInfo(about.labels_file)  # by default of 1980 and not compressed, as readers expect
    label_file.create_system, label_file.external_attr = 3, 0o644 << 16  # whatever system writes it
    with replacing(path) as file:
        file.write(flatbuffer)
        with zipfile.ZipFile(file, "w") as attached:
            attached.writestr(label_file, about.labels)


def _metadata(about: About, *, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Returns the metadata's flatbuffer. `inputs` and `outputs` are the names of the tensors in the graph's order."""
    builder = flatbuffers.Builder(0)

    def tensor(name: str, content: int, files: Sequence[int] = ()) -> int:
        fields = {0: builder.CreateString(name), 1: builder.CreateString(about.tensors[name]), 3: content}
        if files:
            fields[6] = _vector(builder, files)
        return _table(builder, fields)

    if about.sample_rate is None:
        samples = _feature(builder)
    else:
        audio = _table(builder, Uint32={0: about.sample_rate, 1: 1})  # 1 channel
        samples = _table(builder, {1: audio}, Uint8={0: AUDIO_PROPERTIES})
    labels = _table(builder, {0: builder.CreateString(about.labels_file)}, Int8={2: _TENSOR_AXIS_LABELS})
    of_inputs = _vector(builder, [tensor(name, samples) for name in inputs])
    of_outputs = _vector(
        builder,
        # Only `probs` has labels. MediaPipe refuses a file in which another output has as many as there are classes.
        [tensor(name, _feature(builder), [labels] if name == "probs" else []) for name in outputs],
    )
    graph = _table(builder, {2: of_inputs, 3: of_outputs})
    texts = {0: about.name, 1: about.description, 2: about.version, 4: about.author, 5: about.licence}
    # Version 1.3.0 of the schema brought AudioProperties.
    texts[7] = "1.0.0" if about.sample_rate is None else "1.3.0"
    fields = {number: builder.CreateString(text) for number, text in texts.items()}
    builder.Finish(_table(builder, fields | {3: _vector(builder, [graph])}), b"M001")
    return bytes(builder.Output())


def _feature(builder: Any) -> int:
    return _table(builder, {1: _table(builder)}, Uint8={0: _FEATURE_PROPERTIES})


def _table(builder: Any, offsets: Mapping[int, int] | None = None, **numbers: Mapping[int, int]) -> int:
    """Writes a table. Returns its offset.

    Args:
        builder: the flatbuffer's builder.
        offsets: offsets of strings, vectors and tables, by field number.
        numbers: numbers by field number, for every type, such as `Uint32={0: 32000}`.
    """
    offsets = offsets or {}
    builder.StartObject(
        1 + max([*offsets, *(number for of_type in numbers.values() for number in of_type)], default=-1)
    )
    for number, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    for kind, of_type in numbers.items():
        for number, value in of_type.items():
            getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
