"""Makes mn10_as_hop_*.npz and mn10_as_mels_*.npz beside this file: EfficientAT's code with the recipe's weights.

python tests/golden/make_efficientat.py FOLDER

FOLDER is a checkout of https://github.com/fschmid56/EfficientAT (commit a425fdc). It needs torchvision and torchaudio.
Both the log-mel and the network are the original's. The state dict is that of mn10_as.keys.json, which `keys` names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from recipe import waveform, weights

VARIANTS = {
    **{f"hop_{hop // 32}": {"hopsize": hop} for hop in (160, 480, 640, 800)},
    **{f"mels_{mels}": {"n_mels": mels} for mels in (40, 64, 256)},
}
"""Arguments of AugmentMelSTFT that differ from its defaults; 32 samples are 1 ms."""


def main() -> None:
    """Computes and writes all seven."""
    here = Path(__file__).parent.resolve()
    os.chdir(sys.argv[1])  # the original reads metadata/ there
    sys.path.insert(0, ".")
    from models.mn.model import get_model  # the original's
    from models.preprocess import AugmentMelSTFT

    network = get_model(width_mult=1.0).eval()
    shapes = {key: list(t.shape) for key, t in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    known = json.loads((here / "mn10_as.keys.json").read_text(encoding="utf-8"))
    if shapes != {key: shape for key, shape in known.items() if not key.endswith("num_batches_tracked")}:
        raise SystemExit("another network than that of mn10_as.keys.json")
    state = {key: torch.from_numpy(w) for key, w in weights({k: tuple(s) for k, s in known.items()}).items()}
    network.load_state_dict(state, strict=False)  # without counters of training steps
    sound = torch.from_numpy(waveform(32000, 10.0))[None]
    for name, changes in VARIANTS.items():
        logmel = AugmentMelSTFT(**changes).eval()(sound)  # (1, mels, frames)
        with torch.inference_mode():
            logits, embedding = network(logmel[:, None])
        figures = {"logits": logits[0].numpy(), "embedding": embedding[0].numpy(), "keys": np.array("mn10_as")}
        np.savez(here / f"mn10_as_{name}.npz", **figures)
        print(name, tuple(logmel.shape), float(logits.std()))


if __name__ == "__main__":
    main()
