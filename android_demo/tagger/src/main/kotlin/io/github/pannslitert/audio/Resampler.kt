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
 * Changes the sample rate of a mono stream; any chunking gives the same samples bit by bit.
 *
 * Polyphase sinc with a Kaiser window (J. O. Smith, Digital Audio Resampling; Kaiser 1974), linear phase without delay:
 * output n is at n / [toRate] seconds of the input. Within 0.01 dB up to 0.9 of the lower Nyquist frequency; what lies
 * above that frequency in the input, or would in the output, is below −85 dB.
 *
 * @param fromRate Hz, 1000 … 768000
 * @param toRate Hz, in the same range; over the greatest common divisor of both at most 2560
 * @throws AudioException a rate, or a ratio, out of that range
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
        if (up > MAX_PHASES) {
            throw AudioException(
                "from $fromRate Hz to $toRate Hz takes $up phases; expected at most $MAX_PHASES: use a common rate",
            )
        }
    }

    /** Lower of the two rates, as a share of the input's. */
    private val scale = min(1.0, up.toDouble() / down)
    private val half = ceil((STOP_DB - 7.95) / (2.285 * PI * TRANSITION * scale) / 2.0).toInt()
    private val kernel = Array(up) { phase -> taps(phase.toDouble() / up) }
    private val recent = FloatArray(2 * half + CHUNK)
    private var used = half - 1 // zeros before the first sample
    private var recentStart = 1L - half
    private var received = 0L
    private var produced = 0L

    /**
     * Takes samples [from] … [from] + [count] − 1 and returns those that they complete at the new rate: about
     * [count]·toRate / fromRate of them.
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

    /** The stream is over: what is left, so that all in all there are ⌈samples·toRate / fromRate⌉. */
    fun finish(): FloatArray {
        if (up == down) return FloatArray(0)
        val rest = push(FloatArray(half)) // the last output's taps reach so far beyond the last sample
        used = half - 1
        recent.fill(0f, 0, used)
        recentStart = 1L - half
        received = 0
        produced = 0
        return rest
    }

    /** Outputs whose last tap is before input sample [end] + half. */
    private fun available(end: Long): Long = if (end <= 0) 0 else (end * up + down - 1) / down

    private fun produce(out: FloatArray, from: Int, until: Long): Int {
        var made = from
        while (produced < until) {
            val position = produced * down
            val first = (position / up - half + 1 - recentStart).toInt()
            val taps = kernel[(position % up).toInt()]
            var sum = 0.0
            for (k in taps.indices) sum += taps[k] * recent[first + k]
            out[made++] = sum.toFloat()
            produced++
        }
        val keep = (produced * down / up - half + 1 - recentStart).toInt()
        recent.copyInto(recent, 0, keep, used)
        used -= keep
        recentStart += keep
        return made
    }

    /** The taps for an output [fraction] of a sample after an input; their sum is 1. */
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
        const val MAX_PHASES = 2560
        const val CHUNK = 4096

        /** Of the lower Nyquist frequency: from the end of the passband to the start of the stopband. */
        const val TRANSITION = 0.1
        const val STOP_DB = 90.0
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
