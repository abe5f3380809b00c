"""Sources of live sound: files, also as if live, pipes and network streams, and when their sound was heard."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.errors import AudioError
from panns_litert.live import FileSource, Heard, Lost, PipeSource, Source, elapsed_time

RATE = 16000


def heard(source: Source) -> tuple[NDArray[np.float32], list[Heard], list[Lost]]:
    """Reads a source to its end: returns all samples, their blocks, and the losses."""
    with source:
        parts = list(source)
    blocks = [part for part in parts if isinstance(part, Heard)]
    assert all(part.samples.dtype == np.float32 and part.samples.ndim == 1 and len(part.samples) for part in blocks)
    losses = [part for part in parts if isinstance(part, Lost)]
    return np.concatenate([part.samples for part in blocks]), blocks, losses


def require_steady(blocks: list[Heard], rate: int = RATE) -> None:
    """Requires that each block begins, to a microsecond, when the one before ends."""
    ends = np.cumsum([len(block.samples) for block in blocks])[:-1] / rate
    begins = np.array([block.time for block in blocks[1:]])
    np.testing.assert_allclose(begins - blocks[0].time, ends, atol=2e-6)


@pytest.fixture
def stereo(recording: Path, tmp_path: Path) -> Path:
    """The demo recording in one channel of a 16-bit WAV at 44.1 kHz; the other is silent."""
    sound = load_audio(recording, sample_rate=44100).waveform
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([np.zeros_like(sound), sound], 1), 44100)
    return path


def test_a_file_at_full_speed(stereo: Path) -> None:
    source = FileSource(stereo, RATE, channel=2, start_time=1.7e9)
    assert (source.name, source.live) == (str(stereo), False)
    samples, blocks, losses = heard(source)
    np.testing.assert_array_equal(samples, load_audio(stereo, sample_rate=RATE, channel=2).waveform)
    assert (losses, blocks[0].time) == ([], 1.7e9)
    require_steady(blocks)
    before = time.time()
    _, blocks, _ = heard(FileSource(stereo, RATE, name="hall"))
    assert before <= blocks[0].time <= time.time()


def test_a_file_as_if_live(stereo: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, soundfile.read(stereo)[0][: 2 * 44100], 44100)
    with FileSource(path, RATE, realtime=True) as source:
        assert source.live
        begin, wall, done = elapsed_time(), time.time(), 0
        for part in source:
            assert isinstance(part, Heard)
            assert abs(part.time - wall - done / RATE) < 0.25
            done += len(part.samples)
            time.sleep(0.03)  # of a slow reader: nothing of it adds up
            assert elapsed_time() - begin >= done / RATE  # a sample never comes before it would sound
        assert done == 2 * RATE
        assert elapsed_time() - begin < 2.0 + 1.0  # of a busy machine


def test_a_file_that_is_cut_is_a_loss(stereo: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, soundfile.read(stereo)[0], 44100)
    path.write_bytes(path.read_bytes()[:-200_000])
    source = FileSource(path, RATE, start_time=100.0)
    samples, _, (loss,) = heard(source)
    assert loss.seconds + len(samples) / RATE == pytest.approx(21.5, abs=0.001)
    assert loss.time == pytest.approx(100.0 + len(samples) / RATE)
    assert "21.50 s could be decoded: the file is cut or damaged" in loss.why
    assert any("could be decoded" in warning for warning in source.warnings)


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("part", [0.01, 0.2])
def test_a_file_that_is_damaged_in_the_middle(recording: Path, tmp_path: Path, rate: int, part: float) -> None:
    """What stands for the missing sound is a loss, and no silence that was heard."""
    sound = load_audio(recording, sample_rate=rate).waveform
    path = tmp_path / "damaged.flac"
    soundfile.write(path, sound, rate)
    data = bytearray(path.read_bytes())
    begin, size = len(data) // 2, round(part * len(data))
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    source = FileSource(path, RATE)
    samples, _, losses = heard(source)
    (found,) = [re.search(r"damaged at ([\d.]+) s: ([\d.]+) s are missing", text) or pytest.fail(text)
                for text in source.warnings if "damaged at" in text]  # fmt: skip
    missing = float(found[2])
    assert missing > 0.05
    assert [loss.why for loss in losses] == ["the file is damaged here"]
    assert losses[0].seconds == pytest.approx(missing, abs=0.15)
    assert len(samples) / RATE + losses[0].seconds == pytest.approx(21.5, abs=1e-3)


def test_silence_of_a_whole_file_is_no_loss(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.flac", np.zeros(20 * RATE), RATE)
    samples, _, losses = heard(FileSource(tmp_path / "silent.flac", RATE))
    assert (len(samples), losses) == (20 * RATE, [])


def test_closing_ends_a_file_that_waits(stereo: Path) -> None:
    with FileSource(stereo, RATE, realtime=True) as source:
        threading.Timer(0.3, source.close).start()
        begin = elapsed_time()
        list(source)
        assert elapsed_time() - begin < 5.0  # of 21.5 s


@pytest.mark.parametrize("header", [True, False])
def test_a_pipe(stereo: Path, header: bool) -> None:
    """The samples and the times of a pipe of the system, written in odd pieces; the size in the header is unknown."""
    data = bytearray(stereo.read_bytes())
    data[40:44] = b"\xff" * 4
    data = data if header else data[44:]
    read, write = os.pipe()

    def writing() -> None:
        with os.fdopen(write, "wb") as file:
            for start in range(0, len(data), 30011):
                file.write(data[start : start + 30011])

    writer = threading.Thread(target=writing)
    writer.start()
    with os.fdopen(read, "rb") as file:
        before = time.time()
        source = PipeSource(file, RATE, raw_rate=None if header else 44100, channels=2, channel=2)
        samples, blocks, losses = heard(source)
        writer.join()
    np.testing.assert_array_equal(samples, load_audio(stereo, sample_rate=RATE, channel=2).waveform)
    assert losses == []
    assert before - 0.2 < blocks[0].time < time.time()
    require_steady(blocks)


def test_closing_ends_a_pipe_that_waits() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file, os.fdopen(write, "wb", 0) as other:
        other.write(bytes(RATE))  # half a second, and then nothing
        with PipeSource(file, RATE, raw_rate=RATE, live=True) as source:
            threading.Timer(0.3, source.close).start()
            assert sum(len(part.samples) for part in source if isinstance(part, Heard)) == RATE // 2


def test_times_of_a_pipe_that_is_heard_now() -> None:
    """The times are those of arrival, and never decrease."""
    read, write = os.pipe()

    def writing() -> None:
        begin = elapsed_time()
        with os.fdopen(write, "wb", 0) as file:
            for k in range(1, 16):
                time.sleep(max(0.0, begin + k * 0.101 - elapsed_time()))
                file.write(bytes(RATE // 5))

    writer = threading.Thread(target=writing)
    writer.start()
    before = time.time()
    with os.fdopen(read, "rb") as file:
        _, blocks, _ = heard(PipeSource(file, RATE, raw_rate=RATE, live=True))
        writer.join()
    assert abs(blocks[0].time - before) < 0.5
    assert np.all(np.diff([block.time for block in blocks]) >= 0)


def wav(path: Path, x: NDArray[np.float32], rate: int = RATE) -> bytes:
    soundfile.write(path, x, rate, subtype="PCM_16")
    return path.read_bytes()


CHUNK = b"LIST" + (1001).to_bytes(4, "little") + bytes(range(250)) * 4 + b"x\0"


@pytest.mark.parametrize(
    ("behind", "seconds", "warnings"),
    [
        (b"", 1.0, ()),
        (b"\0" * 200, 1.0 + 100 / RATE, ()),  # the stated size was wrong
        (CHUNK, 1.0, ()),
        (CHUNK + CHUNK[:-500], 1.0, ()),
        (CHUNK + b"\0\xff\1\2" * 99, 1.0, ("what is behind its samples is no part of a WAV file and is not heard",)),
        ("same", 2.0, ()),
        ("chunk, same, chunk", 2.0, ()),
        ("other rate", 1.0, ("another recording follows, which is of another form and is not heard",)),
        ("cut header", 1.0, ("another recording follows, which is not readable and is not heard",)),
    ],
)
def test_what_is_behind_the_samples_of_a_pipe(
    tmp_path: Path, demo_sound: NDArray[np.float32], behind: bytes | str, seconds: float, warnings: tuple[str, ...]
) -> None:
    x = demo_sound[:RATE]
    data = wav(tmp_path / "x.wav", x)
    if isinstance(behind, str):
        second = wav(tmp_path / "y.wav", x, 8000 if behind == "other rate" else RATE)
        second = second[:20] if behind == "cut header" else second
        behind = CHUNK + second + CHUNK if "chunk" in behind else second
    for more in (0, 1):  # read as it comes, and byte by byte
        stream = io.BytesIO(data + behind)
        source = PipeSource(Trickle(stream) if more else stream, RATE)  # type: ignore[arg-type]
        samples, _, losses = heard(source)
        assert len(samples) == round(seconds * RATE)
        np.testing.assert_allclose(samples[:RATE], x, atol=1 / 32768)
        if seconds == 2.0:
            np.testing.assert_allclose(samples[RATE:], x, atol=1 / 32768)
        assert (losses, source.warnings) == ([], warnings)
        assert not stream.read(), "read to its end: the program that writes it can end"


class Trickle:
    """A stream that gives few bytes at a time."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(min(size, 997))


