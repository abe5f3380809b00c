"""Index: a folder with the embeddings of many recordings, to be searched for recordings that sound alike.

    index.json      model, SHA-256 of its .tflite and of all that changes its answers, window, hop and dimension
    entries.jsonl   one line per recording: path, size, modification time, windows, position of its vectors
    vectors.f32     (windows, dim) float32, little-endian, each vector scaled to length 1

`append` writes the vectors of a recording first and its line second. A recording with a line is therefore complete.
Vectors that an interrupted build left without a line are overwritten by the next build. A build has a lock on the
folder; a second one is refused. In a path, bytes that are no UTF-8 are stored as `\\xe9` and the like.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from panns_litert.atomic import replacing, writing
from panns_litert.audio import audio_files
from panns_litert.errors import AudioError, EmbeddingError, ResultsError, importing, why_failed
from panns_litert.escape import utf8
from panns_litert.results import Row
from panns_litert.search.embeddings import Embeddings, embed, require_same_model, unit
from panns_litert.strict import file_stamp, parse_json, read, read_bytes, read_json, shown
from panns_litert.tagger import Tagger
from panns_litert.windows import StreamTagger
from panns_litert.words import counted

FORMAT_VERSION = 2  # also counts changes of the algorithms that give other windows or vectors
_HEADER, _ENTRIES, _VECTORS = "index.json", "entries.jsonl", "vectors.f32"
_REMEDY = "build it again in a new folder"
_MOST_BYTES = 1 << 28  # of the entries; a window has about 15 bytes
_MOST_DIM = 1 << 16
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Hit(Row):
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
        warned: recordings that it added and that were not heard whole, with their warnings, by path.

    Raises:
        EmbeddingError: the folder is not an index, or the index is damaged.
        MissingDependencyError: faiss is not installed.

    >>> index = Index.build("sounds.index", Tagger(), ["sounds"])
    >>> [Path(hit.source).name for hit in index.search(embed(Tagger(), "recording.wav"), top=1)]
    ['dtmf_8k.wav']
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        faiss = _faiss()
        try:
            store = _Store(Path(folder))
        except TypeError as error:
            raise EmbeddingError(f"folder {shown(folder)}; expected the path of an index") from error
        header = store.header
        self.model, self.model_sha256 = header.model, header.model_sha256
        self.window, self.hop, self.dim = header.window, header.hop, header.dim
        self.failed: dict[str, str] = {}
        self.warned: dict[str, tuple[str, ...]] = {}
        newest = {entry.source: entry for entry in store.entries}  # the last entry of a file counts
        self.sources = tuple(newest)
        vectors = store.vectors()
        rows = [np.arange(entry.row, entry.row + len(entry.starts)) for entry in newest.values()]
        self._where = [
            (source, start, end)
            for source, entry in newest.items()
            for start, end in zip(entry.starts, entry.ends, strict=True)
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

        Each recording is stored as soon as it has been embedded. A recording that cannot be used is left out, whatever
        the exception; `failed` says why.

        Args:
            folder: folder of the index: a new or empty folder, or an existing index.
            tagger: the model.
            paths: audio files and folders. In a folder, files at any depth are selected by their suffix.
            hop: as for `embed`.
            report: called after each recording with its number (from 1), the number of recordings, its path, and the
                error message or None.

        Raises:
            AudioError: a folder holds no audio file.
            BundleError: the model has no embedding.
            EmbeddingError: there is no path, or no file can be used; the index is damaged, has another bundle or hop,
                or another build is writing it; or the folder holds other files.
            ResultsError: the folder cannot be written. The recordings so far are complete.
            MissingDependencyError: faiss is not installed.
            WindowError: the hop is out of range.
        """
        _faiss()  # raises now, not after hours of work
        tagger.bundle.require_embedding()
        hop = StreamTagger(tagger, hop=tagger.bundle.manifest.clip_seconds if hop is None else hop).hop
        files = _audio_files(paths)
        failed: dict[str, str] = {}
        warned: dict[str, tuple[str, ...]] = {}
        with _building(folder) as folder:
            store = _Store(folder) if (folder / _HEADER).exists() else None
            if store is not None:
                store.require(tagger, hop)
            known = {} if store is None else {entry.source: entry for entry in store.entries}
            for number, path in enumerate(files, 1):
                error, found, source = None, None, utf8(path)
                try:
                    stamp = _stamp(path)
                    entry = known.get(source)
                    if entry is None or (entry.bytes, entry.mtime_ns) != stamp:
                        found = embed(tagger, path, hop=hop)
                except Exception as unusable:
                    error = failed[source] = utf8(why_failed(path, unusable))
                if found is not None:
                    store = _Store.create(folder, found, tagger) if store is None else store
                    store.append(found, stamp)
                    warned |= {source: found.warnings} if found.warnings else {}
                if report is not None:
                    report(number, len(files), source, error)
            if store is None:
                raise EmbeddingError(
                    f"none of {counted(len(files), 'file')} could be used; the first: {next(iter(failed.values()))}"
                )
            index = cls(folder)
        index.failed, index.warned = failed, warned
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
            raise EmbeddingError(f"top = {shown(top)}; expected a whole number ≥ 1")
        require_same_model(query, self.model, self.model_sha256, self.dim)
        hits: dict[str, Hit] = {}
        wanted, asked = min(int(top), len(self.sources)), int(top)
        while len(hits) < wanted:  # several of the best windows may be of one recording; all windows are of all
            scores, rows = self._search.search(unit(query.clip)[None], min(asked, self.windows))
            for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
                source, start, end = self._where[row]
                hits.setdefault(source, Hit(source=source, start=start, end=end, score=min(max(score, 0.0), 1.0)))
            asked *= 4
        return tuple(list(hits.values())[:wanted])


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What index.json holds."""

    format_version: int
    model: str
    model_sha256: str
    bundle_sha256: str
    window: float
    hop: float
    dim: int

    def __post_init__(self) -> None:
        if not (0.0 < self.hop <= self.window + 1e-6 and 1 <= self.dim <= _MOST_DIM):
            raise EmbeddingError(
                f"window {self.window:g}, hop {self.hop:g}, dim {self.dim}; expected 0 < hop ≤ window, and a dim of "
                f"1 … {_MOST_DIM}"
            )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A line of entries.jsonl, checked on construction."""

    source: str
    bytes: int
    mtime_ns: int
    row: int
    crc32: int
    starts: tuple[float, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, data: Any) -> _Entry:
        """Raises EmbeddingError, TypeError or KeyError."""
        entry = cls(**{**data, "starts": tuple(data["starts"]), "ends": tuple(data["ends"])})
        whole = (entry.bytes, entry.mtime_ns, entry.row, entry.crc32)
        times = (*entry.starts, *entry.ends)
        if not isinstance(entry.source, str) or any(type(value) is not int for value in whole):
            raise EmbeddingError("source, bytes, mtime_ns, row or crc32 of another type; expected text, whole numbers")
        if not 0 < len(entry.starts) == len(entry.ends) or any(type(value) not in (int, float) for value in times):
            raise EmbeddingError("starts and ends that do not fit; expected seconds, as many of both")
        edges = zip((-1.0, *entry.starts), (*entry.starts, entry.ends[-1]), strict=True)
        lengths = zip(entry.starts, entry.ends, strict=True)
        if entry.starts[0] < 0 or any(a >= b for a, b in itertools.chain(edges, lengths)):
            raise EmbeddingError("windows out of order; expected 0 ≤ start < end, and the next start later")
        return entry


