"""Embeddings: computed, saved and compared; the index of a folder; the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from support import AUDIO, REAL_WEIGHTS, disk_full, needs_shared, run_command, run_python

from panns_litert import Tagger
from panns_litert.audio import load_audio
from panns_litert.demo import demo_clips
from panns_litert.errors import AudioError, EmbeddingError, MissingDependencyError, ResultsError, WindowError
from panns_litert.search import Embeddings, Index, embed, index, similar, unit
from panns_litert.windows import tag_long, windows
from panns_litert_convert.convert import convert

CLIPS = demo_clips()


def of(numbers: NDArray[np.float32], **changes: object) -> Embeddings:
    """Makes embeddings of these vectors, (windows, dim), and changes some of their fields."""
    starts = 5.0 * np.arange(len(numbers))
    values = {
        "source": "array", "model": "demo", "model_sha256": "0" * 64, "window": 10.0, "hop": 5.0,
        "starts": starts, "ends": starts + 10.0, "vectors": numbers,
    }  # fmt: skip
    return Embeddings(**(values | changes))  # type: ignore[arg-type]


ANY = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
).map(of)


# ---- embeddings


@pytest.mark.parametrize("hop", [None, 2.5])
def test_embeddings_are_those_of_the_windows(
    hop: float | None, tagger: Tagger, demo_sound: NDArray[np.float32]
) -> None:
    found = embed(tagger, demo_sound, sample_rate=32000, hop=hop)
    heard = list(windows(tagger, demo_sound, sample_rate=32000, hop=hop))
    assert found.vectors.shape == (len(heard), 96)
    assert found.vectors.dtype == np.float32
    assert (found.source, found.model, found.window, found.hop) == ("array", "demo", 10.0, hop or 10.0)
    np.testing.assert_array_equal(found.vectors, [w.embedding for w in heard])
    assert list(zip(found.starts, found.ends, strict=True)) == [(w.start, w.end) for w in heard]
    lengths = np.diff([0.0, *(w.end for w in heard)])  # what each window adds
    assert lengths[-1] < 2.5
    mean = sum(length * w.embedding.astype(np.float64) for length, w in zip(lengths, heard, strict=True)) / sum(lengths)
    np.testing.assert_allclose(found.clip, mean, atol=1e-5)


def test_bad_samples_leave_windows_out(tagger: Tagger, demo_sound: NDArray[np.float32]) -> None:
    """The clip embedding is that of `tag_long`: the last window counts with what it adds to the one before it."""
    sound = demo_sound.copy()
    whole = embed(tagger, iter([sound]), sample_rate=32000)  # type: ignore[arg-type]
    assert np.abs(whole.clip - tag_long(tagger, sound, sample_rate=32000).embedding).max() <= 1e-5
    sound[5 * 32000] = np.nan
    found = embed(tagger, sound, sample_rate=32000)
    assert found.starts.tolist() == whole.starts[1:].tolist()
    assert np.abs(found.vectors - whole.vectors[1:]).max() <= 1e-4
    with pytest.raises(AudioError, match=r"NaN, Inf or .* at 0\.000 s; expected at least one window"):
        embed(tagger, np.full(1000, np.nan), sample_rate=32000)


def test_a_short_recording_has_the_taggers_embedding(tagger: Tagger) -> None:
    for clip in CLIPS:
        found = embed(tagger, clip)
        assert found.source == str(clip)
        assert len(found.vectors) == 1
        np.testing.assert_allclose(found.clip, tagger.tag(clip).embedding, atol=1e-3)


def test_bad_audio_and_hop(tagger: Tagger, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        embed(tagger, tmp_path / "none.wav")
    with pytest.raises(AudioError, match="no samples"):
        embed(tagger, np.empty(0, np.float32), sample_rate=32000)
    soundfile.write(tmp_path / "empty.wav", np.empty((0, 1)), 32000)
    with pytest.raises(AudioError, match="no samples; expected at least one"):
        embed(tagger, tmp_path / "empty.wav")
    with pytest.raises(WindowError, match="hop = 0"):
        embed(tagger, CLIPS[0], hop=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"vectors": np.zeros((2, 3))},
        {"vectors": np.zeros((3, 3), np.float32)},
        {"vectors": np.full((2, 3), np.nan, np.float32)},
        {"vectors": np.zeros((2, 0), np.float32)},
        {"vectors": np.zeros(2, np.float32)},
        {"ends": np.zeros(2)},
        {"starts": np.zeros(0), "ends": np.zeros(0), "vectors": np.zeros((0, 3), np.float32)},
        {"starts": np.array([-1.0, 0.0])},
        {"hop": 0.0},
        {"window": "10"},
        {"source": 1},
        {"hop": True},
        {"window": float("nan")},
        {"starts": [0.0, 5.0]},
        {"starts": np.array([0, 5])},
        {"starts": np.array(["0", "5"])},
        {"ends": np.float64(3)},
        {"ends": np.array([5.0, np.inf])},
        {"vectors": [[0.0] * 3] * 2},
        {"vectors": np.zeros((2, 3), np.complex64)},
        {"warnings": ["a"]},
        {"warnings": (1,)},
    ],
    ids=str,
)
def test_fields_that_do_not_fit(changes: dict[str, object]) -> None:
    with pytest.raises(EmbeddingError, match="expected"):
        of(np.zeros((2, 3), np.float32), **changes)


# ---- files


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@settings(max_examples=20)
@given(found=ANY)
def test_files_hold_what_was_saved(suffix: str, found: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"saved.{suffix}"
    assert found.save(path) == path
    read = Embeddings.load(path)
    for name in ("source", "model", "model_sha256", "window", "hop"):
        assert getattr(read, name) == getattr(found, name)
    for name in ("starts", "ends", "vectors"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
        assert getattr(read, name).dtype == getattr(found, name).dtype


def test_others_can_read_the_files(tmp_path: Path) -> None:
    from pyarrow import parquet

    found = of(np.arange(6, dtype=np.float32).reshape(2, 3), source="dog.wav")
    np.testing.assert_array_equal(np.load(found.save(tmp_path / "a.npy")), found.vectors)
    assert parquet.read_table(found.save(tmp_path / "a.parquet")).to_pylist() == [
        {"source": "dog.wav", "start": 0.0, "end": 10.0, "vector": [0.0, 1.0, 2.0]},
        {"source": "dog.wav", "start": 5.0, "end": 15.0, "vector": [3.0, 4.0, 5.0]},
    ]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    found = of(np.ones((2, 3), np.float32))
    with pytest.raises(EmbeddingError, match=r"suffix '\.csv'; expected one of \.npz, \.parquet, \.npy"):
        found.save(tmp_path / "a.csv")
    found.save(tmp_path / "a.npy")
    with pytest.raises(EmbeddingError, match="no times and no model"):
        Embeddings.load(tmp_path / "a.npy")
    for suffix in ("npz", "parquet"):
        with pytest.raises(EmbeddingError, match="none"):
            Embeddings.load(tmp_path / f"none.{suffix}")
        whole = found.save(tmp_path / f"a.{suffix}").read_bytes()
        for data in (b"", b"nonsense", whole[: len(whole) // 2]):
            (tmp_path / f"b.{suffix}").write_bytes(data)
            with pytest.raises(EmbeddingError, match=rf"b\.{suffix}"):
                Embeddings.load(tmp_path / f"b.{suffix}")
    np.savez(tmp_path / "c.npz", vectors=np.ones(3))
    with pytest.raises(EmbeddingError, match="expected a file that"):
        Embeddings.load(tmp_path / "c.npz")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_every_flipped_bit_is_one_error_or_harmless(suffix: str, tmp_path: Path) -> None:
    """Checksums find most, and never are the vectors others. numpy, zipfile, zlib and pyarrow raise many types."""
    refused = 0
    path = of(np.ones((2, 3), np.float32), warnings=("cut",)).save(tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        for data in (
            whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :],
            whole[:at],
            whole[:at] + whole[at + 9 :],
        ):
            path.write_bytes(data)
            try:
                found = Embeddings.load(path)
            except EmbeddingError as error:
                refused += 1
                assert path.name in str(error)
                assert "\n" not in str(error)
            else:
                np.testing.assert_array_equal(found.vectors, np.ones((2, 3), np.float32))
    assert refused > 400


def test_what_is_no_file_of_embeddings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    np.savez(tmp_path / "object.npz", vectors=np.array([object()]))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("pipe.npz", "folder.npz", "object.npz", "array.npz", "a\0b.npz"):
        with pytest.raises(EmbeddingError):
            Embeddings.load(tmp_path / name)
    for bad in (None, 5, b"a.npz"):
        with pytest.raises(EmbeddingError):
            Embeddings.load(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_names_that_are_no_utf8_and_warnings_are_saved(suffix: str, tmp_path: Path) -> None:
    found = of(np.ones((1, 3), np.float32), source="caf\udce9.wav", warnings=("cut at 1 s", "ä"))
    read = Embeddings.load(found.save(tmp_path / f"a.{suffix}"))
    assert (read.source, read.warnings) == ("caf\\xe9.wav", found.warnings)


def test_an_embedding_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = of(np.ones((1, 3), np.float32)).save(tmp_path / "a.npz")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = of(np.ones((1, 3), np.float32)).save(tmp_path / "a.npz").read_bytes()
    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="No space"):
        of(np.zeros((1, 3), np.float32)).save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


# ---- similar


@settings(max_examples=50)
@given(a=ANY, b=ANY, gain=st.floats(0.01, 100))
def test_similar_is_a_cosine(a: Embeddings, b: Embeddings, gain: float) -> None:
    score = similar(a, b)
    assert 0.0 <= score <= 1.0
    assert score == similar(b, a)
    x, y = a.clip.astype(np.float64), b.clip.astype(np.float64)
    if np.linalg.norm(x) > 1e-3 and np.linalg.norm(y) > 1e-3:
        assert score == pytest.approx(max(0.0, x @ y / np.linalg.norm(x) / np.linalg.norm(y)), abs=1e-5)
        assert similar(a, a) == pytest.approx(1.0, abs=1e-5)
        assert similar(replace(a, vectors=np.float32(gain) * a.vectors), b) == pytest.approx(score, abs=1e-4)


def test_silence_is_like_nothing() -> None:
    nothing = of(np.zeros((1, 4), np.float32))
    assert similar(nothing, nothing) == 0.0


def test_the_demo_model_tells_its_sounds_apart(tagger: Tagger) -> None:
    found = {path.stem: embed(tagger, path) for path in CLIPS}
    for name, one in found.items():
        assert all(v >= 0 for v in one.clip)  # of a ReLU
        assert similar(one, one) == pytest.approx(1.0, abs=1e-6)
        assert all(similar(one, other) < 0.9 for key, other in found.items() if key != name)


def test_other_models_are_refused() -> None:
    a = of(np.ones((1, 4), np.float32))
    with pytest.raises(EmbeddingError, match="expected the same bundle for both"):
        similar(a, replace(a, model="cnn14", model_sha256="1" * 64))
    with pytest.raises(EmbeddingError, match=r"4 numbers.*5 numbers"):
        similar(a, of(np.ones((1, 5), np.float32)))


@needs_shared
def test_real_recordings_of_a_kind_are_more_alike(tmp_path_factory: pytest.TempPathFactory) -> None:
    """mn04 with its published weights: two crying babies are more alike than a crying baby and a station or a talk."""
    model = Tagger(convert("mn04", checkpoint=REAL_WEIGHTS, out=tmp_path_factory.mktemp("mn04") / "bundle"), threads=1)
    babies = [embed(model, path) for path in sorted((AUDIO / "baby_cry").glob("*.mp3"))[:12]]
    others = [embed(model, path) for path in sorted(AUDIO.glob("*.wav"))]
    alike = [similar(a, b) for i, a in enumerate(babies) for b in babies[:i]]
    unlike = [similar(a, b) for a in babies for b in others]
    print(f"\nalike {np.median(alike):.2f}, unlike {np.median(unlike):.2f}")
    assert np.median(alike) > np.median(unlike) + 0.1
    assert np.mean([[a > u for u in unlike] for a in alike]) > 0.9


# ---- index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `sounds` with the clips, one of them in a subfolder, and a file that is no audio."""
    (tmp_path / "sounds" / "deeper").mkdir(parents=True)
    for clip in CLIPS[:-1]:
        shutil.copyfile(clip, tmp_path / "sounds" / clip.name)
    shutil.copyfile(CLIPS[-1], tmp_path / "sounds" / "deeper" / CLIPS[-1].name.upper())
    (tmp_path / "sounds" / "notes.txt").write_text("no audio")
    return tmp_path


