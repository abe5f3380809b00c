"""A bundle's self-test: PyTorch's probabilities, the shipped files are current, and Kotlin compares like Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import kotlin
import numpy as np
import pytest
from numpy.typing import NDArray
from support import rehash

from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle
from panns_litert.errors import BundleError
from panns_litert.proof import GATES, compare
from panns_litert.tagger import Tagger
from panns_litert_convert.checkpoints import load_weights
from panns_litert_convert.selftest import SAMPLES, SELF_TEST, main, write_self_test
from panns_litert_convert.zoo import asset, find

SHIPPED = kotlin.ROOT / "assets" / "demo_selftest"


def read(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the samples and the probabilities of a self-test's folder."""
    samples = np.fromfile(folder / SAMPLES, "<i2").astype(np.float32) / 32768
    return samples, np.array(json.loads((folder / SELF_TEST).read_text(encoding="utf-8"))["probs"], np.float32)


def test_the_shipped_self_test_is_current(tmp_path: Path) -> None:
    write_self_test(demo_bundle(), out=tmp_path)
    assert (tmp_path / SAMPLES).read_bytes() == (SHIPPED / SAMPLES).read_bytes()
    new, shipped = (json.loads((folder / SELF_TEST).read_text(encoding="utf-8")) for folder in (tmp_path, SHIPPED))
    probs = new.pop("probs"), shipped.pop("probs")
    assert new == shipped
    assert np.allclose(*probs, rtol=0, atol=1e-6)  # processors differ in the last bits


def test_the_bundles_model_passes_and_another_fails() -> None:
    samples, probs = read(SHIPPED)
    assert probs.max() > 0.5  # all-low probabilities would test nothing
    got = Tagger(demo_bundle()).tag(samples, sample_rate=32000).probs
    check = compare("fp16", "probs", got[None], probs[None], gate=GATES["fp16"])
    assert check.passed, check.why
    assert not compare("gpu_fp16", "probs", np.roll(got, 1)[None], probs[None], gate=GATES["gpu_fp16"]).passed


def test_the_gpu_delegate_passes_the_gate_of_the_app(vulkan: None) -> None:
    samples, probs = read(SHIPPED)
    got = Tagger(demo_bundle(), engine="gpu").tag(samples, sample_rate=32000).probs
    check = compare("gpu_fp16", "probs", got[None], probs[None], gate=GATES["gpu_fp16"])
    assert check.passed, check.why


def test_the_bundles_own_model_is_not_used(copy_of: Callable[[Bundle], Path], tmp_path: Path) -> None:
    """A .tflite of other weights gives the same probabilities, because PyTorch computes them from the checkpoint."""
    folder = copy_of(Bundle(demo_bundle()))
    (model,) = folder.glob("*.tflite")
    content = bytearray(model.read_bytes())
    content[-20000:-1000] = bytes(19000)  # constants
    model.write_bytes(content)
    rehash(folder, model.name)
    write_self_test(folder, out=tmp_path / "selftest")
    assert np.allclose(read(tmp_path / "selftest")[1], read(SHIPPED)[1], rtol=0, atol=1e-6)


def test_another_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import safetensors.torch

    checkpoint = asset("demo_checkpoint.safetensors")
    other = tmp_path / "other.safetensors"
    tensors = safetensors.torch.load_file(checkpoint)
    tensors[next(iter(tensors))] += 1
    safetensors.torch.save_file(tensors, other)
    load_weights(find("demo").build(), other, find("demo"))  # the weights themselves are valid
    with pytest.raises(BundleError, match="was made from"):
        write_self_test(demo_bundle(), out=tmp_path / "selftest", checkpoint=other)
    assert main([str(demo_bundle()), "--out", str(tmp_path / "selftest"), "--checkpoint", str(other)]) == 2
    assert "was made from" in capsys.readouterr().err
    assert not (tmp_path / "selftest").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(demo_bundle()), "--out", str(tmp_path)]) == 0
    assert "22 probabilities" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err


def test_kotlin_compares_as_parity_does(tmp_path: Path) -> None:
    try:
        kotlin.class_path()
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    cases = []
    for i in range(60):
        reference = rng.beta(0.3, 2.0, int(rng.choice([3, 22, 527]))).astype(np.float32)
        noise = rng.normal(0.0, 10.0 ** rng.uniform(-5, -1), len(reference))
        got = np.clip(reference + noise, 0, 1).astype(np.float32)
        got = [got, np.zeros_like(got), np.full_like(got, 0.25), got][i % 4]
        cases.append((got, np.full_like(got, 0.5) if i % 20 == 3 else reference, ("fp16", "gpu_fp16")[i % 2]))
    samples, probs = read(SHIPPED)
    cases.append((Tagger(demo_bundle()).tag(samples, sample_rate=32000).probs, probs, "fp16"))
    path = tmp_path / "cases.json"
    data = [
        {"got": g.tolist(), "reference": r.tolist(), "max_abs": gate.max_abs, "corr": gate.corr, "top5": gate.top5}
        for g, r, gate in ((g, r, GATES[stage]) for g, r, stage in cases)
    ]
    path.write_text(json.dumps(data), encoding="utf-8")
    found = json.loads(kotlin.run("io.github.pannslitert.measure.SelfTestDriverKt", path))
    verdicts = set()
    for (got, reference, stage), kotlins in zip(cases, found, strict=True):
        check = compare(stage, "probs", got[None], reference[None], gate=GATES[stage])
        assert (kotlins["why"] == "") == check.passed, (kotlins, check)
        if check.max_abs is not None:
            assert kotlins["maxAbs"] == pytest.approx(check.max_abs, abs=1e-9)
            assert kotlins["corr"] == pytest.approx(check.corr, abs=1e-9)
            assert (kotlins["top5"] == 5) == (check.top5_agree == 1.0)
        verdicts.add((stage, check.passed))
    assert len(verdicts) == 4  # each gate passed some cases and failed others
    assert found[-1]["why"] == ""
