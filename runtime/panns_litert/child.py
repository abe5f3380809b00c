"""Child: runs a module in a separate process, so that a crash or a hang can be reported."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

PRINTED_LOG = "printed.log"
"""Name of the file in the folder that holds everything the process printed."""


def run_child(module: str, folder: Path, timeout: float) -> str:
    """Runs `python -m MODULE FOLDER`. Returns what went wrong with the process, or an empty string.

    Args:
        module: full name of the module.
        folder: the folder that the module works in.
        timeout: seconds after which the process is killed, with those that it started, > 0.
    """
    with (folder / PRINTED_LOG).open("wb") as printed:
        try:
            child = subprocess.Popen(
                # The child imports from where this process does, and nothing from the current folder besides.
                [sys.executable, "-P", "-m", module, str(folder)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"a process to try it in cannot be started: {sys.executable}: {error.strerror}"
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"no result after {timeout:g} s"
        finally:
            if child.poll() is None:
                # The child leads a group of its own: a compiler that it started must not go on without it.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if code:  # the group outlives its leader: what a process that was killed had started ends, too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    if code < 0:
        return f"the process crashed with {signal.Signals(-code).name}"
    if code > 0:
        text = (folder / PRINTED_LOG).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line and not line.startswith("INFO")]
        return f"the process failed: {lines[-1] if lines else 'no message'}"
    return ""
