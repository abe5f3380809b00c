"""The Android modules of android_demo: they compile; their resources, manifests and Gradle files are consistent."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import apk
import kotlin
import levels
import litert_api
import manifests
import modules
import pytest
from manifests import ANDROID
from modules import APP, LIBRARY, MODULES, Module

SCRIPTS = [kotlin.DEMO / "build.gradle.kts", *sorted(kotlin.DEMO.glob("*/build.gradle.kts"))]


def source_text(module: Module) -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in module.sources)


def of_class(name: str) -> Path | None:
    """Returns the source of a class of the modules, by its full name."""
    files = [module.main / "kotlin" / f"{name.replace('.', '/')}.kt" for module in MODULES]
    return next((file for file in files if file.is_file()), None)


# --- compiling ---


def test_the_modules_compile(jvm: None) -> None:
    """Against level 34, the app against the published files alone."""
    for module, classes, main in (
        (LIBRARY, modules.library_classes(), "LiteRtEngine"),
        (APP, modules.app_classes(), "MainActivity"),
    ):
        assert (classes / module.package / f"{main}.class").exists()
        assert module.value("minSdk") == str(levels.OLDEST)


def test_what_level_26_lacks_is_used_only_within_checks(jvm: None, android_levels: levels.Levels) -> None:
    """The JDK's classes are Android's own there, for the library, too, which is tested on a JDK."""
    classes = [kotlin.library(), modules.library_classes(), modules.app_classes()]
    class_path = [*kotlin.dependencies(), modules.platform() / "litert"]
    assert levels.unguarded(classes, class_path, android_levels) == []


WRONG = {
    LIBRARY: {
        "LiteRtEngine.kt": ("Accelerator.NPU)", "Accelerator.TPU)"),
        "Microphone.kt": ("recorder.release()", "recorder.halt()"),
        "AudioFile.kt": ("codec.queueInputBuffer(index, 0, size, ", "codec.queueInputBuffer(index, "),
    },
    APP: {
        "MainActivity.kt": ("R.string.whole_file", "R.string.no_such_text"),
        "TimelineView.kt": ("canvas.drawRect(x(seconds), 0f", "canvas.drawRect(x(seconds), 0.0"),
        "PhoneRecord.kt": ("Build.VERSION.RELEASE", "Build.VERSION.NAME"),
        "Session.kt": ("SelfTest.open(bundle)", "SelfTest.open()"),
    },
}
"""Changes, each of which the compiler must refuse: otherwise the signatures would accept anything."""

CALLS = {  # LiteRT 2.0, and names that LiteRT never had
    "Model": "com.google.ai.edge.litert.Model.load(path)",
    "nullable": "CompiledModel.create(path).createInputBuffer(path, null)",
    "options": "CompiledModel.GpuOptions(programCacheDir = path)",
    "environment": "Environment.create(path)",
    "buffer": "CompiledModel.create(path).run(mapOf<String, FloatArray>(), mapOf())",
    "handle": "TensorBuffer(1L)",
}


def test_wrong_calls_do_not_compile(jvm: None, tmp_path: Path) -> None:
    """One compilation of each module must refuse each of its changes."""
    calls = "".join(f"\nfun {name}(path: String) = {code}\n" for name, code in CALLS.items())

    def damage(module: Module, name: str, text: str) -> str:
        if name in WRONG[module]:
            old, new = WRONG[module][name]
            assert old in text
            text = text.replace(old, new)
        return text + calls if name == "LiteRtEngine.kt" else text

    messages = {}
    with pytest.raises(kotlin.KotlinError) as refusal:
        modules.compile_library(tmp_path / "library", lambda name, text: damage(LIBRARY, name, text))
    messages[LIBRARY] = str(refusal.value)
    with pytest.raises(kotlin.KotlinError) as refusal:
        modules.compile_app(APP, modules.published(), tmp_path, lambda name, text: damage(APP, name, text))
    messages[APP] = str(refusal.value)
    for module, wrong in WRONG.items():
        for name in wrong:
            assert re.search(rf"{name}:\d+:\d+: error", messages[module]), f"{name} compiled"
    for name, code in CALLS.items():
        assert f"fun {name}(path: String) = {code}" in messages[LIBRARY], f"{code} compiled"


# --- resources ---


def used(module: Module) -> modules.Names:
    """Returns the resources that the sources and the XML files of a module name."""
    xml = "\n".join(file.read_text(encoding="utf-8") for file in module.main.rglob("*.xml"))
    names = re.findall(r"(?<![\w.])R\.(\w+)\.(\w+)", source_text(module)) + re.findall(
        r"[\">]@(\w+)/([\w.]+)[\"<]", xml
    )
    found: modules.Names = {}
    for kind, name in names:
        found.setdefault(kind, set()).add(name.replace(".", "_"))
    return found


def test_every_resource_exists_and_is_used() -> None:
    exists = {module: modules.resources(module.resources) for module in MODULES}
    uses = {module: used(module) for module in MODULES}
    below: dict[Module, list[Module]] = {LIBRARY: [LIBRARY], APP: [LIBRARY, APP]}
    for module in MODULES:
        for kind, names in uses[module].items():
            assert names <= set().union(*(exists[m].get(kind, set()) for m in below[module])), (module, kind)
        for kind, names in exists[module].items():
            assert names <= set().union(*(uses[m].get(kind, set()) for m in MODULES)), (module, kind)
    assert sum(map(len, exists[APP].values())) > 20


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        (
            "mipmap-anydpi-v26/icon.xml",
            '<adaptive-icon xmlns:{0} android:id="@+id/a" />',
            {"mipmap": "icon", "id": "a"},
        ),
        ("drawable-night-xhdpi/line.9.png", "\x89PNG", {"drawable": "line"}),
        ("layout-land/main.xml", '<View xmlns:{0} android:id="@+id/view" />', {"layout": "main", "id": "view"}),
        ("values-night/any.xml", '<resources><style name="Theme.App" /></resources>', {"style": "Theme_App"}),
        ("values/any.xml", '<resources><item type="dimen" name="a">1dp</item></resources>', {"dimen": "a"}),
        ("values/any.xml", '<resources><string-array name="a" /></resources>', {"array": "a"}),
        ("values/any.xml", '<resources><declare-styleable name="a" /></resources>', "any.xml has <declare-styleable>"),
        ("layouts/main.xml", "<View />", "layouts/main.xml is in no folder of resources"),
        ("main.xml", "<View />", "main.xml is in no folder of resources"),
    ],
)
def test_every_kind_of_resource_is_read(tmp_path: Path, file: str, text: str, found: dict[str, str] | str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.replace("xmlns:{0}", f'xmlns:android="{ANDROID[1:-1]}"'), encoding="latin-1")
    if isinstance(found, str):
        with pytest.raises(ValueError, match=found):
            modules.resources(tmp_path)
    else:
        assert modules.resources(tmp_path) == {kind: {name} for kind, name in found.items()}


def texts(module: Module) -> dict[str, str]:
    found = {}
    for file in (module.resources / "values").glob("*.xml"):
        found |= {element.attrib["name"]: element.text or "" for element in ET.parse(file).iter("string")}
    return found


def test_texts_get_as_many_arguments_as_they_use() -> None:
    count = 0
    for module in MODULES:
        nested = r"((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)"
        calls = re.findall(rf"(?:getString|text)\(R\.string\.(\w+){nested}\)", source_text(module))
        count += len(calls)
        for name, arguments in calls:
            numbers = [int(n) for n in re.findall(r"%(\d)\$", texts(module)[name])]
            assert sorted(numbers) == list(range(1, 1 + arguments.count(","))), name
    assert count > 10


# --- manifests ---


def test_the_android_manifest(jvm: None) -> None:
    root = ET.fromstring(apk.merged_manifest(APP, modules.published()))
    permissions = [p.get(f"{ANDROID}name", "").rpartition(".")[2] for p in root.iter("uses-permission")]
    assert permissions == [
        *("RECORD_AUDIO", "FOREGROUND_SERVICE", "FOREGROUND_SERVICE_MICROPHONE"),
        *("POST_NOTIFICATIONS", "MODIFY_AUDIO_SETTINGS"),
    ]
    readme = (kotlin.DEMO / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z_]+)` \|", readme, re.MULTILINE) == permissions
    (application,) = root.iter("application")
    libraries = {x.get(f"{ANDROID}name"): x.get(f"{ANDROID}required") for x in root.iter("uses-native-library")}
    assert libraries == {"libOpenCL.so": "false", "libvndksupport.so": "false"}
    for element in application.iter():
        if element.tag in ("application", *manifests.COMPONENTS):
            name = element.get(f"{ANDROID}name", "")
            assert of_class(name) or name == "androidx.core.content.FileProvider"
        if element.find("intent-filter") is not None:
            assert element.get(f"{ANDROID}exported") is not None  # Android 12 requires it
    for module in MODULES:
        for file in module.resources.rglob("*.xml"):
            for element in ET.parse(file).getroot().iter():
                assert "." not in element.tag or of_class(element.tag), (file, element.tag)


MANIFEST = """\
<manifest xmlns:android="http://schemas.android.com/apk/res/android" xmlns:tools="http://schemas.android.com/tools">
    <uses-feature android:name="f" android:required="false" />
    <application><service android:name=".S" tools:ignore="Any" /></application>
