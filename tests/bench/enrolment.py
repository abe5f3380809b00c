"""Table `enrolment` of evidence.py: how well a class is heard that was enrolled from a few clips."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from esc10 import Evidence
from numpy.typing import NDArray

from panns_litert.audio import AudioWarning, load_audio
from panns_litert.bundle import Bundle
from panns_litert.demo import demo_clips
from panns_litert.evaluate import Dataset
from panns_litert.prototypes import THRESHOLD_SCORE, Prototype, Prototypes, score_of_cosine
from panns_litert.search import clip_embeddings
from panns_litert.tagger import Tagger
from panns_litert.windows import event_hop
from panns_litert.windows import windows as windows_of

SECONDS = (2.0, 5.0, 10.0)
COUNTS = (1, 3, 5, 10)
DRAWS = 10
BACKGROUND_CLASSES = 4
LEARN, TEST = ("1", "2"), ("3", "4")
MARGIN = 1.0  # seconds at both ends of a clip in the joined recording, whose windows do not count

Vectors = NDArray[np.float32]


@dataclass
class Clip:
    """A labelled clip: its embeddings as `enroll` makes them, and as `tag` and `events` hear its windows."""

    label: str
    fold: str
    learnt: Vectors
    alone: Vectors
    weights: NDArray[np.float64]  # of the windows in the mean of `tag`
    joined: Vectors


def enrolment(evidence: Evidence) -> list[dict[str, Any]]:
    """Precision and recall of a class that was enrolled from a few clips, mn04 at fp16, by window and background.

    Every class of ESC-10 is enrolled alone, from clips of folds 1 and 2 that are drawn at random. The test clips are
    those of folds 3 and 4: the class's own, and as negatives those of the nine other classes. The background is the
    package's demo clips, or the clips of folds 1 and 2 of four other classes, so that five classes are heard for the
    first time in the test. A test clip is heard alone, as by `tag`, or in a recording of all test clips joined in
    random order, as by `events`: there, the class counts as heard if the score of a window reaches 0.5 whose centre is
    in the middle 3 s of the clip, so that longer windows also hold its neighbours. Means over the classes and 10 draws,
    ± the standard deviation over the draws.
    """
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # some clips of ESC-10 are a little above full scale
        for seconds in SECONDS:
            evidence.say(f"enrolment, windows of {seconds:g} s")
            rows += map(shown, measure(evidence.bundle(seconds=seconds), evidence.data, DRAWS))
    return rows


def heard(tagger: Tagger, data: Dataset) -> list[Clip]:
    """Returns labelled clips as a model hears them."""
    rows = data.clips
    clips = []
    for row in rows:
        path, covered, alone, weights = row.path, 0.0, [], []
        for window in windows_of(tagger, path):
            alone.append(window.embedding)
            weights.append(window.end - max(window.start, covered))
            covered = window.end
        learnt = clip_embeddings(tagger, path)[0]
        weighted = np.array(weights) / sum(weights)
        empty = np.zeros((0, 0), np.float32)
        clips.append(Clip(row.labels[0], str(row.fold), learnt, np.stack(alone), weighted, empty))
    rate = tagger.bundle.manifest.front_end.sample_rate
    order = [int(k) for k in np.random.default_rng(0).permutation(len(rows)) if rows[k].fold in TEST]
    parts = [load_audio(rows[k].path, sample_rate=rate).waveform for k in order]
    ends = np.cumsum([len(part) for part in parts]) / rate
    spans = [(end - len(part) / rate + MARGIN, end - MARGIN) for end, part in zip(ends, parts, strict=True)]
    found: list[list[Vectors]] = [[] for _ in order]
    for window in windows_of(tagger, np.concatenate(parts), sample_rate=rate, hop=event_hop(tagger)):
        centre = (window.start + window.end) / 2
        for place, (start, end) in enumerate(spans):
            if start <= centre <= end:
                found[place].append(window.embedding)
    for k, embeddings in zip(order, found, strict=True):
        clips[k].joined = np.stack(embeddings) if embeddings else np.zeros((0, learnt.shape[1]), np.float32)
    return clips


def scores(one: Prototype, vectors: Vectors) -> NDArray[np.float64]:
    """Returns the scores (windows,) of embeddings."""
    norms = np.linalg.norm(vectors, axis=1)
    found = score_of_cosine(
        vectors @ one.mean / np.where(norms > 0, norms, 1.0), threshold=one.threshold, scale=one.scale
    )
    return np.where(norms > 0, found, 0.0)


def precision_and_recall(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns both; the precision is NaN if nothing was found."""
    hits = int((truth & found).sum())
    return (hits / int(found.sum()) if found.any() else float("nan")), hits / int(truth.sum())


