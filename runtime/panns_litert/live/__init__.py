"""Live listening: sources of sound, the listener that tags them as they sound, and sinks that get the news.

It may import `windows` and the layers below it.
"""

from panns_litert.live.parts import EventNotice, Heard, LossNotice, Lost, Notice, Phase, Sink, Source, notice_row
from panns_litert.live.serve import Controls, PageServer, PageSink

__all__ = [
    "Controls",
    "EventNotice",
    "Heard",
    "LossNotice",
    "Lost",
    "Notice",
    "PageServer",
    "PageSink",
    "Phase",
    "Sink",
    "Source",
    "notice_row",
]
