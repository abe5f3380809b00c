package io.github.pannslitert.demo

import io.github.pannslitert.audio.Resampler
import io.github.pannslitert.events.EventDetector
import io.github.pannslitert.tagging.Tagger
import io.github.pannslitert.tagging.Tagging
import java.util.concurrent.atomic.AtomicInteger
import kotlin.math.ceil

/**
 * Tags the microphone and detects events. Everything runs on the model thread, including the calls of [Listener]; only
 * the microphone has its own thread.
 *
 * @param modelMs time of one window, milliseconds. If it is long, the hop becomes longer than one second
 * @param post runs a task on the model thread, unless this object is closed before that
 */
class LiveTagging(
    private val tagger: Tagger,
    modelMs: Double,
    private val listener: Listener,
    private val post: (LiveTagging, () -> Unit) -> Unit,
) : AutoCloseable {
    interface Listener {
        /**
         * Called after more audio was received. The stream is [seconds] long, and its last [silent] seconds are all
         * zero.
         */
        fun onHeard(seconds: Double, silent: Double)

        /** Called with the result of each window. */
        fun onTagging(tagging: Tagging, timeline: Timeline)

        /** Called when listening cannot go on. [reason] is the ID of a string resource. */
        fun onFailure(reason: Int)
    }

    private val manifest = tagger.bundle.manifest
    private val hop = minOf(maxOf(LEAST_HOP, ceil(modelMs * HEADROOM / 1000.0)), manifest.clipSeconds)
    private val stream = tagger.stream(hop)
    private val detector = EventDetector(manifest.classes)
    private var resampler: Resampler? = null
    private var timeline = Timeline(labels = tagger.bundle.labels)
    private var stepEnd = 0.0
    private var heard = 0L
    private var silent = 0L
    private val waiting = AtomicInteger()
    private val microphone = Microphone(
        onSamples = { samples, rate ->
            if (waiting.incrementAndGet() > MOST_WAITING) {
                post(this) { listener.onFailure(R.string.too_slow) }
            } else {
                post(this) {
                    waiting.decrementAndGet()
                    hear(samples, rate)
                }
            }
        },
        onFailure = { reason -> post(this) { listener.onFailure(reason) } },
    )

    private fun hear(samples: FloatArray, rate: Int) {
        silent = if (samples.all { it == 0f }) silent + samples.size else 0
        heard += samples.size
        timeline = timeline.at(heard.toDouble() / rate)
        listener.onHeard(timeline.now, silent.toDouble() / rate)
        val current = resampler ?: Resampler(rate, manifest.frontEnd.sampleRate).also { resampler = it }
        for (tagging in stream.push(current.push(samples))) {
            // As in the Python runtime: the scores of a window apply to one hop around its centre. Those of the first
            // window also apply to all time before that.
            val (start, end) = stepEnd to tagging.startSeconds + (manifest.clipSeconds + hop) / 2
            stepEnd = end
            val scores = tagging.probs.withIndex()
                .filter { it.value >= EventDetector.DEFAULT_OFF }
                .associate { it.index to it.value }
            // A window that cannot be used has no step: running events end, and none begins.
            val events = if (tagging.unusable == null) detector.push(tagging.probs, start, end) else listOf()
            timeline = timeline.plus(Timeline.Step(start, end, scores), events)
            listener.onTagging(tagging, timeline)
        }
    }

    /** Returns once the microphone is released. */
    override fun close() = microphone.close()

    private companion object {
        const val LEAST_HOP = 1.0
        const val HEADROOM = 1.5
        const val MOST_WAITING = 100 // chunks, which are 10 s
    }
}
