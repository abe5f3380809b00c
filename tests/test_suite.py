"""The suite's hooks: strict mode fails every skip, in any process; long files run first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

# By what skips: the text of a test file.
SKIPS = {
    "test": "import pytest\n\ndef test_it(): pytest.skip('no tool')\n",
    "fixture": "import pytest\n\n@pytest.fixture\ndef tool(): pytest.skip('no tool')\n\ndef test_it(tool): pass\n",
    "file": "import pytest\npytest.skip('no tool', allow_module_level=True)\n",
    "nothing": "def test_it(): pass\n",
}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest with the suite's hooks in a process of its own."""
    # CI: with it, pytest's summary repeats the whole reason of every failure.
    outer = {"PANNS_LITERT_STRICT", "PYTEST_ADDOPTS", "OMP_NUM_THREADS", "CI", "BUILD_NUMBER", "FORCE_COLOR"}
    environment = {k: v for k, v in os.environ.items() if k not in outer and not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "suite", "-p", "xdist", "-ra", *arguments, str(folder)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


MAKEFILE = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
WORKERS = tuple(re.findall(r"-m pytest (-n auto .+)", MAKEFILE)[0].replace("-n auto", "-n 2").split())


@pytest.mark.parametrize("workers", [(), WORKERS], ids=["1", "2"])
def test_in_strict_mode_every_skip_is_a_failure(workers: tuple[str, ...], tmp_path: Path) -> None:
    for what, text in SKIPS.items():
        (tmp_path / f"test_{what}.py").write_text(text)
    lenient = run(tmp_path, *workers)
    assert lenient.returncode == 0, lenient.stdout
    assert "1 passed, 3 skipped" in lenient.stdout
    strict = run(tmp_path, *workers, "--continue-on-collection-errors", PANNS_LITERT_STRICT="1")
    assert strict.returncode == 1, strict.stdout
    assert "1 passed" in strict.stdout
    assert "skipped," not in strict.stdout.splitlines()[-1]
    assert len(re.findall(r"skipped in strict mode: .*no tool", strict.stdout)) == 3
    for what in SKIPS:
        assert bool(re.search(rf"^(FAILED|ERROR) .*test_{what}\.py", strict.stdout, re.M)) == (what != "nothing"), what


NOTE = """
import os, pytest

@pytest.mark.parametrize("n", range(3))
def test_it(n):
    with open(os.environ["NOTES"], "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], __file__[-4], os.environ["OMP_NUM_THREADS"], file=file)
"""


def test_one_worker_runs_a_file_and_long_files_come_first(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text(NOTE)
    (tmp_path / "test_y.py").write_text(NOTE.replace("(n)", "(n, vulkan)") + "@pytest.fixture\ndef vulkan(): pass\n")
    (tmp_path / "test_z.py").write_text(NOTE.replace("@", "@pytest.mark.full\n@"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = full\n")
    result = run(tmp_path, *WORKERS, NOTES=str(tmp_path / "notes"))
    assert result.returncode == 0, result.stdout
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert len(notes) == 15
    files = {name: {worker for worker, file, _ in notes if file == name} for name in "abcyz"}
    assert all(len(workers) == 1 for workers in files.values())
    firsts = {next(file for name, file, _ in notes if name == worker) for worker in ("gw0", "gw1")}
    assert firsts == {"y", "z"}
    assert {int(threads) for _, _, threads in notes} == {max(1, len(os.sched_getaffinity(0)) // 2)}
