"""Batch: tags the recordings of a manifest into Parquet, on all cores or on a Ray cluster (extras `parquet`, `ray`).

The manifest's rows are cut into shards of equal size. A worker, on this or another machine, tags the recordings of one
shard after another and sends the results back. Only the process that called `batch` writes files, so a shard's file is
complete or does not exist, even after a crash. An interrupted run continues with the missing shards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from panns_litert.bundle import Bundle
from panns_litert.demo import demo_bundle
from panns_litert.engine import available_cores
from panns_litert.errors import AudioError, ManifestError, ResultsError, WorkerError, importing
from panns_litert.events import Event, EventSettings
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger, require_choice
from panns_litert.windows import Aggregate, EventStream, StreamTagger, windows

if TYPE_CHECKING:
    import pyarrow as pa

RECORD = "_batch.json"
"""File that describes the run of a folder: model, settings, manifest. Parquet readers skip names that begin with _."""

RESULTS = ("seconds", "windows", "error", "tags", "events", "embedding")
"""Columns that are added to those of the manifest."""

MOST_TRIES = 3
"""How often a shard is tried if its worker dies. The limit is needed because a recording may kill every worker."""

_FORMAT_VERSION = 1
_MOST_OF_SHARD = 64  # recordings; a worker that dies loses at most these
_SHARDS = 64  # number of shards of a small manifest, so that every worker gets some

Rows = list[dict[str, Any]]


class Shard(NamedTuple):
    """Consecutive rows of the manifest: number of the shard, and paths of the recordings."""

    number: int
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """Summary of a run.

    Attributes:
        out: the folder of shards.
        recordings: number of rows in the whole folder.
        failed: number of rows with an error in the whole folder.
        hours: hours of audio in the whole folder.
        shards: number of shards in the whole folder.
        computed: number of shards that this run computed.
        seconds: duration of this run.
        hours_per_minute: hours of audio that this run tagged per minute.
    """

    out: str
    recordings: int
    failed: int
    hours: float
    shards: int
    computed: int
    seconds: float
    hours_per_minute: float


def batch(
    manifest: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | Bundle | None = None,
    engine: str = "cpu",
    threads: int = 1,
    workers: int | None = None,
    address: str | None = None,
    hop: float | None = None,
    aggregate: str = "mean",
    top: int | None = 10,
    threshold: float = 0.0,
    settings: EventSettings | None = None,
    sense: Mapping[str, Any] | None = None,
    embeddings: bool = True,
    per_shard: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> BatchSummary:
    """Tags every recording of a manifest and writes tags, events and embeddings as Parquet.

    The output has a row for every row of the manifest, in the same order. It has the manifest's columns and `seconds`,
    `windows`, `error` (null if there was none), `tags` (label, index, score; highest first), `events` (label, index,
    start, end, score) and `embedding` (float32; null if not requested). A recording that cannot be used gets a row with
    its error. Finished shards are never computed again. Only one run at a time may write to a folder.

    A script that calls this function needs `if __name__ == "__main__":`, because it starts processes.

    Args:
        manifest: a .csv or .parquet file with a column `path`, relative to that file; or the paths themselves.
        out: folder for `part-00000.parquet`, …; a new one, or that of an earlier run to continue it.
        bundle, engine, threads: as for `Tagger`, in every worker.
        workers: number of processes, ≥ 1; the number of cores divided by `threads` if not given.
        address: address of a Ray cluster, or "local" to start one here; no Ray if not given. The cluster's machines
            need this package, and the recordings and the bundle under the same paths. `out` is written here.
        hop: seconds from one window to the next, for tags and events; a window's length if not given.
        aggregate, top, threshold: as for `tag_long`.
        settings: thresholds of events.
        sense: arguments of `Sense` by name, without the labels.
        embeddings: whether to write embeddings.
        per_shard: number of recordings in a shard, ≥ 1; 1 to 64, depending on the manifest's length, if not given.
        progress: called with the number of finished recordings and the number of all recordings.

    Raises:
        ManifestError: the manifest cannot be read, has no rows or unusable rows, or `workers`, `threads` or `per_shard`
            is out of range.
        ResultsError: the folder belongs to a run with another manifest, model or settings, or it cannot be written. The
            shards written so far are complete.
        WorkerError: a shard's worker died three times. The others are written if a shard was finished before.
        MissingDependencyError: pyarrow or Ray is not installed.
        BundleError, WindowError, EventError, LabelError, AudioError: as for `Tagger`, `tag_long`, `find_events`.
    """
    begin = time.perf_counter()
    pq = _parquet()
    table, folder = _manifest(manifest)
    size = min(_MOST_OF_SHARD, -(-len(table) // _SHARDS)) if per_shard is None else _count("per_shard", per_shard)
    workers = max(1, available_cores() // _count("threads", threads)) if workers is None else _count("workers", workers)
    opened = bundle if isinstance(bundle, Bundle) else Bundle(demo_bundle() if bundle is None else bundle)
    chosen = {
        "hop": hop,
        "aggregate": aggregate,
        "top": top,
        "threshold": threshold,
        "events": dataclasses.asdict(EventSettings() if settings is None else settings),
        "sense": dict(sense or {}),
        "embeddings": bool(embeddings),
        "engine": engine,
    }
    job = json.dumps({"bundle": str(opened.path.resolve()), "threads": threads, "settings": chosen})
    _Listener(job)  # raises any error of the bundle or the settings here, before workers start
    target = Path(out)
    parts = [target / f"part-{index:05d}.parquet" for index in range(-(-len(table) // size))]
    record = {
        "format_version": _FORMAT_VERSION,
        "model": opened.manifest.model,
        "model_sha256": opened.manifest.model_sha256,
        "settings": json.loads(job)["settings"],
        "manifest_sha256": _fingerprint(table),
        "recordings": len(table),
        "per_shard": size,
        "shards": len(parts),
    }
    _begin(target, record)
    names = [os.path.join(folder, path) for path in table["path"].to_pylist()]
    todo = [Shard(i, tuple(names[i * size : (i + 1) * size])) for i, part in enumerate(parts) if not part.exists()]
    done, audio, computed, failures = len(table) - sum(len(shard.paths) for shard in todo), 0.0, 0, []
    report = progress or (lambda *_: None)
    report(done, len(table))
    results = _in_processes(job, todo, workers) if address is None else _on_ray(job, todo, workers, address, threads)
    with contextlib.closing(results):  # ends all workers after an error
        for shard, rows in results:
            if isinstance(rows, WorkerError):
                failures.append(rows)
                if not computed:  # the cause is probably not a recording: do not try all the other shards
                    break
                continue
            _write(parts[shard.number], _with_results(table.slice(shard.number * size, size), rows), pq)
            computed += 1
            done += len(rows)
            audio += sum(row["seconds"] or 0.0 for row in rows)
            report(done, len(table))
    if failures:
        raise WorkerError("; ".join(map(str, failures)))
    seconds = time.perf_counter() - begin
    written = [pq.read_table(part, columns=["seconds", "error"]) for part in parts]
    return BatchSummary(
        out=str(target),
        recordings=len(table),
        failed=sum(len(part) - part["error"].null_count for part in written),
        hours=sum(value or 0.0 for part in written for value in part["seconds"].to_pylist()) / 3600,
        shards=len(parts),
        computed=computed,
        seconds=seconds,
        hours_per_minute=audio / 60 / seconds,
    )


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ManifestError(f"{name} = {value!r}; expected a whole number ≥ 1")
    return value


# ---- one recording


class _Listener:
    """Tags recordings with the model and the settings of a job."""

    def __init__(self, job: str) -> None:
        request = json.loads(job)
        self._settings = settings = request["settings"]
        self._tagger = Tagger(request["bundle"], engine=settings["engine"], threads=request["threads"])
        self._sense = Sense(self._tagger.labels, **settings["sense"])
        self._events = EventSettings(**settings["events"])
        hop = settings["hop"]
        self._hop = self._tagger.bundle.manifest.clip_seconds if hop is None else hop
        require_choice(settings["top"], settings["threshold"])
        self._new()  # raises errors of the settings

    def _new(self) -> tuple[Aggregate, EventStream]:
        aggregate = Aggregate(self._tagger, aggregate=self._settings["aggregate"], sense=self._sense)
        stream = StreamTagger(self._tagger, hop=self._hop)  # only tells the length of window, hop and frame
        return aggregate, EventStream(stream, settings=self._events, sense=self._sense)

    def __call__(self, path: str) -> dict[str, Any]:
        """Returns one recording's results by column name."""
        row: dict[str, Any] = dict.fromkeys(RESULTS)
        aggregate, stream = self._new()
        try:
            events: list[Event] = []
            for window in windows(self._tagger, path, hop=self._hop):
                aggregate.push(window)
                events += stream.push(window)
            events += stream.finish()
            found = aggregate.result(path, top=self._settings["top"], threshold=self._settings["threshold"])
        except AudioError as error:
            return row | {"error": " ".join(str(error).split())}
        row |= {"seconds": found.seconds, "windows": found.windows, "tags": [vars(tag) for tag in found.tags]}
        row["events"] = [vars(event) for event in sorted(events, key=lambda event: (event.start, event.index))]
        if self._settings["embeddings"]:
            row["embedding"] = found.embedding
        return row


