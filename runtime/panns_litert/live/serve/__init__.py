"""The local page of a listener: what is heard now, the last events and their saved sound, thresholds to move."""

from panns_litert.live.serve.access import Access, is_loopback, new_token
from panns_litert.live.serve.controls import Controls, SettingsTarget
from panns_litert.live.serve.feed import Clips, PageSink
from panns_litert.live.serve.server import DEFAULT_PORT, PageServer

__all__ = [
    "DEFAULT_PORT",
    "Access",
    "Clips",
    "Controls",
    "PageServer",
    "PageSink",
    "SettingsTarget",
    "is_loopback",
    "new_token",
]
