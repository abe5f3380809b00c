"""A bounded queue with a thread that delivers: what sinks share that write to a network or a disk."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from panns_litert.words import counted

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class NotNow(Exception):  # noqa: N818 (it says what to do)
    """Raised by a delivery that shall be tried again.

    Args:
        why: the cause, one phrase without credentials.
        after: seconds to wait at least.
        most_tries: after so many tries the item is lost; None: it is tried until newer ones take its place.
    """

    def __init__(self, why: str, *, after: float = 0.0, most_tries: int | None = None) -> None:
        super().__init__(why)
        self.after, self.most_tries = after, most_tries


class Undeliverable(Exception):  # noqa: N818
    """Raised by a delivery that would fail every time. The item is lost. Its text is one phrase without credentials."""


class Outbox(Generic[T]):
    """Delivers items one after another in a thread. `put` returns at once.

    If more than `most_waiting` items wait, the oldest is lost. What begins to fail, what is lost, and that it works
    again is logged once each, not for every item.

    Args:
        name: what messages call it, such as "webhook".
        deliver: delivers an item, in the thread of the outbox. May raise `NotNow` or `Undeliverable`; the item is lost
            with any other exception, too.
        most_waiting: ≥ 1.
        noun: what an item is, in messages.
        pauses: the first and the longest pause between two tries, seconds. A pause is twice as long as the one before,
            less a random part of up to a half, so that many senders do not come back at once.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[T], None],
        *,
        most_waiting: int = 1000,
        noun: str = "notice",
        pauses: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self._name, self._deliver, self._most, self._noun, self._pauses = name, deliver, most_waiting, noun, pauses
        self._waiting: deque[T] = deque()
        self._busy = False  # an item is being delivered, and not in the deque
        self._closing = self._given_up = False
        self._changed = threading.Condition()
        self._lost = 0
        self._why_lost = ""
        self._failing: tuple[str, str] | None = None  # since when, and why
        self._told: set[str] = set()  # what was logged since it worked
        self._thread = threading.Thread(target=self._run, name=f"panns-litert {name}", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Adds an item. After `close` it is lost."""
        with self._changed:
            if self._closing:
                self._lose(1, "it came after the end")
                return
            if len(self._waiting) >= self._most:
                self._waiting.popleft()
                why = self._failing[1] if self._failing else "slower than what comes"
                self._lose(1, f"{why}; more than {counted(self._most, self._noun)} waited")
            self._waiting.append(item)
            self._changed.notify_all()

    def close(self, seconds: float = 3.0) -> None:
        """Tries once more to deliver what waits, for at most `seconds`. What is left is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            if not self._given_up and (left := len(self._waiting) + self._busy):
                self._lose(left, self._failing[1] if self._failing else "it took too long")
            self._given_up = True
            self._waiting.clear()

    def failing(self, why: str) -> None:
        """Notes that delivery fails for now."""
        with self._changed:
            self._failing = (self._failing[0] if self._failing else time.strftime("%Y-%m-%d %H:%M:%S"), why)
            self._tell(f"{why}; it is tried again, and what comes meanwhile is kept, up to {self._most}")

    def working(self) -> None:
        """Notes that delivery works."""
        with self._changed:
            if self._told:
                _LOG.warning("%s: works again", self._name)
            self._failing = None
            self._told.clear()

    @property
    def waiting(self) -> int:
        """How many items are not delivered yet."""
        with self._changed:
            return len(self._waiting) + self._busy

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    @property
    def problems(self) -> tuple[str, ...]:
        """What was lost, and what fails now: a sentence each."""
        with self._changed:
            found = []
            if self._lost:
                found.append(f"{self._name}: {counted(self._lost, self._noun)} not delivered: {self._why_lost}")
            if self._failing and not self._given_up:
                since, why = self._failing
                waiting = counted(len(self._waiting) + self._busy, self._noun)
                found.append(f"{self._name}: fails since {since}: {why}; {waiting} waiting")
            return tuple(found)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting or self._given_up:
                    return
                item, self._busy = self._waiting.popleft(), True
            self._try(item)
            with self._changed:
                self._busy = False

    def _try(self, item: T) -> None:
        pause, longest = self._pauses
        tries = 0
        while True:
            tries += 1
            try:
                self._deliver(item)
            except NotNow as later:
                self.failing(str(later))
                with self._changed:
                    if self._given_up:
                        return
                    if self._closing:  # this was its last try, and the others would fail, too
                        self._lose(len(self._waiting) + 1, str(later))
                        self._waiting.clear()
                        return
                    if later.most_tries is not None and tries >= later.most_tries:
                        self._lose(1, f"{later}, {counted(tries, 'time')}")
                        return
                    self._changed.wait_for(
                        lambda: self._closing, max(later.after, random.uniform(0.5, 1.0) * min(pause, longest))
                    )
                pause *= 2
            except Undeliverable as never:
                with self._changed:
                    self._lose(1, str(never))
                return
            except Exception as error:  # a fault in one delivery must not end all others; its text may hold credentials
                with self._changed:
                    self._lose(1, type(error).__name__)
                return
            else:
                self.working()
                return

    def _lose(self, number: int, why: str) -> None:
        if self._given_up:  # `close` has counted it
            return
        self._lost += number
        self._why_lost = why
        if self._closing:  # `problems` tells it
            return
        self._tell(f"{counted(number, self._noun)} lost: {why}")

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < 20:
            self._told.add(text)
            _LOG.warning("%s: %s", self._name, text)
