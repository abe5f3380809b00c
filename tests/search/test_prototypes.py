"""Prototypes: new classes from a few clips, without training."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_litert.atomic import writing
from panns_litert.audio import load_audio
from panns_litert.batch import batch
from panns_litert.bundle import Bundle
from panns_litert.cli import main
from panns_litert.demo import demo_bundle
from panns_litert.errors import PannsLitertError, PrototypeError, ResultsError
from panns_litert.events import EventSettings
from panns_litert.prototypes import Prototypes, prototypes_path, score_of_cosine
from panns_litert.search import clip_embeddings, enroll
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import find_events, tag_long, windows
from panns_litert_convert.demo import household

DIM = 8


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    household.write(folder / "enrolled", clips=4, seed=0)
    household.write(folder / "tested", clips=4, seed=1)
    return folder


def none_yet(dim: int = DIM, *, background: int = 40) -> Prototypes:
    others = np.random.default_rng(9).standard_normal((background, dim))
    return Prototypes.empty("m", "0" * 64, dim).with_background(others, sha256=["9" * 64])


def around(direction: int, count: int, *, spread: float = 0.1, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    noise = np.random.default_rng([seed, direction]).standard_normal((count, DIM))
    return np.asarray(np.eye(DIM)[direction] + spread * noise)


def test_the_mean_direction_is_the_prototype() -> None:
    found = none_yet().enroll("a", np.array([[3.0, 0, 0, 0, 0, 0, 0, 0], [0, 5.0, 0, 0, 0, 0, 0, 0]]))
    assert found.classes[0].mean[:3] == pytest.approx(
        [2**-0.5, 2**-0.5, 0.0]
    )  # of unit vectors: loudness does not count
    assert found.classes[0].count == 2
    assert found.classes[0].cosine == pytest.approx(0.0)
    assert found.cosines(np.eye(DIM)[0]) == pytest.approx([2**-0.5])


def test_the_threshold_is_between_the_background_and_the_clips() -> None:
    """In numbers that can be followed by hand: every background vector has a cosine of 0 or 0.6 with the mean."""
    axis, others = np.eye(DIM)[0], np.stack([np.eye(DIM)[1]] * 10 + [0.6 * np.eye(DIM)[0] + 0.8 * np.eye(DIM)[2]] * 10)
    known = Prototypes.empty("m", "0" * 64, DIM).with_background(others)
    one = known.enroll("a", [axis]).classes[0]
    assert one.threshold == pytest.approx((0.6 + 0.8) / 2, abs=1e-3)  # 0.8: halfway between the level and 1
    four = known.enroll("a", [axis] * 4).classes[0]
    assert four.threshold == pytest.approx((0.6 + (4 * 1.0 + 0.8) / 5) / 2, abs=1e-3)
    scores = score_of_cosine(np.array([-1.0, 0.6, four.threshold, 1.0]), threshold=four.threshold, scale=four.scale)
    assert scores[1:3] == pytest.approx([0.05, 0.5], abs=1e-3)
    assert scores[0] < 1e-6
    assert scores[3] > 0.95
    assert (np.diff(score_of_cosine(np.linspace(-1, 1, 101), threshold=0.99, scale=1e-3)) >= 0.0).all()


def test_windows_of_a_clip_count_as_one_clip() -> None:
    """A long clip does not outweigh a short one."""
    long, short = np.stack([np.eye(DIM)[0]] * 9), np.eye(DIM)[1]
    found = none_yet().enroll("a", [long, short]).classes[0]
    assert found.count == 2
    assert found.mean[:2] == pytest.approx([2**-0.5, 2**-0.5])


def test_the_order_of_enrolment_and_of_the_background_does_not_matter() -> None:
    later = np.random.default_rng(3).standard_normal((30, DIM))
    one = none_yet().enroll("a", around(0, 5)).enroll("b", around(1, 5, spread=0.4)).with_background(later)
    other = none_yet().with_background(later).enroll("b", around(1, 5, spread=0.4)).enroll("a", around(0, 5))
    found = {proto.name: (proto.threshold, proto.scale) for proto in one.classes}
    assert found == {proto.name: (proto.threshold, proto.scale) for proto in other.classes}
    assert one.answers_sha256 != one.enroll("c", around(2, 3)).answers_sha256


def test_another_class_counts_as_background() -> None:
    alone = none_yet(background=5).enroll("a", around(0, 5)).classes[0].threshold
    beside = none_yet(background=5).enroll("b", around(0, 5, seed=1, spread=0.4)).enroll("a", around(0, 5)).classes[1]
    assert beside.threshold > alone


def test_a_clip_is_not_in_the_background_too() -> None:
    with pytest.raises(PrototypeError, match="also in the background"):
        none_yet().enroll("a", around(0, 2), sha256=["1" * 64, "9" * 64])
    with pytest.raises(PrototypeError, match="also in the background"):
        none_yet().enroll("a", around(0, 2), sha256=["1" * 64]).with_background(np.eye(DIM), sha256=["1" * 64])
    with pytest.raises(PrototypeError, match="no background; expected embeddings of other sounds"):
        Prototypes.empty("m", "0" * 64, DIM).enroll("a", around(0, 2))


def test_a_large_background_is_thinned_out() -> None:
    assert len(none_yet(background=5000).background.vectors) == 256


def test_the_nearest_class_within_its_threshold() -> None:
    known = none_yet().enroll("a", around(0, 5)).enroll("b", around(1, 5)).enroll("alone", around(2, 1))
    for k, name in enumerate(known.labels):
        found = known.nearest(around(k, 1, spread=0.01)[0])
        assert found is not None
        assert found[0].name == name
    assert known.nearest(np.eye(DIM)[5]) is None
    assert (known.scores(np.zeros(DIM)) == 0.0).all()  # the model hears nothing


@given(st.integers(0, 10**6))
def test_the_same_clips_under_two_names_can_be_read_again(seed: int) -> None:
    """The cosine of a vector with itself may be a little more than 1 after rounding."""
    clip = np.random.default_rng(seed).standard_normal((1, DIM))
    known = none_yet().enroll("a", clip).enroll("b", clip)
    assert known.classes[1].threshold <= 1.0
    with tempfile.TemporaryDirectory() as folder:
        known.write(Path(folder) / "p.json")
        assert Prototypes.read(Path(folder) / "p.json").labels == ("a", "b")


def test_the_same_name_again_replaces_it() -> None:
    known = none_yet().enroll("a", around(0, 5)).enroll("b", around(1, 5)).enroll("a", around(2, 3))
    assert known.labels == ("b", "a")
    assert known.classes[1].count == 3


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4))
def test_any_clips_survive_the_file(seed: int, clips: int, classes: int) -> None:
    known = none_yet()
    rng = np.random.default_rng(seed)
    for k in range(classes):
        known = known.enroll(f"class {k}", rng.standard_normal((clips, DIM)))
    again = Prototypes.from_json(known.to_json())
    assert again.to_json() == known.to_json()
    assert again.answers_sha256 == known.without_background().answers_sha256 == known.answers_sha256
    probe = rng.standard_normal(DIM)
    assert (again.scores(probe) == known.scores(probe)).all()
    assert ((known.scores(probe) >= 0.0) & (known.scores(probe) <= 1.0)).all()
    assert all(-1.0 <= one.threshold <= 1.0 for one in known.classes)


@pytest.mark.parametrize(
    "embeddings",
    [np.zeros((2, DIM)), np.full((1, DIM), np.nan), np.ones((1, DIM + 1)), np.ones(DIM), np.ones((0, DIM))],
)
def test_bad_embeddings_are_refused(embeddings: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(PrototypeError, match="expected"):
        none_yet().enroll("a", embeddings)


def test_opposite_clips_are_no_class() -> None:
    with pytest.raises(PrototypeError, match="opposite"):
        none_yet().enroll("a", np.stack([np.eye(DIM)[0], -np.eye(DIM)[0]]))


def test_scores_need_a_class() -> None:
    with pytest.raises(PrototypeError, match="no class yet"):
        none_yet().scores(np.ones(DIM))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format_version=1),
        lambda d: d.update(background=None),
        lambda d: d["background"].update(windows=39),
        lambda d: d["background"].update(windows=-1, vectors=""),
        lambda d: d["background"].update(vectors="é"),
        lambda d: d["background"].update(vectors="A" + d["background"]["vectors"][1:8] + "8" * 8),
        lambda d: d["background"].update(sha256=[1]),
        lambda d: d["classes"][0].update(scale=0.0),
        lambda d: d["classes"][0].update(scale="1"),
        lambda d: d["classes"][0].update(cosine=1.5),
        lambda d: d["classes"][0].pop("cosine"),
        lambda d: d.pop("dim"),
        lambda d: d.update(extra=1),
        lambda d: d.update(dim=DIM + 1),
        lambda d: d.update(model_sha256=None),
        lambda d: d.update(classes=[1]),
        lambda d: d.update(classes=None),
        lambda d: d.update(dim=10**400),
        lambda d: d.update(classes={"a": 1}),
        lambda d: d["classes"][0].update(name=" "),
        lambda d: d["classes"][0].update(name="a\nb"),
        lambda d: d["classes"][0].update(name="a\x1b[31m"),
        lambda d: d["classes"][0].update(name="\udce9"),
        lambda d: d["classes"][0].update(count=True),
        lambda d: d["classes"][0].update(threshold=float("nan")),
        lambda d: d["classes"][0].update(mean=[10**400] + [0.0] * (DIM - 1)),
        lambda d: d["classes"][0].update(mean=["1.0"] + [0.0] * (DIM - 1)),
        lambda d: d["classes"][0].update(mean=[[1.0]] * DIM),
        lambda d: d["classes"][0].update(mean=[float("inf")] * DIM),
        lambda d: d["classes"][0].update(count=0),
        lambda d: d["classes"][0].update(threshold=2.0),
        lambda d: d["classes"][0].pop("threshold"),
        lambda d: d["classes"][0]["mean"].pop(),
        lambda d: d["classes"][0].update(mean=[1.0] * DIM),
        lambda d: d["classes"].append(d["classes"][0]),
    ],
)
def test_a_damaged_file_is_refused(change: Callable[[dict[str, object]], object], tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    none_yet().enroll("a", around(0, 3)).write(path)
    assert Prototypes.read(path).labels == ("a",)
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PrototypeError, match=r"p\.json: .*enroll the clips again"):
        Prototypes.read(path)


def test_a_byte_order_mark_is_accepted_and_a_pipe_is_not(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    none_yet().enroll("ä", around(0, 3)).write(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Prototypes.read(path).labels == ("ä",)
    os.mkfifo(tmp_path / "pipe.json")
    for bad in (tmp_path / "pipe.json", tmp_path, "/dev/zero", tmp_path / "a\0b", None, 5):
        with pytest.raises(PrototypeError):
            Prototypes.read(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\tb", "a\x00", "\udce9", "a\u2028b", None, 5])
def test_a_name_is_one_line_of_text(name: str) -> None:
    with pytest.raises(PrototypeError, match="expected a name of one line"):
        none_yet().enroll(name, around(0, 2))


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_any_bytes_are_one_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.json"
        path.write_bytes(data)
        with pytest.raises(PannsLitertError):
            Prototypes.read(path)


# --- the command ---


def test_enroll_finds_sounds_that_the_model_was_never_taught(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"
    for name in household.SOUNDS:
        clips = [str(path) for path in sorted((sounds / "enrolled" / name).iterdir())]
        assert main(["enroll", name, *clips, "--prototypes", str(path), "--json"]) == 0
    capsys.readouterr()
    name = "kettle"
    arguments = ["--prototypes", str(path), "--test", str(sounds / "tested"), "--json"]
    assert main(["enroll", name, str(sounds / "enrolled" / name), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    print(result)
    assert result["tested"] == 16
    assert result["accuracy"] >= 0.75  # a quarter by chance
    prototypes = Prototypes.read(path)
    embedding = Tagger().tag(sounds / "tested" / "doorbell" / "000.wav").embedding
    assert prototypes.labels[int(prototypes.scores(embedding).argmax())] == "doorbell"
    assert result["precision"] is None or 0.0 <= result["precision"] <= 1.0
    assert result["recall"] >= 0.5


def test_enrolling_at_once_loses_no_class(sounds: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    clip = str(sounds / "enrolled" / "kettle" / "000.wav")
    command = [sys.executable, "-m", "panns_litert.cli", "enroll"]
    running = [
        subprocess.Popen([*command, f"c{i}", clip, "--prototypes", str(path)], stderr=subprocess.PIPE, text=True)
        for i in range(6)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 6, errors
    assert set(Prototypes.read(path).labels) == {f"c{i}" for i in range(6)}


def test_a_writer_that_takes_too_long_is_named(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    monkeypatch.setattr("panns_litert.search.enrolment.WAIT_SECONDS", 0.1)
    with writing(path):
        assert main(["enroll", "k", str(sounds / "enrolled" / "kettle"), "--prototypes", str(path)]) == 2
    assert "p.json: another run is writing it" in capsys.readouterr().err
    assert not path.exists()


def test_unusable_clips_are_skipped_and_reported(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    path = tmp_path / "p.json"
    good = str(sounds / "enrolled" / "kettle" / "000.wav")
    assert main(["enroll", "k", str(tmp_path / "empty.wav"), good, "--prototypes", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] == 1
    assert "empty" in result["skipped"][0]["reason"]
    assert main(["enroll", "k", str(tmp_path / "empty.wav"), "--prototypes", str(path)]) == 2
    assert "none of 1 clip can be used" in capsys.readouterr().err


def test_enrolled_clips_are_not_tested(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = str(sounds / "enrolled" / "kettle")
    for name in household.SOUNDS:
        main(["enroll", name, str(sounds / "enrolled" / name), "--prototypes", str(tmp_path / "p.json")])
    capsys.readouterr()
    arguments = ["--prototypes", str(tmp_path / "p.json"), "--test", str(sounds / "enrolled")]
    assert main(["enroll", "kettle", clips, *arguments]) == 2
    assert "is enrolled and tested" in capsys.readouterr().err
    assert main(["enroll", "tap", str(sounds / "tested" / "dripping tap"), *arguments]) == 2  # others are tested
    assert "is enrolled as" in capsys.readouterr().err
    options = ["--prototypes", str(tmp_path / "q.json"), "--test", str(sounds / "tested")]
    background = ["--background", str(sounds / "tested" / "background")]
    assert main(["enroll", "kettle", clips, *background, *options]) == 2
    assert "is part of the background and tested" in capsys.readouterr().err
    assert not (tmp_path / "q.json").exists()


def test_the_test_has_the_scores_of_tag_and_says_what_it_skipped(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = tmp_path / "data", tmp_path / "p.json"
    (data / "doorbell").mkdir(parents=True)
    for file in (sounds / "tested" / "doorbell").iterdir():
        (data / "doorbell" / file.name).write_bytes(file.read_bytes())
    (data / "doorbell" / "broken.wav").write_bytes(b"RIFF")
    options = ["--prototypes", str(path), "--test", str(data)]
    assert main(["enroll", "doorbell", str(sounds / "enrolled" / "doorbell"), *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [Path(one["file"]).name for one in result["test_skipped"]] == ["broken.wav"]
    tagger = Tagger(prototypes=path)
    scores = [tag_long(tagger, file).probs[-1] for file in sorted((sounds / "tested" / "doorbell").iterdir())]
    assert result["recall"] == np.mean([one >= 0.5 for one in scores])
    assert main(["enroll", "doorbell", str(sounds / "enrolled" / "doorbell"), *options]) == 0
    assert "broken.wav" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\u202eb", "a\ufeff", " ", "a\nb"])
def test_no_name_is_enrolled_that_a_result_could_not_have(name: str) -> None:
    with pytest.raises(PrototypeError, match="expected a name of one line"):
        none_yet(96).enroll(name, np.ones((1, 96)))


def test_prototypes_of_another_model_are_refused(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"
    none_yet(96).enroll("a", np.ones((1, 96))).write(path)
    assert main(["enroll", "k", str(sounds / "enrolled" / "kettle"), "--prototypes", str(path)]) == 2
    assert "p.json: prototypes of m (000000000000…); " in (err := capsys.readouterr().err)
    assert "enroll the clips again with that bundle; move the file away to begin a new one" in err
    assert Prototypes.read(path).labels == ("a",)
    path.write_text(path.read_text(encoding="utf-8").replace('"format_version": 2', '"format_version": 1'))
    assert main(["enroll", "k", str(sounds / "enrolled" / "kettle"), "--prototypes", str(path)]) == 2
    assert "p.json: format_version 1; expected 2; enroll the clips again; move" in capsys.readouterr().err


def test_nothing_is_written_into_the_package(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enroll", "k", str(sounds / "enrolled" / "kettle")]) == 2
    assert "belongs to the package" in capsys.readouterr().err
    assert prototypes_path(Bundle(demo_bundle())).name == "demo_bundle.prototypes.json"
    assert not prototypes_path(Bundle(demo_bundle())).exists()


# --- where the classes are used ---


@pytest.fixture(scope="module")
def mine(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo bundle with two enrolled classes beside it."""
    folder = tmp_path_factory.mktemp("mine") / "demo"
    shutil.copytree(demo_bundle(), folder)
    for name in ("kettle", "doorbell"):
        clips = sorted((sounds / "enrolled" / name).iterdir())
        background = sorted((sounds / "enrolled" / "dripping tap").iterdir())
        enroll(Tagger(folder), name, clips, background=background)
    assert prototypes_path(Bundle(folder)).exists()
    return folder


