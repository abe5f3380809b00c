"""What it costs to find the same sound twice among clips, and how many planted copies are found."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from turns import ESC10

from panns_litert.audio import load_audio
from panns_litert.evaluate import read_dataset
from panns_litert.search import MATCH_SPEC, find_duplicates, match_features

_RATE = MATCH_SPEC.sample_rate
_EVERY = 4  # clips of which copies are planted
_CUT = round(1.3137 * _RATE)

Waveform = NDArray[np.float32]


def coded(waveform: Waveform, form: str) -> Waveform:
    """Returns a waveform as a lossy codec gives it back."""
    file = io.BytesIO()
    soundfile.write(file, waveform, _RATE, format=form)
    return load_audio(file.getvalue(), sample_rate=_RATE).waveform


COPIES: dict[str, Callable[[Waveform], Waveform]] = {
    "a fifth of the gain": lambda x: 0.2 * x,
    "MP3": lambda x: coded(x, "MP3"),
    "Ogg Vorbis": lambda x: coded(x, "OGG"),
    "8 kHz": lambda x: soxr.resample(soxr.resample(x, _RATE, _RATE // 2), _RATE // 2, _RATE),
    "1.3 s cut off": lambda x: x[_CUT:],
    "1.3 s cut off, quieter, MP3": lambda x: coded(0.3 * x[_CUT:], "MP3"),
}


def duplicates(_: int) -> list[dict[str, Any]]:
    """Pairs of clips in ESC-10 that are the same sound, planted copies of every fourth clip, and CPU time."""
    if not ESC10.is_dir():
        raise SystemExit("bench: no ../shared/audio/esc10; speed is measured on real recordings only")
    clips = read_dataset(ESC10 / "esc10.csv").clips
    waveforms = [clip.read(sample_rate=_RATE).waveform for clip in clips]
    start = time.process_time()
    features = [match_features(x) for x in waveforms]
    heard = time.process_time()
    pairs = find_duplicates(features)
    seconds = time.process_time() - heard
    apart = sum(clips[one.first].fold != clips[one.second].fold for one in pairs)
    rows = [
        {"what": f"ESC-10, {apart} pairs in two folds", "clips": len(clips), "copies": 0, "found": len(pairs),
         "wrong": 0, "features_s": heard - start, "search_s": seconds}
    ]  # fmt: skip
    known = {(one.first, one.second) for one in pairs}
    # Behind the cut, a clip that ends with silence has nothing to be found by.
    chosen = [i for i, x in enumerate(waveforms) if np.abs(x[_CUT + _RATE :]).max() > 1e-2][::_EVERY]
    origin = [*range(len(features)), *chosen]
    for name, change in COPIES.items():
        start = time.process_time()
        copies = [match_features(change(waveforms[i])) for i in chosen]
        made = time.process_time()
        found = {(one.first, one.second) for one in find_duplicates([*features, *copies])}
        seconds = time.process_time() - made
        planted = {(i, len(features) + k) for k, i in enumerate(chosen)}
        origins = [tuple(sorted((origin[a], origin[b]))) for a, b in found]
        wrong = sum(pair[0] != pair[1] and pair not in known for pair in origins)
        rows.append(
            {"what": f"copies: {name}", "clips": len(features) + len(copies), "copies": len(planted),
             "found": len(found & planted), "wrong": wrong, "features_s": made - start, "search_s": seconds}
        )  # fmt: skip
    return rows
