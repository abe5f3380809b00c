"""How results are shown: short texts, HTML in notebooks, and dictionaries for JSON and tables."""

from __future__ import annotations

import ast
import json
import math
import re
import typing
from dataclasses import fields
from html.parser import HTMLParser

import numpy as np
import pytest
from support import ROOT

from panns_litert import LongTagging, Tag, Tagger, Tagging, find_events, load_audio, tag_long, windows
from panns_litert.bundle import GRAPHS, PRECISIONS, Bundle, GraphName, PrecisionName
from panns_litert.demo import demo_clips
from panns_litert.events import Event
from panns_litert.pictures import timeline
from panns_litert.prototypes import Prototype
from panns_litert.results import Row, bars
from panns_litert.search import Hit, Match, embed
from panns_litert.tagger import ENGINES, EngineName
from panns_litert.windows import AGGREGATES, AggregateName

CLIP = demo_clips()[0]


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger()


def results(tagger: Tagger) -> list[object]:
    samples = np.tile(load_audio(CLIP, sample_rate=32000).waveform, 12)
    return [
        tagger,
        tagger.bundle,
        tagger.tag(CLIP, top=None),
        tag_long(tagger, samples, sample_rate=32000, top=None),
        next(iter(windows(tagger, samples, sample_rate=32000))),
        timeline(tagger, CLIP),
        embed(tagger, CLIP),
        load_audio(CLIP, sample_rate=32000),
        Prototype(name="siren", count=2, cosine=0.9, threshold=0.5, scale=0.1, mean=np.ones(96, np.float32)),
    ]


def test_a_repr_is_short_and_shows_no_arrays(tagger: Tagger) -> None:
    shown = {type(one).__name__: repr(one) for one in results(tagger)}
    best = tagger.tag(CLIP).tags[0]
    for name, text in shown.items():
        assert len(text) < 250, text
        assert "array(" not in text
        assert "dtype" not in text
        assert name in text
    assert f"{best.label} {best.score:.2f}, " in shown["Tagging"]
    assert f"({len(tagger.labels)} in all)" in shown["Tagging"]
    assert " by demo on cpu" in shown["Tagging"]
    assert "fp16, " in shown["Tagger"]
    tagger = Tagger()
    tagger.close()
    assert repr(tagger).endswith("closed>")


class Tables(HTMLParser):
    """Collects tags and text, and fails for an element that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_notebooks_show_bars_and_for_several_windows_a_timeline(tagger: Tagger) -> None:
    _, _, clip, long, _, whole, *_ = results(tagger)
    short = Tables(clip._repr_html_())  # type: ignore[attr-defined]
    assert "svg" not in short.seen
    assert short.seen.count("tr") == len(tagger.labels)
    assert [tag.label for tag in clip.tags] == [w for w in short.words if w in tagger.labels]  # type: ignore[attr-defined]
    table = Tables(long._repr_html_())  # type: ignore[attr-defined]
    assert table.seen.count("svg") == table.seen.count("tr") - 1  # the last row is the axis
    assert table.seen.count("rect") >= 2
    assert Tables(whole._repr_html_()).seen.count("tr") == 8  # type: ignore[attr-defined]
    hostile = Tables(bars("<script>", [("<b>\x1b[31m", 0.5)]))
    assert "script" not in hostile.seen
    assert "b" not in hostile.seen
    assert "\x1b" not in "".join(hostile.words)


def test_the_scores_over_time_of_a_long_recording(tagger: Tagger) -> None:
    """Silence, then a sound, then silence; the steps join without gaps, also where windows overlap."""
    sound = np.resize(load_audio(CLIP, sample_rate=32000).waveform, 320000)
    samples = np.concatenate([np.zeros(640000, np.float32), sound, np.zeros(640000, np.float32)])
    best = tagger.tag(sound, sample_rate=32000).tags[0]
    for hop, steps in ((None, 5), (5.0, 9)):
        found = tag_long(tagger, samples, sample_rate=32000, **({} if hop is None else {"hop": hop}))
        assert found.scores.shape == (steps, len(tagger.labels))
        assert found.times.shape == (steps + 1,)
        assert (found.times[0], found.times[-1]) == (0.0, 50.0)
        assert (np.diff(found.times) > 0).all()
        loud = found.scores[:, best.index].argmax()
        assert found.times[loud] < 25.0 < found.times[loud + 1]
        assert found.scores[loud, best.index] == pytest.approx(best.score, abs=1e-6)
    few = tag_long(tagger, np.tile(samples, 5), sample_rate=32000, hop=1.0)
    assert len(few.scores) <= 200
    assert few.windows > 200


def test_dictionaries_are_json(tagger: Tagger) -> None:
    _, _, clip, long, window, *_ = results(tagger)
    events = list(find_events(tagger, CLIP))
    assert events
    for one in (clip, long, window, *clip.tags, *events):  # type: ignore[attr-defined]
        json.dumps(one.to_dict(), allow_nan=False)  # type: ignore[attr-defined]
    assert len(window.to_dict(probs=True)["probs"]) == len(tagger.labels)  # type: ignore[attr-defined]
    silent = next(iter(windows(tagger, np.zeros(320000, np.float32), sample_rate=32000)))
    assert silent.level_dbfs == -math.inf
    assert silent.to_dict()["level_dbfs"] is None


@pytest.mark.parametrize("kind", [Tag, Event, Hit, Match], ids=lambda kind: kind.__name__)
def test_a_row_has_a_column_for_each_field(kind: type) -> None:
    """What pandas.DataFrame makes a table of: data classes whose fields are texts and numbers."""
    assert issubclass(kind, Row)
    assert {field.type for field in fields(kind)} <= {"str", "int", "float"}
    row = kind(**{field.name: 1 for field in fields(kind)})
    assert list(row.to_dict()) == [field.name for field in fields(kind)]


def test_choices_are_types(demo: Bundle) -> None:
    assert typing.get_args(EngineName) == ENGINES
    assert typing.get_args(AggregateName) == AGGREGATES
    assert typing.get_args(GraphName) == GRAPHS
    assert typing.get_args(PrecisionName) == PRECISIONS
    assert demo.manifest.graph in GRAPHS
    assert demo.manifest.precision in PRECISIONS


def test_every_field_of_a_result_is_documented() -> None:
    """In the docstring of its data class; for the fields that `Tagging` and `LongTagging` share, in theirs."""
    missing, count = [], 0
    for path in (ROOT / "runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or node.name == "TaggingResult":
                continue
            if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue
            text, count = ast.get_docstring(node) or "", count + 1
            names = [part.target.id for part in node.body if isinstance(part, ast.AnnAssign)]  # type: ignore[union-attr]
            missing += [f"{node.name}.{name}" for name in names if not re.search(rf"\b{name}\b", text)]
    assert count > 30
    assert missing == []
    for kind in (Tagging, LongTagging):
        assert [field.name for field in fields(kind) if field.name not in (kind.__doc__ or "")] == []
