"""Measures how many clips of ESC-10 a bundle for AudioSet names, without training: the figures of esc10.json.

Each of ESC-10's ten classes is a group of AudioSet's classes (`GROUPS` of event_defaults.py). A clip of 5 s is named
right if its group has the highest score, on average over windows if the model's are shorter. Without bundles, mn04 is
converted from its published weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from event_defaults import GROUPS

from panns_litert.atomic import replacing
from panns_litert.bundle import Bundle
from panns_litert.measure import markdown
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import tag_long
from panns_litert_convert.convert import convert

PRECISIONS = ("fp16", "int8")


def measure(bundle: Bundle, audio: Path) -> dict[str, Any]:
    """Returns a bundle's row: how many clips it names right, of how many."""
    tagger = Tagger(bundle)
    groups, names = Sense(tagger.labels, groups=GROUPS), list(GROUPS)
    clips = list(csv.DictReader((audio / "esc10.csv").read_text(encoding="utf-8").splitlines()))
    manifest = bundle.manifest
    right = 0
    for clip in clips:
        heard = tag_long(tagger, audio / clip["file"], hop=manifest.clip_seconds / 2)
        right += names[int(groups(heard.probs).argmax())] == clip["labels"]
    return {
        "model": manifest.model,
        "precision": manifest.precision,
        "clip_seconds": manifest.clip_seconds,
        "folds": sorted({clip["fold"] for clip in clips}),
        "clips": len(clips),
        "right": right,
    }


def bundles(paths: Sequence[Path], weights: Path, folder: Path) -> list[Bundle]:
    """Opens bundles; converts mn04 at every precision of PRECISIONS if there are none."""
    if paths:
        return [Bundle(path) for path in paths]
    return [convert("mn04", checkpoint=weights, precision=name, out=folder / name) for name in PRECISIONS]


def main() -> None:
    """Prints the table, and writes its rows to a file if one is given."""
    shared = Path(__file__).resolve().parents[3] / "shared"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE", help="folder of a bundle for AudioSet")
    parser.add_argument("--audio", type=Path, default=shared / "audio/esc10", help="folder with esc10.csv")
    parser.add_argument("--weights", type=Path, default=shared / "weights/mn04_as_mAP_432.pt", help="of mn04")
    parser.add_argument("--out", type=Path, help="JSON file for the rows; tests/bench/figures.py reads esc10.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(bundle, args.audio) for bundle in bundles(args.bundles, args.weights, Path(folder))]
    print(markdown([{name: str(value) for name, value in row.items()} for row in rows]))
    if args.out is not None:
        with replacing(args.out) as file:
            file.write(f"{json.dumps(rows, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
