"""Measures what NPUs take of the zoo: `python -m panns_litert_convert.npu_sweep --out assets/npu.json`, `make npu-zoo`.

LiteRT's compiler plugin compiles the file of every bundle in a folder ahead of time, for one SoC of every generation.
The vendor's emulator is slow: it runs small models on every generation, larger ones on one, and most others on none. A
file of which an NPU takes a part has a row with the reasons. Weights are those of the bundles (`make bundles`: the
golden recipe's, mn04's published ones, and the demo's own).

The vendor's parts are those that the user installed, see docs/npu.md. An interrupted run continues where it stopped;
`--fresh` starts over.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from panns_litert.atomic import replacing
from panns_litert.bundle import MANIFEST, PRECISIONS, Bundle, Manifest
from panns_litert.errors import BundleError, ResultsError
from panns_litert.measure import insert, markdown
from panns_litert.models import NPU_GENERATIONS, generations, is_whole, number
from panns_litert.proof import compile_npu, demo_inputs, npu_check
from panns_litert.strict import MOST_BYTES, read_text
from panns_litert.words import counted
from panns_litert_convert.sweep import worst
from panns_litert_convert.zoo import MODELS, find, size_of

TIMEOUT_SECONDS = 1800.0
"""For one compilation and its run."""

SOCS = dict(zip(("SM8350", "SM8450", "SM8550", "SM8650", "SM8750", "SM8850"), NPU_GENERATIONS, strict=True))
"""One SoC of every generation of Qualcomm's NPU, and the generation, the oldest first."""

RUN_ON = "SM8650"
"""The SoC whose emulator runs the models that are too large for all."""

RUN_ALL_GMAC, RUN_ONE_GMAC = 1.0, 3.0
"""Models up to this many GMAC per 10 s are run on every generation, and on one."""

ALSO_RUN = ("cnn14",)
"""Larger models that are run on one generation all the same."""


