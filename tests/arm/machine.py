"""A 64-bit ARM Linux in build/arm, for QEMU: Debian's Python and the wheels that pip installs on such a computer.

QEMU translates single programs here (qemu-user). It needs no virtual machine, no root and no binfmt_misc. Each CPU has
a folder with a script `python`, which is also `sys.executable` inside: QEMU translates Python's child processes, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "arm"

SUITE = "bookworm"
DEBIAN = f"""\
deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {SUITE} main
"""
SYSTEM = ("python3.11", "libstdc++6")
"""Debian packages; apt adds what they need."""
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux2014")
"""Wheels that run with Debian 10's glibc or a later one."""
TEST_PACKAGES = ("pytest", "pytest-xdist", "hypothesis")  # xdist: tests/suite.py has hooks of it
PACKAGES = {
    "panns_litert": "runtime/panns_litert",
    "panns_litert_assets": "assets",
    "panns_litert_golden": "tests/golden",
}
"""Packages of this repository, as links."""

INSTALL_SECONDS = 600
SME_VERSION = 10
"""Of QEMU. 7.2 computes int8 matrix products of SME wrongly; 10.0 was tried."""


class MissingError(RuntimeError):
    """This machine cannot run programs for ARM. The message says what to install."""


@dataclass(frozen=True)
class Cpu:
    """A CPU: its name for QEMU, a computer that has it, and what Linux says about it in /proc/cpuinfo."""

    name: str
    known_from: str
    part: str
    features: str


_V8, _V82 = "fp asimd crc32 cpuid", "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp"
CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", "Raspberry Pi 3 and Zero 2 W", "0xd03", _V8),
        Cpu("cortex-a72", "Raspberry Pi 4", "0xd08", _V8),
        Cpu("cortex-a76", "Raspberry Pi 5", "0xd0b", _V82),
        Cpu("max", "all that QEMU knows: i8mm, SVE 2, SME", "0xd0b", _V82),
    )
}


def qemu() -> str:
    """Returns the path of QEMU: that in the variable QEMU, or the installed one.

    Raises:
        MissingError: there is none.
    """
    named = os.environ.get("QEMU")
    if named and not shutil.which(named):
        raise MissingError(f"QEMU={named}: no such program; expected the path of qemu-aarch64")
    found = named or shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not found:
        raise MissingError("no qemu-aarch64-static; on Debian and Ubuntu: apt install qemu-user-static")
    return found


def qemu_version() -> str:
    """Returns the version of QEMU, such as "7.2.22"."""
    printed = subprocess.run([qemu(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+\.\d+\.\d+)", printed)
    return found[1] if found else "0"


def python(cpu: str) -> Path:
    """Returns the Python of a CPU. Installs everything if needed.

    Args:
        cpu: a name in CPUS.

    Raises:
        MissingError: QEMU or apt is missing, or a package cannot be installed.
    """
    program, root = qemu(), system()
    folder = root.with_name(f"{root.name}.{cpu}")
    (folder / "proc").mkdir(parents=True, exist_ok=True)
    for part in root.iterdir():
        if part.is_dir() and not (folder / part.name).exists():
            (folder / part.name).symlink_to(part)
    # QEMU before 9 shows the /proc/cpuinfo of its host, with which LiteRT crashes. LiteRT chooses its kernels by it.
    lines = (
        "BogoMIPS\t: 108.00",
        f"Features\t: {CPUS[cpu].features}",
        "CPU implementer\t: 0x41",
        "CPU architecture: 8",
    )
    text = "\n".join((*lines, "CPU variant\t: 0x0", f"CPU part\t: {CPUS[cpu].part}", "CPU revision\t: 1", "", ""))
    cores = os.cpu_count() or 1
    (folder / "proc" / "cpuinfo").write_text("".join(f"processor\t: {i}\n{text}" for i in range(cores)))
    script = folder / "python"
    binary = root / "usr" / "bin" / f"python{PYTHON}"
    made = f'#!/bin/sh\nexec "{program}" -cpu {model(cpu)} -0 "$0" -L "{folder}" "{binary}" "$@"\n'
    if not script.exists() or script.read_text() != made:
        script.write_text(made)
        script.chmod(0o755)
    return script


def model(cpu: str) -> str:
    """Returns the argument of QEMU's -cpu: without SME where QEMU's own is wrong."""
    old = int(qemu_version().partition(".")[0]) < SME_VERSION
    return "max,sme=off" if cpu == "max" and old else cpu


def system() -> Path:
    """Returns the folder of the ARM system. Makes it if needed: a marker, written last, says that it is complete.

    Raises:
        MissingError: there is no apt, or a package cannot be installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wheels = [*project["dependencies"], *TEST_PACKAGES]
    constraints = ROOT / "constraints.txt"
    pins = [DEBIAN, *SYSTEM, *PLATFORMS, *wheels, *PACKAGES.values(), constraints.read_text(encoding="utf-8")]
    digest = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:16]
    folder, ready = BUILD / f"system-{digest}", BUILD / f"system-{digest}.ready"
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "lock"):
        if not ready.exists():
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
            _debian(folder)
            site = folder / "usr" / "local" / "lib" / f"python{PYTHON}" / "dist-packages"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
            command += ["--target", str(site), "--python-version", PYTHON, "--constraint", str(constraints)]
            command += [word for platform in PLATFORMS for word in ("--platform", f"{platform}_aarch64")]
            _run([*command, *wheels], "pip cannot get the wheels for 64-bit ARM")
            for name, path in PACKAGES.items():
                (site / name).symlink_to(ROOT / path)
            ready.touch()
    return folder


def _debian(folder: Path) -> None:
    """Unpacks SYSTEM and what it needs, for arm64, into a folder. The packages of this machine are not touched."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise MissingError("no apt-get and dpkg-deb; expected Debian or Ubuntu")
    state = BUILD / "apt"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").write_text("")
    (state / "sources.list").write_text(DEBIAN)
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": str(state),
        "Dir::State::status": str(state / "status"),
        "Dir::Cache": str(state),
        "Dir::Etc::sourcelist": str(state / "sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], f"apt cannot read Debian {SUITE}'s list of packages for arm64")
    _run(
        [*apt, "install", "-y", "--download-only", "--no-install-recommends", *SYSTEM],
        f"apt cannot download {' and '.join(SYSTEM)} for arm64",
    )
    for package in sorted((state / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(folder)], f"{package.name} cannot be unpacked")


def _run(command: Sequence[str], problem: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{problem}: not done after {INSTALL_SECONDS} s") from error
    if done.returncode:
        print((done.stdout + done.stderr)[-4000:], file=sys.stderr)
        raise MissingError(problem)
