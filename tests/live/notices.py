"""Notices for tests of sinks."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from panns_litert.live import EventNotice, LossNotice, Phase

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 29, 2, 31, 7, 250000, BERLIN).timestamp()
"""When the first sample of the source was heard, seconds since the epoch."""


def iso(seconds: float, zone: tzinfo = BERLIN) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).isoformat(timespec="milliseconds")


def event(
    kind: Phase,
    id: str = "a1",
    label: str = "Dog",
    *,
    start: float = 10.0,
    end: float = 12.0,
    score: float = 0.8,
    source: str = "microphone",
    epoch: float = START,
) -> EventNotice:
    return EventNotice(
        kind=kind, id=id, source=source, label=label, index=74, start=start, end=end, score=score,
        time=iso(epoch + start), end_time=iso(epoch + end), told=iso(epoch + end),
    )  # fmt: skip


def lost(seconds: float = 0.5, why: str = "overflow", start: float = 3.0) -> LossNotice:
    return LossNotice(kind="lost", source="microphone", start=start, seconds=seconds, why=why, time=iso(START + start))
