"""Listening for days: a short soak, and the files for systemd and docker compose, which tools and the parser check.

Neither the unit nor the container is started: there is no systemd and no container engine here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import soak
import yaml
from support import ROOT

from panns_litert.cli import build_parser
from panns_litert.demo import demo_bundle, demo_clips

SERVICE = ROOT / "docs" / "service"
MOST_EXPOSURE = 2.0
"""Of `systemd-analyze security`, from 0, which is best, to 10."""

CLASSES = {"church_bell": "Church bell", "dtmf": "Telephone dialing, DTMF", "foghorn": "Foghorn", "siren": "Siren"}


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}; .ci/run installs it")
    return path


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def test_ten_simulated_minutes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each planted sound is told once, at its time, also after a loss, and memory does not grow."""
    for name, value in {"HOUR": 100.0, "EVERY": (14.0, 22.0), "LOSS_AT": 240.0, "APART": 12.0}.items():
        monkeypatch.setattr(soak, name, value)
    clips = [(path, label) for path in demo_clips() for stem, label in CLASSES.items() if path.name.startswith(stem)]
    assert len(clips) == len(CLASSES)
    *parts, total = soak.run(demo_bundle(), clips, {label: [label] for _, label in clips}, hours=1 / 6, folder=tmp_path)
    assert len(parts) == 6
    assert int(total["planted"]) > 20
    assert (total["told_once"], total["missed"], total["told_more_than_once"]) == (total["planted"], "0", "0")
    assert total["events_of_other_classes"] == "0"
    assert total["largest_clock_error_ms"] <= 0.51  # milliseconds are what the text has
    assert float(total["length_h"]) == pytest.approx(600.25 / 3600, abs=1e-6)  # a whole block begins before 600 s
    assert total["lost_s"] == "37.25"
    errors = [part["start_error_s"] for part in parts]
    assert max(errors) - min(errors) < 3.0  # as far as windows of 10 s and a hop of 1 s tell; drift would add up
    memory = [part["memory_MB"] for part in parts]
    assert max(memory[2:]) < memory[1] + 10


def words(command: str) -> list[str]:
    """Returns the words of a unit's command, with its variables replaced by a folder."""
    return re.sub(r"\$\{\w+\}", "/tmp", command).replace("\\\n", " ").split()


def commands() -> dict[str, Sequence[str]]:
    unit = (SERVICE / "panns-litert.service").read_text(encoding="utf-8")
    (start,) = re.findall(r"^ExecStart=\S+/panns-litert ((?:.*\\\n)*.*)$", unit, re.M)
    compose = yaml.safe_load((SERVICE / "compose.yaml").read_text(encoding="utf-8"))
    return {"unit": words(start), "compose": compose["services"]["panns-litert"]["command"]}


@pytest.mark.parametrize("name", ["unit", "compose"])
def test_the_commands_are_understood(name: str) -> None:
    args = build_parser("listen").parse_args(commands()[name])
    assert args.events
    assert args.json
    assert args.mqtt == "homeassistant.local"
    assert args.mqtt_user is not None
    assert args.mqtt_password_file is not None
    assert args.csv is not None
    assert (args.mqtt_node is not None) == (name == "compose"), "the name of a container changes"


def unit_for_here(folder: Path, change: tuple[str, str] = ("", "")) -> Path:
    """Writes the unit with a program that exists here: `verify` looks for it."""
    text = (SERVICE / "panns-litert.service").read_text(encoding="utf-8")
    assert change[0] in text
    unit = folder / "panns-litert.service"
    unit.write_text(text.replace("/opt/panns-litert/bin/panns-litert", "/bin/true").replace(*change), encoding="utf-8")
    return unit


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    unit = unit_for_here(tmp_path)
    checked = run(analyze, "verify", unit)
    assert (checked.returncode, checked.stderr) == (0, "")
    limit = ["--offline=true", f"--threshold={10 * MOST_EXPOSURE:g}"]
    checked = run(analyze, "security", *limit, unit)
    assert checked.returncode == 0, checked.stdout[-200:]
    # Both checks can fail.
    unit = unit_for_here(tmp_path, ("DynamicUser=", "DynamicUsr="))
    assert "Unknown key" in run(analyze, "verify", unit).stderr
    assert run(analyze, "security", *limit, unit).returncode != 0


def test_the_compose_file_is_valid(tmp_path: Path) -> None:
    compose = tool("docker-compose")
    checked = run(compose, "--file", SERVICE / "compose.yaml", "config")
    assert checked.returncode == 0, checked.stderr
    service = yaml.safe_load(checked.stdout)["services"]["panns-litert"]
    assert (service["build"]["context"], service["read_only"], service["cap_drop"]) == (str(ROOT), True, ["ALL"])
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    bad = tmp_path / "compose.yaml"
    bad.write_text((SERVICE / "compose.yaml").read_text(encoding="utf-8").replace("mem_limit", "memlimit"))
    assert run(compose, "--file", bad, "config").returncode != 0


def test_the_image_has_what_its_build_copies() -> None:
    text = (SERVICE / "Dockerfile").read_text(encoding="utf-8")
    names = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for name in line.split()]
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert re.findall(r"/src\[(.+)\]", text) == ["mic,mqtt"]
