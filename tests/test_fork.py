"""Fork: a tagger that was used before a fork is right in the child, and leaves the parent's alone."""

from __future__ import annotations

import os

import pytest
from support import run_python

# In a process of its own: the suite's has threads of many libraries.
CODE = """
import multiprocessing, os, sys, threading, time
import numpy as np
from panns_litert import Tagger

sounds = 0.2 * np.random.default_rng(0).standard_normal((3, 320000)).astype(np.float32)
tagger = Tagger(threads=int(sys.argv[1]))
want = [tagger.tag(sound, sample_rate=32000).probs for sound in sounds]
stop = threading.Event()

def use():
    while not stop.is_set():
        tagger.tag(sounds[0], sample_rate=32000)

def check():
    for sound, probs in zip(sounds, want):
        np.testing.assert_array_equal(tagger.tag(sound, sample_rate=32000).probs, probs)

def child():
    check()
    tagger.close()

if sys.argv[2] == "busy":
    user = threading.Thread(target=use)
    user.start()
    time.sleep(0.1)
fork = multiprocessing.get_context("fork")
children = [fork.Process(target=child) for _ in range(3)]
for process in children:
    process.start()
for process in children:
    process.join(30)
    print(process.exitcode)
    process.kill()
stop.set()
check()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("parent", ["quiet", "busy"])
def test_a_tagger_after_a_fork(parent: str, threads: int) -> None:
    result = run_python(CODE, str(threads), parent, check=False)
    assert result.stdout.split() == ["0", "0", "0"], result.stderr[-2000:]
    assert result.returncode == 0, result.stderr[-2000:]
