"""Fine-tuning: from labelled clips to a verified bundle; interrupted runs; bad clips, tables and settings."""

from __future__ import annotations

import copy
import csv
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from support import damaged
from torch import nn

from panns_litert.atomic import writing
from panns_litert.bundle import CACHE_VARIABLE, MANIFEST, OWN_WEIGHTS, Bundle
from panns_litert.cli import main
from panns_litert.errors import (
    CheckpointError,
    DatasetError,
    ModelError,
    PannsLitertError,
    ParityError,
    ResultsError,
    TrainingError,
)
from panns_litert.evaluate import HELD_OUT, TRAIN, VALIDATION, Dataset, LabelledClip, no_watch, read_dataset, split
from panns_litert.proof import HELD_OUT_GATES, HELD_OUT_OUTPUTS, Gate, parity
from panns_litert_convert.checkpoints import (
    base_of,
    facts_of,
    load_weights,
    model_of,
    save_own,
    source_of,
    weights_sha256,
    with_classes,
)
from panns_litert_convert.cli.finetune import _class_file
from panns_litert_convert.convert import convert, require_length, verify
from panns_litert_convert.demo import household
from panns_litert_convert.stages import HeldOut, Reference
from panns_litert_convert.training import loop
from panns_litert_convert.training import state as state_module
from panns_litert_convert.training.augment import epoch_order, mixup, spec_augment
from panns_litert_convert.training.duplicates import duplicates_together
from panns_litert_convert.training.features import ClipInput, FeatureCache
from panns_litert_convert.training.finetune import (
    CHECKPOINT,
    METRICS,
    SPLIT,
    STATE,
    _longest,
    checkpoint_scores,
    finetune,
)
from panns_litert_convert.training.loop import Part, Progress, Settings, train
from panns_litert_convert.zoo import asset, find

CLASSES = tuple(household.SOUNDS)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of every household sound."""
    folder = tmp_path_factory.mktemp("sounds") / "sounds"
    household.write(folder, clips=8)
    return folder


@dataclass
class Tuned:
    """A fine-tuning's output folder, and the object that the command printed."""

    out: Path
    result: dict[str, Any]

    @property
    def bundle(self) -> Bundle:
        return Bundle(self.out / "bundle")


