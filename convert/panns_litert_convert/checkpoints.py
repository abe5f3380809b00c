"""Downloads, checks and loads checkpoints. The hash of a published file is checked before every use."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import requests
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from panns_litert.atomic import remove_unfinished, replacing, writing
from panns_litert.bundle import CACHE_VARIABLE, OWN_WEIGHTS, Source, cache_dir, file_sha256
from panns_litert.errors import CheckpointError, DownloadError, PannsLitertError
from panns_litert.escape import escaped
from panns_litert.frontend import FrontEndSpec, hann, mel_basis
from panns_litert.sense import class_names, require_class_names
from panns_litert.strict import MOST_BYTES, parse_json, printable, read_json, read_text, shown
from panns_litert_convert.facts import OwnFacts, read_facts
from panns_litert_convert.networks import Ast, require_config, require_preprocessor
from panns_litert_convert.state_dicts import COUNTER, find_weights, is_plain, read_file, some
from panns_litert_convert.variants import kind_of_keys, require_variant
from panns_litert_convert.zoo import MODELS, Checkpoint, Model, asset

_LOGGER = logging.getLogger(__name__)

# pooch logs to stderr at INFO. Here a progress bar shows a download, and an exception reports a failure.
pooch.get_logger().setLevel(logging.WARNING)

_RETRIES = 2
_WAIT = 3600.0  # s, for another run's download
# Tensors of a PANNs checkpoint that belong to its front end (torchlibrosa 0.1.0), not to its network.
_FRONT_END_KEYS = {
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
    "logmel_extractor.melW",
}
# Allows for float32 rounding, which differs between versions of librosa, in a checkpoint's front-end tables.
_FRONT_END_TOLERANCE = 1e-5


def checkpoint_path(checkpoint: Checkpoint) -> Path:
    """Returns the path where `fetch` stores a checkpoint."""
    if checkpoint.url is None:
        return asset(checkpoint.file)
    return cache_dir() / "checkpoints" / checkpoint.file


def fetch(model: Model, *, progress: bool = False) -> Path:
    """Returns the path of the model's checkpoint. Downloads it if the cache lacks it, and always checks its hash.

    The file appears in the cache only when it is complete and its hash is right. If no hash is known, it must hold the
    network's weights; its own hash is recorded then, with a warning. An interrupted download is deleted and tried again
    from the start. Of several runs at once, one downloads and the others wait for its file.

    Args:
        model: the registry record.
        progress: whether to draw a progress bar on stderr.

    Raises:
        DownloadError: the weights were never published, or there is no network, no such file, no space on the disk, no
            permission to write to the cache, a wrong hash, or another file than the network's weights.
        CheckpointError: the file in the cache is not the published one.
    """
    checkpoint = model.checkpoint
    if not checkpoint.published:
        raise DownloadError(f"nobody has published weights for {model.network}; pass your own with --checkpoint PATH")
    path = checkpoint_path(checkpoint)
    if checkpoint.url is None or os.path.isfile(path):
        check_hash(path, checkpoint)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not os.path.isfile(path):  # no other run has stored it meanwhile
                _store(model, path, progress=progress)
    except DownloadError:
        raise
    except requests.RequestException as error:
        raise DownloadError(
            f"cannot download {checkpoint.file} from {checkpoint.url}: {_reason(error)}; check the network, "
            "or download it elsewhere and pass --checkpoint PATH"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot store {checkpoint.file} in {path.parent}: {error.strerror or error}; "
            f"free some space or point {CACHE_VARIABLE} elsewhere"
        ) from error
    check_hash(path, checkpoint)
    return path


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other run writes the file, and keeps them away from it in the block."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(writing(path, error=DownloadError))
        except DownloadError:
            _LOGGER.warning("%s: another run is downloading it; waiting for that", path)
            stack.enter_context(writing(path, wait=_WAIT, error=DownloadError))
        yield


def _store(model: Model, path: Path, *, progress: bool) -> None:
    """Downloads a checkpoint to a folder of its own, checks it, and moves it to its path."""
    checkpoint = model.checkpoint
    if os.path.lexists(path):
        raise OSError(errno.EEXIST, f"{path.name} there is no regular file")
    _require_space(path.parent, checkpoint)
    known = checkpoint.sha256 or (f"md5:{checkpoint.md5}" if checkpoint.md5 else None)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed run
    remove_unfinished(_record(path))
    part.mkdir()
    try:
        source = pooch.create(
            path=part,
            base_url="",
            registry={checkpoint.file: known},
            urls={checkpoint.file: checkpoint.url},
            retry_if_failed=_RETRIES,
        )
        source.fetch(checkpoint.file, downloader=partial(_download, checkpoint, progress))
        file = part / checkpoint.file
        if known is None:
            load_weights(model.build(), file, model)
            record = _record(path)
            with replacing(record) as hash_file:  # first: a file without the record of its hash is refused
                hash_file.write(f"{file_sha256(file)}\n".encode())
            _LOGGER.warning("%s: no published hash is known; its sha256 was recorded in %s", path, record)
        os.replace(file, path)
    except requests.RequestException:  # some are a ValueError, too
        raise
    except ValueError as error:  # the hash, the size or, without a known hash, the content is wrong
        found = f"no {model.network}: {error}" if isinstance(error, CheckpointError) else "wrong hash or size"
        raise DownloadError(
            f"{checkpoint.url} sent another file than {checkpoint.file} ({found.replace(f'{part}{os.sep}', '')}; "
            "nothing was kept); try again later, or log in first if this network asks for it"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(checkpoint: Checkpoint, progress: bool, url: str, output_file: str, source: pooch.Pooch) -> None:
    """Fills pooch's temporary file. pooch calls it for every attempt, then checks the hash and moves the file."""
    pooch.HTTPDownloader(progressbar=progress, timeout=30)(url, output_file, source)
    size = Path(output_file).stat().st_size
    if checkpoint.bytes not in (None, size):
        raise ValueError(f"{size} bytes; expected {checkpoint.bytes}")  # pooch tries again


