package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.audio.Level
import io.github.pannslitert.audio.usable
import io.github.pannslitert.frontend.Windows
import io.github.pannslitert.requireRange

/**
 * Tags a stream that arrives in chunks of any size; made by [Tagger.stream]. The front end computes every frame once:
 * for a hop of one second, it processes one second of audio, not a whole window. [Windows] says which windows there are.
 *
 * A window with samples that are NaN, Inf or far beyond ±1 is not tagged: its result says why in [Tagging.unusable]. If
 * the engine fails, the stream can go on without the windows that the engine did not tag.
 */
class TagStream internal constructor(
    private val tagger: Tagger,
    private val windows: Windows,
    private val sampleRate: Int,
    private val frame: Int,
    private val hop: Int,
) {
    private val window = tagger.bundle.manifest.clipSamples

    /** Length of a window, seconds. */
    val windowSeconds: Double = window.toDouble() / sampleRate

    /** Time from one window to the next, seconds: the hop that was asked for, rounded to frames. */
    val hopSeconds: Double = hop.toDouble() / sampleRate

    /** Time from one frame of the log-mel to the next, seconds. */
    val frameSeconds: Double = frame.toDouble() / sampleRate

    /** Class names, in the order of the scores. */
    val labels: List<String> get() = tagger.labels

    /** Names of the enrolled classes, the last ones of [labels]. */
    val enrolled: List<String> get() = tagger.enrolled

    private val level = Level(window, frame)
    private var frontEndMs = 0.0
    private var heard = 0L
    private val bad = ArrayDeque<Long>() // the first unusable sample of each frame, from the last window's start on
    private var done = mutableListOf<Tagging>() // results that an exception kept from being returned

    /** Length of the stream so far, seconds. */
    val seconds: Double get() = heard.toDouble() / sampleRate

    /**
     * Takes samples [from] … [from] + [count] − 1 and returns one result for every window that they complete.
     *
     * @param samples mono, at the model's sample rate
     * @throws AudioException the range is not within [samples]
     * @throws EngineException as [Tagger.tag]. All samples were taken. The results before it come with the next call
     */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from): List<Tagging> {
        requireRange(samples, from, count)
        val clean = cleaned(samples, from, count)
        val first = if (clean === samples) from else 0
        heard += count
        level.push(clean, first, count)
        return collect { listener -> windows.push(clean, first, count, listener) }
    }

    /**
     * Ends the stream and returns the results of the remaining windows. Do not push after this.
     *
     * @throws EngineException as [Tagger.tag]. Another call returns the other results
     */
    fun finish(): List<Tagging> = collect(windows::finish)

    /** Returns the samples, or a copy in which those that cannot be used are 0, and remembers where these are. */
    private fun cleaned(samples: FloatArray, from: Int, count: Int): FloatArray {
        if ((from until from + count).all { usable(samples[it]) }) return samples
        val copy = samples.copyOfRange(from, from + count)
        for (i in copy.indices) {
            if (usable(copy[i])) continue
            copy[i] = 0f
            if (bad.isEmpty() || bad.last() / frame != (heard + i) / frame) bad += heard + i
        }
        return copy
    }

    private fun collect(feed: (Windows.Listener) -> Unit): List<Tagging> {
        var begin = System.nanoTime()
        feed { input, start, samples ->
            frontEndMs += Tagger.millisecondsSince(begin)
            val ms = frontEndMs
            frontEndMs = 0.0
            while (bad.isNotEmpty() && bad.first() < start) bad.removeFirst()
            val at = bad.firstOrNull()?.takeIf { it < start + samples }
            val place = Place(
                index = ((start + hop - 1) / hop).toInt(), // the last window may be shifted back
                startSeconds = start.toDouble() / sampleRate,
                samples = samples,
                levelDbfs = level.of(start),
                frontEndMs = ms,
            )
            val result =
                if (at == null) tagger.run(input, place) else tagger.unusable(at.toDouble() / sampleRate, place)
            done.add(result)
            begin = System.nanoTime()
        }
        frontEndMs += Tagger.millisecondsSince(begin)
        return done.also { done = mutableListOf() }
    }
}
