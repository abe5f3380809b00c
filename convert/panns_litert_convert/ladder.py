"""Measures the ladder: `python -m panns_litert_convert.ladder --out assets/ladder.json`, or `make ladder`.

The ladder has every model at every precision (rung), from float32 down to four bits. A row has the file's size, its
agreement with PyTorch on the parity clips, and the layers with a finer type. A rung that fails its gates is a row with
its figures and the layers with the largest error. `panns-litert bench` measures times. Weights are those of the zoo
sweep (the golden recipe's, or the shipped ones), or published ones given by `--checkpoint`. An interrupted run
continues where it stopped; `--fresh` starts over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panns_litert.audio import from_array
from panns_litert.bundle import PRECISIONS, QUANTIZED, Check, PrecisionName
from panns_litert.engine import CpuEngine
from panns_litert.errors import ConversionError, ParityError
from panns_litert.evaluate import figures
from panns_litert.measure import insert, markdown
from panns_litert.models import number
from panns_litert_convert.checkpoints import fetch, is_official, load_weights, model_of
from panns_litert_convert.convert import work_folder
from panns_litert_convert.demo import sounds
from panns_litert_convert.demo.audioset import HELD_OUT_SEED
from panns_litert_convert.export import export_fp32
from panns_litert_convert.networks import AudioTagger
from panns_litert_convert.quantize import write_precision
from panns_litert_convert.stages import Reference
from panns_litert_convert.sweep import in_order, read, recipe_checkpoint, row_of_process, worst, write
from panns_litert_convert.zoo import MODELS, Model, find

SECONDS = 10.0
TIMEOUT_SECONDS = 3 * 3600  # AST in int8-full has 572 operators to try, about 7 s each
CALIBRATION_CLIPS, CALIBRATION_SEED = 8, 7
"""Number and seed of the synthetic mixtures for the calibration of "int8-full". Other clips are used to measure it."""

BRIEF = ("cnn14", "mn04")
"""Models in the short table of docs/choose.md."""

MOST_LOST_POINTS = 1.0
"""A rung fails if it loses more than this against PyTorch, in percent of ESC-10's clips named right. `make evidence`
measures mn04, and adds `esc10_percent` to its row and its rungs."""

LABELLED_CLIPS, LABELLED_SEED = 200, HELD_OUT_SEED + 1
"""Number and seed of the labelled mixtures for the demo model's mean average precision."""


