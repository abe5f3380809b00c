"""ResNet22, ResNet38 and ResNet54 of PANNs, written for export. Their state-dict keys are the original's.

Kong et al.: PANNs, https://arxiv.org/abs/1912.10211, section III-B and table II: a ResNet (He et al., 2016) with
average pooling instead of strides, between two blocks of Cnn14.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert_convert.networks.blocks import ConvBlock, LogmelCnn


class Residual(nn.Module):
    """Convolutions with batch norm, added to their input. A ReLU follows the sum and each convolution but the last.

    Args:
        inputs: channels of the input.
        widths, kernels: output channels and kernel side of every convolution.
        pool: whether to halve frames and mels first.
    """

    def __init__(self, inputs: int, *, widths: Sequence[int], kernels: Sequence[int], pool: bool) -> None:
        super().__init__()
        for i, (ends, kernel) in enumerate(zip(pairwise((inputs, *widths)), kernels, strict=True), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(*ends, kernel, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(widths[i - 1]))
        self.convs = len(kernels)
        self.pool = pool
        if pool or inputs != widths[-1]:
            # The original pools here again. Here one pooling serves both branches, and nn.Identity keeps the keys.
            project = (nn.Conv2d(inputs, widths[-1], 1, bias=False), nn.BatchNorm2d(widths[-1]))
            self.downsample = nn.Sequential(*([nn.Identity()] if pool else []), *project)
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2) if self.pool else x
        y = x
        for i in range(1, self.convs):
            y = F.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y)))
        y = F.dropout(y, 0.1, training=self.training)
        y = self.get_submodule(f"bn{self.convs}")(self.get_submodule(f"conv{self.convs}")(y))
        return F.relu(y + self.downsample(x))


class ResNet22(LogmelCnn):
    """Two residual blocks per layer, of two 3 × 3 convolutions each. 63.7 M parameters with 527 classes.

    Args:
        classes: number of classes, ≥ 1.
        n_mels: mel bands of the log-mel, ≥ 32 (five poolings by 2).
        channels: channels of the four layers.
        last: output channels of the last block, and length of the embedding.

    Attributes:
        repeats: residual blocks of every layer.
        kernels: kernel sides of a residual block's convolutions.
        expansion: a residual block's output channels, as a multiple of its layer's channels.
    """

    repeats: ClassVar[Sequence[int]] = (2, 2, 2, 2)
    kernels: ClassVar[Sequence[int]] = (3, 3)
    expansion: ClassVar[int] = 1

    def __init__(
        self, classes: int = 527, n_mels: int = 64, channels: Sequence[int] = (64, 128, 256, 512), *, last: int = 2048
    ) -> None:
        super().__init__(n_mels=n_mels)
        self.conv_block1 = ConvBlock(1, channels[0], pool=True)
        self.resnet = nn.Sequential()
        inputs = channels[0]
        for i, (width, repeats) in enumerate(zip(channels, self.repeats, strict=True), start=1):
            layer = nn.Sequential()
            widths = (*[width] * (len(self.kernels) - 1), width * self.expansion)
            for j in range(repeats):
                layer.append(Residual(inputs, widths=widths, kernels=self.kernels, pool=i > 1 and j == 0))
                inputs = widths[-1]
            self.resnet.add_module(f"layer{i}", layer)
        self.conv_block_after1 = ConvBlock(inputs, last, pool=False)
        self.add_head(last, embedding=last, classes=classes)

    def convolve(self, x: Tensor) -> Tensor:
        """Normalised log-mel (batch, 1, frames, mels) to (batch, channels, frames / 32, mels / 32), ≥ 0."""
        x = F.dropout(self.conv_block1(x), 0.2, training=self.training)  # (batch, channels, frames / 2, mels / 2)
        x = F.avg_pool2d(self.resnet(x), 2)  # (batch, channels, frames / 32, mels / 32)
        x = F.dropout(x, 0.2, training=self.training)
        return F.dropout(self.conv_block_after1(x), 0.2, training=self.training)


class ResNet38(ResNet22):
    """More residual blocks. 73.8 M parameters with 527 classes."""

    repeats = (3, 4, 6, 3)


class ResNet54(ResNet38):
    """ResNet38 with bottlenecks: 1 × 1, 3 × 3 and 1 × 1 convolutions. 104.3 M parameters with 527 classes."""

    kernels = (1, 3, 1)
    expansion = 4
