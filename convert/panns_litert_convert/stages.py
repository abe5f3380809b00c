"""The parity stages: front_end, network, fp32, fp16. Each compares with a reference of its own.

References come from the original code's golden figures, from PyTorch and from float64, never from an
artefact under test.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panns_litert.engine import CpuEngine, Outputs
from panns_litert.frontend import FrontEndSpec, LogMel, mel_basis
from panns_litert.parity import GATES, Check, Gate, compare
from panns_litert_convert.references import (
    TorchlibrosaLogMel,
    float64_logmel,
    front_end_sounds,
    librosa_basis,
    parity_clips,
)
from panns_litert_convert.zoo import Model, Network, golden, golden_shapes
from panns_litert_golden.recipe import weights

# dB. Near the peak: above -80 dB and within 80 dB of the frame's highest band.
NEAR_DB, ELSEWHERE_DB, TORCHLIBROSA_DB = 1e-3, 1e-2, 1e-2
LEAST_RESOLVED = 0.99
_NEAR_FLOOR_DB, _NEAR_RANGE_DB = -80.0, 80.0


def front_end_stage(spec: FrontEndSpec, *, basis: NDArray[np.float32] | None = None) -> list[Check]:
    """The host log-mel against float64 and against torchlibrosa, and the mel basis against librosa.

    torchlibrosa computes in float32, and far below a frame's peak its own rounding error exceeds the
    bound (0.04 dB on the first sound). So it is compared where that error, measured against float64
    right here, is at most half the bound; and that must be nearly everywhere, or the two do not compute
    the same thing.

    Args:
        spec: the front end.
        basis: the mel basis to compute with, such as a bundle's; made from the spec if not given.
    """
    basis = mel_basis(spec) if basis is None else basis
    ours, torchlibrosa = LogMel(spec, basis=basis), TorchlibrosaLogMel(spec)
    got, exact, original = [], [], []
    for sound in front_end_sounds(spec.sample_rate).values():
        got.append(ours(sound))
        exact.append(float64_logmel(sound, spec))
        original.append(torchlibrosa(sound))
    g, e, o = (np.concatenate(part).astype(np.float64) for part in (got, exact, original))  # (frames, mels)
    near = (e > _NEAR_FLOOR_DB) & (e > e.max(axis=1, keepdims=True) - _NEAR_RANGE_DB)
    resolved = np.abs(o - e) <= TORCHLIBROSA_DB / 2

    def check(output: str, a: NDArray[np.float64], b: NDArray[np.float64], bound: float) -> Check:
        return compare("front_end", output, a[None], b[None], gate=Gate(max_abs=bound))

    return [
        check("mel basis, librosa", basis.astype(np.float64), librosa_basis(spec), 1e-7),
        check("dB near peak, float64", g[near], e[near], NEAR_DB),
        check("dB elsewhere, float64", g[~near], e[~near], ELSEWHERE_DB),
        check("dB, torchlibrosa", g[resolved], o[resolved], TORCHLIBROSA_DB),
        check("share torchlibrosa resolves", *_share(resolved), 1.0 - LEAST_RESOLVED),
    ]


def _share(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of a mask that is True, and the share that is wanted, beside a zero as a second value."""
    return np.array([0.0, mask.mean()]), np.array([0.0, 1.0])


def network_stage(model: Model) -> list[Check]:
    """This project's network against the original's golden outputs, with the golden recipe's weights."""
    network = model.golden_class().eval()
    state = {key: torch.from_numpy(w) for key, w in weights(golden_shapes(model.golden)).items()}
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(state | counters, strict=True)
    with np.load(golden(f"{model.golden}.npz")) as figures:
        logmel, want, embedding = figures["logmel"], figures["logits"], figures["embedding"]
    with torch.inference_mode():
        got_embedding = cast(Network, network).embed(torch.from_numpy(logmel)[None, None])
        got = cast(Network, network).logits(got_embedding)
    gate = GATES["network"]
    return [
        compare("network", "logits", got.numpy(), want[None], gate=gate),
        compare("network", "embedding", got_embedding.numpy(), embedding[None], gate=gate),
    ]


class Reference:
    """A network's own outputs on the parity clips: what every .tflite of it must reproduce.

    Args:
        network: in eval mode, with its weights.
        spec: its front end.
        seconds: length of the clips.

    Attributes:
        inputs: log-mels, each (1, 1, frames, mels) float32.
        outputs: name to (clips, dim) float32, from PyTorch.
    """

    def __init__(self, network: nn.Module, spec: FrontEndSpec, *, seconds: float) -> None:
        logmel = LogMel(spec)
        self.inputs = [logmel(clip)[None, None] for clip in parity_clips(spec.sample_rate, seconds)]
        collected: list[dict[str, Tensor]] = []
        with torch.inference_mode():
            for values in self.inputs:
                collected.append(network(torch.from_numpy(values)))
        self.outputs: Outputs = {
            name: np.concatenate([outputs[name].numpy() for outputs in collected]) for name in collected[0]
        }

    def check(self, stage: str, path: Path) -> list[Check]:
        """Runs a .tflite on the parity clips and compares every output."""
        engine = CpuEngine(path)
        runs = [engine.run(values) for values in self.inputs]
        checks = []
        for name, want in self.outputs.items():
            got = np.concatenate([run.get(name, np.empty((1, 0), np.float32)) for run in runs])
            gate = GATES[stage]
            if name != "probs":  # an embedding has no unit: its error counts as a share of its spread
                gate = Gate(max_abs=gate.max_abs, corr=gate.corr, relative=True)
            checks.append(compare(stage, name, got, want, gate=gate))
        return checks
