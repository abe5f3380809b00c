package io.github.pannslitert.events

import io.github.pannslitert.EventException
import io.github.pannslitert.events.EventChange.Phase
import kotlin.math.max

/**
 * A sound event.
 *
 * @property index class index
 * @property start seconds
 * @property end seconds
 * @property score highest score of the class within the event, 0 … 1
 * @property label class name; empty if the detector does not know the names
 */
data class Event(val index: Int, val start: Double, val end: Double, val score: Float, val label: String = "")

/**
 * Detects sound events in class scores over time: hysteresis, then merging across short gaps, then a minimum duration.
 * The Python runtime has the same algorithm (`panns_litert.events`). The cases in tests/vectors/events.json and
 * onsets.json define both.
 *
 * Scores are compared as double: the float nearest to 0.7 is below a threshold of 0.7.
 *
 * @throws EventException a setting is out of range
 */
class EventDetector private constructor(
    private val on: DoubleArray,
    private val off: DoubleArray,
    private val minDuration: DoubleArray,
    private val maxGap: DoubleArray,
    private val cooldown: DoubleArray,
    private val labels: List<String>?,
    private val listener: EventListener?,
) {
    private enum class State { NONE, OPEN, CLOSED }

    private val state = Array(on.size) { State.NONE }
    private val start = DoubleArray(on.size)
    private val end = DoubleArray(on.size)
    private val score = FloatArray(on.size)
    private var lastEnd = Double.NEGATIVE_INFINITY

    private val number = IntArray(on.size) // of the event in progress; 0 if it has not been told
    private val toldEnd = DoubleArray(on.size) // of that event, when it was told last
    private val toldScore = FloatArray(on.size)
    private val quietUntil = DoubleArray(on.size) { Double.NEGATIVE_INFINITY } // end of the cool-down
    private var starts = 0 // number of events that were told

    init {
        if (on.isEmpty() || on.size != off.size) {
            throw EventException("${on.size} thresholds on, ${off.size} off; expected one of each per class")
        }
        for (i in on.indices) {
            val name = labels?.get(i) ?: "class $i"
            if (!(0.0 <= off[i] && off[i] <= on[i] && on[i] <= 1.0)) {
                throw EventException("$name: on ${on[i]}, off ${off[i]}; expected 0 ≤ off ≤ on ≤ 1")
            }
            val seconds = listOf("minDuration" to minDuration[i], "maxGap" to maxGap[i], "cooldown" to cooldown[i])
            for ((what, value) in seconds) {
                if (!(value >= 0.0 && value.isFinite())) {
                    throw EventException("$name: $what = $value; expected seconds ≥ 0")
                }
            }
        }
    }

    /**
     * Uses the settings of each class.
     *
     * @param labels class names, in the order of the scores
     * @param listener is told of events while they happen
     * @throws EventException a setting is out of range, or the settings name a class that is not in [labels]
     */
    constructor(
        labels: List<String>,
        settings: EventSettings = EventSettings(),
        listener: EventListener? = null,
    ) : this(
        on = of(labels, settings) { on },
        off = of(labels, settings) { off ?: (on / 2) },
        minDuration = of(labels, settings) { minDuration },
        maxGap = of(labels, settings) { maxGap },
        cooldown = of(labels, settings) { cooldown },
        labels = labels.toList(),
        listener = listener,
    ) {
        settings.classes.keys.firstOrNull { it !in labels }?.let { name ->
            throw EventException("settings of \"$name\"; expected a class name of the model")
        }
    }

    /**
     * Uses the thresholds of each class, without names.
     *
     * @param on threshold per class: an event starts at a score ≥ on
     * @param off threshold per class: an event continues while the score is ≥ off; 0 ≤ off ≤ on ≤ 1
     * @param minDuration seconds, ≥ 0; shorter events are dropped, after merging
     * @param maxGap seconds, ≥ 0; an event that starts at most this long after the end of the previous one continues it
     * @throws EventException a setting is out of range
     */
    constructor(on: FloatArray, off: FloatArray, minDuration: Double, maxGap: Double) : this(
        on = DoubleArray(on.size) { on[it].toDouble() },
        off = DoubleArray(off.size) { off[it].toDouble() },
        minDuration = DoubleArray(on.size) { minDuration },
        maxGap = DoubleArray(on.size) { maxGap },
        cooldown = DoubleArray(on.size),
        labels = null,
        listener = null,
    )

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
     * @param scores one per class, 0 … 1; null if there are none for this time: the step is missing
     * @return the events that became final, because no later step can extend them; sorted by start, then class
     * @throws EventException wrong number of scores, a score outside 0 … 1, or a step out of order
     */
    fun push(scores: FloatArray?, start: Double, end: Double): List<Event> {
        requireStep(scores, start, end)
        val afterGap = scores == null || start > lastEnd + TOLERANCE
        lastEnd = end
        val final = mutableListOf<EventChange>()
        for (i in state.indices) {
            val value = scores?.get(i) ?: -1f // below every threshold
            if (state[i] == State.OPEN && (afterGap || value < off[i])) state[i] = State.CLOSED
            if (state[i] == State.OPEN) {
                this.end[i] = end
                score[i] = max(score[i], value)
                continue
            }
            val mergeable = state[i] == State.CLOSED && start <= this.end[i] + maxGap[i] + TOLERANCE
            if (state[i] == State.CLOSED && !mergeable) close(i, final)
            if (value >= on[i]) {
                if (!mergeable) this.start[i] = start
                score[i] = if (mergeable) max(score[i], value) else value
                this.end[i] = end
                state[i] = State.OPEN
            } else if (mergeable && end - TOLERANCE > this.end[i] + maxGap[i] + TOLERANCE) {
                close(i, final) // no later step can extend it
            }
        }
        return told(final)
    }

    /**
     * Ends the stream and returns the remaining events, sorted by start, then class. The next step may belong to
     * another stream.
     */
    fun finish(): List<Event> {
        val final = mutableListOf<EventChange>()
        for (i in state.indices) if (state[i] != State.NONE) close(i, final)
        lastEnd = Double.NEGATIVE_INFINITY
        quietUntil.fill(Double.NEGATIVE_INFINITY)
        starts = 0
        return told(final)
    }

    /** Tells the listener what has changed. Returns the events that are over, sorted. */
    private fun told(final: List<EventChange>): List<Event> {
        val over = final.sortedWith(ORDER)
        if (listener != null && labels != null) {
            val news = over.filter { it.number > 0 } + tell(Phase.START, ::starts) + tell(Phase.UPDATE, ::goesOn)
            for (change in news) listener.onChange(change) // last, because the listener may throw
        }
        return over.map { it.event }
    }

    private fun tell(phase: Phase, chosen: (Int) -> Boolean): List<EventChange> =
        state.indices.filter { state[it] == State.OPEN && chosen(it) }.sortedBy { start[it] }.map { i ->
            if (phase == Phase.START) number[i] = ++starts
            toldEnd[i] = end[i]
            toldScore[i] = score[i]
            EventChange(phase, number[i], event(i))
        }

    private fun starts(i: Int) = number[i] == 0 && longEnough(i) && end[i] >= quietUntil[i] - TOLERANCE

    private fun goesOn(i: Int): Boolean {
        val risen = score[i] >= toldScore[i].toDouble() + UPDATE_RISE - TOLERANCE
        return number[i] > 0 && (risen || end[i] >= toldEnd[i] + UPDATE_SECONDS - TOLERANCE)
    }

    private fun longEnough(i: Int): Boolean = end[i] - start[i] >= minDuration[i] - TOLERANCE

    private fun event(i: Int) = Event(i, start[i], end[i], score[i], labels?.get(i).orEmpty())

    private fun close(i: Int, final: MutableList<EventChange>) {
        state[i] = State.NONE
        if (longEnough(i)) final += EventChange(Phase.END, number[i], event(i))
        if (number[i] > 0) quietUntil[i] = end[i] + cooldown[i]
        number[i] = 0
    }

    private fun requireStep(scores: FloatArray?, start: Double, end: Double) {
        if (scores != null && scores.size != on.size) {
            throw EventException("${scores.size} scores; expected ${on.size}, one per class")
        }
        for (i in scores?.indices ?: IntRange.EMPTY) {
            if (!(scores!![i] in 0f..1f)) throw EventException("class $i: score ${scores[i]}; expected 0 … 1")
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

        /** An event that was told is told again when its score has risen by this much since. */
        const val UPDATE_RISE = 0.1

        /** An event that goes on is told again after this time, seconds. */
        const val UPDATE_SECONDS = 10.0

        /** Seconds. Absorbs the rounding errors of times that are sums of decimal fractions. */
        private const val TOLERANCE = 1e-6

        private fun of(labels: List<String>, settings: EventSettings, value: EventSettings.() -> Double) =
            DoubleArray(labels.size) { settings.of(labels[it]).value() }

        private val ORDER = compareBy<EventChange>({ it.event.start }, { it.event.index })
    }
}
