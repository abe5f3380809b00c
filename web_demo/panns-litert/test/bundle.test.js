// Bundles: the demo bundle opens; whatever is missing, altered or of another format is refused in one line.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bundle, isProven } from "../dist/index.js";
import { classNames } from "../dist/bundle/labels.js";
import { fileOf } from "../dist/bundle/manifest.js";
import { StrictJson } from "../dist/strict.js";
import { asFiles, demo, demoFiles, editManifest, refused, replaceFile } from "./support.js";

const utf8 = (text) => new TextEncoder().encode(text);

/** Requires that a changed copy of the demo bundle is refused with a message of these parts. */
async function assertRefused(change, kind, ...parts) {
  const files = await demoFiles();
  await change(files);
  await assert.rejects(Bundle.open(asFiles(files)), refused(kind, ...parts));
}

test("the demo bundle", async () => {
  const bundle = await demo();
  assert.equal(bundle.manifest.model, "demo");
  assert.equal(bundle.manifest.frontEnd.nFft, 1024);
  assert.equal(bundle.labels.length, 22);
  assert.equal(bundle.labels[7], "Telephone dialing, DTMF");
  assert.equal(bundle.melBasis.length, 64 * 513);
  assert.equal(bundle.model.length, bundle.manifest.files.get("demo_synthetic_fp16.tflite").bytes);
  assert.equal(bundle.selfTest.samples.length, 64000);
  assert.equal(bundle.selfTest.probs.length, 22);
});

test("a bundle without a self-test, and one whose model card was edited", async () => {
  const files = await demoFiles();
  for (const name of ["selftest.json", "selftest.pcm"]) editManifest(files, (m) => delete m.files[name]);
  files.set("README.md", utf8("edited"));
  assert.equal((await Bundle.open(asFiles(files))).selfTest, null);
});

test("a missing file", async () => {
  for (const name of ["demo_synthetic_fp16.tflite", "mel_basis.bin", "demo_labels.txt", "selftest.pcm"]) {
    await assertRefused((files) => files.delete(name), "bundle", `no ${name}`, "copy the whole folder again");
  }
  await assertRefused((files) => files.delete("manifest.json"), "bundle", "no manifest.json", "`panns-litert convert`");
  await assert.rejects(Bundle.open([]), refused("bundle", "no manifest.json"));
});

test("what is no address and no list of files", async () => {
  for (const from of [undefined, null, 5, {}]) {
    await assert.rejects(Bundle.open(from), refused("bundle", "or a list of files"));
  }
  await assert.rejects(Bundle.open("http://["), refused("bundle", "expected the URL"));
});

test("two files of one name", async () => {
  const files = asFiles(await demoFiles());
  await assert.rejects(Bundle.open([...files, files[0]]), refused("bundle", "two files", "one bundle"));
});

test("an altered file, or one of another length", async () => {
  const model = "demo_synthetic_fp16.tflite";
  for (const name of [model, "mel_basis.bin", "demo_labels.txt", "selftest.json", "selftest.pcm"]) {
    await assertRefused((files) => (files.get(name)[100] ^= 1), "bundle", `${name} was altered`, "sha256");
    await assertRefused((files) => files.set(name, files.get(name).slice(1)), "bundle", name, "the manifest says");
  }
});

test("a folder by its URL: HTTP errors, and a page in place of the manifest", async (t) => {
  const page = new Response("<!doctype html>", { status: 200 });
  for (const [answer, part] of [
    [new Response("", { status: 404 }), "no manifest.json (HTTP 404)"],
    [page, "not JSON"],
    [new TypeError("fetch failed"), "no manifest.json (fetch failed)"],
  ]) {
    t.mock.method(globalThis, "fetch", async () => {
      if (answer instanceof Error) throw answer;
      return answer;
    });
    await assert.rejects(Bundle.open("http://127.0.0.1:9/bundles/demo"), refused("bundle", part));
  }
  const files = await demoFiles();
  const asked = [];
  t.mock.method(globalThis, "fetch", async (url) => {
    asked.push(url.pathname);
    return new Response(files.get(url.pathname.split("/").pop()));
  });
  const bundle = await Bundle.open(new URL("http://127.0.0.1:9/bundles/demo"));
  assert.equal(bundle.labels.length, 22);
  assert.ok(asked.every((path) => path.startsWith("/bundles/demo/")));
  assert.ok(!asked.includes("/bundles/demo/README.md"));
});

test("an adopted bundle is read without proof and embedding", async () => {
  const adopted = (stage) => (m) => {
    m.format_version = 3;
    m.outputs.splice(1, 1);
    m.parity = m.parity.filter((check) => check.stage === "fp16" && check.output === "probs");
    m.parity[0].stage = stage;
  };
  const files = await demoFiles();
  assert.equal(isProven((await Bundle.open(asFiles(files))).manifest), true);
  editManifest(files, adopted("engine"));
  const bundle = await Bundle.open(asFiles(files));
  assert.equal(isProven(bundle.manifest), false);
  assert.deepEqual(bundle.manifest.outputs.map((output) => output.name), ["probs"]);
  await assertRefused((f) => editManifest(f, adopted("network")), "bundle", "no check of probs at fp16 or engine");
  const quantized = (m) => {
    adopted("engine")(m);
    m.quantization = { kept: [], calibration_clips: 0 };
  };
  await assertRefused((f) => editManifest(f, quantized), "bundle", "quantization in format 3");
});

