"""Page: writes the timelines of one or several recordings as one HTML file with a player.

The page loads nothing but recordings that are too large to be embedded; it links to these.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
from numpy.typing import NDArray

from panns_litert.atomic import replacing
from panns_litert.audio import AudioBlocks
from panns_litert.errors import AudioError, PictureError
from panns_litert.escape import escaped
from panns_litert.pictures.timeaxis import clock, ticks
from panns_litert.pictures.timeline import Timeline
from panns_litert.results import short
from panns_litert.words import counted

# Largest size of one embedded recording, and of all together. The page links to recordings that do not fit, because a
# browser keeps the whole page in memory.
EMBEDDED_BYTES = 8_000_000
PAGE_BYTES = 64_000_000

# MIME types of files that every browser plays, by libsndfile's format and subtype.
_PLAYABLE = {
    ("WAV", "PCM_U8"): "audio/wav",
    ("WAV", "PCM_16"): "audio/wav",
    ("FLAC", "PCM_S8"): "audio/flac",
    ("FLAC", "PCM_16"): "audio/flac",
    ("FLAC", "PCM_24"): "audio/flac",
    ("OGG", "VORBIS"): "audio/ogg",
    ("MP3", "MPEG_LAYER_III"): "audio/mpeg",
}
_FLAC_HZ = 655350  # highest sample rate of FLAC
# Scores are drawn in this many shades, which can be told apart. Successive steps of one shade become one rectangle.
_SHADES = 20
_LISTED = 0.1  # lowest score of a class that the filter finds, and of a second or third one in the list of recordings
_IMAGE_COLUMNS = 1000  # of a spectrogram, at most
_RANGE_DB = 80.0  # from the loudest value; quieter values are white


def write_page(path: str | os.PathLike[str], timelines: Iterable[Timeline], *, top: int = 8) -> None:
    """Writes a page that shows a player, a timeline, the tags and the events of every recording.

    Small recordings are embedded, unchanged or as mono FLAC. The page links to large ones, relative to its folder. It
    shows the warnings of each recording.

    Args:
        path: an .html file; written atomically.
        timelines: timelines of the recordings; read one by one.
        top: number of classes that each timeline shows, ≥ 1.

    Raises:
        PictureError: there is no recording, or the suffix is neither .html nor .htm.
        AudioError: a recording can no longer be read, or `top` is out of range.
        ResultsError: the page cannot be written.

    >>> from panns_litert import Tagger, demo_clips
    >>> from panns_litert.pictures.timeline import timeline
    >>> tagger = Tagger()
    >>> write_page("heard.html", (timeline(tagger, clip) for clip in demo_clips()))
    """
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise PictureError(f"{os.fspath(path)}: suffix {Path(path).suffix!r}; expected .html")
    left = PAGE_BYTES
    contents: list[str] = []
    models: dict[str, None] = {}
    with replacing(path) as file, tempfile.TemporaryFile() as body:
        for number, timeline in enumerate(timelines, 1):
            audio = _embedded(timeline.source, min(left, EMBEDDED_BYTES))
            left -= 3 * len(audio) // 4 if audio else 0
            address = audio or _link(timeline.source, Path(path).absolute().parent)
            classes = timeline.top(top)
            body.write(_recording(timeline, address, number, classes).encode())
            contents.append(_entry(timeline, number, classes))
            models[timeline.about] = None
        if not contents:
            raise PictureError(f"{os.fspath(path)}: no recording to show; expected at least one")
        file.write(_head(contents, list(models)).encode())
        body.seek(0)
        shutil.copyfileobj(body, file)
        file.write(_TAIL.encode())


def _head(contents: list[str], models: list[str]) -> str:
    """Returns the start of the page. With several recordings it has a list of them and a filter.

    Args:
        contents: an entry of the list for each recording.
        models: the models with their windows and hops.
    """
    about = _html("; ".join(models[:3]) + ("; …" if len(models) > 3 else ""))
    listed = ""
    if len(contents) > 1:
        listed = f"""
