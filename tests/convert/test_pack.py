"""Packing AudioSet-style clips into PANNs' HDF5 layout, and reading files that PANNs packed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
from support import damaged

from panns_litert.cli import main
from panns_litert.errors import DatasetError, ResultsError
from panns_litert_convert.assets import audioset_labels
from panns_litert_convert.training.pack import MISSING, pack, read_classes, read_segments
from panns_litert_convert.training.waveforms import Waveforms, to_int16

# The first rows of AudioSet's balanced_train_segments.csv, as Google publishes it.
SEGMENTS = """\
# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_,/m/0bt9lr,/m/0jbk"
--BfvyPmVMo, 20.000, 30.000, "/m/03l9g"
--U7joUcTCo, 0.000, 10.000, "/m/01b_21"
-0xzrMun0Rs, 30.000, 40.000, "/m/01d380,/m/03qc9zr"
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments and four clips: one named as in PANNs, one stereo and without the Y prefix, one broken, one missing."""
    folder = tmp_path_factory.mktemp("audioset")
    (folder / "segments.csv").write_text(SEGMENTS, encoding="utf-8")
    (folder / "clips" / "part00").mkdir(parents=True)
    t = np.arange(16000 * 3) / 16000
    soundfile.write(folder / "clips" / "Y--4gqARaEJE.wav", 0.5 * np.sin(2 * np.pi * 440 * t), 16000)
    ramp = np.linspace(-1.0, 1.0, 3000)
    soundfile.write(folder / "clips" / "part00" / "--U7joUcTCo.flac", np.stack([ramp, ramp], axis=1), 32000)
    (folder / "clips" / "Y-0xzrMun0Rs.wav").write_bytes(b"no audio" * 50)
    return folder


@pytest.fixture(scope="module")
def packed(source: Path, printed: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What the command prints. It writes train.h5 into the folder of `source`."""
    arguments = ["--metadata", str(source / "segments.csv"), "--clips", str(source / "clips")]
    return printed("pack", *arguments, "--out", str(source / "train.h5"), "--seconds", "2")


def test_a_file_has_panns_layout(source: Path, packed: dict[str, Any]) -> None:
    """The file is read with h5py alone, as PANNs' data generator does."""
    labels = audioset_labels()
    with h5py.File(source / "train.h5") as file:
        assert [name.decode() for name in file["audio_name"]] == ["Y--4gqARaEJE.wav", "Y--U7joUcTCo.flac", ""]
        assert file["audio_name"].dtype == "S20"
        assert (file["waveform"].shape, file["waveform"].dtype) == ((3, 64000), np.int16)
        assert (file["target"].shape, file["target"].dtype) == ((3, 527), np.bool_)
        assert (file.attrs["sample_rate"], file.attrs["sample_rate"].dtype) == (32000, np.int32)
        tagged = [{labels[k] for k in np.flatnonzero(row)} for row in file["target"][:2]]
        first, second = (row / 32767.0 for row in file["waveform"][:2])
    assert tagged == [{"Animal", "Domestic animals, pets", "Dog", "Squeak"}, {"Cough"}]
    t = np.arange(64000) / 32000
    np.testing.assert_allclose(first[500:60000], 0.5 * np.sin(2 * np.pi * 440 * t)[500:60000], rtol=0, atol=1e-3)
    np.testing.assert_allclose(second[:3000], np.linspace(-1.0, 1.0, 3000), rtol=0, atol=1e-4)
    assert not second[3000:].any()


def test_what_is_missing_or_unreadable_is_counted_and_listed(packed: dict[str, Any]) -> None:
    assert (packed["clips"], packed["missing"], packed["unusable"]) == (2, 1, 1)
    reasons = {Path(one["file"]).name: one["reason"] for one in packed["skipped"]}
    assert reasons.pop("Y--BfvyPmVMo") == MISSING
    assert "not readable" in reasons.pop("Y-0xzrMun0Rs.wav")
    assert not reasons


