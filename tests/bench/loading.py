"""Measures how long a recording takes to load, against its decoding and resampling alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from turns import real_recordings, settle_malloc, take_turns

from panns_litert.audio import AudioBlocks, load_audio

RATES = (32000, 16000)
LONG_SECONDS, LONG_RATE = 600, 44100
BLOCK_SAMPLES = 1 << 16  # of all channels, as in `AudioBlocks`


def loading(rounds: int) -> list[dict[str, Any]]:
    """CPU time of real recordings to mono float32: decoding and resampling alone, and all of load_audio."""
    rows = []
    settle_malloc()
    with tempfile.TemporaryDirectory() as folder:
        for name, path in _files(Path(folder)).items():
            mono, source = _decoded(path)
            long = len(mono) > 60 * source
            for rate in RATES:
                times = take_turns(
                    {
                        "decode": lambda p=path: _decoded(p),
                        "resample": lambda m=mono, s=source, r=rate: _resampled(m, s, r),
                        "load_audio": lambda p=path, r=rate: load_audio(p, sample_rate=r),
                        "in blocks alone": lambda p=path, r=rate: _in_blocks(p, r),
                        "AudioBlocks": lambda p=path, r=rate: _all_blocks(p, r),
                    },
                    max(3, rounds // 3) if long else 3 * rounds,
                    runs=1 if long else 7,  # short turns, so that a busy moment of the machine hits all candidates
                    clock=time.process_time,
                )
                rows.append(
                    {
                        "what": name,
                        "Hz": str(rate),
                        "decode_ms": times["decode"],
                        "resample_ms": times["resample"],
                        "load_audio_ms": times["load_audio"],
                        "ratio": times["load_audio"] / (times["decode"] + times["resample"]),
                        "AudioBlocks_ratio": times["AudioBlocks"] / times["in blocks alone"],
                    }
                )
    return rows


def _files(folder: Path) -> dict[str, Path]:
    """Returns recordings by name. The long ones are real recordings one after another, written to a folder."""
    real = real_recordings()
    clips = [path for name, path in real.items() if name not in ("metro station", "speech", "baby")]
    joined = np.concatenate([_decoded(path)[0] for path in clips])
    stereo = np.stack([joined, np.roll(joined, LONG_RATE)], axis=1)
    stereo = np.resize(stereo, (LONG_SECONDS * LONG_RATE, 2))
    found = {
        "Ogg, 5 s, mono": clips[0],
        "MP3, 5 s, mono": real["baby"],
        "WAV of 24 bits, 10 s, mono": real["metro station"],
    }
    for suffix, kind in (("wav", "WAV"), ("mp3", "MP3"), ("flac", "FLAC"), ("ogg", "Ogg")):
        path = folder / f"long.{suffix}"
        with soundfile.SoundFile(path, "w", LONG_RATE, 2) as file:  # libsndfile's Vorbis fails on long writes
            for start in range(0, len(stereo), LONG_RATE):
                file.write(stereo[start : start + LONG_RATE])
        found[f"{kind}, 10 min, stereo"] = path
    return found


def _mean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    if samples.shape[1] == 1:
        return samples[:, 0]
    return samples @ np.full(samples.shape[1], 1 / samples.shape[1], np.float32)


def _decoded(path: Path) -> tuple[NDArray[np.float32], int]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return _mean(samples), rate


def _resampled(mono: NDArray[np.float32], source: int, rate: int) -> NDArray[np.float32]:
    return mono if source == rate else np.asarray(soxr.resample(mono, source, rate, quality="HQ"))


def _in_blocks(path: Path, rate: int) -> int:
    """Decodes and resamples with buffers that are made once."""
    count = 0
    with soundfile.SoundFile(path) as file:
        stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
        block = np.empty((BLOCK_SAMPLES // file.channels, file.channels), np.float32)
        while len(samples := file.read(out=block)):
            count += len(stream.resample_chunk(_mean(samples)))
    return count + len(stream.resample_chunk(np.empty(0, np.float32), last=True))


def _all_blocks(path: Path, rate: int) -> int:
    with AudioBlocks(path, sample_rate=rate) as blocks:
        return sum(map(len, blocks))
