import { shown } from "../errors.js";
import { framesOf, leastSamples, mostSamples, readSpec, type FrontEndSpec } from "../frontend/spec.js";
import { StrictJson } from "../strict.js";

/** Name, static shape and type of an input or output of the model. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** Role of a file in the bundle, and the hash and size that show whether it was altered. */
export interface FileRecord {
  readonly role: string;
  readonly sha256: string;
  readonly bytes: number;
}

/** The checkpoint that a bundle was made from. */
export interface Source {
  readonly file: string;
  readonly sha256: string;
  readonly url: string | null;
  readonly licence: string;
  readonly attribution: string;
  readonly publishedMap: number | null;
}

/** Figures and verdict of one parity check of the conversion. A figure that could not be computed is null. */
export interface ParityCheck {
  readonly stage: string;
  readonly output: string;
  readonly maxAbs: number | null;
  readonly rmse: number | null;
  readonly corr: number | null;
  readonly psnrDb: number | null;
  readonly top5Agree: number | null;
  readonly threshold: ReadonlyMap<string, number>;
  readonly passed: boolean;
  readonly why: string;
}

/** The result of the last check of the bundle's model for one NPU; the fields are those of Python's `NpuRecord`. */
export interface NpuRecord {
  readonly soc: string;
  readonly architecture: string | null;
  readonly arithmetic: string | null;
  readonly operators: number;
  readonly taken: number;
  readonly partitions: number;
  readonly resident: boolean;
  readonly refused: readonly string[];
  readonly errors: readonly string[];
  readonly checks: readonly ParityCheck[];
  readonly compiledBytes: number | null;
  readonly outputsSha256: string | null;
  readonly passed: boolean;
  readonly modelSha256: string;
  readonly versions: ReadonlyMap<string, string>;
}

/** The result of the last strict GPU check of the bundle's model; the fields are those of Python's `GpuRecord`. */
export interface GpuRecord {
  readonly adapter: string;
  readonly driver: string;
  readonly arithmetic: string;
  readonly operators: number;
  readonly resident: boolean;
  readonly refused: readonly string[];
  readonly errors: readonly string[];
  readonly reference: string;
  readonly checks: readonly ParityCheck[];
  readonly passed: boolean;
  readonly modelSha256: string;
  readonly litert: string;
}

/** How a bundle with integer weights was made; the fields are those of Python's `Quantization`. */
export interface Quantization {
  readonly kept: readonly {
    readonly operator: number;
    readonly op: string;
    readonly name: string;
    readonly weights: number;
    readonly precision: string;
    readonly error: number;
  }[];
  readonly calibrationClips: number;
}

/** The content of a bundle's manifest.json, format 2 or 3; the fields are those of Python's `Manifest`. */
export interface Manifest {
  /** 2: `convert` wrote it. 3: the model was made elsewhere; proof and embedding may be missing. */
  readonly formatVersion: number;
  readonly model: string;
  readonly network: string;
  readonly description: string;
  readonly source: Source;
  readonly frontEnd: FrontEndSpec;
  /** Input of the model. */
  readonly graph: "logmel" | "waveform";
  /** What computes the log-mel; "none" if the network has none. */
  readonly logMel: "host" | "graph" | "none";
  readonly clipSeconds: number;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly files: ReadonlyMap<string, FileRecord>;
  readonly precision: string;
  readonly quantization: Quantization | null;
  readonly parity: readonly ParityCheck[];
  readonly gpu: GpuRecord | null;
  readonly npu: readonly NpuRecord[];
  readonly versions: ReadonlyMap<string, string>;
}

export const MANIFEST = "manifest.json";

const FORMAT_VERSION = 2;
const ADOPTED_VERSION = 3;
const ENGINE = "engine"; // the stage of a model without reference: two sets of kernels agree
const MOST_SAMPLES = 100_000_000; // of a clip: almost an hour at 32 kHz
const NPU_MODEL = "npu_model"; // a file compiled for one NPU; any number of them, and none is read here
const MOST_BYTES = new Map([
  ["model", 2 ** 31 - 1],
  [NPU_MODEL, 2 ** 31 - 1],
  ["mel_basis", 64 * 2 ** 20],
  ["labels", 4 * 2 ** 20],
  ["selftest", 4 * 2 ** 20],
  ["selftest_samples", 4 * 2 ** 20],
]);
const ROLES = ["labels", "mel_basis", "model", "model_card"];
const SELF_TEST_ROLES = ["selftest", "selftest_samples"]; // both or none: bundles of earlier versions have none
const QUANTIZED = ["int8", "int8-weights", "int8-full", "int4-weights"];
const PRECISIONS = ["fp32", "fp16", ...QUANTIZED];
const FINER = ["int8", "fp16", "fp32"];

