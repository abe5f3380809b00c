"""Integer weights: every precision of the demo model, mixed precision, calibration, and the quantizer's known bugs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import AUDIO, REAL_WEIGHTS, data_place, edit_manifest, make_consistent, needs_shared, real_network

from panns_litert.audio import load_audio
from panns_litert.bundle import QUANTIZED, STAGES, Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.engine import read_graph
from panns_litert.errors import AudioError, BundleError, MissingDependencyError, ModelError, ParityError
from panns_litert.frontend import PANNS_32K, LogMel
from panns_litert.proof import Gate, gpu_check, parity
from panns_litert.tagger import Tagger
from panns_litert_convert import export
from panns_litert_convert import quantize as module
from panns_litert_convert.checkpoints import load_weights
from panns_litert_convert.convert import convert, verify
from panns_litert_convert.export import cast_fp16, export_fp32, quantizer_module, quantizer_package
from panns_litert_convert.quantize import (
    MOST_CLIPS,
    calibrate,
    calibration_clips,
    large_tensors,
    layers,
    quantize,
    quantize_within_gate,
)
from panns_litert_convert.stages import Reference, _constants, constants_check
from panns_litert_convert.zoo import asset, find

Copy = Callable[[Bundle], Path]
SECONDS = 2.0


class Demo:
    """The demo network, its reference outputs, its float32 .tflite for clips of SECONDS, and its calibrated ranges."""

    def __init__(self, folder: Path) -> None:
        model = find("demo")
        self.network = model.build()
        load_weights(self.network, asset(model.checkpoint.file), model)
        self.network.eval()
        self.reference = Reference(self.network, model.front_end, seconds=SECONDS)
        self.source, self.log = folder / "fp32.tflite", folder / "log"
        exported = self.network.for_export(samples=model.front_end.samples(SECONDS))
        export_fp32(exported, {"logmel": torch.from_numpy(self.reference.inputs[0])}, self.source, log=self.log)
        self.ranges = calibrate(self.source, self.reference.inputs, log=self.log)

    def quantize(self, path: Path, precision: str, **options: Any) -> Path:
        ranges = self.ranges if precision == "int8-full" else None
        quantize(self.source, path, precision=precision, ranges=ranges, log=self.log, **options)
        return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """The demo model's bundle of every integer precision, made with `convert`."""
    folder = tmp_path_factory.mktemp("rungs")
    made = {}
    for precision in QUANTIZED:
        calibration = demo_clips() if precision == "int8-full" else ()
        made[precision] = convert(
            "demo", seconds=SECONDS, precision=precision, calibration=calibration, out=folder / precision
        )
    return made


# --- what must work ---


@pytest.mark.parametrize("precision", QUANTIZED)
def test_every_rung_passes_its_gates(rungs: dict[str, Bundle], precision: str) -> None:
    bundle = rungs[precision]
    manifest = bundle.manifest
    for c in manifest.parity:
        if c.stage == precision:
            print(f"{precision} {c.output}: {c.max_abs:.3g} (bound {c.threshold['max_abs']:.3g}), corr {c.corr}")
    print(f"{precision}: {bundle.file('model').stat().st_size} bytes, kept {manifest.quantization}")
    assert {check.stage for check in manifest.parity} == set(STAGES[precision])
    outputs = {check.output for check in manifest.parity if check.stage == precision}
    assert outputs == {"probs", "logits", "tags", "embedding"}
    assert manifest.quantization is not None
    assert (manifest.quantization.calibration_clips > 0) == (precision == "int8-full")
    assert precision in (bundle.path / "README.md").read_text(encoding="utf-8")


def test_a_rung_is_smaller_than_the_one_above(rungs: dict[str, Bundle], small: Demo, tmp_path: Path) -> None:
    sizes = {precision: bundle.file("model").stat().st_size for precision, bundle in rungs.items()}
    half = Bundle(demo_bundle()).file("model").stat().st_size
    print(half, sizes)
    assert max(sizes["int8"], sizes["int8-weights"], sizes["int8-full"]) < 0.6 * half
    assert sizes["int4-weights"] < 0.9 * sizes["int8"]  # a larger one would be of no use: docs/quantization.md
    uniform = {}
    for precision in ("int8", "int4-weights"):
        quantize(small.source, tmp_path / precision, precision=precision, log=small.log)
        uniform[precision] = (tmp_path / precision).stat().st_size
    print(uniform)
    assert uniform["int4-weights"] < 0.7 * uniform["int8"]


