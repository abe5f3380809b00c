"""Writes the demo clips: `python -m panns_litert_convert.demo.clips --out DIR`.

They are synthesised like the training mixtures, from seeds that training never uses, and stored in formats that a
reader of audio files must support: sample rates of 8–48 kHz, one and two channels, 8 to 24 bits, WAV and FLAC.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from panns_litert.atomic import replacing
from panns_litert_convert.demo.sounds import RATE, Waveform, mix

SEED = 2_000_000
"""First seed of the clips, above those of training and of held-out evaluation."""


@dataclass(frozen=True, kw_only=True)
class DemoClip:
    """One demo clip and the format of its file.

    Args:
        file: name, ending in .wav or .flac.
        labels: the sounds in it, of LABELS.
        seconds: length, s.
        sample_rate: of the file, Hz.
        channels: 1 or 2. The second is 0.3 ms later and 3 dB quieter, as from a pair of microphones.
        subtype: sample format, as soundfile names it.
        peak_db: peak of the first channel before resampling, dBFS.
        seed: of its random choices, ≥ SEED.
    """

    file: str
    labels: tuple[str, ...]
    seconds: float
    sample_rate: int
    channels: int = 1
    subtype: str = "PCM_16"
    peak_db: float = -6.0
    seed: int


CLIPS = (
    DemoClip(file="siren_44k1_stereo.flac", labels=("Siren",), seconds=3.0, sample_rate=44100, channels=2, seed=SEED),
    DemoClip(file="dtmf_8k.wav", labels=("Telephone dialing, DTMF",), seconds=3.0, sample_rate=8000, seed=SEED + 1),
    DemoClip(
        file="church_bell_48k_24bit.flac",
        labels=("Church bell",),
        seconds=2.5,
        sample_rate=48000,
        subtype="PCM_24",
        peak_db=-20.0,
        seed=SEED + 2,
    ),
    DemoClip(file="foghorn_16k.wav", labels=("Foghorn",), seconds=4.0, sample_rate=16000, seed=SEED + 3),
    DemoClip(
        file="reversing_beeps_11k025_8bit.wav",
        labels=("Reversing beeps",),
        seconds=4.0,
        sample_rate=11025,
        subtype="PCM_U8",
        seed=SEED + 4,
    ),
    DemoClip(
        file="two_sounds_22k05.flac",
        labels=("Dial tone", "Tick-tock"),
        seconds=5.0,
        sample_rate=22050,
        seed=SEED + 5,
    ),
)
"""The clips that `write` writes."""


def render(clip: DemoClip) -> Waveform:
    """Returns a clip at its own rate, before quantisation: (samples, channels), float32, within [-1, 1]."""
    rng = np.random.default_rng([clip.seed, 0])
    mono = mix(clip.labels, seconds=clip.seconds, peak_db=clip.peak_db, rng=rng)
    channels = [mono]
    if clip.channels == 2:
        late = round(0.0003 * RATE)
        channels.append(np.float32(10.0 ** (-3.0 / 20.0)) * np.concatenate([np.zeros(late, np.float32), mono[:-late]]))
    samples = soxr.resample(np.stack(channels, axis=1), RATE, clip.sample_rate, quality="HQ")
    return np.asarray(np.clip(samples, -1.0, 1.0), np.float32)


def write(out: Path) -> list[Path]:
    """Writes every clip into the folder `out`, each file atomically. Returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for clip in CLIPS:
        path = out / clip.file
        with replacing(path) as file:
            soundfile.write(file, render(clip), clip.sample_rate, format=path.suffix[1:], subtype=clip.subtype)
        paths.append(path)
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the clips and prints their sizes. Returns 0."""
    parser = argparse.ArgumentParser(description="Write the demo clips.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    args = parser.parse_args(argv)
    for path in write(args.out):
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
