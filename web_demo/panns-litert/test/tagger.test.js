// The tagger, windows and streams against tests/vectors/windows.json and long.json, with an engine of numbers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LogMel, Tagger, topTags } from "../dist/index.js";
import { compare, cpuGate, GPU_GATE } from "../dist/bundle/selftest.js";
import { all, demo, Numbers, refused, takesSamples, vectors } from "./support.js";

const bundle = await demo();
const waveformBundle = await takesSamples(); // without the front end, which takes long
const WITH_FRONT_END = ["shorter than a window", "overlap", "48 kHz, bad samples"];

const near = (found, want, tolerance, name) =>
  assert.ok(Math.abs(found - want) <= tolerance || found === want, `${name}: ${found}, expected ${want}`);

const byStart = (a, b) => a.start - b.start || a.index - b.index;

/** The sound of tests/vectors/make_long.py. */
function soundOf({ rate, seconds, channels, amplitudes, bad }) {
  const count = Math.round(seconds * rate);
  return Array.from({ length: channels }, (_, channel) => {
    const samples = Float32Array.from({ length: count }, (_, n) => {
      const amplitude = amplitudes[Math.floor(n / rate) % amplitudes.length];
      return (amplitude * Math.sin((2 * Math.PI * 440 * n) / rate) + 0.1) / 2 ** channel;
    });
    if (channel === channels - 1) {
      for (const [first, last] of bad) samples.fill(NaN, Math.round(first * rate), Math.round(last * rate) + 1);
    }
    return samples;
  });
}

test("windows of recordings of many lengths", async () => {
  const { window, frame, cases } = await vectors("windows.json");
  assert.ok(cases.length > 50);
  for (const { samples, hop, windows } of cases) {
    const stream = new Tagger(waveformBundle, new Numbers()).stream(32000, { hop: hop / 32000 });
    assert.equal(stream.frame * 32000, frame);
    for (let turn = 0; turn < (samples < window ? 2 : 1); turn++) { // the second time after a finish
      const found = [];
      for (let at = 0; at < samples; at += 50000) {
        found.push(...(await stream.push(new Float32Array(Math.min(50000, samples - at)))));
      }
      found.push(...(await stream.finish()));
      const places = found.map(({ start, end, paddingSeconds }) => ({
        start: Math.round(start * 32000),
        end: Math.round(end * 32000),
        padding: Math.round(paddingSeconds * 32000),
      }));
      assert.deepEqual(places, windows, `${samples} samples, hop ${hop}`);
      assert.equal(stream.window * 32000, window);
      assert.equal(stream.seconds * 32000, samples);
    }
  }
});

test("whole recordings of the shared vectors: windows, results and events", async () => {
  const cases = (await vectors("long.json")).cases.filter((given) => Object.keys(given.sense).length === 0);
  assert.ok(cases.length >= 10);
  for (const given of cases) {
    const { name, rate, hop, aggregate, result } = given;
    const opened = WITH_FRONT_END.includes(name) ? bundle : waveformBundle;
    const sound = soundOf(given);
    const windows = await all(new Tagger(opened, new Numbers()).windows(sound, rate, { hop }));
    assert.deepEqual(windows.map((window) => window.index), given.windows.map((window) => window.index), name);
    given.windows.forEach((want, i) => {
      near(windows[i].start, want.start, 1e-4, name);
      near(windows[i].end - windows[i].start, want.seconds, 1e-4, name);
      near(windows[i].paddingSeconds, want.padding, 1e-4, name);
      assert.equal(windows[i].unusable === null, want.unusable === null, name);
      near(windows[i].levelDbfs, want.level_dbfs ?? -Infinity, 1e-3, name);
    });
    const long = await new Tagger(opened, new Numbers()).tagLong(sound, rate, { hop, aggregate, top: 3 });
    assert.deepEqual(long.tags.map((tag) => tag.label), result.tags, name);
    result.scores.forEach((want, i) => near(long.probs[i], want, 1e-5, name));
    result.embedding.forEach((want, i) => near(long.embedding[i], want, 1e-5, name));
    near(long.seconds, result.seconds, 1e-4, name);
    near(long.secondsHeard, result.seconds, 1e-4, name);
    near(long.paddingSeconds, result.padding, 1e-4, name);
    assert.deepEqual([long.windows, long.windowsSkipped], [result.windows, result.skipped], name);
    assert.equal(long.warnings.length, given.bad.length, name);
    const events = await all(new Tagger(waveformBundle, new Numbers()).findEvents(sound, rate));
    assert.equal(events.length, given.events.length, name);
    events.sort(byStart).forEach((event, i) => {
      const [label, start, end, score] = given.events[i];
      assert.equal(event.label, label, name);
      near(event.start, start, 1e-4, name);
      near(event.end, end, 1e-4, name);
      near(event.score, score, 1e-5, name);
    });
  }
});

