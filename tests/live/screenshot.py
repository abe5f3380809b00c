"""Takes the picture of docs/live.md: the page while mn04 hears clips of ESC-10 with pauses of silence between them.

python tests/live/screenshot.py --model build/pictures/mn04 --out docs/live.png
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support import AUDIO
from test_serve_page import RATE, Gate, chromium

from panns_litert import Tagger
from panns_litert.audio import load_audio
from panns_litert.events import EventSettings
from panns_litert.live import ClipSink, Controls, Listener, PageServer, PageSink
from panns_litert.sense import Sense

CLASSES = ("dog_bark", "clock_tick", "rooster", "baby_cry", "sneeze", "chainsaw", "helicopter", "fire_crackling")
ALLOW = ("Dog", "Crying, sobbing", "Baby cry, infant cry", "Tick-tock", "Clock", "Chainsaw", "Helicopter", "Sneeze",
         "Crowing, cock-a-doodle-doo", "Fire", "Rain", "Waves, surf")  # fmt: skip
WIDTH, HEIGHT = 1180, 970


def sound() -> NDArray[np.float32]:
    """Returns two rounds of a clip of each class with pauses, then the beginning of a baby's cry."""
    pause = np.zeros(round(5.0 * RATE), np.float32)
    parts = [pause]
    for k in range(2):
        for name in CLASSES:
            path = sorted((AUDIO / "esc10" / name).iterdir())[3 * k]
            parts += [load_audio(path, sample_rate=RATE).waveform, pause]
    cry = load_audio(sorted((AUDIO / "esc10" / "baby_cry").iterdir())[3], sample_rate=RATE).waveform
    return np.concatenate([*parts, cry])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a bundle with windows of 2 s")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scheme", default="light")
    args = parser.parse_args()
    tagger = Tagger(args.model)
    sense = Sense(tagger.labels, allow=ALLOW)
    heard = sound()
    gate = Gate(heard)
    with tempfile.TemporaryDirectory() as folder:
        clips = ClipSink(folder, rate=RATE)
        page = PageSink(sense.labels, model="mn04", window=2.0, hop=0.5, sources=[gate.name], clips=clips)
        settings = EventSettings(on=0.3, max_gap=1.0)
        listener = Listener(tagger, [gate], [page, clips], hop=0.5, settings=settings, sense=sense)
        running = threading.Thread(target=listener.run, daemon=True)
        controls = Controls(sense.labels, settings, listener)
        with PageServer(page, controls, port=0) as server, chromium(Path(folder) / "browser") as browser:
            controls.set_on(0.5, index=sense.labels.index("Dog"))
            running.start()
            gate.let(len(heard) / RATE - 1.0)  # so that the last event still sounds
            while listener.listened.sources[0].heard < len(heard) / RATE - 3.0:
                time.sleep(0.5)
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            media = {"features": [{"name": "prefers-color-scheme", "value": args.scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.get(server.url)
            time.sleep(2.5)
            args.out.write_bytes(base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))
        listener.stop()
        running.join(20)


if __name__ == "__main__":
    main()
