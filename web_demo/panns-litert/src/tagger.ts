import { levelDbfs } from "./audio/level.js";
import { indexOfNaN, LOUDEST, MonoResampler, peakOf } from "./audio/mono.js";
import { named, recordingOf, type Recording, type Sound } from "./audio/sound.js";
import type { Bundle } from "./bundle/bundle.js";
import { clipSamples, embeddingSize, sizeOf } from "./bundle/manifest.js";
import { compare, cpuGate, GPU_GATE } from "./bundle/selftest.js";
import { LiteRtEngine, type Accelerator, type Engine, type EngineOptions, type Outputs } from "./engine.js";
import { PannsLitertError, reason } from "./errors.js";
import { EventStream, type EventSettings, type SoundEvent } from "./events.js";
import { LogMel } from "./frontend/logmel.js";
import { leastSamples } from "./frontend/spec.js";
import { HOP_SECONDS, StreamTagger, type StreamOptions, type Window } from "./windows.js";

/** A class and its probability, 0 … 1. */
export interface Tag {
  label: string;
  index: number;
  score: number;
}

/** What every result has. Plain data: it can be sent from a worker to the page. */
export interface Result {
  /** Name of the file; "" if unknown. */
  source: string;
  /** Name of the model. */
  model: string;
  /** What ran the model. */
  engine: Accelerator;
  /** Why that is not the accelerator that was asked for; null if it is. */
  fallback: string | null;
  /** Length of the recording; that of its header if greater than what was found. */
  seconds: number;
  /** Length of the sound that was tagged. */
  secondsHeard: number;
  /** Length of the padding behind a recording that is shorter than the model's clip; else 0. */
  paddingSeconds: number;
  /** What was wrong with the recording or is missing, one phrase each. */
  warnings: string[];
  /** Highest score first, limited by `top` and `threshold`. */
  tags: Tag[];
  /** One probability per class, 0 … 1. */
  probs: Float32Array;
  /** Empty if the model has none. */
  embedding: Float32Array;
  frontEndMs: number;
  modelMs: number;
}

/** The result for the first clip of a recording. */
export interface Tagging extends Result {
  /** Length of the part that was tagged; less than `seconds` if the recording was cut, which `warnings` says, too. */
  usedSeconds: number;
  /** Probabilities over time, frames × classes, row-major; null if the network has none. */
  framewise: Float32Array | null;
  /** Level of that part without its mean (DC), dB of full scale; −Infinity for silence. */
  levelDbfs: number;
}

/** The result for a whole recording. */
export interface LongTagging extends Result {
  /** Number of windows that were tagged, and of those that were not, because of samples that cannot be used. */
  windows: number;
  windowsSkipped: number;
}

/** Which classes become tags. */
export interface TagOptions {
  /** The largest number of tags, ≥ 1; null for all. Default 10. */
  top?: number | null;
  /** The lowest probability of a tag, 0 … 1. Default 0. */
  threshold?: number;
}

/** Options of windows of a recording. */
export interface WindowOptions extends StreamOptions {
  /** Ends the work between two windows, with the signal's reason as the error. */
  signal?: AbortSignal;
}

export interface TaggerOptions extends EngineOptions {
  /**
   * "webgpu" is used only if it runs the whole graph and passes the bundle's self-test; otherwise wasm is, and
   * `fallback` says why. Default "wasm".
   */
  accelerator?: Accelerator;
}

/** The result of a self-test: this device's probabilities for a recording, compared with the bundle's. Plain data. */
export interface SelfTestResult {
  passed: boolean;
  engine: Accelerator;
  /** Largest difference of a probability, and what is allowed; null if there is none to tell. */
  largestDifference: number | null;
  allowed: number;
  /** Why it failed; "" if it passed. */
  why: string;
  modelMs: number;
}

const LARGEST_INPUT = 65504; // the largest number in float16, in which a GPU may compute
const CODEC_PADDING_SECONDS = 0.05; // codecs pad by up to this much; no warning below it
const PART = 1 << 16; // samples

