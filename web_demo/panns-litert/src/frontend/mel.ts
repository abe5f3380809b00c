import { bins, type FrontEndSpec } from "./spec.js";

const LOG_STEP = 27 / Math.log(6.4); // Slaney's scale: 27 mels per factor 6.4 above 1 kHz

const slaneyMel = (hz: number): number => (hz < 1000 ? hz * (3 / 200) : 15 + LOG_STEP * Math.log(hz / 1000));
const slaneyHz = (mel: number): number => (mel < 15 ? mel * (200 / 3) : 1000 * Math.exp((mel - 15) / LOG_STEP));
const kaldiMel = (hz: number): number => 1127 * Math.log1p(hz / 700);

/**
 * Computes the mel basis of a spec: triangular filters, nMels × bins, row-major, as `mel_basis` in the Python runtime.
 * "slaney": of equal area, linear in Hz; "kaldi": of height 1, linear in mel.
 */
export function melBasis(spec: FrontEndSpec): Float32Array {
  const kaldi = spec.melScale === "kaldi";
  const toMel = kaldi ? kaldiMel : slaneyMel;
  const [low, high] = [toMel(spec.fmin), toMel(spec.fmax)];
  const edges = Array.from({ length: spec.nMels + 2 }, (_, i) => {
    const mel = low + ((high - low) * i) / (spec.nMels + 1);
    return kaldi ? mel : slaneyHz(mel);
  });
  const count = bins(spec);
  const basis = new Float32Array(spec.nMels * count);
  for (let k = 0; k < count; k++) {
    const hz = k * (spec.sampleRate / spec.nFft);
    const at = kaldi ? kaldiMel(hz) : hz;
    for (let m = 0; m < spec.nMels; m++) {
      const [left, centre, right] = [edges[m], edges[m + 1], edges[m + 2]];
      const height = Math.max(0, Math.min((at - left) / (centre - left), (right - at) / (right - centre)));
      basis[m * count + k] = kaldi ? height : height * (2 / (right - left));
    }
  }
  return basis;
}
