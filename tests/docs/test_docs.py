"""Documents: every code block of README and docs/ runs, and their links and make targets exist."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hubserver import TOKEN, HubServer
from support import ROOT

import panns_litert
import panns_litert_convert
from panns_litert.demo import demo_bundle, demo_clips

PATHS = (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
DOCUMENTS = {path: path.read_text(encoding="utf-8") for path in PATHS}
BLOCKS = [
    block
    for path, text in DOCUMENTS.items()
    if path.name != "runtimes.md"  # its examples run in tests/runtimes
    for block in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)
]


OUTPUT = "text output"
"""Marks a block that is what the block before it prints."""


def blocks(language: str) -> list[tuple[str, str | None]]:
    """Returns the blocks of a language, each with the output that its document shows, if any."""
    following = [*BLOCKS[1:], ("", "")]
    pairs = zip(BLOCKS, following, strict=True)
    return [(text, shown if then == OUTPUT else None) for (info, text), (then, shown) in pairs if info == language]


@pytest.fixture
def folder(tmp_path: Path, official_pth: Path) -> Path:
    """A folder with the files that README uses: a recording, and Cnn14's checkpoint (with the recipe's weights)."""
    clip = next(path for path in demo_clips() if path.suffix == ".wav")
    shutil.copyfile(clip, tmp_path / "recording.wav")
    (tmp_path / "Cnn14_mAP=0.431.pth").symlink_to(official_pth)
    return tmp_path


def test_documents_have_blocks_of_every_kind() -> None:
    assert len(blocks("python")) >= 2
    assert len(blocks("bash")) >= 1
    assert len(blocks("bash gpu")) >= 2
    assert len(blocks("bash download")) >= 2
    kinds = {"python", "python hub", "bash", "bash gpu", "bash hub", "bash download", "console", "text", OUTPUT}
    assert {info for info, _ in BLOCKS} == kinds
    outputs = [shown for language in ("python", "bash") for _, shown in blocks(language) if shown is not None]
    assert len(outputs) == sum(info == OUTPUT for info, _ in BLOCKS) >= 2
    for text in DOCUMENTS.values():
        assert re.findall(r"@[A-Z_]+@", text) == []  # no placeholder is left


@pytest.mark.parametrize(("code", "shown"), blocks("python"))
def test_python_snippets_run(code: str, shown: str | None, folder: Path) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert shown in (None, result.stdout)


@pytest.mark.full
@pytest.mark.parametrize(("script", "shown"), blocks("bash"))
def test_shell_snippets_run(script: str, shown: str | None, folder: Path) -> None:
    printed = run(script, folder)
    assert printed.strip()
    assert shown in (None, printed)
    proves = re.search(r"panns-litert (convert|finetune|verify)\b", script)
    assert bool(proves) == ("every stage passed" in printed)


@pytest.mark.full
@pytest.mark.usefixtures("vulkan")
@pytest.mark.parametrize(("script", "_"), blocks("bash gpu"))
def test_shell_snippets_that_need_a_gpu_driver_run(script: str, _: None, folder: Path) -> None:
    assert ": passed" in run(script, folder)


@pytest.mark.parametrize(("script", "_"), [*blocks("bash hub"), *blocks("python hub")])
def test_snippets_of_the_hub_run_on_a_hub_of_this_machine(script: str, _: None, tmp_path: Path) -> None:
    shutil.copyfile(next(path for path in demo_clips() if path.suffix == ".wav"), tmp_path / "recording.wav")
    command = script if script.startswith("panns-litert") else f"python - <<'EOF'\n{script}EOF\n"
    with HubServer() as hub:
        hub.add("org/name", demo_bundle())
        printed = run(command, tmp_path, hub.environment(tmp_path / "home") | {"HF_TOKEN": TOKEN})
        assert f"hf:org/name@{hub.repos['org/name'].refs['main']}" in printed
        assert ("me/name" in hub.repos) == ("publish" in script)


def run(script: str, folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a script as a reader would, in a folder, and return what it prints."""
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ
        | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        | dict(variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("script", "_"), blocks("bash download"))
def test_commands_that_download_are_valid_up_to_the_download(script: str, _: None) -> None:
    from panns_litert.cli import build_parser

    for line in script.splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "panns-litert"
        build_parser().parse_args(words[1:])


def test_examples_of_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example knows the names of its module and of the module's package, and finds the files that it names."""
    clips = demo_clips()
    (tmp_path / "sounds").mkdir()
    for clip in clips:
        shutil.copyfile(clip, tmp_path / "sounds" / clip.name)
    shutil.copyfile(next(clip for clip in clips if clip.suffix == ".wav"), tmp_path / "recording.wav")
    shutil.copyfile(next(clip for clip in clips if clip.stem.startswith("siren")), tmp_path / "siren.flac")
    (tmp_path / "groups.json").write_text(json.dumps({"pets": ["Dog/", "Cat/"]}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    failures: list[str] = []
    runner, finder = doctest.DocTestRunner(), doctest.DocTestFinder(exclude_empty=True)
    for package in (panns_litert, panns_litert_convert):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            around = vars(importlib.import_module(found.name.rpartition(".")[0]))
            for test in finder.find(module, globs={**around, **vars(module)}):
                runner.run(test, out=failures.append)
    assert runner.tries >= 50
    assert "".join(failures) == ""


def test_readme_is_short() -> None:
    assert DOCUMENTS[ROOT / "README.md"].count("\n") <= 100


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    targets = set(re.findall(r"[`$] ?make ([a-z-]+)", text))
    assert {"demo", "test", "docs"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_linked_files_exist() -> None:
    names = ("CONTRIBUTING.md", "CHANGELOG.md", "android_demo/README.md")
    others = {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    for path, text in (DOCUMENTS | others).items():
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (path.parent / target).exists(), (path.name, target)
