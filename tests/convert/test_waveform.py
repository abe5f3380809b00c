"""The waveform graph, which takes samples and computes the log-mel itself: on the CPU and on the GPU.

`pytest -s tests/convert/test_waveform.py` prints the figures that docs/waveform-graph.md shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from support import AUDIO, make_consistent, needs_shared, operators_of, real_network
from test_ast import SMALL, randomise
from test_efficientat import narrow_network
from torch import Tensor, nn

from panns_litert import Tagger
from panns_litert.audio import from_array, load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.engine import CpuEngine, GpuEngine, read_graph
from panns_litert.errors import AudioError, BundleError, ModelError, ParityError, SpecError
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_8K, PANNS_16K, PANNS_32K, FrontEndSpec, LogMel
from panns_litert.proof import GATES, compare
from panns_litert_convert import frontend
from panns_litert_convert.convert import convert, verify
from panns_litert_convert.export import cast_fp16, export_fp32
from panns_litert_convert.frontend import ALWAYS_FLOAT32, GraphLogMel, WaveformNetwork, to_decibels
from panns_litert_convert.networks import Ast, AudioTagger
from panns_litert_convert.references import float64_logmel, front_end_sounds
from panns_litert_convert.references import to_decibels as decibels
from panns_litert_convert.stages import LogMelOnly, graph_front_end_stage
from panns_litert_convert.zoo import find, golden

SAMPLES = 320_000

FRONT_ENDS = {"PANNs": PANNS_32K, "EfficientAT": EFFICIENTAT_32K, "AST": AST_16K}

Sound = NDArray[np.float32]


def sounds(rate: int) -> dict[str, Sound]:
    """Sounds of 10 s, (10 · rate,), some of them real recordings. Short ones are repeated."""
    with np.load(golden("published/real_mobilenetv1.npz")) as music:
        found = {
            f"music ({name.replace('_', ' ')})": from_array(music[f"{name}_waveform"], 32000, sample_rate=rate).waveform
            for name in ("symphony", "wind_octet")
        }
    synthetic = front_end_sounds(rate)
    for name in ("white noise", "digital silence", "full-scale square wave", "tone at -90 dBFS"):
        found[name] = synthetic[name]
    found = {name: np.resize(sound, 10 * rate).astype(np.float32) for name, sound in found.items()}
    for name, file in (("speech", "R9_ZSCveAHg_7s.wav"), ("metro station", "metro_station-paris.wav")):
        found[name] = padded(load_audio(AUDIO / file, sample_rate=rate).waveform, 10 * rate)
    return found


def padded(sound: Sound, samples: int) -> Sound:
    """Cuts a sound, or adds zeros, to `samples` samples."""
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def reference(sound: Sound, spec: FrontEndSpec) -> NDArray[np.float64]:
    """The log-mel by its definition in float64, dB."""
    return decibels(float64_logmel(sound, spec), spec)


@dataclass(frozen=True)
class Graph:
    """The .tflite of a front end alone, for 10 s."""

    spec: FrontEndSpec
    path: Path

    def run(self, engine: CpuEngine | GpuEngine, sound: Sound) -> NDArray[np.float64]:
        """The graph's log-mel of a sound, dB."""
        return to_decibels(engine.run_unchecked(sound[None])["logmel"][0, 0], self.spec)


@pytest.fixture(scope="module", params=FRONT_ENDS)
def logmel_graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder, spec = tmp_path_factory.mktemp("logmel"), FRONT_ENDS[request.param]
    samples = spec.samples(10.0)
    graph = LogMelOnly(spec, samples=samples)
    export_fp32(graph, {"waveform": torch.zeros(1, samples)}, folder / "graph.tflite", log=folder / "log")
    return Graph(spec, folder / "graph.tflite")


def test_the_graph_has_no_gather_and_no_padding(logmel_graph: Graph) -> None:
    found, ranks = operators_of(logmel_graph.path)
    assert not set(found) & {"GATHER", "GATHER_ND", "MIRROR_PAD", "PAD", "PADV2", "REVERSE_V2"}
    assert max(ranks) <= 4
    assert len(found) <= 65
    assert found.count("DELEGATE") == 1  # XNNPACK runs every operation


