"""Extensions: commands of other packages, and packages that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from panns_litert.cli import build_parser, extensions
from panns_litert.errors import MissingDependencyError

COMMAND = "def add_commands(command):\n    command({name!r}, lambda args: print('hello') or 0, 'Say hello.')\n"
MODULES = {
    "absent": "import a_package_that_is_not_there",
    "broken": "1 / 0",
    "empty": "",
    "good": COMMAND.format(name="hello"),
    "taken": COMMAND.format(name="tag"),
}


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """The environment with a package that is installed and has one module for each of `MODULES`."""
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    points = "".join(f"{name} = plugin_{name}\n" for name in MODULES)
    (info / "entry_points.txt").write_text(f"[{extensions.COMMANDS}]\n{points}")
    for name, text in MODULES.items():
        (tmp_path / f"plugin_{name}.py").write_text(text)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


@pytest.mark.parametrize("arguments", [["hello"], ["labels", "siren"], ["--help"]], ids=lambda words: words[0])
def test_a_package_that_fails_leaves_all_other_commands(plugin: dict[str, str], arguments: list[str]) -> None:
    command = [sys.executable, "-m", "panns_litert.cli", *arguments]
    result = subprocess.run(command, env=plugin, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert ("hello" in result.stdout) == (arguments != ["labels", "siren"])
    notes = result.stderr.splitlines()
    if arguments == ["labels", "siren"]:  # a command of this distribution asks no other package
        assert notes == []
        return
    assert len(notes) == 4
    for name in set(MODULES) - {"good"}:
        assert [note for note in notes if note.startswith(f"note: no commands of plugin_{name}: ")]


def test_missing_metadata_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(extensions, "entry_points", lambda **_: ())
    build_parser()
    assert "install panns-litert again" in capsys.readouterr().err
    with pytest.raises(MissingDependencyError, match=r"not registered; install the extra convert .*again"):
        extensions.converter("convert_bundle")
