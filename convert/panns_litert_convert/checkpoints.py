"""Checkpoints: download, check, load. A file is trusted only after its hash was checked, every time."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import requests
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from panns_litert.atomic import replacing
from panns_litert.bundle import CACHE_VARIABLE, cache_dir, file_sha256
from panns_litert.errors import CheckpointError, DownloadError
from panns_litert.frontend import FrontEndSpec, hann, mel_basis
from panns_litert_convert.networks.ast import Ast, require_config
from panns_litert_convert.zoo import MODELS, Checkpoint, Model, asset

_LOGGER = logging.getLogger(__name__)

# pooch talks on stderr at INFO; here a download has a progress bar, and a failure is an error.
pooch.get_logger().setLevel(logging.WARNING)

_RETRIES = 2
# What numpy arrays and scalars in a pickle are made of, by their names of numpy 1 and 2; none of it runs code.
_REBUILDERS: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
_NUMPY: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in "?bhilBHILefd")]
_NUMPY += [(f, f"numpy.{core}.multiarray.{f.__name__}") for f in _REBUILDERS for core in ("core", "_core")]
# Tensors of a PANNs checkpoint that belong to its front end, not to its network (torchlibrosa 0.1.0).
_FRONT_END_KEYS = {
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
    "logmel_extractor.melW",
}
# A checkpoint's own float32 tables against ours: rounding, and librosa versions that differ in it.
_FRONT_END_TOLERANCE = 1e-5


def checkpoint_path(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint is, or will be after `fetch`."""
    if checkpoint.url is None:
        return asset(checkpoint.file)
    return cache_dir() / "checkpoints" / checkpoint.file


def fetch(model: Model, *, progress: bool = False) -> Path:
    """The model's checkpoint, downloaded if need be, its hash checked in any case.

    The file appears in the cache only when it is complete and its hash is right. A download that breaks
    off is tried again from the start; nothing of it is left.

    Args:
        model: whose checkpoint.
        progress: whether to draw a progress bar on stderr.

    Raises:
        DownloadError: no network, no such file, disk full, cache not writable, or a wrong hash.
        CheckpointError: a file in the cache is not the published one.
    """
    checkpoint = model.checkpoint
    if not checkpoint.published:
        raise DownloadError(f"nobody has published weights for {model.network}; pass your own with --checkpoint PATH")
    path = checkpoint_path(checkpoint)
    if path.is_file() or checkpoint.url is None:
        check_hash(path, checkpoint)
        return path
    known = checkpoint.sha256 or (f"md5:{checkpoint.md5}" if checkpoint.md5 else None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_space(path.parent, checkpoint)
        source = pooch.create(
            path=path.parent,
            base_url="",
            registry={checkpoint.file: known},
            urls={checkpoint.file: checkpoint.url},
            retry_if_failed=_RETRIES,
        )
        source.fetch(checkpoint.file, downloader=_Downloader(checkpoint, progress=progress))
    except requests.RequestException as error:
        raise DownloadError(
            f"cannot download {checkpoint.file} from {checkpoint.url}: {_reason(error)}; check the network, "
            "or download it elsewhere and pass --checkpoint PATH"
        ) from error
    except ValueError as error:  # the hash or the size is wrong
        raise DownloadError(
            f"{checkpoint.url} sent another file than {checkpoint.file} (wrong hash or size, nothing was kept); "
            "try again later"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot store {checkpoint.file} in {path.parent}: {error.strerror or error}; "
            f"free some space or point {CACHE_VARIABLE} elsewhere"
        ) from error
    if known is None:
        _LOGGER.warning("%s: no published hash is known; its sha256 was recorded in %s", path, _record(path))
    check_hash(path, checkpoint)
    return path


class _Downloader:
    """What pooch calls, for every attempt, to fill its temporary file; then that file is put in place.

    So whatever must be right about the file, and the record of a hash that is not known yet, is settled
    here: a file in the cache without its record would be refused for ever.
    """

    def __init__(self, checkpoint: Checkpoint, *, progress: bool) -> None:
        self.checkpoint = checkpoint
        self.http = pooch.HTTPDownloader(progressbar=progress, timeout=30)

    def __call__(self, url: str, output_file: str, source: pooch.Pooch) -> None:
        self.http(url, output_file, source)
        size = Path(output_file).stat().st_size
        if self.checkpoint.bytes not in (None, size):
            raise ValueError(f"{size} bytes; expected {self.checkpoint.bytes}")  # pooch tries again
        if self.checkpoint.sha256 is None and self.checkpoint.md5 is None:
            self._write_record(Path(output_file))

    def _write_record(self, file: Path) -> None:
        part = _record(file)
        try:
            part.write_text(file_sha256(file) + "\n", encoding="utf-8")
            os.replace(part, _record(checkpoint_path(self.checkpoint)))  # at once: others may be reading it
        finally:
            part.unlink(missing_ok=True)


def _record(path: Path) -> Path:
    """The file beside a checkpoint that holds its sha256 as it was at the first download."""
    return path.with_name(path.name + ".sha256")


def _require_space(folder: Path, checkpoint: Checkpoint) -> None:
    free = shutil.disk_usage(folder).free
    if checkpoint.bytes is not None and free < checkpoint.bytes:
        raise OSError(errno.ENOSPC, f"it needs {checkpoint.bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free")


def _reason(error: BaseException) -> str:
    """The innermost cause, which is the one that a user can act on."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def check_hash(path: Path, checkpoint: Checkpoint) -> None:
    """Checks a file against what is known of the checkpoint.

    Raises:
        CheckpointError: missing, truncated or altered.
    """
    remedy = "delete it and fetch it again" if checkpoint.url else "install the package again"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; {remedy}")
    size = path.stat().st_size
    if checkpoint.bytes is not None and size != checkpoint.bytes:
        raise CheckpointError(f"{path} has {size} bytes; expected {checkpoint.bytes}; {remedy}")
    record = _record(path)
    if checkpoint.sha256 is not None:
        expected, found = checkpoint.sha256, file_sha256(path)
    elif checkpoint.md5 is not None:
        with path.open("rb") as file:
            expected, found = checkpoint.md5, hashlib.file_digest(file, "md5").hexdigest()
    elif record.is_file():
        expected, found = record.read_text(encoding="utf-8", errors="replace").strip(), file_sha256(path)
    else:
        raise CheckpointError(f"{path}: its hash is not known and was never recorded; {remedy}")
    if found != expected:
        raise CheckpointError(f"{path} was altered: its hash is {found}; expected {expected}; {remedy}")


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_CONFIG = "config.json"


def weights_file(path: str | os.PathLike[str]) -> Path:
    """The file of weights that a user means: itself, or the one in a folder as model hubs have them.

    Raises:
        CheckpointError: there is none in the folder.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in _HUB_FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path}: no weights in this folder; expected {' or '.join(_HUB_FILES)}")


