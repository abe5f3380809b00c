"""The registry of the zoo, with one record per model, and the tables that describe it.

Weights and mAP of PANNs are from https://zenodo.org/records/3987831 (CC-BY-4.0) and the table of
https://arxiv.org/abs/1912.10211.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from panns_litert.bundle import GraphName
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_8K, PANNS_16K, PANNS_32K, FrontEndSpec
from panns_litert.models import no_model
from panns_litert_convert.networks import (
    Ast,
    AudioTagger,
    Cnn6,
    Cnn10,
    Cnn14,
    Cnn14DecisionLevelAtt,
    Cnn14DecisionLevelAvg,
    Cnn14DecisionLevelMax,
    DaiNet19,
    LeeNet11,
    LeeNet24,
    MobileNetV1,
    MobileNetV2,
    MobileNetV3,
    Res1dNet31,
    Res1dNet51,
    ResNet22,
    ResNet38,
    ResNet54,
    WavegramCnn14,
    WavegramLogmel128Cnn14,
    WavegramLogmelCnn14,
)

CLIP_SECONDS = (1.0, 60.0)
"""Shortest and longest clip of a bundle, s."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Source of the weights, and their size and hash.

    Attributes:
        file: file name in the cache.
        url: where to download the file. None if it ships with the package or was never published.
        sha256, md5, bytes: None if unknown. The strongest known hash is checked.
        licence, attribution: of the weights.
        published: False if nobody has published weights for this network.
    """

    file: str
    url: str | None
    licence: str
    attribution: str
    sha256: str | None = None
    md5: str | None = None
    bytes: int | None = None
    published: bool = True

    @property
    def ships(self) -> bool:
        """Whether the file ships with the package."""
        return self.url is None and self.published


@dataclass(frozen=True, kw_only=True)
class Model:
    """One entry of the zoo.

    Attributes:
        name: name on the command line.
        network: the architecture's name in the literature.
        description: one line for tables and model cards.
        architecture: the network's class. Its default arguments give the original network.
        options: arguments of `architecture` that differ from the defaults.
        front_end: specification of its log-mel.
        labels: file of class names in panns_litert_assets.
        dataset: what it was trained on; part of the file name.
        checkpoint: its weights.
        published_map: published mean average precision, or None.
        golden: name of the original's golden figures in panns_litert_golden.
        golden_options: options of the network with these figures; None if they are `options`.
        own_classes: class names of a fine-tuned network, used instead of those in `labels`; None for other networks.
    """

    name: str
    network: str
    description: str
    architecture: type[AudioTagger]
    options: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEndSpec
    labels: str
    dataset: str
    checkpoint: Checkpoint
    published_map: float | None
    golden: str
    golden_options: Mapping[str, Any] | None = None
    own_classes: tuple[str, ...] | None = None

    @property
    def graphs(self) -> tuple[GraphName, ...]:
        """The graphs that the model can be converted to, the default first."""
        return ("waveform",) if self.architecture.graph == "waveform" else ("logmel", "waveform")

    def input_shape(self, seconds: float, graph: GraphName | None = None) -> tuple[int, ...]:
        """Returns the shape of a graph's input for clips of `seconds` s.

        It is (1, samples) for "waveform" and (1, 1, frames, mels) for "logmel". The default is the first of `graphs`.
        """
        samples = self.front_end.samples(seconds)
        if (graph or self.graphs[0]) == "waveform":
            return (1, samples)
        return (1, 1, self.front_end.frames(samples), self.front_end.n_mels)

    def build(self) -> AudioTagger:
        """Returns the network with random weights."""
        return self.architecture(classes=len(self.class_names()), **self.options)

    def class_names(self) -> tuple[str, ...]:
        """Returns the model's class names, in the order of its outputs."""
        if self.own_classes is not None:
            return self.own_classes
        return tuple(asset(self.labels).read_text(encoding="utf-8").splitlines())


@dataclass(frozen=True, kw_only=True)
class Size:
    """Number of parameters, 1e9 multiply-accumulates for 10 s of audio, and names of the outputs of a network."""

    parameters: int
    gmac: float
    outputs: tuple[str, ...]


def size_of(model: Model) -> Size:
    """Returns a network's size, computed without allocating its weights."""
    with torch.device("meta"):
        network = model.build().eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            outputs = network.for_export(samples=model.front_end.samples(10.0))(torch.zeros(model.input_shape(10.0)))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Size(parameters=parameters, gmac=counter.get_total_flops() / 2e9, outputs=tuple(outputs))


