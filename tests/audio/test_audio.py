"""Audio: every format, rate, channel count and length; input that is no audio."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panns_litert.audio import from_array, load_audio
from panns_litert.errors import AudioError, PannsLitertError

RATE = 32000
RATES = (8000, 11025, 16000, 22050, 32000, 37800, 44100, 48000, 96000, 192000)
FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "W64", "CAF")
# Bounds on the error of a decoded tone of amplitude 0.5, as a share of its level: rounding of the sample format, or the
# loss of the codec. Measured errors are below half of these.
LOSS = {
    "PCM_S8": 0.03,
    "PCM_U8": 0.03,
    "ULAW": 0.05,
    "ALAW": 0.05,
    "IMA_ADPCM": 0.1,
    "MS_ADPCM": 0.1,
    "GSM610": 0.3,
    "G721_32": 0.1,
    "NMS_ADPCM_16": 0.5,
    "NMS_ADPCM_24": 0.3,
    "NMS_ADPCM_32": 0.2,
    "VORBIS": 0.1,
    "OPUS": 0.35,  # one of six channels carries only bass
    "MPEG_LAYER_III": 0.1,
    "DWVW_12": 0.01,
}


def tone(seconds: float, rate: int, *, hz: float = 440.0, level: float = 0.5) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, channels: int | None = None, *, level: float = 0.2, seed: int = 3) -> NDArray[np.float32]:
    shape = samples if channels is None else (samples, channels)
    return (level * np.random.default_rng(seed).standard_normal(shape)).clip(-1, 1).astype(np.float32)


def refused(path: Path, *words: str, **options: float) -> str:
    """Loads a file, which must fail. Returns the error's message."""
    with pytest.raises(PannsLitertError) as caught:
        load_audio(path, sample_rate=RATE, **options)
    return explained(caught.value, str(path), *words)


def array_refused(samples: object, rate: object = RATE, *words: str, **options: object) -> str:
    with pytest.raises(PannsLitertError) as caught:
        from_array(samples, rate, **{"sample_rate": RATE, **options})  # type: ignore[arg-type]
    return explained(caught.value, *words)


def explained(error: PannsLitertError, *words: str) -> str:
    """Checks that the message says what was wrong and what was expected. Returns it."""
    assert type(error) is AudioError
    assert isinstance(error, ValueError)
    message = str(error)
    for word in ("expected", *words):
        assert word in message
    return message


# --- files that are audio ---------------------------------------------------------------------------


def tone_file(container: str, subtype: str, channels: int) -> tuple[bytes, int]:
    """Returns a tone of one second and its rate. The tone is the mean of the channels, and no channel alone."""
    rate = 16000 if subtype == "OPUS" else 8000 if subtype in ("GSM610", "G721_32") else RATE
    weights = np.linspace(0.5, 1.5, channels) if channels > 1 else np.ones(1)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1.0, rate)[:, None] * weights, rate, format=container, subtype=subtype)
    return buffer.getvalue(), rate


def writable() -> Iterator[tuple[str, str, int]]:
    """Yields the formats that this build of libsndfile can write; it reads more."""
    for container in FORMATS:
        for subtype in soundfile.available_subtypes(container):
            for channels in (1, 2, 6):
                with contextlib.suppress(soundfile.LibsndfileError):
                    tone_file(container, subtype, channels)
                    yield container, subtype, channels


WRITABLE = list(writable())


