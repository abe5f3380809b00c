"""The same sound twice in a data set: found, kept in one fold, and reported if it is in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from panns_litert.evaluate import Dataset, LabelledClip, Watch, no_watch, one_recording, source_of
from panns_litert.search import MATCH_SPEC, Duplicate, find_duplicates, match_features
from panns_litert.words import counted
from panns_litert_convert.training.features import FeatureCache

_SHOWN = 3  # pairs that a note names
_LEAST_SOURCES = 3  # of a class that `split` gives to every fold


def duplicates_together(dataset: Dataset, *, seconds: float, move: bool = False, watch: Watch = no_watch) -> Dataset:
    """Marks clips that are the same sound as one recording, so that `split` keeps them in one fold.

    It finds a clip again at another gain, in another format, or cut differently; see `find_duplicates`. If two are in
    different folds, `notes` says so. A class whose clips are nearly all one sound is left as it is, and named.

    Args:
        dataset: the clips.
        seconds: length of a clip: what is behind it is not heard.
        move: whether to give clips of different folds that are the same sound the fold of the first one.
        watch: called for every clip.
    """

    def features(clip: LabelledClip) -> NDArray[np.float32]:
        return match_features(clip.read(sample_rate=MATCH_SPEC.sample_rate, max_seconds=seconds).waveform)

    cache = FeatureCache(features, key={"match": MATCH_SPEC.to_dict(), "seconds": seconds})

    def heard() -> Iterator[NDArray[np.float32]]:
        for i, clip in enumerate(dataset.clips):
            watch(_WHAT, i, len(dataset.clips))
            try:
                yield cache(clip)
            except Exception:  # `score` will skip it, and report the reason
                yield np.empty((0, MATCH_SPEC.n_mels), np.float32)
        watch(_WHAT, len(dataset.clips), len(dataset.clips))

    found = find_duplicates(heard(), groups=[source_of(clip) for clip in dataset.clips])
    pairs = [(one.first, one.second) for one in found]
    alike = _classes_of_one_sound(dataset, one_recording(dataset, pairs))
    kept = [pair for pair in pairs if not any(alike.intersection(dataset.clips[i].labels) for i in pair)]
    notes = [*dataset.notes]
    if kept:
        notes.append(_note(dataset, [one for one in found if (one.first, one.second) in kept], move=move))
    if alike:
        notes.append(
            f"nearly all clips of {', '.join(sorted(alike))} are one and the same sound, and were left where they are: "
            "figures of that class only tell whether this sound is known again"
        )
    return replace(one_recording(dataset, kept, move=move), notes=tuple(notes))


def _classes_of_one_sound(dataset: Dataset, marked: Dataset) -> set[str]:
    """Returns the classes that could not be split any more, such as the beep of one device in clean recordings."""

    def sources(data: Dataset, label: str) -> int:
        return len({source_of(clip) for clip in data.clips if label in clip.labels})

    return {label for label in dataset.classes if sources(marked, label) < _LEAST_SOURCES <= sources(dataset, label)}


_WHAT = "clips compared with each other"


def _note(dataset: Dataset, found: Sequence[Duplicate], *, move: bool) -> str:
    """Returns a sentence about the duplicates: those in two folds if there are any."""
    clips = dataset.clips
    apart = [one for one in found if clips[one.first].fold != clips[one.second].fold]
    shown = "; ".join(
        f"{clips[one.first].name}{_fold(clips[one.first])} and {clips[one.second].name}{_fold(clips[one.second])}, "
        f"{one.seconds:.1f} s, correlation {one.score:.2f}"
        for one in (apart or found)[:_SHOWN]
    )
    shown += "; …" if len(apart or found) > _SHOWN else ""
    if not apart:
        return f"the same sound in {counted(len(found), 'pair')} of clips, which are kept in one fold: {shown}"
    if move:
        return f"the same sound in two folds in {counted(len(apart), 'pair')} of clips, put into one fold: {shown}"
    return (
        f"the same sound in two folds in {counted(len(apart), 'pair')} of clips: {shown}. Figures of a held-out fold "
        "are then too high: remove one of each pair, or give both one fold (--move-duplicates)"
    )


def _fold(clip: LabelledClip) -> str:
    return "" if clip.fold is None else f" (fold {clip.fold})"
