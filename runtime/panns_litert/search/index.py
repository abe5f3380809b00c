"""Index: a folder with the embeddings of many recordings, to be searched for recordings that sound alike.

    index.json      model, its SHA-256, window, hop and dimension
    entries.jsonl   one line per recording: path, size, modification time, windows, position of its vectors
    vectors.f32     (windows, dim) float32, little-endian, each vector scaled to length 1

`append` writes the vectors of a recording first and its line second. A recording with a line is therefore complete.
Vectors that an interrupted build left without a line are overwritten by the next build. Only one process may write
at a time.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from panns_litert.audio import audio_files
from panns_litert.errors import AudioError, EmbeddingError, importing
from panns_litert.search.embeddings import Embeddings, embed, model_sha256, require_same_model, unit
from panns_litert.tagger import Tagger
from panns_litert.windows import StreamTagger

FORMAT_VERSION = 1
_HEADER, _ENTRIES, _VECTORS = "index.json", "entries.jsonl", "vectors.f32"
_REMEDY = "build it again in a new folder"


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A search result: the window of a recording that is most similar to the query.

    Attributes:
        source: path of the recording.
        start, end: of the window, seconds.
        score: cosine with the query's clip embedding, 0 … 1.
    """

    source: str
    start: float
    end: float
    score: float


