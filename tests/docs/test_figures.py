"""Times in documents: each is rendered from the records of one run on one machine, and none is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import figures
import pytest
from support import ROOT

from panns_litert.models import TIMES

RENDER = "run `python tests/bench/figures.py --render`"

RENDERED = r"zoo|records|speed|figures|runtimes|cases|arm|table \w+|evidence \w+|live \w+"
"""Markers of blocks that are compared with the records, here and in tests/runtimes and tests/arm."""

_NUMBER = r"\d+(?:[.,–-]\d+)*"
_UNIT = r"(?:s|sec|seconds?|min|minutes?)"
TIMES_IN_TEXT = (
    re.compile(rf"{_NUMBER}\s?(?:ms|µs|μs|milliseconds?|microseconds?)\b"),
    # A time in seconds, unlike a length of sound, follows a verb or stands at the beginning of a table's cell.
    re.compile(
        r"\b(?:takes?|took|needs?|needed|costs?)\s(?:(?:about|only|around|up to|at most|less than|under|nearly)\s)*"
        rf"{_NUMBER}\s?{_UNIT}\b"
    ),
    re.compile(rf"(?<=\| ){_NUMBER} {_UNIT}(?=[ ,;]| \|)"),
)

SETTINGS = {
    ("docs/damaged.md", "50 ms"): "how far a header may be from its sound",
    ("docs/damaged.md", "20 ms"): "length of a sound",
    ("docs/embeddings.md", "20 ms"): "hop of the log-mel that is correlated",
    ("docs/events.md", "20 ms"): "length of a sound",
    ("docs/live.md", "16 ms"): "half a frame",
    ("docs/live.md", "50 ms"): "bound of a test",
    ("runtime/panns_litert/measure/bench.py", "0.1 µs"): "what a time is rounded to",
    ("runtime/panns_litert/search/match.py", "128 ms"): "frame of the log-mel that is correlated",
    ("runtime/panns_litert/search/match.py", "20 ms"): "its hop",
    ("runtime/panns_litert/windows.py", "16 ms"): "half a frame",
}
"""Times that are not measured on a machine: file, text, and what it is."""


def typed_times(text: str) -> list[str]:
    """Returns the times in a text outside of rendered blocks and of code blocks."""
    text = re.sub(rf"^<!-- ({RENDERED}) -->$.*?^<!-- /\1 -->$", "", text, flags=re.M | re.S)
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    return [" ".join(found[0].split()) for pattern in TIMES_IN_TEXT for found in pattern.finditer(text)]


def texts() -> dict[str, str]:
    """Returns the documents and times.json, by path in the repository."""
    paths = [*figures.documents(), ROOT / "assets" / TIMES]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def rendered(texts: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Returns the texts with all blocks as the records render them."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    figures.render(folder)
    return {name: (folder / name).read_text(encoding="utf-8") for name in texts}


def test_documents_show_what_was_measured(tmp_path: Path) -> None:
    shipped = texts()
    right = rendered(shipped, tmp_path)
    assert [name for name, text in shipped.items() if text != right[name]] == [], RENDER


def test_every_figure_that_was_changed_by_hand_is_found(tmp_path: Path) -> None:
    """A row is added to every block, and times.json is emptied."""
    shipped, blocks = texts(), []
    changed = dict(shipped)
    for name, text in shipped.items():
        for block in re.findall(rf"^<!-- ({RENDERED}) -->$", text, re.M):
            if block not in ("runtimes", "cases", "arm"):  # tests/runtimes and tests/arm compare them
                end = re.compile(rf"^<!-- /{block} -->$", re.M)
                changed[name] = end.sub(lambda found: f"| 12 ms |\n{found[0]}", changed[name])
                blocks.append(block)
    changed[f"assets/{TIMES}"] = "{}\n"
    assert {"zoo", "records", "speed", "figures"} <= set(blocks)
    assert changed != shipped
    assert rendered(changed, tmp_path) == shipped


def test_all_times_are_of_one_machine_and_one_run() -> None:
    record, tables = figures.device_record(), figures.bench_tables()
    runtimes = json.loads((ROOT / figures.RUNTIMES).read_text(encoding="utf-8"))
    device = record.device
    assert device.name == tables["device"]["name"] == figures.DEVICE
    assert device.cores == tables["device"]["cores"]
    assert runtimes["machine"] == f"{device.name}, {device.cores} cores"
    days = {run.date for run in record.runs} | {table["date"] for table in tables["tables"]} | {runtimes["date"]}
    assert (date.fromisoformat(max(days)) - date.fromisoformat(min(days))).days <= 1, "run `make figures`"
    versions = [run.versions for run in record.runs] + [table["versions"] for table in tables["tables"]]
    for name in ("python", "ai-edge-litert", "panns-litert"):
        assert len({of[name] for of in versions}) == 1, name


def test_no_measured_time_is_typed() -> None:
    paths = [*figures.documents(), *sorted(ROOT.glob("runtime/**/*.py"))]
    found = {
        (path.relative_to(ROOT).as_posix(), time)
        for path in paths
        for time in typed_times(path.read_text(encoding="utf-8"))
    }
    assert found - set(SETTINGS) == set(), "a measured time belongs into the records, a setting into SETTINGS"
    assert set(SETTINGS) - found == set(), "not there any more"


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("It takes 12 ms on one core.", ["12 ms"]),
        ("| Cnn14 | 102 ms / 200 ms | `make bench` |", ["102 ms", "200 ms"]),
        ("10 s of audio take about\n2.5 ms.", ["2.5 ms"]),
        ("A push costs 40 µs.", ["40 µs"]),
        ("The conversion takes about 25 s.", ["takes about 25 s"]),
        ("`make zoo` needs 20 minutes.", ["needs 20 minutes"]),
        ("| process start to first tags | 0.27 s | `make bench` |", ["0.27 s"]),
        ("| checkpoint to bundle | 25 s, 3.0 GB peak |", ["25 s"]),
        ("<!-- table none -->\n12 ms\n<!-- /table other -->\n", ["12 ms"]),
        ("<!-- mine -->\n12 ms\n<!-- /mine -->\n", ["12 ms"]),
        ("<!-- table body -->\n12 ms\n<!-- /table body -->\n", []),
        ("```text\n12 ms\n```\n", []),
        ("Windows of 10 s, a hop of 0.5 s; AST takes clips of at most 10.2 s.", []),
    ],
)
def test_the_rule_finds_typed_times_alone(text: str, times: list[str]) -> None:
    assert typed_times(text) == times
