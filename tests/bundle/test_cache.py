"""The cache of bundles: names that would leave it, and folders that hold another bundle than their name says."""

from __future__ import annotations

import argparse
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import edit_manifest

from panns_litert import Tagger
from panns_litert.bundle import (
    CACHE_VARIABLE,
    DEFAULT_SECONDS,
    OWN_WEIGHTS,
    Bundle,
    bundle_dir,
    cached_bundle,
    find_bundle,
    open_bundle,
)
from panns_litert.cli import main, options
from panns_litert.demo import demo_bundle
from panns_litert.errors import BundleError, ModelError

DEMO: dict[str, Any] = {"graph": "logmel", "seconds": DEFAULT_SECONDS, "precision": "fp16"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "bundles"


@pytest.fixture
def placed(folder: Path) -> Callable[..., Path]:
    """Copies the demo bundle to the place of another one."""

    def place(name: str = "demo", **changes: Any) -> Path:
        target = bundle_dir(name, **(DEMO | changes))
        shutil.copytree(demo_bundle(), target)
        return target

    return place


NAMES = ["../../x", "..", ".", "", "/etc", "a/b", "a\\b", "a\0b", "a b", ".hidden", "-x", "CNN14", "ä", "a" * 65, "a\n",
         "\ud800", None, 5]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_leaves_the_cache_is_refused(folder: Path, name: Any) -> None:
    with pytest.raises(ModelError, match="expected a name that `panns-litert models` lists"):
        bundle_dir(name, **DEMO)
    assert not folder.exists()


@pytest.mark.parametrize(
    "change",
    [{"graph": "../logmel"}, {"precision": "/fp16"}, {"seconds": float("nan")}, {"seconds": 1e308}, {"seconds": "10"},
     {"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("inf")}, {"graph": None}],
)  # fmt: skip
def test_other_parts_of_the_name_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected"):
        bundle_dir("demo", **(DEMO | change))


@pytest.mark.parametrize("name", ["../../x", "/etc", "a\0b", "."])
def test_the_command_takes_such_a_model_for_a_folder(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag", "x.wav", "--model", name]) == 2
    assert re.search("no bundle at|has no manifest.json", capsys.readouterr().err)
    assert not folder.exists()


def test_the_bundle_of_a_model_is_found(placed: Callable[..., Path]) -> None:
    assert cached_bundle("demo", **DEMO) is None
    path = placed()
    found = cached_bundle("demo", **DEMO)
    assert found is not None
    assert found.path == path


@pytest.mark.parametrize(
    ("name", "changes"), [("mn04", {}), ("demo", {"graph": "waveform"}), ("demo", {"precision": "fp32"}),
                          ("demo", {"seconds": 5.0})]
)  # fmt: skip
def test_another_bundle_in_its_place_is_refused(placed: Callable[..., Path], name: str, changes: Any) -> None:
    path = placed(name, **changes)
    with pytest.raises(BundleError, match=r"is a bundle of demo, logmel, 10 s, fp16; expected .*; delete it") as caught:
        cached_bundle(name, **(DEMO | changes))
    assert str(path) in str(caught.value)


def test_a_bundle_of_own_weights_is_not_the_models(placed: Callable[..., Path]) -> None:
    edit_manifest(placed(), lambda m: m["source"].update(licence=OWN_WEIGHTS))
    with pytest.raises(BundleError, match="is a bundle of the user's own demo; expected"):
        cached_bundle("demo", **DEMO)


@pytest.mark.parametrize("file", ["manifest.json", "mel_basis.bin", "demo_synthetic_fp16.tflite"])
@pytest.mark.parametrize("size", [0, 1000, None])
def test_a_bundle_that_is_not_whole_is_refused(placed: Callable[..., Path], file: str, size: int | None) -> None:
    path = placed() / file
    path.write_bytes(path.read_bytes()[:size]) if size is not None else path.unlink()
    with pytest.raises(BundleError):
        cached_bundle("demo", **DEMO)


def test_runs_that_need_one_model_convert_it_once(
    placed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    converted = []

    def convert(args: argparse.Namespace, name: str) -> Bundle:
        converted.append(name)
        time.sleep(0.3)
        return Bundle(placed(name))

    monkeypatch.setattr(options, "converter", lambda _: convert)
    found: list[Any] = []
    args = argparse.Namespace(bundle=None, model="Demo", json=False)
    threads = [threading.Thread(target=lambda: found.append(options.bundle_for(args))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert converted == ["demo"]
    assert [bundle.path for bundle in found] == [bundle_dir("demo", **DEMO)] * 4
    assert "another run is converting demo; waiting for its bundle" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "Demo"])
def test_a_model_in_the_cache_opens_by_its_name(placed: Callable[..., Path], name: str) -> None:
    path = placed()
    with Tagger(name) as tagger:
        assert tagger.bundle.path == path
    assert open_bundle(name).path == path


def test_a_folder_with_a_bundle_comes_before_a_model_of_its_name(
    placed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = placed()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert open_bundle("demo").path == cached  # an empty folder is no bundle
    assert main(["labels", "--model", "demo"]) == 0
    with pytest.raises(BundleError, match=r"demo has no manifest\.json"):
        open_bundle(Path("demo"))  # a Path is always a folder
    (tmp_path / "demo").rmdir()
    shutil.copytree(cached, tmp_path / "demo")
    assert open_bundle("demo").path == Path("demo")
    assert open_bundle(tmp_path / "demo").path == tmp_path / "demo"


def test_a_name_that_nothing_has_is_explained(folder: Path) -> None:
    assert find_bundle("mn04") is None
    with pytest.raises(
        BundleError, match=r"no bundle at mn04, and no model mn04 in the cache; expected .*convert mn04"
    ):
        Tagger("mn04")
    with pytest.raises(BundleError, match="no bundle at no/where"):
        Tagger("no/where")
    assert not folder.exists()


def test_an_open_bundle_and_none_are_bundles_too() -> None:
    demo = open_bundle()
    assert demo.path == demo_bundle()
    assert open_bundle(demo) is demo
