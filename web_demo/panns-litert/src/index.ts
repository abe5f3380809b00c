/**
 * Audio tagging in the browser, with the bundles that `panns-litert convert` writes.
 *
 * The sound's way: audio → frontend → engine → tagger → windows → events. The Python runtime (`panns_litert`) and the
 * Kotlin library have the same names, the same rules and the same test vectors.
 *
 * This file declares the public API; its parts follow.
 */

/** The one error of this package. Its message says what was wrong, what was expected and what to do. */
export declare class PannsLitertError extends Error {
  /** What could not be used. */
  readonly kind: "audio" | "bundle" | "engine" | "events" | "spec";
}

// ---- audio ----

/**
 * A decoded recording. Plain data: it can be sent to a worker.
 *
 * channels: one array per channel, all of one length, nominally within [-1, 1].
 * sampleRate: Hz, of `channels`.
 * seconds: length that the file claims; more than what `channels` hold if the file is truncated.
 * warnings: what was wrong with the file or is missing, one phrase each.
 * source: name of the file, for messages; "" if unknown.
 */
export interface Recording {
  channels: Float32Array[];
  sampleRate: number;
  seconds: number;
  warnings: string[];
  source: string;
}

/**
 * Decodes a file at the file's own rate. WAV: own reader, also in a worker. Everything else: the browser's decoder,
 * which a worker does not have; if the rate in the file's header is not found, a warning says at what rate it decoded.
 */
export declare function decode(file: Blob | ArrayBuffer, name?: string): Promise<Recording>;

/** Streaming sample rate conversion of a mono signal, as Kotlin's. Output n is at n / toRate seconds. */
export declare class Resampler {
  constructor(fromRate: number, toRate: number);
  push(samples: Float32Array): Float32Array;
  /** Ends the stream: the remaining samples. ⌈samples · toRate / fromRate⌉ in all. The next push begins a new stream. */
  finish(): Float32Array;
}

/** Samples with their rate, in any of the forms that the tagger takes: a recording, mono samples, or channels. */
export type Sound = Recording | Float32Array | Float32Array[];

// ---- frontend ----

export interface FrontEndSpec {
  readonly sampleRate: number;
  readonly nFft: number;
  readonly winLength: number;
  readonly hopLength: number;
  readonly nMels: number;
  readonly fmin: number;
  readonly fmax: number;
  readonly window: "hann" | "hann_symmetric";
  readonly center: boolean;
  readonly melScale: "slaney" | "kaldi";
  readonly log: "10log10" | "ln";
  readonly amin: number;
  readonly logOffset: number | null;
  readonly preEmphasis: number;
  readonly affine: readonly [number, number] | null;
  readonly removeDc: boolean;
  readonly paddedFrames: number | null;
}

/** Computes the log-mel of a waveform at the spec's rate. */
export declare class LogMel {
  readonly spec: FrontEndSpec;
  /** @param basis mel basis, nMels × (nFft / 2 + 1), row-major; computed from the spec if not given */
  constructor(spec: FrontEndSpec, basis?: Float32Array);
  /** Number of frames of a waveform. */
  frames(samples: number): number;
  /** Returns frames × nMels, row-major. */
  transform(samples: Float32Array): Float32Array;
}

// ---- bundle ----

export interface Manifest {
  readonly model: string;
  readonly network: string;
  readonly graph: "logmel" | "waveform";
  readonly precision: string;
  readonly clipSeconds: number;
  readonly frontEnd: FrontEndSpec;
  readonly source: { readonly licence: string; readonly attribution: string };
}

/** A bundle, every file of it checked: sizes, SHA-256, shapes. */
export declare class Bundle {
  readonly manifest: Manifest;
  /** Class names, in the order of the scores. */
  readonly labels: readonly string[];
  /**
   * @param from URL of the bundle's folder, or its files (a dropped folder; only the last part of each name counts)
   */
  static open(from: string | URL | Iterable<File>): Promise<Bundle>;
}

// ---- tagger ----

export interface Tag {
  label: string;
  index: number;
  score: number;
}

/** What every result has. Plain data: it can be sent from a worker to the page. */
export interface Result {
  model: string;
  /** "wasm" or "webgpu": what ran the model. */
  engine: Accelerator;
  /** Why not the accelerator that was asked for; null if it was. */
  fallback: string | null;
  /** Length of the recording; that of its header if greater than what was found. */
  seconds: number;
  /** Length of the usable sound that was tagged. */
  secondsHeard: number;
  /** Padding behind a recording that is shorter than the model's clip; else 0. */
  paddingSeconds: number;
  /** What was wrong with the recording or is missing, one phrase each. */
  warnings: string[];
  /** Highest score first, limited by `top` and `threshold`. */
  tags: Tag[];
  /** One probability per class, 0 … 1. */
  probs: Float32Array;
  embedding: Float32Array;
  frontEndMs: number;
  modelMs: number;
}

/** The result for the first clip of a recording. */
export interface Tagging extends Result {
  /** frames × classes, row-major; null if the network has none. */
  framewise: Float32Array | null;
  /** dB of full scale, without the mean; -Infinity for silence. */
  levelDbfs: number;
}

/** The result for a whole recording. */
export interface LongTagging extends Result {
  windows: number;
  windowsSkipped: number;
}

