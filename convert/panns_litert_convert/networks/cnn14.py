"""Cnn14 of PANNs, written for export; its state-dict keys are the original's.

Kong, Cao, Iqbal, Wang, Wang, Plumbley: PANNs: Large-Scale Pretrained Audio Neural Networks for Audio
Pattern Recognition, IEEE/ACM TASLP 28 (2020), https://arxiv.org/abs/1912.10211, table I.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert_convert.networks.tagger import LogmelTagger


class ConvBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm and ReLU; average pooling of 2 × 2 where `pool` is True."""

    def __init__(self, inputs: int, outputs: int, *, pool: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (batch, outputs, frames, mels)
        x = F.relu(self.bn2(self.conv2(x)))
        # The original also "pools" its last block by 1 × 1; leaving that out is exact.
        return F.avg_pool2d(x, 2) if self.pool else x  # (batch, outputs, frames / 2, mels / 2)


class Cnn14(LogmelTagger):
    """Log-mel to class probabilities and an embedding.

    Args:
        classes: number of classes, ≥ 1.
        n_mels: mel bands of the log-mel, ≥ 32 (five poolings by 2).
        channels: outputs of the six blocks; the last is also the embedding's length. The original's by
            default (80.8 M parameters with 527 classes).
    """

    def __init__(
        self,
        classes: int = 527,
        n_mels: int = 64,
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
    ) -> None:
        super().__init__()
        # One scale and offset per mel band. On (batch · frames, mels) this needs no transpose, and the
        # parameters are the same as those of the original's BatchNorm2d.
        self.bn0 = nn.BatchNorm1d(n_mels)
        for i, (inputs, outputs) in enumerate(zip((1, *channels), channels, strict=False), start=1):
            self.add_module(f"conv_block{i}", ConvBlock(inputs, outputs, pool=i < len(channels)))
        self.blocks = len(channels)
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], classes)

    def embed(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames ≥ 32, mels), dB, to the embedding (batch, dim), ≥ 0."""
        x = self.bn0(logmel.flatten(0, 2)).view_as(logmel)
        for i in range(1, self.blocks + 1):
            x = self.get_submodule(f"conv_block{i}")(x)
            x = F.dropout(x, 0.2, training=self.training)
        # Rank 4 throughout and the maximum as a pooling: the converter keeps such a graph channels-last
        # without a single transpose (amax costs one, reductions to rank 2 cost reshapes).
        x = x.mean(dim=3, keepdim=True)  # (batch, channels, frames / 32, 1)
        x = F.max_pool2d(x, (x.shape[2], 1)) + x.mean(dim=2, keepdim=True)  # (batch, channels, 1, 1)
        x = F.dropout(x.flatten(1), 0.5, training=self.training)
        return F.relu(self.fc1(x))

    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding (batch, dim) to logits (batch, classes)."""
        return self.fc_audioset(F.dropout(embedding, 0.5, training=self.training))  # type: ignore[no-any-return]