def is_official(path: Path, checkpoint: Checkpoint) -> bool:
    """Whether a file is the registry's checkpoint, by its hash."""
    try:
        check_hash(path, checkpoint)
    except CheckpointError:
        return False
    return True


# The one entry of a .safetensors file's metadata that is ours: JSON with the zoo's name and the classes.
_FACTS = "panns_litert"
_OWN_LABELS, _OWN_DATASET = "labels.txt", "own"


def save_own(network: nn.Module, path: str | os.PathLike[str], *, model: Model, classes: Sequence[str]) -> None:
    """Writes a fine-tuned network, at once or not at all, with what `model_of` needs to know.

    Args:
        network: the model's, with that many classes.
        path: a .safetensors file.
        model: the zoo's record of the network.
        classes: names, in the order of the outputs.

    Raises:
        CheckpointError: the weights hold NaN or Inf.
        ResultsError: it cannot be written.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    if broken := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"NaN or Inf in {_some(broken)}; expected finite weights; try a lower learning rate")
    # One entry: safetensors writes several in an order that changes from run to run.
    facts = json.dumps({"base": model.name, "labels": list(classes)}, ensure_ascii=False)
    with replacing(path) as file:
        file.write(save(state, {_FACTS: facts}))


def model_of(model: Model, checkpoint: str | os.PathLike[str] | None) -> Model:
    """The record that a checkpoint is of: the model's own, or one with the classes that `save_own` wrote.

    Raises:
        CheckpointError: a fine-tuned checkpoint of another network.
    """
    if checkpoint is None or Path(checkpoint).suffix != ".safetensors" or not Path(checkpoint).is_file():
        return model
    try:
        with safe_open(checkpoint, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
    except (SafetensorError, OSError, ValueError):
        return model  # `load_weights` says what is wrong with it
    base, labels = facts.get("base"), facts.get("labels")
    if base is None:
        return model
    if base != model.name:
        raise CheckpointError(f"{checkpoint} is a fine-tuned {base}; expected {model.name}; name {base} instead")
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{checkpoint}: labels {labels!r}; expected at least two class names")
    return with_classes(model, labels)


def with_classes(model: Model, classes: Sequence[str]) -> Model:
    """The model's record with class names of the user's own."""
    return replace(model, labels=_OWN_LABELS, dataset=_OWN_DATASET, own_classes=tuple(classes))


def load_weights(network: nn.Module, path: str | os.PathLike[str], model: Model) -> None:
    """Loads a checkpoint into a network: every tensor of the network, and none that is not its own.

    PANNs checkpoints also hold the tables of their front end. Those are compared with the model's
    front end: a network must never be paired with another log-mel than it was trained on.

    Args:
        network: made by `model.build`; left unchanged if anything is wrong.
        path: a .pth/.pt/.bin file (a state dict, or a dict with it under "model") or .safetensors, or a folder of
            a model hub; AST's config.json beside it is checked, too.
        model: the registry record.

    Raises:
        CheckpointError: missing, truncated, no checkpoint, of another network, of another front end, or
            with weights that are NaN or Inf.
    """
    path = weights_file(path)
    tensors = _read(path, model.checkpoint)
    config = path.with_name(_HUB_CONFIG)
    if isinstance(network, Ast) and config.is_file():
        require_config(config, network)
    front_end = {key: tensors.pop(key) for key in sorted(_FRONT_END_KEYS & set(tensors))}
    expected = network.state_dict()
    # A counter of training steps; inference has no use for it, and older checkpoints lack it.
    for key in [key for key in expected if key.endswith("num_batches_tracked")]:
        tensors.setdefault(key, expected[key])
    _require_keys(path, tensors, expected, model)
    # Converted first: a float64 weight may be finite and still be too large for the network.
    tensors = {key: tensor.detach().to(expected[key].dtype) for key, tensor in tensors.items()}
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path}: NaN or Inf in {_some(broken)}; expected finite weights")
    _require_front_end(path, front_end, model.front_end)
    network.load_state_dict(tensors, strict=True)


def _read(path: Path, checkpoint: Checkpoint) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint such as {checkpoint.file}")
    try:
        if path.suffix == ".safetensors":
            data: Any = load_file(path)
        else:
            # Cnn14_16k's file also holds the state of its training's sampler, numpy arrays.
            with torch.serialization.safe_globals(_NUMPY):
                data = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: {_damage(path, checkpoint)} ({error})") from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"{path}: {_damage(path, checkpoint)} ({reason})") from error
    if isinstance(data, dict) and isinstance(data.get("model"), dict):
        data = data["model"]
    if not isinstance(data, dict) or not data or not all(_is_plain(value) for value in data.values()):
        raise CheckpointError(
            f"{path}: holds no state dict; expected named tensors, alone or under 'model' as in {checkpoint.file}"
        )
    return {str(key): value for key, value in data.items()}


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with real numbers in memory: not sparse, quantized, complex or without data."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
    )


def _damage(path: Path, checkpoint: Checkpoint) -> str:
    size = path.stat().st_size
    if checkpoint.bytes is not None and size < checkpoint.bytes:
        return f"truncated or not a checkpoint: {size} bytes, {checkpoint.file} has {checkpoint.bytes}; fetch it again"
    return f"not a checkpoint, or a damaged one; expected a file such as {checkpoint.file}"


def _require_keys(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor], model: Model) -> None:
    missing = sorted(set(expected) - set(tensors))
    unknown = sorted(set(tensors) - set(expected))
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in tensors and tensors[key].shape != tensor.shape
    ]
    if missing or unknown or shapes:
        parts = [f"missing {_some(missing)}"] * bool(missing) + [f"unknown {_some(unknown)}"] * bool(unknown)
        parts += [f"shapes: {_some(shapes)}"] * bool(shapes)
        raise CheckpointError(
            f"{path}: not the weights of {model.network}: {'; '.join(parts)}{_looks_like(tensors, model)}"
        )


def _looks_like(tensors: dict[str, Tensor], model: Model) -> str:
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")}
    for other in MODELS:
        if other.name != model.name:
            with torch.device("meta"):
                state = other.build().state_dict()
            if found == {k: tuple(t.shape) for k, t in state.items() if not k.endswith("num_batches_tracked")}:
                return f"; it looks like {other.name}: convert that"
    return ""


def _require_front_end(path: Path, tables: dict[str, Tensor], spec: FrontEndSpec) -> None:
    if not tables:
        return
    phase = 2.0 * np.pi * np.outer(np.arange(spec.bins), np.arange(spec.n_fft)) / spec.n_fft
    window = hann(spec.win_length, spec.n_fft)
    expected: dict[str, NDArray[np.floating]] = {
        "spectrogram_extractor.stft.conv_real.weight": (np.cos(phase) * window)[:, None, :],
        "spectrogram_extractor.stft.conv_imag.weight": (-np.sin(phase) * window)[:, None, :],
        "logmel_extractor.melW": mel_basis(spec).T,
    }
    for key, table in tables.items():
        want = expected[key]
        if (
            tuple(table.shape) != want.shape
            or not np.abs(table.detach().double().numpy() - want).max() <= _FRONT_END_TOLERANCE
        ):
            raise CheckpointError(
                f"{path}: {key} is not that of the model's front end ({spec.sample_rate} Hz, n_fft {spec.n_fft}, "
                f"{spec.n_mels} mels {spec.fmin:g}–{spec.fmax:g} Hz); expected the checkpoint of that front end"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
