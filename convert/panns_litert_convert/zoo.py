"""The registry: one record per model. Generic code does the rest.

Weights and mAP of PANNs: https://zenodo.org/records/3987831 (CC-BY-4.0) and table of
https://arxiv.org/abs/1912.10211.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from panns_litert.errors import ModelError
from panns_litert.frontend import PANNS_32K, FrontEndSpec
from panns_litert_convert.networks.cnn14 import Cnn14

CLIP_SECONDS = (1.0, 60.0)
"""Shortest and longest clip that a bundle can be made for."""


class Network(Protocol):
    """What every network of the zoo offers besides being a module."""

    def embed(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames, mels), dB, to the embedding (batch, dim)."""

    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding to logits (batch, classes)."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where the weights come from and how to tell that they are unaltered.

    Attributes:
        file: its name in the cache.
        url: where to download it, or None for one that ships with the package.
        sha256, md5, bytes: None where not known; the strongest known hash is checked.
        licence, attribution: of the weights.
    """

    file: str
    url: str | None
    licence: str
    attribution: str
    sha256: str | None = None
    md5: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """One entry of the zoo.

    Attributes:
        name: as the command line takes it.
        network: the architecture's name in the literature.
        description: one line for tables and model cards.
        architecture: the network's class; its defaults are the original, which the golden figures are of.
        options: what this model's network has other than the defaults.
        front_end: what its log-mel is.
        labels: file of class names in panns_litert_assets.
        dataset: what it was trained on; part of the file name.
        checkpoint: its weights.
        published_map: mean average precision that was published for it, or None.
        golden: name of the original's golden figures in panns_litert_golden.
    """

    name: str
    network: str
    description: str
    architecture: Callable[..., nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEndSpec
    labels: str
    dataset: str
    checkpoint: Checkpoint
    published_map: float | None
    golden: str

    def build(self) -> nn.Module:
        """The network with random weights."""
        return self.architecture(classes=len(self.class_names()), **self.options)

    def class_names(self) -> tuple[str, ...]:
        """The model's classes, in the order of its outputs."""
        return tuple(asset(self.labels).read_text(encoding="utf-8").splitlines())


def asset(name: str) -> Path:
    """Path of a file that ships with the package."""
    return Path(str(resources.files("panns_litert_assets") / name))


def golden(name: str) -> Path:
    """Path of a golden file of the original networks."""
    return Path(str(resources.files("panns_litert_golden") / name))


def golden_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """State-dict keys and shapes of an original network."""
    shapes = json.loads(golden(f"{name}.keys.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in shapes.items()}


DEMO_CHANNELS = (8, 16, 32, 64, 80, 96)
"""Widths of the demo network's six blocks; Cnn14 has 64 … 2048."""

MODELS: tuple[Model, ...] = (
    Model(
        name="demo",
        network="Cnn14 (narrow)",
        description="Demo: Cnn14's topology with narrow channels, trained on synthetic sounds. Not PANNs.",
        architecture=Cnn14,
        options={"channels": DEMO_CHANNELS},
        front_end=PANNS_32K,
        labels="demo_labels.txt",
        dataset="synthetic",
        checkpoint=Checkpoint(
            file="demo_checkpoint.safetensors",
            url=None,
            licence="Apache-2.0",
            attribution="made by panns_litert_convert.demo.train",
            sha256="d2fd0b719ced2a6afdefbfb7d577beabfa06a901cd0eab18232c058c75c68b32",
            bytes=1380256,
        ),
        published_map=None,
        golden="Cnn14",
    ),
    Model(
        name="cnn14",
        network="Cnn14",
        description="PANNs Cnn14, 32 kHz, 527 AudioSet classes",
        architecture=Cnn14,
        front_end=PANNS_32K,
        labels="audioset_labels.txt",
        dataset="audioset",
        checkpoint=Checkpoint(
            file="Cnn14_mAP=0.431.pth",
            url="https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
            licence="CC-BY-4.0",
            attribution="Qiuqiang Kong et al., PANNs, https://zenodo.org/records/3987831",
            sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
            md5="541141fa2ee191a88f24a3219fff024e",
            bytes=327428481,
        ),
        published_map=0.431,
        golden="Cnn14",
    ),
)


def find(name: str) -> Model:
    """The model of that name, whatever its case.

    Raises:
        ModelError: there is none; the message lists those there are.
    """
    for model in MODELS:
        if model.name == name.casefold():
            return model
    raise ModelError(f"no model {name!r}; expected one of {', '.join(model.name for model in MODELS)}")