def test_the_enrolled_classes_are_in_every_result(sounds: Path, mine: Path) -> None:
    tagger, clip = Tagger(mine, prototypes=prototypes_path(Bundle(mine))), sounds / "tested" / "kettle" / "001.wav"
    plain = Tagger(mine)
    assert tagger.labels == (*plain.labels, "kettle", "doorbell")
    found = tagger.tag(clip)
    assert (found.probs[:-2] == plain.tag(clip).probs).all()
    assert tagger.prototypes is not None
    assert found.probs[-2:] == pytest.approx(tagger.prototypes.scores(found.embedding))
    assert found.tags[0].label == "kettle"
    assert found.tags[0].index == len(plain.labels)
    assert found.tags[0].score >= 0.5
    assert found.to_dict()["enrolled"] == ["kettle", "doorbell"]
    assert "enrolled" not in plain.tag(clip).to_dict()
    long = tag_long(tagger, clip, threshold=0.5)
    assert [tag.label for tag in long.tags] == ["kettle"]
    assert next(windows(tagger, clip)).probs[-2:] == pytest.approx(found.probs[-2:])
    sense = Sense(tagger.labels, deny=["kettle"], groups={"home": ["doorbell", "kettle"]}, roll_up=True)
    assert tag_long(tagger, clip, sense=sense).probs == pytest.approx(found.probs[-1:])  # the doorbell's
    unusable = next(windows(tagger, np.full(16000 * 10, np.nan, np.float32), sample_rate=16000))
    assert unusable.unusable is not None
    assert (unusable.probs == 0.0).sum() == len(tagger.labels)


