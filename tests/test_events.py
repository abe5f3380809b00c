"""Events: the detector against tests/vectors/events.json and onsets.json, its settings, windows to steps, writers."""

from __future__ import annotations

import csv
import io
import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import make_onsets
from vectors.make_events import CASES, VECTORS, Case, vectors
from vectors.make_events import events as reference

from panns_litert.errors import EventError, LabelError, PannsLitertError
from panns_litert.events import (
    Event,
    EventChange,
    EventDetector,
    EventSettings,
    Step,
    WindowSteps,
    audacity_labels,
    events_csv,
)

VECTOR_CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
WITH_THRESHOLDS = [case for case in VECTOR_CASES if "on" in case and "off" in case]


ONSET_CASES = json.loads(make_onsets.VECTORS.read_text(encoding="utf-8"))["cases"]


def detector_of(case: dict[str, Any]) -> EventDetector:
    labels = [f"class {i}" for i in range(case["classes"])]
    own = {label: {name: case[name][i] for name in ("on", "off") if name in case} for i, label in enumerate(labels)}
    seconds = {name: case[name] for name in ("min_duration", "max_gap", "cooldown") if name in case}
    thresholds = EventSettings(classes=own, **seconds)
    return EventDetector(labels, thresholds)


def found(detector: EventDetector, steps: list[tuple[Any, float, float]]) -> list[dict[str, Any]]:
    events = [event for step in steps for event in detector.push(*step)] + list(detector.finish())
    plain = [{"index": e.index, "start": e.start, "end": e.end, "score": e.score} for e in events]
    return sorted(plain, key=lambda event: (event["start"], event["index"]))


def steps_of(case: dict[str, Any]) -> list[tuple[Any, float, float]]:
    return [(step["scores"], step["start"], step["end"]) for step in case["steps"]]


def test_the_vectors_are_up_to_date() -> None:
    assert VECTORS.read_text(encoding="utf-8") == vectors()
    assert len({case["name"] for case in VECTOR_CASES}) == len(VECTOR_CASES) >= 20


@pytest.mark.parametrize("case", VECTOR_CASES, ids=lambda case: case["name"])
def test_the_detector_finds_the_events_of_the_vectors(case: dict[str, Any]) -> None:
    detector = detector_of(case)
    assert found(detector, steps_of(case)) == case["events"]
    assert found(detector, steps_of(case)) == case["events"], "a second recording begins anew"


@given(st.data())
def test_steps_split_anywhere_give_the_same_events(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(VECTOR_CASES))
    steps = []
    for scores, start, end in steps_of(case):
        cuts = sorted(data.draw(st.sets(st.sampled_from([0.25, 0.5, 0.75]))))
        times = [start, *(start + cut * (end - start) for cut in cuts), end]
        steps += [(scores, a, b) for a, b in itertools.pairwise(times)]
    assert found(detector_of(case), steps) == case["events"]


@st.composite
def series(draw: st.DrawFn) -> Case:
    """Any case of up to 3 classes, in decimals that the reference takes exactly."""

    def decimal(low: int, high: int, parts: int) -> st.SearchStrategy[str]:
        return st.integers(low, high).map(lambda n: str(n / parts))

    classes = draw(st.integers(1, 3))
    on = [draw(st.integers(0, 20)) for _ in range(classes)]
    off = [draw(st.integers(0, value)) for value in on]
    steps, time = [], 0
    for _ in range(draw(st.integers(0, 15))):
        time += draw(st.sampled_from([0, 0, 0, 1, 7, 30]))
        end = time + draw(st.integers(1, 50))
        scores = [draw(decimal(0, 20, 20)) for _ in range(classes)]
        steps.append((str(time / 100), str(end / 100), scores))
        time = end
    return Case(
        "drawn",
        steps,
        [str(value / 20) for value in on],
        [str(value / 20) for value in off],
        draw(decimal(0, 100, 100)),
        draw(decimal(0, 60, 100)),
    )


