"""Network streams as sources: real servers on this machine that break off, fall silent and come back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from reading import Reading, place_in, require_true_times, wait_for
from soxr import resample
from streamserver import RtspServer, StreamServer, icecast, need, on_air

from panns_litert.audio import load_audio, plain_url
from panns_litert.errors import AudioError, StreamError
from panns_litert.live import NetworkSource, network

RATE = 16000


@pytest.fixture(scope="module")
def sound(recording: Path) -> NDArray[np.float32]:
    """10 s of the demo recording at 16 kHz."""
    return load_audio(recording, sample_rate=RATE, max_seconds=10.0).waveform


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are connected again at least every second."""
    monkeypatch.setattr(network, "_MOST_WAIT", 1.0)


def test_a_stream_that_breaks_off_and_comes_back(sound: NDArray[np.float32]) -> None:
    with StreamServer(sound, RATE) as server:
        source = NetworkSource(server.url, RATE, timeout=2.0)
        assert (source.name, source.live) == (server.url, True)
        with Reading(source) as reading:
            wait_for(lambda: len(reading.heard()) > 2.5 * RATE)
            place, fit = place_in(sound, reading.heard()[:RATE])
            assert (place, fit > 0.999) == (0, True)
            server.on_air = False
            wait_for(lambda: reading.losses)  # told while it lasts
            ended = "no connection: the host is not known, its certificate is refused, or the other side ended it"
            assert reading.losses[0].why == f"the stream broke off: {ended}; not back yet"
            requests = server.requests
            wait_for(lambda: server.requests > requests)
            server.on_air = True
            before = len(reading.parts)
            wait_for(lambda: len(reading.heard(before)) > 1.5 * RATE)
            place, fit = place_in(sound, reading.heard(before)[RATE // 4 : RATE])
            assert (abs(place - RATE // 4) < 3, fit > 0.999) == (True, True)  # from its start again
            assert reading.losses[-1].why.endswith("; back now")
            require_true_times(reading.parts, RATE, within=0.5)
            losses = len(reading.losses)
            server.silent = True  # the connection stands
            wait_for(lambda: len(reading.losses) > losses)
            assert "nothing came for 2 s" in reading.losses[-1].why
            assert reading.losses[-1].seconds >= 1.0


def test_a_stream_from_icecast(sound: NDArray[np.float32], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    soundfile.write(tmp_path / "sound.wav", np.stack([sound, sound], 1), RATE)
    formats = {
        "live.ogg": ("-c:a", "libvorbis", "-b:a", "128k", "-f", "ogg", "-content_type", "application/ogg"),
        "live.mp3": ("-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3", "-content_type", "audio/mpeg"),
    }
    with icecast(tmp_path) as host:
        for mount, options in formats.items():
            with Reading(
                NetworkSource(f"http://{host}/{mount}", RATE, channel=1)
            ) as reading:  # before it is on the air
                with on_air(host, tmp_path / "sound.wav", mount, *options):
                    wait_for(lambda: len(reading.heard()) > 3 * RATE)
                    _, fit = place_in(np.tile(sound, 3), reading.heard()[RATE : 2 * RATE])
                    assert fit > 0.95
                with on_air(host, tmp_path / "sound.wav", mount, *options):
                    wait_for(lambda: reading.losses)
                    before = len(reading.parts)
                    wait_for(lambda: len(reading.heard(before)) > RATE)  # noqa: B023
                    assert reading.losses[0].why.startswith("the stream ")


def test_a_stream_of_rtsp_loses_packets(sound: NDArray[np.float32]) -> None:
    """FFmpeg's own client, and a server of this suite: no RTSP server runs here."""
    slow = resample(sound, RATE, 8000, quality="HQ")
    with RtspServer(slow) as server, Reading(NetworkSource(server.url, RATE)) as reading:
        wait_for(lambda: len(reading.heard()) > 1.5 * RATE)
        server.lost = 0.8
        wait_for(lambda: reading.losses)
        before = len(reading.parts)
        wait_for(lambda: len(reading.heard(before)) > RATE)
    heard = resample(slow, 8000, RATE, quality="HQ")
    first, fit = place_in(heard, reading.heard()[:RATE])
    assert (first < RATE, fit > 0.99) == (True, True)
    part = reading.heard(before)[RATE // 4 : RATE]
    place, fit = place_in(heard, part)
    assert fit > 0.99
    (loss,) = reading.losses
    assert loss.why == "data of the stream are missing"
    assert loss.seconds == pytest.approx(0.8, abs=0.1)
    require_true_times(reading.parts, RATE, within=0.15)
    at = len(reading.heard()) - len(reading.heard(before)) + RATE // 4  # what was heard until there
    assert place / RATE == pytest.approx((first + at) / RATE + loss.seconds, abs=0.1)


def test_secrets_of_a_url_are_nowhere(sound: NDArray[np.float32], capfd: pytest.CaptureFixture[str]) -> None:
    with StreamServer(sound, RATE) as server:
        server.login = "me:s3cret"
        url = f"http://me:s3cret@127.0.0.1:{server.port}/stream?key=t0ken"
        with Reading(NetworkSource(url, RATE)) as reading:
            wait_for(lambda: len(reading.heard()) > RATE)
            server.on_air = False
            wait_for(lambda: reading.losses)
        texts = [reading.source.name, reading.error, *(loss.why for loss in reading.losses)]
        with Reading(NetworkSource(url.replace("me:", "you:"), RATE)) as reading:
            wait_for(lambda: reading.error)
        assert "user and password are refused" in reading.error
        captured = capfd.readouterr()
        texts += [reading.error, captured.out, captured.err]
    assert not any(secret in text for text in texts for secret in ("s3cret", "t0ken", "me:", "you:"))
    assert plain_url("rtsp://a:b%40c@[::1]:554/cam/1?x=y#z") == "rtsp://[::1]:554/cam/1"


def test_certificates_are_checked(sound: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose certificate nobody signed is refused, unless SSL_CERT_FILE has it."""
    need("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with StreamServer(sound, RATE, certificate=certificate, key=key) as server:
        assert server.url.startswith("https://localhost:")
        with pytest.raises(StreamError, match="certificate is refused"):
            list(NetworkSource(server.url, RATE, patience=0.5))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Reading(NetworkSource(server.url, RATE)) as reading:
            wait_for(lambda: len(reading.heard()) > RATE // 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "no sound came within 1 s (cannot be opened: server returned 5XX Server Error reply); expected a"),
        ("page", "no sound came within 1 s (cannot be opened: "),
        ("file", "a recording, which has an end; expected a stream"),
    ],
)
def test_what_is_no_stream(sound: NDArray[np.float32], path: str, message: str) -> None:
    with StreamServer(sound, RATE) as server:
        url = f"http://127.0.0.1:{server.port}/{path}"
        with pytest.raises(StreamError) as error:
            list(NetworkSource(url, RATE, patience=1.0))
    assert str(error.value).startswith(f"{url}: ")
    assert message in str(error.value)


def test_nobody_answers() -> None:
    with pytest.raises(StreamError, match=r"no sound came within 0\.5 s \(cannot be opened: connection refused\)"):
        list(NetworkSource("rtsp://127.0.0.1:9/front", RATE, patience=0.5))


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "file:///etc/passwd", "http://h:port/", "camera", ""])
def test_no_url_of_a_stream(url: str) -> None:
    with pytest.raises(AudioError, match="not the URL of a stream; expected one that begins with http, "):
        NetworkSource(url, RATE)


@pytest.mark.parametrize(("name", "value"), [("timeout", 0), ("patience", float("nan")), ("timeout", True)])
def test_waits_that_are_out_of_range(name: str, value: float) -> None:
    with pytest.raises(AudioError, match=f"{name} = {value}; expected seconds, > 0"):
        NetworkSource("http://host/x", RATE, **{name: value})
