"""Layers: packages import only what pyproject.toml allows, and use other packages through their `__init__`."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

ROOTS = ("runtime/panns_litert", "convert/panns_litert_convert")
RUNTIME = ROOT / "runtime" / "panns_litert"
INITS = [path for root in ROOTS for path in (ROOT / root).glob("*/__init__.py")]
"""The packages' `__init__.py`, without those of the two root packages."""
FACES = {path.parent: set(re.findall(r'^    "(\w+)",$', path.read_text(encoding="utf-8"), re.M)) for path in INITS}
FACES = {package: names for package, names in FACES.items() if names}
"""The public names that each package hands out, of the packages that do."""


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
        ("panns_litert/search/index.py", "from panns_litert.evaluate import Dataset", "The runtime's layers"),
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
    homes = {root.rpartition("/")[2]: ROOT / root for root in ROOTS}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imported = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module_name, name in imported:
            root, *parts = module_name.split(".")
            if root not in homes:
                continue
            module = homes[root].joinpath(*parts)
            if (module / f"{name}.py").exists() and name not in FACES.get(module, ()):  # the name is that of a module
                module /= name
            package = module if module.is_dir() else module.parent
            if path.parent != package and (name.startswith("_") or (package in FACES and package != module)):
                yield f"{path.name}:{node.lineno}: {module_name} {name}"


def test_packages_are_used_through_their_init() -> None:
    sources = [path for root in ROOTS for path in (ROOT / root).rglob("*.py")]
    assert len(sources) > 100
    assert [found for path in sources for found in reaches_inside(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "line",
    [
        "from panns_litert.audio.files import load_audio",
        "from panns_litert.audio import _x",
        "from panns_litert.audio import files",
        "import panns_litert.audio.raw",
        "from panns_litert_convert.stages import _constants",
        "from panns_litert_convert.networks.ast import Ast",
    ],
)
def test_an_import_from_inside_a_package_is_found(line: str) -> None:
    assert len(list(reaches_inside(RUNTIME / "tagger.py", line))) == 1


def test_a_package_may_use_its_own_modules() -> None:
    line = "from panns_litert.audio.samples import require_rate"
    assert list(reaches_inside(RUNTIME / "audio" / "raw.py", line)) == []


@pytest.mark.parametrize("path", INITS, ids=lambda path: path.parent.name)
def test_every_package_documents_its_contents_and_imports(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text is not None
    assert "import" in text


def test_the_map_shows_every_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    shown = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (runtime,) = (contract for contract in contracts if contract.get("containers") == ["panns_litert"])
    names = [name for layer in runtime["layers"] for name in layer.split(" | ")]
    assert len(names) > 15
    assert [name for name in names if f"`{name}/`" not in shown and f"`{name}.py`" not in shown] == []
