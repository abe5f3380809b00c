"""The parity stages: front_end, network, one per precision, and gpu_fp16. Each compares with its own reference.

References are the original code's golden figures, PyTorch, and float64 computations. They never depend on the artefact
under test.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panns_litert.bundle import Check, GraphName
from panns_litert.engine import CpuEngine, Outputs
from panns_litert.evaluate import figures
from panns_litert.frontend import FrontEndSpec, LogMel, mel_basis
from panns_litert.proof import (
    GATES,
    HELD_OUT_GATES,
    HELD_OUT_LOSSES,
    HELD_OUT_OUTPUTS,
    TAG_GATES,
    Gate,
    GpuReport,
    compare,
    compare_tags,
    few_as_one,
    gpu_check,
)
from panns_litert.words import counted
from panns_litert_convert.export import export_fp32
from panns_litert_convert.frontend import GraphLogMel, to_decibels
from panns_litert_convert.networks import AudioTagger
from panns_litert_convert.references import (
    BEYOND_FLOAT32,
    BEYOND_TORCHLIBROSA,
    AstLogMel,
    EfficientatLogMel,
    TorchlibrosaLogMel,
    float64_logmel,
    front_end_sounds,
    parity_clips,
    reference_basis,
)
from panns_litert_convert.references import to_decibels as decibels
from panns_litert_convert.zoo import Model, golden_figures, golden_shapes
from panns_litert_golden.recipe import waveform, weights

_Values = NDArray[np.float32] | NDArray[np.float64]

# Bounds in dB. "Near" is as in `near_peak`.
NEAR_DB, ELSEWHERE_DB, TORCHLIBROSA_DB = 1e-3, 1e-2, 1e-2
_NEAR_FLOOR_DB, _NEAR_RANGE_DB = -80.0, 80.0

_Original = TorchlibrosaLogMel | EfficientatLogMel | AstLogMel
_ORIGINALS: dict[tuple[str, bool], tuple[str, Callable[[FrontEndSpec], _Original]]] = {
    ("slaney", True): ("torchlibrosa", TorchlibrosaLogMel),
    ("kaldi", True): ("EfficientAT", EfficientatLogMel),
    ("kaldi", False): ("transformers", AstLogMel),
}
"""Name and code of the original log-mel, by mel scale and centring."""


def front_end_stage(spec: FrontEndSpec, *, basis: NDArray[np.float32] | None = None) -> list[Check]:
    """Compares the host's log-mel with float64 and with the original's, and the mel basis with an independent one.

    The originals (torchlibrosa, EfficientAT's) compute in float32. Far below a frame's peak, and on sounds with
    most of their energy below the lowest band, their own rounding exceeds the bound (up to 0.06 dB from float64 in
    the golden log-mels). Therefore they are compared near the peak only, without these sounds. Float64 is compared
    everywhere, on all sounds. Figures are in dB, whatever the network's unit.

    Args:
        spec: the front end.
        basis: the mel basis to check, such as a bundle's; by default made from the spec.
    """
    basis = mel_basis(spec) if basis is None else basis
    slaney = spec.mel_scale == "slaney"
    names, original_of = _ORIGINALS[spec.mel_scale, spec.center]
    ours, theirs = LogMel(spec, basis=basis), original_of(spec)
    got, exact, original = [], [], []
    for name, sound in front_end_sounds(spec.sample_rate).items():
        got.append(decibels(ours(sound), spec))
        exact.append(decibels(float64_logmel(sound, spec), spec))
        resolved = name not in BEYOND_TORCHLIBROSA
        original.append(decibels(theirs(sound), spec) if resolved else np.full_like(got[-1], np.nan))
    g, e, o = (np.concatenate(part) for part in (got, exact, original))  # (frames, mels)
    near = near_peak(e)
    compared = near & ~np.isnan(o)

    def check(output: str, a: NDArray[np.float64], b: NDArray[np.float64], bound: float) -> Check:
        return compare("front_end", output, a[None], b[None], gate=Gate(max_abs=bound))

    maker = "librosa" if slaney else "Kaldi"
    # Kaldi's triangles peak at 1, librosa's at 0.03. Both bounds allow for float32's rounding.
    return [
        check(f"mel basis, {maker}", basis.astype(np.float64), reference_basis(spec), 1e-7 if slaney else 1e-6),
        check("dB near peak, float64", g[near], e[near], NEAR_DB),
        *([check("dB elsewhere, float64", g[~near], e[~near], ELSEWHERE_DB)] if np.ptp(e[~near]) > 0 else []),
        check(f"dB near peak, {names}", g[compared], o[compared], TORCHLIBROSA_DB),
    ]


_GOLDEN_OF = {"logits": "logits", "probs": "clipwise_output", "embedding": "embedding", "framewise": "framewise_output"}
"""The originals' names for a network's outputs."""


def network_stage(model: Model) -> list[Check]:
    """Compares this project's network with the original's golden outputs, with the golden recipe's weights."""
    options = model.options if model.golden_options is None else model.golden_options
    network = model.architecture(**options).eval()
    state = {key: torch.from_numpy(w) for key, w in weights(golden_shapes(model.golden)).items()}
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(state | counters, strict=True)
    figures = golden_figures(model.golden)
    if network.graph == "waveform":
        inputs = waveform(model.front_end.sample_rate)[None]
    elif "logmel" in figures:
        inputs = figures["logmel"][None, None]
    else:  # not stored, for its size. The front_end stage compares the original's log-mel with float64.
        sound = waveform(model.front_end.sample_rate, 10.0)
        inputs = float64_logmel(sound, model.front_end).astype(np.float32)[None, None]
    with torch.inference_mode():
        found = {name: value.numpy() for name, value in network.trace(torch.from_numpy(inputs)).items()}
    checks = []
    for name, original in _GOLDEN_OF.items():
        # Where clip-wise logits are compared, their sigmoids are not. Frame-wise logits (9, classes) are not compared,
        # because `framewise` covers them.
        if name == "probs" and found.get("logits", np.empty(0)).shape[1:] == figures.get("logits", np.empty(1)).shape:
            continue
        if name in found and original in figures and found[name].shape[1:] == figures[original].shape:
            checks.append(compare("network", name, found[name], figures[original][None], gate=GATES["network"]))
    return checks


def graph_front_end_stage(spec: FrontEndSpec, path: Path, *, log: Path) -> list[Check]:
    """Exports the waveform graph's log-mel alone, and compares it on the CPU with float64.

    Args:
        spec: the front end.
        path: the .tflite to write.
        log: file for the converter's output.
    """
    sounds = {name: x for name, x in front_end_sounds(spec.sample_rate).items() if name not in BEYOND_FLOAT32}
    samples = len(next(iter(sounds.values())))
    export_fp32(LogMelOnly(spec, samples=samples), {"waveform": torch.zeros(1, samples)}, path, log=log)
    engine = CpuEngine(path)
    got = [to_decibels(engine.run_unchecked(sound[None])["logmel"][0, 0], spec) for sound in sounds.values()]
    exact = [decibels(float64_logmel(sound, spec), spec) for sound in sounds.values()]
    g, e = np.concatenate(got), np.concatenate(exact)
    near = near_peak(e)
    return [
        compare("front_end", f"graph, dB {where}, float64", g[part][None], e[part][None], gate=Gate(max_abs=bound))
        for where, part, bound in (("near peak", near, NEAR_DB), ("elsewhere", ~near, ELSEWHERE_DB))
        if part.any() and np.ptp(e[part]) > 0  # EfficientAT's floor is so high that all values are near the peak
    ]


def near_peak(logmel: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which values (frames, mels), dB, are above -80 dB and within 80 dB of their frame's highest band."""
    peak = logmel.max(axis=1, keepdims=True)
    return np.asarray((logmel > _NEAR_FLOOR_DB) & (logmel > peak - _NEAR_RANGE_DB))


class LogMelOnly(nn.Module):
    """The front end of a waveform graph alone, to measure it: (1, samples) to {"logmel": …}."""

    def __init__(self, spec: FrontEndSpec, *, samples: int) -> None:
        super().__init__()
        self.logmel = GraphLogMel(spec, samples=samples)
        self.eval()

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Waveform (1, samples) to log-mel (1, 1, frames, mels), in the unit of `GraphLogMel`."""
        return {"logmel": self.logmel(waveform)}


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Labelled clips that a fine-tuning held out, to judge its quantized files.

    Attributes:
        load: returns the .tflite's input for the clip with an index.
        truth: labels (clips, classes), 0 or 1.
        probs: PyTorch's probabilities (clips, classes).
    """

    load: Callable[[int], NDArray[np.float32]]
    truth: NDArray[np.float32]
    probs: NDArray[np.float32]

    def checks(self, stage: str, path: Path) -> list[Check]:
        """Checks how much accuracy and mean average precision a .tflite loses against PyTorch on these clips.

        Returns:
            Checks with the bounds `HELD_OUT_LOSSES`; their largest error is the loss. Their thresholds also have
            PyTorch's figure and the number of clips. A metric that these clips do not define has no check.
        """
        engine = CpuEngine(path)
        probs = np.concatenate([engine.run_unchecked(self.load(i))["probs"] for i in range(len(self.truth))])
        blank = compare(stage, "", *few_as_one(probs, self.probs), gate=Gate(max_abs=1.0))
        names = [str(i) for i in range(self.truth.shape[1])]
        want = figures(self.probs, self.truth, names)
        got = figures(probs, self.truth, names) if np.isfinite(probs).all() else None
        found = []
        for output, metric in zip(HELD_OUT_OUTPUTS, ("accuracy", "mean_ap"), strict=True):
            if (of_torch := getattr(want, metric)) is None:
                continue
            bound = {"max_abs": HELD_OUT_LOSSES[stage], "pytorch": of_torch, "clips": float(want.clips)}
            check = replace(blank, output=output, threshold=bound, rmse=None, corr=None, psnr_db=None, top5_agree=None)
            if blank.passed and got is not None:
                loss = max(0.0, of_torch - getattr(got, metric))
                passed = loss <= bound["max_abs"] + 1e-9  # float rounding of a quotient
                why = f"{of_torch - loss:.2%} instead of PyTorch's {of_torch:.2%} on {counted(want.clips, 'clip')}"
                check = replace(check, max_abs=loss, passed=passed, why="" if passed else why)
            found.append(check)
        return found


class Reference:
    """PyTorch's outputs of a network on the parity clips, which every .tflite of it must reproduce.

    If the network takes log-mel, the outputs are computed from the host's log-mel for both graphs. The front_end stage
    compares that log-mel with float64.

    Args:
        network: in eval mode, with its weights.
        spec: its front end.
        graph: input of the .tflite, "logmel" or "waveform".
        seconds: length of the clips, s.
        held_out: also judges files with integer weights, if it is given and its clips have classes.

    Attributes:
        graph: input of the .tflite.
        inputs: the .tflite's input for every clip: log-mel (1, 1, frames, mels) or samples (1, samples), float32.
        outputs: PyTorch's outputs by name, (clips, dim) float32.
        half: the same for samples rounded to float16; empty for the log-mel graph.
    """

    def __init__(
        self,
        network: AudioTagger,
        spec: FrontEndSpec,
        *,
        graph: GraphName = "logmel",
        seconds: float,
        held_out: HeldOut | None = None,
    ) -> None:
        # Clips of no class define neither accuracy nor mean average precision, so they judge nothing.
        self.held_out = held_out if held_out is not None and held_out.truth.any() else None
        self._logmel = LogMel(spec)
        clips = parity_clips(spec.sample_rate, seconds)
        self.graph = graph
        self.inputs = self.prepared(clips)
        self._network, self._features = network, self._as_input(clips, network.graph)
        self.outputs = self._run(network, self._features)
        rounded = [clip.astype(np.float16).astype(np.float32) for clip in clips] if graph == "waveform" else []
        self.half = self._run(network, self._as_input(rounded, network.graph))

    def prepared(self, clips: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Returns clips (samples,) as inputs of the .tflite."""
        return self._as_input(clips, self.graph)

    def _as_input(self, clips: Sequence[NDArray[np.float32]], graph: GraphName) -> list[NDArray[np.float32]]:
        return [clip[None] if graph == "waveform" else self._logmel(clip)[None, None] for clip in clips]

    def check(self, stage: str, path: Path, *, wide: bool = False) -> list[Check]:
        """Runs a .tflite on the parity clips and compares every output; one of integer weights also on `held_out`.

        Args:
            stage: name of the stage.
            path: the .tflite.
            wide: compare with `HELD_OUT_GATES`, as a file is that held-out clips judge.
        """
        engine = CpuEngine(path)
        runs = [engine.run_unchecked(values) for values in self.inputs]
        checks = []
        for name, want in self.outputs.items():
            got = np.concatenate([run.get(name, np.empty((1, 0), np.float32)) for run in runs])
            gate = HELD_OUT_GATES[stage] if wide else GATES[stage]
            share = Gate(max_abs=gate.max_abs, corr=gate.corr, relative=True)
            if name == "probs":
                got, want = few_as_one(got, want)
                checks.append(self._compare(stage, name, got, want, gate))
                # Also as logits, so that errors of classes that are unlikely in every clip count.
                checks.append(self._compare(stage, "logits", _logits(got), _logits(want), share))
                if stage in TAG_GATES and not wide:
                    checks.append(compare_tags(stage, got, want, gate=TAG_GATES[stage]))
            elif name == "framewise":  # also probabilities; without top five, because neighbouring frames are alike
                checks.append(self._compare(stage, name, got, want, Gate(max_abs=gate.max_abs, corr=gate.corr)))
            else:  # an embedding has no unit, so its error is relative to its spread
                checks.append(self._compare(stage, name, got, want, share))
        if self.held_out is not None and stage in HELD_OUT_LOSSES:
            checks += self.held_out.checks(stage, path)
        return checks

    def final_check(self, stage: str, path: Path) -> list[Check]:
        """Checks a file as `check` does, and with wide gates if it passes only those and held-out clips judge it."""
        checks = self.check(stage, path)
        if self.held_out is None or stage not in HELD_OUT_LOSSES or all(check.passed for check in checks):
            return checks
        wide = self.check(stage, path, wide=True)
        return wide if all(check.passed for check in wide) else checks

    def error(self, path: Path, *, clips: int) -> float:
        """Returns the mean squared error of a .tflite's logits and embedding on some clips, over their variance."""
        engine = CpuEngine(path)
        runs = [engine.run_unchecked(values) for values in self.inputs[:clips]]
        shares = []
        for name in ("probs", "embedding"):
            got: _Values = np.concatenate([run[name] for run in runs])
            want: _Values = self.outputs[name][:clips]
            if name == "probs":
                got, want = few_as_one(_logits(got), _logits(want))
            shares.append(np.mean(np.mean((got - want) ** 2, axis=1) / np.var(want, axis=1)))
        return float(np.mean(shares))

    def _compare(self, stage: str, name: str, got: _Values, want: _Values, gate: Gate) -> Check:
        """Compares an output. In the fp16 stage, a failed check is repeated with a threshold from PyTorch.

        That threshold is 1.5 times PyTorch's own error with float16 weights. The factor is needed because the converter
        folds batch norms into the weights before it rounds them, so that its rounding errors differ from PyTorch's. For
        probabilities the threshold applies only if PyTorch's error is outside the gate too.
        """
        check = compare(stage, name, got, want, gate=gate)
        if check.passed or stage != "fp16":
            return check
        half = self._half_weights()["probs" if name == "logits" else name].reshape(want.shape)
        torch_s = compare(stage, name, _logits(half) if name == "logits" else half, want, gate=gate)
        if torch_s.max_abs is None or (torch_s.passed and name in ("probs", "framewise")):
            return check
        share = torch_s.max_abs / (check.threshold["max_abs"] / gate.max_abs)
        kept = gate.corr if torch_s.passed else None
        own = compare(stage, name, got, want, gate=Gate(max_abs=1.5 * share, corr=kept, relative=gate.relative))
        return replace(own, threshold=own.threshold | {"pytorch_float16_weights": torch_s.max_abs})

    def _half_weights(self) -> Outputs:
        """Returns PyTorch's outputs with weights rounded to float16, computed in float32."""
        network = copy.deepcopy(self._network)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(parameter.half().float())
        return self._run(network, self._features)

    @staticmethod
    def _run(network: AudioTagger, features: list[NDArray[np.float32]]) -> Outputs:
        with torch.inference_mode():
            runs = [network(torch.from_numpy(values)) for values in features]
        return {name: np.concatenate([run[name].numpy() for run in runs]) for name in runs[0]} if runs else {}

    def gpu_check(self, path: Path) -> GpuReport:
        """Runs a .tflite on the GPU delegate and compares every output."""
        inputs = [{str(self.graph): values} for values in self.inputs]
        references, half = _by_clip(self.outputs), _by_clip(self.half) or None
        return gpu_check(path, inputs=inputs, references=references, half=half, audit=False)


def _by_clip(outputs: Outputs) -> list[Outputs]:
    """Splits the outputs of all clips into outputs of each clip."""
    clips = len(next(iter(outputs.values()), ()))
    return [{name: values[i : i + 1] for name, values in outputs.items()} for i in range(clips)]


def _logits(probs: _Values) -> NDArray[np.float64]:
    """Returns the logits of sigmoid probabilities, clipped to -20 … 9, which float32 can resolve."""
    p = np.asarray(probs, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.clip(np.log(p) - np.log1p(-p), -20.0, 9.0))


def constants_check(stage: str, path: Path, rebuilt: Path) -> Check:
    """Compares every constant of a .tflite with those of a file newly made from the checkpoint.

    The other stages run clips, which do not exercise every weight. The bound allows for the last bit of float16 and one
    step of a quantized constant, which another processor may round differently.

    Args:
        stage: name of the check's stage.
        path: the .tflite to check.
        rebuilt: the newly made .tflite.

    Returns:
        A check whose error is the largest of all constants, relative to the constant's largest value.
    """
    worst, why = 0.0, ""
    ours, theirs = _constants(path), _constants(rebuilt)
    for name, shape, values, step in theirs:
        other = next(ours, None)
        if other is None or other[1] != shape:  # names do not matter, and converters change them
            why = f"{name} {shape} is missing"
            break
        if not np.isfinite(other[2]).all():
            why = f"{name} holds NaN or Inf"
            break
        error = (np.abs(other[2].astype(np.float32) - values.astype(np.float32)) - 1.001 * step).max(initial=0.0)
        share = float(error / max(np.abs(values).max(initial=0.0), np.finfo(np.float32).tiny))
        if share > worst:
            worst = share
            if worst > CONSTANTS_SHARE:
                why = f"{name} differs by {worst:.2g} of its largest value"
    else:
        why = why or ("has more constants than the checkpoint gives" if next(ours, None) else "")
    return Check(
        stage=stage,
        output="constants",
        max_abs=worst,
        rmse=None,
        corr=None,
        psnr_db=None,
        top5_agree=None,
        threshold={"max_abs": CONSTANTS_SHARE},
        passed=not why,
        why=why,
    )


CONSTANTS_SHARE = 1e-3


def _constants(path: Path) -> Iterator[tuple[str, tuple[int, ...], NDArray[np.generic], NDArray[np.float32]]]:
    """Yields the name, shape, values and quantization step of every constant of a .tflite, in the file's order.

    Quantized integers are dequantized, except where the scale is a separate constant (blockwise). Constants for shapes
    and axes are left out.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = np.memmap(path, np.uint8, "r")
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    kinds = schema.TensorType
    dtypes = {kinds.FLOAT32: np.float32, kinds.FLOAT16: np.float16, kinds.INT8: np.int8, kinds.INT32: np.int32}
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        buffer = model.Buffers(tensor.Buffer())
        # Large constants are stored after the flatbuffer, at an offset into the file.
        raw = data[buffer.Offset() : buffer.Offset() + buffer.Size()] if buffer.Size() else buffer.DataAsNumpy()
        if isinstance(raw, int) or not raw.size:
            continue
        shape = tuple(int(n) for n in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
        quantization = tensor.Quantization()
        scaled = quantization is not None and quantization.ScaleLength() > 0
        if tensor.Type() in (kinds.FLOAT32, kinds.FLOAT16):
            values: NDArray[np.generic] = np.frombuffer(raw.tobytes(), dtypes[tensor.Type()]).reshape(shape)
            step = np.zeros(1, np.float32)
        elif tensor.Type() == kinds.INT4 or (scaled and tensor.Type() in dtypes):
            if tensor.Type() == kinds.INT4:  # two in a byte, the first in the lower half
                pairs = np.frombuffer(raw.tobytes(), np.int8)
                whole = np.stack([np.left_shift(pairs, 4) >> 4, pairs >> 4], axis=1).reshape(-1)[: math.prod(shape)]
            else:
                whole = np.frombuffer(raw.tobytes(), dtypes[tensor.Type()])
            step = quantization.ScaleAsNumpy().astype(np.float32) if scaled else np.ones(1, np.float32)
            if len(step) > 1:
                axis = quantization.QuantizedDimension()
                step = step.reshape([-1 if n == axis else 1 for n in range(len(shape))])
            values = (whole.reshape(shape) * step).astype(np.float32)
        else:
            continue
        yield tensor.Name().decode(), shape, values, step