@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_rung_gives_the_tags_of_pytorch(rungs: dict[str, Bundle], small: Demo, precision: str) -> None:
    labels = Bundle(demo_bundle()).labels
    tagger = Tagger(rungs[precision])
    for clip in demo_clips():
        sound = load_audio(clip, sample_rate=32000, max_seconds=SECONDS).waveform
        logmel = LogMel(PANNS_32K)(np.pad(sound, (0, round(SECONDS * 32000) - len(sound))))[None, None]
        with torch.inference_mode():
            probs = small.network(torch.from_numpy(logmel))["probs"][0].numpy()
        got = {tag.label for tag in tagger.tag(sound, sample_rate=32000, threshold=0.5).tags}
        assert got == {labels[k] for k in np.flatnonzero(probs >= 0.5)}, clip.name


@pytest.mark.parametrize("precision", ["int8-full", "int4-weights"])
def test_verify_rebuilds_the_file(rungs: dict[str, Bundle], precision: str) -> None:
    """It needs no calibration audio, because the weights do not depend on it."""
    checks = verify(rungs[precision].path)
    assert [check.output for check in checks[-3:]] == ["constants", "probs, PyTorch", "probs, CPU"]
    assert all(check.passed for check in checks), [check.why for check in checks]


def test_the_waveform_graph_keeps_its_log_mel_in_float32(tmp_path: Path) -> None:
    bundle = convert("demo", graph="waveform", seconds=SECONDS, precision="int8", out=tmp_path / "bundle")
    kinds = {name: values.dtype for name, _, values, step in _constants(bundle.file("model")) if not step.any()}
    assert {dtype for name, dtype in kinds.items() if name.startswith("logmel")} == {np.dtype(np.float32)}
    stepped = [name for name, _, _, step in _constants(bundle.file("model")) if step.any()]
    assert stepped
    assert not any(name.startswith("logmel") for name in stepped)


@pytest.mark.full
@pytest.mark.usefixtures("vulkan")
@pytest.mark.parametrize("precision", ["int8", "int4-weights"])
def test_integer_weights_run_whole_on_the_gpu(rungs: dict[str, Bundle], precision: str) -> None:
    report = gpu_check(rungs[precision], audit=False)
    errors = {check.output: check.max_abs for check in report.checks}
    print(f"{precision}: {report.operators} operators, {report.why or 'passed'}, {errors}")
    assert report.resident
    assert report.passed


@pytest.mark.full
@pytest.mark.usefixtures("vulkan")
@pytest.mark.parametrize("precision", ["int8-weights", "int8-full"])
def test_precisions_that_fail_on_the_gpu(rungs: dict[str, Bundle], precision: str) -> None:
    """If this test fails because they pass now, docs/quantization.md must be changed."""
    report = gpu_check(rungs[precision], audit=False)
    print(f"{precision}: {report.why}")
    assert not report.passed
    assert report.why


@pytest.mark.full
@pytest.mark.usefixtures("vulkan")
def test_upstream_still_crashes_on_blocks(small: Demo, tmp_path: Path) -> None:
    """Once this fails, fully connected layers of `int4-weights` can have blocks: docs/upstream/quantizer-issue.md."""
    qtyping, quantizer = quantizer_module("qtyping"), quantizer_module("quantizer")

    work = quantizer.Quantizer(str(small.source))
    names = qtyping.TFLOperationName
    work.add_dynamic_config(".*", names.FULLY_CONNECTED, 4, qtyping.QuantGranularity.BLOCKWISE_32)
    work.quantize().export_model(str(tmp_path / "blocks.tflite"))
    assert small.reference.error(tmp_path / "blocks.tflite", clips=2) < 0.1  # it runs on the CPU
    report = gpu_check(tmp_path / "blocks.tflite", audit=False)
    print(report.why)
    assert "crashed" in report.why


# --- mixed precision ---


