import { halfEven } from "./bundle/manifest.js";
import { PannsLitertError, shown } from "./errors.js";
import type { StreamShape, Window } from "./windows.js";

/** Thresholds of events. The defaults are those of the Python runtime and of the Kotlin library. */
export interface EventSettings extends Thresholds {
  /** By class name, other values for that class alone. */
  classes: Record<string, Partial<Thresholds>>;
}

export interface Thresholds {
  /** An event opens at a score ≥ on, 0 … 1. Default 0.2. */
  on: number;
  /** It stays open while the score is ≥ off, 0 ≤ off ≤ on. Default null: half of on. */
  off: number | null;
  /** Seconds ≥ 0; shorter events are dropped, after merging. Default 0. */
  minDuration: number;
  /** Seconds ≥ 0; two events of a class merge if the gap between them is at most this long. Default 0. */
  maxGap: number;
}

/** A sound event. Times are seconds; the score is the highest one in it, 0 … 1. */
export interface SoundEvent {
  label: string;
  index: number;
  start: number;
  end: number;
  score: number;
}

/** Is told of events while they happen. */
export interface EventListener {
  /** An event began. Told as soon as it has lasted for the minimum duration, so that `offset` follows every onset. */
  onset?(label: string, start: number): void;
  /** An event is over: no later score can extend it. */
  offset?(event: SoundEvent): void;
}

const DEFAULTS: Thresholds = { on: 0.2, off: null, minDuration: 0, maxGap: 0 };
const TOLERANCE = 1e-6; // seconds; absorbs the rounding errors of times that are sums of decimal fractions

interface Track extends Thresholds {
  label: string;
  off: number;
  state: "none" | "open" | "closed";
  start: number;
  end: number;
  score: number;
  announced: boolean;
}

/**
 * Detects sound events in class scores over time: hysteresis, then merging across short gaps, then a minimum duration.
 * tests/vectors/events.json defines it, and the same in Python and Kotlin.
 *
 * Scores are compared as doubles: the float32 nearest to 0.7 is below a threshold of 0.7.
 */
export class EventDetector {
  private readonly tracks: Track[];
  private lastEnd = -Infinity;

  /**
   * @param labels class names, in the order of the scores
   * @throws PannsLitertError ("events") no names, a name twice, a setting out of range, or one of an unknown class
   */
  constructor(
    readonly labels: readonly string[],
    settings: Partial<EventSettings> = {},
    private readonly listener: EventListener = {},
  ) {
    if (labels.length === 0 || new Set(labels).size !== labels.length) {
      throw refusal(`${labels.length} labels, ${new Set(labels).size} different; expected different names`);
    }
    const { classes = {}, ...general } = settings;
    for (const name of Object.keys(classes)) {
      if (!labels.includes(name)) throw refusal(`no class ${shown(name)}; expected a class name of the model`);
    }
    this.tracks = labels.map((label) => ({
      label,
      ...thresholds(label, general, Object.hasOwn(classes, label) ? classes[label] : {}),
      state: "none",
      start: 0,
      end: 0,
      score: 0,
      announced: false,
    }));
  }

  /**
   * Takes the scores of one step in time. Steps must be in order and must not overlap.
   *
   * @param scores one per class, 0 … 1
   * @param start, end seconds, start < end
   * @returns the events that are final now, sorted by start, then class
   * @throws PannsLitertError ("events") wrong number of scores, a score outside 0 … 1, or a step out of order. The step
   *     is ignored
   */
  push(scores: ArrayLike<number>, start: number, end: number): SoundEvent[] {
    this.requireStep(scores, start, end);
    const afterGap = start > this.lastEnd + TOLERANCE;
    this.lastEnd = end;
    const final: SoundEvent[] = [];
    for (let i = 0; i < this.tracks.length; i++) {
      const track = this.tracks[i];
      const score = scores[i];
      if (track.state === "open" && (afterGap || score < track.off)) track.state = "closed";
      if (track.state === "open") {
        track.end = end;
        track.score = Math.max(track.score, score);
        continue;
      }
      const mergeable = track.state === "closed" && start <= track.end + track.maxGap + TOLERANCE;
      if (track.state === "closed" && !mergeable) this.close(i, final);
      if (score >= track.on) {
        if (!mergeable) Object.assign(track, { start, score: 0, announced: false });
        track.score = Math.max(track.score, score);
        track.end = end;
        track.state = "open";
      } else if (mergeable && end - TOLERANCE > track.end + track.maxGap + TOLERANCE) {
        this.close(i, final); // no later step can extend it
      }
    }
    return this.told(final);
  }