@pytest.mark.parametrize("spec", [PANNS_32K, EFFICIENTAT_32K], ids=["PANNs", "EfficientAT"])
def test_reflect_padding_is_exact(spec: FrontEndSpec) -> None:
    """Equal to the last bit, for lengths that are multiples of the hop and for others."""
    rng = np.random.default_rng(0)
    for samples in (514, 1000, 32000, 32001, 32319):
        x = rng.standard_normal((1, samples)).astype(np.float32)
        graph = GraphLogMel(spec, samples=samples)
        got = graph._padded(torch.from_numpy(x)).detach().numpy()
        assert np.array_equal(got, np.pad(x, ((0, 0), (graph.pad, graph.pad)), mode="reflect"))


@pytest.mark.parametrize("where", ["first", "last"])
def test_frames_at_the_edges_are_right(logmel_graph: Graph, where: str) -> None:
    """The sound is at one end only, so the centred frames there depend on the reflect padding."""
    spec = logmel_graph.spec
    x = np.zeros(spec.samples(10.0), np.float32)
    burst = np.random.default_rng(1).standard_normal(700).astype(np.float32) * 0.1
    x[:700] = burst
    x = x if where == "first" else x[::-1].copy()
    got, want = logmel_graph.run(CpuEngine(logmel_graph.path), x), reference(x, spec)
    assert got.shape == want.shape == (spec.frames(len(x)), spec.n_mels)
    assert np.abs(got - want).max() < 1e-3
    filled = spec.filled_frames(len(x))
    edge = slice(0, 2) if where == "first" else slice(filled - 2, filled)
    assert want[edge].max() > -40
    if spec.center:
        zero_padded = reference(np.pad(x, 640), spec)[2:-2]  # with zeros instead of reflection
        assert np.abs(zero_padded[edge] - want[edge]).max() > 1.0


@needs_shared
def test_float32_on_the_cpu_is_within_a_thousandth_of_a_decibel(logmel_graph: Graph) -> None:
    engine, spec = CpuEngine(logmel_graph.path), logmel_graph.spec
    rows = []
    for name, sound in sounds(spec.sample_rate).items():
        error = np.abs(logmel_graph.run(engine, sound) - reference(sound, spec))
        rows.append((name, f"{error.max():.1e}"))
        assert error.max() <= 1e-3, name
    show(f"{name_of(spec)}: float32 on the CPU against float64, dB", ("sound", "largest"), rows)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_golden_chirp_is_beyond_float32(name: str) -> None:
    """It has 100 dB inside a frame. Far below a frame's loudest band, float32 is not within 0.001 dB."""
    spec = FRONT_ENDS[name]
    x = front_end_sounds(spec.sample_rate)["chirp, tone, clicks, silence"]
    want = reference(x, spec)
    error, below = np.abs(graph_of(x, spec) - want), want.max(axis=1, keepdims=True) - want
    worst = np.unravel_index(error.argmax(), error.shape)
    print(f"{name}: within 70 dB {error[below < 70].max():.1e} dB; {error.max():.1e} dB {below[worst]:.0f} dB below")
    assert error[below < 70].max() <= 0.02
    assert 1e-3 < error.max() < 1.0


HEADING = (
    "sound", "median", "99 %", "99 % above -60 dB", "largest above -60 dB",
    "largest, samples alone", "own, 99 %", "own, largest",
)  # fmt: skip
TOTAL = {"PANNs": (0.02, 0.2, 1.0), "EfficientAT": (0.02, 1.0, np.inf), "AST": (0.02, 1.0, np.inf)}
"""Bounds of the median, and of 99 % and of the largest above -60 dB. Most of the largest errors of EfficientAT and AST
come from the samples' rounding to float16, which no graph can avoid. Their bound is that of the graph's own error."""
OWN = (0.3, 1.1)
"""Bounds of 99 % and of the largest of the graph's own errors."""


