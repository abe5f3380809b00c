"""EfficientAT: the front end against float64 and golden figures; the networks in PyTorch, as .tflite and on the GPU."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from support import AUDIO, needs_shared, operators_of, real_network
from torch import Tensor, nn

from panns_litert.audio import load_audio
from panns_litert.bundle import file_sha256
from panns_litert.engine import CpuEngine
from panns_litert.errors import AudioError, CheckpointError, SpecError
from panns_litert.frontend import EFFICIENTAT_32K, PANNS_32K, FrontEndSpec, LogMel, mel_basis
from panns_litert.frontend import logmel as frontend
from panns_litert.proof import GATES, gpu_check
from panns_litert_convert.checkpoints import load_weights
from panns_litert_convert.export import cast_fp16, export_fp32
from panns_litert_convert.networks import MobileNetV3, efficientat
from panns_litert_convert.networks.efficientat import InvertedResidual, PointwiseLinear, channels
from panns_litert_convert.references import (
    EfficientatLogMel,
    float64_logmel,
    front_end_sounds,
    kaldi_basis,
    to_decibels,
)
from panns_litert_convert.stages import NEAR_DB, network_stage
from panns_litert_convert.zoo import asset, find, golden_figures, golden_shapes, size_of
from panns_litert_golden.recipe import waveform, weights

# Width, and millions of parameters from the table in EfficientAT's README.
NETWORKS = {
    "mn04_as": (0.4, 0.983),
    "mn05_as": (0.5, 1.43),
    "mn10_as": (1.0, 4.88),
    "mn20_as": (2.0, 17.91),
    "mn30_as": (3.0, 39.09),
    "mn40_as": (4.0, 68.43),
}
GOLDEN = ("mn04_as", "mn10_as")
MEL_UNIT = 1e-3
"""Largest allowed error of the log-mel, in units of the network's input; one unit is 22 dB."""


# --- front end ---


def test_mel_basis_is_kaldis() -> None:
    """Matches float64 to float32 precision, and torchaudio's to the error of its float32 computation."""
    ours, torchaudio = mel_basis(EFFICIENTAT_32K), EfficientatLogMel(EFFICIENTAT_32K).basis.numpy()
    exact = kaldi_basis(EFFICIENTAT_32K)
    print(f"float64 {np.abs(ours - exact).max():.1e}, torchaudio {np.abs(ours - torchaudio).max():.1e}, ", end="")
    print(f"torchaudio from float64 {np.abs(torchaudio - exact).max():.1e}")
    assert ours.shape == (128, 513)
    assert np.abs(ours - exact).max() <= 1e-7
    assert np.abs(ours - torchaudio).max() <= 2e-5
    assert not ours[:, -1].any()  # the column that the original adds to torchaudio's


@pytest.mark.parametrize(
    "change",
    [{"n_mels": 40}, {"fmin": 20.0, "fmax": 16000.0}, {"sample_rate": 44100}, {"n_fft": 2048}],
    ids=lambda change: next(iter(change)),
)
def test_mel_basis_of_other_settings(change: dict[str, float]) -> None:
    spec = replace(EFFICIENTAT_32K, **change)
    assert np.abs(mel_basis(spec) - kaldi_basis(spec)).max() <= 1e-7


def test_logmel_is_the_originals(original_mel: NDArray[np.float32]) -> None:
    sound = waveform(32000, 10.0)
    ours, exact = LogMel(EFFICIENTAT_32K)(sound), float64_logmel(sound, EFFICIENTAT_32K)
    rebuilt = EfficientatLogMel(EFFICIENTAT_32K)(sound)
    for name, values in (("ours", ours), ("float64", exact), ("the original's definition", rebuilt)):
        print(f"{name} from the golden figures: {np.abs(values - original_mel).max():.1e}")
    assert ours.shape == original_mel.shape == (1000, 128)
    assert np.abs(ours - original_mel).max() <= MEL_UNIT
    assert np.abs(exact - original_mel).max() <= MEL_UNIT
    assert np.abs(rebuilt - original_mel).max() <= MEL_UNIT


@pytest.mark.parametrize("name", front_end_sounds(32000))
def test_logmel_is_within_the_gate_of_float64(name: str) -> None:
    """The gate of the PANNs front ends, in dB, holds for every value: the log offset keeps values above -50 dB."""
    sound = front_end_sounds(32000)[name]
    exact = to_decibels(float64_logmel(sound, EFFICIENTAT_32K), EFFICIENTAT_32K)
    error = np.abs(to_decibels(LogMel(EFFICIENTAT_32K)(sound), EFFICIENTAT_32K) - exact).max()
    original = np.abs(to_decibels(EfficientatLogMel(EFFICIENTAT_32K)(sound), EFFICIENTAT_32K) - exact).max()
    print(f"{name}: {error:.1e} dB; the original in float32: {original:.1e} dB")
    assert error <= NEAR_DB
    assert original <= 1e-2


