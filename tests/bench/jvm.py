"""The benchmark of the Kotlin front end on a JVM: speed, memory and errors on real recordings."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from turns import real_recordings

from panns_litert.audio import load_audio
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_32K, FrontEndSpec, mel_basis
from panns_litert_convert.references import float64_logmel, to_decibels
from panns_litert_convert.stages import ELSEWHERE_DB, NEAR_DB, near_peak

_SPECS = {"PANNs": PANNS_32K, "EfficientAT": EFFICIENTAT_32K, "AST": AST_16K}
_SOUNDS = ("metro station", "speech", "baby", "dog_bark", "rain", "clock_tick")
_SECONDS = 10.0
_SAME_DB = 0.1  # up to this error, the textbook computes the same log-mel; float32 takes 0.02 dB of it


def kotlin(_: int) -> list[dict[str, Any]]:
    """10 s of a real recording to a log-mel by the Kotlin library, against a textbook version in the same JVM.

    ms is the CPU time of one thread, bytes what a call allocates, near_dB and elsewhere_dB the largest errors against
    float64 near the peak of a frame and elsewhere, as the front_end gate divides them. The library computes every frame
    once, in float64; the textbook version is in float32.
    """
    cases: list[dict[str, Any]] = []
    waveforms = []
    with tempfile.TemporaryDirectory() as folder:
        for sound in _SOUNDS:
            for front_end, spec in _SPECS.items():
                audio = load_audio(real_recordings()[sound], sample_rate=spec.sample_rate, max_seconds=_SECONDS)
                waveforms.append(np.resize(audio.waveform, spec.samples(_SECONDS)).astype("<f4"))  # repeated if shorter
                paths = {name: str(Path(folder) / f"{len(cases)}.{name}") for name in ("basis", "input", "output")}
                mel_basis(spec).astype("<f4").tofile(paths["basis"])
                waveforms[-1].tofile(paths["input"])
                cases.append({"sound": sound, "front_end": front_end, "spec": spec.to_dict(), **paths})
        (path := Path(folder) / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
        runner = Path(__file__).resolve().parents[1] / "android" / "kotlin.py"
        command = [sys.executable, str(runner), "io.github.pannslitert.frontend.BenchKt", str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            return [{"sound": "none", "what": f"not measured: {result.stderr.splitlines()[-1]}"}]
        measured = json.loads(result.stdout)
        rows = []
        for case, waveform, costs in zip(cases, waveforms, measured["costs"], strict=True):
            for name, cost in costs.items():
                logmel = np.fromfile(f"{case['output']}.{name}", "<f4")
                near, elsewhere = _largest_errors(logmel, waveform, _SPECS[case["front_end"]])
                bounds = (NEAR_DB, ELSEWHERE_DB) if name == "tagger" else (_SAME_DB, _SAME_DB)
                if not (near <= bounds[0] and elsewhere <= bounds[1]):  # NaN is not
                    raise SystemExit(f"bench: {case['sound']}, {name} is off by {near:.1e} and {elsewhere:.1e} dB")
                rows.append(
                    {
                        "sound": case["sound"],
                        "what": f"{case['front_end']}, {name}",
                        "ms": cost["ms"],
                        "ratio": cost["ms"] / costs["tagger"]["ms"],
                        "bytes": cost["bytes"],
                        "near_dB": near,
                        "elsewhere_dB": elsewhere,
                        "jvm": measured["jvm"],
                    }
                )
    return rows


def _largest_errors(
    logmel: NDArray[np.float32], waveform: NDArray[np.float32], spec: FrontEndSpec
) -> tuple[float, float]:
    """Returns the largest errors of a log-mel (frames · mels,) against float64, dB: near the peak, and elsewhere."""
    want = to_decibels(float64_logmel(waveform, spec), spec)
    error, near = np.abs(to_decibels(logmel.reshape(want.shape), spec) - want), near_peak(want)
    at_peak, elsewhere = (float(error[part].max(initial=0.0)) for part in (near, ~near))
    return at_peak, elsewhere
