import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** LiteRT's WebAssembly: with relaxed SIMD, and the one for browsers that lack it. It is loaded by name at run time. */
const RUNTIME = ["litert_wasm_internal", "litert_wasm_compat_internal"];

/** Copies LiteRT's WebAssembly into the built page, so that it needs no other server. */
function liteRtFiles(): Plugin {
  const folder = join(dirname(createRequire(import.meta.url).resolve("@litertjs/core")), "..", "wasm");
  return {
    name: "litert-files",
    generateBundle() {
      for (const name of RUNTIME.flatMap((stem) => [`${stem}.js`, `${stem}.wasm`])) {
        this.emitFile({ type: "asset", fileName: `wasm/${name}`, source: readFileSync(join(folder, name)) });
      }
    },
  };
}

// Addresses are relative, so that the page works from any folder of any server. The worker is a classic script: LiteRT
// loads its WebAssembly with importScripts, which module workers do not have.
export default defineConfig({
  base: "./",
  plugins: [liteRtFiles()],
  worker: { format: "iife" },
  build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 1000 },
});