test("the windows of a stream hold the log-mel of the whole", async () => {
  const samples = Float32Array.from({ length: 32000 * 13 + 77 }, (_, i) => Math.sin(i * i * 1e-6) / 2);
  const whole = new LogMel(bundle.manifest.frontEnd, bundle.melBasis).transform(samples);
  const engine = new Numbers();
  const stream = new Tagger(bundle, engine).stream(32000, { hop: 1, logMel: true });
  const found = [];
  for (let at = 0; at < samples.length; at += 9999) found.push(...(await stream.push(samples.subarray(at, at + 9999))));
  assert.equal(found.length, 3); // the last frame of a window needs half a frame after it
  found.push(...(await stream.finish()));
  assert.deepEqual(found.map(({ start }) => start), [0, 1, 2, 3]);
  for (const { start, logMel } of found) {
    const first = Math.round(start * 100) * 64;
    assert.equal(logMel.length, 1001 * 64);
    assert.deepEqual(logMel.subarray(0, 1001 * 64), whole.slice(first, first + 1001 * 64));
  }
  assert.equal(engine.runs, 4);
});

test("a stream goes on after an error of the engine, at the right time", async () => {
  const samples = new Float32Array(24 * 32000).fill(0.1);
  for (const size of [8000, 50000, samples.length]) {
    const stream = new Tagger(waveformBundle, new Numbers(3, 5)).stream(32000, { hop: 1 });
    const found = [];
    let failures = 0;
    const feed = async (work) => {
      try {
        found.push(...(await work()));
      } catch (error) {
        assert.equal(error.message, "the engine failed");
        failures++;
      }
    };
    for (let at = 0; at < samples.length; at += size) {
      await feed(() => stream.push(samples.subarray(at, at + size)));
    }
    for (let i = 0; i < 3; i++) await feed(() => stream.finish());
    const starts = found.map(({ start }) => start);
    assert.ok(failures >= 1 && failures <= 2);
    assert.deepEqual(starts.slice(0, 3), [0, 1, 2]);
    const whole = Array.from({ length: 15 }, (_, k) => k);
    if (size <= 32000) assert.deepEqual(starts, whole.filter((k) => k !== 3 && k !== 5));
  }
});

test("overlapping calls run one after another", async () => {
  const stream = new Tagger(waveformBundle, new Numbers()).stream(32000, { hop: 2 });
  const calls = Array.from({ length: 14 }, () => stream.push(new Float32Array(32000).fill(0.1)));
  const found = (await Promise.all([...calls, stream.finish()])).flat();
  assert.deepEqual(found.map(({ start }) => start), [0, 2, 4]);
});

test("arrays may be used again as soon as the call has returned", async () => {
  const samples = Float32Array.from({ length: 320000 }, (_, i) => 0.5 * Math.sin(i / 9));
  const engine = new Numbers();
  const tagger = new Tagger(waveformBundle, engine);
  const stream = tagger.stream(32000, { hop: 10 });
  const calls = [
    [(buffer) => stream.push(buffer), ([window]) => near(window.levelDbfs, 10 * Math.log10(0.125), 0.01, "push")],
    [(buffer) => stream.push([buffer, buffer]), ([window]) => assert.ok(window.levelDbfs > -10)],
    [(buffer) => tagger.run(buffer), () => {}],
    [(buffer) => tagger.tag(buffer, 32000), (found) => {
      near(found.levelDbfs, 10 * Math.log10(0.125), 0.01, "tag");
      assert.deepEqual([found.seconds, found.secondsHeard], [10, 10]);
    }],
  ];
  for (const [call, check] of calls) {
    const buffer = samples.slice();
    const result = call(buffer);
    buffer.fill(0);
    structuredClone(buffer.buffer, { transfer: [buffer.buffer] }); // as postMessage does
    check(await result);
    assert.deepEqual(engine.input, samples);
  }
});

