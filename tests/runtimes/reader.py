"""Child process: runs a .tflite in one runtime, without this package.

    python reader.py READER JOB.json

The job has `model` (a path), `runs` (how often each clip is run) and `clips`: a list of {"path", "rate", "channels"},
where the file has the graph's input as float32, interleaved if there is more than one channel. Readers of tensors
take it as it is; readers of audio get its rate, too.

The process writes JOB.out.json: for every clip {"chunks": [[probability of each class], …], "ms": [time of each run]}
or {"error": text}. Readers of tensors give one chunk, readers of audio as many as they made.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Any, int], list[Any]]
"""Takes the input, (values,) or (samples, channels) float32, and its rate; returns the scores of each chunk."""


def interpreter(model: str) -> Run:
    """LiteRT's Interpreter, and how a device without this package runs a waveform graph."""
    from ai_edge_litert.interpreter import Interpreter

    return _by_signature(Interpreter(model, num_threads=1))


def tflite_runtime(model: str) -> Run:
    """The Interpreter of the time before LiteRT."""
    from tflite_runtime.interpreter import Interpreter

    return _by_signature(Interpreter(model, num_threads=1))


def _by_signature(opened: Any) -> Run:
    ((name, tensors),) = opened.get_signature_list().items()
    runner = opened.get_signature_runner(name)
    (key,) = tensors["inputs"]
    shape = runner.get_input_details()[key]["shape"]

    def run(values: Any, rate: int) -> list[Any]:
        if values.size != np.prod(shape):  # the runner would change the graph's shape to the input's
            opened.set_tensor(runner.get_input_details()[key]["index"], values[None])
        return [runner(**{key: values.reshape(shape)})["probs"][0]]

    return run


def compiled_model(model: str) -> Run:
    """LiteRT's CompiledModel on the CPU."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, Options

    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
    opened = CompiledModel.from_file(model, options=options)
    inputs, outputs = opened.create_input_buffers(0), opened.create_output_buffers(0)
    names = list(opened.get_signature_by_index(0)["outputs"])
    probs = outputs[names.index("probs")]
    classes = opened.get_output_tensor_details(opened.get_signature_by_index(0)["key"])["probs"]["shape"][-1]

    def run(values: Any, rate: int) -> list[Any]:
        inputs[0].write(values)
        opened.run_by_index(0, inputs, outputs)
        return [np.array(probs.read(classes, np.float32))]

    return run


def gpu(model: str) -> Run:
    """LiteRT's GPU delegate, through this package, which finds the driver and waits for a software driver."""
    from panns_litert.engine import GpuEngine, vulkan_drivers
    from panns_litert.errors import GpuDriverError

    if not vulkan_drivers():
        raise GpuDriverError("no Vulkan driver")
    engine = GpuEngine(model)
    (shape,) = engine.inputs.values()
    return lambda values, rate: [engine.run(values.reshape(shape))["probs"][0]]


def without_pictures() -> None:
    """Puts empty modules where `import mediapipe` imports what draws hands and faces: large, and no audio needs it."""
    for name in ("cv2", "matplotlib", "matplotlib.pyplot", "jax", "jax.numpy"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("matplotlib.pyplot", "jax.numpy"):
        package, _, module = name.partition(".")
        setattr(sys.modules[package], module, sys.modules[name])


def mediapipe(model: str) -> Run:
    """MediaPipe Tasks' AudioClassifier."""
    without_pictures()
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import audio
    from mediapipe.tasks.python.components.containers import AudioData

    options = audio.AudioClassifierOptions(base_options=tasks.BaseOptions(model_asset_path=model))
    opened = audio.AudioClassifier.create_from_options(options)

    def run(values: Any, rate: int) -> list[Any]:
        results = opened.classify(AudioData.create_from_array(values, rate))
        return [_scores(result.classifications[0].categories) for result in results]

    run.close = opened.close  # type: ignore[attr-defined]
    return run


def tflite_support(model: str) -> Run:
    """The Task Library's AudioClassifier. It takes only the model's rate and length."""
    from tflite_support.task import audio

    opened = audio.AudioClassifier.create_from_file(model)

    def run(values: Any, rate: int) -> list[Any]:
        tensor = opened.create_input_tensor_audio()
        if tensor.format.sample_rate != rate:
            raise ValueError(f"{rate} Hz; the model takes {tensor.format.sample_rate} Hz")
        tensor.load_from_array(values.reshape(len(values), -1))
        return [_scores(opened.classify(tensor).classifications[0].categories)]

    return run


def _scores(categories: Any) -> Any:
    scores = np.zeros(len(categories), np.float32)
    for category in categories:
        scores[category.index] = category.score
    return scores


READERS = {
    found.__name__: found for found in (interpreter, tflite_runtime, compiled_model, gpu, mediapipe, tflite_support)
}


def main(reader: str, path: str) -> None:
    """Runs a job."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    run = READERS[reader](job["model"])
    results: list[dict[str, Any]] = []
    for clip in job["clips"]:
        values = np.fromfile(clip["path"], "<f4")
        values = values.reshape(-1, clip["channels"]) if clip["channels"] > 1 else values
        try:
            chunks, ms = run(values, clip["rate"]), []
            for _ in range(job["runs"]):
                start = time.perf_counter()
                chunks = run(values, clip["rate"])
                ms.append(1e3 * (time.perf_counter() - start))
            results.append({"chunks": [scores.tolist() for scores in chunks], "ms": ms})
        except Exception as error:  # every kind: the runtimes raise their own
            results.append({"error": f"{type(error).__name__}: {error}"})
    Path(path).with_suffix(".out.json").write_text(json.dumps(results), encoding="utf-8")
    getattr(run, "close", lambda: None)()


if __name__ == "__main__":
    main(*sys.argv[1:])
