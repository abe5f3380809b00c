"""fp16 audit: tensors that overflow, flush or are not finite are found, named and ranked; others are ok."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import edited_graph, run_python
from torch import Tensor, nn

from panns_litert.audio import load_audio
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.errors import BundleError
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert.proof import FP16_MAX, FP16_SMALLEST_NORMAL, TensorRange, audit_fp16
from panns_litert_convert.export import cast_fp16, export_fp32

Build = Callable[..., Path]
SHAPE = (1, 1, 64, 64)


class Graph(nn.Module):
    """Makes a function or a module into one that the exporter takes: it returns a dict of tensors."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.function(x)}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Exports a function of one input, "x", to a folder of its own."""

    def build(function: Callable[[Tensor], Tensor], shape: tuple[int, ...] = SHAPE, *, fp16: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("audit")
        fp32 = folder / "fp32.tflite"
        export_fp32(Graph(function).eval(), {"x": torch.ones(shape)}, fp32, log=folder / "log")
        if fp16:
            cast_fp16(fp32, folder / "fp16.tflite", log=folder / "log")
        return folder / ("fp16.tflite" if fp16 else "fp32.tflite")

    return build


def full(value: float, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.full(shape, value, np.float32)


def noise(shape: tuple[int, ...] = SHAPE, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def audit(path: Path, *inputs: NDArray[np.float32]) -> list[TensorRange]:
    return audit_fp16(path, [{"x": values} for values in inputs])


def made_by(ranges: list[TensorRange], op: str) -> TensorRange:
    (found,) = (r for r in ranges if r.op == op)
    return found


# --- verdicts -----------------------------------------------------------------------------------------


def test_an_intermediate_that_overflows_is_first(build: Build) -> None:
    """The output is small again: only the tensor before it overflows."""
    ranges = audit(build(lambda x: torch.tanh(torch.exp(x))), full(12.0))
    assert (ranges[0].op, ranges[0].verdict, ranges[0].index) == ("EXP", "overflows", 0)
    assert ranges[0].max_abs == pytest.approx(np.exp(12.0))
    assert ranges[0].headroom == pytest.approx(FP16_MAX / np.exp(12.0))
    assert [r.verdict for r in ranges[1:]] == ["ok"] * (len(ranges) - 1)
    assert made_by(ranges, "TANH").max_abs == 1.0


def test_the_largest_float16_is_no_overflow(build: Build) -> None:
    path = build(lambda x: x * 1.0 + 0.0 * x)
    assert audit(path, full(FP16_MAX))[0].verdict == "ok"
    assert audit(path, full(-np.nextafter(np.float32(FP16_MAX), np.float32(np.inf))))[0].verdict == "overflows"


def test_every_input_counts(build: Build) -> None:
    path = build(torch.exp)
    for inputs in ((full(12.0), full(0.0)), (full(0.0), full(12.0))):
        assert made_by(audit(path, *inputs), "EXP").max_abs == pytest.approx(np.exp(12.0))
    half_tiny = made_by(audit(path, full(-12.0), full(0.0)), "EXP")
    assert (half_tiny.tiny_share, half_tiny.verdict) == (0.5, "flushes")


def test_tiny_values_flush(build: Build) -> None:
    values = full(1.0).ravel()
    values[: values.size // 4] = -FP16_SMALLEST_NORMAL / 2
    values[-8:] = 0.0  # exact in float16
    values[-16:-8] = FP16_SMALLEST_NORMAL
    ranges = audit(build(lambda x: x * 2.0 - x), values.reshape(SHAPE))
    tiny = next(r for r in ranges if r.op == "input")
    assert (tiny.verdict, tiny.tiny_share, tiny.max_abs) == ("flushes", 0.25, 1.0)
    values[100 : values.size // 4] = 1.0
    few = next(r for r in audit(build(lambda x: x * 2.0 - x), values.reshape(SHAPE)) if r.op == "input")
    assert (few.verdict, few.tiny_share) == ("ok", 100 / values.size)


@pytest.mark.parametrize("value", [-1.0, 0.0])  # the logarithm is NaN, -Inf
def test_nan_and_inf_come_before_all(build: Build, value: float) -> None:
    values = full(1e6)
    values[0, 0, 3, 4] = value
    ranges = audit(build(lambda x: torch.exp(torch.log(x))), values)
    logarithm = ranges[0]
    assert logarithm.op == "LOG"
    assert (logarithm.verdict, logarithm.headroom) == ("not finite", 0.0)
    assert logarithm.max_abs == pytest.approx(np.log(1e6))  # of the finite ones
    exponential = made_by(ranges, "EXP")  # e^NaN is NaN, e^-Inf is 0
    assert exponential.verdict == ("not finite" if value < 0 else "overflows")
    assert made_by(ranges, "input").verdict == "overflows"


def test_ranked_by_verdict_then_headroom(build: Build) -> None:
    def graph(x: Tensor) -> Tensor:
        small, large = x[:, :, :32] * 1e-7, x[:, :, 32:] * 3e4
        return torch.cat([torch.tanh(small), torch.exp(x[:, :, :32]), large * 8.0], dim=2)

    ranges = audit(build(graph), full(1.0))
    rank = ["not finite", "overflows", "flushes", "ok"]
    order = [(rank.index(r.verdict), r.headroom) for r in ranges]
    assert order == sorted(order)
    assert {r.verdict for r in ranges} == {"overflows", "flushes", "ok"}


# --- running totals -----------------------------------------------------------------------------------

REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "mean, negative axes": lambda x: x.mean((-1, -2), keepdim=True),
    "mean of all": lambda x: x.mean(),
    "global pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "pool": lambda x: F.avg_pool2d(x, 64),
    "sum and scale": lambda x: x.sum((2, 3)) / 4096,
    "scaled sum": lambda x: torch.sum(x, dim=(2, 3)) * (1 / 4096),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_sum_overflows_before_its_mean(build: Build, name: str) -> None:
    path = build(REDUCTIONS[name])
    ranges = audit(path, full(100.0))
    assert (ranges[0].op in ("MEAN", "SUM", "AVERAGE_POOL_2D"), ranges[0].verdict) == (True, "overflows")
    assert ranges[0].running_total == pytest.approx(409600.0)
    assert ranges[0].headroom == pytest.approx(FP16_MAX / 409600)
    assert audit(path, full(10.0))[0].verdict == "ok"


@pytest.mark.parametrize("name", ["mean", "pool", "global pool", "sum and scale"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_total_that_cancels_still_passes_its_peak(build: Build, name: str, sign: float) -> None:
    values = full(100.0 * sign)
    values[:, :, 32:] *= -1
    ranges = audit(build(REDUCTIONS[name]), values)
    assert ranges[0].verdict == "overflows"
    assert ranges[0].running_total == pytest.approx(204800.0)
    assert ranges[0].max_abs == 0.0


@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 3), (1, 2, 3)])
def test_running_totals_are_numpys(build: Build, axes: tuple[int, ...]) -> None:
    values = noise((1, 3, 5, 7))
    kept = [axis for axis in range(4) if axis not in axes]
    rows = np.transpose(values.astype(np.float64), (*kept, *axes))
    rows = rows.reshape(*rows.shape[: len(kept)], -1)
    want = max(abs(sum(row[: n + 1])) for row in rows.reshape(-1, rows.shape[-1]) for n in range(rows.shape[-1]))
    got = made_by(audit(build(lambda x: x.mean(axes), values.shape), values), "MEAN")
    assert got.running_total == pytest.approx(want, rel=1e-12)
    assert got.max_abs == pytest.approx(np.abs(values.mean(axes)).max(), rel=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (1, 3)), ((5, 4), (1, 1))])
@pytest.mark.parametrize("same", [False, True])
def test_running_totals_of_pools_are_numpys(
    build: Build, tmp_path: Path, kernel: tuple[int, int], stride: tuple[int, int], same: bool
) -> None:
    values = noise((1, 2, 11, 12))
    path = build(nn.AvgPool2d(kernel, stride), values.shape)
    padded = values.astype(np.float64)
    if same:  # the converter writes SAME only for some pools, so the file is edited
        path = edited_graph(path, tmp_path / "same.tflite", pad_pools)
        pads = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip((11, 12), kernel, stride, strict=True)]
        padded = np.pad(padded, [(0, 0), (0, 0), *((pad // 2, pad - pad // 2) for pad in pads)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    got = made_by(audit(path, values), "AVERAGE_POOL_2D")
    assert got.shape == (1, *windows.shape[2:4], 2)
    assert got.running_total == pytest.approx(np.abs(windows.reshape(-1, np.prod(kernel)).cumsum(1)).max(), rel=1e-12)


def pad_pools(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for operator in model.subgraphs[0].operators:
        if isinstance(operator.builtinOptions, schema.Pool2DOptionsT):
            operator.builtinOptions.padding = schema.Padding.SAME


def test_a_total_of_what_is_finite(build: Build) -> None:
    values = full(100.0)
    values[0, 0, 0, 0] = np.inf
    mean = made_by(audit(build(REDUCTIONS["mean"]), values), "MEAN")
    assert (mean.verdict, mean.running_total) == ("not finite", 409500.0)


def test_only_reductions_have_a_total(build: Build) -> None:
    ranges = audit(build(lambda x: F.relu(x.cumsum(2)).amax(3) + 1.0), noise())
    assert {r.op for r in ranges} >= {"CUMSUM", "REDUCE_MAX", "input"}
    assert all(r.running_total is None for r in ranges)


# --- figures ------------------------------------------------------------------------------------------


class Small(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(6 * 7 * 7, 5),
        )


def test_figures_are_pytorchs(build: Build) -> None:
    network, inputs = Small(), [noise((1, 1, 16, 16), seed=seed) for seed in range(3)]
    seen: dict[nn.Module, list[Tensor]] = {}
    for layer in network:
        layer.register_forward_hook(lambda layer, _, out: seen.setdefault(layer, []).append(out.detach()))
    with torch.inference_mode():
        for values in inputs:
            network(torch.from_numpy(values))
    wanted = {layer: torch.cat(outs).abs().max().item() for layer, outs in seen.items()}
    fresh = Small()
    fresh.load_state_dict(network.state_dict())
    ranges = audit(build(fresh, (1, 1, 16, 16)), *inputs)
    layers = sorted((r for r in ranges if r.index >= 0), key=lambda r: r.index)
    ops = ["DEPTHWISE_CONV_2D", "TANH", "CONV_2D", "LOGISTIC", "FULLY_CONNECTED"]
    assert [r.op for r in layers] == ops
    for got, layer in zip(layers, [network[i] for i in (0, 1, 2, 3, 5)], strict=True):
        assert got.max_abs == pytest.approx(wanted[layer], rel=1e-5)
    constants = sorted(r.max_abs for r in ranges if r.op == "constant")
    assert constants == pytest.approx(sorted(p.abs().max().item() for p in network.parameters()))
    assert made_by(ranges, "input").max_abs == max(np.abs(values).max() for values in inputs)


def test_elementwise_chains_keep_every_value(build: Build) -> None:
    """LiteRT may run such operators in place. Then an earlier tensor would show a later value."""
    values = noise()
    ranges = audit(build(lambda x: torch.exp(torch.abs(torch.sin(x) * 3.0) - 1.0)), values)
    steps = [np.sin(values)]
    steps.append(steps[-1] * 3)
    steps.append(np.abs(steps[-1]))
    steps.append(steps[-1] - 1)
    steps.append(np.exp(steps[-1]))
    layers = sorted((r for r in ranges if r.index >= 0), key=lambda r: r.index)
    assert [r.max_abs for r in layers] == pytest.approx([np.abs(step).max() for step in steps], rel=1e-5)


def test_float16_weights_change_little_and_appear_once(build: Build) -> None:
    values = noise((1, 1, 16, 16))
    listed = [audit(build(Small(), values.shape, fp16=fp16), values) for fp16 in (False, True)]
    layers = [sorted((r for r in ranges if r.index >= 0), key=lambda r: r.index) for ranges in listed]
    assert [(r.tensor, r.op, r.shape) for r in layers[0]] == [(r.tensor, r.op, r.shape) for r in layers[1]]
    assert [r.max_abs for r in layers[0]] == pytest.approx([r.max_abs for r in layers[1]], rel=1e-2)
    constants = [sorted((r.shape, r.max_abs) for r in ranges if r.op == "constant") for ranges in listed]
    assert [shape for shape, _ in constants[0]] == [shape for shape, _ in constants[1]]
    assert [v for _, v in constants[0]] == pytest.approx([v for _, v in constants[1]], rel=1e-3)


def test_data_movement_is_left_out(build: Build) -> None:
    ranges = audit(build(lambda x: torch.cat([F.pad(x.transpose(2, 3)[:, :, 3:], (1, 1)) * 2.0] * 2, 1)), noise())
    assert {r.op for r in ranges} == {"input", "constant", "MUL"}


def linear(width: int) -> nn.Linear:
    layer = nn.Linear(width, width, bias=False)
    nn.init.eye_(layer.weight)
    with torch.no_grad():
        layer.weight[0, 1] = 7e4
    return layer


def test_a_weight_that_float16_does_not_hold(build: Build) -> None:
    weight = made_by(audit(build(linear(64)), full(0.0)), "constant")
    assert (weight.verdict, weight.max_abs, weight.shape, weight.index) == ("overflows", 7e4, (64, 64), -1)
    # Cast to float16, the weight is Inf in the file itself.
    assert made_by(audit(build(linear(64), fp16=True), full(0.0)), "constant").verdict == "not finite"


@pytest.fixture(scope="module")
def bias_free(build: Build) -> Path:
    torch.manual_seed(1)
    return build(nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.AvgPool2d(2), nn.Conv2d(3, 2, 3, bias=False)))


@given(k=st.integers(-20, 20), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_a_linear_graph_scales(bias_free: Path, k: int, seed: int) -> None:
    values = noise(seed=seed)
    plain, scaled = (
        {r.tensor: r for r in audit(bias_free, values * np.float32(scale)) if r.op != "constant"}
        for scale in (1.0, 2.0**k)
    )
    assert plain.keys() == scaled.keys()
    assert len(plain) == 4
    for name, before in plain.items():
        after = scaled[name]
        assert after.max_abs == before.max_abs * 2.0**k
        assert after.running_total == (None if before.running_total is None else before.running_total * 2.0**k)
        peak = max(after.max_abs, after.running_total or 0.0)
        assert after.headroom == pytest.approx(min(FP16_MAX / peak, 1e9))
        assert (after.verdict == "overflows") == (peak > FP16_MAX)


def test_as_json(build: Build) -> None:
    values = full(0.0)
    values[0, 0, 0, 0] = -1.0
    for inputs in (full(0.0), values, full(1e30)):
        ranges = audit(build(lambda x: torch.log(x * x * x).mean((2, 3))), inputs)
        data = json.loads(json.dumps([r.to_dict() for r in ranges], allow_nan=False))
        assert [TensorRange(**(row | {"shape": tuple(row["shape"])})) for row in data] == ranges


def test_an_all_zero_tensor_has_a_finite_headroom(build: Build) -> None:
    zero = made_by(audit(build(torch.tanh), full(0.0)), "TANH")
    assert (zero.max_abs, zero.headroom, zero.tiny_share, zero.verdict) == (0.0, 1e9, 0.0, "ok")


# --- the demo bundle ----------------------------------------------------------------------------------


def test_the_demo_bundle_overflows_nowhere() -> None:
    (path,) = demo_bundle().glob("*.tflite")
    samples = load_audio(demo_clips()[0], sample_rate=PANNS_32K.sample_rate).waveform
    signal = np.resize(samples, 10 * PANNS_32K.sample_rate)
    ranges = audit_fp16(path, [{"logmel": LogMel(PANNS_32K)(signal)[None, None]}])
    assert {r.verdict for r in ranges} <= {"ok", "flushes"}
    # Probabilities of classes that are not heard are tiny: flushed to zero they lose nothing.
    assert {r.op for r in ranges if r.verdict == "flushes"} <= {"LOGISTIC"}
    assert sum(r.op.endswith("CONV_2D") for r in ranges) == 12
    assert min(r.headroom for r in ranges) > 100
    assert all(len(r.shape) and r.tensor for r in ranges)


def test_the_audit_imports_nothing_heavy_and_prints_nothing() -> None:
    code = (
        "import sys; from panns_litert import demo_bundle; from panns_litert.proof import audit_fp16;"
        "import numpy as np; (path,) = demo_bundle().glob('*.tflite');"
        "audit_fp16(path, [{'logmel': np.zeros((1, 1, 1001, 64), np.float32)}]);"
        "print([n for n in ('torch', 'librosa', 'litert_torch', 'panns_litert_convert') if n in sys.modules])"
    )
    done = run_python(code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# --- bad input ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(build: Build) -> Path:
    return build(lambda x: torch.exp(x) * 2.0)


def refused(path: Path, inputs: Any, words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        audit_fp16(path, inputs)
    assert "\n" not in str(caught.value)
    assert type(caught.value) is BundleError


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "no inputs given"),
        (None, "no inputs given"),
        ({"x": full(0.0)}, "no inputs given"),
        ([full(0.0)], r"inputs\[0\]: ndarray; expected a dict with x"),
        ([{}], r"inputs\[0\]: nothing; expected a dict with x"),
        ([{"x": full(0.0)}, {"y": full(0.0)}], r"inputs\[1\]: y; expected a dict with x"),
        ([{"x": full(0.0), "y": full(0.0)}], r"inputs\[0\]: x, y; expected"),
        ([{"x": full(0.0, (1, 64, 64))}], r"x of shape \(1, 64, 64\), float32; expected float32 \(1, 1, 64, 64\)"),
        ([{"x": full(0.0).astype(np.float64)}], "float64; expected float32"),
        ([{"x": full(0.0).tolist()}], "x of list; expected float32"),
    ],
)
def test_inputs_that_do_not_fit(good: Path, inputs: Any, words: str) -> None:
    refused(good, inputs, words)


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.tflite", [{"x": full(0.0)}], "no such file")
    refused(tmp_path, [{"x": full(0.0)}], "no such file")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4 a zip of something else", b"\0" * 100])
def test_not_a_tflite_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    refused(path, [{"x": full(0.0)}], "not a .tflite file")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_a_file_cut_off(tmp_path: Path, share: float) -> None:
    (source,) = demo_bundle().glob("*.tflite")
    content = source.read_bytes()
    path = tmp_path / "x.tflite"
    path.write_bytes(content[: max(8, int(share * len(content)))])
    refused(path, [{"logmel": full(0.0, (1, 1, 1001, 64))}], "damaged|LiteRT cannot load it")


def test_an_operator_that_litert_does_not_have(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"Nothing"

    refused(edited_graph(good, tmp_path / "x.tflite", change), [{"x": full(0.0)}], "LiteRT cannot load it")


def test_dynamic_shapes(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = [-1, 1, 64, 64]

    refused(edited_graph(good, tmp_path / "x.tflite", change), [{"x": full(0.0)}], r"x has a dynamic shape")


def test_several_signatures(good: Path, tmp_path: Path) -> None:
    path = edited_graph(good, tmp_path / "x.tflite", lambda model: model.signatureDefs.append(model.signatureDefs[0]))
    refused(path, [{"x": full(0.0)}], "2 signatures; expected one")


def test_a_signature_of_another_subgraph(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.subgraphs.append(model.subgraphs[0])
        model.signatureDefs[0].subgraphIndex = 1

    refused(edited_graph(good, tmp_path / "x.tflite", change), [{"x": full(0.0)}], "runs subgraph 1; expected 0")


def test_without_a_signature_the_tensors_names_count(good: Path, tmp_path: Path) -> None:
    path = edited_graph(good, tmp_path / "x.tflite", lambda model: model.signatureDefs.clear())
    refused(path, [{"x": full(0.0)}], "expected a dict with tag_x")
    by_tensor: list[Mapping[str, NDArray[np.float32]]] = [{"tag_x": full(3.0)}]
    assert audit_fp16(path, by_tensor) == audit(good, full(3.0))


def test_nothing_is_printed(good: Path, capfd: pytest.CaptureFixture[str]) -> None:
    audit(good, full(0.0))
    refused(good, [], "no inputs")
    assert capfd.readouterr() == ("", "")