<nav aria-label="Recordings">
<label>Filter by name or class <input type="search" id="filter" autocomplete="off"></label>
<p id="shown" role="status">{counted(len(contents), "recording")}</p>
<ol>{"".join(contents)}</ol>
</nav>"""
    return f"""{_HEAD}<title>What was heard: {counted(len(contents), "recording")}, {about}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>What was heard</h1>
<p>{about}. A stronger colour is a higher score; a line below it marks an event. Click a timeline to go to that time, or
focus it and use the arrow keys; the space bar starts and stops the player.</p>{listed}
"""


def _entry(timeline: Timeline, number: int, classes: list[int]) -> str:
    """Returns a recording's entry in the list: its name and its highest classes."""
    highest = [(timeline.labels[i], float(timeline.scores[:, i].max())) for i in classes[:3]]
    best = short([row for k, row in enumerate(highest) if k == 0 or row[1] >= _LISTED])
    return f'<li><a href="#recording{number}">{_html(timeline.name)}</a> <span>{_html(best)}</span></li>'


def _embedded(source: str, most: int) -> str | None:
    """Returns the recording as a data: URL, or None if it has more than `most` bytes."""
    try:
        info = _info(source)
        kind = _PLAYABLE.get((info.format, info.subtype))
        if kind and os.path.getsize(source) <= most:
            data = Path(source).read_bytes()
        else:
            kind, data = "audio/flac", _flac(source, most)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"{source}: no longer readable ({error}); expected it to stay where it is") from error
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else None


def _info(source: str) -> Any:
    with open(source, "rb") as file:  # soundfile opens no name that is not UTF-8
        return soundfile.info(file)


def _flac(source: str, most: int) -> bytes:
    """Returns the recording as 16-bit mono FLAC; no bytes if that has more than `most`."""
    rate = _info(source).samplerate
    if rate > _FLAC_HZ:
        return b""
    out = io.BytesIO()
    with (
        AudioBlocks(source, sample_rate=rate) as blocks,
        soundfile.SoundFile(out, "w", rate, 1, "PCM_16", format="FLAC") as flac,
    ):
        for block in blocks:
            flac.write(np.clip(np.nan_to_num(block), -1.0, 1.0))
            if out.getbuffer().nbytes > most:
                return b""
    return out.getvalue() if out.getbuffer().nbytes <= most else b""


def _link(source: str, folder: Path) -> str:
    """Returns the recording's URL relative to the page."""
    try:
        relative = os.path.relpath(source, folder)
    except ValueError:  # on another drive
        return Path(source).absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))  # also quotes colons, so that none is read as a scheme


def _html(text: str) -> str:
    """Returns a text as HTML, without characters that HTML does not allow."""
    return html.escape(escaped(text))


def _recording(timeline: Timeline, address: str, number: int, classes: list[int]) -> str:
    """Returns the HTML of one recording."""
    name, seconds = _html(timeline.name), timeline.seconds
    at = ticks(seconds, most=8)
    tenths = at[1:2] < [1]
    axis = "".join(f'<span style="left:{100 * t / seconds:.3f}%">{clock(t, tenths=tenths)}</span>' for t in at)
    warnings = "".join(f'\n<p class="warning">Warning: {_html(warning)}</p>' for warning in timeline.warnings)
    low, high = (f"{timeline.mel_hz[k] / 1000:.2g}" for k in (0, -1))
    rows = _row("spectrogram", f"log-mel, {low} – {high} kHz", _spectrogram(timeline))
    rows += "".join(_row("class", _html(timeline.labels[i]), _scores(timeline, i)) for i in classes)
    return f"""
<article id="recording{number}" aria-labelledby="name{number}">
<h2 id="name{number}">{name}</h2>
<p>{clock(seconds, tenths=True)} · {_html(timeline.about)}</p>{warnings}
<audio controls preload="metadata" aria-label="{name}" src="{_html(address)}"></audio>
<div class="chart">
{rows}
<div class="axis" aria-hidden="true">{axis}</div>
<div class="timeline" role="slider" tabindex="0" aria-label="Position in {name}" aria-valuemin="0"
 aria-valuemax="{seconds:.3f}" aria-valuenow="0" aria-valuetext="{clock(0)}"><div class="cursor"></div></div>
</div>
<div class="tables">
{_tags_table(timeline, classes)}
{_events_table(timeline)}
</div>
</article>
"""


