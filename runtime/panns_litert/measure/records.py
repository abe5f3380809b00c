"""Device record: time and memory of bundles, measured on one device. One JSON file per device, format 1.

    {"format_version": 1, "device": {"name": "AMD EPYC", …}, "runs": [{"model": "mn04", "precision": "fp16", …}, …]}

`panns-litert bench` and the Android app (android_demo/tagger, DeviceRecord.kt) write records. Reading is strict: every
field must be there, no other field may be, and every value must have the right type and range. An error names the file.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from panns_litert.atomic import replacing
from panns_litert.bundle import GRAPHS, Manifest
from panns_litert.engine import ENGINES, available_cores
from panns_litert.errors import RecordError
from panns_litert.strict import MOST_BYTES, parse_json, printable, read, read_text, shown

FORMAT_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that was measured.

    Attributes:
        name: name of the device in tables; at least one letter a-z or digit.
        os, cpu: names of the operating system and of the processor, as the system gives them.
        cores: number of cores that a process may use, ≥ 1.
        memory_bytes: memory of the whole device, > 0.
    """

    name: str
    os: str
    cpu: str
    cores: int
    memory_bytes: int

    def __post_init__(self) -> None:
        if not self.slug:
            raise RecordError(f"device name {self.name!r}; expected at least one letter a-z or digit")
        _require_texts(self, "os", "cpu")
        _require_positive(self, "cores", "memory_bytes")

    @property
    def slug(self) -> str:
        """The name as part of a file name: "AMD EPYC" is "amd-epyc"."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one inference, ms, including copies of input and outputs.

    Attributes:
        median, min: of all counted inferences.
        p10, p90: 10th and 90th percentile.
    """

    median: float
    p10: float
    p90: float
    min: float

    def __post_init__(self) -> None:
        _require_positive(self, "median", "p10", "p90", "min")
        if not self.min <= self.p10 <= self.median <= self.p90:
            raise RecordError(f"ms {asdict(self)}; expected min ≤ p10 ≤ median ≤ p90")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of a .tflite with PyTorch: the parity of its bundle, at the stage of its precision.

    Attributes:
        max_abs_prob: largest error of a probability, 0 … 1.
        corr: smallest correlation of any clip's probabilities, -1 … 1.
        tags: number of tags that both have, divided by the number of tags that either has, 0 … 1; None if the tags
            were not compared.
    """

    max_abs_prob: float
    corr: float
    tags: float | None

    def __post_init__(self) -> None:
        share = 0.0 if self.tags is None else self.tags
        # Rounding may put a correlation slightly above 1.
        if not (0 <= self.max_abs_prob <= 1 and -1.000001 <= self.corr <= 1.000001 and 0 <= share <= 1):
            raise RecordError(f"agreement {asdict(self)}; expected figures within 0 … 1")


@dataclass(frozen=True, kw_only=True)
class Run:
    """The measurement of one model on one engine with one setting.

    Attributes:
        model, network, precision, graph, clip_seconds: as in the bundle's manifest.
        model_bytes, model_sha256: size and SHA-256 of the .tflite.
        engine: "cpu", or "gpu" if the GPU ran the whole graph in float16.
        adapter: name of the GPU as the driver gives it; None for the CPU.
        driver: name and version of the GPU's driver, if known; None for the CPU.
        xnnpack: whether the CPU used XNNPACK's kernels; None for the GPU.
        threads: number of CPU threads, ≥ 1; None for the GPU.
        versions: versions of the software, by name.
        warmup, runs: number of inferences that were not counted, and that were counted; over all rounds.
        ms: time of one inference.
        first_ms: time from opening the file to the first outputs, ms.
        peak_memory_bytes: largest resident memory of the process that ran the model, all of it.
        operators: number of operators in the graph, ≥ 1.
        resident: number of operators that ran on the GPU; None for the CPU.
        date: day of the measurement, YYYY-MM-DD.
        agreement: agreement with PyTorch; None if not known.
    """

    model: str
    network: str
    precision: str
    graph: str
    clip_seconds: float
    model_bytes: int
    model_sha256: str
    engine: str
    adapter: str | None
    driver: str | None
    xnnpack: bool | None
    threads: int | None
    versions: dict[str, str]
    warmup: int
    runs: int
    ms: Latency
    first_ms: float
    peak_memory_bytes: int
    operators: int
    resident: int | None
    date: str
    agreement: Agreement | None

    def __post_init__(self) -> None:
        _require_texts(self, "model", "network", "precision")
        if self.graph not in GRAPHS:
            raise RecordError(f"graph {self.graph!r}; expected one of {', '.join(GRAPHS)}")
        if self.engine not in ENGINES:
            raise RecordError(f"engine {self.engine!r}; expected one of {', '.join(ENGINES)}")
        if not _SHA256.fullmatch(self.model_sha256):
            raise RecordError(f"model_sha256 {self.model_sha256!r}; expected 64 hexadecimal digits")
        _require_positive(
            self, "clip_seconds", "model_bytes", "runs", "first_ms", "peak_memory_bytes", "operators"
        )  # fmt: skip
        if self.warmup < 0:
            raise RecordError(f"warmup {self.warmup}; expected at least 0")
        for name, version in self.versions.items():
            if not (name.strip() and version.strip()):
                raise RecordError(f"versions {self.versions}; expected names and versions")
        if not self.versions:
            raise RecordError("versions {}; expected at least one")
        if not _is_day(self.date):
            raise RecordError(f"date {self.date!r}; expected YYYY-MM-DD")
        on_gpu = self.engine == "gpu"
        for name, of_gpu in (("adapter", True), ("resident", True), ("xnnpack", False), ("threads", False)):
            if (getattr(self, name) is not None) != (on_gpu == of_gpu):
                only = "GPU" if of_gpu else "CPU"
                raise RecordError(
                    f"{name} {getattr(self, name)!r} of a {self.engine} run; expected it of the {only} alone"
                )
        if self.driver is not None and not on_gpu:
            raise RecordError(f"driver {self.driver!r} of a cpu run; expected it of the GPU alone")
        for name in ("adapter", "driver"):
            if getattr(self, name) is not None:
                _require_texts(self, name)
        if self.threads is not None and self.threads < 1:
            raise RecordError(f"threads {self.threads}; expected at least 1")
        if self.resident is not None and not 0 <= self.resident <= self.operators:
            raise RecordError(f"resident {self.resident} of {self.operators} operators; expected 0 … operators")

    @property
    def key(self) -> tuple[str | float | bool, ...]:
        """Identifies what was measured. A new run replaces an older one with the same key. Keys can be sorted."""
        threads, xnnpack = self.threads or 0, bool(self.xnnpack)
        return (self.model, self.precision, self.graph, self.clip_seconds, self.engine, threads, xnnpack)

    @property
    def software(self) -> bool:
        """Whether the GPU was emulated on the CPU. Such a run shows residency, but its times are meaningless."""
        return self.adapter is not None and "adapterType=CPU" in self.adapter


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """A device and its runs, in the order of their keys.

    Raises:
        RecordError: on construction of a record or of its parts: a value is out of range, or two runs have one key.
    """

    device: Device
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple(sorted(self.runs, key=lambda run: run.key)))
        for one, other in zip(self.runs, self.runs[1:], strict=False):
            if one.key == other.key:
                raise RecordError(f"two runs of {' '.join(map(str, one.key))}; expected one each")

    def with_runs(self, runs: Iterable[Run]) -> DeviceRecord:
        """Returns the record with new runs added. They replace older runs with the same keys."""
        by_key = {run.key: run for run in self.runs} | {run.key: run for run in runs}
        return DeviceRecord(device=self.device, runs=tuple(by_key.values()))

    def to_json(self) -> str:
        """Returns the record as indented JSON. The same content gives the same text."""
        data = {"format_version": FORMAT_VERSION} | asdict(self)
        return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DeviceRecord:
        """Reads a record from JSON, strictly.

        Raises:
            RecordError: the text is not JSON or not of this format.
        """
        data = parse_json(text, "record", error=RecordError)
        if not isinstance(data, dict) or "format_version" not in data:
            raise RecordError("no format_version; expected a device record that `panns-litert bench` wrote")
        version = data.pop("format_version")  # before anything else: other fields may differ too
        if type(version) is not int or version != FORMAT_VERSION:
            raise RecordError(
                f"format_version {shown(version)}; this version reads {FORMAT_VERSION}; update panns-litert"
            )
        record: DeviceRecord = read(cls, data, "record", error=RecordError)
        return record


def read_record(path: str | os.PathLike[str]) -> DeviceRecord:
    """Reads the file of a record.

    Raises:
        RecordError: the file cannot be read or is not valid. The message names the file.
    """
    text = read_text(path, error=RecordError, what="a device record", most_bytes=MOST_BYTES)
    try:
        return DeviceRecord.from_json(text)
    except RecordError as error:
        raise RecordError(f"{printable(path)}: {error}") from error


def read_records(folder: str | os.PathLike[str]) -> list[DeviceRecord]:
    """Reads all records of a folder, `*.json`. Returns them in the order of the devices' names.

    Raises:
        RecordError: a record cannot be read, two records are of the same device, or there is none.
    """
    folder = Path(folder)
    found: dict[str, DeviceRecord] = {}
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        if record.device.name in found:
            raise RecordError(f"{path}: another record is of {record.device.name!r}, too; expected one file a device")
        found[record.device.name] = record
    if not found:
        raise RecordError(f"{folder}: no device record; expected *.json that `panns-litert bench` wrote")
    return [found[name] for name in sorted(found)]


def add_runs(folder: str | os.PathLike[str], device: Device, runs: Iterable[Run]) -> Path:
    """Adds runs to the record of a device in a folder; creates both if they do not exist. Returns the record's path.

    Raises:
        RecordError: the existing record is damaged, or is of another device with the same name.
        ResultsError: the record cannot be written.
    """
    path = Path(folder) / f"{device.slug}.json"
    record = DeviceRecord(device=device, runs=())
    if path.exists():
        old = read_record(path)
        if (old.device.cpu, old.device.cores) != (device.cpu, device.cores):
            raise RecordError(
                f"{path} is of another device ({old.device.cpu}, {old.device.cores} cores; this one: {device.cpu}, "
                f"{device.cores} cores); give this one a name of its own: --device NAME"
            )
        record = record.with_runs(old.runs)
    text = record.with_runs(runs).to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())
    return path


def agreement_of(manifest: Manifest) -> Agreement | None:
    """Returns the agreement that a bundle's manifest states for its precision; None if it has no parity of "probs"."""
    checks = {check.output: check for check in manifest.parity if check.stage == manifest.precision}
    probs, tags = checks.get("probs"), checks.get("tags")
    if probs is None or probs.max_abs is None or probs.corr is None:
        return None
    # The parity of "tags" is the share that differs.
    shared = None if tags is None or tags.max_abs is None else 1.0 - tags.max_abs
    return Agreement(max_abs_prob=probs.max_abs, corr=probs.corr, tags=shared)


def this_device(name: str | None = None) -> Device:
    """Returns the device that this process runs on.

    Args:
        name: name of the device; the default is the name of its processor.
    """
    cpu = _cpu()
    plain = re.sub(r"\((R|TM)\)|\bCPU\b|@.*", " ", cpu)
    return Device(
        name=name if name is not None else " ".join(plain.split()),
        os=_os(),
        cpu=cpu,
        cores=available_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def _os() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # not Linux
        return f"{platform.system()} {platform.release()}"


def _cpu() -> str:
    """Returns the processor's name, or its architecture if it has no name, as many ARM processors."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(\S.*)$", info.read_text(encoding="utf-8", errors="replace"), re.M)
        return found[1].strip() if found else platform.machine()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return name or platform.machine()
    return platform.processor() or platform.machine()


def _require_positive(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not (math.isfinite(value) and value > 0):
            raise RecordError(f"{name} {value!r}; expected a finite number > 0")


def _require_texts(record: Any, *names: str) -> None:
    for name in names:
        if not getattr(record, name).strip():
            raise RecordError(f"{name} {getattr(record, name)!r}; expected some text")


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text)) and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
