"""Fixtures of the whole suite: a cache of its own, the recipe's checkpoint, bundles made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from suite import *  # noqa: F403 (its hooks)

from panns_litert.bundle import Bundle
from panns_litert.errors import GpuDriverError
from panns_litert.frontend import PANNS_32K, hann, mel_basis
from panns_litert.proof import add_one_model, gpu_check
from panns_litert_convert import stages
from panns_litert_convert.convert import convert
from panns_litert_convert.zoo import golden_shapes
from panns_litert_golden.recipe import weights

# No test is timed: machines are shared.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the suite's own: nothing is read from the user's, nothing is left there."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("PANNS_LITERT_CACHE")
    os.environ["PANNS_LITERT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PANNS_LITERT_CACHE"]
    else:
        os.environ["PANNS_LITERT_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def recipe() -> Iterator[Callable[[dict[str, tuple[int, ...]]], dict[str, np.ndarray]]]:
    """The recipe's weights for Cnn14, 80 M random numbers, are drawn once and not in every conversion of the demo."""
    shapes = golden_shapes("Cnn14")
    drawn: dict[str, np.ndarray] = {}

    def once(wanted: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        if wanted != shapes:
            return weights(wanted)
        drawn.update({} if drawn else weights(shapes))
        return dict(drawn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "weights", once)
        yield once


@pytest.fixture(scope="session")
def official_state(recipe: Callable[[dict[str, tuple[int, ...]]], dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Cnn14 with the recipe's weights, as the published file lays it out: with the front end's tables."""
    spec = PANNS_32K
    phase = 2 * np.pi * np.outer(np.arange(spec.bins), np.arange(spec.n_fft)) / spec.n_fft
    window = hann(spec.win_length, spec.n_fft)
    state = {
        "spectrogram_extractor.stft.conv_real.weight": (np.cos(phase) * window)[:, None].astype(np.float32),
        "spectrogram_extractor.stft.conv_imag.weight": (-np.sin(phase) * window)[:, None].astype(np.float32),
        "logmel_extractor.melW": np.ascontiguousarray(mel_basis(spec).T),
    }
    tensors = {key: torch.from_numpy(value) for key, value in (state | recipe(golden_shapes("Cnn14"))).items()}
    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(1000)
        for key in tensors
        if key.endswith("running_mean")
    }
    return tensors | counters


@pytest.fixture(scope="session")
def official_pth(official_state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`official_state` as a .pth file."""
    path = tmp_path_factory.mktemp("checkpoint") / "Cnn14_recipe.pth"
    torch.save({"iteration": 1, "model": official_state}, path)
    return path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo checkpoint, converted here."""
    return convert("demo", out=tmp_path_factory.mktemp("demo") / "bundle")


@pytest.fixture(scope="session")
def vulkan(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A driver that the delegate can use."""
    path = tmp_path_factory.mktemp("probe") / "probe.tflite"
    path.write_bytes(add_one_model())
    try:
        gpu_check(path, audit=False)
    except GpuDriverError as error:
        pytest.skip(str(error))


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Bundle], Path]:
    """Makes a copy of a bundle that a test may damage."""

    def copy(bundle: Bundle) -> Path:
        target = tmp_path / "damaged"
        target.mkdir()
        for file in bundle.path.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    return copy