def _row(kind: str, label: str, drawing: str) -> str:
    """Returns a row of the chart: its label, and its drawing, which may be wider than the row."""
    return (
        f'<div class="label" title="{label}" aria-hidden="true">{label}</div><div class="row {kind}">{drawing}</div>\n'
    )


def _spectrogram(timeline: Timeline) -> str:
    """Returns the log-mel as an image, whose columns are at their times."""
    times, (columns, _) = timeline.logmel_times, timeline.logmel.shape
    step = -(-columns // _IMAGE_COLUMNS)
    joined = np.maximum.reduceat(timeline.logmel, np.arange(0, columns, step), axis=0)
    shades = np.clip((joined - joined.max()) / _RANGE_DB + 1.0, 0.0, 1.0)
    # All columns are equally wide, except the first and the last one, which the recording's ends cut.
    width = times[2] - times[1] if columns > 2 else times[1] - times[0]
    left, whole = times[1] - width, len(joined) * step * width
    place = f"left:{100 * left / timeline.seconds:.3f}%;width:{100 * whole / timeline.seconds:.3f}%"
    data = base64.b64encode(_png(255 - np.rint(255 * shades[:, ::-1].T).astype(np.uint8))).decode()
    return f'<img alt="" style="{place}" src="data:image/png;base64,{data}">'


def _png(grey: NDArray[np.uint8]) -> bytes:
    """Returns an image (rows, columns) of grey values as PNG (https://www.w3.org/TR/png-3/)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns = grey.shape
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)  # 8 bits of grey, no interlacing
    lines = np.pad(grey, ((0, 0), (1, 0)))  # filter 0 in front of each line
    data = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _scores(timeline: Timeline, index: int) -> str:
    """Returns an SVG of a class over time: scores as shades, events as lines. Its units are seconds and rows."""
    marks = [
        f'<rect x="{start:.3f}" y="0.05" width="{end - start:.3f}" height="0.9" fill-opacity="{shade:.2f}"/>'
        for start, end, shade in _stretches(timeline.times, timeline.scores[:, index])
    ]
    for event in timeline.events:
        if event.label == timeline.labels[index]:
            box = f'x="{event.start:.3f}" y="0.8" width="{event.end - event.start:.3f}" height="0.15"'
            marks.append(f'<rect class="event" {box}/>')
    view = f'viewBox="0 0 {timeline.seconds:.3f} 1" preserveAspectRatio="none"'
    return f'<svg {view} aria-hidden="true">{"".join(marks)}</svg>'


def _stretches(times: NDArray[np.float64], scores: NDArray[np.float32]) -> list[tuple[float, float, float]]:
    """Returns start and end, seconds, and shade, 0 … 1, of the rectangles of a row that are not white."""
    shades = np.rint(_SHADES * scores).astype(int)
    cuts = [0, *(np.flatnonzero(np.diff(shades)) + 1).tolist(), len(shades)]
    return [
        (float(times[a]), float(times[b]), shades[a] / _SHADES) for a, b in itertools.pairwise(cuts) if shades[a] > 0
    ]


def _tags_table(timeline: Timeline, classes: list[int]) -> str:
    rows = []
    for index in classes:
        step = int(timeline.scores[:, index].argmax())
        scores = f"<td>{timeline.scores[step, index]:.3f}</td><td>{timeline.mean[index]:.3f}</td>"
        label, start = _html(timeline.labels[index]), float(timeline.times[step])
        heard = " data-heard" if timeline.scores[step, index] >= _LISTED else ""
        rows.append(f'<tr{heard}><th scope="row">{label}</th>{scores}{_time_cell(start)}</tr>')
    head = '<th scope="col">class</th><th scope="col">highest</th><th scope="col">mean</th><th scope="col">from</th>'
    return _table("Tags", "tags", head, rows)


def _events_table(timeline: Timeline) -> str:
    if not timeline.events:
        return "<p>No event above the thresholds.</p>"
    rows = [
        f'<tr data-start="{event.start:.3f}" data-end="{event.end:.3f}"><th scope="row">{_html(event.label)}</th>'
        f"{_time_cell(event.start)}{_time_cell(event.end)}<td>{event.score:.3f}</td></tr>"
        for event in timeline.events
    ]
    head = '<th scope="col">event</th><th scope="col">start</th><th scope="col">end</th><th scope="col">score</th>'
    return _table("Events", "events", head, rows)


def _table(caption: str, kind: str, head: str, rows: list[str]) -> str:
    table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="{kind}" role="region" tabindex="0" aria-label="{caption}">{table}</div>'


def _time_cell(seconds: float) -> str:
    text = clock(seconds, tenths=True)
    return f'<td><button type="button" data-at="{seconds:.3f}" aria-label="go to {text}">{text}</button></td>'


_SCRIPT = """
"use strict";
const filter = document.getElementById("filter");
if (filter) {
  const articles = [...document.querySelectorAll("article")];
  const entries = [...document.querySelectorAll("nav li")];
  const heard = "h2, tr[data-heard] th, tr[data-start] th";
  const texts = articles.map((one) => [...one.querySelectorAll(heard)].map((part) => part.textContent)
    .join(" ").toLowerCase());
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\\s+/);
    let count = 0;
    articles.forEach((one, k) => {
      const found = words.every((word) => texts[k].includes(word));
      one.hidden = entries[k].hidden = !found;
      if (!found) one.querySelector("audio").pause();
      count += found;
    });
    document.getElementById("shown").textContent = `${count} of ${articles.length} recordings`;
  });
}
const clock = (seconds) => {
  const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return (hours ? `${hours}:${two(minutes)}` : minutes) + ":" + two(whole % 60);
};
for (const recording of document.querySelectorAll("article")) {
  const audio = recording.querySelector("audio");
  const timeline = recording.querySelector(".timeline");
  const cursor = recording.querySelector(".cursor");
  const events = [...recording.querySelectorAll("tr[data-start]")];
  const seconds = Number(timeline.getAttribute("aria-valuemax"));

  const move = () => { cursor.style.left = `${100 * Math.min(audio.currentTime / seconds, 1)}%`; };
  const show = () => {
    const at = audio.currentTime;
    move();
    timeline.setAttribute("aria-valuenow", Math.min(at, seconds).toFixed(3));
    timeline.setAttribute("aria-valuetext", clock(at));
    for (const row of events) {
      row.classList.toggle("now", Number(row.dataset.start) <= at && at < Number(row.dataset.end));
    }
  };
  const follow = () => { move(); if (!audio.paused) requestAnimationFrame(follow); };
  const seek = (at) => { audio.currentTime = Math.max(0, Math.min(at, seconds)); show(); };

  for (const event of ["timeupdate", "seeking", "seeked", "ended"]) audio.addEventListener(event, show);
  audio.addEventListener("play", follow);
  const point = (event) => {
    const box = timeline.getBoundingClientRect();
    seek((event.clientX - box.left) / box.width * seconds);
  };
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    timeline.setPointerCapture(event.pointerId);
    point(event);
  });
  timeline.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(event); });
  timeline.addEventListener("keydown", (event) => {
    const at = audio.currentTime, step = Math.max(1, seconds / 100);
    const to = { ArrowLeft: at - step, ArrowDown: at - step, ArrowRight: at + step, ArrowUp: at + step,
                 PageDown: at - 10 * step, PageUp: at + 10 * step, Home: 0, End: seconds }[event.key];
    if (event.key === " ") { if (audio.paused) audio.play(); else audio.pause(); }
    else if (to !== undefined) seek(to);
    else return;
    event.preventDefault();
  });
  for (const button of recording.querySelectorAll("button[data-at]")) {
    button.addEventListener("click", () => seek(Number(button.dataset.at)));
  }
  show();
}
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #d5d5d5; --score: #084594;
  --event: #b34700; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --paper: #161616; --faint: #444444; --score: #8cc2ff; --event: #ff9a52; }
}
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 80rem;
  margin: 0 auto; padding: 1rem; }