test("a long recording whose samples are taken away is refused, not cut", async () => {
  const tagger = new Tagger(waveformBundle, new Numbers());
  const samples = new Float32Array(320000 * 3).fill(0.1);
  const result = tagger.tagLong({ channels: [samples], sampleRate: 32000, seconds: 30, warnings: [], source: "a" });
  structuredClone(samples.buffer, { transfer: [samples.buffer] });
  await assert.rejects(result, refused("audio", "a: the samples were taken away", "send a copy"));
  const other = new Float32Array(320000).fill(0.1);
  const windows = tagger.windows(other, 32000);
  structuredClone(other.buffer, { transfer: [other.buffer] });
  await assert.rejects(all(windows), refused("audio", "the samples were taken away"));
});

test("the warnings of a stream end with it", async () => {
  const stream = new Tagger(waveformBundle, new Numbers()).stream(32000);
  await stream.push(new Float32Array(32000).fill(1.5));
  await stream.finish();
  assert.equal(stream.warnings.length, 1);
  await stream.push(new Float32Array(32000).fill(0.5));
  assert.deepEqual([stream.warnings, stream.seconds], [[], 1]);
});

test("one clip: padding, what was heard, and the tags", async () => {
  const engine = new Numbers();
  const tagger = new Tagger(bundle, engine);
  const samples = Float32Array.from({ length: 3 * 44100 }, (_, i) => 0.5 * Math.sin(i / 9));
  const found = await tagger.tag(samples, 44100, { top: 2 });
  assert.deepEqual(found.tags.map(({ index }) => index), [15, 7]);
  assert.deepEqual([found.seconds, found.secondsHeard, found.usedSeconds, found.paddingSeconds], [3, 3, 3, 7]);
  assert.deepEqual([found.warnings, found.engine, found.fallback, found.model], [[], "wasm", null, "demo"]);
  near(found.levelDbfs, 10 * Math.log10(0.125), 0.01, "level");
  assert.equal(engine.input.length, 1001 * 64);
  assert.ok(engine.input.subarray(400 * 64).every((value) => value === -100));
  const long = await tagger.tag(new Float32Array(320000 * 2 + 32000).fill(0.1), 32000);
  assert.deepEqual(long.warnings, ["21.0 s long; only the first 10 s were tagged"]);
  assert.deepEqual([long.seconds, long.secondsHeard, long.usedSeconds], [21, 10, 10]);
});

test("a recording of a file that was cut", async () => {
  const recording = {
    channels: [new Float32Array(64000).fill(0.1)], sampleRate: 32000, seconds: 5, source: "a.wav",
    warnings: ["2.00 s of 5.00 s could be decoded: the file is cut or damaged"],
  };
  const tagger = new Tagger(waveformBundle, new Numbers());
  for (const found of [await tagger.tag(recording), await tagger.tagLong(recording)]) {
    assert.deepEqual([found.seconds, found.secondsHeard, found.source], [5, 2, "a.wav"]);
    assert.deepEqual(found.warnings, recording.warnings);
  }
});

test("sounds that cannot be used", async () => {
  const tagger = new Tagger(waveformBundle, new Numbers());
  const bad = new Float32Array(32000).fill(0.1);
  bad[100] = NaN;
  const cases = [
    [new Float32Array(0), 32000, "no samples"], [[], 32000, "no channels"], [bad, undefined, "without a sample rate"],
    [bad, 0, "expected a whole number"], [bad, 32000.5, "expected a whole number"], [null, 32000, "no sound"],
    [[bad, bad.slice(1)], 32000, "as many samples in each"], [[0.1, 0.2], 32000, "expected Float32Array"],
    [bad.map(() => 3000), 32000, "samples reach 3000.00"],
  ];
  for (const [sound, rate, part] of cases) {
    await assert.rejects(tagger.tag(sound, rate), refused("audio", part));
    await assert.rejects(tagger.tagLong(sound, rate), refused("audio", part));
  }
  await assert.rejects(tagger.tag(bad, 32000), refused("audio", "sample 100 is NaN, Inf or beyond ±2.5"));
  await assert.rejects(tagger.tagLong(bad, 32000), refused("audio", "at 0.003 s", "at least one usable window"));
  const named = { channels: [bad], sampleRate: 32000, seconds: 1, warnings: [], source: "a.wav" };
  await assert.rejects(tagger.tag(named), refused("audio", "a.wav: sample 100"));
});

