"""Measures which thresholds are good defaults for events: sweeps `on` and `off` over recordings with known events.

The recordings are clips of ESC-10 without their quiet ends, joined with gaps of 2 to 15 s over pink noise. mn04 tags
windows with a hop of 1 s. Each class of ESC-10 is a group of AudioSet classes. Figures are micro averages, for folds 1
and 2 and for folds 3 and 4.

- F1: an event is right if it overlaps a true event of its class; each true event counts once. seg F1: the same for
  whole seconds.
- all/min: events per minute of AudioSet's 527 classes, without groups. other/min: events per minute of classes that
  are neither in a group, nor above or below one in the ontology, nor the noise of the gaps.
- strict F1: F1 if each of the other events is a false alarm. mean F1: the mean of the three.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.events import EventDetector, EventSettings, Step, WindowSteps
from panns_litert.measure import insert, markdown
from panns_litert.sense import Ontology, Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import windows
from panns_litert_convert.convert import convert

GROUPS = {
    "dog_bark": ("Dog", "Bark", "Bow-wow", "Growling", "Whimper (dog)"), "sea_waves": ("Waves, surf", "Ocean"),
    "rain": ("Rain", "Raindrop", "Rain on surface"), "sneeze": ("Sneeze",), "helicopter": ("Helicopter",),
    "baby_cry": ("Baby cry, infant cry", "Crying, sobbing", "Babbling"), "clock_tick": ("Tick-tock", "Clock", "Tick"),
    "rooster": ("Chicken, rooster", "Crowing, cock-a-doodle-doo"), "chainsaw": ("Chainsaw",),
    "fire_crackling": ("Crackle", "Fire"),
}  # fmt: skip
BETWEEN = {"Silence", "Noise", "Static", "White noise", "Pink noise"}  # classes of the gaps
WINDOWS, RATIOS, HOP, RATE = (10.0, 5.0, 2.0), (0.4, 0.5, 0.6, 0.67, 0.8, 1.0), 1.0, 32000
PAIRS = [EventSettings(on=k / 10, off=round(k / 10 * ratio, 2)) for k in range(1, 8) for ratio in RATIOS]
CLIPS_A_RECORDING, GAP_SECONDS, QUIET_DBFS, NOISE_DBFS, SEED = 20, (2.0, 15.0), -60.0, -50.0, 0
LEVEL_DBFS = -20.0
SHOWN = ("0.1/0.05", "0.2/0.1", "0.3/0.15", "0.3/0.2", "0.4/0.2", "0.5/0.25", "0.5/0.3")
"""Pairs in the document: off is half of on, and the defaults of earlier versions."""
MARKER = "event-defaults"
Sound = tuple[float, float, str]  # start and end in seconds, class of ESC-10
Recording = tuple[NDArray[np.float32], list[Sound]]  # samples (n,) at RATE, and what is to be found in them


def recordings(audio: Path) -> Iterator[tuple[int, Recording]]:
    """Yields fold and recording; each clip is in one recording, in random order."""
    rows = list(csv.DictReader((audio / "esc10.csv").read_text(encoding="utf-8").splitlines()))
    rng = np.random.default_rng(SEED)
    for fold in range(1, 5):
        clips = rng.permutation([(row["file"], row["labels"]) for row in rows if row["fold"] == str(fold)])
        for k in range(0, len(clips), CLIPS_A_RECORDING):
            yield fold, joined(((audio / file, label) for file, label in clips[k : k + CLIPS_A_RECORDING]), rng)


def joined(
    clips: Iterable[tuple[Path, str]], rng: np.random.Generator, *, snr: float | None = None, level: bool = False
) -> Recording:
    """Joins clips (file, label), with a gap before, between and after them, and noise throughout.

    Args:
        clips: files and labels.
        rng: draws the gaps and the noise.
        level: whether to give every clip the level LEVEL_DBFS. Otherwise the clips keep their levels, and the noise has
            NOISE_DBFS.
        snr: with `level`, the level of the clips above the noise, dB; None for no noise.
    """
    pieces, truth, at, block = [], [], 0, RATE // 50
    for path, label in clips:
        wave, gap = load_audio(path, sample_rate=RATE).waveform, round(RATE * rng.uniform(*GAP_SECONDS))
        power = np.square(wave[: len(wave) // block * block].reshape(-1, block), dtype=np.float64).mean(axis=1)
        loud = np.flatnonzero(power > 10 ** (QUIET_DBFS / 10))
        wave = wave[loud[0] * block : (loud[-1] + 1) * block]  # short sounds are padded with digital silence
        if level:
            wave = wave * (10 ** (LEVEL_DBFS / 20) / np.sqrt(np.square(wave, dtype=np.float64).mean()))
        truth.append(((at + gap) / RATE, (at + gap + len(wave)) / RATE, str(label)))
        pieces += [np.zeros(gap, np.float32), wave]
        at += gap + len(wave)
    samples = np.concatenate([*pieces, np.zeros(round(RATE * rng.uniform(*GAP_SECONDS)), np.float32)])
    white = rng.standard_normal(len(samples))  # drawn in any case, so that the gaps are the same with and without noise
    if level and snr is None:
        return samples.clip(-1, 1).astype(np.float32), truth
    spectrum = np.fft.rfft(white)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), len(samples))
    noise_dbfs = NOISE_DBFS if snr is None else LEVEL_DBFS - snr
    return (samples + 10 ** (noise_dbfs / 20) / noise.std() * noise).clip(-1, 1).astype(np.float32), truth


def steps_of(tagger: Tagger, samples: NDArray[np.float32]) -> Iterator[Step]:
    """Yields steps as `EventStream` makes them, with the scores of the groups, then of all classes."""
    sense, steps = Sense(tagger.labels, groups=GROUPS), WindowSteps(window=tagger.bundle.manifest.clip_seconds, hop=HOP)
    for window in windows(tagger, samples, sample_rate=RATE, hop=HOP):
        yield from steps.push(np.concatenate((sense(window.probs), window.probs)))
    yield from steps.finish(len(samples) / RATE)


def counts(steps: list[Step], truth: list[Sound], detector: EventDetector, other: set[str]) -> list[float]:
    """Counts events right, found, true; seconds right, found, true; events of all and of other classes; minutes."""
    events = [event for step in steps for event in detector.push(*step)] + list(detector.finish())
    total, end = np.zeros(6), steps[-1].end
    for label in GROUPS:
        found, true = [(e.start, e.end) for e in events if e.label == label], [s[:2] for s in truth if s[2] == label]
        heard, real = active(found, end), active(true, end)
        total += matches(found, true), len(found), len(true), (heard & real).sum(), heard.sum(), real.sum()
    return [*total, sum(e.label not in GROUPS for e in events), sum(e.label in other for e in events), end / 60]


def matches(found: Sequence[tuple[float, float]], true: Sequence[tuple[float, float]]) -> int:
    """Counts overlapping pairs, each span in at most one. The spans of a class are sorted and disjoint."""
    right = i = k = 0
    while i < len(found) and k < len(true):
        overlap = min(found[i][1], true[k][1]) > max(found[i][0], true[k][0])
        first = found[i][1] <= true[k][1]
        right, i, k = right + overlap, i + (overlap or first), k + (overlap or not first)
    return right


def active(spans: Sequence[tuple[float, float]], end: float) -> NDArray[np.bool_]:
    """Returns for every second whether a span overlaps it: (seconds,), bool."""
    seconds = np.arange(end)
    return np.asarray(np.any([(seconds > a - 1) & (seconds < b) for a, b in spans] or [seconds < 0], axis=0))


def other_classes(labels: Sequence[str]) -> set[str]:
    """Returns the classes that are neither in a group, nor above or below such a class, nor noise."""
    ontology, grouped = Ontology.load(labels), {name for members in GROUPS.values() for name in members}
    within = {label: set(np.array(labels)[ontology.select(allow=[label + "/"])]) for label in labels}
    return {x for x in labels if not within[x] & grouped}.difference(BETWEEN, *(within[name] for name in grouped))


def figures(totals: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Returns columns (windows, pairs, halves) by name, from counts (windows, pairs, halves, 9)."""
    right, found, true, seconds, found_seconds, true_seconds, every, other, minutes = np.moveaxis(totals, -1, 0)
    scores = {"F1": 2 * right / (found + true), "seg F1": 2 * seconds / (found_seconds + true_seconds)}
    scores["strict F1"] = 2 * right / (found + true + other)
    scores["mean F1"] = np.mean(list(scores.values()), axis=0)
    rates = {"all/min": every / minutes, "other/min": other / minutes}
    columns = {"P": right / found, "R": right / true} | scores | rates
    return {name: np.concatenate((values, values.mean(0, keepdims=True))) for name, values in columns.items()}


