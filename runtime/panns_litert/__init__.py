"""Runtime: pretrained audio taggers on LiteRT, without torch: `from panns_litert import Tagger`.

It never imports the converter, `panns_litert_convert`. The layers of its own modules are in pyproject.toml.
"""

__version__ = "0.1.0"  # the distribution's version, too: see pyproject.toml

from panns_litert.audio import Audio, load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.errors import PannsLitertError
from panns_litert.events import Event, EventChange, EventDetector, EventSettings
from panns_litert.frontend import FrontEndSpec, LogMel, StreamingLogMel
from panns_litert.sense import Ontology, Sense
from panns_litert.settings import TaggerSettings
from panns_litert.tagger import Tag, Tagger, Tagging, TruncationWarning
from panns_litert.windows import LiveEvents, LongTagging, StreamTagger, Window, find_events, tag_long, windows

__all__ = [
    "Audio",
    "Bundle",
    "Event",
    "EventChange",
    "EventDetector",
    "EventSettings",
    "FrontEndSpec",
    "LiveEvents",
    "LogMel",
    "LongTagging",
    "Ontology",
    "PannsLitertError",
    "Sense",
    "StreamTagger",
    "StreamingLogMel",
    "Tag",
    "Tagger",
    "TaggerSettings",
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
