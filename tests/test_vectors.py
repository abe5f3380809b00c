"""The vectors that Kotlin and TypeScript must also compute are what this runtime computes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from vectors import make_frontend, make_long, make_prototypes, make_sense, make_settings, make_streams

from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle
from panns_litert.errors import EventError, LabelError, PrototypeError, SettingsError
from panns_litert.prototypes import Prototypes
from panns_litert.sense import Sense
from panns_litert.settings import TaggerSettings

STREAMS = json.loads(make_streams.VECTORS.read_text(encoding="utf-8"))["cases"]


def assert_close(found: Any, want: Any, where: str) -> None:
    """Requires the same JSON data but for the last digits of numbers, in which computers may differ."""
    if isinstance(found, dict) and isinstance(want, dict):
        assert found.keys() == want.keys(), where
        for name in want:
            assert_close(found[name], want[name], f"{where}.{name}")
    elif isinstance(found, list) and isinstance(want, list):
        assert len(found) == len(want), where
        for i, (one, other) in enumerate(zip(found, want, strict=True)):
            assert_close(one, other, f"{where}[{i}]")
    elif isinstance(found, float) and isinstance(want, float):
        assert found == pytest.approx(want, abs=1e-4 if where.endswith("level_dbfs") else 1e-5, nan_ok=True), where
    else:
        assert found == want, where


@pytest.mark.parametrize(
    "made", [make_long, make_prototypes, make_sense, make_settings, make_streams], ids=lambda made: made.__name__
)
def test_the_vectors_are_up_to_date(made: ModuleType) -> None:
    assert_close(json.loads(made.vectors()), json.loads(made.VECTORS.read_text(encoding="utf-8")), made.VECTORS.name)


def test_the_log_mels_are_up_to_date() -> None:
    made, kept = make_frontend.vectors(), make_frontend.VECTORS.read_text(encoding="utf-8")
    assert_close(make_frontend.unpacked(made), make_frontend.unpacked(kept), make_frontend.VECTORS.name)


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_what_is_told_live_are_the_events(case: dict[str, Any]) -> None:
    """The ends are the events, without a cool-down. A start is told with the window that has it in its middle."""
    told = [(change, k) for k, news in enumerate(case["changes"]) for change in news]
    starts, ends = ([(change, k) for change, k in told if change["phase"] == phase] for phase in ("start", "end"))
    assert [change["number"] for change, _ in starts] == [*range(1, len(ends) + 1)]
    if case["settings"]["cooldown"]:
        assert len(ends) < len(case["events"])
        return
    events = [{name: change[name] for name in ("label", "index", "start", "end", "score")} for change, _ in ends]
    assert sorted(events, key=lambda event: (event["start"], event["index"])) == case["events"]
    if not case["name"].endswith(("own thresholds", "cannot be used", "failed")):
        most = (case["window"] + case["hop"]) / 2 + case["frame"]
        waits = [case["windows"][k]["end"] - change["start"] for change, k in starts if 0 < k < len(case["windows"])]
        assert max(waits, default=0.0) <= most


@pytest.mark.parametrize("options", make_sense.REFUSED, ids=str)
def test_options_that_both_refuse(options: dict[str, Any]) -> None:
    with pytest.raises(LabelError):
        Sense(make_sense.LABELS, **options)


@pytest.mark.parametrize("name", make_settings.REFUSED)
def test_settings_that_both_refuse(name: str, tmp_path: Path) -> None:
    with pytest.raises((SettingsError, EventError), match="expected"):
        TaggerSettings.from_dict(make_settings.REFUSED[name])
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(make_settings.REFUSED[name]), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"mine\.json: ") as raised:
        TaggerSettings.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", make_settings.STRANGERS)
def test_settings_of_other_classes(name: str) -> None:
    settings = TaggerSettings.from_dict(make_settings.STRANGERS[name])
    with pytest.raises(LabelError, match="no class"):
        settings.thresholds(settings.sense(make_settings.LABELS).labels)


@pytest.mark.parametrize("name", make_settings.FILES)
def test_settings_are_written_as_they_are_read(name: str, tmp_path: Path) -> None:
    settings = TaggerSettings.from_dict(make_settings.FILES[name])
    settings.write(tmp_path / "a.json")
    assert TaggerSettings.load(tmp_path / "a.json") == settings
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == make_settings.FILES[name]


def test_settings_belong_to_one_model() -> None:
    bundle = Bundle(demo_bundle())
    TaggerSettings().require_model(bundle)
    TaggerSettings(model="demo", model_sha256=bundle.manifest.model_sha256).require_model(bundle)
    with pytest.raises(SettingsError, match=r"settings of m \(0123456789ab…\); .* is demo .*; choose them again"):
        TaggerSettings(model="m", model_sha256=make_settings.HASH).require_model(bundle)


def test_prototypes_that_both_refuse(tmp_path: Path) -> None:
    data = json.loads(make_prototypes.VECTORS.read_text(encoding="utf-8"))
    path = tmp_path / "prototypes.json"
    path.write_text(json.dumps(data["file"]), encoding="utf-8")
    assert len(Prototypes.read(path).classes) == 3
    for case in data["refused"]:
        path.write_text(json.dumps(case["file"]), encoding="utf-8")
        with pytest.raises(PrototypeError):
            Prototypes.read(path)
            pytest.fail(case["name"])
