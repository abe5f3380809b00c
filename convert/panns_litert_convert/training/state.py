"""The state that an interrupted training resumes from: tensors and progress in one file, written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from panns_litert.atomic import remove_unfinished, replacing, writing
from panns_litert.errors import ResultsError, TrainingError
from panns_litert.strict import parse_json, printable, shown
from panns_litert.words import counted

P = TypeVar("P")

_FORMAT = "2"
_SLOTS = "optimizer."  # starts the names of the optimizer's tensors
_MOST_TEXT = 300  # characters, of what differs
_REMEDY = "give another --out, or delete it to begin anew"


@contextlib.contextmanager
def owning(out: Path, state: str, *others: str) -> Iterator[None]:
    """Makes the folder of a training, and keeps other runs away from it. Removes what killed runs left unfinished.

    Args:
        out: the folder.
        state: name of the file of the state; its lock is that of the folder.
        others: names of the other files that a run writes.

    Raises:
        TrainingError: another run writes to the folder.
        ResultsError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{out}: {error.strerror}; expected a folder that can be written") from error
    with writing(out / state, error=TrainingError):
        for name in (state, *others):
            remove_unfinished(out / name)
        yield


def keep(
    path: Path,
    *,
    settings: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    progress: Mapping[str, Any],
    clips: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Writes a state.

    Args:
        path: a .safetensors file.
        settings: of the training, as JSON types.
        fingerprint: everything else that the training depends on, as JSON types.
        groups: tensors by name, in groups such as "network".
        optimizer: its tensors are written, too.
        progress: of the training, as JSON types.
        clips: file name, labels and fold of every clip by the hash of its file. They only explain why another training
            is refused; the fingerprint decides.

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
            tensors[f"{_SLOTS}{index}.{name}"] = value.clone(memory_format=torch.contiguous_format)
    facts = {"format": _FORMAT, "settings": settings, "fingerprint": fingerprint, "progress": progress}
    facts["clips"] = {digest: list(of) for digest, of in (clips or {}).items()}
    facts["sha256"] = _digest(tensors, progress)
    data = save(tensors, {"training": json.dumps(facts)})
    with replacing(path) as file:
        file.write(data)


def restore(
    path: Path,
    kind: type[P],
    *,
    settings: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    clips: Mapping[str, Sequence[str]] | None = None,
) -> P:
    """Reads a state into the tensors of `groups` and the optimizer, and returns the progress.

    Nothing is changed unless the whole state fits.

    Args:
        path: a file of `keep`.
        kind: a dataclass, made from the progress.
        settings, fingerprint, groups, optimizer, clips: as for `keep`.

    Raises:
        TrainingError: the file is damaged, or belongs to another training.
    """
    if not os.path.isfile(path):
        raise TrainingError(f"{path}: not a regular file; {_REMEDY}")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("training", "{}")
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainingError(f"{path}: no state of a training ({error}); {_REMEDY}") from error
    found = parse_json(text, f"{path}: its metadata", error=TrainingError)
    mine = json.loads(json.dumps({"format": _FORMAT, "settings": settings, "fingerprint": fingerprint}))
    theirs = found if isinstance(found, dict) else {}
    if {name: theirs.get(name) for name in mine} != mine:
        raise TrainingError(f"{path} is of another training: {_differ(theirs, mine, clips or {})}; {_REMEDY}")
    digest = _digest(tensors, theirs.get("progress"))
    expected = {f"{group}.{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
    slots = _slots(path, {key: tensors.pop(key) for key in list(tensors) if key.startswith(_SLOTS)}, optimizer)
    _require_like(path, tensors, expected)
    if theirs.get("sha256") != digest:
        raise TrainingError(f"{path}: damaged: its sha256 is not the recorded one; {_REMEDY}")
    try:
        progress = kind(**theirs["progress"])
    except (TrainingError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: its progress is damaged ({error}); {_REMEDY}") from error
    with torch.no_grad():
        for key, tensor in expected.items():
            tensor.copy_(tensors[key])
    optimizer.load_state_dict(optimizer.state_dict() | {"state": slots})
    return progress


def _differ(theirs: Mapping[str, Any], mine: Mapping[str, Any], clips: Mapping[str, Sequence[str]]) -> str:
    """Returns what differs between two trainings, old → new, in one line."""
    old, now = ({**_mapping(of, "settings"), **_mapping(of, "fingerprint")} for of in (theirs, mine))
    differ = []
    for name in now:
        if old.get(name) == now[name]:
            continue
        of_lists = isinstance(old.get(name), list) and isinstance(now[name], list)
        if name == "clips" and (named := _clips_differ(_mapping(theirs, "clips"), clips)):
            differ += named
        elif name == "classes" and of_lists and set(map(str, old[name])) != set(now[name]):
            strangers = set(map(str, old[name])) - set(now[name])
            differ += _named("class", "classes", set(now[name]) - set(map(str, old[name])), "more")
            differ += _named("class", "classes", strangers, "fewer")
        elif name in ("clips", "weights"):  # hashes say nothing to a reader
            differ.append(f"other {name}")
        else:
            differ.append(f"{name} {shown(old.get(name))} → {shown(now[name])}")
    text = "; ".join(differ) or "its format"
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _clips_differ(old: Mapping[str, Any], now: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns which clips, by the hashes of their files, there are more or fewer, or have other labels or folds."""
    known = {key: of for key, of in old.items() if isinstance(of, list) and len(of) == 3}
    if not known:  # a state of an earlier version
        return []
    both = [key for key in now if key in known]
    # Lists: several clips can be parts of one file.
    relabelled = [str(now[key][0]) for key in both if known[key][1] != now[key][1]]
    moved = [str(now[key][0]) for key in both if known[key][1] == now[key][1] and known[key][2] != now[key][2]]
    found = _named("clip", "clips", [str(of[0]) for key, of in now.items() if key not in known], "more")
    found += _named("clip", "clips", [str(of[0]) for key, of in known.items() if key not in now], "fewer")
    return found + _named("clip", "clips", relabelled, "with other labels") + _named("clip", "clips", moved, "moved")


def _named(one: str, several: str, names: Collection[str], what: str) -> list[str]:
    """Returns such as ["2 clips more (a.wav, b.wav)"]; nothing for no name."""
    if not names:
        return []
    different = sorted(set(names))
    listed = ", ".join(printable(name) for name in different[:3])
    return [f"{counted(len(names), one, several)} {what} ({listed}{', …' if len(different) > 3 else ''})"]


def _mapping(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _digest(tensors: Mapping[str, Tensor], progress: object) -> str:
    """Returns a SHA-256 of what a training goes on with: a changed bit of a weight would show nowhere else."""
    found = hashlib.sha256(json.dumps(progress, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _slots(path: Path, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Returns the optimizer's tensors by the index of their parameter and their name."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = ["step", "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if optimizer.defaults.get("amsgrad") else [])]
    expected = {
        f"{_SLOTS}{index}.{name}": torch.zeros(()) if name == "step" else parameter
        for index, parameter in enumerate(parameters)
        for name in names
        # A parameter without a gradient so far has no tensors.
        if any(f"{_SLOTS}{index}.{other}" in tensors for other in names)
    }
    _require_like(path, tensors, expected)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        _, index, name = key.split(".")
        slots.setdefault(int(index), {})[name] = tensor
        if name != "exp_avg" and (tensor < 0).any():  # steps and squares
            raise TrainingError(f"{path}: {key} is below 0; {_REMEDY}")
    return slots


def _require_like(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Requires the names, shapes and types of `expected`, and finite numbers. `copy_` would broadcast and convert."""
    wrong = [f"{key} is missing" for key in sorted(expected.keys() - tensors.keys())]
    wrong += [f"{shown(key)} is unknown" for key in sorted(tensors.keys() - expected.keys())]
    for key, like in expected.items():
        tensor = tensors.get(key, like)
        if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            wrong.append(f"{key} {tuple(tensor.shape)} {tensor.dtype} instead of {tuple(like.shape)} {like.dtype}")
        elif not torch.isfinite(tensor).all():
            wrong.append(f"{key} holds NaN or Inf")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise TrainingError(f"{path}: {'; '.join(wrong[:3])}{more}; {_REMEDY}")


def require_counts(progress: Any, *names: str) -> None:
    """Checks that fields of a progress are whole numbers ≥ 0 and that `history` is a list of rows.

    Raises:
        TrainingError: one is not.
    """
    for name in names:
        value = getattr(progress, name)
        if type(value) is not int or value < 0:
            raise TrainingError(f"{name} {shown(value)}; expected a whole number ≥ 0")
    rows = progress.history
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TrainingError(f"history {shown(rows)}; expected a list of rows")


def is_finite(value: object) -> bool:
    """Returns whether a value of a progress is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


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
