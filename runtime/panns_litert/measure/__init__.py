"""Measure: time and memory of bundles on a device, stored as records and shown as tables and pictures.

It may import `search`, `pictures`, `batch`, `evaluate` and the layers below them.
"""

from panns_litert.engine import ENGINES
from panns_litert.measure.bench import ROUNDS, RUNS, SECONDS, TIMEOUT_SECONDS, WARMUP, Failure, Measured, Setting, bench
from panns_litert.measure.markdown import insert, markdown
from panns_litert.measure.records import (
    FORMAT_VERSION,
    Agreement,
    Device,
    DeviceRecord,
    Latency,
    Run,
    add_runs,
    agreement_of,
    read_record,
    read_records,
    this_device,
)
from panns_litert.measure.report import Rung, join, table
from panns_litert.measure.report_plot import plot_rungs

__all__ = [
    "ENGINES",
    "FORMAT_VERSION",
    "ROUNDS",
    "RUNS",
    "SECONDS",
    "TIMEOUT_SECONDS",
    "WARMUP",
    "Agreement",
    "Device",
    "DeviceRecord",
    "Failure",
    "Latency",
    "Measured",
    "Run",
    "Rung",
    "Setting",
    "add_runs",
    "agreement_of",
    "bench",
    "insert",
    "join",
    "markdown",
    "plot_rungs",
    "read_record",
    "read_records",
    "table",
    "this_device",
]
