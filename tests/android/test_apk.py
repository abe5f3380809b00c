"""The APK of the Android app, without LiteRT: built by apk.py and read back with Debian's tools. Nothing runs it."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import apk
import kotlin
import modules
import pytest
from manifests import ANDROID, COMPONENTS
from modules import APP, LIBRARY
from support import ROOT

ABSENT = ("Lcom/google/ai/edge/litert/", "Landroidx/core/content/FileProvider;")
"""What the app uses and Google's Maven alone has. Gradle adds it; here it is not in the APK."""
PLATFORM = ("Landroid/", "Ljava/", "Ljavax/", "Ldalvik/annotation/")


@pytest.fixture(scope="module")
def built(jvm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The APK. Skips where a tool is missing."""
    path = tmp_path_factory.mktemp("apk") / "app.apk"
    try:
        apk.build(path)
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))
    return path


def dex_classes(path: Path) -> set[str]:
    """Returns the classes that an APK defines, as descriptors."""
    return set(re.findall(r"^  Class descriptor  : '(L.+;)'$", kotlin.run_tool("dexdump", str(path)), re.MULTILINE))


@pytest.fixture(scope="module")
def classes(built: Path) -> set[str]:
    """The classes that the APK defines."""
    return dex_classes(built)


def read_xml(path: Path, name: str) -> ET.Element:
    """Reads a binary XML file of an APK. Texts and flags are as in the source, other values as aapt prints them."""
    parents: list[tuple[int, ET.Element]] = [(-1, ET.Element("file"))]
    for line in kotlin.run_tool("aapt", "dump", "xmltree", str(path), name).splitlines():
        depth = len(line) - len(line.lstrip())
        if found := re.match(r" *E: (\S+) ", line):
            while parents[-1][0] >= depth:
                parents.pop()
            parents.append((depth, ET.SubElement(parents[-1][1], found[1])))
        elif found := re.match(r' *A: ([\w:]+)(?:\(0x\w+\))?=(?:"(.*)" \(Raw: .*|(.*))$', line):
            value = {"(type 0x12)0xffffffff": "true", "(type 0x12)0x0": "false"}.get(found[3], found[2] or found[3])
            parents[-1][1].set(found[1].replace("android:", ANDROID), value)
    return parents[0][1][0]


def descriptor(name: str) -> str:
    """Returns the descriptor of a class."""
    return f"L{name.replace('.', '/')};"


@pytest.fixture(scope="module")
def source(jvm: None) -> ET.Element:
    """The manifest that is packed."""
    return ET.fromstring(apk.merged_manifest(APP, modules.published()))


def test_what_is_missing_is_named(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apk, "FRAMEWORK", built)  # a file with resources of level 26
    with pytest.raises(kotlin.ToolMissingError, match=r"of API level 26, .* needs level 30"):
        apk.require_tools()
    monkeypatch.setattr(apk, "FRAMEWORK", tmp_path / "none.apk")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(kotlin.ToolMissingError, match=r"apt install aapt zipalign apksigner .* android-framework-res"):
        apk.require_tools()
    assert apk.main([str(tmp_path / "app.apk")]) == 2
    assert capsys.readouterr().err.startswith("error: building the APK needs")
    assert apk.main([]) == 2
    assert "usage: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- the manifest and the resources ---


def test_what_android_shows_of_the_apk(built: Path, source: ET.Element) -> None:
    badging = kotlin.run_tool("aapt", "dump", "badging", str(built))
    facts = dict(re.findall(r"^(\w[\w-]+):'(.*)'$", badging, re.MULTILINE))
    version = f"versionCode='{APP.value('versionCode')}' versionName='{modules.version()}'"
    assert f"package: name='{APP.namespace}' {version} " in badging
    assert facts["sdkVersion"] == APP.value("minSdk") == "26"
    assert facts["targetSdkVersion"] == APP.value("targetSdk")
    assert f"launchable-activity: name='{APP.namespace}.MainActivity'" in badging
    assert re.findall(r"^ *uses-feature-not-required: name='(.*)'$", badging, re.MULTILINE) == [
        feature.get(f"{ANDROID}name") for feature in source.iter("uses-feature")
    ]
    (application,) = source.iter("application")
    (icon,) = re.findall(r"^application: .*icon='(.*)'$", badging, re.MULTILINE)
    assert bool(icon) == (application.get(f"{ANDROID}icon") is not None)
    assert not icon or icon in zipfile.ZipFile(built).namelist()


def test_the_permissions_are_the_manifests(built: Path, source: ET.Element) -> None:
    found = kotlin.run_tool("aapt", "dump", "permissions", str(built)).splitlines()
    assert found[0] == f"package: {APP.namespace}"
    names = [permission.get(f"{ANDROID}name") for permission in source.iter("uses-permission")]
    assert found[1:] == [f"uses-permission: name='{name}'" for name in names]


def test_the_packed_manifest_is_the_source(built: Path, source: ET.Element) -> None:
    """Every element and every attribute is there: texts and flags with their value, others as numbers of their own."""
    packed = [e for e in read_xml(built, "AndroidManifest.xml").iter() if e.tag != "uses-sdk"]
    assert [element.tag for element in packed] == [element.tag for element in source.iter()]
    for found, wanted in zip(packed, source.iter(), strict=True):
        assert set(wanted.attrib) <= set(found.attrib)
        for name, value in wanted.attrib.items():
            plain = not found.attrib[name].startswith(("@", "("))
            assert found.attrib[name] == value or not plain, (wanted.tag, name)


def test_every_component_is_in_the_dex_and_says_if_others_may_start_it(built: Path, classes: set[str]) -> None:
    manifest = read_xml(built, "AndroidManifest.xml")
    (application,) = manifest.iter("application")
    assert descriptor(application.attrib[f"{ANDROID}name"]) in classes
    components = [element for element in application if element.tag in COMPONENTS]
    assert components
    for element in components:
        name = descriptor(element.attrib[f"{ANDROID}name"])
        assert name in classes or name in ABSENT, f"{element.tag} {name} is not in the APK"
        launcher = any(c.get(f"{ANDROID}name") == "android.intent.category.LAUNCHER" for c in element.iter("category"))
        assert element.get(f"{ANDROID}exported") == ("true" if launcher else "false")


def test_the_resources_are_the_sources(built: Path, classes: set[str]) -> None:
    dump = kotlin.run_tool("aapt", "dump", "resources", str(built))
    found: dict[str, set[str]] = {}
    for kind, name in re.findall(rf"spec resource 0x\w+ {re.escape(APP.namespace)}:(\w+)/([\w.]+):", dump):
        found.setdefault(kind, set()).add(name.replace(".", "_"))
    wanted: modules.Names = {}
    for module in (LIBRARY, APP):
        for kind, names in modules.resources(module.resources).items():
            wanted.setdefault(kind, set()).update(names)
    assert found == wanted
    with zipfile.ZipFile(built) as archive:
        layouts = [name for name in archive.namelist() if name.startswith("res/layout")]
    assert layouts
    for layout in layouts:
        views = {element.tag for element in read_xml(built, layout).iter() if "." in element.tag}
        assert {descriptor(view) for view in views} <= classes


REFUSED = {
    "attribute": ("AndroidManifest.xml", 'android:exported="true"', 'android:exportd="true"', "exportd"),
    "flag": ("AndroidManifest.xml", 'android:exported="true"', 'android:exported="yes"', "exported"),
    "theme": ("AndroidManifest.xml", "@style/Theme.App", "@style/Theme.Ap", "Theme.Ap'"),
    "label": ("AndroidManifest.xml", "@string/app_name", "@string/app_title", "app_title"),
    "text": ("layout/controls.xml", "@string/listen", "@string/listn", "listn"),
    "size": ("layout/main.xml", 'android:padding="16dp"', 'android:padding="16dq"', "padding"),
    "string": ("values/strings.xml", "%1$.1f s were", "%.1f s of %s were", "positional"),
}


@pytest.mark.parametrize(("file", "old", "new", "named"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_resource_is_refused(jvm: None, file: str, old: str, new: str, named: str, tmp_path: Path) -> None:
    try:
        apk.require_tools()
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))
    manifest, folder = apk.merged_manifest(APP, modules.published()), tmp_path / "res"
    shutil.copytree(APP.resources, folder)
    text = manifest if file == "AndroidManifest.xml" else (folder / file).read_text(encoding="utf-8")
    assert old in text
    if file == "AndroidManifest.xml":
        manifest = text.replace(old, new)
    else:
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(kotlin.KotlinError, match=named):
        apk.pack_resources(
            tmp_path / "packed.apk", tmp_path, APP, manifest=manifest, resources=[folder, LIBRARY.resources]
        )


# --- assets, alignment, signature ---


def test_the_demo_bundle_is_in_the_assets(built: Path) -> None:
    """As Gradle's copyDemoBundle puts it there. The model is not compressed, so that it can be mapped into memory."""
    files = {file.name: file for file in (ROOT / "assets" / "demo_bundle").iterdir()}
    assert {"manifest.json", "selftest.json", "selftest.pcm"} <= files.keys()
    with zipfile.ZipFile(built) as archive:
        folder = "assets/bundles/demo/"
        found = {info.filename.removeprefix(folder): info for info in archive.infolist() if folder in info.filename}
        assert found.keys() == files.keys()
        for name, info in found.items():
            assert archive.read(info) == files[name].read_bytes()
        models = [info for name, info in found.items() if name.endswith(".tflite")]
        assert [info.compress_type for info in models] == [zipfile.ZIP_STORED]


def test_the_apk_is_aligned_and_has_no_native_library(built: Path) -> None:
    """No .so: LiteRT's are missing. Nothing here has to be on 16 KB pages, then."""
    kotlin.run_tool("zipalign", "-c", "-p", "4", str(built))
    assert not [name for name in zipfile.ZipFile(built).namelist() if name.endswith(".so")]


def test_the_signature_holds_until_a_byte_changes(built: Path, tmp_path: Path) -> None:
    report = kotlin.run_tool("apksigner", "verify", "--verbose", "--print-certs", str(built))
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in report
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in report
    assert "certificate DN: CN=debug" in report
    data = bytearray(built.read_bytes())
    data[data.index(b"classes.dex") + 1000] ^= 1
    changed = tmp_path / "changed.apk"
    changed.write_bytes(data)
    with pytest.raises(kotlin.KotlinError, match="DOES NOT VERIFY"):
        kotlin.run_tool("apksigner", "verify", str(changed))


# --- code ---


def test_the_dex_has_the_app_and_no_stub_or_test(classes: set[str]) -> None:
    for sources in (kotlin.MAIN, *(module.main / "kotlin" for module in (LIBRARY, APP))):
        packages = {str(file.parent.relative_to(sources)) for file in sources.rglob("*.kt")}
        assert packages <= {name[1:].rpartition("/")[0] for name in classes}
    assert {descriptor("kotlin.Unit"), descriptor("com.google.gson.JsonParser")} <= classes
    annotations = ("Lorg/jetbrains/annotations/", "Lorg/intellij/lang/annotations/")  # Kotlin's library needs them
    allowed = ("Lio/github/pannslitert/", "Lkotlin/", "Lcom/google/gson/", *annotations)
    assert [name for name in classes if not name.startswith(allowed)] == []
    tests = [path.stem for path in kotlin.TESTS.rglob("*.kt")]
    assert [name for name in classes if re.fullmatch(rf"L.*/({'|'.join(tests)})(Kt)?(\$.*)?;", name)] == []


def test_only_litert_and_the_file_provider_are_missing(built: Path, classes: set[str]) -> None:
    """Every type that the code names is in the APK or in Android, or Gradle must add it. Nothing else was left out."""
    types = {line.lstrip("[") for line in kotlin.run_tool("baksmali", "list", "types", str(built)).splitlines()}
    named = {name for name in types if name.startswith("L")}
    assert classes <= named
    missing = {name for name in named - classes if not name.startswith(PLATFORM)}
    assert {next((start for start in ABSENT if name.startswith(start)), name) for name in missing} == set(ABSENT)


def test_the_ontology_is_where_the_library_looks(built: Path) -> None:
    source = (kotlin.MAIN / "io/github/pannslitert/sense/Ontology.kt").read_text(encoding="utf-8")
    (name,) = re.findall(r'"/(.*\.json)"', source)
    (file,) = kotlin.RESOURCES.values()
    assert zipfile.ZipFile(built).read(name) == file.read_bytes()


def test_a_release_has_the_same_components_and_less_code(built: Path, classes: set[str], tmp_path: Path) -> None:
    """R8 removes and renames the rest. It refuses code that needs a class that is nowhere."""
    release = tmp_path / "release.apk"
    apk.build(release, release=True)
    shrunk = dex_classes(release)
    (application,) = read_xml(release, "AndroidManifest.xml").iter("application")
    names = [e.attrib[f"{ANDROID}name"] for e in application.iter() if e.tag in ("application", *COMPONENTS)]
    assert {descriptor(name) for name in names} - shrunk <= set(ABSENT)
    assert f"{ANDROID}debuggable" not in application.attrib
    own = [{name for name in found if name.startswith("Lio/github/pannslitert/")} for found in (classes, shrunk)]
    assert len(own[1]) < len(own[0]) / 4
    files = [zipfile.ZipFile(path).infolist() for path in (built, release)]
    sizes = [sum(info.file_size for info in infos if info.filename.endswith(".dex")) for infos in files]
    assert sizes[1] < sizes[0] / 4
    assert {info.filename for info in files[0] if ".dex" not in info.filename} == {
        info.filename for info in files[1] if ".dex" not in info.filename
    }
