/** The page's side of the worker: opens a model, tags a recording, listens to a stream. */

import type { Accelerator, Recording, Tag } from "panns-litert";
import type { BundleSource, Columns, Heard, OpenModel, Reply, Request, Shape } from "./protocol.js";

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

export interface Progress {
  /** Called once, before the first window. */
  shape(shape: Shape): void;
  window(window: Heard): void;
  columns(columns: Columns): void;
  /** Tags of what a stream has given so far, before its first window is full. */
  early?(tags: Tag[], seconds: number): void;
}

interface Job {
  progress: Progress | null;
  resolve(answer: OpenModel | string[]): void;
  reject(error: Error): void;
}

export class Engine {
  private readonly worker: Worker;
  private readonly jobs = new Map<number, Job>();
  private next = 1;

  constructor() {
    this.worker = this.start();
  }

  /** Opens a bundle in place of the one before; if that fails, the one before stays open. */
  async open(source: BundleSource, accelerator: Accelerator): Promise<OpenModel> {
    const wasmPath = new URL("wasm/", document.baseURI).href;
    const model = await this.request({ kind: "open", source, accelerator, wasmPath }, null).done;
    return model as OpenModel;
  }

  /**
   * Tags a recording, whose samples move to the worker. Returns what was noticed in them. Throws the signal's reason if
   * it is canceled, and an error if another model is open by now.
   */
  async tag(
    model: OpenModel,
    recording: Recording,
    hop: number,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<string[]> {
    const samples = [...new Set(recording.channels.map((channel) => channel.buffer))];
    const { id, done } = this.request({ kind: "tag", model: model.id, recording, hop }, progress, samples);
    signal.addEventListener("abort", () => this.post({ id, kind: "cancel" }), { once: true });
    const warnings = await done;
    signal.throwIfAborted();
    return warnings as string[];
  }

  /** Opens a stream of live sound. It fails if another model is open by now. */
  listen(model: OpenModel, sampleRate: number, hop: number, progress: Progress): Stream {
    const { id, done } = this.request({ kind: "listen", model: model.id, sampleRate, hop }, progress);
    return {
      push: (samples) => this.post({ id, kind: "samples", samples }),
      stop: async () => {
        this.post({ id, kind: "finish" });
        return (await done) as string[];
      },
      failed: done.then(
        () => new Promise<never>(() => {}),
        (error: Error) => error,
      ),
    };
  }

  private request(request: WithoutId<Request>, progress: Progress | null, moved: Transferable[] = []) {
    const id = this.next++;
    const done = new Promise<OpenModel | string[]>((resolve, reject) =>
      this.jobs.set(id, { progress, resolve, reject }),
    );
    this.post({ ...request, id } as Request, moved);
    return { id, done };
  }

  private post(request: Request, moved: Transferable[] = []): void {
    this.worker.postMessage(request, moved);
  }

  private start(): Worker {
    const worker = new Worker(new URL("./worker.ts", import.meta.url));
    worker.onmessage = (event: MessageEvent<Reply>) => this.receive(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      const why = event.message ? `: ${event.message}` : "";
      for (const job of this.jobs.values()) {
        job.reject(new Error(`The model's worker stopped${why}. Reload the page, or choose a smaller model.`));
      }
      this.jobs.clear();
    };
    return worker;
  }

  private receive(reply: Reply): void {
    const job = this.jobs.get(reply.id);
    if (!job) return;
    switch (reply.kind) {
      case "shape":
        job.progress?.shape(reply.shape);
        return;
      case "window":
        job.progress?.window(reply.window);
        return;
      case "columns":
        job.progress?.columns(reply.columns);
        return;
      case "early":
        job.progress?.early?.(reply.tags, reply.seconds);
        return;
      case "opened":
        job.resolve(reply.model);
        break;
      case "done":
        job.resolve(reply.warnings);
        break;
      case "failed":
        job.reject(new Error(reply.message));
        break;
    }
    this.jobs.delete(reply.id);
  }
}

export interface Stream {
  push(samples: Float32Array): void;
  /** Ends the stream. Returns what was noticed in it, after its last window. */
  stop(): Promise<string[]>;
  /** Resolves if the model fails. */
  failed: Promise<Error>;
}
