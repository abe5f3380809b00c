"""Sinks that write a line for each notice: text for people and JSON for programs."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TextIO

from panns_litert.errors import PannsLitertError
from panns_litert.escape import escaped, escaped_json
from panns_litert.live.parts import LossNotice, Notice, Sink, notice_row


class _LinesSink(Sink):
    """Writes lines to a stream, each at once. When the stream cannot be written, the sink has `ended`.

    It writes in the listener's thread: a reader that stops reading, such as `less`, stops the listener.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._problem: str | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        return () if self._problem is None else (self._problem,)

    def _write(self, line: str) -> None:
        if self.ended:
            return
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except BrokenPipeError:  # the reader, such as `head`, has read enough
            self.ended = True
        except (OSError, ValueError, PannsLitertError) as error:  # ValueError: a closed stream
            self.ended = True
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._problem = f"{self.name}: the output cannot be written: {why}"


class TextSink(_LinesSink):
    """Writes a line for each start and end of an event, the local time first. Lost sound is told on stderr.

    Args:
        stream: where the lines go, such as `sys.stdout`.

    >>> import sys
    >>> sink = TextSink(sys.stdout)
    """

    name = "text"

    def notice(self, notice: Notice) -> None:
        """Writes a start or an end; nothing for an update."""
        if isinstance(notice, LossNotice):
            what = f"{notice.seconds:.1f} s of {escaped(notice.source)}: {escaped(notice.why)}"
            with contextlib.suppress(OSError, ValueError):  # nobody reads stderr
                print(f"{_clock(notice.time)}  lost   {what}", file=sys.stderr, flush=True)
            return
        if notice.kind == "start":
            what, when = "start", notice.time
        elif notice.kind == "end":
            what, when = "end  ", notice.end_time
        else:
            return
        line = f"{_clock(when)}  {what}  {escaped(notice.label)}  {notice.score:.2f}  {escaped(notice.source)}"
        self._write(line if notice.kind == "start" else f"{line}  {notice.end - notice.start:.1f} s")


class JsonLinesSink(_LinesSink):
    """Writes each notice as a JSON object on a line of its own: `notice_row`.

    Args:
        stream: where the lines go, such as `sys.stdout`.
    """

    name = "json"

    def notice(self, notice: Notice) -> None:
        """Writes a notice."""
        self._write(json_line(notice))


def json_line(notice: Notice) -> str:
    """Returns a notice as JSON without a line break, safe to print."""
    return escaped_json(json.dumps(notice_row(notice), ensure_ascii=False, allow_nan=False))


def _clock(time: str) -> str:
    """Returns date and time of an ISO 8601 text, to the second."""
    return time[:19].replace("T", " ")
