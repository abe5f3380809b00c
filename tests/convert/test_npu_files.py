"""Files for NPUs: `convert --npu` writes them beside the model, and the sweep's table shows what was measured."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from panns_litert.bundle import NPU_MODEL, Bundle
from panns_litert.cli import main
from panns_litert.demo import demo_clips
from panns_litert.engine import CpuEngine, read_graph
from panns_litert.errors import BundleError, NpuError, NpuVendorError, ParityError, ResultsError
from panns_litert.measure import markdown
from panns_litert.models import is_whole, model_row, models_table
from panns_litert.proof import INTEL_CPU, npu_check, npu_targets, vendor_parts
from panns_litert.tagger import Tagger
from panns_litert_convert import npu_sweep as module
from panns_litert_convert.convert import convert
from panns_litert_convert.npu_sweep import SOCS, sweep, table
from panns_litert_convert.zoo import MODELS, asset, find

# --- the sweep ---


def target(soc: str, **changed: Any) -> dict[str, Any]:
    """What the sweep found for a SoC: all 41 operators, not run."""
    whole = {"operators": 41, "taken": 41, "partitions": 1, "whole": True, "refused": [], "why": ""}
    return {"soc": soc, "generation": SOCS[soc], **whole, "checks": None, "passed": None, **changed}


def row(**changed: dict[str, Any]) -> dict[str, Any]:
    """A row of demo, with changes to what was found for some SoCs."""
    targets = [target(soc, **changed.get(soc, {})) for soc in SOCS]
    return {"name": "demo", "precision": "fp16", "graph": "logmel", "weights": "own", "sha256": "", "targets": targets}


FAILED = {"whole": False, "why": "the vendor's compiler failed"}
PART = {
    "whole": False,
    "taken": 15,
    "partitions": 7,
    "why": "26 operators refused",
    "refused": ["2 × FULLY_CONNECTED: no"],
}


@pytest.mark.parametrize(
    ("changed", "whole", "run", "not_whole"),
    [
        ({}, "v68 – v81", "–", "–"),
        ({"SM8350": FAILED}, "v69 – v81", "–", "v68: the vendor's compiler failed"),
        ({"SM8450": FAILED}, "v68, v73 – v81", "–", "v69: the vendor's compiler failed"),
        (dict.fromkeys(SOCS, PART), "none", "–", "v68 – v81: 15 of 41 in 7 parts"),
        (
            {"SM8450": {"checks": {"npu/probs": 1e-4, "npu/probs, input beyond float16": 3.31e-3}, "passed": True}}
            | {soc: {"checks": {"npu/probs": 9.12e-3}, "passed": True} for soc in ("SM8550", "SM8650")},
            "v68 – v81", "v69: 3e-03; v73 – v75: 9e-03", "–",
        ),
        (
            {"SM8650": {"checks": {"npu/probs": 0.2}, "passed": False, "why": "probs: max abs error 0.2"}},
            "v68 – v73, v79 – v81", "v75: 2e-01", "v75: probs: max abs error 0.2",
        ),
    ],
)  # fmt: skip
def test_a_row_of_the_table(changed: dict[str, Any], whole: str, run: str, not_whole: str) -> None:
    (found,) = table([row(**changed)])
    assert (found["whole on"], found["run, error"], found["not whole on"]) == (whole, run, not_whole)
    (demo,) = [model_row(of) for of in models_table(npu=[row(**changed)]) if of["name"] == "demo"]
    assert demo["on the NPU"] == whole


def test_a_generation_that_was_not_measured_is_in_no_range() -> None:
    file = row(SM8350=FAILED)
    file["targets"] = [of for of in file["targets"] if of["soc"] not in ("SM8450", "SM8750")]
    (found,) = table([file])
    assert found["whole on"] == "v73 – v75, v81"
    assert found["not whole on"] == "v68: the vendor's compiler failed; not measured: v69, v79"
    (demo,) = [model_row(of) for of in models_table(npu=[file]) if of["name"] == "demo"]
    assert demo["on the NPU"] == "v73 – v75, v81"


def test_a_model_that_was_not_measured_has_a_dash() -> None:
    rows = {of["name"]: model_row(of)["on the NPU"] for of in models_table(npu=[row()])}
    assert rows.pop("demo") == "v68 – v81"
    assert set(rows.values()) == {"–"}
    int8 = row() | {"precision": "int8"}
    assert {model_row(of)["on the NPU"] for of in models_table(npu=[int8])} == {"–"}


def test_the_sweep_measures_what_is_missing(demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    interruptions = [KeyboardInterrupt]

    def measured(bundle: Bundle, soc: str, *, run: bool) -> tuple[dict[str, Any], dict[str, str]]:
        asked.append((soc, run))
        if len(asked) == 3 and interruptions:
            raise interruptions.pop()
        return target(soc, checks={"npu/probs": 0.0}, passed=True) if run else target(soc), {"QNN": "v2"}

    monkeypatch.setattr(module, "measure", measured)
    shutil.copytree(demo.path, tmp_path / "bundles" / "demo")
    bundles, out = [tmp_path / "bundles" / "demo"], tmp_path / "npu.json"
    with pytest.raises(KeyboardInterrupt):
        sweep(bundles, out, run=False)
    assert [t["soc"] for t in json.loads(out.read_text())["rows"][0]["targets"]] == ["SM8650", "SM8850"]
    sweep(bundles, out, run=False)
    every = ["SM8650", "SM8850", "SM8750", "SM8750", "SM8550", "SM8450", "SM8350"]  # one was interrupted
    assert asked == [(soc, False) for soc in every]
    asked.clear()
    (found,) = sweep(bundles, out)  # adds the emulator's runs
    order = list(dict.fromkeys(every))
    assert asked == [(soc, True) for soc in order]
    assert [t["soc"] for t in found["targets"]] == list(SOCS)
    assert json.loads(out.read_text())["versions"] == {"QNN": "v2"}
    asked.clear()
    sweep(bundles, out)
    assert asked == []
    sweep(bundles, out, fresh=True)
    assert asked == [(soc, True) for soc in order]
    data = json.loads(out.read_text())
    data["rows"][0]["sha256"] = "of another file"
    out.write_text(json.dumps(data))
    sweep(bundles, out)
    assert asked == 2 * [(soc, True) for soc in order]
    data["versions"] = {"QNN": "v1"}
    out.write_text(json.dumps(data))
    with pytest.raises(ResultsError, match="was not measured with QNN v2; measure all again"):
        sweep(bundles, out)


def shipped() -> dict[str, Any]:
    """The measurements that ship."""
    data: dict[str, Any] = json.loads(asset("npu.json").read_text(encoding="utf-8"))
    return data


def test_what_ships_was_measured() -> None:
    data = shipped()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", data["date"])
    assert {"ai-edge-litert", "onnxruntime", "onnxruntime-qnn", "QNN"} <= set(data["versions"])
    assert {of["name"] for of in data["rows"]} >= {"demo", "mn04"}
    for of in data["rows"]:
        assert of["graph"] in find(of["name"]).graphs
        assert [t["soc"] for t in of["targets"]] == [soc for soc in SOCS if soc in {t["soc"] for t in of["targets"]}]
        for t in of["targets"]:
            assert t["generation"] == SOCS[t["soc"]]
            assert is_whole(t) == (not t["why"]), t
            assert not t["whole"] or (t["taken"] == t["operators"] > 0 and t["partitions"] == 1), t
            assert (t["checks"] is None) == (t["passed"] is None) or not t["whole"], t


def test_the_page_shows_what_was_measured() -> None:
    """tests/docs/test_figures.py compares the column of the zoo."""
    document = (ROOT / "docs" / "npu.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- npu -->\n(.*?)<!-- /npu -->", document, re.S)
    assert found is not None
    assert found[1] == markdown(table(shipped()["rows"]))
    # The page names one SoC of every generation, and the number of models.
    for soc, generation in SOCS.items():
        assert re.search(rf"{generation}\s+is\s+{soc}|{generation}\s+{soc}", document), soc
    assert f"{len(MODELS)} models" in document


# --- convert --npu ---


@pytest.fixture
def intel() -> None:
    """OpenVINO, whose device for the CPU stands in for an NPU. It is in the extra `test`."""
    (target,) = npu_targets(INTEL_CPU)
    try:
        vendor_parts(target)
    except NpuVendorError as error:
        pytest.skip(str(error))


SAME = ("demo_synthetic_fp16.tflite", "mel_basis.bin", "demo_labels.txt", "selftest.json", "selftest.pcm")


def test_the_compiled_file_is_beside_the_model(
    demo: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], intel: None
) -> None:
    """OpenVINO compiles the demo, and the compiled file runs the self-test through LiteRT's dispatch library."""
    assert main(["convert", "demo", "--npu", "Intel-CPU", "--out", str(tmp_path / "bundle")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"NPU intel-cpu: 41 of 41 operators in 1 part; probs within \S+ of the CPU's", printed)
    bundle = Bundle(tmp_path / "bundle")
    for name in SAME:
        assert (bundle.path / name).read_bytes() == (demo.path / name).read_bytes(), name
    compiled = bundle.file(NPU_MODEL)
    assert compiled.name == "demo_synthetic_fp16_intel-cpu.tflite"
    (record,) = bundle.manifest.npu
    print(record)
    assert (record.soc, record.passed, record.resident) == (INTEL_CPU, True, True)
    assert record.taken == record.operators == read_graph(bundle.file("model")).operators
    assert record.compiled_bytes == compiled.stat().st_size
    # Against the CPU and against PyTorch, both for the self-test.
    errors = {check.output: check.max_abs for check in record.checks}
    assert {"probs", "embedding", "probs, against PyTorch", "embedding, against PyTorch"} == set(errors)
    assert 0 < errors["probs, against PyTorch"] < 5e-3  # float16 weights
    assert compiled.name in (card := bundle.file("model_card").read_text(encoding="utf-8"))
    assert f"{INTEL_CPU} | {record.taken} of {record.operators} in 1 part" in card
    assert npu_check(bundle, soc=INTEL_CPU, compiled=compiled).passed
    assert Tagger(bundle).tag(demo_clips()[0]).engine == "cpu"
    with pytest.raises(BundleError, match="custom"):
        CpuEngine(compiled)


def test_what_the_compiler_does_not_take_leaves_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], intel: None
) -> None:
    """OpenVINO's plugin takes all operators of four-bit weights, and then writes no file."""
    command = ["convert", "demo", "--precision", "int4-weights", "--seconds", "1", "--npu", INTEL_CPU, "--npu-parts"]
    assert main([*command, "--out", str(tmp_path / "bundle")]) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "the NPU of intel-cpu does not take the whole demo_synthetic_int4-weights.tflite: " in printed
    assert "the plugin wrote no file" in printed
    assert "--npu-parts" not in printed  # which does not help
    assert list(tmp_path.iterdir()) == []


