/** What a recording's windows say together: tags, lanes over time, events. */

import { EventStream, type SoundEvent, type Window } from "panns-litert";
import type { Heard } from "./protocol.js";

export interface ClassScore {
  label: string;
  index: number;
  /** Over the windows, weighted by the time that each adds to the windows before it. */
  mean: number;
  max: number;
}

/** The windows of one recording or stream, in the order in which they came. */
export class Score {
  readonly windows: Heard[] = [];
  /** Number of windows that the model was not run for, and why not for the first of them. */
  skipped = 0;
  unusable = "";
  private readonly weighted: Float64Array;
  private readonly highest: Float32Array;
  private weight = 0;
  private covered = 0;

  /**
   * @param labels class names
   * @param window length of a window, seconds
   * @param hop from one window to the next, seconds
   */
  constructor(
    readonly labels: readonly string[],
    readonly window: number,
    readonly hop: number,
  ) {
    this.weighted = new Float64Array(labels.length);
    this.highest = new Float32Array(labels.length);
  }

  push(window: Heard): void {
    this.windows.push(window);
    if (window.unusable !== null) {
      this.skipped++;
      this.unusable ||= window.unusable;
      return;
    }
    const weight = window.end - Math.max(window.start, this.covered);
    for (let i = 0; i < this.labels.length; i++) {
      this.weighted[i] += weight * window.probs[i];
      this.highest[i] = Math.max(this.highest[i], window.probs[i]);
    }
    this.weight += weight;
    this.covered = window.end;
  }

  /** Number of windows that the model was run for. */
  get tagged(): number {
    return this.windows.length - this.skipped;
  }

  /** Where the windows so far end, seconds. */
  get end(): number {
    return this.windows.at(-1)?.end ?? 0;
  }

  /** All classes, highest score in any window first. */
  classes(): ClassScore[] {
    const mean = (i: number) => (this.weight > 0 ? this.weighted[i] / this.weight : 0);
    return this.labels
      .map((label, index) => ({ label, index, mean: mean(index), max: this.highest[index] }))
      .sort((a, b) => b.max - a.max || a.index - b.index);
  }

  /** The classes with the highest scores in the windows that end after `since`. */
  top(count: number, since = -Infinity): number[] {
    let highest = this.highest;
    if (since > 0) {
      highest = new Float32Array(this.labels.length);
      for (const window of this.windows) {
        if (window.end > since) window.probs.forEach((p, i) => (highest[i] = Math.max(highest[i], p)));
      }
    }
    return [...highest.keys()].sort((a, b) => highest[b] - highest[a] || a - b).slice(0, count);
  }

  /** Where the step of window k begins: the hop around the window's centre, and the first one at 0. */
  stepStart(k: number): number {
    return k === 0 ? 0 : k * this.hop + (this.window - this.hop) / 2;
  }

  /** Where the step of window k ends: where the next begins, and the last one with the windows. */
  stepEnd(k: number): number {
    return k === this.windows.length - 1 ? this.end : this.stepStart(k + 1);
  }

  /** The window that stands for a time. */
  at(seconds: number): Heard | undefined {
    if (this.windows.length === 0) return undefined;
    const k = seconds < this.stepStart(1) ? 0 : Math.floor((seconds - (this.window - this.hop) / 2) / this.hop + 1e-9);
    return this.windows[Math.min(Math.max(k, 0), this.windows.length - 1)];
  }

  /** The events of the windows so far, by start. */
  events(on: number): SoundEvent[] {
    const { window, hop, labels } = this;
    const stream = new EventStream({ window, hop, frame: hop, labels }, { on });
    const found = this.windows.flatMap((heard) => stream.push(asWindow(heard)));
    return [...found, ...stream.finish()].sort((a, b) => a.start - b.start || a.index - b.index);
  }
}

const NOTHING = new Float32Array(0);

function asWindow(heard: Heard): Window {
  return { ...heard, embedding: NOTHING, framewise: null, logMel: null, frontEndMs: 0, modelMs: heard.milliseconds };
}