def _record(path: Path) -> Path:
    """Returns the path of the file beside a checkpoint that holds its sha256 from the first download."""
    return path.with_name(path.name + ".sha256")


def _require_space(folder: Path, checkpoint: Checkpoint) -> None:
    free = shutil.disk_usage(folder).free
    if checkpoint.bytes is not None and free < checkpoint.bytes:
        raise OSError(errno.ENOSPC, f"it needs {checkpoint.bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free")


def _reason(error: BaseException) -> str:
    """Returns the message of the innermost cause, which is the one that a user can act on."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def check_hash(path: Path, checkpoint: Checkpoint) -> None:
    """Checks a file's size and hash against the checkpoint's record.

    Raises:
        CheckpointError: the file is missing, truncated or altered.
    """
    remedy = "delete it and fetch it again" if checkpoint.url else "install the package again"
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file; {remedy}")
    record = _record(path)
    try:
        size = path.stat().st_size
        if checkpoint.bytes is not None and size != checkpoint.bytes:
            raise CheckpointError(f"{path} has {size} bytes; expected {checkpoint.bytes}; {remedy}")
        if checkpoint.sha256 is not None:
            expected, found = checkpoint.sha256, file_sha256(path)
        elif checkpoint.md5 is not None:
            with path.open("rb") as file:
                expected, found = checkpoint.md5, hashlib.file_digest(file, "md5").hexdigest()
        elif record.is_file():
            expected, found = record.read_text(encoding="utf-8", errors="replace").strip(), file_sha256(path)
        else:
            raise CheckpointError(f"{path}: its hash is not known and was never recorded; {remedy}")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; {remedy}") from error
    if found != expected:
        raise CheckpointError(f"{path} was altered: its hash is {found}; expected {expected}; {remedy}")


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_CONFIG, _HUB_PREPROCESSOR = "config.json", "preprocessor_config.json"


def weights_file(path: str | os.PathLike[str]) -> Path:
    """Returns the file of weights for a path: the path itself, or the weights in a folder of a model hub.

    Raises:
        CheckpointError: the folder holds no weights, or this is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise CheckpointError(f"checkpoint {shown(path)}; expected the path of a file or folder")
    path = Path(path)
    if os.path.isdir(path):
        for name in _HUB_FILES:
            if os.path.isfile(path / name):
                return path / name
        raise CheckpointError(f"{printable(path)}: no weights in this folder; expected {' or '.join(_HUB_FILES)}")
    return path


