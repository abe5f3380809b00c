package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.EventException
import io.github.pannslitert.LabelException
import io.github.pannslitert.PrototypeException
import io.github.pannslitert.audio.Level
import io.github.pannslitert.audio.Recording
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.events.Event
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.frontend.LogMel
import io.github.pannslitert.frontend.SampleWindows
import io.github.pannslitert.frontend.StreamingLogMel
import io.github.pannslitert.sense.Sense
import java.util.Locale
import kotlin.math.abs
import kotlin.math.min
import kotlin.math.round

/** A class and its probability or, of an enrolled class, its score, 0 … 1. */
data class Tag(val index: Int, val label: String, val score: Float)

/**
 * The result of a model for one clip or window.
 *
 * @property tags the tags with the highest scores, highest first
 * @property probs probabilities of all classes, then the scores of the enrolled ones, 0 … 1
 * @property embedding the model's output of that name, flat; empty if it has none
 * @property framewise probabilities over time, row-major, shape [frames][classes]; null if the network has no such
 *     output
 * @property index number of the window in its stream, from 0; 0 for a single clip
 * @property startSeconds start of the clip in its stream; 0 for a single clip
 * @property seconds duration of the audio that the model got, without padding
 * @property paddingSeconds how much of the model's input is padding, because the recording is shorter than it
 * @property levelDbfs level of the audio without its mean (DC), dB of full scale; −∞ for silence and if the window is
 *     unusable
 * @property frontEndMs time of the front end, milliseconds. For a window: all of it since the previous window. For a
 *     single clip: 0 if the graph takes samples
 * @property modelMs time of the engine, milliseconds
 * @property backend what ran the model, see [Engine.backend]
 * @property fallback why it was not the requested accelerator; null if it was
 * @property model name of the model, from the manifest
 * @property unusable why a window of a stream was not tagged, for example "NaN, Inf or samples far beyond full scale at
 *     20.000 s"; null if it was. Without a result, there are no tags, and the probabilities are 0
 */
class Tagging internal constructor(
    val tags: List<Tag>,
    val probs: FloatArray,
    val embedding: FloatArray,
    val framewise: FloatArray?,
    val index: Int,
    val startSeconds: Double,
    val seconds: Double,
    val paddingSeconds: Double,
    val levelDbfs: Double,
    val frontEndMs: Double,
    val modelMs: Double,
    val backend: String,
    val fallback: String?,
    val model: String,
    val unusable: String? = null,
) {
    /** One line for people, for example "demo, CPU, 10.0 … 20.0 s: Siren 0.98; Foghorn 0.10". */
    override fun toString(): String {
        val time = "%.1f … %.1f s".format(Locale.ROOT, startSeconds, startSeconds + seconds)
        return "$model, $backend, $time: ${unusable ?: shown(tags)}"
    }

    /** This result, unusable for another reason. */
    internal fun unusableBecause(reason: String) = Tagging(
        tags, probs, embedding, framewise, index, startSeconds, seconds, paddingSeconds, levelDbfs, frontEndMs, modelMs,
        backend, fallback, model, reason,
    )
}

/** The first tags with their scores, for people. */
internal fun shown(tags: List<Tag>): String {
    val first = tags.take(SHOWN_TAGS).joinToString("; ") { "%s %.2f".format(Locale.ROOT, it.label, it.score) }
    return first.ifEmpty { "no tags" } + if (tags.size > SHOWN_TAGS) "; …" else ""
}

private const val SHOWN_TAGS = 3

/** Where the audio of a result is in its stream, and what is known of it before the model runs. */
internal class Place(
    val index: Int,
    val startSeconds: Double,
    val samples: Int,
    val levelDbfs: Double,
    val frontEndMs: Double,
)

/**
 * Tags audio with a bundle on any engine. Use an instance only on the thread of its engine. It does not close the
 * engine.
 *
 * @param top maximum number of tags, ≥ 1
 * @param threshold minimum probability of a tag, 0 … 1
 * @param prototypes enrolled classes, whose scores follow those of the model's own in every result; null for none
 * @throws EngineException [top] or [threshold] is out of range
 * @throws PrototypeException the prototypes are of another model, or have a class of this one
 */
