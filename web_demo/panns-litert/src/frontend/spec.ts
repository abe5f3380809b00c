import { PannsLitertError, shown } from "../errors.js";
import type { StrictJson } from "../strict.js";

/**
 * All settings that define a log-mel; those of `FrontEndSpec` in the Python runtime, where each is explained.
 *
 * Three definitions are implemented: that of PANNs (torchlibrosa), of EfficientAT, and of AST (Kaldi's fbank).
 */
export interface FrontEndSpec {
  /** Hz. */
  readonly sampleRate: number;
  /** Length of the FFT, samples: a power of two. */
  readonly nFft: number;
  /** Length of the window, samples, ≤ nFft. */
  readonly winLength: number;
  /** Samples from one frame to the next. */
  readonly hopLength: number;
  readonly nMels: number;
  /** Lowest and highest band edge, Hz. */
  readonly fmin: number;
  readonly fmax: number;
  readonly window: "hann" | "hann_symmetric";
  /** Whether frame t is centred on sample t · hopLength, with reflected ends; else frames lie whole in the waveform. */
  readonly center: boolean;
  readonly padMode: "reflect";
  readonly power: number;
  readonly melScale: "slaney" | "kaldi";
  readonly melNorm: "slaney" | null;
  readonly log: "10log10" | "ln";
  /** Floor of the mel power. */
  readonly amin: number;
  /** Added to the mel power under the logarithm. */
  readonly logOffset: number | null;
  /** Coefficient a of x[t + 1] − a·x[t]; 0 for none. */
  readonly preEmphasis: number;
  /** (offset, scale) of (log-mel + offset) / scale. */
  readonly affine: readonly [number, number] | null;
  /** Whether the mean of each frame is subtracted. */
  readonly removeDc: boolean;
  /** Number of frames for every length of waveform; missing ones are 0 before the affine step. */
  readonly paddedFrames: number | null;
}

// The smallest and the largest normal number of float32.
const SMALLEST = 2 ** -126;
const LARGEST = (2 - 2 ** -23) * 2 ** 127;

/** The values that each definition implements. A mixture of two definitions is refused, because it is not tested. */
const CHOICES = { pad_mode: ["reflect"], power: [2], mel_scale: ["slaney", "kaldi"] };
const SLANEY = {
  center: [true], window: ["hann"], mel_norm: ["slaney"], log: ["10log10"], log_offset: [null], pre_emphasis: [0],
  affine: [null], remove_dc: [false], padded_frames: [null],
};
const KALDI = { center: [true, false], window: ["hann_symmetric"], mel_norm: [null], log: ["ln"] };
const KALDI_CENTRED = { amin: [0], remove_dc: [false], padded_frames: [null] };
const KALDI_WHOLE = { log_offset: [null], remove_dc: [true] };

/** Number of frequency bins, nFft / 2 + 1. */
export const bins = (spec: FrontEndSpec): number => spec.nFft / 2 + 1;

/** Length of the shortest waveform, samples. Reflection needs nFft / 2 + 1; pre-emphasis one more. */
export function leastSamples(spec: FrontEndSpec): number {
  return spec.center ? bins(spec) + lostSamples(spec) : spec.winLength;
}

/** Length of the longest waveform that is not cut off, samples; Infinity if there is no limit. */
export function mostSamples(spec: FrontEndSpec): number {
  return spec.paddedFrames === null ? Infinity : spec.winLength + spec.paddedFrames * spec.hopLength - 1;
}

/** Number of frames that a waveform of `samples` ≥ leastSamples samples fills. */
export function filledFrames(spec: FrontEndSpec, samples: number): number {
  if (spec.center) return Math.floor((samples - lostSamples(spec)) / spec.hopLength) + 1;
  const whole = Math.floor((samples - spec.winLength) / spec.hopLength) + 1;
  return Math.min(whole, spec.paddedFrames ?? whole);
}

/** Number of frames of a waveform of `samples` ≥ leastSamples samples. */
export function framesOf(spec: FrontEndSpec, samples: number): number {
  return spec.paddedFrames ?? filledFrames(spec, samples);
}

const lostSamples = (spec: FrontEndSpec): number => (spec.center && spec.preEmphasis > 0 ? 1 : 0);

