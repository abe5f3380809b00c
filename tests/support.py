"""Helpers that several test files share: paths, sounds, processes, edits of bundles and of .tflite files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panns_litert.bundle import MANIFEST, SELF_TEST, SELF_TEST_SAMPLES, Manifest, file_sha256, model_card
from panns_litert.cli import main
from panns_litert.windows import Window

if TYPE_CHECKING:
    from panns_litert_convert.networks import MobileNetV3

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
"""Real weights and recordings. They are not part of the repository; tests that need them are skipped without them."""
REAL_WEIGHTS = SHARED / "weights" / "mn04_as_mAP_432.pt"
AUDIO = SHARED / "audio"
needs_shared = pytest.mark.skipif(
    not (REAL_WEIGHTS.is_file() and AUDIO.is_dir()), reason=f"no real weights and recordings in {SHARED}"
)


def pieces(x: NDArray[np.float32], cuts: list[int]) -> list[NDArray[np.float32]]:
    """Splits a waveform at `cuts`, which are taken modulo its length."""
    return np.split(x, sorted(cut % (len(x) + 1) for cut in cuts))


def disk_full(*_: object, **__: object) -> None:
    """Stands in for a function that writes: fails as on a full disk."""
    raise OSError(28, "No space left on device")


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns data with a bit flipped, a part cut out, repeated or overwritten, or the end missing."""
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    head = int(rng.integers(min(len(data), 2000)))  # where most formats keep their structure
    kind = int(rng.integers(6))
    if kind < 2:
        at = head if kind else at
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at + length :]
    if kind == 3:
        return data[:at] + data[at : at + length] * 2 + data[at + length :]
    if kind == 4:
        return data[:head] + rng.bytes(length) + data[head + length :]
    return data[:at]


def run_python(code: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python process of its own."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=check)


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    """Runs panns-litert in this process and checks its exit code. Returns stdout and stderr."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def edit_manifest(folder: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Edits a bundle's manifest in place."""
    path = folder / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def rehash(folder: Path, name: str) -> None:
    """Updates size and SHA-256 of an altered file in the manifest, and a model's SHA-256 in the self-test, too."""

    def change(data: dict) -> None:  # type: ignore[type-arg]
        data["files"][name] |= {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}

    edit_manifest(folder, change)
    if name.endswith(".tflite"):
        edit_self_test(folder, lambda data: data.update(model_sha256=file_sha256(folder / name)))


def edit_self_test(folder: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Edits a bundle's selftest.json in place, and updates its record in the manifest."""
    path = folder / SELF_TEST
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    rehash(folder, SELF_TEST)


def without_self_test(folder: Path) -> Path:
    """Removes the self-test from a bundle: earlier versions wrote none."""
    for name in (SELF_TEST, SELF_TEST_SAMPLES):
        (folder / name).unlink()
        edit_manifest(folder, lambda data, name=name: data["files"].pop(name))
    return folder


def make_consistent(folder: Path, name: str) -> None:
    """Updates manifest and model card for an altered file: only a parity gate can find the change now."""
    rehash(folder, name)
    manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    rehash(folder, "README.md")


def edited_graph(source: Path, target: Path, change: Callable[[Any], object]) -> Path:
    """Writes a copy of a .tflite file with a change to its flatbuffer, a `schema_py_generated.ModelT`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(source.read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    target.write_bytes(builder.Output())
    return target


def data_place(buffer: Any) -> tuple[int, int]:
    """Returns offset and size of a buffer's data in its .tflite, both 0 if it has none.

    The data are inside the flatbuffer or, in a file that ai-edge-quantizer wrote, behind it.
    """
    if buffer.Size():
        return buffer.Offset(), buffer.Size()
    return (buffer._tab.Vector(buffer._tab.Offset(4)), buffer.DataLength()) if buffer.DataLength() else (0, 0)


def operators_of(path: Path) -> tuple[list[str], list[int]]:
    """Returns the operators of a .tflite in execution order, and the rank of every tensor."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    tensors = interpreter.get_tensor_details()
    assert all(np.min(tensor["shape_signature"], initial=1) > 0 for tensor in tensors)
    return operators, [len(tensor["shape"]) for tensor in tensors]


def real_network() -> MobileNetV3:
    """Returns mn04 with its published weights."""
    import torch

    from panns_litert_convert.networks import MobileNetV3

    network = MobileNetV3(width=0.4)
    network.load_state_dict(torch.load(REAL_WEIGHTS, weights_only=True))
    return network.eval()


def fake_windows(scores: NDArray[np.float64], *, hop: int, length: int) -> list[Window]:
    """Cuts frame-wise scores, (frames, classes) at 100 frames a second, into windows of `length` every `hop` frames.

    The last window is shifted back so that it ends with the scores.
    """
    starts = [*range(0, max(1, len(scores) - length + 1), hop)]
    if starts[-1] + length < len(scores):
        starts.append(len(scores) - length)
    found = []
    for index, start in enumerate(starts):
        part = np.zeros((length + 1, scores.shape[1]), np.float32)
        here = scores[start : start + length]
        part[: len(here)] = here
        found.append(
            Window(
                index=index, start=start / 100, end=(start + len(here)) / 100, probs=part.max(axis=0),
                embedding=np.zeros(4), framewise=part, level_dbfs=0.0, front_end_ms=0.0, model_ms=0.0,
            )
        )  # fmt: skip
    return found
