"""Evaluation of the demo bundle on variants of its demo clips, and of mn04 on ESC-10; the settings that follow."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from event_defaults import GROUPS
from support import AUDIO, REAL_WEIGHTS, ROOT, needs_shared, run_command
from tables import read_tables

from panns_litert import EventSettings, Sense, Tagger, TaggerSettings, demo_clips, find_events, load_audio, tag_long
from panns_litert.cli.output import ends
from panns_litert.errors import DatasetError, LabelError, PictureError, SettingsError
from panns_litert.evaluate import LEAST_CLIPS, Dataset, Evaluation, evaluate, plot_evaluation, read_dataset
from panns_litert_convert.convert import convert

RATE = 32000
SOUNDS = ("Siren", "Foghorn", "Church bell")
VARIANTS = 12
SECONDS = 4.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 12 clips for each of three classes in three folds, of a clip of two classes, and of a long clip: a siren
    after 20 s without one."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    known = {clip.name.split("_")[0]: load_audio(clip, sample_rate=RATE).waveform for clip in demo_clips()}
    rows = [("file", "labels", "fold")]

    def add(name: str, samples: Any, labels: str, fold: int) -> None:
        noise = 10 ** rng.uniform(-4, -1.5) * rng.standard_normal(len(samples))
        soundfile.write(folder / name, (samples + noise).clip(-1, 1), RATE)
        rows.append((name, labels, str(fold)))

    for k in range(VARIANTS):
        for label in SOUNDS:
            wave = known[label.split()[0].lower()]
            begin = int(rng.integers(max(1, len(wave) - int(SECONDS * RATE))))
            part = wave[begin : begin + int(SECONDS * RATE)]
            add(f"{label}{k}.wav", 10 ** rng.uniform(-2.5, 0) * part, label, k % 3)
    siren = known["siren"][: int(SECONDS * RATE)]
    add("two.wav", 0.5 * siren + 0.5 * known["foghorn"][: len(siren)], "Siren;Foghorn", 0)
    add("long.wav", np.concatenate([np.zeros(20 * RATE), siren]), "Siren", 1)
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "data.csv"


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(threads=1)


@pytest.fixture(scope="module")
def dataset(data: Path, tagger: Tagger) -> Dataset:
    return read_dataset(data, classes=tagger.labels)


@pytest.fixture(scope="module")
def found(tagger: Tagger, dataset: Dataset) -> Evaluation:
    return evaluate(tagger, dataset)


def test_long_clips_are_heard_to_their_end(tagger: Tagger, dataset: Dataset, found: Evaluation) -> None:
    assert (found.heard.longer, found.heard.whole, found.heard.shorter) == (1, True, len(dataset.clips) - 1)
    assert found.heard.windows == len(dataset.clips) + 2
    start = evaluate(tagger, dataset, whole=False)
    assert (start.heard.longer, start.heard.whole, start.heard.windows) == (1, False, len(dataset.clips))
    siren = tagger.labels.index("Siren")
    assert start.figures.classes[siren].average_precision < found.figures.classes[siren].average_precision  # type: ignore


def test_thresholds_are_of_the_scores_that_tag_long_gives(tagger: Tagger, dataset: Dataset) -> None:
    """With a temperature, also of a clip of several windows: the rates are counted again from `tag_long`."""
    calibrated = evaluate(tagger, dataset, calibrated=True)
    settings = calibrated.settings(tagger.bundle, data="data.csv")
    assert settings.temperature == calibrated.calibration.temperature != 1.0
    assert settings.data == f"data.csv: {len(dataset.clips)} clips, best F1"
    sense = settings.sense(tagger.labels)
    scores = np.stack([tag_long(tagger, clip.path, sense=sense).probs for clip in dataset.clips])
    found = scores >= settings.thresholds(tagger.labels)
    truth = dataset.truth()
    assert {one.label for one in calibrated.thresholds} == set(SOUNDS)
    for one in calibrated.thresholds:
        k = tagger.labels.index(one.label)
        assert one.same is not None
        assert one.across is not None
        assert (found[:, k] & (truth[:, k] == 1)).sum() == round(one.same.recall * one.clips)
        assert one.same.precision == pytest.approx((truth[found[:, k], k]).mean())
        assert one.same.f1 >= one.across.f1


def test_groups_are_evaluated_and_written(tagger: Tagger, data: Path) -> None:
    groups = {"Siren": ["Siren"], "Foghorn": ["Foghorn"], "Church bell": ["Church bell", "Telephone bell ringing"]}
    dataset = read_dataset(data, classes=tuple(groups))
    found = evaluate(tagger, dataset, groups=groups)
    assert [row.label for row in found.figures.classes] == list(groups)
    settings = found.settings(tagger.bundle, data="d")
    assert settings.groups == groups
    assert settings.sense(tagger.labels).labels == tuple(groups)
    sense = Sense(tagger.labels, groups=groups)
    right = [
        sense.labels[int(tag_long(tagger, clip.path, sense=sense).probs.argmax())] in clip.labels
        for clip in dataset.clips
    ]
    assert found.figures.accuracy == pytest.approx(np.mean(right))
    with pytest.raises(LabelError, match="did you mean 'Siren'"):
        evaluate(tagger, dataset, groups=groups | {"Siren": ["Sirne"]})
    with pytest.raises(DatasetError, match="or the names of the groups"):
        evaluate(tagger, dataset, groups={"Siren": ["Siren"]})


def test_settings_are_measured_on_other_clips(tagger: Tagger, dataset: Dataset) -> None:
    chosen = evaluate(tagger, dataset, calibrated=True)
    settings = chosen.settings(tagger.bundle, data="d")
    same = evaluate(tagger, dataset, settings=settings)
    assert [(one.threshold, one.same) for one in same.thresholds] == [
        (one.threshold, one.same) for one in chosen.thresholds
    ]
    assert same.f1_chosen == chosen.f1_chosen
    assert same.rule == "of the settings"
    assert same.calibration.before == chosen.calibration.after
    other = evaluate(tagger, dataset.of_fold("2"), settings=replace(settings, groups=None))
    assert [one.clips for one in other.thresholds] == [4, 4, 4]
    assert [one.threshold for one in other.thresholds] == [one.threshold for one in chosen.thresholds]
    assert {one.across for one in other.thresholds} == {None}
    few = replace(settings, events=EventSettings(classes={"Siren": {"on": 0.4}}))
    found = {one.label: (one.threshold, one.why) for one in evaluate(tagger, dataset, settings=few).thresholds}
    assert found["Siren"] == (0.4, None)
    assert found["Foghorn"] == (None, "the settings have none")
    few = replace(settings, events=EventSettings(on=0.3, classes={"Siren": {"on": 0.4}}))
    found = {one.label: (one.threshold, one.why) for one in evaluate(tagger, dataset, settings=few).thresholds}
    assert (found["Siren"], found["Foghorn"]) == ((0.4, None), (0.3, None))
    with pytest.raises(SettingsError, match="expected either"):
        evaluate(tagger, dataset, settings=settings, precision=0.9)
    with pytest.raises(SettingsError, match="choose them again"):
        evaluate(tagger, dataset, settings=replace(settings, model="m", model_sha256="0" * 64))


def test_a_bootstrap_without_a_mistake_is_no_interval() -> None:
    assert ends(None) == ""
    assert ends((1.0, 1.0)) == "(no interval)"
    assert ends((0.7, 1.0)) == "(0.700 – 1.000)"


def test_too_little_data_is_said(tagger: Tagger, dataset: Dataset) -> None:
    few = evaluate(tagger, dataset.of_fold("0"))
    assert {one.why for one in few.thresholds} == {f"fewer than {LEAST_CLIPS} clips"}
    assert few.calibration.temperature is None
    with pytest.raises(DatasetError, match=f"no class has a threshold .fewer than {LEAST_CLIPS} clips"):
        few.settings(tagger.bundle, data="d")
    with pytest.raises(DatasetError, match="no temperature: 13 clips"):
        evaluate(tagger, dataset.of_fold("0"), calibrated=True)


def test_a_picture(found: Evaluation, tmp_path: Path) -> None:
    plot_evaluation(found, tmp_path / "found.svg")
    drawn = (tmp_path / "found.svg").read_text(encoding="utf-8")
    for text in (*SOUNDS, "taken for", "share of clips with the class", "average precision, 3 of 3 classes"):
        assert f">{text}</text>" in drawn
    assert "without 1 clip of no or several classes" in drawn
    with pytest.raises(PictureError, match=r"suffix '\.xyz'; expected \.png or \.svg"):
        plot_evaluation(found, tmp_path / "found.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["found.svg"]


def test_settings_name_data_whose_name_is_no_utf8(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data.with_name(os.fsdecode(b"caf\xe9.csv"))
    try:
        other.write_bytes(data.read_bytes())
    except OSError:
        pytest.skip("names of files are UTF-8 here")
    settings = tmp_path / "settings.json"
    run_command(capsys, "evaluate", "--data", other, "--write-settings", settings, "--threads", 1)
    other.unlink()
    assert TaggerSettings.load(settings).data == "caf\\xe9.csv: 38 clips, best F1"
    text = json.loads(settings.read_text(encoding="utf-8")) | {"data": "a\x1b[31m\nb"}
    settings.write_text(json.dumps(text), encoding="utf-8")
    out, _ = run_command(capsys, "evaluate", "--data", data, "--settings", settings, "--threads", 1)
    assert "which were chosen on a\\x1b[31m\\nb, measured on these clips" in out


def test_the_command_prints_only_classes_with_clips(
    data: Path, found: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.json"
    out, _ = run_command(
        capsys, "evaluate", "--data", data, "--write-settings", settings, "--plot", tmp_path / "a.png", "--threads", 1
    )
    assert "mean of 3 classes" in out
    assert "Doorbell" not in out
    assert "without 1 clip of no or several classes" in out
    again, _ = run_command(capsys, "evaluate", "--data", data, "--settings", settings, "--threads", 1)
    assert "thresholds of the settings, which were chosen on data.csv: 38 clips, best F1, measured on these" in again
    for option in (["--calibrate"], ["--wanted-precision", "0.9"], ["--write-settings", settings]):
        _, err = run_command(capsys, "evaluate", "--data", data, "--settings", settings, *option, code=2)
        assert f"--settings and {option[0]} together; expected one of them" in err
    out_few, err = run_command(
        capsys, "evaluate", "--data", data, "--fold", "0", "--write-settings", tmp_path / "few.json", code=2
    )
    assert "no class has a threshold (fewer than 10 clips)" in err
    assert "mean of 3 classes" in out_few  # the figures are not lost
    assert not (tmp_path / "few.json").exists()
    assert "1 longer than the model's clip: heard to the end" in out
    assert f"{settings}: thresholds of 3 classes" in out
    out, _ = run_command(capsys, "evaluate", "--data", data, "--json", "--threads", 1, "--wanted-precision", "0.9")
    report = json.loads(out)["report"]
    assert report["rule"] == "lowest with precision ≥ 0.9"
    assert all(one["same"]["precision"] >= 0.9 for one in report["thresholds"])
    assert report["heard"]["windows"] == found.heard.windows
    assert report["confusion"]["left_out"] == 1
    assert TaggerSettings.load(settings) == found.settings(Tagger(threads=1).bundle, data="data.csv")


def test_every_command_takes_the_settings(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.json"
    run_command(capsys, "evaluate", "--data", data, "--write-settings", settings, "--calibrate", "--threads", 1)
    chosen = TaggerSettings.load(settings)
    tagger = Tagger(threads=1)
    sense, clip = chosen.sense(tagger.labels), data.parent / "Siren0.wav"
    out, _ = run_command(capsys, "tag", clip, "--settings", settings, "--json", "--threads", 1)
    want = tag_long(tagger, clip, sense=sense, top=5, threshold=chosen.thresholds(tagger.labels))
    tags = json.loads(out)["results"][0]["tags"]
    assert [(tag["label"], tag["score"]) for tag in tags] == [(tag.label, tag.score) for tag in want.tags]
    assert "Siren" in {tag["label"] for tag in tags}
    out, _ = run_command(capsys, "events", clip, "--settings", settings, "--json", "--threads", 1)
    events = json.loads(out)["results"][0]["events"]
    found = sorted(find_events(tagger, clip, settings=chosen.events, sense=sense), key=lambda e: (e.start, e.index))
    assert [(e["label"], e["score"]) for e in events] == [(e.label, round(e.score, 6)) for e in found]
    picture = tmp_path / "a.svg"
    out, _ = run_command(capsys, "plot", clip, "--settings", settings, "--out", picture, "--json", "--threads", 1)
    assert json.loads(out)["events"] == len(found)
    assert {tag["label"]: tag["highest"] for tag in json.loads(out)["tags"]}["Siren"] == pytest.approx(
        want.tags[0].score
    )
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"path\n{clip}\n", encoding="utf-8")
    run_command(
        capsys, "batch", manifest, "--out", tmp_path / "out", "--settings", settings, "--top", 5,
        "--workers", 1,
    )  # fmt: skip
    (row,) = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert [tag["label"] for tag in row["tags"]] == [tag.label for tag in want.tags]
    assert [tag["score"] for tag in row["tags"]] == pytest.approx([tag.score for tag in want.tags])
    rows = tmp_path / "rows.jsonl"
    run_command(capsys, "tag", clip, "--settings", settings, "--out", rows, "--threads", 1)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(chosen.to_dict() | {"temperature": 3.5}), encoding="utf-8")
    _, err = run_command(capsys, "tag", clip, "--settings", other, "--out", rows, "--threads", 1, code=2)
    assert "temperature was" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "0.3"], "--settings and --threshold together; expected one of them"),
        (["--temperature", "2"], "--temperature, and .* has one, too"),
        (["--groups", "groups.json"], "--groups, and .* has groups, too"),
    ],
)
def test_options_beside_the_settings_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TaggerSettings(temperature=2.0, groups={"alarm": ["Siren"]})
    settings.write(tmp_path / "settings.json")
    _, err = run_command(capsys, "tag", demo_clips()[0], "--settings", tmp_path / "settings.json", *options, code=2)
    assert re.search(message, err)


@needs_shared
def test_mn04_names_the_sounds_of_esc10(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many clips are right as tests/bench/esc10.py counted, which has code of its own for it."""
    bundle = convert("mn04", checkpoint=REAL_WEIGHTS, out=tmp_path / "mn04").path
    groups, settings = tmp_path / "groups.json", tmp_path / "settings.json"
    groups.write_text(json.dumps(GROUPS), encoding="utf-8")
    out, _ = run_command(
        capsys, "evaluate", "--data", AUDIO / "esc10" / "esc10.csv", "--groups", groups, "--model", bundle,
        "--write-settings", settings, "--threads", 1, "--json",
    )  # fmt: skip
    found = json.loads(out)
    figures, report = found["figures"]["tflite cpu"], found["report"]
    tables = read_tables(ROOT / evidence.RECORD)["tables"]
    rows = next(table["rows"] for table in tables if table["name"] == "zero_shot")
    kept = next(row for row in rows if row["what"] == "fp16, log-mel, CPU" and row["window_s"] == "10")
    assert figures["clips"] == 320
    assert abs(100 * figures["accuracy"] - kept["right_percent"]) <= 150 / 320
    assert figures["accuracy_interval"][0] < 0.95 < figures["accuracy_interval"][1]
    assert [one["threshold"] is not None for one in report["thresholds"]] == [True] * 10
    assert all(one["across"]["f1"] <= one["same"]["f1"] for one in report["thresholds"])
    assert report["f1_chosen"]["macro"] > report["f1_half"]["macro"] + 0.2
    rooster = next((AUDIO / "esc10" / "rooster").iterdir())
    out, _ = run_command(capsys, "tag", rooster, "--model", bundle, "--settings", settings)
    assert [line.split()[-1] for line in out.splitlines()[1:] if line] == ["rooster"]
    _, err = run_command(capsys, "tag", rooster, "--settings", settings, code=2)
    assert "settings of mn04" in err
    assert "choose them again for that bundle: panns-litert evaluate --write-settings FILE" in err
