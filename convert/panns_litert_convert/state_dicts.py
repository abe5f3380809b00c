"""Reads a checkpoint's file without running its code, and finds a network's weights in what it holds.

Training tools wrap a state dict: in dicts ("state_dict", "model", "ema" …), with a prefix on every name ("module.",
"model.net." …), beside optimizers and metrics. None of these names is known here. What identifies the weights is the
network: the one mapping of tensors that has all of its names, behind one prefix, with its shapes.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from panns_litert.errors import CheckpointError
from panns_litert.strict import printable

# The types and functions that rebuild numpy arrays and scalars from a pickle, under the names of numpy 1 and 2, and
# types that training scripts keep their settings in. None of them runs code from the file.
_REBUILDERS: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
_PLAIN: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in "?bhilBHILefd")]
_PLAIN += [(f, f"numpy.{core}.multiarray.{f.__name__}") for f in _REBUILDERS for core in ("core", "_core")]
_PLAIN += [argparse.Namespace, pathlib.PosixPath]

# PyTorch's own wrappers (DataParallel, torch.compile, FSDP, activation checkpointing) put these parts into names, also
# in the middle, where only a part of the network is wrapped. No network here has such a part.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Words in the names of what training adds beside a network, and in those of an average of its weights.
_TRAINING = {"criterion", "criteria", "loss", "losses", "metric", "metrics", "acc", "accuracy", "auroc"}
_AVERAGED = {"ema", "swa", "averaged", "average"}
COUNTER = "num_batches_tracked"
"""Last part of the names of a batch norm's counters. Inference does not use them, and older checkpoints lack them."""

_SAVE = 'torch.save(m.state_dict(), "weights.pt")'
_MOST_DEPTH = 16  # of nested mappings


@dataclass(frozen=True)
class Found:
    """The weights of a network in a checkpoint.

    Attributes:
        tensors: the tensors by the network's names, and unknown ones by theirs. If no place fits the network, those of
            the place that fits best.
        notes: what was chosen or left out, in words.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Place:
    """Tensors behind one prefix of one mapping.

    Attributes:
        path: the names that lead to the mapping.
        prefix: what stands before the network's names, "" or with a dot at its end.
        mapping: all tensors of the mapping.
    """

    path: tuple[str, ...]
    prefix: str
    mapping: dict[str, Tensor]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors behind the prefix, by the names after it."""
        start = len(self.prefix)
        return {key[start:]: tensor for key, tensor in self.mapping.items() if key.startswith(self.prefix)}

    @property
    def name(self) -> str:
        """The place for a message, such as state_dict.model.*"""
        return printable(".".join([*self.path, f"{self.prefix}*"]))

    @property
    def averaged(self) -> bool:
        """Whether the place is named as an average of weights, such as EMA."""
        return any(_words(part) & _AVERAGED for part in (*self.path, *self.prefix.split(".")))