def test_layers_are_kept_finer_until_the_gate_is_passed(small: Demo, tmp_path: Path, monkeypatch: Any) -> None:
    """The gate is set halfway between the correlation without finer layers and the best with 1, 2 or 4 of them."""
    precision, path = "int4-weights", tmp_path / "mixed.tflite"
    uniform = small.quantize(tmp_path / "uniform.tflite", precision)
    ranked = module.sensitivities(small.source, path, precision=precision, reference=small.reference, log=small.log)
    low, high = least_correlation(small, uniform), -1.0
    for count in (1, 2, 4):
        small.quantize(path, precision, kept={layer.operator: layer.precision for layer in ranked[:count]})
        high = max(high, least_correlation(small, path))
    assert low < high
    monkeypatch.setitem(parity.GATES, precision, Gate(max_abs=1.0, corr=(low + high) / 2))
    monkeypatch.setitem(parity.TAG_GATES, precision, Gate(max_abs=1.0))
    kept = quantize_within_gate(small.source, path, precision=precision, reference=small.reference, log=small.log)
    print(low, high, [(layer.name, layer.error) for layer in kept])
    assert kept == tuple(ranked[: len(kept)])
    assert 1 <= len(kept) <= 4
    assert all(check.passed for check in small.reference.check(precision, path))
    # The file has as many more eight-bit weights as these layers have.
    assert bits8(path) - bits8(uniform) == sum(layer.weights for layer in kept)
    assert {layer.precision for layer in kept} == {"int8"}


def least_correlation(small: Demo, path: Path) -> float:
    """Return the lowest correlation of the outputs that the gate compares."""
    checks = small.reference.check("int4-weights", path)
    return min(check.corr for check in checks if check.corr is not None and check.output != "tags")


def bits8(path: Path) -> int:
    """Return the number of eight-bit weights in a .tflite."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    return sum(int(np.prod(t.ShapeAsNumpy())) for t in tensors if t.Type() == schema.TensorType.INT8)


def test_a_gate_that_nothing_passes_names_the_layers(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(parity.GATES, "int8", Gate(max_abs=1e-9, corr=1.0))
    out = tmp_path / "bundle"
    with pytest.raises(
        ParityError, match=r"int8 fails its gate, even with .*the layers that hurt most: .* alone "
    ) as caught:
        convert("demo", seconds=1.0, precision="int8", out=out)
    print(caught.value)
    assert not out.exists()
    assert 1 <= len(caught.value.layers) <= 3
    assert all(layer in str(caught.value) for layer in caught.value.layers)
    assert isinstance(caught.value.report, list)
    assert {check.stage for check in caught.value.report} == set(STAGES["int8"])
    assert not list(tmp_path.iterdir())


def test_the_layer_that_hurts_is_found(small: Demo, tmp_path: Path, monkeypatch: Any) -> None:
    """One layer is quantized to four bits, the others to eight. Its error rises, and no other layer's does."""
    ranked = module.sensitivities(
        small.source, tmp_path / "one.tflite", precision="int8-weights", reference=small.reference, log=small.log
    )
    named = {layer.operator: layer.error for layer in ranked}
    weighted = layers(small.source, precision="int8-weights")
    assert set(named) == {layer.index for layer in weighted}
    victim = next(layer for layer in weighted if layer.op == "CONV_2D" and layer.name.startswith("conv_block3"))

    def coarse(source: Path, path: Path, *, only: int | None = None, **options: Any) -> None:
        if only != victim.index:
            return quantize(source, path, only=only, **options)
        return quantize(source, path, only=only, **(options | {"precision": "int4-weights"}))

    monkeypatch.setattr(module, "quantize", coarse)
    again = module.sensitivities(
        small.source, tmp_path / "one.tflite", precision="int8-weights", reference=small.reference, log=small.log
    )
    worse = {layer.operator: layer.error for layer in again}
    assert worse.pop(victim.index) > 10 * named.pop(victim.index)
    assert worse == pytest.approx(named, rel=1e-3)


def test_weights_are_within_half_a_step_of_the_checkpoint(small: Demo, tmp_path: Path) -> None:
    path = small.quantize(tmp_path / "int8.tflite", "int8")
    exact = {name: values for name, _, values, _ in _constants(small.source)}
    compared = 0
    for name, _, values, step in _constants(path):
        if step.any():
            assert (np.abs(values - exact[name].astype(np.float32)) <= 0.5001 * step).all(), name
            compared += values.size
    assert compared > 300_000


