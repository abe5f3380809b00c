package io.github.pannslitert.tagging

import io.github.pannslitert.EventException
import io.github.pannslitert.LabelException
import io.github.pannslitert.events.Event
import io.github.pannslitert.events.EventDetector
import io.github.pannslitert.events.EventListener
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.sense.Sense
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/**
 * Finds events in the windows of a stream: the same events as `panns_litert.EventStream` of the Python runtime.
 *
 * With frame-wise scores, the events have the resolution of a frame. Each window contributes its middle part, of the
 * length of a hop; the first window also its beginning, and the last window all that is left. Without frame-wise
 * scores, the scores of a window stand for the hop around its centre, and those of the first window also for the time
 * before. A window that cannot be used, or is missing after an exception of the engine, has no scores: events end there.
 *
 * The listener is told of a start with the first window that has the event in its part, and of its end with the first
 * window that does not, or after `maxGap`. That window ends at most (window + hop) / 2 after the time of the start or
 * end; the first window of a stream, when it is full.
 *
 * ```kotlin
 * val events = EventStream(stream, listener = listener)
 * while (recording) for (tagging in stream.push(samples())) events.push(tagging)
 * for (tagging in stream.finish()) events.push(tagging)
 * events.finish()
 * ```
 *
 * An event of an enrolled class, or of a group of enrolled classes alone, begins at its threshold, a score of 0.5, and
 * lasts while the score is at least 0.25, unless the settings have an `on` for that class or group.
 *
 * @param sense converts the probabilities of each window to scores first; null to leave them. The settings are for its
 *     labels
 * @param listener is told of events while they happen
 * @throws EventException a setting is out of range, or names an unknown class
 */
class EventStream internal constructor(
    private val windowSeconds: Double,
    private val hopSeconds: Double,
    private val frameSeconds: Double,
    classes: List<String>,
    settings: EventSettings,
    sense: Sense?,
    listener: EventListener?,
    enrolled: List<String> = listOf(),
) {
    constructor(
        stream: TagStream,
        settings: EventSettings = EventSettings(),
        sense: Sense? = null,
        listener: EventListener? = null,
    ) : this(
        windowSeconds = stream.windowSeconds,
        hopSeconds = stream.hopSeconds,
        frameSeconds = stream.frameSeconds,
        classes = stream.labels,
        settings = settings,
        sense = sense,
        listener = listener,
        enrolled = stream.enrolled,
    )

    private val sense = sense ?: Sense(classes)
    private val detector = EventDetector(
        this.sense.labels,
        Prototypes.withEnrolled(settings, this.sense.labelsOf(enrolled)),
        listener,
    )
    private val hopFrames = round(hopSeconds / frameSeconds).toInt()
    private val margin = (round(windowSeconds / frameSeconds).toInt() - hopFrames) / 2
    private var last: Tagging? = null
    private var count = 0 // index of the next window
    private var next = 0 // first frame of the stream that the detector has not seen

    /** Names of the events: the classes, or the groups of the [Sense]. */
    val labels: List<String> get() = sense.labels

    /**
     * Takes the next window and returns the events that are now final, sorted by start, then class.
     *
     * @throws LabelException the window has other classes than the [Sense]
     */
    fun push(window: Tagging): List<Event> {
        val before = count
        last = window
        count = window.index + 1
        if (window.framewise != null) return frames(window, margin + hopFrames)
        // Windows that an error kept from being tagged.
        val missing = if (before < window.index) stepStart(before)..stepStart(window.index) else null
        val over = missing?.let { detector.push(null, it.start, it.endInclusive) }.orEmpty()
        // The step of the window is known now, unless it is the last one, which `finish` prolongs.
        return over + step(window, stepStart(window.index), min(stepStart(window.index + 1), window.end))
    }

    /** Ends the stream and returns the remaining events. The next window may belong to another stream. */
    fun finish(): List<Event> {
        val window = last
        val events = mutableListOf<Event>()
        if (window != null) {
            events += if (window.framewise != null) {
                frames(window, ceil((window.end - window.startSeconds) / frameSeconds - TOLERANCE).toInt())
            } else {
                step(window, stepStart(window.index + 1), window.end)
            }
        }
        last = null
        count = 0
        next = 0
        return events + detector.finish()
    }

    private fun step(window: Tagging, start: Double, end: Double): List<Event> =
        if (end > start) detector.push(scores(window), start, end) else listOf()

    private fun scores(window: Tagging): FloatArray? =
        if (window.unusable == null) sense.scores(window.probs, window.levelDbfs) else null

    /** The time from which the scores of window [k] apply. */
    private fun stepStart(k: Int): Double = if (k == 0) 0.0 else k * hopSeconds + (windowSeconds - hopSeconds) / 2

    /** Passes the frames of a window before frame [stop] to the detector, except those that it has seen. */
    private fun frames(window: Tagging, stop: Int): List<Event> {
        val scores = window.framewise ?: return listOf()
        val first = round(window.startSeconds / frameSeconds).toInt()
        if (window.unusable != null) {
            if (first <= next) return listOf()
            val since = next * frameSeconds
            next = first // later windows do not begin before this one
            return detector.push(null, since, first * frameSeconds)
        }
        val classes = window.probs.size
        val until = min(stop, scores.size / classes)
        val begin = max(0, next - first)
        next = max(next, first + until)
        val events = mutableListOf<Event>()
        for (k in begin until until) {
            // Times are multiples of a frame, so that the end of a step is exactly the start of the next one.
            val start = (first + k) * frameSeconds
            val end = min((first + k + 1) * frameSeconds, window.end)
            if (end <= start) continue
            val frame = scores.copyOfRange(k * classes, (k + 1) * classes)
            events += detector.push(sense.scores(frame, window.levelDbfs), start, end)
        }
        return events
    }

    private val Tagging.end: Double get() = startSeconds + seconds

    private companion object {
        const val TOLERANCE = 1e-6
    }
}
