"""The PANNs networks on log-mel: the original's outputs, and graphs that the GPU delegate runs completely.

More tests of Cnn14 are in test_networks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import operators_of
from torch import Tensor, nn

from panns_litert.engine import CpuEngine
from panns_litert.proof import gpu_check
from panns_litert_convert.export import export_fp32
from panns_litert_convert.networks import (
    Cnn6,
    Cnn10,
    Cnn14,
    Cnn14DecisionLevelAtt,
    Cnn14DecisionLevelAvg,
    Cnn14DecisionLevelMax,
    LogmelCnn,
    MobileNetV1,
    MobileNetV2,
    ResNet22,
    ResNet38,
    ResNet54,
    decision_level,
)
from panns_litert_convert.networks.decision_level import STRIDE, framewise
from panns_litert_convert.networks.mobilenet import Layers, depthwise
from panns_litert_convert.zoo import golden_figures, golden_shapes
from panns_litert_golden.recipe import weights

Build = Callable[..., LogmelCnn]

# By the names of the golden files.
FULL: dict[str, Build] = {
    "Cnn6": Cnn6,
    "Cnn10": Cnn10,
    "Cnn14_16k": Cnn14,
    "Cnn14_8k": Cnn14,
    "Cnn14_emb512": partial(Cnn14, embedding=512),
    "Cnn14_emb128": partial(Cnn14, embedding=128),
    "Cnn14_emb32": partial(Cnn14, embedding=32),
    "Cnn14_mel32": partial(Cnn14, n_mels=32),
    "Cnn14_mel128": partial(Cnn14, n_mels=128),
    "Cnn14_DecisionLevelMax": Cnn14DecisionLevelMax,
    "Cnn14_DecisionLevelAvg": Cnn14DecisionLevelAvg,
    "Cnn14_DecisionLevelAtt": Cnn14DecisionLevelAtt,
    "ResNet22": ResNet22,
    "ResNet38": ResNet38,
    "ResNet54": ResNet54,
    "MobileNetV1": MobileNetV1,
    "MobileNetV2": MobileNetV2,
}

CHANNELS = (4, 6, 8, 8, 10, 12)
STAGES = ((1, 4, 1, 1), (6, 4, 2, 2), (6, 6, 3, 2), (6, 8, 4, 2), (6, 8, 3, 2), (6, 10, 3, 1), (6, 12, 1, 1))
NARROW: dict[str, Build] = {
    "Cnn6": partial(Cnn6, channels=CHANNELS[:4]),
    "Cnn10": partial(Cnn10, channels=CHANNELS[:4]),
    "Cnn14_emb32": partial(Cnn14, channels=CHANNELS, embedding=5),
    "Cnn14_mel32": partial(Cnn14, channels=CHANNELS, n_mels=32),
    "Cnn14_mel128": partial(Cnn14, channels=CHANNELS, n_mels=128),
    "Cnn14_DecisionLevelMax": partial(Cnn14DecisionLevelMax, channels=CHANNELS),
    "Cnn14_DecisionLevelAvg": partial(Cnn14DecisionLevelAvg, channels=CHANNELS),
    "Cnn14_DecisionLevelAtt": partial(Cnn14DecisionLevelAtt, channels=CHANNELS),
    "ResNet22": partial(ResNet22, channels=CHANNELS[:4], last=12),
    "ResNet38": partial(ResNet38, channels=CHANNELS[:4], last=12),
    "ResNet54": partial(ResNet54, channels=CHANNELS[:4], last=12),
    "MobileNetV1": partial(MobileNetV1, channels=(4, 4, 6, 6, 8, 8, *[10] * 6, 12, 12)),
    "MobileNetV2": partial(MobileNetV2, first=4, stages=STAGES, last=16, embedding=12),
}
CLASSES = 20

ARRAYS = {"logits": "logits", "embedding": "embedding", "clipwise_output": "probs", "framewise_output": "framewise"}
"""Name of a golden array to the name of the output of `trace`."""


def with_recipe_weights(build: Build, shapes: dict[str, tuple[int, ...]] | None = None) -> LogmelCnn:
    """Return a network with the recipe's weights.

    Args:
        build: makes the network.
        shapes: the keys and shapes that its state dict must have, without counters; not checked if not given.
    """
    with torch.device("meta"):  # random initial weights for 80 M parameters take longer than all else here
        network = build()
    state = {key: tuple(values.shape) for key, values in network.state_dict().items()}
    counters = {key: torch.tensor(0) for key in state if key.endswith("num_batches_tracked")}
    shapes = {key: shape for key, shape in state.items() if key not in counters} if shapes is None else shapes
    recipe = {key: torch.from_numpy(values) for key, values in weights(shapes).items()}
    network.load_state_dict(recipe | counters, strict=True, assign=True)
    return network.eval()


def full(name: str) -> LogmelCnn:
    return with_recipe_weights(FULL[name], golden_shapes(name))


def narrow(name: str) -> LogmelCnn:
    return with_recipe_weights(partial(NARROW[name], classes=CLASSES))


def golden_logmel(name: str) -> Tensor:
    return torch.from_numpy(golden_figures(name)["logmel"])[None, None]


def golden_errors(name: str, network: LogmelCnn) -> dict[str, float]:
    """Return the largest error of every golden array of the original, as a share of the array's range."""
    with torch.inference_mode():
        got = network.trace(golden_logmel(name))
    want = {array: values for array, values in golden_figures(name).items() if array not in ("logmel", "config")}
    assert set(want) <= set(ARRAYS)
    return {
        array: float(np.abs(got[ARRAYS[array]][0].numpy() - values).max() / np.ptp(values))
        for array, values in want.items()
    }