@pytest.fixture(scope="module")
def tuned(sounds: Path, tmp_path_factory: pytest.TempPathFactory, printed: Callable[..., dict[str, Any]]) -> Tuned:
    """What the command makes of the clips and of some files that it cannot use."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(sounds, folder / "data")
    (folder / "data" / "kettle" / "empty.wav").write_bytes(b"")
    (folder / "data" / "kettle" / "noise.wav").write_bytes(b"no audio" * 100)
    shutil.copyfile(sounds / "kettle" / "000.wav", folder / "data" / "kettle" / "again.wav")
    (folder / "data" / "notes.txt").write_text("in no class's folder")
    arguments = ["--data", str(folder / "data"), "--model", "demo", "--out", str(folder / "out"), "--epochs", "150"]
    return Tuned(folder / "out", printed("finetune", *arguments))


# --- what must work ---


def test_the_bundle_has_the_users_classes_and_passes_every_stage(tuned: Tuned) -> None:
    bundle = tuned.bundle
    assert bundle.labels == CLASSES
    assert bundle.file("model").name == "demo_own_fp16.tflite"
    assert {check.stage for check in bundle.manifest.parity} == {"front_end", "network", "fp32", "fp16"}
    assert all(check.passed for check in bundle.manifest.parity)
    assert "user's own weights for 4 classes" in bundle.manifest.description
    assert bundle.manifest.clip_seconds == household.SECONDS


def test_figures_of_torch_and_of_the_tflite_are_of_held_out_clips(tuned: Tuned) -> None:
    found = json.loads((tuned.out / METRICS).read_text(encoding="utf-8"))
    assert found == {key: value for key, value in tuned.result.items() if key not in ("bundle", "passed")}
    assert found["torch"]["clips"] == found["tflite"]["clips"] == found["clips"][HELD_OUT] == 8
    assert found["tflite"]["mean_ap"] >= 0.8  # chance: 0.25
    assert found["tflite"]["mean_ap"] == pytest.approx(found["torch"]["mean_ap"], abs=0.02)
    assert 0 < found["largest_difference"] < 0.01
    folds = Counter(row["fold"] for row in csv.DictReader((tuned.out / SPLIT).open(encoding="utf-8")))
    assert folds == found["clips"]


def test_unusable_clips_are_skipped_listed_and_counted(tuned: Tuned) -> None:
    reasons = {Path(one["file"]).name: one["reason"] for one in tuned.result["skipped"]}
    assert set(reasons) == {"notes.txt", "empty.wav", "noise.wav"}
    assert "empty" in reasons["empty.wav"]
    assert "not readable" in reasons["noise.wav"]
    assert tuned.result["repeated"] == 1
    assert sum(tuned.result["clips"].values()) == 32


def test_evaluate_repeats_the_figures(tuned: Tuned, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(tuned.out / SPLIT), "--fold", HELD_OUT, "--bundle", str(tuned.bundle.path)]
    assert main(["evaluate", *arguments, "--checkpoint", str(tuned.out / CHECKPOINT), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    assert found == {"torch": tuned.result["torch"], "tflite cpu": tuned.result["tflite"]}


def test_evaluate_refuses_labels_missing_in_the_bundle(tuned: Tuned, capsys: pytest.CaptureFixture[str]) -> None:
    table = tuned.out.parent / "other.csv"
    table.write_text("file,labels\ndata/kettle/000.wav,kettles\n", encoding="utf-8")
    assert main(["evaluate", "--data", str(table), "--bundle", str(tuned.bundle.path)]) == 2
    assert "no class 'kettles'; did you mean 'kettle'?" in capsys.readouterr().err


def test_a_checkpoint_knows_its_classes_and_its_base(tuned: Tuned) -> None:
    path = tuned.out / CHECKPOINT
    assert model_of(find("demo"), path).class_names() == CLASSES
    with pytest.raises(CheckpointError, match="is a fine-tuned demo; expected mn04"):
        convert("mn04", checkpoint=path, out=tuned.out / "x")
    assert model_of(find("demo"), asset("demo_checkpoint.safetensors")) is find("demo")


def test_a_checkpoint_knows_what_it_is(tuned: Tuned) -> None:
    facts = facts_of(tuned.out / CHECKPOINT)
    assert facts is not None
    assert (facts.base, facts.labels, facts.seconds, facts.graph) == ("demo", CLASSES, household.SECONDS, "logmel")
    base = find("demo").checkpoint
    assert (facts.weights.file, facts.weights.licence, facts.weights.sha256) == (base.file, base.licence, base.sha256)
    assert facts.began_with == base.sha256
    rows = list(csv.DictReader((tuned.out / SPLIT).open(encoding="utf-8")))
    assert {label: Counter(row["fold"] for row in rows if row["labels"] == label) for label in CLASSES} == facts.clips
    assert facts.settings["epochs"] == "150"
    assert facts.held_out is not None
    assert facts.held_out.accuracy == tuned.result["torch"]["accuracy"]


def test_a_bundle_names_the_licence_of_its_base(tuned: Tuned) -> None:
    source = tuned.bundle.manifest.source
    assert source.licence == "not stated; of the base: Apache-2.0"
    assert source.attribution == "fine-tuned from Cnn14 (narrow) (Apache-2.0, made by this project)"
    assert source.own
    card = (tuned.bundle.path / "README.md").read_text(encoding="utf-8")
    assert f"| attribution | {source.attribution} |" in card
    assert 'license_name: "not-stated-of-the-base-apache-2.0"' in card


def test_convert_makes_the_same_file_of_the_checkpoint_alone(
    tuned: Tuned, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(tuned.out / CHECKPOINT)
    assert main(["convert", "--checkpoint", checkpoint, "--out", str(tmp_path / "same")]) == 0
    same = Bundle(tmp_path / "same")
    for role in ("model", "labels", "mel_basis"):
        assert same.file(role).read_bytes() == tuned.bundle.file(role).read_bytes()
    assert main(["verify", str(tuned.bundle.path), "--checkpoint", checkpoint]) == 0
    assert "was fine-tuned" not in caplog.text
    other = convert("demo", checkpoint=checkpoint, seconds=1.0, precision="fp32", out=tmp_path / "other")
    assert other.manifest.clip_seconds == 1.0
    assert f"clips of 1 s; {checkpoint} was fine-tuned with clips of 3 s" in caplog.text
    capsys.readouterr()
    assert main(["convert", "--out", str(tmp_path / "none")]) == 2
    assert "no model named; expected one" in capsys.readouterr().err
    assert main(["convert", "--checkpoint", str(tmp_path / "gone.pt"), "--out", str(tmp_path / "none")]) == 2
    assert "gone.pt: no such file" in capsys.readouterr().err


def with_facts(tuned: Tuned, path: Path, change: Callable[[dict[str, Any]], object] = lambda facts: None) -> Path:
    """Writes a copy of the checkpoint with a change to its facts."""
    with safe_open(tuned.out / CHECKPOINT, "pt") as file:
        facts = json.loads(file.metadata()["panns_litert"])
    change(facts)
    path.write_bytes(save(load_file(tuned.out / CHECKPOINT), {"panns_litert": json.dumps(facts)}))
    return path


def test_checkpoints_of_earlier_versions_are_read(tuned: Tuned, tmp_path: Path) -> None:
    def earlier(facts: dict[str, Any]) -> None:
        for name in facts.keys() - {"base", "labels"}:
            del facts[name]

    path = with_facts(tuned, tmp_path / "old.safetensors", earlier)
    model = model_of(find("demo"), path)
    assert model.class_names() == CLASSES
    assert (facts_of(path), base_of(path)) == (None, "demo")
    assert source_of(model, path).licence == OWN_WEIGHTS


WRONG_FACTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a fact less": (lambda facts: facts.pop("seconds"), "missing seconds"),
    "a fact more": (lambda facts: facts.update(date="today"), "unknown date"),
    "a text for a number": (lambda facts: facts.update(seconds="3"), "seconds '3'; expected a finite number"),
    "no length": (lambda facts: facts.update(seconds=-1.0), "seconds -1.0"),
    "a graph": (lambda facts: facts.update(graph="mfcc"), "graph 'mfcc'; expected one of logmel, waveform"),
    "a hash": (lambda facts: facts.update(clips_sha256="../x"), "expected 64 hexadecimal digits"),
    "lines": (lambda facts: facts.update(attributions=["me\n\n# Proven"]), "expected one line"),
    "a long licence": (lambda facts: facts["weights"].update(licence="x" * 301), "at most 300 characters"),
    "a front end": (lambda facts: facts["front_end"].update(fmin=51.0), "another front end than that of demo"),
    "counts": (lambda facts: facts.update(clips={"a": {"train": 10**12}}), "expected a whole number"),
    "counts below 0": (lambda facts: facts["clips"].update(kettle={"train": -5}), "clips below 0"),
    "more than all": (lambda facts: facts["held_out"].update(accuracy=7.0), "accuracy and mean_ap in 0 … 1"),
    "deep settings": (lambda facts: facts.update(settings={"a": {}}), "expected a text"),
}


@pytest.mark.parametrize("name", WRONG_FACTS)
def test_wrong_facts_are_one_error(tuned: Tuned, tmp_path: Path, name: str) -> None:
    change, message = WRONG_FACTS[name]
    path = with_facts(tuned, tmp_path / "wrong.safetensors", change)
    with pytest.raises(CheckpointError, match=message) as caught:
        model_of(find("demo"), path)
    assert "\n" not in str(caught.value)


class EnoughError(Exception):
    """Ends a fine-tuning before its conversion, which other tests cover."""


@pytest.fixture
def only_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def enough(*_: object, **__: object) -> None:
        raise EnoughError

    monkeypatch.setattr("panns_litert_convert.training.finetune.convert", enough)


@pytest.mark.usefixtures("only_trained")
def test_a_chain_of_fine_tunings_keeps_the_first_base(tuned: Tuned, sounds: Path, tmp_path: Path) -> None:
    began = tuned.out / CHECKPOINT
    for step in ("1", "2"):
        with pytest.raises(EnoughError):
            finetune(sounds, model="demo", checkpoint=began, out=tmp_path / step, settings=Settings(epochs=1),
                     licence="CC0-1.0", attribution=f"clips {step}")  # fmt: skip
        began = tmp_path / step / CHECKPOINT
    first, facts = facts_of(tuned.out / CHECKPOINT), facts_of(began)
    assert first is not None
    assert facts is not None
    assert facts.weights == first.weights
    assert facts.began_with == weights_sha256(tmp_path / "1" / CHECKPOINT)
    source = source_of(model_of(find("demo"), began), began)
    assert source.licence == "CC0-1.0; of the base: Apache-2.0"
    assert source.attribution == "clips 1; clips 2; fine-tuned from Cnn14 (narrow) (Apache-2.0, made by this project)"


@pytest.mark.usefixtures("only_trained")
def test_a_base_with_classes_of_elsewhere(sounds: Path, tmp_path: Path) -> None:
    """A hub's folder knows their names, and the file alone those of the data that it is evaluated on."""
    names = ("a", "b", "c", "d", "e")
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(with_classes(find("demo"), names).build().state_dict(), folder / "model.safetensors")
    (tmp_path / "clips.csv").write_text(f"file,labels\n{sounds / 'kettle' / '000.wav'},a\n")
    data = read_dataset(tmp_path / "clips.csv", classes=names)
    probs, _ = checkpoint_scores(data, model="demo", checkpoint=folder, seconds=1.0)
    assert probs.shape == (len(data.clips), len(names))
    with pytest.raises(CheckpointError, match=r"5 outputs, not 22; .* as the base of finetune"):
        finetune(sounds, model="demo", checkpoint=folder, out=tmp_path / "none")
    (folder / "config.json").write_text(json.dumps({"id2label": {str(i): name for i, name in enumerate(names)}}))
    with pytest.raises(EnoughError):
        finetune(sounds, model="demo", checkpoint=folder, out=tmp_path / "tuned", settings=Settings(epochs=1))
    found = facts_of(tmp_path / "tuned" / CHECKPOINT)
    assert found is not None
    assert found.labels == CLASSES


