"""What of the app's screen needs no Android: contrast of its colours, sizes in its layouts, code that runs in a JVM."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import kotlin
import modules
import pytest
from manifests import ANDROID

RESOURCES = modules.APP.resources
TESTS = modules.APP.folder / "src" / "test" / "kotlin"

TEXT, GRAPHIC = 4.5, 3.0  # least contrast, WCAG 2.1, 1.4.3 and 1.4.11
SEEN = {
    ("ink", "background"): TEXT,
    ("ink", "button"): TEXT,
    ("ink", "track"): TEXT,  # the timeline's lines of the axis
    ("ink_secondary", "background"): TEXT,
    ("on_accent", "accent"): TEXT,
    ("passed", "background"): TEXT,
    ("failed", "background"): TEXT,
    ("accent", "background"): GRAPHIC,
    ("accent", "track"): GRAPHIC,
    ("step", "background"): GRAPHIC,
}
"""Which colour is seen on which, and the least contrast."""


def colours(theme: str) -> dict[str, str]:
    root = ET.parse(RESOURCES / theme / "colors.xml").getroot()
    return {element.attrib["name"]: element.text or "" for element in root.iter("color")}


def luminance(colour: str) -> float:
    """Returns the relative luminance of "#RRGGBB", as WCAG 2.1 defines it."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails


@pytest.mark.parametrize("theme", ["values", "values-night"])
def test_the_colours_have_contrast(theme: str) -> None:
    found = colours("values") | colours(theme)
    assert colours(theme).keys() | {"icon_background"} == colours("values").keys()
    assert {name for pair in SEEN for name in pair} | {"icon_background"} == found.keys()
    weak = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in SEEN}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < SEEN[pair]} == {}


def layouts() -> dict[Path, ET.Element]:
    return {path: ET.parse(path).getroot() for path in sorted(RESOURCES.glob("layout*/*.xml"))}


def test_texts_can_grow() -> None:
    """No view that shows text has a fixed height or a limit of lines, and all can be scrolled to."""
    for path, root in layouts().items():
        for view in root.iter():
            if view.tag in ("TextView", "Button", "Spinner"):
                assert view.get(f"{ANDROID}layout_height") == "wrap_content", path
                limits = ("maxLines", "lines", "singleLine", "ellipsize", "maxHeight", "textSize")
                assert not [name for name in limits if view.get(ANDROID + name)], path
    for name in ("layout", "layout-w600dp"):
        root = ET.parse(RESOURCES / name / "main.xml").getroot()
        outside = [e for e in root.iter() if e.tag == "include"]
        inside = [e for scroll in root.iter("ScrollView") for e in scroll.iter("include")]
        assert outside == inside
        assert sorted(e.attrib["layout"] for e in inside) == ["@layout/checks", "@layout/controls", "@layout/results"]


def test_what_is_pressed_is_large_enough() -> None:
    """Android's least target is 48 dp. Buttons get it from their style, as this screen's theme has one for all."""
    themes = ET.parse(RESOURCES / "values" / "themes.xml").getroot()
    styles = {style.attrib["name"]: {i.attrib["name"]: i.text for i in style} for style in themes.iter("style")}
    assert styles["Theme.App"]["android:buttonStyle"] == "@style/Button"
    assert styles["Button"]["android:minHeight"] == "48dp"
    pressed = [view for root in layouts().values() for view in root.iter() if view.tag in ("Button", "Spinner")]
    for view in pressed:
        style = view.get("style", "@style/Button")
        assert style.startswith("@style/Button")
        assert view.get(f"{ANDROID}minHeight", "48dp" if view.tag == "Button" else None) == "48dp"


def test_everything_has_a_name_for_a_screen_reader() -> None:
    """What is pressed has a text or a label, and only the message is read aloud by itself."""
    views = [view for root in layouts().values() for view in root.iter()]
    labelled = {view.get(f"{ANDROID}labelFor", "").removeprefix("@+id/") for view in views}
    for view in views:
        name = view.get(f"{ANDROID}id", "").removeprefix("@+id/")
        if view.tag == "Spinner":
            assert name in labelled
        if view.tag == "Button" and name != "action":  # whose text the activity sets
            assert view.get(f"{ANDROID}text", "").startswith("@string/")
        assert view.tag not in ("ImageView", "ImageButton")
    live = [view.get(f"{ANDROID}id") for view in views if view.get(f"{ANDROID}accessibilityLiveRegion")]
    assert live == ["@+id/message"]


def test_plurals_get_as_many_arguments_as_they_use() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in modules.APP.sources)
    calls = re.findall(r"getQuantityString\(\s*R\.plurals\.(\w+),([^()]*(?:\([^()]*\)[^()]*)*),?\s*\)", code)
    root = ET.parse(RESOURCES / "values" / "strings.xml").getroot()
    plurals = {element.attrib["name"]: [item.text or "" for item in element] for element in root.iter("plurals")}
    assert {name for name, _ in calls} == plurals.keys()
    for name, arguments in calls:
        for text in plurals[name]:
            numbers = sorted(int(n) for n in re.findall(r"%(\d)\$", text))
            assert numbers == list(range(1, 1 + arguments.rstrip(", \n").count(","))), name


def test_what_needs_no_android(jvm: None, tmp_path: Path) -> None:
    """Sources that do not name Android compile without it, and their tests run."""
    sources = [p for p in modules.APP.sources if not re.search(r"\bandroid|\bR\.", p.read_text(encoding="utf-8"))]
    tests = sorted(TESTS.rglob("*.kt"))
    assert len(tests) > 2
    path = kotlin.class_path()
    libraries = [Path(text) for text in path.split(":")]
    kotlin.compile_sources([*sources, *tests], module="app_test", class_path=libraries, out=tmp_path)
    names = [".".join(file.relative_to(TESTS).with_suffix("").parts) for file in tests]
    report = kotlin.run_tool("java", "-cp", f"{tmp_path}:{path}", "org.junit.runner.JUnitCore", *names)
    assert re.search(r"^OK \(\d+ tests?\)$", report, re.MULTILINE)
