"""The NPU check with LiteRT's real plugins: OpenVINO's through the real dispatch library, Qualcomm's on its emulator.

Tests that use `openvino` need the OpenVINO that LiteRT's plugin is linked with; without it they are skipped, and in
strict mode they fail. Tests marked `qualcomm` are left out where onnxruntime-qnn is not installed (suite.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import edit_manifest, edited_graph

from panns_litert.bundle import Bundle, NpuRecord, file_sha256
from panns_litert.cli import main
from panns_litert.engine import CpuEngine, read_graph
from panns_litert.errors import BundleError, NpuError, NpuVendorError
from panns_litert.proof import (
    GATES,
    INTEL_CPU,
    add_one_model,
    compare,
    compile_npu,
    demo_inputs,
    npu_check,
    npu_socs,
    npu_targets,
    record_gpu,
    record_npu,
    same_outputs,
    vendor_parts,
)

QUALCOMM = "SM8650"


@pytest.fixture(scope="module")
def openvino() -> None:
    """Skips without the OpenVINO that LiteRT's plugin needs."""
    try:
        vendor_parts(npu_targets(INTEL_CPU)[0])
    except NpuVendorError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle(Path("assets/demo_bundle"))


def _then(name: str, *, factors: tuple[float, ...] = ()) -> Callable[[Any], None]:
    """Returns a change of the model y = x + 1: an operator after it, or one multiplication for each factor."""
    from ai_edge_litert import schema_py_generated as schema

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        model.operatorCodes.append(code)
        for factor in factors or (None,):
            operator, made = schema.OperatorT(), schema.TensorT()
            operator.opcodeIndex, operator.inputs = 1, [graph.outputs[0]]
            if factor is not None:
                buffer, constant = schema.BufferT(), schema.TensorT()
                buffer.data = np.frombuffer(np.full((1, 4), factor, np.float32).tobytes(), np.uint8)
                model.buffers.append(buffer)
                constant.name, constant.shape, constant.buffer = (
                    f"by{len(graph.tensors)}",
                    [1, 4],
                    len(model.buffers) - 1,
                )
                graph.tensors.append(constant)
                operator.inputs = [graph.outputs[0], len(graph.tensors) - 1]
                operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
                operator.builtinOptions = schema.MulOptionsT()
            made.name, made.shape, made.buffer = f"y{len(graph.tensors)}", [1, 4], 0
            graph.tensors.append(made)
            operator.outputs = [len(graph.tensors) - 1]
            graph.operators.append(operator)
            graph.outputs = operator.outputs
        model.signatureDefs[0].outputs[0].tensorIndex = graph.outputs[0]

    return change


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """Writes the model y = x + 1 with operators after it."""

    def write(name: str, **options: Any) -> Path:
        (tmp_path / "one.tflite").write_bytes(add_one_model())
        return edited_graph(tmp_path / "one.tflite", tmp_path / f"{name}.tflite", _then(name, **options))

    return write


def _damaged(path: Path, change: Callable[[bytearray], None]) -> Path:
    """Changes the bytecode of a compiled file. Returns the file."""
    from panns_litert.proof.npu_plugin import read_compiled

    data, bytecode = bytearray(path.read_bytes()), read_compiled(path).bytecode
    start = data.find(bytecode)
    changed = bytearray(bytecode)
    change(changed)
    data[start : start + len(bytecode)] = changed
    path.write_bytes(data)
    return path


def _without_middle(bytecode: bytearray) -> None:
    quarter = len(bytecode) // 4
    bytecode[quarter : 3 * quarter] = bytes(2 * quarter)


