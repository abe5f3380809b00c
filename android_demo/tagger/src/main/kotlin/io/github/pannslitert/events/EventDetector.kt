package io.github.pannslitert.events

import io.github.pannslitert.EventException
import kotlin.math.max

/**
 * A sound event.
 *
 * @property index class index
 * @property start seconds
 * @property end seconds
 * @property score highest score of the class within the event, 0 … 1
 */
data class Event(val index: Int, val start: Double, val end: Double, val score: Float)

/**
 * Detects sound events in class scores over time: hysteresis, then merging across short gaps, then a minimum duration.
 * The Python runtime has the same algorithm (`panns_litert.events`). The cases in tests/vectors/events.json define
 * both.
 *
 * @param on threshold per class: an event starts at a score ≥ on
 * @param off threshold per class: an event continues while the score is ≥ off; 0 ≤ off ≤ on ≤ 1
 * @param minDuration seconds, ≥ 0; shorter events are dropped, after merging
 * @param maxGap seconds, ≥ 0; an event that starts at most this long after the end of the previous one continues it
 * @throws EventException a setting is out of range
 */
class EventDetector(
    private val on: FloatArray,
    private val off: FloatArray,
    private val minDuration: Double,
    private val maxGap: Double,
) {
    private enum class State { NONE, OPEN, CLOSED }

    private val state = Array(on.size) { State.NONE }
    private val start = DoubleArray(on.size)
    private val end = DoubleArray(on.size)
    private val score = FloatArray(on.size)
    private var lastEnd = Double.NEGATIVE_INFINITY

    init {
        if (on.isEmpty() || on.size != off.size) {
            throw EventException("${on.size} thresholds on, ${off.size} off; expected one of each per class")
        }
        for (i in on.indices) {
            if (!(0f <= off[i] && off[i] <= on[i] && on[i] <= 1f)) {
                throw EventException("class $i: on ${on[i]}, off ${off[i]}; expected 0 ≤ off ≤ on ≤ 1")
            }
        }
        for ((name, value) in listOf("minDuration" to minDuration, "maxGap" to maxGap)) {
            if (!(value >= 0.0 && value.isFinite())) throw EventException("$name = $value; expected seconds ≥ 0")
        }
    }

    /** Uses the same thresholds for all [classes]. The defaults are those of the Python runtime. */
    constructor(
        classes: Int,
        on: Float = DEFAULT_ON,
        off: Float = on / 2,
        minDuration: Double = 0.0,
        maxGap: Double = 0.0,
    ) : this(FloatArray(max(0, classes)) { on }, FloatArray(max(0, classes)) { off }, minDuration, maxGap)

    /**
     * Processes the scores of one time step, from [start] to [end] in seconds. Steps must be in order and must not
     * overlap.
     *
     * @param scores one per class, 0 … 1
     * @return the events that became final, because no later step can extend them; sorted by start, then class
     * @throws EventException wrong number of scores, a score outside 0 … 1, or a step out of order
     */
    fun push(scores: FloatArray, start: Double, end: Double): List<Event> {
        requireStep(scores, start, end)
        val afterGap = start > lastEnd + TOLERANCE
        lastEnd = end
        val final = mutableListOf<Event>()
        for (i in scores.indices) {
            if (state[i] == State.OPEN && (afterGap || scores[i] < off[i])) state[i] = State.CLOSED
            if (state[i] == State.OPEN) {
                this.end[i] = end
                score[i] = max(score[i], scores[i])
                continue
            }
            val mergeable = state[i] == State.CLOSED && start <= this.end[i] + maxGap + TOLERANCE
            if (state[i] == State.CLOSED && !mergeable) close(i, final)
            if (scores[i] >= on[i]) {
                if (!mergeable) this.start[i] = start
                score[i] = if (mergeable) max(score[i], scores[i]) else scores[i]
                this.end[i] = end
                state[i] = State.OPEN
            }
        }
        return final.sortedWith(ORDER)
    }

    /**
     * Ends the stream and returns the remaining events, sorted by start, then class. The next step may belong to
     * another stream.
     */
    fun finish(): List<Event> {
        val final = mutableListOf<Event>()
        for (i in state.indices) if (state[i] != State.NONE) close(i, final)
        lastEnd = Double.NEGATIVE_INFINITY
        return final.sortedWith(ORDER)
    }

    private fun close(i: Int, final: MutableList<Event>) {
        state[i] = State.NONE
        if (end[i] - start[i] >= minDuration - TOLERANCE) final += Event(i, start[i], end[i], score[i])
    }

    private fun requireStep(scores: FloatArray, start: Double, end: Double) {
        if (scores.size != on.size) throw EventException("${scores.size} scores; expected ${on.size}, one per class")
        for (i in scores.indices) {
            if (!(scores[i] in 0f..1f)) throw EventException("class $i: score ${scores[i]}; expected 0 … 1")
        }
        if (!(start.isFinite() && end.isFinite() && start <= end)) {
            throw EventException("a step from $start s to $end s; expected finite times, start ≤ end")
        }
        if (start < lastEnd - TOLERANCE) {
            throw EventException("a step from $start s after one to $lastEnd s; expected steps in order")
        }
    }

    companion object {
        /** Default of `on`. */
        const val DEFAULT_ON = 0.2f

        /** Default of `off`: half of the default of `on`. */
        const val DEFAULT_OFF = DEFAULT_ON / 2

        /** Seconds. Absorbs the rounding errors of times that are sums of decimal fractions. */
        private const val TOLERANCE = 1e-6
        private val ORDER = compareBy<Event>({ it.start }, { it.index })
    }
}
