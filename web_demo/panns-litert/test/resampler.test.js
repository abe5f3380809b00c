// The resampler: chunks, constants, lengths and refusals; tests/web/test_npm_package.py compares it with soxr.
import assert from "node:assert/strict";
import { test } from "node:test";
import { levelDbfs, Resampler } from "../dist/index.js";
import { MonoResampler } from "../dist/audio/mono.js";
import { refused } from "./support.js";

const RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000];
const tone = (count, rate) => Float32Array.from({ length: count }, (_, i) => 0.5 * Math.sin((i * 2764) / rate));

function inChunks(resampler, samples, sizes) {
  const found = [];
  for (let at = 0, turn = 0; at < samples.length; turn++) {
    const size = sizes[turn % sizes.length];
    found.push(...resampler.push(samples.subarray(at, at + size)));
    at += size;
  }
  return [...found, ...resampler.finish()];
}

test("any chunking gives bit-identical samples", () => {
  for (const from of RATES) {
    for (const to of [8000, 16000, 32000]) {
      const samples = tone(6000, from);
      const resampler = new Resampler(from, to);
      const whole = inChunks(resampler, samples, [6000]);
      assert.equal(whole.length, Math.ceil((6000 * to) / from));
      for (const sizes of [[700, 1, 33], [4097, 160]]) assert.deepEqual(inChunks(resampler, samples, sizes), whole);
    }
  }
});

test("a tone stays what it is, at any whole rates", () => {
  for (const [from, to] of [[44100, 32000], [48000, 16000], [44101, 32000], [8000, 32000], [31999, 32000]]) {
    const found = inChunks(new Resampler(from, to), tone(from / 2, from), [5000]);
    const want = tone(found.length, to);
    for (let i = Math.ceil(to / 20); i < found.length - to / 20; i++) assert.ok(Math.abs(found[i] - want[i]) < 2e-6);
  }
});

test("a constant stays constant, and the same rate changes nothing", () => {
  const found = new Resampler(44100, 32000).push(new Float32Array(44100).fill(0.5));
  assert.ok(found.slice(500).every((value) => value === 0.5));
  assert.deepEqual(inChunks(new Resampler(32000, 32000), tone(1000, 32000), [300]), [...tone(1000, 32000)]);
  assert.deepEqual(inChunks(new Resampler(44100, 32000), new Float32Array(0), [1]), []);
});

test("rates without a common divisor take neither long nor much memory", () => {
  for (const [from, to] of [[47999, 32000], [15999, 32000], [767999, 32000], [32000, 31999]]) {
    const samples = tone(from / 2, from);
    const begin = process.cpuUsage().user; // µs
    const resampler = new Resampler(from, to);
    const found = [...resampler.push(samples), ...resampler.finish()];
    const took = (process.cpuUsage().user - begin) / 1000;
    const held = resampler.kernel.reduce((sum, taps) => sum + (taps?.byteLength ?? 0), 0);
    console.log(`${from} to ${to} Hz: 0.5 s in ${took.toFixed(0)} ms, with ${(held / 1e6).toFixed(1)} MB`);
    assert.ok(held < 8e6);
    assert.ok(took < 1500); // about 300 ms on a desktop
    const want = tone(found.length, to);
    for (let i = Math.ceil(to / 20); i < found.length - to / 20; i++) assert.ok(Math.abs(found[i] - want[i]) < 2e-6);
  }
});

test("rates out of range are refused", () => {
  for (const rate of [0, -1, 999, 768001, NaN, 44100.5, undefined, "44100"]) {
    assert.throws(() => new Resampler(rate, 32000), refused("audio", "expected a whole number, 1000 … 768000"));
    assert.throws(() => new Resampler(32000, rate), refused("audio", "1000 … 768000"));
  }
});

test("mono is the mean of the channels; samples that cannot be used are NaN, and only they", () => {
  const [left, right] = [tone(48000, 48000), tone(48000, 48000).fill(0.1)];
  const clean = new MonoResampler(48000, 32000);
  const want = [...clean.push([left, right]), ...clean.finish()];
  for (const value of [NaN, Infinity, -3]) {
    const bad = right.slice();
    bad.fill(value, 24000, 24003);
    const mono = new MonoResampler(48000, 32000);
    const found = [];
    for (let at = 0; at < left.length; at += 1000) {
      found.push(...mono.push([left.subarray(at, at + 1000), bad.subarray(at, at + 1000)]));
    }
    found.push(...mono.finish());
    assert.equal(found.length, want.length);
    assert.deepEqual(found.flatMap((x, i) => (Number.isNaN(x) ? [i] : [])), [16000, 16001]);
    for (let i = 0; i < 15000; i++) assert.equal(found[i], want[i]);
  }
});

test("what is wrong with samples is noticed", () => {
  const warnings = (...channels) => {
    const mono = new MonoResampler(16000, 32000);
    mono.push(channels);
    return mono.warnings;
  };
  const sine = tone(16000, 16000);
  assert.deepEqual(warnings(sine, sine), []);
  assert.deepEqual(warnings(sine.map((x) => 3 * x)), ["samples reach 1.50 of full scale; expected at most 1"]);
  const [cancelled] = warnings(sine, sine.map((x) => -x));
  assert.match(cancelled, /^channels cancel each other: their mean is far below channel 1; give channel 1 alone$/);
  const mono = new MonoResampler(16000, 32000);
  for (const channels of [[sine, sine.map((x) => -x)], [sine.map((x) => 3 * x)]]) {
    mono.push(channels);
    mono.finish();
    assert.equal(mono.warnings.length, 1); // until the next stream begins
    assert.throws(() => mono.push([sine, sine.slice(1)]));
    assert.equal(mono.warnings.length, 1);
    mono.push([sine, sine]);
    assert.deepEqual(mono.warnings, []);
  }
  assert.throws(() => mono.push(sine.map((x) => x * 32768)), refused("audio", "samples reach 16384.0"));
  assert.throws(() => mono.push([sine, sine.slice(1)]), refused("audio", "as many samples in each"));
  assert.throws(() => mono.push([]), refused("audio", "expected at least one"));
  assert.throws(() => mono.push([0.5, 0.5]), refused("audio", "expected Float32Array"));
});

test("a level is that of samples that can be used", () => {
  assert.ok(Math.abs(levelDbfs(tone(16000, 16000)) + 9.03) < 0.01);
  assert.equal(levelDbfs(new Float32Array(10).fill(0.5)), -Infinity);
  for (const value of [NaN, Infinity, -Infinity]) {
    assert.throws(() => levelDbfs(Float32Array.of(0.1, value, 0.2)), refused("audio", "NaN or Inf; expected samples"));
  }
  assert.throws(() => levelDbfs(new Float32Array(0)), refused("audio", "expected at least one"));
});
