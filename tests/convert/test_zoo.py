"""The registry of models: every record is complete, with the original's front end and network; and the sweep."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from panns_litert import Tagger
from panns_litert.cli import main
from panns_litert.demo import demo_clips
from panns_litert.errors import DownloadError, ResultsError
from panns_litert.measure import insert
from panns_litert.models import PROPERTIES, model_row, models_table
from panns_litert_convert import sweep as sweep_module
from panns_litert_convert.checkpoints import fetch, load_weights
from panns_litert_convert.convert import convert
from panns_litert_convert.sweep import in_parallel, recipe_state, sweep
from panns_litert_convert.zoo import (
    CLIP_SECONDS,
    MODELS,
    Model,
    asset,
    find,
    golden,
    golden_figures,
    golden_shapes,
    properties,
    size_of,
)

NAMES = [model.name for model in MODELS]
PANNS = [model for model in MODELS if model.checkpoint.attribution.startswith("Qiuqiang Kong")]


def test_all_networks_of_panns_are_there() -> None:
    goldens = {path.name.removesuffix(".keys.json") for path in golden("").glob("*.keys.json")}
    assert len(PANNS) == 26
    assert {model.golden for model in PANNS} <= goldens
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_a_record(model: Model) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", model.name)
    assert model.class_names()
    checkpoint = model.checkpoint
    assert checkpoint.licence
    assert checkpoint.attribution
    assert checkpoint.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", checkpoint.sha256)
    assert checkpoint.md5 is None or re.fullmatch(r"[0-9a-f]{32}", checkpoint.md5)
    if model in PANNS:
        assert (model.published_map is None) == ("_mAP" not in checkpoint.file)
    if checkpoint.url:
        assert checkpoint.url.startswith("https://")
        assert "=" not in checkpoint.url.split("?")[0]
    elif checkpoint.published:
        assert asset(checkpoint.file).stat().st_size == checkpoint.bytes
    with torch.device("meta"):
        state = model.build().state_dict()
    if model.golden_options in (None, model.options):  # the golden file has this model's size
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
        assert shapes == {k: s for k, s in golden_shapes(model.golden).items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("model", PANNS, ids=lambda model: model.name)
def test_the_front_end_is_the_original_s(model: Model) -> None:
    config = json.loads(str(golden_figures(model.golden)["config"]))
    spec = model.front_end
    assert (spec.sample_rate, spec.n_fft, spec.hop_length) == (
        config["sample_rate"], config["window_size"], config["hop_size"]
    )  # fmt: skip
    assert (spec.n_mels, spec.fmin, spec.fmax) == (config["mel_bins"], config["fmin"], config["fmax"])


def test_the_shortest_clip_is_long_enough() -> None:
    """No network pools a clip of the shortest length to nothing. Shorter recordings are padded to a bundle's clip."""
    for model in MODELS:
        with torch.device("meta"), torch.inference_mode():
            network = model.build().eval().for_export(samples=model.front_end.samples(CLIP_SECONDS[0]))
            outputs = network(torch.zeros(model.input_shape(CLIP_SECONDS[0])))
        assert outputs["probs"].shape == (1, len(model.class_names())), model.name
        assert outputs["embedding"].numel() > 0, model.name
        if "framewise" in outputs:
            assert outputs["framewise"].shape[1] == model.input_shape(CLIP_SECONDS[0])[2], model.name


def test_published_sizes() -> None:
    """Cnn14 has 81 million parameters (Table IV of the paper), and 20 GMAC per 10 s (measured for the design)."""
    size = size_of(find("cnn14"))
    assert size.parameters == pytest.approx(80.75e6, rel=1e-3)
    assert size.gmac == pytest.approx(20.0, rel=0.02)
    assert size.outputs == ("probs", "embedding")
    assert size_of(find("cnn14_decisionlevelmax")).outputs == ("probs", "embedding", "framewise")


def test_e_panns_is_what_its_authors_describe() -> None:
    """24 M parameters, including the front end's tables as PANNs count them, and about 36 % less computation."""
    size, whole = size_of(find("epanns")), size_of(find("cnn14"))
    spec = find("epanns").front_end
    tables = 2 * spec.bins * spec.n_fft + spec.bins * spec.n_mels
    assert size.parameters + tables == pytest.approx(24e6, rel=0.02)
    assert 1 - size.gmac / whole.gmac == pytest.approx(0.36, abs=0.03)
    # Both convolutions of blocks 4, 5 and 6 have half the filters, and the embedding keeps its length.
    shapes = {key: tuple(tensor.shape) for key, tensor in recipe_state(find("epanns")).items()}
    for block, (inputs, outputs) in {3: (128, 256), 4: (256, 256), 5: (256, 512), 6: (512, 1024)}.items():
        assert shapes[f"conv_block{block}.conv1.weight"] == (outputs, inputs, 3, 3)
        assert shapes[f"conv_block{block}.conv2.weight"] == (outputs, outputs, 3, 3)
    assert shapes["fc1.weight"] == (2048, 1024)


def test_models_without_published_weights(capsys: pytest.CaptureFixture[str]) -> None:
    unpublished = [model for model in MODELS if not model.checkpoint.published]
    assert {model.name for model in unpublished} >= {"cnn14_mel32", "cnn14_mel128", "cnn14_decisionlevelavg"}
    for model in unpublished:
        with pytest.raises(DownloadError, match="nobody has published weights"):
            fetch(model)
    assert main(["convert", unpublished[0].name]) == 2
    assert "--checkpoint PATH" in capsys.readouterr().err


