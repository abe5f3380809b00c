"""The level of a waveform, and the level below which it is silence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_litert.audio import is_silent, level_dbfs, load_audio
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError

SINE = np.sin(2 * np.pi * np.arange(32000) / 32).astype(np.float32)


@given(st.floats(-120.0, 0.0))
def test_the_level_of_a_sine(gain: float) -> None:
    level = gain + 10 * math.log10(0.5)
    quiet = (SINE * 10 ** (gain / 20)).astype(np.float32)
    assert level_dbfs(quiet) == pytest.approx(level, abs=1e-3)
    assert is_silent(quiet, below_dbfs=level + 0.01)
    assert not is_silent(quiet, below_dbfs=level - 0.01)


def test_digital_silence_and_full_scale() -> None:
    assert level_dbfs(np.zeros(1, np.float32)) == -math.inf
    assert is_silent(np.zeros(100, np.float32), below_dbfs=-300)
    assert not is_silent(np.zeros(100, np.float32), below_dbfs=-math.inf)
    assert level_dbfs(np.tile(np.array([1, -1], np.float32), 50)) == 0.0


@pytest.mark.parametrize("constant", [1.0, -0.1, 1e-3, 2.5])
def test_a_constant_is_silent_and_does_not_change_the_level(constant: float) -> None:
    """Cheap microphones and sound cards add a constant to all samples."""
    offset = np.full(320_001, constant, np.float32)
    assert level_dbfs(offset) == -math.inf
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(offset))
    assert level_dbfs((noise + offset).astype(np.float32)) == pytest.approx(level_dbfs(noise), abs=1e-3)
    assert is_silent((noise + offset).astype(np.float32), below_dbfs=-59)


def test_one_click_in_a_long_quiet_recording() -> None:
    waveform = np.full(1_000_000, 1e-4, np.float32)
    waveform[0] = 1.0
    mean = math.fsum(map(float, waveform)) / len(waveform)
    power = math.fsum((float(sample) - mean) ** 2 for sample in waveform) / len(waveform)
    assert level_dbfs(waveform) == pytest.approx(10 * math.log10(power), abs=1e-9)


def test_no_demo_recording_is_silent() -> None:
    for path in demo_clips():
        assert not is_silent(load_audio(path, sample_rate=32000).waveform), path.name


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(0, np.float32),
        np.zeros((2, 10), np.float32),
        np.zeros(10, np.int16),
        np.array([0.0, np.nan], np.float32),
        np.array([0.0, np.inf], np.float32),
    ],
    ids=["empty", "stereo", "integers", "NaN", "Inf"],
)
def test_a_bad_waveform(waveform: np.ndarray) -> None:
    with pytest.raises(AudioError, match="expected"):
        is_silent(waveform)


@pytest.mark.parametrize("gate", [math.nan, "-60", True, None])
def test_a_bad_gate(gate: object) -> None:
    with pytest.raises(AudioError, match="expected a number of dB"):
        is_silent(SINE, below_dbfs=gate)  # type: ignore[arg-type]
