"""The Android modules of android_demo without Gradle: their resources, the files that Gradle would publish of the
libraries (tagger.jar and tagger-litert.aar), and the classes of an app that is compiled against these two alone.

Everything is compiled against signatures: Android's and AndroidX's are in `signatures`, and LiteRT's API is too.
"""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import kotlin
import litert_api
import manifests
import signatures
from kotlin import DEMO, ROOT
from manifests import ANDROID

JAR, AAR = "tagger.jar", "tagger-litert.aar"
CATALOG = DEMO / "gradle" / "libs.versions.toml"
PROJECT = ROOT / "pyproject.toml"
VERSION = ROOT / "runtime" / "panns_litert" / "__init__.py"
PLATFORM = (signatures.ANDROID, signatures.ANDROIDX)

NEW_PROJECT = {"minSdk": "26", "targetSdk": "36", "versionCode": "1"}
"""What the build script of a sample leaves out. The level is the library's."""

Names = dict[str, set[str]]

_FILES = ("anim", "animator", "color", "drawable", "font", "interpolator", "layout", "menu", "mipmap", "raw", "xml")
_VALUES = ("bool", "color", "dimen", "fraction", "id", "integer", "plurals", "string", "style")
_ARRAYS = ("array", "string-array", "integer-array")


@dataclass(frozen=True)
class Module:
    """An Android module: a folder with a build script, a manifest, Kotlin sources and, if it needs them, resources.

    The sources and the rest are in `src/main`, as in Gradle, or beside the build script, as in a sample.
    """

    folder: Path

    @property
    def script(self) -> Path:
        return self.folder / "build.gradle.kts"

    @property
    def main(self) -> Path:
        main = self.folder / "src" / "main"
        return main if main.is_dir() else self.folder

    @property
    def sources(self) -> list[Path]:
        return sorted(self.main.rglob("*.kt"))

    @property
    def resources(self) -> Path:
        return self.main / "res"

    @property
    def manifest(self) -> Path:
        return self.main / "AndroidManifest.xml"

    @property
    def namespace(self) -> str:
        return self.value("namespace")

    @property
    def package(self) -> str:
        """The folder of the classes of its namespace."""
        return self.namespace.replace(".", "/")

    def value(self, name: str) -> str:
        """Returns a value of the build script, for example of `minSdk`; if it has none, that of a new project."""
        text = self.script.read_text(encoding="utf-8")
        found = re.findall(rf'^ *{name} = "?([\w.]+)"?$', text, re.MULTILINE)
        if not found and name == "applicationId":
            return self.namespace
        if not found and name == "namespace":
            found = re.findall(r"^package ([\w.]+)$", self.sources[0].read_text(encoding="utf-8"), re.MULTILINE)
        (value,) = found or [NEW_PROJECT[name]]
        return str(value)

    def complete_manifest(self, level: str | None = None) -> str:
        """Returns `manifests.complete` of its manifest."""
        return manifests.complete(self.manifest.read_text(encoding="utf-8"), self.namespace, level)


LIBRARY = Module(DEMO / "tagger-litert")
APP = Module(DEMO / "app")
MODULES = (LIBRARY, APP)


def version() -> str:
    """Returns the version of the project, which is that of the app and of the libraries."""
    (found,) = re.findall(r'^__version__ = "(.+)"', VERSION.read_text(encoding="utf-8"), re.MULTILINE)
    return str(found)


# --- resources ---


def resources(folder: Path) -> Names:
    """Returns the names in the R of a folder of resources, by their kind.

    Raises:
        ValueError: a folder or an element that is not known.
    """
    found: Names = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        kind = file.parent.name.partition("-")[0]
        root = ET.parse(file).getroot() if file.suffix == ".xml" else ET.Element("none")
        if kind == "values":
            for element in root:
                found.setdefault(_kind(element, file), set()).add(element.attrib["name"].replace(".", "_"))
            continue
        if kind not in _FILES or file.parent.parent != folder:
            raise ValueError(f"{file.relative_to(folder)} is in no folder of resources; expected {', '.join(_FILES)}")
        found.setdefault(kind, set()).add(file.name.partition(".")[0])
        for element in root.iter():
            if (text := element.get(f"{ANDROID}id", "")).startswith("@+id/"):
                found.setdefault("id", set()).add(text.removeprefix("@+id/"))
    return found


def _kind(element: ET.Element, file: Path) -> str:
    kind = element.get("type", "") if element.tag == "item" else element.tag
    if kind not in (*_VALUES, *_ARRAYS):
        raise ValueError(f"{file.name} has <{element.tag}>; expected one of {', '.join((*_VALUES, *_ARRAYS))}")
    return "array" if kind in _ARRAYS else kind


def r_java(namespace: str, names: Names) -> str:
    """Returns the source of an R whose numbers are made up, and not constant: compiled code looks them up."""
    kinds = "".join(
        f"  public static final class {kind} {{\n"
        + "".join(f"    public static int {name} = {i};\n" for i, name in enumerate(sorted(names[kind])))
        + "  }\n"
        for kind in sorted(names)
    )
    return f"package {namespace};\n\npublic final class R {{\n{kinds}}}\n"


def r_txt(names: Names) -> str:
    """Returns the R.txt of an AAR, in which Gradle writes no numbers either."""
    return "".join(f"int {kind} {name} 0x0\n" for kind in sorted(names) for name in sorted(names[kind]))


def r_names(file: Path) -> Names:
    """Returns the names of an R.txt."""
    found: Names = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        _, kind, name, _ = line.split(" ")
        found.setdefault(kind, set()).add(name)
    return found


# --- compiling ---


