"""The signatures that the app is compiled against: their files are what the platform and LiteRT published."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import kotlin
import levels
import litert_api
import pin
import pytest
import r8
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


# --- levels ---

PUBLISHED = {  # "Added in API level" and the lists of changes (sdk/api_diff) on https://developer.android.com
    "android/os/Build.MODEL:Ljava/lang/String;": 1,
    "android/os/Build.SOC_MODEL:Ljava/lang/String;": 31,
    "android/app/ApplicationExitInfo": 30,
    "android/media/AudioRecordingConfiguration.getAudioSource:()I": 29,
    "android/media/MediaFormat.<init>:(Landroid/media/MediaFormat;)V": 29,
    "android/view/InputDevice.isEnabled:()Z": 27,
    "java/io/InputStream.read:([B)I": 1,
    "java/io/InputStream.readNBytes:(I)[B": 33,
    "java/lang/StringBuilder.setLength:(I)V": 1,
    "java/nio/file/Files.readAllBytes:(Ljava/nio/file/Path;)[B": 26,
    "java/time/LocalDate": 26,
}


def test_the_levels_are_those_that_android_publishes(android_levels: levels.Levels) -> None:
    assert {name: android_levels.get(name) for name in PUBLISHED} == PUBLISHED
    pinned = signatures.parse(signatures.ANDROID.read_text(encoding="utf-8")).values()
    names = [f"{c.package.replace('.', '/')}/{c.name.replace('.', '$')}" for c in pinned]
    assert [name for name in names if android_levels.get(name, 99) > 34] == []


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

JDK = {  # the same for java.*, of which phones have Android's own, and each level more
    "readNBytes": ("return System.`in`.readNBytes(n)", False),
    "of a subclass": ('return File("a").inputStream().readNBytes(n)', False),
    "readAllBytes": ("return System.`in`.readAllBytes()", False),
    "an old method": ("return System.`in`.read(ByteArray(n))", True),
    "readString": ('return Files.readString(Paths.get("a"))', False),
    "old files": ('return Files.readAllBytes(Paths.get("a"))', True),
    "old time": ("return LocalDate.now().plusDays(1).toString()", True),
    "new time": ("return LocalDate.ofInstant(Instant.now(), ZoneOffset.UTC)", False),
    "fma": ("return Math.fma(1f, 2f, 3f)", False),
    "within a check": ("return if (Build.VERSION.SDK_INT >= 33) Math.fma(1f, 2f, 3f) else null", True),
    "within a low check": ("return if (Build.VERSION.SDK_INT >= 32) Math.fma(1f, 2f, 3f) else null", False),
    "toList": ("return Stream.of(n).toList()", False),
    "an old stream": ("return Stream.of(n).collect(Collectors.toList())", True),
    "List.removeLast": ("val a: java.util.Deque<Int> = ArrayDeque(); return a.removeLast()", False),  # see AS_ON_JDK_21
    "ArrayDeque.removeLast": ("return ArrayDeque<Int>().removeLast()", True),
    "Kotlin's removeLast": ("return mutableListOf(n).removeLastOrNull()", True),
    "another result": ("return ByteBuffer.allocate(n).flip()", False),  # a ByteBuffer, only since level 28
    "the old result": ("val a: Buffer = ByteBuffer.allocate(n); return a.flip()", True),
    "a method reference": ("val f: (InputStream) -> ByteArray = InputStream::readAllBytes; return f", False),
    "a converted reference": ("return Callable(System.`in`::readAllBytes)", False),
    "a lambda": ("return Callable { System.`in`.readAllBytes() }", False),
    "an override": ("return Silence().readNBytes(n)", True),
    "its base": ("return object : Quiet() { fun all() = super.readAllBytes() }.all()", False),
    "not overridden": ("return Silence().readAllBytes()", False),
    "a new class": ("return HexFormat.of()", False),
    "no class of Android": ("return ProcessHandle.current().pid()", False),
    "a new base": ("return object : ClassValue<Int>() { override fun computeValue(a: Class<*>): Int = 1 }", False),
    "a new interface": ("return Flow.Publisher<Int> { }", False),
    "caught": ("try { println(n) } catch (e: InaccessibleObjectException) { println(n) }; return null", False),
    "asked for": ("val a: Any = n; return a is ProcessHandle", False),
    "an array": ("return arrayOfNulls<StackWalker>(n)", False),
    "caught of old": ("try { println(n) } catch (e: DateTimeException) { println(n) }; return null", True),
    "of Object": ("val a: Runnable = Runnable { }; return a.hashCode() + a.javaClass.hashCode()", True),
    "of an array": ("return intArrayOf(n).clone()", True),
    "a long text": ('return "${StringBuilder("a").also { it.setLength(0) }} of $n"', True),
    "an enum": ("return RoundingMode.valueOf(RoundingMode.UP.name)", True),
    "a record": ("return Pair(n, n)", True),
    "replaced": ("return Math.floorMod(5L, n) + Objects.requireNonNullElse(n, 3)", True),
    "a function of a replaced method": ("val f: (Long, Int) -> Int = Math::floorMod; return f(5L, n)", True),
    "not replaced": ("return Objects.requireNonNullElseGet(n) { StrictMath.fma(1.0, 2.0, 3.0).toInt() }", False),
}

JAVA_CODE = {  # the same in Java, whose references are no functions of their own, as Kotlin's are
    "a reference in Java": ("return (Callable<byte[]>) System.in::readAllBytes;", False),
    "an old reference": ("return (Callable<Integer>) System.in::read;", True),
    "a reference within a check": (
        "return Build.VERSION.SDK_INT >= 33 ? (Callable<byte[]>) System.in::readAllBytes : null;",
        True,
    ),
    "a reference without one, too": (
        "Object a = Build.VERSION.SDK_INT >= 33 ? System.in.readAllBytes() : null;"
        "Callable<byte[]> b = System.in::readAllBytes; return a == null ? b : a;",
        False,
    ),
    "a reference for a new interface": ("Flow.Publisher<String> a = System.out::println; return a;", False),
    "a reference to a replaced method": (
        "java.util.function.LongBinaryOperator a = Math::multiplyHigh; return a;",
        True,
    ),
}

KINDS = GUARDS | JDK | JAVA_CODE

CLASSES = """\
class Text : Paint()
@JvmRecord data class Pair(val a: Int, val b: Int)
open class Quiet : InputStream() { override fun read() = -1 }
class Silence : Quiet() { override fun readNBytes(n: Int) = ByteArray(n) }
"""

IMPORTS = """
    android.graphics.Paint android.media.MediaFormat android.os.Build
    java.io.File java.io.InputStream java.lang.reflect.InaccessibleObjectException java.math.RoundingMode
    java.nio.Buffer java.nio.ByteBuffer java.nio.file.Files java.nio.file.Paths
    java.time.DateTimeException java.time.Instant java.time.LocalDate java.time.ZoneOffset
    java.util.ArrayDeque java.util.HexFormat java.util.Objects java.util.concurrent.Callable java.util.concurrent.Flow
    java.util.stream.Collectors java.util.stream.Stream
