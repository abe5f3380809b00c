"""LeeNet, DaiNet and Res1dNet of PANNs: one-dimensional convolutions on samples, written for export.

Kong, Cao, Iqbal, Wang, Wang, Plumbley: PANNs: Large-Scale Pretrained Audio Neural Networks for Audio
Pattern Recognition, IEEE/ACM TASLP 28 (2020), https://arxiv.org/abs/1912.10211, section III-B and tables IV
and VIII. State-dict keys are the original's.

A signal is (batch, channels, 1, time) throughout. With rank 4 and two-dimensional convolutions of height 1, the
converter (litert-torch 0.10) keeps it channels-last without a transpose. Time must be the last axis: with
(batch, channels, time, 1) the converter treats a pooling over time as one of a transposed image of channels × time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert_convert.networks.tagger import WaveformTagger


class TimeConv(nn.Conv1d):
    """A Conv1d without bias, on (batch, channels, 1, time).

    Args:
        inputs, outputs: numbers of channels.
        kernel: number of taps.
        stride, dilation: in samples.
        pad: zeros at either end; by default as many as keep the length.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, pad: int | None = None
    ) -> None:
        pad = kernel // 2 * dilation if pad is None else pad
        super().__init__(inputs, outputs, kernel, stride, pad, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, 1, time) to (batch, outputs, 1, time / stride)."""
        stride, pad, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        return F.conv2d(x, self.weight[:, :, None], None, (1, stride), (0, pad), (1, dilation))


class PooledTagger(WaveformTagger):
    """A waveform network that ends with maximum + mean over time and two linear layers.

    Args:
        features: channels of the result of `features`.
        embedding: length of the embedding.
        classes: number of classes, ≥ 1.
    """

    def __init__(self, features: int, embedding: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, embedding)
        self.fc_audioset = nn.Linear(embedding, classes)

    @abstractmethod
    def features(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples) to features (batch, channels, 1, frames) or (batch, channels, frames, 1), ≥ 0."""

    def embed(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples), within [-1, 1], to the embedding (batch, dim), ≥ 0."""
        x = self.features(waveform)
        # The maximum is a pooling, which stays channels-last, because amax needs a transpose.
        x = F.max_pool2d(x, x.shape[2:]) + x.mean(dim=(2, 3), keepdim=True)  # (batch, channels, 1, 1)
        x = F.dropout(x.flatten(1), 0.5, training=self.training)
        return F.relu(self.fc1(x))

    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding (batch, dim) to logits (batch, classes)."""
        return self.fc_audioset(embedding)  # type: ignore[no-any-return]


def max_pool(x: Tensor, size: int) -> Tensor:
    """Pools (batch, channels, 1, time) by the maximum of every `size` samples. Drops an incomplete last group."""
    return F.max_pool2d(x, (1, size))


class LeeNetBlock(nn.Module):
    """Convolutions of three taps with batch norm and ReLU, conv1 … convN. The first one has the stride."""

    def __init__(self, inputs: int, outputs: int, *, convs: int, stride: int) -> None:
        super().__init__()
        for i in range(1, convs + 1):
            first = i == 1
            self.add_module(f"conv{i}", TimeConv(inputs if first else outputs, outputs, stride=stride if first else 1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.convs = convs

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.convs + 1):
            x = F.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x)))
        return x  # (batch, outputs, 1, time / stride)


