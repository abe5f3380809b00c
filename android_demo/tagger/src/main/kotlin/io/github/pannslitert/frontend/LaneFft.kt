package io.github.pannslitert.frontend

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.sin

/**
 * Complex FFT of several signals at once, in place, in float64.
 *
 * The rows [re]\[i] and [im]\[i] hold element i of all signals. Every inner loop runs over whole rows, has no branch
 * and uses a single factor. The loops are short enough for HotSpot to vectorise them. The algorithm is radix 4, with a
 * last radix-2 step if necessary, decimation in frequency (Gentleman and Sande 1966). It recurses depth first, so that
 * the small sub-transforms stay in the level-1 cache.
 *
 * @param size number of points, a power of two, ≥ 2
 * @param lanes number of signals
 */
internal class LaneFft(private val size: Int, lanes: Int) {
    val re = Array(size) { DoubleArray(lanes) }
    val im = Array(size) { DoubleArray(lanes) }

    /** After [transform], frequency k is in row order[k]. */
    val order = IntArray(size) { k -> Integer.reverse(k) ushr (32 - size.countTrailingZeroBits()) }

    private val cosine = DoubleArray(size) { cos(2.0 * PI * it / size) }
    private val minusSine = DoubleArray(size) { -sin(2.0 * PI * it / size) }

    /** Replaces the signals by their spectra. */
    fun transform() = transform(0, size)

    private fun transform(start: Int, points: Int) {
        when (points) {
            1 -> return
            2 -> sumAndDifference(re[start], im[start], re[start + 1], im[start + 1])
            else -> quarters(start, points)
        }
    }

    /** One radix-4 step, then the transform of each quarter. */
    private fun quarters(start: Int, points: Int) {
        val part = points / 4
        val step = size / points
        for (i in 0 until part) {
            val a = start + i
            val b = a + part
            val c = b + part
            val d = c + part
            sums(re[a], re[b], re[c], re[d])
            sums(im[a], im[b], im[c], im[d])
            if (i == 0) {
                cross(re[c], im[c], re[d], im[d])
            } else {
                val w = i * step
                turn(re[b], im[b], cosine[2 * w], minusSine[2 * w])
                crossAndTurn(re[c], im[c], re[d], im[d], cosine[w], minusSine[w], cosine[3 * w], minusSine[3 * w])
            }
        }
        for (quarter in 0 until 4) transform(start + quarter * part, part)
    }

    /** Replaces (a, b) by (a + b, a − b). */
    private fun sumAndDifference(ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray) {
        for (l in ar.indices) {
            val xr = ar[l]
            val xi = ai[l]
            val yr = br[l]
            val yi = bi[l]
            ar[l] = xr + yr
            ai[l] = xi + yi
            br[l] = xr - yr
            bi[l] = xi - yi
        }
    }

    /** Replaces (a, b, c, d) by (a + b + c + d, a − b + c − d, a − c, b − d). */
    private fun sums(a: DoubleArray, b: DoubleArray, c: DoubleArray, d: DoubleArray) {
        for (l in a.indices) {
            val p = a[l]
            val q = b[l]
            val r = c[l]
            val s = d[l]
            val even = p + r
            val odd = q + s
            a[l] = even + odd
            b[l] = even - odd
            c[l] = p - r
            d[l] = q - s
        }
    }

    /** Replaces a by a·w. */
    private fun turn(ar: DoubleArray, ai: DoubleArray, wr: Double, wi: Double) {
        for (l in ar.indices) {
            val xr = ar[l]
            val xi = ai[l]
            ar[l] = xr * wr - xi * wi
            ai[l] = xr * wi + xi * wr
        }
    }

    /** Replaces (a, b) by (a − i·b, a + i·b). */
    private fun cross(ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray) {
        for (l in ar.indices) {
            val xr = ar[l]
            val xi = ai[l]
            val yr = br[l]
            val yi = bi[l]
            ar[l] = xr + yi
            ai[l] = xi - yr
            br[l] = xr - yi
            bi[l] = xi + yr
        }
    }

    /** Replaces (a, b) by ((a − i·b)·v, (a + i·b)·w). */
    private fun crossAndTurn(
        ar: DoubleArray, ai: DoubleArray, br: DoubleArray, bi: DoubleArray,
        vr: Double, vi: Double, wr: Double, wi: Double,
    ) {
        for (l in ar.indices) {
            val xr = ar[l]
            val xi = ai[l]
            val yr = br[l]
            val yi = bi[l]
            val pr = xr + yi
            val pi = xi - yr
            val qr = xr - yi
            val qi = xi + yr
            ar[l] = pr * vr - pi * vi
            ai[l] = pr * vi + pi * vr
            br[l] = qr * wr - qi * wi
            bi[l] = qr * wi + qi * wr
        }
    }
}
