"""What a network is taught on: its inputs, or its embeddings, each computed once and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.audio import load_audio
from panns_litert.bundle import cache_dir
from panns_litert.evaluate import LabelledClip, Scorer
from panns_litert.frontend import FrontEndSpec, LogMel
from panns_litert_convert.networks.tagger import AudioTagger


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute on one thread: small networks lose a factor of ten on two where others want a core as well."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


class ClipInput:
    """A file to what a network takes, exactly as `Tagger` makes it: the first seconds, padded as the front end has it.

    Args:
        spec: the network's front end.
        graph: what it takes: "logmel", (1, 1, frames, mels), or "waveform", (1, samples).
        seconds: length of the clip.
    """

    def __init__(self, spec: FrontEndSpec, *, graph: str, seconds: float) -> None:
        self.seconds, self._graph, self._logmel = seconds, graph, LogMel(spec)

    def __call__(self, clip: LabelledClip) -> NDArray[np.float32]:
        """The network's input, float32.

        Raises:
            AudioError: the file cannot be used.
        """
        rate = self._logmel.spec.sample_rate
        return self.of_samples(load_audio(clip.path, sample_rate=rate, max_seconds=self.seconds).waveform)

    def of_samples(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input of samples at the front end's rate, no longer than the clip."""
        spec = self._logmel.spec
        samples = np.zeros(spec.samples(self.seconds), np.float32)
        samples[: len(waveform)] = waveform
        if self._graph == "waveform":
            return samples[None]
        if spec.padded_frames is not None:  # its padding is no silence
            samples = samples[: max(len(waveform), spec.least_samples)]
        return np.ascontiguousarray(self._logmel(samples)[None, None], np.float32)


def of_network(network: AudioTagger, inputs: ClipInput, output: str) -> Scorer:
    """An output (dim,) of a network in eval mode: "probs" or "embedding"."""

    def scorer(clip: LabelledClip) -> NDArray[np.float32]:
        with torch.inference_mode(), one_thread():
            # One clip at a time: in a batch the last bits would depend on the clip's neighbours.
            return np.asarray(network(torch.from_numpy(inputs(clip)))[output][0].numpy())

    return scorer


class FeatureCache:
    """Arrays of clips on disk, by the bytes of the clip's file and by all that the array depends on.

    Args:
        make: computes an array of a clip.
        key: JSON types, all that `make` depends on but the clip.

    Attributes:
        folder: where they are; any of its files may be deleted.
    """

    def __init__(self, make: Callable[[LabelledClip], NDArray[np.float32]], *, key: dict[str, object]) -> None:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        self.folder, self._make = cache_dir() / "features" / name, make

    def path(self, clip: LabelledClip) -> Path:
        """The file of a clip's array."""
        return self.folder / f"{clip.sha256}.npy"

    def __call__(self, clip: LabelledClip) -> NDArray[np.float32]:
        """The array of a clip, computed if it is not there yet or damaged.

        Raises:
            AudioError: the clip cannot be used.
            ResultsError: the cache cannot be written.
        """
        path = self.path(clip)
        try:
            return np.asarray(np.load(path, allow_pickle=False), np.float32)
        except (OSError, ValueError, EOFError):  # not there, or damaged
            values = np.asarray(self._make(clip), np.float32)
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, values, allow_pickle=False)
            return values
