"""Batch: tags the recordings of a manifest into Parquet, on all cores or on a Ray cluster (extras `parquet`, `ray`).

The manifest's rows are cut into shards of equal size. A worker, on this or another machine, tags the recordings of one
shard after another and sends the results back. Only the process that called `batch` writes files, and it has a lock on
the folder, so a shard's file is complete or does not exist, even after a crash. An interrupted run continues with the
shards that are missing, damaged, or of recordings that were changed since.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import dataclasses
import functools
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from panns_litert.atomic import replacing, writing
from panns_litert.audio import AudioBlocks, Scale
from panns_litert.bundle import Bundle, file_sha256, open_bundle
from panns_litert.engine import available_cores
from panns_litert.errors import (
    AudioError,
    EventError,
    LabelError,
    ManifestError,
    ResultsError,
    WorkerError,
    importing,
    why_failed,
)
from panns_litert.escape import utf8
from panns_litert.events import Event, EventSettings
from panns_litert.prototypes import Prototypes
from panns_litert.results import Row
from panns_litert.sense import Sense
from panns_litert.strict import changes, file_stamp, parse_json, read_bytes, read_json, shown
from panns_litert.tagger import EngineName, Tagger, Threshold, top_tags
from panns_litert.windows import Aggregate, AggregateName, EventStream, StreamTagger

if TYPE_CHECKING:
    import pyarrow as pa

RECORD = "_batch.json"
"""File that describes the run of a folder: model, settings, manifest. Parquet readers skip names that begin with _."""

LEDGER = "_parts.jsonl"
"""File with a line for every complete part: its size and SHA-256, and the sizes and times of its recordings, hashed."""

RESULTS = (
    "seconds", "seconds_heard", "padding_seconds", "warnings", "windows", "error", "tags", "events", "embedding"
)  # fmt: skip
"""Columns that are added to those of the manifest."""

MOST_TRIES = 3
"""How often a recording is tried if its worker dies. The limit is needed because a recording may kill every worker."""

SHOWN_FAILURES = 5
"""Number of failed recordings that a summary names."""

_FORMAT_VERSION = 2  # also counts changes of the algorithms that give other answers for the same settings
_MOST_DEATHS = 3 * MOST_TRIES  # of workers before a recording was heard: then the cause is not a recording
_MOST_BYTES = 1 << 30  # of a ledger; a line has 200 bytes
_MOST_OF_SHARD = 64  # recordings; a worker that dies loses at most these
_SHARDS = 64  # number of shards of a small manifest, so that every worker gets some

Rows = list[dict[str, Any]]


class Shard(NamedTuple):
    """Consecutive rows of the manifest: number of the shard, and paths of the recordings."""

    number: int
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BatchSummary(Row):
    """Summary of a run.

    Attributes:
        out: the folder of shards.
        recordings: number of rows in the whole folder.
        failed: number of rows with an error in the whole folder.
        warned: number of rows with a warning in the whole folder: something was wrong or was not heard.
        hours: hours of audio in the whole folder.
        shards: number of shards in the whole folder.
        computed: number of shards that this run computed.
        seconds: duration of this run.
        hours_per_minute: hours of audio that this run tagged per minute.
        done: number of rows that this run computed.
        skipped: number of rows that an earlier run computed and that were kept.
        failures: the first `SHOWN_FAILURES` rows with an error: path, and error.
        redone: shards of an earlier run that were not kept, and why.
    """

    out: str
    recordings: int
    failed: int
    warned: int
    hours: float
    shards: int
    computed: int
    seconds: float
    hours_per_minute: float
    done: int
    skipped: int
    failures: tuple[tuple[str, str], ...]
    redone: tuple[str, ...]


def batch(
    manifest: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | Bundle | None = None,
    engine: EngineName = "cpu",
    threads: int = 1,
    prototypes: Prototypes | str | os.PathLike[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    channel: int | None = None,
    scale: Scale | None = None,
    hop: float | None = None,
    aggregate: AggregateName = "mean",
    top: int | None = 10,
    threshold: Threshold = 0.0,
    settings: EventSettings | None = None,
    sense: Mapping[str, Any] | None = None,
    embeddings: bool = True,
    per_shard: int | None = None,
    encoding: str = "utf-8",
    progress: Callable[[int, int], object] | None = None,
) -> BatchSummary:
    """Tags every recording of a manifest and writes tags, events and embeddings as Parquet.

    The output has a row for every row of the manifest, in the same order. It has the manifest's columns and `seconds`,
    `seconds_heard`, `padding_seconds`, `warnings` (see `LongTagging`), `windows`, `error` (null if there was none),
    `tags` (label, index, score; highest first), `events` (label, index, start, end, score) and `embedding` (float32;
    null if not requested). A recording that cannot be used, or that kills its worker, gets a row with its error. The
    columns of a CSV are text: `001` and `NA` stay as they are, and an empty cell is an empty text. In a path, bytes
    that are no UTF-8 are written as `\\xe9` and the like.

    A finished shard is computed again only if its file is damaged or the size or time of one of its recordings has
    changed. Only one run at a time may write to a folder; a second one is refused.

    A script that calls this function needs `if __name__ == "__main__":`, because it starts processes.

    Args:
        manifest: a .csv or .parquet file with a column `path`, relative to that file; or the paths themselves.
        out: folder for `part-00000.parquet`, …; a new one, or that of an earlier run to continue it.
        bundle, engine, threads, prototypes: as for `Tagger`, in every worker.
        workers: number of processes, ≥ 1; the number of cores divided by `threads` if not given.
        address: address of a Ray cluster, or "local" to start one here; no Ray if not given. The cluster's machines
            need this package, and the recordings and the bundle under the same paths. `out` is written here.
        channel, scale: as for `load_audio`.
        hop: seconds from one window to the next, for tags and events; a window's length if not given.
        aggregate, top, threshold: as for `tag_long`.
        settings: thresholds of events.
        sense: arguments of `Sense` by name, without the labels.
        embeddings: whether to write embeddings.
        per_shard: number of recordings in a shard, ≥ 1; 1 to 64, depending on the manifest's length, if not given.
        encoding: of a .csv, such as "latin-1". A byte order mark at the start of UTF-8 is ignored.
        progress: called with the number of finished recordings and the number of all recordings.

    Raises:
        ManifestError: the manifest cannot be read, has no rows or unusable rows, or `workers`, `threads` or `per_shard`
            is out of range.
        ResultsError: the folder belongs to a run with another manifest, bundle, prototypes or settings, another run is
            writing it, or it cannot be written. The shards written so far are complete.
        WorkerError: workers die before they hear anything, or Ray's cluster is not there. The shards written so far are
            complete.
        MissingDependencyError: pyarrow or Ray is not installed.
        BundleError, PrototypeError, WindowError, EventError, LabelError, AudioError: as for `Tagger`, `tag_long`,
            `find_events`.
    """
    begin = time.perf_counter()
    pq = _parquet()
    table, names = _manifest(manifest, encoding)
    size = min(_MOST_OF_SHARD, -(-len(table) // _SHARDS)) if per_shard is None else _count("per_shard", per_shard)
    workers = max(1, available_cores() // _count("threads", threads)) if workers is None else _count("workers", workers)
    opened = open_bundle(bundle)
    if not isinstance(settings, EventSettings | None):
        raise EventError(f"settings {shown(settings)}; expected EventSettings")
    if not isinstance(sense, Mapping | None):
        raise LabelError(f"sense {shown(sense)}; expected the arguments of Sense by name")
    AudioBlocks(iter(()), sample_rate=32000, rate=32000, channel=channel, scale=scale)  # raises errors of these two
    chosen: dict[str, Any] = {
        "channel": channel,
        "scale": scale,
        "hop": hop,
        "aggregate": aggregate,
        "top": top,
        "threshold": threshold,
        "events": dataclasses.asdict(EventSettings() if settings is None else settings),
        "sense": dict(sense or {}),
        "embeddings": bool(embeddings),
        "engine": engine,
    }
    request = {"bundle": str(opened.path.resolve()), "threads": threads, "settings": chosen}
    if prototypes is not None:
        enrolled = prototypes if isinstance(prototypes, Prototypes) else Prototypes.read(prototypes)
        chosen["prototypes"] = enrolled.answers_sha256
        request["prototypes"] = enrolled.without_background().to_json()
    try:
        job = json.dumps(request, default=_json_type)
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: a whole number of thousands of digits
        raise ManifestError(f"the settings cannot be stored: {error}; expected numbers, texts and lists") from error
    _Listener(job)  # raises any error of the bundle or the settings here, before workers start
    try:
        target = Path(out)
    except TypeError as error:
        raise ResultsError(f"out = {shown(out)}; expected the path of a folder") from error
    shards = [Shard(i, tuple(names[i * size : (i + 1) * size])) for i in range(-(-len(table) // size))]
    parts = [target / f"part-{shard.number:05d}.parquet" for shard in shards]
    record = {
        "format_version": _FORMAT_VERSION,
        "model": opened.manifest.model,
        "model_sha256": opened.manifest.model_sha256,
        "bundle_sha256": opened.manifest.answers_sha256,
        "settings": json.loads(job)["settings"],
        "manifest_sha256": _fingerprint(table),
        "recordings": len(table),
        "per_shard": size,
        "shards": len(parts),
    }
    _make_folder(target)
    with writing(target / RECORD):
        _begin(target, record)
        ledger = _Ledger(target / LEDGER)
        # Taken before the recordings are heard: one that changes meanwhile is heard again by the next run.
        stamps = [_stamps(shard.paths) for shard in shards]
        missing = [ledger.missing(part, stamp) for part, stamp in zip(parts, stamps, strict=True)]
        todo = [shard for shard in shards if missing[shard.number] is not None]
        redone = tuple(f"{part.name}: {why}" for part, why in zip(parts, missing, strict=True) if why)
        audio, skipped, done = 0.0, len(table) - sum(len(shard.paths) for shard in todo), 0
        report = progress or (lambda *_: None)
        report(skipped, len(table))
        results = (
            _in_processes(job, todo, workers) if address is None else _on_ray(job, todo, workers, address, threads)
        )
        with contextlib.closing(results):  # ends all workers after an error
            for shard, rows in results:
                part = parts[shard.number]
                _write(part, _with_results(table.slice(shard.number * size, size), rows), pq)
                ledger.add(part, stamps[shard.number])
                done += len(rows)
                audio += sum(row["seconds"] or 0.0 for row in rows)
                report(skipped + done, len(table))
        found = [_read_part(part, ("path", "seconds", "warnings", "error"), pq) for part in parts]
    seconds = time.perf_counter() - begin
    failures = [(str(row["path"]), row["error"]) for rows in found for row in rows if row["error"] is not None]
    return BatchSummary(
        out=str(target),
        recordings=len(table),
        failed=len(failures),
        warned=sum(bool(row["warnings"]) for rows in found for row in rows),
        hours=sum(row["seconds"] or 0.0 for rows in found for row in rows) / 3600,
        shards=len(parts),
        computed=len(todo),
        seconds=seconds,
        hours_per_minute=audio / 60 / seconds,
        done=done,
        skipped=skipped,
        failures=tuple(failures[:SHOWN_FAILURES]),
        redone=redone,
    )


def _count(name: str, value: object) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ManifestError(f"{name} = {shown(value)}; expected a whole number ≥ 1")
    return int(value)


def _json_type(value: object) -> object:
    """Returns the values of other types that settings may have as JSON types."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{shown(value)} of {type(value).__name__}")