def _require_regular(path: Path, expected: str) -> None:
    """Refuses a FIFO, whose reader would wait for ever, and a device, whose content may have no end."""
    if not os.path.isfile(path):
        what = "not a regular file" if os.path.exists(path) else "no such file"
        raise CheckpointError(f"{printable(path)}: {what}; expected {expected}")


def weights_sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of the file that `weights_file` finds, hexadecimal.

    Raises:
        CheckpointError: there is no such file, or it cannot be read.
    """
    path = weights_file(path)
    _require_regular(path, "a checkpoint")
    try:
        return file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: {error.strerror or error}; expected a checkpoint") from error


def is_official(path: Path, checkpoint: Checkpoint) -> bool:
    """Returns whether a file has the size and hash of the registry's checkpoint."""
    try:
        check_hash(path, checkpoint)
    except CheckpointError:
        return False
    return True


# The key of this project's entry in a .safetensors file's metadata: JSON with the model's name and the classes.
_FACTS = "panns_litert"
_OWN_LABELS, _OWN_DATASET = "labels.txt", "own"


def save_own(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    model: Model,
    classes: Sequence[str],
    facts: OwnFacts | None = None,
) -> None:
    """Writes a network of the user's own classes atomically, with the facts that `model_of` and `facts_of` read.

    Args:
        network: the model's network with `len(classes)` outputs.
        path: a .safetensors file.
        model: the registry record.
        classes: class names, in the order of the outputs.
        facts: all that a fine-tuned checkpoint knows; by default only the name of the base and the classes are written.

    Raises:
        CheckpointError: the weights hold NaN or Inf, or the class names are invalid.
        ResultsError: the file cannot be written.
    """
    require_classes(classes, str(path), error=CheckpointError)
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    if broken := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"NaN or Inf in {some(broken)}; expected finite weights; try a lower learning rate")
    # A single entry, because safetensors writes several in an order that changes from run to run.
    plain = json.dumps({"base": model.name, "labels": list(classes)}, ensure_ascii=False)
    with replacing(path) as file:
        file.write(save(state, {_FACTS: facts.to_json() if facts else plain}))


def model_of(model: Model, checkpoint: str | os.PathLike[str] | None) -> Model:
    """Returns the record that fits a checkpoint: the model's own, or a copy with the classes that `save_own` wrote.

    Raises:
        CheckpointError: the checkpoint was fine-tuned from another model, or its facts or class names are invalid.
    """
    if checkpoint is None or (written := _own_metadata(path := weights_file(checkpoint))) is None:
        return model
    data, where = written
    base = data["base"]
    if base != model.name:
        name = base if isinstance(base, str) and base.isidentifier() else shown(base)
        raise CheckpointError(f"{printable(path)} is a fine-tuned {name}; expected {model.name}; name {name} instead")
    labels = require_classes(data.get("labels"), where, error=CheckpointError)
    facts = read_facts(data, where)
    if facts is not None and facts.front_end != model.front_end:
        raise CheckpointError(f"{where}: another front end than that of {model.name}; expected that; fine-tune again")
    return with_classes(model, labels)


def facts_of(checkpoint: str | os.PathLike[str]) -> OwnFacts | None:
    """Returns what a fine-tuned checkpoint knows about itself; None if it knows at most its base and its classes.

    Raises:
        CheckpointError: its facts are invalid.
    """
    written = _own_metadata(weights_file(checkpoint))
    return None if written is None else read_facts(*written)


def base_of(checkpoint: str | os.PathLike[str]) -> str | None:
    """Returns the name of the model that a checkpoint was fine-tuned from; None for another checkpoint.

    Raises:
        CheckpointError: there is no such file, or its facts are invalid.
    """
    path = weights_file(checkpoint)
    _require_regular(path, "a checkpoint")
    written = _own_metadata(path)
    return None if written is None else str(written[0]["base"])


