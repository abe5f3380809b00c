"""Writes the derived files of assets/: `python -m panns_litert_convert.assets --out assets`.

They are mel_basis.bin (Cnn14's), audioset_labels.txt (from class_labels_indices.csv), models.json (from the registry),
and demo_bundle/ (from the demo checkpoint). The modules of panns_litert_convert.demo write the demo checkpoint and the
clips.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from pathlib import Path

from panns_litert.bundle import MEL_BASIS
from panns_litert.errors import BundleError
from panns_litert.frontend import PANNS_32K, mel_basis
from panns_litert.models import PROPERTIES
from panns_litert_convert.convert import convert
from panns_litert_convert.zoo import asset, properties

# AudioSet's class list, unchanged from Google's publication (CC-BY-4.0).
CLASS_LIST = "class_labels_indices.csv"
CLASS_LIST_SHA256 = "cdd1049833c4b86127c2773ac0d14a2754b6a6d0d1798002ed5c66e699708429"


def audioset_labels() -> list[str]:
    """Returns AudioSet's 527 display names, in the order of every AudioSet model's outputs.

    Raises:
        BundleError: the class list is not the published file.
    """
    data = asset(CLASS_LIST).read_bytes()
    if hashlib.sha256(data).hexdigest() != CLASS_LIST_SHA256:
        raise BundleError(f"{CLASS_LIST} was altered: its sha256 is not {CLASS_LIST_SHA256}; restore it")
    rows = list(csv.DictReader(data.decode("utf-8").splitlines()))
    return [row["display_name"] for row in sorted(rows, key=lambda row: int(row["index"]))]


def write_assets(folder: Path) -> None:
    """Writes all derived assets into a folder."""
    mel_basis(PANNS_32K).astype("<f4").tofile(folder / MEL_BASIS)  # [64, 513]
    (folder / "audioset_labels.txt").write_text("\n".join(audioset_labels()) + "\n", encoding="utf-8")
    write_models(folder)
    convert("demo", out=folder / "demo_bundle", report=print)


def write_models(folder: Path) -> None:
    """Writes the registry's table, which `panns-litert models` shows, into a folder."""
    text = json.dumps({"rows": properties()}, indent=1, ensure_ascii=False)
    (folder / PROPERTIES).write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the assets")
    parser.add_argument("--models", action="store_true", help="write only models.json")
    args = parser.parse_args()
    (write_models if args.models else write_assets)(args.out)


if __name__ == "__main__":
    main()
