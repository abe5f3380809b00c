"""Bench: measures latency, memory and residency of bundles on this device, for every engine and setting.

Every measurement runs in its own process. The peak memory is therefore that of one measurement, and a driver that
crashes is reported as a failure. All bundles and settings take turns in several rounds, so that other load on the
machine slows down all of them equally.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.bundle import Bundle, open_bundle
from panns_litert.engine import ENGINES, available_cores, read_graph
from panns_litert.errors import BenchError
from panns_litert.measure.bench_worker import INPUTS, REQUEST, RESULT
from panns_litert.measure.records import Latency, Run, agreement_of
from panns_litert.proof import demo_inputs, run_child, save_clips
from panns_litert.words import counted

WARMUP, RUNS, ROUNDS, SECONDS = 2, 10, 3, 20.0
"""Defaults of `bench`."""

TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting to measure.

    Attributes:
        engine: "cpu" or "gpu".
        threads, xnnpack: number of threads, and whether XNNPACK's kernels run; None for the GPU.
    """

    engine: str
    threads: int | None = None
    xnnpack: bool | None = None

    def __str__(self) -> str:
        if self.engine == "gpu":
            return "GPU"
        kernels = "" if self.xnnpack else ", without XNNPACK"
        return f"CPU, {counted(self.threads or 0, 'thread')}{kernels}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A bundle and setting that could not be measured.

    Attributes:
        model, precision: of the bundle.
        setting: setting of the engine.
        why: the reason, as text.
        no_driver: whether the only reason is that this device has no GPU driver.
    """

    model: str
    precision: str
    setting: Setting
    why: str
    no_driver: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Result of `bench`: a run or a failure for every bundle and setting.

    Attributes:
        runs, failures: in the order of the bundles.
        interrupted: whether Ctrl-C ended the measurement. Some runs may then be missing or have fewer rounds.
    """

    runs: tuple[Run, ...]
    failures: tuple[Failure, ...]
    interrupted: bool = False


@dataclass(kw_only=True)
class _Candidate:
    """A bundle, one setting, and the results of its rounds."""

    bundle: Bundle
    inputs: Path
    setting: Setting
    rounds: list[dict[str, Any]] = field(default_factory=list)
    failure: Failure | None = None


