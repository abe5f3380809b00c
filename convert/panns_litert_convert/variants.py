"""What a checkpoint's name, hash or keys say about networks that their tensors' shapes do not tell apart.

The published variants of EfficientAT's mn10 have its tensors, and were trained with another hop or number of mels. So
have Cnn14, Cnn14_16k and Cnn14_8k. With another log-mel than that of its training a network computes something, and
nothing shows that it is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from panns_litert.bundle import cache_dir, file_sha256
from panns_litert.errors import CheckpointError
from panns_litert.strict import printable
from panns_litert_convert.networks import MobileNetV3
from panns_litert_convert.zoo import MODELS, Checkpoint, Model

_START, _END = r"(?<![a-z0-9])", r"(?![a-z0-9])"  # of a word in a file's name; "_" divides words
# "hop_15", "hop15" and "hop_15ms" are milliseconds, "hop_size_480" is samples.
_HOP = re.compile(rf"{_START}hop(?:_?(?:size|length))?[_=-]?(\d{{1,5}})(?:_?ms)?{_END}")
_MELS = re.compile(rf"{_START}(?:n_?)?mels?(?:_?(?:bins|bands))?[_=-]?(\d{{1,5}}){_END}|{_START}(\d{{1,5}})mels?{_END}")
_STRIDES = re.compile(rf"{_START}s([12]{{4}}){_END}")
_IMAGENET = re.compile(r"mn\d\d_im(?:_pytorch)?")
_SAMPLES = 100
"""From this number on, a hop in a name is samples."""


def require_variant(path: Path, model: Model, *, named_by_folder: bool = False) -> None:
    """Refuses a checkpoint whose name or hash is that of another log-mel or network than the model's.

    Args:
        path: the file. A name that says nothing is accepted: then the caller knows which model it is.
        model: the registry record that the weights are for.
        named_by_folder: whether the folder's name counts, because all files of that kind have the same name.

    Raises:
        CheckpointError: the file belongs to another model, or to none of the registry.
    """
    name = (_hub_folder(path) if named_by_folder else path).name.casefold()
    if model.architecture is MobileNetV3:
        _require_efficientat(name, printable(path), model)
    if (twin := _twin_of_name(name, model) or _twin_of_hash(path, model)) is not None:
        raise CheckpointError(f"{printable(path)}: this is {twin.name}, with another log-mel: convert that")


def _hub_folder(path: Path) -> Path:
    """Returns the folder that names a hub's model. In the hub's cache it is above snapshots/REVISION."""
    folder = path.absolute().parent
    return folder.parent.parent if folder.parent.name == "snapshots" else folder


def kind_of_keys(keys: Iterable[str]) -> str | None:
    """Returns which network of EfficientAT, not in the registry, has these keys, in words; None if it is none."""
    known = set(keys)
    if {"in_c.0.weight", "layers.0.depth_norm.weight"} & known:
        return "a dynamic MobileNet (DyMN)"
    if "features.0.0.weight" in known and "classifier.1.running_mean" in known:
        return "EfficientAT with a fully convolutional head (fc)"
    if "features.0.0.weight" in known and any(key.startswith("classifier.subspace_proj") for key in known):
        return "EfficientAT with attention pooling"
    return None


def _twins(model: Model) -> list[Model]:
    """Returns the models with the same network and another log-mel."""
    return [
        other
        for other in MODELS
        if other.architecture is model.architecture
        and other.options == model.options
        and other.front_end != model.front_end
    ]


def _short(model: Model) -> str:
    """Returns the name of a published file without mAP, in lower case."""
    return re.split("[_.]map", Path(model.checkpoint.file).stem.casefold())[0]


def _means(model: Model, name: str) -> bool:
    """Returns whether a file's name has the published name of a model in it.

    Names such as Cnn14 and mn10_as, with which others begin, count only before mAP or at the end: files of
    many networks have them somewhere.
    """
    short = _short(model)
    others = {_short(other) for other in MODELS if other is not model}
    end = r"(?=_map|$)" if any(other.startswith(f"{short}_") for other in others) else _END
    return re.search(f"{_START}{re.escape(short)}{end}", name) is not None


def _twin_of_name(name: str, model: Model) -> Model | None:
    """Returns the model with another log-mel whose published name is in a file's name."""
    stem = re.sub(r"\.(?:pth?|ckpt|bin|safetensors)$", "", name)
    found = [other for other in MODELS if _means(other, stem)]
    longest = max(found, key=lambda other: len(_short(other)), default=model)
    return longest if longest in _twins(model) else None


def _twin_of_hash(path: Path, model: Model) -> Model | None:
    """Returns the model with another log-mel whose published file this is."""
    hashes = {known: twin for twin in _twins(model) if (known := _sha256(twin.checkpoint)) is not None}
    return hashes.get(file_sha256(path)) if hashes else None


def _sha256(checkpoint: Checkpoint) -> str | None:
    """Returns the known hash of a published file, or the one that its download recorded."""
    record = cache_dir() / "checkpoints" / f"{checkpoint.file}.sha256"
    if checkpoint.sha256 is None and record.is_file():
        return record.read_text(encoding="utf-8", errors="replace").strip()
    return checkpoint.sha256


def _require_efficientat(name: str, where: str, model: Model) -> None:
    """Refuses a file whose name says that it is another network of EfficientAT."""
    spec = model.front_end
    hops = [int(found) for found in _HOP.findall(name)]
    hop_lengths = [hop if hop >= _SAMPLES else hop * spec.sample_rate // 1000 for hop in hops]
    mels = [int(after or before) for after, before in _MELS.findall(name)]
    if set(hop_lengths) - {spec.hop_length} or set(mels) - {spec.n_mels}:
        said = ", ".join([f"a hop of {hop} samples" for hop in hop_lengths] + [f"{n} mels" for n in mels])
        wanted = {(hop, n) for hop in hop_lengths or [320] for n in mels or [128]}
        fits = [twin for twin in _twins(model) if {(twin.front_end.hop_length, twin.front_end.n_mels)} == wanted]
        remedy = f"this is {fits[0].name}: convert that" if fits else "no model here has that log-mel"
        own = f"{model.name} has a hop of {spec.hop_length} and {spec.n_mels} mels"
        raise CheckpointError(f"{where}: its name says {said}; {own}; {remedy}")
    if (strides := _STRIDES.search(name)) and strides[1] != "2222":
        raise CheckpointError(
            f"{where}: its name says strides of {', '.join(strides[1])}; expected 2, 2, 2, 2: the only ones implemented"
        )
    if _IMAGENET.fullmatch(name.rpartition(".")[0]):
        raise CheckpointError(
            f"{where}: weights of ImageNet, whose classifier is not trained; expected weights of AudioSet or your own"
        )
