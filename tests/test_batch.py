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
from support import disk_full, make_consistent, rehash

from panns_litert import EventSettings, Sense, StreamTagger, Tagger, demo_bundle, demo_clips, find_events, tag_long
from panns_litert import batch as batch_module
from panns_litert.batch import LEDGER, MOST_TRIES, RECORD, batch
from panns_litert.cli import main
from panns_litert.errors import (
    AudioError,
    BundleError,
    EventError,
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
    assert [(row["place"], row["take"]) for row in table] == [("Ulm, A", str(i)) for i in range(6)]
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
        assert row["error"] is None
        for name in ("seconds", "seconds_heard", "padding_seconds", "windows"):
            assert row[name] == getattr(want, name)
        assert row["warnings"] == list(want.warnings)
        assert row["tags"] == [vars(tag) for tag in want.tags]
        assert row["events"] == sorted((vars(e) for e in events), key=lambda e: (e["start"], e["index"]))
        assert np.array_equal(np.float32(row["embedding"]), want.embedding)
    assert any(row["events"] for row in table)
    assert found.hours == pytest.approx(sum(row["seconds"] or 0 for row in table) / 3600)
    assert not list(out.glob(".part-*"))


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
    wait_for(lambda: (out / LEDGER).exists() and (out / LEDGER).read_text().count("\n") >= 2)
    process.kill()
    process.communicate(timeout=60)
    workers = {int(mark.name.split("-")[0]) for mark in marks.iterdir()}
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))  # the workers end with their parent
    noted = (out / LEDGER).read_text()  # a part that was written and not yet noted there is computed again
    before = {name: stamp for name, stamp in stamps(out).items() if name in noted}
    assert 2 <= len(before) < 6
    (out / ".part-part-00005.parquet").write_bytes(b"half")
    again, marks = start(manifest, out)
    printed, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert len(list(marks.iterdir())) == 6 - len(before)
    assert f"computed={6 - len(before)}" in printed
    assert {name: stamp for name, stamp in stamps(out).items() if name in before} == before
    assert [row["take"] for row in rows(out)] == [str(i) for i in range(6)]
    assert not list(out.glob(".part-*"))


_DEADLY = """
import os, sys
from panns_litert import batch as module
listen = module._listen
def deadly(job, paths):
    if any(path.endswith(sys.argv[3]) for path in paths):
        os.kill(os.getpid(), 9)
    return listen(job, paths)
module._listen = deadly
if __name__ == "__main__":
    try:
        print(module.batch(sys.argv[1], sys.argv[2], workers=1, per_shard=int(sys.argv[4])))
    except module.WorkerError as error:
        print(error)
"""


def run_deadly(manifest: Path, out: Path, which: str, per_shard: int) -> str:
    (manifest.parent / "run.py").write_text(_DEADLY)
    command = [sys.executable, manifest.parent / "run.py", manifest, out, which, str(per_shard)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("per_shard", [1, 6])
def test_a_recording_that_always_kills_its_worker_is_one_row(per_shard: int, manifest: Path, tmp_path: Path) -> None:
    """Also the first one, and in the middle of a shard: the others are heard."""
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], lines[3], *lines[1:3], *lines[4:]]) + "\n")
    printed = run_deadly(manifest, tmp_path / "out", "bad.wav", per_shard)
    assert "failed=2" in printed  # and the one that is missing
    batch(manifest, tmp_path / "want", workers=1, per_shard=per_shard)
    found, want = rows(tmp_path / "out"), rows(tmp_path / "want")
    assert f"bad.wav: its worker died on it {MOST_TRIES} times (exit code -9)" in found[0]["error"]
    assert found[1:] == want[1:]


