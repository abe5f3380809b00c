"""Makes AST.npz and AST.keys.json beside this file: transformers' AST with the recipe's weights, on its waveform.

python tests/golden/make_ast.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from recipe import waveform, weights
from safetensors.torch import save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from transformers.core_model_loading import revert_weight_conversion

SAMPLE_RATE, SECONDS, CLASSES = 16000, 10.0, 527


def main() -> None:
    """Computes and writes both."""
    here = Path(__file__).parent
    config = ASTConfig(num_labels=CLASSES)
    with torch.device("meta"):
        empty = ASTForAudioClassification(config)
        # As the published checkpoint names them; in memory transformers has other names.
        state = revert_weight_conversion(empty, empty.state_dict())
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    with tempfile.TemporaryDirectory() as folder:
        tensors = {key: torch.from_numpy(w) for key, w in weights({k: tuple(s) for k, s in shapes.items()}).items()}
        save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder)
        model = ASTForAudioClassification.from_pretrained(folder).eval()
    sound = waveform(SAMPLE_RATE, SECONDS)
    logmel = ASTFeatureExtractor()(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        embedding = model.audio_spectrogram_transformer(logmel).pooler_output
        logits = model(logmel).logits
    np.savez(here / "AST.npz", logits=logits[0].numpy(), embedding=embedding[0].numpy())
    (here / "AST.keys.json").write_text(json.dumps(shapes), encoding="utf-8")


if __name__ == "__main__":
    main()
