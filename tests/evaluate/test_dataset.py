"""Labelled clips: what a folder or a CSV may hold, and what is refused or skipped."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from panns_litert.audio import AudioWarning, load_audio
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError, DatasetError
from panns_litert.evaluate import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Annotation,
    Cutting,
    Dataset,
    LabelledClip,
    advice,
    bundle_scorer,
    cut,
    read_dataset,
    score,
    split,
    write_csv,
)
from panns_litert.tagger import Tagger


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
        ("file,labels\na.wav,a\u202eb\n".encode(), "without characters that a page does not show"),
        (b"file,labels\na.wav,dog, cat\n", "line 2: ' cat' has no column"),
        (b"file;labels\na.wav;dog;cat\n", "line 2: 'cat' has no column"),
        (b"fname,labels\na.wav,Bark,Dog\n", "line 2: 'Dog' has no column"),
        (b"file,labels,file\na.wav,a,b.wav\n", "expected each name once"),
        ("file,labels\na.wav,a\n".encode("utf-16"), "in UTF-8"),
        (b"file,labels\na.wav\n", "line 2: no file or no labels"),
        (b"file,labels\na.wav,a\0\n", "expected"),
        (b"file,labels\n" + b"a" * 200000 + b",a\n", "field larger than field limit"),
        (b"", "columns none"),
        (b"file,filename,label\na.wav,a.wav,dog\n", "columns file, filename, label; expected file, labels"),
        (b"file,labels,fname,mids\na.wav,dog,1,/m/1\n", "fit a CSV of this project and FSD50K's CSV"),
        (b"# something else\na.wav,dog\n", "begins with '# something else'"),
        (b"# YTID, start_seconds, end_seconds, positive_labels\n--4gqARaEJE, 0, 10\n", "line 2: .*expected YTID"),
        (b"file,labels,start,end\na.wav,dog,2,1\n", "line 2: from 2 to 1 s; expected an end behind the start"),
        (b"file,labels,start,end\na.wav,dog,x,1\n", "line 2: 'x'; expected a time in seconds"),
        (b"filename,onset,offset\na.wav,1,2\n", "columns filename, offset, onset; expected"),
        (b"filename,onset,offset,event_label\na.wav,2,1,dog\n", "line 2: from '2' to '1'; expected two times"),
        (b"filename,onset,offset,event_label\na.wav,1,2,\n", "line 2: an event without a label"),
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


# --- layouts of folders and tables ---


def tone(path: Path, hz: float, *, seconds: float = 1.0, rate: int = 16000) -> Path:
    """Writes a tone, so that every file has bytes of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), rate)
    return path


