/** What a person should know about a recording's sound before they believe its tags. */

import { levelDbfs, type Recording } from "panns-litert";

/** Below this level there is nothing to tag, dB of full scale; Python's gate. */
const SILENT_DBFS = -60;
/** As many neighbouring samples at full scale are clipping. */
const CLIPPED_RUN = 3;
const FULL_SCALE = 0.999;

/** Returns one phrase for each thing: silence, clipping. */
export function noticed({ channels, sampleRate }: Recording): string[] {
  const found: string[] = [];
  const level = Math.max(...channels.map(levelDbfs));
  if (level === -Infinity) found.push("digital silence: nothing was recorded, and the tags mean nothing");
  else if (level < SILENT_DBFS) found.push(`very quiet, ${level.toFixed(0)} dB of full scale: the tags mean little`);
  const clipped = Math.max(...channels.map(clippedSamples)) / sampleRate;
  const length = clipped < 0.01 ? "less than 10 ms" : `${clipped.toFixed(2)} s`;
  if (clipped > 0) found.push(`clipped for ${length}: it was recorded too loud`);
  return found;
}

function clippedSamples(samples: Float32Array): number {
  let clipped = 0;
  let run = 0;
  for (let i = 0; i <= samples.length; i++) {
    if (i < samples.length && (samples[i] >= FULL_SCALE || samples[i] <= -FULL_SCALE)) run++;
    else {
      if (run >= CLIPPED_RUN) clipped += run;
      run = 0;
    }
  }
  return clipped;
}