@pytest.mark.usefixtures("openvino")
class TestOpenVino:
    """On OpenVINO's device for the CPU, through LiteRT's dispatch library."""

    def test_the_demo_bundle_passes_and_is_recorded(
        self,
        shipped: Bundle,
        copy_of: Callable[[Bundle], Path],
        capsys: pytest.CaptureFixture,  # type: ignore[type-arg]
    ) -> None:
        folder = copy_of(shipped)
        assert main(["npu-check", str(folder), "--soc", "Intel-CPU"]) == 0
        printed = capsys.readouterr().out
        assert "41 of 41 in 1 part" in printed
        assert "nothing about speed" in printed
        assert "intel-cpu: passed" in printed
        (record,) = Bundle(folder).manifest.npu
        assert record.passed
        assert record.resident
        assert record.arithmetic == "float32"
        assert record.taken == record.operators == read_graph(shipped.file("model")).operators
        assert record.versions["openvino"]
        assert {check.stage for check in record.checks} == {"npu"}
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "| intel-cpu | 41 of 41 in 1 part | float32 |" in card

        assert main(["npu-check", str(folder), "--soc", INTEL_CPU, "--json", "--no-record"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert data["passed"] is True
        assert data["recorded"] is False
        assert data["reports"][0]["outputs_sha256"] == record.outputs_sha256
        assert data["same_outputs"] == [[INTEL_CPU]]

    def test_a_refused_operator_is_named(self, small: Callable[..., Path], capsys: pytest.CaptureFixture) -> None:  # type: ignore[type-arg]
        path = small("ELU")
        report = npu_check(path, soc=INTEL_CPU)
        assert not report.passed
        assert not report.resident
        assert not report.checks
        assert (report.build.operators, report.build.taken) == (2, 1)
        (refusal,) = report.build.refused
        assert (refusal.op, refusal.operators, refusal.count) == ("ELU", (1,), 1)
        assert "1 of 2 operators in 1 part; expected all" in report.why
        assert main(["npu-check", str(path), "--soc", INTEL_CPU]) == 1
        assert "FAILED: refused 1 × ELU" in capsys.readouterr().out

    def test_a_file_of_which_nothing_is_taken(self, small: Callable[..., Path], tmp_path: Path) -> None:
        def alone(model: Any) -> None:
            graph = model.subgraphs[0]
            graph.operators = graph.operators[1:]
            graph.operators[0].inputs = graph.inputs

        path = edited_graph(small("ELU"), tmp_path / "alone.tflite", alone)
        build = compile_npu(path, INTEL_CPU, tmp_path / "compiled.tflite")
        assert (build.compiled, build.operators, build.taken) == (None, 1, 0)
        assert build.why.startswith("refused 1 × ELU: the plugin has no such operator; ")
        assert build.why.endswith("; the plugin took no operator, and wrote no file")

    def test_a_damaged_bytecode_fails(self, shipped: Bundle, tmp_path: Path) -> None:
        build = compile_npu(shipped, INTEL_CPU, tmp_path / "compiled.tflite")
        assert build.resident
        assert build.compiled_bytes == (tmp_path / "compiled.tflite").stat().st_size
        assert npu_check(shipped, soc=INTEL_CPU, compiled=build.compiled).passed
        report = npu_check(shipped, soc=INTEL_CPU, compiled=_damaged(tmp_path / "compiled.tflite", _without_middle))
        assert not report.passed
        assert not report.resident or "gives other values" in report.why

    def test_a_compiled_file_of_something_else_is_refused(
        self, shipped: Bundle, small: Callable[..., Path], tmp_path: Path
    ) -> None:
        other = tmp_path / "compiled.tflite"
        compile_npu(small("TANH"), INTEL_CPU, other)
        with pytest.raises(NpuError, match="other inputs or outputs"):
            npu_check(shipped, soc=INTEL_CPU, compiled=other)
        with pytest.raises(NpuError, match="nothing in it is compiled"):
            npu_check(shipped, soc=INTEL_CPU, compiled=shipped.file("model"))
        with pytest.raises(BundleError, match="not written"):
            compile_npu(small("TANH"), INTEL_CPU, tmp_path / "missing" / "compiled.tflite")
        for same in (path := small("TANH"), tmp_path / "link"):
            if same != path:
                same.symlink_to(path)
            with pytest.raises(BundleError, match="is the file to compile"):
                compile_npu(path, INTEL_CPU, same)

    def test_references_of_another_clip_fail(self, shipped: Bundle) -> None:
        inputs = demo_inputs(shipped)
        engine = CpuEngine(shipped.file("model"))
        swapped = [engine.run(inputs[1]), engine.run(inputs[0])]
        report = npu_check(shipped, soc=INTEL_CPU, inputs=inputs, references=swapped)
        assert report.resident
        assert [check.passed for check in report.checks if "PyTorch" not in check.output] == [True, True]
        assert "probs, against PyTorch: max abs error" in report.why
        with pytest.raises(BundleError, match="1 references for 2 runs"):
            npu_check(shipped, soc=INTEL_CPU, inputs=inputs, references=swapped[:1])

    def test_a_time_out_is_a_result(self, shipped: Bundle, tmp_path: Path) -> None:
        report = npu_check(shipped, soc=INTEL_CPU, timeout=0.05)
        assert not report.passed
        assert "no result after 0.05 s" in report.why
        build = compile_npu(shipped, INTEL_CPU, tmp_path / "compiled.tflite", timeout=0.05)
        assert build.compiled is None
        assert "no result after 0.05 s" in build.why
        assert not (tmp_path / "compiled.tflite").exists()

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("kill -SEGV $$", "the compiler plugin crashed with SIGSEGV"),
            ("echo 'ERROR: [x.cc:1] out of memory' >&2; exit 6", "the plugin wrote no file: [x.cc:1] out of memory"),
            ("exit 0", "the plugin wrote no file: the plugin gives no reason"),
            ("echo '└ Could not load shared library /x.so: libY.so: no such file' >&2; exit 6", "libY.so"),
        ],
    )
    def test_a_crash_of_the_plugin_is_a_result(
        self, shipped: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
    ) -> None:
        """With another command in LiteRT's place: LiteRT looks for a package litert first."""
        import ai_edge_litert

        (tmp_path / "litert" / "tools").mkdir(parents=True)
        (tmp_path / "litert" / "__init__.py").touch()
        (tmp_path / "litert" / "vendors").symlink_to(Path(ai_edge_litert.__file__).parent / "vendors")
        command = tmp_path / "litert" / "tools" / "apply_plugin_main"
        command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        command.chmod(0o755)
        monkeypatch.syspath_prepend(tmp_path)
        try:
            report = npu_check(shipped, soc=INTEL_CPU)
            why = report.why
            assert (report.build.taken, report.build.operators) == (0, read_graph(shipped.file("model")).operators)
        except NpuVendorError as error:
            why = str(error)
        finally:
            sys.modules.pop("litert", None)
        assert message in why


