package io.github.pannslitert.frontend

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.sin

/**
 * Power spectra of several real frames at once.
 *
 * A real frame of [size] samples is packed into a complex one of half the length, even samples real, odd ones
 * imaginary, and its spectrum is unpacked from that (Press et al., Numerical Recipes, section 12.3).
 *
 * @param size samples of a frame, a power of two, ≥ 4
 */
internal class LanePower(private val size: Int, lanes: Int) {
    private val half = size / 2
    private val fft = LaneFft(half, lanes)
    private val nyquist = DoubleArray(lanes)
    private val cosine = DoubleArray(half / 2) { cos(2.0 * PI * it / size) }
    private val minusSine = DoubleArray(half / 2) { -sin(2.0 * PI * it / size) }

    /** Sample i of every frame, to be filled before [transform]. */
    fun sample(i: Int): DoubleArray = if (i % 2 == 0) fft.re[i / 2] else fft.im[i / 2]

    /** |X[k]|² of every frame, after [transform]; k = 0 … size / 2. */
    fun power(k: Int): DoubleArray = if (k == half) nyquist else fft.re[fft.order[k]]

    /** Samples to power. */
    fun transform() {
        fft.transform()
        ends(fft.re[0], fft.im[0], nyquist)
        val middle = fft.order[half / 2] // its own partner
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

    /** Z[k] = a and Z[half − k] = b to |X[k]|² in [ar] and |X[half − k]|² in [br]. */
    private fun unpack(ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray, wr: Double, wi: Double) {
        split(ar, ai, br, bi, wr, wi)
        squares(ar, ai, br, bi)
    }

    // Two loops, because HotSpot does not vectorise one as long as both.

    /** To the spectra, each times two, of the even samples in a, and of the odd ones, turned by w, in b. */
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
