"""A sink that saves the sound of each event, and removes its oldest clips."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import remove_unfinished, replacing, writing
from panns_litert.errors import ResultsError, SettingsError
from panns_litert.escape import escaped, slug
from panns_litert.live.outbox import Outbox, Undeliverable
from panns_litert.live.parts import EventNotice, Notice, Sink, notice_row

_LOG = logging.getLogger(__name__)

_SOFTWARE = "panns-litert clip"
_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[a-z0-9-]+_([A-Za-z0-9_-]+)\.flac")
_UNFINISHED = re.compile(r"\.unfinished\.(.+)\.\w{8}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")
_MOST_WAITING = 16  # clips that wait for the disk, in memory
_CHECK_SECONDS = 3600.0  # between two looks for clips that are too old


@dataclass
class _Clip:
    """An event whose sound is not saved yet. Times are seconds of its source."""

    notice: EventNotice
    start: float
    end: float | None = None  # None while the event sounds


@dataclass
class _Tape:
    """What a source has heard lately."""

    blocks: deque[tuple[int, NDArray[np.float32]]] = field(
        default_factory=deque
    )  # position of the first sample, samples
    heard: int = 0  # position behind the last sample
    clips: dict[str, _Clip] = field(default_factory=dict)  # by id of the event


@dataclass(frozen=True)
class _Saved:
    path: Path
    bytes: int
    time: float  # seconds since the epoch


class ClipSink(Sink):
    """Saves the sound of each event as FLAC, 16 bits, from `before` its start to `after` its end.

    What people say is saved, too, so tell those who may be heard. Nothing is sent anywhere, and only the owner
    can read the files.

    - A clip is named by local time, class and event, as 2026-11-29_02-31-07_dog_ID.flac. The start's notice, the time
      of the first sample and how much was not heard are in its metadata (`comment`, JSON).
    - A clip is at most `most_seconds` long; then it is saved though the event goes on.
    - Sound that was lost is silence of the same length, so that times in a clip are true.
    - The oldest clips are removed while all are larger than `most_bytes`, and those older than `most_days`. Only files
      with such a name and this program's mark inside count and are removed.
    - A clip that cannot be saved, for example because the disk is full, is lost and told; the next is tried again.

    Of each source, the last `before + lag` seconds are in memory, and up to `most_seconds` more while an event sounds:
    4 bytes per sample.

    Args:
        folder: made if it is missing.
        rate: sample rate of all sources, Hz.
        before, after: seconds, ≥ 0.
        most_seconds: length of the longest clip, > before.
        most_bytes: of all clips together.
        most_days: age of the oldest clip; None for any.
        lag: how long after its start an event's notice may come, seconds. If it comes later, the clip starts with what
            is in memory.

    Raises:
        SettingsError: a number is not valid.
        ResultsError: the folder cannot be made or written, or another run saves clips to it.
    """

    name = "clips"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        rate: int,
        before: float = 2.0,
        after: float = 1.0,
        most_seconds: float = 60.0,
        most_bytes: float = 1e9,
        most_days: float | None = None,
        lag: float = 30.0,
    ) -> None:
        if not (0 <= before < most_seconds <= 3600 and 0 <= after <= 3600 and 0 <= lag <= 600 and rate >= 1):
            raise SettingsError(
                f"clips: before {before} s, after {after} s, at most {most_seconds} s, lag {lag} s, rate {rate}; "
                "expected 0 ≤ before < most_seconds ≤ 3600, 0 ≤ after ≤ 3600, 0 ≤ lag ≤ 600, rate ≥ 1"
            )
        longest = math.ceil(most_seconds * rate) * 2 + (1 << 16)  # what FLAC may add to its samples
        if not most_bytes >= longest or not (most_days is None or most_days > 0):
            raise SettingsError(
                f"clips: at most {most_bytes:.0f} bytes, {most_days} days; expected at least {longest} bytes, those of "
                "the longest clip, and more than 0 days"
            )
        self._folder = Path(folder).absolute()
        self._rate, self._before, self._after, self._lag = rate, before, after, lag
        self._most_seconds, self._most_bytes, self._most_days = most_seconds, most_bytes, most_days
        self._lock = threading.Lock()
        self._tapes: dict[str, _Tape] = {}
        self._saved: dict[str, _Saved] = {}  # by id of the event
        self._stuck: str | None = None  # a clip that cannot be removed
        self._next_check = time.monotonic() + _CHECK_SECONDS
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ResultsError(
                f"{escaped(self._folder)}: {error.strerror}; expected a folder that can be written"
            ) from error
        self._writing = writing(self._folder / "clips", keep=False)
        self._writing.__enter__()
        self._find()
        self._outbox: Outbox[Callable[[], None]] = Outbox(
            self.name, lambda work: work(), most_waiting=_MOST_WAITING, noun="clip"
        )

    def samples(self, source: str, samples: NDArray[np.float32], start: float) -> None:
        """Keeps samples, and saves the clips that end with them."""
        tape = self._tapes.setdefault(source, _Tape())
        position = max(round(start * self._rate), tape.heard)
        tape.blocks.append((position, np.array(samples, np.float32)))
        tape.heard = position + len(samples)
        self._save_complete(tape)
        self._forget(tape)
        if time.monotonic() > self._next_check:
            self._next_check = time.monotonic() + _CHECK_SECONDS
            self._outbox.put(self._remove)

    def notice(self, notice: Notice) -> None:
        """Starts a clip, moves its start, or gives it an end."""
        if not isinstance(notice, EventNotice):
            return
        tape = self._tapes.setdefault(notice.source, _Tape())
        if notice.kind == "start":
            tape.clips[notice.id] = _Clip(notice, self._begin(tape, notice))
        elif (clip := tape.clips.get(notice.id)) is None:
            return  # saved already: it was longer than most_seconds
        elif notice.kind == "update":
            clip.start = min(clip.start, self._begin(tape, notice))
        else:
            clip.start = min(clip.start, self._begin(tape, notice))
            clip.notice, clip.end = notice, notice.end + self._after
        self._save_complete(tape)

    def close(self) -> None:
        """Saves the clips that have begun, with what was heard of them."""
        for tape in self._tapes.values():
            for clip in list(tape.clips.values()):
                self._save(tape, clip)
        self._outbox.close(5.0)
        self._writing.__exit__(None, None, None)

    @property
    def problems(self) -> tuple[str, ...]:
        return self._outbox.problems + (() if self._stuck is None else (self._stuck,))

    def clip_path(self, id: str) -> Path | None:
        """Returns the clip of an event, or None if there is none, or not yet, or no longer."""
        with self._lock:
            saved = self._saved.get(id)
        return None if saved is None or not saved.path.exists() else saved.path

    # In the listener's thread

    def _begin(self, tape: _Tape, notice: EventNotice) -> float:
        """Returns where an event's clip begins: with a long cool-down or minimum duration, its start is long gone."""
        begin = notice.start - self._before
        late = tape.blocks and tape.heard / self._rate - notice.start > self._lag
        return max(begin, tape.blocks[0][0] / self._rate) if late else begin

    def _save_complete(self, tape: _Tape) -> None:
        heard = tape.heard / self._rate
        for clip in list(tape.clips.values()):
            end = clip.start + self._most_seconds if clip.end is None else clip.end
            if heard >= min(end, clip.start + self._most_seconds):
                self._save(tape, clip)

    def _save(self, tape: _Tape, clip: _Clip) -> None:
        """Cuts a clip and hands it to the outbox."""
        del tape.clips[clip.notice.id]
        first = max(round(clip.start * self._rate), 0, tape.blocks[0][0] if tape.blocks else 0)
        end = clip.start + self._most_seconds if clip.end is None else min(clip.end, clip.start + self._most_seconds)
        last = min(round(end * self._rate), tape.heard)
        if last <= first:
            self._outbox.put(_nothing_heard)
            return
        sound = np.zeros(last - first, np.float32)
        there = 0
        for position, block in tape.blocks:
            a, b = max(position, first), min(position + len(block), last)
            if a < b:
                part = block[a - position : b - position]
                good = np.isfinite(part)
                sound[a - first : b - first][good] = part[good]
                there += int(np.count_nonzero(good))
        lost = (len(sound) - there) / self._rate
        self._outbox.put(lambda: self._write(clip.notice, sound, first / self._rate, lost, whole=clip.end is not None))

    def _forget(self, tape: _Tape) -> None:
        """Drops what no clip needs any more, and what none that begins now may need."""
        keep = tape.heard - round((self._before + self._lag) * self._rate)
        keep = min([keep, *(round(clip.start * self._rate) for clip in tape.clips.values())])
        while tape.blocks and tape.blocks[0][0] + len(tape.blocks[0][1]) <= keep:
            tape.blocks.popleft()

    # In the outbox's thread

    def _write(
        self, notice: EventNotice, sound: NDArray[np.float32], start: float, lost: float, *, whole: bool
    ) -> None:
        if not _ID.fullmatch(notice.id):
            raise Undeliverable(f"event {escaped(notice.id)}: expected an id of letters, digits, - and _")
        when = datetime.fromisoformat(notice.time)
        first = when.timestamp() + start - notice.start
        about = notice_row(notice) | {
            "clip_start": round(start, 6),
            "clip_time": datetime.fromtimestamp(first, when.tzinfo).isoformat(timespec="milliseconds"),
            "lost_seconds": round(lost, 3),
            "whole": whole,
        }
        path = self._folder / f"{when:%Y-%m-%d_%H-%M-%S}_{slug(notice.label)}_{notice.id}.flac"
        data = _flac(sound, self._rate, title=escaped(notice.label), date=notice.time, comment=json.dumps(about))
        try:
            with replacing(path) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            why = getattr(error.__cause__, "strerror", None) or error.strerror or error
            raise Undeliverable(f"{escaped(self._folder)}: {why}") from error
        with self._lock:
            self._saved[notice.id] = _Saved(path, len(data), when.timestamp())
        self._remove()

    def _find(self) -> None:
        """Finds the clips of earlier runs, and removes what a killed one has left."""
        found = {}
        for path in list(self._folder.iterdir()):
            if (name := _NAME.fullmatch(path.name)) and (when := _time_of(path)) is not None:
                found[name[1]] = _Saved(path, path.stat().st_size, when)
            elif (left := _UNFINISHED.fullmatch(path.name)) and _NAME.fullmatch(left[1]):
                remove_unfinished(self._folder / left[1])
        self._saved = found
        self._remove()

    def _remove(self) -> None:
        """Removes the oldest clips until the rest is within the limits."""
        with self._lock:
            total = sum(saved.bytes for saved in self._saved.values())
            oldest = -math.inf if self._most_days is None else time.time() - self._most_days * 86400
            for id, saved in sorted(self._saved.items(), key=lambda item: item[1].time):
                if total <= self._most_bytes and saved.time >= oldest:
                    break
                try:
                    saved.path.unlink(missing_ok=True)
                except OSError as error:
                    self._stuck = f"clips: {escaped(saved.path)} cannot be removed: {error.strerror}"
                    _LOG.warning("%s", self._stuck)
                    break
                del self._saved[id]
                total -= saved.bytes


def _nothing_heard() -> None:
    raise Undeliverable("no sound of the event was heard, or its notice came too late")


def _flac(sound: NDArray[np.float32], rate: int, **tags: str) -> bytes:
    """Returns sound as a FLAC file. In memory: libsndfile does not tell when a disk becomes full."""
    import soundfile

    data = io.BytesIO()
    with soundfile.SoundFile(data, "w", rate, 1, format="FLAC", subtype="PCM_16") as file:
        file.software = _SOFTWARE
        for name, text in tags.items():
            setattr(file, name, text)
        file.write(np.clip(sound, -1, 1))
    return data.getvalue()


def _time_of(path: Path) -> float | None:
    """Returns when the event of a clip began, seconds since the epoch, or None if it is not a clip of this program."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            tags: dict[str, Any] = file.copy_metadata()
        if not tags.get("software", "").startswith(_SOFTWARE):
            return None
        return datetime.fromisoformat(tags["date"]).timestamp()
    except (OSError, RuntimeError, ValueError, KeyError):  # RuntimeError: soundfile's, for what is no sound file
        return None
