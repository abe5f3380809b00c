"""Engine: a .tflite on the CPU, without a bundle; what native code prints."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import run_python

from panns_litert import Bundle
from panns_litert.engine import CpuEngine, native_log
from panns_litert.errors import BundleError


def test_an_engine_by_itself(demo: Bundle) -> None:
    engine = CpuEngine(str(demo.file("model")), threads=1)
    assert engine.inputs == {"logmel": (1, 1, 1001, 64)}
    assert list(engine.outputs.items()) == [(o.name, o.shape) for o in demo.manifest.outputs]
    outputs = engine.run(np.full((1, 1, 1001, 64), -100.0, np.float32))
    assert list(outputs) == ["probs", "embedding"]
    for name, value in outputs.items():
        assert value.shape == engine.outputs[name]
        assert value.dtype == np.float32
    kept = {name: value.copy() for name, value in outputs.items()}
    engine.run(np.zeros((1, 1, 1001, 64), np.float32))
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, kept[name])


@pytest.mark.parametrize(
    "values",
    [np.zeros((1, 1, 1000, 64), np.float32), np.zeros((1, 1, 1001, 64)), np.zeros((1001, 64), np.float32)],
    ids=lambda values: f"{values.shape} {values.dtype}",
)
def test_wrong_input_of_the_engine(demo: Bundle, values: NDArray[np.floating]) -> None:
    with pytest.raises(BundleError, match=r"logmel of shape .*; expected float32 \(1, 1, 1001, 64\)"):
        CpuEngine(demo.file("model")).run(values)  # type: ignore[arg-type]


def test_files_that_are_no_graph(demo: Bundle, tmp_path: Path) -> None:
    """In a process of their own, because a damaged file could crash it."""
    graph = demo.file("model").read_bytes()
    cases = {
        "missing": (None, "no such file"),
        "folder": (None, "no such file"),
        "empty": (b"", "not a .tflite file"),
        "text": (b"This is no model.\n" * 100, "not a .tflite file"),
        "onnx": (b"\x08\x07\x12\x07pytorch" * 100, "not a .tflite file"),
        "header": (graph[:8], "damaged"),
        "start": (graph[:1000], "damaged"),
        "half": (graph[: len(graph) // 2], "damaged"),
        "end": (graph[:-1000], "damaged"),
        "zeros": (graph[:8] + bytes(5000), "it has no graph"),
        "noise": (graph[:8] + np.random.default_rng(0).bytes(5000), "damaged"),
    }
    (tmp_path / "folder").mkdir()
    for name, (data, _) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    code = """
import sys
from panns_litert.engine import CpuEngine
from panns_litert.errors import BundleError
for path in sys.argv[1:]:
    try:
        CpuEngine(path)
        print("loaded")
    except BundleError as error:
        print(" ".join(str(error).split()))
"""
    paths = [str(tmp_path / name) for name in cases]
    result = run_python(code, *paths)
    lines = result.stdout.splitlines()
    assert len(lines) == len(cases)
    for line, path, (_, message) in zip(lines, paths, cases.values(), strict=True):
        assert path in line
        assert message in line
    assert result.stderr == ""


def test_what_native_code_prints_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with native_log() as log:
        os.write(1, b"to stdout\n")
        os.write(2, b"to stderr\n")
        print("from Python", flush=True)
        assert log.text() == "to stdout\nto stderr\nfrom Python\n"
    os.write(2, b"as before\n")
    assert capfd.readouterr() == ("", "as before\n")
