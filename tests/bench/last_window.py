"""Measures what to do with the rest of a recording that does not fill a window: pad it, shift the window, or drop it.

Each recording is made of clips of one class of ESC-10, which is a group of AudioSet classes, and is 1 to 3 windows of
10 s and a tail long. mn04 tags the full windows, and then the tail in three ways: padded with zeros (pad), in a window
that is shifted back so that it ends with the recording (shift), and not at all (drop). All figures are means over the
recordings whose tail is within a range, given in percent of a window.

- accuracy: share of recordings in which the right group has the highest score, under the mean and under the maximum.
- mean off, max off: largest difference of any class's score from that of windows every second, without a tail.
- false top: share of last windows whose highest class is not related to the sound in the recording.
- found: share of recordings, with another sound in the tail, whose group reaches 0.2 under the maximum.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from event_defaults import GROUPS, QUIET_DBFS, RATE
from numpy.typing import NDArray

from panns_litert.audio import load_audio
from panns_litert.measure import insert, markdown
from panns_litert.sense import Ontology, Sense
from panns_litert.tagger import Tagger
from panns_litert_convert.convert import convert

WINDOW = 10 * RATE
RANGES = ((0.1, 1.0), (1.0, 2.0), (2.0, 5.0), (5.0, 10.0), (10.0, 30.0), (30.0, 99.0))
"""Lengths of the tail, percent of a window."""
WAYS, FOUND, SEED = ("pad", "shift", "drop"), 0.2, 0
MARKER = "last-window"
Samples = NDArray[np.float32]


def clips(audio: Path) -> dict[str, list[Samples]]:
    """Returns the clips of each class without their quiet ends."""
    found: dict[str, list[Samples]] = {}
    block = RATE // 50
    for row in csv.DictReader((audio / "esc10.csv").read_text(encoding="utf-8").splitlines()):
        wave = load_audio(audio / row["file"], sample_rate=RATE).waveform
        power = np.square(wave[: len(wave) // block * block].reshape(-1, block), dtype=np.float64).mean(axis=1)
        loud = np.flatnonzero(power > 10 ** (QUIET_DBFS / 10))
        found.setdefault(row["labels"], []).append(wave[loud[0] * block : (loud[-1] + 1) * block])
    return found


def sound(of: list[Samples], length: int, rng: np.random.Generator) -> Samples:
    """Returns random clips one after another, cut to a length in samples."""
    wave = np.empty(0, np.float32)
    while len(wave) < length:
        wave = np.concatenate((wave, of[rng.integers(len(of))]))
    return wave[:length]


def recordings(audio: Path, count: int) -> Iterator[tuple[int, str, Samples, str, Samples]]:
    """Yields range of the tail, class and samples of a recording, and another class in the tail: its name, samples."""
    rng, found = np.random.default_rng(SEED), clips(audio)
    for number in range(count):
        r = number % len(RANGES)
        tail = round(WINDOW * rng.uniform(*RANGES[r]) / 100)
        label, other = rng.choice(list(GROUPS), 2, replace=False)
        whole = sound(found[label], WINDOW * int(rng.integers(1, 4)) + tail, rng)
        mixed = whole.copy()
        mixed[-tail:] = sound(found[other], tail, rng)
        yield r, str(label), whole, str(other), mixed


def related(labels: tuple[str, ...]) -> dict[str, set[str]]:
    """Returns for each group its classes and those above and below them."""
    ontology = Ontology.load(labels)
    within = {label: set(np.array(labels)[ontology.select(allow=[label + "/"])]) for label in labels}
    return {
        name: {x for x in labels if within[x] & set(members)}.union(*(within[member] for member in members))
        for name, members in GROUPS.items()
    }


def figures(tagger: Tagger, audio: Path, count: int) -> NDArray[np.float64]:
    """Returns figures (ranges, ways, 6): accuracy of mean, of max; mean off, max off; false top; found."""
    groups, names = Sense(tagger.labels, groups=GROUPS), list(GROUPS)
    relatives = related(tagger.labels)

    def tag(samples: Samples) -> NDArray[np.float32]:
        return tagger.tag(samples, sample_rate=RATE).probs

    totals, counts = np.zeros((len(RANGES), len(WAYS), 6)), np.zeros((len(RANGES), 1, 1))
    for r, label, whole, other, mixed in recordings(audio, count):
        end = len(whole) // WINDOW * WINDOW
        full = [tag(whole[at : at + WINDOW]) for at in range(0, end, WINDOW)]
        dense = np.stack([tag(whole[at : at + WINDOW]) for at in range(0, len(whole) - WINDOW + 1, RATE)])
        tail = (len(whole) - end) / WINDOW
        heard = zip(WAYS, (whole[end:], whole[-WINDOW:], None), (mixed[end:], mixed[-WINDOW:], None), strict=True)
        for w, (_, last, altered) in enumerate(heard):
            probs = np.stack([*full, *([] if last is None else [tag(last)])])
            weights = np.array([1.0] * len(full) + ([] if last is None else [tail]))
            mean, most = np.average(probs, axis=0, weights=weights), probs.max(axis=0)
            in_tail = 0.0 if altered is None else groups(tag(altered))[names.index(other)]
            in_full = max(groups(part)[names.index(other)] for part in full)
            totals[r, w] += (
                names[int(groups(mean).argmax())] == label,
                names[int(groups(most).argmax())] == label,
                np.abs(mean - dense.mean(axis=0)).max(),
                np.abs(most - dense.max(axis=0)).max(),
                tagger.labels[int(probs[-1].argmax())] not in relatives[label],
                max(in_tail, in_full) >= FOUND,
            )
        counts[r] += 1
    return totals / counts


def main() -> None:
    """Prints the table, and writes it into a document if one is given."""
    shared = Path(__file__).resolve().parents[3] / "shared"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, default=shared / "audio/esc10", help="folder with esc10.csv")
    parser.add_argument("--weights", type=Path, default=shared / "weights/mn04_as_mAP_432.pt", help="of mn04")
    parser.add_argument("--recordings", type=int, default=600, help="number of recordings (default %(default)s)")
    parser.add_argument("--document", type=Path, help=f"Markdown file; the table goes between its <!-- {MARKER} -->")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tagger = Tagger(convert("mn04", checkpoint=args.weights, seconds=10.0, out=Path(folder) / "mn04"))
        found = figures(tagger, args.audio, args.recordings)
    columns = ("accuracy, mean", "accuracy, max", "mean off", "max off", "false top", "found")
    rows = [
        {"tail": f"{low:g} to {high:g} %"}
        | {name: " · ".join(f"{value:.3f}" for value in found[r, :, c]) for c, name in enumerate(columns)}
        for r, (low, high) in enumerate(RANGES)
    ]
    print(f"{args.recordings} recordings; in each cell: {' · '.join(WAYS)}\n")
    print(markdown(rows))
    if args.document is not None:
        insert(args.document, markdown(rows), marker=MARKER)


if __name__ == "__main__":
    main()