def measure(bundle: Bundle, soc: str, *, run: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Compiles a bundle's file for a SoC, and runs it on the emulator if `run` is set.

    Returns:
        What was found, and the versions of what found it. `passed` is the emulator's verdict for one demo recording
        against the CPU; None if it did not run.
    """
    found: dict[str, Any] = {"soc": soc, "generation": SOCS[soc]}
    if run:
        report = npu_check(bundle, soc=soc, inputs=demo_inputs(bundle)[:1], timeout=TIMEOUT_SECONDS)
        build, whole, why = report.build, report.resident, report.why
        found |= {"checks": worst(report.checks) or None, "passed": report.passed if report.checks else None}
    else:
        with tempfile.TemporaryDirectory() as folder:
            build = compile_npu(bundle, soc, Path(folder) / "compiled.tflite", timeout=TIMEOUT_SECONDS)
        whole, why = build.resident, build.why
        found |= {"checks": None, "passed": None}
    found |= {"operators": build.operators, "taken": build.taken, "partitions": build.partitions}
    return found | {"whole": whole, "refused": list(map(str, build.refused)), "why": why}, build.versions


def is_run(name: str, soc: str) -> bool:
    """Whether the emulator of a SoC runs a model."""
    gmac = size_of(find(name)).gmac
    return gmac <= RUN_ALL_GMAC or (soc == RUN_ON and (gmac <= RUN_ONE_GMAC or name in ALSO_RUN))


def sweep(folders: Sequence[Path], out: Path, *, fresh: bool = False, run: bool = True) -> list[dict[str, Any]]:
    """Measures bundles on every generation, and writes all rows after each measurement. Small models come first.

    Args:
        folders: those of the bundles.
        out: JSON file of all rows. What it has of the same file is not measured again.
        fresh: whether to delete the rows of their models first.
        run: whether the emulator runs what `is_run` names. If not, a later run adds it.

    Returns:
        All rows, in the registry's order.

    Raises:
        BundleError: one is no bundle.
        NpuVendorError: a part of the vendor is missing on this machine.
        ResultsError: what `out` has was measured with other versions.
    """
    data: dict[str, Any] = {"versions": {}, "rows": []}
    if out.is_file():
        data = json.loads(out.read_text(encoding="utf-8"))
    manifests = {folder: manifest_in(folder) for folder in folders}
    models = {manifest.model for manifest in manifests.values()}
    known = {_key(row): row for row in data["rows"] if not (fresh and row["name"] in models)}
    versions: dict[str, str] = data["versions"] if known else {}
    tasks = [(soc, folder, manifest) for folder, manifest in manifests.items() for soc in SOCS]
    for soc, folder, manifest in sorted(tasks, key=lambda task: _turn(task[0], task[2])):
        row = _row(manifest)
        before = known.get(_key(row), {"targets": [], "sha256": ""})
        targets = {target["soc"]: target for target in before["targets"] if before["sha256"] == row["sha256"]}
        runs = run and is_run(manifest.model, soc)
        if soc in targets and not (runs and targets[soc]["whole"] and targets[soc]["checks"] is None):
            continue
        targets[soc], found = measure(Bundle(folder), soc, run=runs)
        if differ := [f"{name} {version}" for name, version in found.items() if versions.get(name, version) != version]:
            raise ResultsError(f"{out} was not measured with {', '.join(differ)}; measure all again with --fresh")
        versions |= found
        known[_key(row)] = row | {"targets": [targets[each] for each in SOCS if each in targets]}
        data = {"date": date.today().isoformat(), "versions": versions, "rows": _in_order(known)}
        with replacing(out) as file:
            file.write(f"{json.dumps(data, indent=1, ensure_ascii=False)}\n".encode())
        print(f"{' '.join(_key(row))} {soc}: {targets[soc]['why'] or 'whole'}", flush=True)
    return _in_order(known)


def manifest_in(folder: Path) -> Manifest:
    """Returns the manifest of a bundle without opening its model."""
    return Manifest.from_json(read_text(folder / MANIFEST, error=BundleError, what="a manifest", most_bytes=MOST_BYTES))


def _row(manifest: Manifest) -> dict[str, Any]:
    ships = find(manifest.model).checkpoint.ships
    return {
        "name": manifest.model,
        "precision": manifest.precision,
        "graph": manifest.graph,
        "weights": "own" if ships else "recipe" if manifest.source.own else "published",
        "sha256": manifest.model_sha256,
    }


def _turn(soc: str, manifest: Manifest) -> tuple[Any, ...]:
    """Returns what to sort measurements by: float16 files, one generation and small models come first.

    A log-mel in the graph comes last, because it takes longest to compile.
    """
    model = find(manifest.model)
    others = [each for each in reversed(SOCS) if each != RUN_ON]
    rank = [RUN_ON, *others].index(soc)
    return manifest.graph != model.graphs[0], manifest.precision != "fp16", rank, size_of(model).gmac


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["name"], row["precision"], row["graph"]


def _in_order(known: Mapping[tuple[str, str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    names = [model.name for model in MODELS]

    def place(key: tuple[str, str, str]) -> tuple[int, int, int]:
        name, precision, graph = key
        return names.index(name), find(name).graphs.index(graph), PRECISIONS.index(precision)

    return [known[key] for key in sorted(known, key=place)]


_COLUMNS = ("model", "precision", "graph", "operators", "whole on", "run, error", "not whole on")


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns a row of texts for every file, for documents. Neighbouring generations of the same result are one."""
    found = []
    for row in rows:
        targets = row["targets"]
        operators = {target["operators"] for target in targets}
        texts = (
            row["name"],
            row["precision"],
            row["graph"],
            str(max(operators)) if max(operators) else "–",
            generations([target["generation"] for target in targets if is_whole(target)]) or "none",
            _by_generation(targets, _error),
            not_whole(targets),
        )
        found.append(dict(zip(_COLUMNS, texts, strict=True)))
    return found


def _by_generation(targets: Sequence[Mapping[str, Any]], text: Callable[[Mapping[str, Any]], str]) -> str:
    """Returns each text with the generations that have it, such as "v69: 3e-03; v73 – v81: 9e-03". A dash has none."""
    texts = [text(target) for target in targets]
    found = [
        f"{generations([t['generation'] for t, other in zip(targets, texts, strict=True) if other == each])}: {each}"
        for each in dict.fromkeys(texts)
        if each != "–"
    ]
    return "; ".join(found) or "–"


def _error(target: Mapping[str, Any]) -> str:
    """Returns the largest error of a probability, also of a recording with a bound of its own; a dash if none ran."""
    checks = target["checks"] or {}
    return number(max((checks[name] for name in checks if name.startswith("npu/probs")), default=None), ".0e")


def not_whole(targets: Sequence[Mapping[str, Any]]) -> str:
    """Returns why a file is not whole, with the generations; also which generations were not measured."""
    missing = generations(set(NPU_GENERATIONS) - {target["generation"] for target in targets})
    whys = _by_generation(targets, lambda target: "–" if is_whole(target) else _why(target))
    return "; ".join([*([whys] if whys != "–" else []), *([f"not measured: {missing}"] if missing else [])]) or "–"


def _why(target: Mapping[str, Any]) -> str:
    if target["taken"] < target["operators"]:
        return f"{target['taken']} of {target['operators']} in {counted(target['partitions'], 'part')}"
    return str(target["why"])


def main() -> None:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundles", type=Path, required=True, help="folder of bundles")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--document", type=Path, action="append", default=[], help="Markdown to put the table into")
    parser.add_argument("--only", action="append", help="measure only these models")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--compile-only", action="store_true", help="run no emulator; a later run adds it")
    args = parser.parse_args()
    folders = [path.parent for path in sorted(args.bundles.glob(f"*/{MANIFEST}"))]
    chosen = [folder for folder in folders if not args.only or manifest_in(folder).model in args.only]
    lines = table(sweep(chosen, args.out, fresh=args.fresh, run=not args.compile_only))
    for document in args.document:
        insert(document, markdown(lines), marker="npu")
    print(markdown(lines))


if __name__ == "__main__":
    main()
