/** The badge in the header: which model is open, and whether this device passes the model's self-test. */

import { element, make } from "./dom.js";
import type { OpenModel } from "./protocol.js";

type State = "busy" | "good" | "bad" | "none";

/** Shows the self-test of a model. */
export function showSelfTest(open: OpenModel): void {
  const { selfTest } = open;
  const facts: [string, string][] = [
    ["Model", `${open.model}: ${open.network}`],
    ["Weights", open.precision],
    ["Input", open.graph === "logmel" ? "log-mel, computed by this page" : "samples"],
    ["Classes", String(open.labels.length)],
    ["Window", `${open.clipSeconds} s at ${open.frontEnd.sampleRate / 1000} kHz`],
    ["Engine", open.engine === "wasm" ? "WebAssembly" : "WebGPU"],
  ];
  if (open.fallback) facts.push(["Not WebGPU", open.fallback]);
  if (!selfTest) {
    const line = "This bundle has no self-test, so nothing shows whether this device computes its tags rightly.";
    showBadge("none", "Not tested", line, facts);
    return;
  }
  if (!open.proven) facts.push(["Proof", "none: nothing compared this model with its original"]);
  const expected = open.proven ? "what PyTorch computed" : "what another computer computed with this model";
  facts.push(["Allowed", `a difference of ${selfTest.allowed} in a probability`]);
  const difference = (selfTest.largestDifference ?? 0).toExponential(1);
  if (selfTest.passed) {
    const within = difference.replace("-", "\u2011");
    const line = `This device computes ${expected}, to within ${within}.`;
    showBadge("good", `Self-test ${difference}`, line, facts);
  } else {
    showBadge("bad", "Self-test failed", `This device does not compute ${expected}: ${selfTest.why}`, facts);
  }
}

/** @param line and facts: what the opened badge says */
export function showBadge(state: State, text: string, line = "", facts: [string, string][] = []): void {
  element("badge").dataset.state = state;
  element("badge-text").textContent = text;
  element("badge-line").textContent = line;
  element("badge-facts").replaceChildren(
    ...facts.flatMap(([term, fact]) => [make("dt", {}, term), make("dd", {}, fact)]),
  );
}
