"""Weights in every wrapping that training tools write: found by the network's names, or refused with the reason."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from panns_litert.bundle import MANIFEST, MODEL_CARD, Bundle
from panns_litert.errors import CheckpointError
from panns_litert_convert.checkpoints import load_weights
from panns_litert_convert.convert import convert
from panns_litert_convert.zoo import asset, find

DEMO = find("demo")
SMALL = replace(DEMO, name="small", options={"channels": (2, 2, 2, 2, 2, 4)})
OPTIMIZER = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(3, 3)}}, "param_groups": [{"lr": 1e-3}]}

State = dict[str, Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def other(state: State) -> State:
    """The same network with other weights."""
    return {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def lightning(state: State) -> dict[str, Any]:
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.1",
        "state_dict": prefixed(state, "model.")
        | {"criterion.pos_weight": torch.ones(22), "train_acc.tp": torch.ones(2)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'map'}": {"best_model_score": torch.tensor(0.5), "best_model_path": "x"}
        },
        "optimizer_states": [OPTIMIZER],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-3, "classes": ["a", "b"]},
    }


def compiled_inside(state: State) -> State:
    """torch.compile of a single block puts its part into the middle of names."""
    return {key.replace("conv_block1.", "conv_block1._orig_mod."): tensor for key, tensor in state.items()}


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "OrderedDict": OrderedDict,
    "model": lambda s: {"model": s},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": OPTIMIZER, "loss": torch.tensor(0.1)},
    "net": lambda s: {"net": s, "args": argparse.Namespace(lr=1e-3, out=Path("runs"))},
    "any name": lambda s: {"weights of the student": s},
    "DataParallel": lambda s: prefixed(s, "module."),
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "a compiled block": compiled_inside,
    "model.": lambda s: prefixed(s, "model."),
    "net.": lambda s: prefixed(s, "net."),
    "network.": lambda s: prefixed(s, "network."),
    "backbone.": lambda s: prefixed(s, "backbone."),
    "prefixes of prefixes": lambda s: {"model": prefixed(s, "module._orig_mod.tagger.net.")},
    "Lightning": lightning,
    "Lightning and torch.compile": lambda s: lightning(prefixed(s, "_orig_mod.")),
    "EMA beside": lambda s: {"model": other(s), "ema": s, "optimizer": OPTIMIZER},
    "EMA in a state dict": lambda s: {"state_dict": other(s), "ema_state_dict": {"module": s, "updates": 9}},
    "EMA under a prefix": lambda s: {"state_dict": prefixed(other(s), "model.") | prefixed(s, "ema_model.module.")},
    "model_ema": lambda s: {"model": other(s), "model_ema": prefixed(s, "module.")},
    "AveragedModel": lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(5)},
    "the same weights twice": lambda s: {"best": s, "last": s},
    "containers in containers": lambda s: {"checkpoint": {"trainer": {"state": {"network": prefixed(s, "module.")}}}},
    "without counters": lambda s: {key: tensor for key, tensor in s.items() if not key.endswith("num_batches_tracked")},
    "numbers beside tensors": lambda s: s | {"epoch": 3, "name": "best"},
}


@pytest.fixture(scope="module")
def state() -> State:
    return load_file(asset("demo_checkpoint.safetensors"))


@pytest.fixture(scope="module")
def plain(state: State, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return converted(state, tmp_path_factory.mktemp("plain"))


def converted(data: Any, folder: Path, name: str = "weights.pt") -> Bundle:
    folder.mkdir(exist_ok=True)
    (save_file if name.endswith(".safetensors") else torch.save)(data, folder / name)
    return convert("demo", checkpoint=folder / name, seconds=1.0, out=folder / "bundle")


def content(bundle: Bundle) -> dict[str, Any]:
    """A bundle's files without what is different on purpose: name and hash of the checkpoint, and what shows them."""
    files = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    manifest = json.loads(files.pop(MANIFEST))
    del files[MODEL_CARD], manifest["files"][MODEL_CARD]
    for field in ("file", "sha256"):
        del manifest["source"][field]
    return files | manifest


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_wrapped_checkpoint_gives_the_same_weights(name: str, state: State, tmp_path: Path) -> None:
    torch.save(WRAPPINGS[name](state), tmp_path / "w.pt")
    network = find("demo").build()
    load_weights(network, tmp_path / "w.pt", find("demo"))
    found = network.state_dict()
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):  # a counter of the training
            assert torch.equal(found[key], tensor), key


