"""The package as a whole: what it loads, what it ships, what its files say."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from support import ROOT, run_python

from panns_litert_convert.assets import CLASS_LIST, audioset_labels
from panns_litert_convert.zoo import MODELS, asset

HEAVY = ("torch", "librosa", "torchlibrosa", "litert_torch", "ai_edge_quantizer", "panns_litert_convert", "rich")


def test_the_runtime_imports_nothing_heavy() -> None:
    code = (
        "import sys, panns_litert, panns_litert.cli; panns_litert.Tagger();"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run_python(code).stdout == "[]\n"


def test_the_check_above_can_fail() -> None:
    code = f"import sys, panns_litert_convert.zoo; print([name for name in {HEAVY} if name in sys.modules])"
    assert "torch" in run_python(code).stdout


def test_labels_are_audiosets() -> None:
    assert hashlib.sha256(asset(CLASS_LIST).read_bytes()).hexdigest().startswith("cdd1049833c4b861")
    labels = audioset_labels()
    assert asset("audioset_labels.txt").read_text(encoding="utf-8").splitlines() == labels
    assert len(labels) == len(set(labels)) == 527
    assert (labels[0], labels[396], labels[526]) == ("Speech", "Siren", "Field recording")


def test_names_of_models_are_unique() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS)


def test_a_wheel_holds_what_a_checkout_holds(tmp_path: Path) -> None:
    # Builds a copy: a build leaves metadata beside its sources, which would hide that of the installed package.
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        "panns_litert": ROOT / "runtime" / "panns_litert",
        "panns_litert_convert": ROOT / "convert" / "panns_litert_convert",
        "panns_litert_assets": ROOT / "assets",
        "panns_litert_golden": ROOT / "tests" / "golden",
    }
    for package, folder in shipped.items():
        files = [
            path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", "published"} & {*path.parts}
        ]
        assert len(files) > 3
        missing = [str(f) for f in files if f"{package}/{f.relative_to(folder).as_posix()}" not in names]
        assert missing == []


def test_constraints_pin_every_dependency_and_name_no_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", text, re.MULTILINE))
    names = {name.casefold().replace("_", "-") for name in pinned}
    for requirement in needed:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None
        assert name[0].casefold().replace("_", "-") in names, requirement
    assert pinned["torch"] == "2.13.0"
    assert "://" not in text
    assert "@" not in text


def test_the_repository_names_no_machine() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    for name in filter(None, files):
        path = ROOT / name
        binary = (".npz", ".tflite", ".bin", ".safetensors", ".flac", ".wav", ".pcm", ".jar")
        if path.suffix in binary or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"/(?:tmp|root|work|home|Users)/[\w.]+", text)
        assert not found, f"{name}: {found}"
