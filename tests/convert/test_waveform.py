"""The waveform graph, which takes samples and computes the log-mel itself: on the CPU and on the GPU.

`pytest -s tests/convert/test_waveform.py` prints the figures that docs/waveform-graph.md shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from support import AUDIO, make_consistent, needs_shared, operators_of
from torch import Tensor, nn

from panns_litert import Tagger
from panns_litert.audio import load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.engine import CpuEngine, GpuEngine, read_graph
from panns_litert.errors import AudioError, BundleError, ModelError, ParityError, SpecError
from panns_litert.frontend import PANNS_8K, PANNS_16K, PANNS_32K, FrontEndSpec, LogMel
from panns_litert_convert import frontend
from panns_litert_convert.convert import convert, verify
from panns_litert_convert.export import export_fp32
from panns_litert_convert.frontend import CENTRE, GraphLogMel, WaveformNetwork, to_decibels
from panns_litert_convert.references import float64_logmel, front_end_sounds
from panns_litert_convert.stages import LogMelOnly, graph_front_end_stage
from panns_litert_convert.zoo import find, golden

SAMPLES = 320_000

Sound = NDArray[np.float32]


def sounds() -> dict[str, Sound]:
    """Sounds of 10 s at 32 kHz (320000,), some of them real recordings. Short ones are repeated."""
    with np.load(golden("real_mobilenetv1.npz")) as music:
        found = {
            "music (symphony)": music["symphony_waveform"],
            "music (wind octet)": music["wind_octet_waveform"],
        }
    synthetic = front_end_sounds(32000)
    for name in ("white noise", "digital silence", "full-scale square wave", "tone at -90 dBFS"):
        found[name] = synthetic[name]
    found = {name: np.resize(sound, SAMPLES).astype(np.float32) for name, sound in found.items()}
    for name, file in (("speech", "R9_ZSCveAHg_7s.wav"), ("metro station", "metro_station-paris.wav")):
        samples = load_audio(AUDIO / file, sample_rate=32000).waveform[:SAMPLES]
        found[name] = np.pad(samples, (0, SAMPLES - len(samples)))
    return found


@pytest.fixture(scope="module")
def logmel_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .tflite of the log-mel alone, for 10 s."""
    folder = tmp_path_factory.mktemp("logmel")
    graph = LogMelOnly(PANNS_32K, samples=SAMPLES)
    export_fp32(graph, {"waveform": torch.zeros(1, SAMPLES)}, folder / "graph.tflite", log=folder / "log")
    return folder / "graph.tflite"


def test_the_graph_has_no_gather_and_no_padding(logmel_graph: Path) -> None:
    found, ranks = operators_of(logmel_graph)
    assert not set(found) & {"GATHER", "GATHER_ND", "MIRROR_PAD", "PAD", "PADV2", "REVERSE_V2"}
    assert max(ranks) <= 4
    assert len(found) < 64


def test_reflect_padding_is_exact() -> None:
    """Equal to the last bit, for lengths that are multiples of the hop and for others."""
    rng = np.random.default_rng(0)
    for samples in (513, 1000, 32000, 32001, 32319):
        x = rng.standard_normal((1, samples)).astype(np.float32)
        padded = GraphLogMel(PANNS_32K, samples=samples)._padded(torch.from_numpy(x)).detach().numpy()
        assert np.array_equal(padded, np.pad(x, ((0, 0), (512, 512)), mode="reflect"))


@pytest.mark.parametrize("where", ["first", "last"])
def test_frames_at_the_edges_are_right(logmel_graph: Path, where: str) -> None:
    """The sound is at one end only, so the frames there depend on the reflect padding."""
    x = np.zeros(SAMPLES, np.float32)
    burst = np.random.default_rng(1).standard_normal(700).astype(np.float32) * 0.1
    x[:700] = burst
    x = x if where == "first" else x[::-1].copy()
    got = to_decibels(CpuEngine(logmel_graph).run(x[None])["logmel"][0, 0], PANNS_32K)
    want = float64_logmel(x, PANNS_32K)
    assert got.shape == want.shape == (1001, 64)
    assert np.abs(got - want).max() < 1e-3
    edge = slice(0, 2) if where == "first" else slice(-2, None)
    assert want[edge].max() > -40
    zero_padded = float64_logmel(np.pad(x, 640), PANNS_32K)[2:-2]  # with zeros instead of reflection
    assert np.abs(zero_padded[edge] - want[edge]).max() > 1.0


@needs_shared
def test_float32_on_the_cpu_is_within_a_thousandth_of_a_decibel(logmel_graph: Path) -> None:
    engine = CpuEngine(logmel_graph)
    rows = []
    for name, sound in sounds().items():
        error = np.abs(
            to_decibels(engine.run(sound[None])["logmel"][0, 0], PANNS_32K) - float64_logmel(sound, PANNS_32K)
        )
        rows.append((name, f"{error.max():.1e}"))
        assert error.max() <= 1e-3, name
    show("float32 on the CPU against float64, dB", ("sound", "largest"), rows)


