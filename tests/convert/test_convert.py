"""Convert and verify: every stage at several clip lengths; `verify` detects every broken file and manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from safetensors.torch import load_file
from support import data_place, disk_full, edit_manifest, make_consistent, rehash, run_python

from panns_litert.bundle import CACHE_VARIABLE, MANIFEST, Bundle, Check, file_sha256
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.engine import CpuEngine
from panns_litert.errors import (
    BundleError,
    CheckpointError,
    ConversionError,
    ModelError,
    PannsLitertError,
    ParityError,
    ResultsError,
)
from panns_litert.proof import GATES, self_test_check
from panns_litert.tagger import Tagger
from panns_litert_convert import export
from panns_litert_convert import quantize as quantize_module
from panns_litert_convert.convert import convert, verify, work_folder
from panns_litert_convert.stages import constants_check
from panns_litert_convert.zoo import asset, find

STAGES = ["front_end"] * 4 + ["network"] * 2 + ["fp32"] * 3 + ["fp16"] * 3


def show(checks: tuple[Check, ...] | list[Check]) -> None:
    for c in checks:
        print(f"{c.stage} {c.output}: max abs {c.max_abs} (bound {c.threshold['max_abs']}), corr {c.corr} {c.why}")


# --- what must work ---


@pytest.mark.parametrize("seconds", [1.0, 3.7, 10.0])
def test_demo_passes_every_stage(seconds: float, demo: Bundle, tmp_path: Path) -> None:
    bundle = demo if seconds == 10.0 else convert("demo", seconds=seconds, out=tmp_path / "bundle")
    manifest = bundle.manifest
    show(manifest.parity)
    assert [check.stage for check in manifest.parity] == STAGES
    assert all(check.passed for check in manifest.parity)
    assert manifest.inputs[0].shape == (1, 1, round(seconds * 32000) // 320 + 1, 64)
    assert [output.name for output in manifest.outputs] == ["probs", "embedding"]
    assert bundle.self_test is not None
    assert len(bundle.self_test.pcm) == 2 * 32000 * min(2, seconds)
    check = self_test_check(bundle.self_test, manifest, CpuEngine(bundle.file("model")))
    assert check.passed, check.why


@pytest.mark.full
@pytest.mark.parametrize(
    ("seconds", "graph", "gpu"),
    # README's commands convert 10 s of log-mel. That graph is part of the waveform graph.
    [(2.0, "logmel", True), (10.0, "waveform", True), (30.0, "logmel", False)],
)
def test_full_size_cnn14_passes_every_stage(
    seconds: float, graph: str, gpu: bool, official_pth: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Run the command in its own process, with the recipe's weights, and measure its peak memory."""
    if gpu:
        request.getfixturevalue("vulkan")
    out = tmp_path / "bundle"
    command = [sys.executable, "-m", "panns_litert.cli", "convert", "cnn14", "--json", "--seconds", str(seconds)]
    command += ["--graph", graph, *(["--gpu"] if gpu else [])]
    process = subprocess.Popen(
        [*command, "--checkpoint", str(official_pth), "--out", str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    checks = [Check(**check) for check in json.loads(printed)["parity"]]
    show(checks)
    print(f"{seconds:g} s: peak memory {usage.ru_maxrss / 1e6:.2f} GB")
    bundle = Bundle(out)
    assert [check.stage for check in bundle.manifest.parity if "graph" not in check.output] == STAGES
    assert all(check.passed for check in checks)
    assert bundle.manifest.graph == graph
    if gpu:
        record = bundle.manifest.gpu
        assert record is not None
        assert record.passed
        assert record.resident
        assert record.arithmetic == "float16"
        print(f"{graph}: {record.operators} operators resident on {record.adapter}")
    assert bundle.file("model").stat().st_size <= 163e6
    assert bundle.manifest.outputs[0].shape == (1, 527)
    assert bundle.manifest.outputs[1].shape == (1, 2048)
    assert usage.ru_maxrss < 4e6  # kB
    probs = Tagger(bundle).tag(demo_clips()[0]).probs
    assert np.ptp(probs) > 0


def test_converting_again_gives_the_same_bytes(demo: Bundle, copy_of: Callable[[Bundle], Path], tmp_path: Path) -> None:
    target = copy_of(demo)
    (target / "README.md").write_text("of an older conversion", encoding="utf-8")
    again = convert("demo", out=target)
    assert again.path == target
    assert sorted(os.listdir(target)) == sorted(os.listdir(demo.path))
    for name in os.listdir(demo.path):
        assert file_sha256(target / name) == file_sha256(demo.path / name)
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.usefixtures("hub")
def test_shipped_demo_bundle_verifies() -> None:
    """The bundle in assets/ was made from the checkpoint in assets/ and passes every stage, also after a download."""
    checks = verify("hf:org/demo")
    show(checks)
    assert [check.stage for check in checks] == [*STAGES, "fp16", "self_test", "self_test"]
    assert [check.output for check in checks[-3:]] == ["constants", "probs, PyTorch", "probs, CPU"]
    assert all(check.passed for check in checks)


def test_fp32_bundle(tmp_path: Path) -> None:
    bundle = convert("demo", precision="fp32", out=tmp_path / "bundle")
    assert bundle.manifest.precision == "fp32"
    assert bundle.file("model").name == "demo_synthetic_fp32.tflite"
    assert {check.stage for check in bundle.manifest.parity} == {"front_end", "network", "fp32"}
    assert all(check.passed for check in verify(bundle.path))


def test_a_published_checkpoint_with_an_md5_only_goes_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = find("demo")
    md5 = hashlib.md5(asset(demo.checkpoint.file).read_bytes()).hexdigest()
    published = replace(demo, checkpoint=replace(demo.checkpoint, sha256=None, md5=md5))
    monkeypatch.setattr("panns_litert_convert.convert.find", lambda _: published)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    bundle = convert("demo")
    assert bundle.path.is_relative_to(tmp_path)
    assert bundle.manifest.description == demo.description


def test_own_checkpoint_is_recorded_as_the_users_own(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    shutil.copyfile(asset("demo_checkpoint.safetensors"), weights)
    assert convert("demo", checkpoint=weights, out=tmp_path / "a").manifest.source.file == "demo_checkpoint.safetensors"
    state = load_file(weights)
    state["fc_audioset.bias"] += 0.1
    torch.save(state, tmp_path / "mine.pth")
    bundle = convert("demo", checkpoint=tmp_path / "mine.pth", out=tmp_path / "b")
    source = bundle.manifest.source
    assert (source.file, source.url, source.published_map) == ("mine.pth", None, None)
    assert "own" in source.licence
    assert all(check.passed for check in verify(bundle.path, checkpoint=tmp_path / "mine.pth"))
    assert "user's own weights" in bundle.manifest.description
    with pytest.raises(BundleError, match="pass the checkpoint that it was made from"):
        verify(bundle.path)
    with pytest.raises(ModelError, match="expected --out DIR"):
        convert("demo", checkpoint=tmp_path / "mine.pth")


# --- broken files: the manifest agrees with the file, so that only a parity gate can detect the damage ---


def tamper(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change a .tflite in place."""
    data = bytearray(path.read_bytes())
    before = bytes(data)
    change(data)
    assert data != before
    path.write_bytes(data)


def weights_of(data: bytearray, rows: int) -> np.ndarray:  # type: ignore[type-arg]
    """Return the float16 weights (flattened) of the graph's last constant with that many rows, as a view of data."""
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    for i in reversed(range(graph.TensorsLength())):
        tensor = graph.Tensors(i)
        if tensor.Type() == schema.TensorType.FLOAT16 and tensor.ShapeLength() > 1 and tensor.Shape(0) == rows:
            offset, size = data_place(model.Buffers(tensor.Buffer()))
            return np.frombuffer(data, np.float16, count=size // 2, offset=offset)
    raise AssertionError("no such tensor")


def flip_one_bit_of_one_weight(data: bytearray) -> None:
    weights = weights_of(data, 16)  # in the second block
    below_two = np.where(np.abs(weights) < 2, np.abs(weights), 0)
    weights.view(np.uint16)[below_two.argmax()] ^= 0x4000  # highest bit of the exponent: times 65536


def perturb_one_weight(data: bytearray) -> None:
    weights = weights_of(data, 16)
    weights[np.abs(weights).argmax()] *= 1.5


def disable_classes_that_no_clip_has(data: bytearray) -> None:
    """Disable classes that every parity clip gives a probability below 0.001. It stays below that."""
    labels = Bundle(demo_bundle()).labels
    weights = weights_of(data, len(labels)).reshape(len(labels), -1)
    for label in ("Alarm clock", "Cricket", "Silence"):
        row = weights[labels.index(label)]
        row[row > 0] = 0


def perturb_one_weight_slightly(data: bytearray) -> None:
    weights = weights_of(data, len(Bundle(demo_bundle()).labels))
    weights[0] += 0.002 * np.abs(weights).max()


def put_nan_in_a_constant(data: bytearray) -> None:
    weights_of(data, 96)[7] = np.nan


def zero_the_last_layer(data: bytearray) -> None:
    weights_of(data, len(Bundle(demo_bundle()).labels))[:] = 0


def swap_the_outputs(data: bytearray) -> None:
    signature = schema.Model.GetRootAs(data, 0).SignatureDefs(0)
    places = []
    for i in range(2):
        table = signature.Outputs(i)._tab
        places.append(table.Pos + table.Offset(6))  # field 1 of TensorMap: tensor_index
    first, second = (data[place : place + 4] for place in places)
    data[places[0] : places[0] + 4], data[places[1] : places[1] + 4] = second, first


def failed(folder: Path) -> set[tuple[str, str]]:
    checks = verify(folder)
    show(checks)
    return {(check.stage, check.output) for check in checks if not check.passed}


@pytest.mark.parametrize(
    ("change", "outputs"),
    [
        (flip_one_bit_of_one_weight, {"probs", "logits", "embedding", "constants", "probs, CPU"}),
        (perturb_one_weight, {"probs", "logits", "embedding", "constants"}),
        (put_nan_in_a_constant, {"probs", "logits", "embedding", "constants", "probs, CPU"}),
        (zero_the_last_layer, {"probs", "logits", "constants", "probs, CPU"}),
        (disable_classes_that_no_clip_has, {"logits", "constants"}),
        (perturb_one_weight_slightly, {"constants"}),
    ],
)
def test_altered_weights_fail_the_fp16_gate_and_the_self_test(
    change: Callable[[bytearray], None], outputs: set[str], demo: Bundle, copy_of: Callable[[Bundle], Path]
) -> None:
    folder = copy_of(demo)
    tamper(folder / demo.file("model").name, change)
    make_consistent(folder, demo.file("model").name)
    assert failed(folder) == {("self_test" if output == "probs, CPU" else "fp16", output) for output in outputs}


def test_swapped_outputs_are_refused(demo: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(demo)
    tamper(folder / demo.file("model").name, swap_the_outputs)
    make_consistent(folder, demo.file("model").name)
    for opened in (verify, Tagger):
        with pytest.raises(BundleError, match="the manifest says"):
            opened(folder)


def test_wrong_mel_basis_fails(demo: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(demo)
    basis = np.fromfile(folder / "mel_basis.bin", "<f4")
    basis[basis.argmax()] *= 1.001
    basis.tofile(folder / "mel_basis.bin")
    rehash(folder, "mel_basis.bin")
    with pytest.raises(BundleError, match=r"mel_basis.bin is not the mel basis of the manifest's front end"):
        verify(folder)


def test_truncated_model_fails(demo: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(demo)
    model = folder / demo.file("model").name
    model.write_bytes(model.read_bytes()[:-1000])
    with pytest.raises(BundleError, match="bytes; the manifest says"):
        verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["front_end"].update(amin=1e-9), "front_end"),
        (lambda m: m["front_end"].update(hop_length=160), "inputs"),
        (lambda m: m["front_end"].update(fmax=13000.0), "mel basis"),
        (lambda m: m["source"].update(sha256="0" * 64), "source"),
        (lambda m: m["source"].update(licence="MIT"), "source"),
        (lambda m: m.update(network="Cnn10"), "network"),
        (lambda m: m.update(clip_seconds=5.0), "inputs"),
        (lambda m: m.update(model="cnn15"), "no model 'cnn15'"),
        (lambda m: m.update(parity=[c for c in m["parity"] if c["stage"] != "fp16"]), "proof"),
        (lambda m: m["parity"][3].update(passed=False), "proof"),
        (lambda m: m["parity"][3].update(threshold={}), "proof"),
        (lambda m: m["parity"][3].update(max_abs=None), "recorded parity"),
        (lambda m: m["parity"][3].update(max_abs=0.0), "recorded parity"),
        (lambda m: m.update(parity=[]), "proof"),
        (lambda m: m.update(gpu={"passed": True}), "manifest.gpu: missing adapter"),
        (lambda m: m.update(description="PANNs"), "description is PANNs"),
        (lambda m: m.update(versions={}), "versions"),
    ],
)
def test_edited_manifest_fails(
    change: Callable[[dict[str, object]], object],
    message: str,
    demo: Bundle,
    copy_of: Callable[[Bundle], Path],
) -> None:
    folder = copy_of(demo)
    edit_manifest(folder, change)
    with pytest.raises(PannsLitertError, match=message):
        verify(folder)


@pytest.mark.parametrize("edit", [None, b"", b"---\nlicense: cc-by-4.0\n---\n# Mine\n", bytes(100_000)])
def test_the_model_card_is_no_part_of_the_proof(
    edit: bytes | None, demo: Bundle, copy_of: Callable[[Bundle], Path]
) -> None:
    folder = copy_of(demo)
    card = folder / "README.md"
    card.unlink() if edit is None else card.write_bytes(edit)
    checks = verify(folder)
    assert checks
    assert all(check.passed for check in checks)


def test_edited_figures_fail_even_with_their_model_card(demo: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(demo)
    edit_manifest(folder, lambda m: m["parity"][6]["threshold"].update(max_abs=1.0))
    make_consistent(folder, "mel_basis.bin")
    with pytest.raises(BundleError, match="recorded parity is not that of these stages"):
        verify(folder)


def test_a_failed_gate_leaves_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(source: Path, path: Path, *, keep: str | None, log: Path) -> None:
        export.cast_fp16(source, path, keep=keep, log=log)
        tamper(path, flip_one_bit_of_one_weight)

    monkeypatch.setattr(quantize_module, "cast_fp16", spoilt)
    with pytest.raises(ParityError, match="fp16/probs") as caught:
        convert("demo", out=tmp_path / "bundle")
    assert os.listdir(tmp_path) == []
    assert isinstance(caught.value.report, list)
    assert [check.stage for check in caught.value.report] == STAGES


def test_a_failed_gate_leaves_the_old_bundle(
    demo: Bundle, copy_of: Callable[[Bundle], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = copy_of(demo)
    edit_manifest(old, lambda m: m.update(versions={"python": "2.7"}))  # marks the old bundle
    monkeypatch.setitem(GATES, "fp32", type(GATES["fp32"])(max_abs=0.0))
    with pytest.raises(ParityError, match="fp32/probs"):
        convert("demo", out=old)
    assert os.listdir(tmp_path) == [old.name]
    assert Bundle(old).manifest.versions == {"python": "2.7"}
    for name in set(os.listdir(old)) - {MANIFEST}:
        assert file_sha256(old / name) == file_sha256(demo.path / name)


def test_a_failing_converter_names_its_log(tmp_path: Path) -> None:
    class Hopeless(torch.nn.Module):
        def forward(self, logmel: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"probs": logmel if logmel.sum() > 0 else -logmel}  # a branch on data cannot be exported

    log = tmp_path / "convert.log"
    with pytest.raises(ConversionError, match=rf"cannot convert Hopeless.*see {log}") as caught:
        export.export_fp32(Hopeless().eval(), {"logmel": torch.ones(1, 1, 4, 4)}, tmp_path / "x.tflite", log=log)
    assert "\n" not in str(caught.value)
    assert log.stat().st_size > 0


def test_tensors_have_the_paths_of_their_modules(tmp_path: Path) -> None:
    """The converter's own names list all modules around an operator: an eighth of mn04's int8 file was names."""
    network = find("demo").build().eval().for_export(samples=32000)
    path = tmp_path / "fp32.tflite"
    export.export_fp32(network, {"logmel": torch.zeros(1, 1, 101, 64)}, path, log=tmp_path / "log")
    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    names = [graph.Tensors(index).Name().decode() for index in range(graph.TensorsLength())]
    assert len(set(names)) == len(names)
    modules = {*dict(network.named_modules()), type(network).__name__}
    made_here = [name for name in names if not name.startswith(("tag_", "arith.constant"))]
    assert {part for name in made_here for part in name.split(";") if not part.isdigit()} <= modules
    assert {"fc1;", "fc1;1"} <= set(names)


def test_a_bundle_with_long_tensor_names_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older bundles have the converter's long names. Constants are compared in the file's order, not by name."""
    with monkeypatch.context() as patch:
        patch.setattr(export, "_short_names", contextlib.nullcontext)
        bundle = convert("demo", seconds=1.0, out=tmp_path / "old")
    assert b"torch.nn.modules" in bundle.file("model").read_bytes()
    assert all(check.passed for check in verify(bundle.path))
    other = convert("demo", seconds=1.0, graph="waveform", out=tmp_path / "other")
    check = constants_check("fp16", bundle.file("model"), other.file("model"))
    assert not check.passed
    assert re.fullmatch(r".* \(.*\) is missing|.* differs by .*", check.why)


# --- a full disk, and killed runs ---

_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from panns_litert.errors import PannsLitertError
from panns_litert_convert.export import cast_fp16, export_fp32
from panns_litert_convert.quantize import quantize
from panns_litert_convert.zoo import find
folder = Path(sys.argv[1])
network = find("demo").build().eval().for_export(samples=32000)
inputs, source, log = {"logmel": torch.zeros(1, 1, 101, 64)}, folder / "source.tflite", folder / "log"
export_fp32(network, inputs, source, log=log)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)  # a write beyond it fails, as on a full disk
for write in (
    lambda path: export_fp32(network, inputs, path, log=log),
    lambda path: cast_fp16(source, path, log=log),
    lambda path: quantize(source, path, precision="int8", log=log),
):
    try:
        write(folder / "made.tflite")
    except PannsLitertError as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("room", [50_000, 10])  # of 10 bytes, the log has no room either
def test_a_full_disk_is_one_error_of_every_writer(tmp_path: Path, room: int) -> None:
    done = run_python(_ON_A_FULL_DISK, tmp_path, str(room))
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(line.startswith("ResultsError: ") and "File too large" in line for line in lines), lines
    assert sorted(os.listdir(tmp_path)) == ["log", "source.tflite"]


def test_a_full_disk_leaves_the_old_bundle(
    demo: Bundle, copy_of: Callable[[Bundle], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    target = copy_of(demo)
    monkeypatch.setattr(shutil, "copyfile", disk_full)
    with pytest.raises(ResultsError, match="No space left on device"):
        convert("demo", out=target)
    assert sorted(name for name in os.listdir(tmp_path) if not name.startswith(".")) == ["cache", target.name]
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".folders.lock"]
    Bundle(target)


_WORKING = """
import time
from panns_litert_convert.convert import work_folder
with work_folder() as folder:
    (folder / "source.tflite").write_bytes(b"large")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_the_next_run_deletes_the_work_of_killed_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    (tmp_path / "work" / "tmp_of_an_older_version").mkdir(parents=True)
    runs = [
        subprocess.Popen([sys.executable, "-c", _WORKING], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]  # fmt: skip
    try:
        killed, running = (Path(run.stdout.readline().strip()) for run in runs if run.stdout)
        runs[0].kill()
        runs[0].wait()
        assert (killed / "source.tflite").exists()
        with work_folder() as mine:
            assert {path for path in (tmp_path / "work").iterdir() if path.is_dir()} == {running, mine}
            assert (running / "source.tflite").exists()
        assert not mine.exists()
    finally:
        for run in runs:
            run.kill()
            run.communicate()


# --- bad input ---


@pytest.mark.parametrize("seconds", [0.0, 0.99, 60.1, -1.0, float("nan"), float("inf")])
def test_length_out_of_range(seconds: float, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected 1 … 60 s"):
        convert("demo", seconds=seconds, out=tmp_path / "bundle")
    assert os.listdir(tmp_path) == []


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model 'cnn41'; did you mean cnn14 or cnn10\?"):
        convert("cnn41", out=tmp_path / "bundle")
    with pytest.raises(ModelError, match="expected one of fp32, fp16"):
        convert("demo", precision="int3", out=tmp_path / "bundle")


def test_a_folder_that_is_not_a_bundle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        convert("demo", out=tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_the_current_folder_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="is the current folder"):
        convert("demo", out=".")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "step", "later"),
    [
        (signal.SIGINT, "", 1.5),  # while torch is imported
        (signal.SIGINT, "network", 0.2),
        (signal.SIGINT, "export fp32", 1.5),  # where the converter's libraries lose interrupts
        (signal.SIGTERM, "export fp32", 1.5),
    ],
)
def test_an_interrupted_conversion_answers_soon_and_leaves_nothing(
    number: signal.Signals, step: str, later: float, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-m", "panns_litert.cli", "convert", "demo", "--out", str(tmp_path / "bundle")],
        env=os.environ | {"PANNS_LITERT_CACHE": str(cache)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore SIGINT
    )
    assert process.stderr is not None
    for line in process.stderr if step else ():
        if step in line:
            break
    time.sleep(later)
    process.send_signal(number)
    sent = time.monotonic()
    assert "interrupted" in process.stderr.read()
    assert process.wait() == 130
    assert time.monotonic() - sent < 10.0  # 2 s on a machine that does nothing else
    assert set(os.listdir(tmp_path)) <= {"cache"}
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} <= {".lock"}


@pytest.mark.parametrize("lost", ["by a library", "by the garbage collector", "not at all"])
def test_an_interrupt_that_is_lost_is_raised_again(lost: str) -> None:
    """Also one whose last attempt is lost: at the end of the block. Clean-up is not interrupted."""
    code = f"""
import gc, os, signal, time
from panns_litert.interrupt import insisting
def lose(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
cleaned = False
start = time.monotonic()
try:
    with insisting(), insisting():
        try:
            if {lost!r} == "by a library":
                try:
                    lose()
                except BaseException:
                    pass
            elif {lost!r} == "by the garbage collector":
                gc.callbacks.append(lose)
                gc.collect()
                gc.callbacks.clear()
            else:
                lose()
            time.sleep(20)
        finally:
            time.sleep(1)
            cleaned = True
except KeyboardInterrupt:
    assert time.monotonic() - start < 10
    assert cleaned
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted")
"""
    assert run_python(code).stdout == "interrupted\n"


@pytest.mark.parametrize("deaf", [True, False])
def test_native_code_that_does_not_listen_is_ended(deaf: bool) -> None:
    """A process that answers is left alone, however long its clean-up takes."""
    work = "sum(range(10**12))" if deaf else "try: time.sleep(60)\n    finally: time.sleep(2); print('cleaned')"
    code = f"""
import time
from panns_litert.interrupt import insisting
with insisting(kill_after=0.5):
    time.sleep(1)  # until the watching process has started
    print("begun", flush=True)
    {work}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=60)
    if deaf:
        assert process.returncode == -signal.SIGKILL
        assert error.splitlines() == [
            "panns-litert: interrupted in a step that cannot be stopped; the process was ended"
        ]
    else:
        assert printed == "cleaned\n"
        assert error.splitlines()[-1] == "KeyboardInterrupt"


def test_another_networks_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it looks like demo: convert that"):
        convert("cnn14", checkpoint=asset("demo_checkpoint.safetensors"), out=tmp_path / "bundle")
    assert os.listdir(tmp_path) == []