def test_what_was_written_is_read(source: Path, packed: dict[str, Any]) -> None:
    both = Waveforms([source / "train.h5", source / "train.h5"])
    assert (len(both), both.samples, both.sample_rate, both.absent) == (4, 64000, 32000, 2)
    assert both.labels == tuple(audioset_labels())
    assert both.names[2:] == ("Y--4gqARaEJE.wav", "Y--U7joUcTCo.flac")
    np.testing.assert_array_equal(both[1], both[3])
    assert both[1].dtype == np.float32
    assert both[1][2999] == pytest.approx(1.0, abs=1e-4)
    assert both.truth.sum() == 2 * (4 + 1)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_file_of_panns_is_read(tmp_path: Path, kind: type) -> None:
    """The file is like those of PANNs' packer, where a clip without a file is an empty row."""
    path = tmp_path / "balanced_train.h5"
    samples = np.array([0.25, -1.0, 1.0, 0.0], np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("audio_name", shape=(3,), dtype="S20")
        file.create_dataset("waveform", shape=(3, 4), dtype=kind)
        file.create_dataset("target", shape=(3, 527), dtype=bool)
        file.attrs.create("sample_rate", data=32000, dtype=np.int32)
        for row in (0, 2):
            file["audio_name"][row] = f"Yclip{row}.wav".encode()
            file["waveform"][row] = (samples * 32767.0).astype(kind) if kind is np.int16 else samples
            file["target"][row] = np.arange(527) == 10 * row
    found = Waveforms([path])
    assert found.names == ("Yclip0.wav", "Yclip2.wav")
    assert found.absent == 1
    assert found.labels == tuple(audioset_labels())
    assert found.truth.argmax(axis=1).tolist() == [0, 20]
    np.testing.assert_allclose(found[1], samples, rtol=0, atol=1 / 32767)


def test_samples_are_rounded_to_int16() -> None:
    samples = np.linspace(-1.0, 1.0, 1001, dtype=np.float32)
    np.testing.assert_allclose(to_int16(samples) / 32767.0, samples, rtol=0, atol=0.501 / 32767)
    assert to_int16(np.array([-7.0, 7.0], np.float32)).tolist() == [-32767, 32767]


def test_audiosets_own_classes_and_segments(source: Path) -> None:
    assert list(read_classes().values()) == audioset_labels()
    assert len(read_segments(source / "segments.csv")) == 4


# --- errors ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no row; expected AudioSet's segments"),
        ("# only a comment\n", "no row"),
        ("abc, 0, 10\n", "line 1: .* expected YTID, start_seconds, end_seconds"),
        ("abc, zero, 10, /m/0bt9lr\n", "line 1"),
        ('abc, 0, 10, "/m/0bt9lr"\nabc, 0, 10, "/m/0bt9lr"\n', "line 2: abc again; expected every clip once"),
        ("abc, 0, 10, /m/unheard\n", "no class /m/unheard; expected mids of class_labels_indices.csv"),
        ('abc, 0, 10, "/m/0bt9lr"\n', "none of 1 clip can be used; Yabc: no such clip"),
    ],
)
def test_bad_metadata_is_one_clear_error(source: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "segments.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        pack(tmp_path / "segments.csv", source / "clips", out=tmp_path / "x.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["segments.csv"]


def test_other_bad_arguments(source: Path, tmp_path: Path) -> None:
    segments, clips = source / "segments.csv", source / "clips"
    with pytest.raises(DatasetError, match="no such folder"):
        pack(segments, tmp_path / "nowhere", out=tmp_path / "x.h5")
    with pytest.raises(DatasetError, match="no audio file in this folder"):
        pack(segments, tmp_path, out=tmp_path / "x.h5")
    with pytest.raises(DatasetError, match=r"0 s at 32000 Hz; expected 1 … 60 s"):
        pack(segments, clips, out=tmp_path / "x.h5", seconds=0)
    with pytest.raises(ResultsError, match="No such file"):
        pack(segments, clips, out=tmp_path / "nowhere" / "x.h5")
    for text in ("mid,name\n/m/1,a\n", "index,mid,display_name\n0,/m/1,a\n2,/m/2,b\n", "index,mid,display_name\n"):
        (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=r"classes.csv: .*expected"):
            pack(segments, clips, out=tmp_path / "x.h5", classes=tmp_path / "classes.csv")


def test_a_full_disk_leaves_the_old_file(
    source: Path, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "train.h5"
    path.write_bytes(b"old")
    with full_disk(100_000), pytest.raises(ResultsError, match=r"no room for 0\.\d MB \(File too large\)"):
        pack(source / "segments.csv", source / "clips", out=path, seconds=4)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.h5"]


def _damage(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        if name == "layout":
            del file["target"]
        elif name == "index":
            del file["waveform"]
            file["index_in_hdf5"] = np.arange(2)
        elif name == "shape":
            del file["waveform"]
            file["waveform"] = np.zeros((4, 10), np.int16)
        elif name == "rate":
            del file.attrs["sample_rate"]
        elif name == "empty":
            file["audio_name"][:] = b""
        elif name == "classes":
            file.attrs["labels"] = json.dumps(["a", "b"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layout", "no dataset target; expected PANNs' layout; pack the clips again"),
        ("index", "no dataset waveform; .* it lists clips of other files: give those"),
        ("shape", r"waveform \(4, 10\) int16, .*expected \(N,\), \(N, samples\) int16 and"),
        ("rate", "no attribute sample_rate"),
        ("empty", "no clip; expected at least one"),
        ("classes", "527 classes, but 2 names of classes"),
    ],
)
def test_a_bad_file_is_one_clear_error(
    source: Path, packed: dict[str, Any], tmp_path: Path, name: str, message: str
) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes((source / "train.h5").read_bytes())
    _damage(path, name)
    with pytest.raises(DatasetError, match=message):
        Waveforms([path])


def test_missing_damaged_and_incompatible_files(source: Path, packed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected at least one \.h5"):
        Waveforms([])
    with pytest.raises(DatasetError, match="no such file"):
        Waveforms([tmp_path / "x.h5"])
    with pytest.raises(DatasetError, match="not HDF5, or damaged"):
        Waveforms([source / "segments.csv"])
    whole = (source / "train.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="not HDF5, or damaged"):
        Waveforms([tmp_path / "cut.h5"])
    pack(source / "segments.csv", source / "clips", out=tmp_path / "short.h5", seconds=1, sample_rate=16000)
    with pytest.raises(DatasetError, match=r"does not go with .*sample_rate 16000 instead of 32000; samples 16000"):
        Waveforms([source / "train.h5", tmp_path / "short.h5"])


def test_an_unwritable_file_is_one_line_of_the_command(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--metadata", str(source / "segments.csv"), "--clips", str(source / "clips")]
    assert main(["pack", *arguments, "--out", str(tmp_path / "nowhere" / "x.h5")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("panns-litert: ")


# --- files from elsewhere ---


def write_h5(path: Path, **changes: Any) -> Path:
    """Writes three clips of two classes, 100 samples each. `changes` replace the arguments of datasets, or attributes.

    A dataset that is None is left out.
    """
    arguments: dict[str, Any] = {
        "audio_name": {"data": np.array([b"Ya.wav", b"Yb.wav", b"Yc.wav"])},
        "waveform": {"data": np.arange(300, dtype=np.int16).reshape(3, 100)},
        "target": {"data": np.array([[1, 0], [0, 1], [1, 1]], np.bool_)},
    }
    attributes = {"sample_rate": 32000, "labels": json.dumps(["Dog", "Cat"])}
    with h5py.File(path, "w") as file:
        for name, given in (arguments | {k: v for k, v in changes.items() if k in arguments}).items():
            if isinstance(given, (h5py.SoftLink, h5py.ExternalLink)):
                file[name] = given
            elif isinstance(given, h5py.VirtualLayout):
                file.create_virtual_dataset(name, given)
            elif given is not None:
                file.create_dataset(name, **given)
        for name, value in (attributes | {k: v for k, v in changes.items() if k in attributes}).items():
            file.attrs[name] = value
    return path


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "rate: text": ({"sample_rate": "32000"}, "sample_rate '32000'; expected 1000 … 192000 Hz"),
    "rate: two": ({"sample_rate": [32000, 32000]}, "sample_rate"),
    "rate: NaN": ({"sample_rate": np.nan}, "sample_rate"),
    "rate: inf": ({"sample_rate": np.inf}, "sample_rate"),
    "rate: 1e308": ({"sample_rate": 1e308}, "sample_rate"),
    "rate: 0": ({"sample_rate": 0}, "sample_rate"),
    "rate: -1": ({"sample_rate": -1}, "sample_rate"),
    "rate: 2^64 - 1": ({"sample_rate": np.uint64(2**64 - 1)}, "sample_rate"),
    "rate: half a hertz": ({"sample_rate": 32000.5}, "sample_rate"),
    "rate: complex": ({"sample_rate": 32000 + 0j}, "sample_rate"),
    "labels: no JSON": ({"labels": "Dog, Cat"}, "its labels: not JSON"),
    "labels: object": ({"labels": '{"Dog": 1}'}, "at least two class names"),
    "labels: numbers": ({"labels": "[1, 2]"}, "line 1: 1 is no text"),
    "labels: a number": ({"labels": 7}, "expected a JSON array"),
    "labels: digits": ({"labels": "[" + "1" * 5000 + "]"}, "5000 digits"),
    "labels: depth": ({"labels": "[" * 10_000}, "deep"),
    "labels: no UTF-8": ({"labels": np.bytes_(b'["D\xf6g", "Cat"]')}, "not UTF-8|surrogate"),
    "labels: one": ({"labels": '["Dog"]'}, "at least two class names"),
    "labels: three": ({"labels": '["Dog", "Cat", "Bird"]'}, "2 classes, but 3 names"),
    "labels: twice": ({"labels": '["Dog", "Dog"]'}, "Dog"),
    "labels: a line break": ({"labels": '["Dog", "Ca\\nt"]'}, "Ca"),
    "names: numbers": ({"audio_name": {"data": np.arange(3)}}, "expected .N,."),
    "names: a table": ({"audio_name": {"data": np.full((3, 2), b"a")}}, "expected .N,."),
    "names: a scalar": ({"audio_name": {"data": b"Ya.wav"}}, "expected .N,."),
    "names: nothing": ({"audio_name": {"dtype": "S20"}}, "expected .N,."),
    "names: too few": ({"audio_name": {"data": np.array([b"Ya.wav"])}}, "expected .N,."),
    "waveform: float64": ({"waveform": {"data": np.zeros((3, 100))}}, "expected .N,."),
    "waveform: one row": ({"waveform": {"data": np.zeros(3, np.int16)}}, "expected .N,."),
    "waveform: three axes": ({"waveform": {"data": np.zeros((3, 10, 10), np.int16)}}, "expected .N,."),
    "waveform: no samples": ({"waveform": {"data": np.zeros((3, 0), np.int16)}}, "expected .N,."),
    "waveform: text": ({"waveform": {"data": np.full((3, 100), b"a")}}, "expected .N,."),
    "target: text": ({"target": {"data": np.full((3, 2), b"a")}}, "expected .N,."),
    "target: 0.5": ({"target": {"data": np.full((3, 2), 0.5)}}, "values besides 0 and 1"),
    "target: NaN": ({"target": {"data": np.full((3, 2), np.nan)}}, "values besides 0 and 1"),
    "target: no classes": ({"target": {"data": np.zeros((3, 0), np.bool_)}}, "expected .N,."),
    "rows that never were": (
        {
            "audio_name": {"shape": (10**9,), "dtype": "S20", "chunks": (1000,)},
            "waveform": {"shape": (10**9, 100), "dtype": np.int16, "chunks": (10, 100)},
            "target": {"shape": (10**9, 2), "dtype": np.bool_, "chunks": (1000, 2)},
        },
        "1000000000 rows of 2 classes in a file of",
    ),
    "a soft link": ({"waveform": h5py.SoftLink("/target")}, "no dataset waveform"),
    "a link to nothing": ({"waveform": h5py.SoftLink("/nothing")}, "no dataset waveform"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_with_wrong_attributes_or_shapes_is_one_error(tmp_path: Path, name: str) -> None:
    changes, message = DAMAGED[name]
    path = write_h5(tmp_path / "bad.h5", **changes)
    with pytest.raises(DatasetError, match=message) as caught:
        Waveforms([path])
    assert str(path) in str(caught.value)
    assert len(str(caught.value).removeprefix(str(path)).splitlines()) == 1


def test_the_undamaged_file_is_read(tmp_path: Path) -> None:
    found = Waveforms([write_h5(tmp_path / "good.h5", sample_rate=np.float64(32000.0))])
    assert (found.sample_rate, found.labels, found.truth.tolist()) == (32000, ("Dog", "Cat"), [[1, 0], [0, 1], [1, 1]])
    assert found[2][0] == pytest.approx(200 / 32767)


def test_data_of_other_files_is_never_read_as_samples(tmp_path: Path) -> None:
    """HDF5's external storage, external links and virtual datasets would read any file of the user as audio."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(200)) * 3)
    other = write_h5(tmp_path / "other.h5")
    layout = h5py.VirtualLayout((3, 100), np.int16)
    layout[:] = h5py.VirtualSource(other, "waveform", (3, 100))
    for change in (
        {"shape": (3, 100), "dtype": np.int16, "external": [(str(secret), 0, h5py.h5f.UNLIMITED)]},
        h5py.ExternalLink(str(other), "waveform"),
        layout,
    ):
        path = write_h5(tmp_path / "bad.h5", waveform=change)
        with pytest.raises(DatasetError, match=r"no dataset waveform of its own|waveform refers to other files"):
            Waveforms([path])
        # A file that is exchanged during the training is refused as well.
        path.unlink()
        opened = Waveforms([write_h5(path)])
        path.unlink()
        write_h5(path, waveform=change)
        with pytest.raises(DatasetError, match=r"row 1: .*pack"):
            opened[1]
        path.unlink()


def test_samples_that_are_no_sound_are_refused(tmp_path: Path) -> None:
    for row, bad in enumerate((np.nan, np.inf, 1e30, 32767.0)):
        waveform = np.zeros((4, 100), np.float32)
        waveform[row, 50] = bad
        names, target = np.array([b"a", b"b", b"c", b"d"]), np.eye(4, 2, dtype=np.bool_)
        path = write_h5(
            tmp_path / f"{row}.h5", waveform={"data": waveform}, audio_name={"data": names}, target={"data": target}
        )
        opened = Waveforms([path])
        with pytest.raises(DatasetError, match=rf"row {row}: .*expected samples within \[-1, 1\]"):
            opened[row]
        assert not opened[(row + 1) % 4].any()


def test_a_row_of_another_length_is_refused(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5")
    opened = Waveforms([path])
    path.unlink()
    write_h5(path, waveform={"data": np.zeros((3, 1), np.int16)})
    with pytest.raises(DatasetError, match=r"row 0: \(1,\) int16; expected \(100,\); pack it again"):
        opened[0]


def test_damaged_files_are_one_error_or_a_valid_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(16)
    good = write_h5(tmp_path / "good.h5").read_bytes()
    path, whole = tmp_path / "case.h5", 0
    for _ in range(150):
        path.write_bytes(damaged(good, rng))
        try:
            found = Waveforms([path])
            assert all(np.abs(found[k]).max() <= 2.5 for k in range(len(found)))
            whole += 1
        except DatasetError as error:
            assert str(path) in str(error)
    assert 0 < whole < 150


@pytest.mark.parametrize("reader", [read_classes, read_segments, lambda path: Waveforms([path])])
def test_pipes_and_devices_are_refused(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(DatasetError, match=r"not a regular file|Is a directory"):
            reader(path)
    with pytest.raises(DatasetError):
        reader(Path("a\0b"))


CLASSES = "index,mid,display_name\n0,/m/1,Hund\n1,/m/2,Käse\n"


def test_byte_order_marks_are_dropped_and_other_encodings_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(CLASSES, encoding="utf-8-sig")
    assert read_classes(path) == {"/m/1": "Hund", "/m/2": "Käse"}
    path.write_text(SEGMENTS, encoding="utf-8-sig")
    assert len(read_segments(path)) == 4
    for reader, text in ((read_classes, CLASSES), (read_segments, SEGMENTS + "# Käse\n")):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(DatasetError, match=r"list\.csv: not UTF-8 at byte \d+; expected .*UTF-8"):
            reader(path)


@pytest.mark.parametrize(
    "text",
    [
        CLASSES + "2,/m/3,Hund\n",
        CLASSES + '2,/m/3,"Hund\nKatze"\n',
        CLASSES + "2,/m/3,Hund\tKatze\n",
        CLASSES + "2,/m/3,\n",
        CLASSES + "2,/m/3,\u202eHund\n",
        CLASSES + "1" * 5000 + ",/m/3,Vogel\n",
        CLASSES + "2\n",
        CLASSES + '2,/m/3,"' + "x" * 200_000 + '"\n',
    ],
    ids=["twice", "line break", "tab", "empty", "backwards", "digits", "columns", "long"],
)
def test_a_bad_list_of_classes_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"classes\.csv") as caught:
        read_classes(tmp_path / "classes.csv")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e308, float("nan"), float("inf")])
def test_absurd_lengths_are_refused(source: Path, tmp_path: Path, seconds: float) -> None:
    with pytest.raises(DatasetError, match="expected 1 … 60 s, 1000 … 192000 Hz"):
        pack(source / "segments.csv", source / "clips", out=tmp_path / "x.h5", seconds=seconds)
    with pytest.raises(DatasetError, match="expected 1 … 60 s, 1000 … 192000 Hz"):
        pack(source / "segments.csv", source / "clips", out=tmp_path / "x.h5", sample_rate=10**30)