/** Length of one clip, samples. */
export function clipSamples({ clipSeconds, frontEnd }: Manifest): number {
  return halfEven(clipSeconds * frontEnd.sampleRate);
}

/** Number of values of a tensor. */
export const sizeOf = (tensor: TensorSpec): number => tensor.shape.reduce((size, length) => size * length, 1);

/** Length of the embedding; 0 if the model has none. */
export function embeddingSize({ outputs }: Manifest): number {
  const found = outputs.find((output) => output.name === "embedding");
  return found === undefined ? 0 : sizeOf(found);
}

/** Number of classes. */
export const classesOf = (manifest: Manifest): number => manifest.outputs[0].shape[1];

/** Name of the file with a role: model, mel_basis, labels, model_card, selftest or selftest_samples; null for none. */
export function fileOf(manifest: Manifest, role: string): string | null {
  for (const [name, record] of manifest.files) if (record.role === role) return name;
  return null;
}

/**
 * Whether every stage compared the model with the original network. If not, the self-test's probabilities are the
 * model's own: nothing shows that they are right.
 */
export function isProven(manifest: Manifest): boolean {
  return stagesOf(manifest).every((stage) => manifest.parity.some((done) => done.stage === stage));
}

function stagesOf({ formatVersion, precision }: Manifest): string[] {
  const own = formatVersion === ADOPTED_VERSION ? [] : ["fp32"];
  return [...new Set(["front_end", "network", ...own, precision])];
}

/** The check of the probabilities: the proof's, or, without proof, that of the stage "engine". */
export function probsCheck({ parity, precision }: Manifest): ParityCheck | undefined {
  const of = (stage: string) => parity.find((check) => check.stage === stage && check.output === "probs");
  return of(precision) ?? of(ENGINE);
}

/**
 * Reads a manifest. All fields of the format are required, and no others are allowed.
 *
 * @throws PannsLitertError the text is not JSON or not of this format, its fields contradict each other, or a stage of
 *     the conversion has no passed parity check
 */
export function readManifest(bytes: Uint8Array, where: string): Manifest {
  const json = StrictJson.parse(bytes, where);
  const version = json.int("format_version"); // first: in another version, other fields may differ too
  if (version !== FORMAT_VERSION && version !== ADOPTED_VERSION) {
    json.fail(
      `format_version ${version}; this version reads ${FORMAT_VERSION} and ${ADOPTED_VERSION}; ` +
        "update panns-litert or convert the model again",
    );
  }
  const manifest: Manifest = {
    formatVersion: version,
    model: json.string("model"),
    network: json.string("network"),
    description: json.string("description"),
    source: json.child("source").whole((j) => ({
      file: j.string("file"),
      sha256: j.string("sha256"),
      url: j.optional("url", text),
      licence: j.string("licence"),
      attribution: j.string("attribution"),
      publishedMap: j.optional("published_map", number),
    })),
    frontEnd: json.child("front_end").whole(readSpec),
    graph: json.string("graph") as Manifest["graph"],
    logMel: json.string("log_mel") as Manifest["logMel"],
    clipSeconds: json.number("clip_seconds"),
    inputs: json.children("inputs").map(tensor),
    outputs: json.children("outputs").map(tensor),
    files: json.map("files", (j, name) =>
      j.child(name).whole((f) => ({ role: f.string("role"), sha256: f.string("sha256"), bytes: f.int("bytes", true) })),
    ),
    precision: json.string("precision"),
    quantization: json.optional("quantization", (j, name) => j.child(name).whole(quantization)),
    parity: json.children("parity").map(check),
    gpu: json.optional("gpu", (j, name) => j.child(name).whole(gpuRecord)),
    npu: json.given("npu", (j, name) => j.children(name).map((record) => record.whole(npuRecord))) ?? [],
    versions: json.map("versions", text),
  };
  json.requireNoOther();
  const refuse = (why: string): never => json.fail(why);
  requireGraph(manifest, refuse);
  requireFiles(manifest, refuse);
  requireProof(manifest, refuse);
  return manifest;
}

const text = (json: StrictJson, name: string): string => json.string(name);
const number = (json: StrictJson, name: string): number => json.number(name);

const tensor = (json: StrictJson): TensorSpec =>
  json.whole((j) => ({ name: j.string("name"), shape: j.ints("shape"), dtype: j.string("dtype") }));

const check = (json: StrictJson): ParityCheck =>
  json.whole((j) => ({
    stage: j.string("stage"),
    output: j.string("output"),
    maxAbs: j.optional("max_abs", number),
    rmse: j.optional("rmse", number),
    corr: j.optional("corr", number),
    psnrDb: j.optional("psnr_db", number),
    top5Agree: j.optional("top5_agree", number),
    threshold: j.map("threshold", number),
    passed: j.boolean("passed"),
    why: j.string("why"),
  }));

