"""Where the time of tagging goes: its parts, each alone, against `tag_long` and `batch` as a whole."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from bundles import bundle
from turns import ESC10, take_turns

from panns_litert import Tagger, tag_long
from panns_litert.frontend import StreamingLogMel

MINUTES = 10
CLIPS = 40
_BLOCK_SECONDS = 1.5  # of a decoded block, as in `panns_litert.audio`


def clips(count: int = CLIPS) -> list[Path]:
    """Returns clips of ESC-10 (Ogg, 5 s, 44.1 kHz), an equal share of every class."""
    found = sorted(ESC10.glob("*/*.ogg"))
    return found[:: max(1, len(found) // count)][:count]


def long_recordings(folder: Path) -> dict[str, Path]:
    """Writes recordings of MINUTES made of the clips of ESC-10, at 44.1 kHz, to a folder. Returns them by name."""
    rate, parts = 44100, []
    for clip in clips(120):
        samples, found = soundfile.read(clip, dtype="float32")
        assert found == rate
        parts.append(samples)
    mono = np.resize(np.concatenate(parts), MINUTES * 60 * rate)
    kinds = {
        f"WAV, stereo, {MINUTES} min": ("stereo.wav", np.stack([mono, np.roll(mono, 31)], axis=1), {}),
        f"WAV, mono, {MINUTES} min": ("mono.wav", mono, {}),
        f"MP3, mono, {MINUTES} min": ("mono.mp3", mono, {"format": "MP3"}),
    }
    for name, samples, options in kinds.values():
        soundfile.write(folder / name, samples, rate, **options)
    return {what: folder / name for what, (name, _, _) in kinds.items()}


class Parts:
    """The parts of tagging a list of recordings, as plain calls of the libraries that do the work.

    Args:
        paths: the recordings.
        tagger: the model.
    """

    def __init__(self, paths: list[Path], tagger: Tagger) -> None:
        manifest = tagger.bundle.manifest
        self._paths, self._tagger, self._spec = paths, tagger, manifest.front_end
        self._blocks = [list(self._decoded(path)) for path in paths]
        self._mono = [[block if block.ndim == 1 else block.mean(axis=1) for block in blocks] for blocks in self._blocks]
        self._waves = [list(self._resampled(mono, path)) for mono, path in zip(self._mono, paths, strict=True)]
        self.seconds = sum(sum(map(len, wave)) for wave in self._waves) / self._spec.sample_rate
        shape = manifest.inputs[0].shape
        frames = [np.concatenate([*self._frames(wave)]) for wave in self._waves]
        self._inputs = []
        for logmel in frames:
            for start in range(0, len(logmel), shape[2]):
                part = logmel[start : start + shape[2]]
                if start == 0 or len(part) > shape[2] // 20:
                    self._inputs.append(np.resize(part, shape[2:])[None, None])

    @staticmethod
    def _decoded(path: Path) -> Iterator[Any]:
        with soundfile.SoundFile(path) as file:
            yield from file.blocks(int(_BLOCK_SECONDS * file.samplerate), dtype="float32")

    def _resampled(self, mono: list[Any], path: Path) -> Iterator[Any]:
        rate = soundfile.info(path).samplerate
        stream = soxr.ResampleStream(rate, self._spec.sample_rate, 1, dtype="float32", quality="HQ")
        for number, block in enumerate(mono, 1):
            yield stream.resample_chunk(block, last=number == len(mono))

    def _frames(self, wave: list[Any]) -> Iterator[Any]:
        """Yields the log-mel, at least that of a whole window."""
        stream, heard = StreamingLogMel(self._spec, basis=self._tagger.bundle.mel_basis), sum(map(len, wave))
        for block in wave:
            yield stream.push(block)
        least = self._tagger.bundle.manifest.clip_samples
        if heard < least:
            yield stream.push(np.zeros(least - heard, np.float32))
        yield stream.finish()

    def decode(self) -> None:
        for path in self._paths:
            for _ in self._decoded(path):
                pass

    def mix(self) -> None:
        for blocks in self._blocks:
            for block in blocks:
                if block.ndim > 1:
                    block.mean(axis=1)

    def resample(self) -> None:
        for mono, path in zip(self._mono, self._paths, strict=True):
            for _ in self._resampled(mono, path):
                pass

    def logmel(self) -> None:
        for wave in self._waves:
            for _ in self._frames(wave):
                pass

    def model(self) -> None:
        for values in self._inputs:
            self._tagger.run(values)

    def whole(self) -> None:
        for path in self._paths:
            tag_long(self._tagger, path)

    def candidates(self) -> dict[str, Callable[[], object]]:
        """Returns the parts and the whole by name."""
        names = ("decode", "mix", "resample", "logmel", "model", "whole")
        return {name: getattr(self, name) for name in names}


def pipeline(rounds: int) -> list[dict[str, Any]]:
    """Where the CPU time of `tag_long` with mn04 goes, ms for 10 s of sound: each part alone, and the whole."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        tagger = Tagger(bundle("mn04"), threads=1)
        kinds = {f"Ogg, mono, {CLIPS} clips of 5 s": clips()}
        kinds |= {what: [path] for what, path in long_recordings(Path(name)).items()}
        for what, paths in kinds.items():
            parts = Parts(paths, tagger)
            times = take_turns(parts.candidates(), max(2, rounds // 3), runs=1, clock=time.process_time)
            each = {part: 10 * ms / parts.seconds for part, ms in times.items()}
            whole = each.pop("whole")
            rows.append(
                {"what": what, **each, "rest": whole - sum(each.values()), "tag_long": whole}
                | {"ratio": whole / sum(each.values()), "recordings/core s": 1e3 * len(paths) / times["whole"]}
            )
    return rows