/**
 * Tags sound with a bundle: single clips, whole recordings, streams, and events in them. Calls that overlap run one
 * after another. Close it after use.
 *
 * ```ts
 * const tagger = await Tagger.open(await Bundle.open("bundles/demo/"));
 * const { tags, secondsHeard, warnings } = await tagger.tagLong(await decode(file));
 * ```
 */
export class Tagger {
  private readonly logMel: LogMel | null;
  private turn: Promise<unknown> = Promise.resolve();
  private closed = false;

  /**
   * Makes a tagger of an engine that is open already; `Tagger.open` opens one of LiteRT.js.
   *
   * @param fallback why the engine is not the one that was asked for; null if it is
   */
  constructor(
    readonly bundle: Bundle,
    private readonly ran: Engine,
    readonly fallback: string | null = null,
  ) {
    const { manifest, melBasis } = bundle;
    this.logMel = manifest.graph === "logmel" ? new LogMel(manifest.frontEnd, melBasis) : null;
  }

  /**
   * Opens a bundle's model with LiteRT.js.
   *
   * @throws PannsLitertError ("engine") the browser lacks something, or LiteRT.js cannot be loaded or refuses the model
   */
  static async open(bundle: Bundle, options: TaggerOptions = {}): Promise<Tagger> {
    const { accelerator = "wasm" } = options;
    if (accelerator !== "wasm" && accelerator !== "webgpu") {
      throw new PannsLitertError("engine", `accelerator ${String(accelerator)}; expected wasm or webgpu`);
    }
    let fallback: string | null = null;
    if (accelerator === "webgpu") {
      try {
        return await openWebGpu(bundle, options);
      } catch (error) {
        fallback = reason(error);
      }
    }
    return new Tagger(bundle, await LiteRtEngine.open(bundle, "wasm", options), fallback);
  }

  /** Class names, in the order of the scores. */
  get labels(): readonly string[] {
    return this.bundle.labels;
  }

  /** What runs the model. */
  get engine(): Accelerator {
    return this.ran.accelerator;
  }

  /** Frees the model. Using the tagger after that is an error. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    void this.turn.then(() => this.ran.close());
  }

  /**
   * Tags the first clip of a recording. A shorter one is padded; a longer one is cut, which `warnings` says.
   *
   * @param sampleRate Hz, of samples; ignored for a recording
   * @throws PannsLitertError ("audio") no samples, or some of the clip cannot be used; ("engine") the model failed
   */
  async tag(sound: Sound, sampleRate?: number, options: TagOptions = {}): Promise<Tagging> {
    const recording = recordingOf(sound, sampleRate);
    const found = recording.channels[0].length / recording.sampleRate;
    const { manifest } = this.bundle;
    const { sampleRate: rate } = manifest.frontEnd;
    const clip = new Float32Array(clipSamples(manifest));
    const mono = new MonoResampler(recording.sampleRate, rate);
    let used = 0;
    for (const part of parts(recording)) {
      used += copy(inNameOf(recording, () => mono.push(part)), clip, used);
      if (used === clip.length) break;
    }
    if (used < clip.length) used += copy(mono.finish(), clip, used);
    const own = clip.subarray(0, used);
    const bad = indexOfNaN(own);
    if (bad >= 0) {
      throw new PannsLitertError(
        "audio",
        `${named(recording.source)}sample ${bad} is NaN, Inf or beyond ±${LOUDEST}; expected samples in [-1, 1]`,
      );
    }
    const begin = performance.now();
    const input = this.inputOf(clip, used);
    const middle = performance.now();
    const outputs = await this.run(input);
    const end = performance.now();
    const seconds = Math.max(recording.seconds, found);
    const usedSeconds = Math.min(seconds, manifest.clipSeconds);
    const warnings = [...recording.warnings, ...mono.warnings];
    if (seconds - usedSeconds >= CODEC_PADDING_SECONDS) {
      warnings.push(`${seconds.toFixed(1)} s long; only the first ${usedSeconds} s were tagged`);
    }
    return {
      source: recording.source,
      model: manifest.model,
      engine: this.engine,
      fallback: this.fallback,
      seconds,
      secondsHeard: Math.min(used / rate, found),
      paddingSeconds: (clip.length - used) / rate,
      warnings,
      tags: topTags(this.labels, outputs.probs, options),
      probs: outputs.probs,
      embedding: outputs.embedding ?? new Float32Array(0),
      framewise: outputs.framewise ?? null,
      levelDbfs: levelDbfs(own),
      usedSeconds,
      frontEndMs: middle - begin,
      modelMs: end - middle,
    };
  }

