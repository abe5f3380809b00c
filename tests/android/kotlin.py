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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "android_demo"
BUILD = ROOT / "build" / "kotlin"
JARS = Path("/usr/share/java")
JUNIT = [JARS / "junit4.jar", JARS / "hamcrest.jar"]
RESOURCES = {"io/github/pannslitert/sense": ROOT / "assets" / "audioset_ontology.json"}
"""Resources of the library, by the package that holds each; as in android_demo/tagger/build.gradle.kts."""

MAIN = DEMO / "tagger" / "src" / "main" / "kotlin"
TESTS = DEMO / "tagger" / "src" / "test" / "kotlin"
COMPILER = [DEMO / name for name in ("package.json", "package-lock.json", ".npmrc")]
"""What pins the compiler."""

LANGUAGE = "2.2"
"""The version of the language, as in the build scripts of the libraries."""

_OLDEST_JDK = 17
_DIGITS = 16  # of a hash in the name of a folder


class ToolMissingError(RuntimeError):
    """A needed tool is not installed. The message names it and says how to install it."""


class KotlinError(RuntimeError):
    """The compiler or a program failed. The message holds its output."""


def library() -> Path:
    """Compiles the library if needed. Returns the folder of its classes and resources, as in its JAR.

    Raises:
        ToolMissingError: no JDK, npm, JUnit or Gson.
        KotlinError: the sources do not compile; a warning is an error.
    """
    _require_tools()

    def make(folder: Path) -> None:
        compile_sources([MAIN], module="tagger", class_path=dependencies(), out=folder)
        for package, resource in RESOURCES.items():
            shutil.copy(resource, folder / package)

    return cached("tagger", [*MAIN.rglob("*.kt"), *RESOURCES.values(), *COMPILER, Path(__file__)], make)


def dependencies() -> list[Path]:
    """Returns the JARs that the library needs: Gson and Kotlin's standard library, which needs annotations."""
    return [JARS / "gson.jar", standard_library(), standard_library().with_name("annotations-13.0.jar")]


def standard_library() -> Path:
    return _compiler() / "lib" / "kotlin-stdlib.jar"


def tests() -> Path:
    """Compiles the tests of the library if needed. Returns the folder of their classes.

    Raises:
        ToolMissingError, KotlinError: as `library`.
    """
    main = library()

    def make(folder: Path) -> None:
        class_path = [main, *dependencies(), *JUNIT]
        compile_sources([TESTS], module="tagger_test", class_path=class_path, out=folder, friend=main)

    return cached("tagger-test", [*MAIN.rglob("*.kt"), *TESTS.rglob("*.kt"), *COMPILER, Path(__file__)], make)


def class_path() -> str:
    """Compiles the library and its tests if needed. Returns the class path of both and of what they need.

    Raises:
        ToolMissingError, KotlinError: as `library`.
    """
    return joined([tests(), library(), *dependencies(), *JUNIT])


def test_classes() -> list[str]:
    """Returns the names of the classes with JUnit tests."""
    files = [path.relative_to(TESTS) for path in TESTS.rglob("*Test.kt")]
    return sorted(".".join(path.with_suffix("").parts) for path in files)


def cached(name: str, inputs: Iterable[Path], make: Callable[[Path], None]) -> Path:
    """Returns a folder that `make` fills. It stays in build/kotlin, under a hash of the input files.

    Processes may call this at the same time: one makes the folder, the others wait for it.
    """
    folder = BUILD / f"{name}-{digest(inputs)}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / f"{name}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            for old in BUILD.glob(f"{name}-{'[0-9a-f]' * _DIGITS}"):
                shutil.rmtree(old)
            unfinished.rename(folder)
    return folder


def compile_sources(
    sources: Sequence[Path], *, module: str, class_path: Sequence[Path], out: Path, friend: Path | None = None
) -> None:
    """Compiles files and folders. Java files among them are not compiled, only used for their declarations.

    `module` names the module, `friend` is the folder of the classes whose internal declarations it may use.

    Raises:
        ToolMissingError, KotlinError: as `library`.
    """
    run_tool(
        str(_compiler() / "bin" / "kotlinc"),
        *("-Werror", "-jvm-target", str(_OLDEST_JDK), "-no-reflect", "-no-stdlib", "-module-name", module),
        *("-language-version", LANGUAGE, "-api-version", LANGUAGE),
        *([f"-Xfriend-paths={friend}"] if friend else []),
        *("-classpath", joined(class_path), "-d", str(out), *map(str, sources)),
    )


def run(main_class: str, *args: str | Path) -> str:
    """Runs a class in a JVM of its own. Returns its output.

    Raises:
        ToolMissingError, KotlinError: as `library`; or the program ended with an error.
    """
    return run_tool("java", "-cp", class_path(), main_class, *map(str, args))


def _require_tools() -> None:
    for tool, package in (("java", f"openjdk-{_OLDEST_JDK}-jdk"), ("npm", "npm")):
        if shutil.which(tool) is None:
            raise ToolMissingError(f"no {tool}; the Kotlin tests need it: apt install {package}")
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < _OLDEST_JDK:
        raise ToolMissingError(f"java is {version.splitlines()[0]!r}; the Kotlin tests need JDK {_OLDEST_JDK} or later")
    needed = [JARS / "gson.jar", *JUNIT]
    if missing := [jar.name for jar in needed if not jar.exists()]:
        raise ToolMissingError(f"no {', '.join(missing)} in {JARS}: apt install junit4 libgoogle-gson-java")


def _compiler() -> Path:
    """Returns the folder of the compiler, which npm fetches at the pinned version and hash."""

    def make(folder: Path) -> None:
        for path in COMPILER:
            shutil.copy(path, folder)
        try:
            run_tool("npm", "ci", cwd=folder)
        except KotlinError as error:
            raise ToolMissingError(f"npm cannot fetch the Kotlin compiler: {error}") from error

    return cached("npm", COMPILER, make) / "node_modules" / "kotlin-compiler"


def digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(ROOT)}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:_DIGITS]


def run_tool(*command: str, cwd: Path | None = None) -> str:
    """Runs a tool and returns what it printed.

    Raises:
        KotlinError: it ended with an error.
    """
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd or ROOT, check=False)
    if result.returncode:
        raise KotlinError(f"{Path(command[0]).name} failed:\n{(result.stdout + result.stderr)[-8000:]}")
    return result.stdout


def joined(paths: Iterable[Path]) -> str:
    return ":".join(map(str, paths))


if __name__ == "__main__":
    print(run(*sys.argv[1:]), end="")