@settings(max_examples=300)
@given(series())
def test_the_detector_agrees_with_the_reference_on_any_series(case: Case) -> None:
    steps = [([float(v) for v in scores], float(start), float(end)) for start, end, scores in case.steps]
    assert found(detector_of(as_json(case)), steps) == reference(case)


def as_json(case: Case, cooldown: str = "0") -> dict[str, Any]:
    return {
        "classes": len(case.on),
        "on": [float(v) for v in case.on],
        "off": [float(v) for v in case.off],
        "min_duration": float(case.min_duration),
        "max_gap": float(case.max_gap),
        "cooldown": float(cooldown),
    }


# ---- what is told while events happen


def told(detector: EventDetector, steps: list[tuple[Any, float, float]]) -> list[list[dict[str, Any]]]:
    news = [detector.changes(*step) for step in steps] + [detector.finish_changes()]
    return [[{name: value for name, value in vars(c).items() if name != "label"} for c in step] for step in news]


def test_the_onset_vectors_are_up_to_date() -> None:
    assert make_onsets.VECTORS.read_text(encoding="utf-8") == make_onsets.vectors()


@pytest.mark.parametrize("case", ONSET_CASES, ids=lambda case: case["name"])
def test_the_detector_tells_the_changes_of_the_vectors(case: dict[str, Any]) -> None:
    detector = detector_of(case)
    assert told(detector, steps_of(case)) == case["changes"]
    assert told(detector, steps_of(case)) == case["changes"], "a second stream begins anew"


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case | {"cooldown": case["cooldown"] + 0.5},
        lambda case: case | {"cooldown": max(0.0, case["cooldown"] - 0.5)},
        lambda case: case | {"min_duration": case["min_duration"] + 1e-3},
        lambda case: case | {"max_gap": max(0.0, case["max_gap"] - 1e-3)},
        lambda case: case | {"steps": [step for step in case["steps"] if step["scores"]]},
    ],
    ids=["longer cool-down", "shorter cool-down", "duration >", "gap <", "later ends"],
)
def test_the_onset_vectors_tell_another_algorithm_apart(change: Any) -> None:
    def at_steps(case: dict[str, Any]) -> list[tuple[float, list[dict[str, Any]]]]:
        times = [step["end"] for step in case["steps"]] + [float("inf")]
        return [(time, news) for time, news in zip(times, told(detector_of(case), steps_of(case)), strict=True) if news]

    changed = [case["name"] for case in ONSET_CASES if at_steps(change(case)) != at_steps(case)]
    print(changed)
    assert changed


@settings(max_examples=300)
@given(series(), st.integers(0, 100), st.sets(st.integers(0, 14)))
def test_the_detector_tells_what_the_reference_tells(case: Case, cooldown: int, missing: set[int]) -> None:
    live = make_onsets.Live(case, str(cooldown / 100), tuple(missing))
    steps = given_steps(live)
    assert told(detector_of(as_json(case, live.cooldown)), steps) == make_onsets.changes(live)


def given_steps(live: make_onsets.Live) -> list[tuple[Any, float, float]]:
    return [
        (None if k in live.missing else [float(v) for v in scores], float(start), float(end))
        for k, (start, end, scores) in enumerate(live.case.steps)
    ]