/** The result of one window of a recording or stream. Plain data. */
export interface Window {
  index: number;
  /** Seconds. In a recording shorter than a window, the window ends with the recording. */
  start: number;
  end: number;
  probs: Float32Array;
  embedding: Float32Array;
  /** frames × classes, row-major; null if the network has none. */
  framewise: Float32Array | null;
  /** frames × mels that the model heard, row-major; null unless asked for, or if the graph takes samples. */
  logmel: Float32Array | null;
  levelDbfs: number;
  paddingSeconds: number;
  /** Why the model was not run; null if it was. Then `probs` are zeros. */
  unusable: string | null;
  frontEndMs: number;
  modelMs: number;
}

export type Accelerator = "wasm" | "webgpu";

export interface TaggerOptions {
  /** "wasm" (default), or "webgpu", which is used only if the bundle's self-test passes on it; else wasm, and `fallback` says why. */
  accelerator?: Accelerator;
  /** Threads of wasm; more than 1 needs a cross-origin isolated page. Default 1. */
  threads?: number;
  /** URL of the folder with @litertjs/core's wasm files; must end with "/". */
  wasmPath?: string | URL;
}

export interface TagOptions {
  top?: number | null;
  threshold?: number;
}

export interface WindowOptions {
  /** Seconds from one window to the next; default: a window, without overlap. Streams: 1. */
  hop?: number;
  /** Called between windows; throw the signal's reason to stop. */
  signal?: AbortSignal;
  /** Whether each window carries its log-mel. */
  logmel?: boolean;
}

export declare class Tagger {
  readonly bundle: Bundle;
  readonly labels: readonly string[];
  readonly engine: Accelerator;
  readonly fallback: string | null;
  static open(bundle: Bundle, options?: TaggerOptions): Promise<Tagger>;
  /** Tags the first clip. `sampleRate` is required for samples, and ignored for a recording. */
  tag(sound: Sound, sampleRate?: number, options?: TagOptions): Promise<Tagging>;
  /** Tags the whole recording in windows. */
  tagLong(
    sound: Sound,
    sampleRate?: number,
    options?: TagOptions & WindowOptions & { aggregate?: "mean" | "max" },
  ): Promise<LongTagging>;
  windows(sound: Sound, sampleRate?: number, options?: WindowOptions): AsyncGenerator<Window>;
  findEvents(
    sound: Sound,
    sampleRate?: number,
    options?: WindowOptions & { settings?: Partial<EventSettings> },
  ): AsyncGenerator<SoundEvent>;
  /** A stream for live sound, in chunks of any size. Mono, or one array per channel. */
  stream(sampleRate: number, options?: Omit<WindowOptions, "signal">): StreamTagger;
  selfTest(): Promise<SelfTestResult>;
  close(): void;
}

export declare class StreamTagger {
  /** Lengths in seconds, after rounding to frames. */
  readonly window: number;
  readonly hop: number;
  readonly frame: number;
  readonly labels: readonly string[];
  /** Length of the stream so far. */
  readonly seconds: number;
  push(samples: Float32Array | Float32Array[]): Promise<Window[]>;
  finish(): Promise<Window[]>;
}

export interface SelfTestResult {
  passed: boolean;
  engine: Accelerator;
  /** Largest difference of a probability from PyTorch's; the bundle's threshold beside it. */
  largestDifference: number;
  threshold: number;
  /** Why it failed; "" if it passed. */
  why: string;
}

/** The classes with the highest scores, highest first. */
export declare function topTags(labels: readonly string[], scores: Float32Array, options?: TagOptions): Tag[];

// ---- events ----

/** Thresholds of events; the defaults are those of Python and Kotlin. */
export interface EventSettings {
  /** An event opens at a score ≥ on. Default 0.2. */
  on: number;
  /** It stays open while the score is ≥ off; null: half of on. */
  off: number | null;
  /** Seconds; shorter events are dropped. */
  minDuration: number;
  /** Seconds; events with at most this gap merge. */
  maxGap: number;
  /** By class name, other values for that class. */
  classes: Record<string, Partial<Omit<EventSettings, "classes">>>;
}

export interface SoundEvent {
  label: string;
  index: number;
  /** Seconds. */
  start: number;
  end: number;
  /** Highest score in it. */
  score: number;
}

export interface EventListener {
  /** An event began and has lasted for the minimum duration; `offset` follows every onset. */
  onset?(label: string, start: number): void;
  offset?(event: SoundEvent): void;
}

export declare class EventDetector {
  constructor(labels: readonly string[], settings?: Partial<EventSettings>, listener?: EventListener);
  push(scores: ArrayLike<number>, start: number, end: number): SoundEvent[];
  finish(): SoundEvent[];
}

/** Finds events in the windows of a stream. */
export declare class EventStream {
  constructor(
    stream: { window: number; hop: number; frame: number; labels: readonly string[] },
    settings?: Partial<EventSettings>,
    listener?: EventListener,
  );
  push(window: Window): SoundEvent[];
  finish(): SoundEvent[];
}

/** The events as CSV: start, end, label, index, score. */
export declare function eventsCsv(events: Iterable<SoundEvent>): string;
/** The events as an Audacity label track. */
export declare function audacityLabels(events: Iterable<SoundEvent>): string;