@pytest.mark.parametrize("data", [b"", b"\1"])
@pytest.mark.parametrize("live", [True, False])
def test_a_pipe_without_a_sample(tmp_path: Path, data: bytes, live: bool) -> None:
    with pytest.raises(AudioError, match="hall: ended before its first sample; expected sound"):
        list(PipeSource(io.BytesIO(data), RATE, raw_rate=RATE, live=live, name="hall"))
    header = wav(tmp_path / "x.wav", np.zeros(9, np.float32))[:44]
    with pytest.raises(AudioError, match="hall: ended before its first sample; expected sound"):
        list(PipeSource(io.BytesIO(header + data), RATE, live=live, name="hall"))


def test_a_pipe_that_ends_early(tmp_path: Path, demo_sound: NDArray[np.float32]) -> None:
    data = wav(tmp_path / "x.wav", demo_sound[: 2 * RATE])[: 44 + RATE + 1]  # half a second, and half a sample
    samples, _, losses = heard(PipeSource(io.BytesIO(data), RATE))
    assert len(samples) == RATE // 2
    assert [(loss.seconds, loss.last) for loss in losses] == [(1.5, True)]
    assert losses[0].why == "0.50 s of 2.00 s came: the pipe ended early"
    source = PipeSource(io.BytesIO(data), RATE, live=True)
    assert heard(source)[2] == [], "a recording that was ended is no sound that is lost"
    assert source.warnings == ("0.50 s of 2.00 s came: the pipe ended early",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no samples of a WAV file at all", "hall: begins like no WAV file; for raw samples, give --rate HZ"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(40), "without PCM or float samples"),
        (b"RIFF\0\0\0\0WAVEfmt ", "ends in the header"),
    ],
)
def test_a_pipe_that_cannot_be_used(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        PipeSource(io.BytesIO(data), RATE, name="hall")


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        FileSource(tmp_path / "none.wav", RATE)
    with pytest.raises(AudioError, match="start_time = nan; expected seconds since the epoch"):
        FileSource(tmp_path / "none.wav", RATE, start_time=float("nan"))
