"""Checkpoints: downloads, failed downloads, hashes, and files that are not a valid checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import damaged, rehash
from torch import Tensor, nn

from panns_litert.bundle import Bundle, cache_dir
from panns_litert.cli import main
from panns_litert.errors import CheckpointError, DownloadError, ModelError, PannsLitertError
from panns_litert.frontend import PANNS_32K, mel_basis
from panns_litert_convert import checkpoints
from panns_litert_convert.checkpoints import (
    check_hash,
    checkpoint_path,
    fetch,
    is_official,
    load_weights,
    model_for,
    model_of,
    save_own,
    weights_file,
    weights_sha256,
    with_classes,
)
from panns_litert_convert.convert import convert, verify
from panns_litert_convert.networks import Cnn14
from panns_litert_convert.zoo import MODELS, Checkpoint, Model, asset, find

# Small enough to try hundreds of files.
SMALL_MODEL = replace(
    find("demo"),
    name="small",
    options={"channels": (2, 2, 2, 2, 2, 4)},
    checkpoint=Checkpoint(file="small.pth", url=None, licence="none", attribution="none"),
)


def small_state() -> dict[str, Tensor]:
    """Weights that differ from the initial ones of a network."""
    torch.manual_seed(5)
    return {
        key: torch.rand_like(tensor) + 0.5 if tensor.is_floating_point() else tensor + 3
        for key, tensor in SMALL_MODEL.build().state_dict().items()
    }


def as_pth(data: object) -> bytes:
    file = io.BytesIO()
    torch.save(data, file)
    return file.getvalue()


# A checkpoint, since one of unknown hash is loaded before it is kept. With the padding it has many chunks.
BODY = as_pth({"model": small_state(), "padding": torch.zeros(25_000)})


class Server(ThreadingHTTPServer):
    """A file server with the answers that a test sets: one for each request, the last one for all that follow."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = [send(BODY)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        answer = server.answers[min(len(server.requests), len(server.answers) - 1)]
        server.requests.append(self.path)
        answer(self)

    def log_message(self, *_: object) -> None:
        pass


