"""Engine: what runs a bundle's graph. Today LiteRT on the CPU (XNNPACK)."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import BundleError

Outputs = dict[str, NDArray[np.float32]]


class Engine(Protocol):
    """Anything that runs a graph: one input array in, named outputs out."""

    name: str
    input: tuple[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]

    def run(self, values: NDArray[np.float32]) -> Outputs:
        """Runs the graph once. The outputs are the caller's to keep."""


class CpuEngine:
    """A .tflite file on LiteRT's CPU engine. Not safe for use by several threads at once.

    Args:
        path: the file; one signature, one float32 input, float32 outputs, static shapes.
        threads: ≥ 1; all cores of this process if not given.

    Attributes:
        name: "cpu".
        input: name and shape of the input.
        outputs: name to shape, in the order of the file's output tensors.

    Raises:
        BundleError: the file is missing, damaged or not of that form.
    """

    name = "cpu"

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        path = Path(path)
        if not path.is_file():
            raise BundleError(f"{path}: no such file; expected a .tflite file")
        with path.open("rb") as file:
            # Checked here because the interpreter dereferences offsets of a file that is none of its own.
            if file.read(8)[4:] != b"TFL3":
                raise BundleError(f"{path}: not a .tflite file; expected the identifier TFL3")
        threads = available_cores() if threads is None else threads
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise BundleError(f"threads = {threads!r}; expected a whole number ≥ 1")
        with native_log() as log:
            try:
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                detail = " ".join(f"{error} {log.text()}".split())[:300]
                raise BundleError(f"{path}: LiteRT cannot load it ({detail}); convert it again") from error
        signatures = self._interpreter.get_signature_list()
        if len(signatures) != 1:
            raise BundleError(f"{path}: {len(signatures)} signatures; expected one")
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1 or inputs[0]["dtype"] != np.float32:
            raise BundleError(f"{path}: inputs {[i['name'] for i in inputs]}; expected one of float32")
        key, signature = next(iter(signatures.items()))
        self._runner = self._interpreter.get_signature_runner(key)
        self.input = (str(signature["inputs"][0]), tuple(int(n) for n in inputs[0]["shape"]))
        details = self._runner.get_output_details()
        order = [output["index"] for output in self._interpreter.get_output_details()]
        self.outputs = {
            name: tuple(int(n) for n in detail["shape"])
            for name, detail in sorted(details.items(), key=lambda item: order.index(item[1]["index"]))
        }
        if any(detail["dtype"] != np.float32 for detail in details.values()):
            raise BundleError(f"{path}: an output is not float32; expected float32 outputs")

    def run(self, values: NDArray[np.float32]) -> Outputs:
        """Runs the graph once.

        Args:
            values: float32 of the input's shape.
        """
        name, shape = self.input
        if values.shape != shape or values.dtype != np.float32:
            raise BundleError(f"{name} of shape {values.shape}, {values.dtype}; expected float32 {shape}")
        results = self._runner(**{name: values})
        return {output: results[output] for output in self.outputs}


class NativeLog:
    """What native code printed while `native_log` was active."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def text(self) -> str:
        """The log so far."""
        return self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""


@contextlib.contextmanager
def native_log(path: Path | None = None) -> Iterator[NativeLog]:
    """Sends what native code and Python print to a file for a while, both stdout and stderr.

    LiteRT and the converter write progress notes to the process's file descriptors, which no logging
    setting reaches.

    Args:
        path: the file, appended to; a temporary one, removed afterwards, if not given.
    """
    with contextlib.ExitStack() as stack:
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "native.log"
        log = stack.enter_context(path.open("ab", buffering=0))
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            if stream is not None:  # a windowed or detached process may have none
                stream.flush()
            try:
                saved = os.dup(descriptor)
            except OSError:  # closed by the host program: nothing to keep quiet
                continue
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
            os.dup2(log.fileno(), descriptor)
        text = stack.enter_context(open(log.fileno(), "w", encoding="utf-8", closefd=False))
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        try:
            yield NativeLog(path)
        finally:
            text.flush()


def available_cores() -> int:
    """Cores that this process may use, ≥ 1."""
    if hasattr(os, "sched_getaffinity"):  # respects containers and taskset; not on macOS, Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