def tree(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        tone(folder / name, 200.0 + 10 * i)


def listed(found: Dataset, folder: Path) -> list[tuple[str, str, str | None]]:
    return [(clip.path.relative_to(folder).as_posix(), ";".join(clip.labels), clip.fold) for clip in found.clips]


@pytest.mark.parametrize(
    ("files", "expected", "layout"),
    [
        (
            ("dog/park/1.wav", "dog/2.wav", "cat/a/b/3.wav"),
            [("cat/a/b/3.wav", "cat", None), ("dog/2.wav", "dog", None), ("dog/park/1.wav", "dog", None)],
            "a folder for each class, 3 clips, 2 classes",
        ),
        (
            ("train/dog/1.wav", "train/cat/2.wav", "Test/dog/x/3.wav"),
            [
                ("Test/dog/x/3.wav", "dog", "Test"),
                ("train/cat/2.wav", "cat", "train"),
                ("train/dog/1.wav", "dog", "train"),
            ],
            "the splits Test, train of class folders, 3 clips, 2 classes, folds Test, train",
        ),
        (
            ("fold1/dog/1.wav", "fold2/dog/2.wav", "fold10/cat/3.wav"),
            [
                ("fold1/dog/1.wav", "dog", "fold1"),
                ("fold10/cat/3.wav", "cat", "fold10"),
                ("fold2/dog/2.wav", "dog", "fold2"),
            ],
            "the splits fold1, fold10, fold2 of class folders, 3 clips, 2 classes, folds fold1, fold10, fold2",
        ),
        (  # one split alone is no fold
            ("train/dog/1.wav", "train/cat/2.wav"),
            [("train/cat/2.wav", "cat", None), ("train/dog/1.wav", "dog", None)],
            "the split train of class folders, 2 clips, 2 classes",
        ),
        (  # sounds of trains: audio files lie in the folder itself
            ("train/1.wav", "bus/2.wav"),
            [("bus/2.wav", "bus", None), ("train/1.wav", "train", None)],
            "a folder for each class, 2 clips, 2 classes",
        ),
    ],
)  # fmt: skip
def test_folders(files: tuple[str, ...], expected: list[object], layout: str, tmp_path: Path) -> None:
    tree(tmp_path, *files)
    found = read_dataset(tmp_path)
    assert (listed(found, tmp_path), found.layout) == (expected, layout)


@pytest.mark.parametrize(
    ("files", "tables", "message"),
    [
        (("train/dog/1.wav", "cat/2.wav"), (), "train holds folders, as a split does, and cat is beside it"),
        (("audio/1.wav", "audio/2.wav"), ("meta/esc50.csv",), "esc50.csv.*; expected the table instead of the folder"),
    ],
)
def test_folders_that_are_refused(
    files: tuple[str, ...], tables: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    tree(tmp_path, *files)
    for table in tables:
        (tmp_path / table).parent.mkdir()
        (tmp_path / table).write_text("filename,fold\n")
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


ESC50 = "filename,fold,target,category,esc10,src_file,take"
URBAN = "slice_file_name,fsID,start,end,salience,fold,classID,class"
FSD = "fname,labels,mids,split"
SEGMENTS = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=3, num_segs=3\n"
    "# YTID, start_seconds, end_seconds, positive_labels"
)


@pytest.mark.parametrize(
    ("table", "content", "files", "expected", "layout"),
    [
        (
            "meta/esc50.csv",
            f"{ESC50}\n1-100032-A-0.wav,1,0,dog,True,100032,A\n2-5-A-1.wav,2,1,rooster,True,5,A\n",
            ("audio/1-100032-A-0.wav", "audio/2-5-A-1.wav"),
            [("audio/1-100032-A-0.wav", "dog", "1"), ("audio/2-5-A-1.wav", "rooster", "2")],
            "ESC-50's CSV, 2 clips, 2 classes, folds 1, 2",
        ),
        (  # start and end are times in the recording that a slice was cut from
            "metadata/UrbanSound8K.csv",
            f"{URBAN}\n1-3-0-0.wav,1,58.5,62.5,1,5,3,dog_bark\n2-2-0-117.wav,2,60,64,1,10,2,children_playing\n",
            ("audio/fold5/1-3-0-0.wav", "audio/fold10/2-2-0-117.wav"),
            [("audio/fold5/1-3-0-0.wav", "dog_bark", "5"), ("audio/fold10/2-2-0-117.wav", "children_playing", "10")],
            "UrbanSound8K's CSV, 2 clips, 2 classes, folds 5, 10",
        ),
        (
            "FSD50K.ground_truth/dev.csv",
            f'{FSD}\n64760,"Electric_guitar,Guitar","/m/02sgy,/m/0342h",train\n16399,Bark,/m/05tny_,val\n',
            ("FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav", "FSD50K.eval_audio/64760.wav"),
            [
                ("FSD50K.dev_audio/64760.wav", "Electric_guitar;Guitar", "train"),
                ("FSD50K.dev_audio/16399.wav", "Bark", "val"),
            ],
            "FSD50K's CSV, 2 clips, 3 classes, folds train, val",
        ),
        (
            "FSD50K.ground_truth/eval.csv",
            'fname,labels,mids\n37199,"Bark,Dog","/m/05tny_,/m/0bt9lr"\n',
            ("FSD50K.eval_audio/37199.wav",),
            [("FSD50K.eval_audio/37199.wav", "Bark;Dog", None)],
            "FSD50K's CSV, 1 clip, 2 classes",
        ),
        (
            "segments.csv",
            f'{SEGMENTS}\n--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/0bt9lr"\nYabcdefghij, 30.000, 40.000, "/m/05zppz"\n'
            '--BfvyPmVMo, 20.000, 30.000, "/m/03l9g"\n',
            ("balanced/Y--4gqARaEJE.wav", "balanced/Yabcdefghij_30_40.wav"),
            [
                ("balanced/Y--4gqARaEJE.wav", "Domestic animals, pets;Dog", None),
                ("balanced/Yabcdefghij_30_40.wav", "Male speech, man speaking", None),
            ],
            "AudioSet's segments, 2 of 3 clips found",
        ),
        (
            "train.csv",
            "fname,label,manually_verified\n00044347.wav,Hi-hat,0\n001ca53d.wav,Saxophone,1\n",
            ("audio_train/00044347.wav", "audio_train/001ca53d.wav"),
            [("audio_train/00044347.wav", "Hi-hat", None), ("audio_train/001ca53d.wav", "Saxophone", None)],
            "a CSV of fname and label, 2 clips, 2 classes",
        ),
        (
            "train_curated.csv",
            'fname,labels\n0006ae4e.wav,"Bark,Run"\n',
            ("train_curated/0006ae4e.wav",),
            [("train_curated/0006ae4e.wav", "Bark;Run", None)],
            "a CSV of fname and labels, 1 clip, 2 classes",
        ),
        (
            "t.csv",
            'path;label;split\na/1.wav;"Male speech, man speaking";train\na/2.wav;b;test\n',
            ("a/1.wav", "a/2.wav"),
            [("a/1.wav", "Male speech, man speaking", "train"), ("a/2.wav", "b", "test")],
            "a CSV of path and label, 2 clips, 2 classes, folds test, train",
        ),
        (
            "t.tsv",
            "audio\tclass\n1.wav\tdog\n",
            ("1.wav",),
            [("1.wav", "dog", None)],
            "a CSV of audio and class, 1 clip, 1 class",
        ),
        (  # pandas writes a column without a name
            "t.csv",
            ",Filename,Label\n0,1.wav,dog\n",
            ("1.wav",),
            [("1.wav", "dog", None)],
            "a CSV of filename and label, 1 clip, 1 class",
        ),
    ],
)  # fmt: skip
def test_tables(
    table: str, content: str, files: tuple[str, ...], expected: list[object], layout: str, tmp_path: Path
) -> None:
    """Published layouts, with their header lines, are recognised by their columns."""
    tree(tmp_path, *files)
    (tmp_path / table).parent.mkdir(exist_ok=True)
    (tmp_path / table).write_text("\ufeff" + content, encoding="utf-8")
    found = read_dataset(tmp_path / table)
    assert (listed(found, tmp_path), found.layout, found.notes) == (expected, layout, ())
    # What is written is read again as the same clips, whatever table they came from.
    (tmp_path / "again.csv").write_bytes(write_csv(found, tmp_path))
    again = read_dataset(tmp_path / "again.csv")
    assert [replace(clip, path=clip.path.resolve()) for clip in again.clips] == [
        replace(clip, path=clip.path.resolve()) for clip in found.clips
    ]


def test_times_that_are_not_read_are_said(tmp_path: Path) -> None:
    """Two parts of a file must not become one clip with the labels of both."""
    tree(tmp_path, "1.wav", "2.wav", "abcdefghijk.wav")
    table = tmp_path / "t.csv"
    table.write_text("filename,start_time,end_time,label\n1.wav,0,1,dog\n2.wav,0,1,cat\n")
    [note] = read_dataset(table).notes
    assert "not read in" in note
    assert "start_time, end_time; each row is the whole file" in note
    table.write_text("filename,start,end,label\n1.wav,0,1,dog\n1.wav,1,2,cat\n")
    with pytest.raises(DatasetError, match=r"line 3: another part of '1\.wav', by columns start, end; expected file"):
        read_dataset(table)
    head = "# YTID, start_seconds, end_seconds, positive_labels\n"
    rows = [f'abcdefghijk, {start}.000, {start + 10}.000, "/m/0bt9lr"\n' for start in (30, 30, 60)]
    table.write_text(head + "".join(rows[:2]))
    assert len(read_dataset(table).clips) == 1
    table.write_text(head + "".join(rows))
    with pytest.raises(DatasetError, match="line 4: another part of the video 'abcdefghijk'"):
        read_dataset(table)


def test_a_part_of_which_the_file_has_less_than_half_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 300, seconds=3)
    (tmp_path / "t.csv").write_text("file,labels,start,end\na.wav,dog,0,5\na.wav,cat,2,9\na.wav,cat,50,60\n")
    half, less, none = read_dataset(tmp_path / "t.csv").clips
    for seconds, samples in ((None, 48000), (1.0, 16000)):
        with pytest.warns(AudioWarning, match=r"a\.wav \(0 … 5 s\): the file ends at 3 s"):
            assert len(half.read(sample_rate=16000, max_seconds=seconds).waveform) == samples
    for seconds in (None, 1.0):
        with pytest.raises(AudioError, match=r"ends at 3 s; expected at least half of the part from 2 to 9 s"):
            less.read(sample_rate=16000, max_seconds=seconds)
    with pytest.raises(AudioError, match="no samples from 50 s on"):
        none.read(sample_rate=16000)


