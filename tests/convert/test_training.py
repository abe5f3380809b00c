"""Training from scratch: PANNs' samplers and recipe, one and two processes, and resuming a killed run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn

from panns_litert.atomic import writing
from panns_litert.cli import build_parser, main
from panns_litert.errors import CheckpointError, DatasetError, ResultsError, TrainingError
from panns_litert.evaluate import figures
from panns_litert_convert.assets import CLASS_LIST
from panns_litert_convert.checkpoints import load_weights, model_of
from panns_litert_convert.demo import audioset
from panns_litert_convert.demo.sounds import LABELS
from panns_litert_convert.networks import Cnn14
from panns_litert_convert.training import scratch
from panns_litert_convert.training.augment import mix_pairs, unhidden
from panns_litert_convert.training.features import ClipInput, one_thread
from panns_litert_convert.training.pack import pack
from panns_litert_convert.training.samplers import Sampler
from panns_litert_convert.training.scratch import CHECKPOINT, METRICS, STATE, Recipe, train
from panns_litert_convert.training.state import _digest
from panns_litert_convert.training.waveforms import Waveforms
from panns_litert_convert.zoo import find

SMALL = Recipe(steps=6, batch=8, every=3, settle=2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@dataclass
class Data:
    folder: Path
    learn: Path
    evaluate: Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Packed synthetic clips of 1 s, listed like AudioSet's; two of them have no file."""
    folder = tmp_path_factory.mktemp("audioset")
    audioset.write(folder, train=50, evaluate=30, seconds=(0.5, 1.0), lost=2)
    packed = {}
    for name, table in (("learn", audioset.TRAIN_CSV), ("evaluate", audioset.EVAL_CSV)):
        packed[name] = folder / f"{name}.h5"
        classes = folder / CLASS_LIST
        found = pack(folder / table, folder / audioset.CLIPS, out=packed[name], classes=classes, seconds=1.0)
        assert found.missing == (2 if name == "learn" else 0)
    return Data(folder, packed["learn"], packed["evaluate"])


@pytest.fixture(scope="module")
def trained(
    data: Data, tmp_path_factory: pytest.TempPathFactory, printed: Callable[..., dict[str, Any]]
) -> tuple[Path, dict[str, Any]]:
    """The output folder of a run of the command from random weights, and what it printed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    arguments = ["--data", str(data.learn), "--evaluate", str(data.evaluate), "--model", "demo", "--out", str(out)]
    return out, printed("train", *arguments, "--steps", "60", "--batch-size", "8", "--every", "25", "--seed", "1")


def run(data: Data, out: Path, recipe: Recipe = SMALL, **more: Any) -> dict[str, torch.Tensor]:
    train([data.learn], model="demo", out=out, evaluate=[data.evaluate], recipe=recipe, **more)
    return load_file(out / CHECKPOINT)


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# --- the samplers ---


@st.composite
def truths(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Labels (clips, classes), 0 or 1, at least one of them 1."""
    clips, classes = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=clips, max_size=clips))
    truth = np.array(rows, np.float32)
    truth[draw(st.integers(0, clips - 1)), draw(st.integers(0, classes - 1))] = 1
    return truth