def test_events_of_an_enrolled_class_start_at_its_threshold(sounds: Path, mine: Path) -> None:
    tagger, clip = Tagger(mine, prototypes=prototypes_path(Bundle(mine))), sounds / "tested" / "kettle" / "001.wav"
    score = float(tagger.tag(clip).probs[tagger.labels.index("kettle")])

    def labels(settings: EventSettings | None = None) -> set[str]:
        return {event.label for event in find_events(tagger, clip, settings=settings)} & set(tagger.enrolled)

    assert labels() == labels(EventSettings(on=0.01)) == labels(EventSettings(on=1.0, off=0.9)) == {"kettle"}
    assert labels(EventSettings(classes={"kettle": {"min_duration": 99.0}})) == set()
    assert labels(EventSettings(classes={"kettle": {"on": min(1.0, score + 1e-3)}})) == set()
    assert labels(EventSettings(classes={"doorbell": {"on": 0.0, "off": 0.0}})) == {"kettle", "doorbell"}


def test_groups_of_enrolled_classes_have_their_threshold(sounds: Path, mine: Path) -> None:
    """Whatever the group is called, also if it has the name of an enrolled class that is not in it."""
    tagger, clip = Tagger(mine, prototypes=prototypes_path(Bundle(mine))), sounds / "tested" / "kettle" / "001.wav"
    assert tagger.tag(clip).probs[tagger.labels.index("kettle")] >= 0.5
    groups = {"k": ["kettle"], "both": ["kettle", "doorbell"], "mixed": ["kettle", "Buzzer"], "doorbell": ["Buzzer"]}
    sense = Sense(tagger.labels, groups=groups)
    assert sense.labels_of(tagger.enrolled) == ("k", "both")
    assert Sense(tagger.labels).labels_of(("doorbell", "none")) == ("doorbell",)
    strict = EventSettings(on=1.0, off=0.9)  # for the classes of the model
    assert {event.label for event in find_events(tagger, clip, settings=strict, sense=sense)} == {"k", "both"}


