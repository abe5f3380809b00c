"""A .tflite that is complete by itself: same answers, data inside the flatbuffer, metadata and class names."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import number_types
from flatbuffers.table import Table
from support import data_place, edited_graph, make_consistent

from panns_litert.bundle import PRECISIONS, Bundle, Source
from panns_litert.engine import CpuEngine
from panns_litert.errors import BundleError, ResultsError
from panns_litert_convert.convert import convert, verify
from panns_litert_convert.export import cast_fp16, export_fp32
from panns_litert_convert.metadata import About, about_model, complete
from panns_litert_convert.quantize import calibrate, quantize
from panns_litert_convert.zoo import find

SAMPLES = 32000
ABOUT = About(
    name="small",
    description="random weights",
    version="panns-litert 1.2.3",
    author="nobody",
    licence="MIT",
    tensors={"logmel": "a log-mel", "probs": "probabilities", "embedding": "an embedding", "framewise": "by frame"},
    sample_rate=None,
    labels_file="classes.txt",
    labels="Dog\nCafé, 2 Tassen\nEau de vie\n".encode(),
)

# Tables of MediaPipe's metadata_schema.fbs, version 1.5.0: names and types of the fields, in the order that numbers
# them. A union has two fields, its type and its value. Tables that no file here has are left out.
SCHEMA = {
    "ModelMetadata": """
        name:string description:string version:string subgraph_metadata:[SubGraphMetadata] author:string license:string
        associated_files:[AssociatedFile] min_parser_version:string
    """,
    "SubGraphMetadata": """
        name:string description:string input_tensor_metadata:[TensorMetadata] output_tensor_metadata:[TensorMetadata]
        associated_files:[AssociatedFile] input_process_units:? output_process_units:? input_tensor_groups:?
        output_tensor_groups:? custom_metadata:?
    """,
    "TensorMetadata": """
        name:string description:string dimension_names:? content:Content process_units:? stats:?
        associated_files:[AssociatedFile]
    """,
    "Content": "content_properties_type:Uint8 content_properties:ContentProperties range:?",
    "FeatureProperties": "",
    "AudioProperties": "sample_rate:Uint32 channels:Uint32",
    "AssociatedFile": "name:string description:string type:Int8 locale:string version:string",
}
UNIONS = {"ContentProperties": {1: "FeatureProperties", 4: "AudioProperties"}}
TENSOR_AXIS_LABELS = 2


def table_of(data: bytes, place: int, kind: str) -> dict[str, Any]:
    """Reads a table of `SCHEMA`. Fields that are not set are left out; unknown ones are an error."""
    table, found = Table(data, place), {}
    fields = [field.split(":") for field in SCHEMA[kind].split()]
    slots = table.Get(number_types.VOffsetTFlags, place - table.Get(number_types.SOffsetTFlags, place))
    assert slots <= 4 + 2 * len(fields), f"{kind} has unknown fields"
    for number, (name, what) in enumerate(fields):
        if not (offset := table.Offset(4 + 2 * number)):
            continue
        where = place + offset
        if what == "string":
            found[name] = table.String(where).decode()
        elif what in ("Uint8", "Int8", "Uint32"):
            found[name] = table.Get(getattr(number_types, f"{what}Flags"), where)
        elif what.startswith("["):
            start, count = table.Vector(offset), table.VectorLen(offset)
            places = [table.Indirect(start + 4 * item) for item in range(count)]
            found[name] = [table_of(data, item, what[1:-1]) for item in places]
        else:
            what = UNIONS[what][found[f"{name}_type"]] if what in UNIONS else what
            found[name] = table_of(data, table.Indirect(where), what)
    return found


def metadata_of(path: Path) -> dict[str, Any]:
    """Reads the TFLite Metadata of a file."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    assert len(entries) == model.MetadataLength()
    data = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return table_of(data, int.from_bytes(data[:4], "little"), "ModelMetadata")


def attached(path: Path) -> dict[str, bytes]:
    """Reads the files that are attached to a .tflite. All must be stored without compression."""
    with zipfile.ZipFile(path) as files:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in files.infolist())
        assert files.testzip() is None
        return {name: files.read(name) for name in files.namelist()}