@pytest.mark.parametrize("level", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("seed", range(4))
def test_random_tones_in_noise_hold_the_gate(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(20, 16000) / 32000 * np.arange(16000))
    sound = (level * (tone + 10 ** rng.uniform(-6, 0) * rng.standard_normal(16000))).astype(np.float32)
    got, want = LogMel(EFFICIENTAT_32K)(sound), float64_logmel(sound, EFFICIENTAT_32K)
    assert np.abs(to_decibels(got, EFFICIENTAT_32K) - to_decibels(want, EFFICIENTAT_32K)).max() <= NEAR_DB


def test_float32_alone_would_fail_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames with a wide range are computed in float64, including pre-emphasis. In float32 they fail the gate."""
    monkeypatch.setattr(frontend, "_DEVIATIONS", 0.0)
    t = np.arange(16000) / 32000
    sound = (np.sin(2 * np.pi * 10000 * t) + 1e-5 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
    got, want = LogMel(EFFICIENTAT_32K)(sound), float64_logmel(sound, EFFICIENTAT_32K)
    error = np.abs(to_decibels(got, EFFICIENTAT_32K) - to_decibels(want, EFFICIENTAT_32K)).max()
    print(f"float32 alone: {error:.1e} dB")
    assert error > NEAR_DB
    monkeypatch.undo()
    again = LogMel(EFFICIENTAT_32K)(sound)
    assert np.abs(to_decibels(again, EFFICIENTAT_32K) - to_decibels(want, EFFICIENTAT_32K)).max() <= NEAR_DB


@pytest.mark.parametrize(
    "change",
    [
        {"fmax": 14900.0},
        {"fmin": 10.0},
        {"win_length": 801},
        {"log_offset": 1.1e-5},
        {"pre_emphasis": 0.965},
        {"affine": (4.5, 5.02)},
        {"affine": (4.51, 5.0)},
    ],
    ids=str,
)
def test_another_definition_fails_against_the_original(
    change: dict[str, float], original_mel: NDArray[np.float32]
) -> None:
    got = LogMel(replace(EFFICIENTAT_32K, **change))(waveform(32000, 10.0))
    assert np.abs(got - original_mel).max() > MEL_UNIT


@pytest.mark.parametrize("samples", [514, 640, 641, 320000, 320001])
def test_pre_emphasis_shortens_by_a_sample(samples: int) -> None:
    logmel = LogMel(EFFICIENTAT_32K)(np.zeros(samples, np.float32))
    assert len(logmel) == EFFICIENTAT_32K.frames(samples) == (samples - 1) // 320 + 1


@pytest.mark.parametrize("samples", [0, 1, 513])
def test_too_short_for_reflection(samples: int) -> None:
    with pytest.raises(AudioError, match=r"expected at least 514; pad"):
        LogMel(EFFICIENTAT_32K)(np.zeros(samples, np.float32))


def test_silence_and_batches() -> None:
    logmel = LogMel(EFFICIENTAT_32K)
    batch = np.stack([np.zeros(16000, np.float32), waveform(32000, 0.5)])
    assert np.abs(logmel(batch)[0] - (np.log(1e-5) + 4.5) / 5).max() <= 1e-6
    assert np.array_equal(logmel(batch)[1], logmel(batch[1]))


def test_spec_round_trips_through_json() -> None:
    text = json.dumps(EFFICIENTAT_32K.to_dict())
    assert json.loads(text) == EFFICIENTAT_32K.to_dict()
    assert FrontEndSpec.from_dict(json.loads(text)) == EFFICIENTAT_32K


def test_specs_of_panns_keep_their_json() -> None:
    assert json.dumps(PANNS_32K.to_dict()) == (
        '{"sample_rate": 32000, "n_fft": 1024, "win_length": 1024, "hop_length": 320, "n_mels": 64, "fmin": 50.0, '
        '"fmax": 14000.0, "window": "hann", "center": true, "pad_mode": "reflect", "power": 2.0, '
        '"mel_scale": "slaney", "mel_norm": "slaney", "log": "10log10", "amin": 1e-10, "log_offset": null, '
        '"pre_emphasis": 0.0, "affine": null, "remove_dc": false, "padded_frames": null}'
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", "hann"),
        ("mel_scale", "slaney"),
        ("mel_scale", ["kaldi"]),
        ("mel_norm", "slaney"),
        ("log", "10log10"),
        ("amin", 1e-10),
        ("log_offset", None),
        ("log_offset", 0.0),
        ("log_offset", float("nan")),
        ("log_offset", "1e-5"),
        ("log_offset", 10**400),
        ("pre_emphasis", 0.0),
        ("pre_emphasis", 1.0),
        ("pre_emphasis", True),
        ("affine", None),
        ("affine", (4.5,)),
        ("affine", (4.5, 0.0)),
        ("affine", (4.5, -5.0)),
        ("affine", (4.5, 1e-300)),
        ("affine", (float("inf"), 5.0)),
        ("affine", (4.5, "5")),
        ("affine", "45"),
    ],
)
def test_spec_refuses(field: str, value: object) -> None:
    # With another mel scale, the error names the first field that does not fit it.
    named = "window" if (field, value) == ("mel_scale", "slaney") else field
    with pytest.raises(SpecError, match=f"{named} = .*expected"):
        FrontEndSpec(**(EFFICIENTAT_32K.to_dict() | {field: value}))


# --- networks ---


@pytest.fixture(scope="module")
def original_mel() -> NDArray[np.float32]:
    """The original's log-mel of the golden waveform (frames, mels)."""
    return golden_figures("mn04_as")["logmel"]


def load(network: MobileNetV3, state: dict[str, Tensor]) -> MobileNetV3:
    """Load a state dict, strictly. Golden files have no counters, so the network keeps its own."""
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(counters | state, strict=True)
    return network.eval()


def recipe_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in weights(shapes).items()}


