package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.frontend.Windows

/**
 * Tags a stream that arrives in chunks of any size; made by [Tagger.stream]. The front end computes every frame once:
 * for a hop of one second, it processes one second of audio, not a whole window.
 */
class TagStream internal constructor(
    private val run: (FloatArray, Double, Double, Double) -> Tagging,
    private val sampleRate: Int,
    private val windows: Windows,
    private val windowSeconds: Double,
) {
    private var frontEndMs = 0.0

    /**
     * Takes samples [from] … [from] + [count] − 1 and returns one result for every window that they complete.
     *
     * @param samples mono, at the model's sample rate
     * @throws AudioException the range is not within [samples], or as [Tagger.tag]
     * @throws EngineException as [Tagger.tag]
     */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from): List<Tagging> =
        collect { listener -> windows.push(samples, from, count, listener) }

    /**
     * Ends the stream and returns a result for the window that ends with it, if there is one. Do not push after this.
     */
    fun finish(): List<Tagging> = collect(windows::finish)

    private fun collect(feed: (Windows.Listener) -> Unit): List<Tagging> {
        val results = mutableListOf<Tagging>()
        var start = System.nanoTime()
        feed { input, startSample ->
            frontEndMs += Tagger.millisecondsSince(start)
            results += run(input, startSample.toDouble() / sampleRate, windowSeconds, frontEndMs)
            frontEndMs = 0.0
            start = System.nanoTime()
        }
        frontEndMs += Tagger.millisecondsSince(start)
        return results
    }
}