@functools.lru_cache(maxsize=1)
def _listener(job: str) -> _Listener:
    """Returns the listener of this process. The cache keeps its model from shard to shard."""
    return _Listener(job)


def _listen(job: str, paths: tuple[str, ...]) -> Rows:
    """Returns the rows of one shard. All kinds of workers run this function."""
    return [_listener(job)(path) for path in paths]


# ---- workers: they take shards and yield each shard's rows, or an error if its worker died, as soon as it is done


def _in_processes(job: str, todo: list[Shard], count: int) -> Generator[tuple[Shard, Rows | WorkerError], None, None]:
    """Runs the shards in processes on this machine."""
    context = multiprocessing.get_context("spawn")
    waiting, tries = deque(todo), Counter[int]()
    busy: dict[Connection, _Process] = {}
    idle: list[_Process] = []

    def give() -> None:
        while waiting and len(busy) < count:
            process = idle.pop() if idle else _Process(context, job)
            busy[process.connection] = process
            process.give(waiting.popleft())

    try:
        give()
        while busy:
            finished: list[tuple[Shard, Rows | WorkerError]] = []
            ready = wait(list(busy))
            for process in [process for connection, process in busy.items() if connection in ready]:
                del busy[process.connection]
                shard, rows = process.shard, process.take()
                if isinstance(rows, Exception):
                    raise rows
                if rows is not None:
                    idle.append(process)
                    finished.append((shard, rows))
                    continue
                code = process.stop()
                tries[shard.number] += 1
                if tries[shard.number] < MOST_TRIES:
                    waiting.appendleft(shard)
                else:
                    finished.append((shard, _died(shard, f"exit code {code}")))
            give()  # before the yield, so that no worker waits while the caller writes the rows
            yield from finished
    finally:
        for process in (*busy.values(), *idle):
            process.stop()


