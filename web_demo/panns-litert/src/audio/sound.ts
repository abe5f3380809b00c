import { PannsLitertError } from "../errors.js";
import { requireRate } from "./resampler.js";

/** A decoded recording, as `decode` returns it. Plain data: it can be sent to a worker. */
export interface Recording {
  /** One array per channel, all of one length, nominally within [-1, 1]. */
  channels: Float32Array[];
  /** Hz, of `channels`. */
  sampleRate: number;
  /** Length that the file states, or that of `channels` if that is greater or none is stated. */
  seconds: number;
  /** What was wrong with the file or is missing, one phrase each. */
  warnings: string[];
  /** Name of the file for messages; "" if unknown. */
  source: string;
}

/** What the tagger takes: a recording, mono samples, or the samples of each channel. */
export type Sound = Recording | Float32Array | Float32Array[];

/**
 * Returns a sound as a recording.
 *
 * @param sampleRate Hz, of samples; ignored for a recording
 * @throws PannsLitertError ("audio") no samples, channels of different lengths, or a rate out of range
 */
export function recordingOf(sound: Sound, sampleRate?: number): Recording {
  if (sound instanceof Float32Array || Array.isArray(sound)) {
    const channels = channelsOf(sound);
    if (sampleRate === undefined) {
      throw new PannsLitertError("audio", "samples without a sample rate; expected tag(samples, sampleRate)");
    }
    requireRate(sampleRate);
    const seconds = channels[0].length / sampleRate;
    return checked({ channels, sampleRate, seconds, warnings: [], source: "" });
  }
  if (!(sound instanceof Object) || !Array.isArray(sound.channels)) {
    throw new PannsLitertError("audio", "no sound; expected a recording that decode() returned, or a Float32Array");
  }
  requireRate(sound.sampleRate);
  return checked({ ...sound, channels: channelsOf(sound.channels) });
}

/** Returns samples as one array per channel, all of one length. */
export function channelsOf(sound: Float32Array | Float32Array[]): Float32Array[] {
  const channels = Array.isArray(sound) ? sound : [sound];
  if (channels.length === 0) throw new PannsLitertError("audio", "no channels; expected at least one");
  if (!channels.every((channel) => channel instanceof Float32Array)) {
    throw new PannsLitertError("audio", "samples of another type; expected Float32Array, within [-1, 1]");
  }
  if (!channels.every((channel) => channel.length === channels[0].length)) {
    const lengths = channels.map((channel) => channel.length).join(", ");
    throw new PannsLitertError("audio", `channels of ${lengths} samples; expected as many samples in each`);
  }
  return channels;
}

function checked(recording: Recording): Recording {
  if (recording.channels[0].length === 0) {
    throw new PannsLitertError("audio", `${named(recording.source)}no samples; expected at least one`);
  }
  return recording;
}

/** The start of a message about a source. */
export const named = (source: string): string => (source ? `${source}: ` : "");
