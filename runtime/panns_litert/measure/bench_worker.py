"""Child process of `panns_litert.measure.bench`: opens a .tflite on one engine and times it.

    python -m panns_litert.measure.bench_worker FOLDER

FOLDER contains request.json {"model", "engine", "threads", "xnnpack", "warmup", "runs", "seconds", "check"} and
inputs.npz, one clip that `panns_litert.proof.save_clips` wrote. The process writes result.json there, atomically.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.engine import CpuEngine, Engine, GpuEngine
from panns_litert.errors import GpuDriverError, PannsLitertError
from panns_litert.proof import load_clips

REQUEST, INPUTS, RESULT = "request.json", "inputs.npz", "result.json"


def work(folder: Path) -> None:
    """Reads request.json, measures, and writes result.json."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    (clip,) = load_clips(folder / INPUTS)
    try:
        result = measure(request, clip)
    except PannsLitertError as error:
        result = {"error": str(error), "no_driver": isinstance(error, GpuDriverError)}
    with replacing(folder / RESULT) as file:
        file.write(json.dumps(result).encode())


def measure(request: Mapping[str, Any], clip: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Returns the time of every run, ms; the time to open the file and run once; the peak memory; and the GPU's name.

    Warm-up and runs stop when they have taken `seconds` together. There is always at least one of each.
    """
    import ai_edge_litert.compiled_model
    import ai_edge_litert.interpreter
    import ai_edge_litert.schema_py_generated  # noqa: F401  imported here, so that the imports are not timed

    start = time.perf_counter()
    engine = _open(request)
    outputs = engine.run(clip)
    first_ms = 1e3 * (time.perf_counter() - start)
    budget_ends = time.perf_counter() + request["seconds"]
    warmup = 1
    while warmup < request["warmup"] and time.perf_counter() < budget_ends:
        engine.run(clip)
        warmup += 1
    times: list[float] = []
    while not times or (len(times) < request["runs"] and time.perf_counter() < budget_ends):
        start = time.perf_counter()
        outputs = engine.run(clip)
        times.append(1e3 * (time.perf_counter() - start))
    result: dict[str, Any] = {"first_ms": first_ms, "warmup": warmup, "ms": times, "peak_memory_bytes": peak_memory()}
    if isinstance(engine, GpuEngine):
        result |= {"adapter": engine.adapter, "software": engine.software}
        if request["check"]:
            result |= _check(request["model"], clip, outputs)
    engine.close()
    return result


def _open(request: Mapping[str, Any]) -> Engine:
    if request["engine"] == "gpu":
        return GpuEngine(request["model"])
    return CpuEngine(request["model"], threads=request["threads"], xnnpack=request["xnnpack"])


def _check(model: str, clip: Mapping[str, NDArray[np.float32]], outputs: dict[str, NDArray[np.float32]]) -> Any:
    """Returns how the GPU's outputs differ from the CPU's ("" if they agree), and the drivers."""
    from panns_litert.engine import vulkan_drivers
    from panns_litert.proof import compare_outputs

    cpu = CpuEngine(model)
    checks = compare_outputs([outputs], [cpu.run(clip)])
    wrong = [f"{check.output}: {check.why}" for check in checks if not check.passed]
    return {"wrong": "; ".join(wrong), "drivers": vulkan_drivers()}


def peak_memory() -> int:
    """Returns the largest resident memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    # On Linux, ru_maxrss starts at the value of the parent process.
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return 1024 * int(found[1])
    import resource  # Unix only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