def test_every_recording_finds_itself(folder: Path, tagger: Tagger) -> None:
    built = Index.build(folder / "index", tagger, [folder / "sounds"])
    assert len(built.sources) == len(CLIPS)
    assert built.failed == {}
    for opened in (built, Index(folder / "index")):
        for source in opened.sources:
            query = embed(tagger, source)
            hits = opened.search(query, top=3)
            assert len(hits) == 3
            assert hits[0].source == source
            assert hits[0].score == pytest.approx(1.0, abs=1e-5)
            assert (hits[0].start, hits[0].end) == (0.0, float(query.ends[-1]))
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            others = {s: similar(query, embed(tagger, s)) for s in opened.sources}
            assert {hit.source: hit.score for hit in hits} == pytest.approx(
                {hit.source: others[hit.source] for hit in hits}, abs=1e-5
            )


def test_a_recording_is_one_hit_with_its_best_window(
    tmp_path: Path, tagger: Tagger, demo_sound: NDArray[np.float32]
) -> None:
    siren = next(clip for clip in CLIPS if "siren" in clip.name)
    x = load_audio(siren, sample_rate=32000).waveform
    long = np.concatenate([np.zeros(640000, np.float32), np.resize(x, 640000), demo_sound])
    soundfile.write(tmp_path / "long.wav", long, 32000)
    built = Index.build(tmp_path / "index", tagger, [tmp_path / "long.wav", *CLIPS], hop=5.0)
    assert built.windows > len(built.sources) == 1 + len(CLIPS)
    hits = built.search(embed(tagger, np.resize(x, 320000), sample_rate=32000), top=100)
    assert len(hits) == len({hit.source for hit in hits}) == len(built.sources)
    (hit,) = (hit for hit in hits if hit.source.endswith("long.wav"))
    assert 20 <= hit.start <= 30
    assert hit.score > 0.99