@pytest.mark.qualcomm
class TestQualcomm:
    """On QNN's emulator of the Hexagon NPU."""

    def test_the_demo_bundle_passes_in_float16(self, shipped: Bundle) -> None:
        report = npu_check(shipped, soc="sm8650")
        assert report.passed, report.why
        assert report.resident
        assert report.arithmetic == "float16"
        assert report.build.architecture == "v75"
        assert report.build.versions["QNN"].startswith("v2.")
        error = report.checks[0].max_abs
        assert error is not None
        assert 1e-4 < error < 0.01

    def test_two_generations_with_the_same_outputs_are_one(self, small: Callable[..., Path]) -> None:
        reports = [npu_check(small("TANH"), soc=soc) for soc in ("SM8550", "SM8650", "SM8350")]
        assert [report.build.architecture for report in reports] == ["v73", "v75", "v68"]
        groups = [[report.build.soc for report in group] for group in same_outputs(reports)]
        assert groups == [["SM8550", "SM8650"], ["SM8350"]]

    def test_a_refused_operator_is_named(self, small: Callable[..., Path]) -> None:
        report = npu_check(small("ZEROS_LIKE"), soc=QUALCOMM)
        assert not report.resident
        assert [(refusal.op, refusal.operators) for refusal in report.build.refused] == [("ZEROS_LIKE", (1,))]
        assert "refused 1 × ZEROS_LIKE: the plugin has no such operator" in report.why

    def test_overflow_in_float16(self, small: Callable[..., Path]) -> None:
        """The plugin takes the whole graph, and nothing raises. Beyond 65504 the values are wrong on the NPU alone."""
        path = small("MUL", factors=(400.0, 400.0, 1e-5))
        values = np.array([[0.5, 1.0, 1.5, 2.0]], np.float32)
        report = npu_check(path, soc=QUALCOMM, inputs=[{"x": values}])
        assert report.build.resident
        assert not report.errors
        assert not report.passed
        assert "the plugin took all 4 operators, but the run gives other values" in report.why

    def test_an_input_that_float16_cannot_hold_has_its_own_bound(self, small: Callable[..., Path]) -> None:
        values = np.array([[2048.5, 2049.5, 2050.5, 2047.5]], np.float32)
        report = npu_check(small("MUL", factors=(0.5,)), soc=QUALCOMM, inputs=[{"x": values}])
        (check,) = report.checks
        assert check.output == "y, input beyond float16"
        assert check.threshold["float16_input_alone"] == check.threshold["max_abs"] / 2 > 0

    @pytest.mark.parametrize("part", ["head", "middle"])
    def test_a_damaged_bytecode_fails(self, shipped: Bundle, tmp_path: Path, part: str) -> None:
        compiled = tmp_path / "compiled.tflite"
        assert compile_npu(shipped, QUALCOMM, compiled).resident

        def change(bytecode: bytearray) -> None:
            if part == "middle":
                return _without_middle(bytecode)
            bytecode[:4096] = bytes(4096)
            return None

        report = npu_check(shipped, soc=QUALCOMM, compiled=_damaged(compiled, change))
        assert not report.passed
        if part == "head":
            assert "the plugin compiled the whole file, but the bytecode does not run" in report.why

    def test_an_emulator_of_another_version_is_an_error(self, small: Callable[..., Path], tmp_path: Path) -> None:
        path, compiled = small("TANH"), tmp_path / "compiled.tflite"
        compile_npu(path, QUALCOMM, compiled)
        with pytest.raises(NpuError, match="compiled for Qualcomm SM8650; expected Qualcomm SM8550"):
            npu_check(path, soc="SM8550", compiled=compiled)
        data = compiled.read_bytes()
        compiled.write_bytes(data.replace(b"v2.5", b"v2.4"))
        assert compiled.read_bytes() != data
        with pytest.raises(NpuVendorError, match="emulator is of another version"):
            npu_check(path, soc=QUALCOMM, compiled=compiled)