h2 { margin-bottom: 0; overflow-wrap: anywhere; }
h2 + p { margin-top: 0; }
.warning { color: var(--event); overflow-wrap: anywhere; }
article { border-top: 1px solid var(--faint); margin-top: 2rem; }
audio { width: 100%; }
.chart { display: grid; grid-template-columns: minmax(6rem, 16rem) 1fr; column-gap: .75rem; row-gap: 1px;
  margin: 1rem 0; padding-right: 2rem; position: relative; }
.label { text-align: right; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; line-height: 1.75rem; }
.row { position: relative; overflow: hidden; height: 1.75rem; outline: 1px solid var(--faint); min-width: 0; }
.row svg { display: block; width: 100%; height: 100%; fill: var(--score); shape-rendering: crispEdges; }
.row .event { fill: var(--event); stroke: var(--event); stroke-width: 1px; vector-effect: non-scaling-stroke; }
.spectrogram { height: 6rem; }
.spectrogram img { position: absolute; top: 0; height: 100%; }
.axis { grid-column: 2; position: relative; height: 1.75rem; font-variant-numeric: tabular-nums; }
.axis span { position: absolute; transform: translateX(-50%); }
.axis span:first-child { transform: none; }
.timeline { position: absolute; grid-column: 2 / 3; inset: 0 0 1.75rem 0; cursor: pointer; touch-action: pan-y; }
.cursor { position: absolute; top: -.25rem; bottom: -.25rem; width: 2px; margin-left: -1px; background: var(--ink);
  outline: 1px solid var(--paper); pointer-events: none; }
