"""The commands for data in AudioSet's form: pack, train."""

from __future__ import annotations

import argparse
from pathlib import Path

from panns_litert.cli.convert import convert_package
from panns_litert.cli.output import AddCommand, print_json
from panns_litert.cli.train import print_skipped, watching


def add_commands(command: AddCommand) -> None:
    """Adds pack and train."""
    sub = command("pack", run_pack, "Pack AudioSet's clips into an HDF5 file in PANNs' layout, for `train`.")
    sub.add_argument("--metadata", type=Path, required=True, help="AudioSet's segments: YTID, start, end, mids")
    sub.add_argument("--clips", type=Path, required=True, help="folder of clips, Y<YTID>.wav or <YTID>.flac and so on")
    sub.add_argument("--out", type=Path, required=True, help="the HDF5 file")
    sub.add_argument("--classes", type=Path, help="CSV: index, mid, display_name (default: AudioSet's 527)")
    sub.add_argument("--sample-rate", type=int, default=32000, help="Hz (default 32000)")
    sub.add_argument("--seconds", type=float, default=10.0, help="of every clip (default 10)")


def run_pack(args: argparse.Namespace) -> int:
    """`pack`: metadata and clips to one file."""
    with convert_package():
        from panns_litert_convert.training.pack import pack
    with watching(args) as watch:
        packed = pack(
            args.metadata,
            args.clips,
            out=args.out,
            classes=args.classes,
            sample_rate=args.sample_rate,
            seconds=args.seconds,
            watch=watch,
        )
    unusable = len(packed.skipped) - packed.missing
    if args.json:
        skipped = [{"file": str(one.path), "reason": one.reason} for one in packed.skipped]
        counts = {"clips": packed.clips, "classes": packed.classes, "missing": packed.missing, "unusable": unusable}
        return print_json({"file": str(packed.path)} | counts | {"skipped": skipped})
    print_skipped(packed.skipped)
    print(
        f"{packed.path}: {packed.clips} clips, {packed.classes} classes; {packed.missing} missing, {unusable} unusable"
    )
    return 0