@settings(max_examples=300)
@given(series(), st.sets(st.integers(0, 14)))
def test_what_is_told_are_the_final_events_from_their_start_on(case: Case, missing: set[int]) -> None:
    """At every step, the ends are the events that `push` returns; each has one start before, and updates between."""
    steps = given_steps(make_onsets.Live(case, missing=tuple(missing)))
    telling, detecting = detector_of(as_json(case)), detector_of(as_json(case))
    running: dict[int, EventChange] = {}
    starts = 0
    for step in [*steps, None]:
        news = telling.finish_changes() if step is None else telling.changes(*step)
        events = detecting.finish() if step is None else detecting.push(*step)
        ends = [change for change in news if change.phase == "end"]
        assert [(c.label, c.index, c.start, c.end, c.score) for c in ends] == [tuple(vars(e).values()) for e in events]
        for change in news:
            if change.phase == "start":
                starts += 1
                assert change.number == starts
            else:
                before = running.pop(change.number)
                assert (before.index, before.start) == (change.index, change.start)
                assert before.end <= change.end
                assert before.score <= change.score
            if change.phase != "end":
                assert change.index not in {other.index for other in running.values()}, "one at a time"
                running[change.number] = change
    assert not running


def test_updates_are_few_and_the_memory_is_constant() -> None:
    """An hour of one event, in frames: the updates come every 10 s, and with each rise."""
    detector = EventDetector(("a", "b"), EventSettings(on=0.5, off=0.3))
    rng = np.random.default_rng(0)
    held = {name: getattr(value, "nbytes", None) for name, value in vars(detector).items()}
    phases = [
        change.phase
        for k in range(36_000)
        for change in detector.changes([0.5 + 0.5 * rng.random(), 0.0], k / 10, (k + 1) / 10)
    ]
    assert phases[0] == "start"
    assert 359 <= phases.count("update") == len(phases) - 1 <= 359 + 5
    assert {name: getattr(value, "nbytes", None) for name, value in vars(detector).items()} == held


def test_each_class_has_its_cool_down() -> None:
    rule = EventSettings(on=0.5, off=0.3, cooldown=100.0, classes={"b": {"cooldown": 0.0}})
    detector = EventDetector(("a", "b"), rule)
    news = [c for k in range(10) for c in detector.changes([float(k % 2)] * 2, float(k), k + 1.0)]
    news += detector.finish_changes()
    assert [c.label for c in news if c.phase == "start"] == ["a", *"bbbbb"]
    assert [c.label for c in news if c.phase == "end"] == ["a", *"bbbbb"]


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case | {"on": [min(1.0, v + 1e-9) for v in case["on"]]},
        lambda case: case | {"off": [on if off + 1e-9 > on else off + 1e-9 for on, off in thresholds_of(case)]},
        lambda case: case | {"off": case["on"]},
        lambda case: case | {"max_gap": max(0.0, case["max_gap"] - 1e-3)},
        lambda case: case | {"max_gap": case["max_gap"] + 0.1},
        lambda case: case | {"min_duration": case["min_duration"] + 1e-3},
        lambda case: case | {"min_duration": 0.0},
        lambda case: case | {"steps": without_breaks(case["steps"])},
    ],
    ids=["on >", "off >", "no hysteresis", "gap <", "gap wide", "duration >", "no duration", "breaks ignored"],
)
def test_the_vectors_tell_another_algorithm_apart(change: Any) -> None:
    changed = [case["name"] for case in WITH_THRESHOLDS if found_of(change(case)) != case["events"]]
    print(changed)
    assert changed


def thresholds_of(case: dict[str, Any]) -> list[tuple[float, float]]:
    return list(zip(case["on"], case["off"], strict=True))