def properties() -> list[dict[str, Any]]:
    """Returns one row per model, in JSON types; models.json of panns_litert_assets has the same."""
    table = []
    for model in MODELS:
        size = size_of(model)
        table.append(
            {
                "name": model.name,
                "network": model.network,
                "sample_rate": model.front_end.sample_rate,
                "parameters": size.parameters,
                "gmac_per_10_s": round(size.gmac, 3),
                "classes": len(model.class_names()),
                "published_map": model.published_map,
                "licence": model.checkpoint.licence,
                "checkpoint": model.checkpoint.file if model.checkpoint.published else None,
                "checkpoint_bytes": model.checkpoint.bytes,
                "graphs": list(model.graphs),
                "outputs": list(size.outputs),
                "description": model.description,
            }
        )
    return table


def asset(name: str) -> Path:
    """Returns the path of a file that ships with the package."""
    return Path(str(resources.files("panns_litert_assets") / name))


def golden(name: str) -> Path:
    """Returns the path of a file of the original networks' golden figures."""
    return Path(str(resources.files("panns_litert_golden") / name))


def golden_figures(name: str) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an original network's golden figures.

    Most networks have the same log-mel (frames, mels) as input. It is stored once, in logmels.npz, and the files of
    these networks hold its name there instead.
    """
    with np.load(golden(f"{name}.npz")) as file:
        figures = dict(file)
    if "logmel" in figures and figures["logmel"].dtype.kind == "U":
        with np.load(golden("logmels.npz")) as shared:
            figures["logmel"] = shared[str(figures["logmel"])]
    return figures


def golden_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Returns the state-dict keys and shapes of an original network.

    Networks with the state dict of another one have no file of keys, but that one's name in their figures.
    """
    if not golden(f"{name}.keys.json").is_file():
        name = str(golden_figures(name)["keys"])
    shapes = json.loads(golden(f"{name}.keys.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in shapes.items()}


def _panns(
    name: str,
    architecture: type[AudioTagger],
    file: str,
    known_hash: str | None = None,
    size: int | None = None,
    front_end: FrontEndSpec = PANNS_32K,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Returns a record of PANNs. Its weights (https://zenodo.org/records/3987831) are named after network and mAP."""
    network, _, mean_ap = file.removesuffix(".pth").partition("_mAP=")
    known = {"sha256" if len(known_hash) == 64 else "md5": known_hash} if known_hash else {}
    return Model(
        name=name,
        network=network,
        description=f"PANNs {network}, {front_end.sample_rate // 1000} kHz, 527 AudioSet classes",
        architecture=architecture,
        options=options or {},
        front_end=front_end,
        labels="audioset_labels.txt",
        dataset="audioset",
        checkpoint=Checkpoint(
            file=file,
            url=f"https://zenodo.org/records/3987831/files/{quote(file)}?download=1" if mean_ap else None,
            licence="CC-BY-4.0",
            attribution="Qiuqiang Kong et al., PANNs, https://zenodo.org/records/3987831",
            bytes=size,
            published=bool(mean_ap),
            **known,
        ),
        published_map=float(mean_ap) if mean_ap else None,
        golden=network,
    )


def _efficientat(
    name: str,
    width: float,
    mean_ap: int,
    sha256: str | None = None,
    size: int | None = None,
    spec: FrontEndSpec = EFFICIENTAT_32K,
) -> Model:
    """Returns a record of EfficientAT. Its weights, of release v0.0.1, are named after the network and mAP."""
    network, _, setting = name.partition("_")
    title = f"{network}_as" + (f"_{setting}" if setting else "")
    # mn10's figures stand for those of the other widths.
    golden_name, golden_width = (title, width) if name.startswith(("mn04", "mn10")) else ("mn10_as", 1.0)
    different = f", hop {spec.hop_length}, {spec.n_mels} mels" if setting else ""
    return Model(
        name=name,
        network=f"EfficientAT {name}",
        description=f"EfficientAT {title} (MobileNetV3, width {width:g}{different}), 32 kHz, 527 AudioSet classes",
        architecture=MobileNetV3,
        options={"width": width},
        golden_options={"width": golden_width},
        front_end=spec,
        labels="audioset_labels.txt",
        dataset="audioset",
        checkpoint=Checkpoint(
            file=f"{title}_mAP_{mean_ap}.pt",
            url=f"https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{title}_mAP_{mean_ap}.pt",
            licence="MIT",
            attribution="Florian Schmid et al., EfficientAT, https://github.com/fschmid56/EfficientAT",
            sha256=sha256,
            bytes=size,
        ),
        published_map=mean_ap / 1000,
        golden=golden_name,
    )


_MN04_SHA256 = "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"
_MN10_SHA256 = "0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e"
_CNN14_SHA256 = "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31"
_CNN14_16K_SHA256 = "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6"
_CNN14_MAX_SHA256 = "dd3b4043a87d4ec13df8082c0fcfee3fb5084151808e47e060987a95eabdd142"
_MEL32, _MEL128 = replace(PANNS_32K, n_mels=32), replace(PANNS_32K, n_mels=128)

_AST_HUB = "https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593"

DEMO_CHANNELS = (8, 16, 32, 64, 80, 96)
"""Channels of the demo network's six blocks; Cnn14 has 64 … 2048."""

MODELS: tuple[Model, ...] = (
    Model(
        name="demo",
        network="Cnn14 (narrow)",
        description="Demo: Cnn14's topology with narrow channels, trained on synthetic sounds. Not PANNs.",
        architecture=Cnn14,
        options={"channels": DEMO_CHANNELS},
        golden_options={},
        front_end=PANNS_32K,
        labels="demo_labels.txt",
        dataset="synthetic",
        checkpoint=Checkpoint(
            file="demo_checkpoint.safetensors",
            url=None,
            licence="Apache-2.0",
            attribution="made by this project",
            sha256="4d0f1e33d91171812a290cc13153e15b835133c8988ddcd5c1fbb7979118b627",
            bytes=1380264,
        ),
        published_map=None,
        golden="Cnn14",
    ),
    *(
        _panns(*entry)
        for entry in (
            # name, architecture, file of the weights (without "_mAP=" if unpublished), sha256 or md5, bytes
            ("cnn14", Cnn14, "Cnn14_mAP=0.431.pth", _CNN14_SHA256, 327428481),
            ("cnn14_16k", Cnn14, "Cnn14_16k_mAP=0.438.pth", _CNN14_16K_SHA256, None, PANNS_16K),
            ("cnn14_8k", Cnn14, "Cnn14_8k_mAP=0.416.pth", None, None, PANNS_8K),
            ("cnn14_emb512", Cnn14, "Cnn14_emb512_mAP=0.420.pth", None, None, PANNS_32K, {"embedding": 512}),
            ("cnn14_emb128", Cnn14, "Cnn14_emb128_mAP=0.412.pth", None, None, PANNS_32K, {"embedding": 128}),
            ("cnn14_emb32", Cnn14, "Cnn14_emb32_mAP=0.364.pth", None, None, PANNS_32K, {"embedding": 32}),
            ("cnn14_mel32", Cnn14, "Cnn14_mel32.pth", None, None, _MEL32, {"n_mels": 32}),
            ("cnn14_mel128", Cnn14, "Cnn14_mel128.pth", None, None, _MEL128, {"n_mels": 128}),
            (
                "cnn14_decisionlevelmax",
                Cnn14DecisionLevelMax,
                "Cnn14_DecisionLevelMax_mAP=0.385.pth",
                _CNN14_MAX_SHA256,
                327428481,
            ),
            ("cnn14_decisionlevelavg", Cnn14DecisionLevelAvg, "Cnn14_DecisionLevelAvg.pth"),
            (
                "cnn14_decisionlevelatt",
                Cnn14DecisionLevelAtt,
                "Cnn14_DecisionLevelAtt_mAP=0.425.pth",
                "c8281ca2b9967244b91d557aa941e8ca",
            ),
            ("cnn6", Cnn6, "Cnn6_mAP=0.343.pth", "e25e26b84585b14c7754c91e48efc9be"),
            ("cnn10", Cnn10, "Cnn10_mAP=0.380.pth", "bfb1f1f9968938fa8ef4012b8471f5f6", 25237595),
            ("resnet22", ResNet22, "ResNet22_mAP=0.430.pth", "cf36d413096793c4e15dc752a3abd599"),
            ("resnet38", ResNet38, "ResNet38_mAP=0.434.pth", "bf12f36aaabac4e0855e22d3c3239c1b"),
            ("resnet54", ResNet54, "ResNet54_mAP=0.429.pth", "4f1f1406d37a29e2379916885e18c5f3"),
            ("mobilenetv1", MobileNetV1, "MobileNetV1_mAP=0.389.pth", "a419303e1c88aa1b9d2ac3811563d371", 23639473),
            ("mobilenetv2", MobileNetV2, "MobileNetV2_mAP=0.383.pth"),
            ("leenet11", LeeNet11, "LeeNet11_mAP=0.266.pth", "61ba7a7a85542fe4e97240db974eb158"),
            ("leenet24", LeeNet24, "LeeNet24_mAP=0.336.pth"),
            ("dainet19", DaiNet19, "DaiNet19_mAP=0.295.pth"),
            ("res1dnet31", Res1dNet31, "Res1dNet31_mAP=0.365.pth"),
            ("res1dnet51", Res1dNet51, "Res1dNet51_mAP=0.355.pth"),
            ("wavegram_cnn14", WavegramCnn14, "Wavegram_Cnn14_mAP=0.389.pth", "1e3506ab640371e0b5a417b15fd66d21"),
            (
                "wavegram_logmel_cnn14",
                WavegramLogmelCnn14,
                "Wavegram_Logmel_Cnn14_mAP=0.439.pth",
                "17fa9ab65af3c0eb5ffbc5f65552c4e1",
            ),
            ("wavegram_logmel128_cnn14", WavegramLogmel128Cnn14, "Wavegram_Logmel128_Cnn14.pth", None, None, _MEL128),
        )
    ),
    _efficientat("mn04", 0.4, 432, _MN04_SHA256, 4066513),
    _efficientat("mn05", 0.5, 443),
    _efficientat("mn10", 1.0, 471, _MN10_SHA256, 19708753),
    # mn10 with a hop of 5 … 25 ms instead of 10 ms, or with 40 … 256 mels instead of 128. fmin and fmax stay the same
    # (AugmentMelSTFT in EfficientAT's models/preprocess.py).
    _efficientat("mn10_hop_5", 1.0, 475, spec=replace(EFFICIENTAT_32K, hop_length=160)),
    _efficientat("mn10_hop_15", 1.0, 463, spec=replace(EFFICIENTAT_32K, hop_length=480)),
    _efficientat("mn10_hop_20", 1.0, 456, spec=replace(EFFICIENTAT_32K, hop_length=640)),
    _efficientat("mn10_hop_25", 1.0, 447, spec=replace(EFFICIENTAT_32K, hop_length=800)),
    _efficientat("mn10_mels_40", 1.0, 453, spec=replace(EFFICIENTAT_32K, n_mels=40)),
    _efficientat("mn10_mels_64", 1.0, 461, spec=replace(EFFICIENTAT_32K, n_mels=64)),
    _efficientat("mn10_mels_256", 1.0, 474, spec=replace(EFFICIENTAT_32K, n_mels=256)),
    _efficientat("mn20", 2.0, 478),
    _efficientat("mn30", 3.0, 482),
    _efficientat("mn40", 4.0, 484),
    Model(
        name="epanns",
        network="E-PANNs",
        description="E-PANNs (Cnn14 with half the filters of blocks 4 to 6), 32 kHz, 527 AudioSet classes",
        architecture=Cnn14,
        # Singh, Liu, Plumbley 2023, https://arxiv.org/abs/2305.18665, prune filters from the seventh convolution on.
        options={"channels": (64, 128, 256, 256, 512, 1024), "embedding": 2048},
        golden_options={},
        front_end=PANNS_32K,
        labels="audioset_labels.txt",
        dataset="audioset",
        checkpoint=Checkpoint(
            file="checkpoint_closeto_.44.pt",
            url="https://zenodo.org/records/7939403/files/checkpoint_closeto_.44.pt?download=1",
            licence="see its page",
            attribution="Arshdeep Singh, Haohe Liu, Mark D. Plumbley, E-PANNs, https://zenodo.org/records/7939403",
        ),
        published_map=None,
        golden="Cnn14",
    ),
    Model(
        name="ast",
        network="AST",
        description="AST-B/16 (audio spectrogram transformer), 16 kHz, 527 AudioSet classes",
        architecture=Ast,
        front_end=AST_16K,
        labels="audioset_labels.txt",
        dataset="audioset",
        checkpoint=Checkpoint(
            file="ast-finetuned-audioset-10-10-0.4593.safetensors",
            url=f"{_AST_HUB}/resolve/f826b80d28226b62986cc218e5cec390b1096902/model.safetensors",
            licence="BSD-3-Clause",
            attribution=f"Yuan Gong, Yu-An Chung, James Glass, AST, {_AST_HUB}",
        ),
        published_map=0.4593,
        golden="AST",
    ),
)


def find(name: str) -> Model:
    """Returns the model with a name, ignoring case.

    Raises:
        ModelError: the name is unknown. The message suggests the names that are most like it.
    """
    for model in MODELS:
        if isinstance(name, str) and model.name == name.casefold():
            return model
    raise no_model(name)