test("manifests of another format, and fields that contradict each other", async () => {
  const cases = [
    [(m) => (m.format_version = 4), "format_version 4; this version reads 2 and 3; update panns-litert"],
    [(m) => (m.format_version = "2"), "expected a whole number"],
    [(m) => delete m.format_version, "missing format_version"],
    [(m) => (m.future = 1), "unknown future"],
    [(m) => (m.source.future = 1), "manifest.json.source: unknown future"],
    [(m) => delete m.graph, "missing graph"],
    [(m) => (m.model = 5), "model 5; expected a text"],
    [(m) => (m.graph = "mel"), "expected logmel or waveform"],
    [(m) => (m.log_mel = "graph"), "expected host with logmel alone"],
    [(m) => (m.clip_seconds = 0), "clip_seconds 0"],
    [(m) => (m.clip_seconds = 1e9), "at most 100000000 samples"],
    [(m) => (m.clip_seconds = 0.01), "takes at least 513 samples"],
    [(m) => (m.clip_seconds = 9), "the front end and clip_seconds give"],
    [(m) => (m.inputs[0].dtype = "float16"), "the front end and clip_seconds give"],
    [(m) => m.outputs.reverse(), "expected probs, embedding"],
    [(m) => (m.outputs[0].shape = [2, 22]), "expected float32 of shape (1, …)"],
    [(m) => (m.outputs[0].shape = [1, 21]), "22 lines; expected 21"],
    [(m) => (m.precision = "fp8"), "precision"],
    [(m) => (m.parity = []), "no proof of every stage"],
    [(m) => (m.parity[0].passed = false), "no proof of front_end/"],
    [(m) => delete m.parity[0].threshold.max_abs, "no proof of front_end/"],
    [(m) => (m.quantization = { kept: [], calibration_clips: 0 }), "expected it with integer weights"],
    [(m) => (m.files["../mel_basis.bin"] = m.files["mel_basis.bin"]), "files with roles"],
    [(m) => delete m.files["selftest.pcm"], "or neither"],
    [(m) => (m.files["mel_basis.bin"].sha256 = "ABC"), "64 hexadecimal digits"],
    [(m) => (m.files["mel_basis.bin"].bytes = 1e12), "expected a mel_basis of"],
  ];
  for (const [change, part] of cases) {
    await assertRefused((files) => editManifest(files, change), "bundle", "manifest.json", part).catch((error) => {
      if (!part.includes("lines")) throw error;
      return assertRefused((files) => editManifest(files, change), "bundle", part);
    });
  }
  await assertRefused((files) => editManifest(files, (m) => (m.front_end.n_fft = 1000)), "spec", "power of two");
  const renamed = (name) => (m) => {
    m.files[name] = m.files["mel_basis.bin"];
    delete m.files["mel_basis.bin"];
  };
  for (const name of ["../mel_basis.bin", "a/b", "a\\b", "..", "manifest.json", "\u202eb", "x".repeat(256)]) {
    await assertRefused((files) => editManifest(files, renamed(name)), "bundle", "expected a plain name");
  }
});

/** What an NPU took of the demo's model: all, and it ran right. */
function npuRecord(manifest) {
  const model = manifest.files["demo_synthetic_fp16.tflite"];
  return {
    soc: "SM8650",
    architecture: "v75",
    arithmetic: "float16",
    operators: 41,
    taken: 41,
    partitions: 1,
    resident: true,
    refused: [],
    errors: [],
    checks: [{ ...manifest.parity.find((check) => check.output === "probs"), stage: "npu" }],
    compiled_bytes: model.bytes,
    outputs_sha256: "0".repeat(64),
    passed: true,
    model_sha256: model.sha256,
    versions: { QNN: "v2.51" },
  };
}

