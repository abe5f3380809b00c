"""Commands with bundles of the hub: pull, publish, and hf:ORG/NAME wherever a bundle is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hubserver import TOKEN, HubServer
from support import run_command

from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.prototypes import prototypes_path

CLIP = next(path for path in demo_clips() if "siren" in path.name)


@pytest.mark.parametrize("option", ["--model", "--bundle"])
@pytest.mark.parametrize("name", ["hf:org/demo", "hf:org/demo@main"])
def test_tag_takes_a_repository(hub: HubServer, capsys: pytest.CaptureFixture[str], option: str, name: str) -> None:
    out, err = run_command(capsys, "tag", CLIP, option, name, "--top", 1, "--json")
    assert json.loads(out)["results"][0]["tags"][0]["label"] == "Siren"
    assert "demo bundle" not in err


@pytest.mark.parametrize("option", ["--model", "--bundle"])
def test_evaluate_takes_a_repository(
    hub: HubServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "data" / "Siren").mkdir(parents=True)
    (tmp_path / "data" / "Siren" / CLIP.name).symlink_to(CLIP)
    out, err = run_command(capsys, "evaluate", "--data", tmp_path / "data", option, "hf:org/demo", "--json")
    assert json.loads(out)["skipped"] == []
    assert "demo bundle" not in err


def test_pull_prints_what_pins_the_bundle(hub: HubServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    origin = f"hf:org/demo@{hub.repos['org/demo'].refs['main']}"
    out, _ = run_command(capsys, "pull", "org/demo")
    folder, about = out.splitlines()[0].split(": ", 1)
    assert Bundle(folder).manifest.model == "demo"
    assert about == "demo fp16, 0.7 MB, Apache-2.0"
    assert out.splitlines()[1] == f"always this bundle: {origin}"
    found = json.loads(run_command(capsys, "pull", origin, "--out", tmp_path / "mine", "--json")[0])
    assert found["origin"] == origin
    assert found["bundle"] == str(tmp_path / "mine")
    assert run_command(capsys, "tag", CLIP, "--model", tmp_path / "mine", "--top", 1)[0].split()[-1] == "Siren"


def test_publish_and_its_dry_run(
    hub: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = run_command(capsys, "publish", demo_bundle(), "me/demo", "--dry-run")
    assert 'license: "apache-2.0"' in out
    assert "self_test" in out
    assert "nothing was uploaded" in out
    assert hub.requests == []
    assert "hf auth login" in run_command(capsys, "publish", demo_bundle(), "me/demo", code=2)[1]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    out, err = run_command(capsys, "publish", demo_bundle(), "hf:me/demo", "--private", "--json")
    assert "\r" not in err  # no progress bars: this is no terminal
    found = json.loads(out)
    assert found["uploaded"]
    assert found["self_test"]["passed"]
    assert hub.repos["me/demo"].private
    out, _ = run_command(capsys, "publish", found["origin"], "me/copy")  # from one repository to another
    assert out.splitlines()[-1].startswith("always this bundle: hf:me/copy@")


def test_enroll_does_not_write_into_the_hubs_cache(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run_command(capsys, "enroll", "siren", CLIP, "--model", "hf:org/demo", code=2)
    assert "stays as it was published; expected --prototypes FILE" in err
    assert not prototypes_path(Bundle(demo_bundle())).exists()


def test_without_the_converter_the_message_names_the_hub(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PANNS_LITERT_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "panns_litert_convert.convert", None)
    _, err = run_command(capsys, "tag", CLIP, "--model", "mn04", code=2)
    assert "no bundle at mn04, and none of that name in the cache; to convert the model, this needs" in err
    assert "hf:ORG/NAME opens a published bundle without that" in err
    assert len(err.splitlines()) == 1


def test_a_hub_that_cannot_be_reached_is_named_once(hub: HubServer, tmp_path: Path) -> None:
    """The branch's last known commit is used then, which a user must know."""
    command = [sys.executable, "-m", "panns_litert.cli", "pull", "org/demo"]
    run = {"env": os.environ | hub.environment(tmp_path / "home"), "capture_output": True, "text": True, "check": True}
    first = subprocess.run(command, **run)
    assert first.stderr == ""
    hub.close()
    again = subprocess.run(command, **run)
    assert again.stdout == first.stdout
    assert again.stderr.count("Could not reach the Hub") == 1
