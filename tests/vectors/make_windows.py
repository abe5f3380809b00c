"""Writes windows.json, the windows of recordings of many lengths: `python tests/vectors/make_windows.py`.

Window k begins at k · hop. If it does not fit into the recording, and the rest after the window before it is at least
5 % of a window and at least a frame, it begins at the last frame from which a whole window fits. A recording shorter
than a window is one window, padded at its end. All numbers are samples.
"""

from __future__ import annotations

import json
from pathlib import Path

VECTORS = Path(__file__).with_name("windows.json")
WINDOW, FRAME = 320_000, 320  # those of the demo bundle, at 32 kHz
HOPS = (320_000, 160_000, 96_000, 32_000)
REST = (0, 1, 319, 320, 640, 15_999, 16_000, 16_001, 95_999, 160_123, 319_999)  # after a whole window
SAMPLES = (1, 320, 512, 600, 224_000, 319_999, *(WINDOW + rest for rest in REST), *(2 * WINDOW + rest for rest in REST))


def windows(samples: int, hop: int) -> list[dict[str, int]]:
    """Returns start, end and padding of every window of a recording."""
    if samples < WINDOW:
        return [{"start": 0, "end": samples, "padding": WINDOW - samples}]
    starts = [start for start in range(0, samples, hop) if start + WINDOW <= samples]
    rest = samples - (starts[-1] + WINDOW)
    if rest >= FRAME and 20 * rest >= WINDOW:
        starts.append(max(start for start in range(0, samples - WINDOW + 1, FRAME)))
    return [{"start": start, "end": start + WINDOW, "padding": 0} for start in starts]


def vectors() -> str:
    """Returns the text of windows.json."""
    cases = [{"samples": n, "hop": hop, "windows": windows(n, hop)} for hop in HOPS for n in SAMPLES]
    lines = ",\n".join("  " + json.dumps(case) for case in cases)  # one case per line, for readable diffs
    return f'{{"window": {WINDOW}, "frame": {FRAME}, "cases": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