def without_breaks(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = [step["start"] for step in steps[1:]] + [steps[-1]["end"]] if steps else []
    return [step | {"end": end} for step, end in zip(steps, ends, strict=True)]


def found_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return found(detector_of(case), steps_of(case))


def test_the_reference_by_hand() -> None:
    """What the vectors rely on, worked out by hand: merging comes before dropping; missing steps close an event."""
    by_name = {case.name: reference(case) for case in CASES}
    assert by_name["min_duration counts after merging"] == [{"index": 0, "start": 0.0, "end": 3.0, "score": 0.9}]
    assert by_name["touches on and off exactly"] == [{"index": 0, "start": 0.0, "end": 2.0, "score": 0.5}]
    assert [(e["start"], e["end"]) for e in by_name["missing steps close an event"]] == [(0.0, 2.0), (3.5, 4.5)]
    assert [(e["start"], e["end"]) for e in by_name["three parts merge one after another"]] == [(0.0, 5.0), (7.0, 8.0)]
    frames = by_name["frames of 10 ms"]
    assert [(e["start"], e["end"]) for e in frames] == [(0.01, 0.47)]


def test_an_event_is_given_as_soon_as_it_is_final() -> None:
    detector = EventDetector(("a", "b"), EventSettings(on=0.5, off=0.3, max_gap=1.0, classes={"b": {"max_gap": 0.0}}))
    given_at = [
        [(event.label, event.start, event.end) for event in detector.push(scores, float(k), k + 1.0)]
        for k, scores in enumerate([(0.9, 0.9), (0.1, 0.1), (0.1, 0.1), (0.1, 0.1), (0.9, 0.9)])
    ]
    assert given_at == [[], [("b", 0.0, 1.0)], [("a", 0.0, 1.0)], [], []]
    assert [event.label for event in detector.finish()] == ["a", "b"]
    assert detector.finish() == ()


def test_whole_numbers_for_all_classes_leave_the_fractions_of_one() -> None:
    general = {"on": 1, "off": 1, "min_duration": 0, "max_gap": 0}
    settings = EventSettings(**general, classes={"a": {"on": 0.5, "off": 0.25, "max_gap": 0.5}})
    detector = EventDetector(("a", "b"), settings)
    assert [*detector.push([0.1, 0.9], 0.0, 1.0), *detector.finish()] == []
    events = [*detector.push([0.6, 0.9], 0.0, 1.0), *detector.finish()]
    assert [event.label for event in events] == ["a"]


def test_one_push_gives_events_by_start_then_class() -> None:
    detector = EventDetector(("a", "b", "c"), EventSettings(on=0.5, off=0.5))
    for k, scores in enumerate([(0, 0, 1), (1, 1, 1)]):
        assert detector.push(scores, k, k + 1) == ()
    assert [event.label for event in detector.push((0, 0, 0), 5, 6)] == ["c", "a", "b"]


def test_scores_are_compared_as_float64() -> None:
    detector = EventDetector(("a",), EventSettings(on=0.7, off=0.7))
    detector.push(np.array([0.7], np.float32), 0, 1)
    assert detector.finish() == ()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (([0.5], 1, 2), r"shape \(1,\); expected \(2,\)"),
        (([[0.5, 0.5]], 1, 2), r"shape \(1, 2\)"),
        (([0.5, np.nan], 1, 2), "nan of 'b'"),
        (([0.5, np.inf], 1, 2), "inf of 'b'"),
        (([1.5, 0.5], 1, 2), r"1\.5 of 'a'; expected 0 … 1"),
        (([-0.1, 0.5], 1, 2), "-0.1 of 'a'"),
        ((["x", 0.5], 1, 2), "not numbers"),
        (([0.5, 0.5], 2, 2), "start < end"),
        (([0.5, 0.5], 2, 1), "start < end"),
        (([0.5, 0.5], 1, np.inf), "finite"),
        (([0.5, 0.5], 0.9, 2), "ends at 1"),
    ],
)
def test_a_bad_step_is_one_clear_error_and_changes_nothing(step: Any, message: str) -> None:
    detector = EventDetector(("a", "b"), EventSettings(on=0.5, off=0.3))
    detector.push([0.9, 0.1], 0, 1)
    with pytest.raises(EventError, match=message):
        detector.push(*step)
    detector.push([0.4, 0.1], 1, 2)
    assert detector.finish() == (Event(label="a", index=0, start=0.0, end=2.0, score=0.9),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"on": 1.1}, "off ≤ on ≤ 1"),
        ({"on": 0.2, "off": 0.3}, "on = 0.2, off = 0.3"),
        ({"off": -0.1}, "off = -0.1"),
        ({"on": float("nan")}, "expected a number"),
        ({"min_duration": -1}, "min_duration = -1"),
        ({"max_gap": float("inf")}, "max_gap = inf"),
        ({"max_gap": "1"}, "max_gap = '1'"),
        ({"cooldown": -1.0}, "cooldown = -1.0"),
        ({"on": True}, "on = True"),
        ({"classes": {"Dog": {"off": None}}}, "Dog: off = None"),
        ({"classes": {"Dog": {"off": 0.5}}}, "Dog: on = 0.2, off = 0.5"),
        ({"classes": {"Dog": {"onn": 0.5}}}, "Dog: unknown 'onn'"),
        ({"classes": {"Dog": 0.5}}, "expected thresholds by class name"),
        ({"classes": ["Dog"]}, "expected thresholds by class name"),
    ],
)
def test_settings_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(EventError, match=message):
        EventSettings(**values)
    with pytest.raises(EventError, match=f"{message}|expected a finite number"):
        EventSettings.from_json(json.dumps(values))


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text('{"on": 0.4, "cooldown": 9, "classes": {"Dog": {"on": 0.6, "min_duration": 2}}}', encoding="utf-8")
    loaded = EventSettings.load(path)
    assert loaded == EventSettings(on=0.4, cooldown=9, classes={"Dog": {"on": 0.6, "min_duration": 2}})
    assert loaded.of("Dog") == {"on": 0.6, "off": 0.3, "min_duration": 2, "max_gap": 0.0, "cooldown": 9}
    general = {"on": 0.4, "off": 0.2, "min_duration": 0.0, "max_gap": 0.0, "cooldown": 9}
    assert loaded.of("Cat") == loaded.of(None) == general
    assert pickle.loads(pickle.dumps(loaded)) == loaded == replace(loaded)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "nested more than 32 deep"),
        ('{"off": null}', "off = None"),
        ("[0.3]", "expected a JSON object"),
        ('{"onset": 0.3}', "unknown 'onset'; expected any of on, off, min_duration, max_gap, cooldown, classes"),
        ('{"classes": {"Dog": {}, "Dog": {}}}', "'Dog' twice"),
        (f'{{"max_gap": 1{"0" * 400}}}', "has 401 digits"),
        (f'{{"max_gap": 1{"0" * 5000}}}', "has 5001 digits"),
    ],
    ids=["empty", "deep", "null", "list", "unknown", "repeated", "huge", "endless"],
)
def test_a_bad_settings_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EventError, match=rf"thresholds\.json: .*{message}"):
        EventSettings.load(path)
    with pytest.raises(EventError, match=r"missing\.json: No such file"):
        EventSettings.load(tmp_path / "missing.json")


