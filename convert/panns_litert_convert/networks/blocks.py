"""Parts that the PANNs networks on log-mel share: the first batch norm, the convolution block and the head.

Kong, Cao, Iqbal, Wang, Wang, Plumbley: PANNs: Large-Scale Pretrained Audio Neural Networks for Audio
Pattern Recognition, IEEE/ACM TASLP 28 (2020), https://arxiv.org/abs/1912.10211, section III.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert_convert.networks.tagger import LogmelTagger


class ConvBlock(nn.Module):
    """Convolutions with batch norm and ReLU, then an average pooling of 2 × 2 if `pool` is True.

    Args:
        inputs, outputs: numbers of channels.
        pool: whether to halve frames and mels.
        kernel: side of the kernels, odd.
        convs: number of convolutions.
    """

    def __init__(self, inputs: int, outputs: int, *, pool: bool, kernel: int = 3, convs: int = 2) -> None:
        super().__init__()
        widths = (inputs, *[outputs] * convs)
        for i in range(convs):
            conv = nn.Conv2d(widths[i], widths[i + 1], kernel, padding=kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
        for i in range(convs):
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(outputs))
        self.convs = convs
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.convs + 1):
            x = self.get_submodule(f"conv{i}")(x)  # (batch, outputs, frames, mels)
            x = F.relu(self.get_submodule(f"bn{i}")(x))
        # The original pools its last block by 1 × 1, which changes nothing and is left out.
        return F.avg_pool2d(x, 2) if self.pool else x  # (batch, outputs, frames / 2, mels / 2)


class LogmelCnn(LogmelTagger):
    """A network that treats log-mel as an image. Subclasses add their layers, then the head, and implement `convolve`.

    Attributes:
        head_dropout: share of the pooled features that training drops.
        augment: applied to the normalised log-mel in training, (batch, 1, frames, mels) to as many or fewer clips; None
            for no augmentation. The originals apply SpecAugment and mixup here.
    """

    head_dropout: ClassVar[float] = 0.5
    augment: Callable[[Tensor], Tensor] | None = None

    def __init__(self, *, n_mels: int) -> None:
        super().__init__()
        # One scale and offset per mel band. On (batch · frames, mels) it needs no transpose, and its parameters are
        # those of the original's BatchNorm2d.
        self.bn0 = nn.BatchNorm1d(n_mels)

    def add_head(self, channels: int, *, embedding: int, classes: int) -> None:
        """Adds the two layers that follow the pooled features (batch, channels)."""
        self.fc1 = nn.Linear(channels, embedding)
        self.fc_audioset = nn.Linear(embedding, classes)

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Normalised log-mel (batch, 1, frames, mels) to (batch, channels, frames / 32, mels / 32), ≥ 0."""

    def mel_mean(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames, mels), dB, to features (batch, channels, frames / 32, 1), ≥ 0."""
        x = self.bn0(logmel.flatten(0, 2)).view_as(logmel)
        if self.augment is not None:
            x = self.augment(x)
        x = self.convolve(x)
        # Rank 4 is kept, because the converter then keeps the graph channels-last without a transpose.
        return x.mean(dim=3, keepdim=True)

    def embed(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames ≥ 32, mels), dB, to the embedding (batch, dim), ≥ 0."""
        x = self.mel_mean(logmel)  # (batch, channels, frames / 32, 1)
        # The maximum is a pooling, because amax needs a transpose and reductions to rank 2 need reshapes.
        x = F.max_pool2d(x, (x.shape[2], 1)) + x.mean(dim=2, keepdim=True)  # (batch, channels, 1, 1)
        x = F.dropout(x.flatten(1), self.head_dropout, training=self.training)
        return F.relu(self.fc1(x))

    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding (batch, dim) to logits (batch, classes)."""
        # In training, the original applies dropout to the embedding that it returns, but not to the one that its
        # classes are computed from.
        return self.fc_audioset(embedding)  # type: ignore[no-any-return]