def test_one_training_gives_several_bundles(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A second run in the folder of a finished one does not train again."""
    out = shutil.copytree(tuned.out, tmp_path / "out")

    def trained(*_: object) -> None:
        raise AssertionError("an epoch was run")

    monkeypatch.setattr(loop, "_epoch", trained)
    data = ["--data", str(tuned.out.parent / "data"), "--model", "demo", "--out", str(out), "--epochs", "150"]
    found = printed("finetune", *data, "--precision", "int8", "fp16", "--graph", "waveform", "--android")
    assert [one["folder"] for one in found["bundles"]] == ["bundle", "bundle-fp16"]
    for one in found["bundles"]:
        bundle = Bundle(out / one["folder"])
        assert (bundle.manifest.graph, bundle.manifest.precision) == ("waveform", one["precision"])
        judged = {check.output: check for check in bundle.manifest.parity if check.output in HELD_OUT_OUTPUTS}
        assert set(judged) == (set(HELD_OUT_OUTPUTS) if one["precision"] == "int8" else set())
        for accuracy in [check for name, check in judged.items() if name == "held-out accuracy"]:
            assert accuracy.threshold == {"max_abs": 0.005, "pytorch": found["torch"]["accuracy"], "clips": 8.0}
        assert one["tflite"]["accuracy"] >= found["torch"]["accuracy"] - 0.005
        assert one["tflite"]["mean_ap"] >= found["torch"]["mean_ap"] - 0.005
        copied = Bundle(out / "android" / one["folder"])
        assert copied.manifest == bundle.manifest
        assert copied.self_test is not None
    assert found["torch"] == tuned.result["torch"]
    assert main(["verify", str(out / "bundle"), "--checkpoint", str(out / CHECKPOINT)]) == 0
    assert "held out is not measured again" in capsys.readouterr().err
    manifest = json.loads((out / "bundle" / MANIFEST).read_text())
    for stage_output, change in (("held-out accuracy", {"threshold": {"max_abs": 0.5}}), ("probs", None)):
        altered = copy.deepcopy(manifest)
        (check,) = [one for one in altered["parity"] if (one["stage"], one["output"]) == ("int8", stage_output)]
        if change is None:
            altered["parity"].remove(check)
        else:
            check |= change
        (out / "bundle" / MANIFEST).write_text(json.dumps(altered))
        assert main(["verify", str(out / "bundle"), "--checkpoint", str(out / CHECKPOINT)]) == 2
        assert ("fine-tune again" if change else "recorded parity") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [({"precision": ["fp16", "int2"]}, "int2.*; expected some of fp32"), ({"graph": "mfcc"}, "graph 'mfcc'"),
     ({"precision": []}, "expected some of"), ({"seconds": 1e-9}, "clip of 1e-09 s; expected 1 … 60 s")],
)  # fmt: skip
def test_what_no_bundle_can_be_is_refused_before_the_training(
    options: dict[str, Any], message: str, sounds: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        finetune(sounds, model="demo", out=tmp_path / "out", **options)
    with pytest.raises(CheckpointError, match=r"licence 'a.*expected one line"):
        finetune(sounds, model="demo", out=tmp_path / "out", licence="a\nb")
    assert not (tmp_path / "out").exists()


def held_out_clips(tuned: Tuned) -> HeldOut:
    """PyTorch's probabilities of the held-out clips."""
    dataset = read_dataset(tuned.out / SPLIT, classes=CLASSES).of_fold(HELD_OUT)
    probs, dataset = checkpoint_scores(
        dataset, model="demo", checkpoint=tuned.out / CHECKPOINT, seconds=household.SECONDS
    )
    inputs = ClipInput(find("demo").front_end, graph="logmel", seconds=household.SECONDS)
    return HeldOut(load=lambda index: inputs(dataset.clips[index]), truth=dataset.truth(), probs=probs)


def test_held_out_clips_judge_a_file(tuned: Tuned) -> None:
    clips, path = held_out_clips(tuned), tuned.bundle.file("model")
    assert all(check.passed and check.max_abs == 0.0 for check in clips.checks("int8", path))
    # A reference that is right where the file is wrong: clips 0 and 1 are interchanged.
    swapped = replace(clips, load=lambda index: clips.load([1, 0, *range(2, 8)][index]))
    if (clips.truth[0] == clips.truth[1]).all():
        swapped = replace(clips, load=lambda index: clips.load(7 - index))
    lost = swapped.checks("int4-weights", path)
    assert not any(check.passed for check in lost)
    assert "instead of PyTorch's" in lost[0].why
    broken = replace(clips, load=lambda index: np.full_like(clips.load(index), np.nan))
    flat = replace(clips, probs=np.full_like(clips.probs, 0.5))
    for bad, why in ((broken, "NaN or Inf"), (flat, "reference is flat|flat")):
        found = bad.checks("int8", path)
        assert found
        assert not any(check.passed for check in found)
        assert re.search(why, found[0].why)


def test_clips_of_no_class_judge_nothing(tuned: Tuned) -> None:
    """With wide gates, nothing would be left that compares accuracies."""
    clips, network = held_out_clips(tuned), find("demo").build().eval()
    of_no_class = replace(clips, truth=np.zeros_like(clips.truth))
    for judge, judges in ((clips, True), (of_no_class, False)):
        reference = Reference(network, find("demo").front_end, seconds=household.SECONDS, held_out=judge)
        assert (reference.held_out is not None) == judges


def test_held_out_accuracy_decides_where_no_file_passes_its_gate(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, clips = tuned.out / CHECKPOINT, held_out_clips(tuned)
    monkeypatch.setitem(parity.GATES, "int8", Gate(max_abs=1e-9, corr=1.0))
    bundle = convert(checkpoint=checkpoint, precision="int8", held_out=clips, out=tmp_path / "judged")
    probs = next(c for c in bundle.manifest.parity if (c.stage, c.output) == ("int8", "probs"))
    assert probs.threshold["max_abs"] == HELD_OUT_GATES["int8"].max_abs
    assert all(check.passed for check in verify(bundle, checkpoint=checkpoint))
    # Clips whose classes the file finds wrongly.
    wrong = replace(clips, load=lambda index: clips.load(7 - index))
    with pytest.raises(ParityError, match="int8/held-out accuracy"):
        convert(checkpoint=checkpoint, precision="int8", held_out=wrong, out=tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_parity_of_few_classes_can_fail(tuned: Tuned) -> None:
    """With few classes, all clips are compared together. A wrong class still fails."""
    model = model_of(find("demo"), tuned.out / CHECKPOINT)
    network = model.build().eval()
    load_weights(network, tuned.out / CHECKPOINT, model)
    shipped = tuned.bundle.file("model")
    right = Reference(network, model.front_end, seconds=household.SECONDS).check("fp16", shipped)
    assert all(check.passed for check in right)
    with torch.no_grad():
        network.get_parameter("fc_audioset.bias")[2] += 0.3
    wrong = Reference(network, model.front_end, seconds=household.SECONDS).check("fp16", shipped)
    assert {check.output for check in wrong if not check.passed} == {"probs", "logits"}


# --- broken off, resumed, refused ---


def break_off(epoch: int) -> Callable[[str, int, int], None]:
    def watch(what: str, done: int, total: int) -> None:
        if what.startswith("training: epoch") and done == epoch:
            raise KeyboardInterrupt

    return watch


def trained(
    state: Path, watch: Callable[[str, int, int], None] = no_watch, *, clips: Any = None, data: Any = 1, **options: Any
) -> tuple[Any, Progress]:
    """Train a small network on random numbers, as `finetune` trains between reading clips and writing a bundle.

    Returns:
        The network's state dict and the progress.
    """
    rng = np.random.default_rng(0)
    truth = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 40)]
    x = torch.from_numpy((truth @ rng.standard_normal((3, 6)) + rng.standard_normal((40, 6))).astype(np.float32))
    torch.manual_seed(7)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def part(rows: slice) -> Part:
        return Part(load=lambda chosen: x[rows][chosen], truth=truth[rows])

    settings = Settings(**({"epochs": 12, "patience": 5, "batch": 8} | options))
    progress = train(network, network, dict(network.named_parameters()), learn=part(slice(30)),
                     watched=part(slice(30, 40)), settings=settings, state=state,
                     fingerprint={"clips": data}, clips=clips, watch=watch)  # fmt: skip
    return network.state_dict(), progress


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_broken_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0)
    whole, progress = trained(tmp_path / "whole")
    for epoch in (3, 4, 9):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "broken", break_off(epoch))
    resumed, again = trained(tmp_path / "broken")
    assert same(whole, resumed)
    assert again == progress
    assert progress.epoch == 12
    finished, _ = trained(tmp_path / "whole", break_off(0))  # it is finished: no epoch runs
    assert same(whole, finished)