def test_a_checkpoint_with_a_sampler_s_state(tmp_path: Path) -> None:
    """Cnn14_16k's published file holds numpy arrays beside the weights. They load without running pickled code."""
    model = find("leenet11")
    sampler = {"indexes": np.arange(5), "pointer": 3, "queue": [1, 2], "share": np.float64(0.5)}
    torch.save({"iteration": 1, "model": recipe_state(model), "sampler": sampler}, tmp_path / "weights.pth")
    network = model.build()
    load_weights(network, tmp_path / "weights.pth", model)
    assert torch.equal(network.state_dict()["fc1.bias"], recipe_state(model)["fc1.bias"])


@pytest.mark.full
@pytest.mark.parametrize("name", ["mobilenetv2", "leenet11", "cnn6"])
def test_convert_and_tag(name: str, tmp_path: Path) -> None:
    """From weights to tags, for one network of each kind: on log-mel, on samples, with a shorter embedding."""
    model = find(name)
    torch.save({"model": recipe_state(model)}, tmp_path / "weights.pth")
    bundle = convert(name, checkpoint=tmp_path / "weights.pth", out=tmp_path / "bundle")
    assert bundle.manifest.graph == model.graphs[0]
    assert bundle.manifest.front_end == model.front_end
    card = bundle.file("model_card").read_text(encoding="utf-8")
    assert ("has no log-mel" in card) == (bundle.manifest.log_mel == "none")
    tagging = Tagger(bundle).tag(demo_clips()[0])
    assert tagging.probs.shape == (527,)
    assert np.ptp(tagging.probs) > 0


def test_the_table_that_ships_is_current() -> None:
    """`python -m panns_litert_convert.assets --models --out assets` writes it."""
    assert json.loads(asset(PROPERTIES).read_text(encoding="utf-8"))["rows"] == properties()


def test_models_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for model in MODELS:
        assert model.name in printed
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["name"] for row in rows] == NAMES
    assert all(row["parameters"] > 0 and row["gmac_per_10_s"] > 0 for row in rows)
    shown = {row["name"]: model_row(row) for row in rows}
    assert shown["cnn14"]["network"] == "Cnn14"
    assert shown["cnn14"]["its MB"] == "327.4"
    assert shown["cnn14_mel32"]["its MB"] == "–"


def test_the_sweep_measures_what_is_missing_and_shows_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed model has a row with its error; measured rows are kept; --fresh measures again."""
    asked = []

    def measured(name: str) -> dict[str, object]:
        asked.append(name)
        return {"name": name, "error": "it crashed" if name == "cnn6" else None, "seconds": 1.0}

    monkeypatch.setattr(sweep_module, "in_process", measured)
    out = tmp_path / "zoo.json"
    rows = sweep(["cnn6", "cnn10"], out, fresh=False, jobs=1)
    assert {row["name"]: row["error"] for row in rows} == {"cnn6": "it crashed", "cnn10": None}
    sweep(["cnn6", "cnn10", "cnn14"], out, fresh=False, jobs=1)
    # The largest model comes first.
    assert asked == ["cnn10", "cnn6", "cnn14", "cnn6"]
    sweep(["cnn10"], out, fresh=True)
    assert asked[-1] == "cnn10"
    assert {row["name"] for row in json.loads(out.read_text())["rows"]} == {"cnn6", "cnn10", "cnn14"}
    table = {row["name"]: model_row(row) for row in models_table(measured=rows)}
    assert "it crashed" in table["cnn6"]["on the GPU"]


def test_a_measured_row(tmp_path: Path) -> None:
    """The demo model in its own process."""
    (row,) = sweep(["demo"], tmp_path / "zoo.json", fresh=False)
    assert row["error"] is None
    assert row["fp16_bytes"] > 500_000
    assert 0 < row["checks"]["fp16/probs"] < 5e-3
    assert row["cpu_seconds"] > 0


def test_models_measured_at_once_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core")
    both = threading.Barrier(2)

    def measured(name: str) -> dict[str, object]:
        both.wait(timeout=60)
        command = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {"name": name, "cores": json.loads(printed)}

    monkeypatch.setattr(sweep_module, "in_process", measured)
    first, second = (set(row["cores"]) for _, row in in_parallel(["demo", "mn04"], 2))
    assert first
    assert second
    assert first | second == cores
    assert not first & second
    assert os.sched_getaffinity(0) == cores


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "zoo.md"
    document.write_text("before\n<!-- zoo -->\nold\n<!-- /zoo -->\nafter\n")
    insert(document, "| new |\n", marker="zoo")
    assert document.read_text() == "before\n<!-- zoo -->\n| new |\n<!-- /zoo -->\nafter\n"
    document.write_text("none")
    with pytest.raises(ResultsError, match="no <!-- zoo -->"):
        insert(document, "| new |\n", marker="zoo")


def test_every_model_is_measured_right_and_whole_on_the_gpu() -> None:
    """tests/docs/test_figures.py compares the tables of the documents."""
    rows = [model_row(row) for row in models_table()]
    assert [row["name"] for row in rows] == NAMES
    assert {row["on the GPU"] for row in rows} == {"all"}
    columns = ("fp16 MB", "fp16 error", "GPU error")
    assert "–" not in {row[column] for row in rows for column in columns}
    # Their times come with the next `make figures`.
    untimed = {name for name in NAMES if name.startswith(("mn10_hop", "mn10_mels"))}
    for column in ("CPU ms", "on all cores"):
        assert {row["name"] for row in rows if row[column] == "–"} == untimed
