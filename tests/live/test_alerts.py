"""A real recording, the command `listen`, and all places where its alerts go."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from brokers import broker, listener, until
from support import run_command
from webserver import hook

from panns_litert import demo_clips, load_audio


def test_every_place_gets_the_alerts_of_a_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    recording = next(path for path in demo_clips() if path.suffix == ".wav")
    headers = tmp_path / "headers.txt"
    headers.write_text("Authorization: Bearer secret\n")
    with broker(tmp_path) as server, listener(server.port) as home, hook((200, {}, 0.0)) as web:
        out, err = run_command(
            capsys, "listen", recording, "--events", "--json", "--csv", tmp_path / "csv", "--save-clips",
            tmp_path / "clips", "--webhook", f"http://127.0.0.1:{web.port}/T0KEN", "--webhook-headers", headers,
            "--mqtt", f"127.0.0.1:{server.port}",
        )  # fmt: skip
        until(lambda: any(topic.endswith("availability") and text == "offline" for topic, text, _ in home.got[1:]))
        published = [json.loads(text) for topic, text, _ in home.got if topic.endswith("/event")]
        states = [text for topic, text, _ in home.got if topic.endswith("/telephone-dialing-dtmf/state")]
    told = [row for row in map(json.loads, out.splitlines()) if row["kind"] in ("start", "end")]
    assert [(row["kind"], row["label"]) for row in told] == [
        ("start", "Telephone dialing, DTMF"), ("end", "Telephone dialing, DTMF"),
    ]  # fmt: skip
    assert published == told
    assert [body for _, _, body in web.got] == told
    assert states[-2:] == ["ON", "OFF"]
    assert web.got[0][1]["Authorization"] == "Bearer secret"
    (table,) = (tmp_path / "csv").iterdir()
    with table.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    end = told[1]
    assert {name: row[name] for name in ("time", "end_time", "label", "id")} == {
        name: end[name] for name in ("time", "end_time", "label", "id")
    }
    (clip,) = (tmp_path / "clips").iterdir()
    assert clip.name.endswith(f"_telephone-dialing-dtmf_{end['id']}.flac")
    saved, rate = soundfile.read(clip, dtype="float32")
    np.testing.assert_allclose(saved, load_audio(recording, sample_rate=rate).waveform, atol=1e-3)
    assert "tell those who may be heard" in err
    assert "secret" not in out + err
    assert "T0KEN" not in out + err