nav { border-top: 1px solid var(--faint); padding-top: 1rem; }
nav ol { max-height: 20rem; overflow: auto; padding-left: 2.5rem; }
nav li, nav a { overflow-wrap: anywhere; }
nav p { margin: .25rem 0; }
input { font: inherit; color: inherit; background: inherit; border: 1px solid var(--ink); max-width: 100%; }
a { color: var(--score); }
[hidden] { display: none; }
@media (prefers-color-scheme: dark) { .spectrogram img { filter: invert(1); } }
@media (max-width: 40rem) {
  body { padding: .5rem; }
  .chart { grid-template-columns: minmax(0, 1fr); padding-right: 1.5rem; }
  .label { text-align: left; line-height: 1.5; margin-top: .25rem; }
  .axis, .timeline { grid-column: 1 / 2; }
  .axis span:nth-child(even) { display: none; }
  .tables > * { max-width: 100%; }
  th, td { padding-right: .5rem; }
}
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
.tags, .events { max-height: 24rem; overflow: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { font-weight: bold; text-align: left; }
th, td { padding: .15rem .75rem .15rem 0; text-align: left; font-weight: normal; }
thead th { border-bottom: 1px solid var(--faint); }
tr.now th { font-weight: bold; color: var(--event); }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-decoration: underline;
  cursor: pointer; }
:focus-visible { outline: 3px solid var(--event); outline-offset: 2px; }
"""

# The page may run this script only, and load sound only. Markup in a file's name cannot change that.
_POLICY = (
    "default-src 'none'; media-src data: file: 'self'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)
_HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
"""
_TAIL = f"""<script>{_SCRIPT}</script>
</body>
</html>
"""