def measure(bundle: Bundle, data: Dataset, draws: int) -> list[dict[str, Any]]:
    """Returns a bundle's rows: one for every number of clips and background."""
    tagger = Tagger(bundle)
    clips = heard(tagger, data)
    demo = np.concatenate([clip_embeddings(tagger, path)[0] for path in demo_clips()])
    empty = Prototypes.of_bundle(bundle)
    classes = sorted({clip.label for clip in clips})
    tests = [clip for clip in clips if clip.fold in TEST]
    rows = []
    for count in COUNTS:
        figures: dict[str, list[list[tuple[float, ...]]]] = {"demo clips": [], "4 other classes": []}
        for draw in range(draws):
            rng = np.random.default_rng([count, draw])
            for found in figures.values():
                found.append([])
            for name in classes:
                own = [clip.learnt for clip in clips if clip.fold in LEARN and clip.label == name]
                chosen = [own[int(k)] for k in rng.choice(len(own), count, replace=False)]
                others = rng.choice([label for label in classes if label != name], BACKGROUND_CLASSES, replace=False)
                known = [clip.learnt for clip in clips if clip.fold in LEARN and clip.label in others]
                for what, background in (("demo clips", demo), ("4 other classes", np.concatenate(known))):
                    one = empty.with_background(background).enroll(name, chosen).classes[0]
                    truth = np.array([clip.label == name for clip in tests])
                    alone = np.array([float(scores(one, clip.alone) @ clip.weights) for clip in tests])
                    joined = np.array([scores(one, clip.joined).max(initial=0.0) for clip in tests])
                    figures[what][-1].append(
                        (
                            *precision_and_recall(truth, alone >= THRESHOLD_SCORE),
                            *precision_and_recall(truth, joined >= THRESHOLD_SCORE),
                        )
                    )
        rows += [
            {
                "model": bundle.manifest.model,
                "precision_of_weights": bundle.manifest.precision,
                "window": bundle.manifest.clip_seconds,
                "clips": count,
                "background": what,
                "draws": draws,
            }
            | summary(np.array(found))
            for what, found in figures.items()
        ]
    return rows


def summary(figures: NDArray[np.float64]) -> dict[str, float]:
    """Returns mean and standard deviation over draws of figures (draws, classes, 4), averaged over the classes."""
    of_draw = np.nanmean(figures, axis=1)
    names = ("precision_alone", "recall_alone", "precision_in_stream", "recall_in_stream")
    means = {name: round(float(value), 4) for name, value in zip(names, of_draw.mean(axis=0), strict=True)}
    spreads = {f"{name}_sd": round(float(value), 4) for name, value in zip(names, of_draw.std(axis=0), strict=True)}
    return means | spreads


def shown(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row of the table."""
    cells = {"window": f"{row['window']:g} s", "clips": str(row["clips"]), "background": row["background"]}
    for where, text in (("alone", "a clip alone"), ("in_stream", "in a stream")):
        for name in ("precision", "recall"):
            mean, spread = row[f"{name}_{where}"], row[f"{name}_{where}_sd"]
            cells[f"{text}: {name}"] = f"{mean:.2f} ± {spread:.2f}"
    return cells
