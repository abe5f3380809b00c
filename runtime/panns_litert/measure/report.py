"""Report: joins device records into rungs and shows their size, agreement and time.

A rung is one .tflite of a model on one device. It is on the Pareto front unless another .tflite of that model, on that
device, is at least as small, at least as close to PyTorch and at least as fast, and better in one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from panns_litert.measure.records import Agreement, Device, DeviceRecord, Run
from panns_litert.words import counted


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One .tflite of a model on one device.

    Attributes:
        device: the device.
        runs: all runs of the .tflite on the device, at least one.
        pareto: whether the rung is on the Pareto front.
    """

    device: Device
    runs: tuple[Run, ...]
    pareto: bool = False

    @property
    def file(self) -> Run:
        """One of the runs, for the attributes that all share: model, precision, graph, size, agreement."""
        return self.runs[0]

    @property
    def agreement(self) -> Agreement | None:
        """The agreement with PyTorch, if known."""
        return self.file.agreement

    def cpu(self, *, threads: int | None = None, xnnpack: bool) -> Run | None:
        """Returns the run with this number of threads, or with the most threads if `threads` is None."""
        found = [run for run in self.runs if run.engine == "cpu" and run.xnnpack == xnnpack]
        if threads is not None:
            found = [run for run in found if run.threads == threads]
        return max(found, key=lambda run: run.threads or 0, default=None)

    @property
    def gpu(self) -> Run | None:
        """The run on the GPU, if there is one."""
        return next((run for run in self.runs if run.engine == "gpu"), None)

    @property
    def fastest(self) -> Run | None:
        """The fastest run; None if the only run is on a software GPU driver."""
        return min((run for run in self.runs if not run.software), key=lambda run: run.ms.median, default=None)


def join(records: Iterable[DeviceRecord]) -> list[Rung]:
    """Returns the rungs of all records, ordered by model, by size with the largest first, and by device."""
    groups: dict[tuple[object, ...], list[Run]] = {}
    devices: dict[str, Device] = {}
    for record in records:
        devices[record.device.name] = record.device
        for run in record.runs:
            key = (record.device.name, *_form(run), run.precision, run.model_sha256)
            groups.setdefault(key, []).append(run)
    rungs = sorted((Rung(device=devices[str(key[0])], runs=tuple(runs)) for key, runs in groups.items()), key=_order)
    return [replace(rung, pareto=_on_front(rung, rungs)) for rung in rungs]


def _form(run: Run) -> tuple[str, str, float]:
    return run.model, run.graph, run.clip_seconds


def _order(rung: Rung) -> tuple[object, ...]:
    file = rung.file
    return (*_form(file), -file.model_bytes, file.precision, file.model_sha256, rung.device.name)


def _on_front(rung: Rung, rungs: Sequence[Rung]) -> bool:
    costs = _costs(rung)
    if costs is None:
        return False
    for other in rungs:
        if other.device != rung.device or _form(other.file) != _form(rung.file):
            continue
        better = _costs(other)
        if better is not None and better != costs and all(b <= c for b, c in zip(better, costs, strict=True)):
            return False
    return True


def _costs(rung: Rung) -> tuple[float, ...] | None:
    """Returns size, error and time; None if one of them is not known."""
    fastest = rung.fastest
    if rung.agreement is None or fastest is None:
        return None
    return rung.file.model_bytes, rung.agreement.max_abs_prob, fastest.ms.median


def table(rungs: Sequence[Rung]) -> list[dict[str, str]]:
    """Returns a row of texts for every rung. A value that was not measured is "–"."""
    return [_row(rung) for rung in rungs]


def _row(rung: Rung) -> dict[str, str]:
    file, agreement = rung.file, rung.agreement
    most = rung.cpu(xnnpack=True)
    tags = None if agreement is None else agreement.tags
    gpu = rung.gpu
    return {
        "model": file.model,
        "precision": file.precision,
        "takes": f"{file.graph}, {file.clip_seconds:g} s",
        "MB": f"{file.model_bytes / 1e6:.2f}",
        "max error": "–" if agreement is None else f"{agreement.max_abs_prob:.1e}",
        "corr": "–" if agreement is None else f"{agreement.corr:.6f}",
        "tags": "–" if tags is None else f"{100 * tags:.1f} %",
        "device": f"{rung.device.name}, {counted(rung.device.cores, 'core')}",
        "1 thread": _ms(rung.cpu(threads=1, xnnpack=True)),
        "all threads": _ms(most) + _of_threads(most, rung.device),
        "no XNNPACK": _ms(rung.cpu(xnnpack=False)) + _of_threads(rung.cpu(xnnpack=False), rung.device),
        "GPU": "(software)" if gpu is not None and gpu.software else _ms(gpu),
        "on the GPU": "–" if gpu is None else f"{gpu.resident} of {gpu.operators}",
        "first": "–" if most is None else f"{most.first_ms:.0f}",
        "peak MB": "–" if most is None else f"{most.peak_memory_bytes / 1e6:.0f}",
        "Pareto": "yes" if rung.pareto else "–",
    }


def _ms(run: Run | None) -> str:
    """Returns the median and, in brackets, the 10th and the 90th percentile."""
    if run is None:
        return "–"
    return f"{_digits(run.ms.median)} ({_digits(run.ms.p10)}–{_digits(run.ms.p90)})"


def _digits(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _of_threads(run: Run | None, device: Device) -> str:
    return "" if run is None or run.threads == device.cores else f" on {run.threads}"
