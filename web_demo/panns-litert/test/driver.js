// Runs the cases of tests/driven.py, whose checks judge the results: `node driver.js CASES.json`.
import { readFile, writeFile } from "node:fs/promises";
import { EventDetector, LogMel, Resampler } from "../dist/index.js";
import { readSpec } from "../dist/frontend/spec.js";
import { StrictJson } from "../dist/strict.js";

const floats = async (path) => new Float32Array((await readFile(path)).buffer.slice(0));

function logmel({ spec, basis, input }) {
  const json = StrictJson.parse(new TextEncoder().encode(JSON.stringify(spec)), "front_end");
  return new LogMel(json.whole(readSpec), basis).transform(input);
}

function resample({ from, to, input, chunks }) {
  const resampler = new Resampler(from, to);
  const found = [];
  for (let at = 0, turn = 0; at < input.length; turn++) {
    const size = chunks[turn % chunks.length];
    found.push(...resampler.push(input.subarray(at, at + size)));
    at += size;
  }
  return Float32Array.from([...found, ...resampler.finish()]);
}

function events({ on, off, min_duration: minDuration, max_gap: maxGap, steps }) {
  const labels = on.map((_, i) => String(i));
  const classes = Object.fromEntries(labels.map((label, i) => [label, { on: on[i], off: off[i] }]));
  const detector = new EventDetector(labels, { minDuration, maxGap, classes });
  const found = steps.flatMap(({ scores, start, end }) => detector.push(scores, start, end));
  return [...found, ...detector.finish()].sort((a, b) => a.start - b.start || a.index - b.index);
}

const FUNCTIONS = { logmel, resample, events };

for (const given of JSON.parse(await readFile(process.argv[2], "utf8"))) {
  for (const name of ["basis", "input"]) if (given[name]) given[name] = await floats(given[name]);
  const found = FUNCTIONS[given.run](given);
  await writeFile(given.output, found instanceof Float32Array ? new Uint8Array(found.buffer) : JSON.stringify(found));
}