def test_targets_are_named_in_any_case_and_unknown_ones_refused() -> None:
    assert [target.soc for target in npu_targets("sm8650, SM8550,sm8650")] == ["SM8650", "SM8550"]
    assert [target.soc for target in npu_targets("ALL")] == [soc for soc in npu_socs() if soc != INTEL_CPU]
    for wrong, message in (
        ("sm8560", r"SoC 'sm8560'; expected one of SA8255, .*, intel-cpu, or all; did you mean SM8"),
        ("", "SoC ''; expected one of"),
        ((), "no SoC; expected one of"),
    ):
        with pytest.raises(NpuError, match=message):
            npu_targets(wrong)
    with pytest.raises(NpuError, match="10 SoCs; expected one"):
        npu_check("assets/demo_bundle", soc="all")


def test_missing_parts_of_a_vendor_are_said_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,  # type: ignore[type-arg]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    assert main(["npu-check", "assets/demo_bundle", "--soc", "sm8650"]) == 2
    message = capsys.readouterr().err
    assert "onnxruntime-qnn is not installed" in message
    assert "Qualcomm_LICENSE.pdf" in message
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        with pytest.raises(NpuVendorError, match="OpenVINO is not installed; install the extra npu"):
            compile_npu("assets/demo_bundle", INTEL_CPU, tmp_path / "compiled.tflite")
    (tmp_path / "openvino" / "libs").mkdir(parents=True)
    (tmp_path / "openvino" / "__init__.py").touch()
    (tmp_path / "openvino" / "libs" / "libopenvino.so.1000").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NpuVendorError, match=r"needs \d+\.\d+\.\d+: `pip install openvino=="):
        npu_check("assets/demo_bundle", soc=INTEL_CPU)