def read_file(path: Path, *, damage: str) -> Any:
    """Returns what a .safetensors file or a file of torch.save holds. Code in the file does not run.

    Args:
        path: an existing file.
        damage: what is wrong with a file that cannot be read, for the message.

    Raises:
        CheckpointError: the file is damaged or no checkpoint, or holds more than tensors, numbers and texts: a pickled
            network or a TorchScript archive.
    """
    where = printable(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            raise CheckpointError(
                f"{where}: a TorchScript archive, which holds code; expected tensors alone; if you trust the file, run "
                f'`m = torch.jit.load({str(path)!a}, map_location="cpu")` and `{_SAVE}`'
            )
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{where}: {damage} ({printable(str(error))})") from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        if found := re.search(r"unsupported global:?\s+(?:GLOBAL )?([\w.]+)", str(error), re.I):
            raise CheckpointError(
                f"{where} holds code: its loading runs {printable(found[1])}; expected tensors alone; if you trust the "
                f"file, run where that code is installed: `m = torch.load({str(path)!a}, weights_only=False)` and "
                f"`{_SAVE}`; if m is a dict, with its entry that is the network"
            ) from error
        raise CheckpointError(f"{where}: {damage} ({printable(reason)})") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # `torch.load` says what is wrong
    return any(name.partition("/")[2] == "constants.pkl" or "/code/" in name for name in names)


def find_weights(data: Any, expected: Mapping[str, Tensor], *, where: str) -> Found | None:
    """Finds the weights of a network in what `read_file` returned.

    A place fits if it has all of the network's names, except counters, with its shapes. If several fit: an average of
    weights (EMA, SWA) is taken, because that is what its authors evaluate; equal weights are one place; anything else
    is refused. Counters, and tensors of losses and metrics, are left out. Any other tensor of the same mapping, and any
    weight or bias of another one, is returned, because it could belong to the network.

    Args:
        data: mappings, nested in any way, with tensors.
        expected: the network's state dict.
        where: the file's name, for messages.

    Returns:
        The weights; None if there is no mapping with tensors.

    Raises:
        CheckpointError: several places fit.
    """
    needed = {key: tensor for key, tensor in expected.items() if not key.endswith(COUNTER)}
    # What stands under "model" first: where nothing fits, that is the most likely place.
    mappings = sorted(_mappings(data), key=lambda found: found[0][:1] != ("model",))
    places = [place for path, tensors in mappings for place in _places(path, tensors, needed)]
    if not places:
        return None
    fitting = [place for place in places if _fits(place.tensors, needed)]
    if fitting:
        chosen, notes = _choose(fitting, needed, where)
        for place in places:
            if place.averaged and place not in fitting and not chosen.averaged and _is_part(place.tensors, needed):
                lacking = sum(key not in place.tensors for key in needed)
                notes.append(f"the average in {place.name} is not used: {lacking} of {len(needed)} tensors are missing")
        if not chosen.averaged:
            notes += [f"the average in {name} is not used: a list of tensors without names" for name in _lists(data)]
    else:
        chosen, notes = max(places, key=lambda place: _likeness(place.tensors, needed)), []
    others = [place for place in places if place.mapping is chosen.mapping and place is not chosen]
    copies = [place for place in others if place in fitting or place.averaged]
    tensors = {}
    for key, tensor in chosen.mapping.items():
        name = key.removeprefix(chosen.prefix) if key.startswith(chosen.prefix) else None
        if name not in needed and any(
            key.startswith(place.prefix) and (place.prefix or key in needed) for place in copies
        ):
            continue  # of another copy of the network
        tensors[name or f"{key} (beside {chosen.prefix}*)"] = tensor
    if fitting:
        tensors |= _elsewhere(places, chosen, fitting)
    unknown = {key for key in tensors if key not in expected}
    unused = sorted(key for key in unknown if _is_of_training(key, tensors[key]))
    if unused and fitting:
        notes.append(f"of training alone, left out: {some(unused)}")
    return Found({key: tensor for key, tensor in tensors.items() if key not in unused}, tuple(notes))


def is_plain(tensor: Tensor) -> bool:
    """Returns whether a tensor is dense, real and in CPU memory: not sparse, quantized, complex or without data."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_complex()
    )


def some(names: list[str]) -> str:
    """Returns the first names of a list for a message."""
    return ", ".join(map(printable, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _mappings(
    data: Any, path: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yields the tensors of every mapping that holds any, the outer ones first, and the names that lead to it."""
    seen = set() if seen is None else seen
    if not isinstance(data, dict) or len(path) > _MOST_DEPTH or id(data) in seen:
        return
    seen.add(id(data))  # a file can hold a mapping that holds itself
    if tensors := {str(key): value for key, value in data.items() if isinstance(value, Tensor)}:
        yield path, tensors
    for key, value in data.items():
        yield from _mappings(value, (*path, str(key)), seen)


def _lists(data: Any, path: tuple[str, ...] = (), seen: set[int] | None = None) -> Iterator[str]:
    """Yields the places of lists of tensors that are named as an average, such as torch_ema's, for a message."""
    seen = set() if seen is None else seen
    if isinstance(data, dict) and len(path) <= _MOST_DEPTH and id(data) not in seen:
        seen.add(id(data))
        for key, value in data.items():
            yield from _lists(value, (*path, str(key)), seen)
        return
    values = data if isinstance(data, (list, tuple)) and any(_words(part) & _AVERAGED for part in path) else ()
    if any(isinstance(value, Tensor) and value.dim() > 1 for value in values):
        yield printable(".".join(path))


def _places(path: tuple[str, ...], tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> Iterator[_Place]:
    """Yields a place for every prefix behind which are most of the network's names; for "" if there is none."""
    mapping: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        short = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        mapping[short if short and short not in tensors and short not in mapping else key] = tensor
    found: Counter[str] = Counter()
    for key in mapping:
        parts = key.split(".")
        found.update(".".join([*parts[:i], ""]) for i in range(len(parts)) if ".".join(parts[i:]) in needed)
    prefixes = [prefix for prefix, count in found.items() if count > len(needed) / 2]
    yield from (_Place(path, prefix, mapping) for prefix in prefixes or [""])


def _elsewhere(places: list[_Place], chosen: _Place, fitting: list[_Place]) -> dict[str, Tensor]:
    """Returns weights and biases of other mappings that are no copy of the network, such as a head saved apart."""
    copies = {place.path for place in places if place in fitting or place.averaged}
    return {
        ".".join([*place.path, key]): tensor
        for place in places
        if place.mapping is not chosen.mapping and place.path not in copies
        for key, tensor in place.mapping.items()
        if key.rpartition(".")[2] in ("weight", "bias")
    }


def _fits(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> bool:
    return all(
        key in tensors and tensors[key].shape == want.shape and is_plain(tensors[key]) for key, want in needed.items()
    )


def _is_part(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> bool:
    """Returns whether some tensors have names and shapes of the network."""
    return any(key in tensors and tensors[key].shape == want.shape for key, want in needed.items())


def _likeness(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> tuple[int, int]:
    """Returns how many tensors have a name and shape of the network, and how many a name."""
    named = [key for key in needed if key in tensors]
    return sum(tensors[key].shape == needed[key].shape for key in named), len(named)


def _choose(fitting: list[_Place], needed: Mapping[str, Tensor], where: str) -> tuple[_Place, list[str]]:
    """Returns the place to take, and a note if others were different."""
    different: list[_Place] = []
    for place in fitting:
        if not any(_equal(place.tensors, other.tensors, needed) for other in different):
            different.append(place)
    averages = [place for place in different if place.averaged]
    if len(different) > 1 and len(averages) != 1:
        raise CheckpointError(
            f"{where}: {len(different)} networks of this kind with different weights: "
            f"{some([place.name for place in different])}; expected one; save its state dict alone"
        )
    chosen = (averages or different)[0]
    others = [place.name for place in different if place is not chosen]
    return chosen, [f"took the average of weights in {chosen.name}, not {some(others)}"] * bool(others)


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> bool:
    return all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in needed)


def _is_of_training(key: str, tensor: Tensor) -> bool:
    """Returns whether a tensor that the network lacks is a counter, or belongs to a loss or a metric."""
    counter = tensor.dim() == 0 and not tensor.is_floating_point()
    return counter or any(_words(part) & _TRAINING for part in key.split(".")[:-1])


def _words(part: str) -> set[str]:
    """Returns the words of a part of a name: those of "ema_model", "EmaModel" and "modelEMA2" are ema and model."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part)
    return set(re.findall(r"[a-z]+", apart.casefold()))
