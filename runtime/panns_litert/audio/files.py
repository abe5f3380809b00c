"""Audio files and arrays to what a front end takes: mono float32 at the model's sample rate."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from panns_litert.errors import AudioError, PannsLitertError

# The resampler looks this far beyond the last sample that is kept, so that a long recording's first
# clip is the same whether or not the rest was read.
_MARGIN_SECONDS = 0.1
# Samples per read, of all channels together: 4 MB.
_BLOCK_SAMPLES = 1 << 20
# The same for a recording that is heard as it is read: 256 kB, some seconds, so that results come soon.
_STREAMED_SAMPLES = 1 << 16
# What a streamed FLAC says of its length.
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's SF_COUNT_MAX
# libsndfile's highest; far beyond it the resampler does not come back.
_MAX_RATE = 2**31 - 1
# More channels than that, and more than there are samples, is a transposed array.
_PLAUSIBLE_CHANNELS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """A waveform and where it came from.

    Attributes:
        waveform: (samples,) float32, mono.
        sample_rate: of the waveform, Hz.
        seconds: length of the whole recording; more than the waveform's if it was read in part.
    """

    waveform: NDArray[np.float32]
    sample_rate: int
    seconds: float


def load_audio(path: str | os.PathLike[str], *, sample_rate: int, max_seconds: float | None = None) -> Audio:
    """Reads a file of any format, rate, channel count and subtype that libsndfile knows.

    Channels are averaged; the rate is changed by soxr in quality HQ.

    Args:
        path: the file.
        sample_rate: wanted rate, Hz, 1 … 2147483647.
        max_seconds: read no more than that from the start, > 0, or None for all.

    Raises:
        AudioError: missing, unreadable or empty file, or samples that are NaN or Inf.
    """
    _require_wanted(sample_rate, max_seconds)
    with _opened(path) as file:
        rate, total = file.samplerate, file.frames
        wanted = _UNKNOWN_FRAMES if max_seconds is None else math.ceil((max_seconds + _MARGIN_SECONDS) * rate)
        data = np.concatenate([np.empty((0, file.channels), np.float32), *file.blocks_of(wanted)])
        if total == _UNKNOWN_FRAMES:
            total = len(data) + sum(map(len, file.blocks_of(_UNKNOWN_FRAMES)))
    try:
        audio = from_array(data, rate, sample_rate=sample_rate, max_seconds=max_seconds)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    # A header may promise more than the file holds; what was read is the truth if it is the whole.
    read_all = len(data) < wanted
    return Audio(
        waveform=audio.waveform,
        sample_rate=sample_rate,
        seconds=len(data) / rate if read_all else max(total, len(data)) / rate,
    )


def from_array(
    samples: NDArray[np.floating], rate: int, *, sample_rate: int, max_seconds: float | None = None
) -> Audio:
    """Mono float32 at the wanted rate, from an array.

    Args:
        samples: float, (samples,) or (samples, channels), nominally within [-1, 1].
        rate: rate of `samples`, Hz, 1 … 2147483647.
        sample_rate: wanted rate, Hz, in the same range.
        max_seconds: keep no more than that from the start, > 0, or None for all.

    Raises:
        AudioError: wrong dtype, rank, orientation or rate, no samples, or samples that are NaN or Inf.
    """
    _require_wanted(sample_rate, max_seconds)
    try:
        samples = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"samples are not an array ({error}); expected (samples,) or (samples, channels)") from error
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"samples of dtype {samples.dtype}; expected float samples in [-1, 1]; divide 16-bit samples by 32768 first"
        )
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples of shape {samples.shape}; expected (samples,) or (samples, channels)")
    _require_rate(rate)
    if samples.size == 0:
        raise AudioError("no samples; expected at least one")
    if samples.ndim == 2 and samples.shape[1] > max(len(samples), _PLAUSIBLE_CHANNELS):
        raise AudioError(f"samples of shape {samples.shape}; expected (samples, channels); transpose them")
    seconds = len(samples) / int(rate)
    if max_seconds is not None:
        samples = samples[: int(np.ceil((max_seconds + _MARGIN_SECONDS) * rate))]
    finite = np.isfinite(samples)
    if not finite.all():
        where = int(np.flatnonzero(~finite.reshape(len(samples), -1).all(axis=1))[0])
        raise AudioError(f"sample {where} is NaN or Inf; expected finite samples")
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        wide = np.promote_types(samples.dtype, np.float32)
        mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=wide)
        mono = mono.astype(np.float32, copy=False)
    if rate != sample_rate:
        try:
            mono = soxr.resample(mono, int(rate), int(sample_rate), quality="HQ")
        except (ValueError, RuntimeError) as error:
            raise AudioError(f"cannot resample from {rate} Hz to {sample_rate} Hz: {error}") from error
    if max_seconds is not None:
        mono = mono[: round(max_seconds * sample_rate)]
    if not np.isfinite(mono).all():
        raise AudioError("samples beyond the range of float32; expected samples in [-1, 1]")
    return Audio(waveform=np.ascontiguousarray(mono, np.float32), sample_rate=sample_rate, seconds=seconds)


class AudioBlocks:
    """A file that is read in blocks: mono float32 at the wanted rate, in memory that does not grow with its length.

    A context manager and an iterator of blocks (n,), whose samples one after another are those of `load_audio`.

    Args:
        path: the file.
        sample_rate: wanted rate, Hz.

    Attributes:
        seconds: length of the recording as its header has it, or None if it does not say.

    Raises:
        AudioError: as `load_audio`; samples that are NaN or Inf when their block is read.

    >>> from panns_litert.tagger import demo_clips
    >>> with AudioBlocks(demo_clips()[0], sample_rate=32000) as blocks:
    ...     sum(map(len, blocks)) == round(32000 * blocks.seconds)
    True
    """

    def __init__(self, path: str | os.PathLike[str], *, sample_rate: int) -> None:
        _require_wanted(sample_rate, None)
        self._path, self._stack = Path(path), contextlib.ExitStack()
        self._file = self._stack.enter_context(_opened(path))
        self._mono = MonoResampler(self._file.samplerate, sample_rate=sample_rate)
        total = self._file.frames
        self.seconds = None if total == _UNKNOWN_FRAMES else total / self._file.samplerate

    def __enter__(self) -> AudioBlocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        with _readable(self._path):
            for block in self._file.blocks_of(_UNKNOWN_FRAMES, most=_STREAMED_SAMPLES):
                yield from self._checked(self._mono.push, block)
        yield from self._checked(self._mono.finish)

    def _checked(self, step: Callable[..., NDArray[np.float32]], *block: object) -> Iterator[NDArray[np.float32]]:
        try:
            samples = step(*block)
        except AudioError as error:
            raise AudioError(f"{self._path}: {error}") from error
        if len(samples):
            yield samples


RAW_FORMATS = {"s16le": ("<i2", 32768.0), "s32le": ("<i4", 2147483648.0), "f32le": ("<f4", 1.0)}
"""Raw samples by name: how they are stored, and what full scale is."""


def raw_blocks(
    stream: BinaryIO, *, channels: int = 1, form: str = "s16le", most: int = _STREAMED_SAMPLES
) -> Iterator[NDArray[np.float32]]:
    """Raw interleaved samples, as from a pipe, in blocks (n, channels) float32 as soon as they are there.

    Args:
        stream: where to read; its end ends the samples, and a sample that is cut off there is left out.
        channels: ≥ 1.
        form: one of `RAW_FORMATS`.
        most: samples of a block at most.

    Raises:
        AudioError: channels or form is out of range.
    """
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1 or form not in RAW_FORMATS:
        raise AudioError(
            f"raw samples: {channels!r} channels, format {form!r}; expected ≥ 1 and one of {', '.join(RAW_FORMATS)}"
        )
    dtype, full_scale = RAW_FORMATS[form]
    size = np.dtype(dtype).itemsize * channels
    rest = b""
    read = getattr(stream, "read1", stream.read)  # what is there, and not only when a block is full
    while data := read(max(1, most // channels) * size):
        data = rest + data
        whole = len(data) // size * size
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], dtype).astype(np.float32) / np.float32(full_scale)
            yield samples.reshape(-1, channels)


def audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The audio files of a folder and of those in it, by their suffix, in the order of their names.

    Raises:
        AudioError: there is none.
    """
    suffixes = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus"}
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes - {".raw"})
    if not found:
        raise AudioError(f"{folder}: no audio file in this folder; expected some (.wav, .flac, .ogg, .mp3, …)")
    return found


