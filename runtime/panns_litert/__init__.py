"""Pretrained audio taggers on LiteRT: `from panns_litert import Tagger`."""

from panns_litert.audio.files import Audio, load_audio
from panns_litert.bundle.bundle import Bundle
from panns_litert.errors import PannsLitertError
from panns_litert.events import Event, EventDetector, EventSettings
from panns_litert.frontend.logmel import FrontEndSpec, LogMel, StreamingLogMel
from panns_litert.sense.ontology import Ontology
from panns_litert.sense.sense import Sense
from panns_litert.tagger import Tag, Tagger, Tagging, TruncationWarning, demo_bundle, demo_clips
from panns_litert.windows import LongTagging, StreamTagger, Window, find_events, tag_long, windows

__all__ = [
    "Audio",
    "Bundle",
    "Event",
    "EventDetector",
    "EventSettings",
    "FrontEndSpec",
    "LogMel",
    "LongTagging",
    "Ontology",
    "PannsLitertError",
    "Sense",
    "StreamTagger",
    "StreamingLogMel",
    "Tag",
    "Tagger",
    "Tagging",
    "TruncationWarning",
    "Window",
    "demo_bundle",
    "demo_clips",
    "find_events",
    "load_audio",
    "tag_long",
    "windows",
]
