// The log-mel against float64, the streaming log-mel against the whole, and what is refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LogMel, melBasis, StreamingLogMel } from "../dist/index.js";
import { PowerSpectrum } from "../dist/frontend/fft.js";
import { readSpec } from "../dist/frontend/spec.js";
import { StrictJson } from "../dist/strict.js";
import { refused, vectors } from "./support.js";

const { every, sounds, cases } = await vectors("frontend.json");
const specs = new Map(cases.map((given) => [given.name, specOf(given.spec)]));

function specOf(fields) {
  return StrictJson.parse(new TextEncoder().encode(JSON.stringify(fields)), "spec").whole(readSpec);
}

function bytes(text) {
  return Uint8Array.from(Buffer.from(text, "base64")).buffer;
}

function soundOf(rate) {
  return Float32Array.from(new Int16Array(bytes(sounds[rate])), (value) => value / 32768);
}

/** Decibels per unit of a log-mel. */
function unit({ log, affine }) {
  return (log === "ln" ? 10 / Math.LN10 : 1) * (affine?.[1] ?? 1);
}

for (const { name, frames, logmel } of cases) {
  test(`${name}: every value within 1e-3 dB of float64`, () => {
    const spec = specs.get(name);
    const found = new LogMel(spec).transform(soundOf(spec.sampleRate));
    assert.equal(found.length, frames * spec.nMels);
    const want = new Float32Array(bytes(logmel));
    assert.ok(want.length > 5 * spec.nMels);
    want.forEach((value, i) => {
      const at = Math.floor(i / spec.nMels) * every * spec.nMels + (i % spec.nMels);
      assert.ok(Math.abs(found[at] - value) * unit(spec) <= 1e-3, `value ${at}: ${found[at]}, expected ${value}`);
    });
  });

  test(`${name}: a stream in chunks of any size has the frames of the whole`, () => {
    const spec = specs.get(name);
    const samples = soundOf(spec.sampleRate);
    const logMel = new LogMel(spec);
    const whole = logMel.transform(samples);
    const stream = new StreamingLogMel(logMel);
    for (const sizes of [[samples.length], [1, 700, 3, 1024], [79]]) {
      const found = [];
      for (let at = 0, turn = 0; at < samples.length; turn++) {
        const size = sizes[turn % sizes.length];
        found.push(...stream.push(samples.subarray(at, at + size)));
        at += size;
      }
      found.push(...stream.finish()); // the next turn begins another stream
      assert.deepEqual(found, Array.from(whole.subarray(0, found.length)));
      assert.ok(spec.paddedFrames !== null || found.length === whole.length);
    }
  });
}

test("silence is exactly the floor", () => {
  const found = new LogMel(specs.get("PANNs")).transform(new Float32Array(32000));
  assert.equal(found.length, 101 * 64);
  assert.ok(found.every((value) => value === -100));
});

test("frames that a waveform does not fill are 0 before the affine step", () => {
  const spec = specs.get("AST");
  const found = new LogMel(spec).transform(soundOf(16000));
  const filler = Math.fround(4.2677393 / 9.1379948);
  const filled = cases.find(({ name }) => name === "AST").frames === 1024 ? 38 * 128 : 0;
  assert.ok(found.subarray(filled).every((value) => value === filler));
  assert.ok(!found.subarray(0, filled).includes(filler));
  const cut = new LogMel({ ...spec, paddedFrames: 10 }).transform(soundOf(16000));
  assert.deepEqual(cut, found.slice(0, 10 * 128));
});

test("NaN stays in the frames of its sample", () => {
  const samples = new Float32Array(32000).fill(0.1);
  samples[16000] = NaN;
  const found = new LogMel(specs.get("PANNs")).transform(samples);
  assert.ok(Number.isNaN(found[50 * 64 + 40]));
  assert.ok(Number.isFinite(found[10 * 64 + 40]));
});

test("the power spectrum equals the sum that defines it, for every size", () => {
  for (const size of [2, 4, 8, 16, 32, 512]) {
    const frame = Float64Array.from({ length: size }, (_, i) => Math.cos(1 + i * i * 0.37));
    const power = new Float64Array(size / 2 + 1);
    new PowerSpectrum(size).of(frame, power);
    power.forEach((value, k) => {
      let [re, im] = [0, 0];
      frame.forEach((sample, i) => {
        re += sample * Math.cos((2 * Math.PI * i * k) / size);
        im -= sample * Math.sin((2 * Math.PI * i * k) / size);
      });
      assert.ok(Math.abs(value - (re * re + im * im)) < 1e-9 * size, `${size}: bin ${k}`);
    });
  }
});

test("the log-mel of 10 s takes a small part of a second", () => {
  for (const name of ["PANNs", "EfficientAT"]) {
    const logMel = new LogMel(specs.get(name));
    const samples = new Float32Array(320000).map((_, i) => Math.sin(i * i * 1e-5));
    const times = Array.from({ length: 7 }, () => {
      const begin = process.cpuUsage().user; // µs; other processes share the cores
      logMel.transform(samples);
      return (process.cpuUsage().user - begin) / 1000;
    });
    console.log(`${name}: log-mel of 10 s in ${Math.min(...times).toFixed(1)} ms`);
    assert.ok(Math.min(...times) < 250, `${name}: ${times}`); // about 15 ms on a desktop
  }
});

test("a waveform that is too short is refused, the shortest possible one is not", () => {
  for (const [name, least] of [["PANNs", 513], ["EfficientAT", 514], ["AST", 400]]) {
    const logMel = new LogMel(specs.get(name));
    for (const samples of [0, 1, least - 1]) {
      assert.throws(() => logMel.transform(new Float32Array(samples)), refused("audio", "pad it with zeros"));
    }
    assert.ok(logMel.transform(new Float32Array(least).fill(0.1)).every(Number.isFinite));
  }
});

test("a basis of another shape is refused", () => {
  const spec = specs.get("PANNs");
  assert.throws(() => new LogMel(spec, new Float32Array(64 * 512)), refused("spec", "expected 64 × 513"));
  assert.throws(() => new LogMel(spec, new Float32Array(64 * 513).fill(NaN)), refused("spec", "NaN"));
  assert.equal(melBasis(spec).length, 64 * 513);
});

test("a spec that is not implemented is refused", () => {
  const [panns, efficientAt, ast] = ["PANNs", "EfficientAT", "AST"].map((name) => specs.get(name));
  const changed = [
    { ...panns, nFft: 1000, winLength: 1000 }, { ...panns, winLength: 2048 }, { ...panns, hopLength: 0 },
    { ...panns, hopLength: 1.5 }, { ...panns, fmin: 14000 }, { ...panns, fmax: 16001 }, { ...panns, fmin: NaN },
    { ...panns, window: "hamming" }, { ...panns, center: false }, { ...panns, power: 1 }, { ...panns, melNorm: null },
    { ...panns, log: "ln" }, { ...panns, amin: 0 }, { ...panns, logOffset: 1e-5 }, { ...panns, preEmphasis: 0.97 },
    { ...panns, removeDc: true }, { ...panns, paddedFrames: 1024 }, { ...panns, melScale: "htk" },
    { ...panns, padMode: "constant" }, { ...efficientAt, preEmphasis: 1 }, { ...efficientAt, affine: null },
    { ...efficientAt, logOffset: null }, { ...efficientAt, center: false }, { ...ast, removeDc: false },
    { ...ast, amin: 0 }, { ...ast, affine: [0, 0] }, { ...ast, paddedFrames: 0 },
  ];
  for (const spec of changed) assert.throws(() => new LogMel(spec), refused("spec", "expected"));
});
