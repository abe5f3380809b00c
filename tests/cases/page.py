"""Writes docs/damaged.md from the cases: `python tests/cases/page.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, it finds `cases`

from cases.table import CASES, Case

from panns_litert.atomic import replacing
from panns_litert.measure import markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "damaged.md"

_HEAD = """\
# What is heard of a damaged or unusual recording

`python tests/cases/page.py` writes this page from [the table of the tests](../tests/cases/table.py), which makes every
recording named here and checks what is said of it.

The rules:

- All sound that can be decoded is heard. Where something is missing in the middle of FLAC, Ogg Vorbis or Opus, silence
  stands for it, so that later times are right; in MP3, later times are earlier by what is missing.
- What was not heard is said: a warning on stderr, and `seconds`, `seconds_heard` and `warnings` in every result, row
  and page. A file whose header disagrees with its sound by more than 50 ms has a warning, unless the header's length
  stands for an unknown one or cannot be right. MP3 behind FLAC is not found.
- A recording that cannot be used at all is one line, and the others go on. The exit code is 2 then; warnings alone do
  not change it.
- Single samples that are NaN, Inf or beyond ±2.5 cost the windows that contain them. Many beyond ±2.5 are a wrong
  scale; they and a recording without any usable window are refused.

The last column is a public report of the kind, from another project.
"""


def page() -> str:
    """Returns the document."""
    kinds: dict[str, list[Case]] = {}
    for case in CASES:
        kinds.setdefault(case.kind, []).append(case)
    parts = [_HEAD]
    for kind, cases in kinds.items():
        rows = [{"what you have": case.have, "what is heard": case.heard, "report": _link(case)} for case in cases]
        parts.append(f"## {kind}\n\n{markdown(rows)}")
    return "\n".join(parts)


def _link(case: Case) -> str:
    if case.report is None:
        return ""
    repository, _, number = case.report.partition("#")
    return f"[{case.report}](https://github.com/{repository}/issues/{number})"


if __name__ == "__main__":
    with replacing(PAGE) as file:
        file.write(page().encode())