const quantization = (json: StrictJson): Quantization => ({
  kept: json.children("kept").map((layer) =>
    layer.whole((j) => ({
      operator: j.int("operator"),
      op: j.string("op"),
      name: j.string("name"),
      weights: j.int("weights", true),
      precision: j.string("precision"),
      error: j.number("error"),
    })),
  ),
  calibrationClips: json.int("calibration_clips"),
});

const npuRecord = (json: StrictJson): NpuRecord => ({
  soc: json.string("soc"),
  architecture: json.optional("architecture", text),
  arithmetic: json.optional("arithmetic", text),
  operators: json.int("operators"),
  taken: json.int("taken"),
  partitions: json.int("partitions"),
  resident: json.boolean("resident"),
  refused: json.strings("refused"),
  errors: json.strings("errors"),
  checks: json.children("checks").map(check),
  compiledBytes: json.optional("compiled_bytes", (j, name) => j.int(name, true)),
  outputsSha256: json.optional("outputs_sha256", text),
  passed: json.boolean("passed"),
  modelSha256: json.string("model_sha256"),
  versions: json.map("versions", text),
});

const gpuRecord = (json: StrictJson): GpuRecord => ({
  adapter: json.string("adapter"),
  driver: json.string("driver"),
  arithmetic: json.string("arithmetic"),
  operators: json.int("operators"),
  resident: json.boolean("resident"),
  refused: json.strings("refused"),
  errors: json.strings("errors"),
  reference: json.string("reference"),
  checks: json.children("checks").map(check),
  passed: json.boolean("passed"),
  modelSha256: json.string("model_sha256"),
  litert: json.string("litert"),
});

function requireGraph(manifest: Manifest, refuse: (why: string) => never): void {
  const { graph, logMel, clipSeconds, frontEnd, inputs, outputs } = manifest;
  if (!["logmel", "waveform"].includes(graph)) refuse(`graph ${shown(graph)}; expected logmel or waveform`);
  if (!["host", "graph", "none"].includes(logMel) || (logMel === "host") !== (graph === "logmel")) {
    refuse(`log_mel ${shown(logMel)} with graph ${graph}; expected host with logmel alone`);
  }
  const length = clipSeconds * frontEnd.sampleRate;
  if (!(length > 0 && length <= MOST_SAMPLES)) {
    refuse(`clip_seconds ${clipSeconds}; expected a number > 0 that makes at most ${MOST_SAMPLES} samples`);
  }
  const samples = clipSamples(manifest);
  if (logMel !== "none" && samples < leastSamples(frontEnd)) {
    refuse(`clip_seconds ${clipSeconds}; the front end takes at least ${leastSamples(frontEnd)} samples`);
  }
  if (samples > mostSamples(frontEnd)) {
    refuse(`clip_seconds ${clipSeconds}; the front end has room for ${mostSamples(frontEnd)} samples`);
  }
  const shape = graph === "logmel" ? [1, 1, framesOf(frontEnd, samples), frontEnd.nMels] : [1, samples];
  const expected = JSON.stringify([{ name: graph, shape, dtype: "float32" }]);
  if (JSON.stringify(inputs) !== expected) {
    refuse(`inputs ${shown(inputs)}; the front end and clip_seconds give ${expected}`);
  }
  const names = outputs.map((output) => output.name);
  const wanted = manifest.formatVersion === ADOPTED_VERSION ? ["probs"] : ["probs", "embedding"];
  if (!wanted.every((name, i) => names[i] === name)) {
    refuse(`outputs ${names.join(", ") || "none"}; expected ${wanted.join(", ")}`);
  }
  for (const output of outputs) {
    const fits = output.shape.length >= 2 && output.shape[0] === 1 && output.shape.every((size) => size >= 1);
    if (output.dtype !== "float32" || !fits) refuse(`output ${shown(output)}; expected float32 of shape (1, …)`);
  }
}

function requireFiles({ files }: Manifest, refuse: (why: string) => never): void {
  const roles = Array.from(files.values(), (record) => record.role)
    .filter((role) => role !== NPU_MODEL)
    .sort();
  if (![ROLES, [...ROLES, ...SELF_TEST_ROLES]].some((expected) => expected.join() === roles.join())) {
    refuse(
      `files with roles ${roles.join(", ")}; expected ${ROLES.join(", ")}, one each, ` +
        `and ${SELF_TEST_ROLES.join(" and ")} or neither, and any number of ${NPU_MODEL}`,
    );
  }
  for (const [name, record] of files) {
    if (/[\p{C}\p{Zl}\p{Zp}/\\]/u.test(name) || name.length > 255 || ["", ".", "..", MANIFEST].includes(name)) {
      refuse(`file name ${shown(name)}; expected a plain name inside the bundle`);
    }
    const most = MOST_BYTES.get(record.role); // none for the model card, which is documentation: nothing checks it
    if (most === undefined) continue;
    if (!/^[0-9a-f]{64}$/.test(record.sha256)) {
      refuse(`${name} with sha256 ${shown(record.sha256)}; expected 64 hexadecimal digits`);
    }
    if (!(record.bytes >= 1 && record.bytes <= most)) {
      refuse(`${name} of ${record.bytes} bytes; expected a ${record.role} of 1 … ${most} bytes`);
    }
  }
}

