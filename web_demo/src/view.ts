/** Shows what was heard: sentences, tags, events, timeline. It knows nothing of where the sound came from. */

import { audacityLabels, eventsCsv, type SoundEvent, type Tag } from "panns-litert";
import { download } from "./files.js";
import { element, make, notify, say } from "./dom.js";
import type { Columns, Heard, OpenModel, Shape } from "./protocol.js";
import { Score } from "./score.js";
import { clock, Timeline } from "./timeline.js";

const LANES = 8;
const LANES_ON_A_PHONE = 5;
const TAGS = 8;
const TABLE_COLUMNS = 12;
/** A live timeline shows this much, seconds. */
const LIVE_SECONDS = 30;
const PHONE = matchMedia("(max-width: 44rem)");
/** How often the tags of a live stream are spoken, milliseconds. */
const SPOKEN_EVERY = 6000;

/** What is known of the sound, beside its windows. */
export interface Source {
  name: string;
  /** For example "44.1 kHz, stereo". */
  format: string;
  /** Seconds: of the file's header, or of the stream so far. */
  seconds: number;
  /** Seconds of sound that was found; if the work ended early, up to the end of the last window. */
  found: number;
  warnings: string[];
}

export class View {
  readonly timeline = new Timeline(document.querySelector<HTMLElement>(".scope")!);
  private score = new Score([], 1, 1);
  private events: SoundEvent[] = [];
  private model: OpenModel | null = null;
  private source: Source = { name: "", format: "", seconds: 0, found: 0, warnings: [] };
  private live = false;
  private complete = false;
  private due = 0;
  private cost = 0; // of the last drawing, milliseconds
  private spokenAt = -Infinity;
  private position: number | null = null;
  private readonly exports = document.querySelectorAll<HTMLButtonElement>("[data-export]");
  private readonly threshold = element<HTMLInputElement>("threshold");

  /** @param play called with the seconds from which a person wants to hear the recording */
  constructor(private readonly play: (from: number) => void) {
    this.threshold.addEventListener("input", () => this.refresh());
    PHONE.addEventListener("change", () => this.refresh());
    element("events").addEventListener("click", (event) => {
      const from = (event.target as HTMLElement).closest("button")?.dataset.at;
      if (from) this.play(Number(from));
    });
    this.exports.forEach((button) => {
      button.addEventListener("click", () => this.save(button.dataset.export!));
    });
  }

  /** Begins with another sound. */
  begin(source: Source, model: OpenModel, live: boolean): void {
    Object.assign(this, { model, source, live, complete: false, position: null, events: [], spokenAt: -Infinity });
    this.shape({ window: model.clipSeconds, hop: model.clipSeconds });
    this.timeline.clear(model.frontEnd);
    element("heard").hidden = false;
    document.body.classList.add("has-sound");
    element("face").setAttribute("aria-disabled", String(live));
    this.refresh();
  }

  /** Tells the windows that will come. */
  shape({ window, hop }: Shape): void {
    this.score = new Score(this.model?.labels ?? [], window, hop);
  }

  push(window: Heard): void {
    this.score.push(window);
    this.refresh();
  }

  columns(columns: Columns): void {
    this.timeline.push(columns);
    this.refresh();
  }

  /** Shows the tags of a stream that has not filled a window yet. */
  early(tags: Tag[], seconds: number): void {
    this.showTags(tags.slice(0, TAGS), `${Math.floor(seconds)} s of a ${this.score.window} s window`);
    this.speak(tags);
  }

  /** A live stream has become longer. */
  grow(seconds: number): void {
    this.source.seconds = this.source.found = seconds;
    if (Math.floor(seconds) !== Math.floor(this.shownLine)) this.refreshLine();
  }

  /** Draws a live timeline up to now. */
  drawLive(seconds: number): void {
    const to = Math.max(LIVE_SECONDS, seconds);
    const { score, events } = this;
    this.timeline.show({ score, events, lanes: this.lanes(), from: to - LIVE_SECONDS, to });
  }

  /**
   * No more windows come.
   *
   * @param cut whether the work ended early: then only the sound up to the last window's end was heard
   */
  finish(source: Partial<Source> = {}, cut = false): void {
    Object.assign(this.source, source);
    if (cut) this.source.found = Math.min(this.source.found, this.score.end);
    this.complete = true;
    this.live = false;
    element("face").setAttribute("aria-disabled", "false");
    this.refreshNow();
    const { name } = this.source;
    const { tagged, skipped, unusable } = this.score;
    if (tagged === 0) {
      if (skipped > 0) notify(`${name}: ${unusable}; expected at least one usable window.`);
      say(`${name}: nothing was tagged.`);
      return;
    }
    const tags = this.score.classes().slice(0, 3);
    const count = this.events.length;
    const named = spoken(tags.map((tag) => ({ ...tag, score: tag.max })));
    say(`${name}: ${named}. ${count} event${count === 1 ? "" : "s"}.`);
  }