</manifest>
"""


def merged(change: tuple[str, str] = ("", ""), level: str = "26") -> ET.Element:
    """An app and a library with the same manifest but for one change of the library's."""
    library = manifests.complete(MANIFEST.replace(*change), "b.c", "26")
    app = manifests.complete(
        MANIFEST.replace("<service", '<activity android:name="${applicationId}.A" /><service'), "a"
    )
    return ET.fromstring(manifests.merge(app, [library], application_id="id", level=level))


def test_manifests_are_merged() -> None:
    root = merged(('<uses-feature android:name="f" android:required="false"', '<uses-permission android:name="p"'))
    assert [(e.tag, e.get(f"{ANDROID}name")) for e in root.iter()] == [
        *[("manifest", None), ("uses-feature", "f"), ("application", None), ("activity", "id.A")],
        *[("service", "a.S"), ("service", "b.c.S"), ("uses-permission", "p")],
    ]
    assert root.get("package") == "a"
    assert not [name for element in root.iter() for name in element.attrib if name.startswith(manifests.TOOLS)]
    assert [e.tag for e in merged()] == ["uses-feature", "application"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (('required="false"', 'required="true"'), "b.c has another <uses-feature> of the name f than the app"),
        (("<application>", '<application android:label="a">'), "b.c sets .*label of the app"),
        (("<uses-feature", "<queries"), "b.c has <queries>; expected one of uses-permission, uses-feature"),
        (("<service", "<profileable"), "b.c has <profileable>; expected one of activity"),
        (("tools:ignore", "tools:node"), "b.c has tools:node; only Gradle can merge it"),
        ((".S", "${host}.S"), "a placeholder is left"),
        (("</application>", "</application><application />"), "2 elements <application>; expected one"),
    ],
)
def test_what_cannot_be_merged_is_refused(change: tuple[str, str], why: str) -> None:
    with pytest.raises(manifests.ManifestError, match=why):
        merged(change)