def test_a_run_whose_workers_hear_nothing_ends(manifest: Path, tmp_path: Path) -> None:
    """Then the cause is not a recording. Without the guard of __main__, workers die before they have a model."""
    printed = run_deadly(manifest, tmp_path / "out", "", 1)
    assert "9 workers died (exit code -9) and no recording was heard" in printed
    assert parts(tmp_path / "out") == []
    code = f"from panns_litert.batch import batch\nbatch([{str(demo_clips()[0])!r}], {str(tmp_path / 'none')!r})"
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, str(tmp_path / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "3 workers died when they started (exit code 1); expected enough memory, and in a script" in done.stderr
    assert parts(tmp_path / "none") == []


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), RuntimeError("one\ntwo")], ids=repr)
@pytest.mark.usefixtures("in_process")
def test_no_exception_of_a_recording_ends_the_job(
    error: Exception, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StreamTagger.of

    def fail(stream: StreamTagger, blocks: Any) -> Any:
        yield from real(stream, blocks)
        if blocks.name.endswith("all.wav"):  # after some windows were heard
            raise error

    monkeypatch.setattr(StreamTagger, "of", fail)
    assert batch(manifest, tmp_path / "out").failed == 4
    failed = [row["error"] for row in rows(tmp_path / "out") if row["path"] == "all.wav"]
    assert len(failed) == 2
    assert all(f"all.wav: {type(error).__name__}" in text and "\n" not in text for text in failed)
    assert rows(tmp_path / "out")[1]["tags"]


@pytest.mark.usefixtures("in_process")
def test_recordings_that_are_not_heard_whole_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = next(clip for clip in demo_clips() if clip.suffix == ".wav")
    whole = clip.read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "m.csv").write_text(f"path\ncut.wav\n{clip}\n")
    assert main(["batch", str(tmp_path / "m.csv"), "--out", str(tmp_path / "out"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["warned"] == 1
    assert "1 recording with warnings" in printed.err
    cut, good = rows(tmp_path / "out")
    assert cut["warnings"]
    assert cut["seconds_heard"] < cut["seconds"]
    assert (good["warnings"], good["seconds_heard"]) == ([], good["seconds"])


@pytest.mark.usefixtures("in_process")
def test_a_pipe_as_a_recording_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    batch([tmp_path / "pipe.wav", "a\0b.wav", tmp_path, demo_clips()[0]], tmp_path / "out")
    errors = [row["error"] for row in rows(tmp_path / "out")]
    assert "not a regular file" in errors[0]
    assert all(errors[:3])
    assert errors[3] is None


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
    assert not list(out.glob(".part-*"))
    with monkeypatch.context() as patch, pytest.raises(ResultsError, match="make room"):
        patch.setattr(pq, "write_table", disk_full)
        batch(manifest, out, per_shard=1)
    before = stamps(out)
    assert batch(manifest, out, per_shard=1).computed == 3
    assert before.items() <= stamps(out).items()
    assert [row["take"] for row in rows(out)] == [str(i) for i in range(6)]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"hop": 5.0}, "hop was None, now 5.0"),
        ({"top": 3}, "top was 10, now 3"),
        ({"embeddings": False}, "embeddings was True, now False"),
        ({"per_shard": 2}, "per_shard was 1, now 2"),
        ({"settings": EventSettings(on=0.9)}, "events.on was 0.2, now 0.9"),
        ({"sense": {"deny": ["Siren"]}}, r"sense.deny was None, now \['Siren'\]"),
        ({"sense": {"temperature": {"Siren": 2.0}}}, "sense.temperature.Siren was None, now 2.0"),
        ({"threshold": 0.5, "top": 3}, "top was 10, now 3; threshold was 0.0, now 0.5"),
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
    for name in ("model_sha256", "bundle_sha256", "format_version"):
        (out / RECORD).write_text(json.dumps(record | {name: "0"}))
        with pytest.raises(ResultsError, match=f"another run: {name} was '0', now "):
            batch(demo_clips()[:1], out)
    for text in ("no JSON", "[]", "{}", "[" * 10**5, '{"settings": {"top": ' + "1" * 5000 + "}}"):
        (out / RECORD).write_text(text)
        with pytest.raises(ResultsError, match="expected a folder of an earlier run"):
            batch(demo_clips()[:1], out)
    (out / RECORD).unlink()
    with pytest.raises(ResultsError, match="expected an empty folder"):
        batch(demo_clips()[:1], out)


@pytest.mark.usefixtures("in_process")
def test_only_what_changes_an_answer_is_another_bundle(tmp_path: Path) -> None:
    """The model card is documentation. Other thresholds in the mel basis or the front end are not."""
    bundle = shutil.copytree(demo_bundle(), tmp_path / "bundle")
    batch(demo_clips()[:1], tmp_path / "out", bundle=bundle)
    card = bundle / "README.md"
    card.write_text("---\nlicense: mit\n---\n" + card.read_text())
    rehash(bundle, card.name)
    assert batch(demo_clips()[:1], tmp_path / "out", bundle=bundle).computed == 0
    (labels,) = bundle.glob("*.txt")
    labels.write_text(labels.read_text().replace("Siren", "Sirens"))
    make_consistent(bundle, labels.name)
    with pytest.raises(ResultsError, match="another run: bundle_sha256"):
        batch(demo_clips()[:1], tmp_path / "out", bundle=bundle)


def flip(path: Path, at: float) -> None:
    """Flips a bit at this share of a file's length."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


DAMAGE = {
    "cut": lambda part: part.write_bytes(part.read_bytes()[:-1]),
    "empty": lambda part: part.write_bytes(b""),
    "longer": lambda part: part.write_bytes(part.read_bytes() + b"0"),
    **{f"bit at {at}": lambda part, at=at: flip(part, at) for at in (0.0, 0.3, 0.5, 0.7, 1.0)},
    "another's": lambda part: shutil.copyfile(part.with_name("part-00000.parquet"), part),
    "not in the ledger": lambda part: (part.parent / LEDGER).write_bytes(
        b"".join((part.parent / LEDGER).read_bytes().splitlines(keepends=True)[:1]) + b'{"part": "part-00001.par'
    ),
    "ledger's bit": lambda part: flip(part.parent / LEDGER, 0.75),
    "ledger gone": lambda part: (part.parent / LEDGER).unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.usefixtures("in_process")
def test_a_damaged_part_is_computed_again_and_said_so(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, clips = tmp_path / "out", demo_clips()[:2]
    assert batch(clips, out, per_shard=1).redone == ()
    want = rows(out)
    DAMAGE[how](out / "part-00001.parquet")
    found = batch(clips, out, per_shard=1)
    again = 2 if how == "ledger gone" else 1
    assert (found.computed, found.done, found.skipped, len(found.redone)) == (again, again, 2 - again, again)
    assert found.redone[-1] == "part-00001.parquet: damaged, or not complete"
    assert rows(out) == want
    assert batch(clips, out, per_shard=1).computed == 0


@pytest.mark.usefixtures("in_process")
def test_a_changed_recording_is_heard_again(tmp_path: Path) -> None:
    out, names = tmp_path / "out", [tmp_path / f"{i}.wav" for i in range(3)]
    for name, clip in zip(names[:2], demo_clips(), strict=False):
        shutil.copyfile(clip, name)
    assert batch(names, out, per_shard=1).failed == 1
    shutil.copyfile(demo_clips()[2], names[0])  # another sound
    shutil.copyfile(demo_clips()[3], names[2])  # was missing
    before = stamps(out)
    found = batch(names, out, per_shard=1)
    assert (found.failed, found.done, found.skipped) == (0, 2, 1)
    assert found.redone == tuple(f"part-{i:05d}.parquet: a recording was changed" for i in (0, 2))
    assert stamps(out)["part-00001.parquet"] == before["part-00001.parquet"]
    batch(names, tmp_path / "want", per_shard=1)
    assert rows(out) == rows(tmp_path / "want")


def test_a_second_run_is_refused_and_harms_nothing(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process, marks = start(manifest, out)
    wait_for(lambda: len(parts(out)) >= 1)
    (out / ".part-part-00009.parquet").write_bytes(b"the other's")
    with pytest.raises(ResultsError, match=r"another run is writing it"):
        batch(manifest, out, workers=1, per_shard=1)
    assert (out / ".part-part-00009.parquet").exists()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(list(marks.iterdir())) == 6
    assert [row["take"] for row in rows(out)] == [str(i) for i in range(6)]


CELLS = ["001", "NA", "", "null", "1e3", "2024-01-02", "true", "ä", "a\nb", 'say "x"', " 1", "0x10"]


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "cp1252"])
@pytest.mark.usefixtures("in_process")
def test_columns_are_carried_through_as_they_are(form: str, tmp_path: Path) -> None:
    clip = tmp_path / "ö.wav"
    shutil.copyfile(demo_clips()[0], clip)
    with (tmp_path / "m.csv").open("w", encoding=form, newline="") as file:
        csv.writer(file).writerows([("id", "path"), *((cell, clip.name) for cell in CELLS)])
    if form.startswith("utf-8"):
        batch(tmp_path / "m.csv", tmp_path / "out", embeddings=False)
    else:
        with pytest.raises(ManifestError, match=r"is not in utf-8; .*--encoding latin-1"):
            batch(tmp_path / "m.csv", tmp_path / "out")
        batch(tmp_path / "m.csv", tmp_path / "out", encoding=form, embeddings=False)
    found = rows(tmp_path / "out")
    assert [row["id"] for row in found] == CELLS
    assert {row["error"] for row in found} == {None}
    assert {row["path"] for row in found} == {"ö.wav"}


@pytest.mark.usefixtures("in_process")
def test_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "path": pa.array([str(demo_clips()[0])] * 2).dictionary_encode(),
            "id": pa.array(["001", None]),
            "count": pa.array([2**40, None], pa.int64()),
            "when": pa.array([1, 2], pa.timestamp("ns")),
            "list": pa.array([[1], None], pa.list_(pa.int8())),
            "raw": pa.array([b"\xff", None]),
        }
    )
    folder = tmp_path / "year=2024"  # no column of the table
    folder.mkdir()
    pq.write_table(table, folder / "m.parquet")
    batch(folder / "m.parquet", tmp_path / "out", per_shard=1)
    assert batch(folder / "m.parquet", tmp_path / "out", per_shard=1).computed == 0
    found = pa.concat_tables([pq.ParquetFile(part).read() for part in parts(tmp_path / "out")])
    assert found.select(table.column_names).cast(table.schema).equals(table)
    assert set(found.column_names) == set(table.column_names) | set(batch_module.RESULTS)


@pytest.mark.usefixtures("in_process")
def test_names_that_are_no_utf8_are_heard_and_written_escaped(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    shutil.copyfile(demo_clips()[0], raw)
    (tmp_path / "m.csv").write_bytes(b"path,place\ncaf\xe9.wav,Ulm\n")
    given: list[Any] = [tmp_path / "m.csv", [os.fsdecode(raw)], [raw]]
    for i, one in enumerate(given):
        assert batch(one, tmp_path / str(i)).failed == 0
        assert rows(tmp_path / str(i))[0]["path"].endswith("caf\\xe9.wav")
    gone = batch([os.fsdecode(raw) + "2"], tmp_path / "gone")  # its name is in the error, too
    assert "caf\\xe9.wav2" in gone.failures[0][1]
    for name in ("path,place\nnowhere\xe9.wav,Ulm\n", "path,place\ncaf\xe9.wav,\xdcml\n", "path,\xdc\na,b\n"):
        (tmp_path / "m.csv").write_bytes(name.encode("latin-1"))
        with pytest.raises(ManifestError, match="--encoding latin-1"):
            batch(tmp_path / "m.csv", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "file\na.wav\n", "columns file; expected one column path"),
        ("m.csv", "path\n", "no rows"),
        ("m.csv", "", "expected a .csv or .parquet"),
        ("m.csv", "path,seconds\na.wav,1\n", "column 'seconds'"),
        ("m.csv", "path,a,a\na.wav,1,2\n", "column 'a'"),
        ("m.csv", "path,a\n,1\n", "row 1 has no path"),
        ("m.csv", "path,a\n,1\na.wav,1\n ,1\n", r"row 1 has no path \(2 such rows\)"),
        ("m.csv", "path,a\na.wav\n", "line 2: 1 cells; expected 2.* expected a .csv or .parquet"),
        ("m.csv", 'path,a\na.wav,"open\n', "expected a .csv or .parquet"),
        ("m.csv", "path;a\na.wav;1\n", "columns path;a; expected one column path"),
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
        ({"workers": "2"}, ManifestError),
        ({"threads": 0}, ManifestError),
        ({"encoding": "utf-99"}, ManifestError),
        ({"encoding": "rot13"}, ManifestError),
        ({"encoding": None}, ManifestError),
        ({"settings": {"on": 0.5}}, EventError),
        ({"sense": {"denny": ["Siren"]}}, LabelError),
        ({"sense": "Siren"}, LabelError),
        ({"top": 10**5000}, ManifestError),
        ({"top": "3"}, AudioError),
        ({"hop": float("nan")}, WindowError),
        ({"hop": "5"}, WindowError),
        ({"hop": object()}, ManifestError),
        ({"engine": "tpu"}, BundleError),
        ({"sense": {"deny": ["Sirne"]}}, LabelError),
        ({"settings": EventSettings(classes={"Sirne": {"on": 0.9}})}, LabelError),
        ({"bundle": "/nowhere"}, BundleError),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    with pytest.raises(error) as raised:
        batch(tmp_path / "m.csv", tmp_path / "out", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given", [None, 5, [5], [None], b"m.csv", "a\0b.csv", "/", [], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_manifest(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        batch(given, tmp_path / "out")
    for out in (None, 5, "a\0b", "/dev/null/out"):
        with pytest.raises(ResultsError):
            batch(demo_clips()[:1], out)  # type: ignore[arg-type]


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
    assert (found["done"], found["skipped"]) == (6, 0)
    assert main(command[:-1]) == 2
    printed = capsys.readouterr()
    assert "Tagged 0 recordings in " in printed.out
    assert "; 6 of an earlier run kept.\n" in printed.out
    assert "in 6 shards, of which 0 are new.\n" in printed.out
    assert "bad.wav: not readable" in printed.err
    assert "nowhere.wav: no such file" in printed.err
    assert main([*command, "--top", "3"]) == 2
    assert "top was 10, now 3" in capsys.readouterr().err
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
    """A recording whose worker died once is heard again. If it always dies, its row has that error."""
    once = str(tmp_path / "once")

    def deadly(job: str, paths: tuple[str, ...]) -> Any:
        from panns_litert.batch import _listen  # the worker's own, not the patched one

        if any(path.endswith("bad.wav") for path in paths) or not os.path.exists(once):
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return _listen(job, paths)

    monkeypatch.setattr(batch_module, "_listen", deadly)
    assert batch(manifest, tmp_path / "out", workers=2, per_shard=3, address="local").failed == 2
    found = rows(tmp_path / "out")
    assert [row["take"] for row in found] == [str(i) for i in range(6)]
    assert f"bad.wav: its worker died on it {MOST_TRIES} times (WorkerCrashedError)" in found[2]["error"]
    assert [row["path"] for row in found if row["error"]] == ["bad.wav", "nowhere.wav"]


def test_a_cluster_that_is_not_there(tmp_path: Path, ray_folder: Path) -> None:
    with pytest.raises(WorkerError, match=r"no Ray at 'nonsense://x': .*expected local, or the address"):
        batch(demo_clips()[:1], tmp_path / "out", address="nonsense://x")
