/**
 * Power spectrum of real frames of one length, in float64: a complex FFT of half the length (Stockham's, radix 4, which
 * needs no bit reversal), then the step from it to the spectrum of the real frame.
 */
export class PowerSpectrum {
  private readonly half: number;
  private re: Float64Array;
  private im: Float64Array;
  private re2: Float64Array;
  private im2: Float64Array;
  private readonly cos: Float64Array; // of 2π k / size
  private readonly sin: Float64Array;

  /** @param size length of a frame, samples: a power of two, ≥ 2 */
  constructor(readonly size: number) {
    this.half = size / 2;
    [this.re, this.im, this.re2, this.im2] = Array.from({ length: 4 }, () => new Float64Array(this.half));
    this.cos = Float64Array.from({ length: size }, (_, k) => Math.cos((2 * Math.PI * k) / size));
    this.sin = Float64Array.from({ length: size }, (_, k) => Math.sin((2 * Math.PI * k) / size));
  }

  /**
   * Writes |X[k]|², k = 0 … size / 2.
   *
   * @param frame size real samples, windowed
   * @param power size / 2 + 1 values
   */
  of(frame: Float64Array, power: Float64Array): void {
    const { half, cos, sin } = this;
    for (let i = 0; i < half; i++) {
      this.re[i] = frame[2 * i];
      this.im[i] = frame[2 * i + 1];
    }
    this.transform();
    const { re, im } = this;
    power[0] = (re[0] + im[0]) ** 2;
    power[half] = (re[0] - im[0]) ** 2;
    for (let k = 1, j = half - 1; k <= j; k++, j--) {
      // Even and odd samples: Z[k] = E[k] + i·O[k], X[k] = E[k] + e^(−2πik/size)·O[k], X[half − k] = its mirror image.
      const evenRe = (re[k] + re[j]) / 2;
      const evenIm = (im[k] - im[j]) / 2;
      const oddRe = (im[k] + im[j]) / 2;
      const oddIm = (re[j] - re[k]) / 2;
      const turnedRe = cos[k] * oddRe + sin[k] * oddIm;
      const turnedIm = cos[k] * oddIm - sin[k] * oddRe;
      power[k] = (evenRe + turnedRe) ** 2 + (evenIm + turnedIm) ** 2;
      power[j] = (evenRe - turnedRe) ** 2 + (evenIm - turnedIm) ** 2;
    }
  }

  /** The complex FFT of re and im, in place. */
  private transform(): void {
    const { half, cos, sin } = this;
    let length = half;
    let stride = 1;
    for (; length >= 4; length /= 4, stride *= 4) {
      const { re, im, re2, im2 } = this;
      const quarter = length / 4;
      const step = 2 * stride; // of the table: e^(−2πi p / length) = table[p · size / length]
      for (let p = 0; p < quarter; p++) {
        const c1 = cos[p * step];
        const s1 = sin[p * step];
        const c2 = cos[2 * p * step];
        const s2 = sin[2 * p * step];
        const c3 = cos[3 * p * step];
        const s3 = sin[3 * p * step];
        for (let q = 0; q < stride; q++) {
          const a = q + stride * p;
          const b = a + stride * quarter;
          const c = b + stride * quarter;
          const d = c + stride * quarter;
          const sumR = re[a] + re[c];
          const sumI = im[a] + im[c];
          const difR = re[a] - re[c];
          const difI = im[a] - im[c];
          const sum2R = re[b] + re[d];
          const sum2I = im[b] + im[d];
          const dif2R = re[b] - re[d];
          const dif2I = im[b] - im[d];
          const out = q + stride * 4 * p;
          re2[out] = sumR + sum2R;
          im2[out] = sumI + sum2I;
          const r1 = difR + dif2I;
          const i1 = difI - dif2R;
          re2[out + stride] = c1 * r1 + s1 * i1;
          im2[out + stride] = c1 * i1 - s1 * r1;
          const r2 = sumR - sum2R;
          const i2 = sumI - sum2I;
          re2[out + 2 * stride] = c2 * r2 + s2 * i2;
          im2[out + 2 * stride] = c2 * i2 - s2 * r2;
          const r3 = difR - dif2I;
          const i3 = difI + dif2R;
          re2[out + 3 * stride] = c3 * r3 + s3 * i3;
          im2[out + 3 * stride] = c3 * i3 - s3 * r3;
        }
      }
      this.swap();
    }
    if (length === 2) {
      const { re, im, re2, im2 } = this;
      for (let q = 0; q < stride; q++) {
        const b = q + stride;
        re2[q] = re[q] + re[b];
        im2[q] = im[q] + im[b];
        re2[b] = re[q] - re[b];
        im2[b] = im[q] - im[b];
      }
      this.swap();
    }
  }

  private swap(): void {
    const { re, im } = this;
    this.re = this.re2;
    this.im = this.im2;
    this.re2 = re;
    this.im2 = im;
  }
}
