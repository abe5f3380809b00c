package io.github.pannslitert.events

import io.github.pannslitert.events.EventChange.Phase

/**
 * Thresholds of events. The defaults are those of the Python runtime (`panns_litert.EventSettings`).
 *
 * @property on an event opens when the score is ≥ on, 0 … 1
 * @property off an event stays open while the score is ≥ off; 0 ≤ off ≤ on. Null for half of [on]
 * @property minDuration seconds, ≥ 0; shorter events are dropped
 * @property maxGap seconds, ≥ 0; two events of a class merge if the gap between them is at most this long
 * @property cooldown seconds, ≥ 0; for this long after the end of an event that an [EventListener] was told of, it is
 *     told of no other one of the class
 * @property classes by name of the class, other values for that class alone
 */
data class EventSettings(
    val on: Double = 0.2,
    val off: Double? = null,
    val minDuration: Double = 0.0,
    val maxGap: Double = 0.0,
    val cooldown: Double = 0.0,
    val classes: Map<String, Own> = mapOf(),
) {
    /** The values of one class; null for the general value. As everywhere, `off` is half of `on` if neither has one. */
    data class Own(
        val on: Double? = null,
        val off: Double? = null,
        val minDuration: Double? = null,
        val maxGap: Double? = null,
        val cooldown: Double? = null,
    )

    /** The settings of a class, without [classes]. */
    fun of(label: String): EventSettings {
        val own = classes[label]
        val on = own?.on ?: on
        return EventSettings(
            on = on,
            off = own?.off ?: off ?: (on / 2),
            minDuration = own?.minDuration ?: minDuration,
            maxGap = own?.maxGap ?: maxGap,
            cooldown = own?.cooldown ?: cooldown,
        )
    }
}

/**
 * News of an event. An event has one start and one end; its number, class and start stay the same.
 *
 * @property number of the event, 1, 2, … in the order of the starts of one stream
 * @property event the event so far: its end and score grow
 */
data class EventChange(val phase: Phase, val number: Int, val event: Event) {
    enum class Phase { START, UPDATE, END }
}

/** Is told of events while they happen. All functions are called on the thread that pushes the scores. */
interface EventListener {
    /**
     * An event began, goes on or ended. Without an override, [onOnset] or [onOffset] is called.
     *
     * A start is told as soon as the event has lasted for the minimum duration, so that an end follows every start. An
     * update is told when the score is [EventDetector.UPDATE_RISE] higher than when the event was told last, or when
     * the event is [EventDetector.UPDATE_SECONDS] longer. A step tells the ends, then the starts, then the updates.
     *
     * In the cool-down of a class, nothing is told of its events. An event that still goes on at its end is told then.
     */
    fun onChange(change: EventChange) {
        when (change.phase) {
            Phase.START -> onOnset(change.event.label, change.event.start)
            Phase.UPDATE -> Unit
            Phase.END -> onOffset(change.event)
        }
    }

    /**
     * An event began.
     *
     * @param label class name
     * @param start seconds
     */
    fun onOnset(label: String, start: Double)

    /** An event that was told is over: no later score can extend it. */
    fun onOffset(event: Event)
}
