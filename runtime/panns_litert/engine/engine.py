"""Engines that run a bundle's graph: LiteRT on the CPU (XNNPACK) or on the GPU (ML Drift)."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from panns_litert.engine.delegate import DRIVER_REMEDY, gpu_only, read_delegate_log
from panns_litert.engine.graph import read_graph, read_model
from panns_litert.engine.native_log import native_log
from panns_litert.errors import BundleError, GpuDriverError, GpuError
from panns_litert.strict import printable, shown

# A poll finds the process idle if it used less CPU time than _IDLE_SECONDS since the previous poll. A software driver
# has finished if all polls found the process idle for this share of the time since the run began.
_IDLE_SECONDS, _POLL_SECONDS, _IDLE_SHARE = 0.001, 0.02, 0.05

_MOST_THREADS = 1024

Outputs = dict[str, NDArray[np.float32]]
Inputs = NDArray[np.float32] | Mapping[str, NDArray[np.float32]]
"""One array for a graph with one input, or a mapping from each input's name to its array."""


FLOAT16_MAX = float(np.finfo(np.float16).max)
"""The largest float16 value, 65504. A GPU computes in float16."""


class Engine(Protocol):
    """Runs a graph: takes arrays and returns named arrays."""

    name: Literal["cpu", "gpu"]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]

    def run(self, values: Inputs) -> Outputs:
        """Runs the graph once. Later runs do not change the returned arrays."""

    def close(self) -> None:
        """Frees the model. The engine cannot run after that."""


