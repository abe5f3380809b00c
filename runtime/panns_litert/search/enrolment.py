"""Enrolment: adds a class to a bundle's prototypes from a few clips and a background of other sounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import writing
from panns_litert.audio import AudioBlocks
from panns_litert.bundle import file_sha256
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError, PrototypeError, why_failed
from panns_litert.prototypes import (
    MOST_BACKGROUND,
    Prototype,
    Prototypes,
    clip_units,
    left_out_cosines,
    prototypes_path,
    require_new_name,
)
from panns_litert.results import Row
from panns_litert.strict import printable
from panns_litert.tagger import Tagger
from panns_litert.windows import StreamTagger
from panns_litert.words import counted

WAIT_SECONDS = 30.0
"""How long `enroll` waits for another one that writes the same file."""

_SILENT_DBFS = -70.0  # a clip below this level has no sound to learn
_QUIET_DB = 30.0  # a window that much below the loudest one of its clip is a pause


@dataclass(frozen=True, kw_only=True)
class Enrolment(Row):
    """What `enroll` did.

    Attributes:
        path: file of the prototypes.
        prototypes: all classes that it has now.
        new: the class that was enrolled.
        heard: number of clips with a window that reaches the threshold if the mean is taken over the other clips; None
            for a single clip.
        background: number of background windows.
        alarms: number of background windows that reach the threshold of the new class.
        own_background: whether the background is the user's, and not the package's demo clips.
        skipped: files that were not used, and why, of the clips and of the background.
        warnings: what was wrong with the other files: file, and text.
    """

    path: Path
    prototypes: Prototypes = field(repr=False)
    new: Prototype
    heard: int | None
    background: int
    alarms: int
    own_background: bool
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]


def enroll(
    tagger: Tagger,
    name: str,
    clips: Sequence[str | os.PathLike[str]],
    *,
    path: str | os.PathLike[str] | None = None,
    background: Sequence[str | os.PathLike[str]] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Enrolment:
    """Adds a class to a file of prototypes. `Prototypes.enroll` says how the threshold is chosen.

    Args:
        tagger: the model.
        name: name of the class, which the model must not have; a class of the file with this name is replaced.
        clips: audio files with the sound. Clips that cannot be used, or that occur twice, are skipped.
        path: file of the prototypes; `prototypes_path` if not given. It is made if there is none.
        background: audio files without the sound, from where the model will be used. It replaces that of the file; if
            neither is given, the package's demo clips are the background. Of many files, `MOST_BACKGROUND` are used.
        progress: called with the number of clips that were heard, and of all clips.

    Raises:
        PrototypeError: the name is not valid or the model's, the file cannot be read or is of another model, or a clip
            is also part of the background.
        AudioError: no clip can be used.
        ResultsError: the file cannot be written.
    """
    target = Path(path) if path is not None else prototypes_path(tagger.bundle)
    require_new_name(name, tagger.bundle)
    known = _known(target, tagger)  # raises before the clips are heard
    own = [Path(clip) for clip in clips]
    other = None if background is None else _spread([Path(clip) for clip in background])
    if other is None and not len(known.background.vectors):
        enrolled = {file_sha256(clip) for clip in own if clip.is_file()}
        other = [clip for clip in demo_clips() if file_sha256(clip) not in enrolled]
    _require_apart(name, own, other or [], known.background.sha256 if other is None else ())
    report = progress or (lambda *_: None)
    total = len(own) + len(other or [])
    heard = _Heard(tagger, own, lambda done: report(done, total))
    others = None if other is None else _Heard(tagger, other, lambda done: report(len(own) + done, total))
    with writing(target, wait=WAIT_SECONDS, error=PrototypeError):
        known = _known(target, tagger)  # read again: others may have added to it
        if others is not None and (background is not None or not len(known.background.vectors)):
            known = known.with_background(np.concatenate(others.vectors), sha256=others.sha256)
        known = known.enroll(name, heard.vectors, sha256=heard.sha256)
        known.write(target)
    new = known.classes[-1]
    left_out = left_out_cosines(clip_units(heard.vectors, known.dim))
    demo = {file_sha256(clip) for clip in demo_clips()}
    return Enrolment(
        path=target,
        prototypes=known,
        new=new,
        heard=None if new.count == 1 else sum(bool(clip.max() >= new.threshold) for clip in left_out),
        background=len(known.background.vectors),
        alarms=int((known.background.vectors @ new.mean >= new.threshold).sum()),
        own_background=not demo.issuperset(known.background.sha256),
        skipped=(*heard.skipped, *(others.skipped if others else ())),
        warnings=(*heard.warnings, *(others.warnings if others else ())),
    )


def clip_embeddings(
    tagger: Tagger, clip: str | os.PathLike[str] | NDArray[np.float32]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Returns the embeddings (windows ≥ 1, dim) of a clip, a file or samples (n,) at the model's rate, and what was
    wrong with it.

    The windows are those that `tag` hears, without overlap. A clip shorter than a window counts twice: padded, as a
    recording of that length is heard, and repeated to fill the window, as a lasting sound is heard in a stream. Windows
    that are more than 30 dB quieter than the clip's loudest one are pauses and left out.

    Raises:
        AudioError: the clip cannot be read, is silent, or the model hears nothing in it.
    """
    manifest = tagger.bundle.manifest
    rate, samples = manifest.front_end.sample_rate, manifest.clip_samples
    start: list[NDArray[np.floating]] = []

    def keep(part: NDArray[np.floating]) -> None:
        if sum(map(len, start)) < samples:
            start.append(part)

    stream = StreamTagger(tagger, hop=manifest.clip_seconds)
    with AudioBlocks(clip, sample_rate=rate, rate=rate if isinstance(clip, np.ndarray) else None) as blocks:
        name = blocks.name
        found = [
            (window.level_dbfs, window.embedding, window.padding_seconds)
            for window in stream.of(blocks, watch=keep)
            if window.unusable is None
        ]
    if not found:
        raise AudioError(f"{name}: no usable samples; expected a clip with the sound")
    loudest = max(level for level, _, _ in found)
    if loudest < _SILENT_DBFS:
        raise AudioError(f"{name}: silent; expected a clip with the sound")
    vectors = [embedding for level, embedding, _ in found if level >= loudest - _QUIET_DB]
    if found[0][2] > 0:
        repeated = np.resize(np.concatenate(start), samples).astype(np.float32)
        vectors.append(tagger.tag(repeated, sample_rate=rate).embedding)
    vectors = [vector for vector in vectors if vector.any()]
    if not vectors:
        raise AudioError(f"{name}: the model hears nothing in it; expected a clip with a sound")
    return np.stack(vectors), blocks.warnings


