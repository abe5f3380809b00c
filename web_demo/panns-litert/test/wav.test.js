// Recordings: WAV of every kind, cut and damaged; the rates in the headers of other formats; no decoder.
import assert from "node:assert/strict";
import { test } from "node:test";
import { decode } from "../dist/index.js";
import { statedIn } from "../dist/audio/headers.js";
import { refused } from "./support.js";

const text = (value) => Array.from(value, (letter) => letter.charCodeAt(0));
const le = (value, bytes) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);
const WRITERS = {
  "pcm 8": [1, 1, (view, at, x) => view.setUint8(at, Math.round(x * 128) + 128)],
  "pcm 16": [1, 2, (view, at, x) => view.setInt16(at, Math.round(x * 2 ** 15), true)],
  "pcm 24": [1, 3, (view, at, x) => {
    const value = Math.round(x * 2 ** 23);
    view.setUint16(at, value & 0xffff, true);
    view.setInt8(at + 2, value >> 16);
  }],
  "pcm 32": [1, 4, (view, at, x) => view.setInt32(at, Math.round(x * 2 ** 31), true)],
  "float 32": [3, 4, (view, at, x) => view.setFloat32(at, x, true)],
  "float 64": [3, 8, (view, at, x) => view.setFloat64(at, x, true)],
};
const VALUES = [0, 0.5, -0.5, 0.25, -1, 0.125];

/** A WAV file of VALUES, over and over, over two channels. */
function wav(kind, { extensible = false, stated = null, rate = 22050, count = VALUES.length, before = [] } = {}) {
  const [format, width, write] = WRITERS[kind];
  const data = new DataView(new ArrayBuffer(count * width));
  for (let i = 0; i < count; i++) write(data, i * width, VALUES[i % VALUES.length]);
  const common = [...le(2, 2), ...le(rate, 4), ...le(2 * width * rate, 4), ...le(2 * width, 2), ...le(8 * width, 2)];
  const guid = [...le(format, 2), 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113];
  const fmt = extensible
    ? [...le(0xfffe, 2), ...common, ...le(22, 2), ...le(8 * width, 2), ...le(3, 4), ...guid]
    : [...le(format, 2), ...common];
  const body = [
    ...text("WAVE"), ...before, ...text("fmt "), ...le(fmt.length, 4), ...fmt, ...text("data"),
    ...le(stated ?? data.byteLength, 4), ...new Uint8Array(data.buffer),
  ];
  return Uint8Array.from([...text("RIFF"), ...le(body.length, 4), ...body]);
}

/** The same as RF64, with a length of 64 bits. */
function rf64(file, stated) {
  const ds64 = [...text("ds64"), ...le(28, 4), ...le(0, 8), ...le(stated, 8), ...le(0, 12)];
  return Uint8Array.from([...text("RF64"), ...file.subarray(4, 12), ...ds64, ...file.subarray(12)]);
}

test("WAV of every kind", async () => {
  for (const kind of Object.keys(WRITERS)) {
    for (const extensible of [false, true]) {
      const found = await decode(wav(kind, { extensible }), "a.wav");
      assert.deepEqual(found.channels.map((channel) => [...channel]), [[0, -0.5, -1], [0.5, 0.25, 0.125]], kind);
      assert.deepEqual([found.sampleRate, found.seconds], [22050, 3 / 22050]);
      assert.deepEqual([found.warnings, found.source], [[], "a.wav"]);
    }
  }
});

test("other chunks, a Blob, a File and an ArrayBuffer", async () => {
  const file = wav("pcm 16", { before: [...text("LIST"), ...le(3, 4), 1, 2, 3, 0] });
  for (const given of [file, file.buffer, new Blob([file])]) assert.equal((await decode(given)).channels[0].length, 3);
  const named = Object.assign(new Blob([file]), { name: "b.wav" });
  assert.equal((await decode(named)).source, "b.wav");
});

test("a cut file says so; a length that nobody knew does not", async () => {
  const whole = wav("pcm 16", { count: 2 * 22050 });
  const half = await decode(whole.slice(0, 44 + 2 * 22050));
  assert.equal(half.channels[0].length, 11025);
  assert.equal(half.seconds, 1);
  assert.deepEqual(half.warnings, ["0.50 s of 1.00 s could be decoded: the file is cut or damaged"]);
  for (const stated of [0xffffffff, 0x7ffffff0]) {
    const found = await decode(wav("pcm 16", { count: 2 * 22050, stated }));
    assert.deepEqual([found.channels[0].length, found.seconds, found.warnings], [22050, 1, []]);
  }
});

test("a header that states too little: all that is there is read, and a warning says so", async () => {
  const warning = (stated) => [`the header states ${stated} s; 1.00 s were found and decoded`];
  for (const [stated, text] of [[0, "0.00"], [44, "0.00"], [44100, "0.50"]]) {
    const found = await decode(wav("pcm 16", { count: 2 * 22050, stated }));
    assert.deepEqual([found.channels[0].length, found.seconds, found.warnings], [22050, 1, warning(text)]);
  }
  for (const [stated, warnings] of [[88200, []], [0, warning("0.00")], [44100, warning("0.50")], [2 ** 63, []]]) {
    const found = await decode(rf64(wav("pcm 16", { count: 2 * 22050, stated: 0xffffffff }), stated));
    assert.deepEqual([found.channels[0].length, found.seconds, found.warnings], [22050, 1, warnings], `${stated}`);
  }
});

