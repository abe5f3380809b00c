"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import kotlin
import levels
import numpy as np
import pytest
import r8
import soundfile
from hypothesis import settings
from numpy.typing import NDArray
from suite import *  # noqa: F403 (its hooks)

from panns_litert import Tagger
from panns_litert.audio import load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.errors import GpuDriverError
from panns_litert.frontend import PANNS_32K, hann, mel_basis
from panns_litert.proof import add_one_model, gpu_check
from panns_litert_golden.recipe import weights

if TYPE_CHECKING:
    import torch
    from hubserver import HubServer

CONVERTER = find_spec("torch") is not None
"""Whether the converter can run. The tests of the runtime also run without it, as on 64-bit ARM (tests/arm)."""

# No deadline for a test: the machine may be shared.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this run. The user's own is neither read nor written."""
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
    """Draws the recipe's weights for Cnn14, 80 M random numbers, once instead of in every conversion."""
    if not CONVERTER:
        yield weights
        return
    from panns_litert_convert import stages
    from panns_litert_convert.zoo import golden_shapes

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
    """Cnn14 with the recipe's weights and the front end's tables, in the layout of the published file."""
    import torch

    from panns_litert_convert.zoo import golden_shapes

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
    import torch

    path = tmp_path_factory.mktemp("checkpoint") / "Cnn14_recipe.pth"
    torch.save({"iteration": 1, "model": official_state}, path)
    return path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle converted from the demo checkpoint; without the converter, the one that is shipped."""
    if not CONVERTER:
        return Bundle(demo_bundle())
    from panns_litert_convert.convert import convert

    return convert("demo", out=tmp_path_factory.mktemp("demo") / "bundle")


@pytest.fixture(scope="session")
def tagger() -> Tagger:
    """The shipped demo bundle on one thread."""
    return Tagger(threads=1)


@pytest.fixture(scope="session")
def demo_sound() -> NDArray[np.float32]:
    """All demo clips one after another, 21.5 s at 32 kHz."""
    return np.concatenate([load_audio(path, sample_rate=32000).waveform for path in demo_clips()])


@pytest.fixture(scope="session")
def recording(demo_sound: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demo_sound` as a WAV file of float32."""
    path = tmp_path_factory.mktemp("recording") / "all.wav"
    soundfile.write(path, demo_sound, 32000, subtype="FLOAT")
    return path


@pytest.fixture(scope="session")
def jvm() -> None:
    """Compiles the Kotlin library. Skips where a tool is missing."""
    try:
        kotlin.class_path()
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def android_levels() -> levels.Levels:
    """The levels of all that Android has. Skips where R8 cannot be fetched."""
    try:
        return levels.known(r8.tools())
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def vulkan(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips without a Vulkan driver that the delegate can use; a software driver will do."""
    path = tmp_path_factory.mktemp("probe") / "probe.tflite"
    path.write_bytes(add_one_model())
    try:
        gpu_check(path, audit=False)
    except GpuDriverError as error:
        pytest.skip(str(error))


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Bundle], Path]:
    """Copies a bundle; the copy may be damaged."""

    def copy(bundle: Bundle) -> Path:
        target = tmp_path / "damaged"
        target.mkdir()
        for file in bundle.path.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    return copy


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hugging Face hub on this machine with the demo bundle as org/demo. This process uses it, without a token."""
    from hubserver import HubServer
    from huggingface_hub import constants

    with HubServer() as server:
        server.add("org/demo", demo_bundle())
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        yield server
