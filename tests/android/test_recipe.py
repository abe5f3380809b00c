"""The samples of android_demo/samples, and the recipe of android_demo/README.md: nothing but the published files and a
sample's own text is in the folder where it is compiled and packed."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import apk
import kotlin
import levels
import manifests
import modules
import pytest
from manifests import ANDROID
from modules import AAR, JAR, Module
from test_apk import descriptor, dex_classes, read_xml

SAMPLES = sorted(path for path in (kotlin.DEMO / "samples").iterdir() if path.is_dir())
RECIPE = kotlin.DEMO / "samples" / "recipe"
MOST_LINES = 30
PACKAGES = ("audio", "bundle", "events", "frontend", "litert", "measure", "sense", "tagging")


def recipe() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Returns the blocks of code of the section "In your own app", language and text: the recipe's, and the rest."""
    readme = (kotlin.DEMO / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## In your own app\n")[2].partition("\n## ")[0]
    recipe, _, rest = section.partition("\n`SoundTagger` does more:\n")
    assert rest
    found = [re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for text in (recipe, rest)]
    return found[0], found[1]


def test_the_recipe_is_the_sample_and_short() -> None:
    blocks, _ = recipe()
    code = [text for language, text in blocks if language == "kotlin"]
    assert code == [(RECIPE / name).read_text(encoding="utf-8") for name in ("build.gradle.kts", "MainActivity.kt")]
    assert sum(bool(line.strip()) for _, text in blocks for line in text.splitlines()) <= MOST_LINES
    assert f'"io.github.pannslitert:tagger-litert:{modules.version()}"' in code[0]


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda path: path.name)
def sample(jvm: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of a sample and of the two published files, and the compiled classes of the sample."""
    folder = tmp_path_factory.mktemp("sample")
    shutil.copytree(request.param, folder / "app")
    for name in (JAR, AAR):
        shutil.copy(modules.published() / name, folder)
    modules.compile_app(Module(folder / "app"), folder, folder / "built")
    return folder


def test_a_sample_is_packed_with_the_library(sample: Path, tmp_path: Path) -> None:
    app = Module(sample / "app")
    packed = tmp_path / "sample.apk"
    try:
        apk.assemble(packed, app, classes=sample / "built" / "classes", published=sample)
    except kotlin.ToolMissingError as error:
        pytest.skip(str(error))
    classes = dex_classes(packed)
    with zipfile.ZipFile(sample / AAR) as aar:
        library = ET.fromstring(aar.read("AndroidManifest.xml"))
    own = ET.fromstring(app.complete_manifest())
    manifest = read_xml(packed, "AndroidManifest.xml")
    for tag in ("uses-permission", "uses-feature", "uses-native-library", *manifests.COMPONENTS):
        names = [{e.get(f"{ANDROID}name") for e in root.iter(tag)} for root in (manifest, library, own)]
        assert names[0] == names[1] | names[2]
        assert {descriptor(str(name)) for name in names[0]} <= classes or tag not in manifests.COMPONENTS
    assert descriptor(f"{app.namespace}.MainActivity") in classes
    resources = kotlin.run_tool("aapt", "dump", "resources", str(packed))
    wanted = modules.resources(modules.LIBRARY.resources)
    assert wanted
    for kind, names in wanted.items():
        for name in names:
            assert f"{app.namespace}:{kind}/{name}:" in resources


def test_a_sample_uses_what_level_26_lacks_only_within_checks(sample: Path, android_levels: levels.Levels) -> None:
    library = [sample / JAR, sample / "built" / "aar" / "classes.jar"]
    class_path = [*library, *kotlin.dependencies(), modules.platform() / "litert"]
    assert levels.unguarded([sample / "built" / "classes"], class_path, android_levels) == []


def test_what_else_the_readme_calls_compiles(jvm: None, tmp_path: Path) -> None:
    """The blocks below the recipe, in functions that have what a block does not say itself."""
    ((_, more),) = recipe()[1]
    readme = (kotlin.DEMO / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## tagger\n")[2].partition("\n## ")[0]
    (library,) = re.findall(r"^```kotlin\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    app = tmp_path / "app"
    shutil.copytree(RECIPE, app)
    imports = "".join(f"import io.github.pannslitert.{package}.*\n" for package in PACKAGES)
    (app / "More.kt").write_text(
        "package com.example.listen\n\nimport android.content.Context\nimport android.net.Uri\nimport java.io.File\n"
        f'{imports}\n@Suppress("UNUSED_VARIABLE")\n'
        "fun more(context: Context, uri: Uri, tagger: SoundTagger, samples: ShortArray) {\n"
        "    fun save(event: Event) = println(event)\n    fun alert(label: String) = println(label)\n"
        f"{more}}}\n\n"
        "fun library(folder: File, recording: Boolean, microphone: () -> FloatArray, show: (Tagging) -> Unit) {\n"
        f"{library}}}\n",
        encoding="utf-8",
    )
    modules.compile_app(Module(app), modules.published(), tmp_path / "built")