@needs_shared
@pytest.mark.usefixtures("vulkan")
def test_float16_on_the_gpu(logmel_graph: Graph) -> None:
    """The error of the delegate's float16 arithmetic against float64 is within its bounds.

    A graph's own error is the one against float64 of the samples after rounding to float16, in bands above -60 dB and
    within 50 dB of their frame's loudest band.
    """
    engine, spec = GpuEngine(logmel_graph.path), logmel_graph.spec
    rows = []
    failed = []
    for name, sound in sounds(spec.sample_rate).items():
        got, want = logmel_graph.run(engine, sound), reference(sound, spec)
        rounded = reference(sound.astype(np.float16).astype(np.float32), spec)
        error, own, samples = np.abs(got - want), np.abs(got - rounded), np.abs(rounded - want)
        assert np.isfinite(got).all()
        above = want > -60.0
        near = above & (want > want.max(axis=1, keepdims=True) - 50.0)
        figures = (
            np.median(error), np.percentile(error, 99), part(error, above, 99), part(error, above, 100),
            part(samples, above, 100), part(own, near, 99), part(own, near, 100),
        )  # fmt: skip
        rows.append((name, *(f"{figure:.3f}" for figure in figures)))
        bounds = (*TOTAL[name_of(spec)], *OWN)
        if any(figures[i] > bound for i, bound in zip((0, 2, 3, 5, 6), bounds, strict=True)):
            failed.append(rows[-1])
        if name == "digital silence":
            assert error.max() <= (1e-9 if spec is PANNS_32K else 0.02)
    show(f"{name_of(spec)}: float16 on the GPU against float64, dB", HEADING, rows)
    assert not failed
    engine.close()


def part(values: NDArray[np.float64], where: NDArray[np.bool_], percentile: float) -> float:
    """The percentile of some of the values, 0 if there are none."""
    return float(np.percentile(values[where], percentile)) if where.any() else 0.0


def name_of(spec: FrontEndSpec) -> str:
    return next(name for name, other in FRONT_ENDS.items() if other is spec)


def show(title: str, heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*heading, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)


@pytest.mark.usefixtures("vulkan")
def test_a_plain_logmel_overflows_on_the_gpu(tmp_path: Path) -> None:
    """The graph's own log-mel is needed because |STFT|² of a loud tone exceeds float16."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            n = torch.arange(1024) * 2 * torch.pi / 1024
            window = 0.5 - 0.5 * torch.cos(n)
            phase = torch.arange(513)[:, None] * n
            self.basis = nn.Parameter(torch.cat([torch.cos(phase), torch.sin(phase)]) * window)

        def forward(self, frame: Tensor) -> dict[str, Tensor]:
            return {"power": (frame @ self.basis.T) ** 2}

    path = tmp_path / "plain.tflite"
    export_fp32(Plain(), {"frame": torch.zeros(1, 1024)}, path, log=tmp_path / "log")
    loud = np.sign(np.sin(2 * np.pi * 500 * np.arange(1024) / 32000 + 0.1)).astype(np.float32)[None]
    engine = GpuEngine(path)
    assert np.isinf(engine.run_unchecked(loud)["power"]).any()
    engine.close()


@pytest.mark.usefixtures("vulkan")
def test_what_the_delegate_loses_in_a_sum(tmp_path: Path) -> None:
    """The delegate rounds every product and every addition to float16, so the DFT is not one sum of 1024 terms."""
    rng = np.random.default_rng(0)
    rows = []
    losses = {}
    for terms in (4, 16, 64, 128, 1024):
        values = rng.standard_normal((1, terms, 16, 16)).astype(np.float16).astype(np.float32)
        layer = nn.Conv2d(terms, 32, 1, bias=False)
        layer.weight.data = torch.from_numpy(rng.standard_normal((32, terms, 1, 1)).astype(np.float16)).float()
        path = tmp_path / f"{terms}.tflite"
        export_fp32(Named(layer), {"x": torch.from_numpy(values)}, path, log=tmp_path / "log")
        engine = GpuEngine(path)
        got = engine.run_unchecked(values)["y"].astype(np.float64)
        engine.close()
        want = layer.double()(torch.from_numpy(values).double()).detach().numpy()
        rounded = want.astype(np.float16)
        losses[terms] = float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))
        once = float(np.sqrt(np.mean((rounded - want) ** 2) / np.mean(want**2)))
        rows.append((str(terms), f"{losses[terms]:.1e}", f"{once:.1e}"))
        assert losses[terms] > 1.2 * once
    show("root mean square error of a sum, as a share of it", ("terms", "delegate", "rounded once"), rows)
    assert losses[16] < 1e-3 < losses[128] < losses[1024]


@pytest.mark.usefixtures("vulkan")
def test_the_delegate_rounds_its_input_before_any_operation(tmp_path: Path) -> None:
    """2049 is no float16 number. If this test fails, a graph can keep its samples' last digits."""

    class AsIntegers(nn.Module):  # which the delegate computes exactly
        def forward(self, x: Tensor) -> Tensor:
            return (x.to(torch.int32) - 2000).float()

    x, path = np.full((1, 64), 2049.0, np.float32), tmp_path / "graph.tflite"
    export_fp32(Named(AsIntegers()), {"x": torch.from_numpy(x)}, path, log=tmp_path / "log")
    engine = GpuEngine(path)
    assert (CpuEngine(path).run_unchecked(x)["y"] == 49).all()
    assert (engine.run_unchecked(x)["y"] == 48).all()
    engine.close()


