"""The signatures that the app is compiled against: their files are what the platform and LiteRT published."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import kotlin
import levels
import litert_api
import pin
import pytest
import signatures
from support import SHARED

FULL = SHARED / "android" / "api-34.txt.gz"

API = """\
// Signature format: 2.0
package android.app {

  @UiContext public class Screen extends android.app.Base<String> implements java.io.Closeable android.app.Part {
    ctor public Screen(@NonNull android.app.Screen.Mode);
    method public abstract void draw();
    method @Nullable public <T extends android.app.Base<T>> T find(@IdRes int, @Nullable java.util.Map<String,T>);
    method public final native void run(@IntRange(from=0, to=(int) 9) int, java.lang.Object...) throws java.io.Error;
    field @Deprecated public static final byte KIND = 3; // 0x3
    field @NonNull public static final String NAME;
    field public static final String TEXT = "a; b // c";
  }

  public enum Screen.Mode {
    method public static android.app.Screen.Mode valueOf(String);
    enum_constant public static final android.app.Screen.Mode ONE;
    enum_constant public static final android.app.Screen.Mode TWO;
  }

  public interface Part {
    method public void be(android.app.Unused);
    method public default boolean isHere();
  }

  public abstract class Base<T> {
    method public int getWidth();
    method public int getOther();
  }

  public class Unused {
    method public void draw();
  }

  public @interface Hint {
    method public abstract String[] value();
  }

}
"""

JAVA = {  # lines of the Java source of API, by what they show
    "head": "public class Screen extends android.app.Base<String> implements java.io.Closeable, android.app.Part {",
    "constructor": "public Screen(@android.annotation.NonNull android.app.Screen.Mode a0) { throw new Error(); }",
    "abstract": "public abstract void draw();",
    "generic": "@android.annotation.Nullable public <T extends android.app.Base<T>> T find(int a0, "
    "@android.annotation.Nullable java.util.Map<String,T> a1) { throw new Error(); }",
    "variable": "public final void run(int a0, java.lang.Object... a1) { throw new Error(); }",
    "byte": "public static final byte KIND = (byte) 3;",
    "value": "@android.annotation.NonNull public static final String NAME;",
    "text": 'public static final String TEXT = "a; b // c";',
    "enum": "public enum Mode {",
    "constants": "ONE, TWO;",
}


def test_java_sources_keep_types_and_nullability(tmp_path: Path) -> None:
    signatures.write_stubs(API, tmp_path)
    lines = [line.strip() for line in (tmp_path / "android/app/Screen.java").read_text(encoding="utf-8").splitlines()]
    assert [name for name, line in JAVA.items() if line not in lines] == []
    assert not any("valueOf" in line for line in lines)
    part = (tmp_path / "android/app/Part.java").read_text(encoding="utf-8")
    assert "public void be(android.app.Unused a0);" in part
    assert "public default boolean isHere() { throw new Error(); }" in part
    assert "String[] value();" in (tmp_path / "android/app/Hint.java").read_text(encoding="utf-8")


def test_a_part_has_what_the_sources_name() -> None:
    source = 'import android.app.Screen\n/* find */ fun f(s: Screen, kind: String = "/*") = s.width + s.draw() // NAME'
    part = signatures.parse(signatures.subset(signatures.parse(API), [source]))
    members = {name: [member.name for member in c.members] for name, c in part.items()}
    assert members == {
        "android.app.Screen": ["Screen", "draw"],
        "android.app.Screen.Mode": [],
        "android.app.Base": ["getWidth"],
    }
    assert part["android.app.Screen"].supers == ["android.app.Base<String>", "java.io.Closeable"]


@pytest.mark.parametrize(
    "line", ["public class A", "    widget public int a();", "    field name;", "    method public int a;"]
)
def test_a_line_that_is_not_understood_is_refused(line: str) -> None:
    text = API.replace("    method public abstract void draw();", line, 1)
    with pytest.raises(ValueError, match=rf"line 6: '{re.escape(line.strip())}'"):
        signatures.parse(text)


def test_the_pinned_part_is_what_the_app_needs() -> None:
    """Without the whole file: the part of the part is all of it. What the app needs beyond it does not compile."""
    text = signatures.ANDROID.read_text(encoding="utf-8")
    assert text.endswith("\n" + signatures.subset(signatures.parse(text), pin.sources()))


@pytest.mark.skipif(not FULL.is_file(), reason=f"no whole signature file in {SHARED}")
def test_the_pinned_part_is_published() -> None:
    full = gzip.decompress(FULL.read_bytes()).decode()
    whole = signatures.parse(full)
    for name, c in signatures.parse(signatures.ANDROID.read_text(encoding="utf-8")).items():
        assert c.head == whole[name].head
        assert set(c.supers) <= set(whole[name].supers), name
        assert {m.line for m in c.members} <= {m.line for m in whole[name].members}, name
    assert signatures.ANDROID.read_text(encoding="utf-8") == pin.pinned(full), "run tests/android/pin.py"


def test_newer_members_are_listed_with_levels() -> None:
    api = signatures.parse(signatures.ANDROID.read_text(encoding="utf-8"))
    known = {(name, levels.spelled(c, member)) for name, c in api.items() for member in c.members}
    known |= {(name, "") for name in api}
    listed = levels.newer(levels.NEWER.read_text(encoding="utf-8"))
    assert listed.keys() <= known
    assert all(levels.OLDEST < level <= 34 for level in listed.values())


def test_what_an_older_level_lacks_must_be_listed() -> None:
    dropped = ["    method public int getWidth();\n", "    field @NonNull public static final String NAME;\n"]
    older = API.replace('    field public static final String TEXT = "a; b // c";\n', "").replace(
        ", java.lang.Object...", ""
    )
    for line in dropped:
        assert line in older
        older = older.replace(line, "")
    lacks = [
        ("android.app.Screen", "run(int, Object[])"),
        ("android.app.Screen", "NAME"),
        ("android.app.Base", "getWidth()"),
    ]
    assert pin.unlisted(API, older) == lacks
    assert pin.unlisted(signatures.ANDROID.read_text(encoding="utf-8"), API)  # a level without a class


# --- levels ---

GUARDS = {  # the body of a function, and whether the check in it is enough for a member of level 31
    "no check": ("return Build.SOC_MODEL", False),
    "the block": ("if (Build.VERSION.SDK_INT >= 31) { return Build.SOC_MODEL }; return null", True),
    "a name": ("if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) { return Build.SOC_MODEL }; return null", True),
    "more than": ("return if (Build.VERSION.SDK_INT > 30) Build.SOC_MODEL else null", True),
    "and": ("return if (Build.VERSION.SDK_INT >= 31 && n > 2) Build.SOC_MODEL else null", True),
    "early return": ("if (Build.VERSION.SDK_INT < 31) return null; return Build.SOC_MODEL", True),
    "early error": ("if (Build.VERSION.SDK_INT <= 30) throw Error(); return Build.SOC_MODEL", True),
    "a low level": ("return if (Build.VERSION.SDK_INT >= 30) Build.SOC_MODEL else null", False),
    "the other branch": ("return if (Build.VERSION.SDK_INT >= 31) null else Build.SOC_MODEL", False),
    "or": ("return if (Build.VERSION.SDK_INT >= 31 || n > 2) Build.SOC_MODEL else null", False),
    "no return": ("if (Build.VERSION.SDK_INT < 31) println(n); return Build.SOC_MODEL", False),
    "after the block": ("if (Build.VERSION.SDK_INT >= 31) println(n); return Build.SOC_MODEL", False),
    "another number": ("return if (n >= 31) Build.SOC_MODEL else null", False),
    "an overload": ('return MediaFormat().getString("a", "b")', False),
    "the old overload": ('return MediaFormat().getString("a")', True),
    "a subclass": ("return Text().flags.toString()", True),
    "inherited": ("Text().setColor(5L); return null", False),
    "a reference": ("val set: (Long) -> Unit = Paint()::setColor; set(5L); return null", False),
    "a constructor": ("return MediaFormat(MediaFormat()).toString()", False),
    "a constant": ("return Build.VERSION_CODES.S.toString()", True),
}


def test_newer_members_need_a_check(jvm: None, tmp_path: Path) -> None:
    names = [f"f{i}" for i in range(len(GUARDS))]
    source = tmp_path / "Guards.kt"
    imports = "".join(f"import android.{name}\n" for name in ("graphics.Paint", "media.MediaFormat", "os.Build"))
    source.write_text(
        f"{imports}\nclass Text : Paint()\n"
        + "".join(
            f"class {name} {{ fun f(n: Int): String? {{ println(n); {body} }} }}\n"
            for name, (body, _) in zip(names, GUARDS.values(), strict=True)
        ),
        encoding="utf-8",
    )
    text = signatures.ANDROID.read_text(encoding="utf-8")
    signatures.write_stubs(text, tmp_path / "android")
    kotlin.compile_sources(
        [source, tmp_path / "android"],
        module="guards",
        class_path=[kotlin.standard_library()],
        out=tmp_path / "classes",
    )
    listed = levels.newer(levels.NEWER.read_text(encoding="utf-8"))
    found = levels.unguarded(tmp_path / "classes", signatures.parse(text), listed)
    refused = {line.split(",")[0].split("$")[0].split(":")[0] for line in found}
    assert {kind: name not in refused for kind, name in zip(GUARDS, names, strict=True)} == {
        kind: enough for kind, (_, enough) in GUARDS.items()
    }


# --- LiteRT ---

KOTLIN = """\
/** A model. fun load(path: String): Model */
class Model
private constructor(
  handle: Long, // of C++
) : Handle(handle) {
  @Deprecated("Use b (not this).")
  data class Options constructor(val a: Int? = null, val b: String = "") {
    enum class Kind constructor(val value: Int) { A(0), B(1) }
  }

  @Throws(LiteRtException::class)
  @JvmOverloads
  fun run(
    name: String,
    signature: String = "",
  ): List<Int> {
    return fun2()
  }

  fun close()
  internal fun hidden() {}

  companion object {
    @JvmStatic fun create(path: String): Model = TODO()
  }
}
"""

LISTED = """\
class Model private constructor(handle: Long) : Handle(handle) {
    data class Options(val a: Int? = null, val b: String = "") {
        enum class Kind(val value: Int) { A(0), B(1) }
    }
    fun run(name: String, signature: String = ""): List<Int>
    fun close()
    companion object {
        fun create(path: String): Model
    }
}
"""

INVENTED = {  # a change of LISTED
    "name": ("fun run(", "fun start("),
    "nullability": ("signature: String =", "signature: String? ="),
    "default": ('signature: String = ""', "signature: String"),
    "type of a parameter": ("path: String", "path: File"),
    "name of a parameter": ("path: String", "file: String"),
    "result": (": List<Int>", ": List<Float>"),
    "nullable result": ("String): Model", "String): Model?"),
    "a shorter type": (": List<Int>", ": List"),
    "no result": ("): List<Int>", ")"),
    "a member of another class": ("    fun close()\n", "    fun create(path: String): Model\n"),
    "a hidden member": ("fun close()", "fun hidden()"),
    "what only a comment has": ("fun close()", "fun load(path: String): Model"),
    "a constant": ("B(1)", "C(2)"),
    "a public constructor": ("Model private constructor(", "Model("),
}


def test_litert_lists_only_what_its_sources_have() -> None:
    assert litert_api.invented(LISTED, KOTLIN) == []
    for kind, (old, new) in INVENTED.items():
        assert old in LISTED
        assert litert_api.invented(LISTED.replace(old, new), KOTLIN), kind


def test_the_list_of_litert_was_compared() -> None:
    """A changed list must be compared with LiteRT's sources again, which the repository does not have."""
    text = litert_api.LIST.read_text(encoding="utf-8")
    assert litert_api.compared(text) == litert_api.digest(text), "run tests/android/litert_api.py check"
    invented = text.replace("class TensorBuffer", "class Model private constructor()\n\nclass TensorBuffer")
    assert litert_api.digest(invented) != litert_api.compared(invented)
