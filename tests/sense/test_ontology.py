"""AudioSet's ontology: its data against the class list; roll-up, selection and grouping of classes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panns_litert.errors import BundleError, LabelError
from panns_litert.sense import ONTOLOGY, Node, Ontology, audioset_nodes
from panns_litert_convert.assets import CLASS_LIST, audioset_labels
from panns_litert_convert.ontology import NOTICE, compact, ontology_text
from panns_litert_convert.zoo import asset

NODES = audioset_nodes()
BY_ID = {node.id: node for node in NODES}
AUDIOSET = Ontology.load()

DOG, CAT, BARK, GROWLING = (AUDIOSET.labels.index(name) for name in ("Dog", "Cat", "Bark", "Growling"))


def test_the_asset_is_what_its_script_writes() -> None:
    text = asset(ONTOLOGY).read_text(encoding="utf-8")
    data = json.loads(text)
    original = [{"id": row["id"], "name": row["name"], "child_ids": row["children"]} for row in data["nodes"]]
    assert text == compact(original)
    assert {key: value for key, value in data.items() if key != "nodes"} == NOTICE
    with pytest.raises(BundleError, match="expected the one that was checked"):
        ontology_text(text.encode())


def test_every_class_is_a_node_by_identifier_and_by_name() -> None:
    with asset(CLASS_LIST).open(newline="", encoding="utf-8") as file:
        classes = list(csv.DictReader(file))
    assert len(classes) == 527
    assert [row["mid"] for row in classes if BY_ID[row["mid"]].name != row["display_name"]] == []
    assert AUDIOSET.labels == tuple(audioset_labels())


def test_the_ontology_has_its_published_shape() -> None:
    assert len(NODES) == len(BY_ID) == len({node.name for node in NODES}) == 632
    assert AUDIOSET.roots == (
        "Human sounds",
        "Animal",
        "Music",
        "Natural sounds",
        "Sounds of things",
        "Source-ambiguous sounds",
        "Channel, environment and background",
    )
    parents: dict[str, list[str]] = {}
    for node in NODES:
        assert len(set(node.children)) == len(node.children)
        for child in node.children:
            parents.setdefault(child, []).append(node.id)
    assert len(parents) == 632 - 7
    several = {BY_ID[child].name: len(above) for child, above in parents.items() if len(above) > 1}
    assert len(several) == 38
    most = {name: count for name, count in several.items() if count > 2}
    assert most == {"Growling": 4, "Hiss": 4, "Cowbell": 3, "Buzz": 3, "Bicycle bell": 3}


def test_the_ontology_has_no_cycle() -> None:
    done: set[str] = set()

    def visit(node_id: str, above: frozenset[str]) -> None:
        assert node_id not in above
        if node_id not in done:
            for child in BY_ID[node_id].children:
                visit(child, above | {node_id})
            done.add(node_id)

    for node_id in BY_ID:
        visit(node_id, frozenset())


def test_a_dog_is_also_an_animal() -> None:
    probs = np.zeros(527, np.float32)
    probs[BARK] = 0.9
    rolled = AUDIOSET.roll_up(probs)
    named = {AUDIOSET.labels[i] for i in np.flatnonzero(rolled)}
    assert named == {"Bark", "Dog", "Domestic animals, pets", "Animal"}
    assert rolled.dtype == np.float32
    assert set(rolled[rolled > 0]) == {np.float32(0.9)}


def test_a_sound_below_several_counts_for_each() -> None:
    probs = np.zeros(527)
    probs[GROWLING] = 0.6
    assert set(AUDIOSET.roll_up(probs)[[DOG, CAT]]) == {0.6}


def test_scores_pass_through_nodes_that_are_no_classes() -> None:
    nodes = (
        Node(id="/m/a", name="A", children=("/m/b",)),
        Node(id="/m/b", name="B", children=("/m/c",)),
        Node(id="/m/c", name="C", children=()),
    )
    assert Ontology(nodes, ("A", "C")).roll_up(np.array([0.1, 0.7])).tolist() == [0.7, 0.7]


def naive_roll_up(probs: np.ndarray) -> np.ndarray:
    """Raises every parent to its highest child until nothing changes."""
    scores = {node.id: 0.0 for node in NODES}
    ids = {node.name: node.id for node in NODES}
    scores |= {ids[label]: float(p) for label, p in zip(AUDIOSET.labels, probs, strict=True)}
    while True:
        raised = {node.id: max(scores[i] for i in (node.id, *node.children)) for node in NODES}
        if raised == scores:
            return np.array([scores[ids[label]] for label in AUDIOSET.labels])
        scores = raised


probabilities = arrays(np.float64, 527, elements=st.floats(0.0, 1.0), fill=st.just(0.0))


@given(probabilities)
def test_roll_up_against_the_plain_definition(probs: np.ndarray) -> None:
    np.testing.assert_array_equal(AUDIOSET.roll_up(probs), naive_roll_up(probs))


@given(probabilities, probabilities)
def test_roll_up_is_monotone_idempotent_and_never_lowers_a_score(a: np.ndarray, b: np.ndarray) -> None:
    rolled = AUDIOSET.roll_up(a)
    assert (rolled >= a).all()
    assert (AUDIOSET.roll_up(rolled) == rolled).all()
    assert (AUDIOSET.roll_up(np.maximum(a, b)) >= rolled).all()


def test_roll_up_over_frames() -> None:
    frames = np.random.default_rng(0).random((4, 527))
    np.testing.assert_array_equal(AUDIOSET.roll_up(frames), [AUDIOSET.roll_up(frame) for frame in frames])


def test_classes_that_audioset_does_not_know_stand_alone() -> None:
    ontology = Ontology.load(("Animal", "Dog", "My fridge"))
    assert ontology.roll_up(np.array([0.1, 0.8, 0.9])).tolist() == [0.8, 0.8, 0.9]
    assert ontology.children("My fridge") == ()
    assert ontology.roots[-1] == "My fridge"
    assert ontology.select(deny=["My fridge"]).tolist() == [True, True, False]


def test_the_ontology_can_be_browsed() -> None:
    assert AUDIOSET.children("Laughter") == ("Baby laughter", "Giggle", "Snicker", "Belly laugh", "Chuckle, chortle")
    with pytest.raises(LabelError, match="did you mean 'Laughter'"):
        AUDIOSET.children("laughter")


def chosen(mask: np.ndarray) -> set[str]:
    return {AUDIOSET.labels[i] for i in np.flatnonzero(mask)}


def test_selection_by_name_and_by_subtree() -> None:
    assert AUDIOSET.select().all()
    assert chosen(AUDIOSET.select(allow=["Dog", "Siren"])) == {"Dog", "Siren"}
    animals = chosen(AUDIOSET.select(allow=["Animal/"]))
    assert {"Animal", "Dog", "Bark", "Growling", "Mosquito"} <= animals
    assert not animals & {"Speech", "Siren", "Wind"}
    assert chosen(AUDIOSET.select(allow=["Animal/"], deny=["Dog/", "Cat"])) == animals - {
        *chosen(AUDIOSET.select(allow=["Dog/"])),
        "Cat",
    }
    assert not AUDIOSET.select(allow=[]).any()
    assert chosen(~AUDIOSET.select(deny=["Human sounds/"])) >= {"Speech", "Clapping"}


def test_groups_take_the_highest_score() -> None:
    probs = np.zeros((3, 527), np.float32)
    probs[0, BARK], probs[1, CAT], probs[2, DOG] = 0.7, 0.4, 0.2
    groups = {"Pets": ["Dog/", "Cat"], "Only dog": ["Dog"], "Water": ["Water/"]}
    expected = np.array([[0.7, 0, 0], [0.4, 0, 0], [0.2, 0.2, 0]], np.float32)
    np.testing.assert_array_equal(AUDIOSET.group(probs, groups), expected)
    np.testing.assert_array_equal(AUDIOSET.group(probs[0], groups), expected[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dog", "no class 'dog'; did you mean 'Dog'"),
        ("Anmial/", "no class 'Anmial'; did you mean 'Animal'"),
        ("car horn", "did you mean 'Vehicle horn, car horn, honking'"),
        ("Human sounds", "no class of the model; expected a class, or 'Human sounds/'"),
        ("xyzzy", "no class 'xyzzy'; expected a class name"),
        ("", "no class ''"),
        ("/", "no class ''"),
    ],
)
def test_a_name_that_cannot_be_selected(name: str, message: str) -> None:
    for choose in (
        lambda: AUDIOSET.select(allow=[name]),
        lambda: AUDIOSET.select(deny=[name]),
        lambda: AUDIOSET.group(np.zeros(527), {"mine": [name]}),
    ):
        with pytest.raises(LabelError, match=message):
            choose()


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(LabelError, match=r"shape \(526,\); expected floats, \(…, 527\)"):
        AUDIOSET.roll_up(np.zeros(526))
    with pytest.raises(LabelError, match="int64 scores"):
        AUDIOSET.group(np.zeros(527, np.int64), {})
    with pytest.raises(LabelError, match="'mine' is empty"):
        AUDIOSET.group(np.zeros(527), {"mine": []})
    with pytest.raises(LabelError, match="'Dog' is one name; expected a list"):
        AUDIOSET.select(allow="Dog")
    with pytest.raises(LabelError, match="no class within 'Animal/'"):
        Ontology.load(("Siren",)).select(allow=["Animal/"])
    with pytest.raises(LabelError, match="expected different names"):
        Ontology.load(("Siren", "Siren"))
