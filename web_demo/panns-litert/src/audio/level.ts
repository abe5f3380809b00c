import { PannsLitertError } from "../errors.js";

// The share of its power that a constant may seem to vary by, because of rounding.
const ROUNDING = 1e-14;

/**
 * The level of samples in dB of full scale: 10·log10 of the mean square, without the mean of the samples (DC). A sine
 * of amplitude 1 is at −3.01 dB; a constant is at −Infinity.
 *
 * @throws PannsLitertError ("audio") no samples, or one of them is NaN or Inf
 */
export function levelDbfs(samples: Float32Array): number {
  if (samples.length === 0) throw new PannsLitertError("audio", "no samples; expected at least one");
  let sum = 0;
  for (let i = 0; i < samples.length; i++) sum += samples[i];
  const mean = sum / samples.length;
  if (!Number.isFinite(mean)) {
    throw new PannsLitertError("audio", "a sample is NaN or Inf; expected samples in [-1, 1]");
  }
  let spread = 0;
  for (let i = 0; i < samples.length; i++) spread += (samples[i] - mean) ** 2;
  const varying = spread / samples.length;
  return varying > ROUNDING * (varying + mean * mean) ? 10 * Math.log10(varying) : -Infinity;
}