def test_the_seed_decides(tmp_path: Path) -> None:
    first, _ = trained(tmp_path / "a")
    assert same(first, trained(tmp_path / "b")[0])
    assert not same(first, trained(tmp_path / "c", seed=1)[0])


def test_it_stops_when_the_validation_loss_no_longer_falls(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    _, progress = trained(tmp_path / "a", lambda *step: said.append(step), epochs=500, learning_rate=0.05)
    losses = [row["watched_loss"] for row in progress.history]
    assert progress.epoch < 500
    assert progress.epoch == progress.best_epoch + 5
    assert progress.best_loss == min(losses) == losses[progress.best_epoch - 1]
    assert said[0] == ("training: epoch 1 of at most 500 (stops after 5 without improvement)", 0, 500)
    assert said[1][0] == "training: epoch 2 of at most 500, best 1 (stops after 5 without improvement)"
    end = f"training: stopped after epoch {progress.epoch} of at most 500, best {progress.best_epoch}"
    assert said[-1] == (end, progress.epoch, progress.epoch)


@pytest.mark.parametrize("options", [{"loss": "ce"}, {"mixup": 0.0}, {"balanced": False}, {"mixup": 1.0}])
def test_every_setting_learns(options: dict[str, Any], tmp_path: Path) -> None:
    _, progress = trained(tmp_path / "a", epochs=40, patience=40, learning_rate=0.01, **options)
    assert progress.history[-1]["loss"] < 0.8 * progress.history[0]["loss"]


def test_a_state_of_other_settings_or_damaged_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    trained(state)
    with pytest.raises(TrainingError, match="seed 0 → 1"):
        trained(state, seed=1)
    clips = {digest: (f"kettle/{digest}.wav", "kettle", "train") for digest in "abcd"}
    trained(tmp_path / "clips", clips=clips, data="old")
    clips |= {
        "a": ("tap/a.wav", "tap", "train"),
        "b": ("other/b.wav", "kettle", "held-out"),
        "e": ("e.wav", "tap", "x"),
    }
    parts = dict.fromkeys("wxyz", ("rec/0.wav", "kettle", "train"))
    with pytest.raises(TrainingError, match=r"5 clips more \(e\.wav, rec/0\.wav\)"):  # parts of one recording
        trained(tmp_path / "clips", clips=clips | parts, data="new")
    del clips["d"]
    with pytest.raises(TrainingError) as caught:
        trained(tmp_path / "clips", clips=clips, data="new")
    assert (
        "is of another training: 1 clip more (e.wav); 1 clip fewer (kettle/d.wav); "
        "1 clip with other labels (tap/a.wav); 1 clip moved (other/b.wav); give another --out"
    ) in str(caught.value)
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="no state of a training"):
        trained(state)