  /** Ends the stream and returns the remaining events, sorted. The next step may belong to another stream. */
  finish(): SoundEvent[] {
    const final: SoundEvent[] = [];
    for (let i = 0; i < this.tracks.length; i++) if (this.tracks[i].state !== "none") this.close(i, final);
    this.lastEnd = -Infinity;
    return this.told(final);
  }

  /** Tells the listener of events that are over and of events that have begun. Returns the former, sorted. */
  private told(final: SoundEvent[]): SoundEvent[] {
    final.sort((a, b) => a.start - b.start || a.index - b.index);
    const begun = this.tracks.filter((track) => track.state !== "none" && !track.announced && longEnough(track));
    for (const track of begun) track.announced = true; // first, because the listener may throw
    for (const event of final) this.listener.offset?.(event);
    for (const track of begun) this.listener.onset?.(track.label, track.start);
    return final;
  }

  private close(index: number, final: SoundEvent[]): void {
    const track = this.tracks[index];
    track.state = "none";
    const { label, start, end, score } = track;
    if (longEnough(track)) final.push({ label, index, start, end, score });
  }

  private requireStep(scores: ArrayLike<number>, start: number, end: number): void {
    const { labels, lastEnd } = this;
    if (scores.length !== labels.length) {
      throw refusal(`${scores.length} scores; expected ${labels.length}, one per class`);
    }
    for (let i = 0; i < scores.length; i++) {
      if (!(scores[i] >= 0 && scores[i] <= 1)) {
        throw refusal(`score ${scores[i]} of ${shown(labels[i])}; expected 0 … 1`);
      }
    }
    if (!(Number.isFinite(start) && Number.isFinite(end) && start < end)) {
      throw refusal(`step ${start} … ${end} s; expected finite times, start < end`);
    }
    if (start < lastEnd - TOLERANCE) {
      throw refusal(`step ${start} … ${end} s, the last one ends at ${lastEnd} s; expected steps in order`);
    }
  }
}

const longEnough = (track: Track): boolean => track.end - track.start >= track.minDuration - TOLERANCE;

const refusal = (message: string) => new PannsLitertError("events", message);

/** The thresholds of one class, checked. */
function thresholds(
  label: string,
  general: Partial<Thresholds>,
  own: Partial<Thresholds>,
): Thresholds & { off: number } {
  const known = Object.keys(DEFAULTS);
  const unknown = [...Object.keys(general), ...Object.keys(own)].find((name) => !known.includes(name));
  if (unknown !== undefined) throw refusal(`unknown ${shown(unknown)}; expected any of ${known.join(", ")}, classes`);
  const values = { ...DEFAULTS, ...defined(general), ...defined(own) };
  const { on, minDuration, maxGap } = values;
  const off = values.off ?? on / 2;
  for (const [name, value] of Object.entries({ on, off, minDuration, maxGap })) {
    if (!(Number.isFinite(value) && value >= 0)) {
      throw refusal(`${label}: ${name} = ${shown(value)}; expected a number ≥ 0`);
    }
  }
  if (!(off <= on && on <= 1)) throw refusal(`${label}: on = ${on}, off = ${off}; expected off ≤ on ≤ 1`);
  return { on, off, minDuration, maxGap };
}

const defined = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;

/**
 * Finds events in the windows of a stream, as `panns_litert.EventStream` of the Python runtime.
 *
 * With frame-wise scores, the events have the resolution of a frame. Each window contributes its middle part, of the
 * length of a hop; the first window also its beginning, and the last window all that is left. Without frame-wise
 * scores, the scores of a window stand for the hop around its centre, and those of the first window also for the time
 * before. A window that cannot be used, or is missing after an error of the engine, has no scores: events end there.
 *
 * ```ts
 * const events = new EventStream(stream, { on: 0.3 }, { onset: (label) => console.log(label) });
 * for (const window of await stream.push(samples)) events.push(window);
 * ```
 */
