"""Networks: the architectures of the zoo in PyTorch, written for export, with the published checkpoints' key names.

It may import the runtime and, of the converter, `frontend` and `ontology`. It uses only `frontend`.
"""

from panns_litert_convert.networks.ast import Ast, require_config, require_preprocessor
from panns_litert_convert.networks.blocks import ConvBlock, LogmelCnn
from panns_litert_convert.networks.cnn14 import Cnn6, Cnn10, Cnn14
from panns_litert_convert.networks.decision_level import (
    Cnn14DecisionLevelAtt,
    Cnn14DecisionLevelAvg,
    Cnn14DecisionLevelMax,
)
from panns_litert_convert.networks.efficientat import MobileNetV3
from panns_litert_convert.networks.mobilenet import MobileNetV1, MobileNetV2
from panns_litert_convert.networks.resnet import ResNet22, ResNet38, ResNet54
from panns_litert_convert.networks.tagger import AudioTagger, WaveformTagger
from panns_litert_convert.networks.wave1d import DaiNet19, LeeNet11, LeeNet24, PooledTagger, Res1dNet31, Res1dNet51
from panns_litert_convert.networks.wavegram import WavegramCnn14, WavegramLogmel128Cnn14, WavegramLogmelCnn14

__all__ = [
    "Ast",
    "AudioTagger",
    "Cnn6",
    "Cnn10",
    "Cnn14",
    "Cnn14DecisionLevelAtt",
    "Cnn14DecisionLevelAvg",
    "Cnn14DecisionLevelMax",
    "ConvBlock",
    "DaiNet19",
    "LeeNet11",
    "LeeNet24",
    "LogmelCnn",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "PooledTagger",
    "Res1dNet31",
    "Res1dNet51",
    "ResNet22",
    "ResNet38",
    "ResNet54",
    "WaveformTagger",
    "WavegramCnn14",
    "WavegramLogmel128Cnn14",
    "WavegramLogmelCnn14",
    "require_config",
    "require_preprocessor",
]