@settings(max_examples=60)
@given(truth=truths(), count=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_plain_takes_every_clip_equally_often(truth: np.ndarray[Any, Any], count: int, seed: int) -> None:
    sampler = Sampler(truth=truth, kind="plain", count=count, seed=seed)
    taken = np.concatenate([sampler(step) for step in range(2 * len(truth))])
    for turn in range(2 * count):
        assert sorted(taken[turn * len(truth) : (turn + 1) * len(truth)]) == list(range(len(truth)))


@settings(max_examples=60)
@given(truth=truths(), count=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_balanced_takes_every_class_equally_often(truth: np.ndarray[Any, Any], count: int, seed: int) -> None:
    """Each class comes equally often. Within a class, the clips' counts differ by at most one."""
    present = np.flatnonzero(truth.sum(axis=0))
    turns = len(truth) * count
    sampler = Sampler(truth=truth, kind="balanced", count=count, seed=seed)
    taken = np.concatenate([sampler(step) for step in range(len(truth) * len(present))])
    assert truth[taken].sum(axis=1).min() >= 1
    if (truth.sum(axis=1) <= 1).all():  # only then a clip tells the class that it was drawn for
        of = Counter(truth[taken].argmax(axis=1).tolist())
        assert of == dict.fromkeys(present.tolist(), turns)
        for label in present:
            often = Counter(clip for clip in taken.tolist() if truth[clip, label])
            assert len(often) == truth[:, label].sum()
            assert max(often.values()) - min(often.values()) <= 1


@settings(max_examples=40)
@given(truth=truths(), seed=st.integers(0, 2**31), steps=st.lists(st.integers(0, 400), min_size=1, max_size=8))
@pytest.mark.parametrize("kind", ["plain", "balanced", "alternate"])
def test_a_step_depends_on_nothing_before_it(
    kind: str, truth: np.ndarray[Any, Any], seed: int, steps: list[int]
) -> None:
    sampler = Sampler(truth=truth, kind=kind, count=4, seed=seed)
    for step in steps:
        fresh = Sampler(truth=truth, kind=kind, count=4, seed=seed)
        np.testing.assert_array_equal(sampler(step), fresh(step))


def test_alternate_is_the_two_in_turn_and_seeds_differ() -> None:
    truth = np.eye(7, 5, dtype=np.float32)
    kinds = {kind: Sampler(truth=truth, kind=kind, count=3, seed=4) for kind in ("plain", "balanced", "alternate")}
    for step in range(20):
        expected = kinds["balanced" if step % 2 else "plain"](step // 2)
        np.testing.assert_array_equal(kinds["alternate"](step), expected)
    other = Sampler(truth=truth, kind="plain", count=7, seed=5)(0)
    assert not np.array_equal(other, Sampler(truth=truth, kind="plain", count=7, seed=4)(0))


def test_samplers_refuse_bad_input() -> None:
    with pytest.raises(TrainingError, match="sampler 'fair'; expected one of plain, balanced, alternate"):
        Sampler(truth=np.ones((2, 2), np.float32), kind="fair", count=1, seed=0)
    with pytest.raises(DatasetError, match="no clip has a class"):
        Sampler(truth=np.zeros((2, 2), np.float32), kind="balanced", count=1, seed=0)
    assert len(Sampler(truth=np.zeros((2, 2), np.float32), kind="plain", count=1, seed=0)(0)) == 1


# --- the recipe ---


def test_the_defaults_are_the_published_ones() -> None:
    """PANNs' main.py (batch 32, 1e-3, balanced, mixup with alpha 1, evaluation every 2000) and README (600,000)."""
    assert asdict(Recipe()) == {
        "steps": 600_000,
        "batch": 32,
        "accumulate": 1,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.0,
        "sampler": "balanced",
        "mixup": 1.0,
        "spec_augment": True,
        "dropout": True,
        "sync_batch_norm": False,
        "settle": 0,
        "every": 2000,
        "workers": 0,
        "seed": 0,
    }
    given = vars(build_parser().parse_args(["train", "--data", "x.h5", "--model", "cnn14", "--out", "y"]))
    assert all(given[name] is None for name in asdict(Recipe()))


def test_mixup_halves_the_batch() -> None:
    x = torch.arange(8.0).reshape(4, 2)
    np.testing.assert_allclose(mix_pairs(x, torch.tensor([1.0, 0.25])), [[0.0, 1.0], [5.5, 6.5]])


@settings(max_examples=30)
@given(frames=st.integers(32, 1100), seed=st.integers(0, 2**31))
def test_spec_augment_hides_at_most_two_stripes_of_each_kind(frames: int, seed: int) -> None:
    left = unhidden(torch.zeros(3, 1, frames, 64), rng=np.random.default_rng(seed)).numpy()[:, 0]
    for clip in left:
        hidden_frames, hidden_bands = ~clip.any(axis=1), ~clip.any(axis=0)
        assert hidden_frames.sum() <= 2 * max(1, round(64 / 1001 * frames))
        assert hidden_bands.sum() <= 2 * 8
        np.testing.assert_array_equal(~clip, hidden_frames[:, None] | hidden_bands[None])


def test_a_network_is_augmented_after_its_first_batch_norm() -> None:
    """The original has SpecAugment and mixup there. Dropout acts before the embedding, not after it."""
    torch.manual_seed(0)
    network = Cnn14(classes=3, channels=(4, 4, 4, 4, 4, 8))
    x = torch.randn(4, 1, 64, 64)
    seen = []
    network.augment = lambda z: seen.append(z) or mix_pairs(z, torch.ones(2))
    network.eval()
    found = network.trace(x)["logits"]
    network.augment = None
    torch.testing.assert_close(found, network.trace(x)["logits"][::2])
    torch.testing.assert_close(seen[0], network.bn0(x.flatten(0, 2)).view_as(x))
    embedding = torch.rand(2, 8)
    network.train()
    torch.testing.assert_close(network.logits(embedding), network.logits(embedding), rtol=0, atol=0)
    assert not torch.equal(network.embed(x), network.embed(x))


def test_without_weight_decay_the_optimizer_is_panns_adam() -> None:
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    pairs = (
        (ours, torch.optim.AdamW([ours], lr=1e-3, betas=scratch._BETAS, weight_decay=0.0, amsgrad=True)),
        (theirs, torch.optim.Adam([theirs], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=True)),
    )
    for step in range(20):
        for parameter, optimizer in pairs:
            parameter.grad = torch.sin(step * parameter.detach())
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_one_cycle_rises_for_a_fifth_and_falls_to_nothing() -> None:
    recipe = Recipe(steps=1000, schedule="one-cycle", learning_rate=4e-3)
    rates = [recipe.rate(step) for step in range(1000)]
    assert int(np.argmax(rates)) in range(195, 205)
    assert max(rates) == pytest.approx(4e-3, rel=1e-4)
    assert rates[0] < 1e-6
    assert rates[-1] < 1e-6
    assert {Recipe().rate(step) for step in (0, 1, 599_999)} == {1e-3}


# --- a whole run ---


def test_a_run_learns_and_reports(trained: tuple[Path, dict[str, Any]]) -> None:
    out, found = trained
    assert found == json.loads((out / METRICS).read_text(encoding="utf-8"))
    assert (found["clips"], found["absent"], found["steps"], found["processes"]) == (48, 0, 60, 1)
    assert [row["step"] for row in found["history"]] == [25, 50, 60]
    losses = [row["loss"] for row in found["history"]]
    assert losses[2] < losses[1] < losses[0]
    last = found["history"][-1]["evaluate"]
    assert last == {key: found["figures"]["evaluate"][key] for key in ("mean_ap", "auc", "d_prime")}


def test_its_figures_are_those_of_its_checkpoint(trained: tuple[Path, dict[str, Any]], data: Data) -> None:
    record = model_of(find("demo"), trained[0] / CHECKPOINT)
    assert record.class_names() == LABELS
    network = record.build()
    load_weights(network, trained[0] / CHECKPOINT, record)
    clips = Waveforms([data.evaluate])
    inputs = ClipInput(record.front_end, graph="logmel", seconds=1.0)
    with torch.inference_mode():
        probs = [network.eval()(torch.from_numpy(inputs.of_samples(clips[k])))["probs"][0] for k in range(len(clips))]
    expected = figures(torch.stack(probs).numpy(), clips.truth, LABELS)
    assert trained[1]["figures"]["evaluate"]["mean_ap"] == pytest.approx(expected.mean_ap, abs=1e-3)
    assert trained[1]["figures"]["evaluate"]["auc"] == pytest.approx(expected.auc, abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"sampler": "alternate", "mixup": 0.0, "spec_augment": False, "dropout": False},
        {"sampler": "plain", "schedule": "one-cycle", "weight_decay": 1e-3},
    ],
)
def test_other_recipes_run_and_repeat(data: Data, tmp_path: Path, change: dict[str, Any]) -> None:
    recipe = replace(SMALL, steps=3, **change)
    torch.random.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two = (run(data, tmp_path / name, recipe) for name in ("one", "two"))
    assert same(one, two)
    assert not same(one, run(data, tmp_path / "other", replace(recipe, seed=9)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


def test_clips_may_be_loaded_by_other_processes(data: Data, tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        out, recipe = tmp_path / str(workers), replace(SMALL, steps=2, settle=0, workers=workers)
        train([data.learn], model="demo", out=out, recipe=recipe)
        found.append(load_file(out / CHECKPOINT))
    assert same(*found)


@pytest.mark.parametrize("model", ["mobilenetv1", "mn04", "leenet11"])
def test_other_families_take_a_step(data: Data, tmp_path: Path, model: str) -> None:
    """PANNs' networks on log-mel and on samples, and EfficientAT, where the input itself is augmented."""
    out, recipe = tmp_path / "out", Recipe(steps=1, batch=2)
    train([data.learn], model=model, out=out, recipe=recipe)
    before = find(model).build().state_dict()
    assert load_file(out / CHECKPOINT).keys() == before.keys()


# --- several processes, resuming ---


def command(data: Data, out: Path, *more: str) -> list[str]:
    numbers = {"steps": SMALL.steps, "batch-size": SMALL.batch, "every": SMALL.every, "settle": SMALL.settle}
    options = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    files = ["--data", str(data.learn), "--evaluate", str(data.evaluate), "--model", "demo", "--out", str(out)]
    return ["panns_litert.cli", "train", *files, *options, *more]


ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def test_two_processes_learn_what_one_does(data: Data, tmp_path: Path) -> None:
    """Two processes with one micro-batch each equal one process with two, including all augmentation and batch norm."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*launch, *command(data, tmp_path / "two")],
        env=ONE_THREAD, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("processes: 2") == 1
    two = load_file(tmp_path / "two" / CHECKPOINT)
    one = run(data, tmp_path / "one", replace(SMALL, accumulate=2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            two[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    rows = [json.loads((tmp_path / name / METRICS).read_text())["history"] for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
    # Before batch norm has settled, its moving averages depend on whether micro-batches come one by one or two at once.
    assert rows[1][-1]["evaluate"] == pytest.approx(rows[0][-1]["evaluate"], abs=1e-3)
    # The comparison can fail: one whole batch gives other weights than two micro-batches.
    whole = run(data, tmp_path / "whole", SMALL)
    assert (whole["fc1.weight"] - one["fc1.weight"]).abs().max() > 1e-3


def test_a_killed_run_resumes_to_the_same_result(data: Data, tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=16, every=2)
    state = tmp_path / "killed" / STATE
    arguments = command(data, tmp_path / "killed", "--steps", "16", "--every", "2")
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not state.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with safe_open(state, "pt") as file:
        assert 0 < json.loads(file.metadata()["training"])["progress"]["step"] < 16
    assert not (state.parent / CHECKPOINT).exists()
    steps = []
    resumed = run(data, state.parent, recipe, watch=lambda what, done, total: steps.append((what, done)))
    assert min(done for what, done in steps if what == "steps") > 0
    assert same(resumed, run(data, tmp_path / "whole", recipe))
    histories = [json.loads((tmp_path / name / METRICS).read_text())["history"] for name in ("killed", "whole")]
    assert histories[0] == histories[1]


def test_a_finished_run_can_be_prolonged(data: Data, tmp_path: Path) -> None:
    recipe = replace(SMALL, settle=0, every=2)
    run(data, tmp_path / "out", replace(recipe, steps=2))
    assert same(
        run(data, tmp_path / "out", replace(recipe, steps=4)), run(data, tmp_path / "at_once", replace(recipe, steps=4))
    )
    with pytest.raises(TrainingError, match="4 steps are done; expected --steps of at least as many"):
        run(data, tmp_path / "out", replace(recipe, steps=3))


# --- errors ---


def test_files_that_do_not_fit_are_refused(data: Data, tmp_path: Path) -> None:
    segments, clips, classes = (data.folder / name for name in (audioset.EVAL_CSV, audioset.CLIPS, CLASS_LIST))
    slow = pack(segments, clips, out=tmp_path / "slow.h5", classes=classes, seconds=1.0, sample_rate=16000).path
    long = pack(segments, clips, out=tmp_path / "long.h5", classes=classes, seconds=2.0).path
    all_of_them = pack(segments, clips, out=tmp_path / "all.h5", seconds=1.0).path
    with pytest.raises(DatasetError, match=r"slow.h5: 16000 Hz; expected 32000 Hz for demo: pack with that rate"):
        train([slow], model="demo", out=tmp_path / "out")
    with pytest.raises(DatasetError, match=r"long.h5: 22 classes, 64000 samples; expected .*: 22, 32000"):
        train([data.learn], evaluate=[long], model="demo", out=tmp_path / "out")
    with pytest.raises(DatasetError, match=r"all.h5: 527 classes, 32000 samples; expected .*: 22, 32000"):
        train([data.learn], evaluate=[all_of_them], model="demo", out=tmp_path / "out")
    with pytest.raises(DatasetError, match="two files to evaluate on have the same name"):
        train([data.learn], evaluate=[long, long], model="demo", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps 0; expected a whole number ≥ 1"),
        ({"learning_rate": 0.0}, "learning rate 0.0; expected a number > 0 and < 1"),
        ({"mixup": -1.0}, "mixup -1.0; expected a number ≥ 0"),
        ({"schedule": "random"}, "schedule 'random'; expected one of constant, one-cycle"),
        ({"sampler": "fair"}, "sampler 'fair'; expected one of"),
        ({"batch": 10**12}, "batch 1000000000000; expected a whole number 1 … 65536"),
        ({"workers": 10**6}, "workers 1000000; expected a whole number 0 … 1024"),
        ({"steps": 10**30}, "expected a whole number ≥ 1"),
        ({"seed": 2**70}, "expected a whole number ≥ 0"),
        ({"every": 2.5}, "every 2.5; expected a whole number ≥ 1"),
        ({"mixup": 1e308}, "expected a number ≥ 0 and ≤ 1000"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"accumulate": 3}, "a batch of 8 clips for 1 processes of 3 micro-batches; expected a multiple of 3"),
        ({"sync_batch_norm": True}, "is for GPUs alone; leave --sync-batch-norm out"),
    ],
)
def test_settings_out_of_range_are_refused(data: Data, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run(data, tmp_path / "out", replace(SMALL, **change))


def test_another_training_is_not_resumed(data: Data, trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path / "out")
    with pytest.raises(TrainingError, match=r"is of another training: .*seed 1 → 0"):
        run(data, tmp_path / "out", Recipe(steps=60, batch=8, every=25))
    with pytest.raises(TrainingError, match=r"is of another training: .*evaluated"):
        train([data.learn], model="demo", out=tmp_path / "out", recipe=Recipe(steps=60, batch=8, every=25, seed=1))
    (tmp_path / "out" / STATE).write_bytes(b"no state")
    with pytest.raises(TrainingError, match="no state of a training"):
        run(data, tmp_path / "out", Recipe(steps=60, batch=8, every=25, seed=1))


def test_a_second_run_in_one_folder_is_refused(data: Data, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with writing(tmp_path / "out" / STATE), pytest.raises(TrainingError, match="another run is writing it"):
        run(data, tmp_path / "out")


def test_a_state_with_an_absurd_step_is_refused(
    data: Data, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    recipe = Recipe(steps=60, batch=8, every=25, seed=1)
    for name, value in (("step", -1), ("step", 1e308), ("loss", "x"), ("losses", True), ("history", [{"loss": []}])):
        out = tmp_path / "out"
        shutil.copytree(trained[0], out)
        tensors = load_file(out / STATE)
        with safe_open(out / STATE, "pt") as file:
            facts = json.loads(file.metadata()["training"])
        facts["progress"][name] = value
        facts["sha256"] = _digest(tensors, facts["progress"])
        (out / STATE).write_bytes(save(tensors, {"training": json.dumps(facts)}))
        with pytest.raises(TrainingError, match="its progress is damaged"):
            run(data, out, recipe)
        shutil.rmtree(out)


def test_a_checkpoint_that_is_a_pipe_or_missing_is_refused(data: Data, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for name in ("pipe.pth", "none.pth"):
        with pytest.raises(CheckpointError, match="expected a checkpoint"):
            run(data, tmp_path / "out", checkpoint=tmp_path / name)


def test_a_loss_that_is_not_finite_ends_it(data: Data, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is not finite after step 2; try a lower learning rate"):
        run(data, tmp_path / "out", replace(SMALL, learning_rate=0.999, weight_decay=1e30, every=2, steps=8))
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def test_a_full_disk_leaves_the_earlier_state(
    data: Data, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    out = tmp_path / "out"
    run(data, out, replace(SMALL, steps=2))
    kept = (out / STATE).read_bytes()
    with full_disk(100_000), pytest.raises(ResultsError, match="File too large"):
        run(data, out, replace(SMALL, steps=4))
    assert (out / STATE).read_bytes() == kept


def test_bad_input_is_one_line_of_the_command(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "demo", "--out", str(tmp_path / "out"), "--data"]
    for bad in (tmp_path / "nowhere.h5", data.folder / CLASS_LIST):
        assert main(["train", *arguments, str(bad)]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"panns-litert: {bad}: ")