class _Heard:
    """The embeddings of clips: those that can be used, each file's content once."""

    def __init__(self, tagger: Tagger, clips: Sequence[Path], report: Callable[[int], object]) -> None:
        self.vectors: list[NDArray[np.float32]] = []
        self.sha256: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self.warnings: list[tuple[str, str]] = []
        first: dict[str, Path] = {}
        for done, clip in enumerate(clips, 1):
            try:
                vectors, warnings = clip_embeddings(tagger, clip)
                digest = file_sha256(clip)
                if digest in first:
                    raise AudioError(f"{clip}: the same recording as {first[digest]}")
            except Exception as error:  # of one clip: the others are still heard
                self.skipped.append((str(clip), why_failed(str(clip), error)))
            else:
                first[digest] = clip
                self.vectors.append(vectors)
                self.sha256.append(digest)
                self.warnings += [(str(clip), text) for text in warnings]
            report(done)
        if not self.vectors:
            why = f"; {self.skipped[0][1]}" if self.skipped else "; expected at least one"
            raise AudioError(f"none of {counted(len(clips), 'clip')} can be used{why}")


def _known(path: Path, tagger: Tagger) -> Prototypes:
    if not path.exists():
        return Prototypes.of_bundle(tagger.bundle)
    try:
        known = Prototypes.read(path)
        known.require_model(tagger.bundle)
    except PrototypeError as error:
        text = str(error)
        where = "" if text.startswith(printable(path)) else f"{printable(path)}: "
        raise PrototypeError(f"{where}{text}; move the file away to begin a new one") from error
    return known


def _spread(clips: list[Path]) -> list[Path]:
    kept = np.linspace(0, len(clips) - 1, min(len(clips), MOST_BACKGROUND)).round().astype(int)
    return [clips[i] for i in kept]


def _require_apart(name: str, clips: Sequence[Path], background: Sequence[Path], known: Sequence[str]) -> None:
    other = {file_sha256(clip): str(clip) for clip in background if clip.is_file()}
    other |= dict.fromkeys(known, "the background of an earlier run")
    for clip in clips:
        if clip.is_file() and (same := other.get(file_sha256(clip))):
            raise PrototypeError(
                f"{clip} is a clip of {name!r} and part of the background ({same}); expected a background without it"
            )
