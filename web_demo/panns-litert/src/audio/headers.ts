/** What the header of a compressed file states. */
export interface Stated {
  /** Hz. */
  rate: number;
  /** Length; null if the header has none. */
  seconds: number | null;
}

const MPEG_RATES = [44100, 48000, 32000];
const ENDS = 3; // frames: what decoders may leave out at the ends of MPEG audio
const AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
const RATES = [...AAC_RATES, 176400, 192000, 352800, 384000];

/**
 * Finds the sample rate in the header of FLAC, Ogg (Vorbis, Opus, FLAC), MP3, AAC (ADTS), MP4, WebM, or a WAV file of
 * compressed samples.
 *
 * The browser's decoder converts to the rate of its context. With a context of the file's own rate it changes nothing.
 *
 * @returns null if there is none
 */
export function statedIn(bytes: Uint8Array): Stated | null {
  const start = afterId3(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (matches(bytes, start, "fLaC")) return flac(view, start + 8);
  if (matches(bytes, 0, "OggS")) return ogg(bytes, view);
  if (matches(bytes, 8, "WAVE")) return wav(bytes, view);
  if (matches(bytes, 4, "ftyp")) return mp4(bytes, view);
  if (bytes[0] === 0x1a && bytes[1] === 0x45 && find(bytes, "A_OPUS", 0) >= 0) return { rate: 48000, seconds: null };
  return mpeg(bytes, view, start);
}

/** @param at where the block STREAMINFO begins, behind its header */
function flac(view: DataView, at: number): Stated | null {
  if (at + 18 > view.byteLength) return null;
  const rate = view.getUint32(at + 10) >>> 12;
  const samples = (view.getUint8(at + 13) & 0x0f) * 2 ** 32 + view.getUint32(at + 14);
  return rate > 0 ? { rate, seconds: samples > 0 ? samples / rate : null } : null;
}

function ogg(bytes: Uint8Array, view: DataView): Stated | null {
  const packet = 27 + (bytes[26] ?? 0); // of the first page
  if (matches(bytes, packet, "OpusHead")) return { rate: 48000, seconds: null };
  if (matches(bytes, packet, "\x01vorbis") && packet + 16 <= bytes.length) {
    return { rate: view.getUint32(packet + 12, true), seconds: null };
  }
  return matches(bytes, packet, "\x7fFLAC") ? flac(view, packet + 17) : null;
}

function wav(bytes: Uint8Array, view: DataView): Stated | null {
  const at = find(bytes, "fmt ", 12);
  return at >= 0 && at + 16 <= bytes.length ? { rate: view.getUint32(at + 12, true), seconds: null } : null;
}

/**
 * The rate of the first track of sound: its time scale, or, if that is no usual rate of sound, such as 90000 or 1000,
 * the rate in the description of its samples.
 */
function mp4(bytes: Uint8Array, view: DataView): Stated | null {
  for (let at = find(bytes, "mdhd", 0); at >= 0; at = find(bytes, "mdhd", at + 4)) {
    const handler = find(bytes, "hdlr", at);
    const scaleAt = at + (bytes[at + 4] === 1 ? 24 : 16);
    if (handler < 0 || scaleAt + 4 > bytes.length) return null;
    if (!matches(bytes, handler + 12, "soun")) continue;
    const entry = find(bytes, "stsd", handler) + 16; // the kind of the first description
    const described = entry >= 16 && entry + 32 <= bytes.length;
    const scale = view.getUint32(scaleAt);
    const own = described ? view.getUint16(entry + 28) : 0; // the whole part of 16.16 bits
    const rate = [scale, own].find((rate) => RATES.includes(rate) || (rate === scale && rate === own));
    if (rate === undefined) return null;
    return { rate: !described || matches(bytes, entry, "mp4a") ? decodedRate(rate) : rate, seconds: null };
  }
  return null;
}

/**
 * The rate at which AAC of a stated rate is decoded. A header of HE-AAC may state half of that rate and nothing else,
 * and its upper octave would be lost. For other AAC, twice the rate loses nothing.
 */
const decodedRate = (stated: number): number => (stated <= 24000 ? 2 * stated : stated);

function mpeg(bytes: Uint8Array, view: DataView, at: number): Stated | null {
  const [a, b, c, d] = bytes.subarray(at, at + 4);
  if (at + 4 > bytes.length || a !== 0xff || (b & 0xe0) !== 0xe0) return null;
  if ((b & 0xf6) === 0xf0) {
    const rate = AAC_RATES[(c >> 2) & 15]; // ADTS
    return rate === undefined ? null : { rate: decodedRate(rate), seconds: null };
  }
  const version = [2, null, 1, 0][(b >> 3) & 3]; // MPEG 2.5, reserved, 2, 1: how often the rate is halved
  const rate = MPEG_RATES[(c >> 2) & 3];
  if (version === null || rate === undefined) return null;
  // An information frame, which is empty up to its name, states the number of the others.
  const mono = d >> 6 === 3;
  const info = at + 4 + (version === 0 ? (mono ? 17 : 32) : mono ? 9 : 17);
  const named = matches(bytes, info, "Xing") || matches(bytes, info, "Info");
  const frames = named && info + 12 <= bytes.length && (bytes[info + 7] & 1) === 1 ? view.getUint32(info + 8) : 0;
  const samples = (frames - ENDS) * (version === 0 ? 1152 : 576);
  return { rate: rate >> version, seconds: samples > 0 ? samples / (rate >> version) : null };
}

function afterId3(bytes: Uint8Array): number {
  if (!matches(bytes, 0, "ID3") || bytes.length < 10) return 0;
  return 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9]);
}

function matches(bytes: Uint8Array, at: number, wanted: string): boolean {
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted.charCodeAt(i)) return false;
  return true;
}

function find(bytes: Uint8Array, wanted: string, from: number): number {
  const first = wanted.charCodeAt(0);
  for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (matches(bytes, at, wanted)) return at;
  }
  return -1;
}
