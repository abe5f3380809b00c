"""Batch: a manifest of many recordings to Parquet, by all cores or by a Ray cluster (extras `parquet`, `ray`).

The manifest is cut into shards, by its rows alone. A worker, here or on another machine, hears the recordings of one
shard after another and sends back what it heard; only the process that called `batch` writes. So a shard is whole or
not there, whatever dies, and a run that was broken off goes on with the shards that are not there.
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
"""What a folder of shards holds: model, settings, manifest. Parquet readers pass over names with _ or . in front."""

RESULTS = ("seconds", "windows", "error", "tags", "events", "embedding")
"""Columns beside those of the manifest."""

MOST_TRIES = 3
"""Of a shard whose worker dies: a recording may be what kills it."""

_FORMAT_VERSION = 1
_MOST_OF_SHARD = 64  # what is lost at most where a worker dies
_SHARDS = 64  # of a small manifest, so that all workers have their part

Rows = list[dict[str, Any]]


class Shard(NamedTuple):
    """A stretch of the manifest: its number, and the files."""

    number: int
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What a run came to.

    Attributes:
        out: the folder of shards.
        recordings, failed, hours: in the whole folder: rows, rows with an error, hours of audio.
        shards, computed: of the whole folder, and those that this run computed.
        seconds: that this run took.
        hours_per_minute: hours of audio that this run heard in a minute.
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
    """Hears every recording of a manifest and writes tags, events and embeddings as Parquet.

    A row for every row of the manifest, in its order: its columns and `seconds`, `windows`, `error` (null where all
    went well), `tags` (label, index, score; highest first), `events` (label, index, start, end, score), `embedding`
    (float32; null if not asked for). A recording that cannot be used is a row with its error. Finished shards are
    never computed again; one run at a time writes to a folder.

    A script that calls this needs `if __name__ == "__main__":`, as all that starts processes.

    Args:
        manifest: a .csv or .parquet file with a column `path`, relative to that file; or the paths themselves.
        out: folder of `part-00000.parquet`, …; made, or gone on with.
        bundle, engine, threads: as for `Tagger`, of every worker.
        workers: processes, ≥ 1; as many as there are cores for if not given.
        address: of a Ray cluster, or "local" to start one here; no Ray if not given. Its machines need this package,
            the recordings and the bundle under the same paths; `out` is written here.
        hop: seconds from one window to the next, of tags and events; a window's length if not given.
        aggregate, top, threshold: as for `tag_long`.
        settings: thresholds of events.
        sense: arguments of `Sense` by name, without the labels.
        embeddings: whether to write them.
        per_shard: recordings of a shard, ≥ 1; 1 to 64 if not given, as the manifest is long.
        progress: called with how many recordings are done, and how many there are.

    Raises:
        ManifestError: the manifest cannot be read, or has no or no usable rows.
        ResultsError: the folder is of another manifest, model or other settings, or cannot be written; the shards
            so far are whole.
        WorkerError: a shard's worker died three times; the others are written.
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
    _Listener(job)  # so that what is wrong with the bundle or the settings is told once, and now
    target = Path(out)
    parts = [target / f"part-{index:05d}.parquet" for index in range(-(-len(table) // size))]
    record = {
        "format_version": _FORMAT_VERSION,
        "model": opened.manifest.model,
        "model_sha256": next(file.sha256 for file in opened.manifest.files.values() if file.role == "model"),
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
    with contextlib.closing(results):  # no worker outlives an error
        for shard, rows in results:
            if isinstance(rows, WorkerError):
                failures.append(rows)
                if not computed:  # no recording's fault, then
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
    """A model and what is to be made of what it hears."""

    def __init__(self, job: str) -> None:
        told = json.loads(job)
        self._settings = settings = told["settings"]
        self._tagger = Tagger(told["bundle"], engine=settings["engine"], threads=told["threads"])
        self._sense = Sense(self._tagger.labels, **settings["sense"])
        self._events = EventSettings(**settings["events"])
        hop = settings["hop"]
        self._hop = self._tagger.bundle.manifest.clip_seconds if hop is None else hop
        require_choice(settings["top"], settings["threshold"])
        self._new()

    def _new(self) -> tuple[Aggregate, EventStream]:
        aggregate = Aggregate(self._tagger, aggregate=self._settings["aggregate"], sense=self._sense)
        stream = StreamTagger(self._tagger, hop=self._hop)  # says only which stretch each window stands for
        return aggregate, EventStream(stream, settings=self._events, sense=self._sense)

    def __call__(self, path: str) -> dict[str, Any]:
        """One recording's results, by column."""
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
    """The worker's own: it keeps its model from shard to shard."""
    return _Listener(job)


def _listen(job: str, paths: tuple[str, ...]) -> Rows:
    """What every worker does, of whatever kind."""
    return [_listener(job)(path) for path in paths]


# ---- workers: shards in; their rows out, as they come, or what became of the worker


def _in_processes(job: str, todo: list[Shard], count: int) -> Generator[tuple[Shard, Rows | WorkerError], None, None]:
    """By processes of this machine."""
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
            give()  # first: nobody waits for what the caller does with the rows
            yield from finished
    finally:
        for process in (*busy.values(), *idle):
            process.stop()


class _Process:
    """A worker process. It ends by itself when this process does."""

    def __init__(self, context: SpawnContext, job: str) -> None:
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()  # so that the worker's death is this end's EOF
        self.shard: Shard

    def give(self, shard: Shard) -> None:
        self.shard = shard
        with contextlib.suppress(OSError):  # it died while it had nothing to do; `take` will find out
            self.connection.send(shard.paths)

    def take(self) -> Rows | Exception | None:
        """What came back; None if it died."""
        try:
            answer: Rows | Exception = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return None
        return answer

    def stop(self) -> int | None:
        """Ends it; the exit code."""
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
    except (EOFError, OSError, KeyboardInterrupt):  # the run has ended
        pass


def _on_ray(
    job: str, todo: list[Shard], count: int, address: str, threads: int
) -> Generator[tuple[Shard, Rows | WorkerError], None, None]:
    """By tasks of a Ray cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about anybody's recordings goes anywhere
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
        'recordings that can be read, and in a script `if __name__ == "__main__":`; the shards that are done are whole'
    )


# ---- files


def _parquet() -> Any:
    with importing("pyarrow", extra="parquet", purpose="batch needs"):
        import pyarrow.parquet
    return pyarrow.parquet


def _manifest(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[pa.Table, str]:
    """The rows, and the folder that their paths are relative to."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not isinstance(given, (str, os.PathLike)):
        table, name, folder = (
            pa.table({"path": pa.array([os.fspath(path) for path in given], pa.string())}),
            "the list",
            Path(),
        )
    else:
        path = Path(given)
        name, folder = str(path), path.parent
        try:
            if path.suffix.casefold() == ".csv":
                # A name that looks like a number is a name.
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
        raise ManifestError(f"{name}: columns {', '.join(columns)}; expected one column path of texts")
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
    """Makes the folder, or finds it to be of this very run."""
    path = folder / RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".part-*"):  # of a run that was killed
            left.unlink()
        if not path.exists():
            if found := next(folder.glob("part-*"), None):
                raise ResultsError(f"{found} without {RECORD}; expected an empty folder, or one of an earlier run")
            with _atomic(path) as new:
                new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            return
        was = json.loads(path.read_text(encoding="utf-8"))
    except ResultsError:
        raise
    except OSError as error:
        raise ResultsError(f"{folder}: {error.strerror}; expected a folder that can be written") from error
    except ValueError as error:
        raise ResultsError(f"{path}: no JSON ({error}); expected a folder of an earlier run, or another") from error
    if not isinstance(was, dict) or not isinstance(was.get("settings"), dict):
        raise ResultsError(f"{path}: expected a folder of an earlier run, or another")
    was, now = ({**found.pop("settings"), **found} for found in (was, dict(record)))
    for name, value in now.items():
        if was.get(name) != value:
            raise ResultsError(
                f"{folder} is of another run: {name} {json.dumps(was.get(name))}, now {json.dumps(value)}; "
                "give the same again, or another folder"
            )


def _with_results(rows: pa.Table, results: Rows) -> pa.Table:
    """The manifest's rows with what was heard in them."""
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
            f"{part}: {error.strerror or error}; the shards before it are whole; make room and run it again"
        ) from error


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """A hidden file that takes the path's place, on disk, at the end; nothing is left of it after an error."""
    new = path.with_name(f".part-{path.name}")
    try:
        yield new
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
