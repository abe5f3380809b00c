import { PannsLitertError } from "../errors.js";

/** Sample rates that are taken to be right, Hz. */
export const LEAST_RATE = 1000;
export const MOST_RATE = 768_000;

const CHUNK = 4096; // samples
const TRANSITION = 0.087; // width from passband to stopband, as a share of the lower Nyquist frequency
const STOP_DB = 120;
const BETA = 0.1102 * (STOP_DB - 8.7);
const MOST_PHASES = 2048; // at which interpolation between two filters of the table costs less than −125 dB

/**
 * Streaming sample rate conversion of a mono signal. The output is bit-identical for every division into chunks.
 *
 * The filter is a polyphase sinc with a Kaiser window (J. O. Smith, Digital Audio Resampling; Kaiser 1974). It has
 * linear phase and no delay: output sample n is at n / toRate seconds of the input. The gain is within 0.01 dB up to
 * 0.91 of the lower Nyquist frequency. Input components above the lower Nyquist frequency, and images above it in the
 * output, are below −115 dB. The passband is that of soxr's quality HQ, which the Python runtime uses. Images of
 * −85 dB are loud enough to change the tags of synthetic sounds.
 *
 * Rates with a small common divisor, such as 47999 and 32000 Hz, would need a filter for each of thousands of phases.
 * For them, the filter of a phase is interpolated linearly between the two next to it in a table.
 */
export class Resampler {
  private readonly up: number;
  private readonly down: number;
  private readonly scale: number; // the lower of the two rates, divided by the input rate
  private readonly half: number;
  private readonly phases: number;
  private readonly kernel: (Float64Array | undefined)[]; // filter taps by phase; made when first needed
  private readonly recent: Float32Array;
  private used: number;
  private recentStart: number;
  private received = 0;
  private produced = 0;

  /**
   * @param fromRate Hz, a whole number, 1000 … 768000
   * @param toRate Hz, likewise
   * @throws PannsLitertError ("audio") a rate is out of range
   */
  constructor(
    readonly fromRate: number,
    readonly toRate: number,
  ) {
    requireRate(fromRate);
    requireRate(toRate);
    const divisor = gcd(fromRate, toRate);
    this.up = toRate / divisor;
    this.down = fromRate / divisor;
    this.scale = Math.min(1, this.up / this.down);
    this.half = 2 * Math.ceil((STOP_DB - 7.95) / (2.285 * Math.PI * TRANSITION * this.scale) / 4); // 4 taps at a time
    // The filter of a lower cutoff is longer and smoother: it needs a table of fewer phases.
    this.phases = Math.min(this.up, Math.ceil(MOST_PHASES * this.scale));
    this.kernel = new Array<Float64Array | undefined>(this.phases + 1);
    this.recent = new Float32Array(2 * this.half + CHUNK);
    this.used = this.half - 1; // zeros before the first sample
    this.recentStart = 1 - this.half;
  }

  /** Takes the next samples and returns the output samples that are complete, about samples · toRate / fromRate. */
  push(samples: Float32Array): Float32Array {
    if (this.up === this.down) return samples.slice();
    const out = new Float32Array(this.available(this.received + samples.length - this.half) - this.produced);
    let taken = 0;
    let made = 0;
    while (taken < samples.length) {
      const piece = Math.min(samples.length - taken, this.recent.length - this.used);
      this.recent.set(samples.subarray(taken, taken + piece), this.used);
      taken += piece;
      this.received += piece;
      this.used += piece;
      made = this.produce(out, made, this.available(this.received - this.half));
    }
    return out;
  }

  /**
   * Ends the stream and returns the remaining output samples. In total there are ⌈samples · toRate / fromRate⌉. The
   * next push begins another stream.
   */
  finish(): Float32Array {
    if (this.up === this.down) return new Float32Array(0);
    const rest = this.push(new Float32Array(this.half)); // the filter of the last output reaches this far
    this.used = this.half - 1;
    this.recent.fill(0, 0, this.used);
    this.recentStart = 1 - this.half;
    this.received = 0;
    this.produced = 0;
    return rest;
  }

  /** The number of outputs whose last filter tap is before input sample `end` + half. */
  private available(end: number): number {
    return end <= 0 ? 0 : Math.floor((end * this.up + this.down - 1) / this.down);
  }

  private produce(out: Float32Array, from: number, until: number): number {
    const { recent, half, up, down, phases } = this;
    let made = from;
    for (; this.produced < until; this.produced++) {
      const position = this.produced * down;
      const first = Math.floor(position / up) - half + 1 - this.recentStart;
      const phase = ((position % up) * phases) / up;
      const row = Math.floor(phase);
      const beyond = phase - row; // 0 if there is a filter for each phase
      const sum = filtered(recent, first, this.taps(row));
      out[made++] = beyond === 0 ? sum : sum + beyond * (filtered(recent, first, this.taps(row + 1)) - sum);
    }
    const keep = Math.floor((this.produced * down) / up) - half + 1 - this.recentStart;
    recent.copyWithin(0, keep, this.used);
    this.used -= keep;
    this.recentStart += keep;
    return made;
  }

  private taps(phase: number): Float64Array {
    return (this.kernel[phase] ??= this.tapsAt(phase / this.phases));
  }

  /** The filter taps for an output that lies `fraction` of a sample after an input sample. Their sum is 1. */
  private tapsAt(fraction: number): Float64Array {
    const cutoff = this.scale * (1 - TRANSITION / 2);
    const taps = Float64Array.from({ length: 2 * this.half }, (_, k) => {
      const t = k - this.half + 1 - fraction;
      return cutoff * sinc(cutoff * t) * kaiser(t / this.half);
    });
    const sum = taps.reduce((total, tap) => total + tap, 0);
    return taps.map((tap) => tap / sum);
  }
}

/** Throws PannsLitertError unless a rate is a whole number within LEAST_RATE … MOST_RATE. */
export function requireRate(rate: number | undefined): void {
  if (!(Number.isInteger(rate) && rate! >= LEAST_RATE && rate! <= MOST_RATE)) {
    throw new PannsLitertError(
      "audio",
      `sample rate ${rate} Hz; expected a whole number, ${LEAST_RATE} … ${MOST_RATE}`,
    );
  }
}

/** The sum of taps · samples, from sample `first` on. */
function filtered(samples: Float32Array, first: number, taps: Float64Array): number {
  let [a, b, c, d] = [0, 0, 0, 0]; // four sums: an addition need not wait for the one before
  for (let k = 0, i = first; k < taps.length; k += 4, i += 4) {
    a += taps[k] * samples[i];
    b += taps[k + 1] * samples[i + 1];
    c += taps[k + 2] * samples[i + 2];
    d += taps[k + 3] * samples[i + 3];
  }
  return a + b + (c + d);
}

const sinc = (x: number): number => (Math.abs(x) < 1e-9 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const kaiser = (x: number): number => (Math.abs(x) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - x * x)) / BESSEL_OF_BETA);

/** The modified Bessel function I0, by its power series. */
function bessel(x: number): number {
  let sum = 1;
  for (let term = 1, k = 1; term > 1e-17 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

const BESSEL_OF_BETA = bessel(BETA);

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
