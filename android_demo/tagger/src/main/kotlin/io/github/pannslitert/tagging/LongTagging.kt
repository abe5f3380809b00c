package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.events.Event
import io.github.pannslitert.sense.Sense
import java.util.Locale
import kotlin.math.max

/** How the scores of the windows of a recording become one result. */
enum class Aggregate {
    /** The mean, weighted by the time that each window adds to the windows before it. */
    MEAN,

    /** The highest score of any window. */
    MAX,
}

/**
 * The result for a whole recording.
 *
 * @property tags the tags with the highest scores, highest first
 * @property labels names of the scores: the classes, or the groups of a [Sense]
 * @property scores one per label, aggregated over the windows
 * @property embedding mean over the windows, weighted as for [Aggregate.MEAN]; empty if the model has none
 * @property seconds duration of the recording
 * @property paddingSeconds how much of the model's input is padding, because the recording is shorter than a window
 * @property windows number of windows that were tagged
 * @property windowsSkipped number of windows that were not, because of samples that cannot be used
 * @property skipped why the first of them was not; null if all windows were tagged
 * @property frontEndMs time of the front end, milliseconds, of all windows
 * @property modelMs time of the engine, milliseconds, of all windows
 * @property backend what ran the model, see [Engine.backend]
 * @property fallback why it was not the requested accelerator; null if it was
 * @property model name of the model, from the manifest
 */
class LongTagging internal constructor(
    val tags: List<Tag>,
    val labels: List<String>,
    val scores: FloatArray,
    val embedding: FloatArray,
    val seconds: Double,
    val paddingSeconds: Double,
    val windows: Int,
    val windowsSkipped: Int,
    val skipped: String?,
    val frontEndMs: Double,
    val modelMs: Double,
    val backend: String,
    val fallback: String?,
    val model: String,
) {
    /** One line for people, for example "demo, CPU, 23.4 s, 3 windows: Siren 0.98; Foghorn 0.10". */
    override fun toString(): String {
        val skipped = if (windowsSkipped > 0) " ($windowsSkipped skipped)" else ""
        val start = "$model, $backend, %.1f s, $windows windows$skipped".format(Locale.ROOT, seconds)
        return "$start: ${shown(tags)}"
    }
}

/**
 * The events of a whole recording.
 *
 * @property events sorted by start, then class
 * @property seconds duration of the recording
 * @property windows number of windows that were tagged
 * @property windowsSkipped number of windows that were not, because of samples that cannot be used
 * @property skipped why the first of them was not; null if all windows were tagged
 */
class RecordingEvents internal constructor(
    val events: List<Event>,
    val seconds: Double,
    val windows: Int,
    val windowsSkipped: Int,
    val skipped: String?,
)

/** Throws [AudioException] unless a recording has windows, and not all of them were skipped. */
internal fun requireUsable(windows: Int, skipped: Int, reason: String?) {
    if (windows == 0) throw AudioException("no samples; expected at least one")
    if (skipped == windows) throw AudioException("$reason; expected at least one window of usable samples, in [-1, 1]")
}

/** Aggregates the windows of one recording, as `panns_litert.windows.Aggregate`. */
internal class WindowSum(private val tagger: Tagger, private val aggregate: Aggregate, private val sense: Sense) {
    private val scores = DoubleArray(sense.labels.size)
    private var embedding = DoubleArray(0)
    private var last: Tagging? = null
    private var weight = 0.0
    private var covered = 0.0 // end of the last window that was tagged
    private var count = 0
    private var skipped = 0
    private var reason: String? = null
    private var frontEndMs = 0.0
    private var modelMs = 0.0

    fun push(window: Tagging) {
        last = window
        frontEndMs += window.frontEndMs
        if (window.unusable != null) {
            skipped++
            reason = reason ?: window.unusable
            return
        }
        val end = window.startSeconds + window.seconds
        val added = end - max(window.startSeconds, covered)
        val values = sense.scores(window.probs, window.levelDbfs)
        for (i in values.indices) {
            scores[i] = when (aggregate) {
                Aggregate.MEAN -> scores[i] + added * values[i]
                Aggregate.MAX -> max(scores[i], values[i].toDouble())
            }
        }
        if (count == 0) embedding = DoubleArray(window.embedding.size)
        for (i in embedding.indices) embedding[i] += added * window.embedding[i]
        weight += added
        covered = end
        count++
        modelMs += window.modelMs
    }

    /** The result of all windows of a recording of [seconds]. */
    fun result(seconds: Double): LongTagging {
        requireUsable(count + skipped, skipped, reason)
        val last = checkNotNull(last)
        val divisor = if (aggregate == Aggregate.MEAN) weight else 1.0
        val scores = FloatArray(scores.size) { (scores[it] / divisor).toFloat() }
        return LongTagging(
            tags = tagger.topTags(sense.labels, scores),
            labels = sense.labels,
            scores = scores,
            embedding = FloatArray(embedding.size) { (embedding[it] / weight).toFloat() },
            seconds = seconds,
            paddingSeconds = last.paddingSeconds,
            windows = count,
            windowsSkipped = skipped,
            skipped = reason,
            frontEndMs = frontEndMs,
            modelMs = modelMs,
            backend = last.backend,
            fallback = last.fallback,
            model = last.model,
        )
    }
}