  get seconds(): number {
    return this.source.seconds;
  }

  get name(): string {
    return this.source.name;
  }

  /** Moves the cursor; while the sound plays, the tags are those of its position. */
  moveTo(seconds: number, playing: boolean): void {
    this.position = playing ? seconds : null;
    this.timeline.moveCursor(seconds);
    element("now").textContent = clock(seconds, true);
    const face = element("face");
    face.setAttribute("aria-valuenow", seconds.toFixed(1));
    face.setAttribute("aria-valuetext", `${clock(seconds, true)} of ${clock(this.source.seconds, true)}`);
    this.markEvents(seconds, playing);
    this.refreshTags();
  }

  /** Draws soon. A long recording brings many windows and takes long to draw: it is drawn a fifth of the time. */
  private refresh(): void {
    const wait = this.complete ? 0 : 5 * this.cost;
    this.due ||= window.setTimeout(() => requestAnimationFrame(() => this.refreshNow()), wait);
  }

  private refreshNow(): void {
    clearTimeout(this.due);
    this.due = 0;
    if (!this.model) return;
    const begin = performance.now();
    this.draw();
    this.cost = performance.now() - begin;
  }

  private draw(): void {
    const on = Number(this.threshold.value);
    element("threshold-value").textContent = on.toFixed(2);
    this.events = this.score.events(on);
    this.refreshLine();
    this.refreshTags();
    this.showEvents();
    this.exports.forEach((button) => (button.disabled = !this.complete || this.score.tagged === 0));
    if (this.live) {
      this.speak(this.latest());
      return; // its timeline is drawn from frame to frame
    }
    const { score, events } = this;
    const to = Math.max(this.source.seconds, score.end, 0.1);
    this.timeline.show({ score, events, lanes: this.lanes(), from: 0, to });
    element("face").setAttribute("aria-valuemax", this.source.seconds.toFixed(1));
    element("length").textContent = ` / ${clock(this.source.seconds, true)}`;
    if (this.complete) this.showTable();
  }

  private shownLine = -1;

  private refreshLine(): void {
    const { source, score } = this;
    this.shownLine = source.seconds;
    element("heard-title").textContent = source.name;
    element("heard-title").title = source.name;
    const last = score.windows.at(-1);
    const padded = last && last.paddingSeconds > 0 ? `, and ${last.paddingSeconds.toFixed(1)} s of padding` : "";
    const milliseconds = score.windows.reduce((sum, window) => sum + window.milliseconds, 0);
    const speed = score.tagged > 0 ? ` ${(milliseconds / score.tagged).toFixed(0)} ms per window.` : "";
    const heard = this.live
      ? `Listening, ${Math.floor(source.seconds)} s so far`
      : `Heard ${Math.min(source.found, source.seconds).toFixed(1)} s of ${source.seconds.toFixed(1)} s${padded}`;
    element("heard-line").textContent = `${heard}. ${source.format}.${speed}`;
    const warnings = this.warnings();
    const shown = element("warnings");
    if ([...shown.children].map((item) => item.textContent).join("\n") !== warnings.join("\n")) {
      shown.replaceChildren(...warnings.map((text) => make("li", {}, text)));
    }
  }

  /** What a person should know before they believe the tags, one phrase each. */
  private warnings(): string[] {
    const { windows, skipped, unusable } = this.score;
    const count = `${skipped} of ${windows.length} windows could not be tagged`;
    return [...new Set([...this.source.warnings, ...(skipped > 0 ? [`${count}: ${unusable}`] : [])])];
  }

  private lanes(): number[] {
    const count = PHONE.matches ? LANES_ON_A_PHONE : LANES;
    if (this.score.tagged === 0) return [];
    return this.score.top(count, this.live ? this.score.end - LIVE_SECONDS : undefined);
  }

  /** The tags of the newest window. */
  private latest(): Tag[] {
    const window = this.score.windows.at(-1);
    return window ? this.tagsOf(window) : [];
  }

  private tagsOf(window: Heard): Tag[] {
    if (window.unusable !== null) return [];
    return this.score.labels
      .map((label, index) => ({ label, index, score: window.probs[index] }))
      .sort((a, b) => b.score - a.score || a.index - b.index)
      .slice(0, TAGS);
  }

  private refreshTags(): void {
    if (this.live) {
      const last = this.score.windows.at(-1);
      if (last) this.showTags(this.latest(), `the last ${this.score.window} s${untagged(last)}`);
      else if (this.source.seconds < 1) this.showTags([], "first tags after a second");
      return;
    }
    const window = this.position === null ? undefined : this.score.at(this.position);
    if (window) {
      this.showTags(this.tagsOf(window), `${clock(window.start)} to ${clock(window.end)}${untagged(window)}`);
    } else if (this.score.tagged === 0) {
      this.showTags([], this.complete ? "nothing was tagged" : "");
    } else {
      const tags = this.score.classes().slice(0, TAGS);
      this.showTags(
        tags.map(({ label, index, max }) => ({ label, index, score: max })),
        "highest in the recording",
      );
    }
  }