def _own_metadata(path: Path) -> tuple[dict[str, Any], str] | None:
    """Returns the facts of `save_own`, not yet checked, and their place for messages; None for another file."""
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_FACTS)
    except (SafetensorError, OSError, ValueError):
        return None  # `load_weights` reports what is wrong with the file
    if text is None:
        return None
    where = f"{printable(path)}: its metadata {_FACTS}"
    if len(text) > MOST_BYTES:
        raise CheckpointError(f"{where}: {len(text)} characters; expected at most {MOST_BYTES}")
    facts = parse_json(text, where, error=CheckpointError)
    if not isinstance(facts, dict):
        raise CheckpointError(f"{where}: {shown(facts)}; expected an object with base and labels")
    return None if facts.get("base") is None else (facts, where)


def source_of(model: Model, path: Path) -> Source:
    """Returns the source of weights: as published, as a fine-tuned checkpoint knows it, or unknown.

    Args:
        model: the registry record, as `model_of` returns it.
        path: a file of weights.

    Raises:
        CheckpointError: its facts are invalid.
    """
    record = model.checkpoint
    sha256 = weights_sha256(path)
    if is_official(path, record):
        return Source(
            file=record.file,
            sha256=sha256,
            url=record.url,
            licence=record.licence,
            attribution=record.attribution,
            published_map=model.published_map,
        )
    if (facts := facts_of(path)) is not None:
        return facts.source(escaped(path.name), sha256, network=model.network)
    return Source(
        file=escaped(path.name),
        sha256=sha256,
        url=None,
        licence=OWN_WEIGHTS,
        attribution=OWN_WEIGHTS,
        published_map=None,
    )


def require_classes(names: Any, where: str, *, error: type[PannsLitertError]) -> tuple[str, ...]:
    """Returns the names of a classifier's classes, if they are a list of at least two valid names.

    Raises:
        PannsLitertError: of type `error`.
    """
    if not isinstance(names, (list, tuple)) or len(names) < 2:
        raise error(f"{where}: labels {shown(names)}; expected at least two class names")
    return require_class_names(names, where, error=error)


def with_classes(model: Model, classes: Sequence[str]) -> Model:
    """Returns the model's record with the user's own class names."""
    return replace(model, labels=_OWN_LABELS, dataset=_OWN_DATASET, own_classes=tuple(classes))


def model_for(
    model: Model, checkpoint: str | os.PathLike[str], classes: str | os.PathLike[str] | Sequence[str] | None = None
) -> Model:
    """Returns the record that fits a checkpoint and its class names: the model's own, or a copy with other classes.

    The names are those that `save_own` wrote into the checkpoint, or `id2label` in the config.json of a hub's folder
    (unless they are the placeholders LABEL_0, LABEL_1 …), or `classes`.

    Args:
        model: the registry record.
        checkpoint: as for `load_weights`.
        classes: class names in the order of the outputs, or a file of them, one a line. None: those of the checkpoint,
            or else the model's own.

    Raises:
        CheckpointError: as for `model_of`; or the names are invalid, or `classes` are not those of the checkpoint.
    """
    found = model_of(model, checkpoint)
    names = found.own_classes or _hub_classes(checkpoint)
    where = "the checkpoint"
    if classes is not None:
        if isinstance(classes, (str, os.PathLike)):
            where = printable(classes)
            text = read_text(classes, error=CheckpointError, what="class names, one a line", most_bytes=MOST_BYTES)
            given = class_names(text, where, error=CheckpointError)
        else:
            given, where = require_class_names(tuple(classes), "classes", error=CheckpointError), "classes"
        if names is not None and given != names:
            different = next((i for i, pair in enumerate(zip(given, names, strict=False)) if pair[0] != pair[1]), None)
            what = f"{len(given)} names" if different is None else f"name {different + 1} is {shown(given[different])}"
            there = f"{len(names)} names" if different is None else shown(names[different])
            raise CheckpointError(
                f"{where}: {what}; expected {there}, as the checkpoint says; leave out the class names"
            )
        names = given
    if names is None or names == found.class_names():
        return found
    return with_classes(found, require_classes(list(names), where, error=CheckpointError))


