package io.github.pannslitert.demo

import io.github.pannslitert.events.Event
import kotlin.math.ceil
import kotlin.math.max

/**
 * Scores and events over time: of the last [SPAN] seconds of a stream, or of a whole recording.
 *
 * @property start first second that is shown
 * @property end last second that is shown
 * @property now end of the sound so far, seconds
 * @property labels class names, by index
 * @property steps the scores, in order
 * @property events the events that are over, in the order of their ends
 * @property running the events that are not over: when they began, by class index
 */
data class Timeline(
    val start: Double = 0.0,
    val end: Double = SPAN,
    val now: Double = 0.0,
    val labels: List<String> = emptyList(),
    val steps: List<Step> = emptyList(),
    val events: List<Event> = emptyList(),
    val running: Map<Int, Double> = emptyMap(),
) {
    /** Probabilities from [start] to [end], in seconds, of the classes that may be present; by class index. */
    data class Step(val start: Double, val end: Double, val scores: Map<Int, Float>)

    /** A copy at a later time of a stream, without what is no longer visible. */
    fun at(now: Double): Timeline {
        val start = max(0.0, now - SPAN)
        return copy(
            start = start,
            end = start + SPAN,
            now = now,
            steps = steps.filter { it.end > start },
            events = events.filter { it.end > start },
        )
    }

    /** A copy with the event of a class that began at [start]. */
    fun begun(label: String, start: Double): Timeline {
        val index = labels.indexOf(label)
        return if (index < 0) this else copy(running = running + (index to start))
    }

    /** A copy with an event that is over. */
    fun ended(event: Event): Timeline = copy(running = running - event.index, events = events + event)

    /** The indices of at most [most] classes: those with the highest scores, highest first. */
    fun rows(most: Int): List<Int> {
        val best = mutableMapOf<Int, Float>()
        fun count(index: Int, score: Float) {
            best[index] = max(score, best[index] ?: 0f)
        }
        for (step in steps) for ((index, score) in step.scores) count(index, score)
        for (event in events) count(event.index, event.score)
        for (index in running.keys) count(index, 0f)
        return best.keys.sortedByDescending { best[it] }.take(most)
    }

    /** Where a time is between [start] and [end]: 0 … 1. */
    fun place(seconds: Double): Double = ((seconds - start) / (end - start)).coerceIn(0.0, 1.0)

    /** The times of the axis' marks, seconds: multiples of a round number, at most [most] of them and at least one. */
    fun marks(most: Int): List<Double> {
        val count = max(1, most)
        val span = end - start
        val step = ROUND.firstOrNull { span / it < count } ?: (ceil(span / HOUR / count) * HOUR)
        return generateSequence(ceil(start / step) * step) { it + step }.takeWhile { it <= end }.take(count).toList()
    }

    companion object {
        /** Seconds of a stream that are shown. */
        const val SPAN = 60.0
        private const val HOUR = 3600.0
        private val ROUND = listOf(1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, HOUR)

        /** A time for people, rounded down to seconds: "0:07", "12:34" or "1:02:03". */
        fun clock(seconds: Double): String {
            val whole = seconds.toLong()
            val (hours, minutes) = whole / 3600 to whole / 60 % 60
            return if (hours > 0) {
                "%d:%02d:%02d".format(hours, minutes, whole % 60)
            } else {
                "%d:%02d".format(minutes, whole % 60)
            }
        }
    }
}