def send(body: bytes, *, promised: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer with this body. Its Content-Length is `promised`, which may be more than the body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if promised is None else promised))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def stall(handler: BaseHTTPRequestHandler) -> None:
    """Send half of the body, then nothing for 30 s."""
    send(BODY[: len(BODY) // 2], promised=len(BODY))(handler)
    handler.wfile.flush()
    time.sleep(30)


def refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of one test. Proxies are switched off for the local server."""
    monkeypatch.setenv("PANNS_LITERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt per download, to save the waiting time of retries. Retries have tests of their own."""
    monkeypatch.setattr(checkpoints, "_RETRIES", 0)


def record(url: str | None, body: bytes = BODY, **changes: object) -> Model:
    """A model whose checkpoint is this body at this URL, with its hashes and size; `changes` replace those."""
    known = {"sha256": hashlib.sha256(body).hexdigest(), "md5": hashlib.md5(body).hexdigest(), "bytes": len(body)}
    known |= changes
    checkpoint = Checkpoint(file="weights.pth", url=url, licence="none", attribution="none", **known)  # type: ignore[arg-type]
    return replace(SMALL_MODEL, checkpoint=checkpoint)


def files(folder: Path) -> list[str]:
    """Returns the files of a cache, without the empty files of the locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(str(path.relative_to(folder)) for path in found)


def fetch_fails(model: Model, *words: str) -> str:
    """Check that `fetch` raises a DownloadError with these words, and return its message."""
    with pytest.raises(DownloadError) as caught:
        fetch(model)
    message = str(caught.value)
    for word in ("weights.pth", *words):
        assert word in message
    assert isinstance(caught.value, OSError)  # can be caught as the built-in type, too
    return message


# --- fetch ------------------------------------------------------------------------------------------


def test_fetch_downloads_once(server: Server, folder: Path) -> None:
    model = record(server.url)
    path = fetch(model)
    assert path == checkpoint_path(model.checkpoint) == folder / "checkpoints" / "weights.pth"
    assert path.read_bytes() == BODY
    assert fetch(model) == path
    assert server.requests == ["/weights.pth"]
    assert files(folder) == ["checkpoints/weights.pth"]


def test_fetch_shows_progress_on_stderr_only_when_asked(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(record(server.url), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err
    checkpoint_path(record(server.url).checkpoint).unlink()
    fetch(record(server.url))
    assert "%" not in capfd.readouterr().err


def test_cache_variable_moves_the_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(record(server.url))
    monkeypatch.setenv("PANNS_LITERT_CACHE", str(tmp_path / "elsewhere"))
    assert cache_dir() == tmp_path / "elsewhere"
    assert fetch(record(server.url)) == tmp_path / "elsewhere" / "checkpoints" / "weights.pth"
    assert len(server.requests) == 2


@pytest.mark.parametrize("known", ["sha256", "md5"])
@pytest.mark.parametrize("damage", ["one bit", "truncated", "empty"])
def test_hash_is_checked_at_every_load(server: Server, known: str, damage: str) -> None:
    other = {"sha256": "md5", "md5": "sha256"}[known]
    model = record(server.url, bytes=None, **{other: None})
    path = fetch(model)
    data = {"one bit": bytes([BODY[0] ^ 1]) + BODY[1:], "truncated": BODY[:-1], "empty": b""}[damage]
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="delete it and fetch it again") as caught:
        fetch(model)
    assert str(path) in str(caught.value)
    assert not is_official(path, model.checkpoint)
    assert len(server.requests) == 1  # the damage is reported; the file is not silently replaced


def test_a_file_of_the_wrong_size_is_named(server: Server) -> None:
    model = record(server.url)
    fetch(model).write_bytes(BODY[:-7])
    with pytest.raises(CheckpointError, match=f"{len(BODY) - 7} bytes; expected {len(BODY)}"):
        fetch(model)


def test_a_checkpoint_that_ships_with_the_package_is_checked_too() -> None:
    missing = replace(find("demo").checkpoint, file="no_such_checkpoint.safetensors", sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"no_such_checkpoint.*install the package again"):
        fetch(replace(find("demo"), checkpoint=missing))


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("known", ["sha256", "md5"])
def test_a_server_that_sends_another_file(server: Server, folder: Path, known: str) -> None:
    other = {"sha256": "md5", "md5": "sha256"}[known]
    server.answers = [send(BODY[::-1])]
    fetch_fails(record(server.url, **{other: None}), server.url, "wrong hash", "nothing was kept", "try again later")
    assert files(folder) == []


@pytest.mark.usefixtures("once")
def test_a_file_of_unknown_hash_and_the_wrong_size_is_refused(server: Server, folder: Path) -> None:
    server.answers = [send(b"<html>please log in</html>")]
    fetch_fails(record(server.url, sha256=None, md5=None), "wrong hash or size")
    assert files(folder) == []


def test_a_truncated_download_is_tried_again_then_given_up(server: Server, folder: Path) -> None:
    server.answers = [send(BODY[:5000], promised=len(BODY))]
    message = fetch_fails(record(server.url), server.url, "--checkpoint PATH")
    assert "5000" in message  # bytes received
    assert len(server.requests) == 1 + checkpoints._RETRIES == 3
    assert files(folder) == []


def test_a_download_that_breaks_off_once_is_clean_after_the_retry(server: Server, folder: Path) -> None:
    server.answers = [send(BODY[:5000], promised=len(BODY)), send(BODY)]
    assert fetch(record(server.url)).read_bytes() == BODY
    assert len(server.requests) == 2
    assert files(folder) == ["checkpoints/weights.pth"]


@pytest.mark.usefixtures("once")
def test_a_truncated_download_of_unknown_hash_is_refused(server: Server, folder: Path) -> None:
    server.answers = [send(BODY[:5000], promised=len(BODY))]
    fetch_fails(record(server.url, sha256=None, md5=None, bytes=None))
    assert files(folder) == []


OTHERS = {
    "empty": b"",
    "a page of a network that wants a login": b"<!DOCTYPE html><html><body>Please log in</body></html>" * 200,
    "a JSON error": b'{"error": "rate limit"}',
    "another network": as_pth({"model": {"fc.weight": torch.zeros(3, 3)}}),
    "other shapes": as_pth({"model": small_state() | {"fc1.weight": torch.zeros(2, 2)}}),
    "NaN": as_pth({"model": small_state() | {"fc1.bias": torch.full((4,), float("nan"))}}),
    "quantized": as_pth({"model": {key: tensor.to(torch.int8) for key, tensor in small_state().items()}}),
    "cut": BODY[:-2000],
}


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_checkpoint_of_the_network_is_never_recorded(server: Server, folder: Path, name: str) -> None:
    """Without a known hash, the content itself is checked."""
    server.answers = [send(OTHERS[name]), send(BODY)]
    model = record(server.url, sha256=None, md5=None, bytes=None)
    message = fetch_fails(model, server.url, "no Cnn14 (narrow): ", "nothing was kept", "log in first")
    assert "\n" not in message
    assert ".part" not in message
    assert files(folder) == []
    assert fetch(model).read_bytes() == BODY


@pytest.mark.usefixtures("once")
def test_not_found(server: Server, folder: Path) -> None:
    server.answers = [refuse]
    fetch_fails(record(server.url), "404", "--checkpoint PATH")
    assert files(folder) == []


@pytest.mark.usefixtures("once")
def test_connection_refused(folder: Path) -> None:
    closed = Server()
    closed.server_close()
    fetch_fails(record(closed.url), "refused", "check the network")
    assert files(folder) == []


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid/weights.pth", "http://", "ftp://127.0.0.1/weights.pth", "weights.pth"]
)
def test_no_such_host_and_no_such_address(folder: Path, url: str) -> None:
    fetch_fails(record(url), "cannot download", "check the network")
    assert files(folder) == []


def test_disk_too_small_is_said_before_the_download(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(BODY) - 1))
    message = fetch_fails(record(server.url), "free some space", "PANNS_LITERT_CACHE")
    assert message.count("cannot store") == 1
    assert server.requests == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(BODY)))
    fetch(record(server.url))


CHILD = """
import resource, sys
from dataclasses import replace
from panns_litert.errors import PannsLitertError
from panns_litert_convert.checkpoints import fetch
from panns_litert_convert.zoo import Checkpoint, find
url, sha256, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # a write beyond it fails, as on a full disk
checkpoint = Checkpoint(file="weights.pth", url=url, licence="none", attribution="none", sha256=sha256 or None)
small = replace(find("demo"), options={"channels": (2, 2, 2, 2, 2, 4)}, checkpoint=checkpoint)
try:
    print(fetch(small))
except PannsLitertError as error:
    print(f"{type(error).__name__}: {error}")
"""


def child(url: str, *, limit: int = 0, sha256: str | None = None) -> subprocess.Popen[str]:
    """Fetch the same checkpoint in another process.

    Args:
        url: of the file.
        limit: largest file that the process may write, bytes; 0 for no limit.
        sha256: the known hash; that of BODY if None, unknown if empty.
    """
    known = hashlib.sha256(BODY).hexdigest() if sha256 is None else sha256
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, known, str(limit)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_write_that_fails_leaves_nothing(server: Server, folder: Path) -> None:
    out, err = child(server.url, limit=20_000).communicate(timeout=60)
    assert out.startswith("DownloadError: cannot store weights.pth"), err
    assert "free some space or point PANNS_LITERT_CACHE elsewhere" in out
    assert "Traceback" not in err
    assert files(folder) == []
    assert server.requests == ["/weights.pth"]  # no retry: it would not help


def test_two_processes_and_a_killed_one(server: Server, folder: Path) -> None:
    """Three processes fetch the same file and one is killed. The file that appears is complete."""
    server.answers = [stall, send(BODY)]
    killed = child(server.url)
    while not (folder / "checkpoints").is_dir() or not server.requests:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    others = [child(server.url, sha256="") for _ in range(2)]  # unknown hash: the harder case
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    path = folder / "checkpoints" / "weights.pth"
    for process in others:
        out, err = process.communicate(timeout=60)
        assert out.strip() == str(path), err
    assert path.read_bytes() == BODY
    assert (folder / "checkpoints" / "weights.pth.sha256").read_text().strip() == hashlib.sha256(BODY).hexdigest()


def test_an_interrupted_download_leaves_nothing(server: Server, folder: Path) -> None:
    server.answers = [stall]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url, "", "0"], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's jobs may ignore it
    )  # fmt: skip
    while not server.requests or not files(folder):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [".weights.pth.lock"]


@pytest.mark.parametrize("known", [True, False])
def test_threads_that_fetch_at_once_get_the_same_file(server: Server, folder: Path, known: bool) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        send(BODY)(handler)

    server.answers = [slowly]
    model = record(server.url) if known else record(server.url, sha256=None, md5=None, bytes=None)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch(model), range(4)))
    assert len(server.requests) == 1  # the others wait for that one
    assert [path.read_bytes() for path in paths] == [BODY]
    assert files(folder) == ["checkpoints/weights.pth"] + ["checkpoints/weights.pth.sha256"] * (not known)


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("obstacle", ["cache", "cache/checkpoints", "a folder as the file"])
def test_a_cache_that_cannot_be_written(server: Server, folder: Path, tmp_path: Path, obstacle: str) -> None:
    if obstacle.startswith("cache"):
        (tmp_path / obstacle).parent.mkdir(exist_ok=True)
        (tmp_path / obstacle).write_text("in the way")
    else:
        (folder / "checkpoints" / "weights.pth").mkdir(parents=True)
    fetch_fails(record(server.url), "cannot store", "PANNS_LITERT_CACHE")
    assert server.requests == []


def test_unknown_hash_is_recorded_then_enforced(server: Server, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = record(server.url, sha256=None, md5=None, bytes=None)
    with caplog.at_level(logging.WARNING):
        path = fetch(model)
    assert "no published hash is known" in caplog.text
    kept = folder / "checkpoints" / "weights.pth.sha256"
    assert kept.read_text() == hashlib.sha256(BODY).hexdigest() + "\n"
    caplog.clear()
    assert fetch(model) == path
    assert caplog.text == ""
    assert is_official(path, model.checkpoint)

    path.write_bytes(BODY[:-1])
    with pytest.raises(CheckpointError, match=r"weights\.pth was altered"):
        fetch(model)
    path.write_bytes(BODY)
    fetch(model)
    for broken in (b"", b"\xff\xfe\x00garbage"):
        kept.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"weights\.pth was altered"):
            fetch(model)
    kept.unlink()
    with pytest.raises(CheckpointError, match="never recorded; delete it and fetch it again"):
        fetch(model)
    path.unlink()
    assert fetch(model) == path  # the advice in the message works
    assert len(server.requests) == 2


def test_check_hash_prefers_sha256_to_md5(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(BODY)
    check_hash(path, record("x", md5="0" * 32).checkpoint)
    with pytest.raises(CheckpointError, match="altered"):
        check_hash(path, record("x", sha256="0" * 64).checkpoint)


# --- load_weights: the full-size network --------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> nn.Module:
    """A full-size Cnn14 with zeros for weights, so that a test sees which of them were loaded."""
    return zeroed(Cnn14())


def zeroed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    return network


def test_the_published_layout_loads(full: nn.Module, official_pth: Path, official_state: dict[str, Tensor]) -> None:
    zeroed(full)
    load_weights(full, official_pth, find("cnn14"))
    state = full.state_dict()
    assert set(official_state) - set(state) == checkpoints._FRONT_END_KEYS
    for key, tensor in state.items():
        assert torch.equal(tensor, official_state[key]), key


@pytest.mark.parametrize("layout", ["bare .pth", "legacy .pth", ".safetensors"])
def test_other_layouts_load(full: nn.Module, official_state: dict[str, Tensor], tmp_path: Path, layout: str) -> None:
    zeroed(full)
    path = tmp_path / ("weights.safetensors" if layout == ".safetensors" else "weights.pth")
    if layout == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in official_state.items()}, path)
    else:
        data = official_state if layout == "bare .pth" else {"iteration": 7, "model": official_state}
        torch.save(data, path, _use_new_zipfile_serialization=layout != "legacy .pth")
    load_weights(full, str(path), find("cnn14"))
    for key, tensor in full.state_dict().items():
        assert torch.equal(tensor, official_state[key]), key
    path.unlink()  # 320 MB each


def test_a_published_file_that_breaks_off(full: nn.Module, official_pth: Path, tmp_path: Path) -> None:
    """The published name and size. The small network below is cut at many more places."""
    zeroed(full)
    data = official_pth.read_bytes()
    for part in (0.001, 0.5, 0.9999):
        path = tmp_path / "Cnn14_mAP=0.431.pth"
        path.write_bytes(data[: int(part * len(data))])
        with pytest.raises(CheckpointError, match=r"truncated or not a checkpoint.*327428481; fetch it again"):
            load_weights(full, path, find("cnn14"))
    path.unlink()
    assert not any(tensor.any() for tensor in full.state_dict().values())


def test_another_networks_weights_are_named(official_pth: Path) -> None:
    with pytest.raises(CheckpointError, match=r"shapes: .* instead of .*it looks like cnn14: convert that"):
        load_weights(find("demo").build(), official_pth, find("demo"))


# --- load_weights: a small network, so that many files can be tried -------------------------------------


def refused(path: Path, *words: str) -> str:
    """Check that loading raises a CheckpointError with these words and leaves the network unchanged.

    Returns:
        The error's message.
    """
    network = SMALL_MODEL.build()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(PannsLitertError) as caught:
        load_weights(network, path, SMALL_MODEL)
    assert type(caught.value) is CheckpointError
    message = str(caught.value)
    for word in (str(path), *words):
        assert word in message
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    return message


def saved(path: Path, data: object, **options: object) -> Path:
    torch.save(data, path, **options)  # type: ignore[arg-type]
    return path


def test_counters_may_be_missing_and_precision_may_differ(tmp_path: Path) -> None:
    """PyTorch before 0.4.1 had no num_batches_tracked. Fine-tuned weights may be float64 parameters."""
    network = SMALL_MODEL.build()
    state = {key: nn.Parameter(tensor.double()) for key, tensor in small_state().items() if tensor.is_floating_point()}
    load_weights(network, saved(tmp_path / "w.pth", {"model": state}), SMALL_MODEL)
    for key, tensor in state.items():
        assert torch.equal(network.state_dict()[key], tensor.float())


@pytest.mark.parametrize("suffix", [".pth", ".legacy.pth", ".safetensors"])
def test_truncated_anywhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"small{suffix}"
    if suffix == ".safetensors":
        save_file(small_state(), path)
    else:
        saved(path, {"model": small_state()}, _use_new_zipfile_serialization="legacy" not in suffix)
    data = path.read_bytes()
    cuts = {0, 1, 2, 7, 8, 9, 100, *range(0, len(data), len(data) // 24), len(data) - 1}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        refused(path, "not a checkpoint")
    path.write_bytes(data)
    load_weights(SMALL_MODEL.build(), path, SMALL_MODEL)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}q\x00", b"\x10\0\0\0\0\0\0\0{", b"\xff" * 8]),
    suffix=st.sampled_from([".pth", ".pt", ".safetensors", ""]),
)
def test_random_bytes(tmp_path: Path, data: bytes, head: bytes, suffix: str) -> None:
    path = tmp_path / f"random{suffix}"
    path.write_bytes(head + data)
    refused(path)


@pytest.mark.filterwarnings("ignore")  # torch warns about damaged files
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), legacy=st.booleans())
def test_a_flipped_byte_is_one_error_or_a_valid_file(tmp_path: Path, position: float, value: int, legacy: bool) -> None:
    """The hash of a user's own file is not known, so a changed weight may pass. All other damage is an error."""
    path = saved(tmp_path / "small.pth", small_state(), _use_new_zipfile_serialization=not legacy)
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= value
    path.write_bytes(data)
    network = SMALL_MODEL.build()
    try:
        load_weights(network, path, SMALL_MODEL)
    except CheckpointError as error:
        assert str(path) in str(error)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


METADATA = {
    "a list": "[]",
    "a text": '"cnn14"',
    "null": "null",
    "no JSON": "{",
    "NaN": '{"base": "small", "labels": NaN}',
    "digits": '{"base": ' + "1" * 5000 + "}",
    "depth": "[" * 100_000,
    "a name twice": '{"base": "small", "base": "cnn14"}',
    "a number as base": '{"base": 1}',
    "another base": '{"base": "cnn6"}',
    "no labels": '{"base": "small"}',
    "one label": '{"base": "small", "labels": ["Dog"]}',
    "labels that are a text": '{"base": "small", "labels": "Dog"}',
    "labels that are numbers": '{"base": "small", "labels": [1, 2]}',
    "a label twice": '{"base": "small", "labels": ["Dog", "Dog"]}',
    "an empty label": '{"base": "small", "labels": ["Dog", ""]}',
    "a line break": '{"base": "small", "labels": ["Dog", "Cat\\nBird"]}',
    "a tab": '{"base": "small", "labels": ["Dog", "Cat\\tBird"]}',
    "an escape": '{"base": "small", "labels": ["Dog", "\\u001b[31mCat"]}',
    "a surrogate": '{"base": "small", "labels": ["Dog", "\\ud800"]}',
    "text that runs backwards": '{"base": "small", "labels": ["Dog", "\\u202eCat"]}',
}


@pytest.mark.parametrize("name", METADATA)
def test_facts_of_a_fine_tuned_checkpoint_are_checked(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file(small_state(), path, {"panns_litert": METADATA[name]})
    for given_ in (path, tmp_path):  # the file, or the folder of a hub with it
        with pytest.raises(CheckpointError) as caught:
            model_of(SMALL_MODEL, given_)
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 400 + len(str(path))


def test_facts_are_read_and_other_metadata_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for facts in ({"format": "pt"}, {"panns_litert": json.dumps({"model": "a demo", "labels": ["one"]})}, None):
        save_file(small_state(), path, facts)
        assert model_of(SMALL_MODEL, path) == SMALL_MODEL
    save_file(small_state(), path, {"panns_litert": json.dumps({"base": "small", "labels": ["Dog", "=Cat, Katze"]})})
    assert model_of(SMALL_MODEL, path).own_classes == ("Dog", "=Cat, Katze")


def test_invalid_class_names_are_never_written(tmp_path: Path) -> None:
    for labels in (["Dog", "Dog"], ["Dog", "Cat\n"], ["Dog"]):
        with pytest.raises(CheckpointError):
            save_own(SMALL_MODEL.build(), tmp_path / "own.safetensors", model=SMALL_MODEL, classes=labels)
    assert list(tmp_path.iterdir()) == []


# --- class names of checkpoints from elsewhere ----------------------------------------------------------


def five_classes(folder: Path) -> Path:
    """A hub's folder with the demo network for five classes."""
    network = with_classes(find("demo"), FIVE).build()
    trained = load_file(asset("demo_checkpoint.safetensors"))
    network.load_state_dict({key: t for key, t in trained.items() if "fc_audioset" not in key}, strict=False)
    torch.manual_seed(2)
    for parameter in network.fc_audioset.parameters():
        nn.init.normal_(parameter, std=0.1)
    folder.mkdir()
    save_file(
        {f"model.{key}": tensor.contiguous() for key, tensor in network.state_dict().items()}, folder / MODEL_FILE
    )
    return folder


FIVE, MODEL_FILE = ("Hund", "Katze, miau", "=Regen", "Wind", "犬"), "model.safetensors"


def test_other_classes_from_a_file_end_in_the_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, names = five_classes(tmp_path / "hub"), tmp_path / "names.txt"
    names.write_text("\n".join(FIVE) + "\n", encoding="utf-8-sig")
    weights, out = str(folder / MODEL_FILE), str(tmp_path / "bundle")
    arguments = ["convert", "demo", "--checkpoint", weights, "--seconds", "1", "--out", out]
    assert main(arguments) == 2
    assert (
        "its last layer has 5 outputs, not 22; expected the names of its classes: pass --classes FILE to convert"
        in (capsys.readouterr().err)
    )
    assert main([*arguments, "--classes", str(names)]) == 0
    bundle = Bundle(out)
    assert bundle.labels == FIVE
    assert bundle.file("labels").read_text(encoding="utf-8").splitlines() == list(FIVE)
    assert bundle.manifest.outputs[0].shape == (1, 5)
    assert "5 classes" in bundle.manifest.description
    assert "5 classes" in bundle.file("model_card").read_text(encoding="utf-8")
    assert main(["verify", out, "--checkpoint", weights]) == 0
    bundle.file("labels").write_text("\n".join(FIVE[:4]) + "\n", encoding="utf-8")
    rehash(bundle.path, bundle.file("labels").name)
    assert main(["verify", out, "--checkpoint", weights]) == 2


def test_id2label_in_any_order(tmp_path: Path) -> None:
    folder = five_classes(tmp_path / "hub")
    names = {str(i): FIVE[i] for i in (3, 0, 4, 1, 2)}
    (folder / "config.json").write_text(json.dumps({"id2label": names}), encoding="utf-8")
    for given_ in (folder, folder / MODEL_FILE):
        assert model_for(find("demo"), given_).class_names() == FIVE
        assert model_for(find("demo"), given_, FIVE).class_names() == FIVE
    bundle = convert("demo", checkpoint=folder, seconds=1.0, out=tmp_path / "bundle")
    assert bundle.labels == FIVE
    assert all(check.passed for check in verify(bundle, checkpoint=folder))
    with pytest.raises(CheckpointError, match="name 1 is 'Dog'; expected 'Hund', as the checkpoint says"):
        model_for(find("demo"), folder, ["Dog", *FIVE[1:]])
    shutil.copy(folder / MODEL_FILE, folder / "mine.safetensors")  # the hub's config.json is of the hub's files
    assert model_for(find("demo"), folder / "mine.safetensors") is find("demo")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"0": "a", "2": "b"}, "expected a name for every output"),
        ({"0": "a", "1": "b", "01": "c"}, "expected a name for every output"),
        ({"LABEL_0": 0}, "expected a name for every output"),
        (["a", "b"], "expected a name for every output"),
        ({"0": "a", "1": "a"}, "on line 1, too"),
        ({"0": "a", "1": "\u202eb"}, "holds the character U\\+202E"),
        ({"0": "a", "1": 5}, "is no text"),
    ],
)
def test_id2label_is_checked(names: object, message: str, tmp_path: Path) -> None:
    save_file(small_state(), tmp_path / MODEL_FILE)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        model_for(SMALL_MODEL, tmp_path)


