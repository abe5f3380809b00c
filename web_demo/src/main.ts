/** The page: takes recordings, bundles and the microphone, has the worker run the model, and shows what was heard. */

import { decode, type Accelerator, type Recording } from "panns-litert";
import { showBadge, showSelfTest } from "./badge.js";
import { clearNotices, element, make, notify } from "./dom.js";
import { Engine, type Stream } from "./engine.js";
import { download, droppedFiles, MOST_SECONDS, requireUsable, sorted, tooLong } from "./files.js";
import { openMicrophone, type Microphone } from "./microphone.js";
import { noticed } from "./noticed.js";
import { Player } from "./player.js";
import type { BundleSource, OpenModel } from "./protocol.js";
import { clock } from "./timeline.js";
import { View } from "./view.js";
import { wavFile } from "./wav.js";

const HOP = 1;
const NOT_HEARD = "what follows the last tag was not heard";
/** Longest stream that the page keeps, seconds. */
const MOST_LIVE_SECONDS = 600;
/** A bundle that a person opened, in the list of models. */
const OWN = "own";
const OPEN_FOLDER = "folder";

interface Listed {
  folder: string;
  title: string;
}

const engine = new Engine();
const player = new Player(
  (seconds) => view.moveTo(seconds, player.playing),
  (playing) => {
    showPlay(playing ? "pause" : "play");
    view.moveTo(player.seconds, playing);
  },
);
const view = new View((from) => void player.play(from));

const models = element<HTMLSelectElement>("model");
const engines = element<HTMLSelectElement>("engine");
const play = element<HTMLButtonElement>("play");
const progress = element<HTMLProgressElement>("progress");

let model: OpenModel | null = null;
/** Ends when the newest opening of a model does. */
let opening: Promise<void> = Promise.resolve();
let chosen: { value: string; source: BundleSource } | null = null;
let file: File | null = null;
/** The model that all of `file` was tagged with, or is being tagged with; null if another one interrupted that. */
let taggedWith: OpenModel | null = null;
let listening: Listening | null = null;
/** Ends when the newest stream that was stopped has become a recording. */
let stopping: Promise<void> = Promise.resolve();
let job: AbortController | null = null;
/** The newest sound that a person asked for; an older one is not shown any more. */
let turn = 0;
/** Number of sounds that are being decoded, or wait for the microphone or the model. */
let coming = 0;

// ---- the model

async function openModel(source: BundleSource, value: string, title: string): Promise<void> {
  showBadge("busy", `Opening ${title}`);
  enable(false);
  if (job) taggedWith = null;
  job?.abort(); // the worker opens a model after it
  const accelerator = engines.value as Accelerator;
  const open = async () => {
    await stopListening();
    model = await engine.open(source, accelerator);
    chosen = { value, source };
    if (value === OWN) listOwn(model);
  };
  const mine = (opening = open());
  try {
    await mine;
  } catch (error) {
    if (mine !== opening) return;
    notify(messageOf(error));
    models.value = chosen?.value ?? "";
    if (model) showModel(model);
    else showBadge("bad", "No model", "Choose another model, or drop a bundle's folder.");
    enable(model !== null);
    await tagAgain();
    return;
  }
  if (mine !== opening || !model) return; // another one is opened now
  clearNotices();
  models.value = value;
  showModel(model);
  if (model.fallback) {
    engines.value = model.engine;
    notify(`WebGPU is not used here, WebAssembly is: ${model.fallback}`, "plain");
  }
  if (model.selfTest && !model.selfTest.passed) {
    notify(`The self-test of ${title} failed on this device, so its tags may be wrong: ${model.selfTest.why}`);
  }
  enable(true);
  await tagAgain();
}

function showModel(open: OpenModel): void {
  showSelfTest(open);
  const { labels, attribution, licence } = open;
  element("about").textContent = `${open.model}, ${labels.length} classes. ${attribution}, ${licence}.`;
}

/** Waits until no model is being opened. */
async function settled(): Promise<void> {
  let last;
  do {
    last = opening;
    await last.catch(() => {});
  } while (last !== opening);
}

function listOwn(own: OpenModel): void {
  const { value } = models;
  models.querySelector(`option[value="${OWN}"]`)?.remove();
  models.prepend(make("option", { value: OWN }, `${own.model}, ${own.precision}, opened here`));
  models.value = value;
}

function enable(ready: boolean): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("#choose, #listen, #examples button")) {
    button.disabled = !ready;
  }
}

