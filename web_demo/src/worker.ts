/** Runs the model beside the page, so that the page never waits for it. One model at a time, one job at a time. */

import { Bundle, isProven, PannsLitertError, Tagger } from "panns-litert";
import type { Recording, StreamTagger, Window } from "panns-litert";
import type { Heard, OpenModel, Reply, Request } from "./protocol.js";
import { joined, Spectrogram } from "./spectrogram.js";

const MOST_COLUMNS = 4000;
const LIVE_COLUMN_SECONDS = 0.05;
/** Before the first window is full, what has come so far is tagged this often. */
const EARLY_SECONDS = 1;

let model: { id: number; tagger: Tagger } | null = null;
const canceled = new Set<number>();
const streams = new Map<number, Live>();
let queue: Promise<void> = Promise.resolve();

self.onmessage = (event: MessageEvent<Request>) => {
  const request = event.data;
  if (request.kind === "cancel") {
    canceled.add(request.id);
    return;
  }
  // One after another: a stream's chunks keep their order, and a model is closed only when no job uses it.
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
      reply({ id, kind: "done", warnings: await tag(id, opened(request.model), request) });
      break;
    case "listen":
      streams.set(id, new Live(id, opened(request.model), request.sampleRate, request.hop));
      break;
    case "samples":
      await streams.get(id)?.push([request.samples]);
      break;
    case "finish": {
      const live = streams.get(id);
      streams.delete(id);
      await live?.finish();
      if (live) reply({ id, kind: "done", warnings: live.warnings });
      break;
    }
  }
}

async function open(request: Request & { kind: "open" }): Promise<OpenModel> {
  const bundle = await Bundle.open("url" in request.source ? request.source.url : request.source.files);
  const next = await Tagger.open(bundle, { accelerator: request.accelerator, wasmPath: request.wasmPath });
  const selfTest = bundle.selfTest ? await next.selfTest() : null;
  model?.tagger.close();
  model = { id: request.id, tagger: next };
  const { manifest, labels } = bundle;
  return {
    id: request.id,
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
    proven: isProven(bundle.manifest),
    selfTest,
  };
}

/** Tags a recording, and sends windows and columns as they are ready. Stops between two blocks if it is canceled. */
async function tag(id: number, tagger: Tagger, request: { recording: Recording; hop: number }): Promise<string[]> {
  const { channels, sampleRate } = request.recording;
  const { hop } = request;
  const { frontEnd } = tagger.bundle.manifest;
  const samples = channels[0]?.length ?? 0;
  const frames = (samples / sampleRate) * (frontEnd.sampleRate / frontEnd.hopLength);
  const hearing = new Hearing(id, tagger, sampleRate, hop, Math.max(1, Math.ceil(frames / MOST_COLUMNS)));
  const block = Math.ceil(sampleRate * hop);
  for (let at = 0; at < samples; at += block) {
    await hearing.push(channels.map((channel) => channel.subarray(at, at + block)));
    await new Promise((resume) => setTimeout(resume)); // lets a cancel message in
    if (canceled.delete(id)) return [];
  }
  await hearing.finish();
  return hearing.warnings;
}

/** Sends the windows and the columns of a recording or a stream. */
class Hearing {
  protected readonly stream: StreamTagger;
  private readonly picture: Spectrogram;

  constructor(
    readonly id: number,
    readonly tagger: Tagger,
    readonly sampleRate: number,
    hop: number,
    stride: number,
  ) {
    this.stream = tagger.stream(sampleRate, { hop: Math.min(hop, tagger.bundle.manifest.clipSeconds) });
    this.picture = new Spectrogram(tagger.bundle.manifest.frontEnd, sampleRate, stride);
    reply({ id, kind: "shape", shape: { window: this.stream.window, hop: this.stream.hop } });
  }

  /** What was noticed in the samples so far. */
  get warnings(): string[] {
    return [...this.stream.warnings];
  }

  async push(channels: Float32Array[]): Promise<void> {
    sendColumns(this.id, this.picture.push(channels));
    this.send(await this.stream.push(channels));
  }

  async finish(): Promise<void> {
    sendColumns(this.id, this.picture.finish());
    this.send(await this.stream.finish());
  }

  protected send(found: Window[]): void {
    for (const window of found) sendWindow(this.id, window);
  }
}

/** A live stream. Before its first window is full, it also sends the tags of what has come so far. */
class Live extends Hearing {
  private beginning: Float32Array[] = [];
  private windows = 0;
  private seconds = 0;
  private next = EARLY_SECONDS;

  constructor(id: number, tagger: Tagger, sampleRate: number, hop: number) {
    const { sampleRate: rate, hopLength } = tagger.bundle.manifest.frontEnd;
    super(id, tagger, sampleRate, hop, Math.max(1, Math.round((LIVE_COLUMN_SECONDS * rate) / hopLength)));
  }

  override async push(channels: Float32Array[]): Promise<void> {
    await this.pushAny(channels);
    this.seconds += channels[0].length / this.sampleRate;
    if (this.windows > 0) return;
    this.beginning.push(channels[0]);
    if (this.seconds < this.next) return;
    this.next = Math.floor(this.seconds / EARLY_SECONDS + 1) * EARLY_SECONDS;
    try {
      const { tags } = await this.tagger.tag(joined(this.beginning), this.sampleRate);
      reply({ id: this.id, kind: "early", tags, seconds: this.seconds });
    } catch (error) {
      if (!isOfSamples(error)) throw error; // else: the windows say which samples cannot be used
    }
  }

  /** Takes a block of the microphone as unusable samples if the stream refuses it, so that the times stay right. */
  private async pushAny(channels: Float32Array[]): Promise<void> {
    try {
      await super.push(channels);
    } catch (error) {
      if (!isOfSamples(error)) throw error;
      this.send(await this.stream.push(channels.map((channel) => new Float32Array(channel.length).fill(NaN))));
    }
  }

  protected override send(found: Window[]): void {
    super.send(found);
    this.windows += found.length;
    if (this.windows > 0) this.beginning = [];
  }
}

/** The open model, if it is the one that is meant: the page has the class names of that one. */
function opened(id: number): Tagger {
  if (model?.id !== id) throw new Error("Another model was opened meanwhile. Expected the one on the page: try again.");
  return model.tagger;
}

function isOfSamples(error: unknown): boolean {
  return error instanceof PannsLitertError && error.kind === "audio";
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