# ---- one recording


class _Listener:
    """Tags recordings with the model and the settings of a job."""

    def __init__(self, job: str) -> None:
        request = json.loads(job)
        self._settings = settings = request["settings"]
        text = request.get("prototypes")
        prototypes = None if text is None else Prototypes.from_json(text)
        self._tagger = Tagger(
            request["bundle"], engine=settings["engine"], threads=request["threads"], prototypes=prototypes
        )
        try:
            self._sense = Sense(self._tagger.labels, **settings["sense"])
        except TypeError as error:  # an unknown argument, or a value of another type
            raise LabelError(f"sense: {error}; expected the arguments of Sense by name") from error
        self._events = EventSettings(**settings["events"])
        hop = settings["hop"]
        hop = self._tagger.bundle.manifest.clip_seconds if hop is None else hop
        self._stream = StreamTagger(self._tagger, hop=hop)
        labels = self._sense.labels
        top_tags(labels, np.zeros(len(labels)), top=settings["top"], threshold=settings["threshold"])  # raises now
        self._new()  # raises errors of the settings

    def _new(self) -> tuple[Aggregate, EventStream]:
        aggregate = Aggregate(self._tagger, aggregate=self._settings["aggregate"], sense=self._sense)
        return aggregate, EventStream(self._stream, settings=self._events, sense=self._sense)

    def __call__(self, path: str) -> dict[str, Any]:
        """Returns one recording's results by column name. No exception of a recording ends the job."""
        row: dict[str, Any] = dict.fromkeys(RESULTS)
        try:
            _require_regular(path)
            aggregate, detector = self._new()
            events: list[Event] = []
            rate, options = self._tagger.bundle.manifest.front_end.sample_rate, self._settings
            with AudioBlocks(path, sample_rate=rate, channel=options["channel"], scale=options["scale"]) as blocks:
                for window in self._stream.of(blocks):
                    aggregate.push(window)
                    events += detector.push(window)
            events += detector.finish()
            top, threshold = self._settings["top"], self._settings["threshold"]
            found = aggregate.result(path, heard=blocks, top=top, threshold=threshold)
        except Exception as error:
            return _failed(path, error)
        row |= {name: getattr(found, name) for name in ("seconds", "seconds_heard", "padding_seconds", "windows")}
        row |= {"warnings": [utf8(text) for text in found.warnings], "tags": [vars(tag) for tag in found.tags]}
        row["events"] = [vars(event) for event in sorted(events, key=lambda event: (event.start, event.index))]
        if self._settings["embeddings"] and len(found.embedding):
            row["embedding"] = found.embedding
        return row