class _Process:
    """A worker process. It ends when this process ends."""

    def __init__(self, context: SpawnContext, job: str) -> None:
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()  # only then does this end see EOF when the worker dies
        self.shard: Shard

    def give(self, shard: Shard) -> None:
        self.shard = shard
        with contextlib.suppress(OSError):  # the worker died while it was idle; `take` handles it
            self.connection.send(shard.paths)

    def take(self) -> Rows | Exception | None:
        """Returns the worker's rows or its exception; None if it died."""
        try:
            answer: Rows | Exception = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return None
        return answer

    def stop(self) -> int | None:
        """Kills the worker and returns its exit code."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


def _serve(connection: Connection, job: str) -> None:
    try:
        while True:
            paths = connection.recv()
            try:
                answer: Rows | Exception = _listen(job, paths)
            except Exception as error:
                answer = error
            connection.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the run has ended


def _on_ray(
    job: str, todo: list[Shard], count: int, address: str, threads: int
) -> Generator[tuple[Shard, Rows | WorkerError], None, None]:
    """Runs the shards as tasks of a Ray cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray must not send usage statistics
    with importing("Ray", extra="ray", purpose="an address needs"):
        ray: Any = importlib.import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        resources = {"num_cpus": count * threads, "include_dashboard": False} if address == "local" else {}
        ray.init(address, log_to_driver=False, logging_level="error", **resources)
    try:
        task = ray.remote(num_cpus=threads, max_retries=MOST_TRIES - 1)(_listen)
        waiting = deque(todo)
        running: dict[Any, Shard] = {}
        most = max(count, int(ray.cluster_resources().get("CPU", 1)) // threads)
        while waiting or running:
            while waiting and len(running) < most:
                shard = waiting.popleft()
                running[task.remote(job, shard.paths)] = shard
            (reference,), _ = ray.wait(list(running))
            shard = running.pop(reference)
            try:
                yield shard, ray.get(reference)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                yield shard, _died(shard, type(error).__name__)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
    finally:
        if ours:
            ray.shutdown()


def _died(shard: Shard, how: str) -> WorkerError:
    names = ", ".join(map(repr, shard.paths[:3])) + (", …" if len(shard.paths) > 3 else "")
    return WorkerError(
        f"shard {shard.number} ({names}): its worker died {MOST_TRIES} times ({how}); expected enough memory, "
        'readable recordings, and in a script `if __name__ == "__main__":`; the finished shards are complete'
    )


# ---- files


def _parquet() -> Any:
    with importing("pyarrow", extra="parquet", purpose="batch needs"):
        import pyarrow.parquet
    return pyarrow.parquet


def _manifest(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[pa.Table, str]:
    """Returns the rows, and the folder that their paths are relative to."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not isinstance(given, (str, os.PathLike)):
        paths = pa.array([os.fspath(path) for path in given], pa.string())
        table, name, folder = pa.table({"path": paths}), "the list", Path()
    else:
        path = Path(given)
        name, folder = str(path), path.parent
        try:
            if path.suffix.casefold() == ".csv":
                # Without this, names that look like numbers would be read as numbers.
                options = pyarrow.csv.ConvertOptions(column_types={"path": pa.string()})
                table = pyarrow.csv.read_csv(path, convert_options=options)
            elif path.suffix.casefold() == ".parquet":
                table = pyarrow.parquet.read_table(path)
            else:
                raise ManifestError(f"{path}; expected a manifest .csv or .parquet with a column path, or a list")
        except (OSError, pa.ArrowException) as error:
            raise ManifestError(f"{path}: {error}; expected a .csv or .parquet with a column path") from error
    columns = table.column_names
    text = columns.count("path") == 1 and table["path"].type in (pa.string(), pa.large_string(), pa.string_view())
    if not text:
        raise ManifestError(f"{name}: columns {', '.join(columns)}; expected one column path with text")
    if taken := [column for column in columns if column in RESULTS or columns.count(column) > 1]:
        raise ManifestError(f"{name}: column {taken[0]!r}; expected different names, and none of {', '.join(RESULTS)}")
    if not len(table):
        raise ManifestError(f"{name}: no rows; expected at least one recording")
    if empty := [row for row, value in enumerate(table["path"].to_pylist()) if not value]:
        raise ManifestError(f"{name}: row {empty[0] + 1} has no path; expected one in every row")
    return table.replace_schema_metadata(None), str(folder.resolve())


def _fingerprint(table: pa.Table) -> str:
    digest = hashlib.sha256(json.dumps(table.column_names).encode())
    for part in table.to_batches(max_chunksize=1024):
        for row in part.to_pylist():
            digest.update(json.dumps(row, default=str).encode())
    return digest.hexdigest()


def _begin(folder: Path, record: dict[str, Any]) -> None:
    """Makes the folder, or checks that it belongs to a run with the same record."""
    path = folder / RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".part-*"):  # from a run that was killed
            unfinished.unlink()
        if not path.exists():
            if found := next(folder.glob("part-*"), None):
                raise ResultsError(f"{found} without {RECORD}; expected an empty folder, or that of an earlier run")
            with _atomic(path) as new:
                new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            return
        was = json.loads(path.read_text(encoding="utf-8"))
    except ResultsError:
        raise
    except OSError as error:
        raise ResultsError(f"{folder}: {error.strerror}; expected a folder that can be written") from error
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON ({error}); expected a folder of an earlier run, or a new one") from error
    if not isinstance(was, dict) or not isinstance(was.get("settings"), dict):
        raise ResultsError(f"{path}: no settings; expected a folder of an earlier run, or a new one")
    was, now = ({**found.pop("settings"), **found} for found in (was, dict(record)))
    for name, value in now.items():
        if was.get(name) != value:
            raise ResultsError(
                f"{folder} belongs to another run: {name} {json.dumps(was.get(name))}, now {json.dumps(value)}; "
                "use the same settings, or another folder"
            )


def _with_results(rows: pa.Table, results: Rows) -> pa.Table:
    """Returns the manifest's rows with the columns of the results."""
    import pyarrow as pa

    class_ = [("label", pa.string()), ("index", pa.int32())]
    types = {
        "seconds": pa.float64(),
        "windows": pa.int32(),
        "error": pa.string(),
        "tags": pa.list_(pa.struct([*class_, ("score", pa.float64())])),
        "events": pa.list_(pa.struct([*class_, *((name, pa.float64()) for name in ("start", "end", "score"))])),
        "embedding": pa.list_(pa.float32()),
    }
    for name in RESULTS:
        rows = rows.append_column(name, pa.array([row[name] for row in results], types[name]))
    return rows


def _write(part: Path, table: pa.Table, pq: Any) -> None:
    try:
        with _atomic(part) as new:
            pq.write_table(table, new, compression="zstd")
    except OSError as error:
        raise ResultsError(
            f"{part}: {error.strerror or error}; the finished shards are complete; make room and run it again"
        ) from error


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """Yields a hidden file and moves it to `path` at the end of the block, flushed to disk. An error removes it.

    If the process is killed, the hidden file stays, and `_begin` of the next run removes it.
    """
    new = path.with_name(f".part-{path.name}")
    try:
        yield new
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
