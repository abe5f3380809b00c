"""EfficientAT's MobileNetV3, mn04_as … mn40_as, written for export. Its state-dict keys are the original's.

Schmid, Koutini, Widmer: Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation, ICASSP
2023, https://arxiv.org/abs/2211.04772. The layers are MobileNetV3-Large's (Howard et al.: Searching for MobileNetV3,
ICCV 2019, https://arxiv.org/abs/1905.02244, table 1), with all widths multiplied by one factor.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert_convert.networks.tagger import LogmelTagger


class Row(NamedTuple):
    """One inverted residual of the table, at width 1.

    Attributes:
        kernel: side of the depthwise kernel.
        expanded, outputs: channels between its convolutions, and of its output.
        squeeze: whether it has a squeeze-and-excitation.
        hardswish: whether its activations are hard swishes instead of ReLUs.
        stride: stride of the depthwise convolution, in frames and mels.
    """

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    hardswish: bool
    stride: int


STEM = 16
"""Channels of the first convolution, which halves frames and mels, at width 1."""
ROWS = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)
HIDDEN = 1280
"""Width of the classifier's hidden layer, at width 1."""


def channels(count: float) -> int:
    """Rounds a number of channels to a multiple of 8, at least 8 and at least 90 % of `count`."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * count else rounded + 8


class Conv(nn.Conv2d):
    """A convolution over (frames, mels) with the original's weights, which are for (mels, frames).

    Strides and padding are the same in both directions, so that transposing the kernel equals transposing the log-mel.
    The converter transposes the constants, and the graph has no operator for it.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight.transpose(2, 3), self.bias)  # type: ignore[no-any-return]


def layer(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, activation: nn.Module | None = None
) -> nn.Sequential:
    """Returns a convolution with batch norm and activation."""
    conv = Conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    return nn.Sequential(conv, norm, *([] if activation is None else [activation]))


class PointwiseLinear(nn.Linear):
    """A linear layer over the channels of (batch, channels, 1, 1), computed as a 1 × 1 convolution."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight[:, :, None, None], self.bias)


class SqueezeExcitation(nn.Module):
    """Multiplies every channel by a factor within 0 … 1 that depends on the means of all channels.

    The means stay (batch, channels, 1, 1), because rank 2 would need two reshapes. The original stacks several such
    blocks at a rank that the GPU refuses. The published networks have one, so no stack is needed.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        squeezed = channels(outputs // 4)
        factors = OrderedDict(
            fc1=PointwiseLinear(outputs, squeezed),
            relu=nn.ReLU(),
            fc2=PointwiseLinear(squeezed, outputs),
            sigmoid=nn.Sigmoid(),
        )
        self.conc_se_layers = nn.Sequential(nn.Sequential(factors))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conc_se_layers(x.mean(dim=(2, 3), keepdim=True))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expands, filters each channel alone, weights the channels, and projects. Adds the input if shapes agree."""

    def __init__(self, inputs: int, row: Row, *, width: float) -> None:
        super().__init__()
        expanded, outputs = channels(row.expanded * width), channels(row.outputs * width)
        activation: Callable[[], nn.Module] = nn.Hardswish if row.hardswish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(layer(inputs, expanded, activation=activation()))
        layers.append(
            layer(expanded, expanded, row.kernel, stride=row.stride, groups=expanded, activation=activation())
        )
        if row.squeeze:
            layers.append(SqueezeExcitation(expanded))
        layers.append(layer(expanded, outputs))
        self.block = nn.Sequential(*layers)
        self.residual = row.stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)  # type: ignore[no-any-return]


class MobileNetV3(LogmelTagger):
    """Log-mel of EFFICIENTAT_32K to class probabilities and an embedding.

    Takes any number of frames and mels ≥ 1, and halves both five times. The original was trained on 1000 frames of 128
    mels.

    Args:
        classes: number of classes, ≥ 1.
        width: factor for all numbers of channels. 0.4 gives mn04_as (0.98 M parameters with 527 classes), 4.0 gives
            mn40_as (68.4 M).
    """

    def __init__(self, classes: int = 527, *, width: float = 1.0) -> None:
        super().__init__()
        inputs = channels(STEM * width)
        layers: list[nn.Module] = [layer(1, inputs, 3, stride=2, activation=nn.Hardswish())]
        for row in ROWS:
            layers.append(InvertedResidual(inputs, row, width=width))
            inputs = channels(row.outputs * width)
        layers.append(layer(inputs, 6 * inputs, activation=nn.Hardswish()))
        self.features = nn.Sequential(*layers)
        hidden = channels(HIDDEN * width)
        self.classifier = nn.Sequential(
            # Numbered as in the original, where layers 0 and 1 pool and flatten.
            OrderedDict(
                [
                    ("2", nn.Linear(6 * inputs, hidden)),
                    ("3", nn.Hardswish()),
                    ("4", nn.Dropout(0.2)),
                    ("5", nn.Linear(hidden, classes)),
                ]
            )
        )

    def embed(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames, mels) to the embedding (batch, dim), dim 6 times the last row's channels."""
        x = self.features(logmel)  # (batch, dim, frames / 32, mels / 32)
        return x.mean(dim=(2, 3), keepdim=True).flatten(1)  # type: ignore[no-any-return]

    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding (batch, dim) to logits (batch, classes)."""
        return self.classifier(embedding)  # type: ignore[no-any-return]
