"""Wrong kinds of arguments of the public names: one clear PannsLitertError, never a raw TypeError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from panns_litert import Bundle, FrontEndSpec, LogMel, Ontology, Sense, StreamingLogMel, Tagger
from panns_litert.bundle import BundleWriter, Manifest
from panns_litert.engine import CpuEngine, read_graph
from panns_litert.errors import PannsLitertError
from panns_litert.frontend import PANNS_32K
from panns_litert.sense import audioset_nodes, require_class_names
from panns_litert.tagger import top_tags

LABELS = ("Dog", "Cat")
WRONG: tuple[Any, ...] = (
    0.0, 3, "x", b"x", True, object(), [1, 2], ["x", 3], [[1.0], [1.0, 2.0]], {"a": 1}, np.zeros((2, 2, 2, 2)),
    np.array(["x"]), np.zeros(3, complex), 10**5000, float("nan"), "a\nb\0",
)  # fmt: skip

# Each takes one wrong argument. Some of the values above are right for some of them; then nothing is raised.
CALLS: dict[str, Callable[[Any], object]] = {
    "Bundle": Bundle,
    "BundleWriter": BundleWriter,
    "Manifest.from_json": Manifest.from_json,
    "CpuEngine": CpuEngine,
    "CpuEngine, threads": lambda value: CpuEngine("none", threads=value),
    "read_graph": read_graph,
    "Tagger": Tagger,
    "Tagger, engine": lambda value: Tagger(engine=value),
    "Tagger, threads": lambda value: Tagger(threads=value).close(),
    "top_tags, labels": lambda value: top_tags(value, np.zeros(2)),
    "top_tags, probs": lambda value: top_tags(LABELS, value),
    "top_tags, top": lambda value: top_tags(LABELS, np.zeros(2), top=value),
    "top_tags, threshold": lambda value: top_tags(LABELS, np.zeros(2), threshold=value),
    "Sense": Sense,
    "Sense, allow": lambda value: Sense(LABELS, allow=value),
    "Sense, deny": lambda value: Sense(LABELS, deny=value),
    "Sense, groups": lambda value: Sense(LABELS, groups=value),
    "Sense, temperature": lambda value: Sense(LABELS, temperature=value),
    "Sense, silence_dbfs": lambda value: Sense(LABELS, silence_dbfs=value),
    "Sense, roll_up": lambda value: Sense(LABELS, roll_up=value),
    "Sense, call": lambda value: Sense(LABELS)(value),
    "Ontology, nodes": lambda value: Ontology(value, LABELS),
    "Ontology, labels": lambda value: Ontology(audioset_nodes(), value),
    "Ontology.load": Ontology.load,
    "Ontology.children": lambda value: Ontology.load().children(value),
    "Ontology.select": lambda value: Ontology.load().select(allow=value),
    "Ontology.roll_up": lambda value: Ontology.load().roll_up(value),
    "Ontology.group": lambda value: Ontology.load().group(np.zeros(527), value),
    "require_class_names": require_class_names,
    "LogMel": LogMel,
    "LogMel, basis": lambda value: LogMel(PANNS_32K, basis=value),
    "LogMel, call": lambda value: LogMel(PANNS_32K)(value),
    "LogMel, out": lambda value: LogMel(PANNS_32K)(np.zeros(32000), out=value),
    "StreamingLogMel": StreamingLogMel,
    "StreamingLogMel.push": lambda value: StreamingLogMel(PANNS_32K).push(value),
    "FrontEndSpec.from_dict": FrontEndSpec.from_dict,
    **{
        f"FrontEndSpec, {name}": lambda value, name=name: FrontEndSpec.from_dict(PANNS_32K.to_dict() | {name: value})
        for name in PANNS_32K.to_dict()
    },
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_argument_gives_one_clear_error(call: str) -> None:
    refused = 0
    for value in WRONG:
        try:
            CALLS[call](value)
        except PannsLitertError as error:
            refused += 1
            assert str(error).isprintable()
            assert len(str(error)) < 700
    assert refused >= len(WRONG) // 2


def test_wrong_input_of_a_tagger(tagger: Tagger) -> None:
    engine = CpuEngine(tagger.bundle.file("model"), threads=1)
    for value in (*WRONG, None, {}, {"logmel": "x"}):
        for run in (tagger.run, engine.run):
            with pytest.raises(PannsLitertError, match="expected") as caught:
                run(value)  # type: ignore[operator]
            assert str(caught.value).isprintable()
