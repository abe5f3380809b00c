"""Live listening: sources of sound, the listener that tags them as they sound, and sinks that get the news.

It may import `windows` and the layers below it.
"""

from panns_litert.live.access import EVERYWHERE, Access, is_loopback, new_token
from panns_litert.live.clips import ClipSink
from panns_litert.live.clock import SampleClock, elapsed_time, iso_time, wall_offset
from panns_litert.live.controls import Controls, SettingsTarget
from panns_litert.live.daily import CsvSink
from panns_litert.live.feed import Clips, PageSink
from panns_litert.live.lines import JsonLinesSink, TextSink
from panns_litert.live.listener import SLOWER, Listened, Listener, SourceListened
from panns_litert.live.microphone import MicrophoneSource
from panns_litert.live.mqtt import MqttSink
from panns_litert.live.network import NetworkSource
from panns_litert.live.parts import EventNotice, Heard, LossNotice, Lost, Notice, Phase, Sink, Source, notice_row
from panns_litert.live.server import DEFAULT_PORT, PageServer
from panns_litert.live.sources import FileSource, PipeSource
from panns_litert.live.webhook import WebhookSink

__all__ = [
    "DEFAULT_PORT",
    "EVERYWHERE",
    "SLOWER",
    "Access",
    "ClipSink",
    "Clips",
    "Controls",
    "CsvSink",
    "EventNotice",
    "FileSource",
    "Heard",
    "JsonLinesSink",
    "Listened",
    "Listener",
    "LossNotice",
    "Lost",
    "MicrophoneSource",
    "MqttSink",
    "NetworkSource",
    "Notice",
    "PageServer",
    "PageSink",
    "Phase",
    "PipeSource",
    "SampleClock",
    "SettingsTarget",
    "Sink",
    "Source",
    "SourceListened",
    "TextSink",
    "WebhookSink",
    "elapsed_time",
    "is_loopback",
    "iso_time",
    "new_token",
    "notice_row",
    "wall_offset",
]