def test_folds_within_classes_are_said(tmp_path: Path) -> None:
    tree(tmp_path, "dog/fold1/1.wav", "dog/park/2.wav", "cat/3.wav")
    [note] = read_dataset(tmp_path).notes
    assert "1.wav is in a folder that is named as a fold, within a class" in note
    (tmp_path / "dog" / "fold1").rename(tmp_path / "dog" / "garden")
    assert read_dataset(tmp_path).notes == ()


def test_a_recording_in_two_folds_is_named(tmp_path: Path) -> None:
    """ESC-50 and UrbanSound8K keep the clips of one recording in one fold; a table that does not is told so."""
    tree(tmp_path, *(f"{i}.wav" for i in range(4)))
    rows = ["0.wav,1,0,dog,True,7,A", "1.wav,1,0,dog,True,7,B", "2.wav,2,0,dog,True,7,C", "3.wav,2,0,dog,True,8,A"]
    (tmp_path / "esc50.csv").write_text("\n".join([ESC50, *rows]))
    notes = read_dataset(tmp_path / "esc50.csv").notes
    assert len(notes) == 1
    assert "1 recording in more than one fold" in notes[0]
    assert "0.wav of fold 1" in notes[0]
    assert "2.wav of fold 2" in notes[0]
    (tmp_path / "esc50.csv").write_text("\n".join([ESC50, *rows[:2], *rows[3:]]))
    assert read_dataset(tmp_path / "esc50.csv").notes == ()


