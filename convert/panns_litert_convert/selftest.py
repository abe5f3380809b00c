"""Makes the self-test of a bundle with PyTorch, and compares a bundle's self-test with PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.bundle import Check, SelfTest
from panns_litert.demo import demo_clips
from panns_litert.frontend import FrontEndSpec, LogMel
from panns_litert.proof import Gate, compare
from panns_litert_convert.networks import AudioTagger

_SECONDS = 2.0
_SAME = Gate(max_abs=1e-4)  # for two runs of PyTorch, perhaps on different processors


def self_tests(network: AudioTagger, spec: FrontEndSpec, *, samples: int) -> list[SelfTest]:
    """Returns a self-test for the start of every demo recording, first the one with the widest spread of probabilities.

    If all probabilities are nearly equal, a wrong engine may pass and a right one fail.

    Args:
        network: in eval mode, with its weights.
        spec: its front end.
        samples: length of a clip.
    """
    found = []
    for path in demo_clips():
        waveform = load_audio(path, sample_rate=spec.sample_rate, max_seconds=_SECONDS).waveform[:samples]
        pcm = np.round(np.clip(waveform, -1.0, 32767 / 32768) * 32768.0).astype("<i2").tobytes()
        recording = SelfTest(pcm=pcm, probs=())
        found.append(replace(recording, probs=_probs(recording, network, spec, samples=samples)))
    return sorted(found, key=lambda self_test: min(self_test.probs) - max(self_test.probs))


def recorded_check(self_test: SelfTest, network: AudioTagger, spec: FrontEndSpec, *, samples: int) -> Check:
    """Compares the probabilities in a bundle's self-test with those of PyTorch for the same recording.

    Args:
        self_test: the bundle's.
        network, spec, samples: as for `self_tests`.
    """
    probs = _probs(self_test, network, spec, samples=samples)
    return compare("self_test", "probs, PyTorch", np.array([self_test.probs]), np.array([probs]), gate=_SAME)


def pytorch_outputs(
    self_test: SelfTest, network: AudioTagger, spec: FrontEndSpec, *, samples: int
) -> dict[str, NDArray[np.float32]]:
    """Returns all outputs of PyTorch by name, (1, …), for the recording of a self-test.

    Args:
        self_test: the recording.
        network, spec, samples: as for `self_tests`.
    """
    clip = self_test.clip(samples)
    values = clip[None] if network.graph == "waveform" else LogMel(spec)(clip)[None, None]
    with torch.inference_mode():
        return {name: value.numpy() for name, value in network(torch.from_numpy(values)).items()}


def _probs(self_test: SelfTest, network: AudioTagger, spec: FrontEndSpec, *, samples: int) -> tuple[float, ...]:
    return tuple(pytorch_outputs(self_test, network, spec, samples=samples)["probs"][0].tolist())