  /**
   * Tags a whole recording in windows. Windows with samples that cannot be used are skipped and counted. The samples
   * are read bit by bit: do not change them, or send them to a worker, before this is done.
   *
   * @param options aggregate: "mean" (default) over the windows, weighted by the time that each adds to the windows
   *     before it, or "max"
   * @throws PannsLitertError ("audio") no samples, or no window of usable samples; ("engine") the model failed
   */
  async tagLong(
    sound: Sound,
    sampleRate?: number,
    options: TagOptions & WindowOptions & { aggregate?: "mean" | "max" } = {},
  ): Promise<LongTagging> {
    const { aggregate = "mean" } = options;
    if (aggregate !== "mean" && aggregate !== "max") {
      throw new PannsLitertError("audio", `aggregate ${String(aggregate)}; expected mean or max`);
    }
    const recording = recordingOf(sound, sampleRate);
    const found = recording.channels[0].length / recording.sampleRate;
    const stream = this.stream(recording.sampleRate, { hop: this.bundle.manifest.clipSeconds, ...options });
    const probs = new Float64Array(this.labels.length);
    const embedding = new Float64Array(embeddingSize(this.bundle.manifest));
    let [weight, covered, windows, windowsSkipped, paddingSeconds, frontEndMs, modelMs] = [0, 0, 0, 0, 0, 0, 0];
    const unusable: string[] = [];
    for await (const window of this.windowsOf(recording, parts(recording), stream, options.signal)) {
      paddingSeconds = window.paddingSeconds;
      frontEndMs += window.frontEndMs;
      if (window.unusable !== null) {
        windowsSkipped++;
        unusable.push(window.unusable);
        continue;
      }
      const added = window.end - Math.max(window.start, covered);
      for (let i = 0; i < probs.length; i++) {
        probs[i] = aggregate === "mean" ? probs[i] + added * window.probs[i] : Math.max(probs[i], window.probs[i]);
      }
      for (let i = 0; i < embedding.length; i++) embedding[i] += added * window.embedding[i];
      weight += added;
      covered = window.end;
      modelMs += window.modelMs;
      windows++;
    }
    if (windows === 0) {
      const why = unusable[0] ?? "no samples";
      throw new PannsLitertError("audio", `${named(recording.source)}${why}; expected at least one usable window`);
    }
    const scores = Float32Array.from(probs, (value) => (aggregate === "mean" ? value / weight : value));
    return {
      source: recording.source,
      model: this.bundle.manifest.model,
      engine: this.engine,
      fallback: this.fallback,
      seconds: Math.max(recording.seconds, found),
      secondsHeard: found,
      paddingSeconds,
      warnings: [...recording.warnings, ...unusable.slice(0, 1), ...stream.warnings],
      tags: topTags(this.labels, scores, options),
      probs: scores,
      embedding: Float32Array.from(embedding, (value) => value / weight),
      windows,
      windowsSkipped,
      frontEndMs,
      modelMs,
    };
  }

  /**
   * Yields the windows of a whole recording one by one, by default without overlap. As for `tagLong`, the samples must
   * stay what they are until the end.
   */
  windows(sound: Sound, sampleRate?: number, options: WindowOptions = {}): AsyncGenerator<Window, void, void> {
    const recording = recordingOf(sound, sampleRate);
    const stream = this.stream(recording.sampleRate, { hop: this.bundle.manifest.clipSeconds, ...options });
    return this.windowsOf(recording, parts(recording), stream, options.signal);
  }