@pytest.mark.parametrize("precision", QUANTIZED)
def test_an_altered_weight_is_found(small: Demo, precision: str, tmp_path: Path) -> None:
    made = small.quantize(tmp_path / "made.tflite", precision)
    assert constants_check(precision, made, made).passed
    damaged = Path(shutil.copyfile(made, tmp_path / "damaged.tflite"))
    alter_a_weight(damaged)
    check = constants_check(precision, damaged, made)
    assert not check.passed
    assert "differs by" in check.why


def alter_a_weight(path: Path) -> None:
    """Flip two bits in the middle of a .tflite's largest tensor of integer weights."""
    from ai_edge_litert import schema_py_generated as schema

    data = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(data, 0)
    graph, found = model.Subgraphs(0), []
    for i in range(graph.TensorsLength()):
        if graph.Tensors(i).Type() in (schema.TensorType.INT8, schema.TensorType.INT4):
            offset, size = data_place(model.Buffers(graph.Tensors(i).Buffer()))
            found.append((size, offset))
    size, offset = max(found)
    data[offset + size // 2] ^= 0x44  # a byte may hold two weights of four bits: alter both
    path.write_bytes(data)


def test_a_bundle_with_another_weight_fails_to_verify(rungs: dict[str, Bundle], copy_of: Copy) -> None:
    folder = copy_of(rungs["int8"])
    model = Bundle(folder).file("model")
    alter_a_weight(model)
    make_consistent(folder, model.name)
    assert "constants" in {check.output for check in verify(folder) if not check.passed}


@pytest.mark.full
@needs_shared
def test_real_weights_on_real_recordings(tmp_path: Path) -> None:
    """mn04 in eight bits, on 32 recordings outside the gates: at most a tenth of the tags differ from PyTorch's."""
    bundle = convert("mn04", checkpoint=REAL_WEIGHTS, precision="int8", out=tmp_path / "mn04")
    network, spec = real_network(), bundle.manifest.front_end
    files = [*sorted(AUDIO.glob("*.wav")), *sorted((AUDIO / "baby_cry").glob("*.*"))]
    clips = [load_audio(file, sample_rate=spec.sample_rate, max_seconds=10.0).waveform for file in files]
    clips = [np.pad(clip, (0, bundle.manifest.clip_samples))[: bundle.manifest.clip_samples] for clip in clips]
    logmel = LogMel(spec)
    with torch.inference_mode():
        want = np.stack([network(torch.from_numpy(logmel(clip)[None, None]))["probs"][0].numpy() for clip in clips])
    with Tagger(bundle) as tagger:
        got = np.stack([tagger.tag(clip, sample_rate=spec.sample_rate).probs for clip in clips])
    check = parity.compare_tags("int8", got, want, gate=parity.TAG_GATES["int8"])
    crying = tagger.labels.index("Baby cry, infant cry")
    hits = [int((probs[2:].argmax(axis=1) == crying).sum()) for probs in (want, got)]
    size = bundle.file("model").stat().st_size
    print(f"{size} bytes, {len(clips)} recordings: error {np.abs(got - want).max():.3f}, tags that differ "
          f"{check.max_abs:.3f}, rank correlation {check.corr:.5f}, a cry first in {hits[1]}, PyTorch {hits[0]} of 30"
    )  # fmt: skip
    assert len(clips) == 32
    assert bundle.file("model").stat().st_size < 1.35e6
    assert check.passed, check.why
    assert hits[1] >= hits[0] - 1


# --- calibration ---


def test_ranges_are_the_smallest_and_largest_values(small: Demo) -> None:
    """The ranges equal PyTorch's for the same clips. An average over clips would give narrower ones."""
    with torch.inference_mode():
        runs = [small.network.trace(torch.from_numpy(values)) for values in small.reference.inputs]
    for name, layer in (("embedding", "tag_embedding_output"), ("logits", "fc_audioset")):
        want = np.concatenate([run[name].numpy() for run in runs])
        found = next(value for key, value in small.ranges.items() if layer in key)
        assert found["min"].item() == pytest.approx(want.min(), abs=1e-3)
        assert found["max"].item() == pytest.approx(want.max(), rel=1e-3)


def test_a_moving_average_clips_what_is_louder_than_the_first_clip(small: Demo, tmp_path: Path) -> None:
    """ai-edge-quantizer's own default is a moving average. Here the quietest clip comes first."""
    calibrator = quantizer_module("calibrator")
    qsv_utils = quantizer_module("utils.qsv_utils")

    inputs = sorted(small.reference.inputs, key=lambda values: float(values.max()))
    errors = []
    for update in (qsv_utils.min_max_update, qsv_utils.moving_average_update):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calibrator.qsv_utils, "min_max_update", update)
            ranges = calibrate(small.source, inputs, log=small.log)
        path = tmp_path / "full.tflite"
        quantize(small.source, path, precision="int8-full", ranges=ranges, log=small.log)
        errors.append(small.reference.error(path, clips=len(inputs)))
    print(f"error of logits and embedding: minimum and maximum {errors[0]:.2g}, moving average {errors[1]:.2g}")
    assert errors[1] > 3 * errors[0]


