"""Converts the bundles that the benchmarks measure: `python tests/bench/bundles.py`. They stay in build/zoo.

Those that are there are not converted again; `rm -r build/zoo` starts over. All of them take about 40 minutes and 6 GB.
mn04 has its published weights if `shared` has them, and demo its own. The others have the golden recipe's weights,
whose times are those of the published ones: an inference computes the same for all weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from turns import REAL_WEIGHTS, ROOT, SHARED

from panns_litert_convert.sweep import recipe_checkpoint
from panns_litert_convert.zoo import MODELS, find

FOLDER = ROOT / "build" / "zoo"

PRECISIONS = {
    "cnn14": ("fp32", "fp16", "int8-weights", "int8"),
    "demo": ("fp32", "fp16", "int8-full", "int8-weights", "int8", "int4-weights"),
    "mn04": ("fp32", "fp16", "int8", "int8-weights"),
}
"""The models that are measured at several precisions. All others are measured at fp16."""


def wanted() -> Iterator[tuple[str, str, str]]:
    """Yields model, precision and graph of every bundle that the benchmarks measure."""
    for model in MODELS:
        for precision in PRECISIONS.get(model.name, ("fp16",)):
            yield model.name, precision, model.graphs[0]
    yield from ((name, "fp16", "waveform") for name in ("cnn14", "mn04"))


def bundle(name: str, precision: str = "fp16", graph: str | None = None) -> Path:
    """Returns the folder of a bundle, and converts it first if it is missing.

    Raises:
        SystemExit: the conversion failed.
    """
    model = find(name)
    default = model.graphs[0]
    graph = graph or default
    parts = [name, *([precision] if precision != "fp16" else []), *([graph] if graph != default else [])]
    out = FOLDER / "-".join(parts)
    if out.is_dir():
        return out
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"converting {name} {precision} {graph}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        real = name == "mn04" and REAL_WEIGHTS.exists()
        checkpoint = REAL_WEIGHTS if real else recipe_checkpoint(model, Path(folder))
        command = [sys.executable, "-m", "panns_litert.cli", "convert", name, "--out", str(out)]
        command += ["--precision", precision, "--graph", graph]
        command += ["--checkpoint", str(checkpoint)] if checkpoint else []
        command += ["--calibration", str(ROOT / "assets" / "clips")] if precision == "int8-full" else []
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bundles: {name} {precision} {graph}: {done.stdout.strip().splitlines()[-1]}")
    return out


def yamnet_file() -> Path | None:
    """Returns YAMNet's .tflite, of the environment variable YAMNET or in `shared`, or None if there is none."""
    if "YAMNET" in os.environ:
        return Path(os.environ["YAMNET"])
    return next(iter(sorted(SHARED.rglob("yamnet*.tflite"))), None)


if __name__ == "__main__":
    for row in wanted():
        bundle(*row)
