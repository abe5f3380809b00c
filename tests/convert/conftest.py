"""Fixtures of the converter's tests: a command's JSON, and a disk that is full."""

from __future__ import annotations

import contextlib
import io
import json
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from panns_litert.cli import main


@pytest.fixture(scope="session")
def printed() -> Callable[..., dict[str, Any]]:
    """Runs a command with `--json` and returns the object that it prints."""

    def run(*arguments: str) -> dict[str, Any]:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            assert main([*arguments, "--json"]) == 0
        return json.loads(text.getvalue())

    return run


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """A context in which no file can grow beyond a number of bytes, as on a full disk."""

    @contextlib.contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
