"""MobileNetV1 and MobileNetV2 of PANNs, written for export. Their state-dict keys are the original's.

Kong et al.: PANNs, https://arxiv.org/abs/1912.10211, section III-C and table III: MobileNets (Howard et al., 2017;
Sandler et al., 2018) with average pooling instead of strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from panns_litert_convert.networks.blocks import LogmelCnn


class Layers(nn.Sequential):
    """Convolutions, each with an optional pooling and a batch norm, and activations.

    Outside training the batch norm is applied before the pooling. This is exact, because both are linear, and lets the
    converter merge the batch norm into the convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        if not self.training:
            for i in [i for i, layer in enumerate(layers) if isinstance(layer, nn.AvgPool2d)]:
                layers[i], layers[i + 1] = layers[i + 1], layers[i]
        for layer in layers:
            x = layer(x)
        return x


def conv(inputs: int, outputs: int, kernel: int, *, stride: int | None = None, groups: int = 1) -> list[nn.Module]:
    """Returns a convolution and its batch norm, with an average pooling by `stride` between them if it is given."""
    between = [] if stride is None else [nn.AvgPool2d(stride) if stride > 1 else nn.Identity()]
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, *between, nn.BatchNorm2d(outputs)]


def depthwise(channels: int, *, stride: int) -> list[nn.Module]:
    """Returns a 3 × 3 convolution of each channel alone."""
    return conv(channels, channels, 3, stride=stride, groups=channels)


class MobileNetV1(LogmelCnn):
    """Alternating depthwise and 1 × 1 convolutions. 4.8 M parameters with 527 classes.

    Args:
        classes: number of classes, ≥ 1.
        n_mels: mel bands of the log-mel, ≥ 32 (five poolings by 2).
        channels: output channels of the layers. The last is also the embedding's length.
        strides: poolings of the layers.
    """

    def __init__(
        self,
        classes: int = 527,
        n_mels: int = 64,
        channels: Sequence[int] = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024),
        *,
        strides: Sequence[int] = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1),
    ) -> None:
        super().__init__(n_mels=n_mels)
        self.features = nn.Sequential(Layers(*conv(1, channels[0], 3, stride=strides[0]), nn.ReLU()))
        for (inputs, outputs), stride in zip(pairwise(channels), strides[1:], strict=True):
            layers = [*depthwise(inputs, stride=stride), nn.ReLU(), *conv(inputs, outputs, 1), nn.ReLU()]
            self.features.append(Layers(*layers))
        self.add_head(channels[-1], embedding=channels[-1], classes=classes)

    def convolve(self, x: Tensor) -> Tensor:
        """Normalised log-mel (batch, 1, frames, mels) to (batch, channels, frames / 32, mels / 32), ≥ 0."""
        return self.features(x)  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """A 1 × 1 convolution to more channels, a depthwise one, and a 1 × 1 to fewer. Adds the input if shapes agree.

    Args:
        inputs, outputs: numbers of channels.
        expansion: factor on the channels in between. If it is 1, there is no first 1 × 1 convolution.
        stride: stride of the pooling.
    """

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [*conv(inputs, hidden, 1), nn.ReLU6()] if expansion != 1 else []
        self.conv = Layers(*expand, *depthwise(hidden, stride=stride), nn.ReLU6(), *conv(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(LogmelCnn):
    """Inverted residuals. 4.1 M parameters with 527 classes.

    Args:
        classes: number of classes, ≥ 1.
        n_mels: mel bands of the log-mel, ≥ 32 (five poolings by 2).
        first, last: output channels of the first and last convolution.
        stages: expansion, output channels, repeats and first stride of the inverted residuals.
        embedding: length of the embedding.
    """

    head_dropout = 0.0

    def __init__(
        self,
        classes: int = 527,
        n_mels: int = 64,
        *,
        first: int = 32,
        stages: Sequence[tuple[int, int, int, int]] = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 2),
            (6, 160, 3, 1),
            (6, 320, 1, 1),
        ),
        last: int = 1280,
        embedding: int = 1024,
    ) -> None:
        super().__init__(n_mels=n_mels)
        self.features = nn.Sequential(Layers(*conv(1, first, 3, stride=2), nn.ReLU6()))
        inputs = first
        for expansion, outputs, repeats, stride in stages:
            for i in range(repeats):
                block = InvertedResidual(inputs, outputs, expansion=expansion, stride=stride if i == 0 else 1)
                self.features.append(block)
                inputs = outputs
        self.features.append(Layers(*conv(inputs, last, 1), nn.ReLU6()))
        self.add_head(last, embedding=embedding, classes=classes)

    def convolve(self, x: Tensor) -> Tensor:
        """Normalised log-mel (batch, 1, frames, mels) to (batch, channels, frames / 32, mels / 32), 0 … 6."""
        return self.features(x)  # type: ignore[no-any-return]
