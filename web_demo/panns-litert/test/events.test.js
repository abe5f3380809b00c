// Events against tests/vectors/events.json and streams.json; what listeners are told; what is refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import { audacityLabels, EventDetector, eventsCsv, EventStream } from "../dist/index.js";
import { refused, vectors } from "./support.js";

const byStart = (a, b) => a.start - b.start || a.index - b.index;

/** A listener that keeps what it is told. */
function listening() {
  const told = { onsets: [], offsets: [] };
  const listener = {
    onset: (label, start) => told.onsets.push(`${label} ${start}`),
    offset: (event) => {
      assert.ok(told.onsets.includes(`${event.label} ${event.start}`), "an offset without an onset");
      told.offsets.push(event);
    },
  };
  return { told, listener };
}

function assertSame(found, expected, name) {
  assert.equal(found.length, expected.length, name);
  expected.forEach((want, i) => {
    assert.equal(found[i].index, want.index, name);
    for (const field of ["start", "end", "score"]) assert.ok(Math.abs(found[i][field] - want[field]) < 1e-6, name);
  });
}

test("the events of the shared vectors", async () => {
  const { cases } = await vectors("events.json");
  assert.ok(cases.length > 30);
  for (const given of cases) {
    const labels = Array.from({ length: given.classes }, (_, i) => `class ${i}`);
    const classes = Object.fromEntries(
      labels.map((label, i) => [label, { on: given.on?.[i], off: given.off?.[i] }]),
    );
    const { told, listener } = listening();
    const settings = { minDuration: given.min_duration, maxGap: given.max_gap, classes };
    const detector = new EventDetector(labels, settings, listener);
    for (let turn = 0; turn < 2; turn++) { // the second time after a finish
      const found = given.steps.flatMap(({ scores, start, end }) => detector.push(scores, start, end));
      found.push(...detector.finish());
      assertSame(found.sort(byStart), given.events, given.name);
      assert.equal(told.offsets.length, (turn + 1) * given.events.length, given.name);
      assert.equal(told.onsets.length, told.offsets.length, given.name);
    }
  }
});

test("the events in windows of the shared vectors", async () => {
  const cases = (await vectors("streams.json")).cases.filter((given) => Object.keys(given.sense).length === 0);
  assert.ok(cases.length >= 20);
  for (const given of cases) {
    // A cool-down changes what Python's and Kotlin's `changes` tell, which this package does not have, and no event.
    const { min_duration: minDuration, max_gap: maxGap, cooldown: _, classes, ...rest } = given.settings;
    const own = Object.entries(classes ?? {}).map(([name, { min_duration, max_gap, cooldown: __, ...values }]) => [
      name,
      { ...values, minDuration: min_duration, maxGap: max_gap },
    ]);
    const settings = { ...rest, minDuration, maxGap, classes: Object.fromEntries(own) };
    const { told, listener } = listening();
    const stream = new EventStream(given, settings, listener);
    const found = given.windows.flatMap((window) =>
      stream.push({
        ...window,
        probs: Float32Array.from(window.probs),
        framewise: window.framewise && Float32Array.from(window.framewise.flat()),
        unusable: window.unusable ? "NaN" : null,
      }),
    );
    found.push(...stream.finish());
    assert.deepEqual(told.offsets, found, given.name);
    assert.equal(told.onsets.length, found.length, given.name);
    assertSame(found.sort(byStart), given.events, given.name);
    assert.deepEqual(found.map((event) => event.label), given.events.map((event) => event.label), given.name);
  }
});

test("an onset is told when the event has lasted for the minimum duration", () => {
  const { told, listener } = listening();
  const detector = new EventDetector(["a"], { on: 0.5, minDuration: 2 }, listener);
  detector.push([0.9], 0, 1);
  assert.deepEqual(told.onsets, []);
  detector.push([0.9], 1, 2);
  assert.deepEqual(told.onsets, ["a 0"]);
  assert.deepEqual(detector.push([0.1], 2, 3), [{ label: "a", index: 0, start: 0, end: 2, score: 0.9 }]);
});

test("the float32 nearest to 0.7 is below a threshold of 0.7", () => {
  const detector = new EventDetector(["a"], { on: 0.7 });
  detector.push(Float32Array.of(0.7), 0, 1);
  assert.deepEqual(detector.finish(), []);
});

test("settings that are out of range are refused", () => {
  for (const settings of [
    { on: 1.1 }, { on: -0.1 }, { on: NaN }, { on: "0.5" }, { off: 0.3 }, { minDuration: -1 }, { maxGap: Infinity },
    { classes: { b: { on: 0.5 } } }, { classes: { a: { on: 0.5, volume: 1 } } }, { threshold: 0.5 },
  ]) {
    assert.throws(() => new EventDetector(["a"], settings), refused("events", "expected"), JSON.stringify(settings));
  }
  assert.throws(() => new EventDetector([]), refused("events", "expected different names"));
  assert.throws(() => new EventDetector(["a", "a"]), refused("events", "expected different names"));
});

test("a step that is out of order or out of range is refused and ignored", () => {
  const detector = new EventDetector(["a", "b"]);
  detector.push([0.9, 0.1], 0, 1);
  for (const [scores, start, end, part] of [
    [[0.1], 1, 2, "one per class"], [[0.1, NaN], 1, 2, "expected 0 … 1"], [[0.1, 1.1], 1, 2, "expected 0 … 1"],
    [[0.1, 0.1], 2, 2, "start < end"], [[0.1, 0.1], 1, Infinity, "finite"], [[0.1, 0.1], 0.5, 2, "in order"],
  ]) {
    assert.throws(() => detector.push(scores, start, end), refused("events", part));
  }
  detector.push([0.9, 0.1], 1, 2);
  assert.deepEqual(detector.finish(), [{ label: "a", index: 0, start: 0, end: 2, score: 0.9 }]);
});

test("events as CSV and as Audacity labels", () => {
  const events = [
    { label: 'Vehicle horn, car horn', index: 3, start: 0, end: 1.5, score: 0.25 },
    { label: '=1+1 "x"', index: 0, start: 2, end: 3, score: 1 },
  ];
  assert.equal(
    eventsCsv(events),
    "start,end,label,index,score\n" +
      '0.000000,1.500000,"Vehicle horn, car horn",3,0.250000\n2.000000,3.000000,"\'=1+1 ""x""",0,1.000000\n',
  );
  assert.equal(audacityLabels(events.slice(0, 1)), "0.000000\t1.500000\tVehicle horn, car horn\n");
});
