"""The state that an interrupted training resumes from: tensors and progress in one file, written atomically."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from panns_litert.atomic import replacing
from panns_litert.errors import TrainingError

_FORMAT = "1"


def keep(
    path: Path,
    *,
    settings: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    progress: Mapping[str, Any],
) -> None:
    """Writes a state.

    Args:
        path: a .safetensors file.
        settings: of the training, as JSON types.
        fingerprint: everything else that the training depends on, as JSON types.
        groups: tensors by name, in groups such as "network".
        optimizer: its tensors are written, too.
        progress: of the training, as JSON types.

    Raises:
        ResultsError: the file cannot be written; the previous one is unchanged.
    """
    tensors = {
        f"{group}.{name}": tensor.detach().clone(memory_format=torch.contiguous_format)
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            tensors[f"optimizer.{index}.{name}"] = value.clone(memory_format=torch.contiguous_format)
    facts = {"format": _FORMAT, "settings": settings, "fingerprint": fingerprint, "progress": progress}
    data = save(tensors, {"training": json.dumps(facts)})
    with replacing(path) as file:
        file.write(data)


def restore(
    path: Path,
    *,
    settings: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Reads a state into the tensors of `groups` and the optimizer, and returns the progress.

    Raises:
        TrainingError: the file is damaged, or belongs to another training.
    """
    remedy = "give another --out, or delete it to begin anew"
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get("training", "{}"))
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainingError(f"{path}: no state of a training ({error}); {remedy}") from error
    progress = found.pop("progress", None)
    mine = json.loads(json.dumps({"format": _FORMAT, "settings": settings, "fingerprint": fingerprint}))
    if found != mine or not isinstance(progress, dict):
        differ = [
            f"{name} {found.get(part, {}).get(name)!r} instead of {value!r}"
            for part in ("settings", "fingerprint")
            for name, value in mine[part].items()
            if found.get(part, {}).get(name) != value
        ]
        raise TrainingError(f"{path} is of another training: {'; '.join(differ)[:300] or 'its format'}; {remedy}")
    with torch.no_grad():
        for group, named in groups.items():
            for name, tensor in named.items():
                tensor.copy_(tensors[f"{group}.{name}"])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        if part == "optimizer":
            index, _, name = rest.partition(".")
            slots.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": slots})
    return progress


@contextlib.contextmanager
def reproducible(*, deterministic: bool = True) -> Iterator[None]:
    """Restores torch's random state and its choice of deterministic algorithms at the end of the block.

    Args:
        deterministic: refuse operations without a deterministic implementation; the networks need some that have none
            on a GPU.
    """
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.use_deterministic_algorithms(deterministic or before)
            yield
        finally:
            torch.use_deterministic_algorithms(before)