@pytest.mark.parametrize("name", FULL)
def test_outputs_are_the_originals(name: str) -> None:
    errors = golden_errors(name, full(name))
    print(name, {array: f"{error:.1e}" for array, error in errors.items()})
    assert "clipwise_output" in errors
    assert ("framewise_output" in errors) == ("DecisionLevel" in name)
    assert all(error <= 1e-4 for error in errors.values())


def _unpooled(network: LogmelCnn) -> None:
    network.get_submodule("conv_block4").pool = False


def _shorter_branch(network: LogmelCnn) -> None:
    network.get_submodule("resnet.layer3.1").convs = 1


def _relu6(network: LogmelCnn) -> None:
    network.get_submodule("features.1")[3] = nn.ReLU6()


def _no_residual(network: LogmelCnn) -> None:
    network.get_submodule("features.3").residual = False


def _equal_attention(network: LogmelCnn) -> None:
    nn.init.zeros_(network.get_submodule("att_block.att").weight)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("Cnn6", _unpooled),
        ("ResNet22", _shorter_branch),
        ("MobileNetV1", _relu6),
        ("MobileNetV2", _no_residual),
        ("Cnn14_DecisionLevelAtt", _equal_attention),
    ],
)
def test_another_network_has_other_outputs(name: str, spoil: Callable[[LogmelCnn], None]) -> None:
    network = full(name)
    spoil(network)
    errors = golden_errors(name, network)
    print(name, {array: f"{error:.1e}" for array, error in errors.items()})
    assert errors["clipwise_output"] > 1e-4


def test_framewise_one_frame_late_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decision_level.framewise
    monkeypatch.setattr(decision_level, "framewise", lambda x, frames: right(x, frames + 1)[:, 1:])
    errors = golden_errors("Cnn14_DecisionLevelMax", full("Cnn14_DecisionLevelMax"))
    assert errors.pop("framewise_output") > 1e-4
    assert all(error <= 1e-4 for error in errors.values())


@pytest.mark.parametrize("frames", [64, 65, 95])
def test_framewise_repeats_segments_and_then_the_last_one(frames: int) -> None:
    segments = torch.rand(3, 5, 1, 2)
    want = np.repeat(segments[:, :, 0].numpy().swapaxes(1, 2), STRIDE, axis=1)  # (batch, 64, classes)
    want = np.pad(want, ((0, 0), (0, frames - 64), (0, 0)), mode="edge")
    assert np.array_equal(framewise(segments, frames).numpy(), want)


def test_attention_beyond_its_limits_is_cut_off() -> None:
    """The golden figures stay within ± 10; those of a trained network may not."""
    network = Cnn14DecisionLevelAtt(2, channels=CHANNELS).eval()
    block = network.att_block
    nn.init.dirac_(block.att.weight).data[1] = 0.0  # class 0 attends to feature 0, class 1 to none
    nn.init.zeros_(block.att.bias)
    features = torch.zeros(1, 12, 1, 3)
    features[0, 0, 0] = torch.tensor([-30.0, 15.0, 30.0])
    features[0, 1, 0] = torch.tensor([1.0, -2.0, 3.0])
    logits, probs = network.decide(features)
    attention = torch.tensor([[-10.0, 10.0, 10.0], [0.0, 0.0, 0.0]])  # (classes, segments)
    want = (attention.softmax(dim=1) * logits[0, :, 0].sigmoid()).sum(dim=1)
    assert torch.allclose(probs[0, :, 0, 0], want, atol=1e-6)


