"""Pictures: a recording's log-mel, scores and events over time, as an image or as an HTML page with a player.

It may import `windows` and the layers below it.
"""

from panns_litert.pictures.page import EMBEDDED_BYTES, PAGE_BYTES, write_page
from panns_litert.pictures.plot import BLUE, FORMATS, ORANGE, drawing, picture_format, plot
from panns_litert.pictures.timeaxis import clock, ticks
from panns_litert.pictures.timeline import Timeline, timeline

__all__ = [
    "BLUE",
    "EMBEDDED_BYTES",
    "FORMATS",
    "ORANGE",
    "PAGE_BYTES",
    "Timeline",
    "clock",
    "drawing",
    "picture_format",
    "plot",
    "ticks",
    "timeline",
    "write_page",
]
