"""Replacing a bundle: readers, killed writers and second writers always meet a whole bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from panns_litert.bundle import Bundle, BundleWriter
from panns_litert.bundle import replacing as replacing_module
from panns_litert.demo import demo_bundle
from panns_litert.errors import BundleError

# Replaces a bundle until it is killed; every version has its number as its model's name, and at least 100 ms of work.
WRITER = """
import shutil, sys
from dataclasses import replace
from pathlib import Path
from panns_litert.bundle import Bundle, BundleWriter
from panns_litert.bundle import replacing
from panns_litert.demo import demo_bundle
source = Bundle(demo_bundle())
if sys.argv[2] == "two steps":
    replacing.exchange = lambda one, other: False
print("ready", flush=True)
for number in range(10**6):
    with BundleWriter(Path(sys.argv[1])) as writer:
        for name in source.manifest.files:
            shutil.copyfile(source.path / name, writer.folder / name)
        writer.commit(replace(source.manifest, model=f"version{number}"))
"""


@pytest.fixture(params=["exchange", "two steps"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the system can exchange two folders."""
    if request.param == "two steps":
        monkeypatch.setattr(replacing_module, "exchange", lambda one, other: False)
    return str(request.param)


def write(target: Path, model: str) -> None:
    source = Bundle(demo_bundle())
    with BundleWriter(target) as writer:
        for name in source.manifest.files:
            shutil.copyfile(source.path / name, writer.folder / name)
        writer.commit(replace(source.manifest, model=model))


def test_a_writer_that_is_killed_leaves_a_whole_bundle(tmp_path: Path, how: str) -> None:
    target = tmp_path / "bundle"
    write(target, "first")
    for round_ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target), how], stdout=subprocess.PIPE)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.02 + 0.037 * round_)
            writer.kill()
        assert writer.returncode == -9  # it was still writing
        assert Bundle(target).manifest.model.startswith(("version", "first"))
    write(target, "last")
    assert Bundle(target).manifest.model == "last"
    assert os.listdir(tmp_path) == ["bundle"]  # what the killed ones left is gone


def test_an_interrupted_replacement_is_brought_back(tmp_path: Path) -> None:
    """As a process leaves it that dies between the two renames."""
    target = tmp_path / "bundle"
    write(target, "old")
    write(tmp_path / ".bundle.new", "new")
    for use, want in ((lambda: Bundle(target), "old"), (lambda: write(target, "newer"), "newer")):
        target.rename(tmp_path / ".bundle.old")
        use()
        assert Bundle(target).manifest.model == want
    assert os.listdir(tmp_path) == ["bundle"]


def test_readers_meet_a_whole_bundle(tmp_path: Path, how: str) -> None:
    target = tmp_path / "bundle"
    write(target, "first")
    stop, failures, models = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                models.add(Bundle(target).manifest.model)
            except Exception as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(30):
        write(target, f"version{number}")
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert len(models) > 3


def test_the_second_of_two_writers_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write(target, "first")
    with BundleWriter(target):
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(BundleError, match="bundle: another run is writing it; expected one at a time: wait"):
            BundleWriter(target)
        assert sorted(os.listdir(tmp_path)) == before
        write(tmp_path / "bundle.2", "another name is no matter")
        assert Bundle(target).manifest.model == "first"
    write(target, "second")


def test_many_writers_leave_one_whole_bundle(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    refused: list[Exception] = []

    def work(name: str) -> None:
        for number in range(5):
            try:
                write(target, f"{name}{number}")
            except Exception as error:
                refused.append(error)

    writers = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert all("another run is writing it" in str(error) for error in refused)
    assert Bundle(target).manifest.model[0] in "abc"
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "file" / "bundle", tmp_path / ("x" * 300), "/proc/bundle", tmp_path / "a\0b"):
        with pytest.raises(BundleError, match="expected a folder that can be written"):
            BundleWriter(Path(target))
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_to_a_bundle_is_replaced_where_it_points(tmp_path: Path, how: str) -> None:
    write(tmp_path / "real", "first")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "second")
    assert (tmp_path / "link").is_symlink()
    assert Bundle(tmp_path / "real").manifest.model == "second"


def test_a_new_bundle_has_the_permissions_of_any_folder(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    write(tmp_path / "bundle", "first")
    assert (tmp_path / "bundle").stat().st_mode == (tmp_path / "plain").stat().st_mode
