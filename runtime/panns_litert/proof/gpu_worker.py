"""Child process of the GPU check: runs a .tflite on the CPU and on the GPU and writes the results to files.

A driver may crash, hang, print errors and go on, or return zeros. In a child process this does no harm: the parent
reads the notes written until then, and everything that was printed.

    python -m panns_litert.proof.gpu_worker FOLDER

FOLDER holds request.json {"model": path, "cpu": bool, "audit": bool} and inputs.npz with arrays "<clip>/<name>". The
process writes notes.json after every step, and the outputs in the form of inputs.npz: cpu.npz, half.npz (the CPU with
inputs rounded to float16) and gpu.npz.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.engine import CpuEngine, GpuEngine, Outputs, vulkan_drivers
from panns_litert.errors import GpuError, PannsLitertError

DELEGATE_LOG = "delegate.log"
PROBE = 2048.0
"""The smallest whole number to which float16 cannot add 1."""


def work(folder: Path) -> None:
    """Runs the steps that request.json in the folder asks for."""
    run_steps(folder, _steps)


def run_steps(folder: Path, steps: Callable[[Mapping[str, Any], Path, Notes], None]) -> None:
    """Runs a worker's steps with request.json, the folder, and notes.json, which gets the end: "done", or an error."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    notes = Notes(folder / "notes.json")
    try:
        steps(request, folder, notes)
        notes.add(step="done")
    except PannsLitertError as error:
        notes.add(error=str(error))


def _steps(request: Mapping[str, Any], folder: Path, notes: Notes) -> None:
    model = Path(request["model"])
    clips = load_clips(folder / "inputs.npz")
    if request["cpu"]:
        notes.add(step="cpu")
        engine = CpuEngine(model)
        save_references(folder, engine, clips)
        del engine
    if request["audit"]:
        from panns_litert.proof.audit import audit_fp16

        notes.add(step="audit")
        notes.add(ranges=[entry.to_dict() for entry in audit_fp16(model, clips)])
    notes.add(step="driver")
    notes.add(drivers=vulkan_drivers(), step="compile")
    start = time.perf_counter()
    try:
        gpu = GpuEngine(model, log=folder / DELEGATE_LOG)
    except GpuError as error:
        notes.add(refusal=str(error))
        return
    notes.add(compile_s=time.perf_counter() - start, step="run")
    runs: list[Outputs] = []
    seconds: list[float] = []
    for clip in clips:
        start = time.perf_counter()
        runs.append(gpu.run_unchecked(clip))
        seconds.append(time.perf_counter() - start)
    save_clips(folder / "gpu.npz", runs)
    gpu.close()
    notes.add(run_s=seconds, step="arithmetic")
    notes.add(arithmetic=_arithmetic(folder / "probe.tflite"))


def save_references(folder: Path, engine: CpuEngine, clips: Sequence[Mapping[str, NDArray[np.float32]]]) -> None:
    """Writes the CPU's outputs, cpu.npz, and those for the inputs rounded to float16, half.npz."""
    save_clips(folder / "cpu.npz", [engine.run(clip) for clip in clips])
    with np.errstate(over="ignore"):
        rounded = [{name: x.astype(np.float16).astype(np.float32) for name, x in clip.items()} for clip in clips]
    save_clips(folder / "half.npz", [engine.run(clip) for clip in rounded])


def _arithmetic(path: Path) -> str:
    """Measures in which arithmetic the delegate computes: 2048 + 1 is 2048 in float16."""
    path.write_bytes(add_one_model())
    engine = GpuEngine(path, log=path.with_name(DELEGATE_LOG))
    value = float(engine.run(np.full((1, 4), PROBE, np.float32))["y"][0, 0])
    engine.close()
    return arithmetic_of(value)


def arithmetic_of(value: float) -> str:
    """Returns the arithmetic in which `PROBE` + 1 is this value: "float16", "float32", or "unknown: …"."""
    # 2049 lies between two numbers of float16 and is rounded to one of them; Qualcomm's NPU rounds up. Its emulator's
    # conversion to float32 is not exact to the last bit.
    nearest = round(value) if abs(value - round(value)) < 0.01 else value
    found = {PROBE: "float16", PROBE + 1: "float32", PROBE + 2: "float16"}
    return found.get(nearest, f"unknown: {PROBE:g} + 1 = {value:g}")


def add_one_model() -> bytes:
    """Returns a .tflite with one operation, y = x + 1, float32 (1, 4)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def made(kind: Any, **values: Any) -> Any:
        table = kind()
        for name, value in values.items():
            setattr(table, name, value)
        return table

    ones = np.frombuffer(np.ones((1, 4), np.float32).tobytes(), np.uint8)
    add = schema.BuiltinOperator.ADD
    tensors = [
        made(schema.TensorT, name=name, shape=[1, 4], type=schema.TensorType.FLOAT32, buffer=buffer)
        for name, buffer in (("x", 0), ("one", 1), ("y", 0))
    ]
    operator = made(
        schema.OperatorT,
        opcodeIndex=0,
        inputs=[0, 1],
        outputs=[2],
        builtinOptionsType=schema.BuiltinOptions.AddOptions,
        builtinOptions=schema.AddOptionsT(),
    )
    signature = made(
        schema.SignatureDefT,
        signatureKey="add",
        subgraphIndex=0,
        inputs=[made(schema.TensorMapT, name="x", tensorIndex=0)],
        outputs=[made(schema.TensorMapT, name="y", tensorIndex=2)],
    )
    model = made(
        schema.ModelT,
        version=3,
        description="y = x + 1",
        buffers=[schema.BufferT(), made(schema.BufferT, data=ones)],
        operatorCodes=[made(schema.OperatorCodeT, builtinCode=add, deprecatedBuiltinCode=add, version=1)],
        subgraphs=[made(schema.SubGraphT, tensors=tensors, inputs=[0], outputs=[2], operators=[operator])],
        signatureDefs=[signature],
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def save_clips(path: Path, clips: Sequence[Mapping[str, NDArray[np.float32]]]) -> None:
    """Writes the arrays of all clips to one .npz, under the names "<clip>/<name>"."""
    arrays: dict[str, Any] = {f"{i}/{name}": array for i, clip in enumerate(clips) for name, array in clip.items()}
    np.savez(path, **arrays)


def load_clips(path: Path) -> list[dict[str, NDArray[np.float32]]]:
    """Reads the clips that `save_clips` wrote."""
    clips: dict[int, dict[str, NDArray[np.float32]]] = {}
    with np.load(path) as file:
        for key in file.files:
            clip, _, name = key.partition("/")
            clips.setdefault(int(clip), {})[name] = file[key]
    return [clips[i] for i in sorted(clips)]


class Notes:
    """A JSON file of facts. Each update replaces it atomically, so that it is always complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts: dict[str, Any] = {}

    def add(self, **facts: Any) -> None:
        """Adds facts and writes the file."""
        self._facts |= facts
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._facts), encoding="utf-8")
        new.replace(self._path)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
