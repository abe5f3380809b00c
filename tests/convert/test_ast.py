"""AST: network, loader and front end against transformers, and a graph that the GPU delegate runs completely."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from support import operators_of
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from transformers.audio_utils import mel_filter_bank
from transformers.core_model_loading import revert_weight_conversion

from panns_litert import Tagger, load_audio, windows
from panns_litert.demo import demo_audio, demo_clips
from panns_litert.engine import CpuEngine
from panns_litert.errors import AudioError, CheckpointError, ModelError, SpecError
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_32K, FrontEndSpec, LogMel, mel_basis
from panns_litert.proof import GpuReport, gpu_check
from panns_litert_convert.checkpoints import load_weights
from panns_litert_convert.convert import convert
from panns_litert_convert.export import cast_fp16, export_fp32
from panns_litert_convert.networks import Ast, ast
from panns_litert_convert.references import AstLogMel, front_end_sounds
from panns_litert_convert.sweep import recipe_state
from panns_litert_convert.zoo import find

CLASSES = 11
SMALL = {"hidden": 64, "layers": 2, "heads": 4, "intermediate": 96, "frames": 96, "n_mels": 128}

MODEL = find("ast")


def load_ast(path: Path) -> Ast:
    """A small AST with the weights of a checkpoint."""
    network = Ast(CLASSES, **SMALL).eval()
    load_weights(network, path, MODEL)
    return network


RELATIVE = 1e-5
"""Largest allowed error against transformers, as a share of the output's range (maximum minus minimum)."""

GATES = {"fp32": 1e-4, "fp16": 5e-3}
"""Largest allowed error of a probability, by the precision of the .tflite."""


