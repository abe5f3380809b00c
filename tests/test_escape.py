"""Names and messages are escaped so that every terminal and every file can show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from panns_litert.escape import csv_cell, escaped, escaped_json, escaped_lines, slug


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Musik – 音楽 😀.wav", "Musik – 音楽 😀.wav"),
        ("at\u202f10\u00a0AM \u200d.wav", "at\u202f10\u00a0AM \u200d.wav"),  # spaces and joiners are part of names
        ("caf\udce9.wav", r"caf\xe9.wav"),
        ("\ud83d", r"\ud83d"),
        ("\x1b[31mred\x07\x00\x7f", r"\x1b[31mred\x07\x00\x7f"),
        ("\x9b2J", r"\u009b2J"),
        ("a\tb\rc\nd", r"a\tb\rc\nd"),
        ("abc\u202ecba\u2028\u2066", r"abc\u202ecba\u2028\u2066"),
        (r"C:\xe9\new.wav", r"C:\xe9\new.wav"),
    ],
)
def test_escaped(text: str, want: str) -> None:
    assert escaped(text) == escaped(Path(text)) == want if "\x00" not in text else escaped(text) == want
    assert escaped(want) == want
    lines = want.replace(r"\tb", "\tb").replace(r"\nd", "\nd") if "\n" in text else want
    assert escaped_lines(text) == lines
    escaped(text).encode()


def test_json_keeps_its_content() -> None:
    data = {"a\x1b": ["\x7f\x9b\u202e\u2028 😀", "line\nbreak", "back\\slash"]}
    text = escaped_json(json.dumps(data, ensure_ascii=False))
    assert json.loads(text) == data
    assert not any(c in text for c in "\x1b\x7f\x9b\u202e\u2028")
    assert json.loads(escaped_json(json.dumps("caf\udce9", ensure_ascii=False))) == r"caf\xe9"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("-", "-"),
        ("Dog = 1", "Dog = 1"),
        ("caf\udce9", r"caf\xe9"),
        ("", ""),
    ],
)
def test_cells_that_a_spreadsheet_would_run(text: str, want: str) -> None:
    assert csv_cell(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Dog", "dog"),
        ("Crowing, cock-a-doodle-doo", "crowing-cock-a-doodle-doo"),
        ("../..\\+/#\0", "8ab905a5"),
        ("", "e3b0c442"),
        ("Größe", "gro-e-aedc3f80"),
        ("Собака", "a9a93161"),
        ("x" * 48, "x" * 48),
        ("x" * 49, "x" * 39 + "-55bb9823"),
    ],
)
def test_names_for_files_and_topics(text: str, want: str) -> None:
    assert slug(text) == want