def _hub_classes(checkpoint: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Returns the class names in the config.json of a hub's folder; None if it has none, or placeholders alone."""
    path = weights_file(checkpoint)
    config = path.with_name(_HUB_CONFIG)
    if path.name not in _HUB_FILES or not os.path.lexists(config):
        return None
    data = read_json(config, error=CheckpointError, what="the hub's config.json")
    names = data.get("id2label") if isinstance(data, dict) else None
    if names is None:
        return None
    where = f"{printable(config)}: id2label"
    if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))}:
        raise CheckpointError(f'{where} {shown(names)}; expected a name for every output, "0" … "n-1"')
    ordered = [names[str(i)] for i in range(len(names))]
    if ordered == [f"LABEL_{i}" for i in range(len(names))]:
        return None
    return require_class_names(ordered, where, error=CheckpointError)


def load_weights(network: nn.Module, path: str | os.PathLike[str], model: Model) -> None:
    """Loads a checkpoint into a network. It must hold all of the network's tensors, in any wrapping.

    What was chosen of several copies of the weights, and what was left out, is logged as a warning (`find_weights`).
    PANNs checkpoints also hold the tables of their front end. These must equal those of the model's front end, because
    a network only works with the log-mel that it was trained on.

    Args:
        network: made by `model.build`. It stays unchanged if an error is raised.
        path: a .pth/.pt/.ckpt/.bin file of torch.save, a .safetensors file, or a folder of a model hub. For AST, a
            config.json and a preprocessor_config.json beside the file are checked too.
        model: the registry record.

    Raises:
        CheckpointError: the file is missing, truncated, no checkpoint, or holds code; it is of another network or front
            end, by its tensors, name or hash; several copies of the weights differ; or they hold NaN or Inf.
    """
    path = weights_file(path)
    where = printable(path)
    _require_regular(path, f"a checkpoint such as {model.checkpoint.file}")
    require_variant(path, model, named_by_folder=path.name in _HUB_FILES)
    data = read_file(path, damage=_damage(path, model.checkpoint))
    if isinstance(network, Ast):
        config, preprocessor = path.with_name(_HUB_CONFIG), path.with_name(_HUB_PREPROCESSOR)
        if os.path.lexists(config):
            require_config(config, network)
        if os.path.lexists(preprocessor):
            require_preprocessor(preprocessor, network, model.front_end)
    expected = network.state_dict()
    found = find_weights(data, expected, where=where)
    bad = [key for key, tensor in found.tensors.items() if not is_plain(tensor)] if found else []
    if found is None or bad:
        what = f"holds no state dict{f': {some(bad)} without plain numbers' if bad else ''}"
        raise CheckpointError(
            f"{where}: {what}; expected named tensors, alone or under 'model' as in {model.checkpoint.file}"
        )
    tensors = found.tensors
    front_end = {key: tensors.pop(key) for key in sorted(_FRONT_END_KEYS & set(tensors))}
    for key in [key for key in expected if key.endswith(COUNTER)]:
        tensors.setdefault(key, expected[key])
    _require_keys(where, tensors, expected, model)
    # Converted before the check: a finite float64 weight may overflow the network's dtype.
    tensors = {key: tensor.detach().to(expected[key].dtype) for key, tensor in tensors.items()}
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{where}: NaN or Inf in {some(broken)}; expected finite weights")
    _require_front_end(where, front_end, model.front_end)
    for text in found.notes:
        _LOGGER.warning("%s: %s", where, text)
    network.load_state_dict(tensors, strict=True)


def _damage(path: Path, checkpoint: Checkpoint) -> str:
    size = path.stat().st_size
    if checkpoint.bytes is not None and size < checkpoint.bytes:
        return f"truncated or not a checkpoint: {size} bytes, {checkpoint.file} has {checkpoint.bytes}; fetch it again"
    return f"not a checkpoint, or a damaged one; expected a file such as {checkpoint.file}"


