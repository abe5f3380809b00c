package io.github.pannslitert.events

/**
 * Thresholds of events. The defaults are those of the Python runtime (`panns_litert.EventSettings`).
 *
 * @property on an event opens when the score is ≥ on, 0 … 1
 * @property off an event stays open while the score is ≥ off; 0 ≤ off ≤ on. Null for half of [on]
 * @property minDuration seconds, ≥ 0; shorter events are dropped
 * @property maxGap seconds, ≥ 0; two events of a class merge if the gap between them is at most this long
 * @property classes by name of the class, other values for that class alone
 */
data class EventSettings(
    val on: Double = 0.2,
    val off: Double? = null,
    val minDuration: Double = 0.0,
    val maxGap: Double = 0.0,
    val classes: Map<String, Own> = mapOf(),
) {
    /** The values of one class; null for the general value. As everywhere, `off` is half of `on` if neither has one. */
    data class Own(
        val on: Double? = null,
        val off: Double? = null,
        val minDuration: Double? = null,
        val maxGap: Double? = null,
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
        )
    }
}

/** Is told of events while they happen. Both functions are called on the thread that pushes the scores. */
interface EventListener {
    /**
     * An event began. It is called as soon as the event has lasted for the minimum duration, so that [onOffset] follows
     * every onset.
     *
     * @param label class name
     * @param start seconds
     */
    fun onOnset(label: String, start: Double)

    /** An event is over: no later score can extend it. */
    fun onOffset(event: Event)
}