  /**
   * Yields the events of a whole recording, each as soon as it is final. As for `tagLong`, the samples must stay what
   * they are until the end.
   *
   * @param options hop: by default `eventHop`
   */
  async *findEvents(
    sound: Sound,
    sampleRate?: number,
    options: WindowOptions & { settings?: Partial<EventSettings> } = {},
  ): AsyncGenerator<SoundEvent, void, void> {
    const recording = recordingOf(sound, sampleRate);
    const stream = this.stream(recording.sampleRate, { hop: this.eventHop, ...options });
    const events = new EventStream(stream, options.settings);
    for await (const window of this.windowsOf(recording, parts(recording), stream, options.signal)) {
      yield* events.push(window);
    }
    yield* events.finish();
  }

  /** The default hop for events, seconds: half a window; at most 1 s if the network has no frame-wise scores. */
  get eventHop(): number {
    const { clipSeconds, outputs } = this.bundle.manifest;
    const framewise = outputs.some((output) => output.name === "framewise");
    return framewise ? clipSeconds / 2 : Math.min(HOP_SECONDS, clipSeconds / 2);
  }

  /** Starts a stream of live sound, in chunks of any size. */
  stream(sampleRate: number, options: StreamOptions = {}): StreamTagger {
    return new StreamTagger(this, sampleRate, options);
  }

  /**
   * Runs the bundle's self-test: its recording, compared with PyTorch's probabilities; without proof, the model's own.
   *
   * @throws PannsLitertError ("bundle") the bundle has none
   */
  async selfTest(): Promise<SelfTestResult> {
    const { manifest, selfTest, source } = this.bundle;
    if (selfTest === null) {
      throw new PannsLitertError("bundle", `${source} has no self-test; convert it again`);
    }
    const gate = this.engine === "webgpu" ? GPU_GATE : cpuGate(manifest);
    const result = { engine: this.engine, allowed: gate.maxAbs };
    try {
      const { probs, modelMs } = await this.tag(selfTest.samples, manifest.frontEnd.sampleRate);
      const { maxAbs, why } = compare(probs, selfTest.probs, gate);
      return { ...result, passed: why === "", largestDifference: maxAbs, why, modelMs };
    } catch (error) {
      return { ...result, passed: false, largestDifference: null, why: reason(error), modelMs: 0 };
    }
  }

  /**
   * Runs the graph once.
   *
   * @param input log-mel or samples, flat, as the manifest's input; copied before this returns
   * @throws PannsLitertError ("audio") the input is NaN or too large; ("engine") the model failed, or its outputs are
   *     not those of the manifest
   */
  run(input: Float32Array): Promise<Outputs> {
    const own = input.slice();
    const next = this.turn.then(() => this.runAlone(own));
    this.turn = next.catch(() => undefined);
    return next;
  }

  private async runAlone(input: Float32Array): Promise<Outputs> {
    const { manifest } = this.bundle;
    if (this.closed) throw new PannsLitertError("engine", "this tagger was closed; open another one");
    if (input.length !== sizeOf(manifest.inputs[0])) {
      throw new PannsLitertError(
        "engine",
        `input of ${input.length} values; expected ${manifest.inputs[0].shape.join(" × ")}`,
      );
    }
    if (!(peakOf(input) <= LARGEST_INPUT)) {
      throw new PannsLitertError("audio", "samples are far too large for the model; expected samples in [-1, 1]");
    }
    const outputs = await this.ran.run(input);
    for (const tensor of manifest.outputs) {
      const found = outputs[tensor.name]?.length ?? 0;
      if (found !== sizeOf(tensor)) {
        throw new PannsLitertError(
          "engine",
          `${this.engine}: ${tensor.name} of ${found} values; expected ${sizeOf(tensor)}`,
        );
      }
    }
    if (!outputs.probs.every((prob) => prob >= 0 && prob <= 1)) {
      throw new PannsLitertError("engine", `${this.engine}: probabilities outside 0 … 1; use another accelerator`);
    }
    return outputs;
  }