def _require_keys(where: str, tensors: dict[str, Tensor], expected: dict[str, Tensor], model: Model) -> None:
    missing = sorted(set(expected) - set(tensors))
    unknown = sorted(set(tensors) - set(expected))
    other = {key: want.shape for key, want in expected.items() if key in tensors and tensors[key].shape != want.shape}
    # Whole numbers are the weights of a quantized network, which need its scales.
    whole = [
        f"{key} {str(tensors[key].dtype).removeprefix('torch.')}"
        for key, tensor in expected.items()
        if key in tensors and tensor.is_floating_point() and not tensors[key].is_floating_point()
    ]
    if other and not missing and not unknown:
        _require_classes_of_head(where, {key: (tensors[key].shape, shape) for key, shape in other.items()}, model)
    if missing or unknown or other:
        shapes = [f"{key} {tuple(tensors[key].shape)} instead of {tuple(shape)}" for key, shape in other.items()]
        parts = [f"missing {some(missing)}"] * bool(missing) + [f"unknown {some(unknown)}"] * bool(unknown)
        parts += [f"shapes: {some(shapes)}"] * bool(shapes)
        raise CheckpointError(
            f"{where}: not the weights of {model.network}: {'; '.join(parts)}{_looks_like(tensors, model)}"
        )
    if whole:
        raise CheckpointError(f"{where}: {some(whole)}; expected floating-point weights, not quantized ones")


def _require_classes_of_head(where: str, shapes: dict[str, tuple[torch.Size, torch.Size]], model: Model) -> None:
    """Refuses weights that differ from the network's in the number of classes alone."""
    classes = len(model.class_names())
    outputs = {found[:1] for found, _ in shapes.values()}
    if len(outputs) == 1 and all(want[:1] == (classes,) and found[1:] == want[1:] for found, want in shapes.values()):
        ((count,),) = outputs
        if model.own_classes is None:
            raise CheckpointError(
                f"{where}: its last layer has {count} outputs, not {classes}; expected the names of its classes: "
                "pass --classes FILE to convert (in Python classes=…), one name a line in the order of the outputs; a "
                "hub's folder may have them as id2label in config.json, also as the base of finetune"
            )
        raise CheckpointError(
            f"{where}: its last layer has {count} outputs; expected {classes}, one for each class name"
        )


def _looks_like(tensors: dict[str, Tensor], model: Model) -> str:
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)}
    if kind := kind_of_keys(set(found)):
        return f"; it is {kind}, which is not implemented"
    for other in MODELS:
        if other.name != model.name:
            with torch.device("meta"):
                state = other.build().state_dict()
            if found == {k: tuple(t.shape) for k, t in state.items() if not k.endswith(COUNTER)}:
                return f"; it looks like {other.name}: convert that"
    return ""


def _require_front_end(where: str, tables: dict[str, Tensor], spec: FrontEndSpec) -> None:
    if not tables:
        return
    phase = 2.0 * np.pi * np.outer(np.arange(spec.bins), np.arange(spec.n_fft)) / spec.n_fft
    window = hann(spec.win_length, spec.n_fft)
    expected: dict[str, NDArray[np.floating]] = {
        "spectrogram_extractor.stft.conv_real.weight": (np.cos(phase) * window)[:, None, :],
        "spectrogram_extractor.stft.conv_imag.weight": (-np.sin(phase) * window)[:, None, :],
        "logmel_extractor.melW": mel_basis(spec).T,
    }
    for key, table in tables.items():
        want = expected[key]
        if (
            tuple(table.shape) != want.shape
            or not np.abs(table.detach().double().numpy() - want).max() <= _FRONT_END_TOLERANCE
        ):
            raise CheckpointError(
                f"{where}: {key} is not that of the model's front end ({spec.sample_rate} Hz, n_fft {spec.n_fft}, "
                f"{spec.n_mels} mels {spec.fmin:g}–{spec.fmax:g} Hz); expected the checkpoint of that front end"
            )