# --- parts of long recordings ---


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_audacity_labels_cut_a_recording(suffix: str, tmp_path: Path) -> None:
    tone(tmp_path / f"rec.{suffix}", 300, seconds=60)
    tone(tmp_path / f"still.{suffix}", 200, seconds=12)
    (tmp_path / "still.txt").write_text("")
    (tmp_path / "rec.txt").write_text(
        "10.000000\t11.000000\tdog\n\\\t100.0\t400.0\n"  # with the frequencies of a spectral selection
        "10.500000\t10.500000\tclick\n30.000000\t42.000000\train\n70.0\t71.0\tlate\n"
    )
    found = read_dataset(tmp_path, seconds=5.0, background="background")
    assert found.layout == "2 recordings with label files, cut into 9 clips of 5 s"
    rec = [(clip.start, clip.end, clip.labels) for clip in found.clips if clip.path.stem == "rec"]
    assert [one for one in rec if one[2] != ("background",)] == [
        (8.0, 13.0, ("dog", "click")),
        (30.0, 35.0, ("rain",)),
        (33.5, 38.5, ("rain",)),
        (37.0, 42.0, ("rain",)),
    ]
    quiet = [(start, end) for start, end, labels in rec if labels == ("background",)]
    assert len(quiet) == 4  # as many as clips with events, outside every event
    assert all(end <= 10 or (start >= 11 and end <= 30) or start >= 42 for start, end in quiet if start and end)
    assert [(clip.start, clip.labels) for clip in found.clips if clip.path.stem == "still"] == [(0.0, ("background",))]
    assert found.skipped[0].reason == "'late' at 70 s of 60 s is not in the recording"
    assert len({clip.key for clip in found.clips}) == len(found.clips) == 9