// ---- a recording

/**
 * Gets a sound ready for the page: decodes it, or asks for the microphone. Only then ends what is on the page, so that
 * it stays if this fails.
 *
 * @returns the sound and the model that is open now; null if it failed, or if something newer was asked for
 */
async function prepared<T>(
  get: () => Promise<T>,
  drop: (sound: T) => void = () => {},
): Promise<{ sound: T; open: OpenModel } | null> {
  const mine = ++turn;
  let sound: T | null = null;
  coming++;
  try {
    sound = await get();
    if (mine === turn) {
      await stopListening();
      await settled();
    }
    if (mine === turn) {
      if (!model) throw new Error("No model is open yet. Wait until it is, or choose one.");
      job?.abort();
      job = null;
      player.close();
      return { sound, open: model };
    }
  } catch (error) {
    if (mine === turn) notify(messageOf(error));
  } finally {
    coming--;
  }
  if (sound !== null) drop(sound);
  return null;
}

/** Tags the recording on the page again, if it was with another model and nothing newer is on its way. */
async function tagAgain(): Promise<void> {
  if (coming === 0 && file && model && taggedWith !== model) await tagFile(file, true);
}

/** @param again whether it is the recording of before, with another model: what the page says then stays */
async function tagFile(next: File, again = false, note = ""): Promise<void> {
  const ready = await prepared(() => read(next));
  if (!ready) {
    if (!again) await tagAgain();
    return;
  }
  const { sound: recording, open } = ready;
  if (note) notify(note, "plain");
  else if (!again) clearNotices();
  file = next;
  taggedWith = open;
  const found = recording.channels[0].length / recording.sampleRate;
  const warnings = [...recording.warnings, ...noticed(recording)];
  const seconds = Math.max(recording.seconds, found);
  view.begin({ name: next.name, format: formatOf(recording), seconds, found, warnings }, open, false);
  showPlay("play");
  element("save").hidden = true;
  player.open(next, async () => {
    const again = await decode(next, next.name);
    return wavFile(again.channels, again.sampleRate);
  });
  view.moveTo(0, false);
  const current = (job = new AbortController());
  showProgress(0);
  try {
    const more = await engine.tag(
      open,
      recording,
      HOP,
      {
        shape: (shape) => current.signal.aborted || view.shape(shape),
        window(window) {
          if (current.signal.aborted) return;
          view.push(window);
          showProgress(window.end / found);
        },
        columns: (columns) => current.signal.aborted || view.columns(columns),
      },
      current.signal,
    );
    view.finish({ warnings: [...warnings, ...more] });
  } catch (error) {
    if (job !== current) return; // something else is on the page
    if (!current.signal.aborted) notify(messageOf(error));
    view.finish({ warnings: [...warnings, `${current.signal.aborted ? "canceled" : "failed"}: ${NOT_HEARD}`] }, true);
  } finally {
    if (job === current) {
      job = null;
      showProgress(null);
    }
  }
}

/**
 * Decodes a recording.
 *
 * @throws Error with a message for the person
 */
async function read(next: File): Promise<Recording> {
  await requireUsable(next);
  const recording = await decode(next, next.name);
  if (!(recording.channels[0]?.length > 0)) {
    throw new Error(`${next.name} holds no sound. Expected a sample or more.`);
  }
  if (recording.seconds > MOST_SECONDS) {
    throw tooLong(next.name, `${Math.round(recording.seconds / 60)} minutes long`);
  }
  return recording;
}

function formatOf({ channels, sampleRate }: Recording): string {
  const count = channels.length;
  return `${sampleRate / 1000} kHz, ${count === 1 ? "mono" : count === 2 ? "stereo" : `${count} channels`}`;
}

function showProgress(share: number | null): void {
  progress.hidden = element("cancel").hidden = share === null;
  progress.value = Math.min(1, share ?? 0);
}

function showPlay(does: "play" | "pause" | "stop"): void {
  play.dataset.does = does;
  play.setAttribute("aria-label", { play: "Play", pause: "Pause", stop: "Stop listening" }[does]);
}

// ---- the microphone

interface Listening {
  microphone: Microphone;
  stream: Stream;
  blocks: Float32Array[];
  samples: number;
  arrived: number;
}

