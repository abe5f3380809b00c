/**
 * Audio tagging in the browser, with the bundles that `panns-litert convert` writes.
 *
 * The way of the sound: audio → frontend → engine → tagger → windows → events. The Python runtime (`panns_litert`) and
 * the Kotlin library have the same names, the same rules and the same test vectors.
 */

export { decode } from "./audio/decode.js";
export { levelDbfs } from "./audio/level.js";
export { Resampler } from "./audio/resampler.js";
export { type Recording, type Sound } from "./audio/sound.js";
export { Bundle, type BundleFile } from "./bundle/bundle.js";
export { isProven, type Manifest } from "./bundle/manifest.js";
export { LiteRtEngine, type Accelerator, type Engine, type EngineOptions, type Outputs } from "./engine.js";
export { PannsLitertError, type ErrorKind } from "./errors.js";
export {
  audacityLabels,
  EventDetector,
  eventsCsv,
  EventStream,
  type EventListener,
  type EventSettings,
  type SoundEvent,
  type Thresholds,
} from "./events.js";
export { LogMel } from "./frontend/logmel.js";
export { melBasis } from "./frontend/mel.js";
export { type FrontEndSpec } from "./frontend/spec.js";
export { StreamingLogMel } from "./frontend/streaming.js";
export {
  Tagger,
  topTags,
  type LongTagging,
  type Result,
  type SelfTestResult,
  type Tag,
  type TaggerOptions,
  type Tagging,
  type TagOptions,
  type WindowOptions,
} from "./tagger.js";
export { StreamTagger, type StreamOptions, type StreamShape, type Window } from "./windows.js";
