"""What a fine-tuned checkpoint knows about itself: JSON in the metadata of its .safetensors file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from panns_litert.bundle import FINE_TUNED, GRAPHS, OWN_WEIGHTS, GraphName, Source
from panns_litert.errors import CheckpointError
from panns_litert.frontend import FrontEndSpec
from panns_litert.sense import require_class_names
from panns_litert.strict import MOST_BYTES, read, shown

MOST_TERMS = 300
"""Most characters of a licence or an attribution."""

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class HeldOutFigures:
    """Figures of PyTorch on the held-out clips.

    Attributes:
        clips: number of clips.
        accuracy, mean_ap: 0 … 1; None if they are not defined for these clips.
    """

    clips: int
    accuracy: float | None
    mean_ap: float | None


@dataclass(frozen=True, kw_only=True)
class OwnFacts:
    """The facts of a fine-tuned checkpoint.

    Attributes:
        base: name of the base in the registry.
        labels: class names, in the order of the outputs.
        seconds: length of a clip, s.
        graph: input of the graph that was requested.
        front_end: how samples become the log-mel.
        weights: the weights of the base. A fine-tuning that began with a fine-tuned checkpoint keeps that one's.
        began_with: SHA-256 of the file that the training began with.
        licences, attributions: the user's own, without those of the base; empty if not stated. Those of the checkpoint
            that the training began with come first.
        clips: number of clips by class and fold.
        clips_sha256: hash of the clips: of their files' hashes, labels and folds.
        settings: of the training, as texts.
        held_out: figures of PyTorch; None if no clip was held out.

    Raises:
        CheckpointError: a value is not possible.
    """

    base: str
    labels: tuple[str, ...]
    seconds: float
    graph: GraphName
    front_end: FrontEndSpec
    weights: Source
    began_with: str
    licences: tuple[str, ...]
    attributions: tuple[str, ...]
    clips: dict[str, dict[str, int]]
    clips_sha256: str
    settings: dict[str, str]
    held_out: HeldOutFigures | None

    def __post_init__(self) -> None:
        require_class_names(self.labels, "labels", error=CheckpointError)
        if not 0.0 < self.seconds < 1e6:
            raise CheckpointError(f"seconds {shown(self.seconds)}; expected the length of a clip")
        if self.graph not in GRAPHS:
            raise CheckpointError(f"graph {shown(self.graph)}; expected one of {', '.join(GRAPHS)}")
        if any(count < 0 for of_fold in self.clips.values() for count in of_fold.values()):
            raise CheckpointError("clips below 0; expected numbers of clips")
        if (of := self.held_out) is not None and (
            of.clips < 1 or any(not 0.0 <= share <= 1.0 for share in (of.accuracy, of.mean_ap) if share is not None)
        ):
            raise CheckpointError("held_out is not possible; expected clips ≥ 1, and accuracy and mean_ap in 0 … 1")
        for digest in (self.began_with, self.clips_sha256, self.weights.sha256):
            if not _SHA256.fullmatch(digest):
                raise CheckpointError(f"sha256 {shown(digest)}; expected 64 hexadecimal digits")
        for text in (*self.licences, *self.attributions, *_texts(self.weights)):
            require_terms(text, "licence or attribution")

    def source(self, file: str, sha256: str, *, network: str) -> Source:
        """Returns the source of a bundle of this checkpoint. It names the licence and the attribution of the base.

        Args:
            file, sha256: of the checkpoint.
            network: name of the base's architecture.
        """
        base, own = self.weights, "; ".join(self.licences)
        licence = base.licence if own in ("", base.licence) else f"{own}; of the base: {base.licence}"
        if not own and base.licence != OWN_WEIGHTS:
            licence = f"not stated; of the base: {base.licence}"
        terms = ", ".join(dict.fromkeys((base.licence, base.attribution)))
        return Source(
            file=file,
            sha256=sha256,
            url=None,
            licence=licence,
            attribution="; ".join([*self.attributions, f"{FINE_TUNED}{network} ({terms})"]),
            published_map=None,
        )

    def to_json(self) -> str:
        """Returns the facts as JSON. The same facts give the same text.

        Raises:
            CheckpointError: the text is longer than `read_facts` takes.
        """
        text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)
        if len(text) > MOST_BYTES:
            raise CheckpointError(f"facts of {len(text)} characters; expected at most {MOST_BYTES}; use fewer classes")
        return text


def read_facts(data: dict[str, Any], where: str) -> OwnFacts | None:
    """Reads facts strictly. Returns None for those of earlier versions, which have only `base` and `labels`.

    Raises:
        CheckpointError: a fact is missing, unknown or not possible.
    """
    if set(data) == {"base", "labels"}:
        return None
    facts: OwnFacts = read(OwnFacts, data, where, error=CheckpointError)
    return facts


def require_terms(text: str, what: str) -> str:
    """Returns a licence or an attribution, if it is one printable line.

    Raises:
        CheckpointError: it is not.
    """
    if not text.strip() or not text.isprintable() or len(text) > MOST_TERMS:
        raise CheckpointError(f"{what} {shown(text)}; expected one line of at most {MOST_TERMS} characters")
    return text


def _texts(source: Source) -> tuple[str, ...]:
    return (source.file, source.licence, source.attribution, *([source.url] if source.url else []))