def test_a_bad_file_does_not_stop_the_rest(folder: Path, tagger: Tagger) -> None:
    bad = folder / "sounds" / "a_broken.wav"
    bad.write_bytes(b"RIFFnonsense")
    reported: list[tuple[int, int, str, str | None]] = []
    built = Index.build(folder / "index", tagger, [folder / "sounds"], report=lambda *row: reported.append(row))
    assert list(built.failed) == [str(bad)]
    assert "not readable as audio" in built.failed[str(bad)]
    assert len(built.sources) == len(CLIPS)
    assert [(row[0], row[1]) for row in reported] == [(i + 1, 7) for i in range(7)]
    assert [row[2] for row in reported if row[3]] == [str(bad)]


def test_only_bad_files(tmp_path: Path, tagger: Tagger) -> None:
    (tmp_path / "bad.wav").write_bytes(b"x")
    with pytest.raises(EmbeddingError, match="none of 1 file could be used"):
        Index.build(tmp_path / "index", tagger, [tmp_path / "bad.wav"])
    assert not (tmp_path / "index").exists()


def test_no_files(tmp_path: Path, tagger: Tagger) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="empty: no audio file in this folder"):
        Index.build(tmp_path / "index", tagger, [tmp_path / "empty"])
    with pytest.raises(EmbeddingError, match="nothing to index"):
        Index.build(tmp_path / "index", tagger, [])


