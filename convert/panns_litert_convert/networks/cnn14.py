"""Cnn6, Cnn10 and Cnn14 of PANNs, written for export. Their state-dict keys are the original's.

Kong, Cao, Iqbal, Wang, Wang, Plumbley: PANNs: Large-Scale Pretrained Audio Neural Networks for Audio
Pattern Recognition, IEEE/ACM TASLP 28 (2020), https://arxiv.org/abs/1912.10211, table I.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from panns_litert_convert.networks.blocks import ConvBlock, LogmelCnn


class Cnn14(LogmelCnn):
    """Log-mel to class probabilities and an embedding.

    Cnn14_16k and Cnn14_8k are this network with another front end. Cnn14_mel32 and Cnn14_mel128 have another
    `n_mels`. Cnn14_emb32, Cnn14_emb128 and Cnn14_emb512 have another `embedding`.

    Args:
        classes: number of classes, ≥ 1.
        n_mels: mel bands of the log-mel, ≥ 32 (five poolings by 2).
        channels: output channels of the blocks; by default the original's (Cnn14: 80.8 M parameters with 527 classes).
        embedding: length of the embedding; by default the last block's output channels.

    Attributes:
        widths: the original's `channels`.
        kernel, convs: kernel side and number of convolutions of every block.
        pool_last: whether the last block pools too.
    """

    widths: ClassVar[Sequence[int]] = (64, 128, 256, 512, 1024, 2048)
    kernel: ClassVar[int] = 3
    convs: ClassVar[int] = 2
    pool_last: ClassVar[bool] = False

    def __init__(
        self,
        classes: int = 527,
        n_mels: int = 64,
        channels: Sequence[int] | None = None,
        *,
        embedding: int | None = None,
    ) -> None:
        super().__init__(n_mels=n_mels)
        channels = self.widths if channels is None else channels
        for i, (inputs, outputs) in enumerate(zip((1, *channels), channels, strict=False), start=1):
            pool = self.pool_last or i < len(channels)
            block = ConvBlock(inputs, outputs, pool=pool, kernel=self.kernel, convs=self.convs)
            self.add_module(f"conv_block{i}", block)
        self.blocks = len(channels)
        self.add_head(channels[-1], embedding=channels[-1] if embedding is None else embedding, classes=classes)

    def convolve(self, x: Tensor) -> Tensor:
        """Normalised log-mel (batch, 1, frames, mels) to (batch, channels, frames / 32, mels / 32), ≥ 0."""
        for i in range(1, self.blocks + 1):
            x = self.get_submodule(f"conv_block{i}")(x)
            x = F.dropout(x, 0.2, training=self.training)
        return x


class Cnn10(Cnn14):
    """Four blocks, all of them pooling: frames and mels / 16. 5.2 M parameters with 527 classes."""

    widths = (64, 128, 256, 512)
    pool_last = True


class Cnn6(Cnn10):
    """Cnn10 with one 5 × 5 convolution per block. 4.8 M parameters with 527 classes."""

    kernel = 5
    convs = 1
