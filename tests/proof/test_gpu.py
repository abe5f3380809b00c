"""The GPU check on the real delegate, and on every kind of wrong result that the delegate was seen to report as right.

Tests that use `vulkan` need a Vulkan driver; a software one will do. Without one they are skipped, and in strict mode
they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import disk_full, edit_manifest, edited_graph
from torch import Tensor, nn

from panns_litert import Tagger
from panns_litert.bundle import Bundle, GpuRecord
from panns_litert.cli import main
from panns_litert.demo import demo_clips
from panns_litert.engine import CpuEngine, GpuEngine, read_graph, unusable, vulkan_drivers
from panns_litert.errors import BundleError, GpuError
from panns_litert.proof import (
    GpuReport,
    add_one_model,
    compare_outputs,
    demo_inputs,
    generated_inputs,
    gpu_check,
    record_gpu,
)
from panns_litert_convert.export import export_fp32

Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Exports a function of tensors as a .tflite."""

    def export(run: Callable[..., dict[str, Tensor]], **inputs: Tensor) -> Path:
        arguments = ", ".join(inputs)
        scope: dict[str, object] = {"run": run}
        exec(f"def forward(self, {arguments}): return run({arguments})", scope)
        module = type("Graph", (nn.Module,), {"forward": scope["forward"]})()
        path = tmp_path / "graph.tflite"
        export_fp32(module.eval(), inputs, path, log=tmp_path / "log")
        return path

    return export