def test_layers_train_in_the_originals_order() -> None:
    """The order matters: batch norm statistics differ before and after pooling."""
    layers = Layers(*depthwise(3, stride=2), nn.ReLU())
    x = torch.randn(4, 3, 16, 8)
    trained = layers.train()(x)
    assert torch.equal(trained, nn.Sequential.forward(layers, x))
    with torch.inference_mode():
        assert torch.allclose(layers.eval()(x), nn.Sequential.forward(layers, x), atol=1e-6)


@pytest.mark.parametrize("name", NARROW)
def test_any_length_and_batch(name: str) -> None:
    network = narrow(name)
    logmel = torch.cat([golden_logmel(name)[:, :, start : start + 97] for start in (0, 70, 140)])
    with torch.inference_mode():
        together = network(logmel)
        alone = [network(clip[None]) for clip in logmel]
    assert together["probs"].shape == (3, CLASSES)
    if "framewise" in together:
        assert together["framewise"].shape == (3, 97, CLASSES)
    for output, values in together.items():
        assert torch.allclose(values, torch.cat([clip[output] for clip in alone]), atol=1e-6)


@dataclass(frozen=True)
class Exported:
    """The .tflite of a narrow network, an input (1, 1, frames, mels), and PyTorch's outputs for it."""

    name: str
    path: Path
    logmel: NDArray[np.float32]
    outputs: dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module", params=NARROW)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    network, logmel = narrow(request.param), golden_logmel(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    export_fp32(network, {"logmel": logmel}, folder / "graph.tflite", log=folder / "log")
    with torch.inference_mode():
        outputs = {output: values.numpy() for output, values in network(logmel).items()}
    return Exported(request.param, folder / "graph.tflite", logmel.numpy(), outputs)


def test_tflite_equals_torch(exported: Exported) -> None:
    got = CpuEngine(exported.path, threads=1).run(exported.logmel)
    assert list(got) == list(exported.outputs)
    for output, want in exported.outputs.items():
        assert np.ptp(want) > 0.01
        error = np.abs(got[output] - want).max()
        print(f"{exported.name} {output}: {error:.1e} (spread {np.ptp(want):.2g})")
        assert error <= 1e-4 * (1 if output != "embedding" else np.ptp(want))


def test_graph_has_no_transpose(exported: Exported) -> None:
    """Channels-last throughout; all tensors have static shapes and rank ≤ 4."""
    operators, ranks = operators_of(exported.path)
    print(f"{exported.name}: {len(operators)} operators")
    assert set(operators) <= {
        "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DELEGATE", "DEPTHWISE_CONV_2D", "DIV", "EXP", "FULLY_CONNECTED",
        "CONCATENATION", "LOGISTIC", "MAX_POOL_2D", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "PAD", "RESHAPE",
        "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SUB",
    }  # fmt: skip
    assert operators.count("MUL") <= 2  # first batch norm and attention; all others are folded into convolutions
    assert max(ranks) <= 4


@pytest.mark.usefixtures("vulkan")
def test_runs_whole_on_the_gpu(exported: Exported) -> None:
    report = gpu_check(exported.path, inputs=[{"logmel": exported.logmel}], references=[exported.outputs], audit=False)
    print(f"{exported.name}: {report.operators} operators, {[(c.output, c.max_abs) for c in report.checks]}")
    assert report.resident
    assert report.refused == ()
    assert report.passed, report.why


class _Repeating(Cnn14DecisionLevelMax):
    """Repeats segments for the frame-wise output with the original's operations."""

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        found = super().trace(x)
        segments = found["logits"].sigmoid()
        return found | {"framewise": segments[:, :, None].expand(-1, -1, STRIDE, -1).flatten(1, 2)}


@pytest.mark.usefixtures("vulkan")
def test_framewise_as_the_original_writes_it_is_refused(tmp_path: Path) -> None:
    network = _Repeating(CLASSES, channels=CHANNELS).eval()
    export_fp32(network, {"logmel": torch.randn(1, 1, 301, 64)}, tmp_path / "graph.tflite", log=tmp_path / "log")
    report = gpu_check(tmp_path / "graph.tflite", audit=False)
    print(report.why)
    assert not report.resident
    assert not report.passed