def test_a_library_of_a_higher_level_is_refused() -> None:
    with pytest.raises(manifests.ManifestError, match=r"b\.c has a higher minSdk than the app's 25"):
        merged(level="25")


def test_only_records_are_shared() -> None:
    """The file provider shares only the folder of records, under the authority that the app uses."""
    root = ET.parse(APP.manifest).getroot()
    (provider,) = root.iter("provider")
    assert {name.removeprefix(ANDROID): value for name, value in provider.attrib.items()} == {
        "name": "androidx.core.content.FileProvider",
        "authorities": "${applicationId}.shared",
        "exported": "false",
        "grantUriPermissions": "true",
    }
    assert '"$packageName.shared"' in source_text(APP)
    (data,) = provider.iter("meta-data")
    assert data.get(f"{ANDROID}name") == "android.support.FILE_PROVIDER_PATHS"
    assert data.get(f"{ANDROID}resource") == "@xml/shared"
    (path,) = ET.parse(APP.resources / "xml" / "shared.xml").getroot()
    assert (path.tag, path.get("path")) == ("cache-path", "records/")
    assert re.findall(r'const val FOLDER = "(\w+)"', source_text(APP)) == ["records"]


# --- Gradle ---


def test_gradle_takes_a_litert_that_has_the_listed_api() -> None:
    catalog = tomllib.loads(modules.CATALOG.read_text(encoding="utf-8"))
    major, minor = (int(number) for number in catalog["versions"]["litert"].split(".")[:2])
    found = re.fullmatch(r"litert-(\d+)\.(\d+)", litert_api.LIST.stem)
    assert found is not None
    assert major == int(found[1])
    assert minor >= int(found[2])


