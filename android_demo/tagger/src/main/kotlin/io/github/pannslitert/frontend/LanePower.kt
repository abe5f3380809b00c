package io.github.pannslitert.frontend

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.sin

/**
 * Power spectra of several real frames at once.
 *
 * A real frame of [size] samples is packed into a complex frame of half the length: even samples are its real part, odd
 * samples its imaginary part. The spectrum of the real frame is computed from that of the complex frame (Press et al.,
 * Numerical Recipes, section 12.3).
 *
 * @param size samples of a frame, a power of two, ≥ 4
 * @param lanes number of frames
 */
internal class LanePower(private val size: Int, lanes: Int) {
    private val half = size / 2
    private val fft = LaneFft(half, lanes)
    private val nyquist = DoubleArray(lanes)
    private val cosine = DoubleArray(half / 2) { cos(2.0 * PI * it / size) }
    private val minusSine = DoubleArray(half / 2) { -sin(2.0 * PI * it / size) }

    /** The row with sample i of every frame. Fill it before [transform]. */
    fun sample(i: Int): DoubleArray = if (i % 2 == 0) fft.re[i / 2] else fft.im[i / 2]

    /** The row with |X[k]|² of every frame, k = 0 … size / 2. Valid after [transform]. */
    fun power(k: Int): DoubleArray = if (k == half) nyquist else fft.re[fft.order[k]]

    /** Replaces the samples by the power spectra. */
    fun transform() {
        fft.transform()
        ends(fft.re[0], fft.im[0], nyquist)
        val middle = fft.order[half / 2] // this bin is paired with itself
        middle(fft.re[middle], fft.im[middle])
        for (k in 1 until half / 2) {
            val a = fft.order[k]
            val b = fft.order[half - k]
            unpack(fft.re[a], fft.im[a], fft.re[b], fft.im[b], cosine[k], minusSine[k])
        }
    }

    private fun ends(re: DoubleArray, im: DoubleArray, nyquist: DoubleArray) {
        for (l in re.indices) {
            val even = re[l]
            val odd = im[l]
            re[l] = (even + odd) * (even + odd)
            nyquist[l] = (even - odd) * (even - odd)
        }
    }

    private fun middle(re: DoubleArray, im: DoubleArray) {
        for (l in re.indices) re[l] = re[l] * re[l] + im[l] * im[l]
    }

    /** Replaces Z[k] = a and Z[half − k] = b by |X[k]|² in [ar] and |X[half − k]|² in [br]. */
    private fun unpack(ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray, wr: Double, wi: Double) {
        split(ar, ai, br, bi, wr, wi)
        squares(ar, ai, br, bi)
    }

    // split and squares are two loops, because HotSpot does not vectorise one loop of that length.

    /**
     * Computes twice the spectrum of the even samples in a, and twice the spectrum of the odd samples, multiplied by w,
     * in b.
     */
    private fun split(ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray, wr: Double, wi: Double) {
        for (l in ar.indices) {
            val xr = ar[l]
            val xi = ai[l]
            val yr = br[l]
            val yi = bi[l]
            val oddR = xi + yi
            val oddI = yr - xr
            ar[l] = xr + yr
            ai[l] = xi - yi
            br[l] = oddR * wr - oddI * wi
            bi[l] = oddR * wi + oddI * wr
        }
    }

    private fun squares(ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray) {
        for (l in ar.indices) {
            val evenR = ar[l]
            val evenI = ai[l]
            val oddR = br[l]
            val oddI = bi[l]
            val sumR = evenR + oddR
            val sumI = evenI + oddI
            val differenceR = evenR - oddR
            val differenceI = evenI - oddI
            ar[l] = 0.25 * (sumR * sumR + sumI * sumI)
            br[l] = 0.25 * (differenceR * differenceR + differenceI * differenceI)
        }
    }
}
