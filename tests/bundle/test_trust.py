"""A bundle from elsewhere is not trusted with the process: altered models with consistent hashes."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support import edited_graph, rehash, run_python

from panns_litert import Tagger
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle
from panns_litert.errors import BundleError

Copy = Callable[[Bundle], Path]
MODEL = "demo_synthetic_fp16.tflite"
KINDS = """
    remove swap twice input output no-input no-output opcode code custom options no-options shape type scale buffer
    graph-output graph-input bytes axis value
"""


def inside(model: Any, data: bytes) -> None:
    """Moves buffers that lie behind the flatbuffer into it, because `edited_graph` writes only the flatbuffer."""
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(data[buffer.offset : buffer.offset + buffer.size], np.uint8)
            buffer.offset = buffer.size = 0


def mutate(model: Any, rng: random.Random) -> str:
    """Makes one change that leaves a valid flatbuffer. Returns its name."""
    graph = model.subgraphs[0]
    operators, tensors = graph.operators, graph.tensors
    for owner in (graph, *operators):  # read-only arrays
        owner.inputs, owner.outputs = [int(i) for i in owner.inputs], [int(i) for i in owner.outputs]
    i, j = rng.randrange(len(operators)), rng.randrange(len(operators))
    operator = operators[i]
    tensor = tensors[rng.randrange(len(tensors))]
    anywhere = rng.choice((-2, -1, 0, len(tensors) - 1, len(tensors), 2**31 - 1, rng.randrange(len(tensors))))
    kind = rng.choice(KINDS.split())
    if kind == "remove":
        del operators[i]
    elif kind == "swap":
        operators[i], operators[j] = operators[j], operators[i]
    elif kind == "twice":
        operators.insert(j, operator)
    elif kind == "input":
        operator.inputs[rng.randrange(len(operator.inputs))] = anywhere
    elif kind == "output":
        operator.outputs[0] = anywhere
    elif kind == "no-input":
        operator.inputs = operator.inputs[:-1]
    elif kind == "no-output":
        operator.outputs = operator.outputs[:-1]
    elif kind == "opcode":
        operator.opcodeIndex = rng.randrange(len(model.operatorCodes) + 1)
    elif kind == "code":
        code = rng.choice(model.operatorCodes)
        code.builtinCode = rng.randrange(210)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif kind == "custom":
        code = rng.choice(model.operatorCodes)
        code.customCode, code.builtinCode, code.deprecatedBuiltinCode = "TFLite_Detection_PostProcess", 32, 32
    elif kind == "options" and operator.builtinOptions is not None:
        names = [name for name, value in vars(operator.builtinOptions).items() if isinstance(value, int)]
        if names:
            setattr(operator.builtinOptions, rng.choice(names), rng.choice((-1, 0, 1, 2, 3, 7, 100)))
    elif kind == "no-options":
        operator.builtinOptions, operator.builtinOptionsType = None, 0
    elif kind == "shape" and len(tensor.shape):
        tensor.shape = list(tensor.shape)
        tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice((-1, 0, 1, 2, 5, 1000, 2**31 - 1))
    elif kind == "type":
        tensor.type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 17))
    elif kind == "scale":
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = [rng.choice((0.5, 0.0, -1.0, float("nan"), 1e38))] * rng.choice((1, 2, 64))
        tensor.quantization.zeroPoint = [rng.choice((0, 1, 300, -(2**40)))] * len(tensor.quantization.scale)
        tensor.quantization.quantizedDimension = rng.choice((0, 1, 3, 9, -1))
    elif kind == "buffer":
        tensor.buffer = rng.choice((0, 1, len(model.buffers) - 1, len(model.buffers), 2**31))
    elif kind == "graph-output":
        graph.outputs[0] = anywhere
    elif kind == "graph-input":
        graph.inputs[0] = anywhere
    else:
        full = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data)]
        buffer = rng.choice(full)
        buffer.data = np.array(buffer.data)
        if kind == "bytes":
            buffer.data = buffer.data[: rng.randrange(len(buffer.data))]
        elif kind == "axis":  # small constants are axes, shapes and paddings
            buffer = min(full, key=lambda item: (len(item.data), rng.random()))
            buffer.data = np.array([rng.choice((-100, -1, 3, 5, 1 << 20))] * (len(buffer.data) // 4), "<i4").view("u1")
        else:
            buffer.data[:] = 0xFF
    return kind


def altered(source: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    """Changes the model of a copied bundle, with a consistent hash."""
    data = (source / MODEL).read_bytes()

    def edit(model: Any) -> None:
        inside(model, data)
        change(model)

    edited_graph(source / MODEL, folder / MODEL, edit)
    rehash(folder, MODEL)
    return folder


def operator(model: Any, name: str) -> Any:
    """Returns the first operator of a kind."""
    code = getattr(schema.BuiltinOperator, name)
    return next(
        item for item in model.subgraphs[0].operators if model.operatorCodes[item.opcodeIndex].builtinCode == code
    )


def custom(model: Any) -> None:
    code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
    code.customCode, code.builtinCode, code.deprecatedBuiltinCode = "TFLite_Detection_PostProcess", 32, 32


def first_input(index: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        operator(model, "CONV_2D").inputs = [index, *list(operator(model, "CONV_2D").inputs)[1:]]

    return change


def swapped(model: Any) -> None:
    operators = model.subgraphs[0].operators
    operators[-1], operators[-2] = operators[-2], operators[-1]


def stride_0(model: Any) -> None:
    operator(model, "CONV_2D").builtinOptions.strideW = 0


def no_options(model: Any) -> None:
    item = operator(model, "CONV_2D")
    item.builtinOptions, item.builtinOptionsType = None, 0


def half_scales(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[operator(model, "CONV_2D").inputs[1]]
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5, 0.5], [0, 0]


def huge(model: Any) -> None:
    model.subgraphs[0].tensors[operator(model, "CONV_2D").outputs[0]].shape = [1, 2**30, 2**30, 64]


def variable(model: Any) -> None:
    model.subgraphs[0].tensors[operator(model, "CONV_2D").outputs[0]].isVariable = True


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "removed": (lambda model: model.subgraphs[0].operators.pop(2), "nothing wrote before"),
    "swapped": (swapped, "nothing wrote before"),
    "custom": (custom, "is custom"),
    "input -1": (first_input(-1), "reads tensor -1"),
    "input out of range": (first_input(10**6), "reads tensor 1000000"),
    "stride 0": (stride_0, "StrideW 0"),
    "no options": (no_options, "expected Conv2DOptions"),
    "scales": (half_scales, "2 scales"),
    "huge": (huge, "bytes in buffer"),
    "variable": (variable, "variable"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_graph_that_would_crash_is_refused_before_litert_sees_it(tmp_path: Path, copy_of: Copy, kind: str) -> None:
    change, message = CHANGES[kind]
    folder = altered(demo_bundle(), copy_of(Bundle(demo_bundle())), change)
    with pytest.raises(BundleError, match=f"LiteRT cannot load it .*{message}") as caught:
        Bundle(folder)
    assert str(caught.value).isprintable()


def test_altered_models_never_end_the_process(tmp_path: Path) -> None:
    """20 changes of the kinds of `mutate`, in a process of their own; a model that is tried costs a second."""
    code = """
