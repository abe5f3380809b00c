"""The demo: a bundle and recordings that ship with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import load_audio


def demo_bundle() -> Path:
    """Returns the folder of the demo bundle: a tiny network trained on synthetic sounds, not PANNs."""
    return Path(str(resources.files("panns_litert_assets") / "demo_bundle"))


def demo_clips() -> list[Path]:
    """Returns the paths of the demo recordings: synthetic sounds of the kind that the demo network was trained on."""
    return sorted(Path(str(resources.files("panns_litert_assets") / "clips")).iterdir())


def demo_audio(sample_rate: int, samples: int) -> list[NDArray[np.float32]]:
    """Makes four clips of `samples` samples from the demo recordings, for checks of a whole model.

    Three clips are stretches of all recordings joined together; with clips of 10 s they cover everything. The last
    clip is one recording followed by zeros, as a short recording is padded.
    """
    recordings = [load_audio(path, sample_rate=sample_rate).waveform for path in demo_clips()]
    joined = np.concatenate(recordings)
    clips = [np.resize(np.roll(joined, -start), samples) for start in range(0, len(joined), len(joined) // 3 + 1)]
    alone = np.zeros(samples, np.float32)
    alone[: len(recordings[0])] = recordings[0][:samples]
    return [*clips, alone]