def test_an_unknown_class_suggests_the_nearest() -> None:
    labels = ("Dog", "Vehicle horn, car horn, honking", "Siren")
    for name, meant in {"dog": "Dog", "Sirene": "Siren", "car horn": labels[1]}.items():
        with pytest.raises(LabelError, match=f"no class '{name}'; did you mean '{meant}'"):
            EventDetector(labels, EventSettings(classes={name: {"on": 0.5}}))
    with pytest.raises(LabelError, match="no class 'xyzzy'; expected a class name"):
        EventDetector(labels, EventSettings(classes={"xyzzy": {}}))


@pytest.mark.parametrize("labels", [(), ("a", "a")])
def test_labels_must_differ(labels: tuple[str, ...]) -> None:
    with pytest.raises(LabelError, match="expected different names"):
        EventDetector(labels)


@given(
    window=st.floats(0.1, 20.0),
    overlap=st.floats(0.0, 0.95),
    hops=st.floats(0.01, 50.0),
)
def test_steps_of_windows_cover_the_recording_around_their_centres(window: float, overlap: float, hops: float) -> None:
    hop = window * (1.0 - overlap)
    length = hops * hop
    windows = WindowSteps(window=window, hop=hop)
    count = windows.count(length)
    assert length - ((count - 1) * hop + window) <= 0.05 * window + 1e-5  # the rest is left out
    assert count == 1 or (count - 2) * hop + window < length
    steps: list[Step] = []
    for k in range(count):
        steps += windows.push([k / count])
        assert len(steps) == k
    steps += windows.finish(length)
    assert [float(step.scores[0]) for step in steps] == [k / count for k in range(count)]
    assert (steps[0].start, steps[-1].end) == (0.0, length)
    for k, (a, b) in enumerate(itertools.pairwise(steps)):
        assert a.end == b.start == pytest.approx(k * hop + window / 2 + hop / 2)
    detector = EventDetector(("a",), EventSettings(on=0.0, off=0.0))
    events = [event for step in steps for event in detector.push(*step)] + list(detector.finish())
    assert [(event.start, event.end) for event in events] == [(0.0, length)]


