import { PannsLitertError } from "../errors.js";
import { Resampler } from "./resampler.js";
import { channelsOf } from "./sound.js";

/** Peak of samples that are still taken to be within full scale, 1, and too loud. */
export const LOUDEST = 2.5;

// More samples than this share, and than this number, beyond full scale are a wrong scale; fewer are single faults.
const WRONG_SCALE = 0.01;
const FAULTS = 16;
const MOST_SCALE = 2 ** 32; // twice the full scale of 32 bits
const SPARSE = 8; // every so many samples are enough to compare the power of channels
const CANCELLED_DB = 20; // below the loudest channel: there, the channels cancel each other

/**
 * Converts a stream of samples to mono at another rate: the mean of the channels, then a `Resampler`. The result does
 * not depend on the chunks.
 *
 * Samples that cannot be used (NaN, Inf, single ones beyond ±2.5) are NaN in the result, and so are the resampled
 * samples of that time. The samples around them are as if they were 0.
 */
export class MonoResampler {
  private readonly resampler: Resampler;
  private unusable: { first: number; end: number }[] = []; // until all samples of that time were returned
  private taken = 0;
  private returned = 0;
  private peak = 0;
  private powers: number[] = []; // of each channel
  private mixed = 0; // power of their mean
  private over = false; // whether the stream has ended, of which `warnings` still tells

  /** @param fromRate, toRate Hz, as for `Resampler` */
  constructor(fromRate: number, toRate: number) {
    this.resampler = new Resampler(fromRate, toRate);
  }

  /**
   * Takes the next samples, nominally within [-1, 1], and returns the mono samples that are ready.
   *
   * @throws PannsLitertError ("audio") channels of different lengths, or samples of another scale. They are ignored
   */
  push(sound: Float32Array | Float32Array[]): Float32Array {
    const channels = channelsOf(sound);
    const peak = peakOf(...channels);
    this.requireScale(channels, peak);
    const mono = mean(channels);
    if (this.over) {
      this.over = false;
      this.peak = this.mixed = 0;
      this.powers = [];
    }
    if (peak <= LOUDEST) {
      this.peak = Math.max(this.peak, peak);
      this.compare(channels, mono);
    } else {
      this.clean(channels, mono);
    }
    this.taken += mono.length;
    return this.marked(this.resampler.push(mono));
  }

  /** Ends the stream and returns the remaining samples. The next push begins another stream. */
  finish(): Float32Array {
    const rest = this.marked(this.resampler.finish());
    this.unusable = [];
    this.taken = this.returned = 0;
    this.over = true;
    return rest;
  }

  /**
   * What was noticed in the samples of the stream so far: too loud, or channels that cancel each other. After its end,
   * of the whole stream, until the next one begins.
   */
  get warnings(): string[] {
    const found: string[] = [];
    if (this.peak > 1.001) found.push(`samples reach ${this.peak.toFixed(2)} of full scale; expected at most 1`);
    const loudest = Math.max(0, ...this.powers);
    if (loudest > 0 && this.mixed < loudest * 10 ** (-CANCELLED_DB / 10)) {
      const below = this.mixed > 0 ? `${Math.round(10 * Math.log10(loudest / this.mixed))} dB` : "far";
      const best = this.powers.indexOf(loudest) + 1;
      found.push(
        `channels cancel each other: their mean is ${below} below channel ${best}; give channel ${best} alone`,
      );
    }
    return found;
  }

  private requireScale(channels: Float32Array[], peak: number): void {
    if (peak <= LOUDEST) return;
    let loud = 0;
    let most = 0;
    for (const channel of channels) {
      for (const sample of channel) {
        const size = Math.abs(sample);
        if (size > LOUDEST && size < Infinity) {
          loud++;
          most = Math.max(most, size);
        }
      }
    }
    if (loud > Math.max(FAULTS, WRONG_SCALE * channels.length * channels[0].length) && most <= MOST_SCALE) {
      throw new PannsLitertError("audio", `samples reach ${most.toPrecision(6)}; expected samples in [-1, 1]`);
    }
  }

  /** Replaces samples that cannot be used by 0, so that they do not spread, and remembers where they are. */
  private clean(channels: Float32Array[], mono: Float32Array): void {
    for (let i = 0; i < mono.length; i++) {
      if (channels.every((channel) => Math.abs(channel[i]) <= LOUDEST)) continue;
      mono[i] = 0;
      const at = this.taken + i;
      const last = this.unusable[this.unusable.length - 1];
      if (last?.end === at) last.end = at + 1;
      else this.unusable.push({ first: at, end: at + 1 });
    }
  }

  private marked(samples: Float32Array): Float32Array {
    const { fromRate, toRate } = this.resampler;
    for (const { first, end } of this.unusable) {
      const from = Math.floor((first * toRate) / fromRate) - this.returned;
      const until = Math.ceil((end * toRate) / fromRate) - this.returned;
      if (until > 0) samples.fill(NaN, Math.max(0, from), until);
    }
    this.returned += samples.length;
    this.unusable = this.unusable.filter(({ end }) => (end * toRate) / fromRate > this.returned);
    return samples;
  }

  /** Adds up the power of each channel and of their mean, of a part of the samples. */
  private compare(channels: Float32Array[], mono: Float32Array): void {
    if (channels.length === 1) return;
    if (this.powers.length !== channels.length) {
      this.powers = channels.map(() => 0);
      this.mixed = 0;
    }
    for (let i = 0; i < mono.length; i += SPARSE) {
      this.mixed += mono[i] ** 2;
      for (let c = 0; c < channels.length; c++) this.powers[c] += channels[c][i] ** 2;
    }
  }
}

/** The place of the first NaN, which stands for a sample that cannot be used; −1 if there is none. */
export function indexOfNaN(samples: Float32Array): number {
  for (let i = 0; i < samples.length; i++) if (samples[i] !== samples[i]) return i;
  return -1;
}

/** The largest size of a sample; Infinity if one is NaN. */
export function peakOf(...channels: Float32Array[]): number {
  let peak = 0;
  for (const channel of channels) {
    for (let i = 0; i < channel.length; i++) {
      const size = Math.abs(channel[i]);
      if (!(size <= peak)) peak = size > peak ? size : Infinity; // NaN is not ≤ anything
    }
  }
  return peak;
}

function mean(channels: Float32Array[]): Float32Array {
  const mono = channels[0].slice();
  if (channels.length === 1) return mono;
  for (const channel of channels.slice(1)) for (let i = 0; i < mono.length; i++) mono[i] += channel[i];
  const share = 1 / channels.length;
  for (let i = 0; i < mono.length; i++) mono[i] *= share;
  return mono;
}
