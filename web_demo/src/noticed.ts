/** What a person should know about a recording's sound before they believe its tags. */

import { levelDbfs, type Recording } from "panns-litert";

/** Below this level there is nothing to tag, dB of full scale; Python's gate. */
const SILENT_DBFS = -60;
/** As many neighbouring samples at full scale are clipping. */
const CLIPPED_RUN = 3;
const FULL_SCALE = 0.999;
/** NaN, Inf and samples beyond this cannot be used; the model's windows say where they are. */
const LOUDEST = 2.5;

/** Returns one phrase for each thing: a file that is cut, silence, clipping. */
export function noticed({ channels, sampleRate, seconds, warnings }: Recording): string[] {
  const found: string[] = [];
  // The package's warnings, if there are any, say it more precisely.
  const cut = seconds - channels[0].length / sampleRate > 0.05 && warnings.length === 0;
  if (cut) found.push("the file is shorter than it says");
  const usable = channels.map(usableOf).filter((samples) => samples.length > 0);
  if (usable.length === 0) return found;
  const level = Math.max(...usable.map(levelDbfs));
  if (level === -Infinity) found.push("digital silence: nothing was recorded, and the tags mean nothing");
  else if (level < SILENT_DBFS) found.push(`very quiet, ${level.toFixed(0)} dB of full scale: the tags mean little`);
  const clipped = Math.max(...channels.map(clippedSamples)) / sampleRate;
  const length = clipped < 0.01 ? "less than 10 ms" : `${clipped.toFixed(2)} s`;
  if (clipped > 0) found.push(`clipped for ${length}: it was recorded too loud`);
  return found;
}

function usableOf(samples: Float32Array): Float32Array {
  const isUsable = (sample: number) => Math.abs(sample) <= LOUDEST;
  return samples.every(isUsable) ? samples : samples.filter(isUsable);
}

function clippedSamples(samples: Float32Array): number {
  let clipped = 0;
  let run = 0;
  for (let i = 0; i <= samples.length; i++) {
    const size = i < samples.length ? Math.abs(samples[i]) : 0;
    if (size >= FULL_SCALE && size <= LOUDEST) run++;
    else {
      if (run >= CLIPPED_RUN) clipped += run;
      run = 0;
    }
  }
  return clipped;
}
