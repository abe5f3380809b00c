"""The training data of a network: its inputs, or its embeddings, each computed once and cached on disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.bundle import GraphName, cache_dir
from panns_litert.errors import ResultsError
from panns_litert.evaluate import LabelledClip, Scorer
from panns_litert.frontend import FrontEndSpec, LogMel
from panns_litert_convert.networks import AudioTagger


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread in the block: on two, small networks are ten times slower if others use the cores."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


class ClipInput:
    """Makes a network's input from a clip, exactly as `Tagger` does: the first seconds, padded as the front end pads.

    Args:
        spec: the network's front end.
        graph: the network's input: "logmel", (1, 1, frames, mels), or "waveform", (1, samples).
        seconds: length of the clip.
    """

    def __init__(self, spec: FrontEndSpec, *, graph: GraphName, seconds: float) -> None:
        self.seconds, self._graph, self._logmel = seconds, graph, LogMel(spec)

    def __call__(self, clip: LabelledClip) -> NDArray[np.float32]:
        """Returns the network's input for a clip, float32.

        Raises:
            AudioError: the file cannot be used.
        """
        rate = self._logmel.spec.sample_rate
        return self.of_samples(clip.read(sample_rate=rate, max_seconds=self.seconds).waveform)

    def of_samples(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the network's input for samples (n,) at the front end's rate, at most as many as the clip has."""
        spec = self._logmel.spec
        samples = np.zeros(spec.samples(self.seconds), np.float32)
        samples[: len(waveform)] = waveform
        if self._graph == "waveform":
            return samples[None]
        if spec.padded_frames is not None:  # the front end pads the log-mel, not the samples
            samples = samples[: max(len(waveform), spec.least_samples)]
        return np.ascontiguousarray(self._logmel(samples)[None, None], np.float32)


def of_network(network: AudioTagger, inputs: ClipInput, output: str) -> Scorer:
    """Returns a function that gives an output (dim,) of a network in eval mode: "probs" or "embedding"."""

    def scorer(clip: LabelledClip) -> NDArray[np.float32]:
        with torch.inference_mode(), one_thread():
            # One clip at a time: in a batch the last bits would depend on the clip's neighbours.
            return np.asarray(network(torch.from_numpy(inputs(clip)))[output][0].numpy())

    return scorer


_DIGEST = hashlib.sha256().digest_size


class FeatureCache:
    """Caches arrays of clips on disk, by what is heard in the clip and everything else that the array depends on.

    Behind the array, a file has the SHA-256 of the rest, which shows damage.

    Args:
        make: computes the array of a clip.
        key: all that `make` depends on besides the clip, as JSON types.

    Attributes:
        folder: of the cached files; any of them may be deleted.
    """

    def __init__(self, make: Callable[[LabelledClip], NDArray[np.float32]], *, key: dict[str, object]) -> None:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        self.folder, self._make = cache_dir() / "features" / name, make

    def path(self, clip: LabelledClip) -> Path:
        """Returns the path of a clip's array."""
        return self.folder / f"{clip.key}.npy"

    def __call__(self, clip: LabelledClip) -> NDArray[np.float32]:
        """Returns the array of a clip, and computes it if its file is missing or damaged.

        Raises:
            AudioError: the clip cannot be used.
            ResultsError: the cache cannot be written.
        """
        path = self.path(clip)
        try:
            data = path.read_bytes() if os.path.isfile(path) else b""
        except OSError:
            data = b""
        content, digest = data[:-_DIGEST], data[-_DIGEST:]
        if hashlib.sha256(content).digest() == digest:
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), np.float32)
        values = np.asarray(self._make(clip), np.float32)  # missing, or damaged
        made = io.BytesIO()
        np.save(made, values, allow_pickle=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResultsError(f"{self.folder}: {error.strerror}; expected a folder that can be written") from error
        with replacing(path) as file:
            file.write(made.getvalue() + hashlib.sha256(made.getvalue()).digest())
        return values