def golden_errors(network: MobileNetV3, name: str) -> dict[str, float]:
    """Return the largest error of every golden array, as a share of the array's range."""
    figures = golden_figures(name)
    with torch.inference_mode():
        found = network.trace(torch.from_numpy(figures["logmel"])[None, None])
    return {
        key: float(np.abs(found[key][0].numpy() - figures[key]).max() / np.ptp(figures[key]))
        for key in ("logits", "embedding")
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_the_published_ones(name: str) -> None:
    width, millions = NETWORKS[name]
    with torch.device("meta"):
        network = MobileNetV3(width=width)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{name}: {parameters} parameters")
    assert parameters / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("name", GOLDEN)
def test_outputs_are_the_originals(name: str) -> None:
    network = load(MobileNetV3(width=NETWORKS[name][0]), recipe_state(golden_shapes(name)))
    errors = golden_errors(network, name)
    print(f"{name}: " + ", ".join(f"{key} {error:.1e} of its spread" for key, error in errors.items()))
    assert max(errors.values()) <= 1e-4


@needs_shared
def test_outputs_are_the_originals_with_real_weights() -> None:
    errors = golden_errors(real_network(), "published/mn04_as_real")
    print(", ".join(f"{key} {error:.1e} of its spread" for key, error in errors.items()))
    assert max(errors.values()) <= 1e-4


def _upright_kernels(network: MobileNetV3) -> None:
    for module in network.modules():
        if isinstance(module, efficientat.Conv):
            module.__class__ = nn.Conv2d


def _another_epsilon(network: MobileNetV3) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5


def _no_residual(network: MobileNetV3) -> None:
    block = network.features[15]
    assert isinstance(block, InvertedResidual)
    block.residual = False


def _no_squeeze(network: MobileNetV3) -> None:
    last = [module for module in network.modules() if isinstance(module, PointwiseLinear)][-1]
    nn.init.zeros_(last.weight)


def _relu_head(network: MobileNetV3) -> None:
    network.classifier[1] = nn.ReLU()


@pytest.mark.parametrize("damage", [_upright_kernels, _another_epsilon, _no_residual, _no_squeeze, _relu_head])
def test_another_network_fails(damage: Callable[[MobileNetV3], None]) -> None:
    network = load(MobileNetV3(width=0.4), recipe_state(golden_shapes("mn04_as")))
    damage(network)
    errors = golden_errors(network, "mn04_as")
    print(errors)
    assert errors["logits"] > 1e-4


@pytest.mark.parametrize(("asked", "given"), [(6.4, 8), (16, 16), (12, 16), (20, 24), (11, 16), (96, 96), (44.8, 48)])
def test_channels_are_multiples_of_eight(asked: float, given: int) -> None:
    assert channels(asked) == given


def narrow_network() -> MobileNetV3:
    """A network with every kind of layer and few channels.

    With unscaled recipe weights, sums grow to hundreds and the GPU's float16 exceeds its gate, unlike any trained
    network. So the blocks' outputs are scaled down, and the logits are a few units.
    """
    network = MobileNetV3(classes=20, width=0.2)
    shapes = {k: tuple(t.shape) for k, t in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    state = recipe_state(shapes)
    for i, block in enumerate(network.features[1:-1], start=1):
        assert isinstance(block, InvertedResidual)
        state[f"features.{i}.block.{len(block.block) - 1}.1.weight"] *= 0.7
    state["classifier.5.weight"] *= 5.0
    return load(network, state)


def test_any_length_and_batch() -> None:
    network = narrow_network()
    logmel = torch.from_numpy(np.stack([LogMel(EFFICIENTAT_32K)(waveform(32000, 1.3, seed)) for seed in range(3)]))
    with torch.inference_mode():
        together = network(logmel[:, None])
        alone = [network(clip[None, None])["probs"] for clip in logmel]
    assert together["probs"].shape == (3, 20)
    assert together["embedding"].shape == (3, channels(160 * 0.2) * 6)
    assert torch.allclose(torch.cat(alone), together["probs"], atol=1e-5)


def test_dropout_in_training_only() -> None:
    network, embedding = narrow_network(), torch.ones(1, 192)
    assert torch.equal(network.logits(embedding), network.logits(embedding))
    network.train()
    assert not torch.equal(network.logits(embedding), network.logits(embedding))


@dataclass(frozen=True)
class Export:
    """The narrow network as a .tflite, an input (1, 1, frames, mels), and PyTorch's outputs for it."""

    path: Path
    logmel: NDArray[np.float32]
    wanted: dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder, network = tmp_path_factory.mktemp("efficientat"), narrow_network()
    logmel = LogMel(EFFICIENTAT_32K)(waveform(32000, 1.3))[None, None]
    with torch.inference_mode():
        wanted = {name: value.numpy() for name, value in network(torch.from_numpy(logmel)).items()}
    assert np.ptp(wanted["probs"]) > 0.5  # a flat output would not tell networks apart
    path = folder / "narrow.tflite"
    export_fp32(network, {"logmel": torch.from_numpy(logmel)}, path, log=folder / "log.txt")
    return Export(path, logmel, wanted)


def test_tflite_is_torch(narrow: Export) -> None:
    found = CpuEngine(narrow.path).run(narrow.logmel)
    assert list(found) == ["probs", "embedding"]
    for name, wanted in narrow.wanted.items():
        error = float(np.abs(found[name] - wanted).max())
        print(f"{name}: {error:.1e}")
        assert error <= 1e-4 * (1.0 if name == "probs" else np.ptp(wanted))


def test_graph_is_clean_for_a_gpu(narrow: Export) -> None:
    """No transpose, although the original takes (mels, frames); no reshape around squeeze-and-excitation."""
    operators, ranks = operators_of(narrow.path)
    print({name: operators.count(name) for name in sorted(set(operators))})
    assert set(operators) <= {
        "ADD", "CONV_2D", "DELEGATE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "HARD_SWISH", "LOGISTIC", "MEAN", "MUL",
        "PAD", "RESHAPE",
    }  # fmt: skip
    assert operators.count("RESHAPE") == 1  # the embedding
    assert operators.count("MEAN") == operators.count("LOGISTIC") == 8 + 1
    assert max(ranks) <= 4


@pytest.mark.usefixtures("vulkan")
def test_runs_whole_on_the_gpu(narrow: Export) -> None:
    report = gpu_check(narrow.path, inputs=[{"logmel": narrow.logmel}], references=[narrow.wanted], audit=False)
    print(f"{report.operators} operators, {[(check.output, check.max_abs, check.corr) for check in report.checks]}")
    assert report.refused == ()
    assert report.resident
    assert report.passed, report.why


# --- real weights and recordings ---


@needs_shared
@pytest.mark.parametrize("name", ["R9_ZSCveAHg_7s.wav", "metro_station-paris.wav"])
def test_tags_of_real_recordings(name: str, tmp_path: Path) -> None:
    """This project's resampling, log-mel and fp16 .tflite give the published tags.

    The original processes a recording at its own length, so the graph is made for that length.
    """
    published = json.loads((AUDIO / "expected_tags.json").read_text(encoding="utf-8"))
    expected = next(tags for source, tags in published.items() if source.startswith("mn04_as"))[name]
    logmel = LogMel(EFFICIENTAT_32K)(load_audio(AUDIO / name, sample_rate=32000).waveform)[None, None]
    network, log = real_network(), tmp_path / "log.txt"
    export_fp32(network, {"logmel": torch.from_numpy(logmel)}, tmp_path / "fp32.tflite", log=log)
    cast_fp16(tmp_path / "fp32.tflite", tmp_path / "fp16.tflite", log=log)
    probs = CpuEngine(tmp_path / "fp16.tflite").run(logmel)["probs"][0]
    with torch.inference_mode():
        wanted = network(torch.from_numpy(logmel))["probs"][0].numpy()
    labels = asset("audioset_labels.txt").read_text(encoding="utf-8").splitlines()
    found = {label: float(probs[labels.index(label)]) for label in expected}
    worst = max(abs(found[label] - expected[label]) for label in expected)
    print(f"{name}, {logmel.shape[2]} frames: {worst:.4f} from the original, ", end="")
    print(f"{np.abs(probs - wanted).max():.1e} from torch: {found}")
    sound = load_audio(AUDIO / name, sample_rate=32000, max_seconds=10.0).waveform
    padded = LogMel(EFFICIENTAT_32K)(np.pad(sound, (0, 320000 - len(sound))))[None, None]
    with torch.inference_mode():
        scores = network(torch.from_numpy(padded))["probs"][0].numpy()
    print(f"padded to 10 s: { {label: round(float(scores[labels.index(label)]), 2) for label in expected} }")
    assert worst <= 0.02
    bound = GATES["fp16"].max_abs
    assert bound is not None
    assert np.abs(probs - wanted).max() <= bound
    assert labels[int(probs.argmax())] == next(iter(expected))


# --- variants with another log-mel

VARIANTS = {
    "mn10_hop_5": None, "mn10_hop_15": 0.36, "mn10_hop_20": 0.27, "mn10_hop_25": 0.22,
    "mn10_mels_40": 0.21, "mn10_mels_64": 0.27, "mn10_mels_256": 1.08,
}  # fmt: skip
"""GMAC for 10 s from the table in EfficientAT's README, where it has the variant."""


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_the_original_from_samples_to_logits(name: str) -> None:
    """EfficientAT's own log-mel and network with the recipe's weights (tests/golden/make_efficientat.py)."""
    model = find(name)
    checks = network_stage(model)
    assert [check.output for check in checks] == ["logits", "embedding"]
    assert all(check.passed for check in checks)
    wrong = replace(model, front_end=EFFICIENTAT_32K)
    assert not all(check.passed for check in network_stage(wrong))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variants_computation_is_the_published_one(name: str) -> None:
    size = size_of(find(name))
    assert size.parameters == size_of(find("mn10")).parameters
    if VARIANTS[name] is not None:
        assert size.gmac == pytest.approx(VARIANTS[name], abs=0.005)


@pytest.fixture(scope="module")
def mn10_state() -> dict[str, Tensor]:
    return recipe_state(golden_shapes("mn10_as"))


def refusal(name: str, model: str, state: dict[str, Tensor], folder: Path) -> str | None:
    """Return the message of `load_weights` for a file of that name, or None if it is accepted."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    torch.save(state, path)
    record = find(model)
    try:
        load_weights(record.build(), path, record)
    except CheckpointError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("file", "model", "message"),
    [
        ("mn10_as_mels_64_mAP_461.pt", "mn10", "its name says 64 mels; .*; this is mn10_mels_64: convert that"),
        ("mn10_as_mels_64_mAP_461.pt", "mn10_mels_64", None),
        ("mn10_as_mels_64_mAP_461.pt", "mn10_mels_40", "this is mn10_mels_64"),
        ("MN10_AS_hop_15_mAP_463 (1).pt", "mn10", "this is mn10_hop_15"),
        ("mn10_as_hop_15_mAP_463.pt", "mn10_hop_15", None),
        ("mn10_as_mAP_471.pt", "mn10_mels_64", "this is mn10, with another log-mel: convert that"),
        ("mn10_as.pt", "mn10_hop_20", "this is mn10,"),
        ("mn10_as_mAP_471.pt", "mn10", None),
        ("mn10_as_esc50.pt", "mn10_mels_64", None),
        ("mn10_as_mels_64/model.safetensors", "mn10", "this is mn10_mels_64"),
        ("models--a--mn10_as_mels_64/snapshots/1f/model.safetensors", "mn10", "this is mn10_mels_64"),
        ("mine_hop_15ms.pt", "mn10", "this is mn10_hop_15"),
        ("mn10_64mels.pt", "mn10", "this is mn10_mels_64"),
        ("mine-mels-64.pt", "mn10", "its name says 64 mels; mn10 has a hop of 320 and 128 mels; this is mn10_mels_64"),
        ("mine_hop15.ckpt", "mn10", "its name says a hop of 480 samples; .*this is mn10_hop_15"),
        ("hop_size=480.pt", "mn10", "this is mn10_hop_15"),
        ("mn10_as_hop_10_mels_128.pt", "mn10", None),
        ("mn10_as_hop_7.pt", "mn10", "its name says a hop of 224 samples; .*no model here has that log-mel"),
        ("mn10_as_mels_96.pt", "mn10_mels_64", "its name says 96 mels; .*no model here has that log-mel"),
        ("mn10_as_hop_15_mels_64.pt", "mn10", "a hop of 480 samples, 64 mels; .*no model here has that log-mel"),
        ("mn10_as_hop_15_mels_64.pt", "mn10_hop_15", "no model here has that log-mel"),
        ("mn10_as_s2221.pt", "mn10", "its name says strides of 2, 2, 2, 1"),
        ("mn10_im.pt", "mn10", "weights of ImageNet, whose classifier is not trained"),
        ("mn10_im_pytorch.pt", "mn10", "weights of ImageNet"),
        ("mn10_as_ext_mAP_480.pt", "mn10", None),
        ("mn10_as_no_im_pre_mAP_470.pt", "mn10", None),
        ("shop_15_camels_64.pt", "mn10", None),
        ("weights.pt", "mn10_mels_256", None),
    ],
)
def test_the_log_mel_that_a_files_name_says(
    file: str, model: str, message: str | None, mn10_state: dict[str, Tensor], tmp_path: Path
) -> None:
    if file.endswith(".safetensors"):
        (tmp_path / file).parent.mkdir(parents=True)
        save_file(mn10_state, tmp_path / file)
        with pytest.raises(CheckpointError, match=message or ""):
            load_weights(find(model).build(), tmp_path / file, find(model))
        return
    found = refusal(file, model, mn10_state, tmp_path)
    assert found is None if message is None else re.search(message, found or "") is not None, found


def test_the_working_folders_name_counts_too(
    mn10_state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mn10_as_hop_15").mkdir()
    monkeypatch.chdir(tmp_path / "mn10_as_hop_15")
    save_file(mn10_state, "model.safetensors")
    for path in (".", "model.safetensors"):
        with pytest.raises(CheckpointError, match="this is mn10_hop_15"):
            load_weights(find("mn10").build(), path, find("mn10"))


def test_a_renamed_variant_is_known_by_its_hash(
    mn10_state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hash that its download recorded in the cache."""
    monkeypatch.setenv("PANNS_LITERT_CACHE", str(tmp_path))
    torch.save(mn10_state, tmp_path / "weights.pt")
    record = tmp_path / "checkpoints" / "mn10_as_mels_64_mAP_461.pt.sha256"
    record.parent.mkdir()
    record.write_text(f"{file_sha256(tmp_path / 'weights.pt')}\n")
    for model in ("mn10", "mn10_hop_5"):
        with pytest.raises(CheckpointError, match="this is mn10_mels_64"):
            load_weights(find(model).build(), tmp_path / "weights.pt", find(model))
    load_weights(find("mn10_mels_64").build(), tmp_path / "weights.pt", find("mn10_mels_64"))


def test_other_networks_of_efficientat_are_named(mn10_state: dict[str, Tensor], tmp_path: Path) -> None:
    """Keys of models/mn/model.py (fc) and models/dymn/model.py."""
    body = {key: tensor for key, tensor in mn10_state.items() if not key.startswith("classifier")}
    norm = {f"classifier.1.{name}": torch.ones(527) for name in ("weight", "bias", "running_mean", "running_var")}
    fc = body | norm | {"classifier.0.weight": torch.ones(527, 960, 1, 1)}
    assert "fully convolutional head (fc), which is not implemented" in str(refusal("w.pt", "mn10", fc, tmp_path))
    dymn = {"in_c.0.weight": torch.ones(16, 1, 3, 3), "layers.0.depth_norm.weight": torch.ones(16)}
    assert "a dynamic MobileNet (DyMN), which is not" in str(refusal("w.pt", "mn10", dymn, tmp_path))