"""

AS_ON_JDK_21 = (b"\0\x0fjava/util/Deque", b"\0\x0ejava/util/List")
"""A change of the name of a class in a class file. A newer JDK has List.removeLast, and Kotlin takes it there."""


@pytest.fixture(scope="module")
def kinds(jvm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the classes of every kind (`classes`), f0, f1 and so on, and a class that they extend (`base`)."""
    folder = tmp_path_factory.mktemp("kinds")
    imports = IMPORTS.split()
    texts = [CLASSES, ""]
    for i, (kind, (body, _)) in enumerate(KINDS.items()):
        if kind in JAVA_CODE:
            texts[1] += f"class f{i} {{ Object f(int n) throws Exception {{ {body} }} }}\n"
        else:
            texts[0] += f"class f{i} {{ fun f(n: Int): Any? {{ println(n)\n{body} }} }}\n"
    kotlin_source, java_source = folder / "Kinds.kt", folder / "Kinds.java"
    kotlin_source.write_text("".join(f"import {name}\n" for name in imports) + texts[0], encoding="utf-8")
    java_source.write_text("".join(f"import {name};\n" for name in imports) + texts[1], encoding="utf-8")
    signatures.write_stubs(signatures.ANDROID.read_text(encoding="utf-8"), folder / "android")
    kotlin.compile_sources(
        [kotlin_source, folder / "android"],
        module="kinds",
        class_path=[kotlin.standard_library()],
        out=folder / "classes",
    )
    kotlin.run_tool(
        *("javac", "--release", "17", "-sourcepath", str(folder / "android"), "-implicit:none"),
        *("-d", str(folder / "classes"), str(java_source)),
    )
    older = folder / "classes" / f"f{[*KINDS].index('List.removeLast')}.class"
    assert older.read_bytes().count(AS_ON_JDK_21[0]) == 1
    older.write_bytes(older.read_bytes().replace(*AS_ON_JDK_21))
    (folder / "base").mkdir()
    (folder / "classes" / "Quiet.class").rename(folder / "base" / "Quiet.class")
    return folder