/** Reads a spec from a manifest. Every field is required. */
export function readSpec(json: StrictJson): FrontEndSpec {
  return requireSpec({
    sampleRate: json.int("sample_rate"),
    nFft: json.int("n_fft"),
    winLength: json.int("win_length"),
    hopLength: json.int("hop_length"),
    nMels: json.int("n_mels"),
    fmin: json.number("fmin"),
    fmax: json.number("fmax"),
    window: json.string("window") as FrontEndSpec["window"],
    center: json.boolean("center"),
    padMode: json.string("pad_mode") as FrontEndSpec["padMode"],
    power: json.number("power"),
    melScale: json.string("mel_scale") as FrontEndSpec["melScale"],
    melNorm: json.optional("mel_norm", (j, name) => j.string(name)) as FrontEndSpec["melNorm"],
    log: json.string("log") as FrontEndSpec["log"],
    amin: json.number("amin"),
    logOffset: json.optional("log_offset", (j, name) => j.number(name)),
    preEmphasis: json.number("pre_emphasis"),
    affine: json.optional("affine", (j, name) => j.numbers(name)) as FrontEndSpec["affine"],
    removeDc: json.boolean("remove_dc"),
    paddedFrames: json.optional("padded_frames", (j, name) => j.int(name)),
  });
}

/**
 * Checks a spec and returns it.
 *
 * @throws PannsLitertError ("spec") a value is out of range, or is not implemented in that definition
 */
export function requireSpec(spec: FrontEndSpec): FrontEndSpec {
  const refuse = (why: string): never => {
    throw new PannsLitertError("spec", `front end: ${why}`);
  };
  const values: Record<string, unknown> = {
    sample_rate: spec.sampleRate, n_fft: spec.nFft, win_length: spec.winLength, hop_length: spec.hopLength,
    n_mels: spec.nMels, fmin: spec.fmin, fmax: spec.fmax, window: spec.window, center: spec.center,
    pad_mode: spec.padMode, power: spec.power, mel_scale: spec.melScale, mel_norm: spec.melNorm, log: spec.log,
    amin: spec.amin, log_offset: spec.logOffset, pre_emphasis: spec.preEmphasis, affine: spec.affine,
    remove_dc: spec.removeDc, padded_frames: spec.paddedFrames,
  };
  const allowed = (choices: Record<string, readonly unknown[]>, where: string) => {
    for (const [name, options] of Object.entries(choices)) {
      if (options.includes(values[name])) continue;
      refuse(`${name} = ${shown(values[name])} is not implemented${where}; expected ${options.map(shown).join(", ")}`);
    }
  };
  for (const name of ["sample_rate", "n_fft", "win_length", "hop_length", "n_mels"]) {
    if (!isCount(values[name])) refuse(`${name} = ${shown(values[name])}; expected a whole number ≥ 1`);
  }
  for (const name of ["fmin", "fmax", "amin"]) {
    if (!isFinite(values[name])) refuse(`${name} = ${shown(values[name])}; expected a finite number`);
  }
  if (!(spec.nFft >= 2 && Number.isInteger(Math.log2(spec.nFft)))) {
    refuse(`n_fft = ${spec.nFft}; expected a power of two, at least 2`);
  }
  if (spec.winLength > spec.nFft) refuse(`win_length = ${spec.winLength}; expected at most n_fft = ${spec.nFft}`);
  const nyquist = spec.sampleRate / 2;
  if (!(spec.fmin >= 0 && spec.fmin < spec.fmax && spec.fmax <= nyquist)) {
    refuse(`fmin = ${spec.fmin}, fmax = ${spec.fmax}; expected 0 ≤ fmin < fmax ≤ ${nyquist} (half the sample rate)`);
  }
  allowed(CHOICES, "");
  allowed(spec.melScale === "slaney" ? SLANEY : KALDI, ` with mel_scale = ${spec.melScale}`);
  if (spec.melScale === "kaldi") {
    allowed(spec.center ? KALDI_CENTRED : KALDI_WHOLE, ` with center = ${spec.center}`);
    if (spec.center && !isFinite(spec.logOffset)) refuse(`log_offset = ${spec.logOffset}; expected a number > 0`);
    if (spec.paddedFrames !== null && !isCount(spec.paddedFrames)) {
      refuse(`padded_frames = ${shown(spec.paddedFrames)}; expected a whole number ≥ 1, or none`);
    }
    if (!(spec.preEmphasis > 0 && spec.preEmphasis < 1)) {
      refuse(`pre_emphasis = ${spec.preEmphasis}; expected a number between 0 and 1`);
    }
    const pair = spec.affine;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every(isFinite) || !(pair[1] >= SMALLEST)) {
      refuse(`affine = ${shown(pair)}; expected (offset, scale), two numbers, scale > 0`);
    }
  }
  const [name, least] = spec.logOffset === null ? ["amin", spec.amin] : ["log_offset", spec.logOffset];
  if (!(least >= SMALLEST)) refuse(`${name} = ${least}; expected ≥ ${SMALLEST.toPrecision(3)}`);
  return spec;
}

const isCount = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 1 && Number(value) < 2 ** 31;
const isFinite = (value: unknown): boolean => typeof value === "number" && Math.abs(value) <= LARGEST;
