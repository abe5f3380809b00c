"""The PANNs networks that take samples: the original's outputs, and graphs that the GPU delegate runs completely."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import operators_of
from torch import Tensor, nn

from panns_litert.bundle import Check
from panns_litert.engine import CpuEngine
from panns_litert.errors import SpecError
from panns_litert.frontend import PANNS_32K
from panns_litert.proof import GATES, Gate, compare, gpu_check
from panns_litert_convert.export import export_fp32
from panns_litert_convert.frontend import ALWAYS_FLOAT32, GraphLogMel
from panns_litert_convert.networks import (
    DaiNet19,
    LeeNet11,
    LeeNet24,
    Res1dNet31,
    Res1dNet51,
    WaveformTagger,
    WavegramCnn14,
    WavegramLogmel128Cnn14,
    WavegramLogmelCnn14,
    wave1d,
    wavegram,
)
from panns_litert_convert.networks.wavegram import MEL128_32K, DecibelLogMel
from panns_litert_convert.references import float64_logmel
from panns_litert_convert.stages import _constants
from panns_litert_convert.zoo import golden_figures, golden_shapes
from panns_litert_golden.recipe import waveform, weight, weights

SAMPLES = 32_000
"""Input length of the narrow networks' graphs: 1 s."""


@dataclass(frozen=True)
class Case:
    """How to build a network.

    Attributes:
        network: the class.
        narrow: options that make it small.
        transposes: number of transposes in its graph, including those of its log-mel.
    """

    network: type[WaveformTagger]
    narrow: Mapping[str, Any]
    transposes: int = 0


_LEE = {"channels": (4, 4, 6, 6, 8, 8, 8, 8, 12), "embedding": 16}
_RES = {"channels": (4, 6, 8, 8, 12, 12, 16), "embedding": 16}
_WAVE: dict[str, Any] = {"pre_channels": (4, 4, 8, 64), "channels": (4, 6, 8, 8, 12, 16)}
CASES = {
    "LeeNet11": Case(LeeNet11, _LEE),
    "LeeNet24": Case(LeeNet24, _LEE),
    "DaiNet19": Case(DaiNet19, {"channels": (4, 6, 8, 12), "embedding": 16}),
    "Res1dNet31": Case(Res1dNet31, _RES),
    "Res1dNet51": Case(Res1dNet51, _RES | {"depths": (1, 2, 1, 1, 1, 1, 1)}),
    "Wavegram_Cnn14": Case(WavegramCnn14, _WAVE, transposes=1),
    "Wavegram_Logmel_Cnn14": Case(WavegramLogmelCnn14, _WAVE, transposes=6),
    "Wavegram_Logmel128_Cnn14": Case(WavegramLogmel128Cnn14, _WAVE | {"pre_channels": (4, 4, 8, 128)}, transposes=6),
}
LOGMEL = ("Wavegram_Logmel_Cnn14", "Wavegram_Logmel128_Cnn14")


def narrow(name: str) -> WaveformTagger:
    """Return a small version of a network with weights like the recipe's.

    By their keys, the recipe makes some weights small, to keep the golden figures of deep networks small. With these,
    the outputs of a narrow network would hardly depend on its input. So its weights are drawn for other keys. Only
    the batch norm of decibels keeps its key.
    """
    case = CASES[name]
    network = case.network(classes=20, **case.narrow).eval()
    state = network.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            recipe_key = key if name in LOGMEL and key.startswith("bn0.") else f"narrow.{key}"
            state[key] = torch.from_numpy(weight(recipe_key, tuple(value.shape)))
    network.load_state_dict(state)
    return network


def clips() -> dict[str, Tensor]:
    """Sounds of 1 s (1, samples): loud, noise, quiet noise, silence."""
    rng = np.random.default_rng(5)
    sounds = {
        "recipe": waveform(32000, seconds=1.0),
        "noise": 0.1 * rng.standard_normal(SAMPLES),
        "quiet noise": 1e-3 * rng.standard_normal(SAMPLES),
        "silence": np.zeros(SAMPLES),
    }
    return {name: torch.tensor(x, dtype=torch.float32)[None] for name, x in sounds.items()}