def test_newer_members_need_a_check(kinds: Path, android_levels: levels.Levels) -> None:
    lines = levels.unguarded([kinds / "classes"], [kinds / "base", kotlin.standard_library()], android_levels)
    refused = {re.split(r"[$,:]", line)[0] for line in lines}
    found = {kind: f"f{i}" not in refused for i, kind in enumerate(KINDS)}
    assert found == {kind: enough for kind, (_, enough) in KINDS.items()}
    assert refused <= {f"f{i}" for i in range(len(KINDS))}
    expected = "expected what level 26 has, or a check of SDK_INT around it"
    for use in (
        "java/io/FileInputStream.readNBytes:(I)[B is of level 33",
        "java/util/List.removeLast:()Ljava/lang/Object; is in no level up to 34",
        "java/lang/ProcessHandle is in no level up to 34",
    ):
        assert any(line.endswith(f": {use}; {expected}") for line in lines), use


def test_classes_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 of 0 classes"):
        levels.unguarded([tmp_path], [], {})
    (tmp_path / "A.class").write_bytes(b"no class")
    with pytest.raises(ValueError, match="0 of 1 classes"):
        levels.unguarded([tmp_path], [], {})


def test_d8_compiles_away_what_needs_no_check(kinds: Path, android_levels: levels.Levels, tmp_path: Path) -> None:
    """Its list of replaced methods, and the classes that are compiled away, name what a phone would not find."""
    if shutil.which("baksmali") is None:
        pytest.skip("no baksmali; reading D8's output needs it: apt install libsmali-java")
    plain = [i for i, (body, enough) in enumerate(KINDS.values()) if enough and "SDK_INT" not in body]
    files = [str(file) for i in plain for file in (kinds / "classes").glob(f"f{i}[.$]*class")]
    files += map(str, (kinds / "classes").glob("[A-Z]*.class"))
    listing = kotlin.run_tool("javap", "-p", "-v", *files)
    replaced = levels.replaced(r8.tools())
    assert {name for name in (*replaced, *levels.COMPILED_AWAY) if name in listing} >= {
        *levels.COMPILED_AWAY,
        "java/lang/Math.floorMod:(JI)I",
        "java/util/Objects.requireNonNullElse:(Ljava/lang/Object;Ljava/lang/Object;)Ljava/lang/Object;",
    }
    programs = tmp_path / "programs"
    programs.mkdir()
    for file in files:
        shutil.copy(file, programs)
    r8.dex([programs], tmp_path, level=str(levels.OLDEST))
    dex = str(tmp_path / "classes.dex")
    methods = re.findall(r"L(\S+);->(\S+?)(\(\S+)", kotlin.run_tool("baksmali", "list", "methods", dex))
    names = {f"{owner}.{name}:{descriptor}" for owner, name, descriptor in methods}
    assert "java/io/InputStream.read:([B)I" in names
    assert names.isdisjoint(replaced)
    types = kotlin.run_tool("baksmali", "list", "types", dex)
    assert [name for name in levels.COMPILED_AWAY if f"L{name};" in types] == []


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
