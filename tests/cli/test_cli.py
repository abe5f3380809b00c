"""The command line: exit codes, errors of one line, valid JSON."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import ROOT, run_python

import panns_litert
from panns_litert import Tagger
from panns_litert.bundle import Bundle
from panns_litert.cli import build_parser, main
from panns_litert.cli.commands import COMMANDS
from panns_litert.demo import demo_clips
from panns_litert.proof import GATES, Gate

CLIPS = demo_clips()


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "panns_litert.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def one_error(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("panns-litert: ")
    return lines[0]


def test_tag() -> None:
    result = run("tag", CLIPS[0])
    assert result.returncode == 0
    assert str(CLIPS[0]) in result.stdout
    assert Tagger().tag(CLIPS[0]).tags[0].label in result.stdout
    assert "INFO" not in result.stdout  # a note of LiteRT
    assert result.stderr.splitlines() == [
        "note: using the demo bundle (synthetic sounds, not PANNs); --model mn04 for AudioSet"
    ]


def test_tag_json(demo: Bundle) -> None:
    result = run("tag", *CLIPS[:2], "--json", "--top", "3", "--embedding", "--bundle", demo.path)
    assert result.stderr == ""
    results = json.loads(result.stdout)["results"]
    assert [r["source"] for r in results] == [str(clip) for clip in CLIPS[:2]]
    for r in results:
        assert len(r["tags"]) == 3
        scores = [tag["score"] for tag in r["tags"]]
        assert scores == sorted(scores, reverse=True)
        assert len(r["embedding"]) == 96
        assert r["engine"] == "cpu"
        assert r["model"] == "demo"


def test_a_bad_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    result = run("tag", tmp_path / "empty.wav", CLIPS[0], "--json")
    assert result.returncode == 2
    first, second = json.loads(result.stdout)["results"]
    assert "empty" in first["error"]
    assert second["tags"]


def test_threshold_leaves_out_tags() -> None:
    loud = json.loads(run("tag", CLIPS[0], "--json", "--threshold", "0.5").stdout)["results"][0]["tags"]
    assert all(tag["score"] >= 0.5 for tag in loud)
    assert json.loads(run("tag", CLIPS[0], "--json", "--threshold", "1").stdout)["results"][0]["tags"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "nowhere.wav"], "nowhere.wav: no such file"),
        (
            ["tag", "x.wav", "--bundle", "nowhere"],
            "no bundle at nowhere, and no model 'nowhere'; expected one that `panns-litert models` lists",
        ),
        (["tag", "x.wav", "--bundle", "./nowhere"], "no bundle at nowhere; expected a folder"),
        (["tag", "x.wav", "--model", "hf:nowhere"], "hub repository 'nowhere'; expected ORG/NAME"),
        (["tag", "x.wav", "--bundle", "b", "--model", "demo"], "expected one of them"),
        (
            ["tag", "x.wav", "--model", "cnn41"],
            "no model 'cnn41'; did you mean cnn14 or cnn10?",
        ),
        (["tag", str(CLIPS[0]), "--threshold", "nan"], "threshold = nan"),
        (["tag", str(CLIPS[0]), "--threads", "0"], "threads = 0; expected a whole number ≥ 1"),
        (["convert", "cnn41"], "no model 'cnn41'"),
        (["convert", "demo", "--seconds", "61"], "expected 1 … 60 s"),
        (["convert", "cnn14", "--checkpoint", "nowhere.pth"], "nowhere.pth: no such file"),
        (["verify", "nowhere"], "no bundle at nowhere"),
        (["fetch", "cnn41"], "no model 'cnn41'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("note: ", "["))]
    assert result.returncode == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["tag"], ["convert", "demo", "--precision", "int3"]])
def test_usage_is_exit_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_a_message_about_an_argument_is_short_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tag", "-", "--rate", "9" * 5000]) == 2
    assert main(["tag", "a.wav", "--\x1b[31m"]) == 2
    err = capsys.readouterr().err
    assert max(map(len, err.splitlines())) < 800
    assert r"\x1b[31m" in err
    assert "\x1b" not in err


def test_help_lists_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    groups = re.split(r"^([a-z ]+):$", text, flags=re.M)
    shown = {
        name: group
        for group, body in zip(groups[1::2], groups[2::2], strict=True)
        for name in re.findall(r"^  ([a-z-]+) ", body, re.M)
    }
    assert {name: shown.get(name) for name in COMMANDS} == {name: entry.group for name, entry in COMMANDS.items()}
    assert [group for group in dict.fromkeys(shown.values()) if group != "options"] == [
        *dict.fromkeys(entry.group for entry in COMMANDS.values())
    ]


def test_the_list_of_commands_is_that_of_the_modules() -> None:
    """A command that is not listed has no place in --help."""
    found = commands_of(build_parser())
    assert set(found) == set(COMMANDS)
    for name in COMMANDS:
        assert set(commands_of(build_parser(name))) >= {name}
        assert commands_of(build_parser(name))[name].format_help() == found[name].format_help()


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(action.choices for action in parser._actions if action.dest == "command")  # type: ignore[return-value]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["models"]], ids=lambda words: words[0])
def test_what_starts_fast_imports_little(words: list[str]) -> None:
    """Most of the time that these take is imports: 0.2 s of this package and numpy. scipy alone takes as long."""
    code = f"""
import contextlib, sys
from panns_litert.cli import main
assert main({words!r}) == 0
slow = ("scipy", "torch", "matplotlib", "pyarrow", "ai_edge_litert", "panns_litert_convert", "panns_litert.measure",
        "panns_litert.search", "panns_litert.pictures", "panns_litert.evaluate", "panns_litert.batch")