def randomise(network: nn.Module, *, outlier: float = 0.0) -> None:
    """Fill a network with random weights so that every parameter affects the output.

    Args:
        network: is changed in place.
        outlier: added to feature 3 of every position embedding, so that every token has one huge value.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "token" in name or "position" in name or name.endswith("bias"):
                weight.normal_(0, 0.2, generator=generator)
            elif weight.dim() == 1:  # scales of layer norms
                weight.uniform_(0.8, 1.2, generator=generator)
            else:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
            if "position" in name:
                weight[..., 3] += outlier


def logmels(clips: int, *, frames: int = 96, seed: int = 1) -> Tensor:
    """Random log-mels (clips, 1, frames, 128) like those of the front end: mean 0, standard deviation 0.5."""
    return 0.5 * torch.randn(clips, 1, frames, 128, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Original:
    """transformers' model with random weights.

    Attributes:
        folder: written by its `save_pretrained`.
        logmel: two clips (2, 1, 96, 128).
        outputs: its logits and embeddings of the clips.
        in_memory: its state dict, with the names that transformers uses in memory.
    """

    folder: Path
    logmel: Tensor
    outputs: dict[str, Tensor]
    in_memory: dict[str, Tensor]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    config = ASTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_length=96,
        num_mel_bins=128,
        num_labels=CLASSES,
    )
    model = ASTForAudioClassification(config).eval()
    randomise(model)
    folder = tmp_path_factory.mktemp("ast")
    model.save_pretrained(folder)
    logmel = logmels(2)
    with torch.inference_mode():
        outputs = {
            "logits": model(logmel[:, 0]).logits,
            "embedding": model.audio_spectrogram_transformer(logmel[:, 0]).pooler_output,
        }
    return Original(folder, logmel, outputs, model.state_dict())


def shares(network: Ast, original: Original) -> dict[str, float]:
    """Return each output's largest error against transformers, as a share of the output's range."""
    with torch.inference_mode():
        got = network.trace(original.logmel)
    return {
        name: float((got[name] - want).abs().max() / (want.max() - want.min()))
        for name, want in original.outputs.items()
    }


def test_full_size_keys_and_shapes_are_those_of_the_hub() -> None:
    with torch.device("meta"):
        model, ours = ASTForAudioClassification(ASTConfig(num_labels=527)), Ast().state_dict()
    theirs = revert_weight_conversion(model, model.state_dict())  # names as `save_pretrained` writes them
    assert {key: t.shape for key, t in ours.items()} == {key: t.shape for key, t in theirs.items()}
    assert sum(t.numel() for t in ours.values()) == 86_594_063
    # A name of the published checkpoint. transformers may change its names in memory.
    assert "audio_spectrogram_transformer.encoder.layer.11.attention.attention.query.weight" in ours


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_outputs_are_those_of_transformers(original: Original, file: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((original.folder / "config.json").read_bytes())
    state = load_file(original.folder / "model.safetensors")
    if file.endswith(".bin"):
        torch.save(state, tmp_path / file)
    else:
        save_file(state, tmp_path / file)
    for path in (tmp_path, tmp_path / file):
        errors = shares(load_ast(path), original)
        print(file, errors)
        assert max(errors.values()) <= RELATIVE


def _tanh_gelu(network: Ast, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(F, "gelu", partial(F.gelu, approximate="tanh"))


def _another_order_of_patches(network: Ast, patch: pytest.MonkeyPatch) -> None:
    embeddings = network.audio_spectrogram_transformer["embeddings"]
    embeddings.rows, embeddings.columns = embeddings.columns, embeddings.rows


def _another_scale(network: Ast, patch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "query" in name:
                weight *= 1.001


def _tokens_swapped(network: Ast, patch: pytest.MonkeyPatch) -> None:
    embeddings = network.audio_spectrogram_transformer["embeddings"]
    embeddings.cls_token, embeddings.distillation_token = embeddings.distillation_token, embeddings.cls_token


def _common_epsilon(network: Ast, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ast.LayerNorm, "forward", lambda self, x: F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-3))


@pytest.mark.parametrize(
    "alter", [_tanh_gelu, _another_order_of_patches, _another_scale, _tokens_swapped, _common_epsilon]
)
def test_another_network_exceeds_the_bound(
    original: Original, alter: Callable[[Ast, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_ast(original.folder)
    alter(network, monkeypatch)
    errors = shares(network, original)
    print(errors)
    assert min(errors.values()) > 2 * RELATIVE


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_layer_norm_equals_pytorchs(scale: float) -> None:
    norm, plain = ast.LayerNorm(64), nn.LayerNorm(64, 1e-12)
    randomise(norm)
    plain.load_state_dict(norm.state_dict())
    x = scale * torch.randn(5, 7, 64, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(norm(x), plain(x), atol=3e-6, rtol=0)


def test_impossible_sizes_are_refused() -> None:
    for options in ({"heads": 5}, {"heads": 0}, {"n_mels": 127}, {"frames": 15}, {"layers": 0}):
        with pytest.raises(ModelError, match="expected hidden a multiple of heads, n_mels even"):
            Ast(**(SMALL | options))


# ---- loading


def test_names_in_transformers_memory_are_refused_by_name(original: Original, tmp_path: Path) -> None:
    torch.save(original.in_memory, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing .*encoder\.layer\.0.*unknown .*layers\.0\.attention\.k_proj"):
        load_ast(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'; expected 'gelu'"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps = 1e-06; expected 1e-12"),
        ({"time_stride": 8}, "time_stride = 8; expected 10"),
        ({"num_attention_heads": 8}, "num_attention_heads = 8; expected 4"),
        ({"max_length": 512}, "max_length = 512; expected 96"),
        ({"num_mel_bins": 64}, "num_mel_bins = 64; expected 128"),
    ],
)
def test_settings_that_differ_from_the_network(
    original: Original, tmp_path: Path, setting: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(original.folder, tmp_path / "ast")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | setting
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{message}"):
        load_ast(folder)


def preprocessed(original: Original, folder: Path, **settings: Any) -> Path:
    """A copy of the original's folder with the settings of its log-mel, as transformers writes them."""
    shutil.copytree(original.folder, folder)
    ASTFeatureExtractor(max_length=96).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    return folder


