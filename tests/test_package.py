"""The package as a whole: what it loads, what it ships, what its files say."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import av
import numpy as np
import pytest
from packaging.requirements import Requirement
from support import ROOT, run_python

from panns_litert.demo import demo_bundle
from panns_litert.errors import install_extra
from panns_litert_convert.assets import CLASS_LIST, audioset_labels
from panns_litert_convert.zoo import MODELS, asset

HEAVY = ("torch", "librosa", "torchlibrosa", "litert_torch", "ai_edge_quantizer", "panns_litert_convert", "rich")
SLOW = ("scipy.fft", "scipy.special")  # to import; some parts of the runtime need them, tags do not


def test_the_runtime_imports_nothing_heavy() -> None:
    code = (
        "import sys, panns_litert, panns_litert.cli; panns_litert.Tagger();"
        f"print([name for name in {HEAVY + SLOW} if name in sys.modules])"
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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution. The wheel is built from the latter."""
    folder = tmp_path_factory.mktemp("built")
    # Builds a copy: a build leaves metadata beside its sources, which would hide that of the installed package.
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


def run(*command: object, code: int = 0) -> str:
    """Runs a command. Returns its stdout and stderr."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_a_wheel_holds_what_a_checkout_holds(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    shipped = {
        "panns_litert": ROOT / "runtime" / "panns_litert",
        "panns_litert_convert": ROOT / "convert" / "panns_litert_convert",
        "panns_litert_assets": ROOT / "assets",
        "panns_litert_golden": ROOT / "tests" / "golden",
    }
    not_shipped = {"__pycache__", "published"}
    for package, folder in shipped.items():
        files = [path for path in folder.rglob("*") if path.is_file() and not not_shipped & {*path.parts}]
        assert len(files) > 3
        missing = [str(f) for f in files if f"{package}/{f.relative_to(folder).as_posix()}" not in names]
        assert missing == []


def test_a_wheel_holds_only_the_golden_figures_that_gates_need(built: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(built[0]).namelist()
    figures = {Path(name).stem for name in names if name.startswith("panns_litert_golden/") and name.endswith(".npz")}
    assert figures == {model.golden for model in MODELS} | {"logmels"}


def test_an_index_takes_both_files(built: tuple[Path, Path]) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *built)
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = wheel.read(name).decode()
    page = metadata.partition("\n\n")[2]
    assert page.startswith("# panns-litert\n")
    assert "docs/install.md" in page
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", page) == []  # relative links


def test_the_page_of_an_index() -> None:
    page = runpy.run_path(str(ROOT / "setup.py"))["page"]
    text = "![a](docs/a.png)\n\n*seen\nhere*\n\n[b](docs/b.md#c), [d](https://d.example), [e](#f)\n"
    assert page(text, source=None) == "b, [d](https://d.example), [e](#f)\n"
    assert page(text, source="https://h.example/o/n") == (
        "![a](https://h.example/o/n/raw/HEAD/docs/a.png)\n\n*seen\nhere*\n\n"
        "[b](https://h.example/o/n/blob/HEAD/docs/b.md#c), [d](https://d.example), [e](#f)\n"
    )


def test_workflows_are_valid_and_try_every_supported_python() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in workflows] == ["ci", "release"]
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
    for path in workflows:
        assert re.findall(r"python: \[(.*)\]", path.read_text(encoding="utf-8")) == [
            ", ".join(f'"{version}"' for version in supported)
        ]


def interpreters() -> dict[str, Path]:
    """The supported Pythons of this machine by version: this one, those on the path, and pyenv's."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": Path(sys.executable)}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in ("3.11", "3.12", "3.13"):
        on_path = shutil.which(f"python{version}")
        candidates = [*([Path(on_path)] if on_path else []), *pyenv.glob(f"versions/{version}.*/bin/python")]
        for python in candidates if version not in found else ():
            # Debian's Python may lack ensurepip, and pyenv puts versions on the path that are not switched on.
            if subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0:
                found[version] = python
    return found


IMPORT_ALL = """
import importlib, pkgutil, sys
import panns_litert
for module in pkgutil.walk_packages(panns_litert.__path__, "panns_litert."):
    importlib.import_module(module.name)
print([name for name in {heavy} if name in sys.modules])
"""


