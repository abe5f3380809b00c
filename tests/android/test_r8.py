"""The libraries after R8 shrank, optimised and renamed them, with the rules that they bring along and no others."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import kotlin
import modules
import pytest
import r8

TESTS = """
-keepattributes RuntimeVisibleAnnotations
-keep class io.github.pannslitert.**Test {
    <init>();
    @org.junit.Test <methods>;
}
"""


def with_plain_names(folder: Path) -> Path:
    """Copies the tests' classes. Their names of functions are sentences, which R8 refuses: "_" takes each odd place."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in kotlin.TESTS.rglob("*Test.kt"))
    names = [name.encode() for name in re.findall(r"fun `([^`]+)`", sources)]
    plain = {name: re.sub(rb"\W", b"_", name) for name in sorted(names, key=len, reverse=True)}
    for file in kotlin.tests().rglob("*.class"):
        path, data = str(file.relative_to(kotlin.tests())).encode(), file.read_bytes()
        for name, new in plain.items():
            path, data = path.replace(name, new), data.replace(name, new)
        target = folder / path.decode()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def test_the_shrunk_library_passes_its_tests(jvm: None, tmp_path: Path) -> None:
    """Whole, with Gson. Only the tests keep their names: the ontology is found from a class of another package."""
    whole, jar = tmp_path / "whole.jar", tmp_path / "shrunk.jar"
    programs = [with_plain_names(tmp_path / "tests"), kotlin.library(), *kotlin.dependencies()]
    r8.desugar(programs, whole, libraries=kotlin.JUNIT, level=modules.LIBRARY.value("minSdk"))
    mapping = r8.shrink([whole], jar, rules=TESTS, libraries=kotlin.JUNIT)
    moved = dict(re.findall(r"^(io\.github\.pannslitert\.\S+) -> (\S+):$", mapping, re.MULTILINE))
    for name in ("sense.Ontology", "bundle.Bundle", "frontend.LogMel", "tagging.Prototypes"):
        assert "pannslitert" not in moved[f"io.github.pannslitert.{name}"]
    reports = [
        kotlin.run_tool(
            "java", "-cp", kotlin.joined([path, *kotlin.JUNIT]), "org.junit.runner.JUnitCore", *kotlin.test_classes()
        )
        for path in (jar, whole)
    ]
    counts = [re.findall(r"^OK \((\d+) tests\)$", report, re.MULTILINE) for report in reports]
    assert counts[0] == counts[1] != []


LITERT = {
    "LiteRtException": "public class LiteRtException extends Exception { public LiteRtException(int c, String m) {} }",
    "CompiledModel": """public class CompiledModel {
        public static CompiledModel create(String path) throws LiteRtException { nativeCreate(path); return null; }
        private static native void nativeCreate(String path) throws LiteRtException;
    }""",
    "App": """public class App {
        public static void main(String[] paths) {
            try { CompiledModel.create(paths[0]); } catch (LiteRtException error) { System.exit(1); }
        }
    }""",
}
"""What LiteRT's native code reaches by name, as in its litert_jni_common.h."""


@pytest.mark.parametrize("kept", [True, False])
def test_what_litert_reaches_by_name_is_kept(jvm: None, tmp_path: Path, kept: bool) -> None:
    """Without the rules of tagger-litert, R8 would remove and rename it."""
    package = "com.google.ai.edge.litert"
    for name, text in LITERT.items():
        (tmp_path / f"{name}.java").write_text(f"package {package};\n{text}", encoding="utf-8")
    modules.compile_java(tmp_path.glob("*.java"), tmp_path / "classes")
    with zipfile.ZipFile(modules.published() / modules.AAR) as aar:
        rules = aar.read("proguard.txt").decode() if kept else ""
    main = f"-keep class {package}.App {{ public static void main(java.lang.String[]); }}\n"
    jar = tmp_path / "shrunk.jar"
    r8.shrink([tmp_path / "classes"], jar, rules=main + rules, libraries=[])
    names = [name for name in zipfile.ZipFile(jar).namelist() if name.endswith(".class")]
    listing = kotlin.run_tool("javap", "-p", "-cp", str(jar), *(name[:-6].replace("/", ".") for name in names))
    assert (f"public {package}.LiteRtException(int, java.lang.String);" in listing) == kept
    assert (
        re.search(rf"class {package}\.CompiledModel.*native void nativeCreate\(", listing, re.S) is not None
    ) == kept