class Named(nn.Module):
    """A layer with input `x` and output `y`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.layer(x)}


@pytest.mark.parametrize("spec", [PANNS_16K, PANNS_8K], ids=["16k", "8k"])
def test_other_sample_rates(spec: FrontEndSpec) -> None:
    rng = np.random.default_rng(2)
    x = (0.1 * rng.standard_normal(spec.sample_rate)).astype(np.float32)
    assert np.abs(graph_of(x, spec) - reference(x, spec)).max() < 1e-3


@pytest.mark.parametrize("spec", FRONT_ENDS.values(), ids=FRONT_ENDS)
@pytest.mark.parametrize("seconds", [1.0, 10.2, 60.0])
def test_lengths_of_a_clip(spec: FrontEndSpec, seconds: float) -> None:
    """The longest clip of AST is 10.2 s; of a longer one, its front end takes the first 1024 frames."""
    x = (0.1 * np.random.default_rng(5).standard_normal(spec.samples(seconds))).astype(np.float32)
    assert np.abs(graph_of(x, spec) - reference(x, spec)).max() < 2e-3


def graph_of(x: Sound, spec: FrontEndSpec) -> NDArray[np.float64]:
    """The graph's log-mel of a sound in PyTorch, dB."""
    with torch.inference_mode():
        return to_decibels(GraphLogMel(spec, samples=len(x))(torch.from_numpy(x)[None]).numpy()[0, 0], spec)


@st.composite
def specs(draw: st.DrawFn) -> FrontEndSpec:
    """A front end of one of the three definitions, small, at 8 kHz."""
    columns = draw(st.sampled_from([4, 8, 16, 12]))
    n_fft = columns * draw(st.sampled_from([4, 8, 16]))
    spec = FrontEndSpec(
        sample_rate=8000, n_fft=n_fft, win_length=n_fft, hop_length=columns * draw(st.sampled_from([1, 3, 5])),
        n_mels=draw(st.integers(2, 12)), fmin=100.0, fmax=3900.0,
    )  # fmt: skip
    kind = draw(st.sampled_from(sorted(FRONT_ENDS)))
    if kind == "PANNs":
        return spec
    spec = replace(
        spec, win_length=draw(st.integers(4, n_fft)), mel_scale="kaldi", mel_norm=None, window="hann_symmetric",
        log="ln", pre_emphasis=draw(st.floats(0.5, 0.99)), affine=(4.5, 5.0), amin=0.0, log_offset=1e-5,
    )  # fmt: skip
    if kind == "EfficientAT":
        return spec
    frames = draw(st.none() | st.integers(1, 40))
    return replace(spec, center=False, remove_dc=True, amin=1e-7, log_offset=None, padded_frames=frames)


