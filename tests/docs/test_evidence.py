"""The tables of docs/evidence.md: the data that they are made of, and the figures on cases whose answer is known."""

from __future__ import annotations

from pathlib import Path

import esc10
import event_windows
import evidence
import numpy as np
import pytest
import soundfile
from event_defaults import GROUPS, LEVEL_DBFS, RATE, joined
from support import AUDIO, needs_shared

from panns_litert.demo import demo_bundle
from panns_litert.evaluate import Dataset
from panns_litert.events import Event
from panns_litert.tagger import Tagger
from panns_litert_convert.zoo import find

HEADER = "filename,fold,target,category,esc10,src_file,take\n"
"""Of meta/esc50.csv of https://github.com/karolpiczak/ESC-50."""


def tone(path: Path, hertz: float, *, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, level * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE), RATE)
    return path


def esc50(folder: Path) -> Path:
    """Writes a folder in ESC-50's layout: three clips of ESC-10 and one of another class."""
    rows = [("dog", 0), ("rain", 10), ("sneezing", 21), ("pig", 2)]
    lines = [f"{k}.wav,{k % 2 + 1},{target},{name},{name != 'pig'},1,A\n" for k, (name, target) in enumerate(rows)]
    for k in range(len(rows)):
        tone(folder / "audio" / f"{k}.wav", 200.0 + k)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    return folder


def test_esc50_is_read_with_its_ten_classes_alone(tmp_path: Path) -> None:
    data = evidence.data_set(esc50(tmp_path / "ESC-50"), tmp_path / "work")
    assert [(clip.labels, clip.fold) for clip in data.clips] == [
        (("dog_bark",), "1"),
        (("rain",), "2"),
        (("sneeze",), "1"),
    ]
    assert data.classes == tuple(GROUPS)


@needs_shared
def test_a_quick_look_takes_clips_of_every_class_and_fold(tmp_path: Path) -> None:
    data = evidence.data_set(AUDIO / "esc10", tmp_path, 40)
    assert 40 <= len(data.clips) <= 41
    assert {clip.labels[0] for clip in data.clips} == set(GROUPS)
    assert {clip.fold for clip in data.clips} == set("1234")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"neither esc10\.csv nor meta/esc50\.csv"):
        evidence.data_set(tmp_path, tmp_path / "work")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return evidence.data_set(esc50(tmp_path / "ESC-50"), tmp_path / "work")


def test_scores_of_other_clips_or_weights_are_not_taken_again(data: Dataset, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"a")
    folder = evidence.work_folder(data, weights)
    assert evidence.work_folder(data, weights) == folder
    weights.write_bytes(b"b")
    assert evidence.work_folder(data, weights) != folder
    weights.write_bytes(b"a")
    fewer = Dataset(clips=data.clips[1:], classes=data.classes, skipped=(), repeated=0)
    assert evidence.work_folder(fewer, weights) != folder


def test_the_group_with_the_highest_class_decides(data: Dataset) -> None:
    labels = find("mn04").class_names()
    probs = np.full((3, len(labels)), 0.01, np.float32)
    for row, (name, score) in enumerate((("Bow-wow", 0.3), ("Raindrop", 0.9), ("Speech", 0.9))):
        probs[row, labels.index(name)] = score  # speech is in no group
    probs[2, labels.index("Dog")] = 0.02
    assert esc10.named(labels, data, probs)["right_percent"] == pytest.approx(200 / 3)
    probs[2, labels.index("Sneeze")] = 0.03
    found = esc10.named(labels, data, probs)
    assert found == {"right_percent": 100.0, "mAP_percent": 100.0}


def test_a_clip_that_is_lost_ends_the_run(data: Dataset) -> None:
    data.clips[1].path.write_bytes(b"no audio")
    with Tagger(demo_bundle(), threads=1) as tagger, pytest.raises(SystemExit, match="2 of 3 clips were heard"):
        esc10.heard(tagger, data)


@pytest.mark.parametrize(
    ("found", "onset", "both"),
    [
        ([(10.0, 15.0, "rain"), (30.0, 35.0, "sneeze")], 100.0, 100.0),
        ([(10.9, 15.9, "rain"), (29.1, 34.1, "sneeze")], 100.0, 100.0),
        ([(11.1, 15.0, "rain"), (30.0, 35.0, "sneeze")], 50.0, 50.0),
        ([(10.0, 18.5, "rain"), (30.0, 35.0, "sneeze")], 100.0, 50.0),
        ([(10.0, 15.0, "rain"), (30.0, 35.0, "rooster")], 50.0, 50.0),
        ([(10.0, 15.0, "rain"), (30.0, 35.0, "sneeze"), (40.0, 42.0, "rain")], 80.0, 80.0),
        ([], 0.0, 0.0),
    ],
)
def test_events_are_right_within_a_second(
    monkeypatch: pytest.MonkeyPatch, found: list[tuple[float, float, str]], onset: float, both: float
) -> None:
    events = [Event(label=label, index=0, start=start, end=end, score=1.0) for start, end, label in found]
    monkeypatch.setattr(event_windows, "find_events", lambda *_, **__: iter(events))
    truth = [(10.0, 15.0, "rain"), (30.0, 35.0, "sneeze")]
    with Tagger(demo_bundle(), threads=1) as tagger:
        monkeypatch.setattr(event_windows, "Sense", lambda *_, **__: None)  # the demo has none of the classes
        figures = event_windows.measured(tagger, [(np.zeros(50 * RATE, np.float32), truth)])
    assert (figures["onset_F1"], figures["onset_and_offset_F1"]) == (pytest.approx(onset), pytest.approx(both))


@pytest.mark.parametrize("snr", [None, 20.0, 0.0])
def test_a_clip_has_its_level_above_the_noise(tmp_path: Path, snr: float | None) -> None:
    """The tone and the gap before it, in a narrow band and as a whole."""
    path = tone(tmp_path / "tone.wav", 1000.0, level=0.003)
    samples, [(start, end, label)] = joined([(path, "rain")], np.random.default_rng(0), snr=snr, level=True)
    assert (label, end - start) == ("rain", pytest.approx(1.0))
    clip, gap = samples[round(start * RATE) : round(end * RATE)], samples[: round(start * RATE)]
    spectrum = np.abs(np.fft.rfft(clip)) / len(clip)
    assert 20 * np.log10(np.sqrt(2) * spectrum[1000]) == pytest.approx(LEVEL_DBFS, abs=0.5)
    noise = 20 * np.log10(gap.std() + 1e-12)
    assert noise == pytest.approx(-240.0 if snr is None else LEVEL_DBFS - snr, abs=0.5)
