"""The self-test of a bundle: a recording and PyTorch's probabilities for it, for runtimes without PyTorch.

In a bundle that is not proven, the probabilities are those of its own .tflite on the CPU of the computer that adopted
it. They show that an engine computes as that CPU does, and nothing about the model.

    selftest.json   format_version, model_sha256, sample_rate, samples, samples_sha256, probs
    selftest.pcm    16-bit little-endian mono samples, padded with silence to a clip

The Android app runs the recording on every engine of the phone and uses only an engine whose probabilities agree.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from panns_litert.bundle.manifest import Manifest
from panns_litert.errors import BundleError
from panns_litert.strict import parse_json, read, shown

SELF_TEST = "selftest.json"
SELF_TEST_SAMPLES = "selftest.pcm"

_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The content of selftest.json."""

    format_version: int
    model_sha256: str
    sample_rate: int
    samples: int
    samples_sha256: str
    probs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """A recording and PyTorch's probabilities for it; those of the .tflite itself in a bundle that is not proven.

    Attributes:
        pcm: 16-bit little-endian mono samples at the front end's rate, at least one and no more than a clip.
        probs: the probability of each class, 0 … 1.
    """

    pcm: bytes
    probs: tuple[float, ...]

    def clip(self, samples: int) -> NDArray[np.float32]:
        """Returns the recording as a clip (samples,) within [-1, 1], padded with silence."""
        recording = np.frombuffer(self.pcm, "<i2").astype(np.float32) / 32768.0
        return np.pad(recording, (0, samples - len(recording)))

    def to_json(self, *, model_sha256: str, sample_rate: int) -> str:
        """Returns the text of selftest.json, which binds the self-test to a .tflite and a sample rate, Hz."""
        record = _Record(
            format_version=_FORMAT_VERSION,
            model_sha256=model_sha256,
            sample_rate=sample_rate,
            samples=len(self.pcm) // 2,
            samples_sha256=hashlib.sha256(self.pcm).hexdigest(),
            probs=self.probs,
        )
        return json.dumps(asdict(record), indent=1) + "\n"

    @classmethod
    def from_files(cls, data: bytes, pcm: bytes, manifest: Manifest) -> SelfTest:
        """Reads the contents of selftest.json and selftest.pcm, strictly.

        Raises:
            BundleError: they are not of this format, do not fit each other, or belong to another model.
        """
        where = "self-test"
        found: _Record = read(_Record, parse_json(data, where, error=BundleError), where, error=BundleError)
        expected = {
            "format_version": (found.format_version, _FORMAT_VERSION),
            "model_sha256": (found.model_sha256, manifest.model_sha256),
            "sample_rate": (found.sample_rate, manifest.front_end.sample_rate),
            "number of probs": (len(found.probs), manifest.classes),
            "bytes of the samples": (len(pcm), 2 * found.samples),
            "samples_sha256": (found.samples_sha256, hashlib.sha256(pcm).hexdigest()),
        }
        for name, (value, wanted) in expected.items():
            if value != wanted:
                raise BundleError(f"{where}: {name} {shown(value)}; expected {shown(wanted)}")
        if not 1 <= found.samples <= manifest.clip_samples:
            raise BundleError(f"{where}: samples {found.samples}; expected 1 … {manifest.clip_samples}")
        if not all(0 <= prob <= 1 for prob in found.probs):
            raise BundleError(f"{where}: probs outside 0 … 1")
        return cls(pcm=pcm, probs=found.probs)
