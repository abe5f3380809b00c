import { PannsLitertError, reason } from "../errors.js";
import { statedIn } from "./headers.js";
import { named, type Recording } from "./sound.js";
import { cut, isWav, readWav } from "./wav.js";

const FALLBACK_RATE = 48000; // Hz, for a file whose own rate is unknown

/**
 * Decodes a file at the file's own rate.
 *
 * WAV files (PCM and floats) are read here, also in a worker. All other formats go to the browser's decoder, which a
 * worker does not have. If the rate in the header of such a file is unknown, it is decoded at 48 kHz, by the browser's
 * resampler, and a warning says so.
 *
 * @param file content of a file of any format that the browser decodes
 * @param name what to call it in messages; the name of a File if not given
 * @throws PannsLitertError ("audio") the file is empty, damaged or of no format that the browser decodes
 */
export async function decode(file: Blob | ArrayBuffer | Uint8Array, name?: string): Promise<Recording> {
  const source = name ?? (file instanceof Blob && "name" in file ? String(file.name) : "");
  // Bytes are read before this function first waits, so that the caller may use their buffer again at once.
  const bytes = file instanceof Blob ? await bytesOf(file, source) : viewOf(file);
  if (bytes.length === 0) throw new PannsLitertError("audio", `${named(source)}an empty file; expected a recording`);
  return (isWav(bytes) ? readWav(bytes, source) : null) ?? decodeByBrowser(bytes, source);
}

const viewOf = (bytes: ArrayBuffer | Uint8Array): Uint8Array =>
  bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);

async function bytesOf(file: Blob, source: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    throw new PannsLitertError("audio", `${named(source)}${reason(error)}; expected a readable file`, { cause: error });
  }
}

async function decodeByBrowser(bytes: Uint8Array, source: string): Promise<Recording> {
  if (typeof OfflineAudioContext === "undefined") {
    throw new PannsLitertError(
      "audio",
      `${named(source)}not a WAV file of PCM or floats; expected one, because there is no other decoder here (a ` +
        "worker has none): decode the file on the page",
    );
  }
  const stated = statedIn(bytes);
  const context = contextOf(stated?.rate) ?? contextOf(FALLBACK_RATE)!;
  let decoded: AudioBuffer;
  try {
    decoded = await context.decodeAudioData(bytes.slice().buffer); // a copy: decodeAudioData takes the buffer away
  } catch (error) {
    throw new PannsLitertError(
      "audio",
      `${named(source)}the browser cannot decode this file (${reason(error)}); expected a recording such as WAV, ` +
        "MP3, FLAC, Ogg or M4A",
      { cause: error },
    );
  }
  if (decoded.length === 0) {
    throw new PannsLitertError("audio", `${named(source)}no samples; expected at least one`);
  }
  const seconds = Math.max(decoded.duration, stated?.seconds ?? 0);
  const warnings = cut(decoded.duration, seconds);
  if (decoded.sampleRate !== stated?.rate) {
    warnings.push(`the file's own sample rate is unknown; the browser converted it to ${decoded.sampleRate} Hz`);
  }
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, c) => decoded.getChannelData(c));
  return { channels, sampleRate: decoded.sampleRate, seconds, warnings, source };
}

function contextOf(rate: number | undefined): OfflineAudioContext | null {
  try {
    return rate === undefined ? null : new OfflineAudioContext(1, 1, rate);
  } catch {
    return null; // the browser does not support that rate
  }
}