# A conversion takes long, and what it is given is compared above: one of every mechanism.
CONVERTED = ("a compiled block", "prefixes of prefixes", "Lightning and torch.compile", "EMA under a prefix")


@pytest.mark.parametrize("name", CONVERTED)
def test_a_wrapped_checkpoint_gives_the_same_bundle(name: str, state: State, plain: Bundle, tmp_path: Path) -> None:
    bundle = converted(WRAPPINGS[name](state), tmp_path)
    assert content(bundle) == content(plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_safetensors(dtype: torch.dtype, state: State, tmp_path: Path) -> None:
    """As Accelerate writes it; the bundle is that of the rounded weights."""
    half = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    rounded = {key: tensor.to(state[key].dtype) for key, tensor in half.items()}
    (tmp_path / "wrapped").mkdir()
    wrapped = converted(prefixed(half, "model."), tmp_path / "wrapped", "model.safetensors")
    exact = converted(rounded, tmp_path / "exact", "model.safetensors")
    assert content(wrapped) == content(exact)


# --- a small network, to try many


def small_state() -> State:
    torch.manual_seed(5)
    return {
        key: torch.rand_like(tensor) + 0.5 if tensor.is_floating_point() else tensor + 3
        for key, tensor in SMALL.build().state_dict().items()
    }


def loaded(data: Any, folder: Path, name: str = "w.ckpt") -> State:
    torch.save(data, folder / name)
    network = SMALL.build()
    load_weights(network, folder / name, SMALL)
    return network.state_dict()


def refusal(data: Any, folder: Path, name: str = "w.ckpt") -> str:
    with pytest.raises(CheckpointError) as caught:
        loaded(data, folder, name)
    message = str(caught.value)
    assert message.isprintable()
    return message


NAMES = st.sampled_from(["module", "_orig_mod", "model", "net", "tagger", "a b", "0", "é", "conv1", "fc1"])
KEYS = st.sampled_from(["state_dict", "model", "net", "model_state_dict", "checkpoint", "conv1", "x", ""])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefix=st.lists(NAMES, max_size=4),
    containers=st.lists(KEYS, max_size=5),
    beside=st.lists(st.sampled_from(["optimizer", "step", "text", "list"]), max_size=3),
)
def test_random_wrappings(tmp_path: Path, prefix: list[str], containers: list[str], beside: list[str]) -> None:
    values = {"optimizer": OPTIMIZER, "step": 3, "text": "model", "list": [torch.ones(2)]}
    data: Any = prefixed(small_state(), "".join(f"{name}." for name in prefix))
    for container in containers:
        data = {container: data} | {name: values[name] for name in beside}
    found = loaded(data, tmp_path)
    for key, tensor in small_state().items():
        assert torch.equal(found[key], tensor), key


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    data: dict[str, Any] = {"net": small_state(), "loss": {"weight": torch.ones(2)}}
    data |= {f"self {i}": data for i in range(9)}
    found = loaded(data, tmp_path)
    assert all(torch.equal(found[key], tensor) for key, tensor in small_state().items())