class _Store:
    """Reads and writes the files of an index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / _HEADER).exists():
            raise EmbeddingError(f"no index at {folder}; expected a folder that `panns-litert index` wrote")
        try:
            data = read_json(folder / _HEADER, error=EmbeddingError, what="the header of an index")
            version = data.get("format_version") if isinstance(data, dict) else None
            if version != FORMAT_VERSION:
                raise EmbeddingError(f"{folder}: format_version {shown(version)}; expected {FORMAT_VERSION}")
            self.header: _Header = read(_Header, data, str(folder / _HEADER), error=EmbeddingError)
            lines = read_bytes(
                folder / _ENTRIES, error=EmbeddingError, what="the entries of an index", most_bytes=_MOST_BYTES
            ).split(b"\n")
            self.entries: list[_Entry] = []
            self._rows = 0
            for number, line in enumerate(lines[:-1], 1):
                self.entries.append(self._entry(line, f"{folder / _ENTRIES}, line {number}"))
                self._rows += len(self.entries[-1].starts)
        except EmbeddingError as error:
            raise EmbeddingError(f"{error}; {_REMEDY}") from error
        # An interrupted build may have left part of a line after this position.
        self._line_end = sum(len(line) + 1 for line in lines[:-1])

    def _entry(self, line: bytes, where: str) -> _Entry:
        try:
            entry = _Entry.of(parse_json(line, where, error=EmbeddingError))
        except (TypeError, KeyError) as error:
            raise EmbeddingError(f"{where}: missing or unknown values; expected an entry of an index") from error
        except EmbeddingError as error:
            raise EmbeddingError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
        if entry.row != self._rows:
            raise EmbeddingError(f"{where}: row {entry.row}; expected {self._rows}, after the entry before")
        return entry

    @classmethod
    def create(cls, folder: Path, first: Embeddings, tagger: Tagger) -> _Store:
        """Creates an empty index with the model and the hop of the first recording."""
        header = _Header(
            format_version=FORMAT_VERSION,
            model=first.model,
            model_sha256=first.model_sha256,
            bundle_sha256=tagger.bundle.manifest.answers_sha256,
            window=first.window,
            hop=first.hop,
            dim=first.vectors.shape[1],
        )
        try:
            (folder / _ENTRIES).write_bytes(b"")
            (folder / _VECTORS).write_bytes(b"")
        except OSError as error:
            raise _unwritable(folder, error) from error
        with replacing(folder / _HEADER) as file:
            file.write((json.dumps(asdict(header), indent=2) + "\n").encode())
        return cls(folder)

    def require(self, tagger: Tagger, hop: float) -> None:
        """Raises EmbeddingError unless the index has the tagger's bundle and this hop, seconds."""
        manifest, header = tagger.bundle.manifest, self.header
        if manifest.model_sha256 != header.model_sha256:
            raise EmbeddingError(
                f"{self._folder} is of {header.model} ({header.model_sha256[:12]}), the tagger runs "
                f"{manifest.model} ({manifest.model_sha256[:12]}); expected the same bundle, or a new folder"
            )
        if manifest.answers_sha256 != header.bundle_sha256:
            raise EmbeddingError(
                f"{self._folder} is of the same model, but the bundle's front end, clip length, mel basis or classes "
                "were others; expected the same bundle, or a new folder"
            )
        if abs(hop - header.hop) > 1e-9:
            raise EmbeddingError(f"{self._folder} has a hop of {header.hop:g} s, not {hop:g}; expected the same")

    def append(self, found: Embeddings, stamp: tuple[int, int]) -> None:
        """Adds a recording: first its vectors, then its line."""
        data = unit(found.vectors).astype("<f4").tobytes()
        entry = _Entry(
            source=utf8(found.source),
            bytes=stamp[0],
            mtime_ns=stamp[1],
            row=self._rows,
            crc32=zlib.crc32(data),
            starts=tuple(found.starts.tolist()),
            ends=tuple(found.ends.tolist()),
        )
        line = (json.dumps(asdict(entry)) + "\n").encode()
        try:
            with (self._folder / _VECTORS).open("r+b") as vectors, (self._folder / _ENTRIES).open("r+b") as entries:
                _write_at(vectors, 4 * self.header.dim * self._rows, data)
                _write_at(entries, self._line_end, line)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        self._rows += len(found.vectors)
        self._line_end += len(line)
        self.entries.append(entry)

    def vectors(self) -> NDArray[np.float32]:
        """Returns the vectors (windows, dim) after a check of their number, checksums and lengths."""
        path, dim = self._folder / _VECTORS, self.header.dim
        try:
            size = path.stat().st_size if path.is_file() else 0
            if size < 4 * self._rows * dim:
                raise EmbeddingError(f"{path} has {size // 4} numbers; expected {self._rows * dim}; {_REMEDY}")
            data = np.fromfile(path, "<f4", count=self._rows * dim).reshape(self._rows, dim)
        except OSError as error:
            raise EmbeddingError(f"{path}: {error.strerror}; {_REMEDY}") from error
        for entry in self.entries:
            part = data[entry.row : entry.row + len(entry.starts)]
            if zlib.crc32(part.tobytes()) != entry.crc32:
                raise EmbeddingError(f"{path}: the vectors of {entry.source} were altered; {_REMEDY}")
            length = np.linalg.norm(part.astype(np.float64), axis=1)
            if not ((np.abs(length - 1.0) <= _UNIT_TOLERANCE) | (length == 0.0)).all():  # also refuses NaN
                raise EmbeddingError(f"{path}: the vectors of {entry.source} are not of length 1; {_REMEDY}")
        return data.astype(np.float32, copy=False)