function requireProof(manifest: Manifest, refuse: (why: string) => never): void {
  const { precision, parity, gpu, quantization } = manifest;
  if (!PRECISIONS.includes(precision)) {
    refuse(`precision ${shown(precision)}; expected one of ${PRECISIONS.join(", ")}`);
  }
  const adopted = manifest.formatVersion === ADOPTED_VERSION;
  if (!adopted && !isProven(manifest)) {
    refuse(`no proof of every stage; expected ${stagesOf(manifest).join(", ")}; convert it again`);
  }
  if (adopted && probsCheck(manifest) === undefined) {
    refuse(`no check of probs at ${precision} or ${ENGINE}; expected one; adopt it again`);
  }
  const unproven = parity.filter((done) => !done.passed || !done.threshold.has("max_abs"));
  if (unproven.length > 0) {
    refuse(`no proof of ${unproven.map((done) => `${done.stage}/${done.output}`).join(", ")}; convert it again`);
  }
  if (gpu !== null) {
    const whole = gpu.resident && gpu.refused.length === 0 && gpu.errors.length === 0;
    const proven = gpu.arithmetic === "float16" && gpu.checks.length > 0 && gpu.checks.every((done) => done.passed);
    if (gpu.passed && !(whole && proven)) refuse("gpu: passed, but its figures say otherwise; run gpu-check again");
    if (gpu.modelSha256 !== manifest.files.get(fileOf(manifest, "model")!)!.sha256) {
      refuse("the GPU's result is of another .tflite; run gpu-check again");
    }
  }
  for (const record of manifest.npu) {
    if (!/^[A-Za-z0-9][A-Za-z0-9-]*$/.test(record.soc)) {
      refuse(`npu ${shown(record.soc)}; expected the name of a SoC, such as SM8650`);
    }
    const whole = record.operators > 0 && record.taken === record.operators && record.partitions === 1;
    const ran = record.checks.length > 0 && record.refused.length === 0 && record.errors.length === 0;
    if (record.resident && !(whole && ran)) {
      refuse(`npu ${shown(record.soc)}: resident, but its figures say otherwise; run npu-check again`);
    }
    if (record.passed && !(record.resident && record.checks.every((done) => done.passed))) {
      refuse(`npu ${shown(record.soc)}: passed, but its figures say otherwise; run npu-check again`);
    }
    if (record.modelSha256 !== manifest.files.get(fileOf(manifest, "model")!)!.sha256) {
      refuse("an NPU's result is of another .tflite; run npu-check again");
    }
  }
  if (new Set(manifest.npu.map((record) => record.soc.toLowerCase())).size < manifest.npu.length) {
    refuse("two NPU results of one SoC; expected one each; run npu-check again");
  }
  for (const [name, file] of manifest.files) {
    if (file.role !== NPU_MODEL) continue;
    const of = (record: NpuRecord) => name.endsWith(`_${record.soc.toLowerCase()}.tflite`);
    if (manifest.npu.find(of)?.compiledBytes !== file.bytes) {
      refuse(`${name} without the result of its NPU; expected it; convert it again`);
    }
  }
  if (adopted) {
    if (quantization !== null) refuse(`quantization in format ${ADOPTED_VERSION}; expected none`);
    return;
  }
  if ((quantization !== null) !== QUANTIZED.includes(precision)) {
    refuse(`quantization ${shown(quantization)} with precision ${precision}; expected it with integer weights`);
  }
  if (quantization === null) return;
  const clips = quantization.calibrationClips;
  if (clips > 0 !== (precision === "int8-full")) refuse(`calibration_clips ${clips} with precision ${precision}`);
  for (const layer of quantization.kept) {
    if (!(layer.operator >= 0 && layer.weights >= 0 && layer.error >= 0 && FINER.includes(layer.precision))) {
      refuse(`kept layer ${shown(layer)}; expected figures ≥ 0 and one of ${FINER.join(", ")}`);
    }
  }
}

/** Rounds half to even, as Python's `round`, which defines the length of a clip. */
export function halfEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