def test_a_part_is_heard_alone(tmp_path: Path) -> None:
    """What reads a clip hears that part of the file: the bundle as if it had been written to a file of its own."""
    recording, rate = tmp_path / "rec.flac", 32000
    samples = np.concatenate([load_audio(clip, sample_rate=rate).waveform for clip in demo_clips()])[: 20 * rate]
    soundfile.write(recording, samples, rate)
    (tmp_path / "rec.txt").write_text("4.0\t5.0\ta\n9.5\t10.5\tb\n")
    found = read_dataset(tmp_path / "rec.txt", seconds=2.0)
    assert found.layout == "one recording with a label file, cut into 2 clips"
    with Tagger() as tagger:
        scores, _ = score(found, bundle_scorer(tagger))
        for clip, probs in zip(found.clips, scores, strict=True):
            assert clip.start is not None
            assert clip.end == clip.start + 2.0
            part = samples[round(clip.start * rate) : round(clip.end * rate)]
            np.testing.assert_allclose(clip.read(sample_rate=rate).waveform, part, atol=1e-4)  # 16 bits in the file
            assert len(clip.read(sample_rate=rate, max_seconds=0.5).waveform) == rate // 2
            stored, _ = soundfile.read(recording, start=round(clip.start * rate), frames=2 * rate)
            soundfile.write(tmp_path / "part.wav", stored, rate)
            np.testing.assert_allclose(probs, tagger.tag(tmp_path / "part.wav").probs, atol=1e-5)
        assert np.abs(scores[0] - scores[1]).max() > 0.01  # otherwise this test checks nothing
    with pytest.raises(AudioError, match="no samples from 50 s on"):
        replace(found.clips[0], start=50.0, end=52.0).read(sample_rate=rate)


def test_parts_of_a_recording_stay_in_one_fold(tmp_path: Path) -> None:
    """A table as DCASE writes it; what `write_csv` writes gives the same parts."""
    lines = ["filename\tonset\toffset\tevent_label"]
    for i in range(12):
        tone(tmp_path / "audio" / f"{i}.wav", 200 + i, seconds=20)
        lines += [f"{i}.wav\t{at}\t{at + 1}\t{'ab'[at % 2]}" for at in range(2 + i % 2, 20, 4)]
    (tmp_path / "events.tsv").write_text("\n".join(lines))
    found = read_dataset(tmp_path / "events.tsv", seconds=2.0)
    assert found.layout == "events in 12 recordings, cut into clips of 2 s: 60 clips, 2 classes"
    for seed in range(5):
        parts = split(found, seed=seed)
        folds = {(clip.path, clip.fold) for clip in parts.clips}
        assert len(folds) == 12  # every recording in one
        assert {fold for _, fold in folds} == {TRAIN, VALIDATION, HELD_OUT}
    (tmp_path / "split.csv").write_bytes(write_csv(parts, tmp_path))
    again = read_dataset(tmp_path / "split.csv")
    assert [replace(clip, path=clip.path.resolve()) for clip in again.clips] == [
        replace(clip, path=clip.path.resolve()) for clip in parts.clips
    ]
    folds = (tmp_path / "split.csv").read_text().replace(f",{HELD_OUT},", f",{TRAIN},", 1)
    (tmp_path / "split.csv").write_text(folds)
    assert "1 recording in more than one fold" in read_dataset(tmp_path / "split.csv").notes[0]


