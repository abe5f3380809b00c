"""Adopted bundles: .tflite files that were made elsewhere, with proof and without."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hubserver import HubServer
from support import ROOT, damaged, edit_manifest, edited_graph, run_command

from panns_litert import Tagger
from panns_litert.bundle import ADOPTED_VERSION, ENGINE, UNKNOWN, Bundle, copy_bundle, hub_metadata
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.engine import CpuEngine, read_about, with_names
from panns_litert.errors import BundleError, ParityError, SpecError
from panns_litert.frontend import EFFICIENTAT_32K, PANNS_8K, PANNS_32K, front_end_of
from panns_litert.proof import add_one_model, adopt, publish
from panns_litert.prototypes import Prototypes
from panns_litert.search import Index, embed
from panns_litert.windows import tag_long
from panns_litert_convert.convert import adopt_proven, verify
from panns_litert_convert.metadata import About, _metadata

YAMNET_SAMPLES, YAMNET_CLASSES = 15600, 521
YAMNET_LABELS = "".join(f"Class {i}, such as this\n" for i in range(YAMNET_CLASSES))
ABOUT = About(
    name="YAMNet's form",
    description="The inputs, outputs and metadata of YAMNet's public file",
    version="1",
    author="nobody",
    licence="Apache-2.0",
    tensors={"waveform": "samples", "scores": "scores"},
    sample_rate=16000,
    labels_file="yamnet_label_list.txt",
    labels=b"",
)
CHECKPOINT = ROOT / "assets" / "demo_checkpoint.safetensors"


def made(kind: Any, **values: Any) -> Any:
    table = kind()
    for name, value in values.items():
        setattr(table, name, value)
    return table


def yamnet_form(*, last: str = "LOGISTIC", gain: float = 4.0, about: About | None = ABOUT) -> bytes:
    """Returns a .tflite of YAMNet's form: samples (15600,) to scores (1, 521) without signature, names in a zip behind.

    It has random weights: the powers of 156 sets of samples, a fully connected layer, and `last`.
    """
    ops, kinds, rng = schema.BuiltinOperator, schema.TensorType, np.random.default_rng(0)
    values = {
        "shape": np.array([100, 156], np.int32),
        "axis": np.array([0], np.int32),
        "weights": (gain * rng.standard_normal((YAMNET_CLASSES, 156))).astype(np.float32),
        "bias": rng.standard_normal(YAMNET_CLASSES).astype(np.float32),
    }
    shapes = {"waveform": (YAMNET_SAMPLES,), "rows": (100, 156), "squares": (100, 156), "powers": (1, 156),
              "logits": (1, YAMNET_CLASSES), "scores": (1, YAMNET_CLASSES)}  # fmt: skip
    names = [*shapes, *values]
    tensors = [made(schema.TensorT, name=n, shape=[*s], type=kinds.FLOAT32, buffer=0) for n, s in shapes.items()]
    buffers = [schema.BufferT()]
    for name, array in values.items():
        kind = kinds.INT32 if array.dtype == np.int32 else kinds.FLOAT32
        tensors.append(made(schema.TensorT, name=name, shape=[*array.shape], type=kind, buffer=len(buffers)))
        buffers.append(made(schema.BufferT, data=np.frombuffer(array.tobytes(), np.uint8)))
    steps = [
        ("RESHAPE", ["waveform", "shape"], "rows", schema.ReshapeOptionsT()),
        ("MUL", ["rows", "rows"], "squares", schema.MulOptionsT()),
        ("MEAN", ["squares", "axis"], "powers", made(schema.ReducerOptionsT, keepDims=True)),
        ("FULLY_CONNECTED", ["powers", "weights", "bias"], "logits", schema.FullyConnectedOptionsT()),
        (last, ["logits"], "scores", None),
    ]
    operators = [
        made(
            schema.OperatorT, opcodeIndex=i, inputs=[names.index(n) for n in inputs], outputs=[names.index(output)],
            builtinOptions=options,
            builtinOptionsType=getattr(schema.BuiltinOptions, type(options).__name__[:-1]) if options else 0,
        )
        for i, (_, inputs, output, options) in enumerate(steps)
    ]  # fmt: skip
    codes = [getattr(ops, name) for name, *_ in steps]
    model = made(
        schema.ModelT,
        version=3,
        buffers=buffers,
        operatorCodes=[made(schema.OperatorCodeT, builtinCode=c, deprecatedBuiltinCode=c, version=1) for c in codes],
        subgraphs=[made(schema.SubGraphT, tensors=tensors, inputs=[0], outputs=[5], operators=operators)],
    )
    if about is not None:
        entry = made(schema.MetadataT, name="TFLITE_METADATA", buffer=len(buffers))
        # The writer attaches the class names to "probs".
        data = _metadata(replace(about, tensors=about.tensors | {"probs": ""}), inputs=["waveform"], outputs=["probs"])
        buffers.append(made(schema.BufferT, data=np.frombuffer(data, np.uint8)))
        model.metadata = [entry]
    builder = flatbuffers.Builder(2**20)
    builder.Finish(model.Pack(builder), b"TFL3")
    file = io.BytesIO(bytes(builder.Output()))
    if about is not None:
        with zipfile.ZipFile(file, "a") as attached:
            attached.writestr(about.labels_file, YAMNET_LABELS)
    return file.getvalue()


def without_names(path: Path) -> Path:
    """Writes the demo's model as another converter does: no signature, other names, only the probabilities."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        model.signatureDefs, model.metadata, graph.outputs = [], [], graph.outputs[:1]
        graph.tensors[graph.inputs[0]].name = b"serving_default_args_0:0"
        graph.tensors[graph.outputs[0]].name = b"StatefulPartitionedCall:0"

    return edited_graph(demo_bundle() / "demo_synthetic_fp16.tflite", path, change)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A folder in the layout of the published card: a .tflite, mel_basis.bin and class names."""
    folder = tmp_path / "card"
    folder.mkdir()
    without_names(folder / "cnn14_audioset_fp16.tflite")
    for name in ("mel_basis.bin", "demo_labels.txt"):
        (folder / name).write_bytes((demo_bundle() / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def yamnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("yamnet") / "yamnet.tflite"
    path.write_bytes(yamnet_form())
    return path


def test_the_published_layout_is_recognised(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = adopt(card)
    manifest = found.bundle.manifest
    assert found.bundle.path == tmp_path / "cnn14_audioset_fp16"
    assert manifest.front_end == PANNS_32K
    assert (manifest.graph, manifest.log_mel, manifest.clip_seconds, manifest.precision) == (
        "logmel",
        "host",
        10,
        "fp16",
    )
    assert [(o.name, o.shape) for o in manifest.outputs] == [("probs", (1, 22))]
    assert (manifest.format_version, manifest.proven) == (ADOPTED_VERSION, False)
    assert [(c.stage, c.output) for c in manifest.parity] == [(ENGINE, "probs")]
    assert any("panns_32k" in text for text in found.notes)
    assert Bundle(copy_bundle(found.bundle, tmp_path / "copy").path).labels == Bundle(demo_bundle()).labels
    with Tagger(found.bundle) as own, Tagger() as demo:
        for clip in demo_clips():
            got, want = own.tag(clip), demo.tag(clip)
            assert np.array_equal(got.probs, want.probs)
            assert got.embedding.shape == (0,)
        long = tag_long(own, demo_clips()[0])
        assert long.embedding.shape == (0,)


def test_the_layout_on_the_hub(hub: HubServer, card: Path, tmp_path: Path) -> None:
    hub.add("org/card", card)
    found = adopt("hf:org/card", out=tmp_path / "out")
    source = found.bundle.manifest.source
    assert source.url is not None
    assert source.url.startswith("https://huggingface.co/org/card/resolve/")
    assert source.url.endswith("/cnn14_audioset_fp16.tflite")
    with pytest.raises(BundleError, match="is a bundle already"):
        adopt("hf:org/demo", out=tmp_path / "demo")


def test_yamnets_form(yamnet: Path, tmp_path: Path) -> None:
    found = adopt(yamnet, out=tmp_path / "out")
    manifest = found.bundle.manifest
    assert (manifest.inputs[0].name, manifest.inputs[0].shape) == ("waveform", (1, YAMNET_SAMPLES))
    assert (manifest.front_end.sample_rate, manifest.clip_seconds, manifest.log_mel) == (16000, 0.975, "none")
    assert (manifest.precision, manifest.classes, manifest.quantization) == ("fp32", YAMNET_CLASSES, None)
    assert found.bundle.labels[3] == "Class 3, such as this"
    assert manifest.source.licence == "Apache-2.0"
    sound = np.random.default_rng(1).uniform(-1, 1, YAMNET_SAMPLES).astype(np.float32)
    original = CpuEngine(yamnet).run(sound)["scores"]
    with Tagger(found.bundle) as tagger:
        assert np.array_equal(tagger.tag(sound, sample_rate=16000).probs, original[0])
        assert tag_long(tagger, np.tile(sound, 12), sample_rate=16000).windows == 13
    with zipfile.ZipFile(found.bundle.file("model")) as attached:
        assert attached.read("yamnet_label_list.txt").decode() == YAMNET_LABELS


@pytest.mark.parametrize(
    ("recipe", "precision"), [("dynamic_wi8_afp32", "int8"), ("weight_only_wi8_afp32", "int8-weights")]
)
def test_the_precision_is_that_of_most_weights(recipe: str, precision: str, yamnet: Path, tmp_path: Path) -> None:
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    path = tmp_path / "quantized.tflite"
    made = quantizer.Quantizer(str(yamnet), getattr(recipes, recipe)())
    path.write_bytes(made.quantize().quantized_model)
    names = [f"class {i}" for i in range(YAMNET_CLASSES)]
    assert adopt(path, labels=names, sample_rate=16000, out=tmp_path / "out").bundle.manifest.precision == precision


def test_inputs_and_outputs_get_names_and_shapes(tmp_path: Path) -> None:
    path, values = tmp_path / "named.tflite", np.arange(4, dtype=np.float32)
    path.write_bytes(with_names(add_one_model(), {"waveform": (4,)}, {"probs": (0, (2, 2)), "embedding": (0, (4,))}))
    found = CpuEngine(path).run_unchecked(values)
    assert {name: array.tolist() for name, array in found.items()} == {
        "probs": [[1, 2], [3, 4]],
        "embedding": [1, 2, 3, 4],
    }


def test_options_win_over_metadata(yamnet: Path, tmp_path: Path) -> None:
    names = [f"mine {i}" for i in range(YAMNET_CLASSES)]
    found = adopt(yamnet, labels=names, sample_rate=32000, out=tmp_path / "out")
    assert found.bundle.manifest.front_end.sample_rate == 32000
    assert found.bundle.labels == tuple(names)
    assert any("32000 Hz was asked for" in text for text in found.notes)


def test_nothing_claims_a_proof(card: Path, tmp_path: Path) -> None:
    bundle = adopt(card, out=tmp_path / "out").bundle
    text = bundle.file("model_card").read_text(encoding="utf-8")
    assert "**Not proven.**" in text[: text.index("## ")]
    assert "## Parity" not in text
    assert "model-index" not in hub_metadata(bundle.manifest)
    assert hub_metadata(bundle.manifest)["license"] == "unknown"
    assert bundle.manifest.source.licence == UNKNOWN
    with pytest.raises(BundleError, match="not proven"):
        publish(bundle, "org/name", dry_run=True)
    with pytest.raises(BundleError, match="not proven"):
        verify(bundle)
    edit_manifest(bundle.path, lambda m: m.update(format_version=2))
    with pytest.raises(BundleError, match="no proof of every stage"):
        Bundle(bundle.path)


def test_without_embedding_one_sentence(card: Path, tmp_path: Path) -> None:
    bundle = adopt(card, out=tmp_path / "out").bundle
    with Tagger(bundle) as tagger:
        for use in (
            lambda: embed(tagger, demo_clips()[0]),
            lambda: Index.build(tmp_path / "index", tagger, demo_clips()),
            lambda: Prototypes.of_bundle(bundle),
        ):
            with pytest.raises(BundleError, match="has no embedding; expected a model with one"):
                use()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: (card / "demo_labels.txt").unlink(), "--labels FILE"),
        (lambda card: (card / "demo_labels.txt").write_text("a\nb\n"), r"\[1, 22\]; expected one with 2 values"),
        (lambda card: (card / "demo_labels.txt").write_text("a\na\n"), "expected different names"),
        (lambda card: (card / "mel_basis.bin").unlink(), "expected --front-end"),
        (lambda card: (card / "mel_basis.bin").write_bytes(b"123"), "not the mel basis of a known front end"),
        (lambda card: without_names(card / "other.tflite"), "2 .tflite files"),
        (lambda card: (card / "more_labels.txt").write_text("a"), "expected one list of class names"),
        (lambda card: (card / "manifest.json").write_text("{}"), "is a bundle already"),
        (lambda card: (card / "cnn14_audioset_fp16.tflite").write_bytes(b"TFL3"), "not a .tflite file"),
    ],
)  # fmt: skip
def test_what_a_folder_lacks(card: Path, tmp_path: Path, change: Any, message: str) -> None:
    change(card)
    with pytest.raises(BundleError, match=message):
        adopt(card, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_contradict_the_file(card: Path, yamnet: Path, tmp_path: Path) -> None:
    model = card / "cnn14_audioset_fp16.tflite"
    labels = card / "demo_labels.txt"
    for file, options, message in (
        (card, {"front_end": PANNS_8K}, "not the mel basis of the front end that was given"),
        (card, {"sample_rate": 16000}, "sample rate 16000 and a front end of 32000 Hz"),
        (card, {"seconds": 5.0}, "input of 1001 frames; a clip of 5 s has 501"),
        (model, {"labels": labels}, "expected --front-end"),
        (model, {"labels": labels, "front_end": EFFICIENTAT_32K}, "64 mels; expected 128"),
        (yamnet, {"seconds": 1.0}, "are 0.975 s"),
        (yamnet, {"sample_rate": 5}, "sample rate 5; expected"),
        (yamnet, {"labels": labels}, "expected one with 22 values"),
    ):
        with pytest.raises(BundleError, match=message):
            adopt(file, out=tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"last": "TANH"}, "such as logits; expected probabilities"),
        ({"gain": 0.0}, "the same probabilities for every sound"),
        ({"gain": float("nan")}, "NaN or Inf"),
        ({"about": None}, "no class names"),
        ({"about": replace(ABOUT, sample_rate=None)}, "expected --sample-rate HZ"),
    ],
)
def test_models_that_cannot_be_sound(form: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(yamnet_form(**form))
    with pytest.raises(BundleError, match=message):
        adopt(path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_metadata_raise_one_kind_of_error() -> None:
    data = _metadata(replace(ABOUT, tensors={"waveform": "", "probs": ""}), inputs=["waveform"], outputs=["probs"])
    whole, read, rng = yamnet_form(about=replace(ABOUT, tensors={"waveform": ""})), 0, np.random.default_rng(0)
    start = whole.index(data[:200])
    assert read_about(whole, "model").labels == YAMNET_LABELS.encode()
    for _ in range(300):
        part = damaged(data, rng)[: len(data)].ljust(len(data), b"\0")
        try:
            read_about(whole[:start] + part + whole[start + len(data) :], "model")
            read += 1
        except BundleError as error:
            assert "TFLite Metadata are damaged" in str(error)
    assert 0 < read < 300


def test_front_ends_by_name_and_file(tmp_path: Path) -> None:
    assert front_end_of("PANNS_32k") == PANNS_32K
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(EFFICIENTAT_32K.to_dict()), encoding="utf-8")
    assert front_end_of(path) == EFFICIENTAT_32K
    path.write_text("[]", encoding="utf-8")
    for name in (path, "panns", tmp_path / "none.json"):
        with pytest.raises(SpecError, match="expected"):
            front_end_of(name)


def test_a_checkpoint_proves_it(card: Path, tmp_path: Path) -> None:
    bundle = adopt_proven(card, "demo", checkpoint=CHECKPOINT, out=tmp_path / "proven").bundle
    assert bundle.manifest.proven
    assert bundle.manifest.model == "demo"
    assert {check.stage for check in bundle.manifest.parity} == {"front_end", "network", "fp16"}
    assert "Not proven" not in bundle.file("model_card").read_text(encoding="utf-8")
    assert all(check.passed for check in verify(bundle, checkpoint=CHECKPOINT))
    assert publish(bundle, "org/name", dry_run=True).url is None


def test_another_network_is_not_proven(card: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:  # one bias of the last layer
        graph = model.subgraphs[0]
        small = min((t for t in graph.tensors if list(t.shape) == [22]), key=lambda t: len(t.shape))
        data = np.frombuffer(bytes(model.buffers[small.buffer].data), np.float32).copy()
        data[3] += 2
        model.buffers[small.buffer].data = np.frombuffer(data.tobytes(), np.uint8)

    model = card / "cnn14_audioset_fp16.tflite"
    edited_graph(model, model, change)
    with pytest.raises(ParityError, match="fp16/probs"):
        adopt_proven(card, "demo", checkpoint=CHECKPOINT, out=tmp_path / "proven")
    assert not (tmp_path / "proven").exists()
    names = [f"class {i}" for i in range(22)]
    with pytest.raises(BundleError, match="not the class names of demo"):
        adopt_proven(card, "demo", checkpoint=CHECKPOINT, labels=names, out=tmp_path / "proven")


def test_the_command(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = run_command(capsys, "adopt", card)
    assert "NOT PROVEN" in out
    assert "no embedding" in err
    found = json.loads(run_command(capsys, "adopt", card, "--json", "--out", "again")[0])
    assert (found["proven"], Path(found["bundle"]).name) == (False, "again")
    clip = next(path for path in demo_clips() if "siren" in path.name)
    out, err = run_command(capsys, "tag", clip, "--model", "./cnn14_audioset_fp16", "--json")
    assert json.loads(out)["results"][0]["tags"][0]["label"] == "Siren"
    assert "proven" not in err
    for words in (["embed", clip], ["tag", clip, "--json", "--embedding"]):
        assert "has no embedding" in run_command(capsys, *words, "--model", "./again", code=2)[1]
    assert "not proven" in run_command(capsys, "verify", "./again", code=2)[1]
    assert "--model" in run_command(capsys, "adopt", card, "--checkpoint", CHECKPOINT, code=2)[1]