def test_which_weights_were_taken_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = small_state()
    with caplog.at_level(logging.WARNING):
        loaded({"model": other(state), "ema": prefixed(state, "module.")}, tmp_path)
        loaded(lightning(state), tmp_path)
        buffers = {key: tensor for key, tensor in state.items() if "running" not in key}
        found = loaded({"state_dict": prefixed(state, "model.") | prefixed(other(buffers), "ema.")}, tmp_path)
        shadow = {"decay": 0.9, "shadow_params": list(other(buffers).values())}
        found_beside_list = loaded({"model": state, "ema": shadow, "average_loss": [torch.ones(1)]}, tmp_path)
    taken, left_out, partial, listed = (record.getMessage() for record in caplog.records)
    assert "the average in ema.shadow_params is not used: a list of tensors without names" in listed
    assert all(torch.equal(found_beside_list[key], tensor) for key, tensor in state.items())
    assert "took the average of weights in ema.*, not model.*" in taken
    assert "of training alone, left out: criterion.pos_weight" in left_out
    assert "train_acc.tp" in left_out
    assert "the average in state_dict.ema.* is not used: 26 of" in partial
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())
    caplog.clear()
    loaded({"state_dict": prefixed(state, "module.")}, tmp_path)
    assert not caplog.records


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "two networks": (
        lambda s: prefixed(s, "student.") | prefixed(other(s), "teacher."),
        "2 networks of this kind with different weights: student.*, teacher.*; expected one",
    ),
    "two averages": (
        lambda s: {"ema": s, "swa": other(s)},
        "2 networks of this kind with different weights: ema.*, swa.*",
    ),
    "a second head": (lambda s: prefixed(s, "model.") | {"head.weight": torch.ones(3, 22)}, "unknown head.weight"),
    "a head saved apart": (
        lambda s: {"backbone": s, "head": {"weight": torch.ones(3, 22), "bias": torch.ones(3)}},
        "unknown head.bias, head.weight",
    ),
    "a head beside": (lambda s: {"model": s, "head.weight": torch.ones(3, 22)}, "unknown head.weight"),
    "one more layer": (lambda s: s | {"fc2.weight": torch.ones(4, 4)}, "unknown fc2.weight"),
    "a layer of the network twice": (
        lambda s: prefixed(s, "model.") | {"fc1.weight": torch.ones(4, 4)},
        "unknown fc1.weight (beside model.*)",
    ),
    "half of the network": (
        lambda s: {"state_dict": {key: s[key] for key in [*s][: len(s) // 2]}},
        "missing conv_block",
    ),
    "a sparse weight": (lambda s: s | {"fc1.weight": s["fc1.weight"].to_sparse()}, "fc1.weight without plain numbers"),
    "a quantized weight": (lambda s: {"net": s | {"fc1.weight": s["fc1.weight"].to(torch.int8)}}, "not quantized ones"),
    "another number of classes": (
        lambda s: s | {"fc_audioset.weight": torch.ones(3, 4), "fc_audioset.bias": torch.ones(3)},
        "its last layer has 3 outputs, not 22; expected the names of its classes: pass --classes FILE to convert",
    ),
    "names that a terminal would obey": (
        lambda s: s | {"\x1b[31m\u202efc\n": torch.ones(2)},
        r"unknown '\x1b[31m\u202efc\n'",
    ),
    "a list of tensors": (lambda s: [*s.values()], "holds no state dict"),
    "an optimizer alone": (lambda s: {"optimizer": OPTIMIZER}, "not the weights of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    wrap, message = REFUSED[name]
    assert message in refusal(wrap(small_state()), tmp_path)


def test_a_file_name_that_a_terminal_would_obey(tmp_path: Path) -> None:
    assert r"\x1b[31m" in refusal({}, tmp_path, "\x1b[31mweights\n.pt")
    assert r"\x1b[31m" in refusal(nn.Linear(2, 2), tmp_path, "\x1b[31mweights.pt")


# --- code


def test_a_pickled_network_is_refused_with_the_lines_that_convert_it(tmp_path: Path, state: State) -> None:
    """The lines in the message are run, as its reader would do."""
    network = DEMO.build()
    network.load_state_dict(state)
    for data in (network, {"model": network, "epoch": 3}):
        message = code_refusal(data, tmp_path)
        assert "panns_litert_convert.networks.cnn14.Cnn14" in message
    torch.save(network, tmp_path / "network.pt")
    run_lines(code_refusal(network, tmp_path), tmp_path)
    converted_state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(torch.equal(converted_state[key], tensor) for key, tensor in state.items())


def test_torchscript_is_refused_with_the_lines_that_convert_it(tmp_path: Path) -> None:
    script = torch.jit.script(nn.Linear(2, 2))
    torch.jit.save(script, tmp_path / "network.pt")
    message = code_refusal(None, tmp_path)
    assert "a TorchScript archive, which holds code" in message
    run_lines(message, tmp_path)
    assert set(torch.load(tmp_path / "weights.pt", weights_only=True)) == {"weight", "bias"}


def code_refusal(data: Any, folder: Path) -> str:
    if data is not None:
        torch.save(data, folder / "network.pt")
    network = SMALL.build()
    with pytest.raises(CheckpointError, match="holds code") as caught:
        load_weights(network, folder / "network.pt", SMALL)
    return str(caught.value)


def run_lines(message: str, folder: Path) -> None:
    first, second = message.split("`")[1::2]
    here = Path.cwd()
    os.chdir(folder)
    try:
        exec(f"import torch\n{first}\n{second}", {})
    finally:
        os.chdir(here)