def main() -> None:
    """Prints a table for each window length and one of their means; writes some rows of the last into a document."""
    shared = Path(__file__).resolve().parents[3] / "shared"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, default=shared / "audio/esc10", help="folder with esc10.csv")
    parser.add_argument("--weights", type=Path, default=shared / "weights/mn04_as_mAP_432.pt", help="of mn04")
    parser.add_argument("--document", type=Path, help=f"Markdown file; the table goes between its <!-- {MARKER} -->")
    args = parser.parse_args()
    heard, totals = list(recordings(args.audio)), np.zeros((len(WINDOWS), len(PAIRS), 2, 9))
    for w, seconds in enumerate(WINDOWS):
        with tempfile.TemporaryDirectory() as folder:
            tagger = Tagger(convert("mn04", checkpoint=args.weights, seconds=seconds, out=Path(folder) / "mn04"))
            labels, other = (*GROUPS, *tagger.labels), other_classes(tagger.labels)
            for fold, (samples, truth) in heard:
                steps = list(steps_of(tagger, samples))
                for p, pair in enumerate(PAIRS):
                    totals[w, p, (fold - 1) // 2] += counts(steps, truth, EventDetector(labels, pair), other)
    columns, names = figures(totals), [f"{pair.on:g}/{pair.off:g}" for pair in PAIRS]
    for w, title in enumerate((*(f"Windows of {seconds:g} s" for seconds in WINDOWS), "Mean of the three")):
        best = {f: " · ".join(names[p] for p in v[w].argmax(0)) if f.endswith("F1") else "" for f, v in columns.items()}
        rows = [{f: " · ".join(f"{x:#.3g}" for x in v[w, p]) for f, v in columns.items()} for p in range(len(PAIRS))]
        print(f"\n{title}; folds 1 and 2 · folds 3 and 4\n")
        table = [{"on/off": name} | row for name, row in zip(["best", *names], [best, *rows], strict=True)]
        print(markdown(table))
    if args.document is not None:
        insert(args.document, markdown([row for row in table if row["on/off"] in SHOWN]), marker=MARKER)


if __name__ == "__main__":
    main()
