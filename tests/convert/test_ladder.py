"""The ladder's sweep: it measures real files, keeps what is measured, and its table shows every failure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from panns_litert.bundle import PRECISIONS, QUANTIZED
from panns_litert.measure import markdown
from panns_litert_convert import ladder as module
from panns_litert_convert.ladder import BRIEF, measure, sweep, table
from panns_litert_convert.zoo import MODELS, asset, find


def test_a_measured_row(tmp_path: Path) -> None:
    row = measure(find("demo"), tmp_path, precisions=["int8"], mixed=False)
    (rung,) = row["rungs"]
    print(row)
    assert rung["passed"]
    assert rung["bytes"] < 400_000
    assert 0 < rung["checks"]["int8/probs"] < 0.05
    assert 0.9 < rung["map"] <= 1.0
    assert abs(rung["map"] - row["map"]) < 0.02  # PyTorch's for the same clips
    assert row["weights"] == "published"


def rung(precision: str, *, passed: bool, mixed: bool) -> dict[str, Any]:
    found = {"precision": precision, "mixed": mixed, "passed": passed, "kept": [], "bytes": 1000}
    hurt = ["CONV_2D conv1 alone 0.1", "CONV_2D conv2 alone 0.01"] if mixed else []
    return found | ({"why": ""} if passed else {"why": f"{precision} fails its gate", "hurt": hurt})


def test_the_sweep_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(name: str, *, precisions: Sequence[str], checkpoint: Path | None, mixed: bool) -> dict[str, Any]:
        asked.append((name, list(precisions)))
        if name == "cnn6":
            return {"name": name, "error": "exit code -9"}
        rungs = [rung(p, passed=mixed or p != "int4-weights", mixed=mixed) for p in precisions]
        weights = "published" if checkpoint else "recipe"
        return {"name": name, "weights": weights, "error": None, "rungs": rungs, "seconds": 1.0}

    monkeypatch.setattr(module, "in_process", measured)
    out = tmp_path / "ladder.json"
    every = list(PRECISIONS)
    sweep(["cnn6", "cnn10"], out, mixed=False)
    assert asked == [("cnn6", every), ("cnn10", every)]
    sweep(["cnn10"], out, mixed=False)
    assert len(asked) == 2
    rows = sweep(["cnn6", "cnn10"], out)  # repeats what crashed, and what failed without finer layers
    assert asked[2:] == [("cnn6", every), ("cnn10", ["int4-weights"])]
    assert [r["precision"] for r in rows[1]["rungs"]] == every
    assert all(r["passed"] for r in rows[1]["rungs"])
    sweep(["cnn10"], out, checkpoints={"cnn10": tmp_path / "own.pth"})
    assert asked[4:] == [("cnn10", every)]
    sweep(["cnn10"], out, checkpoints={"cnn10": tmp_path / "own.pth"})
    sweep(["cnn10"], out, fresh=True)
    assert asked[5:] == [("cnn10", every)]
    assert {row["name"]: row["error"] for row in json.loads(out.read_text())["rows"]}["cnn6"] == "exit code -9"


def test_a_failure_is_in_the_table() -> None:
    rungs = [rung("int8", passed=False, mixed=True), rung("int4-weights", passed=False, mixed=False)]
    rows = table([{"name": "cnn10", "weights": "recipe", "rungs": rungs}, {"name": "cnn6", "error": "exit code -9"}])
    assert rows[0]["gates"] == "FAILED: CONV_2D conv1 alone 0.1 hurts most"
    assert rows[1]["gates"] == "FAILED: int4-weights fails its gate (no layer kept finer yet)"
    assert rows[2]["gates"] == "FAILED: exit code -9"


@pytest.mark.parametrize(
    ("right", "gates"), [(94.7, "passed"), (94.5, "FAILED: 1.1 points fewer of ESC-10's clips are right")]
)
def test_a_rung_that_names_fewer_clips_right_fails(right: float, gates: str) -> None:
    rungs = [rung("int8", passed=True, mixed=True) | {"esc10_percent": right}]
    (row,) = table([{"name": "mn04", "weights": "published", "esc10_percent": 95.6, "rungs": rungs}])
    assert (row["ESC-10"], row["gates"]) == (f"{right}", gates)


def test_documents_show_the_table_as_it_was_measured() -> None:
    """The tables in the documents are generated, and include every precision of every model."""
    rows = json.loads(asset("ladder.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == [model.name for model in MODELS]
    assert {row["model"] for row in table(rows) if row["weights"] == "own"} == {"demo"}
    for row in rows:
        assert [r["precision"] for r in row["rungs"]] == list(PRECISIONS), row["name"]
        assert all(r["passed"] for r in row["rungs"] if r["precision"] not in QUANTIZED), row["name"]
    for document, shown in (
        (ROOT / "docs" / "ladder.md", rows),
        (ROOT / "docs" / "choose.md", [row for row in rows if row["name"] in BRIEF]),
    ):
        found = re.search(r"<!-- ladder -->\n(.*?)<!-- /ladder -->", document.read_text(encoding="utf-8"), re.S)
        assert found is not None
        assert found[1] == markdown(table(shown)), document.name


@pytest.mark.parametrize(
    ("name", "precision", "most"), [("cnn14", "int8", 82e6), ("mn04", "fp16", 2.2e6), ("mn04", "int8", 1.3e6)]
)
def test_file_sizes_meet_their_targets(name: str, precision: str, most: float) -> None:
    """Cnn14 in four bits misses its target of 45 MB: docs/ladder.md says why."""
    rows = json.loads(asset("ladder.json").read_text(encoding="utf-8"))["rows"]
    (found,) = (r for row in rows if row["name"] == name for r in row["rungs"] if r["precision"] == precision)
    assert found["passed"]
    assert found["bytes"] <= most