def test_class_names_that_name_nothing(tmp_path: Path) -> None:
    """Placeholders of transformers, and the model's own names, leave the record as it is."""
    model = find("demo")
    own = model.class_names()
    for names in ([f"LABEL_{i}" for i in range(len(own))], own):
        save_file(small_state(), tmp_path / MODEL_FILE)
        (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(i): n for i, n in enumerate(names)}}))
        assert model_for(model, tmp_path) is model
    (tmp_path / "config.json").unlink()
    assert model_for(model, tmp_path, own) is model
    with pytest.raises(CheckpointError, match="its last layer has 22 outputs; expected 3, one for each class name"):
        three = model_for(SMALL_MODEL, tmp_path, ["a", "b", "c"])
        load_weights(three.build(), tmp_path, three)
    with pytest.raises(CheckpointError, match="no_such_file"):
        model_for(model, tmp_path, tmp_path / "no_such_file")
    with pytest.raises(ModelError, match="class names without a checkpoint"):
        convert("demo", classes=own, out=tmp_path / "bundle")


def test_a_pipe_or_a_device_is_no_checkpoint(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        pipe = tmp_path / f"pipe{suffix}"
        os.mkfifo(pipe)
        refused(pipe, "not a regular file")
        with pytest.raises(CheckpointError, match="not a regular file"):
            weights_sha256(pipe)
        assert model_of(SMALL_MODEL, pipe) == SMALL_MODEL
        device = tmp_path / f"device{suffix}"
        device.symlink_to("/dev/zero")
        refused(device, "not a regular file")
    with pytest.raises(CheckpointError, match="expected the path"):
        weights_file(5)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="no such file"):
        weights_sha256("a\0b.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64])
def test_whole_numbers_are_no_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    state = small_state() | {"fc1.weight": small_state()["fc1.weight"].to(dtype)}
    refused(saved(tmp_path / "whole.pth", state), "fc1.weight", "not quantized ones")


@pytest.mark.filterwarnings("ignore")  # torch warns about damaged files
def test_damaged_files_are_one_error_or_a_valid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits flipped, parts cut out, repeated or overwritten; the seed is fixed."""
    monkeypatch.setattr(checkpoints, "MODELS", ())  # saves comparing every wrong file with every network
    rng = np.random.default_rng(16)
    facts = {
        "panns_litert": json.dumps(
            {"base": "small", "labels": [f"class {k}" for k in range(len(SMALL_MODEL.class_names()))]}
        )
    }
    save_file(small_state(), tmp_path / "good.safetensors", facts)
    originals = {".safetensors": (tmp_path / "good.safetensors").read_bytes(), ".pth": as_pth(small_state())}
    whole = {".safetensors": 0, ".pth": 0}  # a changed weight is a valid file
    for case in range(120):
        suffix = (".safetensors", ".pth")[case % 2]
        path = tmp_path / f"case{suffix}"
        path.write_bytes(damaged(originals[suffix], rng))
        try:
            load_weights(model_of(SMALL_MODEL, path).build(), path, SMALL_MODEL)
            whole[suffix] += 1
        except CheckpointError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert all(0 < count < 60 for count in whole.values())


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pth", "no such file", "such as small.pth")
    refused(tmp_path, "no weights in this folder; expected model.safetensors or pytorch_model.bin")
    for suffix in (".pth", ".safetensors", ".txt"):
        empty = tmp_path / f"empty{suffix}"
        empty.touch()
        refused(empty, "not a checkpoint")
        text = tmp_path / f"text{suffix}"
        text.write_text("<html><title>404 Not Found</title></html>\n" * 50)
        refused(text, "not a checkpoint", "expected a file such as small.pth")


@pytest.mark.parametrize(
    "data",
    [
        [1, 2, 3],
        {},
        {"model": {}},
        {"model": [torch.zeros(3)]},
        {"model": "Cnn14"},
        {"fc1.weight": [0.0, 1.0]},
        torch.zeros(3),
        {"fc1.weight": torch.zeros(3).to_sparse()},
        {"fc1.weight": torch.zeros(3, device="meta")},
        {"fc1.weight": torch.zeros(3, dtype=torch.complex64)},
        None,
    ],
    ids=str,
)
def test_a_pickle_without_state_dict(tmp_path: Path, data: object) -> None:
    refused(saved(tmp_path / "other.pth", data), "state dict", "under 'model'")


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("layout", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "bomb.pth"
    data = {"model": small_state(), "sampler": Bomb(tmp_path / "ran")}
    if layout == "pickle":
        path.write_bytes(pickle.dumps(data, protocol=2))
    else:
        saved(path, data, _use_new_zipfile_serialization=layout == "zip")
    refused(path)
    assert not (tmp_path / "ran").exists()
    if layout == "zip":  # torch.load without weights_only does run the code
        torch.load(path, weights_only=False)
        assert (tmp_path / "ran").exists()


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    def without(*keys: str) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in small_state().items() if key not in keys}

    path = tmp_path / "small.pth"
    refused(saved(path, without("fc1.weight")), "missing fc1.weight", SMALL_MODEL.network)
    refused(saved(path, small_state() | {"head.weight": torch.zeros(1)}), "unknown head.weight")
    message = refused(saved(path, small_state() | {"fc1.weight": torch.zeros(2, 3)}), "shapes: fc1.weight (2, 3)")
    assert "instead of (4, 4)" in message
    refused(saved(path, {f"{key}.x": tensor for key, tensor in small_state().items()}), "missing", "unknown", " more")
    refused(saved(path, {1: torch.zeros(2)}), "unknown 1")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["conv_block3.conv1.weight", "bn0.running_var", "fc_audioset.bias"])
def test_weights_that_are_not_finite(tmp_path: Path, key: str, value: float) -> None:
    state = small_state()
    state[key].view(-1)[-1] = value
    refused(saved(tmp_path / "nan.pth", state), "NaN or Inf", key)


def test_weights_beyond_float32(tmp_path: Path) -> None:
    state = small_state() | {"fc1.bias": torch.full((4,), 1e300, dtype=torch.float64)}
    refused(saved(tmp_path / "large.pth", state), "NaN or Inf", "fc1.bias")


def front_end_tables(official_state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: official_state[key].clone() for key in checkpoints._FRONT_END_KEYS}


def test_front_end_tables_are_accepted(official_state: dict[str, Tensor], tmp_path: Path) -> None:
    """As in the published files, as parameters, with the rounding of another librosa, and in float64."""
    tables = front_end_tables(official_state)
    for change in (lambda t: t, nn.Parameter, lambda t: t + 1e-6, Tensor.double):
        path = saved(tmp_path / "w.pth", small_state() | {key: change(table) for key, table in tables.items()})
        load_weights(SMALL_MODEL.build(), path, SMALL_MODEL)


def test_tables_of_another_front_end_are_refused(official_state: dict[str, Tensor], tmp_path: Path) -> None:
    mel, real, imag = (
        "logmel_extractor.melW",
        "spectrogram_extractor.stft.conv_real.weight",
        "spectrogram_extractor.stft.conv_imag.weight",
    )
    good = front_end_tables(official_state)
    wrong = {
        "fmax 8000": (mel, torch.from_numpy(mel_basis(replace(PANNS_32K, fmax=8000.0)).T.copy())),
        "fmin 0": (mel, torch.from_numpy(mel_basis(replace(PANNS_32K, fmin=0.0)).T.copy())),
        "16 kHz": (mel, torch.from_numpy(mel_basis(replace(PANNS_32K, sample_rate=28000)).T.copy())),
        "128 mels": (mel, torch.from_numpy(mel_basis(replace(PANNS_32K, n_mels=128)).T.copy())),
        "transposed": (mel, good[mel].T.contiguous()),
        "NaN": (mel, good[mel] * float("nan")),
        "no window": (real, torch.ones_like(good[real])),
        "sign": (imag, -good[imag]),
        "swapped": (real, good[imag]),
    }
    for name, (key, table) in wrong.items():
        path = saved(tmp_path / f"{name}.pth", small_state() | good | {key: table})
        message = refused(path, key, "front end", "32000 Hz", "50–14000 Hz")
        assert "expected the checkpoint of that front end" in message


# --- the registry ---------------------------------------------------------------------------------------


def test_every_download_of_the_registry_is_pinned() -> None:
    """Every downloaded checkpoint has a known hash, except for the models listed here."""
    unknown = {
        "cnn14_8k", "cnn14_emb512", "cnn14_emb128", "cnn14_emb32", "mobilenetv2", "leenet24", "dainet19", "res1dnet31",
        "res1dnet51", "mn05", "mn20", "mn30", "mn40", "epanns", "ast", "mn10_hop_5", "mn10_hop_15", "mn10_hop_20",
        "mn10_hop_25", "mn10_mels_40", "mn10_mels_64", "mn10_mels_256",
    }  # fmt: skip
    for model in MODELS:
        if model.checkpoint.url is not None:
            known = model.checkpoint.sha256 or model.checkpoint.md5
            assert bool(known) != (model.name in unknown), model.name
    # Files of the same name would overwrite each other in the cache.
    assert len({model.checkpoint.file for model in MODELS}) == len(MODELS)
