"""Hooks of the suite, which conftest.py imports: several processes (pytest-xdist) and strict mode."""

from __future__ import annotations

import importlib.util
import os

import pytest

from panns_litert.engine import available_cores

WORKER_MEMORY = 5e9
"""The most memory, in bytes, that a worker and its child processes use: it may run a conversion of Cnn14."""


def pytest_xdist_auto_num_workers() -> int:
    """Returns the workers of `-n auto`: as many as cores and memory allow, at most 4."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(4, available_cores(), int(memory / WORKER_MEMORY)))


def pytest_configure(config: pytest.Config) -> None:
    """Sets fewer threads for each worker and its child processes: they share the cores."""
    if workers := config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // workers)))


QUALCOMM = importlib.util.find_spec("onnxruntime_qnn") is not None


def pytest_report_header() -> str:
    """Returns what the run leaves out on purpose."""
    if QUALCOMM:
        return "Qualcomm's emulator: onnxruntime-qnn is installed"
    return (
        "Qualcomm's emulator: onnxruntime-qnn is not installed, and its tests are left out: the vendor's licence is "
        "the user's to accept (docs/npu-check.md)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of Qualcomm's emulator where it is not installed, also in strict mode.

    Moves files with long tests to the front: with `--dist loadfile` the short ones then fill up the workers.

    Long tests are those of full-size networks and those that may run on a software GPU driver.
    """
    if not QUALCOMM and (left_out := [item for item in items if "qualcomm" in item.keywords]):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if "qualcomm" not in item.keywords]
    long = {item.path for item in items if "full" in item.keywords or "vulkan" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():  # type: ignore[no-untyped-def]
    """In strict mode (CI) a skipped test fails, so that a missing tool is noticed."""
    return _strictly((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():  # type: ignore[no-untyped-def]
    """The same for a file that skips itself while it is imported."""
    return _strictly((yield))


def _strictly(report):  # type: ignore[no-untyped-def]
    if os.environ.get("PANNS_LITERT_STRICT") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped in strict mode: {report.longrepr}"
    return report
