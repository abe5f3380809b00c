import { levelDbfs } from "./audio/level.js";
import { indexOfNaN, MonoResampler } from "./audio/mono.js";
import { channelsOf } from "./audio/sound.js";
import type { Bundle } from "./bundle/bundle.js";
import { clipSamples, halfEven, type Manifest } from "./bundle/manifest.js";
import type { Outputs } from "./engine.js";
import { PannsLitertError } from "./errors.js";
import { LogMel } from "./frontend/logmel.js";
import { filledFrames, leastSamples } from "./frontend/spec.js";
import { StreamingLogMel } from "./frontend/streaming.js";

/** The result of one window of a recording or stream. Plain data. */
export interface Window {
  /** 0, 1, … */
  index: number;
  /** Seconds. In a recording shorter than a window, the window ends with the recording. */
  start: number;
  end: number;
  /** One probability per class, 0 … 1; zeros if the window is unusable. */
  probs: Float32Array;
  /** Empty if the model has none. */
  embedding: Float32Array;
  /** Probabilities over time, frames × classes, row-major; null if the network has none. */
  framewise: Float32Array | null;
  /** The log-mel that the model got, frames × mels, row-major; null if not asked for, or if the graph takes samples. */
  logMel: Float32Array | null;
  /** Level of the sound without its mean (DC), dB of full scale; −Infinity for silence and if it is unusable. */
  levelDbfs: number;
  /** How much of the model's input is padding, because the recording is shorter than it, seconds. */
  paddingSeconds: number;
  /** Why the model was not run, such as "NaN, Inf or samples far beyond full scale at 20.000 s"; null if it was. */
  unusable: string | null;
  /** Time of the front end since the previous window, and of the model, milliseconds. */
  frontEndMs: number;
  modelMs: number;
}

/** Options of windows. */
export interface StreamOptions {
  /** Seconds from one window to the next, > 0 and at most a window; rounded to whole frames. Default of a stream: 1. */
  hop?: number;
  /** Whether each window carries its log-mel. Default false. */
  logMel?: boolean;
}

/** What `EventStream` needs to know of the source of its windows. Lengths in seconds. */
export interface StreamShape {
  readonly window: number;
  readonly hop: number;
  readonly frame: number;
  readonly labels: readonly string[];
}

/** What a stream needs of a tagger. */
export interface Runner {
  readonly bundle: Bundle;
  run(input: Float32Array): Promise<Outputs>;
}

export const HOP_SECONDS = 1;

const TAIL_PERCENT = 5;
const CHUNK = 1 << 16; // samples; longer chunks are processed in parts, so that the first results come early
const TOLERANCE = 1e-6; // seconds

/**
 * Tags a stream in overlapping windows, as `panns_litert.StreamTagger` of the Python runtime. Each window is tagged as
 * soon as its last sample has arrived, and each frame of the log-mel is computed once.
 *
 * Window k begins at k hops. At the end of a stream, the rest after the last window is in one more window, which is
 * shifted back so that it is full. It begins with a frame and ends less than a frame before the end of the stream. A
 * rest shorter than 5 % of a window is left out. A stream that is shorter than a window is padded, as by `Tagger.tag`.
 *
 * Calls that overlap run one after another.
 */
export class StreamTagger implements StreamShape {
  readonly window: number;
  readonly hop: number;
  readonly frame: number;
  private readonly rate: number;
  private readonly samples: number; // of a window
  private readonly hopSamples: number;
  private readonly frameSamples: number;
  private readonly leastTail: number;
  private readonly framesOfWindow: number;
  private readonly part: number;
  private readonly mono: MonoResampler;
  private readonly logMel: LogMel | null;
  private readonly withLogMel: boolean;
  private readonly wave: Recent; // NaN where a sample cannot be used
  private readonly frames: Recent; // rows of nMels values
  private streaming: StreamingLogMel | null = null;
  private index = 0; // of the next window
  private heard = 0; // number of samples of the stream so far
  private base = 0; // of the samples in `wave` and the frames in `frames`: the first one's place in the stream
  private frontEndMs = 0;
  private state: "open" | "ended" | "over" = "open"; // ended: no more samples; over: no more windows
  private flushed = false; // whether the front end has ended
  private done: Window[] = []; // windows that an error in a later one kept from being returned
  private turn: Promise<unknown> = Promise.resolve();

