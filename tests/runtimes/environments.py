"""What foreign runtimes run in: virtual environments and npm packages in build/runtimes, made once for every pin."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "runtimes"
NPM = [HERE / name for name in ("package.json", "package-lock.json", ".npmrc")]
"""What pins the npm packages."""
PINS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "pins.toml").read_text(encoding="utf-8"))
"""Version and packages of every Python runtime, by name."""

INSTALL_SECONDS = 600


class MissingError(RuntimeError):
    """A runtime cannot be had on this machine. The message says why."""


def python(name: str) -> Path:
    """Returns the interpreter of a runtime's environment. Makes the environment if needed.

    Raises:
        MissingError: a package cannot be installed, as where it has no wheel for this Python.
    """
    packages = PINS[name]["packages"]
    where = f"Python {platform.python_version()}, {platform.machine()}"

    def make(folder: Path) -> None:
        venv = [sys.executable, "-m", "venv", "--without-pip", str(folder)]  # a pip of its own would take seconds
        _run(venv, f"no virtual environment for {name} ({where})")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
        _run(
            [*pip, "--no-compile", "--no-deps", "--only-binary", ":all:", *packages],
            f"pip cannot install {name} {PINS[name]['version']} ({where})",
        )

    return _cached(name, [where, *packages], make) / "bin" / "python"


def node_modules() -> Path:
    """Returns the folder of the npm packages. Fetches them if needed.

    Raises:
        MissingError: there is no npm, or it cannot fetch them.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError("no npm; on Debian: apt install npm")

    def make(folder: Path) -> None:
        for path in NPM:
            shutil.copy(path, folder)
        _run([npm, "ci"], "npm cannot fetch the packages", cwd=folder)

    return _cached("npm", [path.read_text(encoding="utf-8") for path in NPM], make) / "node_modules"


def _cached(name: str, pins: Sequence[str], make: Callable[[Path], None]) -> Path:
    """Returns a folder that `make` fills, under a hash of the pins.

    Processes may call this at the same time: one makes the folder, the others wait for it. The folder is made in
    place, because a virtual environment cannot be moved; a marker, written last, says that it is complete.
    """
    digest = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:16]
    folder, ready = BUILD / f"{name}-{digest}", BUILD / f"{name}-{digest}" / "ready"
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / f"{name}.lock"):
        if not ready.exists():
            for old in BUILD.glob(f"{name}-{'[0-9a-f]' * 16}"):
                shutil.rmtree(old)
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


def _run(command: Sequence[str], problem: str, *, cwd: Path | None = None) -> None:
    """Runs a command. Its output goes to stderr, not into the error: it names package indexes and folders."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{problem}: not done after {INSTALL_SECONDS} s") from error
    if done.returncode:
        print((done.stdout + done.stderr)[-4000:], file=sys.stderr)
        raise MissingError(problem)