def test_an_index_grows_and_computes_nothing_twice(
    folder: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def listen(*args: object, **options: object) -> Embeddings:
        heard.append(Path(str(args[1])).name)
        return embed(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "embed", listen)
    files = sorted((folder / "sounds").glob("*.*"))
    Index.build(folder / "index", tagger, files[:2])
    assert len(heard) == 2
    Index.build(folder / "index", tagger, [folder / "sounds"])
    assert len(heard) == len(set(heard)) == len(CLIPS)
    shutil.copyfile(CLIPS[3], files[0])  # another recording under the same name
    heard.clear()
    built = Index.build(folder / "index", tagger, [folder / "sounds"])
    assert heard == [files[0].name]
    assert built.sources.count(str(files[0])) == 1
    best = built.search(embed(tagger, CLIPS[3]), top=2)
    assert str(files[0]) in {hit.source for hit in best}
    assert all(hit.score == pytest.approx(1.0, abs=1e-5) for hit in best)


def test_an_interrupted_build_loses_nothing(folder: Path, tagger: Tagger) -> None:
    """A build that is killed at the fourth recording keeps three. A half-written line and vector are ignored."""
    script = (
        "import os, sys\nfrom panns_litert import Tagger\nfrom panns_litert.search import index\n"
        "real = index.embed\ncount = 0\n"
        "def stop(*a, **k):\n    global count\n    count += 1\n"
        "    return os._exit(9) if count == 4 else real(*a, **k)\n"
        "index.embed = stop\nindex.Index.build(sys.argv[1], Tagger(threads=1), sys.argv[2:])\n"
    )
    target = folder / "index"
    assert run_python(script, target, folder / "sounds", check=False).returncode == 9
    kept = Index(target).sources
    assert len(kept) == 3
    with (target / "vectors.f32").open("ab") as file:
        file.write(b"\1" * 100)
    with (target / "entries.jsonl").open("ab") as file:
        file.write(b'{"source": "half' + 5000 * b"x")
    assert Index(target).sources == kept
    whole = Index.build(target, tagger, [folder / "sounds"])
    assert whole.sources[:3] == kept
    assert len(whole.sources) == len(CLIPS)
    assert len(Index(target).sources) == len(CLIPS)


def test_an_index_of_another_model_or_hop_is_refused(folder: Path, tagger: Tagger) -> None:
    built = Index.build(folder / "index", tagger, [folder / "sounds"])
    with pytest.raises(EmbeddingError, match="has a hop of 10 s, not 5; expected the same"):
        Index.build(folder / "index", tagger, [folder / "sounds"], hop=5.0)
    query = embed(tagger, CLIPS[0])
    with pytest.raises(EmbeddingError, match="expected the same bundle"):
        built.search(replace(query, model_sha256="1" * 64))
    header = json.loads((folder / "index" / "index.json").read_text())
    (folder / "index" / "index.json").write_text(json.dumps(header | {"model_sha256": "1" * 64}))
    with pytest.raises(EmbeddingError, match="expected the same bundle, or a new folder"):
        Index.build(folder / "index", tagger, [folder / "sounds"])


@pytest.mark.parametrize("top", [0, -1, 1.5, True, None, "3", float("nan"), -(10**400)])
def test_top_out_of_range(top: object, folder: Path, tagger: Tagger) -> None:
    built = Index.build(folder / "index", tagger, [folder / "sounds" / CLIPS[0].name])
    with pytest.raises(EmbeddingError, match="top = "):
        built.search(embed(tagger, CLIPS[0]), top=top)  # type: ignore[arg-type]


BAD_HEADERS: list[dict[str, object]] = [
    {"format_version": 1}, {"format_version": 10**500}, {"dim": 0}, {"dim": 2**31 - 1}, {"dim": 95}, {"dim": 96.0},
    {"hop": 0}, {"hop": -1.0}, {"hop": 11.0}, {"window": float("nan")}, {"window": float("inf")}, {"window": "10"},
    {"model": None}, {"extra": 1},
]  # fmt: skip

BAD_ENTRIES: list[dict[str, object]] = [
    {"row": 1}, {"row": -1}, {"row": 0.0}, {"row": 10**30}, {"source": 1}, {"crc32": 0}, {"crc32": "0"},
    {"bytes": None}, {"mtime_ns": True}, {"starts": []}, {"starts": [], "ends": []}, {"starts": 0}, {"starts": ["0"]},
    {"starts": [0, 1], "ends": [2, 3]}, {"starts": [3], "ends": [2]}, {"starts": [-1.0]}, {"ends": [float("nan")]},
    {"ends": [float("inf")]}, {"extra": 1}, {"starts": [[0]]},
]  # fmt: skip


def changed(lines: list[bytes], change: dict[str, object]) -> bytes:
    """Returns the entries with a change of the first."""
    return b"".join([(json.dumps(json.loads(lines[0]) | change) + "\n").encode(), *lines[1:]])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, 3e38])