def platform() -> Path:
    """Returns a folder with Android's and AndroidX's signatures as Java sources (`android`), and the classes of
    LiteRT's API (`litert`), whose functions only fail."""

    def make(folder: Path) -> None:
        for api in PLATFORM:
            signatures.write_stubs(api.read_text(encoding="utf-8"), folder / "android")
        source = folder / "LiteRt.kt"
        source.write_text(litert_api.kotlin_source(litert_api.LIST.read_text(encoding="utf-8")), encoding="utf-8")
        kotlin.compile_sources(
            [source, folder / "android"],
            module="litert",
            class_path=[kotlin.standard_library()],
            out=folder / "litert",
        )

    return kotlin.cached("platform", _platform_inputs(), make)


def _platform_inputs() -> list[Path]:
    code = [Path(module.__file__ or "") for module in (kotlin, litert_api, signatures)]
    return [*PLATFORM, litert_api.LIST, *code, *kotlin.COMPILER]


Change = Callable[[str, str], str]
"""Returns the text of a source, given its name and its text."""


def compile_library(folder: Path, change: Change = lambda _, text: text) -> None:
    """Compiles tagger-litert to `folder/classes`.

    Raises:
        ToolMissingError, KotlinError: as `kotlin.library`.
    """
    _compile(LIBRARY, folder, [kotlin.library(), platform() / "litert"], change, _build_config())


def compile_app(
    app: Module,
    published: Path,
    folder: Path,
    change: Change = lambda _, text: text,
) -> None:
    """Compiles an app to `folder/classes`, against the files in the folder `published` and what they bring along.

    Raises:
        ToolMissingError, KotlinError: as `kotlin.library`.
    """
    aar = unpack(published / AAR, folder / "aar")
    _write(folder / "made" / LIBRARY.package / "R.java", r_java(LIBRARY.namespace, r_names(aar / "R.txt")))
    brought = [platform() / "litert"] if "api(libs.litert)" in LIBRARY.script.read_text(encoding="utf-8") else []
    _compile(app, folder, [published / JAR, aar / "classes.jar", *brought], change)


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def _compile(module: Module, folder: Path, class_path: list[Path], change: Change, build_config: str = "") -> None:
    sources, made = folder / "sources", folder / "made"
    for file in module.sources:
        _write(sources / file.relative_to(module.main), change(file.name, file.read_text(encoding="utf-8")))
    _write(made / module.package / "R.java", r_java(module.namespace, resources(module.resources)))
    if build_config:
        _write(made / module.package / "BuildConfig.java", build_config)
    kotlin.compile_sources(
        [sources, made, platform() / "android"],
        module=module.folder.name,
        class_path=[*class_path, kotlin.standard_library()],
        out=folder / "classes",
    )
    if build_config:
        compile_java([made / module.package / "BuildConfig.java"], folder / "classes")


def compile_java(sources: Iterable[Path], out: Path) -> None:
    kotlin.run_tool("javac", "--release", "17", "-d", str(out), *map(str, sources))


def _build_config() -> str:
    """The BuildConfig that Gradle makes from the build script of tagger-litert."""
    litert = tomllib.loads(CATALOG.read_text(encoding="utf-8"))["versions"]["litert"]
    constant = f'public static final String LITERT_VERSION = "{litert}";'
    return f"package {LIBRARY.namespace};\n\npublic final class BuildConfig {{\n  {constant}\n}}\n"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


# --- what is kept in build/kotlin ---


def library_classes() -> Path:
    """Returns the classes of tagger-litert."""
    return kotlin.cached("tagger-litert", _inputs(LIBRARY), compile_library) / "classes"


def app_classes() -> Path:
    """Returns the classes of the app."""
    inputs = [*_inputs(LIBRARY), *_inputs(APP)]
    return kotlin.cached("app", inputs, lambda folder: compile_app(APP, published(), folder)) / "classes"


def published() -> Path:
    """Returns a folder with what Gradle would publish: tagger.jar and tagger-litert.aar."""

    def make(folder: Path) -> None:
        zip_folder(folder / JAR, kotlin.library())
        classes = folder / "classes.jar"
        zip_folder(classes, library_classes())
        with zipfile.ZipFile(folder / AAR, "w", zipfile.ZIP_DEFLATED) as aar:
            aar.writestr("AndroidManifest.xml", LIBRARY.complete_manifest(LIBRARY.value("minSdk")))
            aar.write(classes, "classes.jar")
            aar.write(LIBRARY.folder / "consumer-rules.pro", "proguard.txt")
            aar.writestr("R.txt", r_txt(resources(LIBRARY.resources)))
            for file in sorted(path for path in LIBRARY.resources.rglob("*") if path.is_file()):
                aar.write(file, f"res/{file.relative_to(LIBRARY.resources)}")
        classes.unlink()

    return kotlin.cached("published", _inputs(LIBRARY), make)


def _inputs(module: Module) -> list[Path]:
    files = [path for path in module.folder.rglob("*") if path.is_file()]
    code = [Path(__file__), Path(manifests.__file__)]
    return [*files, *code, CATALOG, *kotlin.MAIN.rglob("*.kt"), *kotlin.RESOURCES.values(), *_platform_inputs()]


def zip_folder(path: Path, folder: Path) -> None:
    """Makes a JAR of a folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.write(file, file.relative_to(folder))


def add_resources(archive: zipfile.ZipFile, program: Path) -> None:
    """Adds what a JAR or a folder has beside its classes and its META-INF."""
    if program.is_dir():
        files = {str(file.relative_to(program)): file.read_bytes() for file in program.rglob("*") if file.is_file()}
    else:
        with zipfile.ZipFile(program) as jar:
            files = {name: jar.read(name) for name in jar.namelist() if not name.endswith("/")}
    for name, data in files.items():
        if not name.endswith(".class") and not name.startswith("META-INF/"):
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