@pytest.mark.qualcomm
def test_a_part_is_written_only_if_it_is_asked_for(tmp_path: Path) -> None:
    """The Hexagon NPU quantizes no activations at run time, so that of int8 it takes a part."""
    options: dict[str, Any] = {"precision": "int8", "seconds": 1.0, "npu": "sm8650", "out": tmp_path / "bundle"}
    with pytest.raises(
        ParityError, match=r"does not take the whole .* CONV_2D: .* operators in \d+ parts.*--npu-parts"
    ):
        convert("demo", **options)
    assert list(tmp_path.iterdir()) == []
    bundle = convert("demo", **options, npu_parts=True)
    (record,) = bundle.manifest.npu
    assert bundle.manifest.npu_file("SM8650") == "demo_synthetic_int8_sm8650.tflite"
    assert 0 < record.taken < record.operators
    assert record.partitions > 1
    assert record.refused
    assert (record.resident, record.passed, record.checks) == (False, False, ())
    card = bundle.file("model_card").read_text(encoding="utf-8")
    assert f"{record.taken} of {record.operators} in {record.partitions} parts" in card


@pytest.mark.parametrize(
    ("socs", "message"),
    [
        ("sm8651", r"SoC 'sm8651'; expected one of .*SM8650.*intel-cpu"),
        ("", "SoC ''"),
        ("intel-cpu,", "SoC ''"),
    ],
)
def test_an_unknown_soc(socs: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NpuError, match=message):
        convert("mn04", npu=socs, out=tmp_path / "bundle", report=never)
    assert list(tmp_path.iterdir()) == []


def never(step: str) -> None:
    """A report that no step may reach."""
    raise AssertionError(step)


@pytest.mark.parametrize(("soc", "package"), [("sm8650", "onnxruntime_qnn"), (INTEL_CPU, "openvino")])
def test_missing_parts_end_it_before_it_begins(
    soc: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the checkpoint is downloaded."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NpuVendorError, match="not installed"):
        convert("mn04", npu=soc, out=tmp_path / "bundle", report=never)
    assert list(tmp_path.iterdir()) == []