@needs_shared
@pytest.mark.usefixtures("vulkan")
def test_float16_on_the_gpu(logmel_graph: Path) -> None:
    """The error of the delegate's float16 arithmetic against float64 is within its bounds."""
    engine = GpuEngine(logmel_graph)
    rows = []
    failed = []
    for name, sound in sounds().items():
        got = to_decibels(engine.run_unchecked(sound[None])["logmel"][0, 0], PANNS_32K)
        want = float64_logmel(sound, PANNS_32K)
        error = np.abs(got - want)
        assert np.isfinite(got).all()
        assert got.min() >= -100.0
        loud = error[want > -60.0] if (want > -60.0).any() else np.zeros(1)
        figures = (np.median(error), np.percentile(error, 99), np.percentile(loud, 99), loud.max())
        rows.append((name, *(f"{figure:.3f}" for figure in figures)))
        if not (figures[0] <= 0.02 and figures[2] <= 0.2 and figures[3] <= 1.0):
            failed.append(rows[-1])
        if name == "digital silence":
            assert (got == -100.0).all()
    heading = ("sound", "median", "99 %", "99 % above -60 dB", "largest above -60 dB")
    show("float16 on the GPU against float64, dB", heading, rows)
    assert not failed
    engine.close()


def show(title: str, heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*heading, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


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
    graph = LogMelOnly(spec, samples=len(x))
    with torch.inference_mode():
        got = to_decibels(graph(torch.from_numpy(x)[None])["logmel"].numpy()[0, 0], spec)
    assert np.abs(got - float64_logmel(x, spec)).max() < 1e-3


@settings(max_examples=40)
@given(
    columns=st.sampled_from([4, 8, 16, 12]),
    taps=st.sampled_from([4, 8, 16]),
    hop=st.integers(1, 5).filter(lambda n: n % 2),
    mels=st.integers(2, 12),
    samples=st.integers(130, 3000),
    level=st.floats(-80, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_front_end_any_length_any_level(
    columns: int, taps: int, hop: int, mels: int, samples: int, level: float, seed: int
) -> None:
    spec = FrontEndSpec(
        sample_rate=8000, n_fft=columns * taps, win_length=columns * taps, hop_length=hop * columns,
        n_mels=mels, fmin=100.0, fmax=3900.0,
    )  # fmt: skip
    x = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32) * np.float32(10 ** (level / 20))
    with torch.inference_mode():
        got = GraphLogMel(spec, samples=samples)(torch.from_numpy(x)[None]).numpy()[0, 0]
    want = float64_logmel(x, spec)
    assert got.shape == want.shape
    assert got.min() >= -CENTRE
    near = (want > -80) & (want > want.max(axis=1, keepdims=True) - 60)
    assert np.abs(to_decibels(got, spec) - want)[near].max(initial=0.0) < 2e-3


def test_front_ends_without_a_waveform_graph() -> None:
    odd = FrontEndSpec(sample_rate=8000, n_fft=96, win_length=96, hop_length=64, n_mels=4, fmin=0.0, fmax=4000.0)
    with pytest.raises(SpecError, match="no waveform graph"):
        GraphLogMel(odd, samples=1000)
    with pytest.raises(SpecError, match="at least 513"):
        GraphLogMel(PANNS_32K, samples=512)


def test_samples_give_the_same_outputs_as_decibels() -> None:
    """The unit conversion in the first batch norm is exact, and the network itself is not changed."""
    model = find("demo")
    network = model.build().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    both = WaveformNetwork(network, PANNS_32K, samples=64000)
    x = 0.05 * np.random.default_rng(3).standard_normal(64000).astype(np.float32)
    with torch.inference_mode():
        got = both(torch.from_numpy(x)[None])
        want = network(torch.from_numpy(LogMel(PANNS_32K)(x))[None, None])
    for name, value in want.items():
        assert torch.allclose(got[name], value, atol=1e-4), name
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


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
    ("name", "factor"),
    [("_emphasis", 1.0002), ("hann", 1.001), ("mel_basis", 1.001)],
    ids=["emphasis", "window", "mel"],
)
def test_a_broken_front_end_fails_its_stage(
    name: str, factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(frontend, name)
    calls = []

    def wrong(*args: object) -> NDArray[np.floating]:
        calls.append(name)
        # The emphasis is applied and undone. The first call stays right, so that the two no longer cancel.
        return right(*args) * (factor if name != "_emphasis" or len(calls) > 1 else 1.0)

    monkeypatch.setattr(frontend, name, wrong)
    checks = graph_front_end_stage(PANNS_32K, tmp_path / "graph.tflite", log=tmp_path / "log")
    assert not all(check.passed for check in checks)


def test_unknown_graph(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="graph 'samples'; expected one of logmel, waveform"):
        convert("demo", graph="samples", out=tmp_path / "bundle")
    with pytest.raises(BundleError, match="graph 'samples'"):
        replace(Bundle(demo_bundle()).manifest, graph="samples")
