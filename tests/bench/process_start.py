"""Measures how long the program takes from process start, and which imports take that time."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

from bundles import bundle
from turns import real_recordings

MODULES = 10
_IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \| *(\S+)$", re.MULTILINE)


def process_start(rounds: int) -> list[dict[str, Any]]:
    """Whole processes, up to the first tags of mn04, and the ten imports that take longest on the way there."""
    clip = real_recordings()["metro station"]
    program = ["-m", "panns_litert.cli"]
    tag = [*program, "tag", str(clip), "--model", str(bundle("mn04"))]
    commands = {
        "python alone": ["-c", ""],
        "import panns_litert": ["-c", "import panns_litert"],
        "panns-litert --help": [*program, "--help"],
        "panns-litert tag CLIP --model mn04": tag,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    imports: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for name, command in commands.items():
            found = _run(command)
            times[name] += [found] if turn else []  # the first run writes Python's bytecode
        for module, ms in _imports(tag).items():
            imports[module] += [ms] if turn else []
    rows = []
    for name, found in times.items():
        cpu, wall = (statistics.median(values) for values in zip(*found, strict=True))
        rows += [{"what": f"{name}: CPU time", "ms": cpu}, {"what": f"{name}: wall time", "ms": wall}]
    slowest = sorted(((statistics.median(found), module) for module, found in imports.items()), reverse=True)
    return rows + [{"what": f"of that tag, import of {module} itself", "ms": ms} for ms, module in slowest[:MODULES]]


def _run(arguments: list[str]) -> tuple[float, float]:
    """Runs Python in a new process. Returns its CPU time and the time that passed, ms."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=_environment())
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"bench: python {' '.join(arguments)} failed")
    return 1e3 * (usage.ru_utime + usage.ru_stime), 1e3 * (time.perf_counter() - begin)


def _imports(arguments: list[str]) -> dict[str, float]:
    """Returns how long each module's import takes without those that it imports, ms of wall time."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
    return {module: int(microseconds) / 1e3 for microseconds, module in _IMPORT.findall(done.stderr)}


def _environment() -> dict[str, str]:
    """Returns this process's environment, with bytecode, as installed packages have it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
