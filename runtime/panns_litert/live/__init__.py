"""Live listening: sources of sound, the listener that tags them as they sound, and sinks that get the news.

It may import `windows` and the layers below it.
"""

from panns_litert.live.clips import ClipSink
from panns_litert.live.daily import CsvSink
from panns_litert.live.lines import JsonLinesSink, TextSink
from panns_litert.live.mqtt import MqttSink
from panns_litert.live.parts import EventNotice, Heard, LossNotice, Lost, Notice, Phase, Sink, Source, notice_row
from panns_litert.live.webhook import WebhookSink

__all__ = [
    "ClipSink",
    "CsvSink",
    "EventNotice",
    "Heard",
    "JsonLinesSink",
    "LossNotice",
    "Lost",
    "MqttSink",
    "Notice",
    "Phase",
    "Sink",
    "Source",
    "TextSink",
    "WebhookSink",
    "notice_row",
]
