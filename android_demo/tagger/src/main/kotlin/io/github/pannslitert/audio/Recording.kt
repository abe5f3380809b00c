package io.github.pannslitert.audio

import io.github.pannslitert.AudioException
import kotlin.math.min

/**
 * A recording: samples of any rate and number of channels. A recording with several channels has their samples in turn:
 * left, right, left, … The tagger takes the mean of the channels.
 *
 * ```kotlin
 * val whole = tagger.tagLong(Recording(pcm, rate = 44100, channels = 2))
 * ```
 *
 * @property rate Hz, as for [Resampler]
 * @property channels number of channels, ≥ 1
 * @param chunks the samples, nominally within [-1, 1], in parts of whole frames, such as the outputs of a decoder. They
 *     are asked for one by one, so that a long recording need not be in memory
 */
class Recording(val rate: Int, val channels: Int = 1, private val chunks: Sequence<FloatArray>) {
    /**
     * A recording of float samples, nominally within [-1, 1].
     *
     * @throws AudioException the number of samples is no multiple of the number of channels
     */
    constructor(samples: FloatArray, rate: Int, channels: Int = 1) :
        this(rate, channels, parts(samples.size, channels) { from, until -> samples.copyOfRange(from, until) })

    /**
     * A recording of 16-bit samples.
     *
     * @throws AudioException the number of samples is no multiple of the number of channels
     */
    constructor(samples: ShortArray, rate: Int, channels: Int = 1) :
        this(
            rate,
            channels,
            parts(samples.size, channels) { from, until ->
                FloatArray(until - from) { samples[from + it] / FULL_SCALE }
            },
        )

    /** The recording as mono samples at another rate, in parts. */
    internal fun mono(toRate: Int): Sequence<FloatArray> = sequence {
        val resampler = MonoResampler(rate, toRate, channels)
        for (chunk in chunks) yield(resampler.push(chunk))
        yield(resampler.finish())
    }

    internal companion object {
        /** The full scale of 16-bit samples. */
        const val FULL_SCALE = 32768f
        private const val PART = 1 shl 16 // samples of each channel

        private fun parts(size: Int, channels: Int, copy: (Int, Int) -> FloatArray): Sequence<FloatArray> {
            requireChannels(size, channels)
            val step = PART * channels
            return (0 until size step step).asSequence().map { copy(it, min(it + step, size)) }
        }
    }
}
