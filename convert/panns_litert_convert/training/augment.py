"""Augmentation and sampling: mixup, SpecAugment, and the order of the clips in an epoch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRIPES = 2
TIME_SHARE, MEL_SHARE = 64 / 1001, 8 / 64
"""SpecAugment as in PANNs: two stripes of up to 64 of 1001 frames, and two of up to 8 of 64 mels."""


def mixup(x: Tensor, y: Tensor, *, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixes every clip with a smaller share of another clip, and their labels with the same shares.

    Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018, https://arxiv.org/abs/1710.09412.

    Args:
        x: (batch, …) inputs or embeddings.
        y: (batch, classes), 0 … 1.
        alpha: of the beta distribution of the shares, > 0.
        rng: draws the shares and the other clips.
    """
    share = rng.beta(alpha, alpha, len(x)).astype(np.float32)
    mine = torch.from_numpy(np.maximum(share, 1 - share))
    other = torch.from_numpy(rng.permutation(len(x)))
    of_x, of_y = mine.reshape(-1, *[1] * (x.ndim - 1)), mine[:, None]
    return of_x * x + (1 - of_x) * x[other], of_y * y + (1 - of_y) * y[other]


def mix_pairs(x: Tensor, shares: Tensor) -> Tensor:
    """Mixes every clip at an even index with the next clip, as PANNs does: 2 · batch clips become batch clips.

    Args:
        x: (2 · batch, …) inputs or labels.
        shares: (batch,), of the clips at even indexes, 0 … 1.
    """
    shares = shares.to(x.device).reshape(-1, *[1] * (x.ndim - 1))
    return shares * x[0::2] + (1 - shares) * x[1::2]


def spec_augment(logmel: Tensor, *, rng: np.random.Generator) -> Tensor:
    """Replaces stripes of frames and of mels of log-mels (batch, 1, frames, mels) by each mel's mean over the frames.

    Park et al.: SpecAugment, Interspeech 2019, https://arxiv.org/abs/1904.08779.
    """
    return torch.where(unhidden(logmel, rng=rng), logmel, logmel.mean(dim=2, keepdim=True))


def unhidden(logmel: Tensor, *, rng: np.random.Generator) -> Tensor:
    """Returns SpecAugment's mask of log-mels (batch, 1, frames, mels), bool of that shape: False in the stripes."""
    batch, _, frames, mels = logmel.shape
    times, bands = np.ones((batch, 1, frames, 1), np.bool_), np.ones((batch, 1, 1, mels), np.bool_)
    for time, band in zip(times, bands, strict=True):
        for _ in range(STRIPES):
            start, end = _stripe(frames, TIME_SHARE, rng)
            time[:, start:end] = False
            start, end = _stripe(mels, MEL_SHARE, rng)
            band[:, :, start:end] = False
    return (torch.from_numpy(times) & torch.from_numpy(bands)).to(logmel.device)


def _stripe(size: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(0, max(1, round(share * size)) + 1))
    start = int(rng.integers(0, size - width + 1))
    return start, start + width


def epoch_order(truth: NDArray[np.float32], *, balanced: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns the indexes (clips,) of the clips of an epoch, in order.

    Args:
        truth: (clips, classes), 0 or 1.
        balanced: draw every class equally often, so that clips repeat or are left out; otherwise every clip once.
        rng: draws the clips.
    """
    if not balanced:
        return rng.permutation(len(truth))
    # A clip counts for its rarest class; clips without a class form one more class.
    sizes = np.append(truth.sum(axis=0), (truth.sum(axis=1) == 0).sum())
    have = np.column_stack([truth, truth.sum(axis=1) == 0])
    weights = (have / np.maximum(sizes, 1)).max(axis=1)
    return np.asarray(rng.choice(len(truth), len(truth), p=weights / weights.sum()))
