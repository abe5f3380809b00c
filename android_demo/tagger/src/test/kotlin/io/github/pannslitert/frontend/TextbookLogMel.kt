package io.github.pannslitert.frontend

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.ln
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.sin

/**
 * The reference for speed: the log-mel as in textbooks, in float32. One in-place radix-2 complex FFT per frame with
 * precomputed twiddle factors, a dense product with the mel basis, one logarithm per value.
 */
internal class TextbookLogMel(private val spec: FrontEndSpec, private val basis: FloatArray) {
    private val size = spec.nFft
    private val length = spec.winLength
    private val left = if (spec.center) (size - length) / 2 else 0
    private val window = FloatArray(length) {
        val period = if (spec.window == "hann_symmetric") length - 1 else length
        (0.5 - 0.5 * cos(2.0 * PI * it / period)).toFloat()
    }
    private val cosine = FloatArray(size / 2) { cos(2.0 * PI * it / size).toFloat() }
    private val minusSine = FloatArray(size / 2) { -sin(2.0 * PI * it / size).toFloat() }
    private val reversed = IntArray(size) { Integer.reverse(it) ushr (32 - Integer.numberOfTrailingZeros(size)) }
    private val re = FloatArray(size)
    private val im = FloatArray(size)
    private val power = FloatArray(spec.bins)

    fun compute(waveform: FloatArray, out: FloatArray) {
        val a = spec.preEmphasis.toFloat()
        val signal = when {
            spec.lostSamples == 0 -> waveform
            else -> FloatArray(waveform.size - 1) { waveform[it + 1] - a * waveform[it] }
        }
        val filled = spec.filledFrames(waveform.size)
        for (t in 0 until filled) {
            re.fill(0f)
            im.fill(0f)
            val start = t * spec.hopLength + if (spec.center) left - size / 2 else 0
            for (i in 0 until length) {
                var at = start + i
                if (at < 0) at = -at
                if (at >= signal.size) at = 2 * (signal.size - 1) - at
                re[left + i] = signal[at]
            }
            if (spec.removeDc) {
                var mean = 0f
                for (i in 0 until length) mean += re[i]
                mean /= length
                for (i in length - 1 downTo 1) re[i] = re[i] - mean - a * (re[i - 1] - mean)
                re[0] = (1f - a) * (re[0] - mean)
            }
            for (i in 0 until length) re[left + i] *= window[i]
            transform()
            for (k in 0 until spec.bins) power[k] = re[k] * re[k] + im[k] * im[k]
            for (m in 0 until spec.nMels) {
                var sum = 0f
                for (k in 0 until spec.bins) sum += power[k] * basis[m * spec.bins + k]
                out[t * spec.nMels + m] = level(sum)
            }
        }
        for (i in filled * spec.nMels until spec.frames(waveform.size) * spec.nMels) out[i] = affine(0f)
    }

    private fun level(power: Float): Float {
        val x = max(power, spec.amin.toFloat()) + (spec.logOffset ?: 0.0).toFloat()
        return affine(if (spec.log == "ln") ln(x) else 10f * log10(x))
    }

    private fun affine(x: Float): Float {
        val (offset, scale) = spec.affine ?: return x
        return (x + offset.toFloat()) / scale.toFloat()
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
