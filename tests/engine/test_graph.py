"""Graph: a damaged .tflite is either read or refused with a `BundleError`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_litert.engine import read_graph
from panns_litert.errors import BundleError
from panns_litert.proof import add_one_model


@settings(max_examples=200)
@given(
    changes=st.lists(st.tuples(st.integers(8, 1000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 1000),
)
def test_a_damaged_file_gives_a_graph_or_one_error(
    changes: list[tuple[int, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(add_one_model())
    for position, value in changes:
        data[position % len(data)] = value
    path = tmp_path_factory.mktemp("damaged") / "file.tflite"
    path.write_bytes(bytes(data[: len(data) - cut]) if cut < len(data) else b"")
    try:
        read_graph(path)
    except BundleError as error:
        assert str(path) in str(error)
