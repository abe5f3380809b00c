"""`make evidence`: measures tags on real labelled sound, and writes the tables of docs/evidence.md.

    python tests/bench/evidence.py                    # ESC-10 and mn04's weights of ../shared
    python tests/bench/evidence.py --esc10 ESC-50 --weights mn04_as_mAP_432.pt
    python tests/bench/evidence.py --only zero_shot --clips 20    # a quick look; nothing is written
    python tests/bench/evidence.py --render           # writes the documents from the record alone

Bundles, scores and trainings are kept in build/evidence, apart for other clips, weights and versions: an interrupted
run continues there. `rm -r build/evidence` starts over, which a change of this project's code needs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from enrolment import enrolment
from esc10 import MODEL, Evidence, agreement, fine_tuned, zero_shot
from event_defaults import GROUPS
from event_windows import events
from tables import add_table, read_tables, texts, versions
from turns import ESC10, REAL_WEIGHTS, ROOT

from panns_litert.evaluate import Dataset, read_dataset
from panns_litert.measure import insert, markdown
from panns_litert_convert import ladder
from panns_litert_convert.checkpoints import weights_sha256

RECORD = Path("records/evidence/amd-epyc.json")
DOCUMENT = Path("docs/evidence.md")
WORK = ROOT / "build" / "evidence"

TABLES: dict[str, Callable[[Evidence], list[dict[str, Any]]]] = {
    "zero_shot": zero_shot,
    "agreement": agreement,
    "fine_tuned": fine_tuned,
    "events": events,
    "enrolment": enrolment,
}

_ESC50 = {
    "dog": "dog_bark", "sea_waves": "sea_waves", "rain": "rain", "sneezing": "sneeze", "helicopter": "helicopter",
    "crying_baby": "baby_cry", "clock_tick": "clock_tick", "rooster": "rooster", "chainsaw": "chainsaw",
    "crackling_fire": "fire_crackling",
}  # fmt: skip
"""ESC-50's names of the ten classes (meta/esc50.csv of https://github.com/karolpiczak/ESC-50)."""


def data_set(folder: Path, work: Path, clips: int | None = None) -> Dataset:
    """Reads ESC-10 from a folder with esc10.csv (file, labels, fold), or from ESC-50's own, with meta/esc50.csv.

    Args:
        folder: the folder.
        work: folder for a CSV of the clips that are used; `fine_tuned` trains on it.
        clips: use only this many, spread over the classes and folds.

    Raises:
        SystemExit: it is neither.
    """
    own, esc50 = folder / "esc10.csv", folder / "meta" / "esc50.csv"
    if own.is_file():
        rows = [(folder / row["file"], row["labels"], row["fold"]) for row in _rows(own)]
    elif esc50.is_file():
        rows = [
            (folder / "audio" / row["filename"], _ESC50[row["category"]], row["fold"])
            for row in _rows(esc50)
            if row["category"] in _ESC50
        ]
    else:
        raise SystemExit(f"evidence: {folder} has neither esc10.csv nor meta/esc50.csv; expected ESC-10 or ESC-50")
    rows = rows[:: max(1, len(rows) // clips)] if clips else rows
    work.mkdir(parents=True, exist_ok=True)
    with (work / "esc10.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "labels", "fold"))
        table.writerows((path.resolve(), label, fold) for path, label, fold in rows)
    return read_dataset(work / "esc10.csv", classes=tuple(GROUPS))


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def work_folder(data: Dataset, weights: Path) -> Path:
    """Returns the folder for what is kept: that of these clips, weights and versions of the software alone."""
    made_of = (weights_sha256(weights), [(clip.key, clip.labels, clip.fold) for clip in data.clips], versions())
    return WORK / hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def into_ladder(rows: Sequence[dict[str, Any]]) -> None:
    """Adds what `zero_shot` found to the ladder, whose verdicts for mn04 use it."""
    right = {row["what"]: row["right_percent"] for row in rows if row.get("window_s") == "10"}
    path = ROOT / "assets" / "ladder.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    row = next(row for row in data["rows"] if row["name"] == MODEL)
    row["esc10_percent"] = right["PyTorch"]
    for rung in row["rungs"]:
        if (name := f"{rung['precision']}, log-mel, CPU") in right:
            rung["esc10_percent"] = right[name]
    ladder.write(path, data["rows"])


def render(root: Path = ROOT) -> None:
    """Writes the tables of the record, and the ladder's, into the documents of a repository."""
    rows = json.loads((ROOT / "assets" / "ladder.json").read_text(encoding="utf-8"))["rows"]
    insert(root / "docs" / "ladder.md", markdown(ladder.table(rows)), marker="ladder")
    few = [row for row in rows if row["name"] in ladder.BRIEF]
    insert(root / "docs" / "choose.md", markdown(ladder.table(few)), marker="ladder")
    known = {table["name"]: table for table in read_tables(ROOT / RECORD)["tables"]}
    for name in TABLES:
        text = "Not measured yet.\n"
        if name in known:
            table = known[name]
            text = f"{table['about']}\n\n{markdown(texts(table['rows']))}"
        insert(root / DOCUMENT, text, marker=f"evidence {name}")


def main() -> None:
    """Runs the requested tables, by default all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(TABLES), action="append", help="only these tables")
    parser.add_argument("--esc10", type=Path, default=ESC10, help="folder of ESC-10 (esc10.csv) or ESC-50")
    parser.add_argument("--weights", type=Path, default=REAL_WEIGHTS, help="mn04_as_mAP_432.pt")
    parser.add_argument("--clips", type=int, help="use only so many clips; the tables are printed alone")
    parser.add_argument("--render", action="store_true", help="only write the documents, from the record")
    args = parser.parse_args()
    if args.render:
        render()
        return
    for path in (args.esc10, args.weights):
        if not path.exists():
            raise SystemExit(f"evidence: {path} is missing; expected --esc10 DIR and --weights FILE")
    whole = data_set(args.esc10, WORK)
    work = folder = work_folder(whole, args.weights)
    if args.clips is not None:
        work = folder / f"{args.clips}-clips"
    evidence = Evidence(
        data=data_set(args.esc10, work, args.clips),
        weights=args.weights,
        calibration=[clip.path for clip in whole.clips[::16]],
        work=work,
        bundles=folder / "bundles",
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    for name in args.only or TABLES:
        rows = TABLES[name](evidence)
        about = inspect.cleandoc(TABLES[name].__doc__ or "")
        print(f"\n{name}: {about}\n\n{markdown(texts(rows))}", flush=True)
        if args.clips is None:
            add_table(ROOT / RECORD, name, about, rows, rounds=1)
            if name == "zero_shot":
                into_ladder(rows)
    if args.clips is None:
        render()


if __name__ == "__main__":
    main()
