package io.github.pannslitert.audio

import io.github.pannslitert.AudioException
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** Samples of decoded audio may exceed full scale a little. Larger ones are of another scale, or damaged. */
internal const val LOUDEST = 2.5f

/** Whether a sample can be used: it is neither NaN nor far beyond full scale. */
internal fun usable(sample: Float): Boolean = abs(sample) <= LOUDEST

/**
 * Converts a stream of samples to mono at another rate: the mean of the channels, then a [Resampler]. The result does
 * not depend on the chunks.
 *
 * Samples that cannot be used (NaN, Inf, or beyond ±2.5) are NaN in the result, and so are the resampled samples of
 * that time. A stream of a tagger marks the windows that contain them.
 *
 * @param fromRate sample rate of the stream, Hz, as for [Resampler]
 * @param toRate sample rate of the result, Hz, as for [Resampler]
 * @param channels number of channels, ≥ 1. Their samples alternate: left, right, left, …
 * @throws AudioException a rate, the ratio of the rates, or the number of channels is out of range
 */
class MonoResampler(val fromRate: Int, val toRate: Int, val channels: Int = 1) {
    private val resampler = Resampler(fromRate, toRate)
    private val unusable = ArrayDeque<LongRange>() // of the stream, until all samples of its time were returned
    private var taken = 0L
    private var returned = 0L

    init {
        requireChannels(0, channels)
    }

    /**
     * Converts the next samples, nominally within [-1, 1].
     *
     * @return the samples of the result that are complete
     * @throws AudioException the number of samples is no multiple of the number of channels. They are ignored
     */
    fun push(samples: FloatArray): FloatArray = converted(samples.size) { samples[it] }

    /** As for floats. The full scale of the samples is that of 16 bits, 32768. */
    fun push(samples: ShortArray): FloatArray = converted(samples.size) { samples[it] / Recording.FULL_SCALE }

    /** Ends the stream and returns the remaining samples of the result. The next [push] starts a new stream. */
    fun finish(): FloatArray {
        val rest = marked(resampler.finish())
        unusable.clear()
        taken = 0
        returned = 0
        return rest
    }

    private inline fun converted(size: Int, sample: (Int) -> Float): FloatArray {
        requireChannels(size, channels)
        val mono = FloatArray(size / channels) { i ->
            var sum = 0f
            var whole = true
            for (at in i * channels until (i + 1) * channels) {
                val value = sample(at)
                whole = whole && usable(value)
                sum += value
            }
            if (whole) sum / channels else Float.NaN
        }
        return marked(resampler.push(cleaned(mono)))
    }

    /** Replaces samples that cannot be used by 0, so that they do not spread, and remembers where they are. */
    private fun cleaned(mono: FloatArray): FloatArray {
        for (i in mono.indices) {
            if (!mono[i].isNaN()) continue
            mono[i] = 0f
            val last = unusable.lastOrNull()
            if (last != null && last.last == taken + i - 1) {
                unusable[unusable.size - 1] = last.first..taken + i
            } else {
                unusable += taken + i..taken + i
            }
        }
        taken += mono.size
        return mono
    }

    private fun marked(samples: FloatArray): FloatArray {
        for (span in unusable) {
            val first = floor(span.first.toDouble() * toRate / fromRate).toLong()
            val end = ceil((span.last + 1).toDouble() * toRate / fromRate).toLong()
            val from = max(0L, first - returned)
            val until = min(samples.size.toLong(), end - returned)
            if (from < until) samples.fill(Float.NaN, from.toInt(), until.toInt())
        }
        returned += samples.size
        while (unusable.isNotEmpty() && (unusable.first().last + 1.0) * toRate / fromRate <= returned) {
            unusable.removeFirst()
        }
        return samples
    }
}

private const val MOST_CHANNELS = 64

/** Throws [AudioException] unless [size] samples can be of [channels] channels. */
internal fun requireChannels(size: Int, channels: Int) {
    if (channels !in 1..MOST_CHANNELS) throw AudioException("$channels channels; expected 1 … $MOST_CHANNELS")
    if (size % channels != 0) {
        throw AudioException("$size samples of $channels channels; expected as many samples of each channel")
    }
}