@settings(max_examples=60)
@given(spec=specs(), samples=st.integers(260, 3000), level=st.floats(-80, 3), seed=st.integers(0, 2**32 - 1))
def test_any_front_end_any_length_any_level(spec: FrontEndSpec, samples: int, level: float, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32) * np.float32(10 ** (level / 20))
    got, want = graph_of(x, spec), reference(x, spec)
    assert got.shape == want.shape
    assert got.min() >= want.min() - 1e-3
    near = (want > -80) & (want > want.max(axis=1, keepdims=True) - 60)
    assert np.abs(got - want)[near].max(initial=0.0) < 2e-3


def test_front_ends_without_a_waveform_graph() -> None:
    odd = FrontEndSpec(sample_rate=8000, n_fft=96, win_length=96, hop_length=64, n_mels=4, fmin=0.0, fmax=4000.0)
    with pytest.raises(SpecError, match="no waveform graph"):
        GraphLogMel(odd, samples=1000)
    for spec, least in ((PANNS_32K, 513), (EFFICIENTAT_32K, 514), (AST_16K, 400)):
        with pytest.raises(SpecError, match=f"{least - 1} samples; expected at least {least}"):
            GraphLogMel(spec, samples=least - 1)


def networks() -> dict[str, tuple[AudioTagger, FrontEndSpec]]:
    """A small network for each front end."""
    ast = Ast(11, **SMALL).eval()
    randomise(ast)
    return {
        "PANNs": (find("demo").build().eval(), PANNS_32K),
        "EfficientAT": (narrow_network(), EFFICIENTAT_32K),
        "AST": (ast, replace(AST_16K, padded_frames=SMALL["frames"])),
    }


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_samples_give_the_same_outputs_as_the_log_mel(name: str) -> None:
    """The unit conversion in the first batch norm is exact, and the network itself is not changed."""
    network, spec = networks()[name]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    both = WaveformNetwork(network, spec, samples=64000)
    x = 0.05 * np.random.default_rng(3).standard_normal(64000).astype(np.float32)
    with torch.inference_mode():
        got = both(torch.from_numpy(x)[None])
        want = network(torch.from_numpy(LogMel(spec)(x))[None, None])
    for key, value in want.items():
        assert torch.allclose(got[key], value, atol=1e-4), key
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.usefixtures("vulkan")
def test_ast_runs_whole_on_the_gpu(tmp_path: Path) -> None:
    network, spec = networks()["AST"]
    sound = load_audio(demo_clips()[0], sample_rate=spec.sample_rate, max_seconds=0.9).waveform
    clip = padded(sound, spec.samples(0.9))[None]
    with torch.inference_mode():
        logmel = torch.from_numpy(LogMel(spec)(clip[0]))[None, None]
        want = {key: value.numpy() for key, value in network(logmel).items()}
    waveform = {"waveform": torch.from_numpy(clip)}
    export_fp32(WaveformNetwork(network, spec, samples=clip.shape[1]), waveform, tmp_path / "32", log=tmp_path / "log")
    engine = GpuEngine(tmp_path / "32")  # on the GPU alone, or an error
    got = engine.run(clip)
    engine.close()
    for key, value in want.items():
        assert compare("gpu_fp16", key, got[key], value, gate=GATES["gpu_fp16"]).passed, key


