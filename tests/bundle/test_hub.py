"""Bundles from the Hugging Face hub, and to it: what huggingface_hub really asks, of a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hubserver import READER, TOKEN, HubServer, Repo
from huggingface_hub import ModelCard, constants
from hypothesis import given, settings
from hypothesis import strategies as st
from support import edit_manifest, edit_self_test, run_python, without_self_test

from panns_litert import Tagger
from panns_litert.bundle import MANIFEST, OWN_WEIGHTS, Bundle, Manifest, copy_bundle, model_card, open_bundle, pull
from panns_litert.demo import demo_bundle, demo_clips
from panns_litert.errors import BundleError, DownloadError, ParityError, install_extra
from panns_litert.hub import HubId
from panns_litert.proof import publish, record_gpu

MODEL = "demo_synthetic_fp16.tflite"
PULL = "import sys; from panns_litert.bundle import pull; print(pull(sys.argv[1]).path)"

# Root may write everywhere. Without its capabilities it may not, as any other user.
DROP_ROOT = """
import ctypes, os
if os.geteuid() == 0:
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0
"""


@pytest.fixture
def own() -> Bundle:
    return Bundle(demo_bundle())


@pytest.fixture
def other(own: Bundle, copy_of: Callable[[Bundle], Path]) -> Path:
    """A copy of the demo bundle with another description."""
    folder = copy_of(own)
    edit_manifest(folder, lambda m: m.update(description="another"))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_as_user(code: str, *arguments: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs code in a process that finds the hub by its variables only."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


# Names


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("hf:org/name", "org/name", None),
        ("org/name", "org/name", None),
        ("hf:org/name@main", "org/name", "main"),
        ("hf:a/b.c-d_e@refs/pr/4", "a/b.c-d_e", "refs/pr/4"),
        (f"hf:org/name@{'0f' * 20}", "org/name", "0f" * 20),
    ],
)
def test_an_id_is_read(text: str, repo: str, revision: str | None) -> None:
    assert HubId.parse(text) == HubId(repo, revision)


@pytest.mark.parametrize(
    "text",
    ["", "hf:", "hf:name", "hf:a/b/c", "hf:/b", "hf:a/", "hf:a/../b", "hf:../b", "hf:a/.b", "hf:a/b.", "hf:a/b--c",
     "hf:a/b.git", "hf:ä/b", "hf:a b/c", "hf:a/b@", "hf:a/b@../x", "hf:a/b@x/../y", "hf:a/b@/x", "hf:a/b@x/",
     "hf:a/b@-x", "hf:a/b@x y", "hf:a/b@x\0", "hf:a/b\n", "hf:a/b@x@y", f"hf:a/{'b' * 97}",
     "https://huggingface.co/a/b", None, 5],
    ids=ascii,
)  # fmt: skip
def test_no_id_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="expected"):
        HubId.parse(text)


@given(st.one_of(st.text(), st.from_regex(r"(hf:)?[\w.-]{0,5}/[\w.-]{0,5}(@[\w./@-]{0,9})?")))
def test_every_id_is_its_text_and_stays_in_its_folder(text: str) -> None:
    try:
        found = HubId.parse(text)
    except BundleError:
        return
    assert HubId.parse(str(found)) == found
    assert str(found).removeprefix("hf:") == text.removeprefix("hf:")
    for part in (*found.repo.split("/"), *(found.revision or "x").split("/")):
        assert part not in ("", ".", "..")
        assert part.isascii()


# Pulling


def test_what_is_pulled_is_what_was_there_byte_for_byte(hub: HubServer, own: Bundle, tmp_path: Path) -> None:
    pulled = pull("org/demo")
    assert contents(pulled.path) == contents(own.path)
    assert pulled.origin == f"hf:org/demo@{hub.repos['org/demo'].refs['main']}"
    assert contents(copy_bundle(pulled, tmp_path / "mine").path) == contents(own.path)
    assert open_bundle(tmp_path / "mine").origin is None


def test_only_the_files_of_the_manifest_are_downloaded(hub: HubServer) -> None:
    repo = hub.repos["org/demo"]
    repo.commit(repo.commits[repo.refs["main"]] | {"weights.bin": bytes(1000)})
    assert "weights.bin" not in contents(pull("org/demo").path)
    assert not any("weights.bin" in request for request in hub.requests)


def test_a_tagger_comes_from_a_repository(hub: HubServer) -> None:
    siren = next(path for path in demo_clips() if "siren" in path.name)
    with Tagger.from_pretrained("org/demo", revision="main", threads=1) as tagger:
        assert tagger.tag(siren, top=1).tags[0].label == "Siren"
    with Tagger("hf:org/demo@main") as same:
        assert same.bundle.origin == tagger.bundle.origin


def test_a_branch_moves_and_a_commit_does_not(hub: HubServer, other: Path) -> None:
    repo = hub.repos["org/demo"]
    first = repo.refs["v1"] = repo.refs["main"]
    old = pull("org/demo").manifest.description
    second = repo.commit(contents(other))
    assert pull("org/demo").manifest.description == "another"
    assert pull("org/demo", revision=second).origin == f"hf:org/demo@{second}"
    for revision in (first, "v1"):
        assert pull(f"hf:org/demo@{revision}").manifest.description == old


def test_a_cached_commit_needs_no_network(hub: HubServer) -> None:
    origin = pull("org/demo").origin
    hub.requests.clear()
    assert pull(str(origin)).origin == origin
    assert hub.requests == []
    hub.close()
    assert pull(str(origin)).origin == origin
    assert pull("org/demo").origin == origin  # the branch, as it was known last


def test_a_hub_that_is_down_is_as_good_as_none(hub: HubServer) -> None:
    origin = pull("org/demo").origin
    hub.status = 503
    assert pull("org/demo").origin == origin
    with pytest.raises(DownloadError, match=r"hf:org/other is not in the cache, and the hub cannot be reached \("):
        pull("org/other")


def test_offline_nothing_is_asked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = pull("org/demo").origin
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull("org/demo").origin == origin
    with pytest.raises(DownloadError, match="hf:org/demo@v2 is not in the cache, and HF_HUB_OFFLINE is set; expected"):
        pull("org/demo", revision="v2")
    assert hub.requests == []


def test_a_commit_that_is_not_cached_needs_the_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"manifest\.json of hf:org/demo@0{40} is not in the cache"):
        pull("org/demo", revision="0" * 40)


def test_the_variables_of_the_hub_are_enough(hub: HubServer, tmp_path: Path) -> None:
    variables = hub.environment(tmp_path / "home")
    first = run_as_user(PULL, "org/demo", variables=variables)
    assert first.returncode == 0, first.stderr
    assert Path(first.stdout.strip()).is_relative_to(tmp_path / "home")
    hub.close()
    again = run_as_user(PULL, "org/demo", variables=variables | {"HF_HUB_OFFLINE": "1"})
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")


def test_two_processes_pull_at_once(hub: HubServer, tmp_path: Path) -> None:
    hub.spoil["mel_basis.bin"] = lambda data: (time.sleep(0.5), data)[1]  # so that they meet
    env = os.environ | hub.environment(tmp_path / "home")
    started = [
        subprocess.Popen([sys.executable, "-c", PULL, "org/demo"], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert printed[0] == printed[1]


def test_a_cache_that_cannot_be_written_is_read(hub: HubServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    variables = hub.environment(home) | {"PANNS_LITERT_CACHE": str(tmp_path / "cache")}
    assert run_as_user(PULL, "org/demo", variables=variables).returncode == 0
    for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    try:
        there = run_as_user(DROP_ROOT + PULL, "org/demo", variables=variables)
        assert there.returncode == 0, there.stderr
        hub.add("org/new", demo_bundle())
        new = run_as_user(DROP_ROOT + PULL, "org/new", variables=variables)
        assert "expected a folder that can be written; point HF_HOME elsewhere" in new.stderr
    finally:
        for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
            folder.chmod(0o755)


# Broken downloads


def test_a_download_that_breaks_off_goes_on(hub: HubServer, own: Bundle) -> None:
    halves = iter([len(own.model) // 2])
    hub.spoil[MODEL] = lambda data: data[: next(halves, len(data))]
    assert pull("org/demo").model == own.model
    assert sum(request.startswith("GET /cdn/") and request.endswith(MODEL) for request in hub.requests) == 2


def test_a_download_that_always_breaks_off_is_an_error(
    hub: HubServer, own: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # between its tries
    hub.spoil[MODEL] = lambda data: data[:1000]
    with pytest.raises(DownloadError, match=rf"{MODEL} of hf:org/demo@\w{{40}}: .*; try again"):
        pull("org/demo")
    hub.spoil.clear()
    assert pull("org/demo").model == own.model


@pytest.mark.parametrize("name", [MODEL, "mel_basis.bin", "selftest.pcm", MANIFEST])
def test_a_file_with_another_hash_is_downloaded_again(hub: HubServer, own: Bundle, name: str) -> None:
    damage = iter([lambda data: b"\0" + data[1:]])
    hub.spoil[name] = lambda data: next(damage, bytes)(data)
    assert contents(pull("org/demo").path) == contents(own.path)


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_file_whose_hash_stays_wrong_is_refused(hub: HubServer, own: Bundle, name: str) -> None:
    hub.spoil[name] = lambda data: b"\0" + data[1:]
    with pytest.raises(BundleError, match=rf"hf:org/demo@\w{{40}} is no whole bundle: .*({name}|manifest)"):
        pull("org/demo")
    hub.spoil.clear()
    assert pull("org/demo").model == own.model


def test_a_damaged_cache_is_mended(hub: HubServer, own: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull("org/demo").path / MODEL
    path.resolve().write_bytes(b"\0" * len(own.model))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match="was altered"):
        pull("org/demo")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert pull("org/demo").model == own.model


# What the hub refuses


def test_a_private_repository_needs_a_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/secret", demo_bundle(), private=True)
    for name in ("org/secret", "org/missing"):  # the hub does not tell which of them is there
        with pytest.raises(DownloadError, match=f"hf:{name}: no such repository that you may read; .*hf auth login"):
            pull(name)
    monkeypatch.setenv("HF_TOKEN", READER)
    assert pull("org/secret").manifest.model == "demo"
    with pytest.raises(DownloadError, match="hf:org/missing: no such repository"):
        pull("org/missing")


def test_a_gated_repository_says_so(hub: HubServer) -> None:
    hub.add("org/gated", demo_bundle(), gated=True)
    with pytest.raises(DownloadError, match="hf:org/gated is gated; accept its terms on its page"):
        pull("org/gated")


@pytest.mark.parametrize("revision", ["v9", "0" * 40])
def test_an_unknown_revision_is_refused(hub: HubServer, revision: str) -> None:
    with pytest.raises(DownloadError, match=f"hf:org/demo@{revision}: no such revision; expected a branch"):
        pull("org/demo", revision=revision)


@pytest.mark.parametrize("missing", [MANIFEST, MODEL])
def test_a_repository_without_a_bundle_is_refused(hub: HubServer, missing: str) -> None:
    repo = hub.repos["org/demo"]
    repo.commit({name: data for name, data in repo.commits[repo.refs["main"]].items() if name != missing})
    with pytest.raises(BundleError, match=rf"hf:org/demo@\w{{40}} has no {missing}; expected a bundle"):
        pull("org/demo")


def test_a_removed_card_is_no_fault(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = hub.repos["org/demo"]
    repo.commit({name: data for name, data in repo.commits[repo.refs["main"]].items() if name != "README.md"})
    assert pull("org/demo").manifest.model == "demo"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull("org/demo").manifest.model == "demo"


def test_a_revision_is_given_once(hub: HubServer) -> None:
    with pytest.raises(BundleError, match="hf:org/demo@v1 and revision v2; expected one of them"):
        pull("hf:org/demo@v1", revision="v2")
    assert hub.requests == []


def test_a_pulled_bundle_is_not_changed(hub: HubServer) -> None:
    with pytest.raises(BundleError, match=r"hf:org/demo@\w{40} stays as it was published"):
        record_gpu(pull("org/demo"), report=None)  # type: ignore[arg-type]


def test_the_runtime_needs_the_hub_only_for_the_hub() -> None:
    hide = "import sys; sys.modules['huggingface_hub'] = None; from panns_litert import Tagger; Tagger(); "
    result = run_python(hide + "Tagger.from_pretrained('org/demo')", check=False)
    assert "the Hugging Face hub needs huggingface_hub, which cannot be imported" in result.stderr
    assert install_extra("hub") in result.stderr


# Publishing


@pytest.fixture
def writer(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.mark.usefixtures("writer")
def test_what_is_published_is_pulled_byte_for_byte(hub: HubServer, own: Bundle, other: Path) -> None:
    done = publish(own, "me/demo")
    assert done.url == f"{hub.url}/me/demo/commit/{done.hub_id.revision}"
    pulled = pull(str(done.hub_id))
    assert contents(pulled.path) == contents(own.path)
    assert done.files == {name: len(data) for name, data in contents(own.path).items()}
    assert done.self_test.passed
    again = publish(Bundle(other), "me/demo")  # a new commit of the same repository
    assert pull("me/demo").manifest.description == "another"
    assert pull(str(done.hub_id)).manifest.description == own.manifest.description
    assert publish(Bundle(other), "me/demo").hub_id == again.hub_id  # nothing new, no new commit
    assert not hub.repos["me/demo"].private


@pytest.mark.usefixtures("writer")
def test_a_private_repository_is_made_and_a_public_one_refused(hub: HubServer, own: Bundle) -> None:
    publish(own, "me/demo", private=True)
    assert hub.repos["me/demo"].private
    before = dict(hub.repos["org/demo"].commits)
    with pytest.raises(BundleError, match="hf:org/demo is public; expected a private repository"):
        publish(own, "org/demo", private=True)
    assert hub.repos["org/demo"].commits == before


@pytest.mark.usefixtures("writer")
def test_a_repository_of_something_else_is_not_overwritten(hub: HubServer, own: Bundle) -> None:
    hub.repos["me/other"] = repo = Repo()
    repo.commit({"README.md": b"mine", "model.safetensors": b"0"})
    with pytest.raises(BundleError, match=r"hf:me/other has 'model.safetensors' and no manifest.json; expected a new"):
        publish(own, "me/other")
    assert len(repo.commits) == 1


@pytest.mark.parametrize(
    ("token", "message"), [("", "hf auth login"), (READER, r"the hub refuses \(403\); expected leave to write to it")]
)
def test_publishing_needs_a_token_that_may_write(
    hub: HubServer, own: Bundle, token: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    for name in ("me/new", "org/demo"):
        with pytest.raises(DownloadError, match=message):
            publish(own, name)
    assert list(hub.repos) == ["org/demo"]


@pytest.mark.usefixtures("writer")
def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(hub: HubServer, own: Bundle, other: Path) -> None:
    repo = hub.repos["org/demo"]
    once = iter([contents(other) | {"theirs.txt": b"x"}])
    hub.before_commit = lambda: [repo.commit(files) for files in once]
    with pytest.raises(DownloadError, match="hf:org/demo: somebody else made a commit meanwhile"):
        publish(Bundle(other), "org/demo")
    assert "theirs.txt" in repo.commits[repo.refs["main"]]


def test_a_dry_run_asks_nothing(hub: HubServer, own: Bundle) -> None:
    done = publish(own, "me/demo", dry_run=True)
    assert done.url is None
    assert done.self_test.passed
    assert hub.requests == []


@pytest.mark.usefixtures("writer")
def test_nothing_is_published_without_proof(hub: HubServer, own: Bundle, copy_of: Callable[[Bundle], Path]) -> None:
    folder = copy_of(own)
    edit_self_test(folder, lambda data: data["probs"].__setitem__(0, 1 - data["probs"][0]))
    with pytest.raises(ParityError, match="self_test/probs, CPU"):
        publish(Bundle(folder), "me/demo")
    with pytest.raises(BundleError, match="has no self-test; expected one"):
        publish(Bundle(without_self_test(folder)), "me/demo")
    bundle = Bundle(demo_bundle())  # a manifest without proof cannot be read, but can be made
    object.__setattr__(bundle.manifest, "parity", tuple(c for c in bundle.manifest.parity if c.stage != "fp32"))
    with pytest.raises(BundleError, match="is not proven: nothing compared it with the original network"):
        publish(bundle, "me/demo")
    with pytest.raises(BundleError, match="expected a repository without a revision"):
        publish(own, "me/demo@v1")
    assert hub.requests == []


@pytest.mark.usefixtures("writer")
def test_the_card_of_a_user_is_published_if_the_hub_can_read_it(hub: HubServer, other: Path) -> None:
    card = other / "README.md"
    card.write_text("my words", encoding="utf-8")
    with pytest.raises(BundleError, match="was edited and has no metadata of the hub"):
        publish(Bundle(other), "me/demo")
    card.write_text("---\nlicense: mit\n---\nmy words", encoding="utf-8")
    publish(Bundle(other), "me/demo")
    assert (pull("me/demo").path / "README.md").read_bytes() == card.read_bytes()
    card.write_text("---\nlibrary_name: litert\n---\nno licence", encoding="utf-8")
    with pytest.raises(DownloadError, match='"license" is required'):
        publish(Bundle(other), "me/demo")
    card.unlink()
    done = publish(Bundle(other), "me/demo")
    assert done.card == model_card(Bundle(other).manifest).encode()


# The card


def metadata(change: Callable[[dict], object] = lambda _: None) -> dict:  # type: ignore[type-arg]
    """Returns the metadata of a card as the hub reads them, of the demo's manifest with a change."""
    manifest = json.loads((demo_bundle() / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    text = model_card(Manifest.from_json(json.dumps(manifest)))
    return ModelCard(text).data.to_dict()


def test_the_card_of_the_demo_bundle_is_what_convert_writes(own: Bundle) -> None:
    assert own.file("model_card").read_text(encoding="utf-8") == model_card(own.manifest)


def test_the_hub_reads_the_metadata() -> None:
    def audioset(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["source"] |= {"published_map": 0.432, "licence": "MIT"}
        manifest["source"]["url"] = "https://huggingface.co/MIT/ast-finetuned/resolve/f826b80d/model.safetensors"
        manifest["files"]["audioset_labels.txt"] = manifest["files"].pop("demo_labels.txt")

    found = metadata(audioset)
    fp16 = next(c for c in Bundle(demo_bundle()).manifest.parity if (c.stage, c.output) == ("fp16", "probs"))
    assert found["license"] == "mit"
    assert found["library_name"] == "litert"
    assert found["pipeline_tag"] == "audio-classification"
    assert found["base_model"] == "MIT/ast-finetuned"
    assert found["datasets"] == ["agkphysics/AudioSet"]
    assert {"litert", "tflite", "audio-tagging", "audioset", "fp16"} <= set(found["tags"])
    published, parity = found["model-index"][0]["results"]
    assert published["metrics"] == [{"type": "mAP", "value": 0.432, "name": "mAP, published for the checkpoint"}]
    assert published["dataset"]["type"] == "agkphysics/AudioSet"
    assert {metric["type"]: metric["value"] for metric in parity["metrics"]} == {
        "max_abs_error": pytest.approx(fp16.max_abs), "correlation": pytest.approx(fp16.corr),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        (OWN_WEIGHTS, {"license": "unknown"}),
        ("see its page", {"license": "other", "license_name": "see-its-page", "license_link": "https://a.example/x"}),
        ('"; rm: ---\n', {"license": "other", "license_name": "rm", "license_link": "https://a.example/x"}),
    ],
)
def test_a_licence_is_one_of_the_hubs(licence: str, expected: dict[str, str]) -> None:
    found = metadata(lambda manifest: manifest["source"].update(licence=licence, url="https://a.example/x"))
    assert {name: value for name, value in found.items() if name.startswith("license")} == expected
    assert "base_model" not in found


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), st.floats(1e-12, 0.9))
def test_no_text_or_figure_breaks_the_metadata(text: str, error: float) -> None:
    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["model"] = text
        check = next(c for c in manifest["parity"] if (c["stage"], c["output"]) == ("fp16", "probs"))
        check["max_abs"] = error

    index = metadata(change)["model-index"][0]
    assert index["name"] == f"{text} fp16"
    assert index["results"][0]["metrics"][0]["value"] == pytest.approx(error)