def measure(
    model: Model,
    folder: Path,
    *,
    precisions: Sequence[PrecisionName] = PRECISIONS,
    checkpoint: Path | None = None,
    mixed: bool = True,
) -> dict[str, Any]:
    """Measures a model at several precisions and returns its row.

    Args:
        model: the registry record.
        folder: folder for intermediate files.
        precisions: the rungs to measure.
        checkpoint: published weights; by default those of the zoo sweep.
        mixed: whether layers may keep a finer type. If not, a rung fails when its uniform file fails.
    """
    start = time.perf_counter()
    path = checkpoint or recipe_checkpoint(model, folder)
    model = model_of(model, path)
    network = model.build()
    published = path is None or is_official(path, model.checkpoint)
    load_weights(network, path or fetch(model), model)
    network.eval()
    reference = Reference(network, model.front_end, graph=network.graph, seconds=SECONDS)
    source, log = folder / "source.tflite", folder / "log"
    samples = model.front_end.samples(SECONDS)
    inputs = {str(network.graph): torch.from_numpy(reference.inputs[0])}
    labelled = _labelled(reference, model) if model.checkpoint.ships else None
    export_fp32(network.for_export(samples=samples), inputs, source, log=log)
    rows = []
    for precision in precisions:
        begun = time.perf_counter()
        row = _rung(precision, source, reference, model=model, folder=folder, mixed=mixed, labelled=labelled)
        rows.append({"precision": precision, "mixed": mixed, **row, "seconds": round(time.perf_counter() - begun, 1)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {
        "name": model.name,
        "weights": "published" if published else "recipe",
        "map": _torch_map(network, labelled),
        "error": None,
        "rungs": rows,
        "seconds": round(time.perf_counter() - start, 1),
    }


def _rung(
    precision: PrecisionName,
    source: Path,
    reference: Reference,
    *,
    model: Model,
    folder: Path,
    mixed: bool,
    labelled: _Labelled | None,
) -> dict[str, Any]:
    path, log = folder / f"{precision}.tflite", folder / "log"
    try:
        kept = write_precision(
            source,
            path,
            precision=precision,
            reference=reference,
            calibration=_calibration(reference, model) if precision == "int8-full" else (),
            kept=None if mixed else {},
            log=log,
            report=lambda step: print(f"{model.name} {step}", file=sys.stderr, flush=True),
        )
    except ConversionError as error:
        return {"passed": False, "why": str(error).split("; see ")[0]}
    except ParityError as error:
        checks = error.report if isinstance(error.report, list) else []
        return {"passed": False, "why": str(error), "hurt": list(error.layers), **_figures(checks)}
    checks = reference.check(precision, path)
    failed = [f"{check.output}: {check.why}" for check in checks if not check.passed]
    row = {
        "passed": not failed,
        "why": "; ".join(failed),
        "bytes": path.stat().st_size,
        "kept": [f"{layer.name} ({layer.op}, {layer.precision})" for layer in kept],
        **_figures(checks),
    }
    if labelled:
        engine = CpuEngine(path)
        row["map"] = _map(np.concatenate([engine.run(values)["probs"] for values in labelled.inputs]), labelled)
    path.unlink()
    return row


def _figures(checks: Sequence[Check]) -> dict[str, Any]:
    """Returns the largest errors, the least correlation of probabilities, and the agreement of tags."""
    by_output = {check.output: check for check in checks}
    found: dict[str, Any] = {"checks": worst(checks)}
    if "probs" in by_output:
        found |= {"corr": by_output["probs"].corr, "top5": by_output["probs"].top5_agree}
    if "tags" in by_output:
        found |= {"tags_differ": by_output["tags"].max_abs, "rank_corr": by_output["tags"].corr}
    return found


@dataclass(frozen=True)
class _Labelled:
    """Inputs of the graph, and their labels (clips, classes)."""

    inputs: list[NDArray[np.float32]]
    truth: NDArray[np.float32]


def _labelled(reference: Reference, model: Model) -> _Labelled:
    clips, truth = sounds.dataset(LABELLED_CLIPS, seconds=SECONDS, seed=LABELLED_SEED)
    return _Labelled(_resampled(reference, model, clips), truth)


def _map(probs: NDArray[np.float32], labelled: _Labelled) -> float | None:
    return figures(probs, labelled.truth, [str(k) for k in range(probs.shape[1])]).mean_ap


def _torch_map(network: AudioTagger, labelled: _Labelled | None) -> float | None:
    if labelled is None:
        return None
    with torch.inference_mode():
        probs = [network(torch.from_numpy(values))["probs"].numpy() for values in labelled.inputs]
    return _map(np.concatenate(probs), labelled)


def _resampled(reference: Reference, model: Model, clips: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    rate = model.front_end.sample_rate
    return reference.prepared([from_array(clip, sounds.RATE, sample_rate=rate).waveform for clip in clips])


def _calibration(reference: Reference, model: Model) -> list[NDArray[np.float32]]:
    clips, _ = sounds.dataset(CALIBRATION_CLIPS, seconds=SECONDS, seed=CALIBRATION_SEED)
    return _resampled(reference, model, clips)


def sweep(
    names: Sequence[str],
    out: Path,
    *,
    fresh: bool = False,
    mixed: bool = True,
    checkpoints: Mapping[str, Path] | None = None,
) -> list[dict[str, Any]]:
    """Measures models, each in its own process, and writes all rows after each model.

    Args:
        names: the models. Rungs in `out` are not measured again.
        out: JSON file of all rows.
        fresh: whether to delete the models' rows first.
        mixed: as for `measure`. A rung that failed with False is measured again with True.
        checkpoints: published weights by model. A row with other weights is measured again.

    Returns:
        All rows of the file, in the registry's order.
    """
    known = read(out)
    for name in names:
        checkpoint = (checkpoints or {}).get(name)
        before = {} if fresh else known.get(name, {})
        if checkpoint is not None and before.get("weights") != "published":
            before = {}
        done = {rung["precision"]: rung for rung in before.get("rungs", []) if rung["passed"] or rung["mixed"] >= mixed}
        todo = [precision for precision in PRECISIONS if precision not in done]
        if not todo:
            print(f"{name}: measured before")
            continue
        row = in_process(name, precisions=todo, checkpoint=checkpoint, mixed=mixed)
        found = done | {rung["precision"]: rung for rung in row.get("rungs", [])}
        row["rungs"] = [found[precision] for precision in PRECISIONS if precision in found]
        known[name] = {**before, **row} if row["error"] is None else {**row, **before, "error": row["error"]}
        write(out, in_order(known))
        passed = [rung["precision"] for rung in known[name]["rungs"] if rung["passed"]]
        print(f"{name}: {row['error'] or ', '.join(passed)}, {row.get('seconds')} s", flush=True)
    return in_order(known)


def in_process(
    name: str, *, precisions: Sequence[PrecisionName], checkpoint: Path | None = None, mixed: bool = True
) -> dict[str, Any]:
    """Runs `measure` in its own process, so that a crash or a lack of memory affects one row only."""
    words = [word for precision in precisions for word in ("--precision", precision)]
    words += ["--checkpoint", f"{name}={checkpoint}"] if checkpoint else []
    words += [] if mixed else ["--uniform"]
    with work_folder() as folder:
        return row_of_process(
            "panns_litert_convert.ladder", name, words, folder=folder, timeout=TIMEOUT_SECONDS, shown=True
        )


_COLUMNS = (
    *("model", "weights", "precision", "MB", "error", "corr"),
    *("tags differ", "rank corr", "mAP", "ESC-10", "layers kept finer", "gates"),
)


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns a row of texts for every model and precision, for documents."""
    found: list[dict[str, str]] = []
    for row in rows:
        if row.get("error") and not row.get("rungs"):
            found.append(dict.fromkeys(_COLUMNS, "–") | {"model": row["name"], "gates": f"FAILED: {row['error']}"})
        for rung in row.get("rungs", []):
            checks = rung.get("checks", {})
            hurt = rung.get("hurt", ())
            why = f"{hurt[0]} hurts most" if hurt else rung["why"].partition("; ")[0]
            verdict = "passed" if rung["passed"] else f"FAILED: {why}"
            right, best = rung.get("esc10_percent"), row.get("esc10_percent")
            if rung["passed"] and right is not None and best is not None and best - right > MOST_LOST_POINTS:
                verdict = f"FAILED: {best - right:.1f} points fewer of ESC-10's clips are right"
            if not rung["passed"] and not rung["mixed"]:
                verdict += " (no layer kept finer yet)"
            kept = rung.get("kept", [])
            texts = (
                row["name"],
                "own" if find(row["name"]).checkpoint.ships else row["weights"],
                rung["precision"],
                number(rung["bytes"] / 1e6 if "bytes" in rung else None, ".2f"),
                number(checks.get(f"{rung['precision']}/probs"), ".1e"),
                number(rung.get("corr"), ".5f"),
                number(rung.get("tags_differ"), ".1%"),
                number(rung.get("rank_corr"), ".4f"),
                number(rung.get("map"), ".3f"),
                number(right, ".1f"),
                str(len(kept)) if rung["precision"] in QUANTIZED and rung["passed"] else "–",
                verdict,
            )
            found.append(dict(zip(_COLUMNS, texts, strict=True)))
    return found


def main() -> None:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--document", type=Path, action="append", default=[], help="Markdown to put the table into")
    parser.add_argument("--brief", type=Path, help=f"Markdown to put the rows of {' and '.join(BRIEF)} into")
    parser.add_argument("--only", action="append", help="measure only these models")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="published weights")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--uniform", action="store_true", help="keep no layer finer: faster, but more rungs fail")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    checkpoints = {name: Path(file) for name, _, file in (given.partition("=") for given in args.checkpoint)}
    if args.one:
        row = measure(
            find(args.one),
            args.folder,
            precisions=args.precision or PRECISIONS,
            checkpoint=checkpoints.get(args.one),
            mixed=not args.uniform,
        )
        (args.folder / "row.json").write_text(json.dumps(row), encoding="utf-8")
        return
    if args.out is None:
        parser.error("--out is required")
    names = args.only or [model.name for model in MODELS]
    rows = sweep(names, args.out, fresh=args.fresh, mixed=not args.uniform, checkpoints=checkpoints)
    if lines := table(rows):
        for document in args.document:
            insert(document, markdown(lines), marker="ladder")
        if args.brief and (few := table([row for row in rows if row["name"] in BRIEF])):
            insert(args.brief, markdown(few), marker="ladder")
        print(markdown(lines))


if __name__ == "__main__":
    main()