async function listen(): Promise<void> {
  let now: Listening | null = null;
  let gone = false;
  const waiting: Float32Array[] = [];
  const block = (samples: Float32Array) => {
    if (!now) return void waiting.push(samples);
    now.blocks.push(samples);
    now.samples += samples.length;
    now.arrived = performance.now();
    now.stream.push(samples);
    const seconds = now.samples / now.microphone.sampleRate;
    view.grow(seconds);
    if (seconds >= MOST_LIVE_SECONDS && listening === now) {
      void stopListening();
      notify(`Stopped after ${MOST_LIVE_SECONDS / 60} minutes, which is all that this page keeps.`, "plain");
    }
  };
  const lost = () => {
    gone = true;
    if (!now || listening !== now) return;
    void stopListening();
    notify("The microphone went away. What it heard before is below.");
  };
  const ready = await prepared(
    () => openMicrophone(block, lost),
    (microphone) => void microphone.stop(),
  );
  if (!ready) return tagAgain();
  const { sound: microphone, open } = ready;
  clearNotices();
  file = null;
  taggedWith = open;
  showProgress(null);
  const { sampleRate } = microphone;
  const format = `${sampleRate / 1000} kHz, mono`;
  view.begin({ name: "Microphone", format, seconds: 0, found: 0, warnings: [] }, open, true);
  const stream = engine.listen(open, sampleRate, HOP, {
    shape: (shape) => view.shape(shape),
    window: (window) => view.push(window),
    columns: (columns) => view.columns(columns),
    early: (tags, seconds) => view.early(tags, seconds),
  });
  now = listening = { microphone, stream, blocks: [], samples: 0, arrived: performance.now() };
  waiting.splice(0).forEach(block);
  showPlay("stop");
  element("save").hidden = true;
  element("length").textContent = "";
  void stream.failed.then((error) => {
    notify(messageOf(error));
    void stopListening();
  });
  drawLive(now);
  if (gone) lost();
}

function drawLive(now: Listening): void {
  if (listening !== now) return;
  const { sampleRate } = now.microphone;
  // Blocks come in bursts; the time between them is filled, so that the picture moves evenly.
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const since = still ? 0 : Math.min(0.2, (performance.now() - now.arrived) / 1000);
  const seconds = now.samples / sampleRate + since;
  view.drawLive(seconds);
  element("now").textContent = clock(seconds, true);
  if (still) setTimeout(() => drawLive(now), 1000);
  else requestAnimationFrame(() => drawLive(now));
}

/** Ends the live stream, if there is one; what was heard becomes a recording that can be played and saved. */
function stopListening(): Promise<void> {
  if (listening) {
    stopping = ended(listening)
      .catch((error: unknown) => notify(messageOf(error)))
      .finally(() => (play.disabled = false));
  }
  listening = null;
  return stopping;
}

async function ended(now: Listening): Promise<void> {
  play.disabled = true;
  // The last block still comes: it is part of what was heard.
  await now.microphone.stop();
  let failed = false;
  const noted = await now.stream.stop().catch((error: unknown) => {
    notify(messageOf(error));
    failed = true;
    return [`failed: ${NOT_HEARD}`];
  });
  const samples = new Float32Array(now.samples);
  let at = 0;
  for (const block of now.blocks) {
    samples.set(block, at);
    at += block.length;
  }
  const { sampleRate } = now.microphone;
  const sound = wavFile([samples], sampleRate);
  file = new File([sound], "microphone.wav", { type: "audio/wav" });
  player.open(sound, () => Promise.resolve(sound));
  showPlay("play");
  element("save").hidden = false;
  const seconds = samples.length / sampleRate;
  const recording = { channels: [samples], sampleRate, seconds, warnings: [], source: "" };
  const warnings = samples.length > 0 ? noticed(recording) : [];
  view.finish({ seconds, found: seconds, warnings: [...warnings, ...noted] }, failed);
  view.moveTo(0, false);
}

// ---- what a person does

async function take(files: File[]): Promise<void> {
  try {
    const dropped = sorted(files);
    if ("bundle" in dropped) {
      await openModel({ files: dropped.bundle }, OWN, "the bundle");
    } else {
      const { name } = dropped.recording;
      const more = `${dropped.others} more ${dropped.others === 1 ? "was" : "were"} not`;
      const note = dropped.others > 0 ? `One recording at a time: ${name} was taken, ${more}.` : "";
      await tagFile(dropped.recording, false, note);
    }
  } catch (error) {
    notify(messageOf(error));
  }
}