def test_vectors_that_are_not_of_length_one_are_refused(value: float, folder: Path, tagger: Tagger) -> None:
    """Also if their checksum is made right. A search of NaN never ended."""
    target = folder / "index"
    Index.build(target, tagger, [folder / "sounds"])
    vectors = np.fromfile(target / "vectors.f32", "<f4").reshape(-1, 96)
    vectors[0] = value
    vectors.tofile(target / "vectors.f32")
    lines = (target / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (target / "entries.jsonl").write_bytes(changed(lines, {"crc32": zlib.crc32(vectors[0].tobytes())}))
    with pytest.raises(EmbeddingError, match="are not of length 1"):
        Index(target)


def test_a_second_build_is_refused_and_loses_nothing(folder: Path, tagger: Tagger) -> None:
    script = (
        "import sys, time\nfrom panns_litert import Tagger\nfrom panns_litert.search import Index\n"
        "print('begun', flush=True)\n"
        "slow = lambda number, *_: (print(number, flush=True), time.sleep(0.3))\n"
        "Index.build(sys.argv[1], Tagger(threads=1), sys.argv[2:], report=slow)\n"
    )
    target = folder / "index"
    command = [sys.executable, "-c", script, str(target), str(folder / "sounds")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert [first.stdout.readline(), first.stdout.readline()] == ["begun\n", "1\n"]
        with pytest.raises(EmbeddingError, match="another run is writing it"):
            Index.build(target, tagger, [folder / "sounds"])
        assert len(Index(target).sources) >= 1  # a search needs no lock
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert len(Index(target).sources) == len(CLIPS)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), RuntimeError("x")], ids=repr)
def test_no_exception_of_a_recording_ends_a_build(
    error: Exception, folder: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(tagger: Tagger, path: str, **options: object) -> Embeddings:
        if path.endswith(CLIPS[1].name):
            raise error
        return embed(tagger, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "embed", listen)
    built = Index.build(folder / "index", tagger, [folder / "sounds", "a\0b.wav"])
    (named, text), (nul, _) = built.failed.items()
    assert named.endswith(CLIPS[1].name)
    assert f"{named}: {type(error).__name__}" in text
    assert nul == "a\0b.wav"
    assert len(built.sources) == len(CLIPS) - 1


def test_a_full_disk_ends_a_build_and_keeps_the_rest(
    folder: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(ResultsError, match="No space left"):
        patch.setattr(index, "_write_at", disk_full)
        Index.build(folder / "index", tagger, [folder / "sounds"])
    assert len(Index.build(folder / "index", tagger, [folder / "sounds"]).sources) == len(CLIPS)


def test_names_that_are_no_utf8_are_indexed_once(folder: Path, tagger: Tagger) -> None:
    raw = os.fsencode(folder / "sounds") + b"/caf\xe9.wav"
    shutil.copyfile(CLIPS[0], raw)
    os.mkfifo(folder / "sounds" / "pipe.wav")
    reported: list[str | None] = []
    for _ in range(2):
        built = Index.build(
            folder / "index", tagger, [raw, folder / "sounds" / "pipe.wav"], report=lambda *row: reported.append(row[3])
        )
        assert built.sources == (f"{folder / 'sounds'}/caf\\xe9.wav",)
    assert len((folder / "index" / "entries.jsonl").read_bytes().splitlines()) == 1
    assert reported[0] is None
    assert "not a regular file" in str(reported[1])


def test_only_the_same_bundle_goes_on(folder: Path, tagger: Tagger) -> None:
    Index.build(folder / "index", tagger, [folder / "sounds"])
    header = json.loads((folder / "index" / "index.json").read_text())
    (folder / "index" / "index.json").write_text(json.dumps(header | {"bundle_sha256": "1" * 64}))
    with pytest.raises(EmbeddingError, match="front end, clip length, mel basis or classes were others"):
        Index.build(folder / "index", tagger, [folder / "sounds"])


def test_damage_is_noticed(folder: Path, tagger: Tagger) -> None:
    whole = folder / "index"
    Index.build(whole, tagger, [folder / "sounds"])

    def damaged(name: str, data: bytes) -> Path:
        copy = folder / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        (copy / name).write_bytes(data)
        return copy

    vectors = (whole / "vectors.f32").read_bytes()
    lines = (whole / "entries.jsonl").read_bytes().splitlines(keepends=True)
    header = (whole / "index.json").read_bytes()
    for name, data in [
        ("vectors.f32", vectors[:-4]),
        ("vectors.f32", bytes([vectors[0] ^ 1]) + vectors[1:]),
        ("entries.jsonl", b"".join(lines[1:])),
        ("entries.jsonl", b"nonsense\n" + b"".join(lines)),
        ("index.json", b""),
        ("index.json", b"{}"),
        ("index.json", b"[" * 100000),
        *(("index.json", json.dumps(json.loads(header) | change).encode()) for change in BAD_HEADERS),
        *(("entries.jsonl", changed(lines, change)) for change in BAD_ENTRIES),
        ("entries.jsonl", b"".join([*lines, lines[0]])),
        ("entries.jsonl", b"".join(lines[::-1])),
        ("index.json", header.replace(b'"format_version": 2', b'"format_version": 1')),
    ]:
        with pytest.raises(EmbeddingError, match="damaged"):
            Index(damaged(name, data))
    with pytest.raises(EmbeddingError, match="no index at"):
        Index(folder / "sounds")


def test_a_folder_of_something_else_is_left_alone(folder: Path, tagger: Tagger) -> None:
    before = sorted((folder / "sounds").iterdir())
    with pytest.raises(EmbeddingError, match="exists and is no index"):
        Index.build(folder / "sounds", tagger, [folder / "sounds"])
    assert sorted((folder / "sounds").iterdir()) == before


def test_missing_libraries_are_named(folder: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match="install the extra search "):
        Index.build(folder / "index", tagger, [folder / "sounds"])
    with pytest.raises(MissingDependencyError, match="install the extra parquet "):
        embed(tagger, CLIPS[0]).save(folder / "a.parquet")


@settings(max_examples=25)
@given(x=hnp.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_units_have_length_one(x: NDArray[np.float32]) -> None:
    length = np.linalg.norm(unit(x).astype(np.float64), axis=1)
    zero = ~x.any(axis=1)
    np.testing.assert_allclose(length[~zero], 1.0, atol=1e-5)
    assert (length[zero] == 0).all()


# ---- commands


def test_embed_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    printed, _ = run_command(capsys, "embed", *CLIPS[:2], folder / "none.wav", "--out", out, "--json", code=2)
    first, second, bad = json.loads(printed)["results"]
    assert first["warnings"] == []
    assert "no such file" in bad["error"]
    assert (first["source"], first["windows"], first["dim"], len(first["clip"])) == (str(CLIPS[0]), 1, 96, 96)
    assert Embeddings.load(second["file"]).source == str(CLIPS[1])
    printed, _ = run_command(capsys, "embed", CLIPS[0], "--out", out, "--format", "npy", "--hop", 1)
    assert printed == f"{out / CLIPS[0].name}.npy: 1 window × 96\n"
    _, error = run_command(capsys, "embed", CLIPS[0], CLIPS[0], "--out", out, code=2)
    assert "same name" in error


def test_similar_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(capsys, "similar", CLIPS[0], CLIPS[0])[0] == "1.000\n"
    printed, _ = run_command(capsys, "similar", CLIPS[0], CLIPS[1], "--json")
    assert 0 <= json.loads(printed)["similar"] < 0.9
    run_command(capsys, "similar", CLIPS[0], "none.wav", code=2)
    run_command(capsys, "similar", CLIPS[0], CLIPS[0], "--model", "demo", "--bundle", "x", code=2)


def test_match_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], demo_sound: NDArray[np.float32]) -> None:
    part, whole, other = (tmp_path / f"{name}.wav" for name in ("part", "whole", "other"))
    soundfile.write(part, demo_sound[32000 : 5 * 32000], 32000)
    soundfile.write(whole, demo_sound, 32000)
    soundfile.write(other, np.zeros(3 * 32000), 32000)
    printed, error = run_command(capsys, "match", part, whole, "--json")
    assert error == ""
    (found,) = json.loads(printed)["matches"]
    assert found["reference_start"] - found["query_start"] == pytest.approx(1.0, abs=0.02)
    assert "1.00 – 5.00 s" in run_command(capsys, "match", part, whole)[0]
    assert "not heard in" in run_command(capsys, "match", part, other)[0]
    _, error = run_command(capsys, "match", part, whole, "--threshold", 2, code=2)
    assert error.count("\n") == 1


def test_index_and_search_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, sounds = folder / "index", folder / "sounds"
    printed, _ = run_command(capsys, "index", target, sounds)
    assert printed == f"Indexed 6 of 6 files; {target} now has 6 recordings, 6 windows, by demo.\n"
    (sounds / "bad.wav").write_bytes(b"x")
    printed, error = run_command(capsys, "index", target, sounds, "--json", code=2)
    assert [bad["source"] for bad in json.loads(printed)["failed"]] == [str(sounds / "bad.wav")]
    assert "bad.wav" in error
    hits = json.loads(run_command(capsys, "search", target, CLIPS[0], "--top", 2, "--json")[0])["hits"]
    assert len(hits) == 2
    assert Path(hits[0]["source"]).name == CLIPS[0].name
    printed, _ = run_command(capsys, "search", target, CLIPS[0], "--top", 1)
    assert printed.split()[0] == "1.000"
    _, error = run_command(capsys, "search", folder / "none", CLIPS[0], code=2)
    assert "no index at" in error
