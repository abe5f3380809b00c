"""What every network of the zoo is: log-mel or samples in, named outputs out."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

OUTPUTS = ("probs", "embedding", "framewise")
"""Outputs that a graph may have, in the order that it has them in."""


class AudioTagger(nn.Module):
    """A network whose classes are sigmoids of a linear layer on an embedding. Others override `trace`.

    Attributes:
        graph: what it takes, and the name of its graph's input: "logmel", (batch, 1, frames, mels), or
            "waveform", (batch, samples).
        has_log_mel: of one that takes samples, whether it computes a log-mel of them.
    """

    graph: ClassVar[str]
    has_log_mel: ClassVar[bool] = False

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """The input to the embedding (batch, dim)."""

    @abstractmethod
    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding to logits (batch, classes)."""

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """Everything that the golden figures hold: logits, embedding, probs; framewise where there is one."""
        embedding = self.embed(x)
        logits = self.logits(embedding)
        return {"logits": logits, "embedding": embedding, "probs": torch.sigmoid(logits)}

    def for_export(self, *, samples: int) -> nn.Module:
        """What a graph for a waveform of that many samples is made from: this network, unless it says otherwise."""
        return self

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        found = self.trace(x)
        return {name: found[name] for name in OUTPUTS if name in found}


class LogmelTagger(AudioTagger):
    """A network that takes the log-mel of its front end."""

    graph = "logmel"

    def forward(self, logmel: Tensor) -> dict[str, Tensor]:
        """Log-mel (batch, 1, frames, mels) to probs (batch, classes), embedding (batch, dim) and so on."""
        return self._outputs(logmel)


class WaveformTagger(AudioTagger):
    """A network that takes samples."""

    graph = "waveform"

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Samples (batch, samples), within [-1, 1], to probs (batch, classes), embedding (batch, dim) and so on."""
        return self._outputs(waveform)