def test_the_log_mel_of_a_hubs_folder_must_be_the_models(original: Original, tmp_path: Path) -> None:
    assert max(shares(load_ast(preprocessed(original, tmp_path / "ast")), original).values()) <= RELATIVE


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mean": -6.845978}, "mean = -6.845978; expected -4.2677393"),
        ({"std": 5.5654526}, "std = 5.5654526; expected 4.5689974"),
        ({"max_length": 128}, "max_length = 128; expected 96"),
        ({"sampling_rate": 32000}, "sampling_rate = 32000; expected 16000"),
        ({"num_mel_bins": 64}, "num_mel_bins = 64; expected 128"),
        ({"do_normalize": False}, "do_normalize = False; expected True"),
        ({"do_normalize": 1}, "do_normalize = 1; expected True"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, "expected 'ASTFeatureExtractor'"),
        ({"mean": "\x1b[31m"}, r"mean = '\\x1b\[31m'; expected"),
    ],
)
def test_another_log_mel_is_refused(original: Original, tmp_path: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"preprocessor_config\.json: .*{message}"):
        load_ast(preprocessed(original, tmp_path / "ast", **setting))


def test_files_that_cannot_be_read(original: Original, tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"no tensors")
        with pytest.raises(CheckpointError, match=f"{name}: .*not a checkpoint"):
            load_ast(tmp_path)
        (tmp_path / name).unlink()
    folder = shutil.copytree(original.folder, tmp_path / "ast")
    config = (folder / "config.json").read_text(encoding="utf-8")
    for text in ("{", "[]", "[" * 10_000, '{"patch_size": ' + "1" * 5000 + "}", '{"layer_norm_eps": NaN}', "null"):
        (folder / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"config\.json") as caught:
            load_ast(folder)
        assert len(str(caught.value)) < 300 + len(str(folder))
    (folder / "config.json").write_text(config, encoding="utf-8-sig")
    load_ast(folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json: not a regular file"):
        load_ast(folder)


# ---- export


@dataclass(frozen=True)
class Exported:
    """An AST as .tflite files by precision, with inputs and PyTorch's outputs for them."""

    files: dict[str, Path]
    inputs: list[dict[str, NDArray[np.float32]]]
    outputs: list[dict[str, NDArray[np.float32]]]

    def on_gpu(self, precision: str) -> GpuReport:
        return gpu_check(self.files[precision], inputs=self.inputs, references=self.outputs, audit=False)


def export(network: nn.Module, folder: Path) -> Exported:
    inputs = logmels(2).split(1)
    with torch.inference_mode():
        outputs = [{name: values.numpy() for name, values in network(x).items()} for x in inputs]
    files = {"fp32": folder / "ast_fp32.tflite", "fp16": folder / "ast_fp16.tflite"}
    export_fp32(network, {"logmel": inputs[0]}, files["fp32"], log=folder / "log")
    cast_fp16(files["fp32"], files["fp16"], log=folder / "log")
    return Exported(files, [{"logmel": x.numpy()} for x in inputs], outputs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small AST. One value in every token has a square that overflows float16."""
    network = Ast(CLASSES, **SMALL).eval()
    randomise(network, outlier=300.0)
    return export(network, tmp_path_factory.mktemp("exported"))


def probs_error(exported: Exported, precision: str) -> float:
    engine = CpuEngine(exported.files[precision], threads=1)
    assert list(engine.outputs) == ["probs", "embedding"]
    return max(
        float(np.abs(engine.run(values)["probs"] - want["probs"]).max())
        for values, want in zip(exported.inputs, exported.outputs, strict=True)
    )


@pytest.mark.parametrize("precision", GATES)
def test_tflite_is_the_network(exported: Exported, precision: str) -> None:
    error = probs_error(exported, precision)
    print(f"{precision}: {error:.2e}")
    assert error <= GATES[precision]


def test_graph_is_clean_for_a_gpu(exported: Exported) -> None:
    """No gather, broadcast or select; rank ≤ 4; the only transposes are those of the attention heads."""
    operators, ranks = operators_of(exported.files["fp32"])
    assert set(operators) <= {
        "ABS", "ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DELEGATE", "DIV", "FULLY_CONNECTED", "GELU",
        "LOGISTIC", "MEAN", "MUL", "REDUCE_MAX", "RESHAPE", "RSQRT", "SLICE", "SOFTMAX", "SUB", "TRANSPOSE",
    }  # fmt: skip
    counts = {name: operators.count(name) for name in ("BATCH_MATMUL", "CONV_2D", "GELU", "TRANSPOSE")}
    assert counts == {"BATCH_MATMUL": 4, "CONV_2D": 1, "GELU": 2, "TRANSPOSE": 8}
    assert max(ranks) <= 4


@pytest.mark.usefixtures("vulkan")
@pytest.mark.parametrize("precision", GATES)
def test_whole_on_the_gpu(exported: Exported, precision: str) -> None:
    report = exported.on_gpu(precision)
    for check in report.checks:
        print(f"{precision} {check.output}: {check.max_abs:.2e}, corr {check.corr}")
    assert report.passed, report.why
    assert report.resident
    assert not report.refused


@pytest.mark.usefixtures("vulkan")
def test_a_plain_layer_norm_is_caught_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The squares of a plain layer norm overflow on the GPU. The CPU does not show it."""
    monkeypatch.setattr(
        ast.LayerNorm, "forward", lambda self, x: F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-12)
    )
    network = Ast(CLASSES, **SMALL).eval()
    randomise(network, outlier=300.0)
    plain = export(network, tmp_path)
    assert probs_error(plain, "fp16") <= GATES["fp16"]
    report = plain.on_gpu("fp16")
    print(report.why)
    assert report.resident
    assert not report.passed


class _EvenAttention(nn.Module):
    """The attention of one layer, with nearly equal weights for all tokens and values of about 1.

    Args:
        plain: whether to write the attention as transformers does, instead of `ast.Layer`'s own way.
    """

    def __init__(self, *, plain: bool) -> None:
        super().__init__()
        self.layer, self.plain = ast.Layer(hidden=64, heads=2, intermediate=64), plain
        randomise(self.layer)
        projections = self.layer.attention["attention"]
        with torch.no_grad():
            projections["query"].weight *= 0.1
            projections["value"].weight *= 0.1
            projections["value"].bias += 1.0

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        if not self.plain:
            return {"attended": self.layer._attend(tokens, 16)}
        query = self.layer._project("query", tokens[:, :16]) * 32**-0.5
        key, value = self.layer._project("key", tokens), self.layer._project("value", tokens)
        gathered = ((query @ key.transpose(1, 2)).softmax(2) @ value).transpose(0, 1).reshape(16, 1, 64)
        return {"attended": self.layer.get_submodule("attention.output.dense")(gathered.transpose(0, 1))}


@pytest.mark.usefixtures("vulkan")
def test_even_attention_on_the_gpu(tmp_path: Path) -> None:
    """A float16 sum of a thousand small terms of one sign drifts. With the mean subtracted first, it does not."""
    tokens = torch.randn(1, 1214, 64, generator=torch.Generator().manual_seed(6))  # 1214: AST's number of tokens
    errors = {}
    for plain in (False, True):
        network = _EvenAttention(plain=plain).eval()
        with torch.inference_mode():
            want = {name: values.numpy() for name, values in network(tokens).items()}
        path = tmp_path / f"{plain}.tflite"
        export_fp32(network, {"tokens": tokens}, path, log=tmp_path / "log")
        report = gpu_check(path, inputs=[{"tokens": tokens.numpy()}], references=[want], audit=False)
        errors[plain] = report.checks[0].max_abs or np.inf
    print(errors)
    assert errors[False] < 0.005
    assert errors[True] > 3 * errors[False]


@pytest.mark.full
def test_full_size(tmp_path: Path) -> None:
    """Convert a folder in the hub's format, and tag: every stage passes, and a short clip is padded as in training."""
    hub = tmp_path / "hub"
    ASTConfig(num_labels=527).save_pretrained(hub)
    save_file(recipe_state(MODEL), hub / "model.safetensors")
    bundle = convert("ast", checkpoint=hub, out=tmp_path / "bundle")
    assert {check.stage for check in bundle.manifest.parity} == {"front_end", "network", "fp32", "fp16"}
    assert bundle.file("model").stat().st_size < 180e6
    network = MODEL.build().eval()
    load_weights(network, hub, MODEL)
    clip = load_audio(demo_clips()[0], sample_rate=16000).waveform
    assert len(clip) < 160000
    with torch.inference_mode():
        want = network(torch.from_numpy(AstLogMel(AST_16K)(clip))[None, None])["probs"][0].numpy()
    tagger = Tagger(bundle)
    for probs in (tagger.tag(clip, sample_rate=16000).probs, next(windows(tagger, clip, sample_rate=16000)).probs):
        assert np.abs(probs - want).max() <= GATES["fp16"]
    silent = np.concatenate((clip, np.zeros(160000 - len(clip), np.float32)))
    assert np.abs(tagger.tag(silent, sample_rate=16000).probs - want).max() > GATES["fp16"]


# ---- front end

FBANK_ERROR = 1e-6
"""Largest allowed error against transformers' float64, in normalised units; one unit is 40 dB."""


def sounds() -> dict[str, NDArray[np.float32]]:
    found = front_end_sounds(16000) | {f"demo {i}": clip for i, clip in enumerate(demo_audio(16000, 160000))}
    rng = np.random.default_rng(3)
    found["one frame"] = rng.standard_normal(400).astype(np.float32)
    found["not quite two"] = rng.standard_normal(559).astype(np.float32)
    found["too long"] = rng.standard_normal(11 * 16000).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def extracted() -> dict[str, NDArray[np.float32]]:
    """transformers' log-mels of the sounds (1024, 128)."""
    extractor = ASTFeatureExtractor()
    return {
        name: np.asarray(extractor(sound, sampling_rate=16000, return_tensors="np")["input_values"][0])
        for name, sound in sounds().items()
    }


def errors_of(spec: FrontEndSpec, extracted: dict[str, NDArray[np.float32]]) -> dict[str, float]:
    logmel = LogMel(spec)
    return {name: float(np.abs(logmel(sound) - extracted[name]).max()) for name, sound in sounds().items()}


def test_log_mel_is_that_of_transformers(extracted: dict[str, NDArray[np.float32]]) -> None:
    errors = errors_of(AST_16K, extracted)
    for name, error in errors.items():
        print(f"{name}: {error:.1e}")
    assert max(errors.values()) <= FBANK_ERROR


@pytest.mark.parametrize(
    "change",
    [
        {"pre_emphasis": 0.95},
        {"amin": 1e-7},
        {"affine": (4.2, 9.1379948)},
        {"hop_length": 161},
        {"fmin": 25.0},
        {"n_fft": 400},
        {"win_length": 398},
    ],
)
def test_another_log_mel_exceeds_the_bound(change: dict[str, Any], extracted: dict[str, NDArray[np.float32]]) -> None:
    assert max(errors_of(replace(AST_16K, **change), extracted).values()) > 10 * FBANK_ERROR


def test_another_window_exceeds_the_bound(extracted: dict[str, NDArray[np.float32]]) -> None:
    logmel = LogMel(AST_16K)
    logmel._window64 = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # periodic
    assert max(float(np.abs(logmel(x) - extracted[name]).max()) for name, x in sounds().items()) > 10 * FBANK_ERROR


def test_the_reference_of_the_front_end_stage_is_transformers(extracted: dict[str, NDArray[np.float32]]) -> None:
    for name, sound in sounds().items():
        assert np.array_equal(AstLogMel(AST_16K)(sound), extracted[name])


def test_basis_is_that_of_transformers() -> None:
    want = mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=128,
        min_frequency=20,
        max_frequency=8000,
        sampling_rate=16000,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    assert np.abs(mel_basis(AST_16K) - want.T).max() <= 1e-7


def test_padding_is_not_silence() -> None:
    """Missing frames are zero before normalisation; silent frames are at the floor of the logarithm."""
    logmel = LogMel(AST_16K)(np.zeros(160000, np.float32))
    assert logmel.shape == (1024, 128)
    assert logmel.dtype == np.float32
    assert np.unique(logmel[:998]) == pytest.approx((np.log(2.0**-23) + 4.2677393) / 9.1379948)
    assert np.unique(logmel[998:]) == pytest.approx(4.2677393 / 9.1379948)


def test_batch_offset_and_nan() -> None:
    logmel, rng = LogMel(replace(AST_16K, padded_frames=20)), np.random.default_rng(4)
    batch = 0.1 * rng.standard_normal((2, 4000))
    assert np.array_equal(logmel(batch), np.stack([logmel(clip) for clip in batch]))
    assert np.allclose(logmel(batch + 0.25), logmel(batch), atol=1e-5)  # the mean of every frame is removed
    batch[0, 2000] = np.nan
    bad = np.isnan(logmel(batch)).any(axis=2)  # (batch, frames)
    assert np.flatnonzero(bad[0]).tolist() == [11, 12]  # samples 1760 … 2159 and 1920 … 2319; frame 10 ends at 1999
    assert not bad[1].any()


def test_as_many_frames_as_fit() -> None:
    spec = replace(AST_16K, padded_frames=None)
    sound = np.random.default_rng(5).standard_normal(4000).astype(np.float32)
    assert LogMel(spec)(sound).shape == (spec.frames(4000), 128) == ((4000 - 400) // 160 + 1, 128)
    assert np.array_equal(LogMel(spec)(sound), LogMel(AST_16K)(sound)[: spec.frames(4000)])
    assert spec.most_samples is None
    most = AST_16K.most_samples
    assert most is not None
    assert spec.frames(most) == 1024
    assert spec.frames(most + 1) == 1025


def test_log_mel_refuses() -> None:
    for sound, message in (
        (np.zeros(399, np.float32), "399 samples; expected at least 400"),
        (np.zeros(16000, np.int16), "dtype int16"),
        (np.zeros((1, 1, 16000), np.float32), "expected .samples,. or .batch, samples."),
    ):
        with pytest.raises(AudioError, match=message):
            LogMel(AST_16K)(sound)


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (AST_16K, {"padded_frames": 0}, "padded_frames = 0; expected a whole number"),
        (AST_16K, {"padded_frames": True}, "padded_frames = True; expected a whole number"),
        (AST_16K, {"remove_dc": False}, "remove_dc = False is not implemented with center = False"),
        (AST_16K, {"remove_dc": 1}, "remove_dc = 1 is not implemented"),
        (AST_16K, {"log_offset": 1e-5}, "log_offset = 1e-05 is not implemented with center = False"),
        (AST_16K, {"amin": 0.0}, "amin = 0.0; expected"),
        (AST_16K, {"affine": None}, "affine = None; expected"),
        (AST_16K, {"pre_emphasis": 0.0}, "pre_emphasis = 0.0; expected"),
        (AST_16K, {"center": 0}, "center = 0 is not implemented"),
        (EFFICIENTAT_32K, {"center": False}, "log_offset = 1e-05 is not implemented with center = False; expected"),
        (EFFICIENTAT_32K, {"padded_frames": 1000}, "padded_frames = 1000 is not implemented with center = True"),
        (PANNS_32K, {"center": False}, "center = False is not implemented with mel_scale = 'slaney'"),
        (PANNS_32K, {"remove_dc": True}, "remove_dc = True is not implemented"),
        (PANNS_32K, {"padded_frames": 1000}, "padded_frames = 1000 is not implemented"),
    ],
)
def test_specs_that_mix_definitions(spec: FrontEndSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(spec, **change)


def test_spec_round_trips_through_json() -> None:
    assert FrontEndSpec.from_dict(json.loads(json.dumps(AST_16K.to_dict()))) == AST_16K