def test_recordings_are_cut_into_clips_and_silence_is_left_out(tmp_path: Path) -> None:
    rate, rng = 32000, np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(5 * rate // 2)
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise, np.zeros(3 * rate)]), rate)
    clips = calibration_clips([tmp_path], PANNS_32K, seconds=1.0)
    assert [len(clip) for clip in clips] == [rate] * 3
    assert not clips[2][rate // 2 :].any()
    many = calibration_clips([tmp_path / "a.wav"] * 40, PANNS_32K, seconds=1.0)
    assert len(many) == MOST_CLIPS


def test_audio_that_cannot_calibrate(tmp_path: Path) -> None:
    silent, empty = tmp_path / "silent.wav", tmp_path / "empty"
    soundfile.write(silent, np.zeros(32000), 32000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    empty.mkdir()
    cases: dict[Path, str] = {
        tmp_path / "none.wav": "none.wav",
        tmp_path / "broken.wav": "broken.wav",
        silent: "nothing but silence .*expected recordings",
        empty: "no audio file",
    }
    for path, message in cases.items():
        with pytest.raises(AudioError, match=message):
            convert("demo", precision="int8-full", calibration=[path], out=tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("precision", "calibration"), [("int8-full", []), ("int8", ["clip.wav"])])
def test_precision_and_audio_that_do_not_fit(precision: str, calibration: list[str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"precision .*expected"):
        convert("demo", precision=precision, calibration=calibration, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


# --- the quantizer's two names ---


def test_the_new_name_gives_the_same_files(small: Demo, tmp_path: Path, monkeypatch: Any) -> None:
    def write(folder: Path) -> list[bytes]:
        folder.mkdir()
        cast_fp16(small.source, folder / "fp16.tflite", log=small.log)
        quantize(small.source, folder / "int8.tflite", precision="int8", log=small.log)
        ranges = calibrate(small.source, small.reference.inputs[:2], log=small.log)
        quantize(small.source, folder / "int8-full.tflite", precision="int8-full", ranges=ranges, log=small.log)
        return [path.read_bytes() for path in sorted(folder.iterdir())]

    assert quantizer_package() == "ai-edge-quantizer"
    old = write(tmp_path / "old")
    monkeypatch.setattr(export, "_QUANTIZERS", ("not-installed", "litert-quantizer"))
    assert quantizer_package() == "litert-quantizer"
    assert quantizer_module("quantizer").__name__ == "litert_quantizer.quantizer"
    assert write(tmp_path / "new") == old


def test_without_a_quantizer(small: Demo, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(export, "_QUANTIZERS", ("not-installed", "not-there"))
    with pytest.raises(MissingDependencyError, match=r"neither not-inst.* nor not-there .*install the extra convert"):
        cast_fp16(small.source, tmp_path / "fp16.tflite", log=small.log)


# --- bugs of ai-edge-quantizer 0.10: these tests fail once they are fixed ---


def test_upstream_still_cannot_quantize_large_convolutions() -> None:
    """Once this fails, `large_tensors` can be removed: docs/upstream/quantizer-issue.md."""
    weights = np.random.default_rng(0).standard_normal((64, 3, 3, 33 * 2**20 // (4 * 64 * 9) + 1)).astype(np.float32)
    parameters = eight_bits(weights, axis=0)
    with pytest.raises(ValueError, match="more dimensions"):
        uniform_quantize(weights, parameters)
    with large_tensors():
        got = uniform_quantize(weights, parameters)
    want = np.clip(np.rint(weights / parameters.scale), -127, 127)
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, want)


def eight_bits(weights: NDArray[np.float32], *, axis: int) -> Any:
    """Return the parameters of symmetric eight-bit weights (4 dimensions) with a scale for each index of an axis."""
    qtyping = quantizer_module("qtyping")

    others = tuple(i for i in range(4) if i != axis)
    scale = (np.abs(weights).max(axis=others, keepdims=True) / 127 + 1e-9).astype(np.float32)
    return qtyping.UniformQuantParams(
        num_bits=8, quantized_dimension=axis, scale=scale, zero_point=np.zeros_like(scale, np.int32), symmetric=True
    )


def uniform_quantize(weights: NDArray[np.float32], parameters: Any) -> NDArray[np.int8]:
    uniform_quantize_tensor = quantizer_module("algorithms.uniform_quantize.uniform_quantize_tensor")

    return uniform_quantize_tensor.uniform_quantize(weights, parameters)


@settings(max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4), axis=st.integers(0, 3), rows=st.integers(1, 4), seed=st.integers(0, 9)
)
def test_quantizing_in_pieces_gives_the_same(shape: tuple[int, ...], axis: int, rows: int, seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    parameters = eight_bits(weights, axis=axis)
    want = uniform_quantize(weights, parameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_BYTES", rows * weights[0].nbytes)
        with large_tensors():
            got = uniform_quantize(weights, parameters)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kept", ["tag_embedding_output", "fc_audioset"])
def test_upstream_still_loses_an_output_between_two_types(
    small: Demo, tmp_path: Path, monkeypatch: Any, kept: str
) -> None:
    """Once this fails, `_mend_outputs` can be removed: docs/upstream/quantizer-issue.md."""
    index = next(layer.index for layer in layers(small.source, precision="int8-full") if layer.name == kept)
    path = small.quantize(tmp_path / "mended.tflite", "int8-full", only=index)
    assert read_graph(path).outputs == read_graph(small.source).outputs
    assert small.reference.error(path, clips=2) < 0.05
    monkeypatch.setattr(module, "_mend_outputs", lambda *_: None)
    small.quantize(path, "int8-full", only=index)
    with pytest.raises(BundleError):
        read_graph(path)


# --- the manifest's record ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(quantization=None), "with integer weights"),
        (lambda m: m["quantization"].update(calibration_clips=3), "calibration_clips 3"),
        (lambda m: m["quantization"].update(kept={}), "kept"),
        (lambda m: m["quantization"].update(extra=1), "unknown extra"),
        (lambda m: m["quantization"]["kept"].append({"operator": 1}), "missing"),
        (lambda m: m["quantization"]["kept"].append(kept(error=-1.0)), ">= 0"),
        (lambda m: m["quantization"]["kept"].append(kept(precision="int2")), "int2"),
        (lambda m: m["quantization"]["kept"].append(kept(operator="one")), "operator"),
        (lambda m: m.update(precision="fp16"), "quantization"),
    ],
)
def test_a_record_that_contradicts_itself(
    rungs: dict[str, Bundle], copy_of: Copy, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    folder = copy_of(rungs["int8"])
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=message):
        Bundle(folder)


def kept(**changes: Any) -> dict[str, Any]:
    layer = {"operator": 1, "op": "CONV_2D", "name": "conv", "weights": 9, "precision": "fp16", "error": 0.1}
    return layer | changes


def test_verify_goes_by_the_recorded_layers(rungs: dict[str, Bundle], copy_of: Copy) -> None:
    """`verify` rebuilds the file with the recorded layers, so a record of other layers fails."""
    folder, other = copy_of(rungs["int4-weights"]), kept(operator=10, precision="int8")
    edit_manifest(folder, lambda m: m["quantization"].update(kept=[] if m["quantization"]["kept"] else [other]))
    failed = [check.output for check in verify(folder) if not check.passed]
    assert failed == ["constants"]


def test_every_precision_has_gates() -> None:
    assert set(parity.GATES) >= set(QUANTIZED) == set(parity.TAG_GATES)