class LeeNet(PooledTagger):
    """Every block divides the rate by three. After Lee, Park, Kim, Nam: Sample-level deep convolutional networks
    for music auto-tagging using raw waveforms, SMC 2017, https://arxiv.org/abs/1703.01789.

    Args:
        classes: number of classes, ≥ 1.
        channels: output channels of the blocks.
        embedding: length of the embedding.
        convs: convolutions per block.
        pools: blocks that a pooling by three follows, counted from 1.
        dropout: dropout after every block except the last.
    """

    def __init__(
        self,
        classes: int,
        channels: Sequence[int],
        *,
        embedding: int,
        convs: int,
        pools: range,
        dropout: float,
    ) -> None:
        super().__init__(channels[-1], embedding, classes)
        for i, (inputs, outputs) in enumerate(pairwise((1, *channels)), start=1):
            self.add_module(f"conv_block{i}", LeeNetBlock(inputs, outputs, convs=convs, stride=3 if i == 1 else 1))
        self.blocks, self.pools, self.dropout = len(channels), pools, dropout

    def features(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples) to features (batch, channels, 1, samples / 3^blocks or so)."""
        x = waveform[:, None, None]  # (batch, 1, 1, samples)
        for i in range(1, self.blocks + 1):
            x = self.get_submodule(f"conv_block{i}")(x)
            if i in self.pools:
                # After a ReLU, zeros do not change the maximum. A pooling's own padding would be minus infinity, which
                # float16 arithmetic does not have.
                x = max_pool(F.pad(x, (1, 1)), 3)
            if i < self.blocks:
                x = F.dropout(x, self.dropout, training=self.training)
        return x


class LeeNet11(LeeNet):
    """LeeNet11: one convolution per block, 0.7 M parameters."""

    def __init__(
        self,
        classes: int = 527,
        *,
        channels: Sequence[int] = (64, 64, 64, 128, 128, 128, 128, 128, 256),
        embedding: int = 512,
    ) -> None:
        pools = range(2, len(channels) + 1)
        super().__init__(classes, channels, embedding=embedding, convs=1, pools=pools, dropout=0.0)


class LeeNet24(LeeNet):
    """LeeNet24: two convolutions per block, no pooling after the last block, 10 M parameters."""

    def __init__(
        self,
        classes: int = 527,
        *,
        channels: Sequence[int] = (64, 96, 128, 128, 256, 256, 512, 512, 1024),
        embedding: int = 1024,
    ) -> None:
        pools = range(2, len(channels))
        super().__init__(classes, channels, embedding=embedding, convs=2, pools=pools, dropout=0.1)


class DaiNetBlock(nn.Module):
    """Four convolutions of three taps and a residual connection, which is projected if the widths differ.

    The original and its checkpoints have the projection's parameters in any case.
    """

    CONVS = 4

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for i in range(1, self.CONVS + 1):
            self.add_module(f"conv{i}", TimeConv(inputs if i == 1 else outputs, outputs))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.downsample = TimeConv(inputs, outputs, 1)
        self.bn_downsample = nn.BatchNorm2d(outputs)
        self.project = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.bn_downsample(self.downsample(x)) if self.project else x
        for i in range(1, self.CONVS + 1):
            x = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x))
            x = F.relu(x if i < self.CONVS else x + shortcut)
        return x  # (batch, outputs, 1, time)


class DaiNet19(PooledTagger):
    """Residual blocks with poolings by four between them, 4.4 M parameters. After Dai, Dai, Qu, Li, Das: Very deep
    convolutional neural networks for raw waveforms, ICASSP 2017, https://arxiv.org/abs/1610.00087.

    Args:
        classes: number of classes, ≥ 1.
        channels: output channels of the blocks. The first is also the stem's.
        embedding: length of the embedding.
    """

    def __init__(
        self, classes: int = 527, *, channels: Sequence[int] = (64, 128, 256, 512), embedding: int = 512
    ) -> None:
        super().__init__(channels[-1], embedding, classes)
        self.conv0 = TimeConv(1, channels[0], 80, stride=4, pad=0)
        self.bn0 = nn.BatchNorm2d(channels[0])
        for i, (inputs, outputs) in enumerate(pairwise((channels[0], *channels)), start=1):
            self.add_module(f"conv_block{i}", DaiNetBlock(inputs, outputs))
        self.blocks = len(channels)

    def features(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples) to features (batch, channels, 1, samples / 256 or so)."""
        x = self.bn0(self.conv0(waveform[:, None, None]))  # (batch, channels, 1, samples / 4)
        for i in range(1, self.blocks + 1):
            x = self.get_submodule(f"conv_block{i}")(x if i == 1 else max_pool(x, 4))
        return x  # type: ignore[no-any-return]


class Res1dBlock(nn.Module):
    """Two convolutions of three taps, the second dilated by two, and a residual connection.

    With a stride, both branches are pooled first, that of the convolutions by maximum, the projected one by mean.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = TimeConv(inputs, outputs)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = TimeConv(outputs, outputs, dilation=2)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        if stride > 1:
            pool = nn.AvgPool2d((1, stride))
            self.downsample = nn.Sequential(pool, TimeConv(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.stride > 1:
            x, shortcut = max_pool(x, self.stride), self.downsample(x)
        x = F.dropout(F.relu(self.bn1(self.conv1(x))), 0.1, training=self.training)
        return F.relu(self.bn2(self.conv2(x)) + shortcut)  # (batch, outputs, 1, time / stride)


class Res1dNet(PooledTagger):
    """A residual network on samples. Every layer except the first divides the rate by four.

    Args:
        classes: number of classes, ≥ 1.
        depths: number of blocks of every layer.
        channels: output channels of every layer. The first is also the stem's.
        embedding: length of the embedding.
    """

    def __init__(
        self,
        classes: int = 527,
        *,
        depths: Sequence[int],
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 1024, 2048),
        embedding: int = 2048,
    ) -> None:
        super().__init__(channels[-1], embedding, classes)
        self.conv0 = TimeConv(1, channels[0], 11, stride=5)
        self.bn0 = nn.BatchNorm2d(channels[0])
        self.resnet = nn.Sequential()
        widths = pairwise((channels[0], *channels))
        for i, ((inputs, outputs), depth) in enumerate(zip(widths, depths, strict=True), start=1):
            first = Res1dBlock(inputs, outputs, stride=1 if i == 1 else 4)
            rest = (Res1dBlock(outputs, outputs, stride=1) for _ in range(depth - 1))
            self.resnet.add_module(f"layer{i}", nn.Sequential(first, *rest))

    def features(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples ≥ 20480) to features (batch, channels, 1, samples / 20480 or so)."""
        return self.resnet(self.bn0(self.conv0(waveform[:, None, None])))  # type: ignore[no-any-return]


class Res1dNet31(Res1dNet):
    """Res1dNet31: 14 blocks, 80 M parameters."""

    def __init__(self, classes: int = 527, *, depths: Sequence[int] = (2,) * 7, **widths: Any) -> None:
        super().__init__(classes, depths=depths, **widths)


class Res1dNet51(Res1dNet):
    """Res1dNet51: 24 blocks, 107 M parameters."""

    def __init__(self, classes: int = 527, *, depths: Sequence[int] = (2, 3, 4, 6, 4, 3, 2), **widths: Any) -> None:
        super().__init__(classes, depths=depths, **widths)