def data_of(path: Path) -> tuple[list[int], int]:
    """Returns the places modulo 16 of all data inside the flatbuffer, and the number of buffers with data outside."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    inside = [data_place(buffer)[0] % 16 for buffer in buffers if buffer.DataLength()]
    return inside, sum(buffer.Offset() > 1 for buffer in buffers)


LOGMEL = np.random.default_rng(0).normal(-30.0, 10.0, (1, 1, 101, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network with random weights, for a clip of one second, as litert-torch writes it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("fp32") / "model.tflite"
    network = find("demo").build().eval().for_export(samples=SAMPLES)
    export_fp32(network, {"logmel": torch.from_numpy(LOGMEL)}, path, log=path.with_name("log"))
    return path


@pytest.fixture(scope="module", params=PRECISIONS)
def source(request: pytest.FixtureRequest, float32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network in every precision, as the converters write it."""
    path = tmp_path_factory.mktemp(request.param) / "model.tflite"
    log = path.with_name("log")
    if request.param == "fp32":
        return float32
    if request.param == "fp16":
        cast_fp16(float32, path, log=log)
    else:
        ranges = calibrate(float32, [LOGMEL], log=log) if request.param == "int8-full" else None
        quantize(float32, path, precision=request.param, ranges=ranges, log=log)
    return path


def test_a_complete_file_gives_the_same_answers(source: Path, tmp_path: Path) -> None:
    path, again = tmp_path / "complete.tflite", tmp_path / "again.tflite"
    complete(source, path, ABOUT)
    want = CpuEngine(source, threads=1).run(LOGMEL)
    for name, got in CpuEngine(path, threads=1).run(LOGMEL).items():
        assert np.array_equal(got, want[name])
    # Both map the file into memory.
    interpreter = Interpreter(str(path), num_threads=1)
    assert np.array_equal(interpreter.get_signature_runner("tag")(logmel=LOGMEL)["probs"], want["probs"])
    model = CompiledModel.from_file(str(path))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(LOGMEL)
    model.run_by_index(0, inputs, outputs)
    place = list(model.get_signature_by_index(0)["outputs"]).index("probs")
    assert np.abs(np.array(outputs[place].read(22, np.float32)) - want["probs"][0]).max() <= 1e-6
    complete(path, again, ABOUT)
    assert again.read_bytes() == path.read_bytes()


def test_all_data_are_inside_the_flatbuffer(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "complete.tflite"
    complete(source, path, ABOUT)
    inside, outside = data_of(path)
    assert outside == 0
    assert set(inside) == {0}  # as LiteRT's schema wants data: in steps of 16 bytes
    if source.parent.name.startswith("fp16"):
        assert data_of(source)[1] > 0  # otherwise this test would show nothing


def test_a_complete_file_is_larger_by_its_labels_and_few_bytes(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "complete.tflite"
    complete(source, path, ABOUT)
    more = path.stat().st_size - source.stat().st_size - len(ABOUT.labels)
    print(f"{source.parent.name}: {more} bytes more, without the class names")
    assert more < 1000
    assert attached(path) == {"classes.txt": ABOUT.labels}


def test_what_a_bundle_s_file_says(demo: Bundle) -> None:
    path = demo.file("model")
    found = metadata_of(path)
    (graph,) = found.pop("subgraph_metadata")
    assert found == {
        "name": "demo",
        "description": demo.manifest.description,
        "version": f"panns-litert {demo.manifest.versions['panns-litert']}",
        "author": "made by this project",
        "license": "Apache-2.0",
        "min_parser_version": "1.0.0",
    }
    feature = {"content_properties_type": 1, "content_properties": {}}
    (logmel,) = graph["input_tensor_metadata"]
    assert logmel["content"] == feature  # a log-mel is no audio
    assert logmel["name"] == "logmel"
    assert logmel["description"].startswith(
        "Log-mel (1, 1, frames, mels) of a clip of 10 s: 32000 Hz mono, hann window"
    )
    labels = [{"name": "demo_labels.txt", "type": TENSOR_AXIS_LABELS}]
    assert graph["output_tensor_metadata"] == [
        {
            "name": "probs",
            "description": "Probability of each class",
            "content": feature,
            "associated_files": labels,
        },
        {"name": "embedding", "description": "Embedding of the clip", "content": feature},
    ]
    assert attached(path) == {"demo_labels.txt": demo.file("labels").read_bytes()}


def test_a_waveform_is_described_as_audio(tmp_path: Path) -> None:
    path = convert("demo", graph="waveform", seconds=1.0, out=tmp_path / "bundle").file("model")
    found = metadata_of(path)
    assert found["min_parser_version"] == "1.3.0"
    (waveform,) = found["subgraph_metadata"][0]["input_tensor_metadata"]
    assert waveform == {
        "name": "waveform",
        "description": "Samples of a clip of 1 s, 32000 Hz mono, within -1 … 1",
        "content": {"content_properties_type": 4, "content_properties": {"sample_rate": 32000, "channels": 1}},
    }


def test_only_probs_have_labels(float32: Path, tmp_path: Path) -> None:
    """MediaPipe refuses a file in which an output has labels but not as many values."""

    def rename(model: Any) -> None:
        for output in model.signatureDefs[0].outputs:
            output.name = {b"probs": "probs", b"embedding": "framewise"}[output.name]

    path = edited_graph(float32, tmp_path / "model.tflite", rename)
    complete(path, path, ABOUT)
    probs, framewise = metadata_of(path)["subgraph_metadata"][0]["output_tensor_metadata"]
    assert (probs["name"], probs["associated_files"]) == (
        "probs",
        [{"name": "classes.txt", "type": TENSOR_AXIS_LABELS}],
    )
    assert (framewise["name"], framewise["description"]) == ("framewise", "by frame")
    assert "associated_files" not in framewise


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cnn14_16k", ["16000 Hz", "hann window of 512", "64 slaney mels 50–8000 Hz", "10·log10(max(mel, 1e-10))"]),
        ("mn04", ["pre-emphasis 0.97, hann_symmetric", "128 kaldi mels 0–15000 Hz", "ln(mel + 1e-05), (x + 4.5) / 5"]),
        ("ast", ["frames that lie whole within the clip", "zeros up to 1024 frames"]),
    ],
)  # fmt: skip
def test_the_log_mel_of_every_definition_is_described(name: str, words: list[str]) -> None:
    model = find(name)
    source = Source(file="x.pt", sha256="0" * 64, url=None, licence="CC0-1.0", attribution="me", published_map=None)
    about = about_model(model, source=source, description="x", graph="logmel", seconds=5.0, version="9")
    assert about.tensors["logmel"].startswith("Log-mel (1, 1, frames, mels) of a clip of 5 s: ")
    assert [word for word in words if word not in about.tensors["logmel"]] == []
    assert (about.version, about.author, about.licence) == ("panns-litert 9", "me", "CC0-1.0")
    assert about.labels.decode().splitlines() == list(model.class_names())