  /**
   * @param sampleRate of the samples that are pushed, Hz
   * @throws PannsLitertError ("audio") the hop or the rate is out of range
   */
  constructor(
    private readonly runner: Runner,
    sampleRate: number,
    { hop = HOP_SECONDS, logMel = false }: StreamOptions = {},
  ) {
    const { manifest, melBasis } = runner.bundle;
    const spec = manifest.frontEnd;
    this.rate = spec.sampleRate;
    this.samples = clipSamples(manifest);
    this.window = this.samples / this.rate;
    if (!(hop > 0 && hop <= this.window + TOLERANCE)) {
      throw new PannsLitertError(
        "audio",
        `hop = ${hop}; expected seconds, more than 0 and at most a window of ${this.window}`,
      );
    }
    this.frameSamples = spec.hopLength;
    const most = Math.max(1, Math.floor(this.samples / this.frameSamples));
    const hopFrames = Math.min(Math.max(1, halfEven((hop * this.rate) / this.frameSamples)), most);
    this.hopSamples = hopFrames * this.frameSamples;
    this.hop = this.hopSamples / this.rate;
    this.frame = this.frameSamples / this.rate;
    this.leastTail = Math.max(this.frameSamples, Math.ceil((this.samples * TAIL_PERCENT) / 100));
    this.mono = new MonoResampler(sampleRate, this.rate);
    this.logMel = manifest.graph === "logmel" ? new LogMel(spec, melBasis) : null;
    this.withLogMel = logMel;
    this.framesOfWindow = this.logMel === null ? 0 : filledFrames(spec, this.samples);
    // The end of a stream needs the last window's samples again: it may be in a window that is shifted back.
    this.part = Math.min(this.hopSamples, CHUNK);
    this.wave = new Recent(this.samples + this.hopSamples + this.part + spec.nFft, 1);
    this.frames = new Recent(Math.ceil(this.wave.rows / this.frameSamples) + 2, this.logMel === null ? 0 : spec.nMels);
    this.restart();
  }

  /** Class names, in the order of the scores. */
  get labels(): readonly string[] {
    return this.runner.bundle.labels;
  }

  /** Length of the stream so far, seconds; after its end, of the whole stream, until the next one begins. */
  get seconds(): number {
    return this.heard / this.rate;
  }

  /** What was noticed in the stream so far, as `seconds`: too loud, or channels that cancel each other. */
  get warnings(): string[] {
    return this.mono.warnings;
  }

  /**
   * Takes the next samples and returns the windows that they complete. A window with NaN, Inf or samples far beyond
   * full scale is returned as unusable.
   *
   * @param samples mono, or one array per channel, nominally within [-1, 1]. They are copied before this returns, so
   *     that the caller may use the arrays again at once
   * @throws PannsLitertError ("audio") channels of different lengths, or samples of a wrong scale: they are ignored,
   *     and the stream can go on; ("engine") the model failed: the stream has taken all samples and can go on without
   *     the windows that the model did not tag. The windows before them are returned by the next call
   */
  async push(samples: Float32Array | Float32Array[]): Promise<Window[]> {
    const own = channelsOf(samples).map((channel) => channel.slice());
    return this.inTurn(async () => {
      const mono = this.mono.push(own);
      if (this.state !== "open") this.restart();
      return this.feed(mono);
    });
  }

  /**
   * Ends the stream and returns its remaining windows. The next push begins another stream.
   *
   * @throws PannsLitertError ("engine") the model failed. Another call returns the other windows
   */
  finish(): Promise<Window[]> {
    return this.inTurn(async () => {
      if (this.state === "over") this.restart();
      if (this.state === "open") {
        this.state = "ended";
        const rest = this.mono.finish();
        await this.feed(rest, true);
      }
      const found = await this.last();
      this.state = "over";
      return found;
    });
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.turn.then(work);
    this.turn = next.catch(() => undefined);
    return next;
  }

  private restart(): void {
    this.index = this.heard = this.base = this.frontEndMs = 0;
    this.wave.clear();
    this.frames.clear();
    this.state = "open";
    this.flushed = false;
    this.streaming = this.logMel === null ? null : new StreamingLogMel(this.logMel);
  }

  /** Takes mono samples at the model's rate, and tags the windows that they complete. */
  private async feed(mono: Float32Array, keep = false): Promise<Window[]> {
    let failure: unknown = null;
    for (let start = 0; start < mono.length; start += this.part) {
      this.take(mono.subarray(start, start + this.part));
      while (this.isComplete()) {
        const place = this.advance(this.index * this.hopSamples, this.samples);
        if (failure !== null) continue; // the times of later windows depend on it
        try {
          this.done.push(await this.tag(place));
        } catch (error) {
          failure = error;
        }
      }
    }
    if (failure !== null) throw failure;
    return keep ? [] : this.collect();
  }

  /** Tags the windows at the end of the stream. */
  private async last(): Promise<Window[]> {
    const { heard, samples } = this;
    if (heard > 0 && !this.flushed) {
      this.flushed = true;
      if (heard < samples) {
        this.pad();
        this.done.push(await this.tag(this.advance(0, heard)));
        return this.collect();
      }
      if (this.streaming !== null) this.frames.push(this.streaming.finish());
    }
    if (heard < samples) return this.collect();
    while (this.isComplete()) {
      this.done.push(await this.tag(this.advance(this.index * this.hopSamples, samples)));
    }
    const covered = this.index > 0 ? this.base + samples : heard;
    if (heard - covered >= this.leastTail) {
      const start = Math.floor((heard - samples) / this.frameSamples) * this.frameSamples;
      this.done.push(await this.tag(this.advance(start, samples)));
    }
    return this.collect();
  }

  private collect(): Window[] {
    const { done } = this;
    this.done = [];
    return done;
  }

