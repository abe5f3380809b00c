// What the tests share: the vectors of tests/vectors, the demo bundle, and an engine of numbers.
import { webcrypto } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { Bundle } from "../dist/index.js";

globalThis.crypto ??= webcrypto; // Node 18 has it under another name

const root = new URL("../../../", import.meta.url);

/** The content of a file of tests/vectors. */
export const vectors = async (name) => JSON.parse(await readFile(new URL(`tests/vectors/${name}`, root), "utf8"));

export const read = async (path) => new Uint8Array(await readFile(new URL(path, root)));

/** The files of the demo bundle, by name. */
export async function demoFiles() {
  const folder = "assets/demo_bundle/";
  const names = await readdir(new URL(folder, root));
  return new Map(await Promise.all(names.map(async (name) => [name, await read(folder + name)])));
}

/** Files as `Bundle.open` takes them. */
export const asFiles = (files) =>
  Array.from(files, ([name, data]) => ({ name, arrayBuffer: async () => data.slice().buffer }));

export const demo = async () => Bundle.open(asFiles(await demoFiles()));

/** Changes the manifest of a bundle's files in place. */
export function editManifest(files, change) {
  const manifest = JSON.parse(new TextDecoder().decode(files.get("manifest.json")));
  change(manifest);
  files.set("manifest.json", new TextEncoder().encode(JSON.stringify(manifest)));
  return files;
}

/** Replaces a file, and its record in the manifest. */
export async function replaceFile(files, name, data) {
  const digest = await crypto.subtle.digest("SHA-256", data);
  const sha256 = Buffer.from(digest).toString("hex");
  files.set(name, data);
  return editManifest(files, ({ files: records }) => Object.assign(records[name], { sha256, bytes: data.length }));
}

/** The demo bundle with a graph that takes samples: its tagger needs no front end. */
export async function takesSamples() {
  const files = await demoFiles();
  editManifest(files, (manifest) => {
    manifest.graph = "waveform";
    manifest.log_mel = "graph";
    manifest.inputs = [{ name: "waveform", shape: [1, 320000], dtype: "float32" }];
  });
  return Bundle.open(asFiles(files));
}

/** The engine of tests/vectors/make_long.py: it counts its runs, and fails at those of `failures`. */
export class Numbers {
  accelerator = "wasm";
  runs = 0;
  closed = false;

  constructor(...failures) {
    this.failures = failures;
  }

  async run(input) {
    const n = this.runs++;
    this.input = input;
    if (this.failures.includes(n)) throw new Error("the engine failed");
    return {
      probs: Float32Array.from({ length: 22 }, (_, c) => ((37 * n + 13 * c) % 101) / 100),
      embedding: Float32Array.from({ length: 96 }, (_, c) => ((5 * n + 3 * c) % 17) / 17 - 0.5),
    };
  }

  close() {
    this.closed = true;
  }
}

/** All items of an async iterator. */
export async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

/** A matcher for assert.throws: an error of this package whose message has all parts. */
export const refused = (kind, ...parts) => (error) => {
  const fits = error.name === "PannsLitertError" && error.kind === kind;
  if (!fits || !parts.every((part) => error.message.includes(part))) throw error;
  return true;
};