@pytest.mark.parametrize(("container", "subtype", "channels"), WRITABLE)
def test_every_format_that_libsndfile_writes(tmp_path: Path, container: str, subtype: str, channels: int) -> None:
    """A tone keeps its frequency and level: nothing is scaled, shifted or mixed wrongly."""
    content, rate = tone_file(container, subtype, channels)
    path = tmp_path / f"tone.{container.lower()}"
    path.write_bytes(content)
    audio = load_audio(path, sample_rate=rate)
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.ndim == 1
    assert audio.sample_rate == rate
    assert abs(audio.seconds - 1.0) < 0.13  # block codecs pad the end
    assert len(audio.waveform) == round(audio.seconds * rate)
    # Away from the ends, and at the delay that fits best: codecs delay the signal.
    middle = audio.waveform[rate // 4 : rate // 2]
    basis = np.exp(-2j * np.pi * 440.0 * np.arange(len(middle)) / rate)
    fitted = 2 * np.mean(middle * basis) * np.conj(basis)
    assert abs(np.abs(fitted[0]) / 0.5 - 1) < LOSS.get(subtype, 2e-3)
    assert np.sqrt(np.mean((middle - fitted.real) ** 2)) / (0.5 / np.sqrt(2)) < LOSS.get(subtype, 2e-3)


def test_the_list_of_formats_is_not_empty() -> None:
    """The test above takes its formats from the library. These must be among them."""
    for pair in [("WAV", "GSM610"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]:
        assert (*pair, 1) in WRITABLE
    for channels in (2, 6):
        assert ("WAV", "PCM_16", channels) in WRITABLE


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("samples", [1, 79, 5000])
def test_samples_are_exact_and_channels_are_averaged(tmp_path: Path, samples: int, channels: int, subtype: str) -> None:
    data = np.round(noise(samples, channels) * 32768) / 32768  # exact in 16 bits
    path = tmp_path / "noise.wav"
    soundfile.write(path, data, RATE, subtype=subtype)
    audio = load_audio(path, sample_rate=RATE)
    np.testing.assert_allclose(audio.waveform, data.mean(axis=1), atol=1e-7)
    assert audio.seconds == samples / RATE


def test_opposite_channels_cancel() -> None:
    left = noise(1000)
    assert np.abs(from_array(np.stack([left, -left], axis=1), RATE, sample_rate=RATE).waveform).max() == 0.0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hz", [100.0, 1000.0, 3000.0])
def test_resampling_keeps_length_frequency_and_level(tmp_path: Path, rate: int, hz: float) -> None:
    """Against the tone computed at the new rate: the error is below −80 dB of the tone."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(1.0, rate, hz=hz), rate, subtype="FLOAT")
    audio = load_audio(path, sample_rate=RATE)
    assert len(audio.waveform) == RATE
    assert audio.seconds == 1.0
    inside = slice(RATE // 10, -RATE // 10)  # the resampler's filter reaches over the ends
    error = audio.waveform[inside] - tone(1.0, RATE, hz=hz)[inside]
    assert np.abs(error).max() < 0.5 * 1e-4


@pytest.mark.parametrize("rate", [44100, 48000, 96000, 192000])
def test_resampling_leaves_nothing_above_half_the_new_rate(rate: int) -> None:
    audio = from_array(tone(1.0, rate, hz=18000.0), rate, sample_rate=RATE)
    assert np.abs(audio.waveform[RATE // 10 : -RATE // 10]).max() < 1e-4


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("samples", [1, 2, 79, 1000])
def test_short_audio_of_any_rate(rate: int, samples: int) -> None:
    audio = from_array(noise(samples), rate, sample_rate=RATE)
    assert abs(len(audio.waveform) - samples * RATE / rate) <= 0.5 + 1e-9
    assert audio.seconds == samples / rate
    assert np.isfinite(audio.waveform).all()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["long.flac", "long.wav", "long.ogg"])
def test_the_start_of_a_long_file_is_the_start_of_the_whole(tmp_path: Path, rate: int, name: str) -> None:
    """At any rate, the part that is not read changes the result by at most 1e-4."""
    path = tmp_path / name
    soundfile.write(path, noise(4 * rate, 2), rate)
    whole = load_audio(path, sample_rate=RATE)
    for seconds in (0.5, 1.0, 3.95, 4.0, 10.0):
        part = load_audio(path, sample_rate=RATE, max_seconds=seconds)
        wanted = whole.waveform[: round(seconds * RATE)]
        assert part.waveform.shape == wanted.shape
        np.testing.assert_allclose(part.waveform, wanted, atol=1e-4)
        assert part.seconds == pytest.approx(whole.seconds)
        array = from_array(soundfile.read(path)[0], rate, sample_rate=RATE, max_seconds=seconds)
        np.testing.assert_allclose(array.waveform, wanted, atol=1e-4)
        assert array.seconds == pytest.approx(whole.seconds)


def test_more_than_one_block_of_a_file(tmp_path: Path) -> None:
    """Files are read in blocks of a million frames."""
    data = noise(2_300_000)
    path = tmp_path / "long.wav"
    soundfile.write(path, data, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(path, sample_rate=RATE).waveform, data)
    start = load_audio(path, sample_rate=RATE, max_seconds=60.0)
    np.testing.assert_array_equal(start.waveform, data[: 60 * RATE])
    assert start.seconds == len(data) / RATE


def test_telephone_recordings_that_cannot_be_sought(tmp_path: Path) -> None:
    """GSM 6.10 in a WAV: soundfile cannot read to the end of a file that is not seekable."""
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(3.0, 8000), 8000, subtype="GSM610")
    with soundfile.SoundFile(path) as file:
        assert not file.seekable()  # otherwise this test checks nothing
    whole = load_audio(path, sample_rate=RATE)
    assert 3.0 <= whole.seconds <= 3.04  # whole blocks of 40 ms
    assert len(whole.waveform) == round(whole.seconds * RATE)
    part = load_audio(path, sample_rate=RATE, max_seconds=1.0)
    assert part.seconds == whole.seconds
    np.testing.assert_allclose(part.waveform, whole.waveform[:RATE], atol=1e-4)


def test_a_streamed_flac_does_not_know_its_length(tmp_path: Path) -> None:
    """An encoder that writes to a pipe leaves the number of samples in STREAMINFO at 0."""
    data = noise(5 * RATE)
    path = tmp_path / "stream.flac"
    soundfile.write(path, data, RATE, subtype="PCM_24")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # 36 bits: the low half of byte 13 of STREAMINFO, which starts at byte 8, and four more bytes
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with soundfile.SoundFile(path) as file:
        assert file.frames > 1e18
    whole = load_audio(path, sample_rate=RATE)
    np.testing.assert_allclose(whole.waveform, data, atol=1e-6)
    part = load_audio(path, sample_rate=RATE, max_seconds=1.0)
    np.testing.assert_allclose(part.waveform, data[:RATE], atol=1e-6)
    assert whole.seconds == part.seconds == 5.0


def test_a_name_may_be_anything(tmp_path: Path) -> None:
    """The content decides the format, not the name."""
    for name in ("ohne Endung", "große Höhen ♪.wav", "flac in disguise.wav"):
        path = tmp_path / name
        soundfile.write(path, tone(0.1, RATE), RATE, format="FLAC")
        assert len(load_audio(str(path), sample_rate=RATE).waveform) == RATE // 10


# --- files that are not ---------------------------------------------------------------------------------


def test_missing_empty_folder_and_text(tmp_path: Path) -> None:
    refused(tmp_path / "missing.wav", "no such file")
    refused(tmp_path / "nowhere" / "missing.wav", "no such file")
    refused(tmp_path, "a folder")
    refused(tmp_path / ("x" * 300 + ".wav"))
    refused(tmp_path / "nul\0.wav")
    empty = tmp_path / "empty.wav"
    empty.touch()
    refused(empty, "the file is empty")
    text = tmp_path / "text.wav"
    text.write_text("This is no recording.\n" * 100)
    message = refused(text, "not readable as audio", "WAV", "FLAC", "OGG")
    assert "RAW" not in message
    raw = tmp_path / "samples.raw"
    raw.write_bytes(noise(100).tobytes())
    refused(raw, "not readable as audio")


@pytest.mark.parametrize("container", FORMATS)
def test_a_file_without_frames(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"none.{container.lower()}"
    soundfile.write(path, np.zeros((0, 1), np.float32), RATE, format=container)
    if path.stat().st_size == 0:
        refused(path, "the file is empty")
    else:
        refused(path)
        refused(path, max_seconds=1.0)


@pytest.mark.parametrize("container", FORMATS)
def test_truncated_anywhere(tmp_path: Path, container: str) -> None:
    """Reading gives an `AudioError` or the samples that are there: no other exception, no invented samples."""
    path = tmp_path / f"cut.{container.lower()}"
    soundfile.write(path, noise(8000), RATE, format=container)
    data = path.read_bytes()
    whole = load_audio(path, sample_rate=RATE).waveform
    for cut in sorted({1, 4, 8, 11, 12, 20, 36, 40, 43, 44, 60, 100, *range(150, len(data), len(data) // 10)}):
        path.write_bytes(data[:cut])
        for options in ({}, {"max_seconds": 0.1}):
            with contextlib.suppress(AudioError):
                part = load_audio(path, sample_rate=RATE, **options).waveform
                assert 0 < len(part) <= len(whole)
                assert np.isfinite(part).all()


def test_truncated_header_and_truncated_flac(tmp_path: Path) -> None:
    wav, flac = tmp_path / "cut.wav", tmp_path / "cut.flac"
    for path in (wav, flac):
        soundfile.write(path, noise(20000), RATE)
    content = wav.read_bytes()
    for cut in (1, 12, 20, 36, 44):
        wav.write_bytes(content[:cut])
        refused(wav)
    content = flac.read_bytes()
    for cut in (4, 20, 42, 60):
        flac.write_bytes(content[:cut])
        refused(flac)


@pytest.mark.parametrize("rate", [0, 2**31, 2**32 - 1])
def test_a_header_with_an_impossible_rate(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "rate.wav"
    soundfile.write(path, noise(100), RATE)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "CAF", "W64"])
def test_samples_of_a_file_that_are_not_finite(tmp_path: Path, container: str, value: float) -> None:
    data = noise(1000, 2)
    data[617, 1] = value
    path = tmp_path / f"nan.{container.lower()}"
    soundfile.write(path, data, RATE, format=container, subtype="FLOAT")
    refused(path, "sample 617 is NaN, Inf or beyond")
    # A bad sample behind the clip and the resampler's margin is not read, and so not refused.
    later = np.concatenate([noise(RATE, 2), data])
    soundfile.write(path, later, RATE, format=container, subtype="FLOAT")
    assert len(load_audio(path, sample_rate=RATE, max_seconds=0.5).waveform) == RATE // 2


def test_samples_of_a_file_beyond_float32(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    soundfile.write(path, np.full(100, 1e300), RATE, subtype="DOUBLE")
    refused(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=400),
    head=st.sampled_from(
        [
            b"",
            b"RIFF\xff\0\0\0WAVEfmt ",
            b"fLaC\0\0\0\x22",
            b"OggS\0\x02",
            b"ID3\x04\0",
            b"\xff\xfb\x90",
            b"FORM\0\0\0\xffAIFFCOMM",
            b"caff\0\x01\0\0desc",
            b"riff\x2e\x91\xcf\x11",
            b".snd\0\0\0\x18",
        ]
    ),
)
def test_random_bytes_are_audio_or_one_error(tmp_path: Path, data: bytes, head: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(head + data)
    try:
        audio = load_audio(path, sample_rate=RATE, max_seconds=1.0)
    except AudioError as error:
        explained(error, str(path))
    else:
        assert np.isfinite(audio.waveform).all()


# --- arrays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(100, np.int16),
        np.zeros(100, np.uint8),
        np.zeros(100, np.complex64),
        np.zeros(100, bool),
        np.zeros(100, object),
        np.array(["a"]),
        np.zeros(100, "datetime64[s]"),
        [1, 2, 3],
        None,
        b"abc",
    ],
    ids=lambda samples: str(getattr(samples, "dtype", samples)),
)
def test_wrong_dtype(samples: object) -> None:
    array_refused(samples, RATE, "float")


def test_what_is_no_array() -> None:
    array_refused([[0.1], [0.1, 0.2]], RATE, "not an array")
    array_refused(torch.zeros(100, requires_grad=True), RATE, "not an array")
    assert len(from_array([0.1, 0.2], RATE, sample_rate=RATE).waveform) == 2  # type: ignore[arg-type]
    assert len(from_array(torch.zeros(100), RATE, sample_rate=RATE).waveform) == 100  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (2, 3, 4), (1, 1, 100, 1)])
def test_wrong_rank(shape: tuple[int, ...]) -> None:
    array_refused(np.zeros(shape, np.float32), RATE, str(shape), "(samples,) or (samples, channels)")


@pytest.mark.parametrize("shape", [(0,), (0, 2), (100, 0)])
def test_no_samples(shape: tuple[int, ...]) -> None:
    array_refused(np.zeros(shape, np.float32), RATE, "no samples")


def test_channels_first_is_refused() -> None:
    """Taken as 32000 channels of 2 samples, it would be tagged as silence without an error."""
    array_refused(np.zeros((2, RATE), np.float32), RATE, "transpose")
    assert len(from_array(np.zeros((1, 6), np.float32), RATE, sample_rate=RATE).waveform) == 1


@pytest.mark.parametrize(
    "rate", [0, -1, 44100.0, True, None, "44100", np.float32(8000), float("nan"), 2**31, 2**70, [8000]]
)
def test_wrong_rate(rate: object) -> None:
    message = array_refused(noise(100), rate, "whole number of Hz")
    assert repr(rate) in message
    array_refused(noise(100), RATE, "whole number of Hz", sample_rate=rate)


def test_rates_of_any_integer_type() -> None:
    for rate in (44100, np.int64(44100), np.uint16(44100)):
        assert len(from_array(noise(44100), rate, sample_rate=RATE).waveform) == RATE
    assert len(from_array(noise(1000), 2**31 - 1, sample_rate=RATE).waveform) == 0


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100, 44101, 48000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "ogg", "mp3"])
def test_a_part_is_the_same_samples_as_in_the_whole(suffix: str, rate: int, tmp_path: Path) -> None:
    """Also behind a seek, at any ratio of sample rates: only the rounding of the resampler may differ."""
    path = tmp_path / f"a.{suffix}"
    if suffix == "mp3" and rate == 44101:
        rate = 24000
    soundfile.write(path, 0.5 * noise(6 * rate), rate)
    whole = load_audio(path, sample_rate=RATE)
    for start, seconds in ((0.0, 1.0), (0.05, 1.0), (1.2345, 2.0), (3.0, 0.5), (whole.seconds - 0.5, 2.0)):
        part = load_audio(path, sample_rate=RATE, start=start, max_seconds=seconds)
        first = round(start * RATE)
        expected = whole.waveform[first : first + round(seconds * RATE)]
        assert len(part.waveform) == len(expected)
        np.testing.assert_allclose(part.waveform, expected, atol=1e-6)
        assert (part.seconds, part.warnings) == (whole.seconds, whole.warnings)
    with pytest.raises(AudioError, match=r"no samples from 60 s on"):
        load_audio(path, sample_rate=RATE, start=60.0)


def test_a_part_of_a_cut_file_says_what_is_missing(tmp_path: Path) -> None:
    for suffix in ("wav", "flac"):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, noise(4 * RATE), RATE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
        whole = load_audio(path, sample_rate=RATE)
        part = load_audio(path, sample_rate=RATE, start=2.0)
        assert part.warnings == whole.warnings != ()
        np.testing.assert_allclose(part.waveform, whole.waveform[2 * RATE :], atol=1e-6)


@pytest.mark.parametrize("start", [-1.0, float("nan"), float("inf"), "1", None, True])
def test_wrong_start(start: object, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(100), RATE)
    with pytest.raises(AudioError, match="start = "):
        load_audio(path, sample_rate=RATE, start=start)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "1", True - 1, [1]])
def test_wrong_max_seconds(tmp_path: Path, seconds: object) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(100), RATE)
    array_refused(noise(100), RATE, "max_seconds", max_seconds=seconds)
    with pytest.raises(AudioError, match="max_seconds"):
        load_audio(path, sample_rate=RATE, max_seconds=seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_samples_that_are_not_finite(dtype: type, value: float, rate: int) -> None:
    samples = noise(1000).astype(dtype)
    samples[17] = value
    array_refused(samples, rate, "sample 17 is NaN, Inf or beyond")
    array_refused(np.stack([noise(1000).astype(dtype), samples], axis=1), rate, "sample 17 is NaN, Inf or beyond")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [RATE, 44100])
def test_samples_beyond_float32(rate: int) -> None:
    """One error without numpy's warnings, for float64, for the sum of channels and for the resampler."""
    array_refused(np.full(1000, 1e300), rate, "sample 0 is NaN, Inf or beyond")
    array_refused(np.full((1000, 2), 3e38, np.float32), rate, "sample 0 is NaN, Inf or beyond")
    square = np.where(np.arange(1000) % 20 < 10, 3.4e38, -3.4e38).astype(np.float32)
    if rate != RATE:
        array_refused(square, rate, "sample 0 is NaN, Inf or beyond")
    assert np.isfinite(from_array(np.full((100, 2), 2.4, np.float16), RATE, sample_rate=RATE).waveform).all()


def layouts() -> Iterator[tuple[str, NDArray[np.floating]]]:
    data = noise(3000, 2)
    yield "Fortran order", np.asfortranarray(data)
    yield "every second sample", np.repeat(data, 2, axis=0)[::2]
    yield "reversed twice", np.ascontiguousarray(data[::-1])[::-1]
    yield "big-endian", data.astype(">f4")
    yield "float64", data.astype(np.float64)
    yield "longdouble", data.astype(np.longdouble)


@pytest.mark.parametrize(("name", "data"), list(layouts()), ids=[name for name, _ in layouts()])
@pytest.mark.parametrize("rate", [RATE, 44100])
def test_memory_layout_does_not_matter(name: str, data: NDArray[np.floating], rate: int) -> None:
    before = data.copy()
    audio = from_array(data, rate, sample_rate=RATE)
    np.testing.assert_allclose(audio.waveform, from_array(noise(3000, 2), rate, sample_rate=RATE).waveform, atol=1e-6)
    assert audio.waveform.flags.c_contiguous
    assert audio.waveform.dtype == np.float32
    np.testing.assert_array_equal(data, before)


@settings(max_examples=150)
@given(
    samples=st.integers(1, 3000),
    channels=st.none() | st.integers(1, 8),
    rate=st.one_of(st.sampled_from(RATES), st.integers(100, 400_000)),
    sample_rate=st.sampled_from([8000, 16000, RATE]),
    seconds=st.none() | st.floats(1e-6, 10.0),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
@example(samples=1, channels=None, rate=192000, sample_rate=RATE, seconds=None, dtype=np.float32)
@example(samples=79, channels=6, rate=11025, sample_rate=RATE, seconds=1e-6, dtype=np.float64)
def test_any_shape_and_rate(
    samples: int, channels: int | None, rate: int, sample_rate: int, seconds: float | None, dtype: type
) -> None:
    data = noise(samples, channels, level=0.1).astype(dtype)
    audio = from_array(data, rate, sample_rate=sample_rate, max_seconds=seconds)
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.ndim == 1
    assert audio.waveform.flags.c_contiguous
    assert audio.seconds == samples / rate
    assert np.isfinite(audio.waveform).all()
    assert np.abs(audio.waveform).max(initial=0.0) < 2.0
    length = samples * sample_rate / rate
    if seconds is not None:
        length = min(length, round(seconds * sample_rate))
    assert abs(len(audio.waveform) - length) <= 1.0
    if rate == sample_rate:
        mono = data if channels is None else data.astype(np.float64).mean(axis=1)
        np.testing.assert_allclose(audio.waveform, mono[: len(audio.waveform)], atol=1e-6)
