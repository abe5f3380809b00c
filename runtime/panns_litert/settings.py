"""Settings: the thresholds and the temperature that were chosen for a model, in a file that every runtime reads.

`panns-litert evaluate --write-settings` writes it. `tag`, `events`, `listen`, `batch`, `plot`, `page` and Kotlin read
it. tests/vectors/settings.json shows what is accepted and what is refused, for this and other implementations.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle
from panns_litert.errors import EventError, LabelError, SettingsError
from panns_litert.events import THRESHOLDS, EventSettings
from panns_litert.sense import Sense, unknown_label
from panns_litert.strict import printable, read_json, shown

FIELDS = ("model", "model_sha256", "data", "temperature", "groups", *THRESHOLDS, "classes")
"""The fields of a file. All are optional, but `model` and `model_sha256` come together."""

_SHOWN_HASH = 12
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class TaggerSettings:
    """Thresholds and temperature of a model.

    Attributes:
        events: the thresholds. `on` is also the least score of a tag.
        temperature: as for `Sense`. The thresholds are for the scores after it.
        groups: as for `Sense`, if the thresholds are of groups; None if they are of the model's classes.
        model: name of the model that the settings were chosen for; None if that is unknown.
        model_sha256: SHA-256 of its .tflite; None if unknown.
        data: what the settings were chosen on, for people.

    Raises:
        SettingsError: a value is out of range, or only one of `model` and `model_sha256` is given.

    >>> settings = TaggerSettings(events=EventSettings(on=0.5, classes={"Dog": {"on": 0.3}}), temperature=1.5)
    >>> settings.thresholds(["Cat", "Dog"])
    array([0.5, 0.3])
    """

    events: EventSettings = field(default_factory=EventSettings)
    temperature: float | Mapping[str, float] = 1.0
    groups: Mapping[str, Sequence[str]] | None = None
    model: str | None = None
    model_sha256: str | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.events, EventSettings):
            raise SettingsError(f"events {shown(self.events)}; expected EventSettings")
        if (self.model is None) != (self.model_sha256 is None):
            raise SettingsError("only one of model and model_sha256; expected both, or none for any model")
        for name, value in (("model", self.model), ("model_sha256", self.model_sha256), ("data", self.data)):
            if value is not None and not isinstance(value, str):
                raise SettingsError(f"{name} {shown(value)}; expected a text")
        if self.model_sha256 is not None and not _SHA256.fullmatch(self.model_sha256):
            raise SettingsError(f"model_sha256 {shown(self.model_sha256)}; expected 64 hexadecimal digits")
        own = self.temperature.values() if isinstance(self.temperature, Mapping) else [self.temperature]
        for divisor in own:
            if type(divisor) not in (int, float, np.float64) or not 0 < divisor <= sys.float_info.max:
                raise SettingsError(f"temperature {shown(divisor)}; expected a number > 0, or one by class name")
        if self.groups is not None and not (
            isinstance(self.groups, Mapping)
            and self.groups
            and all(isinstance(names, (list, tuple)) and names for names in self.groups.values())
            and all(isinstance(name, str) for names in self.groups.values() for name in names)
        ):
            raise SettingsError(f'groups {shown(self.groups)}; expected {{"group": ["class", …], …}}')

    def require_model(self, bundle: Bundle) -> None:
        """Checks that the settings are for this bundle's model. Settings that name no model are for any.

        Raises:
            SettingsError: they are for another model.
        """
        own = bundle.manifest.model_sha256
        if self.model_sha256 not in (None, own):
            raise SettingsError(
                f"settings of {self.model} ({str(self.model_sha256)[:_SHOWN_HASH]}…); {bundle.path} is "
                f"{bundle.manifest.model} ({own[:_SHOWN_HASH]}…); choose them again for that bundle: "
                "panns-litert evaluate --write-settings FILE"
            )

    def sense(self, labels: Sequence[str]) -> Sense:
        """Returns the `Sense` with this temperature and these groups, for a model's classes.

        Raises:
            LabelError: a name in them is none of the classes.
        """
        return Sense(labels, temperature=self.temperature, groups=self.groups)

    def thresholds(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """Returns the least score of a tag of every class, (labels,): its `on`.

        Args:
            labels: names of the scores, such as `Sense.labels`.

        Raises:
            LabelError: there are thresholds of a class that is not in `labels`.
        """
        if strangers := [name for name in self.events.classes if name not in labels]:
            raise LabelError(unknown_label(strangers[0], labels))
        return np.array([self.events.of(name)["on"] for name in labels])

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as JSON types, without the fields that have their defaults."""
        data: dict[str, Any] = {"model": self.model, "model_sha256": self.model_sha256, "data": self.data}
        data["temperature"] = dict(self.temperature) if isinstance(self.temperature, Mapping) else self.temperature
        data["groups"] = None if self.groups is None else {name: list(of) for name, of in self.groups.items()}
        data |= asdict(self.events)
        default: dict[str, Any] = {"temperature": 1.0, **asdict(EventSettings())}
        return {name: value for name, value in data.items() if value != default.get(name)}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, atomically.

        Raises:
            ResultsError: the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        with replacing(path) as target:
            target.write(text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TaggerSettings:
        """Reads a file that `write` wrote, or one with the fields of `EventSettings` alone. Every value is checked.

        Raises:
            SettingsError: the file cannot be read, a field is unknown, or a value is invalid; the message names the
                file.
        """
        data = read_json(path, error=SettingsError, what="a JSON file of settings")
        try:
            return cls.from_dict(data)
        except (SettingsError, EventError) as error:
            raise SettingsError(f"{printable(path)}: {error}") from error

    @classmethod
    def from_dict(cls, data: object) -> TaggerSettings:
        """Converts parsed JSON, the opposite of `to_dict`.

        Raises:
            SettingsError, EventError: a field is unknown or null, or a value is invalid.
        """
        if not isinstance(data, dict):
            raise SettingsError(f"{shown(data)}; expected a JSON object")
        if unknown := [name for name in data if name not in FIELDS]:
            raise SettingsError(f"unknown {shown(unknown[0])}; expected any of {', '.join(FIELDS)}")
        if none := [name for name, value in data.items() if value is None]:
            raise SettingsError(f"{none[0]} = None; expected a value, or no {none[0]}")
        thresholds = {name: value for name, value in data.items() if name in (*THRESHOLDS, "classes")}
        rest = {name: value for name, value in data.items() if name not in thresholds}
        return cls(events=EventSettings(**thresholds), **rest)