def bench(
    bundles: Sequence[Bundle | str | os.PathLike[str]],
    *,
    engines: Sequence[str] = ENGINES,
    threads: Sequence[int] | None = None,
    xnnpack: Sequence[bool] = (True, False),
    warmup: int = WARMUP,
    runs: int = RUNS,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    timeout: float = TIMEOUT_SECONDS,
    report: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Measures bundles with a demo recording as input.

    Args:
        bundles: bundles, or what `open_bundle` takes; measured in turns.
        engines: "cpu", "gpu" or both. It is a failure if the GPU does not run the whole graph in float16, or if its
            outputs are outside the gpu_fp16 gate against those of the CPU.
        threads: numbers of CPU threads, each ≥ 1; the default is 1 and the number of cores.
        xnnpack: whether the CPU uses XNNPACK's kernels: True, False or both.
        warmup: inferences per round that are not counted, ≥ 1. The first inference, which compiles, is never counted.
        runs: inferences per round that are counted, ≥ 1.
        rounds: rounds in which every bundle and setting takes one turn, each in a new process, ≥ 1.
        seconds: a turn starts no more inferences after this time, > 0. This limits large models and slow drivers.
        timeout: a turn is killed after this time, seconds > 0.
        report: called with a line of text at every turn.

    Returns:
        The runs and failures. After Ctrl-C, what was measured so far; before the end of the first turn,
        KeyboardInterrupt is raised.

    Raises:
        BenchError: an argument is out of range, or a bundle is given twice.
        BundleError: a bundle cannot be read.
    """
    opened = [open_bundle(bundle) for bundle in bundles]
    settings = _settings(engines, threads, xnnpack)
    for name, value in (("warmup", warmup), ("runs", runs), ("rounds", rounds)):
        if type(value) is not int or value < 1:
            raise BenchError(f"{name} = {value!r}; expected a whole number ≥ 1")
    for name, number in (("seconds", seconds), ("timeout", timeout)):
        if not number > 0:
            raise BenchError(f"{name} = {number!r}; expected a number > 0")
    _require_different(opened)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        candidates = []
        for i, bundle in enumerate(opened):
            inputs = folder / f"{i}.npz"
            save_clips(inputs, demo_inputs(bundle)[:1])
            candidates += [_Candidate(bundle=bundle, inputs=inputs, setting=setting) for setting in settings]
        interrupted = False
        try:
            for turn in range(rounds):
                for candidate in candidates:
                    if candidate.failure is None:
                        of = candidate.bundle.manifest
                        report(f"round {turn + 1} of {rounds}: {of.model} {of.precision}, {candidate.setting}")
                        counts = {"warmup": warmup, "runs": runs, "seconds": seconds, "check": turn == 0}
                        _take_turn(candidate, counts, timeout, folder)
        except KeyboardInterrupt:
            if not any(candidate.rounds for candidate in candidates):
                raise
            interrupted = True
    return Measured(
        runs=tuple(_run(candidate) for candidate in candidates if candidate.failure is None and candidate.rounds),
        interrupted=interrupted,
        failures=tuple(candidate.failure for candidate in candidates if candidate.failure is not None),
    )


def _settings(engines: Sequence[str], threads: Sequence[int] | None, xnnpack: Sequence[bool]) -> list[Setting]:
    if not engines or not set(engines) <= set(ENGINES):
        raise BenchError(f"engines {', '.join(map(str, engines)) or 'none'}; expected {' or '.join(ENGINES)}, or both")
    threads = dict.fromkeys((1, available_cores())) if threads is None else threads  # type: ignore[assignment]
    found = []
    if "cpu" in engines:
        if not threads or not xnnpack:
            raise BenchError("no threads or no xnnpack given; expected at least one of each")
        for count in threads:
            if type(count) is not int or count < 1:
                raise BenchError(f"threads = {count!r}; expected a whole number ≥ 1")
        found = [
            Setting(engine="cpu", threads=count, xnnpack=kernels)
            for count in dict.fromkeys(threads)
            for kernels in dict.fromkeys(xnnpack)
        ]
    return found + ([Setting(engine="gpu")] if "gpu" in engines else [])


def _require_different(bundles: Sequence[Bundle]) -> None:
    """Checks that no two bundles have the same model, precision, graph and clip length, as a record has one of each."""
    if not bundles:
        raise BenchError("no bundle given; expected at least one")
    seen: dict[tuple[object, ...], Path] = {}
    for bundle in bundles:
        manifest = bundle.manifest
        key = (manifest.model, manifest.precision, manifest.graph, manifest.clip_seconds)
        if key in seen:
            raise BenchError(
                f"{seen[key]} and {bundle.path} are both {manifest.model} {manifest.precision}; expected one of them"
            )
        seen[key] = bundle.path


def _take_turn(candidate: _Candidate, counts: dict[str, Any], timeout: float, work: Path) -> None:
    setting = candidate.setting
    request = counts | {
        "model": str(candidate.bundle.file("model").resolve()),
        "engine": setting.engine,
        "threads": setting.threads,
        "xnnpack": setting.xnnpack,
    }
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        (folder / INPUTS).symlink_to(candidate.inputs)
        problem = run_child("panns_litert.measure.bench_worker", folder, timeout)
        result: dict[str, Any] = {"error": problem or "the process ended without a result"}
        if (folder / RESULT).exists():  # even after a failure: a driver may crash when the process exits
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    if wrong := result.get("wrong"):
        result["error"] = f"its outputs differ from those of the CPU ({wrong})"
    if "error" in result:
        manifest = candidate.bundle.manifest
        candidate.failure = Failure(
            model=manifest.model,
            precision=manifest.precision,
            setting=setting,
            why=result["error"],
            no_driver=result.get("no_driver", False),
        )
    candidate.rounds.append(result)


def _run(candidate: _Candidate) -> Run:
    manifest, setting = candidate.bundle.manifest, candidate.setting
    first = candidate.rounds[0]
    ms = np.concatenate([turn["ms"] for turn in candidate.rounds])
    graph = read_graph(candidate.bundle.file("model"))
    model = manifest.files[manifest.file("model")]
    adapter = driver = None
    if setting.engine == "gpu":
        adapter = first["adapter"]
        driver = next((driver for name, driver in first["drivers"].items() if adapter.startswith(name)), None)
    return Run(
        model=manifest.model,
        network=manifest.network,
        precision=manifest.precision,
        graph=manifest.graph,
        clip_seconds=manifest.clip_seconds,
        model_bytes=model.bytes,
        model_sha256=model.sha256,
        engine=setting.engine,
        adapter=adapter,
        driver=driver,
        xnnpack=setting.xnnpack,
        threads=setting.threads,
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("ai-edge-litert", "panns-litert")},
        },
        warmup=sum(turn["warmup"] for turn in candidate.rounds),
        runs=len(ms),
        ms=Latency(
            median=_rounded(np.median(ms)),
            p10=_rounded(np.percentile(ms, 10)),
            p90=_rounded(np.percentile(ms, 90)),
            min=_rounded(ms.min()),
        ),
        first_ms=_rounded(np.median([turn["first_ms"] for turn in candidate.rounds])),
        peak_memory_bytes=max(turn["peak_memory_bytes"] for turn in candidate.rounds),
        operators=graph.operators,
        # The GPU engine fails if the delegate refuses an operator, so that all operators of a run are resident.
        resident=graph.operators if setting.engine == "gpu" else None,
        date=date.today().isoformat(),
        agreement=agreement_of(manifest),
    )


def _rounded(ms: float | np.floating[Any]) -> float:
    """Rounds to 0.1 µs, about the resolution of the clock."""
    return round(float(ms), 4)