def test_a_file_that_is_no_tflite_is_refused_before_any_plugin(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"not a flatbuffer")
    for soc in npu_socs()[-2:]:
        with pytest.raises(BundleError, match=r"not a \.tflite file"):
            npu_check(path, soc=soc)
    with pytest.raises(BundleError, match="expected seconds > 0"):
        npu_check("assets/demo_bundle", timeout=0)


def _record(bundle: Bundle, soc: str = QUALCOMM, **values: Any) -> NpuRecord:
    rng = np.random.default_rng(0)
    probs = rng.random((1, 22)).astype(np.float32)
    check = compare("npu", "probs", probs + 1e-3, probs, gate=GATES["npu"])
    record = NpuRecord(
        soc=soc,
        architecture="v75",
        arithmetic="float16",
        operators=41,
        taken=41,
        partitions=1,
        resident=True,
        refused=(),
        errors=(),
        checks=(check,),
        compiled_bytes=969008,
        outputs_sha256="0" * 64,
        passed=True,
        model_sha256=file_sha256(bundle.file("model")),
        versions={"ai-edge-litert": "2.3.0"},
    )
    return replace(record, **values)


class _Report:
    """Stands for an `NpuReport` whose record is known: what is tested here is how records are kept."""

    def __init__(self, record: NpuRecord) -> None:
        self.build, self.record = record, lambda: record