test("an NPU's result whose figures say otherwise", async () => {
  const cases = [
    [(r) => (r.taken = 40), "resident, but"],
    [(r) => Object.assign(r, { taken: 40, passed: false }), "resident, but"],
    [(r) => Object.assign(r, { operators: 0, taken: 0 }), "resident, but"],
    [(r) => Object.assign(r, { partitions: 2, passed: false }), "resident, but"],
    [(r) => (r.refused = ["x"]), "resident, but"],
    [(r) => (r.errors = ["x"]), "resident, but"],
    [(r) => Object.assign(r, { checks: [], passed: false }), "resident, but"],
    [(r) => (r.resident = false), "passed, but"],
    [(r) => (r.checks[0].passed = false), "passed, but"],
    [(r) => (r.model_sha256 = "0".repeat(64)), "of another .tflite"],
    [(r, m) => m.npu.push(r), "two NPU results of one SoC"],
    [(r, m) => m.npu.push({ ...r, soc: "sm8650" }), "two NPU results of one SoC"],
    [(r) => (r.soc = "SM8650\n"), "expected the name of a SoC"],
    [(r) => (r.soc = ""), "expected the name of a SoC"],
    [(r) => (r.soc = "SM8550"), "without the result of its NPU"],
    [(r) => (r.compiled_bytes = null), "without the result of its NPU"],
    [(r, m) => delete m.npu, "without the result of its NPU"],
  ];
  for (const [change, part] of cases) {
    const edited = (files) =>
      editManifest(files, (m) => {
        m.files["demo_synthetic_fp16_sm8650.tflite"] = {
          ...m.files["demo_synthetic_fp16.tflite"],
          role: "npu_model",
        };
        m.npu = [npuRecord(m)];
        change(m.npu[0], m);
      });
    await assertRefused(edited, "bundle", "manifest.json", part);
  }
});

test("a file compiled for an NPU is never taken for the model", async () => {
  const files = await demoFiles();
  await editManifest(files, (m) => {
    const model = m.files["demo_synthetic_fp16.tflite"];
    m.files = { "demo_synthetic_fp16_sm8650.tflite": { ...model, role: "npu_model" }, ...m.files };
    m.npu = [npuRecord(m)];
  });
  const bundle = await Bundle.open(asFiles(files)); // without that file, which the browser does not read
  assert.equal(fileOf(bundle.manifest, "model"), "demo_synthetic_fp16.tflite");
});

test("a mel basis of another front end", async () => {
  const edited = async (files) => {
    const basis = files.get("mel_basis.bin").slice();
    new DataView(basis.buffer).setFloat32(4 * 30, 0.5, true);
    await replaceFile(files, "mel_basis.bin", basis);
  };
  await assertRefused(edited, "bundle", "mel_basis.bin", "is not the mel basis");
});

test("a self-test that does not fit", async () => {
  const cases = [
    [(t) => (t.format_version = 2), "format_version 2; expected 1"],
    [(t) => (t.model_sha256 = "0".repeat(64)), "model_sha256"],
    [(t) => (t.sample_rate = 16000), "sample_rate 16000; expected 32000"],
    [(t) => t.probs.pop(), "number of probs 21; expected 22"],
    [(t) => (t.probs[0] = 1.5), "probs outside 0 … 1"],
    [(t) => (t.samples = 63999), "bytes of the samples"],
    [(t) => (t.samples_sha256 = "0".repeat(64)), "samples_sha256"],
    [(t) => (t.future = 1), "unknown future"],
  ];
  for (const [change, part] of cases) {
    const edited = async (files) => {
      const data = JSON.parse(new TextDecoder().decode(files.get("selftest.json")));
      change(data);
      await replaceFile(files, "selftest.json", utf8(JSON.stringify(data)));
    };
    await assertRefused(edited, "bundle", "selftest.json", part);
  }
});

test("class names", () => {
  const names = (text) => classNames(typeof text === "string" ? utf8(text) : text, "labels.txt");
  assert.deepEqual(names("\ufeffDog\r\nCat, cat\n"), ["Dog", "Cat, cat"]);
  assert.deepEqual(names("👩‍🚒 siren"), ["👩‍🚒 siren"]);
  for (const [text, part] of [
    ["", "line 1: an empty name"], ["Dog\n\nCat", "line 2: an empty name"], ["Dog\n \n", "an empty name"],
    ["Dog\nCat\nDog", "line 3: \"Dog\" is on line 1, too"], ["a\tb", "U+0009"], ["a\rb", "U+000D"],
    ["\u202eDog", "U+202E"], ["a\u2028b", "U+2028"], ["Dog\n\n", "line 2: an empty name"],
    [Uint8Array.of(0xff, 0x41), "not UTF-8"],
  ]) {
    assert.throws(() => names(text), refused("bundle", "labels.txt", part, "expected different names"));
  }
});

test("strict JSON", () => {
  const parse = (text) => StrictJson.parse(typeof text === "string" ? utf8(text) : text, "file");
  assert.equal(parse('\ufeff{"a": {"a": ["{\\"a\\":"]}, "b": 1}').int("b"), 1);
  for (const [text, part] of [
    ["", "not JSON"], ["{", "not JSON"], ["{} x", "not JSON"], ['{"a": NaN}', "not JSON"], ["[]", "expected an object"],
    ['{"a": 1, "a": 2}', "twice"], ['{"b": {"a": 1, "\\u0061": 2}}', "twice"], ['{"a": 1e999}', "too large"],
    ['{"a": "\\u0000"}', "NUL"], ['{"a": "\\ud800"}', "surrogate"], ['{"\\udc00": 1}', "surrogate"],
    [`{"a": ${"[".repeat(40)}${"]".repeat(40)}}`, "nested more than 32"], [Uint8Array.of(0xff), "not UTF-8"],
  ]) {
    assert.throws(() => parse(text), refused("bundle", "file", part), text);
  }
});