def test_how_many_windows_a_recording_takes() -> None:
    windows = WindowSteps(window=10.0, hop=5.0)
    counts = [windows.count(seconds) for seconds in (0.1, 10.0, 10.49, 10.5, 15.0, 15.49, 15.5, 60.0)]
    assert counts == [1, 1, 1, 2, 2, 2, 3, 11]
    assert WindowSteps(window=0.1, hop=0.1).count(0.1 + 0.2) == 3  # 0.30000000000000004 s
    for seconds in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(EventError, match="expected a length > 0"):
            windows.count(seconds)


def test_windows_begin_anew_and_keep_what_they_were_given() -> None:
    windows = WindowSteps(window=2.0, hop=1.0)
    assert windows.finish(5.0) == ()
    scores = np.array([0.5])
    assert windows.push(scores) == ()
    scores[0] = 0.9  # a buffer that the caller uses again
    assert windows.finish(5.0) == ((np.array([0.5]), 0.0, 5.0),)
    assert windows.finish(5.0) == ()


@pytest.mark.parametrize(
    ("window", "hop"), [(1.0, 0.0), (1.0, 1.5), (0.0, 0.0), (np.inf, 1.0), (np.nan, 1.0), (1.0, np.nan)]
)
def test_windows_out_of_range(window: float, hop: float) -> None:
    with pytest.raises(EventError, match="expected 0 < hop ≤ window"):
        WindowSteps(window=window, hop=hop)


@pytest.mark.parametrize("seconds", [2.5, 0.0, np.nan, np.inf])
def test_more_windows_than_the_recording_has(seconds: float) -> None:
    windows = WindowSteps(window=2.0, hop=1.0)
    for _ in range(3):
        windows.push([0.5])
    with pytest.raises(EventError, match=r"with 3 windows; expected more than 2\.5 s"):
        windows.finish(seconds)


EVENTS = (
    Event(label="Dog", index=74, start=0.1 + 0.2, end=1.0, score=0.9),
    Event(label='Male speech, "man" speaking', index=1, start=3600.5, end=7201.25, score=1.0),
)


def test_csv() -> None:
    rows = list(csv.reader(io.StringIO(events_csv(EVENTS))))
    assert rows == [
        ["start", "end", "label", "index", "score"],
        ["0.300000", "1.000000", "Dog", "74", "0.900000"],
        ["3600.500000", "7201.250000", 'Male speech, "man" speaking', "1", "1.000000"],
    ]


def test_audacity_labels() -> None:
    assert audacity_labels(EVENTS[:1]) == "0.300000\t1.000000\tDog\n"
    assert audacity_labels([replace(EVENTS[0], label="a\tb\nc")]) == "0.300000\t1.000000\ta b c\n"
    assert audacity_labels([]) == ""


@given(st.text(max_size=200))
def test_any_text_is_settings_or_one_error(text: str) -> None:
    try:
        EventSettings.from_json(text)
    except PannsLitertError as error:
        assert isinstance(error, EventError)
