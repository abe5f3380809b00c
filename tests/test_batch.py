"""batch: the results are those of single recordings; nothing is lost, repeated or mixed when a process dies."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import disk_full

from panns_litert import EventSettings, Sense, Tagger, demo_bundle, demo_clips, find_events, tag_long
from panns_litert import batch as batch_module
from panns_litert.batch import MOST_TRIES, RECORD, batch
from panns_litert.cli import main
from panns_litert.errors import (
    AudioError,
    BundleError,
    LabelError,
    ManifestError,
    ResultsError,
    WindowError,
    WorkerError,
)


@pytest.fixture
def manifest(tmp_path: Path, recording: Path) -> Path:
    """A manifest of six rows with two more columns. One file is no audio, one is missing, one is listed twice."""
    shutil.copyfile(recording, tmp_path / "all.wav")
    for clip in demo_clips()[:2]:
        shutil.copyfile(clip, tmp_path / clip.name)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    names = ["all.wav", demo_clips()[0].name, "bad.wav", demo_clips()[1].name, "nowhere.wav", "all.wav"]
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("place", "path", "take"), *(("Ulm, A", name, i) for i, name in enumerate(names))])
    return path


def rows(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out).to_pylist()  # type: ignore[no-any-return]


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def stamps(out: Path) -> dict[str, int]:
    return {part.name: part.stat().st_mtime_ns for part in parts(out)}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does the workers' work in this process: it is faster, and patches of this process apply to it."""

    def work(job: str, todo: list[batch_module.Shard], *_: object) -> Iterator[tuple[Any, Any]]:
        yield from ((shard, batch_module._listen(job, shard.paths)) for shard in todo)

    monkeypatch.setattr(batch_module, "_in_processes", work)


def test_results_are_those_one_by_one(manifest: Path, tmp_path: Path) -> None:
    settings = EventSettings(on=0.6, off=0.3, classes={"Siren": {"on": 0.4}})
    sense = {"temperature": {"Siren": 1.5}, "deny": ["Foghorn"]}
    done: list[tuple[int, int]] = []
    out = tmp_path / "out"
    found = batch(
        manifest, out, workers=2, per_shard=2, hop=5.0, aggregate="max", top=3, settings=settings, sense=sense,
        progress=lambda *now: done.append(now),
    )  # fmt: skip
    assert (found.recordings, found.failed, found.shards, found.computed) == (6, 2, 3, 3)
    assert done[0] == (0, 6)
    assert done[-1] == (6, 6)
    assert [part.name for part in parts(out)] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    table = rows(out)
    assert [(row["place"], row["take"]) for row in table] == [("Ulm, A", i) for i in range(6)]
    tagger = Tagger(threads=1)
    own = Sense(tagger.labels, **sense)  # type: ignore[arg-type]
    for row in table:
        path = manifest.parent / row["path"]
        if row["path"] in ("bad.wav", "nowhere.wav"):
            assert row["path"] in row["error"]
            assert all(row[name] is None for name in ("seconds", "windows", "tags", "events", "embedding"))
            continue
        want = tag_long(tagger, path, hop=5.0, aggregate="max", top=3, sense=own)
        events = find_events(tagger, path, hop=5.0, settings=settings, sense=own)
        assert (row["error"], row["seconds"], row["windows"]) == (None, want.seconds, want.windows)
        assert row["tags"] == [vars(tag) for tag in want.tags]
        assert row["events"] == sorted((vars(e) for e in events), key=lambda e: (e["start"], e["index"]))
        assert np.array_equal(np.float32(row["embedding"]), want.embedding)
    assert any(row["events"] for row in table)
    assert found.hours == pytest.approx(sum(row["seconds"] or 0 for row in table) / 3600)
    assert not list(out.glob(".*"))


@pytest.mark.usefixtures("in_process")
def test_every_form_of_a_manifest_gives_the_same_results(manifest: Path, tmp_path: Path) -> None:
    names = [str(manifest.parent / row["path"]) for row in csv.DictReader(manifest.open())]
    table = pa.table({"path": pa.array([Path(name).name for name in names], pa.large_string())})
    pq.write_table(table, manifest.with_suffix(".parquet"))
    given: list[Any] = [manifest, str(manifest.with_suffix(".parquet")), names, map(Path, names)]
    results = []
    for i, one in enumerate(given):
        batch(one, tmp_path / str(i), embeddings=False)
        results.append([(row["error"], row["tags"], row["embedding"]) for row in rows(tmp_path / str(i))])
    assert all(result == results[0] for result in results)
    assert {embedding for _, _, embedding in results[0]} == {None}


_RUN = """
import os, sys
from panns_litert import batch as module
listen, marks = module._listen, sys.argv[3]
def slow(job, paths):  # leaves a mark with its process and its shard, then takes a second
    import pathlib, time
    mark = pathlib.Path(marks) / f"{os.getpid()}-{time.monotonic_ns()}"
    mark.write_text("\\n".join(paths))
    time.sleep(1.0)
    return listen(job, paths)
module._listen = slow
if __name__ == "__main__":
    print(module.batch(sys.argv[1], sys.argv[2], workers=2, per_shard=1))
"""


