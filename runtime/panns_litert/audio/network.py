"""A network stream (HTTP, Icecast, HLS, RTSP, RTMP), decoded as it comes with PyAV (extra `media`)."""

from __future__ import annotations

import contextlib
import errno
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio.samples import require_plausible
from panns_litert.errors import AudioError, StreamError, importing
from panns_litert.strict import printable

NETWORK_SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps")
"""What the URL of a stream begins with."""

_LEAST_GAP, _MOST_GAP = 0.05, 60.0  # seconds that a stream's own times jump by where packets are missing


class StreamBlock(NamedTuple):
    """Sound of a stream: samples (n, channels) float32, their rate in Hz, and whether packets are missing before."""

    samples: NDArray[np.float32]
    rate: int
    gap: bool


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme.lower() in NETWORK_SCHEMES and bool(parts.hostname)
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        known = False
    if not known:  # the text itself may hold a password
        raise AudioError(f"not the URL of a stream; expected one that begins with {', '.join(NETWORK_SCHEMES)}://HOST")
    return parts


def plain_url(url: str) -> str:
    """Returns a URL for messages: without user, password and query, which may hold secrets.

    Raises:
        AudioError: it is no URL of `NETWORK_SCHEMES`.

    >>> plain_url("rtsp://me:secret@camera:554/front?token=1")
    'rtsp://camera:554/front'
    """
    parts = _parts_of(url)
    return printable(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


class NetworkStream:
    """An open stream: iterated over once, it yields `StreamBlock`s as they come.

    Certificates of https, rtsps and rtmps are checked: the file that the environment variable SSL_CERT_FILE names has
    one that no authority signed, such as a camera's.

    Args:
        url: of `NETWORK_SCHEMES`; user and password may be in it.
        timeout: seconds to wait for the connection, and for more data.

    Raises:
        MissingDependencyError: PyAV is not installed.
        StreamError: the stream cannot be opened, or breaks off; its messages hold no part of the URL.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._av = require_av()
        self._timeout = timeout
        # certificates of https and the like, also behind a redirection; and at most 1 s to find out the format
        options = {"tls_verify": "1", "analyzeduration": "1000000"}
        if authorities := ssl.get_default_verify_paths().cafile:
            options["ca_file"] = authorities
        if _parts_of(url).scheme.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        with self._failing("cannot be opened"):
            self._container: Any = self._av.open(
                url, timeout=(timeout, timeout), options=options, metadata_errors="replace"
            )
        try:
            self._require_stream()
        except BaseException:
            self.close()
            raise

    def _require_stream(self) -> None:
        container = self._container
        tracks = container.streams.audio
        if not tracks or not getattr(tracks[0], "rate", None) or not tracks[0].channels:
            raise StreamError("no sound in it; expected a stream of sound, or of video with sound", final=True)
        size = 0
        with contextlib.suppress(self._av.FFmpegError, ValueError, OverflowError):
            size = container.size
        if container.duration if container.format.name == "hls" else size > 0:
            raise StreamError("a recording, which has an end; expected a stream; download it for a file", final=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._container.close()

    def __iter__(self) -> Iterator[StreamBlock]:
        failed = (self._av.FFmpegError, ValueError)
        resampler, like, expected, gap = None, None, None, False
        with self._failing("broke off"):
            for packet in self._container.demux(self._container.streams.audio[0]):
                try:
                    frames = packet.decode()
                except failed:
                    gap = True
                    continue
                for frame in frames:
                    if like != (frame.format.name, frame.layout.name, frame.sample_rate):
                        like = frame.format.name, frame.layout.name, frame.sample_rate
                        require_plausible(frame.sample_rate)
                        resampler = self._av.AudioResampler(
                            format="flt", layout=frame.layout.name, rate=frame.sample_rate
                        )
                        expected = None
                    if frame.pts is not None and frame.time_base:
                        at = float(frame.pts * frame.time_base)
                        gap = gap or (expected is not None and _LEAST_GAP < at - expected < _MOST_GAP)
                        expected = at + frame.samples / frame.sample_rate
                    assert resampler is not None
                    for floats in resampler.resample(frame):
                        samples = np.asarray(floats.to_ndarray(), np.float32).reshape(-1, frame.layout.nb_channels)
                        if len(samples):
                            yield StreamBlock(samples, frame.sample_rate, gap)
                            gap = False
        raise StreamError("was ended by its server")

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Turns failures of FFmpeg, whose texts hold the URL, into errors that do not."""
        errors = self._av.error
        try:
            yield
        except errors.ExitError as error:
            raise StreamError(f"{what}: nothing came for {self._timeout:g} s") from error
        except (errors.HTTPUnauthorizedError, errors.HTTPForbiddenError) as error:
            text = f"{what}: user and password are refused; expected them in the URL, as in http://USER:PASSWORD@HOST"
            raise StreamError(text, final=True) from error
        except (errors.InvalidDataError, errors.ProtocolNotFoundError) as error:
            raise StreamError(f"{what}: no format that can be decoded ({error.strerror})", final=True) from error
        except (errors.FFmpegError, OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or type(error).__name__
            if getattr(error, "errno", None) == errno.EIO:  # FFmpeg's word for both
                text = "no connection: the host is not known, its certificate is refused, or the other side ended it"
            raise StreamError(f"{what}: {text[:1].lower()}{text[1:]}") from error


def require_av() -> Any:
    """Returns the module `av`.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    with importing("av", extra="media", purpose="network streams need"):
        import av
    return av