def with_other_labels(path: Path, about: About) -> None:
    first, second, *rest = about.labels.splitlines(keepends=True)
    complete(path, path, replace(about, labels=b"".join([second, first, *rest])))


def with_another_rate(path: Path, about: About) -> None:
    complete(path, path, replace(about, sample_rate=16000))


def without_labels(path: Path, about: About) -> None:
    with zipfile.ZipFile(path) as files:
        start = files.infolist()[0].header_offset
    path.write_bytes(path.read_bytes()[:start])


def with_more_behind(path: Path, about: About) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def with_an_older_version(path: Path, about: About) -> None:
    complete(path, path, replace(about, version="panns-litert 0.0.1"))


def about_demo(demo: Bundle) -> About:
    manifest = demo.manifest
    return about_model(
        find("demo"),
        source=manifest.source,
        description=manifest.description,
        graph=manifest.graph,
        seconds=manifest.clip_seconds,
        version=manifest.versions["panns-litert"],
    )


@pytest.mark.parametrize(
    "change", [with_other_labels, with_another_rate, without_labels, with_more_behind, with_an_older_version]
)
def test_what_is_not_this_model_s_is_replaced(
    change: Callable[[Path, About], None], demo: Bundle, tmp_path: Path
) -> None:
    """`verify` relies on it: it compares the file with its complete copy."""
    path, about = tmp_path / "model.tflite", about_demo(demo)
    path.write_bytes(demo.model)
    change(path, about)
    assert path.read_bytes() != demo.model
    complete(path, path, about)
    assert path.read_bytes() == demo.model


def test_verify_finds_other_class_names_in_the_file(demo: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(demo)
    path = folder / demo.file("model").name
    with_other_labels(path, about_demo(demo))
    make_consistent(folder, path.name)
    with pytest.raises(BundleError, match="metadata or attached class names are not those of this model; convert it"):
        verify(folder)


def test_a_full_disk_leaves_the_old_file(
    float32: Path, tmp_path: Path, full_disk: Callable[[int], contextlib.AbstractContextManager[None]]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    with full_disk(10_000), pytest.raises(ResultsError, match="File too large"):
        complete(float32, path, ABOUT)
    assert os.listdir(tmp_path) == ["model.tflite"]
    assert path.read_bytes() == b"old"
