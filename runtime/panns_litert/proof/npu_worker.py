"""Child process of the NPU check: compiles a .tflite for an NPU, runs the bytecode, and writes the results to files.

A plugin or an emulator may crash, hang, or end the process. In a child process this does no harm: the parent reads the
notes written until then.

    python -m panns_litert.proof.npu_worker FOLDER

FOLDER holds request.json {"model": path, "soc": name, "compiled": path or null, "run": bool} and, with "run",
inputs.npz with arrays "<clip>/<name>". The process writes notes.json after every step, compiled.tflite unless
"compiled" names one, and the outputs in the form of inputs.npz: cpu.npz, half.npz (the CPU with inputs rounded to
float16) and npu.npz.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.engine import CpuEngine, Outputs
from panns_litert.errors import PannsLitertError
from panns_litert.proof.gpu_worker import (
    PROBE,
    Notes,
    add_one_model,
    arithmetic_of,
    load_clips,
    run_steps,
    save_clips,
    save_references,
)
from panns_litert.proof.npu_plugin import compile_file, read_compiled
from panns_litert.proof.npu_targets import QUALCOMM, VendorParts, npu_targets, vendor_parts

COMPILED = "compiled.tflite"
_Clip = Mapping[str, NDArray[np.float32]]


def work(folder: Path) -> None:
    """Runs the steps that request.json in the folder asks for."""
    run_steps(folder, _steps)


def _steps(request: Mapping[str, Any], folder: Path, notes: Notes) -> None:
    (target,) = npu_targets(request["soc"])
    os.environ.update(target.environment)
    parts = vendor_parts(target, run=request["run"])
    path = Path(request["compiled"] or folder / COMPILED)
    if request["compiled"] is None:
        notes.add(step="compile")
        result = compile_file(Path(request["model"]), target, parts, path, folder)
        notes.add(plugin=asdict(result))
        if result.errors or result.unloaded:
            return
    compiled = read_compiled(path)
    if not request["run"] or not compiled.whole:
        return
    run = _on_the_emulator if target.vendor == QUALCOMM else _through_dispatch
    clips = load_clips(folder / "inputs.npz")
    notes.add(step="cpu")
    engine = CpuEngine(Path(request["model"]))
    save_references(folder, engine, clips)
    engine.close()
    notes.add(step="run")
    try:
        outputs = run(path, parts, clips, folder)
    except Exception as error:  # onnxruntime's and LiteRT's own errors; whatever refuses the bytecode is a result
        if isinstance(error, PannsLitertError):
            raise
        notes.add(refusal=" ".join(str(error).split())[:300] or type(error).__name__)
        return
    save_clips(folder / "npu.npz", outputs)
    notes.add(step="arithmetic")
    probe = folder / "probe"
    probe.mkdir()
    (probe / "probe.tflite").write_bytes(add_one_model())
    compile_file(probe / "probe.tflite", target, parts, probe / COMPILED, probe)
    value = float(run(probe / COMPILED, parts, [{"x": np.full((1, 4), PROBE, np.float32)}], probe)[0]["y"][0, 0])
    notes.add(arithmetic=arithmetic_of(value))


def _on_the_emulator(path: Path, parts: VendorParts, clips: Sequence[_Clip], folder: Path) -> list[Outputs]:
    """Runs the bytecode on QNN's emulator of the Hexagon NPU, and nothing else: no operator may fall to the CPU.

    onnxruntime takes a bytecode of QNN as the one node EPContext of an ONNX graph.
    https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html
    """
    import onnx
    import onnxruntime
    from onnx import helper

    compiled = read_compiled(path)
    bytecode, graph = folder / "bytecode.bin", folder / "graph.onnx"
    bytecode.write_bytes(compiled.bytecode)
    names = compiled.tensors
    node = helper.make_node(
        "EPContext",
        [names[name] for name in compiled.inputs],
        [names[name] for name in compiled.outputs],
        name=compiled.name,
        domain="com.microsoft",
        main_context=1,
        embed_mode=0,
        ep_cache_context=bytecode.name,
        source="QNNExecutionProvider",
        partition_name=compiled.name,
        ep_sdk_version=parts.versions["QNN"],
    )

    def infos(tensors: Mapping[str, tuple[int, ...]]) -> list[Any]:
        return [helper.make_tensor_value_info(names[n], onnx.TensorProto.FLOAT, shape) for n, shape in tensors.items()]

    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_graph([node], "npu", infos(compiled.inputs), infos(compiled.outputs))
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=9), str(graph))

    libraries = parts.libraries[0]
    provider = "QNNExecutionProvider"
    if not any(device.ep_name == provider for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(provider, str(libraries / "libonnxruntime_providers_qnn.so"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    options.add_provider_for_devices(devices, {"backend_path": str(libraries / "libQnnHtp.so")})
    session = onnxruntime.InferenceSession(str(graph), options)
    results = []
    for clip in clips:
        values = session.run(None, {names[name]: clip[name] for name in compiled.inputs})
        results.append(dict(zip(compiled.outputs, values, strict=True)))
    return results


def _through_dispatch(path: Path, parts: VendorParts, clips: Sequence[_Clip], folder: Path) -> list[Outputs]:
    """Runs a compiled file with LiteRT's dispatch library of the vendor, and no other accelerator. Needs no folder."""
    from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
    from ai_edge_litert.environment import Environment

    # LiteRT's library finds OpenVINO only in its own site-packages, unless it is already loaded.
    for library in sorted(parts.libraries[0].glob("libopenvino.so.*")) + sorted(
        parts.libraries[0].glob("libopenvino_tensorflow_lite_frontend.so.*")
    ):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    shapes = read_compiled(path).outputs
    environment = Environment.create(dispatch_library_path=str(parts.dispatch))
    model = CompiledModel.from_file(str(path), hardware_accel=HardwareAccelerator.NPU, environment=environment)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    signature = model.get_signature_by_index(0)
    results = []
    for clip in clips:
        for name, buffer in zip(signature["inputs"], inputs, strict=True):
            buffer.write(np.ascontiguousarray(clip[name]))
        model.run_by_index(0, inputs, outputs)
        run = {}
        for name, buffer in zip(signature["outputs"], outputs, strict=True):
            shape = shapes[name]
            run[name] = np.array(buffer.read(int(np.prod(shape)), np.float32), np.float32).reshape(shape)
        results.append(run)
    for buffer in (*inputs, *outputs):
        buffer.destroy()
    model.close()
    return results


if __name__ == "__main__":
    work(Path(sys.argv[1]))