def test_gradle_takes_the_repositorys_bundle() -> None:
    build = APP.script.read_text(encoding="utf-8")
    copied = [(kotlin.DEMO / path).resolve() for path in re.findall(r'from\(rootDir\.resolve\("([^"]+)"\)', build)]
    assert [path.name for path in copied] == ["demo_bundle"]
    assert (copied[0] / "manifest.json").is_file()
    assert (copied[0] / "selftest.json").is_file()
    assert not list(APP.main.rglob("*.tflite"))


def test_every_version_stands_in_one_place() -> None:
    """The project's in the Python package, LiteRT's in the catalog: build scripts read both, the sources have none."""
    script = LIBRARY.script.read_text(encoding="utf-8")
    assert 'buildConfigField("String", "LITERT_VERSION", "\\"${libs.versions.litert.get()}\\"")' in script
    root = SCRIPTS[0].read_text(encoding="utf-8")
    (pattern,) = re.findall(r'Regex\("""(.+)"""', root)
    found = re.findall(pattern, modules.VERSION.read_text(encoding="utf-8"), re.MULTILINE)
    assert f'resolve("../{modules.VERSION.relative_to(modules.ROOT).as_posix()}")' in root
    assert found == [modules.version()]
    assert "version = projectVersion" in root
    assert "versionName = project.version.toString()" in APP.script.read_text(encoding="utf-8")
    for module in MODULES:
        assert not re.search(r'"\d+\.\d+(\.\d+)?"', source_text(module))


def test_gradle_names_only_what_the_catalog_has() -> None:
    catalog = tomllib.loads(modules.CATALOG.read_text(encoding="utf-8"))
    assert len(SCRIPTS) == 4
    for script in SCRIPTS:
        names = re.findall(
            r"libs\.(?:(versions|plugins)\.)?([\w.]+?)(?:\.get\(\))?[)}]", script.read_text(encoding="utf-8")
        )
        assert names
        for table, name in names:
            assert name.replace(".", "-") in catalog[table or "libraries"], script


