"""Makes what the page serves beside its own files, in web_demo/public: bundles and example recordings.

    .venv/bin/python web_demo/make_public.py

The weights are float32, because WebAssembly converts float16 weights again in every run (mn04: 72 ms instead of 14 ms
per 10 s). mn04 needs its published weights, 4 MB, which are downloaded; without a network, MN04_CHECKPOINT names a copy
of them. A bundle that is there and intact is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile

from panns_litert.audio import load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_clips
from panns_litert.errors import BundleError, PannsLitertError
from panns_litert_convert.convert import convert

PUBLIC = Path(__file__).resolve().parent / "public"
TITLES = {"mn04": "mn04: 527 sounds of AudioSet", "demo": "demo: 22 synthetic sounds"}
EXAMPLES = {"siren_44k1_stereo.flac": "a siren", "two_sounds_22k05.flac": "two sounds"}
ALL = "six_sounds.flac"


def make_bundles(folder: Path, models: list[str], checkpoint: str | None) -> None:
    """Makes the bundles of the models, and index.json, which lists those that could be made.

    Raises:
        PannsLitertError: the demo bundle, which needs no download, could not be made.
    """
    made = []
    for model in models:
        try:
            Bundle(folder / model)
        except BundleError:
            print(f"make_public: converting {model} …", flush=True)
            try:
                convert(model, precision="fp32", checkpoint=checkpoint if model == "mn04" else None, out=folder / model)
            except PannsLitertError as error:
                if model == "demo":
                    raise
                print(f"make_public: without {model}: {error}; or give its weights: MN04_CHECKPOINT=FILE", flush=True)
                continue
        made.append({"folder": model, "title": TITLES[model]})
    write_json(folder / "index.json", made)


def make_examples(folder: Path) -> None:
    """Copies two demo clips, joins all of them to a third recording, and lists them in index.json."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = demo_clips()
    soundfile.write(folder / ALL, np.concatenate([load_audio(c, sample_rate=32000).waveform for c in clips]), 32000)
    for clip in clips:
        if clip.name in EXAMPLES:
            shutil.copyfile(clip, folder / clip.name)
    titles = {ALL: "six sounds in a row"} | EXAMPLES
    write_json(folder / "index.json", [{"file": name, "title": title} for name, title in titles.items()])


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes the bundles and examples that the page serves.")
    parser.add_argument("--out", type=Path, default=PUBLIC, help="default: web_demo/public")
    parser.add_argument("--models", nargs="*", choices=TITLES, default=list(TITLES), help="the first is opened first")
    args = parser.parse_args(argv)
    try:
        make_bundles(args.out / "bundles", args.models, os.environ.get("MN04_CHECKPOINT") or None)
        make_examples(args.out / "examples")
    except PannsLitertError as error:
        print(f"make_public: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
