"""Demo: the bundle and the recordings that ship with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import load_audio


def demo_bundle() -> Path:
    """The bundle that ships with the package: a tiny network trained on synthetic sounds. A demo, not PANNs."""
    return Path(str(resources.files("panns_litert_assets") / "demo_bundle"))


def demo_clips() -> list[Path]:
    """The recordings that ship with the package, synthetic like what the demo network knows."""
    return sorted(Path(str(resources.files("panns_litert_assets") / "clips")).iterdir())


def demo_audio(sample_rate: int, samples: int) -> list[NDArray[np.float32]]:
    """Clips of that many samples from the demo recordings: what a check of a whole model runs on.

    The recordings one after another, three stretches that together cover them all in 10 s; then one recording
    alone, followed by zeros, as a short recording is padded.
    """
    recordings = [load_audio(path, sample_rate=sample_rate).waveform for path in demo_clips()]
    all_of_them = np.concatenate(recordings)
    clips = [
        np.resize(np.roll(all_of_them, -start), samples)
        for start in range(0, len(all_of_them), len(all_of_them) // 3 + 1)
    ]
    alone = np.zeros(samples, np.float32)
    alone[: len(recordings[0])] = recordings[0][:samples]
    return [*clips, alone]
