"""Prototypes: new classes from a few clips, without training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_litert.atomic import writing
from panns_litert.bundle import Bundle
from panns_litert.cli import main
from panns_litert.demo import demo_bundle
from panns_litert.errors import PannsLitertError, PrototypeError
from panns_litert.search import Prototypes, prototypes_path
from panns_litert.tagger import Tagger
from panns_litert_convert.demo import household

DIM = 8


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    household.write(folder / "enrolled", clips=4, seed=0)
    household.write(folder / "tested", clips=4, seed=1)
    return folder


def none_yet(dim: int = DIM) -> Prototypes:
    return Prototypes(model="m", model_sha256="0" * 64, dim=dim, classes=())


def around(direction: int, count: int, *, spread: float = 0.1, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    noise = np.random.default_rng([seed, direction]).standard_normal((count, DIM))
    return np.asarray(np.eye(DIM)[direction] + spread * noise)


def test_the_mean_direction_is_the_prototype() -> None:
    found = none_yet().enroll("a", np.array([[3.0, 0, 0, 0, 0, 0, 0, 0], [0, 5.0, 0, 0, 0, 0, 0, 0]]))
    assert found.classes[0].mean[:3] == pytest.approx(
        [2**-0.5, 2**-0.5, 0.0]
    )  # of unit vectors: loudness does not count
    assert found.classes[0].count == 2
    assert found.classes[0].threshold == pytest.approx(0.0)
    assert found.scores(np.eye(DIM)[0]) == pytest.approx([2**-0.5])


def test_the_nearest_class_within_its_threshold() -> None:
    known = none_yet().enroll("a", around(0, 5)).enroll("b", around(1, 5)).enroll("alone", around(2, 1))
    for k, name in enumerate(known.labels):
        found = known.nearest(around(k, 1, spread=0.01)[0])
        assert found is not None
        assert found[0].name == name
    assert known.nearest(np.eye(DIM)[5]) is None


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
    again = Prototypes._parsed(
        {
            "format_version": 1,
            "model": "m",
            "model_sha256": "0" * 64,
            "dim": DIM,
            "classes": [
                {"name": one.name, "count": one.count, "threshold": one.threshold, "mean": one.mean.tolist()}
                for one in known.classes
            ],
        }
    )
    probe = rng.standard_normal(DIM)
    assert (again.scores(probe) == known.scores(probe)).all()
    assert (np.abs(known.scores(probe)) <= 1.0).all()
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
        lambda d: d.update(format_version=2),
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
    monkeypatch.setattr("panns_litert.cli.evaluate.WAIT_SECONDS", 0.1)
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


def test_prototypes_of_another_model_are_refused(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"
    none_yet(96).enroll("a", np.ones((1, 96))).write(path)
    assert main(["enroll", "k", str(sounds / "enrolled" / "kettle"), "--prototypes", str(path)]) == 2
    assert "enroll the clips again" in capsys.readouterr().err
    assert Prototypes.read(path).labels == ("a",)


def test_nothing_is_written_into_the_package(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enroll", "k", str(sounds / "enrolled" / "kettle")]) == 2
    assert "belongs to the package" in capsys.readouterr().err
    assert prototypes_path(Bundle(demo_bundle())).name == "demo_bundle.prototypes.json"
    assert not prototypes_path(Bundle(demo_bundle())).exists()
