/** Draws what was heard over time: the spectrogram, one lane per tag, the events, and the cursor. */

import type { FrontEndSpec, SoundEvent } from "panns-litert";
import type { Columns } from "./protocol.js";
import type { Score } from "./score.js";
import { melPosition } from "./spectrogram.js";

const SHOWN_DB = 70; // below the loudest band
const WIDEST = 16000; // columns that a canvas can have everywhere
const TICKS_HZ = [250, 1000, 4000, 12000];
const TICK_SECONDS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const AXIS = 22; // CSS pixels

export interface View {
  score: Score;
  /** Classes of the lanes, from the top. */
  lanes: number[];
  events: SoundEvent[];
  /** Seconds at the left and right edge. */
  from: number;
  to: number;
}

export class Timeline {
  private readonly canvas: HTMLCanvasElement;
  private readonly cursor: HTMLElement;
  private readonly labels: HTMLElement;
  private readonly picture = document.createElement("canvas");
  private columns: Columns[] = [];
  private count = 0;
  private painted = 0;
  private loudest = -Infinity;
  private secondsPerColumn = 1;
  private frontEnd: FrontEndSpec | null = null;
  private view: View | null = null;
  private shades = new Uint8ClampedArray();

  /** @param root holds a canvas, an element `.cursor` and a list `.lane-labels`. */
  constructor(private readonly root: HTMLElement) {
    this.canvas = root.querySelector("canvas")!;
    this.cursor = root.querySelector(".cursor")!;
    this.labels = root.querySelector(".lane-labels")!;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.painted = 0;
      this.draw();
    });
  }

  /** Begins anew, for sound of this front end. */
  clear(frontEnd: FrontEndSpec): void {
    this.frontEnd = frontEnd;
    this.columns = [];
    this.count = this.painted = 0;
    this.loudest = -Infinity;
    this.picture.width = 0;
    this.view = null;
    this.labels.replaceChildren();
    this.moveCursor(null);
  }

  push(columns: Columns): void {
    this.columns.push(columns);
    this.count += columns.values.length / columns.mels;
    this.secondsPerColumn = columns.secondsPerColumn;
    let loudest = this.loudest;
    for (const value of columns.values) if (value > loudest) loudest = value;
    if (loudest > this.loudest + 3 || this.loudest === -Infinity) {
      this.loudest = loudest;
      this.painted = 0; // in steps of 3 dB, so that a rising sound does not repaint everything each time
    }
  }

  show(view: View): void {
    const same = this.view?.lanes.join() === view.lanes.join();
    this.view = view;
    if (!same) this.labels.replaceChildren(...view.lanes.map((index) => laneLabel(view.score.labels[index])));
    this.draw();
  }

  /** Moves the cursor to a time, or hides it. */
  moveCursor(seconds: number | null): void {
    const view = this.view;
    this.cursor.hidden = seconds === null || !view || seconds < view.from || seconds > view.to;
    if (seconds === null || !view || this.cursor.hidden) return;
    const share = (seconds - view.from) / (view.to - view.from);
    this.cursor.style.transform = `translateX(${share * this.canvas.clientWidth}px)`;
  }

  /** The time at a place of the page. */
  secondsAt(clientX: number): number {
    const box = this.canvas.getBoundingClientRect();
    const { from, to } = this.view ?? { from: 0, to: 0 };
    return from + Math.min(1, Math.max(0, (clientX - box.left) / box.width)) * (to - from);
  }

  draw(): void {
    const view = this.view;
    const style = getComputedStyle(this.root);
    const size = (name: string) => parseFloat(style.getPropertyValue(name));
    const [sound, lane, gap] = [size("--sound-height"), size("--lane-height"), size("--lane-head")];
    const width = this.canvas.clientWidth;
    const height = sound + (view?.lanes.length ?? 0) * lane + AXIS;
    if (width === 0) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const g = this.canvas.getContext("2d")!;
    g.scale(scale, scale);
    if (!view || view.to <= view.from) return;
    const ink = (name: string) => style.getPropertyValue(name).trim();
    const x = (seconds: number) => ((seconds - view.from) / (view.to - view.from)) * width;

    this.drawSound(g, x, sound, ink);
    view.lanes.forEach((index, i) => this.drawLane(g, x, view, index, sound + i * lane, lane, gap, ink));
    drawTimes(g, x, view, sound, height, style, ink);
  }

  private drawSound(g: CanvasRenderingContext2D, x: (t: number) => number, height: number, ink: Ink): void {
    this.paint(ink);
    const end = this.count * this.secondsPerColumn;
    if (this.painted > 0) {
      g.imageSmoothingQuality = "high";
      g.drawImage(this.picture, 0, 0, this.painted, this.picture.height, x(0), 0, x(end) - x(0), height);
    }
    g.font = `500 11px ${ink("--face")}`;
    g.textBaseline = "middle";
    for (const hz of TICKS_HZ) {
      const spec = this.frontEnd;
      if (!spec || hz <= spec.fmin || hz >= spec.fmax) continue;
      const y = height * (1 - melPosition(hz, spec));
      if (y < 10) continue;
      const text = hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`;
      g.fillStyle = ink("--veil");
      g.fillRect(0, y - 8, g.measureText(text).width + 10, 16);
      g.fillStyle = ink("--soft");
      g.fillText(text, 5, y + 0.5);
    }
  }

  /** Paints new columns into the picture, or all of them if the loudest changed. */
  private paint(ink: Ink): void {
    const mels = this.columns[0]?.mels ?? 0;
    if (mels === 0 || this.painted === this.count) return;
    if (this.painted === 0) {
      this.shades = shades(ink("--paper"), ink("--deep"), ink("--ink"));
      const width = Math.min(WIDEST, Math.max(this.picture.width, 2 ** Math.ceil(Math.log2(this.count + 256))));
      if (this.picture.width < this.count || this.picture.height !== mels) {
        this.picture.width = width;
        this.picture.height = mels;
      }
    } else if (this.count > this.picture.width) {
      this.painted = 0;
      this.picture.width = Math.min(WIDEST, 2 * this.picture.width);
    }
    const g = this.picture.getContext("2d")!;
    let start = 0;
    for (const { values } of this.columns) {
      const count = values.length / mels;
      if (start >= this.painted && start + count <= WIDEST) {
        const image = g.createImageData(count, mels);
        for (let column = 0; column < count; column++) {
          for (let mel = 0; mel < mels; mel++) {
            const share = 1 + (values[column * mels + mel] - this.loudest) / SHOWN_DB;
            const shade = 3 * Math.round(255 * Math.min(1, Math.max(0, share)));
            const at = 4 * ((mels - 1 - mel) * count + column);
            image.data[at] = this.shades[shade];
            image.data[at + 1] = this.shades[shade + 1];
            image.data[at + 2] = this.shades[shade + 2];
            image.data[at + 3] = 255;
          }
        }
        g.putImageData(image, start, 0);
      }
      start += count;
    }
    this.painted = Math.min(this.count, WIDEST);
  }

  private drawLane(
    g: CanvasRenderingContext2D,
    x: (t: number) => number,
    view: View,
    index: number,
    top: number,
    height: number,
    head: number,
    ink: Ink,
  ): void {
    const base = top + height - 5.5;
    const y = (p: number) => base - 1.5 - p * (height - head - 9);
    g.fillStyle = ink("--line");
    g.fillRect(0, Math.round(base) - 0.5, x(view.to), 1);
    const { score } = view;
    const points = score.windows.flatMap((window, k) => {
      const [from, to] = [score.stepStart(k), score.stepEnd(k)];
      return to < view.from || from > view.to ? [] : [{ from, to, p: window.probs[index] }];
    });
    if (points.length > 0) {
      const [first, last] = [points[0], points[points.length - 1]];
      const curve: [number, number][] = [
        [x(first.from), y(first.p)],
        ...points.map(({ from, to, p }): [number, number] => [x((from + to) / 2), y(p)]),
        [x(last.to), y(last.p)],
      ];
      g.beginPath();
      smooth(g, curve);
      g.strokeStyle = ink("--trace");
      g.lineWidth = 1.5;
      g.lineJoin = "round";
      g.stroke();
      g.lineTo(curve[curve.length - 1][0], base);
      g.lineTo(curve[0][0], base);
      g.closePath();
      g.fillStyle = ink("--trace-wash");
      g.fill();
    }
    g.fillStyle = ink("--accent");
    for (const event of view.events) {
      if (event.index === index) g.fillRect(x(event.start), base, Math.max(2, x(event.end) - x(event.start)), 3);
    }
  }
}

type Ink = (name: string) => string;

/** Adds a smooth curve through points that never overshoots them: flat tangents at both ends of every piece. */
function smooth(g: CanvasRenderingContext2D, points: [number, number][]): void {
  g.moveTo(...points[0]);
  for (let i = 1; i < points.length; i++) {
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    const middle = (x0 + x1) / 2;
    g.bezierCurveTo(middle, y0, middle, y1, x1, y1);
  }
}

function drawTimes(
  g: CanvasRenderingContext2D,
  x: (t: number) => number,
  view: View,
  sound: number,
  height: number,
  style: CSSStyleDeclaration,
  ink: Ink,
): void {
  const wanted = ((view.to - view.from) / x(view.to)) * 90;
  const step = TICK_SECONDS.find((seconds) => seconds >= wanted) ?? TICK_SECONDS[TICK_SECONDS.length - 1];
  g.font = `500 12px ${style.getPropertyValue("--face")}`;
  g.textBaseline = "alphabetic";
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    g.fillStyle = ink("--line");
    g.fillRect(Math.round(x(t)), sound, 1, height - sound - AXIS + 6);
    const text = clock(t, step < 1);
    const wide = g.measureText(text).width;
    if (x(t) + wide > x(view.to)) continue;
    g.fillStyle = ink("--soft");
    g.fillText(text, x(t) + (t === view.from ? 0 : 4), height - 4);
  }
}

/** 256 colours from the paper over a deep tone to the ink. */
function shades(...names: [string, string, string]): Uint8ClampedArray<ArrayBuffer> {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true })!;
  const [paper, deep, ink] = names.map((colour) => {
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  });
  const table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const t = (i / 255) ** 1.6;
    const [a, b, share] = t < 0.6 ? [paper, deep, t / 0.6] : [deep, ink, (t - 0.6) / 0.4];
    for (let c = 0; c < 3; c++) table[3 * i + c] = a[c] + (b[c] - a[c]) * share;
  }
  return table;
}

function laneLabel(text: string): HTMLLIElement {
  const item = document.createElement("li");
  item.textContent = text;
  item.title = text;
  return item;
}

/** 75.25 → "1:15", with tenths "1:15.2". */
export function clock(seconds: number, tenths = false): string {
  const whole = tenths ? Math.floor(seconds * 10 + 1e-6) / 10 : Math.floor(seconds + 1e-6);
  const rest = whole % 60;
  return `${Math.floor(whole / 60)}:${(tenths ? rest.toFixed(1) : String(rest)).padStart(tenths ? 4 : 2, "0")}`;
}
