"""Makes `signatures/android-34.txt` again, after android_demo began to use something else of Android:

    python tests/android/pin.py API-34.txt

The argument is the signature file of level 34. Debian has it in the source package android-platform-frameworks-base
14~beta1 (core/api/current.txt).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import kotlin
import modules
import signatures

_HEADER = """\
// Signature format: 2.0
// Part of the public API of Android 14 (level 34). Source: core/api/current.txt of the Debian source package
// android-platform-frameworks-base 14~beta1, sha256 {sha256}.
// Copyright (C) The Android Open Source Project. Licensed under the Apache License, Version 2.0
// (https://www.apache.org/licenses/LICENSE-2.0). Made by tests/android/pin.py, which left out what android_demo does
// not need.
"""


def sources() -> list[str]:
    """Returns the Kotlin sources that use Android, and what they use of AndroidX, which uses Android too."""
    files = [*modules.LIBRARY.sources, *modules.APP.sources, *sorted((kotlin.DEMO / "samples").rglob("*.kt"))]
    return [file.read_text(encoding="utf-8") for file in [*files, signatures.ANDROIDX]]


def pinned(full: str) -> str:
    """Returns what `android-34.txt` must hold, given the whole signature file of level 34."""
    header = _HEADER.format(sha256=hashlib.sha256(full.encode()).hexdigest())
    return header + signatures.subset(signatures.parse(full), sources())


def main(full: str) -> None:
    signatures.ANDROID.write_text(pinned(Path(full).read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