def edited(source: Path, target: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
    """Writes a copy of a state with a change to its tensors and facts, and with the hash that fits them."""
    tensors = load_file(source)
    with safe_open(source, "pt") as file:
        facts = json.loads(file.metadata()["training"])
    change(tensors, facts)
    if isinstance(facts, dict) and "sha256" in facts:
        facts["sha256"] = state_module._digest(tensors, facts.get("progress"))
    target.write_bytes(save(tensors, {"training": json.dumps(facts)}))
    return target


def progress_of(**values: Any) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda tensors, facts: facts["progress"].update(values)


DAMAGED_STATES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "shape that broadcasts": (lambda t, f: t.update({"network.0.bias": torch.ones(1)}), r"0.bias \(1,\) .*instead of"),
    "scalar": (lambda t, f: t.update({"best.3.weight": torch.ones(())}), "best.3.weight"),
    "type": (lambda t, f: t.update({"network.0.bias": torch.ones(8, dtype=torch.int64)}), "int64 instead of"),
    "NaN": (lambda t, f: t["network.0.bias"].fill_(float("nan")), "0.bias holds NaN or Inf"),
    "Inf in the optimizer": (lambda t, f: t["optimizer.0.exp_avg"].fill_(float("inf")), "exp_avg holds NaN or Inf"),
    "a square below 0": (lambda t, f: t["optimizer.0.exp_avg_sq"].fill_(-1.0), "exp_avg_sq is below 0"),
    "a step below 0": (lambda t, f: t["optimizer.1.step"].fill_(-5.0), "step is below 0"),
    "a tensor missing": (lambda t, f: t.pop("network.3.bias"), "network.3.bias is missing"),
    "a slot missing": (lambda t, f: t.pop("optimizer.2.exp_avg"), "optimizer.2.exp_avg is missing"),
    "a tensor more": (lambda t, f: t.update({"network.9.bias": torch.ones(1)}), "'network.9.bias' is unknown"),
    "a parameter more": (lambda t, f: t.update({"optimizer.99.step": torch.ones(())}), "99.step' is unknown"),
    "5000 digits": (lambda t, f: t.update({f"optimizer.{'1' * 5000}.step": torch.ones(())}), "is unknown"),
    "no number": (lambda t, f: t.update({"optimizer.x": torch.ones(())}), "'optimizer.x' is unknown"),
    "epoch -1": (progress_of(epoch=-1), "epoch -1; expected a whole number"),
    "epoch 1e308": (progress_of(epoch=1e308), "epoch 1e"),
    "epoch 10^30": (progress_of(epoch=10**30), "expected a number of at most 64 bits"),
    "epoch true": (progress_of(epoch=True), "epoch True"),
    "epoch text": (progress_of(epoch="12"), "epoch '12'"),
    "best after the last": (progress_of(best_epoch=13), "12 rows of 12 epochs"),
    "no best": (progress_of(best_epoch=0), "best_loss"),
    "best loss text": (progress_of(best_loss="0"), "best_loss '0'"),
    "best loss NaN": (progress_of(best_loss=float("nan")), "NaN; expected a finite number"),
    "history short": (progress_of(history=[]), "0 rows of 12 epochs"),
    "history object": (progress_of(history={}), "history {}; expected a list"),
    "history texts": (progress_of(history=[{"loss": "x"}] * 12), "rows of 12 epochs"),
    "history of lists": (progress_of(history=[[1.0]] * 12), "expected a list of rows"),
    "a field more": (progress_of(more=1), "unexpected keyword"),
    "a field less": (lambda t, f: f["progress"].pop("epoch"), "0 epochs"),
    "no progress": (lambda t, f: f.pop("progress"), "its progress is damaged"),
    "progress a list": (lambda t, f: f.update(progress=[]), "its progress is damaged"),
    "settings a list": (lambda t, f: f.update(settings=[]), "is of another training"),
    "fingerprint a number": (lambda t, f: f.update(fingerprint=1), "is of another training"),
    "another format": (lambda t, f: f.update(format="1"), "is of another training: its format"),
    "a hash of others": (lambda t, f: f.update(sha256=None) or f.pop("sha256"), "sha256 is not the recorded one"),
}


@pytest.mark.parametrize("name", DAMAGED_STATES)
def test_a_state_with_absurd_values_is_refused_whole(tmp_path: Path, name: str) -> None:
    change, message = DAMAGED_STATES[name]
    trained(tmp_path / "good")
    path = edited(tmp_path / "good", tmp_path / "bad", change)
    before = path.read_bytes()
    with pytest.raises(TrainingError, match=message) as caught:
        trained(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))
    assert path.read_bytes() == before


def test_an_edited_state_of_the_same_content_is_read(tmp_path: Path) -> None:
    whole, progress = trained(tmp_path / "good")
    again, found = trained(edited(tmp_path / "good", tmp_path / "copy", lambda tensors, facts: None))
    assert same(whole, again)
    assert found == progress


@pytest.mark.parametrize("text", ["[]", "1", "{", "null", "[" * 10_000, '{"progress": NaN}', "9" * 5000])
def test_metadata_that_is_no_state_is_refused(tmp_path: Path, text: str) -> None:
    trained(tmp_path / "state")
    (tmp_path / "state").write_bytes(save(load_file(tmp_path / "state"), {"training": text}))
    with pytest.raises(TrainingError, match=r"give another --out|finite|deep|JSON|bits"):
        trained(tmp_path / "state")


def test_a_pipe_is_no_state(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state")
    with pytest.raises(TrainingError, match="not a regular file"):
        trained(tmp_path / "state")


def test_damaged_states_are_never_resumed(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "state")
    good, rng = (tmp_path / "state").read_bytes(), np.random.default_rng(16)
    for _ in range(100):
        (tmp_path / "state").write_bytes(damaged(good, rng))
        try:
            assert same(trained(tmp_path / "state")[0], whole)  # damage that changes nothing
        except TrainingError as error:
            assert str(tmp_path) in str(error)


def test_a_second_run_in_one_folder_is_refused(sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with writing(out / STATE), pytest.raises(TrainingError, match=r"training\.safetensors: another run is writing it"):
        finetune(sounds, model="demo", out=out)
    assert [path.name for path in out.iterdir()] == [f".{STATE}.lock"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["doorbell", "kettle", "doorbell"], "line 3: 'doorbell' is on line 1"),
        (["doorbell", "ket\ttle"], "U\\+0009"),
        (["doorbell", "ket\u202etle"], "U\\+202E"),
        (["doorbell", ""], "an empty name"),
    ],
)
def test_bad_class_names_are_refused_before_the_training(
    sounds: Path, tmp_path: Path, names: list[str], message: str
) -> None:
    all_names = [*names, *(name for name in CLASSES if name not in names)]
    with pytest.raises(DatasetError, match=message):
        finetune(sounds, model="demo", out=tmp_path / "out", classes=all_names)
    assert not (tmp_path / "out").exists()
    folder = tmp_path / "data"
    for name in ("plain", "a\tb"):
        shutil.copytree(sounds / "kettle", folder / name)
    with pytest.raises(DatasetError, match="expected a name of one line"):
        finetune(folder, model="demo", out=tmp_path / "out")