def golden_checks(name: str) -> list[Check]:
    """Compare the network, with the recipe's weights, with the original's golden outputs."""
    network = CASES[name].network().eval()
    state = {key: torch.from_numpy(w) for key, w in weights(golden_shapes(name)).items()}
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(state | counters, strict=True)
    with torch.inference_mode():
        got = network.trace(torch.from_numpy(waveform(32000))[None])
    figures = golden_figures(name)
    wanted = {
        ours: figures[theirs][None]
        for ours, theirs in (("logits", "logits"), ("embedding", "embedding"), ("probs", "clipwise_output"))
    }
    return [
        compare("network", output, got[output].numpy(), want, gate=GATES["network"]) for output, want in wanted.items()
    ]


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_the_originals(name: str) -> None:
    checks = golden_checks(name)
    for check in checks:
        print(f"{name} {check.output}: {check.max_abs:.2e} (bound {check.threshold['max_abs']:.2e})")
    assert all(check.passed for check in checks)


def _unpadded_pooling(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(F, "pad", lambda x, _: x)
    return "LeeNet11"


def _pooling_after_the_last_block(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(CASES, "LeeNet24", Case(_PoolsLast, _LEE))
    return "LeeNet24"


class _PoolsLast(LeeNet24):
    def __init__(self) -> None:
        super().__init__()
        self.pools = range(2, 10)


def _mean_for_maximum(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(wave1d, "max_pool", lambda x, size: F.avg_pool2d(x, (1, size)))
    return "DaiNet19"


def _undilated(monkeypatch: pytest.MonkeyPatch) -> str:
    right = wave1d.TimeConv

    def conv(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Module:
        return right(inputs, outputs, kernel, stride=stride)

    monkeypatch.setattr(wave1d, "TimeConv", conv)
    return "Res1dNet31"


def _bands_interleaved(monkeypatch: pytest.MonkeyPatch) -> str:
    """Channel i becomes band i / groups instead of band i modulo bands."""
    block = wavegram.ConvBlock.forward

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        if x.shape[1] == 4:
            batch, groups, frames, bands = x.shape
            x = x.transpose(1, 2).reshape(batch, frames, bands, groups).permute(0, 3, 1, 2)
        return block(self, x)  # type: ignore[arg-type]

    monkeypatch.setattr(wavegram.ConvBlock, "forward", forward)
    return "Wavegram_Cnn14"


def _wavegram_before_logmel(monkeypatch: pytest.MonkeyPatch) -> str:
    right = torch.cat
    monkeypatch.setattr(wavegram.torch, "cat", lambda parts, dim: right(parts[::-1], dim=dim))
    return "Wavegram_Logmel_Cnn14"


@pytest.mark.parametrize(
    "change",
    [
        _unpadded_pooling,
        _pooling_after_the_last_block,
        _mean_for_maximum,
        _undilated,
        _bands_interleaved,
        _wavegram_before_logmel,
    ],
)
def test_another_network_fails_the_gate(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = change(monkeypatch)
    assert not any(check.passed for check in golden_checks(name))


@pytest.mark.parametrize("name", CASES)
def test_any_length_and_batch(name: str) -> None:
    network = narrow(name)
    x = 0.1 * torch.randn(3, 32_640, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = network(x)
        alone = [network(clip[None]) for clip in x]
    assert list(together) == ["probs", "embedding"]
    assert together["probs"].shape == (3, 20)
    assert together["embedding"].shape == (3, 16)
    for i, outputs in enumerate(alone):
        assert torch.allclose(outputs["probs"], together["probs"][i : i + 1], atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_training_drops_features(name: str) -> None:
    """Two passes in training mode differ, because of dropout; gradients are finite."""
    network = narrow(name).train()
    x = 0.1 * torch.randn(4, 32_000, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(network(x)["probs"], network(x)["probs"])
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    network(x)["probs"].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.fc1.parameters())  # type: ignore[union-attr]


@dataclass(frozen=True)
class Export:
    """A narrow network and its .tflite."""

    name: str
    network: WaveformTagger
    path: Path


@pytest.fixture(scope="module", params=CASES)
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    network = narrow(name)
    inputs = {"waveform": torch.zeros(1, SAMPLES)}
    export_fp32(network.for_export(samples=SAMPLES), inputs, folder / "graph.tflite", log=folder / "log")
    return Export(name, network, folder / "graph.tflite")


def test_tensor_names_identify_the_log_mel(export: Export) -> None:
    """The quantizer keeps tensors of these names in float32. The log-mel of another attribute would be quantized."""
    modules = export.network.for_export(samples=SAMPLES).named_modules()
    paths = [path for path, module in modules if isinstance(module, GraphLogMel)]
    names = [name for name, *_ in _constants(export.path) if re.search(ALWAYS_FLOAT32, name)]
    print(paths, names)
    assert paths == (["logmel"] if export.name in LOGMEL else [])
    assert any(name.startswith("logmel.dft.0;") for name in names) == bool(paths)
    assert bool(names) == bool(paths)


def test_graph_is_right_in_float32(export: Export) -> None:
    """The .tflite against PyTorch, where the log-mel is computed in float64 by its definition."""
    engine = CpuEngine(export.path, threads=1)
    assert list(engine.outputs) == ["probs", "embedding"]
    sounds = clips()
    with torch.inference_mode():
        wanted = [export.network(x) for x in sounds.values()]
    runs = [engine.run(x.numpy()) for x in sounds.values()]
    share = Gate(max_abs=GATES["fp32"].max_abs, corr=GATES["fp32"].corr, relative=True)
    for output, gate in (("probs", GATES["fp32"]), ("embedding", share)):
        got = np.concatenate([run[output] for run in runs])
        want = np.concatenate([outputs[output].numpy() for outputs in wanted])
        # Outputs must differ between classes and between clips: a constant output would pass with any network.
        assert np.ptp(want, axis=1).min() > 0.2
        assert np.ptp(want, axis=0).max() > 0.2
        check = compare("fp32", output, got, want, gate=gate)
        print(f"{export.name} {output}: {check.max_abs:.1e}")
        assert check.passed, check.why


def test_graph_is_clean_for_a_gpu(export: Export) -> None:
    """No gather or broadcast, rank ≤ 4, and no more transposes than necessary."""
    operators, ranks = operators_of(export.path)
    print(export.name, operators)
    logmel = {"SLICE", "CONCATENATION", "SUB", "MUL", "MAXIMUM", "MINIMUM", "LOG"}
    assert set(operators) <= {
        "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DELEGATE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC",
        "MAX_POOL_2D", "MEAN", "PAD", "RESHAPE", "SUM", "TRANSPOSE",
    } | (logmel if export.name in LOGMEL else set())  # fmt: skip
    assert operators.count("TRANSPOSE") == CASES[export.name].transposes
    assert max(ranks) <= 4


@pytest.mark.usefixtures("vulkan")
def test_runs_whole_on_the_gpu(export: Export) -> None:
    report = gpu_check(export.path, audit=False)
    for check in report.checks:
        print(f"{export.name} {check.output}: {check.max_abs:.1e}, corr {check.corr:.6f}")
    assert report.resident
    assert report.passed, report.why


@pytest.mark.parametrize("name", LOGMEL)
def test_the_copy_for_export_changes_only_units(name: str) -> None:
    network = narrow(name)
    assert isinstance(network, WavegramLogmelCnn14)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    copy = network.for_export(samples=SAMPLES)
    assert type(copy) is type(network)
    assert copy.fc1.weight is network.fc1.weight  # hundreds of megabytes are not copied
    x = clips()["noise"]
    with torch.inference_mode():
        want, got = network(x), copy(x)
        assert torch.allclose(got["probs"], want["probs"], atol=1e-5)
        copy.bn0 = network.bn0  # takes nepers for decibels
        assert not torch.allclose(copy(x)["probs"], want["probs"], atol=1e-3)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("spec", [PANNS_32K, MEL128_32K], ids=["64", "128"])
def test_the_networks_logmel_is_the_definition(spec: Any) -> None:
    x = waveform(32000)
    got = DecibelLogMel(spec)(torch.from_numpy(x)[None])
    want = float64_logmel(x, spec)
    assert got.dtype == torch.float32
    assert got.shape == (1, 1, *want.shape)
    # In bands 100 dB below the loudest, float64 itself has errors of this size.
    assert np.abs(got[0, 0].numpy() - want).max() < 1e-3


def test_an_odd_number_of_hops_is_refused() -> None:
    """101 hops are 102 frames of log-mel and 101 of wavegram, which pool to 51 and 50."""
    network = narrow("Wavegram_Logmel_Cnn14")
    with pytest.raises(SpecError, match=r"32320 samples: 51 pairs .* 50 .* multiple of 640"):
        network(torch.zeros(1, 101 * 320))
