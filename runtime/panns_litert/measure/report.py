"""Report: the rungs of every model on every device, joined from device records: size, agreement and time side by side.

A rung is one file of a model. It is on the Pareto front if no other file of that model, on that device, is as small, as
close to PyTorch and as fast, and better in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from panns_litert.measure.records import Agreement, Device, DeviceRecord, Run


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One file of a model on one device.

    Attributes:
        device: what it was measured on.
        runs: every run of that file there, at least one.
        pareto: whether it is on the front.
    """

    device: Device
    runs: tuple[Run, ...]
    pareto: bool = False

    @property
    def file(self) -> Run:
        """Any of the runs, for what they share: model, precision, graph, size, agreement."""
        return self.runs[0]

    @property
    def agreement(self) -> Agreement | None:
        """With PyTorch."""
        return self.file.agreement

    def cpu(self, *, threads: int | None = None, xnnpack: bool) -> Run | None:
        """The run on that many threads; on most if not given."""
        found = [run for run in self.runs if run.engine == "cpu" and run.xnnpack == xnnpack]
        if threads is not None:
            found = [run for run in found if run.threads == threads]
        return max(found, key=lambda run: run.threads or 0, default=None)

    @property
    def gpu(self) -> Run | None:
        """The run on the GPU."""
        return next((run for run in self.runs if run.engine == "gpu"), None)

    @property
    def fastest(self) -> Run | None:
        """The fastest run; None if there are times of nothing but a software GPU driver."""
        return min((run for run in self.runs if not run.software), key=lambda run: run.ms.median, default=None)


def join(records: Iterable[DeviceRecord]) -> list[Rung]:
    """The rungs of all records: by model, the largest file first, then by device."""
    groups: dict[tuple[object, ...], list[Run]] = {}
    devices = {record.device.name: record.device for record in records}
    for record in records:
        for run in record.runs:
            groups.setdefault((record.device.name, run.model, run.precision, *_form(run), run.model_sha256), []).append(
                run
            )
    rungs = [Rung(device=devices[str(key[0])], runs=tuple(runs)) for key, runs in groups.items()]
    rungs.sort(key=_order)
    return [
        Rung(device=rung.device, runs=rung.runs, pareto=_on_front(rung, [r for r in rungs if _rivals(rung, r)]))
        for rung in rungs
    ]


def _form(run: Run) -> tuple[str, float]:
    return run.graph, run.clip_seconds


def _order(rung: Rung) -> tuple[object, ...]:
    file = rung.file
    return (file.model, *_form(file), -file.model_bytes, file.precision, file.model_sha256, rung.device.name)


def _rivals(one: Rung, other: Rung) -> bool:
    """Whether both do the same on the same device."""
    same_model = (one.file.model, *_form(one.file)) == (other.file.model, *_form(other.file))
    return same_model and one.device == other.device


def _on_front(rung: Rung, rivals: Sequence[Rung]) -> bool:
    costs = _costs(rung)
    if costs is None:
        return False
    for other in rivals:
        better = _costs(other)
        if better is not None and better != costs and all(b <= c for b, c in zip(better, costs, strict=True)):
            return False
    return True


def _costs(rung: Rung) -> tuple[float, ...] | None:
    """Size, error, time; None if one is not known."""
    fastest = rung.fastest
    if rung.agreement is None or fastest is None:
        return None
    return rung.file.model_bytes, rung.agreement.max_abs_prob, fastest.ms.median


def table(rungs: Sequence[Rung]) -> list[dict[str, str]]:
    """A row of texts for every rung. "–" is not measured."""
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
        "device": f"{rung.device.name}, {rung.device.cores} cores",
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
    """The median and, in brackets, the 10th and the 90th percentile."""
    if run is None:
        return "–"
    return f"{_digits(run.ms.median)} ({_digits(run.ms.p10)}–{_digits(run.ms.p90)})"


def _digits(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _of_threads(run: Run | None, device: Device) -> str:
    return "" if run is None or run.threads == device.cores else f" on {run.threads}"
