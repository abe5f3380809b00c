/** Runs the model beside the page, so that the page never waits for it. One model at a time, one job at a time. */

import { Bundle, PannsLitertError, Tagger, type Recording, type StreamTagger, type Window } from "panns-litert";
import type { Heard, OpenModel, Reply, Request } from "./protocol.js";
import { joined, Spectrogram } from "./spectrogram.js";

const MOST_COLUMNS = 4000;
const LIVE_STRIDE_SECONDS = 0.05;
/** Before the first window is full, what has come so far is tagged this often. */
const EARLY_SECONDS = 1;

let tagger: Tagger | null = null;
const canceled = new Set<number>();
const streams = new Map<number, Live>();
let queue: Promise<void> = Promise.resolve();

self.onmessage = (event: MessageEvent<Request>) => {
  const request = event.data;
  if (request.kind === "cancel") {
    canceled.add(request.id);
    return;
  }
  // One after another: a stream's chunks must keep their order, and a model is opened only when no job uses the old one.
  queue = queue.then(async () => {
    try {
      await handle(request);
    } catch (error) {
      streams.delete(request.id);
      reply({ id: request.id, kind: "failed", message: messageOf(error) });
    }
  });
};

async function handle(request: Request): Promise<void> {
  const { id } = request;
  switch (request.kind) {
    case "open":
      reply({ id, kind: "opened", model: await open(request) });
      break;
    case "tag":
      await tag(id, request.recording, request.hop);
      canceled.delete(id);
      reply({ id, kind: "done" });
      break;
    case "listen":
      streams.set(id, new Live(id, opened(), request.sampleRate, request.hop));
      break;
    case "samples":
      await streams.get(id)?.push(request.samples);
      break;
    case "finish": {
      const live = streams.get(id);
      streams.delete(id);
      await live?.finish();
      if (live) reply({ id, kind: "done" });
      break;
    }
  }
}

async function open(request: Request & { kind: "open" }): Promise<OpenModel> {
  // In a worker, LiteRT's script would look for its .wasm beside the worker.
  Object.assign(self, { Module: { locateFile: (name: string) => new URL(name, request.wasmPath).href } });
  const bundle = await Bundle.open("url" in request.source ? request.source.url : request.source.files);
  const next = await Tagger.open(bundle, { accelerator: request.accelerator, wasmPath: request.wasmPath });
  tagger?.close();
  tagger = next;
  const { manifest, labels } = bundle;
  let selfTest: OpenModel["selfTest"] = null;
  let untested = "";
  try {
    selfTest = await next.selfTest();
  } catch (error) {
    untested = messageOf(error);
  }
  return {
    model: manifest.model,
    network: manifest.network,
    precision: manifest.precision,
    graph: manifest.graph,
    licence: manifest.source.licence,
    attribution: manifest.source.attribution,
    clipSeconds: manifest.clipSeconds,
    frontEnd: manifest.frontEnd,
    labels: [...labels],
    engine: next.engine,
    fallback: next.fallback,
    selfTest,
    untested,
  };
}

/** Tags a recording, and sends windows and columns as they are ready. Stops between windows if it is canceled. */
async function tag(id: number, recording: Recording, hop: number): Promise<void> {
  const now = opened();
  const { frontEnd } = now.bundle.manifest;
  const samples = recording.channels[0]?.length ?? 0;
  const frames = (samples / recording.sampleRate) * (frontEnd.sampleRate / frontEnd.hopLength);
  const stride = Math.max(1, Math.ceil(frames / MOST_COLUMNS));
  const picture = new Spectrogram(frontEnd, recording.sampleRate, stride);
  // A few windows' worth at a time, just ahead of the windows.
  const block = recording.sampleRate * 10;
  let drawn = 0;
  const draw = (until: number) => {
    for (; drawn < samples && drawn < until; drawn += block) {
      sendColumns(id, picture.push(recording.channels.map((channel) => channel.subarray(drawn, drawn + block))));
    }
  };
  draw(block);
  for await (const window of now.windows(recording, undefined, { hop: Math.min(hop, now.bundle.manifest.clipSeconds) })) {
    sendWindow(id, window);
    draw(Math.ceil(window.end * recording.sampleRate) + block);
    await new Promise((resume) => setTimeout(resume)); // lets a cancel message in
    if (canceled.has(id)) return;
  }
  draw(Infinity);
  sendColumns(id, picture.finish());
}

/** A live stream: windows as they fill, and before the first one the tags of what has come so far. */
class Live {
  private readonly stream: StreamTagger;
  private readonly picture: Spectrogram;
  private early: Float32Array[] = [];
  private windows = 0;
  private seconds = 0;
  private earlyAt = EARLY_SECONDS;

  constructor(
    private readonly id: number,
    private readonly tagger: Tagger,
    private readonly sampleRate: number,
    hop: number,
  ) {
    const { frontEnd, clipSeconds } = tagger.bundle.manifest;
    const stride = Math.max(1, Math.round((LIVE_STRIDE_SECONDS * frontEnd.sampleRate) / frontEnd.hopLength));
    this.stream = tagger.stream(sampleRate, { hop: Math.min(hop, clipSeconds) });
    this.picture = new Spectrogram(frontEnd, sampleRate, stride);
  }

  async push(samples: Float32Array): Promise<void> {
    this.seconds += samples.length / this.sampleRate;
    sendColumns(this.id, this.picture.push([samples]));
    this.send(await this.stream.push(samples));
    if (this.windows > 0) {
      this.early = [];
      return;
    }
    this.early.push(samples);
    if (this.seconds >= this.earlyAt) {
      this.earlyAt = Math.floor(this.seconds / EARLY_SECONDS + 1) * EARLY_SECONDS;
      const tagging = await this.tagger.tag(joined(this.early), this.sampleRate, { top: 10 });
      reply({ id: this.id, kind: "early", tags: tagging.tags, seconds: this.seconds });
    }
  }

  async finish(): Promise<void> {
    sendColumns(this.id, this.picture.finish());
    this.send(await this.stream.finish());
  }

  private send(found: Window[]): void {
    for (const window of found) sendWindow(this.id, window);
    this.windows += found.length;
  }
}

function opened(): Tagger {
  if (!tagger) throw new Error("No model is open. Expected one: choose a model first.");
  return tagger;
}

function sendWindow(id: number, window: Window): void {
  const { index, start, end, levelDbfs, paddingSeconds, unusable, frontEndMs, modelMs } = window;
  const probs = window.probs.slice();
  const milliseconds = frontEndMs + modelMs;
  const heard: Heard = { index, start, end, probs, levelDbfs, paddingSeconds, unusable, milliseconds };
  reply({ id, kind: "window", window: heard }, [probs.buffer]);
}

function sendColumns(id: number, columns: ReturnType<Spectrogram["push"]>): void {
  if (columns.values.length > 0) reply({ id, kind: "columns", columns }, [columns.values.buffer]);
}

function reply(message: Reply, transfer: Transferable[] = []): void {
  (self as unknown as Worker).postMessage(message, transfer);
}

function messageOf(error: unknown): string {
  if (error instanceof PannsLitertError) return error.message;
  return `The model could not run here: ${error instanceof Error ? error.message : String(error)}`;
}