class MonoResampler:
    """A stream of samples to mono float32 at the wanted rate; chunks of any size give what one array would.

    Args:
        rate: of the samples, Hz.
        sample_rate: wanted rate, Hz.

    Raises:
        AudioError: a rate is out of range.
    """

    def __init__(self, rate: int, *, sample_rate: int) -> None:
        for value in (rate, sample_rate):
            _require_rate(value)
        self.rate, self.sample_rate = int(rate), int(sample_rate)
        self._restart()

    def _restart(self) -> None:
        self._count = 0
        self._soxr = None
        if self.rate != self.sample_rate:
            self._soxr = soxr.ResampleStream(self.rate, self.sample_rate, 1, dtype="float32", quality="HQ")

    def push(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        """Takes the next samples, (n,) or (n, channels), and gives those (m,) that follow from them.

        Raises:
            AudioError: wrong dtype or rank, NaN or Inf; the stream is as it was, without them.
        """
        samples = np.asarray(samples)
        if samples.ndim in (1, 2) and len(samples) == 0:
            return np.empty(0, np.float32)
        try:
            mono = from_array(samples, self.rate, sample_rate=self.rate).waveform
        except AudioError as error:
            raise AudioError(f"after {self._count / self.rate:.3f} s: {error}") from error
        self._count += len(mono)
        return mono if self._soxr is None else self._soxr.resample_chunk(mono)

    def finish(self) -> NDArray[np.float32]:
        """Ends the stream: gives the samples that were still on their way, and begins anew."""
        last = np.empty(0, np.float32)
        if self._soxr is not None and self._count:
            last = self._soxr.resample_chunk(last, last=True)
        self._restart()
        return last


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_Stream]:
    """An audio file, or one error that says why it is none."""
    path = Path(path)
    try:
        is_file, size = path.is_file(), path.stat().st_size if path.exists() else 0
    except OSError as error:  # a name too long, a folder that must not be read
        raise AudioError(f"{path}: {error.strerror}; expected an audio file") from error
    if not is_file:
        raise AudioError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected an audio file")
    if size == 0:
        raise AudioError(f"{path}: the file is empty; expected audio")
    with _readable(path), _Stream(path) as file:
        yield file


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    # TypeError: a .raw file, of which soundfile asks what no header says.
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError) as error:
        if isinstance(error, PannsLitertError):
            raise
        formats = ", ".join(sorted(set(soundfile.available_formats()) - {"RAW"}))
        raise AudioError(f"{path}: not readable as audio ({error}); expected one of {formats}") from error


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from its start to its end and never sought.

    soundfile seeks after every read, and to find out how much there is to read. libsndfile cannot seek in
    GSM 6.10, G.721, NMS ADPCM and DWVW, and not to the end of a FLAC of unknown length.
    """

    def seekable(self) -> bool:
        return False

    def blocks_of(self, frames: int, *, most: int = _BLOCK_SAMPLES) -> Iterator[NDArray[np.float32]]:
        """The next frames, at most that many, each block (frames, channels) of at most `most` samples."""
        most = max(1, most // self.channels)
        while frames > 0 and len(block := self.read(min(frames, most), dtype="float32", always_2d=True)):
            yield block
            frames -= len(block)


def _require_rate(rate: object) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or not 1 <= rate <= _MAX_RATE:
        raise AudioError(f"sample rate {rate!r}; expected a whole number of Hz, 1 … {_MAX_RATE}")


def _require_wanted(sample_rate: object, max_seconds: object) -> None:
    _require_rate(sample_rate)
    if max_seconds is None:
        return
    if not isinstance(max_seconds, (int, float, np.number)) or not 0 < max_seconds < 1e12:
        raise AudioError(f"max_seconds = {max_seconds!r}; expected a number > 0, or None for all")
