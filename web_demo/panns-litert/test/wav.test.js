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
  for (const stated of [0, 0xffffffff, 0x7ffffff0]) {
    const found = await decode(wav("pcm 16", { count: 2 * 22050, stated }));
    assert.deepEqual([found.channels[0].length, found.seconds, found.warnings], [22050, 1, []]);
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
  const scale = [0, 0, 0xbb, 0x80];
  const mp4 = (handler) => [le(0, 4), "ftypM4A ", "mdhd", le(0, 12), scale, le(0, 8), "hdlr", le(0, 8), handler];
  assert.deepEqual(stated(...mp4("soun")), { rate: 48000, seconds: null });
  assert.equal(stated(...mp4("vide")), null);
  for (const nothing of [[0], [0xff], [0xff, 0xfb, 0x9c, 0], ["fLaC"], ["OggS"], ["hello"], [0xff, 0xff]]) {
    assert.equal(stated(...nothing), null, String(nothing));
  }
});
