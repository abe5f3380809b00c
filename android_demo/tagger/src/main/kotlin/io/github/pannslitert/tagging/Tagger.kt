package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.frontend.LogMel
import io.github.pannslitert.frontend.SampleWindows
import io.github.pannslitert.frontend.StreamingLogMel
import java.util.Locale
import kotlin.math.abs
import kotlin.math.min
import kotlin.math.round

/** A class and its probability, 0 … 1. */
data class Tag(val index: Int, val label: String, val score: Float)

/**
 * The result of a model for one clip or window.
 *
 * @property tags the tags with the highest scores, highest first
 * @property probs probabilities of all classes, 0 … 1
 * @property embedding the model's output of that name, flat
 * @property framewise probabilities over time, row-major, shape [frames][classes]; null if the network has no such
 *     output
 * @property startSeconds start of the clip in its stream; 0 for a single clip
 * @property seconds duration of the audio that the model got, without padding
 * @property paddingSeconds how much of the model's input is padding, because the recording is shorter than it
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
    val startSeconds: Double,
    val seconds: Double,
    val paddingSeconds: Double,
    val frontEndMs: Double,
    val modelMs: Double,
    val backend: String,
    val fallback: String?,
    val model: String,
    val unusable: String? = null,
)

/**
 * Tags audio with a bundle on any engine. Use an instance only on the thread of its engine. It does not close the
 * engine.
 *
 * @param top maximum number of tags, ≥ 1
 * @param threshold minimum probability of a tag, 0 … 1
 * @throws EngineException [top] or [threshold] is out of range
 */
class Tagger(
    val bundle: Bundle,
    private val engine: Engine,
    private val top: Int = 10,
    private val threshold: Float = 0f,
) {
    private val manifest = bundle.manifest
    private val spec = manifest.frontEnd
    private val takesLogMel = manifest.graph == "logmel"
    private val logMel = if (takesLogMel) LogMel(spec, bundle.melBasis) else null
    private val clip = FloatArray(manifest.clipSamples)
    private val input = FloatArray(manifest.inputs[0].shape.fold(1, Int::times))

    init {
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
        return run(input, 0.0, used, frontEndMs)
    }

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
        )
    }

    /** Tags an [input] of the model that holds [samples] samples of a recording. */
    internal fun run(input: FloatArray, startSeconds: Double, samples: Int, frontEndMs: Double): Tagging {
        for (value in input) {
            if (!(abs(value) <= LARGEST_INPUT)) {
                throw AudioException("samples that are NaN or far beyond ±1; expected samples in [-1, 1]")
            }
        }
        val start = System.nanoTime()
        val outputs = engine.run(input)
        val modelMs = millisecondsSince(start)
        val probs = output(outputs, "probs")
        if (!probs.all { it in 0f..1f }) {
            throw EngineException("${engine.backend}: probabilities outside 0 … 1; use another backend")
        }
        return tagging(outputs, tags(probs), startSeconds, samples, frontEndMs, modelMs, unusable = null)
    }

    /** The result of a window that cannot be tagged because of a sample at [at], seconds. */
    internal fun unusable(at: Double, startSeconds: Double, samples: Int, frontEndMs: Double): Tagging {
        val zeros = manifest.outputs.associate { it.name to FloatArray(it.shape.fold(1, Int::times)) }
        val reason = "NaN, Inf or samples far beyond full scale at %.3f s".format(Locale.ROOT, at)
        return tagging(zeros, listOf(), startSeconds, samples, frontEndMs, modelMs = 0.0, unusable = reason)
    }

    private fun tagging(
        outputs: Map<String, FloatArray>,
        tags: List<Tag>,
        startSeconds: Double,
        samples: Int,
        frontEndMs: Double,
        modelMs: Double,
        unusable: String?,
    ) = Tagging(
        tags = tags,
        probs = output(outputs, "probs"),
        embedding = output(outputs, "embedding"),
        framewise = if (manifest.outputs.any { it.name == "framewise" }) output(outputs, "framewise") else null,
        startSeconds = startSeconds,
        seconds = samples.toDouble() / spec.sampleRate,
        paddingSeconds = (clip.size - samples).toDouble() / spec.sampleRate,
        frontEndMs = frontEndMs,
        modelMs = modelMs,
        backend = engine.backend,
        fallback = engine.fallback,
        model = manifest.model,
        unusable = unusable,
    )

    private fun output(outputs: Map<String, FloatArray>, name: String): FloatArray {
        val expected = manifest.outputs.first { it.name == name }.shape.fold(1, Int::times)
        val values = outputs[name]
            ?: throw EngineException("${engine.backend}: no output $name; got ${outputs.keys.joinToString()}")
        if (values.size != expected) {
            throw EngineException("${engine.backend}: $name of ${values.size} values; expected $expected")
        }
        return values.copyOf()
    }

    private fun tags(probs: FloatArray): List<Tag> = probs.indices
        .filter { probs[it] >= threshold }
        .sortedByDescending { probs[it] }
        .take(top)
        .map { Tag(it, bundle.labels[it], probs[it]) }

    internal companion object {
        /** The largest number in float16, in which a GPU may compute. */
        const val LARGEST_INPUT = 65504f

        fun millisecondsSince(start: Long): Double = (System.nanoTime() - start) / 1e6
    }
}
