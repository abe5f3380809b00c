"""Decodes a recording from start to end with libsndfile: all of it that can be decoded, and what was missing.

The structure of the file is looked at first (`containers`). Where a FLAC stream is damaged, decoding goes on behind the
damaged frames, and silence stands for them, so that later times stay right.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO, TypeVar, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from panns_litert.audio.containers import (
    HEAD_BYTES,
    Part,
    Spliced,
    flac_block,
    flac_frames,
    flac_from,
    flac_whole,
    is_container,
    mpeg_after,
    mpeg_parts,
    parts_behind,
    parts_of,
    size_of,
)
from panns_litert.audio.media import Media, has_media, is_media
from panns_litert.audio.samples import LOUDEST, peak_of, require_plausible
from panns_litert.errors import AudioError, MissingDependencyError

BLOCK_SAMPLES = 1 << 20
"""Samples per read, all channels together: 4 MB."""

TOLERANCE = 0.05
"""Seconds that may be missing without a warning: codecs pad by up to this much."""

# The length that a streamed FLAC reports: libsndfile's SF_COUNT_MAX.
_UNKNOWN_FRAMES = 2**63 - 1
_LONGEST_FRAME = 1 << 16  # samples, FLAC
_FLAC_END = 1 << 18  # bytes at the end of a FLAC file that are searched for frames behind its stated length
_MPEG_END = 3 * 1152  # samples by which MPEG audio may be shorter than stated
_MOST_GAP = 3600.0  # seconds; a longer one is a wrong time
_MOST_WARNINGS = 20
# Formats and subtypes in which libsndfile finds every sample exactly.
_SEEKABLE = frozenset({"AIFF", "AU", "CAF", "FLAC", "RF64", "W64", "WAV", "WAVEX"})
_PLAIN = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
# TypeError: for a .raw file, which has no header, soundfile requires the format as arguments.
_FAILED = (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError)


class Decoder:
    """A recording that is decoded once, from start to end.

    Args:
        file: seekable binary file.
        path: path of this file, if it has one; libsndfile reads it by itself then, which is faster.

    Attributes:
        rate, channels: of the blocks now; they change where a file holds several streams.
        seconds: length that the file declares, or None if it declares none; after the last block, the length of the
            recording, at least of what was decoded.
        peak: of the last block, as for `MonoResampler.push`; None if it is not known.
        warnings: what was wrong or is missing, one phrase each; complete after the last block.

    Raises:
        AudioError: libsndfile does not read the file, or its header states an absurd rate.
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str] | None = None) -> None:
        self._file = file
        self._path = None if path is None else os.fspath(path) if os.name == "nt" else os.fsencode(path)
        self._parts = parts_of(file)
        self.warnings: list[str] = []
        self._decoded = Counter[int]()  # sample rate to number of samples
        self._silence = 0.0  # seconds of silence in place of what is missing
        self.peak: float | None = None
        self._failed = False  # whether libsndfile ended the last stream with an error
        self._skipped = 0  # frames in front of the first block
        head = self._head()
        try:
            self._sound: Sound | Media = self._open(self._parts[0])
            if self._sound.format == "MP3" and not is_container(head):  # it begins within a frame
                self._sound.close()
                self._parts = mpeg_parts(file)
                self._sound = self._open(self._parts[0])
        except _FAILED as error:
            try:
                self._parts, self._sound = self._otherwise(error)
            except MissingDependencyError as missing:
                raise AudioError(str(missing)) from missing
            except _FAILED as other:
                raise _unreadable(other if isinstance(other, AudioError) else error) from error
        self.rate, self.channels = self._sound.samplerate, self._sound.channels
        self.declared = self.seconds = self._declared()

    @property
    def decoded(self) -> float:
        """Seconds of sound that were decoded so far."""
        return sum(count / rate for rate, count in self._decoded.items())

    @property
    def _time(self) -> float:
        return self.decoded + self._silence

    def close(self) -> None:
        """Closes what this instance opened; not the file."""
        self._sound.close()

    def skip(self, frames: int) -> bool:
        """Skips frames at the start, before the first block is asked for. They count as decoded.

        Returns False, and skips nothing, if the place cannot be found exactly without decoding: in a lossy format, in
        a file of several streams, and in a damaged one.
        """
        sound, part = self._sound, self._parts[0]
        if not isinstance(sound, Sound) or sound.format not in _SEEKABLE or sound.subtype not in _PLAIN:
            return False
        if len(self._parts) > 1 or part.pieces is not None or part.lost or frames > sound.frames:
            return False
        if sound.format == "FLAC":
            at = self._file.tell()
            longer = next(flac_frames(self._file, max(0, size_of(self._file) - _FLAC_END), sound.frames), None)
            self._file.seek(at)
            if longer is not None:  # than the header states: `_flac` opens it again, at its start
                return False
        try:
            sound.seek(frames)
        except _FAILED:
            sound.close()
            self._sound = self._open(part)
            return False
        self._skipped = frames
        self._decoded[self.rate] += frames
        return True

    def blocks(self, *, most: int = BLOCK_SAMPLES) -> Iterator[NDArray[np.float32]]:
        """Yields blocks (n, channels), n ≥ 1, of at most `most` samples over all channels. A block is valid until the
        next one is asked for."""
        for number, part in enumerate(self._parts):
            if number:
                self._sound.close()
                try:
                    self._sound = self._open(part)
                except _FAILED as error:
                    self._warn(f"stream {number + 1} of {len(self._parts)} cannot be decoded ({error})")
                    continue
            self.rate, self.channels = self._sound.samplerate, self._sound.channels
            if (gap := self._gap(part, self._sound)) >= TOLERANCE / 2:
                self._warn(f"damaged at {self._time:.2f} s: {gap:.2f} s are missing")
                yield from self._nothing(round(gap * self.rate))
            begin = self._time
            if self._sound.format == "FLAC":
                yield from self._flac(part, most)
            elif self._sound.format == "MP3":
                yield from self._mpeg(part, most)
            else:
                yield from self._stream(self._sound, self._sound.blocks_of(most))
            for at, seconds in part.lost:
                if seconds >= TOLERANCE / 2:
                    self._warn(f"damaged at {begin + at:.2f} s: about {seconds:.2f} s are missing")
            if part.note:
                self._warn(part.note)
        self._conclude()

    def _open(self, part: Part) -> Sound:
        if part.pieces is not None:
            return Sound(Spliced(part.file or self._file, part.pieces))
        if self._path is not None:
            return Sound(self._path)
        self._file.seek(0)
        return Sound(self._file)

    def _head(self) -> bytes:
        self._file.seek(0)
        return self._file.read(HEAD_BYTES)

    def _otherwise(self, error: Exception) -> tuple[list[Part], Sound | Media]:
        """Returns the streams of a file that libsndfile does not open, if there are any, and the first one, opened."""
        head = self._head()
        if is_media(head):  # first: bytes in them may look like a frame of FLAC
            return [Part()], _checked(Media(self._file, unknown=_UNKNOWN_FRAMES))
        if (first := next(flac_frames(self._file, 0, 0), None)) is not None:  # FLAC with a damaged header
            return [Part(declared=None)], Sound(flac_from(self._file, first[0]))
        if is_container(head) and has_media():
            with contextlib.suppress(*_FAILED):  # then, libsndfile's message is the better one
                return [Part()], _checked(Media(self._file, unknown=_UNKNOWN_FRAMES))
        for parts in (parts_behind(self._file), mpeg_parts(self._file)):  # behind something else
            if parts and parts[0].pieces is not None:
                return parts, self._open(parts[0])
        raise error

    def _declared(self) -> float | None:
        total = 0.0
        for part in self._parts:
            with contextlib.ExitStack() as stack, contextlib.suppress(*_FAILED):
                first = part is self._parts[0]
                sound = self._sound if first else stack.enter_context(self._open(part))
                if part.declared is None or sound.frames == _UNKNOWN_FRAMES:
                    return None
                total += sound.frames / sound.samplerate * part.declared + self._gap(part, sound)
                total += 0.0 if part.stated else sum(lost for _, lost in part.lost)
        return total

    @staticmethod
    def _gap(part: Part, sound: Sound | Media) -> float:
        """Returns how many seconds are missing in front of a part."""
        if part.span is None or sound.frames == _UNKNOWN_FRAMES:
            return 0.0
        gap = part.span[1] - part.span[0] - sound.frames / sound.samplerate
        return gap if 0.0 < gap < _MOST_GAP else 0.0

    def _nothing(self, samples: int) -> Iterator[NDArray[np.float32]]:
        """Yields silence in place of what is missing."""
        self.peak = None
        for start in range(0, samples, BLOCK_SAMPLES):
            yield np.zeros((min(BLOCK_SAMPLES, samples - start), self.channels), np.float32)
        self._silence += samples / self.rate

    def _stream(
        self, sound: Sound | Media, blocks: Iterator[NDArray[np.float32]], skip: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        self._failed = False
        whole_numbers = isinstance(sound, Sound) and sound.subtype.startswith("PCM_")
        lossy = sound.format in ("MP3", "OGG")
        try:
            for block in blocks:
                block, skip = block[skip:], max(0, skip - len(block))
                if not len(block):
                    continue
                if isinstance(sound, Media) and sound.silent:
                    self._silence += len(block) / sound.samplerate
                else:
                    self._decoded[sound.samplerate] += len(block)
                self.peak = 1.0 if whole_numbers else None
                if lossy:
                    self.peak = peak_of(block)
                    if self.peak > LOUDEST:  # of damaged data
                        np.clip(block, -LOUDEST, LOUDEST, out=block)
                        self.peak = LOUDEST
                yield block
        except _FAILED as error:
            self._failed = True
            if sound.format not in ("FLAC", "MP3"):  # there, decoding goes on behind the damaged place
                self._warn(f"damaged at {self._time:.2f} s: not decoded from there ({error})")
        for place, seconds in sound.gaps if isinstance(sound, Media) else ():
            self._warn(f"damaged at {place:.2f} s: {seconds:.2f} s are missing")
        if isinstance(sound, Media) and sound.damaged:
            self._warn(f"{sound.damaged} damaged packets were left out ({sound.why})")

    def _flac(self, part: Part, most: int) -> Iterator[NDArray[np.float32]]:
        file = self._file
        if part.pieces is not None:
            file = cast(BinaryIO, Spliced(part.file or file, part.pieces))
        rate, channels, total, heard, place = self.rate, self.channels, self._sound.frames, self._skipped, 0
        at = file.tell()  # libsndfile is reading the same file
        longer = next(flac_frames(file, max(0, size_of(file) - _FLAC_END), total), None)
        begin = next(flac_frames(file, 0, 0), None) if longer and total else None
        file.seek(at)
        if begin is not None and begin[1] == 0:  # there is more than the header states
            self._sound.close()
            self._sound, total = Sound(flac_from(file, begin[0])), _UNKNOWN_FRAMES
        found: Iterator[NDArray[np.float32]] | None = cast(Sound, self._sound).blocks_of(most, rest=False)
        again, skip = True, 0  # whether the block with an error is decoded once more, from its first frame
        while found is not None:
            for block in self._stream(self._sound, found, skip):
                heard += len(block)
                yield block
            if heard == total:
                place = max(place, size_of(file) - _FLAC_END)
            found, skip, before = None, 0, None
            for position, number in flac_frames(file, place, max(0, heard - _LONGEST_FRAME)):
                if number < heard:
                    before = position, number
                    continue
                if self._failed and before is not None:
                    if again and flac_whole(file, before[0]):
                        (position, number), skip = before, heard - before[1]
                    elif not again:
                        self._mute(file, *before, heard)
                place, before, again = position, None, False
                if not flac_whole(file, position):
                    continue
                with contextlib.suppress(*_FAILED):
                    sound = Sound(flac_from(file, position))
                    if (sound.samplerate, sound.channels) != (rate, channels):
                        if heard:
                            continue
                        self.rate, self.channels = rate, channels = sound.samplerate, sound.channels
                    # one frame at a time, so that an error is known behind its frame
                    blocks = sound.blocks_of(min(most, flac_block(file) * channels))
                    if (begun := next(blocks, None)) is None:
                        continue
                    if number > heard:
                        self._warn(f"damaged at {self._time:.2f} s: {(number - heard) / rate:.2f} s are missing")
                    yield from self._nothing(max(0, number - heard))
                    heard, self._sound, found = number + skip, sound, chain([begun], blocks)
                    break
            if self._failed and not again and before is not None:
                self._mute(file, *before, heard)

    def _mute(self, file: BinaryIO, position: int, number: int, heard: int) -> None:
        """Takes the last frame before an error for silence if it is damaged: libFLAC decodes it to zeros."""
        if not flac_whole(file, position):
            seconds = (heard - number) / self.rate
            self._decoded[self.rate] -= heard - number
            self._silence += seconds
            self._warn(f"damaged at {self._time - seconds:.2f} s: {seconds:.2f} s are missing")

    def _mpeg(self, part: Part, most: int) -> Iterator[NDArray[np.float32]]:
        file, rest, heard = part.file or self._file, part, 0
        while True:
            before, total = heard, self._sound.frames
            for block in self._stream(self._sound, self._sound.blocks_of(most)):
                heard += len(block)
                yield block
            if heard - before >= total - _MPEG_END:
                return
            after = mpeg_after(file, rest.pieces, heard - before)
            if after is None:
                return
            try:
                self._sound, rest = self._open(Part(after.pieces, file=part.file)), after
            except _FAILED:
                return

    def _conclude(self) -> None:
        heard, declared = self.decoded, self.declared
        self.seconds = max(self._time, declared or 0.0)
        if declared is not None and declared - heard > TOLERANCE:
            self._warn(f"{heard:.2f} s of {declared:.2f} s could be decoded: the file is cut or damaged")
        elif declared is not None and heard - declared > TOLERANCE:
            self._warn(f"the header states {declared:.2f} s; {heard:.2f} s were found and decoded")

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(text)


def _unreadable(error: Exception) -> AudioError:
    if isinstance(error, AudioError):
        return error
    formats = ", ".join(sorted(set(soundfile.available_formats()) - {"RAW"}))
    return AudioError(f"not readable as audio ({getattr(error, 'error_string', error)}); expected one of {formats}")


_S = TypeVar("_S", "Sound", Media)


def _checked(sound: _S) -> _S:
    try:
        require_plausible(sound.samplerate)
    except AudioError:
        sound.close()
        raise
    return sound


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A stream that is read from start to end without seeking.

    soundfile seeks after every read, and to find out how much is left to read. libsndfile cannot seek in GSM 6.10,
    G.721, NMS ADPCM and DWVW, nor to the end of a FLAC of unknown length.

    Raises:
        AudioError: the header states an absurd rate.
    """

    def __init__(self, source: object) -> None:
        super().__init__(source)
        _checked(self)

    def seekable(self) -> bool:
        return False

    def blocks_of(self, most: int, *, rest: bool = True) -> Iterator[NDArray[np.float32]]:
        """Yields blocks (n, channels) of at most `most` samples over all channels, all of them in the same memory. What
        was decoded before an error is yielded before the error is raised, if `rest` is true."""
        frames = max(1, most // self.channels)
        block = np.empty((frames, self.channels), np.float32)
        while True:
            if rest:
                block.fill(np.nan)
            try:
                heard = self.buffer_read_into(block, dtype="float32")
            except _FAILED:
                if rest and not np.isnan(block[0, 0]):
                    yield block[: len(block) - np.isnan(block[::-1, 0]).argmin()]
                raise
            if not heard:
                return
            yield block[:heard]
