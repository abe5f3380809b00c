"""android_demo/install_bundle.sh with a fake adb that works on local folders; shellcheck of every script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

SCRIPT = ROOT / "android_demo" / "install_bundle.sh"

# The phone is a folder: tmp in it stands for /data/local/tmp, and app for the app's own folder.
ADB = """#!/usr/bin/env bash
set -eu
echo "$ANDROID_SERIAL_SEEN $*" >> "$PHONE/log"
case $1 in
    devices) printf 'List of devices attached\\n'; cat "$PHONE/devices" ;;
    push) cp -r "$2" "$PHONE/tmp/${3#/data/local/tmp/}" ;;
    shell) cd "$PHONE" && PATH="$PHONE/bin:$PATH" sh -c "${2//\\/data\\/local\\/tmp/$PHONE/tmp}" ;;
esac
"""
RUN_AS = """#!/usr/bin/env bash
set -eu
[ "$1" = io.github.pannslitert.demo ] && cd "$PHONE/app" || { echo "run-as: unknown package: $1" >&2; exit 1; }
shift
exec "$@"
"""


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    folder = tmp_path / "phone"
    for name in ("tmp", "app", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "devices").write_text("emulator-5554\tdevice\n", encoding="utf-8")
    (tmp_path / "adb").write_text(ADB.replace("$ANDROID_SERIAL_SEEN", "${ANDROID_SERIAL:-}"), encoding="utf-8")
    (folder / "bin" / "run-as").write_text(RUN_AS, encoding="utf-8")
    (folder / "bin" / "am").write_text('#!/bin/sh\necho "am $*" >> "$PHONE/log"\n', encoding="utf-8")
    for program in (tmp_path / "adb", folder / "bin" / "run-as", folder / "bin" / "am"):
        program.chmod(0o755)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The demo bundle, as `convert` writes it."""
    return shutil.copytree(ROOT / "assets" / "demo_bundle", tmp_path / "my bundles" / "demo-1.0")


def install(phone: Path, *args: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{phone.parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PHONE": str(phone)} | variables
    return subprocess.run([SCRIPT, *map(str, args)], env=env, capture_output=True, text=True, check=False)


def installed(phone: Path) -> dict[str, dict[str, bytes]]:
    bundles = phone / "app" / "files" / "bundles"
    return {folder.name: {f.name: f.read_bytes() for f in folder.iterdir()} for folder in bundles.iterdir()}


def test_a_bundle_is_installed_and_replaces_an_old_one(phone: Path, bundle: Path) -> None:
    old = phone / "app" / "files" / "bundles" / "demo-1.0"
    old.mkdir(parents=True)
    (old / "old.tflite").write_bytes(b"old")
    result = install(phone, bundle)
    assert result.returncode == 0, result.stderr
    assert "'demo-1.0'" in result.stdout
    assert installed(phone) == {"demo-1.0": {f.name: f.read_bytes() for f in bundle.iterdir()}}
    assert list((phone / "tmp").iterdir()) == []
    assert "am force-stop io.github.pannslitert.demo" in (phone / "log").read_text(encoding="utf-8").splitlines()
    assert install(phone, bundle, "another").returncode == 0
    assert sorted(installed(phone)) == ["another", "demo-1.0"]
    assert [path.name for path in (phone / "app" / "files").iterdir()] == ["bundles"]


def test_what_is_missing_is_named(phone: Path, bundle: Path, tmp_path: Path) -> None:
    def refused(*args: str | Path, **variables: str) -> str:
        result = install(phone, *args, **variables)
        assert result.returncode == 2, result.stdout
        assert result.stderr.startswith("error: ")
        assert not (phone / "app" / "files").exists()
        return result.stderr

    assert "expected install_bundle.sh BUNDLE" in refused()
    assert "is not a folder" in refused(tmp_path / "none")
    assert "no manifest.json" in refused(tmp_path)
    assert "name 'a b'" in refused(bundle, "a b")
    assert "name '..'" in refused(bundle, "..")
    assert "name '$(reboot)'" in refused(bundle, "$(reboot)")
    (bundle / "selftest.pcm").rename(tmp_path / "selftest.pcm")
    assert "has no self-test" in refused(bundle)
    (tmp_path / "selftest.pcm").rename(bundle / "selftest.pcm")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "basename", "realpath"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    assert "no adb" in refused(bundle, PATH=str(tools))


@pytest.mark.parametrize("devices", ["", "emulator-5554\tunauthorized\n", "a\tdevice\nb\tdevice\n"])
def test_one_phone_is_needed(phone: Path, bundle: Path, devices: str) -> None:
    (phone / "devices").write_text(devices, encoding="utf-8")
    result = install(phone, bundle)
    assert result.returncode == 2
    assert ("several phones" if devices.startswith("a") else "no phone") in result.stderr
    if devices.startswith("a"):
        assert install(phone, bundle, ANDROID_SERIAL="b").returncode == 0
        calls = [line for line in (phone / "log").read_text().splitlines()[1:] if not line.startswith("am ")]
        assert all(call.startswith("b ") for call in calls)


def test_the_app_must_be_there(phone: Path, bundle: Path) -> None:
    (phone / "app").rmdir()
    result = install(phone, bundle)
    assert result.returncode == 2
    assert "debug build" in result.stderr


def test_a_failed_copy_leaves_nothing(phone: Path, bundle: Path) -> None:
    (phone / "bin" / "cp").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (phone / "bin" / "cp").chmod(0o755)
    assert install(phone, bundle).returncode != 0
    assert installed(phone) == {}
    assert list((phone / "tmp").iterdir()) == []


@pytest.mark.parametrize("script", [SCRIPT, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_shellcheck(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    result = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
