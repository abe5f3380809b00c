"""Pictures: a recording's log-mel, scores and events over time, drawn as an image or as a page that plays. It imports
windows and what is below it."""

from panns_litert.pictures.page import EMBEDDED_BYTES, PAGE_BYTES, write_page
from panns_litert.pictures.plot import FORMATS, picture_format, plot
from panns_litert.pictures.timeaxis import clock, ticks
from panns_litert.pictures.timeline import Timeline, timeline

__all__ = [
    "EMBEDDED_BYTES",
    "FORMATS",
    "PAGE_BYTES",
    "Timeline",
    "clock",
    "picture_format",
    "plot",
    "ticks",
    "timeline",
    "write_page",
]
