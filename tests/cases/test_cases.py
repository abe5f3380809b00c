"""Damaged and unusual recordings: every row of the table is heard as it says, by every way in."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases.made import RATE, pcm, wav
from cases.page import PAGE, page
from cases.table import CASES, FILES, PIPES, SAMPLES, Case
from support import ROOT, run_command

from panns_litert import Tagger, tag_long
from panns_litert.audio import AudioBlocks, load_audio
from panns_litert.errors import AudioError


def here(*groups: tuple[Case, ...]) -> list[Any]:
    """Returns the rows that this file runs, as parameters of a test."""
    rows = [case for group in groups for case in group if case.made is not None]
    return [
        pytest.param(
            case,
            id=case.name,
            marks=pytest.mark.skipif(
                case.needs is not None and importlib.util.find_spec(case.needs) is None, reason=f"needs {case.needs}"
            ),
        )
        for case in rows
    ]


def refused(case: Case, error: AudioError) -> None:
    """Checks an error against a row: one line that says what was wrong."""
    assert case.seconds is None, error
    assert case.says is not None
    assert case.says in str(error)
    assert "\n" not in str(error)


def said(case: Case, warnings: tuple[str, ...] | list[str]) -> None:
    """Checks the warnings against a row: those that it names, and none if it names none."""
    if case.says is None:
        assert not warnings
    else:
        assert any(case.says in warning for warning in warnings), warnings


@pytest.mark.parametrize("case", here(FILES, SAMPLES))
def test_what_is_heard(case: Case, tagger: Tagger) -> None:
    """Blocks, the tags of the whole, and the first clip."""
    made = case.made
    assert made is not None
    try:
        with AudioBlocks(made(), sample_rate=RATE, **case.options) as blocks:
            heard = np.concatenate([np.empty(0, np.float32), *blocks])
        if case.seconds is not None:
            assert blocks.seconds_heard == pytest.approx(case.seconds, abs=case.within)
            assert blocks.seconds is not None
            assert blocks.seconds >= blocks.seconds_heard - 1e-3
            assert len(heard) / RATE >= blocks.seconds_heard - 0.01  # silence may stand for what is missing
            said(case, blocks.warnings)
        with AudioBlocks(made(), sample_rate=RATE, **case.options) as blocks:
            found = tag_long(tagger, blocks, aggregate="max")
    except AudioError as error:
        refused(case, error)
        return
    assert case.seconds is not None, "it should have been refused"
    assert found.seconds_heard == pytest.approx(case.seconds, abs=case.within)
    said(case, found.warnings)
    assert {tag.label for tag in found.tags if tag.score > 0.5} >= set(case.labels)


@pytest.mark.parametrize("case", here(FILES))
def test_a_path_is_heard_like_its_content(case: Case, tmp_path: Path) -> None:
    """libsndfile reads some files by their path, and others through Python."""
    assert case.made is not None
    content = case.made()
    assert isinstance(content, bytes)
    path = tmp_path / case.name
    path.write_bytes(content)
    if case.seconds is None:
        with pytest.raises(AudioError, match=re.escape(case.says or "")):
            load_audio(path, sample_rate=RATE)
        return
    if case.says and "NaN" in case.says:
        with pytest.raises(AudioError, match="NaN"):
            load_audio(path, sample_rate=RATE)
        return
    by_path, by_content = load_audio(path, sample_rate=RATE), load_audio(content, sample_rate=RATE)
    assert by_path.seconds_heard == by_content.seconds_heard == pytest.approx(case.seconds, abs=case.within)
    assert by_path.warnings == by_content.warnings
    np.testing.assert_array_equal(by_path.waveform, by_content.waveform)
    said(case, by_path.warnings)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run over all files: a row for each, its warnings on stderr, and exit code 2 for those that are refused."""
    cases = {}
    for parameter in here(FILES):
        case = parameter.values[0]
        if parameter.marks and parameter.marks[0].args[0]:
            continue
        content = case.made()
        cases[str(tmp_path / case.name)] = case
        (tmp_path / case.name).write_bytes(content)
    out, err = run_command(capsys, "tag", "--json", "--aggregate=max", *cases, code=2)
    rows = {row["source"]: row for row in json.loads(out)["results"]}
    assert rows.keys() == cases.keys()
    for source, case in cases.items():
        row = rows[source]
        if case.seconds is None:
            assert case.says in row["error"]
            continue
        assert row["seconds_heard"] == pytest.approx(case.seconds, abs=case.within)
        said(case, row["warnings"])
        for warning in row["warnings"]:
            assert f"warning: {source}: {warning}\n" in err
        assert {tag["label"] for tag in row["tags"] if tag["score"] > 0.5} >= set(case.labels)
    heard = [source for source, case in cases.items() if case.seconds is not None]
    run_command(capsys, "tag", "--json", *heard[:3], code=0)  # warnings alone are no failure


def test_a_wav_of_more_than_4_gb(tmp_path: Path) -> None:
    """The size is that modulo 2**32, as many recorders write it. The file is sparse: zeros, then the sound."""
    data, zeros = pcm(), 2**32
    head = wav(b"", size=len(data), riff=len(data) + 36)
    path = tmp_path / "over4gb.wav"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + zeros)
        file.seek(0, 2)
        file.write(data)
    with AudioBlocks(path, sample_rate=RATE) as blocks:
        next(iter(blocks))
        assert blocks.seconds == pytest.approx(6.0)  # what the header states, until all is read
        assert blocks._decoder is not None
        assert blocks._decoder._sound.frames == (zeros + len(data)) // 2


def test_every_row_is_whole() -> None:
    """Names differ, reports are of the form owner/repository#number, and tests elsewhere exist."""
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert (case.made is None) != (case.elsewhere is None), case.name
        assert case.report is None or re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", case.report), case.name
        if case.elsewhere is not None:
            path, _, name = case.elsewhere.partition("::")
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, case.elsewhere
    without = [case.name for case in CASES if case.report is None]
    print(f"{len(CASES)} rows, {len(without)} without a public report: {', '.join(without)}")


def test_rows_are_run() -> None:
    """No row is only in the document."""
    run = {*FILES, *SAMPLES, *PIPES}
    assert [case.name for case in CASES if case not in run and case.elsewhere is None] == []


def test_the_page_is_up_to_date() -> None:
    """If this fails, run `python tests/cases/page.py`."""
    assert PAGE.read_text(encoding="utf-8") == page()
