"""What `arm.py` runs on both machines: recordings through decoder, resampler, front end and model.

    python inside.py JOB.json OUT.npz

A job is {"clips": [path, …], "bundles": {name: folder, …}, "given": FILE.npz or null}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert import Bundle
from panns_litert.audio import load_audio
from panns_litert.engine import CpuEngine
from panns_litert.frontend import LogMel

STAGES = ("samples", "logmel", "probs", "embedding")


def outputs(
    clips: Sequence[Path], bundles: Mapping[str, Path], given: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Runs the first window of every clip, with zeros behind a shorter one, through every bundle on one thread.

    Args:
        clips: recordings.
        bundles: folders of bundles with the log-mel graph, by name.
        given: another machine's results. Its log-mels are run through the models, too.

    Returns:
        "NAME/STAGE" → (clips, …) of every bundle and STAGES; with `given` also "NAME/given", the probabilities (clips,
        classes) from the given log-mels.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for name, folder in bundles.items():
        bundle = Bundle(folder)
        manifest, logmel = bundle.manifest, LogMel(bundle.manifest.front_end)
        engine = CpuEngine(bundle.file("model"), threads=1)
        (shape,) = engine.inputs.values()
        rows: dict[str, list[NDArray[np.float32]]] = {stage: [] for stage in STAGES}
        for clip in clips:
            samples = load_audio(clip, sample_rate=manifest.front_end.sample_rate).waveform[: manifest.clip_samples]
            samples = np.pad(samples, (0, manifest.clip_samples - len(samples)))
            values = logmel(samples)
            got = {output: value[0].copy() for output, value in engine.run(values.reshape(shape)).items()}
            for stage, value in zip(STAGES, (samples, values, got["probs"], got["embedding"]), strict=True):
                rows[stage].append(value)
        found |= {f"{name}/{stage}": np.stack(values) for stage, values in rows.items()}
        if given is not None:
            probs = [engine.run(values.reshape(shape))["probs"][0].copy() for values in given[f"{name}/logmel"]]
            found[f"{name}/given"] = np.stack(probs)
    return found


def main() -> None:
    """Runs a job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    given = np.load(job["given"]) if job["given"] else None
    bundles = {name: Path(folder) for name, folder in job["bundles"].items()}
    np.savez(sys.argv[2], **outputs([Path(clip) for clip in job["clips"]], bundles, given))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
