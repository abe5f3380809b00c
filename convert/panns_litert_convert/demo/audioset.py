"""Writes a small data set in AudioSet's format: `python -m panns_litert_convert.demo.audioset --out DIR`.

It consists of mixtures of the demo model's sounds as clips Y<YTID>.flac, half of them with multiplicative noise, two
tables of segments, one for training and one for evaluation, and the list of classes.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from panns_litert.atomic import replacing
from panns_litert_convert.assets import CLASS_LIST
from panns_litert_convert.demo.sounds import LABELS, MIN_SECONDS, RATE, mixture
from panns_litert_convert.training.pack import read_classes

TRAIN_CSV, EVAL_CSV, CLIPS = "balanced_train_segments.csv", "eval_segments.csv", "clips"
"""Names in the data set's folder."""

HELD_OUT_SEED = 1_000_000
"""Seeds from this one on are never used for training."""

ROUGH_DB = (-75.0, -55.0)
"""Level of the noise in half of the clips, relative to every sample, dB. Rounding to float16, in which a GPU stores
samples, adds such noise (docs/waveform-graph.md). A network trained on pure sounds alone reacts to this noise in bands
where the pure sounds have no energy."""


def write(
    out: Path,
    *,
    train: int,
    evaluate: int,
    seconds: tuple[float, float],
    rough_db: tuple[float, float] = ROUGH_DB,
    seed: int = 0,
    lost: int = 0,
) -> None:
    """Writes the data set. Clip i depends only on `seed`, `seconds`, `rough_db` and i, not on its table.

    Args:
        out: the folder.
        train, evaluate: number of clips in each table, ≥ 1.
        seconds: shortest and longest clip, ≥ MIN_SECONDS.
        rough_db: least and greatest noise of the clips with noise, relative to every sample, dB, < 0.
        seed: 0 … HELD_OUT_SEED − 1.
        lost: number of training clips without a file, as in AudioSet, whose videos disappear.

    Raises:
        ValueError: an argument is out of range.
    """
    if train < 1 or evaluate < 1 or not MIN_SECONDS <= seconds[0] <= seconds[1] or not 0 <= lost < train:
        raise ValueError(f"{train} + {evaluate} clips of {seconds} s, {lost} lost; expected at least one of each")
    if not rough_db[0] <= rough_db[1] < 0.0:
        raise ValueError(f"roughness {rough_db} dB; expected least and greatest, below 0")
    if not 0 <= seed < HELD_OUT_SEED:
        raise ValueError(f"seed {seed}; expected 0 … {HELD_OUT_SEED - 1}")
    mids = {name: mid for mid, name in read_classes().items()}
    (out / CLIPS).mkdir(parents=True, exist_ok=True)
    classes = io.StringIO()
    rows = [(index, mids[label], label) for index, label in enumerate(LABELS)]
    csv.writer(classes, lineterminator="\n").writerows([("index", "mid", "display_name"), *rows])
    with replacing(out / CLASS_LIST) as file:
        file.write(classes.getvalue().encode())
    for name, start, count in ((TRAIN_CSV, 0, train), (EVAL_CSV, train, evaluate)):
        lines = ["# Segments csv of synthetic sounds", f"# num_segs={count}"]
        lines += ["# YTID, start_seconds, end_seconds, positive_labels"]
        for i in range(start, start + count):
            rng = np.random.default_rng([seed, i])
            waveform, truth = mixture(rng, seconds=rng.uniform(*seconds))
            if rng.random() < 0.5:
                noise = 10 ** (rng.uniform(*rough_db) / 20) * rng.standard_normal(len(waveform))
                waveform = np.clip(waveform * (1.0 + noise), -1.0, 1.0).astype(np.float32)
            ytid = f"{seed:03d}-{i:07d}"
            if i >= lost:
                with replacing(out / CLIPS / f"Y{ytid}.flac") as file:
                    soundfile.write(file, waveform, RATE, format="FLAC", subtype="PCM_16")
            tagged = ",".join(mids[label] for label, on in zip(LABELS, truth, strict=True) if on)
            lines.append(f'{ytid}, 0.000, {len(waveform) / RATE:.3f}, "{tagged}"')
        with replacing(out / name) as file:
            file.write(("\n".join(lines) + "\n").encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the data set and prints its folder. Returns 0."""
    parser = argparse.ArgumentParser(description="Write a small data set of synthetic sounds in AudioSet's format.")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--train", type=int, default=64, help="training clips (default %(default)s)")
    parser.add_argument("--evaluate", type=int, default=32, help="clips to evaluate on (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(1.0, 2.0), help="shortest, longest clip (default %(default)s)"
    )
    parser.add_argument(
        "--rough", type=float, nargs=2, default=ROUGH_DB, help="noise: least, greatest dB (default %(default)s)"
    )
    parser.add_argument("--lost", type=int, default=0, help="training clips without a file (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other clips (default %(default)s)")
    args = parser.parse_args(argv)
    (shortest, longest), (least, greatest) = args.seconds, args.rough
    counts = {"train": args.train, "evaluate": args.evaluate, "lost": args.lost}
    write(args.out, seconds=(shortest, longest), rough_db=(least, greatest), seed=args.seed, **counts)
    print(f"{args.out}: {args.train} training clips ({args.lost} lost), {args.evaluate} to evaluate on")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
