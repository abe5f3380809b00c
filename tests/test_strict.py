"""Strict: files and JSON from elsewhere are read or refused with one line of the caller's error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_litert.errors import BundleError, LabelError, PannsLitertError
from panns_litert.strict import parse_json, read_bytes, read_json

REFUSED = {
    "empty": (b"", "not JSON"),
    "cut": (b'{"a": 1', "not JSON"),
    "text after it": (b"{} {}", "not JSON"),
    "comment": (b"{} // note", "not JSON"),
    "NaN": (b'{"a": NaN}', "NaN; expected a finite number"),
    "Infinity": (b"[-Infinity]", "-Infinity; expected a finite number"),
    "float beyond float64": (b"[1e999]", "expected a finite number"),
    "thousands of digits": (b"[" + b"1" * 5000 + b"]", "5000 digits"),
    "thousands of digits, negative": (b"-" + b"1" * 5000, "digits"),
    "65 bits": (b"[9223372036854775808]", "at most 64 bits"),
    "twice": (b'{"a": 1, "a": 2}', "'a' twice"),
    "twice, by an escape": (b'{"a": 1, "\\u0061": 2}', "'a' twice"),
    "lists 100,000 deep": (b"[" * 100_000, "nested more than 32 deep"),
    "objects 33 deep": (b'{"a":' * 33 + b"1" + b"}" * 33, "nested more than 32 deep"),
    "deep behind a text": (b'["\\"[", ' + b"[" * 33, "nested more than 32 deep"),
    "NUL": (b'{"a": ["\x00"]}', "not JSON"),
    "NUL by an escape": (b'{"a": ["\\u0000"]}', "without NUL"),
    "NUL in a name": (b'{"\\u0000": 1}', "without NUL"),
    "surrogate": (b'["\\ud800"]', "unpaired surrogates"),
    "Latin-1": (b'["\xe9"]', "not UTF-8 at byte 2"),
    "UTF-16": ('["a"]'.encode("utf-16"), "not UTF-8"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path: Path, kind: str) -> None:
    data, message = REFUSED[kind]
    path = tmp_path / "file.json"
    path.write_bytes(data)
    for read in (
        lambda: parse_json(data, "file.json", error=LabelError),
        lambda: read_json(path, error=LabelError, what="a JSON file"),
    ):
        with pytest.raises(LabelError) as caught:
            read()
        assert message in str(caught.value)
        assert "file.json" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'\xef\xbb\xbf{"a": [1, -2.5e3, null, true]}', {"a": [1, -2500.0, None, True]}),
        ("\ufeff[9223372036854775807]", [2**63 - 1]),
        ('["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]', ["[" * 39]),
        (b'["\\ud83d\\udc15", "\\\\u0000"]', ["\N{DOG}", "\\u0000"]),
        ("[" * 32 + "]" * 32, json.loads("[" * 32 + "]" * 32)),
        (str([[]] * 50), [[]] * 50),
    ],
    ids=["BOM", "largest", "brackets in a text", "escapes", "32 deep", "many lists"],
)
def test_what_is_read(data: str | bytes, value: object) -> None:
    found = parse_json(data, "it", error=LabelError)
    assert found == value


@given(st.binary(max_size=40) | st.text(alphabet='[]{}",:\\u0019deE.-ntfIN \n\ud800', max_size=40))
def test_any_text_is_read_or_one_clear_error(data: str | bytes) -> None:
    try:
        parse_json(data, "it", error=BundleError)
    except BundleError as error:
        assert str(error).startswith("it: ")
        assert str(error).isprintable()


def irregular(folder: Path) -> dict[str, object]:
    """Returns what stands in the place of a file and is none; opening or reading some of it takes for ever."""
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "large").write_bytes(b" " * 101)
    return {
        "fifo": folder / "fifo",
        "folder": folder / "folder",
        "link": folder / "link",
        "loop": folder / "loop",
        "large": folder / "large",
        "missing": folder / "missing",
        "device": "/dev/zero",
        "NUL": "a\0b",
        "empty": "",
        "long": "x" * 5000,
        "no name": None,
        "line break": folder / "a\nb",
    }


def test_only_regular_files_of_bounded_size(tmp_path: Path) -> None:
    for kind, path in irregular(tmp_path).items():
        with pytest.raises(BundleError, match=r"; expected|has 101 bytes; expected") as caught:
            read_bytes(path, error=BundleError, what="a small file", most_bytes=100)  # type: ignore[arg-type]
        assert str(caught.value).isprintable(), kind
        with pytest.raises(PannsLitertError):
            read_json(path, error=BundleError, what="a small file", most_bytes=100)  # type: ignore[arg-type]
    assert read_bytes(tmp_path / "large", error=BundleError, what="a small file", most_bytes=101) == b" " * 101
