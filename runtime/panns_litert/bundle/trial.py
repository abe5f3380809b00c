"""Runs an unknown model once in a separate process, so that a file that crashes LiteRT cannot end this one.

The file's flatbuffer was checked before (`engine/operators.py`), which cannot find all of them. What ran
once is remembered in the cache, so that it costs nothing later.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np

from panns_litert.bundle.cache import cache_dir
from panns_litert.child import run_child
from panns_litert.demo import demo_bundle
from panns_litert.engine import CpuEngine
from panns_litert.errors import BundleError
from panns_litert.strict import printable

_MODEL = "model.tflite"
_TIMEOUT_SECONDS = 300.0


def require_tried(path: Path, content: bytes, sha256: str) -> None:
    """Runs a model in a child process if this computer has not run it before, except for the demo's.

    Args:
        path: the file, for messages.
        content: its bytes.
        sha256: their SHA-256, hexadecimal.

    Raises:
        BundleError: the model crashes, hangs, or LiteRT refuses it.
    """
    if path.parent.resolve() == demo_bundle().resolve() or not sys.executable:  # an embedded Python has no executable
        return
    if _mark(sha256).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _MODEL).write_bytes(content)
        problem = run_child("panns_litert.bundle.trial", Path(folder), _TIMEOUT_SECONDS)
    if problem:
        raise BundleError(f"{printable(path)}: LiteRT cannot run it ({problem}); convert it again")
    remember(sha256)


def remember(sha256: str) -> None:
    """Notes that the model with this SHA-256 runs on this computer.

    Without a cache that can be written, the model is tried every time.
    """
    mark = _mark(sha256)
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _mark(sha256: str) -> Path:
    from ai_edge_litert import __version__ as version  # another LiteRT may crash where this one does not

    return cache_dir() / "tried" / f"litert-{version}" / sha256


def main(folder: Path) -> None:
    """Runs model.tflite of a folder once with zeros and once with noise, as a tagger would."""
    engine = CpuEngine("model", content=(folder / _MODEL).read_bytes())
    rng = np.random.default_rng(0)
    for scale in (0.0, 1.0):
        inputs = {
            name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in engine.inputs.items()
        }
        engine.run_unchecked(inputs)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BundleError as error:
        sys.exit(str(error))
