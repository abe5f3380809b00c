import { PannsLitertError } from "../errors.js";
import { LEAST_RATE, MOST_RATE } from "./resampler.js";
import { named, type Recording } from "./sound.js";

/** Seconds that may be missing without a warning. */
export const TOLERANCE = 0.05;

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
// A program that cannot seek back writes about 2 GiB (at least this), about 4 GiB, or nothing.
const UNKNOWN = 0x7fff0000;

interface Format {
  kind: number;
  channels: number;
  rate: number;
  bits: number;
}

/** Whether bytes begin like a WAV file. */
export function isWav(bytes: Uint8Array): boolean {
  return ["RIFF", "RF64", "BW64"].includes(text(bytes, 0)) && text(bytes, 8) === "WAVE";
}

/**
 * Reads a WAV file: PCM of 8, 16, 24 or 32 bits, floats of 32 or 64 bits, also as WAVE_FORMAT_EXTENSIBLE, also in RF64.
 *
 * @returns the recording at the file's own rate; null if the samples are of another kind, such as ADPCM
 * @throws PannsLitertError ("audio") the file is damaged, without samples, or states an absurd rate
 */
export function readWav(bytes: Uint8Array, source: string): Recording | null {
  const refuse = (why: string): never => {
    throw new PannsLitertError("audio", `${named(source)}${why}`);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let format: Format | null = null;
  let stated64: number | null = null; // length of the samples in a file beyond 4 GiB
  for (let at = 12; at + 8 <= bytes.length; ) {
    const name = text(bytes, at);
    const stated = view.getUint32(at + 4, true);
    const begin = at + 8;
    if (name === "data") {
      if (format === null) return refuse("no format before the samples; expected a WAV file");
      const length = (stated === 0xffffffff ? stated64 : null) ?? stated;
      const extent = extentOf(bytes, begin, length);
      const read = samples(view, format, begin, extent, source);
      if (/^(data|RIFF|RIFX|RF64|BW64)$/.test(text(bytes, begin + extent.here + (extent.here % 2)))) {
        read?.warnings.push("another recording follows in the file; it was not read");
      }
      return read;
    }
    if (name === "ds64" && begin + 16 <= bytes.length) stated64 = Number(view.getBigUint64(begin + 8, true));
    if (name === "fmt ") {
      if (stated < 16 || begin + stated > bytes.length) return refuse("a damaged format; expected a WAV file");
      format = formatOf(view, begin, stated);
      if (format.channels < 1) return refuse("0 channels; expected at least one");
      if (format.rate < LEAST_RATE || format.rate > MOST_RATE) {
        return refuse(`the header states a rate of ${format.rate} Hz; expected ${LEAST_RATE} … ${MOST_RATE}`);
      }
    }
    at = begin + stated + (stated % 2);
  }
  return refuse("no samples; expected at least one; the file is cut or damaged");
}

/** Lengths of the samples, bytes: how much to read, and what the header states if its writer knew. */
interface Extent {
  here: number;
  stated: number;
}

/** The samples end where the header states it if what belongs there follows; otherwise all that is here is sound. */
function extentOf(bytes: Uint8Array, begin: number, stated: number): Extent {
  const here = bytes.length - begin;
  if (stated > 0 && stated <= here && follows(bytes, begin + stated + (stated % 2))) return { here: stated, stated };
  const filler =
    (stated >= UNKNOWN && stated < 2 ** 31) || (stated >= 2 ** 32 - 2 ** 16 && stated < 2 ** 32) || stated >= 2 ** 62;
  return { here, stated: filler && here < stated / 2 ? here : stated };
}

/** Whether what may follow the samples begins at `end`: nothing, a tag, another file, or whole chunks. */
function follows(bytes: Uint8Array, end: number): boolean {
  if (end >= bytes.length - 1 || /^(TAG|ID3|APET|RIFF|RIFX|RF64|BW64|fLaC|OggS)/.test(text(bytes, end))) return true;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let last = end;
  for (let at = end; at + 8 <= bytes.length && /^[ -~]{4}$/.test(text(bytes, at)); at = last + (last % 2)) {
    last = at + 8 + view.getUint32(at + 4, true);
  }
  return last > end && last >= bytes.length - 9 && last <= bytes.length + 1;
}

function formatOf(view: DataView, at: number, size: number): Format {
  let kind = view.getUint16(at, true);
  if (kind === EXTENSIBLE && size >= 26) kind = view.getUint16(at + 24, true); // the start of the sub-format's GUID
  return {
    kind,
    channels: view.getUint16(at + 2, true),
    rate: view.getUint32(at + 4, true),
    bits: view.getUint16(at + 14, true),
  };
}

function samples(view: DataView, format: Format, begin: number, extent: Extent, source: string): Recording | null {
  const read = reader(view, format);
  if (read === null) return null;
  const width = format.bits / 8;
  const frame = width * format.channels;
  const count = Math.floor(extent.here / frame);
  if (count === 0) throw new PannsLitertError("audio", `${named(source)}no samples; expected at least one`);
  const channels = Array.from({ length: format.channels }, (_, channel) => {
    const values = new Float32Array(count);
    for (let i = 0, at = begin + channel * width; i < count; i++, at += frame) values[i] = read(at);
    return values;
  });
  const heard = count / format.rate;
  const stated = Math.floor(extent.stated / frame) / format.rate;
  const warnings = cut(heard, stated);
  if (heard - stated > TOLERANCE) {
    warnings.push(`the header states ${stated.toFixed(2)} s; ${heard.toFixed(2)} s were found and decoded`);
  }
  return { channels, sampleRate: format.rate, seconds: Math.max(heard, stated), warnings, source };
}

function reader(view: DataView, { kind, bits }: Format): ((at: number) => number) | null {
  if (kind === FLOAT && bits === 32) return (at) => view.getFloat32(at, true);
  if (kind === FLOAT && bits === 64) return (at) => view.getFloat64(at, true);
  if (kind !== PCM) return null;
  if (bits === 8) return (at) => (view.getUint8(at) - 128) / 128;
  if (bits === 16) return (at) => view.getInt16(at, true) / 2 ** 15;
  if (bits === 24) return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 2 ** 16) / 2 ** 23;
  if (bits === 32) return (at) => view.getInt32(at, true) / 2 ** 31;
  return null;
}

/** The warning about a file of which less was decoded than it states, if there is one. */
export function cut(heard: number, stated: number): string[] {
  if (stated - heard <= TOLERANCE) return [];
  return [`${heard.toFixed(2)} s of ${stated.toFixed(2)} s could be decoded: the file is cut or damaged`];
}

function text(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
