"""Runs the self-test of a bundle on the CPU, as the Android app does."""

from __future__ import annotations

import numpy as np

from panns_litert.bundle import ENGINE, Check, Manifest, SelfTest
from panns_litert.engine import CpuEngine
from panns_litert.errors import BundleError
from panns_litert.frontend import LogMel
from panns_litert.proof.parity import Gate, compare


def self_test_check(self_test: SelfTest, manifest: Manifest, engine: CpuEngine) -> Check:
    """Runs the self-test's recording and compares the probabilities with those in the self-test.

    Args:
        self_test, manifest: those of a bundle.
        engine: runs the bundle's .tflite.

    Returns:
        A check of the stage "self_test" with the gate `self_test_gate`.
    """
    clip = self_test.clip(manifest.clip_samples)
    spec = manifest.inputs[0]
    values = clip if spec.name == "waveform" else LogMel(manifest.front_end)(clip)
    got = engine.run_unchecked(values.reshape(spec.shape))["probs"]  # (1, classes)
    return compare("self_test", "probs, CPU", got, np.array([self_test.probs]), gate=self_test_gate(manifest))


def self_test_gate(manifest: Manifest) -> Gate:
    """Returns the bounds of a self-test on the CPU: those of the bundle's precision, or, without proof, of its engines.

    `SelfTest.Gate.cpu` in Kotlin is the same.

    Raises:
        BundleError: the manifest's parity has no check of the probabilities.
    """
    for stage in (manifest.precision, ENGINE):
        for check in manifest.parity:
            if (check.stage, check.output) == (stage, "probs"):
                bounds = check.threshold
                return Gate(max_abs=bounds["max_abs"], corr=bounds.get("corr"), top5=manifest.precision != "fp32")
    raise BundleError(f"no {manifest.precision} check of probs in the parity; convert it again")