@contextlib.contextmanager
def _building(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes the folder if it is missing, and locks it. Removes it again if the build stored nothing."""
    try:
        folder = Path(folder)
        # A killed build may have left its files, the lock and a temporary folder.
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()
        new = not folder.exists()
        if _HEADER not in names and names - {_ENTRIES, _VECTORS}:
            raise EmbeddingError(f"{folder} exists and is no index; expected a new or empty folder, or an index")
        folder.mkdir(parents=True, exist_ok=True)
    except NotADirectoryError as error:
        raise EmbeddingError(f"{folder} exists and is no index; expected a new or empty folder, or an index") from error
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, EmbeddingError):
            raise
        raise _unwritable(folder, error) from error
    with writing(folder / _HEADER, error=EmbeddingError):
        try:
            yield folder
        finally:
            if new and not (folder / _HEADER).exists():
                with contextlib.suppress(OSError):
                    (folder / f".{_HEADER}.lock").unlink()
                    folder.rmdir()


def _unwritable(folder: str | os.PathLike[str], error: Exception) -> ResultsError:
    why = getattr(error, "strerror", None) or error
    return ResultsError(f"{folder}: {why}; expected a folder that can be written; what is stored so far is complete")


def _write_at(file: BinaryIO, position: int, data: bytes) -> None:
    file.seek(position)
    file.truncate()
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _audio_files(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Returns absolute paths in order, without repetitions. A file that is named itself may have any suffix."""
    found: dict[str, None] = {}
    try:
        if isinstance(paths, (str, os.PathLike)):
            raise TypeError("one path")
        for path in (Path(os.fsdecode(path)) for path in paths):
            found |= dict.fromkeys(map(_real, audio_files(path) if path.is_dir() else [path]))
    except TypeError as error:
        raise EmbeddingError(f"paths {shown(paths)}: {error}; expected a list of audio files and folders") from error
    if not found:
        raise EmbeddingError("nothing to index; expected audio files or folders of them")
    return list(found)


def _real(path: Path) -> str:
    try:
        return str(path.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL in the name, a loop of links: reported as its error
        return str(path)


def _stamp(source: str) -> tuple[int, int]:
    try:
        stamp = file_stamp(source)
    except OSError as error:
        raise AudioError(f"{source}: {error.strerror}; expected an audio file") from error
    if stamp is None:  # a pipe may never end
        raise AudioError(f"{source}: not a regular file; expected an audio file")
    return stamp


def _faiss() -> Any:
    with importing("faiss", extra="search", purpose="an index needs"):
        import faiss
    return faiss
