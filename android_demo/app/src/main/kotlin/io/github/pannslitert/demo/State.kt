package io.github.pannslitert.demo

import io.github.pannslitert.events.Event
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.tagging.Tagging
import java.io.File

/**
 * What the screen shows.
 *
 * @property bundles every bundle on the device
 * @property chosen the one that is open, or was to be
 * @property message what is going on, or what is wrong; empty if there is nothing to say
 * @property attempts the self-test of the GPU, then of the CPU
 * @property ready whether a bundle is open on a proven engine
 * @property measuring whether engines are being measured
 * @property record what was measured, to share; null if nothing was
 * @property tagging the newest result
 */
data class State(
    val bundles: List<File> = emptyList(),
    val chosen: File? = null,
    val message: String = "",
    val isError: Boolean = false,
    val attempts: List<EngineChoice.Attempt> = emptyList(),
    val ready: Boolean = false,
    val listening: Boolean = false,
    val measuring: Boolean = false,
    val record: File? = null,
    val tagging: Tagging? = null,
    val timeline: Timeline = Timeline(),
)

/**
 * What was heard in the last [SPAN] seconds of a stream.
 *
 * @property now end of the stream so far, seconds
 */
class Timeline(
    val now: Double = 0.0,
    val labels: List<String> = emptyList(),
    val steps: List<Step> = emptyList(),
    val events: List<Event> = emptyList(),
) {
    /** The classes that may sound from [start] to [end], with their probabilities. */
    class Step(val start: Double, val end: Double, val scores: Map<Int, Float>)

    /** The same at a later time, without what is no longer to be seen. */
    fun at(now: Double) =
        Timeline(now, labels, steps.filter { it.end > now - SPAN }, events.filter { it.end > now - SPAN })

    fun plus(step: Step, final: List<Event>) = Timeline(now, labels, steps + step, events + final)

    companion object {
        const val SPAN = 60.0
    }
}
