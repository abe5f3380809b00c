"""The Android app of android_demo/app: it compiles; its resources and Gradle files are consistent."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import kotlin
import levels
import litert_api
import pytest
import signatures

APP = kotlin.DEMO / "app"
SOURCES = APP / "src" / "main" / "kotlin"
RESOURCES = APP / "src" / "main" / "res"
PACKAGE = "io.github.pannslitert.demo"
ANDROID = "{http://schemas.android.com/apk/res/android}"


def resources() -> dict[str, set[str]]:
    """Returns the names in Android's R: strings, layouts, ids and XML files."""
    files = sorted(RESOURCES.rglob("*.xml"))
    found: dict[str, set[str]] = {"string": set(), "layout": set(), "id": set(), "xml": set()}
    for file in files:
        root = ET.parse(file).getroot()
        if file.parent.name == "values":
            found["string"] |= {element.attrib["name"] for element in root.iter("string")}
        else:
            found[file.parent.name].add(file.stem)
            ids = (element.get(f"{ANDROID}id", "") for element in root.iter())
            found["id"] |= {text.removeprefix("@+id/") for text in ids if text}
    return found


def write_platform(folder: Path) -> Path:
    """Writes Android's and AndroidX's signatures as Java sources, and LiteRT's as the classes of a module."""
    for api in (signatures.ANDROID, signatures.ANDROIDX):
        signatures.write_stubs(api.read_text(encoding="utf-8"), folder / "android")
    litert = folder / "LiteRt.kt"
    litert.write_text(litert_api.kotlin_source(litert_api.LIST.read_text(encoding="utf-8")), encoding="utf-8")
    kotlin.compile_sources([litert, folder / "android"], class_path=kotlin.class_path(), out=folder / "litert")
    return folder


