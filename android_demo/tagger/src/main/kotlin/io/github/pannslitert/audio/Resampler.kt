package io.github.pannslitert.audio

import io.github.pannslitert.AudioException
import io.github.pannslitert.requireRange
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.min
import kotlin.math.sin
import kotlin.math.sqrt

/**
 * Streaming sample rate conversion of a mono signal. The output is bit-identical for every division into chunks.
 *
 * The filter is a polyphase sinc with a Kaiser window (J. O. Smith, Digital Audio Resampling; Kaiser 1974). It has
 * linear phase and no delay: output sample n is at n / [toRate] seconds of the input. The gain is within 0.01 dB up to
 * 0.91 of the lower Nyquist frequency. Input components above the lower Nyquist frequency, and images above it in the
 * output, are below −115 dB. The passband is that of soxr's quality HQ, which the Python runtime uses. Images of
 * −85 dB are loud enough to change the tags of synthetic sounds.
 *
 * Rates with a small common divisor, such as 47999 and 32000 Hz, would need a filter for each of thousands of phases.
 * For them, the filter of a phase is interpolated linearly between the two next to it in a table.
 *
 * @param fromRate Hz, 1000 … 768000
 * @param toRate Hz, 1000 … 768000
 * @throws AudioException a rate is out of range
 */
class Resampler(val fromRate: Int, val toRate: Int) {
    private val up: Int
    private val down: Int

    init {
        for (rate in listOf(fromRate, toRate)) {
            if (rate !in RATES) throw AudioException("sample rate $rate Hz; expected ${RATES.first} … ${RATES.last}")
        }
        val divisor = gcd(fromRate, toRate)
        up = toRate / divisor
        down = fromRate / divisor
    }

    /** The lower of the two rates, divided by the input rate. */
    private val scale = min(1.0, up.toDouble() / down)
    private val half = ceil((STOP_DB - 7.95) / (2.285 * PI * TRANSITION * scale) / 2.0).toInt()

    /** The filter of a lower cutoff is longer and smoother: it needs a table of fewer phases. */
    private val phases = min(up, ceil(MOST_PHASES * scale).toInt())
    private val kernel = arrayOfNulls<DoubleArray>(phases + 1) // filter taps by phase; made when first needed
    private val recent = FloatArray(2 * half + CHUNK)
    private var used = half - 1 // zeros before the first sample
    private var recentStart = 1L - half
    private var received = 0L
    private var produced = 0L

    /**
     * Resamples samples [from] … [from] + [count] − 1.
     *
     * @return the output samples that are complete, about [count]·toRate / fromRate
     * @throws AudioException the range is not within [samples]
     */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from): FloatArray {
        requireRange(samples, from, count)
        if (up == down) return samples.copyOfRange(from, from + count)
        val out = FloatArray((available(received + count - half) - produced).toInt())
        var taken = 0
        var made = 0
        while (taken < count) {
            val piece = min(count - taken, recent.size - used)
            samples.copyInto(recent, used, from + taken, from + taken + piece)
            taken += piece
            received += piece
            used += piece
            made = produce(out, made, available(received - half))
        }
        return out
    }

    /**
     * Ends the stream and returns the remaining output samples. In total there are ⌈samples·toRate / fromRate⌉ of them.
     * The next [push] starts a new stream.
     */
    fun finish(): FloatArray {
        if (up == down) return FloatArray(0)
        val rest = push(FloatArray(half)) // the filter of the last output reaches this far beyond the last sample
        used = half - 1
        recent.fill(0f, 0, used)
        recentStart = 1L - half
        received = 0
        produced = 0
        return rest
    }

    /** The number of outputs whose last filter tap is before input sample [end] + [half]. */
    private fun available(end: Long): Long = if (end <= 0) 0 else (end * up + down - 1) / down

    private fun produce(out: FloatArray, from: Int, until: Long): Int {
        var made = from
        while (produced < until) {
            val position = produced * down
            val first = (position / up - half + 1 - recentStart).toInt()
            val phase = (position % up) * phases.toDouble() / up
            val row = phase.toInt()
            val beyond = phase - row // 0 if there is a filter for each phase
            val sum = filtered(first, row)
            out[made++] = (if (beyond == 0.0) sum else sum + beyond * (filtered(first, row + 1) - sum)).toFloat()
            produced++
        }
        val keep = (produced * down / up - half + 1 - recentStart).toInt()
        recent.copyInto(recent, 0, keep, used)
        used -= keep
        recentStart += keep
        return made
    }

    /** The sum of taps · samples, from place [first] in [recent] on. */
    private fun filtered(first: Int, phase: Int): Double {
        val taps = kernel[phase] ?: taps(phase.toDouble() / phases).also { kernel[phase] = it }
        var sum = 0.0
        for (k in taps.indices) sum += taps[k] * recent[first + k]
        return sum
    }

    /** The filter taps for an output that lies [fraction] of a sample after an input sample. Their sum is 1. */
    private fun taps(fraction: Double): DoubleArray {
        val cutoff = scale * (1.0 - TRANSITION / 2.0)
        val taps = DoubleArray(2 * half) { k ->
            val t = k - half + 1 - fraction
            cutoff * sinc(cutoff * t) * kaiser(t / half)
        }
        val sum = taps.sum()
        return DoubleArray(taps.size) { taps[it] / sum }
    }

    private companion object {
        val RATES = 1000..768_000

        /** At which interpolation between two filters of the table costs less than −125 dB. */
        const val MOST_PHASES = 2048
        const val CHUNK = 4096

        /** Width of the transition from passband to stopband, as a share of the lower Nyquist frequency. */
        const val TRANSITION = 0.087
        const val STOP_DB = 120.0
        const val BETA = 0.1102 * (STOP_DB - 8.7)

        fun sinc(x: Double): Double = if (abs(x) < 1e-9) 1.0 else sin(PI * x) / (PI * x)

        fun kaiser(x: Double): Double = if (abs(x) >= 1.0) 0.0 else bessel(BETA * sqrt(1.0 - x * x)) / bessel(BETA)

        /** The modified Bessel function I0, by its power series. */
        fun bessel(x: Double): Double {
            var term = 1.0
            var sum = 1.0
            var k = 1
            while (term > 1e-17 * sum) {
                term *= (x / (2 * k)) * (x / (2 * k))
                sum += term
                k++
            }
            return sum
        }

        tailrec fun gcd(a: Int, b: Int): Int = if (b == 0) a else gcd(b, a % b)
    }
}
