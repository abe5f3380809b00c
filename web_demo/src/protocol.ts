/** The messages between the page and its worker. Everything in them can be cloned or transferred. */

import type { Accelerator, FrontEndSpec, Recording, SelfTestResult, Tag } from "panns-litert";

/** Where a bundle is: a folder on this page's server, or files that a person chose. */
export type BundleSource = { url: string } | { files: File[] };

/** What the page knows of an open model. */
export interface OpenModel {
  /** Tells this opening from others. What is meant for this model carries it, and no other model runs it. */
  id: number;
  model: string;
  network: string;
  precision: string;
  graph: string;
  licence: string;
  attribution: string;
  clipSeconds: number;
  frontEnd: FrontEndSpec;
  labels: string[];
  engine: Accelerator;
  /** Why not the engine that was asked for; null if it was. */
  fallback: string | null;
  /** Whether the model was compared with its original network. */
  proven: boolean;
  /** The bundle's self-test on this device; null if the bundle has none. */
  selfTest: SelfTestResult | null;
}

/** The windows of one recording or stream: their length, and from one to the next. Seconds, of whole frames. */
export interface Shape {
  window: number;
  hop: number;
}

/** One window, without what the page does not show. */
export interface Heard {
  index: number;
  start: number;
  end: number;
  probs: Float32Array;
  levelDbfs: number;
  paddingSeconds: number;
  unusable: string | null;
  milliseconds: number;
}

/** Columns of the log-mel in decibels: the loudest of `stride` frames each; columns × mels, row-major. */
export interface Columns {
  values: Float32Array;
  mels: number;
  secondsPerColumn: number;
}

export type Request = { id: number } & (
  | { kind: "open"; source: BundleSource; accelerator: Accelerator; wasmPath: string }
  | { kind: "tag"; model: number; recording: Recording; hop: number }
  | { kind: "listen"; model: number; sampleRate: number; hop: number }
  | { kind: "samples"; samples: Float32Array }
  | { kind: "finish" }
  | { kind: "cancel" }
);

export type Reply = { id: number } & (
  | { kind: "opened"; model: OpenModel }
  | { kind: "shape"; shape: Shape }
  | { kind: "window"; window: Heard }
  | { kind: "columns"; columns: Columns }
  | { kind: "early"; tags: Tag[]; seconds: number }
  | { kind: "done"; warnings: string[] }
  | { kind: "failed"; message: string }
);
