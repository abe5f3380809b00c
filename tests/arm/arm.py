"""`make arm`: the runtime on 64-bit ARM CPUs under QEMU: the same tags as on this machine, and the runtime's tests.

    python tests/arm/arm.py --out records/arm/parity.json    # compares, and writes docs/arm.md
    python tests/arm/arm.py --tests                            # runs the tests of TESTS
    python tests/arm/arm.py --render                           # writes docs/arm.md from the record

An emulator shows what is computed, and nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "runtimes"))

from inside import outputs
from machine import CPUS, ROOT, MissingError, model, python, qemu_version
from runtimes import recordings, subject

from panns_litert.atomic import replacing
from panns_litert.engine import available_cores
from panns_litert.measure import insert, markdown, this_device
from panns_litert.proof import Gate, compare

RECORD, DOCUMENT = Path("records/arm/parity.json"), Path("docs/arm.md")
FILES = {"demo": ("fp16", "int8"), "mn04": ("fp32", "fp16", "int8")}
FLOAT_GATE = Gate(max_abs=1e-4, top5=True)
"""Probabilities, where arithmetic is float32: fp32 and fp16, whose weights are stored in float16."""
INT8_GATE = Gate(max_abs=0.05, top5=True)
"""The same for int8: the gate that every int8 bundle passes against PyTorch."""
RUN_SECONDS = 3600

TESTS = (
    *("tests/engine", "tests/frontend/test_streaming.py", "tests/audio/test_blocks.py", "tests/audio/test_silence.py"),
    *("tests/sense/test_labels.py", "tests/sense/test_sense.py", "tests/test_strict.py", "tests/test_events.py"),
    *("tests/bundle/test_bundle.py", "tests/test_tagger.py"),
)
"""Tests of the runtime that need neither the converter nor tools that are not installed there. Property tests are left
out: they search the logic of Python code with hundreds of runs, and that is the same on every CPU."""
TOO_LONG = ("test_threads_get_their_own_sound", "test_streams_in_threads_share_a_tagger")
"""Tests of tests/test_tagger.py that tag hundreds of clips, which no emulator does in minutes."""


def on_cpu(
    cpu: str, clips: Sequence[Path], bundles: Mapping[str, Path], given: Mapping[str, NDArray[np.float32]], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Returns what `inside.outputs` returns on an ARM CPU.

    Raises:
        MissingError: this machine cannot run programs for ARM.
        RuntimeError: the run failed.
    """
    job, out, given_file = (folder / f"{cpu}{suffix}" for suffix in (".json", ".npz", ".given.npz"))
    np.savez(given_file, **given)  # type: ignore[arg-type]
    named = {name: str(path) for name, path in bundles.items()}
    job.write_text(json.dumps({"clips": [*map(str, clips)], "bundles": named, "given": str(given_file)}))
    done = _run(cpu, [str(Path(__file__).with_name("inside.py")), str(job), str(out)], capture_output=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{cpu}: exit code {done.returncode}: {last}")
    with np.load(out) as found:
        return dict(found)


def _run(cpu: str, arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(python(cpu)), *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, env=environment, timeout=RUN_SECONDS, check=False, **options)


def measure(
    cpus: Sequence[str], clips: Sequence[Path], files: Mapping[str, Sequence[str]], folder: Path
) -> dict[str, Any]:
    """Compares ARM CPUs with this machine and with PyTorch.

    Args:
        cpus: names in CPUS.
        clips: recordings; the first window of each is tagged.
        files: precisions by model.
        folder: for bundles and results.

    Returns:
        A row per CPU and file. Differences are the largest of all clips: "logmel" as a share of the log-mel's range,
        "embedding" of its largest value, "samples" of full scale, all others are probabilities: "probs" from recording
        to tags, "given" from this machine's log-mel, "control" of this machine from the ARM CPU's log-mel, "pytorch"
        from PyTorch.
    """
    subjects = {name: subject(name, "logmel", clips, folder, precisions) for name, precisions in files.items()}
    bundles = {
        f"{name}, {precision}": subjects[name].files[precision].parent
        for name, precisions in files.items()
        for precision in precisions
    }
    here = outputs(clips, bundles)
    with ThreadPoolExecutor(available_cores()) as pool:
        found = list(pool.map(lambda cpu: on_cpu(cpu, clips, bundles, here, folder), cpus))
    rows = []
    for cpu, there in zip(cpus, found, strict=True):
        control = outputs(clips, bundles, there)
        for name in bundles:
            short, precision = name.split(", ")
            pair = {stage: (there[f"{name}/{stage}"], here[f"{name}/{stage}"]) for stage in ("logmel", "probs")}
            check = compare(cpu, name, *pair["probs"], gate=gate(precision))
            rows.append(
                {
                    "cpu": cpu,
                    "file": name,
                    "samples": _largest(there[f"{name}/samples"], here[f"{name}/samples"]),
                    "logmel": _largest(*pair["logmel"], scale=float(np.ptp(pair["logmel"][1]))),
                    "probs": _largest(*pair["probs"]),
                    "embedding": _largest(
                        there[f"{name}/embedding"],
                        here[f"{name}/embedding"],
                        scale=float(np.abs(here[f"{name}/embedding"]).max()),
                    ),
                    "given": _largest(there[f"{name}/given"], here[f"{name}/probs"]),
                    "control": _largest(control[f"{name}/given"], here[f"{name}/probs"]),
                    "pytorch": _largest(there[f"{name}/probs"], subjects[short].pytorch),
                    "top5": check.top5_agree,
                    "why": check.why,
                }
            )
    real = not any(path.is_relative_to(ROOT) for path in clips)
    return {
        "date": date.today().isoformat(),
        "machine": this_device().name,
        "qemu": qemu_version(),
        "cpus": {cpu: model(cpu) for cpu in cpus},
        "versions": {name: metadata.version(name) for name in ("ai-edge-litert", "numpy", "soxr", "soundfile")},
        "weights": {name: subjects[name].weights for name in files},
        "clips": f"{len(clips)} {'real' if real else 'demo'} recordings",
        "rows": rows,
    }


def gate(precision: str) -> Gate:
    """Returns the bounds of the probabilities of a precision, ARM against this machine."""
    return INT8_GATE if precision == "int8" else FLOAT_GATE


def _largest(got: NDArray[np.float32], expected: NDArray[np.float32], *, scale: float = 1.0) -> float:
    """Returns the largest difference divided by a scale, rounded to two digits; NaN if any value is."""
    return float(f"{np.abs(got.astype(np.float64) - expected).max() / scale:.1e}")


def problems(results: Mapping[str, Any]) -> list[str]:
    """Returns what is not as expected, a line each."""
    found = []
    for row in results["rows"]:
        where, precision = f"{row['cpu']}: {row['file']}", row["file"].split(", ")[1]
        found += [f"{where}: {row['why']}"] if row["why"] else []
        names = ["given"] if precision == "int8" else ["given", "embedding"]
        for name, bound in [("logmel", FLOAT_GATE.max_abs), *((name, gate(precision).max_abs) for name in names)]:
            if not row[name] <= bound:
                found.append(f"{where}: {name} is {row[name]:g} off this machine's; expected at most {bound:g}")
    return found


def table(results: Mapping[str, Any]) -> str:
    """Returns the results as Markdown: CPUs with the same figures share a row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for row in results["rows"]:
        names = ("logmel", "probs", "embedding", "given", "control", "pytorch")
        cells = (row["file"], *(f"{row[name]:.0e}".replace("e-0", "e-") for name in names), f"{row['top5']:.0%}")
        rows.setdefault(cells, []).append(row["cpu"])
    columns = (
        *("file", "log-mel", "probabilities", "embedding", "from x86-64's log-mel"),
        *("x86-64 from ARM's log-mel", "from PyTorch", "same five tags"),
    )
    shown = [dict(zip(columns, cells, strict=True)) | {"CPU": ", ".join(cpus)} for cells, cpus in rows.items()]
    shown = [{"CPU": row["CPU"], **{name: row[name] for name in columns}} for row in shown]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    weights = ", ".join(f"{name}: {kind}" for name, kind in results["weights"].items())
    cpus = ", ".join(f"`{name}`" for name in results["cpus"].values())
    about = (
        f"QEMU {results['qemu']}, `-cpu` {cpus}; compared with an {results['machine']}. {results['clips']}; weights: "
    )
    return f"{about}{weights}. {versions}, {results['date']}.\n\n{markdown(shown)}"


def render(root: Path = ROOT) -> None:
    """Writes the table of the record into the document of a repository."""
    results = json.loads((ROOT / RECORD).read_text(encoding="utf-8"))
    insert(root / DOCUMENT, table(results), marker="arm")


def main() -> int:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cpu", nargs="+", choices=CPUS, default=[*CPUS], help="CPUs (default: all)")
    parser.add_argument("--tests", action="store_true", help="run the runtime's tests, on the first CPU, and no more")
    parser.add_argument("--render", action="store_true", help="write docs/arm.md from the record, and no more")
    parser.add_argument("--out", type=Path, help="write the results to this file and the table to docs/arm.md")
    args = parser.parse_args()
    if args.render:
        render()
        return 0
    try:
        return _compare_or_test(args)
    except MissingError as error:
        print(f"arm: {error}", file=sys.stderr)
        return 2


def _compare_or_test(args: argparse.Namespace) -> int:
    if args.tests:
        options = ["-q", "-p", "no:cacheprovider", "-m", "not hypothesis"]
        options += [word for name in TOO_LONG for word in ("--deselect", f"tests/test_tagger.py::{name}")]
        return _run(args.cpu[0], ["-m", "pytest", *options, *TESTS]).returncode
    with tempfile.TemporaryDirectory() as folder:
        results = measure(args.cpu, recordings()[:3], FILES, Path(folder))
    print(table(results))
    wrong = problems(results)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    if args.out and not wrong:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(args.out) as file:
            file.write(f"{json.dumps(results, indent=1)}\n".encode())
        render()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
