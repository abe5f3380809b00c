"""Reads audio files as mono float32 at the model's sample rate, at once or in blocks."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from panns_litert.audio.raw import STREAMED_SAMPLES
from panns_litert.audio.samples import MARGIN_SECONDS, Audio, MonoResampler, from_array, require_wanted
from panns_litert.errors import AudioError, PannsLitertError

# Samples per read, all channels together: 4 MB.
_BLOCK_SAMPLES = 1 << 20
# The length that a streamed FLAC reports: libsndfile's SF_COUNT_MAX.
_UNKNOWN_FRAMES = 2**63 - 1


def load_audio(path: str | os.PathLike[str], *, sample_rate: int, max_seconds: float | None = None) -> Audio:
    """Reads a file of any format, sample rate, channel count and subtype that libsndfile supports.

    Channels are averaged. soxr resamples with quality HQ.

    Args:
        path: the file.
        sample_rate: wanted sample rate, Hz, 1 … 2147483647.
        max_seconds: seconds to read from the start, at most, > 0; None for all.

    Raises:
        AudioError: the file is missing, unreadable or empty, or a sample is NaN or Inf.
    """
    require_wanted(sample_rate, max_seconds)
    with _opened(path) as file:
        rate, total = file.samplerate, file.frames
        wanted = _UNKNOWN_FRAMES if max_seconds is None else math.ceil((max_seconds + MARGIN_SECONDS) * rate)
        data = np.concatenate([np.empty((0, file.channels), np.float32), *file.blocks_of(wanted)])
        if total == _UNKNOWN_FRAMES:
            total = len(data) + sum(map(len, file.blocks_of(_UNKNOWN_FRAMES)))
    try:
        audio = from_array(data, rate, sample_rate=sample_rate, max_seconds=max_seconds)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    # The header may state a greater length than the file holds: after a read to the end, count what was read.
    read_all = len(data) < wanted
    return Audio(
        waveform=audio.waveform,
        sample_rate=sample_rate,
        seconds=len(data) / rate if read_all else max(total, len(data)) / rate,
    )


class AudioBlocks:
    """Reads a file in blocks, as mono float32 at the wanted rate. Memory use does not grow with the file's length.

    It is a context manager and an iterator of blocks (n,). The blocks joined together are the waveform of `load_audio`.

    Args:
        path: the file.
        sample_rate: wanted sample rate, Hz.

    Attributes:
        seconds: length of the recording according to its header, or None if the header gives none.

    Raises:
        AudioError: as for `load_audio`; for a sample that is NaN or Inf, when its block is read.

    >>> from panns_litert import demo_clips
    >>> with AudioBlocks(demo_clips()[0], sample_rate=32000) as blocks:
    ...     sum(map(len, blocks)) == round(32000 * blocks.seconds)
    True
    """

    def __init__(self, path: str | os.PathLike[str], *, sample_rate: int) -> None:
        require_wanted(sample_rate, None)
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
            for block in self._file.blocks_of(_UNKNOWN_FRAMES, most=STREAMED_SAMPLES):
                yield from self._checked(self._mono.push, block)
        yield from self._checked(self._mono.finish)

    def _checked(self, step: Callable[..., NDArray[np.float32]], *block: object) -> Iterator[NDArray[np.float32]]:
        try:
            samples = step(*block)
        except AudioError as error:
            raise AudioError(f"{self._path}: {error}") from error
        if len(samples):
            yield samples


AUDIO_SUFFIXES = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".snd"}
) - {".raw"}
"""Suffixes of the files in a folder that count as audio. `.raw` is left out: such a file does not state its format."""


def audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the audio files of a folder and its subfolders, chosen by their suffix and sorted by path.

    Raises:
        AudioError: the folder has no audio file.
    """
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    if not found:
        raise AudioError(f"{folder}: no audio file in this folder; expected some (.wav, .flac, .ogg, .mp3, …)")
    return found


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_Stream]:
    """Opens an audio file, or raises an `AudioError` that says why it cannot."""
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
    # TypeError: for a .raw file, which has no header, soundfile requires the format as arguments.
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError) as error:
        if isinstance(error, PannsLitertError):
            raise
        formats = ", ".join(sorted(set(soundfile.available_formats()) - {"RAW"}))
        raise AudioError(f"{path}: not readable as audio ({error}); expected one of {formats}") from error


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from start to end without seeking.

    soundfile seeks after every read, and to find out how much is left to read. libsndfile cannot seek in GSM 6.10,
    G.721, NMS ADPCM and DWVW, nor to the end of a FLAC of unknown length.
    """

    def seekable(self) -> bool:
        return False

    def blocks_of(self, frames: int, *, most: int = _BLOCK_SAMPLES) -> Iterator[NDArray[np.float32]]:
        """Yields at most `frames` frames in blocks (n, channels), each of at most `most` samples over all channels."""
        most = max(1, most // self.channels)
        while frames > 0 and len(block := self.read(min(frames, most), dtype="float32", always_2d=True)):
            yield block
            frames -= len(block)
