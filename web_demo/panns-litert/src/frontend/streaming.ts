import { PannsLitertError } from "../errors.js";
import { LogMel } from "./logmel.js";

/**
 * Computes the log-mel of a stream: each frame once, as soon as its samples have arrived. Chunks of any size give the
 * same frames as `LogMel` for the whole stream. `paddedFrames` is ignored, because a stream has no fixed length.
 */
export class StreamingLogMel {
  private raw: Float32Array = new Float32Array(0); // the newest sample, which pre-emphasis needs for the next one
  private signal: Float64Array = new Float64Array(0); // samples from the next frame's start on
  private tail: Float64Array = new Float64Array(0); // the newest samples, which are reflected at the end
  private pending = 0; // samples to skip before the next frame starts
  private begun = false; // whether the start has been reflected

  constructor(private readonly logMel: LogMel) {}

  /** Takes the next samples and returns the frames that they complete, frames × nMels. */
  push(samples: Float32Array): Float32Array {
    const { center, preEmphasis } = this.logMel.spec;
    if (!center || preEmphasis === 0) return this.take(new Float64Array(samples));
    const raw = new Float32Array(this.raw.length + samples.length);
    raw.set(this.raw);
    raw.set(samples, this.raw.length);
    this.raw = raw.slice(-1);
    return this.take(this.logMel.emphasised(raw));
  }

  /**
   * Ends the stream and returns the frames at its end. The next push begins another stream.
   *
   * @throws PannsLitertError ("audio") the stream was too short for a frame
   */
  finish(): Float32Array {
    const { spec } = this.logMel;
    const half = spec.nFft / 2;
    const { begun, tail, signal } = this;
    const rest = spec.center && begun ? this.frames(tail.slice(-half - 1, -1).reverse()) : new Float32Array(0);
    Object.assign(this, new StreamingLogMel(this.logMel));
    if (spec.center && !begun) {
      throw new PannsLitertError(
        "audio",
        `a stream of ${signal.length} samples; expected at least ${half + 1}; pad it with zeros`,
      );
    }
    return rest;
  }

  private take(prepared: Float64Array): Float32Array {
    const { spec } = this.logMel;
    const half = spec.nFft / 2;
    if (!spec.center) return this.frames(prepared);
    this.tail = joined(this.tail, prepared).slice(-half - 1);
    if (this.begun) return this.frames(prepared);
    this.signal = joined(this.signal, prepared);
    if (this.signal.length <= half) return new Float32Array(0);
    this.begun = true;
    const begin = this.signal;
    this.signal = new Float64Array(0);
    return this.frames(joined(begin.slice(1, half + 1).reverse(), begin));
  }

  /** Appends samples after pre-emphasis and padding, and returns the frames that they complete. */
  private frames(prepared: Float64Array): Float32Array {
    const { hopLength, nMels } = this.logMel.spec;
    let signal = joined(this.signal, prepared);
    const skipped = Math.min(this.pending, signal.length);
    this.pending -= skipped;
    signal = signal.subarray(skipped);
    const count = Math.max(0, Math.floor((signal.length - this.logMel.frameLength) / hopLength) + 1);
    const out = new Float32Array(count * nMels);
    for (let t = 0; t < count; t++) this.logMel.frameAt(signal, t * hopLength, out, t * nMels);
    this.pending += Math.max(0, count * hopLength - signal.length);
    this.signal = signal.slice(count * hopLength);
    return out;
  }
}

function joined(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