@pytest.mark.usefixtures("vulkan")
class TestRealDelegate:
    """On the delegate itself."""

    def test_the_demo_bundle_passes(self, demo: Bundle) -> None:
        report = gpu_check(demo)
        assert report.passed, report.why
        assert report.resident
        assert report.operators == read_graph(demo.file("model")).operators > 30
        assert report.arithmetic == "float16"
        assert report.adapter
        assert report.driver
        assert report.driver in vulkan_drivers().values()
        assert report.reference == "cpu"
        assert [check.output for check in report.checks] == ["probs", "embedding"]
        # Float16 arithmetic differs from the CPU's, but by far less than the gate allows.
        error = report.checks[0].max_abs
        assert error is not None
        assert 1e-6 < error < 0.01
        assert len(report.run_seconds) == 2
        assert report.ranges
        assert all(entry.verdict not in ("overflows", "not finite") for entry in report.ranges)
        json.dumps(report.to_dict(), allow_nan=False)

    def test_lie_1_a_refused_op_is_named(self, export: Export) -> None:
        """If the CPU is allowed, too, `is_fully_accelerated` returns True for this graph."""
        from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator, Options

        path = export(lambda x: {"y": F.pad(x, (0, 1)) * 2.0}, x=torch.ones(1, 7))
        both = Options(hardware_accelerators=HardwareAccelerator.GPU | HardwareAccelerator.CPU)
        assert CompiledModel.from_file(str(path), options=both).is_fully_accelerated()

        report = gpu_check(path)
        assert not report.passed
        assert not report.resident
        assert [refused.op for refused in report.refused] == ["PAD"]
        assert "paddings" in report.refused[0].reason
        assert not report.checks
        assert "refused PAD" in report.why
        with pytest.raises(GpuError, match="PAD: Invalid paddings"):
            GpuEngine(path)

    def test_lie_2_overflow_in_float16(self, export: Export) -> None:
        """The graph is resident and gives no error. The result is Inf, on the GPU alone."""
        path = export(lambda x: {"y": (x * 400.0) * (x * 400.0) * 1e-4}, x=torch.ones(1, 8))
        report = gpu_check(path, inputs=[{"x": np.linspace(0.5, 2.0, 8, dtype=np.float32)[None]}])
        assert report.resident
        assert not report.errors
        assert not report.passed
        assert "NaN or Inf" in report.why
        assert report.ranges[0].verdict == "overflows"
        assert report.ranges[0].op == "MUL"

    def test_lie_3_zeros_without_raising(self, export: Export) -> None:
        """Above the driver's binding size there are validation errors on stderr and zeros, but no exception."""
        from ai_edge_litert.compiled_model import CompiledModel

        from panns_litert.engine import gpu_only, native_log

        def wide(x: Tensor, z: Tensor) -> dict[str, Tensor]:
            return {"y": torch.matmul(z, (x * z).transpose(2, 3))}

        path = export(wide, x=torch.ones(1, 1, 8300, 1), z=torch.ones(1, 1, 1, 8200))
        with native_log():
            model = CompiledModel.from_file(str(path), options=gpu_only())
            inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
            for name, buffer in zip(model.get_signature_by_index(0)["inputs"], inputs, strict=True):
                buffer.write(np.ones((1, 1, 8300, 1) if name == "x" else (1, 1, 1, 8200), np.float32) / 100)
            model.run_by_index(0, inputs, outputs)
            values = np.array(outputs[0].read(8300, np.float32))
            for buffer in (*inputs, *outputs):
                buffer.destroy()
            model.close()
        assert not values.any(), "this driver has a larger limit; the test needs a larger tensor"

        report = gpu_check(path, audit=False)
        assert not report.passed
        assert any("maximum storage buffer binding size" in error for error in report.errors)
        with pytest.raises(GpuError, match="binding size"):
            GpuEngine(path)

    def test_a_hang_is_a_result(self, demo: Bundle) -> None:
        report = gpu_check(demo, timeout=0.05)
        assert not report.passed
        assert "no result after 0.05 s" in report.why
        assert report.reference == "cpu"

    def test_wrong_arithmetic_is_caught(self, demo: Bundle) -> None:
        """With the references of another clip the check must fail."""
        inputs = demo_inputs(demo)
        engine = CpuEngine(demo.file("model"))
        references = [engine.run(inputs[1]), engine.run(inputs[0])]
        report = gpu_check(demo, inputs=inputs, references=references, audit=False)
        assert report.resident
        assert report.reference == "pytorch"
        assert not report.passed
        assert "max abs error" in report.why

    def test_several_inputs_and_none_named_by_a_signature(self, export: Export) -> None:
        path = export(lambda a, b: {"y": a - 2.0 * b}, a=torch.ones(1, 8), b=torch.ones(1, 8))
        assert gpu_check(path).passed

    def test_engine_gives_what_the_cpu_gives(self, demo: Bundle) -> None:
        gpu, cpu = GpuEngine(demo.file("model")), CpuEngine(demo.file("model"))
        assert (gpu.name, gpu.inputs, list(gpu.outputs)) == ("gpu", cpu.inputs, list(cpu.outputs))
        values = demo_inputs(demo)[0]["logmel"]
        for _ in range(2):  # the second run uses the same buffers
            assert np.abs(gpu.run(values)["probs"] - cpu.run(values)["probs"]).max() < 0.01
        with pytest.raises(BundleError, match="expected float32"):
            gpu.run(values[:, :, :-1])
        gpu.close()

    def test_tagger_on_the_gpu(self, demo: Bundle) -> None:
        on_gpu, on_cpu = Tagger(demo, engine="gpu").tag(demo_clips()[0]), Tagger(demo).tag(demo_clips()[0])
        assert (on_gpu.engine, on_cpu.engine) == ("gpu", "cpu")
        assert on_gpu.fallback is None
        assert np.abs(on_gpu.probs - on_cpu.probs).max() < 0.01
        assert on_gpu.tags[0].label == on_cpu.tags[0].label

    def test_auto_does_not_use_a_software_driver(self, demo: Bundle) -> None:
        report = gpu_check(demo, audit=False)
        tagger = Tagger(demo, engine="auto")
        result = tagger.tag(demo_clips()[0])
        if report.software:
            assert result.engine == "cpu"
            assert result.fallback is not None
            assert "is a CPU, not a GPU" in result.fallback
            assert result.to_dict()["fallback"] == result.fallback
        else:
            assert result.engine == "gpu"

    def test_auto_uses_a_gpu_that_passes(self, demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the real check and the real delegate; only the adapter is reported as a GPU."""
        _take_for_hardware(monkeypatch)
        tagger = Tagger(demo, engine="auto")
        result = tagger.tag(demo_clips()[0])
        assert (result.engine, result.fallback) == ("gpu", None)

        class Failing:
            name = "gpu"

            def run(self, values: object) -> dict[str, np.ndarray]:
                raise GpuError("the GPU returned nothing but zeros")

        tagger._engine = Failing()  # type: ignore[assignment]
        result = tagger.tag(demo_clips()[0])
        assert (result.engine, result.fallback) == ("cpu", "the GPU returned nothing but zeros")
        assert result.tags

    def test_auto_falls_back_when_the_check_fails(self, demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        _take_for_hardware(monkeypatch, errors=("Validation error: something",))
        result = Tagger(demo, engine="auto").tag(demo_clips()[0])
        assert (result.engine, result.fallback) == ("cpu", "Validation error: something")

    def test_command_line(self, demo: Bundle, copy_of: Callable[[Bundle], Path], capsys: pytest.CaptureFixture) -> None:  # type: ignore[type-arg]
        folder = copy_of(demo)
        assert main(["gpu-check", str(folder)]) == 0
        printed = capsys.readouterr().out
        assert "operators resident, float16, on" in printed
        assert "gpu_fp16" in printed
        assert "running total" in printed
        assert ": passed" in printed
        record = Bundle(folder).manifest.gpu
        assert record is not None
        assert record.passed
        assert record.resident
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert record.driver in card
        assert "passed: all of" in card

        assert main(["gpu-check", str(folder), "--json", "--audio", str(demo_clips()[1])]) == 0
        data = json.loads(capsys.readouterr().out)
        assert data["passed"] is data["resident"] is data["recorded"] is True
        assert len(data["run_seconds"]) == 1
        assert data["ranges"][0]["verdict"]

        arrays = demo_inputs(demo)[0]
        np.savez(folder.parent / "inputs.npz", **arrays)
        model = str(demo.file("model"))
        assert main(["gpu-check", model, "--json", "--inputs", str(folder.parent / "inputs.npz")]) == 0
        assert json.loads(capsys.readouterr().out)["recorded"] is False
        assert main(["tag", "--bundle", str(folder), "--engine", "gpu", "--json", str(demo_clips()[0])]) == 0
        assert json.loads(capsys.readouterr().out)["results"][0]["engine"] == "gpu"

    def test_a_failure_exits_1_and_is_recorded(
        self, demo: Bundle, copy_of: Callable[[Bundle], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = copy_of(demo)
        _take_for_hardware(monkeypatch, errors=("Validation error: something",), where="panns_litert.cli.gpu.gpu_check")
        assert main(["gpu-check", str(folder)]) == 1
        record = Bundle(folder).manifest.gpu
        assert record is not None
        assert not record.passed
        assert record.errors == ("Validation error: something",)
        assert "FAILED" in (folder / "README.md").read_text(encoding="utf-8")

    def test_refused_ops_on_the_command_line(self, export: Export, capsys: pytest.CaptureFixture) -> None:  # type: ignore[type-arg]
        path = export(lambda x: {"y": F.pad(x, (0, 1)) * 2.0}, x=torch.ones(1, 7))
        assert main(["gpu-check", str(path)]) == 1
        printed = capsys.readouterr().out
        assert "NOT resident" in printed
        assert "refused PAD: Invalid paddings" in printed


def _take_for_hardware(
    monkeypatch: pytest.MonkeyPatch,
    *,
    errors: tuple[str, ...] = (),
    where: str = "panns_litert.proof.gpu.gpu_check",
) -> None:
    """Makes the check report a GPU instead of a software driver, with these errors."""

    def check(*args: object, **options: object) -> GpuReport:
        return replace(gpu_check(*args, **options), software=False, errors=errors)  # type: ignore[arg-type]

    monkeypatch.setattr(where, check)


def test_no_driver_is_said_with_what_to_install(demo: Bundle) -> None:
    """In a process of its own, whose Vulkan loader finds no driver."""
    environment = os.environ | {"VK_DRIVER_FILES": "/nonexistent.json", "VK_ICD_FILENAMES": "/nonexistent.json"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "panns_litert.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    check = run("gpu-check", str(demo.path))
    assert check.returncode == 2
    assert "mesa-vulkan-drivers" in check.stderr
    assert "Traceback" not in check.stderr
    strict = run("tag", "--engine", "gpu", str(demo_clips()[0]))
    assert strict.returncode == 2
    assert "no GPU" in strict.stderr
    auto = run("tag", "--engine", "auto", "--json", str(demo_clips()[0]))
    assert auto.returncode == 0
    result = json.loads(auto.stdout)["results"][0]
    assert result["engine"] == "cpu"
    assert "no Vulkan driver" in result["fallback"]


def test_a_crash_is_a_result(demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    report = gpu_check(demo)
    assert not report.passed
    assert "crashed with SIGSEGV" in report.why
    crashing.write_text("#!/bin/sh\necho 'Cannot allocate memory' >&2\nexit 3\n")
    assert "Cannot allocate memory" in gpu_check(demo).why


def _model(tmp_path: Path, change: Callable[[Any], object]) -> Path:
    """Writes the one-operator model with a change."""
    (tmp_path / "model.tflite").write_bytes(add_one_model())
    return edited_graph(tmp_path / "model.tflite", tmp_path / "changed.tflite", change)


def _integers(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for tensor in model.subgraphs[0].tensors:
        tensor.type = schema.TensorType.INT32


def _dynamic(model: Any) -> None:
    model.subgraphs[0].tensors[0].shapeSignature = [-1, 4]


def _two_signatures(model: Any) -> None:
    model.signatureDefs = model.signatureDefs * 2


def _another_graph(model: Any) -> None:
    model.subgraphs = model.subgraphs * 2
    model.signatureDefs[0].subgraphIndex = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_integers, "is int32; expected float32"),
        (_dynamic, "dynamic shape"),
        (_two_signatures, "2 signatures"),
        (_another_graph, "runs subgraph 1; expected 0"),
    ],
)
def test_files_that_cannot_be_checked(
    change: Callable[[Any], object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,  # type: ignore[type-arg]
) -> None:
    path = _model(tmp_path, change)
    with pytest.raises(BundleError, match=message):
        gpu_check(path)
    assert main(["gpu-check", str(path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("panns-litert: ")


@pytest.mark.parametrize("content", [None, b"", b"text", b"\0\0\0\0TFL3", b"\x1c\0\0\0TFL3" + bytes(range(200))])
def test_files_that_are_no_model(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file.tflite"
    if content is not None:
        path.write_bytes(content)
    assert main(["gpu-check", str(path)]) == 2


def test_a_model_without_a_signature(tmp_path: Path) -> None:
    path = _model(tmp_path, lambda model: model.signatureDefs.clear())
    assert read_graph(path).inputs == {"x": (1, 4)}
    assert CpuEngine(path).run(np.ones((1, 4), np.float32))["y"].tolist() == [[2.0, 2.0, 2.0, 2.0]]


def test_bad_arguments(demo: Bundle, tmp_path: Path) -> None:
    run = demo_inputs(demo)[0]
    logmel = run["logmel"]
    for inputs, message in (
        ([], "no inputs"),
        ([{"waveform": logmel}], "inputs waveform; expected logmel"),
        ([{"logmel": logmel[0]}], "expected finite float32"),
        ([{"logmel": logmel.astype(np.float64)}], "expected finite float32"),
        ([{"logmel": logmel * np.nan}], "expected finite float32"),
    ):
        with pytest.raises(BundleError, match=message):
            gpu_check(demo, inputs=inputs)
    with pytest.raises(BundleError, match="1 references for 2 runs"):
        gpu_check(demo, inputs=[run, run], references=[{}])
    with pytest.raises(BundleError, match="timeout"):
        gpu_check(demo, timeout=0)
    with pytest.raises(BundleError, match="engine 'tpu'; expected one of cpu, gpu, auto"):
        Tagger(demo, engine="tpu")
    bare = str(demo.file("model"))
    assert main(["gpu-check", bare, "--audio", str(demo_clips()[0])]) == 2
    (tmp_path / "text.npz").write_text("no arrays")
    assert main(["gpu-check", bare, "--inputs", str(tmp_path / "text.npz")]) == 2
    assert main(["gpu-check", bare, "--inputs", str(tmp_path / "missing.npz")]) == 2
    assert main(["gpu-check", str(tmp_path)]) == 2


def _report(demo: Bundle, **changes: object) -> GpuReport:
    """Makes a report that passes, without a GPU, and changes some of its fields."""
    outputs = [CpuEngine(demo.file("model")).run(run) for run in demo_inputs(demo)]
    report = GpuReport(
        file=demo.file("model"), adapter="Mali-G715", driver="r48", software=False, arithmetic="float16",
        operators=41, resident=True, refused=(), errors=(), reference="cpu",
        checks=tuple(compare_outputs(outputs, outputs)), ranges=(), compile_seconds=0.1, run_seconds=(0.1, 0.1),
    )  # fmt: skip
    return replace(report, **changes)  # type: ignore[arg-type]


def test_every_single_figure_can_fail_a_report(demo: Bundle) -> None:
    assert _report(demo).passed
    failed = _report(demo).checks[0]
    failed = replace(failed, passed=False, why="max abs error")
    for changes in (
        {"resident": False},
        {"arithmetic": "float32"},
        {"errors": ("Validation error",)},
        {"checks": ()},
        {"checks": (failed,)},
    ):
        report = _report(demo, **changes)
        assert not report.passed, changes
        assert report.why
        assert not report.record().passed
        with pytest.raises(BundleError, match="its figures say otherwise"):
            replace(report.record(), passed=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_unusable_outputs_fail(demo: Bundle, value: float) -> None:
    good = [CpuEngine(demo.file("model")).run(run) for run in demo_inputs(demo)]
    bad = [{name: array.copy() for name, array in run.items()} for run in good]
    bad[1]["probs"][:] = value
    assert not all(check.passed for check in compare_outputs(bad, good))
    for array in bad[1].values():
        array[:] = value
    assert unusable(bad[1])
    assert not unusable(good[0])


def test_a_run_beyond_float16_gets_its_own_threshold(demo: Bundle) -> None:
    """It is twice the error that PyTorch gets by rounding the input, and holds for no other run."""
    outputs = [CpuEngine(demo.file("model")).run(run) for run in demo_inputs(demo)]

    def shifted(by: float) -> list[dict[str, np.ndarray]]:
        second = {name: array.copy() for name, array in outputs[1].items()}
        second["probs"][0, :8] += by
        return [outputs[0], second]

    checks = compare_outputs(shifted(0.15), outputs, shifted(0.1))
    assert [c.output for c in checks] == [
        "probs", "embedding", "probs, input beyond float16", "embedding, input beyond float16"
    ]  # fmt: skip
    own = checks[2]
    assert own.passed
    assert own.threshold["max_abs"] == pytest.approx(0.2, rel=1e-5)
    assert own.threshold["float16_input_alone"] == pytest.approx(0.1, rel=1e-5)
    assert not all(c.passed for c in compare_outputs(shifted(0.25), outputs, shifted(0.1)))
    assert not all(c.passed for c in compare_outputs(shifted(0.15), outputs, shifted(0.01)))
    assert not all(c.passed for c in compare_outputs(shifted(0.15), outputs))


def test_recording(demo: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(demo)
    bundle = record_gpu(Bundle(folder), _report(demo))
    assert bundle.path == folder
    record = Bundle(folder).manifest.gpu
    assert isinstance(record, GpuRecord)
    assert record.adapter == "Mali-G715"
    assert "Mali-G715" in (folder / "README.md").read_text(encoding="utf-8")
    assert bundle.file("model").read_bytes() == demo.file("model").read_bytes()
    assert bundle.self_test == demo.self_test is not None
    assert Tagger(folder).tag(demo_clips()[0]).tags


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda gpu: gpu.pop("driver"), "missing driver"),
        (lambda gpu: gpu.update(extra=1), "unknown extra"),
        (lambda gpu: gpu.update(resident="yes"), "resident 'yes'"),
        (lambda gpu: gpu.update(resident=False), "its figures say otherwise"),
        (lambda gpu: gpu.update(refused=[1]), "refused"),
        (lambda gpu: gpu.update(checks=[]), "its figures say otherwise"),
        (lambda gpu: gpu.update(checks=[{}]), r"checks\[0\]: missing corr"),
        (lambda gpu: gpu.update(model_sha256="0" * 64), "of another .tflite"),
    ],
)
def test_an_edited_record_is_refused(
    demo: Bundle,
    copy_of: Callable[[Bundle], Path],
    change: Callable[[dict], object],
    message: str,  # type: ignore[type-arg]
) -> None:
    folder = copy_of(demo)
    record_gpu(Bundle(folder), _report(demo))
    edit_manifest(folder, lambda data: change(data["gpu"]))
    with pytest.raises(BundleError, match=message):
        Bundle(folder)


def test_a_bundle_that_cannot_be_written_keeps_what_it_has(
    demo: Bundle, copy_of: Callable[[Bundle], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(demo)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(shutil, "copyfile", disk_full)
    with pytest.raises(BundleError, match="No space left on device"):
        record_gpu(Bundle(folder), _report(demo))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_generated_inputs_are_the_same_every_time(demo: Bundle) -> None:
    graph = read_graph(demo.file("model"))
    first, second = generated_inputs(graph), generated_inputs(graph)
    assert all(np.array_equal(a["logmel"], b["logmel"]) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0]["logmel"], first[1]["logmel"])