class Tagger(
    val bundle: Bundle,
    private val engine: Engine,
    private val top: Int = 10,
    private val threshold: Float = 0f,
    prototypes: Prototypes? = null,
) {
    private val prototypes = prototypes?.takeIf { it.classes.isNotEmpty() }

    /** Names of the enrolled classes, the last ones of [labels]. */
    val enrolled: List<String> = this.prototypes?.labels.orEmpty()

    /** Class names, in the order of [Tagging.probs]. */
    val labels: List<String> = bundle.labels + enrolled

    private val manifest = bundle.manifest
    private val spec = manifest.frontEnd
    private val takesLogMel = manifest.graph == "logmel"
    private val logMel = if (takesLogMel) LogMel(spec, bundle.melBasis) else null
    private val clip = FloatArray(manifest.clipSamples)
    private val input = FloatArray(manifest.inputs[0].shape.fold(1, Int::times))

    init {
        prototypes?.requireModel(bundle)
        if (top < 1) throw EngineException("top = $top; expected at least 1")
        if (!(threshold in 0f..1f)) throw EngineException("threshold = $threshold; expected 0 … 1")
    }

    /**
     * Tags the start of a recording, up to the length of one clip. A shorter recording is padded with silence; with
     * padded frames, the front end pads the log-mel instead.
     *
     * @param samples mono, at the model's sample rate, nominally within [-1, 1]
     * @throws AudioException there are no samples, or some are NaN or far outside [-1, 1]
     * @throws EngineException the outputs do not match the manifest
     */
    fun tag(samples: FloatArray): Tagging {
        if (samples.isEmpty()) throw AudioException("no samples; expected at least one")
        val used = min(samples.size, clip.size)
        samples.copyInto(clip, 0, 0, used)
        clip.fill(0f, used)
        val start = System.nanoTime()
        if (logMel == null) {
            clip.copyInto(input)
        } else {
            // With padded frames, the time after the recording is not silence: the front end defines those frames.
            logMel.compute(clip, input, if (spec.paddedFrames == null) clip.size else maxOf(used, spec.leastSamples))
        }
        val frontEndMs = if (logMel == null) 0.0 else millisecondsSince(start)
        val level = Level(clip.size, spec.hopLength).also { it.push(samples, 0, used) }
        return run(input, Place(0, 0.0, used, level.of(0), frontEndMs))
    }

    /**
     * Tags the start of a recording of any rate, see [tag]. [tagLong] tags all of it.
     *
     * @throws AudioException there are no samples, some cannot be used, or the rate or the channels are out of range
     * @throws EngineException the outputs do not match the manifest
     */
    fun tag(recording: Recording): Tagging {
        val start = FloatArray(clip.size)
        var used = 0
        for (part in recording.mono(spec.sampleRate)) {
            val count = min(part.size, start.size - used)
            part.copyInto(start, used, 0, count)
            used += count
            if (used == start.size) break
        }
        return tag(start.copyOf(used))
    }

    /**
     * Tags a whole recording of any length, in windows as [stream]. Windows with samples that cannot be used are
     * skipped and counted.
     *
     * @param hopSeconds time from one window to the next, as for [stream]; by default there is no overlap
     * @param aggregate how the scores of the windows become one result
     * @param sense converts the probabilities of each window to scores; null to leave them
     * @throws AudioException there are no samples, or no window of usable samples; or the rate, the channels or the hop
     *     are out of range
     * @throws LabelException [sense] is not for the classes of this model
     * @throws EngineException as [tag]
     */
    fun tagLong(
        recording: Recording,
        hopSeconds: Double = manifest.clipSeconds,
        aggregate: Aggregate = Aggregate.MEAN,
        sense: Sense? = null,
    ): LongTagging {
        val windows = WindowSum(this, aggregate, sense ?: Sense(labels))
        val stream = stream(hopSeconds)
        for (part in recording.mono(spec.sampleRate)) stream.push(part).forEach(windows::push)
        stream.finish().forEach(windows::push)
        return windows.result(stream.seconds)
    }

    /**
     * Finds the events of a whole recording, see [EventStream]. Events end at windows with samples that cannot be used.
     *
     * @param hopSeconds time from one window to the next, as for [stream]. By default half a window, and at most 1 s if
     *     the network has no frame-wise scores: then it is also the resolution of the events
     * @param sense converts the probabilities to scores; null to leave them
     * @throws AudioException as [tagLong]
     * @throws EventException a setting is out of range, or names an unknown class
     * @throws LabelException [sense] is not for the classes of this model
     * @throws EngineException as [tag]
     */
    fun findEvents(
        recording: Recording,
        hopSeconds: Double = eventHop,
        settings: EventSettings = EventSettings(),
        sense: Sense? = null,
    ): RecordingEvents {
        val stream = stream(hopSeconds)
        val events = EventStream(stream, settings, sense)
        val found = mutableListOf<Event>()
        val reasons = mutableListOf<String?>() // of each window: why it was not tagged
        fun push(windows: List<Tagging>) = windows.forEach {
            reasons += it.unusable
            found += events.push(it)
        }
        for (part in recording.mono(spec.sampleRate)) push(stream.push(part))
        push(stream.finish())
        found += events.finish()
        val skipped = reasons.filterNotNull()
        requireUsable(reasons.size, skipped.size, skipped.firstOrNull())
        return RecordingEvents(
            events = found.sortedWith(compareBy({ it.start }, { it.index })),
            seconds = stream.seconds,
            windows = reasons.size - skipped.size,
            windowsSkipped = skipped.size,
            skipped = skipped.firstOrNull(),
        )
    }

    private val eventHop: Double
        get() = (manifest.clipSeconds / 2).let { if (hasFramewise) it else min(it, EVENT_HOP) }

    private val hasEmbedding get() = manifest.embeddingSize > 0
    private val hasFramewise get() = manifest.outputs.any { it.name == "framewise" }

    /**
     * Starts tagging a stream. There is one result per window, and a window is as long as a clip.
     *
     * @param hopSeconds time from one window to the next, > 0 and at most the length of a clip; rounded to whole
     *     log-mel frames
     * @throws AudioException the hop is out of range
     */
    fun stream(hopSeconds: Double): TagStream {
        val hop = round(hopSeconds * spec.sampleRate / spec.hopLength)
        if (!(hop >= 1 && hop * spec.hopLength <= clip.size)) {
            throw AudioException("a hop of $hopSeconds s; expected more than 0, at most ${manifest.clipSeconds} s")
        }
        val hopFrames = hop.toInt()
        return TagStream(
            tagger = this,
            windows = if (takesLogMel) {
                StreamingLogMel(spec, bundle.melBasis, clip.size, hopFrames)
            } else {
                SampleWindows(clip.size, hopFrames * spec.hopLength, spec.hopLength)
            },
            sampleRate = spec.sampleRate,
            frame = spec.hopLength,
            hop = hopFrames * spec.hopLength,
        )
    }

    /** Tags an [input] of the model that holds the samples at a place in a stream. */
    internal fun run(input: FloatArray, place: Place): Tagging {
        for (value in input) {
            if (!(abs(value) <= LARGEST_INPUT)) {
                throw AudioException("samples that are NaN or far beyond ±1; expected samples in [-1, 1]")
            }
        }
        val start = System.nanoTime()
        val outputs = engine.run(input)
        val modelMs = millisecondsSince(start)
        if (!output(outputs, "probs").all { it in 0f..1f }) {
            throw EngineException("${engine.backend}: probabilities outside 0 … 1; use another backend")
        }
        return tagging(outputs, place, modelMs, unusable = null)
    }

    /** The result of a window that cannot be tagged because of a sample at [at], seconds. */
    internal fun unusable(at: Double, place: Place): Tagging {
        val zeros = manifest.outputs.associate { it.name to FloatArray(it.shape.fold(1, Int::times)) }
        val reason = "NaN, Inf or samples far beyond full scale at %.3f s".format(Locale.ROOT, at)
        return tagging(zeros, place, modelMs = 0.0, unusable = reason)
    }

    private fun tagging(outputs: Map<String, FloatArray>, place: Place, modelMs: Double, unusable: String?): Tagging {
        val embedding = if (hasEmbedding) output(outputs, "embedding") else FloatArray(0)
        val own = prototypes?.scores(embedding)
        fun joined(scores: FloatArray) =
            if (own == null) scores else Prototypes.joined(scores, bundle.labels.size, own)
        val probs = joined(output(outputs, "probs"))
        return Tagging(
            tags = if (unusable == null) topTags(labels, probs) else listOf(),
            probs = probs,
            embedding = embedding,
            // The embedding is of the whole clip, so every frame gets the same scores of the enrolled classes.
            framewise = if (hasFramewise) joined(output(outputs, "framewise")) else null,
            index = place.index,
            startSeconds = place.startSeconds,
            seconds = place.samples.toDouble() / spec.sampleRate,
            paddingSeconds = (clip.size - place.samples).toDouble() / spec.sampleRate,
            levelDbfs = if (unusable == null) place.levelDbfs else Double.NEGATIVE_INFINITY,
            frontEndMs = place.frontEndMs,
            modelMs = modelMs,
            backend = engine.backend,
            fallback = engine.fallback,
            model = manifest.model,
            unusable = unusable,
        )
    }

    private fun output(outputs: Map<String, FloatArray>, name: String): FloatArray {
        val expected = manifest.outputs.first { it.name == name }.shape.fold(1, Int::times)
        val values = outputs[name]
            ?: throw EngineException("${engine.backend}: no output $name; got ${outputs.keys.joinToString()}")
        if (values.size != expected) {
            throw EngineException("${engine.backend}: $name of ${values.size} values; expected $expected")
        }
        return values.copyOf()
    }

    /** The highest scores and their labels, limited by `top` and `threshold`. */
    internal fun topTags(labels: List<String>, scores: FloatArray): List<Tag> = scores.indices
        .filter { scores[it] >= threshold }
        .sortedByDescending { scores[it] }
        .take(top)
        .map { Tag(it, labels[it], scores[it]) }

    internal companion object {
        /** The largest number in float16, in which a GPU may compute. */
        const val LARGEST_INPUT = 65504f
        private const val EVENT_HOP = 1.0 // seconds

        fun millisecondsSince(start: Long): Double = (System.nanoTime() - start) / 1e6
    }
}