import random, shutil, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_trust import altered, mutate
from panns_litert import Tagger
from panns_litert.demo import demo_bundle
from panns_litert.errors import PannsLitertError
sound = (0.2 * np.random.default_rng(0).standard_normal(320000)).astype(np.float32)
for seed in range(20):
    folder = Path(sys.argv[1]) / str(seed)
    shutil.copytree(demo_bundle(), folder)
    try:
        altered(demo_bundle(), folder, lambda model: mutate(model, random.Random(seed)))
    except Exception:  # the flatbuffer cannot hold the change
        print("unpackable")
        continue
    try:
        with Tagger(folder, threads=2) as tagger:
            probs = tagger.tag(sound, sample_rate=32000).probs
        assert 0 <= probs.min() and probs.max() <= 1
        print("ran")
    except PannsLitertError as error:
        assert str(error).isprintable(), seed
        print("refused")
"""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        result = run_python(code, tmp_path, paths[0], check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = result.stdout.split()
    assert len(lines) == 20
    assert lines.count("refused") > 5


def test_an_unknown_model_is_tried_once(
    copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("PANNS_LITERT_CACHE", str(tmp_path / "cache"))
    folder = copy_of(Bundle(demo_bundle()))
    marks = tmp_path / "cache" / "tried"
    Bundle(demo_bundle())
    assert not marks.exists()  # the demo ships with this package
    Bundle(folder)
    assert [path.name for path in marks.rglob("?" * 64)] == [Bundle(folder).manifest.model_sha256]
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    Bundle(folder)  # no other child is started
    monkeypatch.setenv("PANNS_LITERT_CACHE", "/proc/nowhere")
    with pytest.raises(BundleError, match="cannot be started"):
        Bundle(folder)


def test_a_model_that_crashes_litert_ends_only_the_child(
    copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child that tries the model dies by a signal. Which file does that depends on the version of LiteRT."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'panns_litert.bundle.trial' in sys.orig_argv: os.kill(os.getpid(), 11)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # the child has this process's path
    monkeypatch.setenv("PANNS_LITERT_CACHE", str(tmp_path / "cache"))
    folder = copy_of(Bundle(demo_bundle()))
    with pytest.raises(BundleError, match=r"cannot run it \(the process crashed with SIGSEGV\); convert it again"):
        Bundle(folder)
    assert not (tmp_path / "cache" / "tried").exists()


def test_an_open_bundle_that_is_overwritten_stays_the_same(copy_of: Copy) -> None:
    folder = copy_of(Bundle(demo_bundle()))
    sound = (0.2 * np.random.default_rng(0).standard_normal(320000)).astype(np.float32)
    with Tagger(folder, threads=1) as tagger:
        before = tagger.tag(sound, sample_rate=32000).probs
        with (folder / MODEL).open("r+b") as file:
            file.write(bytes(600_000))
            file.truncate(4096)
        np.testing.assert_array_equal(tagger.tag(sound, sample_rate=32000).probs, before)


def test_a_model_that_is_replaced_before_its_engine_opens_is_the_checked_one(copy_of: Copy) -> None:
    folder = copy_of(Bundle(demo_bundle()))
    bundle = Bundle(folder)
    (folder / MODEL).write_bytes(b"something else")
    Tagger(bundle).close()
