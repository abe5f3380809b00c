"""Writes frontend.json, log-mels in float64: `python tests/vectors/make_frontend.py`.

A sound is 16-bit samples: chirp, tone, clicks and noise, then silence. The log-mel of every third frame is that of
`float64_logmel`, by its definition, rounded to float32. Both are little-endian in base64.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.frontend import AST_16K, EFFICIENTAT_32K, PANNS_8K, PANNS_16K, PANNS_32K
from panns_litert_convert.references import float64_logmel
from panns_litert_golden.recipe import waveform

VECTORS = Path(__file__).with_name("frontend.json")
SPECS = {
    "PANNs": PANNS_32K, "PANNs 16k": PANNS_16K, "PANNs 8k": PANNS_8K, "EfficientAT": EFFICIENTAT_32K, "AST": AST_16K,
}  # fmt: skip
SECONDS = 0.4
EVERY = 3  # frames


def encoded(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def sound(rate: int) -> NDArray[np.int16]:
    return np.round(waveform(rate, SECONDS) * 32767).astype(np.int16)


def vectors() -> str:
    """Returns the text of frontend.json."""
    sounds = {rate: sound(rate) for rate in sorted({spec.sample_rate for spec in SPECS.values()})}
    cases = []
    for name, spec in SPECS.items():
        logmel = float64_logmel((sounds[spec.sample_rate] / 32768).astype(np.float32), spec)
        filled = logmel[: spec.filled_frames(len(sounds[spec.sample_rate]))]
        cases.append(
            {"name": name, "spec": spec.to_dict(), "frames": len(logmel), "logmel": encoded(filled[::EVERY], "<f4")}
        )
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    made = json.dumps({rate: encoded(samples, "<i2") for rate, samples in sounds.items()})
    return f'{{"every": {EVERY}, "sounds": {made}, "cases": [\n{lines}\n]}}\n'


def unpacked(text: str) -> Any:
    """Returns the data of frontend.json with numbers in place of base64."""
    data = json.loads(text)

    def numbers(packed: str, dtype: str) -> list[float]:
        return np.frombuffer(base64.b64decode(packed), dtype).astype(float).tolist()

    sounds = {rate: numbers(samples, "<i2") for rate, samples in data["sounds"].items()}
    cases = [case | {"logmel": numbers(case["logmel"], "<f4")} for case in data["cases"]]
    return data | {"sounds": sounds, "cases": cases}


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
