"""Cnn14_DecisionLevelMax, …Avg and …Att of PANNs: tags of every 32 frames, and clip-wise tags that summarise them.

They are written for export, and their state-dict keys are the original's. Kong et al.: PANNs,
https://arxiv.org/abs/1912.10211. For the attention: Kong, Yu, Xu, Iqbal, Wang, Plumbley: Weakly Labelled AudioSet
Tagging with Attention Neural Networks, https://arxiv.org/abs/1903.00765.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert_convert.networks.cnn14 import Cnn14

STRIDE = 32
"""Frames per segment, from five poolings by 2."""


def pointwise(layer: nn.Linear | nn.Conv1d, x: Tensor) -> Tensor:
    """Applies a linear layer to the channels of (batch, channels, 1, segments).

    It is a 1 × 1 convolution, which keeps the rank and the converter's channels-last order.
    """
    return F.conv2d(x, layer.weight.reshape(*layer.weight.shape[:2], 1, 1), layer.bias)


def framewise(segments: Tensor, frames: int) -> Tensor:
    """Repeats every segment's value for each of its frames, and the last segment's for the remaining frames.

    Args:
        segments: (batch, classes, 1, segments).
        frames: frames of the log-mel, fewer than (segments + 1) · `STRIDE`.

    Returns:
        (batch, frames, classes).
    """
    x = torch.cat([segments, segments[..., -1:]], dim=3) if frames % STRIDE else segments
    # Upsampling by a power of two is free of rounding. expand or repeat_interleave would become a BROADCAST_TO or a
    # GATHER, which the GPU refuses.
    x = F.interpolate(x, scale_factor=(1.0, float(STRIDE)), mode="nearest")  # (batch, classes, 1, segments · 32)
    return x[..., :frames].permute(0, 2, 3, 1).flatten(1, 2)


class DecisionLevel(Cnn14):
    """Log-mel to class probabilities of the clip and of every frame, and an embedding.

    The original has no embedding. This one is the mean over time of the features that the classes are computed from.
    A clip has no logits; `trace` returns those of its segments. The arguments are those of Cnn14.
    """

    def segments(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames ≥ 32, mels), dB, to features (batch, dim, 1, segments), ≥ 0."""
        # Maximum and mean of three segments at a time. Time is the last axis, because the converter puts windows of
        # (3, 1) between two transposes. Zero padding does not change the maximum of values ≥ 0, and the original's mean
        # includes the zeros.
        x = F.pad(self.mel_mean(logmel).transpose(2, 3), (1, 1))  # (batch, channels, 1, segments + 2)
        x = F.max_pool2d(x, (1, 3), stride=1) + F.avg_pool2d(x, (1, 3), stride=1)
        x = F.dropout(x, 0.5, training=self.training)
        x = F.relu(pointwise(self.fc1, x))
        return F.dropout(x, 0.5, training=self.training)

    @abstractmethod
    def decide(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features to segment-wise logits (batch, classes, 1, segments) and clip-wise probs (batch, classes, 1, 1)."""

    def embed(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames ≥ 32, mels), dB, to the embedding (batch, dim), ≥ 0."""
        return self.trace(logmel)["embedding"]

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """As in the base class, with framewise (batch, frames, classes). Logits are (batch, segments, classes)."""
        features = self.segments(x)
        logits, probs = self.decide(features)
        return {
            "logits": logits.flatten(2).transpose(1, 2),
            "embedding": features.mean(dim=3, keepdim=True).flatten(1),
            "probs": probs.flatten(1),
            "framewise": framewise(torch.sigmoid(logits), x.shape[2]),
        }


class Cnn14DecisionLevelMax(DecisionLevel):
    """Clip-wise probabilities are the maximum of the segments' probabilities."""

    def decide(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = pointwise(self.fc_audioset, features)  # (batch, classes, 1, segments)
        return logits, F.max_pool2d(torch.sigmoid(logits), (1, logits.shape[3]))


class Cnn14DecisionLevelAvg(DecisionLevel):
    """Clip-wise probabilities are the mean of the segments' probabilities."""

    def decide(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = pointwise(self.fc_audioset, features)  # (batch, classes, 1, segments)
        return logits, F.avg_pool2d(torch.sigmoid(logits), (1, logits.shape[3]))


class Attention(nn.Module):
    """Two linear layers on features: `cla` for the classes, and `att` for the weight of every segment."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.att = nn.Conv1d(inputs, classes, 1)
        self.cla = nn.Conv1d(inputs, classes, 1)
        self.bn_att = nn.BatchNorm1d(classes)  # unused, but in every checkpoint


class Cnn14DecisionLevelAtt(DecisionLevel):
    """Clip-wise probabilities are a mean of the segments' probabilities, weighted by the softmax of their attention."""

    def add_head(self, channels: int, *, embedding: int, classes: int) -> None:
        """Adds the layer after the pooled features, and the attention."""
        self.fc1 = nn.Linear(channels, embedding)
        self.att_block = Attention(embedding, classes)

    def decide(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = pointwise(self.att_block.cla, features)  # (batch, classes, 1, segments)
        attention = pointwise(self.att_block.att, features).clamp(-10.0, 10.0)
        # Softmax over segments, written out to keep the order of the axes. It takes means instead of sums, of numbers
        # up to 1, so that nothing can exceed float16's range.
        weight = torch.exp(attention - F.max_pool2d(attention, (1, attention.shape[3])))
        total = (weight * torch.sigmoid(logits)).mean(dim=3, keepdim=True)
        return logits, total / weight.mean(dim=3, keepdim=True)
