"""Writes a small labelled data set for fine-tuning: `python -m panns_litert_convert.demo.household --out sounds`.

It has a folder for each of four synthesised sounds that the demo model does not know: a doorbell, a kettle's whistle, a
dripping tap, and a background of hum and rustle. Every clip depends only on the seed and its number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from panns_litert.atomic import replacing

RATE = 16000
"""Sample rate of the files, Hz."""

SECONDS = 3.0

Signal = NDArray[np.float64]


def doorbell(t: Signal, rng: np.random.Generator) -> Signal:
    """Two struck bars, the second a major third lower, once or twice."""
    out = np.zeros_like(t)
    pitch, gap = rng.uniform(550.0, 750.0), rng.uniform(0.4, 0.7)
    for ring in range(int(rng.integers(1, 3))):
        for k, ratio in enumerate((1.0, 0.8)):
            since = t - rng.uniform(0.0, 0.2) - 1.4 * ring - gap * k
            for partial, level in ((1.0, 1.0), (2.76, 0.4), (5.4, 0.15)):  # of a free bar
                struck = level * np.exp(-np.maximum(since, 0.0) * 3.0 * partial)
                out += np.where(since > 0, struck, 0.0) * np.sin(2 * np.pi * pitch * ratio * partial * since)
    return out


def kettle(t: Signal, rng: np.random.Generator) -> Signal:
    """A whistle that rises by half an octave while it gets louder, over the noise of steam."""
    grown = np.clip(t / t[-1] * rng.uniform(1.0, 2.0), 0.0, 1.0)
    hz = rng.uniform(1500.0, 2000.0) * 2.0 ** (0.5 * grown) + 15.0 * np.sin(2 * np.pi * rng.uniform(5.0, 9.0) * t)
    whistle = grown * np.sin(2 * np.pi * np.cumsum(hz) / RATE)
    steam = sosfilt(butter(2, 3000.0, "highpass", fs=RATE, output="sos"), rng.standard_normal(len(t)))
    return np.asarray(whistle + rng.uniform(0.05, 0.3) * steam)


def tap(t: Signal, rng: np.random.Generator) -> Signal:
    """Drops: each a decaying tone whose pitch rises, like that of a closing bubble."""
    out = np.zeros_like(t)
    at, period = rng.uniform(0.0, 0.3), rng.uniform(0.3, 0.8)
    while at < t[-1]:
        since = t - at
        hz = rng.uniform(900.0, 1600.0) * (1.0 + 4.0 * np.clip(since, 0.0, 0.1))
        out += np.where(since > 0, np.exp(-np.maximum(since, 0.0) * 60.0), 0.0) * np.sin(2 * np.pi * hz * since)
        at += period * rng.uniform(0.95, 1.05)
    return out


def background(t: Signal, rng: np.random.Generator) -> Signal:
    """A room: mains hum, and band-limited noise in gusts."""
    hum = sum(np.sin(2 * np.pi * 50.0 * k * t + rng.uniform(0.0, 6.0)) / k for k in range(1, 6))
    low = rng.uniform(200.0, 1500.0)
    rustle = sosfilt(butter(2, [low, 2.5 * low], "bandpass", fs=RATE, output="sos"), rng.standard_normal(len(t)))
    gusts = np.maximum(0.0, np.sin(2 * np.pi * rng.uniform(0.2, 1.0) * t + rng.uniform(0.0, 6.0)))
    return np.asarray(rng.uniform(0.1, 0.5) * hum + gusts * rustle)


SOUNDS: dict[str, Callable[[Signal, np.random.Generator], Signal]] = {
    "background": background,
    "doorbell": doorbell,
    "dripping tap": tap,
    "kettle": kettle,
}


def write(out: Path, *, clips: int, seed: int = 0) -> list[Path]:
    """Writes `clips` WAV files of SECONDS for every sound into a folder of its name. Returns the paths.

    Args:
        out: the folder.
        clips: number of clips of every sound, ≥ 1.
        seed: ≥ 0.
    """
    t = np.arange(round(SECONDS * RATE)) / RATE
    paths = []
    for k, (name, sound) in enumerate(SOUNDS.items()):
        for i in range(clips):
            rng = np.random.default_rng([seed, k, i])
            signal = sound(t, rng)
            noise = rng.standard_normal(len(t)) * 10 ** (rng.uniform(-50.0, -30.0) / 20)
            signal = signal * (10 ** (rng.uniform(-25.0, -6.0) / 20) / np.abs(signal).max()) + 0.1 * noise
            paths.append(out / name / f"{i:03d}.wav")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            with replacing(paths[-1]) as file:
                soundfile.write(file, np.clip(signal, -1.0, 1.0), RATE, format="WAV", subtype="PCM_16")
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the data set and prints its folder. Returns 0."""
    parser = argparse.ArgumentParser(description="Write a small labelled data set of synthetic sounds.")
    parser.add_argument("--out", type=Path, required=True, help="folder; each sound gets a subfolder")
    parser.add_argument("--clips", type=int, default=12, help="clips of every sound (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other clips (default %(default)s)")
    args = parser.parse_args(argv)
    print(f"{args.out}: {len(write(args.out, clips=args.clips, seed=args.seed))} clips of {', '.join(SOUNDS)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