def test_the_command_gives_groups_of_enrolled_classes_their_threshold(
    sounds: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"on": 1, "off": 0.9, "groups": {"k": ["kettle"], "doorbell": ["Buzzer"]}}', encoding="utf-8")
    clip = str(sounds / "tested" / "kettle" / "001.wav")
    assert main(["tag", clip, "--bundle", str(mine), "--settings", str(settings), "--json"]) == 0
    assert [tag["label"] for tag in json.loads(capsys.readouterr().out)["results"][0]["tags"]] == ["k"]


def test_enrolled_classes_are_evaluated_if_they_are_named(
    sounds: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, settings = str(prototypes_path(Bundle(mine))), tmp_path / "settings.json"
    for name in ("kettle", "doorbell"):
        shutil.copytree(sounds / "tested" / name, tmp_path / "data" / name)
    settings.write_text('{"classes": {"kettle": {"on": 0.5}}}', encoding="utf-8")
    command = ["evaluate", "--data", str(tmp_path / "data"), "--bundle", str(mine), "--settings", str(settings)]
    assert main([*command, "--prototypes", file, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    tagger = Tagger(mine, prototypes=file)
    found = [tag_long(tagger, clip).probs[-2] >= 0.5 for clip in sorted((sounds / "tested" / "kettle").iterdir())]
    [kettle] = [one for one in report["thresholds"] if one["label"] == "kettle"]
    assert (kettle["threshold"], kettle["same"]["recall"]) == (0.5, np.mean(found))
    shutil.copytree(sounds / "enrolled" / "kettle", tmp_path / "data" / "kettle" / "enrolled")
    assert main([*command, "--prototypes", file]) == 0
    assert "4 clips that the prototypes come from" in capsys.readouterr().err
    assert main(command) == 2
    assert "no class 'doorbell'" in capsys.readouterr().err
    assert main([*command[:-2], "--prototypes", file, "--checkpoint", file]) == 2
    assert "--prototypes and --checkpoint together" in capsys.readouterr().err


def test_frames_get_the_score_of_their_window() -> None:
    known = none_yet().enroll("a", around(0, 5)).enroll("b", around(1, 5))
    embedding = around(0, 1).astype(np.float32)
    outputs = {"probs": np.zeros((1, 3), np.float32), "embedding": embedding}
    joined = known.joined(outputs | {"framewise": np.ones((1, 7, 3), np.float32)})
    assert joined["framewise"].shape == (1, 7, 5)
    assert (joined["framewise"][0, :, 3:] == known.scores(embedding[0])).all()
    assert (joined["framewise"][0, :, :3] == 1.0).all()


def test_commands_use_the_prototypes_beside_the_bundle(
    sounds: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, file = str(sounds / "tested" / "kettle" / "001.wav"), prototypes_path(Bundle(mine))
    options = ["--model", str(mine), "--json"]

    def run(*arguments: str) -> tuple[dict[str, Any], str]:
        assert main([*arguments, *options]) == 0
        out, err = capsys.readouterr()
        return json.loads(out), err

    found, err = run("tag", clip)
    assert found["results"][0]["tags"][0]["label"] == "kettle"
    assert f"{file}: 2 enrolled classes: kettle, doorbell" in err
    assert "kettle" not in str(run("tag", clip, "--no-prototypes")[0]["results"][0]["tags"])
    assert "kettle" not in str(run("tag", clip, "--deny", "kettle")[0]["results"][0]["tags"])
    found, _ = run("events", clip, "--allow", "kettle")
    assert [event["label"] for event in found["results"][0]["events"]] == ["kettle"]
    assert found["enrolled"] == ["kettle", "doorbell"]
    assert run("plot", clip, "--out", str(tmp_path / "p.png"))[0]["tags"][0]["label"] == "kettle"
    samples = load_audio(clip, sample_rate=16000).waveform
    pcm = (np.resize(samples, 16000 * 11) * 32767).astype("<i2").tobytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(pcm)))
    assert main(["listen", "-", "--rate", "16000", *options]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["tags"][0]["label"] == "kettle"
    lines = tmp_path / "tags.jsonl"
    assert main(["tag", clip, "--out", str(lines), "--model", str(mine)]) == 0
    assert main(["tag", clip, "--out", str(lines), "--model", str(mine), "--no-prototypes"]) == 2
    assert "prototypes" in capsys.readouterr().err


def test_batch_does_not_mix_runs_with_other_prototypes(sounds: Path, mine: Path, tmp_path: Path) -> None:
    clip, out = sounds / "tested" / "kettle" / "001.wav", tmp_path / "out"
    known = Prototypes.read(prototypes_path(Bundle(mine)))
    options: dict[str, Any] = {"bundle": mine, "workers": 1}
    batch([clip], out, prototypes=known, **options)
    row = pyarrow.parquet.ParquetFile(out / "part-00000.parquet").read().to_pylist()[0]
    assert row["tags"][0]["label"] == "kettle"
    assert "kettle" in {event["label"] for event in row["events"]}
    assert batch([clip], out, prototypes=prototypes_path(Bundle(mine)), **options).computed == 0
    other = known.enroll("doorbell", [clip_embeddings(Tagger(mine), clip)[0]])
    for prototypes in (None, other):
        with pytest.raises(ResultsError, match="prototypes"):
            batch([clip], out, prototypes=prototypes, **options)


def test_prototypes_beside_a_bundle_that_was_made_again(
    mine: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    shutil.copytree(mine, again)
    data = json.loads(prototypes_path(Bundle(mine)).read_text(encoding="utf-8")) | {"model_sha256": "1" * 64}
    prototypes_path(Bundle(again)).write_text(json.dumps(data), encoding="utf-8")
    clip = str(sounds / "tested" / "kettle" / "001.wav")
    assert main(["tag", clip, "--model", str(again)]) == 2
    err = capsys.readouterr().err
    assert "again.prototypes.json: prototypes of demo" in err
    assert "enroll the clips again with that bundle; --no-prototypes leaves the enrolled classes out" in err
    assert main(["tag", clip, "--model", str(again), "--no-prototypes"]) == 0


def test_what_cannot_be_enrolled(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kettle = sorted(map(str, (sounds / "enrolled" / "kettle").iterdir()))
    silent, empty, file = tmp_path / "silent.wav", tmp_path / "empty", tmp_path / "p.json"
    empty.mkdir()
    soundfile.write(silent, np.zeros(16000), 16000)
    copy = tmp_path / "copy.wav"
    shutil.copy(kettle[0], copy)

    def refused(*arguments: str) -> str:
        assert main(["enroll", *arguments, "--prototypes", str(file)]) == 2
        assert not file.exists()
        return capsys.readouterr().err

    assert "silent; expected a clip with the sound" in refused("k", str(silent))
    assert "no audio" in refused("k", str(empty))
    assert "no audio" in refused("k", kettle[0], "--background", str(empty))
    assert f"{kettle[0]} is a clip of 'k' and part of the background ({copy})" in refused(
        "k", *kettle, "--background", str(copy)
    )
    assert "has a class 'Siren'; expected another name" in refused("siren", *kettle)
    assert main(["enroll", "k", *kettle, str(copy), "--prototypes", str(file)]) == 0
    out, err = capsys.readouterr()
    assert f"skipped {copy}: " in err
    assert f"the same recording as {kettle[0]}" in err
    assert "the background is the package's demo clips" in err
    assert "'k' from 4 clips (1 skipped)" in out
    assert "of 4 clips, each left out" in out
    background = str(sounds / "enrolled" / "dripping tap")
    assert main(["enroll", "k", *kettle, "--background", background, "--prototypes", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["own_background"]
    assert found["background"] == 8  # four clips, padded and repeated
    assert found["heard"] == 4
    assert main(["enroll", "tap", f"{background}/000.wav", "--prototypes", str(file)]) == 2
    assert "(the background of an earlier run)" in capsys.readouterr().err


def test_other_clips_measure_precision_and_recall(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips of classes that are not enrolled count as negatives."""
    others = [str(sounds / "enrolled" / name) for name in household.SOUNDS if name != "kettle"]
    kettle, tested = str(sounds / "enrolled" / "kettle"), ["--test", str(sounds / "tested"), "--json"]
    found = {}
    for name, background in (("all", others), ("one", others[-1:])):
        options = ["--background", *background, "--prototypes", str(tmp_path / f"{name}.json")]
        assert main(["enroll", "kettle", kettle, *options, *tested]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    assert all((one["tested"], one["accuracy"]) == (16, 1.0) for one in found.values())
    assert found["all"]["recall"] == 1.0
    assert found["all"]["precision"] >= 0.75
    assert found["all"]["precision"] > found["one"]["precision"]  # a background of one kind of sound is not enough


def test_clips_shorter_and_longer_than_a_window(sounds: Path, tmp_path: Path) -> None:
    tagger, clip = Tagger(), sounds / "enrolled" / "kettle" / "000.wav"
    vectors, _ = clip_embeddings(tagger, clip)
    samples = load_audio(clip, sample_rate=32000).waveform
    assert (vectors[0] == tagger.tag(clip).embedding).all()  # padded, as in `tag`
    assert vectors[1] == pytest.approx(tagger.tag(np.resize(samples, 320000), sample_rate=32000).embedding, abs=1e-5)
    assert len(vectors) == 2
    long = tmp_path / "long.wav"
    soundfile.write(long, np.concatenate([np.resize(samples, 320000), np.zeros(640000), samples]), 32000)
    vectors, _ = clip_embeddings(tagger, long)
    heard = [window.embedding for window in windows(tagger, long) if window.level_dbfs > -70]
    assert len(vectors) == len(heard) == 2  # the pause between them is left out
    assert (vectors == np.stack(heard)).all()
