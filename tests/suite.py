"""How the suite runs: in several processes (pytest-xdist), and in strict mode. Its hooks are conftest.py's."""

from __future__ import annotations

import os

import pytest

from panns_litert.engine import available_cores

WORKER_MEMORY = 5e9
"""What a worker may take at the most, bytes: itself, and a process that converts Cnn14."""


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: as many workers as there are cores and memory for, at most 4."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(4, available_cores(), int(memory / WORKER_MEMORY)))


def pytest_configure(config: pytest.Config) -> None:
    """Workers that xdist is about to start, and their processes, share the cores: fewer threads for each."""
    if workers := config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // workers)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: with `--dist loadfile` the short ones then fill the workers up.

    Long is what converts at full size, and what a software driver computes.
    """
    long = {item.path for item in items if "full" in item.keywords or "vulkan" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():  # type: ignore[no-untyped-def]
    """In strict mode (CI) a skip is a failure: nothing may be left out for a missing tool."""
    return _strictly((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():  # type: ignore[no-untyped-def]
    """A file that skips itself, too."""
    return _strictly((yield))


def _strictly(report):  # type: ignore[no-untyped-def]
    if os.environ.get("PANNS_LITERT_STRICT") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped in strict mode: {report.longrepr}"
    return report