@pytest.fixture(scope="module")
def platform(jvm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `write_platform`."""
    return write_platform(tmp_path_factory.mktemp("platform"))


def compile_app(
    platform: Path,
    folder: Path,
    change: Callable[[str, str], str] = lambda _, text: text,
    *,
    r_java: str | None = None,
) -> None:
    """Compiles the app's sources into a folder; `change(name, text)` returns the text of each.

    `r_java` is the R of aapt. Without it, the numbers of the resources are made up.
    """
    library = f"{platform / 'litert'}:{kotlin.class_path()}"
    sources = folder / "sources"
    for file in SOURCES.rglob("*.kt"):
        target = sources / file.relative_to(SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(change(file.name, file.read_text(encoding="utf-8")), encoding="utf-8")
    kinds = "".join(
        f"  public static final class {kind} {{\n"
        + "".join(f"    public static final int {name} = {i};\n" for i, name in enumerate(sorted(names)))
        + "  }\n"
        for kind, names in resources().items()
    )
    r = sources / PACKAGE.replace(".", "/") / "R.java"
    r.write_text(r_java or f"package {PACKAGE};\n\npublic final class R {{\n{kinds}}}\n", encoding="utf-8")
    catalog = tomllib.loads((kotlin.DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))
    litert = catalog["versions"]["litert"]
    constants = f'  public static final String LITERT_VERSION = "{litert}";\n'  # Gradle's, from build.gradle.kts
    (r.parent / "BuildConfig.java").write_text(
        f"package {PACKAGE};\n\npublic final class BuildConfig {{\n{constants}}}\n", encoding="utf-8"
    )
    kotlin.compile_sources([sources, platform / "android"], class_path=library, out=folder / "classes")


def test_the_app_compiles(platform: Path, tmp_path: Path) -> None:
    """Against level 34. What level 26 does not have is used only within checks of SDK_INT."""
    compile_app(platform, tmp_path)
    assert (tmp_path / "classes" / PACKAGE.replace(".", "/") / "MainActivity.class").exists()
    api = signatures.parse(signatures.ANDROID.read_text(encoding="utf-8"))
    newer = levels.newer(levels.NEWER.read_text(encoding="utf-8"))
    assert levels.unguarded(tmp_path / "classes", api, newer) == []
    assert f"minSdk = {levels.OLDEST}\n" in (APP / "build.gradle.kts").read_text(encoding="utf-8")


def test_wrong_calls_do_not_compile(platform: Path, tmp_path: Path) -> None:
    """One compilation must refuse each of these changes: otherwise the signatures would accept anything."""
    wrong = {
        "LiteRtEngine.kt": ("Accelerator.NPU)", "Accelerator.TPU)"),
        "Microphone.kt": ("recorder.stop()", "recorder.halt()"),
        "MainActivity.kt": ("R.string.no_picker", "R.string.no_such_text"),
        "AudioFile.kt": ("codec.queueInputBuffer(index, 0, size, ", "codec.queueInputBuffer(index, "),
        "BarsView.kt": ("canvas.drawRect(0f", "canvas.drawRect(0.0"),
        "PhoneRecord.kt": ("Build.VERSION.RELEASE", "Build.VERSION.NAME"),
        "Session.kt": ("SelfTest.open(folder, bundle)", "SelfTest.open(bundle)"),
    }
    # LiteRT 2.0, and names that LiteRT never had.
    calls = {
        "Model": "com.google.ai.edge.litert.Model.load(path)",
        "nullable": "CompiledModel.create(path).createInputBuffer(path, null)",
        "options": "CompiledModel.GpuOptions(programCacheDir = path)",
        "environment": "Environment.create(path)",
        "buffer": "CompiledModel.create(path).run(mapOf<String, FloatArray>(), mapOf())",
        "handle": "TensorBuffer(1L)",
    }

    def damage(name: str, text: str) -> str:
        if name == "DemoApplication.kt":
            imports = "import android.app.Application\nimport com.google.ai.edge.litert.*"
            text = text.replace("import android.app.Application", imports)
            text += "".join(f"\nfun {call}(path: String) = {code}\n" for call, code in calls.items())
        if name not in wrong:
            return text
        old, new = wrong[name]
        assert old in text
        return text.replace(old, new)

    with pytest.raises(kotlin.KotlinError) as refusal:
        compile_app(platform, tmp_path, damage)
    for name in wrong:
        assert re.search(rf"{name}:\d+:\d+: error", str(refusal.value)), f"{name} compiled"
    for call, code in calls.items():
        assert f"fun {call}(path: String) = {code}" in str(refusal.value), f"{code} compiled"


# --- resources and the manifest ---


def texts() -> dict[str, str]:
    root = ET.parse(RESOURCES / "values" / "strings.xml").getroot()
    return {element.attrib["name"]: element.text or "" for element in root.iter("string")}


def sources() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in SOURCES.rglob("*.kt"))


def test_every_resource_exists_and_is_used() -> None:
    found = resources()
    used: dict[str, set[str]] = {kind: set() for kind in found}
    for kind, name in re.findall(r"(?<!android\.)\bR\.(\w+)\.(\w+)", sources()):
        used[kind].add(name)
    xml = "\n".join(file.read_text(encoding="utf-8") for file in (APP / "src" / "main").rglob("*.xml"))
    for kind, name in re.findall(r'"@(string|layout|id|xml)/(\w+)"', xml):
        used[kind].add(name)
    assert used == found


def test_texts_get_as_many_arguments_as_they_use() -> None:
    calls = re.findall(r"getString\(R\.string\.(\w+)((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)", sources())
    assert len(calls) > 10
    for name, arguments in calls:
        numbers = [int(n) for n in re.findall(r"%(\d)\$", texts()[name])]
        assert sorted(numbers) == list(range(1, 1 + arguments.count(","))), name


def test_the_android_manifest() -> None:
    root = ET.parse(APP / "src" / "main" / "AndroidManifest.xml").getroot()
    assert [p.get(f"{ANDROID}name") for p in root.iter("uses-permission")] == ["android.permission.RECORD_AUDIO"]
    (application,) = root.iter("application")
    libraries = {x.get(f"{ANDROID}name"): x.get(f"{ANDROID}required") for x in root.iter("uses-native-library")}
    assert libraries == {"libOpenCL.so": "false", "libvndksupport.so": "false"}
    (activity,) = root.iter("activity")
    for element in (application, activity):
        assert (SOURCES / PACKAGE.replace(".", "/") / f"{element.get(f'{ANDROID}name', '')[1:]}.kt").is_file()
    assert activity.get(f"{ANDROID}exported") == "true"  # Android 12 requires it
    for file in RESOURCES.rglob("*.xml"):
        for element in ET.parse(file).getroot().iter():
            if element.tag.startswith(PACKAGE):
                assert (SOURCES / (element.tag.replace(".", "/") + ".kt")).is_file()


# --- Gradle ---


def test_gradle_takes_a_litert_that_has_the_listed_api() -> None:
    catalog = tomllib.loads((kotlin.DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))
    major, minor = (int(number) for number in catalog["versions"]["litert"].split(".")[:2])
    found = re.fullmatch(r"litert-(\d+)\.(\d+)", litert_api.LIST.stem)
    assert found is not None
    assert major == int(found[1])
    assert minor >= int(found[2])


def test_gradle_takes_the_repositorys_bundle() -> None:
    build = (APP / "build.gradle.kts").read_text(encoding="utf-8")
    copied = [(kotlin.DEMO / path).resolve() for path in re.findall(r'from\(rootDir\.resolve\("([^"]+)"\)', build)]
    assert [path.name for path in copied] == ["demo_bundle", "demo_selftest"]
    assert (copied[0] / "manifest.json").is_file()
    assert (copied[1] / "selftest.json").is_file()
    assert not list(APP.rglob("*.tflite"))
    assert f'namespace = "{PACKAGE}"' in build


def test_only_records_are_shared() -> None:
    """The file provider shares only the folder of records, under the authority that the app uses."""
    root = ET.parse(APP / "src" / "main" / "AndroidManifest.xml").getroot()
    (provider,) = root.iter("provider")
    assert {name.removeprefix(ANDROID): value for name, value in provider.attrib.items()} == {
        "name": "androidx.core.content.FileProvider",
        "authorities": "${applicationId}.shared",
        "exported": "false",
        "grantUriPermissions": "true",
    }
    assert '"$packageName.shared"' in sources()
    (data,) = provider.iter("meta-data")
    assert data.get(f"{ANDROID}name") == "android.support.FILE_PROVIDER_PATHS"
    assert data.get(f"{ANDROID}resource") == "@xml/shared"
    (path,) = ET.parse(RESOURCES / "xml" / "shared.xml").getroot()
    assert (path.tag, path.get("path")) == ("cache-path", "records/")
    assert re.findall(r'const val FOLDER = "(\w+)"', sources()) == ["records"]


def test_every_version_stands_in_one_place() -> None:
    """The project's in pyproject.toml, LiteRT's in the catalog: the build script reads both, the sources have none."""
    script = (APP / "build.gradle.kts").read_text(encoding="utf-8")
    assert 'buildConfigField("String", "LITERT_VERSION", "\\"${libs.versions.litert.get()}\\"")' in script
    assert "versionName = projectVersion" in script
    (pattern,) = re.findall(r'Regex\("""(.+)"""', script)
    project = (kotlin.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(pattern, project, re.MULTILINE) == [tomllib.loads(project)["project"]["version"]]
    assert not re.search(r'"\d+\.\d+(\.\d+)?"', sources())


def test_gradle_names_only_what_the_catalog_has() -> None:
    catalog = (kotlin.DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
    aliases = {name.replace("-", ".") for name in re.findall(r"^([\w-]+) = \{", catalog, re.MULTILINE)}
    scripts = [kotlin.DEMO / "build.gradle.kts", APP / "build.gradle.kts", kotlin.DEMO / "tagger" / "build.gradle.kts"]
    for script in scripts:
        names = re.findall(r"libs\.(?!versions\.)(?:plugins\.)?([\w.]+)", script.read_text(encoding="utf-8"))
        assert names
        assert set(names) <= aliases, script
