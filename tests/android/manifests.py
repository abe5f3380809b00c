"""Merges the AndroidManifest.xml of an app with those of its libraries, as Gradle does where nothing conflicts.

Gradle can do much more (`tools:node`, priorities). What is not needed here is refused, so that no wrong result is made.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"
COMPONENTS = ("activity", "activity-alias", "service", "receiver", "provider")

_FOR_LINT = {f"{TOOLS}{name}" for name in ("ignore", "targetApi")}
_TOP = ("uses-permission", "uses-feature")
_IN_APPLICATION = (*COMPONENTS, "meta-data", "uses-library", "uses-native-library")


class ManifestError(ValueError):
    """The manifests cannot be merged. The message says why."""


def complete(text: str, namespace: str, level: str | None = None) -> str:
    """Returns the manifest of one module, as Gradle publishes it: with its package, full names of classes and, for a
    library, its minSdk `level`.

    Raises:
        ManifestError: it has what only Gradle understands.
    """
    root = ET.fromstring(text)
    root.set("package", namespace)
    for element in root.iter():
        for name in [name for name in element.attrib if name.startswith(TOOLS)]:
            if name not in _FOR_LINT:
                raise ManifestError(f"{namespace} has tools:{name.removeprefix(TOOLS)}; only Gradle can merge it")
            del element.attrib[name]
        name = element.get(f"{ANDROID}name", "")
        if element.tag in (*COMPONENTS, "application") and name.startswith("."):
            element.set(f"{ANDROID}name", namespace + name)
    if level is not None:
        root.insert(0, ET.Element("uses-sdk", {f"{ANDROID}minSdkVersion": level}))
    return _written(root)


def merge(app: str, libraries: Iterable[str], *, application_id: str, level: str) -> str:
    """Returns the manifest of an app with the elements of its libraries, which follow those of the app.

    All of them come from `complete`. `level` is the minSdk of the app.

    Raises:
        ManifestError: a library needs a higher level, or has something else than permissions, features and children of
            `<application>`; or two manifests have an element of the same name that is not the same.
    """
    root = ET.fromstring(app)
    application = _application(root)
    for text in libraries:
        other = ET.fromstring(text)
        namespace, others = other.attrib.pop("package"), _application(other)
        for name in (*other.attrib, *others.attrib):
            raise ManifestError(f"{namespace} sets {name} of the app; expected only elements of its own")
        for child in other:
            if child.tag == "uses-sdk":
                if int(child.attrib[f"{ANDROID}minSdkVersion"]) > int(level):
                    raise ManifestError(f"{namespace} has a higher minSdk than the app's {level}")
            elif child is not others:
                _add(root, child, _TOP, namespace)
        for child in others:
            _add(application, child, _IN_APPLICATION, namespace)
    merged = _written(root).replace("${applicationId}", application_id)
    if "${" in merged:
        raise ManifestError("a placeholder is left in the manifest; expected none but applicationId")
    return merged


def _written(root: ET.Element) -> str:
    ET.register_namespace("android", ANDROID[1:-1])
    return ET.tostring(root, encoding="unicode")


def _application(root: ET.Element) -> ET.Element:
    found = root.findall("application")
    if len(found) != 1:
        raise ManifestError(f"{len(found)} elements <application>; expected one")
    return found[0]


def _add(parent: ET.Element, child: ET.Element, tags: tuple[str, ...], namespace: str) -> None:
    name = child.get(f"{ANDROID}name")
    if child.tag not in tags or name is None:
        raise ManifestError(f"{namespace} has <{child.tag}>; expected one of {', '.join(tags)}, with a name")
    same = [e for e in parent if e.tag == child.tag and e.get(f"{ANDROID}name") == name]
    if not same:
        parent.append(child)
    elif any(_content(e) != _content(child) for e in same):
        raise ManifestError(f"{namespace} has another <{child.tag}> of the name {name} than the app or another library")


def _content(element: ET.Element) -> tuple[object, ...]:
    """Everything that an element says, without its white space."""
    return (element.tag, element.attrib, [_content(child) for child in element])
