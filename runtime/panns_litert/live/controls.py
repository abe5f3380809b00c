"""The thresholds that the page moves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from panns_litert.errors import EventError
from panns_litert.events import EventSettings
from panns_litert.strict import shown


class SettingsTarget(Protocol):
    """What takes changed settings while it listens, such as the listener."""

    def set_settings(self, settings: EventSettings) -> object:
        """Takes the settings that hold from the next window on. May be called from any thread."""


class Controls:
    """Moves the thresholds of a listener: the score at which an event starts, of all classes or of one.

    `off`, the score at which an event ends, keeps its share of `on`. Calls from several threads run one after another.

    Args:
        labels: the classes, in the order of the scores.
        settings: the thresholds that hold now.
        target: gets every change.

    >>> class Printer:
    ...     def set_settings(self, settings):
    ...         print(settings.on, settings.of("Dog")["on"])
    >>> controls = Controls(("Speech", "Dog"), EventSettings(on=0.2), Printer())
    >>> controls.set_on(0.5, index=1)
    0.2 0.5
    """

    def __init__(self, labels: Sequence[str], settings: EventSettings, target: SettingsTarget) -> None:
        self.labels = tuple(labels)
        self._settings, self._target = settings, target
        self._lock = threading.Lock()

    @property
    def settings(self) -> EventSettings:
        """The thresholds that hold now."""
        return self._settings

    def set_on(self, on: float | None, *, index: int | None = None) -> None:
        """Sets the score at which an event starts.

        Args:
            on: 0 < on ≤ 1. None, for one class: from now on it follows the threshold of all classes.
            index: place of the class among the labels; None for all classes that have no threshold of their own.

        Raises:
            EventError: a value is out of range. Nothing has changed.
        """
        if index is not None and (type(index) is not int or not 0 <= index < len(self.labels)):
            raise EventError(f"index {shown(index)}; expected the place of a class, 0 … {len(self.labels) - 1}")
        if (on is None and index is None) or (on is not None and (type(on) not in (int, float) or not 0 < on <= 1)):
            raise EventError(f"on = {shown(on)}; expected a number > 0, at most 1")
        with self._lock:
            now = self._settings
            if index is None:
                assert on is not None
                changed = _general(now, float(on))
            else:
                changed = _of_class(now, self.labels[index], None if on is None else float(on))
            self._target.set_settings(changed)
            self._settings = changed

    def row(self) -> dict[str, Any]:
        """Returns `on` of all classes, and of each class that has its own, by the class's place, as JSON types."""
        settings = self._settings
        own = {str(self.labels.index(name)): of["on"] for name, of in settings.classes.items() if "on" in of}
        return {"on": settings.on, "classes": own}

    def document(self) -> dict[str, Any]:
        """Returns the settings as JSON types, for a file that `EventSettings.load` and --settings read."""
        settings = self._settings
        general = {name: value for name, value in settings.of(None).items() if getattr(settings, name) is not None}
        return general | {"classes": {name: dict(own) for name, own in settings.classes.items()}}


def _off(settings: EventSettings, label: str | None, on: float) -> float:
    """Returns `off` for a new `on`, in the proportion of the present two."""
    before = settings.of(label)
    return min(on, on * before["off"] / before["on"]) if before["on"] else on / 2  # rounding could exceed `on`


def _general(settings: EventSettings, on: float) -> EventSettings:
    # A class with an `on` of its own keeps its `off`, too: the general one may become greater than that `on`.
    classes = {}
    for name, own in settings.classes.items():
        if "on" in own:
            classes[name] = {**own, "off": settings.of(name)["off"]}
        else:
            classes[name] = {**own, "off": min(own["off"], on)} if "off" in own else dict(own)
    off = None if settings.off is None else _off(settings, None, on)
    return replace(settings, on=on, off=off, classes=classes)


def _of_class(settings: EventSettings, label: str, on: float | None) -> EventSettings:
    classes = {name: dict(own) for name, own in settings.classes.items()}
    own = {key: value for key, value in classes.pop(label, {}).items() if key not in ("on", "off")}
    if on is not None:
        own |= {"on": on, "off": _off(settings, label, on)}
    return replace(settings, classes=classes | ({label: own} if own else {}))
