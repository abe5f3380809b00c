"""Device records: strict reading and writing, real measurements, one table and one picture of all."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kotlin
import make_records as vectors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, edit_manifest

from panns_litert.bundle import Bundle
from panns_litert.cli import main
from panns_litert.demo import demo_bundle
from panns_litert.engine import available_cores
from panns_litert.errors import BenchError, BundleError, PictureError, RecordError
from panns_litert.measure import (
    Agreement,
    Device,
    DeviceRecord,
    Latency,
    Measured,
    Run,
    add_runs,
    agreement_of,
    bench,
    join,
    plot_rungs,
    read_record,
    read_records,
    table,
    this_device,
)
from panns_litert.measure.bench_worker import peak_memory
from panns_litert.proof import run_child

# --- the format ---

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)
NAME = st.from_regex(r"[A-Za-z0-9][ -~]{0,15}", fullmatch=True)
POSITIVE = st.floats(min_value=1e-3, max_value=1e9)
COUNT = st.integers(1, 10**9)


@st.composite
def latencies(draw: st.DrawFn) -> Latency:
    least, p10, median, p90 = sorted(draw(st.lists(POSITIVE, min_size=4, max_size=4)))
    return Latency(min=least, p10=p10, median=median, p90=p90)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    on_gpu, operators = draw(st.booleans()), draw(st.integers(1, 500))
    share = st.floats(0, 1)
    return Run(
        model=draw(TEXT),
        network=draw(TEXT),
        precision=draw(st.sampled_from(["fp32", "fp16", "int8", "int4-weights"])),
        graph=draw(st.sampled_from(["logmel", "waveform"])),
        clip_seconds=draw(POSITIVE),
        model_bytes=draw(COUNT),
        model_sha256=draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        engine="gpu" if on_gpu else "cpu",
        adapter=draw(TEXT) if on_gpu else None,
        driver=draw(st.none() | TEXT) if on_gpu else None,
        xnnpack=None if on_gpu else draw(st.booleans()),
        threads=None if on_gpu else draw(st.integers(1, 64)),
        versions=draw(st.dictionaries(TEXT, TEXT, min_size=1, max_size=3)),
        warmup=draw(st.integers(0, 9)),
        runs=draw(COUNT),
        ms=draw(latencies()),
        first_ms=draw(POSITIVE),
        peak_memory_bytes=draw(COUNT),
        operators=operators,
        resident=draw(st.integers(0, operators)) if on_gpu else None,
        date=draw(st.dates()).isoformat(),
        agreement=draw(
            st.none() | st.builds(Agreement, max_abs_prob=share, corr=st.floats(-1, 1), tags=st.none() | share)
        ),
    )


RECORDS = st.builds(
    DeviceRecord,
    device=st.builds(Device, name=NAME, os=TEXT, cpu=TEXT, cores=COUNT, memory_bytes=COUNT),
    runs=st.lists(runs(), max_size=4, unique_by=lambda run: run.key).map(tuple),
)


@settings(max_examples=60)
@given(RECORDS)
def test_what_is_written_is_read(record: DeviceRecord) -> None:
    text = record.to_json()
    assert DeviceRecord.from_json(text) == record
    assert DeviceRecord.from_json(text).to_json() == text
    assert replace(record, runs=record.runs[::-1]).to_json() == text  # the order of the runs does not count
    assert record.with_runs(record.runs) == record


@settings(max_examples=60)
@given(RECORDS, st.data())
def test_a_damaged_text_is_a_record_or_one_error(record: DeviceRecord, data: st.DataObject) -> None:
    text = record.to_json()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 9)))
    damaged = text[:start] + data.draw(st.text('0123456789{}[],:"-enulltrufasNI', max_size=3)) + text[end:]
    try:
        DeviceRecord.from_json(damaged)
    except RecordError as error:
        assert "\n" not in str(error).strip()


def test_the_vectors_are_what_their_generator_writes() -> None:
    assert vectors.VECTORS.read_text(encoding="utf-8") == vectors.text()


@pytest.mark.parametrize("name", vectors.GOOD)
def test_good_vectors(name: str) -> None:
    record = DeviceRecord.from_json(json.dumps(vectors.GOOD[name]))
    assert json.loads(record.to_json()) == vectors.GOOD[name]


def test_bad_vectors_are_refused_and_the_field_is_named(tmp_path: Path) -> None:
    good, changes = vectors.GOOD["both engines"], vectors.bad()
    assert len(changes) > 250
    assert {change["path"] for change in changes} >= set(vectors.paths(good))
    for change in changes:
        path = tmp_path / "device.json"
        path.write_text(json.dumps(vectors.changed(good, change)), encoding="utf-8")
        with pytest.raises(RecordError, match=r"device\.json: .+(expected|this version reads)") as refusal:
            read_record(path)
        # With another valid engine, the error names a field that this engine must not have.
        name = "adapter" if change == {"path": "runs.0.engine", "value": "gpu"} else change["path"].split(".")[-1]
        assert name in str(refusal.value), change


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "{", "NaN", "[" * 100_000, '{"format_version": 1e999}', "9" * 9999]
)
def test_text_that_is_no_record(text: str, tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"device\.json: .+(expected|reads)"):
        read_record(path)


def test_numbers_out_of_range() -> None:
    good = json.dumps(vectors.GOOD["both engines"])
    for value in ("NaN", "Infinity", "1e999", "9" * 400):
        assert '"first_ms": 31.5' in good
        with pytest.raises(RecordError, match=r"finite number|at most 64 bits"):
            DeviceRecord.from_json(good.replace('"first_ms": 31.5', f'"first_ms": {value}', 1))


# --- files ---


def example(**changes: Any) -> Run:
    run = DeviceRecord.from_json(json.dumps(vectors.GOOD["both engines"])).runs[0]
    return replace(run, **changes)


DEVICE = Device(**vectors.DEVICE)


def test_a_new_run_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    path = add_runs(folder, DEVICE, [example(), example(threads=1)])
    assert path == folder / "phone-8.json"
    newer = replace(DEVICE, os="Android 16")
    assert add_runs(folder, newer, [example(first_ms=1.0), example(precision="fp32")]) == path
    record = read_record(path)
    assert record.device == newer
    assert [(run.precision, run.threads, run.first_ms) for run in record.runs] == [
        ("fp32", 4, 31.5),
        ("int8-weights", 1, 31.5),
        ("int8-weights", 4, 1.0),
    ]
    assert [file.name for file in folder.iterdir()] == ["phone-8.json"]


def test_another_device_of_that_name_is_refused(tmp_path: Path) -> None:
    path = add_runs(tmp_path, DEVICE, [example()])
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"phone-8\.json is of another device .*--device NAME"):
        add_runs(tmp_path, replace(DEVICE, cores=4), [example()])
    path.write_text("{")
    with pytest.raises(RecordError, match=r"phone-8\.json: record: not JSON"):
        add_runs(tmp_path, DEVICE, [example()])
    path.write_bytes(before)
    add_runs(tmp_path, replace(DEVICE, name="phone -8-"), [])


def test_a_folder_of_records(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no device record; expected"):
        read_records(tmp_path)
    add_runs(tmp_path, replace(DEVICE, name="B"), [example()])
    add_runs(tmp_path, replace(DEVICE, name="A"), [example()])
    assert [record.device.name for record in read_records(tmp_path)] == ["A", "B"]
    (tmp_path / "c.json").write_bytes((tmp_path / "a.json").read_bytes())
    with pytest.raises(RecordError, match=r"c\.json: another record is of 'A', too"):
        read_records(tmp_path)
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(RecordError, match=r"c\.json: no format_version"):
        read_records(tmp_path)


def test_this_device() -> None:
    device = this_device()
    assert device.cores == available_cores()
    assert device.memory_bytes > 10**8
    assert this_device("Bench 1").slug == "bench-1"
    with pytest.raises(RecordError, match=r"device name '!'; expected"):
        this_device("!")


def test_agreement_is_the_bundles_own_proof(copy_of: Callable[[Bundle], Path]) -> None:
    bundle = Bundle(demo_bundle())
    (probs,) = (c for c in bundle.manifest.parity if (c.stage, c.output) == ("fp16", "probs"))
    agreement = agreement_of(bundle.manifest)
    assert agreement == Agreement(max_abs_prob=probs.max_abs or 0.0, corr=probs.corr or 0.0, tags=None)
    folder = copy_of(bundle)

    def add_tags(manifest: dict[str, Any]) -> None:  # as a quantized bundle has them: the share of tags that differ
        manifest["parity"].append(probs.to_dict() | {"output": "tags", "max_abs": 0.0625})

    edit_manifest(folder, add_tags)
    with_tags = agreement_of(Bundle(folder).manifest)
    assert with_tags is not None
    assert with_tags.tags == 0.9375


# --- the measurement ---


@pytest.fixture(scope="module")
def measured() -> Measured:
    """A real measurement of the demo bundle on the CPU."""
    return bench([demo_bundle()], engines=["cpu"], warmup=2, runs=6, rounds=2)


def test_every_setting_is_measured(measured: Measured) -> None:
    assert measured.failures == ()
    cores = dict.fromkeys((1, available_cores()))
    assert [(run.threads, run.xnnpack) for run in measured.runs] == [(n, x) for n in cores for x in (True, False)]
    manifest = Bundle(demo_bundle()).manifest
    for run in measured.runs:
        assert (run.warmup, run.runs, run.operators, run.resident) == (4, 12, 41, None)
        assert run.model_sha256 == manifest.files["demo_synthetic_fp16.tflite"].sha256
        assert run.agreement == agreement_of(manifest)
        # Opening takes longer than running, and LiteRT alone takes tens of megabytes.
        assert run.first_ms > run.ms.min
        assert 30e6 < run.peak_memory_bytes < 2e9
        assert DeviceRecord.from_json(DeviceRecord(device=DEVICE, runs=(run,)).to_json()).runs == (run,)
    fast, slow = measured.runs[:2]
    assert fast.ms.min < slow.ms.min  # otherwise XNNPACK was not switched off


def test_peak_memory_is_the_process_s_own() -> None:
    before = peak_memory()
    ballast = bytearray(300_000_000)
    ballast[::4096] = bytes(len(ballast[::4096]))
    assert peak_memory() >= before
    assert peak_memory() > 300_000_000
    (run,) = bench([demo_bundle()], engines=["cpu"], threads=[1], xnnpack=[True], warmup=1, runs=1, rounds=1).runs
    assert run.peak_memory_bytes < 300_000_000  # although its parent process is larger
    assert run.runs == run.warmup == 1


def test_turns() -> None:
    """Settings take turns. `seconds` ends a turn early, but not before one run."""
    with pytest.raises(BenchError, match="are both demo fp16; expected one of them"):
        bench([Bundle(demo_bundle()), demo_bundle()], engines=["cpu"])
    turns: list[str] = []
    options: dict[str, Any] = {"engines": ["cpu"], "threads": [2, 1], "xnnpack": [True], "warmup": 9, "runs": 9}
    (two, one) = bench([demo_bundle()], **options, rounds=2, seconds=1e-9, report=turns.append).runs
    assert (one.threads, one.runs, one.warmup) == (1, 2, 2)
    assert two.threads == 2
    assert [turn.split(", ")[-1] for turn in turns] == ["2 threads", "1 thread"] * 2


def test_the_gpu_is_measured(vulkan: None) -> None:
    (run,) = bench([demo_bundle()], engines=["gpu"], warmup=1, runs=2, rounds=1).runs
    assert run.resident == run.operators == 41
    assert run.adapter
    assert run.driver
    assert (run.threads, run.xnnpack) == (None, None)


def test_a_model_that_does_not_run_is_a_failure_and_hides_no_other(copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(Bundle(demo_bundle()))
    bundle = Bundle(folder)
    bundle.file("model").write_bytes(b"no model")
    object.__setattr__(bundle, "manifest", replace(bundle.manifest, model="broken"))
    found = bench([bundle, demo_bundle()], engines=["cpu"], threads=[1], xnnpack=[True], warmup=1, runs=1, rounds=2)
    assert [run.model for run in found.runs] == ["demo"]
    (failure,) = found.failures
    assert failure.model == "broken"
    assert "not a .tflite file" in failure.why


def test_a_child_that_hangs_or_dies(tmp_path: Path) -> None:
    worker = "panns_litert.measure.bench_worker"
    assert run_child(worker, tmp_path, 60.0).startswith("the process failed: FileNotFoundError")
    assert run_child(worker, tmp_path, 0.01) == "no result after 0.01 s"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engines": []}, "engines none; expected"),
        ({"engines": ["npu"]}, "engines npu; expected"),
        ({"threads": [0]}, "threads = 0; expected"),
        ({"threads": []}, "expected at least one"),
        ({"xnnpack": []}, "expected at least one"),
        ({"warmup": 0}, "warmup = 0; expected"),
        ({"runs": 0}, "runs = 0; expected"),
        ({"rounds": -1}, "rounds = -1; expected"),
        ({"seconds": 0.0}, "seconds = 0.0; expected"),
        ({"timeout": float("nan")}, "timeout = nan; expected"),
        ({"bundles": []}, "no bundle given"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        bench(**({"bundles": [demo_bundle()]} | arguments))
    with pytest.raises(BundleError, match="no bundle at nowhere"):
        bench(["nowhere"])


# --- the report ---


def rung(model: str, precision: str, size: int, error: float, ms: float, **changes: Any) -> Run:
    return example(
        model=model,
        precision=precision,
        model_bytes=size,
        model_sha256=f"{size:064x}",
        agreement=Agreement(max_abs_prob=error, corr=0.999, tags=None),
        ms=Latency(min=ms, p10=ms, median=ms, p90=ms),
        **changes,
    )


A = replace(DEVICE, name="A")
B = replace(DEVICE, name="B", cores=4)
LADDER = [
    DeviceRecord(
        device=A,
        runs=(
            rung("m", "fp32", 4_000_000, 1e-6, 10.0),
            rung("m", "fp16", 2_000_000, 1e-3, 10.0),
            rung("m", "int8", 1_000_000, 2e-2, 5.0),
            rung("m", "int8-full", 1_000_001, 2e-2, 5.0),  # no better than int8, and larger
            rung("other", "fp32", 9_000_000, 1e-2, 99.0),  # another model is no rival
        ),
    ),
    DeviceRecord(
        device=B,
        runs=(
            rung("m", "int8-full", 1_000_001, 2e-2, 1.0),
            rung("m", "int8-full", 1_000_001, 2e-2, 4.0, threads=1),
            rung("m", "int8", 1_000_000, 2e-2, 5.0),
            replace(rung("m", "int8", 1_000_000, 2e-2, 5.0), xnnpack=False, threads=2),
            rung(
                "m", "int8", 1_000_000, 2e-2, 0.5, engine="gpu", adapter="llvmpipe, adapterType=CPU", threads=None,
                xnnpack=None, resident=41,
            ),
        ),
    ),
]  # fmt: skip


def test_the_pareto_front() -> None:
    front = {(r.device.name, r.file.model, r.file.precision) for r in join(iter(LADDER)) if r.pareto}
    assert front == {
        ("A", "m", "fp32"), ("A", "m", "fp16"), ("A", "m", "int8"), ("A", "other", "fp32"),
        ("B", "m", "int8"),  # smaller; its time on a software driver does not count
        ("B", "m", "int8-full"),
    }  # fmt: skip


def test_the_table() -> None:
    rows = table(join(LADDER))
    assert [(r["model"], r["precision"], r["device"]) for r in rows] == [
        ("m", "fp32", "A, 8 cores"),
        ("m", "fp16", "A, 8 cores"),
        ("m", "int8-full", "A, 8 cores"),
        ("m", "int8-full", "B, 4 cores"),
        ("m", "int8", "A, 8 cores"),
        ("m", "int8", "B, 4 cores"),
        ("other", "fp32", "A, 8 cores"),
    ]
    full, int8 = rows[3], rows[5]
    assert (full["1 thread"], full["all threads"], full["no XNNPACK"]) == ("4.00 (4.00–4.00)", "1.00 (1.00–1.00)", "–")
    assert int8["no XNNPACK"] == "5.00 (5.00–5.00) on 2"
    assert (int8["GPU"], int8["on the GPU"], full["on the GPU"]) == ("(software)", "41 of 41", "–")
    assert (int8["max error"], int8["MB"], int8["tags"]) == ("2.0e-02", "1.00", "–")


def write_records(folder: Path, records: list[DeviceRecord]) -> None:
    for record in records:
        add_runs(folder, record.device, record.runs)


def test_the_report_is_the_same_for_the_same_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for name, records in (("one", LADDER), ("two", LADDER[::-1])):
        folder = tmp_path / name
        write_records(folder / "records", records)
        document, drawing = folder / "doc.md", folder / "rungs.svg"
        document.write_text("before\n<!-- records -->\nold\n<!-- /records -->\nafter\n")
        options = ["--records", str(folder / "records"), "--out", str(document), "--plot", str(drawing)]
        assert main(["bench", "--report", *options]) == 0
        outputs.append((document.read_text(), drawing.read_bytes()))
        capsys.readouterr()
    assert outputs[0] == outputs[1]
    text, picture = outputs[0][0], outputs[0][1].decode()
    assert text.startswith("before\n<!-- records -->\n| model |")
    assert text.endswith("\n<!-- /records -->\nafter\n")
    assert "old" not in text
    for word in ("int8-full", "Pareto front", ">A<", ">B<"):
        assert word in picture, word
    assert main(["bench", "--report", "--json", "--records", str(tmp_path / "one" / "records")]) == 0
    assert len(json.loads(capsys.readouterr().out)["table"]) == 7


def test_the_picture_refuses_what_it_cannot_draw(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="suffix"):
        plot_rungs(join(LADDER), tmp_path / "rungs.gif")
    nothing = [DeviceRecord(device=A, runs=(example(agreement=None),))]
    with pytest.raises(RecordError, match="expected at least one to draw"):
        plot_rungs(join(nothing), tmp_path / "rungs.svg")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = tmp_path / "records"
    quick = ["--rounds", "1", "--runs", "2", "--warmup", "1", "--records", str(records), "--device", "Test bench"]
    assert main(["bench", str(demo_bundle()), "--engine", "cpu", "--threads", "1", *quick]) == 0
    printed = capsys.readouterr().out
    assert "Test bench" in printed
    assert len(read_record(records / "test-bench.json").runs) == 2
    assert main(["bench", "--engine", "cpu", "--threads", "1", "--xnnpack", "on", "--json", *quick]) == 0
    captured = capsys.readouterr()
    assert "demo bundle" in captured.err
    assert len(json.loads(captured.out)["runs"]) == 1
    assert len(read_record(records / "test-bench.json").runs) == 2
    assert main(["bench", "--report", "--records", str(records)]) == 0
    assert "| demo | fp16 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "BUNDLE"], "bundles with --report"),
        (["--plot", "p.png"], "without --report"),
        (["--report", "--records", "nowhere"], "nowhere: no device record"),
        (["nowhere"], "no bundle at nowhere"),
        (["--runs", "0"], "runs = 0; expected"),
        (["--device", "…"], "device name '…'; expected"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("panns-litert")]
    assert len(lines) == 1
    assert message in lines[0]


def test_what_was_measured_before_an_interruption_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = []

    def interrupted(*arguments: Any) -> str:
        turns.append(arguments)
        if len(turns) == 2:
            raise KeyboardInterrupt
        return run_child(*arguments)

    monkeypatch.setattr(importlib.import_module("panns_litert.measure.bench"), "run_child", interrupted)
    command = ["bench", "--engine", "cpu", "--xnnpack", "on", "--threads", "1", "2", "--runs", "1", "--rounds", "2"]
    assert main([*command, "--records", str(tmp_path), "--device", "bench"]) == 130
    assert "interrupted" in capsys.readouterr().err
    (run,) = read_record(tmp_path / "bench.json").runs
    assert (run.threads, run.runs) == (1, 1)
    turns[:] = [()]  # interrupted before the end of the first turn: there is nothing to keep
    assert main([*command, "--records", str(tmp_path), "--device", "none"]) == 130
    assert not (tmp_path / "none.json").exists()


def test_a_bad_record_is_one_line_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path, LADDER)
    data = json.loads((tmp_path / "b.json").read_text())
    data["runs"][1]["ms"]["median"] = -1
    (tmp_path / "b.json").write_text(json.dumps(data))
    assert main(["bench", "--report", "--records", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.json: " in line
    assert "runs[1].ms: median -1.0; expected a finite number > 0" in line


def test_the_documents_tables_are_those_of_the_records(tmp_path: Path) -> None:
    """This command writes them: panns-litert bench --report --out docs/bench.md --plot docs/rungs.svg"""
    shipped = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    copy = tmp_path / "bench.md"
    copy.write_text(shipped, encoding="utf-8")
    assert main(["bench", "--report", "--records", str(ROOT / "records"), "--out", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == shipped
    assert (ROOT / "docs" / "rungs.svg").is_file()


# --- Kotlin ---


def test_kotlin_writes_what_it_read(jvm: None, measured: Measured, tmp_path: Path) -> None:
    """Kotlin's own tests read the vectors. Here it reads and writes every vector and real measurements."""
    records = [DeviceRecord.from_json(json.dumps(record)) for record in vectors.GOOD.values()]
    records += [DeviceRecord(device=this_device(), runs=measured.runs), *LADDER]
    files = [(tmp_path / f"{i}.in.json", tmp_path / f"{i}.out.json") for i in range(len(records))]
    for (path, _), record in zip(files, records, strict=True):
        path.write_text(record.to_json(), encoding="utf-8")
    kotlin.run("io.github.pannslitert.measure.RecordDriverKt", *(path for pair in files for path in pair))
    for (_, path), record in zip(files, records, strict=True):
        assert read_record(path) == record
