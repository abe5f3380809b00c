import { PannsLitertError, reason } from "../errors.js";
import { melBasis } from "../frontend/mel.js";
import { bins } from "../frontend/spec.js";
import { classNames } from "./labels.js";
import { classesOf, fileOf, MANIFEST, readManifest, type FileRecord, type Manifest } from "./manifest.js";
import { readSelfTest, type SelfTest } from "./selftest.js";
import { sha256 } from "./sha256.js";

/** A file of a bundle: a File, or anything else with a name and a content. */
export interface BundleFile {
  readonly name: string;
  arrayBuffer(): Promise<ArrayBuffer>;
}

const MOST_MANIFEST_BYTES = 4 * 2 ** 20;
const REMEDY = "convert it again, or copy the whole folder again";

/** A bundle that `panns-litert convert` wrote. Every file but the model card, which is documentation, was checked. */
export class Bundle {
  private constructor(
    /** URL of the folder, or what else it was read from, for messages. */
    readonly source: string,
    readonly manifest: Manifest,
    /** Class names, in the order of the scores. */
    readonly labels: readonly string[],
    /** nMels × (nFft / 2 + 1), row-major. */
    readonly melBasis: Float32Array,
    /** The content of the .tflite file. */
    readonly model: Uint8Array,
    /** null for a bundle of an earlier version. */
    readonly selfTest: SelfTest | null,
  ) {}

  /**
   * Opens a bundle.
   *
   * ```ts
   * const bundle = await Bundle.open("bundles/demo/");
   * const dropped = await Bundle.open(input.files); // of <input type="file" webkitdirectory>
   * ```
   *
   * @param from URL of the bundle's folder, relative to the page; or its files, by name. Other files among them are
   *     ignored
   * @throws PannsLitertError a file is missing, altered or does not fit. The message names the file and the remedy
   */
  static async open(from: string | URL | Iterable<BundleFile>): Promise<Bundle> {
    return Bundle.read(typeof from === "string" || from instanceof URL ? fetched(from) : given(from));
  }

  private static async read(folder: Folder): Promise<Bundle> {
    const refuse = (name: string, why: string): never => {
      throw new PannsLitertError("bundle", `${folder.source}: ${name} ${why}; ${REMEDY}`);
    };
    const text = await folder.bytes(MANIFEST);
    if (text.length > MOST_MANIFEST_BYTES) refuse(MANIFEST, `has ${text.length} bytes; expected a manifest`);
    const manifest = readManifest(text, `${folder.source}: ${MANIFEST}`);

    const checked = async (role: string): Promise<Uint8Array> => {
      const name = fileOf(manifest, role)!;
      const record = manifest.files.get(name) as FileRecord;
      const data = await folder.bytes(name);
      if (data.length !== record.bytes) refuse(name, `has ${data.length} bytes; the manifest says ${record.bytes}`);
      if ((await sha256(data)) !== record.sha256) refuse(name, "was altered: its sha256 is not the manifest's");
      return data;
    };
    const hasSelfTest = fileOf(manifest, "selftest") !== null;
    const [model, basisData, labelData, testData, testSamples] = await Promise.all([
      checked("model"),
      checked("mel_basis"),
      checked("labels"),
      hasSelfTest ? checked("selftest") : null,
      hasSelfTest ? checked("selftest_samples") : null,
    ]);

    const spec = manifest.frontEnd;
    const labelName = fileOf(manifest, "labels")!;
    const labels = classNames(labelData, `${folder.source}: ${labelName}`);
    if (labels.length !== classesOf(manifest)) {
      refuse(labelName, `has ${labels.length} lines; expected ${classesOf(manifest)} different names, one a line`);
    }
    const basisName = fileOf(manifest, "mel_basis")!;
    const expected = 4 * spec.nMels * bins(spec);
    if (basisData.length !== expected) {
      refuse(basisName, `has ${basisData.length} bytes; the front end needs ${expected}`);
    }
    const basis = floats(basisData);
    const own = melBasis(spec);
    if (!basis.every((weight, i) => Math.abs(weight - own[i]) <= 1e-7)) {
      refuse(basisName, "is not the mel basis of the manifest's front end");
    }
    const selfTest =
      testData === null || testSamples === null
        ? null
        : await readSelfTest(testData, testSamples, manifest, `${folder.source}: ${fileOf(manifest, "selftest")!}`);
    return new Bundle(folder.source, manifest, labels, basis, model, selfTest);
  }
}

interface Folder {
  source: string;
  bytes(name: string): Promise<Uint8Array>;
}

function fetched(from: string | URL): Folder {
  const base = addressOf(from);
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return {
    source: String(from),
    async bytes(name) {
      const url = new URL(encodeURIComponent(name), base);
      let response: Response;
      try {
        response = await fetch(url);
      } catch (error) {
        throw missing(String(from), name, reason(error), error);
      }
      if (!response.ok) throw missing(String(from), name, `HTTP ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    },
  };
}

function addressOf(from: string | URL): URL {
  try {
    return new URL(from, globalThis.location?.href);
  } catch (error) {
    throw new PannsLitertError("bundle", `${String(from)}: no address; expected the URL of a bundle's folder`, {
      cause: error,
    });
  }
}

function given(from: Iterable<BundleFile>): Folder {
  if (typeof from?.[Symbol.iterator] !== "function") {
    throw new PannsLitertError("bundle", `bundle ${String(from)}; expected the URL of a folder, or a list of files`);
  }
  const files = new Map<string, BundleFile>();
  for (const file of from) {
    if (files.has(file.name)) {
      throw new PannsLitertError("bundle", `two files ${file.name}; expected the files of one bundle`);
    }
    files.set(file.name, file);
  }
  const source = "these files";
  return {
    source,
    async bytes(name) {
      const file = files.get(name);
      if (file === undefined) throw missing(source, name, "not among them");
      try {
        return new Uint8Array(await file.arrayBuffer());
      } catch (error) {
        throw missing(source, name, reason(error), error);
      }
    },
  };
}

function missing(source: string, name: string, why: string, cause?: unknown): PannsLitertError {
  const expected = name === MANIFEST ? "expected a bundle that `panns-litert convert` wrote" : REMEDY;
  return new PannsLitertError("bundle", `${source}: no ${name} (${why}); ${expected}`, { cause });
}

/** Little-endian float32 values. */
function floats(data: Uint8Array): Float32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Float32Array.from({ length: data.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
