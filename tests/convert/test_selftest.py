"""A bundle's self-test: PyTorch's probabilities, the engine that must reproduce them, and Kotlin's same verdicts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kotlin
import numpy as np
import pytest
from support import edit_self_test, without_self_test

from panns_litert.bundle import Bundle, SelfTest
from panns_litert.cli import main
from panns_litert.demo import demo_bundle
from panns_litert.engine import CpuEngine
from panns_litert.errors import BundleError, ParityError
from panns_litert.proof import GATES, compare, self_test_check, self_test_gate
from panns_litert.tagger import Tagger
from panns_litert_convert.checkpoints import load_weights
from panns_litert_convert.convert import convert
from panns_litert_convert.selftest import self_tests
from panns_litert_convert.zoo import asset, find


def self_test_of(bundle: Bundle) -> SelfTest:
    assert bundle.self_test is not None
    return bundle.self_test


def tags(tagger: Tagger) -> np.ndarray:
    """Returns the probabilities for the recording, (1, classes)."""
    self_test = self_test_of(tagger.bundle)
    return tagger.tag(self_test.clip(len(self_test.pcm) // 2), sample_rate=32000).probs[None]


def test_the_shipped_self_test_is_current(demo: Bundle) -> None:
    new, shipped = self_test_of(demo), self_test_of(Bundle(demo_bundle()))
    assert len(new.pcm) == 2 * 64000
    assert new.pcm == shipped.pcm
    assert np.allclose(new.probs, shipped.probs, rtol=0, atol=1e-6)  # processors differ in the last bits


def test_the_bundles_model_passes_and_another_fails() -> None:
    bundle = Bundle(demo_bundle())
    self_test, engine = self_test_of(bundle), CpuEngine(bundle.file("model"))
    assert max(self_test.probs) > 0.5  # all-low probabilities would test nothing
    check = self_test_check(self_test, bundle.manifest, engine)
    assert (check.stage, check.threshold) == ("self_test", {"max_abs": 5e-3, "corr": 0.9999})
    assert check.passed, check.why
    # The parts of a tagger give the same, and so does Kotlin (below).
    got, probs = tags(Tagger(bundle)), np.array([self_test.probs])
    assert compare("fp16", "probs", got, probs, gate=self_test_gate(bundle.manifest)).max_abs == check.max_abs
    assert not compare("gpu_fp16", "probs", np.roll(got, 1), probs, gate=GATES["gpu_fp16"]).passed
    for wrong in (np.roll(probs[0], 1), 0.99 * probs[0], np.zeros(22), np.full(22, 0.5)):
        other = replace(self_test, probs=tuple(wrong.tolist()))
        assert not self_test_check(other, bundle.manifest, engine).passed


def test_the_gpu_delegate_passes_the_gate_of_the_app(vulkan: None) -> None:
    tagger = Tagger(demo_bundle(), engine="gpu")
    probs = np.array([self_test_of(tagger.bundle).probs])
    check = compare("gpu_fp16", "probs", tags(tagger), probs, gate=GATES["gpu_fp16"])
    assert check.passed, check.why


def test_a_manifest_without_bounds_for_probabilities_is_refused(demo: Bundle) -> None:
    parity = tuple(replace(c, output="scores") if c.output == "probs" else c for c in demo.manifest.parity)
    with pytest.raises(BundleError, match="no fp16 check of probs"):
        self_test_gate(replace(demo.manifest, parity=parity))


def test_the_recording_with_the_widest_spread_comes_first() -> None:
    model = find("demo")
    network = model.build().eval()
    load_weights(network, asset(model.checkpoint.file), model)
    found = self_tests(network, model.front_end, samples=320000)
    spreads = [np.ptp(self_test.probs) for self_test in found]
    assert len(found) == 6
    assert spreads == sorted(spreads, reverse=True)
    assert found[0].pcm == self_test_of(Bundle(demo_bundle())).pcm


def test_a_recording_that_the_cpu_does_not_reproduce_is_passed_over(
    demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = self_test_of(demo)
    wrong = replace(right, probs=right.probs[1:] + right.probs[:1])
    monkeypatch.setattr("panns_litert_convert.convert.self_tests", lambda *_, **__: [wrong, right, wrong])
    assert convert("demo", out=tmp_path / "bundle").self_test == right
    monkeypatch.setattr("panns_litert_convert.convert.self_tests", lambda *_, **__: [wrong, wrong])
    with pytest.raises(ParityError, match="self_test/probs, CPU: max abs error") as caught:
        convert("demo", out=tmp_path / "other")
    assert [check.stage for check in caught.value.report if not check.passed] == ["self_test"]
    assert os.listdir(tmp_path) == ["bundle"]


def test_verify_finds_probabilities_that_are_not_pytorchs(
    demo: Bundle, copy_of: Callable[[Bundle], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The change is within the bounds of float16 weights, so that the CPU alone would not show it."""
    folder = copy_of(demo)
    edit_self_test(folder, lambda data: data["probs"].__setitem__(0, data["probs"][0] + 1e-3))
    assert main(["verify", str(folder), "--json"]) == 1
    checks = [check for check in json.loads(capsys.readouterr().out)["parity"] if check["stage"] == "self_test"]
    assert {check["output"]: check["passed"] for check in checks} == {"probs, PyTorch": False, "probs, CPU": True}


def test_verify_says_that_an_earlier_version_wrote_no_self_test(
    demo: Bundle, copy_of: Callable[[Bundle], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_self_test(copy_of(demo))
    assert main(["verify", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "self_test" not in captured.out
    assert f"note: {folder} has no self-test" in captured.err


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
    shipped = Tagger(demo_bundle())
    probs = np.array(self_test_of(shipped.bundle).probs, np.float32)
    cases.append((tags(shipped)[0], probs, "fp16"))
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
