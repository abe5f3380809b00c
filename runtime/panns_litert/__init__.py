"""Pretrained audio taggers on LiteRT: `from panns_litert import Tagger`."""

from panns_litert.audio import Audio, load_audio
from panns_litert.bundle import Bundle
from panns_litert.errors import PannsLitertError
from panns_litert.frontend import FrontEndSpec, LogMel
from panns_litert.tagger import Tag, Tagger, Tagging, TruncationWarning, demo_bundle, demo_clips

__all__ = [
    "Audio",
    "Bundle",
    "FrontEndSpec",
    "LogMel",
    "PannsLitertError",
    "Tag",
    "Tagger",
    "Tagging",
    "TruncationWarning",
    "demo_bundle",
    "demo_clips",
    "load_audio",
]
