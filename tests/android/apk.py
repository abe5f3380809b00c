"""Builds the APK of android_demo/app without Gradle and without the Android SDK, for pytest or by hand:

    python tests/android/apk.py app.apk

aapt, zipalign and apksigner are Debian's, the compiler is that of kotlin.py, and d8 comes from the wheel that d8.txt
pins by hash. The APK has the app's code, resources and demo bundle, and the libraries as `modules.published` makes
them; a throw-away key signs it. It lacks what only Google's Maven has: LiteRT, its native libraries, and androidx's
FileProvider. So it shows that the app can be built and packed; a phone would install it, but could not start it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import kotlin
import manifests
import modules
import r8
from kotlin import ROOT, ToolMissingError, run_tool
from modules import AAR, APP, JAR, LIBRARY, Module

FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
OLDEST_LEVEL = 30  # the first with services of type microphone
PASSWORD = "android"  # as that of every debug key

_PACKAGES = {
    "aapt": "aapt",
    "zipalign": "zipalign",
    "apksigner": "apksigner",
    "keytool": "openjdk-17-jre-headless",
    "dexdump": "dexdump",  # this and the next only read the APK back
    "baksmali": "libsmali-java",
}


def build(apk: Path, *, release: bool = False) -> None:
    """Builds the APK of the app and signs it with a new key. R8 shrinks a `release`.

    Raises:
        ToolMissingError: a tool is not installed.
        KotlinError, ManifestError: a tool refused its input. Then no APK is written.
    """
    require_tools()
    with tempfile.TemporaryDirectory(dir=apk.resolve().parent) as name:
        # As Gradle's copyDemoBundle.
        shutil.copytree(ROOT / "assets" / "demo_bundle", Path(name) / "assets" / "bundles" / "demo")
        assemble(
            apk,
            APP,
            classes=modules.app_classes(),
            published=modules.published(),
            assets=Path(name) / "assets",
            release=release,
        )


def assemble(
    apk: Path, app: Module, *, classes: Path, published: Path, assets: Path | None = None, release: bool = False
) -> None:
    """Makes a signed APK of an app's compiled classes, the two published files and what these need.

    Raises:
        ToolMissingError, KotlinError, ManifestError: as `build`.
    """
    require_tools()
    with tempfile.TemporaryDirectory(dir=apk.resolve().parent) as name:
        folder = Path(name)
        aar = modules.unpack(published / AAR, folder / "aar")
        packed = folder / "packed.apk"
        made = pack_resources(
            packed,
            folder,
            app,
            manifest=merged_manifest(app, published),
            resources=[app.resources, aar / "res"],
            assets=assets,
            debuggable=not release,
        )
        modules.compile_java(made.rglob("R.java"), folder / "r")
        programs = [classes, folder / "r", published / JAR, aar / "classes.jar", *kotlin.dependencies()]
        if release:
            rules = [folder / "resources.pro", aar / "proguard.txt"]
            r8.shrink(
                programs,
                folder,
                rules="".join(path.read_text(encoding="utf-8") for path in rules),
                libraries=[r8.android(), modules.platform() / "litert"],
                level=app.value("minSdk"),
            )
        else:
            r8.dex(programs, folder, level=app.value("minSdk"))
        with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
            for dex in sorted(folder.glob("classes*.dex")):
                archive.write(dex, dex.name)
            modules.add_resources(archive, published / JAR)
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


def merged_manifest(app: Module, published: Path) -> str:
    """Returns the manifest of an app with the elements of the AAR's.

    Raises:
        ManifestError: they cannot be merged.
    """
    with zipfile.ZipFile(published / AAR) as aar:
        library = aar.read("AndroidManifest.xml").decode()
    return manifests.merge(
        app.complete_manifest(), [library], application_id=app.value("applicationId"), level=app.value("minSdk")
    )


def pack_resources(
    packed: Path,
    folder: Path,
    app: Module,
    *,
    manifest: str,
    resources: list[Path],
    assets: Path | None = None,
    debuggable: bool = True,
) -> Path:
    """Packs a manifest, folders of resources, the first of which wins, and assets.

    Returns a folder with the R.java of the app and of tagger-litert. `folder/resources.pro` gets R8's rules for the
    classes that the manifest and the resources name.
    """
    made = folder / "made"
    made.mkdir()
    (folder / "AndroidManifest.xml").write_text(manifest, encoding="utf-8")
    run_tool(
        *("aapt", "package", "-f", "-M", str(folder / "AndroidManifest.xml"), "-I", str(FRAMEWORK)),
        *(("--debug-mode",) if debuggable else ()),
        *("-G", str(folder / "resources.pro")),
        *(text for path in resources if path.is_dir() for text in ("-S", str(path))),
        *("--auto-add-overlay", "--extra-packages", LIBRARY.namespace, "--non-constant-id", "-m", "-J", str(made)),
        *(("-A", str(assets), "-0", "tflite") if assets else ()),
        *("--min-sdk-version", app.value("minSdk"), "--target-sdk-version", app.value("targetSdk")),
        *("--version-code", app.value("versionCode"), "--version-name", modules.version(), "-F", str(packed)),
    )
    return made


def _sign(apk: Path, folder: Path) -> None:
    key = folder / "debug.keystore"
    run_tool(
        *("keytool", "-genkeypair", "-keystore", str(key), "-storetype", "PKCS12", "-storepass", PASSWORD),
        *("-alias", "debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "1", "-dname", "CN=debug"),
    )
    run_tool("apksigner", "sign", "--ks", str(key), "--ks-pass", f"pass:{PASSWORD}", str(apk))


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python tests/android/apk.py APK", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        build(path)
    except (ToolMissingError, kotlin.KotlinError, manifests.ManifestError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, signed with a throw-away debug key. It cannot run:")
    print("LiteRT, its native libraries and androidx are not in it, since only Google's Maven has them.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
