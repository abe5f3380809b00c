"""Commands with stderr on a terminal and stdout in a pipe: progress bars must not take what belongs on stdout."""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from panns_litert.cli import build_parser
from panns_litert.demo import demo_bundle, demo_clips

SHOWN = {
    "tag": "{minute} --windows --hop 10",
    "events": "{minute} --on 0.01",
    "page": "{minute} --out page.html",
    "plot": "{minute} --out plot.svg",
    "index": "sounds.index {minute}",
    "batch": "{list} --out folder --workers 1",
    "evaluate": "--data {classes}",
    "bench": "{bundle} --engine cpu --threads 1 --xnnpack on --warmup 1 --runs 1 --rounds 1 --seconds 0.1",
    "verify": "{bundle}",
}
"""The commands that show progress, each with arguments that make it do so."""

LEFT_OUT = {
    "listen": "no progress: it prints results as they come",
    "serve": "no progress: it prints its address",
    "labels": "no progress",
    "models": "no progress",
    "embed": "no progress",
    "similar": "no progress",
    "match": "no progress",
    "search": "no progress",
    "enroll": "no progress",
    "pull": "needs the network; its bars are huggingface_hub's, on stderr",
    "publish": "needs the network; the same progress as verify (steps), and huggingface_hub's bars, on stderr",
    "fetch": "needs the network; its bar is pooch's, on stderr",
    "gpu-check": "needs a GPU driver; the same progress as verify (steps)",
    "adopt": "prints its folder; the same progress as verify (steps)",
    "convert": "takes longer; the same progress as verify (steps)",
    "demo": "takes longer; the same progress as verify (steps)",
    "finetune": "takes longer; the same progress as evaluate (watching)",
    "train": "takes longer; the same progress as evaluate (watching)",
    "pack": "takes longer; the same progress as evaluate (watching)",
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the arguments in `SHOWN` name. The recording is long enough for a progress bar: 61 s of noise."""
    folder = tmp_path_factory.mktemp("terminal")
    minute = folder / "minute.wav"
    soundfile.write(minute, 0.1 * np.random.default_rng(0).standard_normal(61 * 8000), 8000)
    (folder / "list.csv").write_text(f"path\n{minute}\n")
    for clip, label in zip(demo_clips(), ("Siren", "Foghorn"), strict=False):
        (folder / "classes" / label).mkdir(parents=True)
        shutil.copy(clip, folder / "classes" / label)
    return {
        "minute": minute,
        "list": folder / "list.csv",
        "classes": folder / "classes",
        "bundle": Path(demo_bundle()),
    }


def commands() -> set[str]:
    (tree,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return set(tree.choices)


def test_every_command_is_tried_or_left_out_for_a_reason() -> None:
    assert set(SHOWN) | set(LEFT_OUT) == commands()
    assert not set(SHOWN) & set(LEFT_OUT)
    assert all(LEFT_OUT.values())


def comparable(command: str, text: str) -> str:
    """Returns the text without what differs from run to run: times and the widths of columns, in some all numbers."""
    numbers = r"\d+(\.\d+)?" if command in ("batch", "evaluate", "bench", "verify") else r"\d+\.\d ms"
    return re.sub(r"[─\s]+", " ", re.sub(numbers, "0", text))


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.full) if name == "verify" else name for name in SHOWN]
)
def test_stdout_is_the_same_beside_a_progress_bar(command: str, paths: dict[str, Path], tmp_path: Path) -> None:
    words = [word.format(**paths) for word in SHOWN[command].split(" ")]
    arguments = [sys.executable, "-m", "panns_litert.cli", command, *words]
    plain, beside = tmp_path / "plain", tmp_path / "beside"
    plain.mkdir()
    beside.mkdir()
    want = subprocess.run(arguments, cwd=plain, capture_output=True, text=True, check=True).stdout
    stdout, shown = beside_a_terminal(arguments, beside)
    assert want.strip()
    assert comparable(command, stdout.decode()) == comparable(command, want)
    assert b"\x1b" not in stdout
    assert b"\x1b[" in shown, "no progress bar"


def beside_a_terminal(arguments: list[str], folder: Path) -> tuple[bytes, bytes]:
    """Runs a program in a folder with stderr on a terminal. Returns its stdout, and what the terminal showed."""
    terminal, stderr = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 4096):
                shown.append(data)
        except OSError:  # the other end was closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    environment = os.environ | {"TERM": "xterm"}
    got = subprocess.run(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, check=True)
    os.close(stderr)
    reader.join()
    os.close(terminal)
    return got.stdout, b"".join(shown)


STEPS = """
import argparse
from panns_litert.cli import watching
with watching(argparse.Namespace(json=False)) as watch:
    watch("reading", 0, 0)
    for epoch in range(3):
        watch(f"training: epoch {epoch + 1} of at most 9", epoch, 9)
    watch("training: stopped after epoch 3 of at most 9", 3, 3)
    for step in ("export", "fp16"):
        watch(f"conversion to fp16: {step}", 0, 0)
"""


def test_no_spinner_turns_behind_a_finished_step(tmp_path: Path) -> None:
    _, shown = beside_a_terminal([sys.executable, "-c", STEPS], tmp_path)
    assert re.search("[⠀-⣿]", shown.decode())  # while a step runs
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode().rpartition("\x1b[2K")[2])
    rows = [" ".join(re.sub("[━╸╺]+", "", line).split()[:-1]) for line in last.splitlines() if line.strip()]
    assert rows == ["reading 1/1", "training: stopped after epoch 3 of at most 9 3/3", "conversion to fp16: fp16 1/1"]


def test_changing_texts_are_a_line_each_where_there_is_no_terminal(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", STEPS], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split("] ")[1] for line in said.stderr.splitlines()] == [
        "reading",
        "training: epoch 1 of at most 9",
        "training: stopped after epoch 3 of at most 9",
        "conversion to fp16: export",
        "conversion to fp16: fp16",
    ]