async function takeExample(address: string, name: string): Promise<void> {
  try {
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${address} is missing on the server (${response.status}). Choose a recording.`);
    await tagFile(new File([await response.blob()], name));
  } catch (error) {
    notify(messageOf(error));
  }
}

function wire(): void {
  const chooser = element<HTMLInputElement>("file");
  const folder = element<HTMLInputElement>("folder");
  element("choose").addEventListener("click", () => chooser.click());
  element("listen").addEventListener("click", () => void listen());
  for (const input of [chooser, folder]) {
    input.addEventListener("change", () => {
      const files = [...(input.files ?? [])];
      input.value = "";
      if (files.length > 0) void take(files);
    });
  }
  play.addEventListener("click", () => void (listening ? stopListening() : player.toggle()));
  element("cancel").addEventListener("click", () => job?.abort());
  element("save").addEventListener("click", () => file && download(file, file.name));
  models.addEventListener("change", () => {
    const { value } = models;
    if (value === OPEN_FOLDER) {
      models.value = chosen?.value ?? "";
      folder.click();
    } else if (value === OWN) return;
    else void openModel({ url: bundleUrl(value) }, value, models.selectedOptions[0].text);
  });
  engines.addEventListener("change", () => {
    if (chosen) void openModel(chosen.source, chosen.value, model?.model ?? "the model");
  });

  const face = element("face");
  const seek = (seconds: number) => listening || player.seek(Math.min(view.seconds, Math.max(0, seconds)));
  face.addEventListener("pointerdown", (event) => {
    if (event.button === 0) seek(view.timeline.secondsAt(event.clientX));
  });
  face.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) seek(view.timeline.secondsAt(event.clientX));
  });
  face.addEventListener("keydown", (event) => {
    const now = player.seconds;
    const to: Record<string, number> = {
      ArrowLeft: now - 1,
      ArrowDown: now - 1,
      ArrowRight: now + 1,
      ArrowUp: now + 1,
      PageDown: now - 10,
      PageUp: now + 10,
      Home: 0,
      End: view.seconds,
    };
    if (event.key in to) seek(to[event.key]);
    else if (event.key === " " || event.key === "Enter") play.click();
    else return;
    event.preventDefault();
  });

  const veil = element("veil");
  let inside = 0;
  addEventListener("dragenter", () => (veil.hidden = ++inside === 0));
  addEventListener("dragleave", () => (veil.hidden = --inside <= 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    veil.hidden = true;
    if (!event.dataTransfer) return;
    droppedFiles(event.dataTransfer).then(take, (error: unknown) => notify(messageOf(error)));
  });
  addEventListener("unhandledrejection", (event) => notify(messageOf(event.reason)));
}

function bundleUrl(folder: string): string {
  return new URL(`bundles/${folder}/`, document.baseURI).href;
}

/** Reads public/…/index.json, which web_demo/make_public.py writes. */
async function listOf<T>(address: string): Promise<T[]> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} is missing on the server (${response.status}). Use make web.`);
  return (await response.json()) as T[];
}

/** WebAssembly's smallest module with a SIMD instruction. */
const SIMD = Uint8Array.from(atob("AGFzbQEAAAABBQFgAAF7AwIBAAoKAQgAQQD9D/1iCw=="), (c) => c.charCodeAt(0));

async function start(): Promise<void> {
  wire();
  showPlay("play");
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    showBadge("bad", "No WebAssembly SIMD");
    notify(
      "This browser has no WebAssembly SIMD, which the model needs. Use Chrome or Edge 91, Firefox 89, Safari 16.4, " +
        "or later.",
    );
    return;
  }
  element("engine-choice").hidden = !("gpu" in navigator);
  try {
    const [bundles, examples] = await Promise.all([
      listOf<Listed>("bundles/index.json"),
      listOf<{ file: string; title: string }>("examples/index.json"),
    ]);
    models.replaceChildren(
      ...bundles.map(({ folder, title }) => make("option", { value: folder }, title)),
      make("option", { value: OPEN_FOLDER }, "Open a bundle's folder …"),
    );
    element("examples").replaceChildren(
      ...examples.map(({ file: name, title }) => {
        const button = make("button", { type: "button", disabled: "" }, title);
        button.addEventListener("click", () => void takeExample(`examples/${name}`, name));
        return make("li", {}, button);
      }),
    );
    if (bundles.length > 0) await openModel({ url: bundleUrl(bundles[0].folder) }, bundles[0].folder, bundles[0].title);
  } catch (error) {
    showBadge("bad", "No model");
    notify(messageOf(error));
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

void start();
