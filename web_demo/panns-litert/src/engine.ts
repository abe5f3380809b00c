import {
  getGlobalLiteRtPromise,
  getWebGpuDevice,
  loadAndCompile,
  loadLiteRt,
  Tensor,
  type CompiledModel,
  type SignatureRunner,
} from "@litertjs/core";
import type { Bundle } from "./bundle/bundle.js";
import { sizeOf, type Manifest } from "./bundle/manifest.js";
import { PannsLitertError, reason } from "./errors.js";

/** What runs the model. */
export type Accelerator = "wasm" | "webgpu";

/** The outputs of a model by name, flat. The caller may keep them. */
export type Outputs = Record<string, Float32Array>;

/** Runs the model of a bundle, one call at a time. */
export interface Engine {
  readonly accelerator: Accelerator;
  /** @param input the only input of the model, flat: log-mel or samples, depending on `graph` in the manifest */
  run(input: Float32Array): Promise<Outputs>;
  close(): void;
}

/** How to load LiteRT.js. It is loaded once per page or worker: the first options count. */
export interface EngineOptions {
  /**
   * URL of a folder with the files of node_modules/@litertjs/core/wasm, relative to the page (in a worker: to its
   * script). Default "wasm/". LiteRT.js loads in a classic worker, not in one of type "module".
   */
  wasmPath?: string | URL;
  /** Threads of wasm, ≥ 1. More than one needs a cross-origin isolated page. Default 1. */
  threads?: number;
  /** Arithmetic of WebGPU. "fp16" needs the GPU's feature `shader-f16`. Default: the choice of LiteRT.js. */
  gpuPrecision?: "fp32" | "fp16";
}

// A function that returns a SIMD vector: the smallest module that only a browser with WebAssembly SIMD accepts.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

/** Runs models with LiteRT.js. */
export class LiteRtEngine implements Engine {
  private constructor(
    readonly accelerator: Accelerator,
    private readonly model: CompiledModel,
    private readonly signature: SignatureRunner,
    private readonly manifest: Manifest,
  ) {}

  /**
   * Loads and compiles the model of a bundle.
   *
   * @throws PannsLitertError ("engine") the browser lacks something, LiteRT.js cannot be loaded or refuses the model,
   *     or not all of it would run on the accelerator; ("bundle") its inputs or outputs are not those of the manifest
   */
  static async open(bundle: Bundle, accelerator: Accelerator, options: EngineOptions = {}): Promise<LiteRtEngine> {
    const threads = options.threads ?? 1;
    if (!(Number.isInteger(threads) && threads >= 1)) {
      throw new PannsLitertError("engine", `threads = ${threads}; expected a whole number ≥ 1`);
    }
    if (![undefined, "fp32", "fp16"].includes(options.gpuPrecision)) {
      throw new PannsLitertError("engine", `gpuPrecision ${String(options.gpuPrecision)}; expected fp32 or fp16`);
    }
    await loadRuntime(options.wasmPath ?? "wasm/", threads);
    if (accelerator === "webgpu" && getWebGpuDevice() === null) {
      throw new PannsLitertError("engine", "this browser has no WebGPU; expected accelerator: wasm");
    }
    let model: CompiledModel;
    try {
      model = await loadAndCompile(bundle.model, {
        accelerator,
        cpuOptions: { numThreads: threads },
        gpuOptions: options.gpuPrecision === undefined ? {} : { precision: options.gpuPrecision },
      });
    } catch (error) {
      throw new PannsLitertError(
        "engine",
        `LiteRT.js refuses ${bundle.manifest.model} on ${accelerator}: ${reason(error)}; expected another bundle`,
        { cause: error },
      );
    }
    const whole = accelerator === "wasm" || (model.options.accelerator === "webgpu" && model.isFullyAccelerated);
    const signature = whole ? signatureOf(model, bundle.manifest) : null;
    if (signature !== null) return new LiteRtEngine(accelerator, model, signature, bundle.manifest);
    model.delete();
    if (!whole) throw new PannsLitertError("engine", "WebGPU does not run the whole graph; expected accelerator: wasm");
    throw new PannsLitertError(
      "bundle",
      `${bundle.source}: the model has not the inputs and outputs of the manifest; convert it again`,
    );
  }

  async run(input: Float32Array): Promise<Outputs> {
    const { inputs, outputs } = this.manifest;
    const tensor = new Tensor(input, [...inputs[0].shape]);
    let found: Record<string, Tensor> = {};
    try {
      found = await this.signature.run({ [inputs[0].name]: tensor });
      const values: Outputs = {};
      for (const { name } of outputs) values[name] = Float32Array.from(await found[name].data());
      return values;
    } catch (error) {
      throw new PannsLitertError("engine", `${this.accelerator}: ${reason(error)}; open the tagger again`, {
        cause: error,
      });
    } finally {
      tensor.delete();
      for (const output of Object.values(found)) output.delete();
    }
  }

  close(): void {
    this.model.delete();
  }
}

/** The first signature with the manifest's input, and with its outputs among its own. */
function signatureOf(model: CompiledModel, manifest: Manifest): SignatureRunner | null {
  const runners: SignatureRunner[] = [model, ...Object.values(model.signatures)];
  const size = (tensors: ReturnType<SignatureRunner["getInputDetails"]>, name: string): number =>
    tensors.find((tensor) => tensor.name === name)?.shape.reduce((product, length) => product * length, 1) ?? -1;
  const fits = (runner: SignatureRunner): boolean => {
    const inputs = runner.getInputDetails();
    const outputs = runner.getOutputDetails();
    return (
      inputs.length === 1 &&
      size(inputs, manifest.inputs[0].name) === sizeOf(manifest.inputs[0]) &&
      manifest.outputs.every((output) => size(outputs, output.name) === sizeOf(output))
    );
  };
  return runners.find(fits) ?? null;
}

async function loadRuntime(path: string | URL, threads: number): Promise<void> {
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new PannsLitertError("engine", "this browser has no WebAssembly SIMD; expected one of 2023 or later");
  }
  if (threads > 1 && !globalThis.crossOriginIsolated) {
    throw new PannsLitertError(
      "engine",
      `threads = ${threads} on a page that is not cross-origin isolated; expected 1, or a server with COOP and COEP`,
    );
  }
  const folder = new URL(path, globalThis.location?.href);
  if (!folder.pathname.endsWith("/")) folder.pathname += "/";
  const url = folder.href;
  try {
    let loading = getGlobalLiteRtPromise();
    if (loading === undefined) {
      // Without this, its script looks for the .wasm file beside the script of a worker.
      Object.assign(globalThis, { Module: { locateFile: (name: string) => new URL(name, folder).href } });
      loading = loadLiteRt(url, { threads: threads > 1 });
    }
    await loading;
  } catch (error) {
    throw new PannsLitertError(
      "engine",
      `LiteRT.js cannot be loaded from ${url}: ${reason(error)}; expected the files of @litertjs/core/wasm there`,
      { cause: error },
    );
  }
}