print("imported:", [name for name in slow if name in sys.modules])
"""
    assert run_python(code).stdout.splitlines()[-1] == "imported: []"


def test_counts_agree_with_their_nouns() -> None:
    """A command that says "1 windows" does not use `counted`."""
    nouns = "windows|recordings|clips|classes|files|shards|steps|events|operators|epochs|cores|layers|rows|models"
    for folder in (ROOT / "runtime" / "panns_litert" / "cli", ROOT / "convert" / "panns_litert_convert" / "cli"):
        for path in folder.glob("*.py"):
            assert re.findall(rf"\}} (?:{nouns})\b.*", path.read_text(encoding="utf-8")) == [], path.name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"panns-litert {panns_litert.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "panns_litert.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", panns_litert.__version__)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tga x.wav", "no command 'tga'; did you mean tag? `panns-litert --help` lists them"),
        ("Convert mn04", "no command 'Convert'; did you mean convert? "),
        ("xyzzy", "no command 'xyzzy'; `panns-litert --help` lists them"),
        ("tag --treshold 0.5 x.wav", "unrecognized arguments: --treshold; did you mean --threshold?"),
        ("plot x.wav --ouput x.png", "are required: --out; --ouput: did you mean --out?"),
        ("tag --xyzzy x.wav", "unrecognized arguments: --xyzzy"),
        ("models mn4", "no model 'mn4'; did you mean mn"),
        ("fetch cnn_14", "no model 'cnn_14'; did you mean cnn14"),
        ("tag x.wav --model xyzzy", "no model 'xyzzy'; expected one that `panns-litert models` lists"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
    assert ("did you mean" in last) == ("did you mean" in message)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*COMMANDS, "min-duration"):
        assert word in script


def test_bash_completes(tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    script = tmp_path / "completion"
    script.write_text(run("--print-completion", "bash").stdout)
    for words, expected in ((["pa"], ["pack", "page"]), (["tag", "--thre"], ["--threads", "--threshold"])):
        line = " ".join(f"'{word}'" for word in ("panns-litert", *words))
        typed = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}"
        code = f'source {script}; {typed}; _shtab_panns_litert; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
        assert sorted(done.stdout.split()) == sorted(expected), done


def test_every_command_has_json() -> None:
    parser = build_parser()
    for line in ("models", "fetch x", "convert x", "verify x", "gpu-check x", "tag x", "demo"):
        assert parser.parse_args([*line.split(), "--json"]).json


def test_models_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert "cnn14" in table
    assert "0.431" in table
    assert max(map(len, table.splitlines())) <= 80
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["name"] for row in rows][:2] == ["demo", "cnn14"]


def test_verify_exit_codes(demo: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(demo.path)]) == 0
    out = capfd.readouterr().out
    assert "every stage passed" in out
    assert (
        out.count("passed") == len(demo.manifest.parity) + 4
    )  # the constants, two checks of the self-test, the verdict
    monkeypatch.setitem(GATES, "fp32", Gate(max_abs=1e-9))
    assert main(["verify", str(demo.path), "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert report["passed"] is False
    assert {check["stage"] for check in report["parity"] if not check["passed"]} == {"fp32"}


def test_convert_prints_every_figure_before_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(GATES, "fp32", Gate(max_abs=1e-9))
    assert main(["convert", "demo", "--out", str(tmp_path / "bundle")]) == 1
    captured = capfd.readouterr()
    assert "FAILED: max abs error" in captured.out
    assert captured.err.splitlines()[-1].startswith("panns-litert: 3 of 12 parity checks failed: fp32/probs")
    assert os.listdir(tmp_path) == []


def test_model_option_converts_once_and_then_uses_the_cache(tmp_path: Path) -> None:
    first = run("tag", "--model", "demo", CLIPS[0], PANNS_LITERT_CACHE=str(tmp_path))
    assert first.returncode == 0
    assert "export fp32" in first.stderr
    again = run("tag", "--model", "Demo", CLIPS[0], PANNS_LITERT_CACHE=str(tmp_path))
    assert again.returncode == 0
    assert again.stderr == ""


def test_output_of_the_converters_tools_is_not_shown(tmp_path: Path) -> None:
    result = run("convert", "demo", "--out", tmp_path / "bundle")
    assert result.returncode == 0
    steps = result.stderr.splitlines()
    assert all(line.startswith("[") and " s] " in line for line in steps), steps
    assert any("export fp32" in line for line in steps)


def test_demo_shows_the_whole_path(tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path / "bundle")
    assert result.returncode == 0
    for stage in ("front_end", "network", "fp32", "fp16"):
        assert stage in result.stdout
    for clip in CLIPS:
        assert clip.name in result.stdout
    assert "not PANNs" in result.stdout
    assert "panns-litert convert mn04" in result.stdout
    assert Bundle(tmp_path / "bundle").manifest.model == "demo"


def test_a_missing_converter_is_reported() -> None:
    code = (
        "import sys; sys.modules['panns_litert_convert.zoo'] = None\n"
        "from panns_litert.cli import main; sys.exit(main(['fetch', 'mn04']))"
    )
    assert "install the extra convert (docs/install.md)" in one_error(run_python(code, check=False))


def test_a_missing_network_is_reported(tmp_path: Path) -> None:
    """With an unreachable proxy no download can start on any machine."""
    environment = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    result = run("fetch", "cnn14", PANNS_LITERT_CACHE=str(tmp_path), **environment)
    message = one_error(result)
    assert "cannot download" in message
    assert "--checkpoint PATH" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m panns_litert.cli models --json | head -n 1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