def _require_regular(path: str) -> None:
    """Refuses a pipe or a device: it may never end, and it cannot be heard twice."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise AudioError(f"{path}: not a regular file; expected an audio file")


def _failed(path: str, error: Exception) -> dict[str, Any]:
    return dict.fromkeys(RESULTS) | {"error": utf8(why_failed(path, error))}


@functools.lru_cache(maxsize=1)
def _listener(job: str) -> _Listener:
    """Returns the listener of this process. The cache keeps its model from shard to shard."""
    return _Listener(job)


def _listen(job: str, paths: tuple[str, ...]) -> Rows:
    """Returns the rows of one shard. All kinds of workers run this function."""
    return [_listener(job)(path) for path in paths]


# ---- workers: they take shards and yield each shard's rows as soon as it is done


class _Task(NamedTuple):
    """What a worker is given: a shard, or one of its recordings, number `first`; and how often a worker died on it."""

    shard: Shard
    first: int
    paths: tuple[str, ...]
    tries: int


class _Work:
    """What is left to hear. A shard whose worker died is heard recording by recording, each in a task of its own.

    A recording is tried `MOST_TRIES` times, because a worker may also die of something else. The later tries come last:
    if nothing else can be heard either, the cause is not a recording, and the run ends.
    """

    def __init__(self, todo: list[Shard]) -> None:
        self.waiting = deque(_Task(shard, 0, shard.paths, 0) for shard in todo)
        self._rows: dict[int, list[dict[str, Any] | None]] = {}
        self._heard, self._deaths = False, 0

    def done(self, task: _Task, rows: Rows) -> list[tuple[Shard, Rows]]:
        """Takes the rows of a task. Returns the task's shard if it is complete now."""
        self._heard = True
        return self._filled(task, rows)

    def died(self, task: _Task, how: str) -> list[tuple[Shard, Rows]]:
        """Takes a task whose worker died. Returns the task's shard if that was the last try of its last recording.

        Raises:
            WorkerError: too many workers died, and no recording was heard.
        """
        self._deaths += 1
        if not self._heard and self._deaths == _MOST_DEATHS:
            raise WorkerError(
                f"{_MOST_DEATHS} workers died ({how}) and no recording was heard, the last one at {task.paths[0]}; "
                "expected enough memory and recordings that can be read; the finished shards are complete"
            )
        if len(task.paths) > 1:
            self.waiting.extendleft(
                _Task(task.shard, i, (path,), 0) for i, path in reversed(list(enumerate(task.paths)))
            )
        elif task.tries + 1 < MOST_TRIES:
            self.waiting.append(task._replace(tries=task.tries + 1))
        else:
            error = AudioError(
                f"{task.paths[0]}: its worker died on it {MOST_TRIES} times ({how}); expected a recording that can be "
                "read, and enough memory"
            )
            return self._filled(task, [_failed(task.paths[0], error)])
        return []

    def _filled(self, task: _Task, rows: Rows) -> list[tuple[Shard, Rows]]:
        whole = self._rows.setdefault(task.shard.number, [None] * len(task.shard.paths))
        whole[task.first : task.first + len(rows)] = rows
        complete = [row for row in whole if row is not None]
        if len(complete) < len(whole):
            return []
        del self._rows[task.shard.number]
        return [(task.shard, complete)]


