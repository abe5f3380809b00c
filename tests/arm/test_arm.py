"""The runtime on a 64-bit ARM CPU under QEMU gives the same tags as here. `make arm` compares more CPUs."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import arm
import machine
import pytest
from support import ROOT

CPU = "cortex-a72"
FILES = {"demo": ("int8",), "mn04": ("fp16",)}
SEEN = """
import platform, subprocess, sys
from panns_litert.cli import main
print(subprocess.check_output([sys.executable, "-c", "import platform; print(platform.machine())"], text=True).strip())
sys.exit(main(["tag", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Python for ARM. Skips where this machine cannot run it."""
    try:
        return machine.python(CPU)
    except machine.MissingError as error:
        pytest.skip(str(error))


def test_an_arm_cpu_gives_the_same_tags(python: Path, tmp_path: Path) -> None:
    results = arm.measure([CPU], arm.recordings()[:1], FILES, tmp_path)
    assert [(row["cpu"], row["file"]) for row in results["rows"]] == [(CPU, "demo, int8"), (CPU, "mn04, fp16")]
    assert arm.problems(results) == []


def test_commands_and_child_processes_run_on_that_cpu(python: Path) -> None:
    clip = ROOT / "assets" / "clips" / "siren_44k1_stereo.flac"
    done = subprocess.run([python, "-c", SEEN, clip], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aarch64\n")
    assert "Siren" in done.stdout


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return json.loads((ROOT / arm.RECORD).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_the_record_has_every_cpu_and_file_and_the_document_shows_it(record: dict[str, Any]) -> None:
    files = [f"{name}, {precision}" for name, precisions in arm.FILES.items() for precision in precisions]
    assert [(row["cpu"], row["file"]) for row in record["rows"]] == [
        (cpu, name) for cpu in machine.CPUS for name in files
    ]
    assert record["clips"] == "3 real recordings"
    assert arm.problems(record) == []
    text = (ROOT / arm.DOCUMENT).read_text(encoding="utf-8")
    assert f"<!-- arm -->\n{arm.table(record)}<!-- /arm -->" in text, "run `python tests/bench/figures.py --render`"


@pytest.mark.parametrize(
    ("row", "name", "value", "found"),
    [
        ("mn04, fp16", "given", 2e-4, "given is 0.0002 off this machine's; expected at most 0.0001"),
        ("mn04, int8", "given", 0.06, "given is 0.06 off"),
        ("demo, fp16", "embedding", float("nan"), "embedding is nan off"),
        ("mn04, int8", "logmel", 2e-4, "logmel is 0.0002 off"),
        ("mn04, fp16", "why", "other tags", "other tags"),
    ],
)
def test_what_differs_too_much_is_found(record: dict[str, Any], row: str, name: str, value: object, found: str) -> None:
    changed = copy.deepcopy(record)
    next(each for each in changed["rows"] if each["file"] == row)[name] = value
    (problem,) = arm.problems(changed)
    assert problem.startswith(f"cortex-a53: {row}: ")
    assert found in problem


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QEMU", raising=False)
    monkeypatch.setattr(machine, "BUILD", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(machine.MissingError, match="apt install qemu-user-static"):
        machine.python(CPU)
    with pytest.raises(machine.MissingError, match="expected Debian or Ubuntu"):
        machine.system()
    monkeypatch.setenv("QEMU", str(tmp_path / "qemu"))
    with pytest.raises(machine.MissingError, match="qemu: no such program"):
        machine.python(CPU)
    assert not list(tmp_path.glob("*.ready"))


def test_qemu_with_wrong_matrix_products_gets_no_sme(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, expected in (("7.2.22", "max,sme=off"), ("10.0.2", "max")):
        monkeypatch.setattr(machine, "qemu_version", lambda version=version: version)
        assert machine.model("max") == expected
        assert machine.model(CPU) == CPU
