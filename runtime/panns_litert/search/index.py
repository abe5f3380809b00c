"""Index: the embeddings of many recordings in a folder, to be searched for what sounds alike.

    index.json      the model, its hash, window and hop
    entries.jsonl   a line per recording: path, size and time of change, windows, where its vectors are
    vectors.f32     (windows, dim) float32 little-endian, each of length 1

Vectors are appended first and their line after them: what has its line is whole, and what an interrupted build left
without one is written over by the next. One writer at a time.
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
    """The window of a recording that is most like what was searched for; `score` is the cosine, 0 … 1."""

    source: str
    start: float
    end: float
    score: float


class Index:
    """An index that was built, opened for searching. Needs the extra `search` (faiss).

    The search is exact: faiss compares with every window, which takes 4 bytes × dim of memory each.

    Args:
        folder: what `Index.build` wrote.

    Attributes:
        model, model_sha256, window, hop, dim: as in `Embeddings`, of all recordings.
        sources: paths of the recordings.
        windows: how many there are of all recordings together.
        failed: by path, why a recording could not be used; of the build that gave this index.

    Raises:
        EmbeddingError: no index, or a damaged one.
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
        newest = {entry["source"]: entry for entry in store.entries}  # a file that changed was entered again
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
        """Makes an index, or adds to one; recordings that it has, unchanged, are not heard again.

        Every recording is kept as soon as it was heard. One that cannot be used is left out, and `failed` says why.

        Args:
            folder: of the index; new, empty or an index.
            tagger: the model.
            paths: audio files, and folders of which every audio file is taken, by its suffix, at any depth.
            hop: as for `embed`.
            report: called after each recording with its number, their count, its path and the error or None.

        Raises:
            AudioError: a folder without an audio file.
            EmbeddingError: no path at all; an index of another model or hop; a folder that holds something else.
            MissingDependencyError: faiss is not installed.
            WindowError: the hop is out of range.
        """
        _faiss()  # before hours of work
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
        """The recordings that have a window most like the query's clip embedding, best first, each with that window.

        Args:
            query: of the same bundle.
            top: at most that many, ≥ 1.

        Raises:
            EmbeddingError: embeddings of another model, or `top` out of range.
        """
        if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
            raise EmbeddingError(f"top = {top!r}; expected a whole number ≥ 1")
        require_same_model(query, self.model, self.model_sha256, self.dim)
        hits: dict[str, Hit] = {}
        wanted, asked = min(int(top), len(self.sources)), int(top)
        while len(hits) < wanted:  # long recordings may take several places
            scores, rows = self._search.search(unit(query.clip)[None], min(asked, self.windows))
            for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
                source, start, end = self._where[row]
                hits.setdefault(source, Hit(source=source, start=start, end=end, score=min(max(score, 0.0), 1.0)))
            asked *= 4
        return tuple(list(hits.values())[:wanted])


class _Store:
    """The files of an index."""

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
                    raise EmbeddingError(f"{folder / _ENTRIES}: {entry['source']} is not where it should be; {_REMEDY}")
                self._rows += len(entry["starts"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, EmbeddingError):
                raise
            raise EmbeddingError(f"{folder}: {error!r}; {_REMEDY}") from error
        # What an interrupted build left of a line.
        self._line_end = sum(len(line) + 1 for line in lines[:-1])

    @classmethod
    def create(cls, folder: Path, first: Embeddings) -> _Store:
        """An empty index of the model and the hop that the first recording has."""
        leftovers = {_ENTRIES, _VECTORS, f"{_HEADER}.new"}  # of a build that was interrupted right here
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
        """Raises unless the index is of the tagger's model, and of that hop."""
        if (sha256 := model_sha256(tagger)) != self.model_sha256:
            raise EmbeddingError(
                f"{self._folder} is of {self.model} ({self.model_sha256[:12]}), the tagger runs "
                f"{tagger.bundle.manifest.model} ({sha256[:12]}); expected the same bundle, or a new folder"
            )
        wanted = StreamTagger(tagger, hop=tagger.bundle.manifest.clip_seconds if hop is None else hop).hop
        if abs(wanted - self.hop) > 1e-9:
            raise EmbeddingError(f"{self._folder} has a hop of {self.hop:g} s, not {wanted:g}; expected the same")

    def append(self, found: Embeddings, stamp: tuple[int, int]) -> None:
        """Adds a recording: first its vectors, then the line that makes them count."""
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
        """(windows, dim), checked."""
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
    """Absolute paths, each once, in order; a file is taken whatever its suffix."""
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
