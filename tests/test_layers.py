"""Layers: packages import only what pyproject.toml allows, and use other packages through their `__init__`."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

ROOTS = ("runtime/panns_litert", "convert/panns_litert_convert")
RUNTIME = ROOT / "runtime" / "panns_litert"
ROOMS = sorted(path.parent.name for path in RUNTIME.glob("*/__init__.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": f"{folder / 'runtime'}:{folder / 'convert'}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_is_allowed() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("panns_litert/audio/files.py", "import panns_litert.tagger", "The runtime's layers"),
        ("panns_litert/tagger.py", "from panns_litert.windows import Window", "The runtime's layers"),
        ("panns_litert/search/index.py", "from panns_litert.pictures import Timeline", "The runtime's layers"),
        ("panns_litert/errors.py", "def late() -> None:\n    import panns_litert.strict", "The runtime's layers"),
        ("panns_litert/helpers.py", "", "The runtime's layers"),
        ("panns_litert_convert/networks/ast.py", "import panns_litert_convert.convert", "The converter's layers"),
        ("panns_litert_convert/helpers.py", "", "The converter's layers"),
        ("panns_litert/cli/tag.py", "import panns_litert_convert.zoo", "The runtime never imports the converter"),
        ("panns_litert/engine/engine.py", "import torch", "The runtime imports no tool of the converter"),
        ("panns_litert/frontend/mel.py", "import panns_litert.frontend.logmel", "No circle"),
    ],
)
def test_a_forbidden_import_is_found(file: str, line: str, contract: str, tmp_path: Path) -> None:
    for source in ROOTS:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / ("runtime" if file.startswith("panns_litert/") else "convert") / file
    with path.open("a", encoding="utf-8") as target:
        target.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    broken = [text for text in result.stdout.splitlines() if "BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), result.stdout


def reaches_inside(path: Path, text: str) -> Iterator[str]:
    """Finds imports from a module of another package instead of its `__init__`, and imports of private names."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("panns_litert"):
            continue
        parts = node.module.split(".")  # type: ignore[union-attr]
        if parts[0] not in ("panns_litert", "panns_litert_convert"):
            continue
        home = next(root for root in ROOTS if root.endswith(f"/{parts[0]}"))
        inside = len(parts) > 2 and home == ROOTS[0] and parts[1] in ROOMS and path.parent != RUNTIME / parts[1]
        module = (ROOT / home).joinpath(*parts[1:])
        package = module if module.is_dir() else module.parent
        private = path.parent != package and any(alias.name.startswith("_") for alias in node.names)
        if inside or private:
            yield f"{path.name}:{node.lineno}: from {node.module} import {', '.join(a.name for a in node.names)}"


def test_packages_are_used_through_their_init() -> None:
    sources = [path for root in ROOTS for path in (ROOT / root).rglob("*.py")]
    assert len(sources) > 100
    assert [found for path in sources for found in reaches_inside(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "line",
    [
        "from panns_litert.audio.files import load_audio",
        "from panns_litert.audio import _x",
        "from panns_litert_convert.stages import _constants",
    ],
)
def test_an_import_from_inside_a_package_is_found(line: str) -> None:
    assert len(list(reaches_inside(RUNTIME / "tagger.py", line))) == 1


def test_a_package_may_use_its_own_modules() -> None:
    line = "from panns_litert.audio.samples import require_rate"
    assert list(reaches_inside(RUNTIME / "audio" / "raw.py", line)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_package_documents_its_contents_and_imports(room: str) -> None:
    tree = ast.parse((RUNTIME / room / "__init__.py").read_text(encoding="utf-8"))
    text = ast.get_docstring(tree)
    assert text is not None
    assert "import" in text
    assert len(tree.body) > 1