  /** The model's input for a clip of which the first `used` samples are sound. */
  private inputOf(clip: Float32Array, used: number): Float32Array {
    if (this.logMel === null) return clip;
    const { spec } = this.logMel;
    // With padded frames, the time after the recording is not silence: the front end defines those frames.
    const length = spec.paddedFrames === null ? clip.length : Math.max(used, leastSamples(spec));
    return this.logMel.transform(clip.subarray(0, length));
  }

  private async *windowsOf(
    recording: Recording,
    sound: Iterable<Float32Array[]>,
    stream: StreamTagger,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Window, void, void> {
    const next = async () => {
      await breathe();
      signal?.throwIfAborted();
    };
    await next();
    for (const part of sound) {
      for (const window of await inNameOf(recording, () => stream.push(part))) {
        yield window;
        await next();
      }
      await next();
    }
    for (const window of await stream.finish()) yield window;
  }
}

/**
 * The classes with the highest scores, highest first.
 *
 * @throws PannsLitertError ("audio") an option is out of range, or there is not one score for each label
 */
export function topTags(labels: readonly string[], scores: Float32Array, options: TagOptions = {}): Tag[] {
  const { top = 10, threshold = 0 } = options;
  if (top !== null && !(Number.isInteger(top) && top >= 1)) {
    throw new PannsLitertError("audio", `top = ${top}; expected a whole number ≥ 1, or null for all`);
  }
  if (!(threshold >= 0 && threshold <= 1)) {
    throw new PannsLitertError("audio", `threshold = ${threshold}; expected a number, 0 … 1`);
  }
  if (scores.length !== labels.length) {
    throw new PannsLitertError("audio", `${scores.length} scores; expected ${labels.length}, one for each label`);
  }
  return labels
    .map((label, index) => ({ label, index, score: scores[index] }))
    .filter((tag) => tag.score >= threshold)
    .sort((a, b) => b.score - a.score)
    .slice(0, top ?? undefined);
}

async function openWebGpu(bundle: Bundle, options: TaggerOptions): Promise<Tagger> {
  const tagger = new Tagger(bundle, await LiteRtEngine.open(bundle, "webgpu", options));
  try {
    // In float16 without the feature `shader-f16`, WebGPU returns zeros and reports success.
    const test = await tagger.selfTest();
    if (test.passed) return tagger;
    throw new PannsLitertError("engine", `WebGPU fails the self-test: ${test.why}`);
  } catch (error) {
    tagger.close();
    throw error;
  }
}

/** The samples of a recording in parts of all channels, as views. */
function parts({ channels, source }: Recording): Iterable<Float32Array[]> {
  const { length } = channels[0];
  return (function* () {
    for (let at = 0; at < length; at += PART) {
      // An array that was sent to a worker has no samples any more.
      if (channels.some((channel) => channel.length !== length)) {
        throw new PannsLitertError(
          "audio",
          `${named(source)}the samples were taken away meanwhile; expected them to stay: send a copy to the worker`,
        );
      }
      yield channels.map((channel) => channel.subarray(at, at + PART));
    }
  })();
}

/** Copies as many values as there is room for, and returns their number. */
function copy(values: Float32Array, into: Float32Array, at: number): number {
  const count = Math.min(values.length, into.length - at);
  into.set(values.subarray(0, count), at);
  return count;
}

/** Puts the name of the recording in front of an error about its samples. */
function inNameOf<T>(recording: Recording, work: () => T): T {
  const renamed = (error: unknown): never => {
    if (error instanceof PannsLitertError && error.kind === "audio" && recording.source) {
      throw new PannsLitertError("audio", `${recording.source}: ${error.message}`, { cause: error });
    }
    throw error;
  };
  try {
    const result = work();
    return result instanceof Promise ? (result.catch(renamed) as T) : result;
  } catch (error) {
    return renamed(error);
  }
}

/** Lets other work of the page or worker run, without the delay of a timer. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
