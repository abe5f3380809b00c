/** The log-mel that the model hears, as columns of decibels for a picture. */

import { LogMel, Resampler, StreamingLogMel, type FrontEndSpec } from "panns-litert";
import type { Columns } from "./protocol.js";

/**
 * Turns samples of any rate into columns of the log-mel, block by block.
 *
 * @param spec the model's front end
 * @param sampleRate of the samples, Hz
 * @param stride frames per column; a column is the loudest of them in every band
 */
export class Spectrogram {
  private readonly logmel: StreamingLogMel;
  private readonly resampler: Resampler;
  private frames: Float32Array = new Float32Array(0);
  private any = false;

  constructor(
    private readonly spec: FrontEndSpec,
    sampleRate: number,
    private readonly stride: number,
  ) {
    this.logmel = new StreamingLogMel(new LogMel(spec));
    this.resampler = new Resampler(sampleRate, spec.sampleRate);
  }

  /** @param channels one array per channel, of one length */
  push(channels: Float32Array[]): Columns {
    return this.columns(this.framesOf(this.resampler.push(mean(channels))), false);
  }

  /** The columns at the end; none if the sound was too short for a frame. */
  finish(): Columns {
    const frames = [this.framesOf(this.resampler.finish())];
    if (this.any) frames.push(this.logmel.finish());
    return this.columns(joined(frames), true);
  }

  private framesOf(samples: Float32Array): Float32Array {
    const frames = this.logmel.push(samples);
    this.any ||= frames.length > 0;
    return frames;
  }

  private columns(more: Float32Array, last: boolean): Columns {
    const { stride, spec } = this;
    const { nMels, hopLength, sampleRate } = spec;
    const frames = joined([this.frames, more]);
    const whole = frames.length / nMels / stride;
    const count = last ? Math.ceil(whole) : Math.floor(whole);
    const values = new Float32Array(count * nMels).fill(-Infinity);
    for (let i = 0; i < Math.min(frames.length, count * stride * nMels); i++) {
      const at = Math.floor(i / nMels / stride) * nMels + (i % nMels);
      values[at] = Math.max(values[at], this.decibels(frames[i]));
    }
    this.frames = frames.slice(count * stride * nMels);
    return { values, mels: nMels, secondsPerColumn: (stride * hopLength) / sampleRate };
  }

  private decibels(value: number): number {
    const { affine, log } = this.spec;
    const plain = affine ? value * affine[1] - affine[0] : value;
    return log === "ln" ? (10 / Math.LN10) * plain : plain;
  }
}

/** The mean of the channels, with 0 for what is not a number. */
function mean(channels: Float32Array[]): Float32Array {
  return channels[0].map((_, i) => {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    return Number.isFinite(sum) ? sum / channels.length : 0;
  });
}

export function joined(parts: Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Where a frequency is among the mel bands: 0 at the bottom, 1 at the top. */
export function melPosition(hz: number, spec: FrontEndSpec): number {
  const mel = spec.melScale === "slaney" ? slaney : kaldi;
  return (mel(hz) - mel(spec.fmin)) / (mel(spec.fmax) - mel(spec.fmin));
}

function slaney(hz: number): number {
  return hz < 1000 ? (3 * hz) / 200 : 15 + (27 * Math.log(hz / 1000)) / Math.log(6.4);
}

function kaldi(hz: number): number {
  return 1127 * Math.log(1 + hz / 700);
}
