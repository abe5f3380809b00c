"""The list of all commands: what --help shows, and which module has a command, without an import of that module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        group: heading in --help.
        text: what the command does, one sentence.
        module: module of `panns_litert.cli`, or None.
        extension: entry point of the module in another package, or None. Exactly one of the two is given.
    """

    group: str
    text: str
    module: str | None = None
    extension: str | None = None


_HEAR, _CONVERT, _LEARN, _MEASURE = "hear", "convert and prove", "learn", "measure"

COMMANDS: dict[str, Command] = {
    "tag": Command(_HEAR, "Tag recordings of any length.", "tag"),
    "events": Command(_HEAR, "Find the events in recordings: start, end, label and score.", "events"),
    "listen": Command(_HEAR, "Tag sound from microphones, streams or a pipe as it sounds, and send alerts.", "listen"),
    "serve": Command(_HEAR, "Listen, and show it on a local page: timeline, events, sound, thresholds.", "serve"),
    "labels": Command(_HEAR, "List a model's classes, or AudioSet's ontology of them.", "tag"),
    "plot": Command(_HEAR, "Draw a recording: log-mel, the top classes over time, events.", "picture"),
    "page": Command(_HEAR, "Write one HTML page of recordings: player, timeline, tags, events.", "picture"),
    "batch": Command(_HEAR, "Tag the recordings of a manifest on all cores or a cluster; write Parquet.", "batch"),
    "embed": Command(_HEAR, "Write the embeddings of audio files, window by window.", "match"),
    "similar": Command(_HEAR, "Print how similar two audio files sound, 0 to 1.", "match"),
    "match": Command(_HEAR, "Find parts of one recording in another; needs no model.", "match"),
    "index": Command(_HEAR, "Build an index of audio files and folders, or add to an existing one.", "match"),
    "search": Command(_HEAR, "Find the recordings of an index that sound most like an audio file.", "match"),
    "models": Command(_CONVERT, "List the models that can be converted, or show one of them.", "models"),
    "pull": Command(_CONVERT, "Download a bundle from the Hugging Face hub into its cache, and check it.", "hub"),
    "fetch": Command(_CONVERT, "Download a model's checkpoint and check its hash.", extension="convert"),
    "convert": Command(
        _CONVERT, "Make a bundle from a checkpoint and check the parity of every stage.", extension="convert"
    ),
    "adopt": Command(
        _CONVERT, "Make a bundle of a .tflite that was made elsewhere, with proof or without.", extension="convert"
    ),
    "verify": Command(_CONVERT, "Run every parity stage again for a bundle, and its self-test.", extension="convert"),
    "gpu-check": Command(_CONVERT, "Run a model on the GPU delegate, whole and in float16, and compare.", "gpu"),
    "publish": Command(_CONVERT, "Upload a bundle to the Hugging Face hub, if it passes its self-test here.", "hub"),
    "demo": Command(
        _CONVERT, "Convert the demo checkpoint, check its parity and tag the demo clips.", extension="demo"
    ),
    "enroll": Command(_LEARN, "Add a class to a bundle from a few clips, without training.", "enroll"),
    "finetune": Command(
        _LEARN, "Fine-tune a model on your own classes and make a proven bundle of it.", extension="finetune"
    ),
    "pack": Command(
        _LEARN, "Pack AudioSet's clips into an HDF5 file for `train`, in PANNs' layout.", extension="audioset"
    ),
    "train": Command(_LEARN, "Train a model from scratch on packed clips, as PANNs were.", extension="audioset"),
    "evaluate": Command(_MEASURE, "Measure a bundle on labelled clips: mAP, AUC, d-prime, accuracy.", "evaluate"),
    "bench": Command(
        _MEASURE, "Measure bundles on this device, or join the records of all devices (--report).", "bench"
    ),
}
"""All commands of this distribution, in the order of --help."""
