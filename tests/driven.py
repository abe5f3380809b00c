"""Cases for libraries in other languages: they run them all in one process, and these checks judge the results.

The front end is compared with float64, the resampler with soxr and with what defines it, events with this runtime's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import soxr
from numpy.typing import NDArray

from panns_litert.events import EventDetector, EventSettings
from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_8K, PANNS_16K, PANNS_32K, LogMel, mel_basis
from panns_litert_convert.references import float64_logmel, front_end_sounds
from panns_litert_convert.references import to_decibels as decibels
from panns_litert_convert.stages import ELSEWHERE_DB, NEAR_DB, near_peak

Json = dict[str, Any]

SPECS = {"32k": PANNS_32K, "16k": PANNS_16K, "8k": PANNS_8K, "EfficientAT": EFFICIENTAT_32K, "AST": AST_16K}
CHANGES: list[Json] = [{"hop_length": 319}, {"fmax": 13900.0}, {"win_length": 1000}]
RESAMPLED = [
    (44100, 32000),
    (48000, 32000),
    (22050, 32000),
    (16000, 32000),
    (8000, 32000),
    (48000, 16000),
    (44100, 16000),
    (47999, 32000),
    (15999, 32000),
]
CHUNKS = [160, 1, 4097, 33]
EVENT_SEEDS = 20

_RESAMPLE_SECONDS = 0.5
_STOP_DB = -115.0  # images and aliases of the resampler


class Driver:
    """Collects cases, has a library run them, and reads their results.

    Args:
        folder: for the cases and the results.
        run_cases: runs the library on a JSON file with a list of cases. Each has the function to call in `run`, its
            input and output files (little-endian float32; JSON for events), and the arguments of the function.
    """

    def __init__(self, folder: Path, run_cases: Callable[[Path], object]) -> None:
        self._folder, self._run_cases = folder, run_cases
        self._cases: list[Json] = []
        self._results: dict[str, Path] = {}

    def add(self, name: str, run: str, **arguments: Any) -> None:
        case: Json = {"run": run, "output": str(self._folder / f"{len(self._cases)}.out"), "name": name}
        for key, value in arguments.items():
            if isinstance(value, np.ndarray):
                path = self._folder / f"{len(self._cases)}.{key}"
                value.astype("<f4").tofile(path)
                value = str(path)
            case[key] = value
        self._cases.append(case)

    def add_all(self) -> None:
        """Adds the cases of every `require_…`."""
        for name, spec in SPECS.items():
            for sound, samples in front_end_sounds(spec.sample_rate).items():
                self.add(f"{name} {sound}", "logmel", spec=spec.to_dict(), basis=mel_basis(spec), input=samples)
        for change in CHANGES:
            noise = front_end_sounds(32000)["white noise"]
            spec = replace(PANNS_32K, **change)
            self.add(f"change {change}", "logmel", spec=spec.to_dict(), basis=mel_basis(spec), input=noise)
        for rates in RESAMPLED:
            for name, samples in _resampler_inputs(*rates).items():
                for chunks in ([1 << 30], CHUNKS):
                    title = f"resample {rates} {name} {len(chunks)}"
                    self.add(title, "resample", input=samples, **{"from": rates[0], "to": rates[1]}, chunks=chunks)
        for seed in range(EVENT_SEEDS):
            self.add(f"events {seed}", "events", **_event_case(seed))

    def run(self) -> None:
        path = self._folder / "cases.json"
        path.write_text(json.dumps(self._cases), encoding="utf-8")
        self._run_cases(path)
        self._results = {case["name"]: Path(case["output"]) for case in self._cases}

    def floats(self, name: str) -> NDArray[np.float32]:
        return np.fromfile(self._results[name], "<f4").astype(np.float32)

    def require_front_end(self, name: str, sound: str) -> None:
        """Checks the front_end gate, and that the two languages agree."""
        spec, samples = SPECS[name], front_end_sounds(SPECS[name].sample_rate)[sound]
        got = self.floats(f"{name} {sound}").reshape(spec.frames(len(samples)), spec.n_mels)
        want = decibels(float64_logmel(samples, spec), spec)
        at_peak, elsewhere = _largest_errors(f"{name} {sound}", decibels(got, spec), want)
        assert at_peak <= NEAR_DB
        assert elsewhere <= ELSEWHERE_DB
        if sound == "digital silence" and spec.log == "10log10":
            assert np.all(got == np.float32(-100.0))
        # Each may be off by the gate, and Python uses float32 where that is enough.
        assert np.abs(decibels(got, spec) - decibels(LogMel(spec)(samples), spec)).max() <= ELSEWHERE_DB

    def require_another_definition_fails(self, change: Json) -> None:
        want = float64_logmel(front_end_sounds(32000)["white noise"], PANNS_32K)
        got = self.floats(f"change {change}").reshape(-1, 64)[: len(want)]
        assert _largest_errors(str(change), got, want[: len(got)])[0] > 10 * ELSEWHERE_DB

    def require_passband(self, rates: tuple[int, int]) -> None:
        """Checks tones: those up to 0.9 of the lower Nyquist frequency stay, and nothing else is above -115 dB."""
        source, target = rates
        nyquist = min(rates) / 2
        inner = slice(target // 20, -target // 20)  # 50 ms from the ends
        for name in _resampler_inputs(*rates):
            if not name.startswith("tone"):
                continue
            share = float(name.split()[1])
            got = self.floats(f"resample {rates} {name} 1").astype(np.float64)
            assert len(got) == -(-int(_RESAMPLE_SECONDS * source) * target // source)
            want = np.sin(2 * np.pi * share * nyquist * np.arange(len(got)) / target + 0.3) if share <= 0.9 else 0 * got
            error = np.abs(got - want)[inner].max()
            print(f"{source} to {target} Hz, {name}: {20 * np.log10(error + 1e-12):.0f} dB")
            # An amplitude that is off by 0.01 dB is an error of -59 dB; the bound for images is lower.
            assert error <= 10 ** (_STOP_DB / 20)

    def require_soxr(self, rates: tuple[int, int]) -> None:
        """Checks noise within the passband against soxr's best quality."""
        # From 44.1 kHz, soxr itself differs from an exact tone by -104 dB at 8 kHz and -70 dB at 13 kHz.
        rms_db = -110 if all(rate % 1000 == 0 for rate in rates) else -75
        got = self.floats(f"resample {rates} noise 1")
        want = soxr.resample(_resampler_inputs(*rates)["noise"], *rates, quality="VHQ")
        n = min(len(got), len(want))
        inner = slice(rates[1] // 20, n - rates[1] // 20)
        rms = np.sqrt(np.mean((got[inner] - want[inner]) ** 2) / np.mean(want[inner] ** 2))
        print(f"{rates}: {20 * np.log10(rms):.0f} dB")
        assert abs(len(got) - len(want)) <= 1
        assert rms <= 10 ** (rms_db / 20)

    def require_any_chunks(self) -> None:
        """Checks that resampling in chunks gives exactly the samples of one call."""
        for rates in RESAMPLED:
            for name in _resampler_inputs(*rates):
                whole, parts = (self.floats(f"resample {rates} {name} {n}") for n in (1, len(CHUNKS)))
                assert np.array_equal(whole, parts)

    def require_events(self, seed: int) -> None:
        """Checks that random scores with random settings give this runtime's events."""
        case = _event_case(seed)
        labels = [str(i) for i in range(len(case["on"]))]
        thresholds = zip(labels, case["on"], case["off"], strict=True)
        settings = EventSettings(
            min_duration=case["min_duration"],
            max_gap=case["max_gap"],
            classes={label: {"on": on, "off": off} for label, on, off in thresholds},
        )
        detector = EventDetector(labels, settings)
        want = [e for s in case["steps"] for e in detector.push(np.array(s["scores"]), s["start"], s["end"])]
        want = sorted([*want, *detector.finish()], key=lambda e: (e.start, e.index))
        got = json.loads(self._results[f"events {seed}"].read_text(encoding="utf-8"))
        assert [e["index"] for e in got] == [e.index for e in want]
        assert len(want) > 0
        found, expected = ([[e["start"], e["end"], e["score"]] for e in events] for events in (got, map(vars, want)))
        assert np.allclose(found, expected, rtol=0, atol=1e-6)


def _largest_errors(name: str, got: NDArray[np.floating], want: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the largest errors near the peak and elsewhere, in dB, as the front_end gate bounds them."""
    error, near = np.abs(got - want), near_peak(want)
    at_peak, elsewhere = (float(error[part].max(initial=0.0)) for part in (near, ~near))
    print(f"{name}: near the peak {at_peak:.1e} dB, elsewhere {elsewhere:.1e} dB")
    return at_peak, elsewhere


def _resampler_inputs(source: int, target: int) -> dict[str, NDArray[np.float64]]:
    """Returns tones, named by their share of the lower Nyquist frequency, and noise below 0.85 of it."""
    nyquist, t = min(source, target) / 2, np.arange(int(_RESAMPLE_SECONDS * source)) / source
    shares = (0.05, 0.5, 0.9, 1.0, 1.3, 1.9) if source > target else (0.05, 0.5, 0.9)
    tones = {f"tone {s}": np.sin(2 * np.pi * s * nyquist * t + 0.3) for s in shares if s * nyquist < 0.99 * source / 2}
    noise = 0.1 * np.random.default_rng(1).standard_normal(len(t))
    taps = scipy.signal.firwin(1001, min(0.85 * nyquist, 0.45 * source), fs=source)
    return tones | {"noise": scipy.signal.fftconvolve(noise, taps, mode="same")}


def _event_case(seed: int) -> Json:
    """Returns random walks of scores, with gaps in time, and random settings."""
    rng = np.random.default_rng(seed)
    classes, steps = int(rng.integers(1, 5)), 200
    walk = np.clip(0.4 + np.cumsum(rng.normal(0, 0.15, (steps, classes)), axis=0) % 0.7, 0, 1)
    on = np.round(rng.uniform(0.4, 0.9, classes), 2)
    starts = np.cumsum(np.where(rng.random(steps) < 0.05, 0.5, 0.1))
    return {
        "on": on.tolist(),
        "off": np.round(on * rng.uniform(0.5, 1.0, classes), 2).tolist(),
        "min_duration": round(float(rng.uniform(0, 0.4)), 2),
        "max_gap": round(float(rng.uniform(0, 0.5)), 2),
        "steps": [
            {"start": round(float(s), 3), "end": round(float(s) + 0.1, 3), "scores": np.round(row, 3).tolist()}
            for s, row in zip(starts, walk, strict=True)
        ],
    }
