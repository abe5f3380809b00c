import { PannsLitertError } from "../errors.js";
import { PowerSpectrum } from "./fft.js";
import { melBasis } from "./mel.js";
import { bins, filledFrames, framesOf, leastSamples, requireSpec, type FrontEndSpec } from "./spec.js";

/**
 * Computes the log-mel of waveforms in float64, as `FrontEndSpec` defines it.
 *
 * ```ts
 * const logmel = new LogMel(bundle.manifest.frontEnd).transform(samples); // frames × nMels, row-major
 * ```
 */
export class LogMel {
  /** Length of a frame of the signal, samples. */
  readonly frameLength: number;
  private readonly spectrum: PowerSpectrum;
  private readonly window: Float64Array;
  private readonly frame: Float64Array;
  private readonly power: Float64Array;
  private readonly filters: { low: number; weights: Float64Array }[];
  private readonly floor: number;
  private readonly filler: number;

  /**
   * @param basis mel basis, nMels × (nFft / 2 + 1), row-major; computed from the spec if not given
   * @throws PannsLitertError ("spec") the spec is not implemented, or the basis has another shape or holds NaN or Inf
   */
  constructor(
    readonly spec: FrontEndSpec,
    basis: Float32Array = melBasis(requireSpec(spec)),
  ) {
    requireSpec(spec);
    const count = bins(spec);
    if (basis.length !== spec.nMels * count) {
      throw new PannsLitertError("spec", `mel basis of ${basis.length} values; expected ${spec.nMels} × ${count}`);
    }
    if (!basis.every(Number.isFinite)) {
      throw new PannsLitertError("spec", "mel basis holds NaN or Inf; expected finite weights");
    }
    this.frameLength = spec.center ? spec.nFft : spec.winLength;
    this.spectrum = new PowerSpectrum(spec.nFft);
    this.window = hann(spec.winLength, this.frameLength, spec.window === "hann_symmetric");
    this.frame = new Float64Array(spec.nFft);
    this.power = new Float64Array(count);
    this.filters = Array.from({ length: spec.nMels }, (_, m) => {
      const row = Float64Array.from(basis.subarray(m * count, (m + 1) * count));
      const low = Math.max(0, row.findIndex((weight) => weight !== 0));
      let high = count;
      while (high > low && row[high - 1] === 0) high--;
      return { low, weights: row.slice(low, high) };
    });
    this.floor = spec.log === "ln" ? Math.log(spec.amin) : 10 * Math.log10(spec.amin);
    this.filler = this.affine(0);
  }

  /** Number of frames of a waveform of `samples` samples. */
  frames(samples: number): number {
    return framesOf(this.spec, samples);
  }

  /**
   * @param samples mono, at the spec's rate, nominally within [-1, 1], at least `leastSamples`. NaN or Inf gives NaN
   * @returns frames × nMels, row-major, in the unit that the spec defines
   * @throws PannsLitertError ("audio") too short a waveform
   */
  transform(samples: Float32Array): Float32Array {
    const { spec } = this;
    const least = leastSamples(spec);
    if (samples.length < least) {
      throw new PannsLitertError(
        "audio",
        `waveform of ${samples.length} samples; expected at least ${least}; pad it with zeros`,
      );
    }
    const signal = reflected(this.emphasised(samples), spec.center ? spec.nFft / 2 : 0);
    const out = new Float32Array(this.frames(samples.length) * spec.nMels);
    const filled = filledFrames(spec, samples.length);
    for (let t = 0; t < filled; t++) this.frameAt(signal, t * spec.hopLength, out, t * spec.nMels);
    return this.fill(out, filled * spec.nMels);
  }

  /** The waveform after the pre-emphasis that comes before frames are cut; else a copy. */
  emphasised(samples: Float32Array): Float64Array {
    const { center, preEmphasis } = this.spec;
    if (!center || preEmphasis === 0) return new Float64Array(samples);
    const out = new Float64Array(Math.max(0, samples.length - 1));
    for (let i = 0; i < out.length; i++) out[i] = samples[i + 1] - preEmphasis * samples[i];
    return out;
  }

  /** Writes frames that no samples fill, from value `from` of `out` on: 0 before the affine step. */
  fill(out: Float32Array, from: number): Float32Array {
    return out.fill(this.filler, from);
  }

  /** Writes nMels values of the frame that begins at sample `at` of an emphasised and padded signal. */
  frameAt(signal: Float64Array, at: number, out: Float32Array, outAt: number): void {
    const { spec, frame, window, power, filters, frameLength } = this;
    if (spec.removeDc) {
      this.kaldiFrame(signal, at);
    } else {
      for (let i = 0; i < frameLength; i++) frame[i] = signal[at + i] * window[i];
    }
    this.spectrum.of(frame, power);
    for (let m = 0; m < filters.length; m++) {
      const { low, weights } = filters[m];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * power[low + k];
      out[outAt + m] = this.affine(this.logarithm(sum));
    }
  }

  /** Mean removal and pre-emphasis inside the frame; its first sample is repeated before it. */
  private kaldiFrame(signal: Float64Array, at: number): void {
    const { frame, window, frameLength, spec } = this;
    let mean = 0;
    for (let i = 0; i < frameLength; i++) mean += signal[at + i];
    mean /= frameLength;
    let before = signal[at] - mean;
    for (let i = 0; i < frameLength; i++) {
      const value = signal[at + i] - mean;
      frame[i] = (value - spec.preEmphasis * before) * window[i];
      before = value;
    }
  }

  private logarithm(mel: number): number {
    const { amin, log, logOffset } = this.spec;
    if (logOffset !== null) return Math.log(mel + logOffset);
    if (mel <= amin) return this.floor;
    return log === "ln" ? Math.log(mel) : 10 * Math.log10(mel);
  }

  private affine(value: number): number {
    const { affine } = this.spec;
    return affine === null ? value : (value + affine[0]) / affine[1];
  }
}

/** The periodic or symmetric Hann window of `length` samples, centred in `paddedTo` samples. */
function hann(length: number, paddedTo: number, symmetric: boolean): Float64Array {
  const period = symmetric ? Math.max(length - 1, 1) : length;
  const window = new Float64Array(paddedTo);
  const left = Math.floor((paddedTo - length) / 2);
  for (let i = 0; i < length; i++) window[left + i] = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / period);
  return window;
}

/** A signal with `count` reflected samples at both ends, without repeating the first and the last one. */
function reflected(signal: Float64Array, count: number): Float64Array {
  if (count === 0) return signal;
  const { length } = signal;
  const out = new Float64Array(length + 2 * count);
  out.set(signal, count);
  for (let i = 1; i <= count; i++) {
    out[count - i] = signal[i];
    out[count + length - 1 + i] = signal[length - 1 - i];
  }
  return out;
}