test("what follows the samples is not sound", async () => {
  const file = [...wav("pcm 16", { count: 2 * 22050, stated: 88200 })];
  const list = [...text("LIST"), ...le(4, 4), ...text("INFO")];
  for (const rest of [[0], list, [...list, ...list], [...text("TAG"), ...le(0, 125)]]) {
    const found = await decode(Uint8Array.from([...file, ...rest]));
    assert.deepEqual([found.channels[0].length, found.warnings], [22050, []]);
  }
  for (const rest of [file, [...text("data"), ...le(4, 4), 0, 0, 0, 0]]) {
    const found = await decode(Uint8Array.from([...file, ...rest]));
    assert.equal(found.channels[0].length, 22050);
    assert.deepEqual(found.warnings, ["another recording follows in the file; it was not read"]);
  }
});

test("bytes may be used again as soon as decode has returned", async () => {
  for (const as of [(bytes) => bytes, (bytes) => bytes.buffer]) {
    const bytes = wav("pcm 16");
    const decoding = decode(as(bytes));
    bytes.fill(0);
    assert.deepEqual([...(await decoding).channels[0]], [0, -0.5, -1]);
  }
});

test("damaged files are refused", async () => {
  const file = wav("pcm 16");
  for (const [bytes, part] of [
    [new Uint8Array(0), "an empty file"],
    [file.slice(0, 30), "a damaged format"],
    [file.slice(0, 20), "a damaged format"],
    [file.slice(0, 12), "the file is cut or damaged"],
    [file.slice(0, 45), "no samples"],
    [wav("pcm 16", { rate: 5 }), "states a rate of 5 Hz"],
    [wav("pcm 16", { count: 0, stated: 0 }), "no samples"],
    [text("hello, this is no recording"), "expected one, because there is no other decoder here"],
  ]) {
    await assert.rejects(decode(Uint8Array.from(bytes), "a.wav"), refused("audio", "a.wav: ", part));
  }
});

test("the rate in the headers of other formats", () => {
  const stated = (...parts) => statedIn(Uint8Array.from(parts.flatMap((p) => (typeof p === "string" ? text(p) : p))));
  const streamInfo = [...le(0, 10), 0x0a, 0xc4, 0x42, 0xf0, 0, 0, 0xac, 0x44]; // 44100 Hz, 44100 samples
  const flac = ["fLaC", [0, 0, 0, 34], streamInfo, le(0, 16)];
  assert.deepEqual(stated(...flac), { rate: 44100, seconds: 1 });
  assert.deepEqual(stated("ID3", [4, 0, 0, 0, 0, 0, 5], le(0, 5), ...flac), { rate: 44100, seconds: 1 });
  const page = ["OggS", le(0, 22), [1, 30]];
  assert.deepEqual(stated(...page, "OpusHead", le(0, 20)), { rate: 48000, seconds: null });
  assert.deepEqual(stated(...page, "\x01vorbis", le(0, 4), [1], le(22050, 4)), { rate: 22050, seconds: null });
  assert.deepEqual(stated([0xff, 0xfb, 0x90, 0x64]), { rate: 44100, seconds: null }); // MPEG 1, layer 3
  const xing = [[0xff, 0xfb, 0x90, 0x64], le(0, 32), "Xing", [0, 0, 0, 1], [0, 0, 0, 103]];
  assert.deepEqual(stated(...xing), { rate: 44100, seconds: (100 * 1152) / 44100 });
  assert.deepEqual(stated([0xff, 0xf3, 0x94, 0x64]), { rate: 24000, seconds: null }); // MPEG 2
  assert.deepEqual(stated([0xff, 0xf1, 0x50, 0x80]), { rate: 44100, seconds: null }); // AAC
  const aLaw = ["RIFF", le(0, 4), "WAVEfmt ", le(18, 4), le(6, 2), le(1, 2), le(8000, 4), le(8000, 4)];
  assert.deepEqual(stated(...aLaw), { rate: 8000, seconds: null });
  // A header of HE-AAC may state half of its rate.
  assert.deepEqual(stated([0xff, 0xf1, 0x58, 0x80]), { rate: 48000, seconds: null }); // 24000 Hz
  assert.deepEqual(stated([0xff, 0xf1, 0x5c, 0x80]), { rate: 44100, seconds: null }); // 22050 Hz
  assert.deepEqual(stated([0xff, 0xf1, 0x54, 0x80]), { rate: 32000, seconds: null });
  const be = (value, bytes) => le(value, bytes).reverse();
  const track = (scale, handler = "soun") => ["mdhd", le(0, 12), be(scale, 4), le(0, 8), "hdlr", le(0, 8), handler];
  const sound = (kind, rate) => ["stsd", be(1, 8), be(36, 4), kind, le(0, 24), be(rate, 2), le(0, 2)];
  const mp4 = (...boxes) => stated(le(0, 4), "ftypM4A ", ...boxes.flat());
  assert.deepEqual(mp4(track(48000)), { rate: 48000, seconds: null });
  assert.equal(mp4(track(48000, "vide")), null);
  for (const [scale, kind, own, rate] of [
    [44100, "mp4a", 44100, 44100], [22050, "mp4a", 44100, 44100], [24000, "mp4a", 24000, 48000],
    [90000, "mp4a", 44100, 44100], [1000, "mp4a", 16000, 32000], [90000, "mp4a", 1, null],
    [22050, "alac", 22050, 22050], [192000, "alac", 0, 192000], [1000, "fLaC", 44100, 44100],
    [37800, "alac", 37800, 37800],
  ]) {
    assert.deepEqual(mp4(track(scale), sound(kind, own)), rate && { rate, seconds: null }, `${scale} ${kind} ${own}`);
    assert.deepEqual(mp4(track(600, "vide"), track(scale), sound(kind, own)), rate && { rate, seconds: null });
  }
  for (const nothing of [[0], [0xff], [0xff, 0xfb, 0x9c, 0], ["fLaC"], ["OggS"], ["hello"], [0xff, 0xff]]) {
    assert.equal(stated(...nothing), null, String(nothing));
  }
});
