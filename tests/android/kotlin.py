"""Compiles android_demo/tagger with its tests, and runs its classes, for pytest, for the benchmark, or by hand:

    python tests/android/kotlin.py io.github.pannslitert.frontend.BenchKt ARGS…

The compiler is JetBrains' own, from the npm package that android_demo/package.json pins by hash; JUnit and Gson are
Debian's. The compiled classes stay in build/kotlin, under a hash of everything that they depend on.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "android_demo"
BUILD = ROOT / "build" / "kotlin"
JARS = Path("/usr/share/java")
RESOURCES = {"io/github/pannslitert/sense": ROOT / "assets" / "audioset_ontology.json"}
"""Resources of the library, by the package that holds each; as in android_demo/tagger/build.gradle.kts."""

_NPM_FILES = ("package.json", "package-lock.json", ".npmrc")
_OLDEST_JDK = 17


class ToolMissingError(RuntimeError):
    """A needed tool is not installed. The message names it and says how to install it."""


class KotlinError(RuntimeError):
    """The compiler or a program failed. The message holds its output."""


def class_path() -> str:
    """Compiles the library if needed. Returns the class path of its classes and its libraries.

    Raises:
        ToolMissingError: no JDK, npm, JUnit or Gson.
        KotlinError: the sources do not compile; a warning is an error.
    """
    libraries = [JARS / "junit4.jar", JARS / "hamcrest.jar", JARS / "gson.jar"]
    _require_tools(libraries)
    compiler = _compiler()
    sources = sorted((DEMO / "tagger" / "src").rglob("*.kt"))
    libraries.append(compiler / "lib" / "kotlin-stdlib.jar")
    classes = BUILD / f"classes-{digest([*sources, *RESOURCES.values(), DEMO / 'package-lock.json', Path(__file__)])}"
    with FileLock(BUILD / "classes.lock"):  # processes of the suite may compile at the same time
        if not classes.exists():
            unfinished = classes.with_name(f"{classes.name}.part")
            shutil.rmtree(unfinished, ignore_errors=True)
            compile_sources(sources, class_path=_joined(libraries), out=unfinished)
            for package, resource in RESOURCES.items():
                shutil.copy(resource, unfinished / package)
            for old in BUILD.glob("classes-*"):
                if old != unfinished:
                    shutil.rmtree(old)
            unfinished.rename(classes)
    return _joined([classes, *libraries])


def compile_sources(sources: Sequence[Path], *, class_path: str, out: Path) -> None:
    """Compiles files and folders. Java files among them are not compiled, only used for their declarations.

    Raises:
        ToolMissingError, KotlinError: as `class_path`.
    """
    run_tool(
        str(_compiler() / "bin" / "kotlinc"),
        *("-Werror", "-jvm-target", str(_OLDEST_JDK), "-no-reflect", "-no-stdlib"),
        *("-classpath", class_path, "-d", str(out), *map(str, sources)),
    )


def run(main_class: str, *args: str | Path) -> str:
    """Runs a class in a JVM of its own. Returns its output.

    Raises:
        ToolMissingError, KotlinError: as `class_path`; or the program ended with an error.
    """
    return run_tool("java", "-cp", class_path(), main_class, *map(str, args))


def _require_tools(libraries: list[Path]) -> None:
    for tool, package in (("java", f"openjdk-{_OLDEST_JDK}-jdk"), ("npm", "npm")):
        if shutil.which(tool) is None:
            raise ToolMissingError(f"no {tool}; the Kotlin tests need it: apt install {package}")
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < _OLDEST_JDK:
        raise ToolMissingError(f"java is {version.splitlines()[0]!r}; the Kotlin tests need JDK {_OLDEST_JDK} or later")
    if missing := [jar.name for jar in libraries if not jar.exists()]:
        raise ToolMissingError(f"no {', '.join(missing)} in {JARS}: apt install junit4 libgoogle-gson-java")


def _compiler() -> Path:
    """Returns the folder of the compiler, which npm fetches at the pinned version and hash."""
    pinned = [DEMO / name for name in _NPM_FILES]
    folder = BUILD / f"npm-{digest(pinned)}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "npm.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for path in pinned:
                shutil.copy(path, unfinished)
            try:
                run_tool("npm", "ci", cwd=unfinished)
            except KotlinError as error:
                raise ToolMissingError(f"npm cannot fetch the Kotlin compiler: {error}") from error
            unfinished.rename(folder)
    return folder / "node_modules" / "kotlin-compiler"


def digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(ROOT)}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run_tool(*command: str, cwd: Path | None = None) -> str:
    """Runs a tool and returns what it printed.

    Raises:
        KotlinError: it ended with an error.
    """
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd or ROOT, check=False)
    if result.returncode:
        raise KotlinError(f"{Path(command[0]).name} failed:\n{(result.stdout + result.stderr)[-8000:]}")
    return result.stdout


def _joined(paths: list[Path]) -> str:
    return ":".join(map(str, paths))


if __name__ == "__main__":
    print(run(*sys.argv[1:]), end="")