def _in_processes(job: str, todo: list[Shard], count: int) -> Generator[tuple[Shard, Rows], None, None]:
    """Runs the shards in processes on this machine."""
    context = multiprocessing.get_context("spawn")
    work = _Work(todo)
    busy: dict[Connection, _Process] = {}
    idle: list[_Process] = []
    never_ready = 0  # workers in a row that died before they could hear

    def give() -> None:
        while work.waiting and len(busy) < count:
            process = idle.pop() if idle else _Process(context, job)
            busy[process.connection] = process
            process.give(work.waiting.popleft())

    try:
        give()
        while busy:
            finished: list[tuple[Shard, Rows]] = []
            failure: Exception | None = None
            ready = wait(list(busy))
            for process in [process for connection, process in busy.items() if connection in ready]:
                task, answer = process.task, process.take()
                if answer == _READY:
                    never_ready = 0
                    continue
                del busy[process.connection]
                if isinstance(answer, list):
                    idle.append(process)
                    finished += work.done(task, answer)
                    continue
                code = process.stop()
                try:
                    if isinstance(answer, Exception):
                        raise answer
                    if process.ready:
                        finished += work.died(task, f"exit code {code}")
                        continue
                    never_ready += 1
                    if never_ready == MOST_TRIES:
                        raise WorkerError(
                            f"{MOST_TRIES} workers died when they started (exit code {code}); expected enough memory, "
                            'and in a script `if __name__ == "__main__":`; the finished shards are complete'
                        )
                    work.waiting.appendleft(task)
                except Exception as error:  # raised below, when the finished shards are written
                    failure = error
            if failure is None:
                give()  # before the yield, so that no worker waits while the caller writes the rows
            yield from finished
            if failure is not None:
                raise failure
    finally:
        for process in (*busy.values(), *idle):
            process.stop()


