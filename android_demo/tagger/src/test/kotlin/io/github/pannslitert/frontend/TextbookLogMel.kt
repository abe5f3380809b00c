package io.github.pannslitert.frontend

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.sin

/**
 * The reference for speed: PANNs' log-mel as in textbooks, in float32. One in-place radix-2 complex FFT per frame with
 * precomputed twiddle factors, a dense product with the mel basis, one log10 per value.
 */
internal class TextbookLogMel(private val spec: FrontEndSpec, private val basis: FloatArray) {
    private val size = spec.nFft
    private val window = FloatArray(size) { (0.5 - 0.5 * cos(2.0 * PI * it / size)).toFloat() }
    private val cosine = FloatArray(size / 2) { cos(2.0 * PI * it / size).toFloat() }
    private val minusSine = FloatArray(size / 2) { -sin(2.0 * PI * it / size).toFloat() }
    private val reversed = IntArray(size) { Integer.reverse(it) ushr (32 - Integer.numberOfTrailingZeros(size)) }
    private val re = FloatArray(size)
    private val im = FloatArray(size)
    private val power = FloatArray(spec.bins)

    fun compute(waveform: FloatArray, out: FloatArray) {
        for (t in 0 until spec.frames(waveform.size)) {
            for (i in 0 until size) {
                var at = t * spec.hopLength + i - size / 2
                if (at < 0) at = -at
                if (at >= waveform.size) at = 2 * (waveform.size - 1) - at
                re[i] = waveform[at] * window[i]
                im[i] = 0f
            }
            transform()
            for (k in 0 until spec.bins) power[k] = re[k] * re[k] + im[k] * im[k]
            for (m in 0 until spec.nMels) {
                var sum = 0f
                for (k in 0 until spec.bins) sum += power[k] * basis[m * spec.bins + k]
                out[t * spec.nMels + m] = 10f * log10(max(sum, spec.amin.toFloat()))
            }
        }
    }

    private fun transform() {
        for (i in 0 until size) {
            val j = reversed[i]
            if (j > i) {
                re[i] = re[j].also { re[j] = re[i] }
                im[i] = im[j].also { im[j] = im[i] }
            }
        }
        var length = 2
        while (length <= size) {
            val half = length / 2
            val step = size / length
            for (start in 0 until size step length) {
                for (k in 0 until half) {
                    val a = start + k
                    val b = a + half
                    val c = cosine[k * step]
                    val s = minusSine[k * step]
                    val xr = re[b] * c - im[b] * s
                    val xi = re[b] * s + im[b] * c
                    re[b] = re[a] - xr
                    im[b] = im[a] - xi
                    re[a] += xr
                    im[a] += xi
                }
            }
            length *= 2
        }
    }
}
