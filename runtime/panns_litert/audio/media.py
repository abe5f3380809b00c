"""Decodes what libsndfile does not read (AAC, M4A, MP4, WebM, WMA, AMR, …) with PyAV (extra `media`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from panns_litert.errors import AudioError, importing

MEDIA_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".aac", ".ac3", ".adts", ".alac", ".amr", ".ape", ".asf", ".avi", ".awb", ".dff", ".dsf", ".dts"}
    | {".eac3", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".oma", ".qcp"}
    | {".ra", ".rm", ".spx", ".tta", ".weba", ".webm", ".wma", ".wmv", ".wv"}
)
"""Suffixes of files that need the extra `media`, in lower case."""

# Formats whose length is only estimated from their bit rate.
_ESTIMATED = frozenset({"aac", "ac3", "amr", "amrnb", "amrwb", "dts", "eac3", "mp3", "mpegts"})
# Seconds without packets that become silence: shorter ones are rounding, longer ones are wrong times.
_LEAST_GAP, _MOST_GAP = 0.05, 3600.0
_MAGIC = (
    *(b"\x1aE\xdf\xa3", b"0&\xb2u", b"#!AMR", b"wvpk", b"MAC ", b"TTA", b".RMF", b"FLV", b"DSD ", b"FRM8", b"MPCK"),
    *(b"MP+", b"\x7f\xfe\x80\x01", b"ADIF", b"\0\0\x01\xba", b"#!SILK"),
)
_FRAMES = (b"\xff\xf1", b"\xff\xf9", b"\x0bw")  # of AAC and AC-3


def has_media() -> bool:
    """Returns whether the extra `media` is installed."""
    return importlib.util.find_spec("av") is not None


def is_media(head: bytes, *, frames: bool = True) -> bool:
    """Returns whether a file that begins with these bytes is one for PyAV.

    Args:
        head: the first bytes.
        frames: whether to recognise AAC and AC-3 that begin with a frame: two bytes of raw samples look the same.
    """
    known = head.startswith(_MAGIC) or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
    return known or (frames and head.startswith(_FRAMES))


class Media:
    """The first sound track of a file, in the shape of `decoder.Sound`.

    Attributes:
        samplerate, channels: of the track.
        frames: length that the file states, samples; `unknown` if it states none.
        format: "MEDIA".
        gaps: where packets were missing so far, and for how long, in seconds.
        damaged, why: number of damaged packets so far, and the last reason.
        silent: whether the block that was yielded last stands for missing packets.

    Raises:
        MissingDependencyError: PyAV is not installed.
        AudioError: PyAV does not read the file, or it has no sound track.
    """

    format = "MEDIA"

    def __init__(self, file: BinaryIO, *, unknown: int) -> None:
        with importing("av", extra="media", purpose="AAC, M4A, MP4, WebM, WMA and AMR files need"):
            import av
        self._failed: Any = (av.FFmpegError, ValueError, EOFError)
        file.seek(0)
        try:
            opened: Any = av.open(file, metadata_errors="replace")
        except self._failed as error:
            raise AudioError(f"not readable as audio ({error}); expected a whole audio or video file") from error
        self.gaps: list[tuple[float, float]] = []
        self._container, self.damaged, self.why, self.silent = opened, 0, "", False
        tracks = opened.streams.audio
        # PyAV has no rate for a codec that it does not know, and no channels where a header states too many
        if not tracks or not getattr(tracks[0], "rate", None) or not tracks[0].channels:
            self._container.close()
            raise AudioError("no sound track that can be decoded; expected audio")
        self._track = tracks[0]
        self.samplerate, self.channels = int(self._track.rate), int(self._track.channels)
        self._av, self._layout = av, self._track.layout.name
        self._like: tuple[str, str, int] | None = None
        self._resampler = self._new_resampler()
        seconds: float | None = None
        if self._container.format.name not in _ESTIMATED:
            if self._track.duration and self._track.time_base:
                seconds = float(self._track.duration * self._track.time_base)
            elif self._container.duration:
                begin = self._container.start_time or 0 if "matroska" in self._container.format.name else 0
                seconds = (self._container.duration - begin) / av.time_base  # Matroska states the end
        self.frames = unknown if seconds is None else round(seconds * self.samplerate)

    def close(self) -> None:
        """Closes the file's reader."""
        self._container.close()

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blocks_of(self, most: int) -> Iterator[NDArray[np.float32]]:
        """Yields blocks (n, channels). Damaged packets are left out; silence stands for packets that are missing."""
        done, step, origin = 0, max(1, most // self.channels), None
        try:
            for packet in self._container.demux(self._track):
                try:
                    frames = packet.decode()
                except self._failed as error:
                    self.damaged, self.why = self.damaged + 1, str(error)
                    continue
                for frame in frames:
                    if frame.pts is not None and frame.time_base and frame.sample_rate == self.samplerate:
                        time = round(frame.pts * frame.time_base * self.samplerate)
                        origin = time - done if origin is None else origin  # a recording need not begin at 0
                        gap = time - origin - done
                        if _LEAST_GAP < gap / self.samplerate < _MOST_GAP:
                            self.silent = True
                            self.gaps.append((done / self.samplerate, gap / self.samplerate))
                            for start in range(0, gap, step):
                                yield np.zeros((min(step, gap - start), self.channels), np.float32)
                            self.silent, done = False, done + gap
                    for block in self._floats(frame):
                        done += len(block)
                        yield block
            yield from self._rest()
        except self._failed as error:
            self.damaged, self.why = self.damaged + 1, str(error)

    def _new_resampler(self) -> Any:
        return self._av.AudioResampler(format="flt", layout=self._layout, rate=self.samplerate)

    def _rest(self) -> Iterator[NDArray[np.float32]]:
        yield from self._arrays(self._resampler.resample(None))
        self._resampler = self._new_resampler()

    def _floats(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        """Yields the samples of a frame. Where the rate or the channels of a track change, the first ones are kept."""
        like = frame.format.name, frame.layout.name, frame.sample_rate
        if self._like not in (None, like):
            yield from self._rest()
        self._like = like
        yield from self._arrays(self._resampler.resample(frame))

    def _arrays(self, found: list[Any]) -> Iterator[NDArray[np.float32]]:
        for floats in found:
            yield np.asarray(floats.to_ndarray(), np.float32).reshape(-1, self.channels)