_READY = "ready"
"""A worker sends this when it has opened its model. If it dies later, a recording may be the cause."""


class _Process:
    """A worker process. It ends when this process ends."""

    def __init__(self, context: SpawnContext, job: str) -> None:
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        with _without_interrupts():  # it would print a traceback if it still imports; this process ends it
            self._process.start()
        theirs.close()  # only then does this end see EOF when the worker dies
        self.ready = False
        self.task: _Task

    def give(self, task: _Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # the worker died while it was idle; `take` handles it
            self.connection.send(task.paths)

    def take(self) -> Rows | Exception | str | None:
        """Returns `_READY`, the worker's rows or its exception; None if it died."""
        try:
            answer: Rows | Exception | str = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return None
        self.ready = self.ready or answer == _READY
        return answer

    def stop(self) -> int | None:
        """Kills the worker and returns its exit code."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C, which a terminal sends to all processes, for processes that start in the block.

    This process gets it after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, job: str) -> None:
    try:
        try:
            _listener(job)
        except Exception as error:
            connection.send(error)
            return
        connection.send(_READY)
        while True:
            connection.send(_listen(job, connection.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the run has ended


def _on_ray(
    job: str, todo: list[Shard], count: int, address: str, threads: int
) -> Generator[tuple[Shard, Rows], None, None]:
    """Runs the shards as tasks of a Ray cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray must not send usage statistics
    with importing("Ray", extra="ray", purpose="an address needs"):
        ray: Any = importlib.import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        resources = {"num_cpus": count * threads, "include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address, log_to_driver=False, logging_level="error", **resources)
        except Exception as error:  # Ray raises many types
            why = " ".join(str(error).split())
            raise WorkerError(f"no Ray at {address!r}: {why}; expected local, or the address of a cluster") from error
    try:
        remote = ray.remote(num_cpus=threads, max_retries=0)(_listen)
        work = _Work(todo)
        running: dict[Any, _Task] = {}
        most = max(count, int(ray.cluster_resources().get("CPU", 1)) // threads)
        while work.waiting or running:
            while work.waiting and len(running) < most:
                task = work.waiting.popleft()
                running[remote.remote(job, task.paths)] = task
            (reference,), _ = ray.wait(list(running))
            task = running.pop(reference)
            errors = ray.exceptions
            try:
                finished = work.done(task, ray.get(reference))
            except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
                finished = work.died(task, type(error).__name__)
            except errors.RayTaskError as error:
                raise error.cause from error
            except errors.RayError as error:  # of the cluster, not of a recording
                why = " ".join(str(error).split())
                raise WorkerError(f"Ray: {why}; the finished shards are complete; run it again") from error
            yield from finished
    finally:
        if ours:
            ray.shutdown()


# ---- files


def _parquet() -> Any:
    with importing("pyarrow", extra="parquet", purpose="batch needs"):
        import pyarrow.parquet
    return pyarrow.parquet


_EXPECTED = "expected a .csv or .parquet with a column path"


def _manifest(
    given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], encoding: str
) -> tuple[pa.Table, list[str]]:
    """Returns the rows of the manifest, and the absolute paths of its recordings."""
    import pyarrow as pa

    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        name, folder = str(path), str(path.parent.resolve())
        kind = path.suffix.casefold()
        if kind not in (".csv", ".parquet"):
            raise ManifestError(f"{path}; expected a manifest .csv or .parquet with a column path, or a list")
        if not path.is_file():
            raise ManifestError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; {_EXPECTED}")
        table, paths = _read_csv(path, encoding, folder) if kind == ".csv" else _read_parquet(path)
    else:
        name, folder = "the list", os.getcwd()
        try:
            paths = [os.fsdecode(path) for path in given]
        except TypeError as error:
            raise ManifestError(f"{shown(given)}: {error}; {_EXPECTED}, or a list of paths") from error
        table = pa.table({"path": pa.array(map(utf8, paths), pa.string())})
    columns = table.column_names
    if taken := [column for column in columns if column in RESULTS or columns.count(column) > 1]:
        raise ManifestError(f"{name}: column {taken[0]!r}; expected different names, and none of {', '.join(RESULTS)}")
    if not len(table):
        raise ManifestError(f"{name}: no rows; expected at least one recording")
    if empty := [row for row, value in enumerate(paths, 1) if not (value and value.strip())]:
        more = f" ({len(empty)} such rows)" if len(empty) > 1 else ""
        raise ManifestError(f"{name}: row {empty[0]} has no path{more}; expected one in every row")
    return table.replace_schema_metadata(None), [os.path.join(folder, path) for path in paths]


def _read_csv(path: Path, encoding: str, folder: str) -> tuple[pa.Table, list[str]]:
    """Returns the rows, all columns as text, and the paths."""
    import pyarrow as pa

    try:
        known = codecs.lookup(encoding).name
        # The bytes that are not of this encoding become surrogates. A path may have them: names of files are bytes.
        with path.open(
            encoding="utf-8-sig" if known == "utf-8" else known, errors="surrogateescape", newline=""
        ) as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            at = header.index("path") if "path" in header else -1
            rows: list[list[str]] = []
            for row in itertools.chain([header], lines):
                for column, cell in enumerate(row):
                    if utf8(cell) != cell and not (column == at and os.path.lexists(os.path.join(folder, cell))):
                        raise ManifestError(
                            f"{path}, line {lines.line_num}: {utf8(cell)!r} is not in {encoding}; "
                            "expected UTF-8, or the encoding of the file: --encoding latin-1"
                        )
                if row and len(row) != len(header):
                    raise ManifestError(
                        f"{path}, line {lines.line_num}: {len(row)} cells; expected {len(header)}, as in line 1; "
                        f"{_EXPECTED}"
                    )
                rows += [row] if row else []
    except ManifestError:
        raise
    # LookupError: no such encoding; ValueError: another one than that of the file, or a NUL in its name.
    except (OSError, csv.Error, ValueError, LookupError, TypeError) as error:
        raise ManifestError(f"{path}: {error}; {_EXPECTED}, in UTF-8 or with --encoding") from error
    if header.count("path") != 1:
        raise ManifestError(f"{path}: columns {', '.join(header) or 'none'}; expected one column path; {_EXPECTED}")
    del rows[0]  # the header
    columns = [pa.array([utf8(row[i]) for row in rows], pa.string()) for i in range(len(header))]
    return pa.Table.from_arrays(columns, names=header), [row[at] for row in rows]


def _read_parquet(path: Path) -> tuple[pa.Table, list[str]]:
    """Returns the rows, with the types of the file, and the paths."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: {error}; {_EXPECTED}") from error
    columns = table.column_names
    kind = table.schema.field("path").type if columns.count("path") == 1 else None
    kind = kind.value_type if kind is not None and pa.types.is_dictionary(kind) else kind
    if kind not in (pa.string(), pa.large_string(), pa.string_view()):
        raise ManifestError(f"{path}: columns {', '.join(columns) or 'none'}; expected one column path with text")
    return table, table["path"].to_pylist()


def _fingerprint(table: pa.Table) -> str:
    import pyarrow as pa

    # Python has no type for nanoseconds.
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) or pa.types.is_duration(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pa.int64()))
    digest = hashlib.sha256(json.dumps(table.column_names).encode())
    try:
        for part in table.to_batches(max_chunksize=1024):
            for row in part.to_pylist():
                digest.update(json.dumps(row, default=str).encode())
    except (ValueError, OverflowError, TypeError) as error:
        raise ManifestError(f"the manifest has a value that Python cannot hold: {error}; leave it out") from error
    return digest.hexdigest()


def _stamps(paths: tuple[str, ...]) -> str:
    """Returns a hash of the sizes and times of recordings, which shows whether one was changed."""
    found = []
    for path in paths:
        try:
            found.append(file_stamp(path))
        except (OSError, ValueError):  # ValueError: a NUL in the name
            found.append(None)
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ResultsError(f"{folder}: {why}; expected a folder that can be written") from error


def _begin(folder: Path, record: dict[str, Any]) -> None:
    """Writes the record of a new folder, or checks that the folder belongs to a run with the same record."""
    path = folder / RECORD
    expected = "expected a folder of an earlier run, or a new one"
    try:
        for unfinished in folder.glob(".part-*"):  # from a run that was killed
            unfinished.unlink()
        if not path.exists():
            if found := next(folder.glob("part-*"), None):
                raise ResultsError(f"{found} without {RECORD}; expected an empty folder, or that of an earlier run")
            with _atomic(path) as new:
                new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            return
        was = read_json(path, error=ResultsError, what="the record of an earlier run", most_bytes=_MOST_BYTES)
    except ResultsError as error:
        raise ResultsError(f"{error}; {expected}") from error
    except OSError as error:
        raise ResultsError(f"{folder}: {error.strerror}; expected a folder that can be written") from error
    if not isinstance(was, dict) or not isinstance(was.get("settings"), dict):
        raise ResultsError(f"{path}: no settings; {expected}")
    was, now = _flat(was), _flat(record)
    if other := changes(was, now):
        raise ResultsError(
            f"{folder} belongs to another run: {'; '.join(other)}; use the same settings, or another folder"
        )


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings and the rest of a record by name, such as `hop` and `events.on`."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            prefix = "" if name == "settings" else f"{name}."
            found |= {f"{prefix}{inner}": one for inner, one in _flat(value).items()}
        else:
            found[name] = value
    return found


class _Ledger:
    """The file with a line for every complete part. A part without its line, or that does not fit it, is not trusted.

    Parquet's own checks need not notice a flipped bit.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, dict[str, Any]] = {}
        damaged = False
        data = b""
        if path.exists():
            data = read_bytes(path, error=ResultsError, what="a list of complete parts", most_bytes=_MOST_BYTES)
        for line in data.splitlines(keepends=True):
            try:
                entry = parse_json(line, str(path), error=ResultsError)
                damaged |= not line.endswith(b"\n")
                self._lines[entry["part"]] = entry  # the last line of a part counts
            except (ResultsError, KeyError, TypeError):  # half a line of a run that was killed, or damaged
                damaged = True
        if damaged:
            with replacing(path) as file:
                file.writelines(self._line(entry) for entry in self._lines.values())

    def missing(self, part: Path, stamps: str) -> str | None:
        """Returns None for a part that is whole and up to date; otherwise why not, "" if it was never written."""
        if not part.exists():
            return ""
        entry = self._lines.get(part.name, {})
        try:
            whole = (part.stat().st_size, file_sha256(part)) == (entry.get("bytes"), entry.get("sha256"))
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if not whole:
            return "damaged, or not complete"
        return None if entry.get("recordings") == stamps else "a recording was changed"

    def add(self, part: Path, stamps: str) -> None:
        """Adds the line of a part that was written."""
        entry = {
            "part": part.name,
            "bytes": part.stat().st_size,
            "sha256": file_sha256(part),
            "recordings": stamps,
        }
        try:
            with self._path.open("ab") as file:
                file.write(self._line(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _no_room(self._path, error) from error

    @staticmethod
    def _line(entry: dict[str, Any]) -> bytes:
        return (json.dumps(entry) + "\n").encode()


def _with_results(rows: pa.Table, results: Rows) -> pa.Table:
    """Returns the manifest's rows with the columns of the results."""
    import pyarrow as pa

    class_ = [("label", pa.string()), ("index", pa.int32())]
    types = {
        "seconds": pa.float64(),
        "seconds_heard": pa.float64(),
        "padding_seconds": pa.float64(),
        "warnings": pa.list_(pa.string()),
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
        raise _no_room(part, error) from error


def _no_room(path: Path, error: OSError) -> ResultsError:
    return ResultsError(
        f"{path}: {error.strerror or error}; the finished shards are complete; make room and run it again"
    )


def _read_part(part: Path, columns: tuple[str, ...], pq: Any) -> Rows:
    """Returns some columns of a part. Not `read_table`, which takes columns from the names of folders, too."""
    rows: Rows = pq.ParquetFile(part).read(columns=list(columns)).to_pylist()
    return rows


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