@pytest.mark.parametrize(
    ("events", "length", "cutting", "expected"),
    [
        ([(4, 5, "a")], 10, {"seconds": 4}, [(2.5, 6.5, "a")]),
        ([(0, 1, "a")], 10, {"seconds": 4}, [(0, 4, "a")]),  # not before the start
        ([(9.5, 12, "a")], 10, {"seconds": 4}, [(6, 10, "a")]),  # nor behind the end
        ([(1, 2, "a")], 3, {"seconds": 4}, [(0, 3, "a")]),  # a short recording is one clip
        ([(4, 5, "a"), (5.5, 6, "b")], 10, {"seconds": 4}, [(2.5, 6.5, "a;b")]),  # heard in the clip of the first
        ([(4, 5, "a"), (6, 8, "b")], 10, {"seconds": 4}, [(2.5, 6.5, "a"), (5, 9, "b")]),  # a quarter of b in the first
        ([(4, 5, "a"), (6, 8, "b")], 10, {"seconds": 4, "overlap": 0.25}, [(2.5, 6.5, "a;b"), (5, 9, "b")]),
        ([(0, 10, "a"), (0, 2, "b")], 10, {"seconds": 4}, [(0, 4, "a;b"), (3, 7, "a"), (6, 10, "a")]),
        ([(4, 5, "a")], 12, {"seconds": 4, "background": "x"}, [(0, 4, "x"), (2.5, 6.5, "a")]),
        ([], 12, {"seconds": 4, "background": "x"}, [(0, 4, "x")]),
        ([], 12, {"seconds": 4}, []),
    ],
)  # fmt: skip
def test_cutting(
    events: list[tuple[float, float, str]],
    length: float,
    cutting: dict[str, Any],
    expected: list[tuple[float, float, str]],
) -> None:
    annotations = [Annotation(start=start, end=end, label=label) for start, end, label in events]
    found = cut(annotations, length, Cutting(**cutting))
    assert [(start, end, ";".join(labels)) for start, end, labels in found] == expected


@pytest.mark.parametrize("options", [{"seconds": 0}, {"seconds": float("nan")}, {"seconds": "2"}, {"overlap": 0},
                                     {"overlap": 1.5}, {"background": ""}, {"background": 5}])  # fmt: skip
def test_a_cutting_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=f"{next(iter(options))} = .*expected"):
        Cutting(**options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.0\t2.0\n", "line 1: .* has no label"),
        ("1.0\t2.0\tdog\n2.0\t1.0\tcat\n", "line 2: from '2.0' to '1.0'"),
        ("1.0\t2.0\tdog\nx\t1.0\tcat\n", "line 2: from 'x'"),
    ],
)
def test_label_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    tone(tmp_path / "rec.wav", 300, seconds=4)
    (tmp_path / "rec.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)
    tone(tmp_path / "other.wav", 300, seconds=4)
    (tmp_path / "rec.txt").write_text("1.0\t2.0\tdog\n")
    with pytest.raises(DatasetError, match=r"other\.wav has no label file beside it"):
        read_dataset(tmp_path)
    (tmp_path / "rec.txt").write_text("notes of the day\n")  # no label file
    with pytest.raises(DatasetError, match="no clip"):
        read_dataset(tmp_path)


# --- advice ---


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"dog": 20, "background": 30}, []),
        ({"dog": 20, "Other_sounds": 12}, []),
        ({"dog": 20, "cat": 20}, ["no class for everything else"]),
        ({"dog": 20, "cat": 20, "": 5}, []),  # clips without a label
        ({"dog": 20, "noise": 9}, ["fewer than 10 clips of 1 class: noise 9"]),
        ({"dog": 200, "noise": 20}, ["uneven classes: dog has 200 clips, noise 20"]),
        ({"dog": 20, "silence": 0}, ["no clips of 1 class: silence"]),
    ],
)
def test_advice(counts: dict[str, int], expected: list[str]) -> None:
    clips = [
        LabelledClip(path=Path(f"{label}{i}.wav"), labels=(label,) if label else (), fold=None, sha256=f"{label}{i}")
        for label, count in counts.items()
        for i in range(count)
    ]
    found = Dataset(clips=tuple(clips), classes=tuple(filter(None, counts)), skipped=(), repeated=0)
    lines = advice(found)
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
    assert found.counts == {label: count for label, count in counts.items() if label}
