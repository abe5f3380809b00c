"""Writes the self-test of a bundle: `python -m panns_litert_convert.selftest BUNDLE --out DIR`.

The self-test is a short recording with PyTorch's probabilities for it, for runtimes without PyTorch. The Android app
runs the recording on the phone's accelerator, and shows tags only if the probabilities agree.

    selftest.json   format_version, model_sha256, sample_rate, samples, samples_sha256, probs
    selftest.pcm    16-bit little-endian mono samples, padded with silence to a clip
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.bundle import Bundle, file_sha256
from panns_litert.demo import demo_clips
from panns_litert.errors import BundleError, PannsLitertError
from panns_litert.frontend import LogMel
from panns_litert_convert.checkpoints import fetch, load_weights, weights_file
from panns_litert_convert.zoo import find

FORMAT_VERSION = 1
SELF_TEST, SAMPLES = "selftest.json", "selftest.pcm"

_RECORDING = "siren_44k1_stereo.flac"
_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Content of selftest.json.

    Attributes:
        format_version: version of this format.
        model_sha256: hash of the bundle's .tflite.
        sample_rate: sample rate of selftest.pcm and of the front end, Hz.
        samples: number of samples, 1 … those of a clip.
        samples_sha256: hash of selftest.pcm.
        probs: PyTorch's probability of each class.
    """

    format_version: int = FORMAT_VERSION
    model_sha256: str
    sample_rate: int
    samples: int
    samples_sha256: str
    probs: tuple[float, ...]


def write_self_test(
    bundle: str | os.PathLike[str], *, out: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None
) -> SelfTest:
    """Writes the self-test of a bundle into a folder. The bundle's .tflite is not run.

    Args:
        bundle: the bundle's folder.
        out: folder for the two files. It may be the bundle's.
        checkpoint: the weights that the bundle was made from, if they are not the published ones.

    Raises:
        BundleError: the bundle is incomplete or altered, or was made from another checkpoint.
        ModelError: the bundle's model is not in the registry.
        DownloadError, CheckpointError: the weights cannot be downloaded or used.
    """
    opened = Bundle(bundle)
    manifest = opened.manifest
    model = find(manifest.model)
    weights = fetch(model) if checkpoint is None else weights_file(checkpoint)
    if (found := file_sha256(weights)) != manifest.source.sha256:
        raise BundleError(
            f"{opened.path} was made from {manifest.source.file}, sha256 {manifest.source.sha256}; "
            f"{weights} has {found}; pass the checkpoint that it was made from"
        )
    network = model.build()
    load_weights(network, weights, model)
    pcm = _recording(manifest.front_end.sample_rate, manifest.clip_samples)
    clip = np.zeros(manifest.clip_samples, np.float32)
    clip[: len(pcm)] = pcm.astype(np.float32) / 32768.0
    values = clip[None] if network.graph == "waveform" else LogMel(manifest.front_end)(clip)[None, None]
    with torch.inference_mode():
        probs = network.eval()(torch.from_numpy(values))["probs"][0]
    self_test = SelfTest(
        model_sha256=manifest.model_sha256,
        sample_rate=manifest.front_end.sample_rate,
        samples=len(pcm),
        samples_sha256=sha256(pcm.tobytes()).hexdigest(),
        probs=tuple(probs.tolist()),
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SAMPLES).write_bytes(pcm.tobytes())
    (folder / SELF_TEST).write_text(json.dumps(asdict(self_test), indent=1) + "\n", encoding="utf-8")
    return self_test


def _recording(sample_rate: int, most: int) -> NDArray[np.int16]:
    """Returns the start of a demo recording, (samples,), little-endian."""
    path = next(path for path in demo_clips() if path.name == _RECORDING)
    waveform = load_audio(path, sample_rate=sample_rate, max_seconds=_SECONDS).waveform[:most]
    return np.round(np.clip(waveform, -1.0, 32767 / 32768) * 32768.0).astype("<i2")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line of this module. Returns 0, or 2 after an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--out", type=Path, help="folder for the two files; the bundle's if not given")
    parser.add_argument("--checkpoint", type=Path, help="the weights it was made from, if not the published ones")
    args = parser.parse_args(argv)
    try:
        out = args.out or args.bundle
        self_test = write_self_test(args.bundle, out=out, checkpoint=args.checkpoint)
    except (PannsLitertError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{out}: {SELF_TEST}, {SAMPLES}: {self_test.samples} samples, {len(self_test.probs)} probabilities of PyTorch"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