  private take(part: Float32Array): void {
    this.wave.push(part);
    this.heard += part.length;
    if (this.streaming === null) return;
    const begin = performance.now();
    this.frames.push(this.streaming.push(indexOfNaN(part) < 0 ? part : part.map((value) => value || 0)));
    this.frontEndMs += performance.now() - begin;
  }

  /** Pads a stream that is shorter than a window, as `Tagger.tag` does. */
  private pad(): void {
    const { heard } = this;
    const { spec } = this.logMel ?? {};
    // With padded frames, the front end pads the log-mel, but needs at least one frame.
    const whole = spec && spec.paddedFrames !== null ? Math.max(heard, leastSamples(spec)) : this.samples;
    for (let at = heard; at < whole; at += this.part) this.take(new Float32Array(Math.min(this.part, whole - at)));
    if (this.streaming !== null) this.frames.push(this.streaming.finish());
    this.heard = heard;
  }

  /** Whether the next window's samples and frames have come. */
  private isComplete(): boolean {
    const start = this.index * this.hopSamples;
    const lastFrame = start / this.frameSamples + this.framesOfWindow;
    const frames = this.base / this.frameSamples + this.frames.length;
    return this.heard >= start + this.samples && (this.logMel === null || frames >= lastFrame);
  }

  /** Drops what lies before the window that begins at sample `start`, and takes the model's input out of the rest. */
  private advance(start: number, samples: number): Place {
    const drop = start - this.base;
    this.wave.drop(drop);
    this.frames.drop(drop / this.frameSamples);
    this.base = start;
    const place = { index: this.index++, start, own: this.wave.held.slice(0, samples), frontEndMs: this.frontEndMs };
    this.frontEndMs = 0;
    return { ...place, input: this.input() };
  }

  /** The model's input: the window's samples or frames. */
  private input(): Float32Array {
    const { logMel } = this;
    const { inputs } = this.runner.bundle.manifest;
    const size = inputs[0].shape.reduce((product, length) => product * length, 1);
    const input = new Float32Array(size);
    if (logMel === null) {
      input.set(this.wave.held.subarray(0, this.samples));
    } else {
      const filled = this.frames.held.subarray(0, this.framesOfWindow * logMel.spec.nMels);
      input.set(filled);
      logMel.fill(input, filled.length);
    }
    return input;
  }

  private async tag({ index, start, own, input, frontEndMs }: Place): Promise<Window> {
    const { manifest } = this.runner.bundle;
    const bad = indexOfNaN(own);
    const place = {
      index,
      start: start / this.rate,
      end: (start + own.length) / this.rate,
      logMel: this.withLogMel && this.logMel !== null ? input : null,
      paddingSeconds: (this.samples - own.length) / this.rate,
      frontEndMs,
    };
    if (bad >= 0) {
      const at = ((start + bad) / this.rate).toFixed(3);
      const unusable = `NaN, Inf or samples far beyond full scale at ${at} s`;
      return { ...place, ...tensors(manifest, zeros(manifest)), levelDbfs: -Infinity, unusable, modelMs: 0 };
    }
    const begin = performance.now();
    const outputs = await this.runner.run(input);
    const modelMs = performance.now() - begin;
    return { ...place, ...tensors(manifest, outputs), levelDbfs: levelDbfs(own), unusable: null, modelMs };
  }
}

interface Place {
  index: number;
  /** Sample of the stream at which the window begins. */
  start: number;
  /** The window's samples, without padding. */
  own: Float32Array;
  input: Float32Array;
  frontEndMs: number;
}

function tensors(manifest: Manifest, outputs: Outputs): Pick<Window, "probs" | "embedding" | "framewise"> {
  const framewise = manifest.outputs.some((output) => output.name === "framewise") ? outputs.framewise : null;
  return { probs: outputs.probs, embedding: outputs.embedding ?? new Float32Array(0), framewise };
}

function zeros(manifest: Manifest): Outputs {
  const size = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1);
  return Object.fromEntries(manifest.outputs.map(({ name, shape }) => [name, new Float32Array(size(shape))]));
}

/** The newest rows of a stream, in an array that does not grow. */
class Recent {
  private readonly data: Float32Array;
  private begin = 0; // rows
  private end = 0;

  /** @param rows the largest number of rows that are held at a time */
  constructor(
    readonly rows: number,
    private readonly width: number,
  ) {
    this.data = new Float32Array(2 * rows * width);
  }

  get length(): number {
    return this.end - this.begin;
  }

  /** The rows, as a view that is valid until the next push. */
  get held(): Float32Array {
    return this.data.subarray(this.begin * this.width, this.end * this.width);
  }

  clear(): void {
    this.begin = this.end = 0;
  }

  push(values: Float32Array): void {
    if (this.end * this.width + values.length > this.data.length) {
      this.data.copyWithin(0, this.begin * this.width, this.end * this.width);
      this.end -= this.begin;
      this.begin = 0;
    }
    this.data.set(values, this.end * this.width);
    this.end += values.length / this.width;
  }

  drop(rows: number): void {
    this.begin += rows;
  }
}