class Index:
    """An index that is open for search. Needs the extra `search` (faiss).

    The search is exact: faiss compares the query with every window. Each window takes 4 × dim bytes of memory.

    Args:
        folder: folder that `Index.build` wrote.

    Attributes:
        model, model_sha256, window, hop: as in `Embeddings`; the same for all recordings.
        dim: length of an embedding.
        sources: paths of the recordings.
        windows: number of windows of all recordings.
        failed: recordings that `Index.build` could not use, and why, by path. Empty if the index was only opened.

    Raises:
        EmbeddingError: the folder is not an index, or the index is damaged.
        MissingDependencyError: faiss is not installed.

    >>> index = Index.build("sounds.index", Tagger(), ["sounds"])
    >>> index.search(embed(Tagger(), "recording.wav"), top=3)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        faiss = _faiss()
        store = _Store(Path(folder))
        self.model, self.model_sha256 = store.model, store.model_sha256
        self.window, self.hop, self.dim = store.window, store.hop, store.dim
        self.failed: dict[str, str] = {}
        newest = {entry["source"]: entry for entry in store.entries}  # the last entry of a file counts
        self.sources = tuple(newest)
        vectors = store.vectors()
        rows = [np.arange(entry["row"], entry["row"] + len(entry["starts"])) for entry in newest.values()]
        self._where = [
            (source, start, end)
            for source, entry in newest.items()
            for start, end in zip(entry["starts"], entry["ends"], strict=True)
        ]
        self.windows = len(self._where)
        self._search = faiss.IndexFlatIP(self.dim)
        if rows:
            self._search.add(np.ascontiguousarray(vectors[np.concatenate(rows)]))

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        tagger: Tagger,
        paths: Iterable[str | os.PathLike[str]],
        *,
        hop: float | None = None,
        report: Callable[[int, int, str, str | None], None] | None = None,
    ) -> Index:
        """Builds an index, or adds recordings to an existing one. Recordings that have not changed are skipped.

        Each recording is stored as soon as it has been embedded. A recording that cannot be used is left out;
        `failed` says why.

        Args:
            folder: folder of the index: a new or empty folder, or an existing index.
            tagger: the model.
            paths: audio files and folders. In a folder, files at any depth are selected by their suffix.
            hop: as for `embed`.
            report: called after each recording with its number (from 1), the number of recordings, its path, and the
                error message or None.

        Raises:
            AudioError: a folder holds no audio file.
            EmbeddingError: there is no path, or no file can be used; the index has another model or hop; or the folder
                holds other files.
            MissingDependencyError: faiss is not installed.
            WindowError: the hop is out of range.
        """
        _faiss()  # raises now, not after hours of work
        files = _audio_files(paths)
        folder, failed = Path(folder), {}
        store = _Store(folder) if (folder / _HEADER).exists() else None
        if store is not None:
            store.require(tagger, hop)
        known = {} if store is None else {entry["source"]: entry for entry in store.entries}
        for number, source in enumerate(files, 1):
            error: str | None = None
            try:
                stamp = _stamp(source)
                entry = known.get(source)
                if entry is None or (entry["bytes"], entry["mtime_ns"]) != stamp:
                    found = embed(tagger, source, hop=hop)
                    store = _Store.create(folder, found) if store is None else store
                    store.append(found, stamp)
            except AudioError as unusable:
                error = failed[source] = " ".join(str(unusable).split())
            if report is not None:
                report(number, len(files), source, error)
        if store is None:
            raise EmbeddingError(f"none of {len(files)} files could be used; the first: {next(iter(failed.values()))}")
        index = cls(folder)
        index.failed = failed
        return index

    def search(self, query: Embeddings, *, top: int = 10) -> tuple[Hit, ...]:
        """Returns the recordings most similar to the query, best first.

        A recording is ranked by its window with the highest cosine with the query's clip embedding.

        Args:
            query: embeddings from the same bundle.
            top: maximum number of recordings, ≥ 1.

        Raises:
            EmbeddingError: the query is from another model, or `top` is out of range.
        """
        if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
            raise EmbeddingError(f"top = {top!r}; expected a whole number ≥ 1")
        require_same_model(query, self.model, self.model_sha256, self.dim)
        hits: dict[str, Hit] = {}
        wanted, asked = min(int(top), len(self.sources)), int(top)
        while len(hits) < wanted:  # several of the best windows may be of one recording
            scores, rows = self._search.search(unit(query.clip)[None], min(asked, self.windows))
            for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
                source, start, end = self._where[row]
                hits.setdefault(source, Hit(source=source, start=start, end=end, score=min(max(score, 0.0), 1.0)))
            asked *= 4
        return tuple(list(hits.values())[:wanted])


class _Store:
    """Reads and writes the files of an index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
            lines = (folder / _ENTRIES).read_bytes().split(b"\n")
        except FileNotFoundError as error:
            raise EmbeddingError(f"no index at {folder}; expected a folder that `panns-litert index` wrote") from error
        except (OSError, ValueError) as error:
            raise EmbeddingError(f"{folder}: {error}; {_REMEDY}") from error
        try:
            if header["format_version"] != FORMAT_VERSION:
                raise EmbeddingError(f"{folder}: format_version {header['format_version']}; expected {FORMAT_VERSION}")
            self.model, self.model_sha256 = str(header["model"]), str(header["model_sha256"])
            self.window, self.hop, self.dim = float(header["window"]), float(header["hop"]), int(header["dim"])
            self.entries: list[dict[str, Any]] = [json.loads(line) for line in lines[:-1]]
            self._rows = 0
            for entry in self.entries:
                if entry["row"] != self._rows or not 0 < len(entry["starts"]) == len(entry["ends"]):
                    raise EmbeddingError(f"{folder / _ENTRIES}: {entry['source']}: wrong row or windows; {_REMEDY}")
                self._rows += len(entry["starts"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, EmbeddingError):
                raise
            raise EmbeddingError(f"{folder}: {error!r}; {_REMEDY}") from error
        # An interrupted build may have left part of a line after this position.
        self._line_end = sum(len(line) + 1 for line in lines[:-1])

    @classmethod
    def create(cls, folder: Path, first: Embeddings) -> _Store:
        """Creates an empty index with the model and the hop of the first recording."""
        leftovers = {_ENTRIES, _VECTORS, f"{_HEADER}.new"}  # files of a build that was interrupted in this function
        if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - leftovers):
            raise EmbeddingError(f"{folder} exists and is no index; expected a new or empty folder, or an index")
        folder.mkdir(parents=True, exist_ok=True)
        header = {
            "format_version": FORMAT_VERSION,
            "model": first.model,
            "model_sha256": first.model_sha256,
            "window": first.window,
            "hop": first.hop,
            "dim": first.vectors.shape[1],
        }
        (folder / _ENTRIES).write_bytes(b"")
        (folder / _VECTORS).write_bytes(b"")
        (folder / f"{_HEADER}.new").write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        os.replace(folder / f"{_HEADER}.new", folder / _HEADER)
        return cls(folder)

    def require(self, tagger: Tagger, hop: float | None) -> None:
        """Raises EmbeddingError unless the index has the tagger's model and this hop."""
        if (sha256 := model_sha256(tagger)) != self.model_sha256:
            raise EmbeddingError(
                f"{self._folder} is of {self.model} ({self.model_sha256[:12]}), the tagger runs "
                f"{tagger.bundle.manifest.model} ({sha256[:12]}); expected the same bundle, or a new folder"
            )
        wanted = StreamTagger(tagger, hop=tagger.bundle.manifest.clip_seconds if hop is None else hop).hop
        if abs(wanted - self.hop) > 1e-9:
            raise EmbeddingError(f"{self._folder} has a hop of {self.hop:g} s, not {wanted:g}; expected the same")

    def append(self, found: Embeddings, stamp: tuple[int, int]) -> None:
        """Adds a recording: first its vectors, then its line."""
        data = unit(found.vectors).astype("<f4").tobytes()
        entry = {
            "source": found.source,
            "bytes": stamp[0],
            "mtime_ns": stamp[1],
            "row": self._rows,
            "crc32": zlib.crc32(data),
            "starts": found.starts.tolist(),
            "ends": found.ends.tolist(),
        }
        line = (json.dumps(entry) + "\n").encode()
        with (self._folder / _VECTORS).open("r+b") as vectors, (self._folder / _ENTRIES).open("r+b") as entries:
            _write_at(vectors, 4 * self.dim * self._rows, data)
            _write_at(entries, self._line_end, line)
        self._rows += len(found.vectors)
        self._line_end += len(line)
        self.entries.append(entry)

    def vectors(self) -> NDArray[np.float32]:
        """Returns the vectors (windows, dim) after a check of their number and checksums."""
        path = self._folder / _VECTORS
        try:
            data = np.fromfile(path, "<f4", count=self._rows * self.dim)
        except OSError as error:
            raise EmbeddingError(f"{path}: {error.strerror}; {_REMEDY}") from error
        if len(data) != self._rows * self.dim:
            raise EmbeddingError(f"{path} has {len(data)} numbers; expected {self._rows * self.dim}; {_REMEDY}")
        data = data.reshape(self._rows, self.dim)
        for entry in self.entries:
            if zlib.crc32(data[entry["row"] : entry["row"] + len(entry["starts"])].tobytes()) != entry["crc32"]:
                raise EmbeddingError(f"{path}: the vectors of {entry['source']} were altered; {_REMEDY}")
        return data.astype(np.float32, copy=False)


def _write_at(file: BinaryIO, position: int, data: bytes) -> None:
    file.seek(position)
    file.truncate()
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _audio_files(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Returns absolute paths in order, without repetitions. A file that is named itself may have any suffix."""
    found: dict[str, None] = {}
    for path in map(Path, paths):
        found |= dict.fromkeys(str(p.resolve()) for p in (audio_files(path) if path.is_dir() else [path]))
    if not found:
        raise EmbeddingError("nothing to index; expected audio files or folders of them")
    return list(found)


def _stamp(source: str) -> tuple[int, int]:
    try:
        status = os.stat(source)
    except OSError as error:
        raise AudioError(f"{source}: {error.strerror}; expected an audio file") from error
    return status.st_size, status.st_mtime_ns


def _faiss() -> Any:
    with importing("faiss", extra="search", purpose="an index needs"):
        import faiss
    return faiss