def start(manifest: Path, out: Path) -> tuple[subprocess.Popen[str], Path]:
    """Starts a run in a process of its own, with shards that take a second each. Returns it and its workers' marks."""
    marks = manifest.parent / f"marks-{time.monotonic_ns()}"
    marks.mkdir()
    script = manifest.parent / "run.py"
    script.write_text(_RUN)
    command = [sys.executable, str(script), str(manifest), str(out), str(marks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), marks


def wait_for(condition: Any, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_a_killed_worker_loses_and_doubles_nothing(manifest: Path, tmp_path: Path) -> None:
    process, marks = start(manifest, tmp_path / "out")
    first = wait_for(lambda: sorted(marks.iterdir()))[0]
    os.kill(int(first.name.split("-")[0]), signal.SIGKILL)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "computed=6" in printed
    assert len(list(marks.iterdir())) == 7  # one shard was begun twice
    batch(manifest, tmp_path / "want", workers=1, per_shard=1)
    assert rows(tmp_path / "out") == rows(tmp_path / "want")


def test_a_killed_run_is_resumed(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process, marks = start(manifest, out)
    wait_for(lambda: len(parts(out)) >= 2)
    process.kill()
    process.communicate(timeout=60)
    workers = {int(mark.name.split("-")[0]) for mark in marks.iterdir()}
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))  # the workers end with their parent
    before = stamps(out)
    assert 2 <= len(before) < 6
    (out / ".part-part-00005.parquet").write_bytes(b"half")
    again, marks = start(manifest, out)
    printed, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert len(list(marks.iterdir())) == 6 - len(before)
    assert f"computed={6 - len(before)}" in printed
    assert {name: stamp for name, stamp in stamps(out).items() if name in before} == before
    assert [row["take"] for row in rows(out)] == list(range(6))
    assert not list(out.glob(".*"))


_DEADLY = """
import os, sys
from panns_litert import batch as module
listen = module._listen
def deadly(job, paths):
    if paths[0].endswith(sys.argv[3]):
        os.kill(os.getpid(), 9)
    return listen(job, paths)
module._listen = deadly
if __name__ == "__main__":
    try:
        module.batch(sys.argv[1], sys.argv[2], workers=1, per_shard=1)
    except module.WorkerError as error:
        print(error)
"""


@pytest.mark.parametrize(("which", "written"), [("bad.wav", 5), (".wav", 0)])
def test_a_recording_that_always_kills_its_worker_is_one_error(
    which: str, written: int, manifest: Path, tmp_path: Path
) -> None:
    """The other shards are written. If every shard kills its worker, the run ends without trying all of them."""
    (tmp_path / "run.py").write_text(_DEADLY)
    command = [sys.executable, str(tmp_path / "run.py"), str(manifest), str(tmp_path / "out"), which]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"its worker died {MOST_TRIES} times (exit code -9)" in done.stdout
    assert len(parts(tmp_path / "out")) == written


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_leaves_whole_shards(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, replace = tmp_path / "out", os.replace

    def full(source: Any, target: Any) -> None:
        if "part-00003" in str(target):
            disk_full()
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(ResultsError, match=r"No space left.* make room"):
        patch.setattr(os, "replace", full)
        batch(manifest, out, per_shard=1)
    assert len(parts(out)) == len(rows(out)) == 3
    assert not list(out.glob(".*"))
    with monkeypatch.context() as patch, pytest.raises(ResultsError, match="make room"):
        patch.setattr(pq, "write_table", disk_full)
        batch(manifest, out, per_shard=1)
    before = stamps(out)
    assert batch(manifest, out, per_shard=1).computed == 3
    assert before.items() <= stamps(out).items()
    assert [row["take"] for row in rows(out)] == list(range(6))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"hop": 5.0}, "hop null, now 5.0"),
        ({"top": 3}, "top 10, now 3"),
        ({"embeddings": False}, "embeddings true, now false"),
        ({"per_shard": 2}, "per_shard 1, now 2"),
        ({"settings": EventSettings(on=0.9)}, "events"),
        ({"sense": {"deny": ["Siren"]}}, "sense"),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_other_settings_are_refused(other: dict[str, Any], named: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(demo_clips()[:1], out)
    before = stamps(out)
    with pytest.raises(ResultsError, match=f"another run: {named}"):
        batch(demo_clips()[:1], out, **other)
    with pytest.raises(ResultsError, match=r"manifest_sha256|recordings|shards"):
        batch(demo_clips()[:2], out)
    assert batch(demo_clips()[:1], out, workers=3, threads=2).computed == 0  # these change no result
    assert stamps(out) == before


@pytest.mark.usefixtures("in_process")
def test_another_model_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(demo_clips()[:1], out, bundle=demo_bundle())
    record = json.loads((out / RECORD).read_text())
    assert record["model"] == "demo"
    (out / RECORD).write_text(json.dumps(record | {"model_sha256": "0"}))
    with pytest.raises(ResultsError, match="model_sha256"):
        batch(demo_clips()[:1], out)
    for text in ("no JSON", "[]", "{}"):
        (out / RECORD).write_text(text)
        with pytest.raises(ResultsError, match="expected a folder of an earlier run"):
            batch(demo_clips()[:1], out)
    (out / RECORD).unlink()
    with pytest.raises(ResultsError, match="expected an empty folder"):
        batch(demo_clips()[:1], out)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "file\na.wav\n", "columns file; expected one column path"),
        ("m.csv", "path\n", "no rows"),
        ("m.csv", "", "expected a .csv or .parquet"),
        ("m.csv", "path,seconds\na.wav,1\n", "column 'seconds'"),
        ("m.csv", "path,a,a\na.wav,1,2\n", "column 'a'"),
        ("m.csv", "path,a\n,1\n", "row 1 has no path"),
        ("m.csv", "path,a\na.wav\n", "expected a .csv or .parquet"),
        ("m.parquet", "no Parquet", "expected a .csv or .parquet"),
        ("m.txt", "path\na.wav\n", "expected a manifest .csv or .parquet"),
        ("nowhere.csv", None, "expected a .csv or .parquet"),
    ],
)
def test_manifests_that_are_refused(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=message):
        batch(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hop": 0}, WindowError),
        ({"aggregate": "median"}, WindowError),
        ({"top": 0}, AudioError),
        ({"workers": 0}, ManifestError),
        ({"per_shard": 1.5}, ManifestError),
        ({"threads": 0}, ManifestError),
        ({"engine": "tpu"}, BundleError),
        ({"sense": {"deny": ["Sirne"]}}, LabelError),
        ({"settings": EventSettings(classes={"Sirne": {"on": 0.9}})}, LabelError),
        ({"bundle": "/nowhere"}, BundleError),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        batch(demo_clips(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_bundle_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(demo_bundle(), bundle)
    check = batch_module._begin

    def damaged(*arguments: Any) -> None:
        check(*arguments)
        shutil.rmtree(bundle)

    monkeypatch.setattr(batch_module, "_begin", damaged)
    with pytest.raises(BundleError):
        batch(demo_clips(), tmp_path / "out", bundle=bundle, workers=2)
    assert parts(tmp_path / "out") == []


def test_the_command(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["batch", str(manifest), "--out", str(out), "--workers", "1", "--hop", "5", "--on", "0.6", "--json"]
    assert main(command) == 2  # two recordings failed
    found = json.loads(capsys.readouterr().out)
    assert (found["recordings"], found["failed"], found["computed"]) == (6, 2, 6)
    assert found["hours_per_minute"] > 0
    assert json.loads((out / RECORD).read_text())["settings"]["events"]["on"] == 0.6
    assert main(command[:-1]) == 2
    assert "0 of 6 shards computed" in capsys.readouterr().out
    assert main([*command, "--top", "3"]) == 2
    assert "top 10, now 3" in capsys.readouterr().err
    assert main(["batch", str(manifest), "--out", str(out), "--on", "2"]) == 2
    assert "expected off ≤ on ≤ 1" in capsys.readouterr().err


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Ray's folder. It is not in tmp_path, because the paths of Ray's sockets must be short."""
    pytest.importorskip("ray", reason="Ray is not installed")
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_ray_gives_the_same_table(manifest: Path, tmp_path: Path, ray_folder: Path) -> None:
    batch(manifest, tmp_path / "want", workers=1, per_shard=2)
    found = batch(manifest, tmp_path / "ray", workers=2, per_shard=2, address="local")
    assert (found.recordings, found.failed, found.computed) == (6, 2, 3)
    assert rows(tmp_path / "ray") == rows(tmp_path / "want")
    assert any(ray_folder.iterdir())


def test_a_worker_that_dies_on_ray(
    manifest: Path, tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard whose worker died once is done again. If it always dies, that is one error; the others are written."""
    once = str(tmp_path / "once")

    def deadly(job: str, paths: tuple[str, ...]) -> Any:
        from panns_litert.batch import _listen  # the worker's own, not the patched one

        if paths[0].endswith("bad.wav") or not os.path.exists(once):
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return _listen(job, paths)

    monkeypatch.setattr(batch_module, "_listen", deadly)
    with pytest.raises(WorkerError, match=r"shard 2 .*its worker died 3 times"):
        batch(manifest, tmp_path / "out", workers=2, per_shard=1, address="local")
    assert [row["take"] for row in rows(tmp_path / "out")] == [0, 1, 3, 4, 5]