def test_a_check_replaces_that_of_its_soc_alone(shipped: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(shipped)
    assert Bundle(folder).manifest.npu == ()
    assert '"npu"' not in (folder / "manifest.json").read_text(encoding="utf-8")
    first, second = _record(shipped, "SM8550"), _record(shipped)
    record_npu(Bundle(folder), [_Report(second), _Report(first)])  # type: ignore[list-item]
    assert Bundle(folder).manifest.npu == (first, second)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| SM8550 (v75), SM8650 (v75) | 41 of 41 in 1 part | float16 |" in card
    failed = _record(shipped, passed=False, resident=False, errors=("the process crashed with SIGSEGV",))
    record_npu(Bundle(folder), [_Report(failed)])  # type: ignore[list-item]
    assert Bundle(folder).manifest.npu == (first, failed)
    assert "- SM8650: the process crashed" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_card_names_what_each_npu_took_and_refused(shipped: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    """Nothing ran on any of them: they are alike only if they took and refused the same."""
    folder = copy_of(shipped)
    nothing: dict[str, Any] = {"checks": (), "outputs_sha256": None, "resident": False, "passed": False}
    took = {
        "SM8450": (15, "12 × CONV_2D: x\n# \x1b[2J"),
        "SM8550": (20, "7 × CONV_2D: y"),
        "SM8650": (20, "7 × CONV_2D: y"),
    }
    reports = [
        _Report(_record(shipped, soc, taken=taken, refused=(refused,), **nothing))
        for soc, (taken, refused) in took.items()
    ]
    record_npu(Bundle(folder), reports)  # type: ignore[arg-type]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| SM8450 (v75) | 15 of 41 in 1 part | float16 |" in card
    assert "| SM8550 (v75), SM8650 (v75) | 20 of 41 in 1 part | float16 |" in card
    assert "- SM8450: refused 12 × CONV_2D: x\\n# \\x1b[2J\n- SM8550: refused 7 × CONV_2D: y\n" in card


@pytest.mark.usefixtures("openvino")
def test_the_result_of_a_compiled_file_is_not_that_of_another(
    shipped: Bundle, copy_of: Callable[[Bundle], Path]
) -> None:
    """A bundle with a compiled file: a check compiles anew, and its result is recorded if the bytecode is the same."""
    folder = copy_of(shipped)
    compiled = folder / f"demo_synthetic_fp16_{INTEL_CPU}.tflite"
    build = compile_npu(shipped, INTEL_CPU, compiled)
    report = npu_check(shipped, soc=INTEL_CPU, compiled=compiled)

    def with_file(data: dict[str, Any]) -> None:
        sha256, size = file_sha256(compiled), compiled.stat().st_size
        data["files"][compiled.name] = {"role": "npu_model", "sha256": sha256, "bytes": size}
        data["npu"] = [asdict(report.record())]

    edit_manifest(folder, with_file)
    assert record_npu(Bundle(folder), [report]).manifest.npu == (report.record(),)
    for sha256, message in (("0" * 64, "not to the same bytecode"), (None, "got no file")):
        other = replace(report, build=replace(build, bytecode_sha256=sha256))
        with pytest.raises(BundleError, match=f"{compiled.name} keeps its result.*{message}"):
            record_npu(Bundle(folder), [other])
    assert Bundle(folder).manifest.npu == (report.record(),)


def test_checks_of_one_bundle_at_once_are_all_recorded(shipped: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    """Every check opened the bundle before the others recorded."""
    folder = copy_of(shipped)
    opened = [Bundle(folder) for _ in range(4)]
    gpu = SimpleNamespace(record=lambda: shipped.manifest.gpu)
    record_npu(opened[0], [_Report(_record(shipped, "SM8550"))])  # type: ignore[list-item]
    record_npu(opened[1], [_Report(_record(shipped))])  # type: ignore[list-item]
    record_gpu(opened[2], gpu)  # type: ignore[arg-type]
    assert [record.soc for record in Bundle(folder).manifest.npu] == ["SM8550", QUALCOMM]
    model = folder / shipped.manifest.file("model")
    model.write_bytes(model.read_bytes() + bytes(16))
    other = {"sha256": file_sha256(model), "bytes": model.stat().st_size}

    def another_model(data: dict[str, Any]) -> None:
        data["files"][model.name] |= other
        data["gpu"], data["npu"] = None, []
        for name in ("selftest.json", "selftest.pcm"):
            del data["files"][name]

    edit_manifest(folder, another_model)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="got another model meanwhile"):
        record_npu(opened[3], [_Report(_record(shipped))])  # type: ignore[list-item]
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda npu: npu[0].update(taken=40), "resident, but its figures say otherwise"),
        (lambda npu: npu[0].update(taken=40, passed=False), "resident, but its figures say otherwise"),
        (lambda npu: npu[0].update(operators=0, taken=0), "resident, but its figures say otherwise"),
        (lambda npu: npu[0].update(partitions=2, passed=False), "resident, but its figures say otherwise"),
        (lambda npu: npu[0].update(resident=False), "passed, but its figures say otherwise"),
        (lambda npu: npu[0].update(refused=["x"]), "resident, but its figures say otherwise"),
        (lambda npu: npu[0].update(errors=["x"]), "resident, but its figures say otherwise"),
        (lambda npu: npu[0].update(checks=[], passed=False), "resident, but its figures say otherwise"),
        (lambda npu: npu[0]["checks"][0].update(passed=False, why="x"), "passed, but its figures say otherwise"),
        (lambda npu: npu[0].update(model_sha256="0" * 64), "of another .tflite"),
        (lambda npu: npu[0].pop("versions"), r"npu\[0\]: missing versions"),
        (lambda npu: npu.append(npu[0]), "two NPU results of one SoC"),
        (lambda npu: npu.append(npu[0] | {"soc": "sm8650"}), "two NPU results of one SoC"),
        (lambda npu: npu[0].update(soc="SM8650\n# x"), "expected the name of a SoC"),
        (lambda npu: npu[0].update(soc=""), "expected the name of a SoC"),
    ],
)
def test_an_edited_record_is_refused(
    shipped: Bundle,
    copy_of: Callable[[Bundle], Path],
    change: Callable[[list], object],  # type: ignore[type-arg]
    message: str,
) -> None:
    folder = copy_of(shipped)
    record_npu(Bundle(folder), [_Report(_record(shipped))])  # type: ignore[list-item]
    edit_manifest(folder, lambda data: change(data["npu"]))
    with pytest.raises(BundleError, match=message):
        Bundle(folder)