test("options that are out of range", async () => {
  const tagger = new Tagger(waveformBundle, new Numbers());
  const samples = new Float32Array(32000).fill(0.1);
  for (const hop of [0, -1, 10.1, NaN]) {
    assert.throws(() => tagger.windows(samples, 32000, { hop }), refused("audio", "at most a window of 10"));
  }
  for (const options of [{ top: 0 }, { top: 1.5 }, { threshold: -1 }, { threshold: NaN }]) {
    await assert.rejects(tagger.tag(samples, 32000, options), refused("audio", "expected a"));
  }
  await assert.rejects(tagger.tagLong(samples, 32000, { aggregate: "sum" }), refused("audio", "mean or max"));
  await assert.rejects(Tagger.open(waveformBundle, { accelerator: "gpu" }), refused("engine", "wasm or webgpu"));
  assert.throws(() => topTags(["a"], new Float32Array(2)), refused("audio", "one for each label"));
  assert.deepEqual(topTags(["a", "b"], Float32Array.of(0.25, 0.5), { threshold: 0.3, top: null }), [
    { label: "b", index: 1, score: 0.5 },
  ]);
});

test("outputs that are not those of the manifest", async () => {
  const samples = new Float32Array(32000).fill(0.1);
  const engine = (change) => {
    const numbers = new Numbers();
    return { accelerator: "wasm", close() {}, run: async (input) => change(await numbers.run(input)) };
  };
  const cases = [
    [(outputs) => ({ ...outputs, probs: outputs.probs.slice(1) }), "probs of 21 values; expected 22"],
    [({ probs }) => ({ probs }), "embedding of 0 values; expected 96"],
    [(outputs) => ({ ...outputs, probs: outputs.probs.map(() => NaN) }), "probabilities outside 0 … 1"],
    [(outputs) => ({ ...outputs, probs: outputs.probs.map(() => 1.1) }), "probabilities outside 0 … 1"],
  ];
  for (const [change, part] of cases) {
    await assert.rejects(new Tagger(waveformBundle, engine(change)).tag(samples, 32000), refused("engine", part));
  }
});

test("a tagger that was closed, and work that was given up", async () => {
  const engine = new Numbers();
  const tagger = new Tagger(waveformBundle, engine);
  const samples = new Float32Array(32000 * 60).fill(0.1);
  const controller = new AbortController();
  const found = [];
  await assert.rejects(async () => {
    for await (const window of tagger.windows(samples, 32000, { signal: controller.signal })) {
      found.push(window);
      controller.abort();
    }
  }, { name: "AbortError" });
  assert.equal(found.length, 1);
  const last = tagger.tag(samples, 32000);
  tagger.close();
  tagger.close();
  await assert.rejects(last, refused("engine", "was closed"));
  await assert.rejects(tagger.tag(samples, 32000), refused("engine", "was closed"));
  assert.ok(engine.closed);
});

test("the self-test passes for PyTorch's probabilities alone", async () => {
  const { probs } = bundle.selfTest;
  const engine = (change) => ({
    accelerator: "wasm",
    close() {},
    run: async () => ({ probs: change(probs.slice()), embedding: new Float32Array(96) }),
  });
  const run = (change) => new Tagger(bundle, engine(change)).selfTest();
  const found = await run((x) => x);
  assert.deepEqual([found.passed, found.largestDifference, found.allowed, found.why], [true, 0, 0.005, ""]);
  for (const [change, part] of [
    [(x) => x.fill(0), "all zero"],
    [(x) => x.fill(0, 7, 8), "largest difference 1.00 > 0.00500"],
    [(x) => x.map((p) => p + 0.006 * (p < 0.9)), "largest difference 0.00600"],
    [(x) => x.fill(NaN), "probabilities outside 0 … 1"],
  ]) {
    const { passed, why } = await run(change);
    assert.equal(passed, false);
    assert.ok(why.includes(part), why);
  }
  assert.deepEqual(cpuGate(bundle.manifest), { maxAbs: 0.005, corr: 0.9999, top5: true });
  assert.match(compare(probs.map((_, i) => i / 30), probs, GPU_GATE).why, /correlation/);
  assert.match(compare(probs, probs.map(() => 0.5), GPU_GATE).why, /flat/);
  assert.match(compare(probs.slice(1), probs, GPU_GATE).why, /21 values; expected 22/);
});
