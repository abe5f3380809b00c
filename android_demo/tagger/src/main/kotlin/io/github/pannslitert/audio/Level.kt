package io.github.pannslitert.audio

import kotlin.math.log10
import kotlin.math.min

/**
 * The level of the windows of a stream, as `panns_litert.audio.level_dbfs`: 10·log10 of the mean square, without the
 * mean of the samples (DC). It keeps two numbers per block of samples, not the samples.
 *
 * @param window length of a window, samples
 * @param frame every window begins at a multiple of this, samples
 */
internal class Level(private val window: Int, private val frame: Int) {
    /** Samples from [start] on: their number, mean, and sum of squared differences from the mean. */
    private class Block(val start: Long, var count: Int, var mean: Double, var spread: Double)

    private val blocks = ArrayDeque<Block>()
    private var heard = 0L

    /** Takes samples [from] … [from] + [count] − 1, which are finite. */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from) {
        var at = from
        while (at < from + count) {
            val piece = min(from + count - at, room())
            var sum = 0.0
            for (i in at until at + piece) sum += samples[i]
            val mean = sum / piece
            var spread = 0.0
            for (i in at until at + piece) spread += (samples[i] - mean) * (samples[i] - mean)
            blocks += Block(heard, piece, mean, spread)
            heard += piece
            at += piece
        }
    }

    /** The level of the window that begins at sample [start], dB; −∞ for a constant. Forgets the samples before it. */
    fun of(start: Long): Double {
        while (blocks.isNotEmpty() && blocks.first().start < start) blocks.removeFirst()
        val all = Block(start, 0, 0.0, 0.0)
        for (block in blocks) {
            if (block.start >= start + window) break
            // Chan, Golub, LeVeque (1979): exact for a constant, unlike the difference of two means of squares.
            val count = all.count + block.count
            val step = block.mean - all.mean
            all.spread += block.spread + step * step * all.count * block.count / count
            all.mean += step * block.count / count
            all.count = count
        }
        val varying = all.spread / all.count
        val audible = varying > ROUNDING * (varying + all.mean * all.mean)
        return if (audible) 10.0 * log10(varying) else Double.NEGATIVE_INFINITY
    }

    /** Number of samples to the next place where a window may begin or end. */
    private fun room(): Int {
        val begin = (heard % frame).toInt()
        val end = ((heard - window % frame + frame) % frame).toInt()
        return min(frame - begin, frame - end)
    }

    private companion object {
        /** The share of its power that a constant may seem to vary by, because of rounding. */
        const val ROUNDING = 1e-14
    }
}
