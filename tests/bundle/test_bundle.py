"""Bundle: reading is strict, writing is atomic."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import edit_manifest, edit_self_test, rehash, without_self_test

from panns_litert.bundle import (
    ADOPTED_VERSION,
    FORMAT_VERSION,
    MANIFEST,
    NPU_MODEL,
    Bundle,
    BundleWriter,
    Manifest,
    NpuRecord,
    SelfTest,
    file_sha256,
)
from panns_litert.errors import BundleError, PannsLitertError

Copy = Callable[[Bundle], Path]
CHECKED = ["model", "mel_basis", "labels", "selftest", "selftest_samples"]


def test_what_convert_wrote_is_read(demo: Bundle) -> None:
    manifest = demo.manifest
    assert sorted(os.listdir(demo.path)) == sorted([*manifest.files, MANIFEST])
    assert manifest.clip_samples == 320000
    assert manifest.frames == 1001
    assert manifest.gpu is None
    assert demo.mel_basis.shape == (64, 513)
    assert len(demo.labels) == manifest.classes >= 16
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_model_card_shows_every_figure(demo: Bundle) -> None:
    card = demo.file("model_card").read_text(encoding="utf-8")
    manifest = demo.manifest
    for fact in (
        manifest.source.sha256,
        manifest.source.licence,
        "Not PANNs",
        manifest.file("model"),
        manifest.files[manifest.file("model")].sha256,
        *manifest.versions.values(),
    ):
        assert fact in card
    assert card.count("| yes |") == len(manifest.parity)


@pytest.mark.parametrize("role", CHECKED)
def test_missing_file(demo: Bundle, copy_of: Copy, role: str) -> None:
    folder = copy_of(demo)
    (folder / demo.manifest.file(role)).unlink()
    with pytest.raises(BundleError, match=rf"{demo.manifest.file(role)}: No such file.*convert it again"):
        Bundle(folder)


@pytest.mark.parametrize("role", CHECKED)
def test_altered_file(demo: Bundle, copy_of: Copy, role: str) -> None:
    folder = copy_of(demo)
    path = folder / demo.manifest.file(role)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{path.name} was altered.*convert it again"):
        Bundle(folder)
    path.write_bytes(data[:-1])
    with pytest.raises(BundleError, match=rf"{path.name} has .* bytes; the manifest says"):
        Bundle(folder)


def test_a_file_compiled_for_an_npu_is_checked_and_never_taken_for_the_model(demo: Bundle, copy_of: Copy) -> None:
    folder = copy_of(demo)
    compiled = folder / f"{demo.file('model').stem}_sm8650.tflite"
    compiled.write_bytes(b"not even a model")

    def add(data: dict[str, Any]) -> None:
        first = {compiled.name: {"role": NPU_MODEL, "sha256": "", "bytes": 0}}  # before the model in the manifest
        data["files"] = first | data["files"]

    edit_manifest(folder, add)
    with pytest.raises(BundleError, match="64 hexadecimal digits"):
        Bundle(folder)
    record = {"sha256": file_sha256(compiled), "bytes": compiled.stat().st_size}
    edit_manifest(folder, lambda data: data["files"][compiled.name].update(record))
    with pytest.raises(BundleError, match=f"{compiled.name} without the result of its NPU"):
        Bundle(folder)
    result = NpuRecord(
        soc="SM8650",
        architecture="v75",
        arithmetic="float16",
        operators=41,
        taken=15,
        partitions=7,
        resident=False,
        refused=("26 × CONV_2D: no",),
        errors=(),
        checks=(),
        compiled_bytes=compiled.stat().st_size,
        outputs_sha256=None,
        passed=False,
        model_sha256=demo.manifest.model_sha256,
        versions={},
    )
    edit_manifest(folder, lambda data: data.update(npu=[asdict(result)]))
    bundle = Bundle(folder)
    assert bundle.file("model").name == demo.file("model").name
    assert bundle.manifest.file(NPU_MODEL) == bundle.manifest.npu_file("sm8650") == compiled.name
    assert bundle.manifest.npu_file("8650") is bundle.manifest.npu_file("SM8750") is None
    compiled.write_bytes(b"not even a modeL")
    with pytest.raises(BundleError, match=f"{compiled.name} was altered"):
        Bundle(folder)


@pytest.mark.parametrize("edit", [None, b"", b"---\nlicense: mit\n---\n# Mine\n", b"\xff\0"])
def test_the_model_card_may_be_edited_or_removed(demo: Bundle, copy_of: Copy, edit: bytes | None) -> None:
    folder = copy_of(demo)
    card = folder / "README.md"
    card.unlink() if edit is None else card.write_bytes(edit)
    assert Bundle(folder).labels == demo.labels


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop", "large"])
@pytest.mark.parametrize("role", ["manifest", *CHECKED, "model_card"])
def test_only_regular_files_of_bounded_size_are_read(demo: Bundle, copy_of: Copy, role: str, kind: str) -> None:
    folder = copy_of(demo)
    path = folder / MANIFEST if role == "manifest" else folder / demo.manifest.file(role)
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":  # a sparse file of 3 GB
        with path.open("wb") as file:
            file.truncate(3 << 30)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    if role == "model_card":
        Bundle(folder)
        return
    with pytest.raises(BundleError, match=rf"{path.name}.*convert it again") as caught:
        Bundle(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", [None, 3, b"bytes", ["list"], object(), "a\0b", "x" * 5000, ""])
def test_a_path_that_is_none(path: Any) -> None:
    with pytest.raises(BundleError, match="expected"):
        Bundle(path)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        Bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"has no manifest.json"):
        Bundle(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match=r"manifest.json: "):
        Bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"format_version": 1}', "[" * 100000])
def test_text_that_is_no_manifest(demo: Bundle, copy_of: Copy, text: str) -> None:
    folder = copy_of(demo)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"manifest.json: "):
        Bundle(folder)


@pytest.mark.parametrize("version", [0, 1, 4, "2", None, 2.5])
def test_unknown_format_version(demo: Bundle, copy_of: Copy, version: object) -> None:
    folder = copy_of(demo)
    edit_manifest(folder, lambda m: m.update(format_version=version))
    known = f"{FORMAT_VERSION} and {ADOPTED_VERSION}"
    with pytest.raises(BundleError, match=rf"format_version .*this version reads {known}; update"):
        Bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("gpu"), "missing gpu"),
        (lambda m: m.update(notes=""), "unknown notes"),
        (lambda m: m["front_end"].pop("amin"), "missing amin"),
        (lambda m: m["front_end"].update(window="hamming"), "window"),
        (lambda m: m["inputs"][0].update(shape=[1, 1, 1000, 64]), "inputs"),
        (lambda m: m["inputs"][0].update(shape="1,1,1001,64"), "shape"),
        (lambda m: m["inputs"].append(m["inputs"][0]), "inputs"),
        (lambda m: m["outputs"].reverse(), "expected probs, embedding"),
        (lambda m: m["outputs"][0].update(shape=[1, 19]), "lines; expected 19"),
        (lambda m: m["outputs"][0].update(shape=[1, 10**30]), "at most 64 bits"),
        (lambda m: m["front_end"].update(sample_rate=2**31), "whole number"),
        (lambda m: m["files"]["mel_basis.bin"].update(bytes=10**17), "expected a mel_basis of 1"),
        (lambda m: m["files"]["mel_basis.bin"].update(bytes=-1), "expected a mel_basis of 1"),
        (lambda m: m["files"]["selftest.json"].update(bytes=(4 << 20) + 1), "expected a selftest of 1 … 4194304 bytes"),
        (lambda m: m["files"]["selftest.pcm"].update(bytes=0), "expected a selftest_samples of 1 … 4194304 bytes"),
        (lambda m: m["files"].pop("selftest.pcm"), "selftest and selftest_samples or neither"),
        (lambda m: m["files"].pop("selftest.json"), "selftest and selftest_samples or neither"),
        (lambda m: m["files"]["selftest.pcm"].update(role="selftest"), "'selftest', 'selftest'.; expected"),
        (lambda m: m["files"]["selftest.pcm"].update(role="model"), "'model', 'model', 'model_card', 'selftest'"),
        (lambda m: m["files"]["demo_synthetic_fp16.tflite"].update(role="npu_model"), "and any number of npu_model"),
        (lambda m: m["files"].update({"a\nb": m["files"].pop("mel_basis.bin")}), "plain name"),
        (lambda m: m["files"].update({"x" * 300: m["files"].pop("mel_basis.bin")}), "plain name"),
        (lambda m: m.update(clip_seconds=1e308), "clip_seconds"),
        (lambda m: m.update(clip_seconds=1e-9), "clip_seconds"),
        (lambda m: m.update({"a\nb": 1}), "unknown"),
        (lambda m: m.update(description="x\0"), "without NUL"),
        (lambda m: m.update(model=["x" * 100000]), "expected a text"),
        (lambda m: m["outputs"][0].update(dtype="int8"), "float32"),
        (lambda m: m.update(clip_seconds=0), "clip_seconds"),
        (lambda m: m.update(clip_seconds="10"), "clip_seconds"),
        (lambda m: m.update(graph="spectrogram"), "graph"),
        (lambda m: m.update(precision="int3"), "precision"),
        (lambda m: m.update(files={}), "roles"),
        (lambda m: m.update(files=[]), "files"),
        (lambda m: m["files"].update({"../x": m["files"].pop("mel_basis.bin")}), "plain name"),
        (lambda m: m.update(parity={}), "parity"),
        (lambda m: m.update(source=None), "source"),
        (lambda m: m.update(model=3), "model"),
    ],
)
def test_manifest_that_contradicts_itself(
    demo: Bundle, copy_of: Copy, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    folder = copy_of(demo)
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_labels_must_be_one_per_class(demo: Bundle, copy_of: Copy) -> None:
    folder, name = copy_of(demo), demo.manifest.file("labels")
    for labels in (demo.labels[:-1], (*demo.labels[:-1], demo.labels[0]), (*demo.labels[:-1], "a\tb")):
        (folder / name).write_text("\n".join(labels) + "\n", encoding="utf-8")
        rehash(folder, name)
        with pytest.raises(BundleError, match=r"different names, one a line"):
            Bundle(folder)
    (folder / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(demo.labels).encode())
    rehash(folder, name)
    assert Bundle(folder).labels == demo.labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(model_sha256="0" * 64), "model_sha256"),
        (lambda s: s.update(model_sha256="0" * 100_000), "model_sha256"),
        (lambda s: s.update(sample_rate=16000), "sample_rate 16000; expected 32000"),
        (lambda s: s.update(samples=63999), "bytes of the samples 128000; expected 127998"),
        (lambda s: s.update(samples_sha256="0" * 64), "samples_sha256"),
        (lambda s: s.update(format_version=2), "format_version 2; expected 1"),
        (lambda s: s.update(extra=1), "unknown extra"),
        (lambda s: s.pop("probs"), "missing probs"),
        (lambda s: s["probs"].pop(), "number of probs 21; expected 22"),
        (lambda s: s["probs"].append("1"), r"probs\[22\] '1'; expected a finite number"),
        (lambda s: s["probs"].__setitem__(0, 1.5), "probs outside 0 … 1"),
        (lambda s: s["probs"].__setitem__(0, float("nan")), "NaN; expected a finite number"),
    ],
)
def test_a_self_test_that_does_not_fit(
    demo: Bundle, copy_of: Copy, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """With a consistent hash. A self-test of another model is one of them."""
    folder = copy_of(demo)
    edit_self_test(folder, change)
    with pytest.raises(BundleError, match=rf"selftest.json: self-test.*{message}.*convert it again") as caught:
        Bundle(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("samples", [0, 320001])
def test_a_self_test_has_the_samples_of_a_clip_at_most(demo: Bundle, samples: int) -> None:
    assert demo.self_test is not None
    other = replace(demo.self_test, pcm=bytes(2 * samples))
    text = other.to_json(model_sha256=demo.manifest.model_sha256, sample_rate=32000)
    with pytest.raises(BundleError, match=f"samples {samples}; expected 1 … 320000"):
        SelfTest.from_files(text.encode(), other.pcm, demo.manifest)


def test_a_bundle_of_an_earlier_version_has_no_self_test(demo: Bundle, copy_of: Copy) -> None:
    """It opens, and gives the same answers: an index or a batch of it goes on with the new one."""
    old = Bundle(without_self_test(copy_of(demo)))
    assert old.self_test is None
    assert demo.self_test is not None
    assert old.manifest.answers_sha256 == demo.manifest.answers_sha256
    with pytest.raises(BundleError, match="role 'selftest'; expected one of"):
        old.file("selftest")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_edit_is_read_or_one_clear_error(demo: Bundle, data: st.DataObject) -> None:
    """With any JSON in any place of the manifest, reading gives a Manifest or a PannsLitertError."""
    manifest = json.loads(demo.manifest.to_json())
    node: Any = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(JSON)
    try:
        Manifest.from_json(json.dumps(manifest))
    except PannsLitertError as error:
        assert str(error)


# --- writing ---


def test_writer_replaces_a_bundle_at_once(demo: Bundle, copy_of: Copy, tmp_path: Path) -> None:
    target = copy_of(demo)
    (target / "left-over").write_text("of an older version", encoding="utf-8")
    with BundleWriter(target) as writer:
        for name in demo.manifest.files:
            shutil.copyfile(demo.path / name, writer.folder / name)
        assert (target / "left-over").exists()  # untouched until commit
        writer.commit(demo.manifest)
    assert sorted(os.listdir(target)) == sorted([*demo.manifest.files, MANIFEST])
    assert os.listdir(tmp_path) == [target.name]


def test_writer_without_a_commit_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), BundleWriter(tmp_path / "bundle") as writer:
        (writer.folder / "half").write_bytes(b"written")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_writer_reads_back_what_it_wrote(demo: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"), BundleWriter(tmp_path / "bundle") as writer:
        writer.commit(demo.manifest)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_writer_refuses_what_is_no_bundle(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "mine"
    if kind == "file":
        target.write_bytes(b"data")
    else:
        target.mkdir()
        (target / "data").write_bytes(b"data")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        BundleWriter(target)
    assert os.listdir(tmp_path) == ["mine"]
