package io.github.pannslitert.demo

import io.github.pannslitert.events.Event
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.tagging.Tagging
import java.io.File

/**
 * Everything that the screen shows.
 *
 * @property bundles all bundles on the device
 * @property chosen the folder of the open bundle, or of the one that could not be opened
 * @property message current activity or error; empty if there is none
 * @property isError whether [message] is an error
 * @property attempts self-test of the GPU, then of the CPU
 * @property ready whether a bundle is open and its engine passed the self-test
 * @property measuring whether a measurement is running
 * @property record file with the measurements, to share; null if nothing was measured
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
 * Scores and events of the last [SPAN] seconds of a stream.
 *
 * @property now end of the stream so far, seconds
 */
class Timeline(
    val now: Double = 0.0,
    val labels: List<String> = emptyList(),
    val steps: List<Step> = emptyList(),
    val events: List<Event> = emptyList(),
) {
    /** Probabilities from [start] to [end], in seconds, of the classes that may be present; by class index. */
    class Step(val start: Double, val end: Double, val scores: Map<Int, Float>)

    /** A copy at a later time, without steps and events that are no longer visible. */
    fun at(now: Double) =
        Timeline(now, labels, steps.filter { it.end > now - SPAN }, events.filter { it.end > now - SPAN })

    /** A copy with one more step and the events that became final. */
    fun plus(step: Step, final: List<Event>) = Timeline(now, labels, steps + step, events + final)

    companion object {
        /** Seconds. */
        const val SPAN = 60.0
    }
}