class CpuEngine:
    """Runs a .tflite file on the CPU. Not safe for use by several threads at once.

    The file is read into memory once, so that a file that is overwritten later does not change the model. After a fork
    the child's engine loads the model again, because the threads and locks of the parent's do not exist there.

    Args:
        path: the file; at most one signature, float32 inputs and outputs, static shapes.
        content: the file's bytes if they were read already; then `path` only names them in messages.
        threads: number of threads, ≥ 1; one for each core of this process if not given.
        xnnpack: True: XNNPACK's kernels run the operations that they support. False: LiteRT's own kernels run all.

    Attributes:
        name: "cpu".
        inputs: name to shape.
        outputs: name to shape, in the order of the file's output tensors.

    Raises:
        BundleError: the file is missing, damaged or not of that form.
    """

    name: Literal["cpu", "gpu"] = "cpu"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        content: bytes | None = None,
        threads: int | None = None,
        xnnpack: bool = True,
    ) -> None:
        self._path, self._threads = printable(path), available_cores() if threads is None else threads
        if type(self._threads) is not int or not 1 <= self._threads <= _MOST_THREADS:
            raise BundleError(f"threads = {shown(threads)}; expected a whole number ≥ 1, at most {_MOST_THREADS}")
        self._content: bytes | None = read_model(path) if content is None else content
        graph = read_graph(path, self._content)
        self.inputs, self.outputs, self._xnnpack = graph.inputs, graph.outputs, xnnpack
        self._interpreter: Any = None
        self._runner: Any = None
        self._load()
        _open_engines.add(self)

    def _load(self) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.AUTO if self._xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with native_log() as log:
            try:
                interpreter = Interpreter(
                    model_content=self._content,
                    num_threads=self._threads,
                    experimental_op_resolver_type=resolver,
                )
                interpreter.allocate_tensors()
                # With a signature, inputs and outputs are accessed by name; without one, in the file's order.
                signatures = list(interpreter.get_signature_list())
                self._runner = interpreter.get_signature_runner(signatures[0]) if signatures else None
            except (ValueError, RuntimeError, MemoryError) as error:
                detail = " ".join(f"{error} {log.text()}".split())[:300]
                raise BundleError(f"{self._path}: LiteRT cannot load it ({detail}); convert it again") from error
        self._interpreter = interpreter

    def run(self, values: Inputs) -> Outputs:
        """Runs the graph once.

        Args:
            values: float32 of the inputs' shapes.

        Raises:
            BundleError: an input does not fit, LiteRT fails, or the outputs hold NaN or Inf, or probabilities outside
                0 … 1. No sound model returns these for finite input.
        """
        results = self.run_unchecked(values)
        if problem := _impossible(results):
            raise BundleError(f"{self._path}: the model returned {problem}; convert it again")
        return results

    def run_unchecked(self, values: Inputs) -> Outputs:
        """Runs the graph once and returns whatever it computed.

        Raises:
            BundleError: an input does not fit, LiteRT fails, or the engine was closed.
        """
        arrays = _named(values, self.inputs)
        if self._content is None:
            raise BundleError(f"{self._path}: this engine was closed; expected a new one")
        if self._interpreter is None:  # after a fork
            self._load()
        try:
            results = self._invoke(arrays)
        except (ValueError, RuntimeError, KeyError) as error:
            detail = " ".join(str(error).split())[:300]
            raise BundleError(f"{self._path}: LiteRT cannot run it ({detail}); convert it again") from error
        for name, shape in self.outputs.items():
            if results[name].shape != shape or results[name].dtype != np.float32:
                found = f"{results[name].dtype} {results[name].shape}"
                raise BundleError(f"{self._path}: {name} is {found}; its graph says float32 {shape}; convert it again")
        return results

    def _invoke(self, arrays: Mapping[str, NDArray[np.float32]]) -> Outputs:
        if self._runner is not None:
            results = self._runner(**arrays)
            return {output: results[output] for output in self.outputs}
        for detail, array in zip(self._interpreter.get_input_details(), arrays.values(), strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        details = self._interpreter.get_output_details()
        return {
            output: self._interpreter.get_tensor(detail["index"])
            for output, detail in zip(self.outputs, details, strict=True)
        }

    def close(self) -> None:
        """Frees the model."""
        self._runner = self._interpreter = self._content = None

    def leave_to_parent(self) -> None:
        """Lets go of what belongs to the parent process, after a fork."""
        _of_parent.append((self._runner, self._interpreter))
        self._runner = self._interpreter = None


class GpuEngine:
    """Runs every operation of a .tflite file on the GPU, in float16. Not safe for use by several threads at once.

    Strict: if the delegate refuses one operation, construction fails. The engine does not compare the results with the
    CPU's: `panns_litert.proof.gpu_check` does.

    Args:
        path: the file; at most one signature, float32 inputs and outputs, static shapes.
        content: the file's bytes if they were read already; then `path` only names them in messages.
        log: file to which the delegate's output during compilation is appended; the output is dropped if not given.

    Attributes:
        name: "gpu".
        inputs: name to shape.
        outputs: name to shape, in the order of the file's output tensors.
        adapter: the GPU, in the driver's words.
        software: whether the adapter is a CPU instead of a GPU.

    Raises:
        BundleError: the file is missing, damaged or not of that form.
        GpuDriverError: there is no usable driver; the message says what to install.
        GpuError: the delegate refuses an operation, or the driver reported an error.
    """

    name: Literal["cpu", "gpu"] = "gpu"

    def __init__(self, path: str | os.PathLike[str], *, content: bytes | None = None, log: Path | None = None) -> None:
        from ai_edge_litert.compiled_model import CompiledModel

        data = read_model(path) if content is None else content
        graph = read_graph(path, data)
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._content, self._of_another_process = data, False
        with native_log(log) as captured:
            try:
                self._model = CompiledModel.from_buffer(data, options=gpu_only())
                self._inputs = self._model.create_input_buffers(0)
                self._buffers = self._model.create_output_buffers(0)
                signature = self._model.get_signature_by_index(0)
                self._input_names, self._output_names = list(signature["inputs"]), list(signature["outputs"])
                # The first write sets up another environment and prints much about it, so do it while output is caught.
                self._write({name: np.zeros(shape, np.float32) for name, shape in self.inputs.items()})
                failure = ""
            except RuntimeError as error:
                failure = " ".join(str(error).split())[:300]
            printed = read_delegate_log(captured.text())
        if printed.driver_problem:
            raise GpuDriverError(f"no GPU: {printed.driver_problem}; {DRIVER_REMEDY}")
        if printed.refused:
            refused = "; ".join(f"{r.op}: {r.reason}" for r in printed.refused)
            raise GpuError(f"{path}: the GPU refuses {refused}; expected every operation on the GPU")
        if failure or printed.validation_errors:
            raise GpuError(f"{path}: the GPU cannot run it ({'; '.join(printed.validation_errors) or failure})")
        self.adapter, self.software = printed.adapter or "unknown", printed.software
        _open_engines.add(self)

    def run(self, values: Inputs) -> Outputs:
        """Runs the graph once.

        Args:
            values: float32 of the inputs' shapes.

        Raises:
            GpuError: the outputs hold NaN or Inf, or only zeros. A driver that fails silently returns these.
        """
        results = self.run_unchecked(values)
        if problem := unusable(results):
            raise GpuError(f"the GPU returned {problem}; expected finite outputs; use the CPU and run gpu-check")
        return {name: results[name] for name in self.outputs}

    def run_unchecked(self, values: Inputs) -> Outputs:
        """Runs the graph once and returns what the driver left in the buffers, without the checks of `run`.

        Raises:
            GpuError: this process is a fork of the one that opened the engine. A GPU's context cannot be shared.
        """
        if self._of_another_process:
            raise GpuError("this engine belongs to the parent process; after a fork, expected a new one")
        self._write(_named(values, self.inputs))
        self._model.run_by_index(0, self._inputs, self._buffers)
        if self.software:
            self._wait()
        results = {}
        for name, buffer in zip(self._output_names, self._buffers, strict=True):
            shape = self.outputs[name]
            results[name] = np.array(buffer.read(int(np.prod(shape)), np.float32), np.float32).reshape(shape)
        return results

    def _write(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        for name, buffer in zip(self._input_names, self._inputs, strict=True):
            buffer.write(np.ascontiguousarray(arrays[name]))

    @staticmethod
    def _wait() -> None:
        """Waits until a software driver, whose threads belong to this process, has finished.

        Reading a buffer waits, too, but at most 120 s (LiteRT 2.3). After that the buffer stays locked.
        """
        start, idle, used = time.monotonic(), 0.0, time.process_time()
        # A longer run needs a longer idle time as proof: on a busy machine the driver's threads also wait for a core.
        while idle <= _IDLE_SHARE * (time.monotonic() - start):
            time.sleep(_POLL_SECONDS)
            now = time.process_time()
            idle = idle + _POLL_SECONDS if now - used < _IDLE_SECONDS else 0.0
            used = now

    def close(self) -> None:
        """Frees the buffers, then the model."""
        if self._of_another_process:
            return
        for buffer in (*self._inputs, *self._buffers):
            buffer.destroy()
        self._model.close()

    def leave_to_parent(self) -> None:
        """Lets go of what belongs to the parent process, after a fork."""
        _of_parent.append((self._model, self._inputs, self._buffers))
        self._of_another_process = True


_open_engines: weakref.WeakSet[CpuEngine | GpuEngine] = weakref.WeakSet()
_of_parent: list[object] = []
"""Models of the parent process, in a child. Freeing one would wait for threads that exist only in the parent."""


def _after_fork() -> None:
    for engine in list(_open_engines):
        engine.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)


ENGINES = (CpuEngine.name, GpuEngine.name)
"""Names of the engines."""


def unusable(outputs: Outputs) -> str:
    """Returns why outputs cannot be a valid result, in a few words; an empty text if they can."""
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            return f"NaN or Inf in {name}"
    return "nothing but zeros" if not any(values.any() for values in outputs.values()) else ""


def _impossible(outputs: Outputs) -> str:
    """Returns why outputs cannot be those of a sound model, in a few words; an empty text if they can."""
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            return f"NaN or Inf in {name}"
    probs = outputs.get("probs", np.zeros(1, np.float32))
    return "" if probs.min() >= 0 and probs.max() <= 1 else "probabilities outside 0 … 1"


def _named(values: Inputs, expected: dict[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Checks the input arrays and returns them by name, in the order of the graph's inputs."""
    if not isinstance(values, Mapping):
        values = {next(iter(expected)): values} if len(expected) == 1 else {}
    if set(values) != set(expected):
        raise BundleError(f"inputs {', '.join(map(str, values)) or 'unnamed'}; expected {', '.join(expected)}")
    for name, shape in expected.items():
        array = values[name]
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float32:
            found = f"of shape {array.shape}, {array.dtype}" if isinstance(array, np.ndarray) else shown(array)
            raise BundleError(f"{name} {found}; expected float32 {shape}")
    return {name: values[name] for name in expected}


def available_cores() -> int:
    """Returns the number of cores that this process may use, ≥ 1."""
    if hasattr(os, "sched_getaffinity"):  # respects containers and taskset; not on macOS, Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