def test_both_libraries_are_published_with_sources_and_licence() -> None:
    """Under the group and with the names that the recipe has, and as the project's own licence."""
    root = SCRIPTS[0].read_text(encoding="utf-8")
    assert 'group = "io.github.pannslitert"' in root
    licence = tomllib.loads(modules.PROJECT.read_text(encoding="utf-8"))["project"]["license"]
    assert re.findall(r'name = "([^$"]+)"$', root, re.MULTILINE) == [licence]
    for name in ("tagger", "tagger-litert"):
        script = (kotlin.DEMO / name / "build.gradle.kts").read_text(encoding="utf-8")
        assert "    `maven-publish`\n" in script
        assert f'register<MavenPublication>("{name}")' in script
        assert "withSourcesJar()" in script
        assert 'description = "' in script
        assert f'":{name}"' in (kotlin.DEMO / "settings.gradle.kts").read_text(encoding="utf-8")


def test_apps_with_an_older_kotlin_can_use_the_libraries(jvm: None) -> None:
    """A compiler reads what was compiled for its own version of the language: that of the Android plugin is enough."""
    oldest = tomllib.loads(modules.CATALOG.read_text(encoding="utf-8"))["versions"]["library-kotlin"]
    constant = f"KotlinVersion.KOTLIN_{kotlin.LANGUAGE.replace('.', '_')}"
    for name, folder, file in (
        ("tagger", kotlin.library(), "io/github/pannslitert/bundle/Bundle.class"),
        ("tagger-litert", modules.library_classes(), f"{LIBRARY.package}/LiteRtEngine.class"),
    ):
        script = (kotlin.DEMO / name / "build.gradle.kts").read_text(encoding="utf-8")
        assert f"languageVersion = {constant}" in script
        assert f"apiVersion = {constant}" in script
        assert "coreLibrariesVersion = libs.versions.library.kotlin.get()" in script
        listing = kotlin.run_tool("javap", "-v", "-cp", str(folder), file[:-6].replace("/", "."))
        (metadata,) = re.findall(r"mv=\[(\d+),(\d+),\d+\]", listing)
        assert ".".join(metadata) == kotlin.LANGUAGE == oldest.rpartition(".")[0]


WRAPPER = {  # the files of Gradle 9.4.1, with the line ends of its repository; https://gradle.org/release-checksums
    "gradle/wrapper/gradle-wrapper.jar": "55243ef57851f12b070ad14f7f5bb8302daceeebc5bce5ece5fa6edb23e1145c",
    "gradlew": "aed171fb114f82e6eaea4970a245a200e0582a7dcc8ec0891ca41b6e4a62b754",
    "gradlew.bat": "9ca26d733ada3a45f27b2151288f54e75c9f95b287d1f82ef942ec5cc2d4f006",
}
DISTRIBUTION = "https://services.gradle.org/distributions/gradle-9.4.1-bin.zip"


def test_the_wrapper_is_gradles_own() -> None:
    for name, sha256 in WRAPPER.items():
        data = (kotlin.DEMO / name).read_bytes()
        if name.endswith(".bat"):
            assert data.count(b"\r\n") == data.count(b"\n")
            data = data.replace(b"\r\n", b"\n")
        assert hashlib.sha256(data).hexdigest() == sha256, name
    assert next(iter(WRAPPER.values())) in (kotlin.DEMO / "README.md").read_text(encoding="utf-8")
    assert (kotlin.DEMO / "gradlew").stat().st_mode & 0o111


def test_the_wrapper_asks_for_the_pinned_gradle(jvm: None, tmp_path: Path) -> None:
    """It starts and names what it would download. There is no proxy at the address that it gets, so it ends there."""
    properties = (kotlin.DEMO / "gradle/wrapper/gradle-wrapper.properties").read_text(encoding="utf-8")
    assert re.search(r"^distributionSha256Sum=[0-9a-f]{64}$", properties, re.MULTILINE)
    nowhere = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9"
    result = subprocess.run(
        ["./gradlew", "--version"],
        cwd=kotlin.DEMO,
        env={**os.environ, "GRADLE_USER_HOME": str(tmp_path), "JAVA_OPTS": nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.startswith(f"Downloading {DISTRIBUTION}\n")
    assert result.returncode != 0
    assert "java.net.ConnectException" in result.stderr