export class EventStream {
  private readonly detector: EventDetector;
  private readonly hopFrames: number;
  private readonly margin: number;
  private last: Window | null = null;
  private next = 0; // first frame of the stream that the detector has not seen

  constructor(
    private readonly stream: StreamShape,
    settings: Partial<EventSettings> = {},
    listener: EventListener = {},
  ) {
    this.detector = new EventDetector(stream.labels, settings, listener);
    this.hopFrames = halfEven(stream.hop / stream.frame);
    this.margin = Math.floor((halfEven(stream.window / stream.frame) - this.hopFrames) / 2);
  }

  /** Takes the next window and returns the events that are final now, sorted by start, then class. */
  push(window: Window): SoundEvent[] {
    this.last = window;
    if (window.unusable !== null) return [];
    if (window.framewise !== null) return this.frames(window, window.framewise, this.margin + this.hopFrames);
    // The step of the window is known now, unless it is the last one, which `finish` prolongs.
    return this.step(window, this.stepStart(window.index), Math.min(this.stepStart(window.index + 1), window.end));
  }

  /** Ends the stream and returns the remaining events. The next window may belong to another stream. */
  finish(): SoundEvent[] {
    const window = this.last;
    let events: SoundEvent[] = [];
    if (window !== null && window.unusable === null) {
      const rest = Math.ceil((window.end - window.start) / this.stream.frame - TOLERANCE);
      events =
        window.framewise !== null
          ? this.frames(window, window.framewise, rest)
          : this.step(window, this.stepStart(window.index + 1), window.end);
    }
    this.last = null;
    this.next = 0;
    return [...events, ...this.detector.finish()];
  }

  private step(window: Window, start: number, end: number): SoundEvent[] {
    return end > start ? this.detector.push(window.probs, start, end) : [];
  }

  /** The time from which the scores of window k apply. */
  private stepStart(k: number): number {
    const { window, hop } = this.stream;
    return k === 0 ? 0 : k * hop + (window - hop) / 2;
  }

  /** Passes the frames of a window before frame `stop` to the detector, except those that it has seen. */
  private frames(window: Window, scores: Float32Array, stop: number): SoundEvent[] {
    const { frame } = this.stream;
    const first = halfEven(window.start / frame);
    const classes = window.probs.length;
    const until = Math.min(stop, scores.length / classes);
    const begin = Math.max(0, this.next - first);
    this.next = Math.max(this.next, first + until);
    const events: SoundEvent[] = [];
    for (let k = begin; k < until; k++) {
      // Times are multiples of a frame, so that the end of a step is exactly the start of the next one.
      const start = (first + k) * frame;
      const end = Math.min((first + k + 1) * frame, window.end);
      if (end > start) events.push(...this.detector.push(scores.subarray(k * classes, (k + 1) * classes), start, end));
    }
    return events;
  }
}

/**
 * The events as CSV: start, end, label, index, score. Times are in seconds with six decimals. Text that a spreadsheet
 * would run as a formula gets an apostrophe in front.
 */
export function eventsCsv(events: Iterable<SoundEvent>): string {
  const rows = Array.from(events, ({ start, end, label, index, score }) =>
    [start.toFixed(6), end.toFixed(6), cell(label), index, score.toFixed(6)].join(","),
  );
  return ["start,end,label,index,score", ...rows, ""].join("\n");
}

/** The events as an Audacity label track: a line of start, end (seconds) and label per event. */
export function audacityLabels(events: Iterable<SoundEvent>): string {
  const line = ({ start, end, label }: SoundEvent) =>
    `${start.toFixed(6)}\t${end.toFixed(6)}\t${label.split(/\s+/).join(" ").trim()}\n`;
  return Array.from(events, line).join("");
}

function cell(text: string): string {
  const safe = text.length > 1 && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