@needs_shared
@pytest.mark.usefixtures("vulkan")
def test_mn04_tags_real_recordings_on_the_gpu(tmp_path: Path) -> None:
    """The published weights, stored as float16, in the GPU's arithmetic against PyTorch with the host's log-mel.

    The tags are within the gate of the stage gpu_fp16. The delegate rounds the samples to float16 before any operation.
    Where the log-mel graph, given the exact log-mel of samples that were rounded so, is outside the gate itself, 1.5
    times its error is allowed.
    """
    network, spec, gate = real_network(), EFFICIENTAT_32K, GATES["gpu_fp16"]
    files = [sorted(folder.iterdir())[0] for folder in sorted((AUDIO / "esc10").iterdir()) if folder.is_dir()]
    files += [AUDIO / name for name in ("R9_ZSCveAHg_7s.wav", "metro_station-paris.wav")]
    paths = {}
    for name, exported, values in (
        ("waveform", WaveformNetwork(network, spec, samples=SAMPLES), torch.zeros(1, SAMPLES)),
        ("logmel", network, torch.zeros(1, 1, 1000, 128)),
    ):
        paths[name] = tmp_path / f"{name}.tflite"
        export_fp32(exported, {name: values}, tmp_path / "fp32.tflite", log=tmp_path / "log")
        cast_fp16(tmp_path / "fp32.tflite", paths[name], keep=ALWAYS_FLOAT32, log=tmp_path / "log")
    from_samples, from_logmel = GpuEngine(paths["waveform"]), GpuEngine(paths["logmel"])  # on the GPU alone

    def outputs(logmel: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            return {key: value.numpy() for key, value in network(torch.from_numpy(logmel)).items()}

    rows, probs = [], []
    for file in files:
        clip = padded(load_audio(file, sample_rate=32000).waveform, SAMPLES)
        logmel, rounded = (LogMel(spec)(x)[None, None] for x in (clip, clip.astype(np.float16).astype(np.float32)))
        wanted = outputs(logmel)
        found = (
            from_samples.run_unchecked(clip[None]), outputs(rounded), from_logmel.run_unchecked(rounded),
            from_logmel.run_unchecked(logmel),
        )  # fmt: skip
        errors = [float(np.abs(one[key] - wanted[key]).max()) for key in ("probs", "embedding") for one in found]
        rows.append((file.stem if file.parent == AUDIO else file.parent.name, *(f"{error:.3f}" for error in errors)))
        probs.append((found[0]["probs"], wanted["probs"]))
        assert gate.max_abs is not None
        unavoidable = errors[2]
        assert errors[0] <= (gate.max_abs if unavoidable <= gate.max_abs else 1.5 * unavoidable), rows[-1]
    from_samples.close()
    from_logmel.close()
    kinds = ("waveform graph", "samples alone, PyTorch", "samples alone, log-mel graph", "log-mel graph")
    heading = ("recording", *(f"{kind}: {key}" for key in ("probs", "emb.") for kind in kinds))
    show("mn04 on the GPU in float16 against PyTorch, largest errors", heading, rows)
    got, want = (np.concatenate(part).ravel() for part in zip(*probs, strict=True))
    assert gate.corr is not None
    assert np.corrcoef(got, want)[0, 1] >= gate.corr


@pytest.fixture(scope="module")
def demo_waveform(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo checkpoint as a waveform graph."""
    return convert("demo", graph="waveform", out=tmp_path_factory.mktemp("waveform") / "bundle")


def test_bundle_and_runtime_follow_the_manifest(demo: Bundle, demo_waveform: Bundle) -> None:
    manifest = demo_waveform.manifest
    assert manifest.graph == "waveform"
    assert (manifest.inputs[0].name, manifest.inputs[0].shape) == ("waveform", (1, SAMPLES))
    assert manifest.outputs == demo.manifest.outputs
    assert manifest.file("model") == "demo_synthetic_waveform_fp16.tflite"
    assert {check.output for check in manifest.parity if "graph" in check.output} == {
        "graph, dB near peak, float64",
        "graph, dB elsewhere, float64",
    }
    card = demo_waveform.file("model_card").read_text(encoding="utf-8")
    assert "The graph takes samples and computes" in card
    samples, logmel = Tagger(demo_waveform), Tagger(demo)
    for clip in demo_clips():
        a, b = samples.tag(clip), logmel.tag(clip)
        assert np.abs(a.probs - b.probs).max() < 5e-3
        assert a.tags[0].label == b.tags[0].label
    for tagger in (samples, logmel):
        with pytest.raises(AudioError, match=r"expected samples in \[-1, 1\]"):
            tagger.tag(np.full(32000, 1e30), sample_rate=32000)


def test_verify_and_what_it_catches(demo_waveform: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    checks = verify(demo_waveform.path)
    assert all(check.passed for check in checks)
    assert [check.output for check in checks if check.stage == "self_test"] == ["probs, PyTorch", "probs, CPU"]
    # Change one weight of the DFT. The manifest agrees with the file, so that only a parity gate can detect it.
    folder = copy_of(demo_waveform)
    path = folder / demo_waveform.manifest.file("model")
    data = bytearray(path.read_bytes())
    first = GraphLogMel(PANNS_32K, samples=SAMPLES).dft[1].weight.detach().numpy().ravel()
    weight = first[np.abs(first) > 0.5][:1]
    stage = np.float32(weight).tobytes()
    position = data.find(stage)
    assert position > 0
    data[position : position + 4] = np.float32(weight * 1.05).tobytes()
    path.write_bytes(bytes(data))
    make_consistent(folder, path.name)
    assert not all(check.passed for check in verify(folder))


@pytest.mark.usefixtures("vulkan")
def test_convert_and_verify_with_the_gpu_stage(demo_waveform: Bundle, tmp_path: Path) -> None:
    bundle = convert("demo", graph="waveform", gpu=True, out=tmp_path / "bundle")
    record = bundle.manifest.gpu
    assert record is not None
    assert record.passed
    assert record.reference == "pytorch"
    assert record.operators == read_graph(bundle.file("model")).operators
    assert bundle.file("model").read_bytes() == demo_waveform.file("model").read_bytes()
    checks = verify(bundle.path, gpu=True)
    assert {check.stage for check in checks} >= {"gpu_fp16"}
    assert all(check.passed for check in checks)
    # The golden chirp has a range of 100 dB inside a frame: rounding its samples to float16 alone changes its tags.
    own = [check for check in checks if "beyond float16" in check.output]
    assert own
    assert all("float16_input_alone" in check.threshold for check in own)


@pytest.mark.usefixtures("vulkan")
def test_a_graph_that_the_gpu_refuses_leaves_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own reflect padding is right on the CPU, but becomes a GATHER_ND, which the GPU refuses."""

    def reflected(self: GraphLogMel, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, None], (512, 512), mode="reflect")[:, 0]

    monkeypatch.setattr(GraphLogMel, "_padded", reflected)
    with pytest.raises(ParityError, match="refused GATHER_ND"):
        convert("demo", graph="waveform", gpu=True, out=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spec", "name", "factor"),
    [
        (PANNS_32K, "_emphasis", 1.0002),
        (EFFICIENTAT_32K, "hann", 1.001),
        (AST_16K, "mel_basis", 1.001),
    ],
)
def test_a_broken_front_end_fails_its_stage(
    spec: FrontEndSpec, name: str, factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(frontend, name)
    calls = []

    def wrong(*args: object, **options: object) -> NDArray[np.floating]:
        calls.append(name)
        # The emphasis is applied and undone. The first call stays right, so that the two no longer cancel.
        return right(*args, **options) * (factor if name != "_emphasis" or len(calls) > 1 else 1.0)

    monkeypatch.setattr(frontend, name, wrong)
    checks = graph_front_end_stage(spec, tmp_path / "graph.tflite", log=tmp_path / "log")
    assert not all(check.passed for check in checks)


def test_unknown_graph(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="graph 'samples'; expected one of logmel, waveform"):
        convert("demo", graph="samples", out=tmp_path / "bundle")
    with pytest.raises(BundleError, match="graph 'samples'"):
        replace(Bundle(demo_bundle()).manifest, graph="samples")
