"""Labelled clips: what a folder or a CSV may hold, and what is refused or skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from panns_litert.demo import demo_clips
from panns_litert.errors import DatasetError
from panns_litert.evaluate import read_dataset, score, split, write_csv


def clips(folder: Path, *names: str | bytes) -> None:
    for name, clip in zip(names, demo_clips(), strict=False):
        shutil.copyfile(clip, os.fsencode(folder) + b"/" + os.fsencode(name))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_csv_with_names_that_are_no_utf8(mark: bytes, tmp_path: Path) -> None:
    """Names of files are bytes: they are heard, and written as they are. A byte order mark is ignored."""
    clips(tmp_path, "a.wav", b"caf\xe9.wav")
    (tmp_path / "d.csv").write_bytes(mark + "file,labels\na.wav,Ä\n".encode() + b"caf\xe9.wav,b\n")
    found = read_dataset(tmp_path / "d.csv")
    assert (found.classes, found.skipped, len(found.clips)) == (("b", "Ä"), (), 2)
    (tmp_path / "e.csv").write_bytes(write_csv(found, tmp_path))
    assert read_dataset(tmp_path / "e.csv").clips == found.clips


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,labels\na.wav,caf\xe9\n", "expected a name of one line in UTF-8"),
        (b"file,labels\na.wav,a\x1b[31m\n", "expected a name of one line"),
        (b'file,labels\na.wav,"a\nb"\n', "expected a name of one line"),
        ("file,labels\na.wav,a\u2028b\n".encode(), "expected a name of one line"),
        (b"file,labels,file\na.wav,a,b.wav\n", "expected each name once"),
        ("file,labels\na.wav,a\n".encode("utf-16"), "in UTF-8"),
        (b"file,labels\na.wav\n", "line 2: no file or no labels"),
        (b"file,labels\na.wav,a\0\n", "expected"),
        (b"file,labels\n" + b"a" * 200000 + b",a\n", "field larger than field limit"),
        (b"", "columns none"),
    ],
)
def test_a_csv_that_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    clips(tmp_path, "a.wav", "b.wav")
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message) as raised:
        read_dataset(tmp_path / "d.csv")
    assert "\n" not in str(raised.value)


def test_classes_and_a_seed_of_another_type(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    clips(tmp_path / "a", "1.wav")
    shutil.copyfile(demo_clips()[1], tmp_path / "b" / "1.wav")
    for classes in ("ab", [1], 5):
        with pytest.raises(DatasetError, match="a list of class names"):
            read_dataset(tmp_path, classes=classes)  # type: ignore[arg-type]
    for seed in (-1, 1.5, None, True):
        with pytest.raises(DatasetError, match="seed = "):
            split(read_dataset(tmp_path), seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), RuntimeError("x")], ids=repr)
def test_no_exception_of_a_clip_ends_an_evaluation(error: Exception, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    clips(tmp_path / "a", "1.wav", "2.wav")
    found = read_dataset(tmp_path)

    def scorer(clip: object) -> np.ndarray:  # type: ignore[type-arg]
        if clip == found.clips[0]:
            raise error
        return np.ones(1, np.float32)

    scores, rest = score(found, scorer)
    assert (scores.shape, len(rest.clips)) == ((1, 1), 1)
    assert f"1.wav: {type(error).__name__}" in rest.skipped[0].reason
