"""Base classes of the zoo's networks, which map log-mel or samples to named outputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from panns_litert.bundle import GraphName

OUTPUTS = ("probs", "embedding", "framewise")
"""Possible outputs of a graph, in their order in the graph."""


class AudioTagger(nn.Module):
    """A network with an embedding, from which `logits` computes the classes. Other networks override `trace`.

    Attributes:
        graph: name of the graph's input: "logmel" for (batch, 1, frames, mels), or "waveform" for (batch, samples).
        has_log_mel: whether a network that takes samples computes their log-mel.
    """

    graph: ClassVar[GraphName]
    has_log_mel: ClassVar[bool] = False

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """The network's input to the embedding (batch, dim)."""

    @abstractmethod
    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding to logits (batch, classes)."""

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """Returns all outputs in the golden figures: logits, embedding, probs, and framewise if the network has it."""
        embedding = self.embed(x)
        logits = self.logits(embedding)
        return {"logits": logits, "embedding": embedding, "probs": torch.sigmoid(logits)}

    def for_export(self, *, samples: int) -> nn.Module:
        """Returns the module to export for a waveform of `samples` samples; by default this network."""
        return self

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        found = self.trace(x)
        return {name: found[name] for name in OUTPUTS if name in found}


class LogmelTagger(AudioTagger):
    """A network that takes the log-mel of its front end."""

    graph: ClassVar[GraphName] = "logmel"

    def forward(self, logmel: Tensor) -> dict[str, Tensor]:
        """Log-mel (batch, 1, frames, mels) to the outputs, such as probs (batch, classes)."""
        return self._outputs(logmel)


class WaveformTagger(AudioTagger):
    """A network that takes samples."""

    graph: ClassVar[GraphName] = "waveform"

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Samples (batch, samples), within [-1, 1], to the outputs, such as probs (batch, classes)."""
        return self._outputs(waveform)
