"""Cnn14 in PyTorch: the original's outputs, and a graph that the GPU delegate runs completely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch.nn.functional as F
from support import operators_of
from torch import Tensor, nn

from panns_litert.bundle import Bundle
from panns_litert_convert.networks import Cnn14, ConvBlock
from panns_litert_convert.stages import network_stage
from panns_litert_convert.zoo import find


def test_outputs_are_the_originals() -> None:
    checks = network_stage(find("cnn14"))
    for check in checks:
        print(f"{check.output}: {check.max_abs:.2e} (bound {check.threshold['max_abs']:.2e})")
    assert [check.output for check in checks] == ["logits", "embedding"]
    assert all(check.passed for check in checks)


class _MaxPooling(ConvBlock):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.max_pool2d(x, 2) if self.pool else x


def _max_pooling() -> nn.Module:
    network = Cnn14()
    network.conv_block3.__class__ = _MaxPooling
    return network


def _mean_only() -> nn.Module:
    class MeanOnly(Cnn14):
        def embed(self, logmel: Tensor) -> Tensor:
            x = self.bn0(logmel.flatten(0, 2)).view_as(logmel)
            for i in range(1, 7):
                x = self.get_submodule(f"conv_block{i}")(x)
            return F.relu(self.fc1(x.mean(dim=3).mean(dim=2)))

    return MeanOnly()


def _another_epsilon() -> nn.Module:
    network = Cnn14()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    return network


@pytest.mark.parametrize("build", [_max_pooling, _mean_only, _another_epsilon])
def test_another_network_fails_the_gate(build: Callable[[], nn.Module]) -> None:
    checks = network_stage(replace(find("cnn14"), architecture=build))
    assert not any(check.passed for check in checks)


def test_graph_is_clean_for_a_gpu(demo: Bundle) -> None:
    """No transpose, gather or broadcast; all tensors have static shapes and rank ≤ 4."""
    operators, ranks = operators_of(demo.file("model"))
    print(operators)
    assert set(operators) <= {
        "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DELEGATE", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED",
        "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "RESHAPE",
    }  # fmt: skip
    assert operators.count("CONV_2D") + operators.count("DEPTHWISE_CONV_2D") == 12
    assert operators.count("AVERAGE_POOL_2D") == 5  # the 1 × 1 pooling of the sixth block is left out
    assert max(ranks) <= 4