  private showTags(tags: Tag[], of: string): void {
    element("tags-of").textContent = of;
    const list = element("tags");
    while (list.children.length > tags.length) list.lastElementChild!.remove();
    tags.forEach((tag, i) => {
      let item = list.children[i] as HTMLElement | undefined;
      if (!item) {
        const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
        item = make("li", {}, make("span", { class: "label" }), make("span", { class: "value" }), bar);
        list.append(item);
      }
      item.children[0].textContent = tag.label;
      item.children[1].textContent = tag.score.toFixed(3);
      item.classList.toggle("event", tag.score >= Number(this.threshold.value));
      item.style.setProperty("--score", tag.score.toFixed(3));
    });
  }

  private showEvents(): void {
    const rows = this.events.map((event) => {
      const name = `Play ${event.label} from ${clock(event.start, true)}`;
      const attributes = { type: "button", "data-at": event.start.toFixed(3), "aria-label": name };
      const start = make("button", this.live ? { ...attributes, disabled: "" } : attributes, clock(event.start, true));
      return make(
        "tr",
        {},
        make("td", {}, start),
        make("td", {}, clock(event.end, true)),
        make("td", {}, event.label),
        make("td", {}, event.score.toFixed(2)),
      );
    });
    // A redraw must not take the focus away from a row.
    const focused = document.activeElement?.closest<HTMLElement>("#events button")?.dataset.at;
    element("events")
      .querySelector("tbody")!
      .replaceChildren(...rows);
    if (focused) document.querySelector<HTMLElement>(`#events button[data-at="${focused}"]`)?.focus();
    element("events").hidden = rows.length === 0;
    element("no-events").hidden = rows.length > 0;
    element("no-events").textContent = this.complete
      ? `No sound reached ${Number(this.threshold.value).toFixed(2)}.`
      : "None so far.";
  }

  private markEvents(seconds: number, playing: boolean): void {
    const rows = element("events").querySelectorAll("tbody tr");
    this.events.forEach((event, i) => {
      rows[i]?.classList.toggle("now", playing && event.start <= seconds && seconds < event.end);
    });
  }

  /** The timeline for those who cannot see it: the highest score of each tag in equal stretches. */
  private showTable(): void {
    const { score } = this;
    const seconds = Math.max(score.end, 0.1);
    const columns = Math.min(TABLE_COLUMNS, Math.max(1, score.windows.length));
    const edges = Array.from({ length: columns + 1 }, (_, i) => (seconds * i) / columns);
    const highest = (index: number, from: number, to: number) =>
      score.windows.reduce((most, window, k) => {
        const inside = score.stepEnd(k) > from + 1e-6 && score.stepStart(k) < to - 1e-6;
        return inside ? Math.max(most, window.probs[index]) : most;
      }, 0);
    const head = edges.slice(0, -1).map((from) => make("th", { scope: "col" }, clock(from, seconds < 2 * columns)));
    const rows = this.lanes().map((index) => {
      const cells = edges.slice(0, -1).map((from, i) => make("td", {}, highest(index, from, edges[i + 1]).toFixed(2)));
      return make("tr", {}, make("th", { scope: "row" }, score.labels[index]), ...cells);
    });
    element("table").replaceChildren(
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Sound, from"), ...head)),
      make("tbody", {}, ...rows),
    );
  }

  private speak(tags: Tag[]): void {
    if (tags.length === 0 || performance.now() - this.spokenAt < SPOKEN_EVERY) return;
    this.spokenAt = performance.now();
    say(`Hearing ${spoken(tags)}`);
  }

  private save(form: string): void {
    const stem = this.source.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_") || "recording";
    if (form === "csv") download(eventsCsv(this.events), `${stem}.csv`, "text/csv");
    else if (form === "audacity") download(audacityLabels(this.events), `${stem}.txt`);
    else download(`${JSON.stringify(this.result(), null, 1)}\n`, `${stem}.json`, "application/json");
  }

  /** Everything that the page knows of the sound, as JSON types. */
  private result(): object {
    const { source, score, model } = this;
    return {
      source: source.name,
      model: model?.model,
      precision: model?.precision,
      engine: model?.engine,
      fallback: model?.fallback,
      seconds: source.seconds,
      seconds_heard: source.found,
      padding_seconds: score.windows.at(-1)?.paddingSeconds ?? 0,
      warnings: this.warnings(),
      window_seconds: score.window,
      hop_seconds: score.hop,
      windows: score.tagged,
      windows_skipped: score.skipped,
      threshold: Number(this.threshold.value),
      tags: score.classes(),
      events: this.events,
    };
  }
}

function untagged(window: Heard): string {
  return window.unusable === null ? "" : ": not tagged";
}

function spoken(tags: Tag[]): string {
  return tags
    .slice(0, 3)
    .map((tag) => `${tag.label} ${tag.score.toFixed(2)}`)
    .join(", ");
}