def test_class_files(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    for encoding, end in (("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r")):
        path.write_bytes(end.join(["Hund", "  Käse ", "", "Vogel"]).encode(encoding))
        assert _class_file(path) == ["Hund", "Käse", "Vogel"]
    path.write_bytes("Hund\nKäse\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="not UTF-8 at byte 6; expected a text file in UTF-8"):
        _class_file(path)
    path.write_text("Hund\u2028Katze\nVogel\n", encoding="utf-8")
    assert _class_file(path) == ["Hund\u2028Katze", "Vogel"]  # one name, which `finetune` refuses
    os.mkfifo(tmp_path / "pipe")
    for bad in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(DatasetError, match="expected a text file"):
            _class_file(bad)


def test_a_loss_that_explodes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower learning rate"):
        trained(tmp_path / "a", weight_decay=1e30, learning_rate=0.9)
    network = find("demo").build()
    with torch.no_grad():
        network.get_parameter("fc1.bias")[0] = np.nan
    with pytest.raises(CheckpointError, match=r"NaN or Inf in fc1\.bias"):
        save_own(network, tmp_path / "x.safetensors", model=find("demo"), classes=find("demo").class_names())


def test_a_full_disk_leaves_the_earlier_state(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    state = tmp_path / "state"
    trained(state)
    before = state.read_bytes()
    with (
        full_disk(256),
        pytest.raises(ResultsError, match="state: File too large; expected a file that can be written"),
    ):
        trained(state)
    assert state.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_interrupted_finetune_says_how_to_go_on(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0)
    arguments = ["finetune", "--data", str(sounds), "--model", "demo", "--out", str(tmp_path / "out")]
    real = loop._epoch

    def interrupted(*rest: Any) -> None:
        if rest[-1].epoch == 4:
            raise KeyboardInterrupt
        real(*rest)

    monkeypatch.setattr(loop, "_epoch", interrupted)
    assert main(arguments) == 130
    assert "the same command resumes it" in capsys.readouterr().err
    assert (tmp_path / "out" / STATE).exists()
    assert not (tmp_path / "out" / "bundle").exists()
    assert main([*arguments, "--seed", "1"]) == 2
    assert "is of another training: seed 0 → 1" in capsys.readouterr().err


def test_unfrozen_training_moves_the_whole_network_but_not_its_statistics(
    sounds: Path, tmp_path: Path, only_trained: None
) -> None:
    with pytest.raises(EnoughError):
        finetune(sounds, model="demo", out=tmp_path, settings=Settings(unfrozen=True, epochs=1, batch=16))
    model = model_of(find("demo"), tmp_path / CHECKPOINT)
    new, old = model.build(), find("demo").build()
    load_weights(new, tmp_path / CHECKPOINT, model)
    load_weights(old, asset("demo_checkpoint.safetensors"), find("demo"))
    before = old.state_dict()
    moved = {name for name, tensor in new.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"conv_block1.conv1.weight", "bn0.weight", "fc1.weight", "fc_audioset.weight"} <= moved
    assert not any("running" in name for name in moved)


@pytest.mark.parametrize(
    ("stages", "precision", "tried"),
    [({"fp16"}, None, ["fp16", "fp32"]), ({"fp16"}, "fp16", ["fp16"]), ({"fp16", "fp32"}, None, ["fp16"]),
     ({"self_test"}, None, ["fp16", "fp32"]), ({"int8-full"}, "int8-full", ["int8-full"])],
)  # fmt: skip
def test_float32_weights_where_float16_ones_alone_fail(
    stages: set[str], precision: str | None, tried: list[str], sounds: Path, tmp_path: Path,
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Checks which precisions are tried. Other tests cover the conversions themselves."""
    asked = []
    recorded = tuned.bundle.manifest.parity
    checks = [*recorded, replace(recorded[-1], stage="self_test")]
    report = [replace(c, passed=c.stage not in stages, why="too far") for c in checks]

    def fails(*_: object, precision: str, held_out: object, calibration: Sequence[Path], **__: object) -> None:
        asked.append(precision)
        assert bool(calibration) == (precision == "int8-full")
        assert (held_out is not None) == (precision == "int8-full")
        assert all(path.is_file() for path in calibration)
        raise ParityError("failed", report)

    monkeypatch.setattr("panns_litert_convert.training.finetune.convert", fails)
    with pytest.raises(ParityError):
        finetune(sounds, model="demo", out=tmp_path, precision=precision, settings=Settings(epochs=1))
    assert asked == tried


# --- the clips ---


def table(path: Path, rows: list[tuple[str, ...]], header: str = "file,labels,fold") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("a", "x")], "where,what", "columns what, where; expected file, labels, fold"),
        ([("", "x")], "file,labels", "line 2: no file"),
        ([("kettle/000.wav", "x", "1"), ("kettle/001.wav", "x", "")], "file,labels,fold", "some rows have a fold"),
        ([("nowhere.wav", "x")], "file,labels", "no clip.*nowhere.wav: no such file"),
        ([("kettle/000.wav", "x", "1"), ("again.wav", "x", "2")], "file,labels,fold", "same recording"),
    ],
)
def test_a_bad_table_is_one_error(
    rows: list[tuple[str, ...]], header: str, message: str, sounds: Path, tmp_path: Path
) -> None:
    shutil.copytree(sounds / "kettle", tmp_path / "kettle")
    shutil.copyfile(tmp_path / "kettle" / "000.wav", tmp_path / "again.wav")
    with pytest.raises(DatasetError, match=message):
        read_dataset(table(tmp_path / "t.csv", rows, header))


def test_a_table_with_several_labels(sounds: Path) -> None:
    rows = [("kettle/000.wav", " b; a;b"), ("kettle/001.wav", ""), ("tap.wav", "c")]
    found = read_dataset(table(sounds / "several.csv", rows, "file,labels"))
    assert found.classes == ("a", "b")
    assert found.truth().tolist() == [[1, 1], [0, 0]]
    assert found.skipped[0].reason == "no such file"
    (sounds / "several.csv").unlink()
    with pytest.raises(DatasetError, match="no class 'kettle'"):
        read_dataset(sounds, classes=("background", "doorbell", "dripping tap"))


def test_one_class_alone_is_refused(sounds: Path, tmp_path: Path) -> None:
    shutil.copytree(sounds / "kettle", tmp_path / "data" / "kettle")
    with pytest.raises(DatasetError, match="only the class 'kettle'; expected clips of at least two"):
        finetune(tmp_path / "data", model="demo", out=tmp_path / "out")
    with pytest.raises(DatasetError, match="no such folder or file"):
        finetune(tmp_path / "nowhere", model="demo", out=tmp_path / "out")
    with pytest.raises(DatasetError, match="no clip; expected audio files"):
        (tmp_path / "nothing").mkdir()
        finetune(tmp_path / "nothing", model="demo", out=tmp_path / "out")
    for name, message in (("a;b", "without a semicolon"), ("a\u2028b", "of one line")):
        shutil.copytree(sounds / "doorbell", tmp_path / "data" / name)
        with pytest.raises(DatasetError, match=message):
            finetune(tmp_path / "data", model="demo", out=tmp_path / "out")
        shutil.rmtree(tmp_path / "data" / name)
    with pytest.raises(ModelError, match=r"clip of 0\.5 s; expected 1"):
        finetune(sounds, model="demo", out=tmp_path / "out", seconds=0.5)
    assert not (tmp_path / "out").exists()


def test_cross_entropy_takes_one_class_per_clip(sounds: Path, tmp_path: Path) -> None:
    rows = [(f"{name}/00{i}.wav", name if i else f"{name};kettle") for name in CLASSES for i in range(3)]
    path = table(sounds / "two.csv", rows, "file,labels")
    with pytest.raises(DatasetError, match="cross entropy with clips of no class or of several"):
        finetune(path, model="demo", out=tmp_path / "out", settings=Settings(loss="ce"))
    path.unlink()


def test_frame_wise_networks_need_unfrozen(sounds: Path, tmp_path: Path) -> None:
    model = find("cnn14_decisionlevelmax")
    state = model.build().state_dict()
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="expected --unfrozen"):
        finetune(sounds, model=model.name, checkpoint=tmp_path / "w.pth", out=tmp_path / "out")


def clips(labels: list[tuple[str, ...]], folds: list[str | None] | None = None) -> Dataset:
    made = tuple(
        LabelledClip(path=Path(f"{i}.wav"), labels=one, fold=folds[i] if folds else None, sha256=str(i))
        for i, one in enumerate(labels)
    )
    return Dataset(clips=made, classes=tuple(sorted({x for one in labels for x in one})), skipped=(), repeated=0)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=3, unique=True).map(tuple), min_size=1, max_size=60),
       st.integers(0, 1000))  # fmt: skip
def test_every_clip_is_in_one_part_and_every_class_is_learnt(labels: list[tuple[str, ...]], seed: int) -> None:
    data = clips(labels)
    if len(data.classes) < 2:
        with pytest.raises(DatasetError, match="at least two"):
            split(data, seed=seed)
        return
    found = split(data, seed=seed)
    assert [clip.path for clip in found.clips] == [clip.path for clip in data.clips]
    assert {clip.fold for clip in found.clips} <= {TRAIN, VALIDATION, HELD_OUT}
    assert split(data, seed=seed) == found
    if all(len(one) == 1 for one in labels):
        for label in data.classes:
            parts = Counter(clip.fold for clip in found.clips if label in clip.labels)
            assert parts[TRAIN] >= 1
            assert (parts[HELD_OUT] >= 1) == (parts.total() >= 2)
            assert (parts[VALIDATION] >= 1) == (parts.total() >= 3)


def test_folds_are_kept() -> None:
    data = clips([("a",), ("b",)] * 6, ["1", "1", "2", "2", "3", "3"] * 2)
    found = split(data, held_out="2")
    assert all((old.fold == "2") == (new.fold == HELD_OUT) for old, new in zip(data.clips, found.clips, strict=True))
    assert {clip.fold for clip in found.clips} == {TRAIN, VALIDATION, HELD_OUT}
    assert split(found) == found  # so the table that `finetune` writes gives the same parts
    for wrong in ("4", ""):
        with pytest.raises(DatasetError, match="expected one of at least two"):
            split(data if wrong else replace(data, clips=data.clips[:2]), held_out=wrong or None)
    with pytest.raises(DatasetError, match="have no folds"):
        split(clips([("a",), ("b",)]), held_out="1")


# --- the same sound twice ---


@pytest.fixture
def noises(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five clips of noise of two classes, and a quieter, later cut of one of them, as Ogg."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            noise = rng.normal(0, 0.1, 4 * 16000)
            soundfile.write(tmp_path / label / f"{i}.wav", noise, 16000)
            if (label, i) == ("a", 3):
                soundfile.write(tmp_path / label / "copy.ogg", 0.3 * noise[16000:], 16000)
    return tmp_path


def test_the_same_sound_is_kept_in_one_fold(noises: Path) -> None:
    found = duplicates_together(read_dataset(noises), seconds=4.0)
    assert len(found.notes) == 1
    assert "the same sound in 1 pair of clips, which are kept in one fold" in found.notes[0]
    assert "3.wav and" in found.notes[0]
    pair = [clip for clip in found.clips if clip.recording is not None]
    assert sorted(clip.path.name for clip in pair) == ["3.wav", "copy.ogg"]
    for seed in range(20):
        assert len({clip.fold for clip in split(found, seed=seed).clips if clip.recording is not None}) == 1


@pytest.mark.parametrize("move", [False, True])
def test_the_same_sound_in_two_folds_is_named_or_moved(noises: Path, move: bool) -> None:
    rows = [(f"{label}/{i}.wav", label, str(i % 2)) for label in "ab" for i in range(5)] + [("a/copy.ogg", "a", "0")]
    found = duplicates_together(read_dataset(table(noises / "t.csv", rows)), seconds=4.0, move=move)
    assert len(found.notes) == 1
    assert "3.wav (fold 1) and" in found.notes[0]
    assert "copy.ogg (fold 0)" in found.notes[0]
    assert ("--move-duplicates" in found.notes[0]) != move
    folds = [clip.fold for clip in found.clips if clip.recording is not None]
    assert folds == (["1", "1"] if move else ["1", "0"])


def test_a_class_of_one_sound_is_left_as_it_is(noises: Path) -> None:
    samples, rate = soundfile.read(noises / "b" / "0.wav")
    for i in range(1, 5):
        soundfile.write(noises / "b" / f"{i}.wav", samples * (1 - 0.1 * i), rate)
    found = duplicates_together(read_dataset(noises), seconds=4.0)
    assert "nearly all clips of b are one and the same sound" in found.notes[1]
    assert {clip.labels for clip in found.clips if clip.recording is not None} == {("a",)}


# --- augmentation, cache, settings ---


def test_mixup_mixes_labels_like_clips() -> None:
    y = torch.eye(6)
    x, mixed = mixup(y.clone(), y, alpha=0.5, rng=np.random.default_rng(0))
    assert torch.equal(x, mixed)
    assert torch.allclose(mixed.sum(dim=1), torch.ones(6))
    assert (mixed.diagonal() >= 0.5).all()
    assert not torch.equal(mixed, y)


def test_spec_augment_replaces_stripes_by_the_mean() -> None:
    x = torch.randn(8, 1, 500, 64, generator=torch.Generator().manual_seed(0))
    out = spec_augment(x, rng=np.random.default_rng(0))
    mean = x.mean(dim=2, keepdim=True).expand_as(x)
    changed = out != x
    assert torch.equal(out[changed], mean[changed])
    share = changed.float().mean(dim=(1, 2, 3))
    assert (share > 0).any()
    assert (share < 2 * (64 / 1001 + 8 / 64) + 0.01).all()


def test_a_balanced_epoch_draws_every_class_equally_often() -> None:
    truth = np.zeros((1000, 2), np.float32)
    truth[:900, 0], truth[900:, 1] = 1, 1
    rng = np.random.default_rng(0)
    assert abs(truth[epoch_order(truth, balanced=True, rng=rng)][:, 1].mean() - 0.5) < 0.1
    assert sorted(epoch_order(truth, balanced=False, rng=rng)) == list(range(1000))


def test_features_are_computed_once_and_again_if_damaged(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(clip: LabelledClip) -> Any:
        made.append(clip.path)
        return np.arange(3, dtype=np.float32)

    clip = LabelledClip(path=tmp_path / "x.wav", labels=(), fold=None, sha256="ab" * 32)
    cache = FeatureCache(make, key={"test": str(tmp_path)})
    assert cache(clip).tolist() == cache(clip).tolist() == [0, 1, 2]
    assert len(made) == 1
    assert FeatureCache(make, key={"test": "other"}).folder != cache.folder
    good = cache.path(clip).read_bytes()
    flipped = [good[:at] + bytes([good[at] ^ 8]) + good[at + 1 :] for at in (0, 60, len(good) - 34, len(good) - 1)]
    for damage in (b"", b"junk", good[:-2], *flipped):
        cache.path(clip).write_bytes(damage)
        assert cache(clip).tolist() == [0, 1, 2]
    assert len(made) == 8
    assert cache.path(clip).read_bytes() == good
    part = replace(clip, start=1.0, end=2.0)
    assert cache.path(part) != cache.path(clip)
    assert cache.path(part) != cache.path(replace(clip, start=1.0))


def test_training_hears_the_part_of_a_clip(tmp_path: Path) -> None:
    """And no more of it than the length of a clip."""
    spec = find("mn04").front_end
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * spec.sample_rate).astype(np.float32)
    soundfile.write(tmp_path / "rec.wav", samples, spec.sample_rate, subtype="FLOAT")
    part = LabelledClip(path=tmp_path / "rec.wav", labels=("a",), fold=None, sha256="a", start=2.0, end=4.5)
    for seconds in (1.0, 4.0):
        inputs = ClipInput(spec, graph="logmel", seconds=seconds)
        first, last = 2 * spec.sample_rate, round((2 + min(seconds, 2.5)) * spec.sample_rate)
        np.testing.assert_array_equal(inputs(part), inputs.of_samples(samples[first:last]))
    assert (
        _longest(replace(read_dataset(table(tmp_path / "t.csv", [("rec.wav", "a")], "file,labels")), clips=(part,)))
        == 3.0
    )


@pytest.mark.parametrize(
    "options",
    [{"loss": "mse"}, {"epochs": 0}, {"patience": 0}, {"batch": 0}, {"seed": -1}, {"mixup": -1.0},
     {"mixup": float("nan")}, {"learning_rate": 0.0}, {"weight_decay": float("inf")}, {"batch": 10**12},
     {"epochs": 10**30}, {"epochs": 1.5}, {"epochs": True}, {"patience": "3"}, {"seed": 2**64}, {"mixup": 1e308},
     {"mixup": "1"}, {"learning_rate": float("nan")}, {"learning_rate": "x"}, {"weight_decay": None}, {"loss": 5}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        Settings(**options)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e308, float("nan"), float("inf"), 10**400, "10", None])
def test_lengths_out_of_range_are_refused(seconds: Any) -> None:
    with pytest.raises(ModelError, match=r"clip of .* s; expected 1 … 60 s for demo"):
        require_length(seconds, find("demo"))


@pytest.mark.parametrize(
    "arguments",
    [
        *(["convert", "demo", "--seconds", value] for value in ("0", "-1", "nan", "inf", "1e308")),
        *(["finetune", "--data", "x", "--model", "demo", "--out", "x", *more] for more in (
            ("--batch", "999999999999"), ("--epochs", "0"), ("--seed", "9" * 30), ("--mixup", "1e308"))),
        *(["train", "--data", "x", "--model", "demo", "--out", "x", *more] for more in (
            ("--batch-size", "999999999999"), ("--workers", "999999"), ("--steps", "9" * 30), ("--every", "0"))),
        *(["pack", "--metadata", "x", "--clips", "x", "--out", "x", *more] for more in (
            ("--seconds", "nan"), ("--seconds", "1e308"), ("--sample-rate", "9" * 400))),
        ["convert", "../../x"],
        ["fetch", "a\0b"],
        ["convert", "demo", "--checkpoint", "a\0b", "--out", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_absurd_arguments_are_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    assert main(arguments) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]  # not the steps
    assert len(said) == 1
    assert said[0].startswith("panns-litert: ")
    assert "expected" in said[0]
    assert len(said[0]) < 500
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] in ([], [".x.lock"])


@settings(max_examples=30)
@given(st.binary(max_size=80))
def test_any_bytes_for_a_table_are_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(data)
    with pytest.raises(PannsLitertError):
        read_dataset(path)


def test_with_classes_keeps_the_record() -> None:
    model = with_classes(find("mn04"), ["a", "b"])
    assert (model.class_names(), model.name, model.front_end) == (("a", "b"), "mn04", find("mn04").front_end)
    assert model.build().state_dict()["classifier.5.weight"].shape[0] == 2
