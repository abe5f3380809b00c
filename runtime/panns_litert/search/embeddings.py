"""Embeddings: one vector per window of a recording, to be stored and compared."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.audio import AudioBlocks, Recording, Scale
from panns_litert.errors import AudioError, EmbeddingError, MissingDependencyError, importing
from panns_litert.escape import escaped, utf8
from panns_litert.strict import parse_json, shown
from panns_litert.tagger import Tagger
from panns_litert.windows import StreamTagger, audio_chunks
from panns_litert.words import counted

FORMATS = ("npz", "parquet", "npy")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Embeddings:
    """The embeddings of one recording. The values are checked on construction.

    Attributes:
        source: path of the file, or "array".
        model: name of the model.
        model_sha256: SHA-256 of the bundle's .tflite. Embeddings of different .tflite files cannot be compared.
        window, hop: length of a window, and time from the start of one window to the start of the next; seconds > 0.
        starts, ends: (n,) float64, seconds; n ≥ 1, 0 ≤ start < end.
        vectors: (n, dim) float32, finite.
        seconds_heard: length of the sound that was decoded; 0 if it is not known.
        warnings: what was wrong with the recording or was not heard, one phrase each.

    Raises:
        EmbeddingError: a value is out of range, or the shapes do not match.
    """

    source: str
    model: str
    model_sha256: str
    window: float
    hop: float
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    vectors: NDArray[np.float32]
    seconds_heard: float = 0.0
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        windows, dim = self.vectors.shape
        return f"<Embeddings of {escaped(self.source)} by {self.model}: {counted(windows, 'window')} × {dim}>"

    def __post_init__(self) -> None:
        for name in ("source", "model", "model_sha256"):
            if not isinstance(getattr(self, name), str):
                raise EmbeddingError(f"{name} = {shown(getattr(self, name))}; expected text")
        if not isinstance(self.warnings, tuple) or not all(isinstance(text, str) for text in self.warnings):
            raise EmbeddingError(f"warnings = {shown(self.warnings)}; expected a tuple of texts")
        for name in ("window", "hop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < float("inf"):
                raise EmbeddingError(f"{name} = {shown(value)}; expected seconds > 0")
        for name in ("starts", "ends", "vectors"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim == 0:
                raise EmbeddingError(f"{name} = {shown(value)}; expected an array of floats")
        n = len(self.starts)
        if (
            n == 0
            or self.vectors.ndim != 2
            or self.vectors.shape[1] == 0
            or not (self.starts.shape == self.ends.shape == (n,) and len(self.vectors) == n)
        ):
            raise EmbeddingError(
                f"starts {self.starts.shape}, ends {self.ends.shape}, vectors {self.vectors.shape}; "
                "expected (n,), (n,), (n, dim) of at least one window"
            )
        if self.vectors.dtype != np.float32 or not np.isfinite(self.vectors).all():
            raise EmbeddingError(f"vectors of {self.vectors.dtype}, or not finite; expected finite float32")
        if not (np.isfinite(self.ends).all() and (self.starts >= 0).all() and (self.ends > self.starts).all()):
            raise EmbeddingError("windows without a length; expected 0 ≤ start < end, seconds")

    @property
    def clip(self) -> NDArray[np.float32]:
        """The clip embedding (dim,) float32: the mean over the windows, weighted by the time that each adds to those
        before it."""
        covered = np.concatenate(([0.0], self.ends[:-1]))
        weights = np.maximum(self.ends - np.maximum(self.starts, covered), 0.0)
        return np.average(self.vectors, axis=0, weights=weights).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a file atomically and returns its path. The suffix selects the format.

        A .npz file holds everything. A .parquet file (extra `parquet`) has one row per window, with the columns
        source, start, end and vector. A .npy file holds the vectors only. In the source's name, bytes that are no UTF-8
        are written as `\\xe9` and the like.

        Raises:
            EmbeddingError: another suffix.
            ResultsError: the file cannot be written.
            MissingDependencyError: pyarrow is not installed.
        """
        path = _path(path)
        kind = _kind_of(path)
        parquet = _parquet() if kind == "parquet" else None
        with replacing(path) as file:
            if parquet is not None:
                parquet.write_table(self._table(), file)
            elif kind == "npy":
                np.save(file, self.vectors)
            else:
                values = {field.name: getattr(self, field.name) for field in fields(self)}
                warnings = np.array([utf8(text) for text in self.warnings], dtype=np.str_)
                np.savez(file, **(values | {"source": utf8(self.source), "warnings": warnings}))
        return path

    def _table(self) -> Any:
        import pyarrow

        rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(self.vectors.ravel()), self.vectors.shape[1])
        columns = {"source": [utf8(self.source)] * len(rows), "start": self.starts, "end": self.ends, "vector": rows}
        about = {name: str(getattr(self, name)) for name in ("model", "model_sha256", "window", "hop", "seconds_heard")}
        about["warnings"] = json.dumps(self.warnings)
        return pyarrow.table(columns).replace_schema_metadata(about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Reads a .npz or .parquet file that `save` wrote.

        Raises:
            EmbeddingError: the file cannot be read, or `save` did not write it. The message names the file.
            MissingDependencyError: pyarrow is not installed.
        """
        path = _path(path)
        kind = _kind_of(path)
        if kind == "npy":
            raise EmbeddingError(f"{path}: .npy has no times and no model; expected .npz or .parquet")
        if not path.is_file():
            what = "not a regular file" if path.exists() else "no such file"
            raise EmbeddingError(f"{path}: {what}; expected a file that Embeddings.save wrote")
        try:
            return cls._of_parquet(path) if kind == "parquet" else cls._of_npz(path)
        except MissingDependencyError:
            raise
        except EmbeddingError as error:
            raise EmbeddingError(f"{path}: {error}") from error
        # For a damaged file, numpy, zipfile, zlib and pyarrow raise a dozen types, MemoryError for a wrong length among
        # them.
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise EmbeddingError(f"{path}: {why}; expected a file that Embeddings.save wrote") from error

    @classmethod
    def _of_npz(cls, path: Path) -> Embeddings:
        with np.load(path) as file:
            data = {field.name: file[field.name] for field in fields(cls) if field.name in file.files}
        warnings = tuple(data.pop("warnings", np.empty(0)).tolist())  # version 0.1 wrote none
        values = {name: value.item() if value.ndim == 0 else value for name, value in data.items()}
        return cls(**values, warnings=warnings)

    @classmethod
    def _of_parquet(cls, path: Path) -> Embeddings:
        table = _parquet().ParquetFile(path).read()  # `read_table` takes columns from the names of folders, too
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        sources = set(table["source"].to_pylist())
        if len(sources) != 1:
            raise EmbeddingError(f"{len(sources)} sources; expected the windows of one recording")
        return cls(
            source=sources.pop(),
            model=about["model"],
            model_sha256=about["model_sha256"],
            window=float(about["window"]),
            hop=float(about["hop"]),
            starts=table["start"].to_numpy(),
            ends=table["end"].to_numpy(),
            vectors=np.array(table["vector"].to_pylist(), np.float32),
            seconds_heard=float(about.get("seconds_heard", 0.0)),
            warnings=tuple(parse_json(about.get("warnings", "[]"), "warnings", error=EmbeddingError)),
        )


def embed(
    tagger: Tagger,
    audio: Recording | AudioBlocks,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
    hop: float | None = None,
) -> Embeddings:
    """Returns the embeddings of a recording of any length. Windows with samples that cannot be used are left out.

    Args:
        tagger: the model.
        audio, sample_rate, channel, scale: as for `windows`.
        hop: seconds from the start of one window to the start of the next. The default is the length of a window, so
            that windows do not overlap.

    Raises:
        AudioError: the audio cannot be used.
        BundleError: the model has no embedding.
        WindowError: the hop is out of range.

    >>> from panns_litert import demo_clips
    >>> embed(Tagger(), demo_clips()[0]).vectors.shape
    (1, 96)
    """
    tagger.bundle.require_embedding()
    manifest = tagger.bundle.manifest
    stream = StreamTagger(tagger, hop=manifest.clip_seconds if hop is None else hop)
    blocks = audio_chunks(audio, sample_rate, manifest.front_end.sample_rate, channel=channel, scale=scale)
    found = list(stream.of(blocks))
    heard = [window for window in found if window.unusable is None]
    source = "array" if blocks.name == "samples" else blocks.name
    if not heard and found:
        raise AudioError(f"{source}: {found[0].unusable}; expected at least one window of usable samples")
    if not heard:
        raise AudioError(f"{source}: no samples; expected at least one")
    return Embeddings(
        source=source,
        model=manifest.model,
        model_sha256=model_sha256(tagger),
        window=stream.window,
        hop=stream.hop,
        starts=np.array([window.start for window in heard]),
        ends=np.array([window.end for window in heard]),
        vectors=np.stack([window.embedding for window in heard]),
        seconds_heard=blocks.seconds_heard,
        warnings=blocks.warnings,
    )


def similar(a: Embeddings, b: Embeddings) -> float:
    """Returns how similar two recordings are to the model, 0 … 1: the cosine of their clip embeddings.

    PANNs embeddings are outputs of a ReLU, so their cosine is never negative. For other networks, such as EfficientAT
    and AST, a negative cosine is returned as 0. The similarity of an embedding of zeros is 0, also to itself.

    Raises:
        EmbeddingError: the embeddings are from different models, or are none.
    """
    for one in (a, b):
        if not isinstance(one, Embeddings):
            raise EmbeddingError(f"{shown(one)}; expected Embeddings, as `embed` returns them")
    require_same_model(a, b.model, b.model_sha256, b.vectors.shape[1])
    return float(np.clip(unit(a.clip) @ unit(b.clip), 0.0, 1.0))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales vectors (…, dim) to length 1. A vector of zeros stays zero.

    Raises:
        EmbeddingError: the vectors are not numbers, or not finite.
    """
    try:
        wide = np.asarray(vectors, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmbeddingError(f"vectors {shown(vectors)}; expected numbers (…, dim)") from error
    if wide.ndim == 0 or not np.isfinite(wide).all():
        raise EmbeddingError(f"vectors of shape {wide.shape}, or not finite; expected finite numbers (…, dim)")
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    result: NDArray[np.float32] = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0).astype(np.float32)
    return result


def model_sha256(tagger: Tagger) -> str:
    """Returns the SHA-256 of the .tflite that a tagger runs, from the bundle's manifest."""
    return tagger.bundle.manifest.model_sha256


def require_same_model(a: Embeddings, model: str, sha256: str, dim: int) -> None:
    """Checks that the embeddings are from the .tflite with this SHA-256.

    Raises:
        EmbeddingError: they are from another one. The message names both models.
    """
    if not isinstance(a, Embeddings):
        raise EmbeddingError(f"{shown(a)}; expected Embeddings, as `embed` returns them")
    if (a.model_sha256, a.vectors.shape[1]) != (sha256, dim):
        raise EmbeddingError(
            f"embeddings of {a.model} ({a.model_sha256[:12]}, {a.vectors.shape[1]} numbers) and of "
            f"{model} ({sha256[:12]}, {dim} numbers); expected the same bundle for both"
        )


def _path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        raise EmbeddingError(f"path {shown(path)}; expected the path of a file") from error


def _kind_of(path: Path) -> str:
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise EmbeddingError(f"{path}: suffix {path.suffix!r}; expected one of {', '.join('.' + f for f in FORMATS)}")
    return kind


def _parquet() -> Any:
    with importing("pyarrow", extra="parquet", purpose="Parquet needs"):
        from pyarrow import parquet
    return parquet