@pytest.mark.parametrize("version", interpreters())
def test_a_clean_environment(version: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    """pip installs the wheel and what it requires, without extras. All of the runtime is imported, and it tags."""
    run(interpreters()[version], "-m", "venv", tmp_path)
    python, pins = tmp_path / "bin" / "python", ROOT / "constraints.txt"
    run(python, "-I", "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", pins, built[0])
    run(python, "-I", "-m", "pip", "check")
    heavy = [name for name in HEAVY if name != "rich"]
    assert run(python, "-I", "-c", IMPORT_ALL.format(heavy=heavy)) == "[]\n"
    tags = run(python, "-I", tmp_path / "bin" / "panns-litert", "tag", asset("clips/dtmf_8k.wav"))
    assert "Telephone dialing, DTMF" in tags


# A command that an extra makes possible. {clip}: a recording; {aac}: the same as AAC; {out}: a path that is free.
NEED_AN_EXTRA = {
    "media": ["-m", "panns_litert.cli", "tag", "{aac}"],
    "plot": ["-m", "panns_litert.cli", "plot", "{clip}", "--out", "{out}.png"],
    "parquet": ["-m", "panns_litert.cli", "batch", "{list}", "--out", "{out}", "--workers", "1"],
    "search": ["-m", "panns_litert.cli", "index", "{out}", "{clip}"],
    "ray": ["-c", "import pyarrow, ray"],
    "convert": ["-m", "panns_litert.cli", "verify", "{bundle}"],
    "convert,train": ["-c", "import accelerate, h5py, sklearn, panns_litert_convert.training.finetune"],
    "docs": ["-m", "mkdocs", "--version"],
}


@pytest.mark.parametrize("extra", NEED_AN_EXTRA)
def test_a_clean_environment_with_an_extra(extra: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    """The command fails without the extra, and runs with it.

    The environments hold links to this one's packages: those that the wheel and the extra require, and no others.
    """
    aac, table = tmp_path / "clip.m4a", tmp_path / "list.csv"
    with av.open(str(aac), "w") as container:
        stream = container.add_stream("aac", rate=32000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 32000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 32000
        container.mux([*stream.encode(silence), *stream.encode(None)])
    clip = asset("clips/dtmf_8k.wav")
    table.write_text(f"path\n{clip}\n", encoding="utf-8")
    words = {"clip": clip, "aac": aac, "list": table, "bundle": demo_bundle()}
    bare = linked_environment(tmp_path / "bare", built[0], extras=set())
    full = linked_environment(tmp_path / "full", built[0], extras={*extra.split(",")})
    for python, code in ((bare, None), (full, 0)):
        command = [part.format(out=tmp_path / f"out-{code}", **words) for part in NEED_AN_EXTRA[extra]]
        done = subprocess.run([python, "-E", *command], capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if code == 0:
            assert done.returncode == 0, output
        elif command[1] == "panns_litert.cli":
            assert done.returncode == 2, output
            assert install_extra(extra) in output
        else:
            assert "No module named" in output


def linked_environment(folder: Path, wheel: Path, *, extras: set[str]) -> Path:
    """Makes an environment of the wheel and links to the packages that it requires. Returns its Python."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (own,) = metadata.distributions(name="panns-litert", path=[str(site)])
    wanted, seen = [(own, {"", *extras})], set[tuple[str, frozenset[str]]]()
    while wanted:
        distribution, chosen = wanted.pop()
        for text in distribution.requires or ():
            needed = Requirement(text)
            key = (needed.name, frozenset(needed.extras))
            if key in seen or not any(needed.marker is None or needed.marker.evaluate({"extra": e}) for e in chosen):
                continue
            seen.add(key)
            found = metadata.distribution(needed.name)
            wanted.append((found, {"", *needed.extras}))
            for part in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if not (site / part).exists():
                    (site / part).symlink_to(Path(str(found.locate_file(part))))
    return folder / "bin" / "python"


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
        binary = (".npz", ".png", ".tflite", ".bin", ".safetensors", ".flac", ".wav", ".pcm", ".jar")
        if path.suffix in binary or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"/(?:tmp|root|work|home|Users)/[\w.]+", text)
        assert not found, f"{name}: {found}"
