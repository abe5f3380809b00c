import { shown } from "../errors.js";
import { StrictJson } from "../strict.js";
import { classesOf, clipSamples, fileOf, probsCheck, type Manifest } from "./manifest.js";
import { sha256 } from "./sha256.js";

/** The self-test of a bundle: a recording and PyTorch's probabilities for it; without proof, the model's own. */
export interface SelfTest {
  /** Mono, at the model's sample rate; the rest of the clip is silence. */
  readonly samples: Float32Array;
  /** Expected probability of each class, 0 … 1. */
  readonly probs: Float32Array;
}

/** Limits of a comparison; null for no limit. */
export interface Gate {
  readonly maxAbs: number;
  readonly corr: number | null;
  /** Whether the five highest classes must agree, as far as their margin over the sixth exceeds the error. */
  readonly top5: boolean;
}

/** Figures and verdict of a comparison. `why` is "" if it passed; figures that cannot be computed are null. */
export interface Comparison {
  maxAbs: number | null;
  corr: number | null;
  why: string;
}

/** The limits of a GPU, which computes in float16: those of `gpu_fp16` in the Python runtime. */
export const GPU_GATE: Gate = { maxAbs: 0.05, corr: 0.999, top5: false };

const FORMAT_VERSION = 1;

/** The limits of the CPU: those of the bundle's own conversion, from its manifest. */
export function cpuGate(manifest: Manifest): Gate {
  const { threshold } = probsCheck(manifest) ?? manifest.parity.find((check) => check.stage === manifest.precision)!;
  return {
    maxAbs: threshold.get("max_abs")!,
    corr: threshold.get("corr") ?? null,
    top5: manifest.precision !== "fp32",
  };
}

/**
 * Reads selftest.json and its samples, 16-bit little-endian.
 *
 * @throws PannsLitertError ("bundle") they are not of this format, do not fit each other, or belong to another model
 */
export async function readSelfTest(
  data: Uint8Array,
  pcm: Uint8Array,
  manifest: Manifest,
  where: string,
): Promise<SelfTest> {
  const json = StrictJson.parse(data, where);
  const samples = json.int("samples");
  const probs = json.numbers("probs");
  const expected: [string, unknown, unknown][] = [
    ["format_version", json.int("format_version"), FORMAT_VERSION],
    ["model_sha256", json.string("model_sha256"), manifest.files.get(fileOf(manifest, "model")!)!.sha256],
    ["sample_rate", json.int("sample_rate"), manifest.frontEnd.sampleRate],
    ["number of probs", probs.length, classesOf(manifest)],
    ["bytes of the samples", pcm.length, 2 * samples],
    ["samples_sha256", json.string("samples_sha256"), await sha256(pcm)],
  ];
  json.requireNoOther();
  for (const [name, value, wanted] of expected) {
    if (value !== wanted) json.fail(`${name} ${shown(value)}; expected ${shown(wanted)}; convert it again`);
  }
  const most = clipSamples(manifest);
  if (!(samples >= 1 && samples <= most)) json.fail(`samples ${samples}; expected 1 … ${most}; convert it again`);
  if (!probs.every((prob) => prob >= 0 && prob <= 1)) json.fail("probs outside 0 … 1; convert it again");
  const view = new DataView(pcm.buffer, pcm.byteOffset, pcm.byteLength);
  return {
    samples: Float32Array.from({ length: samples }, (_, i) => view.getInt16(2 * i, true) / 2 ** 15),
    probs: Float32Array.from(probs),
  };
}

/**
 * Compares probabilities with a reference, as `compare` in the Python runtime does for one clip. NaN, an output of only
 * zeros, a flat reference and a different number of classes never pass.
 */
export function compare(got: Float32Array, reference: Float32Array, gate: Gate): Comparison {
  const failed = (why: string): Comparison => ({ maxAbs: null, corr: null, why });
  if (got.length !== reference.length || got.length === 0) {
    return failed(`${got.length} values; expected ${reference.length}`);
  }
  if (!reference.every(Number.isFinite)) return failed("the reference holds NaN or Inf");
  const bad = got.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
  if (bad > 0) return failed(`${bad} values are NaN or Inf`);
  if (reference.every((value) => value === reference[0])) return failed("the reference is flat: nothing is tested");
  const maxAbs = got.reduce((most, value, i) => Math.max(most, Math.abs(value - reference[i])), 0);
  const corr = correlation(got, reference);
  const why: string[] = [];
  if (got.every((value) => value === 0)) why.push("the output is all zero");
  if (maxAbs > gate.maxAbs) why.push(`largest difference ${maxAbs.toPrecision(3)} > ${gate.maxAbs.toPrecision(3)}`);
  if (gate.corr !== null && !(corr >= gate.corr)) why.push(`correlation ${corr.toFixed(7)} < ${gate.corr}`);
  if (gate.top5 && !top5Agree(got, reference, maxAbs)) {
    why.push("another class is among the five highest, by more than the error");
  }
  return { maxAbs, corr, why: why.join("; ") };
}

/** Pearson correlation; −1 for a flat output, for which it is undefined. */
function correlation(a: Float32Array, b: Float32Array): number {
  const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] - meanA, b[i] - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  const norm = Math.sqrt(aa) * Math.sqrt(bb);
  return norm > 0 ? ab / norm : -1;
}

/** Whether those of the reference's five highest classes that exceed the sixth by more than `error` are in `got`'s. */
function top5Agree(got: Float32Array, reference: Float32Array, error: number): boolean {
  if (reference.length <= 5) return true;
  const highest = (values: Float32Array) => Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
  const order = highest(reference);
  const found = highest(got).slice(0, 5);
  const decided = order.slice(0, 5).filter((i) => reference[i] - reference[order[5]] > error);
  return decided.every((i) => found.includes(i));
}
